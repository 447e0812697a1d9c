"""Disturbances that no remedy was trained on: other strengths of the study's noise, and other kinds of damage.

Each has five severities, from 1 to 5. The kinds of damage other than the study's noise are applied to clean images.
The damage to an image depends on the seed, the kind and the image's index, not on the batch.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from galaxynb.images import to_float

__all__ = ["DISTURBANCES", "SEVERITIES", "Disturbance", "disturb"]


SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """One kind of damage.

    Attributes
    ----------
    title : str
        Name for tables and figures.
    levels : tuple of float
        Its parameter at the five severities.
    unit : str
        Meaning of the parameter.
    apply : callable
        Takes images (uint8), the noise model of the study, a level, the seed and the indices of the images; returns
        ndarray of float32 in [0, 1].
    """

    title: str
    levels: tuple[float, ...]
    unit: str
    apply: Callable


def disturb(kind, images, noise, *, severity, seed, indices):
    """Return images with one kind of damage.

    Parameters
    ----------
    kind : str
        A key of `DISTURBANCES`.
    images : ndarray of uint8, shape (N, H, H, 3)
        Clean images.
    noise : galaxynb.noise.NoiseModel
        The calibrated noise of the study.
    severity : int
        From 1 to 5.
    seed : int
        Seed of the study.
    indices : array_like of int, shape (N,)
        Index of each image in its file.

    Returns
    -------
    ndarray of float32, shape (N, H, H, 3)
        In [0, 1].

    Raises
    ------
    ValueError
        If `kind` or `severity` is unknown.

    Examples
    --------
    >>> from galaxynb.noise import NoiseModel
    >>> images = np.full((1, 32, 32, 3), 100, np.uint8)
    >>> dark = disturb("hot-pixels", images, NoiseModel(), severity=5, seed=1, indices=[3])
    >>> dark.shape, dark.dtype, float(dark.max())
    ((1, 32, 32, 3), dtype('float32'), 1.0)
    """
    if kind not in DISTURBANCES:
        raise ValueError(f"kind is {kind!r}, but one of {', '.join(DISTURBANCES)} is needed: choose one")
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity!r}, but a whole number from 1 to 5 is needed: change it")
    found = DISTURBANCES[kind]
    made = found.apply(np.asarray(images), noise, found.levels[severity - 1], seed, indices)
    return np.clip(made, 0, 1).astype(np.float32)


def _each(kind):
    """Turn a function of one float image, a level and a random generator into one of many images."""

    def decorate(function):
        def apply(images, _noise, level, seed, indices):
            key = zlib.crc32(kind.encode())
            made = [
                function(image, level, np.random.default_rng([int(seed), key, int(index)]))
                for image, index in zip(to_float(images), indices, strict=True)
            ]
            return np.stack(made) if made else np.empty(images.shape, np.float32)

        return apply

    return decorate


def _sigma(images, noise, level, seed, indices):
    return replace(noise, sigma=level * noise.sigma).apply(images, seed, indices)


def _more_stars(images, noise, level, seed, indices):
    low, high = (round(level * number) for number in noise.n_stars)
    return replace(noise, n_stars=(low, high)).apply(images, seed, indices)


def _brighter_stars(images, noise, level, seed, indices):
    # The strength multiplies stars and Gaussian noise alike. Divide sigma, so that the Gaussian noise stays the same.
    return replace(noise, strength=level * noise.strength, sigma=noise.sigma / level).apply(images, seed, indices)


@_each("poisson")
def _poisson(image, photons, rng):
    return rng.poisson(image * photons) / photons


@_each("correlated")
def _correlated(image, sigma, rng):
    # Smooth white noise with a Gaussian about as wide as the PSF, then rescale it to the standard deviation sigma.
    width = 1.2 * len(image) / 64
    field = cv2.GaussianBlur(rng.standard_normal(image.shape, np.float32), (0, 0), width)
    return image + sigma * field / field.std()


@_each("blur")
def _blur(image, width, _rng):
    return cv2.GaussianBlur(image, (0, 0), width * len(image))


@_each("jpeg")
def _jpeg(image, quality, _rng):
    levels = np.round(255 * image).astype(np.uint8)[..., ::-1]
    _, coded = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255


@_each("trail")
def _trail(image, brightness, rng):
    side = len(image)
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * side
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    profile = np.exp(-0.5 * ((x * np.sin(angle) - y * np.cos(angle) - offset) / (0.02 * side)) ** 2)
    return image + brightness * profile[..., None]


@_each("hot-pixels")
def _hot_pixels(image, share, rng):
    # A hot pixel belongs to one band, so it is red, green or blue.
    return np.where(rng.random(image.shape) < share / 3, 1.0, image)


#: The kinds of damage by name. The first three change the study's own noise.
DISTURBANCES = {
    name: Disturbance(title=title, levels=levels, unit=unit, apply=apply)
    for name, title, levels, unit, apply in (
        ("sigma", "Gaussian noise", (0.5, 1.5, 2.0, 3.0, 4.0), "times sigma", _sigma),
        ("more-stars", "More stars", (1.5, 2.0, 3.0, 4.0, 6.0), "times the number", _more_stars),
        ("brighter-stars", "Brighter stars", (1.25, 1.5, 2.0, 2.5, 3.0), "times the brightness", _brighter_stars),
        ("poisson", "Poisson noise", (200, 100, 50, 25, 12), "photons at full scale", _poisson),
        ("correlated", "Correlated noise", (0.03, 0.05, 0.08, 0.12, 0.16), "standard deviation", _correlated),
        ("blur", "Blurred PSF", (0.008, 0.0125, 0.02, 0.03, 0.045), "standard deviation, sides", _blur),
        ("jpeg", "JPEG", (60, 40, 25, 15, 8), "quality", _jpeg),
        ("trail", "Satellite trail", (0.1, 0.2, 0.4, 0.7, 1.0), "brightness", _trail),
        ("hot-pixels", "Hot pixels", (0.002, 0.005, 0.01, 0.02, 0.04), "share of the pixels", _hot_pixels),
    )
}
