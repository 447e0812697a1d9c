"""Write a synthetic stand-in for Galaxy10 DECaLS: a file in the same layout, with the same ten classes.

The stand-in takes minutes to make and lets the whole study run without the 2.5 GB file. It also holds noise-free
images of the same galaxies, which no real file has. A number measured on a stand-in says nothing about real galaxies
beyond the closeness that `galaxynb.standin.closeness` measures.
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
from galaxynb.images import SMALLEST_SIDE
from galaxynb.standin.field import BASE, draw_cutout, random_stream
from galaxynb.standin.ranges import NEIGHBOURS, TWINS

__all__ = ["counts_per_class", "make_standin"]


_CHUNK = 16  # images per task of a worker


def counts_per_class(n_images):
    """Return the number of images per class, in the proportions of the published file.

    Parameters
    ----------
    n_images : int
        Number of all images, at least 10.

    Returns
    -------
    ndarray of int64, shape (10,)
        Counts of at least 1 that sum to `n_images`. For 17,736 they are `CLASS_COUNTS`.

    Raises
    ------
    ValueError
        If `n_images` is under 10.
    """
    classes = len(CLASS_COUNTS)
    if n_images < classes:
        raise ValueError(f"n_images is {n_images}, but at least {classes} is needed: give one image per class or more")
    real = np.array(CLASS_COUNTS, np.int64)
    share, rest = np.divmod(real * n_images, real.sum())
    # The largest remainder method. Ties go to the lower label.
    share[np.argsort(-rest, kind="stable")[: n_images - share.sum()]] += 1
    for empty in np.flatnonzero(share == 0):
        share[share.argmax()] -= 1
        share[empty] = 1
    return share


def make_standin(path, n_images, *, image_size=256, seed=0, workers=None, progress=True):
    """Write a stand-in in the Galaxy10 DECaLS layout.

    Each image depends only on `seed`, `n_images`, `image_size` and its row. The number of workers and earlier
    interruptions change no byte of the file. As in the published catalogue, a few galaxies appear twice, some of them
    under two labels (`galaxynb.standin.ranges.TWINS` and `NEIGHBOURS`).

    Parameters
    ----------
    path : str or os.PathLike
        The HDF5 file to write. Its folder is created if it is missing. An earlier file is replaced on success.
    n_images : int
        Number of images, at least 10. 17,736 gives the class counts of the published file.
    image_size : int, optional
        Side of the images in pixels, at least 32. The field of view stays that of 256 px, and the column `pxscale`
        holds the pixel scale of the 256-px frame.
    seed : int, optional
        Seed of the stand-in, not negative.
    workers : int, optional
        Number of processes that draw images; 1 draws them in this process. The default is all available cores, or
        fewer for small files. The processes are spawned, so a script must call this function under
        ``if __name__ == "__main__":``.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    pathlib.Path
        `path`. Besides the columns of the published file, the file holds `truth`: the images without sky noise,
        satellite trails, chip edges and JPEG.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is out of range.
    RuntimeError
        If a worker process dies.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = make_standin(f"{folder}/standin.h5", 10, image_size=32, workers=1, progress=False)
    ...     path.name, path.stat().st_size > 0
    ('standin.h5', True)
    """
    given = {"n_images": n_images, "image_size": image_size, "seed": seed, "workers": workers}
    for name, value in given.items():
        if not isinstance(value, (int, np.integer)) and not (name == "workers" and value is None):
            raise TypeError(f"{name} is {value!r}, but an integer is needed: give one")
    counts = counts_per_class(n_images)
    if image_size < SMALLEST_SIDE:
        raise ValueError(
            f"image_size is {image_size}, but at least {SMALLEST_SIDE} is needed: give the side of the images in pixels"
        )
    if seed < 0:
        raise ValueError(f"seed is {seed}, but an integer of at least 0 is needed: give one")
    if workers is None:
        # Starting a process takes about as long as drawing 64 images.
        workers = min(cores(), math.ceil(n_images / 64))
    elif workers < 1:
        raise ValueError(
            f"workers is {workers}, but at least 1 is needed: give a number of processes, or None for all cores"
        )
    path = Path(path)
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    try:
        with written_aside(path) as temporary:
            _write(temporary, labels, int(image_size), int(seed), workers, progress)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"{path} is not written ({reason}), but a writable path with free space is needed: free some space or "
            f"choose another path"
        ) from error
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
            # One image per chunk lets readers take images in any order. gzip, unlike lzf, always compresses an image to
            # the same bytes, so the checksum of a stand-in that is made again stays the same.
            shape = (len(labels), size, size, 3)
            out.create_dataset(name, shape, np.uint8, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1)
        for start, (images, truth, values) in zip(range(0, len(rows), _CHUNK), blocks, strict=True):
            part = slice(start, start + len(images))
            out[IMAGES][part] = images
            out[TRUTH][part] = truth
            columns[part] = values
            disk.check()
            bar.update(len(images))
        for name, column in zip(FLOAT_COLUMNS, columns.T, strict=True):
            out[name] = column
    disk.check()  # closing the file also writes


class _Disk(io.FileIO):
    """A file that stops writing at the first error and keeps that error for `check`.

    HDF5 must not see the error: it cannot close a file on a full disk, and may later end the whole process.
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
        """Raise the first error, if there was one."""
        if self._failure is not None:
            raise self._failure


def _rendered(tasks, workers):
    """Yield the images of each task in order, with the results of at most a few tasks in memory."""
    if workers == 1:
        for task in tasks:
            yield _render_block(*task)
        return
    # Spawn processes: a fork breaks if the parent has threads, as TensorFlow and notebooks do.
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
            "a worker process of make_standin is dead, but all are needed: run it again, with fewer workers if memory "
            "was short, and in a script under `if __name__ == '__main__':`"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker():
    cv2.setNumThreads(1)
    # Interrupting a notebook sends SIGINT to its children too. Ignore it here: the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The processes of a pool outlive a killed parent unless they watch it.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


class _Row(NamedTuple):
    """Index and label that an image is drawn from: those of its own row, or of the row that it repeats."""

    index: int
    label: int
    #: Shift of the image to the right and down, arcsec.
    dx: float = 0.0
    dy: float = 0.0


def _rows(labels, seed):
    """Return the source of each row: the row itself, or another row as often as in the published catalogue."""
    rows = [_Row(index, int(label)) for index, label in enumerate(labels)]
    rng = random_stream(seed, 0, 1)
    free = {label: list(rng.permutation(np.flatnonzero(labels == label))) for label in range(len(CLASS_NAMES))}
    share = len(labels) / sum(CLASS_COUNTS)
    for table, reach in ((TWINS, (0, 0)), (NEIGHBOURS, (2, 10))):
        pairs, counts = zip(*table.items(), strict=True)
        for k in rng.choice(len(pairs), round(sum(counts) * share), p=np.array(counts) / sum(counts)):
            # Draw the galaxy for either of the two labels, with equal probability.
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
    """Return image and truth of a row, both uint8 of shape (S, S, 3), and its values of the float columns."""
    rng = random_stream(seed, row.index)
    image, truth, galaxies, pixel_scale = draw_cutout(rng, row.label, size=size)
    ra, dec = _position(rng)
    # Hubble's law gives the redshift at which a galaxy of a random size in kpc has this size on the sky.
    redshift = min(max(5.5 * math.exp(0.4 * rng.standard_normal()) / (20.76 * galaxies[0].radius), 0.002), 0.3)
    if row.dx or row.dy:
        pixel = pixel_scale * BASE / size
        move = np.array([[1, 0, round(row.dx / pixel)], [0, 1, round(row.dy / pixel)]], np.float32)
        image, truth = (
            cv2.warpAffine(part, move, (size, size), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            for part in (image, truth)
        )
        # North is up and east is left. A galaxy shifted to the right lies in a frame centred further east.
        ra = (ra + row.dx / 3600 / math.cos(math.radians(dec))) % 360
        dec += row.dy / 3600
    return image, truth, (ra, dec, redshift, pixel_scale)


def _position(rng):
    """Draw RA and Dec, degrees, in the two parts of the survey: 90% north and 10% south of the Milky Way."""
    north = rng.random() < 0.9
    while True:
        ra = rng.uniform(100, 275) if north else rng.uniform(-58, 58) % 360
        low, high = (-5, 68) if north else (-18, 33)
        dec = math.degrees(math.asin(rng.uniform(math.sin(math.radians(low)), math.sin(math.radians(high)))))
        # The sine of the galactic latitude. The galactic pole is at RA 192.86, Dec +27.13.
        pole = math.radians(27.13)
        sine = math.sin(math.radians(dec)) * math.sin(pole) + math.cos(math.radians(dec)) * math.cos(pole) * math.cos(
            math.radians(ra - 192.86)
        )
        if abs(sine) > math.sin(math.radians(30)):
            return ra, dec
