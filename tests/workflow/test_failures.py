"""One sentence explains why a run failed."""

import failures
import pytest
import yaml
from notebook_samples import code, error, write_notebook
from paths import ROOT


@pytest.fixture
def logs(tmp_path):
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def test_failure_of_a_notebook_is_its_error_in_one_line(tmp_path):
    failing = code("raise", 1, [error("ValueError", "\x1b[31mno such galaxy\x1b[0m\nlook elsewhere")])
    path = write_notebook(tmp_path / "failed.ipynb", failing, papermill={"exception": True})
    assert failures.notebook_failure(path) == "ValueError: no such galaxy"


def test_failure_without_an_error_output_is_a_kernel_that_died_or_never_started(tmp_path):
    path = write_notebook(tmp_path / "died.ipynb", code("1"), code("2", count=None), papermill={"exception": True})
    assert "kernel died" in failures.notebook_failure(path)
    path = write_notebook(tmp_path / "never.ipynb", code("1", None), code("2", None))
    assert "kernel did not start" in failures.notebook_failure(path)


def test_there_is_no_failure_in_a_fine_a_missing_or_a_half_written_notebook(tmp_path):
    fine = write_notebook(tmp_path / "fine.ipynb", code("1"))
    (tmp_path / "half.ipynb").write_text(fine.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    for name in ("fine", "missing", "half"):
        assert failures.notebook_failure(tmp_path / f"{name}.ipynb") is None


def test_explanation_names_the_stage_the_error_and_the_partial_notebook_in_the_users_words(logs):
    write_notebook(logs / "01_data.ipynb", code("1"))
    log = write_notebook(logs / "02_noise.ipynb", code("raise", 1, [error(value="../../data/a.h5 is truncated")]))
    text = failures.explanation(logs.parent, names={"../../data/a.h5": "../data/a.h5"})
    assert text == f"02_noise failed: ValueError: ../data/a.h5 is truncated (partial notebook: {log})"
    assert "is truncated" not in failures.explanation(logs.parent, since=log.stat().st_mtime + 1)


def test_explanation_of_a_book_that_failed_is_the_last_line_of_its_log(logs):
    (logs / "book.txt").write_text("building\nthe book has warnings\n\n", encoding="utf-8")
    assert failures.explanation(logs.parent).startswith("book failed: the book has warnings (log: ")


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
