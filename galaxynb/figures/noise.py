"""Figures of the noise: the paper's Figure 2, the noise explorer, the calibration and the fit of the noise."""

import io

import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

from galaxynb.figures.images import noise_grid
from galaxynb.figures.style import BLUE, RED, WIDTH, label_plainly, styled

__all__ = ["fit_profiles", "noise_explorer", "noisy_pairs", "strength_curve"]


def noisy_pairs(clean, noisy, *, n=5, titles=None):
    """Show images before and after adding noise (the paper's Figure 2).

    Parameters
    ----------
    clean, noisy : array_like of uint8 or float, shape (N, H, W, 3)
        The same images without and with noise; floats in [0, 1]. The first `n` are shown.
    n : int, optional
        Number of images to show. If there are fewer, all are shown.
    titles : sequence of str, optional
        A title for each column.

    Returns
    -------
    matplotlib.figure.Figure
        Two rows of panels.

    Raises
    ------
    ValueError
        For the same images and titles as `noise_grid`.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((2, 8, 8, 3))
    >>> [ax.get_ylabel() for ax in noisy_pairs(images, images + 0.1).axes[::2]]
    ['Original', 'Noisy']
    """
    return noise_grid([clean[:n], noisy[:n]], ["Original", "Noisy"], col_titles=titles)


def noise_explorer(image, add_noise, *, sigma, stars):
    """Return two sliders that redraw one image with noise, for a notebook with a running kernel.

    Parameters
    ----------
    image : array_like of uint8 or float, shape (H, W, 3)
        The image without noise; floats in [0, 1].
    add_noise : callable
        Takes the standard deviation of the Gaussian noise (1 = white) and the number of stars, in this order. Returns
        the noisy image.
    sigma : float
        First value of the slider of the Gaussian noise.
    stars : int
        First value of the slider of the number of stars.

    Returns
    -------
    ipywidgets.VBox
        The two sliders, and the image without and with noise below them.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((8, 8, 3), 0.5)
    >>> explorer = noise_explorer(image, lambda sigma, stars: image + sigma, sigma=0.1, stars=20)
    >>> [slider.description for slider in explorer.children[:2]]
    ['Gaussian noise', 'stars']
    """
    import ipywidgets

    # The default width of a description cuts off "Gaussian noise".
    style = {"description_width": "8em"}
    sliders = (
        ipywidgets.FloatSlider(sigma, min=0, max=max(0.3, sigma), step=0.01, description="Gaussian noise", style=style),
        ipywidgets.IntSlider(stars, min=0, max=max(60, stars), description="stars", style=style),
    )
    # ipywidgets.interactive would do, but its Output widget makes nbclient send messages while it waits for the cell.
    # Now and then nbclient then misses the end of the cell, and papermill waits for ever (nbclient's issue 312).
    picture = ipywidgets.Image(format="png")

    def draw(_change=None):
        figure = noise_grid(
            [[image, add_noise(*(slider.value for slider in sliders))]], [""], col_titles=["Original", "Noisy"]
        )
        file = io.BytesIO()
        figure.savefig(file, format="png")
        picture.value = file.getvalue()

    for slider in sliders:
        slider.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([*sliders, picture])


@styled
def strength_curve(evaluations, *, strength, target):
    """Show the accuracy on noisy images against the strength of the noise.

    Parameters
    ----------
    evaluations : pandas.DataFrame
        Columns ``strength`` and ``accuracy``, one row per evaluation, in any order.
    strength : float
        The strength to mark.
    target : float
        The accuracy to mark, in [0, 1].

    Returns
    -------
    matplotlib.figure.Figure
        One panel.

    Examples
    --------
    >>> import pandas as pd
    >>> evaluations = pd.DataFrame({"strength": [0, 1, 0.5], "accuracy": [0.8, 0.2, 0.5]})
    >>> strength_curve(evaluations, strength=0.5, target=0.45).axes[0].get_xlabel()
    'Strength of the noise'
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.0))
    ordered = evaluations.sort_values("strength")
    ax.plot(ordered["strength"], ordered["accuracy"], color=BLUE, marker="o", markersize=5)
    ax.axhline(target, color="0.35", linestyle="--", linewidth=1.2, label="target")
    ax.axvline(strength, color=RED, linewidth=1.2, label=f"strength of this run: {strength:.3g}")
    ax.set(xlabel="Strength of the noise", ylabel="Accuracy, validation images", ylim=(0, 1))
    ax.grid(axis="y")
    ax.legend(loc="upper right")
    return figure


#: Titles of the parameters of a fit of the noise.
_FITTED = {
    "stars": "Stars per image, mean",
    "radius": "Radius / image side, mean",
    "brightness": "Brightness, mean",
    "blur": "Blur kernel / image side, mean",
    "sigma": "Gaussian noise, sigma",
}


@styled
def fit_profiles(evaluations, profiles, intervals):
    """Show how well a fit determines each parameter of the noise.

    Parameters
    ----------
    evaluations : pandas.DataFrame
        One row per evaluated noise: a column per parameter, and ``misfit``.
    profiles : pandas.DataFrame
        Columns ``parameter``, ``value``, ``misfit`` and ``plausible``: the lowest expected misfit for each value of
        each parameter, and the lowest that is plausible there.
    intervals : pandas.DataFrame
        Columns ``parameter``, ``best``, ``low`` and ``high``, one row per parameter.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per parameter, with a logarithmic axis.

    Examples
    --------
    >>> import pandas as pd
    >>> evaluations = pd.DataFrame({"sigma": [0.01, 0.1], "misfit": [0.2, 0.3]})
    >>> profiles = pd.DataFrame({"parameter": "sigma", "value": [0.01, 0.1], "misfit": [0.2, 0.28], "plausible": 0.2})
    >>> intervals = pd.DataFrame({"parameter": ["sigma"], "best": [0.02], "low": [0.01], "high": [0.05]})
    >>> fit_profiles(evaluations, profiles, intervals).axes[0].get_xlabel()
    'Gaussian noise, sigma'
    """
    rows = -(-len(intervals) // 2)
    figure, axs = plt.subplots(rows, 2, figsize=(WIDTH, 0.3 + 2.3 * rows), sharey=True, squeeze=False)
    for ax in axs.flat[len(intervals) :]:
        ax.set_axis_off()
    for ax, found in zip(axs.flat, intervals.itertuples(), strict=False):
        curve = profiles[profiles["parameter"] == found.parameter]
        ax.plot(evaluations[found.parameter], evaluations["misfit"], ".", color="0.7", markersize=5, label="evaluated")
        ax.plot(curve["value"], curve["misfit"], color=BLUE, label="lowest")
        ax.plot(curve["value"], curve["plausible"], color=BLUE, linewidth=1, linestyle=":", label="plausible")
        ax.axvspan(found.low, found.high, color=BLUE, alpha=0.15, linewidth=0, label="as good")
        ax.axvline(found.best, color=RED, linewidth=1.4, label="closest")
        ax.set(xscale="log", xlabel=_FITTED.get(found.parameter, found.parameter))
        label_plainly(ax.xaxis, (1, 2, 5))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="y")
    # Most evaluated noises are far off, and only the range of the curves matters.
    axs[0, 0].set_ylim(0.95 * profiles["plausible"].min(), 1.3 * profiles["misfit"].max())
    figure.supylabel("Misfit")
    handles, names = axs[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=5)
    return figure
