"""The same code on other Keras backends, each in a process of its own: jax always, torch where it is installed."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from paths import ROOT

from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.models import save_model

OTHERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None,
            reason=f"{name} is not installed: run {sys.executable} -m pip install {name}",
        ),
    )
    for name in ("jax", "torch", "tensorflow")
    if name != keras.backend.backend()
]

#: Loads what this process saved, predicts, trains on, and leaves both.
ELSEWHERE = """
import sys, numpy as np, keras

from galaxynb.compute import choose_execution
from galaxynb.data.splits import Split
from galaxynb.networks.autoencoder import build_autoencoder, denoiser_phase
from galaxynb.networks.models import compile_model, load_model
from galaxynb.networks.training import fit
from galaxynb.noise import NoiseModel

folder, backend = sys.argv[1:]
assert keras.backend.backend() == backend
images = np.load(f"{folder}/images.npy")
made = {}
for name in ("classifier", "autoencoder"):
    model = load_model(f"{folder}/{name}.keras", "this test")
    made[name] = model.predict(images / np.float32(255), batch_size=8, verbose=0)
split = Split(np.arange(8), np.arange(8, 12), np.arange(12, 16))
for place in ("host", "device"):
    execution = choose_execution(batches_on=place)
    network = build_autoencoder(32, filters=(4,), width=4, depth=1, seed=1)
    compile_model(network, "mean_absolute_error", jit=execution.jit)
    model = NoiseModel(n_stars=(1, 3))
    options = {"epochs": 1, "batch_size": 4, "seed": 1, "noise": model, "augment": True, "execution": execution}
    phase = denoiser_phase("noisy", images, split, **options)
    network, history = fit(network, [phase], f"{folder}/{backend}-{place}", digest="recipe", log=lambda line: None)
    assert np.isfinite(history["val_loss"]).all()
    made[place] = network.predict(images / np.float32(255), batch_size=8, verbose=0)
np.savez(f"{folder}/{backend}.npz", **made)
"""


def small_classifier():
    """Return a network with the kinds of layers DenseNet121 is made of."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((32, 32, 3))
    x = layers.ZeroPadding2D(3)(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization(epsilon=1.001e-5)(layers.Conv2D(8, 7, strides=2)(x)))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same", use_bias=False)(x)])
    x = layers.GlobalAveragePooling2D()(layers.AveragePooling2D(2)(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save two networks and images; return the folder and this backend's predictions."""
    folder = tmp_path_factory.mktemp("backends")
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    np.save(folder / "images.npy", images)
    networks = {"classifier": small_classifier(), "autoencoder": build_autoencoder(32, filters=(4,), seed=1)}
    predictions = {}
    for name, network in networks.items():
        save_model(network, folder / f"{name}.keras")
        predictions[name] = network.predict(images / np.float32(255), batch_size=8, verbose=0)
    return folder, predictions


@pytest.mark.parametrize("backend", OTHERS)
def test_another_backend_predicts_the_same_and_trains(saved, backend):
    folder, predictions = saved
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, folder, backend],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / f"{backend}.npz") as made:
        for name, expected in predictions.items():
            np.testing.assert_allclose(made[name], expected, atol=1e-4, err_msg=name)
        for place in ("host", "device"):
            assert (np.abs(made[place] - predictions["autoencoder"]) > 1e-4).any(), "training changes a network"
