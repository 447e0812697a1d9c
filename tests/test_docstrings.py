"""The examples in the package's docstrings run and print what they say."""

import doctest
import importlib

import pytest
from paths import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "galaxynb").rglob("[a-z]*.py")
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_a_module_run(module):
    failed, _ = doctest.testmod(importlib.import_module(module))
    assert failed == 0
