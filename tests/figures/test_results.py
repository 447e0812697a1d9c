"""Figures of the results show the matrices and the accuracies that they are given."""

from figure_samples import ESTIMATES, MATRICES, texts

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.figures.results import accuracy_bars, confusion_matrices
from galaxynb.results.paper import paper_summary


def test_confusion_matrices_share_one_scale_and_mark_a_tenth_and_more():
    figure = confusion_matrices({"Clean": MATRICES["Clean"], "Noisy": MATRICES["Noisy"]})
    limits = {ax.collections[0].get_clim() for ax in figure.axes[:2]}
    assert limits == {(0, 100)}
    marked = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    percent = 100 * MATRICES["Clean"].to_numpy()
    assert marked == [f"{v:.0f}" for v in percent[percent >= 9.5]]
    assert any(CLASS_NAMES[4] in text for text in texts(figure))


def test_accuracy_bars_mark_only_what_the_paper_has():
    figure = accuracy_bars(ESTIMATES, paper=paper_summary())
    diamonds = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert [line.get_xdata().tolist() for line in diamonds] == [[0.74, 0.33]]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.6] * 3
