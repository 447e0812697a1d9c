"""HDF5 files without locks, with missing filters, and in several parts, which are never read as zeros."""

import functools
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from paths import ROOT

from galaxynb.data.catalog import check_source, load_catalog, source_files
from galaxynb.standin.make import make_standin

N = 20
PICTURES = np.random.default_rng(1).integers(1, 256, (N, 64, 64, 3), np.uint8)

#: A file system without locks, such as NFS, answers like this to flock.
NO_LOCKS = """
#include <errno.h>
#include <stdlib.h>
int flock(int file, int operation) { errno = atoi(getenv("NO_LOCKS_ERRNO")); return -1; }
"""


@pytest.fixture(scope="module")
def no_locks(tmp_path_factory):
    """Return a function that runs Python code on a disk without locks."""
    if not (compiler := shutil.which("gcc") or shutil.which("cc")) or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("no_locks")
    (folder / "no_locks.c").write_text(NO_LOCKS)
    command = [compiler, "-shared", "-fPIC", "-o", "no_locks.so", "no_locks.c"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)

    def run(code, error):
        environment = os.environ | {"LD_PRELOAD": f"{folder}/no_locks.so", "NO_LOCKS_ERRNO": str(error)}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("error", [5, 30, 37, 38, 524])
def test_a_disk_without_locks(tmp_path, tiny_galaxy10, no_locks, error):
    path = tiny_galaxy10(tmp_path / "whole.h5", images=None)
    linked_to(path, "images", tmp_path / "part.h5")
    code = f"""
from galaxynb.data.catalog import load_catalog
from galaxynb.standin.make import make_standin
made = make_standin({str(tmp_path / "made.h5")!r}, 10, image_size=32, workers=1, progress=False)
print(load_catalog(made).take([9]).shape, load_catalog({str(path)!r}).take([3]).sum())
"""
    done = no_locks(code, error)
    assert done.stdout == f"(1, 32, 32, 3) {PICTURES[3].sum()}\n", done.stderr


def test_a_stand_in_is_the_same_without_locks(tmp_path, no_locks):
    make = "from galaxynb.standin.make import make_standin; make_standin({!r}, 10, image_size=32, progress=False)"
    assert no_locks(make.format(str(tmp_path / "without.h5")), 37).returncode == 0
    make_standin(tmp_path / "with.h5", 10, image_size=32, workers=1, progress=False)
    assert (tmp_path / "without.h5").read_bytes() == (tmp_path / "with.h5").read_bytes()


def linked_to(path, name, part, target="/pictures"):
    """Store the images in `part`, and a link to them in `path`."""
    with h5py.File(part, "w") as file:
        file["pictures"] = PICTURES
    with h5py.File(path, "a") as file:
        file[name] = h5py.ExternalLink(part.name, target)


def virtual(path, part, *, covered=(...,), stored=N, name="pictures"):
    """Store some images in `part`, and a virtual dataset of images over them in `path`."""
    with h5py.File(part, "w") as file:
        file["pictures"] = PICTURES[:stored]
    layout = h5py.VirtualLayout(PICTURES.shape, np.uint8)
    for rows in covered:
        layout[rows] = h5py.VirtualSource(part.name, name, PICTURES.shape)[rows]
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("images", layout)


def external(path, part, *, stored=PICTURES.nbytes):
    """Store the values of the images in `part`."""
    part.write_bytes(PICTURES.tobytes()[:stored])
    with h5py.File(path, "a") as file:
        file.create_dataset("images", PICTURES.shape, np.uint8, external=[(part.name, 0, PICTURES.nbytes)])


PARTS = {"link": lambda path, part: linked_to(path, "images", part), "virtual": virtual, "external": external}


@pytest.mark.parametrize("store", PARTS.values(), ids=PARTS)
def test_a_file_in_two_parts(tmp_path, tiny_galaxy10, monkeypatch, store):
    path, part = tiny_galaxy10(tmp_path / "whole.h5", images=None), tmp_path / "part.dat"
    store(path, part)
    monkeypatch.chdir("/")  # HDF5 looks for some parts in the working directory
    catalog = load_catalog(path)
    np.testing.assert_array_equal(catalog.take(range(N)), PICTURES)
    assert source_files(path) == [path, part]
    # The checksum covers both parts, and does not depend on where they are.
    moved = shutil.copytree(tmp_path, tmp_path / "moved")
    assert load_catalog(moved / "whole.h5").digest() == catalog.digest()
    before = catalog.digest()
    part.write_bytes(part.read_bytes().replace(PICTURES[3].tobytes(), PICTURES[4].tobytes()))
    assert load_catalog(path).digest() != before
    part.unlink()
    for refuse in (load_catalog, check_source):
        with pytest.raises(ValueError, match=r"^'images' of .*part\.dat, but that file is missing: put it beside"):
            refuse(path)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (lambda path, part: linked_to(path, "images", part, "/no"), "but that file has no such dataset: give"),
        *[
            (functools.partial(virtual, covered=rows), r"with parts for 184,320 of 245,760 values, but all")
            for rows in ([slice(15)], [slice(10), slice(5, 15)], [slice(0, N, 2), [1, 3, 4, 7, 11, 15]])
        ],
        (lambda path, part: virtual(path, part, stored=15), "'pictures' there is missing or too short: give"),
        (lambda path, part: virtual(path, part, name="no"), "'no' there is missing or too short: give"),
        (lambda path, part: external(path, part, stored=100), "has 100 bytes, but 'images' of .* needs 245,760: copy"),
    ],
)
def test_a_part_that_lacks_images(tmp_path, tiny_galaxy10, store, message):
    path = tiny_galaxy10(tmp_path / "whole.h5", images=None)
    store(path, tmp_path / "part.dat")
    with pytest.raises(ValueError, match=message):
        load_catalog(path)


@pytest.mark.parametrize(
    ("chunks", "written", "found"),
    [
        ((3, 64, 64, 1), range(N - 2), "18 of 21 chunks"),
        ((1, 64, 64, 3), (0, N - 1), "2 of 20 chunks"),
        (None, (), "0 of 245,760 bytes"),
    ],
)
def test_images_not_written_to_their_end(tmp_path, tiny_galaxy10, chunks, written, found):
    path = tiny_galaxy10(tmp_path / "part.h5", images=None)
    with h5py.File(path, "a") as file:
        images = file.create_dataset("images", PICTURES.shape, np.uint8, chunks=chunks)
        for row in written:
            images[row] = PICTURES[row]
    message = f"'images' of .* was not written to its end \\({found}\\), but all of it is needed: download or make"
    for refuse in (load_catalog, check_source):
        with pytest.raises(ValueError, match=message):
            refuse(path)


def test_values_that_need_no_chunk(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "part.h5", ra=None)
    with h5py.File(path, "a") as file:
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        h5py.h5d.create(file.id, b"ra", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((N,)), compact)
    assert load_catalog(path).ra.tolist() == [0] * N
    with h5py.File(path, "a") as file:
        del file["ra"]
        file["ra"] = h5py.Empty("f8")
    with pytest.raises(ValueError, match="lacks ra, but a file in the Galaxy10 DECaLS layout is needed"):
        load_catalog(path)


def test_a_dead_link_within_a_file(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "whole.h5", images=None)
    with h5py.File(path, "a") as file:
        file["images"] = h5py.SoftLink("/no")
    with pytest.raises(ValueError, match=r"'images' of .* is a link to '/no', but the file has no such dataset: store"):
        load_catalog(path)


@pytest.mark.parametrize("size", [PICTURES.nbytes // 2, h5py.h5f.UNLIMITED])
def test_values_in_several_files(tmp_path, tiny_galaxy10, size):
    path, half = tiny_galaxy10(tmp_path / "whole.h5", images=None), PICTURES.nbytes // 2
    for name, values in zip("ab", np.split(PICTURES, 2), strict=True):
        (tmp_path / name).write_bytes(bytes(7) + values.tobytes())
    with h5py.File(path, "a") as file:
        file.create_dataset("images", PICTURES.shape, np.uint8, external=[("a", 7, half), ("b", 7, size)])
    np.testing.assert_array_equal(load_catalog(path).take(range(N)), PICTURES)
    os.truncate(tmp_path / "b", half)
    with pytest.raises(ValueError, match=r"b has 122,880 bytes, but 'images' of .* needs 122,887: copy it again"):
        load_catalog(path)


@pytest.fixture
def filtered(tmp_path, tiny_galaxy10):
    """Return the path of a file whose images need the filter Zstandard."""
    path = tiny_galaxy10(tmp_path / "zstd.h5", images=None)
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_chunk((5, 64, 64, 3))
    created.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    with h5py.File(path, "a") as file:
        h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(PICTURES.shape), created)
    return path


def test_a_missing_filter_is_named(filtered, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)  # as if it were not installed
    command = re.escape(f"`{sys.executable} -m pip install hdf5plugin`")
    message = rf"^'images' of .* by the HDF5 filter 32015 \(Zstandard\), but .*: run {command}, or .* `h5repack"
    for refuse in (load_catalog, check_source):
        with pytest.raises(ValueError, match=message):
            refuse(filtered)


def test_an_installed_filter_is_loaded(filtered):
    pytest.importorskip("hdf5plugin", reason="needs the filters of hdf5plugin")
    with h5py.File(filtered, "a") as file:
        del file["images"]
        file.create_dataset("images", data=PICTURES, chunks=(5, 64, 64, 3), compression=32015)
    code = f"from galaxynb.data.catalog import load_catalog; print(load_catalog({str(filtered)!r}).take([3]).sum())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{PICTURES[3].sum()}\n"
