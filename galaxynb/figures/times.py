"""The figure of where the time of each stage went."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from galaxynb.figures.style import WIDTH, styled

__all__ = [
    "stage_times",
]


@styled
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
    ax.set_xlabel("Seconds")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=2)
    return figure
