"""The paper's two noise steps: injected stars, then Gaussian RGB noise.

Stars are drawn and blurred with OpenCV and added to the cutout; Gaussian noise is added to the
merged image; the sum is clipped to [0, 1]. The noise of one image depends on the seed, the epoch
and the image's index in its file, and on nothing else: not on the batch it is in, the order of the
batches or the thread that makes it.

This module does not model the sky noise or the point spread function of a survey: that belongs to
the images themselves (see `galaxynb.standin.make`).
"""

import json
import numbers
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from galaxynb.files import write_json
from galaxynb.images import to_float

__all__ = [
    "STAR_COLOURS",
    "STAR_DTYPE",
    "NoiseModel",
]


#: Colour classes of injected stars; `STAR_DTYPE`'s field `colour` indexes this tuple.
STAR_COLOURS = ("white", "blue", "red")


#: One injected star. Position and radius in pixels, brightness and rgb in units of the image's
#: range [0, 1], `kernel` the side of its Gaussian blur kernel in pixels (odd).
STAR_DTYPE = np.dtype(
    [
        ("x", np.float32),
        ("y", np.float32),
        ("radius", np.float32),
        ("brightness", np.float32),
        ("rgb", np.float32, (3,)),
        ("kernel", np.int32),
        ("colour", np.int8),
    ]
)


SUBPIXEL_BITS = 4  # cv2.circle takes fixed-point positions: 1/16 px


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """Ranges of the injected stars and of the Gaussian noise.

    Every range is ``(low, high)`` and sampled uniformly. Lengths are fractions of the image side,
    so that a model means the same at every image size. The paper names what is random, in which
    colours and at 2:1:1, but gives no ranges: the defaults were chosen on the stand-in, as
    notebook 02 shows.

    Attributes
    ----------
    sigma : float
        Standard deviation of the Gaussian RGB noise, in units of the image's range [0, 1]. >= 0.
    n_stars : tuple of int
        Number of stars an image, both ends included.
    radius : tuple of float
        Radius of a star's disk before blurring, as a fraction of the image side.
    brightness : tuple of float
        Factor on the star's RGB values, in [0, 1].
    blur : tuple of float
        Side of the Gaussian blur kernel as a fraction of the image side; rounded to an odd number
        of pixels, 3 or more.
    white, blue, red : tuple of tuple of float
        Ranges of the R, G and B values of each colour class, in [0, 1].
    proportions : tuple of float
        Relative numbers of white, blue and red stars.

    Raises
    ------
    ValueError
        If a range is empty, negative or, for colours and brightness, beyond 1.
    """

    sigma: float = 0.15
    n_stars: tuple[int, int] = (14, 56)
    radius: tuple[float, float] = (0.014, 0.033)
    brightness: tuple[float, float] = (0.5, 1.0)
    blur: tuple[float, float] = (0.02, 0.07)
    white: tuple = ((0.9, 1.0), (0.9, 1.0), (0.9, 1.0))
    blue: tuple = ((0.45, 0.7), (0.6, 0.85), (0.9, 1.0))
    red: tuple = ((0.9, 1.0), (0.5, 0.75), (0.3, 0.55))
    proportions: tuple[float, float, float] = (2.0, 1.0, 1.0)

    def __post_init__(self):
        """Refuse ranges that mean nothing, by name."""
        if not (np.isfinite(self.sigma) and self.sigma >= 0):
            raise ValueError(f"sigma is {self.sigma}, but a standard deviation is 0 or more: give such a number")
        unit = {"radius": self.radius, "brightness": self.brightness, "blur": self.blur}
        for name in STAR_COLOURS:
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name} is {getattr(self, name)}, but three ranges, of R, G and B, are needed")
            unit |= {f"{name}[{band}]": limits for band, limits in zip("rgb", getattr(self, name), strict=True)}
        for name, limits in unit.items():
            if np.shape(limits) != (2,) or not 0 <= limits[0] <= limits[1] <= 1:
                raise ValueError(f"{name} is {limits}, but a range must satisfy 0 <= low <= high <= 1: change it")
        whole = all(isinstance(number, numbers.Integral) for number in np.ravel(self.n_stars))
        if np.shape(self.n_stars) != (2,) or not whole or not 0 <= self.n_stars[0] <= self.n_stars[1]:
            raise ValueError(f"n_stars is {self.n_stars}, but it must be two whole numbers, 0 <= low <= high")
        good = np.shape(self.proportions) == (3,) and np.all(np.isfinite(self.proportions))
        if not good or min(self.proportions) < 0 or sum(self.proportions) <= 0:
            raise ValueError(f"proportions is {self.proportions}, but three numbers >= 0, not all 0, are needed")

    def apply(self, images, seed, indices, *, epoch=0, return_stars=False, out=None):
        """Add stars, then Gaussian noise, to a batch of images.

        Parameters
        ----------
        images : ndarray, shape (N, H, W, 3)
            Clean images with H == W: uint8, or floating point in [0, 1].
        seed : int
            Seed of the study, >= 0.
        indices : array_like of int, shape (N,)
            Index of each image in its file, >= 0: what ties the noise to the image.
        epoch : int
            Training epoch. Test and validation images use 0, always.
        return_stars : bool
            Also return the injected stars.
        out : ndarray, shape (N, H, W, 3), float32, C-contiguous, or None
            Where the noisy images go; None makes a new array.

        Returns
        -------
        noisy : ndarray, shape (N, H, W, 3), float32
            In [0, 1]; `out`, if given.
        stars : list of ndarray of `STAR_DTYPE`
            One array an image; only if `return_stars`.

        Raises
        ------
        ValueError
            If shapes disagree, or `seed`, `epoch` or an index is negative, or `out` is no such array.
        TypeError
            If `images` is neither uint8 nor floating point.
        """
        images = np.asarray(images)
        indices = np.asarray(indices)
        if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
            raise ValueError(f"images has shape {images.shape}, but (N, H, H, 3) is needed: stack square RGB images")
        if indices.shape != images.shape[:1]:
            raise ValueError(
                f"indices has shape {indices.shape}, but {images.shape[:1]} is needed: give one index an image"
            )
        # OpenCV writes into such arrays only.
        noisy = np.empty(images.shape, np.float32) if out is None else out
        if noisy.shape != images.shape or noisy.dtype != np.float32 or not noisy.flags.c_contiguous:
            raise ValueError(
                f"out is {noisy.dtype} of shape {noisy.shape}, but C-contiguous float32 of shape {images.shape} is"
                " needed: give such an array, or none"
            )
        if images.dtype == np.uint8:
            to_float(images, out=noisy)
        elif np.issubdtype(images.dtype, np.floating):
            if images.size and not (images.min() >= 0 and images.max() <= 1):
                raise ValueError(
                    f"images range from {images.min()} to {images.max()}, but floats in [0, 1] are needed: scale them"
                )
            noisy[...] = images
        else:
            raise TypeError(f"images is {images.dtype}, but uint8 or floating point in [0, 1] is needed: convert it")
        generators = [_generator(seed, epoch, index) for index in indices]
        stars = self._draw_stars(generators, images.shape[1])
        disks = iter(star_disks(np.concatenate(stars)) if stars else ())
        # One array for all that is added: the system would have to find and clear memory for a fresh one each time.
        added = np.empty(noisy.shape[1:], np.float32)
        for image, own, rng in zip(noisy, stars, generators, strict=True):
            _add_stars(image, islice(disks, len(own)), added)
            self._add_gaussian(image, rng, added)
            np.clip(image, 0, 1, out=image)
        return (noisy, stars) if return_stars else noisy

    def write(self, path):
        """Write the model to `path` as JSON, for later stages to `read`."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path):
        """Read a model that `write` wrote.

        Parameters
        ----------
        path : str or os.PathLike

        Returns
        -------
        NoiseModel

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not such a model.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            # Each range by name, so that a file without one is refused and no default slips in.
            values = {field.name: values[field.name] for field in fields(cls)}
            return cls(**{name: _as_tuples(value) for name, value in values.items()})
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{path} is missing: it is made by notebooks/02_noise.ipynb; run that first, or `make book`"
            ) from None
        except (TypeError, AttributeError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is not a noise model ({error}): run notebooks/02_noise.ipynb again") from error

    def _draw_stars(self, generators, side):
        """Draw the stars of images of `side` pixels, each with its own generator: a list of arrays."""
        low, high = self.n_stars
        numbers_of = [int(rng.integers(low, high, endpoint=True)) for rng in generators]
        # One block of numbers a star, so that a star does not change with the stars after it. What follows from
        # them is reckoned for the whole batch at once.
        u = [rng.random((number, 9), dtype=np.float32) for rng, number in zip(generators, numbers_of, strict=True)]
        u = np.concatenate(u) if u else np.empty((0, 9), np.float32)
        stars = np.zeros(len(u), dtype=STAR_DTYPE)
        stars["x"] = u[:, 0] * side - 0.5
        stars["y"] = u[:, 1] * side - 0.5
        stars["radius"] = _between(self.radius, u[:, 2]) * side
        stars["brightness"] = _between(self.brightness, u[:, 3])
        kernel = _between(self.blur, u[:, 4]) * side
        stars["kernel"] = np.maximum(3, 2 * np.round((kernel - 1) / 2).astype(np.int32) + 1)
        edges = np.cumsum(self.proportions) / np.sum(self.proportions)
        stars["colour"] = np.minimum(np.searchsorted(edges, u[:, 5], side="right"), 2)
        ranges = np.array([self.white, self.blue, self.red], dtype=np.float32)[stars["colour"]]
        stars["rgb"] = ranges[..., 0] + u[:, 6:9] * (ranges[..., 1] - ranges[..., 0])
        return np.split(stars, np.cumsum(numbers_of[:-1])) if numbers_of else []

    def _add_gaussian(self, image, rng, added):
        """Add Gaussian noise to a float32 image in place; `added` is overwritten by it."""
        if self.sigma > 0:
            # OpenCV's generator is several times faster than numpy's; its state is this thread's own.
            # Negative seeds too: the sign of the first number it gives is that of the seed.
            cv2.setRNGSeed(int(rng.integers(-(2**31), 2**31)))
            cv2.add(image, cv2.randn(added, (0, 0, 0), (self.sigma,) * 3), dst=image)


def _generator(seed, epoch, index):
    for name, value in (("seed", seed), ("epoch", epoch), ("index", index)):
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} is {value!r}, but a whole number is needed: noise is keyed by counting numbers")
        if value < 0:
            raise ValueError(f"{name} is {value}, but 0 or more is needed: noise is keyed by counting numbers")
    return np.random.Generator(np.random.SFC64([int(seed), int(epoch), int(index)]))


def _as_tuples(value):
    """Turn JSON's lists back into tuples."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def _between(limits, u):
    low, high = limits
    return low + u * (high - low)


def star_disks(stars):
    """Return what OpenCV is told of each star's disk before it is blurred: centre, radius, colour; and its kernel."""
    scale = 1 << SUBPIXEL_BITS
    centres = np.rint(scale * np.stack([stars["x"], stars["y"]], axis=-1).astype(np.float64)).astype(int)
    # OpenCV's antialiased disks reach half a pixel too far, which would make the stars of small images larger.
    radii = np.rint(scale * np.maximum(stars["radius"].astype(np.float64) - 0.5, 0)).astype(int)
    colours = 255 * stars["brightness"][:, None] * stars["rgb"]
    return list(zip(centres.tolist(), radii.tolist(), colours.tolist(), stars["kernel"].tolist(), strict=True))


def draw_layers(disks, side):
    """Draw unblurred stars as filled, antialiased disks: a layer, (side, side, 3) uint8, for each kernel size."""
    layers = {}
    for centre, radius, colour, kernel in disks:
        if kernel not in layers:
            layers[kernel] = np.zeros((side, side, 3), dtype=np.uint8)
        cv2.circle(layers[kernel], centre, radius, colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
    return dict(sorted(layers.items()))


def _add_stars(image, disks, added):
    """Draw, blur and add stars to a float32 image in place; `added` is overwritten."""
    # One layer and one blur for all stars of a kernel size: the blur is linear.
    for kernel, layer in draw_layers(disks, image.shape[0]).items():
        added[:] = cv2.GaussianBlur(layer, (kernel, kernel), 0)
        cv2.scaleAdd(added, 1 / 255, image, dst=image)
