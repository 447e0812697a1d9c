"""Remedies that train a network lower its loss, resume, and respect what they may learn from."""

import numpy as np
import pytest
from remedy_samples import NOISE, NUMBER, SEED, SIDE, sample_given, sample_images

from galaxynb.images import to_float
from galaxynb.networks.restorers import build_nafnet, build_unet
from galaxynb.remedies import restorers
from galaxynb.remedies.remedy import Training
from galaxynb.remedies.restorers import FeatureUNet, Noise2Noise, UNet
from galaxynb.remedies.stars import CatalogueNoise, measure_stars
from galaxynb.remedies.trial import describe


@pytest.mark.parametrize("build", [build_unet, build_nafnet])
def test_a_new_network_clips_little_of_the_sky(build):
    sky = np.full((2, 32, 32, 3), 0.15, np.float32)
    found = build(32, seed=1).predict(sky, verbose=0)
    # Where outputs are clipped, no gradient flows. If all are, the network cannot learn.
    assert ((found > 0) & (found < 1)).mean() > 0.8


@pytest.mark.parametrize("build", [build_unet, build_nafnet])
def test_a_network_has_about_as_many_parameters_as_the_autoencoder(build):
    assert 0.75 < build(64).count_params() / 145_699 < 1.25


@pytest.mark.parametrize("build", [build_unet, build_nafnet])
def test_a_side_that_cannot_be_halved_is_told(build):
    with pytest.raises(ValueError, match="image_size is 38"):
        build(38)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(restorers, "build_unet", lambda side, **options: build_unet(side, filters=(8, 8), **options))
    monkeypatch.setattr(UNet, "_build", staticmethod(restorers.build_unet))


def noisy():
    images, _ = sample_images()
    return NOISE.apply(images, SEED, np.arange(NUMBER))


@pytest.mark.parametrize("kind", [UNet, Noise2Noise, FeatureUNet])
def test_a_trained_network_comes_closer_to_the_clean_images(kind, small):
    remedy = kind()
    settings = Training(restorer_epochs=20, restorer_batch_size=8, restorer_rate=0.01)
    remedy.fit(sample_given(remedy.learns_from, training=settings))
    clean, before = to_float(sample_images()[0]), noisy()
    restored = remedy.restore(before)
    assert restored.shape == before.shape
    assert np.abs(restored - clean).mean() < 0.95 * np.abs(before - clean).mean()
    assert remedy.parameters > 0
    assert remedy.seconds > 0


def test_an_interrupted_training_is_resumed(small, tmp_path):
    lines = []
    for _ in range(2):
        remedy = UNet()
        remedy.fit(sample_given(remedy.learns_from, folder=tmp_path, log=lines.append))
    assert sum(line.startswith("epoch") for line in lines) == 2  # two epochs, trained once
    assert any(line.startswith("going on after epoch 2 of 2") for line in lines)


def test_devices_that_finished_an_epoch_are_recorded(small, tmp_path):
    def trained(device, epochs=2, log=print):
        remedy = UNet()
        # The digest of the sample does not depend on the epochs, so more epochs continue the training.
        more = Training(restorer_epochs=epochs, restorer_batch_size=8)
        remedy.fit(sample_given(remedy.learns_from, training=more, folder=tmp_path, device=device, log=log))
        return describe(remedy)["trained on"]

    def interrupt(line):
        raise KeyboardInterrupt

    assert trained("a GPU") == ["a GPU"]
    assert trained("a CPU") == ["a GPU"]  # nothing was left to train
    with pytest.raises(KeyboardInterrupt):
        trained("another GPU", epochs=3, log=interrupt)  # at its first line, before its first epoch
    assert trained("a CPU", epochs=3) == ["a GPU", "a CPU"]
    assert trained("a GPU", epochs=3) == ["a GPU", "a CPU"]


def test_the_frozen_classifier_stays_as_it_is(small):
    given = sample_given()
    before = given.classifier.get_weights()
    FeatureUNet().fit(given)
    assert given.classifier.trainable
    for one, other in zip(before, given.classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def starry(number=6):
    """Return images with a flat, noisy sky and four stars of standard deviation 1 px at known places."""
    rows, columns = np.mgrid[:64, :64]
    sky = 33 + np.random.default_rng(0).normal(0, 2, (number, 64, 64, 3))
    for x, y in ((8, 8), (50, 12), (12, 52), (55, 55)):
        sky += (120 * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2)))[..., None] * np.array([1, 0.8, 0.6])
    return np.round(sky).clip(0, 255).astype(np.uint8)


def test_stars_of_the_images_are_measured():
    found = measure_stars(starry(), np.arange(6), like=NOISE)
    assert len(found.widths) == 24
    np.testing.assert_allclose(found.widths, 1.0, rtol=0.15)
    expected = 120 / 255 * 2 * np.pi * np.array([1, 0.8, 0.6])
    np.testing.assert_allclose(np.median(found.fluxes, axis=0), expected, rtol=0.12)


def test_images_without_stars_are_told():
    with pytest.raises(ValueError, match="6 images hold no clear star"):
        measure_stars(np.full((6, 64, 64, 3), 33, np.uint8), np.arange(6), like=NOISE)


def test_catalogue_noise_depends_on_seed_epoch_and_index_alone():
    noise = CatalogueNoise(fluxes=np.ones((3, 3)), widths=np.array([1.0, 1.5, 2.0]), like=NOISE)
    images = sample_images()[0][:5]
    rows = np.arange(5)
    whole = noise.apply(images, 3, rows, epoch=2)
    assert whole.dtype == np.float32
    assert 0 <= whole.min() <= whole.max() <= 1
    np.testing.assert_array_equal(whole[[3, 1]], noise.apply(images[[3, 1]], 3, rows[[3, 1]], epoch=2))
    assert not np.array_equal(whole, noise.apply(images, 3, rows, epoch=3))
    assert not np.array_equal(whole, noise.apply(images, 4, rows, epoch=2))


def test_catalogue_stars_add_the_flux_of_the_catalogue():
    quiet = CatalogueNoise(
        fluxes=np.full((1, 3), 2.0), widths=np.array([1.5]), like=type(NOISE)(sigma=0, n_stars=(1, 1))
    )
    dark = np.zeros((40, SIDE, SIDE, 3), np.uint8)
    added = quiet.apply(dark, 1, np.arange(40)).sum(axis=(1, 2))
    assert np.median(added) == pytest.approx(2.0, rel=0.02)  # stars at the border lose some light
