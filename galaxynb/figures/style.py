"""The style that all figures share, and how a figure is saved.

Figures are drawn for a column of 7 inches and saved at 300 dpi. Their text stays legible on a phone that is 360
pixels wide, and colour-blind readers can distinguish their colours. Importing a module of figures does not change
matplotlib's settings. Drawing a figure changes them only until it is drawn, and leaves no figure open.
"""

import functools
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from galaxynb.files import written_aside

__all__ = [
    "BLUE",
    "GREEN",
    "ORANGE",
    "PURPLE",
    "RED",
    "SEQUENTIAL",
    "SKY",
    "STEPS",
    "STYLE",
    "WIDTH",
    "label_plainly",
    "save_figure",
    "styled",
]


#: Settings of matplotlib that apply only while a figure is drawn.
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


#: Width of every figure in inches: the text column of the book and of most journals.
WIDTH = 7.0

#: Colours of seaborn's palette for colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE, *_, SKY = sns.color_palette("colorblind", 10)

#: Colour map of heat maps. Low values are light, which prints well; no value is grey, so grey can mean "no data".
SEQUENTIAL = "mako_r"

#: Distances between ticks, up to powers of ten.
STEPS = [1, 2, 5, 10]


def styled(draw):
    """Decorate a function that draws a figure: apply STYLE while it draws, and close the figure in pyplot.

    A notebook shows a figure that is still open in pyplot a second time, after the value of the cell.

    Parameters
    ----------
    draw : callable
        Draws and returns a figure.

    Returns
    -------
    callable
        The decorated function.
    """

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


def label_plainly(axis, subs, *, form="{:g}"):
    """Label a logarithmic axis with plain numbers in place of powers of ten.

    Parameters
    ----------
    axis : matplotlib.axis.Axis
        The axis, such as ``ax.xaxis``.
    subs : tuple of float
        Multiples of each power of ten that get a label.
    form : str
        Format of a number.

    Examples
    --------
    >>> figure, ax = plt.subplots()
    >>> lines = ax.semilogx([10, 100], [0, 1])
    >>> label_plainly(ax.xaxis, (1, 3))
    >>> ax.xaxis.get_major_formatter()(30.0)
    '30'
    >>> plt.close(figure)
    """
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: form.format(value)))
    axis.set_minor_formatter(NullFormatter())


def save_figure(figure, path):
    """Save a figure as a PNG of 300 dpi; equal figures give equal bytes.

    The PNG is written to a temporary file and then renamed, so that no half-written file has the final name.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure to save.
    path : str or os.PathLike
        The file to write; ends in ``.png``. Its folder is created.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ValueError
        If `path` does not end in ``.png``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(save_figure(plt.Figure(figsize=(1, 1)), f"{folder}/empty.png").name)
    empty.png
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"the figure's name is {path.name}, but one that ends in .png is needed: change its suffix")
    with written_aside(path) as temporary:
        # By default the entry Software names matplotlib's version, which would change the bytes with every version.
        figure.savefig(temporary, dpi=300, format="png", metadata={"Software": None})
    return path
