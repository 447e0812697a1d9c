"""Grids of images, such as several galaxies in several versions."""

import textwrap

import matplotlib.pyplot as plt

from galaxynb.figures.style import WIDTH, styled

__all__ = ["denoised_rows", "noise_grid"]


def denoised_rows(noisy, denoised, clean, *, titles=None, n=5):
    """Show noisy images, the denoised images and the originals, in three rows (the paper's Figure 5).

    Parameters
    ----------
    noisy, denoised, clean : array_like of uint8 or float, shape (N, H, W, 3)
        Versions of the same images; floats in [0, 1]. The first `n` are shown.
    titles : sequence of str, optional
        A title for each column, such as the true class and the prediction.
    n : int, optional
        Number of images to show. If there are fewer, all are shown.

    Returns
    -------
    matplotlib.figure.Figure
        Three rows of panels.

    Raises
    ------
    ValueError
        For the same images and titles as `noise_grid`.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((2, 8, 8, 3))
    >>> [ax.get_ylabel() for ax in denoised_rows(images, images, images).axes[::2]]
    ['Noisy', 'Denoised', 'Original']
    """
    return noise_grid([noisy[:n], denoised[:n], clean[:n]], ["Noisy", "Denoised", "Original"], col_titles=titles)


@styled
def noise_grid(images, row_titles, *, col_titles=None):
    """Show a grid of images, such as one galaxy at several noise levels.

    Parameters
    ----------
    images : sequence of sequences of array_like of uint8 or float, shape (rows, columns, H, W, 3)
        Rows of images; floats in [0, 1].
    row_titles : sequence of str
        A title for each row, written upwards at its left.
    col_titles : sequence of str, optional
        A title for each column, written above it and wrapped to its width.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per image.

    Raises
    ------
    ValueError
        If there is no image, if rows differ in their number of images, or if the titles do not match the grid.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((2, 3, 8, 8, 3))
    >>> len(noise_grid(images, ["weak", "strong"]).axes)
    6
    """
    columns = len(images[0]) if len(images) else 0
    if columns == 0 or any(len(row) != columns for row in images):
        raise ValueError(
            f"rows of images have the lengths {[len(row) for row in images]}, but one length, 1 or more, is needed: "
            "give every row the same number of images"
        )
    if len(row_titles) != len(images):
        raise ValueError(f"row_titles has {len(row_titles)} titles, but {len(images)} are needed: give one per row")
    if col_titles is not None and len(col_titles) < columns:
        raise ValueError(f"col_titles has {len(col_titles)} titles, but {columns} are needed: give one per column")
    # Without a limit, a single column would be as wide as the page.
    width = WIDTH * min(1.0, (columns + 0.5) / 4)
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
