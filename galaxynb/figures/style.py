"""The style that all figures share, and how a figure is saved.

Figures are drawn for a column of 7 inches and saved at 300 dpi. Type is large enough to survive a phone's 360 pixels,
and colours are safe for colour-blind readers. Neither importing nor calling changes matplotlib's settings or leaves a
figure open.
"""

import functools
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns

from galaxynb.files import written_aside

__all__ = [
    "STYLE",
    "save_figure",
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


WIDTH = 7.0  # inches: the text column of the book and of most journals' pages

BLUE, ORANGE, GREEN, RED, PURPLE, *_, SKY = sns.color_palette("colorblind", 10)

SEQUENTIAL = "mako_r"  # light is little: prints well, and grey can mean "no data"

STEPS = [1, 2, 5, 10]


def styled(draw):
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


def save_figure(figure, path):
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
