"""A remedy of the user's own is scored like the others, and each of its faults ends in an error of one sentence."""

import numpy as np
import pytest
from paths import ROOT
from remedy_samples import sample_given

from galaxynb.remedies.own import load_remedy
from galaxynb.remedies.rows import parse_place
from galaxynb.remedies.trial import describe


def write(folder, text):
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_function_restores_images(tmp_path):
    remedy = load_remedy(f"{write(tmp_path, 'def half(images): return images / 2')}:half")
    remedy.fit(sample_given(remedy.learns_from))
    assert (remedy.name, remedy.title, remedy.family, remedy.learns_from) == ("own", "half", "Yours", "nothing")
    assert remedy.restore(np.ones((1, 2, 2, 3))).max() == 0.5
    assert remedy.classify is None


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ('def mine(images):\n    """Halve images.\n\n    More.\n    """\n    return images', "Halve images"),
        ("def mine(images): return images", ""),
        ("mine = lambda images: images", ""),
        ('class mine:\n    """Halve images"""\n    def restore(self, images): return images', "Halve images"),
    ],
)
def test_its_first_line_describes_it(tmp_path, text, does):
    assert describe(load_remedy(f"{write(tmp_path, text)}:mine"))["does"] == does


def test_a_class_may_learn_adapt_and_classify(tmp_path):
    text = """
import numpy as np

class Mine:
    title = "My classes"
    learns_from = "labels"

    def fit(self, given):
        self.n = len(given.training_labels())

    def adapt(self, images):
        self.n = len(images)

    def classify(self, images):
        return np.full((len(images), 10), self.n)
"""
    remedy = load_remedy(f"{write(tmp_path, text)}:Mine")
    remedy.fit(sample_given(remedy.learns_from))
    assert remedy.title == "My classes"
    assert remedy.restore is None
    assert remedy.classify(np.zeros((2, 4, 4, 3)))[0, 0] == 120
    remedy.adapt(np.zeros((7, 4, 4, 3)))
    assert remedy.classify(np.zeros((2, 4, 4, 3)))[0, 0] == 7


def test_a_subclass_of_remedy_may_classify(tmp_path):
    text = """
import numpy as np
from galaxynb.remedies.remedy import Remedy

class Mine(Remedy):
    def classify(self, images):
        return np.full((len(images), 10), 0.1)
"""
    remedy = load_remedy(f"{write(tmp_path, text)}:Mine")
    remedy.fit(sample_given(remedy.learns_from))
    assert remedy.restore is None
    assert remedy.classify(np.zeros((2, 4, 4, 3))).shape == (2, 10)


def test_a_class_gets_no_more_than_it_says(tmp_path):
    text = "class Mine:\n    def fit(self, given): given.pairs()\n    def restore(self, images): return images\n"
    remedy = load_remedy(f"{write(tmp_path, text)}:Mine")
    with pytest.raises(PermissionError, match="learns_from is 'nothing', but 'clean-noisy pairs' is needed"):
        remedy.fit(sample_given(remedy.learns_from))


def test_a_file_may_import_another_beside_it(tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("FACTOR = 3", encoding="utf-8")
    path = write(tmp_path, "from helper_of_mine import FACTOR\ndef f(x): return x * FACTOR")
    remedy = load_remedy(f"{path}:f")
    remedy.fit(sample_given(remedy.learns_from))
    assert remedy.restore(np.ones(1)) == 3


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("def f(x) return x", "f", r"mine\.py cannot be imported \(SyntaxError: .*\), but it must define f"),
        ("import nowhere_to_be_found", "f", "cannot be imported"),
        ("", "f", r"mine\.py defines no f, but the remedy needs it"),
        ("f = 3", "f", r"f of .*mine\.py is int, but a callable"),
        ("class F:\n    learns_from = 'magic'\n    restore = print", "F", "learns_from of F is 'magic', but one of"),
    ],
)
def test_a_file_without_a_remedy_is_told(tmp_path, text, name, message):
    with pytest.raises(ValueError, match=message):
        load_remedy(f"{write(tmp_path, text)}:{name}")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("mine.py", "remedy is 'mine.py', but FILE.py:NAME is needed"),
        ("mine.txt:f", "but FILE.py:NAME is needed"),
        ("mine.py:2f", "but FILE.py:NAME is needed"),
        ("nowhere.py:f", "there is no file nowhere.py"),
    ],
)
def test_a_wrong_place_is_told(place, message):
    with pytest.raises(ValueError, match=message):
        parse_place(place)


def test_the_example_of_the_book_is_a_remedy_of_ten_lines():
    path = ROOT / "book" / "examples" / "bilateral.py"
    code = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(code) <= 10
    remedy = load_remedy(f"{path}:bilateral")
    remedy.fit(sample_given(remedy.learns_from))
    images = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    assert remedy.restore(images).std() < images.std()
