"""The code that a notebook uses, and the parts of it that count, in small packages for the tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT

from galaxynb import fingerprints

FILES = {
    "__init__.py": '"""All."""\n__version__ = "1"\n',
    "files.py": '"""Files."""\n\ndef write(path):\n    """Write."""\n    return path\n',
    "stages.py": "STAGES = ()\n",
    "data/__init__.py": '"""Data."""\n',
    "data/cache.py": "from pack.files import write\n\ndef open_cache():\n    return write(1)\n",
    "data/download.py": "import os\n\ndef fetch():\n    return 1\n",
    "data/splits.py": "from . import cache\nfrom ..files import write\n",
    "results/__init__.py": "",
    "results/paper.py": 'TABLE = "paper_tables.csv"\n',
    "results/paper_tables.csv": "a\n1\n",
    "results/other.csv": "a\n",
    "results/late.py": "def f():\n    from pack.data import download, splits\n    return download\n",
}


@pytest.fixture
def package(tmp_path):
    """Return the folder of a package with subpackages."""
    for name, text in FILES.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "pack"


def cell(source, kind="code", **metadata):
    return {"cell_type": kind, "id": str(hash(source)), "metadata": metadata, "source": source.splitlines(True)}


def write_notebook(path, *cells):
    path.write_text(json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4}), encoding="utf-8")
    return path


def used(package, *sources):
    notebook = write_notebook(package.parent / "n.ipynb", cell("import pack.results", "markdown"), *map(cell, sources))
    return {name.removeprefix("pack/") for name in fingerprints.files_used(notebook, package=package)}


CACHE = {"__init__.py", "data/__init__.py", "data/cache.py", "files.py"}
PAPER = {"__init__.py", "results/__init__.py", "results/paper.py", "results/paper_tables.csv"}
LATE = CACHE | {"results/__init__.py", "results/late.py", "data/download.py", "data/splits.py"}


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        # Every way to import a module of a folder.
        (["from pack.data import cache"], CACHE),
        (["from pack.data.cache import open_cache"], CACHE),
        (["import pack.data.cache"], CACHE),
        (["import pack.data.cache as c, os"], CACHE),
        (["from pack.data.cache import *"], CACHE),
        (["def f():\n    from pack.data import cache"], CACHE),
        (["if True:\n    import pack.data.cache"], CACHE),
        # Modules beside the folders.
        (["from pack import files"], {"__init__.py", "files.py"}),
        (["from pack.files import write"], {"__init__.py", "files.py"}),
        (["import pack.files"], {"__init__.py", "files.py"}),
        # Relative imports, and imports across cells.
        (["import os", "from pack.data import splits"], CACHE | {"data/splits.py"}),
        # Imports inside a module's functions.
        (["import pack.results.late"], LATE),
        # A data file counts with the module that names it.
        (["from pack.results import paper"], PAPER),
        # What is no module of the package does not count, nor does the table of stages.
        (["import numpy, packaging\nfrom pack import __version__\nfrom package.data import x"], {"__init__.py"}),
        (["from pack import files, stages"], {"__init__.py", "files.py"}),
    ],
)
def test_what_a_notebook_imports_is_followed(package, sources, expected):
    assert used(package, *sources) == expected


def test_a_relative_import_in_an_init_starts_at_its_own_folder(package):
    (package / "data" / "__init__.py").write_text("from .download import fetch\n")
    assert used(package, "import pack.data") == {"__init__.py", "data/__init__.py", "data/download.py"}


def test_a_script_and_a_module_are_starting_points_too(package):
    script = package.parent / "script.py"
    script.write_text("from pack.data.cache import open_cache\n")
    for start in (script, package / "data" / "cache.py"):
        assert fingerprints.files_used(start, package=package) == sorted(f"pack/{name}" for name in CACHE)


@pytest.mark.parametrize("stage", ["01_data", "02_noise"])
def test_the_walk_finds_what_python_loads(stage):
    """Compare with Python: each module of the package that the imports of a notebook load is in the list."""
    notebook = ROOT / "notebooks" / f"{stage}.ipynb"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    imports = "\n".join(line for line in code.splitlines() if line.startswith(("from galaxynb", "import galaxynb")))
    show = "import sys\nfor name, m in sorted(sys.modules.items()):\n    print(name, getattr(m, '__file__', ''))"
    told = subprocess.check_output([sys.executable, "-c", f"{imports}\n{show}"], text=True, cwd=ROOT)
    rows = [line.split(" ", 1) for line in told.splitlines()]
    loaded = {Path(file).relative_to(ROOT).as_posix() for name, file in rows if name.split(".")[0] == "galaxynb"}
    assert len(loaded) > 3
    assert loaded - {"galaxynb/stages.py", "galaxynb/fingerprints.py"} <= set(fingerprints.files_used(notebook))


CODE = '''"""About."""
import os

#: A number.
X = 1


class A:
    """A class."""

    b = 2

    def f(self):
        """Only a docstring."""


async def g(x):
    """Do it."""
    return "text", x  # done
'''


def counts(tmp_path, change):
    """Say whether a change of `CODE` changes its fingerprint."""
    assert change[0] in CODE
    path, found = tmp_path / "module.py", set()
    for text in (CODE, CODE.replace(*change)):
        path.write_text(text, encoding="utf-8")
        found.add(fingerprints.file_fingerprint(path))
    return len(found) == 2


@pytest.mark.parametrize(
    "change",
    [
        ('"""About."""', '"""About it, at length."""'),
        ('"""About."""\n', ""),
        ("#: A number.\n", ""),
        ('"""A class."""', "'''Another text.'''"),
        ('"""Only a docstring."""', "pass"),
        ('"""Do it."""', '"""Do it.\n\n    And more.\n    """'),
        ("  # done", ""),
        ('return "text", x', "return ('text',\n            x)"),
        ("X = 1\n\n\n", "X = 1\n"),
    ],
)
def test_prose_and_formatting_do_not_count(tmp_path, change):
    assert not counts(tmp_path, change)


@pytest.mark.parametrize(
    "change",
    [("X = 1", "X = 2"), ("X = 1", "X = 1.0"), ('"text"', '"texts"'), ("b = 2", "c = 2"), ("f(self)", "f(self, y)")],
)
def test_code_counts(tmp_path, change):
    assert counts(tmp_path, change)


def test_each_byte_of_a_data_file_counts(package):
    module, table = package / "results" / "paper.py", package / "results" / "paper_tables.csv"
    before = fingerprints.code_used(module, package=package)
    table.write_text("a\n2\n")
    after = fingerprints.code_used(module, package=package)
    assert {name for name in before if before[name] != after[name]} == {"pack/results/paper_tables.csv"}


def test_a_digest_of_a_modules_code_changes_with_all_that_it_uses_and_nothing_else(package):
    before = fingerprints.code_digest("data.cache", package=package)
    for name in ("data/download.py", "results/paper_tables.csv", "results/late.py", "stages.py"):
        (package / name).write_text("y = 3\n")
        assert fingerprints.code_digest("data.cache", package=package) == before
    for change, counts in ((("Write.", "Write a file."), False), (("return path", "return str(path)"), True)):
        (package / "files.py").write_text(FILES["files.py"].replace(*change))
        assert (fingerprints.code_digest("data.cache", package=package) != before) == counts


def test_digests_of_several_modules_are_of_both_and_each_must_be_there(package):
    one, both = (fingerprints.code_digest(*names, package=package) for names in (["files"], ["files", "data.download"]))
    (package / "data" / "download.py").write_text("y = 3\n")
    assert fingerprints.code_digest("files", package=package) == one
    assert fingerprints.code_digest("files", "data.download", package=package) != both
    with pytest.raises(ValueError, match=r"module is 'data\.cash', but a module of pack is needed"):
        fingerprints.code_digest("data.cash", package=package)


def test_the_code_of_a_notebook_is_neither_its_prose_nor_its_metadata(tmp_path):
    def code_of(*cells):
        return fingerprints.notebook_code(write_notebook(tmp_path / "n.ipynb", *cells))

    title, x, y = cell("# A title", "markdown"), cell("x: int = 1  # given", tags=["parameters"]), cell("y = 2")
    code = code_of(title, x, y)
    assert len(code) == 2
    for cells in (
        [cell("# Another", "markdown"), x, y],
        [title, cell("x: int = 1  # explained", tags=["parameters"]), y],
        [title, x, cell("y = 2", tags=["hide-input"], execution={"iopub.execute_input": "2026"}, vscode={"id": 1})],
        [title, x, cell("y  =  2;")],
    ):
        assert code_of(*cells) == code
    for cells in (
        [title, x, cell("y = 3")],
        [title, cell("x: int = 1"), y],
        [title, cell("x: int = 1\ny = 2", tags=["parameters"])],
        [title, y, x],
    ):
        assert code_of(*cells) != code


@given(st.text(alphabet="abc \n", max_size=30))
def test_any_comment_leaves_a_cells_code_as_it_is_and_what_is_no_python_counts_as_it_is_written(text):
    comment = "".join(f"# {line}\n" for line in text.splitlines())
    assert fingerprints.cell_code(cell(f"{comment}x = 1\n{comment}")) == "x = 1"
    assert fingerprints.cell_code(cell("%matplotlib inline\nx = 1")) == "%matplotlib inline\nx = 1"
