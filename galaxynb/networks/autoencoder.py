"""The light convolutional denoising autoencoder, and the data of its two training phases."""

import keras

from galaxynb.compute import in_precision
from galaxynb.networks.batches import DenoisingBatches
from galaxynb.networks.device_batches import DeviceFeed, DeviceRows
from galaxynb.networks.device_noise import DeviceNoise
from galaxynb.networks.models import SMALLEST_SIDE, check_side
from galaxynb.networks.training import Phase

__all__ = [
    "build_autoencoder",
    "denoiser_phase",
]


def build_autoencoder(image_size, *, filters=(32,), width=48, depth=3, seed=0, precision="float32"):
    """Build the light convolutional denoising autoencoder, not compiled.

    The encoder halves the side once a filter number with strided Conv2D layers, then looks around with
    some more at the reduced size; the decoder doubles the side as often with Conv2DTranspose layers.
    There are no skip connections, as in the paper. The paper's own section on it is missing from the
    copy at hand: the sizes are our choice.

    Parameters
    ----------
    image_size : int
        Side of the square images in pixels, >= 32 and a multiple of ``2**len(filters)``.
    filters : sequence of int
        Filters of the encoder's halving layers, outermost first; the decoder mirrors them.
    width, depth : int
        Filters and number of the layers at the reduced size.
    seed : int
        Seeds Keras's global generator, from which the initial weights are drawn.
    precision : str
        Keras dtype policy of all layers but the last two, which are float32: eight bits of mantissa would
        be coarser than the 8-bit images themselves.

    Returns
    -------
    keras.Model
        (N, image_size, image_size, 3) float32 in [0, 1] -> the same shape and range.

    Raises
    ------
    ValueError
        If `image_size` is too small or not such a multiple.
    """
    check_side(image_size)
    multiple = 2 ** len(filters)
    if image_size % multiple:
        below = image_size - image_size % multiple
        fitting = [str(size) for size in (below, below + multiple) if size >= SMALLEST_SIDE]
        raise ValueError(
            f"image_size is {image_size}, but {len(filters)} halvings need a multiple of {multiple}: "
            f"use {' or '.join(fitting)}"
        )
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    options = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
    with in_precision(precision):
        images = keras.Input((image_size, image_size, 3), name="noisy", dtype="float32")
        x = images
        for level, number in enumerate(filters, start=1):
            x = layers.Conv2D(number, 5, strides=2, name=f"halve_{level}", **options)(x)
        for number in range(1, depth + 1):
            x = layers.Conv2D(width, 3, name=f"middle_{number}", **options)(x)
        for level, number in reversed(list(enumerate(filters, start=1))):
            # A kernel that is a multiple of the stride leaves no chequerboard.
            x = layers.Conv2DTranspose(number, 4, strides=2, name=f"double_{level}", **options)(x)
    # The bias starts at about a sky's level, where the cut at 0 lets gradients through.
    bias = keras.initializers.Constant(0.15)
    x = layers.Conv2DTranspose(3, 3, padding="same", bias_initializer=bias, name="denoised", dtype="float32")(x)
    return keras.Model(images, layers.ReLU(max_value=1.0, name="clip", dtype="float32")(x), name="autoencoder")


def denoiser_phase(name, images, split, *, epochs, batch_size, seed, noise, augment, execution):
    """Put together one of the autoencoder's two phases.

    Parameters
    ----------
    name : str
    images : ndarray, shape (N, H, H, 3), uint8
    split : galaxynb.data.splits.Split
    epochs, batch_size, seed : int
    noise : galaxynb.noise.NoiseModel or None
        None trains raw to raw.
    augment : bool
    execution : galaxynb.compute.Execution
        Says where training batches are made; validation images always get their noise from OpenCV.

    Returns
    -------
    Phase
    """
    validation = DenoisingBatches(
        images, split.validation, batch_size=batch_size, seed=seed, noise=noise, training=False
    )
    if execution.batches_on == "device":
        made = None if noise is None else DeviceNoise(noise, images.shape[1])
        feed = DeviceFeed(images, pairs=True, noise=made, augment=augment, seed=seed)
        rows = DeviceRows(None, split.train, batch_size=batch_size, seed=seed)
        return Phase(name, epochs, rows, validation=validation, feed=feed)
    training = DenoisingBatches(images, split.train, batch_size=batch_size, seed=seed, noise=noise, augment=augment)
    return Phase(name, epochs, training, validation=validation)
