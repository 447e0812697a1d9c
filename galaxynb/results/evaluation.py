"""Accuracy of the classifier, and the share of the accuracy lost to noise that denoising recovers.

The functions take arrays of labels and predictions. They use no model, no training and no figure.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.results.paper import PAPER, as_report, paper_summary

__all__ = [
    "Estimate",
    "accuracy_interval",
    "accuracy_on",
    "class_report",
    "confusion_table",
    "estimate_recovery",
    "recovery_verdict",
]


class Estimate(NamedTuple):
    """An estimate with its confidence interval.

    Attributes
    ----------
    value : float
        The estimate. NaN if it is undefined.
    low, high : float
        Ends of the interval. NaN if they are undefined, infinite if no bound is known.
    """

    value: float
    low: float
    high: float

    def asdict(self):
        """Return a dict of value, low and high for JSON, with None in place of NaN and infinity."""
        return {key: number if math.isfinite(number) else None for key, number in self._asdict().items()}

    def text(self, digits=2):
        """Return the estimate as text, such as ``0.74 (0.72 to 0.75)`` or ``undefined``."""
        if math.isnan(self.value):
            return "undefined"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def class_report(labels, predicted):
    """Return precision, recall, F1-score and support of each class, with their averages and the accuracy.

    Parameters
    ----------
    labels, predicted : array_like of int, shape (N,)
        True and predicted classes, 0 to 9. A class may be absent from both.

    Returns
    -------
    pandas.DataFrame
        Rows: the ten class names, ``accuracy``, ``macro avg`` and ``weighted avg``. Columns: ``precision``,
        ``recall``, ``f1-score`` (float, in [0, 1]) and ``support`` (int, number of images). A score is 0 if a
        class has no prediction or no image. As in the paper, the accuracy is in the ``f1-score`` column; its
        precision and recall are NaN.

    Raises
    ------
    ValueError
        If the arrays are empty, differ in length or hold anything but integers from 0 to 9.

    Examples
    --------
    >>> report = class_report([0, 0, 1, 1], [0, 1, 1, 1])
    >>> report.loc["Merging"].round(2).tolist()
    [0.67, 1.0, 0.8, 2.0]
    >>> float(report.loc["accuracy", "f1-score"])
    0.75
    """
    labels, predicted = _classes(labels=labels, predicted=predicted)
    scores = classification_report(
        labels, predicted, labels=range(len(CLASS_NAMES)), target_names=CLASS_NAMES, output_dict=True, zero_division=0
    )
    # scikit-learn calls this row 'accuracy' or 'micro avg', depending on its arguments. Set it here instead.
    scores["accuracy"] = {"f1-score": accuracy_score(labels, predicted), "support": len(labels)}
    return as_report(pd.DataFrame.from_dict(scores, orient="index"))


def accuracy_interval(correct, *, level=0.95):
    """Return the accuracy and its Wilson score interval.

    Parameters
    ----------
    correct : array_like of bool, shape (N,)
        Whether the prediction is right, for each image.
    level : float, optional
        Confidence level, between 0 and 1.

    Returns
    -------
    Estimate
        In [0, 1].

    Raises
    ------
    ValueError
        If `correct` is empty or not boolean, or if `level` is not between 0 and 1.

    Examples
    --------
    >>> accuracy_interval(np.arange(100) < 74).text()
    '0.74 (0.65 to 0.82)'
    """
    (correct,) = _right_or_not(correct=correct)
    _check_level(level)
    result = binomtest(int(correct.sum()), len(correct))
    interval = result.proportion_ci(confidence_level=level, method="wilson")
    return Estimate(float(result.statistic), float(interval.low), float(interval.high))


def accuracy_on(correct, subsets):
    """Return a table of the accuracy on each subset of the test images, for each version of the images.

    Parameters
    ----------
    correct : dict of str to array_like of bool, shape (N,)
        Whether the prediction is right for each test image, by the name of the version. All versions are of the
        same test images.
    subsets : dict of str to array_like of bool, shape (N,)
        Whether a test image belongs to the subset, by the name of the subset. `leak_free` returns such an array.

    Returns
    -------
    pandas.DataFrame
        One row per subset. ``Test images`` is its name and ``Images`` the number of images. Each further column is
        a version, such as ``Clean``: the accuracy and its 95% interval as text, or ``undefined`` if the subset is
        empty.

    Raises
    ------
    ValueError
        If the arrays are empty, not boolean or differ in length.

    Examples
    --------
    >>> correct = {"clean": np.arange(10) < 8}
    >>> accuracy_on(correct, {"all": np.full(10, True), "first four": np.arange(10) < 4})
      Test images  Images                Clean
    0         all      10  0.80 (0.49 to 0.94)
    1  first four       4  1.00 (0.51 to 1.00)
    """
    arrays = dict(zip(correct, _right_or_not(**correct, **subsets), strict=False))
    table = []
    for subset, kept in subsets.items():
        row = {"Test images": subset, "Images": int(np.sum(kept))}
        for name, right in arrays.items():
            row[name.capitalize()] = accuracy_interval(right[kept]).text() if row["Images"] else "undefined"
        table.append(row)
    return pd.DataFrame(table)


def estimate_recovery(clean, noisy, denoised, *, n_resamples=9999, level=0.95, seed=0):
    """Return the accuracy lost to noise, the accuracy gained by denoising, and the share recovered.

    The intervals are percentiles of a paired bootstrap: each resample draws test images, and each image keeps its
    three outcomes together. Three predictions, right or wrong, have 2**3 combinations. Each resample draws the
    number of images of each combination from a multinomial distribution. This is equivalent to drawing images, but
    takes less memory, and the order of the images has no effect.

    Parameters
    ----------
    clean, noisy, denoised : array_like of bool, shape (N,)
        Whether the prediction is right on the clean, the noisy and the denoised version of each image.
    n_resamples : int, optional
        Number of bootstrap resamples, 1 or more.
    level : float, optional
        Confidence level, between 0 and 1.
    seed : int, optional
        Seed of the bootstrap.

    Returns
    -------
    dict of Estimate
        ``drop`` is the accuracy on clean minus that on noisy images, ``gain`` is the accuracy on denoised minus that
        on noisy images, and ``recovery`` is gain / drop.
        If noise does not lower the accuracy (drop <= 0), ``recovery`` is undefined: its three numbers are NaN.
        The recovery of a *resample* without a drop is undefined too. Leaving such resamples out would hide the
        uncertainty. They count as minus infinity for the low end and as plus infinity for the high end. So if more
        than a share (1 - level) / 2 of the resamples have no drop, both ends are infinite: no bound is known.

    Raises
    ------
    ValueError
        If the arrays are empty, not boolean or differ in length, if `n_resamples` is below 1, or if `level` is not
        between 0 and 1.

    Examples
    --------
    >>> clean, noisy, denoised = (np.arange(100) < right for right in (74, 33, 70))
    >>> effect = estimate_recovery(clean, noisy, denoised, n_resamples=99)
    >>> {name: round(estimate.value, 2) for name, estimate in effect.items()}
    {'drop': 0.41, 'gain': 0.37, 'recovery': 0.9}
    """
    clean, noisy, denoised = _right_or_not(clean=clean, noisy=noisy, denoised=denoised)
    _check_level(level)
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}, but 1 or more is needed: give a positive whole number")
    n_images = len(clean)
    counts = np.bincount(clean * 4 + noisy * 2 + denoised, minlength=8)
    resampled = np.random.default_rng(seed).multinomial(n_images, counts / n_images, size=n_resamples)
    # Differences of integer counts are exact, so "no drop" is exactly 0.
    outcome = np.arange(8)
    was_clean, was_noisy, was_denoised = outcome >> 2 & 1, outcome >> 1 & 1, outcome & 1
    weights = np.stack([was_clean - was_noisy, was_denoised - was_noisy], axis=1)
    drop, gain = counts @ weights
    drops, gains = (resampled @ weights).T
    share = Estimate(math.nan, math.nan, math.nan)
    if drop > 0:
        defined = drops > 0
        shares = gains / np.where(defined, drops, 1)
        low, _ = _percentiles(np.where(defined, shares, -np.inf), level)
        _, high = _percentiles(np.where(defined, shares, np.inf), level)
        share = Estimate(float(gain / drop), low, high)
    return {
        "drop": Estimate(float(drop / n_images), *_percentiles(drops / n_images, level)),
        "gain": Estimate(float(gain / n_images), *_percentiles(gains / n_images, level)),
        "recovery": share,
    }


def _percentiles(resamples, level):
    """Return the central interval of `resamples`.

    The ends are values of `resamples`, never interpolated, because infinite values cannot be interpolated.
    """
    ordered = np.sort(resamples)
    tail = (1 - level) / 2 * (len(ordered) - 1)
    return float(ordered[math.floor(tail)]), float(ordered[math.ceil(len(ordered) - 1 - tail)])


def confusion_table(labels, predicted, *, normalize=True):
    """Return the confusion matrix of the ten classes.

    Parameters
    ----------
    labels, predicted : array_like of int, shape (N,)
        True and predicted classes, 0 to 9.
    normalize : bool, optional
        If true, divide each row by the number of images of the true class, so that the diagonal is the recall. If
        false, return counts of images.

    Returns
    -------
    pandas.DataFrame
        Rows are the true classes, columns the predicted classes, both by name. With `normalize`, each row sums to
        1; the row of a class without images is NaN.

    Raises
    ------
    ValueError
        If the arrays are empty, differ in length or hold anything but integers from 0 to 9.

    Examples
    --------
    >>> confusion_table([0, 0, 1], [0, 1, 1]).loc["Disturbed", ["Disturbed", "Merging"]].tolist()
    [0.5, 0.5]
    """
    labels, predicted = _classes(labels=labels, predicted=predicted)
    counts = pd.DataFrame(
        confusion_matrix(labels, predicted, labels=range(len(CLASS_NAMES))),
        index=pd.Index(CLASS_NAMES, name="true"),
        columns=pd.Index(CLASS_NAMES, name="predicted"),
    )
    return counts.div(counts.sum(axis=1), axis=0) if normalize else counts


def recovery_verdict(accuracy, effect):
    """Return three sentences that state whether denoising saved the classifier, from the numbers alone.

    Parameters
    ----------
    accuracy : dict of Estimate
        Accuracies, at least ``clean``, ``noisy`` and ``denoised``.
    effect : dict of Estimate
        From `estimate_recovery`.

    Returns
    -------
    list of str
        The sentences give the accuracy lost to noise, the accuracy gained by denoising, and the share recovered
        compared with the paper's. If the interval of a change includes 0, its sentence says "does not measurably
        change".

    Examples
    --------
    >>> right = [np.arange(100) < n for n in (74, 33, 70)]
    >>> accuracy = dict(zip(PAPER, map(accuracy_interval, right)))
    >>> print(recovery_verdict(accuracy, estimate_recovery(*right))[0])
    Noise lowers the accuracy: 0.74 becomes 0.33.
    """
    clean, noisy, denoised = (accuracy[name] for name in PAPER)
    paper = paper_summary()["recovery"]
    drop, gain, share = effect["drop"], effect["gain"], effect["recovery"]
    if math.isnan(share.value):
        recovered = "Noise cost no accuracy, so there was nothing to recover"
        comparison = f"the paper's is {paper:.2f}"
    else:
        recovered = f"The share of the drop recovered is {share.text()}"
        comparison = (
            f"the paper's {paper:.2f} is {'inside' if share.low <= paper <= share.high else 'outside'} this interval"
        )
    return [
        f"Noise {_changes(drop, 'lowers', 'raises')} the accuracy: {clean.value:.2f} becomes {noisy.value:.2f}.",
        f"Denoising {_changes(gain, 'raises', 'lowers')} the accuracy on noisy images: "
        f"{noisy.value:.2f} becomes {denoised.value:.2f}.",
        f"{recovered}; {comparison}.",
    ]


def _changes(difference, positive, negative):
    """Return `positive` or `negative` by the sign of a difference, if its interval excludes 0."""
    if difference.low > 0:
        return positive
    return negative if difference.high < 0 else "does not measurably change"


def _classes(**arrays):
    """Return the arrays after a check that they hold classes."""
    checked = _same_length(**arrays)
    for name, array in zip(arrays, checked, strict=True):
        if array.dtype.kind not in "iu":
            raise ValueError(
                f"{name} is {array.dtype}, but integers are needed: pass classes from 0 to {len(CLASS_NAMES) - 1}"
            )
        if array.min() < 0 or array.max() >= len(CLASS_NAMES):
            raise ValueError(
                f"{name} has values from {array.min()} to {array.max()}, but classes from 0 to "
                f"{len(CLASS_NAMES) - 1} are needed: pass labels of the Galaxy10 DECaLS layout"
            )
    return checked


def _right_or_not(**arrays):
    """Return the arrays after a check that they are boolean."""
    checked = _same_length(**arrays)
    for name, array in zip(arrays, checked, strict=True):
        if array.dtype != bool:
            raise ValueError(f"{name} is {array.dtype}, but booleans are needed: pass predicted == labels")
    return checked


def _same_length(**arrays):
    """Return the arrays after a check that they are one-dimensional, not empty and of equal length."""
    checked = [np.asarray(array) for array in arrays.values()]
    for name, array in zip(arrays, checked, strict=True):
        if array.ndim != 1 or array.size == 0:
            raise ValueError(
                f"{name} has shape {array.shape}, but (N,) with N of 1 or more is needed: pass one value per image"
            )
    lengths = {len(array) for array in checked}
    if len(lengths) > 1:
        raise ValueError(
            f"{', '.join(arrays)} have lengths {', '.join(map(str, sorted(lengths)))}, but equal lengths are needed: "
            "pass values of the same images"
        )
    return checked


def _check_level(level):
    """Raise an error unless `level` is a confidence level."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, but a number between 0 and 1 is needed: give 0.95 for 95%")
