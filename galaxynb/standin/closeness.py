"""Measure how close a stand-in comes to real images.

`compare_sample` compares a stand-in with the figures measured on published images. It compares a real file with a
stand-in that it draws for this purpose, with the same size and classes. `galaxynb.standin.measure` defines what is
measured. All images pass through the same JPEG compression first: the published figures were measured on JPEGs, and
whether the images of a real file were ever compressed is unknown. This module draws no figure.
"""

import re
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.standin.field import BASE, draw_cutout
from galaxynb.standin.measure import (
    QUANTITIES,
    SMALLEST_MEASURED,
    against_published,
    as_jpeg,
    compare_images,
    measure_cutouts,
)

__all__ = [
    "Closeness",
    "Sample",
    "choose_sample",
    "closeness_by_class",
    "closeness_verdict",
    "compare_sample",
    "draw_like",
    "measure_sample",
    "overall_closeness",
    "readable_closeness",
]


_PUBLISHED_SIDE = BASE  # px: side of the images behind the published figures


_NEAR = 0.2  # medians are near if they differ by at most this share of the median, or of the range from 10% to 90%

_BANDS = ("r", "g", "b")

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
    """A comparison of a stand-in with the published figures, or with a real file.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each quantity over all images, and one for each quantity of a class. The columns are ``Quantity``,
        ``Class``, the quantiles ``10% (stand-in)``, ``50% (stand-in)`` and ``90% (stand-in)``, and the same quantiles
        of `other`. A comparison with the published figures also has the means, ``Target`` and ``Met``. A comparison
        with a file has ``Median ratio`` and ``Spread ratio``.
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


def draw_like(labels, *, seed=0, size=_PUBLISHED_SIDE, shrunk=None, progress=False):
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
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    ndarray of uint8, shape (M, S, S, 3)
        RGB cutouts, values 0 to 255, where S is `shrunk` if given and `size` otherwise.
    """
    side = shrunk or size
    images = np.empty((len(labels), side, side, 3), np.uint8)
    for k, label in enumerate(tqdm(labels, desc="drawing", unit="image", disable=not progress)):
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(_OWN_STREAM, k))))
        image = draw_cutout(rng, int(label), size=size)[0]
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
    """Compare a stand-in with the published figures, or a real file with a stand-in drawn for it.

    Parameters
    ----------
    sample : Sample
    table : pandas.DataFrame
        Result of `measure_sample` for this sample.
    seed : int, optional
        Seed of a stand-in that this function draws: for a real file, and for a stand-in whose side is not the 256 px
        of the published figures.
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
    side = sample.images.shape[1]
    drawn = None
    if sample.kind == "real" or side != _PUBLISHED_SIDE:
        drawn = draw_like(
            sample.labels, seed=seed, size=side if sample.kind == "real" else _PUBLISHED_SIDE, progress=progress
        )
        ours = _measure_or_nan(drawn, progress)
    else:
        ours = table
    if sample.kind == "real":
        both = compare_images(ours, table, labels_a=sample.labels, labels_b=sample.labels)
        names = {"(a)": "(stand-in)", "(b)": "(this file)"}
        both.columns = [_renamed(column, names) for column in both.columns]
        return Closeness(both, "this file", drawn)
    judged = against_published(ours, labels=sample.labels)
    plain = {column: f"{column} (stand-in)" for column in ("Mean", "10%", "50%", "90%")}
    return Closeness(judged.rename(columns=plain), "published", None)


def readable_closeness(closeness):
    """Return a comparison as text.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        One row per row of `closeness.table`, all text: ``Quantity``, ``Class``, and for both sides the median with
        the range from 10% to 90%, or the mean where only the mean is known. ``Target`` and ``Met`` follow, or
        ``Ratio of medians``.
    """
    table, other = closeness.table, closeness.other
    rows = []
    for row in table.to_dict("records"):
        line = {
            "Quantity": row["Quantity"],
            "Class": row["Class"],
            "Stand-in": _number_text(row, "stand-in", other),
            other.capitalize(): _number_text(row, other, other),
        }
        if "Target" in row:
            line |= {"Target": row["Target"], "Met": _met_text(row["Met"])}
        else:
            line |= {"Ratio of medians": _short(row["Median ratio"])}
        rows.append(line)
    return pd.DataFrame(rows)


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
    """Return size, axis ratio and colours of the central galaxies of each class as text.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        One row per class, all text: ``Class``, then size, axis ratio and the median red, green and blue of the
        centre, each for both sides.

    Examples
    --------
    >>> sample = Sample(draw_like([2], size=64), np.array([2]), np.array([0.1]), "real")
    >>> closeness_by_class(compare_sample(sample, measure_sample(sample)))["Class"][2]
    'Round Smooth'
    """
    table, other = closeness.table.set_index(["Quantity", "Class"]), closeness.other
    rows = []
    for name in CLASS_NAMES:
        row = {"Class": name}
        for title, column in {"Size, px": "size", "Axis ratio": "axis_ratio"}.items():
            for whose in ("stand-in", other):
                record = table.loc[(QUANTITIES[column], name)]
                row[f"{title}: {whose}"] = _number_text(record, whose, other, "–")
        for whose in ("stand-in", other):
            medians = [table.loc[(QUANTITIES[f"centre_{band}"], name), f"50% ({whose})"] for band in _BANDS]
            known = np.isfinite(medians).all()
            row[f"Centre R, G, B: {whose}"] = ", ".join(f"{value:.0f}" for value in medians) if known else ""
        rows.append(row)
    return pd.DataFrame(rows)


def closeness_verdict(closeness):
    """Summarize a comparison in two sentences.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    list of str
        The first sentence gives the number of quantities that agree. The second lists the quantities over all images
        that do not.

    Examples
    --------
    >>> sample = Sample(draw_like([2], size=64), np.array([2]), np.array([0.1]), "real")
    >>> closeness_verdict(compare_sample(sample, measure_sample(sample)))[1]
    'All quantities over all images agree.'
    """
    table = closeness.table
    if "Met" in table:
        compared = table[table["Met"].notna()]
        near = compared["Met"].astype(bool)
        statement = "meets {} of the {} targets from the published figures"
    else:
        compared = table[np.isfinite(table["50% (stand-in)"]) & np.isfinite(table[f"50% ({closeness.other})"])]
        off = abs(compared["50% (stand-in)"] - compared[f"50% ({closeness.other})"])
        spread = compared[f"90% ({closeness.other})"] - compared[f"10% ({closeness.other})"]
        # A quantity such as asymmetry can be 0, where a ratio means nothing: the range is then the scale.
        near = off <= _NEAR * np.maximum(abs(compared[f"50% ({closeness.other})"]), spread)
        target = f"that of {closeness.other}, within {_NEAR:.0%} of the median or of the range"
        statement = f"has a median near {target}, in {{}} of {{}} quantities"
    if compared.empty:
        return [
            "The closeness of the stand-in is unknown.",
            f"Images of under {SMALLEST_MEASURED} px are too small to measure.",
        ]
    first = f"The stand-in {statement.format(int(near.sum()), len(compared))}."
    missed = compared.loc[~near & (compared["Class"] == "all"), "Quantity"].tolist()
    if not missed:
        return [first, "All quantities over all images agree."]
    return [first, f"Over all images, these quantities do not agree: {', '.join(_joined(missed))}."]


def _measure_or_nan(images, progress=False):
    """Measure images after JPEG compression, or return NaN for images that are too small."""
    if images.shape[1] >= SMALLEST_MEASURED:
        return measure_cutouts(as_jpeg(images), progress=progress)
    none = measure_cutouts(np.zeros((0, SMALLEST_MEASURED, SMALLEST_MEASURED, 3), np.uint8)).reindex(range(len(images)))
    none["source_fwhms"] = [()] * len(images)
    return none


def _renamed(column, names):
    for old, new in names.items():
        column = column.replace(old, new)
    return column


def _number_text(row, whose, other, to=" to "):
    """Return a median with its range, or a mean if the other side has only a mean."""
    if not np.isfinite(row[f"50% ({other})"]) and np.isfinite(row.get(f"Mean ({other})", np.nan)):
        return f"mean {_short(row[f'Mean ({whose})'])}"
    low, median, high = (row[f"{at} ({whose})"] for at in ("10%", "50%", "90%"))
    if not np.isfinite(median):
        return ""
    return f"{_short(median)} ({_short(low)}{to}{_short(high)})" if np.isfinite([low, high]).all() else _short(median)


def _short(value):
    """Return a number with three digits, or an empty string if it is not finite."""
    if not np.isfinite(value):
        return ""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.3g}"


def _met_text(met):
    return "" if pd.isna(met) else "yes" if met else "no"


def _joined(names):
    """Join the names that differ only in the band: "Sky R" and "Sky B" become "Sky R/B"."""
    bands = {}
    for name in names:
        band = re.search(r"\b[RGB]\b", name)
        key = name if band is None else f"{name[: band.start()]}*{name[band.end() :]}"
        bands.setdefault(key, []).append(band and band[0])
    return [key.replace("*", "/".join(filter(None, found))) for key, found in bands.items()]
