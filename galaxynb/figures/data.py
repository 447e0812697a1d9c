"""Figures of the data: samples and counts of each class, distributions, and stand-ins next to real images."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.lines import Line2D

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.figures.style import BLUE, ORANGE, STEPS, WIDTH, label_plainly, styled

__all__ = ["class_count_bars", "class_distributions", "class_samples", "side_by_side", "standin_closeness"]


@styled
def class_samples(images, labels, *, seed=0, columns=5):
    """Show one cutout of each class (the paper's Figure 1).

    Parameters
    ----------
    images : array_like of uint8 or float, shape (N, H, W, 3)
        Cutouts; floats in [0, 1]. Only the images shown are read, so a `Catalog` is accepted too.
    labels : array_like of int, shape (N,)
        Classes, 0 to 9. The panel of a class without images says "none here".
    seed : int, optional
        Seed that chooses the image of each class.
    columns : int, optional
        Number of panels per row.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per class.

    Examples
    --------
    >>> figure = class_samples(np.zeros((10, 8, 8, 3)), np.arange(10))
    >>> figure.axes[1].get_title()
    '1 Merging'
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
    """Show the number of images of each class as bars, stacked by split.

    Parameters
    ----------
    labels : array_like of int, shape (N,), or dict of str to array_like
        Classes, 0 to 9, of all images; or of the images of each split, by the name of the split.

    Returns
    -------
    matplotlib.figure.Figure
        One panel with a bar per class.

    Examples
    --------
    >>> figure = class_count_bars({"train": [0, 0, 1], "test": [0, 1]})
    >>> [text.get_text() for text in figure.axes[0].texts][:3]
    ['3', '2', '0']
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
            f"{total:,}", (total, k), xytext=(4, 0), textcoords="offset points", va="center", fontsize=10, color="0.25"
        )
    ax.set_yticks(where, [f"{k} {name}" for k, name in enumerate(CLASS_NAMES)])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("Number of images")
    ax.xaxis.set_major_locator(plt.MaxNLocator(5, integer=True, steps=STEPS))
    ax.margins(x=0.12)
    ax.grid(axis="x")
    if isinstance(labels, dict):
        figure.legend(loc="outside upper right", ncols=len(splits))
    return figure


#: Axis title of each column that `class_distributions` shows, and whether its axis is logarithmic.
_DISTRIBUTIONS = {
    "size": ("Size of the galaxy (pixels)", True),
    "colour": ("Colour at the centre (red / blue)", True),
    "brightness": ("Brightness (white pixels)", True),
    "redshift": ("Redshift", False),
}


@styled
def class_distributions(frame):
    """Show the distributions of size, colour, brightness and redshift in each class.

    Each box spans the middle half of a class, with a line at the median. Whiskers reach from the 5% to the 95%
    quantile. Each dot is one image.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per image, such as `measure_sample` returns. Columns: ``label`` (class, 0 to 9), ``size`` (pixels),
        ``colour`` (red / blue), ``brightness`` (light of white pixels) and ``redshift``. NaN is not drawn; a panel
        without any number says "none in this file".

    Returns
    -------
    matplotlib.figure.Figure
        Four panels.

    Examples
    --------
    >>> import pandas as pd
    >>> galaxies = {"label": [0, 1], "size": [5.0, 9.0], "colour": 1.2, "brightness": 90.0, "redshift": np.nan}
    >>> [ax.get_xlabel() for ax in class_distributions(pd.DataFrame(galaxies)).axes][-1]
    'Redshift'
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
            members = values[known & (labels == k)]
            if members.size == 0:
                continue
            low, *box, high = np.quantile(members, [0.05, 0.25, 0.5, 0.75, 0.95])
            ax.plot([low, high], [k, k], color="0.25", linewidth=1.2, zorder=2)
            ax.barh(k, box[2] - box[0], 0.62, left=box[0], color=colour, edgecolor="0.25", linewidth=0.8, zorder=3)
            ax.plot([box[1], box[1]], [k - 0.31, k + 0.31], color="black", linewidth=2.2, zorder=4)
            spread = k + rng.uniform(-0.26, 0.26, members.size)
            ax.plot(members, spread, linestyle="none", marker="o", markersize=1.8, color="0.15", alpha=0.45, zorder=5)
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
    """Label a logarithmic axis with plain numbers, few enough for a narrow panel."""
    decades = np.log10(high / low)
    subs = (1,) if decades > 2.5 else (1, 3) if decades > 1.3 else (1, 2, 5) if decades > 0.5 else (1, 1.5, 2, 3, 5, 7)
    label_plainly(axis, subs)


@styled
def side_by_side(standin, real, labels, *, real_labels=None, n=3, names=("Stand-in", "Real"), seed=0):
    """Show cutouts of a stand-in next to real ones, in one row per class.

    Parameters
    ----------
    standin, real : array_like of uint8 or float, shape (N, H, W, 3)
        Cutouts; floats in [0, 1].
    labels : array_like of int, shape (N,)
        Classes, 0 to 9, of `standin`. They are the classes of `real` too, unless `real_labels` is given.
    real_labels : array_like of int, shape (M,), optional
        Classes, 0 to 9, of `real`, if it has M images.
    n : int, optional
        Number of cutouts of either kind per class. If there are fewer, places stay empty. A class without stand-ins
        or without real images has no row.
    names : pair of str, optional
        Titles of the left and the right half.
    seed : int, optional
        Seed that chooses the cutouts of each class.

    Returns
    -------
    matplotlib.figure.Figure
        One row per class that both have.

    Raises
    ------
    ValueError
        If the stand-in and the real images have no class in common.

    Examples
    --------
    >>> images = np.zeros((4, 8, 8, 3))
    >>> figure = side_by_side(images, images, [0, 0, 1, 1], real_labels=[1, 1, 2, 2], n=2)
    >>> figure.axes[0].get_ylabel()
    '1 Merging'
    """
    halves = [(standin, np.asarray(labels)), (real, np.asarray(labels if real_labels is None else real_labels))]
    shown = [k for k in range(len(CLASS_NAMES)) if all((members == k).any() for _, members in halves)]
    if not shown:
        raise ValueError(
            "labels and real_labels have no class in common, but one or more is needed: pass images of the same classes"
        )
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


#: Quantities of the whole image that `standin_closeness` shows. Green stands for all three channels. The correlation at
#: 2 px is left out: its median in green is close to 0, so a ratio to it means nothing.
_FRAME = (
    "Mean",
    "Standard deviation G (0 to 1)",
    "Sky G",
    "Sky noise G",
    "Sky correlation G, 1 px",
    "Sky correlation G, 3 px",
    "Off-centre sources",
    "Bright off-centre sources",
    "Compact source FWHM (px)",
)


@styled
def standin_closeness(table):
    """Show how close a stand-in comes to published or real images: medians with ranges from 10% to 90%.

    The upper panel has the quantities of the whole image, as a ratio to the median of the other images. The lower
    panels have the galaxies' size and axis ratio in each class.

    Parameters
    ----------
    table : pandas.DataFrame
        The ``table`` that `compare_sample` returns. Columns: ``Quantity``, ``Class``, and ``10% (name)``,
        ``50% (name)`` and ``90% (name)`` of the stand-in and of the other images. Unknown numbers (NaN) are not drawn.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels.

    Raises
    ------
    ValueError
        If `table` does not have medians of the stand-in and of one other.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"Quantity": ["Galaxy size (px)"], "Class": ["Merging"]})
    >>> table[["10% (stand-in)", "50% (stand-in)", "90% (stand-in)"]] = 8.0, 9.0, 12.0
    >>> table[["10% (published)", "50% (published)", "90% (published)"]] = 7.0, 9.5, 11.0
    >>> [ax.get_xlabel() for ax in standin_closeness(table).axes][1:]
    ['Galaxy size (px)', 'Galaxy axis ratio']
    """
    names = [column[5:-1] for column in table.columns if column.startswith("50% (")]
    if len(names) != 2 or "stand-in" not in names:
        raise ValueError(
            f"table has medians of {', '.join(names) or 'none'}, but those of the stand-in and one other are needed: "
            "pass the table of compare_sample"
        )
    (other,) = set(names) - {"stand-in"}
    values = table.set_index(["Quantity", "Class"])
    figure = plt.figure(figsize=(WIDTH, 8.4))
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    frame = top.subplots()
    rows = [quantity for quantity in _FRAME if (quantity, "all") in values.index]
    for y, quantity in enumerate(rows):
        row = values.loc[(quantity, "all")]
        unit = abs(row[f"50% ({other})"])
        _interval(frame, y + 0.17, row, other, unit, ORANGE, "D")
        _interval(frame, y - 0.17, row, "stand-in", unit, BLUE, "o")
    frame.axvline(1, color="0.6", linewidth=1, zorder=0)
    frame.set_yticks(range(len(rows)), [name.removesuffix(" (0 to 1)").removesuffix(" (px)") for name in rows])
    frame.set_ylim(len(rows) - 0.4, -0.6)
    low, high = frame.get_xlim()
    frame.set_xlim(max(low, -1), min(high, 4))
    frame.set_xlabel(f"Ratio to the {'published median' if other == 'published' else 'median of ' + other}")
    sizes, ratios = bottom.subplots(1, 2, sharey=True)
    for ax, quantity, logarithmic in ((sizes, "Galaxy size (px)", True), (ratios, "Galaxy axis ratio", False)):
        for k, title in enumerate(CLASS_NAMES):
            if (quantity, title) in values.index:
                row = values.loc[(quantity, title)]
                _interval(ax, k + 0.17, row, other, 1, ORANGE, "D")
                _interval(ax, k - 0.17, row, "stand-in", 1, BLUE, "o")
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


def _interval(ax, y, row, name, unit, colour, marker):
    """Draw a median with its range from 10% to 90%."""
    low, middle, high = (row[f"{at} ({name})"] for at in ("10%", "50%", "90%"))
    if not (np.isfinite(middle) and np.isfinite(unit) and unit > 0):
        return
    ax.plot([low / unit, high / unit], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
    ax.plot(middle / unit, y, color=colour, marker=marker, markersize=6, markeredgecolor="white", markeredgewidth=0.6)
