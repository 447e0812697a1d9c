"""The smoke sweep through a real Slurm on this machine, compared with the same sweep without Slurm.

`make test-slurm` runs it, as root on Debian. Other runs skip it, since it starts daemons and may install packages.
"""

import os
import re

import pandas as pd
import pytest
import slurm_cluster
from apply_samples import write_networks, write_survey
from checkout import Checkout

pytestmark = [
    pytest.mark.study,
    pytest.mark.skipif("GALAXYNB_TEST_SLURM" not in os.environ, reason="starts Slurm: run make test-slurm as root"),
]

#: Resources of each job: one core and enough memory for the smallest networks. They replace those of the profile.
SMALL = (
    "SNAKEMAKE_ARGS=--set-threads data=1 noise=1 classifier=1 autoencoder=1 evaluation=1"
    " --set-resources data:mem_mb=3000 classifier:mem_mb=3000 autoencoder:mem_mb=3000 evaluation:mem_mb=3000"
    " --slurm-status-command squeue --slurm-init-seconds-before-status-checks 5 --latency-wait 10"
)

#: A name with spaces, brackets and an umlaut.
RUNS = "runs (für) [2024_11_25]"


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """Return the results of the smoke sweep with and without Slurm."""
    if reason := slurm_cluster.install():
        pytest.skip(reason)
    results = {}
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm") / "cluster"):
        for name, options in (("local", []), ("slurm", ["EXECUTOR=slurm", SMALL])):
            checkout = Checkout(tmp_path_factory.mktemp(name))
            # Snakemake starts itself again in each job, which must get the same names.
            done = checkout.make("sweep", "SWEEP=config/sweeps/smoke.yaml", f"RUNS={RUNS}", *options)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
            results[name] = pd.read_parquet(checkout.root / RUNS / "sweeps/smoke/results.parquet")
            # Images of the user's own, in pieces on the cluster and in one process.
            images, networks = write_survey(checkout.root / "survey.h5", 2000), checkout.root / "networks"
            shared = [f"IMAGES={images}", f"RUN={write_networks(networks)}", "OUT=applied"]
            status = "SNAKEMAKE_ARGS=--slurm-status-command squeue --slurm-init-seconds-before-status-checks 5"
            pieces = ["SHARDS=4", "EXECUTOR=slurm", f"{status} --latency-wait 10"] if options else []
            done = checkout.make("apply", *shared, *pieces)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
            assert "2,000 of 2,000 images could be used." in done.stdout
            results[f"{name}, applied"] = pd.read_parquet(checkout.root / "applied" / "predictions.parquet")
    return results


def test_each_stage_ran_as_a_job_of_its_own(sweeps):
    jobs = sweeps["slurm"].drop_duplicates("point")["jobs"]
    numbers = [re.findall(r"slurm (\d+)", text) for text in jobs]
    assert all(len(own) == 5 for own in numbers)
    # Data and classifier are shared by the points; noise, autoencoder and evaluation are not.
    assert len(set().union(*numbers)) == 2 + 3 * len(jobs)
    assert (sweeps["local"]["jobs"] == "").all()


def test_numbers_are_those_of_the_run_without_slurm(sweeps):
    keys = ["point", "metric"]
    local, slurm = (sweeps[name].set_index(keys)["value"].sort_index() for name in ("local", "slurm"))
    pd.testing.assert_series_equal(local, slurm, check_exact=True)


def test_many_jobs_predict_what_one_process_does(sweeps):
    local, slurm = (sweeps[f"{name}, applied"] for name in ("local", "slurm"))
    assert len(local) == 2000
    pd.testing.assert_frame_equal(local, slurm, atol=1e-5)


def test_nothing_is_left_running(sweeps):
    import psutil

    names = {process.info["name"] for process in psutil.process_iter(["name"])}
    assert not names & {"slurmctld", "slurmd", "munged"}
