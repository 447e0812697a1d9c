"""What a cutout looks like, in numbers: its sky, its sources and its central galaxy.

Made to say how close a synthetic stand-in comes to real images, so the same few definitions serve both. They
are simple on purpose: fixed thresholds above the sky, photutils' segments and moments. This is not photometry:
the survey's RGB saturates, and no number here says anything physical about a galaxy.

Detection works on the mean of R, G and B less its sky, smoothed by a Gaussian with a standard deviation of
1.2 px, and keeps segments of 5 px or more. The *sky* of a plane of pixels is what 3-sigma clipping about the
median leaves, repeated until nothing more goes; thresholds count in its standard deviation before smoothing.
Lengths are pixels of the image at hand, brightnesses are counts of 255 unless said otherwise.
"""

import importlib.resources
import warnings

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from galaxynb.data.galaxy10 import CLASS_NAMES

__all__ = [
    "QUANTITIES",
    "against_published",
    "as_jpeg",
    "compare_images",
    "find_sources",
    "measure_cutouts",
    "neighbour_accuracy",
    "published_figures",
]


_BANDS = ("r", "g", "b")


#: Names for reading of the columns that `cutouts` returns and `compare` compares, in that order.
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
        "concentration": "Galaxy concentration",
        "asymmetry": "Galaxy asymmetry",
    }
)


_OF_THE_GALAXY = ("size", "axis_ratio", "centre_r", "centre_g", "centre_b", "brightness", "concentration", "asymmetry")

_QUANTILES = {"10%": 0.1, "50%": 0.5, "90%": 0.9}


_SMALLEST = 64  # px: below it, too little sky is left around a galaxy

_CENTRE = 12  # px: side of the box at the frame's centre

_SMOOTHING = 1.2  # px: standard deviation of the Gaussian before detection

_AREA = 5  # px: the smallest segment

_FAINT = 2.5  # sky standard deviations: the central galaxy, and what is not sky

_CLEAR = 4.0  # sky standard deviations: off-centre sources

_BRIGHT = 90  # counts above sky at the peak: bright off-centre sources

_UNSHREDDED = 2.0  # px: smoothing before companions are parted, so that arms and dust lanes are none

_COMPANION = 0.2  # share of the central segment's flux that makes a companion one of its own

_MARGIN = 15  # px: side of the square by which sources are dilated before their sky is looked at

_ROUND, _COMPACT = 0.6, 8.0  # least axis ratio and largest FWHM (px) of a compact source

_QUIET = 0.5  # counts: the least sky noise a threshold counts in, about that of rounding to whole counts


def measure_cutouts(images, *, progress=False):
    """Measure each image's sky, sources and central galaxy.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        RGB, a galaxy at the centre of each; H and W of 64 or more.
    progress : bool, optional
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        A row an image. NaN where nothing is measurable.

        - ``mean``: mean of all pixels and channels, of 255.
        - ``mean_r``, ``std_r`` and so on for g, b: mean and standard deviation of the channel, from 0 to 1.
        - ``sky_r``, ``sky_std_r``: mean and standard deviation of what 3-sigma clipping leaves, of 255. A median
          would be a whole number.
        - ``corr1_r``, ``corr2_r``, ``corr3_r``: correlation of sky pixels 1, 2, 3 px apart, mean of horizontal and
          vertical. Sky is what lies outside all segments at 2.5 sigma, dilated by 7 px.
        - ``n_sources``: segments at 4 sigma but the central one; ``n_bright``: of them, those with a peak of more
          than 90 above sky.
        - ``source_fwhms``: tuple of the FWHM of the frame's compact off-centre sources, px, as `sources` defines
          them, so that quantiles can be taken over sources; ``source_fwhm``: their median.
        - Of the central galaxy, the segment at 2.5 sigma with most pixels in the central 12 px, parted from
          companions that hold a fifth of the flux or more: ``size``, the rms along the major axis (second moment
          of the light), px; ``axis_ratio`` of the moments; ``brightness``, the sum above sky of the mean of R, G
          and B, in units of 255; ``concentration``, 5 log10(r80 / r20) of the circles that hold 80% and 20% of the
          segment's light; ``asymmetry``, the absolute difference to the image turned by 180 degrees over the
          light, at the centre that makes it least, less what sky noise alone would give. The survey's stretch
          squeezes noise where there is light, so smooth galaxies come out a little below 0.
        - ``centre_r``, ``centre_g``, ``centre_b``: mean of the central 12 px, of 255.

    Raises
    ------
    TypeError
        If `images` is not uint8.
    ValueError
        If its shape is another.
    """
    images = _checked("images", images)
    rows = [_measure(image) for image in tqdm(images, desc="measuring", unit="image", disable=not progress)]
    columns = [*QUANTITIES]
    columns.insert(columns.index("source_fwhms"), "source_fwhm")
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({name: float for name in columns if name not in ("n_sources", "n_bright", "source_fwhms")})


def find_sources(image):
    """List the off-centre sources of one image, at 4 sigma above sky.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB; H and W of 64 or more.

    Returns
    -------
    pandas.DataFrame
        A row a source, the brightest peak first: ``x``, ``y`` (centroid, px; the first pixel's centre is 0),
        ``peak`` (above sky, of 255), ``flux`` (sum above sky, of 255), ``area`` (px), ``axis_ratio`` and ``fwhm`` in
        px: that of the Gaussian with this peak and this flux, sqrt(4 ln 2 / pi * flux / peak). Light below the
        threshold is lost, so faint sources come out narrower than they are. ``compact`` says whether the source
        has an axis ratio of 0.6 or more, a FWHM of less than 8 px and does not touch the border.

    Raises
    ------
    TypeError
        If `image` is not uint8.
    ValueError
        If its shape is another.
    """
    image = np.asarray(image)
    if image.ndim != 3:
        raise ValueError(f"image has shape {image.shape}, but (H, W, 3) is needed: give one image")
    (image,) = _checked("image", image[np.newaxis])
    return _sources(*_detection_image(image))


def compare_images(images_a, images_b, *, labels_a=None, labels_b=None):
    """Set the quantities of two sets of images side by side.

    Parameters
    ----------
    images_a, images_b : ndarray of uint8, shape (N, H, W, 3), or pandas.DataFrame
        Images, or what `cutouts` returned for them.
    labels_a, labels_b : array_like of int, shape (N,), optional
        Classes, 0..9: both or neither. With them, the central galaxy's quantities come by class too.

    Returns
    -------
    pandas.DataFrame
        Columns ``Quantity``, ``Class`` (``all``, or a name of `CLASS_NAMES`), the quantiles ``10% (a)``,
        ``50% (a)``, ``90% (a)`` and so for b, ``Median ratio``, which is b's over a's, and ``Spread ratio``, which is
        b's distance from 10% to 90% over a's. A ratio is 1 where both are the same number, 0 included. The
        FWHM's quantiles are taken over sources, all others over images.

    Raises
    ------
    TypeError
        If images are neither uint8 nor a DataFrame.
    ValueError
        If shapes or lengths disagree, labels are no classes, or a DataFrame is not from `cutouts`.
    """
    if (labels_a is None) != (labels_b is None):
        missing = "labels_a" if labels_a is None else "labels_b"
        raise ValueError(f"{missing} is missing, but classes are compared with classes: give both labels or neither")
    a, b = _measured("images_a", images_a), _measured("images_b", images_b)
    a, b = _quantiles(a, "labels_a", labels_a), _quantiles(b, "labels_b", labels_b)
    table = a[["Quantity", "Class"]].copy()
    for name, quantiles in {"a": a, "b": b}.items():
        for title in _QUANTILES:
            table[f"{title} ({name})"] = quantiles[title]
    table["Median ratio"] = _ratio(b["50%"], a["50%"])
    table["Spread ratio"] = _ratio(b["90%"] - b["10%"], a["90%"] - a["10%"])
    return table


def published_figures():
    """Return what is known of the published images.

    The numbers were measured on 110 images of Galaxy10 DECaLS at 256 px as JPEG of quality 75, whose chroma
    blur raises the sky's correlation: see `as_jpeg`. One sky correlation was measured for all channels.

    Returns
    -------
    pandas.DataFrame
        Columns ``Quantity``, ``Class``, ``Mean``, ``10%``, ``50%``, ``90%``; NaN where a number is not known.
        Brightness and contrast of the frame are known as means over images, the rest as quantiles.
    """
    source = importlib.resources.files("galaxynb.standin") / "published_cutouts.csv"
    with source.open(encoding="utf-8") as lines:
        table = pd.read_csv(lines, comment="#")
    names = {str(k): name for k, name in enumerate(CLASS_NAMES)} | {"all": "all"}
    return pd.DataFrame(
        {"Quantity": table["quantity"].map(QUANTITIES), "Class": table["class"].map(names), "Mean": table["mean"]}
        | {title: table[title].astype(float) for title in _QUANTILES}
    )


def against_published(measured, *, labels=None):
    """Set a stand-in's quantities beside the published ones, with what is asked of each.

    Parameters
    ----------
    measured : pandas.DataFrame
        From `cutouts`, of images that went through `as_jpeg`.
    labels : array_like of int, shape (N,), optional
        Their classes, 0..9. Without them, the rows of a class stay empty.

    Returns
    -------
    pandas.DataFrame
        `published` with its numbers as ``Mean (published)``, ``10% (published)`` and so on, then the stand-in's
        ``Mean``, ``10%``, ``50%``, ``90%``, ``Target`` in words, and ``Met``: True, False, or missing where nothing was
        measured. Targets: frame brightness and contrast, mean within 5%; sky and its noise, median within 10%
        and inside the published 10% to 90% where that is known; its correlation, known to one digit, within 10% or
        half of that digit; sources, each quantile within 25%; galaxies of a class, median within 20% and the
        distance from 10% to 90% within a factor of 1.5 where it is known.

    Raises
    ------
    ValueError
        If `measured` is not from `cutouts`, or `labels` do not match it.
    """
    table = published_figures()
    ours = _quantiles(_measured("measured", measured), "labels", labels).set_index(["Quantity", "Class"])
    ours = ours.reindex(pd.MultiIndex.from_frame(table[["Quantity", "Class"]])).reset_index(drop=True)
    columns = ["Mean", *_QUANTILES]
    pairs = zip(table.to_dict("records"), ours.to_dict("records"), strict=True)
    judged = [_judge(theirs, mine) for theirs, mine in pairs]
    table = table.rename(columns={title: f"{title} (published)" for title in columns})
    table[columns] = ours[columns]
    table["Target"] = [target for target, _ in judged]
    table["Met"] = pd.array([met for _, met in judged], dtype="boolean")
    return table


def as_jpeg(images, *, quality=75):
    """Return images as they come back from JPEG, with chroma at half the resolution (4:2:0).

    The `published` figures were measured on such images. JPEG blurs colours and so raises the correlation of
    neighbouring sky pixels: send a stand-in through here before it is set against them.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, 3)
        RGB.
    quality : int, optional
        JPEG's quality, 1 to 100.

    Returns
    -------
    ndarray of uint8, shape (N, H, W, 3)
        RGB.

    Raises
    ------
    TypeError
        If `images` is not uint8.
    ValueError
        If its shape is another, or `quality` is out of range.
    """
    images = _checked("images", images, smallest=1)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}, but JPEG's lies between 1 and 100: the published images have 75")
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    out = np.empty(images.shape, np.uint8)
    for image, decoded in zip(images, out, strict=True):
        # OpenCV's order is BGR, in and out.
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
        decoded[:] = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return out


def neighbour_accuracy(train_images, train_labels, *, test_images, test_labels, n_neighbors=20, size=32):
    """Return the accuracy of nearest neighbours on raw pixels: how hard a set is before anything is learnt.

    Parameters
    ----------
    train_images, test_images : ndarray of uint8, shape (N, H, W, 3)
        Shrunk to `size` by area.
    train_labels, test_labels : array_like of int, shape (N,)
        Classes, 0..9.
    n_neighbors : int, optional
        Neighbours that vote, by Euclidean distance. For 20, .419 is reported of the published set
        (README of gpdevspace/DINOv1_Galaxy10_DECaLS), of how many training images is not said.
    size : int, optional
        Side of the shrunk images, px.

    Returns
    -------
    float
        The share of test images classed right.

    Raises
    ------
    TypeError
        If images are not uint8.
    ValueError
        If shapes or lengths disagree, labels are no classes, a set is empty, or there are fewer training images
        than neighbours.
    """
    from sklearn.neighbors import KNeighborsClassifier

    pixels = {}
    for name, images in {"train_images": train_images, "test_images": test_images}.items():
        images = _checked(name, images, smallest=1)
        if len(images) == 0:
            raise ValueError(f"{name} is empty, but at least one image is needed: give some")
        small = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images]
        pixels[name] = np.reshape(small, (len(images), -1)).astype(np.float32)
    train, test = pixels.values()
    train_labels = _classes("train_labels", train_labels, len(train))
    test_labels = _classes("test_labels", test_labels, len(test))
    if not 1 <= n_neighbors <= len(train):
        raise ValueError(
            f"n_neighbors is {n_neighbors}, but 1 to {len(train)}, the number of training images, is needed"
        )
    # By brute force: trees do not help in thousands of dimensions.
    classifier = KNeighborsClassifier(n_neighbors=n_neighbors, algorithm="brute")
    return float(classifier.fit(train, train_labels).score(test, test_labels))


def _measure(image):
    """Return one image's row."""
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
    return row | _galaxy(light, noise, segments)


def _clipped(counts):
    """Return mean and standard deviation of whole numbers >= 0 after 3-sigma clipping about the median.

    On a histogram, which a 256-px frame shrinks to 256 numbers: ten times as fast as astropy's.
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
    """Return the mean of R, G and B above its sky, the same smoothed, both (H, W) float32, and the sky's noise."""
    total = image.sum(axis=2, dtype=np.int64)
    mean, std = _clipped(total)
    light = ((total - mean) / 3).astype(np.float32)
    return light, cv2.GaussianBlur(light, (0, 0), _SMOOTHING), max(std / 3, _QUIET)


def _segments(smooth, threshold):
    """Return photutils' segments as labels, (H, W) int; 0 is none."""
    from photutils.segmentation import detect_sources

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing was found
        segments = detect_sources(smooth, threshold, n_pixels=_AREA)
    return np.zeros(smooth.shape, np.int32) if segments is None else segments.data


def _catalog(light, segments):
    """Return photutils' catalog of the segments' light."""
    from photutils.segmentation import SegmentationImage, SourceCatalog

    return SourceCatalog(light, SegmentationImage(segments))


def _box(array):
    """Return the central 12 px of an image or a map."""
    top, left = ((side - _CENTRE) // 2 for side in array.shape[:2])
    return array[top : top + _CENTRE, left : left + _CENTRE]


def _central(segments):
    """Return the label that has most pixels at the centre, 0 for none."""
    number = np.bincount(_box(segments).ravel(), minlength=2)
    number[0] = 0
    return int(number.argmax()) if number.any() else 0


def _correlations(plane, sky):
    """Return the correlation of sky pixels 1, 2 and 3 px apart, NaN where there are none or they are all equal."""
    number = np.count_nonzero(sky)
    values = np.where(sky, plane - (plane[sky].mean() if number else 0), 0).astype(np.float32)
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
    """Return `sources` of an image from what `_detection_image` gives."""
    segments = _segments(smooth, _CLEAR * noise)
    segments[segments == _central(segments)] = 0
    names = ("x", "y", "peak", "flux", "area", "axis_ratio", "fwhm", "compact")
    if not segments.any():
        return pd.DataFrame({name: np.zeros(0, bool if name == "compact" else float) for name in names})
    catalog = _catalog(light, segments)
    peak, flux = catalog.max_value, catalog.segment_flux
    axis_ratio = _plain(catalog.semiminor_axis) / _plain(catalog.semimajor_axis)
    # Noise can leave a faint segment without light of its own.
    fwhm = np.sqrt(4 * np.log(2) / np.pi * np.where((flux > 0) & (peak > 0), flux, np.nan) / peak)
    height, width = light.shape
    inside = (catalog.bbox_xmin > 0) & (catalog.bbox_xmax < width - 1)
    inside &= (catalog.bbox_ymin > 0) & (catalog.bbox_ymax < height - 1)
    compact = (axis_ratio >= _ROUND) & (fwhm < _COMPACT) & inside
    columns = (catalog.x_centroid, catalog.y_centroid, peak, flux, _plain(catalog.segment_area), axis_ratio, fwhm)
    table = pd.DataFrame(dict(zip(names, (*columns, compact), strict=True)))
    return table.sort_values("peak", ascending=False, ignore_index=True).astype(dict.fromkeys(names[:-1], float))


def _galaxy(light, noise, segments):
    """Return the central galaxy's columns but its colour."""
    label = _central(segments)
    names = ("size", "axis_ratio", "brightness", "concentration", "asymmetry")
    if label == 0:
        return dict.fromkeys(names, np.nan)
    segment = _without_companions(light, segments == label)
    catalog = _catalog(light, segment.astype(np.int32))
    major, minor = (float(_plain(axis)[0]) for axis in (catalog.semimajor_axis, catalog.semiminor_axis))
    centre = float(catalog.x_centroid[0]), float(catalog.y_centroid[0])
    flux = float(catalog.segment_flux[0])
    if not (flux > 0 and np.isfinite(major) and np.isfinite(centre).all()):
        return dict.fromkeys(names, np.nan)
    values = (
        major,
        minor / major,
        flux / 255,
        _concentration(light, segment, centre),
        _asymmetry(light, segment, centre, noise),
    )
    return dict(zip(names, values, strict=True))


def _without_companions(light, segment):
    """Return the part of the central segment that has most pixels at the centre, (H, W) bool."""
    from photutils.segmentation import SegmentationImage, deblend_sources

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a source was too flat for levels spaced exponentially
        parts = deblend_sources(
            cv2.GaussianBlur(light, (0, 0), _UNSHREDDED),
            SegmentationImage(segment.astype(np.int32)),
            n_pixels=_AREA,
            contrast=_COMPANION,
            progress_bar=False,
        ).data
    return parts == _central(parts)


def _concentration(light, segment, centre):
    """Return 5 log10(r80 / r20) of the segment's light, in circles about `centre`."""
    from photutils.aperture import CircularAperture

    y, x = np.nonzero(segment)
    window = np.s_[y.min() : y.max() + 1, x.min() : x.max() + 1]
    # A segment's negative pixels are noise; without them the light grows with the radius.
    inside = np.where(segment, np.maximum(light, 0), 0)[window]
    centre = centre[0] - x.min(), centre[1] - y.min()
    radius = np.geomspace(0.5, np.hypot(*inside.shape), 40)
    growth = [CircularAperture(centre, r).do_photometry(inside)[0][0] for r in radius]
    total = growth[-1]
    r20, r80 = np.interp([0.2 * total, 0.8 * total], [0, *growth], [0, *radius])
    return float(5 * np.log10(r80 / r20))


def _asymmetry(light, segment, centre, noise):
    """Return the asymmetry under a turn by 180 degrees, at the best centre within a pixel of `centre`.

    Centres lie on whole and half pixels: turning is then exact, and blurs no noise.
    """
    twice = np.rint(2 * np.asarray(centre)).astype(int)
    return min(
        _asymmetry_about(light, segment, twice[0] + dx, twice[1] + dy, noise) for dx in (-1, 0, 1) for dy in (-1, 0, 1)
    )


def _asymmetry_about(light, segment, twice_x, twice_y, noise):
    # The largest frame that a turn about (twice_x, twice_y) / 2 maps onto itself.
    window = tuple(
        slice(max(0, twice - side + 1), min(side - 1, twice) + 1)
        for twice, side in zip((twice_y, twice_x), light.shape, strict=True)
    )
    light, segment = light[window], segment[window]
    here = segment | segment[::-1, ::-1]
    difference = abs(light - light[::-1, ::-1])[here].sum()
    # Two pixels of Gaussian noise differ by 2 sigma / sqrt(pi) on average.
    return float((difference - here.sum() * 2 * noise / np.sqrt(np.pi)) / abs(light[here]).sum())


def _plain(values):
    """Return photutils' values without their unit, which is pixels."""
    return np.asarray(getattr(values, "value", values), dtype=float)


def _quantiles(measured, name, labels):
    """Return mean and quantiles of each quantity, over all images and by class, as rows."""
    classes = None if labels is None else _classes(name, labels, len(measured))
    rows = []
    for column, quantity in QUANTITIES.items():
        groups = [("all", measured[column])]
        if classes is not None and column in _OF_THE_GALAXY:
            groups += [(title, measured[column][classes == k]) for k, title in enumerate(CLASS_NAMES)]
        for title, values in groups:
            if column == "source_fwhms":
                values = [fwhm for frame in values for fwhm in frame]
            values = np.asarray(values, dtype=float)
            values = values[np.isfinite(values)]
            row = {"Quantity": quantity, "Class": title, "Mean": values.mean() if len(values) else np.nan}
            rows.append(
                row | {key: np.quantile(values, at) if len(values) else np.nan for key, at in _QUANTILES.items()}
            )
    return pd.DataFrame(rows)


def _ratio(above, below):
    """Return the ratio of two columns: 1 where they are equal, infinite over 0."""
    above, below = above.to_numpy(), below.to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above == below, 1.0, above / below)


def _judge(theirs, ours):
    """Return the target of one row of `published` in words, and whether `ours` meets it, or None."""

    def within(key, share):
        return abs(ours[key] - theirs[key]) <= share * abs(theirs[key]) + 1e-12

    spread = theirs["90%"] - theirs["10%"]
    if np.isfinite(theirs["Mean"]):
        target, met = "mean within 5%", within("Mean", 0.05)
    elif theirs["Class"] != "all":
        target, met = "median within 20%", within("50%", 0.2)
        if np.isfinite(spread):
            target += ", spread within a factor of 1.5"
            met &= spread / 1.5 <= ours["90%"] - ours["10%"] <= spread * 1.5
    elif theirs["Quantity"].startswith("Sky"):
        target, met = "median within 10%", within("50%", 0.1)
        if theirs["Quantity"].startswith("Sky correlation"):
            half = 0.5 * 10 ** np.floor(np.log10(theirs["50%"]))
            target += f" or {half:g}"
            met |= abs(ours["50%"] - theirs["50%"]) <= half
        if np.isfinite(spread):
            target += f" and from {theirs['10%']:g} to {theirs['90%']:g}"
            met &= theirs["10%"] <= ours["50%"] <= theirs["90%"]
    else:
        target, met = "10%, 50% and 90% within 25%", all(within(key, 0.25) for key in _QUANTILES)
    return target, bool(met) if np.isfinite(ours["50%"]) else None


def _checked(name, images, smallest=_SMALLEST):
    """Return images as an array, or refuse them by name."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"{name} is {images.dtype}, but uint8 is needed: give counts from 0 to 255")
    if images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:3]) < smallest:
        raise ValueError(
            f"{name} has shape {images.shape}, but (N, H, W, 3) with H and W of {smallest} or more is needed:"
            " stack RGB images"
        )
    return images


def _measured(name, images):
    """Return what `cutouts` makes of images, or the DataFrame that it made of them."""
    if not isinstance(images, pd.DataFrame):
        return measure_cutouts(_checked(name, images))
    missing = [column for column in QUANTITIES if column not in images]
    if missing:
        raise ValueError(f"{name} has no column {missing[0]}: give what measure.cutouts returned")
    return images


def _classes(name, labels, number):
    """Return labels as an array, or refuse them by name."""
    labels = np.asarray(labels)
    if labels.shape != (number,):
        raise ValueError(f"{name} has shape {labels.shape}, but ({number},) is needed: give one class an image")
    if labels.dtype.kind not in "iu" or (number and not 0 <= labels.min() <= labels.max() < len(CLASS_NAMES)):
        raise ValueError(f"{name} must hold classes 0 to {len(CLASS_NAMES) - 1} as integers: see layout.CLASS_NAMES")
    return labels
