"""Keep all variables of a compiled model in one file, and restore them.

Training writes such a file after every epoch. A `.keras` file would hold the same numbers, but Keras writes each
variable separately, which takes seconds for DenseNet121.
"""

import zipfile
from pathlib import Path

import keras
import numpy as np

from galaxynb.files import explain_full_disk, written_aside

__all__ = ["restore_variables", "save_variables"]

#: Exceptions that a damaged file causes, and the ValueError of a file that belongs to another model.
_DAMAGE = (ValueError, OSError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile)


def save_variables(model, path):
    """Write all variables of a model and of its optimizer to an ``.npz`` file.

    The file holds one flat array for each dtype, with the variables in the order of the model. Its zip format has a
    checksum of each array. The file is written under a temporary name and then renamed, so no half-written file has the
    final name.

    Parameters
    ----------
    model : keras.Model
        A compiled model whose optimizer is built.
    path : str or os.PathLike
        Path of the file, which must end in ``.npz``.

    Raises
    ------
    OSError
        If the disk is full.
    """
    arrays = {
        dtype: np.concatenate([np.ravel(keras.ops.convert_to_numpy(variable)) for variable in variables])
        for dtype, variables in _by_dtype(model).items()
    }
    with written_aside(path) as temporary, explain_full_disk(Path(path), sum(flat.nbytes for flat in arrays.values())):
        np.savez(temporary, **arrays)


def restore_variables(model, path):
    """Set the variables of a model and of its optimizer to those in a file. A damaged file changes nothing.

    Parameters
    ----------
    model : keras.Model
        A compiled model of the same architecture as the saved one, whose optimizer is built.
    path : str or os.PathLike
        A file from `save_variables`.

    Raises
    ------
    ValueError
        If the file is missing, damaged or of another model.

    Examples
    --------
    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> model.optimizer.build(model.trainable_variables)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_variables(model, Path(folder) / "epoch.npz")
    ...     before = model.get_weights()
    ...     model.set_weights([weight + 1 for weight in before])
    ...     restore_variables(model, Path(folder) / "epoch.npz")
    >>> np.array_equal(model.get_weights()[0], before[0])
    True
    """
    by_dtype = _by_dtype(model)
    try:
        with Path(path).open("rb") as file, np.load(file) as kept:  # NumPy itself leaves a damaged file open
            arrays = {dtype: kept[dtype] for dtype in kept.files}
        sizes = {dtype: sum(int(np.prod(v.shape)) for v in variables) for dtype, variables in by_dtype.items()}
        if sizes != {dtype: flat.size for dtype, flat in arrays.items()}:
            raise ValueError("another number of variables")
    except _DAMAGE as error:
        raise ValueError(
            f"{path} is missing, damaged or of another network ({type(error).__name__}), but a checkpoint is needed: "
            "delete it and train again"
        ) from error
    for dtype, variables in by_dtype.items():
        ends = np.cumsum([int(np.prod(variable.shape)) for variable in variables])
        for variable, flat in zip(variables, np.split(arrays[dtype], ends[:-1]), strict=True):
            variable.assign(flat.reshape(variable.shape))


def _by_dtype(model):
    """Return the variables of a model and its optimizer in lists, by the name of their dtype."""
    found = {}
    for variable in (*model.variables, *model.optimizer.variables):  # `variables` includes the states of seeds
        found.setdefault(keras.backend.standardize_dtype(variable.dtype), []).append(variable)
    return found
