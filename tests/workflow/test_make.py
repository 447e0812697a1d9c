"""Messages of make before a study begins: wrong arguments, wrong profiles, help and cleaning."""

import pytest
import yaml
from checkout import Checkout, sentence


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["PROFILE=smokey"], "PROFILE is smokey, but config/smokey.yaml does not exist"),
        (["PROFILE=smoke", "DATA=nowhere.h5"], "DATA is nowhere.h5, but standin, galaxy10 or"),
    ],
)
def test_bad_arguments_of_make(checkout, arguments, expected):
    assert expected in sentence(checkout.make("book", *arguments))


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
