"""Figures of sweeps: curves along an axis, and maps over two axes."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from galaxynb.figures.style import BLUE, GREEN, PURPLE, RED, SEQUENTIAL, WIDTH, styled
from galaxynb.results.sweeps import parameter_words

__all__ = ["sweep_curves", "sweep_map"]


@styled
def sweep_curves(curves, x, *, panels=None, paper=None):
    """Draw accuracies along one axis of a sweep, with their intervals.

    Parameters
    ----------
    curves : dict of str to pandas.DataFrame
        A table from `metric_series` for each curve, by name.
    x : str
        Name of the axis of the sweep to draw horizontally. Its values are numbers.
    panels : str, optional
        Name of another axis. Each of its values has a panel.
    paper : dict of str to float, optional
        The paper's values by the names of curves, drawn as dotted lines.

    Returns
    -------
    matplotlib.figure.Figure
        One panel, or one per value of `panels`. Points without a value are not drawn.

    Examples
    --------
    >>> import pandas as pd
    >>> curve = pd.DataFrame({"noise.sigma": [0, 0.1], "value": [0.7, 0.4], "low": [0.6, 0.3], "high": [0.8, 0.5]})
    >>> sweep_curves({"noisy": curve}, "noise.sigma", paper={"noisy": 0.33}).get_supxlabel()
    'Gaussian noise, standard deviation'
    """
    values = [None] if panels is None else sorted(set().union(*(curve[panels] for curve in curves.values())))
    columns = min(2, len(values))
    rows = -(-len(values) // columns)
    figure, axs = plt.subplots(
        rows, columns, figsize=(WIDTH, 0.6 + 2.6 * rows), sharex=True, sharey=True, squeeze=False
    )
    for ax, above in zip(axs.flat[len(values) :], axs.flat[len(values) - columns :], strict=False):
        ax.set_axis_off()
        above.tick_params(labelbottom=True)  # the panel above an empty place is the lowest of its column
    for ax, value in zip(axs.flat, values, strict=False):
        for (name, curve), colour, marker in zip(curves.items(), (BLUE, RED, GREEN, PURPLE), "osD^", strict=False):
            part = (curve if panels is None else curve[curve[panels] == value]).dropna(subset=["value"])
            ax.plot(part[x], part["value"], color=colour, marker=marker, markersize=5, label=name.capitalize())
            bars = part.dropna(subset=["low", "high"])
            ax.errorbar(
                bars[x],
                bars["value"],
                [bars["value"] - bars["low"], bars["high"] - bars["value"]],
                fmt="none",
                color=colour,
                capsize=3,
            )
            if name in (paper or {}):
                ax.axhline(paper[name], color=colour, linestyle=":", linewidth=1)
        if panels is not None:
            title = f"{parameter_words(panels, capital=True)}: {value:g}"
            ax.set_title(textwrap.fill(title, 44), fontsize=10)
        ax.grid(axis="y")
        ax.set_ylim(0, 1)
    figure.supxlabel(parameter_words(x, capital=True))
    figure.supylabel("Accuracy on the test images")
    handles, names = axs[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(curves))
    return figure


@styled
def sweep_map(series, x, y, *, title, missing=()):
    """Draw a metric over two axes of a sweep as a heat map.

    Parameters
    ----------
    series : pandas.DataFrame
        From `metric_series`: the columns of the axes and ``value``, NaN where undefined.
    x, y : str
        Names of the horizontal and the vertical axis.
    title : str
        Title of the colour bar.
    missing : sequence of tuple
        Points (x, y) without a run. Their cells say "missing".

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import pandas as pd
    >>> series = pd.DataFrame({"noise.sigma": [0.1, 0.2], "stars": [0, 0], "value": [0.9, 0.6]})
    >>> sweep_map(series, "noise.sigma", "stars", title="Recovery").axes[0].get_ylabel()
    'Injected stars per image, mean'
    """
    grid = series.pivot_table(index=y, columns=x, values="value", dropna=False)
    grid = grid.reindex(
        index=sorted({*grid.index, *(y_value for _, y_value in missing)}, reverse=True),
        columns=sorted({*grid.columns, *(x_value for x_value, _ in missing)}),
    )
    figure, ax = plt.subplots(figsize=(WIDTH, 1.4 + 0.62 * len(grid)))
    sns.heatmap(
        grid.astype(float),
        ax=ax,
        annot=True,
        fmt=".2f",
        cmap=SEQUENTIAL,
        vmin=0,
        vmax=1,
        linewidths=1,
        cbar_kws={"label": title},
    )
    ax.set_facecolor("0.92")
    ax.set_xticklabels([f"{x_value:g}" for x_value in grid.columns])
    ax.set_yticklabels([f"{y_value:g}" for y_value in grid.index], rotation=0)
    for column, x_value in enumerate(grid.columns):
        for row, y_value in enumerate(grid.index):
            if np.isnan(grid.loc[y_value, x_value]):
                label = "missing" if (x_value, y_value) in set(missing) else "undefined"
                ax.text(column + 0.5, row + 0.5, label, ha="center", va="center", color="0.35", fontsize=10)
    ax.tick_params(length=0)
    ax.set(xlabel=parameter_words(x, capital=True), ylabel=parameter_words(y, capital=True))
    return figure
