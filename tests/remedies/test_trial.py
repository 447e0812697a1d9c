"""A trial of a remedy writes its results, or says in one sentence why there are none."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from remedy_samples import NOISE, SEED, sample_given, sample_images

from galaxynb.images import to_float
from galaxynb.remedies.disturbances import DISTURBANCES
from galaxynb.remedies.remedy import NOISY, Remedy
from galaxynb.remedies.results import facts_table, read_remedies, summarize_remedies, verdict_table
from galaxynb.remedies.rows import make_remedy
from galaxynb.remedies.tables import PROBABILITIES, robustness_table, score_remedies, summarize_robustness
from galaxynb.remedies.trial import EXAMPLES, TooSlowError, Trial, run_trial

TRIAL = Trial(n_robust=4, n_judged=5)


def cache(*, truth=True):
    images, labels = sample_images()
    return SimpleNamespace(images=images, labels=labels, truth=images if truth else None, image_size=32)


def tried(remedy, folder, *, trial=TRIAL, truth=True, **more):
    folder.mkdir(parents=True, exist_ok=True)
    given = sample_given(remedy.learns_from)
    return run_trial(remedy, given, trial, cache=cache(truth=truth), folder=folder, log=lambda line: None, **more)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remedies")
    for name in ("nothing", "median", "batchnorm-32", "autoencoder"):
        tried(make_remedy(name), folder / name)
    return folder


def test_the_predictions_are_those_of_the_classifier(results):
    given = sample_given()
    test = given.split.test
    table = pd.read_parquet(results / "nothing" / "predictions.parquet")
    assert list(table.columns) == ["remedy", "images", "row", "label", *PROBABILITIES]
    for images, version in {
        "clean": to_float(given.images[test]),
        "noisy": NOISE.apply(given.images[test], SEED, test),
    }.items():
        part = table[table["images"] == images]
        assert part["row"].tolist() == test.tolist()
        assert part["label"].tolist() == given.labels[test].tolist()
        expected = given.classifier.predict(version, verbose=0)
        np.testing.assert_allclose(part[list(PROBABILITIES)], expected, atol=1e-5)


def test_images_of_the_sky_are_classified_clean_and_noisy(tmp_path):
    images, labels = (part[:6] for part in sample_images())
    tried(make_remedy("nothing"), tmp_path, real=(images, labels))
    table = pd.read_parquet(tmp_path / "real.parquet")
    rows = np.arange(6)
    for name, version in {"clean": to_float(images), "noisy": NOISE.apply(images, SEED, rows)}.items():
        part = table[table["images"] == name]
        assert part["label"].tolist() == labels.tolist()
        expected = sample_given().classifier.predict(version, verbose=0)
        np.testing.assert_allclose(part[list(PROBABILITIES)], expected, atol=1e-5)
    assert score_remedies(table, n_resamples=9).index.tolist() == ["nothing"]


def test_every_kind_of_damage_is_classified_for_the_first_test_images(results):
    table = pd.read_parquet(results / "median" / "robustness.parquet")
    assert table.groupby(["kind", "severity"], observed=True).size().eq(4).all()
    assert set(table["kind"]) == {*DISTURBANCES}
    assert set(table["row"]) == {*sample_given().split.test[:4]}


def test_examples_are_restored_test_images(results):
    with np.load(results / "median" / "examples.npz") as kept:
        assert kept["images"].shape == (EXAMPLES, 32, 32, 3)
        assert kept["images"].dtype == np.uint8
    assert not (results / "batchnorm-32" / "examples.npz").exists()


def test_results_are_read_as_tables(results):
    found = read_remedies(results, [])
    assert list(found.facts) == ["nothing", "median", "batchnorm-32", "autoencoder"]  # in the order of the table
    assert found.failures == {}
    facts = facts_table(found.facts)
    assert facts.loc["median", "gives"] == "images"
    assert facts.loc["batchnorm-32", "learns from"] == NOISY
    assert facts.loc["autoencoder", "parameters"] == sample_given().autoencoder.count_params()
    assert facts.loc["autoencoder", "training seconds"] is None or np.isnan(
        facts.loc["autoencoder", "training seconds"]
    )
    assert np.isfinite(facts.loc[["nothing", "median"], "psnr"]).all()
    assert verdict_table(facts)["Remedy"].tolist() == facts["title"].drop("batchnorm-32").tolist()
    scores = score_remedies(found.predictions, n_resamples=99)
    robust = summarize_robustness(robustness_table(found.robustness))
    whole = summarize_remedies(found, scores, robust)
    assert whole["remedies"]["median"]["accuracy"]["noisy"]["value"] == scores.loc["median", "noisy"].value
    assert {len(values) for values in whole["robustness"]["median"].values()} == {5}


def test_a_missing_remedy_is_named(results):
    with pytest.raises(FileNotFoundError, match="no results of the remedy unet, but they are needed"):
        read_remedies(results, ["nothing", "unet"])


def test_nothing_can_be_compared_if_the_row_without_a_remedy_failed(tmp_path):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "remedy.json").write_text('{"title": "Nothing", "failed": "it was killed"}')
    with pytest.raises(ValueError, match=r"without a remedy failed \(it was killed\), but all others"):
        read_remedies(tmp_path, [])
    with pytest.raises(FileNotFoundError, match="holds no remedies, but their results are needed"):
        read_remedies(tmp_path / "elsewhere", [])


class Broken(Remedy):
    name, title, family = "own", "Mine", "Yours"

    def __init__(self, restore):
        super().__init__()
        self.restore = restore


@pytest.mark.parametrize(
    ("restore", "message"),
    [
        (lambda images: images[:, :8], "images of shape .*, but .* is needed"),
        (lambda images: images * np.nan, "NaN or infinite values"),
        (lambda images: [][1], "list index out of range"),
    ],
)
def test_a_bad_remedy_writes_nothing(restore, message, tmp_path):
    with pytest.raises((ValueError, IndexError), match=message):
        tried(Broken(restore), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_slow_remedy_is_stopped(tmp_path):
    import time

    def slow(images):
        time.sleep(0.005 * len(images))
        return images

    with pytest.raises(TooSlowError, match=r"it takes \d+ ms per image, but at most 2 ms are allowed"):
        tried(Broken(slow), tmp_path, trial=Trial(n_robust=1, n_judged=0, most_ms=2))


def test_a_remedy_may_work_in_place(tmp_path):
    def darken(images):
        images *= np.float32(0.9)
        return images

    for name, restore in {"in place": darken, "in a copy": lambda images: images * np.float32(0.9)}.items():
        tried(Broken(restore), tmp_path / name)
    one, other = (pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("in place", "in a copy"))
    pd.testing.assert_frame_equal(one, other)


def test_without_truth_there_is_no_verdict(tmp_path):
    found = tried(make_remedy("nothing"), tmp_path, truth=False, trial=Trial(n_robust=1, n_judged=5))
    assert "verdict" not in found
    assert "truth" not in found["quality"]


def test_a_remedy_adapts_to_each_kind_of_damage_and_to_clean_images(tmp_path):
    seen = []

    class Counting(Remedy):
        name, title, family, learns_from = "own", "Mine", "Yours", NOISY

        def adapt(self, images):
            seen.append(images)

        def restore(self, images):
            return images

    images, labels = sample_images()
    tried(Counting(), tmp_path, real=(images[:50], labels[:50]), trial=Trial(n_robust=2, n_judged=0))
    validation = sample_given().split.validation
    *damaged, last, clean, noisy = seen
    # There are twice as many images with each damage as test images with it.
    assert len(validation) > 4
    assert [len(images) for images in damaged] == 5 * len(DISTURBANCES) * [4]
    np.testing.assert_array_equal(last, to_float(images[validation]))
    # Images of the sky may be sorted by class, and a remedy may use only the first.
    assert sorted(map(bytes, clean)) == sorted(map(bytes, to_float(images[:50])))
    assert not np.array_equal(clean, to_float(images[:50]))
    assert noisy.shape == clean.shape
