"""The study's figures: each function takes arrays or frames and returns a matplotlib Figure.

Figures are drawn for a column of 7 inches and saved at 300 dpi. Type is large enough to survive a phone's
360 pixels, colours are safe for colour-blind readers, and neither importing this module nor calling it
changes matplotlib's settings or leaves a figure open. Nothing here computes a result.
"""

import functools
import io
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from galaxynb.files import written_aside
from galaxynb.layout import CLASS_NAMES

__all__ = [
    "STYLE",
    "accuracy_bars",
    "calibration_map",
    "class_counts",
    "class_distributions",
    "class_samples",
    "closeness",
    "confusion_matrices",
    "denoised_rows",
    "noise_explorer",
    "noise_grid",
    "noisy_pairs",
    "save",
    "side_by_side",
    "stage_times",
    "sweep_curves",
    "sweep_map",
    "training_curves",
]

#: Settings in force while a figure is drawn, and only then.
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": "0.88",
    "lines.linewidth": 1.8,
}

_WIDTH = 7.0  # inches: the text column of the book and of most journals' pages
_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, *_, _SKY = sns.color_palette("colorblind", 10)
_SEQUENTIAL = "mako_r"  # light is little: prints well, and grey can mean "no data"
_STEPS = [1, 2, 5, 10]


def _styled(draw):
    """Draw under STYLE and let go of the figure, so that a notebook shows it once: as a cell's value."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        with plt.rc_context(STYLE):
            before = set(plt.get_fignums())
            try:
                return draw(*args, **kwargs)
            finally:
                for number in set(plt.get_fignums()) - before:
                    plt.close(number)

    return drawn


@_styled
def class_samples(images, labels, seed=0, columns=5):
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
    figure, axes = plt.subplots(rows, columns, figsize=(_WIDTH, rows * (_WIDTH / columns + 0.48)), squeeze=False)
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


@_styled
def class_counts(labels):
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
    figure, ax = plt.subplots(figsize=(_WIDTH, 4.2))
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
    ax.xaxis.set_major_locator(plt.MaxNLocator(5, integer=True, steps=_STEPS))
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


@_styled
def class_distributions(frame):
    """Show how size, colour, brightness and redshift are distributed in each class.

    Boxes span the middle half of a class, whiskers reach from 5% to 95%, and a dot is an image.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row an image: ``label`` (0..9), ``size``, ``colour``, ``brightness``, ``redshift``, as from
        `closeness.measured`. NaN is left out; a panel without any number says so.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(2, 2, figsize=(_WIDTH, 7.4), sharey=True)
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
            ax.xaxis.set_major_locator(plt.MaxNLocator(5, steps=_STEPS))
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


@_styled
def side_by_side(standin, real, labels, real_labels=None, n=3, names=("Stand-in", "Real"), seed=0):
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
    panel = (_WIDTH - left - gap - 0.15) / (2 * n)
    figure, axes = plt.subplots(
        len(shown),
        2 * n + 1,
        figsize=(_WIDTH, len(shown) * (panel + 0.03) + 0.35),
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


@_styled
def closeness(table):
    """Show a stand-in's median and range from 10% to 90% beside another's, for the frame and class by class.

    Parameters
    ----------
    table : pandas.DataFrame
        As `closeness.compare` makes it: ``Quantity``, ``Class``, and ``10% (name)``, ``50% (name)``, ``90% (name)`` of
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
    figure = plt.figure(figsize=(_WIDTH, 8.4))
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    frame = top.subplots()
    rows = [quantity for quantity in _FRAME if (quantity, "all") in values.index]
    for y, quantity in enumerate(rows):
        row = values.loc[(quantity, "all")]
        unit = abs(_middle(row, other))
        _interval(frame, y + 0.17, row, other, unit, _ORANGE, "D")
        _interval(frame, y - 0.17, row, "stand-in", unit, _BLUE, "o", wanted=other)
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
                _interval(ax, k + 0.17, row, other, 1, _ORANGE, "D")
                _interval(ax, k - 0.17, row, "stand-in", 1, _BLUE, "o", wanted=other)
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
        Line2D([], [], color=_BLUE, marker="o", label="Stand-in"),
        Line2D([], [], color=_ORANGE, marker="D", label=other.capitalize()),
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


def noisy_pairs(clean, noisy, n=5, titles=None):
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
    return noise_grid([clean[:n], noisy[:n]], ["Original", "Noisy"], titles)


def denoised_rows(noisy, denoised, clean, titles=None, n=5):
    """Show noisy images, what the autoencoder makes of them, and the originals (the paper's Figure 5).

    Parameters
    ----------
    noisy, denoised, clean : array_like, shape (N, H, W, 3)
        uint8, or float in [0, 1]; the first `n` are shown.
    titles : sequence of str, optional
        A title for each column, such as the true class and the prediction.
    n : int, optional
        Images to show, all of them where there are fewer.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return noise_grid([noisy[:n], denoised[:n], clean[:n]], ["Noisy", "Denoised", "Original"], titles)


@_styled
def noise_grid(images, row_titles, col_titles=None):
    """Show a grid of images, such as one galaxy at several noise levels.

    Parameters
    ----------
    images : sequence of sequences of array_like, shape (rows, columns, H, W, 3)
        uint8, or float in [0, 1].
    row_titles : sequence of str
        Written at the left, upwards.
    col_titles : sequence of str, optional
        Written above; wrapped at the column's width.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no image or the titles do not match the grid.
    """
    columns = len(images[0]) if len(images) else 0
    if columns == 0 or any(len(row) != columns for row in images):
        raise ValueError("images must be rows of equally many images, at least one")
    if len(row_titles) != len(images):
        raise ValueError(f"{len(row_titles)} row titles for {len(images)} rows of images")
    if col_titles is not None and len(col_titles) < columns:
        raise ValueError(f"{len(col_titles)} column titles for {columns} columns of images")
    # A lone column would otherwise fill the page.
    width = _WIDTH * min(1.0, (columns + 0.5) / 4)
    panel = (width - 0.35) / columns
    wrapped = [
        "\n".join(textwrap.fill(line, max(8, int(panel / 0.085))) for line in title.splitlines())
        for title in (col_titles or [""])
    ]
    lines = max(title.count("\n") + 1 for title in wrapped) if col_titles is not None else 0
    height = len(images) * (panel + 0.04) + lines * 0.19
    figure, axes = plt.subplots(len(images), columns, figsize=(width, height), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.025, wspace=0, hspace=0)
    for row, (row_axes, row_title) in enumerate(zip(axes, row_titles, strict=True)):
        for column, ax in enumerate(row_axes):
            ax.imshow(images[row][column])
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if row == 0 and col_titles is not None:
                ax.set_title(wrapped[column], fontsize=10, pad=4)
        row_axes[0].set_ylabel(row_title)
    return figure


def noise_explorer(image, add_noise, sigma, stars):
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
        figure = noise_grid([[image, add_noise(*(slider.value for slider in sliders))]], [""], ["Original", "Noisy"])
        file = io.BytesIO()
        figure.savefig(file, format="png")
        picture.value = file.getvalue()

    for slider in sliders:
        slider.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([*sliders, picture])


@_styled
def confusion_matrices(matrices):
    """Show confusion matrices on one scale, with a key to the classes.

    Parameters
    ----------
    matrices : dict of str to pandas.DataFrame
        Normalised matrices by title, true classes as rows, as from `evaluation.confusion`. Cells of a tenth
        and more carry their percentage; rows of NaN (no image of the class) stay grey.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = -(-(len(matrices) + 1) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(_WIDTH, 3.55 * rows), squeeze=False)
    ticks = range(len(CLASS_NAMES))
    for ax, (title, matrix) in zip(axes.flat, matrices.items(), strict=False):
        percent = 100 * matrix.to_numpy()
        sns.heatmap(
            percent,
            ax=ax,
            vmin=0,
            vmax=100,
            cmap=_SEQUENTIAL,
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


@_styled
def training_curves(history, monitor="val_loss", log_loss=False):
    """Show loss, and accuracy where there is one, by epoch, with the best epoch marked.

    Parameters
    ----------
    history : pandas.DataFrame
        A row an epoch. Columns ``epoch`` and ``loss``; optional ``val_loss``, ``accuracy``,
        ``val_accuracy`` and ``phase``, a name. Where epochs start again with each phase they are numbered on.
    monitor : str or None, optional
        The column whose best epoch of the last phase is marked: the highest for an accuracy, the lowest
        otherwise. Nothing is marked where there is no such column; pass None where the last weights are kept.
    log_loss : bool, optional
        Draw the loss on a logarithmic axis.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `history` is empty or lacks ``epoch`` or ``loss``.
    """
    missing = {"epoch", "loss"} - set(history.columns)
    if missing or history.empty:
        raise ValueError(f"history must have a row and the columns epoch and loss; got {list(history.columns)}")
    epochs = history["epoch"].to_numpy()
    if len(np.unique(epochs)) < len(epochs):
        epochs = np.arange(len(history)) + int(epochs.min())
    phases = history["phase"].astype(str).to_numpy() if "phase" in history else np.full(len(epochs), "")
    best = None
    if monitor in history and history[monitor].notna().any():
        last = history[monitor].to_numpy(dtype=float).copy()
        last[phases != phases[-1]] = np.nan
        if np.isfinite(last).any():
            best = int(np.nanargmax(last) if "acc" in monitor else np.nanargmin(last))
    panels = [name for name in ("loss", "accuracy") if name in history]
    figure, axes = plt.subplots(1, len(panels), figsize=(_WIDTH, 3.3), squeeze=False)
    for ax, name in zip(axes.flat, panels, strict=True):
        starts = np.flatnonzero(np.r_[True, phases[1:] != phases[:-1]])
        ends = np.r_[starts[1:], len(epochs)]
        for column, label, colour, mark in (
            (name, "Training", _BLUE, "o"),
            (f"val_{name}", "Validation", _ORANGE, "s"),
        ):
            if column not in history:
                continue
            values = history[column].to_numpy(dtype=float)
            for start, end in zip(starts, ends, strict=True):
                # A line across two phases would join losses of different tasks.
                ax.plot(
                    epochs[start:end],
                    values[start:end],
                    color=colour,
                    label=label if start == 0 else None,
                    marker=mark,
                    markersize=4 if len(epochs) <= 40 else 0,
                )
            if best is not None and column == monitor:
                ax.plot(
                    epochs[best],
                    values[best],
                    marker="*",
                    markersize=15,
                    linestyle="none",
                    color=_GREEN,
                    markeredgecolor="black",
                    markeredgewidth=0.7,
                    zorder=5,
                    label=f"Best epoch: {epochs[best]}",
                )
        if best is not None:
            ax.axvline(epochs[best], color="0.45", linewidth=1, linestyle=":", zorder=0)
        if name == "loss" and log_loss:
            ax.set_yscale("log")
            low, high = ax.get_ylim()
            # Within a decade the default labels powers of ten that are not there, or crowds all that are.
            if high < 10 * low:
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                ax.yaxis.set_minor_formatter(NullFormatter())
        if name == "accuracy":
            ax.set_ylim(0, 1)
        ax.set(xlabel="Epoch", ylabel=name.capitalize())
        ax.grid(axis="y")
        ax.xaxis.set_major_locator(plt.MaxNLocator(6, integer=True, min_n_ticks=1, steps=_STEPS))
        if len(starts) > 1:
            _shade_phases(ax, epochs, phases, starts, ends)
    handles = {}
    for ax in axes.flat:
        handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
    return figure


def _shade_phases(ax, epochs, phases, starts, ends):
    """Shade every other phase and name each at the top of the panel."""
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        low, high = epochs[start] - 0.5, epochs[end - 1] + 0.5
        if number % 2 == 0:
            ax.axvspan(low, high, color="0.93", zorder=-1, linewidth=0)
        ax.annotate(
            textwrap.fill(phases[start], 18),
            ((low + high) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=10,
        )
    ax.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)


@_styled
def accuracy_bars(estimates, paper=None):
    """Show accuracies with their intervals, and the paper's beside them.

    Parameters
    ----------
    estimates : dict of str to Estimate
        Value, low and high (95%) of each accuracy by name, such as ``clean``, ``noisy`` and ``denoised``.
    paper : dict of str to float, optional
        The paper's accuracies, of the names that it has, as from `evaluation.paper_summary`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, ax = plt.subplots(figsize=(_WIDTH, 0.62 * len(estimates) + 1.35))
    where = np.arange(len(estimates))
    value, low, high = np.array([tuple(estimate) for estimate in estimates.values()]).T
    ax.barh(where, value, height=0.62, color=_SKY, label="This run, with 95% interval")
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
            markeredgecolor=_RED,
            markeredgewidth=2,
            label="The paper",
        )
    ax.set_yticks(where, [textwrap.fill(name[:1].upper() + name[1:], 16) for name in estimates])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1), xlabel="Accuracy on the test images")
    ax.grid(axis="x")
    # Bars come after markers in matplotlib's order: this run first.
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside upper center", ncols=2)
    return figure


@_styled
def stage_times(frame):
    """Draw where the time of each stage went, as stacked bars.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row a stage, with the column ``Stage``; every other column is a part's seconds.

    Returns
    -------
    matplotlib.figure.Figure
    """
    parts = [name for name in frame.columns if name != "Stage"]
    figure, ax = plt.subplots(figsize=(_WIDTH, 1.6 + 0.42 * len(frame)))
    left = np.zeros(len(frame))
    for part, colour in zip(parts, sns.color_palette("colorblind", len(parts)), strict=True):
        ax.barh(frame["Stage"], frame[part], left=left, color=colour, label=part, edgecolor="white", linewidth=0.5)
        left += frame[part].to_numpy()
    for stage, total in enumerate(left):
        ax.text(total, stage, f" {total:.0f} s", va="center", color="0.25")
    ax.invert_yaxis()
    ax.margins(x=0.1)
    ax.set_xlim(left=0)
    ax.set_xlabel("Seconds")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@_styled
def calibration_map(frame, chosen=None, paper_drop=None):
    """Show the accuracy that noise costs over its two strengths.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``sigma`` (of the Gaussian noise, in [0, 1]), ``stars`` (their mean number) and ``drop`` (of
        accuracy); a row for each pair.
    chosen : tuple of float, optional
        The (sigma, stars) chosen as default, outlined.
    paper_drop : float, optional
        The paper's drop, marked on the scale.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If `chosen` is not among the rows.
    """
    grid = frame.pivot(index="stars", columns="sigma", values="drop").sort_index(ascending=False)
    figure, ax = plt.subplots(figsize=(_WIDTH, min(6.5, 0.55 * len(grid) + 1.3)))
    sns.heatmap(
        grid,
        ax=ax,
        vmin=min(0.0, float(np.nanmin(grid))),
        cmap=_SEQUENTIAL,
        annot=True,
        fmt=".2f",
        annot_kws={"fontsize": 11},
        linewidths=1,
        cbar_kws={"label": "Drop of accuracy"},
        xticklabels=[f"{sigma:g}" for sigma in grid.columns],
        yticklabels=[f"{stars:g}" for stars in grid.index],
    )
    ax.tick_params(length=0, rotation=0)
    ax.set(xlabel="Gaussian noise, sigma (1 = white)", ylabel="Stars an image, mean")
    if chosen is not None:
        sigma, stars = chosen
        column, row = np.isclose(grid.columns, sigma), np.isclose(grid.index, stars)
        if not (column.any() and row.any()):
            raise ValueError(f"chosen is {chosen}; expected a pair of sigma and stars that frame holds")
        corner = int(column.argmax()), int(row.argmax())
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=_RED, linewidth=3.5, clip_on=False))
    if paper_drop is not None:
        bar = ax.collections[0].colorbar
        bar.ax.axhline(paper_drop, color=_RED, linewidth=3)
        bar.set_label(f"Drop of accuracy (line: the paper's {paper_drop:.2f})")
    return figure


@_styled
def sweep_curves(curves, x, panels=None, paper=None):
    """Draw metrics along one axis of a sweep, with their intervals: a panel a value of another axis.

    Parameters
    ----------
    curves : dict of str to pandas.DataFrame
        By name, from `spread.series`: the axes' columns, ``value``, ``low`` and ``high``.
    x : str
        The axis to go along: numbers.
    panels : str, optional
        Another axis.
    paper : dict of str to float, optional
        The paper's values by the curves' names, as dotted lines.

    Returns
    -------
    matplotlib.figure.Figure
        Points without a value are left out.
    """
    values = [None] if panels is None else sorted(set().union(*(curve[panels] for curve in curves.values())))
    columns = min(2, len(values))
    rows = -(-len(values) // columns)
    figure, axs = plt.subplots(
        rows, columns, figsize=(_WIDTH, 0.6 + 2.6 * rows), sharex=True, sharey=True, squeeze=False
    )
    for ax in axs.flat[len(values) :]:
        ax.set_axis_off()
    for ax, value in zip(axs.flat, values, strict=False):
        for (name, curve), colour, marker in zip(curves.items(), (_BLUE, _RED, _GREEN, _PURPLE), "osD^", strict=False):
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
            ax.set_title(f"{panels} = {value:g}")
        ax.grid(axis="y")
        ax.set_ylim(0, 1)
    figure.supxlabel(x)
    figure.supylabel("Accuracy on the test images")
    handles, names = axs[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(curves))
    return figure


@_styled
def sweep_map(series, x, y, title, missing=()):
    """Draw a metric over two axes of a sweep as a heat map.

    Parameters
    ----------
    series : pandas.DataFrame
        From `spread.series`: the axes' columns and ``value``, NaN where undefined.
    x, y : str
        The axes.
    title : str
        Of the colour bar.
    missing : sequence of tuple
        Points (x, y) without a run, which are marked.

    Returns
    -------
    matplotlib.figure.Figure
    """
    grid = series.pivot_table(index=y, columns=x, values="value", dropna=False)
    grid = grid.reindex(
        index=sorted({*grid.index, *(there for _, there in missing)}, reverse=True),
        columns=sorted({*grid.columns, *(here for here, _ in missing)}),
    )
    figure, ax = plt.subplots(figsize=(_WIDTH, 1.4 + 0.62 * len(grid)))
    sns.heatmap(
        grid.astype(float),
        ax=ax,
        annot=True,
        fmt=".2f",
        cmap=_SEQUENTIAL,
        vmin=0,
        vmax=1,
        linewidths=1,
        cbar_kws={"label": title},
    )
    ax.set_facecolor("0.92")
    for column, here in enumerate(grid.columns):
        for row, there in enumerate(grid.index):
            if np.isnan(grid.loc[there, here]):
                said = "missing" if (here, there) in set(missing) else "undefined"
                ax.text(column + 0.5, row + 0.5, said, ha="center", va="center", color="0.35", fontsize=10)
    ax.tick_params(length=0)
    ax.set_yticklabels(ax.get_yticklabels(), rotation=0)
    ax.set(xlabel=x, ylabel=y)
    return figure


def save(figure, path):
    """Write `figure` as a PNG of 300 dpi, aside first; the same figure gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or os.PathLike
        Ends in ``.png``.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ValueError
        If `path` does not end in ``.png``.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"{path.name} must end in .png: figures are saved as PNG")
    with written_aside(path) as aside:
        # Without its Software entry the file does not name the version of matplotlib.
        figure.savefig(aside, dpi=300, format="png", metadata={"Software": None})
    return path
