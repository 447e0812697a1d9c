"""The astronomer's verdict on remedies whose effect is known."""

import numpy as np
import pytest

from galaxynb.noise import NoiseModel
from galaxynb.remedies.verdict import (
    GALAXY,
    empty_frames,
    galaxies_kept,
    injected_light,
    own_stars_kept,
    stars_left,
    summarize,
)
from galaxynb.standin.measure import find_galaxy, measure_cutouts, measure_galaxy

NOISE = NoiseModel(sigma=0.02, n_stars=(3, 5), brightness=(0.2, 0.3))
ROWS = np.arange(4)


def blob(x, y, width, peak, side=64):
    rows, columns = np.mgrid[:side, :side]
    return peak * np.exp(-0.5 * (((columns - x) / width) ** 2 + ((rows - y) / width) ** 2))[..., None]


def scene():
    """Return clean images and truth: a galaxy at the centre, and two stars of the sky."""
    light = blob(31, 32, 4, 120) + blob(12, 12, 1.2, 90) + blob(52, 14, 1.2, 90)
    truth = np.repeat(33 + light[None] * np.array([1.0, 0.9, 0.7]), len(ROWS), axis=0)
    clean = truth + np.random.default_rng(0).normal(0, 4, truth.shape)
    return np.round(clean).clip(0, 255).astype(np.uint8), np.round(truth).astype(np.uint8)


CLEAN, TRUTH = scene()
NOISY = NOISE.apply(CLEAN, 3, ROWS)
ABOUT = {"clean": CLEAN, "truth": TRUTH, "noise": NOISE, "seed": 3, "indices": ROWS}


def test_the_light_of_stars_is_what_the_noise_adds():
    light = injected_light(NOISE, 64, seed=3, indices=ROWS)
    grey = np.full((4, 64, 64, 3), 50, np.uint8)
    starry = NoiseModel(sigma=0, n_stars=NOISE.n_stars, brightness=NOISE.brightness).apply(grey, 3, ROWS)
    np.testing.assert_allclose(starry - grey / np.float32(255), light, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0, -0.1])
def test_the_share_of_light_left_is_found(share):
    light = injected_light(NOISE, 64, seed=3, indices=ROWS)
    truth = TRUTH / 255
    np.testing.assert_allclose(stars_left(truth + share * light, truth, light), share, atol=0.02)
    # A sky that is brighter everywhere is no star.
    np.testing.assert_allclose(stars_left(truth + share * light + 0.05, truth, light), share, atol=0.02)


def test_an_image_without_stars_has_no_share():
    assert np.isnan(stars_left(CLEAN / 255, TRUTH / 255, np.zeros(CLEAN.shape))).all()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_flux_of_own_stars_is_found(share):
    stars = blob(12, 12, 1.2, 90) + blob(52, 14, 1.2, 90)
    restored = (TRUTH - (1 - share) * stars * np.array([1.0, 0.9, 0.7])) / 255
    found = own_stars_kept(restored, CLEAN, TRUTH, light=np.zeros(TRUTH.shape), noise=NOISE)
    assert len(found) == 2 * len(ROWS)
    np.testing.assert_allclose(found, share, atol=0.03)


def test_own_stars_under_injected_ones_or_in_the_noise_are_left_out():
    light = np.repeat(blob(12, 12, 2, 0.3)[None], len(ROWS), axis=0) * np.ones(3)
    assert len(own_stars_kept(TRUTH / 255, CLEAN, TRUTH, light=light, noise=NOISE)) == len(ROWS)
    loud = NoiseModel(sigma=0.2)
    assert len(own_stars_kept(TRUTH / 255, CLEAN, TRUTH, light=np.zeros(TRUTH.shape), noise=loud)) == 0


def test_a_galaxy_in_its_own_segment_has_the_measures_of_the_image():
    whole = measure_cutouts(CLEAN[:1]).iloc[0]
    found = measure_galaxy(CLEAN[0], find_galaxy(CLEAN[0]))
    assert found == {name: pytest.approx(whole[name]) for name in found}


def test_a_frame_without_galaxy_has_no_measures():
    flat = np.full((64, 64, 3), 33, np.uint8)
    assert not find_galaxy(flat).any()
    assert np.isnan(list(measure_galaxy(flat, find_galaxy(flat)).values())).all()


def test_the_truth_itself_changes_nothing_and_half_the_light_halves_the_flux():
    same = galaxies_kept(TRUTH / 255, CLEAN, TRUTH)
    assert {*same} == {*GALAXY}
    for pairs in same.values():
        np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
    dimmer = galaxies_kept((33 + (TRUTH.astype(float) - 33) / 2) / 255, CLEAN, TRUTH)["brightness"]
    np.testing.assert_allclose(dimmer[:, 1] / dimmer[:, 0], 0.5, atol=0.03)


def test_empty_frames_hold_noise_or_stars_on_a_flat_sky():
    frames = empty_frames(NOISE, 32, seed=1)
    assert {name: frame.shape for name, frame in frames.items()} == dict.fromkeys(("noise", "stars"), (16, 32, 32, 3))
    assert frames["noise"].std() == pytest.approx(NOISE.sigma, rel=0.05)
    assert frames["stars"].max() > frames["noise"].max() + 0.1


def test_the_verdict_on_leaving_the_image_and_on_a_flat_one():
    nothing = summarize(lambda images: images, restored=NOISY, **ABOUT)
    assert nothing["stars left"] == pytest.approx(1, abs=0.1)
    assert nothing["noise frame"] == pytest.approx(255 * NOISE.sigma, rel=0.05)
    assert nothing["own stars"] > 0
    flat = summarize(lambda images: np.full_like(images, 33 / 255), restored=np.full_like(NOISY, 33 / 255), **ABOUT)
    assert flat["stars left"] == pytest.approx(0, abs=0.1)
    assert flat["noise frame"] == flat["star frame"] == 0
    assert flat["own stars kept"] == 0
    assert flat["galaxies lost"] == 1
    assert flat["Flux, bias"] is None
    assert nothing["galaxies lost"] == 0


def test_small_images_have_no_measures_of_sources():
    small = {"clean": CLEAN[:, 16:48, 16:48], "truth": TRUTH[:, 16:48, 16:48]}
    found = summarize(lambda images: images, restored=NOISY[:, 16:48, 16:48], **(ABOUT | small))
    assert {*found} == {"stars left", "noise frame", "star frame"}
