"""Images of every format are denoised and classified, and nothing is lost, mixed or changed."""

import dataclasses
import os
import shutil
from unittest import mock

import cv2
import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from apply_samples import (
    CLASSES,
    large_images,
    sample_networks,
    write_fits,
    write_folder,
    write_hdf5,
    write_npz,
    write_parquet,
)
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from PIL import Image

from galaxynb.apply import run as program
from galaxynb.apply.inputs import open_inputs, prepare
from galaxynb.apply.predict import COLUMNS, predict
from galaxynb.apply.run import apply_images, apply_piece, in_use, join_pieces, make_plan, read_plan
from galaxynb.apply.survey import FIELD, read_cutout
from galaxynb.data.galaxy10 import CLASS_NAMES


def applied(images, out):
    return apply_images(images, out, sample_networks(), progress=False)


def listing(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_gives_tables_images_and_a_page(tmp_path):
    folder = write_folder(tmp_path / "mine")
    before = listing(folder)
    found = applied(folder, tmp_path / "out")
    out = tmp_path / "out"
    table = pd.read_parquet(out / "predictions.parquet")
    names = sorted(path.as_posix() for path in before)
    assert sorted(table["file"]) == names
    assert set(pd.read_csv(out / "predictions.csv")["file"]) == set(names)
    for when, columns in COLUMNS.items():
        assert table[when].tolist() == [CLASS_NAMES[k] for k in table[columns].to_numpy().argmax(axis=1)]
        np.testing.assert_allclose(table[columns].sum(axis=1), 1, atol=1e-5)
    classes = dict(zip(CLASSES, ("Round Smooth", "Barred Spiral", "Edge-on with Bulge"), strict=True))
    assert table["label"].tolist() == [classes[name.partition("/")[0]] for name in table["file"]]
    for name in names:
        with Image.open(out / "denoised" / name) as image:
            assert image.size == (32, 32)
            assert image.format == ("PNG" if name.endswith("png") else "JPEG")
    assert (found["number"], found["unusable"], found["labelled"]) == (6, 0, 6)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("<img src=") == 3 * 6 + 2
    assert "trained on simulated galaxies only" in page
    assert "Known class" in page
    assert (">Flag<" in page) == bool(found["flagged"])
    assert {"contact_sheet.png", "confusion.png", "summary.json"} <= {path.name for path in out.iterdir()}
    assert listing(folder) == before


@pytest.mark.parametrize(("write", "ending"), [(write_hdf5, "h5"), (write_npz, "npz"), (write_parquet, "parquet")])
def test_a_file_of_images_gives_a_file_of_denoised_ones(tmp_path, write, ending):
    path = write(tmp_path / f"some.{ending}")
    applied(path, tmp_path / "out")
    inputs, denoised = (
        open_inputs(path),
        open_inputs(tmp_path / "out" / f"denoised.{ending}") if ending == "h5" else None,
    )
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    images, labels = large_images()
    assert table["label"].tolist() == [CLASS_NAMES[k] for k in labels]
    expected = predict(images, sample_networks())
    for when, columns in COLUMNS.items():
        np.testing.assert_allclose(table[columns], expected.table[columns], atol=1e-5, err_msg=when)
    assert inputs.number == 6
    made = np.clip(np.rint(255 * expected.denoised), 0, 255).astype(int)
    if ending == "h5":
        with h5py.File(tmp_path / "out" / "denoised.h5") as file:
            found, scale = file["images"][...], file["pxscale"][...]
            assert file["ans"][...].tolist() == labels.tolist()
        assert scale == pytest.approx(0.262 * 8)
        assert denoised.labels.tolist() == labels.tolist()
    elif ending == "npz":
        with np.load(tmp_path / "out" / "denoised.npz") as file:
            found = file["images"]
            assert file["ra"].tolist() == list(range(6))
    else:
        rows = pd.read_parquet(tmp_path / "out" / "denoised.parquet")
        decoded = [cv2.imdecode(np.frombuffer(one["bytes"], np.uint8), cv2.IMREAD_COLOR) for one in rows["image"]]
        found = np.stack(decoded)[..., ::-1]
        assert rows["label"].tolist() == labels.tolist()
    assert np.abs(found - made).max() <= 1  # the last bit depends on the batch


def test_images_without_labels_have_none(tmp_path):
    np.savez(tmp_path / "bare.npz", images=large_images()[0])
    found = applied(tmp_path / "bare.npz", tmp_path / "out")
    assert "accuracy" not in found
    assert not (tmp_path / "out" / "confusion.png").exists()
    applied(write_parquet(tmp_path / "bare.parquet", labelled=False), tmp_path / "other")
    assert set(pd.read_parquet(tmp_path / "other" / "predictions.parquet")["label"]) == {""}


def test_a_fits_cutout_keeps_its_header_and_its_place_in_the_sky(tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.indices((300, 300)) - 149.5
    galaxy = 0.05 * np.exp(-np.hypot(x - 20, y - 40) / 9) + rng.normal(0, 1e-4, (3, 300, 300))
    path = write_fits(tmp_path / "one.fits", galaxy.astype(np.float32), scale=0.262)
    applied(path, tmp_path / "out")
    made = tmp_path / "out" / "denoised" / "one.fits"
    with fits.open(path) as before, fits.open(made) as after:
        header = after[0].header
        assert after[0].data.shape == (3, 32, 32)
        assert header["OBJECT"] == "a galaxy"
        assert "galaxynb" in str(header["HISTORY"])
        old, new = (WCS(one[0].header).celestial for one in (before, after))
    scale = proj_plane_pixel_scales(new)[0] * 3600
    # The part that the networks see is 256 px of the original.
    assert scale == pytest.approx(0.262 * 256 / 32)
    middle = old.pixel_to_world(149.5, 149.5)
    assert new.pixel_to_world(15.5, 15.5).separation(middle).arcsec < 0.01
    assert new.pixel_to_world(31.5, 31.5).separation(old.pixel_to_world(277.5, 277.5)).arcsec < 0.01


def test_an_image_with_another_pixel_scale_is_cut_to_the_same_field(tmp_path):
    wide = open_inputs(write_fits(tmp_path / "wide.fits", np.full((3, 400, 400), 0.01, np.float32)))
    narrow = open_inputs(write_fits(tmp_path / "narrow.fits", np.full((3, 100, 100), 0.01, np.float32)))
    unknown = open_inputs(write_fits(tmp_path / "unknown.fits", np.full((3, 100, 100), 0.01, np.float32), scale=None))
    found = {}
    for name, inputs in {"wide": wide, "narrow": narrow, "unknown": unknown}.items():
        ((_, found[name]),) = inputs.read(0, 1, 32)
    assert found["wide"][1:] == (256, "")
    assert found["narrow"][1:] == (100, "its field of view is 26 arcsec, but the networks know 67 arcsec")
    assert found["unknown"][1:] == (100, "")
    # Large galaxies of Galaxy10 have twice the field.
    image = np.zeros((256, 256, 3), np.uint8)
    parts = {fields: prepare(image, 0.262 * fields, side=32).part for fields in (1, 1.05, 1.5, 2, 2.5)}
    assert parts == {1: 256, 1.05: 256, 1.5: 170, 2: 256, 2.5: 102}
    for scale in (0, -1, np.inf, np.nan):
        assert prepare(image, scale, side=32)[1:] == (256, "")


def test_without_a_wcs_a_fits_cutout_is_taken_to_show_the_field_of_the_training_images(tmp_path):
    flux = np.random.default_rng(3).uniform(0, 0.05, (3, 64, 64)).astype(np.float32)
    known, unknown = (
        read_cutout(write_fits(tmp_path / f"{scale}.fits", flux, scale=scale))[0] for scale in (FIELD / 64, None)
    )
    np.testing.assert_allclose(unknown, known, rtol=1e-4)
    # The same fluxes per pixel on pixels of the survey's size are 16 times as bright.
    assert read_cutout(write_fits(tmp_path / "fine.fits", flux, scale=0.262))[0].mean() > 1.5 * known.mean()


def test_the_page_shows_images_from_all_parts_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr("galaxynb.apply.page._SHOWN", 4)
    monkeypatch.setattr("galaxynb.apply.run._PIECE", 5)
    path = tmp_path / "many.npz"
    np.savez(path, images=large_images(13, 64)[0], labels=np.arange(13) % 10)
    applied(path, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "shows 4 of 13 images, evenly spread" in page
    names = pd.read_csv(tmp_path / "out" / "predictions.csv")["file"]
    assert [f'<td class="file">{name}</td>' in page for name in names] == [row in (0, 4, 8, 12) for row in range(13)]
    assert page.count('<img src="data:') == 3 * 4


def test_a_fits_cutout_is_not_turned_and_keeps_its_light(tmp_path):
    """With networks that change nothing, what comes out is what went in, on larger pixels."""
    y, x = np.indices((256, 256)) - 127.5
    flux = np.stack([share * np.exp(-np.hypot(x - 40, y - 60) / 9) for share in (0.01, 0.02, 0.03)]).astype(np.float32)
    inputs = keras.Input((32, 32, 3))
    nothing = keras.Model(inputs, keras.layers.Identity()(inputs))
    networks = dataclasses.replace(sample_networks(), autoencoder=nothing)
    for scale in (0.262, None):
        path = write_fits(tmp_path / f"{scale}.fits", flux, scale=scale)
        apply_images(path, tmp_path / f"out {scale}", networks, progress=False)
        made = fits.getdata(tmp_path / f"out {scale}" / "denoised" / path.name)
        coarse = flux.reshape(3, 32, 8, 32, 8).sum((2, 4))
        assert np.unravel_index(made[1].argmax(), (32, 32)) == np.unravel_index(coarse[1].argmax(), (32, 32))
        # The colours are not linear in the flux, so the mean over a pixel loses some light where it is peaked.
        outside = coarse[1] < coarse[1].max() / 5
        np.testing.assert_allclose(made[:, outside].sum(1), coarse[:, outside].sum(1), rtol=0.05)


def test_a_header_that_cannot_be_written_is_a_flag_and_stops_no_others(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("a", "b"):
        write_fits(folder / f"{name}.fits", np.full((3, 64, 64), 0.01, np.float32), scale=None)
    with fits.open(folder / "a.fits", mode="update") as hdus:
        hdus[0].header["CRPIX1"] = fits.card.UNDEFINED
    applied(folder, tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet").set_index("file")
    assert "its denoised image is not written" in table.loc["a.fits", "flag"]
    assert "not written" not in table.loc["b.fits", "flag"]
    assert [path.name for path in (tmp_path / "out" / "denoised").iterdir()] == ["b.fits"]


def test_a_survey_file_needs_images_only_and_keeps_its_scale_right(tmp_path):
    images = np.stack([cv2.resize(image, (256, 256)) for image in large_images(4)[0]])
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["images"] = images
        file["pxscale"] = [0.262, 0.4, 0.524, np.nan]
        file.attrs["galaxynb_standin"] = "a stand-in"
    found = applied(tmp_path / "bare.h5", tmp_path / "out")
    assert (found["number"], "accuracy" in found) == (4, False)
    with h5py.File(tmp_path / "out" / "denoised.h5") as file:
        assert file["pxscale"][...] == pytest.approx([0.262 * 8, 0.4 * 168 / 32, 0.524 * 8, np.nan], nan_ok=True)
        assert file.attrs["galaxynb_standin"] == "a stand-in"
        assert file["usable"][...].all()


def test_images_of_a_damaged_part_of_a_file_are_faults(tmp_path):
    path = tmp_path / "some.h5"
    images, _ = large_images(6)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(1, 64, 64, 3), compression="gzip")
        offset = file["images"].id.get_chunk_info(3).byte_offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"damaged")
    applied(path, tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert ["in a damaged part of the file" in text for text in table["fault"]] == [k == 3 for k in range(6)]
    with h5py.File(tmp_path / "out" / "denoised.h5") as file:
        assert file["usable"][...].tolist() == [k != 3 for k in range(6)]


def test_labels_that_are_no_classes_are_unknown(tmp_path):
    images = large_images(3)[0]
    for name, labels in {"other": [-1, 3, 77], "floats": [0.5, 1.0, 2.0], "none": [99, 98, 97]}.items():
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    assert open_inputs(tmp_path / "other.npz").labels.tolist() == [-1, 3, -1]
    assert open_inputs(tmp_path / "floats.npz").labels is None
    assert open_inputs(tmp_path / "none.npz").labels is None


def test_links_in_circles_and_names_in_other_encodings_do_no_harm(tmp_path):
    folder = write_folder(tmp_path / "mine")
    (folder / CLASSES[0] / "loop").symlink_to(folder)
    odd = os.fsencode(folder) + b"/gal\xe9xie.png"
    shutil.copy(folder / CLASSES[0] / "same.png", odd)
    applied(folder, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert len(table) == 7
    assert "gal\\xe9xie.png" in set(table["file"])
    assert os.path.exists(os.fsencode(tmp_path / "out" / "denoised") + b"/gal\xe9xie.png")  # noqa: PTH110


def bad_images(folder):
    """Write one good image and one of each kind of bad ones; return the expected faults by name."""
    folder.mkdir()
    good = large_images()[0][0]
    Image.fromarray(good).save(folder / "good.png")
    (folder / "text.png").write_text("I am no image")
    (folder / "empty.png").write_bytes(b"")
    Image.fromarray(good).save(folder / "whole.jpg", quality=95)
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:700])
    (folder / "whole.jpg").unlink()
    Image.fromarray(good[:40]).save(folder / "flat.png")
    Image.fromarray(good[:20, :20]).save(folder / "small.png")
    Image.new("L", (10_000, 10_000)).save(folder / "huge.png")
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(folder / "deep.png")
    fits.PrimaryHDU().writeto(folder / "nothing.fits")
    write_fits(folder / "band.fits", np.zeros((64, 64), np.float32))
    write_fits(folder / "nan.fits", np.full((3, 64, 64), np.nan, np.float32))
    write_fits(folder / "flat.fits", np.zeros((3, 64, 80), np.float32))
    (folder / "broken.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 3000)
    (folder / "dead.png").symlink_to(folder / "missing.png")
    return {
        "text.png": "is no PNG or JPEG image",
        "empty.png": "is empty (0 bytes)",
        "cut.jpg": "is truncated",
        "flat.png": "is 64 x 40 px, but a square is needed: crop it",
        "small.png": "is 20 px, but at least 64 px are needed: give a larger cutout",
        "huge.png": "has too many pixels",
        "deep.png": "is 16-bit",
        "nothing.fits": "holds no image, but one of shape (3, H, H) is needed",
        "band.fits": "has 1 band, but g, r and z are needed: store an array of shape (3, H, H)",
        "nan.fits": "has NaN or infinity in 12,288 of 12,288 values, but finite fluxes are needed",
        "flat.fits": "is 80 x 64 px, but a square is needed: crop it",
        "broken.fits": "is ",
        "dead.png": "is not readable (No such file or directory)",
    }


def test_bad_images_are_listed_with_a_sentence_and_stop_no_others(tmp_path):
    faults = bad_images(tmp_path / "mine")
    found = applied(tmp_path / "mine", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False).set_index("file")
    assert set(table.index) == {"good.png", *faults}
    for name, fault in faults.items():
        assert fault in table.loc[name, "fault"], name
        assert table.loc[name, "after"] == ""
    assert table.loc["good.png", "fault"] == ""
    assert table.loc["good.png", "after"] in CLASS_NAMES
    assert (found["number"], found["unusable"]) == (len(faults) + 1, len(faults))
    assert [path.name for path in (tmp_path / "out" / "denoised").iterdir()] == ["good.png"]
    assert found["sentences"][1].startswith(f"{len(faults)} images, such as these, could not be used: ")
    assert found["sentences"][1].count(" (it ") == 5
    page = (tmp_path / "out" / "index.html").read_text()
    assert "not used: it is truncated" in page
    assert "Known class" not in page
    assert ">Flag<" in page


def test_a_folder_of_bad_images_alone_has_a_page_too(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "text.png").write_text("no image")
    assert applied(tmp_path / "mine", tmp_path / "out")["sentences"] == [
        "0 of 1 image could be used.",
        "These could not be used: text.png (it is no PNG or JPEG image).",
    ]
    assert (tmp_path / "out" / "index.html").is_file()


def test_folders_without_images_and_missing_ones_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image, but some are needed"):
        applied(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="is missing"):
        applied(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_goes_on_and_gives_the_same_table(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "_PIECE", 2)
    folder = write_folder(tmp_path / "mine")
    applied(folder, tmp_path / "whole")
    made = []

    def stop_after_two(*arguments, piece, **options):
        if piece == 2 and not made:
            made.append(piece)
            raise KeyboardInterrupt
        return apply_piece(*arguments, piece=piece, **options)

    monkeypatch.setattr(program, "apply_piece", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        applied(folder, tmp_path / "out")
    first = (tmp_path / "out" / "pieces" / "000000.parquet").stat().st_mtime_ns
    seen = []
    monkeypatch.setattr(
        program,
        "join_pieces",
        lambda inputs, out, *rest, **more: (
            seen.append((out / "pieces" / "000000.parquet").stat().st_mtime_ns),
            join_pieces(inputs, out, *rest, **more),
        )[1],
    )
    applied(folder, tmp_path / "out")
    assert seen == [first]
    for name in ("predictions.parquet", "predictions.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "out" / "pieces").exists()


def test_changed_images_are_worked_on_anew_and_other_images_are_refused(tmp_path):
    folder, out = write_folder(tmp_path / "mine"), tmp_path / "out"
    first = applied(folder, out)
    with mock.patch.object(program, "apply_piece", side_effect=AssertionError("nothing is left to do")):
        assert applied(folder, out) == first
    (out / "notes.txt").write_text("mine")
    shutil.copy(folder / CLASSES[0] / "same.png", folder / "more.png")
    assert applied(folder, out)["number"] == 7
    assert len(pd.read_csv(out / "predictions.csv")) == 7
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="holds the results of other images"):
        applied(write_npz(tmp_path / "some.npz"), out)
    with pytest.raises(ValueError, match="holds the results of other networks"):
        apply_images(folder, out, dataclasses.replace(sample_networks(), digest="other"), progress=False)
    before = listing(folder)
    for place in (folder, folder / "out"):
        with pytest.raises(ValueError, match="is within IMAGES"):
            applied(folder, place)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds other files"):
        applied(folder, tmp_path / "full")
    assert listing(folder) == before
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_two_at_once_do_not_mix(tmp_path):
    folder = write_folder(tmp_path / "mine")
    (tmp_path / "out").mkdir()
    for shared in (False, True):
        with (
            in_use(tmp_path / "out", shared=shared),
            pytest.raises(BlockingIOError, match="is in use by another process"),
        ):
            applied(folder, tmp_path / "out")
    assert applied(folder, tmp_path / "out")["number"] == 6


def test_pieces_made_apart_give_the_same_as_one_run(tmp_path):
    path, networks = write_hdf5(tmp_path / "some.h5"), sample_networks()
    applied(path, tmp_path / "whole")
    inputs, out = open_inputs(path), tmp_path / "out"
    plan = make_plan(inputs, out, networks, pieces=4)
    assert plan["pieces"] == 4
    for piece in (2, 0, 3, 1):
        apply_piece(inputs, out, networks, piece=piece, plan=plan)
    join_pieces(inputs, out, networks, plan=plan)
    one, other = (pd.read_parquet(folder / "predictions.parquet") for folder in (out, tmp_path / "whole"))
    pd.testing.assert_frame_equal(one, other, atol=1e-5)
    assert make_plan(inputs, tmp_path / "few", networks, pieces=9)["pieces"] == 6
    assert make_plan(inputs, tmp_path / "few", networks)["pieces"] == 6  # an earlier plan stays
    assert read_plan(inputs, tmp_path / "few", networks)["number"] == 6
    with pytest.raises(ValueError, match="the images or networks have changed"):
        read_plan(inputs, tmp_path / "few", dataclasses.replace(networks, digest="other"))


@pytest.mark.parametrize("write", [write_folder, write_hdf5])
def test_blocks_keep_their_order_while_a_thread_writes_them(write, tmp_path, monkeypatch):
    images = write(tmp_path / ("mine" if write is write_folder else "mine.h5"))
    applied(images, tmp_path / "whole")
    monkeypatch.setattr(program, "_AT_ONCE", 2)
    monkeypatch.setattr(program, "_PIECE", 3)
    applied(images, tmp_path / "blocks")
    whole, blocks = (pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("whole", "blocks"))
    pd.testing.assert_frame_equal(whole, blocks, atol=1e-5)


def test_a_disk_that_is_full_stops_the_call_and_the_next_one_goes_on(tmp_path, monkeypatch):
    folder, out, seen = write_folder(tmp_path / "mine"), tmp_path / "out", []
    written = program._written

    def full(inputs, out, row, part, image):
        seen.append(row)
        if len(seen) == 4:
            raise OSError(28, "No space left on device")
        return written(inputs, out, row, part, image)

    monkeypatch.setattr(program, "_AT_ONCE", 2)
    monkeypatch.setattr(program, "_written", full)
    with pytest.raises(OSError, match="No space left on device"):
        applied(folder, out)
    assert not list(out.rglob("*.parquet"))
    monkeypatch.undo()
    applied(folder, out)
    applied(folder, tmp_path / "other")
    one, other = (pd.read_parquet(place / "predictions.parquet") for place in (out, tmp_path / "other"))
    pd.testing.assert_frame_equal(one, other, atol=1e-5)
