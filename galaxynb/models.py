"""The two networks of the study: a DenseNet121 classifier and a light denoising autoencoder.

Functions here build, compile, save and load Keras models and nothing else; training them is
`galaxynb.training`'s part. Models take and give float32 images in [0, 1], in whatever precision they
compute, and run on any Keras backend.
"""

import zipfile
from pathlib import Path

import keras
import pandas as pd

from galaxynb.compute import in_precision
from galaxynb.files import written_aside
from galaxynb.layout import CLASS_NAMES

__all__ = ["DAMAGE", "autoencoder", "classifier", "compile_model", "in_float32", "layer_table", "load", "save"]

#: Mean and standard deviation of ImageNet's channels in [0, 1]: what its weights were trained on.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
#: What reading a damaged model file can raise: Keras, h5py and zipfile each have their own ways.
DAMAGE = (ValueError, OSError, KeyError, TypeError, RuntimeError, NotImplementedError, zipfile.BadZipFile)

_SMALLEST_SIDE = 32  # below it DenseNet121's five halvings leave no pixel


def classifier(image_size, weights=None, bn_momentum=0.99, seed=0, precision="float32"):
    """Build the DenseNet121 classifier of ten galaxy classes, not compiled.

    Parameters
    ----------
    image_size : int
        Side of the square input images in pixels, >= 32.
    weights : None, "imagenet" or path
        Random initialization, Keras's ImageNet weights (downloaded by Keras), or a weights file for
        DenseNet121 without its top.
    bn_momentum : float
        Momentum of the moving averages of batch normalization, in [0, 1). Keras's default, 0.99,
        needs some hundreds of steps to settle; short trainings need less.
    seed : int
        Seeds Keras's global generator, from which the initial weights are drawn.
    precision : str
        Keras dtype policy of all layers but the last, which is float32; see `galaxynb.compute.execution`.

    Returns
    -------
    keras.Model
        (N, image_size, image_size, 3) float32 in [0, 1] -> (N, 10) class probabilities.

    Raises
    ------
    ValueError
        If `image_size` or `bn_momentum` is out of range, or `weights` are not such weights.
    FileNotFoundError
        If `weights` names a file that does not exist.

    References
    ----------
    Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv:1608.06993.
    """
    _check_side(image_size)
    if not 0 <= bn_momentum < 1:
        raise ValueError(f"bn_momentum is {bn_momentum}, but a moving average needs 0 <= momentum < 1")
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise FileNotFoundError(f"weights file {weights} does not exist: give null, 'imagenet' or an existing file")
    keras.utils.set_random_seed(seed)
    with in_precision(precision):
        images = keras.Input((image_size, image_size, 3), name="cutout", dtype="float32")
        scaled = images
        if weights is not None:
            variance = [std**2 for std in _IMAGENET_STD]
            scaled = keras.layers.Normalization(mean=_IMAGENET_MEAN, variance=variance, name="imagenet_scale")(images)
        try:
            base = keras.applications.DenseNet121(
                include_top=False, weights=weights, input_tensor=scaled, pooling="avg"
            )
        except DAMAGE as error:
            raise ValueError(
                f"weights {weights} cannot be read as DenseNet121's without its top ({type(error).__name__}): "
                f"give null, 'imagenet' or such a file"
            ) from error
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = bn_momentum
    last = keras.layers.Dense(len(CLASS_NAMES), activation="softmax", name="classes", dtype="float32")
    probabilities = last(base.output)
    return keras.Model(images, probabilities, name="densenet121")


def autoencoder(image_size, filters=(32,), width=48, depth=3, seed=0, precision="float32"):
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
    _check_side(image_size)
    multiple = 2 ** len(filters)
    if image_size % multiple:
        below = image_size - image_size % multiple
        fitting = [str(size) for size in (below, below + multiple) if size >= _SMALLEST_SIDE]
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


def compile_model(model, loss, learning_rate=1e-3, decay_steps=None, metrics=(), run_eagerly=False, jit=False):
    """Compile with Adam, in place.

    Parameters
    ----------
    model : keras.Model
    loss : str or keras.losses.Loss
    learning_rate : float
        Adam's rate, > 0.
    decay_steps : int or None
        Steps of a cosine decay from `learning_rate` to 0; None keeps the rate constant, as the paper does.
    metrics : sequence of str
    run_eagerly : bool
        Skip compilation of the training step: slower steps, but no minute of tracing. For tests.
    jit : bool
        Compile steps by XLA or what else the backend has; see `galaxynb.compute.execution`. Not if `run_eagerly`.

    Returns
    -------
    keras.Model
        `model` itself.
    """
    rate = learning_rate
    if decay_steps is not None:
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=loss,
        metrics=list(metrics),
        run_eagerly=run_eagerly,
        jit_compile=jit and not run_eagerly,
    )
    return model


def layer_table(model):
    """List a model's layers.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    pandas.DataFrame
        A row a layer: Layer (name), Type, Output (height x width x channels), Parameters.
    """
    rows = [
        {
            "Layer": layer.name,
            "Type": type(layer).__name__,
            "Output": " × ".join(str(n) for n in layer.output.shape[1:]),
            "Parameters": layer.count_params(),
        }
        for layer in model.layers
    ]
    return pd.DataFrame(rows)


def in_float32(model):
    """Copy a network into one that computes in float32, not compiled.

    Precision is a matter of training on one device; a network that is kept should predict alike on all of them.

    Parameters
    ----------
    model : keras.Model
        Of any precision; its weights are float32.

    Returns
    -------
    keras.Model
    """
    copy = keras.models.model_from_json(model.to_json().replace('"mixed_bfloat16"', '"float32"'))
    copy.set_weights(model.get_weights())
    return copy


def save(model, path):
    """Write a model as a `.keras` file, aside first.

    Parameters
    ----------
    model : keras.Model
    path : str or os.PathLike
        Must end in ``.keras``.

    Raises
    ------
    ValueError
        If `path` has another ending.
    """
    if Path(path).suffix != ".keras":
        raise ValueError(f"model path {path} does not end in .keras: Keras's own format is the one we load safely")
    with written_aside(path) as aside:
        model.save(aside)


def load(path, made_by):
    """Load a `.keras` file with Keras's safe mode on.

    Parameters
    ----------
    path : str or os.PathLike
    made_by : str
        The notebook that makes this file, for the error message.

    Returns
    -------
    keras.Model
        Compiled as it was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or not a Keras model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it is made by {made_by}; run that first, or `make book`")
    try:
        return keras.models.load_model(path, safe_mode=True)
    except DAMAGE as error:
        raise ValueError(
            f"{path} is not a readable Keras model ({type(error).__name__}): delete it and run {made_by} again"
        ) from error


def _check_side(image_size):
    if image_size < _SMALLEST_SIDE:
        raise ValueError(
            f"image_size is {image_size}, but the networks need {_SMALLEST_SIDE} px or more: choose a larger size"
        )
