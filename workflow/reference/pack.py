"""Keep the two networks of a finished run in small files, with a card that describes them.

Usage: python workflow/reference/pack.py runs/half-standin book/reference/networks

The folder has the layout of a run: models/ and calibrated_noise.json. card.json holds what the networks were trained
on, the accuracies of the run, the checksums of their files, and the largest difference between the predictions of the
packed and of the original networks, on the noisy test images. networks.csv and accuracies.csv are tables of a part of
it, for the book.
"""

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from keep import committed_records

from galaxynb.apply.networks import training_measures
from galaxynb.data.cache import open_cache
from galaxynb.data.splits import paper_split
from galaxynb.files import write_json, written_aside
from galaxynb.networks.calibration import read_calibration
from galaxynb.networks.models import load_model
from galaxynb.networks.packing import pack_model
from galaxynb.results.evaluation import Estimate

#: Largest difference that the packing may make, in probabilities and in pixel values from 0 to 1.
LARGEST = 1e-3
#: The networks, with the notebook that made each and the significant bits with which its kernels are kept.
NETWORKS = {"classifier": ("03_classifier", 13), "autoencoder": ("04_autoencoder", 24)}


def pack(run, out):
    """Pack the networks of the run in the folder `run` into the folder `out`, in place of earlier ones.

    Raises
    ------
    FileNotFoundError, ValueError
        If the run is not finished or ran with uncommitted changes, or if packing changes a prediction too much.
    """
    run, out = Path(run), Path(out)
    records = committed_records(run)
    cache = open_cache(run / "data" / "cache")
    rows = paper_split(cache.labels).test
    noise = read_calibration(run / "calibrated_noise.json").noise
    noisy = noise.apply(cache.images[rows], 0, rows)
    with written_aside(out) as temporary:
        (temporary / "models").mkdir(parents=True)
        networks = {}
        for name, (notebook, bits) in NETWORKS.items():
            model = load_model(run / "models" / f"{name}.keras", made_by=f"notebooks/{notebook}.ipynb")
            path = temporary / "models" / f"{name}.keras"
            pack_model(model, path, bits=bits)
            packed = load_model(path, made_by="this program")
            before, after = (one.predict(noisy, batch_size=64, verbose=0) for one in (model, packed))
            change = float(np.abs(before - after).max())
            if change > LARGEST:
                raise ValueError(
                    f"packing changes a prediction of the {name} by {change:.2g}, but {LARGEST:g} is allowed"
                )
            networks[name] = {
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "largest change": change,
                "parameters": model.count_params(),
                "settings": {key: value for key, value in records[name]["parameters"].items() if key != "run_dir"},
                "commit": records[name]["commit"],
            }
        shutil.copy(run / "calibrated_noise.json", temporary)
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        card = {
            "networks": networks,
            "profile": records["data"]["profile"],
            "data": cache.info,
            "estimates": metrics["estimates"],
            "test images": len(rows),
            "measures": training_measures(cache, noise),
        }
        write_json(temporary / "card.json", card)
        for name, table in {"networks": networks_table(card), "accuracies": accuracies_table(card)}.items():
            table.to_csv(temporary / f"{name}.csv", index=False, lineterminator="\n")


def networks_table(card):
    """Return a table of the two networks, with one column per network."""
    columns = {
        "What": ["Network", "Parameters", "Size", "Bits of the kernels", "Change by packing", "Epochs", "SHA256"]
    }
    kinds = {"classifier": "DenseNet121", "autoencoder": "convolutional, no skip connections"}
    for name, (_, bits) in NETWORKS.items():
        one = card["networks"][name]
        epochs = sum(value for key, value in one["settings"].items() if key.endswith("epochs"))
        columns[name.capitalize()] = [
            kinds[name],
            f"{one['parameters']:,}",
            f"{one['bytes'] / 1e6:.2f} MB",
            f"{bits} of 24",
            f"about {one['largest change']:.1g}",
            str(epochs),
            f"{one['sha256'][:16]}...",
        ]
    return pd.DataFrame(columns)


def accuracies_table(card):
    """Return the accuracies and the recovery of the run on its test images."""
    names = ("clean", "noisy", "denoised", "denoised clean", "recovery")
    texts = {name: Estimate(**card["estimates"][name]).text() for name in names if name in card["estimates"]}
    return pd.DataFrame(texts.items(), columns=["Quantity", f"{card['test images']:,} test images"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="folder of a finished run, such as runs/half-standin")
    parser.add_argument("out", help="folder of the packed networks, such as book/reference/networks")
    given = parser.parse_args()
    try:
        pack(given.run, given.out)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
