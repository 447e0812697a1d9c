"""workflow/study.py gives the Snakefile folders, parameters and stamp files, and finds outdated stages."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import configuration
import content
import launch
import pytest
import stage
import study
import yaml
from environment import ROW_MEMORY, cores_each
from paths import ROOT

from galaxynb.stages import SECTIONS, STAGES


def profile(name="smoke", **changes):
    return configuration.read_profile(name, ROOT / "config") | {"profile": name} | changes


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """Change to a folder with copies of the notebooks and of the other files that the workflow reads."""
    for name in ("notebooks", "config", "book/reference", "book/sweep.ipynb", "workflow"):
        there = tmp_path / name
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def smoke():
    """Return a smoke study without results."""
    smoke = study.Study(profile(), cores=2)
    smoke.prepare()
    return smoke


def finish(made, name, text="result"):
    """Write the files that a finished stage leaves."""
    folder, inputs = Path(made.root), content.checksums(made.files(name, made.root))
    for path in (folder / STAGES[name].result, folder / "notebooks" / f"{name}.ipynb"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".keras":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("config.json", text)
        else:
            path.write_text(text)
    (folder / "parameters" / f"{name}.made.json").write_text(json.dumps(content.checksums_of_results(name, folder)))
    (folder / "parameters" / f"{name}.ran.json").write_text(json.dumps(inputs))
    (folder / "marks").mkdir(exist_ok=True)
    (folder / "marks" / name).touch()


@pytest.fixture
def finished(smoke):
    """Return the smoke study, whose stages were all out of date and have finished."""
    assert outdated(smoke) == set(STAGES)
    for name in STAGES:
        finish(smoke, name)
    return smoke


def outdated(made):
    return {name for name in STAGES if made.is_outdated(name, made.root)}


def test_each_stage_has_its_notebook_and_its_section_of_the_schema():
    found = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert found == {*STAGES, "07_apply"}  # the last one is no stage: it is for images of the reader's own
    schema = configuration.read_schema(ROOT / "config")
    assert [key for key, value in schema["properties"].items() if value["type"] == "object"] == list(SECTIONS)


def test_a_stage_needs_earlier_stages_alone_and_its_notebook_shows_the_kept_files_that_it_reads():
    names = list(STAGES)
    for name, described in STAGES.items():
        assert all(names.index(other) < names.index(name) for other in described.needs)
        assert all((ROOT / path).is_file() for path in described.reads)
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        shown = set(re.findall(r"noise_fit|autoencoder_trials", text))
        assert shown == {Path(path).stem for path in described.reads}


@pytest.mark.parametrize(
    ("jobs", "cores", "memory", "each"),
    [
        *((9, 2, 24_000, 1), (9, 2, 12_000, 2), (9, 8, 32_000, 2), (1, 8, 32_000, 8), (3, 1, 4_000, 1)),
        *((9, 16, 500_000, 4), (9, 6, 32_000, 2), (9, 8, 24_000, 3)),
    ],
)
def test_remedies_share_the_cores_if_each_has_enough_memory(jobs, cores, memory, each):
    assert cores_each(jobs, cores, memory=memory) == each
    at_once = cores // each
    assert at_once == 1 or at_once * ROW_MEMORY <= memory


def test_remedies_get_the_cores_that_the_user_or_the_gpu_gives(monkeypatch):
    monkeypatch.setattr(study, "cores_each", lambda jobs, cores: 10 * jobs + cores)
    assert study.Study(profile(), cores=2).row_cpus == 32  # nothing, median and autoencoder
    assert study.Study(profile() | {"cpus": 2}, cores=4).row_cpus == 2
    assert study.Study(profile() | {"gpus": 1}, cores=4).row_cpus == 4


def test_a_study_has_one_folder_and_fills_in_defaults():
    made = study.Study(profile(), cores=2)
    assert made.root == "runs/smoke-standin"
    assert made.folders == [made.root]
    assert made.cpus == 2
    assert made.parameters("04_autoencoder", made.root)["precision"] == "auto"
    data = made.parameters("01_data", made.root)
    assert (data["run_dir"], data["source"]) == ("../runs/smoke-standin", "standin")
    assert "source" not in made.parameters("02_noise", made.root)


def test_a_configfile_that_extends_another_works_without_make():
    own = yaml.safe_load((ROOT / "config" / "half.yaml").read_text(encoding="utf-8"))
    made = study.Study(own | {"profile": "half", "seed": 3})
    classifier = made.parameters("03_classifier", made.root)
    assert (classifier["epochs"], classifier["seed"]) == (18, 3)
    assert made.parameters("05_evaluation", made.root)["n_resamples"] == 9999


def test_a_sweep_takes_a_profile_that_extends_another_and_refuses_a_wrong_one(checkout):
    (checkout / "mine.yaml").write_text("profile: half\naxes: {seed: [1, 2]}")
    made = study.Study({"sweep": "mine.yaml"})
    assert [point["config"]["data"]["image_size"] for point in made.points] == [64, 64]
    folder = shutil.copytree(ROOT / "config", checkout / "other")
    (folder / "mine.yaml").write_text("extends: smoke\nautoencoder: {noisy_epoch: 2}")
    (checkout / "mine.yaml").write_text("profile: mine\naxes: {seed: [1, 2]}")
    with pytest.raises(configuration.ConfigurationError, match=r"config/mine\.yaml: .*'noisy_epoch' was unexpected"):
        study.Study({"sweep": "mine.yaml"}, folder=folder)


def test_data_of_the_user_are_named_from_the_notebooks_and_listed(tiny_galaxy10):
    tiny_galaxy10("my galaxies.h5", size=64)
    made = study.Study(profile(source="my galaxies.h5"))
    assert re.fullmatch(r"runs/smoke-my-galaxies-[0-9a-f]{8}", made.root)
    assert made.parameters("01_data", made.root)["source"] == "../my galaxies.h5"
    listing = Path(made.root, "parameters", "source.json")
    assert [str(listing) in made.files(name, made.root) for name in ("01_data", "02_noise")] == [True, False]
    made.prepare()
    finish(made, "01_data")
    made.prepare()
    assert not made.is_outdated("01_data", made.root)
    os.utime("my galaxies.h5", (1, 1))
    made.prepare()
    assert made.is_outdated("01_data", made.root)
    with pytest.raises(configuration.ConfigurationError, match=r"^nowhere\.h5 is missing, but data are needed"):
        study.Study(profile(source="nowhere.h5")).prepare()


def test_no_two_runs_share_a_folder(checkout):
    sources = ["standin", "galaxy10", "standin.h5", "a/b c.h5", "a/b-c.h5", "b/b c.h5", "a/b c.parquet", "星系", "星云"]
    folders = [study.run_folder("r", name, source) for name in ("p", "p-a", "2024") for source in sources]
    assert len(set(folders)) == len(folders)
    assert folders[:2] == ["r/p-standin", "r/p-galaxy10"]
    assert all(re.fullmatch(r"r/[\w-]+", folder) for folder in folders)
    same = {study.run_folder("r", "p", path) for path in ("x.h5", "./x.h5", "a/../x.h5", str(checkout / "x.h5"))}
    assert len(same) == 1


def test_text_from_make_stays_what_it_is():
    given = {"KERNEL": "galaxynb", "RUNS": "2024_11_25", "CPUS": "2"}
    texts = {"profile": "2024", "source": "a 'b' \"c\" $HOME ü.h5"}
    flag, setting = launch.settings(given, **texts)
    name, _, value = setting.partition("=")
    assert (flag, name) == ("--config", "make")
    assert re.fullmatch(r"[\w.%~-]+", value)  # a word for every shell, and no number for YAML
    read = study._given({"make": value, "seed": 1})
    assert read == texts | {"kernel": "galaxynb", "runs": "2024_11_25", "cpus": 2, "seed": 1}


def test_as_a_script_it_prints_where_results_lie():
    command = [sys.executable, "workflow/study.py", "--runs", "r", "--profile", "p", "--data", "standin"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    plain, book = (subprocess.check_output([*command, *more], text=True, env=environment) for more in ([], ["--book"]))
    assert plain == "r/p-standin\n"
    assert book == f"The book is ready: {Path('r/p-standin/book/index.html').resolve()}\n"


@pytest.mark.parametrize("argument", ["-n", "--dry-run", "--dryrun", "-qn", "-c2"])
def test_a_dry_run_is_told_by_snakemakes_arguments(argument):
    assert study.is_dry_run(["--cores", "all", argument]) == (argument != "-c2")


def test_inputs_are_written_once_and_then_only_where_they_differ(smoke):
    inputs = [Path(path) for name in STAGES for path in smoke.files(name, smoke.root)]
    assert all(path.is_file() for path in inputs)
    written = [path for path in inputs if path.is_relative_to(smoke.root)]
    for path in written:
        os.utime(path, (1, 1))
    study.Study(profile(seed=7)).prepare()
    assert {path.name for path in written if path.stat().st_mtime != 1} == {f"{name}.yaml" for name in STAGES}


def test_a_dry_run_leaves_the_time_of_the_last_start(smoke):
    os.utime(smoke.began_file, (1, 1))
    study.Study(profile()).prepare(dry_run=True)
    assert Path(smoke.began_file).stat().st_mtime == 1
    study.Study(profile()).prepare()
    assert Path(smoke.began_file).stat().st_mtime > 1


def test_a_notebook_that_is_no_python_is_told_in_a_sentence(checkout, smoke):
    path = checkout / "notebooks" / "01_data.ipynb"
    text = path.read_text(encoding="utf-8")
    path.parent.unlink()
    path.parent.mkdir()
    path.write_text(text.replace("from pathlib import Path", "from pathlib imp"))
    message = r"^notebooks/01_data\.ipynb, line \d+, is no Python \(.*\)"
    with pytest.raises(configuration.ConfigurationError, match=message):
        smoke.write_inputs()


@pytest.mark.parametrize("gone", ["models/classifier.keras", "notebooks/03_classifier.ipynb"])
def test_deleted_results_take_their_stamp_and_the_books_back(finished, gone):
    page, marks = Path(finished.root, "book", "index.html"), Path(finished.root, "marks")
    page.parent.mkdir()
    for path in (page, marks / "book"):
        path.touch()
    finished.take_back_stamps()
    assert {path.name for path in marks.iterdir()} == {*STAGES, "book"}
    Path(finished.root, gone).unlink()
    finished.take_back_stamps()
    assert {path.name for path in marks.iterdir()} == {*STAGES} - {"03_classifier"}


def test_a_sweep_on_the_real_data_fetches_them_once_before_its_jobs(checkout, monkeypatch):
    fetched = []
    monkeypatch.setattr("galaxynb.data.download.fetch_galaxy10", fetched.append)
    (checkout / "mine.yaml").write_text("profile: smoke\nsource: galaxy10\naxes: {seed: [1, 2]}")
    made = study.Study({"sweep": "mine.yaml", "downloads": "there"})
    made.prepare(dry_run=True)
    assert fetched == []
    made.prepare()
    assert fetched == ["there"]


def test_a_stage_that_makes_the_same_again_leaves_the_later_ones_as_they_are(finished):
    assert outdated(finished) == set()
    finish(finished, "01_data")
    finish(finished, "03_classifier")
    assert outdated(finished) == set()
    finish(finished, "03_classifier", text="another")
    assert outdated(finished) == {"04_autoencoder", "05_evaluation", "06_remedies"}
    finish(finished, "01_data", text="another")
    assert outdated(finished) == set(STAGES) - {"01_data"}


def test_parameters_decide_their_stage_and_all_after_it(finished):
    made = study.Study(profile(noise=profile()["noise"] | {"sigma": 0.2}))
    made.prepare()
    assert outdated(made) == {"02_noise", "04_autoencoder", "05_evaluation", "06_remedies"}
    study.Study(profile()).prepare()
    assert outdated(finished) == set()


def test_stamps_before_an_outdated_stage_order_and_trigger_it_and_others_order_alone(finished):
    before = finished.inputs("04_autoencoder")["before"]
    wildcards = SimpleNamespace(folder=finished.root)
    assert all(mark.flags["ancient"] for mark in before(wildcards))
    Path(finished.root, "parameters", "04_autoencoder.code.json").write_text("other")
    assert before(wildcards) == [f"{finished.root}/marks/{name}" for name in ("01_data", "02_noise", "03_classifier")]
    assert not any(hasattr(mark, "flags") for mark in before(wildcards))


def test_checksums_of_networks_leave_out_when_they_were_saved(tmp_path):
    def save(text, year):
        (tmp_path / "models").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / "models" / "classifier.keras", "w") as archive:
            for name, held in (("metadata.json", str(year)), ("model.weights.h5", text)):
                archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), held)
        return content.checksums_of_results("03_classifier", tmp_path)

    first = save("weights", 2020)
    assert list(first) == ["models/classifier.keras"]
    assert save("weights", 2021) == first
    assert save("other", 2020) != first


def test_a_saved_network_has_the_same_checksum_when_it_is_saved_again(tmp_path):
    keras = pytest.importorskip("keras")
    (tmp_path / "models").mkdir()
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Dense(2, name="out")(inputs), name="small")
    found = []
    for _ in range(2):
        network.save(tmp_path / "models" / "autoencoder.keras")
        found.append(content.checksums_of_results("04_autoencoder", tmp_path))
    assert found[0] == found[1]


def test_a_folder_is_passed_on_with_every_file_in_it(tmp_path):
    later = ["data/cache/cache.json", "data/cache/images.npy"]
    (tmp_path / "data" / "cache").mkdir(parents=True)
    for name in (*later, "data/standin.h5"):  # no later stage reads the last
        (tmp_path / name).write_text(name)
    assert list(content.checksums_of_results("01_data", tmp_path)) == later
    assert content.checksums_of_results("05_evaluation", tmp_path) == {}


def arguments(smoke, name):
    words = ["--notebook", f"notebooks/{name}.ipynb", "--folder", smoke.root, "--mark", f"{smoke.root}/marks/{name}"]
    words += ["--kernel", "none", "--threads", "1", "--began", smoke.began_file]
    return stage.arguments([*words, "--files", *smoke.files(name, smoke.root), "--needed", smoke.root])


def test_a_stage_leaves_its_stamp_last_with_what_it_made_and_from_what(smoke, monkeypatch):
    def papermill(notebook, log, **_):
        # Write the results of the notebook, and edit the profile while it runs, as a user may.
        for path in (log, Path(smoke.root, "noise.json"), Path(smoke.root, "provenance", "noise.json")):
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        Path(smoke.root, "parameters", "02_noise.yaml").write_text("later")
        return 0

    monkeypatch.setattr(stage, "run_papermill", papermill)
    finish(smoke, "01_data")
    assert stage.run(arguments(smoke, "02_noise")) == 0
    assert Path(smoke.root, "marks", "02_noise").read_text() == "{}"
    assert list(json.loads(Path(smoke.root, "parameters", "02_noise.made.json").read_text())) == ["noise.json"]
    # The stage did not use the edit, so it is outdated.
    assert smoke.is_outdated("02_noise", smoke.root)
    smoke.write_inputs()
    assert not smoke.is_outdated("02_noise", smoke.root)


def test_a_stage_that_fails_leaves_no_stamp_and_its_earlier_results(smoke, monkeypatch):
    def files():
        return {path: path.read_bytes() for path in Path(smoke.root).rglob("*") if path.is_file()}

    finish(smoke, "02_noise")
    Path(smoke.root, "marks", "02_noise").unlink()  # as Snakemake does before a job starts
    before = files()
    monkeypatch.setattr(stage, "run_papermill", lambda *_, **__: 1)
    assert stage.run(arguments(smoke, "02_noise")) == 1
    after = files()
    assert after.items() >= before.items()
    assert {path.name for path in after.keys() - before.keys()} == {"02_noise.holder.json"}


def test_each_remedy_is_a_job_whose_inputs_decide_it(smoke):
    names = ("nothing", "median", "autoencoder")
    assert smoke.rows(smoke.root) == names
    assert smoke.row_jobs == [(smoke.root, name) for name in names]
    for name in names:
        files = smoke.row_files(name, smoke.root)
        assert all(Path(path).is_file() for path in files)
        assert f"{smoke.root}/parameters/04_autoencoder.made.json" in files
        assert smoke.is_outdated(f"remedies/{name}", smoke.root)
    code = json.loads(Path(smoke.root, "parameters/remedies/median.code.json").read_text())["modules"]
    assert "galaxynb/remedies/classical.py" in code
    assert "galaxynb/remedies/judges.py" not in code  # so changing one remedy does not repeat the others


def finish_row(made, name, text="{}"):
    folder = Path(made.root)
    inputs = content.checksums(made.row_files(name, made.root))
    for path in (folder / "remedies" / name / "remedy.json", folder / "marks" / "remedies" / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for end, value in (("made", {name: text}), ("ran", inputs)):
        (folder / "parameters" / "remedies" / f"{name}.{end}.json").write_text(json.dumps(value))


def test_remedies_follow_the_study_and_decide_the_comparison(finished):
    for name in finished.rows(finished.root):
        finish_row(finished, name)
    assert outdated(finished) == {"06_remedies"}  # its remedies have results now
    finish(finished, "06_remedies")
    assert outdated(finished) == set()
    finish_row(finished, "median", text='{"another": 1}')
    assert outdated(finished) == {"06_remedies"}
    finish(finished, "04_autoencoder", text="another")
    assert all(finished.is_outdated(f"remedies/{name}", finished.root) for name in finished.rows(finished.root))


def test_a_deleted_remedy_takes_its_stamp_back(finished):
    for name in finished.rows(finished.root):
        finish_row(finished, name)
    Path(finished.root, "remedies/median/remedy.json").unlink()
    finished.take_back_stamps()
    marks = Path(finished.root, "marks", "remedies")
    assert {path.name for path in marks.iterdir()} == {"nothing", "autoencoder"}
    assert not (marks.parent / "06_remedies").exists()


def test_the_users_remedy_is_the_last_row_and_its_file_decides_it(checkout):
    mine = checkout / "mine.py"
    mine.write_text("def restore(images): return images")
    made = study.Study(profile(remedy="mine.py:restore"), cores=2)
    made.prepare()
    assert made.rows(made.root)[-1] == "own"
    finish_row(made, "own")
    assert not made.is_outdated("remedies/own", made.root)
    finish_row(made, "median")
    mine.write_text("def restore(images): return images / 2")
    assert made.is_outdated("remedies/own", made.root)
    assert not made.is_outdated("remedies/median", made.root)
    with pytest.raises(configuration.ConfigurationError, match=r"remedy is 'nowhere\.py:f', .* there is no file"):
        study.Study(profile(remedy="nowhere.py:f")).prepare()
