"""Read PNG and JPEG images: from a folder with one subfolder per class, or from parquet files of encoded images.

Pillow decodes each image twice: once to check it, and once to read it. A faulty image is therefore found before the
first one is used, and only a few images are in memory.
"""

import collections
import contextlib
import functools
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from galaxynb.compute import cores
from galaxynb.data.galaxy10 import FLOAT_COLUMNS
from galaxynb.data.sources import (
    SMALLEST_PICTURE,
    batch_rows,
    check_labels,
    class_number,
    find_class,
    install_command,
    parquet_files,
    shown_files,
)
from galaxynb.files import one_line

__all__ = ["BadImage", "decode_image", "faults_summary", "open_parquet", "read_folder", "read_parquet"]


#: Kinds of images that the study cannot use, by Pillow's mode.
_KINDS = {"1": "greyscale", "L": "greyscale", "LA": "with alpha", "PA": "with alpha", "RGBA": "with alpha"}
_KINDS |= {"CMYK": "CMYK", "I": "16-bit", "I;16": "16-bit", "I;16B": "16-bit"}

#: Names of the columns of parquet files, in the order in which they are looked for.
_IMAGE_COLUMNS = ("image", "images", "img")
_LABEL_COLUMNS = ("label", "labels", "ans", "class", "target")

_ROWS = 64  # rows of a parquet file in memory at a time


class BadImage(ValueError):  # noqa: N818 -- the name says which part of the data is at fault
    """An image that the study cannot use.

    Attributes
    ----------
    kind : str
        A few words for a summary, such as "greyscale".
    """

    def __init__(self, kind, fault):
        super().__init__(fault)
        self.kind = kind


def decode_image(source, *, largest=None):
    """Decode a PNG or JPEG image.

    An image with a palette becomes RGB. An image is rotated as its EXIF data say, like in a viewer.

    Parameters
    ----------
    source : bytes or pathlib.Path
        The encoded image, or its file.
    largest : int, optional
        Largest side in pixels. A larger image is not decoded. By default any size will do.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB values, 0 to 255.

    Raises
    ------
    BadImage
        If the image cannot be decoded, is not 8-bit RGB, or is too large.

    Examples
    --------
    >>> stream = io.BytesIO()
    >>> Image.new("RGB", (64, 64), (9, 8, 7)).save(stream, "PNG")
    >>> decode_image(stream.getvalue())[0, 0].tolist()
    [9, 8, 7]
    """
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise BadImage("unreadable", f"is not readable ({error.strerror})") from error
    if not data:
        raise BadImage("empty", "is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        width, height = image.size
        too_large = largest is not None and max(width, height) > largest
        kind = None if too_large else _kind(image, data)
        pixels = None if kind or too_large else np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Image.UnidentifiedImageError as error:
        raise BadImage("no PNG or JPEG", "is no PNG or JPEG image") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage("too large", f"has too many pixels, more than {Image.MAX_IMAGE_PIXELS:,}") from error
    except Exception as error:  # Pillow raises errors of many classes for damaged images
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise BadImage(kind, f"is {kind} ({one_line(error)})") from error
    if too_large:
        raise BadImage("too large", f"is {width} x {height} px, but at most {largest} px are allowed: crop it")
    if kind:
        raise BadImage(kind, f"is {kind}")
    return pixels


def _kind(image, data):
    """Return the kind of an image that is not 8-bit RGB, or None."""
    # Pillow drops the lower byte of 16-bit RGB, so read the bit depth from the header.
    if image.format == "PNG" and data[24] == 16:
        return "16-bit"
    return "with alpha" if "transparency" in image.info else _KINDS.get(image.mode)


def faults_summary(faults):
    """Return how many images have which fault.

    Parameters
    ----------
    faults : dict of str to BadImage
        Fault of each image, by name.

    Returns
    -------
    str

    Examples
    --------
    >>> faults_summary({"a": BadImage("greyscale", ""), "b": BadImage("CMYK", ""), "c": BadImage("CMYK", "")})
    '2 CMYK, 1 greyscale'
    """
    counts = collections.Counter(fault.kind for fault in faults.values())
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def read_folder(path, *, skip_bad=False, quick=False):
    """Check a folder with one subfolder of PNG and JPEG files per class.

    Parameters
    ----------
    path : pathlib.Path
        The folder. `galaxynb.data.sources.class_number` says which names of subfolders mean which class.
    skip_bad : bool, optional
        Whether to leave out images that the study cannot use.
    quick : bool, optional
        Whether to check only the first image of each subfolder.

    Returns
    -------
    dict
        Arguments of `galaxynb.data.catalog.Catalog`. The images are sorted by class, then by file name. With `quick`
        and `skip_bad`, `image_shape` is None.

    Raises
    ------
    ValueError
        If there is no class folder, a folder whose name is no class, a folder in a class folder, or an image that the
        study cannot use.
    """
    folders = [entry for entry in shown_files(path) if entry.is_dir()]
    if not folders:
        raise ValueError(
            f"{path} has no subfolders and no parquet files, but one subfolder per class is needed: sort the images "
            f"into folders such as 'Barred Spiral' or 5"
        )
    classes = {}
    for folder in folders:
        try:
            classes[folder] = class_number(folder.name)
        except ValueError as error:
            inner = any(find_class(entry.name) is not None for entry in shown_files(folder))
            advice = f", or give {folder} alone" if inner else ""
            raise ValueError(f"a subfolder of {path} has an unknown name: {error}{advice}") from None
    files, labels, first = [], [], []
    for folder in sorted(folders, key=classes.get):
        found = shown_files(folder)
        # Leaving it out as one bad image would leave out all images in it, unseen.
        if inner := next((entry for entry in found if entry.is_dir()), None):
            raise ValueError(
                f"{inner} is a folder, but only images are needed in {folder}: move its images there, or remove it"
            )
        first += [len(files)] if found else []
        files += found
        labels += [classes[folder]] * len(found)
    # An image outside all class folders has no label. It is a fault, because the user should hear of it.
    loose = [entry for entry in shown_files(path) if entry.suffix.lower() in (".png", ".jpg", ".jpeg")]
    faults = {str(file): BadImage("outside all class folders", "is outside all class folders") for file in loose}

    def batches(rows, size):
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield part, [files[row] for row in part]

    return _opened(
        path,
        np.array(labels, np.uint8),
        list(map(str, files)),
        batches,
        faults=faults,
        skip_bad=skip_bad,
        sample=first if quick else None,
    ) | {"files": (*files, *loose)}


def read_parquet(path, *, skip_bad=False, quick=False):
    """Check parquet files with encoded images and labels, as Hugging Face serves them.

    Parameters
    ----------
    path : pathlib.Path
        One file, or a folder with several, which are read in the order of their names. They hold a column of PNG or
        JPEG images (bytes, or a struct with the field `bytes`) and a column of classes (numbers or names). Where the
        files name their classes, the names count. They may hold `ra`, `dec`, `redshift` and `pxscale`.
    skip_bad : bool, optional
        Whether to leave out images that the study cannot use.
    quick : bool, optional
        Whether to check only the first image.

    Returns
    -------
    dict
        Arguments of `galaxynb.data.catalog.Catalog`. The images are in the order of the files. With `quick` and
        `skip_bad`, `image_shape` is None.

    Raises
    ------
    ValueError
        If a file is damaged or has other columns, or if there is an image that the study cannot use.
    """
    labels, values, counts, batches, files = _open_parquet(path, labelled=True)
    names = [f"row {row} of {file}" for file, number in zip(files, counts, strict=True) for row in range(number)]
    return _opened(
        path, labels, names, batches, faults={}, skip_bad=skip_bad, sample=[0] if quick else None, columns=values
    ) | {"files": tuple(files)}


def open_parquet(path):
    """Open parquet files with encoded images, with or without labels, and check no image.

    Parameters
    ----------
    path : pathlib.Path
        As for `read_parquet`.

    Returns
    -------
    labels : ndarray of uint8, shape (N,), or None
        Classes 0 to 9. None if a file has no labels, or something else in their place.
    scales : ndarray of float64, shape (N,)
        Pixel scales in arcsec/px, NaN where unknown.
    batches : callable
        Takes sorted row numbers and the size of a batch. Yields row numbers, and the encoded images or their faults.
    files : list of pathlib.Path

    Raises
    ------
    ValueError
        If a file is damaged or has other columns.
    """
    labels, columns, _, batches, files = _open_parquet(path, labelled=False)
    return labels, columns["pxscale"], batches, files


def _open_parquet(path, *, labelled):
    """Return labels, further columns, the number of images in each file, a function of batches, and the files."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            f"{path} is parquet, but pyarrow is needed to read it: run `{install_command('pyarrow')}`"
        ) from error

    @contextlib.contextmanager
    def explained(file):
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{file} is damaged ({one_line(error)}), but an intact parquet file is needed: download it again"
            ) from error

    def opened(file):
        # A buffer instead of whole columns keeps the memory bounded whatever the size of a row group.
        return contextlib.closing(parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20))

    files, groups, labels, counts = parquet_files(path), [], [], []
    values = {name: [] for name in FLOAT_COLUMNS}
    for file in files:
        with explained(file), opened(file) as table:
            schema = table.schema_arrow
            image = _chosen(_IMAGE_COLUMNS, schema, file, "images")
            kind, columns = schema.field(image).type, [image]
            if pa.types.is_struct(kind) and any(field.name == "bytes" for field in kind):
                columns = [f"{image}.bytes", f"{image}.path"]
            elif not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
                raise ValueError(
                    f"'{image}' of {file} is {kind}, but encoded images are needed: store bytes, or a struct with bytes"
                )
            n_rows = table.metadata.num_rows
            with contextlib.nullcontext() if labelled else contextlib.suppress(ValueError):
                label = _chosen(_LABEL_COLUMNS, schema, file, "labels")
                labels.append(_parquet_labels(table.read([label]).column(0), _class_names(schema, label), label, file))
            for name, found in values.items():
                known = name in schema.names and _is_number(schema.field(name).type, pa)
                column = table.read([name]).column(0).cast("float64").to_numpy() if known else np.nan
                found.append(np.broadcast_to(column, n_rows))
            groups += [
                (file, group, columns, table.metadata.row_group(group).num_rows)
                for group in range(table.num_row_groups)
            ]
            counts.append(n_rows)

    def batches(rows, size):
        wanted = np.zeros(sum(counts), bool)
        wanted[rows] = True
        start = 0
        for file, group, columns, n_rows in groups:
            if wanted[start : start + n_rows].any():
                with explained(file), opened(file) as table:
                    at, last = start, np.flatnonzero(wanted)[-1]
                    for batch in table.iter_batches(min(size, _ROWS), row_groups=[group], columns=columns):
                        if at > last:
                            break
                        part = at + np.flatnonzero(wanted[at : at + len(batch)])
                        yield part, [_encoded(batch.column(0)[int(row - at)].as_py()) for row in part]
                        at += len(batch)
            start += n_rows

    joined = {name: np.concatenate(found) for name, found in values.items()}
    return np.concatenate(labels) if len(labels) == len(files) else None, joined, counts, batches, files


def _encoded(value):
    """Return the bytes of an image in a parquet file, or the fault if the file has none."""
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if data is not None:
        return data
    return BadImage("not in the file", f"is not in the file{f' (only its path {path} is)' if path else ''}")


def _is_number(kind, pa):
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _chosen(names, schema, file, what):
    """Return the first of some names that a parquet file has as a column."""
    found = [name for name in names if name in schema.names]
    if not found:
        raise ValueError(
            f"{file} has the columns {', '.join(schema.names)}, but one of {what} is needed: call it '{names[0]}'"
        )
    return found[0]


def _class_names(schema, column):
    """Return the names of the classes that Hugging Face stores with a column, or None."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return None


def _parquet_labels(column, names, label, file):
    """Return the classes of the rows of a parquet file, as uint8."""
    if column.null_count:
        raise ValueError(
            f"'{label}' of {file} is missing in {column.null_count:,} rows, but each image needs a class: add them"
        )
    values = np.array(column.to_pylist(), None if len(column) else int)
    try:
        if values.dtype.kind == "U":
            known, place = np.unique(values, return_inverse=True)
            return np.array([class_number(str(name)) for name in known], np.uint8)[place]
        if names and values.dtype.kind == "i" and (values >= 0).all():
            values = np.array([class_number(name) for name in names])[values]
    except (ValueError, IndexError) as error:
        raise ValueError(f"'{label}' of {file} has an unknown class: {error}") from None
    return check_labels(label, values, path=file)


def _opened(path, labels, names, batches, *, faults, skip_bad, sample, columns=None):
    """Check encoded images, and return arguments of `Catalog`.

    `batches` yields arrays of row numbers and lists of encoded images or their faults. `sample` holds the rows to
    check, None for all.
    """
    checked = np.arange(len(names)) if sample is None else np.array(sample, int)
    shapes = {}
    with ThreadPoolExecutor(cores()) as pool:
        for rows, sources in batches(checked, 64):
            for row, shape in zip(rows, pool.map(_shape_or_fault, sources), strict=True):
                shapes[int(row)] = shape
    usual = _usual_side(shape for shape in shapes.values() if not isinstance(shape, BadImage))
    if skip_bad and sample is not None:
        usual = None  # most of all images may have another size than most of the sample
    faulty = {row: fault for row, shape in shapes.items() if (fault := _fault(shape, usual)) is not None}
    faults = {names[row]: fault for row, fault in faulty.items()} | faults
    if faults and not skip_bad:
        name, fault = next(iter(faults.items()))
        raise ValueError(
            f"{name} {fault}, but square 8-bit RGB images of one size, {SMALLEST_PICTURE} px or more, in PNG or JPEG "
            f"are needed: correct it, or set `skip_bad: true` in the section data of the profile to leave out all such "
            f"images ({faults_summary(faults)}{' or more' if sample is not None else ''})"
        )
    if len(names) == len(faulty) and (sample is None or not names):
        left_out = f" ({faults_summary(faults)})" if faults else ""
        raise ValueError(f"{path} has no usable image{left_out}, but some are needed: add images")
    kept = np.array([row for row in range(len(names)) if row not in faulty], int)
    columns = columns or {name: np.full(len(names), np.nan) for name in FLOAT_COLUMNS}
    return {
        "labels": labels[kept],
        **{name: values[kept] for name, values in columns.items()},
        "image_shape": (usual, usual, 3) if usual else None,
        "left_out": faults,
        "blocks": functools.partial(_blocks, kept, names, batches, usual),
    }


def _blocks(kept, names, batches, side, _, wanted):
    """Yield row numbers and images of each batch of wanted rows, as `Catalog.blocks` does."""
    place = np.full(len(names), -1)
    place[kept] = np.arange(len(kept))

    def decode(row, source):
        try:
            return decode_image(source)
        except BadImage as fault:
            raise ValueError(f"{names[row]} {fault}, but it was sound when checked: run again") from fault

    with ThreadPoolExecutor(cores()) as pool:
        for rows, sources in batches(kept if wanted is None else kept[wanted], batch_rows((side, side, 3))):
            if len(rows):
                yield place[rows], np.stack(list(pool.map(decode, rows, sources)))


def _shape_or_fault(source):
    if isinstance(source, BadImage):
        return source
    try:
        return decode_image(source).shape
    except BadImage as fault:
        return fault


def _usual_side(shapes):
    """Return the most frequent side of the square images that are large enough. The larger side wins a tie."""
    sides = collections.Counter(h for h, w, _ in shapes if h == w and h >= SMALLEST_PICTURE)
    return max(sides, key=lambda side: (sides[side], side), default=None)


def _fault(shape, usual):
    """Return why the study cannot use an image of this shape, or None. `usual` is None if any size will do."""
    if isinstance(shape, BadImage):
        return shape
    height, width, _ = shape
    text = f"is {width} x {height} px"
    if height != width:
        return BadImage("not square", text)
    if height < SMALLEST_PICTURE:
        return BadImage("too small", text)
    if usual in (None, height):
        return None
    return BadImage("of another size", f"{text} where most are {usual} x {usual} px")
