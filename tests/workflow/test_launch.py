"""The environment of every process of the workflow is made from a short list, whatever the user's machine sets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import environment
import launch
import pytest
import stage
from checkout import FOREIGN
from paths import ROOT

from galaxynb.compute import VARIABLES


def test_nothing_foreign_passes():
    made = environment.environment(given=FOREIGN, scratch="/scratch")
    assert {name for name, value in FOREIGN.items() if made.get(name) == value} == set()
    assert not {"TMPDIR", "OMP_NUM_THREADS", "PYTHONHOME", "GIT_DIR"} & made.keys()
    assert made == environment.environment(given={}, scratch="/scratch")


def test_what_describes_the_machine_passes(tmp_path):
    given = dict.fromkeys([*VARIABLES, "HOME", "LD_LIBRARY_PATH", "SLURM_CONF", "MALLOC_ARENA_MAX"], "x")
    given |= {"TMPDIR": str(tmp_path)}
    made = environment.environment(given=given)
    assert {name: made[name] for name in given} == given


def test_a_notebook_shows_its_figures_and_other_programs_draw_without_a_screen():
    assert environment.environment()["MPLBACKEND"] == "agg"
    assert environment.environment(scratch="/scratch")["MPLBACKEND"] == "module://matplotlib_inline.backend_inline"


def test_cores_reach_each_library():
    made = environment.environment(threads=3)
    assert {made[name] for name in made if "THREADS" in name or name == "NPROC"} == {"3"}


def test_a_home_that_cannot_be_written_is_left_alone(tmp_path):
    code = "import os, keras, matplotlib.pyplot, IPython.paths; print(IPython.paths.get_ipython_dir())"
    home = {"HOME": "/proc"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment.environment(given=os.environ | home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "/proc" not in done.stdout


def test_programs_are_those_of_this_checkout_whatever_is_installed(tmp_path):
    other = tmp_path / "other/galaxynb/__init__.py"
    other.parent.mkdir(parents=True)
    other.write_text("raise RuntimeError('another checkout')")
    program = tmp_path / "where.py"
    program.write_text("import os, galaxynb, study; print(galaxynb.__file__, study.__file__, os.getcwd())")
    command = [sys.executable, "-I", ROOT / "workflow/launch.py", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | FOREIGN | {"PYTHONPATH": str(tmp_path / "other")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [str(ROOT / "galaxynb/__init__.py"), str(ROOT / "workflow/study.py"), str(tmp_path)]


def test_results_can_be_read_whatever_the_umask(tmp_path):
    program = tmp_path / "write.py"
    program.write_text("open('result', 'w').write('x'); print(open('result').read())")
    command = f"umask 777; exec '{sys.executable}' -I '{ROOT}/workflow/launch.py' '{program}'"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "x\n", done.stderr
    assert (tmp_path / "result").stat().st_mode & 0o777 == 0o600


def test_pip_keeps_the_source_of_packages_and_nothing_else(tmp_path):
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://index.example\ntimeout = 7\n"
        "[install]\nuser = true\ntarget = /nowhere\nno-deps = true\n"
    )
    given = os.environ | {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_USER": "1", "PIP_RETRIES": "3"}
    given.pop("PIP_INDEX_URL", None)
    made = environment.pip_environment(given)
    kept = {name: made.get(name) for name in ("PIP_INDEX_URL", "PIP_TIMEOUT", "PIP_RETRIES", "PIP_CONFIG_FILE")}
    assert kept == {
        "PIP_INDEX_URL": "https://index.example", "PIP_TIMEOUT": "7", "PIP_RETRIES": "3", "PIP_CONFIG_FILE": os.devnull,
    }  # fmt: skip
    assert not {"PIP_USER", "PIP_TARGET", "PIP_NO_DEPS"} & made.keys()


def test_a_kernel_opened_by_hand_has_the_settings_of_the_workflow():
    made = environment.kernel_environment("jax")
    assert made["KERAS_BACKEND"] == "jax"
    notebook = environment.environment(scratch="", given={})
    assert {name: value for name, value in made.items() if notebook.get(name) != value} == {"KERAS_BACKEND": "jax"}
    # A kernel's variables overrule the user's, so it must not hold settings that suit only one machine.
    assert not [name for name in made if name.startswith(("MALLOC_", "TF_FORCE", "XLA_"))]


def test_the_default_kernel_runs_tensorflow_whatever_backend_is_asked_for(tmp_path):
    command = [sys.executable, "-I", ROOT / "workflow/launch.py", "kernel", "--prefix", tmp_path, "--name", "galaxynb"]
    subprocess.run(command, env=os.environ | {"BACKEND": "torch"}, check=True, capture_output=True)
    kernel = json.loads((tmp_path / "share/jupyter/kernels/galaxynb/kernel.json").read_text())
    assert kernel["env"] == environment.kernel_environment("tensorflow")


def test_settings_of_the_allocator_go_to_notebooks_that_train_on_the_cpu(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    names = {"MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"}
    assert names <= environment.environment(scratch="", gpu=False, given={}).keys()
    assert not names & environment.environment(scratch="", gpu=True, given={}).keys()
    own = environment.environment(scratch="", gpu=False, given={"MALLOC_ARENA_MAX": "4"})
    assert {name: own.get(name) for name in names} == dict.fromkeys(names) | {"MALLOC_ARENA_MAX": "4"}


def test_a_kernel_of_this_python_trains_on_a_gpu_only_with_libraries_for_it(monkeypatch):
    monkeypatch.setattr(stage, "gpus_of_machine", lambda: ["NVIDIA L4"])
    for found, uses in ((None, False), (object(), True)):
        monkeypatch.setattr(stage.importlib.util, "find_spec", lambda _, found=found: found)
        assert stage.may_use_gpu("python3") == uses


def test_jupyterlab_keeps_the_users_settings_but_for_those_of_notebooks(monkeypatch):
    given = FOREIGN | {"DISPLAY": ":0", "HOME": "/home/me"}
    made = environment.lab_environment(given)
    notebook = environment.environment(scratch="", given=given)
    for name in ("PYTHONPATH", "MPLBACKEND", "MPLCONFIGDIR", "KERAS_HOME", "KERAS_BACKEND"):
        assert made[name] == notebook[name]
    assert {name: made[name] for name in ("DISPLAY", "HOME", "IPYTHONDIR")} == {
        "DISPLAY": ":0", "HOME": "/home/me", "IPYTHONDIR": "/nowhere",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["it's", "$HOME", 'a"b', "a`b", "a\\b"])
def test_a_name_that_breaks_the_scripts_of_a_cluster_is_refused(name):
    given = {"EXECUTOR": "slurm", "DRY_RUN": "", "RUNS": name, "SWEEP": "x.yaml"}
    with pytest.raises(SystemExit, match=r"^RUNS is .+, SWEEP is x\.yaml and .+, but names without quotes"):
        launch.sweep(given)


@pytest.mark.parametrize(("dry", "listed"), [("", False), ("1", True)])
def test_a_dry_run_of_a_book_only_lists_the_jobs(dry, listed, monkeypatch):
    monkeypatch.setattr(launch, "_gpus", dict)
    names = ("KERNEL", "RUNS", "CPUS", "SNAKEMAKE_ARGS")
    given = dict.fromkeys(names, "") | {"PROFILE": "smoke", "DATA": "standin", "CORES": "all", "DRY_RUN": dry}
    assert ("--dry-run" in launch.book(given)) is listed


@pytest.mark.parametrize("data", ["standin", "galaxy10", ".", "~"])
def test_data_may_be_a_name_a_file_or_a_folder(data, monkeypatch):
    monkeypatch.chdir(ROOT)
    launch.check({"PROFILE": "smoke", "DATA": data})
    assert launch.data_path("~/x.h5") == str(Path.home() / "x.h5")
