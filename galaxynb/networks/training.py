"""Train a network through its phases, with a checkpoint after every epoch.

An interrupted training continues from its last complete checkpoint, a file of `galaxynb.networks.checkpoints`.
Batches come from `galaxynb.networks.batches` or `galaxynb.networks.device_batches`.
"""

import gc
import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from galaxynb.compute import use_standard_keras
from galaxynb.files import write_json
from galaxynb.fingerprints import code_digest
from galaxynb.networks.batches import one_opencv_thread
from galaxynb.networks.checkpoints import restore_variables, save_variables
from galaxynb.networks.device_batches import DeviceFeed

__all__ = ["Phase", "best_epoch", "fit", "settings_digest"]


@dataclass(frozen=True)
class Phase:
    """A number of epochs with the same training and validation batches.

    Attributes
    ----------
    name : str
        Name of the phase in the history.
    epochs : int
        Number of epochs, >= 0.
    training : keras.utils.PyDataset
        Training batches. The data set needs a method ``set_epoch(epoch)``.
    validation : keras.utils.PyDataset
        Validation batches.
    feed : galaxynb.networks.device_batches.DeviceFeed or None
        Makes images on the device from the rows that `training` gives. None if `training` gives images itself.

    Raises
    ------
    ValueError
        If `epochs` is negative.
    """

    name: str
    epochs: int
    training: keras.utils.PyDataset = field(repr=False)
    validation: keras.utils.PyDataset = field(repr=False, kw_only=True)
    feed: DeviceFeed | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self):
        """Raise ValueError if the number of epochs is negative."""
        if self.epochs < 0:
            raise ValueError(f"epochs of phase {self.name!r} is {self.epochs}, but 0 or more is needed: change it")


def settings_digest(network, **settings):
    """Return a digest of everything that decides the outcome of a training.

    `fit` compares digests, so that it never continues a checkpoint of another training. The digest covers the settings,
    the Keras backend and version, and the code of the training and of its data, without docstrings and comments. Code
    of the noise counts only for the autoencoder, because the classifier does not use it.

    Parameters
    ----------
    network : {"classifier", "autoencoder"}
        Name of the module of `galaxynb.networks` that builds the network.
    **settings
        Parameters, seeds and the checksum of the data. JSON must be able to hold each value; dataclasses are allowed.

    Returns
    -------
    str
        A SHA-256 digest of 64 hexadecimal digits.

    Examples
    --------
    >>> settings_digest("classifier", seed=1) == settings_digest("classifier", seed=2)
    False
    """
    parts = [
        settings,
        keras.backend.backend(),
        keras.__version__,
        # The notebook compiles the network with networks.models, which not every module of a network imports.
        code_digest(f"networks.{network}", "networks.models", "data.cache", "data.splits"),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()


def best_epoch(history, monitor):
    """Return the epoch with the lowest loss, the first one if several are equal.

    Parameters
    ----------
    history : pandas.DataFrame or list of dict
        One row for each epoch, with the keys ``epoch`` and `monitor`.
    monitor : str
        Name of a loss. Lower is better, and NaN counts as the highest.

    Returns
    -------
    int
        Number of the epoch, counted from 1, or 0 if the history is empty.

    Examples
    --------
    >>> best_epoch(pd.DataFrame({"epoch": [1, 2, 3], "val_loss": [0.9, 0.4, 0.6]}), "val_loss")
    2
    """
    rows = history.to_dict("records") if isinstance(history, pd.DataFrame) else history
    if not rows:
        return 0
    return min(rows, key=lambda row: (np.nan_to_num(row[monitor], nan=np.inf), row["epoch"]))["epoch"]


def fit(model, phases, folder, *, digest, patience=None, monitor="val_loss", log=print):
    """Train a compiled model through its phases, and continue from a checkpoint in `folder` if there is one.

    Parameters
    ----------
    model : keras.Model
        A compiled model. It is trained in place.
    phases : sequence of Phase
        Phases to train, in this order. Epochs are counted through all phases, from 1.
    folder : str or os.PathLike
        Folder of the checkpoints. It holds an ``.npz`` file for each of the last two epochs, one for the best epoch if
        `patience` is given, and ``history.json``. The history is written last, so an epoch counts once it is in there.
    digest : str
        Digest of the training, from `settings_digest`. Checkpoints with another digest are removed.
    patience : int or None
        Number of epochs without a lower `monitor` after which training stops; the weights of the best epoch are then
        restored. None trains to the end and keeps the last weights.
    monitor : str
        Name of the validation loss that `patience` refers to.
    log : callable
        Function that takes one line of text for each epoch.

    Returns
    -------
    model : keras.Model
        `model` itself.
    history : pandas.DataFrame
        One row for each epoch, with the columns ``epoch``, ``phase``, the losses and metrics in alphabetical order,
        and ``seconds``. ``history.attrs["seconds"]`` is a dict of the seconds that this call spent on ``epochs``,
        ``start`` and ``checkpoints``. ``start`` is the compilation: the time by which the first epoch of a phase took
        longer than the later ones.

    Raises
    ------
    ValueError
        If the phases have no epochs, `patience` is below 1, a loss or metric becomes NaN or infinite, or the checkpoint
        of the best epoch is missing or damaged.

    Examples
    --------
    Train a network with one weight for one epoch of one batch:

    >>> import tempfile
    >>> class OneBatch(keras.utils.PyDataset):
    ...     def set_epoch(self, epoch):
    ...         pass
    ...     def __len__(self):
    ...         return 1
    ...     def __getitem__(self, number):
    ...         return np.ones((1, 1)), np.ones((1, 1))
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.compile("sgd", "mse", run_eagerly=True)
    >>> phase = Phase("only", 1, OneBatch(), validation=OneBatch())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model, history = fit(model, [phase], folder, digest="one weight", log=lambda line: None)
    >>> list(history.columns)
    ['epoch', 'phase', 'loss', 'val_loss', 'seconds']
    """
    total = _total_epochs(phases, patience)
    use_standard_keras()
    if not model.optimizer.built:  # a checkpoint holds the optimizer's variables too
        model.optimizer.build(model.trainable_variables)
    folder = Path(folder)
    rows = _resume(model, folder, digest, log)
    if rows:
        log(f"going on after epoch {len(rows)} of {total}, from {folder / _checkpoint_name(len(rows))}")
    checkpoints = _Checkpoints(model, folder, digest, rows, total, patience, monitor, log)
    begun = len(rows)
    end = 0
    for phase in phases:
        end += phase.epochs
        if len(rows) < end and not checkpoints.has_stopped():
            _train_phase(model, phase, checkpoints, end)
    checkpoints.clear_up()  # an earlier run may have been killed before it removed old checkpoints
    if patience is not None:
        _restore_best(model, folder, rows, monitor, log)
    return model, _history_table(rows, begun, checkpoints.saving)


def _total_epochs(phases, patience):
    """Return the number of epochs in all phases. Raise ValueError if it is 0 or if `patience` is below 1."""
    total = sum(phase.epochs for phase in phases)
    if total == 0:
        raise ValueError("the sum of all phases' epochs is 0, but 1 or more is needed: raise one of them")
    if patience is not None and patience < 1:
        raise ValueError(
            f"patience is {patience}, but 1 epoch or more is needed: raise it, or give None to never stop early"
        )
    return total


def _train_phase(model, phase, checkpoints, end):
    """Train `model` in `phase`, from the epoch after the last one in `checkpoints.rows` to epoch `end`."""
    checkpoints.phase = phase
    trainer = model if phase.feed is None else phase.feed.trainer(model)
    with one_opencv_thread():
        _make_variables(trainer, model, phase.validation)
        trainer.fit(
            phase.training,
            validation_data=phase.validation,
            initial_epoch=len(checkpoints.rows),
            epochs=end,
            shuffle=False,  # Keras would shuffle the batches with Python's global generator
            callbacks=[checkpoints],
            verbose=0,
        )
    if phase.feed is not None:
        # Free the images on the device: the next phase copies them there again.
        checkpoints.set_model(model)
        del trainer
        gc.collect()


def _restore_best(model, folder, rows, monitor, log):
    """Restore the variables of the best epoch in `model`, unless the best epoch is the last."""
    best = best_epoch(rows, monitor)
    if best == len(rows):
        return
    log(f"weights of epoch {best}, the best, are restored")
    path = folder / _checkpoint_name(best)
    try:
        restore_variables(model, path)
    except ValueError as error:
        raise ValueError(
            f"{path}, the checkpoint of the best epoch, is missing or damaged, but it is needed: delete "
            f"{folder} and run again"
        ) from error


def _history_table(rows, begun, saving):
    """Return the history as a table. This call trained the epochs after `begun` and spent `saving` seconds on files."""
    history = pd.DataFrame(rows)
    history.attrs["seconds"] = _spent(rows[begun:], saving)
    # Sort the losses and metrics, because a history that is read back from JSON has sorted keys.
    measures = history.columns.difference(["epoch", "phase", "seconds"])
    return history[["epoch", "phase", *measures, "seconds"]]


def _make_variables(trainer, network, batches):
    """Create the variables of the metrics before the first step, to fit the targets of `batches`.

    If the first step creates variables, TensorFlow traces the step a second time. DenseNet121 has so many operations
    that tracing takes most of the time before its first step.
    """
    if network.get_compile_config()["metrics"]:
        _, targets = batches[0]
        predictions = keras.ops.zeros((len(targets), *network.output_shape[1:]))
        trainer.compute_metrics(None, keras.ops.convert_to_tensor(targets), predictions)
        trainer.reset_metrics()


def _spent(rows, saving):
    """Return the seconds spent on epochs, on compilation and on checkpoints; `rows` are the epochs of one process."""
    start = 0.0
    for phase in {row["phase"] for row in rows}:
        first, *later = [row["seconds"] for row in rows if row["phase"] == phase]
        start += max(first - float(np.median(later)), 0.0) if later else 0.0
    epochs = sum(row["seconds"] for row in rows) - start
    return {name: round(value, 1) for name, value in (("epochs", epochs), ("start", start), ("checkpoints", saving))}


class _Checkpoints(keras.callbacks.Callback):
    """Write a checkpoint and the history after each epoch, log a line, and stop early."""

    def __init__(self, network, folder, digest, rows, total, patience, monitor, log):
        super().__init__()
        self.network = network  # not `self.model`, which is the trainer if the phase has a feed
        self.folder, self.digest, self.rows, self.total = folder, digest, rows, total
        self.patience, self.monitor, self.log = patience, monitor, log
        self.phase = None
        self.saving = 0.0  # seconds

    def has_stopped(self):
        """Return whether training has stopped early. Only the history decides this, so a restart changes nothing."""
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
                raise ValueError(
                    f"{key} of epoch {epoch + 1} is {value}, but a finite number is needed: lower learning_rate and"
                    " run again"
                )
        ended = time.perf_counter()
        seconds = ended - self.start
        self.rows.append({"epoch": epoch + 1, "phase": self.phase.name, **logs, "seconds": seconds})
        save_variables(self.network, self.folder / _checkpoint_name(epoch + 1))
        write_json(self.folder / "history.json", {"digest": self.digest, "epochs": self.rows})
        self.clear_up()
        self.saving += time.perf_counter() - ended
        numbers = "  ".join(f"{key} {value:.4f}" for key, value in logs.items())
        self.log(f"epoch {epoch + 1:>3}/{self.total} {self.phase.name}  {numbers}  {seconds:.0f} s")
        if self.has_stopped():
            self.log(f"stopped early: {self.patience} epochs without a lower {self.monitor}")
            self.model.stop_training = True

    def clear_up(self):
        """Remove the checkpoints that no later run can need."""
        last = len(self.rows)
        kept = {_checkpoint_name(last), _checkpoint_name(last - 1)}
        if self.patience is not None:
            # Keep the best epoch before the last one too: it is needed again if the last epoch's file is damaged.
            kept |= {_checkpoint_name(best_epoch(rows, self.monitor)) for rows in (self.rows, self.rows[:-1])}
        for old in self.folder.glob("epoch-*.npz"):
            if old.name not in kept:
                old.unlink()


def _checkpoint_name(epoch):
    return f"epoch-{epoch:04d}.npz"


def _resume(model, folder, digest, log):
    """Restore the newest undamaged checkpoint with this digest in `model`; return the rows of the history up to it."""
    try:
        kept = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:
        kept = {}
    if isinstance(kept, dict) and kept.get("digest") == digest:
        rows = kept.get("epochs", [])
        while rows:
            try:
                restore_variables(model, folder / _checkpoint_name(len(rows)))
            except ValueError:
                rows = rows[:-1]
            else:
                return rows
        log(f"no checkpoint in {folder} can be read; training starts afresh")
    else:
        log(f"the checkpoints in {folder} belong to a training with other settings; training starts afresh")
    (folder / "history.json").unlink()
    for old in folder.glob("epoch-*"):  # of any format
        old.unlink()
    return []
