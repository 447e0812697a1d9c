"""Try one remedy: fit it, classify clean, noisy and otherwise damaged test images, judge its images, time it.

The results are files in one folder per remedy:

remedy.json          what the remedy is, its cost, its image quality, the astronomer's verdict; or why it failed
predictions.parquet  the probabilities for each clean and each noisy test image
robustness.parquet   the predicted class for each damaged test image
examples.npz         the first restored test images, if the remedy restores images
real.parquet         the probabilities for clean and noisy images of the sky, if there are any
"""

import inspect
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from galaxynb.files import write_json, written_aside
from galaxynb.images import to_float
from galaxynb.provenance import device_text, find_device
from galaxynb.remedies.disturbances import DISTURBANCES, SEVERITIES, disturb
from galaxynb.remedies.remedy import LEARNS_FROM, NOISY, Remedy, probabilities, restored, run_network
from galaxynb.remedies.tables import PROBABILITIES
from galaxynb.remedies.verdict import summarize
from galaxynb.results.quality import image_quality

__all__ = ["EXAMPLES", "TooSlowError", "Trial", "describe", "run_trial"]


#: Number of restored test images to keep as examples.
EXAMPLES = 8

_ADAPTED_ON = 600  # validation images, at most, that a remedy may adapt to before it classifies others

_TIMED = 128  # images whose classification is timed


class TooSlowError(RuntimeError):
    """A remedy needs more time per image than it is allowed."""

    def __init__(self, spent, most):
        super().__init__(f"it takes {spent:,.0f} ms per image, but at most {most:,.0f} ms are allowed: make it faster")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What to measure.

    Attributes
    ----------
    n_robust : int
        Test images for each kind and severity of damage, >= 1. A remedy may first adapt to up to twice as many
        validation images, and to no more than 600.
    n_judged : int
        Test images for the astronomer's verdict; 0 leaves it out.
    most_ms : float
        Most time per image in ms. A slower remedy raises `TooSlowError`, so that it does not hold up the others.
    """

    n_robust: int
    n_judged: int
    most_ms: float = 1000.0


def describe(remedy):
    """Return the facts of a remedy for the tables, as a dict."""
    return {
        "name": remedy.name,
        "title": remedy.title,
        "family": remedy.family,
        "learns from": remedy.learns_from,
        "does": (inspect.getdoc(remedy) or "").partition("\n")[0].rstrip(".:"),
        "gives": "images" if remedy.classify is None else "classes",
        "chosen": {name: str(value) for name, value in remedy.chosen.items()},
        "parameters": int(remedy.parameters),
        "training seconds": None if remedy.seconds is None else round(float(remedy.seconds), 1),
        "trained on": list(remedy.devices),
    }


def run_trial(remedy, given, trial, *, cache, folder, real=None, log=print):
    """Fit a remedy, measure it, and write the files to a folder.

    Parameters
    ----------
    remedy : galaxynb.remedies.remedy.Remedy
        The remedy, not yet fitted.
    given : galaxynb.remedies.remedy.Given
        What it may learn from.
    trial : Trial
        What to measure.
    cache : galaxynb.data.cache.Cache
        Images, labels and truth.
    folder : pathlib.Path
        Folder for the files.
    real : tuple of ndarray, or None
        Images of the sky that no part of the study has seen (uint8, shape (N, H, H, 3), of the study's side), and
        their classes. A remedy that may learn from unlabelled images adapts to them before it classifies them.
    log : callable
        Takes a line of text.

    Returns
    -------
    dict
        The contents of ``remedy.json``.

    Raises
    ------
    ValueError
        If the remedy returns something else than images or probabilities of the right shape.
    TooSlowError
        If it takes too long per image.
    """
    remedy.fit(given)
    test, noise, seed = given.split.test, given.noise, given.seed
    noisy = noise.apply(cache.images[test], seed, test)
    found = describe(remedy)
    found["ms per image"] = round(_timed(remedy, noisy, given.classifier, trial.most_ms), 2)
    log(f"fitted; {found['ms per image']} ms per image")
    if remedy.classify is None:
        images = restored(remedy, noisy)
        answers = {"noisy": run_network(given.classifier, images)}
        found["quality"] = _quality(images, cache, test)
        _write_examples(images[:EXAMPLES], folder / "examples.npz")
        if cache.truth is not None and trial.n_judged:
            rows = test[: trial.n_judged]
            log(f"measuring stars and galaxies in {len(rows)} images")
            versions = {"restored": images[: len(rows)], "clean": cache.images[rows], "truth": cache.truth[rows]}
            about = {"noise": noise, "seed": seed, "indices": rows}
            found["verdict"] = summarize(lambda some: restored(remedy, some), **versions, **about)
    else:
        answers = {"noisy": probabilities(remedy, noisy, classifier=given.classifier)}
    damaged = _robustness(remedy, given, trial, cache, log)
    _adapt(remedy, given, to_float(cache.images[given.split.validation[:_ADAPTED_ON]]))
    answers["clean"] = probabilities(remedy, cache.images[test], classifier=given.classifier)
    table = [_rows(remedy.name, images, test, cache.labels[test], values) for images, values in answers.items()]
    _write(pd.concat(table, ignore_index=True), folder / "predictions.parquet")
    _write(damaged, folder / "robustness.parquet")
    if real is not None:
        log(f"classifying {len(real[0])} images of the sky")
        _write(_on_real(remedy, given, *real), folder / "real.parquet")
    found |= {"device": device_text(find_device()), "failed": None}
    write_json(folder / "remedy.json", found)
    return found


def _timed(remedy, noisy, classifier, most):
    """Return the ms per image that the remedy takes on noisy images, the classifier included.

    Raise `TooSlowError` after the first few images if they took too long.
    """
    for number in (4, _TIMED, _TIMED):  # the first call compiles, so only the last one counts
        images = noisy[:number]
        began = time.perf_counter()
        probabilities(remedy, images, classifier=classifier)
        spent = 1000 * (time.perf_counter() - began) / len(images)
        if number == 4 and spent * len(images) > 10_000 + most * len(images):
            raise TooSlowError(spent, most)
    if spent > most:
        raise TooSlowError(spent, most)
    return spent


def _quality(images, cache, test):
    """Return PSNR and SSIM of restored images against the clean images, and against the truth if there is one."""
    found = {"clean": image_quality(to_float(cache.images[test]), images)}
    if cache.truth is not None:
        found["truth"] = image_quality(to_float(cache.truth[test]), images)
    return found


def _write_examples(images, path):
    with written_aside(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=np.round(255 * images).astype(np.uint8))


def _adapt(remedy, given, images):
    """Let a remedy that may learn from unlabelled noisy images adapt to images of the validation set."""
    if _may_adapt(given):
        remedy.adapt(images)


def _may_adapt(given):
    return LEARNS_FROM.index(given.learns_from) >= LEARNS_FROM.index(NOISY)


def _robustness(remedy, given, trial, cache, log):
    """Return the predicted class for each kind and severity of damage and each of the first test images."""
    test = given.split.test[: trial.n_robust]
    # Adaptation to hundreds of images would take most of the time of a trial with few test images.
    validation = given.split.validation[: min(_ADAPTED_ON, 2 * trial.n_robust)]
    adapts = type(remedy).adapt is not Remedy.adapt and _may_adapt(given)
    tables = []
    for kind in DISTURBANCES:
        log(f"damage: {DISTURBANCES[kind].title.lower()}")
        for severity in SEVERITIES:
            how = {"severity": severity, "seed": given.seed}
            if adapts:
                others = disturb(kind, cache.images[validation], given.noise, **how, indices=validation)
                _adapt(remedy, given, others)
            images = disturb(kind, cache.images[test], given.noise, **how, indices=test)
            predicted = probabilities(remedy, images, classifier=given.classifier).argmax(axis=1)
            row = {"remedy": remedy.name, "kind": kind, "severity": severity, "row": test}
            tables.append(pd.DataFrame(row | {"label": cache.labels[test], "predicted": predicted}))
    return _small(pd.concat(tables, ignore_index=True))


def _on_real(remedy, given, images, labels):
    """Return the predictions for images of the sky, clean and with the noise of the study."""
    rows = np.arange(len(images))
    # The images may be in the order of their classes, and some remedies adapt to the first images only.
    mixed = np.random.default_rng(given.seed).permutation(rows)
    versions = {"clean": to_float(images), "noisy": given.noise.apply(images, given.seed, rows)}
    tables = []
    for name, version in versions.items():
        _adapt(remedy, given, version[mixed])
        values = probabilities(remedy, version, classifier=given.classifier)
        tables.append(_rows(remedy.name, name, rows, labels, values))
    return pd.concat(tables, ignore_index=True)


def _rows(name, images, test, labels, values):
    """Return the predictions of one remedy for one version of the test images."""
    table = pd.DataFrame({"remedy": name, "images": images, "row": test, "label": labels})
    return _small(table.join(pd.DataFrame(values.astype(np.float32), columns=PROBABILITIES)))


def _small(table):
    """Return a table with texts as categories and small whole numbers."""
    texts = {name: "category" for name in ("remedy", "images", "kind") if name in table}
    numbers = {"row": "int32", "label": "int8"} | {n: "int8" for n in ("severity", "predicted") if n in table}
    return table.astype(texts | numbers)


def _write(table, path):
    with written_aside(path) as temporary:
        table.to_parquet(temporary, index=False)
