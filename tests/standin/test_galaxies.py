"""Galaxies conserve light, rotate with all their textures, and agree with the profiles of astropy."""

import dataclasses
import math

import cv2
import numpy as np
import pytest
from astropy.modeling.models import Sersic2D
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from galaxynb.data.galaxy10 import CLASS_COUNTS, CLASS_NAMES
from galaxynb.standin.field import extent
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

seeds = st.integers(0, 2**32 - 1)
labels = st.integers(0, 9)


def few(*strategies):
    """Run a test on a few examples, each of which paints galaxies."""
    return lambda test: settings(max_examples=25, deadline=None)(given(*strategies)(test))


def drawn(label, seed):
    return draw_galaxy(np.random.default_rng(seed), CLASS_RANGES[label])


def plain(galaxy, **changes):
    """Return a galaxy at the centre of the frame, without components that add or remove light."""
    bare = {"x": 0.0, "y": 0.0, "radius": RADIUS, "shell": 0.0, "tails": 0, "dust": 0.0}
    return dataclasses.replace(galaxy, **bare | changes)


@st.composite
def galaxies(draw):
    return plain(draw(st.sampled_from(drawn(draw(labels), draw(seeds)))))


def one_of(form, seed=0):
    """Return a galaxy of the given form with all its textures."""
    label = {"spheroid": 4, "disc": 7, "edge-on": 8, "irregular": 0}[form]
    return plain(_draw_one(np.random.default_rng(seed), CLASS_RANGES[label], form))


def painted(galaxy, pixel=PIXEL, size=SIZE):
    frame = np.zeros((3, size, size), np.float32)
    paint_galaxy(frame, pixel, galaxy)
    return frame


def light(frame, pixel=PIXEL):
    """Return the sum of a frame in g, r and z, in nanomaggies."""
    return frame.sum((1, 2), dtype=float) * (pixel / 0.262) ** 2


def added(galaxy, **changes):
    """Return the light in r that changes add to a galaxy, over its own."""
    bare, more = (light(painted(one))[1] for one in (galaxy, dataclasses.replace(galaxy, **changes)))
    return (more - bare) / total_flux(galaxy)[1]


def moments(image, pixel):
    """Return the standard deviations of an image along and across, arcsec, the smaller one first."""
    y, x = (np.indices(image.shape) - (len(image) - 1) / 2) * pixel
    covariance = np.cov(x.ravel(), y.ravel(), aweights=image.ravel().astype(float), ddof=0)
    return np.sqrt(np.linalg.eigvalsh(covariance))


@few(galaxies())
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


@few(galaxies(), st.floats(0.01, 0.2))
def test_shells_add_their_share(galaxy, share):
    assert added(galaxy, shell=share) == pytest.approx(share, rel=0.01)


@few(galaxies(), st.integers(1, 3))
def test_tails_add_a_little_light_each(galaxy, tails):
    assume(galaxy.form != "edge-on" or galaxy.tails == 0)
    assert 0.039 * tails < added(galaxy, tails=tails) < 0.181 * tails


@few(galaxies(), st.floats(0.2, 2))
def test_dust_takes_light_and_blue_most(galaxy, depth):
    assume(galaxy.form in ("disc", "edge-on"))
    galaxy = dataclasses.replace(galaxy, arms=max(galaxy.arms, 0.5))
    bare, dusty = painted(galaxy), painted(dataclasses.replace(galaxy, dust=depth))
    assert (dusty <= bare * (1 + 1e-5)).all()
    left = light(dusty) / light(bare)
    assert left[0] < left[1] < left[2] < 1
    assert left[0] > 0.3


@few(galaxies())
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
        assert z > 0.6 * r  # the bluest young stars are fainter in z


def test_a_pair_has_the_light_of_both():
    first, second = drawn(1, 5)[:2]
    pair = [plain(first, x=-4.0), plain(second, x=4.0)]
    frame = np.zeros((3, SIZE, SIZE), np.float32)
    for galaxy in pair:
        paint_galaxy(frame, PIXEL, galaxy)
    np.testing.assert_allclose(frame, painted(pair[0]) + painted(pair[1]), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(light(frame), sum(total_flux(galaxy) for galaxy in pair), rtol=0.1)


def turned(galaxy):
    """Turn a galaxy by 90 degrees from x towards y."""
    return dataclasses.replace(galaxy, angle=galaxy.angle + math.pi / 2, x=-galaxy.y, y=galaxy.x)


def assert_alike(image, expected, tolerance):
    assert abs(image - expected).max() <= tolerance * expected.max()


@few(galaxies(), st.floats(-4, 4), st.floats(-4, 4), st.sampled_from((0.0, 0.1)))
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
    # The lines of a tail are a whole number of pixels wide, so the images are only similar.
    galaxy = dataclasses.replace(one_of("spheroid"), tails=2, seed=3)
    for pixel, size in ((PIXEL, SIZE), (PIXEL / 2, 2 * SIZE)):
        expected = np.rot90(painted(galaxy, pixel, size), -1, axes=(1, 2))[1]
        image = painted(turned(galaxy), pixel, size)[1]
        smooth, smooth_expected = (cv2.GaussianBlur(part, (0, 0), 1 / pixel) for part in (image, expected))
        assert abs(smooth - smooth_expected).sum() < 0.03 * expected.sum()


@few(galaxies(), st.integers(-9, 9), st.integers(-9, 9))
def test_moving_a_galaxy_moves_its_image(galaxy, columns, rows):
    moved = dataclasses.replace(galaxy, x=columns * PIXEL, y=rows * PIXEL)
    expected = np.roll(painted(galaxy, size=SIZE), (rows, columns), axis=(1, 2))
    inner = (slice(None), slice(12, -12), slice(12, -12))
    assert_alike(painted(moved)[inner], expected[inner], 1e-2)


@few(galaxies())
def test_twice_the_pixel_scale_halves_the_size_in_pixels(galaxy):
    galaxy = dataclasses.replace(galaxy, young_share=0.0)  # without knots, which another test covers
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


@few(galaxies())
def test_twice_the_radius_is_twice_as_wide(galaxy):
    # Without knots, whose number depends on the radius, and without bulges near the least size.
    galaxy = dataclasses.replace(galaxy, young_share=0.0, bulge_radius=max(galaxy.bulge_radius, 0.12))
    double = painted(dataclasses.replace(galaxy, radius=2 * RADIUS), 2 * PIXEL)
    np.testing.assert_allclose(moments(double[1], 2 * PIXEL), 2 * moments(painted(galaxy)[1], PIXEL), rtol=0.02)
    np.testing.assert_allclose(4 * double, painted(galaxy), atol=0.02 * double.max())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_the_axis_ratio_is_seen(form, ratio):
    galaxy = plain(Galaxy(form=form, magnitude=17.0, radius=RADIUS, axis_ratio=ratio, angle=0.6))
    minor, major = moments(painted(galaxy)[1], PIXEL)
    # An irregular is bent. For an edge-on disc the axis ratio is thickness over radius, not a ratio of moments.
    tolerance = {"irregular": 0.5, "edge-on": 0.5}.get(form, 0.05)
    assert minor / major == pytest.approx(ratio, rel=tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_half_the_light_is_roughly_within_the_radius(form):
    galaxy = plain(Galaxy(form=form, magnitude=17.0, radius=RADIUS, axis_ratio=0.1 if form == "edge-on" else 1.0))
    y, x = (np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) * PIXEL
    frame = painted(galaxy)[1]
    # Along the major axis.
    within = frame[(abs(x) if form == "edge-on" else np.hypot(x, y)) < RADIUS].sum() / frame.sum()
    assert 0.4 < within < 0.8


def test_a_galaxy_out_of_the_frame_changes_nothing_and_half_in_it_adds_half():
    galaxy = Galaxy(form="spheroid", magnitude=18.0, radius=RADIUS, axis_ratio=1.0)
    assert not painted(dataclasses.replace(galaxy, x=500.0)).any()
    edge = dataclasses.replace(galaxy, x=SIZE / 2 * PIXEL)
    np.testing.assert_allclose(light(painted(edge)), light(painted(galaxy)) / 2, rtol=0.02)


@few(galaxies())
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
        ({"radius": 0}, "radius is 0, but a finite number over 0 is needed: give one"),
        ({"radius": -2.5}, r"radius is -2\.5, but a finite number over 0 is needed"),
        ({"radius": math.nan}, "radius is nan"),
        ({"radius": math.inf}, "radius is inf"),
        ({"bulge_radius": 0}, "bulge_radius is 0"),
        ({"bar_length": -1}, "bar_length is -1"),
        ({"bar_ratio": 0}, "bar_ratio is 0"),
        ({"sersic": 0}, "sersic is 0"),
        ({"axis_ratio": 1.01}, r"axis_ratio is 1\.01, but minor over major axis is needed: give over 0 and at most 1"),
        ({"axis_ratio": 0}, "axis_ratio is 0"),
        ({"form": "pair"}, "form is 'pair', but a known form is needed: choose from spheroid, disc, edge-on, "),
        ({"form": "blob"}, "form is 'blob', but a known form is needed: choose from"),
        ({"young_share": 1.5}, r"young_share is 1\.5, but a number from 0 to 1 is needed: give one"),
        ({"lopsided": 2}, "lopsided is 2, but a number from 0 to 1 is needed"),
        ({"bulge": -0.1}, r"bulge is -0\.1, but a number from 0 to 1 is needed"),
        (
            {"bulge": 0.6, "bar": 0.3, "halo": 0.2},
            r"bulge, bar and halo are 0\.6, 0\.3 and 0\.2, but a sum of at most 1",
        ),
        ({"tails": -1}, "tails is -1, but a finite number of at least 0 is needed: give one"),
        ({"dust": math.nan}, "dust is nan, but a finite number of at least 0 is needed"),
        ({"pitch": 0.0}, r"pitch is 0\.0, but an angle between -90 and 90 other than 0 is needed: give degrees"),
        ({"x": math.nan}, "x is nan, but a finite number is needed: give one"),
        ({"magnitude": -math.inf}, "magnitude is -inf, but a finite number is needed"),
    ],
)
def test_galaxy_refuses_nonsense_by_name(changes, message):
    possible = {"form": "disc", "magnitude": 17.0, "radius": 3.0, "axis_ratio": 0.5}
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        Galaxy(**possible | changes)
    assert "\n" not in str(refused.value)


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


def test_textures_have_unit_variance_and_belong_to_the_galaxy():
    u, v = np.meshgrid(*[np.linspace(-10, 10, 300, dtype=np.float32)] * 2)
    fields = [_texture(np.random.default_rng(seed), u, v, 12.0, 40) for seed in range(4)]
    assert np.mean(fields) == pytest.approx(0, abs=0.1)
    assert np.std(fields) == pytest.approx(1, abs=0.15)
    other = _texture(np.random.default_rng(0), v, u, 12.0, 40)
    np.testing.assert_allclose(other, fields[0].T, atol=1e-5)


@given(labels, seeds)
def test_draw_is_reproducible(label, seed):
    assert drawn(label, seed) == drawn(label, seed)
    assert drawn(label, seed) != drawn(label, seed + 1)


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_what_a_class_is_drawn_from_is_in_its_ranges(label):
    ranges = CLASS_RANGES[label]
    rng = np.random.default_rng(label)
    first = [draw_galaxy(rng, ranges)[0] for _ in range(300)]
    radii = np.array([galaxy.radius for galaxy in first])
    # Log-normal: a tenth below, a tenth above, and nothing far off.
    low, high = ranges.radius
    assert 0.04 < (radii < low).mean() < 0.17
    assert 0.04 < (radii > high).mean() < 0.17
    assert low**2 / high < radii.min() < radii.max() < high**2 / low
    forms = {form for form, _ in ranges.forms}
    for galaxy in first:
        assert galaxy.form in forms or (forms == {"pair"} and galaxy.form in ("spheroid", "disc"))
        for name in ("axis_ratio", "old", "young", "young_share", "sersic", "arms", "clumps", "dust", "halo"):
            low, high = getattr(ranges, name)
            assert low - 1e-9 <= getattr(galaxy, name) <= high + 1e-9
        assert ranges.pitch[0] <= abs(galaxy.pitch) <= ranges.pitch[1]
        assert galaxy.arm_number in ranges.arm_numbers
        assert galaxy.tails in ranges.tails
        assert math.hypot(galaxy.x, galaxy.y) < (1 if forms != {"pair"} else 40)
        assert 11 < galaxy.magnitude < 21.5
        if galaxy.form == "spheroid":
            assert galaxy.bulge == galaxy.bar == 0
    assert len({galaxy.seed for galaxy in first}) == len(first)


@given(seeds)
def test_a_pair_has_two_members_or_three(seed):
    members = drawn(CLASS_NAMES.index("Merging"), seed)
    assert 2 <= len(members) <= 3
    first, *others = members
    for other in others:
        assert math.hypot(other.x - first.x, other.y - first.y) > 1.59
        assert other.radius < 2.5 * first.radius


def test_the_surface_brightness_is_that_of_the_ranges():
    ranges = dataclasses.replace(CLASS_RANGES[3], mu=(20.0, 20.0), radius=(3.0, 3.0))
    (galaxy,) = draw_galaxy(np.random.default_rng(0), ranges)
    area = math.pi * galaxy.radius**2 * galaxy.axis_ratio
    # Half of the light within the half-light radius.
    assert galaxy.magnitude + 2.5 * math.log10(2 * area) == pytest.approx(20.0)


def test_one_frame_in_fourteen_is_coarse():
    rng = np.random.default_rng(0)

    shares = [
        np.mean([extent(draw_galaxy(rng, ranges)) > SURVEY.coarse_radius for _ in range(200)])
        for ranges in CLASS_RANGES
    ]
    assert 0.03 < np.average(shares, weights=CLASS_COUNTS) < 0.13
