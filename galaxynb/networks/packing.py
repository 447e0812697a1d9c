"""Write trained networks to small files, which Keras itself can load."""

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np

from galaxynb.files import written_aside
from galaxynb.networks.models import in_float32

__all__ = ["pack_model"]

_WEIGHTS = "model.weights.h5"  # Keras's name of the weights in a .keras file


def pack_model(model, path, *, kernels=np.float16):
    """Write a network to a compressed `.keras` file with float16 kernels by default, and without the optimizer.

    Keras loads the file like any other, into float32. Vectors, such as biases and the statistics of batch
    normalization, stay in float32: they take little space, and variances can underflow in float16.

    Parameters
    ----------
    model : keras.Model
        A trained network of any precision.
    path : str or os.PathLike
        Path of the file, which must end in ``.keras``.
    kernels : numpy.dtype
        Type of the arrays with two or more dimensions: float16 or float32.

    Raises
    ------
    ValueError
        If `path` has another ending, or a kernel holds a value that the type cannot hold.

    Examples
    --------
    >>> import keras, tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pack_model(model, f"{folder}/small.keras")
    ...     loaded = keras.models.load_model(f"{folder}/small.keras")
    >>> bool(np.allclose(loaded.get_weights()[0], model.get_weights()[0], rtol=1e-3))
    True
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"model path is {path}, but a name that ends in .keras is needed: rename it")
    for weight in model.get_weights():
        if weight.ndim > 1 and np.abs(weight).max(initial=0) > np.finfo(kernels).max:
            raise ValueError(
                f"a kernel of {model.name} holds {np.abs(weight).max():g}, but at most {np.finfo(kernels).max:g} is"
                " allowed: pass kernels=np.float32"
            )
    with written_aside(path) as temporary:
        whole = temporary.with_name(f"{temporary.stem}-whole.keras")
        try:
            in_float32(model).save(whole)
            with zipfile.ZipFile(whole) as source, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as target:
                for name in source.namelist():
                    content = source.read(name)
                    target.writestr(name, _packed(content, kernels) if name == _WEIGHTS else content)
        finally:
            whole.unlink(missing_ok=True)


def _packed(content, kernels):
    """Return the bytes of an HDF5 file with the same groups, and its kernels in another type."""
    made = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(made, "w") as target:

        def copy(name, item):
            if isinstance(item, h5py.Group):
                copied = target.require_group(name)
            else:
                values = item[()].astype(kernels) if item.ndim > 1 else item[()]
                filters = {"compression": "gzip", "shuffle": True} if item.ndim else {}
                copied = target.create_dataset(name, data=values, **filters)
            copied.attrs.update(item.attrs)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    return made.getvalue()
