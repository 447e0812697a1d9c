"""Laws of the drawing: light is conserved, a turned galaxy is the turned image, profiles are astropy's."""

import dataclasses
import math

import cv2
import numpy as np
import pytest
from astropy.modeling.models import Moffat2D, Sersic2D
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from galaxynb.data.galaxy10 import CLASS_COUNTS, CLASS_NAMES
from galaxynb.standin.field import (
    _add_faults,
    _add_galaxies,
    _add_glow,
    _add_noise,
    _add_stars,
    _magnitude,
    _moffat,
    _psf,
    draw_cutout,
    survey_rgb,
)
from galaxynb.standin.galaxies import (
    Galaxy,
    _draw_one,
    _exponential,
    _sersic,
    _texture,
    draw_galaxy,
    paint_galaxy,
    total_flux,
)
from galaxynb.standin.ranges import CLASS_RANGES, SURVEY

FORMS = ("spheroid", "disc", "edge-on", "irregular")
SIZE = 224
RADIUS = 3.0  # arcsec
PIXEL = RADIUS / 12  # the frame reaches 9 radii on either side

fluxes = st.floats(-0.0625, 50, width=32)
seeds = st.integers(0, 2**32 - 1)
labels = st.integers(0, 9)
few = settings(max_examples=25, deadline=None)


def drawn(label, seed):
    return draw_galaxy(np.random.default_rng(seed), CLASS_RANGES[label])


def plain(galaxy, **changes):
    """Return a galaxy in the middle of the frame, whole, without what adds or takes light."""
    bare = {"x": 0.0, "y": 0.0, "radius": RADIUS, "shell": 0.0, "tails": 0, "dust": 0.0}
    return dataclasses.replace(galaxy, **bare | changes)


@st.composite
def galaxies(draw):
    members = drawn(draw(labels), draw(seeds))
    return plain(draw(st.sampled_from(members)))


def one_of(form, seed=0):
    """Return a galaxy of a form with all its textures."""
    label = {"spheroid": 4, "disc": 7, "edge-on": 8, "irregular": 0}[form]
    rng = np.random.default_rng(seed)
    return plain(_draw_one(rng, CLASS_RANGES[label], form))


def painted(galaxy, pixel=PIXEL, size=SIZE):
    frame = np.zeros((3, size, size), np.float32)
    paint_galaxy(frame, pixel, galaxy)
    return frame


def light(frame, pixel=PIXEL):
    """Sum up a frame, nanomaggies in g, r, z."""
    return frame.sum((1, 2), dtype=float) * (pixel / 0.262) ** 2


def moments(image, pixel):
    """Return the standard deviations of an image along and across, arcsec, the smaller one first."""
    y, x = (np.indices(image.shape) - (len(image) - 1) / 2) * pixel
    weight = image / image.sum(dtype=float)
    mean = [(weight * c).sum(dtype=float) for c in (x, y)]
    dx, dy = x - mean[0], y - mean[1]
    covariance = [[(weight * a * b).sum(dtype=float) for a in (dx, dy)] for b in (dx, dy)]
    return np.sqrt(np.linalg.eigvalsh(covariance))


# Light -----------------------------------------------------------------------------------------------


@few
@given(galaxies())
def test_light_is_conserved(galaxy):
    share = light(painted(galaxy)) / total_flux(galaxy)
    # Wide halos and steep spheroids reach beyond what is drawn.
    missing = 0.02 + 0.25 * galaxy.halo + (0.1 if galaxy.sersic > 2.5 else 0.03)
    assert (share < 1.03).all()
    assert (share > 1 - missing).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_light_of_a_gentle_galaxy_is_conserved_to_two_per_cent(form, seed):
    galaxy = dataclasses.replace(one_of(form, seed), sersic=1.0, halo=0.0, bulge_radius=0.25)
    np.testing.assert_allclose(light(painted(galaxy)), total_flux(galaxy), rtol=0.02)


@pytest.mark.parametrize("form", FORMS)
def test_light_is_the_same_on_pixels_of_any_size(form):
    galaxy = dataclasses.replace(one_of(form, 3), sersic=1.0, halo=0.0, bulge_radius=0.25, axis_ratio=0.5)
    for size in (40, 80, 320):
        pixel = PIXEL * SIZE / size
        tolerance = 0.1 if size == 40 else 0.03
        np.testing.assert_allclose(light(painted(galaxy, pixel, size), pixel), total_flux(galaxy), rtol=tolerance)


@few
@given(galaxies(), st.floats(0.01, 0.2))
def test_shells_add_their_share(galaxy, share):
    bare = light(painted(galaxy))[1]
    more = light(painted(dataclasses.replace(galaxy, shell=share)))[1]
    assert (more - bare) / total_flux(galaxy)[1] == pytest.approx(share, rel=0.01)


@few
@given(galaxies(), st.integers(1, 3))
def test_tails_add_a_little_light_each(galaxy, tails):
    assume(galaxy.form != "edge-on" or galaxy.tails == 0)
    bare = light(painted(galaxy))[1]
    more = light(painted(dataclasses.replace(galaxy, tails=tails)))[1]
    assert 0.039 * tails < (more - bare) / total_flux(galaxy)[1] < 0.181 * tails


@few
@given(galaxies(), st.floats(0.2, 2))
def test_dust_takes_light_and_blue_most(galaxy, depth):
    assume(galaxy.form in ("disc", "edge-on"))
    galaxy = dataclasses.replace(galaxy, arms=max(galaxy.arms, 0.5))
    bare = painted(galaxy)
    dusty = painted(dataclasses.replace(galaxy, dust=depth))
    assert (dusty <= bare * (1 + 1e-5)).all()
    left = light(dusty) / light(bare)
    assert left[0] < left[1] < left[2] < 1
    assert left[0] > 0.3


@few
@given(galaxies())
def test_a_magnitude_is_a_factor(galaxy):
    brighter = dataclasses.replace(galaxy, magnitude=galaxy.magnitude - 1)
    np.testing.assert_allclose(painted(brighter), painted(galaxy) * 10**0.4, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(total_flux(brighter), total_flux(galaxy) * 10**0.4)


@given(labels, seeds)
def test_total_flux_is_the_magnitude_and_between_the_colours(label, seed):
    for galaxy in drawn(label, seed):
        g, r, z = total_flux(galaxy)
        assert -2.5 * math.log10(r) + 22.5 == pytest.approx(galaxy.magnitude, abs=1e-5)
        bluest = min(galaxy.old - 0.08, galaxy.young)
        assert bluest - 1e-5 < 2.5 * math.log10(r / g) < max(galaxy.old, galaxy.young) + 1e-5
        assert z > r


def test_a_pair_has_the_light_of_both():
    first, second = drawn(1, 5)[:2]
    pair = [plain(first, x=-4.0), plain(second, x=4.0)]
    frame = np.zeros((3, SIZE, SIZE), np.float32)
    for galaxy in pair:
        paint_galaxy(frame, PIXEL, galaxy)
    np.testing.assert_allclose(frame, painted(pair[0]) + painted(pair[1]), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(light(frame), sum(total_flux(galaxy) for galaxy in pair), rtol=0.1)


# Geometry --------------------------------------------------------------------------------------------


def turned(galaxy):
    """Turn a galaxy by 90 degrees from x towards y."""
    return dataclasses.replace(galaxy, angle=galaxy.angle + math.pi / 2, x=-galaxy.y, y=galaxy.x)


def assert_alike(image, expected, tolerance):
    assert abs(image - expected).max() <= tolerance * expected.max()


@few
@given(galaxies(), st.floats(-4, 4), st.floats(-4, 4), st.sampled_from((0.0, 0.1)))
def test_turning_a_galaxy_turns_its_image_with_all_its_textures(galaxy, x, y, shell):
    galaxy = dataclasses.replace(galaxy, x=x, y=y, shell=shell, dust=0.5)
    # y points down, so this is clockwise.
    assert_alike(painted(turned(galaxy)), np.rot90(painted(galaxy), -1, axes=(1, 2)), 1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_turning_works_for_every_form_and_its_textures(form):
    for seed in range(3):
        galaxy = dataclasses.replace(one_of(form, seed), clumps=0.6, flocculence=0.6, young_share=0.6, halo=0.1)
        frame = painted(galaxy)
        assert_alike(painted(turned(galaxy)), np.rot90(frame, -1, axes=(1, 2)), 1e-3)
        assert abs(painted(turned(galaxy)) - frame).max() > 0.05 * frame.max()


def test_tails_turn_with_their_galaxy():
    # They are drawn with lines of a whole number of pixels, so not to the last bit.
    galaxy = dataclasses.replace(one_of("spheroid"), tails=2, seed=3)
    for pixel, size in ((PIXEL, SIZE), (PIXEL / 2, 2 * SIZE)):
        expected = np.rot90(painted(galaxy, pixel, size), -1, axes=(1, 2))[1]
        image = painted(turned(galaxy), pixel, size)[1]
        smooth, smooth_expected = (cv2.GaussianBlur(part, (0, 0), 1 / pixel) for part in (image, expected))
        assert abs(smooth - smooth_expected).sum() < 0.03 * expected.sum()


@few
@given(galaxies(), st.integers(-9, 9), st.integers(-9, 9))
def test_moving_a_galaxy_moves_its_image(galaxy, columns, rows):
    moved = dataclasses.replace(galaxy, x=columns * PIXEL, y=rows * PIXEL)
    expected = np.roll(painted(galaxy, size=SIZE), (rows, columns), axis=(1, 2))
    inner = (slice(None), slice(12, -12), slice(12, -12))
    assert_alike(painted(moved)[inner], expected[inner], 1e-2)


@few
@given(galaxies())
def test_twice_the_pixel_scale_halves_the_size_in_pixels(galaxy):
    galaxy = dataclasses.replace(galaxy, young_share=0.0)  # no knots, for which see below
    fine, coarse = painted(galaxy, PIXEL, SIZE)[1], painted(galaxy, 2 * PIXEL, SIZE // 2)[1]
    assert moments(coarse, 1.0)[1] == pytest.approx(moments(fine, 1.0)[1] / 2, rel=0.06)


def test_most_knots_keep_their_place_on_pixels_of_another_size(monkeypatch):
    many = [dataclasses.replace(one_of("disc", seed), clumps=0.6, young_share=0.7) for seed in range(8)]
    grids = (PIXEL, SIZE), (2 * PIXEL, SIZE // 2)
    whole = [[painted(galaxy, *grid)[1] for grid in grids] for galaxy in many]
    monkeypatch.setattr("galaxynb.standin.galaxies._add_knots", lambda *_: 0.0)
    kept = []
    for galaxy, frames in zip(many, whole, strict=True):
        fine, coarse = (
            np.maximum(frame - painted(galaxy, *grid)[1], 0) for frame, grid in zip(frames, grids, strict=True)
        )
        shrunk = fine.reshape(SIZE // 2, 2, SIZE // 2, 2).mean((1, 3))
        assert coarse.any()
        kept.append(np.minimum(shrunk, coarse).sum() / coarse.sum())
    assert np.median(kept) > 0.65


@few
@given(galaxies())
def test_twice_the_radius_is_twice_as_wide(galaxy):
    # No knots, whose number goes with the radius, nor bulges of the smallest size there is.
    galaxy = dataclasses.replace(galaxy, young_share=0.0, bulge_radius=max(galaxy.bulge_radius, 0.12))
    double = painted(dataclasses.replace(galaxy, radius=2 * RADIUS), 2 * PIXEL)
    np.testing.assert_allclose(moments(double[1], 2 * PIXEL), 2 * moments(painted(galaxy)[1], PIXEL), rtol=0.02)
    np.testing.assert_allclose(4 * double, painted(galaxy), atol=0.02 * double.max())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_the_axis_ratio_is_seen(form, ratio):
    galaxy = plain(Galaxy(form, 17.0, RADIUS, ratio, angle=0.6))
    minor, major = moments(painted(galaxy)[1], PIXEL)
    # An irregular is bent, and of an edge-on disc it is the thickness over the radius, not a ratio of moments.
    tolerance = {"irregular": 0.5, "edge-on": 0.5}.get(form, 0.05)
    assert minor / major == pytest.approx(ratio, rel=tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_half_the_light_is_roughly_within_the_radius(form):
    galaxy = plain(Galaxy(form, 17.0, RADIUS, 0.1 if form == "edge-on" else 1.0))
    y, x = (np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) * PIXEL
    frame = painted(galaxy)[1]
    # Along the major axis.
    within = frame[(abs(x) if form == "edge-on" else np.hypot(x, y)) < RADIUS].sum() / frame.sum()
    assert 0.4 < within < 0.8


def test_a_galaxy_out_of_the_frame_changes_nothing_and_half_in_it_adds_half():
    galaxy = Galaxy("spheroid", 18.0, RADIUS, 1.0)
    far = dataclasses.replace(galaxy, x=500.0)
    assert not painted(far).any()
    edge = dataclasses.replace(galaxy, x=SIZE / 2 * PIXEL)
    np.testing.assert_allclose(light(painted(edge)), light(painted(galaxy)) / 2, rtol=0.02)


@few
@given(galaxies())
def test_a_galaxy_is_painted_the_same_again_and_differently_by_another_seed(galaxy):
    frame = painted(galaxy)
    np.testing.assert_array_equal(frame, painted(galaxy))
    assert np.isfinite(frame).all()
    assert frame.min() >= 0
    galaxy = dataclasses.replace(galaxy, clumps=0.5)
    other = dataclasses.replace(galaxy, seed=galaxy.seed ^ 1)
    assert abs(painted(other) - painted(galaxy)).max() > 1e-3 * frame.max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radius": 0}, "radius is 0: give a number over 0"),
        ({"radius": -2.5}, r"radius is -2\.5: give a number over 0"),
        ({"radius": math.nan}, "radius is nan"),
        ({"radius": math.inf}, "radius is inf"),
        ({"bulge_radius": 0}, "bulge_radius is 0"),
        ({"bar_length": -1}, "bar_length is -1"),
        ({"bar_ratio": 0}, "bar_ratio is 0"),
        ({"sersic": 0}, "sersic is 0"),
        ({"axis_ratio": 1.01}, r"axis_ratio is 1\.01: give minor over major axis, over 0 and at most 1"),
        ({"axis_ratio": 0}, "axis_ratio is 0"),
        ({"form": "pair"}, "form is 'pair': choose from spheroid, disc, edge-on, irregular"),
        ({"form": "blob"}, "form is 'blob': choose from"),
        ({"young_share": 1.5}, r"young_share is 1\.5: give a number from 0 to 1"),
        ({"lopsided": 2}, "lopsided is 2: give a number from 0 to 1"),
        ({"bulge": -0.1}, r"bulge is -0\.1: give a number from 0 to 1"),
        ({"bulge": 0.6, "bar": 0.3, "halo": 0.2}, r"bulge, bar and halo are 0\.6, 0\.3 and 0\.2: give shares"),
        ({"tails": -1}, "tails is -1: give a number of at least 0"),
        ({"dust": math.nan}, "dust is nan: give a number of at least 0"),
        ({"pitch": 0.0}, r"pitch is 0\.0: give degrees between -90 and 90, but not 0"),
        ({"x": math.nan}, "x is nan: give a finite number"),
        ({"magnitude": -math.inf}, "magnitude is -inf: give a finite number"),
    ],
)
def test_galaxy_refuses_nonsense_by_name(changes, message):
    possible = {"form": "disc", "magnitude": 17.0, "radius": 3.0, "axis_ratio": 0.5}
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        Galaxy(**possible | changes)
    assert "\n" not in str(refused.value)


# Profiles --------------------------------------------------------------------------------------------


@given(st.floats(0.5, 5), st.floats(0.5, 10), st.floats(0.2, 1))
def test_sersic_is_astropys(index, radius, ratio):
    theirs = Sersic2D(amplitude=1.0, r_eff=radius, n=index, ellip=1 - ratio, theta=0.0)
    x = np.geomspace(0.03, 6, 40) * radius
    for u, v in ((x, 0 * x), (0 * x, x), (0.6 * x, 0.8 * x)):
        r2 = (u**2 + (v / ratio) ** 2).astype(np.float32)
        ours = _sersic(r2.copy(), radius, ratio, index, soft=1e-4 * radius)
        at_radius = _sersic(np.array([radius**2], np.float32), radius, ratio, index, soft=1e-4 * radius)[0]
        np.testing.assert_allclose(ours / at_radius, theirs(u, v), rtol=0.01, atol=1e-5)


@given(st.floats(0.5, 5), st.floats(0.5, 10), st.floats(0.2, 1), st.floats(0, 0.3))
def test_the_light_of_a_sersic_is_one_however_softened(index, radius, ratio, soft):
    r = np.geomspace(1e-6, 300, 4000) * radius
    profile = _sersic((r**2).astype(np.float32), radius, ratio, index, soft * radius + 1e-9)
    assert np.trapezoid(profile * 2 * math.pi * ratio * r**2, np.log(r)) == pytest.approx(1, abs=0.01)


@given(st.floats(0.3, 5), st.floats(0.3, 1))
def test_the_light_of_an_exponential_is_one(scale, ratio):
    r = np.linspace(0, 30, 4000) * scale
    profile = _exponential((r + 0.2).astype(np.float32), scale, ratio, soft=0.2)
    assert np.trapezoid(profile * 2 * math.pi * ratio * r, r) == pytest.approx(1, abs=0.005)


@given(st.floats(0.4, 8))
def test_the_psf_has_a_sum_of_one_and_no_direction(fwhm):
    kernel = _psf(fwhm)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], rtol=1e-4)
    np.testing.assert_allclose(kernel, kernel.T, rtol=1e-4)
    assert kernel.argmax() == kernel.size // 2


@given(st.floats(1, 6))
def test_the_psf_is_astropys_moffat(fwhm):
    kernel = _psf(fwhm)
    beta = SURVEY.moffat_beta
    theirs = Moffat2D(gamma=fwhm / 2 / math.sqrt(2 ** (1 / beta) - 1), alpha=beta)
    assert theirs.fwhm == pytest.approx(fwhm)
    half = len(kernel) // 2
    # A pixel is the mean of what falls on it.
    steps = np.arange((2 * half + 1) * 9) / 9 - half - 4 / 9
    expected = theirs(*np.meshgrid(steps, steps)).reshape(2 * half + 1, 9, 2 * half + 1, 9).mean((1, 3))
    np.testing.assert_allclose(kernel, expected / expected.sum(), rtol=0.03, atol=2e-4)


@given(st.floats(0.5, 3))
def test_the_moffat_of_the_stars_is_astropys_with_a_total_of_one(fwhm):
    beta = SURVEY.moffat_beta
    core = fwhm / 2 / math.sqrt(2 ** (1 / beta) - 1)
    theirs = Moffat2D(amplitude=(beta - 1) / (math.pi * core**2), gamma=core, alpha=beta)
    r = np.geomspace(0.01, 30, 50)
    np.testing.assert_allclose(_moffat((r**2).astype(np.float32), fwhm), theirs(r, 0), rtol=1e-4)


def test_textures_have_unit_variance_and_belong_to_the_galaxy():
    u, v = np.meshgrid(*[np.linspace(-10, 10, 300, dtype=np.float32)] * 2)
    fields = [_texture(np.random.default_rng(seed), u, v, 12.0, 40) for seed in range(4)]
    assert np.mean(fields) == pytest.approx(0, abs=0.1)
    assert np.std(fields) == pytest.approx(1, abs=0.15)
    other = _texture(np.random.default_rng(0), v, u, 12.0, 40)
    np.testing.assert_allclose(other, fields[0].T, atol=1e-5)


# The survey's RGB ------------------------------------------------------------------------------------


def test_survey_rgb_of_no_flux_is_the_sky():
    empty = survey_rgb(*np.zeros((3, 2, 2)))
    assert empty.dtype == np.float32
    assert empty.shape == (2, 2, 3)
    # m asinh(Q m) / (sqrt(Q) m), with m = 0.03 and Q = 20.
    np.testing.assert_allclose(empty, np.arcsinh(0.6) / np.sqrt(20), rtol=1e-5)
    assert empty.mean() * 255 == pytest.approx(32.4, abs=0.05)


@given(fluxes, fluxes, fluxes)
def test_survey_rgb_stays_in_range(g, r, z):
    rgb = survey_rgb(g, r, z)
    assert ((rgb >= 0) & (rgb <= 1)).all()


@given(fluxes, fluxes, fluxes, st.floats(0.001, 10))
def test_survey_rgb_brightens_a_channel_with_its_own_band(g, r, z, more):
    for band, channel in enumerate((2, 1, 0)):
        raised = [g, r, z]
        raised[band] += more
        assert survey_rgb(*raised)[channel] >= survey_rgb(g, r, z)[channel] - 1e-6


def test_survey_rgb_keeps_colour_order_and_saturates_to_white():
    red = survey_rgb(0.02, 0.05, 0.1)
    assert red[0] > red[1] > red[2]
    np.testing.assert_array_equal(survey_rgb(100.0, 180.0, 300.0), 1)


# Drawing from the recipes ----------------------------------------------------------------------------


@given(labels, seeds)
def test_draw_is_reproducible(label, seed):
    assert drawn(label, seed) == drawn(label, seed)
    assert drawn(label, seed) != drawn(label, seed + 1)


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_what_a_class_is_drawn_from_is_in_its_ranges(label):
    recipe = CLASS_RANGES[label]
    rng = np.random.default_rng(label)
    first = [draw_galaxy(rng, recipe)[0] for _ in range(300)]
    radii = np.array([galaxy.radius for galaxy in first])
    # Log-normal: a tenth below, a tenth above, and nothing far off.
    assert 0.04 < (radii < recipe.radius[0]).mean() < 0.17
    assert 0.04 < (radii > recipe.radius[1]).mean() < 0.17
    spread = recipe.radius[1] / recipe.radius[0]
    assert radii.min() > recipe.radius[0] / spread
    assert radii.max() < recipe.radius[1] * spread
    forms = {form for form, _ in recipe.forms}
    for galaxy in first:
        assert galaxy.form in forms or (forms == {"pair"} and galaxy.form in ("spheroid", "disc"))
        for name in ("axis_ratio", "old", "young", "young_share", "sersic", "arms", "clumps", "dust", "halo"):
            low, high = getattr(recipe, name)
            assert low - 1e-9 <= getattr(galaxy, name) <= high + 1e-9
        assert recipe.pitch[0] <= abs(galaxy.pitch) <= recipe.pitch[1]
        assert galaxy.arm_number in recipe.arm_numbers
        assert galaxy.tails in recipe.tails
        assert math.hypot(galaxy.x, galaxy.y) < (1 if forms != {"pair"} else 40)
        assert 11 < galaxy.magnitude < 21.5
        if galaxy.form == "spheroid":
            assert galaxy.bulge == galaxy.bar == 0
    assert len({galaxy.seed for galaxy in first}) == len(first)


@given(seeds)
def test_a_pair_has_two_members_or_three(seed):
    members = drawn(CLASS_NAMES.index("Merging"), seed)
    assert 2 <= len(members) <= 3
    first = members[0]
    for other in members[1:]:
        assert math.hypot(other.x - first.x, other.y - first.y) > 1.59
        assert other.radius < 2.5 * first.radius


def test_the_surface_brightness_is_the_recipes():
    recipe = dataclasses.replace(CLASS_RANGES[3], mu=(20.0, 20.0), radius=(3.0, 3.0))
    (galaxy,) = draw_galaxy(np.random.default_rng(0), recipe)
    area = math.pi * galaxy.radius**2 * galaxy.axis_ratio
    # Half of the light within the half-light radius.
    assert galaxy.magnitude + 2.5 * math.log10(2 * area) == pytest.approx(20.0)


def test_one_frame_in_fourteen_is_coarse():
    rng = np.random.default_rng(0)
    survey = SURVEY
    shares = []
    for recipe in CLASS_RANGES:
        extents = [
            max(math.hypot(galaxy.x, galaxy.y) * 0.5 + galaxy.radius for galaxy in draw_galaxy(rng, recipe))
            for _ in range(200)
        ]
        shares.append((np.array(extents) > survey.coarse_radius).mean())
    assert 0.03 < np.average(shares, weights=CLASS_COUNTS) < 0.13


# Field and sky ---------------------------------------------------------------------------------------


class OneEach(np.random.Generator):
    """Random numbers, except that Poisson's are always 1."""

    def poisson(self, lam=1.0, size=None):
        return 1


def one_each(seed):
    return OneEach(np.random.SFC64(seed))


@pytest.fixture
def survey(monkeypatch):
    """Change what the survey is: `survey(stars=3.0)`."""

    def change(**changes):
        monkeypatch.setattr("galaxynb.standin.field.SURVEY", dataclasses.replace(SURVEY, **changes))

    return change


def noise_at(scale, seed=0):
    """Return noise in units of the survey's."""
    noise = np.array(SURVEY.noise, np.float32)
    frame = np.zeros((3, 256, 256), np.float32)
    _add_noise(frame, np.random.default_rng(seed), noise, scale)
    return frame / noise[:, None, None]


def correlations(frame, lag):
    """Correlation of each band with itself `lag` pixels away, across and down."""
    products = frame[:, :, lag:] * frame[:, :, :-lag], frame[:, lag:] * frame[:, :-lag]
    return np.array([product.mean((1, 2)) for product in products]) / frame.var((1, 2))


@pytest.mark.parametrize("scale", [0.262, 0.524])
@pytest.mark.parametrize("near", [0.1, 0.3])
def test_noise_has_the_spread_and_the_correlation_it_is_given(survey, scale, near):
    far = -0.1
    survey(noise_near=(near, near), noise_far=(far, far), noise_smooth=(0.0, 2.5))
    frame = noise_at(scale)
    # Larger pixels average: less noise, a little more of it than uncorrelated pixels would leave.
    np.testing.assert_allclose(frame.std((1, 2)), 1 if scale == 0.262 else 0.7, rtol=0.02)
    np.testing.assert_allclose(frame.mean((1, 2)), 0, atol=0.03)
    kernel = np.array([far, near, 1, near, far])
    expected = np.correlate(kernel, kernel, "full")[4:] / (kernel**2).sum()
    for lag in (1, 2, 3, 4):
        np.testing.assert_allclose(correlations(frame, lag), expected[lag], atol=0.02)
    np.testing.assert_allclose(correlations(frame, 9), 0, atol=0.02)
    between = np.corrcoef(frame.reshape(3, -1))
    np.testing.assert_allclose(between[np.triu_indices(3, 1)], SURVEY.noise_common, atol=0.02)


def test_some_of_the_noise_in_z_is_smooth(survey):
    survey(noise_smooth=(0.3, 2.5))
    rough, smooth = (np.mean([correlations(noise_at(0.262, seed), 5)[:, band] for seed in range(8)]) for band in (1, 2))
    assert abs(rough) < 0.02
    assert smooth > 0.02
    spread = np.mean([noise_at(0.262, seed).std((1, 2)) for seed in range(8)], axis=0)
    np.testing.assert_allclose(spread, 1, rtol=0.1)


@pytest.mark.parametrize("pixel", [0.131, 0.262])
def test_a_star_has_the_seeing_and_the_light_it_is_drawn_with(survey, pixel):
    survey(star_magnitudes=(18.0, 18.0001), star_colours=(0.8, 0.8), saturation=1e9)
    seeing = np.array([1.5, 1.3, 1.1])
    for seed in range(6):
        frame = np.zeros((3, 128, 128), np.float32)
        _add_stars(frame, one_each(seed), pixel, seeing, 1.0)
        y, x = np.unravel_index(frame[1].argmax(), frame[1].shape)
        if min(x, y) < 32 or max(x, y) > 96:
            continue
        g, r, z = light(frame, pixel)
        assert r == pytest.approx(10 ** (0.4 * 4.5), rel=0.05)
        assert 2.5 * math.log10(r / g) == pytest.approx(0.8, abs=0.05)
        assert 2.5 * math.log10(z / r) == pytest.approx(0.35, abs=0.05)
        for band, fwhm in zip(frame, seeing, strict=True):
            fine = cv2.resize(band, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
            area = (fine > fine.max() / 2).sum() * (pixel / 6) ** 2
            assert 2 * math.sqrt(area / math.pi) == pytest.approx(fwhm, rel=0.1)


def test_stars_have_plausible_colours(survey):
    survey(saturation=1e9)
    colours = []
    for seed in range(200):
        frame = np.zeros((3, 48, 48), np.float32)
        _add_stars(frame, one_each(seed), 0.262, np.full(3, 1.2), 1.0)
        g, r, z = frame.reshape(3, -1)[:, frame[1].argmax()]
        colours.append((2.5 * math.log10(r / g), 2.5 * math.log10(z / r)))
    g_r, r_z = np.array(colours).T
    low, high = SURVEY.star_colours
    assert low - 0.01 < g_r.min() < g_r.max() < high + 0.01
    assert r_z.min() > -0.3
    assert 0.1 < np.median(r_z) < 1
    assert r_z.max() < 6


def test_a_saturated_core_alone_has_a_colour_of_its_own(survey):
    survey(star_magnitudes=(13.0, 13.0001), star_colours=(0.8, 0.8))
    seeing = np.full(3, 1.2)
    frame = np.zeros((3, 96, 96), np.float32)
    _add_stars(frame, one_each(4), 0.262, seeing, 1.0)
    ratio = frame[1] / np.maximum(frame[0], 1e-9)
    core, wings = frame[0] > SURVEY.saturation * 2, (frame[0] > 1e-3) & (frame[1] < 0.1)
    assert core.any()
    np.testing.assert_allclose(ratio[wings], 10 ** (0.4 * 0.8), rtol=1e-3)
    assert ratio[core].std() < 1e-3 * ratio[core].mean()
    assert abs(np.log(ratio[core].mean() / 10 ** (0.4 * 0.8))) > 0.01


@given(seeds, st.floats(10, 20), st.floats(0.5, 8), st.floats(0.1, 0.6))
def test_magnitudes_are_in_their_bounds(seed, low, width, slope):
    magnitude = _magnitude(np.random.default_rng(seed), (low, low + width), slope)
    assert low - 1e-6 <= magnitude <= low + width + 1e-6


def test_fainter_stars_are_more_by_their_slope():
    rng = np.random.default_rng(0)
    magnitudes = np.array([_magnitude(rng, (15, 25), 0.3) for _ in range(20_000)])
    counts = [(abs(magnitudes - m) < 0.5).sum() for m in (22, 24)]
    assert math.log10(counts[1] / counts[0]) / 2 == pytest.approx(0.3, abs=0.03)


def test_background_galaxies_are_small_and_within_the_frame():
    frame = np.zeros((3, 128, 128), np.float32)
    _add_galaxies(frame, np.random.default_rng(1), 0.524, 1.0)
    assert frame.min() >= 0
    low, high = SURVEY.galaxy_magnitudes
    assert 10 ** (0.4 * (22.5 - high)) < light(frame, 0.524)[1] < 100 * 10 ** (0.4 * (22.5 - low))
    assert (frame[1] > 0.1 * frame[1].max()).mean() < 0.1


def test_a_chip_edge_takes_one_band_along_one_side(survey):
    survey(chip_edge=1.0, trail=0.0)
    for seed in range(8):
        frame = np.ones((3, 64, 64), np.float32)
        _add_faults(frame, np.random.default_rng(seed), 0.262)
        hurt = np.flatnonzero((frame == 0).any((1, 2)))
        assert len(hurt) == 1
        lost = frame[hurt[0]] == 0
        assert lost.all(0).any() ^ lost.all(1).any()
        assert lost.mean() < 0.31
        assert (frame[frame != 0] == 1).all()


def test_a_trail_brightens_one_band_in_a_thin_line(survey):
    survey(chip_edge=0.0, trail=1.0)
    for seed in range(8):
        frame = np.zeros((3, 64, 64), np.float32)
        _add_faults(frame, np.random.default_rng(seed), 0.262)
        assert ((frame > 1e-6).any((1, 2))).sum() == 1
        assert (frame > 0.1 * frame.max()).mean() < 0.2
        assert frame.max() < 0.1


def test_a_glow_is_smooth_and_faint(survey):
    survey(glow=1.0)
    for seed in range(8):
        frame = np.zeros((3, 64, 64), np.float32)
        _add_glow(frame, np.random.default_rng(seed))
        assert 0 < frame.max() < 0.05
        assert abs(np.diff(frame, axis=1)).max() < 0.1 * frame.max()


def cutout(seed, label, size=64):
    return draw_cutout(np.random.default_rng(seed), label, size=size)


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_a_cutout_and_its_truth(label):
    image, truth, drawn_galaxies, pixel_scale = cutout(label, label)
    for part in (image, truth):
        assert part.shape == (64, 64, 3)
        assert part.dtype == np.uint8
    assert pixel_scale in SURVEY.pixel_scales
    assert all(isinstance(galaxy, Galaxy) for galaxy in drawn_galaxies)
    again = cutout(label, label)
    np.testing.assert_array_equal(again[0], image)
    assert again[2:] == (drawn_galaxies, pixel_scale)
    assert (cutout(label + 1, label)[0] != image).any()


def test_a_smaller_cutout_shows_the_same_field():
    for label in range(10):
        large, small = (cutout(20 + label, label, size) for size in (256, 64))
        assert large[2:] == small[2:]
        shrunk = cv2.resize(large[1], (64, 64), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(small[1].ravel(), shrunk.ravel())[0, 1] > 0.9


def test_the_galaxy_is_in_the_middle_and_brighter_than_the_sky():
    brighter = 0
    for label in range(10):
        truth = cutout(40 + label, label)[1].mean(-1)
        brighter += truth[28:36, 28:36].mean() > np.median(truth) + 10
    assert brighter >= 9
