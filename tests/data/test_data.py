import dataclasses
import errno
import hashlib
import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pooch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxynb.data.cache import _write_npy, open_cache, prepare_cache
from galaxynb.data.catalog import class_summary, load_catalog
from galaxynb.data.download import fetch_galaxy10
from galaxynb.data.galaxy10 import CLASS_COUNTS, CLASS_NAMES, FLOAT_COLUMNS
from galaxynb.data.splits import class_support, paper_split
from galaxynb.images import to_float

PAPER_SUPPORT = [204, 373, 529, 408, 71, 436, 365, 516, 283, 363]  # Table 1, Support
FILE_NAME = "Galaxy10_DECals.h5"


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def small(tmp_path, tiny_galaxy10):
    return tiny_galaxy10(tmp_path / "small.h5")


# --- load_catalog


def test_a_catalog_holds_what_the_file_holds(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "real.h5", n=30, size=48)
    catalog = load_catalog(str(path))
    assert catalog.path == path
    assert catalog.kind == "real"
    assert catalog.standin is None
    assert not catalog.has_truth
    assert catalog.n_images == 30
    assert catalog.image_shape == (48, 48, 3)
    assert catalog.labels.dtype == np.uint8
    with h5py.File(path) as file:
        np.testing.assert_array_equal(catalog.labels, file["ans"])
        for name in FLOAT_COLUMNS:
            np.testing.assert_array_equal(getattr(catalog, name), file[name])
    assert np.isnan(catalog.redshift).any()


def test_a_standin_is_told_by_its_attribute(tmp_path, tiny_galaxy10):
    catalog = load_catalog(tiny_galaxy10(tmp_path / "made.h5", truth=True, standin="galaxynb, seed 3"))
    assert catalog.kind == "standin"
    assert catalog.standin == "galaxynb, seed 3"
    assert catalog.has_truth


def test_labels_of_any_integer_type_become_uint8(tmp_path, tiny_galaxy10):
    catalog = load_catalog(tiny_galaxy10(tmp_path / "wide.h5", labels=np.arange(20) % 10))
    assert catalog.labels.dtype == np.uint8
    assert catalog.labels.tolist() == [*range(10), *range(10)]


@pytest.mark.parametrize("chunks", [None, (1, 64, 64, 3), (7, 16, 16, 1), (90, 64, 64, 3)])
def test_batches_give_every_image_once_and_in_order(tmp_path, tiny_galaxy10, monkeypatch, chunks):
    path = tiny_galaxy10(tmp_path / "many.h5", n=200, images=None)
    images = np.random.default_rng(1).integers(0, 256, (200, 64, 64, 3), np.uint8)
    with h5py.File(path, "a") as file:
        file.create_dataset("images", data=images, chunks=chunks)
    for limit in (2**28, 40 * 64 * 64 * 3):
        monkeypatch.setattr("galaxynb.data.catalog._BATCH_BYTES", limit)
        batches = list(load_catalog(path).batches())
        assert len(batches) > 1
        assert max(batch.nbytes for _, batch in batches) <= limit
        assert [row for rows, _ in batches for row in range(rows.start, rows.stop)] == list(range(200))
        np.testing.assert_array_equal(np.concatenate([batch for _, batch in batches]), images)
    if chunks:
        # Within the limit a batch is made of whole chunks, so none is decompressed twice.
        monkeypatch.setattr("galaxynb.data.catalog._BATCH_BYTES", 2**28)
        assert all(rows.start % chunks[0] == 0 for rows, _ in load_catalog(path).batches())


def test_truth_is_read_like_the_images(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "made.h5", truth=True)
    ((rows, truth),) = load_catalog(path).batches("truth")
    assert rows == slice(0, 20)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(truth, file["truth"])


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no data file .*none\.h5: .*make_standin"):
        load_catalog(tmp_path / "none.h5")


def test_a_folder_instead_of_a_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder, but"):
        load_catalog(tmp_path)


def test_a_file_of_no_bytes(tmp_path):
    (tmp_path / "empty.h5").touch()
    with pytest.raises(ValueError, match=r"empty\.h5 is empty \(0 bytes\)"):
        load_catalog(tmp_path / "empty.h5")


def test_a_file_of_another_format(tmp_path):
    (tmp_path / "page.h5").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"page\.h5 is not an HDF5 file"):
        load_catalog(tmp_path / "page.h5")


def test_a_file_still_being_written(small):
    code = f"import h5py; file = h5py.File({str(small)!r}, 'a'); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(ValueError, match="is being written by another program"):
            load_catalog(small)
        writer.communicate("\n")


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file(small, kept):
    os.truncate(small, int(small.stat().st_size * kept))
    with pytest.raises(ValueError, match=r"small\.h5 is truncated .*: download or make it again"):
        load_catalog(small)


@pytest.mark.parametrize("signature", [b"HEAP", b"TREE", b"SNOD"])
def test_a_file_with_a_damaged_directory(small, signature):
    content = small.read_bytes()
    small.write_bytes(content.replace(signature, b"xxxx"))
    with pytest.raises(ValueError, match=r"small\.h5 is damaged .*: download or make it again"):
        load_catalog(small)


def damage(path, row):
    """Overwrite the middle of the compressed image in one row."""
    with h5py.File(path) as file:
        chunk = file["images"].id.get_chunk_info_by_coord((row, 0, 0, 0))
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(bytes(200))


@pytest.mark.parametrize("row", [0, 19])
def test_damage_at_either_end_is_found_at_once(small, row):
    damage(small, row)
    with pytest.raises(ValueError, match=rf"'images' of .* can't be read in row {row}, so .*damaged"):
        load_catalog(small)


def test_damage_in_the_middle_is_found_while_preparing(tmp_path, small):
    damage(small, 10)
    with pytest.raises(ValueError, match=r"'images' of .* can't be read in rows 0 to 19, so .*damaged"):
        prepare_cache(small, tmp_path / "cache", image_size=32, progress=False)
    assert names(tmp_path) == ["small.h5"]


@pytest.mark.parametrize("name", ["images", "ans", *FLOAT_COLUMNS])
def test_a_column_too_few(tmp_path, tiny_galaxy10, name):
    columns = {name: None}
    with pytest.raises(ValueError, match=rf"lacks {name}, which .* must hold \(found: "):
        load_catalog(tiny_galaxy10(tmp_path / "lacks.h5", **columns))


def test_an_hdf5_file_of_nothing(tmp_path):
    h5py.File(tmp_path / "bare.h5", "w").close()
    with pytest.raises(ValueError, match=r"lacks images, ans, ra, .* \(found: nothing\)"):
        load_catalog(tmp_path / "bare.h5")


@pytest.mark.parametrize("shape", [(20, 64, 64), (20, 64, 32, 3), (20, 3, 64, 64), (20, 64, 64, 4), (20, 0, 0, 3)])
def test_images_of_a_wrong_shape(tmp_path, tiny_galaxy10, shape):
    path = tiny_galaxy10(tmp_path / "shape.h5", images=np.zeros(shape, np.uint8), chunks=False)
    with pytest.raises(ValueError, match=r"'images' of .* has shape \(20, .*\), but must be \(N, H, H, 3\)"):
        load_catalog(path)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint16])
def test_images_of_a_wrong_type(tmp_path, tiny_galaxy10, dtype):
    path = tiny_galaxy10(tmp_path / "type.h5", images=np.zeros((20, 64, 64, 3), dtype))
    with pytest.raises(ValueError, match=f"'images' of .* is {np.dtype(dtype)}, but must be uint8"):
        load_catalog(path)


def test_a_file_of_no_rows(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "rows.h5", n=0, images=np.zeros((0, 64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="holds no images: 'images' has 0 rows"):
        load_catalog(path)


@pytest.mark.parametrize("name", ["ans", *FLOAT_COLUMNS])
def test_columns_of_unequal_length(tmp_path, tiny_galaxy10, name):
    columns = {name: np.zeros(19, np.uint8 if name == "ans" else float)}
    with pytest.raises(ValueError, match=rf"'{name}' of .* has 19 rows, but 'images' has 20"):
        load_catalog(tiny_galaxy10(tmp_path / "unequal.h5", **columns))


def test_one_hot_labels(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "hot.h5", labels=np.zeros((20, 10), np.uint8))
    with pytest.raises(ValueError, match=r"'ans' of .* has shape \(20, 10\), but must hold one value"):
        load_catalog(path)


def test_labels_of_a_wrong_type(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "labels.h5", labels=np.zeros(20))
    with pytest.raises(ValueError, match=r"'ans' of .* is float64, but labels must be integers"):
        load_catalog(path)


@pytest.mark.parametrize(("wrong", "dtype"), [(10, np.uint8), (-1, np.int64), (256, np.int64)])
def test_a_label_out_of_range_is_named_with_its_row(tmp_path, tiny_galaxy10, wrong, dtype):
    labels = np.zeros(20, dtype)
    labels[[13, 17]] = wrong
    path = tiny_galaxy10(tmp_path / "labels.h5", labels=labels)
    with pytest.raises(ValueError, match=rf"'ans' of .* is {wrong} in row 13, .*0 to 9 \(2 of 20 rows"):
        load_catalog(path)


def test_a_column_of_text(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "text.h5", ra=np.full(20, b"12h"))
    with pytest.raises(ValueError, match=r"'ra' of .* is \|S3, but must be numbers"):
        load_catalog(path)


@pytest.mark.parametrize("shape", [(19, 64, 64, 3), (20, 32, 32, 3)])
def test_truth_unlike_the_images(tmp_path, tiny_galaxy10, shape):
    path = tiny_galaxy10(tmp_path / "truth.h5")
    with h5py.File(path, "a") as file:
        file["truth"] = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=r"'truth' of .* must be like 'images'"):
        load_catalog(path)


# --- prepare and open_cache


@pytest.mark.parametrize("image_size", [32, 48, 64])
def test_prepared_images_are_the_files_own_shrunk_by_area(tmp_path, small, image_size):
    cache = prepare_cache(small, tmp_path / "cache", image_size=image_size, progress=False)
    with h5py.File(small) as file:
        images, labels = file["images"][:], file["ans"][:]
    expected = [cv2.resize(i, (image_size, image_size), interpolation=cv2.INTER_AREA) for i in images]
    np.testing.assert_array_equal(cache.images, expected)
    np.testing.assert_array_equal(cache.labels, labels)
    if image_size == 32:  # by hand: the mean of 2 x 2 pixels
        mean = images.reshape(20, 32, 2, 32, 2, 3).mean(axis=(2, 4))
        assert np.abs(cache.images - mean).max() <= 0.5
    if image_size == 64:
        np.testing.assert_array_equal(cache.images, images)


def test_a_cache_says_where_it_came_from(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "made.h5", truth=True, standin="galaxynb, seed 3")
    cache = prepare_cache(path, tmp_path / "deep" / "cache", image_size=32, progress=False)
    assert cache.kind == "standin"
    assert cache.image_size == 32
    assert cache.info == {
        "has_truth": True,
        "image_size": 32,
        "kind": "standin",
        "n_images": 20,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "source": "made.h5",
        "source_size": 64,
        "standin": "galaxynb, seed 3",
    }
    assert str(tmp_path) not in (cache.path / "cache.json").read_text()
    assert names(tmp_path / "deep") == ["cache"]
    with h5py.File(path) as file:
        truth = [cv2.resize(i, (32, 32), interpolation=cv2.INTER_AREA) for i in file["truth"]]
    np.testing.assert_array_equal(cache.truth, truth)


def test_the_columns_come_back_to_the_last_bit(tmp_path, small):
    catalog = load_catalog(small)
    columns = prepare_cache(small, tmp_path / "cache", image_size=32, progress=False).columns
    assert list(columns) == list(FLOAT_COLUMNS)
    for name in FLOAT_COLUMNS:
        np.testing.assert_array_equal(columns[name], getattr(catalog, name))


def test_a_cache_is_mapped_and_read_only(tmp_path, small):
    cache = prepare_cache(small, tmp_path / "cache", image_size=32, progress=False)
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


@pytest.mark.parametrize("image_size", [31, 0, -64, 65])
def test_an_image_size_out_of_range(tmp_path, small, image_size):
    with pytest.raises(ValueError, match=rf"image_size is {image_size}, but must lie between 32.* and 64"):
        prepare_cache(small, tmp_path / "cache", image_size=image_size)
    assert names(tmp_path) == ["small.h5"]


@pytest.mark.parametrize("image_size", [32.0, "32"])
def test_an_image_size_that_is_no_integer(tmp_path, small, image_size):
    with pytest.raises(TypeError, match="integer"):
        prepare_cache(small, tmp_path / "cache", image_size=image_size)


def test_preparing_replaces_a_cache_but_nothing_else(tmp_path, small):
    out = tmp_path / "cache"
    prepare_cache(small, out, image_size=32, progress=False)
    assert prepare_cache(small, out, image_size=48, progress=False).image_size == 48
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    for target in (precious, precious / "thesis.txt"):
        with pytest.raises(ValueError, match="is not a cache made earlier, so it is not replaced"):
            prepare_cache(small, target, image_size=32, progress=False)
    assert (precious / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_while_preparing(tmp_path, small, monkeypatch, code):
    out = tmp_path / "runs" / "cache"
    before = prepare_cache(small, out, image_size=32, progress=False)
    write = _write_npy

    def fail(path, shape, arrays):
        write(path, shape, arrays)  # the images are there when the labels find no room
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


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_the_operating_system_refusing_to_write_on(tmp_path, small):
    """A limit on the size of files stops the real writer part way, like a full disk."""
    out = tmp_path / "cache"
    prepare_cache(small, out, image_size=32, progress=False)
    code = (
        "import resource; from galaxynb.data.cache import prepare_cache\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"prepare_cache({str(small)!r}, {str(out)!r}, image_size=64, progress=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
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
    # VmHWM is the peak of this process alone; ru_maxrss may carry over that of its parent.
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
    with pytest.raises(FileNotFoundError, match=r"no prepared images in .*: notebooks/01_data\.ipynb makes them"):
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
    with pytest.raises(ValueError, match=r"are damaged \(.*\): delete the folder and run notebooks/01_data"):
        open_cache(out)


# --- splitting, counting, scaling


def test_the_papers_test_set():
    labels = np.repeat(np.arange(10), CLASS_COUNTS)
    split = paper_split(labels)
    assert [len(part) for part in split] == [11350, 2838, 3548]
    assert class_support(labels, split.test).tolist() == PAPER_SUPPORT


@settings(deadline=None)  # the machine may be busy
@given(st.integers(10, 400), st.randoms(use_true_random=False))
def test_a_split_is_disjoint_exhaustive_and_deterministic(n, random):
    labels = np.array([random.randrange(10) for _ in range(n)])
    split = paper_split(labels)
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(n))
    assert len(split.test) == -(-n // 5)
    assert len(split.validation) == -(-(n - len(split.test)) // 5)
    for part, again in zip(split, paper_split(labels[::-1]), strict=True):
        np.testing.assert_array_equal(part, again)
    np.testing.assert_array_equal(sum(class_support(labels, part) for part in split), np.bincount(labels, minlength=10))


def test_a_split_needs_rows():
    assert len(paper_split(np.zeros(10)).test) == 2
    with pytest.raises(ValueError, match="9 rows are too few to split: give at least 10"):
        paper_split(np.zeros(9))
    with pytest.raises(ValueError, match=r"one-dimensional, but have shape \(20, 10\)"):
        paper_split(np.zeros((20, 10)))


def test_the_summary_counts_each_class(tmp_path, tiny_galaxy10):
    labels = np.repeat([0, 2, 9], [1, 4, 5])
    frame = class_summary(load_catalog(tiny_galaxy10(tmp_path / "few.h5", n=10, labels=labels)))
    expected = pd.DataFrame(
        {
            "name": CLASS_NAMES,
            "images": [1, 0, 4, 0, 0, 0, 0, 0, 0, 5],
            "fraction": [0.1, 0, 0.4, 0, 0, 0, 0, 0, 0, 0.5],
        },
        index=pd.RangeIndex(10, name="class"),
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_to_float_scales_every_value():
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    scaled = to_float(images)
    assert scaled.dtype == np.float32
    assert scaled.shape == images.shape
    assert (scaled.min(), scaled.max()) == (0, 1)
    np.testing.assert_array_equal(np.rint(scaled * 255), images)
    out = np.empty(images.shape, np.float32)
    assert to_float(images, out=out) is out
    np.testing.assert_array_equal(out, scaled)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_to_float_refuses_what_is_not_8_bit(dtype):
    with pytest.raises(TypeError, match=f"images is {np.dtype(dtype)}, but uint8, from 0 to 255, is needed"):
        to_float(np.zeros((2, 2), dtype))


# --- the real sample


def test_the_real_sample_goes_through(tmp_path, real_sample):
    catalog = load_catalog(real_sample)
    assert catalog.kind == "real"
    assert catalog.image_shape == (256, 256, 3)
    assert class_summary(catalog)["images"].tolist() == [6] * 10
    cache = prepare_cache(real_sample, tmp_path / "cache", progress=False)
    assert cache.images.shape == (60, 128, 128, 3)
    assert cache.truth is None
    with h5py.File(real_sample) as file:
        shift = cache.images.mean(axis=(1, 2)) - file["images"][:].mean(axis=(1, 2))
    assert np.abs(shift).max() < 0.5  # shrinking by area keeps the brightness


# --- fetch_galaxy10, from a real server


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` on loopback; `plan` holds what to do to the next requests."""

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.ranges = True
        self.plan = []
        self.log = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/files/{FILE_NAME}"

    @property
    def sha256(self):
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers["Range"]
        server.log.append(asked)
        step = server.plan.pop(0) if server.plan else {}
        body = step.get("body", server.body)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        start = step.get("start", start)
        if "status" in step:
            self.send_error(step["status"])
        elif start >= len(body):
            self.send_response(416)
            if step.get("say_total", True):
                self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
        else:
            self.send_response(206 if asked and server.ranges else 200)
            if asked and server.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            # Fewer bytes than promised: the connection breaks mid-body.
            self.wfile.write(body[start:][: step.get("cut")])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("galaxynb.data.download._BACKOFF", 0)
    monkeypatch.setattr("galaxynb.data.download._BLOCK", 1000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(np.random.default_rng(0).bytes(50_000)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server, folder, **options):
    return fetch_galaxy10(folder, url=server.url, known_hash=server.sha256, progress=False, **options)


def test_a_download(server, tmp_path):
    path = fetch(server, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / FILE_NAME
    assert path.read_bytes() == server.body
    assert names(path.parent) == [FILE_NAME]
    assert server.log == [None]


def test_a_complete_file_needs_no_network(server, tmp_path):
    fetch(server, tmp_path)
    server.log.clear()
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == []


def test_a_cut_connection_is_resumed_at_the_right_byte(server, tmp_path):
    server.plan = [{"cut": 20_000}, {"cut": 5_000}]
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == [None, "bytes=20000-", "bytes=25000-"]
    assert names(tmp_path) == [FILE_NAME]


def test_the_next_call_goes_on_where_the_last_one_stopped(server, tmp_path):
    server.plan = [{"cut": 20_000}, *[{"cut": 0}] * 4]
    with pytest.raises(ConnectionError, match=r"broke off after 20,000 bytes .*\.part, run again to go on"):
        fetch(server, tmp_path)
    assert names(tmp_path) == [f"{FILE_NAME}.part"]
    assert (tmp_path / f"{FILE_NAME}.part").read_bytes() == server.body[:20_000]
    server.log.clear()
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == ["bytes=20000-"]
    assert names(tmp_path) == [FILE_NAME]


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    server.plan = [{"cut": 20_000}]
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == [None, "bytes=20000-"]


def test_a_server_without_ranges_that_keeps_breaking_is_given_up(server, tmp_path):
    server.ranges = False
    server.plan = [{"cut": 20_000}] * 20
    with pytest.raises(ConnectionError, match="broke off after 20,000 bytes"):
        fetch(server, tmp_path)
    assert len(server.log) == 5


@pytest.mark.parametrize("say_total", [True, False])
def test_a_part_that_lacks_nothing_is_only_checked(server, tmp_path, say_total):
    server.plan = [{"say_total": say_total}]
    (tmp_path / f"{FILE_NAME}.part").write_bytes(server.body)
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == ["bytes=50000-"]


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / f"{FILE_NAME}.part").write_bytes(bytes(60_000))
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == ["bytes=60000-", None]


def test_a_server_that_sends_another_part_is_asked_for_the_whole(server, tmp_path):
    server.plan = [{"cut": 20_000}, {"start": 10_000}]
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == [None, "bytes=20000-", None]


@pytest.mark.parametrize("cut", [None, 20_000])
def test_a_wrong_checksum_leaves_nothing(server, tmp_path, cut):
    bad = bytearray(server.body)
    bad[100] ^= 1
    server.plan = [{"body": bytes(bad), "cut": cut}]
    with pytest.raises(ValueError, match=r"does not have the expected checksum sha256:.* and was removed: run"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []
    assert fetch(server, tmp_path).read_bytes() == server.body


def test_a_wrong_file_in_place_is_replaced_or_removed(server, tmp_path):
    path = tmp_path / FILE_NAME
    path.write_bytes(server.body[:-1])
    server.plan = [{"body": b"not it"}]
    with pytest.raises(ValueError, match="checksum"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []
    path.write_bytes(server.body[:-1])
    assert fetch(server, tmp_path).read_bytes() == server.body


def test_a_refusal_is_not_asked_again(server, tmp_path):
    server.plan = [{"status": 404}]
    with pytest.raises(ConnectionError, match=r"can't be downloaded, because the server answered 404 Not Found"):
        fetch(server, tmp_path)
    assert server.log == [None]
    assert names(tmp_path) == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server, tmp_path, status):
    server.plan = [{"status": status}, {"status": status}]
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == [None, None, None]


def test_no_server(server, tmp_path):
    url = "http://127.0.0.1:9/" + FILE_NAME  # discard: nothing listens there
    with pytest.raises(ConnectionError, match=r"broke off after 0 bytes \(ConnectionError\)"):
        fetch_galaxy10(tmp_path, url=url, known_hash=server.sha256, progress=False)
    assert names(tmp_path) == []


def test_a_silent_server_times_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr("galaxynb.data.download._TIMEOUT", (1, 0.05))
    monkeypatch.setattr(Handler, "do_GET", lambda _: threading.Event().wait(0.3))
    with pytest.raises(ConnectionError, match=r"broke off after 0 bytes \(ReadTimeout\)"):
        fetch(server, tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_while_downloading(server, tmp_path):
    code = (
        "import resource; from galaxynb.data.download import fetch_galaxy10\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        f"fetch_galaxy10({str(tmp_path)!r}, url={server.url!r}, known_hash={server.sha256!r}, progress=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert f"the disk of {tmp_path} has no room for {FILE_NAME}.part, which needs 50,000 bytes" in last
    assert names(tmp_path) == [f"{FILE_NAME}.part"]
    assert fetch(server, tmp_path).read_bytes() == server.body


def test_the_bar_is_the_only_report(server, tmp_path, capsys, caplog):
    logger = pooch.get_logger()
    level = logger.level
    logger.addHandler(caplog.handler)
    try:
        fetch_galaxy10(tmp_path, url=server.url, known_hash=server.sha256)
    finally:
        logger.removeHandler(caplog.handler)
    assert f"{FILE_NAME}: 100%" in capsys.readouterr().err
    assert caplog.records == []
    assert logger.level == level < logging.WARNING
