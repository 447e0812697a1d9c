"""The JPEG of the survey's viewer keeps brightness, blurs colours, and rounds as JPEG does."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn

from galaxynb.standin.viewer import viewer_jpeg


def noise(size=64, seed=0, spread=15):
    image = np.random.default_rng(seed).normal(90, spread, (size, size, 3))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def brightness(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., 0].astype(np.float32)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
@settings(max_examples=25)
def test_a_flat_image_keeps_its_colour(red, green, blue):
    flat = np.full((32, 32, 3), (red, green, blue), np.uint8)
    np.testing.assert_allclose(viewer_jpeg(flat).astype(int), flat, atol=4)


def test_brightness_is_that_of_a_real_jpeg():
    """OpenCV's JPEG differs only in how it shrinks the colours, so a grey image must come out the same."""
    grey = np.repeat(noise()[..., :1], 3, axis=2)
    options = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    decoded = cv2.imdecode(cv2.imencode(".jpg", grey, options)[1], cv2.IMREAD_COLOR)
    difference, lost = brightness(viewer_jpeg(grey)) - brightness(decoded), brightness(grey) - brightness(decoded)
    # Rounding of the two transforms differs, so a coefficient between two steps can go either way.
    assert np.sqrt(np.square(difference).mean()) < 0.3 * np.sqrt(np.square(lost).mean())
    assert np.mean(abs(difference) <= 2) > 0.9


def test_coefficients_are_multiples_of_the_steps():
    """That is the trace by which the published images were recognised: the step of coefficient (3, 3) is 6 at 90."""
    blocks = brightness(viewer_jpeg(noise())).reshape(8, 8, 8, 8).swapaxes(1, 2) - 128
    coefficient = dctn(blocks, axes=(2, 3), norm="ortho")[..., 3, 3]
    # Rounding to whole colours moves a coefficient by about half a unit.
    off = abs(coefficient - 6 * np.rint(coefficient / 6))
    assert np.median(off) < 0.8


def test_colours_lose_their_fine_half_and_keep_the_coarse_one():
    seen, before = viewer_jpeg(noise(256), quality=100), noise(256)

    def power(image):
        signal = image[..., 0].astype(np.float32) - image[..., 2]
        blocks = signal.reshape(32, 8, 32, 8).swapaxes(1, 2)
        return np.square(dctn(blocks, axes=(2, 3), norm="ortho")).mean(axis=(0, 1))

    kept = power(seen) / power(before)
    assert kept[1:3, 1:3].min() > 0.85
    assert kept[6:, 6:].max() < 0.1


def test_a_lower_quality_loses_more():
    losses = [np.square(viewer_jpeg(noise(), quality=q).astype(float) - noise()).mean() for q in (100, 90, 50, 10)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


@pytest.mark.parametrize("shape", [(32, 32), (32, 48, 3), (40, 40, 3), (32, 32, 1)])
def test_a_shape_that_has_no_whole_blocks_is_refused(shape):
    with pytest.raises(ValueError, match="a multiple of 16 is needed"):
        viewer_jpeg(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("quality", [0, 101])
def test_an_impossible_quality_is_refused(quality):
    with pytest.raises(ValueError, match="from 1 to 100 is needed"):
        viewer_jpeg(np.zeros((16, 16, 3), np.uint8), quality=quality)
