"""Export the two networks to ONNX, which other programs and languages can run without Keras."""

import warnings
from pathlib import Path

import numpy as np

from galaxynb.files import written_aside

__all__ = ["LARGEST", "export_onnx"]


#: Largest difference between Keras's predictions and those of onnxruntime.
LARGEST = 1e-3

_COMPARED = 8  # random images on which the two are compared


def export_onnx(networks, folder):
    """Write the networks as ``classifier.onnx`` and ``autoencoder.onnx``, and compare their predictions with Keras's.

    Parameters
    ----------
    networks : galaxynb.apply.networks.Networks
        The trained networks.
    folder : str or os.PathLike
        Folder for the two files. Each appears only after the comparison.

    Returns
    -------
    dict of float
        Largest difference between the predictions of Keras and of onnxruntime on random images, by network.

    Raises
    ------
    RuntimeError
        If a difference is above 0.001.
    """
    import onnxruntime

    differences = {}
    images = np.random.default_rng(0).random((_COMPARED, networks.side, networks.side, 3), np.float32)
    for name in ("classifier", "autoencoder"):
        model = getattr(networks, name)
        expected = np.asarray(model(images))  # Keras exports only networks that have been called
        with written_aside(Path(folder, f"{name}.onnx")) as temporary:
            with warnings.catch_warnings():
                # Keras's exporter asks NumPy for a type that NumPy warns about.
                warnings.filterwarnings("ignore", message=".*`np.object`", category=FutureWarning)
                model.export(temporary, format="onnx", verbose=False)
            session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
            (found,) = session.run(None, {session.get_inputs()[0].name: images})
            differences[name] = float(np.abs(found - expected).max())
            if not differences[name] <= LARGEST:  # also if it is NaN
                raise RuntimeError(
                    f"the {name} in ONNX differs by {differences[name]:.2g} from Keras's, but at most {LARGEST:g} is"
                    " needed: update tf2onnx and onnxruntime"
                )
    return differences
