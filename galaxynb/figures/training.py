"""Figures of a training: loss and accuracy by epoch."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator

from galaxynb.figures.style import BLUE, GREEN, ORANGE, STEPS, WIDTH, label_plainly, styled

__all__ = ["recovery_curves", "training_curves"]


@styled
def training_curves(history, *, monitor="val_loss", log_loss=False):
    """Show the loss, and the accuracy if there is one, by epoch, and mark the best epoch.

    Parameters
    ----------
    history : pandas.DataFrame
        One row per epoch. Columns: ``epoch`` and ``loss``; optionally ``val_loss``, ``accuracy``, ``val_accuracy`` and
        ``phase``, the name of the training phase. If the numbers of ``epoch`` repeat, epochs are numbered
        consecutively through all phases.
    monitor : str or None, optional
        The column that decides which epoch of the last phase is the best: the highest value of an accuracy, or the
        lowest value of a loss. If there is no such column, no epoch is marked. Pass None if the training keeps the
        weights of its last epoch.
    log_loss : bool, optional
        Whether the axis of the loss is logarithmic.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for the loss and, if `history` has it, one for the accuracy.

    Raises
    ------
    ValueError
        If `history` is empty or has no column ``epoch`` or ``loss``.

    Examples
    --------
    >>> import pandas as pd
    >>> history = pd.DataFrame({"epoch": [1, 2, 3], "loss": [2.0, 1.0, 0.5], "val_loss": [2.0, 1.0, 1.2]})
    >>> [text.get_text() for text in training_curves(history).legends[0].get_texts()]
    ['Training', 'Validation', 'Best epoch: 2']
    """
    if {"epoch", "loss"} - set(history.columns) or history.empty:
        raise ValueError(
            f"history has {len(history)} rows and the columns {', '.join(map(str, history.columns))}, but one row or "
            "more and the columns epoch and loss are needed: pass the history that fit returns"
        )
    epochs = _consecutive_epochs(history)
    phases = history["phase"].astype(str).to_numpy() if "phase" in history else np.full(len(epochs), "")
    starts = np.flatnonzero(np.r_[True, phases[1:] != phases[:-1]])
    ends = np.r_[starts[1:], len(epochs)]
    best = _best_row(history, phases, monitor)
    panels = [name for name in ("loss", "accuracy") if name in history]
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.3), squeeze=False)
    for ax, name in zip(axes.flat, panels, strict=True):
        columns = ((name, "Training", BLUE, "o"), (f"val_{name}", "Validation", ORANGE, "s"))
        for column, label, colour, marker in columns:
            if column in history:
                values = history[column].to_numpy(dtype=float)
                _draw_by_phase(
                    ax, epochs, values, zip(starts, ends, strict=True), color=colour, marker=marker, label=label
                )
                if best is not None and column == monitor:
                    _draw_star(ax, epochs[best], values[best])
        if best is not None:
            ax.axvline(epochs[best], color="0.45", linewidth=1, linestyle=":", zorder=0)
        _scale_values(ax, name, log_loss)
        ax.set(xlabel="Epoch", ylabel=name.capitalize())
        ax.grid(axis="y")
        ax.xaxis.set_major_locator(plt.MaxNLocator(6, integer=True, min_n_ticks=1, steps=STEPS))
        if len(starts) > 1:
            _shade_phases(ax, epochs, phases, starts, ends)
    _share_legend(figure, axes)
    return figure


@styled
def recovery_curves(trials, *, clean, noisy):
    """Show how the recovery by an autoencoder depends on its size and on the length of its training.

    Parameters
    ----------
    trials : pandas.DataFrame
        One row per trained autoencoder. Columns: ``Changed``, a text with "size" or "epochs" in it for the rows of the
        two panels, ``Parameters``, ``Steps``, ``Accuracy, denoised`` and ``Accuracy, denoised clean``.
    clean, noisy : float
        Accuracies without denoising, in [0, 1], with `noisy` below `clean`.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels: recovery against the number of parameters, and against the number of training steps. The second
        curve of each takes denoised clean images in place of denoised noisy ones, so it shows what blur alone costs.

    Raises
    ------
    ValueError
        If `noisy` is not below `clean`.

    Examples
    --------
    >>> import pandas as pd
    >>> trials = pd.DataFrame({"Changed": ["size", "size, epochs"], "Parameters": [1e4, 1e5], "Steps": [500, 500]})
    >>> trials["Accuracy, denoised"], trials["Accuracy, denoised clean"] = [0.5, 0.6], [0.6, 0.7]
    >>> [ax.get_xlabel() for ax in recovery_curves(trials, clean=0.7, noisy=0.3).axes]
    ['Parameters', 'Training steps']
    """
    if not noisy < clean:
        raise ValueError(f"noisy is {noisy}, but a value below clean ({clean}) is needed: pass noise that does harm")
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3), sharey=True)
    for ax, changed, column in zip(axes, ("size", "epochs"), ("Parameters", "Steps"), strict=True):
        rows = trials[trials["Changed"].str.contains(changed)].sort_values(column)
        for images, label, colour, marker in (
            ("denoised clean", "Denoised clean images", GREEN, "s"),
            ("denoised", "Denoised noisy images", BLUE, "o"),
        ):
            recovery = (rows[f"Accuracy, {images}"] - noisy) / (clean - noisy)
            ax.plot(rows[column], recovery, color=colour, marker=marker, label=label)
        ax.set(xscale="log", xlabel="Training steps" if column == "Steps" else column)
        label_plainly(ax.xaxis, (1, 3), form="{:,.0f}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="y")
    axes[0].set(ylabel="Recovery", ylim=(min(0, axes[0].get_ylim()[0]), 1))
    _share_legend(figure, axes)
    return figure


def _consecutive_epochs(history):
    """Return the epoch of each row, numbered consecutively if the column ``epoch`` repeats numbers."""
    epochs = history["epoch"].to_numpy()
    if len(np.unique(epochs)) < len(epochs):
        epochs = np.arange(len(history)) + int(epochs.min())
    return epochs


def _best_row(history, phases, monitor):
    """Return the row of the last phase with the best value of `monitor`, or None if it has no value."""
    if monitor not in history:
        return None
    values = history[monitor].to_numpy(dtype=float).copy()
    values[phases != phases[-1]] = np.nan
    if not np.isfinite(values).any():
        return None
    return int(np.nanargmax(values) if "acc" in monitor else np.nanargmin(values))


def _draw_by_phase(ax, epochs, values, spans, *, color, marker, label):
    """Draw one line per phase, because the losses of two phases belong to different tasks."""
    for start, end in spans:
        ax.plot(
            epochs[start:end],
            values[start:end],
            color=color,
            label=label if start == 0 else None,
            marker=marker,
            markersize=4 if len(epochs) <= 40 else 0,
        )


def _draw_star(ax, epoch, value):
    """Mark the best epoch with a star."""
    ax.plot(
        epoch,
        value,
        marker="*",
        markersize=15,
        linestyle="none",
        color=GREEN,
        markeredgecolor="black",
        markeredgewidth=0.7,
        zorder=5,
        label=f"Best epoch: {epoch}",
    )


def _scale_values(ax, name, log_loss):
    """Set the scale of the vertical axis: 0 to 1 for an accuracy, logarithmic for a loss if wanted."""
    if name == "loss" and log_loss:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        # Within one decade, matplotlib's own labels are powers of ten outside the axis, or overlap.
        if high < 10 * low:
            label_plainly(ax.yaxis, (1, 2, 5))
    if name == "accuracy":
        ax.set_ylim(0, 1)


def _shade_phases(ax, epochs, phases, starts, ends):
    """Shade every other phase, and write the name of each above the panel."""
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


def _share_legend(figure, axes):
    """Draw one legend above the panels, with each label once."""
    handles = {}
    for ax in axes.flat:
        handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
