"""Curves of a training and of trials: best epoch, consecutive epochs, recovery."""

import numpy as np
import pytest
from figure_samples import HISTORY, PHASES, TRIALS, texts

from galaxynb.figures.training import recovery_curves, training_curves


@pytest.mark.parametrize(
    ("history", "monitor", "best"),
    [
        (HISTORY, "val_loss", 3),
        (HISTORY, "val_accuracy", 2),
        # The lowest loss of all is in phase 1. Only the last phase counts, because its task is harder.
        (PHASES, "loss", 4),
        (HISTORY, None, None),
        (HISTORY.assign(val_loss=np.nan), "val_loss", None),
    ],
)
def test_training_curves_mark_the_best_epoch(history, monitor, best):
    labels = [text.get_text() for text in training_curves(history, monitor=monitor).legends[0].get_texts()]
    assert [label for label in labels if "Best" in label] == ([] if best is None else [f"Best epoch: {best}"])


def test_training_curves_number_epochs_through_phases():
    restarted = PHASES.assign(epoch=[1, 2, 1, 2])
    one, other = (training_curves(history, monitor="loss") for history in (PHASES, restarted))
    lines = [[list(line.get_xdata()) for line in figure.axes[0].lines] for figure in (one, other)]
    assert lines[0] == lines[1]
    assert [1, 2] in lines[0]
    assert [3, 4] in lines[0]
    assert {"raw", "noisy"} <= set(texts(one))


@pytest.mark.parametrize("history", [HISTORY[:0], HISTORY.drop(columns="loss"), HISTORY.drop(columns="epoch")])
def test_training_curves_refuse_a_history_without_losses(history):
    with pytest.raises(ValueError, match="one row or more and the columns epoch and loss are needed"):
        training_curves(history)


def test_recovery_curves_show_size_and_epochs_apart():
    size, epochs = recovery_curves(TRIALS, clean=0.7, noisy=0.2).axes
    curves = {line.get_label(): line.get_xydata() for line in size.lines}
    np.testing.assert_allclose(curves["Denoised noisy images"], [[100, 0.2], [1000, 0.6]])
    np.testing.assert_allclose(curves["Denoised clean images"], [[100, 0.6], [1000, 0.8]])
    np.testing.assert_allclose(epochs.lines[1].get_xydata(), [[50, 0.6], [500, 0.8]])
    with pytest.raises(ValueError, match=r"noisy is 0\.7, but a value below clean"):
        recovery_curves(TRIALS, clean=0.7, noisy=0.7)
