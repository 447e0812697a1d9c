"""What a user sees when a study fails, is killed, or runs again. Each test has its own copy of a finished study."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import NO_BOOK, SMOKE, Checkout, other_code, sentence

from galaxynb.stages import SECTIONS

pytestmark = pytest.mark.study

#: Remedies of the user, good and bad.
MINE = """
import os

import numpy as np


def good(images):
    return images * np.float32(0.9)


def wrong_shape(images):
    return images[:, ::2]


def nan(images):
    return images * np.nan


def broken(images):
    raise RuntimeError("no such model")


def killed(images):
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "checkout")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run all stages of a smoke study, without its book, and return its checkout. No test changes this checkout."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    done = checkout.smoke(NO_BOOK)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return checkout


@pytest.fixture
def study(finished, tmp_path):
    """Return a copy of the finished study."""
    return finished.copy(tmp_path / "study")


def test_a_stage_that_makes_the_same_again_trains_nothing_anew(study):
    marks = {path.name: path.stat().st_mtime_ns for path in (study.root / SMOKE / "marks").glob("*_*")}
    module = study.root / "galaxynb/data/download.py"
    module.write_text(other_code(module.read_text(encoding="utf-8")), encoding="utf-8")
    done = study.smoke(NO_BOOK)
    assert done.returncode == 0, done.stderr[-3000:]
    after = {path.name: path.stat().st_mtime_ns for path in (study.root / SMOKE / "marks").glob("*_*")}
    assert {name for name in marks if marks[name] != after.get(name)} - {"book"} == {"01_data"}


def records_of(study):
    return {path.name: path.read_bytes() for path in (study.root / SMOKE / "marks").glob("*_*")}


def test_a_full_disk_ends_with_one_sentence_and_the_next_run_makes_all_anew(study):
    """A limit on the size of files imitates a full disk. The changed profile affects every stage."""
    results = [study.root / SMOKE / name for name in ("metrics.json", "data/standin.h5")]
    before, marks = [path.read_bytes() for path in results], records_of(study)
    study.set("data", "n_images", 61)
    limit = 2_000_000
    failed = study.smoke(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    said = sentence(failed)
    assert "01_data failed" in said
    assert "standin.h5" in said.split("01_data failed")[1]
    assert [path.read_bytes() for path in results] == before
    assert not list((study.root / SMOKE / "data").glob("*partial*"))
    assert study.planned() >= set(SECTIONS)
    assert study.smoke("SNAKEMAKE_ARGS=-- all_noise").returncode == 0
    after = records_of(study)
    assert {name for name in after if after[name] != marks[name]} == {"01_data", "02_noise"}
    assert study.planned() & set(SECTIONS) == {"classifier", "autoencoder", "evaluation", "remedies"}


def test_a_damaged_model_ends_with_one_sentence_and_is_made_again_once_deleted(study):
    model = study.root / SMOKE / "models/classifier.keras"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    study.set("evaluation", "n_resamples", 997)
    metrics = (study.root / SMOKE / "metrics.json").read_bytes()
    said = sentence(study.smoke(NO_BOOK))
    assert "05_evaluation failed" in said
    assert "classifier.keras is not a readable Keras model" in said
    assert (study.root / SMOKE / "metrics.json").read_bytes() == metrics
    model.unlink()
    assert "classifier" in study.planned()
    assert study.smoke("SNAKEMAKE_ARGS=-- all_classifier").returncode == 0
    assert model.is_file()
    assert "classifier" not in study.planned()


def test_a_stage_that_fails_late_leaves_its_earlier_results(study):
    """The evaluation's last computation fails, after tables and figures were shown."""
    run = study.root / SMOKE
    kept = [path for name in ("tables", "figures", "models", "provenance") for path in (run / name).iterdir()]
    before = {path: path.read_bytes() for path in (*kept, run / "metrics.json")}
    study.edit("notebooks/05_evaluation.ipynb", "verdict = recovery_verdict(accuracy, effect)", "verdict = 1 / 0")
    failed = study.smoke(NO_BOOK)
    assert "05_evaluation failed: ZeroDivisionError" in sentence(failed)
    assert {path: path.read_bytes() for path in before} == before
    assert "evaluation" in study.planned()


def test_a_killed_kernel_ends_with_one_sentence_and_keeps_earlier_results(study):
    run = study.root / SMOKE
    before = {path: path.read_bytes() for path in (run / "noise.json", run / "notebooks/02_noise.ipynb")}
    whole = (study.root / "notebooks/02_noise.ipynb").read_text(encoding="utf-8")
    study.edit("notebooks/02_noise.ipynb", "from pathlib import Path", "import os; os.kill(os.getpid(), 9)")
    failed = study.smoke(NO_BOOK)
    (study.root / "notebooks/02_noise.ipynb").write_text(whole, encoding="utf-8")
    said = sentence(failed)
    assert "02_noise failed" in said
    assert "kernel died" in said.lower()
    assert {path: path.read_bytes() for path in before} == before
    assert "noise" in study.planned()
    assert study.smoke("SNAKEMAKE_ARGS=-- all_noise").returncode == 0
    assert "noise" not in study.planned()


def test_a_killed_workflow_is_gone_on_with(study):
    """SIGKILL ends the process group of make in the middle of a training. `make unlock` is the only command needed."""
    environment = Path(sys.prefix)
    shutil.rmtree(study.root / SMOKE / "models")
    checkpoints = study.root / SMOKE / "checkpoints/classifier"
    shutil.rmtree(checkpoints)
    running = subprocess.Popen(
        ["make", "--old-file", f"{environment}/ready", f"VENV={environment}", "book", "PROFILE=smoke"],
        cwd=study.root, env=study.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (checkpoints / "history.json").exists():
        assert running.poll() is None, "make ended before the training's first epoch"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (study.root / SMOKE / "models/classifier.keras").exists()
    assert study.make("unlock", "PROFILE=smoke").returncode == 0
    assert study.smoke("SNAKEMAKE_ARGS=-- all_classifier").returncode == 0
    executed = (study.root / SMOKE / "notebooks/03_classifier.ipynb").read_text(encoding="utf-8")
    assert "going on after epoch 1 of 2" in executed


def test_a_stage_that_failed_for_a_passing_reason_does_not_pass_for_done(study):
    """The input of the stage is already up to date, so only the missing stamp file makes the stage run."""
    reference = study.root / "book/reference/noise_fit.json"
    whole = reference.read_bytes()
    reference.write_bytes(whole[:20])
    study.set("data", "n_images", 62)
    failed = study.smoke("SNAKEMAKE_ARGS=-- all_noise")
    reference.write_bytes(whole)
    assert "02_noise failed" in sentence(failed)
    assert study.planned() & set(SECTIONS) == {"noise", "classifier", "autoencoder", "evaluation", "remedies"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("good", None),
        ("wrong_shape", "ValueError: the remedy returns images of shape"),
        ("nan", "with NaN or infinite values for"),
        ("broken", "RuntimeError: no such model"),
        ("killed", "it was killed (SIGKILL)"),
    ],
)
def test_a_remedy_of_the_user_is_a_row_or_says_why_not(study, name, reason):
    (study.root / "mine.py").write_text(MINE, encoding="utf-8")
    done = study.smoke(f"REMEDY=mine.py:{name}", NO_BOOK)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    remedies = json.loads((study.root / SMOKE / "remedies.json").read_text())["remedies"]
    assert set(remedies) == {"nothing", "median", "autoencoder", "own"}
    failed = {one: facts["failed"] for one, facts in remedies.items() if facts["failed"]}
    if reason is None:
        assert failed == {}
        assert 0 <= remedies["own"]["accuracy"]["noisy"]["value"] <= 1
    else:
        assert list(failed) == ["own"]
        assert reason in failed["own"]
        notebook = (study.root / SMOKE / "notebooks" / "06_remedies.ipynb").read_text(encoding="utf-8")
        assert "Your remedy failed: " in notebook


def test_a_bad_file_stops_the_run_before_the_first_stage(checkout):
    (checkout.root / "empty.h5").write_bytes(b"")
    assert "empty.h5 is empty (0 bytes), but" in sentence(checkout.smoke("DATA=empty.h5"))
    assert not (checkout.root / "runs").exists()


@pytest.mark.parametrize("stage", ["02_noise", "05_evaluation"])
def test_a_notebook_alone_says_what_it_misses(checkout, stage, tmp_path):
    done = checkout.run(
        "papermill", f"notebooks/{stage}.ipynb", str(tmp_path / "out.ipynb"), "-k", "galaxynb",
        "-p", "run_dir", str(tmp_path / "nothing"), "--cwd", "notebooks", "--no-progress-bar",
    )  # fmt: skip
    said = sentence(done)
    assert "01_data.ipynb" in said
    assert "make book" in said
