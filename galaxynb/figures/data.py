"""Figures of the data: samples of each class, class counts, distributions, stand-in beside real images."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.figures.style import BLUE, ORANGE, STEPS, WIDTH, styled

__all__ = [
    "class_count_bars",
    "class_distributions",
    "class_samples",
    "side_by_side",
    "standin_closeness",
]


@styled
def class_samples(images, labels, *, seed=0, columns=5):
    """Show one cutout of each class (the paper's Figure 1).

    Parameters
    ----------
    images : array_like, shape (N, H, W, 3)
        uint8, or float in [0, 1]. Only the images shown are read.
    labels : array_like of int, shape (N,)
        Classes, 0..9. A class without an image gets an empty panel that says so.
    seed : int, optional
        Seed of the choice within each class.
    columns : int, optional
        Panels a row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    rows = -(-len(CLASS_NAMES) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, rows * (WIDTH / columns + 0.48)), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for k, (ax, name) in enumerate(zip(axes.flat, CLASS_NAMES, strict=False)):
        members = np.flatnonzero(labels == k)
        if members.size:
            ax.imshow(images[int(rng.choice(members))])
        else:
            ax.text(0.5, 0.5, "none here", ha="center", va="center", color="0.4")
            ax.set_aspect("equal")
        ax.set_title("\n".join(textwrap.wrap(f"{k} {name}", 15)), fontsize=10)
    return figure


@styled
def class_count_bars(labels):
    """Show how many images each class has, stacked by split.

    Parameters
    ----------
    labels : array_like of int, shape (N,), or dict of str to array_like
        Classes 0..9 of all images, or of each split by its name.

    Returns
    -------
    matplotlib.figure.Figure
    """
    splits = labels if isinstance(labels, dict) else {"": labels}
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    left = np.zeros(len(CLASS_NAMES), dtype=int)
    where = np.arange(len(CLASS_NAMES))
    for (name, members), colour in zip(splits.items(), sns.color_palette("colorblind", len(splits)), strict=True):
        counts = np.bincount(np.asarray(members), minlength=len(CLASS_NAMES))
        ax.barh(where, counts, left=left, color=colour, label=name.capitalize(), edgecolor="white", linewidth=0.5)
        left += counts
    for k, total in enumerate(left):
        ax.annotate(
            f"{total:,}",
            (total, k),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            color="0.25",
        )
    ax.set_yticks(where, [f"{k} {name}" for k, name in enumerate(CLASS_NAMES)])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("Images")
    ax.xaxis.set_major_locator(plt.MaxNLocator(5, integer=True, steps=STEPS))
    ax.margins(x=0.12)
    ax.grid(axis="x")
    if isinstance(labels, dict):
        figure.legend(loc="outside upper right", ncols=len(splits))
    return figure


#: Columns of `class_distributions`: axis title, and whether the axis is logarithmic.
_DISTRIBUTIONS = {
    "size": ("Size of the galaxy, px", True),
    "colour": ("Colour at the centre, red / blue", True),
    "brightness": ("Brightness, white pixels", True),
    "redshift": ("Redshift", False),
}


@styled
def class_distributions(frame):
    """Show how size, colour, brightness and redshift are distributed in each class.

    Boxes span the middle half of a class, whiskers reach from 5% to 95%, and a dot is an image.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row an image: ``label`` (0..9), ``size``, ``colour``, ``brightness``, ``redshift``, as from
        `measure_sample`. NaN is left out; a panel without any number says so.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 7.4), sharey=True)
    rng = np.random.default_rng(0)
    labels = frame["label"].to_numpy()
    classes = np.arange(len(CLASS_NAMES))
    for ax, (column, (title, logarithmic)) in zip(axes.flat, _DISTRIBUTIONS.items(), strict=True):
        values = frame[column].to_numpy(dtype=float)
        known = np.isfinite(values) & ((values > 0) | (not logarithmic))
        ax.set_xlabel(title)
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0)
        if not known.any():
            ax.text(0.5, 0.5, "none in this file", ha="center", va="center", color="0.4", transform=ax.transAxes)
            ax.set_xticks([])
            continue
        for k, colour in zip(classes, sns.color_palette("colorblind", len(classes)), strict=True):
            here = values[known & (labels == k)]
            if here.size == 0:
                continue
            low, *box, high = np.quantile(here, [0.05, 0.25, 0.5, 0.75, 0.95])
            ax.plot([low, high], [k, k], color="0.25", linewidth=1.2, zorder=2)
            ax.barh(k, box[2] - box[0], 0.62, left=box[0], color=colour, edgecolor="0.25", linewidth=0.8, zorder=3)
            ax.plot([box[1], box[1]], [k - 0.31, k + 0.31], color="black", linewidth=2.2, zorder=4)
            spread = k + rng.uniform(-0.26, 0.26, here.size)
            ax.plot(here, spread, linestyle="none", marker="o", markersize=1.8, color="0.15", alpha=0.45, zorder=5)
        if logarithmic:
            ax.set_xscale("log")
            _plain_log_ticks(ax.xaxis, *ax.get_xlim())
        else:
            ax.xaxis.set_major_locator(plt.MaxNLocator(5, steps=STEPS))
    names = [f"{k} " + "\n".join(textwrap.wrap(name, 16)) for k, name in enumerate(CLASS_NAMES)]
    for ax in axes[:, 0]:
        ax.set_yticks(classes, names, linespacing=1.02)
        ax.set_ylim(len(classes) - 0.5, -0.5)
    return figure


def _plain_log_ticks(axis, low, high):
    """Label a logarithmic axis by plain numbers, few enough for a narrow panel."""
    decades = np.log10(high / low)
    subs = (1,) if decades > 2.5 else (1, 3) if decades > 1.3 else (1, 2, 5) if decades > 0.5 else (1, 1.5, 2, 3, 5, 7)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@styled
def side_by_side(standin, real, labels, *, real_labels=None, n=3, names=("Stand-in", "Real"), seed=0):
    """Show cutouts of a stand-in beside real ones, a row for each class.

    Parameters
    ----------
    standin, real : array_like, shape (N, H, W, 3)
        uint8, or float in [0, 1].
    labels : array_like of int, shape (N,)
        Classes, 0..9, of `standin`, and of `real` too unless `real_labels` are given.
    real_labels : array_like of int, optional
    n : int, optional
        Cutouts of either kind a class; where there are fewer, places stay empty. A class that either lacks altogether
        has no row.
    names : pair of str, optional
        What the two halves are called.
    seed : int, optional
        Seed of the choice within each class.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no class that both have.
    """
    halves = [(standin, np.asarray(labels)), (real, np.asarray(labels if real_labels is None else real_labels))]
    shown = [k for k in range(len(CLASS_NAMES)) if all((members == k).any() for _, members in halves)]
    if not shown:
        raise ValueError("no class has both a stand-in and a real image: give labels that overlap")
    rng = np.random.default_rng(seed)
    gap, left = 0.12, 1.05
    panel = (WIDTH - left - gap - 0.15) / (2 * n)
    figure, axes = plt.subplots(
        len(shown),
        2 * n + 1,
        figsize=(WIDTH, len(shown) * (panel + 0.03) + 0.35),
        squeeze=False,
        width_ratios=[panel] * n + [gap] + [panel] * n,
    )
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for row, k in zip(axes, shown, strict=True):
        for half, (images, members) in enumerate(halves):
            these = rng.permutation(np.flatnonzero(members == k))[:n]
            for place, index in enumerate(these):
                row[half * (n + 1) + place].imshow(images[int(index)])
        wrapped = "\n".join(textwrap.wrap(f"{k} {CLASS_NAMES[k]}", 13))
        row[0].set_ylabel(wrapped, rotation=0, ha="right", va="center", fontsize=10)
    for half, name in enumerate(names):
        axes[0, half * (n + 1) + n // 2].set_title(name)
    return figure


#: Quantities of the frame that `closeness` shows; of the bands, green alone.
_FRAME = (
    "Mean",
    "Standard deviation G (0 to 1)",
    "Sky G",
    "Sky noise G",
    "Sky correlation G, 1 px",
    "Sky correlation G, 2 px",
    "Sky correlation G, 3 px",
    "Off-centre sources",
    "Bright off-centre sources",
    "Compact source FWHM (px)",
)


@styled
def standin_closeness(table):
    """Show a stand-in's median and range from 10% to 90% beside another's, for the frame and class by class.

    Parameters
    ----------
    table : pandas.DataFrame
        As `compare_sample` makes it: ``Quantity``, ``Class``, and ``10% (name)``, ``50% (name)``, ``90% (name)`` of
        the stand-in and of one other; where the other has no median, ``Mean (name)``. Quantities of the frame are
        shown in units of the other's, the galaxy's size and axis ratio as they are. What is not known is left out.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `table` does not hold the medians of a stand-in and one other.
    """
    names = [column[5:-1] for column in table.columns if column.startswith("50% (")]
    if len(names) != 2 or "stand-in" not in names:
        raise ValueError(
            f"table has medians of {', '.join(names) or 'none'}; expected those of the stand-in and of one other"
        )
    (other,) = set(names) - {"stand-in"}
    values = table.set_index(["Quantity", "Class"])
    figure = plt.figure(figsize=(WIDTH, 8.4))
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    frame = top.subplots()
    rows = [quantity for quantity in _FRAME if (quantity, "all") in values.index]
    for y, quantity in enumerate(rows):
        row = values.loc[(quantity, "all")]
        unit = abs(_middle(row, other))
        _interval(frame, y + 0.17, row, other, unit, ORANGE, "D")
        _interval(frame, y - 0.17, row, "stand-in", unit, BLUE, "o", wanted=other)
    frame.axvline(1, color="0.6", linewidth=1, zorder=0)
    frame.set_yticks(range(len(rows)), [name.removesuffix(" (0 to 1)").removesuffix(" (px)") for name in rows])
    frame.set_ylim(len(rows) - 0.4, -0.6)
    low, high = frame.get_xlim()
    frame.set_xlim(max(low, -1), min(high, 4))
    frame.set_xlabel(f"In units of the {'published value' if other == 'published' else 'median of ' + other}")
    sizes, ratios = bottom.subplots(1, 2, sharey=True)
    for ax, quantity, logarithmic in ((sizes, "Galaxy size (px)", True), (ratios, "Galaxy axis ratio", False)):
        for k, title in enumerate(CLASS_NAMES):
            if (quantity, title) in values.index:
                row = values.loc[(quantity, title)]
                _interval(ax, k + 0.17, row, other, 1, ORANGE, "D")
                _interval(ax, k - 0.17, row, "stand-in", 1, BLUE, "o", wanted=other)
        ax.set_xlabel(quantity)
        if logarithmic and ax.lines:
            ax.set_xscale("log")
            _plain_log_ticks(ax.xaxis, *ax.get_xlim())
    wrapped = [f"{k} " + "\n".join(textwrap.wrap(name, 16)) for k, name in enumerate(CLASS_NAMES)]
    sizes.set_yticks(range(len(CLASS_NAMES)), wrapped, linespacing=1.02)
    sizes.set_ylim(len(CLASS_NAMES) - 0.5, -0.5)
    ratios.set_xlim(0, 1)
    for ax in (frame, sizes, ratios):
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0)
    marks = [
        Line2D([], [], color=BLUE, marker="o", label="Stand-in"),
        Line2D([], [], color=ORANGE, marker="D", label=other.capitalize()),
    ]
    top.legend(handles=marks, loc="outside upper center", ncols=2)
    return figure


def _middle(row, name):
    """Return a median, or a mean where there is none."""
    median = row[f"50% ({name})"]
    return median if np.isfinite(median) else row.get(f"Mean ({name})", np.nan)


def _interval(ax, y, row, name, unit, colour, marker, wanted=None):
    """Draw a median and its range from 10% to 90%, or a mean where `wanted` has no more."""
    by_mean = not np.isfinite(row[f"50% ({wanted or name})"])
    middle = row.get(f"Mean ({name})", np.nan) if by_mean else row[f"50% ({name})"]
    if not (np.isfinite(middle) and np.isfinite(unit) and unit > 0):
        return
    low, high = row[f"10% ({name})"], row[f"90% ({name})"]
    if np.isfinite([low, high]).all() and not by_mean:
        ax.plot([low / unit, high / unit], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
    ax.plot(middle / unit, y, color=colour, marker=marker, markersize=6, markeredgecolor="white", markeredgewidth=0.6)
