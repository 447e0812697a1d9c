"""Remedies of the user, good and bad, as jobs of a study: a bad one is a row with a reason and stops nothing."""

import json

import pytest
from checkout import NO_BOOK, SMOKE, Checkout

pytestmark = pytest.mark.study

MINE = """
import os

import numpy as np


def good(images):
    return images * np.float32(0.9)


def wrong_shape(images):
    return images[:, ::2]


def nan(images):
    return images * np.nan


def broken(images):
    raise RuntimeError("no such model")


def killed(images):
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    (checkout.root / "mine.py").write_text(MINE, encoding="utf-8")
    return checkout


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("good", None),
        ("wrong_shape", "ValueError: the remedy returns images of shape"),
        ("nan", "with NaN or infinite values for"),
        ("broken", "RuntimeError: no such model"),
        ("killed", "it was killed (SIGKILL)"),
    ],
)
def test_a_remedy_of_the_user_is_a_row_or_says_why_not(study, name, reason):
    done = study.smoke(f"REMEDY=mine.py:{name}", NO_BOOK)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    remedies = json.loads((study.root / SMOKE / "remedies.json").read_text())["remedies"]
    assert set(remedies) == {"nothing", "median", "autoencoder", "own"}
    failed = {one: facts["failed"] for one, facts in remedies.items() if facts["failed"]}
    if reason is None:
        assert failed == {}
        assert 0 <= remedies["own"]["accuracy"]["noisy"]["value"] <= 1
    else:
        assert list(failed) == ["own"]
        assert reason in failed["own"]
        notebook = (study.root / SMOKE / "notebooks" / "06_remedies.ipynb").read_text(encoding="utf-8")
        assert "Your remedy failed: " in notebook
