"""The kept calibration of the noise level: it must be of the noise model that is the default now."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from galaxynb import evaluation
from galaxynb.noise import NoiseModel

REFERENCE = Path(__file__).resolve().parents[1] / "book" / "reference"


@pytest.fixture
def record():
    return json.loads((REFERENCE / "noise_calibration.json").read_text())


@pytest.fixture
def grid():
    return pd.read_csv(REFERENCE / "noise_calibration.csv")


def test_calibration_is_of_the_default_noise_model(record):
    assert record["noise model"] == json.loads(json.dumps(dataclasses.asdict(NoiseModel())))
    assert record["chosen"] == [NoiseModel().sigma, sum(NoiseModel().n_stars) / 2]


def test_default_costs_about_the_papers_drop_and_both_steps_matter(record, grid):
    def drop(sigma, stars):
        return grid.loc[(grid["sigma"] == sigma) & (grid["stars"] == stars), "drop"].item()

    sigma, stars = record["chosen"]
    paper = evaluation.paper_summary()["drop"]
    assert abs(drop(sigma, stars) - paper) < 0.05
    assert drop(sigma, 0) > 0.1
    assert drop(0, stars) > 0.1
    assert drop(0, 0) == 0


def test_drop_is_what_the_accuracy_lost(record, grid):
    assert (grid["accuracy"] + grid["drop"]).tolist() == pytest.approx([record["clean accuracy"]] * len(grid), abs=2e-4)
    assert record["dirty"] is False
