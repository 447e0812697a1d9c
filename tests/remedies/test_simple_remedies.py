"""Remedies that train no network: filters, star removal, adaptation and averages."""

import keras
import numpy as np
import pytest
from remedy_samples import NOISE, SEED, SIDE, sample_classifier, sample_given, sample_images

from galaxynb.images import to_float, turn
from galaxynb.remedies import adaptation
from galaxynb.remedies.adaptation import AdaptedBehindAutoencoder, AdaptedClassifier, SymmetryAverage, reestimate
from galaxynb.remedies.classical import StarRemoval
from galaxynb.remedies.rows import ROWS, make_remedy

CLASSICAL = [name for name, row in ROWS.items() if row[0] == "classical"]


def fitted(name, **changes):
    remedy = make_remedy(name)
    remedy.fit(sample_given(remedy.learns_from, **changes))
    return remedy


def noisy(number=6):
    images, _ = sample_images()
    return NOISE.apply(images[:number], SEED, np.arange(number))


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_filter_keeps_shape_and_range_and_chooses_a_candidate(name):
    remedy = fitted(name)
    images = noisy()
    before = images.copy()
    restored = remedy.restore(images)
    np.testing.assert_array_equal(images, before)  # the images are not changed in place
    assert restored.shape == images.shape
    assert restored.dtype == np.float32
    assert restored.min() > -0.05
    assert restored.max() < 1.05
    assert list(remedy.chosen) == [remedy.parameter]
    assert remedy.chosen[remedy.parameter] in remedy.candidates


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_filter_treats_each_image_on_its_own(name):
    remedy = fitted(name)
    images = noisy()
    np.testing.assert_array_equal(remedy.restore(images)[2:3], remedy.restore(images[2:3]))


@pytest.mark.parametrize("name", [name for name in CLASSICAL if name != "star-removal"])
def test_a_filter_lowers_the_noise_of_a_flat_image(name):
    flat = np.full((1, SIDE, SIDE, 3), 0.4, np.float32)
    grainy = flat + np.random.default_rng(0).normal(0, 0.05, flat.shape).astype(np.float32)
    remedy = make_remedy(name)
    remedy.chosen = {remedy.parameter: remedy.candidates[-1]}
    assert remedy.restore(grainy).std() < 0.8 * grainy.std()


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_filter_leaves_a_flat_image_flat(name):
    flat = np.full((1, SIDE, SIDE, 3), 0.4, np.float32)
    np.testing.assert_allclose(fitted(name).restore(flat), flat, atol=2e-3)


def star_at(x, y):
    side = 64
    rows, columns = np.mgrid[:side, :side]
    light = 0.6 * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / 1.5**2)
    sky = 0.13 + np.random.default_rng(1).normal(0, 0.02, (side, side, 3))
    return (sky + light[..., None]).astype(np.float32)[None]


def test_star_removal_fills_a_star_and_keeps_the_centre():
    remedy = StarRemoval()
    remedy.chosen = {remedy.parameter: 5.0}
    away, centred = star_at(15, 50), star_at(31.5, 31.5)
    assert away[0, 50, 15].mean() > 0.6
    assert remedy.restore(away)[0, 50, 15].mean() < 0.25
    np.testing.assert_array_equal(remedy.restore(centred)[0, 28:36, 28:36], centred[0, 28:36, 28:36])


def test_adaptation_gives_the_statistics_of_the_images():
    images = to_float(sample_images()[0])
    copy = keras.models.clone_model(sample_classifier())
    copy.set_weights(sample_classifier().get_weights())
    reestimate(copy, images)
    seen = keras.Model(copy.inputs, copy.get_layer("conv").output).predict(images, verbose=0)
    norm = copy.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=2e-2)
    trained = [
        weight for weight, kind in zip(copy.get_weights(), copy.weights, strict=True) if "moving" not in kind.name
    ]
    kept = [
        weight
        for weight, kind in zip(sample_classifier().get_weights(), copy.weights, strict=True)
        if "moving" not in kind.name
    ]
    for one, other in zip(trained, kept, strict=True):
        np.testing.assert_array_equal(one, other)


def test_statistics_of_several_batches_are_their_mean(monkeypatch):
    images = to_float(sample_images()[0])[:80]

    def adapted(some):
        copy = keras.models.clone_model(sample_classifier())
        copy.set_weights(sample_classifier().get_weights())
        norm = copy.get_layer("norm")
        momentum = norm.momentum
        reestimate(copy, some)
        assert norm.momentum == momentum
        return [np.array(variable) for variable in (norm.moving_mean, norm.moving_variance)]

    monkeypatch.setattr(adaptation, "_BATCH", 40)
    parts = [adapted(images[:40]), adapted(images[40:])]
    for whole, first, second in zip(adapted(images), *parts, strict=True):
        assert np.abs(first - second).max() > 1e-3
        np.testing.assert_allclose(whole, (first + second) / 2, rtol=1e-5)


def test_adaptation_restores_the_accuracy_on_shifted_images():
    images, labels = sample_images()
    shifted = np.clip(0.5 * to_float(images) + 0.3, 0, 1)
    classifier = sample_classifier()
    before = classifier.get_weights()
    remedy = AdaptedClassifier(32)
    remedy.fit(sample_given(remedy.learns_from))
    remedy.adapt(shifted)
    accuracy = (remedy.classify(shifted).argmax(1) == labels).mean()
    assert accuracy > (classifier.predict(shifted, verbose=0).argmax(1) == labels).mean() + 0.2
    for one, other in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_adaptation_needs_two_images():
    with pytest.raises(ValueError, match="holds 1 image, but 2 or more are needed"):
        reestimate(sample_classifier(), np.zeros((1, SIDE, SIDE, 3), np.float32))


def test_adaptation_uses_as_many_images_as_its_name_says():
    one, other = AdaptedClassifier(32), AdaptedClassifier(32)
    images = noisy(60)
    for remedy, some in ((one, images), (other, images[:32])):
        remedy.fit(sample_given(remedy.learns_from))
        remedy.adapt(some)
    np.testing.assert_array_equal(one.classify(images), other.classify(images))


def test_adaptation_behind_the_autoencoder_sees_denoised_images():
    remedy = AdaptedBehindAutoencoder(32)
    given = sample_given(remedy.learns_from)
    remedy.fit(given)
    plain = AdaptedClassifier(32)
    plain.fit(given)
    denoised = given.autoencoder.predict(noisy(40), verbose=0)
    plain.adapt(denoised)
    remedy.adapt(noisy(40))
    np.testing.assert_allclose(remedy.classify(noisy(40)), plain.classify(denoised), atol=1e-5)


def test_the_average_over_symmetries_does_not_depend_on_the_orientation():
    remedy = SymmetryAverage()
    remedy.fit(sample_given(remedy.learns_from))
    images = noisy()
    turned = turn(images, np.arange(6))
    np.testing.assert_allclose(remedy.classify(images), remedy.classify(turned), atol=1e-5)
