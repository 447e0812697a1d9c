"""Shrink the images of a file once, and map the result from disk.

Later stages read the cache only: 8-bit cutouts at the study's size, labels, and the other columns of the file.
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
import pooch
from tqdm import tqdm

from galaxynb.data.catalog import load_catalog
from galaxynb.data.galaxy10 import FLOAT_COLUMNS, IMAGES, TRUTH
from galaxynb.files import explain_full_disk, one_line, write_json, written_aside

__all__ = [
    "Cache",
    "open_cache",
    "prepare_cache",
]


#: DenseNet121 halves an image five times: below 32 pixels nothing is left of it.
_SMALLEST = 32


@dataclass(frozen=True, eq=False, kw_only=True)
class Cache:
    """The study's images at the study's size, mapped from disk.

    Attributes
    ----------
    path : pathlib.Path
        The cache folder.
    images : (N, S, S, 3) uint8 numpy.memmap
        Read-only, in file order.
    truth : (N, S, S, 3) uint8 numpy.memmap or None
        The noise-free images of the same galaxies, where the file held them.
    labels : (N,) uint8 array
    info : dict
        The content of cache.json: kind, name and SHA256 of the source, sizes.
    """

    path: Path
    images: np.ndarray
    truth: np.ndarray | None
    labels: np.ndarray
    info: dict

    @property
    def kind(self):
        """Either "standin" or "real"."""
        return self.info["kind"]

    @property
    def image_size(self):
        """Height and width S of an image in pixels."""
        return self.info["image_size"]

    @property
    def columns(self):
        """Right ascension, declination, redshift and pixel scale: a DataFrame of N rows."""
        with np.load(self.path / "columns.npz") as columns:
            return pd.DataFrame(dict(columns))


def prepare_cache(path, out, *, image_size=128, progress=True):
    """Shrink the images of a file once and write them to a folder that later stages map.

    The file is read in order and in bounded memory. The folder holds images.npy, labels.npy,
    columns.npz, cache.json and, for a stand-in, truth.npy; it appears only when complete.

    Parameters
    ----------
    path : str or os.PathLike
        A file in the Galaxy10 DECaLS layout.
    out : str or os.PathLike
        The cache folder. An earlier cache there is replaced.
    image_size : int
        Height and width to shrink to (area averaging): from 32 to the images' own size.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Cache

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_catalog`; or if `image_size` is out of range; or if `out` holds something other
        than a cache.
    OSError
        If the disk is full.
    """
    out = Path(out)
    catalog = load_catalog(path)
    image_size = operator.index(image_size)
    source_size = catalog.image_shape[0]
    if not _SMALLEST <= image_size <= source_size:
        raise ValueError(
            f"image_size is {image_size}, but must lie between {_SMALLEST}, the least the classifier can "
            f"take, and {source_size}, the size of the images in {catalog.path}, since enlarging them "
            f"adds nothing"
        )
    if out.exists() and not (out.is_dir() and ((out / "cache.json").exists() or not any(out.iterdir()))):
        raise ValueError(f"{out} exists and is not a cache made earlier, so it is not replaced: name another folder")

    columns = {"images.npy": IMAGES}
    if catalog.has_truth:
        columns["truth.npy"] = TRUTH
    shape = (catalog.n_images, image_size, image_size, 3)
    with (
        # Beside the reading, since it takes about a tenth as long.
        ThreadPoolExecutor(1) as pool,
        explain_full_disk(out, math.prod(shape) * len(columns)),
        written_aside(out) as aside,
        tqdm(
            total=catalog.n_images * len(columns),
            desc=f"preparing {catalog.path.name}",
            unit="image",
            disable=not progress,
        ) as bar,
    ):
        aside.mkdir()
        digest = pool.submit(pooch.file_hash, str(catalog.path))
        for name, column in columns.items():
            _write_npy(aside / name, shape, _shrunk(catalog.batches(column), image_size, bar))
        _write_npy(aside / "labels.npy", catalog.labels.shape, [catalog.labels])
        np.savez(aside / "columns.npz", **{name: getattr(catalog, name) for name in FLOAT_COLUMNS})
        write_json(
            aside / "cache.json",
            {
                "has_truth": catalog.has_truth,
                "image_size": image_size,
                "kind": catalog.kind,
                "n_images": catalog.n_images,
                "sha256": digest.result(),
                # The name alone: a full path would carry the machine into the results.
                "source": catalog.path.name,
                "source_size": source_size,
                "standin": catalog.standin,
            },
        )
    return open_cache(out)


def open_cache(out):
    """Map a folder that `prepare` wrote.

    Parameters
    ----------
    out : str or os.PathLike

    Returns
    -------
    Cache

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If it is damaged.
    """
    out = Path(out)
    if not out.exists():
        raise FileNotFoundError(
            f"there are no prepared images in {out}: notebooks/01_data.ipynb makes them, as does `make book`"
        )
    try:
        info = _read_info(out)
        shape = (info["n_images"], info["image_size"], info["image_size"], 3)
        images = _map(out / "images.npy", shape)
        truth = _map(out / "truth.npy", shape) if info["has_truth"] else None
        labels = np.array(_map(out / "labels.npy", shape[:1]))
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(
            f"the prepared images in {out} are damaged ({one_line(error)}): delete the folder and run "
            f"notebooks/01_data.ipynb again"
        ) from error
    return Cache(path=out, images=images, truth=truth, labels=labels, info=info)


# --- shrinking and writing


def _shrunk(batches, image_size, bar):
    """Yield each batch shrunk, in memory that the next one uses again: fresh memory would pile up for a while."""
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
    """Write uint8 arrays one after the other as one .npy file.

    Plain writes, since the pages of a memory map would count as this process's memory; and not
    `tofile`, since its error on a full disk doesn't say that the disk is full.
    """
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file,
            {
                "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
                "fortran_order": False,
                "shape": shape,
            },
        )
        for array in arrays:
            file.write(np.ascontiguousarray(array, dtype=np.uint8).data)


def _read_info(out):
    info = json.loads((out / "cache.json").read_text(encoding="utf-8"))
    if info["kind"] not in ("real", "standin") or not (out / "columns.npz").is_file():
        raise ValueError("cache.json gives no kind, or columns.npz is missing")
    return info


def _map(path, shape):
    array = np.load(path, mmap_mode="r")
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(f"{path.name} is {array.dtype} of shape {array.shape}, expected uint8 of {shape}")
    return array
