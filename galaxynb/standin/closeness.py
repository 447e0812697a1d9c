"""How close a stand-in comes to the sky: a file's images measured, and set beside what they should be like.

The images of a stand-in are set beside the figures known of the published ones; those of a real file beside
a stand-in drawn for the purpose, of the same size and classes. What is measured, and how, is in
`galaxynb.standin.measure`. All images go through the same JPEG first: the published figures were taken on JPEGs, and of
a real file nobody knows whether its images ever were some. Nothing here draws a figure.
"""

import re
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.standin.field import BASE, draw_cutout
from galaxynb.standin.measure import QUANTITIES, against_published, as_jpeg, compare_images, measure_cutouts

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


_PUBLISHED_SIDE = BASE  # px: that of the images that the published figures were measured on

_SMALLEST = 64  # px: below it `measure_cutouts` finds too little sky

_NEAR = 0.2  # of a median, or of the range from 10% to 90%, by which medians may differ and count as near


_BANDS = ("r", "g", "b")

_OWN_STREAM = 2  # keeps what is drawn here apart from the rows of any stand-in file


class Sample(NamedTuple):
    """Some images of a file, about equally many of each class.

    Attributes
    ----------
    images : (M, H, W, 3) uint8 array
    labels : (M,) array of int
    redshift : (M,) float64 array
        NaN where unknown.
    kind : str
        Either "standin" or "real".
    """

    images: np.ndarray
    labels: np.ndarray
    redshift: np.ndarray
    kind: str


class Closeness(NamedTuple):
    """A stand-in beside the published figures, or beside a real file.

    Attributes
    ----------
    table : pandas.DataFrame
        A row a quantity, of all images or of a class: ``Quantity``, ``Class``, then ``Mean (stand-in)`` where means are
        compared, ``10% (stand-in)``, ``50% (stand-in)``, ``90% (stand-in)``, and so for `other`. Against the
        published figures also ``Target`` and ``Met``, against a file ``Median ratio`` and ``Spread ratio``.
    other : str
        What the stand-in is set beside: "published" or "this file".
    standin : (M, H, W, 3) uint8 array or None
        The stand-in drawn for the purpose, a galaxy for each of the sample's, of its class.
    """

    table: pd.DataFrame
    other: str
    standin: np.ndarray | None


def choose_sample(catalog, n, *, seed=0):
    """Read some images of a file, chosen evenly over classes.

    Parameters
    ----------
    catalog : galaxynb.data.catalog.Catalog
    n : int
        How many images; all of them if there are fewer. A class with too few gives what it has, and the others more.
    seed : int, optional
        Seed of the choice.

    Returns
    -------
    Sample
        In file order.

    Raises
    ------
    ValueError
        If `n` is under 1, or the file can't be read.
    """
    if n < 1:
        raise ValueError(f"n is {n}, but at least one image is needed")
    rng = np.random.default_rng(seed)
    turn = np.empty(len(catalog.labels), int)
    for k in range(len(CLASS_NAMES)):
        members = np.flatnonzero(catalog.labels == k)
        turn[members] = rng.permutation(len(members))
    # The first of each class, then the second of each, and so on.
    rows = np.sort(np.argsort(turn, kind="stable")[:n])
    return Sample(catalog.take(rows), catalog.labels[rows], catalog.redshift[rows], catalog.kind)


def draw_like(labels, *, seed=0, size=_PUBLISHED_SIDE, shrunk=None, progress=False):
    """Draw stand-in images of given classes, in memory.

    They are of the same making as those of `make_standin`, and none of them is in any of its files.

    Parameters
    ----------
    labels : (M,) array_like of int
        Classes, 0 to 9.
    seed : int or sequence of int, optional
    size : int, optional
        Side of the images in px.
    shrunk : int, optional
        Side to shrink each image to once it is drawn, by averaging areas as `prepare_cache` does.
    progress : bool, optional
        Show a progress bar.

    Returns
    -------
    (M, S, S, 3) uint8 array

    Examples
    --------
    >>> draw([2, 8], size=64).shape
    (2, 64, 64, 3)
    """
    side = shrunk or size
    images = np.empty((len(labels), side, side, 3), np.uint8)
    for k, label in enumerate(tqdm(labels, desc="drawing", unit="image", disable=not progress)):
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(_OWN_STREAM, k))))
        image = draw_cutout(rng, int(label), size=size)[0]
        images[k] = image if side == size else cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return images


def measure_sample(sample, *, progress=False):
    """Measure a sample's images after JPEG.

    Parameters
    ----------
    sample : Sample
        Images under 64 px have too little sky to be measured: they get NaN.
    progress : bool, optional
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        ``label``, ``redshift`` and ``colour`` (red over blue at the centre), then what `measure_cutouts` gives.
    """
    table = _cutouts(sample.images, progress)
    table.insert(0, "label", sample.labels.astype(int))
    table.insert(1, "redshift", sample.redshift)
    table.insert(2, "colour", table["centre_r"] / table["centre_b"].where(table["centre_b"] > 0))
    return table


def compare_sample(sample, table, *, seed=0, progress=False):
    """Set a stand-in beside the published figures, or a real file beside a stand-in drawn for it.

    Parameters
    ----------
    sample : Sample
    table : pandas.DataFrame
        From `measured`.
    seed : int, optional
        Seed of the stand-in that is drawn: for a real file, and for a stand-in whose side is not 256 px, which the
        published figures belong to.
    progress : bool, optional
        Show progress bars.

    Returns
    -------
    Closeness
    """
    side = sample.images.shape[1]
    drawn = None
    if sample.kind == "real" or side != _PUBLISHED_SIDE:
        drawn = draw_like(
            sample.labels, seed=seed, size=side if sample.kind == "real" else _PUBLISHED_SIDE, progress=progress
        )
        ours = _cutouts(drawn, progress)
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
    """Return what is compared as text.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        All text, in the order of the table: ``Quantity``, ``Class``, the median with the range from 10% to 90% (or the
        mean, where only that is known) of both, and what was asked of it and whether it is so, or the ratio of
        the medians.
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
    """Return what is compared over all images, for reading.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        The rows of `readable` that are of all images, without their class.
    """
    table = readable_closeness(closeness)
    return table[table["Class"] == "all"].drop(columns="Class").reset_index(drop=True)


def closeness_by_class(closeness):
    """Return the central galaxy's size, axis ratio and colours a class at a time, for reading.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    pandas.DataFrame
        All text, a row a class: ``Class``, then size, axis ratio and the centre's median red, green and blue, of both.
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
    """Say in sentences how close the two are.

    Parameters
    ----------
    closeness : Closeness

    Returns
    -------
    list of str
        Two sentences: how many quantities agree, and which of those taken over all images do not.
    """
    table = closeness.table
    if "Met" in table:
        asked = table[table["Met"].notna()]
        near = asked["Met"].astype(bool)
        how = "meets {} of the {} targets that the published figures set"
    else:
        asked = table[np.isfinite(table["50% (stand-in)"]) & np.isfinite(table[f"50% ({closeness.other})"])]
        off = abs(asked["50% (stand-in)"] - asked[f"50% ({closeness.other})"])
        spread = asked[f"90% ({closeness.other})"] - asked[f"10% ({closeness.other})"]
        # A ratio says nothing of what can be 0, such as an asymmetry.
        near = off <= _NEAR * np.maximum(abs(asked[f"50% ({closeness.other})"]), spread)
        where = f"near {closeness.other}'s, within {_NEAR:.0%} of it or of its range"
        how = f"has a median {where}, in {{}} of {{}} quantities"
    if asked.empty:
        return [
            "How close the stand-in comes is not known.",
            f"Images of under {_SMALLEST} px are too small to measure.",
        ]
    first = f"The stand-in {how.format(int(near.sum()), len(asked))}."
    missed = asked.loc[~near & (asked["Class"] == "all"), "Quantity"].tolist()
    if not missed:
        return [first, "None of those taken over all images is off."]
    return [first, f"Of those taken over all images, these are off: {', '.join(_joined(missed))}."]


def _cutouts(images, progress=False):
    if images.shape[1] >= _SMALLEST:
        return measure_cutouts(as_jpeg(images), progress=progress)
    none = measure_cutouts(np.zeros((0, _SMALLEST, _SMALLEST, 3), np.uint8)).reindex(range(len(images)))
    none["source_fwhms"] = [()] * len(images)
    return none


def _renamed(column, names):
    for old, new in names.items():
        column = column.replace(old, new)
    return column


def _number_text(row, whose, other, to=" to "):
    """Return a median with its range, or a mean where means are all that the other side has."""
    if not np.isfinite(row[f"50% ({other})"]) and np.isfinite(row.get(f"Mean ({other})", np.nan)):
        return f"mean {_short(row[f'Mean ({whose})'])}"
    low, median, high = (row[f"{at} ({whose})"] for at in ("10%", "50%", "90%"))
    if not np.isfinite(median):
        return ""
    return f"{_short(median)} ({_short(low)}{to}{_short(high)})" if np.isfinite([low, high]).all() else _short(median)


def _short(value):
    """Return a number in three digits, or nothing."""
    if not np.isfinite(value):
        return ""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.3g}"


def _met_text(met):
    return "" if pd.isna(met) else "yes" if met else "no"


def _joined(names):
    """Name a quantity's bands together: of "Sky R" and "Sky B" make "Sky R/B"."""
    bands = {}
    for name in names:
        band = re.search(r"\b[RGB]\b", name)
        key = name if band is None else f"{name[: band.start()]}*{name[band.end() :]}"
        bands.setdefault(key, []).append(band and band[0])
    return [key.replace("*", "/".join(filter(None, found))) for key, found in bands.items()]
