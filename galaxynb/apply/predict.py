"""Denoise and classify images in memory, and flag those that are unlike the training images."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from galaxynb.apply.inputs import prepare
from galaxynb.apply.measures import MEASURES, measure_small, reasons
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.remedies.remedy import run_network

__all__ = ["COLUMNS", "Predicted", "predict", "run_networks", "stack_images", "tabulate"]


#: Columns of the probabilities, before and after denoising.
COLUMNS = {when: [f"{when}: {name}" for name in CLASS_NAMES] for when in ("before", "after")}


class Predicted(NamedTuple):
    """Predictions of images.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per image: the class before and after denoising, the probability of each, the flag, the measures, and
        all probabilities.
    denoised : ndarray of float32, shape (N, S, S, 3)
        Denoised images in [0, 1], of the side of the networks.
    """

    table: pd.DataFrame
    denoised: np.ndarray


def predict(images, networks):
    """Denoise and classify images.

    Parameters
    ----------
    images : ndarray of uint8 or float, shape (N, H, H, 3)
        RGB images with a galaxy at the centre; floats in [0, 1]. H is at least 64.
    networks : galaxynb.apply.networks.Networks
        The trained networks.

    Returns
    -------
    Predicted

    Raises
    ------
    ValueError
        If the images have another shape or type, or values outside their range.

    Examples
    --------
    >>> predict(np.zeros((64, 64, 3)), None)
    Traceback (most recent call last):
    ValueError: images has shape (64, 64, 3), but (N, H, H, 3) is needed: stack N square RGB images
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise ValueError(f"images has shape {images.shape}, but (N, H, H, 3) is needed: stack N square RGB images")
    if images.dtype != np.uint8:
        if images.dtype.kind != "f":
            raise ValueError(f"images is {images.dtype}, but uint8 or floats are needed: convert it")
        low, high = images.min(initial=0), images.max(initial=0)
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"images has values from {low:g} to {high:g}, but 0 to 1 is needed: divide 8-bit values by 255"
            )
    prepared = []
    for image in images:
        made = prepare(image, side=networks.side)
        if made.image is None:
            raise ValueError(f"each image {made.remark}")
        prepared.append(made.image)
    images = stack_images(prepared, networks)
    denoised, answers = run_networks(images, networks)
    return Predicted(tabulate(images, answers, networks), denoised)


def stack_images(images, networks):
    """Return images that have the side of the networks as one array.

    Parameters
    ----------
    images : list of ndarray of float32, shape (S, S, 3)
        Images; there may be none.
    networks : galaxynb.apply.networks.Networks
        The trained networks.

    Returns
    -------
    ndarray of float32, shape (N, S, S, 3)
    """
    return np.stack(images) if images else np.zeros((0, networks.side, networks.side, 3), np.float32)


def run_networks(images, networks):
    """Denoise images of the networks' side, and classify them before and after.

    Parameters
    ----------
    images : ndarray of float32, shape (N, S, S, 3)
        RGB in [0, 1].
    networks : galaxynb.apply.networks.Networks
        The trained networks.

    Returns
    -------
    ndarray of float32, shape (N, S, S, 3)
        Denoised images.
    dict of ndarray of float32, shape (N, 10)
        Probabilities of the classes, ``before`` and ``after`` denoising.
    """
    if not len(images):
        return images, {when: np.zeros((0, len(CLASS_NAMES)), np.float32) for when in COLUMNS}
    denoised = run_network(networks.autoencoder, images)
    versions = {"before": images, "after": denoised}
    return denoised, {when: run_network(networks.classifier, version) for when, version in versions.items()}


def tabulate(images, answers, networks):
    """Return the predictions for images as a table, with their measures and flags.

    Parameters
    ----------
    images : ndarray of float32, shape (N, S, S, 3)
        RGB in [0, 1].
    answers : dict of ndarray
        From `run_networks`.
    networks : galaxynb.apply.networks.Networks
        The trained networks.

    Returns
    -------
    pandas.DataFrame
        The table of `Predicted`.
    """
    measured = measure_small(images) if len(images) else {name: np.zeros(0, np.float32) for name in MEASURES}
    flags = reasons(measured, networks.measures["ranges"])
    names = np.array(CLASS_NAMES)
    chosen = {when: probabilities.argmax(axis=1) for when, probabilities in answers.items()}
    table = {when: names[best] for when, best in chosen.items()}
    table |= {f"p {when}": answers[when][np.arange(len(best)), best] for when, best in chosen.items()}
    table |= {"flag": np.array(flags, object)} | measured
    for when, probabilities in answers.items():
        table |= dict(zip(COLUMNS[when], probabilities.T.astype(np.float32), strict=True))
    return pd.DataFrame(table)
