"""The programs that keep networks, and try all remedies on them, keep what belongs together."""

import importlib
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from galaxynb.data.cache import prepare_cache
from galaxynb.files import write_json
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.models import save_model
from galaxynb.noise import NoiseModel

FAKE = """
import argparse, json, pathlib, sys, yaml
parser = argparse.ArgumentParser()
for name in ("folder", "parameters", "out", "real"):
    parser.add_argument(f"--{name}")
given = parser.parse_args()
asked = yaml.safe_load(pathlib.Path(given.parameters).read_text())
if asked["name"] == "bad":
    sys.exit("ValueError: it is bad")
made = pathlib.Path(given.out)
(made / "remedy.json").write_text(json.dumps({"title": asked["name"], "real": given.real, "failed": None}))
(made / "predictions.parquet").write_text("predictions")
(made / "other.txt").write_text("not kept")
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    program = importlib.import_module("remedies")
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(program, "PROGRAM", tmp_path / "fake.py")
    return program


@pytest.fixture
def run(tmp_path, tiny_galaxy10):
    """Return the folder of a run with images, and with networks that need no training."""
    folder = tmp_path / "run"
    path = tiny_galaxy10(tmp_path / "some.h5", n=60, size=32, standin="galaxynb 0, seed 1")
    prepare_cache(path, folder / "data" / "cache", image_size=32, progress=False)
    for name in ("classifier", "autoencoder"):
        save_model(build_autoencoder(32, filters=(4,), width=4, depth=1), folder / "models" / f"{name}.keras")
    found = {"clean accuracy": 0.7, "noisy accuracy": 0.3, "target accuracy": 0.3, "calibrated": True, "reached": True}
    noise = {"calibration": found | {"strength": 1.0}, "evaluations": {"strength": [], "accuracy": []}}
    NoiseModel().write(folder / "calibrated_noise.json")
    path = folder / "calibrated_noise.json"
    write_json(path, json.loads(path.read_text()) | noise)
    write_json(folder / "metrics.json", {"estimates": {"clean": {"value": 0.7, "low": 0.6, "high": 0.8}}})
    return folder


@pytest.fixture
def records(monkeypatch):
    """Give all runs the records of committed code."""
    one = {"parameters": {"run_dir": "x", "epochs": 3}, "commit": "c" * 40, "profile": "tiny", "seeds": {"seed": 1}}
    made = {name: one | {"dirty": False} for name in ("data", "classifier", "autoencoder")}
    monkeypatch.setattr(importlib.import_module("keep"), "load_records", lambda _: made)
    return made


def test_packed_networks_have_a_card_that_is_true_of_them(run, records, tmp_path):
    out = tmp_path / "networks"
    importlib.import_module("pack").pack(run, out)
    card = json.loads((out / "card.json").read_text())
    assert card["profile"] == "tiny"
    assert card["data"]["n_images"] == 60
    for name, about in card["networks"].items():
        path = out / "models" / f"{name}.keras"
        assert about["bytes"] == path.stat().st_size
        assert about["largest change"] < 1e-3
        assert about["settings"] == {"epochs": 3}
    assert NoiseModel.read(out / "calibrated_noise.json") == NoiseModel()
    shown = pd.read_csv(out / "networks.csv", index_col="What", dtype=str)
    assert shown.loc["Epochs"].tolist() == ["3", "3"]
    assert shown.loc["Parameters", "Classifier"] == f"{card['networks']['classifier']['parameters']:,}"
    answers = pd.read_csv(out / "accuracies.csv", index_col="Quantity")
    assert answers.to_dict() == {f"{card['test images']} test images": {"clean": "0.70 (0.60 to 0.80)"}}


def test_networks_of_uncommitted_code_are_not_kept(run, records, tmp_path):
    records["classifier"]["dirty"] = True
    with pytest.raises(ValueError, match="classifier ran with uncommitted changes"):
        importlib.import_module("pack").pack(run, tmp_path / "networks")
    assert not (tmp_path / "networks").exists()


def test_a_remedy_is_tried_on_the_images_that_the_networks_learned_from(run, program, tmp_path):
    networks = run  # the layout is the same
    info = json.loads((run / "data" / "cache" / "cache.json").read_text())
    write_json(networks / "card.json", {"data": info, "profile": "tiny", "networks": {}})
    program.prepare(run, networks, tmp_path / "work")
    assert (tmp_path / "work" / "models" / "classifier.keras").is_file()
    program.prepare(run, networks, tmp_path / "work")
    write_json(networks / "card.json", {"data": info | {"sha256": "0"}, "profile": "tiny"})
    with pytest.raises(ValueError, match=r"the images of .* are not those of .*: run the profile tiny$"):
        program.prepare(run, networks, tmp_path / "work")


def test_each_remedy_is_kept_once_with_what_made_it(program, tmp_path):
    settings, about = (
        {"seed": 3, "n_judged": 4},
        {"networks": {"classifier": "a"}, "commit": "c", "dirty": False, "real": False},
    )
    out, work = tmp_path / "rows" / "median", tmp_path / "work"
    work.mkdir()
    assert not program.kept(out, settings, about["networks"])
    program.try_row("median", work, settings, out=out, real=None, about=about)
    facts = json.loads((out / "remedy.json").read_text())
    assert (facts["title"], facts["real"], facts["settings"], facts["commit"]) == ("median", False, settings, "c")
    assert {path.name for path in out.iterdir()} == {"remedy.json", "predictions.parquet"}
    assert yaml.safe_load((work / "parameters" / "median.yaml").read_text()) == {"name": "median"} | settings
    assert program.kept(out, settings, about["networks"])
    assert not program.kept(out, settings, about["networks"], real=True)
    assert not program.kept(out, settings | {"seed": 4}, about["networks"])
    assert program.kept(out, settings | {"restorer_epochs": 9}, about["networks"])
    write_json(out / "remedy.json", facts | {"training seconds": 5.0})
    assert not program.kept(out, settings | {"restorer_epochs": 9}, about["networks"])
    assert not program.kept(out, settings, {"classifier": "b"})
    with pytest.raises(RuntimeError, match="the remedy bad failed: ValueError: it is bad"):
        program.try_row("bad", work, settings, out=tmp_path / "rows" / "bad", real=None, about=about)
    assert not (tmp_path / "rows" / "bad").exists()


def test_each_trial_is_listed_with_what_made_it(program):
    one = {"title": "Median", "commit": "c" * 40, "dirty": False, "device": "a CPU, 1 core", "training seconds": None}
    other = one | {"title": "U-Net", "training seconds": 600.0, "dirty": True}
    times = {"ms per image": 2.5, "wall seconds": 90}
    moved = other | {"title": "NAFNet", "trained on": ["a GPU", "a CPU, 1 core"]}
    table = program.made_by({"median": one | times, "unet": other | times, "nafnet": moved | times})
    assert table["Commit"].tolist() == ["cccccccccc", "cccccccccc with changes", "cccccccccc with changes"]
    assert table["Training"].tolist() == ["\N{EN DASH}", "10 min", "10 min"]
    assert table["Trained on"].tolist() == ["\N{EN DASH}", "a CPU, 1 core", "a GPU and a CPU, 1 core"]


def test_the_page_names_the_remedies_that_have_no_trial(program):
    data = {"kind": "standin", "sha256": "0", "n_images": 17736, "image_size": 64}
    card = {"data": data, "profile": "half", "test images": 3548}
    noise = NoiseModel(sigma=0.05, n_stars=(7, 17), strength=2.0)
    some = program.tried(card, noise, [name for name in program.ROWS if name not in ("median", "nafnet")])
    assert "17,736 images of 64 px a side, 3,548 to test. The noise is 7 to 17 stars per image, and" in some
    assert "Gaussian noise of standard deviation 0.100 (white is 1). 19 of 21 remedies have been tried." in some
    assert some.endswith("Not tried yet: Median filter; NAFNet, light.")
    every = program.tried(card, noise, [*program.ROWS])
    assert every.endswith("All 21 remedies have been tried: the paper's autoencoder and 20 others.")


def test_images_of_the_sky_are_shrunk_to_the_side_of_the_study(tmp_path, tiny_galaxy10):
    images, labels = importlib.import_module("try_remedy").real_images(tiny_galaxy10(tmp_path / "sky.h5", n=10), 32)
    assert images.shape == (10, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.tolist() == list(range(10))
