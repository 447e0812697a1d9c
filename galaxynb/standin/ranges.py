"""The ranges that the stand-in is drawn from: for each class, for the survey, and for other objects in a cutout.

This module holds every number that decides how the synthetic galaxies look, with its source.
`galaxynb.standin.galaxies` and `galaxynb.standin.field` draw from them. "Measured" means fitted to distributions
measured on 499 published cutouts (`galaxynb.standin.published_cutouts`, a table of numbers), never to single images.

References
----------
Dey, A. et al. 2019, AJ 157, 168: the survey's seeing and depth.
Graham, A. & Worley, C. 2008, MNRAS 388, 1708: bulge-to-disc ratios and bulge sizes of disc galaxies.
Blanton, M. & Moustakas, J. 2009, ARA&A 47, 159: colours, Sersic indices and sizes of nearby galaxies.
Davis, B. et al. 2012, ApJS 199, 33: pitch angles.
Gadotti, D. 2011, MNRAS 415, 3308: light fractions, lengths and axis ratios of bars.
"""

import dataclasses
import hashlib
import math
import numbers

import pandas as pd

from galaxynb.data.galaxy10 import CLASS_NAMES

__all__ = [
    "AMBIGUOUS_SHARE",
    "CLASS_RANGES",
    "CONFUSED_WITH",
    "FORMS",
    "NEIGHBOURS",
    "SKY",
    "SKY_COMMON",
    "SKY_NOISE",
    "SKY_SKEW",
    "SKY_SMOOTH",
    "SURVEY",
    "TWINS",
    "ClassRanges",
    "Survey",
    "forms_table",
    "ranges_digest",
    "ranges_of",
    "ranges_table",
]


#: Forms of a galaxy. A pair consists of two or three galaxies of the other forms.
FORMS = ("spheroid", "disc", "edge-on", "irregular", "pair")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassRanges:
    """Ranges (low, high) that the galaxies of a class are drawn from.

    The radius is log-normal, with 10% of the galaxies below low and 10% above high. All other quantities are uniform
    between low and high, with three exceptions:

    - Within a class, surface brightness falls with size, by `fading` mag per e-fold of the radius. The magnitude
      follows from the area, in which a disc thinner than 0.12 counts as that thick.
    - Old stars are redder in galaxies with a brighter surface. The rank in surface brightness determines about a third
      of the place of `old` in its range, and chance the rest.
    - The place of `old` in its range determines half of the place of `young`, and chance the rest.

    Lengths are arcsec or shares of `radius`, angles degrees, and colours AB magnitudes.

    Raises
    ------
    ValueError
        If a range is not a pair (low, high) with low <= high, if it exceeds the limits of its quantity, or if the
        upper ends of bulge, bar and halo sum to more than all of the light.
    """

    #: Pairs of a form and its probability. The probabilities sum to 1.
    forms: tuple[tuple[str, float], ...]
    #: Half-light radius, arcsec, of only the spheroid or disc, along its major axis (measured). The radius of the
    #: whole galaxy is smaller if it has a core, a bulge or an outer break, most of all edge-on, and larger with a halo.
    radius: tuple[float, float]
    #: Apparent axis ratio, or the thickness of an edge-on galaxy (measured).
    axis_ratio: tuple[float, float]
    #: Mean r surface brightness within the radius, mag/arcsec2 (Blanton & Moustakas, then measured).
    mu: tuple[float, float]
    #: Magnitudes by which the surface brightness falls per e-fold of the radius. At the middle of `radius` the range is
    #: `mu` (measured).
    fading: float = 0.9
    #: g - r of old stars (bulge, bar, smooth light) and of young stars (arms, knots, outskirts), from Blanton &
    #: Moustakas, then fitted to the measured colours of centres.
    old: tuple[float, float] = (0.7, 0.98)
    young: tuple[float, float] = (0.25, 0.6)
    #: Share of young stars in the light of the disc.
    young_share: tuple[float, float] = (0.2, 0.6)
    #: Sersic index of a spheroid or bulge.
    sersic: tuple[float, float] = (1.0, 4.0)
    #: Bulge-to-total ratio, and half-light radius of the bulge as a share of `radius` (Graham & Worley).
    bulge: tuple[float, float] = (0.0, 0.0)
    bulge_radius: tuple[float, float] = (0.1, 0.25)
    #: Share of the light in a bar, half-length of the bar as a share of `radius`, and its axis ratio (Gadotti).
    bar: tuple[float, float] = (0.0, 0.0)
    bar_length: tuple[float, float] = (0.5, 1.0)
    bar_ratio: tuple[float, float] = (0.22, 0.42)
    #: Brightness of arms relative to the disc between them, their sharpness, and how torn they are: 0 is smooth and
    #: 1 is flocculent.
    arms: tuple[float, float] = (0.0, 0.0)
    arm_sharpness: tuple[float, float] = (0.8, 2.5)
    flocculence: tuple[float, float] = (0.1, 0.5)
    #: Pitch angle (Davis et al.), and numbers of arms to choose from with equal probability per entry.
    pitch: tuple[float, float] = (10.0, 20.0)
    arm_numbers: tuple[int, ...] = (2,)
    #: Probability of a ring.
    ring: float = 0.0
    #: Standard deviation of ln(brightness) of patches of young stars.
    clumps: tuple[float, float] = (0.1, 0.3)
    #: Amplitude by which one side outshines the other (m = 1).
    lopsided: tuple[float, float] = (0.0, 0.1)
    #: Optical depth in g of dust: in lanes along arms, or in the plane of an edge-on disc.
    dust: tuple[float, float] = (0.0, 0.0)
    #: Share of the light in a wide halo.
    halo: tuple[float, float] = (0.0, 0.0)
    #: Numbers of tidal tails to choose from, and the probability of shells.
    tails: tuple[int, ...] = (0,)
    shell: float = 0.0
    #: Distance between members of a pair in units of the radius of the first. Log-normal like `radius`.
    separation: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self):
        _check_forms(self.forms)
        for name, (lowest, highest) in _LIMITS.items():
            low, high = _pair(name, getattr(self, name))
            if not lowest <= low <= high <= highest:
                raise ValueError(
                    f"{name} is ({low:g}, {high:g}), but {lowest:g} <= low <= high <= {highest:g} is needed: "
                    f"give a range within these limits"
                )
        most = self.bulge[1] + self.bar[1] + self.halo[1]
        if most > 1 + 1e-9:
            raise ValueError(
                f"the highest sum of bulge, bar and halo is {most:g}, but at most 1 is needed: lower one of the ranges"
            )
        if not isinstance(self.fading, numbers.Real) or not 0 <= self.fading <= 3:
            raise ValueError(f"fading is {self.fading!r}, but a number of magnitudes is needed: give one from 0 to 3")
        for name in ("ring", "shell"):
            chance = getattr(self, name)
            if not isinstance(chance, numbers.Real) or not 0 <= chance <= 1:
                raise ValueError(f"{name} is {chance!r}, but a probability is needed: give a number from 0 to 1")
        for name in ("arm_numbers", "tails"):
            choices = getattr(self, name)
            if (
                not isinstance(choices, (tuple, list))
                or not choices
                or not all(isinstance(number, numbers.Integral) and number >= 0 for number in choices)
            ):
                raise ValueError(
                    f"{name} is {choices!r}, but a tuple of whole numbers of at least 0 is needed: give one or more"
                )


def _check_forms(forms):
    try:
        names, weights = zip(*((form, float(weight)) for form, weight in forms), strict=True)
    except (TypeError, ValueError):
        raise ValueError(f"forms is {forms!r}, but pairs are needed: give (form, probability) for each") from None
    unknown = [name for name in names if name not in FORMS]
    if unknown:
        raise ValueError(f"a form is {unknown[0]!r}, but a known one is needed: choose from {', '.join(FORMS)}")
    total = sum(weights)
    if not all(weight >= 0 for weight in weights) or not math.isclose(total, 1):
        raise ValueError(
            f"the probabilities of forms are {weights}, but numbers of at least 0 that sum to 1 are needed: change them"
        )


def _pair(name, value):
    try:
        low, high = map(float, value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}, but a pair of numbers is needed: give (low, high)") from None
    return low, high


#: Limits of each range.
_LIMITS = {
    "radius": (0.1, 100),
    "axis_ratio": (0.02, 1),
    "mu": (15, 26),
    "old": (-0.5, 2),
    "young": (-0.5, 2),
    "young_share": (0, 1),
    "sersic": (0.3, 8),
    "bulge": (0, 1),
    "bulge_radius": (0.01, 1),
    "bar": (0, 0.6),
    "bar_length": (0.1, 3),
    "bar_ratio": (0.1, 1),
    "arms": (0, 10),
    "arm_sharpness": (0, 10),
    "flocculence": (0, 2),
    "pitch": (1, 80),
    "clumps": (0, 2),
    "lopsided": (0, 1),
    "dust": (0, 5),
    "halo": (0, 1),
    "separation": (0, 10),
}


#: Ranges of each class, in the order of `CLASS_NAMES`.
CLASS_RANGES = (
    ClassRanges(  # Disturbed
        forms=(("irregular", 0.6), ("disc", 0.22), ("spheroid", 0.18)),
        radius=(2.24, 6.16),
        axis_ratio=(0.14, 0.92),
        mu=(20.13, 21.89),
        old=(0.42, 1.48),
        young=(-0.03, 0.96),
        young_share=(0.44, 0.93),
        bulge=(0.05, 0.3),
        arms=(0.3, 1.5),
        flocculence=(0.4, 1.0),
        pitch=(20, 45),
        arm_numbers=(1, 1, 2),
        clumps=(0.01, 0.33),
        lopsided=(0.3, 0.83),
        halo=(0.0, 0.15),
        tails=(0, 1, 1, 2),
        shell=0.25,
    ),
    ClassRanges(  # Merging
        forms=(("pair", 1.0),),
        radius=(1.2, 2.36),
        axis_ratio=(0.3, 0.94),
        mu=(19.09, 21.24),
        old=(0.78, 1.26),
        young=(-0.13, 0.67),
        young_share=(0.1, 0.5),
        sersic=(0.75, 3.13),
        bulge=(0.1, 0.5),
        arms=(0.3, 1.5),
        flocculence=(0.3, 0.9),
        pitch=(18, 40),
        arm_numbers=(1, 2, 2),
        clumps=(0.1, 0.4),
        lopsided=(0.1, 0.6),
        halo=(0.02, 0.25),
        tails=(0, 1, 1, 2),
        shell=0.35,
        separation=(1.1, 4.8),
    ),
    ClassRanges(  # Round Smooth
        forms=(("spheroid", 0.9), ("disc", 0.1)),
        radius=(0.73, 6.32),
        axis_ratio=(0.81, 1.0),
        mu=(19.76, 21.38),
        old=(0.48, 1.19),
        young=(0.35, 0.67),
        young_share=(0.1, 0.5),
        sersic=(0.52, 4.44),
        bulge=(0.1, 0.35),
        arms=(0.0, 0.25),
        flocculence=(0.2, 0.6),
        pitch=(12, 30),
        arm_numbers=(2, 3),
        clumps=(0.08, 0.19),
        halo=(0.0, 0.2),
    ),
    ClassRanges(  # In-between Round Smooth
        forms=(("spheroid", 0.85), ("disc", 0.15)),
        radius=(1.47, 3.54),
        axis_ratio=(0.45, 0.74),
        mu=(20.12, 21.7),
        old=(0.33, 1.17),
        young=(0.35, 0.67),
        young_share=(0.1, 0.5),
        sersic=(0.5, 1.58),
        bulge=(0.1, 0.35),
        arms=(0.0, 0.25),
        flocculence=(0.2, 0.6),
        pitch=(12, 30),
        arm_numbers=(2, 3),
        clumps=(0.0, 0.19),
        halo=(0.0, 0.1),
    ),
    ClassRanges(  # Cigar Shaped Smooth
        forms=(("spheroid", 1.0),),
        radius=(2.11, 5.62),
        axis_ratio=(0.2, 0.45),
        mu=(19.08, 22.8),
        old=(0.24, 1.13),
        sersic=(0.45, 1.1),
        clumps=(0.02, 0.2),
        halo=(0.0, 0.04),
    ),
    ClassRanges(  # Barred Spiral
        forms=(("disc", 1.0),),
        radius=(2.34, 12.1),
        axis_ratio=(0.55, 0.99),
        mu=(20.12, 22.47),
        old=(0.71, 1.34),
        young=(0.21, 0.66),
        young_share=(0.05, 0.58),
        sersic=(1.0, 2.5),
        bulge=(0.01, 0.18),
        bulge_radius=(0.08, 0.16),
        bar=(0.15, 0.32),
        bar_length=(0.75, 1.3),
        bar_ratio=(0.2, 0.33),
        arms=(0.4, 1.8),
        pitch=(9, 30),
        arm_numbers=(2, 2, 2, 3),
        ring=0.25,
        clumps=(0.03, 0.4),
        lopsided=(0.05, 0.97),
        dust=(0.0, 0.4),
        halo=(0.0, 0.08),
    ),
    ClassRanges(  # Unbarred Tight Spiral
        forms=(("disc", 1.0),),
        radius=(3.68, 8.2),
        axis_ratio=(0.5, 0.95),
        mu=(20.67, 22.51),
        old=(0.63, 1.33),
        young=(0.23, 0.68),
        young_share=(0.07, 0.8),
        sersic=(1.0, 3.5),
        bulge=(0.04, 0.31),
        bulge_radius=(0.1, 0.25),
        arms=(0.5, 2.0),
        arm_sharpness=(0.6, 2.0),
        flocculence=(0.1, 0.6),
        pitch=(7, 16),
        arm_numbers=(2, 2, 3, 4),
        ring=0.2,
        clumps=(0.04, 0.37),
        lopsided=(0.18, 0.99),
        dust=(0.0, 0.4),
        halo=(0.0, 0.08),
    ),
    ClassRanges(  # Unbarred Loose Spiral
        forms=(("disc", 0.92), ("irregular", 0.08)),
        radius=(2.18, 7.15),
        axis_ratio=(0.4, 0.99),
        mu=(20.51, 22.67),
        old=(0.57, 1.34),
        young=(-0.03, 0.86),
        young_share=(0.15, 0.94),
        sersic=(0.9, 2.5),
        bulge=(0.01, 0.21),
        bulge_radius=(0.08, 0.2),
        arms=(0.4, 2.0),
        arm_sharpness=(1.0, 3.5),
        flocculence=(0.1, 0.7),
        pitch=(18, 40),
        arm_numbers=(2, 2, 2, 1, 3),
        clumps=(0.02, 0.39),
        lopsided=(0.01, 0.85),
        dust=(0.0, 0.3),
        halo=(0.0, 0.08),
        tails=(0, 0, 0, 0, 1),
    ),
    ClassRanges(  # Edge-on without Bulge
        forms=(("edge-on", 1.0),),
        radius=(4.67, 20.79),
        axis_ratio=(0.07, 0.33),
        mu=(20.04, 22.21),
        fading=0.3,
        old=(0.26, 1.16),
        young=(-0.15, 0.75),
        young_share=(0.05, 0.7),
        sersic=(0.8, 1.8),
        bulge=(0.0, 0.08),
        bulge_radius=(0.08, 0.2),
        clumps=(0.26, 0.5),
        lopsided=(0.03, 0.66),
        dust=(0.0, 1.2),
        halo=(0.0, 0.06),
    ),
    ClassRanges(  # Edge-on with Bulge
        forms=(("edge-on", 1.0),),
        radius=(1.84, 12.09),
        axis_ratio=(0.05, 0.33),
        mu=(19.15, 20.95),
        old=(0.82, 1.2),
        young=(-0.06, 0.97),
        young_share=(0.06, 0.62),
        sersic=(1.5, 4.0),
        bulge=(0.28, 0.64),
        bulge_radius=(0.09, 0.26),
        clumps=(0.01, 0.47),
        lopsided=(0.0, 0.34),
        dust=(0.0, 1.2),
        halo=(0.0, 0.12),
    ),
)


#: Volunteers disagree about some galaxies, so this share of each class is drawn from the ranges of another class and
#: keeps its label. The share is a choice without a source.
AMBIGUOUS_SHARE = 0.02

#: Classes that each class is confused with, each entry with equal probability. A choice without a source.
CONFUSED_WITH = ((1, 7, 7), (0, 3, 7), (3, 6), (2, 4, 6), (3, 9), (6, 7), (5, 7, 2), (5, 6, 0), (9,), (8, 4))


#: Galaxies that the published catalogue lists twice at one position, under two labels: the number for each pair of
#: labels, counted in its 17,736 coordinates.
TWINS = {
    (0, 7): 19, (1, 7): 8, (0, 3): 6, (2, 6): 5, (0, 2): 4, (7, 9): 4, (1, 5): 2, (5, 9): 2, (6, 9): 2,
    (0, 5): 1, (1, 2): 1, (1, 4): 1, (1, 6): 1, (1, 8): 1, (6, 8): 1, (7, 8): 1,
}  # fmt: skip

#: Pairs of galaxies 2 to 10 arcsec apart, mostly two members of a merger, counted in the same way.
NEIGHBOURS = {(0, 0): 1, (0, 7): 1, (1, 1): 52, (5, 5): 1, (6, 6): 1, (7, 7): 3, (8, 8): 6, (9, 9): 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """Properties of the survey and of the objects around the central galaxy."""

    #: The two pixel scales of cutouts, arcsec/px. A cutout has the coarser one, as about 7% do, if the extent of its
    #: galaxy (see `galaxynb.standin.field.extent`) exceeds `coarse_radius`, arcsec.
    pixel_scales: tuple[float, float] = (0.262, 0.524)
    coarse_radius: float = 7.2
    #: Seeing: median FWHM in g, r, z, arcsec (Dey et al.), standard deviations of its logarithm (common to all bands,
    #: and separate for each), and the beta of the Moffat profile.
    fwhm: tuple[float, float, float] = (1.17, 1.07, 1.0)
    fwhm_scatter: tuple[float, float] = (0.1, 0.04)
    moffat_beta: float = 3.0
    #: Shallow frames show fewer sources: the fall of ln(number) per standard deviation of ln(noise) (measured). The
    #: noise of the sky itself is in `SKY`.
    shallow_crowd: float = 0.14
    #: Stars: mean number per frame of 67 x 67 arcsec, r magnitudes, and slope of log N with magnitude (measured).
    stars: float = 10.0
    star_magnitudes: tuple[float, float] = (13.0, 24.3)
    star_slope: float = 0.24
    #: Colours of stars: g - r of all but M dwarfs, the share of M dwarfs, and their r - z, at a g - r of about 1.45
    #: (measured).
    star_colours: tuple[float, float] = (0.2, 1.3)
    dwarfs: float = 0.4
    dwarf_colours: tuple[float, float] = (0.7, 2.2)
    #: Background galaxies: the same quantities, half-light radii at r = 22, arcsec, and g - r. Distant red galaxies are
    #: redder in r - z than nearby ones with the same g - r, by up to `galaxy_reddest` (measured).
    galaxies: float = 10.5
    galaxy_magnitudes: tuple[float, float] = (17.5, 23.8)
    galaxy_slope: float = 0.33
    galaxy_radius: tuple[float, float] = (0.3, 1.3)
    galaxy_colours: tuple[float, float] = (0.3, 1.45)
    galaxy_reddest: float = 0.9
    #: Shape of the gamma distribution by which both numbers vary between frames (measured).
    crowding: float = 9.0
    #: Surface brightness, nanomaggies per pixel in r, above which the core of a star is saturated and has an arbitrary
    #: colour.
    saturation: float = 0.45
    #: Probabilities of a satellite trail, of a chip edge where a band is missing, and of the glow of a bright star.
    trail: float = 0.006
    chip_edge: float = 0.01
    glow: float = 0.008
    #: Quality of the JPEG of the survey's viewer (measured, see `galaxynb.standin.viewer`).
    jpeg_quality: int = 90


#: The survey of the published cutouts, with the default of each field.
SURVEY = Survey()

#: Typical noise of the sky per native pixel in g, r and z, nanomaggies (a choice: the fit below adapts to it).
SKY_NOISE = (0.00212, 0.00363, 0.0076)

#: Standard deviation, px, of the Gaussian behind the smooth part of the noise, the share of the rough part that all
#: bands have in common, and the power of a uniform number that the noise level follows. All three were chosen by trial
#: and error: with them, the correlation of the sky over distance and between channels, the noise of images shrunk to
#: 64 px, and the distribution of the noise level are those of the published cutouts.
SKY_SMOOTH, SKY_COMMON, SKY_SKEW = 2.1, 0.2, 1.4

#: The distribution of the sky of a frame: the mean of each number, and its row of the lower triangular factor of the
#: covariance matrix (measured: `galaxynb.standin.sky_fit` made this table). The numbers are:
#:
#: - level: ln of the noise in r, relative to `SKY_NOISE`; level_g and level_z: the same in g and z, minus that in r
#: - near and far: weights of neighbours 1 and 2 px away in the kernel that correlates the noise
#: - share_g, share_r, share_z: ln of the share of smooth noise in the variance
#: - offset: sky left after its subtraction in r, in units of the noise; offset_g and offset_z: the same in g and z,
#:   minus that in r
SKY = {
    "level": (-0.0719, (0.2583,)),
    "level_g": (-0.0179, (-0.0062, 0.0162)),
    "level_z": (0.0198, (-0.0002, -0.0021, 0.0123)),
    "near": (0.0839, (-0.0042, -0.0006, 0.0011, 0.0314)),
    "far": (-0.0831, (-0.0039, 0.0046, 0.0114, -0.0093, 0.0133)),
    "share_g": (-2.5135, (-0.0796, -0.0834, -0.2888, -0.0115, 0.0123, 0.2281)),
    "share_r": (-2.8278, (0.0661, 0.128, -0.331, -0.007, -0.084, 0.1284, 0.1663)),
    "share_z": (-2.5257, (-0.0759, -0.0032, -0.1341, -0.0236, -0.1135, 0.1131, 0.1464, 0.151)),
    "offset": (-0.0394, (0.0351, 0.0006, -0.0197, 0.0017, 0.0009, 0.0218, 0.0136, 0.0081, 0.0129)),
    "offset_g": (-0.0298, (0.0123, -0.0016, -0.0053, 0.0011, 0.0076, 0.0036, -0.0128, 0.0043, -0.009, 0.0132)),
    "offset_z": (0.0406, (-0.0014, -0.0113, 0.0138, -0.0043, -0.0023, 0.0028, 0.0053, 0.0093, -0.0158, -0.011, 0.0003)),
}


def ranges_of(name):
    """Return the ranges of a class.

    Parameters
    ----------
    name : str
        One of `CLASS_NAMES`.

    Returns
    -------
    ClassRanges

    Raises
    ------
    ValueError
        If `name` is not a class.
    """
    if name not in CLASS_NAMES:
        raise ValueError(f"name is {name!r}, but the name of a class is needed: choose from {', '.join(CLASS_NAMES)}")
    return CLASS_RANGES[CLASS_NAMES.index(name)]


def ranges_table():
    """Return the main ranges of every class as text.

    Returns
    -------
    pandas.DataFrame
        One row per class, all text: ``Class``, then ranges in the units of `ClassRanges`, which also defines their
        distributions.

    Examples
    --------
    >>> ranges_table().loc[5, ["Class", "Radius", "Bar", "Pitch"]].tolist()
    ['Barred Spiral', '2.34–12.1', '0.15–0.32', '9–30']
    """
    columns = {
        "Radius": "radius",
        "Axis ratio": "axis_ratio",
        "Brightness": "mu",
        "g - r": "old",
        "Bulge": "bulge",
        "Bar": "bar",
        "Arms": "arms",
        "Pitch": "pitch",
    }
    rows = []
    for name, ranges in zip(CLASS_NAMES, CLASS_RANGES, strict=True):
        row = {"Class": name} | {title: _range_text(getattr(ranges, field)) for title, field in columns.items()}
        if row["Arms"] == "none":
            row["Pitch"] = "none"
        rows.append(row)
    return pd.DataFrame(rows)


def forms_table():
    """Return the forms of each class, and the classes it is confused with, as text.

    Returns
    -------
    pandas.DataFrame
        One row per class, all text: ``Class``, ``Drawn as`` (forms and their probabilities), and ``Ambiguous ones
        drawn as`` (the classes whose ranges ambiguous galaxies are drawn from, and their probabilities).

    Examples
    --------
    >>> forms_table().loc[8].tolist()
    ['Edge-on without Bulge', 'edge-on 100%', 'Edge-on with Bulge 100%']
    """
    rows = []
    for name, ranges, others in zip(CLASS_NAMES, CLASS_RANGES, CONFUSED_WITH, strict=True):
        drawn_as = [f"{CLASS_NAMES[k]} {others.count(k) / len(others):.0%}" for k in dict.fromkeys(others)]
        rows.append(
            {
                "Class": name,
                "Drawn as": ", ".join(f"{form} {weight:.0%}" for form, weight in ranges.forms),
                "Ambiguous ones drawn as": ", ".join(drawn_as),
            }
        )
    return pd.DataFrame(rows)


def ranges_digest():
    """Return a hash of the ranges that a single image is drawn from. Records keep it, to show later changes of ranges.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    ranges = (CLASS_RANGES, SURVEY, SKY_NOISE, SKY, AMBIGUOUS_SHARE, CONFUSED_WITH)
    return hashlib.sha256(repr(ranges).encode()).hexdigest()


def _range_text(pair):
    low, high = pair
    return "none" if high == 0 else f"{low:g}–{high:g}"
