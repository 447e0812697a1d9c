"""Compile, save, load and describe Keras models, and predict classes with them.

Models take float32 images in [0, 1], whatever the precision they compute in, and run on any Keras backend. The two
networks of the study are in `galaxynb.networks.classifier` and `galaxynb.networks.autoencoder`.
"""

import hashlib
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from galaxynb.compute import use_standard_keras
from galaxynb.files import written_aside

__all__ = [
    "DAMAGE",
    "compile_model",
    "in_float32",
    "layer_table",
    "load_model",
    "predict_classes",
    "save_model",
    "weights_digest",
]

#: Exceptions that a damaged model file can cause: Keras, h5py and zipfile each raise different ones.
DAMAGE = (ValueError, OSError, KeyError, TypeError, RuntimeError, NotImplementedError, zipfile.BadZipFile)


_PREDICTED_AT_ONCE = 64  # images per batch of a prediction


def compile_model(model, loss, *, learning_rate=1e-3, decay_steps=None, metrics=(), run_eagerly=False, jit=False):
    """Compile a model in place, with the Adam optimizer.

    Parameters
    ----------
    model : keras.Model
        The model to compile.
    loss : str or keras.losses.Loss
        Loss that training lowers.
    learning_rate : float
        Adam's learning rate, > 0.
    decay_steps : int or None
        Number of steps of a cosine decay from `learning_rate` to 0. None keeps the rate constant, as the paper does.
    metrics : sequence of str
        Keras's names of further quantities to report, such as "accuracy".
    run_eagerly : bool
        Whether to run training steps without tracing them first. Steps are slower, but the first one starts at once,
        which suits tests.
    jit : bool
        Whether XLA, or the backend's own compiler, compiles training steps. See `galaxynb.compute.choose_execution`.
        It has no effect with `run_eagerly`.

    Returns
    -------
    keras.Model
        `model` itself.

    Examples
    --------
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> compile_model(model, "mean_squared_error", learning_rate=0.5) is model
    True
    >>> round(float(model.optimizer.learning_rate), 3)
    0.5
    """
    use_standard_keras()
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
    """Return a table of a model's layers.

    Parameters
    ----------
    model : keras.Model
        The model to describe.

    Returns
    -------
    pandas.DataFrame
        One row for each layer, with the columns ``Layer`` (its name), ``Type``, ``Output`` (height x width x channels)
        and ``Parameters`` (their number).

    Examples
    --------
    >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Conv2D(5, 1, name="mix")])
    >>> layer_table(model)
      Layer    Type     Output  Parameters
    0   mix  Conv2D  2 × 2 × 5          20
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
    images : ndarray of float32, shape (N, H, H, 3)
        Images in [0, 1].

    Returns
    -------
    ndarray of int64, shape (N,)
        Class of each image, 0 to 9.

    Examples
    --------
    A classifier whose three classes are red, green and blue:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
    >>> images = np.zeros((2, 2, 2, 3), dtype=np.float32)
    >>> images[0, ..., 1] = images[1, ..., 2] = 1
    >>> predict_classes(model, images).tolist()
    [1, 2]
    """
    return model.predict(images, batch_size=_PREDICTED_AT_ONCE, verbose=0).argmax(axis=1)


def weights_digest(model):
    """Return a digest of the weights of a model, which is the same however and whenever the model was saved.

    Parameters
    ----------
    model : keras.Model
        A built model.

    Returns
    -------
    str
        A SHA-256 digest of 64 hexadecimal digits.

    Examples
    --------
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> before = weights_digest(model)
    >>> model.set_weights([weight + 1 for weight in model.get_weights()])
    >>> weights_digest(model) == before
    False
    """
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(f"{weight.shape} {weight.dtype}".encode() + np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def in_float32(model):
    """Return a copy of a network that computes in float32, not compiled.

    bfloat16 speeds up training on some devices. A saved network should predict the same on all devices, so it
    computes in float32.

    Parameters
    ----------
    model : keras.Model
        A network of any precision. Its weights are float32.

    Returns
    -------
    keras.Model
        A new network with the same weights.

    Examples
    --------
    >>> layer = keras.layers.Dense(1, dtype="mixed_bfloat16")
    >>> in_float32(keras.Sequential([keras.Input((4,)), layer])).layers[-1].compute_dtype
    'float32'
    """
    copy = keras.models.model_from_json(model.to_json().replace('"mixed_bfloat16"', '"float32"'))
    copy.set_weights(model.get_weights())
    return copy


def save_model(model, path):
    """Write a model to a `.keras` file.

    The model goes to a temporary file first, which is then renamed, so no half-written file has the final name.

    Parameters
    ----------
    model : keras.Model
        The model to save.
    path : str or os.PathLike
        Path of the file, which must end in ``.keras``. Only this format is loaded in Keras's safe mode.

    Raises
    ------
    ValueError
        If `path` has another ending.

    Examples
    --------
    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, Path(folder) / "model.keras")
    ...     [path.name for path in Path(folder).iterdir()]
    ['model.keras']
    """
    if Path(path).suffix != ".keras":
        raise ValueError(f"model path is {path}, but a name that ends in .keras is needed: rename it")
    with written_aside(path) as temporary:
        model.save(temporary)


def load_model(path, made_by):
    """Load a model from a `.keras` file, in Keras's safe mode.

    Safe mode refuses files that hold Python code.

    Parameters
    ----------
    path : str or os.PathLike
        Path of the file.
    made_by : str
        Name of the notebook that makes this file, for error messages.

    Returns
    -------
    keras.Model
        The model, compiled if it was compiled when it was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or not a Keras model.

    Examples
    --------
    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, Path(folder) / "model.keras")
    ...     load_model(Path(folder) / "model.keras", "03_classifier").output_shape
    (None, 1)
    """
    use_standard_keras()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, but a trained model is needed: run {made_by} or `make book`")
    try:
        return keras.models.load_model(path, safe_mode=True)
    except DAMAGE as error:
        raise ValueError(
            f"{path} is not a readable Keras model ({type(error).__name__}), but one is needed: delete it and run "
            f"{made_by} again"
        ) from error
