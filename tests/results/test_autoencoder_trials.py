"""The program that compares variants of the autoencoder scores each once, and goes on after an interruption."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from galaxynb.noise import NoiseModel

LABELS = np.repeat(np.arange(10), 10)
IMAGES = np.repeat(25 * LABELS, 32 * 32 * 3).reshape(100, 32, 32, 3).astype(np.uint8)
SETTINGS = {"filters": [8], "width": 12, "depth": 3, "dilations": [1, 2], "learning_rate": 0.001, "batch_size": 4}
PLACES = {"seed": 1, "raw_epochs": 2, "noisy_epochs": 6, "run_dir": "x", "profile": "tiny"}


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Return the program, with networks that return their input at half its brightness."""
    program = importlib.import_module("autoencoder_trials")
    (tmp_path / "parameters").mkdir()
    (tmp_path / "parameters" / "04_autoencoder.yaml").write_text(yaml.safe_dump(SETTINGS | PLACES))
    NoiseModel(sigma=0.5, n_stars=(0, 0)).write(tmp_path / "calibrated_noise.json")
    info = {"standin": "7", "source": "standin.h5", "sha256": "0" * 64}
    cache = SimpleNamespace(images=IMAGES, labels=LABELS, image_size=32, info=info)
    trained = []

    def train(_, noise, seed, settings):
        trained.append(settings)
        model = SimpleNamespace(predict=lambda images, **_: images / 2, count_params=lambda: 12 * settings["width"])
        return model, 5 * settings["epochs"]

    def classes(_, images):
        return np.clip(np.round(images.mean((1, 2, 3)) * 10.2), 0, 9).astype(int)

    monkeypatch.setattr(program, "open_cache", lambda _: cache)
    monkeypatch.setattr(program, "load_model", lambda path, made_by: None)
    monkeypatch.setattr(program, "weights_digest", lambda _: "abc")
    monkeypatch.setattr(program, "predict_classes", classes)
    monkeypatch.setattr(
        program, "load_records", lambda _: {"classifier": {"profile": "t", "commit": "a", "dirty": False}}
    )
    monkeypatch.setattr(program, "train", train)
    return SimpleNamespace(trained=trained, measure=program.measure, variants=program.variants)


def test_each_variant_changes_one_thing(program):
    variants = program.variants(SETTINGS, 10)
    names, changed = zip(*variants, strict=True)
    assert len(set(names)) == len(names)
    assert sum("size" in kind for kind in changed) >= 4
    assert sum("epochs" in kind for kind in changed) >= 4
    together = {"a quarter of the width", "half the width", "twice the width"}
    for (name, _), change in variants.items():
        assert len(change) == 1 or name in together | {"as chosen"}
        assert all((SETTINGS | {"epochs": 10}).get(key) != value for key, value in change.items())


def test_trials_score_every_variant_and_resume(program, tmp_path):
    out = tmp_path / "out" / "trials.csv"
    program.measure(tmp_path, out, epochs=8)
    table, record = pd.read_csv(out).set_index("Variant"), json.loads(out.with_suffix(".json").read_text())
    assert len(table) == len(program.trained) == len(program.variants(SETTINGS, 8))
    assert table.loc["four times the epochs", ["Epochs", "Steps"]].tolist() == [32, 160]
    assert table.loc["twice the width", "Parameters"] == 2 * table.loc["as chosen", "Parameters"]
    lost = record["accuracy, clean"] - record["accuracy, noisy"]
    gained = table["Accuracy, denoised"] - record["accuracy, noisy"]
    np.testing.assert_allclose(table["Recovery"], gained / lost, atol=2e-3)
    assert (record["epochs"], record["images"]) == ("8 of 8", "16 validation images of 32 px")
    # Nothing is trained twice, not even for another file.
    first = out.read_bytes()
    program.measure(tmp_path, out, epochs=8)
    assert len(program.trained) == len(table)
    assert out.read_bytes() == first
    program.measure(tmp_path, out, epochs=4)
    assert len(program.trained) == 2 * len(table)
