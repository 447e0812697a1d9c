"""Batches made on the device: the same symmetries, the same training, noise that follows from seed and epoch."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from galaxynb import models, training
from galaxynb.compute import Execution
from galaxynb.data import Split
from galaxynb.noise import NoiseModel
from galaxynb.noise_ops import DeviceNoise
from galaxynb.ondevice import Feed, turned

SIDE = 32
HOST = Execution("any", "cpu", False, "float32", "host", "")
DEVICE = Execution("any", "cpu", False, "float32", "device", "")
SPLIT = Split(np.arange(24)[::-1], np.arange(24, 32), np.arange(32, 40))
NOISE = NoiseModel(n_stars=(2, 5))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def labels():
    return np.arange(40) % 10


def compiled(model, loss, **options):
    return models.compile_model(model, loss, jit=keras.backend.backend() == "jax", **options)


def denoiser():
    return compiled(models.autoencoder(SIDE, filters=(4,), width=4, depth=1, seed=1), "mean_absolute_error")


def tiny_classifier():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2, activation="relu")(inputs))
    outputs = layers.Dense(10, activation="softmax")(layers.Flatten()(x))
    return compiled(keras.Model(inputs, outputs), "sparse_categorical_crossentropy", metrics=["accuracy"])


def denoise(images, folder, how, noise=None, epochs=2, seed=3, augment=False):
    phases = [
        training.denoiser_phase(name, images, SPLIT, epochs, 5, seed, its_noise, augment, how, DeviceNoise)
        for name, its_noise in (("raw", None), ("noisy", noise))
    ]
    return training.fit(denoiser(), phases, folder, "recipe", say=lambda line: None)


def assert_same(one, other, **tolerance):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def test_turns_are_those_of_the_host(images):
    batch, orientations = images[:8].astype(np.float32), np.arange(8)
    expected = training._turned(batch, orientations)
    assert len({image.tobytes() for image in training._turned(np.repeat(batch[:1], 8, axis=0), orientations)}) == 8
    np.testing.assert_array_equal(ops.convert_to_numpy(turned(batch, orientations)), expected)


@pytest.mark.parametrize("augment", [False, True])
def test_a_classifier_learns_the_same_as_from_the_host(images, labels, tmp_path, augment):
    trained = []
    for how in (HOST, DEVICE):
        phase = training.classifier_phase(images, labels, SPLIT, 2, 5, 7, augment, how)
        assert (phase.feed is None) == (how is HOST)
        folder = tmp_path / how.supply
        trained.append(training.fit(tiny_classifier(), [phase], folder, "recipe", patience=2, say=lambda line: None))
    (one, history), (other, again) = trained
    assert_same(one, other, rtol=1e-3, atol=1e-5)
    columns = ["loss", "accuracy", "val_loss", "val_accuracy"]
    np.testing.assert_allclose(history[columns], again[columns], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("augment", [False, True])
def test_a_denoiser_learns_the_same_as_from_the_host_where_there_is_no_noise(images, tmp_path, augment):
    (one, history), (other, again) = [
        denoise(images, tmp_path / how.supply, how, augment=augment) for how in (HOST, DEVICE)
    ]
    assert_same(one, other, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(history["val_loss"], again["val_loss"], rtol=1e-4)


def test_noise_follows_from_seed_and_epoch(images, tmp_path):
    one, history = denoise(images, tmp_path / "one", DEVICE, NOISE)
    again, _ = denoise(images, tmp_path / "again", DEVICE, NOISE)
    _, without = denoise(images, tmp_path / "without", DEVICE)
    assert_same(one, again, rtol=0)
    np.testing.assert_array_equal(history["loss"][:2], without["loss"][:2])  # the raw phase
    assert (history["loss"][2:] != without["loss"][2:]).all()


def test_epochs_have_noise_of_their_own(images):
    feed = Feed(images, pairs=True, noise=DeviceNoise(NOISE, SIDE), seed=1)
    trainer = feed.trainer(denoiser())
    trainer.network = keras.layers.Identity()
    batch = {"row": np.arange(4, dtype=np.int32), "orientation": np.zeros(4, np.int32)}

    def made(epoch):
        feed.set_epoch(epoch)
        return ops.convert_to_numpy(trainer(batch))

    first, again, second = made(1), made(1), made(2)
    np.testing.assert_array_equal(first, again)
    assert (first[..., :3] != second[..., :3]).mean() > 0.5
    np.testing.assert_allclose(first[..., 3:], images[:4] / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(second[..., 3:], first[..., 3:])


def test_an_interrupted_training_ends_like_an_uninterrupted_one(images, tmp_path):
    whole, history = denoise(images, tmp_path / "whole", DEVICE, NOISE)

    class Killed(Exception):  # noqa: N818 - it is no error
        pass

    def stop(line):
        if line.startswith("epoch   3/4"):
            raise Killed

    phases = [
        training.denoiser_phase(name, images, SPLIT, 2, 5, 3, noise, False, DEVICE, DeviceNoise)
        for name, noise in (("raw", None), ("noisy", NOISE))
    ]
    with pytest.raises(Killed):
        training.fit(denoiser(), phases, tmp_path / "cut", "recipe", say=stop)
    said = []
    rest, again = training.fit(denoiser(), phases, tmp_path / "cut", "recipe", say=said.append)
    assert said[0].startswith("going on after epoch 3 of 4")
    assert_same(whole, rest, rtol=0)
    np.testing.assert_array_equal(history["loss"], again["loss"])


def test_what_is_saved_is_the_network_alone(images, tmp_path):
    denoise(images, tmp_path, DEVICE, NOISE, epochs=1)
    saved = models.load(tmp_path / "epoch-0002.keras", "this test")
    assert saved.name == "autoencoder"
    assert int(saved.optimizer.iterations) == 10
    assert (tmp_path / "epoch-0002.keras").stat().st_size < images.nbytes
