"""Folders of images, parquet and .npz files become the same cache as an HDF5 file, or are refused in a sentence."""

import errno
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import SHARED
from PIL import Image
from pyarrow import parquet

from galaxynb.data import pictures
from galaxynb.data.cache import prepare_cache
from galaxynb.data.catalog import check_source, class_summary, load_catalog, source_files
from galaxynb.data.galaxy10 import CLASS_NAMES, FLOAT_COLUMNS
from galaxynb.data.pictures import BadImage, decode_image
from galaxynb.data.sources import class_number, natural_order

N = 30
IMAGES = np.random.default_rng(2).integers(0, 256, (N, 64, 64, 3), np.uint8)
LABELS = np.arange(N) // 3


def encoded(array, kind="PNG", **options):
    stream = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(stream, kind, **options)
    return stream.getvalue()


PNGS = [encoded(image) for image in IMAGES]


def write_folder(path, names=CLASS_NAMES, data=PNGS):
    """Write the images as `path`/class/imageNUMBER.png."""
    for row, (one, label) in enumerate(zip(data, LABELS, strict=True)):
        folder = path / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"image{row}.png").write_bytes(one)
    return path


def write_parquet(path, rows=slice(None), *, struct=True, labels=LABELS, metadata=None, data=PNGS, **columns):
    image = [{"bytes": one, "path": f"{k}.png"} for k, one in enumerate(data[rows])] if struct else data[rows]
    table = pa.table({"image": image, "label": labels[rows], **columns})
    parquet.write_table(table.replace_schema_metadata(metadata), path, row_group_size=7)
    return path


def write_shards(path, **options):
    """Write the images to two files, as Hugging Face names them."""
    (path / "data").mkdir(parents=True)
    write_parquet(path / "data" / "train-00000-of-00002.parquet", slice(12), **options)
    write_parquet(path / "data" / "train-00001-of-00002.parquet", slice(12, None), **options)
    (path / "README.md").write_text("A data set card.")
    return path


def write_npz(path, save=np.savez_compressed, **arrays):
    save(path, **({"images": IMAGES, "labels": LABELS} | arrays))
    return path


SOURCES = {
    "folder": write_folder,
    "parquet": lambda path: write_parquet(path, struct=False),
    "shards": write_shards,
    "npz": lambda path: write_npz(path.with_suffix(".npz")),
    "npz, one column": lambda path: write_npz(path.with_suffix(".npz"), np.savez, labels=LABELS[:, None]),
}


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_each_source_gives_the_same_cache(tmp_path, write, monkeypatch):
    path = write(tmp_path / "source")
    check_source(path, image_size=64)
    monkeypatch.setattr("galaxynb.data.sources._BATCH_IMAGES", 4)
    catalog = load_catalog(path)
    assert (catalog.kind, catalog.image_shape, catalog.has_truth, catalog.left_out) == ("real", (64, 64, 3), False, {})
    assert catalog.summary() == f"{path.name} has 30 images of 64 px."
    np.testing.assert_array_equal(catalog.labels, LABELS)
    assert catalog.labels.dtype == np.uint8
    assert all(np.isnan(getattr(catalog, name)).all() for name in FLOAT_COLUMNS)
    assert class_summary(catalog)["images"].tolist() == [3] * 10
    batches = list(catalog.batches())
    assert [row for rows, _ in batches for row in range(rows.start, rows.stop)] == list(range(N))
    assert max(len(images) for _, images in batches) <= 4
    np.testing.assert_array_equal(np.concatenate([images for _, images in batches]), IMAGES)
    np.testing.assert_array_equal(catalog.take([29, 0, 7, 7]), IMAGES[[29, 0, 7, 7]])
    cache = prepare_cache(catalog, tmp_path / "cache", image_size=64, progress=False)
    np.testing.assert_array_equal(cache.images, IMAGES)
    assert (cache.info["sha256"], cache.info["source"]) == (catalog.digest(), path.name)


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_the_checksum_follows_the_content_only(tmp_path, write):
    path = write(tmp_path / "one" / "source") if (tmp_path / "one").mkdir() is None else None
    before = load_catalog(path).digest()
    assert len(before) == 64
    moved = Path(shutil.move(path, tmp_path / path.name))
    for number, file in enumerate(reversed(source_files(moved))):
        os.utime(file, (number, number))
    assert load_catalog(moved).digest() == before
    (file, *_) = source_files(moved)
    if moved.is_dir():
        file.rename(file.with_stem(f"{file.stem}-renamed"))
        assert load_catalog(moved).digest() != before


def test_a_changed_image_changes_the_checksum(tmp_path):
    path = write_folder(tmp_path / "source")
    before, file = load_catalog(path).digest(), path / "Merging" / "image3.png"
    assert file in source_files(path)
    file.write_bytes(PNGS[4])
    changed = load_catalog(path).digest()
    assert changed != before
    (path / ".DS_Store").write_text("added by a system")
    (path / "Merging" / "Thumbs.db").write_text("added by a system")
    assert load_catalog(path).digest() == changed
    assert len(source_files(path)) == N


# --- folders


SPELLINGS = {
    "number": "{k}",
    "two digits": "{k:02}",
    "class": "class_{k}",
    "Class": "Class {k}",
    "both": "{k}_{name}",
    "galaxies": "{k}. {name} Galaxies",
    "lower": "{lower}",
    "underscores": "{underscored}",
}


@pytest.mark.parametrize("pattern", SPELLINGS.values(), ids=SPELLINGS)
def test_usual_names_of_classes(pattern):
    for k, name in enumerate(CLASS_NAMES):
        other = {"lower": name.lower(), "underscored": name.replace(" ", "_").replace("-", "_")}
        assert class_number(pattern.format(k=k, name=name, **other)) == k


PUBLISHED = ("Disturbed Galaxies", "Merging Galaxies", "Round Smooth Galaxies", "In-between Round Smooth Galaxies")
PUBLISHED += ("Cigar Shaped Smooth Galaxies", "Barred Spiral Galaxies", "Unbarred Tight Spiral Galaxies")
PUBLISHED += ("Unbarred Loose Spiral Galaxies", "Edge-on Galaxies without Bulge", "Edge-on Galaxies with Bulge")


def test_the_names_of_the_published_classes():
    assert [class_number(name) for name in PUBLISHED] == list(range(10))
    assert [class_number(name) for name in ("RoundSmooth", "edge‐on_no-bulge", "in-between smooth")] == [2, 8, 3]


@pytest.mark.parametrize("name", ["10", "-1", "train", "", "class", "1_Disturbed", "Spiral", "Disturbed 2", "٣"])
def test_names_of_no_class(tmp_path, name):
    with pytest.raises(ValueError, match=r"is no class, but one is needed: use a number or a name of 0 Disturbed, 1 M"):
        class_number(name)
    if name:
        write_folder(tmp_path)
        (tmp_path / name).mkdir()
        for refuse in (check_source, load_catalog):
            with pytest.raises(ValueError, match=f"a subfolder of .* has an unknown name: '{name}' is no class"):
                refuse(tmp_path, skip_bad=True)


def test_a_folder_of_training_and_test_images(tmp_path):
    for name in ("test", "train"):
        write_folder(tmp_path / name)
    with pytest.raises(ValueError, match=rf"'test' is no class, .*, or give {tmp_path}/test alone$"):
        check_source(tmp_path)
    check_source(tmp_path / "train")


@given(st.lists(st.text("aA01 ", min_size=1), unique=True))
@settings(deadline=None)
def test_natural_order_is_total(names):
    assert len({str(natural_order(name)) for name in names}) == len(names)


def test_images_are_sorted_by_class_and_number(tmp_path):
    for name, folder in {"image10.png": "9", "image9.png": "9", "a.png": "Barred Spiral", "B.png": "5_barred"}.items():
        (tmp_path / folder.replace("_barred", "_Barred Spiral")).mkdir(exist_ok=True)
        shutil.copy(io_path(tmp_path, PNGS[0]), tmp_path / folder.replace("_barred", "_Barred Spiral") / name)
    (tmp_path / "x.bin").unlink()
    catalog = load_catalog(tmp_path)
    assert [file.name for file in catalog.files] == ["B.png", "a.png", "image9.png", "image10.png"]
    assert catalog.labels.tolist() == [5, 5, 9, 9]
    with pytest.raises(ValueError, match="has 4 images, but at least 10 are needed for the split"):
        check_source(tmp_path)


def io_path(folder, data):
    path = folder / "x.bin"
    path.write_bytes(data)
    return path


# --- images that cannot be used


TURNED = Image.Exif()
TURNED[0x0112] = 6
PALETTE = Image.fromarray(IMAGES[0]).quantize(17)
DEEP = np.zeros((64, 64, 3), np.uint16)
BAD = {
    "greyscale": (encoded(IMAGES[0][:, :, 0]), "is greyscale"),
    "with alpha": (encoded(Image.fromarray(IMAGES[0]).convert("RGBA")), "is with alpha"),
    "with alpha, palette": (encoded(PALETTE, transparency=3), "is with alpha"),
    "with alpha, one colour": (encoded(IMAGES[0], transparency=(0, 0, 0)), "is with alpha"),
    "CMYK": (encoded(Image.fromarray(IMAGES[0]).convert("CMYK"), "JPEG"), "is CMYK"),
    "16-bit": (encoded(DEEP[:, :, 0]), "is 16-bit"),
    "16-bit, RGB": (cv2.imencode(".png", DEEP)[1].tobytes(), "is 16-bit"),
    "truncated": (PNGS[0][:5000], r"is truncated \(.*\)"),
    "truncated, JPEG": (encoded(IMAGES[0], "JPEG")[:1000], r"is truncated \(.*\)"),
    "no PNG or JPEG": (b"Just a note.", "is no PNG or JPEG image"),
    "no PNG or JPEG, GIF": (encoded(IMAGES[0], "GIF"), "is no PNG or JPEG image"),
    "empty": (b"", r"is empty \(0 bytes\)"),
    "too small": (encoded(IMAGES[0][:32, :32]), "is 32 x 32 px"),
    "not square": (encoded(IMAGES[0][:60]), "is 64 x 60 px"),
    "of another size": (encoded(np.zeros((96, 96, 3), np.uint8)), "is 96 x 96 px where most are 64 x 64 px"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("source", ["folder", "parquet"])
def test_an_image_that_cannot_be_used(tmp_path, kind, source):
    data, fault = BAD[kind]
    kind = kind.partition(",")[0]
    if source == "folder":
        path = write_folder(tmp_path / "source")
        (path / "Merging" / "image4.png").write_bytes(data)
        name = f"{path}/Merging/image4.png"
    else:
        path = write_parquet(tmp_path / "source.parquet", data=[*PNGS[:4], data, *PNGS[5:]])
        name = f"row 4 of {path}"
    message = rf"^{name} {fault}, but square 8-bit RGB images .*: correct it, or set `skip_bad: true` .*\(1 {kind}"
    with pytest.raises(ValueError, match=message):
        load_catalog(path)
    check_source(path, image_size=64)  # looks only at the first image of each class
    catalog = load_catalog(path, skip_bad=True)
    assert catalog.summary() == f"{path.name} has 29 images of 64 px; left out: 1 (1 {kind})."
    assert list(catalog.left_out) == [name]
    np.testing.assert_array_equal(catalog.labels, np.delete(LABELS, 4))
    cache = prepare_cache(catalog, tmp_path / "cache", image_size=64, progress=False)
    np.testing.assert_array_equal(cache.images, np.delete(IMAGES, 4, axis=0))
    assert cache.info["left_out"] == 1
    np.testing.assert_array_equal(catalog.take([5, 3]), IMAGES[[6, 3]])


def test_all_faults_are_counted(tmp_path):
    path = write_folder(tmp_path / "source")
    for row, kind in enumerate(["greyscale", "CMYK", "CMYK"], start=1):
        (path / "Merging" / f"bad{row}.png").write_bytes(BAD[kind][0])
    (path / "loose.PNG").write_bytes(PNGS[0])
    (path / "Merging" / "dead.png").symlink_to("nowhere.png")
    counted = "2 CMYK, 1 greyscale, 1 outside all class folders, 1 unreadable"
    with pytest.raises(ValueError, match=rf"bad1\.png is greyscale, .* leave out all such images \({counted}\)"):
        load_catalog(path)
    with pytest.raises(ValueError, match=r"bad1\.png is greyscale, .*\(1 greyscale, 1 outside .* or more\)"):
        check_source(path)
    assert f"left out: 5 ({counted})" in load_catalog(path, skip_bad=True).summary()
    check_source(path, skip_bad=True)
    assert len(load_catalog(path, skip_bad=True).digest()) == 64


def test_a_folder_in_a_class_folder(tmp_path):
    write_folder(tmp_path)
    write_folder(tmp_path / "Merging" / "more")
    message = f"^{tmp_path}/Merging/more is a folder, but only images are needed in {tmp_path}/Merging: move"
    for refuse in (load_catalog, check_source):
        with pytest.raises(ValueError, match=message):
            refuse(tmp_path, skip_bad=True)


def test_nothing_that_can_be_used(tmp_path):
    for k in range(10):
        (tmp_path / str(k)).mkdir()
        (tmp_path / str(k) / "note.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"has no usable image \(10 no PNG or JPEG\), but some are needed: add images"):
        load_catalog(tmp_path, skip_bad=True)
    for k in range(10):
        (tmp_path / str(k) / "note.txt").unlink()
    for refuse in (load_catalog, check_source):
        with pytest.raises(ValueError, match="has no usable image, but some are needed: add images"):
            refuse(tmp_path)


def test_what_viewers_show_is_what_is_read():
    np.testing.assert_array_equal(decode_image(encoded(PALETTE)), np.asarray(PALETTE.convert("RGB")))
    grey = Image.fromarray(IMAGES[0]).convert("L").convert("RGB")
    np.testing.assert_array_equal(decode_image(encoded(grey)), np.asarray(grey))
    np.testing.assert_array_equal(decode_image(encoded(IMAGES[0], exif=TURNED)), np.rot90(IMAGES[0], -1))


@given(st.sampled_from([PNGS[0], encoded(IMAGES[1], "JPEG")]), st.data())
@settings(deadline=None, max_examples=200)
def test_a_damaged_image_is_refused_or_read(data, draw):
    place, length = draw.draw(st.integers(0, 200)), draw.draw(st.integers(0, 20))
    damaged = data[:place] + draw.draw(st.binary(max_size=length)) + data[place + length :]
    try:
        told = f"is {decode_image(damaged).shape}"
    except BadImage as fault:
        told = str(fault)
    # A damaged header can claim a huge image.
    assert told.startswith("is ") or told == f"has too many pixels, more than {Image.MAX_IMAGE_PIXELS:,}"
    assert "\n" not in told


@pytest.mark.parametrize("side", [10_000, 16_384])
def test_a_header_that_claims_a_huge_image_is_refused(side):
    sound, claimed = (struct.pack(">BHH", 8, size, size) for size in (64, side))
    data = encoded(IMAGES[1], "JPEG")
    assert data.count(sound) == 1
    with pytest.raises(BadImage, match=f"^has too many pixels, more than {Image.MAX_IMAGE_PIXELS:,}$"):
        decode_image(data.replace(sound, claimed))


def test_an_image_that_changes_during_a_run(tmp_path):
    catalog = load_catalog(write_folder(tmp_path))
    (tmp_path / "Merging" / "image4.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"image4\.png is empty \(0 bytes\), but it was sound when checked: run again"):
        list(catalog.batches())


# --- parquet


def test_named_classes_count_in_parquet(tmp_path):
    backwards = json.dumps({"info": {"features": {"label": {"names": CLASS_NAMES[::-1], "_type": "ClassLabel"}}}})
    path = write_parquet(tmp_path / "names.parquet", labels=9 - LABELS, metadata={"huggingface": backwards})
    np.testing.assert_array_equal(load_catalog(path).labels, LABELS)
    path = write_parquet(tmp_path / "text.parquet", labels=np.array(PUBLISHED)[LABELS])
    np.testing.assert_array_equal(load_catalog(path).labels, LABELS)


def test_known_columns_are_read(tmp_path):
    ra = np.linspace(0, 9, N)
    for path in (
        write_parquet(tmp_path / "a.parquet", ra=ra, dec=-ra, redshift=["?"] * N),
        write_npz(tmp_path / "a.npz", ra=ra, dec=-ra, redshift=np.full(N, "?")),
    ):
        catalog = load_catalog(path)
        np.testing.assert_array_equal(catalog.ra, ra)
        np.testing.assert_array_equal(catalog.dec, -ra)
        assert np.isnan(catalog.redshift).all()


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        ([{"bytes": PNGS[0], "path": "a.png"}, {"bytes": None, "path": "b.png"}], r" \(only its path b\.png is\)"),
        ([{"bytes": PNGS[0]}, {"bytes": None}], ""),
        ([{"bytes": PNGS[0]}, None], ""),
        ([PNGS[0], None], ""),
    ],
)
def test_an_image_that_is_not_in_the_file(tmp_path, image, fault):
    rewritten(pa.table({"image": image, "label": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=rf"^row 1 of .*a\.parquet is not in the file{fault}, but .*\(1 not in the"):
        load_catalog(tmp_path)
    np.testing.assert_array_equal(load_catalog(tmp_path, skip_bad=True).take([0]), IMAGES[:1])


def test_pyarrow_is_named_if_it_is_missing(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = f"is parquet, but pyarrow is needed to read it: run `{sys.executable} -m pip install pyarrow`"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_catalog(path)


def rewritten(table, path):
    parquet.write_table(table, path)


def cut(path, to):
    os.truncate(path, int(path.stat().st_size * to))


PARQUET = {
    "cut": (lambda path: cut(write_parquet(path), 0.5), r"is damaged \(.*\), but an intact parquet file is needed"),
    "no image": (lambda path: rewritten(pa.table({"text": ["a"]}), path), "has the columns text, but one of images"),
    "no label": (lambda path: rewritten(pa.table({"image": [b"a"]}), path), "but one of labels is needed: call it"),
    "pixels": (
        lambda path: rewritten(pa.table({"image": [[1, 2]], "label": [1]}), path),
        "'image' of .* is list<.*>, but encoded images are needed: store bytes",
    ),
    "label": (lambda path: write_parquet(path, labels=LABELS + 1), r"is 10 in row 27, but 0 to 9 is needed"),
    "negative": (lambda path: write_parquet(path, labels=LABELS - 1), r"is -1 in row 0, but 0 to 9 is needed"),
    "name": (
        lambda path: write_parquet(path, labels=np.where(LABELS == 9, "Comet", "Merging")),
        "'label' of .* has an unknown class: 'Comet' is no class",
    ),
    "missing": (lambda path: write_parquet(path, labels=[None, *LABELS[1:]]), "'label' of .* is missing in 1 rows"),
    "float": (lambda path: write_parquet(path, labels=LABELS / 2), "is float64, but integers are needed"),
}


@pytest.mark.parametrize(("make", "message"), PARQUET.values(), ids=PARQUET)
def test_parquet_that_is_refused(tmp_path, make, message):
    make(tmp_path / "a.parquet")
    for refuse in (load_catalog, check_source):
        with pytest.raises(ValueError, match=message) as error:
            refuse(tmp_path)
        assert str(tmp_path / "a.parquet") in str(error.value)


# --- npz


def write_member(path, data, flags=0):
    """Write an archive of labels and of images that are some bytes, with some flags."""
    stream = io.BytesIO()
    np.save(stream, LABELS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.npy", stream.getvalue())
        archive.writestr("images.npy", data)
        archive.getinfo("images.npy").flag_bits |= flags


NPZ = {
    "cut": (lambda path: cut(write_npz(path), 0.5), r"is damaged \(.*\), but an intact \.npz file is needed: download"),
    "zip": (lambda path: shutil.make_archive(path.with_suffix(""), "zip", path.parent), "is an archive without arrays"),
    "names": (lambda path: np.savez(path, a=IMAGES, b=LABELS), "holds a, b, but images and labels are needed: call"),
    "first": (lambda path: write_npz(path, images=np.moveaxis(IMAGES, -1, 1)), r"but \(N, H, H, 3\) is needed: stack"),
    "floats": (lambda path: write_npz(path, images=IMAGES / 255), "is float64, but uint8 is needed: store values"),
    "small": (lambda path: write_npz(path, images=IMAGES[:, :32, :32]), "images of 32 px, but at least 64 px"),
    "order": (lambda path: write_npz(path, images=np.asfortranarray(IMAGES)), "is in Fortran order, but C order is"),
    "lengths": (lambda path: write_npz(path, labels=LABELS[1:]), r"has shape \(29,\), but \(30,\) is needed"),
    "one-hot": (lambda path: write_npz(path, labels=np.eye(10)[LABELS]), r"has shape \(30, 10\), but \(30,\)"),
    "label": (lambda path: write_npz(path, labels=LABELS + 1), "is 10 in row 27, but 0 to 9 is needed: correct"),
    "magic": (lambda path: write_member(path, b"no array"), r"'images' of .* is not readable \(the magic string"),
    "encrypted": (lambda path: write_member(path, bytes(99), 1), r"is encrypted \(.*\), but an intact \.npz file"),
    "objects": (lambda path: write_npz(path, labels=np.array([None] * N)), r"is not readable \(Object arrays cannot"),
}


@pytest.mark.parametrize(("make", "message"), NPZ.values(), ids=NPZ)
def test_npz_that_is_refused(tmp_path, make, message):
    path = tmp_path / "a.npz"
    made = make(path)
    path = Path(made) if isinstance(made, str) else path
    for refuse in (load_catalog, check_source):
        with pytest.raises(ValueError, match=message) as error:
            refuse(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_in_the_middle_of_npz(tmp_path, monkeypatch, save):
    def seek(member, *place):  # Python 3.12 and later do this for arrays that are not compressed
        if member._compress_type == zipfile.ZIP_STORED:
            member._expected_crc = None
        return seek_forward(member, *place)

    seek_forward = zipfile.ZipExtFile.seek
    monkeypatch.setattr(zipfile.ZipExtFile, "seek", seek)
    path = write_npz(tmp_path / "a.npz", save)
    data = bytearray(path.read_bytes())
    data[50_000:50_100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.npz is damaged \(.*\), but an intact"):
        prepare_cache(path, tmp_path / "cache", image_size=32, progress=False)


# --- checks before a run


def test_a_source_that_may_not_be_read(tmp_path, small, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    for path in (small, tmp_path):
        with pytest.raises(ValueError, match=r"is not readable \(Permission denied\), but data are needed: allow"):
            check_source(path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=r"loop is not readable \(Too many levels of symbolic links\)"):
        check_source(tmp_path / "loop")
    with pytest.raises(FileNotFoundError, match=r"under is missing, but data are needed"):
        check_source(small / "under")


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_images_smaller_than_the_profile_wants(tmp_path, write):
    path = write(tmp_path / "source")
    with pytest.raises(ValueError, match=r"image_size is 128, but 32 to 64 is needed: give at least .* images in"):
        check_source(path, image_size=128)
    with pytest.raises(FileNotFoundError, match=r"none is missing, but data are needed: give an HDF5 file"):
        check_source(tmp_path / "none")


@pytest.mark.parametrize("source", ["folder", "parquet"])
def test_the_first_images_have_another_size_than_most(tmp_path, source):
    larger = encoded(np.zeros((96, 96, 3), np.uint8))
    data = [larger if row % 3 else png for row, png in enumerate(PNGS)]
    if source == "parquet":
        path = write_parquet(tmp_path / "a.parquet", data=data)
    else:
        path = write_folder(tmp_path / "a", data=data)
    check_source(path, skip_bad=True, image_size=96)
    assert load_catalog(path, skip_bad=True).image_shape == (96, 96, 3)


def printed_by(code, path):
    """Return the number that Python code prints, in a process of its own with a path as its argument."""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_a_check_is_fast_and_imports_little(tmp_path):
    """20,000 files in a second; pandas, scikit-learn and Keras each take as long to import."""
    for k in range(10):
        (tmp_path / str(k)).mkdir()
        (tmp_path / str(k) / "0.png").write_bytes(PNGS[k])
        for number in range(1, 2000):
            os.link(tmp_path / str(k) / "0.png", tmp_path / str(k) / f"{number}.png")
    code = (
        "import sys, time; from galaxynb.data.catalog import check_source\n"
        "check_source(sys.argv[1], image_size=64)\n"
        "assert not {'pandas', 'sklearn', 'keras', 'tensorflow', 'cv2', 'astropy'} & set(sys.modules)\n"
        "print(time.process_time())"
    )
    assert printed_by(code, tmp_path) < 2  # seconds, with the imports; the machine may be busy
    began = time.process_time()
    assert len(source_files(tmp_path)) == 20_000
    assert time.process_time() - began < 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_memory_does_not_grow_with_a_file(tmp_path, kind):
    peaks = []
    for n in (400, 2400):
        path = tmp_path / f"{n}.{kind}"
        if kind == "parquet":
            # One row group, in small pages.
            options = {"compression": "none", "use_dictionary": False, "write_batch_size": 10}
            image = encoded(np.tile(IMAGES[0], (4, 4, 1)), compress_level=0)
            parquet.write_table(pa.table({"image": [image] * n, "label": [0] * n}), path, **options)
        else:
            np.savez(path, images=np.zeros((n, 256, 256, 3), np.uint8), labels=np.zeros(n, int))
        code = (
            "import sys; from pathlib import Path; from galaxynb.data.cache import prepare_cache\n"
            "prepare_cache(sys.argv[1], sys.argv[1] + '.cache', image_size=32, progress=False)\n"
            "status = Path('/proc/self/status').read_text()\n"
            "print(next(line.split()[1] for line in status.splitlines() if line.startswith('VmHWM')))\n"
        )
        peaks.append(printed_by(code, path) / 1024)
    # MB; the 2,000 images more are 393 MB. The pool of pyarrow keeps some memory for later.
    assert peaks[1] - peaks[0] < 150


# --- real images


@pytest.fixture(scope="module")
def real_folder():
    if not (SHARED / "real_images").is_dir():
        pytest.skip(f"needs real images, which this repository does not hold: put them at {SHARED / 'real_images'}")
    return SHARED / "real_images"


def test_real_images_in_folders_go_through(tmp_path, real_folder):
    check_source(real_folder, image_size=128)
    catalog = load_catalog(real_folder)
    assert (catalog.kind, catalog.image_shape, catalog.left_out) == ("real", (256, 256, 3), {})
    files = [path for path in real_folder.rglob("*") if path.is_file()]
    assert catalog.n_images == len(files) == len(source_files(real_folder))
    assert (np.diff(catalog.labels.astype(int)) >= 0).all()
    assert class_summary(catalog)["images"].min() > 40
    cache = prepare_cache(catalog, tmp_path / "cache", image_size=64, progress=False)
    first = np.asarray(Image.open(catalog.files[0]))
    np.testing.assert_array_equal(catalog[0], first)
    assert cache.images.mean() == pytest.approx(41, abs=6)  # facts of 110 published images: 40.8, of 255
    assert pictures.faults_summary(catalog.left_out) == ""
