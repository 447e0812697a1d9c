"""Measure the sky, the sources and the central galaxy of a cutout.

These measurements compare a synthetic stand-in with real images, so the same simple definitions apply to both: fixed
thresholds above the sky, and photutils' segments and moments. They are not photometry: the RGB of the survey
saturates, and no number here is a physical property of a galaxy.

Detection uses the mean of R, G and B, minus its sky, smoothed by a Gaussian with a standard deviation of 1.2 px. It
keeps segments of 5 px or more. The *sky* of a channel consists of the pixels left by 3-sigma clipping about the
median, repeated until it removes none. Thresholds are in units of the standard deviation of the sky before smoothing.
Lengths are pixels of the image. Brightnesses are counts from 0 to 255, unless stated otherwise.
"""

import importlib.resources
import warnings

import cv2
import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from tqdm import tqdm

from galaxynb.data.galaxy10 import CLASS_NAMES

__all__ = [
    "QUANTITIES",
    "SMALLEST_MEASURED",
    "as_jpeg",
    "compare_images",
    "find_galaxy",
    "find_sources",
    "measure_cutouts",
    "measure_galaxy",
    "neighbour_accuracy",
    "published_measurements",
    "same_within",
    "shrink",
]


_BANDS = ("r", "g", "b")


#: Titles of the columns of `measure_cutouts` that `compare_images` compares, in this order.
QUANTITIES = (
    {"mean": "Mean"}
    | {f"mean_{band}": f"Mean {band.upper()} (0 to 1)" for band in _BANDS}
    | {f"std_{band}": f"Standard deviation {band.upper()} (0 to 1)" for band in _BANDS}
    | {f"sky_{band}": f"Sky {band.upper()}" for band in _BANDS}
    | {f"sky_std_{band}": f"Sky noise {band.upper()}" for band in _BANDS}
    | {f"corr{lag}_{band}": f"Sky correlation {band.upper()}, {lag} px" for lag in (1, 2, 3) for band in _BANDS}
    | {
        "n_sources": "Off-centre sources",
        "n_bright": "Bright off-centre sources",
        "source_fwhms": "Compact source FWHM (px)",
        "size": "Galaxy size (px)",
        "axis_ratio": "Galaxy axis ratio",
    }
    | {f"centre_{band}": f"Galaxy centre {band.upper()}" for band in _BANDS}
    | {
        "brightness": "Galaxy brightness",
        "galaxy_rb": "Galaxy colour, ln(R/B)",
        "concentration": "Galaxy concentration",
        "asymmetry": "Galaxy asymmetry",
    }
)


#: Columns that `compare_images` also compares for each class.
_BY_CLASS = (
    "n_sources",
    "size",
    "axis_ratio",
    "centre_r",
    "centre_g",
    "centre_b",
    "brightness",
    "galaxy_rb",
    "concentration",
    "asymmetry",
)

_QUANTILES = {"10%": 0.1, "50%": 0.5, "90%": 0.9}


SMALLEST_MEASURED = 64  # px: smaller images have too little sky around the galaxy

_CENTRE = 12  # px: side of the box at the centre of the image

_SMOOTHING = 1.2  # px: standard deviation of the Gaussian before detection

_AREA = 5  # px: the smallest segment

_FAINT = 2.5  # sky standard deviations: threshold of the central galaxy, and of pixels that are not sky

_CLEAR = 4.0  # sky standard deviations: threshold of off-centre sources

_BRIGHT = 90  # counts above sky: least peak of a bright off-centre source

_UNSHREDDED = 2.0  # px: smoothing before deblending, so that arms and dust lanes do not become companions

_COMPANION = 0.2  # least share of the flux of the central segment that makes a companion a separate source

_MARGIN = 15  # px: side of the square that dilates sources before the sky around them is measured

_ROUND, _COMPACT = 0.6, 8.0  # least axis ratio and largest FWHM (px) of a compact source

#: Columns of `measure_cutouts` that describe the central galaxy, except those of its centre.
_OF_GALAXY = ("size", "axis_ratio", "brightness", "galaxy_rb", "concentration", "asymmetry")

_ROUNDING = 1e-9  # two distances that differ by less are equal

_QUIET = 0.5  # counts: least sky noise for thresholds, about the error of rounding to whole counts


def measure_cutouts(images, *, progress=False):
    """Measure the sky, the sources and the central galaxy of each image.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        RGB images with a galaxy at the centre. H and W are at least 64.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per image, NaN where a quantity cannot be measured. Columns ending in ``_r`` also exist for g and b.

        - ``mean``: mean of all pixels and channels, 0 to 255.
        - ``mean_r``, ``std_r``: mean and standard deviation of the channel, 0 to 1.
        - ``sky_r``, ``sky_std_r``: mean and standard deviation after 3-sigma clipping, 0 to 255. The mean resolves
          fractions of a count; a median would not.
        - ``corr1_r``, ``corr2_r``, ``corr3_r``: correlation of sky pixels 1, 2 and 3 px apart, the mean of
          horizontal and vertical. Sky pixels lie outside all segments at 2.5 sigma, dilated by 7 px.
        - ``n_sources``: number of segments at 4 sigma, without the central one.
        - ``n_bright``: number of these sources with a peak of more than 90 above sky.
        - ``source_fwhms``: tuple of the FWHM in px of each compact off-centre source, as `find_sources` defines
          them. The tuples allow quantiles over sources.
        - ``source_fwhm``: median of ``source_fwhms``.
        - ``centre_r``: mean of the central 12 px, 0 to 255.

        The other columns describe the central galaxy: the segment at 2.5 sigma with the most pixels in the central
        12 px, without companions that hold a fifth of its flux or more.

        - ``size``: rms of the light along the major axis (from second moments), px.
        - ``axis_ratio``: minor over major axis from second moments, 0 to 1.
        - ``brightness``: sum above sky of the mean of R, G and B, in units of 255.
        - ``galaxy_rb``: natural logarithm of the sum above sky of R over that of B. It is the colour of the whole
          galaxy, of which a saturated centre is only a small part.
        - ``concentration``: 5 log10(r80 / r20), where circles of these radii hold 80% and 20% of the light.
        - ``asymmetry``: absolute difference from the image rotated by 180 degrees, divided by the light, at the
          centre with the lowest value, minus the value of sky noise alone. The stretch of the survey reduces noise
          on bright pixels, so smooth galaxies are slightly below 0.

    Raises
    ------
    TypeError
        If `images` is not uint8.
    ValueError
        If the shape of `images` is not (N, H, W, 3), or a side is under 64.
    """
    images = _checked("images", images)
    rows = [_measure(image) for image in tqdm(images, desc="measuring", unit="image", disable=not progress)]
    columns = [*QUANTITIES]
    columns.insert(columns.index("source_fwhms"), "source_fwhm")
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({name: float for name in columns if name not in ("n_sources", "n_bright", "source_fwhms")})


def find_galaxy(image):
    """Return the pixels of the central galaxy: the segment that `measure_cutouts` measures.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB image. H and W are at least 64.

    Returns
    -------
    ndarray of bool, shape (H, W)
        False everywhere if there is no galaxy at the centre.

    Raises
    ------
    TypeError
        If `image` is not uint8.
    ValueError
        If the shape of `image` is not (H, W, 3), or a side is under 64.
    """
    light, smooth, noise = _detection_image(_one_image(image))
    segments = _segments(smooth, _FAINT * noise)
    label = _central(segments)
    return _without_companions(light, segments == label) if label else np.zeros(light.shape, bool)


def measure_galaxy(image, segment):
    """Measure the light of an image in a given segment, such as that of another version of the image.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB image. H and W are at least 64.
    segment : ndarray of bool, shape (H, W)
        From `find_galaxy`.

    Returns
    -------
    dict of float
        The columns of `measure_cutouts` that describe the central galaxy: ``size``, ``axis_ratio``, ``brightness``,
        ``galaxy_rb``, ``concentration`` and ``asymmetry``. NaN if the segment is empty or holds no light.

    Raises
    ------
    TypeError
        If `image` is not uint8.
    ValueError
        If the shape of `image` is not (H, W, 3), or a side is under 64.
    """
    image = _one_image(image)
    light, _, noise = _detection_image(image)
    if not segment.any():
        return dict.fromkeys(_OF_GALAXY, np.nan)
    return _in_segment(image, light, noise, segment)


def find_sources(image):
    """List the off-centre sources of an image at 4 sigma above sky.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB image. H and W are at least 64.

    Returns
    -------
    pandas.DataFrame
        One row per source, in the order of falling peaks, with these columns:

        - ``x``, ``y``: centroid in px. The centre of the first pixel is 0.
        - ``peak``: highest value above sky, 0 to 255.
        - ``flux``: sum of the values above sky.
        - ``area``: number of pixels.
        - ``axis_ratio``: minor over major axis, 0 to 1.
        - ``fwhm``: FWHM in px of a Gaussian with this peak and flux, sqrt(4 ln 2 / pi * flux / peak). Light below the
          threshold is lost, so the FWHM of faint sources is too small.
        - ``compact``: whether the axis ratio is at least 0.6, the FWHM is under 8 px and the source does not touch
          the border.

    Raises
    ------
    TypeError
        If `image` is not uint8.
    ValueError
        If the shape of `image` is not (H, W, 3), or a side is under 64.
    """
    return _sources(*_detection_image(_one_image(image)))


def _one_image(image):
    """Return an image as an array. Raise an error if it has another type or shape."""
    image = np.asarray(image)
    if image.ndim != 3:
        raise ValueError(f"image has shape {image.shape}, but (H, W, 3) is needed: give one RGB image")
    (image,) = _checked("image", image[np.newaxis])
    return image


def compare_images(images_a, images_b, *, labels_a=None, labels_b=None):
    """Compare the quantities of two sets of images.

    Parameters
    ----------
    images_a, images_b : ndarray of uint8, shape (N, H, W, 3), or pandas.DataFrame
        RGB images, or the result of `measure_cutouts` for them.
    labels_a, labels_b : array_like of int, shape (N,), optional
        Classes, 0 to 9: both or neither. With them, the table also has the quantities of the central galaxy and the
        number of off-centre sources for each class.

    Returns
    -------
    pandas.DataFrame
        One row for each quantity over all images, and one for each quantity of a class. Quantiles of the FWHM are
        over sources, all others over images. The columns are:

        - ``Quantity``: a title of `QUANTITIES`.
        - ``Class``: ``all``, or a name of `CLASS_NAMES`.
        - ``10% (a)``, ``50% (a)``, ``90% (a)``, and the same for b: quantiles.
        - ``Median ratio``: the median of b over that of a, and 1 if both are equal, also at 0.
        - ``Spread ratio``: the distance from 10% to 90% of b over that of a, likewise.
        - ``KS distance``: the Kolmogorov-Smirnov distance, the largest difference between the two cumulative
          distributions. It is 0 for equal samples and 1 for samples that do not overlap. NaN if a sample is empty.
        - ``Number (a)``, ``Number (b)``: number of values behind the row.

    Raises
    ------
    TypeError
        If images are neither uint8 nor a DataFrame.
    ValueError
        If shapes or lengths disagree, labels are not classes, or a DataFrame is not from `measure_cutouts`.

    Examples
    --------
    >>> measured = published_measurements()
    >>> table = compare_images(measured, measured.assign(size=measured["size"] + 1000))
    >>> table.set_index("Quantity").loc[["Mean", "Galaxy size (px)"], "KS distance"].tolist()
    [0.0, 1.0]
    """
    if (labels_a is None) != (labels_b is None):
        missing = "labels_a" if labels_a is None else "labels_b"
        raise ValueError(f"{missing} is missing, but labels of both sets or of neither are needed: give or omit both")
    a, b = _measured("images_a", images_a), _measured("images_b", images_b)
    a, b = _values(a, "labels_a", labels_a), _values(b, "labels_b", labels_b)
    table = pd.DataFrame(a.keys(), columns=["Quantity", "Class"])
    for name, samples in {"a": a, "b": b}.items():
        for title, at in _QUANTILES.items():
            table[f"{title} ({name})"] = [np.quantile(some, at) if len(some) else np.nan for some in samples.values()]
    table["Median ratio"] = _ratio(table["50% (b)"], table["50% (a)"])
    table["Spread ratio"] = _ratio(table["90% (b)"] - table["10% (b)"], table["90% (a)"] - table["10% (a)"])
    table["KS distance"] = [_ks_distance(a[row], b[row]) for row in a]
    for name, samples in {"a": a, "b": b}.items():
        table[f"Number ({name})"] = [len(some) for some in samples.values()]
    return table


def same_within(limit, n_a, n_b, *, repeats=2000, seed=0):
    """Return how often two samples of the same distribution have a Kolmogorov-Smirnov distance below a limit.

    Small samples of one distribution differ by chance. This probability is what a perfect stand-in would reach. It
    does not depend on the distribution, as long as no two values are equal. For whole numbers such as counts of
    sources, the true probability is higher.

    Parameters
    ----------
    limit : float
        Limit of the distance, 0 to 1.
    n_a, n_b : int
        Sizes of the two samples, at least 1.
    repeats : int, optional
        Number of simulated pairs of samples.
    seed : int, optional
        Seed of the simulation.

    Returns
    -------
    float
        Probability, 0 to 1.

    Raises
    ------
    ValueError
        If a sample is empty.

    Examples
    --------
    >>> same_within(0.2, 10, 10) < same_within(0.2, 100, 100) < same_within(0.2, 1000, 1000)
    True
    """
    if min(n_a, n_b) < 1:
        raise ValueError(f"the samples have {n_a} and {n_b} values, but 1 or more is needed: give larger ones")
    rng = np.random.default_rng([seed, n_a, n_b])
    # Only the order of the values counts: each order of n_a steps up and n_b steps down is equally likely.
    steps = np.repeat([1 / n_a, -1 / n_b], [n_a, n_b])
    below = [abs(rng.permutation(steps).cumsum()).max() < limit - _ROUNDING for _ in range(repeats)]
    return float(np.mean(below))


def published_measurements():
    """Return the measurements of published images, to which stand-ins are compared.

    ``workflow/reference/published_cutouts.py`` measured images of Galaxy10 DECaLS at 256 px, about 50 of each class,
    after `as_jpeg`. They are among the first hundred rows of each class: mostly southern sky, not a random sample of
    the published file.

    Returns
    -------
    pandas.DataFrame
        One row per image: ``class`` (0 to 9), ``row`` (row in the published file, missing where unknown), then the
        columns of `measure_cutouts`, rounded to four digits.

    Examples
    --------
    >>> published_measurements()["class"].nunique()
    10
    """
    source = importlib.resources.files("galaxynb.standin") / "published_cutouts.csv"
    with source.open(encoding="utf-8") as lines:
        return pd.read_csv(lines, dtype={"row": "Int64"}, converters={"source_fwhms": _numbers})


def _numbers(text):
    """Return the numbers in a cell of ``source_fwhms``."""
    return tuple(float(number) for number in text.split())


def as_jpeg(images, *, quality=75):
    """Compress images as JPEG with chroma at half the resolution (4:2:0), and decompress them.

    The images behind `published_measurements` are of this kind. JPEG blurs colours, which raises the correlation of
    neighbouring sky pixels and between the channels, so compress a stand-in before comparing it with them.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        RGB images.
    quality : int, optional
        JPEG quality, 1 to 100.

    Returns
    -------
    ndarray of uint8, shape (N, H, W, 3)
        RGB images after compression.

    Raises
    ------
    TypeError
        If `images` is not uint8.
    ValueError
        If the shape of `images` is not (N, H, W, 3), or `quality` is out of range.
    """
    images = _checked("images", images, smallest=1)
    if not 1 <= quality <= 100:
        raise ValueError(
            f"quality is {quality}, but 1 to 100 is needed: give 75 for the quality of the published images"
        )
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    out = np.empty(images.shape, np.uint8)
    for image, decoded in zip(images, out, strict=True):
        # OpenCV encodes from BGR and decodes to BGR.
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
        decoded[:] = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return out


def shrink(images, size):
    """Shrink images by area averaging, as the study shrinks all its images.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        At least one image.
    size : int
        Side of the result in px.

    Returns
    -------
    ndarray of uint8, shape (N, size, size, 3)

    Examples
    --------
    >>> shrink(np.full((2, 64, 64, 3), 7, np.uint8), 32).shape
    (2, 32, 32, 3)
    """
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images])


def neighbour_accuracy(train_images, train_labels, *, test_images, test_labels, n_neighbors=20, size=32):
    """Return the accuracy of a nearest-neighbour classifier on raw pixels, a measure of how hard a data set is.

    Parameters
    ----------
    train_images, test_images : ndarray of uint8, shape (N, H, W, 3)
        RGB images. They are shrunk to `size` by area averaging.
    train_labels, test_labels : array_like of int, shape (N,)
        Classes, 0 to 9.
    n_neighbors : int, optional
        Number of neighbours, by Euclidean distance. With 20 neighbours, the README of
        gpdevspace/DINOv1_Galaxy10_DECaLS reports 0.419 on the published set; it does not give the number of training
        images.
    size : int, optional
        Side of the shrunk images in px.

    Returns
    -------
    float
        Accuracy on the test images, 0 to 1.

    Raises
    ------
    TypeError
        If images are not uint8.
    ValueError
        If shapes or lengths disagree, labels are not classes, a set is empty, or there are fewer training images than
        neighbours.
    """
    from sklearn.neighbors import KNeighborsClassifier

    pixels = {}
    for name, images in {"train_images": train_images, "test_images": test_images}.items():
        images = _checked(name, images, smallest=1)
        if len(images) == 0:
            raise ValueError(f"{name} is empty, but at least one image is needed: give one or more")
        pixels[name] = shrink(images, size).reshape(len(images), -1).astype(np.float32)
    train, test = pixels.values()
    train_labels = _classes("train_labels", train_labels, len(train))
    test_labels = _classes("test_labels", test_labels, len(test))
    if not 1 <= n_neighbors <= len(train):
        raise ValueError(
            f"n_neighbors is {n_neighbors}, but 1 to {len(train)}, the number of training images, is needed: change it "
            f"or give more training images"
        )
    # Brute force: search trees do not help in thousands of dimensions.
    classifier = KNeighborsClassifier(n_neighbors=n_neighbors, algorithm="brute")
    return float(classifier.fit(train, train_labels).score(test, test_labels))


def _measure(image):
    """Return the row of one image."""
    light, smooth, noise = _detection_image(image)
    segments = _segments(smooth, _FAINT * noise)
    sky = cv2.dilate((segments > 0).astype(np.uint8), np.ones((_MARGIN, _MARGIN), np.uint8)) == 0
    row = {"mean": image.mean()}
    for k, band in enumerate(_BANDS):
        plane = image[..., k]
        row[f"mean_{band}"], row[f"std_{band}"] = plane.mean() / 255, plane.std() / 255
        row[f"sky_{band}"], row[f"sky_std_{band}"] = _clipped(plane)
        for lag, correlation in enumerate(_correlations(plane, sky), start=1):
            row[f"corr{lag}_{band}"] = correlation
    found = _sources(light, smooth, noise)
    fwhms = found.loc[found["compact"], "fwhm"]
    row["n_sources"], row["n_bright"] = len(found), int((found["peak"] > _BRIGHT).sum())
    row["source_fwhm"], row["source_fwhms"] = fwhms.median(), tuple(fwhms.tolist())
    row |= {f"centre_{band}": value for band, value in zip(_BANDS, _box(image).mean(axis=(0, 1)), strict=True)}
    return row | _galaxy(image, light, noise, segments)


def _clipped(counts):
    """Return the mean and standard deviation of whole numbers >= 0 after 3-sigma clipping about the median.

    The function works on a histogram, which reduces a 256-px image to 256 numbers. This is ten times as fast as the
    function of astropy.
    """
    number = np.bincount(counts.ravel())
    value = np.arange(len(number))
    while True:
        total = number.sum()
        mean = (number @ value) / total
        std = np.sqrt((number @ (value - mean) ** 2) / total)
        cumulated = number.cumsum()
        median = (np.searchsorted(cumulated, (total + 1) // 2) + np.searchsorted(cumulated, total // 2 + 1)) / 2
        outlying = (abs(value - median) > 3 * std) & (number > 0)
        if not outlying.any():
            return mean, std
        number = np.where(outlying, 0, number)


def _detection_image(image):
    """Return the mean of R, G and B above sky, its smoothed version (both float32, shape (H, W)), and the sky noise."""
    total = image.sum(axis=2, dtype=np.int64)
    mean, std = _clipped(total)
    light = ((total - mean) / 3).astype(np.float32)
    return light, cv2.GaussianBlur(light, (0, 0), _SMOOTHING), max(std / 3, _QUIET)


def _segments(smooth, threshold):
    """Return photutils' segments as an array of labels, shape (H, W). 0 marks pixels in none."""
    from photutils.segmentation import detect_sources

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # photutils warns if it finds nothing
        segments = detect_sources(smooth, threshold, n_pixels=_AREA)
    return np.zeros(smooth.shape, np.int32) if segments is None else segments.data


def _catalog(light, segments):
    """Return photutils' catalog of the light in segments."""
    from photutils.segmentation import SegmentationImage, SourceCatalog

    return SourceCatalog(light, SegmentationImage(segments))


def _box(array):
    """Return the central 12 px of an image or a map."""
    top, left = ((side - _CENTRE) // 2 for side in array.shape[:2])
    return array[top : top + _CENTRE, left : left + _CENTRE]


def _central(segments):
    """Return the label with the most pixels at the centre, or 0 if there is none."""
    number = np.bincount(_box(segments).ravel(), minlength=2)
    number[0] = 0
    return int(number.argmax()) if number.any() else 0


def _correlations(plane, sky):
    """Return the correlation of sky pixels 1, 2 and 3 px apart, NaN if there are none or all are equal."""
    number = np.count_nonzero(sky)
    # Not float32: BLAS adds in an order that depends on threads and memory, which would change the fourth digit.
    values = np.where(sky, plane - (plane[sky].mean() if number else 0.0), 0.0)
    variance = np.square(values).sum() / max(number, 1)
    if variance == 0:
        return [np.nan] * 3
    correlations = []
    for lag in (1, 2, 3):
        along = []
        for these, those in ((np.s_[lag:], np.s_[:-lag]), (np.s_[:, lag:], np.s_[:, :-lag])):
            pairs = np.count_nonzero(sky[these] & sky[those])
            along.append(np.vdot(values[these], values[those]) / pairs if pairs else np.nan)
        correlations.append(np.mean(along) / variance)
    return correlations


def _sources(light, smooth, noise):
    """Return the table of `find_sources` from the results of `_detection_image`."""
    segments = _segments(smooth, _CLEAR * noise)
    segments[segments == _central(segments)] = 0
    names = ("x", "y", "peak", "flux", "area", "axis_ratio", "fwhm", "compact")
    if not segments.any():
        return pd.DataFrame({name: np.zeros(0, bool if name == "compact" else float) for name in names})
    catalog = _catalog(light, segments)
    peak, flux = catalog.max_value, catalog.segment_flux
    axis_ratio = _plain(catalog.semiminor_axis) / _plain(catalog.semimajor_axis)
    # Noise can make the flux or peak of a faint segment 0 or negative.
    fwhm = np.sqrt(4 * np.log(2) / np.pi * np.where((flux > 0) & (peak > 0), flux, np.nan) / peak)
    height, width = light.shape
    inside = (catalog.bbox_xmin > 0) & (catalog.bbox_xmax < width - 1)
    inside &= (catalog.bbox_ymin > 0) & (catalog.bbox_ymax < height - 1)
    compact = (axis_ratio >= _ROUND) & (fwhm < _COMPACT) & inside
    columns = (catalog.x_centroid, catalog.y_centroid, peak, flux, _plain(catalog.segment_area), axis_ratio, fwhm)
    table = pd.DataFrame(dict(zip(names, (*columns, compact), strict=True)))
    return table.sort_values("peak", ascending=False, ignore_index=True).astype(dict.fromkeys(names[:-1], float))


def _galaxy(image, light, noise, segments):
    """Return all columns of the central galaxy except those of its centre."""
    label = _central(segments)
    if label == 0:
        return dict.fromkeys(_OF_GALAXY, np.nan)
    return _in_segment(image, light, noise, _without_companions(light, segments == label))


def _in_segment(image, light, noise, segment):
    """Return the same columns for the light of an image in a segment."""
    catalog = _catalog(light, segment.astype(np.int32))
    major, minor = (float(_plain(axis)[0]) for axis in (catalog.semimajor_axis, catalog.semiminor_axis))
    centre = float(catalog.x_centroid[0]), float(catalog.y_centroid[0])
    flux = float(catalog.segment_flux[0])
    if not (flux > 0 and np.isfinite(major) and np.isfinite(centre).all()):
        return dict.fromkeys(_OF_GALAXY, np.nan)
    values = (
        major,
        minor / major,
        flux / 255,
        _colour(image, segment),
        _concentration(light, segment, centre),
        _asymmetry(light, segment, centre, noise),
    )
    return dict(zip(_OF_GALAXY, values, strict=True))


def _without_companions(light, segment):
    """Return the deblended part of the central segment with the most pixels at the centre: bool, shape (H, W)."""
    from photutils.segmentation import SegmentationImage, deblend_sources

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # photutils warns if a source is too flat for exponential levels
        parts = deblend_sources(
            cv2.GaussianBlur(light, (0, 0), _UNSHREDDED),
            SegmentationImage(segment.astype(np.int32)),
            n_pixels=_AREA,
            contrast=_COMPANION,
            progress_bar=False,
        ).data
    return parts == _central(parts)


def _colour(image, segment):
    """Return ln(R/B) of the light of a segment above sky, NaN if R or B has none."""
    red, blue = (image[..., k][segment].sum() - segment.sum() * _clipped(image[..., k])[0] for k in (0, 2))
    return float(np.log(red / blue)) if red > 0 and blue > 0 else np.nan


def _concentration(light, segment, centre):
    """Return 5 log10(r80 / r20) of the light of a segment, in circles about `centre`."""
    from photutils.aperture import CircularAperture

    y, x = np.nonzero(segment)
    window = np.s_[y.min() : y.max() + 1, x.min() : x.max() + 1]
    # Negative pixels of a segment are noise. Without them the light in a circle never falls with its radius.
    inside = np.where(segment, np.maximum(light, 0), 0)[window]
    centre = centre[0] - x.min(), centre[1] - y.min()
    radius = np.geomspace(0.5, np.hypot(*inside.shape), 40)
    growth = [CircularAperture(centre, r).do_photometry(inside)[0][0] for r in radius]
    total = growth[-1]
    r20, r80 = np.interp([0.2 * total, 0.8 * total], [0, *growth], [0, *radius])
    return float(5 * np.log10(r80 / r20))


def _asymmetry(light, segment, centre, noise):
    """Return the lowest asymmetry under rotation by 180 degrees about a centre within a pixel of `centre`.

    Centres lie on whole and half pixels, where the rotation needs no interpolation, which would blur the noise.
    """
    twice = np.rint(2 * np.asarray(centre)).astype(int)
    return min(
        _asymmetry_about(light, segment, twice[0] + dx, twice[1] + dy, noise) for dx in (-1, 0, 1) for dy in (-1, 0, 1)
    )


def _asymmetry_about(light, segment, twice_x, twice_y, noise):
    # The largest window that the rotation about (twice_x, twice_y) / 2 maps onto itself.
    window = tuple(
        slice(max(0, twice - side + 1), min(side - 1, twice) + 1)
        for twice, side in zip((twice_y, twice_x), light.shape, strict=True)
    )
    light, segment = light[window], segment[window]
    both = segment | segment[::-1, ::-1]
    difference = abs(light - light[::-1, ::-1])[both].sum()
    # The mean absolute difference of two pixels of Gaussian noise is 2 sigma / sqrt(pi).
    return float((difference - both.sum() * 2 * noise / np.sqrt(np.pi)) / abs(light[both]).sum())


def _plain(values):
    """Return photutils' values without their unit, pixels."""
    return np.asarray(getattr(values, "value", values), dtype=float)


def _values(measured, name, labels):
    """Return the finite values of each quantity, over all images and for each class, by quantity and class."""
    classes = None if labels is None else _classes(name, labels, len(measured))
    samples = {}
    for column, quantity in QUANTITIES.items():
        groups = {"all": measured[column]}
        if classes is not None and column in _BY_CLASS:
            groups |= {title: measured[column][classes == k] for k, title in enumerate(CLASS_NAMES)}
        for title, values in groups.items():
            if column == "source_fwhms":
                values = [fwhm for frame in values for fwhm in frame]
            values = np.asarray(values, dtype=float)
            samples[quantity, title] = values[np.isfinite(values)]
    return samples


def _ks_distance(a, b):
    if not (len(a) and len(b)):
        return np.nan
    # Only the p-value, which is not used, depends on the method. "asymp" is fast, but divides by 0 for tiny samples.
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(ks_2samp(a, b, method="asymp").statistic)


def _ratio(above, below):
    """Return the ratio of two columns: 1 where they are equal, infinite over 0."""
    above, below = above.to_numpy(), below.to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above == below, 1.0, above / below)


def _checked(name, images, smallest=SMALLEST_MEASURED):
    """Return images as an array. Raise an error with their name if they have another type or shape."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"{name} is {images.dtype}, but uint8 is needed: give values from 0 to 255")
    if images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:3]) < smallest:
        raise ValueError(
            f"{name} has shape {images.shape}, but (N, H, W, 3) with H and W of {smallest} or more is needed:"
            " stack RGB images"
        )
    return images


def _measured(name, images):
    """Return the result of `measure_cutouts`, which `images` may already be."""
    if not isinstance(images, pd.DataFrame):
        return measure_cutouts(_checked(name, images))
    missing = [column for column in QUANTITIES if column not in images]
    if missing:
        raise ValueError(
            f"{name} lacks the column {missing[0]}, but all are needed: give the result of measure_cutouts"
        )
    return images


def _classes(name, labels, number):
    """Return labels as an array. Raise an error with their name if they are not classes, one per image."""
    labels = np.asarray(labels)
    if labels.shape != (number,):
        raise ValueError(f"{name} has shape {labels.shape}, but ({number},) is needed: give one class per image")
    if labels.dtype.kind not in "iu" or (number and not 0 <= labels.min() <= labels.max() < len(CLASS_NAMES)):
        raise ValueError(
            f"a value of {name} is no class, but integers 0 to {len(CLASS_NAMES) - 1} are needed: "
            f"see galaxynb.data.galaxy10.CLASS_NAMES"
        )
    return labels
