"""Measure small images fast, and say what is unlike the images that the networks were trained on.

The measures of `galaxynb.standin.measure` find each source of an image of the survey's size. These only take sums and
medians of small images, so they suit surveys.
"""

import functools

import numpy as np

__all__ = ["MEASURES", "measure_small", "reasons", "training_ranges"]


#: Titles and units of the measures, by the name of the column.
MEASURES = {
    "sky": ("sky level", ""),
    "noise": ("noise", ""),
    "brightness": ("centre's brightness", ""),
    "size": ("size", " of the side"),
    "colour": ("colour", ""),
}

_RING = 0.08  # width of the frame in which the sky is measured, as a share of the side

_CENTRE = 0.05  # radius of the centre whose brightness is measured, as a share of the side

_CLEAR = 2.0  # pixels less than so many standard deviations above the sky do not count as light

_TO_SIGMA = 0.6745  # median absolute value of normal numbers with a standard deviation of 1

_MIDDLE = (0.4, 0.6)  # quantiles of the differences whose mean measures the noise

_MIDDLE_TO_SIGMA = 0.6773  # mean absolute value between these quantiles, of the same normal numbers

_TAIL = 0.001  # share of the training images on each side that may lie outside their range

_MARGIN = 0.1  # widening of the range on each side, as a share of its width


def measure_small(images):
    """Measure the sky, the noise and the central galaxy of square images.

    Parameters
    ----------
    images : ndarray of float32, shape (N, H, H, 3)
        RGB images in [0, 1] with a galaxy at the centre, and an even H.

    Returns
    -------
    dict of ndarray of float32, shape (N,)
        - ``sky``: median of the frame along the border, a twelfth of the side wide, in [0, 1];
        - ``noise``: standard deviation of a pixel's noise, from the diagonal differences in blocks of 2 by 2 px, in
          [0, 1]. Extended light hardly affects it. Noise that neighbouring pixels share is underestimated;
        - ``brightness``: mean of the centre, within a twentieth of the side, in [0, 1];
        - ``size``: radius that holds half of the light within the largest circle, as a share of the side; above 0.5
          if there is no light. Only pixels two standard deviations above the sky count;
        - ``colour``: red minus blue, over their sum, of the light within that radius, in [-1, 1].

    References
    ----------
    Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage": the noise from the Haar wavelet.

    Examples
    --------
    >>> images = np.full((1, 64, 64, 3), 0.1, np.float32)
    >>> images[0, 30:34, 30:34] = [1.0, 0.9, 0.6]
    >>> found = measure_small(images)
    >>> round(float(found["sky"][0]), 2), float(found["colour"][0]) > 0.2, float(found["size"][0]) < 0.05
    (0.1, True, True)
    """
    n, side = images.shape[:2]
    border, centre, shares = _masks(side)
    grey = images.mean(axis=3)
    sky = np.median(grey.reshape(n, -1)[:, border], axis=1)
    blocks = grey[:, 0::2, 0::2] - grey[:, 0::2, 1::2] - grey[:, 1::2, 0::2] + grey[:, 1::2, 1::2]
    # The mean of three channels has less noise than one channel. Measure it as the images are seen: in grey.
    # 8-bit images have few distinct differences, so the median alone would take few distinct values.
    low, high = (round(share * blocks[0].size) for share in _MIDDLE)
    ordered = np.partition(np.abs(blocks).reshape(n, -1), (low, high), axis=1)
    noise = ordered[:, low:high].mean(axis=1) / (2 * _MIDDLE_TO_SIGMA)
    pixels = grey.reshape(n, -1)
    scatter = np.median(np.abs(pixels[:, border] - sky[:, None]), axis=1) / _TO_SIGMA
    # Count only light that stands out: over the whole frame, a small error of the sky would outweigh a small galaxy.
    light = pixels - sky[:, None]
    light[light < _CLEAR * scatter[:, None]] = 0
    growth = light @ shares  # light within each radius
    total = np.maximum(growth[:, -1:], 1e-6)
    step = (growth < total / 2).sum(axis=1)
    size = (step + 1) / (2 * shares.shape[1])
    inside = shares.T[np.minimum(step, shares.shape[1] - 1)]
    sums = np.einsum("np,npc->nc", inside, images.reshape(n, -1, 3)) - (sky * inside.sum(axis=1))[:, None]
    red, _, blue = np.maximum(sums, 0).T
    colour = np.where(red + blue > 1e-6, (red - blue) / np.maximum(red + blue, 1e-6), 0)
    found = {"sky": sky, "noise": noise, "brightness": pixels[:, centre].mean(axis=1)}
    return {name: values.astype(np.float32) for name, values in (found | {"size": size, "colour": colour}).items()}


@functools.cache
def _masks(side):
    """Return which pixels are border and centre, and whether each pixel lies within each of side / 2 radii."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    radius = np.hypot(x, y).ravel()
    edge = np.minimum(side / 2 - np.abs(x), side / 2 - np.abs(y)).ravel()
    radii = np.arange(1, side // 2 + 1)
    within = (radius[:, None] <= radii).astype(np.float32)
    return edge < max(1, _RING * side), radius <= max(1, _CENTRE * side), within


def training_ranges(*versions):
    """Return the range of each measure of the training images.

    Parameters
    ----------
    *versions : dict of ndarray
        From `measure_small`, such as for the clean and for the noisy training images. The range covers all versions.

    Returns
    -------
    dict of list of float
        Lowest and highest value by the name of the measure. They leave out the most extreme thousandth of the images on
        each side, and are then widened by a tenth of the width.

    Examples
    --------
    >>> [round(value, 2) for value in training_ranges({"sky": np.linspace(0, 1, 1001)})["sky"]]
    [-0.1, 1.1]
    """
    ranges = {}
    for name in versions[0]:
        ends = np.array([np.quantile(one[name], [_TAIL, 1 - _TAIL]) for one in versions])
        low, high = ends[:, 0].min(), ends[:, 1].max()
        margin = _MARGIN * (high - low)
        ranges[name] = [float(low - margin), float(high + margin)]
    return ranges


def reasons(measured, ranges):
    """Return why each image is unlike the training images.

    Parameters
    ----------
    measured : dict of ndarray, shape (N,)
        From `measure_small`.
    ranges : dict of sequence of float
        From `training_ranges`.

    Returns
    -------
    list of str
        One text per image, empty where all measures are within their ranges.

    Examples
    --------
    >>> reasons({"sky": np.array([0.1, 0.9])}, {"sky": [0.0, 0.3]})
    ['', 'sky level 0.9 is above 0.3']
    """
    n = len(next(iter(measured.values())))
    texts = [[] for _ in range(n)]
    for name, values in measured.items():
        low, high = ranges[name]
        title, unit = MEASURES[name]
        for row in np.flatnonzero((values < low) | (values > high)):
            side, limit = ("below", low) if values[row] < low else ("above", high)
            texts[row].append(f"{title} {values[row]:.2g}{unit} is {side} {limit:.2g}")
    return ["; ".join(found) for found in texts]
