"""A noise model whose stars are copies of the compact sources in clean images.

photutils measures the sources. The model draws stars as Gaussians with the measured widths, fluxes and colours, where
`galaxynb.noise.NoiseModel` draws blurred disks.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy.stats import sigma_clipped_stats
from photutils.detection import DAOStarFinder
from photutils.utils.exceptions import NoDetectionsWarning

from galaxynb.images import to_float
from galaxynb.noise import NoiseModel

__all__ = ["CatalogueNoise", "find_stars", "measure_stars"]


_MOST_MEASURED = 400  # images to search

_OFF_CENTRE = 0.25  # fraction of the side: sources closer to the centre may belong to the galaxy

_SEARCHED = 2.0  # FWHM of the search in px of a 64-px image

_CLEAR = 6.0  # sky standard deviations


@dataclass(frozen=True, kw_only=True)
class CatalogueNoise:
    """Noise whose stars are drawn from a catalogue, with the Gaussian noise of a `NoiseModel`.

    Attributes
    ----------
    fluxes : ndarray of float, shape (M, 3)
        Flux of each star in R, G and B: the sum over pixels, in units of the image's range [0, 1].
    widths : ndarray of float, shape (M,)
        Standard deviation of each star in pixels.
    like : galaxynb.noise.NoiseModel
        Gives the number of stars per image and the Gaussian noise.
    """

    fluxes: np.ndarray
    widths: np.ndarray
    like: NoiseModel

    @property
    def median_fwhm(self):
        """Median FWHM of the stars in pixels."""
        return float(2.3548 * np.median(self.widths))

    def apply(self, images, seed, indices, *, epoch=0):
        """Add stars of the catalogue, then Gaussian noise: see `NoiseModel.apply`."""
        side = images.shape[1]
        grid = np.arange(side)
        raw = to_float(images) if images.dtype == np.uint8 else images.astype(np.float32)
        starry = np.empty_like(raw)
        low, high = self.like.n_stars
        for image, index, out in zip(raw, indices, starry, strict=True):
            rng = np.random.default_rng([int(seed), int(epoch), int(index)])
            number = int(rng.integers(low, high, endpoint=True))
            chosen = rng.integers(len(self.widths), size=number)
            x, y = rng.uniform(-0.5, side - 0.5, (2, number))
            width = self.widths[chosen][:, None]
            # A Gaussian is the product of its rows and columns.
            rows = np.exp(-0.5 * ((grid - y[:, None]) / width) ** 2)
            columns = np.exp(-0.5 * ((grid - x[:, None]) / width) ** 2)
            peaks = self.fluxes[chosen] / (2 * np.pi * width**2)
            out[:] = np.clip(image + np.einsum("ki,kj,kc->ijc", rows, columns, peaks), 0, 1)
        bare = NoiseModel(strength=self.like.strength, sigma=self.like.sigma, n_stars=(0, 0))
        return bare.apply(starry, seed, indices, epoch=epoch)


def find_stars(image, *, threshold, fwhm):
    """Find stars in an image with photutils' DAOStarFinder.

    Parameters
    ----------
    image : ndarray of float, shape (H, H, 3)
        In [0, 1].
    threshold : float
        In standard deviations of the sky, after 3-sigma clipping.
    fwhm : float
        FWHM of the search in pixels.

    Returns
    -------
    list of tuple of float
        Positions (x, y) in pixels. The centre of the first pixel is 0.
    """
    light = image.mean(axis=2, dtype=np.float64)
    _, sky, noise = sigma_clipped_stats(light)
    if noise == 0:
        return []
    finder = DAOStarFinder(threshold=threshold * noise, fwhm=fwhm, exclude_border=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        found = finder(light - sky)
    return (
        []
        if found is None
        else list(zip(map(float, found["x_centroid"]), map(float, found["y_centroid"]), strict=True))
    )


def measure_stars(images, rows, *, like):
    """Find compact sources away from the centre of clean images, and return the noise model with copies of them.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, H, 3)
        Clean images.
    rows : array_like of int, shape (M,)
        Rows to search. Only the first 400 are used.
    like : galaxynb.noise.NoiseModel
        See `CatalogueNoise`.

    Returns
    -------
    CatalogueNoise

    Raises
    ------
    ValueError
        If no star is found.
    """
    side = images.shape[1]
    fwhm = max(1.5, _SEARCHED * side / 64)
    reach = int(np.ceil(1.5 * fwhm))
    fluxes, widths = [], []
    for image in images[np.sort(rows[:_MOST_MEASURED])]:
        image = to_float(image)
        for x, y in find_stars(image, threshold=_CLEAR, fwhm=fwhm):
            column, row = round(x), round(y)
            inside = reach <= min(column, row) and max(column, row) < side - reach
            if not inside or np.hypot(x - side / 2 + 0.5, y - side / 2 + 0.5) < _OFF_CENTRE * side:
                continue
            stamp = image[row - reach : row + reach + 1, column - reach : column + reach + 1].astype(np.float64)
            border = np.concatenate([stamp[0], stamp[-1], stamp[1:-1, 0], stamp[1:-1, -1]])
            stamp = stamp - np.median(border, axis=0)
            flux = stamp.sum(axis=(0, 1))
            peak = max(stamp.mean(axis=2).max(), 1e-6)
            width = np.sqrt(max(flux.mean(), 0) / (2 * np.pi * peak))
            if (flux > 0).all() and 0.3 < width < fwhm:
                fluxes.append(flux)
                widths.append(width)
    if not widths:
        raise ValueError(
            f"{min(len(rows), _MOST_MEASURED)} images hold no clear star, but one is needed: leave out catalogue-stars"
        )
    return CatalogueNoise(fluxes=np.array(fluxes), widths=np.array(widths), like=like)
