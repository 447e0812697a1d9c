"""Measure the drop in accuracy of a run's classifier for a grid of noise strengths. Notebook 02 shows the record.

Usage: python workflow/reference/noise_calibration.py runs/quick-standin book/reference/noise_calibration.csv

The accuracy is measured on validation images, so that the test images have no part in the choice of a noise level.
"""

import dataclasses
import sys
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from galaxynb.data.cache import open_cache
from galaxynb.data.splits import paper_split
from galaxynb.files import write_json, written_aside
from galaxynb.images import to_float
from galaxynb.networks.models import load_model, predict_classes
from galaxynb.noise import NoiseModel
from galaxynb.provenance import load_records
from galaxynb.results.paper import paper_summary

SIGMAS = (0.0, 0.05, 0.1, 0.15, 0.2)
STARS = ((0, 0), (6, 24), (10, 40), (14, 56), (18, 72))


def measure(run, seed, out):
    """Write the grid to the CSV file `out`, and its record to a JSON file of the same name."""
    run, out = Path(run), Path(out)
    cache = open_cache(run / "data" / "cache")
    classifier = load_model(run / "models" / "classifier.keras", made_by="notebooks/03_classifier.ipynb")
    rows = paper_split(cache.labels).validation

    def accuracy(images):
        return float((predict_classes(classifier, images) == cache.labels[rows]).mean())

    clean = accuracy(to_float(cache.images[rows]))
    grid = []
    for sigma, stars in tqdm([(sigma, stars) for stars in STARS for sigma in SIGMAS], desc="noise levels"):
        model = NoiseModel(sigma=sigma, n_stars=stars)
        level = accuracy(model.apply(cache.images[rows], seed, rows))
        grid.append({"sigma": sigma, "stars": sum(stars) / 2, "accuracy": level, "drop": clean - level})
    with written_aside(out) as temporary:
        pd.DataFrame(grid).to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")
    chosen = NoiseModel()
    trained = load_records(run)["classifier"]
    record = {
        "chosen": [chosen.sigma, sum(chosen.n_stars) / 2],
        "noise model": dataclasses.asdict(chosen),
        "paper_drop": paper_summary()["drop"],
        "clean accuracy": round(clean, 4),
        "images": f"{len(rows)} validation images of {cache.image_size} px",
        "data": cache.info["standin"] or cache.info["source"],
        "profile": trained["profile"],
        "commit": trained["commit"],
        "dirty": trained["dirty"],
        "seed": seed,
    }
    write_json(out.with_suffix(".json"), record)


if __name__ == "__main__":
    measure(sys.argv[1], seed=42, out=sys.argv[2])
