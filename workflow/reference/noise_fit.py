"""Fit the ranges of the noise to the paper's Table 2, with a run's classifier. Notebook 02 shows the record.

Usage: python workflow/reference/noise_fit.py runs/half-standin book/reference/noise_fit.csv

The fit uses validation images, so that the test images have no part in the choice of the noise. It takes a quarter of
an hour or more. An interrupted fit goes on where it stopped: the run's folder checkpoints/ keeps its evaluations.
"""

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from galaxynb.data.cache import open_cache
from galaxynb.data.splits import paper_split
from galaxynb.files import write_json, written_aside
from galaxynb.fingerprints import code_digest, file_fingerprint
from galaxynb.images import to_float
from galaxynb.networks.models import load_model, predict_classes, weights_digest
from galaxynb.networks.training import settings_digest
from galaxynb.provenance import checkout_state, load_records
from galaxynb.results.noise_fit import RANGES, WEIGHTS, fit_noise, rounded_noise
from galaxynb.results.paper import paper_table

SEED = 42


def measure(run, out, *, n_evaluations=120, most_images=None):
    """Write the evaluations to the CSV file `out`, and the record of the fit to a JSON file of the same name."""
    run, out = Path(run), Path(out)
    state = checkout_state()  # before the evaluations, because the checkout may change meanwhile
    cache = open_cache(run / "data" / "cache")
    classifier = load_model(run / "models" / "classifier.keras", made_by="notebooks/03_classifier.ipynb")
    rows = paper_split(cache.labels).validation[:most_images]
    predict = partial(predict_classes, classifier)
    digest = settings_digest(
        "calibration",
        code=[code_digest("results.noise_fit"), file_fingerprint(__file__)],
        classifier=weights_digest(classifier),
        data=cache.info["sha256"],
        seed=SEED,
        images=len(rows),
        evaluations=n_evaluations,
        ranges=RANGES,
        weights=WEIGHTS,
    )
    kept = run / "checkpoints" / "noise_fit" / f"{digest[:10]}.csv"
    progress = tqdm(total=n_evaluations, desc="noises")

    def keep(evaluations):
        with written_aside(kept) as temporary:
            evaluations.to_csv(temporary, index=False, lineterminator="\n")
        progress.set_postfix(misfit=f"{evaluations['misfit'].min():.3f}")
        progress.update()

    fit = fit_noise(
        predict,
        cache.images,
        paper_table("noisy"),
        labels=cache.labels,
        indices=rows,
        seed=SEED,
        n_evaluations=n_evaluations,
        known=pd.read_csv(kept) if kept.is_file() else None,
        on_evaluation=keep,
    )
    progress.close()
    with written_aside(out) as temporary:
        fit.evaluations.to_csv(temporary, index=False, float_format="%.5g", lineterminator="\n")
    clean = predict(to_float(cache.images[rows])) == cache.labels[rows]
    write_json(out.with_suffix(".json"), record(run, cache, fit, rows, clean.mean(), n_evaluations, state))
    print(f"Closest noise, for the defaults of NoiseModel: {rounded_noise(fit.noise, cache.image_size)}")


def record(run, cache, fit, rows, clean, n_evaluations, state):
    """Return the record of a fit: the closest noise, how well it is determined, and what it was fitted on."""
    trained = load_records(run)["classifier"]
    commit, dirty = state
    best = fit.evaluations["misfit"].idxmin()
    accuracy = float(fit.evaluations["accuracy"][best])
    return {
        "noise model": asdict(rounded_noise(fit.noise, cache.image_size)),
        "misfit": round(fit.misfit, 4),
        "recall rms": round(fit.recall_rms, 4),
        "uncertainty": round(fit.uncertainty, 4),
        "evaluations": n_evaluations,
        "accuracy": {"clean": round(float(clean), 4), "noisy": round(accuracy, 4)},
        "scores": _rows(fit.scores, 3),
        "profiles": _rows(fit.profiles, 5),
        "intervals": _rows(fit.intervals, 5),
        "correlations": json.loads(fit.correlations.round(2).to_json(orient="index")),
        "ranges": RANGES,
        "weights": WEIGHTS,
        "images": f"{len(rows):,} validation images of {cache.image_size} px",
        "data": cache.info["standin"] or cache.info["source"],
        "sha256 of the data": cache.info["sha256"],
        "profile": trained["profile"],
        "training images": len(paper_split(cache.labels).train),
        "commit": commit,
        "dirty": dirty,
        "commit of the classifier": trained["commit"],
        "uncommitted changes at the classifier": trained["dirty"],
        "seed": SEED,
    }


def _rows(table, decimals):
    return json.loads(table.round(decimals).to_json(orient="records"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fit the noise to the paper's Table 2, with a run's classifier.")
    parser.add_argument("run", help="folder of a run with a trained classifier, such as runs/half-standin")
    parser.add_argument("out", help="CSV file of the evaluations; the record is the JSON file of the same name")
    parser.add_argument("--evaluations", type=int, default=120, help="number of noises to evaluate")
    parser.add_argument("--images", type=int, help="use only the first validation images")
    given = parser.parse_args()
    measure(given.run, given.out, n_evaluations=given.evaluations, most_images=given.images)
