"""Compile, save, load and describe Keras models, and predict classes with them.

Models take and give float32 images in [0, 1], in whatever precision they compute, and run on any Keras backend. The two
networks of the study are in `galaxynb.networks.classifier` and `galaxynb.networks.autoencoder`.
"""

import zipfile
from pathlib import Path

import keras
import pandas as pd

from galaxynb.files import written_aside

__all__ = [
    "DAMAGE",
    "compile_model",
    "in_float32",
    "layer_table",
    "load_model",
    "predict_classes",
    "save_model",
]

#: What reading a damaged model file can raise: Keras, h5py and zipfile each have their own ways.
DAMAGE = (ValueError, OSError, KeyError, TypeError, RuntimeError, NotImplementedError, zipfile.BadZipFile)


_PREDICTED_AT_ONCE = 64  # images per batch of a prediction
SMALLEST_SIDE = 32  # below it DenseNet121's five halvings leave no pixel


def compile_model(model, loss, *, learning_rate=1e-3, decay_steps=None, metrics=(), run_eagerly=False, jit=False):
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
        Compile training steps, by XLA or the backend's own compiler; see `galaxynb.compute.choose_execution`.
        Ignored with `run_eagerly`.

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


def predict_classes(model, images):
    """Return the most probable class of each image.

    Parameters
    ----------
    model : keras.Model
        A classifier.
    images : ndarray of float, shape (N, H, H, 3)
        In [0, 1].

    Returns
    -------
    ndarray of int64, shape (N,)
        Classes 0 to 9.
    """
    return model.predict(images, batch_size=_PREDICTED_AT_ONCE, verbose=0).argmax(axis=1)


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


def save_model(model, path):
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


def load_model(path, made_by):
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


def check_side(image_size):
    if image_size < SMALLEST_SIDE:
        raise ValueError(
            f"image_size is {image_size}, but the networks need {SMALLEST_SIDE} px or more: choose a larger size"
        )
