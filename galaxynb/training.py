"""Feeding and training the networks: batches, epochs, checkpoints and early stopping.

Batches are `keras.utils.PyDataset`s over memory-mapped uint8 images: conversion, augmentation and
noise happen once a batch, beside the steps under TensorFlow, or on the networks' device (`galaxynb.ondevice`).
Noise made here depends on (seed, epoch, index) alone; order and orientation on the seed, the epoch and
the rows given. Training keeps one checkpoint an epoch in Keras's own format and goes on from the last
whole one. What the networks look like is `galaxynb.models`'s part, how good they are
`galaxynb.evaluation`'s.
"""

import contextlib
import gc
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd

from galaxynb import compute, models
from galaxynb.data import to_float
from galaxynb.files import write_json
from galaxynb.ondevice import Feed

__all__ = [
    "Cutouts",
    "Pairs",
    "Phase",
    "Rows",
    "best_epoch",
    "classifier_phase",
    "denoiser_phase",
    "fit",
    "one_opencv_thread",
    "recipe_digest",
]


_MOST_KEPT = 256 * 2**20  # bytes
_MOST_THREADS = 2  # that put noise on a batch: more would wait for each other at the drawing of the stars
_ALIGNMENT = 64  # bytes: TensorFlow takes over as they are only arrays that begin at a multiple, and copies others


class _Epochs(keras.utils.PyDataset):
    """Batches in an order of their own each epoch; `epoch` counts from 1 and is set by `fit`.

    Not for more than one worker: Keras's threads make some of an epoch's batches before `set_epoch` is called on
    backends other than TensorFlow, whose one thread runs beside the steps and begins with the epoch.
    """

    def __init__(self, indices, batch_size, seed, shuffle):
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


class Cutouts(_Epochs):
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

    def __init__(self, images, labels, indices, batch_size, seed, training=True, augment=True):
        super().__init__(indices, batch_size, seed, shuffle=training)
        self.images = images
        self.labels = labels
        self.augment = training and augment

    def __getitem__(self, number):
        """Return batch `number`: float32 images in [0, 1] and their labels."""
        rows, orientations = self.batch(number)
        images = self.images[rows]
        if self.augment:
            images = _turned(images, orientations)
        return to_float(images, out=_aligned(images.shape)), self.labels[rows]


class Pairs(_Epochs):
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

    def __init__(self, images, indices, batch_size, seed, noise=None, training=True, augment=False, threads=None):
        super().__init__(indices, batch_size, seed, shuffle=training)
        self.images = images
        self.noise = noise
        self.training = training
        # Noise that is the same each time is made once, unless it fills the memory.
        fixed = noise is not None and not training and 4 * images[0].size * len(self.indices) <= _MOST_KEPT
        self.kept = {} if fixed else None
        self.augment = training and augment
        self.threads = threads or min(_MOST_THREADS, compute.cores())
        self.map = ThreadPoolExecutor(self.threads).map if self.threads > 1 else map

    def __getitem__(self, number):
        """Return batch `number`: float32 inputs and targets in [0, 1]."""
        rows, orientations = self.batch(number)
        images = self.images[rows]
        if self.augment:
            images = _turned(images, orientations)
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
        made = self.map(lambda part: self.noise.apply(images[part], self.seed, rows[part], epoch, out=out[part]), parts)
        list(made)  # waits for them, and raises what they raised
        return out


class Rows(_Epochs):
    """Batches of rows and orientations for a `galaxynb.ondevice.Feed`, in the order `Cutouts` and `Pairs` have them.

    Parameters
    ----------
    labels : ndarray of int, shape (N,), or None
        The targets, where there are any beside the images themselves.
    indices : ndarray of int
        The rows to use.
    batch_size : int
    seed : int
    """

    def __init__(self, labels, indices, batch_size, seed):
        super().__init__(indices, batch_size, seed, shuffle=True)
        self.labels = labels

    def __getitem__(self, number):
        """Return batch `number`: a dict of ``row`` and ``orientation``, int32, and the targets."""
        rows, orientations = self.batch(number)
        inputs = {"row": rows.astype(np.int32), "orientation": orientations.astype(np.int32)}
        return inputs, inputs["row"] if self.labels is None else self.labels[rows]


def _aligned(shape):
    """Return an empty float32 array that begins where TensorFlow needs no copy; not for arrays that we keep."""
    memory = np.empty(4 * int(np.prod(shape)) + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : memory.size - _ALIGNMENT + begin].view(np.float32).reshape(shape)


def _turned(images, orientations):
    """Apply one symmetry of the square to each image: 0-3 quarter turns, 4-7 the same mirrored."""
    turned = np.empty_like(images)
    for orientation in np.unique(orientations):
        where = orientations == orientation
        part = np.rot90(images[where], k=orientation % 4, axes=(1, 2))
        turned[where] = part[:, :, ::-1] if orientation >= 4 else part
    return turned


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs on one pair of data sets.

    Attributes
    ----------
    name : str
    epochs : int
        >= 0.
    training, validation : keras.utils.PyDataset
        With a method ``set_epoch(epoch)``.
    feed : galaxynb.ondevice.Feed or None
        What makes training images out of `training` if that gives rows.
    """

    name: str
    epochs: int
    training: keras.utils.PyDataset = field(repr=False)
    validation: keras.utils.PyDataset = field(repr=False)
    feed: Feed | None = field(default=None, repr=False)

    def __post_init__(self):
        """Refuse a negative length."""
        if self.epochs < 0:
            raise ValueError(f"epochs of phase {self.name!r} is {self.epochs}, but 0 or more is needed")


def classifier_phase(images, labels, split, epochs, batch_size, seed, augment, how):
    """Put together the classifier's training.

    Parameters
    ----------
    images : ndarray, shape (N, H, H, 3), uint8
    labels : ndarray of int, shape (N,)
    split : galaxynb.data.Split
    epochs, batch_size, seed : int
    augment : bool
    how : galaxynb.compute.Execution
        Says where batches are made.

    Returns
    -------
    Phase
        Named "classify".
    """
    validation = Cutouts(images, labels, split.validation, 64, seed, training=False)
    if how.supply == "device":
        feed = Feed(images, augment=augment, seed=seed)
        return Phase("classify", epochs, Rows(labels, split.train, batch_size, seed), validation, feed)
    training = Cutouts(images, labels, split.train, batch_size, seed, augment=augment)
    return Phase("classify", epochs, training, validation)


def denoiser_phase(name, images, split, epochs, batch_size, seed, noise, augment, how, device_noise):
    """Put together one of the autoencoder's two phases.

    Parameters
    ----------
    name : str
    images : ndarray, shape (N, H, H, 3), uint8
    split : galaxynb.data.Split
    epochs, batch_size, seed : int
    noise : galaxynb.noise.NoiseModel or None
        None trains raw to raw.
    augment : bool
    how : galaxynb.compute.Execution
        Says where training batches are made; validation images always get their noise from OpenCV.
    device_noise : callable
        Makes of `noise` and the images' side what puts such noise on on the device: `galaxynb.noise_ops.DeviceNoise`.

    Returns
    -------
    Phase
    """
    validation = Pairs(images, split.validation, batch_size, seed, noise, training=False)
    if how.supply == "device":
        made = None if noise is None else device_noise(noise, images.shape[1])
        feed = Feed(images, pairs=True, noise=made, augment=augment, seed=seed)
        return Phase(name, epochs, Rows(None, split.train, batch_size, seed), validation, feed)
    training = Pairs(images, split.train, batch_size, seed, noise, augment=augment)
    return Phase(name, epochs, training, validation)


def recipe_digest(**recipe):
    """Hash what decides a training's outcome, so that a checkpoint of another recipe is not gone on from.

    The source of the modules that a training uses is hashed too, since code is part of a recipe; that of the
    noise only if the recipe has a `noise`.

    Parameters
    ----------
    **recipe
        Anything JSON can write: parameters, seeds, the data's checksum.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=asdict).encode())
    digest.update(keras.backend.backend().encode() + keras.__version__.encode())
    noise = ["noise", "noise_ops"] if "noise" in recipe else []
    for module in ("data", "models", "ondevice", "training", *noise):
        digest.update((Path(__file__).parent / f"{module}.py").read_bytes())
    return digest.hexdigest()


def best_epoch(history, monitor):
    """Return the (first) epoch at which a loss was lowest.

    Parameters
    ----------
    history : pandas.DataFrame or list of dict
        Rows with the keys ``epoch`` and `monitor`.
    monitor : str
        Name of a loss: smaller is better. NaN counts as worst.

    Returns
    -------
    int
        The epoch, counting from 1; 0 for an empty history.
    """
    rows = history.to_dict("records") if isinstance(history, pd.DataFrame) else history
    if not rows:
        return 0
    return min(rows, key=lambda row: (np.nan_to_num(row[monitor], nan=np.inf), row["epoch"]))["epoch"]


def fit(model, phases, folder, digest, patience=None, monitor="val_loss", say=print):
    """Train a compiled model through its phases, going on from checkpoints in `folder` if there are any.

    Parameters
    ----------
    model : keras.Model
        Compiled; trained in place unless an earlier checkpoint takes its place.
    phases : sequence of Phase
        Epochs are counted through all of them, from 1.
    folder : str or os.PathLike
        Where checkpoints live: a `.keras` file for the last epoch (and, with `patience`, the best one) and
        ``history.json``, which is written last and so decides what counts.
    digest : str
        From `recipe_digest`. Checkpoints of another digest are removed.
    patience : int or None
        Stop after this many epochs without a lower `monitor` and give back the best epoch's weights.
        None trains to the end and keeps the last weights.
    monitor : str
        The validation loss to watch.
    say : callable
        Takes one line an epoch.

    Returns
    -------
    model : keras.Model
    history : pandas.DataFrame
        A row an epoch: epoch, phase, losses and metrics, and seconds. ``history.attrs["seconds"]`` says where this
        call's time went: ``epochs``, ``start`` (compiling, as far as a phase's first epoch took longer than its
        later ones) and ``checkpoints``.

    Raises
    ------
    ValueError
        If no phase has an epoch, `patience` is below 1, a loss or metric is not a number any more, or the
        best epoch's checkpoint is lost.
    """
    total = sum(phase.epochs for phase in phases)
    if total == 0:
        raise ValueError("no phase has an epoch to train: give epochs of 1 or more")
    if patience is not None and patience < 1:
        raise ValueError(f"patience is {patience}, but 1 epoch or more is needed; None never stops early")
    folder = Path(folder)
    resumed, rows = _last_checkpoint(folder, digest, say)
    if resumed is not None:
        say(f"going on after epoch {len(rows)} of {total}, from {folder / _checkpoint_name(len(rows))}")
        model = resumed
    keeper = _Keeper(model, folder, digest, rows, total, patience, monitor, say)
    begun = len(rows)
    begin = 0
    for phase in phases:
        end = begin + phase.epochs
        if len(rows) < end and not keeper.has_stopped():
            keeper.phase = phase
            trainer = model if phase.feed is None else phase.feed.trainer(model)
            with one_opencv_thread():
                _make_variables(trainer, model, phase.validation)
                trainer.fit(
                    phase.training,
                    validation_data=phase.validation,
                    initial_epoch=len(rows),
                    epochs=end,
                    shuffle=False,  # Keras would shuffle the batches by Python's global generator
                    callbacks=[keeper],
                    verbose=0,
                )
            if phase.feed is not None:
                # Lets go of the images on the device before the next phase puts them there again.
                keeper.set_model(model)
                del trainer
                gc.collect()
        begin = end
    keeper.clear_up()  # what a run that was killed at its very end had no time for
    if patience is not None:
        best = best_epoch(rows, monitor)
        if best != len(rows):
            say(f"weights of epoch {best}, the best, are restored")
            path = folder / _checkpoint_name(best)
            try:
                model.load_weights(path)
            except models.DAMAGE as error:
                raise ValueError(
                    f"{path}, the best epoch's weights, is missing or damaged: delete {folder} and run again"
                ) from error
    history = pd.DataFrame(rows)
    history.attrs["seconds"] = _spent(rows[begun:], keeper.saving)
    # In an order of its own, since a history read back comes in alphabetical order.
    measures = history.columns.difference(["epoch", "phase", "seconds"])
    return model, history[["epoch", "phase", *measures, "seconds"]]


def _make_variables(trainer, network, batches):
    """Make the optimizer's and the metrics' variables before the first step, as the targets of `batches` need them.

    TensorFlow traces a step a second time if the first made variables, and with DenseNet121's many operations tracing
    is most of what comes before the first step.
    """
    if not network.optimizer.built:
        network.optimizer.build(network.trainable_variables)
    if network.get_compile_config()["metrics"]:
        _, targets = batches[0]
        predictions = keras.ops.zeros((len(targets), *network.output_shape[1:]))
        trainer.compute_metrics(None, keras.ops.convert_to_tensor(targets), predictions)
        trainer.reset_metrics()


@contextlib.contextmanager
def one_opencv_thread():
    """Keep OpenCV from spreading the small work of one image over cores that the network's own threads are using."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _spent(rows, saving):
    """Tell the seconds of epochs, of starting and of saving apart; `rows` are the epochs of one process."""
    start = 0.0
    for phase in {row["phase"] for row in rows}:
        first, *later = [row["seconds"] for row in rows if row["phase"] == phase]
        start += max(first - float(np.median(later)), 0.0) if later else 0.0
    epochs = sum(row["seconds"] for row in rows) - start
    return {name: round(value, 1) for name, value in (("epochs", epochs), ("start", start), ("checkpoints", saving))}


class _Keeper(keras.callbacks.Callback):
    """Write checkpoint and history after each epoch, print a line, and stop early."""

    def __init__(self, network, folder, digest, rows, total, patience, monitor, say):
        super().__init__()
        self.network = network  # which is not the model that is fitted where a feed stands in front of it
        self.folder, self.digest, self.rows, self.total = folder, digest, rows, total
        self.patience, self.monitor, self.say = patience, monitor, say
        self.phase = None
        self.saving = 0.0  # seconds

    def has_stopped(self):
        """Tell whether early stopping has struck; a function of the history alone, so it survives a restart."""
        return self.patience is not None and len(self.rows) - best_epoch(self.rows, self.monitor) >= self.patience

    def on_epoch_begin(self, epoch, logs=None):
        for part in (self.phase.training, self.phase.feed):
            if part is not None:
                part.set_epoch(epoch + 1)
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = {key: float(value) for key, value in (logs or {}).items()}
        for key, value in logs.items():
            if not np.isfinite(value):
                raise ValueError(f"{key} of epoch {epoch + 1} is {value}: lower learning_rate and run again")
        ended = time.perf_counter()
        seconds = ended - self.start
        self.rows.append({"epoch": epoch + 1, "phase": self.phase.name, **logs, "seconds": seconds})
        models.save(self.network, self.folder / _checkpoint_name(epoch + 1))
        write_json(self.folder / "history.json", {"digest": self.digest, "epochs": self.rows})
        self.clear_up()
        self.saving += time.perf_counter() - ended
        numbers = "  ".join(f"{key} {value:.4f}" for key, value in logs.items())
        self.say(f"epoch {epoch + 1:>3}/{self.total} {self.phase.name}  {numbers}  {seconds:.0f} s")
        if self.has_stopped():
            self.say(f"stopped early: {self.patience} epochs without a lower {self.monitor}")
            self.model.stop_training = True

    def clear_up(self):
        """Remove the checkpoints that no run will go on from."""
        last = len(self.rows)
        kept = {_checkpoint_name(last), _checkpoint_name(last - 1)}
        if self.patience is not None:
            # The best before this epoch too: it is needed again where this epoch's file turns out damaged.
            kept |= {_checkpoint_name(best_epoch(rows, self.monitor)) for rows in (self.rows, self.rows[:-1])}
        for old in self.folder.glob("epoch-*.keras"):
            if old.name not in kept:
                old.unlink()


def _checkpoint_name(epoch):
    return f"epoch-{epoch:04d}.keras"


def _last_checkpoint(folder, digest, say):
    """Load the newest whole checkpoint of this recipe: (model or None, history rows up to it)."""
    try:
        kept = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, []
    except ValueError:
        kept = {}
    if isinstance(kept, dict) and kept.get("digest") == digest:
        rows = kept.get("epochs", [])
        while rows:
            path = folder / _checkpoint_name(len(rows))
            try:
                return models.load(path, "this training"), rows
            except (FileNotFoundError, ValueError):
                rows = rows[:-1]
        say(f"no checkpoint in {folder} can be read; training starts afresh")
    else:
        say(f"the checkpoints in {folder} belong to another recipe; training starts afresh")
    (folder / "history.json").unlink()
    for old in folder.glob("epoch-*.keras"):
        old.unlink()
    return None, []
