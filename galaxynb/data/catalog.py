"""Open a data source of any format, check it, and read its images in bounded memory.

This module changes no pixel: `galaxynb.data.cache` shrinks the images. Importing it is fast, because the workflow
checks data with it before each run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from galaxynb.data.arrays import read_npz
from galaxynb.data.galaxy10 import CLASS_NAMES, IMAGES
from galaxynb.data.hdf5 import read_hdf5
from galaxynb.data.pictures import faults_summary, read_folder, read_parquet
from galaxynb.data.sources import FEWEST_IMAGES, content_digest, parquet_files, recognize_source, shown_files
from galaxynb.images import SMALLEST_SIDE

__all__ = ["Catalog", "check_image_size", "check_source", "class_summary", "load_catalog", "source_files"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Catalog:
    """A checked data source. The images stay on disk.

    Attributes
    ----------
    path : pathlib.Path
        The file, or the folder of the files.
    labels : ndarray of uint8, shape (N,)
        Classes 0 to 9, in the order of the source.
    ra, dec : ndarray of float64, shape (N,)
        Right ascension and declination in degrees, NaN where unknown.
    redshift : ndarray of float64, shape (N,)
        Redshift, NaN where unknown.
    pxscale : ndarray of float64, shape (N,)
        Pixel scale in arcsec/px, NaN where unknown.
    image_shape : tuple of int
        Height, width and number of channels of each image: (H, H, 3).
    files : tuple of pathlib.Path
        All files that hold a part of the source.
    blocks : callable
        Takes the name of a column and an array of sorted row numbers, or None for all rows. Yields row numbers and
        images of batches that hold at least these rows, in order.
    has_truth : bool
        Whether the source also holds noise-free images, as only stand-ins do.
    standin : str or None
        Program and seed that made the source, if it is a stand-in.
    left_out : dict of str to galaxynb.data.pictures.BadImage
        Fault of each image that was left out, by the name of the image.
    """

    path: Path
    labels: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    redshift: np.ndarray
    pxscale: np.ndarray
    image_shape: tuple
    files: tuple
    blocks: Callable
    has_truth: bool = False
    standin: str | None = None
    left_out: dict = field(default_factory=dict)

    @property
    def n_images(self):
        """Number of images, N."""
        return len(self.labels)

    @property
    def kind(self):
        """Kind of the source, "standin" or "real"."""
        return "real" if self.standin is None else "standin"

    def digest(self):
        """Return the SHA256 of the content, which is the same on any machine and at any path."""
        return content_digest(self.files, self.path)

    def summary(self):
        """Return a sentence about the number of images, and about those that were left out."""
        text = f"{self.path.name} has {self.n_images:,} images of {self.image_shape[0]} px"
        if not self.left_out:
            return f"{text}."
        return f"{text}; left out: {len(self.left_out):,} ({faults_summary(self.left_out)})."

    def __getitem__(self, row):
        """Return the image of one row, as uint8 of shape (H, H, 3)."""
        return self.take([row])[0]

    def batches(self, column=IMAGES):
        """Read all images once, in order and in bounded memory.

        Parameters
        ----------
        column : {"images", "truth"}, optional
            Which images to read.

        Yields
        ------
        rows : slice
            Rows of this batch in the source.
        images : ndarray of uint8, shape (B, H, H, 3)
            RGB images of these rows, values 0 to 255.

        Raises
        ------
        ValueError
            If a part of the source cannot be read.
        """
        # `map` names no images: a name would keep them in memory while the next ones are read.
        return map(_with_slice, self.blocks(column, None))

    def take(self, rows, column=IMAGES):
        """Read the images of some rows in one pass over the source.

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
        IndexError
            If a row number is out of range.
        ValueError
            If a part of the source cannot be read.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if ((rows < 0) | (rows >= self.n_images)).any():
            raise IndexError(f"rows has {rows.min()} to {rows.max()}, but 0 to {self.n_images - 1} is needed")
        taken = np.empty((len(rows), *self.image_shape), np.uint8)
        for found, images in self.blocks(column, np.unique(rows)) if len(rows) else ():
            here = np.isin(rows, found)
            taken[here] = images[np.searchsorted(found, rows[here])]
        return taken


def _with_slice(block):
    rows, images = block
    return slice(int(rows[0]), int(rows[-1]) + 1), images


def load_catalog(path, *, skip_bad=False):
    """Open a data source and check it.

    Parameters
    ----------
    path : str or os.PathLike
        - An HDF5 file that holds `images` (uint8, shape (N, H, H, 3)), `ans` (integers 0 to 9, shape (N,)), and `ra`,
          `dec`, `redshift` and `pxscale` (numbers, shape (N,)). It may hold `truth`, of the type and shape of `images`.
        - A folder with one subfolder of PNG or JPEG images per class; see `galaxynb.data.pictures.read_folder`.
        - A parquet file, or a folder of several; see `galaxynb.data.pictures.read_parquet`.
        - An .npz file; see `galaxynb.data.arrays.read_npz`.
    skip_bad : bool, optional
        Whether to leave out images that the study cannot use, in a folder or in parquet files. Otherwise such an
        image is an error.

    Returns
    -------
    Catalog

    Raises
    ------
    FileNotFoundError
        If the path is missing.
    ValueError
        If the source has another format, or is damaged, incomplete or of another layout. With `skip_bad`, also if no
        image is left.

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
    return Catalog(path=Path(path), **_read(Path(path), skip_bad=skip_bad))


def _read(path, *, skip_bad, quick=False):
    """Return the arguments of `Catalog`; with `quick`, after checking only a few images."""
    match recognize_source(path):
        case "hdf5":
            return read_hdf5(path)
        case "npz":
            return read_npz(path)
        case "parquet":
            return read_parquet(path, skip_bad=skip_bad, quick=quick)
        case _:
            return read_folder(path, skip_bad=skip_bad, quick=quick)


def check_source(path, *, skip_bad=False, image_size=None):
    """Check in about a second, before a run, everything about a data source that needs no pass over its images.

    Parameters
    ----------
    path : str or os.PathLike
        As for `load_catalog`.
    skip_bad : bool, optional
        As for `load_catalog`.
    image_size : int, optional
        Side in pixels to which the study shrinks the images.

    Raises
    ------
    FileNotFoundError
        If the path is missing.
    ValueError
        If `load_catalog` would refuse the source for its layout, its labels or the first image of a class, or if it
        has too few or too small images for a study.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     try:
    ...         check_source(folder)
    ...     except ValueError as error:
    ...         print(str(error).removeprefix(folder).partition(", ")[0].strip())
    has no subfolders and no parquet files
    """
    path = Path(path)
    opened = _read(path, skip_bad=skip_bad, quick=True)
    if len(opened["labels"]) < FEWEST_IMAGES:
        raise ValueError(
            f"{path} has {len(opened['labels'])} images, but at least {FEWEST_IMAGES} are needed for the split into "
            f"three parts: add images"
        )
    if image_size is not None and opened["image_shape"] is not None:
        check_image_size(image_size, opened["image_shape"][0], path=path)


def check_image_size(image_size, side, *, path):
    """Raise ValueError unless images can be shrunk to a side that the classifier accepts.

    Parameters
    ----------
    image_size : int
        Side of the images after shrinking, px.
    side : int
        Side of the images of the source, px.
    path : pathlib.Path
        The source, for the message.
    """
    if not SMALLEST_SIDE <= image_size <= side:
        raise ValueError(
            f"image_size is {image_size}, but {SMALLEST_SIDE} to {side} is needed: give at least what the "
            f"classifier accepts and at most the size of the images in {path}"
        )


def source_files(path):
    """Return all files that hold a part of a data source. If one of them changes, the images have to be read again.

    Parameters
    ----------
    path : str or os.PathLike
        As for `load_catalog`.

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    FileNotFoundError, ValueError
        If the source is missing, or an HDF5 file cannot be read.
    """
    path = Path(path)
    match recognize_source(path):
        case "folder":
            return [file for entry in shown_files(path) for file in (shown_files(entry) if entry.is_dir() else [entry])]
        case "parquet":
            return parquet_files(path)
        case "hdf5":
            return list(read_hdf5(path)["files"])
        case _:
            return [path]


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
    import pandas as pd  # importing it takes a second, and a check of data does not need it

    images = np.bincount(catalog.labels, minlength=len(CLASS_NAMES))
    return pd.DataFrame(
        {"name": CLASS_NAMES, "images": images, "fraction": images / images.sum()},
        index=pd.RangeIndex(len(CLASS_NAMES), name="class"),
    )
