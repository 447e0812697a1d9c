"""Figures of the noise: Figure 2, the explorer, and the calibration of the noise level."""

import io

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Rectangle

from galaxynb.figures.images import noise_grid
from galaxynb.figures.style import RED, SEQUENTIAL, WIDTH, styled

__all__ = [
    "calibration_map",
    "noise_explorer",
    "noisy_pairs",
]


def noisy_pairs(clean, noisy, *, n=5, titles=None):
    """Show images before and after adding noise (the paper's Figure 2).

    Parameters
    ----------
    clean, noisy : array_like, shape (N, H, W, 3)
        uint8, or float in [0, 1]; the first `n` are shown.
    n : int, optional
        Images to show, all of them where there are fewer.
    titles : sequence of str, optional
        A title for each column.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return noise_grid([clean[:n], noisy[:n]], ["Original", "Noisy"], col_titles=titles)


def noise_explorer(image, add_noise, *, sigma, stars):
    """Return sliders that redraw one noisy image, for a live notebook.

    Parameters
    ----------
    image : array_like, shape (H, W, 3)
        uint8, or float in [0, 1].
    add_noise : callable
        Takes the standard deviation of the Gaussian noise and a number of stars; returns the noisy image.
    sigma, stars : float, int
        Where the sliders start.

    Returns
    -------
    ipywidgets.VBox
        The two sliders and the image below them.
    """
    import ipywidgets

    sliders = (
        ipywidgets.FloatSlider(sigma, min=0, max=max(0.3, sigma), step=0.01, description="sigma"),
        ipywidgets.IntSlider(stars, min=0, max=max(60, stars), description="stars"),
    )
    # Not ipywidgets.interactive: its Output widget makes nbclient, and so papermill, send messages while it waits
    # for the cell, which now and then keeps it from ever hearing that the cell has ended (nbclient's issue 312).
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
    """Show how much accuracy each combination of Gaussian noise and stars costs.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per pair: ``sigma`` (standard deviation of the Gaussian noise, where 1 is white), ``stars`` (mean
        number per image) and ``drop`` (of the accuracy).
    chosen : tuple of float, optional
        The (sigma, stars) of the default noise, which is outlined.
    paper_drop : float, optional
        The paper's drop, which is marked on the scale.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `chosen` is not among the rows.
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
        cbar_kws={"label": "Drop of accuracy"},
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
                f"chosen is {chosen}, but a pair (sigma, stars) in the frame is needed: choose one of its rows"
            )
        corner = int(column.argmax()), int(row.argmax())
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=RED, linewidth=3.5, clip_on=False))
    if paper_drop is not None:
        bar = ax.collections[0].colorbar
        bar.ax.axhline(paper_drop, color=RED, linewidth=3)
        bar.set_label(f"Drop of accuracy (line: the paper's {paper_drop:.2f})")
    return figure
