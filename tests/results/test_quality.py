"""PSNR and SSIM, checked by noise of known strength and by scikit-image."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from galaxynb.results.quality import image_quality, psnr, ssim

quickly = settings(deadline=None, max_examples=10)


@given(st.floats(0.01, 0.1), st.integers(0, 100))
@quickly
def test_psnr_of_noise_of_known_sigma(sigma, seed):
    rng = np.random.default_rng(seed)
    reference = np.full((2, 64, 64, 3), 0.5)
    noisy = reference + rng.normal(0, sigma, reference.shape)
    # The variance of 12,288 samples has a standard error of 1.3%, which is .055 dB; allow five of them.
    assert psnr(reference, noisy) == pytest.approx(-20 * math.log10(sigma), abs=0.28)


@given(st.integers(0, 1000), st.sampled_from([np.float32, np.float64]))
@quickly
def test_quality_is_symmetric_and_perfect_for_identical_images(seed, dtype):
    one, other = np.random.default_rng(seed).random((2, 3, 32, 32, 3)).astype(dtype)
    for metric, perfect in ((psnr, math.inf), (ssim, 1.0)):
        assert metric(one, other).shape == (3,)
        assert metric(one, other) == pytest.approx(metric(other, one), rel=1e-5)
        assert metric(one, one) == pytest.approx(perfect)
        assert (metric(one, other) < perfect).all()


def test_quality_is_of_each_image_alone():
    rng = np.random.default_rng(0)
    reference = rng.random((3, 32, 32, 3), dtype=np.float32)
    images = np.clip(reference + rng.normal(0, [[[[0.01]]], [[[0.1]]], [[[0.3]]]], reference.shape), 0, 1)
    for metric in (psnr, ssim):
        values = metric(reference, images.astype(np.float32))
        assert values[0] > values[1] > values[2]
        assert values[1:2] == pytest.approx(metric(reference[1:2], images[1:2].astype(np.float32)))
        spoilt = np.concatenate([np.full_like(images[:1], np.nan), images[1:]]).astype(np.float32)
        assert metric(reference, spoilt)[1:] == pytest.approx(values[1:], rel=1e-12)


@given(
    st.integers(0, 1000),
    st.sampled_from([np.float16, np.float32, np.float64, np.longdouble]),
    st.tuples(st.integers(1, 20), st.integers(7, 40), st.integers(7, 40)),
)
@quickly
def test_ssim_is_scikit_images(seed, dtype, shape):
    rng = np.random.default_rng(seed)
    reference = rng.random((*shape, 3)).astype(dtype)
    images = np.clip(reference + rng.normal(0, 0.1, reference.shape), 0, 1).astype(dtype)
    expected = [
        structural_similarity(one, other, data_range=1.0, channel_axis=-1)
        for one, other in zip(reference.astype(float), images.astype(float), strict=True)
    ]
    exact = np.dtype(dtype).itemsize > 4
    assert ssim(reference, images) == pytest.approx(expected, abs=1e-12 if exact else 2e-6)


def test_ssim_refuses_images_smaller_than_a_window():
    images = np.zeros((2, 6, 32, 3))
    with pytest.raises(ValueError, match=r"shape \(2, 6, 32, 3\), but 7 or more pixels per side"):
        ssim(images, images)


def test_image_quality_summarises_and_has_no_infinity():
    reference = np.zeros((2, 32, 32, 3))
    images = reference + np.array([0.1, 0.01]).reshape(2, 1, 1, 1)
    summary = image_quality(reference, images)
    assert summary["psnr_mean"] == pytest.approx(30)
    assert summary["psnr_std"] == pytest.approx(10)
    same = image_quality(reference, reference)
    assert same == {"psnr_mean": None, "psnr_std": None, "ssim_mean": 1.0, "ssim_std": 0.0}


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_quality_refuses_what_it_cannot_compare(metric):
    images = np.zeros((2, 32, 32, 3), np.float32)
    with pytest.raises(ValueError, match=r"reference is uint8, but floats in \[0, 1\] are needed"):
        metric(images.astype(np.uint8), images)
    with pytest.raises(ValueError, match=r"images has shape \(32, 32, 3\), but \(N, H, W, 3\)"):
        metric(images, images[0])
    with pytest.raises(ValueError, match=r"images has shape \(1, 32, 32, 3\), but that of reference, \(2, 32, 32, 3\)"):
        metric(images, images[:1])
