"""Accuracies that others measured with and without remedies, for comparison with this study."""

import pandas as pd

from galaxynb.pages import DASH

__all__ = ["beside_earlier"]


#: Standard deviations of the Gaussian noise (1 = white) of Lin et al.
_SIGMAS = (0.1, 0.2, 0.3, 0.4, 0.5)

#: What the classifier was trained on and tested on, its accuracies at each of `_SIGMAS`, and the closest remedy here.
_ROWS = (
    ("clean", "noisy", (0.4503, 0.1747, 0.0885, 0.0505, 0.0337), "nothing"),
    ("clean", "denoised", (0.7638, 0.7178, 0.6653, 0.6086, 0.5441), "autoencoder"),
    ("clean", "denoised, with a map of its fidelity", (0.7621, 0.7304, 0.7024, 0.6717, 0.6376), None),
    ("clean and noisy", "noisy", (0.7437, 0.7289, 0.7107, 0.6902, 0.6666), "half-noisy-classifier"),
    ("clean and noisy, denoised", "denoised", (0.7591, 0.7387, 0.7175, 0.6923, 0.6676), "denoised-classifier"),
)


def beside_earlier(accuracies):
    """Return accuracies of Lin et al. (2021) and of the closest remedies here, as a table for reading.

    Lin et al. add Gaussian noise to CIFAR-100, and denoise it with a DnCNN.

    Parameters
    ----------
    accuracies : dict of Estimate
        Accuracy of each remedy here on noisy images, by its name. A remedy that is missing gets a dash.

    Returns
    -------
    pandas.DataFrame
        One row per way to train and test a classifier. Accuracies are text with two decimals.

    References
    ----------
    Lin et al. (2021), arXiv:2106.00673; the accuracies are from the table for CIFAR-100 in the README of their code.

    Examples
    --------
    >>> from galaxynb.results.evaluation import Estimate
    >>> beside_earlier({"nothing": Estimate(0.3, 0.2, 0.4)}).iloc[:2, [0, 1, 2, 7]].to_numpy().tolist()
    [['clean', 'noisy', '0.45', '0.30 (0.20 to 0.40)'], ['clean', 'denoised', '0.76', '–']]
    """
    rows = []
    for trained, tested, theirs, name in _ROWS:
        row = {"Trained on": trained, "Tested on": tested}
        row |= {f"Sigma {sigma}": f"{one:.2f}" for sigma, one in zip(_SIGMAS, theirs, strict=True)}
        rows.append(row | {"Here": accuracies[name].text() if name in accuracies else DASH})
    return pd.DataFrame(rows)
