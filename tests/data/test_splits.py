"""The split is the one of the paper: disjoint, exhaustive and the same every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxynb.data.galaxy10 import CLASS_COUNTS
from galaxynb.data.splits import class_support, paper_split

PAPER_SUPPORT = [204, 373, 529, 408, 71, 436, 365, 516, 283, 363]  # Table 1, Support


def test_the_papers_test_set():
    labels = np.repeat(np.arange(10), CLASS_COUNTS)
    split = paper_split(labels)
    assert [len(part) for part in split] == [11350, 2838, 3548]
    assert class_support(labels, split.test).tolist() == PAPER_SUPPORT


@settings(deadline=None)  # the machine may be busy
@given(st.integers(10, 400), st.randoms(use_true_random=False))
def test_a_split_is_disjoint_exhaustive_and_deterministic(n, random):
    labels = np.array([random.randrange(10) for _ in range(n)])
    split = paper_split(labels)
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(n))
    assert len(split.test) == -(-n // 5)
    assert len(split.validation) == -(-(n - len(split.test)) // 5)
    for part, again in zip(split, paper_split(labels[::-1]), strict=True):
        np.testing.assert_array_equal(part, again)
    np.testing.assert_array_equal(sum(class_support(labels, part) for part in split), np.bincount(labels, minlength=10))


def test_a_split_needs_rows():
    assert len(paper_split(np.zeros(10)).test) == 2
    with pytest.raises(ValueError, match="the number of rows is 9, but at least 10 is needed: give more rows"):
        paper_split(np.zeros(9))
    with pytest.raises(ValueError, match=r"labels has shape \(20, 10\), but \(N,\) is needed: give one class per row"):
        paper_split(np.zeros((20, 10)))
