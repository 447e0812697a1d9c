"""Audits of small skies with known answers, of random skies, and of the published coordinates."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT

from galaxynb.data.cache import prepare_cache
from galaxynb.data.splits import Split, audit_catalog, close_pairs, has_coordinates, leak_free, paper_split
from galaxynb.files import save_table
from galaxynb.results.paper import PAPER

ARCSEC = 1 / 3600
quickly = settings(deadline=None, max_examples=30)  # the machine may be busy


def paired(n, *pairs, apart=1.0):
    """Return ra and dec of `n` rows, a degree apart, except for `pairs`, which are `apart` arcsec apart in dec."""
    ra, dec = 10.0 + np.arange(n), np.zeros(n)
    for one, other in pairs:
        ra[other], dec[other] = ra[one], dec[one] + apart * ARCSEC
    return ra, dec


@st.composite
def skies(draw):
    """Rows around few places, some without coordinates, and their labels: ra, dec, labels."""
    n = draw(st.integers(10, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    place = rng.integers(0, n, n)
    ra = (place * 40 + rng.uniform(-4, 4, n)) * ARCSEC % 360
    dec = rng.uniform(-4, 4, n) * ARCSEC
    ra[rng.random(n) < 0.1] = np.nan
    ra[:2], dec[:2] = [0, 1], 0  # at least two places
    return rng.integers(0, 3, n), ra, dec


@pytest.mark.parametrize(
    ("ra", "dec", "separation"),
    [
        ((10, 10), (0, 3 * ARCSEC), 3),
        ((10, 10 + 6 * ARCSEC), (60, 60), 3),  # a degree of right ascension is half a degree wide there
        ((360 - ARCSEC, 2 * ARCSEC), (0, 0), 3),
        ((-1 * ARCSEC, 360 + 2 * ARCSEC), (0, 0), 3),
        ((0, 180), (90 - 1 * ARCSEC, 90 - 2 * ARCSEC), 3),  # over the pole
        ((17, 250), (-90, -90 + 3 * ARCSEC), 3),
        ((33, 33), (-5, -5), 0),
    ],
)
def test_a_pair_at_a_known_separation(ra, dec, separation):
    pairs, found = close_pairs(ra, dec, separation + 0.001)
    assert pairs.tolist() == [[0, 1]]
    assert pairs.dtype == np.int64
    assert found == pytest.approx([separation], abs=1e-6)
    if separation:
        assert close_pairs(ra, dec, separation - 0.001)[0].shape == (0, 2)


def test_each_pair_is_found_once():
    ra, dec = paired(8, (5, 0), (5, 7), apart=2)  # three rows, two of them at one point
    pairs, separation = close_pairs(ra, dec, 3)
    found = sorted(zip(pairs.tolist(), separation.round(6).tolist(), strict=True))
    assert found == [([0, 5], 2), ([0, 7], 0), ([5, 7], 2)]


@pytest.mark.parametrize("n", [0, 1, 5])
def test_rows_without_coordinates_are_in_no_pair(n):
    nowhere = np.full(n, np.nan)
    for ra, dec in ((nowhere, nowhere), (nowhere, np.zeros(n)), (np.full(n, np.inf), nowhere)):
        pairs, separation = close_pairs(ra, dec, 10)
        assert pairs.shape == (0, 2)
        assert separation.shape == (0,)
    pairs, _ = close_pairs([*nowhere, 1, 1], [*nowhere, 2, 2], 10)
    assert pairs.tolist() == [[n, n + 1]]


@given(skies(), st.floats(0.5, 12), st.randoms(use_true_random=False))
@quickly
def test_pairs_do_not_depend_on_the_order_of_rows(sky, radius, random):
    _, ra, dec = sky
    order = np.array(random.sample(range(len(ra)), len(ra)))
    pairs, separation = close_pairs(ra, dec, radius)
    shuffled, again = close_pairs(ra[order], dec[order], radius)
    assert {frozenset(pair) for pair in order[shuffled].tolist()} == {frozenset(pair) for pair in pairs.tolist()}
    assert np.sort(again) == pytest.approx(np.sort(separation), abs=1e-6)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    one, other = SkyCoord(ra, dec, unit="deg")[pairs.T]
    assert separation == pytest.approx(one.separation(other).arcsec, abs=1e-6)
    assert separation.max(initial=0) <= radius + 1e-6


@pytest.mark.parametrize(
    ("ra", "dec", "radius", "message"),
    [
        ([1, 2], [1], 5, r"ra and dec have shapes \(2,\) and \(1,\), but \(N,\) for both is needed: give"),
        ([[1]], [[1]], 5, r"shapes \(1, 1\) and \(1, 1\)"),
        ([1, 2], [1, 91], 5, "Latitude"),
        ([1, 2], [1, 2], 0, "radius is 0, but a number above 0 is needed: give it in arcsec"),
        ([1, 2], [1, 2], float("nan"), "radius is nan"),
    ],
)
def test_close_pairs_refuses(ra, dec, radius, message):
    with pytest.raises(ValueError, match=message):
        close_pairs(ra, dec, radius)


def test_coordinates_that_tell_rows_apart():
    nan = np.nan
    assert has_coordinates([1, 2], [0, 0])
    assert has_coordinates([1, 1, nan], [0, 1, nan])
    for ra, dec in (([], []), ([1], [1]), ([nan, nan], [nan, nan]), ([1, nan], [nan, 1]), ([0, 0], [0, 0])):
        assert not has_coordinates(ra, dec)
    assert has_coordinates(pd.Series([1.0, 2.0]), pd.Series([0.0, 0.0]))


def test_an_audit_by_hand():
    # Test rows are 8 and 9. One place holds rows 0, 1, 8 with labels 0, 0, 1; another 2 and 3 with one label;
    # a third, 4 arcsec wide, 4 and 9 with two.
    labels = np.array([0, 0, 5, 5, 2, 6, 7, 7, 1, 3])
    ra, dec = paired(10, (0, 1), (0, 8), (2, 3))
    ra[9], dec[9] = ra[4], dec[4] + 4 * ARCSEC
    split = Split(np.arange(6), np.array([6, 7]), np.array([8, 9]))
    table = audit_catalog(labels, ra, dec, split=split, radii=(2, 5))
    assert table.to_dict("list") == {
        "Radius, arcsec": [2, 5],
        "Pairs": [4, 5],  # 0-1, 0-8, 1-8, 2-3; 4-9
        "Different labels": [2, 3],
        "Straddling": [2, 3],
        "Straddling, different labels": [2, 3],
        "Label ceiling": pytest.approx([0.9, 0.8]),
        "Label ceiling, test": [1, 1],
    }
    # If the test set holds all rows of the first place, a classifier cannot match one of these three.
    split = Split(np.array([2, 3, 4, 5]), np.array([6, 7]), np.array([0, 1, 8, 9]))
    table = audit_catalog(labels, ra, dec, split=split, radii=(2,))
    assert table.loc[0, "Straddling"] == 0
    assert table.loc[0, "Label ceiling, test"] == 0.75
    # Without a test set there is no ceiling.
    split = Split(np.arange(8), np.array([8, 9]), np.array([], int))
    assert np.isnan(audit_catalog(labels, ra, dec, split=split)["Label ceiling, test"]).all()


def test_a_chain_of_pairs_is_one_group():
    labels = np.arange(10) // 5  # the two ends of the chain have different labels and form no pair
    ra, dec = paired(10)
    ra[3:7], dec[3:7] = 50, np.arange(4) * ARCSEC
    table = audit_catalog(labels, ra, dec, radii=(1.5,))
    assert table.loc[0, ["Pairs", "Different labels"]].tolist() == [3, 1]
    assert table.loc[0, "Label ceiling"] == pytest.approx(0.8)


@given(skies())
@quickly
def test_wider_radii_find_more(sky):
    table = audit_catalog(*sky, radii=(1, 3, 9))
    counts = table[["Pairs", "Different labels", "Straddling", "Straddling, different labels"]]
    assert (counts.diff().iloc[1:] >= 0).all(axis=None)
    assert (table["Straddling, different labels"] <= counts[["Straddling", "Different labels"]].min(axis=1)).all()
    # A group that splits in two can only gain.
    ceilings = table[["Label ceiling", "Label ceiling, test"]]
    assert (ceilings.diff().iloc[1:] <= 0).all(axis=None)
    assert ceilings.gt(0).all(axis=None)
    assert ((table["Label ceiling"] == 1) == (table["Different labels"] == 0)).all()


@pytest.mark.parametrize(
    "audit",
    [audit_catalog, leak_free, lambda labels, ra, dec: paper_split(labels, ra=ra, dec=dec, drop_duplicates=True)],
    ids=["audit", "leak_free", "paper_split"],
)
def test_what_needs_coordinates_says_so(audit):
    labels = np.zeros(20, int)
    message = "ra and dec are NaN, or the same, in every row, but coordinates .* are needed"
    for nowhere in (np.full(20, np.nan), np.zeros(20)):
        with pytest.raises(ValueError, match=message):
            audit(labels, nowhere, nowhere)
    with pytest.raises(ValueError, match=r"have shapes \(20,\), \(20,\) and \(19,\), but one shape is needed: give"):
        audit(labels, np.arange(20), np.arange(19))
    with pytest.raises(ValueError, match=r"have shapes \(20,\), \(30,\) and \(30,\)"):
        audit(labels, np.arange(30), np.arange(30))


def test_dropping_duplicates_needs_coordinates():
    for options in ({}, {"ra": np.arange(20)}, {"dec": np.arange(20)}):
        with pytest.raises(ValueError, match="ra or dec is missing, but drop_duplicates=True needs both: give"):
            paper_split(np.zeros(20), drop_duplicates=True, **options)


def test_what_is_dropped_by_hand():
    labels = np.zeros(60, int)
    split = paper_split(labels)
    train, validation, test = split.train, split.validation, split.test
    pairs = [(train[0], train[1]), (train[2], validation[0]), (train[3], test[0]), (validation[1], test[1])]
    pairs += [(train[4], test[2]), (test[3], test[4]), (test[5], test[6]), (train[5], train[6])]
    labels[[test[2], test[4], train[6]]] = 1
    ra, dec = paired(60, *pairs)
    kept = paper_split(labels, ra=ra, dec=dec, drop_duplicates=True)
    assert set(train) - set(kept.train) == {train[2], train[3], train[4]}
    assert set(validation) - set(kept.validation) == {validation[1]}
    assert set(test) - set(kept.test) == {test[2], test[3], test[4]}
    # Without a new training, the test rows of straddling pairs are dropped.
    free = leak_free(labels, ra, dec)
    assert set(test[~free]) == {test[0], test[1], test[2], test[3], test[4]}
    np.testing.assert_array_equal(free, leak_free(labels, ra, dec, split=split))


def test_only_rows_of_the_split_given_leak():
    labels = np.zeros(60, int)
    split = paper_split(labels)
    ra, dec = paired(60, (split.train[0], split.test[0]))
    assert leak_free(labels, ra, dec, split=split).tolist() == [False] + [True] * (len(split.test) - 1)
    assert leak_free(labels, ra, dec, split=split._replace(train=split.train[1:])).all()


@given(skies(), st.floats(0.5, 12))
@quickly
def test_a_split_without_duplicates_does_not_leak(sky, radius):
    labels, ra, dec = sky
    whole = paper_split(labels)
    split = paper_split(labels, ra=ra, dec=dec, drop_duplicates=True, radius=radius)
    part = np.full(len(labels), -1)
    for number, (kept, rows) in enumerate(zip(split, whole, strict=True)):
        np.testing.assert_array_equal(kept, rows[np.isin(rows, kept)])  # the paper's rows, in its order
        part[kept] = number
    assert sum(map(len, split)) == (part >= 0).sum()
    one, other = part[close_pairs(ra, dec, radius)[0]].T
    assert ((one == other) | (one < 0) | (other < 0)).all()
    assert leak_free(labels, ra, dec, split=split, radius=radius).all()
    table = audit_catalog(labels, ra, dec, split=split, radii=(radius,))
    assert table.loc[0, "Straddling"] == 0
    assert len(split.test) == 0 or table.loc[0, "Label ceiling, test"] == 1
    # Rows that are leak-free after training on the paper's split stay so after training on fewer rows.
    free = whole.test[leak_free(labels, ra, dec, radius=radius)]
    assert np.isin(free, split.test).all()


@given(skies())
@quickly
def test_coordinates_alone_change_no_split(sky):
    labels, ra, dec = sky
    apart, equator = paired(len(labels))
    unused = paper_split(labels, ra=ra, dec=dec)
    nothing_dropped = paper_split(labels, ra=apart, dec=equator, drop_duplicates=True)
    for split in (unused, nothing_dropped):
        for part, again in zip(paper_split(labels), split, strict=True):
            np.testing.assert_array_equal(part, again)


def test_importing_data_does_not_import_astropy():
    code = "import sys; import galaxynb.data.cache, galaxynb.data.splits; assert 'astropy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_published_catalogue(real_coordinates):
    table = audit_catalog(*real_coordinates)
    assert table.to_dict("list") == {
        "Radius, arcsec": [1, 2, 5, 10],
        "Pairs": [59, 59, 77, 126],
        "Different labels": [59, 59, 60, 60],
        "Straddling": [15, 15, 20, 37],
        "Straddling, different labels": [15, 15, 16, 16],
        "Label ceiling": pytest.approx([1 - d / 17736 for d in (59, 59, 60, 60)]),
        "Label ceiling, test": pytest.approx([1 - 2 / 3548] * 4),
    }
    # Galaxies are listed twice at the same coordinates, with different labels.
    labels, ra, dec = real_coordinates
    pairs, separation = close_pairs(ra, dec, 1)
    one, other = pairs.T
    np.testing.assert_array_equal(ra[one], ra[other])
    assert separation.max() == 0
    assert (labels[one] != labels[other]).all()


def test_the_published_catalogue_without_leaks(real_coordinates):
    labels, ra, dec = real_coordinates
    split = paper_split(labels, ra=ra, dec=dec, drop_duplicates=True)
    assert [len(part) for part in split] == [11350 - 35, 2838 - 1, 3548 - 20]
    assert leak_free(labels, ra, dec).sum() == 3548 - 24
    table = audit_catalog(labels, ra, dec, split=split)
    assert table["Straddling"].tolist()[:3] == [0, 0, 0]
    assert table["Label ceiling, test"].tolist()[:3] == [1, 1, 1]


def run_cells(notebook, *names, **namespace):
    """Run the code cells of a notebook that call any of `names`, and return what they leave."""
    for cell in json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and any(f"{name}(" in text for name in names):
            exec(text, namespace)
    return namespace


@pytest.mark.parametrize("coordinates", ["none", "apart", "twice"])
def test_the_notebooks_audit_a_file_with_and_without_coordinates(tmp_path, tiny_galaxy10, capsys, coordinates):
    n = 20
    labels = np.arange(n) // 2
    split = paper_split(labels)
    twins = [(split.train[0], split.test[0])] if coordinates == "twice" else []
    ra, dec = (np.full(n, np.nan),) * 2 if coordinates == "none" else paired(n, *twins)
    path = tiny_galaxy10(tmp_path / "file.h5", n=n, labels=labels, ra=ra, dec=dec)
    cache = prepare_cache(path, tmp_path / "cache", image_size=32, progress=False)
    audit = run_cells("01_data.ipynb", "audit_catalog", cache=cache, pd=pd, split=split)["audit"]
    said = capsys.readouterr().out
    assert f"{0 if coordinates == 'none' else n} of {n} entries" in said
    assert ("cannot be found" in said) == (coordinates == "none")
    assert ("Pairs" in audit) == (coordinates != "none")
    correct = dict.fromkeys(PAPER, np.arange(len(split.test)) > 0)
    known = {"cache": cache, "PAPER": PAPER, "test": split.test, "correct": correct}
    cells = ("leak_free", "accuracy_on")
    table = run_cells("05_evaluation.ipynb", *cells, show=lambda _: None, **known)["without_leaks"]
    said = capsys.readouterr().out
    assert table["Images"].tolist() == ([4, 3] if coordinates == "twice" else [4])
    assert {"none": "no coordinates", "apart": "No test image", "twice": ""}[coordinates] in said
    assert bool(said) == (coordinates != "twice")
    for frame in (audit, table):
        save_table(frame, tmp_path / "table", decimals=4)
        assert len(pd.read_csv(tmp_path / "table.csv")) == len(frame) > 0
