"""The examples in the package's docstrings run and print what they say."""

import ast
import doctest
import importlib
import json

import pytest
from paths import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "galaxynb").rglob("[a-z]*.py")
)


def test_every_function_that_a_notebook_calls_has_an_example():
    used = set()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        used |= {(node.module, alias.name) for node in imports for alias in node.names}
    ours = [getattr(importlib.import_module(module), name) for module, name in used if module.startswith("galaxynb")]
    assert [thing.__qualname__ for thing in ours if callable(thing) and ">>>" not in (thing.__doc__ or "")] == []


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_a_module_run(module, monkeypatch):
    # Other tests may have started IPython in this process, but the examples are of a plain Python.
    monkeypatch.setattr("IPython.core.interactiveshell.InteractiveShell.initialized", lambda: False)
    failed, _ = doctest.testmod(importlib.import_module(module))
    assert failed == 0
