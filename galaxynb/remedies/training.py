"""Train the networks of the remedies, with checkpoints in the folder that `Given` names."""

import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from galaxynb.files import write_json
from galaxynb.networks.autoencoder import denoiser_phase
from galaxynb.networks.batches import DenoisingBatches, ShuffledBatches
from galaxynb.networks.models import compile_model, in_float32
from galaxynb.networks.training import Phase, fit

__all__ = ["CustomBatches", "Fitted", "custom_phase", "fit_phases", "restorer_phase"]


class Fitted(NamedTuple):
    """A trained network and what its training took.

    Attributes
    ----------
    network : keras.Model
        The network, in float32.
    seconds : float
        Seconds of training, with those of interrupted runs before.
    devices : tuple of str
        The devices on which epochs ran, as `Given` names them.
    """

    network: object
    seconds: float
    devices: tuple


class CustomBatches(ShuffledBatches):
    """Batches whose content a function makes from rows, orientations and the number of the epoch.

    Parameters
    ----------
    make : callable
        Takes ``rows``, ``orientations`` and ``epoch``, and returns inputs and targets.
    indices, batch_size, seed
        As for `galaxynb.networks.batches.ShuffledBatches`.
    """

    def __init__(self, make, indices, *, batch_size, seed):
        super().__init__(indices, batch_size, seed, shuffle=True)
        self.make = make

    def __getitem__(self, number):
        """Return the inputs and the targets of batch `number`."""
        return self.make(*self.batch(number), self.epoch)


def restorer_phase(given, name, *, epochs, noise):
    """Return a phase of clean-noisy pairs, with turned and mirrored images, for a network that restores images.

    Parameters
    ----------
    given : galaxynb.remedies.remedy.Given
        What the remedy may use.
    name : str
        Name of the phase in the history.
    epochs : int
        Number of epochs.
    noise : galaxynb.noise.NoiseModel
        Noise on the inputs.

    Returns
    -------
    galaxynb.networks.training.Phase
    """
    images, _ = given.pairs()
    how = {"batch_size": given.training.restorer_batch_size, "seed": given.seed, "execution": given.execution}
    return denoiser_phase(name, images, given.split, epochs=epochs, noise=noise, augment=True, **how)


def custom_phase(given, make):
    """Return a phase whose batches a function makes. Its validation images have the study's noise.

    Parameters
    ----------
    given : galaxynb.remedies.remedy.Given
        What the remedy may use.
    make : callable
        As for `CustomBatches`.

    Returns
    -------
    galaxynb.networks.training.Phase
        Its name is "noisy".
    """
    training, rows = given.training, given.split
    batches = CustomBatches(make, rows.train, batch_size=training.restorer_batch_size, seed=given.seed)
    how = {"batch_size": 64, "seed": given.seed, "noise": given.noise, "training": False}
    validation = DenoisingBatches(given.images, rows.validation, **how)
    return Phase("noisy", training.restorer_epochs, batches, validation=validation)


def fit_phases(given, model, phases, *, loss, rate, metrics=(), label=""):
    """Train a network through its phases with a decaying rate, and return it in float32.

    Parameters
    ----------
    given : galaxynb.remedies.remedy.Given
        Names the folder of the checkpoints.
    model : keras.Model
        The network, not yet compiled.
    phases : sequence of galaxynb.networks.training.Phase
        Phases to train.
    loss : str or keras.losses.Loss
        Loss that training lowers.
    rate : float
        First learning rate.
    metrics : sequence of str
        Further quantities to log.
    label : str
        Distinguishes the checkpoints of several networks of one remedy.

    Returns
    -------
    Fitted
        A copy of the network that computes in float32, the seconds and the devices.
    """
    steps = sum(len(phase.training) * phase.epochs for phase in phases)
    how = {"learning_rate": rate, "decay_steps": steps, "metrics": metrics, "jit": given.execution.jit}
    model = compile_model(model, loss, **how)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.folder or scratch) / (label or "network")
        digest = f"{given.digest}{label}"
        devices = _record_device(given.device, folder, digest, epochs=sum(phase.epochs for phase in phases))
        began = time.perf_counter()
        model, history = fit(model, phases, folder, digest=digest, log=given.log)
        now = time.perf_counter() - began
    ran = history.attrs["seconds"]["epochs"] + history.attrs["seconds"]["start"]
    return Fitted(in_float32(model), now + max(0.0, float(history["seconds"].sum()) - ran), devices)


def _record_device(device, folder, digest, *, epochs):
    """Record the device that goes on with a training of so many `epochs`; return all devices that it has run on.

    The file ``devices.json`` names each device and the number of epochs that were finished when it began. A device that
    finished no epoch, because it was interrupted, is left out.
    """

    def read(name, key):
        try:
            kept = json.loads((folder / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return []
        return kept.get(key, []) if kept.get("digest") == digest else []

    finished = len(read("history.json", "epochs"))
    entries = [(name, begun) for name, begun in read("devices.json", "devices") if begun < finished]
    if finished < epochs:
        entries.append((device, finished))
    write_json(folder / "devices.json", {"digest": digest, "devices": entries})
    return tuple(dict.fromkeys(name for name, _ in entries))
