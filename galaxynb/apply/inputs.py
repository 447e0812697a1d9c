"""Open images of your own in any of several formats, and read them a few at a time.

A fault of one image is a sentence in its place, so it does not stop the others.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from galaxynb.apply.survey import FIELD, read_cutout
from galaxynb.data.arrays import open_npz
from galaxynb.data.pictures import BadImage, decode_image, open_parquet
from galaxynb.data.sources import find_class, natural_order, recognize_source, shown_files

__all__ = ["FITS", "PICTURES", "Inputs", "Picture", "open_inputs", "prepare"]


PICTURES = (".png", ".jpg", ".jpeg")

FITS = (".fits", ".fit", ".fits.gz", ".fit.gz")

#: px: sides of the images that can be used. Larger ones are no cutouts of one galaxy.
SMALLEST, LARGEST = 64, 4096

_SAME = 0.1  # largest relative difference of two fields of view that count as the same


class Picture(NamedTuple):
    """One image to work on, or its fault.

    Attributes
    ----------
    pixels : ndarray or None
        RGB: uint8 of shape (H, H, 3), or float32 in [0, 1]. None if the image cannot be used.
    scale : float
        Pixel scale in arcsec/px, NaN where unknown.
    fault : str
        Why the image cannot be used, as the end of a sentence; empty if it can.
    """

    pixels: np.ndarray | None
    scale: float = math.nan
    fault: str = ""


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
        Takes the first row and the one after the last, and yields rows (range) and lists of `Picture`, in order.
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
        - An .npz file with `images` and perhaps `labels`.
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
    if path.is_file() and _is_image(path):
        return _files(path, [path], path.parent)
    if path.is_dir():
        found = sorted((one for one in _walk(path) if _is_image(one)), key=lambda one: natural_order(str(one)))
        if found:
            return _files(path, found, path)
    match recognize_source(path):
        case "hdf5":
            return _hdf5(path)
        case "npz":
            return _arrays(path, "npz", *open_npz(path))
        case "parquet":
            return _parquet(path)
        case _:
            raise ValueError(f"{path} holds no image, but some are needed: add PNG, JPEG or FITS cutouts")


def _is_image(path):
    return path.name.lower().endswith(PICTURES + FITS)


def _walk(folder):
    """Yield all files in a folder and its subfolders, without hidden ones."""
    for entry in shown_files(folder):
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry


def _files(path, files, root):
    names = [file.relative_to(root).as_posix() for file in files]
    labels = [find_class(file.parent.name) if file.parent != root else None for file in files]
    known = np.array([-1 if label is None else label for label in labels], np.int8)

    def read(first, last, step=64):
        with ThreadPoolExecutor(2) as pool:
            for start in range(first, last, step):
                rows = range(start, min(start + step, last))
                yield rows, list(pool.map(lambda row: _read_file(files[row]), rows))

    return Inputs(
        path=path,
        form="files",
        number=len(files),
        names=names.__getitem__,
        labels=known if (known >= 0).any() else None,
        read=read,
        files=tuple(files),
    )


def _read_file(path):
    try:
        if path.name.lower().endswith(FITS):
            return Picture(*read_cutout(path))
        return Picture(decode_image(path, largest=LARGEST))
    except BadImage as fault:
        return Picture(None, fault=str(fault))


def _hdf5(path):
    from galaxynb.data.hdf5 import read_hdf5

    found = read_hdf5(path)
    return _arrays(path, "hdf5", found["labels"], found["image_shape"], found["blocks"], scales=found["pxscale"])


def _arrays(path, form, labels, shape, blocks, *, scales=None):
    """Return the images of a file that holds them as one array."""
    number = len(labels) if labels is not None else shape[0]
    scales = np.full(number, np.nan) if scales is None else scales

    def read(first, last):
        wanted = np.arange(first, last)
        for rows, images in blocks("images", wanted):
            here = (rows >= first) & (rows < last)
            pairs = zip(images[here], scales[rows[here]], strict=True)
            yield range(int(rows[here][0]), int(rows[here][-1]) + 1), [Picture(one, float(s)) for one, s in pairs]

    known = None if labels is None else labels.astype(np.int8)
    return Inputs(path=path, form=form, number=number, names=str, labels=known, read=read, files=(path,))


def _parquet(path):
    labels, number, batches, files = open_parquet(path)

    def read(first, last):
        for rows, sources in batches(np.arange(first, last), 64):
            if len(rows):
                yield range(int(rows[0]), int(rows[-1]) + 1), [_decoded(source) for source in sources]

    return Inputs(path=path, form="parquet", number=number, names=str, labels=labels, read=read, files=tuple(files))


def _decoded(source):
    try:
        if isinstance(source, BadImage):
            raise source
        return Picture(decode_image(source, largest=LARGEST))
    except BadImage as fault:
        return Picture(None, fault=str(fault))


def prepare(picture, side):
    """Bring an image to the side and, where its pixel scale is known, to the field of view of the training images.

    Parameters
    ----------
    picture : Picture
        An image.
    side : int
        Side in pixels that the networks need.

    Returns
    -------
    image : ndarray of float32, shape (side, side, 3), or None
        RGB in [0, 1]; None if the image cannot be used.
    part : int
        Side in pixels of the central part of the original that `image` shows.
    remark : str
        Why the image cannot be used, or what differs from the training images; empty if nothing does.

    Examples
    --------
    An image of 200 px with the survey's pixel scale is a little smaller than those of the training:

    >>> _, part, remark = prepare(Picture(np.zeros((200, 200, 3), np.uint8), 0.262), 64)
    >>> part, remark
    (200, 'its field of view is 52 arcsec, but the networks know 67 arcsec')
    """
    pixels = picture.pixels
    if pixels is None:
        return None, 0, picture.fault
    height, width = pixels.shape[:2]
    if height != width:
        return None, 0, f"is {width} x {height} px, but a square is needed: crop it"
    if not SMALLEST <= height <= LARGEST:
        return None, 0, f"is {height} px, but {SMALLEST} to {LARGEST} px are needed: cut out one galaxy"
    part, remark = height, ""
    view = height * picture.scale
    if view > FIELD * (1 + _SAME) and abs(view / FIELD - 2) > 2 * _SAME:
        # Keep the parity: then the part is exactly in the middle.
        part = max(2 * round(FIELD / picture.scale / 2) + height % 2, 1)
        if part < SMALLEST // 2:
            return None, 0, f"has pixels of {picture.scale:.2g} arcsec, which are too coarse: {part} px show a galaxy"
        first = (height - part) // 2
        pixels = pixels[first : first + part, first : first + part]
    elif view < FIELD * (1 - _SAME):
        remark = f"its field of view is {view:.0f} arcsec, but the networks know {FIELD:.0f} arcsec"
    pixels = np.ascontiguousarray(pixels)
    if part != side:
        how = cv2.INTER_AREA if part > side else cv2.INTER_CUBIC
        pixels = cv2.resize(pixels, (side, side), interpolation=how)
    image = pixels.astype(np.float32) / 255 if pixels.dtype == np.uint8 else np.clip(pixels, 0, 1)
    return image, part, remark
