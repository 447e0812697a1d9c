"""Packed networks are small, and Keras loads them like any other file."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from galaxynb.networks import packing
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
    assert 0 < np.abs(before - after).max() < 1e-3
    save_model(network, tmp_path / "whole.keras")
    assert path.stat().st_size < 0.6 * (tmp_path / "whole.keras").stat().st_size
    assert {one.name for one in tmp_path.iterdir()} == {"small.keras", "whole.keras"}


def test_with_all_bits_the_weights_stay_the_same(network, tmp_path):
    pack_model(network, tmp_path / "same.keras", bits=24)
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


@given(st.integers(1, 24), arrays(np.float32, (2, 3), elements=st.floats(-(2**100), 2**100, width=32)))
def test_rounding_changes_a_value_by_half_of_its_last_bit_at_most(bits, values):
    rounded = packing._rounded(values, bits)
    assert rounded.dtype == np.float32
    assert (np.abs(rounded.astype(float) - values) <= np.abs(values.astype(float)) * 2.0**-bits).all()
    np.testing.assert_array_equal(packing._rounded(rounded, bits), rounded)


def test_fewer_bits_make_a_smaller_file(network, tmp_path):
    sizes = []
    for bits in (8, 13, 24):
        pack_model(network, tmp_path / "packed.keras", bits=bits)
        sizes.append((tmp_path / "packed.keras").stat().st_size)
    assert sizes == sorted(set(sizes))


def test_another_ending_or_number_of_bits_is_refused(network, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.keras is needed"):
        pack_model(network, tmp_path / "packed.h5")
    for bits in (0, 25):
        with pytest.raises(ValueError, match=f"bits is {bits}, but 1 to 24 is needed"):
            pack_model(network, tmp_path / "packed.keras", bits=bits)
    assert list(tmp_path.iterdir()) == []
