"""One sentence explains why a run failed."""

import json

import failures
import yaml
from notebook_samples import code, error, write_notebook
from paths import ROOT


def test_failure_of_a_notebook_is_its_error_in_one_line(tmp_path):
    failing = code("raise", 1, [error("ValueError", "\x1b[31mno such galaxy\x1b[0m\nlook elsewhere")])
    path = write_notebook(tmp_path / "failed.ipynb", failing, papermill={"exception": True})
    assert failures.notebook_failure(path) == "ValueError: no such galaxy"


def test_failure_without_an_error_output_is_a_dead_kernel(tmp_path):
    path = write_notebook(tmp_path / "died.ipynb", code("1"), code("2", count=None), papermill={"exception": True})
    assert "kernel died" in failures.notebook_failure(path)


def test_there_is_no_failure_in_a_fine_a_missing_or_a_half_written_notebook(tmp_path):
    fine = write_notebook(tmp_path / "fine.ipynb", code("1"))
    (tmp_path / "half.ipynb").write_text(fine.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    for name in ("fine", "missing", "half"):
        assert failures.notebook_failure(tmp_path / f"{name}.ipynb") is None


def test_a_kernel_that_never_started_is_told_from_one_that_died(tmp_path):
    path = write_notebook(tmp_path / "never.ipynb", code("1", None), code("2", None))
    assert "kernel did not start" in failures.notebook_failure(path)


def test_explanation_names_the_stage_the_error_and_the_partial_notebook(tmp_path):
    (tmp_path / "logs").mkdir()
    write_notebook(tmp_path / "logs" / "01_data.ipynb", code("1"))
    log = write_notebook(tmp_path / "logs" / "02_noise.ipynb", code("raise", 1, [error()]))
    text = failures.explanation(tmp_path)
    assert text == f"02_noise failed: ValueError: no such galaxy (partial notebook: {log})"
    assert "no such galaxy" not in failures.explanation(tmp_path, since=log.stat().st_mtime + 1)


def test_explanation_of_a_book_that_failed_is_the_last_line_of_its_log(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "book.txt").write_text("building\nthe book has warnings\n\n", encoding="utf-8")
    assert failures.explanation(tmp_path).startswith("book failed: the book has warnings (log: ")


def test_a_fault_in_a_profile_is_named_with_its_section():
    schema = ROOT / "config" / "schema.yaml"
    profile = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    assert failures.schema_faults(profile, schema) == ""
    profile["classifier"] |= {"patiense": 3, "epochs": "six"}
    faults = failures.schema_faults(profile, schema)
    assert "in classifier.epochs: 'six' is not of type 'integer'" in faults
    assert "in classifier: " in faults
    assert "'patiense' was unexpected" in faults
    assert len(faults) < 200
    assert failures.schema_faults({}, schema).startswith("in the profile: 'seed' is a required property")


def test_paths_in_an_explanation_are_the_users(tmp_path):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "../../data/a.h5 is truncated"}
    cell = {"cell_type": "code", "execution_count": 1, "source": "x", "outputs": [error]}
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "01_data.ipynb").write_text(json.dumps({"cells": [cell]}))
    text = failures.explanation(tmp_path, names={"../../data/a.h5": "../data/a.h5"})
    assert text.startswith("01_data failed: ValueError: ../data/a.h5 is truncated (partial notebook: ")
