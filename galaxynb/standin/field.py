"""Draw a whole cutout: the galaxy, the sky around it and the effects of the camera, in the colours of the survey.

`draw_cutout` takes galaxies from `galaxynb.standin.galaxies` and adds background galaxies, the PSF of each band,
stars, correlated sky noise and rare faults. `survey_rgb` converts fluxes to RGB as the Legacy Surveys do.
"""

import math

import cv2
import numpy as np

from galaxynb.standin.galaxies import NATIVE_SCALE, Galaxy, draw_galaxy, log_normal, paint_galaxy
from galaxynb.standin.ranges import AMBIGUOUS_SHARE, CLASS_RANGES, CONFUSED_WITH, SURVEY
from galaxynb.standin.sky import add_sky_noise, draw_sky
from galaxynb.standin.viewer import viewer_jpeg

__all__ = ["BASE", "draw_cutout", "extent", "random_stream", "survey_rgb"]


BASE = 256  # px: side of the published frames

# Constants m, Q and scales of the Legacy Surveys' dr2_rgb.
_SCALES = np.array([6.0, 3.4, 2.2], np.float32)  # of the fluxes in g, r, z

_OFFSET = 0.03  # m

_SOFTENING = 20.0  # Q


def random_stream(seed, *key):
    """Return the random generator of one image, or of one other use, of a stand-in.

    Parameters
    ----------
    seed : int or sequence of int
        Seed of the stand-in, not negative.
    *key : int
        What the numbers are for. Streams with different keys are independent. The key of an image of a stand-in file
        is its row alone. All other keys have two numbers or more. The first number is 0 in `galaxynb.standin.make`,
        2 in `galaxynb.standin.closeness`, 3 in `galaxynb.standin.fitting` and 4 in `galaxynb.standin.sky_fit`.

    Returns
    -------
    numpy.random.Generator

    Examples
    --------
    >>> bool(random_stream(0, 1).random() == random_stream(0, 2).random())
    False
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


def survey_rgb(g, r, z):
    """Convert fluxes to RGB with the function that makes the published Legacy Surveys images (``dr2_rgb``).

    Parameters
    ----------
    g, r, z : array_like of float, shape (...)
        Fluxes in nanomaggies per pixel (mag = 22.5 - 2.5 log10 flux). All three have the same shape.

    Returns
    -------
    ndarray of float32, shape (..., 3)
        Red from z, green from r and blue from g, values 0 to 1. Zero flux gives the grey of the sky, 32.4 / 255.
    """
    scaled = [np.asarray(f, np.float32) * s + np.float32(_OFFSET) for f, s in zip((g, r, z), _SCALES, strict=True)]
    intensity = np.maximum(scaled[0], 0)
    intensity += np.maximum(scaled[1], 0)
    intensity += np.maximum(scaled[2], 0)
    # The floor avoids 0 / 0. It changes no result: where all bands are negative, RGB is clipped to 0.
    intensity = np.maximum(intensity * np.float32(1 / 3), np.float32(1e-6))
    gain = np.arcsinh(intensity * np.float32(_SOFTENING))
    gain /= intensity
    gain *= np.float32(1 / math.sqrt(_SOFTENING))
    rgb = np.empty((*gain.shape, 3), np.float32)
    for channel, band in enumerate((2, 1, 0)):
        np.multiply(scaled[band], gain, out=rgb[..., channel])
    return np.clip(rgb, 0, 1, out=rgb)


def draw_cutout(rng, label, *, size=256, ranges=None, sky=None):
    """Draw a cutout of a class.

    Parameters
    ----------
    rng : numpy.random.Generator
    label : int
        Class, 0 to 9.
    size : int, optional
        Side of the image in pixels. The field of view stays that of 256 px.
    ranges : galaxynb.standin.ranges.ClassRanges, optional
        Ranges to draw the central galaxy from. With them, no galaxy is ambiguous. The default is the ranges of the
        class, or for a few ambiguous galaxies those of another class.
    sky : galaxynb.standin.sky.FrameSky, optional
        Sky of the frame. The default is a sky drawn with `rng`.

    Returns
    -------
    image : ndarray of uint8, shape (size, size, 3)
        RGB cutout, values 0 to 255. If `size` is 256, it is rounded as `viewer_jpeg` does.
    truth : ndarray of uint8, shape (size, size, 3)
        The same cutout without sky noise, satellite trail, chip edge and JPEG.
    galaxies : tuple of galaxynb.standin.galaxies.Galaxy
        The central galaxy, or the members of the central pair.
    pixel_scale : float
        Pixel scale of the 256-px frame in arcsec/px: one of `SURVEY.pixel_scales`.
    """
    ambiguous = rng.random() < AMBIGUOUS_SHARE  # drawn in any case: the same seed gives the same galaxy with `ranges`
    if ranges is None:
        ranges = CLASS_RANGES[int(rng.choice(CONFUSED_WITH[label])) if ambiguous else label]
    galaxies = draw_galaxy(rng, ranges)
    pixel_scale = SURVEY.pixel_scales[int(extent(galaxies) > SURVEY.coarse_radius)]
    pixel = pixel_scale * BASE / size

    frame = np.zeros((3, size, size), np.float32)
    for galaxy in galaxies:
        paint_galaxy(frame, pixel, galaxy)
    sky = draw_sky(rng) if sky is None else sky
    crowd = rng.gamma(SURVEY.crowding, 1 / SURVEY.crowding) * (pixel_scale / NATIVE_SCALE) ** 2
    crowd *= math.exp(-SURVEY.shallow_crowd * sky.shallow)  # shallow frames show fewer sources
    _add_galaxies(frame, rng, pixel, crowd)
    seeing = np.array(SURVEY.fwhm) * np.exp(
        rng.normal(0, SURVEY.fwhm_scatter[0]) + rng.normal(0, SURVEY.fwhm_scatter[1], 3)
    )
    for band, fwhm in zip(frame, seeing, strict=True):
        cv2.filter2D(band, -1, _psf(fwhm / pixel), dst=band, borderType=cv2.BORDER_REPLICATE)
    _add_stars(frame, rng, pixel, seeing, crowd)
    frame += sky.offset[:, None, None]
    _add_glow(frame, rng)
    truth = _to_uint8(frame)
    add_sky_noise(frame, rng, sky, pixels=pixel / NATIVE_SCALE)
    _add_faults(frame, rng, pixel)
    image = _to_uint8(frame)
    if size == BASE:  # the blocks of JPEG have 8 px of the published frame, so other sizes cannot have the same blocks
        image = viewer_jpeg(image, quality=SURVEY.jpeg_quality)
    return image, truth, galaxies, pixel_scale


def extent(galaxies):
    """Return the extent of the central galaxies, which decides the pixel scale of a cutout.

    Parameters
    ----------
    galaxies : sequence of galaxynb.standin.galaxies.Galaxy
        The central galaxy, or the members of the central pair.

    Returns
    -------
    float
        The largest mean of a galaxy's half-light radii along both axes plus half its distance from the centre, arcsec.
    """
    return max(math.hypot(one.x, one.y) / 2 + one.radius * (1 + one.axis_ratio) / 2 for one in galaxies)


def _to_uint8(bands):
    return cv2.convertScaleAbs(survey_rgb(*bands), alpha=255)  # rounds to the nearest integer


def _moffat(r2, fwhm):
    """Return a Moffat profile of total 1 at squared distances, in the unit of the FWHM."""
    beta = SURVEY.moffat_beta
    core2 = (fwhm / 2) ** 2 / (2 ** (1 / beta) - 1)
    return (1 + r2 * np.float32(1 / core2)) ** np.float32(-beta) * np.float32((beta - 1) / (math.pi * core2))


def _psf(fwhm):
    """Return the kernel, of sum 1, of a PSF with this FWHM (px)."""
    half = max(2, min(15, math.ceil(2.6 * fwhm)))
    # Sample finer than the pixels, because a narrow PSF varies within a pixel.
    fine = 3
    steps = (np.arange((2 * half + 1) * fine, dtype=np.float32) - ((2 * half + 1) * fine - 1) / 2) / fine
    kernel = _moffat(steps[:, None] ** 2 + steps[None, :] ** 2, fwhm)
    kernel = kernel.reshape(2 * half + 1, fine, 2 * half + 1, fine).mean((1, 3))
    return kernel / kernel.sum()


def _magnitude(rng, bounds, slope):
    """Draw a magnitude m from counts proportional to 10^(slope m)."""
    low, high = (10 ** (slope * m) for m in bounds)
    return math.log10(low + (high - low) * rng.random()) / slope


def _add_galaxies(frame, rng, pixel, crowd):
    """Add small background galaxies of any colour and axis ratio."""
    half = frame.shape[-1] / 2 * pixel
    for _ in range(rng.poisson(SURVEY.galaxies * crowd)):
        magnitude = _magnitude(rng, SURVEY.galaxy_magnitudes, SURVEY.galaxy_slope)
        low, high = SURVEY.galaxy_radius
        radius = log_normal(rng, (low, high)) * 10 ** (0.1 * (22 - magnitude))
        blue, red = SURVEY.galaxy_colours
        distant = min(max((magnitude - 17) / 4, 0), 1)  # faint galaxies are distant, and distant ones can be redder
        old = rng.uniform(blue, 0.9 + (red - 0.9) * distant)
        galaxy = Galaxy(
            form="spheroid",
            magnitude=magnitude,
            radius=radius,
            axis_ratio=rng.uniform(0.25, 1),
            angle=rng.uniform(0, math.pi),
            x=rng.uniform(-half, half),
            y=rng.uniform(-half, half),
            old=old,
            redder=distant * rng.uniform(0, SURVEY.galaxy_reddest) * (old - blue) / (red - blue),
            sersic=rng.uniform(0.8, 2.5),
        )
        paint_galaxy(frame, pixel, galaxy)


def _add_stars(frame, rng, pixel, seeing, crowd):
    """Add stars as copies of the PSF, including its wings."""
    size = frame.shape[-1]
    for _ in range(rng.poisson(SURVEY.stars * crowd)):
        magnitude = _magnitude(rng, SURVEY.star_magnitudes, SURVEY.star_slope)
        x, y = rng.uniform(0, size, 2)
        # On the main sequence r - z follows g - r, except for M dwarfs, which have one g - r and many r - z.
        if rng.random() < SURVEY.dwarfs * min(max((magnitude - 14) / 6, 0), 1):  # few M dwarfs are bright
            g_r, r_z = rng.normal(1.45, 0.1), rng.uniform(*SURVEY.dwarf_colours)
        else:
            g_r = rng.uniform(*SURVEY.star_colours)
            r_z = 0.5 * g_r - 0.05
        flux = 10 ** (0.4 * (22.5 - magnitude)) * np.array([10 ** (-0.4 * g_r), 1, 10 ** (0.4 * r_z)]) * NATIVE_SCALE**2
        # Draw the wings out to where they are far fainter than the noise.
        core = seeing[1] / 2 / math.sqrt(2 ** (1 / SURVEY.moffat_beta) - 1)
        peak = flux[1] * (SURVEY.moffat_beta - 1) / (math.pi * core**2)
        reach = core / pixel * max(1.5, (peak / 0.0007) ** (0.5 / SURVEY.moffat_beta))
        top, left = max(0, math.floor(y - reach)), max(0, math.floor(x - reach))
        bottom, right = min(size, math.ceil(y + reach) + 1), min(size, math.ceil(x + reach) + 1)
        dy = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)) * np.float32(pixel)
        dx = (np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)) * np.float32(pixel)
        r2 = dx * dx + dy * dy
        over = np.zeros(3)
        if peak > SURVEY.saturation:
            # The survey fills in saturated pixels separately in each band, so a saturated core has an arbitrary colour.
            over = rng.normal(0, 0.35, 3)
        for band in range(3):
            profile = _moffat(r2, seeing[band]) * np.float32(flux[band])
            if peak > SURVEY.saturation:
                profile = np.where(profile > SURVEY.saturation / 3, profile * np.float32(math.exp(over[band])), profile)
            frame[band, top:bottom, left:right] += profile


def _add_glow(frame, rng):
    """Rarely, add the glow of a bright star, often outside the frame. Its strength differs between bands."""
    if rng.random() >= SURVEY.glow:
        return
    size = frame.shape[-1]
    x, y = rng.uniform(-0.3, 1.3, 2) * size
    r2 = (np.arange(size)[:, None] - y) ** 2 + (np.arange(size)[None, :] - x) ** 2
    glow = np.exp(-r2 / (2 * (rng.uniform(0.3, 0.8) * size) ** 2)).astype(np.float32)
    bands = rng.uniform(0.002, 0.012) * rng.uniform(0.3, 1.0, 3) / (_SCALES / _SCALES[1])
    frame += glow * bands.astype(np.float32)[:, None, None]


def _add_faults(frame, rng, pixel):
    """Rarely, add a satellite trail in one band, or a chip edge beyond which one band is missing."""
    size = frame.shape[-1]
    if rng.random() < SURVEY.trail:
        angle, offset = rng.uniform(0, math.pi), rng.uniform(-0.4, 0.4) * size
        across = np.arange(size)[:, None] * math.cos(angle) - np.arange(size)[None, :] * math.sin(angle)
        across = across - size / 2 * (math.cos(angle) - math.sin(angle)) - offset
        band = int(rng.integers(3))
        trail = np.exp(-0.5 * (across * pixel / rng.uniform(0.5, 1.0)) ** 2)
        frame[band] += (trail * rng.uniform(0.01, 0.08) / _SCALES[band]).astype(np.float32)
    if rng.random() < SURVEY.chip_edge:
        width = int(rng.uniform(0.02, 0.3) * size)
        turned = np.rot90(frame, int(rng.integers(4)), axes=(1, 2))
        turned[int(rng.integers(3)), :width] = 0
