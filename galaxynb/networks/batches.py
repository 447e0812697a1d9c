"""Training batches made by the CPU, from memory-mapped uint8 images.

Each batch is converted, augmented and made noisy as a whole; under TensorFlow this runs in parallel with the training
steps. The noise on an image depends only on the seed, the epoch and the image's index. The order and the orientations
depend on the seed, the epoch and the chosen rows.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import cv2
import keras
import numpy as np

from galaxynb.compute import cores
from galaxynb.images import to_float, turn

__all__ = ["ClassifierBatches", "DenoisingBatches", "ShuffledBatches", "one_opencv_thread"]


_MOST_KEPT = 256 * 2**20  # bytes of validation images whose noise is kept in memory

_MOST_THREADS = 2  # threads that add noise to a batch: more would wait for each other when they draw stars

_ALIGNMENT = 64  # bytes: TensorFlow reads an array in place only if its address is a multiple of this; else it copies


class ShuffledBatches(keras.utils.PyDataset):
    """Batches of rows, shuffled anew in each epoch. `fit` calls `set_epoch` with epochs counted from 1.

    Use it with one worker only. With several, on backends other than TensorFlow, Keras's threads make some batches of
    an epoch before `fit` calls `set_epoch`.

    Parameters
    ----------
    indices : array_like of int, shape (M,)
        Rows to use.
    batch_size : int
        Rows per batch, >= 1. The last batch of an epoch may be smaller.
    seed : int
        Seed of the order and the orientations, >= 0.
    shuffle : bool
        Whether to shuffle the rows in each epoch.

    Raises
    ------
    ValueError
        If `batch_size` is below 1.
    """

    def __init__(self, indices, batch_size, seed, *, shuffle):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but 1 or more is needed: choose a larger one")
        self.indices = np.asarray(indices)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.set_epoch(0)

    def set_epoch(self, epoch):
        """Draw the order and the orientations of one epoch."""
        self.epoch = epoch
        rng = np.random.default_rng([self.seed, epoch])
        self.order = rng.permutation(self.indices) if self.shuffle else self.indices
        # One symmetry of the square for each image (see galaxynb.images): the sky has no preferred direction or
        # handedness, so every symmetry of a galaxy is as likely as the galaxy itself.
        self.orientations = rng.integers(8, size=len(self.order))

    def __len__(self):
        return -(-len(self.indices) // self.batch_size)

    def batch(self, number):
        """Return the rows and the orientations of batch `number`."""
        part = slice(number * self.batch_size, (number + 1) * self.batch_size)
        return self.order[part], self.orientations[part]


class ClassifierBatches(ShuffledBatches):
    """Batches of (images, labels) for the classifier.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, H, 3)
        All images. They may be memory-mapped.
    labels : ndarray of int, shape (N,)
        Class of each image, 0 to 9.
    indices : array_like of int, shape (M,)
        Rows to use.
    batch_size : int
        Images per batch, >= 1.
    seed : int
        Seed of the order and the orientations, >= 0.
    training : bool
        Whether to shuffle the rows in each epoch. If False, `augment` has no effect.
    augment : bool
        Whether to turn and mirror the images.
    """

    def __init__(self, images, labels, indices, *, batch_size, seed, training=True, augment=True):
        super().__init__(indices, batch_size, seed, shuffle=training)
        self.images = images
        self.labels = labels
        self.augment = training and augment

    def __getitem__(self, number):
        """Return the images (float32, in [0, 1]) and the labels of batch `number`."""
        rows, orientations = self.batch(number)
        images = self.images[rows]
        if self.augment:
            images = turn(images, orientations)
        return to_float(images, out=_aligned(images.shape)), self.labels[rows]


class DenoisingBatches(ShuffledBatches):
    """Batches of (input, target) for the autoencoder: the target is clean, the input clean or noisy.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, H, 3)
        All images. They may be memory-mapped.
    indices : array_like of int, shape (M,)
        Rows to use.
    batch_size : int
        Images per batch, >= 1.
    seed : int
        Seed of the order, the orientations and the noise, >= 0.
    noise : galaxynb.noise.NoiseModel or None
        Noise on the inputs. None leaves them clean.
    training : bool
        Whether to shuffle the rows and draw fresh noise in each epoch. If False, the noise is always that of epoch 0
        and `augment` has no effect.
    augment : bool
        Whether to turn and mirror the images.
    threads : int or None
        Number of threads that add noise to a batch. None uses two, or one if this process may use one core only.
    """

    def __init__(self, images, indices, *, batch_size, seed, noise=None, training=True, augment=False, threads=None):
        super().__init__(indices, batch_size, seed, shuffle=training)
        self.images = images
        self.noise = noise
        self.training = training
        # Validation noise is the same in every epoch, so it is made once, unless it would take too much memory.
        fixed = noise is not None and not training and 4 * images[0].size * len(self.indices) <= _MOST_KEPT
        self.kept = {} if fixed else None
        self.augment = training and augment
        self.threads = threads or min(_MOST_THREADS, cores())
        self.map = ThreadPoolExecutor(self.threads).map if self.threads > 1 else map

    def __getitem__(self, number):
        """Return the inputs and the targets of batch `number`, float32 in [0, 1]."""
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
        """Write a noisy batch to `out`, with one part per thread, and return `out`."""
        epoch = self.epoch if self.training else 0
        bounds = np.linspace(0, len(images), self.threads + 1).astype(int)
        parts = [slice(*ends) for ends in pairwise(bounds)]
        made = self.map(
            lambda part: self.noise.apply(images[part], self.seed, rows[part], epoch=epoch, out=out[part]), parts
        )
        list(made)  # waits for the threads, and raises their errors here
        return out


def _aligned(shape):
    """Return an uninitialized float32 array that TensorFlow reads in place; do not reuse it for a later batch."""
    memory = np.empty(4 * int(np.prod(shape)) + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : memory.size - _ALIGNMENT + begin].view(np.float32).reshape(shape)


@contextlib.contextmanager
def one_opencv_thread():
    """Restrict OpenCV to one thread within a block.

    Work on one image is too small to gain from several threads, and the network's threads need the cores.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
