"""The data set: fetch, check, shrink, split and audit a file in the Galaxy10 DECaLS layout.

It takes a file, real or stand-in, to what the later stages map: 8-bit cutouts at the study's
size, their labels, and the paper's split; and it audits what the file holds twice. It neither
makes images (`galaxynb.simulate`) nor changes their pixels other than by resizing
(`galaxynb.noise` does).
"""

import contextlib
import errno
import json
import logging
import math
import operator
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np
import pandas as pd
import pooch
import requests
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from galaxynb import layout
from galaxynb.files import write_json, written_aside
from galaxynb.layout import CLASS_NAMES

__all__ = [
    "CLASS_NAMES",
    "Cache",
    "Catalog",
    "Split",
    "audit",
    "close_pairs",
    "fetch_galaxy10",
    "has_coordinates",
    "leak_free",
    "load_catalog",
    "open_cache",
    "paper_split",
    "prepare",
    "summary",
    "support",
    "to_float",
]

#: DenseNet121 halves an image five times: below 32 pixels nothing is left of it.
_SMALLEST = 32
_FEWEST_ROWS = 10

# Reading: at least this many images at a time, whole HDF5 chunks, and never more than the bytes.
_BATCH_IMAGES = 64
_BATCH_BYTES = 256 * 2**20

# Downloading: seconds to connect and between two packets; fruitless attempts in a row.
_TIMEOUT = (10, 60)
_ATTEMPTS = 4
_BACKOFF = 1.0
_BLOCK = 2**20

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, eq=False)
class Catalog:
    """A checked file in the Galaxy10 DECaLS layout; the images themselves stay on disk.

    Attributes
    ----------
    path : pathlib.Path
        The HDF5 file.
    labels : (N,) uint8 array
        Classes 0 to 9, in file order.
    ra, dec : (N,) float64 array
        Position in degrees. NaN where unknown, as in the two other columns.
    redshift : (N,) float64 array
    pxscale : (N,) float64 array
        Pixel scale in arcsec a pixel.
    image_shape : tuple of int
        Height, width and 3 channels of an image.
    has_truth : bool
        Whether the file also holds the noise-free images (only stand-ins do).
    standin : str or None
        What made the file, if it is a stand-in.
    """

    path: Path
    labels: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    redshift: np.ndarray
    pxscale: np.ndarray
    image_shape: tuple
    has_truth: bool
    standin: str | None

    @property
    def n_images(self):
        """Number of images, N."""
        return len(self.labels)

    @property
    def kind(self):
        """Either "standin" or "real"."""
        return "real" if self.standin is None else "standin"

    def batches(self, column=layout.IMAGES):
        """Read the images once, in file order, in bounded memory.

        Parameters
        ----------
        column : {"images", "truth"}

        Yields
        ------
        rows : slice
            Which rows of the file these are.
        images : (B, H, W, 3) uint8 array

        Raises
        ------
        ValueError
            If a part of the file can't be read.
        """
        with h5py.File(self.path, "r") as file:
            dataset = file[column]
            step = _rows_at_once(dataset)
            for start in range(0, len(dataset), step):
                rows = slice(start, min(start + step, len(dataset)))
                # Nothing here keeps the images alive while the next ones are read.
                yield rows, _read(dataset, rows, self.path)

    def take(self, rows, column=layout.IMAGES):
        """Read some of the images, in one pass over the file.

        Chunks of compressed files hold parts of many images, which makes reading single ones slow.

        Parameters
        ----------
        rows : (M,) array_like of int
            Row numbers.
        column : {"images", "truth"}

        Returns
        -------
        (M, H, W, 3) uint8 array
            In the order of `rows`.

        Raises
        ------
        ValueError
            If a part of the file can't be read.
        """
        rows = np.asarray(rows, dtype=np.int64)
        taken = np.empty((len(rows), *self.image_shape), np.uint8)
        with h5py.File(self.path, "r") as file:
            dataset = file[column]
            step = _rows_at_once(dataset)
            for start in np.unique(rows // step) * step:
                here = rows // step * step == start
                images = _read(dataset, slice(int(start), min(int(start) + step, len(dataset))), self.path)
                taken[here] = images[rows[here] - start]
        return taken


@dataclass(frozen=True, eq=False)
class Cache:
    """The study's images at the study's size, mapped from disk.

    Attributes
    ----------
    path : pathlib.Path
        The cache folder.
    images : (N, S, S, 3) uint8 numpy.memmap
        Read-only, in file order.
    truth : (N, S, S, 3) uint8 numpy.memmap or None
        The noise-free images of the same galaxies, where the file held them.
    labels : (N,) uint8 array
    info : dict
        The content of cache.json: kind, name and SHA256 of the source, sizes.
    """

    path: Path
    images: np.ndarray
    truth: np.ndarray | None
    labels: np.ndarray
    info: dict

    @property
    def kind(self):
        """Either "standin" or "real"."""
        return self.info["kind"]

    @property
    def image_size(self):
        """Height and width S of an image in pixels."""
        return self.info["image_size"]

    @property
    def columns(self):
        """Right ascension, declination, redshift and pixel scale: a DataFrame of N rows."""
        with np.load(self.path / "columns.npz") as columns:
            return pd.DataFrame(dict(columns))


class Split(NamedTuple):
    """Row numbers of the three parts of the data set, each an int64 array."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def fetch_galaxy10(
    cache_dir,
    url=layout.GALAXY10_URL,
    known_hash=f"sha256:{layout.GALAXY10_SHA256}",
    progress=True,
):
    """Download Galaxy10 DECaLS (2.54 GB) unless it is there already, and check it.

    A broken download is kept as ``Galaxy10_DECals.h5.part`` and goes on where it stopped, both
    within a call and in the next one. A file with a wrong checksum is removed.

    Parameters
    ----------
    cache_dir : str or os.PathLike
        The folder to download to. It is created.
    url : str
    known_hash : str
        The checksum as pooch writes it, such as "sha256:19ae...".
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    pathlib.Path
        The complete file.

    Raises
    ------
    ConnectionError
        If the server can't be reached, refuses, or the connection keeps breaking.
    ValueError
        If the checksum is wrong.
    OSError
        If the disk is full.
    """
    final = Path(cache_dir) / layout.GALAXY10_URL.rpartition("/")[2]

    def download(address, output, _):
        # Pooch calls this only if the file is missing or wrong: a wrong one must not look finished.
        final.unlink(missing_ok=True)
        part = final.with_name(f"{final.name}.part")
        _download(address, part, progress)
        part.replace(output)

    with _quiet(pooch.get_logger()):
        try:
            pooch.retrieve(url, known_hash, fname=final.name, path=final.parent, downloader=download)
        except ValueError as error:
            raise ValueError(
                f"the file downloaded from {url} does not have the expected checksum {known_hash} and "
                f"was removed: run again to download it anew"
            ) from error
    return final


def load_catalog(path):
    """Open a file in the Galaxy10 DECaLS layout and check it before anything else uses it.

    Parameters
    ----------
    path : str or os.PathLike
        An HDF5 file with `images` (N, H, H, 3) uint8, `ans` (N,) integers 0 to 9, and `ra`,
        `dec`, `redshift`, `pxscale` (N,) numbers; `truth`, if present, is like `images`.

    Returns
    -------
    Catalog

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is a folder, empty, not HDF5, truncated, damaged or of another layout.
    """
    path = Path(path)
    with _opened(path) as file:
        wanted = (layout.IMAGES, layout.LABELS, *layout.FLOAT_COLUMNS)
        missing = [name for name in wanted if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            raise ValueError(
                f"{path} lacks {', '.join(missing)}, which a file in the Galaxy10 DECaLS layout must hold "
                f"(found: {', '.join(map(str, file)) or 'nothing'})"
            )
        images = file[layout.IMAGES]
        _check_images(images, path)
        labels = _labels(file[layout.LABELS], len(images), path)
        columns = {name: _numbers(file[name], len(images), path) for name in layout.FLOAT_COLUMNS}
        truth = file.get(layout.TRUTH)
        if truth is not None and (truth.shape, truth.dtype) != (images.shape, images.dtype):
            raise ValueError(
                f"'{layout.TRUTH}' of {path} is {truth.dtype} of shape {truth.shape}, but must be like "
                f"'{layout.IMAGES}': {images.dtype} of shape {images.shape}"
            )
        for dataset in (images,) if truth is None else (images, truth):
            # A pixel at each end: a row of a file with chunks like the published one's would cost a pass over hundreds.
            for end in (0, -1):
                _read(dataset, (end, end, end, end), path)
        standin = file.attrs.get(layout.STANDIN_ATTRIBUTE)
        return Catalog(
            path=path,
            labels=labels,
            image_shape=images.shape[1:],
            has_truth=truth is not None,
            standin=None if standin is None else str(standin),
            **columns,
        )


def summary(catalog):
    """Count the images of each class.

    Parameters
    ----------
    catalog : Catalog or Cache

    Returns
    -------
    pandas.DataFrame
        A row per class, indexed by its number `class`: name, images (count) and fraction (0 to 1).
    """
    images = support(catalog.labels, slice(None))
    return pd.DataFrame(
        {"name": CLASS_NAMES, "images": images, "fraction": images / images.sum()},
        index=pd.RangeIndex(len(CLASS_NAMES), name="class"),
    )


def prepare(path, out, image_size=128, progress=True):
    """Shrink the images of a file once and write them to a folder that later stages map.

    The file is read in order and in bounded memory. The folder holds images.npy, labels.npy,
    columns.npz, cache.json and, for a stand-in, truth.npy; it appears only when complete.

    Parameters
    ----------
    path : str or os.PathLike
        A file in the Galaxy10 DECaLS layout.
    out : str or os.PathLike
        The cache folder. An earlier cache there is replaced.
    image_size : int
        Height and width to shrink to (area averaging): from 32 to the images' own size.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Cache

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_catalog`; or if `image_size` is out of range; or if `out` holds something other
        than a cache.
    OSError
        If the disk is full.
    """
    out = Path(out)
    catalog = load_catalog(path)
    image_size = operator.index(image_size)
    source_size = catalog.image_shape[0]
    if not _SMALLEST <= image_size <= source_size:
        raise ValueError(
            f"image_size is {image_size}, but must lie between {_SMALLEST}, the least the classifier can "
            f"take, and {source_size}, the size of the images in {catalog.path}, since enlarging them "
            f"adds nothing"
        )
    if out.exists() and not (out.is_dir() and ((out / "cache.json").exists() or not any(out.iterdir()))):
        raise ValueError(f"{out} exists and is not a cache made earlier, so it is not replaced: name another folder")

    columns = {"images.npy": layout.IMAGES}
    if catalog.has_truth:
        columns["truth.npy"] = layout.TRUTH
    shape = (catalog.n_images, image_size, image_size, 3)
    with (
        # Beside the reading, since it takes about a tenth as long.
        ThreadPoolExecutor(1) as pool,
        _room_for(out, math.prod(shape) * len(columns)),
        written_aside(out) as aside,
        tqdm(
            total=catalog.n_images * len(columns),
            desc=f"preparing {catalog.path.name}",
            unit="image",
            disable=not progress,
        ) as bar,
    ):
        aside.mkdir()
        digest = pool.submit(pooch.file_hash, str(catalog.path))
        for name, column in columns.items():
            _write_npy(aside / name, shape, _shrunk(catalog.batches(column), image_size, bar))
        _write_npy(aside / "labels.npy", catalog.labels.shape, [catalog.labels])
        np.savez(aside / "columns.npz", **{name: getattr(catalog, name) for name in layout.FLOAT_COLUMNS})
        write_json(
            aside / "cache.json",
            {
                "has_truth": catalog.has_truth,
                "image_size": image_size,
                "kind": catalog.kind,
                "n_images": catalog.n_images,
                "sha256": digest.result(),
                # The name alone: a full path would carry the machine into the results.
                "source": catalog.path.name,
                "source_size": source_size,
                "standin": catalog.standin,
            },
        )
    return open_cache(out)


def open_cache(out):
    """Map a folder that `prepare` wrote.

    Parameters
    ----------
    out : str or os.PathLike

    Returns
    -------
    Cache

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If it is damaged.
    """
    out = Path(out)
    if not out.exists():
        raise FileNotFoundError(
            f"there are no prepared images in {out}: notebooks/01_data.ipynb makes them, as does `make book`"
        )
    try:
        info = _read_info(out)
        shape = (info["n_images"], info["image_size"], info["image_size"], 3)
        images = _map(out / "images.npy", shape)
        truth = _map(out / "truth.npy", shape) if info["has_truth"] else None
        labels = np.array(_map(out / "labels.npy", shape[:1]))
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(
            f"the prepared images in {out} are damaged ({_one_line(error)}): delete the folder and run "
            f"notebooks/01_data.ipynb again"
        ) from error
    return Cache(path=out, images=images, truth=truth, labels=labels, info=info)


def paper_split(labels, ra=None, dec=None, drop_duplicates=False, radius=5.0):
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


def audit(labels, ra, dec, split=None, radii=(1, 2, 5, 10)):
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


def leak_free(labels, ra, dec, split=None, radius=5.0):
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


def support(labels, indices):
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
    >>> support(np.array([0, 1, 1, 9]), np.array([1, 2, 3]))
    array([0, 2, 0, 0, 0, 0, 0, 0, 0, 1])
    """
    return np.bincount(np.asarray(labels)[indices], minlength=len(CLASS_NAMES))


def to_float(images, out=None):
    """Scale 8-bit images to floats.

    Parameters
    ----------
    images : uint8 array
        Any shape, 0 to 255.
    out : float32 array or None
        Where the result goes, of the same shape; None makes a new array.

    Returns
    -------
    float32 array
        The same shape, 0 to 1; `out`, if given.

    Raises
    ------
    TypeError
        If `images` is of another type: dividing floats again would go unnoticed.

    Examples
    --------
    >>> to_float(np.array([0, 51, 255], dtype=np.uint8))
    array([0. , 0.2, 1. ], dtype=float32)
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8, from 0 to 255, but are {images.dtype}")
    return np.divide(images, np.float32(255), out=out)


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


# --- checking and reading


@contextlib.contextmanager
def _opened(path):
    """Open an HDF5 file, or say in one sentence why it isn't one."""
    if not path.exists():
        raise FileNotFoundError(
            f"there is no data file {path}: give the path of a Galaxy10 DECaLS file, or make a stand-in "
            f"with galaxynb.simulate.make_standin"
        )
    if not path.is_file():
        raise ValueError(f"{path} is a folder, but a Galaxy10 DECaLS file is an HDF5 file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes): download or make it again")
    with path.open("rb"):
        pass  # a file we may not read should say that, not that it is damaged
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file, but a Galaxy10 DECaLS file is one")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except BlockingIOError as error:
        raise ValueError(f"{path} is being written by another program: wait until it has finished") from error
    except (OSError, RuntimeError, KeyError) as error:  # h5py uses all three for damage
        fault = "truncated" if "truncated" in str(error) else "damaged"
        raise ValueError(f"{path} is {fault} ({_one_line(error)}): download or make it again") from error


def _one_line(error):
    return " ".join(str(error).split())


def _check_images(images, path):
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or not images.shape[1]:
        raise ValueError(
            f"'{layout.IMAGES}' of {path} has shape {images.shape}, but must be (N, H, H, 3): N square "
            f"images of 3 channels"
        )
    if images.dtype != np.uint8:
        raise ValueError(f"'{layout.IMAGES}' of {path} is {images.dtype}, but must be uint8, from 0 to 255")
    if len(images) == 0:
        raise ValueError(f"{path} holds no images: '{layout.IMAGES}' has 0 rows")


def _column(dataset, n_images, path):
    """Read a column of one value an image."""
    name = dataset.name.strip("/")
    if dataset.ndim != 1:
        raise ValueError(f"'{name}' of {path} has shape {dataset.shape}, but must hold one value an image")
    if len(dataset) != n_images:
        raise ValueError(
            f"'{name}' of {path} has {len(dataset)} rows, but '{layout.IMAGES}' has {n_images}: every "
            f"column must have the same length"
        )
    return _read(dataset, slice(None), path)


def _labels(dataset, n_images, path):
    if dataset.dtype.kind not in "iu":
        raise ValueError(f"'{layout.LABELS}' of {path} is {dataset.dtype}, but labels must be integers")
    labels = _column(dataset, n_images, path)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASS_NAMES)))
    if len(wrong):
        raise ValueError(
            f"'{layout.LABELS}' of {path} is {labels[wrong[0]]} in row {wrong[0]}, but labels must be 0 to "
            f"{len(CLASS_NAMES) - 1} ({len(wrong)} of {n_images} rows are wrong)"
        )
    return labels.astype(np.uint8)


def _numbers(dataset, n_images, path):
    if dataset.dtype.kind not in "fiu":
        raise ValueError(f"'{dataset.name.strip('/')}' of {path} is {dataset.dtype}, but must be numbers")
    return _column(dataset, n_images, path).astype(np.float64)


def _read(dataset, rows, path):
    try:
        return dataset[rows]
    except OSError as error:
        if isinstance(rows, tuple):
            where = f" in row {rows[0] % len(dataset)}"
        else:
            where = "" if rows.start is None else f" in rows {rows.start} to {rows.stop - 1}"
        raise ValueError(
            f"'{dataset.name.strip('/')}' of {path} can't be read{where}, so the file is damaged "
            f"({_one_line(error)}): download or make it again"
        ) from error


def _rows_at_once(dataset):
    """Whole chunks: a compressed chunk that two batches share is decompressed twice."""
    chunk = dataset.chunks[0] if dataset.chunks else 1
    rows = chunk * max(1, _BATCH_IMAGES // chunk)
    return max(1, min(rows, _BATCH_BYTES // math.prod(dataset.shape[1:])))


# --- shrinking and writing


def _shrunk(batches, image_size, bar):
    """Yield each batch shrunk, in memory that the next one uses again: fresh memory would pile up for a while."""
    memory = np.empty((0, image_size, image_size, 3), np.uint8)
    for rows, images in batches:
        if len(memory) < len(images):
            memory = np.empty((len(images), *memory.shape[1:]), np.uint8)
        small = memory[: len(images)]
        for image, target in zip(images, small, strict=True):
            cv2.resize(image, (image_size, image_size), dst=target, interpolation=cv2.INTER_AREA)
        del images
        yield small
        bar.update(rows.stop - rows.start)


def _write_npy(path, shape, arrays):
    """Write uint8 arrays one after the other as one .npy file.

    Plain writes, since the pages of a memory map would count as this process's memory; and not
    `tofile`, since its error on a full disk doesn't say that the disk is full.
    """
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file,
            {
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
                "fortran_order": False,
                "shape": shape,
            },
        )
        for array in arrays:
            file.write(np.ascontiguousarray(array, dtype=np.uint8).data)


def _read_info(out):
    info = json.loads((out / "cache.json").read_text(encoding="utf-8"))
    if info["kind"] not in ("real", "standin") or not (out / "columns.npz").is_file():
        raise ValueError("cache.json gives no kind, or columns.npz is missing")
    return info


def _map(path, shape):
    array = np.load(path, mmap_mode="r")
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(f"{path.name} is {array.dtype} of shape {array.shape}, expected uint8 of {shape}")
    return array


@contextlib.contextmanager
def _room_for(path, n_bytes):
    """Turn the error of a full disk into a sentence that names the folder and the bytes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise OSError(
            error.errno,
            f"the disk of {path.parent} has no room for {path.name}, which needs {n_bytes:,} bytes: free "
            f"some space and run again",
        ) from error


# --- downloading


@contextlib.contextmanager
def _quiet(logger):
    """Silence pooch's progress reports, since ours say the same, but not its warnings."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _download(url, part, progress):
    """Bring `part` to the end of the file at `url`; give up after several fruitless attempts."""
    reached, fruitless = _size(part), 0
    while True:
        try:
            return _request_rest(url, part, progress)
        except requests.RequestException as error:
            status = None if error.response is None else error.response.status_code
            if status is not None and status < 500 and status != requests.codes.too_many_requests:
                raise ConnectionError(
                    f"{url} can't be downloaded, because the server answered {status} "
                    f"{error.response.reason}: check the address, or download the file by hand"
                ) from error
            # A server without range requests starts at 0 each time: only new ground is progress.
            fruitless = 0 if _size(part) > reached else fruitless + 1
            reached = max(reached, _size(part))
            if fruitless == _ATTEMPTS:
                raise ConnectionError(
                    f"the download of {url} broke off after {_size(part):,} bytes "
                    f"({type(error).__name__}): what has arrived is kept in {part}, run again to go on"
                ) from error
            time.sleep(_BACKOFF * 2**fruitless)


def _request_rest(url, part, progress):
    """Ask once for the bytes that `part` lacks and append them as they come."""
    have = _size(part)
    # Compressed on the way, the bytes counted would not be the file's.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        part_of = answer.headers.get("Content-Range", "")
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            if part_of in ("", f"bytes */{have}"):
                return  # nothing is lacking, or the server doesn't say: the checksum will tell
            part.unlink()  # longer than the file: no beginning of it
            raise requests.ConnectionError("the part kept is not of this file")
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            have = 0  # the server sends the whole file
        elif not part_of.startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the server sent another part than asked for")
        length = answer.headers.get("Content-Length")
        lacking = int(length) if length else None
        with (
            _room_for(part, lacking or 0),
            part.open("ab" if have else "wb") as file,
            tqdm(
                desc=part.stem,
                total=have + lacking if lacking else None,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=not progress,
            ) as bar,
        ):
            for block in answer.iter_content(_BLOCK):
                file.write(block)
                bar.update(len(block))
