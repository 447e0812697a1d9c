"""Open a file in the Galaxy10 DECaLS layout, check it, and read its images in bounded memory.

This module changes no pixel: `galaxynb.data.cache` shrinks the images.
"""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from galaxynb.data.galaxy10 import CLASS_NAMES, FLOAT_COLUMNS, IMAGES, LABELS, STANDIN_ATTRIBUTE, TRUTH
from galaxynb.data.splits import class_support
from galaxynb.files import one_line

__all__ = ["Catalog", "class_summary", "load_catalog"]


_BATCH_IMAGES = 64  # images per batch, before rounding to whole HDF5 chunks

_BATCH_BYTES = 256 * 2**20  # upper limit of a batch, which overrules the number of images


@dataclass(frozen=True, eq=False, kw_only=True)
class Catalog:
    """A checked file in the Galaxy10 DECaLS layout. The images stay on disk.

    Attributes
    ----------
    path : pathlib.Path
        The HDF5 file.
    labels : ndarray of uint8, shape (N,)
        Classes 0 to 9, in file order.
    ra, dec : ndarray of float64, shape (N,)
        Right ascension and declination in degrees, NaN where unknown.
    redshift : ndarray of float64, shape (N,)
        Redshift, NaN where unknown.
    pxscale : ndarray of float64, shape (N,)
        Pixel scale in arcsec/px, NaN where unknown.
    image_shape : tuple of int
        Height, width and number of channels of each image: (H, H, 3).
    has_truth : bool
        Whether the file also holds noise-free images, as only stand-ins do.
    standin : str or None
        Program and seed that made the file, if it is a stand-in.
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
        """Kind of the file, "standin" or "real"."""
        return "real" if self.standin is None else "standin"

    def batches(self, column=IMAGES):
        """Read all images once, in file order and in bounded memory.

        Parameters
        ----------
        column : {"images", "truth"}, optional
            Which images to read.

        Yields
        ------
        rows : slice
            Rows of this batch in the file.
        images : ndarray of uint8, shape (B, H, H, 3)
            RGB images of these rows, values 0 to 255.

        Raises
        ------
        ValueError
            If a part of the file cannot be read.
        """
        with h5py.File(self.path, "r") as file:
            dataset = file[column]
            step = _rows_at_once(dataset)
            for start in range(0, len(dataset), step):
                rows = slice(start, min(start + step, len(dataset)))
                # Yield without naming the images: a name would keep them in memory while the next ones are read.
                yield rows, _read(dataset, rows, self.path)

    def take(self, rows, column=IMAGES):
        """Read the images of some rows in one pass over the file.

        Reading row by row would be slow: a chunk of a compressed file holds parts of many images.

        Parameters
        ----------
        rows : array_like of int, shape (M,)
            Row numbers, 0 to N - 1, in any order.
        column : {"images", "truth"}, optional
            Which images to read.

        Returns
        -------
        ndarray of uint8, shape (M, H, H, 3)
            RGB images, values 0 to 255, in the order of `rows`.

        Raises
        ------
        ValueError
            If a part of the file cannot be read.
        """
        rows = np.asarray(rows, dtype=np.int64)
        taken = np.empty((len(rows), *self.image_shape), np.uint8)
        with h5py.File(self.path, "r") as file:
            dataset = file[column]
            step = _rows_at_once(dataset)
            for start in np.unique(rows // step) * step:
                in_batch = rows // step * step == start
                images = _read(dataset, slice(int(start), min(int(start) + step, len(dataset))), self.path)
                taken[in_batch] = images[rows[in_batch] - start]
        return taken


def load_catalog(path):
    """Open a file in the Galaxy10 DECaLS layout and check it.

    Parameters
    ----------
    path : str or os.PathLike
        An HDF5 file that holds `images` (uint8, shape (N, H, H, 3)), `ans` (integers 0 to 9, shape (N,)), and `ra`,
        `dec`, `redshift` and `pxscale` (numbers, shape (N,)). It may hold `truth`, of the type and shape of `images`.

    Returns
    -------
    Catalog

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the path is a folder, or the file is empty, not HDF5, truncated, damaged or of another layout.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from galaxynb.standin.make import make_standin
    >>> with TemporaryDirectory() as folder:
    ...     path = make_standin(f"{folder}/standin.h5", 10, image_size=32, workers=1, progress=False)
    ...     catalog = load_catalog(path)
    >>> catalog.kind, catalog.n_images, catalog.image_shape
    ('standin', 10, (32, 32, 3))
    """
    path = Path(path)
    with _opened(path) as file:
        wanted = (IMAGES, LABELS, *FLOAT_COLUMNS)
        missing = [name for name in wanted if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            raise ValueError(
                f"{path} lacks {', '.join(missing)}, but a file in the Galaxy10 DECaLS layout is needed: give one "
                f"(this file holds {', '.join(map(str, file)) or 'nothing'})"
            )
        images = file[IMAGES]
        _check_images(images, path)
        labels = _labels(file[LABELS], len(images), path)
        columns = {name: _numbers(file[name], len(images), path) for name in FLOAT_COLUMNS}
        truth = file.get(TRUTH)
        if truth is not None and (truth.shape, truth.dtype) != (images.shape, images.dtype):
            raise ValueError(
                f"'{TRUTH}' of {path} is {truth.dtype} of shape {truth.shape}, but {images.dtype} of shape "
                f"{images.shape} is needed: make it like '{IMAGES}'"
            )
        for dataset in (images,) if truth is None else (images, truth):
            # Read one pixel of the first and of the last image: a whole image would decompress chunks of hundreds of
            # images.
            for end in (0, -1):
                _read(dataset, (end, end, end, end), path)
        standin = file.attrs.get(STANDIN_ATTRIBUTE)
        return Catalog(
            path=path,
            labels=labels,
            image_shape=images.shape[1:],
            has_truth=truth is not None,
            standin=None if standin is None else str(standin),
            **columns,
        )


def class_summary(catalog):
    """Count the images of each class.

    Parameters
    ----------
    catalog : Catalog or galaxynb.data.cache.Cache

    Returns
    -------
    pandas.DataFrame
        One row per class, with the number of the class as the index `class`. The columns are ``name``, ``images``
        (the count) and ``fraction`` (0 to 1).

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> summary = class_summary(SimpleNamespace(labels=np.array([2, 2, 2, 8])))
    >>> summary[summary["images"] > 0].to_dict("list")
    {'name': ['Round Smooth', 'Edge-on without Bulge'], 'images': [3, 1], 'fraction': [0.75, 0.25]}
    """
    images = class_support(catalog.labels, slice(None))
    return pd.DataFrame(
        {"name": CLASS_NAMES, "images": images, "fraction": images / images.sum()},
        index=pd.RangeIndex(len(CLASS_NAMES), name="class"),
    )


@contextlib.contextmanager
def _opened(path):
    """Open an HDF5 file. Raise an error of one sentence if it cannot be opened."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing, but a data file is needed: give the path of a Galaxy10 DECaLS file, or make a "
            f"stand-in with galaxynb.standin.make.make_standin"
        )
    if not path.is_file():
        raise ValueError(f"{path} is a folder, but an HDF5 file is needed: give the path of a Galaxy10 DECaLS file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes), but an HDF5 file is needed: download or make it again")
    with path.open("rb"):
        pass  # a file without read permission raises PermissionError here; below it would count as damaged
    if not h5py.is_hdf5(path):
        raise ValueError(
            f"{path} is of another format, but an HDF5 file is needed: give the path of a Galaxy10 DECaLS file"
        )
    try:
        with h5py.File(path, "r") as file:
            yield file
    except BlockingIOError as error:
        raise ValueError(
            f"{path} is being written by another program, but a complete file is needed: wait until it has finished"
        ) from error
    except (OSError, RuntimeError, KeyError) as error:  # h5py raises all three for damaged files
        fault = "truncated" if "truncated" in str(error) else "damaged"
        raise ValueError(
            f"{path} is {fault} ({one_line(error)}), but an intact file is needed: download or make it again"
        ) from error


def _check_images(images, path):
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or not images.shape[1]:
        raise ValueError(
            f"'{IMAGES}' of {path} has shape {images.shape}, but (N, H, H, 3) is needed: stack N square RGB images"
        )
    if images.dtype != np.uint8:
        raise ValueError(f"'{IMAGES}' of {path} is {images.dtype}, but uint8 is needed: store values from 0 to 255")
    if len(images) == 0:
        raise ValueError(f"'{IMAGES}' of {path} has 0 rows, but at least one image is needed: give another file")


def _column(dataset, n_images, path):
    """Read a column that holds one value per image."""
    name = dataset.name.strip("/")
    if dataset.ndim != 1:
        raise ValueError(
            f"'{name}' of {path} has shape {dataset.shape}, but ({n_images},) is needed: store one value per image"
        )
    if len(dataset) != n_images:
        raise ValueError(
            f"'{name}' of {path} has {len(dataset)} rows, but {n_images}, the length of '{IMAGES}', is needed: store "
            f"one value per image"
        )
    return _read(dataset, slice(None), path)


def _labels(dataset, n_images, path):
    if dataset.dtype.kind not in "iu":
        raise ValueError(f"'{LABELS}' of {path} is {dataset.dtype}, but integers are needed: store classes 0 to 9")
    labels = _column(dataset, n_images, path)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASS_NAMES)))
    if len(wrong):
        raise ValueError(
            f"'{LABELS}' of {path} is {labels[wrong[0]]} in row {wrong[0]}, but 0 to {len(CLASS_NAMES) - 1} is needed: "
            f"correct the labels ({len(wrong)} of {n_images} rows are wrong)"
        )
    return labels.astype(np.uint8)


def _numbers(dataset, n_images, path):
    if dataset.dtype.kind not in "fiu":
        raise ValueError(
            f"'{dataset.name.strip('/')}' of {path} is {dataset.dtype}, but numbers are needed: store floats or "
            f"integers"
        )
    return _column(dataset, n_images, path).astype(np.float64)


def _read(dataset, rows, path):
    try:
        return dataset[rows]
    except OSError as error:
        if isinstance(rows, tuple):
            place = f" in row {rows[0] % len(dataset)}"
        else:
            place = "" if rows.start is None else f" in rows {rows.start} to {rows.stop - 1}"
        raise ValueError(
            f"'{dataset.name.strip('/')}' of {path} is damaged{place} ({one_line(error)}), but an intact file is "
            f"needed: download or make it again"
        ) from error


def _rows_at_once(dataset):
    """Return the rows per batch: whole chunks, because a chunk in two batches would be decompressed twice."""
    chunk = dataset.chunks[0] if dataset.chunks else 1
    rows = chunk * max(1, _BATCH_IMAGES // chunk)
    return max(1, min(rows, _BATCH_BYTES // math.prod(dataset.shape[1:])))
