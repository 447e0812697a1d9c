"""Train a network through its phases, with a checkpoint after every epoch.

Training continues from the last complete checkpoint, which is in Keras's own format. Batches come from
`galaxynb.networks.batches` or `galaxynb.networks.device_batches`.
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

from galaxynb.files import write_json
from galaxynb.fingerprints import code_digest
from galaxynb.networks.batches import one_opencv_thread
from galaxynb.networks.device_batches import DeviceFeed
from galaxynb.networks.models import DAMAGE, load_model, save_model

__all__ = [
    "Phase",
    "best_epoch",
    "fit",
    "settings_digest",
]


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
    feed : galaxynb.networks.device_batches.DeviceFeed or None
        What makes training images out of `training` if that gives rows.
    """

    name: str
    epochs: int
    training: keras.utils.PyDataset = field(repr=False)
    validation: keras.utils.PyDataset = field(repr=False, kw_only=True)
    feed: DeviceFeed | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self):
        """Refuse a negative length."""
        if self.epochs < 0:
            raise ValueError(f"epochs of phase {self.name!r} is {self.epochs}, but 0 or more is needed")


def settings_digest(network, **settings):
    """Hash what decides the outcome of a training, so that `fit` never continues a checkpoint of another training.

    The code that the training uses is hashed too, without docstrings and comments. Code of the noise counts only
    for the autoencoder, since the classifier never uses it.

    Parameters
    ----------
    network : {"classifier", "autoencoder"}
        Name of the module of `galaxynb.networks` that builds the network.
    **settings
        Anything JSON can write: parameters, seeds, the checksum of the data.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> settings_digest("classifier", seed=1) == settings_digest("classifier", seed=2)
    False
    """
    parts = [settings, keras.backend.backend(), keras.__version__, code_digest(f"networks.{network}")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()


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


def fit(model, phases, folder, *, digest, patience=None, monitor="val_loss", log=print):
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
    log : callable
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
    resumed, rows = _last_checkpoint(folder, digest, log)
    if resumed is not None:
        log(f"going on after epoch {len(rows)} of {total}, from {folder / _checkpoint_name(len(rows))}")
        model = resumed
    keeper = _Checkpoints(model, folder, digest, rows, total, patience, monitor, log)
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
            log(f"weights of epoch {best}, the best, are restored")
            path = folder / _checkpoint_name(best)
            try:
                model.load_weights(path)
            except DAMAGE as error:
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


def _spent(rows, saving):
    """Tell the seconds of epochs, of starting and of saving apart; `rows` are the epochs of one process."""
    start = 0.0
    for phase in {row["phase"] for row in rows}:
        first, *later = [row["seconds"] for row in rows if row["phase"] == phase]
        start += max(first - float(np.median(later)), 0.0) if later else 0.0
    epochs = sum(row["seconds"] for row in rows) - start
    return {name: round(value, 1) for name, value in (("epochs", epochs), ("start", start), ("checkpoints", saving))}


class _Checkpoints(keras.callbacks.Callback):
    """Write checkpoint and history after each epoch, print a line, and stop early."""

    def __init__(self, network, folder, digest, rows, total, patience, monitor, log):
        super().__init__()
        self.network = network  # which is not the model that is fitted where a feed stands in front of it
        self.folder, self.digest, self.rows, self.total = folder, digest, rows, total
        self.patience, self.monitor, self.log = patience, monitor, log
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
        save_model(self.network, self.folder / _checkpoint_name(epoch + 1))
        write_json(self.folder / "history.json", {"digest": self.digest, "epochs": self.rows})
        self.clear_up()
        self.saving += time.perf_counter() - ended
        numbers = "  ".join(f"{key} {value:.4f}" for key, value in logs.items())
        self.log(f"epoch {epoch + 1:>3}/{self.total} {self.phase.name}  {numbers}  {seconds:.0f} s")
        if self.has_stopped():
            self.log(f"stopped early: {self.patience} epochs without a lower {self.monitor}")
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


def _last_checkpoint(folder, digest, log):
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
                return load_model(path, "this training"), rows
            except (FileNotFoundError, ValueError):
                rows = rows[:-1]
        log(f"no checkpoint in {folder} can be read; training starts afresh")
    else:
        log(f"the checkpoints in {folder} belong to another recipe; training starts afresh")
    (folder / "history.json").unlink()
    for old in folder.glob("epoch-*.keras"):
        old.unlink()
    return None, []
