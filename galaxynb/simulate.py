"""A synthetic stand-in for Galaxy10 DECaLS: the same layout, ten morphologies, made in minutes.

It lets the whole study run without the 2.5 GB file, and it holds what no real file has: the
noise-free images of the same galaxies. It is not a model of the galaxy population: no number
measured on it says anything about the sky.

Galaxies are drawn as fluxes in the bands g, r, z (nanomaggies a pixel), blurred by a PSF, given
stars, background galaxies and sky noise, and turned into RGB by the survey's own recipe.
Lengths are pixels of the published 256-px frame; another `image_size` shows the same field.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import io
import math
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import cv2
import numpy as np

from galaxynb import __version__, files, layout

__all__ = ["CLASS_RECIPES", "FIELD", "ClassRecipe", "Field", "class_counts", "make_standin", "survey_rgb"]


@dataclasses.dataclass(frozen=True)
class ClassRecipe:
    """Ranges a class's galaxies are drawn from: (low, high), uniform between them.

    Lengths are pixels of the 256-px frame, angles degrees, `mu` mag/arcsec2. Lengths and the
    clumpiness are uniform in their logarithm. Sizes, axis ratios and colours aim at those
    measured on 110 published images; the ranges of neighbouring classes overlap on purpose.
    """

    #: Half-light radius of the disc or spheroid, along the major axis.
    radius: tuple[float, float]
    #: Apparent axis ratio (edge-on: thickness of the disc).
    axis_ratio: tuple[float, float]
    #: Mean r-band surface brightness within the half-light radius; smaller is brighter.
    mu: tuple[float, float]
    #: g - r and r - z of the old stars (bulge, bar, smooth light).
    old: tuple[tuple[float, float], tuple[float, float]]
    #: g - r and r - z of the young stars (arms, clumps, outer disc).
    young: tuple[tuple[float, float], tuple[float, float]] = ((0.4, 0.7), (0.2, 0.45))
    #: Sersic index of the spheroid or bulge.
    sersic: tuple[float, float] = (1.0, 2.5)
    #: Share of the light in the bulge.
    bulge: tuple[float, float] = (0.0, 0.0)
    #: Half-light radius of the bulge in units of the disc's.
    bulge_radius: tuple[float, float] = (0.12, 0.25)
    #: Strength of the spiral arms, and the share of the light that is young.
    arms: tuple[float, float] = (0.0, 0.0)
    young_share: tuple[float, float] = (0.3, 0.6)
    #: Pitch angle of the arms, and the numbers of arms to choose from.
    pitch: tuple[float, float] = (10.0, 20.0)
    arm_numbers: tuple[int, ...] = (2,)
    #: Share of the light in a bar, and its half-length in units of the half-light radius.
    bar: tuple[float, float] = (0.0, 0.0)
    bar_length: tuple[float, float] = (0.55, 0.95)
    #: Standard deviation of ln(brightness) of patches.
    clumps: tuple[float, float] = (0.05, 0.15)
    #: Lopsidedness of the disc (m = 1 amplitude).
    lopsided: tuple[float, float] = (0.0, 0.1)


# g - r and r - z that give the published images' central RGB (class medians) through `survey_rgb`.
_RED = ((0.8, 1.02), (0.47, 0.7))
_MIXED = ((0.6, 1.02), (0.36, 0.7))

#: A recipe a class, in the order of `layout.CLASS_NAMES`.
#: Forms follow the usual parametrisations: Sersic spheroids, exponential discs, logarithmic arms,
#: bars of axis ratio about 0.3, sech2 edge-on discs.
CLASS_RECIPES = (
    ClassRecipe(  # Disturbed
        radius=(8, 19),
        axis_ratio=(0.4, 0.95),
        mu=(20.2, 21.7),
        old=((0.6, 0.95), (0.4, 0.65)),
        young=((0.3, 0.58), (0.15, 0.45)),
        young_share=(0.3, 0.65),
        bulge=(0.1, 0.4),
        clumps=(0.25, 0.65),
        lopsided=(0.3, 0.9),
    ),
    ClassRecipe(  # Merging
        radius=(5.5, 14),
        axis_ratio=(0.45, 0.95),
        mu=(19.6, 21.0),
        old=_RED,
        young=((0.45, 0.8), (0.25, 0.5)),
        sersic=(1.0, 3.5),
        clumps=(0.05, 0.3),
    ),
    ClassRecipe(  # Round Smooth
        radius=(5, 10),
        axis_ratio=(0.86, 1.0),
        mu=(19.5, 21.0),
        old=_MIXED,
        sersic=(1.0, 4.0),
    ),
    ClassRecipe(  # In-between Round Smooth
        radius=(6, 12),
        axis_ratio=(0.45, 0.8),
        mu=(19.4, 20.9),
        old=_MIXED,
        sersic=(1.0, 4.0),
    ),
    ClassRecipe(  # Cigar Shaped Smooth
        radius=(8, 15),
        axis_ratio=(0.22, 0.45),
        mu=(19.5, 20.8),
        old=_MIXED,
        sersic=(0.8, 2.2),
    ),
    ClassRecipe(  # Barred Spiral
        radius=(11, 28),
        axis_ratio=(0.55, 1.0),
        mu=(20.4, 21.7),
        old=_RED,
        young=((0.45, 0.7), (0.2, 0.45)),
        bulge=(0.06, 0.16),
        bulge_radius=(0.08, 0.14),
        arms=(0.5, 1.4),
        pitch=(9, 28),
        bar=(0.14, 0.3),
        clumps=(0.1, 0.35),
    ),
    ClassRecipe(  # Unbarred Tight Spiral
        radius=(10, 22),
        axis_ratio=(0.55, 1.0),
        mu=(20.0, 21.4),
        old=_RED,
        young=((0.5, 0.75), (0.25, 0.5)),
        bulge=(0.15, 0.4),
        bulge_radius=(0.12, 0.24),
        arms=(0.35, 1.2),
        pitch=(7, 14),
        arm_numbers=(2, 2, 3, 4),
        clumps=(0.1, 0.35),
    ),
    ClassRecipe(  # Unbarred Loose Spiral
        radius=(10, 30),
        axis_ratio=(0.42, 1.0),
        mu=(20.4, 22.0),
        old=((0.75, 1.0), (0.45, 0.68)),
        young=((0.35, 0.62), (0.15, 0.42)),
        bulge=(0.05, 0.2),
        bulge_radius=(0.1, 0.2),
        arms=(0.7, 2.0),
        young_share=(0.35, 0.65),
        pitch=(17, 34),
        arm_numbers=(2, 2, 2, 1, 3),
        clumps=(0.15, 0.5),
        lopsided=(0.0, 0.35),
    ),
    ClassRecipe(  # Edge-on without Bulge
        radius=(22, 54),
        axis_ratio=(0.05, 0.13),
        mu=(19.6, 21.2),
        old=((0.9, 1.15), (0.5, 0.75)),
        young=((0.45, 0.75), (0.2, 0.5)),
        bulge=(0.0, 0.06),
        bulge_radius=(0.15, 0.25),
        clumps=(0.08, 0.35),
    ),
    ClassRecipe(  # Edge-on with Bulge
        radius=(13, 34),
        axis_ratio=(0.07, 0.18),
        mu=(19.3, 20.7),
        old=((0.95, 1.22), (0.5, 0.75)),
        young=((0.6, 0.92), (0.3, 0.6)),
        bulge=(0.15, 0.5),
        bulge_radius=(0.16, 0.32),
        sersic=(1.2, 3.0),
        clumps=(0.05, 0.2),
    ),
)


@dataclasses.dataclass(frozen=True)
class Field:
    """What every cutout has besides its galaxy, at 0.262 arcsec/px in the 256-px frame.

    Numbers aim at those measured on 110 published images: sky 33-35 of 255, sky standard
    deviation 8-15 of 255, compact sources 2.4-6.2 px wide, 4-14 sources a frame.
    """

    #: arcsec/px: the cutouts' two scales, and the share of the coarser one.
    pixel_scales: tuple[float, float] = (0.262, 0.524)
    coarse_share: float = 0.07
    #: FWHM of the PSF in r (px, median and scatter of its logarithm); ratio of g and z to r.
    psf_fwhm: tuple[float, float] = (4.2, 0.13)
    psf_ratio: tuple[float, float, float] = (1.08, 1.0, 0.94)
    #: Sky noise in units of the stretched flux (scale x nanomaggies), and its scatter in ln.
    noise: tuple[float, float] = (0.0103, 0.2)
    #: Weight of a pixel's neighbours in the noise, for a correlation of about .25 at 1 px.
    noise_neighbour: float = 0.11
    #: Sky left over by the subtraction, same units: mean and standard deviation.
    sky: tuple[float, float] = (0.0008, 0.002)
    #: Stars and background galaxies a frame: mean, and shape of the gamma scatter.
    sources: tuple[float, float] = (17.0, 4.0)
    galaxy_share: float = 0.45
    #: Peak fluxes follow a power law N(>f) ~ f^-slope from the faintest peak (stretched units).
    source_peak: tuple[float, float] = (0.03, 12.0)
    source_slope: float = 0.75
    #: Half-light radius of background galaxies (px).
    galaxy_radius: tuple[float, float] = (1.0, 4.5)


FIELD = Field()

_BASE = 256  # px: the published frame, in which all lengths are given
_SCALES = np.array([6.0, 3.4, 2.2], np.float32)  # g, r, z
_OFFSET = 0.03
_SOFTENING = 20.0
_CHUNK = 16  # images a task
_MOFFAT_BETA = 3  # of the stars' wings; whole, because a product is faster than a power


def survey_rgb(g, r, z):
    """RGB of the fluxes, by the recipe the Legacy Surveys publish their pictures with (``dr2_rgb``).

    Parameters
    ----------
    g, r, z : array_like of float, one shape
        Fluxes in nanomaggies a pixel (mag = 22.5 - 2.5 log10 flux).

    Returns
    -------
    numpy.ndarray, shape (..., 3), float32 in [0, 1]
        Red from z, green from r, blue from g. No flux gives the sky's grey, 32.4 of 255.
    """
    scaled = [np.asarray(f, np.float32) * s + np.float32(_OFFSET) for f, s in zip((g, r, z), _SCALES, strict=True)]
    intensity = np.maximum(scaled[0], 0)
    intensity += np.maximum(scaled[1], 0)
    intensity += np.maximum(scaled[2], 0)
    # The floor only avoids 0/0: where all bands are negative the result is clipped to 0 anyway.
    intensity = np.maximum(intensity * np.float32(1 / 3), np.float32(1e-6))
    gain = np.arcsinh(intensity * np.float32(_SOFTENING))
    gain /= intensity
    gain *= np.float32(1 / math.sqrt(_SOFTENING))
    rgb = np.empty((*gain.shape, 3), np.float32)
    for channel, band in enumerate((2, 1, 0)):
        np.multiply(scaled[band], gain, out=rgb[..., channel])
    return np.clip(rgb, 0, 1, out=rgb)


def class_counts(n_images):
    """Images a class, in the real proportions, every class present.

    Parameters
    ----------
    n_images : int
        At least 10.

    Returns
    -------
    numpy.ndarray, shape (10,), int64
        Sums to `n_images`; `layout.CLASS_COUNTS` for 17,736.

    Raises
    ------
    ValueError
        If `n_images` is under 10.
    """
    classes = len(layout.CLASS_COUNTS)
    if n_images < classes:
        raise ValueError(f"n_images is {n_images}: give at least {classes}, one image a class")
    real = np.array(layout.CLASS_COUNTS, np.int64)
    share, rest = np.divmod(real * n_images, real.sum())
    # Largest remainder; ties go to the lower label.
    share[np.argsort(-rest, kind="stable")[: n_images - share.sum()]] += 1
    for empty in np.flatnonzero(share == 0):
        share[share.argmax()] -= 1
        share[empty] = 1
    return share


def make_standin(path, n_images, image_size=256, seed=0, workers=None, progress=True):
    """Write a stand-in in the Galaxy10 DECaLS layout.

    Image `i` depends on `seed`, `i` and its label alone, so a file's content is the same
    whatever `workers`.

    Parameters
    ----------
    path : str or os.PathLike
        The HDF5 file to write. Its folder is created; an earlier file is replaced on success.
    n_images : int
        At least 10, so that every class is present; 17,736 gives the real class counts.
    image_size : int
        Side of the images in pixels, at least 32. The field of view stays that of 256 px, and
        the column `pxscale` that of the 256-px frame.
    seed : int
        Not negative.
    workers : int, optional
        Processes that render; 1 renders in this process. All available cores by default. They
        are spawned, so a script must call this under ``if __name__ == "__main__":``.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    pathlib.Path
        `path`. Besides the published columns the file holds `truth`: `images` without sky noise.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not an integer, or out of its range.
    RuntimeError
        If a worker process dies.
    OSError
        If the file can't be written.
    """
    given = {"n_images": n_images, "image_size": image_size, "seed": seed, "workers": workers}
    for name, value in given.items():
        if not isinstance(value, (int, np.integer)) and not (name == "workers" and value is None):
            raise TypeError(f"{name} is {value!r}: give an integer")
    counts = class_counts(n_images)
    if image_size < 32:
        raise ValueError(f"image_size is {image_size}: give at least 32 pixels")
    if seed < 0:
        raise ValueError(f"seed is {seed}: give an integer of at least 0")
    if workers is None:
        # A process takes about as long to start as 64 images to render.
        workers = min(_available_cores(), math.ceil(n_images / 64))
    elif workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1, or None for all cores")
    path = Path(path)
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    try:
        with files.written_aside(path) as aside:
            _write(aside, labels, int(image_size), int(seed), workers, progress)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"can't write {path} ({reason}): free some space or choose another path") from error
    return path


def _write(path, labels, size, seed, workers, progress):
    import h5py
    from tqdm import tqdm

    tasks = [(seed, start, labels[start : start + _CHUNK], size) for start in range(0, len(labels), _CHUNK)]
    columns = np.empty((len(labels), len(layout.FLOAT_COLUMNS)))
    with (
        _Disk(path, "w+") as disk,
        h5py.File(disk, "w") as out,
        contextlib.closing(_rendered(tasks, min(workers, len(tasks)))) as blocks,
        tqdm(total=len(labels), disable=not progress, unit="image", desc="stand-in") as bar,
    ):
        out.attrs[layout.STANDIN_ATTRIBUTE] = f"galaxynb {__version__}, seed {seed}"
        out[layout.LABELS] = labels
        for name in (layout.IMAGES, layout.TRUTH):
            # One image a chunk: it can be read in any order. lzf keeps up with the rendering.
            shape = (len(labels), size, size, 3)
            out.create_dataset(name, shape, np.uint8, chunks=(1, *shape[1:]), compression="lzf")
        for (_, start, part, _), (images, truth, values) in zip(tasks, blocks, strict=True):
            rows = slice(start, start + len(part))
            out[layout.IMAGES][rows] = images
            out[layout.TRUTH][rows] = truth
            columns[rows] = values
            disk.check()
            bar.update(len(part))
        for name, column in zip(layout.FLOAT_COLUMNS, columns.T, strict=True):
            out[name] = column
    disk.check()  # closing writes too


class _Disk(io.FileIO):
    """A file that keeps the first failure to write for `check`, and takes no more from then on.

    HDF5 can't close a file on a full disk: it may end the whole process later.
    """

    _failure = None

    def write(self, data):
        rest = memoryview(data).cast("B")
        try:
            while self._failure is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._failure = error
        return len(data)

    def truncate(self, size=None):
        if self._failure is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self._failure = error
        return size

    def check(self):
        """Raise the first failure."""
        if self._failure is not None:
            raise self._failure


def _available_cores():
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _rendered(tasks, workers):
    """Yield the rendered tasks in order, with at most a few of them in memory."""
    if workers == 1:
        for task in tasks:
            yield _render_block(*task)
        return
    # "spawn", because the parent may hold threads (TensorFlow's, a notebook's) that a fork would break.
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    waiting = collections.deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(_render_block, *task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        raise RuntimeError(
            "a worker process of make_standin died: nothing was written; run it again with fewer workers if "
            "memory was short, and call it under `if __name__ == '__main__':` from a script"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker():
    cv2.setNumThreads(1)
    # An interrupted notebook interrupts its children too: the parent alone ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A pool's processes outlive a killed parent unless they watch it.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def _render_block(seed, start, labels, size):
    images = np.empty((len(labels), size, size, 3), np.uint8)
    truth = np.empty_like(images)
    values = np.empty((len(labels), len(layout.FLOAT_COLUMNS)))
    for k, label in enumerate(labels):
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(start + k,))))
        images[k], truth[k], values[k] = _render(rng, CLASS_RECIPES[label], int(label), size)
    return images, truth, values


def _render(rng, recipe, label, size):
    """One cutout: image and truth, (S, S, 3) uint8, and its float columns."""
    zoom = size / _BASE
    coarse = rng.random() < FIELD.coarse_share
    pixel = FIELD.pixel_scales[int(coarse)]
    seeing = FIELD.psf_fwhm[0] * math.exp(rng.normal(0, FIELD.psf_fwhm[1]))
    fwhm = seeing * zoom * FIELD.pixel_scales[0] / pixel

    sky = np.zeros((3, size, size), np.float32)
    radius = _paint_galaxy(sky, rng, recipe, label, zoom)
    for band in range(3):
        sigma = max(fwhm * FIELD.psf_ratio[band] / 2.355, 0.3)
        cv2.GaussianBlur(sky[band], (0, 0), sigma, dst=sky[band], borderType=cv2.BORDER_REPLICATE)
    _add_sources(sky, rng, fwhm, zoom, coarse)
    sky += (rng.normal(*FIELD.sky) / _SCALES)[:, None, None]
    truth = _to_uint8(sky)
    _add_noise(sky, rng, zoom, coarse)
    image = _to_uint8(sky)

    redshift = 0.06 * (14 / radius) ** 0.6 * math.exp(0.35 * rng.standard_normal())
    dec = math.degrees(math.asin(rng.uniform(math.sin(math.radians(-20)), math.sin(math.radians(33)))))
    return image, truth, (rng.uniform(0, 360), dec, redshift, pixel)


def _to_uint8(bands):
    return cv2.convertScaleAbs(survey_rgb(*bands), alpha=255)  # rounds to the nearest


# Drawing galaxies. Positions are pixels of the 256-px frame from its centre.


def _log_uniform(rng, bounds):
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def _color(rng, bounds):
    """Fluxes in (g, r, z) for 1 in r, with g - r and r - z rising together."""
    t = rng.random()
    g_r, r_z = (low + (high - low) * min(max(t + 0.1 * rng.standard_normal(), 0), 1) for low, high in bounds)
    return np.array([10 ** (-0.4 * g_r), 1.0, 10 ** (0.4 * r_z)], np.float32)


def _flux(mu, radius, axis_ratio):
    """Total r flux (nanomaggies) of a galaxy of mean surface brightness mu within its half-light radius."""
    per_pixel = 10 ** ((22.5 - mu) / 2.5) * FIELD.pixel_scales[0] ** 2
    return 2 * math.pi * radius**2 * axis_ratio * per_pixel


class _Window:
    """The part of the canvas a galaxy can reach, with its coordinates."""

    def __init__(self, canvas, zoom, place, reach):
        x, y = map(float, place)
        size = canvas.shape[-1]
        middle = (size - 1) / 2
        low = [max(0, math.floor(middle + (c - reach) * zoom)) for c in (y, x)]
        high = [min(size, math.ceil(middle + (c + reach) * zoom) + 1) for c in (y, x)]
        self.zoom = zoom
        self.canvas = canvas[:, low[0] : high[0], low[1] : high[1]]
        self.y = ((np.arange(low[0], high[0], dtype=np.float32) - middle) / zoom - y)[:, None]
        self.x = ((np.arange(low[1], high[1], dtype=np.float32) - middle) / zoom - x)[None, :]

    def rotated(self, angle, axis_ratio=1.0):
        """Coordinates along the major axis and, stretched to the plane, along the minor one."""
        c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        stretch = np.float32(1 / axis_ratio)
        return self.x * c + self.y * s, (self.y * c - self.x * s) * stretch

    def add(self, profile, flux, color):
        """Add a profile of any norm with this total r flux, in pixels of the 256-px frame."""
        total = float(profile.sum())
        if total > 0:
            for band in range(3):
                # Flux a 256-px-frame pixel: surface brightness doesn't depend on image_size.
                self.canvas[band] += profile * np.float32(flux * color[band] * self.zoom**2 / total)

    def patches(self, rng, cells, deviation):
        """Smooth random field of exp(normal): the clumpiness of star formation."""
        coarse = rng.standard_normal((cells, cells), np.float32)
        coarse *= np.float32(deviation)
        height, width = self.canvas.shape[1:]
        return np.exp(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def _sersic(u, v, radius, index):
    """Sersic profile, 1 at the half-light radius; softened at the centre by a third of a pixel."""
    b = 2 * index - 1 / 3 + 0.009876 / index
    r2 = (u * u + v * v + np.float32(0.1)) * np.float32(1 / radius**2)
    # r2 ** (0.5 / index), by the faster pair of functions.
    np.log(r2, out=r2)
    r2 *= np.float32(0.5 / index)
    np.exp(r2, out=r2)
    r2 -= 1
    r2 *= np.float32(-b)
    return np.exp(r2, out=r2)


def _paint_galaxy(canvas, rng, recipe, label, zoom):
    """Draw one galaxy of the class and return its half-light radius."""
    radius = _log_uniform(rng, recipe.radius)
    ratio = rng.uniform(*recipe.axis_ratio)
    # The flux of a thin disc is that of one at least as thick as the PSF makes it.
    flux = _flux(rng.uniform(*recipe.mu), radius, max(ratio, 0.12))
    place = rng.normal(0, 1.5, 2)
    _PAINTERS[label](canvas, rng, recipe, zoom, place, radius, ratio, flux)
    return radius


def _paint_smooth(canvas, rng, recipe, zoom, place, radius, ratio, flux):
    window = _Window(canvas, zoom, place, 8 * radius)
    u, v = window.rotated(rng.uniform(0, math.pi), ratio)
    profile = _sersic(u, v, radius, rng.uniform(*recipe.sersic))
    # "Smooth" is what a volunteer sees: discs with faint structure are among them.
    profile *= window.patches(rng, int(rng.integers(16, 32)), _log_uniform(rng, recipe.clumps))
    window.add(profile, flux, _color(rng, recipe.old))


def _paint_spiral(canvas, rng, recipe, zoom, place, radius, ratio, flux):
    """Disc with logarithmic arms, a bulge, and a bar where the recipe has one."""
    window = _Window(canvas, zoom, place, 5 * radius)
    angle = rng.uniform(0, math.pi)
    u, v = window.rotated(angle, ratio)
    old, young = _color(rng, recipe.old), _color(rng, recipe.young)
    bulge, bar = rng.uniform(*recipe.bulge), rng.uniform(*recipe.bar)
    young_share = rng.uniform(*recipe.young_share)
    scale = radius / 1.68  # scale length of an exponential disc
    r, theta = cv2.cartToPolar(u, v)
    r += np.float32(0.3)

    bar_angle = rng.uniform(0, math.pi)
    bar_length = rng.uniform(*recipe.bar_length) * radius
    handed = rng.choice((-1.0, 1.0))
    number = int(rng.choice(recipe.arm_numbers))
    pitch = math.tan(math.radians(rng.uniform(*recipe.pitch)))
    start = bar_length if bar else 0.25 * radius
    # ln r counted from where the arms start: a bar's arms leave from its ends.
    winding = np.log(r * np.float32(1 / start))
    phase = theta - np.float32(bar_angle) - winding * np.float32(handed / pitch)
    wobble = np.log(window.patches(rng, int(rng.integers(6, 12)), rng.uniform(0.1, 0.45)))
    strength = rng.uniform(*recipe.arms)
    wave = np.cos(phase * np.float32(number) + wobble * 2)
    inner = r * r
    inner /= inner + np.float32((0.7 * start) ** 2)
    arms = np.exp((wave - 1) * np.float32(1.6 * strength))
    arms *= inner
    clumps = window.patches(rng, int(rng.integers(14, 30)), _log_uniform(rng, recipe.clumps))
    lopsided = rng.uniform(*recipe.lopsided)
    tilt = 1 + np.cos(theta - np.float32(rng.uniform(0, 2 * math.pi))) * inner * np.float32(lopsided)

    light = flux * (1 - bulge - bar)
    disc = np.exp(r * np.float32(-1 / scale))
    window.add(disc * (1 + arms * np.float32(strength)), light * (1 - young_share), old * 0.7 + young * 0.3)
    # Young stars reach further out than the old disc.
    outer = np.exp(r * np.float32(-1 / (1.25 * scale)))
    window.add(outer * arms * clumps * tilt, light * young_share, young)
    if bulge > 0:
        # A bulge is rounder than the disc it sits in.
        bulge_u, bulge_v = window.rotated(angle, 0.5 + 0.5 * ratio)
        bulge_r = rng.uniform(*recipe.bulge_radius) * radius
        window.add(_sersic(bulge_u, bulge_v, bulge_r, rng.uniform(*recipe.sersic)), flux * bulge, old)
    if bar > 0:
        c, s = np.float32(math.cos(bar_angle)), np.float32(math.sin(bar_angle))
        along, across = (u * c + v * s) * np.float32(1 / bar_length), v * c - u * s
        across *= np.float32(1 / (bar_length * rng.uniform(0.2, 0.36)))
        across *= across
        along *= along
        across += along * along  # flat along, steep at the ends
        np.multiply(across, -1, out=across)
        window.add(np.exp(across, out=across), flux * bar, old)
        if rng.random() < 0.35:  # an inner ring around the bar
            ring = (r - np.float32(1.05 * bar_length)) * np.float32(1 / (0.2 * bar_length))
            ring *= ring
            window.add(np.exp(-ring), flux * rng.uniform(0.04, 0.12), old * 0.5 + young * 0.5)


def _paint_edge_on(canvas, rng, recipe, zoom, place, radius, ratio, flux):
    """Edge-on disc, sech2 across, with a slight warp and at times a dust lane; and a bulge."""
    window = _Window(canvas, zoom, place, 4.5 * radius)
    u, v = window.rotated(rng.uniform(0, math.pi))
    old, young = _color(rng, recipe.old), _color(rng, recipe.young)
    bulge = rng.uniform(*recipe.bulge)
    scale, height = radius / 1.4, max(radius * ratio, 1.0)
    distance = np.abs(u) * np.float32(1 / scale)
    warp = rng.normal(0, 0.012)
    bent = v - distance * distance * np.float32(warp * radius) * np.sign(u)
    across = np.exp(np.minimum(np.abs(bent) * np.float32(1 / height), 20))
    across = 4 / (across + 1 / across) ** 2
    clumps = window.patches(rng, int(rng.integers(18, 40)), _log_uniform(rng, recipe.clumps))
    edge = distance * np.float32(0.36)
    edge *= edge
    disc = np.exp(-distance - edge * edge) * across
    lane = None
    if rng.random() < 0.5:
        depth = rng.uniform(0.3, 0.8)
        offset = np.float32(rng.uniform(-0.4, 0.4) * height)
        lane = (bent - offset) * np.float32(1 / (0.35 * height + 0.5))
        lane = np.exp(-lane * lane - 0.2 * distance) * np.float32(depth)
    share = rng.uniform(0.35, 0.65)
    light = flux * (1 - bulge)
    window.add(disc, light * (1 - share), old)
    window.add(disc * clumps * (0.3 + distance), light * share, young)
    if bulge > 0:
        size = max(rng.uniform(*recipe.bulge_radius) * radius, 2.0)
        squash = np.float32(1 / rng.uniform(0.55, 0.9))
        window.add(_sersic(u, v * squash, size, rng.uniform(*recipe.sersic)), flux * bulge, old)
    if lane is not None:
        for band, opacity in enumerate((1.0, 0.75, 0.45)):
            window.canvas[band] *= 1 - lane * np.float32(opacity)


def _paint_disturbed(canvas, rng, recipe, zoom, place, radius, ratio, flux):
    """Clumpy, lopsided, bent disc with an off-centre core, often with tails or a shell."""
    window = _Window(canvas, zoom, place, 6 * radius)
    angle = rng.uniform(0, 2 * math.pi)
    u, v = window.rotated(angle, ratio)
    old, young = _color(rng, recipe.old), _color(rng, recipe.young)
    share, bulge, lopsided = (rng.uniform(*b) for b in (recipe.young_share, recipe.bulge, recipe.lopsided))
    core = _sersic(u, v, max(rng.uniform(0.15, 0.3) * radius, 1.5), rng.uniform(*recipe.sersic))

    bend = np.float32(rng.uniform(0.03, 0.3) * rng.choice((-1, 1)) / radius)
    # A banana or an S.
    v = v + u * (u if rng.random() < 0.5 else np.abs(u)) * bend
    shift = lopsided * radius * 0.5
    clumps = _log_uniform(rng, recipe.clumps)
    disc = _sersic(u + np.float32(shift), v, radius, 1.0) * window.patches(rng, int(rng.integers(8, 20)), clumps)
    side = np.float32(rng.uniform(-0.4, 0.4) * radius)
    knots = _sersic(u - np.float32(0.6 * shift), v + side, 0.8 * radius, 0.7)
    knots *= window.patches(rng, int(rng.integers(16, 40)), 1.5 * clumps)
    window.add(disc, flux * (1 - bulge) * (1 - share), old * 0.6 + young * 0.4)
    window.add(knots, flux * (1 - bulge) * share, young)
    window.add(core, flux * bulge, old)
    if rng.random() < 0.3:
        # A shell: one side of a faint ring.
        r, theta = cv2.cartToPolar(u, v)
        ring = (r - np.float32(rng.uniform(1.6, 2.8) * radius)) * np.float32(1 / (0.35 * radius))
        shell = np.exp(-ring * ring + 2 * np.cos(theta - np.float32(rng.uniform(0, 6.28))) - 2)
        window.add(shell, flux * rng.uniform(0.02, 0.08), old)
    for _ in range(int(rng.integers(0, 3))):
        way = angle + rng.choice((0, math.pi)) + rng.normal(0, 0.4)
        _paint_tail(window, rng, (0.0, 0.0), way, radius, flux * rng.uniform(0.05, 0.15), young)


def _paint_merger(canvas, rng, recipe, zoom, place, radius, ratio, flux):
    """Two galaxies a few radii apart in a common halo, with tidal tails."""
    separation = max(rng.uniform(1.0, 3.2) * radius, 8.0)
    direction = rng.uniform(0, 2 * math.pi)
    way = np.array([math.cos(direction), math.sin(direction)])
    # The cutout is centred on one of them or between the two.
    lean = rng.choice((0.0, 0.15, 0.5))
    share = rng.uniform(0.2, 0.55)
    colors = _color(rng, recipe.old), _color(rng, recipe.old if rng.random() < 0.6 else recipe.young)
    for k, (part, along) in enumerate(((1 - share, -lean), (share, 1 - lean))):
        size = radius * math.sqrt(part) * rng.uniform(0.7, 1.1)
        centre = place + way * (separation * along)
        window = _Window(canvas, zoom, centre, 7 * size)
        u, v = window.rotated(rng.uniform(0, math.pi), rng.uniform(*recipe.axis_ratio))
        profile = _sersic(u, v, size, rng.uniform(*recipe.sersic))
        profile *= window.patches(rng, int(rng.integers(8, 20)), _log_uniform(rng, recipe.clumps))
        window.add(profile, flux * part, colors[k])
        if rng.random() < 0.6:
            whole = _Window(canvas, zoom, place, 9 * radius)
            away = direction + (math.pi if k == 0 else 0) + rng.normal(0, 0.8)
            tail = colors[k] * 0.4 + _color(rng, recipe.young) * 0.6
            _paint_tail(whole, rng, centre - place, away, 1.4 * size, flux * part * rng.uniform(0.08, 0.25), tail)
    window = _Window(canvas, zoom, place + way * (separation * (0.5 - lean)), 7 * radius)
    u, v = window.rotated(direction, rng.uniform(0.6, 0.95))
    halo = _sersic(u, v, 1.8 * radius, 0.9) * window.patches(rng, 6, 0.5)
    window.add(halo, flux * rng.uniform(0.1, 0.4), colors[0])


def _paint_tail(window, rng, origin, angle, radius, flux, color):
    """Draw a curved tail that leaves `origin` at `angle`, thinning and fading outwards."""
    steps = np.linspace(0, 1, 24)
    length = rng.uniform(1.8, 4.5) * radius
    turn = rng.uniform(0.3, 2.4) * rng.choice((-1, 1))
    heading = angle + turn * steps
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], -1), 0) * (length / len(steps)) + origin
    # Canvas coordinates of the window, in 1/8 pixels for OpenCV's drawing.
    pixels = (points - (float(window.x[0, 0]), float(window.y[0, 0]))) * window.zoom
    layer = np.zeros(window.canvas.shape[1:], np.float32)
    fixed = np.round(pixels * 8).astype(np.int32)
    for k in range(len(fixed) - 1):
        width = max(1, round((0.45 - 0.3 * steps[k]) * radius * window.zoom))
        value = math.exp(-2.2 * steps[k])
        cv2.line(layer, fixed[k].tolist(), fixed[k + 1].tolist(), value, width, shift=3)
    cv2.GaussianBlur(layer, (0, 0), max(0.2 * radius * window.zoom, 0.5), dst=layer)
    window.add(layer, flux, color)


_PAINTERS = (
    _paint_disturbed,
    _paint_merger,
    *[_paint_smooth] * 3,
    *[_paint_spiral] * 3,
    *[_paint_edge_on] * 2,
)


# The field and the sky.


def _add_sources(sky, rng, fwhm, zoom, coarse):
    """Add stars (Moffat) and background galaxies (the same, wider and flattened)."""
    size = sky.shape[-1]
    mean, shape = FIELD.sources
    number = rng.poisson(mean * (1.5 if coarse else 1) * rng.gamma(shape, 1 / shape))
    low, high = FIELD.source_peak
    for _ in range(number):
        peak = min(low * rng.random() ** (-1 / FIELD.source_slope), high)
        x, y = rng.uniform(0, size, 2)
        width, ratio, angle = fwhm, 1.0, 0.0
        if rng.random() < FIELD.galaxy_share:
            color = _color(rng, ((0.3, 1.2), (0.2, 1.0)))
            peak = min(peak, 1.0)
            extent = _log_uniform(rng, FIELD.galaxy_radius) * zoom * (0.6 if coarse else 1)
            width, ratio, angle = math.hypot(fwhm, 1.6 * extent), rng.uniform(0.4, 1), rng.uniform(0, math.pi)
        else:
            color = _color(rng, ((0.1, 1.5), (-0.1, 1.7)))
            if peak > 1.5:
                # Saturated cores have arbitrary colours in the published images.
                g, r, z = rng.normal(0, 0.35, 3)
                color = color * np.exp([g, abs(r), z]).astype(np.float32)
        core = width / (2 * math.sqrt(2 ** (1 / _MOFFAT_BETA) - 1))
        # Out to where the wings drown in the noise.
        reach = core * max(1.5, (peak / 0.002) ** (0.5 / _MOFFAT_BETA))
        top, left = max(0, math.floor(y - reach)), max(0, math.floor(x - reach))
        bottom, right = min(size, math.ceil(y + reach) + 1), min(size, math.ceil(x + reach) + 1)
        dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
        dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
        c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        u, v = dx * c + dy * s, (dy * c - dx * s) * np.float32(1 / ratio)
        r2 = (u * u + v * v) * np.float32(1 / core**2) + 1
        profile = 1 / (r2 * r2 * r2)  # r2 ** -_MOFFAT_BETA
        stretched = color * _SCALES
        weight = color * np.float32(peak / stretched.mean())
        sky[:, top:bottom, left:right] += profile * weight[:, None, None]


def _add_noise(sky, rng, zoom, coarse):
    """Add Gaussian noise, slightly correlated between neighbouring pixels."""
    side = FIELD.noise_neighbour
    kernel = np.array([side, 1, side], np.float32)
    kernel /= math.sqrt(float((kernel**2).sum()))
    level = FIELD.noise[0] * math.exp(FIELD.noise[1] * rng.standard_normal())
    # Larger pixels average the noise of the survey's own: 1.4 for its correlation.
    level *= min(1.0, 1.4 * zoom) * (0.7 if coarse else 1.0)
    noise = rng.standard_normal(sky.shape, np.float32)
    for band in range(3):
        scatter = math.exp(0.08 * rng.standard_normal())
        smooth = cv2.sepFilter2D(noise[band], -1, kernel, kernel, borderType=cv2.BORDER_REFLECT)
        smooth *= np.float32(level * scatter / _SCALES[band])
        sky[band] += smooth
