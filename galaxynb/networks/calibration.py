"""Find the strength of the noise at which a classifier keeps a given share of its accuracy.

The shape of the noise, that is its ranges, stays as it is. The accuracy is measured on the images that the caller
names, which are a study's validation images. This module trains nothing and never sees a test image.
"""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from galaxynb.files import write_json
from galaxynb.noise import NoiseModel

__all__ = ["Calibration", "calibrate_strength", "measure_strength", "predict_noisy", "read_calibration", "remembered"]

_AT_ONCE = 256  # images that are made noisy and classified at a time


class Calibration(NamedTuple):
    """A noise model with its strength, and the accuracies that it rests on.

    Attributes
    ----------
    noise : galaxynb.noise.NoiseModel
        The noise model.
    calibrated : bool
        Whether the strength was searched for. If not, it was given.
    clean, noisy : float
        Accuracy on the clean and on the noisy images, in [0, 1].
    target : float
        Accuracy on noisy images that the calibration aims at.
    reached : bool
        Whether `noisy` is as close to `target` as asked.
    evaluations : pandas.DataFrame
        Columns ``strength`` and ``accuracy``, one row per evaluation, in their order. Strength 0 stands for the clean
        images.
    """

    noise: NoiseModel
    calibrated: bool
    clean: float
    noisy: float
    target: float
    reached: bool
    evaluations: pd.DataFrame

    def summary(self):
        """Return everything but the ranges and the evaluations, as a dict that JSON can hold."""
        return {
            "strength": self.noise.strength,
            "calibrated": self.calibrated,
            "clean accuracy": self.clean,
            "noisy accuracy": self.noisy,
            "target accuracy": self.target,
            "reached": self.reached,
        }

    def text(self):
        """Return the strength, the accuracies and the target as three sentences, one per line."""
        origin = "found by calibration" if self.calibrated else "given"
        return (
            f"The noise has the strength {self.noise.strength:.3g}, which was {origin}.\n"
            f"It lowers the accuracy on the validation images from {self.clean:.3f} to {self.noisy:.3f}.\n"
            f"The target of {self.target:.3f} {'is' if self.reached else 'is not'} reached."
        )

    def write(self, path, **more):
        """Write the calibration to a JSON file. `NoiseModel.read` and `read_calibration` read it.

        Parameters
        ----------
        path : str or os.PathLike
            Path of the file.
        **more
            Further entries of the file.
        """
        evaluations = self.evaluations.to_dict("list")
        write_json(path, asdict(self.noise) | {"calibration": self.summary(), "evaluations": evaluations} | more)


def read_calibration(path):
    """Read a calibration from a file that `Calibration.write` wrote.

    Parameters
    ----------
    path : str or os.PathLike
        Path of the file.

    Returns
    -------
    Calibration
        The calibration.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file does not hold a calibration.

    Examples
    --------
    >>> import tempfile
    >>> evaluations = pd.DataFrame({"strength": [0.0, 1.0], "accuracy": [0.8, 0.4]})
    >>> made = Calibration(NoiseModel(), True, 0.8, 0.4, 0.36, False, evaluations)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made.write(Path(folder) / "noise.json")
    ...     read_calibration(Path(folder) / "noise.json").noisy
    0.4
    """
    try:
        noise = NoiseModel.read(path)
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        found, evaluations = (
            values["calibration"],
            pd.DataFrame(values["evaluations"], columns=["strength", "accuracy"]),
        )
        names = ("calibrated", "clean accuracy", "noisy accuracy", "target accuracy", "reached")
        return Calibration(noise, *(found[name] for name in names), evaluations)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing, but a calibrated noise is needed: run notebooks/04_autoencoder.ipynb or `make book`"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a calibrated noise ({error}), but one is needed: run notebooks/04_autoencoder.ipynb again"
        ) from error


def remembered(path, digest, calibrate):
    """Return a calibration from a file, if it was made from the same inputs; otherwise make it and write the file.

    A GPU can classify an image differently in two runs. An interrupted training resumes only with the same noise, so it
    must not calibrate again.

    Parameters
    ----------
    path : str or os.PathLike
        Path of the file.
    digest : str
        Digest of everything that decides the calibration.
    calibrate : callable
        Makes the calibration. It takes no arguments.

    Returns
    -------
    Calibration
        The calibration.

    Examples
    --------
    >>> import tempfile
    >>> evaluations = pd.DataFrame({"strength": [0.0, 1.0], "accuracy": [0.8, 0.4]})
    >>> made = Calibration(NoiseModel(), True, 0.8, 0.4, 0.36, False, evaluations)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = remembered(Path(folder) / "kept.json", "a", lambda: made)
    ...     again = remembered(Path(folder) / "kept.json", "a", lambda: made._replace(noisy=0.1))
    ...     other = remembered(Path(folder) / "kept.json", "b", lambda: made._replace(noisy=0.2))
    >>> first.noisy, again.noisy, other.noisy
    (0.4, 0.4, 0.2)
    """
    path = Path(path)
    try:
        if json.loads(path.read_text(encoding="utf-8"))["digest"] == digest:
            return read_calibration(path)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # missing, damaged or of another format
    made = calibrate()
    made.write(path, digest=digest)
    return made


def predict_noisy(noise, predict, images, *, indices, seed):
    """Return the predicted classes of noisy images, made and classified a few at a time to save memory.

    Parameters
    ----------
    noise : galaxynb.noise.NoiseModel
        The noise. Each image has the noise of epoch 0, as validation and test images have.
    predict : callable
        Takes images (ndarray of float32 in [0, 1], shape (M, H, H, 3)) and returns their classes (ndarray of int, shape
        (M,)), as `galaxynb.networks.models.predict_classes` does.
    images : ndarray of uint8, shape (N, H, H, 3)
        All images. They may be memory-mapped.
    indices : array_like of int, shape (K,)
        Rows to use, 1 or more.
    seed : int
        Seed of the noise, >= 0.

    Returns
    -------
    ndarray of int, shape (K,)
        Predicted class of each row.

    Raises
    ------
    ValueError
        If `indices` is empty.

    Examples
    --------
    >>> images = np.zeros((3, 16, 16, 3), np.uint8)
    >>> def predict(images):
    ...     return (images.mean(axis=(1, 2, 3)) > 0).astype(int)
    >>> predict_noisy(NoiseModel(), predict, images, indices=[0, 2], seed=0).tolist()
    [1, 1]
    """
    indices = np.asarray(indices)
    if indices.ndim != 1 or not len(indices):
        raise ValueError(f"indices has shape {indices.shape}, but (K,) with K of 1 or more is needed: name some rows")
    parts = [indices[first : first + _AT_ONCE] for first in range(0, len(indices), _AT_ONCE)]
    return np.concatenate([predict(noise.apply(images[rows], seed, rows)) for rows in parts])


def calibrate_strength(
    noise, predict, images, *, labels, indices, seed, kept_share, highest=8.0, tolerance=0.005, n_evaluations=10
):
    """Find the strength at which the accuracy on noisy images is a given share of the accuracy on clean images.

    The search bisects the strength, from 0 up to the first of 1, 2, 4, ... `highest` at which the accuracy is below the
    target. Every evaluation has the same random numbers, so only the strength differs. The accuracy is a step function
    of the strength, and it need not fall everywhere. So the result is the strength, among those evaluated, whose
    accuracy is nearest to the target. Of equally near strengths, it is the one nearest to 1 on a logarithmic scale.

    Parameters
    ----------
    noise : galaxynb.noise.NoiseModel
        The ranges of the noise. Its strength has no effect.
    predict, images, indices, seed
        As for `predict_noisy`.
    labels : ndarray of int, shape (N,)
        Class of each image.
    kept_share : float
        Accuracy on noisy images as a share of the accuracy on clean ones, in [0, 1].
    highest : float
        Largest strength to try, >= 1.
    tolerance : float
        Largest difference from the target that counts as reached. For few images, half the share of one image counts
        too.
    n_evaluations : int
        Largest number of evaluations of noisy images, >= 1.

    Returns
    -------
    Calibration
        The model with the strength found. If no strength reaches the target, `Calibration.reached` is False.

    Raises
    ------
    ValueError
        If `indices` is empty, or `kept_share`, `highest`, `tolerance` or `n_evaluations` is out of its range.

    Examples
    --------
    A classifier that is right on images that the noise made only a little brighter:

    >>> images = np.full((200, 16, 16, 3), 50, np.uint8)
    >>> def predict(images):
    ...     return np.where(images.mean(axis=(1, 2, 3)) < 0.25, 1, 0)
    >>> noise = NoiseModel(n_stars=(2, 8), radius=(0.05, 0.1), blur=(0.1, 0.2))
    >>> found = calibrate_strength(
    ...     noise, predict, images, labels=np.ones(200, int), indices=np.arange(200), seed=0, kept_share=0.5
    ... )
    >>> found.reached, abs(found.noisy - 0.5) <= 0.005
    (True, True)
    """
    if not highest >= 1 or not math.isfinite(highest):
        raise ValueError(f"highest is {highest}, but a finite number of 1 or more is needed: choose one, such as 8")
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}, but 0 or more is needed: choose one, such as 0.005")
    if n_evaluations < 1:
        raise ValueError(f"n_evaluations is {n_evaluations}, but 1 or more is needed: choose one, such as 10")
    accuracy, target, close = _scale(noise, predict, images, labels, indices, seed, kept_share, tolerance)
    measured = {0.0: accuracy(0.0)}
    target *= measured[0.0]
    low, high, strength = 0.0, None, 1.0
    for _ in range(n_evaluations):
        measured[strength] = accuracy(strength)
        if abs(measured[strength] - target) <= close or (measured[strength] > target and strength >= highest):
            break
        if measured[strength] > target:
            low = strength
        else:
            high = strength
        strength = min(2 * low, highest) if high is None else (low + high) / 2
    # Strength 0 is no noise, whatever its accuracy.
    best = min(list(measured)[1:], key=lambda one: (abs(measured[one] - target), abs(math.log(one))))
    return _calibration(replace(noise, strength=best), measured, target, close, calibrated=True)


def measure_strength(noise, predict, images, *, labels, indices, seed, kept_share, tolerance=0.005):
    """Measure the accuracy at the strength that a noise model has. The result has the form of `calibrate_strength`.

    Parameters
    ----------
    noise : galaxynb.noise.NoiseModel
        The noise model, with its strength.
    predict, images, labels, indices, seed, kept_share, tolerance
        As for `calibrate_strength`.

    Returns
    -------
    Calibration
        The same model, with two evaluations or, at strength 0, one.

    Raises
    ------
    ValueError
        If `indices` is empty, or `kept_share` is not in [0, 1].

    Examples
    --------
    >>> def predict(images):
    ...     return np.where(images.mean(axis=(1, 2, 3)) < 0.25, 1, 0)
    >>> images = np.full((200, 16, 16, 3), 50, np.uint8)
    >>> rows, strong = np.arange(200), NoiseModel(strength=5.0)
    >>> found = measure_strength(
    ...     strong, predict, images, labels=np.ones(200, int), indices=rows, seed=0, kept_share=0.5
    ... )
    >>> found.noise.strength, found.clean, found.noisy < 0.2, found.reached
    (5.0, 1.0, True, False)
    """
    accuracy, target, close = _scale(noise, predict, images, labels, indices, seed, kept_share, tolerance)
    measured = {strength: accuracy(strength) for strength in dict.fromkeys((0.0, float(noise.strength)))}
    return _calibration(noise, measured, target * measured[0.0], close, calibrated=False)


def _scale(noise, predict, images, labels, indices, seed, kept_share, tolerance):
    """Return a function from the strength to the accuracy, the share to keep, and the difference that is close."""
    if not 0 <= kept_share <= 1:
        raise ValueError(f"kept_share is {kept_share}, but a share in [0, 1] is needed: give noisy / clean accuracy")
    indices = np.asarray(indices)

    def accuracy(strength):
        found = predict_noisy(replace(noise, strength=strength), predict, images, indices=indices, seed=seed)
        return float(np.mean(found == np.asarray(labels)[indices]))

    return accuracy, kept_share, max(tolerance, 0.5 / max(indices.size, 1))


def _calibration(noise, measured, target, close, *, calibrated):
    evaluations = pd.DataFrame({"strength": list(measured), "accuracy": list(measured.values())})
    noisy = measured[float(noise.strength)]
    return Calibration(noise, calibrated, measured[0.0], noisy, target, abs(noisy - target) <= close, evaluations)
