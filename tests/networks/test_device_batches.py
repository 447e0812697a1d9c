"""Batches made on the device have the same symmetries and train the same; noise depends on seed and epoch."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from galaxynb.compute import Execution
from galaxynb.data.splits import Split
from galaxynb.images import turn
from galaxynb.networks.autoencoder import build_autoencoder, denoiser_phase
from galaxynb.networks.checkpoints import restore_variables
from galaxynb.networks.classifier import classifier_phase
from galaxynb.networks.device_batches import DeviceFeed, turn_on_device
from galaxynb.networks.device_noise import DeviceNoise
from galaxynb.networks.models import compile_model
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


def smooth(network, loss, learning_rate, **options):
    """Compile a network for a comparison of trained weights.

    The compiled division by 255 differs from NumPy's in the last bit. If training is a smooth function of the
    images, the weights differ equally little. A kink (ReLU, clip, absolute error) between two such values changes a
    gradient far more, and Adam's first steps are as long as the learning rate, however small the gradient.
    """
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9)  # momentum, so that the optimizer has a state
    network.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax", **options)
    return network


def smooth_denoiser():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="tanh")(inputs)
    outputs = layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="sigmoid")(x)
    return smooth(keras.Model(inputs, outputs), "mean_squared_error", 1.0)


def smooth_classifier():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2, activation="tanh")(inputs))
    outputs = layers.Dense(10, activation="softmax")(layers.Flatten()(x))
    network = keras.Model(inputs, outputs)
    return smooth(network, "sparse_categorical_crossentropy", 0.01, metrics=["accuracy"])


def one_classifier_phase(images, labels, how, augment):
    return classifier_phase(images, labels, SPLIT, epochs=2, batch_size=5, seed=7, augment=augment, execution=how)


def denoiser_phases(images, how, noise=None, epochs=2, seed=3, augment=False):
    return [
        denoiser_phase(
            name, images, SPLIT, epochs=epochs, batch_size=5, seed=seed, noise=its_noise, augment=augment, execution=how
        )
        for name, its_noise in (("raw", None), ("noisy", noise))
    ]


def trained(network, phases, folder, patience=None):
    return fit(network, phases, folder, digest="recipe", patience=patience, log=lambda line: None)


def denoise(images, folder, how, noise=None, epochs=2):
    return trained(denoiser(), denoiser_phases(images, how, noise, epochs), folder)


def assert_same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_learnt_the_same(make_network, phases, folder, patience=None):
    """Train on batches from host and device, and compare.

    Measured on four kinds of CPU and two backends, rounding changes the weights by 3e-6 of the distance that training
    moves them. Another order of the batches changes them by 1e-2 of it.
    """
    begin = make_network().get_weights()
    (one, history), (other, again) = [
        trained(make_network(), phases(how), folder / how.batches_on, patience) for how in (HOST, DEVICE)
    ]
    way = max(np.abs(after - before).max() for before, after in zip(begin, one.get_weights(), strict=True))
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * way)
    measures = history.columns.difference(["epoch", "phase", "seconds"])
    np.testing.assert_allclose(history[measures], again[measures], rtol=1e-5)


def assert_same_images(from_host, from_device, feed):
    """Compare training images up to one unit in the last place: some compilers multiply by 1/255 to divide by 255."""
    trainer = feed.trainer(denoiser())
    trainer.network = layers.Identity()
    for epoch in (1, 2):
        for data in (from_host, from_device):
            data.set_epoch(epoch)
        assert len(from_host) == len(from_device) == 5
        for number in range(5):
            inputs, targets = from_host[number]
            rows, labels = from_device[number]
            made = trainer.predict_on_batch(rows)
            if feed.pairs:
                np.testing.assert_array_max_ulp(made[..., 3:], targets, maxulp=1)
                made = made[..., :3]
            else:
                np.testing.assert_array_equal(labels, targets)
            np.testing.assert_array_max_ulp(made, inputs, maxulp=1)


def test_turns_are_those_of_the_host(images):
    batch, orientations = images[:8].astype(np.float32), np.arange(8)
    expected = turn(batch, orientations)
    assert len({image.tobytes() for image in turn(np.repeat(batch[:1], 8, axis=0), orientations)}) == 8
    np.testing.assert_array_equal(ops.convert_to_numpy(turn_on_device(batch, orientations)), expected)


@pytest.mark.parametrize("augment", [False, True])
def test_a_classifier_sees_the_images_of_the_host(images, labels, augment):
    host, device = [one_classifier_phase(images, labels, how, augment) for how in (HOST, DEVICE)]
    assert host.feed is None
    assert_same_images(host.training, device.training, device.feed)


@pytest.mark.parametrize("augment", [False, True])
def test_a_denoiser_sees_the_images_of_the_host_where_there_is_no_noise(images, augment):
    host, device = [denoiser_phases(images, how, augment=augment)[0] for how in (HOST, DEVICE)]
    assert host.feed is None
    assert_same_images(host.training, device.training, device.feed)


@pytest.mark.parametrize("augment", [False, True])
def test_a_classifier_learns_the_same_as_from_the_host(images, labels, tmp_path, augment):
    def phases(how):
        return [one_classifier_phase(images, labels, how, augment)]

    assert_learnt_the_same(smooth_classifier, phases, tmp_path, patience=2)


@pytest.mark.parametrize("augment", [False, True])
def test_a_denoiser_learns_the_same_as_from_the_host_where_there_is_no_noise(images, tmp_path, augment):
    assert_learnt_the_same(smooth_denoiser, lambda how: denoiser_phases(images, how, augment=augment), tmp_path)


def test_noise_follows_from_seed_and_epoch(images, tmp_path):
    one, history = denoise(images, tmp_path / "one", DEVICE, NOISE)
    again, _ = denoise(images, tmp_path / "again", DEVICE, NOISE)
    _, without = denoise(images, tmp_path / "without", DEVICE)
    assert_same(one, again)
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

    phases = denoiser_phases(images, DEVICE, NOISE)
    with pytest.raises(Killed):
        fit(denoiser(), phases, tmp_path / "cut", digest="recipe", log=stop)
    said = []
    rest, again = fit(denoiser(), phases, tmp_path / "cut", digest="recipe", log=said.append)
    assert said[0].startswith("going on after epoch 3 of 4")
    assert_same(whole, rest)
    np.testing.assert_array_equal(history["loss"], again["loss"])


def test_what_is_saved_is_the_network_alone(images, tmp_path):
    denoise(images, tmp_path, DEVICE, NOISE, epochs=1)
    network = denoiser()
    network.optimizer.build(network.trainable_variables)
    restore_variables(network, tmp_path / "epoch-0002.npz")
    assert int(network.optimizer.iterations) == 10
    assert (tmp_path / "epoch-0002.npz").stat().st_size < images.nbytes
