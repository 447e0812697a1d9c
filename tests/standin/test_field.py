"""The field around a galaxy: PSF, colours, noise, stars and faults are those of the survey."""

import dataclasses
import math

import cv2
import numpy as np
import pytest
from astropy.modeling.models import Moffat2D
from hypothesis import given
from hypothesis import strategies as st

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.standin.field import (
    _add_faults,
    _add_galaxies,
    _add_glow,
    _add_stars,
    _magnitude,
    _moffat,
    _psf,
    draw_cutout,
    survey_rgb,
)
from galaxynb.standin.galaxies import Galaxy
from galaxynb.standin.ranges import CLASS_RANGES, SURVEY

fluxes = st.floats(-0.0625, 50, width=32)
seeds = st.integers(0, 2**32 - 1)


def light(frame, pixel):
    """Return the sum of a frame in g, r and z, in nanomaggies."""
    return frame.sum((1, 2), dtype=float) * (pixel / 0.262) ** 2


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


def test_survey_rgb_of_no_flux_is_the_sky():
    empty = survey_rgb(*np.zeros((3, 2, 2)))
    assert (empty.dtype, empty.shape) == (np.float32, (2, 2, 3))
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


class OneEach(np.random.Generator):
    """Random generator whose Poisson numbers are always 1."""

    def poisson(self, lam=1.0, size=None):
        return 1


def one_star(seed, size, seeing, pixel=0.262):
    frame = np.zeros((3, size, size), np.float32)
    _add_stars(frame, OneEach(np.random.SFC64(seed)), pixel, np.broadcast_to(seeing, 3), 1.0)
    return frame


@pytest.fixture
def survey(monkeypatch):
    """Return a function that replaces properties of the survey, as in `survey(stars=3.0)`."""

    def change(**changes):
        monkeypatch.setattr("galaxynb.standin.field.SURVEY", dataclasses.replace(SURVEY, **changes))

    return change


@pytest.mark.parametrize("pixel", [0.131, 0.262])
def test_a_star_has_the_seeing_and_the_light_it_is_drawn_with(survey, pixel):
    survey(star_magnitudes=(18.0, 18.0001), star_colours=(0.8, 0.8), dwarfs=0.0, saturation=1e9)
    seeing = np.array([1.5, 1.3, 1.1])
    for seed in range(6):
        frame = one_star(seed, 128, seeing, pixel)
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
        frame = one_star(seed, 48, seeing=1.2)
        g, r, z = frame.reshape(3, -1)[:, frame[1].argmax()]
        colours.append((2.5 * math.log10(r / g), 2.5 * math.log10(z / r)))
    g_r, r_z = np.array(colours).T
    assert SURVEY.star_colours[0] - 0.01 < g_r.min() < g_r.max() < 1.9
    assert r_z.min() > -0.3
    assert 0.1 < np.median(r_z) < 1
    assert r_z.max() < SURVEY.dwarf_colours[1] + 0.3
    assert 0.1 < np.mean(g_r > 1.3) < 0.6  # M dwarfs


def test_a_saturated_core_alone_has_a_colour_of_its_own(survey):
    survey(star_magnitudes=(13.0, 13.0001), star_colours=(0.8, 0.8), dwarfs=0.0)
    frame = one_star(4, 96, seeing=1.2)
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


def cutout(seed, label, size=64, ranges=None):
    return draw_cutout(np.random.default_rng(seed), label, size=size, ranges=ranges)


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_a_cutout_and_its_truth(label):
    image, truth, drawn_galaxies, pixel_scale = cutout(label, label)
    for part in (image, truth):
        assert (part.shape, part.dtype) == ((64, 64, 3), np.uint8)
    assert pixel_scale in SURVEY.pixel_scales
    assert all(isinstance(galaxy, Galaxy) for galaxy in drawn_galaxies)
    again = cutout(label, label)
    np.testing.assert_array_equal(again[0], image)
    assert again[2:] == (drawn_galaxies, pixel_scale)
    assert (cutout(label + 1, label)[0] != image).any()


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_given_ranges_replace_those_of_the_class_and_nothing_else(label, monkeypatch):
    monkeypatch.setattr("galaxynb.standin.field.AMBIGUOUS_SHARE", 0.0)
    ours, given_ours = cutout(7, label), cutout(7, label, ranges=CLASS_RANGES[label])
    for part, given_part in zip(ours[:2], given_ours[:2], strict=True):
        np.testing.assert_array_equal(part, given_part)
    assert ours[2:] == given_ours[2:]
    other = dataclasses.replace(CLASS_RANGES[label], axis_ratio=(0.5, 0.5))
    given_other = cutout(7, label, ranges=other)[2][0]
    assert dataclasses.replace(given_other, axis_ratio=ours[2][0].axis_ratio, magnitude=0) == dataclasses.replace(
        ours[2][0], magnitude=0
    )
    assert given_other.axis_ratio == 0.5


def test_galaxies_of_given_ranges_are_never_ambiguous(monkeypatch):
    monkeypatch.setattr("galaxynb.standin.field.AMBIGUOUS_SHARE", 1.0)
    monkeypatch.setattr("galaxynb.standin.field.CONFUSED_WITH", [(8,)] * 10)
    assert cutout(3, 2)[2][0].form == "edge-on"
    assert cutout(3, 2, ranges=CLASS_RANGES[2])[2][0].form in ("spheroid", "disc")


def test_a_smaller_cutout_shows_the_same_field():
    for label in range(10):
        large, small = (cutout(20 + label, label, size) for size in (256, 64))
        assert large[2:] == small[2:]
        shrunk = cv2.resize(large[1], (64, 64), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(small[1].ravel(), shrunk.ravel())[0, 1] > 0.85


def test_the_galaxy_is_in_the_middle_and_brighter_than_the_sky():
    truths = [cutout(40 + label, label)[1].mean(-1) for label in range(10)]
    assert sum(truth[28:36, 28:36].mean() > np.median(truth) + 10 for truth in truths) >= 9
