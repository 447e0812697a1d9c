"""The strength of the noise is found where the accuracy meets its target, and is sane where none does."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxynb.networks.calibration import (
    calibrate_strength,
    measure_strength,
    predict_noisy,
    read_calibration,
    remembered,
)
from galaxynb.noise import NoiseModel

NOISE = NoiseModel(sigma=0.02, n_stars=(2, 8), radius=(0.05, 0.1), brightness=(0.5, 1), blur=(0.1, 0.2))
IMAGES = np.full((150, 16, 16, 3), 40, np.uint8)
LABELS = np.ones(150, int)
ROWS = np.arange(0, 150, 2)


def darker_than(limit):
    """Return a classifier that is right as long as an image is darker than `limit`."""
    return lambda images: np.where(images.mean(axis=(1, 2, 3)) < limit, 1, 0)


def calibrated(predict, *, noise=NOISE, labels=LABELS, indices=ROWS, kept_share=0.45, **options):
    return calibrate_strength(
        noise, predict, IMAGES, labels=labels, indices=indices, seed=7, kept_share=kept_share, **options
    )


@settings(max_examples=30, deadline=None)
@given(limit=st.floats(0.17, 0.5), kept_share=st.floats(0.1, 0.9))
def test_a_classifier_that_falls_with_brightness_is_met_at_its_target(limit, kept_share):
    found = calibrated(darker_than(limit), kept_share=kept_share)
    assert found.clean == 1
    assert found.target == kept_share
    assert 0 < found.noise.strength <= 8
    assert replace(found.noise, strength=1) == NOISE
    assert len(found.evaluations) <= 11
    strengths, accuracies = found.evaluations["strength"], found.evaluations["accuracy"]
    off = (accuracies - found.target).abs()[1:]
    assert abs(found.noisy - found.target) == off.min()
    assert found.noisy == accuracies[strengths == found.noise.strength].item()
    assert found.reached == (off.min() <= 0.5 / len(ROWS))
    predicted = predict_noisy(found.noise, darker_than(limit), IMAGES, indices=ROWS, seed=7)
    assert np.mean(predicted == 1) == found.noisy
    # The accuracy of this classifier falls with the strength, so the bisection ends within one step of the target.
    if not found.reached and accuracies.min() < found.target:
        above, below = strengths[accuracies > found.target].max(), strengths[accuracies < found.target].min()
        assert below - above < 0.07


def test_the_same_call_gives_the_same_and_another_seed_another_result():
    one, again = (calibrated(darker_than(0.25)) for _ in range(2))
    assert one.noise == again.noise
    assert one.evaluations.equals(again.evaluations)
    predict = darker_than(0.25)
    other = calibrate_strength(NOISE, predict, IMAGES, labels=LABELS, indices=ROWS, seed=8, kept_share=0.45)
    assert not other.evaluations.equals(one.evaluations)


def test_only_the_named_images_are_used():
    seen = []

    def predict(images):
        seen.append(images)
        return darker_than(0.25)(images)

    marked = IMAGES.copy()
    marked[1::2] = 255  # all other rows
    found = calibrate_strength(NOISE, predict, marked, labels=LABELS, indices=ROWS, seed=7, kept_share=0.45)
    assert found.noise == calibrated(darker_than(0.25)).noise
    assert max(np.concatenate(seen).mean(axis=(1, 2, 3))) < 0.9
    labels = LABELS.copy()
    labels[1::2] = 5
    assert calibrated(darker_than(0.25), labels=labels).noise == found.noise


@pytest.mark.parametrize("number", [1, 9])
def test_a_classifier_that_noise_does_not_harm_keeps_the_default_strength(number):
    found = calibrated(lambda images: np.full(len(images), 1), indices=ROWS[:number])
    assert found.noise.strength == 1
    assert not found.reached
    assert (found.clean, found.noisy, found.target) == (1, 1, 0.45)
    assert found.evaluations["strength"].tolist() == [0, 1, 2, 4, 8]
    assert "is not reached" in found.text()


def test_the_brightest_noise_is_taken_if_even_that_is_not_enough():
    harmed = calibrated(darker_than(0.17), noise=NoiseModel(sigma=0, n_stars=(0, 1), brightness=(0.02, 0.05)))
    assert harmed.noisy > harmed.target
    assert not harmed.reached
    assert harmed.evaluations["strength"].max() == 8
    assert harmed.noisy == harmed.evaluations["accuracy"][1:].min()


def test_a_classifier_that_is_never_right_needs_no_search():
    found = calibrated(lambda images: np.zeros(len(images), int))
    assert (found.clean, found.target, found.noise.strength, found.reached) == (0, 0, 1, True)
    assert len(found.evaluations) == 2


def test_no_noise_at_all_is_no_reason_to_stop():
    found = calibrated(darker_than(0.25), noise=NoiseModel(sigma=0, n_stars=(0, 0)))
    assert (found.noise.strength, found.reached) == (1, False)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0, 1), st.integers(1, 6))
def test_a_meaningless_classifier_gets_a_finite_strength(seed, number, kept_share, n_evaluations):
    rng = np.random.default_rng(seed)
    found = calibrated(
        lambda images: rng.integers(0, 3, len(images)),
        indices=ROWS[:number],
        kept_share=kept_share,
        n_evaluations=n_evaluations,
    )
    assert math.isfinite(found.noise.strength)
    assert 0 < found.noise.strength <= 8
    assert len(found.evaluations) <= n_evaluations + 1
    # A step of one image is as close as so few images allow.
    assert found.reached == (abs(found.noisy - found.target) <= max(0.005, 0.5 / number))


@pytest.mark.parametrize("strength", [0, 0.5, 3])
def test_a_given_strength_stays_as_it_is_and_is_measured(strength):
    noise = replace(NOISE, strength=strength)
    options = {"labels": LABELS, "indices": ROWS, "seed": 7}
    found = measure_strength(noise, darker_than(0.25), IMAGES, kept_share=0.45, **options)
    assert found.noise == noise
    assert found.calibrated is False
    assert found.evaluations["strength"].tolist() == ([0, strength] if strength else [0])
    predicted = predict_noisy(noise, darker_than(0.25), IMAGES, indices=ROWS, seed=7)
    assert found.noisy == np.mean(predicted == 1)
    assert "was given" in found.text()


def test_images_in_several_parts_have_the_same_classes(monkeypatch):
    whole = predict_noisy(NOISE, darker_than(0.25), IMAGES, indices=ROWS, seed=7)
    monkeypatch.setattr("galaxynb.networks.calibration._AT_ONCE", 8)
    parts = predict_noisy(NOISE, darker_than(0.25), IMAGES, indices=ROWS, seed=7)
    np.testing.assert_array_equal(parts, whole)
    assert 0 < np.mean(whole) < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kept_share": 1.2}, r"kept_share is 1\.2, but a share in \[0, 1\] is needed"),
        ({"kept_share": float("nan")}, "kept_share is nan"),
        ({"highest": 0.5}, r"highest is 0\.5, but a finite number of 1 or more"),
        ({"highest": float("inf")}, "highest is inf"),
        ({"tolerance": -1}, "tolerance is -1, but 0 or more"),
        ({"n_evaluations": 0}, "n_evaluations is 0, but 1 or more"),
        ({"indices": []}, r"indices has shape \(0,\)"),
    ],
)
def test_meaningless_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        calibrated(darker_than(0.25), **options)


def test_a_calibration_is_read_back_and_is_a_noise_model(tmp_path):
    found = calibrated(darker_than(0.25))
    found.write(tmp_path / "noise.json")
    read = read_calibration(tmp_path / "noise.json")
    assert read._replace(evaluations=None) == found._replace(evaluations=None)
    assert read.evaluations.equals(found.evaluations)
    assert NoiseModel.read(tmp_path / "noise.json") == found.noise
    assert json.loads((tmp_path / "noise.json").read_text())["calibration"] == found.summary()
    with pytest.raises(FileNotFoundError, match=r"none\.json is missing, .*04_autoencoder\.ipynb"):
        read_calibration(tmp_path / "none.json")
    NOISE.write(tmp_path / "noise.json")
    with pytest.raises(ValueError, match=r"noise\.json is not a calibrated noise .*04_autoencoder\.ipynb again"):
        read_calibration(tmp_path / "noise.json")


@pytest.mark.parametrize("damage", [None, "", "[]", "{}", '{"digest": "mine"}', "{"])
def test_what_was_calibrated_is_remembered_until_something_changes(tmp_path, damage):
    path, found = tmp_path / "checkpoints" / "kept.json", calibrated(darker_than(0.25))
    path.parent.mkdir()
    calls = []

    def make():
        calls.append(1)
        return found

    for digest in ("mine", "mine", "other", "other", "mine"):
        assert remembered(path, digest, make).noise == found.noise
    assert len(calls) == 3
    if damage is not None:
        path.write_text(damage)
        assert remembered(path, "mine", make).noise == found.noise
        assert len(calls) == 4
    assert [one.name for one in path.parent.iterdir()] == ["kept.json"]
