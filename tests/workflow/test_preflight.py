"""A study or a sweep stops before its first stage if a later stage would refuse something."""

import shutil
from collections import namedtuple
from pathlib import Path

import configuration
import preflight
import pytest
import study
import yaml
from paths import ROOT

from galaxynb.noise import NoiseModel

#: Values that the schema or a later stage refuses, with what the message says.
REFUSED = {
    "seed": (4294967296, "4294967296 is greater than the maximum of 4294967295"),
    "classifier.learning_rate": (
        "1e-3",
        r"'1e-3' is not of type 'number' \(YAML reads it as text: write 0\.001 without",
    ),
    "noise.fewest_stars": (99, rf"n_stars is \(99, {NoiseModel().n_stars[1]}\), but"),
    "noise.strength": ("strong", r"in noise\.strength: 'strong' does not match '\^calibrate\$'"),
    "noise.radius": ([0.2, 0.1], r"radius is \(0\.2, 0\.1\), but"),
    "noise.blur": ([0.2], r"in noise\.blur: \[0\.2\] is too short"),
    "data.image_size": (60, "image_size is 60, but a multiple of 8 is needed for 3 halvings: use 56 or 64"),
    "classifier.weights": ("nowhere.h5", "weights is notebooks/nowhere.h5, but there is no such file"),
    "autoencoder.width": (0, "0 is less than the minimum of 1"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Change to a folder with copies of what the workflow reads; return its config/."""
    for name in ("notebooks", "book/reference", "book/sweep.ipynb", "workflow"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(ROOT / "config", tmp_path / "config"))


def refuse(config, message, folder):
    """Assert that a study is refused in one sentence, and that nothing is made."""
    made = study.Study(config, folder=folder)
    with pytest.raises(configuration.ConfigurationError, match=message) as raised:
        made.prepare()
    assert "\n" not in str(raised.value)
    assert not Path(made.runs).exists()


def test_a_right_study_passes(folder):
    preflight.check_study(
        study.Study(configuration.read_profile("paper", folder) | {"profile": "paper"}), folder=folder
    )


@pytest.mark.parametrize("name", [name for name in REFUSED if "fewest" in name or "weights" in name or "size" in name])
def test_a_value_that_a_later_stage_refuses_stops_the_study(name, folder):
    section, _, key = name.partition(".")
    value, message = REFUSED[name]
    profile = configuration.read_profile("quick", folder)
    changes = {"autoencoder": profile["autoencoder"] | {"filters": [8, 8, 8]}} | {
        section: profile[section] | {key: value}
    }
    refuse(profile | changes | {"profile": "quick"}, f"^config/quick.yaml: {message}", folder)


@pytest.mark.parametrize("name", REFUSED)
def test_each_point_of_a_sweep_is_checked(name, folder):
    value, message = REFUSED[name]
    point = {"autoencoder.filters": [8, 8, 8], name: value}
    Path("mine.yaml").write_text(yaml.safe_dump({"profile": "quick", "points": [{"seed": 1}, point]}), encoding="utf-8")
    refuse({"sweep": "mine.yaml"}, f"^config/quick.yaml, .*{name}=.*{message}", folder)


def quick(folder, **changes):
    return configuration.read_profile("quick", folder) | {"profile": "quick"} | changes


def test_a_kernel_that_is_missing_or_broken_is_told(folder, tmp_path, monkeypatch):
    refuse(
        quick(folder, kernel="nokernel"), r"^KERNEL is nokernel, but one of the registered kernels \(.*\) is", folder
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    broken = tmp_path / "jupyter/kernels/broken"
    broken.mkdir(parents=True)
    (broken / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "x", "language": "python"}')
    refuse(
        quick(folder, kernel="broken"), "^KERNEL is broken, but /nowhere/python, which it starts, is missing", folder
    )


def test_nothing_is_checked_before_unlocking(folder):
    study.Study(quick(folder, kernel="nokernel"), folder=folder).prepare(unlock=True)


def test_a_full_disk_is_told(folder, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**9))
    refuse(quick(folder), r"^the disk of runs has 1\.0 GB free, but 1\.1 GB is needed", folder)


@pytest.mark.parametrize("runs", ["file", "file/runs"])
def test_a_folder_of_results_that_cannot_be_written_is_told(runs, folder):
    Path("file").touch()
    made = study.Study(quick(folder, runs=runs), folder=folder)
    with pytest.raises(configuration.ConfigurationError, match=f"^RUNS is {runs}, but a folder that can be written"):
        made.prepare()


def test_names_that_snakemake_takes_for_wildcards_are_told(folder):
    refuse(quick(folder, runs="a{b}"), "^RUNS is 'a{b}', but a name without braces", folder)


def test_a_notebook_that_cannot_run_is_told(folder):
    Path("notebooks").unlink()
    shutil.copytree(ROOT / "notebooks", "notebooks")
    last = Path("notebooks/05_evaluation.ipynb")
    last.write_text(last.read_text(encoding="utf-8").replace("n_resamples", "n_samples"), encoding="utf-8")
    refuse(quick(folder), "^notebooks/05_evaluation.ipynb does not set n_resamples in its cell with the tag", folder)


def test_data_that_the_first_stage_would_refuse_are_told(folder, tiny_galaxy10):
    tiny_galaxy10("small.h5", size=40)
    for name, message in {"small.h5": "image_size is 64, but 32 to 40 is needed", "notebooks": "notebooks"}.items():
        refuse(quick(folder, source=name), f"^{message}", folder)
        Path("mine.yaml").write_text(f"profile: quick\npoints: [{{seed: 1}}, {{source: {name}}}]\n", encoding="utf-8")
        refuse({"sweep": "mine.yaml"}, f"^{message}", folder)
