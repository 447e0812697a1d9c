"""`make apply` that is killed at any moment goes on, and many jobs give what one process gives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from apply_samples import write_networks, write_survey
from paths import ROOT

NUMBER = 6000


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return write_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("images") / "some.h5", NUMBER)


def command(images, networks, out):
    launched = [sys.executable, "-I", "workflow/launch.py", "workflow/apply.py"]
    return [*launched, "--images", str(images), "--run", str(networks), "--out", str(out)]


def finished(images, networks, out):
    done = subprocess.run(command(images, networks, out), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(Path(out) / "predictions.parquet")


def test_killed_at_ten_moments_it_gives_the_same_table_and_makes_no_piece_twice(images, networks, tmp_path):
    whole = finished(images, networks, tmp_path / "whole")
    assert len(whole) == NUMBER
    out, seen, kills = tmp_path / "out", {}, 0
    for moment in range(10):
        process = subprocess.Popen(command(images, networks, out), cwd=ROOT, start_new_session=True)
        began = time.monotonic()
        # Each time, one more piece than before; the last kills also come in the midst of a piece or of the join.
        while process.poll() is None and len(list(out.glob("pieces/*.parquet"))) <= moment:
            time.sleep(0.02)
            assert time.monotonic() - began < 120
        time.sleep(0.05 * moment)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        for path in out.glob("pieces/*.parquet"):
            made = path.stat().st_mtime_ns
            assert seen.setdefault(path.name, made) == made, f"{path.name} was made twice"
    assert kills >= 8
    table = finished(images, networks, out)
    pd.testing.assert_frame_equal(table, whole, atol=1e-5)
    assert not (out / "pieces").exists()
    with h5py.File(out / "denoised.h5") as one, h5py.File(tmp_path / "whole" / "denoised.h5") as other:
        assert np.abs(one["images"][...].astype(int) - other["images"][...]).max() <= 1


def test_many_jobs_give_what_one_process_gives(images, networks, tmp_path):
    given = {"IMAGES": images, "RUN": networks, "OUT": tmp_path / "out", "SHARDS": 3, "EXECUTOR": "local"}
    given |= {"RUNS": "runs", "CORES": 2, "DRY_RUN": "", "SNAKEMAKE_ARGS": ""}
    variables = os.environ | {name: str(value) for name, value in given.items()}
    done = subprocess.run(
        [sys.executable, "-I", "workflow/launch.py", "apply"], cwd=ROOT, env=variables, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    pd.testing.assert_frame_equal(table, finished(images, networks, tmp_path / "whole"), atol=1e-5)
