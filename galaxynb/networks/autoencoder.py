"""The light convolutional denoising autoencoder, and the batches of its two training phases."""

import itertools

import keras
import numpy as np

from galaxynb.compute import in_precision, use_standard_keras
from galaxynb.networks.batches import DenoisingBatches
from galaxynb.networks.device_batches import DeviceFeed, DeviceRows
from galaxynb.networks.device_noise import DeviceNoise
from galaxynb.networks.limits import check_halvings
from galaxynb.networks.training import Phase

__all__ = ["build_autoencoder", "denoiser_phase"]

_CHANGE = 0.2  # mean square of the random changes that a middle layer makes at the start, as a share of its input's


def build_autoencoder(
    image_size, *, filters=(32,), width=48, depth=3, dilations=(1, 2, 4), seed=0, precision="float32"
):
    """Build the light convolutional denoising autoencoder, not yet compiled.

    The encoder halves the side once for each entry of `filters`, with strided Conv2D layers. Further Conv2D layers
    follow at the reduced size. The decoder doubles the side as often, with Conv2DTranspose layers. There are no skip
    connections, as in the paper. At the start, each layer at the reduced size passes its input on and adds random
    changes, with about 0.4 of the input's root mean square. Channels that the input lacks start with random values.
    Our copy of the paper lacks the section on the autoencoder, so we chose the number and size of the layers.

    Parameters
    ----------
    image_size : int
        Side of the square images in pixels, >= 32 and a multiple of ``2**len(filters)``.
    filters : sequence of int
        Number of filters of each halving layer, outermost first. The decoder mirrors them.
    width : int
        Number of filters of each layer at the reduced size.
    depth : int
        Number of layers at the reduced size.
    dilations : sequence of int
        Dilation rates of these layers, each >= 1, repeated in turn. A layer with rate 2 skips every second pixel, so
        it sees twice as far. With one halving and three layers of rates 1, 2 and 4, an output pixel depends on 37 px of
        the input; without dilation, on 21 px. With six layers it depends on 65 px.
    seed : int
        Seed of Keras's global generator, which draws the initial weights.
    precision : str
        Keras dtype policy of all layers except the last two. Those compute in float32, because the 8 bits of
        bfloat16's mantissa would be coarser than the 8-bit images.

    Returns
    -------
    keras.Model
        Maps a tensor of float32, shape (N, image_size, image_size, 3), in [0, 1] to one of the same shape and range.

    Raises
    ------
    ValueError
        If `image_size` is below 32 or not a multiple of ``2**len(filters)``, or if a dilation rate is below 1.

    Examples
    --------
    >>> model = build_autoencoder(32, filters=(4,), width=4, depth=1)
    >>> model.output_shape
    (None, 32, 32, 3)
    """
    check_halvings(image_size, filters)
    if not dilations or min(dilations) < 1:
        raise ValueError(f"dilations is {list(dilations)}, but rates of at least 1 are needed: give [1] for none")
    use_standard_keras()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    options = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
    with in_precision(precision):
        images = keras.Input((image_size, image_size, 3), name="noisy", dtype="float32")
        x = images
        for level, number in enumerate(filters, start=1):
            x = layers.Conv2D(number, 5, strides=2, name=f"halve_{level}", **options)(x)
        for number, rate in zip(range(1, depth + 1), itertools.cycle(dilations)):
            change = keras.initializers.VarianceScaling(_CHANGE)
            middle = options | {"kernel_initializer": change, "dilation_rate": rate}
            x = layers.Conv2D(width, 3, name=f"middle_{number}", **middle)(x)
        for level, number in reversed(list(enumerate(filters, start=1))):
            # The kernel size is a multiple of the stride: otherwise a chequerboard pattern appears.
            x = layers.Conv2DTranspose(number, 4, strides=2, name=f"double_{level}", **options)(x)
    # The bias starts near the brightness of the sky: where outputs are below 0, the clipping stops all gradients.
    bias = keras.initializers.Constant(0.15)
    x = layers.Conv2DTranspose(3, 3, padding="same", bias_initializer=bias, name="denoised", dtype="float32")(x)
    model = keras.Model(images, layers.ReLU(max_value=1.0, name="clip", dtype="float32")(x), name="autoencoder")
    for number in range(1, depth + 1):
        layer = model.get_layer(f"middle_{number}")
        kernel, *rest = layer.get_weights()
        kernel[1, 1] += np.eye(*kernel.shape[2:], dtype=kernel.dtype)
        layer.set_weights([kernel, *rest])
    return model


def denoiser_phase(name, images, split, *, epochs, batch_size, seed, noise, augment, execution):
    """Return one of the autoencoder's two training phases.

    Parameters
    ----------
    name : str
        Name of the phase in the history, such as "raw" or "noisy".
    images : ndarray of uint8, shape (N, H, H, 3)
        All images. They may be memory-mapped.
    split : galaxynb.data.splits.Split
        Rows of `images` to train on and to validate with.
    epochs : int
        Number of epochs, >= 0.
    batch_size : int
        Images per batch, >= 1.
    seed : int
        Seed of the shuffling, the augmentation and the noise, >= 0.
    noise : galaxynb.noise.NoiseModel or None
        Noise on the input images. None trains the network to reproduce clean images.
    augment : bool
        Whether to turn and mirror the training images.
    execution : galaxynb.compute.Execution
        Decides where training batches are made. The noise on validation images always comes from OpenCV.

    Returns
    -------
    galaxynb.networks.training.Phase

    Examples
    --------
    >>> import numpy as np
    >>> from galaxynb.compute import choose_execution
    >>> from galaxynb.data.splits import paper_split
    >>> images = np.zeros((20, 32, 32, 3), dtype=np.uint8)
    >>> execution = choose_execution(batches_on="host")
    >>> settings = {"epochs": 2, "batch_size": 4, "seed": 0, "noise": None, "augment": True}
    >>> denoiser_phase("raw", images, paper_split(np.zeros(20)), **settings, execution=execution)
    Phase(name='raw', epochs=2)
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
