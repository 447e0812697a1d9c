"""The figure of the time that each part of a stage took."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from galaxynb.figures.style import WIDTH, styled

__all__ = ["stage_times"]


@styled
def stage_times(frame):
    """Show the time of each stage as a bar, divided into its parts.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per stage. The column ``Stage`` has its name. Every other column is a part, with its time in seconds.

    Returns
    -------
    matplotlib.figure.Figure
        One panel with a bar per stage.
    """
    parts = [name for name in frame.columns if name != "Stage"]
    figure, ax = plt.subplots(figsize=(WIDTH, 1.6 + 0.42 * len(frame)))
    left = np.zeros(len(frame))
    for part, colour in zip(parts, sns.color_palette("colorblind", len(parts)), strict=True):
        ax.barh(frame["Stage"], frame[part], left=left, color=colour, label=part, edgecolor="white", linewidth=0.5)
        left += frame[part].to_numpy()
    for stage, total in enumerate(left):
        ax.text(total, stage, f" {total:.0f} s", va="center", color="0.25")
    ax.invert_yaxis()
    ax.margins(x=0.1)
    ax.set_xlim(left=0)
    ax.set_xlabel("Time (seconds)")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=2)
    return figure
