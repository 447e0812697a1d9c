"""8-bit images: conversion to floating point, and the eight symmetries of the square.

The noise, the training batches and the evaluation share these functions, so that they all scale and turn images alike.

Symmetries of the square
------------------------
An *orientation*, from 0 to 7, names one of the eight symmetries. Orientations 0, 1, 2 and 3 turn the image by that
many quarter turns, counterclockwise with row 0 at the top. Orientations 4, 5, 6 and 7 turn it by 0, 1, 2 and 3 quarter
turns and then mirror it left to right. `turn` applies them to arrays, `galaxynb.networks.device_batches.turn_on_device`
to tensors.
"""

import numpy as np

__all__ = ["SMALLEST_SIDE", "to_float", "turn"]

SMALLEST_SIDE = 32  # px; DenseNet121 halves the side five times, so a smaller image would have no pixel left


def turn(images, orientations):
    """Apply one symmetry of the square to each image.

    Parameters
    ----------
    images : ndarray, shape (N, H, H, C)
        Of any dtype.
    orientations : ndarray of int, shape (N,)
        Symmetry for each image, 0 to 7, numbered as at the top of `galaxynb.images`.

    Returns
    -------
    ndarray, shape (N, H, H, C)
        A new array of the dtype of `images`.
    """
    turned = np.empty_like(images)
    for orientation in np.unique(orientations):
        where = orientations == orientation
        part = np.rot90(images[where], k=orientation % 4, axes=(1, 2))
        turned[where] = part[:, :, ::-1] if orientation >= 4 else part
    return turned


def to_float(images, *, out=None):
    """Scale 8-bit images to floating point in [0, 1].

    Parameters
    ----------
    images : ndarray of uint8, any shape
        Values from 0 to 255.
    out : ndarray of float32, same shape as `images`, or None
        Array that receives the result. None makes a new array.

    Returns
    -------
    ndarray of float32, same shape as `images`
        Values from 0 to 1. This is `out` if it is given.

    Raises
    ------
    TypeError
        If `images` is not uint8: scaling floats a second time would otherwise go unnoticed.

    Examples
    --------
    >>> to_float(np.array([0, 51, 255], dtype=np.uint8))
    array([0. , 0.2, 1. ], dtype=float32)
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images is {images.dtype}, but uint8, from 0 to 255, is needed: pass 8-bit images")
    return np.divide(images, np.float32(255), out=out)
