"""Networks in ONNX predict what Keras predicts."""

import numpy as np
import onnxruntime
import pytest
from apply_samples import large_images, sample_networks

from galaxynb.apply import export
from galaxynb.apply.export import export_onnx


def test_both_networks_predict_the_same_for_any_number_of_images(tmp_path):
    networks = sample_networks()
    differences = export_onnx(networks, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"classifier.onnx", "autoencoder.onnx"}
    assert max(differences.values()) < 1e-4
    for name in ("classifier", "autoencoder"):
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for number in (1, 5):
            images = large_images(number, 32)[0] / np.float32(255)
            (found,) = session.run(None, {session.get_inputs()[0].name: images})
            expected = getattr(networks, name).predict(images, verbose=0)
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_network_that_differs_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST", -1.0)
    with pytest.raises(RuntimeError, match="the classifier in ONNX differs by"):
        export_onnx(sample_networks(), tmp_path)
    assert list(tmp_path.iterdir()) == []
