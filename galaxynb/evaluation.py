"""How well the classifier does, and how much of what noise takes away denoising gives back.

Functions on labels, predictions and images: scikit-learn's class report beside the paper's Tables 1 to 3,
accuracy with its interval, the recovered share of the lost accuracy, PSNR and SSIM. Nothing here knows of
models, training or figures: predictions come in as arrays.
"""

import importlib.resources
import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from scipy.stats import binomtest
from skimage.metrics import peak_signal_noise_ratio
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix

from galaxynb.files import write_json, written_aside
from galaxynb.layout import CLASS_NAMES

__all__ = [
    "PAPER",
    "Estimate",
    "accuracy_interval",
    "accuracy_on",
    "beside_paper",
    "confusion",
    "image_quality",
    "paper_summary",
    "paper_table",
    "psnr",
    "recovery",
    "report",
    "save_table",
    "ssim",
    "verdict",
]

#: The paper's tables by the test images they were made on: Tables 1, 2 and 3.
PAPER = ("clean", "noisy", "denoised")

_COLUMNS = ("precision", "recall", "f1-score", "support")
_AVERAGES = ("macro avg", "weighted avg")


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


def report(labels, predicted):
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
    return _as_report(pd.DataFrame.from_dict(scores, orient="index"))


def paper_table(name):
    """Return Table 1 (``clean``), 2 (``noisy``) or 3 (``denoised``) of the paper, in `report`'s layout.

    Parameters
    ----------
    name : {"clean", "noisy", "denoised"}

    Returns
    -------
    pandas.DataFrame
        As `report` returns it, with the two decimals that the paper prints.

    Raises
    ------
    ValueError
        If there is no such table.
    """
    if name not in PAPER:
        raise ValueError(f"name is {name!r}; the paper has tables for {', '.join(PAPER)}")
    source = importlib.resources.files("galaxynb") / "paper_tables.csv"
    with source.open(encoding="utf-8") as lines:
        tables = pd.read_csv(lines)
    table = tables[tables["table"] == name].set_index("row")
    return _as_report(table.rename(index={str(k): title for k, title in enumerate(CLASS_NAMES)}))


def _as_report(frame):
    """Give `frame` the rows, columns and types that every report has."""
    frame = frame.loc[[*CLASS_NAMES, "accuracy", *_AVERAGES], list(_COLUMNS)]
    return frame.astype(dict.fromkeys(_COLUMNS[:3], float) | {"support": int}).rename_axis("class")


def paper_summary():
    """Return the paper's accuracies, and its drop, gain and recovery computed from them.

    Returns
    -------
    dict of float
        ``clean``, ``noisy``, ``denoised``: accuracies of Tables 1 to 3. ``drop`` = clean - noisy,
        ``gain`` = denoised - noisy, ``recovery`` = gain / drop.
    """
    accuracy = {name: float(paper_table(name).loc["accuracy", "f1-score"]) for name in PAPER}
    # The tables have two decimals, so their differences have no more.
    drop = round(accuracy["clean"] - accuracy["noisy"], 2)
    gain = round(accuracy["denoised"] - accuracy["noisy"], 2)
    return accuracy | {"drop": drop, "gain": gain, "recovery": gain / drop}


def beside_paper(report, name):
    """Set a report beside the paper's table, column by column.

    Parameters
    ----------
    report : pandas.DataFrame
        From `report`.
    name : {"clean", "noisy", "denoised"}
        The paper's table.

    Returns
    -------
    pandas.DataFrame
        Columns ``Class``, then ``Precision``, ``Precision (paper)`` and so on to ``Support (paper)``, at full
        precision. Classes carry their number, as in ``0 Disturbed``.

    Raises
    ------
    ValueError
        If there is no such table of the paper, or `report` has other rows.
    """
    paper = paper_table(name)
    if list(report.index) != list(paper.index):
        raise ValueError("report has other rows than the paper's table; pass what evaluation.report returns")
    titles = [f"{k} {title}" for k, title in enumerate(CLASS_NAMES)]
    columns = {"Class": [*titles, "Accuracy", "Macro average", "Weighted average"]}
    for column in _COLUMNS:
        title = column.capitalize()
        columns[title] = report[column].to_numpy()
        columns[f"{title} (paper)"] = paper[column].to_numpy()
    return pd.DataFrame(columns)


def save_table(frame, stem, decimals=2):
    """Write `frame` as CSV for reading and as JSON at full precision.

    Parameters
    ----------
    frame : pandas.DataFrame
        A named index becomes the first column; an unnamed one is left out.
    stem : str or os.PathLike
        Path without suffix; ``.csv`` and ``.json`` are added.
    decimals : int, optional
        Decimals of floating-point numbers in the CSV. The JSON, a list of one object a row, keeps them all.
        What is missing or not finite is an empty cell in the CSV and null in the JSON.

    Returns
    -------
    tuple of pathlib.Path
        The CSV and the JSON.
    """
    stem = Path(stem)
    frame = frame.reset_index() if frame.index.name else frame.reset_index(drop=True)
    frame = frame.replace([np.inf, -np.inf], np.nan)
    csv, json = (stem.with_name(stem.name + suffix) for suffix in (".csv", ".json"))
    with written_aside(csv) as aside:
        frame.to_csv(aside, index=False, float_format=f"%.{decimals}f", lineterminator="\n")
    write_json(json, frame.astype(object).where(frame.notna(), None).to_dict("records"))
    return csv, json


def accuracy_interval(correct, level=0.95):
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
        Which test images are in each subset, such as what `data.leak_free` returns.

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


def recovery(clean, noisy, denoised, n_resamples=9999, level=0.95, seed=0):
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


def confusion(labels, predicted, normalize=True):
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


def psnr(reference, images):
    """Return the peak signal-to-noise ratio of each image in dB, for a peak of 1.

    Parameters
    ----------
    reference, images : ndarray of float, shape (N, H, W, 3)
        In [0, 1].

    Returns
    -------
    ndarray of float64, shape (N,)
        ``-10 log10(mean squared error)``; infinite where an image equals its reference.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are not batches of RGB images or not floating point.
    """
    _check_pairs(reference, images)
    pairs = zip(reference, images, strict=True)
    # Identical images: the logarithm of zero is the documented infinity.
    with np.errstate(divide="ignore"):
        return np.array([peak_signal_noise_ratio(one, other, data_range=1.0) for one, other in pairs], dtype=float)


#: Side in pixels of the square window of SSIM, and its two constants for a peak of 1 (Wang et al. 2004).
_WINDOW, _C1, _C2 = 7, 0.01**2, 0.03**2
#: Images in work at once: enough that Python's part is small, few enough to stay in the processor's caches at 64 px.
_AT_ONCE = 16


def ssim(reference, images):
    """Return the structural similarity of each image, averaged over its pixels and channels.

    The law is that of scikit-image's ``structural_similarity`` with its defaults: uniform windows of 7 by 7 pixels,
    sample covariances, and only pixels whose window lies inside the image. Here many images share a call, which takes a
    fraction of the time.

    Parameters
    ----------
    reference, images : ndarray of float, shape (N, H, W, 3)
        In [0, 1], 7 pixels or more a side. Computed in float64 where either is wider than float32, else in float32.

    Returns
    -------
    ndarray of float64, shape (N,)
        1 where an image equals its reference.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are not batches of RGB images, not floating point or smaller than a window.

    References
    ----------
    Wang Z., Bovik A.C., Sheikh H.R. and Simoncelli E.P. 2004, IEEE Transactions on Image Processing 13, 600.
    """
    _check_pairs(reference, images)
    if min(images.shape[1:3]) < _WINDOW:
        raise ValueError(f"images has shape {images.shape}; expected {_WINDOW} pixels or more a side")
    dtype = np.float64 if np.result_type(reference, images).itemsize > 4 else np.float32
    values = []
    for start in range(0, len(images), _AT_ONCE):
        pair = (array[start : start + _AT_ONCE].astype(dtype, copy=False) for array in (reference, images))
        values.append(_similarity(*pair).mean(axis=(1, 2, 3), dtype=float))
    return np.concatenate(values)


def _similarity(one, other):
    """Return the SSIM of two batches at each pixel whose window lies inside its image."""
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    mean, other_mean = _window_means(one), _window_means(other)
    product = mean * other_mean
    squares = mean * mean + other_mean * other_mean
    covariance = sample * (_window_means(one * other) - product)
    variances = sample * (_window_means(one * one + other * other) - squares)
    return (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))


def _window_means(images):
    """Average over each window inside an image.

    OpenCV gets an image at a time, since it carries sums along: in one tall image a value that is not a number would
    spread to the others.
    """
    means = np.empty_like(images, order="C")
    for image, mean in zip(images, means, strict=True):
        cv2.blur(image, (_WINDOW, _WINDOW), dst=mean)
    edge = _WINDOW // 2
    return means[:, edge:-edge, edge:-edge]


def image_quality(reference, images):
    """Return mean and standard deviation of PSNR and SSIM over a batch, ready for JSON.

    Parameters
    ----------
    reference, images : ndarray of float, shape (N, H, W, 3)
        In [0, 1].

    Returns
    -------
    dict
        ``psnr_mean`` and ``psnr_std`` in dB, ``ssim_mean`` and ``ssim_std``. The first two are None where an
        image equals its reference, since its PSNR is infinite.

    Raises
    ------
    ValueError
        As `psnr` and `ssim` do.
    """
    summary = {}
    for name, values in {"psnr": psnr(reference, images), "ssim": ssim(reference, images)}.items():
        finite = bool(np.isfinite(values).all())
        summary[f"{name}_mean"] = float(values.mean()) if finite else None
        summary[f"{name}_std"] = float(values.std()) if finite else None
    return summary


def verdict(accuracy, effect):
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


def _check_pairs(reference, images):
    """Check that both are batches of RGB images in floats, of one shape."""
    for name, array in {"reference": reference, "images": images}.items():
        if array.dtype.kind != "f":
            raise ValueError(f"{name} is {array.dtype}; expected floats in [0, 1], as by data.to_float")
        if array.ndim != 4 or array.shape[-1] != 3 or len(array) == 0:
            raise ValueError(f"{name} has shape {array.shape}; expected (N, H, W, 3) with N of 1 or more")
    if reference.shape != images.shape:
        raise ValueError(f"reference and images differ in shape: {reference.shape} and {images.shape}")


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
