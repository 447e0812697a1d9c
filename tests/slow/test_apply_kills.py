"""`make apply` that is killed at any moment goes on, and many jobs give what one process gives."""

import json
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
from apply_samples import NOISE, sample_networks
from paths import ROOT
from remedy_samples import sample_images

from galaxynb.files import write_json
from galaxynb.networks.packing import pack_model

NUMBER = 6000


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Return a folder of kept networks."""
    folder, made, card = tmp_path_factory.mktemp("networks"), sample_networks(), {}
    for name in ("classifier", "autoencoder"):
        path = folder / "models" / f"{name}.keras"
        pack_model(getattr(made, name), path)
        card[name] = {"sha256": subprocess.check_output(["sha256sum", path], text=True).split()[0]}
    NOISE.write(folder / "calibrated_noise.json")
    path = folder / "calibrated_noise.json"
    found = {"calibrated": True, "clean accuracy": 1, "noisy accuracy": 0.5, "target accuracy": 0.5, "reached": True}
    more = {"calibration": found, "evaluations": {"strength": [], "accuracy": []}}
    write_json(path, json.loads(path.read_text()) | more)
    data = {"kind": "standin", "standin": "galaxynb", "n_images": 120, "image_size": 32, "source": "some.h5"}
    write_json(folder / "card.json", {"networks": card, "data": data, "measures": made.measures})
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return an HDF5 file of many images."""
    path = tmp_path_factory.mktemp("images") / "some.h5"
    small, labels = sample_images()
    rows = np.arange(NUMBER) % len(small)
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("images", (NUMBER, 64, 64, 3), np.uint8, chunks=(1, 64, 64, 3))
        for first in range(0, NUMBER, 500):
            part = small[rows[first : first + 500]].astype(np.uint16)
            part = part + (np.arange(first, first + len(part)) % 50)[:, None, None, None]
            stored[first : first + 500] = part.repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)
        file["ans"] = labels[rows].astype(np.uint8)
        file.update({name: np.full(NUMBER, 0.262 * 4) for name in ("ra", "dec", "redshift", "pxscale")})
    return path


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
