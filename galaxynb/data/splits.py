"""Split a catalogue as the paper did, and audit what it holds twice.

The functions work on labels and coordinates. None of them reads an image.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import train_test_split

from galaxynb.data.galaxy10 import CLASS_NAMES

__all__ = [
    "Split",
    "audit_catalog",
    "class_support",
    "close_pairs",
    "has_coordinates",
    "leak_free",
    "paper_split",
]

_FEWEST_ROWS = 10


class Split(NamedTuple):
    """Row numbers of the three parts of the data set, each an int64 array."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def paper_split(labels, *, ra=None, dec=None, drop_duplicates=False, radius=5.0):
    """Split rows into the paper's training, validation and test sets.

    8:2 into the rest and the test set, then the rest 8:2 into training and validation, each by
    scikit-learn's `train_test_split` with seed 42 and without stratification. On the published
    file the test set is the paper's, to judge by its support of every class (Table 1); the seed
    of the second split can't be checked.

    With `drop_duplicates` each part keeps its rows of that split, in the same order, but for two
    kinds that are dropped, so that results stay comparable to the paper's and nothing leaks:

    - of each pair of rows in different parts and within `radius` of each other, the row that is
      further from the test: the training row of a pair with validation or test, the validation
      row of a pair with test;
    - test rows in a group of conflicting labels (see `audit`), which no prediction can all meet.

    Both are judged on the parts as they were. Pairs within a part stay, except for the second kind.

    Parameters
    ----------
    labels : (N,) array_like
        Labels in file order. Only their number matters unless `drop_duplicates`: the split knows
        nothing of classes.
    ra, dec : (N,) array_like, optional
        Position in degrees. Needed, and looked at, with `drop_duplicates` alone.
    drop_duplicates : bool
        Whether to drop rows so that no two parts share a place on the sky.
    radius : float
        How far apart, in arcsec, two rows may be to share a place.

    Returns
    -------
    Split
        Disjoint row numbers, together 0 to N - 1 but for what is dropped, in shuffled order.

    Raises
    ------
    ValueError
        If there are fewer than 10 rows, or `labels` is not one-dimensional; with
        `drop_duplicates` also as `audit` does.

    Examples
    --------
    >>> [len(part) for part in paper_split(np.zeros(17736))]
    [11350, 2838, 3548]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels must be one-dimensional, but have shape {labels.shape}")
    if len(labels) < _FEWEST_ROWS:
        raise ValueError(f"{len(labels)} rows are too few to split: give at least {_FEWEST_ROWS}")
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=42)
    train, validation = train_test_split(rest, test_size=0.2, random_state=42)
    split = Split(train, validation, test)
    if not drop_duplicates:
        return split
    if ra is None or dec is None:
        raise ValueError("drop_duplicates=True needs ra and dec: only coordinates tell which rows are duplicates")
    ra, dec = _coordinates(labels, ra, dec)
    pairs, _ = close_pairs(ra, dec, radius)
    part = _part_of_rows(split, len(labels))
    both_ways = np.concatenate([pairs, pairs[:, ::-1]])
    one, other = part[both_ways].T
    dropped = np.zeros(len(labels), bool)
    dropped[both_ways[one < other, 0]] = True
    dropped |= _in_conflict(labels, _groups(pairs, len(labels))) & (part == _TEST)
    return Split(*(rows[~dropped[rows]] for rows in split))


def has_coordinates(ra, dec):
    """Say whether a catalogue tells its rows apart by position, so that pairs can be looked for.

    Parameters
    ----------
    ra, dec : (N,) array_like
        Position in degrees.

    Returns
    -------
    bool
        Whether at least two rows have finite coordinates that are not the same: NaN or a constant
        in every row says nothing.

    Examples
    --------
    >>> has_coordinates([np.nan, np.nan], [np.nan, np.nan])
    False
    """
    places = np.stack([np.asarray(ra, float), np.asarray(dec, float)])
    places = places[:, np.isfinite(places).all(axis=0)]
    return bool((places != places[:, :1]).any())


def close_pairs(ra, dec, radius):
    """Find the pairs of rows that lie close to each other on the sky.

    Parameters
    ----------
    ra, dec : (N,) array_like
        Position in degrees. Rows where either is NaN or infinite are in no pair.
    radius : float
        The largest separation of a pair in arcsec.

    Returns
    -------
    pairs : (P, 2) int64 array
        Row numbers i < j of each pair, in no set order.
    separation : (P,) float64 array
        Great-circle distance of each pair in arcsec.

    Raises
    ------
    ValueError
        If `ra` and `dec` are not one-dimensional or differ in length, a declination lies beyond a
        pole, or `radius` is not positive.

    Examples
    --------
    >>> pairs, separation = close_pairs([359.9998, 90.0, 0.0002], [0.0, 0.0, 0.0], radius=2)
    >>> pairs.tolist(), separation.round(2).tolist()
    ([[0, 2]], [1.44])
    """
    # Importing astropy takes a time that only an audit should spend.
    from astropy import units
    from astropy.coordinates import SkyCoord

    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    if ra.ndim != 1 or ra.shape != dec.shape:
        raise ValueError(f"ra and dec must be of one length, but have shapes {ra.shape} and {dec.shape}")
    if not radius > 0:
        raise ValueError(f"radius is {radius}, but must be above 0 arcsec")
    rows = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    sky = SkyCoord(ra[rows], dec[rows], unit=units.deg)
    one, other, separation, _ = sky.search_around_sky(sky, radius * units.arcsec)
    once = one < other  # a row is found beside itself, and each pair from both ends
    return rows[np.stack([one[once], other[once]], axis=1)], separation.arcsec[once]


def audit_catalog(labels, ra, dec, *, split=None, radii=(1, 2, 5, 10)):
    """Count a catalogue's entries at the same place, and what their labels allow a classifier.

    At each radius the rows fall into groups: rows are of one group if a chain of pairs within the
    radius joins them, and a row in no pair is a group of its own. A *label ceiling* is the highest
    accuracy within reach of a classifier that gives all rows of a group the same label: the share
    of rows that carry their group's most common label. So it is 1 - d / N, where d rows disagree
    with it. The ceiling of the test rows is the same of them alone, with their own most common
    label. A ceiling binds where a group is one object in one image. Wider radii also join galaxies
    that are neighbours, whose images overlap but are centred differently.

    Parameters
    ----------
    labels : (N,) array_like
        Labels in file order.
    ra, dec : (N,) array_like
        Position in degrees. Rows with NaN are groups of their own.
    split : Split, optional
        Row numbers of the parts; by default those of `paper_split`.
    radii : sequence of float, optional
        Radii in arcsec.

    Returns
    -------
    pandas.DataFrame
        A row per radius: ``Radius, arcsec``; ``Pairs`` within it; of those, the pairs with
        ``Different labels``, ``Straddling`` pairs (one row in the test set, the other in training
        or validation), and those ``Straddling, different labels``; then ``Label ceiling`` and
        ``Label ceiling, test``, which is NaN if the test set is empty.

    Raises
    ------
    ValueError
        If there are no coordinates (see `has_coordinates`), since finding no pair would then mean
        nothing; if the arrays differ in length; or as `close_pairs` and `paper_split` do.
    """
    labels = np.asarray(labels)
    ra, dec = _coordinates(labels, ra, dec)
    split = paper_split(labels) if split is None else split
    part = _part_of_rows(split, len(labels))
    table = []
    for radius in radii:
        pairs, _ = close_pairs(ra, dec, radius)
        group = _groups(pairs, len(labels))
        different = labels[pairs[:, 0]] != labels[pairs[:, 1]]
        straddling = _straddling(pairs, part)
        row = {
            "Radius, arcsec": radius,
            "Pairs": len(pairs),
            "Different labels": int(different.sum()),
            "Straddling": int(straddling.sum()),
            "Straddling, different labels": int((straddling & different).sum()),
            "Label ceiling": _ceiling(labels, group),
            "Label ceiling, test": _ceiling(labels[split.test], group[split.test]),
        }
        table.append(row)
    return pd.DataFrame(table)


def leak_free(labels, ra, dec, *, split=None, radius=5.0):
    """Tell which test rows neither leak nor carry conflicting labels.

    For models that were trained on the whole of `split`: where a test row lies within `radius` of
    a training or validation row, it is the test row that has to go. `paper_split` with
    `drop_duplicates` keeps more of the test set, but takes a new training.

    Parameters
    ----------
    labels : (N,) array_like
        Labels in file order.
    ra, dec : (N,) array_like
        Position in degrees. Rows with NaN are taken for unique.
    split : Split, optional
        Row numbers of the parts; by default those of `paper_split`.
    radius : float
        How far apart, in arcsec, two rows may be to share a place.

    Returns
    -------
    (T,) bool array
        For each row of `split.test`, in its order: whether no training or validation row lies
        within `radius` and all labels in its group (see `audit`) agree.

    Raises
    ------
    ValueError
        As `audit` does.
    """
    labels = np.asarray(labels)
    ra, dec = _coordinates(labels, ra, dec)
    split = paper_split(labels) if split is None else split
    pairs, _ = close_pairs(ra, dec, radius)
    spoilt = _in_conflict(labels, _groups(pairs, len(labels)))
    spoilt[pairs[_straddling(pairs, _part_of_rows(split, len(labels)))]] = True
    return ~spoilt[split.test]


def class_support(labels, indices):
    """Count the images of each class among some rows.

    Parameters
    ----------
    labels : (N,) integer array
        Classes 0 to 9.
    indices : (M,) integer array or slice
        Rows to count.

    Returns
    -------
    (10,) int64 array

    Examples
    --------
    >>> class_support(np.array([0, 1, 1, 9]), np.array([1, 2, 3]))
    array([0, 2, 0, 0, 0, 0, 0, 0, 0, 1])
    """
    return np.bincount(np.asarray(labels)[indices], minlength=len(CLASS_NAMES))


# --- the same place on the sky

#: Numbers of the parts in `_part_of_rows`; -1 stands for rows in none.
_TRAIN, _VALIDATION, _TEST = range(3)


def _coordinates(labels, ra, dec):
    """Return the coordinates as arrays, one a label, or say why pairs can't be looked for."""
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    if not labels.shape == ra.shape == dec.shape:
        raise ValueError(
            f"labels, ra and dec must be of one length, but have shapes {labels.shape}, {ra.shape} and {dec.shape}"
        )
    if not has_coordinates(ra, dec):
        raise ValueError(
            "this file has no coordinates: ra and dec are NaN, or the same, in every row, so whether two rows "
            "lie at the same place can't be told"
        )
    return ra, dec


def _part_of_rows(split, n_rows):
    part = np.full(n_rows, -1)
    for number, rows in enumerate(split):
        part[rows] = number
    return part


def _straddling(pairs, part):
    """Whether a pair has one row in the test set and the other in training or validation."""
    one, other = part[pairs].T
    return ((one == _TEST) != (other == _TEST)) & (one >= _TRAIN) & (other >= _TRAIN)


def _groups(pairs, n_rows):
    """Give each row the number of its group: rows joined by pairs, directly or by a chain, share it."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n_rows, n_rows))
    return connected_components(graph, directed=False)[1]


def _in_conflict(labels, group):
    """Whether the labels in a row's group differ."""
    return pd.Series(labels).groupby(group).transform("nunique").to_numpy() > 1


def _ceiling(labels, group):
    """Return the share of rows whose label is the most common one of their group."""
    counts = pd.DataFrame({"group": group, "label": labels}).value_counts()
    return float(counts.groupby("group").max().sum() / len(labels)) if len(labels) else math.nan
