"""Files are checked for missing content and damage before use, and read in bounded memory."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from galaxynb.data.cache import prepare_cache
from galaxynb.data.catalog import check_source, class_summary, load_catalog
from galaxynb.data.galaxy10 import CLASS_NAMES, FLOAT_COLUMNS

INTACT = "but an intact file is needed"
COLUMNS = ["images", "ans", *FLOAT_COLUMNS]


def test_a_catalog_holds_what_the_file_holds(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "real.h5", n=30, size=48)
    catalog = load_catalog(str(path))
    assert catalog.path == path
    assert (catalog.kind, catalog.standin, catalog.has_truth) == ("real", None, False)
    assert (catalog.n_images, catalog.image_shape) == (30, (48, 48, 3))
    assert catalog.labels.dtype == np.uint8
    with h5py.File(path) as file:
        np.testing.assert_array_equal(catalog.labels, file["ans"])
        for name in FLOAT_COLUMNS:
            np.testing.assert_array_equal(getattr(catalog, name), file[name])
    assert np.isnan(catalog.redshift).any()


def test_a_standin_is_told_by_its_attribute(tmp_path, tiny_galaxy10):
    catalog = load_catalog(tiny_galaxy10(tmp_path / "made.h5", truth=True, standin="galaxynb, seed 3"))
    assert (catalog.kind, catalog.standin, catalog.has_truth) == ("standin", "galaxynb, seed 3", True)


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
        monkeypatch.setattr("galaxynb.data.sources._BATCH_BYTES", limit)
        batches = list(load_catalog(path).batches())
        assert len(batches) > 1
        assert max(batch.nbytes for _, batch in batches) <= limit
        assert [row for rows, _ in batches for row in range(rows.start, rows.stop)] == list(range(200))
        np.testing.assert_array_equal(np.concatenate([batch for _, batch in batches]), images)
    if chunks:
        # Within the limit a batch is made of whole chunks, so none is decompressed twice.
        monkeypatch.setattr("galaxynb.data.sources._BATCH_BYTES", 2**28)
        assert all(rows.start % chunks[0] == 0 for rows, _ in load_catalog(path).batches())


def test_truth_is_read_like_the_images(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "made.h5", truth=True)
    ((rows, truth),) = load_catalog(path).batches("truth")
    assert rows == slice(0, 20)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(truth, file["truth"])


def images_of(path):
    with h5py.File(path) as file:
        return file["images"][:]


def test_take_reads_rows_in_the_order_given(small):
    catalog = load_catalog(small)
    rows = [19, 0, 7, 7]
    assert (catalog.take(rows) == images_of(small)[rows]).all()
    assert (catalog[7] == images_of(small)[7]).all()
    assert catalog.take([]).shape == (0, 64, 64, 3)
    for row in (-1, 20):
        with pytest.raises(IndexError, match=r"rows has 3 to 20|rows has -1 to 3"):
            catalog.take([3, row])


def test_take_skips_batches_without_a_wanted_row(small, monkeypatch):
    catalog, images, read = load_catalog(small), images_of(small), []

    def reading(dataset, rows, *_):
        read.append(rows)
        return dataset[rows]

    monkeypatch.setattr("galaxynb.data.hdf5.batch_rows", lambda *_, **__: 5)
    monkeypatch.setattr("galaxynb.data.hdf5._read", reading)
    assert (catalog.take([16, 3, 4]) == images[[16, 3, 4]]).all()
    assert read == [slice(0, 5), slice(15, 20)]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.h5 is missing, but data are needed: .*make_standin"):
        load_catalog(tmp_path / "none.h5")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "has no subfolders and no parquet files, but one subfolder per class is needed: sort"),
        (Path.touch, r"wrong\.h5 is empty \(0 bytes\), but an HDF5 file .* is needed: download"),
        (lambda path: path.write_text("<html>"), r"is of another format, but an HDF5 file .* is needed: give"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
            r"wrong\.h5 is a Git LFS pointer, but the file itself is needed: run `git lfs pull`",
        ),
        (lambda path: h5py.File(path, "w").close(), r"lacks images, ans, ra, .* \(this file holds nothing\)"),
    ],
    ids=["folder", "no bytes", "another format", "pointer", "no column"],
)
def test_what_is_no_file_of_galaxies(tmp_path, make, message):
    make(tmp_path / "wrong.h5")
    for refuse in (load_catalog, check_source):
        with pytest.raises(ValueError, match=message):
            refuse(tmp_path / "wrong.h5")


def test_a_file_still_being_written(small):
    code = f"import h5py; file = h5py.File({str(small)!r}, 'a'); print('open', flush=True); input()"
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(ValueError, match="is being written by another program"):
            load_catalog(small)
        writer.communicate("\n")


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file(small, kept):
    os.truncate(small, int(small.stat().st_size * kept))
    with pytest.raises(ValueError, match=rf"small\.h5 is truncated .*, {INTACT}: download or make it again"):
        load_catalog(small)


@pytest.mark.parametrize("signature", [b"HEAP", b"TREE", b"SNOD"])
def test_a_file_with_a_damaged_directory(small, signature):
    small.write_bytes(small.read_bytes().replace(signature, b"xxxx"))
    with pytest.raises(ValueError, match=rf"small\.h5 is damaged .*, {INTACT}: download or make it again"):
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
    with pytest.raises(ValueError, match=rf"'images' of .* is damaged in row {row} \(.*\), {INTACT}: "):
        load_catalog(small)


def test_damage_in_the_middle_is_found_while_preparing(tmp_path, small):
    damage(small, 10)
    with pytest.raises(ValueError, match=r"'images' of .* is damaged in rows 0 to 19 \(.*\), but an intact"):
        prepare_cache(small, tmp_path / "cache", image_size=32, progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.h5"]


def bytes_of(*shape):
    return np.zeros(shape, np.uint8)


def labels_with(wrong, dtype):
    return np.where(np.isin(np.arange(20), [13, 17]), wrong, 0).astype(dtype)


SHAPES = [(20, 64, 64), (20, 64, 32, 3), (20, 3, 64, 64), (20, 64, 64, 4), (20, 0, 0, 3)]
WRONG_COLUMNS = [
    *[({name: None}, rf"lacks {name}, but .* is needed: give one \(this file holds ") for name in COLUMNS],
    *[({"images": bytes_of(*shape)}, r"has shape \(20, .*\), but \(N, H, H, 3\) is needed: stack") for shape in SHAPES],
    *[
        ({"images": bytes_of(20, 64, 64, 3).astype(dtype)}, f"is {dtype}, but uint8 is needed: store")
        for dtype in ("float32", "int8", "uint16")
    ],
    ({"n": 0, "images": bytes_of(0, 64, 64, 3)}, "has 0 rows, but at least one image is needed: give"),
    *[
        ({name: bytes_of(19)}, "has 19 rows, but 20, the length of 'images', is needed: ")
        for name in COLUMNS
        if name != "images"
    ],
    ({"ans": bytes_of(20, 10)}, r"has shape \(20, 10\), but \(20,\) is needed: store one value per image"),
    ({"ans": np.zeros(20)}, "is float64, but integers are needed: store classes"),
    *[
        ({"ans": labels_with(wrong, dtype)}, rf"is {wrong} in row 13, but 0 to 9 is needed: .*\(2 of 20 rows")
        for wrong, dtype in ((10, np.uint8), (-1, np.int64), (256, np.int64))
    ],
    ({"ra": np.full(20, b"12h")}, r"is \|S3, but numbers are needed: store"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG_COLUMNS)
def test_a_column_that_is_missing_or_wrong(tmp_path, tiny_galaxy10, columns, message):
    path = tiny_galaxy10(tmp_path / "wrong.h5", **columns)
    subject = "" if message.startswith("lacks") else f"'{list(columns)[-1]}' of .* "
    with pytest.raises(ValueError, match=subject + message):
        load_catalog(path)


@pytest.mark.parametrize("shape", [(19, 64, 64, 3), (20, 32, 32, 3)])
def test_truth_unlike_the_images(tmp_path, tiny_galaxy10, shape):
    path = tiny_galaxy10(tmp_path / "truth.h5")
    with h5py.File(path, "a") as file:
        file["truth"] = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=r"'truth' of .*, but uint8 of shape .* is needed: make it like 'images'"):
        load_catalog(path)


def test_the_summary_counts_each_class(tmp_path, tiny_galaxy10):
    labels = np.repeat([0, 2, 9], [1, 4, 5])
    frame = class_summary(load_catalog(tiny_galaxy10(tmp_path / "few.h5", n=10, labels=labels)))
    counts = np.array([1, 0, 4, 0, 0, 0, 0, 0, 0, 5])
    expected = pd.DataFrame({"name": CLASS_NAMES, "images": counts, "fraction": counts / 10})
    pd.testing.assert_frame_equal(frame, expected.rename_axis("class"))
