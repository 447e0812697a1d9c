"""The paper's two noise steps: injected stars, then Gaussian RGB noise.

OpenCV draws and blurs the stars, which are added to the cutout. Gaussian noise is added next, and the sum is clipped to
[0, 1]. One factor, the strength, multiplies everything that is added. The noise on an image depends only on the seed,
the epoch and the image's index in its file. It does not depend on the batch, on the order of the batches or on the
thread that computes it.

This module does not model the sky noise or the point spread function of a survey. Those are part of the images
themselves (see `galaxynb.standin.make`).
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
    "CALIBRATE",
    "STAR_COLOURS",
    "STAR_DTYPE",
    "SUBPIXEL_BITS",
    "WIDE_KERNEL",
    "NoiseModel",
    "blur_layer",
    "draw_layers",
    "star_disks",
]


#: Value of the parameter ``strength`` for a strength that is found on a run's own validation images.
CALIBRATE = "calibrate"


#: Colour classes of injected stars. The field ``colour`` of `STAR_DTYPE` is an index into this tuple.
STAR_COLOURS = ("white", "blue", "red")


#: One injected star. ``x``, ``y`` and ``radius`` are in pixels, ``brightness`` and ``rgb`` in units of the image's
#: range [0, 1]. ``kernel`` is the side of the Gaussian blur kernel in pixels, an odd number.
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


#: Blur kernels of this side and wider, in pixels, are applied in floating point.
WIDE_KERNEL = 21


#: Binary digits after the point in the fixed-point positions that `cv2.circle` takes, here in units of 1/16 px.
SUBPIXEL_BITS = 4


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """Ranges of the injected stars and of the Gaussian noise.

    Each range is ``(low, high)``, and values are drawn uniformly from it. Lengths are fractions of the image side, so
    that one model suits every image size. The paper says which properties are random and that white, blue and red stars
    are in the proportions 2:1:1, but it gives no ranges. The defaults were fitted to the paper's Table 2 with a
    classifier trained on the stand-in, as notebook 02 shows. The colours are our choice.

    Attributes
    ----------
    strength : float
        Factor on everything that is added, >= 0: the noisy image is image + strength * (stars + Gaussian noise),
        clipped to [0, 1]. Above 1, bright stars can saturate.
    sigma : float
        Standard deviation of the Gaussian RGB noise at strength 1, in units of the image's range [0, 1], >= 0.
    n_stars : tuple of int
        Number of stars per image, both ends included.
    radius : tuple of float
        Radius of a star's disk before blurring, as a fraction of the image side.
    brightness : tuple of float
        Factor on the star's RGB values, in [0, 1].
    blur : tuple of float
        Side of the Gaussian blur kernel as a fraction of the image side. It is rounded to an odd number of pixels, 3 or
        more.
    white, blue, red : tuple of tuple of float
        Ranges of the R, G and B values of each colour class, in [0, 1].
    proportions : tuple of float
        Relative numbers of white, blue and red stars, >= 0.

    Raises
    ------
    ValueError
        If `strength`, `sigma` or a proportion is negative, or a range is empty or leaves [0, 1] (`n_stars`: is
        negative).

    Examples
    --------
    Noise on a grey image, which is the same in every call with the same seed and index:

    >>> model = NoiseModel(sigma=0.1)
    >>> images = np.full((1, 32, 32, 3), 128, dtype=np.uint8)
    >>> noisy = model.apply(images, 42, [7])
    >>> noisy.shape, noisy.dtype
    ((1, 32, 32, 3), dtype('float32'))
    >>> bool((noisy == model.apply(images, 42, [7])).all()), bool((noisy == model.apply(images, 42, [8])).all())
    (True, False)
    """

    strength: float = 1.0
    sigma: float = 0.058
    n_stars: tuple[int, int] = (7, 17)
    radius: tuple[float, float] = (0.014, 0.043)
    brightness: tuple[float, float] = (0.3, 0.71)
    blur: tuple[float, float] = (0.047, 0.099)
    white: tuple = ((0.9, 1.0), (0.9, 1.0), (0.9, 1.0))
    blue: tuple = ((0.45, 0.7), (0.6, 0.85), (0.9, 1.0))
    red: tuple = ((0.9, 1.0), (0.5, 0.75), (0.3, 0.55))
    proportions: tuple[float, float, float] = (2.0, 1.0, 1.0)

    def __post_init__(self):
        """Raise an error that names the first impossible range."""
        for name in ("strength", "sigma"):
            value = getattr(self, name)
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not number or not np.isfinite(value) or value < 0:
                raise ValueError(f"{name} is {value!r}, but a finite number >= 0 is needed: change it")
        unit = {"radius": self.radius, "brightness": self.brightness, "blur": self.blur}
        for name in STAR_COLOURS:
            if len(getattr(self, name)) != 3:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but three ranges, of R, G and B, are needed: change it"
                )
            unit |= {f"{name}[{band}]": limits for band, limits in zip("rgb", getattr(self, name), strict=True)}
        for name, limits in unit.items():
            if np.shape(limits) != (2,) or not 0 <= limits[0] <= limits[1] <= 1:
                raise ValueError(f"{name} is {limits}, but (low, high) with 0 <= low <= high <= 1 is needed: change it")
        whole = all(isinstance(number, numbers.Integral) for number in np.ravel(self.n_stars))
        if np.shape(self.n_stars) != (2,) or not whole or not 0 <= self.n_stars[0] <= self.n_stars[1]:
            raise ValueError(
                f"n_stars is {self.n_stars}, but (low, high) with whole numbers 0 <= low <= high is needed: change it"
            )
        good = np.shape(self.proportions) == (3,) and np.all(np.isfinite(self.proportions))
        if not good or min(self.proportions) < 0 or sum(self.proportions) <= 0:
            raise ValueError(
                f"proportions is {self.proportions}, but three numbers >= 0, not all 0, are needed: change it"
            )

    @classmethod
    def from_profile(cls, values):
        """Return the noise model of a profile's section ``noise``, and whether its strength is to be calibrated.

        Parameters
        ----------
        values : dict
            Any of ``strength`` (a number, or `CALIBRATE`, which is the default), ``sigma``, ``fewest_stars`` and
            ``most_stars`` (the two ends of ``n_stars``), ``radius``, ``brightness`` and ``blur`` (lists of two
            numbers). What is missing has the default of this class.

        Returns
        -------
        model : NoiseModel
            The model. Its strength is 1 if it is to be calibrated.
        calibrate : bool
            Whether the strength is to be calibrated.

        Raises
        ------
        ValueError
            If a value is out of its range, or `values` has another key.

        Examples
        --------
        >>> model, calibrate = NoiseModel.from_profile({"sigma": 0.1, "fewest_stars": 2, "blur": [0.1, 0.3]})
        >>> model.n_stars == (2, NoiseModel().n_stars[1]), model.blur, calibrate
        (True, (0.1, 0.3), True)
        """
        known = ("strength", "sigma", "fewest_stars", "most_stars", "radius", "brightness", "blur")
        if unknown := sorted(values.keys() - {*known}):
            raise ValueError(
                f"{unknown[0]} is no parameter of the noise, but one of {', '.join(known)} is needed: correct it"
            )
        changes = {name: _as_tuples(value) for name, value in values.items() if not name.endswith("_stars")}
        ends = (values.get("fewest_stars"), values.get("most_stars"))
        changes["n_stars"] = tuple(d if end is None else end for end, d in zip(ends, cls().n_stars, strict=True))
        calibrate = changes.setdefault("strength", CALIBRATE) == CALIBRATE
        return cls(**changes | ({"strength": 1.0} if calibrate else {})), calibrate

    def apply(self, images, seed, indices, *, epoch=0, return_stars=False, out=None):
        """Add stars, then Gaussian noise, to a batch of images.

        Parameters
        ----------
        images : ndarray of uint8 or floating point, shape (N, H, H, 3)
            Clean images. Floating-point values are in [0, 1].
        seed : int
            Seed of the study, >= 0.
        indices : array_like of int, shape (N,)
            Index of each image in its file, >= 0. Each image keeps its noise wherever it is in a batch.
        epoch : int
            Training epoch, >= 0. Use 0 for validation and test images.
        return_stars : bool
            Whether to return the injected stars too.
        out : ndarray of float32, shape (N, H, H, 3), C-contiguous, or None
            Array that receives the noisy images. None makes a new array.

        Returns
        -------
        noisy : ndarray of float32, shape (N, H, H, 3)
            Noisy images in [0, 1]. This is `out` if it is given.
        stars : list of ndarray of `STAR_DTYPE`
            The stars of each image. They are returned only if `return_stars` is True.

        Raises
        ------
        ValueError
            If `images`, `indices` or `out` has another shape, floating-point images leave [0, 1], `out` is not
            C-contiguous float32, or `seed`, `epoch` or an index is negative.
        TypeError
            If `images` is neither uint8 nor floating point, or `seed`, `epoch` or an index is not a whole number.

        Examples
        --------
        >>> images = np.zeros((2, 32, 32, 3), dtype=np.uint8)
        >>> noisy, stars = NoiseModel(n_stars=(3, 3)).apply(images, 0, [0, 1], return_stars=True)
        >>> [len(of_image) for of_image in stars]
        [3, 3]
        """
        images = np.asarray(images)
        indices = np.asarray(indices)
        if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
            raise ValueError(f"images has shape {images.shape}, but (N, H, H, 3) is needed: stack square RGB images")
        if indices.shape != images.shape[:1]:
            raise ValueError(
                f"indices has shape {indices.shape}, but {images.shape[:1]} is needed: give one index per image"
            )
        # OpenCV can write only into C-contiguous arrays.
        noisy = np.empty(images.shape, np.float32) if out is None else out
        if noisy.shape != images.shape or noisy.dtype != np.float32 or not noisy.flags.c_contiguous:
            raise ValueError(
                f"out is {noisy.dtype} of shape {noisy.shape}, but C-contiguous float32 of shape {images.shape} is"
                " needed: give such an array, or None"
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
        # Reuse one array for everything that is added: for a new one, the system would clear memory each time.
        added = np.empty(noisy.shape[1:], np.float32)
        for image, own, rng in zip(noisy, stars, generators, strict=True):
            _add_stars(image, islice(disks, len(own)), added, strength=self.strength)
            self._add_gaussian(image, rng, added)
            np.clip(image, 0, 1, out=image)
        return (noisy, stars) if return_stars else noisy

    def write(self, path, *, calibrate=False):
        """Write the model to a JSON file, which later stages read with `read`.

        Parameters
        ----------
        path : str or os.PathLike
            Path of the file.
        calibrate : bool
            Whether the strength is yet to be found. The file then holds `CALIBRATE` in place of the strength. `read`
            refuses such a file, and `read_uncalibrated` accepts it.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     NoiseModel(sigma=0.1).write(Path(folder) / "noise.json")
        ...     NoiseModel.read(Path(folder) / "noise.json").sigma
        0.1
        """
        write_json(path, asdict(self) | ({"strength": CALIBRATE} if calibrate else {}))

    @classmethod
    def read(cls, path):
        """Read a model of known strength from a file that `write` wrote.

        Further entries of the file are ignored.

        Parameters
        ----------
        path : str or os.PathLike
            Path of the file.

        Returns
        -------
        NoiseModel
            The model.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file does not hold a noise model, or its strength is yet to be calibrated.
        """
        model, calibrate = cls.read_uncalibrated(path)
        if calibrate:
            raise ValueError(
                f"strength in {path} is {CALIBRATE!r}, but a number is needed: read the file that"
                " notebooks/04_autoencoder.ipynb writes"
            )
        return model

    @classmethod
    def read_uncalibrated(cls, path):
        """Read a model, and whether its strength is yet to be calibrated, from a file that `write` wrote.

        Parameters
        ----------
        path : str or os.PathLike
            Path of the file.

        Returns
        -------
        model : NoiseModel
            The model. Its strength is 1 if it is yet to be calibrated.
        calibrate : bool
            Whether the strength is yet to be calibrated.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file does not hold a noise model.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     NoiseModel(sigma=0.1).write(Path(folder) / "noise.json", calibrate=True)
        ...     model, calibrate = NoiseModel.read_uncalibrated(Path(folder) / "noise.json")
        >>> model.strength, calibrate
        (1.0, True)
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            # Look up each range by name: a file that lacks one is then refused instead of completed with a default.
            values = {field.name: values[field.name] for field in fields(cls)}
            calibrate = values["strength"] == CALIBRATE
            if calibrate:
                values["strength"] = 1.0
            return cls(**{name: _as_tuples(value) for name, value in values.items()}), calibrate
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{path} is missing, but a noise model is needed: run notebooks/02_noise.ipynb or `make book`"
            ) from None
        except (TypeError, AttributeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} is not a noise model ({error}), but one is needed: run notebooks/02_noise.ipynb again"
            ) from error

    def _draw_stars(self, generators, side):
        """Draw the stars of images of `side` pixels, each from its own generator; return one array for each image."""
        low, high = self.n_stars
        numbers_of = [int(rng.integers(low, high, endpoint=True)) for rng in generators]
        # Each star has its own block of random numbers, so adding stars never changes earlier ones. Derived values are
        # computed for the whole batch.
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
        """Add Gaussian noise to a float32 image in place; the noise overwrites `added`."""
        sigma = self.strength * self.sigma
        if sigma > 0:
            # OpenCV's generator is several times faster than NumPy's, and each thread has its own. Draw seeds of both
            # signs, because the first number that OpenCV draws has the sign of the seed.
            cv2.setRNGSeed(int(rng.integers(-(2**31), 2**31)))
            cv2.add(image, cv2.randn(added, (0, 0, 0), (sigma,) * 3), dst=image)


def _generator(seed, epoch, index):
    for name, value in (("seed", seed), ("epoch", epoch), ("index", index)):
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} is {value!r}, but a whole number is needed: convert it")
        if value < 0:
            raise ValueError(f"{name} is {value}, but 0 or more is needed: change it")
    return np.random.Generator(np.random.SFC64([int(seed), int(epoch), int(index)]))


def _as_tuples(value):
    """Convert the lists of a JSON file back to tuples."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def _between(limits, u):
    low, high = limits
    return low + u * (high - low)


def star_disks(stars):
    """Return the arguments of `cv2.circle` and the size of the blur kernel for each star.

    Parameters
    ----------
    stars : ndarray of `STAR_DTYPE`, shape (N,)
        Stars, with position and radius in pixels.

    Returns
    -------
    list of tuple
        Centre (x, y) and radius in units of 1/16 px, colour (R, G, B) in levels from 0 to 255, and side of the blur
        kernel in pixels.
    """
    scale = 1 << SUBPIXEL_BITS
    centres = np.rint(scale * np.stack([stars["x"], stars["y"]], axis=-1).astype(np.float64)).astype(int)
    # OpenCV's antialiased disks are half a pixel too large, which matters most in small images.
    radii = np.rint(scale * np.maximum(stars["radius"].astype(np.float64) - 0.5, 0)).astype(int)
    colours = 255 * stars["brightness"][:, None] * stars["rgb"]
    return list(zip(centres.tolist(), radii.tolist(), colours.tolist(), stars["kernel"].tolist(), strict=True))


def draw_layers(disks, side):
    """Draw stars before blurring, as filled, antialiased disks in one layer for each kernel size.

    Parameters
    ----------
    disks : iterable of tuple
        Disks from `star_disks`.
    side : int
        Side of the image in pixels.

    Returns
    -------
    dict of ndarray of uint8, shape (side, side, 3)
        Layer for each kernel size, sorted by kernel size. Values are from 0 to 255.
    """
    layers = {}
    for centre, radius, colour, kernel in disks:
        if kernel not in layers:
            layers[kernel] = np.zeros((side, side, 3), dtype=np.uint8)
        cv2.circle(layers[kernel], centre, radius, colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
    return dict(sorted(layers.items()))


def blur_layer(layer, kernel, *, out=None):
    """Blur a layer of stars.

    Parameters
    ----------
    layer : ndarray of uint8, shape (side, side, 3)
        Layer from `draw_layers`.
    kernel : int
        Side of the blur kernel in pixels, an odd number. OpenCV derives the standard deviation from it.
    out : ndarray of float32, shape (side, side, 3), or None
        Array that receives the blurred layer. None makes a new array.

    Returns
    -------
    ndarray of float32, shape (side, side, 3)
        Blurred layer, with values from 0 to 255. Small kernels round it to whole numbers. This is `out` if it is given.

    Examples
    --------
    >>> layer = np.zeros((64, 64, 3), np.uint8)
    >>> layer[32, 32] = 255
    >>> [round(float(blur_layer(layer, kernel).max()), 1) for kernel in (3, 31)]
    [64.0, 1.6]
    """
    blurred = np.empty(layer.shape, np.float32) if out is None else out
    if kernel < WIDE_KERNEL:
        blurred[:] = cv2.GaussianBlur(layer, (kernel, kernel), 0)
        return blurred
    # For 8-bit images, GaussianBlur computes in fixed point, which is slow and coarse for wide kernels.
    profile = cv2.getGaussianKernel(kernel, 0, cv2.CV_32F)
    return cv2.sepFilter2D(layer, cv2.CV_32F, profile, profile, dst=blurred)


def _add_stars(image, disks, added, *, strength):
    """Draw and blur stars, add `strength` times their light to a float32 image in place; `added` is overwritten."""
    # The blur is linear, so all stars with the same kernel size share one layer and one blur.
    for kernel, layer in draw_layers(disks, image.shape[0]).items():
        blur_layer(layer, kernel, out=added)
        cv2.scaleAdd(added, strength / 255, image, dst=image)
