"""Scores of remedies, computed from predictions alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxynb.remedies.advice import SENTENCES, advise
from galaxynb.remedies.results import accuracy_table, galaxy_table
from galaxynb.remedies.tables import (
    PROBABILITIES,
    calibration_error,
    compare_pairs,
    recall_table,
    robustness_table,
    score_remedies,
    summarize_robustness,
)

LABELS = np.arange(200) % 10


def predictions(right, *, sure=0.7):
    """Return predictions of which the first ones are right, from their numbers by remedy and version."""
    tables = []
    for (name, images), number in right.items():
        said = np.where(np.arange(200) < number, LABELS, (LABELS + 1) % 10)
        values = np.full((200, 10), (1 - sure) / 9)
        values[np.arange(200), said] = sure
        table = pd.DataFrame({"remedy": name, "images": images, "row": np.arange(200), "label": LABELS})
        tables.append(table.join(pd.DataFrame(values, columns=PROBABILITIES)))
    return pd.concat(tables, ignore_index=True)


SAMPLE = {
    ("nothing", "clean"): 150,
    ("nothing", "noisy"): 60,
    ("median", "clean"): 140,
    ("median", "noisy"): 50,
    ("autoencoder", "clean"): 140,
    ("autoencoder", "noisy"): 120,
    ("unet", "clean"): 148,
    ("unet", "noisy"): 147,
}


def test_scores_are_those_of_the_counts():
    scores = score_remedies(predictions(SAMPLE), n_resamples=199)
    assert list(scores.index) == ["nothing", "median", "autoencoder", "unet"]
    assert scores.loc["unet", "noisy"].value == pytest.approx(147 / 200)
    assert scores.loc["unet", "clean"].value == pytest.approx(148 / 200)
    assert scores.loc["unet", "recovery"].value == pytest.approx((147 - 60) / (150 - 60))
    assert scores.loc["nothing", "recovery"].value == 0
    assert scores.loc["median", "recovery"].value < 0
    assert np.isnan(scores.loc["autoencoder", "p"])
    assert scores.loc["unet", "p"] == compare_pairs(np.arange(200) < 147, np.arange(200) < 120)
    # All confidences are equal, so the calibration error is their distance from the accuracy.
    assert scores.loc["unet", "ece"] == pytest.approx(abs(147 / 200 - 0.7))
    squares = (1 - 0.7) ** 2 + 9 * (0.3 / 9) ** 2
    wrong = 0.7**2 + (1 - 0.3 / 9) ** 2 + 8 * (0.3 / 9) ** 2
    assert scores.loc["unet", "brier"] == pytest.approx((147 * squares + 53 * wrong) / 200)


def test_small_p_values_are_not_shown_as_zero():
    scores = score_remedies(
        predictions(SAMPLE | {("gaussian", "noisy"): 112, ("gaussian", "clean"): 140}), n_resamples=9
    )
    shown = accuracy_table(scores, pd.DataFrame({"title": scores.index}, index=scores.index))["p"]
    assert shown["median"] == shown["unet"] == "<\N{NO-BREAK SPACE}0.001"
    assert shown["autoencoder"] == "\N{EN DASH}"
    assert shown["gaussian"] == "0.008"  # 8 images, all against: 2 / 2**8


def test_scores_do_not_depend_on_the_order_of_the_rows():
    table = predictions(SAMPLE)
    shuffled = table.groupby("remedy", sort=False, group_keys=False).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(score_remedies(table, n_resamples=99), score_remedies(shuffled, n_resamples=99))


def test_a_row_without_a_remedy_is_needed():
    with pytest.raises(ValueError, match="lack the remedy 'nothing'"):
        score_remedies(predictions({("unet", "noisy"): 3, ("unet", "clean"): 3}))


def test_remedies_with_other_test_images_are_refused():
    table = predictions(SAMPLE)
    with pytest.raises(ValueError, match="different test images"):
        score_remedies(table.drop(table.index[-3:]))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_the_calibration_error_is_a_share_and_ignores_the_order(seed, number):
    rng = np.random.default_rng(seed)
    labels, values = rng.integers(10, size=number), rng.dirichlet(np.ones(10), size=number)
    error = calibration_error(labels, values)
    assert 0 <= error <= 1
    order = rng.permutation(number)
    assert calibration_error(labels[order], values[order]) == pytest.approx(error)


def test_sure_and_right_is_perfectly_calibrated():
    assert calibration_error(LABELS, np.eye(10)[LABELS]) == 0
    assert calibration_error(LABELS, np.eye(10)[(LABELS + 1) % 10]) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_symmetric_and_ignores_agreement(pairs):
    one, other = np.array(pairs).T
    p = compare_pairs(one, other)
    assert 0 < p <= 1
    assert p == compare_pairs(other, one)
    assert p == compare_pairs(np.append(one, True), np.append(other, True))


def test_recalls_are_those_of_the_counts():
    recalls = recall_table(predictions(SAMPLE))
    assert list(recalls.index) == ["nothing", "median", "autoencoder", "unet"]
    assert recalls.loc["median"].mean() == pytest.approx(50 / 200)
    only = recall_table(predictions(SAMPLE).query("label != 3"))
    assert only.isna().sum().tolist() == [0, 0, 0, 4, 0, 0, 0, 0, 0, 0]


def answers(right):
    """Return the answers of remedies to one kind of damage, from the share that is right by severity."""
    tables = [
        pd.DataFrame(
            {"remedy": name, "kind": "blur", "severity": severity, "row": np.arange(200), "label": LABELS}
        ).assign(predicted=np.where(np.arange(200) < 200 * share, LABELS, -1))
        for name, shares in right.items()
        for severity, share in enumerate(shares, 1)
    ]
    return pd.concat(tables, ignore_index=True)


def test_robustness_sums_errors_relative_to_nothing():
    table = robustness_table(answers({"nothing": (0.6, 0.4), "unet": (0.8, 0.7)}))
    assert table.loc["unet"].tolist() == pytest.approx([0.8, 0.7])
    summary = summarize_robustness(table)
    assert summary.loc["unet", "blur"] == pytest.approx(0.75)
    assert summary["mce"].tolist() == pytest.approx([1, 0.5])


def facts(**more):
    needs = {"nothing": "nothing", "median": "nothing", "autoencoder": "clean-noisy pairs", "unet": "clean-noisy pairs"}
    table = pd.DataFrame({"title": [name.title() for name in needs], "learns from": needs.values()}, index=[*needs])
    return table.assign(**more)


ROBUST = pd.DataFrame({"mce": [1.0, 1.2, 0.8, 0.6]}, index=["nothing", "median", "autoencoder", "unet"])


def test_a_remedy_that_leaves_no_galaxy_has_no_bias():
    measured = {
        "gives": ["images", "images", "classes"],
        "Flux, bias": [None, -0.1, 0.3],
        "Flux, scatter": [None, 0.2, 0.3],
    }
    table = galaxy_table(pd.DataFrame(measured | {"title": ["a", "b", "c"]}))
    assert table.to_dict("list") == {"Remedy": ["a", "b"], "Flux": ["\N{EN DASH}", "-0.100 ± 0.200"]}


def test_advice_follows_the_numbers():
    table = predictions(SAMPLE)
    said = advise(score_remedies(table, n_resamples=99), facts(), table, robustness=ROBUST)
    assert said["nothing"] == (
        'With nothing to train on, the best remedy is "Median" (accuracy 0.25 on noisy images). It is worse than no'
        " remedy (0.30)."
    )
    assert said["noisy"] == "With unlabelled noisy images, this run tried no further remedy."
    assert 'the best remedy is "Unet" (accuracy 0.73 on noisy images). It is better than' in said["pairs"]
    assert said["labels"].endswith("this run tried no further remedy.")
    assert said["stars"].startswith("This run has not measured")
    assert said["all"].startswith("Of 2 other remedies, 1 is measurably better than the paper's autoencoder (0.60)")
    assert said["all"].endswith(': "Unet"; 1 is worse.')


def test_a_small_difference_is_not_called_one():
    table = predictions(SAMPLE | {("unet", "noisy"): 121})
    said = advise(score_remedies(table, n_resamples=99), facts(), table, robustness=ROBUST)
    assert said["all"] == (
        "Of 2 other remedies, none is measurably better than the paper's autoencoder (0.60); 1 is worse."
    )


def test_advice_on_robustness_and_stars():
    table = predictions(SAMPLE)
    stars = facts(**{"stars left": [1.0, 0.9, 0.1, -0.02], "own stars kept": [1.0, 0.5, 0.8, 0.96]})
    said = advise(score_remedies(table, n_resamples=99), stars, table, robustness=ROBUST)
    assert '"Unet" makes the fewest errors: on average 0.60 times as many' in said["robust"]
    assert "2 of 3 remedies make fewer errors" in said["robust"]
    assert tuple(said) == SENTENCES
    about_stars = (
        '"Unet" removes the injected stars best: the median image keeps -2.0% of their light. Of the field stars'
        " above 5 sigma, 96% keep at least half of their light."
    )
    assert said["stars"] == about_stars
    measured = stars.assign(**{"Flux, bias": [0, 0, 0, 0.012], "Size, bias": [0, 0, 0, -0.03]})
    said = advise(score_remedies(table, n_resamples=99), measured, table, robustness=ROBUST)
    assert said["stars"] == f"{about_stars} The median galaxy's flux changes by +1.2%, and its size by -3.0%."
