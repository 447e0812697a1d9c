"""Accuracy and recovery, checked with hand calculations, properties, and SciPy's bootstrap."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.results.evaluation import (
    Estimate,
    accuracy_interval,
    accuracy_on,
    class_report,
    confusion_table,
    estimate_recovery,
    recovery_verdict,
)
from galaxynb.results.paper import PAPER

quickly = settings(deadline=None, max_examples=40)

ROWS = [*CLASS_NAMES, "accuracy", "macro avg", "weighted avg"]
outcomes = st.integers(1, 60).flatmap(
    lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)] * 3)
)
classes = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=50)


def test_report_of_four_images_by_hand():
    # Class 0 has two images, one of them predicted as class 1. Class 1 has two images, both right.
    frame = class_report([0, 0, 1, 1], [0, 1, 1, 1])
    assert list(frame.index) == ROWS
    assert frame.loc["Disturbed"].tolist() == pytest.approx([1.0, 0.5, 2 / 3, 2])
    assert frame.loc["Merging"].tolist() == pytest.approx([2 / 3, 1.0, 0.8, 2])
    assert frame.loc["Edge-on with Bulge"].tolist() == [0, 0, 0, 0]
    assert frame.loc["accuracy", ["f1-score", "support"]].tolist() == [0.75, 4]
    assert frame.loc["accuracy", ["precision", "recall"]].isna().all()
    assert frame.loc["macro avg", "recall"] == pytest.approx(0.15)
    assert frame.loc["weighted avg", "precision"] == pytest.approx((1 + 2 / 3) / 2)


@given(classes)
@quickly
def test_report_has_the_same_shape_whatever_classes_are_there(pairs):
    labels, predicted = np.array(pairs).T
    frame = class_report(labels, predicted)
    assert list(frame.index) == ROWS
    assert frame["support"].dtype.kind == "i"
    assert frame["support"].iloc[:10].sum() == len(pairs)
    assert frame.loc["accuracy", "f1-score"] == pytest.approx(np.mean(labels == predicted))
    assert frame.loc["weighted avg", "recall"] == pytest.approx(frame.loc["accuracy", "f1-score"])


RIGHT = np.arange(10) < 8
BOTH = {"clean": RIGHT, "denoised": np.arange(10) < 5}


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (class_report, ([], []), r"labels has shape \(0,\), but \(N,\)"),
        (class_report, ([1, 2], [1]), "labels, predicted have lengths 1, 2, but equal lengths are needed"),
        (class_report, ([10], [1]), "labels has values from 10 to 10, but classes from 0 to 9 are needed"),
        (class_report, ([1], [-1]), "predicted has values from -1 to -1, but classes from 0 to 9 are needed"),
        (class_report, ([1], [0.5]), "predicted is float64, but integers are needed"),
        (class_report, ([[1]], [1]), r"labels has shape \(1, 1\), but \(N,\)"),
        (accuracy_interval, ([1, 0],), "correct is int64, but booleans are needed"),
        (accuracy_interval, ([],), "correct has shape"),
        (partial(accuracy_interval, level=95), (RIGHT,), "level is 95, but a number between 0 and 1 is needed"),
        (accuracy_on, (BOTH, {"all": RIGHT[:9]}), "clean, denoised, all have lengths 9, 10, but equal"),
        (accuracy_on, (BOTH, {"all": np.arange(10)}), "all is int64, but booleans are needed"),
        (estimate_recovery, (RIGHT, RIGHT, RIGHT[:3]), "clean, noisy, denoised have lengths 3, 10, but equal"),
        (partial(estimate_recovery, n_resamples=0), [RIGHT] * 3, "n_resamples is 0, but 1 or more is needed"),
    ],
)
def test_bad_input_is_refused_by_name(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_accuracy_interval_by_the_formula():
    # Wilson, 8 of 10: (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n) at z = 1.959964.
    estimate = accuracy_interval(np.arange(10) < 8)
    z2, n, p = 1.959964**2, 10, 0.8
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / 4 / n**2))
    assert estimate.value == 0.8
    expected = [(p + z2 / 2 / n + side) / (1 + z2 / n) for side in (-half, half)]
    assert [estimate.low, estimate.high] == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.floats(0.5, 0.99))
@quickly
def test_accuracy_interval_holds_its_value_and_grows_with_the_level(correct, level):
    narrow = accuracy_interval(correct, level=level)
    wide = accuracy_interval(correct, level=(1 + level) / 2)
    tiny = 1e-12
    assert 0 <= narrow.low <= narrow.value + tiny
    assert narrow.value - tiny <= narrow.high <= 1
    assert wide.low <= narrow.low + tiny
    assert wide.high >= narrow.high - tiny


def test_accuracy_on_subsets_has_a_row_per_subset():
    subsets = {"all": np.full(10, True), "leak-free": np.arange(10) < 4, "none": np.full(10, False)}
    table = accuracy_on(BOTH, subsets)
    assert table.to_dict("list") == {
        "Test images": ["all", "leak-free", "none"],
        "Images": [10, 4, 0],
        "Clean": [accuracy_interval(BOTH["clean"]).text(), "1.00 (0.51 to 1.00)", "undefined"],
        "Denoised": [accuracy_interval(BOTH["denoised"]).text(), "1.00 (0.51 to 1.00)", "undefined"],
    }


def test_recovery_by_hand():
    # Of 10 images, 8 are right when clean, 3 when noisy and 7 when denoised.
    clean, noisy, denoised = (np.arange(10) < right for right in (8, 3, 7))
    result = estimate_recovery(clean, noisy, denoised)
    assert [result[name].value for name in ("drop", "gain", "recovery")] == [0.5, 0.4, 0.8]
    for estimate in result.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_recovery_intervals_are_those_of_the_paired_bootstrap():
    rng = np.random.default_rng(3)
    clean, noisy, denoised = rng.random((3, 400)) < np.array([[0.74], [0.33], [0.70]])

    def share(clean, noisy, denoised, axis):
        return (denoised.mean(axis) - noisy.mean(axis)) / (clean.mean(axis) - noisy.mean(axis))

    data = [array.astype(float) for array in (clean, noisy, denoised)]
    options = {"paired": True, "method": "percentile", "n_resamples": 4000, "rng": np.random.default_rng(0)}
    expected = bootstrap(data, share, **options).confidence_interval
    result = estimate_recovery(clean, noisy, denoised, n_resamples=4000)["recovery"]
    width = expected.high - expected.low
    assert (result.low, result.high) == pytest.approx(tuple(expected), abs=width / 15)


@given(outcomes, st.randoms(use_true_random=False))
@quickly
def test_recovery_does_not_depend_on_the_order_of_images(arrays, random):
    order = list(range(len(arrays[0])))
    random.shuffle(order)
    one = estimate_recovery(*arrays, n_resamples=99)
    other = estimate_recovery(*(array[order] for array in arrays), n_resamples=99)
    assert {k: e.asdict() for k, e in one.items()} == {k: e.asdict() for k, e in other.items()}


@given(outcomes)
@quickly
def test_recovery_is_gain_over_drop_or_undefined(arrays):
    result = estimate_recovery(*arrays, n_resamples=99)
    drop, gain, share = (result[name].value for name in ("drop", "gain", "recovery"))
    clean, noisy, denoised = (array.mean() for array in arrays)
    assert drop == pytest.approx(clean - noisy)
    assert gain == pytest.approx(denoised - noisy)
    if drop > 0:
        assert share == pytest.approx(gain / drop)
        assert result["recovery"].low <= result["recovery"].high
    else:
        assert all(math.isnan(number) for number in result["recovery"])
        assert result["recovery"].text() == "undefined"
        assert set(result["recovery"].asdict().values()) == {None}


def test_recovery_sets_no_bound_where_the_drop_may_be_none():
    # Noise costs one image of 30. A third of the resamples, (29/30)**30, do not hold that image.
    clean, noisy = np.arange(30) < 20, np.arange(30) < 19
    share = estimate_recovery(clean, noisy, clean)["recovery"]
    assert share == Estimate(1.0, -math.inf, math.inf)
    assert share.asdict() == {"value": 1.0, "low": None, "high": None}


def test_recovery_is_reproducible_and_seeded():
    arrays = np.random.default_rng(1).random((3, 300)) < np.array([[0.8], [0.3], [0.6]])
    one, same = (estimate_recovery(*arrays, seed=5) for _ in range(2))
    other = estimate_recovery(*arrays, seed=6)
    assert one == same
    assert one["recovery"].value == other["recovery"].value
    assert one["recovery"] != other["recovery"]


def test_estimate_reads_well():
    assert Estimate(0.7412, 0.7265, 0.7553).text() == "0.74 (0.73 to 0.76)"
    assert Estimate(0.7412, 0.7265, 0.7553).text(3) == "0.741 (0.727 to 0.755)"


@pytest.mark.parametrize(
    ("noisy", "denoised", "cost", "helped", "beside"),
    [
        (0.33, 0.70, "lowers", "raises", "inside"),
        (0.33, 0.20, "lowers", "lowers", "outside"),
        (0.33, 0.33, "lowers", "does not measurably change", "outside"),
        (0.33, 0.50, "lowers", "raises", "outside"),
        (0.73, 0.74, "does not measurably change", "does not measurably change", "inside"),
        (0.74, 0.74, "does not measurably change", "does not measurably change", "nothing"),
        (0.90, 0.74, "raises", "lowers", "outside"),
    ],
)
def test_verdict_follows_the_intervals(noisy, denoised, cost, helped, beside):
    right = [np.arange(100) < 100 * value - 0.5 for value in (0.74, noisy, denoised)]
    accuracy = dict(zip(PAPER, map(accuracy_interval, right), strict=True))
    drop, gain, share = recovery_verdict(accuracy, estimate_recovery(*right, n_resamples=999))
    assert drop == f"Noise {cost} the accuracy: 0.74 becomes {noisy:.2f}."
    assert gain == f"Denoising {helped} the accuracy on noisy images: {noisy:.2f} becomes {denoised:.2f}."
    if noisy < 0.74:
        assert f"{(denoised - noisy) / (0.74 - noisy):.2f}" in share
        assert f"the paper's 0.90 is {beside} this interval" in share
    else:
        assert share == "Noise cost no accuracy, so there was nothing to recover; the paper's is 0.90."


def test_confusion_by_hand():
    counts = confusion_table([0, 0, 1], [0, 1, 1], normalize=False)
    assert counts.to_numpy().sum() == 3
    assert counts.loc["Disturbed", "Merging"] == 1
    assert counts.loc["Merging", "Disturbed"] == 0
    shares = confusion_table([0, 0, 1], [0, 1, 1])
    assert shares.loc["Disturbed"].tolist()[:2] == [0.5, 0.5]
    assert shares.loc["Edge-on with Bulge"].isna().all()


@given(classes)
@quickly
def test_confusion_rows_sum_to_one_and_diagonal_is_recall(pairs):
    labels, predicted = np.array(pairs).T
    shares = confusion_table(labels, predicted)
    present = np.unique(labels)
    assert shares.sum(axis=1).to_numpy()[present] == pytest.approx(1)
    recall = class_report(labels, predicted)["recall"].to_numpy()[:10]
    assert np.diag(shares)[present] == pytest.approx(recall[present])
