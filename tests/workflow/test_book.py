"""The book has only notebooks that ran to their end, with their current prose."""

import os

import nbformat
import pytest
from content import write_if_changed
from notebook_samples import code, error, write_notebook

import book


def test_gate_lets_an_executed_notebook_pass(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# Title"), code("1 + 1"), code("  \n", count=None)]
    path = write_notebook(tmp_path / "fine.ipynb", *cells, papermill={"exception": None})
    assert book.gate(path) is None


def test_gate_refuses_an_error_output(tmp_path):
    path = write_notebook(tmp_path / "broken.ipynb", code("1"), code("raise", 2, [error()]))
    with pytest.raises(ValueError, match=r"broken\.ipynb: cell 2 holds an error output"):
        book.gate(path)


def test_gate_refuses_a_recorded_exception(tmp_path):
    path = write_notebook(tmp_path / "died.ipynb", code("1"), papermill={"exception": True})
    with pytest.raises(ValueError, match=r"died\.ipynb: papermill recorded an exception"):
        book.gate(path)


def test_gate_refuses_a_cell_that_did_not_run(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# Title"), code("1"), code("2", count=None)]
    path = write_notebook(tmp_path / "partial.ipynb", *cells)
    with pytest.raises(ValueError, match=r"partial\.ipynb: cell 3 was not executed"):
        book.gate(path)


def test_prose_comes_from_the_notebook_as_it_is_and_results_from_the_run():

    def markdown(text):
        return {"cell_type": "markdown", "id": text[:4], "metadata": {}, "source": text}

    def ran(name, tags=(), outputs=()):
        return {
            "cell_type": "code",
            "id": name,
            "execution_count": 1,
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
    now = defaults.replace("# of all", "# of everything")
    cells = [
        ran("p", ["parameters"]) | {"source": now},
        markdown("new"),
        ran("other id", ["hide-input"]),
        markdown("more"),
    ]
    current = {"cells": cells, "metadata": {}}
    cells = book.with_current_prose(executed, current)["cells"]
    assert [cell["id"] for cell in cells] == ["p", "new", "other id", "more"]
    assert cells[2]["metadata"]["tags"] == ["hide-input"]
    assert cells[2]["outputs"] == ["1"]
    # The page shows the parameters that it was made with.
    given = "seed: int = 7  # of everything\nname: str = 'two'  # of it\nsizes: list = [4]\nrest = None  # plain"
    assert cells[0]["source"] == given
    with pytest.raises(ValueError, match="is not the code that has run"):
        book.with_current_prose(executed, {"cells": [ran("b") | {"source": "x = 2"}]})


def test_an_unchanged_file_is_not_written_again(tmp_path):
    path = tmp_path / "folder" / "file"
    write_if_changed(path, "text")
    path.chmod(0o444)
    os.utime(path, (1, 1))
    write_if_changed(path, "text")
    assert path.stat().st_mtime == 1
    path.chmod(0o644)
    write_if_changed(path, "other")
    assert path.read_text() == "other"
