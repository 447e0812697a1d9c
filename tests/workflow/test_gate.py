"""The checks of notebooks before they run, of executed notebooks, and of rendered pages."""

import ast
import base64
import contextlib
import json
import warnings

import gate
import nbformat
import pytest
import stage
import yaml
from notebook_samples import RESAVED, code, error, shown, with_cells, write_notebook
from paths import ROOT, SHARED

import book
from galaxynb.fingerprints import code_used, notebook_code, read_notebook
from galaxynb.stages import STAGES

TITLE = nbformat.v4.new_markdown_cell("# Title")
PNG = base64.b64encode(b"picture").decode()
FIGURE = "<Figure size 700x376 with 10 Axes>"
STYLER = "<pandas.io.formats.style.Styler at 0x7f>"
ALT = {"image": {"alt": "Ten galaxies"}}
PICTURE = shown("text/plain", FIGURE, **{"image/png": PNG})
TABLE = shown("text/plain", STYLER, **{"text/html": "<table></table>"})
PRINTED = nbformat.v4.new_output("stream", text="3 images")


@pytest.fixture
def notebook():
    """Return a notebook as git holds it, that shows a picture, a table and a text."""
    about = {"kernelspec": {"name": "galaxynb", "display_name": "galaxynb", "language": "python"}}
    cells = [
        TITLE,
        code("n: int = 1  # number\nsizes: list = [\n    3,\n    5,\n]  # of it", None, tags=["parameters"]),
        code("import matplotlib.pyplot as plt\n\nplt.subplots()[0]", None, mystnb=ALT),
        code("import pandas as pd\n\npd.DataFrame({'n': [n]}).style", None),
        code("print(n, sizes)", None),
    ]
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=about)))


def saved(path, notebook):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


# Before the first notebook runs


@pytest.mark.parametrize("name", RESAVED)
def test_a_notebook_saved_by_another_editor_is_the_same_notebook(tmp_path, notebook, name):
    before, after = (saved(tmp_path / f"{n}.ipynb", one) for n, one in enumerate((notebook, RESAVED[name](notebook))))
    gate.check_notebook(after, parameters=["n", "sizes"])
    assert after.read_bytes() != before.read_bytes()
    assert notebook_code(after) == notebook_code(before)
    ran = with_cells(notebook, lambda cell: cell | {"outputs": ["of the run"]})
    page = book.with_current_prose(ran, read_notebook(after))
    made = [cell for cell in page["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in made] == [["of the run"]] * 4
    for cell in made:
        cell["outputs"] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nbformat.validate(page)
    assert {*page["metadata"]} <= {"kernelspec", "language_info"}
    assert all({*cell["metadata"]} <= {"tags", "mystnb"} for cell in page["cells"])


@pytest.mark.parametrize(
    "names",
    [[name for name in RESAVED if name not in ("4.5 with one id", "no kernel")], ["4.5 with one id", "no kernel"]],
)
def test_papermill_runs_a_notebook_that_other_editors_saved_one_after_the_other(tmp_path, monkeypatch, notebook, names):
    monkeypatch.chdir(tmp_path)
    for name in names:
        notebook = RESAVED[name](notebook)
    path = saved(tmp_path / "notebooks" / "n.ipynb", notebook)
    parameters = {"n": 2, "sizes": [4]}
    (tmp_path / "n.yaml").write_text(yaml.safe_dump(parameters))
    gate.check_notebook(path, parameters=parameters)
    log = tmp_path / "log.ipynb"
    status = stage.run_papermill(str(path), log, parameters="n.yaml", kernel="python3", threads=1)
    assert status == 0, log.with_suffix(".txt").read_text()
    given, picture, _, said = [cell for cell in book.page(log, path)["cells"] if cell["cell_type"] == "code"]
    assert given["source"] == "n: int = 2  # number\nsizes: list = [4]  # of it"
    assert "image/png" in picture["outputs"][0]["data"]
    assert said["outputs"][0]["text"] == ["2 [4]\n"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"nbformat": 4', '"nbformat": 3', "has nbformat 3, but nbformat 4 is needed: open it in JupyterLab"),
        ('"nbformat": 4', '\n<<<<<<< HEAD\n"nbformat": 4', "marks of an unfinished git merge, but one version"),
        ('"nbformat": 4', '"nbformat": 4,,', r"is no JSON \(.*\), but a notebook is needed: open it"),
        ('{"cells"', '\ufeff{"cells"', r"is no JSON \(.*BOM.*\), but a notebook is needed"),
        ('"cells"', '"worksheets"', "cells without cell_type, source, metadata, but nbformat 4 needs them"),
        ('"metadata": {"tags"', '"meta": {"tags"', "cells without cell_type, source, metadata"),
        ('["parameters"]', "[]", "has 0 code cells with the tag parameters, but exactly one is needed: give the tag"),
        ('{"mystnb"', '{"tags": ["parameters"], "mystnb"', "has 2 code cells with the tag parameters"),
        (
            '{}, "outputs": [], "source": ["pri',
            '{"tags": ["injected-parameters"]}, "source": ["pri',
            "parameters that papermill added, .*: remove it",
        ),
        ("n: int = 1", "m: int = 1", "does not set n in its cell with the tag parameters, but the workflow gives"),
        ("n: int = 1", "n: int = ", r"line 1 of cell 2, is no Python \(.*\), but valid Python is needed"),
        ("print(n", "%%bash\\nfor n in *; print(n", r"line 2 of cell 5, is no Python"),
        ('"python"', '"R"', r"the language of .* is R, but python is needed"),
        ('"language"', '"tongue"', r"the language of .* is None, but python is needed"),
    ],
)  # fmt: skip
def test_a_notebook_that_cannot_run_or_take_its_parameters_is_refused_in_a_sentence(
    tmp_path, notebook, old, new, message
):
    path = saved(tmp_path / "n.ipynb", notebook)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        gate.check_notebook(path, parameters=["n", "sizes"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_commands_of_ipython_are_allowed(tmp_path):
    magic = code("%matplotlib inline\nfrom galaxynb.noise import NoiseModel\nif NoiseModel:\n    !ls", None)
    parameters = code("n = 1", None, tags=["parameters"])
    path = write_notebook(tmp_path / "n.ipynb", parameters, magic, language_info={"name": "python"})
    gate.check_notebook(path, parameters=["n"])
    assert "galaxynb/noise.py" in code_used(path)


# After a notebook has run


def test_an_executed_notebook_passes(tmp_path):
    cells = [TITLE, code("1 + 1"), code("  \n", count=None)]
    path = write_notebook(tmp_path / "fine.ipynb", *cells, papermill={"exception": None})
    assert gate.check_executed(path) == read_notebook(path)


@pytest.mark.parametrize(
    ("cells", "exception", "message"),
    [
        ([code("1"), code("raise", 2, [error()])], None, "cell 2 holds an error output"),
        ([code("1")], True, "papermill recorded an exception"),
        ([TITLE, code("1"), code("2", count=None)], None, "cell 3 was not executed"),
    ],
)
def test_a_notebook_that_did_not_run_to_its_end_is_refused(tmp_path, cells, exception, message):
    path = write_notebook(tmp_path / "broken.ipynb", *cells, papermill={"exception": exception})
    with pytest.raises(ValueError, match=rf"broken\.ipynb: {message}"):
        gate.check_executed(path)


def check(*cells):
    gate.check_outputs({"cells": [TITLE, *cells]}, "run/n.ipynb")


@pytest.mark.parametrize(
    ("cell", "lost"),
    [
        # Another backend of matplotlib, as MPLBACKEND=Agg in a shell sets it, whatever the cell promises.
        (code("figure", 1, [shown("text/plain", FIGURE)], mystnb=ALT), "picture"),
        (code("figure", 1, [shown("text/plain", FIGURE)]), "picture"),
        (code("draw()", 1, [PRINTED, shown("text/plain", FIGURE)]), "picture"),
        (code("for f in fs: display(f)", 1, [shown("text/plain", FIGURE)], tags=[gate.OPTIONAL]), "picture"),
        (code("table.plot()", 1, [shown("text/plain", "<Axes: xlabel='n'>")]), "picture"),
        (code("ax.plot(x)", 1, [shown("text/plain", "[<matplotlib.lines.Line2D at 0x7f>]")]), "picture"),
        # An output that is no longer there.
        (code("x = 1\ndraw(x)", 1, mystnb=ALT), "picture"),
        (code("draw(x)", 1, [PRINTED], mystnb=ALT), "picture"),
        (code("if x: display(draw(x))", 1, mystnb=ALT, tags=[gate.OPTIONAL]), "output"),
        (code("table.style.hide()"), "table"),
        (code("show(table)", 1, [PRINTED]), "table"),
        (code("pd.DataFrame(x)", 1, [shown("text/plain", "   n\n0  1")]), "table"),
        (code("draw()", 1, [shown("text/plain", STYLER)]), "table"),
        (code("print(1)\ntable", 1, [PRINTED]), "value"),
        (code("table.loc[1]"), "value"),
        (code("history.round(3)"), "value"),
        (code("print(1)\nx = 1"), "output"),
        (code("if x:\n    print(1)\nelif y:\n    z = 1\n    display(z)\nelse:\n    print(2)"), "output"),
    ],
)
def test_a_page_without_its_picture_table_or_text_is_refused(cell, lost):
    begin = cell.source.splitlines()[0]
    remedy = "remove this file and run `make book` again" + ", without another backend" * (lost == "picture")
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole sentence is compared)
        check(cell)
    said = f"run/n.ipynb: cell 2 of the page, which begins with `{begin}`, shows no {lost}, but the book needs it: "
    assert str(caught.value).startswith(said + remedy)


def test_a_page_with_all_that_it_shows_passes():
    check(
        code("figure", 1, [PICTURE], mystnb=ALT),
        code("figure", 1, [shown("text/plain", FIGURE, **{"image/svg+xml": "<svg/>"})], mystnb=ALT),
        code("for f in fs: display(f)", 1, [PICTURE, PICTURE], mystnb=ALT, tags=[gate.OPTIONAL]),
        code("for f in fs: display(f)", 1, [PRINTED], mystnb=ALT, tags=[gate.OPTIONAL]),
        code("table.style.hide()", 1, [PRINTED, TABLE]),
        code("n", 1, [shown("text/plain", "3")]),
        code("print(1)", 1, [PRINTED]),
        # What may show nothing, and what matplotlib says beside a picture.
        *map(code, ("x = 1", "table;", "plt.show()", "plt.style.use('dark')", "table.to_csv(path)", "def f():\n    3")),
        *map(code, ("if x: print(1)", "for x in y: print(x)", "print(x, file=f)", "# x", "'x'", "%matplotlib inline")),
        code("table.plot()", 1, [shown("text/plain", "<Axes: >"), PICTURE]),
        code("plt.tight_layout()", 1, [shown("text/plain", "<Figure size 640x480 with 0 Axes>")]),
    )  # fmt: skip


@pytest.mark.parametrize("path", [*(f"notebooks/{name}.ipynb" for name in STAGES), "book/sweep.ipynb"])
def test_each_notebook_may_run_and_each_of_its_results_is_expected(path):
    """Remove the outputs of any cell that shows something, and the page is refused."""
    gate.check_notebook(ROOT / path)
    cells = [cell for cell in read_notebook(ROOT / path)["cells"] if cell["cell_type"] == "code"]
    silent = ("glue(", "noise_explorer(", "save_figure(", "save_predictions(")
    for cell in cells:
        source = "".join(cell["source"])
        last = ast.parse(source).body[-1]
        if "display(" in source or (isinstance(last, ast.Expr) and not ast.unparse(last).startswith(silent)):
            with pytest.raises(ValueError, match="the book needs it"):
                check(cell | {"outputs": []})


def test_the_public_case_of_a_lost_picture_is_refused(tmp_path):
    path = SHARED / "cases" / "mplbackend_agg" / "one_figure.ipynb"
    if not path.is_file():
        pytest.skip(f"needs a public bug report that this repository does not hold: put it at {path}")
    (cell,) = read_notebook(path)["cells"]
    with pytest.raises(ValueError, match="shows no picture"):
        check(cell | {"outputs": [shown("text/plain", FIGURE)]})


# After the book is rendered


@pytest.mark.parametrize(
    ("tags", "picture", "figures", "message"),
    [
        (2, b"picture", 2, None),
        (1, b"picture", 2, r"n\.html shows 1 pictures, but its source has 2"),
        (2, b"", 2, r"n\.html shows 0 pictures, but its source has 2"),
        (2, b"picture", 1, r"prose\.html shows 1 pictures, but its source has 2"),
    ],
)
def test_a_rendered_page_shows_each_picture_of_its_source(tmp_path, tags, picture, figures, message):
    source, html = tmp_path / "source", tmp_path / "html"
    for folder in ("book", "notebooks"):
        (source / folder).mkdir(parents=True)
        (html / folder).mkdir(parents=True)
    cells = [code("x", 1, [PRINTED, PICTURE]), code("x", 1, [PICTURE], tags=["remove-output"]), code("x", 1, [PICTURE])]
    write_notebook(source / "notebooks" / "n.ipynb", *cells)
    write_notebook(source / "notebooks" / "not_in_the_contents.ipynb", *cells)
    (source / "book" / "prose.md").write_text("```{figure} a.png\n```\n\n:::{image} a.png\n:::\n")
    (html / "a b.png").write_bytes(picture)
    for page, number in (("notebooks/n", tags), ("book/prose", figures)):
        (html / f"{page}.html").write_text('<p><img alt="A" src="../a%20b.png" /></p>' * number)
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        gate.check_pictures(source, html)
