"""Figures of the noise: the paper's Figure 2, the noise explorer, and the calibration of the noise level."""

import io

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Rectangle

from galaxynb.figures.images import noise_grid
from galaxynb.figures.style import RED, SEQUENTIAL, WIDTH, styled

__all__ = ["calibration_map", "noise_explorer", "noisy_pairs"]


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
def calibration_map(frame, *, chosen=None, paper_drop=None):
    """Show the drop in accuracy for each strength of the Gaussian noise and each number of stars.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per pair of strengths. Columns: ``sigma`` (standard deviation of the Gaussian noise, 1 = white),
        ``stars`` (mean number of stars per image) and ``drop`` (accuracy on clean minus that on noisy images).
    chosen : tuple of float, optional
        The pair (sigma, stars) to outline: the study's default.
    paper_drop : float, optional
        The paper's drop, which a line marks on the colour scale.

    Returns
    -------
    matplotlib.figure.Figure
        A heat map and its colour scale.

    Raises
    ------
    ValueError
        If `chosen` is not a pair of `frame`.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"sigma": [0, 0.1, 0, 0.1], "stars": [0, 0, 25, 25], "drop": [0, 0.2, 0.1, 0.4]})
    >>> calibration_map(frame, chosen=(0.1, 25)).axes[0].get_ylabel()
    'Injected stars per image, mean'
    """
    grid = frame.pivot(index="stars", columns="sigma", values="drop").sort_index(ascending=False)
    figure, ax = plt.subplots(figsize=(WIDTH, min(6.5, 0.55 * len(grid) + 1.3)))
    sns.heatmap(
        grid,
        ax=ax,
        vmin=min(0.0, float(np.nanmin(grid))),
        cmap=SEQUENTIAL,
        annot=True,
        fmt=".2f",
        annot_kws={"fontsize": 11},
        linewidths=1,
        cbar_kws={"label": "Drop in accuracy"},
        xticklabels=[f"{sigma:g}" for sigma in grid.columns],
        yticklabels=[f"{stars:g}" for stars in grid.index],
    )
    ax.tick_params(length=0, rotation=0)
    ax.set(xlabel="Gaussian noise, standard deviation (1 = white)", ylabel="Injected stars per image, mean")
    if chosen is not None:
        sigma, stars = chosen
        column, row = np.isclose(grid.columns, sigma), np.isclose(grid.index, stars)
        if not (column.any() and row.any()):
            raise ValueError(
                f"chosen is {chosen}, but a pair (sigma, stars) of frame is needed: choose one of its rows"
            )
        corner = int(column.argmax()), int(row.argmax())
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=RED, linewidth=3.5, clip_on=False))
    if paper_drop is not None:
        bar = ax.collections[0].colorbar
        bar.ax.axhline(paper_drop, color=RED, linewidth=3)
        bar.set_label(f"Drop in accuracy (line: the paper's {paper_drop:.2f})")
    return figure
