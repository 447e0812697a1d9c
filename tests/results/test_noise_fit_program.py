"""The program that fits the noise on a run's classifier keeps its evaluations, and says what it fitted on."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from galaxynb.noise import NoiseModel
from galaxynb.results.noise_fit import RANGES, WEIGHTS

LABELS = np.repeat(np.arange(10), 20)
IMAGES = np.repeat(20 * LABELS, 32 * 32 * 3).reshape(200, 32, 32, 3).astype(np.uint8)


@pytest.fixture
def program(monkeypatch):
    """Return the program with a classifier that tells classes by brightness, and counts what it is shown."""
    program = importlib.import_module("noise_fit")
    calls = []

    def classes(_, images):
        calls.append(len(images))
        return np.clip(np.round(images.mean((1, 2, 3)) * 255 / 20), 0, 9).astype(int)

    info = {"standin": "7", "source": "standin.h5", "sha256": "0" * 64}
    cache = SimpleNamespace(images=IMAGES, labels=LABELS, image_size=32, info=info)
    record = {"profile": "tiny", "commit": "abc", "dirty": False}
    for name, value in {
        "open_cache": lambda _: cache,
        "load_model": lambda path, made_by: "network",
        "weights_digest": lambda _: "digest",
        "predict_classes": classes,
        "load_records": lambda _: {"classifier": record},
    }.items():
        monkeypatch.setattr(program, name, value)
    return SimpleNamespace(calls=calls, measure=program.measure, patch=monkeypatch, module=program)


def test_a_fit_says_what_it_found_and_resumes(program, tmp_path):
    out = tmp_path / "out" / "fit.csv"
    program.measure(tmp_path, out, n_evaluations=8)
    first, record = out.read_bytes(), json.loads(out.with_suffix(".json").read_text())
    table = pd.read_csv(out)
    assert len(table) == record["evaluations"] == 8
    assert record["misfit"] == pytest.approx(table["misfit"].min(), abs=1e-4)
    assert (record["ranges"], record["weights"]) == (json.loads(json.dumps(RANGES)), WEIGHTS)
    assert record["images"] == "32 validation images of 32 px"
    assert record["noise model"].keys() == json.loads(json.dumps(vars(NoiseModel()))).keys()
    assert min(record["noise model"]["blur"]) >= 3 / 32 * 0.95
    # All evaluations are read again; only the closest noise and the clean images are shown to the classifier.
    made = len(program.calls)
    program.measure(tmp_path, out, n_evaluations=8)
    assert len(program.calls) - made < made / 2
    assert out.read_bytes() == first
    program.patch.setattr(program.module, "weights_digest", lambda _: "another network")
    again = len(program.calls)
    program.measure(tmp_path, out, n_evaluations=8)
    assert len(program.calls) - again == made
