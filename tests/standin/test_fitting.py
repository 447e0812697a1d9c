"""Fit of ranges: weights turn wide draws into draws of other ranges, distances are scipy's, and shifts are found."""

import dataclasses
import importlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.standin.fitting import (
    FITTED,
    FITTED_QUANTITIES,
    _as_numbers,
    _cost,
    _from_numbers,
    _limits,
    _rounded,
    combined_quantities,
    draw_measured,
    drawn_parameters,
    effective_size,
    fit_ranges,
    importance_weights,
    ranges_code,
    weighted_ks_distance,
    widened_ranges,
)
from galaxynb.standin.galaxies import draw_galaxy
from galaxynb.standin.measure import published_measurements
from galaxynb.standin.ranges import CLASS_RANGES, ClassRanges

CLASSES = range(len(CLASS_NAMES))
# Ranges like those of Cigar Shaped Smooth, which later fits do not change.
PLAIN = ClassRanges(
    forms=(("spheroid", 1.0),),
    radius=(2.11, 5.62),
    axis_ratio=(0.2, 0.45),
    mu=(19.08, 22.8),
    old=(0.24, 1.13),
    sersic=(0.45, 1.1),
    clumps=(0.02, 0.2),
)
WIDE = widened_ranges(4, ranges=PLAIN)

samples = st.lists(st.integers(-5, 5) | st.floats(-5, 5), min_size=1, max_size=20)


def parameters(ranges, n, seed=0):
    """Return the parameters of galaxies drawn from ranges, without drawing their images."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame([drawn_parameters(draw_galaxy(rng, ranges)) for _ in range(n)])


def measured(drawn, seed=0):
    """Return parameters with measurements that follow simple formulas of them."""
    noise = np.random.default_rng([seed, 1]).normal(0, 0.05, (3, len(drawn)))
    flux = -0.92 * (drawn["drawn_mu"] - 20) + 2 * np.log(drawn["drawn_radius"])
    centre = 150 - 20 * (drawn["drawn_mu"] - 20)
    return drawn.assign(
        size=drawn["drawn_radius"] * np.exp(noise[0]),
        axis_ratio=drawn["drawn_axis_ratio"],
        brightness=np.exp(6 + flux + noise[1]),
        galaxy_rb=drawn["drawn_old"] + noise[2],
        concentration=2 + 0.3 * drawn["drawn_sersic"],
        asymmetry=0.1 * drawn["drawn_clumps"],
        centre_r=centre * np.exp(0.3 * drawn["drawn_old"]),
        centre_g=centre,
        centre_b=centre * np.exp(-0.3 * drawn["drawn_old"]),
    )


def young_for_old(drawn, ranges):
    """Return the colour of young stars without its dependence on that of old stars."""
    slope = 0.5 * (ranges.young[1] - ranges.young[0]) / (ranges.old[1] - ranges.old[0])
    return drawn["drawn_young"] - slope * drawn["drawn_old"]


DRAWN = measured(parameters(WIDE, 5))


# The weighted distance


def scipys_distance(values, others):
    with np.errstate(divide="ignore", invalid="ignore"):  # in the p-value of tiny samples
        return ks_2samp(values, others, method="asymp").statistic


@given(samples, samples)
def test_the_distance_with_equal_weights_is_scipys(values, others):
    distance = weighted_ks_distance(values, others, weights=np.full(len(values), 0.3))
    assert distance == pytest.approx(scipys_distance(values, others), abs=1e-12)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 4)), min_size=1, max_size=15), samples)
def test_a_whole_weight_counts_as_repeats(weighted, others):
    values, weights = np.transpose(weighted)
    repeated = np.repeat(values, weights)
    distance = weighted_ks_distance(values, others, weights=weights)
    assert distance == pytest.approx(scipys_distance(repeated, others), abs=1e-12)


@given(samples, samples, st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_the_distance_is_blind_to_order_and_to_the_scale_of_weights(values, others, seed, scale):
    rng = np.random.default_rng(seed)
    values, weights = np.array(values), rng.random(len(values)) + 1e-3
    order = rng.permutation(len(values))
    distance = weighted_ks_distance(values, others, weights=weights)
    assert 0 <= distance <= 1
    again = weighted_ks_distance(values[order], others[::-1], weights=scale * weights[order])
    assert again == pytest.approx(distance, abs=1e-12)


def test_the_distance_leaves_out_nan_and_values_without_weight():
    assert weighted_ks_distance([1, np.nan, 2, 9], [1, 2, np.nan], weights=[1, 5, 1, 0]) == 0
    assert np.isnan(weighted_ks_distance([1.0], [np.nan], weights=[1]))
    assert np.isnan(weighted_ks_distance([np.nan, 1], [1.0], weights=[1, 0]))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_the_effective_size_is_between_one_and_the_number(weights, scale):
    size = effective_size(scale * np.array(weights))
    assert 1 - 1e-9 <= size <= len(weights) + 1e-9
    assert effective_size([*weights, 0]) == pytest.approx(effective_size(weights))
    assert effective_size(np.full(len(weights), scale)) == pytest.approx(len(weights))


# Wide ranges


@pytest.mark.parametrize("label", CLASSES, ids=CLASS_NAMES)
def test_wide_ranges_contain_those_of_the_class_and_change_only_fitted_ones(label):
    wide, ranges = widened_ranges(label), CLASS_RANGES[label]
    for field in dataclasses.fields(ClassRanges):
        ours, theirs = getattr(wide, field.name), getattr(ranges, field.name)
        if field.name in FITTED[CLASS_NAMES[label]]:
            assert ours[0] <= theirs[0] <= theirs[1] <= ours[1]
            assert ours[1] > ours[0]
            assert ours == pytest.approx([round(end, 2) for end in ours], abs=1e-12)
        else:
            assert ours == theirs
    other = dataclasses.replace(ranges, axis_ratio=(0.02, 0.03))
    assert widened_ranges(label, ranges=other).axis_ratio[0] == 0.02


# Weights


@pytest.mark.parametrize("label", CLASSES, ids=CLASS_NAMES)
def test_unchanged_ranges_weigh_all_galaxies_equally(label):
    wide = widened_ranges(label)
    assert (importance_weights(parameters(wide, 50), wide, wide) == 1).all()


@pytest.mark.parametrize("label", CLASSES, ids=CLASS_NAMES)
def test_weighted_galaxies_follow_the_distributions_of_the_ranges(label):
    """The limit is the 0.1% point of the distance of two samples, plus that of the smooth edges."""
    ranges = CLASS_RANGES[label]
    by = {name: 0.25 * (getattr(ranges, name)[1] - getattr(ranges, name)[0]) for name in ("mu", "old", "young")}
    wide = dataclasses.replace(
        ranges,
        radius=(ranges.radius[0] / 1.2, ranges.radius[1] * 1.2),
        sersic=(0.3, 6.0),
        **{name: (getattr(ranges, name)[0] - more, getattr(ranges, name)[1] + more) for name, more in by.items()},
    )
    drawn, expected = parameters(wide, 6000), parameters(ranges, 3000, seed=1)
    weights = importance_weights(drawn, wide, ranges)
    assert 100 < effective_size(weights) < 6000
    limit = 1.95 * np.sqrt(1 / effective_size(weights) + 1 / len(expected)) + 0.03
    for form in set(drawn["drawn_form"]):
        share = np.average(drawn["drawn_form"] == form, weights=weights)
        assert share == pytest.approx((expected["drawn_form"] == form).mean(), abs=0.06)
    for name in ("radius", "mu", "old"):
        column = f"drawn_{name}"
        assert weighted_ks_distance(drawn[column], expected[column], weights=weights) < limit
        assert weighted_ks_distance(drawn[column], expected[column], weights=np.ones(len(drawn))) > 0.03
    ours, theirs = (young_for_old(table, ranges) for table in (drawn, expected))
    disc, expected_disc = (table["drawn_form"] != "spheroid" for table in (drawn, expected))
    if disc.mean() > 0.3:
        limit = 1.95 * np.sqrt(1 / effective_size(weights[disc]) + 1 / expected_disc.sum()) + 0.03
        assert weighted_ks_distance(ours[disc], theirs[expected_disc], weights=weights[disc]) < limit


@pytest.mark.parametrize(
    "changes",
    [
        {"radius": (2.0, 4.4), "mu": (20.3, 23.0)},
        {"mu": (20.8, 21.9), "old": (0.5, 1.2)},
        {"mu": (20.4, 23.1), "old": (0.75, 0.95)},
        {"fading": 0.4},
    ],
)
def test_parameters_that_depend_on_a_changed_one_are_weighted_with_it(changes):
    """Bright galaxies are redder, large ones fainter, and the colour of young stars follows that of old ones."""
    wide = ClassRanges(
        forms=(("disc", 1.0),),
        radius=(2.0, 8.0),
        axis_ratio=(0.3, 0.9),
        mu=(20.0, 23.5),
        old=(0.3, 1.4),
        young=(0.1, 0.7),
    )
    ranges = dataclasses.replace(wide, **{"mu": (21.0, 22.5)} | changes)
    drawn, expected = parameters(wide, 6000), parameters(ranges, 3000, seed=1)
    weights = importance_weights(drawn, wide, ranges)
    limit = 1.63 * np.sqrt(1 / effective_size(weights) + 1 / len(expected)) + 0.02
    for column in ("drawn_radius", "drawn_mu", "drawn_old", "drawn_young"):
        assert weighted_ks_distance(drawn[column], expected[column], weights=weights) < limit
    ours, theirs = (young_for_old(table, ranges) for table in (drawn, expected))
    assert weighted_ks_distance(ours, theirs, weights=weights) < limit


def test_parameters_that_a_form_does_not_use_have_no_effect():
    wide = widened_ranges(0)
    drawn = parameters(wide, 300)
    weights = importance_weights(drawn, wide, dataclasses.replace(wide, lopsided=(0.0, 0.1), arms=wide.arms))
    spheroid = drawn["drawn_form"] == "spheroid"
    assert 0.05 < spheroid.mean() < 0.5
    assert len(set(weights[spheroid])) == 1
    inside = ~spheroid & (drawn["drawn_lopsided"] < 0.05)
    assert weights[~spheroid & (drawn["drawn_lopsided"] > 0.3)].max() < 1e-3 < weights[inside].min()
    # Spheroids keep their share of the galaxies.
    assert np.average(spheroid, weights=weights) == pytest.approx(spheroid.mean(), abs=0.06)


def test_weights_of_a_single_value_are_finite():
    weights = importance_weights(parameters(WIDE, 100), WIDE, dataclasses.replace(WIDE, mu=(20.0, 20.0)))
    assert np.isfinite(weights).all()
    assert weights.max() == 1


# The fit


def test_every_quantity_has_a_weight_and_is_known_of_published_images():
    table = combined_quantities(published_measurements())
    assert list(table) == list(FITTED_QUANTITIES)
    assert table.notna().mean().min() > 0.9
    assert min(FITTED_QUANTITIES.values()) > 0
    assert np.isnan(combined_quantities(published_measurements().assign(brightness=-1.0))["ln brightness"]).all()


def test_a_fit_finds_shifted_ranges():
    true = dataclasses.replace(WIDE, radius=(3.3, 7.3), mu=(20.2, 22.4), old=(0.5, 1.2), axis_ratio=(0.24, 0.5))
    drawn, published = measured(parameters(WIDE, 1500)), measured(parameters(true, 400, seed=5), seed=6)
    names = ("radius", "mu", "old", "axis_ratio")
    start = dataclasses.replace(WIDE, **{name: getattr(PLAIN, name) for name in names})
    fit = fit_ranges(drawn, published, wide=WIDE, ranges=start, names=names, iterations=60)
    for name, tolerance in {"mu": 0.25, "old": 0.12, "axis_ratio": 0.03}.items():
        assert getattr(fit.ranges, name) == pytest.approx(getattr(true, name), abs=tolerance)
    assert fit.ranges.radius == pytest.approx(true.radius, rel=0.15)
    assert fit.ranges.sersic == start.sersic
    table = fit.distances.set_index("Quantity")
    for quantity in ("ln size", "axis ratio", "ln brightness", "colour"):
        assert table.loc[quantity, "After"] < 0.1 < table.loc[quantity, "Before"]
    assert fit.effective[1] > 50
    again = fit_ranges(drawn, published, wide=WIDE, ranges=start, names=names, iterations=60)
    assert again.ranges == fit.ranges
    assert again.distances.equals(fit.distances)


def test_a_fit_states_and_avoids_what_the_wide_ranges_do_not_give():
    """Bright galaxies are red, so the bright half of the wide ranges holds no blue ones."""
    wide = dataclasses.replace(WIDE, old=(0.3, 1.4), mu=(19.0, 23.0))
    full = dataclasses.replace(wide, old=(0.6, 1.1), mu=(20.0, 22.0))
    blue = dataclasses.replace(full, old=(0.3, 0.6), mu=(19.0, 20.0))
    drawn = measured(parameters(wide, 1500))
    published = measured(parameters(blue, 300, seed=1), seed=1)
    fits = [
        fit_ranges(drawn, published, wide=wide, ranges=start, names=("old", "mu"), iterations=20, least_effective=1)
        for start in (full, blue)
    ]
    assert fits[0].covered[0] == pytest.approx(1, abs=0.15)
    assert fits[1].covered[0] < 0.1
    assert min(fit.covered[1] for fit in fits) > 0.2


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_a_fit_is_never_worse_than_the_present_ranges(seed):
    wide, ranges = widened_ranges(2), CLASS_RANGES[2]
    drawn, published = measured(parameters(wide, 200, seed)), measured(parameters(ranges, 50, seed + 1), seed=seed)
    fit = fit_ranges(drawn, published, wide=wide, ranges=ranges, names=("mu", "old"), iterations=1, least_effective=1)
    before, after = (
        _cost(dict(zip(FITTED_QUANTITIES, fit.distances[column], strict=True)), fit.effective[k], fit.covered[k])
        for k, column in enumerate(("Before", "After"))
    )
    assert after <= before + 1e-12


def test_distances_few_galaxies_and_missing_ones_cost():
    near, far = (dict.fromkeys(FITTED_QUANTITIES, distance) for distance in (0.06, 0.16))
    assert _cost(near, 1.0, 0.8) == 0
    assert _cost(far, 1.0, 1.2) == pytest.approx(1)
    assert _cost(near, 0.5, 1.0) == pytest.approx(0.5)
    assert _cost(near, 2.0, 0.3) == pytest.approx(1)
    assert _cost(near | {"colour": np.nan}, 1.0, 1.0) > _cost(near | {"colour": 0.9}, 1.0, 1.0) > 0


@settings(max_examples=30)
@given(st.sampled_from(CLASSES), st.lists(st.floats(0, 1), min_size=22, max_size=22))
def test_all_ranges_of_a_search_can_be_weighted_for(label, shares):
    wide, names = widened_ranges(label), FITTED[CLASS_NAMES[label]]
    bounds = np.repeat(_limits(wide, names), 2, axis=0)
    numbers = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * np.array(shares[: len(bounds)])
    candidate = _from_numbers(numbers, CLASS_RANGES[label], names, wide)
    again = _as_numbers(candidate, names, wide)
    np.testing.assert_allclose(again, np.sort(numbers.reshape(-1, 2), axis=1).ravel(), rtol=1e-9, atol=1e-9)
    rounded = _rounded(candidate, names, wide)
    for name in names:
        assert getattr(rounded, name) == pytest.approx(getattr(candidate, name), abs=0.00501)
    weights = importance_weights(DRAWN, wide, rounded)
    assert np.isfinite(weights).all()


def test_a_fit_avoids_few_effective_galaxies():
    names = ("mu", "old", "axis_ratio")
    narrow = dataclasses.replace(WIDE, mu=(20.9, 20.92), old=(0.7, 0.71), axis_ratio=(0.3, 0.31))
    start = dataclasses.replace(WIDE, **{name: getattr(PLAIN, name) for name in names})
    drawn, published = measured(parameters(WIDE, 400)), measured(parameters(narrow, 100, seed=1), seed=1)
    options = {"wide": WIDE, "ranges": start, "names": names, "iterations": 25}
    few, many = (fit_ranges(drawn, published, **options, least_effective=n).effective[1] for n in (1, 200))
    assert 2 * few < many


def test_printed_code_gives_the_same_ranges():
    for name, ranges in zip(CLASS_NAMES, CLASS_RANGES, strict=True):
        code = ranges_code(ranges, name=name)
        assert eval(f"({code})", {"ClassRanges": ClassRanges}) == (ranges,)
        assert code.startswith(f"    ClassRanges(  # {name}\n        forms=")


# Images and the program


def test_a_drawn_galaxy_depends_on_its_number_class_and_seed_alone():
    wide = widened_ranges(2)
    one, both = draw_measured(2, [5], ranges=wide, seed=3), draw_measured(2, [4, 5], ranges=wide, seed=3)
    pd.testing.assert_series_equal(one.loc[0], both.loc[1], check_names=False)
    assert {"drawn_form", "drawn_mu", *combined_inputs()} <= set(one)
    for label, seed in ((2, 4), (3, 3)):
        assert draw_measured(label, [5], ranges=wide, seed=seed).loc[0, "drawn_radius"] != one.loc[0, "drawn_radius"]
    assert wide.axis_ratio[0] <= one.loc[0, "drawn_axis_ratio"] <= wide.axis_ratio[1]


def combined_inputs():
    return ("size", "axis_ratio", "brightness", "galaxy_rb", "concentration", "asymmetry", "centre_g")


def test_the_program_fits_a_class_and_goes_on_from_its_folder(tmp_path, capsys, monkeypatch):
    program = importlib.import_module("standin_ranges")
    arguments = ["--work", str(tmp_path), "--images", "12", "--iterations", "2", "--workers", "1"]
    program.main([*arguments, "--classes", "Cigar Shaped Smooth"])
    said = capsys.readouterr().out
    assert said.startswith("Cigar Shaped Smooth: Kolmogorov-Smirnov distances; the effective number of galaxies goes")
    assert "weighted mean" in said
    code = said[said.index("    ClassRanges(") :]
    (found,) = eval(f"({code})", {"ClassRanges": ClassRanges})
    unfitted = {name: getattr(CLASS_RANGES[4], name) for name in FITTED["Cigar Shaped Smooth"]}
    assert dataclasses.replace(found, **unfitted) == CLASS_RANGES[4]
    (table,) = tmp_path.glob("drawn-4-*.csv")
    assert len(pd.read_csv(table)) == 12
    assert (tmp_path / "fit-4.txt").read_text(encoding="utf-8") == said.removesuffix("\n")

    def fail(*_, **__):
        raise AssertionError("drawn again")

    monkeypatch.setattr(program, "draw_measured", fail)
    program.main([*arguments, "--classes", "4"])
    assert capsys.readouterr().out == said
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([table.name, "fit-4.txt"])


def test_worker_processes_draw_the_same_galaxies():
    program = importlib.import_module("standin_ranges")
    tasks = [(2, [0], WIDE, 0), (2, [1], WIDE, 0)]
    together = program.drawn_by_workers(program.draw_task, tasks, 2, total=2, desc="test")
    alone = program.drawn_by_workers(program.draw_task, tasks, 1, total=2, desc="test")
    pd.testing.assert_frame_equal(together, alone)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "Spiral"], "the class is 'Spiral', but a known one is needed: give 0 to 9, or one of Disturbed"),
        (["--classes", "10"], "the class is '10', but a known one is needed"),
        (["--images", "0"], "the number is '0', but a whole number over 0 is needed: give one"),
    ],
)
def test_the_program_refuses_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module("standin_ranges").main(arguments)
    assert message in capsys.readouterr().err


# Errors

FIT = {"wide": WIDE, "ranges": PLAIN, "names": ("mu",)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: widened_ranges(10), "label is 10, but a class is needed: give 0 to 9"),
        (
            lambda: combined_quantities(DRAWN.drop(columns="size")),
            "measured lacks the column size, but 9 columns are needed: give the result of draw_measured",
        ),
        (
            lambda: importance_weights(DRAWN.drop(columns="drawn_mu"), WIDE, WIDE),
            "drawn lacks the column drawn_mu, but",
        ),
        (
            lambda: importance_weights(DRAWN, WIDE, dataclasses.replace(WIDE, mu=(15, 20))),
            r"mu is \(15, 20\), but a range within \(.*\), which the galaxies were drawn from, is needed: give a",
        ),
        (
            lambda: importance_weights(DRAWN, WIDE, dataclasses.replace(WIDE, radius=(2, 3))),
            "mu is .*, but a range within .*, which the galaxies were drawn from, is needed",
        ),
        (
            lambda: importance_weights(DRAWN, WIDE, dataclasses.replace(WIDE, ring=0.5)),
            "ring is 0.5, but 0.0, which the galaxies were drawn from, is needed: draw them again, because weights",
        ),
        (lambda: effective_size([1, -1]), "a weight is negative or none is over 0, but numbers of at least 0 are"),
        (lambda: effective_size([0, 0]), "a weight is negative or none is over 0, but"),
        (lambda: weighted_ks_distance([1], [1], weights=[1, 1]), "there are 2 weights, but 1 are needed: give one per"),
        (
            lambda: fit_ranges(DRAWN, DRAWN, **FIT | {"names": ("pitch",)}),
            "a name is 'pitch', but a range that can be fitted is needed: choose from radius, mu, old",
        ),
        (lambda: fit_ranges(DRAWN, DRAWN, **FIT | {"names": ()}), "names is empty, but at least one range is needed"),
        (
            lambda: fit_ranges(DRAWN, DRAWN, **FIT | {"names": ("bulge",)}),
            "bulge of wide has no width, but a range is needed: draw wider ones or leave it out",
        ),
        (lambda: fit_ranges(DRAWN[:0], DRAWN, **FIT), "drawn has no rows, but galaxies of the class are needed: give"),
        (lambda: fit_ranges(DRAWN, DRAWN[:0], **FIT), "published has no rows, but galaxies of the class are needed"),
        (
            lambda: fit_ranges(DRAWN, DRAWN, **FIT, least_effective=0),
            "least_effective is 0, but a number over 0 is needed: give one",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        call()
    assert "\n" not in str(refused.value)
