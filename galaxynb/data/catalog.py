"""Open a file in the Galaxy10 DECaLS layout, check it, and read its images in bounded memory.

This module never changes a pixel. `galaxynb.data.cache` shrinks the images, and `galaxynb.standin` makes synthetic
ones.
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

__all__ = [
    "Catalog",
    "class_summary",
    "load_catalog",
]


# Reading: at least this many images at a time, whole HDF5 chunks, and never more than the bytes.
_BATCH_IMAGES = 64

_BATCH_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False, kw_only=True)
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

    def batches(self, column=IMAGES):
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

    def take(self, rows, column=IMAGES):
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
        wanted = (IMAGES, LABELS, *FLOAT_COLUMNS)
        missing = [name for name in wanted if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            raise ValueError(
                f"{path} lacks {', '.join(missing)}, which a file in the Galaxy10 DECaLS layout must hold "
                f"(found: {', '.join(map(str, file)) or 'nothing'})"
            )
        images = file[IMAGES]
        _check_images(images, path)
        labels = _labels(file[LABELS], len(images), path)
        columns = {name: _numbers(file[name], len(images), path) for name in FLOAT_COLUMNS}
        truth = file.get(TRUTH)
        if truth is not None and (truth.shape, truth.dtype) != (images.shape, images.dtype):
            raise ValueError(
                f"'{TRUTH}' of {path} is {truth.dtype} of shape {truth.shape}, but must be like "
                f"'{IMAGES}': {images.dtype} of shape {images.shape}"
            )
        for dataset in (images,) if truth is None else (images, truth):
            # A pixel at each end: a row of a file with chunks like the published one's would cost a pass over hundreds.
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
    catalog : Catalog or Cache

    Returns
    -------
    pandas.DataFrame
        A row per class, indexed by its number `class`: name, images (count) and fraction (0 to 1).
    """
    images = class_support(catalog.labels, slice(None))
    return pd.DataFrame(
        {"name": CLASS_NAMES, "images": images, "fraction": images / images.sum()},
        index=pd.RangeIndex(len(CLASS_NAMES), name="class"),
    )


# --- checking and reading


@contextlib.contextmanager
def _opened(path):
    """Open an HDF5 file, or say in one sentence why it isn't one."""
    if not path.exists():
        raise FileNotFoundError(
            f"there is no data file {path}: give the path of a Galaxy10 DECaLS file, or make a stand-in "
            f"with galaxynb.standin.make.make_standin"
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
        raise ValueError(f"{path} is {fault} ({one_line(error)}): download or make it again") from error


def _check_images(images, path):
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or not images.shape[1]:
        raise ValueError(
            f"'{IMAGES}' of {path} has shape {images.shape}, but must be (N, H, H, 3): N square images of 3 channels"
        )
    if images.dtype != np.uint8:
        raise ValueError(f"'{IMAGES}' of {path} is {images.dtype}, but must be uint8, from 0 to 255")
    if len(images) == 0:
        raise ValueError(f"{path} holds no images: '{IMAGES}' has 0 rows")


def _column(dataset, n_images, path):
    """Read a column of one value an image."""
    name = dataset.name.strip("/")
    if dataset.ndim != 1:
        raise ValueError(f"'{name}' of {path} has shape {dataset.shape}, but must hold one value an image")
    if len(dataset) != n_images:
        raise ValueError(
            f"'{name}' of {path} has {len(dataset)} rows, but '{IMAGES}' has {n_images}: every "
            f"column must have the same length"
        )
    return _read(dataset, slice(None), path)


def _labels(dataset, n_images, path):
    if dataset.dtype.kind not in "iu":
        raise ValueError(f"'{LABELS}' of {path} is {dataset.dtype}, but labels must be integers")
    labels = _column(dataset, n_images, path)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASS_NAMES)))
    if len(wrong):
        raise ValueError(
            f"'{LABELS}' of {path} is {labels[wrong[0]]} in row {wrong[0]}, but labels must be 0 to "
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
            f"({one_line(error)}): download or make it again"
        ) from error


def _rows_at_once(dataset):
    """Whole chunks: a compressed chunk that two batches share is decompressed twice."""
    chunk = dataset.chunks[0] if dataset.chunks else 1
    rows = chunk * max(1, _BATCH_IMAGES // chunk)
    return max(1, min(rows, _BATCH_BYTES // math.prod(dataset.shape[1:])))
