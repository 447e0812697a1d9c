"""Split a catalogue as in the paper, and audit it for galaxies that it lists twice.

All functions work on labels and coordinates. None of them reads an image.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import train_test_split

from galaxynb.data.galaxy10 import CLASS_NAMES, GALAXY10_SHA256, ROWS_SHA256
from galaxynb.data.sources import FEWEST_IMAGES

__all__ = [
    "Split",
    "audit_catalog",
    "class_support",
    "close_pairs",
    "has_coordinates",
    "has_published_rows",
    "leak_free",
    "paper_split",
]


class Split(NamedTuple):
    """Row numbers of the three parts of a data set.

    Attributes
    ----------
    train, validation, test : ndarray of int64, shape (M,)
        Row numbers of the part.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def paper_split(labels, *, ra=None, dec=None, drop_duplicates=False, radius=5.0):
    """Split rows into training, validation and test sets as in the paper.

    The first split is 8:2, into the rest and the test set. The second splits the rest 8:2 into training and
    validation. Both use scikit-learn's `train_test_split` with seed 42 and without stratification. On the published
    file, the test set has the class counts of the paper (its Table 1). The paper gives no way to check the seed of
    the second split.

    With `drop_duplicates`, each part keeps its rows in the same order, except for two kinds of rows, which are
    dropped so that no part leaks into another and results stay comparable to the paper's:

    - One row of each pair that lies in two parts and within `radius`. A pair of training and validation or test loses
      the training row. A pair of validation and test loses the validation row.
    - Each test row in a group with conflicting labels (see `audit_catalog`), because one prediction for the group
      cannot match all of them.

    Both rules apply to the parts before any row is dropped. Pairs within one part stay, unless the second rule drops
    them.

    Parameters
    ----------
    labels : array_like, shape (N,)
        Labels in file order. Without `drop_duplicates` only their number matters: the split does not use classes.
    ra, dec : array_like of float, shape (N,), optional
        Right ascension and declination in degrees. Used, and needed, only with `drop_duplicates`.
    drop_duplicates : bool, optional
        Whether to drop rows so that no two parts share a place on the sky.
    radius : float, optional
        Largest separation in arcsec of two rows that share a place.

    Returns
    -------
    Split
        Disjoint row numbers in shuffled order. Together they are 0 to N - 1 without the dropped rows.

    Raises
    ------
    ValueError
        If there are fewer than 10 rows, or `labels` is not one-dimensional. With `drop_duplicates`, also if `ra` or
        `dec` is missing, or for the reasons that `audit_catalog` lists.

    Examples
    --------
    >>> [len(part) for part in paper_split(np.zeros(17736))]
    [11350, 2838, 3548]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels has shape {labels.shape}, but (N,) is needed: give one class per row")
    if len(labels) < FEWEST_IMAGES:
        raise ValueError(f"the number of rows is {len(labels)}, but at least {FEWEST_IMAGES} is needed: give more rows")
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=42)
    train, validation = train_test_split(rest, test_size=0.2, random_state=42)
    split = Split(train, validation, test)
    if not drop_duplicates:
        return split
    if ra is None or dec is None:
        raise ValueError("ra or dec is missing, but drop_duplicates=True needs both: give the coordinates of all rows")
    ra, dec = _coordinates(labels, ra, dec)
    pairs, _ = close_pairs(ra, dec, radius)
    part = _part_of_rows(split, len(labels))
    both_ways = np.concatenate([pairs, pairs[:, ::-1]])
    one, other = part[both_ways].T
    dropped = np.zeros(len(labels), bool)
    dropped[both_ways[one < other, 0]] = True
    dropped |= _in_conflict(labels, _groups(pairs, len(labels))) & (part == _TEST)
    return Split(*(rows[~dropped[rows]] for rows in split))


def has_published_rows(labels, ra, dec, *, sha256=None):
    """Return whether rows are those of the published file, in its order, so that `paper_split` gives the paper's parts.

    Parameters
    ----------
    labels : array_like of int, shape (N,)
        Classes 0 to 9.
    ra, dec : array_like of float, shape (N,)
        Right ascension and declination in degrees.
    sha256 : str, optional
        SHA256 of the data source.

    Returns
    -------
    bool
        True for the published file itself, and for a copy in another format if it keeps labels and coordinates. Labels
        alone never suffice: any 17,736 images sorted by class could have the same ones.

    Examples
    --------
    >>> has_published_rows(np.zeros(10), np.zeros(10), np.zeros(10))
    False
    """
    digest = hashlib.sha256(np.asarray(labels, np.uint8).tobytes())
    for degrees in (ra, dec):
        known = np.nan_to_num(np.asarray(degrees, float), nan=-999)
        # Steps of 0.36 arcsec. With this offset, no published value lies on the edge of a step.
        digest.update(np.floor(known * 1e4 + 0.777).astype("<i4").tobytes())
    return sha256 == GALAXY10_SHA256 or digest.hexdigest() == ROWS_SHA256


def has_coordinates(ra, dec):
    """Return whether the coordinates of a catalogue distinguish its rows, as a search for pairs needs.

    Parameters
    ----------
    ra, dec : array_like of float, shape (N,)
        Right ascension and declination in degrees.

    Returns
    -------
    bool
        True if at least two rows have finite coordinates that differ. NaN in every row, or the same position in every
        row, gives False.

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
    ra, dec : array_like of float, shape (N,)
        Right ascension and declination in degrees. Rows with NaN or infinity in either are in no pair.
    radius : float
        Largest separation of a pair in arcsec, above 0.

    Returns
    -------
    pairs : ndarray of int64, shape (P, 2)
        Row numbers i < j of each pair, in no particular order.
    separation : ndarray of float64, shape (P,)
        Great-circle distance of each pair in arcsec.

    Raises
    ------
    ValueError
        If `ra` and `dec` are not one-dimensional or differ in length, if a declination lies outside -90 to 90
        degrees, or if `radius` is not positive.
    """
    # Imported here because importing astropy is slow, and only audits need it.
    from astropy import units
    from astropy.coordinates import SkyCoord

    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    if ra.ndim != 1 or ra.shape != dec.shape:
        raise ValueError(
            f"ra and dec have shapes {ra.shape} and {dec.shape}, but (N,) for both is needed: give one value per row"
        )
    if not radius > 0:
        raise ValueError(f"radius is {radius}, but a number above 0 is needed: give it in arcsec")
    rows = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    sky = SkyCoord(ra[rows], dec[rows], unit=units.deg)
    one, other, separation, _ = sky.search_around_sky(sky, radius * units.arcsec)
    once = one < other  # the search also pairs each row with itself, and returns each pair twice
    return rows[np.stack([one[once], other[once]], axis=1)], separation.arcsec[once]


def audit_catalog(labels, ra, dec, *, split=None, radii=(1, 2, 5, 10)):
    """Count the rows of a catalogue at the same place, and compute the accuracy that their labels allow.

    At each radius the rows form groups. Two rows belong to the same group if a chain of pairs within the radius joins
    them. A row in no pair is a group of its own.

    The *label ceiling* is the highest accuracy that a classifier can reach if it gives all rows of a group the same
    label: the share of rows that carry the most common label of their group. It equals 1 - d / N, where d is the
    number of rows with another label. The ceiling of the test set uses only test rows, and the most common label
    among them.

    A ceiling binds where a group is one object in one image. Wider radii also join neighbouring galaxies, whose
    images overlap but have other centres.

    Parameters
    ----------
    labels : array_like, shape (N,)
        Labels in file order.
    ra, dec : array_like of float, shape (N,)
        Right ascension and declination in degrees. Each row with NaN forms a group alone.
    split : Split, optional
        Row numbers of the parts. The default is `paper_split(labels)`.
    radii : sequence of float, optional
        Radii in arcsec.

    Returns
    -------
    pandas.DataFrame
        One row per radius, with these columns:

        - ``Radius, arcsec``.
        - ``Pairs``: number of pairs within the radius.
        - ``Different labels``: number of pairs whose labels differ.
        - ``Straddling``: number of pairs with one row in the test set and the other in training or validation.
        - ``Straddling, different labels``: number of pairs of both kinds.
        - ``Label ceiling``: over all rows, 0 to 1.
        - ``Label ceiling, test``: over the test rows, NaN if there are none.

    Raises
    ------
    ValueError
        If the coordinates do not distinguish rows (see `has_coordinates`), if the arrays differ in length, or if
        `close_pairs` or `paper_split` refuses its arguments.

    Examples
    --------
    >>> labels, ra = np.arange(10), np.arange(10.0)
    >>> ra[9] = ra[0]  # rows 0 and 9 are one galaxy with two labels
    >>> audit_catalog(labels, ra, np.zeros(10), radii=[5])[["Pairs", "Different labels", "Label ceiling"]]
       Pairs  Different labels  Label ceiling
    0      1                 1            0.9
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
    """Return which test rows neither leak nor carry conflicting labels.

    This function serves models that were trained on all training and validation rows of `split`: of a pair that
    straddles the test set, it marks the test row as False. `paper_split` with `drop_duplicates` keeps more test
    rows, but needs a new training.

    Parameters
    ----------
    labels : array_like, shape (N,)
        Labels in file order.
    ra, dec : array_like of float, shape (N,)
        Right ascension and declination in degrees. Rows with NaN count as unique.
    split : Split, optional
        Row numbers of the parts. The default is `paper_split(labels)`.
    radius : float, optional
        Largest separation in arcsec of two rows that share a place.

    Returns
    -------
    ndarray of bool, shape (T,)
        One value per row of `split.test`, in the same order. It is True if no training or validation row lies within
        `radius` and all labels in the group of the row (see `audit_catalog`) agree.

    Raises
    ------
    ValueError
        For the reasons that `audit_catalog` lists.

    Examples
    --------
    >>> labels, ra = np.zeros(10), np.arange(10.0)
    >>> split = paper_split(labels)
    >>> ra[split.test[0]] = ra[split.train[0]]  # the first test row repeats a training row
    >>> leak_free(labels, ra, np.zeros(10))
    array([False,  True])
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
    labels : array_like of int, shape (N,)
        Classes 0 to 9.
    indices : array_like of int, shape (M,), or slice
        Rows to count.

    Returns
    -------
    ndarray of int64, shape (10,)
        Number of rows per class.

    Examples
    --------
    >>> class_support(np.array([0, 1, 1, 9]), np.array([1, 2, 3]))
    array([0, 2, 0, 0, 0, 0, 0, 0, 0, 1])
    """
    return np.bincount(np.asarray(labels)[indices], minlength=len(CLASS_NAMES))


# --- the same place on the sky

#: Numbers of the parts in `_part_of_rows`. A row in no part has -1.
_TRAIN, _VALIDATION, _TEST = range(3)


def _coordinates(labels, ra, dec):
    """Return the coordinates as arrays. Raise ValueError if a search for pairs is impossible."""
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    if not labels.shape == ra.shape == dec.shape:
        raise ValueError(
            f"labels, ra and dec have shapes {labels.shape}, {ra.shape} and {dec.shape}, but one shape is needed: give "
            f"one value per row"
        )
    if not has_coordinates(ra, dec):
        raise ValueError(
            "ra and dec are NaN, or the same, in every row, but coordinates that differ are needed to find pairs: give "
            "a file with coordinates"
        )
    return ra, dec


def _part_of_rows(split, n_rows):
    part = np.full(n_rows, -1)
    for number, rows in enumerate(split):
        part[rows] = number
    return part


def _straddling(pairs, part):
    """Return for each pair whether one row is in the test set and the other in training or validation."""
    one, other = part[pairs].T
    return ((one == _TEST) != (other == _TEST)) & (one >= _TRAIN) & (other >= _TRAIN)


def _groups(pairs, n_rows):
    """Return the group number of each row: rows that a chain of pairs joins have the same number."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n_rows, n_rows))
    return connected_components(graph, directed=False)[1]


def _in_conflict(labels, group):
    """Return for each row whether the labels in its group differ."""
    return pd.Series(labels).groupby(group).transform("nunique").to_numpy() > 1


def _ceiling(labels, group):
    """Return the share of rows whose label is the most common one of their group."""
    counts = pd.DataFrame({"group": group, "label": labels}).value_counts()
    return float(counts.groupby("group").max().sum() / len(labels)) if len(labels) else math.nan
