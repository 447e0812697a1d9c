"""The figure of times stacks the parts of each stage."""

from figure_samples import TIMES

from galaxynb.figures.times import stage_times


def test_stage_times_stand_end_to_end_in_the_order_given():
    ax = stage_times(TIMES).axes[0]
    bars = [(bar.get_x(), bar.get_width()) for container in ax.containers for bar in container]
    assert bars == [(0, 1.5), (0, 4), (1.5, 0), (4, 300), (1.5, 0), (304, 9)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["data", "classifier"]
    assert ax.yaxis_inverted()
    assert {text.get_text().strip() for text in ax.texts} == {"2 s", "313 s"}
