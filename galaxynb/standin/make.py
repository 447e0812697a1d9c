"""Write a synthetic stand-in for Galaxy10 DECaLS: the same layout, ten morphologies, made in minutes.

The stand-in lets the whole study run without the 2.5 GB file. It also holds what no real file has: the noise-free
images of the same galaxies. A number measured on a stand-in says nothing about the sky beyond what
`galaxynb.standin.closeness` measures.
"""

import collections
import concurrent.futures
import contextlib
import io
import math
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from galaxynb import __version__
from galaxynb.compute import cores
from galaxynb.data.galaxy10 import CLASS_COUNTS, CLASS_NAMES, FLOAT_COLUMNS, IMAGES, LABELS, STANDIN_ATTRIBUTE, TRUTH
from galaxynb.files import written_aside
from galaxynb.standin.field import BASE, draw_cutout
from galaxynb.standin.ranges import NEIGHBOURS, TWINS

__all__ = [
    "counts_per_class",
    "make_standin",
]


_CHUNK = 16  # images a task


def counts_per_class(n_images):
    """Images a class, in the real proportions, every class present.

    Parameters
    ----------
    n_images : int
        At least 10.

    Returns
    -------
    numpy.ndarray, shape (10,), int64
        Sums to `n_images`; `CLASS_COUNTS` for 17,736.

    Raises
    ------
    ValueError
        If `n_images` is under 10.
    """
    classes = len(CLASS_COUNTS)
    if n_images < classes:
        raise ValueError(f"n_images is {n_images}: give at least {classes}, one image a class")
    real = np.array(CLASS_COUNTS, np.int64)
    share, rest = np.divmod(real * n_images, real.sum())
    # Largest remainder; ties go to the lower label.
    share[np.argsort(-rest, kind="stable")[: n_images - share.sum()]] += 1
    for empty in np.flatnonzero(share == 0):
        share[share.argmax()] -= 1
        share[empty] = 1
    return share


def make_standin(path, n_images, *, image_size=256, seed=0, workers=None, progress=True):
    """Write a stand-in in the Galaxy10 DECaLS layout.

    What is drawn depends on `seed`, `n_images` and the row alone, so a file's content is the same whatever
    `workers`, and however often writing it was interrupted. As in the published catalogue, a few galaxies stand
    in it twice, some of them under two labels (`galaxynb.standin.ranges.TWINS` and `NEIGHBOURS`).

    Parameters
    ----------
    path : str or os.PathLike
        The HDF5 file to write. Its folder is created; an earlier file is replaced on success.
    n_images : int
        At least 10, so that every class is present; 17,736 gives the real class counts.
    image_size : int
        Side of the images in pixels, at least 32. The field of view stays that of 256 px, and
        the column `pxscale` that of the 256-px frame.
    seed : int
        Not negative.
    workers : int, optional
        Processes that render; 1 renders in this process. All available cores by default. They
        are spawned, so a script must call this under ``if __name__ == "__main__":``.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    pathlib.Path
        `path`. Besides the published columns the file holds `truth`: `images` without sky noise, trails and
        chip edges.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not an integer, or out of its range.
    RuntimeError
        If a worker process dies.
    OSError
        If the file can't be written.
    """
    given = {"n_images": n_images, "image_size": image_size, "seed": seed, "workers": workers}
    for name, value in given.items():
        if not isinstance(value, (int, np.integer)) and not (name == "workers" and value is None):
            raise TypeError(f"{name} is {value!r}: give an integer")
    counts = counts_per_class(n_images)
    if image_size < 32:
        raise ValueError(f"image_size is {image_size}: give at least 32 pixels")
    if seed < 0:
        raise ValueError(f"seed is {seed}: give an integer of at least 0")
    if workers is None:
        # A process takes about as long to start as 64 images to render.
        workers = min(cores(), math.ceil(n_images / 64))
    elif workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1, or None for all cores")
    path = Path(path)
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    try:
        with written_aside(path) as aside:
            _write(aside, labels, int(image_size), int(seed), workers, progress)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"can't write {path} ({reason}): free some space or choose another path") from error
    return path


def _write(path, labels, size, seed, workers, progress):
    import h5py
    from tqdm import tqdm

    rows = _rows(labels, seed)
    tasks = [(seed, rows[start : start + _CHUNK], size) for start in range(0, len(rows), _CHUNK)]
    columns = np.empty((len(labels), len(FLOAT_COLUMNS)))
    with (
        _Disk(path, "w+") as disk,
        h5py.File(disk, "w") as out,
        contextlib.closing(_rendered(tasks, min(workers, len(tasks)))) as blocks,
        tqdm(total=len(labels), disable=not progress, unit="image", desc="stand-in") as bar,
    ):
        out.attrs[STANDIN_ATTRIBUTE] = f"galaxynb {__version__}, seed {seed}"
        out[LABELS] = labels
        for name in (IMAGES, TRUTH):
            # One image a chunk: it can be read in any order. lzf keeps up with the rendering.
            shape = (len(labels), size, size, 3)
            out.create_dataset(name, shape, np.uint8, chunks=(1, *shape[1:]), compression="lzf")
        for start, (images, truth, values) in zip(range(0, len(rows), _CHUNK), blocks, strict=True):
            part = slice(start, start + len(images))
            out[IMAGES][part] = images
            out[TRUTH][part] = truth
            columns[part] = values
            disk.check()
            bar.update(len(images))
        for name, column in zip(FLOAT_COLUMNS, columns.T, strict=True):
            out[name] = column
    disk.check()  # closing writes too


class _Disk(io.FileIO):
    """A file that keeps the first failure to write for `check`, and takes no more from then on.

    HDF5 can't close a file on a full disk: it may end the whole process later.
    """

    _failure = None

    def write(self, data):
        rest = memoryview(data).cast("B")
        try:
            while self._failure is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._failure = error
        return len(data)

    def truncate(self, size=None):
        if self._failure is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self._failure = error
        return size

    def check(self):
        """Raise the first failure."""
        if self._failure is not None:
            raise self._failure


def _rendered(tasks, workers):
    """Yield the rendered tasks in order, with at most a few of them in memory."""
    if workers == 1:
        for task in tasks:
            yield _render_block(*task)
        return
    # "spawn", because the parent may hold threads (TensorFlow's, a notebook's) that a fork would break.
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    waiting = collections.deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(_render_block, *task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        raise RuntimeError(
            "a worker process of make_standin died: nothing was written; run it again with fewer workers if "
            "memory was short, and call it under `if __name__ == '__main__':` from a script"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker():
    cv2.setNumThreads(1)
    # An interrupted notebook interrupts its children too: the parent alone ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A pool's processes outlive a killed parent unless they watch it.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


class _Row(NamedTuple):
    """What an image is drawn from: its own index and label, or another row's that it repeats."""

    index: int
    label: int
    #: Shift of what is seen: arcsec to the right and down.
    dx: float = 0.0
    dy: float = 0.0


def _rows(labels, seed):
    """Say what each row is drawn from: mostly itself, and at the published catalogue's rate another row."""
    rows = [_Row(index, int(label)) for index, label in enumerate(labels)]
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(0, 1))))
    free = {label: list(rng.permutation(np.flatnonzero(labels == label))) for label in range(len(CLASS_NAMES))}
    share = len(labels) / sum(CLASS_COUNTS)
    for table, reach in ((TWINS, (0, 0)), (NEIGHBOURS, (2, 10))):
        pairs, counts = zip(*table.items(), strict=True)
        for k in rng.choice(len(pairs), round(sum(counts) * share), p=np.array(counts) / sum(counts)):
            # Which of the two labels the galaxy was drawn for is as good as the other.
            first, second = rng.permutation(pairs[k])
            original, copy = int(free[first].pop()), int(free[second].pop())
            distance, way = rng.uniform(*reach), rng.uniform(0, 2 * math.pi)
            rows[copy] = _Row(original, int(first), distance * math.cos(way), distance * math.sin(way))
    return rows


def _render_block(seed, rows, size):
    images = np.empty((len(rows), size, size, 3), np.uint8)
    truth = np.empty_like(images)
    values = np.empty((len(rows), len(FLOAT_COLUMNS)))
    for k, row in enumerate(rows):
        images[k], truth[k], values[k] = _render(seed, row, size)
    return images, truth, values


def _render(seed, row, size):
    """One cutout: image and truth, (S, S, 3) uint8, and its float columns."""
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(row.index,))))
    image, truth, galaxies, pixel_scale = draw_cutout(rng, row.label, size=size)
    ra, dec = _position(rng)
    # A Hubble flow: the galaxy's size in kpc over its size on the sky.
    redshift = min(max(5.5 * math.exp(0.4 * rng.standard_normal()) / (20.76 * galaxies[0].radius), 0.002), 0.3)
    if row.dx or row.dy:
        pixel = pixel_scale * BASE / size
        move = np.array([[1, 0, round(row.dx / pixel)], [0, 1, round(row.dy / pixel)]], np.float32)
        image, truth = (
            cv2.warpAffine(part, move, (size, size), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            for part in (image, truth)
        )
        # North is up and east is left: what moves right is seen from further east.
        ra = (ra + row.dx / 3600 / math.cos(math.radians(dec))) % 360
        dec += row.dy / 3600
    return image, truth, (ra, dec, redshift, pixel_scale)


def _position(rng):
    """RA and Dec, degrees, in the survey's two parts north and south of the Milky Way, nine in ten in the north."""
    north = rng.random() < 0.9
    while True:
        ra = rng.uniform(100, 275) if north else rng.uniform(-58, 58) % 360
        low, high = (-5, 68) if north else (-18, 33)
        dec = math.degrees(math.asin(rng.uniform(math.sin(math.radians(low)), math.sin(math.radians(high)))))
        # Galactic latitude, from the pole at 192.86, +27.13.
        pole = math.radians(27.13)
        sine = math.sin(math.radians(dec)) * math.sin(pole) + math.cos(math.radians(dec)) * math.cos(pole) * math.cos(
            math.radians(ra - 192.86)
        )
        if abs(sine) > math.sin(math.radians(30)):
            return ra, dec
