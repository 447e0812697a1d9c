"""Closeness: samples are even over classes, images depend on the seed, and both kinds of comparison are right."""

import numpy as np
import pytest

from galaxynb.data.catalog import load_catalog
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.standin.closeness import (
    Sample,
    _joined,
    _short,
    choose_sample,
    closeness_by_class,
    closeness_verdict,
    compare_sample,
    draw_like,
    measure_sample,
    overall_closeness,
    readable_closeness,
)
from galaxynb.standin.field import BASE
from galaxynb.standin.measure import against_published, as_jpeg, measure_cutouts


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


def test_measured_holds_class_colour_and_redshift(table, drawn):
    assert (table["label"] == drawn.labels).all()
    assert table["colour"].to_numpy() == pytest.approx((table["centre_r"] / table["centre_b"]).to_numpy())
    assert table["redshift"].isna().all()
    jpeg = measure_cutouts(as_jpeg(drawn.images[:2]))
    assert table["sky_std_b"].to_numpy()[:2] == pytest.approx(jpeg["sky_std_b"].to_numpy())


def test_a_standin_is_compared_with_the_published_figures(table, drawn):
    close = compare_sample(drawn, table)
    assert (close.other, close.standin) == ("published", None)
    judged = against_published(table, labels=drawn.labels)
    assert (close.table["Met"] == judged["Met"]).all()
    assert close.table["50% (stand-in)"].equals(judged["50%"].rename("50% (stand-in)"))
    first, second = closeness_verdict(close)
    met = int(judged["Met"].sum())
    assert first == f"The stand-in meets {met} of the {len(judged)} targets from the published figures."
    missed = judged.loc[~judged["Met"].astype(bool) & (judged["Class"] == "all"), "Quantity"]
    assert ("Sky G" in second) == ("Sky G" in set(missed))


def test_a_standin_of_another_size_is_drawn_anew_at_the_published_one(catalog):
    sample = choose_sample(catalog, 4)._replace(kind="standin")
    close = compare_sample(sample, measure_sample(sample), seed=2)
    seen = measure_cutouts(as_jpeg(draw_like(sample.labels, seed=2, size=BASE)))
    row = close.table.set_index(["Quantity", "Class"]).loc[("Mean", "all")]
    assert row["Mean (stand-in)"] == pytest.approx(seen["mean"].mean())


def test_a_real_file_is_compared_with_a_standin_of_its_size_and_classes(table, drawn):
    close = compare_sample(drawn._replace(kind="real"), table, seed=3)
    assert close.other == "this file"
    # This "real" sample was drawn with the same seed, so every ratio is 1.
    assert (close.standin == drawn.images).all()
    known = close.table[np.isfinite(close.table["Median ratio"])]
    assert known["Median ratio"].to_numpy() == pytest.approx(1)
    first, second = closeness_verdict(close)
    assert first.startswith("The stand-in has a median near that of this file")
    assert first.endswith(f"in {len(known)} of {len(known)} quantities.")
    assert second == "All quantities over all images agree."


def test_a_median_that_is_off_is_named(table, drawn):
    off = table.assign(sky_g=table["sky_g"] + 30, asymmetry=table["asymmetry"] + 0.001)
    first, second = closeness_verdict(compare_sample(drawn._replace(kind="real"), off, seed=3))
    assert second == "Over all images, these quantities do not agree: Sky G."
    found, asked = (int(number) for number in first.removesuffix(" quantities.").split(" in ")[-1].split(" of "))
    assert found == asked - 1


def test_images_too_small_to_measure_are_not_and_say_so(tiny_galaxy10, tmp_path):
    sample = choose_sample(load_catalog(tiny_galaxy10(tmp_path / "tiny.h5", size=48)), 10)
    table = measure_sample(sample)
    assert table["size"].isna().all()
    close = compare_sample(sample, table)
    assert closeness_verdict(close)[1] == "Images of under 64 px are too small to measure."
    assert (overall_closeness(close)["Stand-in"] == "").all()


def test_tables_for_reading_are_text_of_median_and_range(table, drawn):
    close = compare_sample(drawn, table)
    overall, classes = overall_closeness(close).set_index("Quantity"), closeness_by_class(close)
    assert overall.loc["Mean", "Published"] == "mean 40.8"
    assert overall.loc["Mean", "Stand-in"].startswith("mean ")
    assert overall.loc["Sky noise R", "Published"] == "11.7 (8 to 15)"
    assert set(overall["Met"]) <= {"yes", "no"}
    assert classes["Class"].tolist() == list(CLASS_NAMES)
    assert classes.loc[2, "Size, px: published"] == "10 (8–13)"
    assert classes.loc[0, "Centre R, G, B: published"] == "226, 218, 209"
    assert len(readable_closeness(close)) == len(close.table)


def test_bands_of_a_quantity_are_named_together():
    names = ["Sky R", "Sky B", "Sky correlation G, 2 px", "Off-centre sources"]
    assert _joined(names) == ["Sky R/B", "Sky correlation G, 2 px", "Off-centre sources"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0701, "0.07"), (0.5049, "0.505"), (35.43, "35.4"), (1234.5, "1234"), (np.nan, "")]
)
def test_numbers_have_three_digits(value, text):
    assert _short(value) == text


def test_the_real_sample_is_measured(real_sample):
    sample = choose_sample(load_catalog(real_sample), 10)
    assert sample.labels.tolist() == list(range(10))
    assert measure_sample(sample)["size"].between(3, 100).all()
