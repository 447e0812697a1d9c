"""Closeness: samples are even over classes, images depend on the seed, and both kinds of comparison are right."""

import cv2
import numpy as np
import pandas as pd
import pytest

from galaxynb.data.catalog import load_catalog
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.standin.closeness import (
    CLOSE_BELOW,
    JUDGED,
    Closeness,
    Sample,
    _short,
    choose_sample,
    closeness_by_class,
    closeness_verdict,
    compare_sample,
    count_close_pairs,
    distances_by_class,
    draw_like,
    measure_sample,
    overall_closeness,
    readable_closeness,
)
from galaxynb.standin.field import BASE
from galaxynb.standin.measure import (
    QUANTITIES,
    as_jpeg,
    compare_images,
    measure_cutouts,
    published_measurements,
    same_within,
)


@pytest.fixture
def catalog(tiny_galaxy10, tmp_path):
    """Return the catalogue of a file of 23 images of four classes, without truth."""
    labels = np.repeat([0, 1, 4, 9], [10, 1, 4, 8]).astype(np.uint8)
    return load_catalog(tiny_galaxy10(tmp_path / "tiny.h5", n=len(labels), labels=labels))


@pytest.fixture(scope="module")
def drawn():
    """Return a stand-in sample of two galaxies per class at the published size."""
    labels = np.repeat(np.arange(10), 2)
    return Sample(draw_like(labels, seed=3), labels, np.full(20, np.nan), "standin")


@pytest.fixture(scope="module")
def table(drawn):
    return measure_sample(drawn)


@pytest.mark.parametrize(
    ("n", "counts"), [(4, [1, 1, 1, 1]), (11, [4, 1, 3, 3]), (20, [8, 1, 4, 7]), (99, [10, 1, 4, 8])]
)
def test_sample_is_even_over_classes_as_far_as_they_reach(catalog, n, counts):
    sample = choose_sample(catalog, n, seed=1)
    assert np.abs(np.bincount(sample.labels, minlength=10)[[0, 1, 4, 9]] - counts).max() <= 1
    assert len(sample.images) == len(sample.redshift) == min(n, 23)
    assert (np.diff(sample.labels.astype(int)) >= 0).all()
    assert sample.kind == "real"


def test_sample_depends_on_the_seed_alone(catalog):
    one, same, other = (choose_sample(catalog, 8, seed=seed) for seed in (1, 1, 2))
    assert (one.images == same.images).all()
    assert (one.images != other.images).any()
    with pytest.raises(ValueError, match="n is 0, but at least one image is needed: give"):
        choose_sample(catalog, 0)


def test_draw_depends_on_seed_place_and_class():
    one = draw_like([2, 8], seed=5, size=64)
    assert (one == draw_like([2, 8], seed=5, size=64)).all()
    assert (one[:1] == draw_like([2], seed=5, size=64)).all()
    assert (one != draw_like([2, 8], seed=6, size=64)).any()
    assert (one[1] != draw_like([2, 2], seed=5, size=64)[1]).any()
    assert draw_like([2], seed=[5, 1], size=64, shrunk=32).shape == (1, 32, 32, 3)


def test_drawn_images_pass_through_jpeg_before_they_are_shrunk():
    plain = draw_like([2, 8], seed=5, size=64)
    assert (draw_like([2, 8], seed=5, size=64, jpeg=True) == as_jpeg(plain)).all()
    shrunk = draw_like([2, 8], seed=5, size=64, shrunk=32, jpeg=True)
    assert (shrunk == [cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in as_jpeg(plain)]).all()


def test_measured_holds_class_colour_and_redshift(table, drawn):
    assert (table["label"] == drawn.labels).all()
    assert table["colour"].to_numpy() == pytest.approx((table["centre_r"] / table["centre_b"]).to_numpy())
    assert table["redshift"].isna().all()
    jpeg = measure_cutouts(as_jpeg(drawn.images[:2]))
    assert table["sky_std_b"].to_numpy()[:2] == pytest.approx(jpeg["sky_std_b"].to_numpy())


def test_a_standin_is_compared_with_the_published_images(table, drawn):
    close = compare_sample(drawn, table)
    assert (close.other, close.standin) == ("published", None)
    theirs = published_measurements()
    expected = compare_images(table, theirs, labels_a=drawn.labels, labels_b=theirs["class"])
    pd.testing.assert_frame_equal(close.table.set_axis(expected.columns, axis=1), expected)
    assert close.table.columns[-2:].tolist() == ["Number (stand-in)", "Number (published)"]
    first, _ = closeness_verdict(close)
    assert "the stand-in (2 images per class) and the published images (48 to 51);" in first


def test_a_standin_of_another_size_is_drawn_anew_at_the_published_one(catalog):
    sample = choose_sample(catalog, 4)._replace(kind="standin")
    close = compare_sample(sample, measure_sample(sample), seed=2)
    seen = measure_cutouts(as_jpeg(draw_like(sample.labels, seed=2, size=BASE)))
    row = close.table.set_index(["Quantity", "Class"]).loc[("Mean", "all")]
    assert row["50% (stand-in)"] == pytest.approx(seen["mean"].median())


def test_a_real_file_is_compared_with_a_standin_of_its_size_and_classes(table, drawn):
    close = compare_sample(drawn._replace(kind="real"), table, seed=3)
    assert close.other == "this file"
    # This "real" sample was drawn with the same seed, so every ratio is 1.
    assert (close.standin == drawn.images).all()
    known = close.table[np.isfinite(close.table["Median ratio"])]
    assert known["Median ratio"].to_numpy() == pytest.approx(1)
    assert close.table["KS distance"].dropna().eq(0).all()
    pairs = count_close_pairs(close).set_index("Quantity")
    assert (pairs["Close"] == pairs["Pairs"]).all()
    first, second = closeness_verdict(close)
    assert first.startswith("Of 50 pairs of a class and a quantity, 50 have a Kolmogorov-Smirnov distance below 0.20")
    assert "and this file (2);" in first
    assert second.startswith("By quantity: galaxy size 10 of 10, galaxy axis ratio 10 of 10,")


@pytest.fixture(scope="module")
def half():
    """Return the comparison of half of the published images with the other half, as if those were a stand-in."""
    theirs = published_measurements()
    even = np.arange(len(theirs)) % 2 == 0
    labels = theirs["class"]
    table = compare_images(theirs[even], theirs[~even], labels_a=labels[even], labels_b=labels[~even])
    table.columns = table.columns.str.replace("(a)", "(stand-in)").str.replace("(b)", "(published)")
    return Closeness(table, "published", None)


def test_two_halves_of_the_published_images_are_as_close_as_expected(half):
    """Neighbouring rows of one file are two samples of one distribution."""
    *each, total = count_close_pairs(half).to_dict("records")
    assert [row["Quantity"] for row in each] == [QUANTITIES[column] for column in JUDGED]
    assert (sum(row["Pairs"] for row in each), total["Pairs"]) == (50, 50)
    assert sum(row["Close"] for row in each) == total["Close"]
    assert sum(row["Expected"] for row in each) == pytest.approx(total["Expected"])
    assert total["Expected"] == pytest.approx(50 * same_within(CLOSE_BELOW, 25, 25), abs=2)
    assert total["Close"] == pytest.approx(total["Expected"], abs=12)


def test_distances_by_class_are_those_of_the_table(half):
    distances = distances_by_class(half)
    assert distances["Class"].tolist() == list(CLASS_NAMES)
    rows = half.table.set_index(["Quantity", "Class"])["KS distance"]
    titles = [QUANTITIES[column] for column in JUDGED]
    assert distances.columns.tolist() == ["Class", *titles, "Stand-in", "Published"]
    for title in titles:
        assert distances[title].tolist() == [rows[title, name] for name in CLASS_NAMES]
    assert distances[["Stand-in", "Published"]].isin(range(23, 27)).all(axis=None)
    below = (distances[titles] < CLOSE_BELOW - 1e-9).sum()
    assert count_close_pairs(half).set_index("Quantity")["Close"][titles].tolist() == below.tolist()


def test_a_distance_at_the_limit_is_not_close(half):
    table = half.table.assign(**{"KS distance": 0.1 + 0.1})
    assert count_close_pairs(half._replace(table=table))["Close"].tolist() == [0] * 6
    table = half.table.assign(**{"KS distance": 0.19})
    assert count_close_pairs(half._replace(table=table))["Close"].tolist() == [10] * 5 + [50]


def test_a_class_that_one_side_lacks_makes_no_pair(half):
    lacking = half.table["Class"] == CLASS_NAMES[3]
    table = half.table.assign(**{"KS distance": half.table["KS distance"].mask(lacking)})
    assert count_close_pairs(half._replace(table=table))["Pairs"].tolist() == [9] * 5 + [45]


def test_images_too_small_to_measure_are_not_and_say_so(tiny_galaxy10, tmp_path):
    sample = choose_sample(load_catalog(tiny_galaxy10(tmp_path / "tiny.h5", size=48)), 10)
    table = measure_sample(sample)
    assert table["size"].isna().all()
    close = compare_sample(sample, table)
    assert closeness_verdict(close)[1] == "Images of under 64 px are too small to measure."
    assert (overall_closeness(close)["Stand-in"] == "").all()
    assert distances_by_class(close)["Galaxy size (px)"].isna().all()


def test_tables_for_reading_are_text_of_median_and_range(table, drawn):
    close = compare_sample(drawn, table)
    overall, classes = overall_closeness(close).set_index("Quantity"), closeness_by_class(close)
    median, low, high = published_measurements()["sky_std_r"].quantile([0.5, 0.1, 0.9])
    assert overall.loc["Sky noise R", "Published"] == f"{median:.3g} ({low:.3g} to {high:.3g})"
    distance = close.table.set_index(["Quantity", "Class"]).loc[("Sky noise R", "all"), "KS distance"]
    assert overall.loc["Sky noise R", "KS distance"] == f"{distance:.2f}"
    assert classes["Class"].tolist() == list(CLASS_NAMES)
    rounds = published_measurements().query("`class` == 2")
    assert classes.loc[2, "Axis ratio: published"].startswith(f"{rounds['axis_ratio'].median():.3g} (")
    assert classes.loc[2, "ln(R/B): published"] == f"{rounds['galaxy_rb'].median():.3g}"
    assert len(readable_closeness(close)) == len(close.table)
    assert all(pd.api.types.is_string_dtype(readable_closeness(close)[name]) for name in ("Published", "KS distance"))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0701, "0.07"), (0.5049, "0.505"), (35.43, "35.4"), (1234.5, "1234"), (np.nan, "")]
)
def test_numbers_have_three_digits(value, text):
    assert _short(value) == text


def test_the_real_sample_is_measured(real_sample):
    sample = choose_sample(load_catalog(real_sample), 10)
    assert sample.labels.tolist() == list(range(10))
    assert measure_sample(sample)["size"].between(3, 100).all()
