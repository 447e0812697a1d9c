"""Make the data for the measurements: stand-in galaxies, and files in the published layout."""

import tempfile
import zlib
from functools import cache
from pathlib import Path

import cv2
import h5py
import numpy as np
from measuring import SEED, say

from galaxynb.data.galaxy10 import FLOAT_COLUMNS, IMAGES, LABELS, TRUTH
from galaxynb.images import turn
from galaxynb.standin.make import counts_per_class, make_standin

#: Chunk shape that h5py chooses for (17736, 256, 256, 3) uint8, as it may have done for the published file.
CHUNKS = (555, 16, 16, 1)


@cache
def rendered(number):
    """Return stand-in galaxies of 256 px and their noise-free truth, rendered once per run."""
    say(f"rendering {number} galaxies")
    with tempfile.TemporaryDirectory() as folder:
        path = make_standin(Path(folder) / "standin.h5", number, seed=SEED, progress=False)
        with h5py.File(path) as file:
            return {name: file[name][:] for name in (IMAGES, TRUTH)}


def shrink(images, side):
    """Return (N, H, H, 3) uint8 images shrunk to another side, as `prepare_cache` does."""
    if images.shape[1] == side:
        return images
    return np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])


class Sample:
    """Make images and files for one row, in a folder that the caller removes."""

    def __init__(self, folder, sizes):
        self.folder = Path(folder)
        self.sizes = sizes

    def images(self, number, side, column=IMAGES):
        """Return (number, side, side, 3) uint8 images: the rendered ones, repeated in eight orientations."""
        upright = shrink(rendered(self.sizes.rendered)[column], side)
        images = np.empty((number, *upright.shape[1:]), np.uint8)
        for orientation, start in enumerate(range(0, number, len(upright))):
            part = upright[: number - start]
            images[start : start + len(part)] = turn(part, np.full(len(part), orientation % 8))
        return images

    def file(self, name, number, side, chunks=CHUNKS, truth=False):
        """Write a file in the published layout, with its compression and chunks, and return the path."""
        path = self.folder / f"{name}.h5"
        chunks = (min(chunks[0], number), *(min(side, length) for length in chunks[1:3]), chunks[3])
        rng = np.random.default_rng(SEED)
        with h5py.File(path, "w") as file:
            for column in (IMAGES, TRUTH) if truth else (IMAGES,):
                block = self.images(chunks[0], side, column)
                _write_repeated(file, column, block, number, chunks)
            file[LABELS] = class_labels(number)
            values = {"ra": rng.uniform(0, 360, number), "dec": rng.uniform(-20, 60, number)}
            for column in FLOAT_COLUMNS:
                file[column] = values.get(column, np.full(number, 0.262))
        return path


def class_labels(number):
    return np.repeat(np.arange(10, dtype=np.uint8), counts_per_class(number))


def _write_repeated(file, column, block, number, chunks):
    """Write `number` images by repeating `block`. Each chunk is compressed only once, which saves minutes."""
    dataset = file.create_dataset(column, (number, *block.shape[1:]), np.uint8, chunks=chunks, compression="gzip")
    for corner in np.ndindex(*(length // step for length, step in zip(block.shape[1:], chunks[1:], strict=True))):
        start = tuple(place * step for place, step in zip(corner, chunks[1:], strict=True))
        part = block[:, *(slice(at, at + step) for at, step in zip(start, chunks[1:], strict=True))]
        packed = zlib.compress(np.ascontiguousarray(part).tobytes(), 4)  # gzip's level in h5py
        for row in range(0, number, chunks[0]):
            dataset.id.write_direct_chunk((row, *start), packed)
