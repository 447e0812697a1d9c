"""Recognize what a path holds, and check labels and images in the same way for each format.

The readers of the formats (`galaxynb.data.hdf5`, `galaxynb.data.pictures` and `galaxynb.data.arrays`) share these
functions. This module reads no image.
"""

import contextlib
import hashlib
import re
import shlex
import sys
import unicodedata
from pathlib import Path

import numpy as np

from galaxynb.data.galaxy10 import CLASS_NAMES

__all__ = [
    "FEWEST_IMAGES",
    "SMALLEST_PICTURE",
    "batch_rows",
    "check_images",
    "check_labels",
    "class_number",
    "content_digest",
    "find_class",
    "install_command",
    "natural_order",
    "parquet_files",
    "recognize_source",
    "shown_files",
]


#: A split into three parts needs at least this many images.
FEWEST_IMAGES = 10

#: Smallest side in px of images in other formats than HDF5. Only stand-ins for tests are smaller.
SMALLEST_PICTURE = 64

_BATCH_IMAGES = 64  # images per batch, before rounding to whole chunks of the file

_BATCH_BYTES = 256 * 2**20  # upper limit of a batch, which overrules the number of images

_TAKEN = (
    "an HDF5 file in the Galaxy10 DECaLS layout, a folder with one subfolder per class, parquet files or an .npz file"
)

#: Spellings other than the published names, as letters only.
_ALIASES = {"inbetweensmooth": 3, "cigarsmooth": 4, "edgeonnobulge": 8}


def recognize_source(path):
    """Return the format of a data source.

    Parameters
    ----------
    path : str or os.PathLike
        A file or a folder.

    Returns
    -------
    {"hdf5", "npz", "parquet", "folder"}
        The format. A file is recognized by its first bytes, not by its name.

    Raises
    ------
    FileNotFoundError
        If the path is missing.
    ValueError
        If the path cannot be read or has another format.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     (Path(folder) / "Barred Spiral").mkdir()
    ...     recognize_source(folder)
    'folder'
    """
    path = Path(path)
    with _readable(path):
        if path.is_dir():
            classes = any(entry.is_dir() and find_class(entry.name) is not None for entry in shown_files(path))
            return "folder" if classes or not parquet_files(path) else "parquet"
        with path.open("rb") as file:
            start = file.read(64)
            signatures = [start[:8]]
            for power in range(9, 21):  # HDF5 allows a block of another kind before its own signature
                file.seek(2**power)
                signatures.append(file.read(8))
    if b"\x89HDF\r\n\x1a\n" in signatures:
        return "hdf5"
    if start.startswith(b"PK\x03\x04"):
        return "npz"
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer, but the file itself is needed: run `git lfs pull` to get it")
    if not start:
        raise ValueError(f"{path} is empty (0 bytes), but {_TAKEN} is needed: download or make it again")
    raise ValueError(f"{path} is of another format, but {_TAKEN} is needed: give one of them")


@contextlib.contextmanager
def _readable(path):
    """Raise an error of one sentence if a path is missing or cannot be read."""
    try:
        path.stat()
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"{path} is missing, but data are needed: give {_TAKEN}, or make a stand-in with "
            f"galaxynb.standin.make.make_standin"
        ) from error
    except OSError as error:
        raise ValueError(f"{path} is not readable ({error.strerror}), but data are needed: allow reading it") from error


def parquet_files(path):
    """Return the parquet files of a source, in natural order.

    Parameters
    ----------
    path : pathlib.Path
        One file, or a folder that holds files at most two folders down, as a data set on Hugging Face does.

    Returns
    -------
    list of pathlib.Path
    """
    if path.is_file():
        return [path]
    found = [file for depth in ("", "*/", "*/*/") for file in path.glob(f"{depth}*.parquet")]
    return sorted(found, key=lambda file: natural_order(file.relative_to(path).as_posix()))


def class_number(name):
    """Return the class that a name means.

    Parameters
    ----------
    name : str
        A class by number (``3``, ``class_3``), by name in any usual spelling (``Barred Spiral Galaxies``,
        ``edge-on_without_bulge``), or by both (``0_Disturbed``).

    Returns
    -------
    int
        Class, 0 to 9.

    Raises
    ------
    ValueError
        If the name means no class, or its number and its name differ.

    Examples
    --------
    >>> class_number("Edge-on Galaxies without Bulge"), class_number("class_03"), class_number("0_Disturbed")
    (8, 3, 0)
    """
    number = find_class(name)
    if number is None:
        known = ", ".join(f"{k} {title}" for k, title in enumerate(CLASS_NAMES))
        raise ValueError(f"{name!r} is no class, but one is needed: use a number or a name of {known}")
    return number


def find_class(name):
    """Return the class that a name means, as `class_number` does, or None if it means none.

    Parameters
    ----------
    name : str

    Returns
    -------
    int or None
        Class, 0 to 9.
    """
    words = re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", name).casefold())
    letters = re.sub(r"\bgalax(y|ies)\b| ", "", words)
    found = re.fullmatch(r"(?:class|label)?([0-9]+)?([a-z]*)", letters)
    if found is None or name.startswith("-"):
        return None
    named = _NAMES.get(found[2])
    if found[1] is None:
        return named
    number = int(found[1])
    return number if number < len(CLASS_NAMES) and (not found[2] or named == number) else None


_NAMES = {re.sub(r"[^a-z]", "", name.lower()): k for k, name in enumerate(CLASS_NAMES)} | _ALIASES


def natural_order(name):
    """Return a sort key by which ``image2`` comes before ``image10``.

    Parameters
    ----------
    name : str

    Returns
    -------
    tuple
        The key. Names that differ only in leading zeros or in case still have a fixed order.

    Examples
    --------
    >>> sorted(["b10", "b9", "a"], key=natural_order)
    ['a', 'b9', 'b10']
    """
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if number % 2 else (0, part.casefold()) for number, part in enumerate(parts)], name


def shown_files(folder):
    """Return the files and folders in a folder, in natural order, without those that systems add.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    list of pathlib.Path
        Paths, without hidden ones.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is missing or cannot be read.
    """
    added = {"Thumbs.db", "desktop.ini", "__MACOSX"}
    with _readable(folder):
        shown = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in added]
    return sorted(shown, key=lambda path: natural_order(path.name))


def content_digest(files, root):
    """Return a SHA256 that identifies the content of a source, on any machine and at any path.

    Parameters
    ----------
    files : sequence of pathlib.Path
        The files of the source.
    root : pathlib.Path
        The source: one file, or the folder of all files.

    Returns
    -------
    str
        For one file at `root`, its SHA256. Otherwise the SHA256 of the names, relative to the folder, and of the
        SHA256 of each file.
    """
    if list(files) == [root]:
        return _sha256(root)
    base = root if root.is_dir() else root.parent
    names = {_relative(path, base): path for path in files}
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{_sha256(names[name])} {name}\n".encode())
    return digest.hexdigest()


def _relative(path, base):
    # Systems store the same accented letter in two ways.
    return unicodedata.normalize("NFC", path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name)


def _sha256(path):
    if not path.is_file():
        return "missing"  # a dead link, which `skip_bad` leaves out
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def install_command(package):
    """Return the command that installs a package for the Python that runs this.

    Parameters
    ----------
    package : str

    Returns
    -------
    str
        The command, with the path of this Python: `pip` alone may belong to another one.
    """
    return shlex.join([sys.executable, "-m", "pip", "install", package])


def batch_rows(image_shape, *, chunk=1):
    """Return the number of images per batch: whole chunks, because a chunk in two batches would be read twice.

    Parameters
    ----------
    image_shape : tuple of int
        Shape of an image of uint8.
    chunk : int, optional
        Number of images in a chunk of the file.

    Returns
    -------
    int
        Number of images, at least 1.

    Examples
    --------
    >>> batch_rows((256, 256, 3)), batch_rows((256, 256, 3), chunk=50)
    (64, 50)
    """
    rows = chunk * max(1, _BATCH_IMAGES // chunk)
    return max(1, min(rows, _BATCH_BYTES // int(np.prod(image_shape))))


def check_images(name, shape, dtype, *, path, smallest=1):
    """Raise ValueError unless an array can hold square RGB images.

    Parameters
    ----------
    name : str
        Name of the array in the file, for the message.
    shape : tuple of int
    dtype : numpy.dtype
    path : pathlib.Path
        The file, for the message.
    smallest : int, optional
        Smallest side in pixels.
    """
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or not shape[1]:
        raise ValueError(
            f"'{name}' of {path} has shape {tuple(shape)}, but (N, H, H, 3) is needed: stack N square RGB images"
        )
    if dtype != np.uint8:
        raise ValueError(f"'{name}' of {path} is {dtype}, but uint8 is needed: store values from 0 to 255")
    if shape[0] == 0:
        raise ValueError(f"'{name}' of {path} has 0 rows, but at least one image is needed: give another file")
    if shape[1] < smallest:
        raise ValueError(
            f"'{name}' of {path} has images of {shape[1]} px, but at least {smallest} px is needed: give larger ones"
        )


def check_labels(name, labels, *, path):
    """Return labels as uint8. Raise ValueError unless all are classes.

    Parameters
    ----------
    name : str
        Name of the labels in the file, for the message.
    labels : ndarray, shape (N,)
    path : pathlib.Path
        The file, for the message.

    Returns
    -------
    ndarray of uint8, shape (N,)
    """
    if labels.dtype.kind not in "iu":
        raise ValueError(f"'{name}' of {path} is {labels.dtype}, but integers are needed: store classes 0 to 9")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASS_NAMES)))
    if len(wrong):
        raise ValueError(
            f"'{name}' of {path} is {labels[wrong[0]]} in row {wrong[0]}, but 0 to {len(CLASS_NAMES) - 1} is needed: "
            f"correct the labels ({len(wrong)} of {len(labels)} rows are wrong)"
        )
    return labels.astype(np.uint8)
