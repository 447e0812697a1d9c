"""Shrink the images of a data source once to a folder, the cache, and memory-map them from there.

Later stages read only the cache. It holds 8-bit cutouts at the size of the study, the labels, and the other columns
of the source.
"""

import json
import math
import operator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from galaxynb.data.arrays import write_header
from galaxynb.data.catalog import Catalog, check_image_size, load_catalog
from galaxynb.data.galaxy10 import FLOAT_COLUMNS, IMAGES, TRUTH
from galaxynb.files import explain_full_disk, one_line, write_json, written_aside

__all__ = ["Cache", "open_cache", "prepare_cache"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Cache:
    """The images of the study at the size of the study, memory-mapped from disk.

    Attributes
    ----------
    path : pathlib.Path
        The cache folder.
    images : memmap of uint8, shape (N, S, S, 3)
        RGB cutouts, values 0 to 255, in the order of the source. Read-only.
    truth : memmap of uint8, shape (N, S, S, 3), or None
        Noise-free images of the same galaxies, if the source holds them. Read-only.
    labels : ndarray of uint8, shape (N,)
        Classes 0 to 9, in the order of the source.
    info : dict
        Content of cache.json: kind, name and SHA256 of the source, and image sizes.
    """

    path: Path
    images: np.ndarray
    truth: np.ndarray | None
    labels: np.ndarray
    info: dict

    @property
    def kind(self):
        """Kind of the source, "standin" or "real"."""
        return self.info["kind"]

    @property
    def image_size(self):
        """Height and width S of the images in pixels."""
        return self.info["image_size"]

    @property
    def columns(self):
        """DataFrame of N rows: ra, dec (degrees), redshift and pxscale (arcsec/px), NaN where unknown."""
        with np.load(self.path / "columns.npz") as columns:
            return pd.DataFrame(dict(columns))


def prepare_cache(path, out, *, image_size=128, progress=True):
    """Shrink the images of a data source and write them to a folder that later stages memory-map.

    This function reads the source in order and in bounded memory. The folder holds images.npy, labels.npy,
    columns.npz, cache.json and, for a stand-in, truth.npy. It appears under its name only when it is complete.

    Parameters
    ----------
    path : str, os.PathLike or galaxynb.data.catalog.Catalog
        A data source of any format that `load_catalog` reads, or its catalogue.
    out : str or os.PathLike
        The cache folder. An earlier cache there is replaced.
    image_size : int, optional
        Height and width of the shrunk images in pixels, from 32 to the size in the source. Pixels are averaged by
        area.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    Cache

    Raises
    ------
    FileNotFoundError, ValueError
        If `load_catalog` refuses the source.
    ValueError
        If `image_size` is out of range, or `out` holds something other than a cache.
    OSError
        If the disk is full.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from galaxynb.standin.make import make_standin
    >>> with TemporaryDirectory() as folder:
    ...     path = make_standin(f"{folder}/standin.h5", 10, image_size=64, workers=1, progress=False)
    ...     cache = prepare_cache(path, f"{folder}/cache", image_size=32, progress=False)
    >>> cache.kind, cache.labels.shape, cache.images.shape
    ('standin', (10,), (10, 32, 32, 3))
    """
    out = Path(out)
    catalog = path if isinstance(path, Catalog) else load_catalog(path)
    image_size = operator.index(image_size)
    check_image_size(image_size, catalog.image_shape[0], path=catalog.path)
    if out.exists() and not (out.is_dir() and ((out / "cache.json").exists() or not any(out.iterdir()))):
        raise ValueError(
            f"{out} holds other files, but a new folder or an earlier cache is needed: name another folder"
        )

    columns = {"images.npy": IMAGES}
    if catalog.has_truth:
        columns["truth.npy"] = TRUTH
    shape = (catalog.n_images, image_size, image_size, 3)
    with (
        # Hash the file in a separate thread: this takes about a tenth as long as shrinking the images.
        ThreadPoolExecutor(1) as pool,
        explain_full_disk(out, math.prod(shape) * len(columns)),
        written_aside(out) as temporary,
        tqdm(
            total=catalog.n_images * len(columns),
            desc=f"preparing {catalog.path.name}",
            unit="image",
            disable=not progress,
        ) as bar,
    ):
        temporary.mkdir()
        digest = pool.submit(catalog.digest)
        for name, column in columns.items():
            _write_npy(temporary / name, shape, _shrunk(catalog.batches(column), image_size, bar))
        _write_npy(temporary / "labels.npy", catalog.labels.shape, [catalog.labels])
        np.savez(temporary / "columns.npz", **{name: getattr(catalog, name) for name in FLOAT_COLUMNS})
        write_json(
            temporary / "cache.json",
            {
                "has_truth": catalog.has_truth,
                "image_size": image_size,
                "kind": catalog.kind,
                "left_out": len(catalog.left_out),
                "n_images": catalog.n_images,
                "sha256": digest.result(),
                # Record only the name: a full path would put a path of this machine into the results.
                "source": catalog.path.name or catalog.path.resolve().name,
                "source_size": catalog.image_shape[0],
                "standin": catalog.standin,
            },
        )
    return open_cache(out)


def open_cache(out):
    """Memory-map a folder that `prepare_cache` wrote.

    Parameters
    ----------
    out : str or os.PathLike
        The cache folder.

    Returns
    -------
    Cache

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If the folder is damaged.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from galaxynb.standin.make import make_standin
    >>> with TemporaryDirectory() as folder:
    ...     path = make_standin(f"{folder}/standin.h5", 10, image_size=32, workers=1, progress=False)
    ...     prepared = prepare_cache(path, f"{folder}/cache", image_size=32, progress=False)
    ...     opened = open_cache(f"{folder}/cache")
    >>> bool((opened.labels == prepared.labels).all())
    True
    """
    out = Path(out)
    if not out.exists():
        raise FileNotFoundError(
            f"{out} is missing, but the prepared images in it are needed: run notebooks/01_data.ipynb or `make book`"
        )
    try:
        info = _read_info(out)
        shape = (info["n_images"], info["image_size"], info["image_size"], 3)
        images = _map(out / "images.npy", shape)
        truth = _map(out / "truth.npy", shape) if info["has_truth"] else None
        labels = np.array(_map(out / "labels.npy", shape[:1]))
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(
            f"the cache {out} is damaged ({one_line(error)}), but intact images are needed: delete the folder and run "
            f"notebooks/01_data.ipynb again"
        ) from error
    return Cache(path=out, images=images, truth=truth, labels=labels, info=info)


def _shrunk(batches, image_size, bar):
    """Yield the shrunk images of each batch. All batches share one buffer, which limits the peak memory."""
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
    """Write a sequence of uint8 arrays to one .npy file.

    Two simpler ways have faults. The pages of a memory map would count as memory of this process. The error of
    `ndarray.tofile` on a full disk does not say that the disk is full.
    """
    with path.open("wb") as file:
        write_header(file, shape)
        for array in arrays:
            file.write(np.ascontiguousarray(array, dtype=np.uint8).data)


def _read_info(out):
    info = json.loads((out / "cache.json").read_text(encoding="utf-8"))
    if info["kind"] not in ("real", "standin") or not (out / "columns.npz").is_file():
        raise ValueError("cache.json names no known kind of images, or columns.npz is missing")
    return info


def _map(path, shape):
    array = np.load(path, mmap_mode="r")
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(f"{path.name} is {array.dtype} of shape {array.shape}, but uint8 of shape {shape} is needed")
    return array
