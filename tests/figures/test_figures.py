"""Every figure is drawn without a warning, is legible, and changes no setting of matplotlib."""

import importlib
import io
import os
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figure_samples import (
    DISTRIBUTED,
    ERRORS,
    ESTIMATES,
    FLOATS,
    HISTORY,
    IMAGES,
    INTERVALS,
    LABELS,
    LONE,
    MATRICES,
    PHASES,
    PROFILES,
    RECALLS,
    REMEDIES,
    STRENGTHS,
    TIMES,
    TRIALS,
    TRIED,
    compared,
)
from matplotlib.figure import Figure
from paths import ROOT
from PIL import Image

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.figures.data import class_count_bars, class_distributions, class_samples, side_by_side, standin_closeness
from galaxynb.figures.images import denoised_rows, noise_grid
from galaxynb.figures.noise import fit_profiles, noisy_pairs, strength_curve
from galaxynb.figures.remedies import remedy_accuracies, remedy_heatmap, remedy_images, remedy_runs
from galaxynb.figures.results import accuracy_bars, confusion_matrices
from galaxynb.figures.style import save_figure
from galaxynb.figures.sweeps import sweep_curves, sweep_map
from galaxynb.figures.times import stage_times
from galaxynb.figures.training import recovery_curves, training_curves
from galaxynb.results.evaluation import confusion_table
from galaxynb.results.paper import paper_summary

_X, _Y = np.meshgrid([0, 0.1, 0.3], [0, 35, 105])
ALONG = pd.DataFrame({"sigma": _X.ravel(), "stars": _Y.ravel(), "value": 0.5, "low": 0.4, "high": 0.7})

#: For each figure: the number of axes that it must have, and a function that draws it.
DRAWN = {
    "class_samples": (10, lambda: class_samples(IMAGES, LABELS)),
    "class_samples_lacking": (10, lambda: class_samples(FLOATS, np.zeros(20, int))),
    "class_count_bars": (1, lambda: class_count_bars(LABELS)),
    "class_count_bars_split": (1, lambda: class_count_bars({"train": LABELS, "test": LABELS[:5]})),
    "class_distributions": (4, lambda: class_distributions(DISTRIBUTED)),
    "class_distributions_lacking": (4, lambda: class_distributions(LONE)),
    "class_distributions_of_none": (4, lambda: class_distributions(LONE.assign(size=np.nan, brightness=np.nan))),
    "standin_closeness": (3, lambda: standin_closeness(compared())),
    "standin_closeness_to_a_file": (3, lambda: standin_closeness(compared("this file"))),
    "standin_closeness_unknown": (3, lambda: standin_closeness(compared(known=False))),
    "side_by_side": (70, lambda: side_by_side(IMAGES, FLOATS, LABELS)),
    "side_by_side_of_two": (6, lambda: side_by_side(IMAGES[:4], FLOATS, [3, 3, 4, 4], real_labels=LABELS, n=1)),
    "noisy_pairs": (10, lambda: noisy_pairs(IMAGES, FLOATS)),
    "noisy_pairs_of_two": (4, lambda: noisy_pairs(IMAGES[:2], FLOATS[:2])),
    "denoised_rows": (15, lambda: denoised_rows(FLOATS, FLOATS, IMAGES, titles=CLASS_NAMES)),
    "noise_grid": (6, lambda: noise_grid([IMAGES[:3], IMAGES[3:6]], ["a", "b"], col_titles=["1", "2", "3"])),
    "noise_grid_of_one": (1, lambda: noise_grid([IMAGES[:1]], ["a"])),
    "confusion_matrices": (5, lambda: confusion_matrices(MATRICES)),
    "confusion_matrices_of_one": (3, lambda: confusion_matrices({"Clean": confusion_table([0], [0])})),
    "recovery_curves": (2, lambda: recovery_curves(TRIALS, clean=0.7, noisy=0.2)),
    "training_curves": (2, lambda: training_curves(HISTORY)),
    "training_curves_of_one_epoch": (2, lambda: training_curves(HISTORY[:1])),
    "training_curves_of_phases": (1, lambda: training_curves(PHASES, log_loss=True)),
    "stage_times": (1, lambda: stage_times(TIMES)),
    "accuracy_bars": (1, lambda: accuracy_bars(ESTIMATES)),
    "accuracy_bars_paper": (1, lambda: accuracy_bars(ESTIMATES, paper=paper_summary())),
    "sweep_curves": (1, lambda: sweep_curves({"clean": ALONG[:3], "noisy": ALONG[:3]}, "sigma")),
    "sweep_curves_panels": (4, lambda: sweep_curves({"clean": ALONG}, "sigma", panels="stars", paper={"clean": 0.7})),
    "sweep_map": (2, lambda: sweep_map(ALONG[1:], "sigma", "stars", title="Recovery", missing=[(0.0, 0)])),
    "remedy_accuracies": (1, lambda: remedy_accuracies(REMEDIES, clean=0.7, nothing=0.3)),
    "remedy_heatmap": (2, lambda: remedy_heatmap(RECALLS, label="Recall, %")),
    "remedy_heatmap_with_last": (2, lambda: remedy_heatmap(RECALLS, label="Recall, %", last=ERRORS)),
    "remedy_images": (20, lambda: remedy_images({f"Autoencoder {n}": IMAGES[:2] for n in range(8)})),
    "remedy_images_of_one": (3, lambda: remedy_images({"Original": FLOATS[:3]})),
    "remedy_runs": (1, lambda: remedy_runs(pd.DataFrame({"Autoencoder": [0.1, -0.1], "Median filter": [0.2, np.nan]}))),
    "strength_curve": (1, lambda: strength_curve(STRENGTHS, strength=0.75, target=0.36)),
    "fit_profiles": (6, lambda: fit_profiles(TRIED, PROFILES, INTERVALS)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_figure_is_drawn_for_print_and_leaves_no_trace(name):
    settings = mpl.rcParams.copy()
    n_axes, draw = DRAWN[name]
    figure = draw()
    assert isinstance(figure, Figure)
    assert len(figure.axes) + sum(len(ax.child_axes) for ax in figure.axes) == n_axes
    assert plt.get_fignums() == []
    assert mpl.rcParams == settings
    file = io.BytesIO()
    figure.savefig(file, dpi=60)
    pixels = np.asarray(Image.open(file).convert("L"))
    assert pixels.std() > 5
    assert figure.get_figwidth() <= 7
    # On a phone 360 pixels wide, a point is 360 / (7 * 72) pixels. Text must be 6 pixels or more.
    sizes = [t.get_fontsize() for t in figure.findobj(plt.Text) if t.get_text() and t.get_visible()]
    assert min(sizes, default=10) * 360 / (7 * 72) >= 6


def test_a_star_marks_a_training_on_another_device():
    marks = {"elsewhere": [False, False, False, True], "behind": [True, False, False, True]}
    figure = remedy_accuracies(REMEDIES.assign(**marks), clean=0.7, nothing=0.3)
    costs = [text.get_text() for text in figure.axes[0].texts if text.get_text().endswith(" ms")]
    assert costs == ["04; 1 ms", "12 s; 2.5 ms", "04; 30 ms", "04 + 10 min*; 4 ms"]


def test_every_figure_is_tested():
    stems = [path.stem for path in (ROOT / "galaxynb/figures").glob("[a-z]*.py")]
    modules = [importlib.import_module(f"galaxynb.figures.{stem}") for stem in stems]
    public = {name for module in modules for name in module.__all__ if name.islower()}
    for name in public - {"label_plainly", "noise_explorer", "save_figure", "styled"}:
        assert any(case.startswith(name) for case in DRAWN), name


def test_save_has_300_dpi_and_the_same_bytes_without_a_version(tmp_path):
    paths = [save_figure(noisy_pairs(IMAGES[:2], FLOATS[:2]), tmp_path / f"{k}.png") for k in (1, 2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"atplotlib" not in paths[0].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png"]


def test_save_refuses_another_format(tmp_path):
    with pytest.raises(ValueError, match=r"name is figure\.pdf, but one that ends in \.png is needed"):
        save_figure(Figure(), tmp_path / "figure.pdf")


def test_import_changes_no_setting_and_a_failing_figure_leaves_none_open():
    code = (
        "import matplotlib as m, seaborn; before = m.rcParams.copy();"
        "import galaxynb.figures.data, galaxynb.figures.sweeps; assert m.rcParams == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"MPLBACKEND": "agg"})
    with pytest.raises(ValueError, match="no negative"):
        class_count_bars([-1])
    assert plt.get_fignums() == []
