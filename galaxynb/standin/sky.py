"""Draw the noise of a frame's sky as published cutouts have it, and add it to a frame.

Resampling correlates the noise of neighbouring pixels, sources too faint to detect make part of it smooth, and the
subtraction of the sky leaves an offset. Eleven numbers describe the sky of a frame (`galaxynb.standin.ranges.SKY`).
They are drawn together, because they are correlated: for example, shallow frames have a higher offset. All independent
random numbers behind them are normal, except that of the noise level, which is skewed: few frames are very shallow.
`galaxynb.standin.sky_fit` fitted their means and covariances to the published cutouts whose sky holds little other
light.
"""

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np

from galaxynb.standin.ranges import SKY, SKY_COMMON, SKY_NOISE, SKY_SKEW, SKY_SMOOTH

__all__ = ["FrameSky", "SkyDistribution", "add_sky_noise", "draw_sky", "sky_distribution"]


_MOST_SMOOTH = 0.6  # largest share of smooth noise


class SkyDistribution(NamedTuple):
    """The distribution of `galaxynb.standin.ranges.SKY`.

    Attributes
    ----------
    mean : ndarray of float64, shape (11,)
    factor : ndarray of float64, shape (11, 11)
        Lower triangular factor of the covariance matrix. Its first column belongs to the skewed number.
    """

    mean: np.ndarray
    factor: np.ndarray


class FrameSky(NamedTuple):
    """The sky of one frame.

    Attributes
    ----------
    quantities : ndarray of float64, shape (11,)
        The drawn numbers, in the order of `galaxynb.standin.ranges.SKY`.
    shallow : float
        How shallow the frame is: the standardized noise level, with mean 0 and standard deviation 1.
    noise : ndarray of float32, shape (3,)
        Standard deviation per native pixel in g, r and z, nanomaggies.
    offset : ndarray of float32, shape (3,)
        Sky left after its subtraction in g, r and z, nanomaggies per pixel.
    kernel : ndarray of float32, shape (5,)
        Kernel that correlates the noise along each axis. The sum of its squares is 1.
    share : ndarray of float32, shape (3,)
        Share of smooth noise in the variance in g, r and z, 0 to 0.6.
    """

    quantities: np.ndarray
    shallow: float
    noise: np.ndarray
    offset: np.ndarray
    kernel: np.ndarray
    share: np.ndarray


@functools.cache
def sky_distribution():
    """Return the distribution that was fitted to published cutouts.

    Returns
    -------
    SkyDistribution

    Examples
    --------
    >>> sky_distribution().mean.shape
    (11,)
    """
    factor = np.zeros((len(SKY), len(SKY)))
    for k, (_, row) in enumerate(SKY.values()):
        factor[k, : k + 1] = row
    return SkyDistribution(np.array([mean for mean, _ in SKY.values()]), factor)


def draw_sky(rng, *, distribution=None):
    """Draw the sky of a frame.

    Parameters
    ----------
    rng : numpy.random.Generator
    distribution : SkyDistribution, optional
        The default is `sky_distribution`.

    Returns
    -------
    FrameSky

    Examples
    --------
    >>> sky = draw_sky(np.random.default_rng(0))
    >>> sky.noise.shape, round(float((sky.kernel**2).sum()), 3)
    ((3,), 1.0)
    """
    mean, factor = sky_distribution() if distribution is None else distribution
    standard = rng.standard_normal(len(mean))
    expected, spread = 1 / (1 + SKY_SKEW), math.sqrt(1 / (1 + 2 * SKY_SKEW) - 1 / (1 + SKY_SKEW) ** 2)
    standard[0] = (rng.random() ** SKY_SKEW - expected) / spread
    quantities = mean + factor @ standard
    level, level_g, level_z, near, far, share_g, share_r, share_z, offset, offset_g, offset_z = quantities
    noise = np.array(SKY_NOISE) * np.exp([level + level_g, level, level + level_z])
    kernel = np.array([far, near, 1, near, far])
    return FrameSky(
        quantities=quantities,
        shallow=float(standard[0]),
        noise=noise.astype(np.float32),
        offset=(noise * [offset + offset_g, offset, offset + offset_z]).astype(np.float32),
        kernel=(kernel / math.sqrt((kernel**2).sum())).astype(np.float32),
        share=np.minimum(np.exp([share_g, share_r, share_z]), _MOST_SMOOTH).astype(np.float32),
    )


def add_sky_noise(frame, rng, sky, *, pixels=1.0):
    """Add correlated Gaussian noise to a frame in place.

    Parameters
    ----------
    frame : ndarray of float32, shape (3, H, W)
        Fluxes in g, r and z, nanomaggies per native pixel.
    rng : numpy.random.Generator
    sky : FrameSky
    pixels : float, optional
        Side of a pixel in native pixels. Larger pixels average the noise of native ones.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> frame = np.zeros((3, 64, 64), np.float32)
    >>> add_sky_noise(frame, rng, draw_sky(rng))
    >>> bool(frame.std() > 0)
    True
    """
    # The factor 1.4 accounts for the correlation of the noise.
    deviation = sky.noise * np.float32(min(1.0, 1.4 / pixels))
    white = rng.standard_normal((7, *frame.shape[1:]), np.float32)
    common = np.float32(math.sqrt(SKY_COMMON)) * white[6]
    for band in range(3):
        rough = np.float32(math.sqrt(1 - SKY_COMMON)) * white[band] + common
        fine = cv2.sepFilter2D(rough, -1, sky.kernel, sky.kernel, borderType=cv2.BORDER_REFLECT)
        smooth = cv2.GaussianBlur(white[3 + band], (0, 0), SKY_SMOOTH)
        smooth /= smooth.std()
        frame[band] += (np.sqrt(1 - sky.share[band]) * fine + np.sqrt(sky.share[band]) * smooth) * deviation[band]
