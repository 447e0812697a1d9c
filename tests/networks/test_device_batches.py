"""Batches made on the device: the same symmetries, the same training, noise that follows from seed and epoch."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from galaxynb.compute import Execution
from galaxynb.data.splits import Split
from galaxynb.images import turn
from galaxynb.networks.autoencoder import build_autoencoder, denoiser_phase
from galaxynb.networks.classifier import classifier_phase
from galaxynb.networks.device_batches import DeviceFeed, turn_on_device
from galaxynb.networks.device_noise import DeviceNoise
from galaxynb.networks.models import compile_model, load_model
from galaxynb.networks.training import fit
from galaxynb.noise import NoiseModel

SIDE = 32
HOST, DEVICE = (
    Execution(backend="any", device="cpu", jit=False, precision="float32", batches_on=place, reason="")
    for place in ("host", "device")
)
SPLIT = Split(np.arange(24)[::-1], np.arange(24, 32), np.arange(32, 40))
NOISE = NoiseModel(n_stars=(2, 5))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def labels():
    return np.arange(40) % 10


def compiled(model, loss, **options):
    return compile_model(model, loss, jit=keras.backend.backend() == "jax", **options)


def denoiser():
    return compiled(build_autoencoder(SIDE, filters=(4,), width=4, depth=1, seed=1), "mean_absolute_error")


def tiny_classifier():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2, activation="relu")(inputs))
    outputs = layers.Dense(10, activation="softmax")(layers.Flatten()(x))
    return compiled(keras.Model(inputs, outputs), "sparse_categorical_crossentropy", metrics=["accuracy"])


def denoise(images, folder, how, noise=None, epochs=2, seed=3, augment=False):
    phases = [
        denoiser_phase(
            name,
            images,
            SPLIT,
            epochs=epochs,
            batch_size=5,
            seed=seed,
            noise=its_noise,
            augment=augment,
            execution=how,
            device_noise=DeviceNoise,
        )
        for name, its_noise in (("raw", None), ("noisy", noise))
    ]
    return fit(denoiser(), phases, folder, digest="recipe", log=lambda line: None)


def assert_same(one, other, **tolerance):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def test_turns_are_those_of_the_host(images):
    batch, orientations = images[:8].astype(np.float32), np.arange(8)
    expected = turn(batch, orientations)
    assert len({image.tobytes() for image in turn(np.repeat(batch[:1], 8, axis=0), orientations)}) == 8
    np.testing.assert_array_equal(ops.convert_to_numpy(turn_on_device(batch, orientations)), expected)


@pytest.mark.parametrize("augment", [False, True])
def test_a_classifier_learns_the_same_as_from_the_host(images, labels, tmp_path, augment):
    trained = []
    for how in (HOST, DEVICE):
        phase = classifier_phase(images, labels, SPLIT, epochs=2, batch_size=5, seed=7, augment=augment, execution=how)
        assert (phase.feed is None) == (how is HOST)
        folder = tmp_path / how.batches_on
        trained.append(fit(tiny_classifier(), [phase], folder, digest="recipe", patience=2, log=lambda line: None))
    (one, history), (other, again) = trained
    assert_same(one, other, rtol=1e-3, atol=1e-5)
    columns = ["loss", "accuracy", "val_loss", "val_accuracy"]
    np.testing.assert_allclose(history[columns], again[columns], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("augment", [False, True])
def test_a_denoiser_learns_the_same_as_from_the_host_where_there_is_no_noise(images, tmp_path, augment):
    (one, history), (other, again) = [
        denoise(images, tmp_path / how.batches_on, how, augment=augment) for how in (HOST, DEVICE)
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
    feed = DeviceFeed(images, pairs=True, noise=DeviceNoise(NOISE, SIDE), seed=1)
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
        denoiser_phase(
            name,
            images,
            SPLIT,
            epochs=2,
            batch_size=5,
            seed=3,
            noise=noise,
            augment=False,
            execution=DEVICE,
            device_noise=DeviceNoise,
        )
        for name, noise in (("raw", None), ("noisy", NOISE))
    ]
    with pytest.raises(Killed):
        fit(denoiser(), phases, tmp_path / "cut", digest="recipe", log=stop)
    said = []
    rest, again = fit(denoiser(), phases, tmp_path / "cut", digest="recipe", log=said.append)
    assert said[0].startswith("going on after epoch 3 of 4")
    assert_same(whole, rest, rtol=0)
    np.testing.assert_array_equal(history["loss"], again["loss"])


def test_what_is_saved_is_the_network_alone(images, tmp_path):
    denoise(images, tmp_path, DEVICE, NOISE, epochs=1)
    saved = load_model(tmp_path / "epoch-0002.keras", "this test")
    assert saved.name == "autoencoder"
    assert int(saved.optimizer.iterations) == 10
    assert (tmp_path / "epoch-0002.keras").stat().st_size < images.nbytes
