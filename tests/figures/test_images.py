"""Grids of images show the images that they are given."""

import numpy as np
import pytest
from figure_samples import IMAGES

from galaxynb.figures.images import denoised_rows, noise_grid
from galaxynb.figures.noise import noisy_pairs


def test_rows_are_the_images_given():
    figure = denoised_rows(IMAGES[:3], IMAGES[3:6], IMAGES[6:9], titles=["a", "b", "c"], n=2)
    shown = np.array([ax.images[0].get_array() for ax in figure.axes])
    assert (shown == IMAGES[[0, 1, 3, 4, 6, 7]]).all()
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == ["Noisy", "Denoised", "Original"]
    assert [ax.get_title() for ax in figure.axes[:2]] == ["a", "b"]


def test_noise_grid_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"lengths \[2, 1\], but one length, 1 or more, is needed"):
        noise_grid([IMAGES[:2], IMAGES[:1]], ["a", "b"])
    with pytest.raises(ValueError, match=r"lengths \[0, 0\], but one length, 1 or more, is needed"):
        noisy_pairs(IMAGES[:0], IMAGES[:0])
    with pytest.raises(ValueError, match="row_titles has 1 titles, but 2 are needed"):
        noise_grid([IMAGES[:2], IMAGES[:2]], ["a"])
    with pytest.raises(ValueError, match="col_titles has 1 titles, but 2 are needed"):
        noise_grid([IMAGES[:2]], ["a"], col_titles=["x"])
