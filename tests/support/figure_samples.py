"""Small inputs for the tests of the figures."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.results.evaluation import Estimate, confusion_table

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
STRENGTHS = pd.DataFrame({"strength": [0, 1, 0.5, 0.75], "accuracy": [0.8, 0.2, 0.5, 0.4]})
FITTED = {
    "stars": (1, 40),
    "radius": (0.01, 0.2),
    "brightness": (0.15, 0.75),
    "blur": (0.02, 0.5),
    "sigma": (0.005, 0.2),
}
TRIED = pd.DataFrame({name: np.geomspace(*ends, 9) for name, ends in FITTED.items()}).assign(
    misfit=np.linspace(0.4, 0.2, 9)
)
PROFILES = TRIED.melt("misfit", var_name="parameter").assign(plausible=0.18)
INTERVALS = pd.DataFrame(
    [{"parameter": name, "best": np.sqrt(low * high), "low": low, "high": high} for name, (low, high) in FITTED.items()]
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
TRIALS = pd.DataFrame(
    {
        "Changed": ["size, epochs", "size", "epochs", "other"],
        "Parameters": [1000, 100, 1000, 1000],
        "Steps": [50, 50, 500, 50],
        "Accuracy, denoised": [0.5, 0.3, 0.6, 0.0],
        "Accuracy, denoised clean": [0.6, 0.5, 0.7, 0.0],
    }
)


def compared(other="published", known=True):
    """Return a table such as `compare_sample` makes, with a few quantities."""
    rows = [("Mean", "all"), ("Sky noise G", "all"), ("Sky correlation G, 3 px", "all")]
    rows += [(quantity, name) for quantity in ("Galaxy size (px)", "Galaxy axis ratio") for name in CLASS_NAMES]
    table = pd.DataFrame(rows, columns=["Quantity", "Class"])
    for name in ("stand-in", other):
        for at, value in {"10%": 0.3, "50%": 0.5, "90%": 0.8}.items():
            table[f"{at} ({name})"] = value if known else np.nan
    table.loc[0, "50% (stand-in)"] *= 0.8
    return table


MATRICES = {name: confusion_table(LABELS, RNG.permutation(LABELS)) for name in ("Clean", "Noisy", "Denoised")}

TIMES = pd.DataFrame(
    {"Stage": ["data", "classifier"], "Imports": [1.5, 4.0], "Networks": [0.0, 300.0], "Checkpoints": [0.0, 9.0]}
)


def texts(figure):
    """Return all texts that a figure shows."""
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text() and text.get_visible()]


REMEDIES = pd.DataFrame(
    {
        "title": ["Nothing", "Adapted", "U-Net", "Classifier"],
        "learns from": ["nothing", "unlabelled noisy images", "clean-noisy pairs", "labels"],
        "noisy": [Estimate(value, value - 0.1, value + 0.1) for value in (0.3, 0.4, 0.6, 0.5)],
        "training seconds": [0.0, 12.0, None, 600.0],
        "ms per image": [1.0, 2.5, 30.0, 4.0],
    }
)
RECALLS = pd.DataFrame(RNG.random((4, 10)), index=REMEDIES["title"], columns=CLASS_NAMES)
RECALLS.iloc[1, 3] = np.nan
ERRORS = pd.Series([1.0, 0.9, 0.8, 0.7], index=REMEDIES["title"], name="mCE")
