"""Draw single galaxies: physical parameters from the ranges of a class, and light from the parameters.

`draw_galaxy` picks the parameters of a galaxy, or of a merging pair, from `galaxynb.standin.ranges`. `paint_galaxy`
adds its surface brightness in the bands g, r and z to a frame. What the sky and the camera add is in
`galaxynb.standin.field`.

Positions are arcsec from the centre of the frame, x to the right and y downwards. Angles are counted from x towards
y. Frames hold nanomaggies per native pixel (0.262 arcsec squared), whatever the size of their own pixels: the
published frames of 0.524 arcsec/px are shrunk pictures, in which a surface keeps its brightness.
"""

import dataclasses
import functools
import math

import cv2
import numpy as np

from galaxynb.standin.ranges import SURVEY

__all__ = [
    "Galaxy",
    "draw_galaxy",
    "paint_galaxy",
    "total_flux",
]

NATIVE_SCALE = SURVEY.pixel_scales[0]

_DISC = 1.678  # half-light radius of an exponential disc in scale lengths

_EXTINCTION = (1.0, 0.72, 0.42)  # of g, r, z in units of g's

# Where between young (0) and old stars' g - r the old disc and the bar are, and how much bluer a halo is.
_OLD_DISC = {"disc": 0.75, "edge-on": 1.0, "irregular": 0.6}

_OLD_BAR = 0.9

_HALO_BLUER = 0.08


# Galaxies ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Galaxy:
    """A galaxy's physical parameters, enough to render it again bit for bit.

    Lengths are arcsec, angles radians, colours magnitudes; what else there is has the meaning and the units of the
    field of that name in `galaxynb.standin.ranges.ClassRanges`.

    Raises
    ------
    ValueError
        If a quantity is what no galaxy has: a length or an index of 0, an axis ratio over 1, more than all of the
        light in bulge, bar and halo.
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
    young_share: float = 0.0
    sersic: float = 1.0
    bulge: float = 0.0
    bulge_radius: float = 0.2
    bar: float = 0.0
    bar_length: float = 0.8
    bar_ratio: float = 0.3
    #: Where arms and bar begin.
    phase: float = 0.0
    arms: float = 0.0
    arm_sharpness: float = 1.0
    flocculence: float = 0.0
    #: Pitch angle, degrees; negative winds the other way.
    pitch: float = 15.0
    arm_number: int = 2
    ring: float = 0.0
    clumps: float = 0.0
    lopsided: float = 0.0
    dust: float = 0.0
    halo: float = 0.0
    shell: float = 0.0
    tails: int = 0
    #: Of its patches, knots and tails.
    seed: int = 0

    def __post_init__(self):
        for name in ("radius", "bulge_radius", "bar_length", "bar_ratio", "sersic"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number over 0")
        if not 0 < self.axis_ratio <= 1:
            raise ValueError(f"axis_ratio is {self.axis_ratio}: give minor over major axis, over 0 and at most 1")
        if self.form not in _PAINTERS:
            raise ValueError(f"form is {self.form!r}: choose from {', '.join(_PAINTERS)}")
        for name in ("young_share", "bulge", "bar", "halo", "lopsided"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number from 0 to 1")
        if not self.bulge + self.bar + self.halo < 1 + 1e-9:
            raise ValueError(
                f"bulge, bar and halo are {self.bulge:g}, {self.bar:g} and {self.halo:g}:"
                " give shares of the light that sum to at most 1"
            )
        for name in ("arms", "arm_sharpness", "arm_number", "flocculence", "ring", "clumps", "dust", "shell", "tails"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number of at least 0")
        if not 0 < abs(self.pitch) < 90:
            raise ValueError(f"pitch is {self.pitch}: give degrees between -90 and 90, but not 0")
        for name in ("magnitude", "angle", "x", "y", "old", "young", "phase"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}: give a finite number")


def total_flux(galaxy):
    """Fluxes in g, r, z, nanomaggies, without what dust takes and what shells and tails add.

    Parameters
    ----------
    galaxy : Galaxy

    Returns
    -------
    numpy.ndarray, shape (3,), float64
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
    return 10 ** (0.4 * (22.5 - galaxy.magnitude)) * colour.astype(float)


def _blend(galaxy, old):
    """Return g - r between that of old stars (1) and of young ones (0)."""
    return old * galaxy.old + (1 - old) * galaxy.young


def _sed(g_r):
    """Fluxes in g, r, z for 1 in r: r - z follows g - r (Blanton & Moustakas)."""
    return np.array([10 ** (-0.4 * g_r), 1.0, 10 ** (0.4 * (0.55 * g_r + 0.14))], np.float32)


def draw_galaxy(rng, recipe):
    """Draw a central galaxy, or the members of a pair, from a recipe.

    Parameters
    ----------
    rng : numpy.random.Generator
    recipe : galaxynb.standin.ranges.ClassRanges

    Returns
    -------
    tuple of Galaxy
        The first is the one the cutout is centred on.
    """
    form = _choose(rng, recipe.forms)
    if form == "pair":
        return _draw_pair(rng, recipe)
    return (_draw_one(rng, recipe, form),)


def _choose(rng, weighted):
    values, weights = zip(*weighted, strict=True)
    return values[int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights)))]


def log_normal(rng, bounds):
    """Log-normal of these 10% and 90% quantiles, cut at 2.2 standard deviations."""
    middle, half = (math.log(bounds[1] * bounds[0]) / 2, math.log(bounds[1] / bounds[0]) / 2)
    return math.exp(middle + half / 1.2816 * min(max(rng.standard_normal(), -2.2), 2.2))


def _draw_one(rng, recipe, form, radius=None):
    radius = log_normal(rng, recipe.radius) if radius is None else radius
    ratio = rng.uniform(*recipe.axis_ratio)
    # The light of a thin disc is that of one at least as thick as the PSF makes it.
    area = 2 * math.pi * radius**2 * max(ratio, 0.12)
    # Large galaxies have fainter surfaces.
    size = math.log(radius / math.sqrt(recipe.radius[0] * recipe.radius[1]))
    mu = rng.uniform(*recipe.mu) + 0.4 * size
    old = rng.uniform(*recipe.old)
    # A galaxy is red or blue as a whole: its young stars go along with its old ones.
    low, high = recipe.young
    along = (old - recipe.old[0]) / max(recipe.old[1] - recipe.old[0], 1e-6)
    young = low + (high - low) * min(max(0.5 * along + 0.5 * rng.random(), 0), 1)
    bulge, bar, halo = (rng.uniform(*bounds) for bounds in (recipe.bulge, recipe.bar, recipe.halo))
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
        young_share=rng.uniform(*recipe.young_share),
        sersic=rng.uniform(*recipe.sersic),
        bulge=bulge,
        bulge_radius=rng.uniform(*recipe.bulge_radius),
        bar=bar,
        bar_length=rng.uniform(*recipe.bar_length),
        bar_ratio=rng.uniform(*recipe.bar_ratio),
        phase=rng.uniform(0, 2 * math.pi),
        arms=rng.uniform(*recipe.arms),
        arm_sharpness=rng.uniform(*recipe.arm_sharpness),
        flocculence=rng.uniform(*recipe.flocculence),
        pitch=rng.uniform(*recipe.pitch) * rng.choice((-1, 1)),
        arm_number=int(rng.choice(recipe.arm_numbers)),
        ring=float(rng.random() < recipe.ring) * rng.uniform(0.04, 0.15),
        clumps=rng.uniform(*recipe.clumps),
        lopsided=rng.uniform(*recipe.lopsided),
        dust=rng.uniform(*recipe.dust),
        halo=halo,
        shell=float(rng.random() < recipe.shell) * rng.uniform(0.03, 0.15),
        tails=int(rng.choice(recipe.tails)),
        seed=int(rng.integers(2**62)),
    )


def _draw_pair(rng, recipe):
    """Two galaxies, seldom three, that meet: spheroids in a common halo, or discs with tails between them."""
    first = _draw_one(rng, recipe, "spheroid" if rng.random() < 0.6 else "disc")
    members = [first]
    for _ in range(1 + (rng.random() < 0.12)):
        share = log_normal(rng, (0.15, 1.0))
        radius = first.radius * share**0.4 * rng.uniform(0.7, 1.1)
        form = "spheroid" if rng.random() < 0.65 else _choose(rng, (("disc", 0.6), ("irregular", 0.4)))
        way = rng.uniform(0, 2 * math.pi)
        distance = max(log_normal(rng, recipe.separation) * first.radius, 1.6)
        other = _draw_one(rng, recipe, form, radius)
        members.append(
            dataclasses.replace(
                other,
                magnitude=first.magnitude - 2.5 * math.log10(share),
                x=first.x + distance * math.cos(way),
                y=first.y + distance * math.sin(way),
                # A tail leaves along the line between the two, so the member's own axis is turned into it.
                angle=other.angle if other.tails == 0 else way + rng.normal(0, 0.4),
                halo=other.halo * 0.5,
            )
        )
    if rng.random() < 0.3:  # the cutout is centred between the two
        dx, dy = (members[1].x - first.x) / 2, (members[1].y - first.y) / 2
        members = [dataclasses.replace(member, x=member.x - dx, y=member.y - dy) for member in members]
    return tuple(members)


class _Grid:
    """The part of a frame that an object reaches, with its coordinates in arcsec from the object's centre."""

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
        """Coordinates along the major axis and, stretched to the plane, along the minor one."""
        c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        stretch = np.float32(1 / axis_ratio)
        return self.x * c + self.y * s, (self.y * c - self.x * s) * stretch


def paint_galaxy(frame, pixel, galaxy):
    """Add a galaxy's light to a frame.

    Parameters
    ----------
    frame : numpy.ndarray, shape (3, S, S), float32
        Nanomaggies per native pixel in g, r, z; changed in place.
    pixel : float
        Side of the frame's pixels, arcsec.
    galaxy : Galaxy

    Notes
    -----
    Summed over a frame that holds all of it, the light is `total_flux` within a few per cent, less what dust
    takes and more what shells and tails add. Missing is what lies beyond the 5 to 9 radii that are drawn, of wide
    halos and steep spheroids above all; where pixels are as large as cores, sampling them adds an error of 10%.
    """
    grid = _Grid(frame.shape, pixel, galaxy.x, galaxy.y, _REACH[galaxy.form] * galaxy.radius)
    if grid.empty:
        return
    layer = np.zeros((3, grid.y.shape[0], grid.x.shape[1]), np.float32)
    _PAINTERS[galaxy.form](layer, grid, galaxy, np.random.Generator(np.random.SFC64(galaxy.seed)))
    layer *= np.float32(10 ** (0.4 * (22.5 - galaxy.magnitude)) * NATIVE_SCALE**2)
    frame[grid.window] += layer


def _add(layer, profile, share, g_r):
    """Add a profile, in shares of the total r light per arcsec2, in all bands."""
    if share > 0:
        for band, flux in zip(layer, _sed(g_r), strict=True):
            band += profile * np.float32(share * flux)


@functools.lru_cache(maxsize=4096)
def _sersic_constant(index):
    from scipy.special import gammaincinv

    return float(gammaincinv(2 * index, 0.5))


def _outside(index, x):
    """Share of a Sersic profile's light beyond `x` half-light radii."""
    from scipy.special import gammaincc

    return float(gammaincc(2 * index, _sersic_constant(round(index, 3)) * x ** (1 / index)))


def _sersic(r2, radius, ratio, index, soft):
    """Sersic profile of total 1, by the squared radius in the plane; `soft` (arcsec) blunts the cusp."""
    b = _sersic_constant(round(index, 3))
    level = b ** (2 * index) * math.exp(-math.lgamma(2 * index)) / (2 * math.pi * index * radius**2 * ratio)
    # By r2 + soft**2 for r2, the light within `soft` is left out.
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
    """Smooth random field of unit variance in the galaxy's own coordinates, over (-extent, extent)."""
    coarse = rng.standard_normal((cells + 3, cells + 3), np.float32)
    scale = np.float32(cells / (2 * extent))
    shift = np.float32(extent)
    return 1.25 * cv2.remap(
        coarse, (u + shift) * scale + 1, (v + shift) * scale + 1, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def _like(shape, base):
    """Rescale a profile to the light of another that it was made from."""
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
    # Bluer outwards by a little, as most are: a redder core within the whole.
    core = 0.35
    _add(layer, profile, main * (1 - core), galaxy.old - 0.03)
    inner = _sersic(r2, 0.6 * galaxy.radius, galaxy.axis_ratio, galaxy.sersic, soft)
    _add(layer, inner, main * core, galaxy.old + 0.05)
    _paint_outskirts(layer, grid, galaxy, rng)


def _paint_disc(layer, grid, galaxy, rng):
    """Exponential disc with bulge, bar, rings, logarithmic arms, knots and dust lanes along the arms."""
    u, v = grid.along(galaxy.angle, galaxy.axis_ratio)
    radius, ratio = galaxy.radius, galaxy.axis_ratio
    soft = 0.3 * grid.pixel
    r, theta = cv2.cartToPolar(u, v)
    r += np.float32(0.5 * grid.pixel)
    scale = radius / _DISC
    bar_length = galaxy.bar_length * radius
    begin = 0.9 * bar_length if galaxy.bar > 0 else 0.3 * radius

    winding = np.log(r * np.float32(1 / begin))
    tangent = math.tan(math.radians(galaxy.pitch))
    bend = rng.normal(0, 0.12)  # the pitch changes outwards
    phase = (
        theta - np.float32(galaxy.phase) - (winding + np.float32(bend) * winding * winding) * np.float32(1 / tangent)
    )
    # Coordinates along and across the arms: what tears them is drawn out along them.
    along = np.cos(phase), np.sin(phase)
    stretch = np.exp(np.float32(0.5) * np.clip(winding, -1.5, 2))
    torn = _texture(rng, along[0] * stretch, along[1] * stretch, 3.0, int(rng.integers(14, 26)))
    wobble = _texture(rng, u, v, 5 * radius, int(rng.integers(7, 12)))
    wave = np.cos(phase * np.float32(galaxy.arm_number) + wobble * np.float32(0.3 + 0.9 * galaxy.flocculence))
    sharp = np.float32(galaxy.arm_sharpness)
    crest = np.exp((wave - 1) * sharp)
    crest *= np.exp(np.float32(0.9 * galaxy.flocculence) * torn)
    inner = r * r
    inner /= inner + np.float32((0.8 * begin) ** 2)
    crest *= inner
    # One arm or side outshines the other.
    side = 1 + np.float32(galaxy.lopsided) * np.cos(theta - np.float32(rng.uniform(0, 2 * math.pi))) * inner
    clumps = np.exp(np.float32(galaxy.clumps) * _texture(rng, u, v, 5 * radius, int(rng.integers(22, 44))))

    disc = _exponential(r, scale, ratio, soft=0.5 * grid.pixel)
    whole = disc
    if rng.random() < 0.6:  # most discs break to a steeper fall at 2 to 4 scale lengths
        fall = np.maximum(r * np.float32(1 / scale) - np.float32(rng.uniform(2.0, 4.0)), 0)
        disc = disc * np.exp(-fall * np.float32(rng.uniform(0.3, 1.0)))
    light = 1 - galaxy.bulge - galaxy.bar - galaxy.halo
    young = galaxy.young_share
    arms = 1 + np.float32(galaxy.arms) * crest
    old_disc = _like(disc * (1 + np.float32(0.5 * galaxy.arms) * crest) * (0.5 + 0.5 * side), whole)
    # Young stars reach further out than the old disc.
    wide = _exponential(r, 1.3 * scale, ratio, soft=0.5 * grid.pixel)
    young_disc = _like(wide * (arms - np.float32(0.75 if galaxy.arms > 0.3 else 0)) * clumps * side, wide)
    if galaxy.ring > 0:
        at = bar_length if galaxy.bar > 0 else rng.uniform(0.5, 1.4) * radius
        band = (r - np.float32(at)) * np.float32(1 / (rng.uniform(0.12, 0.25) * at))
        band = np.exp(-band * band) * (0.6 + 0.4 * clumps)
        ring = _like(band, wide)
        young_disc = young_disc * np.float32(1 - galaxy.ring / max(young * light, galaxy.ring)) + ring * np.float32(
            galaxy.ring / max(young * light, galaxy.ring)
        )
    _add(layer, old_disc, light * (1 - young), _blend(galaxy, _OLD_DISC["disc"]))
    knots = _add_knots(layer, grid, rng, young_disc, light, galaxy) if young * galaxy.clumps > 0.06 else 0.0
    _add(layer, young_disc, light * young - knots, galaxy.young)
    if galaxy.dust > 0 and galaxy.arms > 0:
        lane = np.exp((np.cos(phase * np.float32(galaxy.arm_number) + wobble + np.float32(0.9)) - 1) * 4) * inner
        _redden(layer, lane * np.float32(galaxy.dust))
    if galaxy.bar > 0:
        c, s = np.float32(math.cos(galaxy.phase)), np.float32(math.sin(galaxy.phase))
        across = (v * c - u * s) * np.float32(1 / (bar_length * galaxy.bar_ratio))
        length = (u * c + v * s) * np.float32(1 / bar_length)
        # Flat along and steep at the ends, as bars of Sersic index about one half; boxy.
        shape = np.exp(-((length * length) ** 2) - across * across)
        # The integral of exp(-x^4 - y^2), in the plane.
        area = 2 * 0.9064025 * math.sqrt(math.pi) * bar_length**2 * galaxy.bar_ratio * ratio
        _add(layer, shape * np.float32(1 / area), galaxy.bar, _blend(galaxy, _OLD_BAR))
    if galaxy.bulge > 0:
        # A bulge is rounder than the disc it sits in.
        round_ratio = 0.4 + 0.6 * ratio
        bulge_u, bulge_v = grid.along(galaxy.angle, round_ratio)
        size = galaxy.bulge_radius * radius
        bulge = _sersic(bulge_u**2 + bulge_v**2, size, round_ratio, galaxy.sersic, soft)
        _add(layer, bulge, galaxy.bulge, galaxy.old)
    _paint_outskirts(layer, grid, galaxy, rng)


def _exponential(r, scale, ratio, soft):
    """Exponential profile of total 1 by the radius in the plane, which is `soft` (arcsec) too large."""
    return np.exp(r * np.float32(-1 / scale)) * np.float32(math.exp(soft / scale) / (2 * math.pi * scale**2 * ratio))


def _add_knots(layer, grid, rng, where, light, galaxy):
    """Put some of the young light into HII regions and clusters, unresolved, and return how much."""
    number = int(rng.poisson(20 * galaxy.clumps * galaxy.young_share * min(galaxy.radius, 6)))
    if number == 0:
        return 0.0
    # Places in the galaxy's own plane, of which those with much light come first: knots turn with their galaxy and
    # keep their places in a frame of other pixels.
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
    """Edge-on disc: thin and blue in a thicker old one, cut off outwards, with a plane of dust; and a bulge."""
    u, v = grid.along(galaxy.angle)
    radius = galaxy.radius
    scale = radius / 1.4
    height = max(radius * galaxy.axis_ratio, 0.65 * grid.pixel)
    distance = np.abs(u) * np.float32(1 / scale)
    warp = rng.normal(0, 0.012) * radius
    # An S or, less often, a bow.
    sign = np.sign(u) if rng.random() < 0.7 else np.float32(1)
    v = v - distance * distance * sign * np.float32(warp)
    side = 1 + np.float32(galaxy.lopsided) * np.tanh(u * np.float32(1 / scale))
    cut = rng.uniform(2.6, 4.2)
    edge = distance * np.float32(1 / cut)
    edge = edge**4

    def disc(height, scale_factor):
        x = distance * np.float32(1 / scale_factor)
        across = np.exp(np.minimum(np.abs(v) * np.float32(1 / height), 30))
        across = 4 / (across + 1 / across) ** 2
        # Seen edge-on, an exponential disc is flatter in the middle than an exponential: x K1(x), nearly.
        profile = (1 + x) * np.exp(-1.15 * x - edge)
        # Light across, and along up to the cut-off.
        steps = np.linspace(0, 2 * cut, 60)
        length = np.trapezoid(
            (1 + steps / scale_factor) * np.exp(-1.15 * steps / scale_factor - (steps / cut) ** 4), steps
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
    """Clumpy, lopsided, bent light with an off-centre core."""
    u, v = grid.along(galaxy.angle, galaxy.axis_ratio)
    radius, ratio = galaxy.radius, galaxy.axis_ratio
    soft = 0.3 * grid.pixel
    core_u, core_v = u, v
    bend = np.float32(rng.uniform(0.0, 0.35) * rng.choice((-1, 1)) / radius)
    # A banana or an S.
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
    if rng.random() < 0.3:  # a wisp of an arm
        r, theta = cv2.cartToPolar(u, v)
        wind = np.log(np.maximum(r, 0.1 * radius) * np.float32(1 / radius)) * np.float32(rng.choice((-1, 1)) * 2.2)
        arm = np.exp((np.cos(theta - np.float32(turn) - wind) - 1) * 3) * np.exp(r * np.float32(-0.8 / radius))
        knots = 0.5 * knots + 0.5 * _like(arm * np.exp(np.float32(galaxy.clumps) * fine), young_base)
    light = 1 - galaxy.bulge - galaxy.halo
    _add(layer, disc, light * (1 - galaxy.young_share), _blend(galaxy, _OLD_DISC["irregular"]))
    moved = _add_knots(layer, grid, rng, knots, light, galaxy)
    _add(layer, knots, light * galaxy.young_share - moved, galaxy.young)
    if galaxy.bulge > 0:
        size = max(galaxy.bulge_radius * radius, 0.3)
        _add(layer, _sersic(core_u**2 + core_v**2, size, ratio, galaxy.sersic, soft), galaxy.bulge, galaxy.old)
    _paint_outskirts(layer, grid, galaxy, rng)


def _paint_outskirts(layer, grid, galaxy, rng):
    """Halo, shells and tidal tails."""
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
            # Sharp outside, soft inside, and only part of the way around.
            band = np.exp(-band * band * np.where(band > 0, np.float32(4), np.float32(0.6)))
            way = np.cos(theta - np.float32(rng.uniform(0, 2 * math.pi)))
            shell += band * np.exp(np.float32(rng.uniform(0.5, 3)) * (way - 1))
        _add(layer, _unit(shell, grid), galaxy.shell, galaxy.old - 0.1)
    for _ in range(galaxy.tails):
        _paint_tail(layer, grid, galaxy, rng)


def _unit(profile, grid):
    """Rescale a profile to a total of 1."""
    return profile * np.float32(1 / max(profile.sum(dtype=float) * grid.pixel**2, 1e-30))


def _paint_tail(layer, grid, galaxy, rng):
    """Add a curved tail that leaves along the major axis, thinning and fading outwards."""
    steps = np.linspace(0, 1, 28)
    length = rng.uniform(2.0, 5.0) * galaxy.radius
    heading = galaxy.angle + rng.choice((0, math.pi)) + rng.normal(0, 0.5)
    heading = heading + rng.uniform(0.2, 2.2) * rng.choice((-1, 1)) * steps
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], -1), 0) * (length / len(steps))
    # Pixels of the window, in 1/8 for OpenCV's drawing.
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


_PAINTERS = {
    "spheroid": _paint_spheroid,
    "disc": _paint_disc,
    "edge-on": _paint_edge_on,
    "irregular": _paint_irregular,
}

#: How far a form is drawn, in half-light radii: a steep core has wide wings.
_REACH = {"spheroid": 9.0, "disc": 6.5, "edge-on": 5.0, "irregular": 7.0}
