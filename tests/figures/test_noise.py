"""The noise explorer redraws its image, and the calibration map outlines the chosen pair."""

import io

import ipywidgets
import numpy as np
import pytest
from figure_samples import IMAGES, SWEEP
from PIL import Image

from galaxynb.figures import noise as noise_figures
from galaxynb.figures.images import noise_grid
from galaxynb.figures.noise import calibration_map, noise_explorer


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


def test_calibration_map_outlines_the_chosen_pair():
    figure = calibration_map(SWEEP, chosen=(0.1, 8))
    outline = figure.axes[0].patches[-1]
    # Columns are sigma 0, .1 and .2. Rows are 8 stars, then none.
    assert outline.get_xy() == (1, 0)
    assert figure.axes[0].get_xlabel().startswith("Gaussian noise, standard deviation")
    assert figure.axes[0].get_ylabel().startswith("Injected stars per image")
    with pytest.raises(ValueError, match=r"chosen is \(0.3, 8\), but a pair \(sigma, stars\) of frame is needed"):
        calibration_map(SWEEP, chosen=(0.3, 8))
