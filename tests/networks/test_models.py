"""The two networks have the right shapes, ranges and seeds; saved models are intact or refused."""

import itertools
import re

import keras
import numpy as np
import pytest
from keras import layers

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.classifier import build_classifier
from galaxynb.networks.models import compile_model, layer_table, load_model, save_model


def random_images(n=2, side=32):
    return np.random.default_rng(0).random((n, side, side, 3), dtype=np.float32)


def same_weights(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def densenet():
    """Return the real classifier, built once because building takes seconds."""
    return build_classifier(32, bn_momentum=0.9, seed=1)


@pytest.fixture
def tiny_densenet(monkeypatch):
    """Replace DenseNet121, with its weights file, by a tiny network."""

    def build(include_top, weights, input_tensor, pooling):
        assert not include_top
        assert pooling == "avg"
        x = layers.Conv2D(4, 3, padding="same")(input_tensor)
        x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
        model = keras.Model(keras.utils.get_source_inputs(input_tensor), x)
        if weights not in (None, "imagenet"):
            model.load_weights(weights)
        return model

    monkeypatch.setattr(keras.applications, "DenseNet121", build)
    return build


@pytest.fixture
def denoiser():
    return build_autoencoder(32, filters=(4,), seed=3)


def test_the_classifier_is_a_densenet121_with_ten_classes(densenet):
    assert densenet.input_shape == (None, 32, 32, 3)
    assert densenet.output_shape == (None, len(CLASS_NAMES))
    kinds = [type(layer) for layer in densenet.layers]
    assert kinds.count(layers.Conv2D) + kinds.count(layers.Dense) == 121


def test_the_classifier_gives_probabilities(densenet):
    probabilities = keras.ops.convert_to_numpy(densenet(random_images(3)))
    assert probabilities.shape == (3, 10)
    assert probabilities.dtype == np.float32
    assert np.all(probabilities > 0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_bn_momentum_reaches_every_batch_normalization(densenet):
    momenta = [layer.momentum for layer in densenet.layers if isinstance(layer, layers.BatchNormalization)]
    assert len(momenta) > 100
    assert set(momenta) == {0.9}


@pytest.mark.usefixtures("tiny_densenet")
def test_the_classifiers_weights_follow_the_seed():
    assert same_weights(build_classifier(32, seed=5), build_classifier(32, seed=5))
    assert not same_weights(build_classifier(32, seed=5), build_classifier(32, seed=6))


@pytest.mark.parametrize("as_type", [str, lambda path: path], ids=["str", "Path"])
def test_a_weights_file_is_loaded(tiny_densenet, tmp_path, as_type):
    path = tmp_path / "base.weights.h5"
    base = tiny_densenet(False, None, keras.Input((32, 32, 3)), "avg")
    base.layers[2].set_weights([np.arange(4.0)] * 4)
    base.save_weights(path)
    model = build_classifier(32, weights=as_type(path), seed=9)
    loaded = model.get_weights()[: len(base.get_weights())]
    for expected, weights in zip(base.get_weights(), loaded, strict=True):
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.usefixtures("tiny_densenet")
def test_images_are_scaled_as_imagenets_weights_expect():
    model = build_classifier(32, weights="imagenet")
    images = random_images()
    scaled = keras.Model(model.input, model.get_layer("imagenet_scale").output)(images)
    expected = keras.applications.densenet.preprocess_input(255 * images.astype(np.float64))
    np.testing.assert_allclose(scaled, expected, atol=1e-5)


@pytest.mark.usefixtures("tiny_densenet")
def test_images_are_not_scaled_for_random_weights():
    kinds = {type(layer) for layer in build_classifier(32).layers}
    assert layers.Normalization not in kinds


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights is .*none\.h5, but there is no such file"):
        build_classifier(32, weights=tmp_path / "none.h5")


@pytest.mark.usefixtures("tiny_densenet")
@pytest.mark.parametrize("name", ["bad.h5", "bad.weights.h5", "bad.txt"])
def test_a_damaged_weights_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(ValueError, match=rf"weights is .*{re.escape(name)}, but a weights file for DenseNet121"):
        build_classifier(32, weights=tmp_path / name)


@pytest.mark.parametrize("momentum", [-0.1, 1, float("nan")])
def test_bn_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=f"bn_momentum is {momentum}"):
        build_classifier(32, bn_momentum=momentum)


@pytest.mark.parametrize("build", [build_classifier, build_autoencoder])
@pytest.mark.parametrize("side", [31, 16, 0, -32])
def test_images_below_32_px_are_refused(build, side):
    with pytest.raises(ValueError, match=rf"image_size is {side}, but 32 px or more is needed"):
        build(side)


@pytest.mark.parametrize(("side", "filters"), [(32, (4,)), (48, (2, 4)), (32, (1, 2, 3, 4, 5))])
def test_the_autoencoder_gives_images_of_the_same_shape_and_range(side, filters):
    model = build_autoencoder(side, filters=filters)
    assert model.output_shape == model.input_shape == (None, side, side, 3)
    denoised = keras.ops.convert_to_numpy(model(100 * random_images(2, side) - 50))
    assert denoised.shape == (2, side, side, 3)
    assert denoised.dtype == np.float32
    assert np.all((denoised >= 0) & (denoised <= 1))
    smallest = min(layer.output.shape[1] for layer in model.layers)
    assert smallest == side / 2 ** len(filters)


def test_the_autoencoder_is_a_chain_without_skip_connections():
    model = build_autoencoder(64, filters=(4, 8, 16))
    for before, after in zip(model.layers, model.layers[1:], strict=False):
        assert after.input is before.output, f"{after.name} does not take {before.name}'s output alone"
    kinds = [type(layer) for layer in model.layers]
    turn = kinds.index(layers.Conv2DTranspose)
    assert set(kinds[1:turn]) == {layers.Conv2D}
    assert set(kinds[turn:-1]) == {layers.Conv2DTranspose}
    assert kinds[-1] is layers.ReLU


def test_the_autoencoders_weights_follow_the_seed(denoiser):
    assert same_weights(build_autoencoder(32, filters=(4,), seed=3), denoiser)
    assert not same_weights(build_autoencoder(32, filters=(4,), seed=4), denoiser)


@pytest.mark.parametrize(("side", "filters"), [(33, (4,)), (50, (2, 2)), (40, (1,) * 6)])
def test_a_size_that_cannot_be_halved_is_refused_with_sizes_that_can(side, filters):
    with pytest.raises(ValueError, match=rf"image_size is {side}, but a multiple of \d+ is needed") as caught:
        build_autoencoder(side, filters=filters)
    proposed = [int(number) for number in re.findall(r"\d+", str(caught.value).rpartition("use ")[2])]
    assert proposed
    for other in proposed:
        assert build_autoencoder(other, filters=filters).output_shape[1] == other


def test_all_that_a_network_has_is_in_a_checkpoint(denoiser, densenet):
    """Keras does not save the state of random layers, so a network with dropout could not resume exactly."""
    for model in (denoiser, densenet):
        assert {id(variable) for variable in model.variables} == {id(variable) for variable in model.weights}
    with_dropout = keras.Sequential([keras.Input((2,)), layers.Dropout(0.5, seed=1)])
    assert len(with_dropout.variables) > len(with_dropout.weights)


def test_the_learning_rate_is_constant_or_decays_to_nothing(denoiser):
    compile_model(denoiser, "mse", learning_rate=0.01)
    assert float(denoiser.optimizer.learning_rate) == pytest.approx(0.01)
    compile_model(denoiser, "mse", learning_rate=0.01, decay_steps=50, metrics=["mae"])
    assert isinstance(denoiser.optimizer, keras.optimizers.Adam)
    schedule = denoiser.optimizer._learning_rate
    assert [float(schedule(step)) for step in (0, 25, 50)] == pytest.approx([0.01, 0.005, 0])


def test_the_layer_table_lists_every_parameter(denoiser, densenet):
    for model in (denoiser, densenet):
        table = layer_table(model)
        assert list(table.columns) == ["Layer", "Type", "Output", "Parameters"]
        assert list(table["Layer"]) == [layer.name for layer in model.layers]
        assert table["Parameters"].sum() == model.count_params()
    assert tuple(layer_table(denoiser).iloc[0]) == ("noisy", "InputLayer", "32 × 32 × 3", 0)
    assert "16 × 16 × 4" in set(layer_table(denoiser)["Output"])


def test_a_saved_model_predicts_the_same(denoiser, tmp_path):
    compile_model(denoiser, "mse", learning_rate=0.02, metrics=["mae"])
    denoiser.optimizer.build(denoiser.trainable_variables)
    path = tmp_path / "new" / "model.keras"
    save_model(denoiser, path)
    loaded = load_model(path, "04_autoencoder.ipynb")
    images = random_images(5)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), denoiser.predict(images, verbose=0), strict=True)
    assert loaded.loss == "mse"
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.02)
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("name", ["model.h5", "model", "model.keras.tmp"])
def test_only_keras_files_are_written(denoiser, tmp_path, name):
    with pytest.raises(ValueError, match=rf"model path is .*{re.escape(name)}, but a name that ends in"):
        save_model(denoiser, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_save_that_fails_leaves_the_earlier_model_alone(denoiser, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    save_model(denoiser, path)
    before = path.read_bytes()

    def half(self, temporary):
        temporary.write_bytes(before[: len(before) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", half)
    for target in (path, tmp_path / "other.keras"):
        with pytest.raises(OSError, match="No space left"):
            save_model(denoiser, target)
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"garbage" * 1000,
        lambda content: content[:2000] + bytes(200) + content[2200:],
        lambda content: b"PK\x05\x06" + bytes(18),
    ],
    ids=["empty", "half", "last byte lost", "garbage", "overwritten", "empty zip"],
)
def test_a_damaged_model_gives_one_clear_sentence(denoiser, tmp_path, damage):
    path = tmp_path / "model.keras"
    save_model(denoiser, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"model\.keras is not a readable Keras model") as caught:
        load_model(path, "notebooks/04_autoencoder.ipynb")
    assert "notebooks/04_autoencoder.ipynb again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_model_names_the_notebook(tmp_path):
    for path in (tmp_path / "model.keras", tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"is missing, but a trained model is needed: run 03_classifier\.ipynb"
        ):
            load_model(path, "03_classifier.ipynb")


def test_safe_mode_refuses_code_in_a_model(tmp_path):
    """A .keras file can hold a Python function, which must not run."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Lambda(lambda x: x + 1)(inputs))
    save_model(model, tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"lambda\.keras is not a readable Keras model") as caught:
        load_model(tmp_path / "lambda.keras", "a stranger")
    assert "arbitrary code" in str(caught.value.__cause__)


def test_dilated_layers_see_farther_with_as_many_parameters():
    """An output pixel is changed by each input pixel that it depends on, because all weights are positive."""

    def reach(dilations, depth=3):
        model = build_autoencoder(96, filters=(2,), width=2, depth=depth, dilations=dilations, seed=1)
        model.set_weights([np.full_like(weights, weights.ndim > 1) for weights in model.get_weights()])  # no bias
        inner = keras.Model(model.inputs, model.get_layer("denoised").output)
        # The kernels are separable, so it is enough to move one bright pixel along the rows.
        images = np.zeros((96, 96, 96, 3), np.float32)
        images[np.arange(96), np.arange(96), 48] = 1
        depends = np.flatnonzero(inner.predict_on_batch(images)[:, 48, 48, 0])
        return model.count_params(), depends[-1] - depends[0] + 1

    near, far = reach([1]), reach([1, 2, 4])
    deep, deep_and_far = reach([1], depth=6), reach([1, 2, 4], depth=6)
    assert (far[0], deep_and_far[0]) == (near[0], deep[0])
    assert (near[1], far[1], deep[1], deep_and_far[1]) == (21, 37, 33, 65)


@pytest.mark.parametrize("dilations", [[], [0], [1, -2]])
def test_dilations_below_one_are_told(dilations):
    with pytest.raises(ValueError, match=r"^dilations is .*, but rates of at least 1 are needed: give \[1\] for none"):
        build_autoencoder(32, dilations=dilations)


def test_middle_layers_start_close_to_the_identity():
    model = build_autoencoder(32, filters=(16,), width=16, depth=6, dilations=[1, 2], seed=2)
    parts = [model.get_layer(name).output for name in ("halve_1", "middle_1", "middle_6")]
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    before, first, last = keras.Model(model.inputs, parts).predict(images, verbose=0)
    assert np.corrcoef(before.ravel(), first.ravel())[0, 1] > 0.8
    assert np.corrcoef(before.ravel(), last.ravel())[0, 1] > 0.3
    assert 0.3 < np.sqrt(np.mean((first - before) ** 2) / np.mean(before**2)) < 0.5
    other = build_autoencoder(32, filters=(16,), width=16, depth=6, dilations=[1, 2], seed=3)
    kernels = [one.get_layer(f"middle_{k}").get_weights()[0] for one in (model, other) for k in range(1, 7)]
    for one, other in itertools.combinations(kernels, 2):
        assert not np.allclose(one, other)
