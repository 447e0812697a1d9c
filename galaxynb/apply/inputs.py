"""Open images of your own in any of several formats, and bring them to the side of the networks.

A faulty image yields the reason instead of pixels, so the others are still processed.
"""

import contextlib
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from galaxynb.apply.survey import FIELD, read_cutout
from galaxynb.data.arrays import open_npz
from galaxynb.data.galaxy10 import CLASS_NAMES, IMAGES
from galaxynb.data.hdf5 import open_hdf5, read_hdf5
from galaxynb.data.pictures import BadImage, decode_image, open_parquet
from galaxynb.data.sources import find_class, natural_order, parquet_files, recognize_source, shown_files
from galaxynb.files import one_line

__all__ = ["FITS", "PICTURES", "Inputs", "Prepared", "open_inputs", "prepare"]


PICTURES = (".png", ".jpg", ".jpeg")

FITS = (".fits", ".fit", ".fits.gz", ".fit.gz")

#: px: sides of the images that can be used. Larger ones are no cutouts of one galaxy.
SMALLEST, LARGEST = 64, 4096

_SAME = 0.1  # largest relative difference of two fields of view that count as the same

#: Fields of view of the training images, as multiples of `FIELD`. Large galaxies of Galaxy10 have twice the field.
_FIELDS = (1, 2)

_AT_ONCE = 64  # files that are read at a time


class Prepared(NamedTuple):
    """An image at the side of the networks, or why it cannot be used.

    Attributes
    ----------
    image : ndarray of float32, shape (S, S, 3), or None
        RGB in [0, 1]; None if the image cannot be used.
    part : int
        Side in pixels of the central part of the original that `image` shows; 0 without an image.
    remark : str
        Why the image cannot be used, as a predicate such as "is damaged". For others, what differs from the training
        images; empty if nothing does.
    """

    image: np.ndarray | None
    part: int = 0
    remark: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Inputs:
    """Images to work on. They stay on disk.

    Attributes
    ----------
    path : pathlib.Path
        The file or folder.
    form : {"files", "hdf5", "npz", "parquet"}
        How the images are stored. A FITS cube is one of the "files".
    number : int
        Number of images, N, with those that cannot be used.
    names : callable
        Takes a row, 0 to N - 1, and returns the name of its image: a path within the folder, or the row.
    labels : ndarray of int8, shape (N,), or None
        Classes 0 to 9, -1 where unknown. None if no image has one.
    read : callable
        Takes the first row, the one after the last, and the side S in pixels. Yields each row and its `Prepared`
        image, in order.
    files : tuple of pathlib.Path
        The files that hold the images.
    """

    path: Path
    form: str
    number: int
    names: Callable
    labels: np.ndarray | None
    read: Callable = field(repr=False)
    files: tuple = field(repr=False)


def open_inputs(path):
    """Open images in a folder or a file.

    Parameters
    ----------
    path : str or os.PathLike
        - A folder with PNG, JPEG or FITS cutouts, in subfolders too. A subfolder named after a class gives the images
          in it that class.
        - One such file.
        - An HDF5 file with `images` (uint8, shape (N, H, H, 3)) and perhaps `ans` and `pxscale`, as Galaxy10 has them.
        - An .npz file with `images` and perhaps `labels` and `pxscale`.
        - A parquet file, or a folder of several, with a column of encoded images, as Hugging Face serves them.

    Returns
    -------
    Inputs

    Raises
    ------
    FileNotFoundError
        If the path is missing.
    ValueError
        If there is no image, or the file is damaged or of another format.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = cv2.imwrite(f"{folder}/a.png", np.zeros((64, 64, 3), np.uint8))
    ...     inputs = open_inputs(folder)
    ...     inputs.form, inputs.number, inputs.names(0)
    ('files', 1, 'a.png')
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing, but images are needed: give a folder or file of cutouts")
    if path.is_dir():
        if parquet_files(path):
            return _parquet(path)
        found = sorted(filter(_is_image, _walk(path)), key=lambda one: natural_order(str(one)))
        if not found:
            raise ValueError(f"{path} holds no image, but some are needed: add PNG, JPEG or FITS cutouts")
        return _files(path, found, path)
    if _is_image(path):
        return _files(path, [path], path.parent)
    try:
        kind = recognize_source(path)
    except ValueError as error:
        if "of another format" not in str(error):
            raise
        raise ValueError(
            f"{path} is of another format, but PNG, JPEG, FITS, HDF5, .npz or parquet is needed: convert it"
        ) from None
    return {"hdf5": _hdf5, "npz": _npz, "parquet": _parquet}[kind](path)


def _is_image(path):
    return path.name.lower().endswith(PICTURES + FITS)


def _walk(folder, above=()):
    """Yield all files in a folder and its subfolders, without hidden ones. Links to a folder above are left out."""
    above = (*above, folder.resolve())
    for entry in shown_files(folder):
        if not entry.is_dir():
            yield entry
        elif entry.resolve() not in above:
            yield from _walk(entry, above)


def _files(path, files, root):
    # A name in another encoding has no text, so it is written with escapes.
    names = [os.fsencode(file.relative_to(root)).decode("utf-8", "backslashreplace") for file in files]
    labels = [find_class(file.parent.name) if file.parent != root else None for file in files]
    known = np.array([-1 if label is None else label for label in labels], np.int8)

    def read(first, last, side):
        with ThreadPoolExecutor(2) as pool:
            for start in range(first, last, _AT_ONCE):
                rows = range(start, min(start + _AT_ONCE, last))
                yield from zip(rows, pool.map(lambda row: _from_file(files[row], side), rows), strict=True)

    return Inputs(
        path=path,
        form="files",
        number=len(files),
        names=names.__getitem__,
        labels=known if (known >= 0).any() else None,
        read=read,
        files=tuple(files),
    )


def _from_file(path, side):
    try:
        if path.name.lower().endswith(FITS):
            return prepare(*read_cutout(path, largest=LARGEST), side=side)
        return prepare(decode_image(path, largest=LARGEST), side=side)
    except BadImage as fault:
        return Prepared(None, remark=str(fault))


def _hdf5(path):
    found = read_hdf5(path, labelled=False)

    def alone(row):
        with open_hdf5(path) as file:
            return file[IMAGES][row]

    about = {"labels": found["labels"], "scales": found["pxscale"], "files": found["files"]}
    return _arrays(path, "hdf5", found["blocks"], number=found["images"], alone=alone, **about)


def _npz(path):
    labels, shape, blocks, columns = open_npz(path)
    about = {"labels": labels, "scales": columns.get("pxscale"), "files": (path,)}
    return _arrays(path, "npz", blocks, number=shape[0], alone=None, **about)


def _arrays(path, form, blocks, *, number, alone, labels, scales, files):
    """Return the images of a file that holds them as one array. `alone` reads one image, if the format allows it."""
    scales = np.full(number, np.nan) if scales is None else scales

    def read(first, last, side):
        at = first
        while at < last:
            try:
                for rows, images in blocks("images", np.arange(at, last)):
                    for row, image in zip(rows, images, strict=True):
                        if at <= row < last:
                            yield int(row), prepare(image, scales[row], side=side)
                            at = int(row) + 1
            except ValueError as error:
                # A part of this block is damaged. Read its images one by one.
                for row in range(at, min(at + _AT_ONCE, last)):
                    yield row, _alone(alone, row, scales[row], side, error)
                    at = row + 1

    return Inputs(path=path, form=form, number=number, names=str, labels=_known(labels), read=read, files=tuple(files))


def _alone(read, row, scale, side, error):
    """Return one image of an array, a block of which cannot be read."""
    if read is not None:
        with contextlib.suppress(ValueError):
            return prepare(read(row), scale, side=side)
    return Prepared(None, remark=f"lies in a damaged part of the file ({one_line(error)})")


def _parquet(path):
    labels, scales, batches, files = open_parquet(path)
    number = len(scales)

    def read(first, last, side):
        at = first
        with ThreadPoolExecutor(2) as pool:
            while at < last:
                try:
                    for rows, sources in batches(np.arange(at, last), _AT_ONCE):
                        made = pool.map(lambda one, scale: _decoded(one, scale, side), sources, scales[rows])
                        for row, one in zip(rows, made, strict=True):
                            yield int(row), one
                            at = int(row) + 1
                except ValueError as error:
                    yield at, Prepared(None, remark=f"lies in a damaged part of the file ({one_line(error)})")
                    at += 1

    about = {"labels": _known(labels), "read": read, "files": tuple(files)}
    return Inputs(path=path, form="parquet", number=number, names=str, **about)


def _decoded(source, scale, side):
    try:
        if isinstance(source, BadImage):
            raise source
        return prepare(decode_image(source, largest=LARGEST), scale, side=side)
    except BadImage as fault:
        return Prepared(None, remark=str(fault))


def _known(labels):
    """Return labels as int8, with -1 for numbers that are no class; None for labels that are no whole numbers."""
    if labels is None or labels.dtype.kind not in "iu":
        return None
    known = np.where((labels >= 0) & (labels < len(CLASS_NAMES)), labels, -1).astype(np.int8)
    return known if (known >= 0).any() else None


def prepare(pixels, scale=math.nan, *, side):
    """Bring an image to a side and, where its pixel scale is known, to the field of view of the training images.

    Parameters
    ----------
    pixels : ndarray, shape (H, W, 3)
        RGB: uint8, or floats in [0, 1].
    scale : float
        Pixel scale in arcsec/px, NaN where unknown.
    side : int
        Side in pixels that the networks need.

    Returns
    -------
    Prepared

    Examples
    --------
    An image of 200 px with the survey's pixel scale shows less than those of the training:

    >>> _, part, remark = prepare(np.zeros((200, 200, 3), np.uint8), 0.262, side=64)
    >>> part, remark
    (200, 'its field of view is 52 arcsec, but the networks know 67 arcsec')
    """
    height, width = pixels.shape[:2]
    if height != width:
        return Prepared(None, remark=f"is {width} x {height} px, but a square is needed: crop it")
    if height < SMALLEST:
        return Prepared(None, remark=f"is {height} px, but at least {SMALLEST} px are needed: give a larger cutout")
    if height > LARGEST:
        return Prepared(None, remark=f"is {height} px, but at most {LARGEST} px are allowed: cut out one galaxy")
    part, remark = height, ""
    view = height * scale if 0 < scale < math.inf else math.nan
    if view > FIELD and not any(abs(view / FIELD / multiple - 1) <= _SAME for multiple in _FIELDS):
        # Keep the parity: then the part is exactly in the middle.
        part = max(2 * round(FIELD / scale / 2) + height % 2, 1)
        if part < SMALLEST // 2:
            few = f"has {part} px across {FIELD:.0f} arcsec, but at least {SMALLEST // 2} px are needed"
            return Prepared(None, remark=f"{few}: give an image with finer pixels")
        first = (height - part) // 2
        pixels = pixels[first : first + part, first : first + part]
    elif view < FIELD * (1 - _SAME):
        remark = f"its field of view is {view:.0f} arcsec, but the networks know {FIELD:.0f} arcsec"
    pixels = np.ascontiguousarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32))
    if part != side:
        how = cv2.INTER_AREA if part > side else cv2.INTER_CUBIC
        pixels = cv2.resize(pixels, (side, side), interpolation=how)
    image = pixels.astype(np.float32) / 255 if pixels.dtype == np.uint8 else np.clip(pixels, 0, 1)
    return Prepared(image, part, remark)
