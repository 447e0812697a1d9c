"""Print how many seconds `fit` needs to receive all noisy training pairs of a data set.

Usage: python benchmarks/delivery.py ours CUTOUTS.npy BATCH
       python benchmarks/delivery.py paper JPEG_FOLDER BATCH

Each side runs in its own process. Its speed depends on the memory that the C library keeps for reuse, and therefore on
what the process did before.
"""

import contextlib
import io
import sys

import keras
import numpy as np
from measuring import SEED, now, since

from galaxynb.networks.batches import DenoisingBatches, one_opencv_thread
from galaxynb.noise import NoiseModel

SIDE = 128


class Sink(keras.Model):
    """Take batches and do nothing with them."""

    def train_step(self, batch):
        return {"last": batch[1][-1, 0, 0, 0]}


class Clock(keras.callbacks.Callback):
    """Record the cost of each epoch, without the set-up of `fit`."""

    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = now()

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(since(self.start))


def delivered(dataset, sink, epochs=1):
    """Return the seconds that `fit` needs for the last epoch's batches, with threads and prefetching as in training."""
    clock = Clock()
    with one_opencv_thread():
        sink.fit(dataset, epochs=epochs, shuffle=False, verbose=0, callbacks=[clock])
    return clock.epochs[-1]


def ours(path, batch):
    """Return the study's data set of pairs, from an array of uint8 images in memory."""
    cutouts = np.load(path)
    return DenoisingBatches(cutouts, np.arange(len(cutouts)), batch_size=batch, seed=SEED, noise=NoiseModel())


def paper(folder, batch):
    """Return the paper's data set of pairs, from a folder of JPEG files."""
    import paper_recipe

    with contextlib.redirect_stdout(io.StringIO()):
        return paper_recipe.Pairs(folder, SIDE, batch, SEED, NoiseModel())


def main(side, path, batch):
    dataset = {"ours": ours, "paper": paper}[side](path, int(batch))
    sink = Sink()
    sink.compile()
    # The first epoch is a warm-up: it traces the empty step and allocates the memory that the second reuses.
    print(delivered(dataset, sink, epochs=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
