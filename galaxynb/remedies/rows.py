"""The table of the remedies: which there are, in which order, and how to make each."""

import importlib
from pathlib import Path

__all__ = ["ADAPTING", "BEHIND", "OWN", "REFERENCE", "ROWS", "chosen_rows", "make_remedy", "module_of", "parse_place"]


#: Name of the row of the user's own remedy.
OWN = "own"

#: Remedies in the order of the tables. Each has the name of its module, of its class, and the class's arguments.
ROWS = {
    "nothing": ("adaptation", "Unchanged"),
    "median": ("classical", "MedianFilter"),
    "gaussian": ("classical", "GaussianFilter"),
    "non-local-means": ("classical", "NonLocalMeans"),
    "total-variation": ("classical", "TotalVariation"),
    "wavelet": ("classical", "Wavelet"),
    "star-removal": ("classical", "StarRemoval"),
    "batchnorm-32": ("adaptation", "AdaptedClassifier", 32),
    "batchnorm-600": ("adaptation", "AdaptedClassifier", 600),
    "autoencoder-batchnorm-600": ("adaptation", "AdaptedBehindAutoencoder", 600),
    "symmetries": ("adaptation", "SymmetryAverage"),
    "autoencoder": ("restorers", "Autoencoder"),
    "unet": ("restorers", "UNet"),
    "nafnet": ("restorers", "NAFNet"),
    "unet-features": ("restorers", "FeatureUNet"),
    "noise2noise": ("restorers", "Noise2Noise"),
    "catalogue-stars": ("restorers", "CatalogueStars"),
    "noisy-classifier": ("judges", "TrainedOnNoisy"),
    "half-noisy-classifier": ("judges", "HalfNoisy"),
    "finetuned-classifier": ("judges", "FinetunedOnRestored"),
    "clean-finetuned-classifier": ("judges", "FinetunedOnClean"),
    "denoised-classifier": ("judges", "BothTrained"),
}

#: Remedies that adapt to unlabelled images with the same damage before they are tested on it.
ADAPTING = ("batchnorm-32", "batchnorm-600", "autoencoder-batchnorm-600")

#: Remedies that also use the paper's autoencoder, whose training comes before theirs.
BEHIND = ("autoencoder-batchnorm-600", "finetuned-classifier", "clean-finetuned-classifier", "denoised-classifier")

#: Rows that all others are compared with. Every run has them.
REFERENCE = ("nothing", "autoencoder")


def chosen_rows(rows, *, own=None):
    """Return the names of the remedies to compare, in the order of the tables.

    Parameters
    ----------
    rows : "all" or sequence of str
        Value of a profile. The rows of `REFERENCE` are always added.
    own : str or None
        Place of the user's own remedy. With it, the last row is ``own``.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> chosen_rows(["median"])
    ('nothing', 'median', 'autoencoder')
    """
    wanted = {*ROWS} if rows == "all" else {*rows, *REFERENCE}
    return (*(name for name in ROWS if name in wanted), *([OWN] if own else []))


def module_of(name):
    """Return the dotted name, within the package, of the module that holds a remedy."""
    return f"remedies.{'own' if name == OWN else ROWS[name][0]}"


def make_remedy(name, *, own=None):
    """Return a remedy, not yet fitted.

    Parameters
    ----------
    name : str
        A key of `ROWS`, or ``own``.
    own : str or None
        Place of the user's own remedy, as `load_remedy` takes it.

    Returns
    -------
    galaxynb.remedies.remedy.Remedy

    Raises
    ------
    ValueError
        If there is no such remedy.

    Examples
    --------
    >>> make_remedy("median").title
    'Median filter'
    """
    if name == OWN:
        return importlib.import_module("galaxynb.remedies.own").load_remedy(own or "")
    if name not in ROWS:
        raise ValueError(f"remedy is {name!r}, but one of {', '.join(ROWS)} is needed: choose one")
    module, kind, *arguments = ROWS[name]
    return getattr(importlib.import_module(f"galaxynb.remedies.{module}"), kind)(*arguments)


def parse_place(text):
    """Return the file and the name in ``path/to/file.py:name``.

    Raises
    ------
    ValueError
        If the text has no colon, or the file is missing or is no Python file.

    Examples
    --------
    >>> parse_place("mine.py")
    Traceback (most recent call last):
    ValueError: remedy is 'mine.py', but FILE.py:NAME is needed: name a function or class of a Python file
    """
    path, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or Path(path).suffix != ".py":
        raise ValueError(f"remedy is {text!r}, but FILE.py:NAME is needed: name a function or class of a Python file")
    if not Path(path).is_file():
        raise ValueError(f"remedy is {text!r}, but there is no file {path}: correct the path")
    return Path(path), name
