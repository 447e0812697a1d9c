"""Check the parameters of the networks without importing Keras, so that the workflow can check them first."""

from pathlib import Path

from galaxynb.images import SMALLEST_SIDE

__all__ = ["check_halvings", "check_side", "check_weights"]


def check_side(image_size):
    """Raise an error if images are too small for the networks.

    Parameters
    ----------
    image_size : int
        Side of the images in pixels.

    Raises
    ------
    ValueError
        If `image_size` is below `SMALLEST_SIDE`.
    """
    if image_size < SMALLEST_SIDE:
        raise ValueError(f"image_size is {image_size}, but {SMALLEST_SIDE} px or more is needed: choose a larger size")


def check_halvings(image_size, filters):
    """Raise an error if the autoencoder cannot halve the side of images once for each entry of `filters`.

    Parameters
    ----------
    image_size : int
        Side of the images in pixels.
    filters : sequence of int
        Number of filters of each halving layer.

    Raises
    ------
    ValueError
        If `image_size` is below `SMALLEST_SIDE` or not a multiple of ``2**len(filters)``.
    """
    check_side(image_size)
    multiple = 2 ** len(filters)
    if image_size % multiple:
        below = image_size - image_size % multiple
        fitting = [str(size) for size in (below, below + multiple) if size >= SMALLEST_SIDE]
        raise ValueError(
            f"image_size is {image_size}, but a multiple of {multiple} is needed for {len(filters)} halvings: "
            f"use {' or '.join(fitting)}"
        )


def check_weights(weights):
    """Raise an error if the classifier's initial weights are neither random, "imagenet" nor a file.

    Parameters
    ----------
    weights : str, os.PathLike or None
        As `galaxynb.networks.classifier.build_classifier` takes them.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    """
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise FileNotFoundError(
            f"weights is {weights}, but there is no such file: give null, 'imagenet' or an existing file"
        )
