"""8-bit images: their conversion to floats, and the eight symmetries of the square.

The noise, the batches and the evaluation all use the same two functions, so that an image means the same everywhere.
"""

import numpy as np

__all__ = [
    "to_float",
]


def turn(images, orientations):
    """Apply one symmetry of the square to each image: 0-3 quarter turns, 4-7 the same mirrored."""
    turned = np.empty_like(images)
    for orientation in np.unique(orientations):
        where = orientations == orientation
        part = np.rot90(images[where], k=orientation % 4, axes=(1, 2))
        turned[where] = part[:, :, ::-1] if orientation >= 4 else part
    return turned


def to_float(images, *, out=None):
    """Scale 8-bit images to floats.

    Parameters
    ----------
    images : uint8 array
        Any shape, 0 to 255.
    out : float32 array or None
        Where the result goes, of the same shape; None makes a new array.

    Returns
    -------
    float32 array
        The same shape, 0 to 1; `out`, if given.

    Raises
    ------
    TypeError
        If `images` is of another type: dividing floats again would go unnoticed.

    Examples
    --------
    >>> to_float(np.array([0, 51, 255], dtype=np.uint8))
    array([0. , 0.2, 1. ], dtype=float32)
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8, from 0 to 255, but are {images.dtype}")
    return np.divide(images, np.float32(255), out=out)
