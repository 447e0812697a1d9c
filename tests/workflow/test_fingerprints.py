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
    path.write_text(json.dumps({"cells": list(cells), "metadata": {}}), encoding="utf-8")
    return path


def used(package, *sources):
    notebook = write_notebook(package.parent / "n.ipynb", cell("import pack.results", "markdown"), *map(cell, sources))
    return {name.removeprefix("pack/") for name in fingerprints.files_used(notebook, package=package)}


CACHE = {"__init__.py", "data/__init__.py", "data/cache.py", "files.py"}


@pytest.mark.parametrize(
    "source",
    [
        "from pack.data import cache",
        "from pack.data.cache import open_cache",
        "import pack.data.cache",
        "import pack.data.cache as c, os",
        "from pack.data.cache import *",
        "def f():\n    from pack.data import cache",
        "if True:\n    import pack.data.cache",
    ],
)
def test_every_way_to_import_a_module_of_a_folder_is_followed(package, source):
    assert used(package, source) == CACHE


@pytest.mark.parametrize("source", ["from pack import files", "from pack.files import write", "import pack.files"])
def test_modules_beside_the_folders_are_found_too(package, source):
    assert used(package, source) == {"__init__.py", "files.py"}


def test_relative_imports_are_followed_and_imports_across_cells(package):
    assert used(package, "import os", "from pack.data import splits") == CACHE | {"data/splits.py"}


def test_imports_inside_a_modules_functions_are_followed(package):
    expected = CACHE | {"results/__init__.py", "results/late.py", "data/download.py", "data/splits.py"}
    assert used(package, "import pack.results.late") == expected


def test_a_relative_import_in_an_init_starts_at_its_own_folder(package):
    (package / "data" / "__init__.py").write_text("from .download import fetch\n")
    assert used(package, "import pack.data") == {"__init__.py", "data/__init__.py", "data/download.py"}


def test_a_data_file_counts_with_the_module_that_names_it(package):
    expected = {"__init__.py", "results/__init__.py", "results/paper.py", "results/paper_tables.csv"}
    assert used(package, "from pack.results import paper") == expected


def test_what_is_no_module_of_the_package_is_ignored(package):
    assert used(package, "import numpy, packaging\nfrom pack import __version__\nfrom package.data import x") == {
        "__init__.py"
    }


def test_the_table_of_stages_is_left_out(package):
    assert used(package, "from pack import files, stages") == {"__init__.py", "files.py"}


def test_a_script_and_a_module_are_starting_points_too(package):
    script = package.parent / "script.py"
    script.write_text("from pack.data.cache import open_cache\n")
    assert {f"pack/{name}" for name in CACHE} == set(fingerprints.files_used(script, package=package))
    assert fingerprints.files_used(package / "data" / "cache.py", package=package) == sorted(
        f"pack/{name}" for name in CACHE
    )


@pytest.mark.parametrize("stage", ["01_data", "02_noise"])
def test_the_walk_finds_what_python_loads(stage):
    """Compare with Python: each module of the package that the imports of a notebook load is in the list."""
    notebook = ROOT / "notebooks" / f"{stage}.ipynb"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    imports = "\n".join(line for line in code.splitlines() if line.startswith(("from galaxynb", "import galaxynb")))
    show = "import sys\nfor name, m in sorted(sys.modules.items()):\n    print(name, getattr(m, '__file__', ''))"
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{show}"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    rows = [line.split(" ", 1) for line in done.stdout.splitlines()]
    loaded = {Path(file).relative_to(ROOT).as_posix() for name, file in rows if name.split(".")[0] == "galaxynb"}
    assert len(loaded) > 3
    assert loaded - {"galaxynb/stages.py", "galaxynb/fingerprints.py"} <= set(fingerprints.files_used(notebook))


# The parts of code that count


def fingerprint(tmp_path, text):
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")
    return fingerprints.file_fingerprint(path)


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
    assert change[0] in CODE
    assert fingerprint(tmp_path, CODE.replace(*change)) == fingerprint(tmp_path, CODE)


@pytest.mark.parametrize(
    "change",
    [
        ("X = 1", "X = 2"),
        ("X = 1", "X = 1.0"),
        ('"text", x', '"texts", x'),
        ("b = 2", "c = 2"),
        ("f(self)", "f(self, y)"),
    ],
)
def test_code_counts(tmp_path, change):
    assert change[0] in CODE
    assert fingerprint(tmp_path, CODE.replace(*change)) != fingerprint(tmp_path, CODE)


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
    (package / "files.py").write_text(FILES["files.py"].replace("Write.", "Write a file."))
    assert fingerprints.code_digest("data.cache", package=package) == before
    (package / "files.py").write_text(FILES["files.py"].replace("return path", "return str(path)"))
    assert fingerprints.code_digest("data.cache", package=package) != before


def test_digests_of_several_modules_are_of_both(package):
    one, both = (fingerprints.code_digest(*names, package=package) for names in (["files"], ["files", "data.download"]))
    (package / "data" / "download.py").write_text("y = 3\n")
    assert fingerprints.code_digest("files", package=package) == one
    assert fingerprints.code_digest("files", "data.download", package=package) != both


def test_a_module_that_is_not_there_is_refused(package):
    with pytest.raises(ValueError, match=r"module is 'data\.cash', but a module of pack is needed"):
        fingerprints.code_digest("data.cash", package=package)


# Notebooks


def test_the_code_of_a_notebook_is_neither_its_prose_nor_its_metadata(tmp_path):
    plain = [cell("# A title", "markdown"), cell("x: int = 1  # given", tags=["parameters"]), cell("y = 2")]
    code = fingerprints.notebook_code(write_notebook(tmp_path / "n.ipynb", *plain))
    assert len(code) == 2
    same = [
        [cell("# Another", "markdown"), *plain[1:]],
        [plain[0], cell("x: int = 1  # explained", tags=["parameters"]), plain[2]],
        [*plain[:2], cell("y = 2", tags=["hide-input"], execution={"iopub.execute_input": "2026"}, vscode={"id": 1})],
        [*plain[:2], cell("y  =  2;")],
    ]
    for cells in same:
        assert fingerprints.notebook_code(write_notebook(tmp_path / "n.ipynb", *cells)) == code
    other = [
        [*plain[:2], cell("y = 3")],
        [plain[0], cell("x: int = 1"), plain[2]],
        [plain[0], cell("x: int = 1\ny = 2", tags=["parameters"])],
        [plain[0], plain[2], plain[1]],
    ]
    for cells in other:
        assert fingerprints.notebook_code(write_notebook(tmp_path / "n.ipynb", *cells)) != code


def test_a_cell_that_is_no_python_counts_as_it_is_written():
    assert fingerprints.cell_code(cell("%matplotlib inline\nx = 1")) == "%matplotlib inline\nx = 1"


@given(st.text(alphabet="abc \n", max_size=30))
def test_any_comment_leaves_a_cells_code_as_it_is(text):
    comment = "".join(f"# {line}\n" for line in text.splitlines())
    assert fingerprints.cell_code(cell(f"{comment}x = 1\n{comment}")) == "x = 1"
