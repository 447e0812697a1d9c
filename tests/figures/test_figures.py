"""Figures: they render without a warning, show what they are given, and change nothing else."""

import importlib
import io
import os
import subprocess
import sys

import h5py
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from paths import ROOT
from PIL import Image

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.figures import noise as noise_figures
from galaxynb.figures.data import class_count_bars, class_distributions, class_samples, side_by_side, standin_closeness
from galaxynb.figures.images import denoised_rows, noise_grid
from galaxynb.figures.noise import calibration_map, noise_explorer, noisy_pairs
from galaxynb.figures.results import accuracy_bars, confusion_matrices
from galaxynb.figures.style import save_figure
from galaxynb.figures.sweeps import sweep_curves, sweep_map
from galaxynb.figures.times import stage_times
from galaxynb.figures.training import training_curves
from galaxynb.results.evaluation import Estimate, confusion_table
from galaxynb.results.paper import paper_summary
from galaxynb.results.sweeps import parameter_words

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
FLOATS = (IMAGES / 255).astype(np.float32)
LABELS = np.repeat(np.arange(10), 2)
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "loss": [2.0, 1.0, 0.5, 0.25],
        "val_loss": [2.0, 1.0, 0.8, 1.2],
        "accuracy": [0.2, 0.4, 0.6, 0.8],
        "val_accuracy": [0.2, 0.6, 0.5, 0.55],
    }
)
PHASES = pd.DataFrame({"epoch": [1, 2, 3, 4], "phase": ["raw"] * 2 + ["noisy"] * 2, "loss": [4, 1, 3.0, 2]})
ESTIMATES = {name: Estimate(0.6, 0.5, 0.7) for name in ("clean", "noisy", "denoised clean")}
SWEEP = pd.DataFrame(
    [(sigma, stars, sigma + stars / 50) for sigma in (0, 0.1, 0.2) for stars in (0, 8)],
    columns=["sigma", "stars", "drop"],
)
DISTRIBUTED = pd.DataFrame(
    {
        "label": LABELS,
        "size": np.geomspace(5, 50, 20),
        "colour": 1.2,
        "brightness": 100.0,
        "redshift": np.linspace(0, 0.3, 20),
    }
)
LONE = pd.DataFrame(
    {"label": [0, 4], "size": [10.0, np.nan], "colour": [0.0, 1.3], "brightness": [300.0, 400.0], "redshift": np.nan}
)


def compared(other="published", known=True):
    """What `compare_sample` makes, of a few quantities."""
    rows = [("Mean", "all"), ("Sky noise G", "all"), ("Sky correlation G, 3 px", "all")]
    rows += [(quantity, name) for quantity in ("Galaxy size (px)", "Galaxy axis ratio") for name in CLASS_NAMES]
    table = pd.DataFrame(rows, columns=["Quantity", "Class"])
    for name in ("stand-in", other):
        for at, value in {"10%": 0.3, "50%": 0.5, "90%": 0.8}.items():
            table[f"{at} ({name})"] = value if known else np.nan
    table.loc[0, [f"{at} ({other})" for at in ("10%", "50%", "90%")]] = np.nan
    return table.assign(**{"Mean (stand-in)": 0.4, f"Mean ({other})": [0.5, *[np.nan] * 22]})


MATRICES = {name: confusion_table(LABELS, RNG.permutation(LABELS)) for name in ("Clean", "Noisy", "Denoised")}

TIMES = pd.DataFrame(
    {"Stage": ["data", "classifier"], "Imports": [1.5, 4.0], "Networks": [0.0, 300.0], "Checkpoints": [0.0, 9.0]}
)

_X, _Y = np.meshgrid([0, 0.1, 0.3], [0, 35, 105])
ALONG = pd.DataFrame({"sigma": _X.ravel(), "stars": _Y.ravel(), "value": 0.5, "low": 0.4, "high": 0.7})

#: Each figure with the number of axes that it must have.
DRAWN = {
    "class_samples": (10, lambda: class_samples(IMAGES, LABELS)),
    "class_samples_lacking": (10, lambda: class_samples(FLOATS, np.zeros(20, int))),
    "class_counts": (1, lambda: class_count_bars(LABELS)),
    "class_counts_split": (1, lambda: class_count_bars({"train": LABELS, "test": LABELS[:5]})),
    "class_distributions": (4, lambda: class_distributions(DISTRIBUTED)),
    "class_distributions_lacking": (4, lambda: class_distributions(LONE)),
    "class_distributions_of_none": (
        4,
        lambda: class_distributions(LONE.assign(size=np.nan, brightness=np.nan)),
    ),
    "closeness": (3, lambda: standin_closeness(compared())),
    "closeness_to_a_file": (3, lambda: standin_closeness(compared("this file"))),
    "closeness_unknown": (3, lambda: standin_closeness(compared(known=False))),
    "side_by_side": (70, lambda: side_by_side(IMAGES, FLOATS, LABELS)),
    "side_by_side_of_two": (6, lambda: side_by_side(IMAGES[:4], FLOATS, [3, 3, 4, 4], real_labels=LABELS, n=1)),
    "noisy_pairs": (10, lambda: noisy_pairs(IMAGES, FLOATS)),
    "noisy_pairs_of_two": (4, lambda: noisy_pairs(IMAGES[:2], FLOATS[:2])),
    "denoised_rows": (15, lambda: denoised_rows(FLOATS, FLOATS, IMAGES, titles=CLASS_NAMES)),
    "noise_grid": (6, lambda: noise_grid([IMAGES[:3], IMAGES[3:6]], ["a", "b"], col_titles=["1", "2", "3"])),
    "noise_grid_of_one": (1, lambda: noise_grid([IMAGES[:1]], ["a"])),
    "confusion_matrices": (5, lambda: confusion_matrices(MATRICES)),
    "confusion_matrices_of_one": (
        3,
        lambda: confusion_matrices({"Clean": confusion_table([0], [0])}),
    ),
    "training_curves": (2, lambda: training_curves(HISTORY)),
    "training_curves_of_one_epoch": (2, lambda: training_curves(HISTORY[:1])),
    "training_curves_of_phases": (1, lambda: training_curves(PHASES, log_loss=True)),
    "stage_times": (1, lambda: stage_times(TIMES)),
    "accuracy_bars": (1, lambda: accuracy_bars(ESTIMATES)),
    "accuracy_bars_paper": (1, lambda: accuracy_bars(ESTIMATES, paper=paper_summary())),
    "sweep_curves": (1, lambda: sweep_curves({"clean": ALONG[:3], "noisy": ALONG[:3]}, "sigma")),
    "sweep_curves_in_panels": (
        4,
        lambda: sweep_curves({"clean": ALONG}, "sigma", panels="stars", paper={"clean": 0.7}),
    ),
    "sweep_map": (2, lambda: sweep_map(ALONG[1:], "sigma", "stars", title="Recovery", missing=[(0.0, 0)])),
    "calibration_map": (2, lambda: calibration_map(SWEEP, chosen=(0.1, 8), paper_drop=0.41)),
}


@pytest.fixture(autouse=True)
def _no_window():
    """Draw without a window system; choosing a backend is matplotlib's own change of settings."""
    plt.switch_backend("agg")


def texts(figure):
    """All text that a figure shows."""
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text() and text.get_visible()]


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
    # At a phone's 360 px a point is 360 / (7 * 72) px: no text under 6 px.
    sizes = [t.get_fontsize() for t in figure.findobj(plt.Text) if t.get_text() and t.get_visible()]
    assert min(sizes, default=10) * 360 / (7 * 72) >= 6


def test_every_figure_is_tested():
    modules = (
        importlib.import_module(f"galaxynb.figures.{path.stem}")
        for path in (ROOT / "galaxynb/figures").glob("[a-z]*.py")
    )
    public = {name for module in modules for name in module.__all__ if name.islower()}
    for name in public - {"noise_explorer", "save_figure", "styled"}:
        assert any(case.startswith(name) for case in DRAWN), name


def test_class_samples_shows_members_of_each_class_by_seed():
    images = np.broadcast_to(np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1) * 10, (20, 8, 8, 3))

    def shown(seed):
        figure = class_samples(images, LABELS, seed=seed)
        return [int(np.asarray(ax.images[0].get_array())[0, 0, 0]) // 10 for ax in figure.axes]

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
    # A colour of 0 has no place on a logarithmic axis.
    assert [[float(line.get_xdata()[0]) for line in lines] for lines in dots] == [[10], [1.3], [300, 400], []]
    assert [round(float(line.get_ydata()[0])) for line in dots[2]] == [0, 4]
    assert texts(figure).count("none in this file") == 1
    assert [bar.get_x() for bar in figure.axes[2].patches] == [300, 400]


def test_closeness_is_in_units_of_the_other_and_by_mean_where_only_that_is_known():
    figure = standin_closeness(compared())
    frame, sizes, _ = figure.axes
    dots = {line.get_marker(): [] for line in frame.lines} | {"o": [], "D": []}
    for line in frame.lines:
        dots[line.get_marker()].append(float(np.ravel(line.get_xdata())[0]))
    assert dots["o"] == pytest.approx([0.8, 1, 1])
    assert dots["D"] == pytest.approx([1, 1, 1])
    assert sum(line.get_marker() == "o" for line in sizes.lines) == 10
    legend = [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]
    assert legend == ["Stand-in", "Published"]


def test_closeness_refuses_a_table_of_one():
    table = compared()
    with pytest.raises(ValueError, match="table has medians of published; expected"):
        standin_closeness(table.drop(columns="50% (stand-in)"))
    with pytest.raises(ValueError, match="table has medians of none"):
        standin_closeness(table[["Quantity"]])


def test_side_by_side_shows_members_of_each_class_of_either_kind():
    standin = np.broadcast_to(np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1) * 10, (20, 8, 8, 3))
    figure = side_by_side(standin, standin + np.uint8(1), LABELS, n=2)
    values = [int(np.asarray(ax.images[0].get_array())[0, 0, 0]) if ax.images else None for ax in figure.axes]
    for k, (*ours, gap, one, other) in enumerate(np.reshape(values, (10, 5)).tolist()):
        assert sorted(ours) == [20 * k, 20 * k + 10]
        assert gap is None
        assert sorted([one, other]) == [20 * k + 1, 20 * k + 11]
    assert [ax.get_ylabel().replace("\n", " ") for ax in figure.axes[::5]] == [
        f"{k} {n}" for k, n in enumerate(CLASS_NAMES)
    ]
    assert {"Stand-in", "Real"} <= set(texts(figure))
    with pytest.raises(ValueError, match="no class has both"):
        side_by_side(IMAGES[:2], IMAGES[:2], [0, 0], real_labels=[1, 1])


def test_rows_are_the_images_given():
    figure = denoised_rows(IMAGES[:3], IMAGES[3:6], IMAGES[6:9], titles=["a", "b", "c"], n=2)
    shown = np.array([ax.images[0].get_array() for ax in figure.axes])
    assert (shown == IMAGES[[0, 1, 3, 4, 6, 7]]).all()
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == ["Noisy", "Denoised", "Original"]
    assert [ax.get_title() for ax in figure.axes[:2]] == ["a", "b"]


def test_noise_grid_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="rows of equally many images"):
        noise_grid([IMAGES[:2], IMAGES[:1]], ["a", "b"])
    with pytest.raises(ValueError, match="rows of equally many images"):
        noisy_pairs(IMAGES[:0], IMAGES[:0])
    with pytest.raises(ValueError, match="1 row titles for 2 rows"):
        noise_grid([IMAGES[:2], IMAGES[:2]], ["a"])
    with pytest.raises(ValueError, match="1 column titles for 2 columns"):
        noise_grid([IMAGES[:2]], ["a"], col_titles=["x"])


def test_noise_explorer_redraws_what_the_function_returns(monkeypatch):
    shown, grid = [], noise_grid
    monkeypatch.setattr(noise_figures, "noise_grid", lambda *arguments: shown.append(grid(*arguments)) or shown[-1])
    image = IMAGES[0] / 255
    explorer = noise_explorer(
        image, lambda sigma, stars: np.clip(image + sigma + stars / 100, 0, 1), sigma=0.1, stars=20
    )
    sigma, stars, picture = explorer.children
    assert [slider.description for slider in (sigma, stars)] == ["sigma", "stars"]
    pngs = [picture.value]
    stars.value = 0
    sigma.value = 0.2
    pngs.append(picture.value)
    first, _, last = ([np.asarray(ax.images[0].get_array(), float) for ax in figure.axes] for figure in shown)
    for original, noisy, added in ((*first, 0.3), (*last, 0.2)):
        assert original == pytest.approx(image)
        assert noisy == pytest.approx(np.clip(image + added, 0, 1))
    assert pngs[0] != pngs[1]
    assert Image.open(io.BytesIO(pngs[1])).size[0] > 300


def test_noise_explorer_sends_a_client_nothing_to_answer():
    """An Output widget would: nbclient can then miss the end of the cell, and papermill waits for ever."""
    import ipywidgets

    explorer = noise_explorer(IMAGES[0] / 255, lambda sigma, stars: IMAGES[0] / 255, sigma=0.1, stars=20)
    assert not any(isinstance(child, ipywidgets.Output) for child in explorer.children)


def test_confusion_matrices_share_one_scale_and_mark_a_tenth_and_more():
    figure = confusion_matrices({"Clean": MATRICES["Clean"], "Noisy": MATRICES["Noisy"]})
    limits = {ax.collections[0].get_clim() for ax in figure.axes[:2]}
    assert limits == {(0, 100)}
    marked = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    percent = 100 * MATRICES["Clean"].to_numpy()
    assert marked == [f"{v:.0f}" for v in percent[percent >= 9.5]]
    assert any(CLASS_NAMES[4] in text for text in texts(figure))


@pytest.mark.parametrize(
    ("history", "monitor", "best"),
    [
        (HISTORY, "val_loss", 3),
        (HISTORY, "val_accuracy", 2),
        # The lowest loss of all is in phase 1, whose task is easier: only the last phase counts.
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


def test_stage_times_stand_end_to_end_in_the_order_given():
    ax = stage_times(TIMES).axes[0]
    bars = [(bar.get_x(), bar.get_width()) for container in ax.containers for bar in container]
    assert bars == [(0, 1.5), (0, 4), (1.5, 0), (4, 300), (1.5, 0), (304, 9)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["data", "classifier"]
    assert ax.yaxis_inverted()
    assert {text.get_text().strip() for text in ax.texts} == {"2 s", "313 s"}


@pytest.mark.parametrize("history", [HISTORY[:0], HISTORY.drop(columns="loss"), HISTORY.drop(columns="epoch")])
def test_training_curves_refuse_a_history_without_losses(history):
    with pytest.raises(ValueError, match="history must have a row and the columns epoch and loss"):
        training_curves(history)


def test_accuracy_bars_mark_only_what_the_paper_has():
    figure = accuracy_bars(ESTIMATES, paper=paper_summary())
    diamonds = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert [line.get_xdata().tolist() for line in diamonds] == [[0.74, 0.33]]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.6] * 3


def test_calibration_map_outlines_the_chosen_pair():
    figure = calibration_map(SWEEP, chosen=(0.1, 8))
    outline = figure.axes[0].patches[-1]
    # Columns are sigma 0, .1, .2; rows are stars from many to few.
    assert outline.get_xy() == (1, 0)
    # The same words as on the axes of a sweep over the same parameters.
    assert figure.axes[0].get_xlabel().startswith(parameter_words("noise.sigma", capital=True))
    assert figure.axes[0].get_ylabel() == parameter_words("stars", capital=True)
    with pytest.raises(ValueError, match=r"chosen is \(0.3, 8\)"):
        calibration_map(SWEEP, chosen=(0.3, 8))


def test_save_is_deterministic_print_quality_and_nameless(tmp_path):
    paths = [save_figure(noisy_pairs(IMAGES[:2], FLOATS[:2]), tmp_path / f"{k}.png") for k in (1, 2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"atplotlib" not in paths[0].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png"]


def test_save_refuses_another_format(tmp_path):
    with pytest.raises(ValueError, match=r"figure\.pdf must end in \.png"):
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


def test_real_galaxies_are_shown(real_sample):
    with h5py.File(real_sample) as file:
        images, labels = file["images"][:], file["ans"][:]
    for k, ax in enumerate(class_samples(images, labels).axes):
        assert any((image == ax.images[0].get_array()).all() for image in images[labels == k])
