"""Files are checked for missing content and damage before use, and read in bounded memory."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest

from galaxynb.data.cache import prepare_cache
from galaxynb.data.catalog import class_summary, load_catalog
from galaxynb.data.galaxy10 import CLASS_NAMES, FLOAT_COLUMNS


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


def test_take_reads_rows_in_the_order_given(small):
    catalog = load_catalog(small)
    images = np.concatenate([images for _, images in catalog.batches()])
    rows = [19, 0, 7, 7]
    assert (catalog.take(rows) == images[rows]).all()
    assert catalog.take([]).shape == (0, 64, 64, 3)


def test_take_skips_batches_without_a_wanted_row(small, monkeypatch):
    catalog = load_catalog(small)
    images = np.concatenate([images for _, images in catalog.batches()])
    read = []

    def reading(dataset, rows, path):
        read.append(rows)
        return dataset[rows]

    monkeypatch.setattr("galaxynb.data.catalog._rows_at_once", lambda dataset: 5)
    monkeypatch.setattr("galaxynb.data.catalog._read", reading)
    assert (catalog.take([16, 3, 4]) == images[[16, 3, 4]]).all()
    assert read == [slice(0, 5), slice(15, 20)]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.h5 is missing, but a data file is needed: .*make_standin"):
        load_catalog(tmp_path / "none.h5")


def test_a_folder_instead_of_a_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder, but an HDF5 file is needed: give"):
        load_catalog(tmp_path)


def test_a_file_of_no_bytes(tmp_path):
    (tmp_path / "empty.h5").touch()
    with pytest.raises(ValueError, match=r"empty\.h5 is empty \(0 bytes\), but an HDF5 file is needed: download"):
        load_catalog(tmp_path / "empty.h5")


def test_a_file_of_another_format(tmp_path):
    (tmp_path / "page.h5").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"page\.h5 is of another format, but an HDF5 file is needed: give"):
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
    with pytest.raises(
        ValueError, match=r"small\.h5 is truncated .*, but an intact file is needed: download or make it again"
    ):
        load_catalog(small)


@pytest.mark.parametrize("signature", [b"HEAP", b"TREE", b"SNOD"])
def test_a_file_with_a_damaged_directory(small, signature):
    content = small.read_bytes()
    small.write_bytes(content.replace(signature, b"xxxx"))
    with pytest.raises(
        ValueError, match=r"small\.h5 is damaged .*, but an intact file is needed: download or make it again"
    ):
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
    with pytest.raises(
        ValueError, match=rf"'images' of .* is damaged in row {row} \(.*\), but an intact file is needed: "
    ):
        load_catalog(small)


def test_damage_in_the_middle_is_found_while_preparing(tmp_path, small):
    damage(small, 10)
    with pytest.raises(ValueError, match=r"'images' of .* is damaged in rows 0 to 19 \(.*\), but an intact"):
        prepare_cache(small, tmp_path / "cache", image_size=32, progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.h5"]


@pytest.mark.parametrize("name", ["images", "ans", *FLOAT_COLUMNS])
def test_a_column_too_few(tmp_path, tiny_galaxy10, name):
    columns = {name: None}
    with pytest.raises(ValueError, match=rf"lacks {name}, but .* is needed: give one \(this file holds "):
        load_catalog(tiny_galaxy10(tmp_path / "lacks.h5", **columns))


def test_an_hdf5_file_of_nothing(tmp_path):
    h5py.File(tmp_path / "bare.h5", "w").close()
    with pytest.raises(ValueError, match=r"lacks images, ans, ra, .* \(this file holds nothing\)"):
        load_catalog(tmp_path / "bare.h5")


@pytest.mark.parametrize("shape", [(20, 64, 64), (20, 64, 32, 3), (20, 3, 64, 64), (20, 64, 64, 4), (20, 0, 0, 3)])
def test_images_of_a_wrong_shape(tmp_path, tiny_galaxy10, shape):
    path = tiny_galaxy10(tmp_path / "shape.h5", images=np.zeros(shape, np.uint8), chunks=False)
    with pytest.raises(ValueError, match=r"'images' of .* has shape \(20, .*\), but \(N, H, H, 3\) is needed: stack"):
        load_catalog(path)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint16])
def test_images_of_a_wrong_type(tmp_path, tiny_galaxy10, dtype):
    path = tiny_galaxy10(tmp_path / "type.h5", images=np.zeros((20, 64, 64, 3), dtype))
    with pytest.raises(ValueError, match=f"'images' of .* is {np.dtype(dtype)}, but uint8 is needed: store"):
        load_catalog(path)


def test_a_file_of_no_rows(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "rows.h5", n=0, images=np.zeros((0, 64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"'images' of .* has 0 rows, but at least one image is needed: give"):
        load_catalog(path)


@pytest.mark.parametrize("name", ["ans", *FLOAT_COLUMNS])
def test_columns_of_unequal_length(tmp_path, tiny_galaxy10, name):
    columns = {name: np.zeros(19, np.uint8 if name == "ans" else float)}
    with pytest.raises(ValueError, match=rf"'{name}' of .* has 19 rows, but 20, the length of 'images', is needed: "):
        load_catalog(tiny_galaxy10(tmp_path / "unequal.h5", **columns))


def test_one_hot_labels(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "hot.h5", labels=np.zeros((20, 10), np.uint8))
    with pytest.raises(
        ValueError, match=r"'ans' of .* has shape \(20, 10\), but \(20,\) is needed: store one value per image"
    ):
        load_catalog(path)


def test_labels_of_a_wrong_type(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "labels.h5", labels=np.zeros(20))
    with pytest.raises(ValueError, match=r"'ans' of .* is float64, but integers are needed: store classes"):
        load_catalog(path)


@pytest.mark.parametrize(("wrong", "dtype"), [(10, np.uint8), (-1, np.int64), (256, np.int64)])
def test_a_label_out_of_range_is_named_with_its_row(tmp_path, tiny_galaxy10, wrong, dtype):
    labels = np.zeros(20, dtype)
    labels[[13, 17]] = wrong
    path = tiny_galaxy10(tmp_path / "labels.h5", labels=labels)
    with pytest.raises(ValueError, match=rf"'ans' of .* is {wrong} in row 13, but 0 to 9 is needed: .*\(2 of 20 rows"):
        load_catalog(path)


def test_a_column_of_text(tmp_path, tiny_galaxy10):
    path = tiny_galaxy10(tmp_path / "text.h5", ra=np.full(20, b"12h"))
    with pytest.raises(ValueError, match=r"'ra' of .* is \|S3, but numbers are needed: store"):
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
    expected = pd.DataFrame(
        {
            "name": CLASS_NAMES,
            "images": [1, 0, 4, 0, 0, 0, 0, 0, 0, 5],
            "fraction": [0.1, 0, 0.4, 0, 0, 0, 0, 0, 0, 0.5],
        },
        index=pd.RangeIndex(10, name="class"),
    )
    pd.testing.assert_frame_equal(frame, expected)
