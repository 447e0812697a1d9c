"""Read a file in the Galaxy10 DECaLS layout, and name the fault of a file that cannot be read.

HDF5 reads zeros where chunks were never written, and where a virtual dataset or external storage lacks its parts. So
this module looks for chunks and parts first.
"""

import contextlib
import functools
import math
from pathlib import Path

import h5py
import numpy as np

from galaxynb.data.galaxy10 import FLOAT_COLUMNS, IMAGES, LABELS, STANDIN_ATTRIBUTE, TRUTH
from galaxynb.data.sources import batch_rows, check_images, check_labels, install_command
from galaxynb.files import one_line

__all__ = ["open_hdf5", "read_hdf5"]


#: Names of filters that h5py lacks but the package hdf5plugin has.
_FILTERS = {307: "bzip2", 32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle", 32013: "ZFP", 32015: "Zstandard"}
_FILTERS |= {32017: "SZ", 32018: "FCIDECOMP", 32019: "JPEG", 32024: "SZ3", 32026: "Blosc2", 32028: "SPERR"}


def read_hdf5(path, *, labelled=True):
    """Check a file in the Galaxy10 DECaLS layout.

    Parameters
    ----------
    path : pathlib.Path
        An HDF5 file that holds `images` (uint8, shape (N, H, H, 3)), `ans` (integers 0 to 9, shape (N,)), and `ra`,
        `dec`, `redshift` and `pxscale` (numbers, shape (N,)). It may hold `truth`, of the type and shape of `images`.
    labelled : bool, optional
        Whether all columns are needed. Otherwise only `images` is. Columns that are missing or hold something else
        are then None, labels are as the file has them, and ``images`` is their number.

    Returns
    -------
    dict
        Arguments of `galaxynb.data.catalog.Catalog`.

    Raises
    ------
    ValueError
        If the file is truncated, damaged, incomplete or of another layout.
    """
    with open_hdf5(path) as file:
        parts = [path]
        columns = {name: _dataset(file, name, parts) for name in (IMAGES, LABELS, *FLOAT_COLUMNS, TRUTH)}
        truth = columns.pop(TRUTH)
        needed = columns if labelled else (IMAGES,)
        if missing := [name for name in needed if columns[name] is None]:
            raise ValueError(
                f"{path} lacks {', '.join(missing)}, but a file in the Galaxy10 DECaLS layout is needed: give one "
                f"(this file holds {', '.join(map(str, file)) or 'nothing'})"
            )
        images, labels = columns.pop(IMAGES), columns.pop(LABELS)
        check_images(IMAGES, images.shape, images.dtype, path=path)
        if truth is not None and (truth.shape, truth.dtype) != (images.shape, images.dtype):
            raise ValueError(
                f"'{TRUTH}' of {path} is {truth.dtype} of shape {truth.shape}, but {images.dtype} of shape "
                f"{images.shape} is needed: make it like '{IMAGES}'"
            )
        if labelled:
            opened = {
                "labels": check_labels(LABELS, _column(labels, len(images), path, LABELS), path=path),
                **{name: _numbers(dataset, len(images), path, name) for name, dataset in columns.items()},
            }
        else:
            opened = {"labels": _if_possible(_column, labels, len(images), path, LABELS)}
            opened |= {name: _if_possible(_numbers, one, len(images), path, name) for name, one in columns.items()}
        for name, dataset in {IMAGES: images, TRUTH: truth}.items():
            # Read one pixel of the first and of the last image: a whole image would decompress chunks of hundreds of
            # images.
            for end in (0, -1) if dataset is not None else ():
                _read(dataset, (end, end, end, end), path, name)
        standin = file.attrs.get(STANDIN_ATTRIBUTE)
        return opened | {
            "image_shape": images.shape[1:],
            **({} if labelled else {"images": len(images)}),
            "has_truth": truth is not None,
            "standin": None if standin is None else str(standin),
            "files": tuple(parts),
            "blocks": functools.partial(_blocks, path),
        }


@contextlib.contextmanager
def open_hdf5(path):
    """Open an HDF5 file for reading, without a lock. Raise an error of one sentence if it cannot be opened.

    Many network file systems have no locks, and HDF5 refuses to open a file that it cannot lock. Where locks work,
    this function refuses a file that another program is writing.

    Parameters
    ----------
    path : pathlib.Path

    Yields
    ------
    h5py.File

    Raises
    ------
    ValueError
        If the file is being written, truncated or damaged.
    """
    _refuse_if_written(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:  # h5py raises all three for damaged files
        fault = "truncated" if "truncated" in str(error) else "damaged"
        raise ValueError(
            f"{path} is {fault} ({one_line(error)}), but an intact file is needed: download or make it again"
        ) from error


def _refuse_if_written(path):
    """Raise ValueError if another program holds the lock that HDF5 takes while it writes."""
    try:
        import fcntl
    except ImportError:
        return  # on Windows, opening the file fails
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{path} is being written by another program, but a complete file is needed: wait until it has finished"
            ) from error
        except OSError:
            pass  # a disk without locks


def _dataset(file, name, parts):
    """Return a dataset, or None if the file has no values of this name. Check that all of its content can be read.

    `parts` is a list, to which this function adds the other files that hold content of the dataset.
    """
    path = Path(file.filename)
    link = file.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        other = _part(path, link.filename, f"'{name}' of {path} is a link to '{link.path}' of", parts)
        with open_hdf5(other) as target:
            if target.get(link.path) is None:
                raise ValueError(
                    f"'{name}' of {path} is a link to '{link.path}' of {other}, but that file has no such dataset: "
                    f"give the file that has it"
                )
            _dataset(target, link.path, parts)
    elif isinstance(link, h5py.SoftLink) and file.get(name) is None:
        raise ValueError(
            f"'{name}' of {path} is a link to '{link.path}', but the file has no such dataset: store the dataset itself"
        )
    if not isinstance(file.get(name), h5py.Dataset) or file[name].shape is None:
        return None
    # Without this prefix, HDF5 looks for external storage in the working directory.
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_efile_prefix(str(path.parent.absolute()).encode())
    dataset = h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))
    _check_filters(dataset, path, name)
    _check_written(dataset, path, name)
    _check_external(dataset, path, name, parts)
    if dataset.is_virtual:
        _check_virtual(dataset, path, name, parts)
    return dataset


def _part(path, name, subject, parts, *, moved=True):
    """Return the path of another file that an HDF5 file refers to, and add it to `parts`.

    With `moved`, a file with an absolute name may also lie beside the HDF5 file, as HDF5 allows for all but
    external storage.
    """
    found = path.parent / name  # an absolute name stays as it is
    if moved and Path(name).is_absolute() and not found.is_file():
        found = path.parent / Path(name).name
    if not found.is_file():
        raise ValueError(f"{subject} {name}, but that file is missing: put it beside {path.name}")
    if found not in parts:
        parts.append(found)
    return found


def _check_filters(dataset, path, name):
    """Raise ValueError if a filter that compressed a dataset is missing."""
    created = dataset.id.get_create_plist()
    for number in range(created.get_nfilters()):
        code, _, _, title = created.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            with contextlib.suppress(ImportError):
                import hdf5plugin  # noqa: F401 -- importing it adds its filters to h5py
        if not h5py.h5z.filter_avail(code):
            known = _FILTERS.get(code) or title.decode(errors="replace") or "unknown"
            raise ValueError(
                f"'{name}' of {path} is compressed by the HDF5 filter {code} ({known}), but h5py does not have it: run "
                f"`{install_command('hdf5plugin')}`, or convert the file with `h5repack -f GZIP=4`"
            )


def _check_written(dataset, path, name):
    """Raise ValueError if chunks of a dataset, or all of its values, were never written."""
    if dataset.is_virtual or dataset.external or not dataset.size:
        return
    if dataset.chunks:
        found, unit = dataset.id.get_num_chunks(), "chunks"
        needed = math.prod(-(-n // chunk) for n, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    else:
        found, unit, needed = dataset.id.get_storage_size(), "bytes", dataset.nbytes
    if found < needed:
        raise ValueError(
            f"'{name}' of {path} was not written to its end ({found:,} of {needed:,} {unit}), but all of it is needed: "
            f"download or make the file again"
        )


def _check_external(dataset, path, name, parts):
    """Raise ValueError if a file in which a dataset keeps its values is missing or too short."""
    left = dataset.nbytes
    for part, offset, size in dataset.external or ():
        found = _part(path, part, f"'{name}' of {path} keeps its values in", parts, moved=False)
        size = min(size, left)  # the last part may have no limit
        left -= size
        needed = offset + size
        if found.stat().st_size < needed:
            raise ValueError(
                f"{found} has {found.stat().st_size:,} bytes, but '{name}' of {path} needs {needed:,}: copy it again"
            )


def _check_virtual(dataset, path, name, parts):
    """Raise ValueError if a part of a virtual dataset is missing. HDF5 reads zeros in its place."""
    selection = h5py.h5s.create_simple(dataset.shape)
    selection.select_none()
    for mapped in dataset.virtual_sources():
        _extend(selection, mapped.vspace)
        subject = f"'{name}' of {path} is a virtual dataset with a part in"
        if mapped.file_name == ".":
            _check_mapped(dataset.file, mapped, f"{subject} the file itself", parts)
            continue
        part = _part(path, mapped.file_name, subject, parts)
        with open_hdf5(part) as file:
            _check_mapped(file, mapped, f"{subject} {part}", parts)
    covered = selection.get_select_npoints()
    if covered < dataset.size:
        raise ValueError(
            f"'{name}' of {path} is a virtual dataset with parts for {covered:,} of {dataset.size:,} values, but all "
            f"are needed: add the missing parts"
        )


def _extend(selection, part):
    """Add a part of a virtual dataset to a selection, with which it may overlap."""
    ones = (1,) * len(part.shape)
    if part.get_select_type() == h5py.h5s.SEL_ALL:
        slabs = [((0,) * len(part.shape), ones, ones, part.shape)]
    elif part.is_regular_hyperslab():
        slabs = [part.get_regular_hyperslab()]
    else:
        slabs = [(first, ones, ones, last - first + 1) for first, last in part.get_select_hyper_blocklist()]
    for start, stride, count, block in slabs:
        selection.select_hyperslab(tuple(start), count, stride, tuple(block), op=h5py.h5s.SELECT_OR)


def _check_mapped(file, mapped, subject, parts):
    """Raise ValueError if the source of a part of a virtual dataset lacks values."""
    source = _dataset(file, mapped.dset_name, parts)
    whole = mapped.src_space.get_select_type() == h5py.h5s.SEL_ALL
    needed = mapped.vspace.shape if whole else np.add(mapped.src_space.get_select_bounds()[1], 1)
    enough = source is not None and (
        source.size >= mapped.vspace.get_select_npoints() if whole else (np.array(source.shape) >= needed).all()
    )
    if not enough:
        raise ValueError(
            f"{subject}, but '{mapped.dset_name}' there is missing or too short: give the file with all of it"
        )


def _column(dataset, n_images, path, name):
    """Read a column that holds one value per image."""
    if dataset.ndim != 1:
        raise ValueError(
            f"'{name}' of {path} has shape {dataset.shape}, but ({n_images},) is needed: store one value per image"
        )
    if len(dataset) != n_images:
        raise ValueError(
            f"'{name}' of {path} has {len(dataset)} rows, but {n_images}, the length of '{IMAGES}', is needed: store "
            f"one value per image"
        )
    return _read(dataset, slice(None), path, name)


def _numbers(dataset, n_images, path, name):
    if dataset.dtype.kind not in "fiu":
        raise ValueError(f"'{name}' of {path} is {dataset.dtype}, but numbers are needed: store floats or integers")
    return _column(dataset, n_images, path, name).astype(np.float64)


def _if_possible(read, dataset, *arguments):
    """Return the values of a column, or None if it is missing or cannot be used."""
    if dataset is None:
        return None
    try:
        return read(dataset, *arguments)
    except ValueError:
        return None


def _read(dataset, rows, path, name):
    try:
        return dataset[rows]
    except OSError as error:
        if isinstance(rows, tuple):
            place = f" in row {rows[0] % len(dataset)}"
        else:
            place = "" if rows.start is None else f" in rows {rows.start} to {rows.stop - 1}"
        raise ValueError(
            f"'{name}' of {path} is damaged{place} ({one_line(error)}), but an intact file is needed: download or make "
            f"it again"
        ) from error


def _blocks(path, column, wanted):
    """Yield row numbers and images of each batch with a wanted row, as `Catalog.blocks` does."""
    with open_hdf5(path) as file:
        dataset = _dataset(file, column, [])
        step = batch_rows(dataset.shape[1:], chunk=dataset.chunks[0] if dataset.chunks else 1)
        starts = range(0, len(dataset), step) if wanted is None else np.unique(wanted // step) * step
        for start in map(int, starts):
            stop = min(start + step, len(dataset))
            # Yield without naming the images: a name would keep them in memory while the next ones are read.
            yield np.arange(start, stop), _read(dataset, slice(start, stop), path, column)
