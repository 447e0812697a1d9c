"""Measure on real images what a run's noise does, and what its autoencoder restores.

Usage: python workflow/reference/real_recovery.py runs/half-standin ../real_images book/reference/real_recovery.csv

The networks and the strength of the noise are those of the run, which must have been trained on stand-ins: a run on
real data may have seen the same images in training. The program writes a table of accuracies and of the recovery, and
its record to a JSON file of the same name.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from standin_closeness import real_images

from galaxynb.data.cache import open_cache
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.files import write_json, written_aside
from galaxynb.images import to_float
from galaxynb.networks.calibration import read_calibration
from galaxynb.networks.models import load_model, predict_classes
from galaxynb.provenance import checkout_state, load_records
from galaxynb.results.evaluation import accuracy_interval, estimate_recovery
from galaxynb.standin.measure import shrink


def measure(run, sample, source, seed):
    """Return the estimates by name, and the record, for a sample of real images."""
    cache = open_cache(run / "data" / "cache")
    if cache.info["standin"] is None:
        raise SystemExit(
            f"{run} has networks of {cache.info['source']}, but those of a stand-in are needed: give a run of"
            " DATA=standin"
        )
    noise = read_calibration(run / "calibrated_noise.json").noise
    classifier = load_model(run / "models" / "classifier.keras", made_by="notebooks/03_classifier.ipynb")
    autoencoder = load_model(run / "models" / "autoencoder.keras", made_by="notebooks/04_autoencoder.ipynb")
    small = shrink(sample.images, cache.image_size)
    rows = np.arange(len(small))
    clean, noisy = to_float(small), noise.apply(small, seed, rows)
    images = {
        "clean": clean,
        "noisy": noisy,
        "denoised": autoencoder.predict(noisy, batch_size=64, verbose=0),
        "denoised clean": autoencoder.predict(clean, batch_size=64, verbose=0),
    }
    right = {name: predict_classes(classifier, x) == sample.labels for name, x in images.items()}
    found = {name: accuracy_interval(is_right) for name, is_right in right.items()}
    found |= estimate_recovery(right["clean"], right["noisy"], right["denoised"], seed=seed)
    trained, (commit, dirty) = load_records(run), checkout_state()
    recalls = {
        CLASS_NAMES[k]: {name: round(float(is_right[sample.labels == k].mean()), 3) for name, is_right in right.items()}
        for k in np.unique(sample.labels)
    }
    record = {
        "estimates": {name: estimate.asdict() for name, estimate in found.items()},
        "recalls": recalls,
        "images": len(small),
        "image side": cache.image_size,
        "real images": source,
        "noise model": asdict(noise),
        "profile": trained["autoencoder"]["profile"],
        "data of the networks": cache.info["standin"] or cache.info["source"],
        "sha256 of the data": cache.info["sha256"],
        "commit of the networks": trained["autoencoder"]["commit"],
        "commit": commit,
        "dirty": dirty,
        "seed": seed,
    }
    return found, record


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/half-standin")
    parser.add_argument("real", type=Path, help="real images: a folder, or any other data source of the study")
    parser.add_argument("out", type=Path, help="CSV file of the table; the record is the JSON file of the same name")
    parser.add_argument("--real-images", type=int, default=500, help="largest number of real images")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise and of the bootstrap")
    options = parser.parse_args(arguments)
    sample, source = real_images(options)
    found, record = measure(options.run, sample, source, options.seed)
    shown = [estimate.text() for estimate in found.values()]
    table = pd.DataFrame({"Quantity": [*found], f"{record['images']} real images": shown})
    with written_aside(options.out) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    write_json(options.out.with_suffix(".json"), record)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
