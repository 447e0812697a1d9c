"""Fit and measure one remedy in this process. `remedy.py` starts this program and keeps its results.

Usage: python workflow/try_remedy.py --folder runs/quick-standin --parameters FILE.yaml --out FOLDER

An exception ends the program with status 1; its last line of output is the exception in one sentence.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
import traceback
from pathlib import Path

import keras
import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from galaxynb.compute import choose_execution
from galaxynb.data.cache import open_cache
from galaxynb.data.catalog import load_catalog
from galaxynb.data.splits import paper_split
from galaxynb.files import one_line
from galaxynb.fingerprints import code_digest
from galaxynb.networks.calibration import read_calibration
from galaxynb.networks.models import load_model, weights_digest
from galaxynb.provenance import device_text, find_device
from galaxynb.remedies.remedy import Given, Training
from galaxynb.remedies.rows import make_remedy, module_of
from galaxynb.remedies.trial import Trial, run_trial
from galaxynb.standin.measure import shrink


def try_remedy(folder, parameters, out, *, real=None, log=print):
    """Fit and measure the remedy that `parameters` names on the run in `folder`; write the results to `out`.

    With `real`, the images and classes that `galaxynb.remedies.trial.run_trial` takes, it is tried on them too.
    """
    folder, out = Path(folder), Path(out)
    cache = open_cache(folder / "data" / "cache")
    noise = read_calibration(folder / "calibrated_noise.json").noise
    networks = {
        name: load_model(folder / "models" / f"{name}.keras", made_by=f"notebooks/{notebook}.ipynb")
        for name, notebook in {"classifier": "03_classifier", "autoencoder": "04_autoencoder"}.items()
    }
    # A remedy's trial predicts so often that compiling pays off, even where the training ran without.
    networks["classifier"].run_eagerly = False
    training, trial = (
        kind(**{field.name: parameters[field.name] for field in dataclasses.fields(kind)}) for kind in (Training, Trial)
    )
    name, seed = parameters["name"], parameters["seed"]
    remedy = make_remedy(name, own=parameters.get("own"))
    # Checkpoints belong to a training with these settings, networks and code.
    decides = [training, seed, noise, cache.info, {part: weights_digest(one) for part, one in networks.items()}]
    decides += [parameters.get("own") and Path(parameters["own"].rpartition(":")[0]).read_text(encoding="utf-8")]
    decides += [keras.backend.backend(), keras.__version__, code_digest(module_of(name))]
    digest = hashlib.sha256(json.dumps(decides, default=dataclasses.asdict).encode()).hexdigest()
    given = Given(
        learns_from=remedy.learns_from,
        images=cache.images,
        labels=cache.labels,
        split=paper_split(cache.labels),
        noise=noise,
        seed=seed,
        **networks,
        execution=choose_execution(),
        training=training,
        folder=folder / "checkpoints" / "remedies" / name,
        digest=digest,
        device=device_text(find_device()),
        log=log,
    )
    return run_trial(remedy, given, trial, cache=cache, folder=out, real=real, log=log)


def real_images(path, side):
    """Return all images of a data source, shrunk to a side in pixels, and their classes."""
    catalog = load_catalog(path)
    return shrink(catalog.take(np.arange(catalog.n_images)), side), catalog.labels


def main():
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(description="Fit and measure one remedy.")
    for name in ("folder", "parameters", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--real", help="images of the sky to classify too: a folder, or any other data source")
    given = parser.parse_args()
    parameters = yaml.safe_load(Path(given.parameters).read_text(encoding="utf-8"))
    # Show each line at once: the log tells how far a long training is.
    sys.stdout.reconfigure(line_buffering=True)
    try:
        real = given.real and real_images(given.real, open_cache(Path(given.folder, "data", "cache")).image_size)
        try_remedy(given.folder, parameters, given.out, real=real)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {one_line(error)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
