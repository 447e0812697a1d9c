"""The cache holds the shrunk images of a file, and an interruption or a full disk leaves no broken one."""

import dataclasses
import errno
import hashlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import full_disk
import h5py
import numpy as np
import pytest

from galaxynb.data.cache import _write_npy, open_cache, prepare_cache
from galaxynb.data.catalog import class_summary, load_catalog
from galaxynb.data.galaxy10 import FLOAT_COLUMNS
from galaxynb.data.splits import has_coordinates

DAMAGED = r"is damaged \(.*\), but intact images are needed: delete the folder and run notebooks/01_data"


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def shrunk(images, size):
    return [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images]


@pytest.mark.parametrize("image_size", [32, 48, 64])
def test_prepared_images_are_the_files_own_shrunk_by_area(tmp_path, small, image_size):
    cache = prepare_cache(small, tmp_path / "cache", image_size=image_size, progress=False)
    with h5py.File(small) as file:
        images, labels = file["images"][:], file["ans"][:]
    np.testing.assert_array_equal(cache.images, shrunk(images, image_size))
    np.testing.assert_array_equal(cache.labels, labels)
    if image_size == 32:  # by hand: the mean of 2 x 2 pixels
        mean = images.reshape(20, 32, 2, 32, 2, 3).mean(axis=(2, 4))
        assert np.abs(cache.images - mean).max() <= 0.5
    if image_size == 64:
        np.testing.assert_array_equal(cache.images, images)


def test_a_cache_says_where_it_came_from(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "made.h5", truth=True, standin="galaxynb, seed 3")
    cache = prepare_cache(path, tmp_path / "deep" / "cache", image_size=32, progress=False)
    assert (cache.kind, cache.image_size) == ("standin", 32)
    assert cache.info == {
        "has_truth": True,
        "image_size": 32,
        "kind": "standin",
        "left_out": 0,
        "n_images": 20,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "source": "made.h5",
        "source_size": 64,
        "standin": "galaxynb, seed 3",
    }
    assert str(tmp_path) not in (cache.path / "cache.json").read_text()
    assert names(tmp_path / "deep") == ["cache"]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(cache.truth, shrunk(file["truth"], 32))


def test_a_cache_is_mapped_and_read_only_and_holds_the_columns_to_the_last_bit(tmp_path, small):
    cache = prepare_cache(small, tmp_path / "cache", image_size=32, progress=False)
    assert list(cache.columns) == list(FLOAT_COLUMNS)
    for name in FLOAT_COLUMNS:
        np.testing.assert_array_equal(cache.columns[name], getattr(load_catalog(small), name))
    assert isinstance(cache.images, np.memmap)
    assert cache.truth is None
    with pytest.raises(ValueError, match="read-only"):
        cache.images[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        cache.labels = None
    again = open_cache(str(tmp_path / "cache"))
    np.testing.assert_array_equal(again.images, cache.images)
    assert again.info == cache.info


def test_progress_is_shown_on_request(tmp_path, small, capsys):
    prepare_cache(small, tmp_path / "cache", image_size=32, progress=False)
    assert capsys.readouterr().err == ""
    prepare_cache(small, tmp_path / "cache", image_size=32)
    assert "preparing small.h5: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("image_size", [31, 0, -64, 65, 32.0, "32"])
def test_an_image_size_that_is_refused(tmp_path, small, image_size):
    error, message = ValueError, rf"image_size is {image_size}, but 32 to 64 is needed: give"
    if not isinstance(image_size, int):
        error, message = TypeError, "integer"
    with pytest.raises(error, match=message):
        prepare_cache(small, tmp_path / "cache", image_size=image_size)
    assert names(tmp_path) == ["small.h5"]


def test_preparing_replaces_a_cache_but_nothing_else(tmp_path, small):
    out = tmp_path / "cache"
    prepare_cache(small, out, image_size=32, progress=False)
    assert prepare_cache(small, out, image_size=48, progress=False).image_size == 48
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    for target in (precious, precious / "thesis.txt"):
        with pytest.raises(ValueError, match=r"holds other files, but .* is needed: name another folder"):
            prepare_cache(small, target, image_size=32, progress=False)
    assert (precious / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_while_preparing(tmp_path, small, monkeypatch, code):
    out = tmp_path / "runs" / "cache"
    before = prepare_cache(small, out, image_size=32, progress=False)
    write = _write_npy

    def fail(path, shape, arrays):
        write(path, shape, arrays)  # the disk has room for the images, but not for the labels
        if path.name == "labels.npy":
            raise OSError(code, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("galaxynb.data.cache._write_npy", fail)
        with pytest.raises(OSError, match=rf"the disk of {out.parent} has no room for cache.*138,240 bytes"):
            prepare_cache(small, out, image_size=48, progress=False)
    assert names(out.parent) == ["cache"]
    np.testing.assert_array_equal(open_cache(out).images, before.images)
    assert prepare_cache(small, out, image_size=48, progress=False).image_size == 48


def test_another_failure_of_the_disk_keeps_its_own_words(tmp_path, small, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("galaxynb.data.cache._write_npy", fail)
    with pytest.raises(OSError, match="Input/output error"):
        prepare_cache(small, tmp_path / "cache", image_size=32, progress=False)
    assert names(tmp_path) == ["small.h5"]


def test_the_operating_system_refusing_to_write_on(tmp_path, small):
    """A limit on the size of files stops the real writer part way, like a full disk."""
    out = tmp_path / "cache"
    prepare_cache(small, out, image_size=32, progress=False)
    code = (
        "from galaxynb.data.cache import prepare_cache\n"
        f"prepare_cache({str(small)!r}, {str(out)!r}, image_size=64, progress=False)"
    )
    last = full_disk.last_line(code, limit=100_000)
    assert f"the disk of {tmp_path} has no room for cache, which needs 245,760 bytes" in last
    assert names(tmp_path) == ["cache", "small.h5"]
    assert open_cache(out).image_size == 32


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, tiny_galaxy10):
    paths = [tiny_galaxy10(tmp_path / f"{n}.h5", n=n, size=1, images=None) for n in (600, 2000)]
    compressed = zlib.compress(bytes(256 * 256 * 3), 1)
    for path, n in zip(paths, (600, 2000), strict=True):
        with h5py.File(path, "a") as file:
            images = file.create_dataset(
                "images", (n, 256, 256, 3), np.uint8, chunks=(1, 256, 256, 3), compression="gzip"
            )
            for row in range(n):
                images.id.write_direct_chunk((row, 0, 0, 0), compressed)
    # VmHWM is the peak of this process alone; ru_maxrss may include the peak of its parent.
    code = (
        "import sys; from pathlib import Path; from galaxynb.data.cache import prepare_cache\n"
        "for path in sys.argv[1:]:\n"
        "    prepare_cache(path, path + '.cache', progress=False)\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    print(next(line.split()[1] for line in status.splitlines() if line.startswith('VmHWM')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    few, many = (int(kilobytes) / 1024 for kilobytes in done.stdout.split())
    assert many < 1000  # MB
    assert many - few < 50  # the 1,400 images more take 98 MB at 128 px


def test_a_missing_cache_names_the_notebook(tmp_path):
    message = r"cache is missing, but the prepared images .* needed: run notebooks/01_data\.ipynb"
    with pytest.raises(FileNotFoundError, match=message):
        open_cache(tmp_path / "cache")


def cut(path):
    os.truncate(path, path.stat().st_size - 5)


def replace_info(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("images.npy", cut),
        ("images.npy", Path.unlink),
        ("images.npy", lambda path: path.write_bytes(b"")),
        ("images.npy", lambda path: np.save(path, np.zeros((20, 32, 32, 3)))),
        ("images.npy", lambda path: np.save(path, np.zeros((19, 32, 32, 3), np.uint8))),
        ("truth.npy", cut),
        ("labels.npy", Path.unlink),
        ("columns.npz", Path.unlink),
        ("cache.json", Path.unlink),
        ("cache.json", cut),
        ("cache.json", lambda path: path.write_text("[]")),
        ("cache.json", lambda path: path.write_text("{}")),
        ("cache.json", lambda path: replace_info(path, kind="other")),
        ("cache.json", lambda path: replace_info(path, n_images=21)),
    ],
)
def test_a_damaged_cache(tmp_path, tiny_galaxy10, name, harm):
    out = tmp_path / "cache"
    prepare_cache(tiny_galaxy10(tmp_path / "made.h5", truth=True), out, image_size=32, progress=False)
    open_cache(out)
    harm(out / name)
    with pytest.raises(ValueError, match=DAMAGED):
        open_cache(out)


def test_the_real_sample_goes_through(tmp_path, real_sample):
    catalog = load_catalog(real_sample)
    assert catalog.kind == "real"
    assert catalog.image_shape == (256, 256, 3)
    assert class_summary(catalog)["images"].tolist() == [6] * 10
    assert not has_coordinates(catalog.ra, catalog.dec)
    cache = prepare_cache(real_sample, tmp_path / "cache", progress=False)
    assert cache.images.shape == (60, 128, 128, 3)
    assert cache.truth is None
    with h5py.File(real_sample) as file:
        shift = cache.images.mean(axis=(1, 2)) - file["images"][:].mean(axis=(1, 2))
    assert np.abs(shift).max() < 0.5  # shrinking by area keeps the brightness
