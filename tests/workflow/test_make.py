"""Messages of make before a study begins: wrong arguments, wrong profiles, help and cleaning."""

import sys

import pytest
import yaml
from checkout import Checkout, sentence


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["book", "PROFILE=smokey"], "PROFILE is smokey, but config/smokey.yaml does not exist"),
        (["book", "PROFILE=smoke", "DATA=nowhere.h5"], "DATA is nowhere.h5, but standin, galaxy10 or"),
        (["book", "profile=smoke"], "profile is no argument, but capitals are needed: write PROFILE"),
        (["sweep", "SWEEP=nowhere.yaml"], "SWEEP is nowhere.yaml, but this file is missing: give one of config/"),
        (
            ["--file", "../../Makefile", "--directory", "config/sweeps", "book"],
            "config/sweeps, but the repository's is",
        ),
    ],
)
def test_bad_arguments_of_make(checkout, arguments, expected):
    assert expected in sentence(checkout.make(*arguments))


def test_a_mistyped_profile_is_told_before_an_environment_is_made(checkout, tmp_path):
    said = sentence(checkout.run("make", "book", "PROFILE=smokey", f"VENV={tmp_path / 'venv'}"))
    assert "PROFILE is smokey, but config/smokey.yaml does not exist" in said
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("classifier", "epohcs", 3, "'epohcs' was unexpected"),
        ("data", "image_size", 16, "16 is less than the minimum of 32"),
        ("autoencoder", "noisy_epochs", "many", "'many' is not of type 'integer'"),
    ],
)
def test_a_wrong_profile_stops_with_the_key(checkout, section, key, value, expected):
    profile = yaml.safe_load((checkout.root / "config/smoke.yaml").read_text())
    profile[section][key] = value
    (checkout.root / "config/wrong.yaml").write_text(yaml.safe_dump(profile))
    said = sentence(checkout.make("book", "PROFILE=wrong"))
    assert "config/wrong.yaml" in said
    assert expected in said
    assert section in said
    assert not (checkout.root / "runs/wrong-standin").exists()


def test_a_copied_or_moved_checkout_sets_its_environment_up_again(checkout, tmp_path):
    venv = checkout.root / ".venv"
    venv.mkdir()
    (venv / "pyvenv.cfg").touch()
    ask = ["make", "--dry-run", ".venv/ready", "PYTHON=python3"]
    for owner, again in ((str(tmp_path), True), ("", True), (str(checkout.root.resolve()), False)):
        (venv / "ready").write_text(f"{owner}\n")
        assert ("-m venv --clear .venv" in checkout.run(*ask).stdout) == again, owner


def test_the_environment_of_another_checkout_is_left_alone(checkout, tmp_path):
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "pyvenv.cfg").touch()
    (venv / "ready").write_text("/another/checkout\n")
    said = sentence(checkout.run("make", "lint", f"VENV={venv}", f"PYTHON={sys.executable}"))
    assert f"VENV is {venv}, but it was set up for the checkout in /another/checkout: choose another folder." in said
    assert sorted(path.name for path in venv.iterdir()) == ["pyvenv.cfg", "ready"]


@pytest.mark.parametrize("profile", ["it's (a) $HOME", 'größe 星 [x] "a" `b`', "2024_11_25"])
def test_a_profile_and_a_run_may_have_any_name(checkout, profile):
    (checkout.root / f"config/{profile}.yaml").write_text("extends: smoke\n")
    runs = f"runs of {profile}"
    done = checkout.make("book", f"PROFILE={profile}", f"RUNS={runs}", "SNAKEMAKE_ARGS=--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    written = checkout.root / runs / f"{profile}-standin/parameters/01_data.yaml"
    assert yaml.safe_load(written.read_text())["profile"] == profile


def test_what_make_takes_from_the_environment_is_said(checkout):
    done = checkout.run("env", "PROFILE=smokey", "make", "profile")
    assert "PROFILE=smokey is taken from the environment" in done.stdout
    assert "PROFILE is smokey, but" in done.stderr


def test_help_of_a_notebook_explains_each_parameter(checkout):
    said = checkout.run("papermill", "--help-notebook", "notebooks/04_autoencoder.ipynb").stdout
    assert "Unknown type" not in said
    assert "halves the side" in said


def test_clean_removes_results_and_never_downloads(checkout, tmp_path):
    (checkout.root / "downloads").mkdir()
    (checkout.root / "downloads/kept").touch()
    results = tmp_path / "some-runs"
    results.mkdir()
    assert checkout.make("clean", f"RUNS={results}").returncode == 0
    assert not results.exists()
    assert (checkout.root / "downloads/kept").exists()
