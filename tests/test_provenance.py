"""Records of runs are complete, publishable and readable, and do not invent unknown entries."""

import dataclasses
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxynb import provenance
from galaxynb.compute import VARIABLES
from galaxynb.data.galaxy10 import GALAXY10_SHA256
from galaxynb.pages import TIME_PARTS, banner, glue, notebook_times
from galaxynb.provenance import _time_text, _without_paths, load_records, record_summary, records_table, write_record

DATA = {"kind": "standin", "sha256": "ab" * 32, "source": "standin.h5", "n_images": 100}


def make(run_dir, stage="data", **changes):
    arguments = {"parameters": {"profile": "smoke", "image_size": 64}, "seeds": {"split": 42}, "data": DATA}
    return write_record(stage, run_dir, **arguments | changes)


def git(folder, *arguments):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a committed checkout that tracks the package. It is also the working folder."""
    root = tmp_path / "checkout"
    package = root / "galaxynb"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Start")
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    monkeypatch.chdir(tmp_path)
    return root


def test_record_is_what_is_written_and_loaded(tmp_path):
    written = make(tmp_path, extra={"n_test": np.int64(20)})
    assert json.loads((tmp_path / "provenance" / "data.json").read_text()) == written
    assert load_records(tmp_path) == {"data": written}
    expected = {"profile": "smoke", "seeds": {"split": 42}, "data": DATA, "extra": {"n_test": 20}}
    assert written | expected == written
    assert written["versions"]["numpy"] == np.__version__
    assert written["versions"]["python"].split(".")[0] == "3"
    assert written["device"]["cores"] >= 1
    assert written["time"].endswith("+00:00")


def test_record_measures_this_process(tmp_path):
    before = make(tmp_path)
    ballast = np.ones(30_000_000)
    after = make(tmp_path)
    assert 0 < before["wall_s"] <= after["wall_s"] < 24 * 3600
    assert after["peak_memory_bytes"] >= ballast.nbytes
    assert after["peak_memory_bytes"] >= before["peak_memory_bytes"]
    assert after["peak_memory_bytes"] < 64e9


def test_record_takes_what_notebooks_pass(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Model:
        sigma: float = 0.1
        sizes: tuple = (1, 3)

    parameters = {"noise": Model(), "rate": np.float32(0.5), "weights": None, "shape": np.arange(3), "bad": np.nan}
    written = {"noise": {"sigma": 0.1, "sizes": [1, 3]}, "rate": 0.5, "weights": None, "shape": [0, 1, 2], "bad": None}
    assert make(tmp_path, parameters=parameters, profile="quick")["parameters"] == written


def test_record_holds_no_absolute_path(tmp_path, monkeypatch):
    inside, outside = tmp_path / "project", tmp_path / "elsewhere"
    inside.mkdir()
    monkeypatch.chdir(inside)
    unchanged = {"url": "https://example.org/records/1/file.h5", "relative": "../downloads/x.h5"}
    parameters = {
        "cache": inside / "runs" / "cache",
        "weights": str(outside / "weights.keras"),
        "note": f"read from {outside}/a.h5, then {inside}/b/c.npy; ratio 1/2, km/s, a/b/c",
    }
    assert make(inside / "runs", parameters=parameters | unchanged)["parameters"] == unchanged | {
        "cache": "runs/cache",
        "weights": "weights.keras",
        "note": "read from a.h5, then b/c.npy; ratio 1/2, km/s, a/b/c",
    }
    text = (inside / "runs" / "provenance" / "data.json").read_text()
    for path in (str(tmp_path), str(Path.home()) + "/", sys.prefix):
        assert path not in text


def test_variables_that_reach_a_stage_are_named_without_passwords_and_paths(tmp_path, monkeypatch):
    for name in (*VARIABLES, *(name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_")))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy.example")
    monkeypatch.setenv("LD_PRELOAD", "/home/me/lib.so")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    expected = {"CUDA_VISIBLE_DEVICES": "1", "LD_PRELOAD": "set", "MALLOC_TRIM_THRESHOLD_": "7", "https_proxy": "set"}
    record = make(tmp_path)
    assert record["variables"] == expected
    shown = record_summary(record).set_index("What")["Value"]
    assert {name: shown[f"Variable: {name}"] for name in expected} == expected


names = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=8)
path_parts = st.lists(names, min_size=2, max_size=5)


@given(path_parts, st.sampled_from(["{}", "see {} there", "file={}", "'{}'", "({})", "x, {}"]))
def test_any_absolute_path_is_shortened(parts, frame):
    path = "/" + "/".join(part.strip(".") + "x" for part in parts)
    text = _without_paths(frame.format(path))
    assert path not in text
    assert path.rsplit("/", 1)[1] in text


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stage": "../data"}, ValueError, "stage is '../data'"),
        ({"data": {"kind": "genuine"}}, ValueError, "kind'\\] is 'genuine', but one of standin, real is needed"),
        ({"data": {}}, ValueError, "is None, but one of"),
        ({"parameters": {"model": object()}}, TypeError, "record.parameters.model is of type object"),
    ],
)
def test_record_refuses_and_writes_nothing(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        make(tmp_path, **changes)
    assert not (tmp_path / "provenance").exists()


def test_commit_and_changes(checkout, tmp_path):
    clean = make(tmp_path / "run")
    head = git(checkout, "rev-parse", "HEAD")
    assert (clean["commit"], clean["dirty"]) == (head, False)
    (checkout / "book" / "reference").mkdir(parents=True)
    (checkout / "book" / "reference" / "table.csv").write_text("x\n1\n")
    assert provenance.checkout_state() == (head, False)
    (checkout / "galaxynb" / "__init__.py").write_text("x = 1\n")
    changed = make(tmp_path / "run")
    assert (changed["commit"], changed["dirty"]) == (head, True)
    records = records_table({"data": clean, "noise": changed})
    assert records["Commit"].tolist() == [head[:10], f"{head[:10]} with changes"]


def test_commit_of_the_working_folder_where_the_package_is_installed(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site-packages" / "galaxynb" / "provenance.py"))
    assert make(tmp_path / "run")["commit"] == "unknown"
    monkeypatch.chdir(checkout / "galaxynb")
    assert len(make(tmp_path / "run")["commit"]) == 40


def test_commit_is_never_lent_by_another_repository_and_unknown_without_git(checkout, tmp_path, monkeypatch):
    installed = checkout / "env" / "galaxynb"
    installed.mkdir(parents=True)
    git(checkout, "rm", "-q", "galaxynb/__init__.py")
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "__file__", str(installed / "provenance.py"))
        lent = make(tmp_path / "run")
    monkeypatch.setenv("PATH", str(tmp_path))
    without_git = make(tmp_path / "run")
    for written in (lent, without_git):
        assert (written["commit"], written["dirty"]) == ("unknown", None)
    assert records_table({"data": without_git})["Commit"].tolist() == ["unknown"]


@pytest.mark.parametrize(
    ("gpus", "device"), [([], r"cores? \(not used: NVIDIA L4\)$"), (["gpu:0", "gpu:1"], "^2 x .*; .*cores?$")]
)
def test_backend_and_device_come_from_an_imported_keras_alone(tmp_path, monkeypatch, gpus, device):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    without = make(tmp_path)
    assert (without["backend"], without["device"]["gpus"]) == (None, [])
    assert "keras" not in sys.modules
    keras = types.SimpleNamespace(
        backend=types.SimpleNamespace(backend=lambda: "jax"),
        distribution=types.SimpleNamespace(list_devices=lambda: gpus or ["cpu:0"]),
    )
    monkeypatch.setitem(sys.modules, "keras", keras)
    monkeypatch.setattr("galaxynb.compute.gpus_of_machine", lambda: ["NVIDIA L4"])
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    written = make(tmp_path)
    assert written["backend"] == "jax"
    assert written["device"]["unused_gpus"] == ([] if gpus else ["NVIDIA L4"])
    assert len(written["device"]["gpus"]) == len(gpus)
    assert records_table({"data": written})["Device"].str.contains(device).all()


def test_load_orders_by_stage_and_skips_what_is_being_written(tmp_path):
    for stage in ("evaluation", "extra_step", "classifier", "data", "noise"):
        make(tmp_path, stage)
    (tmp_path / "provenance" / ".noise.1.partial.json").write_text("{")
    records = load_records(tmp_path)
    assert list(records) == ["data", "noise", "classifier", "evaluation", "extra_step"]
    assert records_table(records)["Stage"].tolist() == list(records)


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no provenance records"):
        load_records(tmp_path)
    folder = tmp_path / "provenance"
    folder.mkdir()
    for text in ('{"stage": "da', "[]", "{}"):
        (folder / "data.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"data\.json is not a provenance record, but one is needed: run its stage"
        ):
            load_records(tmp_path)


def test_tables_are_for_reading(tmp_path):
    entry = make(tmp_path, parameters={"profile": "quick", "sizes": (64, 128)}, extra={"steps": {"a": 1}})
    entry |= {"wall_s": 200.4, "peak_memory_bytes": 1_234_000_000, "commit": "0123456789abcdef", "dirty": False}
    row = records_table({"data": entry}).iloc[0]
    shown = row[["Stage", "Commit", "Wall time", "Peak memory"]].tolist()
    assert shown == ["data", "0123456789", "3 min 20 s", "1.23 GB"]
    values = record_summary(entry).set_index("What")["Value"]
    what = ["Parameter: sizes", "Seed: split", "Data: kind", "steps.a", "Version: numpy"]
    assert values[what].tolist() == ["64, 128", "42", "standin", "1", np.__version__]
    assert values.map(type).eq(str).all()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (7260, "2 h 01 min")]
)
def test_times_carry_over(seconds, text):
    assert _time_text(seconds) == text


@given(st.sampled_from(["smoke", "quick", "half", "paper", "my own"]), st.sampled_from([None, GALAXY10_SHA256, "00"]))
def test_banner_never_passes_synthetic_off_as_real(profile, sha256):
    standin = banner("standin", profile, sha256=sha256)
    assert standin.startswith("Synthetic stand-in data")
    assert "enuine" not in standin
    real = banner("real", profile, sha256=sha256)
    assert ("Genuine" in real) == (sha256 == GALAXY10_SHA256)
    for text in (standin, real):
        assert f"Profile {profile}" in text
        assert not set(text) & set("*_`<[#")


def test_banner_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="kind is 'jpeg', but one of standin, real is needed"):
        banner("jpeg", "quick")


def test_glue_writes_what_myst_nb_would(monkeypatch):
    myst_nb = pytest.importorskip("myst_nb.ext.glue")
    calls = []
    monkeypatch.setattr("IPython.display.display", lambda *values, **options: calls.append((values, options)))
    monkeypatch.setattr(myst_nb, "ipy_display", lambda *values, **options: calls.append((values, options)))
    texts = {"clean": "0.74 (0.73 to 0.76)", "n-test": "3,548"}
    glue(texts)
    for name, text in texts.items():
        myst_nb.glue(name, text, display=False)
    assert len(calls) == 4
    assert calls[:2] == calls[2:]


def timed(*cells):
    """Return an executed notebook with one cell per (tags, seconds), and 1.5 s outside all cells."""
    cells = [
        {"cell_type": "code", "metadata": {"tags": list(tags), "papermill": {"duration": duration}}}
        for tags, duration in cells
    ]
    whole = 1.5 + sum(cell["metadata"]["papermill"]["duration"] for cell in cells)
    prose = {"cell_type": "markdown", "metadata": {}}
    return {"cells": [prose, *cells], "metadata": {"papermill": {"duration": whole}}}


def test_times_add_up_to_the_whole():
    named = [(["part-imports", "remove-stderr"], 4.0), (["part-training"], 100.0), (["part-networks"], 3.0)]
    notebook = timed((["parameters"], 0.25), *named, ([], 0.5))
    parts = notebook_times(notebook, seconds={"epochs": 70.0, "start": 20.0, "checkpoints": 6.0})
    expected = {"kernel": 1.5, "imports": 4, "images": 0, "start": 20, "networks": 73, "checkpoints": 6, "rest": 4.75}
    assert parts == pytest.approx(expected)
    assert tuple(parts) == TIME_PARTS
    assert sum(parts.values()) == pytest.approx(notebook["metadata"]["papermill"]["duration"])
    # Of a training that said nothing, all is the rest.
    assert notebook_times(timed((["part-training"], 9.0)))["rest"] == 9


def test_times_need_papermill_and_known_parts():
    with pytest.raises(ValueError, match="holds no times"):
        notebook_times({"cells": [], "metadata": {}})
    with pytest.raises(ValueError, match="the tag of a cell is part-lunch, but one of kernel, imports"):
        notebook_times(timed((["part-lunch"], 1.0)))
