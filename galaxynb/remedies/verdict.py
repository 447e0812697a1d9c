"""The astronomer's verdict: what a remedy does to the stars and the galaxy, compared with noise-free truth.

Only stand-ins have truth, and only remedies that restore images can be judged. All lengths are pixels, and images are
in units of their range [0, 1] unless stated otherwise.
"""

from dataclasses import replace

import numpy as np

from galaxynb.images import to_float
from galaxynb.standin.measure import SMALLEST_MEASURED, find_galaxy, find_sources, measure_galaxy

__all__ = ["GALAXY", "empty_frames", "galaxies_kept", "injected_light", "own_stars_kept", "stars_left", "summarize"]


#: Measures of the galaxy, with the title of each and whether a change is a ratio.
GALAXY = {
    "brightness": ("Flux", True),
    "size": ("Size", True),
    "galaxy_rb": ("Colour, ln(R/B)", False),
    "concentration": ("Concentration", False),
    "asymmetry": ("Asymmetry", False),
}

_CLEAR = 5.0  # own stars: least peak, in standard deviations of all noise

_APERTURE = 2.0  # px: radius in which the flux of a star of the sky is summed

_ANNULUS = (3.0, 5.0)  # px: radii between which the background of such a star is measured

_UNTOUCHED = 0.1  # most injected light in the aperture, as a share of the star's

_SURVIVES = 0.5  # least share of its flux with which a star counts as kept

_SKY = 33 / 255  # sky of the empty frames: that of the published images

_FRAMES = 16


def injected_light(noise, side, *, seed, indices):
    """Return the light of the injected stars alone: ndarray of float32, shape (N, side, side, 3).

    Parameters
    ----------
    noise : galaxynb.noise.NoiseModel
        Noise of the study.
    side : int
        Side of the images.
    seed : int
        Seed of the study.
    indices : array_like of int, shape (N,)
        Indices of the images.
    """
    black = np.zeros((len(indices), side, side, 3), np.uint8)
    return replace(noise, sigma=0.0).apply(black, seed, indices)


def stars_left(restored, truth, light):
    """Return the share of the injected stars' light that is left in each image.

    The share is the slope of a linear regression through the origin, which fits the residual (restored minus truth) as
    a multiple of the injected light. It is 1 if all light is left, 0 if none is, and negative if the remedy removes too
    much.

    Parameters
    ----------
    restored, truth, light : ndarray of float, shape (N, H, H, 3)
        Restored images, noise-free truth, and the light of `injected_light`.

    Returns
    -------
    ndarray of float, shape (N,)
        NaN for an image without stars.

    Examples
    --------
    >>> light = np.zeros((1, 8, 8, 3))
    >>> light[0, 3, 3] = 1
    >>> stars_left(0.5 + 0.2 * light, np.full(light.shape, 0.5), light).round(2).tolist()
    [0.2]
    """
    axes = (1, 2, 3)
    total = (light**2).sum(axis=axes, dtype=float)
    # Subtract the median of each band: a sky that is too bright everywhere is no star.
    excess = (restored - truth) - np.median(restored - truth, axis=(1, 2), keepdims=True)
    with np.errstate(invalid="ignore"):
        return (excess * light).sum(axis=axes, dtype=float) / np.where(total > 0, total, np.nan)


def own_stars_kept(restored, clean, truth, *, light, noise):
    """Return the share of its flux that each clear star of the sky keeps.

    Parameters
    ----------
    restored : ndarray of float, shape (N, H, H, 3)
        Restored images.
    clean, truth : ndarray of uint8, shape (N, H, H, 3)
        Images without injected noise, and their noise-free versions. H is at least 64.
    light : ndarray of float, shape (N, H, H, 3)
        Light of the injected stars. Stars of the sky that it touches are left out.
    noise : galaxynb.noise.NoiseModel
        Noise of the study. Stars fainter than 5 of its standard deviations are left out too.

    Returns
    -------
    ndarray of float, shape (M,)
        Flux above the surrounding sky, as a share of that in the truth, for the M clear stars of all images.
    """
    side = truth.shape[1]
    y, x = np.mgrid[:side, :side]
    shares = []
    for image, seen, real, added in zip(restored, clean, truth, light, strict=True):
        limit = _CLEAR * np.hypot(noise.strength * noise.sigma * 255, np.std(seen - real.astype(float)))
        found = find_sources(real)
        planes = [plane.mean(axis=2, dtype=float) for plane in (image, real / 255, added)]
        for star in found[found["compact"] & (found["peak"] > limit)].itertuples():
            distance = np.hypot(x - star.x, y - star.y)
            inside, around = distance <= _APERTURE, (distance > _ANNULUS[0]) & (distance <= _ANNULUS[1])
            kept, whole, extra = (plane[inside].sum() - inside.sum() * np.median(plane[around]) for plane in planes)
            if whole > 0 and abs(extra) < _UNTOUCHED * whole and planes[2][inside].sum() < _UNTOUCHED * whole:
                shares.append(kept / whole)
    return np.array(shares)


def galaxies_kept(restored, clean, truth):
    """Return the measures of each galaxy before and after: in the truth and in the restored image.

    Parameters
    ----------
    restored : ndarray of float, shape (N, H, H, 3)
        Restored images.
    clean, truth : ndarray of uint8, shape (N, H, H, 3)
        Images without injected noise, in which the galaxy is found, and their noise-free versions. H is at least 64.

    Returns
    -------
    dict of ndarray of float, shape (N, 2)
        Values before and after for each measure of `GALAXY`.
    """
    levels = np.round(255 * restored).astype(np.uint8)
    rows = {name: [] for name in GALAXY}
    for image, seen, real in zip(levels, clean, truth, strict=True):
        segment = find_galaxy(seen)
        before, after = measure_galaxy(real, segment), measure_galaxy(image, segment)
        for name, pairs in rows.items():
            pairs.append((before[name], after[name]))
    return {name: np.array(pairs, float).reshape(-1, 2) for name, pairs in rows.items()}


def empty_frames(noise, side, *, seed):
    """Return frames without a galaxy: one set of Gaussian noise only, and one with injected stars too.

    Parameters
    ----------
    noise : galaxynb.noise.NoiseModel
        Noise of the study.
    side : int
        Side of the frames.
    seed : int
        Seed of the study.

    Returns
    -------
    dict of ndarray of float32, shape (16, side, side, 3)
        Frames named ``noise`` and ``stars``, on a flat sky of 33 of 255.
    """
    flat = np.full((_FRAMES, side, side, 3), _SKY, np.float32)
    indices = 10**8 + np.arange(_FRAMES)  # no image has such an index
    return {
        "noise": replace(noise, n_stars=(0, 0)).apply(flat, seed, indices),
        "stars": noise.apply(flat, seed, indices),
    }


def summarize(restore, *, restored, clean, truth, noise, seed, indices):
    """Return the astronomer's verdict on a remedy.

    Parameters
    ----------
    restore : callable
        Maps noisy images to restored ones: ndarray of float32 in [0, 1].
    restored : ndarray of float32, shape (N, H, H, 3)
        Restored test images.
    clean, truth : ndarray of uint8, shape (N, H, H, 3)
        Test images and their noise-free versions.
    noise : galaxynb.noise.NoiseModel
        Noise of the study.
    seed : int
        Seed of the study.
    indices : array_like of int, shape (N,)
        Indices of the test images.

    Returns
    -------
    dict of float or None
        Numbers by name. ``stars left`` is the median share of the injected light that is left, ``own stars kept`` the
        share of the sky's clear stars that keep half of their flux or more, ``own stars`` their number, and ``own
        star flux`` the median share that they keep. ``galaxies lost`` is the share of galaxies without light after the
        remedy; the other measures leave these out. Each measure of `GALAXY` has a bias (the median change) and a
        scatter (half the distance from the 16th to the 84th percentile); changes of flux and size are relative.
        ``noise frame`` and ``star frame`` are the root mean square of the restored empty frames about their sky, in
        counts of 255. The measures of own stars and of galaxies are None for images under 64 px.
    """
    light = injected_light(noise, clean.shape[1], seed=seed, indices=indices)
    found = {"stars left": _median(stars_left(restored, to_float(truth), light))}
    frames = {name: restore(frame) for name, frame in empty_frames(noise, clean.shape[1], seed=seed).items()}
    for name, title in {"noise": "noise frame", "stars": "star frame"}.items():
        about = frames[name] - np.median(frames[name], axis=(1, 2), keepdims=True)
        found[title] = float(255 * np.sqrt(np.mean(about**2)))
    if clean.shape[1] < SMALLEST_MEASURED:
        return found
    shares = own_stars_kept(restored, clean, truth, light=light, noise=noise)
    found |= {"own stars": len(shares), "own star flux": _median(shares)}
    found["own stars kept"] = float(np.mean(shares >= _SURVIVES)) if len(shares) else None
    measures = galaxies_kept(restored, clean, truth)
    lost = np.isnan(measures["brightness"][np.isfinite(measures["brightness"][:, 0]), 1])
    found["galaxies lost"] = float(lost.mean()) if len(lost) else None
    for name, pairs in measures.items():
        before, after = pairs[np.isfinite(pairs).all(axis=1)].T
        title, relative = GALAXY[name]
        change = after / before - 1 if relative else after - before
        low, high = np.percentile(change, [16, 84]) if len(change) else (np.nan, np.nan)
        found |= {f"{title}, bias": _median(change), f"{title}, scatter": _finite((high - low) / 2)}
    return found


def _median(values):
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def _finite(value):
    return float(value) if np.isfinite(value) else None
