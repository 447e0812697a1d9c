"""Damage that no remedy was trained on: the same for each image wherever it stands, and stronger with the severity."""

import numpy as np
import pytest

from galaxynb.noise import NoiseModel
from galaxynb.remedies.disturbances import DISTURBANCES, SEVERITIES, disturb

NOISE = NoiseModel(strength=0.8)
GRADIENT = np.linspace(20, 220, 64, dtype=np.uint8)
IMAGES = np.stack([np.repeat(np.add.outer(GRADIENT // 2, GRADIENT // 2)[..., None], 3, axis=2)] * 6)
IMAGES[:, 30:34, 30:34] = 250
ROWS = np.arange(100, 106)


def disturbed(kind, severity, *, images=IMAGES, rows=ROWS, seed=3):
    return disturb(kind, images, NOISE, severity=severity, seed=seed, indices=rows)


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_damage_depends_on_seed_and_index_and_not_on_the_batch(kind):
    whole = disturbed(kind, 3)
    assert whole.shape == IMAGES.shape
    assert whole.dtype == np.float32
    assert whole.min() >= 0
    assert whole.max() <= 1
    np.testing.assert_array_equal(whole[[4, 1]], disturbed(kind, 3, images=IMAGES[[4, 1]], rows=ROWS[[4, 1]]))
    if kind not in ("blur", "jpeg"):  # these have no random numbers
        assert not np.array_equal(whole, disturbed(kind, 3, seed=4))
        assert not np.array_equal(whole[0], whole[1])


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_each_severity_does_more_damage_than_the_one_before(kind):
    errors = [np.sqrt(np.mean((disturbed(kind, severity) - IMAGES / 255) ** 2)) for severity in SEVERITIES]
    assert errors == sorted(errors)
    assert errors[-1] > 1.5 * errors[0]


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_no_severity_is_the_noise_of_the_training(kind):
    trained = NOISE.apply(IMAGES, 3, ROWS)
    assert not any(np.array_equal(disturbed(kind, severity), trained) for severity in SEVERITIES)


def test_brighter_stars_leave_the_gaussian_noise_as_it_is():
    starless = NoiseModel(strength=NOISE.strength, sigma=NOISE.sigma, n_stars=(0, 0))
    made = disturb("brighter-stars", IMAGES, starless, severity=5, seed=3, indices=ROWS)
    np.testing.assert_allclose(made, starless.apply(IMAGES, 3, ROWS), atol=1e-6)


def test_damage_without_images_is_empty():
    for kind in DISTURBANCES:
        assert disturbed(kind, 1, images=IMAGES[:0], rows=ROWS[:0]).shape == (0, 64, 64, 3)


def test_unknown_damage_is_named():
    with pytest.raises(ValueError, match="kind is 'fog', but one of sigma"):
        disturbed("fog", 1)
    with pytest.raises(ValueError, match="severity is 6, but a whole number from 1 to 5"):
        disturbed("blur", 6)
