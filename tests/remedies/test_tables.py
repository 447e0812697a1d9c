"""Scores of remedies, computed from predictions alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxynb.remedies.advice import QUESTIONS, advise
from galaxynb.remedies.results import accuracy_table, galaxy_table
from galaxynb.remedies.tables import (
    CLEAN,
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
    with pytest.raises(ValueError, match="different test images"):
        score_remedies(table.replace({"row": {3: 300}}).where(table["remedy"] == "unet", table))


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
    assert list(recalls.index) == [CLEAN, "nothing", "median", "autoencoder", "unet"]
    assert recalls.loc[CLEAN].mean() == pytest.approx(150 / 200)
    assert recalls.loc["median"].mean() == pytest.approx(50 / 200)
    only = recall_table(predictions(SAMPLE).query("label != 3"))
    assert only.isna().sum().tolist() == [0, 0, 0, 5, 0, 0, 0, 0, 0, 0]


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


def said_of(table, *, about=None, robust=ROBUST):
    return advise(score_remedies(table, n_resamples=99), facts() if about is None else about, table, robustness=robust)


def test_a_remedy_that_leaves_no_galaxy_has_no_bias():
    measured = {
        "gives": ["images", "images", "classes"],
        "Flux, bias": [None, -0.1, 0.3],
        "Flux, scatter": [None, 0.2, 0.3],
    }
    table, space = galaxy_table(pd.DataFrame(measured | {"title": ["a", "b", "c"]})), "\N{NO-BREAK SPACE}"
    assert table.to_dict("list") == {
        "Remedy": ["a", "b"],
        "Flux": ["\N{EN DASH}", f"\N{MINUS SIGN}0.100{space}±{space}0.200"],
    }


def test_advice_follows_the_numbers():
    said = said_of(predictions(SAMPLE))
    assert said["nothing"] == (
        'Without training, the best remedy is "Median" (accuracy 0.25 on noisy and 0.70 on clean images). It is worse'
        ' than no remedy (0.30). Worse on clean images than no remedy (0.75): "Median".'
    )
    assert said["noisy"] == "With unlabelled noisy images, this run tried no further remedy."
    assert (
        'the best remedy is "Unet" (accuracy 0.73 on noisy and 0.74 on clean images). It is better than'
        in said["pairs"]
    )
    assert said["labels"].endswith("this run tried no further remedy.")
    assert said["stars"].startswith("This run has not measured")
    assert said["all"].startswith("Of 2 other remedies, 1 is measurably better than the paper's autoencoder (0.60)")
    assert said["all"].endswith(': "Unet"; 1 is worse.')


def test_advice_names_equals_of_the_best_and_those_that_harm_clean_images():
    changed = {("nothing", "clean"): 170, ("autoencoder", "noisy"): 146, ("unet", "clean"): 120}
    said = said_of(predictions(SAMPLE | changed))
    assert said["pairs"].endswith(
        'Not measurably different from the best: "Autoencoder" (0.73 and 0.70). Worse on clean images than no remedy'
        ' (0.85): "Unet", "Autoencoder".'
    )
    assert "different" not in said_of(predictions(SAMPLE))["pairs"]


def test_a_small_difference_is_not_called_one():
    said = said_of(predictions(SAMPLE | {("unet", "noisy"): 121}))
    assert said["all"] == (
        "Of 2 other remedies, none is measurably better than the paper's autoencoder (0.60); 1 is worse."
    )


def test_advice_on_damage():
    table = predictions(SAMPLE)
    said = said_of(table)
    assert tuple(said) == tuple(QUESTIONS)
    fewest = (
        'Under damage that no network was trained on, "Unet" makes the fewest errors: on average 0.60 times as many'
    )
    assert said["robust"] == f"{fewest} as the classifier without a remedy."
    kinds = ROBUST.assign(blur=[0.5, 0.4, 0.4, 0.4], jpeg=[0.5, 0.6, 0.4, 0.6], trail=[0.5, 0.4, 0.6, 0.49])
    assert said_of(table, robust=kinds)["robust"].endswith(
        '"Unet" has a lower accuracy than no remedy under "Blurred PSF", "Satellite trail".'
    )


def test_advice_says_that_a_remedy_adapts_to_the_damage_first():
    names = {"unet": "batchnorm-600"}
    table = predictions(SAMPLE).replace({"remedy": names})
    said = said_of(table, about=facts().rename(names), robust=ROBUST.rename(names))
    assert "makes the fewest errors, if it first gets unlabelled images with the same damage: on" in said["robust"]
    assert said["robust"].endswith('Of the remedies that do not adapt, it is "Autoencoder" (0.80).')


def test_advice_says_what_helps_under_damage_without_labels():
    table = predictions(SAMPLE)
    said = said_of(table, about=facts(**{"learns from": ["nothing", "nothing", "clean-noisy pairs", "labels"]}))
    assert said["robust"].endswith('Of the remedies that need no labels, it is "Autoencoder" (0.80).')
    names = {"autoencoder": "batchnorm-600"}
    about = facts(**{"learns from": ["nothing", "nothing", "unlabelled noisy images", "labels"]}).rename(names)
    said = said_of(table.replace({"remedy": names}), about=about, robust=ROBUST.rename(names))
    assert said["robust"].endswith(
        'Of the remedies that need no labels, it is "Autoencoder" (0.80), if it first gets unlabelled images with the'
        ' same damage. Of the remedies that need no labels and do not adapt, it is "Median" (1.20).'
    )
    assert said_of(table, robust=ROBUST.iloc[:1])["robust"] == "No other remedy was tried under other damage."


def test_advice_names_the_control_of_fine_tuning():
    names = {"median": "clean-finetuned-classifier", "unet": "finetuned-classifier"}
    said = said_of(
        predictions(SAMPLE).replace({"remedy": names}), about=facts().rename(names), robust=ROBUST.rename(names)
    )
    assert '"Median" (0.25) is a control for "Unet" (0.73): its classifier was trained further' in said["labels"]
    assert "control" not in said_of(predictions(SAMPLE))["labels"]


def test_advice_on_stars_and_galaxies():
    table = predictions(SAMPLE)
    stars = facts(**{"stars left": [1.0, 0.9, 0.1, -0.02], "own stars kept": [1.0, 0.5, 0.8, 0.96]})
    about_stars = (
        '"Unet" removes the injected stars best: the median image keeps -2.0% of their light. Of the field stars'
        " above 5 sigma, 96% keep at least half of their light."
    )
    assert said_of(table, about=stars)["stars"] == about_stars
    flux = {"Flux, bias": [-0.02, 0.2, 0.01, 0.1], "Flux, scatter": [0.08, 0.2, 0.04, 0.02]}
    size = {"Size, bias": [-0.01, 0.2, -0.02, 0.1], "Size, scatter": [0.05, 0.2, 0.03, 0.02]}
    assert said_of(table, about=stars.assign(**flux, **size))["stars"] == (
        f'{about_stars} The errors of flux and size, bias and scatter together, are smallest with "Autoencoder": +1.0%'
        " ± 4.0% and -2.0% ± 3.0% (without a remedy: -2.0% ± 8.0% and -1.0% ± 5.0%). The first number is the bias, a"
        " median over the galaxies, and the second the scatter."
    )


def test_advice_names_the_classes_that_the_autoencoder_saves_and_those_that_it_does_not():
    table = predictions(SAMPLE)
    columns = list(PROBABILITIES)

    def answer(remedy, images, label, right):
        rows = table.index[(table["remedy"] == remedy) & (table["images"] == images) & (table["label"] == label)]
        table.loc[rows, columns] = 0.0
        table.loc[rows[:right], columns[label]] = 1.0
        table.loc[rows[right:], columns[(label + 1) % 10]] = 1.0

    for label in range(10):
        for remedy, images, right in (("nothing", "clean", 16), ("nothing", "noisy", 8), ("autoencoder", "noisy", 14)):
            answer(remedy, images, label, right)
    for label, noisy, denoised in ((1, 0, 16), (6, 14, 10)):
        answer("nothing", "noisy", label, noisy)
        answer("autoencoder", "noisy", label, denoised)
    assert said_of(table)["classes"] == (
        "Denoising raises the recall of Merging most, from 0% on noisy images to 80% (clean images: 80%). After it,"
        " Unbarred Tight Spiral is furthest below its recall on clean images: 50% instead of 80%. Compared with noisy"
        " images, denoising lowers the recall of Unbarred Tight Spiral from 70% to 50% (clean images: 80%)."
    )
    for label in range(10):
        answer("autoencoder", "noisy", label, 0)
    assert said_of(table)["classes"].startswith("Denoising raises the recall of no class. After it, ")
