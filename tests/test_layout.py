"""The order of the package's parts: which may import which, and what importing them loads."""

import ast
import importlib
import inspect
import json
import subprocess
import sys

import pytest
from paths import ROOT

from galaxynb.fingerprints import files_used

#: Parts in the order of the data flow. A module imports only from its own part and from earlier ones.
PARTS = (
    ("files", "images", "compute", "stages", "fingerprints"),
    ("provenance", "pages"),
    ("data",),
    ("standin",),
    ("noise",),
    ("networks",),
    ("results",),
    ("remedies",),
    ("figures",),
    ("apply",),
)
#: This module holds only names and numbers, so modules of earlier parts may import it.
CONSTANTS = "galaxynb/data/galaxy10.py"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "galaxynb").rglob("[a-z]*.py")
)


def part_number(path):
    """Return the number of the part to which the path or dotted name of a module belongs."""
    name = path.replace("/", ".").removesuffix(".py").split(".")[1]
    return next(number for number, names in enumerate(PARTS) if name in names)


def path_of(module):
    return f"{module.replace('.', '/')}.py"


def imported(module):
    """Return the paths of the other modules that a module needs, directly or through other modules."""
    used = files_used(ROOT / path_of(module), package=ROOT / "galaxynb")
    return {name for name in used if name.endswith(".py") and not name.endswith("__init__.py")} - {path_of(module)}


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_a_later_part(module):
    later = {name for name in imported(module) - {CONSTANTS} if part_number(name) > part_number(path_of(module))}
    assert not later


def test_no_two_modules_import_each_other():
    needs = {path_of(module): imported(module) for module in MODULES}
    circles = [(one, other) for one, others in needs.items() for other in others if one in needs.get(other, ())]
    assert circles == []


def test_a_folder_exports_nothing():
    for path in (ROOT / "galaxynb").glob("*/__init__.py"):
        (docstring,) = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(docstring.value, ast.Constant), path


def public(module):
    """Return the public functions and the initializers of public classes of a module, by name."""
    names = {name: thing for name, thing in vars(module).items() if not name.startswith("_")}
    return {
        f"{module.__name__}.{name}": thing
        for name, thing in names.items()
        if callable(thing) and getattr(thing, "__module__", None) == module.__name__
    }


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_take_three_positional_arguments_at_most(module):
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for name, thing in public(importlib.import_module(module)).items():
        if isinstance(thing, type) and issubclass(thing, tuple):
            continue  # the arguments of a named tuple are its fields
        parameters = inspect.signature(thing).parameters.values()
        assert sum(parameter.kind in positional for parameter in parameters) <= 3, name


def test_public_names_are_defined_once():
    names = [name.rpartition(".")[2] for module in MODULES for name in public(importlib.import_module(module))]
    assert sorted(names) == sorted(set(names))


def loaded_by(*modules):
    """Return the names of the modules that a new Python process has loaded after importing `modules`."""
    program = f"import json, sys, {', '.join(modules)}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_none_of_its_modules():
    assert not loaded_by("galaxynb") & {"keras", "tensorflow", "numpy", *MODULES}


def test_only_the_networks_load_keras():
    with_networks = ("galaxynb.networks", "galaxynb.remedies", "galaxynb.apply")
    modules = [module for module in MODULES if not module.startswith(with_networks)] + ["galaxynb.remedies.results"]
    assert not loaded_by(*modules) & {"keras", "tensorflow", "jax", "torch"}
