"""Ranges are plausible, nonsense is refused, and counts agree with the published catalogue."""

import collections
import dataclasses
import itertools
import math

import pytest

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.data.splits import close_pairs
from galaxynb.standin.ranges import (
    _LIMITS,
    AMBIGUOUS_SHARE,
    CLASS_RANGES,
    CONFUSED_WITH,
    NEIGHBOURS,
    SKY_NOISE,
    SURVEY,
    TWINS,
    ClassRanges,
    forms_table,
    ranges_digest,
    ranges_of,
    ranges_table,
)

#: The fields without a default.
PLAIN = {"forms": (("disc", 1.0),), "radius": (2.0, 4.0), "axis_ratio": (0.3, 0.9), "mu": (20.0, 21.0)}
RANGES = [
    field.name
    for field in dataclasses.fields(ClassRanges)
    if field.name not in ("fading", "forms", "ring", "shell", "arm_numbers", "tails")
]
CLASSES = range(len(CLASS_NAMES))


def plain_ranges(**changes):
    return ClassRanges(**PLAIN | changes)


def test_each_class_has_its_ranges():
    assert len(CLASS_RANGES) == len(CLASS_NAMES)
    for name, made in zip(CLASS_NAMES, CLASS_RANGES, strict=True):
        assert ranges_of(name) is made
        assert dataclasses.replace(made) == made  # building a copy repeats the checks


@pytest.mark.parametrize("name", ["Spiral", "disturbed", "", 3, None])
def test_an_unknown_class_is_refused_with_the_known_ones(name):
    message = f"^name is {name!r}, but the name of a class is needed: choose from Disturbed, .*, Edge-on with Bulge$"
    with pytest.raises(ValueError, match=message):
        ranges_of(name)


def test_ranges_can_be_plain():
    assert plain_ranges().radius == (2.0, 4.0)
    assert plain_ranges(radius=(3, 3)).radius == (3, 3)
    assert plain_ranges(forms=(("disc", 0.25), ("disc", 0.25), ("spheroid", 0.5)), ring=1, shell=0)


@pytest.mark.parametrize("name", RANGES)
def test_every_range_is_refused_where_it_is_upside_down_or_no_pair(name):
    low, high = _LIMITS[name]
    no_pairs = (1.5, None, "wide", (1,), (1, 2, 3), (0.5, None), ("a", "b"))
    for value, message in (
        ((high, low), rf"\({high:g}, {low:g}\), but {low:g} <= low <= high <= {high:g} is needed: give"),
        ((low, high + 1), rf"\({low:g}, {high + 1:g}\), but {low:g} <= low"),
        ((math.nan, high), r"\(nan, "),
        *[(value, r".*, but a pair of numbers is needed: give \(low, high\)$") for value in no_pairs],
    ):
        with pytest.raises(ValueError, match=f"^{name} is {message}"):
            plain_ranges(**{name: value})


@pytest.mark.parametrize("fading", [-0.1, 3.1, math.nan, None, "much"])
def test_fading_is_refused_where_it_is_no_number_of_magnitudes(fading):
    with pytest.raises(ValueError, match=r"^fading is .*, but a number of magnitudes is needed: give one from 0 to 3$"):
        plain_ranges(fading=fading)


FORMS = ("spheroid", "disc", "edge-on", "irregular", "pair")
NO_TUPLE = "but a tuple of whole numbers of at least 0 is needed"
NO_PAIRS = r"but pairs are needed: give \(form, probability\)"
PROBABILITIES, NO_SUM = "the probabilities of forms are", "but numbers of at least 0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radius": (-1, 3)}, r"radius is \(-1, 3\), but 0\.1 <= low <= high <= 100 is needed: give"),
        ({"axis_ratio": (0.5, 1.2)}, r"axis_ratio is \(0\.5, 1\.2\), but 0\.02 <= low <= high <= 1 is needed"),
        ({"mu": (21, 20)}, r"mu is \(21, 20\), but 15 <= low <= high <= 26 is needed"),
        ({"ring": 1.1}, r"ring is 1\.1, but a probability is needed: give a number from 0 to 1"),
        ({"shell": -0.1}, r"shell is -0\.1, but a probability is needed: give a number from 0 to 1"),
        ({"shell": math.nan}, "shell is nan, but a probability is needed"),
        ({"ring": "often"}, "ring is 'often', but a probability is needed"),
        ({"arm_numbers": ()}, rf"arm_numbers is \(\), {NO_TUPLE}: give one or more"),
        ({"arm_numbers": 2}, f"arm_numbers is 2, {NO_TUPLE}"),
        ({"tails": (0, -1)}, rf"tails is \(0, -1\), {NO_TUPLE}"),
        ({"tails": (0.5,)}, rf"tails is \(0\.5,\), {NO_TUPLE}"),
        ({"forms": (("blob", 1.0),)}, f"a form is 'blob', but a known one is needed: choose from {', '.join(FORMS)}"),
        ({"forms": (("disc", 0.5), ("pair", 0.4))}, rf"{PROBABILITIES} \(0\.5, 0\.4\), {NO_SUM} that sum to 1"),
        ({"forms": (("disc", 1.5), ("pair", -0.5))}, rf"{PROBABILITIES} \(1\.5, -0\.5\), {NO_SUM}"),
        ({"forms": (("disc", math.nan),)}, rf"{PROBABILITIES} \(nan,\), {NO_SUM}"),
        ({"forms": ()}, rf"forms is \(\), {NO_PAIRS}"),
        ({"forms": "disc"}, f"forms is 'disc', {NO_PAIRS}"),
        ({"forms": (("disc", "often"),)}, f"forms is .*, {NO_PAIRS}"),
        ({"forms": None}, f"forms is None, {NO_PAIRS}"),
        (
            {"bulge": (0, 0.6), "halo": (0, 0.5)},
            r"the highest sum of bulge, bar and halo is 1\.1, but at most 1 is needed: lower",
        ),
    ],
)
def test_nonsense_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        plain_ranges(**changes)
    assert "\n" not in str(refused.value)


def test_twins_and_neighbours_are_as_many_as_in_the_published_catalogue():
    assert (sum(TWINS.values()), sum(NEIGHBOURS.values())) == (59, 67)
    assert sum(count for (one, other), count in NEIGHBOURS.items() if one != other) == 1
    assert all(one != other for one, other in TWINS)
    for table in (TWINS, NEIGHBOURS):
        # The lower class stands first, so that no pair is counted under two names.
        assert all(one in CLASSES and other in CLASSES and one <= other for one, other in table)
        assert min(table.values()) > 0


def test_twins_and_neighbours_are_those_of_the_published_catalogue(real_coordinates):
    labels, ra, dec = real_coordinates
    pairs, separation = close_pairs(ra, dec, 10)
    kinds = [tuple(sorted(map(int, labels[pair]))) for pair in pairs]
    counted = [collections.Counter(itertools.compress(kinds, chosen)) for chosen in (separation < 1, separation >= 2)]
    assert counted[0] == TWINS
    assert len(kinds) == sum(TWINS.values()) + sum(NEIGHBOURS.values())
    assert set(counted[1]) == set(NEIGHBOURS)
    assert max(abs(count - counted[1][pair]) for pair, count in NEIGHBOURS.items()) <= 1


def test_each_class_is_confused_with_other_ones():
    assert len(CONFUSED_WITH) == len(CLASS_NAMES)
    for label, others in enumerate(CONFUSED_WITH):
        assert others
        assert set(others) <= set(CLASSES) - {label}
    assert 0 < AMBIGUOUS_SHARE < 0.5


def test_a_class_looks_like_its_name():
    by_name = {name: ranges_of(name) for name in CLASS_NAMES}

    def middle(name, quantity):
        return sum(getattr(by_name[name], quantity)) / 2

    smooth = [middle(name, "axis_ratio") for name in CLASS_NAMES[2:5]]
    assert smooth[0] > smooth[1] + 0.1 > smooth[2] + 0.2
    for name in ("Edge-on without Bulge", "Edge-on with Bulge"):
        assert middle(name, "axis_ratio") < smooth[2]
    assert by_name["Barred Spiral"].bar[0] > 0
    for name in ("Unbarred Tight Spiral", "Unbarred Loose Spiral"):
        assert by_name[name].bar == (0, 0)
        assert by_name[name].arms[0] > 0
    assert middle("Unbarred Tight Spiral", "pitch") < middle("Unbarred Loose Spiral", "pitch") - 5
    assert middle("Edge-on without Bulge", "bulge") < middle("Edge-on with Bulge", "bulge") - 0.1
    assert [name for name, made in by_name.items() if dict(made.forms).get("pair")] == ["Merging"]


def test_the_survey_has_three_bands_and_possible_numbers():
    assert len(SURVEY.fwhm) == len(SKY_NOISE) == 3
    assert SURVEY.pixel_scales[0] < SURVEY.pixel_scales[1]
    # Arcsec, of a ground-based survey, whose seeing is better in the red.
    assert 2 > SURVEY.fwhm[0] > SURVEY.fwhm[1] > SURVEY.fwhm[2] > 0.8
    assert SURVEY.moffat_beta > 1
    assert all(0 <= share < 0.2 for share in (SURVEY.trail, SURVEY.chip_edge, SURVEY.glow))


def test_the_table_of_ranges_states_their_ranges():
    table = ranges_table()
    assert table["Class"].tolist() == list(CLASS_NAMES)
    for k, ranges in enumerate(CLASS_RANGES):
        low, high = ranges.radius
        assert table.loc[k, "Radius"] == f"{low:g}–{high:g}"
        assert (table.loc[k, "Bar"] == "none") == (ranges.bar[1] == 0)
    assert (table.loc[table["Arms"] == "none", "Pitch"] == "none").all()
    assert all(isinstance(value, str) for value in table.to_numpy().ravel())


def test_the_table_of_forms_states_what_ambiguous_galaxies_are_drawn_as():
    table = forms_table()
    assert table["Class"].tolist() == list(CLASS_NAMES)
    for k, (ranges, others) in enumerate(zip(CLASS_RANGES, CONFUSED_WITH, strict=True)):
        assert all(form in table.loc[k, "Drawn as"] for form, _ in ranges.forms)
        assert all(CLASS_NAMES[other] in table.loc[k, "Ambiguous ones drawn as"] for other in others)
        assert table.loc[k, "Drawn as"].count("%") == len(ranges.forms)


def test_the_digest_of_ranges_follows_their_values(monkeypatch):
    before = ranges_digest()
    assert before == ranges_digest()
    monkeypatch.setattr("galaxynb.standin.ranges.AMBIGUOUS_SHARE", 0.123)
    assert ranges_digest() != before
