"""Evaluation, against numbers worked out by hand, laws, and the paper's own arithmetic."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from skimage.metrics import structural_similarity

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.files import save_table
from galaxynb.results.evaluation import (
    Estimate,
    accuracy_interval,
    accuracy_on,
    class_report,
    confusion_table,
    estimate_recovery,
    recovery_verdict,
)
from galaxynb.results.paper import PAPER, beside_paper, paper_summary, paper_table
from galaxynb.results.quality import image_quality, psnr, ssim

quickly = settings(deadline=None, max_examples=40)
quicker = settings(deadline=None, max_examples=10)

ROWS = [*CLASS_NAMES, "accuracy", "macro avg", "weighted avg"]
outcomes = st.integers(1, 60).flatmap(
    lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)] * 3)
)
classes = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=50)


# report -------------------------------------------------------------------------------------------


def test_report_of_four_images_by_hand():
    # Class 0: two images, one found; class 1: two images, both found, and one of class 0 beside them.
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


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([], [], "labels has shape"),
        ([1, 2], [1], "must have one length"),
        ([10], [1], "labels must hold classes 0 to 9"),
        ([1], [-1], "predicted must hold classes 0 to 9"),
        ([1], [0.5], "predicted must hold classes"),
        ([[1]], [1], "labels has shape"),
    ],
)
def test_report_refuses_what_is_not_classes(labels, predicted, message):
    with pytest.raises(ValueError, match=message):
        class_report(labels, predicted)


# The paper ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAPER)
def test_paper_tables_agree_with_themselves(name):
    table = paper_table(name)
    per_class = table.loc[list(CLASS_NAMES)]
    assert list(table.index) == ROWS
    assert (table.loc[ROWS[10:], "support"] == per_class["support"].sum()).all()
    assert per_class["support"].sum() == 3548
    # Every printed number is rounded to .005, and so is what is computed from them.
    weighted = per_class[["precision", "recall", "f1-score"]].mul(per_class["support"], axis=0).sum() / 3548
    macro = per_class[["precision", "recall", "f1-score"]].mean()
    rounding = 0.0101
    for column in weighted.index:
        assert weighted[column] == pytest.approx(table.loc["weighted avg", column], abs=rounding)
        assert macro[column] == pytest.approx(table.loc["macro avg", column], abs=rounding)
    assert weighted["recall"] == pytest.approx(table.loc["accuracy", "f1-score"], abs=rounding)
    f1 = 2 / (1 / per_class["precision"] + 1 / per_class["recall"])
    # At a recall of .02 the rounding of the recall itself is a quarter of it.
    assert (f1.fillna(0) - per_class["f1-score"]).abs().max() < 0.02


def test_paper_tables_are_of_one_test_set():
    supports = {name: paper_table(name)["support"].tolist() for name in PAPER}
    assert supports["clean"] == supports["noisy"] == supports["denoised"]
    assert supports["clean"][:10] == [204, 373, 529, 408, 71, 436, 365, 516, 283, 363]


def test_paper_summary():
    summary = paper_summary()
    assert [summary[name] for name in PAPER] == [0.74, 0.33, 0.70]
    assert summary["drop"] == 0.41
    assert summary["gain"] == 0.37
    assert summary["recovery"] == 0.37 / 0.41


def test_paper_table_refuses_another_name():
    with pytest.raises(ValueError, match="'raw'; the paper has tables for clean, noisy, denoised"):
        paper_table("raw")


def test_beside_paper_keeps_both_sides_apart():
    frame = class_report([0, 0, 1, 1], [0, 1, 1, 1])
    both = beside_paper(frame, "clean")
    assert both.columns.tolist() == [
        "Class",
        *("Precision", "Precision (paper)", "Recall", "Recall (paper)"),
        *("F1-score", "F1-score (paper)", "Support", "Support (paper)"),
    ]
    assert both["Class"].tolist()[0] == "0 Disturbed"
    assert both["Class"].tolist()[10:] == ["Accuracy", "Macro average", "Weighted average"]
    assert both.loc[0, ["Recall", "Recall (paper)"]].tolist() == [0.5, 0.53]
    assert both.loc[10, ["F1-score", "F1-score (paper)"]].tolist() == [0.75, 0.74]
    with pytest.raises(ValueError, match="other rows"):
        beside_paper(frame.iloc[:10], "clean")


def test_save_table_rounds_the_csv_and_not_the_json(tmp_path):
    both = beside_paper(class_report([0, 0, 1, 1], [0, 1, 1, 1]), "noisy")
    csv, path = save_table(both, tmp_path / "deep" / "table.2")
    assert (csv.name, path.name) == ("table.2.csv", "table.2.json")
    lines = csv.read_text().splitlines()
    assert lines[1] == "0 Disturbed,1.00,0.16,0.50,0.39,0.67,0.23,2,204"
    assert lines[11] == "Accuracy,,,,,0.75,0.33,4,3548"
    rows = json.loads(path.read_text())
    assert rows[0]["F1-score"] == both.loc[0, "F1-score"] != 0.67
    assert rows[10]["Precision"] is None
    assert type(rows[0]["Support"]) is int
    assert sorted(p.name for p in csv.parent.iterdir()) == ["table.2.csv", "table.2.json"]


def test_save_table_keeps_a_named_index_and_blanks_infinity(tmp_path):
    frame = pd.DataFrame({"psnr": [math.inf, 1.25]}, index=pd.Index(["a", "b"], name="images"))
    csv, path = save_table(frame, tmp_path / "t", decimals=1)
    assert csv.read_text() == "images,psnr\na,\nb,1.2\n"
    assert json.loads(path.read_text()) == [{"images": "a", "psnr": None}, {"images": "b", "psnr": 1.25}]


# Accuracy and recovery ----------------------------------------------------------------------------


def test_accuracy_interval_by_the_formula():
    # Wilson, 8 of 10: (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n) at z = 1.959964.
    estimate = accuracy_interval(np.arange(10) < 8)
    z2, n, p = 1.959964**2, 10, 0.8
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / 4 / n**2))
    assert estimate.value == 0.8
    assert estimate.low == pytest.approx((p + z2 / 2 / n - half) / (1 + z2 / n), abs=1e-6)
    assert estimate.high == pytest.approx((p + z2 / 2 / n + half) / (1 + z2 / n), abs=1e-6)


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


def test_accuracy_on_subsets_is_beside_each_other():
    correct = {"clean": np.arange(10) < 8, "denoised": np.arange(10) < 5}
    subsets = {"all": np.full(10, True), "leak-free": np.arange(10) < 4, "none": np.full(10, False)}
    table = accuracy_on(correct, subsets)
    assert table.to_dict("list") == {
        "Test images": ["all", "leak-free", "none"],
        "Images": [10, 4, 0],
        "Clean": [accuracy_interval(correct["clean"]).text(), "1.00 (0.51 to 1.00)", "undefined"],
        "Denoised": [accuracy_interval(correct["denoised"]).text(), "1.00 (0.51 to 1.00)", "undefined"],
    }
    with pytest.raises(ValueError, match="clean, denoised, all must have one length"):
        accuracy_on(correct, {"all": np.full(9, True)})
    with pytest.raises(ValueError, match="all is int64; expected booleans"):
        accuracy_on(correct, {"all": np.arange(10)})


def test_recovery_by_hand():
    # Of 10 images clean gets 8, noisy 3, denoised 7: drop .5, gain .4, recovery .8.
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

    expected = bootstrap(
        [array.astype(float) for array in (clean, noisy, denoised)],
        share,
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    result = estimate_recovery(clean, noisy, denoised, n_resamples=4000)["recovery"]
    width = expected.high - expected.low
    assert result.low == pytest.approx(expected.low, abs=width / 15)
    assert result.high == pytest.approx(expected.high, abs=width / 15)


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
    # One image of 30 lost: a third of the resamples, (29/30)**30, miss it.
    clean = np.arange(30) < 20
    noisy = np.arange(30) < 19
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


def test_intervals_refuse_bad_input():
    right = np.ones(4, bool)
    with pytest.raises(ValueError, match="correct is int64; expected booleans"):
        accuracy_interval([1, 0])
    with pytest.raises(ValueError, match="correct has shape"):
        accuracy_interval([])
    with pytest.raises(ValueError, match="level is 95; a confidence level"):
        accuracy_interval(right, level=95)
    with pytest.raises(ValueError, match="clean, noisy, denoised must have one length"):
        estimate_recovery(right, right, right[:3])
    with pytest.raises(ValueError, match="n_resamples is 0"):
        estimate_recovery(right, right, right, n_resamples=0)


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


def test_verdict_where_noise_costs_nothing():
    right = np.arange(100) < 50
    accuracy = dict.fromkeys(PAPER, accuracy_interval(right))
    sentences = recovery_verdict(accuracy, estimate_recovery(right, right, right))
    assert sentences[2].startswith("Noise cost no accuracy, so there was nothing to recover")


# Confusion ----------------------------------------------------------------------------------------


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


# Images -------------------------------------------------------------------------------------------


@given(st.floats(0.01, 0.1), st.integers(0, 100))
@quicker
def test_psnr_of_noise_of_known_sigma(sigma, seed):
    rng = np.random.default_rng(seed)
    reference = np.full((2, 64, 64, 3), 0.5)
    noisy = reference + rng.normal(0, sigma, reference.shape)
    # 12,288 samples: the variance is known to 1.3%, the PSNR to .055 dB (five of them here).
    assert psnr(reference, noisy) == pytest.approx(-20 * math.log10(sigma), abs=0.28)


@given(st.integers(0, 1000), st.sampled_from([np.float32, np.float64]))
@quicker
def test_quality_is_symmetric_and_perfect_for_identical_images(seed, dtype):
    one, other = np.random.default_rng(seed).random((2, 3, 32, 32, 3)).astype(dtype)
    for metric, perfect in ((psnr, math.inf), (ssim, 1.0)):
        assert metric(one, other).shape == (3,)
        assert metric(one, other) == pytest.approx(metric(other, one), rel=1e-5)
        assert metric(one, one) == pytest.approx(perfect)
        assert (metric(one, other) < perfect).all()


def test_quality_is_of_each_image_alone():
    rng = np.random.default_rng(0)
    reference = rng.random((3, 32, 32, 3), dtype=np.float32)
    images = np.clip(reference + rng.normal(0, [[[[0.01]]], [[[0.1]]], [[[0.3]]]], reference.shape), 0, 1)
    for metric in (psnr, ssim):
        values = metric(reference, images.astype(np.float32))
        assert values[0] > values[1] > values[2]
        assert values[1:2] == pytest.approx(metric(reference[1:2], images[1:2].astype(np.float32)))
        spoilt = np.concatenate([np.full_like(images[:1], np.nan), images[1:]]).astype(np.float32)
        assert metric(reference, spoilt)[1:] == pytest.approx(values[1:], rel=1e-12)


@given(
    st.integers(0, 1000),
    st.sampled_from([np.float16, np.float32, np.float64, np.longdouble]),
    st.tuples(st.integers(1, 20), st.integers(7, 40), st.integers(7, 40)),
)
@quicker
def test_ssim_is_scikit_images(seed, dtype, shape):
    rng = np.random.default_rng(seed)
    reference = rng.random((*shape, 3)).astype(dtype)
    images = np.clip(reference + rng.normal(0, 0.1, reference.shape), 0, 1).astype(dtype)
    expected = [
        structural_similarity(one, other, data_range=1.0, channel_axis=-1)
        for one, other in zip(reference.astype(float), images.astype(float), strict=True)
    ]
    exact = np.dtype(dtype).itemsize > 4
    assert ssim(reference, images) == pytest.approx(expected, abs=1e-12 if exact else 2e-6)


def test_ssim_refuses_what_no_window_fits_in():
    images = np.zeros((2, 6, 32, 3))
    with pytest.raises(ValueError, match=r"shape \(2, 6, 32, 3\); expected 7 pixels or more"):
        ssim(images, images)


def test_image_quality_summarises_and_stays_writable():
    reference = np.zeros((2, 32, 32, 3))
    images = reference + np.array([0.1, 0.01]).reshape(2, 1, 1, 1)
    summary = image_quality(reference, images)
    assert summary["psnr_mean"] == pytest.approx(30)
    assert summary["psnr_std"] == pytest.approx(10)
    same = image_quality(reference, reference)
    assert same == {"psnr_mean": None, "psnr_std": None, "ssim_mean": 1.0, "ssim_std": 0.0}


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_quality_refuses_what_it_cannot_compare(metric):
    images = np.zeros((2, 32, 32, 3), np.float32)
    with pytest.raises(ValueError, match=r"reference is uint8; expected floats in \[0, 1\]"):
        metric(images.astype(np.uint8), images)
    with pytest.raises(ValueError, match=r"images has shape \(32, 32, 3\)"):
        metric(images, images[0])
    with pytest.raises(ValueError, match="differ in shape"):
        metric(images, images[:1])
