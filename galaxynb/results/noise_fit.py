"""Search the ranges of the noise for those whose damage comes closest to a published table of precision and recall.

A table of ten precisions and ten recalls says more about a noise than the accuracy alone. It shows which classes the
classifier still recognises, and which classes it assigns the other images to. The functions take a classifier as a
function from images to classes. They train nothing, and they see only the images that the caller names.

The search has five parameters. Each stands for the centre of a range, whose relative width is fixed, so that the spots
of one image differ in size, brightness and softness.
"""

import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, qmc, spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.metrics import precision_recall_fscore_support

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.networks.calibration import predict_noisy
from galaxynb.noise import NoiseModel

__all__ = ["RANGES", "WEIGHTS", "NoiseFit", "class_scores", "fit_noise", "misfit", "noise_around", "rounded_noise"]


#: Lowest and highest value of each parameter: mean number of stars, mean radius, mean brightness and mean blur of a
#: star (lengths as fractions of the image side), and standard deviation of the Gaussian noise. The paper's Figure 2
#: shows several bright spots around a galaxy. Fewer stars would not be several, more would look like a star cluster,
#: and larger ones would cover the galaxy. Dimmer stars or weaker Gaussian noise could not be seen. In images of 64 px,
#: all mean blurs up to 0.036 would give the same noise: every star would have the smallest kernel, of 3 px.
RANGES = {
    "stars": (4.0, 12.0),
    "radius": (0.015, 0.08),
    "brightness": (0.25, 0.7),
    "blur": (0.036, 0.4),
    "sigma": (0.02, 0.1),
}

#: Weights of the squared differences. The accuracy counts as much as the ten recalls together: a run calibrates the
#: strength to the paper's share of accuracy, so it would change a fitted noise of another accuracy. A precision counts
#: half as much as a recall.
WEIGHTS = {"accuracy": 10.0, "recall": 1.0, "precision": 0.5}

#: Half-width of a range as a share of its centre.
_WIDTHS = {"stars": 0.4, "radius": 0.5, "brightness": 0.4, "blur": 0.7}

_CLASSES = range(len(CLASS_NAMES))
_SCORES = ["accuracy", *(f"{name} {k}" for name in ("recall", "precision", "called") for k in _CLASSES)]

#: Share of calls at which the precision of a class has half its weight. With fewer calls, it rests on few images.
_FEW = 0.01

_GRID = 21  # values of a parameter in its profile
_CANDIDATES = 11  # power of 2: number of points at which the surrogate is evaluated
_RESAMPLES = 200  # bootstrap resamples
_WITHIN = 2.0  # standard deviations of the misfit that count as its uncertainty


class NoiseFit(NamedTuple):
    """The noise that comes closest to a table, and how well the table determines it.

    Attributes
    ----------
    noise : galaxynb.noise.NoiseModel
        The noise with the lowest misfit among those evaluated.
    misfit, recall_rms : float
        Its misfit, and the root mean square difference of its recalls alone.
    uncertainty : float
        Standard deviation of the misfit over bootstrap resamples of the images.
    scores : pandas.DataFrame
        One row per class, with the columns ``Class``, ``Recall``, ``Recall (paper)``, ``Precision``, ``Precision
        (paper)``, ``Called`` and ``Called (paper)``. The last two are shares of the images that are called this class.
    evaluations : pandas.DataFrame
        One row per evaluation, in their order: the parameters, ``misfit``, ``recall_rms``, ``accuracy``, and
        ``recall 0`` to ``called 9``.
    profiles : pandas.DataFrame
        Columns ``parameter``, ``value``, ``misfit`` (the lowest expected misfit over all values of the other
        parameters) and ``plausible`` (the lowest expected misfit minus its standard deviation, which allows for noises
        that were not evaluated).
    intervals : pandas.DataFrame
        One row per parameter: ``parameter``, ``best``, ``low`` and ``high``. The profile between ``low`` and ``high``
        is within two standard deviations of the misfit of the lowest value of all profiles. ``at_edge`` says whether
        the interval ends where the search does, so that its true end is unknown.
    correlations : pandas.DataFrame
        Rank correlations of the parameters among noises whose misfit is within two standard deviations of the lowest.
        Parameters with a strong correlation trade off. NaN if there are too few such noises.
    """

    noise: NoiseModel
    misfit: float
    recall_rms: float
    uncertainty: float
    scores: pd.DataFrame
    evaluations: pd.DataFrame
    profiles: pd.DataFrame
    intervals: pd.DataFrame
    correlations: pd.DataFrame


def noise_around(*, stars, radius, brightness, blur, sigma):
    """Return the noise model whose ranges have the given centres.

    Parameters
    ----------
    stars : float
        Mean number of stars per image, >= 0.
    radius, brightness, blur : float
        Centres of these ranges of `NoiseModel`. A range must end at 1 or below, so the centres are at most 2/3, 0.71
        and 0.58.
    sigma : float
        Standard deviation of the Gaussian noise, >= 0.

    Returns
    -------
    galaxynb.noise.NoiseModel
        The model, of strength 1.

    Raises
    ------
    ValueError
        If a range leaves the limits of `NoiseModel`.

    Examples
    --------
    >>> noise = noise_around(stars=10, radius=0.06, brightness=0.6, blur=0.15, sigma=0.02)
    >>> noise.n_stars, [round(limit, 3) for limit in noise.radius]
    ((6, 14), [0.03, 0.09])
    """
    low, high = (round(stars * (1 + sign * _WIDTHS["stars"])) for sign in (-1, 1))
    centres = {"radius": radius, "brightness": brightness, "blur": blur}
    ranges = {name: tuple(float(x * (1 + sign * _WIDTHS[name])) for sign in (-1, 1)) for name, x in centres.items()}
    return NoiseModel(sigma=float(sigma), n_stars=(low, high), **ranges)


def rounded_noise(noise, image_size):
    """Return a noise model whose ranges and sigma have two significant digits, as defaults should.

    Parameters
    ----------
    noise : galaxynb.noise.NoiseModel
        The model to round.
    image_size : int
        Side in pixels of the images that the model was fitted on. Limits of the blur that are below the smallest
        kernel of these images, 3 px, are raised to it. Then the noise is the same on larger images too.

    Returns
    -------
    galaxynb.noise.NoiseModel
        The rounded model. Numbers of stars, colours and the strength stay as they are.

    Examples
    --------
    >>> rounded = rounded_noise(NoiseModel(sigma=0.02345, radius=(0.0512, 0.0996), blur=(0.01, 0.2)), 64)
    >>> rounded.sigma, rounded.radius, rounded.blur
    (0.023, (0.051, 0.1), (0.047, 0.2))
    """
    blur = [max(limit, 3 / image_size) for limit in noise.blur]
    ranges = {"radius": noise.radius, "brightness": noise.brightness, "blur": blur}
    rounded = {name: tuple(float(f"{limit:.2g}") for limit in limits) for name, limits in ranges.items()}
    return replace(noise, sigma=float(f"{noise.sigma:.2g}"), **rounded)


def class_scores(labels, predicted):
    """Return the accuracy, and recall, precision and share of calls of each class.

    Parameters
    ----------
    labels, predicted : array_like of int, shape (N,)
        True and predicted classes, 0 to 9.

    Returns
    -------
    ndarray of float64, shape (31,)
        The accuracy, ten recalls, ten precisions and ten shares of the images that are called the class, in [0, 1]. As
        in the paper's tables, the precision of a class that is never called is 0.

    Examples
    --------
    >>> scores = class_scores([0, 0, 1, 1], [0, 1, 1, 1])
    >>> scores[:3].tolist(), scores[11:13].round(2).tolist()
    ([0.75, 0.5, 1.0], [1.0, 0.67])
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    precision, recall, _, _ = precision_recall_fscore_support(labels, predicted, labels=_CLASSES, zero_division=0)
    called = np.bincount(predicted, minlength=len(_CLASSES)) / len(predicted)
    return np.concatenate([[np.mean(labels == predicted)], recall, precision, called])


def misfit(scores, target, *, weights=None):
    """Return the weighted root mean square difference of accuracy, recalls and precisions.

    If few images are assigned to a class, its precision rests on few images and counts less: its weight is multiplied
    by c / (c + 0.01), where c is the share of images that are assigned to the class. A precision does not count at all
    if recall and precision of the target are 0, because such a precision is 0 by convention.

    Parameters
    ----------
    scores, target : array_like of float, shape (31,)
        As `class_scores` returns them.
    weights : dict of float, optional
        Weight of the squared difference of the ``accuracy``, of each ``recall`` and of each ``precision``, >= 0. None
        takes `WEIGHTS`.

    Returns
    -------
    float
        0 for equal scores, and at most 1.

    Examples
    --------
    >>> scores = class_scores([0, 0, 1, 1], [0, 1, 1, 1])
    >>> better = class_scores([0, 0, 1, 1], [0, 0, 1, 1])
    >>> round(float(misfit(scores, better)), 2), float(misfit(scores, scores))
    (0.21, 0.0)
    """
    weights = WEIGHTS if weights is None else weights
    scores, target = np.asarray(scores), np.asarray(target)
    each = np.array([weights.get(name.split()[0], 0.0) for name in _SCORES])
    recall, precision, called = (slice(first, first + len(_CLASSES)) for first in (1, 11, 21))
    each[precision] *= scores[called] / (scores[called] + _FEW)
    each[precision][(target[recall] == 0) & (target[precision] == 0)] = 0
    return np.sqrt(np.sum(each * np.square(scores - target)) / max(np.sum(each), 1e-12))


def fit_noise(
    predict,
    images,
    target,
    *,
    labels,
    indices,
    seed,
    n_evaluations=200,
    ranges=None,
    weights=None,
    known=None,
    on_evaluation=None,
):
    """Search for the noise whose accuracy, recalls and precisions come closest to a table.

    All evaluations use the same random numbers. The first of them, a quarter to a half, are a Sobol design over the
    logarithms of all parameters. A Gaussian process then describes the misfit as a smooth function of the parameters.
    Of the further evaluations, every other one is where the process expects the largest improvement. The rest are where
    the process finds the lowest plausible misfit, which explores regions with few evaluations. The same process then
    gives the profiles, which would otherwise need thousands of evaluations. A local search would also find the best
    point, but it would leave the rest of the space, and so the profiles, unknown.

    Parameters
    ----------
    predict : callable
        Takes images (ndarray of float32 in [0, 1], shape (M, H, H, 3)) and returns their classes (ndarray of int).
    images : ndarray of uint8, shape (N, H, H, 3)
        All images. They may be memory-mapped.
    target : pandas.DataFrame
        Table to come close to, with the rows and columns of `galaxynb.results.paper.paper_table`.
    labels : ndarray of int, shape (N,)
        Class of each image, 0 to 9.
    indices : array_like of int, shape (K,)
        Rows to use, 1 or more. Use validation images.
    seed : int
        Seed of the noise, the design, the search and the bootstrap, >= 0.
    n_evaluations : int
        Number of noises to evaluate, >= 8.
    ranges : dict of tuple, optional
        Lowest and highest value of each parameter, > 0. None takes `RANGES`.
    weights : dict of float, optional
        As for `misfit`.
    known : pandas.DataFrame, optional
        Evaluations of an interrupted search with the same arguments. They are not evaluated again.
    on_evaluation : callable, optional
        Called with the table of all evaluations after each of them, to save it or to show progress.

    Returns
    -------
    NoiseFit
        The closest noise, and how well it is determined.

    Raises
    ------
    ValueError
        If `n_evaluations` is below 8, or `ranges` lacks a parameter or has an empty or non-positive range.

    Examples
    --------
    >>> from galaxynb.results.paper import paper_table
    >>> images = np.random.default_rng(0).integers(0, 100, (40, 16, 16, 3), np.uint8)
    >>> def predict(images):
    ...     return (10 * images.mean(axis=(1, 2, 3))).astype(int).clip(0, 9)
    >>> rows, labels = np.arange(40), np.arange(40) % 10
    >>> fit = fit_noise(
    ...     predict, images, paper_table("noisy"), labels=labels, indices=rows, seed=0, n_evaluations=8
    ... )
    >>> len(fit.evaluations), list(fit.intervals["parameter"])
    (8, ['stars', 'radius', 'brightness', 'blur', 'sigma'])
    """
    ranges = _checked(RANGES if ranges is None else ranges)
    if n_evaluations < 8:
        raise ValueError(f"n_evaluations is {n_evaluations}, but 8 or more is needed: choose a larger number")
    labels, indices, wanted = np.asarray(labels), np.asarray(indices), _target_scores(target)
    remembered = {} if known is None else {_key(row): row for row in known.to_dict("records")}
    rows = []

    def classify(parameters):
        return predict_noisy(noise_around(**parameters), predict, images, indices=indices, seed=seed)

    def evaluate(unit):
        parameters = {name: _value(ranges[name], u) for name, u in zip(RANGES, unit, strict=True)}
        row = remembered.get(_key(parameters))
        if row is None:
            scores = class_scores(labels[indices], classify(parameters))
            apart = {"misfit": misfit(scores, wanted, weights=weights), "recall_rms": _recall_rms(scores, wanted)}
            row = parameters | apart | dict(zip(_SCORES, scores, strict=True))
        rows.append({name: float(value) for name, value in row.items()})
        if on_evaluation is not None:
            on_evaluation(pd.DataFrame(rows))

    power = max(int(np.log2(n_evaluations / 2)), 2)
    units = list(_sobol(power, seed))
    for unit in units:
        evaluate(unit)
    kernel = None
    while len(rows) < n_evaluations:
        refined = len(rows) - 2**power
        surrogate = _surrogate(np.array(units), [row["misfit"] for row in rows], kernel if refined % 8 else None)
        kernel = surrogate.kernel_
        units.append(_most_promising(surrogate, np.array(units), seed, widely=refined % 2))
        evaluate(units[-1])
    evaluations, units = pd.DataFrame(rows), np.array(units)
    best = evaluations["misfit"].idxmin()
    centres = evaluations.loc[best, list(RANGES)].to_dict()
    predicted = classify(centres)
    uncertainty = _bootstrap(labels[indices], predicted, wanted, weights, seed)
    surrogate = _surrogate(units, evaluations["misfit"])
    profiles = _profiles(surrogate, units, evaluations["misfit"], ranges, seed)
    intervals = _intervals(profiles, centres, uncertainty)
    return NoiseFit(
        noise_around(**centres),
        float(evaluations["misfit"][best]),
        float(evaluations["recall_rms"][best]),
        uncertainty,
        _beside(class_scores(labels[indices], predicted), wanted),
        evaluations,
        profiles,
        intervals,
        _correlations(surrogate, intervals, ranges, profiles["misfit"].min() + _WITHIN * uncertainty, seed),
    )


def _checked(ranges):
    """Return the ranges in the order of `RANGES`, after a check."""
    for name in RANGES:
        low, high = ranges.get(name, (0, 0))
        if not 0 < low < high:
            raise ValueError(
                f"ranges has {ranges.get(name)} for {name}, but (low, high) with 0 < low < high is needed: give it"
            )
    return {name: ranges[name] for name in RANGES}


def _target_scores(table):
    classes = table.loc[list(CLASS_NAMES)]
    # Recall times support is the number of right calls.
    right = classes["recall"] * classes["support"] / classes["support"].sum()
    called = (right / classes["precision"].where(classes["precision"] > 0)).fillna(0)
    return np.concatenate([[table.loc["accuracy", "f1-score"]], classes["recall"], classes["precision"], called])


def _recall_rms(scores, target):
    """Return the root mean square difference of the recalls alone."""
    return misfit(scores, target, weights={"accuracy": 0, "recall": 1, "precision": 0})


def _value(limits, unit):
    """Return the value at a place between 0 and 1 on a logarithmic scale."""
    low, high = limits
    return float(np.clip(low * (high / low) ** unit, low, high))  # rounding can pass an end


def _units(limits, values):
    """Return the places between 0 and 1 of values, the inverse of `_value`."""
    low, high = limits
    return np.log(np.divide(values, low)) / np.log(high / low)


def _key(parameters):
    # Nine digits survive a CSV file and distinguish any two evaluations.
    return tuple(f"{parameters[name]:.9g}" for name in RANGES)


def _sobol(power, seed):
    return qmc.Sobol(len(RANGES), rng=np.random.default_rng([seed, power])).random_base2(power)


def _near(unit, number, seed):
    """Return points that scatter around a point, within the unit cube."""
    rng = np.random.default_rng([seed, number])
    return np.clip(unit + 0.07 * rng.standard_normal((256, len(RANGES))), 0, 1)


def _surrogate(units, misfits, kernel=None):
    """Return a Gaussian process of the misfit as a function of the parameters in the unit cube.

    Without a `kernel`, its parameters are fitted, which takes most of the time.
    """
    if kernel is not None:
        return GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True).fit(units, misfits)
    smooth = ConstantKernel(1.0) * Matern([0.5] * len(RANGES), (0.05, 10), nu=2.5)
    process = GaussianProcessRegressor(smooth + WhiteKernel(0.05, (1e-4, 1)), normalize_y=True)
    with warnings.catch_warnings():
        # A parameter without effect has the longest length that the bounds allow, and scikit-learn then warns.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(units, misfits)


def _most_promising(surrogate, units, seed, *, widely):
    """Return the point with the largest expected improvement or, if `widely`, with the lowest plausible misfit."""
    fitted = surrogate.predict(units)
    candidates = np.concatenate([_sobol(_CANDIDATES, seed), _near(units[np.argmin(fitted)], len(units), seed)])
    mean, std = surrogate.predict(candidates, return_std=True)
    gain = fitted.min() - mean
    scaled = gain / np.maximum(std, 1e-12)
    expected = gain + 2 * std if widely else gain * norm.cdf(scaled) + std * norm.pdf(scaled)
    # Never repeat an evaluation: it would give the same again.
    distance = np.min(np.linalg.norm(candidates[:, None] - units, axis=-1), axis=1)
    return candidates[np.argmax(np.where(distance > 1e-6, expected, -np.inf))]


def _profiles(surrogate, units, misfits, ranges, seed):
    """Return the lowest misfit that the surrogate finds for each value of each parameter."""
    best = units[np.argsort(misfits, kind="stable")[:20]]
    others = np.concatenate([_sobol(_CANDIDATES, seed), best, *(_near(one, k, seed) for k, one in enumerate(best[:4]))])
    rows = []
    for column, (name, limits) in enumerate(ranges.items()):
        for place in np.union1d(np.linspace(0, 1, _GRID), best[0, column]):
            points = others.copy()
            points[:, column] = place
            mean, std = surrogate.predict(points, return_std=True)
            lowest = {"misfit": float(mean.min()), "plausible": float((mean - std).min())}
            rows.append({"parameter": name, "value": _value(limits, place)} | lowest)
    return pd.DataFrame(rows)


def _intervals(profiles, centres, uncertainty):
    """Return the smallest interval that holds all values of a parameter whose profile is low, for each parameter."""
    rows = []
    limit = profiles["misfit"].min() + _WITHIN * uncertainty
    for name, profile in profiles.groupby("parameter", sort=False):
        values, misfits = profile["value"].to_numpy(), profile["misfit"].to_numpy()
        fine = np.flatnonzero((misfits <= limit) | (misfits == misfits.min()))
        ends = [_crossing(values, misfits, limit, fine[0], -1), _crossing(values, misfits, limit, fine[-1], 1)]
        low, high = min(ends[0], centres[name]), max(ends[1], centres[name])
        edge = low <= values.min() or high >= values.max()
        rows.append({"parameter": name, "best": centres[name], "low": low, "high": high, "at_edge": bool(edge)})
    return pd.DataFrame(rows)


def _crossing(values, misfits, limit, fine, step):
    """Return where a profile crosses the limit between a grid point within it and the next one, on a logarithm."""
    beyond = fine + step
    if not 0 <= beyond < len(values) or misfits[fine] > limit:
        return float(values[fine])
    places = [fine, beyond]
    return float(np.exp(np.interp(limit, misfits[places], np.log(values[places]))))


def _correlations(surrogate, intervals, ranges, limit, seed):
    """Return the rank correlations of the parameters among points that the surrogate puts below `limit`."""
    # All such points lie within the intervals, up to a step of the profiles' grid.
    ends = [_units(ranges[row.parameter], (row.low, row.high)) for row in intervals.itertuples()]
    low, high = np.clip(np.transpose(ends) + np.array([[-1], [1]]) / (_GRID - 1), 0, 1)
    points = low + _sobol(_CANDIDATES + 2, seed) * (high - low)
    fine = points[surrogate.predict(points) <= limit]
    found = np.full((len(RANGES), len(RANGES)), np.nan)
    if len(fine) >= 10:
        with np.errstate(invalid="ignore"):
            found = spearmanr(fine).statistic
    return pd.DataFrame(found, index=list(RANGES), columns=list(RANGES))


def _bootstrap(labels, predicted, wanted, weights, seed):
    """Return the standard deviation of the misfit over resamples of the images."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(labels), size=(_RESAMPLES, len(labels)))
    return float(
        np.std([misfit(class_scores(labels[d], predicted[d]), wanted, weights=weights) for d in draws], ddof=1)
    )


def _beside(scores, wanted):
    """Return recall, precision and share of calls of each class, with those of the table."""
    table = {"Class": [f"{k} {name}" for k, name in enumerate(CLASS_NAMES)]}
    for first, title in ((1, "Recall"), (11, "Precision"), (21, "Called")):
        table[title], table[f"{title} (paper)"] = (found[first : first + len(_CLASSES)] for found in (scores, wanted))
    return pd.DataFrame(table)
