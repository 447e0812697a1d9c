"""Measure how close a stand-in comes to real images.

`compare_sample` compares a stand-in with published images. It compares a real file with a stand-in that it draws for
this purpose, with the same size and classes. `galaxynb.standin.measure` defines what is measured. All images pass
through the same JPEG compression first: the published images were JPEGs, and whether the images of a real file were
ever compressed is unknown. This module draws no figure.
"""

import re
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.standin.field import BASE, draw_cutout, random_stream
from galaxynb.standin.measure import (
    QUANTITIES,
    SMALLEST_MEASURED,
    as_jpeg,
    compare_images,
    measure_cutouts,
    published_measurements,
    same_within,
)

__all__ = [
    "CLOSE_BELOW",
    "JUDGED",
    "Closeness",
    "Sample",
    "choose_sample",
    "closeness_by_class",
    "closeness_verdict",
    "compare_sample",
    "count_close_pairs",
    "distances_by_class",
    "draw_like",
    "measure_sample",
    "overall_closeness",
    "readable_closeness",
]


#: Columns of `measure_cutouts` by which `closeness_verdict` judges each class.
JUDGED = ("size", "axis_ratio", "brightness", "galaxy_rb", "n_sources")

#: Two samples are close in a quantity if their Kolmogorov-Smirnov distance is below this.
CLOSE_BELOW = 0.2


_PUBLISHED_SIDE = BASE  # px: side of the published images

_OWN_STREAM = 2  # first spawn key of the random streams, which differ from those of stand-in files


class Sample(NamedTuple):
    """Some images of a file, about the same number of each class.

    Attributes
    ----------
    images : ndarray of uint8, shape (M, H, H, 3)
        RGB cutouts, values 0 to 255.
    labels : ndarray of int, shape (M,)
        Classes 0 to 9.
    redshift : ndarray of float64, shape (M,)
        Redshift, NaN where unknown.
    kind : {"standin", "real"}
        Kind of the file.
    """

    images: np.ndarray
    labels: np.ndarray
    redshift: np.ndarray
    kind: str


class Closeness(NamedTuple):
    """A comparison of a stand-in with published images, or with a real file.

    Attributes
    ----------
    table : pandas.DataFrame
        Result of `compare_images`. Instead of a and b, the names of its columns have ``stand-in`` and `other`.
    other : {"published", "this file"}
        The other side of the comparison.
    standin : ndarray of uint8, shape (M, H, H, 3), or None
        For a real file, the stand-in drawn for the comparison: one image of the same class per image of the sample.
    """

    table: pd.DataFrame
    other: str
    standin: np.ndarray | None


def choose_sample(catalog, n, *, seed=0):
    """Read a random sample of the images of a file, with about the same number of each class.

    Parameters
    ----------
    catalog : galaxynb.data.catalog.Catalog
    n : int
        Number of images, at least 1. A file with fewer images gives all of them. If a class has too few, the other
        classes give more.
    seed : int, optional
        Seed of the choice.

    Returns
    -------
    Sample
        The images in file order.

    Raises
    ------
    ValueError
        If `n` is under 1, or the file cannot be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from galaxynb.data.catalog import load_catalog
    >>> from galaxynb.standin.make import make_standin
    >>> with TemporaryDirectory() as folder:
    ...     path = make_standin(f"{folder}/standin.h5", 12, image_size=32, workers=1, progress=False)
    ...     sample = choose_sample(load_catalog(path), 10)
    >>> sample.labels.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    if n < 1:
        raise ValueError(f"n is {n}, but at least one image is needed: give 1 or more")
    rng = np.random.default_rng(seed)
    rank = np.empty(len(catalog.labels), int)  # within the class
    for k in range(len(CLASS_NAMES)):
        members = np.flatnonzero(catalog.labels == k)
        rank[members] = rng.permutation(len(members))
    # Take one image of each class, then a second one of each, and so on.
    rows = np.sort(np.argsort(rank, kind="stable")[:n])
    return Sample(catalog.take(rows), catalog.labels[rows], catalog.redshift[rows], catalog.kind)


def draw_like(labels, *, seed=0, size=_PUBLISHED_SIDE, shrunk=None, jpeg=False, progress=False):
    """Draw stand-in images of the given classes in memory.

    The images follow the same distribution as those of `make_standin`, but none of them is in any of its files.

    Parameters
    ----------
    labels : array_like of int, shape (M,)
        Classes, 0 to 9.
    seed : int or sequence of int, optional
        Seed of the images, not negative.
    size : int, optional
        Side in pixels at which the images are drawn.
    shrunk : int, optional
        Side in pixels to which each image is then shrunk, by area averaging as in `prepare_cache`.
    jpeg : bool, optional
        Whether each image passes through `as_jpeg` before it is shrunk.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    ndarray of uint8, shape (M, S, S, 3)
        RGB cutouts, values 0 to 255, where S is `shrunk` if given and `size` otherwise.

    Examples
    --------
    >>> draw_like([2, 5], size=64).shape
    (2, 64, 64, 3)
    """
    side = shrunk or size
    images = np.empty((len(labels), side, side, 3), np.uint8)
    for k, label in enumerate(tqdm(labels, desc="drawing", unit="image", disable=not progress)):
        rng = random_stream(seed, _OWN_STREAM, k)
        image = draw_cutout(rng, int(label), size=size)[0]
        image = as_jpeg(image[np.newaxis])[0] if jpeg else image
        images[k] = image if side == size else cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return images


def measure_sample(sample, *, progress=False):
    """Measure the images of a sample after JPEG compression.

    Parameters
    ----------
    sample : Sample
        Images under 64 px hold too little sky: all their measurements are NaN.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per image: ``label``, ``redshift`` and ``colour`` (red over blue at the centre), then the columns of
        `measure_cutouts`.

    Examples
    --------
    >>> sample = Sample(draw_like([2], size=64), np.array([2]), np.array([0.1]), "standin")
    >>> measure_sample(sample)[["label", "redshift"]].to_dict("list")
    {'label': [2], 'redshift': [0.1]}
    """
    table = _measure_or_nan(sample.images, progress)
    table.insert(0, "label", sample.labels.astype(int))
    table.insert(1, "redshift", sample.redshift)
    table.insert(2, "colour", table["centre_r"] / table["centre_b"].where(table["centre_b"] > 0))
    return table


def compare_sample(sample, table, *, seed=0, progress=False):
    """Compare a stand-in with published images, or a real file with a stand-in drawn for it.

    Parameters
    ----------
    sample : Sample
    table : pandas.DataFrame
        Result of `measure_sample` for this sample.
    seed : int, optional
        Seed of a stand-in that this function draws: for a real file, and for a stand-in whose side is not the 256 px
        of the published images.
    progress : bool, optional
        Whether to show progress bars.

    Returns
    -------
    Closeness

    Examples
    --------
    >>> sample = Sample(draw_like([2, 8], size=64), np.array([2, 8]), np.full(2, np.nan), "real")
    >>> closeness = compare_sample(sample, measure_sample(sample))
    >>> closeness.other, closeness.standin.shape
    ('this file', (2, 64, 64, 3))
    """
    real, side = sample.kind == "real", sample.images.shape[1]
    ours, drawn = table, None
    if real or side != _PUBLISHED_SIDE:
        drawn = draw_like(sample.labels, seed=seed, size=side if real else _PUBLISHED_SIDE, progress=progress)
        ours = _measure_or_nan(drawn, progress)
    if real:
        theirs, labels, other = table, sample.labels, "this file"
    else:
        theirs = published_measurements()
        labels, other, drawn = theirs["class"], "published", None
    both = compare_images(ours, theirs, labels_a=sample.labels, labels_b=labels)
    both.columns = [column.replace("(a)", "(stand-in)").replace("(b)", f"({other})") for column in both.columns]
    return Closeness(both, other, drawn)


def readable_closeness(closeness):
    """Return a comparison as text.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        One row per row of `closeness.table`, all text: ``Quantity``, ``Class``, for both sides the median with the
        range from 10% to 90%, ``Ratio of medians`` and ``KS distance``.
    """
    table, other = closeness.table, closeness.other
    texts = table[["Quantity", "Class"]].copy()
    for title, whose in {"Stand-in": "stand-in", other.capitalize(): other}.items():
        texts[title] = [_range_text(row, whose) for row in table.to_dict("records")]
    texts["Ratio of medians"] = table["Median ratio"].map(_short)
    texts["KS distance"] = table["KS distance"].map(_hundredths)
    return texts


def overall_closeness(closeness):
    """Return the comparison over all images as text.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        The rows of `readable_closeness` over all images, without the column ``Class``.

    Examples
    --------
    >>> sample = Sample(draw_like([2], size=64), np.array([2]), np.array([0.1]), "real")
    >>> overall_closeness(compare_sample(sample, measure_sample(sample)))["Quantity"][0]
    'Mean'
    """
    table = readable_closeness(closeness)
    return table[table["Class"] == "all"].drop(columns="Class").reset_index(drop=True)


def closeness_by_class(closeness):
    """Return size, axis ratio, brightness and colour of the central galaxies of each class as text.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        One row per class, all text: ``Class``, then the median of each quantity for both sides. Size and axis ratio
        also have the range from 10% to 90%.

    Examples
    --------
    >>> sample = Sample(draw_like([2, 8], size=64), np.array([2, 8]), np.array([0.1, 0.2]), "real")
    >>> closeness_by_class(compare_sample(sample, measure_sample(sample)))["Class"][2]
    'Round Smooth'
    """
    table, other = closeness.table.set_index(["Quantity", "Class"]), closeness.other
    texts = pd.DataFrame({"Class": CLASS_NAMES})
    titles = {"Size, px": "size", "Axis ratio": "axis_ratio", "Brightness": "brightness", "ln(R/B)": "galaxy_rb"}
    for title, column in titles.items():
        for whose in ("stand-in", other):
            rows = [table.loc[QUANTITIES[column], name] for name in CLASS_NAMES]
            ranged = column in ("size", "axis_ratio")
            texts[f"{title}: {whose}"] = [
                _range_text(row, whose) if ranged else _short(row[f"50% ({whose})"]) for row in rows
            ]
    return texts


def distances_by_class(closeness):
    """Return the Kolmogorov-Smirnov distance of each quantity in `JUDGED` for each class.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        One row per class: ``Class``, one column per quantity, and ``Stand-in`` and ``Published`` or ``This file``
        with the number of galaxies measured. A distance is NaN if one side has no galaxy of the class.

    Examples
    --------
    >>> sample = Sample(draw_like([2, 8], size=64), np.array([2, 8]), np.array([0.1, 0.2]), "real")
    >>> int(distances_by_class(compare_sample(sample, measure_sample(sample)))["Galaxy size (px)"].count())
    2
    """
    rows = closeness.table.set_index(["Quantity", "Class"])
    table = pd.DataFrame({"Class": CLASS_NAMES})
    for column in JUDGED:
        table[QUANTITIES[column]] = rows.loc[QUANTITIES[column]].loc[[*CLASS_NAMES], "KS distance"].to_numpy()
    for whose in ("stand-in", closeness.other):
        table[whose.capitalize()] = rows.loc[QUANTITIES["size"]].loc[[*CLASS_NAMES], f"Number ({whose})"].to_numpy()
    return table


def count_close_pairs(closeness):
    """Count the pairs of a class and a quantity of `JUDGED` in which both sides are close.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        One row for each quantity and a last one for ``all``, with these columns:

        - ``Quantity``
        - ``Pairs``: number of classes that both sides have.
        - ``Close``: number of those with a distance below `CLOSE_BELOW`.
        - ``Expected``: number that two samples of the same distribution would reach on average with as many galaxies,
          by `same_within`.

    Examples
    --------
    >>> sample = Sample(draw_like([2, 8], size=64), np.array([2, 8]), np.array([0.1, 0.2]), "real")
    >>> count_close_pairs(compare_sample(sample, measure_sample(sample)))["Pairs"].tolist()
    [2, 2, 2, 2, 2, 10]
    """
    rows = _judged(closeness).dropna(subset="KS distance")
    sizes = zip(rows["Number (stand-in)"], rows[f"Number ({closeness.other})"], strict=True)
    chance = {pair: same_within(CLOSE_BELOW, *pair) for pair in set(sizes)}
    pairs = []
    for title in [*(QUANTITIES[column] for column in JUDGED), "all"]:
        some = rows if title == "all" else rows[rows["Quantity"] == title]
        sizes = zip(some["Number (stand-in)"], some[f"Number ({closeness.other})"], strict=True)
        close = int((some["KS distance"] < CLOSE_BELOW - _ROUNDING).sum())
        pairs.append((title, len(some), close, sum(chance[pair] for pair in sizes)))
    return pd.DataFrame(pairs, columns=["Quantity", "Pairs", "Close", "Expected"])


def closeness_verdict(closeness):
    """Summarize a comparison in two sentences.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    list of str
        The first sentence counts the close pairs of a class and a quantity, and says how many two samples of the same
        distribution would reach. The second counts them for each quantity.

    Examples
    --------
    >>> sample = Sample(draw_like([2], size=64), np.array([2]), np.array([0.1]), "real")
    >>> closeness_verdict(compare_sample(sample, measure_sample(sample)))[0].partition(",")[0]
    'Of 5 pairs of a class and a quantity'
    """
    *each, total = count_close_pairs(closeness).to_dict("records")
    if not total["Pairs"]:
        return [
            "The closeness of the stand-in is unknown.",
            f"Images of under {SMALLEST_MEASURED} px are too small to measure.",
        ]
    rows = _judged(closeness).dropna(subset="KS distance")
    ours, theirs = (_span(rows[f"Number ({whose})"]) for whose in ("stand-in", closeness.other))
    counts = [f"{re.split(r',| [(]', row['Quantity'])[0].lower()} {row['Close']} of {row['Pairs']}" for row in each]
    return [
        f"Of {total['Pairs']} pairs of a class and a quantity, {total['Close']} have a Kolmogorov-Smirnov distance "
        f"below {CLOSE_BELOW:.2f} between the stand-in ({ours} images per class) and {_NAMES[closeness.other]} "
        f"({theirs}); two samples of the same distribution would reach about {total['Expected']:.0f}.",
        f"By quantity: {', '.join(counts)}.",
    ]


_NAMES = {"published": "the published images", "this file": "this file"}

_ROUNDING = 1e-9  # two distances that differ by less are equal


def _judged(closeness):
    """Return the rows of the table for the quantities of `JUDGED` in each class."""
    table = closeness.table
    titles = [QUANTITIES[column] for column in JUDGED]
    return table[table["Quantity"].isin(titles) & (table["Class"] != "all")]


def _span(numbers):
    """Return the smallest and the largest number as text."""
    low, high = numbers.min(), numbers.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _measure_or_nan(images, progress=False):
    """Measure images after JPEG compression, or return NaN for images that are too small."""
    if images.shape[1] >= SMALLEST_MEASURED:
        return measure_cutouts(as_jpeg(images), progress=progress)
    none = measure_cutouts(np.zeros((0, SMALLEST_MEASURED, SMALLEST_MEASURED, 3), np.uint8)).reindex(range(len(images)))
    none["source_fwhms"] = [()] * len(images)
    return none


def _range_text(row, whose):
    """Return a median with its range as text, or an empty text if it is unknown."""
    low, median, high = (row[f"{at} ({whose})"] for at in ("10%", "50%", "90%"))
    return f"{_short(median)} ({_short(low)} to {_short(high)})" if np.isfinite(median) else ""


def _short(value):
    """Return a number with three digits, or an empty string if it is not finite."""
    if not np.isfinite(value):
        return ""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.3g}"


def _hundredths(value):
    return f"{value:.2f}" if np.isfinite(value) else ""
