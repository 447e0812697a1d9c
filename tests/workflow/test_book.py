"""The book has only notebooks that ran to their end, with their current prose."""

import json
import os
from types import SimpleNamespace

import pytest
from content import write_if_changed
from notebook_samples import code, shown, write_notebook

import book


def test_prose_comes_from_the_notebook_as_it_is_and_results_from_the_run():
    def markdown(text):
        return {"cell_type": "markdown", "id": text[:4], "metadata": {}, "source": text}

    def ran(name, tags=(), outputs=()):
        metadata = {"tags": list(tags)}
        return code(name) | {"metadata": metadata, "outputs": list(outputs)}

    defaults = 'seed: int = 42  # of all\nname: str = "# one"  # of it\nsizes: list = [3, 5]\nrest = 1  # plain'
    parameters = ran("p", ["parameters"]) | {"source": defaults}
    given = {"seed": 7, "sizes": [4], "rest": None, "name": "two", "unknown": 1}
    executed = {
        "cells": [markdown("old"), parameters, ran("i", ["injected-parameters"]), ran("a", outputs=["1"])],
        "metadata": {"papermill": {"parameters": given}},
    }
    now = parameters | {"source": defaults.replace("# of all", "# of everything")}
    cells = [now, markdown("new"), ran("a", ["hide-input"]), markdown("more")]
    cells = book.with_current_prose(executed, {"cells": cells, "metadata": {}})["cells"]
    assert [cell["id"] for cell in cells] == ["cell-1", "cell-2", "cell-3", "cell-4"]
    assert [cell["source"] for cell in cells[1:]] == ["new", "a", "more"]
    assert cells[2]["metadata"]["tags"] == ["hide-input"]
    assert cells[2]["outputs"] == ["1"]
    # The page shows the parameters that it was made with.
    given = "seed: int = 7  # of everything\nname: str = 'two'  # of it\nsizes: list = [4]\nrest = None  # plain"
    assert cells[0]["source"] == given
    with pytest.raises(ValueError, match="is not the code that has run"):
        book.with_current_prose(executed, {"cells": [ran("b")]})


def test_a_book_without_one_of_its_pictures_is_not_built(tmp_path, monkeypatch):
    def gather(_, source):
        for name, text in (("book/prose.md", "```{figure} a.png\n```\n"), ("_build/html/book/prose.html", "")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)

    drawn = code("figure", 1, [shown("text/plain", "<Figure size 7x3 with 1 Axes>")])
    executed = write_notebook(tmp_path / "n.ipynb", drawn)
    with pytest.raises(ValueError, match=r"n\.ipynb: cell 1 of the page, .* shows no picture"):
        book.page(executed, executed)
    monkeypatch.setattr(book, "gather", gather)
    monkeypatch.setattr(book.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    with pytest.raises(ValueError, match=r"prose\.html shows 0 pictures, but its source has 1"):
        book.build(tmp_path)
    assert not (tmp_path / "book").exists()


def test_the_cost_of_a_survey_is_that_of_the_latest_rate(tmp_path):
    for name, time, rate in (("a", "2026-01-01", 10), ("b", "2026-01-02", 100), ("c", "2026-01-03", None)):
        folder = tmp_path / name / "provenance"
        folder.mkdir(parents=True)
        (tmp_path / name / "benchmarks.csv").write_text("")
        results = [{"row": "pairs", "notes": {}}]
        made = {"an HDF5 file": rate, "JPEG files": 7} if rate else {}
        results += [{"row": "apply", "what": what, "notes": {"images_a_second": one}} for what, one in made.items()]
        record = {"stage": "benchmarks", "time": time, "device": {"cores": 4, "cpu": "a CPU"}}
        record |= {"extra": {"results": results}}
        (folder / "benchmarks.json").write_text(json.dumps(record))
    made = book.survey_cost(tmp_path)
    assert made["Value"].tolist() == ["100.0", "96.3", "3.93"]
    assert made["What"][1].startswith("Core-hours: 8,670,000 images / 100.0 per second × 4 cores / 3,600")
    assert made["What"][2].startswith("Dollars: 96.3 core-hours × 0.0408 dollars per core-hour")
    assert round(96.3 * 0.0408, 2) == 3.93
    with pytest.raises(ValueError, match="holds no row apply, but its rate is needed"):
        book.survey_cost(tmp_path / "nowhere")


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
