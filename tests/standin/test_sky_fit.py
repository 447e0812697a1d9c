"""The fit of the sky finds the distribution behind measurements, and its program prints it."""

import importlib

import numpy as np
import pandas as pd
import pytest

from galaxynb.standin.measure import published_measurements
from galaxynb.standin.ranges import SKY
from galaxynb.standin.sky import SkyDistribution, sky_distribution
from galaxynb.standin.sky_fit import broad_sky, draw_measured_skies, fit_sky, measured_sky, sky_code

COLUMNS = [f"{name}_{band}" for name in ("corr1", "corr2", "corr3", "sky_std", "sky") for band in "rgb"]
TYPICAL = [0.5, 0.1, 0.08, 8.0, 33.0]


def linear(distribution, n, seed):
    """Return drawn skies and measurements that depend on them linearly, up to a small error."""
    rng = np.random.default_rng(seed)
    skies = distribution.mean + rng.standard_normal((n, len(SKY))) @ distribution.factor.T
    standard = (skies - broad_sky().mean) / np.diag(broad_sky().factor)
    slopes = np.random.default_rng(1).normal(0, 0.3, (len(SKY), len(COLUMNS)))
    values = standard @ slopes + rng.normal(0, 0.05, (n, len(COLUMNS)))
    centre, scale = np.repeat(TYPICAL, 3), np.repeat([0.05, 0.03, 0.02, 0.1, 0.01], 3)
    measured = centre + scale * values
    measured[:, 9:12] = 8.0 * np.exp(0.1 * values[:, 9:12])
    measured[:, 12:] = 20 + 13 * np.exp(0.01 * values[:, 12:])
    return pd.concat([pd.DataFrame(skies, columns=[*SKY]), pd.DataFrame(measured, columns=COLUMNS)], axis=1)


def test_the_fit_finds_the_distribution_behind_measurements():
    broad = broad_sky()
    spread = np.diag(broad.factor)
    rng = np.random.default_rng(5)
    factor = np.linalg.cholesky(np.cov(rng.normal(0, 0.6, (len(SKY), 40))) + 1e-3 * np.eye(len(SKY)))
    factor *= spread[:, None]
    truth = SkyDistribution(broad.mean + 0.5 * spread * rng.uniform(-1, 1, len(SKY)), factor)
    found = fit_sky(linear(broad, 3000, 2), linear(truth, 3000, 3).drop(columns=[*SKY]))
    np.testing.assert_allclose((found.mean - truth.mean) / spread, 0, atol=0.1)
    scale = np.outer(spread, spread)
    np.testing.assert_allclose(found.factor @ found.factor.T / scale, factor @ factor.T / scale, atol=0.12)


def test_bright_frames_do_not_count():
    published = published_measurements()
    used = measured_sky(published)
    assert 0.8 * len(published) < len(used) < len(published)
    assert published.loc[used.index, "sky_g"].max() < 37
    bright = published.assign(sky_g=60.0)
    assert len(measured_sky(bright)) == 0


def test_too_few_frames_are_told():
    with pytest.raises(ValueError, match="drawn has 10 frames to compare, but 52 are needed: draw more"):
        fit_sky(linear(broad_sky(), 10, 0), published_measurements())


def test_the_same_numbers_give_the_same_images():
    both = draw_measured_skies([2, 8], [5, 6], distribution=broad_sky(), seed=3)
    second = draw_measured_skies([8], [6], distribution=broad_sky(), seed=3)
    pd.testing.assert_frame_equal(both.iloc[1:].reset_index(drop=True), second)


def test_the_code_states_the_distribution():
    distribution = sky_distribution()
    scope = {}
    exec(sky_code(distribution), scope)
    assert scope["SKY"] == SKY


def test_the_program_prints_the_fit(capsys):
    importlib.import_module("standin_sky").main(["--images", "70", "--rounds", "1", "--workers", "2"])
    said = capsys.readouterr().out
    assert "Round 1 of 1: means differ by up to" in said
    scope = {}
    exec(said[said.index("SKY = {") :], scope)
    assert list(scope["SKY"]) == list(SKY)
