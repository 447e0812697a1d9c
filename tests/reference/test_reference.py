"""The kept measurements must belong to the current default noise model and stand-in."""

import dataclasses
import importlib
import json
import re
import shutil

import configuration
import numpy as np
import pandas as pd
import pytest
import yaml
from paths import REFERENCE, ROOT
from PIL import Image

import book
from galaxynb import __version__
from galaxynb.apply.networks import load_networks
from galaxynb.apply.predict import predict
from galaxynb.data.catalog import load_catalog
from galaxynb.data.galaxy10 import CLASS_COUNTS, CLASS_NAMES
from galaxynb.files import save_table, write_json
from galaxynb.images import to_float
from galaxynb.networks.models import load_model, predict_classes
from galaxynb.noise import NoiseModel
from galaxynb.provenance import load_records
from galaxynb.remedies.disturbances import DISTURBANCES
from galaxynb.remedies.rows import REFERENCE as REFERENCE_ROWS
from galaxynb.remedies.rows import make_remedy
from galaxynb.remedies.seeds import compared_over_runs
from galaxynb.remedies.tables import PROBABILITIES
from galaxynb.results.evaluation import Estimate
from galaxynb.results.noise_fit import RANGES, WEIGHTS, noise_around, rounded_noise
from galaxynb.results.paper import paper_table
from galaxynb.results.sweeps import read_sweep, sweep_provenance
from galaxynb.stages import SECTIONS
from galaxynb.standin.closeness import draw_like
from galaxynb.standin.measure import as_jpeg, measure_cutouts
from galaxynb.standin.ranges import ranges_digest


@pytest.fixture
def record():
    return json.loads((REFERENCE / "noise_fit.json").read_text())


@pytest.fixture
def evaluations():
    return pd.read_csv(REFERENCE / "noise_fit.csv")


def test_the_default_noise_is_the_closest_one_found(record, evaluations):
    """If this fails after a new fit, give `NoiseModel`, config/schema.yaml and notebook 02 the printed defaults."""
    default = json.loads(json.dumps(dataclasses.asdict(NoiseModel())))
    assert record["noise model"] == default
    assert record["ranges"] == json.loads(json.dumps(RANGES))
    best = evaluations.loc[evaluations["misfit"].idxmin()]
    centres = {row["parameter"]: row["best"] for row in record["intervals"]}
    assert centres == pytest.approx(best[list(centres)].to_dict(), rel=1e-3)
    found = json.loads(json.dumps(dataclasses.asdict(rounded_noise(noise_around(**centres), 64))))
    for name in ("radius", "brightness", "blur", "n_stars", "sigma"):
        assert found[name] == pytest.approx(default[name], rel=0.06)


def test_the_fit_is_of_the_papers_table_and_of_committed_code(record, evaluations):
    paper = paper_table("noisy").loc[list(CLASS_NAMES)]
    scores = pd.DataFrame(record["scores"])
    for column in ("Recall", "Precision"):
        assert scores[f"{column} (paper)"].tolist() == paper[column.lower()].tolist()
    best = evaluations.loc[evaluations["misfit"].idxmin()]
    assert scores["Recall"].tolist() == pytest.approx([best[f"recall {k}"] for k in range(10)], abs=1e-3)
    assert record["misfit"] == pytest.approx(best["misfit"], abs=1e-3)
    assert record["accuracy"]["noisy"] == pytest.approx(best["accuracy"], abs=1e-3)
    assert len(evaluations) == record["evaluations"]
    assert record["weights"] == WEIGHTS
    assert set(evaluations) >= {*RANGES}
    assert record["dirty"] is False


def test_the_intervals_are_where_the_profiles_are_low(record):
    profiles = pd.DataFrame(record["profiles"])
    limit = profiles["misfit"].min() + 2 * record["uncertainty"]
    for row in record["intervals"]:
        profile = profiles[profiles["parameter"] == row["parameter"]]
        fine = profile.loc[profile["misfit"] <= limit - 1e-4, "value"]
        assert fine.between(row["low"] * 0.999, row["high"] * 1.001).all()


# How close the stand-in comes

PARTS = ("hardness", "distributions", "real", "few", "discriminator")
ENDINGS = ("", "_distances", "_classes", "_features")


def kept(ending=""):
    return json.loads((REFERENCE / f"standin_closeness{ending}.json").read_text())


@pytest.fixture
def parts():
    return kept()["parts"]


@pytest.mark.parametrize("ending", ["", "_before"])
def test_what_was_measured_of_the_standin_says_of_which_one_and_by_which_commit(ending):
    parts = kept(ending)["parts"]
    assert set(parts) <= set(PARTS)
    assert {"hardness", "distributions"} <= set(parts)
    for name, part in parts.items():
        assert part["data"] == f"galaxynb {__version__}, seed {part['seed']}", name
        assert re.fullmatch("[0-9a-f]{40}", part["commit"]), name
        assert part["dirty"] is False, name
    for source in [parts[name]["real file"] for name in ("real", "few", "discriminator") if name in parts]:
        assert source["kind"] == "real"
        assert source["images"] > 0
        assert re.fullmatch("[0-9a-f]{64}", source["sha256"])
        assert "/" not in source["file"]


def test_what_was_measured_of_the_standin_is_of_its_present_ranges(parts):
    """If this fails after a change of `galaxynb.standin.ranges`, run `make reference`."""
    stale = [name for name, part in parts.items() if part["ranges"] != ranges_digest()]
    assert stale == []


def test_the_earlier_record_is_of_one_standin_and_names_its_commit():
    before = kept("_before")
    assert re.fullmatch("[0-9a-f]{40}", before["standin"])
    assert len({part["ranges"] for part in before["parts"].values()}) == 1


def test_the_distances_count_as_the_record_says(parts):
    for record in (parts["distributions"], kept("_before")["parts"]["distributions"]):
        *each, total = record["pairs"]
        assert (len(record["distances"]), len(each), total["Pairs"]) == (10, 5, 50)
        for row in each:
            values = [by_class[row["Quantity"]] for by_class in record["distances"]]
            assert sum(value < record["limit"] - 1e-9 for value in values) == row["Close"]
        assert min(by_class["Stand-in"] for by_class in record["distances"]) >= 140
        assert 0.8 * total["Pairs"] < total["Expected"] < total["Pairs"]


def test_the_standin_is_about_as_hard_as_the_published_images(parts):
    hardness = parts["hardness"]
    # It is unknown how many images the published accuracy was measured with.
    assert abs(hardness["accuracy"]["value"] - hardness["published accuracy"]) < 0.06
    real, ours = (hardness["among few"][name] for name in ("real", "stand-ins"))
    assert max(real["low"], ours["low"]) < min(real["high"], ours["high"])


@pytest.fixture(scope="module")
def program():
    return importlib.import_module("standin_closeness")


def test_tables_for_reading_are_those_of_the_record(parts, program):
    tables = program.tables(parts, kept("_before")["parts"])
    assert set(tables) == set(ENDINGS)
    for ending, table in tables.items():
        text = (REFERENCE / f"standin_closeness{ending}.csv").read_text(encoding="utf-8")
        assert text == table.to_csv(index=False, lineterminator="\n")
        assert len(table) > 0
    rows = {"hardness": 1, "distributions": 1, "real": 7, "few": 4, "discriminator": 2}
    measured = tables[""]["Result"].ne("not measured").sum()
    assert measured == sum(rows[name] for name in parts)


def test_tables_without_any_record_say_that_nothing_was_measured(program):
    tables = program.tables({})
    assert tables[""][["Before", "Result"]].eq("not measured").all(axis=None)
    for ending in ("_distances", "_features"):
        assert tables[ending].iloc[0, 0] == "not measured"
    assert tables["_classes"].drop(columns="Class").eq("not measured").all(axis=None)


def test_tables_show_before_and_after_side_by_side(program):
    parts = kept("_before")["parts"]
    changed = json.loads(json.dumps(parts))
    changed["distributions"]["distances"][3]["Galaxy size (px)"] = 0.123
    changed["distributions"]["pairs"][0]["Close"] = 7
    changed["hardness"]["accuracy"]["value"] = 0.987
    tables = program.tables(changed, parts)
    before = parts["distributions"]
    shown = tables["_distances"].set_index("Class")["Galaxy size (px)"]
    assert shown.iloc[3] == f"0.12 ({before['distances'][3]['Galaxy size (px)']:.2f})"
    assert shown["Classes below 0.20"] == f"7 ({before['pairs'][0]['Close']})"
    row = tables[""].iloc[0]
    assert (row["Result"], row["Before"]) == ("0.987", f"{parts['hardness']['accuracy']['value']:.3f}")
    fewer = changed | {"real": changed["real"] | {"images": dict.fromkeys(changed["real"]["images"], 7)}}
    said = program.tables(fewer, parts)[""].set_index("What was measured").filter(like="on real images", axis=0)
    assert said["Before"].iloc[0].endswith("(60 images)")
    assert said["On"].iloc[0] == "7 images"


def test_mean_recall_weighs_classes_and_not_images(program):
    right, labels = np.array([True] * 90 + [False] * 10), np.array([0] * 90 + [4] * 10)
    assert program.mean_recall(right, labels) == Estimate(0.5, 0.5, 0.5)
    right[[0, 1, 95, 96]] = [False, False, True, True]
    value, low, high = program.mean_recall(right, labels)
    assert value == pytest.approx((88 / 90 + 2 / 10) / 2)
    assert low < value < high


def test_scores_are_those_of_the_probabilities(program):
    labels = np.arange(20) % 10
    probability = np.eye(10)[np.where(labels == 3, 4, labels)]
    scores = program.scores({"real": (probability, labels)}, seed=0)
    assert scores["accuracy"]["real"]["value"] == scores["mean recall"]["real"]["value"] == 0.9
    assert [row["right"] for row in scores["recalls"]["real"]] == [2, 2, 2, 0, 2, 2, 2, 2, 2, 2]
    assert scores["images"] == {"real": 20}


def test_networks_are_trained_on_standins_and_on_a_folder_and_go_on_where_they_were(program, tmp_path, capsys):
    for k, image in enumerate(program.draw_like(np.repeat(np.arange(10), 2), seed=1, size=64)):
        path = tmp_path / "some images" / CLASS_NAMES[k // 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    arguments = [str(tmp_path / "out.csv"), "--real", str(tmp_path / "some images"), "--only", "real,few"]
    arguments += ["--size", "32", "--epochs", "1", "--few-epochs", "1", "--images", "30", "--run-eagerly"]
    arguments += ["--work", str(tmp_path / "work")]
    program.main(arguments)
    first = json.loads((tmp_path / "out.json").read_text())["parts"]
    assert len(re.findall("epoch +1/1", capsys.readouterr().out)) == 3
    for name, part in first.items():
        assert part["real file"]["file"] == "some images"
        assert part["real file"]["sha256"] == load_catalog(tmp_path / "some images").digest()
        assert part["images"]["real"] == 20
        for test, accuracy in part["accuracy"].items():
            right, images = (sum(row[key] for row in part["recalls"][test]) for key in ("right", "images"))
            assert accuracy["value"] == pytest.approx(right / images), name
    assert first["few"]["training"]["folds"] == 2
    # The network that is kept is the one that was tested.
    images = program.shrunk_images(load_catalog(tmp_path / "some images").take(np.arange(20)), 32)
    predicted = predict_classes(
        load_model(tmp_path / "work" / "standin_classifier.keras", made_by="the test"), to_float(images)
    )
    right = predicted == np.repeat(np.arange(10), 2)
    assert right.mean() == pytest.approx(first["real"]["accuracy"]["real"]["value"])
    program.main(arguments)
    assert "epoch   1/1" not in capsys.readouterr().out
    again = json.loads((tmp_path / "out.json").read_text())["parts"]
    for name in ("real", "few"):
        assert again[name]["recalls"] == first[name]["recalls"]


def test_drawn_standins_are_read_again_only_for_the_same_labels(program, tmp_path):
    first = program.drawn(tmp_path, np.array([2, 2]), [1], 32)
    np.testing.assert_array_equal(program.drawn(tmp_path, np.array([2, 2]), [1], 32), first)
    assert len(list(tmp_path.glob("drawn-*.npy"))) == 1
    assert not np.array_equal(program.drawn(tmp_path, np.array([8, 8]), [1], 32), first)


def test_published_cutouts_are_measured_with_class_and_row(tmp_path):
    cutouts = importlib.import_module("published_cutouts")
    names = {(0, "row00012"): 12, (3, "row04567"): 4567, (3, "lossless_image_2"): ""}
    for (label, name), image in zip(names, draw_like([0, 3, 3], seed=1), strict=True):
        path = tmp_path / "some" / CLASS_NAMES[label] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    cutouts.main([str(tmp_path / "some"), str(tmp_path / "out.csv")])
    table = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert table["class"].tolist() == ["0", "3", "3"]
    assert table["row"].tolist() == ["12", "", "4567"]
    assert table.columns[:2].tolist() + list(measure_cutouts(np.zeros((0, 64, 64, 3), np.uint8))) == [*table.columns]
    numbers = table.drop(columns=["row", "source_fwhms"]).apply(pd.to_numeric)
    seen = measure_cutouts(as_jpeg(load_catalog(tmp_path / "some").take([0, 1, 2])))
    for column in numbers.columns[1:]:
        np.testing.assert_allclose(numbers[column], seen[column].astype(float), rtol=6e-4)
    assert set("".join(table.to_numpy().ravel())) <= set("0123456789.-+e ")
    shrunk = tmp_path / "small" / CLASS_NAMES[0] / "1.png"
    shrunk.parent.mkdir(parents=True)
    Image.fromarray(draw_like([0], size=64)[0]).save(shrunk)
    with pytest.raises(ValueError, match=r"has images of 64 px, but 256 px is needed"):
        cutouts.main([str(tmp_path / "small"), str(tmp_path / "out.csv")])


def test_what_is_the_same_cannot_be_told_apart_and_what_differs_is_named(program, monkeypatch):
    monkeypatch.setattr(program, "TREES", 20)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 6)
    columns = ["sky_r", "sky_g", "size"]

    def table(shift=0.0):
        return pd.DataFrame(rng.standard_normal((60, 3)), columns=columns).assign(size=lambda t: t["size"] + shift)

    groups = {"sky_rgb": ["sky_r", "sky_g"], "size": ["size"]}
    same = [program.told_apart(table(), [table()], labels, groups, seed)[0] for seed in range(6)]
    assert abs(np.mean([accuracy.value for accuracy in same]) - 0.5) < 0.08
    assert all(accuracy.low < accuracy.value < accuracy.high for accuracy in same)
    apart, lost = program.told_apart(table(), [table(5), table(5)], labels, groups, seed=0)
    assert apart.value > 0.95
    assert lost["size"] > 0.3 > abs(lost["sky_rgb"]) + 0.2


def test_features_are_grouped_over_bands_and_all_measured(program):
    groups, titles = program.feature_groups()
    assert groups["corr2_rgb"] == ["corr2_r", "corr2_g", "corr2_b"]
    assert titles["corr2_rgb"] == "Sky correlation, 2 px"
    assert groups["source_fwhm"] == ["source_fwhm"]
    measured = measure_cutouts(np.zeros((0, 64, 64, 3), np.uint8))
    assert {column for group in groups.values() for column in group} == set(measured) - {"source_fwhms"}


def test_parts_that_need_real_images_are_skipped_or_refused_without(program, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(program, "PARTS", program.NEED_REAL)
    out = str(tmp_path / "out.csv")
    program.main([out])
    assert "need real images" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        program.main([out, "--only", "real"])
    assert "give --real FOLDER" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        program.main([out, "--only", "realest"])
    assert list(tmp_path.iterdir()) == []


def test_a_part_measured_alone_leaves_the_others_as_they_were(program, tmp_path, parts):
    out = tmp_path / "out.csv"
    write_json(tmp_path / "out.json", {"parts": {"distributions": parts["distributions"]}})
    program.main([str(out), "--only", "hardness", "--neighbours", "40", "--seed", "3"])
    record = json.loads((tmp_path / "out.json").read_text())["parts"]
    assert record["distributions"] == parts["distributions"]
    assert (record["hardness"]["training images"], record["hardness"]["seed"]) == (40, 3)
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == sorted(f"out{ending}.csv" for ending in ENDINGS)


@pytest.fixture
def kept_records():
    return load_records(REFERENCE / "run")


def test_kept_run_is_at_the_papers_scale_and_from_committed_code(kept_records):
    assert list(kept_records)[:5] == list(SECTIONS)[:5]
    assert kept_records["data"]["data"]["n_images"] == sum(CLASS_COUNTS)
    assert kept_records["autoencoder"]["parameters"]["raw_epochs"] == 20
    assert kept_records["autoencoder"]["parameters"]["noisy_epochs"] == 60
    assert len(pd.read_csv(REFERENCE / "run" / "classifier_history.csv")) >= 18
    assert len(pd.read_csv(REFERENCE / "run" / "autoencoder_history.csv")) == 80
    assert {record["dirty"] for record in kept_records.values()} == {False}


def test_kept_run_says_of_itself_what_its_records_and_metrics_say(kept_records):
    metrics = json.loads((REFERENCE / "run" / "metrics.json").read_text())
    said = [(REFERENCE / "run" / name).read_text() for name in ("ran.md", "verdict.md")]
    networks = ("classifier", "autoencoder")
    histories = {name: pd.read_csv(REFERENCE / "run" / f"{name}_history.csv") for name in networks}
    keep = importlib.import_module("keep")
    assert said == [text + "\n" for text in keep.sentences(metrics, kept_records, histories)]
    stages = pd.read_csv(REFERENCE / "run" / "stages.csv", dtype=str)
    pd.testing.assert_frame_equal(stages, keep.stages_table(kept_records, histories), check_dtype=False)
    said = " ".join("".join(said).split())
    for name in ("clean", "noisy", "denoised", "recovery"):
        assert f"{metrics['estimates'][name]['value']:.2f}" in said
    shown = pd.read_csv(REFERENCE / "run" / "accuracies.csv").set_index("Test images")["Accuracy"]
    for name, text in shown.items():
        assert Estimate(**metrics["estimates"][name]).text() == text


def test_epochs_before_a_restart_count_for_the_time_of_a_run():
    keep = importlib.import_module("keep")
    records = {
        "data": {"wall_s": 600, "extra": {}},
        "classifier": {"wall_s": 2400, "extra": {"training seconds": {"epochs": 2000}}},
        "autoencoder": {"wall_s": 600, "extra": {"training seconds": {"epochs": 300}}},
    }
    histories = {
        "classifier": pd.DataFrame({"seconds": [1000, 1000]}),
        "autoencoder": pd.DataFrame({"seconds": [1900, 2000]}),
    }
    assert keep.earlier_seconds(records, histories) == {"classifier": 0, "autoencoder": 3600}
    assert keep.hours_of(records, histories) == 2


@pytest.fixture(scope="module")
def trials():
    return pd.read_csv(REFERENCE / "autoencoder_trials.csv").set_index("Variant")


@pytest.fixture(scope="module")
def trials_record():
    return json.loads((REFERENCE / "autoencoder_trials.json").read_text())


def test_the_trials_have_the_kept_runs_images_and_noise_and_committed_code(trials, trials_record, kept_records):
    # Their classifier may be of an earlier run of the same profile.
    assert trials_record["dirty"] is False
    assert re.fullmatch("[0-9a-f]{40}", trials_record["commit of the classifier"])
    assert trials_record["sha256 of the data"] == kept_records["data"]["data"]["sha256"]
    assert trials_record["noise model"]["strength"] == kept_records["autoencoder"]["extra"]["noise"]["strength"]
    lost = trials_record["accuracy, clean"] - trials_record["accuracy, noisy"]
    gained = trials["Accuracy, denoised"] - trials_record["accuracy, noisy"]
    np.testing.assert_allclose(trials["Recovery"], gained / lost, atol=2e-3)


def test_notebook_04_says_of_the_trials_what_the_table_shows(trials, trials_record):
    recovery, denoised = trials["Recovery"], trials["Accuracy, denoised"]
    chosen, chance = denoised["as chosen"], trials_record["uncertainty of an accuracy"]
    notebook = json.loads((ROOT / "notebooks" / "04_autoencoder.ipynb").read_text())
    text = " ".join(" ".join("".join(cell["source"]) for cell in notebook["cells"]).split())
    assert "Smaller networks recover less." in text
    smaller = trials.query("Changed == 'size' and Parameters < @trials.Parameters['as chosen']").index
    assert len(smaller) == 3
    assert (recovery[smaller] < recovery["as chosen"]).all()
    assert "Each doubling of the epochs added less than the one before." in text
    by_epochs = recovery[["half the epochs", "as chosen", "twice the epochs", "four times the epochs"]].to_numpy()
    assert np.all(np.diff(by_epochs) > 0)
    assert np.all(np.diff(by_epochs, n=2) < 0)
    assert "No variant recovers all of the accuracy, not even on clean images." in text
    assert (trials["Accuracy, denoised clean"] < trials_record["accuracy, clean"] - chance).all()
    assert "recovers about as much as *twice the epochs*" in text
    assert trials.loc["half the batch", "Steps"] == trials.loc["twice the epochs", "Steps"]
    assert abs(denoised["half the batch"] - denoised["twice the epochs"]) < chance
    assert "*Squared error* recovers less, and *two halvings* least of all." in text
    assert denoised["squared error"] < chosen - chance
    assert recovery.idxmin() == "two halvings"
    assert "The other rates and *no dilation* changed the accuracy little" in text
    assert (abs(denoised[["half the rate", "twice the rate", "no dilation"]] - chosen) < 0.02).all()
    assert "*twice the width* and *half the batch* score higher" in text
    assert (denoised[["twice the width", "half the batch"]] > chosen).all()


def test_kept_run_has_the_settings_of_its_profile(kept_records):
    profile = configuration.read_profile("half", ROOT / "config")
    for section in ("data", "classifier", "autoencoder"):
        given = kept_records[section]["parameters"]
        for name, value in profile[section].items():
            assert given[name] == value, f"{section}.{name}: repeat the run with `make reference-run`"


def test_the_kept_run_was_tested_on_real_images(kept_records):
    record = json.loads((REFERENCE / "real_recovery.json").read_text())
    assert record["dirty"] is False
    assert record["profile"] == "half"
    assert record["commit of the networks"] == kept_records["autoencoder"]["commit"]
    assert record["noise model"]["strength"] == kept_records["autoencoder"]["extra"]["noise"]["strength"]
    table = pd.read_csv(REFERENCE / "real_recovery.csv").set_index("Quantity")[f"{record['images']} real images"]
    for name, estimate in record["estimates"].items():
        assert Estimate(**estimate).text() == table[name]


def test_the_kept_networks_are_those_of_the_kept_run(kept_records):
    folder, pack = REFERENCE / "networks", importlib.import_module("pack")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    metrics = json.loads((REFERENCE / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert card["estimates"] == metrics["estimates"]
    assert card["profile"] == kept_records["data"]["profile"]
    for name, one in card["networks"].items():
        assert one["commit"] == kept_records[name]["commit"]
        assert one["largest change"] <= pack.LARGEST
        assert one["bytes"] == (folder / "models" / f"{name}.keras").stat().st_size
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 16e6
    for name, table in {"networks": pack.networks_table(card), "accuracies": pack.accuracies_table(card)}.items():
        assert table.to_csv(index=False, lineterminator="\n") == (folder / f"{name}.csv").read_text(encoding="utf-8")


def test_the_kept_networks_are_loaded_by_default_with_their_checksums_verified():
    networks = load_networks()
    assert networks.side == 64
    assert networks.kind == "standin"
    images = draw_like(np.arange(10), seed=3)
    table, denoised = predict(images, networks)
    assert len(table) == len(denoised) == 10


def test_the_kept_remedies_were_tried_on_the_kept_networks_with_their_profiles_settings(tmp_path):
    program, folder = importlib.import_module("remedies"), REFERENCE / "remedies"
    card = json.loads((REFERENCE / "networks" / "card.json").read_text(encoding="utf-8"))
    assert card["profile"] == "half"
    settings, networks = program.trial_of(card)
    names = [name for name in program.ROWS if (folder / "rows" / name).is_dir()]
    assert {"nothing", "autoencoder"} < set(names)
    facts = {name: json.loads((folder / "rows" / name / "remedy.json").read_text(encoding="utf-8")) for name in names}
    for name, one in facts.items():
        assert program.kept(folder / "rows" / name, settings, networks, real=True), name
        assert re.fullmatch("[0-9a-f]{40}", one["commit"])
        assert (one["dirty"], one["failed"]) == (False, None)
    made, _ = save_table(program.made_by(facts), tmp_path / "made")
    assert (folder / "made.csv").read_bytes() == made.read_bytes()
    kept = json.loads((folder / "remedies.json").read_text(encoding="utf-8"))
    assert (folder / "answers.md").read_text(encoding="utf-8") == program.answers_text(kept["advice"])
    verdicts = {one["title"]: one["verdict"] for one in kept["remedies"].values() if one.get("verdict")}
    left = pd.read_csv(folder / "verdict.csv", index_col="Remedy", dtype=str)["Stars left"]
    assert left.to_dict() == {title: program.shown(one["stars left"]) for title, one in verdicts.items()}
    shown = pd.read_csv(folder / "accuracies.csv")["Noisy images"]
    for name, text in zip(names, shown, strict=True):
        answers = pd.read_parquet(folder / "rows" / name / "predictions.parquet").query("images == 'noisy'")
        right = answers[list(PROBABILITIES)].to_numpy().argmax(axis=1) == answers["label"]
        assert text.startswith(f"{right.mean():.2f} (")
    accuracies, earlier = dict(zip(names, shown, strict=True)), pd.read_csv(folder / "earlier.csv")
    rows = ("nothing", "autoencoder", None, "half-noisy-classifier", "denoised-classifier")
    here = earlier["Here"].str.replace(" to ", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}")
    assert here.tolist() == [accuracies.get(name, program.DASH) for name in rows]
    titles = [one["title"] for one in facts.values()]
    for table in ("accuracies", "overview", "real"):
        assert pd.read_csv(folder / f"{table}.csv")["Remedy"].tolist() == titles
    said = " ".join((folder / "tried.md").read_text(encoding="utf-8").split())
    assert said == program.tried(card, NoiseModel.read(REFERENCE / "networks" / "calibrated_noise.json"), names)


def test_the_pages_say_how_the_kept_remedies_were_trained_and_tested():
    pages = {path.stem: " ".join(path.read_text(encoding="utf-8").split()) for path in (ROOT / "book").glob("*.md")}
    said = pages["reference_remedies"]
    config = ROOT / "config"
    profile = configuration.with_defaults(configuration.read_profile("half", config), configuration.read_schema(config))
    remedies, paper = profile["remedies"], profile["autoencoder"]
    epochs, batch = paper["raw_epochs"] + paper["noisy_epochs"], paper["batch_size"]
    others, few = remedies["restorer_epochs"], remedies["restorer_batch_size"]
    assert f"The paper's autoencoder was trained for {epochs} epochs with {batch} images per step." in said
    assert f"images were trained for {others} epochs with {few} images per step, so they made twice as many" in said
    assert round(others / few / (epochs / batch)) == 2
    assert not profile["classifier"]["augment"]
    assert not paper["augment"]
    robust, judged = remedies["n_robust"], remedies["n_judged"]
    assert (
        f"errors on {robust:,} images for each kind of damage, and measures of {judged} images" in pages["which_remedy"]
    )
    assert f"on {robust:,} test images" in said
    assert f"the other columns are from {judged} of them" in said
    edge = set()
    for name in ("median", "gaussian", "non-local-means", "total-variation", "wavelet", "star-removal"):
        facts = json.loads((REFERENCE / "remedies" / "rows" / name / "remedy.json").read_text(encoding="utf-8"))
        (chosen,) = facts["chosen"].values()
        if float(chosen) == min(make_remedy(name).candidates):
            edge.add(name)
    # The smallest window of a median has a side of 3 px.
    assert edge == {"median", "gaussian", "wavelet", "star-removal"}
    assert "chosen ones of the Gaussian filter, the wavelets and the star removal are the smallest tried" in said


def test_the_sweep_of_the_remedies_has_those_that_the_answers_name():
    answers = " ".join((REFERENCE / "remedies" / "answers.md").read_text(encoding="utf-8").split())
    named = {
        title for title in re.findall('"(.+?)"', answers) if title not in {one.title for one in DISTURBANCES.values()}
    }
    sweep = yaml.safe_load((ROOT / "config" / "sweeps" / "remedies.yaml").read_text(encoding="utf-8"))
    (values,) = sweep["axes"]["remedies"]
    # Each run has the rows of `REFERENCE` too.
    assert named - {make_remedy(name).title for name in REFERENCE_ROWS} == {
        make_remedy(name).title for name in values["remedies.rows"]
    }


def test_only_a_finished_run_of_committed_code_is_kept(tmp_path):
    keep = importlib.import_module("keep").keep
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        keep(tmp_path, tmp_path / "out")
    shutil.copytree(REFERENCE / "run" / "provenance", tmp_path / "provenance")
    shutil.copy(REFERENCE / "run" / "metrics.json", tmp_path)
    record = json.loads((tmp_path / "provenance" / "noise.json").read_text())
    write_json(tmp_path / "provenance" / "noise.json", record | {"dirty": True})
    with pytest.raises(ValueError, match="noise ran with uncommitted changes"):
        keep(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_answers_say_which_conclusions_hold_with_other_seeds():
    table = compared_over_runs(read_sweep(REFERENCE / "sweeps" / "remedies")[0])
    page = (ROOT / "book" / "which_remedy.md").read_text(encoding="utf-8")
    same = table[table["Higher in"].isin(["5 of 5", "0 of 5"])].drop(columns="Difference")
    lines = ["| " + " | ".join(row) + " |" for row in same.to_numpy()]
    heading = "| Remedy | Compared with | Higher in |\n|:--|:--|:-:|\n"
    assert page.partition(heading)[2].partition("\n\n")[0].splitlines() == lines
    reversed_ = same[same["Higher in"] == "0 of 5"]
    assert table.loc[reversed_.index, "Difference"].str.startswith("-").all()
    assert (len(table), len(same), len(table) - len(same), len(reversed_)) == (11, 6, 5, 3)
    assert reversed_["Remedy"].nunique() == 2
    words = " ".join(page.split())
    assert "In three of them (0 of 5), it is the reverse" in words
    assert "The two remedies that are higher in none of the runs train a classifier from scratch" in words
    assert "compare eleven pairs" in words
    assert "In six pairs" in words
    assert "In the other five pairs" in words
    # The pairs are conclusions of the kept run: there, the first is higher in each.
    accuracies = pd.read_csv(REFERENCE / "remedies" / "accuracies.csv", index_col="Remedy")["Noisy images"]
    accuracies = accuracies.str.split().str[0].astype(float)
    assert (accuracies[table["Remedy"]].to_numpy() > accuracies[table["Compared with"]].to_numpy()).all()


@pytest.mark.parametrize("name", ["seeds", "noise", "remedies"])
def test_a_kept_sweep_is_the_one_that_ships_and_from_committed_code(name):
    folder = REFERENCE / "sweeps" / name
    results, points = read_sweep(folder)
    config, sweeps = ROOT / "config", importlib.import_module("sweeps")
    shipped, profile = sweeps.read(config / "sweeps" / f"{name}.yaml", folder=config)
    if missing := shipped["axes"].keys() - set(points):
        pytest.skip(f"the kept sweep has other axes (it lacks {', '.join(missing)}): run `make reference-sweeps`")
    chosen = sweeps.points(shipped, profile, yaml.safe_load((config / "schema.yaml").read_text(encoding="utf-8")))
    assert points["point"].tolist() == [sweeps.label(point) for point in chosen]
    assert profile == yaml.safe_load((config / "quick.yaml").read_text(encoding="utf-8"))
    if name == "remedies":
        (rows,) = shipped["axes"]["remedies"]
        assert {json.dumps(rows["remedies.rows"])} == set(results["remedies.rows"])
        # The page says so of the classifiers.
        assert (results["remedies.classifier_epochs"] == results["classifier.epochs"]).all()
        assert results["classifier.augment"].all()
        # If the sweep was made again, delete the sentence on the mCE from its page, and these lines.
        assert "new runs give these remedies other values of mCE" in book.SWEEPS[name][0]
        assert results["commit"].str.contains("225220d41d").all()
    # The page says that one point is `make book` with the profile quick.
    if name == "seeds":
        assert profile["seed"] in points["seed"].tolist()
    assert set(results["point"]) == set(points.loc[points["state"] == "done", "point"])
    assert not results["commit"].str.contains("with changes").any()
    assert {path.name for path in folder.iterdir()} == {"points.csv", "provenance.json", "results.parquet"}


@pytest.mark.parametrize("name", ["seeds", "noise", "remedies"])
def test_what_made_a_kept_sweep_is_what_its_table_says(name):
    results, _ = read_sweep(REFERENCE / "sweeps" / name)
    kept = json.loads((REFERENCE / "sweeps" / name / "provenance.json").read_text(encoding="utf-8"))
    assert kept.pop("sweep") == name
    seconds = results.drop_duplicates("point").set_index("point")["seconds"]
    for point, own in kept["points"].items():
        stages = dict(kept["shared"].get("stages", {}))
        for stage, costs in own.pop("stages").items():
            stages[stage] = stages.get(stage, {}) | costs
        assert set(stages) == set(SECTIONS[: 6 if name == "remedies" else 5])
        # Each stage is rounded to a second.
        most = 0.5 * len(stages) + 0.1
        assert sum(costs["seconds"] for costs in stages.values()) == pytest.approx(seconds[point], abs=most)
    del kept["shared"]["stages"]
    assert kept == sweep_provenance(results)


def test_kept_benchmarks_hold_every_row_at_full_size_and_from_committed_code():
    rows = set()
    for call in (REFERENCE / "benchmarks").iterdir():
        record = load_records(call)["benchmarks"]
        assert record["dirty"] is False
        assert record["parameters"]["quick"] is False
        rows |= {result["row"] for result in record["extra"]["results"]}
    page = (ROOT / "book" / "performance.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^(`.*)\n: ", page, re.MULTILINE)))
    assert rows == set(named)
    table, made = importlib.import_module("book").benchmarks(REFERENCE / "benchmarks")
    assert set(table["Row"]) == rows
    assert not table["Goal"].str.contains("[<>]").any()
    assert {"Commit", "Device", "Version: tensorflow"} <= set(made["What"])
    said = made.set_index("What").loc["Rows"].str.split(", ").explode()
    assert said.is_unique
    assert set(said) == rows


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_of_a_row_that_two_calls_measured_the_later_counts(tmp_path, first, second):
    for name, when, ratios in ((first, "2026-01-01", {"pairs": 1, "growth": 2}), (second, "2026-01-02", {"pairs": 3})):
        shutil.copytree(next((REFERENCE / "benchmarks").iterdir()), tmp_path / name)
        path = tmp_path / name / "provenance" / "benchmarks.json"
        record = json.loads(path.read_text(encoding="utf-8")) | {"time": f"{when}T00:00:00+00:00"}
        record["extra"]["results"] = [{"row": row} for row in ratios]
        path.write_text(json.dumps(record), encoding="utf-8")
        path = tmp_path / name / "benchmarks.csv"
        kept = pd.read_csv(path, dtype=str, keep_default_na=False).iloc[0].to_dict()
        # Only later calls count CPU time.
        cpu = {} if when == "2026-01-01" else {"User + system, s": "3 + 1 / 2 + 4"}
        rows = [kept | {"Row": row, "Ratio": str(ratio)} | cpu for row, ratio in ratios.items()]
        pd.DataFrame(rows).to_csv(path, index=False)
    table, made = importlib.import_module("book").benchmarks(tmp_path)
    shown = dict(zip(table["Row"], table["Ratio"].str.partition(" (")[0], strict=True))
    assert shown == {"pairs": "3", "growth": "2"}
    with_cpu = {row: [text.partition(", CPU ")[2] for text in (table["Ours"][at], table["Against"][at])]
                for at, row in table["Row"].items()}  # fmt: skip
    assert with_cpu == {"pairs": ["3 + 1 s", "2 + 4 s"], "growth": ["", ""]}
    said = made.set_index("What").loc["Rows"]
    assert (said[first.upper()], said[second.upper()]) == ("growth", "pairs")
