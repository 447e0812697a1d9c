"""The fit finds a noise that is known, says how well, and repeats and resumes to the bit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.networks.calibration import predict_noisy
from galaxynb.noise import NoiseModel
from galaxynb.results import noise_fit
from galaxynb.results.evaluation import class_report
from galaxynb.results.noise_fit import RANGES, WEIGHTS, class_scores, fit_noise, misfit, noise_around, rounded_noise
from galaxynb.results.paper import paper_table

RNG = np.random.default_rng(1)
ROWS = np.arange(240)
#: Images that differ in brightness and in texture.
IMAGES = RNG.random((300, 16, 16, 3)) * RNG.permutation(np.linspace(0, 80, 300))[:, None, None, None]
IMAGES = (IMAGES + np.linspace(0, 100, 300)[:, None, None, None]).astype(np.uint8)
TRUE = {"stars": 10.0, "radius": 0.06, "brightness": 0.4, "blur": 0.2, "sigma": 0.05}


def predict(images):
    """Return a class from the brightness and from the texture of an image."""
    bright = images.mean(axis=(1, 2, 3))
    rough = np.median(np.abs(np.diff(images, 2, axis=2)), axis=(1, 2, 3))
    return np.clip((bright - 0.1) / 0.1, 0, 4.99).astype(int) + 5 * (rough > 0.13)


CLEAN = predict(IMAGES / np.float32(255))
LABELS = np.where(RNG.random(300) < 0.7, CLEAN, (CLEAN + 3) % 10)
KNOWN = class_report(LABELS[ROWS], predict_noisy(noise_around(**TRUE), predict, IMAGES, indices=ROWS, seed=0))


def fitted(n_evaluations=96, target=KNOWN, **options):
    return fit_noise(
        predict, IMAGES, target, labels=LABELS, indices=ROWS, seed=0, n_evaluations=n_evaluations, **options
    )


@pytest.fixture(scope="module")
def fit():
    return fitted()


def test_a_known_noise_is_found(fit):
    # The misfit of the true noise is 0.
    assert fit.misfit < 0.03
    # The first 32 evaluations are spread over the whole search. The later ones are near the lowest misfit.
    assert fit.misfit < fit.evaluations["misfit"][:32].median() / 4
    assert fit.recall_rms < 0.06
    intervals = fit.intervals.set_index("parameter")
    for name, value in TRUE.items():
        # The profiles have a grid, and they rest on few evaluations.
        assert intervals.loc[name, "low"] / 1.5 <= value <= intervals.loc[name, "high"] * 1.5, name
    assert intervals.loc["sigma", "high"] < 0.08
    assert intervals.loc["sigma", "low"] < 0.05 < intervals.loc["sigma", "high"]
    # Large stars that are brighter or dimmer look alike to this classifier, which sees no shapes.
    # So more than half of the blurs are left, on the logarithmic scale of the search.
    low, high = RANGES["blur"]
    assert intervals.loc["blur", "high"] / intervals.loc["blur", "low"] > np.sqrt(high / low)


class Valley:
    """A misfit that only the sum of two parameters decides."""

    def predict(self, units):
        return np.abs(units[:, 0] + units[:, 2] - 1)


def test_what_trades_off_is_told(fit):
    intervals = pd.DataFrame([{"parameter": name, "low": low, "high": high} for name, (low, high) in RANGES.items()])
    found = noise_fit._correlations(Valley(), intervals, RANGES, limit=0.05, seed=0)
    assert found.loc["stars", "brightness"] < -0.9
    assert found.loc["radius", ["stars", "blur", "sigma"]].abs().max() < 0.1
    assert noise_fit._correlations(Valley(), intervals, RANGES, limit=-1, seed=0).isna().all(axis=None)
    assert fit.correlations.columns.tolist() == fit.correlations.index.tolist() == list(RANGES)


def test_the_result_is_of_its_evaluations(fit):
    best = fit.evaluations.loc[fit.evaluations["misfit"].idxmin()]
    assert len(fit.evaluations) == 96
    assert fit.misfit == best["misfit"]
    assert fit.noise == noise_around(**best[list(RANGES)])
    predicted = predict_noisy(fit.noise, predict, IMAGES, indices=ROWS, seed=0)
    np.testing.assert_array_equal(class_scores(LABELS[ROWS], predicted)[1:11], fit.scores["Recall"])
    assert fit.scores["Called"].sum() == pytest.approx(1)
    assert 0 < fit.uncertainty < 0.1
    for name, (low, high) in RANGES.items():
        assert fit.evaluations[name].between(low, high).all()
        profile = fit.profiles[fit.profiles["parameter"] == name]
        assert profile["value"].iloc[[0, -1]].tolist() == pytest.approx([low, high])
        row = fit.intervals.set_index("parameter").loc[name]
        assert low <= row["low"] <= row["best"] <= row["high"] <= high
        assert row["at_edge"] == (row["low"] <= low * 1.001 or row["high"] >= high * 0.999)


def test_an_interrupted_fit_goes_on_with_the_same_result(tmp_path):
    fit, calls, saved = fitted(24), [], []

    def stops(images):
        calls.append(1)
        if len(calls) > 12:
            raise KeyboardInterrupt
        return predict(images)

    options = {"labels": LABELS, "indices": ROWS, "seed": 0, "n_evaluations": 24}
    with pytest.raises(KeyboardInterrupt):
        fit_noise(stops, IMAGES, KNOWN, on_evaluation=saved.append, **options)
    assert [len(table) for table in saved] == list(range(1, 13))
    saved[-1].to_csv(tmp_path / "kept.csv", index=False)
    calls.clear()

    def counts(images):
        calls.append(1)
        return predict(images)

    again = fit_noise(counts, IMAGES, KNOWN, known=pd.read_csv(tmp_path / "kept.csv"), **options)
    assert len(calls) == 24 - 12 + 1  # the closest noise is classified once more
    assert again.noise == fit.noise
    pd.testing.assert_frame_equal(again.evaluations, fit.evaluations, check_exact=True)
    pd.testing.assert_frame_equal(again.profiles, fit.profiles, check_exact=True)


def test_only_the_named_rows_are_used():
    marked = IMAGES.copy()
    marked[240:] = 255
    labels = LABELS.copy()
    labels[240:] = 9
    other = fit_noise(predict, marked, KNOWN, labels=labels, indices=ROWS, seed=0, n_evaluations=12)
    assert other.evaluations.equals(fitted(12).evaluations)


def test_ranges_and_weights_limit_the_search():
    narrow = RANGES | {"stars": (3.0, 5.0), "sigma": (0.01, 0.02)}
    fit = fitted(12, ranges=narrow, weights={"accuracy": 1, "recall": 0, "precision": 0})
    assert fit.evaluations["stars"].between(3, 5).all()
    np.testing.assert_allclose(
        fit.evaluations["misfit"], np.abs(fit.evaluations["accuracy"] - KNOWN.loc["accuracy", "f1-score"])
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_evaluations": 7}, "n_evaluations is 7, but 8 or more is needed"),
        ({"ranges": {"stars": (1, 2)}}, "ranges has None for radius, but"),
        ({"ranges": RANGES | {"blur": (0, 1)}}, r"ranges has \(0, 1\) for blur, but .* 0 < low < high"),
        ({"ranges": RANGES | {"blur": (0.3, 0.2)}}, r"ranges has \(0\.3, 0\.2\) for blur"),
    ],
)
def test_a_meaningless_search_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fitted(**options)


def test_scores_are_those_of_the_report_and_a_class_that_is_never_called_has_precision_0():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 10, 200), rng.integers(0, 8, 200)
    report = class_report(labels, predicted)
    classes = report.loc[list(CLASS_NAMES)]
    scores = class_scores(labels, predicted)
    assert scores[0] == report.loc["accuracy", "f1-score"]
    np.testing.assert_allclose(scores[1:21], [*classes["recall"], *classes["precision"]])
    np.testing.assert_allclose(scores[21:], np.bincount(predicted, minlength=10) / 200)
    assert scores[19:21].tolist() == [0, 0]
    assert paper_table("noisy").loc["Round Smooth", "precision"] == 0


def test_a_precision_counts_as_far_as_it_is_known():
    zero, target = np.zeros(31), np.zeros(31)
    target[11:21] = 0.5  # precisions
    target[1:11] = 0.1  # recalls, so that no precision is 0 by convention
    weights = {"accuracy": 1, "recall": 0, "precision": 1}  # the accuracies agree
    never, rarely, often = (zero + share * (np.arange(31) >= 21) for share in (0, 0.01, 0.5))
    assert misfit(never, target, weights=weights) == 0
    assert misfit(rarely, target, weights=weights) == pytest.approx(np.sqrt(10 * 0.5 * 0.25 / (1 + 10 * 0.5)))
    assert misfit(often, target, weights=weights) == pytest.approx(np.sqrt(10 * 0.25 / 11), rel=0.02)
    target[[1, 11]] = 0  # the target never calls the first class, so nine precisions are left
    often[11] = 1
    assert misfit(often, target, weights=weights) == pytest.approx(np.sqrt(9 * 0.25 / 10), rel=0.02)
    # A precision that does not count makes the others count for more, and does not count as agreement.
    assert misfit(never, target, weights={"precision": 1}) == 0
    never[0], target[0] = 0.4, 0.3
    assert misfit(never, target, weights=weights) == pytest.approx(0.1)


def test_an_interval_ends_between_two_points_of_its_profile():
    values = np.geomspace(0.01, 0.1, 21)
    valley = 0.2 + 0.5 * np.abs(np.log(values / 0.031))  # 0.02 above its lowest value within a factor of exp(0.04)
    profiles = pd.DataFrame({"parameter": "sigma", "value": np.append(values, 0.031), "misfit": np.append(valley, 0.2)})
    found = noise_fit._intervals(profiles.sort_values("value"), {"sigma": 0.031}, 0.01).iloc[0]
    assert [found["low"], found["high"]] == pytest.approx([0.031 / np.exp(0.04), 0.031 * np.exp(0.04)], rel=1e-3)
    assert not found["at_edge"]


SCORES = st.lists(st.floats(0, 1), min_size=31, max_size=31)


@given(SCORES, SCORES)
def test_the_misfit_is_zero_for_equal_scores_and_one_at_most(one, other):
    assert misfit(one, one) == 0
    assert 0 <= misfit(one, other) <= 1
    alone = {name: float(name == "accuracy") for name in WEIGHTS}
    assert misfit(one, other, weights=alone) == pytest.approx(abs(one[0] - other[0]))


@given(
    stars=st.floats(*RANGES["stars"]),
    radius=st.floats(*RANGES["radius"]),
    brightness=st.floats(*RANGES["brightness"]),
    blur=st.floats(*RANGES["blur"]),
    sigma=st.floats(*RANGES["sigma"]),
)
def test_every_noise_in_the_ranges_is_a_noise_with_spots_that_differ(stars, radius, brightness, blur, sigma):
    noise = noise_around(stars=stars, radius=radius, brightness=brightness, blur=blur, sigma=sigma)
    assert isinstance(noise, NoiseModel)
    for name, centre, ratio in (("radius", radius, 3), ("brightness", brightness, 7 / 3), ("blur", blur, 17 / 3)):
        low, high = getattr(noise, name)
        assert (low + high) / 2 == pytest.approx(centre)
        assert high / low == pytest.approx(ratio)
    assert abs(np.mean(noise.n_stars) - stars) <= 1
    rounded = rounded_noise(noise, 64)
    assert rounded == rounded_noise(rounded, 64)
    assert min(rounded.blur) >= 0.046
    np.testing.assert_allclose(rounded.radius, noise.radius, rtol=0.051)
