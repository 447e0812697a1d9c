"""The noise of `galaxynb.noise` in Keras operations, to make training noise on an accelerator.

Stars and Gaussian noise have the same distributions as in `NoiseModel`. Tables hold the disks of all possible stars and
their blur, drawn once by OpenCV for a model and an image side. The noise depends on the state of a
`keras.random.SeedGenerator`, on the backend and on its compiler, but not on the index of the image. Where noise must
belong to an image, as in tests and validation, use `NoiseModel.apply`.

Pixels with stars differ from OpenCV's, which are rounded to 8 bits, by one or two levels of 255. They differ more where
the edge of the image cuts a disk. OpenCV draws the pixels along the cut too faint, most of all at the left and upper
edges. This module draws them as bright as in the whole disk.
"""

import math

import cv2
import keras
import numpy as np
from keras import ops
from scipy import stats

from galaxynb.noise import STAR_COLOURS, STAR_DTYPE, SUBPIXEL_BITS, WIDE_KERNEL, draw_layers, star_disks

__all__ = ["DeviceNoise"]


_FINEST = 1 << SUBPIXEL_BITS  # OpenCV's positions and radii are in units of 1/16 px
_COARSEST = 4  # disks that need tables this coarse are tens of pixels wide

#: Two disks overlap only if their centres are closer than the sum of their radii and this margin, in pixels. A disk is
#: faintly lit up to 2.3 px beyond its radius, and is drawn up to 0.05 px from its position.
_RIM = 4.7

_MISSED = 1e-6  # probability per image that more stars cover a star than `_later_neighbours` can return

_MOST_BYTES = 2**27  # size of the table of disks


class DeviceNoise:
    """Add the stars and the Gaussian noise of a `NoiseModel`, in Keras operations.

    Every backend can trace and compile a call without knowing the number of images. Calls compute in float32, whatever
    the dtype policy. A table holds each disk at each place within a pixel, in steps of 1/16 px, as OpenCV has them. If
    that would take more than 128 MB, the steps of radius and place are 1/8 or 1/4 px. The disks are then so large that
    half a step makes no difference.

    Parameters
    ----------
    model : galaxynb.noise.NoiseModel
        Ranges of the stars and of the Gaussian noise.
    side : int
        Side of the images in pixels, >= 1.

    Raises
    ------
    ValueError
        If `side` is below 1, or the stars are so large that the table of their disks would take too much memory.
    """

    def __init__(self, model, side):
        if side < 1:
            raise ValueError(f"side is {side}, but 1 px or more is needed: give the side of the images")
        self.model = model
        self.side = side
        self.most = model.n_stars[1]
        if self.most:
            self._fill_tables()

    def __call__(self, images, generator):
        """Add stars, then Gaussian noise, to a batch of images.

        Parameters
        ----------
        images : tensor of floating point, shape (N, side, side, 3)
            Clean images in [0, 1].
        generator : keras.random.SeedGenerator
            Source of random numbers. The call advances its state.

        Returns
        -------
        tensor of float32, shape (N, side, side, 3)
            Noisy images in [0, 1].

        Raises
        ------
        ValueError
            If the images have another side or number of channels.
        """
        if tuple(images.shape[1:]) != (self.side, self.side, 3):
            raise ValueError(
                f"images has shape {tuple(images.shape)}, but (N, {self.side}, {self.side}, 3) is needed: "
                "give RGB images of that side"
            )
        images = ops.cast(images, "float32")
        if self.most:
            images = images + self.model.strength * self.render(self.stars(ops.shape(images)[0], generator))
        sigma = self.model.strength * self.model.sigma
        if sigma > 0:
            images = images + keras.random.normal(ops.shape(images), stddev=sigma, dtype="float32", seed=generator)
        return ops.clip(images, 0.0, 1.0)

    def stars(self, n_images, generator):
        """Draw the stars of a batch of images.

        Parameters
        ----------
        n_images : int or tensor of int, shape ()
            Number of images.
        generator : keras.random.SeedGenerator
            Source of random numbers. The call advances its state.

        Returns
        -------
        dict of tensor
            The fields of `galaxynb.noise.STAR_DTYPE`, each of shape (n_images, K) with K = ``model.n_stars[1]``; the
            shape of ``rgb`` is (n_images, K, 3). A further field ``present``, a tensor of bool, is False for the stars
            that an image with fewer than K stars lacks.
        """
        model, side = self.model, self.side
        low, high = model.n_stars
        number = keras.random.randint((n_images, 1), low, high + 1, dtype="int32", seed=generator)
        u = keras.random.uniform((n_images, high, 9), dtype="float32", seed=generator)
        # The colour (0, 1 or 2) is the number of edges between colours at or below u.
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
        """Draw and blur stars on a black background.

        Parameters
        ----------
        stars : dict of tensor
            Stars as `stars` returns them, with radii and kernels in the model's ranges. A later star covers an earlier
            one with the same kernel. Stars with different kernels add up.

        Returns
        -------
        tensor of float32, shape (N, side, side, 3)
            Brightness at strength 1 in units of the image's range [0, 1], not clipped.
        """
        scale = self._scale
        row, row_phase = _on_grid(stars["y"], scale)
        column, column_phase = _on_grid(stars["x"], scale)
        radius = ops.round(ops.maximum(stars["radius"] - 0.5, 0.0) * scale)
        radius = _whole(ops.clip(radius, self._radii[0], self._radii[-1]))
        kernel = ops.clip(_whole(stars["kernel"]), self._kernels[0], self._kernels[-1])
        stamp = ((radius - self._radii[0]) * scale + row_phase) * scale + column_phase
        stamps, lines = ops.convert_to_tensor(self._stamps), ops.convert_to_tensor(self._lines)

        found, other = self._later_neighbours(stars, kernel, radius)
        disk = _share(ops.take(stamps, stamp, axis=0)) * _uncovered(stamps, stamp, row, column, found, other)

        # Disks are small and the blur is separable, so each star is the product of its disk and two matrices, which
        # blur and place the disk's rows and columns. The second product also sums over the stars of an image, so no
        # step writes to a pixel twice.
        across = ops.matmul(disk, self._blurred(lines, kernel, column))
        colour = ops.round(255 * stars["brightness"][..., None] * stars["rgb"]) / 255
        colour = ops.where(stars["present"][..., None], colour, 0.0)
        across = across[..., None] * colour[:, :, None, None, :]
        many, side = self.most * self._stamps.shape[1], self.side
        down = ops.reshape(self._blurred(lines, kernel, row), (-1, many, side))
        layer = ops.matmul(ops.transpose(down, (0, 2, 1)), ops.reshape(across, (-1, many, 3 * side)))
        return ops.reshape(layer, (-1, side, side, 3))

    def _later_neighbours(self, stars, kernel, radius):
        """Find, for each star, up to M later stars with the same kernel that may cover it.

        M is small, since few stars cover one another. All pairs of stars would take ten times the memory.

        Returns
        -------
        found : tensor of bool, shape (N, K, M)
            Whether the entry of `other` is a star that may cover this one.
        other : tensor of int, shape (N, K, M)
            Number of the covering star.
        """
        reach = ops.cast(radius[:, :, None] + radius[:, None, :], "float32") / self._scale + _RIM
        apart = sum(ops.square(stars[axis][:, :, None] - stars[axis][:, None, :]) for axis in "xy")
        number = _whole(np.arange(self.most))
        later = number[:, None] < number
        covers = later & stars["present"][:, None, :] & (kernel[:, :, None] == kernel[:, None, :])
        found, other = ops.top_k(ops.cast(covers & (apart < ops.square(reach)), "float32"), self._depth)
        return found > 0, _whole(other)

    def _blurred(self, lines, kernel, start):
        """Return the blurred image of a lit pixel in each line of each star's disk: tensor, shape (N, K, P, side)."""
        position = (start - self._before + self._margin)[..., None] + _whole(np.arange(self._margin))
        position = ops.clip(position, 0, lines.shape[1] - 1)
        index = ((kernel - self._kernels[0]) // 2)[..., None] * lines.shape[1] + position
        return ops.take(ops.reshape(lines, (-1, self.side)), index, axis=0)

    def _fill_tables(self):
        """Fill the tables with all possible disks and all possible blurred lines, as OpenCV makes them."""
        model, side = self.model, self.side
        scale = 2 * _FINEST
        size = math.inf
        while size > _MOST_BYTES and scale > _COARSEST:
            scale //= 2
            low, high = (round(max(limit * side - 0.5, 0) * scale) for limit in model.radius)
            size = 2 * (high + 1 - low) * (scale * (2 * high / scale + 6)) ** 2
        self._scale, self._radii = scale, range(low, high + 1)
        if size > _MOST_BYTES:
            raise ValueError(
                f"radius is {model.radius}, for which the table at {side} px takes {size / 2**20:.0f} MB, but "
                f"{_MOST_BYTES >> 20} MB or less is needed: make the range or the side smaller, or use NoiseModel.apply"
            )
        self._stamps, self._before = _draw_stamps(self._radii, scale)
        kernels = _kernel(_between(model.blur, np.linspace(0, 1, 2001, dtype=np.float32)) * np.float32(side), np)
        kernels = kernels.astype(int)
        self._kernels = range(kernels[0], kernels[-1] + 1, 2)
        # Disks may extend beyond the image. The margin holds black lines for those parts.
        self._margin = self._stamps.shape[1]
        self._lines = np.zeros((len(self._kernels), side + 2 * self._margin, side), np.float32)
        for lines, kernel in zip(self._lines, self._kernels, strict=True):
            lines[self._margin : -self._margin] = _blur_lines(kernel, side)
        # The number of stars that may cover a star is binomial: each of the others shares its kernel and is near it
        # with a fixed probability, which the largest radius and the most frequent kernel bound from above.
        same = np.bincount(kernels).max() / len(kernels)
        near = min(1, np.pi * (2 * high / scale + _RIM) ** 2 / side**2)
        depth = stats.binom.isf(_MISSED / self.most, self.most, same * near)
        self._depth = int(np.clip(depth, 1, self.most))


def _between(limits, u):
    low, high = limits
    return low + u * (high - low)


def _kernel(length, array):
    """Round lengths in pixels to odd numbers of 3 or more; `array` is numpy or keras.ops."""
    return array.maximum(2 * array.round((length - 1) / 2) + 1, 3)


def _whole(number):
    """Convert whole numbers or booleans to integers."""
    # TensorFlow computes with int32 on the CPU, even if there is a GPU.
    return ops.cast(number, "int64" if keras.backend.backend() == "tensorflow" else "int32")


def _on_grid(position, scale):
    """Round positions to steps of 1 / `scale` px. Return the pixel and the remaining steps (the phase)."""
    steps = _whole(ops.round(position * scale))
    pixel = steps // scale
    return pixel, steps - pixel * scale


def _share(level):
    """Convert levels from 0 to 255 to shares from 0 to 1."""
    return ops.cast(level, "float32") / 255


def _uncovered(stamps, stamp, row, column, found, other):
    """Return the share of each disk's pixels that the `other` stars do not cover: tensor, shape (N, K, P, P)."""
    _, stars, depth = found.shape
    size = stamps.shape[1]

    def of_other(values):
        flat = ops.take_along_axis(values, ops.reshape(other, (-1, stars * depth)), axis=1)
        return ops.reshape(flat, (-1, stars, depth))

    def seen_from(corner):
        """Return the line of the other disk's stamp at each line of this one's, or the last line, which is empty."""
        line = (corner[:, :, None] - of_other(corner))[..., None] + _whole(np.arange(size))
        return ops.where(found[..., None] & (line >= 0) & (line < size), line, size - 1)

    lines = of_other(stamp)[..., None] * size + seen_from(row)
    pixels = lines[..., None] * size + seen_from(column)[..., None, :]
    return ops.prod(1 - _share(ops.take(ops.reshape(stamps, (-1,)), pixels)), axis=2)


def _draw_stamps(radii, scale):
    """Draw a disk of each radius at each position within a pixel, both in steps of 1 / `scale` px.

    Returns
    -------
    stamps : ndarray of float16, shape (len(radii) * scale**2, P, P)
        Coverage in levels from 0 to 255, ordered by radius, row phase and column phase. The last row and column are
        empty. float16 holds these levels exactly, and TensorFlow cannot look up uint8 on a GPU.
    before : int
        Row and column of the pixel that holds the centre of a disk.
    """
    before = radii[-1] // scale + 3
    stars = np.zeros((len(radii), scale, scale), STAR_DTYPE)
    stars["brightness"] = stars["rgb"] = 1
    stars["radius"] = np.reshape(radii, (-1, 1, 1)) / scale + 0.5  # star_disks subtracts half a pixel again
    stars["y"] = before + np.arange(scale)[:, None] / scale
    stars["x"] = before + np.arange(scale) / scale
    stamps = np.stack([draw_layers(star_disks(star[None]), 2 * before + 2)[0][..., 0] for star in stars.ravel()])
    first, *_, last = np.flatnonzero(stamps.any(axis=(0, 1)) | stamps.any(axis=(0, 2)))
    stamps = np.pad(stamps[:, first : last + 1, first : last + 1], ((0, 0), (0, 1), (0, 1)))
    return stamps.astype(np.float16), before - first


def _blur_lines(kernel, side):
    """Blur a line with one lit pixel, for each position of that pixel. Return an ndarray, shape (side, side)."""
    if kernel >= WIDE_KERNEL:
        profile = cv2.getGaussianKernel(kernel, 0, cv2.CV_32F)
        return cv2.sepFilter2D(np.eye(side, dtype=np.float32), cv2.CV_32F, profile, np.ones(1, np.float32))
    # OpenCV's weights for uint8 are multiples of 1/256. A pixel of 255 times a weight below 1/2 rounds to 256 times
    # that weight, so the division gives the weight exactly.
    return cv2.GaussianBlur(255 * np.eye(side, dtype=np.uint8), (kernel, 1), 0) / np.float32(256)
