"""Draw single galaxies: physical parameters from the ranges of a class, and light from the parameters.

`draw_galaxy` draws the parameters of a galaxy, or of the members of a merging pair, from `galaxynb.standin.ranges`.
`paint_galaxy` adds the surface brightness of a galaxy in the bands g, r and z to a frame. `galaxynb.standin.field`
adds sky and camera.

Positions are arcsec from the centre of the frame, x to the right and y downwards. Angles run from x towards y. A frame
holds nanomaggies per native pixel (0.262 arcsec squared), whatever the size of its own pixels: the published frames of
0.524 arcsec/px are shrunk pictures, and shrinking keeps the surface brightness.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import cv2
import numpy as np

from galaxynb.standin.ranges import SURVEY

__all__ = [
    "NATIVE_SCALE",
    "REDDER_IF_BRIGHT",
    "THINNEST",
    "Galaxy",
    "draw_galaxy",
    "log_normal",
    "paint_galaxy",
    "total_flux",
]

NATIVE_SCALE = SURVEY.pixel_scales[0]  # arcsec/px of the survey

_DISC = 1.678  # half-light radius of an exponential disc in scale lengths

_EXTINCTION = (1.0, 0.72, 0.42)  # extinction in g, r, z, in units of that in g

# Colours g - r of the old disc, for each form, and of the bar: 0 is that of young stars, 1 that of old stars.
_OLD_DISC = {"disc": 0.6, "edge-on": 1.0, "irregular": 0.6}

_OLD_BAR = 0.9

# Weight, 0 to 1, of the rank in surface brightness when `old` is drawn from its range. The rest is chance.
REDDER_IF_BRIGHT = 0.35

# The PSF thickens a thin disc, so its brightness is that of a disc with at least this axis ratio.
THINNEST = 0.12

_HALO_BLUER = 0.08  # mag in g - r by which a halo is bluer than old stars


@dataclasses.dataclass(frozen=True, kw_only=True)
class Galaxy:
    """Physical parameters of a galaxy. They determine its light to the last bit.

    Lengths are arcsec, angles radians and colours magnitudes. Every other field has the meaning and unit of the field
    with the same name in `galaxynb.standin.ranges.ClassRanges`.

    Raises
    ------
    ValueError
        If a parameter is impossible: for example a length or Sersic index of 0, an axis ratio over 1, or more than
        all of the light in bulge, bar and halo.
    """

    form: str
    #: Total r magnitude.
    magnitude: float
    radius: float
    axis_ratio: float
    angle: float = 0.0
    x: float = 0.0
    y: float = 0.0
    #: g - r of old and of young stars.
    old: float = 0.85
    young: float = 0.5
    #: Magnitudes in r - z by which all of the light is redder than that of nearby stars with the same g - r.
    redder: float = 0.0
    young_share: float = 0.0
    sersic: float = 1.0
    bulge: float = 0.0
    bulge_radius: float = 0.2
    bar: float = 0.0
    bar_length: float = 0.8
    bar_ratio: float = 0.3
    #: Angle at which arms and bar begin.
    phase: float = 0.0
    arms: float = 0.0
    arm_sharpness: float = 1.0
    flocculence: float = 0.0
    #: Pitch angle in degrees. A negative one winds the other way.
    pitch: float = 15.0
    arm_number: int = 2
    ring: float = 0.0
    clumps: float = 0.0
    lopsided: float = 0.0
    dust: float = 0.0
    halo: float = 0.0
    shell: float = 0.0
    tails: int = 0
    #: Seed of the patches, knots and tails.
    seed: int = 0

    def __post_init__(self):
        for name in ("radius", "bulge_radius", "bar_length", "bar_ratio", "sersic"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but a finite number over 0 is needed: give one")
        if not 0 < self.axis_ratio <= 1:
            raise ValueError(
                f"axis_ratio is {self.axis_ratio}, but minor over major axis is needed: give over 0 and at most 1"
            )
        if self.form not in _PAINTERS:
            raise ValueError(f"form is {self.form!r}, but a known form is needed: choose from {', '.join(_PAINTERS)}")
        for name in ("young_share", "bulge", "bar", "halo", "lopsided"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but a number from 0 to 1 is needed: give one")
        if not self.bulge + self.bar + self.halo < 1 + 1e-9:
            raise ValueError(
                f"bulge, bar and halo are {self.bulge:g}, {self.bar:g} and {self.halo:g}, but a sum of at most 1 is"
                " needed: lower one of these shares of the light"
            )
        for name in ("arms", "arm_sharpness", "arm_number", "flocculence", "ring", "clumps", "dust", "shell", "tails"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but a finite number of at least 0 is needed: give one"
                )
        if not 0 < abs(self.pitch) < 90:
            raise ValueError(
                f"pitch is {self.pitch}, but an angle between -90 and 90 other than 0 is needed: give degrees"
            )
        for name in ("magnitude", "angle", "x", "y", "old", "young", "redder", "phase"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}, but a finite number is needed: give one")


def total_flux(galaxy):
    """Return the flux of a galaxy in each band, before dust, shells and tails.

    Parameters
    ----------
    galaxy : Galaxy

    Returns
    -------
    ndarray of float64, shape (3,)
        Fluxes in g, r and z in nanomaggies.
    """
    if galaxy.form == "spheroid":
        shares = [(1 - galaxy.halo, galaxy.old)]
    else:
        bar = galaxy.bar if galaxy.form == "disc" else 0.0
        light = 1 - galaxy.bulge - bar - galaxy.halo
        shares = [
            (light * (1 - galaxy.young_share), _blend(galaxy, _OLD_DISC[galaxy.form])),
            (light * galaxy.young_share, galaxy.young),
            (galaxy.bulge, galaxy.old),
            (bar, _blend(galaxy, _OLD_BAR)),
        ]
    shares.append((galaxy.halo, galaxy.old - _HALO_BLUER))
    colour = sum(share * _sed(g_r) for share, g_r in shares)
    colour[2] *= 10 ** (0.4 * galaxy.redder)
    return 10 ** (0.4 * (22.5 - galaxy.magnitude)) * colour.astype(float)


def _blend(galaxy, old):
    """Return a colour g - r between that of young stars (`old` = 0) and of old stars (`old` = 1)."""
    return old * galaxy.old + (1 - old) * galaxy.young


def _sed(g_r):
    """Return fluxes in g, r and z for a flux of 1 in r: r - z follows g - r (fitted to measured colours)."""
    r_z = g_r - 0.18 if g_r < 0.45 else 0.85 * g_r - 0.1125
    return np.array([10 ** (-0.4 * g_r), 1.0, 10 ** (0.4 * r_z)], np.float32)


def draw_galaxy(rng, ranges):
    """Draw the parameters of a central galaxy, or of the members of a pair, from the ranges of a class.

    Parameters
    ----------
    rng : numpy.random.Generator
    ranges : galaxynb.standin.ranges.ClassRanges

    Returns
    -------
    tuple of Galaxy
        One galaxy, or the two or three members of a pair. The centre of the cutout is near the first one, or between
        the first two.
    """
    form = _choose(rng, ranges.forms)
    if form == "pair":
        return _draw_pair(rng, ranges)
    return (_draw_one(rng, ranges, form),)


def _choose(rng, weighted):
    values, weights = zip(*weighted, strict=True)
    return values[int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights)))]


def log_normal(rng, bounds):
    """Draw a number from a log-normal distribution, cut at 2.2 standard deviations.

    Parameters
    ----------
    rng : numpy.random.Generator
    bounds : tuple of float
        Quantiles at 10% and 90%, both over 0.

    Returns
    -------
    float
    """
    middle, half = (math.log(bounds[1] * bounds[0]) / 2, math.log(bounds[1] / bounds[0]) / 2)
    return math.exp(middle + half / 1.2816 * min(max(rng.standard_normal(), -2.2), 2.2))


def _draw_one(rng, ranges, form, radius=None):
    radius = log_normal(rng, ranges.radius) if radius is None else radius
    ratio = rng.uniform(*ranges.axis_ratio)
    area = 2 * math.pi * radius**2 * max(ratio, THINNEST)
    # Larger galaxies of a class have a fainter surface brightness.
    size = math.log(radius / math.sqrt(ranges.radius[0] * ranges.radius[1]))
    faint = rng.random()
    mu = ranges.mu[0] + (ranges.mu[1] - ranges.mu[0]) * faint + ranges.fading * size
    # Galaxies with a brighter surface are redder.
    red = REDDER_IF_BRIGHT * (1 - faint) + (1 - REDDER_IF_BRIGHT) * rng.random()
    old = ranges.old[0] + (ranges.old[1] - ranges.old[0]) * red
    # A galaxy is red or blue as a whole, so the colour of its young stars follows that of its old stars.
    low, high = ranges.young
    along = (old - ranges.old[0]) / max(ranges.old[1] - ranges.old[0], 1e-6)
    young = low + (high - low) * min(max(0.5 * along + 0.5 * rng.random(), 0), 1)
    bulge, bar, halo = (rng.uniform(*bounds) for bounds in (ranges.bulge, ranges.bar, ranges.halo))
    if form in ("spheroid", "irregular"):
        bulge = bulge if form == "irregular" else 0.0
        bar = 0.0
    place = rng.normal(0, 0.15, 2)
    return Galaxy(
        form=form,
        magnitude=mu - 2.5 * math.log10(area),
        radius=radius,
        axis_ratio=ratio,
        angle=rng.uniform(0, 2 * math.pi),
        x=place[0],
        y=place[1],
        old=old,
        young=young,
        young_share=rng.uniform(*ranges.young_share),
        sersic=rng.uniform(*ranges.sersic),
        bulge=bulge,
        bulge_radius=rng.uniform(*ranges.bulge_radius),
        bar=bar,
        bar_length=rng.uniform(*ranges.bar_length),
        bar_ratio=rng.uniform(*ranges.bar_ratio),
        phase=rng.uniform(0, 2 * math.pi),
        arms=rng.uniform(*ranges.arms),
        arm_sharpness=rng.uniform(*ranges.arm_sharpness),
        flocculence=rng.uniform(*ranges.flocculence),
        pitch=rng.uniform(*ranges.pitch) * rng.choice((-1, 1)),
        arm_number=int(rng.choice(ranges.arm_numbers)),
        ring=float(rng.random() < ranges.ring) * rng.uniform(0.04, 0.15),
        clumps=rng.uniform(*ranges.clumps),
        lopsided=rng.uniform(*ranges.lopsided),
        dust=rng.uniform(*ranges.dust),
        halo=halo,
        shell=float(rng.random() < ranges.shell) * rng.uniform(0.03, 0.15),
        tails=int(rng.choice(ranges.tails)),
        seed=int(rng.integers(2**62)),
    )


def _draw_pair(rng, ranges):
    """Draw two, rarely three, galaxies that merge: spheroids in a common halo, or discs with tails between them."""
    first = _draw_one(rng, ranges, "spheroid" if rng.random() < 0.6 else "disc")
    members = [first]
    for _ in range(1 + (rng.random() < 0.12)):
        share = log_normal(rng, (0.15, 1.0))
        radius = first.radius * share**0.4 * rng.uniform(0.7, 1.1)
        form = "spheroid" if rng.random() < 0.65 else _choose(rng, (("disc", 0.6), ("irregular", 0.4)))
        way = rng.uniform(0, 2 * math.pi)
        distance = max(log_normal(rng, ranges.separation) * first.radius, 1.6)
        other = _draw_one(rng, ranges, form, radius)
        members.append(
            dataclasses.replace(
                other,
                magnitude=first.magnitude - 2.5 * math.log10(share),
                x=first.x + distance * math.cos(way),
                y=first.y + distance * math.sin(way),
                # A tail leaves along the major axis, so turn that axis towards the first galaxy.
                angle=other.angle if other.tails == 0 else way + rng.normal(0, 0.4),
                halo=other.halo * 0.5,
            )
        )
    if rng.random() < 0.3:  # centre the cutout between the first two
        dx, dy = (members[1].x - first.x) / 2, (members[1].y - first.y) / 2
        members = [dataclasses.replace(member, x=member.x - dx, y=member.y - dy) for member in members]
    return tuple(members)


class _Grid:
    """The part of a frame that an object reaches, with coordinates in arcsec from the centre of the object."""

    def __init__(self, shape, pixel, x, y, reach):
        middle = (shape[-1] - 1) / 2
        low = [max(0, math.floor(middle + (c - reach) / pixel)) for c in (y, x)]
        high = [min(shape[-1], math.ceil(middle + (c + reach) / pixel) + 1) for c in (y, x)]
        self.pixel = pixel
        self.empty = low[0] >= high[0] or low[1] >= high[1]
        self.window = (slice(None), slice(low[0], high[0]), slice(low[1], high[1]))
        self.y = ((np.arange(low[0], high[0]) - middle) * pixel - y).astype(np.float32)[:, None]
        self.x = ((np.arange(low[1], high[1]) - middle) * pixel - x).astype(np.float32)[None, :]

    def along(self, angle, axis_ratio=1.0):
        """Return coordinates along the major axis and along the minor axis, the latter stretched to the plane."""
        c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        stretch = np.float32(1 / axis_ratio)
        return self.x * c + self.y * s, (self.y * c - self.x * s) * stretch


def paint_galaxy(frame, pixel, galaxy):
    """Add the light of a galaxy to a frame.

    Parameters
    ----------
    frame : ndarray of float32, shape (3, S, S)
        Nanomaggies per native pixel in g, r and z. Changed in place.
    pixel : float
        Side of the pixels of the frame in arcsec.
    galaxy : Galaxy

    Notes
    -----
    Without dust, shells and tails, the sum over a frame that holds the whole galaxy equals `total_flux` within a few
    per cent. The missing light, mostly of wide halos and steep spheroids, lies beyond the 5 to 9 radii that are
    drawn. Where pixels are as large as cores, sampling adds an error of 10%.
    """
    grid = _Grid(frame.shape, pixel, galaxy.x, galaxy.y, _REACH[galaxy.form] * galaxy.radius)
    if grid.empty:
        return
    layer = np.zeros((3, grid.y.shape[0], grid.x.shape[1]), np.float32)
    _PAINTERS[galaxy.form](layer, grid, galaxy, np.random.Generator(np.random.SFC64(galaxy.seed)))
    layer *= np.float32(10 ** (0.4 * (22.5 - galaxy.magnitude)) * NATIVE_SCALE**2)
    layer[2] *= np.float32(10 ** (0.4 * galaxy.redder))
    frame[grid.window] += layer


def _add(layer, profile, share, g_r):
    """Add a profile with this share of the total r light and this colour g - r to all bands."""
    if share > 0:
        for band, flux in zip(layer, _sed(g_r), strict=True):
            band += profile * np.float32(share * flux)


@functools.lru_cache(maxsize=4096)
def _sersic_constant(index):
    from scipy.special import gammaincinv

    return float(gammaincinv(2 * index, 0.5))


def _outside(index, x):
    """Return the share of the light of a Sersic profile beyond `x` half-light radii."""
    from scipy.special import gammaincc

    return float(gammaincc(2 * index, _sersic_constant(round(index, 3)) * x ** (1 / index)))


def _sersic(r2, radius, ratio, index, soft):
    """Return a Sersic profile of total 1 at squared radii in the plane. `soft` (arcsec) flattens the cusp."""
    b = _sersic_constant(round(index, 3))
    level = b ** (2 * index) * math.exp(-math.lgamma(2 * index)) / (2 * math.pi * index * radius**2 * ratio)
    # Below, r2 + soft**2 replaces r2, which leaves out the light within `soft`: scale the rest to a total of 1.
    level /= _outside(index, soft / radius)
    r2 = (r2 + np.float32(soft**2)) * np.float32(1 / radius**2)
    np.log(r2, out=r2)
    r2 *= np.float32(0.5 / index)
    np.exp(r2, out=r2)
    r2 *= np.float32(-b)
    np.exp(r2, out=r2)
    r2 *= np.float32(level)
    return r2


def _texture(rng, u, v, extent, cells):
    """Return a smooth random field of unit variance in the coordinates of the galaxy, over (-extent, extent)."""
    coarse = rng.standard_normal((cells + 3, cells + 3), np.float32)
    scale = np.float32(cells / (2 * extent))
    shift = np.float32(extent)
    return 1.25 * cv2.remap(
        coarse, (u + shift) * scale + 1, (v + shift) * scale + 1, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def _like(shape, base):
    """Rescale a profile, in place, to the light of the profile that it was made from."""
    shape *= np.float32(base.sum(dtype=float) / max(shape.sum(dtype=float), 1e-30))
    return shape


def _paint_spheroid(layer, grid, galaxy, rng):
    u, v = grid.along(galaxy.angle, galaxy.axis_ratio)
    r2 = u * u + v * v
    soft = 0.3 * grid.pixel
    main = 1 - galaxy.halo
    profile = _sersic(r2, galaxy.radius, galaxy.axis_ratio, galaxy.sersic, soft)
    if galaxy.clumps > 0:
        patches = np.exp(galaxy.clumps * _texture(rng, u, v, 5 * galaxy.radius, int(rng.integers(14, 30))))
        profile = _like(profile * patches, profile)
    # Most spheroids are slightly bluer outwards: add a redder core to a bluer whole.
    core = 0.35
    _add(layer, profile, main * (1 - core), galaxy.old - 0.03)
    inner = _sersic(r2, 0.6 * galaxy.radius, galaxy.axis_ratio, galaxy.sersic, soft)
    _add(layer, inner, main * core, galaxy.old + 0.05)
    _paint_outskirts(layer, grid, galaxy, rng)


class _Plane(NamedTuple):
    """Coordinates in the plane of a disc, arcsec and radians, and lengths that its parts share, arcsec."""

    #: Along the major and the minor axis.
    u: np.ndarray
    v: np.ndarray
    #: Polar coordinates. The radius is half a pixel too large, which keeps it over 0.
    r: np.ndarray
    theta: np.ndarray
    #: Exponential scale length of the disc.
    scale: float
    bar_length: float
    #: Radius at which the arms begin.
    begin: float


class _Arms(NamedTuple):
    """Spiral arms as fields over the plane of a disc."""

    #: Angle that winds with the arms: a ridge lies where `phase * arm_number + wobble` is a multiple of 2 pi.
    phase: np.ndarray
    #: Random shift that makes the arms irregular.
    wobble: np.ndarray
    #: Brightness of the arms, about 1 on a ridge.
    crest: np.ndarray
    #: Rises from 0 at the centre to 1 outside the radius at which arms begin.
    inner: np.ndarray


def _paint_disc(layer, grid, galaxy, rng):
    """Paint a disc with logarithmic arms, knots, ring, dust lanes along the arms, bar and bulge.

    Keep the order of the random draws: it decides what a seed gives.
    """
    plane = _disc_plane(grid, galaxy)
    arms = _draw_arms(plane, galaxy, rng)
    # One side, with its arm, outshines the other.
    side = 1 + np.float32(galaxy.lopsided) * np.cos(plane.theta - np.float32(rng.uniform(0, 2 * math.pi))) * arms.inner
    clumps = np.exp(
        np.float32(galaxy.clumps) * _texture(rng, plane.u, plane.v, 5 * galaxy.radius, int(rng.integers(22, 44)))
    )
    light = 1 - galaxy.bulge - galaxy.bar - galaxy.halo
    old = _old_disc(plane, arms, side, grid, galaxy, rng)
    young = _young_disc(plane, arms, side, clumps, light, grid, galaxy, rng)
    _add(layer, old, light * (1 - galaxy.young_share), _blend(galaxy, _OLD_DISC["disc"]))
    has_knots = galaxy.young_share * galaxy.clumps > 0.06
    knots = _add_knots(layer, grid, rng, young, light, galaxy) if has_knots else 0.0
    _add(layer, young, light * galaxy.young_share - knots, galaxy.young)
    if galaxy.dust > 0 and galaxy.arms > 0:
        _redden_along_arms(layer, arms, galaxy)
    if galaxy.bar > 0:
        _add_bar(layer, plane, galaxy)
    if galaxy.bulge > 0:
        _add_bulge(layer, grid, galaxy)
    _paint_outskirts(layer, grid, galaxy, rng)


def _disc_plane(grid, galaxy):
    """Return the coordinates in the plane of a disc."""
    u, v = grid.along(galaxy.angle, galaxy.axis_ratio)
    r, theta = cv2.cartToPolar(u, v)
    r += np.float32(0.5 * grid.pixel)
    bar_length = galaxy.bar_length * galaxy.radius
    begin = 0.9 * bar_length if galaxy.bar > 0 else 0.3 * galaxy.radius
    return _Plane(u, v, r, theta, galaxy.radius / _DISC, bar_length, begin)


def _draw_arms(plane, galaxy, rng):
    """Return logarithmic arms, torn by a random texture where they are flocculent."""
    winding = np.log(plane.r * np.float32(1 / plane.begin))
    tangent = math.tan(math.radians(galaxy.pitch))
    bend = rng.normal(0, 0.12)  # makes the pitch angle change outwards
    turns = (winding + np.float32(bend) * winding * winding) * np.float32(1 / tangent)
    phase = plane.theta - np.float32(galaxy.phase) - turns
    # The texture uses coordinates that follow the arms, so that gaps and patches are elongated along them.
    along = np.cos(phase), np.sin(phase)
    stretch = np.exp(np.float32(0.5) * np.clip(winding, -1.5, 2))
    torn = _texture(rng, along[0] * stretch, along[1] * stretch, 3.0, int(rng.integers(14, 26)))
    wobble = _texture(rng, plane.u, plane.v, 5 * galaxy.radius, int(rng.integers(7, 12)))
    wave = np.cos(phase * np.float32(galaxy.arm_number) + wobble * np.float32(0.3 + 0.9 * galaxy.flocculence))
    crest = np.exp((wave - 1) * np.float32(galaxy.arm_sharpness))
    crest *= np.exp(np.float32(0.9 * galaxy.flocculence) * torn)
    inner = plane.r * plane.r
    inner /= inner + np.float32((0.8 * plane.begin) ** 2)
    crest *= inner
    return _Arms(phase, wobble, crest, inner)


def _old_disc(plane, arms, side, grid, galaxy, rng):
    """Return the profile of the old stars, of total 1. Arms and lopsidedness have half their strength in it."""
    disc = whole = _exponential(plane.r, plane.scale, galaxy.axis_ratio, soft=0.5 * grid.pixel)
    if rng.random() < 0.6:  # most discs break to a steeper fall at 2 to 4 scale lengths
        fall = np.maximum(plane.r * np.float32(1 / plane.scale) - np.float32(rng.uniform(2.0, 4.0)), 0)
        disc = disc * np.exp(-fall * np.float32(rng.uniform(0.3, 1.0)))
    return _like(disc * (1 + np.float32(0.5 * galaxy.arms) * arms.crest) * (0.5 + 0.5 * side), whole)


def _young_disc(plane, arms, side, clumps, light, grid, galaxy, rng):
    """Return the profile of the young stars, of total 1. It includes the ring, which holds its share of all light."""
    # Young stars reach further out than the old disc.
    wide = _exponential(plane.r, 1.3 * plane.scale, galaxy.axis_ratio, soft=0.5 * grid.pixel)
    ridges = 1 + np.float32(galaxy.arms) * arms.crest
    young = _like(wide * (ridges - np.float32(0.75 if galaxy.arms > 0.3 else 0)) * clumps * side, wide)
    if galaxy.ring > 0:
        at = plane.bar_length if galaxy.bar > 0 else rng.uniform(0.5, 1.4) * galaxy.radius
        band = (plane.r - np.float32(at)) * np.float32(1 / (rng.uniform(0.12, 0.25) * at))
        ring = _like(np.exp(-band * band) * (0.6 + 0.4 * clumps), wide)
        share = galaxy.ring / max(galaxy.young_share * light, galaxy.ring)
        young = young * np.float32(1 - share) + ring * np.float32(share)
    return young


def _redden_along_arms(layer, arms, galaxy):
    """Dim a disc by dust lanes that run along the arms, beside their ridges."""
    lane = np.exp((np.cos(arms.phase * np.float32(galaxy.arm_number) + arms.wobble + np.float32(0.9)) - 1) * 4)
    _redden(layer, lane * arms.inner * np.float32(galaxy.dust))


def _add_bar(layer, plane, galaxy):
    """Add a bar, flat along its length, steep at its ends (as a Sersic index of about one half), and boxy."""
    c, s = np.float32(math.cos(galaxy.phase)), np.float32(math.sin(galaxy.phase))
    across = (plane.v * c - plane.u * s) * np.float32(1 / (plane.bar_length * galaxy.bar_ratio))
    length = (plane.u * c + plane.v * s) * np.float32(1 / plane.bar_length)
    shape = np.exp(-((length * length) ** 2) - across * across)
    # The integral of exp(-x^4 - y^2), in the plane.
    area = 2 * 0.9064025 * math.sqrt(math.pi) * plane.bar_length**2 * galaxy.bar_ratio * galaxy.axis_ratio
    _add(layer, shape * np.float32(1 / area), galaxy.bar, _blend(galaxy, _OLD_BAR))


def _add_bulge(layer, grid, galaxy):
    """Add a bulge, which is rounder than the disc around it."""
    ratio = 0.4 + 0.6 * galaxy.axis_ratio
    u, v = grid.along(galaxy.angle, ratio)
    bulge = _sersic(u**2 + v**2, galaxy.bulge_radius * galaxy.radius, ratio, galaxy.sersic, 0.3 * grid.pixel)
    _add(layer, bulge, galaxy.bulge, galaxy.old)


def _exponential(r, scale, ratio, soft):
    """Return an exponential profile of total 1 at radii in the plane that are `soft` (arcsec) too large."""
    return np.exp(r * np.float32(-1 / scale)) * np.float32(math.exp(soft / scale) / (2 * math.pi * scale**2 * ratio))


def _add_knots(layer, grid, rng, where, light, galaxy):
    """Add part of the young light as unresolved HII regions and clusters, and return its share of all light."""
    number = int(rng.poisson(20 * galaxy.clumps * galaxy.young_share * min(galaxy.radius, 6)))
    if number == 0:
        return 0.0
    # Draw candidate places in the plane of the galaxy, so that knots turn with it and do not depend on the pixel size.
    # Candidates where the disc is bright come first.
    scale = 0.75 * galaxy.radius
    r, theta = rng.gamma(2, scale, 32 * number), rng.uniform(0, 2 * math.pi, 32 * number)
    arrival = rng.exponential(size=32 * number)
    bright = np.minimum(rng.pareto(1.8, 32 * number), 6).astype(np.float32) + 0.3
    u, v = r * np.cos(theta), r * np.sin(theta) * galaxy.axis_ratio
    c, s = math.cos(galaxy.angle), math.sin(galaxy.angle)
    column = np.rint((u * c - v * s - grid.x[0, 0]) / grid.pixel).astype(int)
    row = np.rint((u * s + v * c - grid.y[0, 0]) / grid.pixel).astype(int)
    inside = (row >= 0) & (row < where.shape[0]) & (column >= 0) & (column < where.shape[1])
    row, column = row[inside], column[inside]
    arrival = arrival[inside] / np.maximum(where[row, column] * np.exp(r[inside] / scale), 1e-30)
    first = np.argsort(arrival)[:number]
    if len(first) == 0:
        return 0.0
    knots = np.zeros(where.shape, np.float32)
    np.add.at(knots, (row[first], column[first]), bright[inside][first])
    share = 0.06 * galaxy.young_share * light
    _add(layer, _like(knots, where), share, galaxy.young - 0.2)
    return share


def _redden(layer, depth):
    for band, extinction in zip(layer, _EXTINCTION, strict=True):
        band *= np.exp(depth * np.float32(-extinction))


def _paint_edge_on(layer, grid, galaxy, rng):
    """Paint an edge-on disc: a thin blue disc in a thicker old one, with an outer cut-off, dust plane and bulge."""
    u, v = grid.along(galaxy.angle)
    radius = galaxy.radius
    scale = radius / 1.4
    height = max(radius * galaxy.axis_ratio, 0.65 * grid.pixel)
    distance = np.abs(u) * np.float32(1 / scale)
    warp = rng.normal(0, 0.012) * radius
    # The warp is an S or, less often, a bow.
    sign = np.sign(u) if rng.random() < 0.7 else np.float32(1)
    v = v - distance * distance * sign * np.float32(warp)
    side = 1 + np.float32(galaxy.lopsided) * np.tanh(u * np.float32(1 / scale))
    cut = rng.uniform(2.6, 5.5)
    edge = distance * np.float32(1 / cut)
    edge = edge**3

    def disc(height, scale_factor):
        x = distance * np.float32(1 / scale_factor)
        across = np.exp(np.minimum(np.abs(v) * np.float32(1 / height), 30))
        across = 4 / (across + 1 / across) ** 2
        # An exponential disc seen edge-on has the profile x K1(x), which is flat in the middle. This is close to it.
        profile = (1 + x) * np.exp(-1.15 * x - edge)
        # The total is the integral across the disc times the integral along it, up to the cut-off.
        steps = np.linspace(0, 2 * cut, 60)
        length = np.trapezoid(
            (1 + steps / scale_factor) * np.exp(-1.15 * steps / scale_factor - (steps / cut) ** 3), steps
        )
        return profile * across * np.float32(1 / (2 * height * 2 * length * scale))

    light = 1 - galaxy.bulge - galaxy.halo
    old = disc(1.25 * height, 0.9) * side
    base = disc(0.8 * height, 1.1)
    clumps = np.exp(
        np.float32(galaxy.clumps) * _texture(rng, u, v * np.float32(2.5), 4 * radius, int(rng.integers(24, 50)))
    )
    young = _like(base * clumps * side * (np.float32(0.35) + distance), base)
    _add(layer, old, light * (1 - galaxy.young_share), galaxy.old)
    _add(layer, young, light * galaxy.young_share, galaxy.young)
    if galaxy.bulge > 0:
        size = max(galaxy.bulge_radius * radius, 0.3)
        ratio = rng.uniform(0.5, 0.95)
        bulge_u, bulge_v = grid.along(galaxy.angle, ratio)
        bulge = _sersic(bulge_u**2 + bulge_v**2, size, ratio, galaxy.sersic, 0.3 * grid.pixel)
        _add(layer, bulge, galaxy.bulge, galaxy.old)
    if galaxy.dust > 0.15:
        thickness = 0.35 * height + 0.12
        lane = (v - np.float32(rng.uniform(-0.5, 0.5) * height)) * np.float32(1 / thickness)
        mottled = 0.7 + 0.3 * clumps
        _redden(layer, np.exp(-lane * lane - 0.35 * distance) * mottled * np.float32(galaxy.dust))
    _paint_outskirts(layer, grid, galaxy, rng)


def _paint_irregular(layer, grid, galaxy, rng):
    """Paint a clumpy, lopsided, bent galaxy with an off-centre core."""
    u, v = grid.along(galaxy.angle, galaxy.axis_ratio)
    radius, ratio = galaxy.radius, galaxy.axis_ratio
    soft = 0.3 * grid.pixel
    bend = np.float32(rng.uniform(0.0, 0.35) * rng.choice((-1, 1)) / radius)
    # The bend is a bow or an S.
    v = v + u * (u if rng.random() < 0.5 else np.abs(u)) * bend
    shift = np.float32(0.5 * galaxy.lopsided * radius)
    turn = rng.uniform(0, 2 * math.pi)
    du, dv = shift * np.float32(math.cos(turn)), shift * np.float32(math.sin(turn))
    index = rng.uniform(0.5, 1.2)
    base = _sersic((u - du) ** 2 + (v - dv) ** 2, radius, ratio, index, soft)
    patches = _texture(rng, u, v, 4 * radius, int(rng.integers(7, 14)))
    disc = _like(base * np.exp(np.float32(0.8 * galaxy.clumps) * patches), base)
    young_base = _sersic((u + du) ** 2 + (v + dv) ** 2, 0.85 * radius, ratio, 0.7, soft)
    fine = _texture(rng, u, v, 4 * radius, int(rng.integers(16, 36)))
    knots = _like(young_base * np.exp(np.float32(1.5 * galaxy.clumps) * (0.6 * patches + fine)), young_base)
    if rng.random() < 0.3:  # a faint arm
        r, theta = cv2.cartToPolar(u, v)
        wind = np.log(np.maximum(r, 0.1 * radius) * np.float32(1 / radius)) * np.float32(rng.choice((-1, 1)) * 2.2)
        arm = np.exp((np.cos(theta - np.float32(turn) - wind) - 1) * 3) * np.exp(r * np.float32(-0.8 / radius))
        knots = 0.5 * knots + 0.5 * _like(arm * np.exp(np.float32(galaxy.clumps) * fine), young_base)
    light = 1 - galaxy.bulge - galaxy.halo
    _add(layer, disc, light * (1 - galaxy.young_share), _blend(galaxy, _OLD_DISC["irregular"]))
    moved = _add_knots(layer, grid, rng, knots, light, galaxy)
    _add(layer, knots, light * galaxy.young_share - moved, galaxy.young)
    if galaxy.bulge > 0:
        _add_bulge(layer, grid, galaxy)
    _paint_outskirts(layer, grid, galaxy, rng)


def _paint_outskirts(layer, grid, galaxy, rng):
    """Add halo, shells and tidal tails."""
    if galaxy.halo > 0:
        ratio = 0.3 + 0.7 * galaxy.axis_ratio
        u, v = grid.along(galaxy.angle, ratio)
        halo = _sersic(u * u + v * v, 2.6 * galaxy.radius, ratio, 1.2, 0.3 * grid.pixel)
        _add(layer, halo, galaxy.halo, galaxy.old - _HALO_BLUER)
    if galaxy.shell > 0:
        ratio = 0.4 + 0.6 * galaxy.axis_ratio
        u, v = grid.along(galaxy.angle, ratio)
        r, theta = cv2.cartToPolar(u, v)
        shell = np.zeros(r.shape, np.float32)
        for _ in range(int(rng.integers(1, 4))):
            at = rng.uniform(1.5, 3.6) * galaxy.radius
            band = (r - np.float32(at)) * np.float32(1 / (0.12 * at))
            # A shell has a sharp outer and a soft inner edge, and goes only part of the way around.
            band = np.exp(-band * band * np.where(band > 0, np.float32(4), np.float32(0.6)))
            way = np.cos(theta - np.float32(rng.uniform(0, 2 * math.pi)))
            shell += band * np.exp(np.float32(rng.uniform(0.5, 3)) * (way - 1))
        _add(layer, _unit(shell, grid), galaxy.shell, galaxy.old - 0.1)
    for _ in range(galaxy.tails):
        _paint_tail(layer, grid, galaxy, rng)


def _unit(profile, grid):
    """Return a profile rescaled to a total of 1."""
    return profile * np.float32(1 / max(profile.sum(dtype=float) * grid.pixel**2, 1e-30))


def _paint_tail(layer, grid, galaxy, rng):
    """Add a curved tail that leaves along the major axis, and gets thinner and fainter outwards."""
    steps = np.linspace(0, 1, 28)
    length = rng.uniform(2.0, 5.0) * galaxy.radius
    heading = galaxy.angle + rng.choice((0, math.pi)) + rng.normal(0, 0.5)
    heading = heading + rng.uniform(0.2, 2.2) * rng.choice((-1, 1)) * steps
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], -1), 0) * (length / len(steps))
    # Pixel coordinates in the window. cv2.line takes them as integers, here in 1/8 px (shift=3).
    pixels = (points - (float(grid.x[0, 0]), float(grid.y[0, 0]))) / grid.pixel
    trace = np.zeros(layer.shape[1:], np.float32)
    fixed = np.round(pixels * 8).astype(np.int32)
    width = rng.uniform(0.2, 0.5) * galaxy.radius / grid.pixel
    for k in range(len(fixed) - 1):
        thick = max(1, round(width * (1 - 0.6 * steps[k])))
        cv2.line(trace, fixed[k].tolist(), fixed[k + 1].tolist(), math.exp(-2.0 * steps[k]), thick, shift=3)
    cv2.GaussianBlur(trace, (0, 0), max(0.5 * width, 0.5), dst=trace)
    blue = galaxy.young if rng.random() < 0.5 else 0.5 * (galaxy.old + galaxy.young)
    _add(layer, _unit(trace, grid), rng.uniform(0.04, 0.18), blue)


_PAINTERS = {"spheroid": _paint_spheroid, "disc": _paint_disc, "edge-on": _paint_edge_on, "irregular": _paint_irregular}

#: Half-light radii to which each form is drawn. A spheroid with a steep core has the widest wings.
_REACH = {"spheroid": 9.0, "disc": 6.5, "edge-on": 5.0, "irregular": 7.0}
