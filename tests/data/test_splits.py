"""The split is the one of the paper: disjoint, exhaustive and the same every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxynb.data.galaxy10 import CLASS_COUNTS, GALAXY10_SHA256
from galaxynb.data.splits import class_support, has_published_rows, paper_split

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


def test_only_the_published_rows_have_the_papers_split(real_coordinates):
    labels, ra, dec = real_coordinates
    assert has_published_rows(labels, ra, dec)
    assert has_published_rows(labels.astype(np.uint8), ra + 1e-9, dec)
    nowhere, other, swapped = np.full(len(labels), np.nan), ra.copy(), np.arange(len(labels))
    other[5] += 1 / 3600
    swapped[[3, 4]] = [4, 3]
    for wrong in (
        (labels, nowhere, nowhere),  # sorted by class, but nothing says that these are the published images
        (labels, other, dec),
        (labels, ra[swapped], dec[swapped]),
        (labels[::-1], ra, dec),
        (labels[:-1], ra[:-1], dec[:-1]),
    ):
        assert not has_published_rows(*wrong, sha256="0" * 64)


def test_the_published_file_is_known_by_its_checksum():
    nothing = np.zeros(10)
    assert has_published_rows(nothing, nothing, nothing, sha256=GALAXY10_SHA256)
    assert not has_published_rows(nothing, nothing, nothing)
