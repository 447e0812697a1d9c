"""Fit the distribution of the sky's noise to measurements of published cutouts.

`galaxynb.standin.sky` draws eleven numbers per frame. `galaxynb.standin.measure` measures fifteen numbers per cutout:
the correlation of sky pixels at three distances, the noise and the level of the sky, each in three channels. To a good
approximation the measured numbers depend linearly on the drawn ones. So `fit_sky` estimates this dependence from
cutouts with known skies, and solves for the mean and the covariance that give the published ones.

``workflow/reference/standin_sky.py`` runs the fit.
"""

import numpy as np
import pandas as pd

from galaxynb.standin.field import BASE, draw_cutout, random_stream
from galaxynb.standin.measure import as_jpeg, measure_cutouts
from galaxynb.standin.ranges import SKY
from galaxynb.standin.sky import SkyDistribution, draw_sky

__all__ = ["broad_sky", "draw_measured_skies", "fit_sky", "measured_sky", "sky_code"]


_OWN_STREAM = 4  # first spawn key of the random streams, which no other use begins with

_CHANNELS = ("r", "g", "b")

_MEASURED = [f"{name}_{band}" for name in ("corr1", "corr2", "corr3", "sky_std", "sky") for band in _CHANNELS]

# Frames beyond these limits hold the light of a bright star or of a large galaxy, not only noise.
_MOST = {"sky_std_g": 16.0, "corr3_g": 0.2, "sky_g": 37.0, "sky_r": 39.0}

_DARKEST = 20.0  # counts: every published sky is at least 10 counts brighter, so the logarithm of the rest exists

_FAR = 30.0  # squared Mahalanobis distance beyond which a frame does not count in the estimate of the dependence

_SOFTENED = 0.1  # share of the published variance that counts as error: the dependence is not exactly linear

_RIDGE = 0.02  # pulls combinations of numbers that no measurement determines to the drawn mean, without spread


def broad_sky():
    """Return a broad distribution without correlations, from which a fit can start.

    Returns
    -------
    galaxynb.standin.sky.SkyDistribution

    Examples
    --------
    >>> broad_sky().mean.shape
    (11,)
    """
    mean = [0, 0, 0, 0.1, -0.08, -2.8, -3.0, -2.8, -0.07, -0.02, 0.04]
    spread = [0.25, 0.03, 0.03, 0.025, 0.02, 0.5, 0.5, 0.5, 0.045, 0.03, 0.03]
    return SkyDistribution(np.array(mean, float), np.diag(spread))


def draw_measured_skies(labels, numbers, *, distribution, seed=0):
    """Draw stand-ins with skies of a distribution, and measure them after JPEG compression.

    Parameters
    ----------
    labels : sequence of int
        Class of each image, 0 to 9.
    numbers : sequence of int, as many as `labels`
        Numbers of the images, not negative. An image depends only on its label, its number, the distribution and
        `seed`.
    distribution : galaxynb.standin.sky.SkyDistribution
    seed : int or sequence of int, optional
        Seed of the images, not negative.

    Returns
    -------
    pandas.DataFrame
        One row per image: the drawn `SKY`, then the measured columns of the sky, as in `measure_cutouts`.

    Examples
    --------
    >>> draw_measured_skies([2, 8], [0, 1], distribution=broad_sky()).shape
    (2, 26)
    """
    images, skies = np.empty((len(numbers), BASE, BASE, 3), np.uint8), []
    for k, (label, number) in enumerate(zip(labels, numbers, strict=True)):
        rng = random_stream(seed, _OWN_STREAM, label, number)
        sky = draw_sky(rng, distribution=distribution)
        images[k] = draw_cutout(rng, label, sky=sky)[0]
        skies.append(sky.quantities)
    measured = measure_cutouts(as_jpeg(images))
    return pd.concat([pd.DataFrame(skies, columns=[*SKY]), measured[_MEASURED]], axis=1)


def measured_sky(measured):
    """Return the numbers that the fit compares, of those frames that hold little light beyond the sky.

    Parameters
    ----------
    measured : pandas.DataFrame
        Result of `draw_measured_skies` or `galaxynb.standin.measure.published_measurements`.

    Returns
    -------
    pandas.DataFrame
        Fifteen columns, float: the noise as its logarithm, and the brightness of the sky as the logarithm of its excess
        over 20 counts. The index is that of `measured`.

    Examples
    --------
    >>> from galaxynb.standin.measure import published_measurements
    >>> published = published_measurements()
    >>> len(measured_sky(published)) < len(published)
    True
    """
    plain = np.logical_and.reduce([measured[name] < most for name, most in _MOST.items()])
    values = measured.loc[plain, _MEASURED].astype(float)
    for band in _CHANNELS:
        values[f"sky_std_{band}"] = np.log(values[f"sky_std_{band}"])
        values[f"sky_{band}"] = np.log(np.maximum(values[f"sky_{band}"] - _DARKEST, 1.0))
    return values.dropna()


def fit_sky(drawn, published):
    """Find the distribution of skies whose measurements have the mean and the covariance of published ones.

    Drawn frames whose measurements follow badly from their sky do not count. No such choice is possible for published
    frames, whose sky is unknown, so the fitted spreads are somewhat too large.

    Parameters
    ----------
    drawn : pandas.DataFrame
        Result of `draw_measured_skies`: some hundred rows or more.
    published : pandas.DataFrame
        Result of `galaxynb.standin.measure.published_measurements`.

    Returns
    -------
    galaxynb.standin.sky.SkyDistribution

    Raises
    ------
    ValueError
        If fewer than 52 drawn frames can be used: twice as many as the 26 drawn and measured numbers of a frame.

    Examples
    --------
    >>> from galaxynb.standin.measure import published_measurements
    >>> published = published_measurements()
    >>> skies = np.random.default_rng(0).normal(size=(len(published), 11)) @ broad_sky().factor + broad_sky().mean
    >>> drawn = pd.concat([pd.DataFrame(skies, columns=[*SKY]), published], axis=1)  # unrelated, for the example
    >>> fit_sky(drawn, published).factor.shape
    (11, 11)
    """
    ours, theirs = measured_sky(drawn), measured_sky(published).to_numpy()
    least = 2 * (len(_MEASURED) + len(SKY))
    if len(ours) < least:
        raise ValueError(f"drawn has {len(ours)} frames to compare, but {least} are needed: draw more")
    quantities = drawn.loc[ours.index, [*SKY]].to_numpy(float)
    ours = ours.to_numpy()
    design = np.column_stack([np.ones(len(ours)), quantities])
    close = np.ones(len(ours), bool)
    for _ in range(4):  # each time without the frames that the last estimate explains badly
        response = np.linalg.lstsq(design[close], ours[close], rcond=None)[0]
        rest = ours - design @ response
        error = np.cov(rest[close].T)
        close = np.einsum("ij,jk,ik->i", rest, np.linalg.pinv(error), rest) < _FAR
    slopes = response[1:].T
    covariance = np.cov(theirs.T)
    weight = np.linalg.inv(error + _SOFTENED * np.diag(np.diag(covariance)))
    ridge = np.diag(_RIDGE / np.diag(broad_sky().factor) ** 2)
    solve = np.linalg.solve(slopes.T @ weight @ slopes + ridge, slopes.T @ weight)
    mean = quantities[close].mean(0) + solve @ (theirs.mean(0) - ours[close].mean(0))
    return SkyDistribution(mean, _factor(solve @ (covariance - error) @ solve.T))


def _factor(covariance):
    """Return the lower triangular factor of the closest matrix that is a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    nearest = (vectors * np.maximum(values, 0)) @ vectors.T
    return np.linalg.cholesky(nearest + 1e-8 * np.eye(len(covariance)))


def sky_code(distribution):
    """Return a distribution as code for `galaxynb.standin.ranges.SKY`, rounded to four decimals.

    Parameters
    ----------
    distribution : galaxynb.standin.sky.SkyDistribution

    Returns
    -------
    str

    Examples
    --------
    >>> print(sky_code(broad_sky()).splitlines()[1])
        "level": (0.0, (0.25,)),
    """
    lines = []
    for k, (name, mean) in enumerate(zip(SKY, distribution.mean, strict=True)):
        factor = tuple(round(float(value), 4) + 0.0 for value in distribution.factor[k, : k + 1])
        lines.append(f'    "{name}": ({round(float(mean), 4) + 0.0}, {factor}),')
    return "\n".join(["SKY = {", *lines, "}"])
