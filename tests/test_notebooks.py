"""The notebooks as committed: valid, short, typed, without results."""

import ast
import json
import statistics
import subprocess
import sys

import nbformat
import pytest
import yaml
from papermill import inspect_notebook
from paths import ROOT

from galaxynb.files import run_path
from galaxynb.noise import NoiseModel
from galaxynb.stages import SECTIONS, STAGES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def profile(name):
    return yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


#: The notebooks of the study. One more applies its networks to images of the reader's own.
STUDY = [path for path in NOTEBOOKS if path.stem != "07_apply"]


def test_there_are_six_notebooks_in_the_order_of_the_workflow_and_one_for_own_images():
    assert [path.stem for path in STUDY] == list(STAGES)
    assert [path.stem for path in NOTEBOOKS] == [*STAGES, "07_apply"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_valid_and_holds_no_results(notebook):
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    assert not {"papermill", "widgets"} & set(content.metadata)
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short(notebook):
    lines = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert statistics.median(lines) <= 8
    assert max(lines) <= 25


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_parameter_is_typed_and_explained(notebook):
    (cell,) = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    parameters = inspect_notebook(str(notebook))
    assert set(parameters) == {node.target.id for node in ast.parse(cell.source).body}
    for name, parameter in parameters.items():
        assert parameter["inferred_type_name"] in {"str", "int", "float", "bool", "list"}, name
        assert len(parameter["help"]) > 10, name


@pytest.mark.parametrize(("notebook", "section"), [*zip(STUDY, SECTIONS, strict=True)], ids=SECTIONS)
def test_defaults_are_those_of_the_quick_profile_on_the_standin(notebook, section):
    defaults = {
        name: ast.literal_eval(parameter["default"]) for name, parameter in inspect_notebook(str(notebook)).items()
    }
    quick = profile("quick")
    expected = {"run_dir": "../runs/quick-standin", "profile": "quick", "seed": quick["seed"]}
    if section == "remedies":  # the section is for the jobs that try the remedies
        assert defaults == expected | {"remedies": []}
        return
    expected |= quick[section]
    if section == "data":
        expected |= {"source": "standin", "downloads": "../downloads"}
    schema = profile("schema")["properties"][section]["properties"]
    expected = {name: rule["default"] for name, rule in schema.items() if "default" in rule} | expected
    assert defaults == expected


WRITES = (
    "save_figure(",
    "save_predictions(",
    "save_table(",
    "save_model(",
    "write_json(",
    "model.write(",
    "calibration.write(",
    "write_record(",
)


@pytest.mark.parametrize("path", STUDY, ids=lambda path: path.stem)
def test_a_notebook_writes_results_only_in_its_last_cells(path):
    """If a stage fails half-way, the results of the earlier run must stay unchanged."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    writing = [number for number, text in enumerate(code) if any(write in text for write in WRITES)]
    assert writing
    assert writing == list(range(len(code) - len(writing), len(code)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_code_after_the_parameters_checks_the_working_folder(path):
    """From another folder, a relative path would put results outside the checkout."""
    parameters, first, *_ = code_cells(path)
    assert parameters.metadata["tags"] == ["parameters"]
    checked = "\nrun = run_path(run_dir)\n" if path in STUDY else "\nfolder = run_path(out)\n"
    assert checked in first.source


def test_a_notebook_does_not_run_with_the_package_of_another_checkout(tmp_path, monkeypatch):
    for name in ("notebooks/01_data.ipynb", "galaxynb/__init__.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    with pytest.raises(ImportError, match=f"^galaxynb comes from {ROOT}/galaxynb, but {tmp_path}/galaxynb, beside"):
        run_path("../runs/mine")


def test_a_notebook_in_another_working_folder_says_so_and_writes_nothing(tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "notebooks").symlink_to(ROOT / "notebooks")
    out = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", "notebooks/01_data.ipynb", str(out), "-k", "python3"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    message = f"the working folder is {checkout}, but the folder notebooks/ is needed, because paths such as "
    assert message + "../runs/quick-standin are relative to it: give papermill `--cwd notebooks`" in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkout", "notebooks", "out.ipynb"]
    (error,) = [cell for cell in nbformat.read(out, as_version=4).cells if cell.get("outputs")][-1].outputs
    assert error.ename == "FileNotFoundError"


def test_default_shape_of_the_noise_is_the_models():
    """The noise model holds the shape. Notebook 02 and the schema repeat it, for their readers."""
    model, calibrate = NoiseModel.from_profile({})
    assert (model, calibrate) == (NoiseModel(), True)
    parameters = inspect_notebook(str(ROOT / "notebooks" / "02_noise.ipynb")).items()
    defaults = {name: ast.literal_eval(parameter["default"]) for name, parameter in parameters}
    shape = {name: defaults[name] for name in profile("schema")["properties"]["noise"]["properties"]}
    assert set(shape) == {"strength", "sigma", "fewest_stars", "most_stars", "radius", "brightness", "blur"}
    assert NoiseModel.from_profile(shape) == (NoiseModel(), True)


def test_only_the_evaluation_and_the_pictures_of_the_noise_see_test_images():
    """Trainings and the calibration of the noise must not choose anything by the test images."""
    users = [path.stem for path in NOTEBOOKS if any("split.test" in cell.source for cell in code_cells(path))]
    assert set(users) <= {"01_data", "02_noise", "05_evaluation"}
    (calibration,) = [cell.source for cell in code_cells(NOTEBOOKS[3]) if "remembered(" in cell.source]
    assert '"indices": split.validation' in calibration
