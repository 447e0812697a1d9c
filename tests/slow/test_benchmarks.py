"""Every row of the benchmarks runs at tiny sizes, whose numbers mean nothing, and the table is right."""

import importlib
import json
import math

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from paths import ROOT

from galaxynb.compute import cores
from galaxynb.data.cache import open_cache
from galaxynb.data.catalog import load_catalog
from galaxynb.data.splits import paper_split
from galaxynb.images import to_float
from galaxynb.noise import NoiseModel

ROWS = [
    *("pairs", "autoencoder-epoch", "classifier-epoch", "page-faults", "prepare", "evaluation", "start-up", "growth"),
    "apply",
]


@pytest.fixture(scope="module")
def program():
    """Return a function that imports a program in benchmarks/, which is not a package."""
    return importlib.import_module


@pytest.fixture
def result(program):
    """Return a function that makes a result of one round."""
    return lambda ours, theirs, goal="": program("measuring").compare("row", "a", "b", "s", [(ours, theirs)], goal)


def test_every_row_is_tested_here_but_those_that_run_the_workflow(program):
    assert [*ROWS, "study", "sweep"] == list(program("rows").ROWS)
    assert program("rows").ON_REQUEST == ("study", "sweep")


@pytest.mark.parametrize("row", ROWS)
def test_a_row_runs_and_gives_ratios(program, tmp_path, row):
    results = list(program("bench").measure([row], program("rows").QUICK))
    assert results
    for one in results:
        assert one.row == row
        # The kernel counts system time in ticks: so short an epoch may take none.
        assert one.ours > 0 or (one.ours == 0 and "system time" in one.what)
        assert one.theirs > 0
        assert math.isclose(one.ratio, one.ours / one.theirs)
        assert one.low <= one.ratio <= one.high
        assert (one.met is None) == (one.goal == "")
    text = program("measuring").table(results)
    ratios = text["Ratio"].astype(float)
    assert (ratios >= 0).all()
    assert (ratios > 0).any()


def test_a_ratio_is_the_median_of_its_rounds(program):
    one = program("measuring").compare("row", "a", "b", "s", [(1, 1), (4, 2), (30, 10)], "<= 1.9", steps=3)
    assert (one.ours, one.theirs, one.ratio, one.low, one.high, one.rounds) == (4, 2, 2, 1, 3, 3)
    assert not one.met
    assert one.notes == {"steps": 3}


def test_both_sides_are_measured_in_turn(program):
    called = []

    def side(name, value):
        return lambda: called.append(name) or value

    pairs = program("measuring").in_turn("row", 3, side("ours", 1), side("theirs", 2))
    assert pairs == [(1, 2)] * 3
    assert called == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


@pytest.mark.parametrize(
    ("ours", "goal", "met"),
    [
        (1.05, "<= 1.05", True),
        (1.06, "<= 1.05", False),
        (20, ">= 20", True),
        (19, ">= 20", False),
        (0.95, "within 0.1", True),
        (0.8, "within 0.1", False),
        (1.2, "within 0.1", False),
        (1.2, "", None),
    ],
)
def test_a_goal_is_met_or_not(result, ours, goal, met):
    assert result(ours, 1, goal).met is met


def test_the_table_and_its_record(program, result, tmp_path):
    measuring = program("measuring")
    lone = measuring.Result("study", "data", "no counterpart", "s", 1234, None, None, None, None, 1)
    ours, theirs = measuring.Cost(0.5, 0.6, 0.1), measuring.Cost(0.4, 0.4, 0.02)
    measuring.write([result(ours, theirs, "<= 1.25"), lone], tmp_path, quick=True)
    table = pd.read_csv(tmp_path / "benchmarks.csv", dtype=str, keep_default_na=False)
    assert table.to_dict("records") == [
        {
            "Row": "row",
            "Ours": "a",
            "Against": "b",
            "Ours, median": "0.5",
            "Against, median": "0.4",
            "Unit": "s",
            "User + system, s": "0.6 + 0.1 / 0.4 + 0.02",
            "Ratio": "1.250",
            "Spread": "1.250 to 1.250",
            "Rounds": "1",
            "Goal": "<= 1.25",
            "Met": "yes",
        },
        {
            "Row": "study",
            "Ours": "data",
            "Against": "no counterpart",
            "Ours, median": "1,234",
            "Against, median": "",
            "Unit": "s",
            "User + system, s": "",
            "Ratio": "",
            "Spread": "",
            "Rounds": "1",
            "Goal": "",
            "Met": "",
        },
    ]
    record = json.loads((tmp_path / "provenance" / "benchmarks.json").read_text())
    assert {"commit", "dirty", "versions", "device"} <= set(record)
    assert record["device"]["cores"] >= 1
    assert record["parameters"] == {"quick": True, "rows": ["row", "study"]}
    assert record["extra"]["results"][0]["ratio"] == 1.25


def test_the_program_writes_and_prints_its_table(program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None, raising=False)
    program("bench").main(["growth", "--quick", "--out", str(tmp_path)])
    printed, said = capsys.readouterr()
    assert printed.count("growth") == len(pd.read_csv(tmp_path / "benchmarks.csv")) == 2
    assert "growth: round 1 of 1" in said


def test_an_unknown_row_is_refused(program, capsys):
    with pytest.raises(SystemExit, match="2"):
        program("bench").main(["pears"])
    assert "ROW is pears, but a known row is needed: choose from pairs, " in capsys.readouterr().err


def test_the_papers_recipe_adds_noise_to_one_side_only(program, tmp_path, capsys):
    recipe, sample = program("paper_recipe"), program("sample").Sample(tmp_path, program("rows").QUICK)
    originals = sample.images(8, 256)
    recipe.write_files(originals, tmp_path / "jpeg")
    pairs = recipe.Pairs(tmp_path / "jpeg", 128, 4, 0, NoiseModel(sigma=0.15, n_stars=(3, 3)))
    assert len(pairs) == 2
    noisy, raw = pairs[0]
    assert noisy.shape == raw.shape == (4, 128, 128, 3)
    assert raw.min() >= 0
    assert raw.max() <= 1
    # Clipping at black removes half of the differences. The others show that sigma is about right.
    assert 0.1 < (noisy - raw)[raw > 0.4].std() < 0.2
    close = [np.abs(raw[0] - program("sample").shrink(originals, 128)[n] / 255).mean() for n in range(8)]
    assert min(close) < 0.05
    capsys.readouterr()


def test_files_have_the_published_layout(program, tmp_path):
    sample = program("sample").Sample(tmp_path, program("rows").QUICK)
    path = sample.file("file", 50, 64, chunks=(20, 16, 16, 1), truth=True)
    catalog = load_catalog(path)
    assert (catalog.n_images, catalog.image_shape, catalog.has_truth) == (50, (64, 64, 3), True)
    images = np.concatenate([images for _, images in catalog.batches()])
    np.testing.assert_array_equal(images, sample.images(20, 64)[np.arange(50) % 20])


def test_bare_trains_and_predicts_what_the_study_does(program, tmp_path, monkeypatch):
    """The number of predictions is that of notebook 05, and the number of steps that of the profile."""
    bare, rows = program("bare"), program("rows")
    sample = program("sample").Sample(tmp_path, rows.QUICK)
    run = rows.run_folder(sample, 100, 32)
    settings = {
        "seed": 1,
        "classifier": {
            "weights": None,
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 0.001,
            "cosine_decay": True,
            "bn_momentum": 0.9,
        },
        "autoencoder": {
            "filters": [4],
            "width": 4,
            "depth": 1,
            "dilations": [1],
            "raw_epochs": 1,
            "noisy_epochs": 2,
            "batch_size": 8,
            "learning_rate": 0.001,
            "cosine_decay": True,
        },
    }
    monkeypatch.setattr(
        "galaxynb.networks.classifier.build_classifier", lambda *_, **__: rows._classifier(rows.QUICK, 32)
    )
    cache = open_cache(run / "data" / "cache")
    split = paper_split(cache.labels)
    given = (settings, to_float(cache.images), cache.labels, split, NoiseModel(), tmp_path)
    bare.classifier(*given)
    bare.autoencoder(*given)
    networks = {name: keras.models.load_model(tmp_path / f"{name}.keras") for name in ("classifier", "autoencoder")}
    assert networks["classifier"].optimizer.iterations == 2 * math.ceil(len(split.train) / 16)
    assert networks["autoencoder"].optimizer.iterations == 3 * math.ceil(len(split.train) / 8)

    predicted, predict = [], keras.Model.predict

    def counted(self, images, **options):
        predicted.append((self.output_shape[1:], len(images), options))
        return predict(self, images, **options)

    monkeypatch.setattr(keras.Model, "predict", counted)
    bare.evaluation(*given)
    bares, predicted[:] = list(predicted), []
    cells, parameters = rows.code_cells("05_evaluation.ipynb")
    rows._evaluation(cells, parameters, run, {"03": networks["classifier"], "04": networks["autoencoder"]})
    assert sorted(map(str, predicted)) == sorted(map(str, bares))
    assert len(bares) == 8


def test_the_study_beside_bare(program):
    def costs(**seconds):
        return {name: program("measuring").Cost(wall, wall, wall / 10) for name, wall in seconds.items()}

    stages = costs(data=30, noise=10, classifier=60, autoencoder=50, evaluation=40)
    whole, system, *parts = program("rows").beside_bare(
        "quick", stages, costs(classifier=50, autoencoder=40, evaluation=10)
    )
    assert (whole.ours, whole.theirs, whole.ratio) == (190, 100, 1.9)
    assert whole.cpu == ((190, 19), (100, 10))
    assert (system.ours, system.theirs, system.met) == (19, 190, True)
    assert [part.ratio for part in parts] == [None, None, 1.2, 1.25, 4.0]


def test_a_sweep_side_by_side_is_measured_beside_one_after_the_other(program, tmp_path, monkeypatch):
    rows, ran = program("rows"), []
    monkeypatch.setattr(rows, "_workflow", lambda *arguments: ran.append(arguments))
    (one,) = rows.sweep(program("sample").Sample(tmp_path, rows.Sizes()))
    assert (one.row, one.rounds, one.goal) == ("sweep", 2, ">= 1")
    cpus = [next(text for text in arguments if text.startswith("cpus=")) for arguments in ran]
    assert sorted(cpus) == sorted(2 * ["cpus=1", f"cpus={cores()}"])
    assert len({next(text for text in arguments if text.startswith("runs=")) for arguments in ran}) == 4
    sweep = yaml.safe_load((tmp_path / "throughput.yaml").read_text(encoding="utf-8"))
    profile = yaml.safe_load((ROOT / "config" / "quick.yaml").read_text(encoding="utf-8"))
    assert sweep["profile"] == "quick"
    for name in sweep["axes"].keys() - {"seed"}:
        section, _, parameter = name.partition(".")
        assert parameter in profile[section]
