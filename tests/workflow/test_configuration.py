"""A profile has its own values, those of the profiles that it extends, and the defaults of the schema."""

import shutil
from pathlib import Path

import configuration
import pytest
import yaml
from paths import ROOT


@pytest.fixture
def folder(tmp_path):
    """Return a copy of config/."""
    return Path(shutil.copytree(ROOT / "config", tmp_path / "config"))


def write(folder, name, **settings):
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def own(name):
    return yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))


PROFILES = {path.stem for path in (ROOT / "config").glob("*.yaml")} - {"schema", "sweep.schema"}


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_each_profile_that_ships_is_what_the_schema_says(name):
    assert configuration.read_profile(name, ROOT / "config")["seed"] == 42


def test_half_is_paper_but_for_the_side_the_epochs_and_what_lets_them_settle():
    assert own("half").keys() == {"extends", "data", "classifier", "autoencoder"}
    half, paper = (configuration.read_profile(name, ROOT / "config") for name in ("half", "paper"))
    sections = {name: values for name, values in paper.items() if isinstance(values, dict)}
    differing = [f"{name}.{key}" for name in sections for key in paper[name] if half[name][key] != paper[name][key]]
    settle = ["classifier.cosine_decay", "classifier.bn_momentum"]
    settle += ["autoencoder.cosine_decay", "autoencoder.learning_rate"]
    assert set(differing) == {"data.image_size", "classifier.epochs", "classifier.patience", *settle}
    assert (half["data"]["image_size"], half["classifier"]["epochs"]) == (64, 18)
    assert paper == own("paper")


def test_a_profile_may_extend_one_that_extends_another_and_a_list_replaces_a_list(folder):
    write(folder, "mine", extends="half", seed=7, autoencoder={"filters": [8, 16]})
    mine, half = (configuration.read_profile(name, folder) for name in ("mine", "half"))
    assert mine == half | {"seed": 7, "autoencoder": half["autoencoder"] | {"filters": [8, 16]}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": {"extends": "nowhere"}}, r"a\.yaml extends nowhere, but there is no config/nowhere\.yaml: .* half, "),
        ({"a": {"extends": "b"}, "b": {"extends": "c"}}, r"config/b\.yaml extends c, but there is no config/c\.yaml"),
        ({"a": {"extends": "a"}}, r"config/a\.yaml never ends \(a extends a\): let one of them extend none"),
        ({"a": {"extends": "b"}, "b": {"extends": "a"}}, r"config/a\.yaml never ends \(a extends b extends a\)"),
        ({"a": {"extends": 2024}}, r"a\.yaml extends 2024, a number, but the name of a profile is needed: quote it"),
        ({"a": {"extends": ["quick"]}}, r"config/a\.yaml extends \['quick'\], but there is no"),
        ({"a": {"extends": "quick", "nosie": {}}}, r"a\.yaml: .*'nosie' was unexpected.*; see config/schema\.yaml"),
        ({"a": {"extends": "quick", "data": {"image_size": 3}}}, r"in data\.image_size: 3 is less than"),
        ({"a": {"seed": 1}}, r"config/a\.yaml: .*'data' is a required property"),
    ],
)
def test_a_wrong_profile_is_told_in_a_sentence(folder, files, message):
    for name, settings in files.items():
        write(folder, name, **settings)
    with pytest.raises(configuration.ConfigurationError, match=message) as raised:
        configuration.read_profile("a", folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("text", "message"), [("[", "is no YAML"), ("", "holds no keys")])
def test_a_file_that_is_no_profile_is_told_in_a_sentence(folder, text, message):
    (folder / "a.yaml").write_text(text)
    with pytest.raises(configuration.ConfigurationError, match=rf"config/a\.yaml {message}"):
        configuration.read_profile("a", folder)


def test_defaults_fill_what_a_profile_leaves_out_and_nothing_else():
    profile = own("quick")
    whole = configuration.with_defaults(profile, configuration.read_schema(ROOT / "config"))
    assert (whole["classifier"]["precision"], whole["source"]) == ("auto", "standin")
    assert configuration.merged(whole, profile) == whole
    assert "precision" not in profile["classifier"]
