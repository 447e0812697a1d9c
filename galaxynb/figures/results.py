"""Figures of the results: accuracies and confusion matrices."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.figures.style import RED, SEQUENTIAL, SKY, WIDTH, styled

__all__ = ["accuracy_bars", "confusion_matrices"]


@styled
def confusion_matrices(matrices):
    """Show confusion matrices on one colour scale, with a key to the classes.

    Parameters
    ----------
    matrices : dict of str to pandas.DataFrame
        Normalised matrices of `confusion_table`, by title. Cells of about 10% or more show their percentage. The
        row of a class without images (NaN) is grey.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per matrix, and one for the key.

    Examples
    --------
    >>> from galaxynb.results.evaluation import confusion_table
    >>> figure = confusion_matrices({"Clean": confusion_table([0, 0, 1], [0, 1, 1])})
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('Predicted class', 'True class')
    """
    rows = -(-(len(matrices) + 1) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 3.55 * rows), squeeze=False)
    ticks = range(len(CLASS_NAMES))
    for ax, (title, matrix) in zip(axes.flat, matrices.items(), strict=False):
        percent = 100 * matrix.to_numpy()
        sns.heatmap(
            percent,
            ax=ax,
            vmin=0,
            vmax=100,
            cmap=SEQUENTIAL,
            cbar=False,
            square=True,
            annot=np.array([[f"{v:.0f}" if v >= 9.5 else "" for v in row] for row in percent]),
            fmt="",
            annot_kws={"fontsize": 8.5},
            linewidths=0.4,
            xticklabels=ticks,
            yticklabels=ticks,
        )
        ax.set_facecolor("0.85")
        ax.tick_params(length=0, rotation=0)
        ax.set(title=title, xlabel="Predicted class", ylabel="True class")
    key, *unused = axes.flat[len(matrices) :]
    for ax in (key, *unused):
        ax.set_axis_off()
    names = "\n".join(f"{k}  {name}" for k, name in enumerate(CLASS_NAMES))
    key.text(0.02, 1.0, names, va="top", transform=key.transAxes, linespacing=1.45)
    bar = key.inset_axes([0.02, 0.12, 0.9, 0.06])
    figure.colorbar(axes.flat[0].collections[0], cax=bar, orientation="horizontal", ticks=[0, 25, 50, 75, 100])
    bar.set_xlabel("Percent of the true class")
    return figure


@styled
def accuracy_bars(estimates, *, paper=None):
    """Show accuracies as bars with their intervals, and the paper's accuracies as diamonds.

    Parameters
    ----------
    estimates : dict of str to Estimate
        Accuracies with their 95% intervals by name, such as ``clean``, ``noisy`` and ``denoised``.
    paper : dict of str to float, optional
        The paper's accuracies by the same names, such as `paper_summary` returns. Other names are ignored.

    Returns
    -------
    matplotlib.figure.Figure
        One panel with a bar per accuracy.

    Examples
    --------
    >>> from galaxynb.results.evaluation import accuracy_interval
    >>> figure = accuracy_bars({"clean": accuracy_interval(np.arange(100) < 70)}, paper={"clean": 0.74})
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.70']
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.62 * len(estimates) + 1.35))
    where = np.arange(len(estimates))
    value, low, high = np.array([tuple(estimate) for estimate in estimates.values()]).T
    ax.barh(where, value, height=0.62, color=SKY, label="Ours, with 95% interval")
    ax.errorbar(value, where, xerr=[value - low, high - value], fmt="none", color="black", capsize=4)
    for y, number in zip(where, value, strict=True):
        ax.text(0.012, y, f"{number:.2f}", va="center", color="black", fontweight="bold")
    known = [(y, paper[name]) for y, name in zip(where, estimates, strict=True) if name in (paper or {})]
    if known:
        at, theirs = zip(*known, strict=True)
        ax.plot(
            theirs,
            at,
            marker="D",
            markersize=9,
            linestyle="none",
            markerfacecolor="none",
            markeredgecolor=RED,
            markeredgewidth=2,
            label="The paper",
        )
    ax.set_yticks(where, [textwrap.fill(name[:1].upper() + name[1:], 16) for name in estimates])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1), xlabel="Accuracy on the test images")
    ax.grid(axis="x")
    # matplotlib lists lines before bars. The reversed order puts this run before the paper.
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside upper center", ncols=2)
    return figure
