"""Tables of the remedies, computed from the kept predictions of every image and remedy."""

import math

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.results.evaluation import accuracy_interval, estimate_recovery

__all__ = [
    "CLEAN",
    "PROBABILITIES",
    "calibration_error",
    "compare_pairs",
    "recall_table",
    "robustness_table",
    "score_remedies",
    "summarize_robustness",
]


#: Columns of the predictions that hold the probabilities of the classes, in the order of `CLASS_NAMES`.
PROBABILITIES = tuple(f"p{number}" for number in range(len(CLASS_NAMES)))

#: Name of the row of a table of recalls that has clean images without a remedy.
CLEAN = "clean images"

_BINS = 15  # bins of the confidence, as is usual for the expected calibration error


def calibration_error(labels, probabilities):
    """Return the expected calibration error: the mean distance of confidence and accuracy, over 15 equal bins.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)
        True classes.
    probabilities : ndarray of float, shape (N, K)
        Predicted probabilities.

    Returns
    -------
    float
        In [0, 1]; 0 is best. The bins are weighted by their numbers of images.

    References
    ----------
    Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.

    Examples
    --------
    >>> round(calibration_error(np.array([0, 1]), np.array([[0.8, 0.2], [0.8, 0.2]])), 2)
    0.3
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def compare_pairs(right, other):
    """Return the p-value of McNemar's exact test: whether two remedies classify the same images equally well.

    Parameters
    ----------
    right, other : ndarray of bool, shape (N,)
        Whether each remedy is right, for the same images.

    Returns
    -------
    float
        Two-sided p-value, from the images on which only one of them is right.

    Examples
    --------
    >>> right = np.arange(20) < 15
    >>> compare_pairs(right, right), round(compare_pairs(right, ~right), 3)
    (1.0, 0.041)
    """
    only, others = int((right & ~other).sum()), int((~right & other).sum())
    return float(binomtest(only, only + others).pvalue) if only + others else 1.0


def score_remedies(predictions, *, seed=0, n_resamples=9999):
    """Return the scores of each remedy.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row for each remedy, version of the images and test image, with the columns ``remedy``, ``images``
        ("clean" or "noisy"), ``row``, ``label`` and `PROBABILITIES`. Each remedy has the same test images. The remedy
        "nothing" is needed, and "autoencoder" for the comparison.
    seed, n_resamples
        Of the bootstrap behind the intervals of the recovery.

    Returns
    -------
    pandas.DataFrame
        One row per remedy, in the order of `predictions`, with its name as the index. ``clean``, ``noisy`` and
        ``recovery`` are of type `Estimate`: the accuracy of the remedy on clean images and on noisy ones, and the
        share of the accuracy lost to noise that it wins back. ``p`` is McNemar's p-value against the autoencoder on
        noisy images, ``ece`` the expected calibration error and ``brier`` the Brier score on noisy images.

    Raises
    ------
    ValueError
        If the remedy "nothing" is missing, or remedies have other test images.

    Examples
    --------
    >>> table = pd.DataFrame({"remedy": "nothing", "images": ["clean", "noisy"], "row": 0, "label": 0})
    >>> scores = score_remedies(table.assign(**dict.fromkeys(PROBABILITIES, 0.1)), n_resamples=9)
    >>> scores.loc["nothing", "noisy"].value
    1.0
    """
    right, rows, tested = {}, {}, set()
    for (name, images), part in predictions.groupby(["remedy", "images"], sort=False, observed=True):
        part = part.sort_values("row")
        probabilities = part[list(PROBABILITIES)].to_numpy(float)
        labels = part["label"].to_numpy()
        tested.add((*part["row"],))
        right[name, images] = probabilities.argmax(axis=1) == labels
        if images == "noisy":
            total = probabilities.sum(axis=1, keepdims=True)
            shares = probabilities / np.where(total > 0, total, 1)
            rows[name] = {
                "ece": calibration_error(labels, probabilities),
                "brier": float(brier_score_loss(labels, shares, labels=range(len(CLASS_NAMES)), scale_by_half=False)),
            }
    if ("nothing", "clean") not in right or ("nothing", "noisy") not in right:
        raise ValueError("the predictions lack the remedy 'nothing', but all others are compared with it: add it")
    if len(tested) > 1:
        raise ValueError("the remedies have different test images, but the same are needed: run them again")
    clean, noisy = right["nothing", "clean"], right["nothing", "noisy"]
    for name, row in rows.items():
        mine = right[name, "noisy"]
        effect = estimate_recovery(clean, noisy, mine, seed=seed, n_resamples=n_resamples)
        row |= {"clean": accuracy_interval(right[name, "clean"]), "noisy": accuracy_interval(mine)}
        row |= {"recovery": effect["recovery"], "p": math.nan}
        if ("autoencoder", "noisy") in right and name != "autoencoder":
            row["p"] = compare_pairs(mine, right["autoencoder", "noisy"])
    return pd.DataFrame.from_dict(rows, orient="index")[["clean", "noisy", "recovery", "p", "ece", "brier"]]


def recall_table(predictions):
    """Return the recall of each class on noisy images, for each remedy.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As for `score_remedies`.

    Returns
    -------
    pandas.DataFrame
        One row per remedy, one column per class name. NaN for a class without test images. The first row, `CLEAN`, is
        the classifier without a remedy on clean images.

    Examples
    --------
    >>> one = {"remedy": "nothing", "row": 0, "label": 0} | dict.fromkeys(PROBABILITIES, 0.0)
    >>> both = [one | {"images": "clean", "p0": 1.0}, one | {"images": "noisy", "p1": 1.0}]
    >>> recall_table(pd.DataFrame(both))["Disturbed"].to_dict()
    {'clean images': 1.0, 'nothing': 0.0}
    """
    right = predictions[list(PROBABILITIES)].to_numpy().argmax(axis=1) == predictions["label"].to_numpy()
    noisy = predictions["images"] == "noisy"
    clean = ~noisy & (predictions["remedy"] == "nothing")
    names = predictions["remedy"].astype(str).mask(clean, CLEAN)
    table = predictions.assign(right=right, remedy=names)[noisy | clean]
    table = table.pivot_table("right", "remedy", "label", aggfunc="mean")
    table = table.reindex(index=[CLEAN, *names[noisy].unique()], columns=range(len(CLASS_NAMES)))
    return table.set_axis(CLASS_NAMES, axis=1).rename_axis(None).rename_axis(None, axis=1)


def robustness_table(answers):
    """Return the accuracy of each remedy for each kind and severity of damage.

    Parameters
    ----------
    answers : pandas.DataFrame
        One row for each remedy, kind, severity and test image, with the columns ``remedy``, ``kind``, ``severity``,
        ``row``, ``label`` and ``predicted``.

    Returns
    -------
    pandas.DataFrame
        Rows are remedies; the columns have two levels, kind and severity.

    Examples
    --------
    >>> answer = {"remedy": "nothing", "kind": "blur", "severity": 1, "row": 0, "label": 2, "predicted": 2}
    >>> float(robustness_table(pd.DataFrame([answer])).loc["nothing", ("blur", 1)])
    1.0
    """
    right = answers.assign(right=answers["predicted"] == answers["label"])
    options = {"index": "remedy", "columns": ["kind", "severity"], "aggfunc": "mean", "sort": False, "observed": True}
    return right.pivot_table("right", **options)


def summarize_robustness(table):
    """Return the mean accuracy of each remedy for each kind of damage, and its mean corruption error.

    Parameters
    ----------
    table : pandas.DataFrame
        From `robustness_table`, with a row "nothing".

    Returns
    -------
    pandas.DataFrame
        One row per remedy, one column per kind (the mean over severities), and ``mce``: the error summed over the
        severities of a kind, divided by that of the row "nothing", averaged over kinds. Below 1 is better than
        nothing (Hendrycks and Dietterich 2019, arXiv:1903.12261).

    Examples
    --------
    >>> columns = pd.MultiIndex.from_product([["blur"], [1, 2]])
    >>> table = pd.DataFrame([[0.8, 0.6], [0.9, 0.8]], index=["nothing", "better"], columns=columns)
    >>> summarize_robustness(table).round(2).values.tolist()
    [[0.7, 1.0], [0.85, 0.5]]
    """
    accuracy = table.T.groupby(level=0, sort=False).mean().T
    error = 1 - accuracy
    nothing = error.loc["nothing"].clip(lower=1e-9)
    return accuracy.assign(mce=(error / nothing).mean(axis=1))
