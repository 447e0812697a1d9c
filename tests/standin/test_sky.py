"""The sky of a frame has the noise, the correlation and the offset it is drawn with."""

import numpy as np
import pytest

from galaxynb.standin.field import draw_cutout
from galaxynb.standin.ranges import SKY, SKY_NOISE
from galaxynb.standin.sky import SkyDistribution, add_sky_noise, draw_sky, sky_distribution


def fixed(**changes):
    """Return a distribution without spread: the fitted means, with changes."""
    means = {name: mean for name, (mean, _) in SKY.items()} | changes
    return SkyDistribution(np.array([*means.values()]), np.zeros((len(SKY), len(SKY))))


def noise_of(distribution, seed=0, pixels=1.0):
    """Return a frame of noise in units of the drawn noise."""
    rng = np.random.default_rng(seed)
    sky = draw_sky(rng, distribution=distribution)
    frame = np.zeros((3, 256, 256), np.float32)
    add_sky_noise(frame, rng, sky, pixels=pixels)
    return frame / sky.noise[:, None, None]


def correlations(frame, lag):
    """Return the correlation of each band with itself `lag` pixels away, horizontally and vertically."""
    products = frame[:, :, lag:] * frame[:, :, :-lag], frame[:, lag:] * frame[:, :-lag]
    return np.array([product.mean((1, 2)) for product in products]) / frame.var((1, 2))


NONE = -50.0  # ln of a share that is as good as 0


@pytest.mark.parametrize("pixels", [1.0, 2.0])
@pytest.mark.parametrize("near", [0.1, 0.3])
def test_noise_has_the_spread_and_the_correlation_it_is_given(near, pixels):
    far = -0.1
    frame = noise_of(fixed(near=near, far=far, share_g=NONE, share_r=NONE, share_z=NONE), pixels=pixels)
    # Larger pixels average the noise. Correlated noise remains a little stronger than uncorrelated noise would.
    np.testing.assert_allclose(frame.std((1, 2)), 1 if pixels == 1 else 0.7, rtol=0.02)
    np.testing.assert_allclose(frame.mean((1, 2)), 0, atol=0.03)
    kernel = np.array([far, near, 1, near, far])
    expected = np.correlate(kernel, kernel, "full")[4:] / (kernel**2).sum()
    for lag in (1, 2, 3, 4):
        np.testing.assert_allclose(correlations(frame, lag), expected[lag], atol=0.02)
    np.testing.assert_allclose(correlations(frame, 9), 0, atol=0.02)
    between = np.corrcoef(frame.reshape(3, -1))
    # All bands have a fifth of the rough noise in common.
    np.testing.assert_allclose(between[np.triu_indices(3, 1)], 0.2, atol=0.03)


def test_some_of_the_noise_is_smooth():
    sky = fixed(share_g=NONE, share_r=NONE, share_z=np.log(0.3))
    rough, smooth = (np.mean([correlations(noise_of(sky, seed), 5)[:, band] for seed in range(8)]) for band in (1, 2))
    assert abs(rough) < 0.02
    assert smooth > 0.04
    spread = np.mean([noise_of(sky, seed).std((1, 2)) for seed in range(8)], axis=0)
    np.testing.assert_allclose(spread, 1, rtol=0.1)


def test_noise_and_offset_are_those_drawn():
    sky = draw_sky(
        np.random.default_rng(0),
        distribution=fixed(level=0.5, level_g=0.1, level_z=-0.2, offset=0.3, offset_g=0.1, offset_z=-0.2),
    )
    np.testing.assert_allclose(sky.noise, np.array(SKY_NOISE) * np.exp([0.6, 0.5, 0.3]), rtol=1e-5)
    np.testing.assert_allclose(sky.offset / sky.noise, [0.4, 0.3, 0.1], rtol=1e-5)


def test_drawn_skies_have_the_fitted_mean_and_covariance():
    rng = np.random.default_rng(0)
    drawn = [draw_sky(rng) for _ in range(20_000)]
    quantities = np.array([sky.quantities for sky in drawn])
    mean, factor = sky_distribution()
    spread = np.sqrt(np.square(factor).sum(1))
    np.testing.assert_allclose((quantities.mean(0) - mean) / spread, 0, atol=0.03)
    np.testing.assert_allclose(
        np.cov(quantities.T) / np.outer(spread, spread), factor @ factor.T / np.outer(spread, spread), atol=0.04
    )
    shallow = np.array([sky.shallow for sky in drawn])
    assert abs(shallow.mean()) < 0.03
    assert abs(shallow.std() - 1) < 0.03
    assert np.median(shallow) < -0.05  # many frames are deep and few very shallow


def test_the_factor_is_that_of_a_covariance():
    _, factor = sky_distribution()
    assert (np.diag(factor) > 0).all()
    assert [len(row) for _, row in SKY.values()] == list(range(1, len(SKY) + 1))


def test_smooth_noise_never_dominates():
    sky = draw_sky(np.random.default_rng(0), distribution=fixed(share_z=np.log(2)))
    np.testing.assert_allclose(sky.share[2], 0.6)


def test_a_cutout_has_the_sky_it_is_given():
    def cutout(**changes):
        sky = draw_sky(np.random.default_rng(0), distribution=fixed(**changes))
        return draw_cutout(np.random.default_rng(3), 2, sky=sky)[0].astype(float)

    plain, bright, noisy = cutout(), cutout(offset=2.0), cutout(level=1.0)
    assert np.median(bright) > np.median(plain) + 3
    assert np.median(abs(noisy - np.median(noisy))) > 1.5 * np.median(abs(plain - np.median(plain)))


def test_shallow_frames_show_fewer_sources(monkeypatch):
    drawn = []
    monkeypatch.setattr("galaxynb.standin.field._add_stars", lambda *given: drawn.append(given[-1]))
    monkeypatch.setattr("galaxynb.standin.field._add_galaxies", lambda *_: None)
    for shallow in (-2.0, 2.0):
        sky = draw_sky(np.random.default_rng(0))._replace(shallow=shallow)
        draw_cutout(np.random.default_rng(3), 2, sky=sky)
    assert drawn[0] > 1.3 * drawn[1]
