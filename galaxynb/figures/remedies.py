"""Figures of the remedies: what each needs, costs and gives."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from galaxynb.figures.style import BLUE, GREEN, ORANGE, PURPLE, SEQUENTIAL, WIDTH, styled

__all__ = ["remedy_accuracies", "remedy_heatmap", "remedy_images", "remedy_runs"]


#: Colour for each thing that a remedy may learn from.
_NEEDS = {"nothing": BLUE, "unlabelled noisy images": GREEN, "clean-noisy pairs": ORANGE, "labels": PURPLE}

_MOST_COLUMNS = 6  # of images side by side: more would be too small to see a galaxy's arms


@styled
def remedy_accuracies(table, *, clean, nothing):
    """Show the accuracy of each remedy on noisy images, what it learns from, and what it costs.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per remedy, in the order of the figure, with the columns ``title``, ``learns from``, ``noisy`` (an
        `Estimate`), ``training seconds`` (None if an earlier stage trained it) and ``ms per image``. A star after the
        training time marks rows for which a column ``elsewhere`` is true. If a column ``behind`` is true, the remedy
        also needs that earlier training, which the figure calls 04, like its notebook.
    clean, nothing : float
        Accuracy of the classifier on clean images, and on noisy images without a remedy. Each is drawn as a line.

    Returns
    -------
    matplotlib.figure.Figure
        One panel: a dot with its 95% interval for each remedy, and its cost at the right.

    Examples
    --------
    >>> import pandas as pd
    >>> from galaxynb.results.evaluation import Estimate
    >>> row = {"title": "Median filter", "learns from": "nothing", "noisy": Estimate(0.3, 0.2, 0.4)}
    >>> table = pd.DataFrame([row | {"training seconds": 0.0, "ms per image": 1.0}])
    >>> figure = remedy_accuracies(table, clean=0.7, nothing=0.3)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['Median filter']
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.3 * len(table) + 1.5))
    for y, row in enumerate(table.to_dict("records")):
        value, low, high = row["noisy"]
        colour = _NEEDS[row["learns from"]]
        ax.errorbar(value, y, xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3, markersize=6)
        ax.text(1.01, y, _cost(row), transform=ax.get_yaxis_transform(), va="center", fontsize=8.5)
    ax.axvline(clean, color="0.35", linestyle="--", linewidth=1.2)
    ax.axvline(nothing, color="0.35", linestyle=":", linewidth=1.2)
    for x, text in ((clean, "clean"), (nothing, "no remedy")):
        ax.text(x, -0.9, text, ha="center", va="bottom", fontsize=9, color="0.25")
    ax.text(1.01, -1.5, "training; per image", transform=ax.get_yaxis_transform(), va="bottom", fontsize=8.5)
    ax.set_yticks(range(len(table)), [textwrap.fill(title, 28) for title in table["title"]], fontsize=9)
    ax.set(ylim=(len(table) - 0.4, -0.8), xlabel="Accuracy on noisy images")
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    used = [name for name in _NEEDS if name in set(table["learns from"])]
    dots = [plt.Line2D([], [], marker="o", linestyle="none", color=_NEEDS[name]) for name in used]
    figure.legend(dots, [f"learns from {name}" for name in used], loc="outside lower center", ncols=2)
    return figure


def _cost(row):
    """Return training time and time per image as text."""
    seconds = row["training seconds"]
    earlier = seconds is None or np.isnan(seconds)
    trained = ["04"] if earlier or row.get("behind") else []
    if not earlier and seconds > 0:
        time = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        trained.append(f"{time}*" if row.get("elsewhere") else time)
    return f"{' + '.join(trained) or 'none'}; {row['ms per image']:.3g} ms"


@styled
def remedy_heatmap(table, *, label, last=None, form="{:.0f}"):
    """Show a table of accuracies, one row per remedy, as a map.

    Parameters
    ----------
    table : pandas.DataFrame
        Accuracies in [0, 1], with titles as index and columns. NaN is grey.
    label : str
        Label of the colour bar.
    last : pandas.Series, optional
        Another number for each row, written at the right under its name.
    form : str
        Format of a cell's percentage.

    Returns
    -------
    matplotlib.figure.Figure
        One panel and a colour bar.

    Examples
    --------
    >>> import pandas as pd
    >>> figure = remedy_heatmap(pd.DataFrame([[0.5]], index=["Nothing"], columns=["JPEG"]), label="Accuracy, %")
    >>> figure.axes[0].texts[0].get_text()
    '50'
    """
    rows, columns = table.shape
    figure, ax = plt.subplots(figsize=(WIDTH, 0.3 * rows + 2.2))
    percent = 100 * table.to_numpy(float)
    sns.heatmap(
        percent,
        ax=ax,
        cmap=SEQUENTIAL,
        annot=np.array([["" if np.isnan(v) else form.format(v) for v in row] for row in percent]),
        fmt="",
        annot_kws={"fontsize": 8.5},
        linewidths=0.4,
        xticklabels=list(table.columns),
        yticklabels=list(table.index),
        cbar_kws={"label": label, "pad": 0.12 if last is not None else 0.03, "shrink": 0.8},
    )
    ax.set_facecolor("0.85")
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0, labelsize=9)
    ax.set_xticklabels(ax.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor", fontsize=9)
    if last is not None:
        ax.text(columns + 0.2, -0.2, last.name, fontsize=9, va="bottom")
        for y, value in enumerate(last):
            ax.text(columns + 0.2, y + 0.5, f"{value:.2f}", fontsize=9, va="center")
    return figure


@styled
def remedy_images(versions):
    """Show the same galaxies after each remedy: one galaxy per row and one remedy per column.

    Columns that do not fit side by side go on below, next to the first column again.

    Parameters
    ----------
    versions : dict of array_like of uint8 or float, shape (n, H, W, 3)
        The same n images in each version, by its title; floats in [0, 1]. The first version is the original.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per image, with the originals again in each block.

    Examples
    --------
    >>> images = np.zeros((2, 8, 8, 3))
    >>> figure = remedy_images({"Original": images, "Median filter": images, "U-Net": images})
    >>> [ax.get_title() for ax in figure.axes[:3]]
    ['Original', 'Median filter', 'U-Net']
    """
    first, *others = versions.items()
    shown = [[first, *some] for some in _blocks(others)] or [[first]]
    number, columns = len(first[1]), len(shown[0])
    panel = WIDTH / max(columns, 4)
    size = panel * columns, len(shown) * (number * (panel + 0.04) + 0.5)
    figure, axes = plt.subplots(len(shown) * number, columns, figsize=size, squeeze=False)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.025, wspace=0, hspace=0)
    for ax in axes.flat:
        ax.axis("off")
    for block, some in enumerate(shown):
        for column, (title, images) in enumerate(some):
            for row in range(number):
                axes[block * number + row, column].imshow(images[row])
            axes[block * number, column].set_title(textwrap.fill(title, max(8, int(panel / 0.08))), fontsize=9, pad=4)
    return figure


@styled
def remedy_runs(differences):
    """Show how far remedies are from the paper's autoencoder in each of several runs.

    Parameters
    ----------
    differences : pandas.DataFrame
        One row per run, and one column per remedy, by its title: the accuracy on noisy images minus that of the
        paper's autoencoder in the same run.

    Returns
    -------
    matplotlib.figure.Figure
        One panel: a dot for each run and remedy, and a bar for the mean of each remedy.

    Examples
    --------
    >>> import pandas as pd
    >>> figure = remedy_runs(pd.DataFrame({"Residual U-Net": [0.04, 0.08], "Median filter": [-0.1, -0.2]}))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['Residual U-Net', 'Median filter']
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.36 * differences.shape[1] + 1.2))
    for y, title in enumerate(differences):
        values = differences[title].dropna()
        ax.plot(values, np.full(len(values), y), "o", color=BLUE, markersize=6, alpha=0.6, markeredgewidth=0)
        ax.plot([values.mean()] * 2, [y - 0.3, y + 0.3], color="0.15", linewidth=2)
    ax.axvline(0, color="0.35", linestyle="--", linewidth=1.2)
    ax.set_yticks(range(differences.shape[1]), [textwrap.fill(title, 28) for title in differences], fontsize=9)
    ax.set(ylim=(differences.shape[1] - 0.4, -0.6), xlabel="Accuracy on noisy images, minus that of the autoencoder")
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    return figure


def _blocks(items):
    """Return a list in as few parts of about the same length as fit side by side, next to one more column."""
    number = -(-len(items) // (_MOST_COLUMNS - 1))
    size = -(-len(items) // max(number, 1))
    return [items[start : start + size] for start in range(0, len(items), size or 1)]
