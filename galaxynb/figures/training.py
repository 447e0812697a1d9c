"""Figures of a training: loss and accuracy by epoch."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from galaxynb.figures.style import BLUE, GREEN, ORANGE, STEPS, WIDTH, styled

__all__ = [
    "training_curves",
]


@styled
def training_curves(history, *, monitor="val_loss", log_loss=False):
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
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.3), squeeze=False)
    for ax, name in zip(axes.flat, panels, strict=True):
        starts = np.flatnonzero(np.r_[True, phases[1:] != phases[:-1]])
        ends = np.r_[starts[1:], len(epochs)]
        for column, label, colour, mark in (
            (name, "Training", BLUE, "o"),
            (f"val_{name}", "Validation", ORANGE, "s"),
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
                    color=GREEN,
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
        ax.xaxis.set_major_locator(plt.MaxNLocator(6, integer=True, min_n_ticks=1, steps=STEPS))
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
