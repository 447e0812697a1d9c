"""The same code runs on other Keras backends, each in a separate process: jax, and torch if it is installed."""

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
from galaxynb.remedies.adaptation import reestimate
from galaxynb.remedies.remedy import run_network

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

#: Program that loads the saved networks, predicts, continues training, and saves the results.
ELSEWHERE = """
import sys, numpy as np, keras

from galaxynb.compute import choose_execution
from galaxynb.data.splits import Split
from galaxynb.networks.autoencoder import build_autoencoder, denoiser_phase
from galaxynb.networks.models import compile_model, load_model
from galaxynb.networks.training import fit
from galaxynb.noise import NoiseModel
from galaxynb.remedies.adaptation import reestimate
from galaxynb.remedies.remedy import run_network

folder, backend = sys.argv[1:]
assert keras.backend.backend() == backend
images = np.load(f"{folder}/images.npy")
made = {}
for name in ("classifier", "autoencoder"):
    model = load_model(f"{folder}/{name}.keras", "this test")
    made[name] = model.predict(images / np.float32(255), batch_size=8, verbose=0)
    if name == "classifier":
        reestimate(model, images / np.float32(255))
        made["adapted"] = run_network(model, images / np.float32(255))
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
    """Return a network with the kinds of layers that DenseNet121 has."""
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
    reestimate(networks["classifier"], images / np.float32(255))
    predictions["adapted"] = run_network(networks["classifier"], images / np.float32(255))
    assert np.abs(predictions["adapted"] - predictions["classifier"]).max() > 1e-3
    return folder, predictions


def run(*arguments, **variables):
    """Run Python with environment variables of its own."""
    command, environment = [sys.executable, *arguments], os.environ | variables
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("backend", OTHERS)
def test_another_backend_predicts_the_same_and_trains(saved, backend):
    folder, predictions = saved
    done = run("-c", ELSEWHERE, folder, backend, KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    with np.load(folder / f"{backend}.npz") as made:
        for name, expected in predictions.items():
            np.testing.assert_allclose(made[name], expected, atol=1e-4, err_msg=name)
        for place in ("host", "device"):
            assert (np.abs(made[place] - predictions["autoencoder"]) > 1e-4).any(), "training changes a network"


def test_noise_of_the_device_is_the_same_on_jax():
    """Run the main comparison of tests/networks/test_device_noise.py on jax."""
    if keras.backend.backend() == "jax":
        pytest.skip("these tests run on jax already: unset KERAS_BACKEND to run them on two backends")
    pytest.importorskip("jax", reason=f"jax is not installed: run {sys.executable} -m pip install jax")
    core = [
        "test_stars_are_drawn_as_opencv_draws_them_and_an_overlap_that_adds_up_would_be_seen",
        "test_stars_follow_the_references_law",
        "test_pixels_have_the_references_moments[64 px]",
        "test_gaussian_noise_has_its_sigma_on_mid_grey[0.1]",
        "test_the_generators_state_decides_the_bits",
        "test_fit_sees_fresh_noise_of_the_references_strength[mixed_float16]",
    ]
    tests = [f"tests/networks/test_device_noise.py::{test}" for test in core]
    # Without the flag, half of the time is spent on optimizing code that runs once.
    jax = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests, **jax)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
