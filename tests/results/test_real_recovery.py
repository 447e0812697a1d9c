"""The program that measures a run's recovery on real images records what it found."""

import importlib
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.noise import NoiseModel


@pytest.fixture
def folder(tmp_path):
    """Return a folder of images whose brightness at the centre gives away their class."""
    for k, name in enumerate(CLASS_NAMES):
        (tmp_path / "real" / name).mkdir(parents=True)
        for number in range(4):
            image = np.full((64, 64, 3), 10, np.uint8)
            image[24:40, 24:40] = 20 * k + 30
            cv2.imwrite(str(tmp_path / "real" / name / f"{number}.png"), image)
    return tmp_path


def by_brightness(_, images):
    """Return the class that the brightness at the centre gives away."""
    centre = 255 * images[:, 14:18, 14:18].mean((1, 2, 3))
    return np.clip(np.round((centre - 30) / 20), 0, 9).astype(int)


def test_the_program_measures_the_networks_of_the_run_on_real_images(folder, monkeypatch):
    program = importlib.import_module("real_recovery")
    large = {"radius": (0.054, 0.11), "blur": (0.24, 0.48)}
    noise = NoiseModel(n_stars=(3, 5), brightness=(0.4, 0.6), **large)
    dark = SimpleNamespace(predict=lambda images, **_: np.full_like(images, 30 / 255))
    info = {"standin": "7", "source": "standin.h5", "sha256": "0" * 64}
    monkeypatch.setattr(program, "open_cache", lambda _: SimpleNamespace(image_size=32, info=info))
    monkeypatch.setattr(program, "read_calibration", lambda _: SimpleNamespace(noise=noise))
    monkeypatch.setattr(program, "load_model", lambda path, made_by: dark if "autoencoder" in path.name else None)
    monkeypatch.setattr(program, "predict_classes", by_brightness)
    monkeypatch.setattr(program, "load_records", lambda _: {"autoencoder": {"profile": "tiny", "commit": "abc"}})
    out = folder / "out.csv"
    program.main([str(folder / "run"), str(folder / "real"), str(out)])
    record = json.loads(out.with_suffix(".json").read_text())
    estimates = record["estimates"]
    assert estimates["clean"]["value"] == 1
    assert 0.1 < estimates["noisy"]["value"] < 0.9
    assert estimates["denoised"]["value"] == estimates["denoised clean"]["value"] == 0.1  # all images look alike
    expected = (0.1 - estimates["noisy"]["value"]) / (1 - estimates["noisy"]["value"])
    assert estimates["recovery"]["value"] == pytest.approx(expected)
    assert record["recalls"][CLASS_NAMES[0]]["denoised"] == 1
    assert (record["images"], record["image side"], record["profile"]) == (40, 32, "tiny")
    assert set(pd.read_csv(out)["Quantity"]) == set(estimates)
