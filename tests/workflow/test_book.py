"""The notebooks as committed, the small programs of workflow/, and what the prose says about profiles."""

import ast
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from papermill import inspect_notebook
from paths import ROOT

from galaxynb.data.galaxy10 import CLASS_COUNTS, CLASS_NAMES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECTIONS = ("data", "noise", "classifier", "autoencoder", "evaluation")
MODULES = (
    "layout",
    "files",
    "compute",
    "recipes",
    "render",
    "measure",
    "simulate",
    "data",
    "closeness",
    "noise",
    "noise_ops",
    "models",
    "ondevice",
    "training",
    "evaluation",
    "spread",
    "figures",
    "provenance",
)


def load(name):
    """Import a program of workflow/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "workflow" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def profile(name):
    return yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def write_notebook(path, *cells, **metadata):
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
    nbformat.write(notebook, path)
    return path


def code(source, count=1, outputs=()):
    return nbformat.v4.new_code_cell(source, execution_count=count, outputs=list(outputs))


def error(name="ValueError", value="no such galaxy"):
    return nbformat.v4.new_output("error", ename=name, evalue=value, traceback=[])


# The gate before the book


def test_gate_lets_an_executed_notebook_pass(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# Title"), code("1 + 1"), code("  \n", count=None)]
    path = write_notebook(tmp_path / "fine.ipynb", *cells, papermill={"exception": None})
    assert load("build_book").gate(path) is None


def test_gate_refuses_an_error_output(tmp_path):
    path = write_notebook(tmp_path / "broken.ipynb", code("1"), code("raise", 2, [error()]))
    with pytest.raises(ValueError, match=r"broken\.ipynb: cell 2 holds an error output"):
        load("build_book").gate(path)


def test_gate_refuses_a_recorded_exception(tmp_path):
    path = write_notebook(tmp_path / "died.ipynb", code("1"), papermill={"exception": True})
    with pytest.raises(ValueError, match=r"died\.ipynb: papermill recorded an exception"):
        load("build_book").gate(path)


def test_gate_refuses_a_cell_that_did_not_run(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# Title"), code("1"), code("2", count=None)]
    path = write_notebook(tmp_path / "partial.ipynb", *cells)
    with pytest.raises(ValueError, match=r"partial\.ipynb: cell 3 was not executed"):
        load("build_book").gate(path)


# Why a run failed


def test_failure_of_a_notebook_is_its_error_in_one_line(tmp_path):
    failing = code("raise", 1, [error("ValueError", "\x1b[31mno such galaxy\x1b[0m\nlook elsewhere")])
    path = write_notebook(tmp_path / "failed.ipynb", failing, papermill={"exception": True})
    assert load("explain").notebook_failure(path) == "ValueError: no such galaxy"


def test_failure_without_an_error_output_is_a_dead_kernel(tmp_path):
    path = write_notebook(tmp_path / "died.ipynb", code("1"), code("2", count=None), papermill={"exception": True})
    assert "kernel died" in load("explain").notebook_failure(path)


def test_there_is_no_failure_in_a_fine_a_missing_or_a_half_written_notebook(tmp_path):
    fine = write_notebook(tmp_path / "fine.ipynb", code("1"))
    (tmp_path / "half.ipynb").write_text(fine.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    for name in ("fine", "missing", "half"):
        assert load("explain").notebook_failure(tmp_path / f"{name}.ipynb") is None


def test_a_kernel_that_never_started_is_told_from_one_that_died(tmp_path):
    path = write_notebook(tmp_path / "never.ipynb", code("1", None), code("2", None))
    assert "kernel did not start" in load("explain").notebook_failure(path)


def test_explanation_names_the_stage_the_error_and_the_partial_notebook(tmp_path):
    (tmp_path / "logs").mkdir()
    write_notebook(tmp_path / "logs" / "01_data.ipynb", code("1"))
    log = write_notebook(tmp_path / "logs" / "02_noise.ipynb", code("raise", 1, [error()]))
    text = load("explain").explanation(tmp_path)
    assert text == f"02_noise failed: ValueError: no such galaxy (partial notebook: {log})"
    assert "no such galaxy" not in load("explain").explanation(tmp_path, since=log.stat().st_mtime + 1)


def test_explanation_of_a_book_that_failed_is_the_last_line_of_its_log(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "book.txt").write_text("building\nthe book has warnings\n\n", encoding="utf-8")
    assert load("explain").explanation(tmp_path).startswith("book failed: the book has warnings (log: ")


# What depends on what


@pytest.mark.parametrize(
    "source",
    [
        "from galaxynb import noise",
        "from galaxynb.noise import NoiseModel",
        "import galaxynb.noise as n",
        "def f():\n    from galaxynb import noise",
    ],
)
def test_modules_used_follows_every_way_to_import(tmp_path, source):
    path = write_notebook(tmp_path / "n.ipynb", nbformat.v4.new_markdown_cell("import galaxynb.data"), code(source))
    used = load("dependencies").modules_used(path)
    assert {"galaxynb/__init__.py", "galaxynb/noise.py", "galaxynb/files.py"} <= set(used)
    assert "galaxynb/simulate.py" not in used


def test_modules_used_ignores_what_is_no_module(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", code("import numpy\nfrom galaxynb import __version__"))
    assert load("dependencies").modules_used(path) == ["galaxynb/__init__.py"]


def test_modules_used_counts_the_papers_tables_with_evaluation(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", code("from galaxynb import evaluation"))
    assert "galaxynb/paper_tables.csv" in load("dependencies").modules_used(path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_modules_used_by_our_notebooks_exist(notebook):
    used = load("dependencies").modules_used(notebook)
    assert len(used) > 2
    assert all((ROOT / path).is_file() for path in used)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_a_later_one(module):
    names = load("dependencies")._imports((ROOT / "galaxynb" / f"{module}.py").read_text(encoding="utf-8"))
    assert names <= set(MODULES[: MODULES.index(module)])


def test_module_order_names_every_module():
    assert {path.stem for path in (ROOT / "galaxynb").glob("*.py")} == {"__init__", *MODULES}


def loaded_by(*modules):
    """Names of the modules that a fresh Python holds after importing `modules`."""
    program = f"import json, sys, {', '.join(modules)}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_none_of_its_modules():
    loaded = loaded_by("galaxynb")
    assert not loaded & {"keras", "tensorflow", "numpy", *(f"galaxynb.{module}" for module in MODULES)}


def test_only_the_networks_modules_load_keras():
    networks = ("noise_ops", "models", "ondevice", "training")
    modules = [f"galaxynb.{module}" for module in MODULES if module not in networks]
    assert not loaded_by(*modules) & {"keras", "tensorflow", "jax", "torch"}


# The notebooks as committed


def test_there_are_five_notebooks_in_the_order_of_the_workflow():
    assert tuple(path.stem for path in NOTEBOOKS) == load("build_book").NOTEBOOKS


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


@pytest.mark.parametrize(("notebook", "section"), [*zip(NOTEBOOKS, SECTIONS, strict=True)], ids=SECTIONS)
def test_defaults_are_those_of_the_quick_profile_on_the_standin(notebook, section):
    defaults = {
        name: ast.literal_eval(parameter["default"]) for name, parameter in inspect_notebook(str(notebook)).items()
    }
    quick = profile("quick")
    expected = {"run_dir": "../runs/quick-standin", "profile": "quick", "seed": quick["seed"]} | quick[section]
    if section == "data":
        expected |= {"source": "standin", "downloads": "../downloads"}
    schema = profile("schema")["properties"][section]["properties"]
    expected = {name: rule["default"] for name, rule in schema.items() if "default" in rule} | expected
    assert defaults == expected


# What the prose says


def test_each_page_of_the_contents_exists():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    for page in [contents["root"], *pages]:
        if page.startswith("book/notebooks/"):
            assert (ROOT / f"{page.removeprefix('book/')}.ipynb").is_file()
        elif page.startswith("book/sweeps/"):
            assert (ROOT / "book" / "reference" / "sweeps" / Path(page).name / "results.parquet").is_file()
        else:
            assert (ROOT / f"{page}.md").is_file()


def test_the_page_on_running_states_the_profiles_as_they_are():
    rows = {}
    for line in (ROOT / "book" / "running.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            title, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[title] = cells
    names = [cell.strip("`") for cell in rows["Profile"]]
    assert sorted(names) == ["half", "paper", "quick", "smoke"]
    stated = {
        "Stand-in images": ("data", "n_images"),
        "Image side, px": ("data", "image_size"),
        "Classifier, most epochs": ("classifier", "epochs"),
        "Autoencoder, epochs raw to raw": ("autoencoder", "raw_epochs"),
        "Autoencoder, epochs noisy to raw": ("autoencoder", "noisy_epochs"),
    }
    for title, (section, key) in stated.items():
        assert [int(cell) for cell in rows[title]] == [profile(name)[section][key] for name in names], title


def test_the_method_notes_state_what_the_quick_profile_changes():
    quick, paper = profile("quick"), profile("paper")
    for network in ("classifier", "autoencoder"):
        assert quick[network]["batch_size"] < paper[network]["batch_size"]
        assert quick[network]["cosine_decay"]
        assert not paper[network]["cosine_decay"]
    assert quick["classifier"]["bn_momentum"] < paper["classifier"]["bn_momentum"] == 0.99
    assert quick["classifier"]["augment"]
    assert not paper["classifier"]["augment"]


def test_no_prose_names_a_path_of_one_machine():
    pages = [*(ROOT / "book").glob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("*.yml"), *ROOT.glob("config/*.yaml")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not any(root in text for root in ("/home/", "/work/", "/Users/", "/tmp/", "/root/")), page


def test_prose_comes_from_the_notebook_as_it_is_and_results_from_the_run():
    build_book = load("build_book")

    def markdown(text):
        return {"cell_type": "markdown", "id": text[:4], "metadata": {}, "source": text}

    def ran(name, tags=(), outputs=()):
        return {
            "cell_type": "code",
            "id": name,
            "metadata": {"tags": list(tags)},
            "outputs": list(outputs),
            "source": "",
        }

    defaults = 'seed: int = 42  # of all\nname: str = "# one"  # of it\nsizes: list = [3, 5]\nrest = 1  # plain'
    executed = {
        "cells": [
            markdown("old"),
            ran("p", ["parameters"]) | {"source": defaults},
            ran("i", ["injected-parameters"]),
            ran("a", outputs=["1"]),
        ],
        "metadata": {"papermill": {"parameters": {"seed": 7, "sizes": [4], "rest": None, "name": "two", "unknown": 1}}},
    }
    current = {"cells": [ran("p", ["parameters"]), markdown("new"), ran("a"), markdown("more")], "metadata": {}}
    cells = build_book.with_current_prose(executed, current)["cells"]
    assert [cell["id"] for cell in cells] == ["p", "new", "a", "more"]
    assert cells[2]["outputs"] == ["1"]
    # What is seen is what the page was made with.
    given = "seed: int = 7  # of all\nname: str = 'two'  # of it\nsizes: list = [4]\nrest = None  # plain"
    assert cells[0]["source"] == given
    with pytest.raises(ValueError, match="has not run"):
        build_book.with_current_prose(executed, {"cells": [ran("b")]})


def test_a_fault_in_a_profile_is_named_with_its_section():
    explain, schema = load("explain"), ROOT / "config" / "schema.yaml"
    profile = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    assert explain.schema_faults(profile, schema) == ""
    profile["classifier"] |= {"patiense": 3, "epochs": "six"}
    faults = explain.schema_faults(profile, schema)
    assert "in classifier.epochs: 'six' is not of type 'integer'" in faults
    assert "in classifier: " in faults
    assert "'patiense' was unexpected" in faults
    assert len(faults) < 200
    assert explain.schema_faults({}, schema).startswith("in the profile: 'seed' is a required property")


def test_paths_in_an_explanation_are_the_users(tmp_path):
    explain = load("explain")
    error = {"output_type": "error", "ename": "ValueError", "evalue": "../../data/a.h5 is truncated"}
    cell = {"cell_type": "code", "execution_count": 1, "source": "x", "outputs": [error]}
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "01_data.ipynb").write_text(json.dumps({"cells": [cell]}))
    text = explain.explanation(tmp_path, names={"../../data/a.h5": "../data/a.h5"})
    assert text.startswith("01_data failed: ValueError: ../data/a.h5 is truncated (partial notebook: ")


WRITES = ("figures.save(", "save_table(", "models.save(", "write_json(", "model.write(", "provenance.record(")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_writes_results_only_in_its_last_cells(path):
    """A stage that fails half-way must leave the results of the run before it as they were."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    writing = [number for number, text in enumerate(code) if any(write in text for write in WRITES)]
    assert writing
    assert writing == list(range(len(code) - len(writing), len(code)))


def test_the_code_of_a_notebook_is_not_its_prose(tmp_path):
    code_of = load("dependencies").code_of
    notebook = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))
    before = code_of(NOTEBOOKS[0])
    changed = tmp_path / "changed.ipynb"
    for kind, same in (("markdown", True), ("code", False)):
        cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == kind)
        cell["source"] = ["changed"]
        changed.write_text(json.dumps(notebook), encoding="utf-8")
        assert (code_of(changed) == before) == same


def test_an_unchanged_file_is_not_written_again(tmp_path):
    write = load("dependencies").write_if_changed
    path = tmp_path / "folder" / "file"
    write(path, "text")
    path.chmod(0o444)
    os.utime(path, (1, 1))
    write(path, "text")
    assert path.stat().st_mtime == 1
    path.chmod(0o644)
    write(path, "other")
    assert path.read_text() == "other"


def test_the_data_card_states_the_published_classes_as_they_are():
    text = (ROOT / "book" / "data_card.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ([^|]+?) \| (\d+) \|$", text, flags=re.MULTILINE)
    assert rows == [(str(k), *map(str, row)) for k, row in enumerate(zip(CLASS_NAMES, CLASS_COUNTS, strict=True))]
