"""What a remedy is given, and what it may return."""

import dataclasses

import numpy as np
import pytest
from remedy_samples import NOISE, SEED, sample_classifier, sample_given, sample_images

from galaxynb.remedies.adaptation import AdaptedBehindAutoencoder
from galaxynb.remedies.remedy import LABELS, LEARNS_FROM, NOISY, NOTHING, PAIRS, Remedy, probabilities
from galaxynb.remedies.rows import ADAPTING, BEHIND, OWN, REFERENCE, ROWS, chosen_rows, make_remedy, module_of
from galaxynb.remedies.trial import describe

ASKED = {NOISY: lambda given: given.noisy_images(3), PAIRS: lambda given: given.pairs()}
ASKED[LABELS] = lambda given: given.training_labels()


@pytest.mark.parametrize("learns_from", LEARNS_FROM)
@pytest.mark.parametrize("what", ASKED)
def test_a_remedy_gets_what_it_says_it_learns_from_and_no_more(learns_from, what):
    given = sample_given(learns_from)
    if LEARNS_FROM.index(what) <= LEARNS_FROM.index(learns_from):
        ASKED[what](given)
        return
    with pytest.raises(PermissionError, match=f"learns_from is '{learns_from}', but '{what}' is needed"):
        ASKED[what](given)


def test_noisy_images_are_training_images_with_the_noise_of_the_first_epoch():
    given = sample_given(NOISY)
    rows = given.split.train[:5]
    expected = NOISE.apply(sample_images()[0][rows], SEED, rows, epoch=1)
    np.testing.assert_array_equal(given.noisy_images(5), expected)


def test_a_parameter_is_chosen_on_validation_images_only():
    given = sample_given(NOTHING)
    images, labels = given.validation
    rows = given.split.validation
    np.testing.assert_array_equal(labels, sample_images()[1][rows])
    np.testing.assert_array_equal(images, NOISE.apply(sample_images()[0][rows], SEED, rows))
    # Black images are all of one class, so leaving the images as they are is better.
    assert given.best((0.0, 1.0), lambda some, factor: some * np.float32(factor)) == 1.0
    assert given.best((1.0, 1.0001), lambda some, factor: some) == 1.0  # the first of equals


class Returns(Remedy):
    """A remedy that returns what it was made with."""

    def __init__(self, made, *, classes=False):
        super().__init__()
        setattr(self, "classify" if classes else "restore", lambda images: made)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (np.zeros((2, 32, 32, 3)), r"images of shape \(2, 32, 32, 3\), but \(3, 32, 32, 3\) is needed"),
        (np.zeros((3, 16, 32, 3)), r"images of shape \(3, 16, 32, 3\), but"),
        (np.full((3, 32, 32, 3), np.nan), "NaN or infinite values for 3 of 3 images, but finite values are needed"),
        (np.full((3, 32, 32, 3), "a"), "of type <U1, but floats are needed"),
        (None, r"images of shape \(\), but"),
        (np.full((3, 32, 32, 3), 200, np.uint8), "values from 0 to 200, but 0 to 1 is needed: divide 8-bit values by"),
        (np.full((3, 32, 32, 3), -40.0), "values from -40 to 0, but 0 to 1 is needed"),
    ],
)
def test_wrong_images_are_refused(made, message):
    with pytest.raises(ValueError, match=message):
        probabilities(Returns(made), sample_images()[0][:3], classifier=sample_classifier())


def test_wrong_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"probabilities of shape \(3, 9\), but \(3, 10\) is needed"):
        probabilities(Returns(np.zeros((3, 9)), classes=True), sample_images()[0][:3], classifier=None)


@pytest.mark.parametrize("made", [np.full((3, 10), -0.1), np.full((3, 10), 0.2), np.eye(10)[:3] * 2 - 0.1])
def test_numbers_that_are_no_probabilities_are_refused(made):
    with pytest.raises(ValueError, match="but probabilities with a sum of 1 per image are needed: apply softmax"):
        probabilities(Returns(made, classes=True), sample_images()[0][:3], classifier=None)


def test_restored_images_are_clipped_before_they_are_classified():
    images = sample_images()[0][:4]
    white = probabilities(Returns(np.ones(images.shape)), images, classifier=sample_classifier())
    brighter = probabilities(Returns(np.full(images.shape, 7.0)), images, classifier=sample_classifier())
    np.testing.assert_array_equal(white, brighter)


@pytest.mark.parametrize("name", ROWS)
def test_each_row_is_a_remedy_of_its_name(name):
    remedy = make_remedy(name)
    assert remedy.name == name
    assert remedy.title
    assert remedy.family
    assert remedy.learns_from in LEARNS_FROM
    assert (remedy.restore is None) != (remedy.classify is None)
    assert f"galaxynb.{module_of(name)}" == type(remedy).__module__


def test_titles_are_unique():
    titles = [make_remedy(name).title for name in ROWS]
    assert sorted(titles) == sorted(set(titles))


def test_each_row_is_described_in_words_of_its_own():
    texts = [describe(make_remedy(name))["does"] for name in ROWS if not name.startswith("batchnorm")]
    assert all(20 < len(text) < 110 for text in texts)
    assert sorted(texts) == sorted(set(texts))


def test_rows_are_in_the_order_of_the_table_and_hold_the_references():
    assert chosen_rows("all") == tuple(ROWS)
    assert chosen_rows(["unet", "median"]) == ("nothing", "median", "autoencoder", "unet")
    assert chosen_rows([]) == REFERENCE
    assert chosen_rows([], own="mine.py:mine")[-1] == OWN


def test_remedies_that_adapt_or_use_the_autoencoder_are_listed():
    made = [make_remedy(name) for name in ROWS]
    assert tuple(one.name for one in made if type(one).adapt is not Remedy.adapt) == ADAPTING
    uses = [isinstance(one, AdaptedBehindAutoencoder) or getattr(one, "behind_autoencoder", False) for one in made]
    assert tuple(one.name for one, used in zip(made, uses, strict=True) if used) == BEHIND


def test_an_unknown_remedy_is_named():
    with pytest.raises(ValueError, match="remedy is 'medain', but one of nothing, median"):
        make_remedy("medain")


def test_every_setting_of_the_training_is_a_setting_of_a_profile():
    import yaml
    from paths import ROOT

    from galaxynb.remedies.remedy import Training
    from galaxynb.remedies.trial import Trial

    schema = yaml.safe_load((ROOT / "config" / "schema.yaml").read_text(encoding="utf-8"))
    section = schema["properties"]["remedies"]["properties"]
    fields = {field.name: field.default for kind in (Training, Trial) for field in dataclasses.fields(kind)}
    assert {*section} == {"rows", "most_minutes", *fields}
    given = {name: value for name, value in fields.items() if value is not dataclasses.MISSING}
    assert {name: section[name]["default"] for name in given} == given
    assert section["rows"]["oneOf"][1]["items"]["enum"] == list(ROWS)
