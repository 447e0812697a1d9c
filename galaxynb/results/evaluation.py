"""Accuracy of the classifier, and the share of the accuracy lost to noise that denoising recovers.

Functions take labels and predictions as arrays. They know nothing of models, training or figures.
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
    """A number and its interval.

    Attributes
    ----------
    value : float
        The estimate; NaN where it is undefined.
    low, high : float
        The interval's ends; NaN where undefined, infinite where no bound is known.
    """

    value: float
    low: float
    high: float

    def asdict(self):
        """Return value, low and high as a dict ready for JSON: None for what is not finite."""
        return {key: number if math.isfinite(number) else None for key, number in self._asdict().items()}

    def text(self, digits=2):
        """Return the estimate for reading, such as ``0.74 (0.72 to 0.75)``, or ``undefined``."""
        if math.isnan(self.value):
            return "undefined"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def class_report(labels, predicted):
    """Return scikit-learn's classification report over the ten classes.

    Parameters
    ----------
    labels, predicted : array_like of int, shape (N,)
        True and predicted classes, 0..9. A class may be absent from both.

    Returns
    -------
    pandas.DataFrame
        Rows: the ten class names, ``accuracy``, ``macro avg``, ``weighted avg``. Columns: ``precision``,
        ``recall``, ``f1-score`` (float; 0 where a class has no prediction or no image) and ``support`` (int).
        As in the paper, the accuracy stands in the ``f1-score`` column; its precision and recall are NaN.

    Raises
    ------
    ValueError
        If the arrays are empty, differ in length or hold anything but classes 0..9.
    """
    labels, predicted = _classes(labels=labels, predicted=predicted)
    scores = classification_report(
        labels,
        predicted,
        labels=range(len(CLASS_NAMES)),
        target_names=CLASS_NAMES,
        output_dict=True,
        zero_division=0,
    )
    # scikit-learn names this row 'accuracy' or 'micro avg' depending on its arguments: state it ourselves.
    scores["accuracy"] = {"f1-score": accuracy_score(labels, predicted), "support": len(labels)}
    return as_report(pd.DataFrame.from_dict(scores, orient="index"))


def accuracy_interval(correct, *, level=0.95):
    """Return the accuracy with its Wilson score interval.

    Parameters
    ----------
    correct : array_like of bool, shape (N,)
        Whether each prediction is right.
    level : float, optional
        Confidence level, between 0 and 1.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If `correct` is empty or not boolean, or `level` is out of range.
    """
    (correct,) = _right_or_not(correct=correct)
    _check_level(level)
    result = binomtest(int(correct.sum()), len(correct))
    interval = result.proportion_ci(confidence_level=level, method="wilson")
    return Estimate(float(result.statistic), float(interval.low), float(interval.high))


def accuracy_on(correct, subsets):
    """Set accuracies on several subsets of the test images beside each other.

    Parameters
    ----------
    correct : dict of str to array_like of bool, shape (N,)
        Whether the prediction is right, for each version of the same test images.
    subsets : dict of str to array_like of bool, shape (N,)
        Which test images are in each subset, such as what `leak_free` returns.

    Returns
    -------
    pandas.DataFrame
        A row per subset: its name in ``Test images``, their number in ``Images``, and then a column per version,
        such as ``Clean``, with the accuracy and its 95% interval as text; ``undefined`` where the subset is empty.

    Raises
    ------
    ValueError
        If the arrays are empty, not boolean or differ in length.
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
    """Return how much accuracy noise costs, how much denoising wins back, and the share recovered.

    The intervals are percentiles of a paired bootstrap: test images are resampled, each with its three
    outcomes together. An image has one of 2**3 outcomes, so drawing the resamples' counts of each from a
    multinomial distribution is the same as drawing images, without the memory, and the order of the images
    cannot matter.

    Parameters
    ----------
    clean, noisy, denoised : array_like of bool, shape (N,)
        Whether the prediction is right on the clean, the noisy and the denoised version of the same images.
    n_resamples : int, optional
        Bootstrap resamples.
    level : float, optional
        Confidence level, between 0 and 1.
    seed : int, optional
        Seed of the bootstrap.

    Returns
    -------
    dict of Estimate
        ``drop`` = accuracy on clean - on noisy, ``gain`` = on denoised - on noisy, and
        ``recovery`` = gain / drop.
        Where noise costs nothing (drop <= 0) there is nothing to recover: ``recovery`` is undefined, all NaN.
        A *resample* without a drop has no recovery either. It is not left out, which would hide the
        uncertainty: it counts as minus infinity for the low end and plus infinity for the high end. So when
        more than (1 - level) / 2 of the resamples have no drop, both ends are infinite: no bound is known.

    Raises
    ------
    ValueError
        If the arrays are empty, not boolean or differ in length, or a parameter is out of range.
    """
    clean, noisy, denoised = _right_or_not(clean=clean, noisy=noisy, denoised=denoised)
    _check_level(level)
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; it must be at least 1")
    n_images = len(clean)
    counts = np.bincount(clean * 4 + noisy * 2 + denoised, minlength=8)
    resampled = np.random.default_rng(seed).multinomial(n_images, counts / n_images, size=n_resamples)
    # Integer differences of counts keep "no drop" exact.
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
    """Return the central interval of `resamples`, at order statistics so that infinity is allowed."""
    ordered = np.sort(resamples)
    tail = (1 - level) / 2 * (len(ordered) - 1)
    return float(ordered[math.floor(tail)]), float(ordered[math.ceil(len(ordered) - 1 - tail)])


def confusion_table(labels, predicted, *, normalize=True):
    """Return the confusion matrix over the ten classes.

    Parameters
    ----------
    labels, predicted : array_like of int, shape (N,)
        True and predicted classes, 0..9.
    normalize : bool, optional
        Divide each row by its support, so that the diagonal is the recall. Otherwise count images.

    Returns
    -------
    pandas.DataFrame
        True classes as rows, predicted classes as columns, by name. With `normalize`, a row sums to 1, and is
        NaN where the class has no image.

    Raises
    ------
    ValueError
        If the arrays are empty, differ in length or hold anything but classes 0..9.
    """
    labels, predicted = _classes(labels=labels, predicted=predicted)
    counts = pd.DataFrame(
        confusion_matrix(labels, predicted, labels=range(len(CLASS_NAMES))),
        index=pd.Index(CLASS_NAMES, name="true"),
        columns=pd.Index(CLASS_NAMES, name="predicted"),
    )
    return counts.div(counts.sum(axis=1), axis=0) if normalize else counts


def recovery_verdict(accuracy, effect):
    """Say in sentences whether denoising saved the classifier, from the numbers alone.

    Parameters
    ----------
    accuracy : dict of Estimate
        At least ``clean``, ``noisy`` and ``denoised``.
    effect : dict of Estimate
        From `recovery`.

    Returns
    -------
    list of str
        Three sentences: what noise cost, what denoising did, and the share recovered beside the paper's. A change
        whose interval holds 0 is called none.
    """
    clean, noisy, denoised = (accuracy[name] for name in PAPER)
    paper = paper_summary()["recovery"]
    drop, gain, share = effect["drop"], effect["gain"], effect["recovery"]
    if math.isnan(share.value):
        recovered = "Noise cost no accuracy, so there was nothing to recover"
        beside = f"the paper's is {paper:.2f}"
    else:
        recovered = f"The share of the drop recovered is {share.text()}"
        beside = (
            f"the paper's {paper:.2f} is {'inside' if share.low <= paper <= share.high else 'outside'} this interval"
        )
    return [
        f"Noise {_changes(drop, 'lowers', 'raises')} the accuracy: {clean.value:.2f} becomes {noisy.value:.2f}.",
        f"Denoising {_changes(gain, 'raises', 'lowers')} the accuracy on noisy images: "
        f"{noisy.value:.2f} becomes {denoised.value:.2f}.",
        f"{recovered}; {beside}.",
    ]


def _changes(difference, positive, negative):
    """Return the verb that an interval of a difference allows."""
    if difference.low > 0:
        return positive
    return negative if difference.high < 0 else "does not measurably change"


def _classes(**arrays):
    """Check that the arrays hold classes, and return them."""
    checked = _same_length(**arrays)
    for name, array in zip(arrays, checked, strict=True):
        if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= len(CLASS_NAMES):
            raise ValueError(f"{name} must hold classes 0 to {len(CLASS_NAMES) - 1} as integers")
    return checked


def _right_or_not(**arrays):
    """Check that the arrays are boolean, and return them."""
    checked = _same_length(**arrays)
    for name, array in zip(arrays, checked, strict=True):
        if array.dtype != bool:
            raise ValueError(f"{name} is {array.dtype}; expected booleans, such as predicted == labels")
    return checked


def _same_length(**arrays):
    checked = [np.asarray(array) for array in arrays.values()]
    for name, array in zip(arrays, checked, strict=True):
        if array.ndim != 1 or array.size == 0:
            raise ValueError(f"{name} has shape {array.shape}; expected (N,) with N of 1 or more")
    lengths = {len(array) for array in checked}
    if len(lengths) > 1:
        raise ValueError(f"{', '.join(arrays)} must have one length, not {sorted(lengths)}")
    return checked


def _check_level(level):
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; a confidence level lies between 0 and 1, such as 0.95")
