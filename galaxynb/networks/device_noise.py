"""The noise law of `galaxynb.noise` in Keras operations, to make training noise on an accelerator.

Stars are drawn and placed as `NoiseModel` does, from tables that its own drawing and OpenCV's blur fill
once for a model and an image side. The bits depend on the state of a `keras.random.SeedGenerator`, the
backend and its compiler, not on (seed, epoch, index): noise that must be tied to an image is
`NoiseModel.apply`'s part.

A star layer differs from OpenCV's, which holds 8 bits, by a level or two of 255. Where the frame cuts a disk,
OpenCV draws the cut rim's pixels too faint, at the left and upper edges above all; here a cut disk is a part of the
whole one.
"""

import cv2
import keras
import numpy as np
from keras import ops
from scipy import stats

from galaxynb.noise import STAR_COLOURS, STAR_DTYPE, SUBPIXEL_BITS, draw_layers, star_disks

__all__ = [
    "DeviceNoise",
]


_SCALE = 1 << SUBPIXEL_BITS

#: Pixels by which two disks that share one can be further apart than the sum of their radii: each is lit up to 2.3 px
#: beyond its radius, faintly, and drawn up to 0.05 px from its place.
_RIM = 4.7

_MISSED = 1e-6  # chance, an image, that a star is covered by more stars than are looked at

_MOST_BYTES = 2**28  # of the disks' table


class DeviceNoise:
    """Injected stars and Gaussian noise, as `NoiseModel` has them, in Keras operations.

    Calls can be traced and compiled on every backend; the number of images may be unknown while tracing.
    All numbers are float32, whatever the dtype policy. The tables take 4 MB for the default model at 128 px, 20 MB at
    256 px.

    Parameters
    ----------
    model : galaxynb.noise.NoiseModel
    side : int
        Side of the images in pixels, >= 1.

    Raises
    ------
    ValueError
        If `side` is below 1, or the stars are so large that the tables of their disks would not fit.
    """

    def __init__(self, model, side):
        if side < 1:
            raise ValueError(f"side is {side}, but an image has 1 pixel or more: give the images' side")
        self.model = model
        self.side = side
        self.most = model.n_stars[1]
        if self.most:
            self._fill_tables()

    def __call__(self, images, generator):
        """Add stars, then Gaussian noise.

        Parameters
        ----------
        images : tensor, shape (N, side, side, 3), floating point
            Clean images in [0, 1].
        generator : keras.random.SeedGenerator
            Its state decides the noise, and is moved on.

        Returns
        -------
        tensor, shape (N, side, side, 3), float32
            In [0, 1].

        Raises
        ------
        ValueError
            If the images have another side or number of channels.
        """
        if tuple(images.shape[1:]) != (self.side, self.side, 3):
            raise ValueError(
                f"images has shape {tuple(images.shape)}, but (N, {self.side}, {self.side}, 3) is needed: "
                "give RGB images of the side that the noise was made for"
            )
        images = ops.cast(images, "float32")
        if self.most:
            images = images + self.render(self.stars(ops.shape(images)[0], generator))
        if self.model.sigma > 0:
            images = images + keras.random.normal(
                ops.shape(images), stddev=self.model.sigma, dtype="float32", seed=generator
            )
        return ops.clip(images, 0.0, 1.0)

    def stars(self, n_images, generator):
        """Draw the stars of some images.

        Parameters
        ----------
        n_images : int or scalar tensor
        generator : keras.random.SeedGenerator

        Returns
        -------
        dict of tensor
            `galaxynb.noise.STAR_DTYPE`'s fields with the same meaning, each of shape (n_images, K) with
            K = ``model.n_stars[1]`` (``rgb``: (n_images, K, 3)), and ``present``, bool: which of the K stars there are.
        """
        model, side = self.model, self.side
        low, high = model.n_stars
        number = keras.random.randint((n_images, 1), low, high + 1, dtype="int32", seed=generator)
        u = keras.random.uniform((n_images, high, 9), dtype="float32", seed=generator)
        # The edges between colours that a number passes, 0 to 2, are its colour.
        blue, red = (np.cumsum(model.proportions)[:2] / np.sum(model.proportions)).tolist()
        colour = _whole(u[..., 5] >= blue) + _whole(u[..., 5] >= red)
        ranges = ops.take(np.array([getattr(model, name) for name in STAR_COLOURS], np.float32), colour, axis=0)
        return {
            "x": u[..., 0] * side - 0.5,
            "y": u[..., 1] * side - 0.5,
            "radius": _between(model.radius, u[..., 2]) * side,
            "brightness": _between(model.brightness, u[..., 3]),
            "rgb": ranges[..., 0] + u[..., 6:9] * (ranges[..., 1] - ranges[..., 0]),
            "kernel": _whole(_kernel(_between(model.blur, u[..., 4]) * side, ops)),
            "colour": colour,
            "present": _whole(np.arange(high)) < _whole(number),
        }

    def render(self, stars):
        """Draw and blur stars, on black.

        Parameters
        ----------
        stars : dict of tensor
            As `stars` gives them: radii and kernels in the model's ranges. A later star covers an earlier
            one of the same kernel and adds to one of another kernel.

        Returns
        -------
        tensor, shape (N, side, side, 3), float32
            In units of the image's range; not clipped.
        """
        row, row_phase = _on_grid(stars["y"])
        column, column_phase = _on_grid(stars["x"])
        radius = ops.round(ops.maximum(stars["radius"] - 0.5, 0.0) * _SCALE)
        radius = _whole(ops.clip(radius, self._radii[0], self._radii[-1]))
        kernel = ops.clip(_whole(stars["kernel"]), self._kernels[0], self._kernels[-1])
        stamp = ((radius - self._radii[0]) * _SCALE + row_phase) * _SCALE + column_phase
        stamps, lines = ops.convert_to_tensor(self._stamps), ops.convert_to_tensor(self._lines)

        found, other = self._later_neighbours(stars, kernel, radius)
        disk = _share(ops.take(stamps, stamp, axis=0)) * _uncovered(stamps, stamp, row, column, found, other)

        # Disks are small and the blur is separable: (lines of a disk) x (what blur makes of each line) along
        # either axis. Stars add up within the second product, so no pixel is written twice.
        across = ops.matmul(disk, self._blurred(lines, kernel, column))
        colour = ops.round(255 * stars["brightness"][..., None] * stars["rgb"]) / 255
        colour = ops.where(stars["present"][..., None], colour, 0.0)
        across = across[..., None] * colour[:, :, None, None, :]
        many, side = self.most * self._stamps.shape[1], self.side
        down = ops.reshape(self._blurred(lines, kernel, row), (-1, many, side))
        layer = ops.matmul(ops.transpose(down, (0, 2, 1)), ops.reshape(across, (-1, many, 3 * side)))
        return ops.reshape(layer, (-1, side, side, 3))

    def _later_neighbours(self, stars, kernel, radius):
        """Find the later stars of its kernel that may cover each star.

        Returns
        -------
        found : tensor of bool, shape (N, K, M)
        other : tensor of int, shape (N, K, M)
            The covering star's number, where `found`. Few cover any: all pairs would take ten times the memory.
        """
        reach = ops.cast(radius[:, :, None] + radius[:, None, :], "float32") / _SCALE + _RIM
        apart = sum(ops.square(stars[axis][:, :, None] - stars[axis][:, None, :]) for axis in "xy")
        number = _whole(np.arange(self.most))
        later = number[:, None] < number
        covers = later & stars["present"][:, None, :] & (kernel[:, :, None] == kernel[:, None, :])
        found, other = ops.top_k(ops.cast(covers & (apart < ops.square(reach)), "float32"), self._depth)
        return found > 0, _whole(other)

    def _blurred(self, lines, kernel, start):
        """Return what the blur makes of each of a stamp's lines: (N, K, P, side)."""
        position = (start - self._before + self._margin)[..., None] + _whole(np.arange(self._margin))
        position = ops.clip(position, 0, lines.shape[1] - 1)
        index = ((kernel - self._kernels[0]) // 2)[..., None] * lines.shape[1] + position
        return ops.take(ops.reshape(lines, (-1, self.side)), index, axis=0)

    def _fill_tables(self):
        """Have OpenCV draw each disk and blur each line that can occur."""
        model, side = self.model, self.side
        low, high = (round(max(limit * side - 0.5, 0) * _SCALE) for limit in model.radius)
        self._radii = range(low, high + 1)
        size = 2 * len(self._radii) * (_SCALE * (2 * high / _SCALE + 6)) ** 2
        if size > _MOST_BYTES:
            raise ValueError(
                f"radius {model.radius} at {side} px needs a table of {size / 2**20:.0f} MB, but "
                f"{_MOST_BYTES >> 20} MB is the most: make the range or the side smaller, or use NoiseModel.apply"
            )
        self._stamps, self._before = _draw_stamps(self._radii)
        kernels = _kernel(_between(model.blur, np.linspace(0, 1, 2001, dtype=np.float32)) * np.float32(side), np)
        kernels = kernels.astype(int)
        self._kernels = range(kernels[0], kernels[-1] + 1, 2)
        # Disks that begin or end beyond the frame find lines there, of which nothing is left.
        self._margin = self._stamps.shape[1]
        self._lines = np.zeros((len(self._kernels), side + 2 * self._margin, side), np.float32)
        for lines, kernel in zip(self._lines, self._kernels, strict=True):
            lines[self._margin : -self._margin] = _blur_lines(kernel, side)
        # A star is covered by at most as many as share its kernel and come near it, a binomial number.
        same = np.bincount(kernels).max() / len(kernels)
        near = min(1, np.pi * (2 * high / _SCALE + _RIM) ** 2 / side**2)
        depth = stats.binom.isf(_MISSED / self.most, self.most, same * near)
        self._depth = int(np.clip(depth, 1, self.most))


def _between(limits, u):
    low, high = limits
    return low + u * (high - low)


def _kernel(length, array):
    """Round lengths in pixels to odd numbers, 3 or more; `array` is numpy or keras.ops."""
    return array.maximum(2 * array.round((length - 1) / 2) + 1, 3)


def _whole(number):
    """Turn round numbers, or truth values, into integers."""
    # With int32 TensorFlow would compute on the host, whatever the device.
    return ops.cast(number, "int64" if keras.backend.backend() == "tensorflow" else "int32")


def _on_grid(position):
    """Round positions to the drawing's grid; return the pixel and the part of it, in grid steps."""
    steps = _whole(ops.round(position * _SCALE))
    pixel = steps // _SCALE
    return pixel, steps - pixel * _SCALE


def _share(level):
    """Turn levels of 255 into shares of 1."""
    return ops.cast(level, "float32") / 255


def _uncovered(stamps, stamp, row, column, found, other):
    """Return the share of each disk's pixels that `other` stars leave: (N, K, P, P)."""
    _, stars, depth = found.shape
    size = stamps.shape[1]

    def of_other(values):
        flat = ops.take_along_axis(values, ops.reshape(other, (-1, stars * depth)), axis=1)
        return ops.reshape(flat, (-1, stars, depth))

    def seen_from(corner):
        """Line of the other's stamp at each line of this one's; where there is none, the last, which is empty."""
        line = (corner[:, :, None] - of_other(corner))[..., None] + _whole(np.arange(size))
        return ops.where(found[..., None] & (line >= 0) & (line < size), line, size - 1)

    lines = of_other(stamp)[..., None] * size + seen_from(row)
    pixels = lines[..., None] * size + seen_from(column)[..., None, :]
    return ops.prod(1 - _share(ops.take(ops.reshape(stamps, (-1,)), pixels)), axis=2)


def _draw_stamps(radii):
    """Draw each disk at each place within a pixel.

    Returns
    -------
    stamps : ndarray, shape (len(radii) * _SCALE**2, P, P), float16
        Coverage in 1/255, by radius, row phase and column phase. The last row and column are empty. Half precision
        holds 8 bits, and TensorFlow cannot look up bytes on a GPU.
    before : int
        Row and column of the pixel that a disk's centre is in.
    """
    before = radii[-1] // _SCALE + 3
    stars = np.zeros((len(radii), _SCALE, _SCALE), STAR_DTYPE)
    stars["brightness"] = stars["rgb"] = 1
    stars["radius"] = np.reshape(radii, (-1, 1, 1)) / _SCALE + 0.5  # the half pixel that the drawing takes off
    stars["y"] = before + np.arange(_SCALE)[:, None] / _SCALE
    stars["x"] = before + np.arange(_SCALE) / _SCALE
    stamps = np.stack([draw_layers(star_disks(star[None]), 2 * before + 2)[0][..., 0] for star in stars.ravel()])
    first, *_, last = np.flatnonzero(stamps.any(axis=(0, 1)) | stamps.any(axis=(0, 2)))
    stamps = np.pad(stamps[:, first : last + 1, first : last + 1], ((0, 0), (0, 1), (0, 1)))
    return stamps.astype(np.float16), before - first


def _blur_lines(kernel, side):
    """Blur a line with one lit pixel, for each of its pixels: (side, side), with OpenCV's border."""
    # OpenCV blurs bytes with weights of whole 1/256: 255/256 of a weight below 1/2 rounds to the weight.
    return cv2.GaussianBlur(255 * np.eye(side, dtype=np.uint8), (kernel, 1), 0) / np.float32(256)
