"""Figures of the data show the images and the numbers that they are given."""

import h5py
import numpy as np
import pytest
from figure_samples import IMAGES, LABELS, LONE, compared, texts
from matplotlib.legend import Legend

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.figures.data import class_count_bars, class_distributions, class_samples, side_by_side, standin_closeness

TENS = np.broadcast_to(np.arange(0, 200, 10, dtype=np.uint8).reshape(-1, 1, 1, 1), (20, 8, 8, 3))


def values(figure):
    """Return the value of the first pixel that each of the axes shows."""
    return [int(np.asarray(ax.images[0].get_array())[0, 0, 0]) if ax.images else None for ax in figure.axes]


def test_class_samples_shows_members_of_each_class_by_seed():
    def shown(seed):
        return [value // 10 for value in values(class_samples(TENS, LABELS, seed=seed))]

    assert LABELS[shown(0)].tolist() == list(range(10))
    assert shown(0) == shown(0)
    assert any(shown(0) != shown(seed) for seed in range(1, 5))


def test_class_samples_says_where_a_class_has_no_image():
    assert texts(class_samples(IMAGES[:18], LABELS[:18])).count("none here") == 1


def test_class_counts_add_up_over_splits():
    figure = class_count_bars({"train": LABELS, "test": LABELS[:5]})
    assert [int(text.get_text()) for text in figure.axes[0].texts] == [4, 4, 3, 2, 2, 2, 2, 2, 2, 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Train", "Test"]


def test_class_distributions_show_each_known_value_and_say_where_there_is_none():
    figure = class_distributions(LONE)
    dots = [[line for line in ax.lines if line.get_marker() == "o"] for ax in figure.axes]
    # A colour of 0 cannot be drawn on a logarithmic axis.
    assert [[float(line.get_xdata()[0]) for line in lines] for lines in dots] == [[10], [1.3], [300, 400], []]
    assert [round(float(line.get_ydata()[0])) for line in dots[2]] == [0, 4]
    assert texts(figure).count("none in this file") == 1
    assert [bar.get_x() for bar in figure.axes[2].patches] == [300, 400]


def test_closeness_is_a_ratio_to_the_other_median():
    figure = standin_closeness(compared())
    frame, sizes, _ = figure.axes
    for marker, expected in (("o", [0.8, 1, 1]), ("D", [1, 1, 1])):
        ratios = [float(np.ravel(line.get_xdata())[0]) for line in frame.lines if line.get_marker() == marker]
        assert ratios == pytest.approx(expected)
    assert sum(line.get_marker() == "o" for line in sizes.lines) == 10
    legend = [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]
    assert legend == ["Stand-in", "Published"]


def test_closeness_refuses_a_table_without_a_pair():
    table = compared()
    with pytest.raises(ValueError, match="table has medians of published, but those of the stand-in and"):
        standin_closeness(table.drop(columns="50% (stand-in)"))
    with pytest.raises(ValueError, match="table has medians of none, but"):
        standin_closeness(table[["Quantity"]])


def test_side_by_side_shows_both_kinds_of_each_class():
    figure = side_by_side(TENS, TENS + np.uint8(1), LABELS, n=2)
    for k, (*ours, gap, one, other) in enumerate(np.reshape(values(figure), (10, 5)).tolist()):
        assert sorted(ours) == [20 * k, 20 * k + 10]
        assert gap is None
        assert sorted([one, other]) == [20 * k + 1, 20 * k + 11]
    titles = [ax.get_ylabel().replace("\n", " ") for ax in figure.axes[::5]]
    assert titles == [f"{k} {name}" for k, name in enumerate(CLASS_NAMES)]
    assert {"Stand-in", "Real"} <= set(texts(figure))
    with pytest.raises(ValueError, match="no class in common, but one or more is needed"):
        side_by_side(IMAGES[:2], IMAGES[:2], [0, 0], real_labels=[1, 1])


def test_real_galaxies_are_shown(real_sample):
    with h5py.File(real_sample) as file:
        images, labels = file["images"][:], file["ans"][:]
    for k, ax in enumerate(class_samples(images, labels).axes):
        assert any((image == ax.images[0].get_array()).all() for image in images[labels == k])
