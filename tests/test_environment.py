"""The environment is stated in four places, which must agree: pyproject.toml, the lock, conda's file, the Makefile."""

import importlib.metadata
import re
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from paths import ROOT

import galaxynb

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK_LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
EXTRAS = PROJECT["optional-dependencies"]
#: The extras whose packages `make` installs.
INSTALLED = ("book", "test", "slurm", "onnx")
DECLARED = PROJECT["dependencies"] + [requirement for name in INSTALLED for requirement in EXTRAS[name]]


def locked():
    """Requirements of the lock by canonical name."""
    requirements = [Requirement(line) for line in LOCK_LINES]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def pinned_version(requirement):
    (specifier,) = requirement.specifier
    return specifier.version


def test_each_line_of_the_lock_pins_one_version():
    for requirement in map(Requirement, LOCK_LINES):  # raises on an option such as --index-url
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert "*" not in specifier.version, requirement
        assert requirement.url is None


def test_lock_names_each_package_once():
    assert len(locked()) == len(LOCK_LINES)


def test_lock_names_no_place_to_download_from():
    assert not re.search(r"://|^-", "\n".join(LOCK_LINES), flags=re.MULTILINE)


@pytest.mark.parametrize("dependency", DECLARED)
def test_lock_satisfies_each_declared_dependency(dependency):
    declared = Requirement(dependency)
    pinned = locked()[canonicalize_name(declared.name)]
    assert pinned.marker is None, "what the study needs is needed everywhere"
    assert declared.specifier.contains(pinned_version(pinned))


@pytest.mark.parametrize("name", sorted(set(EXTRAS) - set(INSTALLED)))
def test_other_extras_admit_the_version_of_the_lock_but_are_not_installed_with_it(name):
    for declared in map(Requirement, EXTRAS[name]):
        assert declared.specifier.contains(pinned_version(locked()[canonicalize_name(declared.name)]))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"--extra {name}" not in makefile
    assert "--all-extras" not in makefile


def test_jupyter_book_stays_below_2():
    (declared,) = [d for d in map(Requirement, DECLARED) if d.name == "jupyter-book"]
    assert not declared.specifier.contains("2.0.0")


def conda():
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_conda_takes_its_versions_from_the_lock():
    plain = [entry for entry in conda()["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in conda()["dependencies"] if isinstance(entry, dict)]
    names = {re.match(r"[a-z]+", entry)[0] for entry in plain}
    assert names == {"python", "pip", "make", "git"}, "a package from conda-forge would not have the lock's version"
    assert pip == ["-r requirements.lock", "-e ."]
    assert conda()["channels"] == ["conda-forge", "nodefaults"]


def test_python_range_is_the_same_everywhere():
    wanted = SpecifierSet(PROJECT["requires-python"])
    (python,) = [entry for entry in conda()["dependencies"] if isinstance(entry, str) and re.match(r"python\b", entry)]
    assert SpecifierSet(python.removeprefix("python")) == wanted

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    bounds = re.search(r"\((\d+), (\d+)\) <= v <= \((\d+), (\d+)\)", makefile)
    low, high = (bounds[1], bounds[2]), (bounds[3], bounds[4])
    after = (high[0], str(int(high[1]) + 1))
    assert SpecifierSet(f">={'.'.join(low)},<{'.'.join(after)}") == wanted

    prefix = "Programming Language :: Python :: "
    classifiers = {c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)}
    assert classifiers == {f"3.{minor}" for minor in range(30) if wanted.contains(f"3.{minor}")}


def test_this_python_is_in_range():
    assert SpecifierSet(PROJECT["requires-python"]).contains(".".join(map(str, sys.version_info[:3])))


def test_installed_versions_are_the_locked_ones():
    wanted = {
        name: pinned_version(requirement)
        for name, requirement in locked().items()
        if requirement.marker is None or requirement.marker.evaluate()
    }
    assert {name: installed(name) for name in wanted} == wanted


def installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_citation_names_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == galaxynb.__version__
    assert citation["license"] == PROJECT["license"]
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
