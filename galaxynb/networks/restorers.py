"""Networks that restore images, beyond the paper's autoencoder: a residual U-Net and a light NAFNet.

Both predict what to add to the noisy image, and their skip connections carry detail past the reduced sizes. With the
default widths they have about as many parameters as the autoencoder of the profile `half`.
"""

import keras

from galaxynb.compute import in_precision, use_standard_keras
from galaxynb.networks.limits import check_halvings

__all__ = ["build_nafnet", "build_unet"]


def build_unet(image_size, *, filters=(20, 28, 40, 56), seed=0, precision="float32"):
    """Build a residual U-Net, not yet compiled.

    Parameters
    ----------
    image_size : int
        Side of the square images in pixels, >= 32 and a multiple of ``2**(len(filters) - 1)``.
    filters : sequence of int
        Number of filters at each size, from the full size inwards.
    seed : int
        Seed of Keras's global generator, which draws the initial weights.
    precision : str
        Keras dtype policy of all layers except the last ones, which compute in float32.

    Returns
    -------
    keras.Model
        Maps a tensor of float32, shape (N, image_size, image_size, 3), in [0, 1] to one of the same shape and range.

    Raises
    ------
    ValueError
        If `image_size` is below 32 or not a multiple of ``2**(len(filters) - 1)``.

    References
    ----------
    Ronneberger et al. 2015, "U-Net", arXiv:1505.04597.

    Examples
    --------
    >>> build_unet(32, filters=(4, 4)).output_shape
    (None, 32, 32, 3)
    """
    check_halvings(image_size, filters[1:])
    use_standard_keras()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    # With plain ReLU, all filters of a narrow network can die in the first steps, and only the input is returned.
    options = {"padding": "same", "activation": "leaky_relu", "kernel_initializer": "he_normal"}
    with in_precision(precision):
        images = keras.Input((image_size, image_size, 3), name="noisy", dtype="float32")
        x, skips = images, []
        for level, number in enumerate(filters):
            if level:
                skips.append(x)
                x = layers.Conv2D(number, 2, strides=2, name=f"halve_{level}", **options)(x)
            x = layers.Conv2D(number, 3, name=f"down_{level}_1", **options)(x)
            x = layers.Conv2D(number, 3, name=f"down_{level}_2", **options)(x)
        for level in reversed(range(len(filters) - 1)):
            number = filters[level]
            x = layers.Conv2DTranspose(number, 2, strides=2, name=f"double_{level}", **options)(x)
            x = layers.Add(name=f"join_{level}")([x, skips.pop()])
            x = layers.Conv2D(number, 3, name=f"up_{level}", **options)(x)
    return _residual(images, x, name="unet")


def build_nafnet(image_size, *, width=10, blocks=(1, 1, 1), middle=2, seed=0, precision="float32"):
    """Build a light NAFNet, not yet compiled: blocks without activation functions, whose halves multiply each other.

    Parameters
    ----------
    image_size : int
        Side of the square images in pixels, >= 32 and a multiple of ``2**len(blocks)``.
    width : int
        Number of channels at the full size. Each halving doubles it.
    blocks : sequence of int
        Number of blocks at each size, from the full size inwards.
    middle : int
        Number of blocks at the smallest size.
    seed : int
        Seed of Keras's global generator, which draws the initial weights.
    precision : str
        Keras dtype policy of all layers except the last ones, which compute in float32.

    Returns
    -------
    keras.Model
        Maps a tensor of float32, shape (N, image_size, image_size, 3), in [0, 1] to one of the same shape and range.

    Raises
    ------
    ValueError
        If `image_size` is below 32 or not a multiple of ``2**len(blocks)``.

    References
    ----------
    Chen et al. 2022, "Simple Baselines for Image Restoration", arXiv:2204.04676.

    Examples
    --------
    >>> build_nafnet(32, width=4, blocks=(1,), middle=1).output_shape
    (None, 32, 32, 3)
    """
    check_halvings(image_size, blocks)
    use_standard_keras()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    with in_precision(precision):
        images = keras.Input((image_size, image_size, 3), name="noisy", dtype="float32")
        x = layers.Conv2D(width, 3, padding="same", name="intro")(images)
        skips = []
        for level, number in enumerate(blocks):
            for block in range(number):
                x = _nafnet_block(x, width * 2**level, f"down_{level}_{block}")
            skips.append(x)
            x = layers.Conv2D(width * 2 ** (level + 1), 2, strides=2, name=f"halve_{level}")(x)
        for block in range(middle):
            x = _nafnet_block(x, width * 2 ** len(blocks), f"middle_{block}")
        for level in reversed(range(len(blocks))):
            x = layers.Conv2DTranspose(width * 2**level, 2, strides=2, name=f"double_{level}")(x)
            x = layers.Add(name=f"join_{level}")([x, skips.pop()])
            x = _nafnet_block(x, width * 2**level, f"up_{level}")
    return _residual(images, x, name="nafnet")


def _nafnet_block(x, channels, name):
    """Return the output of one NAFNet block for the tensor `x`."""
    layers = keras.layers
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm_1")(x)
    y = layers.Conv2D(2 * channels, 1, name=f"{name}_expand_1")(y)
    y = layers.DepthwiseConv2D(3, padding="same", name=f"{name}_depthwise")(y)
    y = layers.Multiply(name=f"{name}_gate_1")([y[..., :channels], y[..., channels:]])
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(y)
    weights = layers.Conv2D(channels, 1, name=f"{name}_attention")(weights)
    y = layers.Multiply(name=f"{name}_weigh")([y, weights])
    y = layers.Conv2D(channels, 1, name=f"{name}_project_1")(y)
    x = layers.Add(name=f"{name}_add_1")([x, y])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm_2")(x)
    y = layers.Conv2D(2 * channels, 1, name=f"{name}_expand_2")(y)
    y = layers.Multiply(name=f"{name}_gate_2")([y[..., :channels], y[..., channels:]])
    y = layers.Conv2D(channels, 1, name=f"{name}_project_2")(y)
    return layers.Add(name=f"{name}_add_2")([x, y])


def _residual(images, x, *, name):
    """Return the model that adds three channels made from `x` to the images and clips the sum to [0, 1]."""
    layers = keras.layers
    # The first output is the input: the change starts at 0.
    change = layers.Conv2D(3, 3, padding="same", kernel_initializer="zeros", name="change", dtype="float32")(x)
    total = layers.Add(name="denoised", dtype="float32")([images, change])
    return keras.Model(images, layers.ReLU(max_value=1.0, name="clip", dtype="float32")(total), name=name)
