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


_MOST_BITS = 24  # significant bits of float32


def pack_model(model, path, *, bits=13):
    """Write a network to a compressed `.keras` file with rounded kernels, and without the optimizer.

    Keras loads the file like any other. Rounded kernels are float32 whose last bits are 0, so they compress well.
    Vectors, such as biases and the statistics of batch normalization, are not rounded: they take little space.

    Parameters
    ----------
    model : keras.Model
        A trained network of any precision.
    path : str or os.PathLike
        Path of the file, which must end in ``.keras``.
    bits : int
        Significant bits of the arrays with two or more dimensions, from 1 to 24. With 24, nothing is rounded.

    Raises
    ------
    ValueError
        If `path` has another ending, or `bits` is out of range.

    Examples
    --------
    >>> import keras, tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pack_model(model, f"{folder}/small.keras")
    ...     loaded = keras.models.load_model(f"{folder}/small.keras")
    >>> bool(np.allclose(loaded.get_weights()[0], model.get_weights()[0], rtol=2**-13))
    True
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"model path is {path}, but a name that ends in .keras is needed: rename it")
    if not 1 <= bits <= _MOST_BITS:
        raise ValueError(f"bits is {bits}, but 1 to {_MOST_BITS} is needed: choose another number")
    with written_aside(path) as temporary:
        whole = temporary.with_name(f"{temporary.stem}-whole.keras")
        try:
            in_float32(model).save(whole)
            with zipfile.ZipFile(whole) as source, zipfile.ZipFile(temporary, "w", zipfile.ZIP_LZMA) as target:
                for name in source.namelist():
                    content = source.read(name)
                    target.writestr(name, _packed(content, bits) if name == _WEIGHTS else content)
        finally:
            whole.unlink(missing_ok=True)


def _rounded(values, bits):
    """Return numbers with fewer significant bits."""
    fractions, exponents = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(fractions, bits)), exponents - bits)


def _packed(content, bits):
    """Return the bytes of an HDF5 file with the same groups and rounded kernels."""
    made = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(made, "w") as target:

        def copy(name, item):
            if isinstance(item, h5py.Group):
                copied = target.require_group(name)
            else:
                values = _rounded(item[()], bits) if item.ndim > 1 else item[()]
                # Shuffled bytes, in one piece, make the file smaller once it is compressed.
                layout = {"chunks": item.shape, "shuffle": True} if item.ndim and item.size else {}
                copied = target.create_dataset(name, data=values, **layout)
            copied.attrs.update(item.attrs)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    return made.getvalue()
