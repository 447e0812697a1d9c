"""Packed networks are small, and Keras loads them like any other file."""

import keras
import numpy as np
import pytest

from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.models import load_model, save_model
from galaxynb.networks.packing import pack_model


@pytest.fixture(scope="module")
def network():
    return build_autoencoder(32, filters=(16,), width=32, depth=3, seed=1)


def test_a_packed_network_predicts_almost_the_same(network, tmp_path):
    path = tmp_path / "small.keras"
    pack_model(network, path)
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    before, after = (one.predict(images, verbose=0) for one in (network, load_model(path, made_by="the test")))
    assert 0 < np.abs(before - after).max() < 3e-3
    save_model(network, tmp_path / "whole.keras")
    assert path.stat().st_size < 0.6 * (tmp_path / "whole.keras").stat().st_size
    assert {one.name for one in tmp_path.iterdir()} == {"small.keras", "whole.keras"}


def test_in_float32_all_weights_stay_the_same(network, tmp_path):
    pack_model(network, tmp_path / "same.keras", kernels=np.float32)
    loaded = load_model(tmp_path / "same.keras", made_by="the test")
    for one, other in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_vectors_keep_their_precision(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    tiny = [np.full_like(weight, 1e-12) for weight in model.get_weights()]
    model.set_weights(tiny)
    pack_model(model, tmp_path / "tiny.keras")
    loaded = load_model(tmp_path / "tiny.keras", made_by="the test")
    assert all((weight == np.float32(1e-12)).all() for weight in loaded.get_weights())


def test_a_value_too_large_for_the_type_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.set_weights([np.full((4, 1), 1e6, np.float32), np.zeros(1, np.float32)])
    with pytest.raises(ValueError, match=r"holds 1e\+06, but at most 65504 is allowed: pass kernels=np.float32"):
        pack_model(model, tmp_path / "large.keras")
    with pytest.raises(ValueError, match=r"ends in \.keras is needed"):
        pack_model(model, tmp_path / "large.h5")
    assert list(tmp_path.iterdir()) == []
