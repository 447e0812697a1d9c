"""Image quality against a reference: PSNR and SSIM."""

import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio

__all__ = [
    "image_quality",
    "psnr",
    "ssim",
]


def psnr(reference, images):
    """Return the peak signal-to-noise ratio of each image in dB, for a peak of 1.

    Parameters
    ----------
    reference, images : ndarray of float, shape (N, H, W, 3)
        In [0, 1].

    Returns
    -------
    ndarray of float64, shape (N,)
        ``-10 log10(mean squared error)``; infinite where an image equals its reference.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are not batches of RGB images or not floating point.
    """
    _check_pairs(reference, images)
    pairs = zip(reference, images, strict=True)
    # Identical images: the logarithm of zero is the documented infinity.
    with np.errstate(divide="ignore"):
        return np.array([peak_signal_noise_ratio(one, other, data_range=1.0) for one, other in pairs], dtype=float)


#: Side in pixels of the square window of SSIM, and its two constants for a peak of 1 (Wang et al. 2004).
_WINDOW, _C1, _C2 = 7, 0.01**2, 0.03**2

#: Images in work at once: enough that Python's part is small, few enough to stay in the processor's caches at 64 px.
_AT_ONCE = 16


def ssim(reference, images):
    """Return the structural similarity of each image, averaged over its pixels and channels.

    The law is that of scikit-image's ``structural_similarity`` with its defaults: uniform windows of 7 by 7 pixels,
    sample covariances, and only pixels whose window lies inside the image. Here many images share a call, which takes a
    fraction of the time.

    Parameters
    ----------
    reference, images : ndarray of float, shape (N, H, W, 3)
        In [0, 1], 7 pixels or more a side. Computed in float64 where either is wider than float32, else in float32.

    Returns
    -------
    ndarray of float64, shape (N,)
        1 where an image equals its reference.

    Raises
    ------
    ValueError
        If the arrays differ in shape, are not batches of RGB images, not floating point or smaller than a window.

    References
    ----------
    Wang Z., Bovik A.C., Sheikh H.R. and Simoncelli E.P. 2004, IEEE Transactions on Image Processing 13, 600.
    """
    _check_pairs(reference, images)
    if min(images.shape[1:3]) < _WINDOW:
        raise ValueError(f"images has shape {images.shape}; expected {_WINDOW} pixels or more a side")
    dtype = np.float64 if np.result_type(reference, images).itemsize > 4 else np.float32
    values = []
    for start in range(0, len(images), _AT_ONCE):
        pair = (array[start : start + _AT_ONCE].astype(dtype, copy=False) for array in (reference, images))
        values.append(_similarity(*pair).mean(axis=(1, 2, 3), dtype=float))
    return np.concatenate(values)


def _similarity(one, other):
    """Return the SSIM of two batches at each pixel whose window lies inside its image."""
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    mean, other_mean = _window_means(one), _window_means(other)
    product = mean * other_mean
    squares = mean * mean + other_mean * other_mean
    covariance = sample * (_window_means(one * other) - product)
    variances = sample * (_window_means(one * one + other * other) - squares)
    return (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))


def _window_means(images):
    """Average over each window inside an image.

    OpenCV gets an image at a time, since it carries sums along: in one tall image a value that is not a number would
    spread to the others.
    """
    means = np.empty_like(images, order="C")
    for image, mean in zip(images, means, strict=True):
        cv2.blur(image, (_WINDOW, _WINDOW), dst=mean)
    edge = _WINDOW // 2
    return means[:, edge:-edge, edge:-edge]


def image_quality(reference, images):
    """Return mean and standard deviation of PSNR and SSIM over a batch, ready for JSON.

    Parameters
    ----------
    reference, images : ndarray of float, shape (N, H, W, 3)
        In [0, 1].

    Returns
    -------
    dict
        ``psnr_mean`` and ``psnr_std`` in dB, ``ssim_mean`` and ``ssim_std``. The first two are None where an
        image equals its reference, since its PSNR is infinite.

    Raises
    ------
    ValueError
        As `psnr` and `ssim` do.
    """
    summary = {}
    for name, values in {"psnr": psnr(reference, images), "ssim": ssim(reference, images)}.items():
        finite = bool(np.isfinite(values).all())
        summary[f"{name}_mean"] = float(values.mean()) if finite else None
        summary[f"{name}_std"] = float(values.std()) if finite else None
    return summary


def _check_pairs(reference, images):
    """Check that both are batches of RGB images in floats, of one shape."""
    for name, array in {"reference": reference, "images": images}.items():
        if array.dtype.kind != "f":
            raise ValueError(f"{name} is {array.dtype}; expected floats in [0, 1], as by data.to_float")
        if array.ndim != 4 or array.shape[-1] != 3 or len(array) == 0:
            raise ValueError(f"{name} has shape {array.shape}; expected (N, H, W, 3) with N of 1 or more")
    if reference.shape != images.shape:
        raise ValueError(f"reference and images differ in shape: {reference.shape} and {images.shape}")
