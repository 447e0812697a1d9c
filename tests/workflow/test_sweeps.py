"""Sweeps: the points of a file, the stages that they share, and the table when points are missing."""

import itertools
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import collect
import failures
import keep
import numpy as np
import pandas as pd
import pytest
import stage
import sweeps
import yaml
from configuration import with_defaults
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT

from galaxynb.figures.sweeps import sweep_curves, sweep_map
from galaxynb.files import save_table, write_json
from galaxynb.provenance import load_records, write_record
from galaxynb.results.paper import PAPER, beside_paper, paper_table
from galaxynb.results.sweeps import (
    metric_series,
    parameter_words,
    point_table,
    read_sweep,
    spread_scores,
    spread_summary,
    spread_text,
    sweep_axes,
    sweep_provenance,
    sweep_text,
)
from galaxynb.stages import SECTIONS, STAGES

SWEEPS = sorted((ROOT / "config" / "sweeps").glob("*.yaml"))
SCHEMA = yaml.safe_load((ROOT / "config" / "schema.yaml").read_text(encoding="utf-8"))
SMOKE = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))
#: The profile smoke with the defaults of the schema.
PROFILE = SMOKE | {name: with_defaults(SMOKE[name], SCHEMA["properties"][name]) for name in SECTIONS}


def points(**sweep):
    return sweeps.points({"profile": "smoke"} | sweep, SMOKE, SCHEMA)


def gather(root, found, **settings):
    return collect.gather(root, "mine", {"profile": "smoke"} | settings, found)


def test_metrics_of_remedies_are_their_accuracies_and_their_verdict(tmp_path):
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    good = {
        "failed": None,
        "accuracy": {"noisy": estimate, "clean": estimate},
        "recovery": estimate,
        "mce": 0.8,
        "quality": {"truth": {"psnr_mean": 36.0}, "clean": {"psnr_mean": 33.0}},
        "verdict": {"stars left": 0.02},
    }
    write_json(tmp_path / "remedies.json", {"remedies": {"unet": good, "own": {"failed": "it has NaN"}}})
    assert collect.remedy_metrics(tmp_path) == {
        "remedy/unet/noisy": estimate,
        "remedy/unet/clean": estimate,
        "remedy/unet/recovery": estimate,
        "remedy/unet/mce": {"value": 0.8},
        "remedy/unet/psnr": {"value": 36.0},
        "remedy/unet/stars left": {"value": 0.02},
    }


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_sweeps_that_ship_are_what_their_schema_says_and_have_words_for_their_axes(path):
    sweep, profile = sweeps.read(path, folder=ROOT / "config")
    found = sweeps.points(sweep, profile, SCHEMA)
    assert len(found) == {"noise": 9, "remedies": 5, "seeds": 5, "smoke": 2}[path.stem]
    for name in sweep["axes"]:
        assert "." not in parameter_words(name)
        assert parameter_words(name, capital=True)[0].isupper()
    for point in found:
        del point["config"]["source"]
        assert not failures.schema_faults(point["config"], ROOT / "config" / "schema.yaml")


def test_axes_multiply_or_go_in_step_and_points_stand_beside_them_or_alone():
    axes = {"seed": [1, 2], "noise.sigma": [0, 0.5]}
    assert len(points(axes=axes)) == 4
    assert len(points(axes={"seed": [1]}, points=[{"seed": 5}])) == 2
    assert len(points(points=[{"seed": 5}, {"seed": 6, "noise.sigma": 0}])) == 2
    stepped = points(axes=axes, combine="zip")
    assert [sweeps.label(point) for point in stepped] == ["seed=1, noise.sigma=0", "seed=2, noise.sigma=0.5"]
    assert [point["config"]["noise"]["sigma"] for point in stepped] == [0, 0.5]


def test_an_axis_of_its_own_name_sets_several_parameters():
    stars = {"fewest_stars": 4, "most_stars": 10}
    (point,) = points(axes={"stars": [{"value": 7} | {f"noise.{name}": value for name, value in stars.items()}]})
    assert point["axes"] == {"stars": 7}
    # What no axis names is the profile's.
    expected = PROFILE | {"source": "standin", "noise": PROFILE["noise"] | stars}
    del expected["remedies"]  # this sweep ends with the evaluation
    assert point["config"] == expected


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"axes": {"noise.sgima": [0]}}, r"noise\.sgima is no parameter, .* choose from .*noise\.sigma"),
        ({"axes": {"nose.sigma": [0]}}, r"nose\.sigma is no parameter, .* choose from seed, source, data\.<"),
        ({"axes": {"stars": [3]}}, "stars is no parameter"),
        ({"axes": {"stars": [{"noise.sigma": 3}]}}, "axis stars: .* has no key value"),
        ({"axes": {"seed": [1, 2], "noise.sigma": [0]}, "combine": "zip"}, r"differ .*\(seed 2, noise\.sigma 1\)"),
        ({"points": [{"seed": 1}, {"seed": 1}]}, "the point seed=1 is there twice"),
        *(
            (
                {"axes": {name: [{"value": 1, "seed": 1}]}},
                f"an axis is called {name}, but this is a column of the table",
            )
            for name in ("value", "device", "state")
        ),
    ],
)
def test_a_wrong_sweep_is_told_in_a_sentence(sweep, message):
    with pytest.raises(sweeps.SweepError, match=message):
        points(**sweep)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profile: smoke\naxis: {seed: [1]}", "axis.*unexpected"),
        ("profile: smoke", "names no axes and no points"),
        ("profile: nowhere\naxes: {seed: [1]}", "profile is nowhere, but there is no"),
        ("profile: [", "is no YAML"),
        ("", "holds no keys"),
    ],
)
def test_a_file_that_is_no_sweep_is_told_in_a_sentence(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(sweeps.SweepError, match=message) as raised:
        sweeps.read(path, folder=ROOT / "config")
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_told_with_those_there_are():
    with pytest.raises(sweeps.SweepError, match=r"is missing, .* give one of .*noise\.yaml.*seeds\.yaml"):
        sweeps.read("nowhere.yaml", folder=ROOT / "config")


def test_noise_levels_share_data_and_classifier_and_nothing_is_made_twice():
    jobs = sweeps.jobs("r", points(axes={"seed": [1, 2], "noise.sigma": [0, 0.1, 0.2]}))
    numbers = {"01_data": 2, "02_noise": 6, "03_classifier": 2, "04_autoencoder": 6, "05_evaluation": 6}
    assert {stage: len(folders) for stage, folders in jobs.items()} == numbers | {"06_remedies": 0}


def test_a_sweep_may_go_as_far_as_the_remedies():
    found = points(axes={"seed": [1, 2], "remedies.n_judged": [0, 5]}, until="remedies")
    jobs = sweeps.jobs("r", found)
    assert [len(folders) for folders in jobs.values()] == [2, 2, 2, 2, 2, 4]
    with pytest.raises(
        sweeps.SweepError, match=r"remedies\.n_judged is no parameter, .* choose from seed, source, data"
    ):
        points(axes={"remedies.n_judged": [0, 5]})


@given(st.data())
def test_a_stage_has_another_folder_exactly_if_something_differs_that_it_follows_from(data):
    section = data.draw(st.sampled_from(["data", "noise", "classifier", "autoencoder", "evaluation"]))
    parameter = data.draw(st.sampled_from(sorted(PROFILE[section])))
    one = PROFILE | {"source": "standin"}
    changes = ({section: one[section] | {parameter: "another"}}, {"seed": "other"}, {"source": "other"})
    for name, described in STAGES.items():
        sections = {described.section, *(STAGES[needed].section for needed in described.needs)}
        folders = [sweeps.folder_of("r", name, one | change) for change in changes]
        shared = [folder == sweeps.folder_of("r", name, one) for folder in folders]
        assert shared == [section not in sections, False, False]
        # What a stage needs needs nothing more than the stage does: its parameters are all that decide.
        assert all(set(STAGES[needed].needs) <= set(described.needs) for needed in described.needs)


def test_links_bring_in_what_a_stage_made_and_not_what_it_was_given(tmp_path):
    data, noise, last = (tmp_path / name for name in ("data-1", "noise-1", "evaluation-1"))
    files = {"data/cache/cache.json": data, "provenance/data.json": data, "noise.json": noise}
    for name, folder in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for needed, folder in ((data, noise), (data, last), (noise, last)):
        stage.link(needed, folder)
    assert [(last / name).resolve() for name in files] == [folder / name for name, folder in files.items()]
    tmp_path.rename(tmp_path.with_name("moved"))
    assert (tmp_path.with_name("moved") / "evaluation-1" / "noise.json").read_text() == "noise.json"


def test_links_are_made_anew_without_touching_what_they_led_to(tmp_path):
    old, new, run = (tmp_path / name / "models" / "classifier.keras" for name in ("old", "new", "run"))
    for path in (old, new):
        path.parent.mkdir(parents=True)
        path.write_text(path.parts[-3])
        stage.link(path.parents[1], tmp_path / "run")
    assert (old.read_text(), run.read_text()) == ("old", "new")


def notebook(*counts, error=None):
    outputs = [{"output_type": "error", "ename": "ValueError", "evalue": error, "traceback": []}] if error else []
    cell = {"cell_type": "code", "source": "x"}
    cells = [cell | {"execution_count": count, "outputs": outputs if count else []} for count in counts]
    return json.dumps({"cells": cells, "metadata": {}})


def test_only_what_had_not_begun_is_tried_again(tmp_path):
    log = tmp_path / "logs" / "02_noise.ipynb"
    assert not stage.has_begun(log)
    log.parent.mkdir()
    for text, begun in ((notebook(None, None), False), ("{", False), (notebook(1, None), True)):
        log.write_text(text)
        assert stage.has_begun(log) == begun
    began = tmp_path / "began"
    began.touch()
    os.utime(began, (1e9, 1e9))
    given = f"--notebook notebooks/02_noise.ipynb --folder {tmp_path} --mark {tmp_path}/mark --kernel no-such-kernel"
    given = stage.arguments([*given.split(), "--threads", "1", "--attempt", "2", "--began", str(began)])
    assert stage.run(given) == 1
    assert log.read_text() == notebook(1, None)
    # A log of an earlier workflow is not the first attempt of this one.
    assert stage.has_begun(log, since=began.stat().st_mtime)
    assert not stage.has_begun(log, since=log.stat().st_mtime + 1)


def test_a_stage_waits_for_what_a_killed_workflow_left_running(tmp_path, capsys):
    path = tmp_path / "parameters" / "02_noise.holder.json"
    stage.wait_for_holder(path)
    assert json.loads(path.read_text()) == stage.itself()
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"])
    started = stage.psutil.Process(running.pid).create_time()
    write_json(path, stage.itself() | {"pid": running.pid, "started": started})
    threading.Thread(target=running.wait).start()
    began = time.monotonic()
    stage.wait_for_holder(path, poll=0.1)
    assert time.monotonic() - began > 0.5
    assert running.poll() is not None
    assert json.loads(path.read_text()) == stage.itself()
    assert capsys.readouterr().err.count("waiting for its end") == 1


@pytest.mark.parametrize(
    "holder",
    [{"pid": 2**22 + 1}, {"started": 1.0}, {"host": "another"}, {"slurm": "7", "host": "another"}],
    ids=["no such process", "its number was given again", "another machine", "no squeue"],
)
def test_a_holder_that_is_gone_or_cannot_be_asked_after_is_not_waited_for(tmp_path, monkeypatch, holder):
    path = tmp_path / "02_noise.holder.json"
    monkeypatch.setenv("PATH", str(tmp_path))
    write_json(path, stage.itself() | holder)
    stage.wait_for_holder(path)
    assert json.loads(path.read_text()) == stage.itself()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for squeue")
def test_a_holder_under_slurm_is_asked_after_by_its_number(tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\ncase "$*" in *"--jobs 7 "*) echo 7 running;; esac\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    seven, eight = (stage.itself() | {"slurm": number, "host": "another"} for number in "78")
    assert stage.holder_lives(seven)
    assert not stage.holder_lives(eight)
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # a requeued job has the number that it had
    assert not stage.holder_lives(seven)


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the system knows no such thing")
def test_what_a_stage_starts_works_as_a_batch():
    code = "import stage, subprocess as s, sys; stage.work_as_a_batch(); s.run([sys.executable, '-c', sys.argv[1]])"
    child = "import os; print(os.sched_getscheduler(0) == os.SCHED_BATCH)"
    here = {"cwd": ROOT / "workflow", "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    assert subprocess.check_output([sys.executable, "-c", code, child], text=True, **here) == "True\n"


@pytest.fixture
def sweep(tmp_path):
    """Return a sweep of four points: one done, one failed, one killed, and one not run."""
    found = points(axes={"noise.sigma": [0, 0.1, 0.2, 0.3]})
    stages = list(STAGES)[:-1]
    folders = [{stage: Path(sweeps.folder_of(tmp_path, stage, point["config"])) for stage in stages} for point in found]
    for point in folders:
        mark(point, "01_data", "03_classifier")
    mark(folders[0], *stages)
    finish(folders[0]["05_evaluation"])
    for number, text in ((1, notebook(1, 2, error="sigma is -1")), (2, notebook(1, None))):
        log = folders[number]["02_noise"] / "logs" / "02_noise.ipynb"
        log.parent.mkdir(parents=True)
        log.write_text(text)
    return tmp_path, found


METRICS = {
    "estimates": {
        name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in ("clean", "noisy", "denoised", "drop", "gain")
    }
    | {"recovery": {"value": None, "low": None, "high": None}},
    "image quality": [{"Images": "noisy", "Against": "clean image", "psnr_mean": 20.0, "ssim_mean": 0.5}],
    "noise": {"strength": 0.75, "clean accuracy": 0.7, "noisy accuracy": 0.3, "target accuracy": 0.31, "reached": True},
}


_MADE = {"commit": "0123456789abcdef", "dirty": True, "wall seconds": 400.0}
_HALF = {"value": 0.5, "low": 0.4, "high": 0.6}
#: Trials of remedies, as in remedies.json. One of them failed.
TRIALS = {
    "unet": _MADE
    | {"failed": None, "device": "an older CPU", "trained on": ["a GPU"], "accuracy": {"noisy": _HALF}}
    | {"recovery": _HALF, "mce": 0.8},
    "own": _MADE | {"failed": "it has NaN"},
}


def finish(folder):
    """Write the results of a finished run to a folder."""
    write_json(folder / "metrics.json", METRICS)
    for name, stem in zip(PAPER, collect._TABLES, strict=True):
        (folder / "tables").mkdir(exist_ok=True)
        save_table(beside_paper(paper_table(name), name), folder / "tables" / stem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "7")
        data = {"kind": "standin", "sha256": "00", "n_images": 60}
        for section in SECTIONS[:-1]:  # up to the evaluation
            write_record(section, folder, parameters={}, seeds={}, data=data, profile="smoke")


def mark(folders, *stages):
    for name in stages:
        (folders[name] / "marks").mkdir(parents=True, exist_ok=True)
        (folders[name] / "marks" / name).touch()


def test_the_table_holds_what_is_done_or_asked_for_and_the_points_say_why_the_rest_is_not(sweep):
    root, found = sweep
    results, told = gather(root, found)
    some, _ = gather(root, found, results=["effect/*", "accuracy/clean"])
    assert set(some["metric"]) == {"effect/drop", "effect/gain", "effect/recovery", "accuracy/clean"}
    assert list(told["state"]) == ["done", "failed", "failed", "missing"]
    assert told["reason"][1] == "02_noise: ValueError: sigma is -1"
    assert "kernel died" in told["reason"][2]
    assert told["reason"][3] == "02_noise has not run yet"
    for name in told["notebook"][1:3]:
        assert (root / name).is_file()
    assert set(results["point"]) == {"noise.sigma=0"}
    assert results["metric"].is_unique
    row = results.set_index("metric").loc["accuracy/noisy"]
    assert (row["value"], row["low"], row["high"]) == (0.5, 0.4, 0.6)
    assert np.isnan(results.set_index("metric").loc["effect/recovery", "value"])
    assert results.set_index("metric").loc["noise/strength", "value"] == 0.75
    assert {"quality/noisy against clean image/psnr", "table/clean/Accuracy/F1-score"} <= set(results["metric"])
    assert row["noise.sigma"] == 0
    assert row["autoencoder.filters"] == json.dumps(PROFILE["autoencoder"]["filters"])
    assert row["jobs"] == ", ".join(["slurm 7"] * 5)
    assert {"commit", "data kind", "backend", "device", "seconds", "versions", "profile"} <= set(results)
    # The reason for a stage that did not begin is the last line of its output.
    log = Path(sweeps.folder_of(root, "02_noise", found[3]["config"])) / "logs" / "02_noise.txt"
    log.parent.mkdir(parents=True)
    log.write_text("Traceback\nNoSuchKernel: nowhere\n\n")
    assert gather(root, found)[1]["reason"][3] == "02_noise did not begin: NoSuchKernel: nowhere"


def test_points_beside_axes_hold_the_profiles_values_and_count_as_axes(tmp_path):
    found = points(axes={"seed": [1, 2]}, points=[{"noise.sigma": 0.3}])
    _, told = gather(tmp_path, found)
    assert sweep_axes(told.assign(other=3)) == ["noise.sigma"]  # those with several values but the seed
    assert told["noise.sigma"].tolist() == [PROFILE["noise"]["sigma"]] * 2 + [0.3]
    assert told["seed"].tolist() == [1, 2, PROFILE["seed"]]


def test_values_of_several_kinds_are_written_and_a_point_that_cannot_be_read_costs_itself_alone(sweep):
    root, found = sweep[0], points(axes={"noise.sigma": [0], "classifier.jit": ["auto", True]})
    for point in found:
        stages = sweeps.stages_of(point["config"])
        folders = {stage: Path(sweeps.folder_of(root, stage, point["config"])) for stage in stages}
        mark(folders, *stages)
        finish(folders["05_evaluation"])
    results, told = gather(root, found)
    results.to_parquet(root / "mixed.parquet", index=False)
    assert set(results["classifier.jit"]) == {"auto", "true"}
    (folders["05_evaluation"] / "tables" / "table1_clean.json").unlink()
    results, told = gather(root, found)
    assert told["state"].tolist() == ["done", "failed"]
    assert told["reason"][1].startswith("its results cannot be read: FileNotFoundError")
    assert set(results["point"]) == {told["point"][0]}


def test_the_record_of_a_run_with_remedies_includes_their_trials(sweep, tmp_path):
    (evaluated,) = (path.parent for path in sweep[0].glob("evaluation-*/metrics.json"))
    write_record("remedies", tmp_path, parameters={}, seeds={}, data={"kind": "standin"}, profile="smoke")
    compared = load_records(tmp_path)["remedies"] | {"time": "2100-01-01T00:00:00+00:00"}
    write_json(tmp_path / "provenance" / "remedies.json", compared)
    write_json(tmp_path / "remedies.json", {"remedies": TRIALS})
    alone, whole = collect.made_by(evaluated), collect.made_by(evaluated, remedies=tmp_path)
    assert whole["seconds"] == pytest.approx(alone["seconds"] + compared["wall_s"] + 800, abs=0.2)
    assert whole["commit"].split(", ") == sorted([*alone["commit"].split(", "), "0123456789 with changes"])
    assert {"an older CPU", "a GPU"} <= {*whole["device"].split(", ")}
    assert whole["ended"] == compared["time"] > alone["ended"]


def test_the_table_of_a_sweep_with_remedies_has_their_metrics_and_is_kept_with_their_costs(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "report", lambda *_: "")
    root, found = tmp_path / "mine", points(axes={"seed": [1, 2]}, until="remedies")
    data = {"kind": "standin"}
    for point in found:
        stages = sweeps.stages_of(point["config"])
        folders = {stage: Path(sweeps.folder_of(root, stage, point["config"])) for stage in stages}
        mark(folders, *stages)
        finish(folders["05_evaluation"])
        write_record("remedies", folders["06_remedies"], parameters={}, seeds={}, data=data, profile="smoke")
        committed = {name: trial | {"dirty": False} for name, trial in TRIALS.items()}
        write_json(folders["06_remedies"] / "remedies.json", {"remedies": committed})
    collect.summarize(root, "mine.yaml", {"profile": "smoke"}, found, "kernel")
    results, states = read_sweep(root)
    assert states["state"].tolist() == ["done", "done"]
    assert set(results["metric"]) >= {"accuracy/noisy", "remedy/unet/noisy", "remedy/unet/mce"}
    assert not results["metric"].str.startswith("remedy/own").any()
    assert results["commit"].str.contains("0123456789").all()
    results.assign(commit="0123456789").to_parquet(root / "results.parquet", index=False)
    keep.keep_sweep(root, tmp_path / "kept" / "remedies")
    made = json.loads((tmp_path / "kept" / "remedies" / "provenance.json").read_text(encoding="utf-8"))
    for own in [made["shared"], *made["points"].values()]:
        if "remedies" in own.get("stages", {}):
            costs = own["stages"]["remedies"]
    assert set(costs) == {"seconds"}
    assert costs["seconds"] >= 800
    states.drop(columns="remedies folder").to_csv(root / "points.csv", index=False)
    with pytest.raises(
        ValueError, match=r"names no folders of remedies, but their records are needed: delete .*and run"
    ):
        keep.keep_sweep(root, tmp_path / "kept" / "remedies")


def test_a_run_before_the_calibration_has_the_other_metrics(sweep):
    root, found = sweep
    (path,) = root.glob("evaluation-*/metrics.json")
    write_json(path, {name: value for name, value in METRICS.items() if name != "noise"})
    results, told = gather(root, found)
    assert told["state"][0] == "done"
    assert not results["metric"].str.startswith("noise/").any()


def test_the_levels_of_the_noise_that_ship_are_given_and_not_calibrated():
    sweep, profile = sweeps.read(ROOT / "config" / "sweeps" / "noise.yaml", folder=ROOT / "config")
    noises = [point["config"]["noise"] for point in sweeps.points(sweep, profile, SCHEMA)]
    assert all(isinstance(noise["strength"], int | float) for noise in noises)
    default = with_defaults({"strength": 1}, SCHEMA["properties"]["noise"])
    assert default in noises
    for value in sweep["axes"]["stars"]:
        assert value["value"] == (value["noise.fewest_stars"] + value["noise.most_stars"]) / 2


def test_a_folder_belongs_to_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        collect.claim("runs/sweeps/mine", "config/sweeps/mine.yaml")
    message = r"holds the sweep of config/sweeps/mine\.yaml, but a separate folder is needed: give mine\.yaml another"
    with pytest.raises(sweeps.SweepError, match=message):
        collect.claim("runs/sweeps/mine", "mine.yaml")


def test_a_table_is_stale_where_it_is_missing_or_of_other_points_or_older_than_a_run(sweep, monkeypatch):
    (root, found), settings = sweep, {"profile": "smoke"}
    monkeypatch.setattr(collect, "report", lambda *_: "")
    # Some points are not done, so the workflow will write the table at its end.
    assert not collect.is_stale(root, settings, found)
    done = found[:1]
    assert collect.is_stale(root, settings, done)
    collect.summarize(root, "mine.yaml", settings, done, "kernel")
    assert not collect.is_stale(root, settings, done)
    assert collect.is_stale(root, settings | {"results": ["effect/*"]}, done)
    os.utime(root / "collected.json", (1e9, 1e9))
    assert collect.is_stale(root, settings, done)
    collect.summarize(root, "mine.yaml", settings, done, "kernel")
    (root / "results.parquet").unlink()
    assert collect.is_stale(root, settings, done)


def test_a_sweep_is_kept_small_with_its_failures_and_what_made_it(sweep, tmp_path, monkeypatch):
    root, found = sweep
    monkeypatch.setattr(collect, "report", lambda *_: "")
    collect.summarize(root, "mine.yaml", {"profile": "smoke"}, found, "kernel")
    results, states = read_sweep(root)

    def keep_of(commit, out):
        results.assign(commit=commit).to_parquet(root / "results.parquet", index=False)
        keep.keep_sweep(root, out)

    out = tmp_path / "kept" / "noise"
    keep_of("0123456789", out)
    assert sorted(path.name for path in out.iterdir()) == ["points.csv", "provenance.json", "results.parquet"]
    kept, points_kept = read_sweep(out)
    assert kept["value"].tolist() == pytest.approx(results["value"].tolist(), nan_ok=True)
    assert points_kept["state"].tolist() == states["state"].tolist() == ["done", "failed", "failed", "missing"]
    assert "notebook" not in {*kept, *points_kept}
    made = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    assert list(made["points"]) == kept["point"].unique().tolist() == [states["point"][0]]
    assert made["shared"]["commit"] == "0123456789"
    records = load_records(next(root.glob("evaluation-*/metrics.json")).parent)
    assert list(made["shared"]["stages"]) == sorted(records)
    assert made["shared"]["stages"]["data"]["seconds"] == round(records["data"]["wall_s"])
    with pytest.raises(ValueError, match="ran with uncommitted changes, but a commit is needed"):
        keep_of("0123456789 with changes", out)
    assert len(read_sweep(out)[0]) == len(results)
    with pytest.raises(ValueError, match=r"mine is no kept sweep, but one of seeds, noise, .* name the folder"):
        keep.keep_sweep(root, tmp_path / "mine")


def test_a_table_without_any_run_can_be_read_and_no_table_is_told_in_a_sentence(tmp_path):
    found = points(axes={"noise.sigma": [0, 0.1]})
    results, states = gather(tmp_path, found)
    with pytest.raises(FileNotFoundError, match=r"holds no points\.csv, but a finished sweep is needed: run"):
        read_sweep(tmp_path)
    results.to_parquet(tmp_path / "results.parquet", index=False)
    states.to_csv(tmp_path / "points.csv", index=False)
    results, states = read_sweep(tmp_path)
    assert len(results) == 0
    assert {"point", "metric", "value", "data kind"} <= set(results)
    assert list(states["state"]) == ["missing"] * 2
    assert spread_summary(results, {"accuracy/clean": "Clean"}).empty


def runs(values, **columns):
    """Return a tidy table of one metric."""
    frame = pd.DataFrame({"metric": "accuracy/noisy", "value": values, "low": np.nan, "high": np.nan} | columns)
    return frame.assign(point=[f"p{number}" for number in range(len(frame))])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_summary_is_mean_and_standard_deviation_of_the_runs(values):
    row = spread_summary(runs(values), {"accuracy/noisy": "Noisy", "accuracy/other": "Other"}).to_dict("records")
    assert [one["Quantity"] for one in row] == ["Noisy"]
    assert math.isclose(row[0]["Mean"], np.mean(values), abs_tol=1e-12)
    assert math.isclose(row[0]["Std"], np.std(values, ddof=1), abs_tol=1e-12)
    assert row[0]["Lowest"] <= row[0]["Mean"] + 1e-12


def test_series_averages_over_seeds_alone_and_leaves_out_what_is_undefined():
    frame = runs([0.2, 0.4, 0.9, np.nan, 0.8, np.nan], sigma=[0, 0, 1, 2, 2, 3], seed=[1, 2, 1, 1, 2, 1])
    frame.loc[2, ["low", "high"]] = 0.8, 0.95
    series = metric_series(frame, "accuracy/noisy", ["sigma"])
    assert series["runs"].tolist() == [2, 1, 1, 0]
    assert series["value"].tolist() == pytest.approx([0.3, 0.9, 0.8, np.nan], nan_ok=True)
    assert series["low"].tolist()[:2] == pytest.approx([0.3 - np.std([0.2, 0.4], ddof=1), 0.8])


def test_tables_over_runs_stand_beside_the_papers():
    title = "0 Disturbed"
    frame = runs([0.1, 0.3]).assign(metric=f"table/noisy/{title}/Precision")
    table = spread_scores(frame, "noisy").set_index("Class")
    assert table.loc[title, "Precision"] == "0.20\u00a0±\u00a00.14"
    assert table.loc[title, "Precision (paper)"] == f"{paper_table('noisy')['precision'].iloc[0]:.2f}"
    assert table.loc[title, "Recall"] == ""
    assert spread_text([0.5]) == "0.50"


def test_words_are_known_for_all_that_a_profile_must_hold_and_differ():
    names = [f"{section}.{name}" for section in SECTIONS for name in SCHEMA["properties"][section]["required"]]
    names += [f"noise.{name}" for name in SCHEMA["properties"]["noise"]["properties"]]
    words = [parameter_words(name) for name in names]
    assert not set(words) & set(names)
    assert len(set(words)) == len(names)


def test_the_text_of_a_sweep_names_each_kind_of_run_and_what_differs():
    made = {"data kind": "standin", "profile": "quick", "commit": "0123456789", "device": "a CPU"}
    results = pd.DataFrame([{"point": "a"} | made, {"point": "b"} | made | {"commit": "abcdef0123"}])
    states = pd.DataFrame({"point": list("abc"), "noise.sigma": [0, 1, 2], "stars": [0, 0, 1], "state": "done"})
    text = sweep_text(results, states).splitlines()
    assert [line.partition(" points")[0] for line in text[:2]] == ["1 of 3", "1 of 3"]
    assert "commit abcdef0123" in text[1]
    assert text[2] == "The points differ in: Gaussian noise, standard deviation; injected stars per image, mean."
    assert sweep_text(results[:0], states).startswith("None of 3 points is finished.")


def test_points_are_listed_with_their_numbers_and_without_links(sweep):
    root, found = sweep
    table = point_table(*gather(root, found))
    assert table["State"].tolist() == ["done", "failed", "failed", "missing"]
    estimates = json.loads(next(root.glob("evaluation-*/metrics.json")).read_text())["estimates"]
    assert table["Clean"].tolist() == [f"{estimates['clean']['value']:.2f}", "", "", ""]
    assert all((root / f"evaluation-{key}").is_dir() for key in table["Key"][:1])
    assert not table.astype(str).apply(lambda column: column.str.contains("ipynb|href")).to_numpy().any()


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 1), min_size=3), min_size=1, max_size=4))
def test_provenance_gives_what_is_shared_once_and_loses_nothing(stages):
    names = [f"p{number}" for number in range(len(stages))]
    results = pd.DataFrame({"point": names, "seed": range(len(names)), "commit": "0123456789"})
    made = sweep_provenance(results, stages=dict(zip(names, stages, strict=True)))
    assert made["shared"]["commit"] == "0123456789"
    for number, (name, costs) in enumerate(zip(names, stages, strict=True)):
        shared, own = ({"parameters": {}, "stages": {}} | part for part in (made["shared"], made["points"][name]))
        assert shared["parameters"] | own["parameters"] == {"seed": number}
        assert shared["stages"] | own["stages"] == costs
        assert not shared["stages"].keys() & own["stages"].keys()


@pytest.fixture
def grid():
    places = list(itertools.product([0, 0.1, 0.2], [0, 35]))
    x, y = zip(*places, strict=True)
    values = [np.nan, 0.9, 0.8, 0.7, 0.6, 0.5]
    return pd.DataFrame({"x": x, "y": y, "runs": 1, "value": values, "low": 0.4, "high": 0.95})


def test_curves_have_a_panel_a_value_and_leave_out_what_is_undefined(grid):
    figure = sweep_curves({"noisy": grid, "clean": grid}, "x", panels="y", paper={"noisy": 0.33})
    assert [ax.get_title() for ax in figure.axes] == ["y: 0", "y: 35"]
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "Noisy"]
    assert line.get_xdata().tolist() == [0.1, 0.2]


def test_curves_say_in_words_what_they_go_along_and_the_lowest_panels_have_numbers(grid):
    named = grid.assign(**{"noise.sigma": grid["x"], "stars": grid["y"]})
    figure = sweep_curves({"noisy": named}, "stars", panels="noise.sigma")
    assert figure.get_supxlabel() == "Injected stars per image, mean"
    assert figure.axes[1].get_title() == "Gaussian noise, standard deviation: 0.1"
    shown = [ax.xaxis.get_tick_params()["labelbottom"] for ax in figure.axes[:3]]
    assert shown == [False, True, True]  # there is no panel below the second one
    figure = sweep_map(named, "noise.sigma", "stars", title="Recovery")
    assert figure.axes[0].get_xlabel() == "Gaussian noise, standard deviation"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "0.1", "0.2"]


def test_map_marks_what_is_missing_and_what_is_undefined(grid):
    figure = sweep_map(grid, "x", "y", title="Recovery", missing=[(0.3, 35)])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("undefined") == 2  # the NaN, and the point (0.3, 0), which has no run
    assert texts.count("missing") == 1
    assert "0.50" in texts
