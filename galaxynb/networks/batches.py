"""Training batches made on the host, from memory-mapped uint8 images.

Conversion, augmentation and noise happen once per batch, beside the training steps under TensorFlow. The noise
depends on (seed, epoch, index) alone; order and orientation depend on the seed, the epoch and the chosen rows.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import cv2
import keras
import numpy as np

from galaxynb.compute import cores
from galaxynb.images import to_float, turn

__all__ = [
    "ClassifierBatches",
    "DenoisingBatches",
    "one_opencv_thread",
]


_MOST_KEPT = 256 * 2**20  # bytes

_MOST_THREADS = 2  # that put noise on a batch: more would wait for each other at the drawing of the stars

_ALIGNMENT = 64  # bytes: TensorFlow takes over as they are only arrays that begin at a multiple, and copies others


class ShuffledBatches(keras.utils.PyDataset):
    """Batches in an order of their own each epoch; `epoch` counts from 1 and is set by `fit`.

    Not for more than one worker: Keras's threads make some of an epoch's batches before `set_epoch` is called on
    backends other than TensorFlow, whose one thread runs beside the steps and begins with the epoch.
    """

    def __init__(self, indices, batch_size, seed, *, shuffle):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but a batch needs 1 image or more")
        self.indices = np.asarray(indices)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.set_epoch(0)

    def set_epoch(self, epoch):
        """Fix what is random in one epoch."""
        self.epoch = epoch
        rng = np.random.default_rng([self.seed, epoch])
        self.order = rng.permutation(self.indices) if self.shuffle else self.indices
        # One of the square's eight symmetries an image: the sky has no up and no handedness.
        self.orientations = rng.integers(8, size=len(self.order))

    def __len__(self):
        return -(-len(self.indices) // self.batch_size)

    def batch(self, number):
        """Return one batch's image indices and orientations."""
        part = slice(number * self.batch_size, (number + 1) * self.batch_size)
        return self.order[part], self.orientations[part]


class ClassifierBatches(ShuffledBatches):
    """Batches of (images, labels) for the classifier.

    Parameters
    ----------
    images : ndarray, shape (N, H, H, 3), uint8
        May be memory-mapped.
    labels : ndarray of int, shape (N,)
    indices : ndarray of int
        The rows to use.
    batch_size : int
    seed : int
    training : bool
        Shuffle each epoch, and turn and mirror the images if `augment`.
    augment : bool
    """

    def __init__(self, images, labels, indices, *, batch_size, seed, training=True, augment=True):
        super().__init__(indices, batch_size, seed, shuffle=training)
        self.images = images
        self.labels = labels
        self.augment = training and augment

    def __getitem__(self, number):
        """Return batch `number`: float32 images in [0, 1] and their labels."""
        rows, orientations = self.batch(number)
        images = self.images[rows]
        if self.augment:
            images = turn(images, orientations)
        return to_float(images, out=_aligned(images.shape)), self.labels[rows]


class DenoisingBatches(ShuffledBatches):
    """Batches of (input, target) for the autoencoder: raw to raw, or noisy to raw.

    Parameters
    ----------
    images : ndarray, shape (N, H, H, 3), uint8
        May be memory-mapped.
    indices : ndarray of int
        The rows to use.
    batch_size : int
    seed : int
        Of the order and of the noise.
    noise : galaxynb.noise.NoiseModel or None
        None gives raw to raw.
    training : bool
        Shuffle, augment if `augment`, and draw fresh noise each epoch; else the noise of epoch 0 each time.
    augment : bool
    threads : int or None
        How many threads put noise on a batch; None: two, where this process may use as many cores.
    """

    def __init__(self, images, indices, *, batch_size, seed, noise=None, training=True, augment=False, threads=None):
        super().__init__(indices, batch_size, seed, shuffle=training)
        self.images = images
        self.noise = noise
        self.training = training
        # Noise that is the same each time is made once, unless it fills the memory.
        fixed = noise is not None and not training and 4 * images[0].size * len(self.indices) <= _MOST_KEPT
        self.kept = {} if fixed else None
        self.augment = training and augment
        self.threads = threads or min(_MOST_THREADS, cores())
        self.map = ThreadPoolExecutor(self.threads).map if self.threads > 1 else map

    def __getitem__(self, number):
        """Return batch `number`: float32 inputs and targets in [0, 1]."""
        rows, orientations = self.batch(number)
        images = self.images[rows]
        if self.augment:
            images = turn(images, orientations)
        raw = to_float(images, out=_aligned(images.shape))
        if self.noise is None:
            return raw, raw
        if self.kept is None:
            return self._noisy(images, rows, _aligned(images.shape)), raw
        if number not in self.kept:
            self.kept[number] = self._noisy(images, rows, np.empty(images.shape, np.float32))
        return self.kept[number], raw

    def _noisy(self, images, rows, out):
        """Put noise on a batch, a part of it in each thread; return `out`."""
        epoch = self.epoch if self.training else 0
        bounds = np.linspace(0, len(images), self.threads + 1).astype(int)
        parts = [slice(*ends) for ends in pairwise(bounds)]
        made = self.map(
            lambda part: self.noise.apply(images[part], self.seed, rows[part], epoch=epoch, out=out[part]), parts
        )
        list(made)  # waits for them, and raises what they raised
        return out


def _aligned(shape):
    """Return an empty float32 array that begins where TensorFlow needs no copy; not for arrays that we keep."""
    memory = np.empty(4 * int(np.prod(shape)) + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : memory.size - _ALIGNMENT + begin].view(np.float32).reshape(shape)


@contextlib.contextmanager
def one_opencv_thread():
    """Keep OpenCV from spreading the small work of one image over cores that the network's own threads are using."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
