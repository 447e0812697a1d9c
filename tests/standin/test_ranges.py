"""The recipes make sense, say so where they don't, and agree with what was counted in the published catalogue."""

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
    SURVEY,
    TWINS,
    ClassRanges,
    ranges_of,
)

#: The least that a recipe needs.
PLAIN = {"forms": (("disc", 1.0),), "radius": (2.0, 4.0), "axis_ratio": (0.3, 0.9), "mu": (20.0, 21.0)}
RANGES = [
    field.name
    for field in dataclasses.fields(ClassRanges)
    if field.name not in ("forms", "ring", "shell", "arm_numbers", "tails")
]
CLASSES = range(len(CLASS_NAMES))


def recipe(**changes):
    return ClassRanges(**PLAIN | changes)


def test_each_class_has_its_recipe():
    assert len(CLASS_RANGES) == len(CLASS_NAMES)
    for name, made in zip(CLASS_NAMES, CLASS_RANGES, strict=True):
        assert ranges_of(name) is made
        assert dataclasses.replace(made) == made  # built anew, so checked anew


@pytest.mark.parametrize("name", ["Spiral", "disturbed", "", 3, None])
def test_an_unknown_class_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=f"^{name!r} is no class: choose from Disturbed, .*, Edge-on with Bulge$"):
        ranges_of(name)


def test_a_recipe_can_be_plain():
    assert recipe().radius == (2.0, 4.0)
    assert recipe(radius=(3, 3)).radius == (3, 3)
    assert recipe(forms=(("disc", 0.25), ("disc", 0.25), ("spheroid", 0.5)), ring=1, shell=0)


@pytest.mark.parametrize("name", RANGES)
def test_every_range_is_refused_where_it_is_upside_down_or_no_pair(name):
    low, high = _LIMITS[name]
    with pytest.raises(
        ValueError, match=rf"^{name} is \({high:g}, {low:g}\): give {low:g} <= low <= high <= {high:g}$"
    ):
        recipe(**{name: (high, low)})
    with pytest.raises(ValueError, match=rf"^{name} is \({low:g}, {high + 1:g}\): give {low:g} <= low"):
        recipe(**{name: (low, high + 1)})
    for value in (1.5, None, "wide", (1,), (1, 2, 3), (0.5, None), ("a", "b")):
        with pytest.raises(ValueError, match=rf"^{name} is .*: give a pair \(low, high\) of numbers$"):
            recipe(**{name: value})
    with pytest.raises(ValueError, match=rf"^{name} is \(nan, "):
        recipe(**{name: (math.nan, high)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radius": (-1, 3)}, r"radius is \(-1, 3\): give 0\.1 <= low <= high <= 100"),
        ({"axis_ratio": (0.5, 1.2)}, r"axis_ratio is \(0\.5, 1\.2\): give 0\.02 <= low <= high <= 1"),
        ({"mu": (21, 20)}, r"mu is \(21, 20\): give 15 <= low <= high <= 26"),
        ({"ring": 1.1}, r"ring is 1\.1: give a chance between 0 and 1"),
        ({"shell": -0.1}, r"shell is -0\.1: give a chance between 0 and 1"),
        ({"shell": math.nan}, "shell is nan: give a chance between 0 and 1"),
        ({"ring": "often"}, "ring is 'often': give a chance between 0 and 1"),
        ({"arm_numbers": ()}, r"arm_numbers is \(\): give at least one whole number, none below 0"),
        ({"arm_numbers": 2}, "arm_numbers is 2: give at least one whole number"),
        ({"tails": (0, -1)}, r"tails is \(0, -1\): give at least one whole number"),
        ({"tails": (0.5,)}, r"tails is \(0\.5,\): give at least one whole number"),
        ({"forms": (("blob", 1.0),)}, "forms holds 'blob': choose from spheroid, disc, edge-on, irregular, pair"),
        ({"forms": (("disc", 0.5), ("pair", 0.4))}, r"the weights of forms sum to 0\.9: give weights"),
        (
            {"forms": (("disc", 1.5), ("pair", -0.5))},
            "the weights of forms sum to 1: give weights of at least 0 that sum to 1",
        ),
        ({"forms": (("disc", math.nan),)}, "the weights of forms sum to nan: give weights of at least 0 that sum to 1"),
        ({"forms": ()}, r"forms is \(\): give pairs \(form, weight\)"),
        ({"forms": "disc"}, r"forms is 'disc': give pairs \(form, weight\)"),
        ({"forms": (("disc", "often"),)}, r"forms is .*: give pairs \(form, weight\)"),
        ({"forms": None}, r"forms is None: give pairs \(form, weight\)"),
        ({"bulge": (0, 0.6), "halo": (0, 0.5)}, r"bulge, bar and halo take up to 1\.1 of the light"),
    ],
)
def test_nonsense_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        recipe(**changes)
    assert "\n" not in str(refused.value)


def test_twins_and_neighbours_are_as_many_as_in_the_published_catalogue():
    assert sum(TWINS.values()) == 59
    assert sum(NEIGHBOURS.values()) == 67
    assert sum(count for (one, other), count in NEIGHBOURS.items() if one != other) == 1
    assert all(one != other for one, other in TWINS)
    for table in (TWINS, NEIGHBOURS):
        assert all(one in CLASSES and other in CLASSES for one, other in table)
        assert min(table.values()) > 0
        assert all(one <= other for one, other in table)  # so that no pair is counted under two names


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
    survey = SURVEY
    for name in ("fwhm", "noise", "sky"):
        assert len(getattr(survey, name)) == 3
    assert survey.pixel_scales[0] < survey.pixel_scales[1]
    assert 0.8 < min(survey.fwhm) <= max(survey.fwhm) < 2  # arcsec, of a ground-based survey
    assert survey.fwhm[0] > survey.fwhm[1] > survey.fwhm[2]  # seeing is better in the red
    assert survey.moffat_beta > 1
    assert all(0 <= getattr(survey, name) < 0.2 for name in ("trail", "chip_edge", "glow"))
