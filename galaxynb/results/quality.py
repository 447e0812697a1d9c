"""Quality of images compared with a reference: PSNR and SSIM."""

import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio

__all__ = ["image_quality", "psnr", "ssim"]


def psnr(reference, images):
    """Return the peak signal-to-noise ratio (PSNR) of each image.

    Parameters
    ----------
    reference, images : ndarray of float, shape (N, H, W, 3)
        In [0, 1].

    Returns
    -------
    ndarray of float64, shape (N,)
        ``-10 log10(mean squared error)`` in dB, for a peak of 1. Infinite if an image equals its reference.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are not floating point or are not batches of RGB images.
    """
    _check_pairs(reference, images)
    pairs = zip(reference, images, strict=True)
    # The error of identical images is 0, so their PSNR is infinite, as documented: silence the warning.
    with np.errstate(divide="ignore"):
        return np.array([peak_signal_noise_ratio(one, other, data_range=1.0) for one, other in pairs], dtype=float)


#: Side of SSIM's square window in pixels, and SSIM's two constants for a peak of 1 (Wang et al. 2004).
_WINDOW, _C1, _C2 = 7, 0.01**2, 0.03**2

#: Images computed at once. More would leave the CPU's caches at 64 px; fewer would spend more time in Python.
_AT_ONCE = 16


def ssim(reference, images):
    """Return the structural similarity (SSIM) of each image, averaged over its pixels and channels.

    The definition is that of scikit-image's ``structural_similarity`` with its defaults: uniform windows of 7 by 7
    pixels, sample covariances, and only pixels whose window lies inside the image. This function handles many images
    per call, which takes a fraction of the time.

    Parameters
    ----------
    reference, images : ndarray of float, shape (N, H, W, 3)
        In [0, 1]; H and W of 7 or more. If both are float32 or narrower, SSIM is computed in float32, otherwise in
        float64.

    Returns
    -------
    ndarray of float64, shape (N,)
        In [-1, 1]; 1 if an image equals its reference.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are not floating point, are not batches of RGB images, or if the images are
        smaller than a window.

    References
    ----------
    Wang Z., Bovik A.C., Sheikh H.R. and Simoncelli E.P. 2004, IEEE Transactions on Image Processing 13, 600.
    """
    _check_pairs(reference, images)
    if min(images.shape[1:3]) < _WINDOW:
        raise ValueError(
            f"images has shape {images.shape}, but {_WINDOW} or more pixels per side are needed: pass larger images"
        )
    dtype = np.float64 if np.result_type(reference, images).itemsize > 4 else np.float32
    values = []
    for start in range(0, len(images), _AT_ONCE):
        pair = (array[start : start + _AT_ONCE].astype(dtype, copy=False) for array in (reference, images))
        values.append(_similarity(*pair).mean(axis=(1, 2, 3), dtype=float))
    return np.concatenate(values)


def _similarity(one, other):
    """Return the SSIM of two batches at each pixel whose window lies inside the image."""
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    mean, other_mean = _window_means(one), _window_means(other)
    product = mean * other_mean
    squares = mean * mean + other_mean * other_mean
    covariance = sample * (_window_means(one * other) - product)
    variances = sample * (_window_means(one * one + other * other) - squares)
    return (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))


def _window_means(images):
    """Return the mean over each window that lies inside the image.

    Blur each image in its own call: in a stack of images, OpenCV's running sums would carry a NaN of one image into the
    next ones.
    """
    means = np.empty_like(images, order="C")
    for image, mean in zip(images, means, strict=True):
        cv2.blur(image, (_WINDOW, _WINDOW), dst=mean)
    edge = _WINDOW // 2
    return means[:, edge:-edge, edge:-edge]


def image_quality(reference, images):
    """Return the mean and standard deviation of PSNR and SSIM over a batch.

    Parameters
    ----------
    reference, images : ndarray of float, shape (N, H, W, 3)
        In [0, 1]; H and W of 7 or more.

    Returns
    -------
    dict of float or None
        ``psnr_mean`` and ``psnr_std`` in dB, ``ssim_mean`` and ``ssim_std``. The first two are None if any image
        equals its reference, because its PSNR is infinite and JSON has no infinity.

    Raises
    ------
    ValueError
        For the same arrays as `psnr` and `ssim`.

    Examples
    --------
    >>> reference = np.zeros((2, 8, 8, 3))
    >>> quality = image_quality(reference, reference + np.array([0.1, 0.01]).reshape(2, 1, 1, 1))
    >>> round(quality["psnr_mean"], 2), round(quality["psnr_std"], 2)
    (30.0, 10.0)
    """
    summary = {}
    for name, values in {"psnr": psnr(reference, images), "ssim": ssim(reference, images)}.items():
        finite = bool(np.isfinite(values).all())
        summary[f"{name}_mean"] = float(values.mean()) if finite else None
        summary[f"{name}_std"] = float(values.std()) if finite else None
    return summary


def _check_pairs(reference, images):
    """Raise an error unless both are batches of RGB images in floats, of equal shape."""
    for name, array in {"reference": reference, "images": images}.items():
        if array.dtype.kind != "f":
            raise ValueError(
                f"{name} is {array.dtype}, but floats in [0, 1] are needed: scale 8-bit images by images.to_float"
            )
        if array.ndim != 4 or array.shape[-1] != 3 or len(array) == 0:
            raise ValueError(
                f"{name} has shape {array.shape}, but (N, H, W, 3) with N of 1 or more is needed: pass RGB images"
            )
    if reference.shape != images.shape:
        raise ValueError(
            f"images has shape {images.shape}, but that of reference, {reference.shape}, is needed: "
            "pass images that match one to one"
        )
