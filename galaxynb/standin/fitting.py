"""Fit the ranges of a class to the distributions of measured quantities in published images.

Drawing new images for each trial of ranges would take days. The fit therefore draws images once, from ranges that are
wider than those of the class (`widened_ranges`), and records the parameters and the measurements of each galaxy
(`draw_measured`). Importance weights (`importance_weights`) then turn these galaxies into a sample of any narrower
ranges. `fit_ranges` searches for the ranges whose weighted sample is closest to the published images. It compares
distributions only, never single images.

``workflow/reference/standin_ranges.py`` runs the fit for each class.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.standin.field import BASE, draw_cutout, random_stream
from galaxynb.standin.galaxies import REDDER_IF_BRIGHT, THINNEST
from galaxynb.standin.measure import as_jpeg, measure_cutouts
from galaxynb.standin.ranges import CLASS_RANGES, ClassRanges

__all__ = [
    "FITTED",
    "FITTED_QUANTITIES",
    "RangesFit",
    "combined_quantities",
    "draw_measured",
    "drawn_parameters",
    "effective_size",
    "fit_ranges",
    "importance_weights",
    "ranges_code",
    "weighted_ks_distance",
    "widened_ranges",
]


_OWN_STREAM = 3  # first spawn key of the random streams, which differ from those of stand-in files and `draw_like`

_PREFIX = "drawn_"  # of the columns of parameters, because some measurements have the same names


#: For each class, the limits within which a range is fitted, or None for limits that follow from the present range.
#: The limits keep a class what its name says, such as the roundness of Round Smooth. The radius is always fitted.
_WIDE_SMOOTH = {"mu": None, "old": None, "sersic": (0.5, 6.0), "clumps": (0.0, 0.2)}
_WIDE_DISC = {"mu": None, "old": None, "young": None, "young_share": (0.05, 0.95), "clumps": (0.0, 0.5)}
_WIDE = {
    "Disturbed": {"axis_ratio": (0.12, 1.0), **_WIDE_DISC, "lopsided": (0.0, 1.0)},
    "Merging": {"axis_ratio": (0.3, 1.0), "mu": None, "old": None, "young": None, "sersic": (0.5, 5.0)},
    "Round Smooth": {"axis_ratio": (0.78, 1.0), **_WIDE_SMOOTH},
    "In-between Round Smooth": {"axis_ratio": (0.35, 0.85), **_WIDE_SMOOTH, "sersic": (0.5, 4.5)},
    "Cigar Shaped Smooth": {"axis_ratio": (0.18, 0.55), **_WIDE_SMOOTH, "sersic": (0.4, 4.0)},
    "Barred Spiral": {"axis_ratio": (0.3, 1.0), **_WIDE_DISC, "bulge": (0.0, 0.25), "lopsided": (0.0, 1.0)},
    "Unbarred Tight Spiral": {"axis_ratio": (0.3, 1.0), **_WIDE_DISC, "bulge": (0.0, 0.45), "lopsided": (0.0, 1.0)},
    "Unbarred Loose Spiral": {"axis_ratio": (0.3, 1.0), **_WIDE_DISC, "bulge": (0.0, 0.4), "lopsided": (0.0, 1.0)},
    "Edge-on without Bulge": {"axis_ratio": (0.04, 0.33), **_WIDE_DISC, "lopsided": (0.0, 0.7)},
    "Edge-on with Bulge": {"axis_ratio": (0.03, 0.33), **_WIDE_DISC, "bulge": (0.05, 0.65), "lopsided": (0.0, 0.4)},
}

_WIDER = 0.35  # share of its width by which a range without own limits is widened on each side

_OUTERMOST = {"mu": (15.0, 26.0), "old": (0.2, 1.5), "young": (-0.15, 1.0)}  # limits of those ranges

_WIDER_RADIUS = 1.35  # factor by which the two quantiles of the radius are moved apart on each side

#: Names of the ranges that are fitted, by the name of the class.
FITTED = {name: ("radius", *limits) for name, limits in _WIDE.items()}


#: Weight of each column of `combined_quantities` in the fit. The judged quantities of the book weigh most.
FITTED_QUANTITIES = {
    "ln size": 1.5,
    "axis ratio": 1.5,
    "ln brightness": 1.5,
    "colour": 1.5,
    "concentration": 1.0,
    "asymmetry": 0.7,
    "centre R": 0.7,
    "centre G": 0.7,
    "centre B": 0.7,
    "surface brightness": 1.0,
    "colour and brightness": 0.7,
    "colour and centre": 0.7,
    "colour of the centre": 0.7,
    "concentration and axis ratio": 0.5,
    "concentration and size": 0.5,
}

_TOLERATED = 0.06  # distances below this cost nothing: with about 50 published galaxies, none is known more closely


_COVERED = 0.8  # least share of the galaxies of fitted ranges that the wide ranges should be able to give


#: Parameters that are uniform within their range, given the radius.
_UNIFORM = (
    *("axis_ratio", "young_share", "sersic", "bulge", "bulge_radius", "bar", "bar_length", "bar_ratio"),
    *("arms", "arm_sharpness", "flocculence", "clumps", "lopsided", "dust", "halo"),
)

_WEIGHED = ("radius", "mu", "old", "young", *_UNIFORM)

_ANY = ("radius", "axis_ratio", "mu", "old", "clumps", "halo")  # parameters that every form uses

_WITH_DISC = (*_ANY, "young", "young_share", "sersic", "bulge", "bulge_radius", "lopsided")

#: Parameters that change the light of each form.
_USED = {"spheroid": (*_ANY, "sersic"), "irregular": _WITH_DISC, "edge-on": (*_WITH_DISC, "dust"), "disc": _WEIGHED}

#: Smooth edges of a uniform range: their scale as a share of the width that the galaxies were drawn from.
_SMOOTH = 0.02


class RangesFit(NamedTuple):
    """The fitted ranges of a class.

    Attributes
    ----------
    ranges : galaxynb.standin.ranges.ClassRanges
        The closest ranges found, rounded to two decimals.
    distances : pandas.DataFrame
        One row per quantity: ``Quantity``, its ``Weight`` in the fit, and the Kolmogorov-Smirnov distance ``Before``
        and ``After``, from 0 to 1.
    effective : tuple of float
        Effective number of galaxies behind the distances before and after.
    covered : tuple of float
        Estimated share of the galaxies of the ranges, before and after, that the wide ranges can give: about 1 if they
        give all. A low share means that the distances are not those of the ranges.
    """

    ranges: ClassRanges
    distances: pd.DataFrame
    effective: tuple[float, float]
    covered: tuple[float, float]


def widened_ranges(label, *, ranges=None):
    """Return ranges of a class that are wide enough to fit its ranges within them.

    Parameters
    ----------
    label : int
        Class, 0 to 9.
    ranges : galaxynb.standin.ranges.ClassRanges, optional
        Ranges to widen. The default is the present ranges of the class.

    Returns
    -------
    galaxynb.standin.ranges.ClassRanges
        `ranges` with the ranges named in `FITTED` widened. All others are unchanged.

    Raises
    ------
    ValueError
        If `label` is not a class.

    Examples
    --------
    >>> wide = widened_ranges(2)
    >>> wide.axis_ratio, wide.halo == CLASS_RANGES[2].halo
    ((0.78, 1.0), True)
    """
    if label not in range(len(CLASS_NAMES)):
        raise ValueError(f"label is {label!r}, but a class is needed: give 0 to {len(CLASS_NAMES) - 1}")
    ranges = CLASS_RANGES[label] if ranges is None else ranges
    low, high = ranges.radius
    wide = {"radius": (low / _WIDER_RADIUS, high * _WIDER_RADIUS)}
    for name, limits in _WIDE[CLASS_NAMES[label]].items():
        low, high = getattr(ranges, name)
        if limits is None:
            most = _OUTERMOST[name]
            by = _WIDER * (high - low)
            limits = max(most[0], low - by), min(most[1], high + by)
        wide[name] = min(low, limits[0]), max(high, limits[1])
    # Two decimals, as fitted ranges have, rounded outwards.
    outwards = {
        name: (math.floor(100 * low + 1e-9) / 100, math.ceil(100 * high - 1e-9) / 100)
        for name, (low, high) in wide.items()
    }
    return dataclasses.replace(ranges, **outwards)


def drawn_parameters(galaxies):
    """Return the parameters of a central galaxy that `importance_weights` needs.

    Parameters
    ----------
    galaxies : sequence of galaxynb.standin.galaxies.Galaxy
        The galaxy, or the members of a pair. Of a pair, only the first galaxy counts, which the others follow.

    Returns
    -------
    dict
        ``drawn_form``, a str, and a float for each weighed parameter: ``drawn_radius``, ``drawn_mu`` and so on, in
        the units of `galaxynb.standin.ranges.ClassRanges`.

    Examples
    --------
    >>> from galaxynb.standin.galaxies import draw_galaxy
    >>> galaxies = draw_galaxy(np.random.default_rng(0), CLASS_RANGES[8])
    >>> drawn_parameters(galaxies)["drawn_form"]
    'edge-on'
    """
    galaxy = galaxies[0]
    area = 2 * math.pi * galaxy.radius**2 * max(galaxy.axis_ratio, THINNEST)
    values = {name: getattr(galaxy, name) for name in ("form", "radius", "old", "young", *_UNIFORM)}
    values["mu"] = galaxy.magnitude + 2.5 * math.log10(area)
    return {_PREFIX + name: value for name, value in values.items()}


def draw_measured(label, numbers, *, ranges, seed=0):
    """Draw stand-ins of a class from given ranges, and measure them after JPEG compression.

    Parameters
    ----------
    label : int
        Class, 0 to 9. It changes only the random numbers.
    numbers : sequence of int
        Numbers of the images, not negative. An image depends only on `label`, its number, `ranges` and `seed`.
    ranges : galaxynb.standin.ranges.ClassRanges
        Ranges to draw the galaxies from.
    seed : int, optional
        Seed of the images, not negative.

    Returns
    -------
    pandas.DataFrame
        One row per image: the result of `drawn_parameters`, then the columns of `measure_cutouts` except
        ``source_fwhms``.

    Examples
    --------
    >>> drawn = draw_measured(2, [0, 1], ranges=widened_ranges(2))
    >>> drawn[["drawn_form", "size"]].shape
    (2, 2)
    """
    images, parameters = np.empty((len(numbers), BASE, BASE, 3), np.uint8), []
    for k, number in enumerate(numbers):
        rng = random_stream(seed, _OWN_STREAM, label, number)
        images[k], _, galaxies, _ = draw_cutout(rng, label, ranges=ranges)
        parameters.append(drawn_parameters(galaxies))
    measured = measure_cutouts(as_jpeg(images)).drop(columns="source_fwhms")
    return pd.concat([pd.DataFrame(parameters), measured], axis=1)


def combined_quantities(measured):
    """Return the quantities that the fit compares.

    Besides the measurements of the central galaxy there are combinations of two of them. Their distributions depend
    on how the two are correlated, which distributions of single measurements do not show.

    Parameters
    ----------
    measured : pandas.DataFrame
        Result of `measure_cutouts`, `draw_measured` or `published_measurements`.

    Returns
    -------
    pandas.DataFrame
        One row per row of `measured`, NaN where a quantity is unknown. The columns are those of `FITTED_QUANTITIES`.

    Raises
    ------
    ValueError
        If a measurement is missing.

    Examples
    --------
    >>> from galaxynb.standin.measure import published_measurements
    >>> list(combined_quantities(published_measurements())) == list(FITTED_QUANTITIES)
    True
    """
    needed = ("size", "axis_ratio", "brightness", "galaxy_rb", "concentration", "asymmetry")
    needed += ("centre_r", "centre_g", "centre_b")
    _check_columns("measured", measured, needed)
    size, brightness = _logarithm(measured["size"]), _logarithm(measured["brightness"])
    axis_ratio, colour, concentration = (measured[name] for name in ("axis_ratio", "galaxy_rb", "concentration"))
    centre = {band: measured[f"centre_{band.lower()}"] for band in "RGB"}
    return pd.DataFrame(
        {
            "ln size": size,
            "axis ratio": axis_ratio,
            "ln brightness": brightness,
            "colour": colour,
            "concentration": concentration,
            "asymmetry": measured["asymmetry"],
            **{f"centre {band}": values for band, values in centre.items()},
            # Each factor is about the slope of the relation in published images.
            "surface brightness": brightness - 1.9 * size,
            "colour and brightness": colour - 0.3 * brightness,
            "colour and centre": colour - 0.008 * centre["G"],
            "colour of the centre": _logarithm(centre["R"]) - _logarithm(centre["B"]),
            "concentration and axis ratio": axis_ratio + 0.3 * concentration,
            "concentration and size": concentration - 0.4 * size,
        }
    )


def _logarithm(values):
    return np.log(values.where(values > 0))


def _check_columns(name, table, columns):
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(
            f"{name} lacks the column {missing[0]}, but {len(columns)} columns are needed: give the result of"
            " draw_measured or published_measurements"
        )


class _Draws(NamedTuple):
    """Parameters of drawn galaxies as arrays, each float64 of shape (N,)."""

    log_radius: np.ndarray
    #: Parameters by name, except the radius.
    given: dict
    #: Whether the form of a galaxy uses a parameter, by its name.
    used: dict


def _draws(drawn):
    _check_columns("drawn", drawn, [_PREFIX + name for name in ("form", *_WEIGHED)])
    form = drawn[_PREFIX + "form"].to_numpy()
    values = {name: drawn[_PREFIX + name].to_numpy(float) for name in _WEIGHED}
    used = {name: np.isin(form, [one for one, parameters in _USED.items() if name in parameters]) for name in _WEIGHED}
    return _Draws(np.log(values.pop("radius")), values, used)


def importance_weights(drawn, wide, ranges):
    """Return weights that turn galaxies drawn from wide ranges into a sample of other ranges.

    The weight of a galaxy is the ratio of its probability densities under both ranges. The definitions are those of
    `galaxynb.standin.galaxies.draw_galaxy`: a log-normal radius; a surface brightness that is uniform about its
    relation with the radius; a colour of old stars that depends on the rank in surface brightness; a colour of
    young stars that depends on that of old stars; all others uniform. The edges of uniform ranges are slightly
    smooth, so that the weights change continuously with the ranges. Parameters that the form of a galaxy does not
    use have no effect. Three approximations remain: only the first member of a pair counts, the cut of the
    log-normal distribution is left out, and so are the young stars in tidal tails of spheroids.

    Parameters
    ----------
    drawn : pandas.DataFrame, N rows
        Result of `draw_measured`, or rows of `drawn_parameters`.
    wide : galaxynb.standin.ranges.ClassRanges
        Ranges that the galaxies were drawn from.
    ranges : galaxynb.standin.ranges.ClassRanges
        Ranges to weight for, within `wide`.

    Returns
    -------
    ndarray of float64, shape (N,)
        Weights, 0 to 1, relative to the largest. They are equal if `ranges` equals `wide`.

    Raises
    ------
    ValueError
        If a column is missing, if a range is not within that of `wide` (for the surface brightness, at the same
        radius), or if the two differ in a field that weights cannot change, such as the forms.

    Examples
    --------
    >>> from galaxynb.standin.galaxies import draw_galaxy
    >>> wide, rng = widened_ranges(4), np.random.default_rng(0)
    >>> drawn = pd.DataFrame([drawn_parameters(draw_galaxy(rng, wide)) for _ in range(500)])
    >>> thin = dataclasses.replace(wide, axis_ratio=(0.2, 0.25))
    >>> weights = importance_weights(drawn, wide, thin)
    >>> bool(0.2 < np.average(drawn["drawn_axis_ratio"], weights=weights) < 0.25)
    True
    """
    draws = _draws(drawn)
    names = _changed(wide, ranges)
    log_weights = _log_density(draws, ranges, wide, names) - _log_density(draws, wide, wide, names)
    return _relative(log_weights)


def _relative(log_weights):
    return np.exp(log_weights - log_weights.max()) if len(log_weights) else log_weights


def _changed(wide, ranges):
    """Return the parameters whose density differs, in the order of `_WEIGHED`."""
    fields = [field.name for field in dataclasses.fields(ClassRanges)]
    different = [name for name in fields if getattr(wide, name) != getattr(ranges, name)]
    for name in different:
        if name == "fading":
            continue
        if name not in _WEIGHED:
            raise ValueError(
                f"{name} is {getattr(ranges, name)!r}, but {getattr(wide, name)!r}, which the galaxies were drawn from,"
                " is needed: draw them again, because weights cannot change it"
            )
        if name != "mu":
            _check_within(name, getattr(ranges, name), getattr(wide, name))
    names = _with_dependent(different)
    if "mu" in names:
        # The smooth edges reach further than rounding to two decimals moves them.
        slack, shift = _SMOOTH * (wide.mu[1] - wide.mu[0]), _shift(wide, ranges)
        _check_within("mu", ranges.mu, (wide.mu[0] - shift - slack, wide.mu[1] - shift + slack))
    return names


def _check_within(name, bounds, limits):
    (low, high), (lowest, highest) = bounds, limits
    if not lowest <= low <= high <= highest:
        raise ValueError(
            f"{name} is ({low:g}, {high:g}), but a range within ({lowest:g}, {highest:g}), which the galaxies were"
            " drawn from, is needed: give a narrower range or draw wider ones"
        )


def _shift(wide, ranges):
    """Return by how much larger `mu` is at the middle radius of `wide` than at that of `ranges`, mag."""
    return ranges.fading * (_log_radius(wide.radius)[0] - _log_radius(ranges.radius)[0])


def _with_dependent(names):
    """Return names with those of the parameters that depend on them, in the order of `_WEIGHED`."""
    names = set(names)
    if names & {"radius", "fading"}:
        names.add("mu")
    if "mu" in names:
        names.add("old")
    if "old" in names:
        names.add("young")
    return [name for name in _WEIGHED if name in names]


def _log_density(draws, ranges, wide, names):
    """Return the logarithm of the density of the named parameters under `ranges`: float64, shape (N,)."""
    total = np.zeros(len(draws.log_radius))
    middle, half = _log_radius(ranges.radius)
    fading = ranges.fading * (draws.log_radius - middle)
    for name in names:
        if name == "radius":
            spread = half / 1.2816
            total += -0.5 * ((draws.log_radius - middle) / spread) ** 2 - math.log(spread)
            continue
        low, high = getattr(ranges, name)
        values, width = draws.given[name], high - low
        if name == "mu":
            values = values - fading
        elif name == "old":
            faint = _rank(draws.given["mu"] - fading, ranges.mu)
            low, width = low + width * REDDER_IF_BRIGHT * (1 - faint), width * (1 - REDDER_IF_BRIGHT)
        elif name == "young":
            low, width = low + width * 0.5 * _rank(draws.given["old"], ranges.old), width * 0.5
        lowest, highest = getattr(wide, name)
        density = _log_uniform(values, low, width, max(_SMOOTH * (highest - lowest), 1e-9))
        total += np.where(draws.used[name], density, 0.0)
    return total


def _log_radius(radius):
    """Return the middle of ln(radius) and the distance of its quantiles from the middle, which is not 0."""
    low, high = map(math.log, radius)
    return (low + high) / 2, max((high - low) / 2, 1e-3)


def _rank(values, bounds):
    """Return where values lie in a range, 0 to 1."""
    low, high = bounds
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1)


def _log_uniform(values, low, width, scale):
    """Return the logarithm of a uniform density whose edges are logistic functions of this scale."""
    from scipy.special import log_expit

    wide = width / scale
    # The integral over the product of both edges is width / (1 - exp(-width / scale)).
    level = math.log(-math.expm1(-wide) / wide) if wide > 1e-9 else 0.0
    return log_expit((values - low) / scale) + log_expit((low + width - values) / scale) + level - math.log(scale)


def effective_size(weights):
    """Return the number of equally weighted galaxies that determine a mean as well as weighted ones do.

    Parameters
    ----------
    weights : array_like of float, shape (N,)
        Weights of at least 0, not all 0.

    Returns
    -------
    float
        Kish's effective sample size, (sum of weights)^2 / (sum of squared weights), 1 to N.

    Examples
    --------
    >>> effective_size([1, 1, 1, 0])
    3.0
    """
    weights = _checked_weights(weights)
    return float(weights.sum() ** 2 / (weights**2).sum())


def _checked_weights(weights):
    weights = np.asarray(weights, float)
    if weights.ndim != 1 or not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("a weight is negative or none is over 0, but numbers of at least 0 are needed: give others")
    return weights


def weighted_ks_distance(values, others, *, weights):
    """Return the Kolmogorov-Smirnov distance between a weighted sample and an unweighted one.

    Parameters
    ----------
    values : array_like of float, shape (N,)
        The weighted sample. NaN are left out.
    others : array_like of float, shape (M,)
        The unweighted sample. NaN are left out.
    weights : array_like of float, shape (N,)
        Weights of `values`, at least 0, not all 0.

    Returns
    -------
    float
        The largest difference between the two cumulative distributions, 0 to 1. NaN if a sample is empty or has no
        weight.

    Raises
    ------
    ValueError
        If the lengths differ, or weights are negative, not finite or all 0.

    Examples
    --------
    >>> weighted_ks_distance([1, 2, 3], [1, 3], weights=[1, 0, 1])
    0.0
    """
    values, weights = np.asarray(values, float), _checked_weights(weights)
    if values.shape != weights.shape:
        raise ValueError(f"there are {len(weights)} weights, but {len(values)} are needed: give one per value")
    return _Sorted.of(values, np.asarray(others, float)).distance(weights)


class _Sorted(NamedTuple):
    """Two samples, sorted once, so that the distance for new weights needs no sorting."""

    #: Rows of the finite values of the weighted sample, in rising order.
    order: np.ndarray
    #: Number of its values below, and up to, each distinct value of the other sample.
    below: np.ndarray
    up_to: np.ndarray
    #: Cumulative share of the other sample below, and up to, each of its distinct values.
    share_below: np.ndarray
    share_up_to: np.ndarray

    @classmethod
    def of(cls, values, others):
        order = np.argsort(values, kind="stable")
        order = order[np.isfinite(values[order])]
        steps, counts = np.unique(others[np.isfinite(others)], return_counts=True)
        share = np.cumsum(counts) / max(counts.sum(), 1)
        places = (np.searchsorted(values[order], steps, side=side) for side in ("left", "right"))
        return cls(order, *places, np.concatenate([[0.0], share[:-1]]) if len(share) else share, share)

    def distance(self, weights):
        """Return the Kolmogorov-Smirnov distance with these weights of the first sample."""
        cumulated = np.concatenate([[0.0], np.cumsum(weights[self.order])])
        if not (cumulated[-1] > 0 and len(self.below)):
            return np.nan
        cumulated /= cumulated[-1]
        # Between two values of the other sample only the weighted one rises, so the difference is largest at an end.
        above = abs(cumulated[self.up_to] - self.share_up_to).max()
        return float(max(above, abs(cumulated[self.below] - self.share_below).max()))


def fit_ranges(drawn, published, *, wide, ranges, names, seed=0, iterations=150, least_effective=60):
    """Find the ranges of a class whose distributions of measurements are closest to those of published images.

    The fit minimizes the Kolmogorov-Smirnov distances of `FITTED_QUANTITIES` by differential evolution: the weighted
    mean square of what exceeds 0.06. A penalty keeps the effective number of galaxies from falling far below
    `least_effective`, because few galaxies fit anything by chance. Another penalty avoids ranges of which the wide
    ones give less than four fifths: for example, bright galaxies are red, so wide ranges hold few that are both
    bright and blue.

    Parameters
    ----------
    drawn : pandas.DataFrame
        Result of `draw_measured` with the ranges `wide`.
    published : pandas.DataFrame
        Rows of `published_measurements` of the same class.
    wide : galaxynb.standin.ranges.ClassRanges
        Ranges that the galaxies were drawn from. The fitted ranges lie within them, as in `importance_weights`.
    ranges : galaxynb.standin.ranges.ClassRanges
        Present ranges, within `wide`. The search starts with them, so its result is at least as close.
    names : sequence of str
        Names of the ranges to fit. All others stay those of `ranges`.
    seed : int, optional
        Seed of the search.
    iterations : int, optional
        Largest number of generations of the search.
    least_effective : float, optional
        Effective number of galaxies below which the penalty begins, over 0.

    Returns
    -------
    RangesFit

    Raises
    ------
    ValueError
        If a table is empty or lacks a column, a name is not a range that can be fitted, or `ranges` are not within
        `wide`.

    Examples
    --------
    >>> from galaxynb.standin.measure import published_measurements
    >>> wide, published = widened_ranges(2), published_measurements()
    >>> drawn = draw_measured(2, range(6), ranges=wide)
    >>> fit = fit_ranges(
    ...     drawn, published[published["class"] == 2], wide=wide, ranges=CLASS_RANGES[2], names=["mu"], iterations=1
    ... )
    >>> list(fit.distances)
    ['Quantity', 'Weight', 'Before', 'After']
    """
    from scipy.optimize import differential_evolution

    for name in names:
        if name not in _WEIGHED:
            raise ValueError(
                f"a name is {name!r}, but a range that can be fitted is needed: choose from {', '.join(_WEIGHED)}"
            )
        if getattr(wide, name)[0] == getattr(wide, name)[1]:
            raise ValueError(f"{name} of wide has no width, but a range is needed: draw wider ones or leave it out")
    if not names:
        raise ValueError("names is empty, but at least one range is needed: give the names of those to fit")
    if not least_effective > 0:
        raise ValueError(f"least_effective is {least_effective}, but a number over 0 is needed: give one")
    for name, table in {"drawn": drawn, "published": published}.items():
        if len(table) == 0:
            raise ValueError(f"{name} has no rows, but galaxies of the class are needed: give one or more")
    samples = _samples(drawn, published)
    draws = _draws(drawn)
    changed = _with_dependent({*_changed(wide, ranges), *names})
    drawn_density = _log_density(draws, wide, wide, changed)

    def score(candidate):
        """Return the distances, the effective number of galaxies, the covered share, and what is minimized."""
        log_weights = _log_density(draws, candidate, wide, changed) - drawn_density
        weights = _relative(log_weights)
        distances = {name: sample.distance(weights) for name, sample in samples.items()}
        effective, covered = effective_size(weights), float(np.exp(log_weights).mean())
        return distances, effective, covered, _cost(distances, effective / least_effective, covered)

    before = score(ranges)
    bounds = np.repeat(_limits(wide, names), 2, axis=0)
    lowest, width = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
    # Rounding within SciPy can move a start at a limit out of the limits, so keep it inside.
    start = lowest + width * np.clip((_as_numbers(ranges, names, wide) - lowest) / width, 1e-9, 1 - 1e-9)
    found = differential_evolution(
        lambda numbers: score(_from_numbers(numbers, ranges, names, wide))[-1],
        bounds,
        x0=start,
        init="sobol",
        popsize=8,
        maxiter=iterations,
        tol=1e-6,
        polish=False,
        rng=seed,
    )
    fitted = _rounded(_from_numbers(found.x, ranges, names, wide), names, wide)
    after = score(fitted)
    if after[-1] > before[-1]:  # rounding can undo a tiny gain
        fitted, after = ranges, before
    table = pd.DataFrame(
        {
            "Quantity": [*FITTED_QUANTITIES],
            "Weight": [*FITTED_QUANTITIES.values()],
            "Before": [*before[0].values()],
            "After": [*after[0].values()],
        }
    )
    return RangesFit(fitted, table, (before[1], after[1]), (before[2], after[2]))


def _samples(drawn, published):
    """Return the two samples of each quantity, sorted."""
    ours, theirs = combined_quantities(drawn), combined_quantities(published)
    return {name: _Sorted.of(ours[name].to_numpy(float), theirs[name].to_numpy(float)) for name in FITTED_QUANTITIES}


def _cost(distances, enough, covered):
    """Return 100 times the mean square excess of distances, plus penalties for few and for missing galaxies.

    `enough` is the effective number of galaxies in units of the least, and `covered` the covered share.
    """
    excess = [
        weight * max(1.0 if math.isnan(distances[name]) else distances[name] - _TOLERATED, 0) ** 2
        for name, weight in FITTED_QUANTITIES.items()
    ]
    cost = 100 * sum(excess) / sum(FITTED_QUANTITIES.values())
    # The mean of density ratios is the covered share, up to noise.
    return cost + 0.5 * max(0, 1 / enough - 1) + 2 * max(0, _COVERED - covered)


def _limits(wide, names):
    """Return the limits of the numbers that the search varies, one pair per name."""
    return [tuple(np.log(wide.radius)) if name == "radius" else getattr(wide, name) for name in names]


def _as_numbers(ranges, names, wide):
    """Return ranges as the numbers that the search varies, low and high of each name.

    They are the logarithms of radii, and surface brightnesses at the middle radius of `wide`: only so do the same
    numbers stand for the same galaxies, whatever the radii.
    """
    shift = [_shift(wide, ranges) if name == "mu" else 0.0 for name in names]
    return np.ravel(np.add(_limits(ranges, names), np.reshape(shift, (-1, 1))))


def _from_numbers(numbers, ranges, names, wide):
    """Return `ranges` with the numbers of the search. The order of the two numbers of a range does not matter."""
    pairs = dict(zip(names, map(sorted, np.reshape(numbers, (-1, 2)).tolist()), strict=True))
    if "radius" in pairs:
        pairs["radius"] = [math.exp(value) for value in pairs["radius"]]
        ranges = dataclasses.replace(ranges, radius=tuple(pairs.pop("radius")))
    if "mu" in pairs:
        pairs["mu"] = [value - _shift(wide, ranges) for value in pairs["mu"]]
    return dataclasses.replace(ranges, **{name: tuple(pair) for name, pair in pairs.items()})


def _rounded(ranges, names, wide):
    """Return ranges with two decimals in the named ones. Those that are independent stay within `wide`."""
    pairs = {}
    for name in names:
        low, high = (round(value, 2) for value in getattr(ranges, name))
        lowest, highest = getattr(wide, name)
        pairs[name] = (low, high) if name == "mu" else (max(low, lowest), min(high, highest))
    return dataclasses.replace(ranges, **pairs)


def ranges_code(ranges, *, name):
    """Return the ranges of a class as code for `galaxynb.standin.ranges.CLASS_RANGES`.

    Parameters
    ----------
    ranges : galaxynb.standin.ranges.ClassRanges
    name : str
        Name of the class, for the comment.

    Returns
    -------
    str
        Python code, with a comma at its end. Fields that equal their default are left out.

    Examples
    --------
    >>> ranges = ClassRanges(forms=(("disc", 1.0),), radius=(2, 4), axis_ratio=(0.3, 0.9), mu=(20, 21))
    >>> print(ranges_code(ranges, name="Plain"))
        ClassRanges(  # Plain
            forms=(('disc', 1.0),),
            radius=(2, 4),
            axis_ratio=(0.3, 0.9),
            mu=(20, 21),
        ),
    """
    lines = [f"    ClassRanges(  # {name}"]
    for field in dataclasses.fields(ClassRanges):
        value = getattr(ranges, field.name)
        if value != field.default:
            lines.append(f"        {field.name}={value!r},")
    return "\n".join([*lines, "    ),"])
