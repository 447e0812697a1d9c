"""Networks that restore images, beyond the paper's autoencoder: a residual U-Net and a light NAFNet.

Both begin and end at half the image's side, like the autoencoder. Their blocks add to what they are given, and their
skip connections carry detail past the smaller sizes. With the default widths they have about as many parameters as the
autoencoder of the profile `half`.
"""

import keras

from galaxynb.compute import in_precision, use_standard_keras
from galaxynb.networks.limits import check_halvings

__all__ = ["build_nafnet", "build_unet"]

# With plain ReLU, all filters of a narrow network can die in the first steps.
_ACTIVE = {"padding": "same", "activation": "leaky_relu", "kernel_initializer": "he_normal"}


def build_unet(image_size, *, filters=(32, 48), middle=2, seed=0, precision="float32"):
    """Build a U-Net of residual blocks, not yet compiled.

    A strided layer halves the side, and the blocks work from there inwards. In our trials, a U-Net that works at full
    size and predicts the noise instead of the image needs more steps to the same error.

    Parameters
    ----------
    image_size : int
        Side of the square images in pixels, >= 32 and a multiple of ``2**len(filters)``.
    filters : sequence of int
        Number of filters at each size, from half the image's side inwards.
    middle : int
        Number of residual blocks at the smallest size. The other sizes have one on the way in and one on the way out.
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
        If `image_size` is below 32 or not a multiple of ``2**len(filters)``.

    References
    ----------
    Ronneberger et al. 2015, "U-Net", arXiv:1505.04597.

    Examples
    --------
    >>> build_unet(32, filters=(4, 4)).output_shape
    (None, 32, 32, 3)
    """
    check_halvings(image_size, filters)
    use_standard_keras()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    with in_precision(precision):
        images = keras.Input((image_size, image_size, 3), name="noisy", dtype="float32")
        x, skips = images, []
        for level, number in enumerate(filters):
            if level:
                skips.append(x)
            x = layers.Conv2D(number, 2 if level else 4, strides=2, name=f"halve_{level}", **_ACTIVE)(x)
            for block in range(middle if level == len(filters) - 1 else 1):
                x = _residual_block(x, number, f"down_{level}_{block}")
        for level in reversed(range(len(filters) - 1)):
            x = layers.Conv2DTranspose(filters[level], 2, strides=2, name=f"double_{level}", **_ACTIVE)(x)
            x = layers.Add(name=f"join_{level}")([x, skips.pop()])
            x = _residual_block(x, filters[level], f"up_{level}")
        x = layers.Conv2DTranspose(filters[0], 4, strides=2, name="double", **_ACTIVE)(x)
    return _restorer(images, x, name="unet")


def build_nafnet(image_size, *, width=32, blocks=(1,), middle=3, seed=0, precision="float32"):
    """Build a light NAFNet, not yet compiled: blocks without activation functions, whose halves multiply each other.

    Parameters
    ----------
    image_size : int
        Side of the square images in pixels, >= 32 and a multiple of ``2**(len(blocks) + 1)``.
    width : int
        Number of channels at half the image's side. Each further halving doubles it.
    blocks : sequence of int
        Number of blocks at each size, from half the image's side inwards.
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
        If `image_size` is below 32 or not a multiple of ``2**(len(blocks) + 1)``.

    References
    ----------
    Chen et al. 2022, "Simple Baselines for Image Restoration", arXiv:2204.04676.

    Examples
    --------
    >>> build_nafnet(32, width=4, blocks=(1,), middle=1).output_shape
    (None, 32, 32, 3)
    """
    check_halvings(image_size, [width, *blocks])
    use_standard_keras()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    with in_precision(precision):
        images = keras.Input((image_size, image_size, 3), name="noisy", dtype="float32")
        x = layers.Conv2D(width, 4, strides=2, padding="same", name="intro")(images)
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
        x = layers.Conv2DTranspose(width, 4, strides=2, name="double", **_ACTIVE)(x)
    return _restorer(images, x, name="nafnet")


def _residual_block(x, channels, name):
    """Return the tensor `x` with the changes that two layers make to it."""
    layers = keras.layers
    y = layers.Conv2D(channels, 3, name=f"{name}_1", **_ACTIVE)(x)
    small = keras.initializers.VarianceScaling(0.1)
    y = layers.Conv2D(channels, 3, padding="same", kernel_initializer=small, name=f"{name}_2")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def _nafnet_block(x, channels, name):
    """Return the tensor `x` with the changes that a NAFNet block makes to it: none at the start."""
    layers = keras.layers
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm_1")(x)
    y = layers.Conv2D(2 * channels, 1, name=f"{name}_expand_1")(y)
    y = layers.DepthwiseConv2D(3, padding="same", name=f"{name}_depthwise")(y)
    y = layers.Multiply(name=f"{name}_gate_1")([y[..., :channels], y[..., channels:]])
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(y)
    weights = layers.Conv2D(channels, 1, name=f"{name}_attention")(weights)
    y = layers.Multiply(name=f"{name}_weigh")([y, weights])
    # With random changes at the start, the training failed at a rate of 0.002.
    y = layers.Conv2D(channels, 1, kernel_initializer="zeros", name=f"{name}_project_1")(y)
    x = layers.Add(name=f"{name}_add_1")([x, y])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm_2")(x)
    y = layers.Conv2D(2 * channels, 1, name=f"{name}_expand_2")(y)
    y = layers.Multiply(name=f"{name}_gate_2")([y[..., :channels], y[..., channels:]])
    y = layers.Conv2D(channels, 1, kernel_initializer="zeros", name=f"{name}_project_2")(y)
    return layers.Add(name=f"{name}_add_2")([x, y])


def _restorer(images, x, *, name):
    """Return the model that maps `images` to three channels made from `x`, clipped to [0, 1]."""
    layers = keras.layers
    # The bias starts near the brightness of the sky: where outputs are below 0, the clipping stops all gradients.
    bias = keras.initializers.Constant(0.15)
    x = layers.Conv2D(3, 3, padding="same", bias_initializer=bias, name="denoised", dtype="float32")(x)
    return keras.Model(images, layers.ReLU(max_value=1.0, name="clip", dtype="float32")(x), name=name)
