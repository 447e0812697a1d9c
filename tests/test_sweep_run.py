"""A sweep as a user runs it: shared stages, the table, what a failing point costs, a killed workflow, two at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import Checkout

SMOKE = Path("runs/sweeps/smoke")

pytestmark = pytest.mark.study


def sweep(checkout, *arguments):
    return checkout.make("sweep", "SWEEP=config/sweeps/smoke.yaml", *arguments)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished smoke sweep."""
    checkout = Checkout(tmp_path_factory.mktemp("sweep"))
    planned = sweep(checkout, "DRY_RUN=1")
    assert planned.returncode == 0, planned.stderr[-3000:]
    checkout.counts = {
        name: int(number)
        for name, number in (line.split() for line in planned.stdout.splitlines() if len(line.split()) == 2)
        if number.isdigit()
    }
    assert not list((checkout.root / SMOKE).glob("*/marks/*"))
    done = sweep(checkout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "2 of 2 points are done" in done.stdout + done.stderr
    return checkout


def table(checkout):
    return pd.read_parquet(checkout.root / SMOKE / "results.parquet")


def test_a_dry_run_says_how_many_jobs_of_what_kind(swept):
    expected = {"data": 1, "classifier": 1, "noise": 2, "autoencoder": 2, "evaluation": 2}
    assert {name: swept.counts[name] for name in expected} == expected


def test_each_point_has_all_results_and_the_classifier_is_shared(swept):
    results = table(swept)
    sizes = results.groupby("point").size()
    assert sizes.min() == sizes.max() > 150
    assert results["point"].nunique() == 2
    assert {"accuracy/clean", "effect/drop", "table/noisy/0 Disturbed/Recall"} <= set(results["metric"])
    clean = results.loc[results["metric"] == "accuracy/clean", "value"]
    assert clean.min() == clean.max()
    models = list((swept.root / SMOKE).glob("*/models/classifier.keras"))
    assert len({model.resolve() for model in models}) == 1
    assert len(models) == 3  # its own, and a link for each evaluation


def test_csv_and_parquet_hold_the_same(swept):
    csv = pd.read_csv(swept.root / SMOKE / "results.csv")
    assert csv["value"].tolist() == pytest.approx(table(swept)["value"].tolist(), nan_ok=True)
    assert csv["point"].tolist() == table(swept)["point"].tolist()


def test_report_links_each_point_to_its_executed_notebook(swept):
    page = (swept.root / SMOKE / "report.html").read_text(encoding="utf-8")
    points = pd.read_csv(swept.root / SMOKE / "points.csv")
    for name in points["notebook"]:
        assert f'href="{name}"' in page
        cells = json.loads((swept.root / SMOKE / name).read_text(encoding="utf-8"))["cells"]
        assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    assert str(swept.root) not in page


def test_running_again_makes_nothing(swept):
    before = {path: path.stat().st_mtime_ns for path in (swept.root / SMOKE).glob("*/marks/*")}
    done = sweep(swept)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in (swept.root / SMOKE).glob("*/marks/*")} == before


def test_a_bad_value_costs_its_point_alone_and_is_told(swept):
    path = swept.root / "config/sweeps/smoke.yaml"
    whole = path.read_text(encoding="utf-8")
    settings = yaml.safe_load(whole)
    settings["axes"]["noise.sigma"].append(-1)
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    before = {mark: mark.stat().st_mtime_ns for mark in (swept.root / SMOKE).glob("*/marks/*")}
    failed = sweep(swept)
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "2 of 3 points are done" in said
    assert "noise.sigma=-1 failed: 02_noise: ValueError: sigma is -1" in said
    points = pd.read_csv(swept.root / SMOKE / "points.csv", keep_default_na=False).set_index("noise.sigma")
    partial = swept.root / SMOKE / points.loc[-1, "notebook"]
    assert "sigma is -1" in partial.read_text(encoding="utf-8")
    assert "sigma is -1" in (swept.root / SMOKE / "report.html").read_text(encoding="utf-8")
    assert {mark: mark.stat().st_mtime_ns for mark in before} == before
    planned = sweep(swept, "DRY_RUN=1").stdout
    assert [line.split() for line in planned.splitlines() if line.startswith(("noise", "data", "classifier"))] == [
        ["noise", "1"]
    ] * planned.count("Job stats")
    path.write_text(whole, encoding="utf-8")
    assert sweep(swept).returncode == 0


def test_a_killed_workflow_goes_on_after_one_command(swept):
    """SIGKILL to the whole group in the middle of a stage; then unlock, the one documented command."""
    mark = next((swept.root / SMOKE).glob("evaluation-*/marks/05_evaluation"))
    model = next((swept.root / SMOKE).glob("autoencoder-*/models/autoencoder.keras"))
    model.unlink()
    environment = Path(sys.prefix)
    running = subprocess.Popen(
        ["make", "--old-file", f"{environment}/ready", f"VENV={environment}", "sweep",
         "SWEEP=config/sweeps/smoke.yaml"],
        cwd=swept.root, env=swept.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    log = model.parents[1] / "logs" / "04_autoencoder.ipynb"
    before = log.stat().st_mtime_ns
    deadline = time.monotonic() + 300
    while not (log.exists() and log.stat().st_mtime_ns != before):
        assert running.poll() is None, "make ended before the stage began"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert swept.make("unlock", "SWEEP=config/sweeps/smoke.yaml").returncode == 0
    done = sweep(swept)
    assert done.returncode == 0, done.stderr[-3000:]
    assert model.exists()
    assert mark.exists()


def test_a_sweep_of_another_name_shares_no_file(swept):
    """Two users with two sweeps in one checkout: nothing that one writes is the other's."""
    (swept.root / "config/sweeps/other.yaml").write_text((swept.root / "config/sweeps/smoke.yaml").read_text())
    planned = swept.make("sweep", "SWEEP=config/sweeps/other.yaml", "DRY_RUN=1")
    assert planned.returncode == 0
    assert planned.stdout.count("evaluation") > 0
    assert not {path.name for path in (swept.root / "runs/sweeps").iterdir()} - {"smoke", "other"}
