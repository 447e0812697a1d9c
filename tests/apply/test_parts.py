"""Measures, flags, the survey's colours, and loading networks."""

import json

import keras
import numpy as np
import pytest
from apply_samples import large_images, sample_networks
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from galaxynb.apply.measures import MEASURES, measure_small, reasons, training_ranges
from galaxynb.apply.networks import load_networks
from galaxynb.apply.page import summarize_predictions
from galaxynb.apply.predict import predict
from galaxynb.apply.survey import fluxes
from galaxynb.files import write_json
from galaxynb.networks.models import save_model
from galaxynb.standin.field import survey_rgb


def disk(side=64, *, sigma=0.0, radius=6.0, level=0.1, colour=(0.6, 0.6, 0.6), seed=0):
    """Return an image of a soft round galaxy on a noisy sky."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    galaxy = np.exp(-0.5 * (np.hypot(x, y) / radius) ** 2)[..., None] * np.array(colour)
    noise = np.random.default_rng(seed).normal(0, sigma, (side, side, 1))
    return np.clip(level + galaxy + noise, 0, 1).astype(np.float32)[np.newaxis]


def test_the_noise_is_measured_with_and_without_a_galaxy():
    for sigma in (0.01, 0.05):
        flat = np.clip(0.5 + np.random.default_rng(1).normal(0, sigma, (16, 64, 64, 1)), 0, 1)
        images = np.broadcast_to(flat, (16, 64, 64, 3)).astype(np.float32)
        assert measure_small(images)["noise"].mean() == pytest.approx(sigma, rel=0.03)
        assert measure_small(disk(sigma=sigma, level=0.3, colour=(0.4,) * 3))["noise"][0] == pytest.approx(
            sigma, rel=0.1
        )


def test_the_noise_of_8_bit_images_takes_many_values():
    noise = np.random.default_rng(2).normal(0.3, 0.01, (100, 64, 64, 3))
    assert len(np.unique(measure_small((np.round(255 * noise) / 255).astype(np.float32))["noise"])) > 50


def test_size_colour_brightness_and_sky_are_those_of_the_galaxy():
    found = {radius: measure_small(disk(radius=radius, sigma=0.005)) for radius in (3.0, 6.0, 9.0)}
    for radius, one in found.items():
        assert one["sky"][0] == pytest.approx(0.1, abs=0.01)
        # Half of the light of a Gaussian lies within 1.18 sigma.
        assert 64 * one["size"][0] == pytest.approx(1.18 * radius, abs=1.2)
    red, blue = (measure_small(disk(colour=colour))["colour"][0] for colour in ((0.8, 0.5, 0.2), (0.2, 0.5, 0.8)))
    assert red == pytest.approx(0.6, abs=0.05)
    assert blue == pytest.approx(-0.6, abs=0.05)
    assert measure_small(disk())["brightness"][0] == pytest.approx(0.7, abs=0.05)


def test_of_the_training_images_nearly_all_are_within_the_ranges():
    images, _ = large_images(120, 32)
    images = images.astype(np.float32) / 255
    measured = measure_small(images)
    ranges = training_ranges(measured)
    assert set(ranges) == set(MEASURES)
    assert sum(text != "" for text in reasons(measured, ranges)) == 0
    odd = measure_small(1 - images)
    assert all("sky level" in text for text in reasons(odd, ranges | {"sky": [2, 3]}))


@given(arrays.arrays(np.float32, (3, 2, 2), elements=st.floats(0, 0.5, width=32)))
def test_fluxes_undo_the_colours_of_the_survey(flux):
    image = survey_rgb(*flux)
    clear = ((image > 0) & (image < 1)).all(axis=2)
    np.testing.assert_allclose(fluxes(image)[:, clear], flux[:, clear], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 64, 64)), r"shape \(2, 64, 64\), but \(N, H, H, 3\) is needed"),
        (np.zeros((2, 64, 64, 3), int), "images is int64, but uint8 or floats are needed"),
        (np.full((2, 64, 64, 3), 255.0), "values from 0 to 255, but 0 to 1 is needed"),
        (np.full((2, 64, 64, 3), np.nan), "values from nan to nan, but 0 to 1 is needed"),
        (np.zeros((2, 20, 20, 3)), "each image is 20 px, but at least 64 px are needed"),
    ],
)
def test_wrong_arrays_are_refused_in_one_sentence(images, said):
    with pytest.raises(ValueError, match=said):
        predict(images, sample_networks())


def test_no_images_give_an_empty_table():
    found = predict(np.zeros((0, 64, 64, 3), np.uint8), sample_networks())
    assert (len(found.table), found.denoised.shape) == (0, (0, 32, 32, 3))
    full = predict(large_images()[0], sample_networks()).table
    assert found.table.columns.tolist() == full.columns.tolist()


def network(side):
    inputs = keras.Input((side, side, 3))
    return keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))


def test_networks_are_loaded_only_if_they_are_whole_and_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"classifier\.keras is missing"):
        load_networks(tmp_path)
    save_model(network(32), tmp_path / "models" / "classifier.keras")
    save_model(network(64), tmp_path / "models" / "autoencoder.keras")
    with pytest.raises(ValueError, match="take images of 32 and 64 px, but one side is needed"):
        load_networks(tmp_path)
    write_json(tmp_path / "card.json", {"networks": {"classifier": {"sha256": "0" * 64}}})
    with pytest.raises(ValueError, match=r"has the SHA256 .*, but 00000000\.\.\. is needed: take the file from git"):
        load_networks(tmp_path)
    (tmp_path / "card.json").unlink()
    save_model(network(32), tmp_path / "models" / "autoencoder.keras")
    with pytest.raises(FileNotFoundError, match="a calibrated noise is needed"):
        load_networks(tmp_path)


def test_the_summary_compares_the_noise_and_counts():
    import pandas as pd

    table = pd.DataFrame({"usable": [True, True, False], "flagged": [True, False, False], "label": ["", "Merging", ""]})
    table = table.assign(
        before=["Merging", "Merging", ""], after=["Merging", "Disturbed", ""], noise=[0.5, 0.7, np.nan]
    )
    found = summarize_predictions(table, sample_networks())
    assert (found["number"], found["unusable"], found["flagged"], found["labelled"]) == (3, 1, 1, 1)
    assert found["noise"] == pytest.approx(0.6)
    assert found["classes"]["after"]["Disturbed"] == 1
    assert (found["accuracy"]["before"]["value"], found["accuracy"]["after"]["value"]) == (1, 0)
    said = " ".join(found["sentences"])
    assert "1 of these (50.0%) has a flag" in said
    assert "Your images have more noise than the clean training images" in said
    json.dumps(found, allow_nan=False)
