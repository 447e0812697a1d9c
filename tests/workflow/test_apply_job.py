"""`make apply` starts one process, or with SHARDS a workflow of many."""

import importlib
import json
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote

import h5py
import launch
import pytest
from apply_samples import sample_networks, write_hdf5
from paths import ROOT

GIVEN = dict.fromkeys(("IMAGES", "OUT", "RUN", "SHARDS", "DRY_RUN", "SNAKEMAKE_ARGS"), "")
GIVEN |= {"RUNS": "runs", "EXECUTOR": "local", "CORES": "all"}


def test_without_shards_one_process_does_all(tmp_path):
    (tmp_path / "my cutouts").mkdir()
    images = str(tmp_path / "my cutouts")
    assert launch.apply(GIVEN | {"IMAGES": images}) == [
        "workflow/apply.py", "--images", images, "--out", "runs/applied/my cutouts",
    ]  # fmt: skip
    asked = launch.apply(GIVEN | {"IMAGES": images, "RUN": "runs/mine", "OUT": "there"})
    assert asked[3:] == ["--out", "there", "--run", "runs/mine"]


def test_with_shards_a_dry_run_of_a_million_images_divides_them_and_writes_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    images = tmp_path / "survey.h5"
    black = zlib.compress(bytes(1000 * 64 * 64 * 3))
    with h5py.File(images, "w") as file:
        made = file.create_dataset("images", (10**6, 64, 64, 3), "u1", chunks=(1000, 64, 64, 3), compression="gzip")
        for row in range(0, 10**6, 1000):
            made.id.write_direct_chunk((row, 0, 0, 0), black)
    given = {"IMAGES": str(images), "OUT": str(tmp_path / "out"), "SHARDS": "200", "DRY_RUN": "1", "EXECUTOR": "slurm"}
    arguments = launch.apply(GIVEN | given)
    said = capfd.readouterr().out
    assert said == f"{images}: 1,000,000 images in 200 ranges of up to 5,000. Nothing is written.\n"
    assert "--dry-run" in arguments
    assert "workflow/profiles/slurm" in arguments
    config = next(text for text in arguments if text.startswith("make="))
    assert json.loads(unquote(config.removeprefix("make=")))["pieces"] == 200
    assert list(tmp_path.iterdir()) == [images]


@pytest.mark.parametrize(("planned", "jobs"), [(None, 6), (4, 4)])
def test_a_dry_run_lists_as_many_jobs_as_there_will_be(planned, jobs, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    given = {"IMAGES": str(write_hdf5(tmp_path / "some.h5")), "OUT": str(tmp_path), "SHARDS": "200", "DRY_RUN": "1"}
    if planned:
        (tmp_path / "plan.json").write_text(json.dumps({"pieces": planned}))
    config = next(text for text in launch.apply(GIVEN | given) if text.startswith("make="))
    assert json.loads(unquote(config.removeprefix("make=")))["pieces"] == jobs


@pytest.mark.parametrize("shards", ["many", "0", "-3", "1.5"])
def test_shards_is_a_number(shards):
    with pytest.raises(SystemExit, match=rf"SHARDS is {shards}, but a number of jobs is needed"):
        launch.apply(GIVEN | {"IMAGES": "a.h5", "SHARDS": shards})


def test_what_needs_several_jobs_says_so():
    for name, value in {"DRY_RUN": "1", "EXECUTOR": "slurm"}.items():
        with pytest.raises(
            SystemExit,
            match=rf"{name} is {value}, but it works only with several jobs: add SHARDS=2, or leave out {name}",
        ):
            launch.apply(GIVEN | {"IMAGES": "a.h5", name: value})
    with pytest.raises(SystemExit, match=r"IMAGES is a\{b\}\.h5, but with SHARDS, a name without braces, quotes"):
        launch.apply(GIVEN | {"IMAGES": "a{b}.h5", "SHARDS": "3"})


def test_missing_images_are_named_before_anything_starts():
    with pytest.raises(SystemExit, match="IMAGES is not given, but a folder or file of images is needed"):
        launch.check({"IMAGES": ""}, "apply")
    with pytest.raises(SystemExit, match="IMAGES is nowhere, but there is no such file or folder"):
        launch.check({"IMAGES": "nowhere"}, "apply")


def test_two_thousand_jobs_are_planned_in_seconds(tmp_path):
    values = {"images": "a.h5", "out": str(tmp_path / "out"), "run": "", "pieces": 2000, "executor": "local"}
    config = launch.quote(json.dumps(values))
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/apply.smk", "--dry-run", "--quiet", "rules"]
    done = subprocess.run(
        [*command, "--config", f"make={config}"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert "2002" in done.stdout + done.stderr  # 2,000 pieces, the join and the target


@pytest.fixture
def program(monkeypatch):
    """Return the program, with small networks."""
    networks = importlib.import_module("galaxynb.apply.networks")
    monkeypatch.setattr(networks, "load_networks", lambda run: sample_networks())
    return importlib.import_module("apply")


def test_the_program_says_what_it_found_and_where_the_page_is(program, tmp_path, capsys):
    images, out = write_hdf5(tmp_path / "some.h5"), tmp_path / "out"
    assert program.main(["--images", str(images), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Images: 6, of {images}. Networks: those of the repository.")
    assert "6 of 6 images could be used." in said
    assert Path(said.strip().splitlines()[-1].removeprefix("The page is ready: ")).is_file()
    assert "earlier call" not in said
    assert program.main(["--images", str(images), "--out", str(out)]) == 0
    assert "have not changed since an earlier call. These are its results:\n6 of 6" in capsys.readouterr().out


def test_it_fails_if_no_image_could_be_used(program, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "text.png").write_text("no image")
    assert program.main(["--images", str(tmp_path / "mine"), "--out", str(tmp_path / "out")]) == 1
    assert "These could not be used: text.png (it is no PNG or JPEG image).\nThe page is" in capsys.readouterr().out


def test_the_program_makes_pieces_and_joins_them(program, tmp_path, capsys):
    given = ["--images", str(write_hdf5(tmp_path / "some.h5")), "--out", str(tmp_path / "out")]
    for step in (["--pieces", "2"], ["--piece", "1"], ["--piece", "0"]):
        assert program.main([*given, *step]) == 0
    assert not (tmp_path / "out" / "predictions.csv").exists()
    assert program.main([*given, "--join"]) == 0
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 7


def test_a_fault_is_one_sentence(program, tmp_path, capsys):
    assert program.main(["--images", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
