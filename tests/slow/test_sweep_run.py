"""A sweep as a user runs it: shared stages, the table, failing points, a killed workflow, two sweeps at once."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import pandas as pd
import psutil
import pytest
import yaml
from checkout import Checkout

from galaxynb.stages import SECTIONS

SMOKE = Path("runs/sweeps/smoke")
TOTALS = ("all", "total")

pytestmark = pytest.mark.study


def sweep(checkout, *arguments):
    return checkout.make("sweep", "SWEEP=config/sweeps/smoke.yaml", *arguments)


def counts(planned):
    """Return the number of jobs of each kind in the output of a dry run."""
    rows = [line.split() for line in planned.splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and row[0] not in TOTALS}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Run a smoke sweep, and at the same time the first stages of another user's sweep."""
    # The path of a checkout may hold a space, and results may lie outside it.
    checkout = Checkout(tmp_path_factory.mktemp("sweeps") / "a checkout")
    shutil.copy(checkout.root / "config/sweeps/smoke.yaml", checkout.root / "config/sweeps/other.yaml")
    planned = sweep(checkout, "DRY_RUN=1")
    assert planned.returncode == 0, planned.stderr[-3000:]
    checkout.counts = counts(planned.stdout)
    assert not list((checkout.root / SMOKE).glob("*/marks/*"))
    with ThreadPoolExecutor() as pool:
        other = pool.submit(
            checkout.make,
            "sweep",
            "SWEEP=config/sweeps/other.yaml",
            "SNAKEMAKE_ARGS=--cores 1 -- all_noise",
            f"RUNS={checkout.root.parent / 'elsewhere'}",
        )
        done = sweep(checkout)
        checkout.other = other.result()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert "2 of 2 points are done" in done.stdout + done.stderr
    return checkout


def table(checkout):
    return pd.read_parquet(checkout.root / SMOKE / "results.parquet")


def test_a_dry_run_says_how_many_jobs_of_what_kind(swept):
    assert swept.counts == {"data": 1, "classifier": 1, "noise": 2, "autoencoder": 2, "evaluation": 2}


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
    assert len(models) == 5  # one folder with results, and links in the folders of the autoencoders and evaluations


def test_csv_and_parquet_hold_the_same(swept):
    csv = pd.read_csv(swept.root / SMOKE / "results.csv")
    assert csv["value"].tolist() == pytest.approx(table(swept)["value"].tolist(), nan_ok=True)
    assert csv["point"].tolist() == table(swept)["point"].tolist()


def test_report_names_the_folder_of_each_points_executed_notebook(swept):
    page = (swept.root / SMOKE / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    points = pd.read_csv(swept.root / SMOKE / "points.csv")
    for name in points["notebook"]:
        folder = Path(name).parts[0]
        assert f">{folder.removeprefix('evaluation-')}<" in page
        assert f'href="{name}"' not in page
        cells = json.loads((swept.root / SMOKE / name).read_text(encoding="utf-8"))["cells"]
        assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    assert str(swept.root) not in page


def test_running_again_makes_nothing(swept):
    before = {path: path.stat().st_mtime_ns for path in (swept.root / SMOKE).glob("*/marks/*")}
    done = sweep(swept)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in (swept.root / SMOKE).glob("*/marks/*")} == before


def test_bad_data_cost_their_point_alone_and_are_told(swept, tiny_galaxy10):
    """The data are damaged in the middle, where only the first stage reads them."""
    damaged = tiny_galaxy10(swept.root / "damaged.h5", n=40)
    with h5py.File(damaged) as file:
        place = file["images"].id.get_chunk_info(20).byte_offset
    content = bytearray(damaged.read_bytes())
    content[place : place + 100] = bytes(100)
    damaged.write_bytes(content)
    path = swept.root / "config/sweeps/smoke.yaml"
    whole = path.read_text(encoding="utf-8")
    path.write_text(yaml.safe_dump(yaml.safe_load(whole) | {"points": [{"source": "damaged.h5"}]}), encoding="utf-8")
    before = {mark: mark.stat().st_mtime_ns for mark in (swept.root / SMOKE).glob("*/marks/*")}
    failed = sweep(swept)
    said = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "2 of 3 points are done" in said
    assert re.search(r"source=damaged\.h5 failed: 01_data: ValueError: 'images' of \S+ is damaged", said)
    points = pd.read_csv(swept.root / SMOKE / "points.csv", keep_default_na=False).set_index("state")
    partial = swept.root / SMOKE / points.loc["failed", "notebook"]
    for told in (partial, swept.root / SMOKE / "report.html"):
        assert "is damaged" in told.read_text(encoding="utf-8")
    assert {mark: mark.stat().st_mtime_ns for mark in before} == before
    planned = sweep(swept, "DRY_RUN=1")
    assert planned.returncode == 0
    assert counts(planned.stdout) == dict.fromkeys(SECTIONS[:5], 1)
    path.write_text(whole, encoding="utf-8")
    again = sweep(swept)
    assert again.returncode == 0
    # No job is left, and the table belongs to the changed sweep.
    assert "2 of 2 points are done" in again.stdout + again.stderr
    assert len(pd.read_csv(swept.root / SMOKE / "points.csv")) == 2


def test_a_killed_workflow_goes_on_after_one_command(swept):
    """SIGKILL ends make and Snakemake in the middle of a stage, which goes on. `make unlock` is then enough."""
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
    while not model.parents[1].joinpath("parameters/04_autoencoder.holder.json").exists() or (
        (log.stat().st_mtime_ns if log.exists() else before) == before
    ):
        assert running.poll() is None, "make ended before the stage began"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workflow = [process for process in psutil.Process(running.pid).children(recursive=True) if is_snakemake(process)]
    assert workflow
    for process in [psutil.Process(running.pid), *workflow]:
        process.send_signal(signal.SIGKILL)
    running.wait()
    locked = sweep(swept)
    assert locked.returncode != 0
    assert "unlock" in locked.stdout + locked.stderr
    assert swept.make("unlock", "SWEEP=config/sweeps/smoke.yaml").returncode == 0
    done = sweep(swept)
    assert done.returncode == 0, done.stderr[-3000:]
    assert model.exists()
    points = pd.read_csv(swept.root / SMOKE / "points.csv")
    assert points["state"].tolist() == ["done", "done"]


def is_snakemake(process):
    """Return whether a process is Snakemake itself and not one of its stages."""
    return process.cmdline()[1:3] == ["-m", "snakemake"]


def test_two_sweeps_at_once_each_write_their_own(swept):
    """Two users may share a checkout, or one user may have two terminals."""
    assert swept.other.returncode == 0, swept.other.stderr[-3000:]
    folder = swept.root.parent / "elsewhere/sweeps/other"
    assert len(list(folder.glob("noise-*/noise.json"))) == 2
    for record in folder.glob("*/provenance/*.json"):
        assert not record.is_symlink() or record.resolve().is_relative_to(folder)
    for path in folder.glob("*/parameters/*.yaml"):
        assert "/sweeps/other/" in yaml.safe_load(path.read_text(encoding="utf-8"))["run_dir"]
    (swept.root / "other").mkdir()
    taken = swept.root / "other" / "smoke.yaml"
    shutil.copy(swept.root / "config/sweeps/smoke.yaml", taken)
    refused = swept.make("sweep", "SWEEP=other/smoke.yaml")
    assert refused.returncode != 0
    assert "holds the sweep of config/sweeps/smoke.yaml, but" in refused.stderr
    assert "give other/smoke.yaml another name" in refused.stderr
