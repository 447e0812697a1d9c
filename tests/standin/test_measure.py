"""Measurements return the sky, sources and galaxies that images were made from, and refuse invalid input."""

import subprocess
import sys

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.stats import sigma_clipped_stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from galaxynb.data.catalog import load_catalog
from galaxynb.data.galaxy10 import CLASS_COUNTS, CLASS_NAMES
from galaxynb.standin.measure import (
    QUANTITIES,
    as_jpeg,
    compare_images,
    find_sources,
    measure_cutouts,
    neighbour_accuracy,
    published_measurements,
    same_within,
)

SIDE = 256
SKY = (35.0, 33.0, 31.0)
GALAXY = ("size", "axis_ratio")


def blob(sigma, axis_ratio=1.0, angle=0.0, peak=150.0, at=None, side=SIDE):
    """Return a Gaussian of `sigma` px along its major axis: (side, side)."""
    x0, y0 = at or ((side - 1) / 2, (side - 1) / 2)
    y, x = np.mgrid[:side, :side]
    along = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    across = (y - y0) * np.cos(angle) - (x - x0) * np.sin(angle)
    return peak * np.exp(-(along**2 + (across / axis_ratio) ** 2) / (2 * sigma**2))


def picture(*light, noise=2.0, seed=0, sky=SKY, side=SIDE):
    """Return light on a noisy sky as one image: (side, side, 3) uint8."""
    rng = np.random.default_rng(seed)
    seen = np.asarray(sky) + noise * rng.standard_normal((side, side, 3))
    seen += np.sum([np.zeros((side, side)), *light], axis=0)[..., np.newaxis]
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def one(image):
    """Return the row that `measure_cutouts` gives for one image."""
    return measure_cutouts(image[np.newaxis]).iloc[0]


def field(n=12, seed=0):
    """Return images with a galaxy and a few stars each, and classes 0 to 9."""
    rng = np.random.default_rng(seed)
    images = []
    for k in range(n):
        stars = [blob(1.8, at=tuple(rng.uniform(20, 100, 2)), peak=rng.uniform(40, 180), side=128) for _ in range(3)]
        galaxy = blob(rng.uniform(4, 12), rng.uniform(0.4, 1), rng.uniform(0, 3), side=128)
        images.append(picture(galaxy, *stars, noise=rng.uniform(4, 8), seed=k, side=128))
    return np.stack(images), np.arange(n) % 10


def test_a_plain_sky_has_its_level_noise_and_nothing_else():
    seen = one(picture(noise=6))
    for band, level in zip("rgb", SKY, strict=True):
        assert seen[f"sky_{band}"] == pytest.approx(level, abs=0.15)
        assert seen[f"sky_std_{band}"] == pytest.approx(6, rel=0.03)
        assert seen[f"mean_{band}"] == pytest.approx(level / 255, abs=0.001)
        assert seen[f"std_{band}"] == pytest.approx(6 / 255, rel=0.03)
        assert all(abs(seen[f"corr{lag}_{band}"]) < 0.02 for lag in (1, 2, 3))
    assert seen["mean"] == pytest.approx(33, abs=0.1)
    assert seen["n_sources"] == seen["n_bright"] == 0
    assert seen["source_fwhms"] == ()
    assert seen[["source_fwhm", *GALAXY, "brightness", "concentration", "asymmetry"]].isna().all()


def test_clipping_is_that_of_astropy():
    image = field(1)[0][0]
    seen = one(image)
    for k, band in enumerate("rgb"):
        mean, _, std = sigma_clipped_stats(image[..., k], sigma=3, maxiters=None)
        assert (seen[f"sky_{band}"], seen[f"sky_std_{band}"]) == pytest.approx((mean, std))


@pytest.mark.parametrize("width", [0.6, 1.0])
def test_correlated_noise_has_its_correlation_beside_galaxy_and_stars(width):
    rng = np.random.default_rng(1)
    noise = np.stack([cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)), (0, 0), width) for _ in range(3)], axis=-1)
    light = blob(10) + blob(2, at=(40, 60), peak=120) + blob(2, at=(200, 180), peak=90)
    image = np.clip(np.rint(np.array(SKY) + 8 * noise / noise.std() + light[..., np.newaxis]), 0, 255).astype(np.uint8)
    kernel = cv2.getGaussianKernel(2 * round(4 * width) + 1, width).ravel()
    seen = one(image)
    for lag in (1, 2, 3):
        expected = (kernel[lag:] @ kernel[:-lag]) / (kernel @ kernel)
        for band in "rgb":
            assert seen[f"corr{lag}_{band}"] == pytest.approx(expected, abs=0.04)


def test_sources_are_found_where_they_are_with_their_width():
    stars = {(50.0, 60.0): 180.0, (190.5, 70.2): 140.0, (80.3, 200.7): 100.0, (128.0, 30.0): 60.0}
    fwhm = 5.0
    image = picture(blob(8), *[blob(fwhm / 2.3548, peak=peak, at=at) for at, peak in stars.items()])
    found = find_sources(image)
    assert list(found["peak"]) == sorted(found["peak"], reverse=True)
    np.testing.assert_allclose(found[["x", "y"]], list(stars), atol=0.15)
    np.testing.assert_allclose(found["peak"], list(stars.values()), rtol=0.08)
    np.testing.assert_allclose(found["fwhm"], fwhm, rtol=0.12)
    np.testing.assert_allclose(found["axis_ratio"], 1, atol=0.1)
    assert found["compact"].all()
    seen = one(image)
    assert (seen["n_sources"], seen["n_bright"]) == (4, 3)
    assert seen["source_fwhm"] == found["fwhm"].median()
    assert seen["source_fwhms"] == tuple(found["fwhm"])


def test_only_round_small_whole_sources_are_compact():
    image = picture(
        blob(8),
        blob(2, at=(60, 60), peak=160),
        blob(6, 0.3, at=(60, 190), peak=150),  # long
        blob(6, at=(190, 190), peak=140),  # wide
        blob(2, at=(255, 60), peak=130),  # cut off
    )
    assert list(find_sources(image)["compact"]) == [True, False, False, False]


@settings(max_examples=12, deadline=None)
@given(sigma=st.floats(3, 20), axis_ratio=st.floats(0.3, 1), angle=st.floats(0, np.pi))
def test_a_galaxy_of_known_moments_is_measured(sigma, axis_ratio, angle):
    """The threshold is a few counts of 200, so the light below it hardly changes the second moment of a Gaussian."""
    seen = one(picture(blob(sigma, axis_ratio, angle, peak=200), noise=1))
    assert seen["size"] == pytest.approx(sigma, rel=0.06)
    assert seen["axis_ratio"] == pytest.approx(axis_ratio, abs=0.04)
    assert seen["brightness"] == pytest.approx(200 * 2 * np.pi * sigma**2 * axis_ratio / 255, rel=0.06)


@settings(max_examples=8, deadline=None)
@given(sigma=st.floats(4, 9), axis_ratio=st.floats(0.4, 1), factor=st.floats(1.3, 2.5))
def test_size_scales_with_the_galaxy_and_nothing_else_does(sigma, axis_ratio, factor):
    small, large = (one(picture(blob(s, axis_ratio), noise=1)) for s in (sigma, factor * sigma))
    assert large["size"] / small["size"] == pytest.approx(factor, rel=0.05)
    assert large["axis_ratio"] == pytest.approx(small["axis_ratio"], abs=0.05)
    assert large["concentration"] == pytest.approx(small["concentration"], abs=0.2)


@settings(max_examples=8, deadline=None)
@given(sigma=st.floats(3, 20), axis_ratio=st.floats(0.2, 1), turns=st.integers(1, 3), seed=st.integers(0, 99))
def test_turning_and_mirroring_change_neither_size_nor_axis_ratio(sigma, axis_ratio, turns, seed):
    image = picture(blob(sigma, axis_ratio, 0.4), blob(2, at=(40, 60)), noise=6, seed=seed)
    names = [*GALAXY, "brightness", "galaxy_rb", "asymmetry", "concentration", "n_sources", "centre_r"]
    expected = pytest.approx(one(image)[names].tolist(), rel=1e-3, abs=1e-3)
    for other in (np.rot90(image, turns), image[:, ::-1]):
        assert one(np.ascontiguousarray(other))[names].tolist() == expected


def test_a_companion_is_not_the_galaxy():
    alone = one(picture(blob(6)))
    paired = one(picture(blob(6), blob(5, at=(150.0, 127.5), peak=140)))
    assert paired["size"] == pytest.approx(alone["size"], rel=0.15)


def test_asymmetry_tells_a_lopsided_galaxy_from_a_symmetric_one():
    even = one(picture(blob(8), noise=3))
    lopsided = one(picture(blob(8), blob(4, at=(139.0, 127.5), peak=90), noise=3))
    assert abs(even["asymmetry"]) < 0.05
    assert lopsided["asymmetry"] > even["asymmetry"] + 0.1


def test_concentration_is_that_of_the_profile():
    # Light within r of a Gaussian is 1 - exp(-r2 / 2 sigma2).
    expected = 5 * np.log10(np.sqrt(np.log(0.2) / np.log(0.8)))
    assert one(picture(blob(10, peak=200), noise=1))["concentration"] == pytest.approx(expected, abs=0.1)
    peaked = blob(20, peak=40) + blob(4, peak=180)
    assert one(picture(peaked, noise=1))["concentration"] > expected + 0.3


def test_the_centre_has_its_colour():
    image = picture(noise=0)
    image[122:134, 122:134] = (200, 150, 100)
    seen = one(image)
    assert tuple(seen[[f"centre_{band}" for band in "rgb"]]) == (200, 150, 100)


@settings(max_examples=8, deadline=None)
@given(sigma=st.floats(4, 15), red=st.floats(0.5, 2))
def test_the_colour_of_the_whole_galaxy_is_that_of_its_light_above_sky(sigma, red):
    light = blob(sigma, 0.7, peak=100)[..., np.newaxis] * [red, 1, 1]
    rng = np.random.default_rng(0)
    image = np.clip(np.rint(np.array(SKY) + light + rng.standard_normal((SIDE, SIDE, 3))), 0, 255).astype(np.uint8)
    assert one(image)["galaxy_rb"] == pytest.approx(np.log(red), abs=0.03)


def test_the_colour_of_the_galaxy_is_not_that_of_a_companion():
    galaxy, companion = blob(6), blob(5, at=(150.0, 127.5), peak=140)
    image = np.clip(np.array(SKY) + galaxy[..., None] + companion[..., None] * [1, 0.6, 0.2], 0, 255).astype(np.uint8)
    assert abs(one(image)["galaxy_rb"]) < 0.15


def test_a_galaxy_without_light_in_a_band_has_no_colour():
    light = blob(8)[..., np.newaxis] * [1, 1, -0.05]
    assert np.isnan(one(np.clip(np.array(SKY) + light, 0, 255).astype(np.uint8))["galaxy_rb"])


@pytest.mark.parametrize("value", [0, 7, 255])
def test_an_image_of_one_colour_is_measured_without_a_warning(value):
    seen = one(np.full((64, 64, 3), value, np.uint8))
    assert (seen["sky_r"], seen["sky_std_r"], seen["n_sources"]) == (value, 0, 0)
    assert seen[["corr1_r", "size", "source_fwhm"]].isna().all()


@pytest.mark.parametrize("shape", [(64, 64), (65, 100), (300, 128)])
def test_images_of_any_size_from_64_are_measured(shape):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *shape, 3), np.uint8)
    images[1, :40] = 255  # and with more light than sky
    assert len(measure_cutouts(images)) == 2
    assert len(find_sources(images[0])) >= 0


def test_each_image_is_measured_by_itself():
    images, _ = field(4)
    seen = measure_cutouts(images)
    assert list(seen.columns)[:1] == ["mean"]
    assert set(QUANTITIES) <= set(seen.columns)
    pd.testing.assert_frame_equal(measure_cutouts(images[2:]), seen[2:].reset_index(drop=True))
    assert measure_cutouts(images[:0]).columns.equals(seen.columns)
    assert len(measure_cutouts(images[:0])) == 0


def test_progress_shows_only_when_asked(capfd):
    images, _ = field(2)
    measure_cutouts(images)
    assert capfd.readouterr().err == ""
    measure_cutouts(images, progress=True)
    assert "2/2" in capfd.readouterr().err


def test_importing_the_module_loads_no_photutils():
    slow = ("photutils", "astropy", "sklearn")
    code = f"import sys, galaxynb.standin.measure; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_set_compares_with_itself_as_one():
    images, labels = field(20)
    table = compare_images(images, measure_cutouts(images), labels_a=labels, labels_b=labels)
    assert set(table["Class"]) == {"all", *CLASS_NAMES}
    assert set(table["Quantity"]) == set(QUANTITIES.values())
    assert (table[["Median ratio", "Spread ratio"]].to_numpy() == 1).all()
    assert (table["KS distance"] == 0).all()
    assert table["Number (a)"].equals(table["Number (b)"].rename("Number (a)"))
    sources = table[table["Quantity"] == "Off-centre sources"].set_index("Class")["Number (a)"]
    assert sources.to_dict() == {"all": 20} | dict.fromkeys(CLASS_NAMES, 2)
    for title in ("10%", "50%", "90%"):
        pd.testing.assert_series_equal(table[f"{title} (a)"], table[f"{title} (b)"], check_names=False)


def test_ratios_are_those_of_b_over_a():
    a = measure_cutouts(field(8)[0])
    b = a.assign(size=3 * a["size"], mean=a["mean"] + 5, source_fwhms=[(4.0, 4.0)] * 8)
    table = compare_images(a, b).set_index("Quantity")
    assert set(table["Class"]) == {"all"}
    assert tuple(table.loc["Galaxy size (px)", ["Median ratio", "Spread ratio"]]) == pytest.approx((3, 3))
    assert table.loc["Mean", "Spread ratio"] == pytest.approx(1)
    assert tuple(table.loc["Compact source FWHM (px)", ["50% (b)", "Spread ratio"]]) == (4, 0)
    assert table.loc["Galaxy size (px)", "90% (a)"] == pytest.approx(a["size"].quantile(0.9))


def test_a_class_that_a_set_lacks_stays_empty():
    images, labels = field(6)
    table = compare_images(images, images, labels_a=labels, labels_b=labels).set_index(["Quantity", "Class"])
    row = table.loc[("Galaxy size (px)", CLASS_NAMES[9])]
    assert row.drop(["Number (a)", "Number (b)"]).isna().all()
    assert (row["Number (a)"], row["Number (b)"]) == (0, 0)


MEASURED = published_measurements()


def distance(a, b):
    """Return the distances of all quantities over all images."""
    return compare_images(a, b).set_index("Quantity")["KS distance"]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n_a=st.integers(1, 60), n_b=st.integers(1, 60))
def test_the_distance_is_symmetric_in_its_range_and_blind_to_monotonic_changes(seed, n_a, n_b):
    rng = np.random.default_rng(seed)
    a, b = (MEASURED.iloc[rng.permutation(len(MEASURED))[:n]] for n in (n_a, n_b))
    one_way = distance(a, b)
    pd.testing.assert_series_equal(one_way, distance(b, a))
    assert one_way.dropna().between(0, 1).all()
    logarithm = distance(*(some.assign(size=np.log(some["size"])) for some in (a, b)))
    assert logarithm["Galaxy size (px)"] == pytest.approx(one_way["Galaxy size (px)"], abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 60))
def test_the_distance_of_the_same_is_0_and_of_what_does_not_overlap_is_1(seed, n):
    a = MEASURED.iloc[np.random.default_rng(seed).permutation(len(MEASURED))[:n]]
    assert (distance(a, a.iloc[::-1]).dropna() == 0).all()
    away = a.assign(size=a["size"] + 1000, source_fwhms=[tuple(f + 100 for f in fwhms) for fwhms in a["source_fwhms"]])
    apart = distance(a, away)
    assert apart["Galaxy size (px)"] == 1
    assert apart.drop(["Galaxy size (px)", "Compact source FWHM (px)"]).dropna().eq(0).all()


def test_the_distance_is_the_largest_difference_of_the_cumulated_shares():
    a, b = (MEASURED[:4].assign(size=sizes) for sizes in ([1.0, 2, 3, 4], [3.5, 5, 6, np.nan]))
    # Below 3.2, there are three of four values of a and none of b, and one of four images of b is not measured.
    assert distance(a, b)["Galaxy size (px)"] == pytest.approx(0.75)
    table = compare_images(a, b).set_index("Quantity")
    assert table.loc["Galaxy size (px)", ["Number (a)", "Number (b)"]].tolist() == [4, 3]


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (8, 40), (50, 50), (30, 150)])
def test_samples_of_one_distribution_come_within_a_limit_as_often_as_stated(n_a, n_b):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((400, n_a)), rng.standard_normal((400, n_b))
    found = [ks_2samp(a, b).statistic < 0.2 - 1e-9 for a, b in zip(*values, strict=True)]
    assert same_within(0.2, n_a, n_b) == pytest.approx(np.mean(found), abs=0.09)
    assert same_within(0.2, n_a, n_b) == same_within(0.2, n_a, n_b)
    assert same_within(0, n_a, n_b) == 0
    assert same_within(1.1, n_a, n_b) == 1


def test_the_published_measurements_are_those_of_many_images_of_each_class():
    columns = list(measure_cutouts(np.zeros((0, 64, 64, 3), np.uint8)))
    assert list(MEASURED.columns) == ["class", "row", *columns]
    assert MEASURED["class"].between(0, 9).all()
    assert (np.bincount(MEASURED["class"]) >= 45).all()
    rows = MEASURED["row"].dropna().astype(int)
    assert rows.is_unique
    ends = np.cumsum(CLASS_COUNTS)
    assert (np.searchsorted(ends, rows, side="right") == MEASURED["class"][rows.index]).all()
    known = MEASURED.drop(columns=["row", "source_fwhm", "source_fwhms"])
    assert np.isfinite(known.to_numpy(float)).all()
    for fwhms, median in zip(MEASURED["source_fwhms"], MEASURED["source_fwhm"], strict=True):
        assert np.isnan(median) if not fwhms else np.median(fwhms) == pytest.approx(median, rel=1e-3)


def test_the_published_measurements_are_repeated_on_the_images(real_images):
    """Three images of each class, so that the test is fast."""
    catalog = load_catalog(real_images)
    assert catalog.labels.tolist() == MEASURED["class"].tolist()
    rows = np.concatenate([np.flatnonzero(catalog.labels == k)[[0, 20, -1]] for k in range(10)])
    seen = measure_cutouts(as_jpeg(catalog.take(rows)))
    kept = MEASURED.iloc[rows].reset_index(drop=True)
    names = [f"row{row:05}" for row in kept["row"].dropna()]
    assert [catalog.files[k].stem for k in rows[kept["row"].notna()]] == names
    for column in seen.columns.drop("source_fwhms"):
        np.testing.assert_allclose(seen[column].to_numpy(float), kept[column].to_numpy(float), rtol=6e-4)
    assert [len(fwhms) for fwhms in seen["source_fwhms"]] == [len(fwhms) for fwhms in kept["source_fwhms"]]


def test_the_real_sample_comes_near_the_published_images(real_sample):
    """The sample has six images per class, from other copies of the published file."""
    with h5py.File(real_sample) as file:
        images, labels = file["images"][:], file["ans"][:]
    table = compare_images(measure_cutouts(as_jpeg(images)), MEASURED, labels_a=labels, labels_b=MEASURED["class"])
    table = table.set_index(["Quantity", "Class"])
    assert table.loc[("Galaxy axis ratio", "all"), "KS distance"] < 0.2
    axis_ratios = table.loc["Galaxy axis ratio"].drop("all")
    assert axis_ratios["50% (a)"].corr(axis_ratios["50% (b)"]) > 0.9


def test_jpeg_keeps_colours_and_blurs_noise_as_4_2_0_does():
    plain = np.full((1, 64, 64, 3), (200, 120, 40), np.uint8)
    np.testing.assert_allclose(as_jpeg(plain).astype(int), plain, atol=3)
    noisy = picture(noise=10, side=128)[np.newaxis]
    seen, before = (measure_cutouts(images).iloc[0] for images in (as_jpeg(noisy), noisy))
    assert before["corr1_r"] < 0.05 < 0.2 < seen["corr1_r"]
    # Chroma at half the resolution: a red line one pixel wide loses its colour, whatever the quality.
    lines = np.zeros((1, 64, 64, 3), np.uint8)
    lines[:, :, ::2, 0] = 255
    fine = as_jpeg(lines, quality=100)[0].astype(int)
    assert (fine[..., 0] - fine[..., 2]).std() < 60
    # With better quality the image is closer to the original.
    losses = [np.square(as_jpeg(noisy, quality=q).astype(float) - noisy).mean() for q in (30, 75, 100)]
    assert losses[0] > losses[1] > losses[2] > 0


def test_neighbours_tell_what_differs_and_guess_what_does_not():
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 2
    images = rng.integers(0, 100, (100, 40, 40, 3), np.uint8)
    apart = images + (100 * labels[:, None, None, None]).astype(np.uint8)
    test = {"test_labels": labels[60:], "test_images": apart[60:]}
    assert neighbour_accuracy(apart[:60], labels[:60], **test) == 1
    assert neighbour_accuracy(images[:60], labels[:60], **test | {"test_images": images[60:]}, n_neighbors=5) < 0.8
    assert neighbour_accuracy(apart[:60], labels[:60], test_images=apart[:1], test_labels=labels[1:2], size=8) == 0


IMAGES, LABELS = field(3)
MEANS = pd.DataFrame({"mean": [1.0]})


def compared(labels_a, labels_b):
    return compare_images(IMAGES, IMAGES, labels_a=labels_a, labels_b=labels_b)


def guessed(train=LABELS, images=IMAGES, labels=LABELS):
    return neighbour_accuracy(IMAGES, train, test_images=images, test_labels=labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure_cutouts(IMAGES / 255), "images is float64, but uint8 is needed"),
        (lambda: measure_cutouts(IMAGES[0]), r"images has shape \(128, 128, 3\), but \(N, H, W, 3\)"),
        (lambda: measure_cutouts(IMAGES[..., :1]), "images has shape"),
        (lambda: measure_cutouts(IMAGES[:, :63]), "H and W of 64 or more"),
        (lambda: find_sources(IMAGES), "image has shape .* give one RGB image"),
        (lambda: find_sources(IMAGES[0] / 255), "image is float64"),
        (lambda: compare_images(IMAGES / 255, IMAGES), "images_a is float64"),
        (lambda: compare_images(IMAGES, IMAGES[0]), "images_b has shape"),
        (lambda: compared(LABELS, None), "labels_b is missing, but labels of both sets or of neither are needed"),
        (lambda: compared(None, LABELS), "labels_a is missing"),
        (lambda: compared(LABELS[:2], LABELS), r"labels_a has shape \(2,\)"),
        (lambda: compared(LABELS, LABELS + 9), "a value of labels_b is no class, but integers 0 to 9 are needed"),
        (lambda: compare_images(IMAGES, MEANS), "images_b lacks the column mean_r, but all are needed"),
        (lambda: same_within(0.2, 0, 5), "the samples have 0 and 5 values, but 1 or more is needed"),
        (lambda: as_jpeg(IMAGES / 255), "images is float64"),
        (lambda: as_jpeg(IMAGES, quality=0), "quality is 0, but"),
        (lambda: guessed(images=IMAGES[0]), "test_images has shape"),
        (lambda: guessed(images=IMAGES[:0], labels=LABELS[:0]), "test_images is empty"),
        (lambda: guessed(train=LABELS[:1]), r"train_labels has shape \(1,\), but \(3,\) is needed"),
        (guessed, "n_neighbors is 20, but 1 to 3"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(TypeError if "float64" in message else ValueError, match=message):
        call()
