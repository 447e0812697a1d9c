"""Grids of images: galaxies as rows or columns, versions of them across."""

import textwrap

import matplotlib.pyplot as plt

from galaxynb.figures.style import WIDTH, styled

__all__ = [
    "denoised_rows",
    "noise_grid",
]


def denoised_rows(noisy, denoised, clean, *, titles=None, n=5):
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
    return noise_grid([noisy[:n], denoised[:n], clean[:n]], ["Noisy", "Denoised", "Original"], col_titles=titles)


@styled
def noise_grid(images, row_titles, *, col_titles=None):
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
