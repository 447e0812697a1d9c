"""Classical denoisers, which learn nothing: filters of scikit-image and OpenCV, and the removal of detected stars.

Each has one parameter, chosen by the accuracy on noisy validation images.
"""

import cv2
import numpy as np
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet, estimate_sigma

from galaxynb.remedies.remedy import Remedy
from galaxynb.remedies.stars import find_stars

__all__ = ["GaussianFilter", "MedianFilter", "NonLocalMeans", "StarRemoval", "TotalVariation", "Wavelet"]


_KEPT_CENTRE = 0.12  # fraction of the image side: detections this close to the centre belong to the galaxy

_MASK = 1.5  # radius of the filled disk, in units of the FWHM of the search


class _Filter(Remedy):
    """A remedy that restores each image on its own, with one parameter from `candidates`."""

    family = "Classical"
    #: Name of the parameter for tables.
    parameter = ""
    #: Values to choose from.
    candidates = ()

    def fit(self, given):
        """Choose the parameter on noisy validation images."""
        self.chosen = {self.parameter: given.best(self.candidates, self._all)}

    def restore(self, images):
        """Return filtered images: ndarray of float32, shape (N, H, H, 3)."""
        return self._all(images, self.chosen[self.parameter])

    def _all(self, images, value):
        return np.stack([self._one(image, value) for image in images]).astype(np.float32)


class MedianFilter(_Filter):
    """The median of a square window, for each channel."""

    name, title, parameter, candidates = "median", "Median filter", "side of the window, px", (3, 5)

    def _one(self, image, side):
        return cv2.medianBlur(np.ascontiguousarray(image), side)


class GaussianFilter(_Filter):
    """Convolution with a Gaussian, for each channel."""

    name, title = "gaussian", "Gaussian filter"
    parameter, candidates = "standard deviation, px", (0.5, 0.7, 1.0, 1.4)

    def _one(self, image, sigma):
        return cv2.GaussianBlur(image, (0, 0), sigma)


class NonLocalMeans(_Filter):
    """Non-local means: the mean over pixels with similar surroundings (Buades et al. 2005)."""

    name, title = "non-local-means", "Non-local means"
    parameter, candidates = "cut-off, in units of the noise", (0.4, 0.8, 1.2)

    def _one(self, image, factor):
        sigma = float(np.mean(estimate_sigma(image, channel_axis=-1)))
        options = {"patch_size": 5, "patch_distance": 5, "fast_mode": True, "channel_axis": -1}
        return denoise_nl_means(image, h=factor * sigma, sigma=sigma, **options)


class TotalVariation(_Filter):
    """Minimization of the total variation (Chambolle 2004)."""

    name, title = "total-variation", "Total variation"
    parameter, candidates = "weight", (0.02, 0.05, 0.1)

    def _one(self, image, weight):
        return denoise_tv_chambolle(image, weight=weight, channel_axis=-1)


class Wavelet(_Filter):
    """Soft thresholds of wavelet coefficients, from BayesShrink (Chang et al. 2000)."""

    name, title = "wavelet", "Wavelets (BayesShrink)"
    parameter, candidates = "noise, in units of its estimate", (0.5, 1.0, 1.5)

    def _one(self, image, factor):
        sigma = [factor * value for value in estimate_sigma(image, channel_axis=-1)]
        return denoise_wavelet(
            image, sigma=sigma, method="BayesShrink", mode="soft", channel_axis=-1, rescale_sigma=True
        )


class StarRemoval(_Filter):
    """Detection of stars by photutils' DAOStarFinder, and filling of their disks by OpenCV's inpainting.

    Detections near the centre belong to the galaxy and are kept. Field stars are removed like injected ones,
    because the two cannot be distinguished.
    """

    name, title = "star-removal", "Star removal, inpainting"
    parameter, candidates = "threshold, sky standard deviations", (3.0, 5.0, 8.0, 12.0)
    #: FWHM of the search as a fraction of the image side: the median of the injected stars.
    fwhm = 0.055

    def _one(self, image, threshold):
        side = len(image)
        mask = np.zeros((side, side), np.uint8)
        radius = max(1, round(_MASK * self.fwhm * side))
        for x, y in find_stars(image, threshold=threshold, fwhm=self.fwhm * side):
            if np.hypot(x - side / 2 + 0.5, y - side / 2 + 0.5) > _KEPT_CENTRE * side:
                cv2.circle(mask, (round(x), round(y)), radius, 255, cv2.FILLED)
        # OpenCV's inpainting is for 8-bit images.
        filled = cv2.inpaint(np.round(255 * image).astype(np.uint8), mask, 3, cv2.INPAINT_TELEA)
        return np.where(mask[..., None] > 0, filled / 255, image)
