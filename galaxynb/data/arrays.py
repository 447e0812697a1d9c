"""Read an .npz file of images and labels in bounded memory."""

import contextlib
import functools
import math
import zipfile
import zlib

import numpy as np

from galaxynb.data.galaxy10 import FLOAT_COLUMNS
from galaxynb.data.sources import SMALLEST_PICTURE, batch_rows, check_images, check_labels
from galaxynb.files import one_line

__all__ = ["image_key", "open_npz", "read_npz", "write_header"]


#: Names of the arrays, in the order in which they are looked for.
_IMAGE_KEYS = ("images", "image", "x", "X", "data", "imgs")
_LABEL_KEYS = ("labels", "label", "ans", "y", "Y", "targets", "target")


def read_npz(path):
    """Check an .npz file of images and labels.

    Parameters
    ----------
    path : pathlib.Path
        A file of `numpy.savez` or `numpy.savez_compressed`, with images (uint8, shape (N, H, H, 3)) and labels
        (integers 0 to 9, shape (N,) or (N, 1)) under usual names, such as ``images`` and ``labels`` or ``x`` and ``y``.
        It may hold `ra`, `dec`, `redshift` and `pxscale`.

    Returns
    -------
    dict
        Arguments of `galaxynb.data.catalog.Catalog`.

    Raises
    ------
    ValueError
        If the file is damaged or holds other arrays.
    """
    labels, shape, blocks, columns = open_npz(path, labelled=True)
    unknown = {name: np.full(shape[0], np.nan) for name in FLOAT_COLUMNS}
    return {"labels": labels, **unknown, **columns, "image_shape": shape[1:], "files": (path,), "blocks": blocks}


def open_npz(path, *, labelled=False):
    """Open an .npz file of images, with or without labels.

    Parameters
    ----------
    path : pathlib.Path
        As for `read_npz`.
    labelled : bool, optional
        Whether labels are needed.

    Returns
    -------
    labels : ndarray of int, shape (N,), or None
        Classes 0 to 9 if they are needed, otherwise what the file holds; None if it holds none.
    shape : tuple of int
        Shape of the images, (N, H, H, 3).
    blocks : callable
        As `galaxynb.data.catalog.Catalog.blocks`.
    columns : dict of ndarray of float64, shape (N,)
        Further columns that the file holds, such as `pxscale`.

    Raises
    ------
    ValueError
        If the file is damaged or holds other arrays.
    """
    with _opened(path) as archive:
        keys = _keys(archive)
        if not keys:
            raise ValueError(f"{path} is an archive without arrays, but an .npz file is needed: unpack a zip of images")
        images_at, label_key = image_key(keys), next((key for key in _LABEL_KEYS if key in keys), None)
        if images_at is None or (labelled and label_key is None):
            whole = "images and labels are needed: call the arrays 'images' and 'labels'"
            needed = whole if labelled else "images are needed: call their array 'images'"
            raise ValueError(f"{path} holds {', '.join(keys)}, but {needed}")
        with _array(archive, images_at, path) as member:
            shape, fortran, dtype = _header(member)
            start = member.tell()
        check_images(images_at, shape, dtype, path=path, smallest=SMALLEST_PICTURE)
        if fortran:
            raise ValueError(
                f"'{images_at}' of {path} is in Fortran order, but C order is needed: save a copy in C order"
            )
        labels = None
        with contextlib.nullcontext() if labelled else contextlib.suppress(ValueError):
            labels = None if label_key is None else _column(archive, label_key, shape[0], path)
        labels = check_labels(label_key, labels, path=path) if labelled else labels
        found = {name: _column(archive, name, shape[0], path) for name in FLOAT_COLUMNS if name in keys}
        columns = {name: values.astype(np.float64) for name, values in found.items() if values.dtype.kind in "fiu"}
        return labels, shape, functools.partial(_blocks, path, f"{images_at}.npy", start, shape), columns


def write_header(file, shape):
    """Begin a .npy file of uint8: write its header, which the values follow.

    Parameters
    ----------
    file : file object
        Open for writing bytes.
    shape : tuple of int
        Shape of the array.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> write_header(file, (2,))
    >>> np.load(io.BytesIO(file.getvalue() + b"ab")).tolist()
    [97, 98]
    """
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def image_key(names):
    """Return which of some names of arrays is that of the images, or None."""
    return next((key for key in _IMAGE_KEYS if key in names), None)


def _keys(archive):
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


@contextlib.contextmanager
def _opened(path):
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        fault = "encrypted" if "encrypted" in str(error) else "damaged"
        raise ValueError(
            f"{path} is {fault} ({one_line(error)}), but an intact .npz file is needed: download or make it again"
        ) from error


@contextlib.contextmanager
def _array(archive, key, path):
    """Open an array of an archive. Raise an error of one sentence if it is in no format of NumPy."""
    with archive.open(f"{key}.npy") as member:
        try:
            yield member
        except ValueError as error:
            raise ValueError(
                f"'{key}' of {path} is not readable ({one_line(error)}), but numbers are needed: save an array of them"
            ) from error


def _header(member):
    """Return shape, order and dtype of an array, and leave the file at its first value."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)


def _column(archive, key, n_images, path):
    """Read an array that holds one value per image."""
    with _array(archive, key, path) as member:
        values = np.lib.format.read_array(member, allow_pickle=False)
        member.read(1)  # the checksum is checked only at the end of the array
    if values.shape == (n_images, 1):
        values = values[:, 0]
    if values.shape != (n_images,):
        raise ValueError(
            f"'{key}' of {path} has shape {values.shape}, but ({n_images},) is needed: store one value per image"
        )
    return values


def _blocks(path, name, start, shape, _, wanted):
    """Yield row numbers and images of each batch with a wanted row, as `Catalog.blocks` does."""
    step, size = batch_rows(shape[1:]), math.prod(shape[1:])
    starts = range(0, shape[0], step) if wanted is None else np.unique(wanted // step) * step
    with _opened(path) as archive, archive.open(name) as member:
        member.read(start)
        for first in map(int, starts):
            rows = np.arange(first, min(first + step, shape[0]))
            if member.tell() != start + first * size:  # seeking switches the check of the checksum off
                member.seek(start + first * size)
            data = member.read(len(rows) * size)
            if len(data) < len(rows) * size:
                raise EOFError(f"the images end before row {rows[-1]}")
            yield rows, np.frombuffer(data, np.uint8).reshape(len(rows), *shape[1:])
        member.read(1)  # the checksum is checked only at the end of the array
