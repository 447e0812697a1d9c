"""What the retrained classifiers see: in training, and when they are used."""

import keras
import numpy as np
import pytest
from remedy_samples import NOISE, SEED, sample_autoencoder, sample_classifier, sample_given, sample_images

from galaxynb.images import to_float
from galaxynb.remedies import judges
from galaxynb.remedies.judges import BothTrained, FinetunedOnClean, FinetunedOnRestored, HalfNoisy, TrainedOnNoisy
from galaxynb.remedies.remedy import run_network
from galaxynb.remedies.training import Fitted


@pytest.fixture
def fit(monkeypatch):
    """Return a function that fits a remedy without a training, and returns the phase that it would have trained."""
    seen = []
    small = sample_classifier()
    monkeypatch.setattr(judges, "build_classifier", lambda side, **options: keras.models.clone_model(small))
    monkeypatch.setattr(
        judges, "fit_phases", lambda given, model, phases, **options: seen.extend(phases) or Fitted(model, 1.0, ())
    )

    def fitted(remedy):
        remedy.fit(sample_given())
        return seen.pop()

    return fitted


def shown(rows):
    """Return the versions of the images of `rows` that a classifier may see, by name."""
    images = sample_images()[0][rows]
    clean, noisy = to_float(images), NOISE.apply(images, SEED, rows)
    behind = {name: run_network(sample_autoencoder(), version) for name, version in (("c", clean), ("n", noisy))}
    return {"clean": clean, "noisy": noisy, "clean, denoised": behind["c"], "denoised": behind["n"]}


@pytest.mark.parametrize(
    ("kind", "versions", "behind"),
    [
        (TrainedOnNoisy, {"noisy"}, False),
        (HalfNoisy, {"clean", "noisy"}, False),
        (FinetunedOnRestored, {"denoised"}, True),
        (FinetunedOnClean, {"clean"}, True),
        (BothTrained, {"clean, denoised", "denoised"}, True),
    ],
)
def test_a_classifier_is_trained_on_what_its_name_says(fit, kind, versions, behind):
    remedy = kind()
    batches = fit(remedy).validation  # as in training, but not turned, and in a known order
    found = set()
    for number in range(len(batches)):
        rows, _ = batches.batch(number)
        images, labels = batches[number]
        np.testing.assert_array_equal(labels, sample_images()[1][rows])
        known = shown(rows)
        for place in range(len(rows)):
            distances = {name: np.abs(images[place] - version[place]).max() for name, version in known.items()}
            nearest = min(distances, key=distances.get)
            assert distances[nearest] < 1e-5
            found.add(nearest)
    assert found == versions
    classifier, noisy = remedy._classifier, shown(np.arange(8))["noisy"]
    seen = run_network(sample_autoencoder(), noisy) if behind else noisy
    np.testing.assert_allclose(remedy.classify(noisy), run_network(classifier, seen), atol=1e-6)


def test_the_control_is_trained_as_long_and_on_the_same_turned_galaxies(fit):
    tested, control = fit(FinetunedOnRestored()), fit(FinetunedOnClean())
    assert tested.epochs == control.epochs
    tested.training.set_epoch(1)
    control.training.set_epoch(1)
    for one, other in zip(tested.training.batch(0), control.training.batch(0), strict=True):
        np.testing.assert_array_equal(one, other)
