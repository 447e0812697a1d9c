"""The noise explorer redraws its image; the figures of the calibration and the fit show their numbers."""

import io

import ipywidgets
import numpy as np
import pytest
from figure_samples import FITTED, IMAGES, INTERVALS, PROFILES, STRENGTHS, TRIED
from PIL import Image

from galaxynb.figures import noise as noise_figures
from galaxynb.figures.images import noise_grid
from galaxynb.figures.noise import fit_profiles, noise_explorer, strength_curve


def test_noise_explorer_redraws_what_the_function_returns(monkeypatch):
    shown, grid = [], noise_grid

    def drawn(*arguments, **options):
        shown.append(grid(*arguments, **options))
        return shown[-1]

    monkeypatch.setattr(noise_figures, "noise_grid", drawn)
    image = IMAGES[0] / 255

    def noisier(sigma, stars):
        return np.clip(image + sigma + stars / 100, 0, 1)

    explorer = noise_explorer(image, noisier, sigma=0.1, stars=20)
    # With an Output widget, nbclient can miss the end of the cell, and papermill then waits for ever.
    assert not any(isinstance(child, ipywidgets.Output) for child in explorer.children)
    sigma, stars, picture = explorer.children
    assert [slider.description for slider in (sigma, stars)] == ["Gaussian noise", "stars"]
    before = picture.value
    stars.value, sigma.value = 0, 0.2
    first, _, last = ([np.asarray(ax.images[0].get_array(), float) for ax in figure.axes] for figure in shown)
    for original, noisy, added in ((*first, 0.3), (*last, 0.2)):
        assert original == pytest.approx(image)
        assert noisy == pytest.approx(np.clip(image + added, 0, 1))
    assert picture.value != before
    assert Image.open(io.BytesIO(picture.value)).size[0] > 300


def test_strength_curve_goes_through_the_evaluations_in_order_and_marks_target_and_strength():
    ax = strength_curve(STRENGTHS, strength=0.75, target=0.36).axes[0]
    curve, target, strength = ax.lines
    assert curve.get_xdata().tolist() == [0, 0.5, 0.75, 1]
    assert curve.get_ydata().tolist() == [0.8, 0.5, 0.4, 0.2]
    assert set(target.get_ydata()) == {0.36}
    assert set(strength.get_xdata()) == {0.75}


def test_profiles_have_a_panel_for_each_parameter_with_its_interval():
    figure = fit_profiles(TRIED, PROFILES, INTERVALS)
    for ax, (name, (low, high)) in zip(figure.axes, FITTED.items(), strict=False):
        dots, curve, plausible, best = ax.lines
        assert dots.get_xdata().tolist() == TRIED[name].tolist()
        assert curve.get_xdata().tolist() == plausible.get_xdata().tolist() == TRIED[name].tolist()
        assert best.get_xdata()[0] == pytest.approx(np.sqrt(low * high))
        (band,) = ax.patches
        assert band.get_x() == pytest.approx(low)
        assert band.get_width() == pytest.approx(high - low)
        assert ax.get_xlabel() != name
