"""The JPEG compression of the survey's viewer, which every published cutout went through.

Lossless copies of published images show it (`quality` 90): in blocks of 8 px that start at the corner of the cutout,
the cosine coefficients of the brightness are multiples of the steps of that quality. The colour signals have half the
resolution, with a sharp cut-off at half the highest frequency. An encoder that scales colour in the cosine transform
gives this cut-off (libjpeg since version 7); OpenCV's averages pixels instead, and takes away two thirds of the colour
noise that the published images have. So this module computes the rounding of JPEG itself. It writes no JPEG files.

References
----------
ITU-T T.81 (1992), Annex K: the quantization tables.
"""

import functools

import cv2
import numpy as np

__all__ = ["viewer_jpeg"]


_BRIGHTNESS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)

_COLOUR = np.full((8, 8), 99)
_COLOUR[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

_BLOCK = 8  # coefficients per side that JPEG keeps of a block


def viewer_jpeg(image, *, quality=90):
    """Return an image as the survey's viewer delivers it: rounded as JPEG rounds, with colours at half the resolution.

    Parameters
    ----------
    image : ndarray of uint8, shape (S, S, 3)
        RGB image. S is a multiple of 16.
    quality : int, optional
        JPEG quality, 1 to 100.

    Returns
    -------
    ndarray of uint8, shape (S, S, 3)
        RGB image after compression.

    Raises
    ------
    ValueError
        If the side is not a multiple of 16, or `quality` is out of range.

    Examples
    --------
    Noise that differs from channel to channel is noise of the colours. JPEG takes most of it away:

    >>> noise = np.random.default_rng(0).normal(128, 20, (64, 64, 3)).round().astype(np.uint8)
    >>> seen = viewer_jpeg(noise)
    >>> bool(np.ptp(seen.astype(int), axis=2).mean() < 0.7 * np.ptp(noise.astype(int), axis=2).mean())
    True
    """
    from scipy.fft import dctn, idctn

    size = image.shape[0]
    if image.shape != (size, size, 3) or size % (2 * _BLOCK):
        raise ValueError(
            f"image has shape {image.shape}, but (S, S, 3) with S a multiple of {2 * _BLOCK} is needed: give such an"
            " image"
        )
    signals = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32) - 128
    for k, (table, side) in enumerate(((_BRIGHTNESS, _BLOCK), (_COLOUR, 2 * _BLOCK), (_COLOUR, 2 * _BLOCK))):
        # A colour block of 16 px keeps its 8 lowest coefficients per side: that halves the resolution. The scale
        # `side / 8` makes the coefficients those of the smaller block, which the table is for.
        steps = _steps(table.tobytes(), quality) * np.float32(side / _BLOCK)
        blocks = signals[..., k].reshape(size // side, side, size // side, side).swapaxes(1, 2)
        coefficients = dctn(blocks, axes=(2, 3), norm="ortho")
        kept = np.zeros_like(coefficients)
        kept[..., :_BLOCK, :_BLOCK] = np.rint(coefficients[..., :_BLOCK, :_BLOCK] / steps) * steps
        signals[..., k] = idctn(kept, axes=(2, 3), norm="ortho").swapaxes(1, 2).reshape(size, size)
    rounded = np.clip(np.rint(signals + 128), 0, 255).astype(np.uint8)
    return cv2.cvtColor(rounded, cv2.COLOR_YCrCb2RGB)


@functools.lru_cache
def _steps(table, quality):
    """Return the quantization steps of a quality, by libjpeg's rule."""
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}, but a JPEG quality from 1 to 100 is needed: give such a number")
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = (np.frombuffer(table, _BRIGHTNESS.dtype) * scale + 50) // 100
    return np.clip(steps, 1, 255).astype(np.float32).reshape(_BLOCK, _BLOCK)
