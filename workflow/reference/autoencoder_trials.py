"""Compare variants of a run's autoencoder, trained for few epochs. Notebook 04 shows the record.

Usage: python workflow/reference/autoencoder_trials.py runs/half-standin book/reference/autoencoder_trials.csv

Variants are scored on validation images, so that the test images have no part in the choice. The trials take about an
hour. Interrupted trials go on with the next variant: the run's folder checkpoints/ keeps the finished ones.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import yaml

from galaxynb.compute import choose_execution
from galaxynb.data.cache import open_cache
from galaxynb.data.splits import paper_split
from galaxynb.files import write_json, written_aside
from galaxynb.fingerprints import code_digest, file_fingerprint
from galaxynb.images import to_float
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.batches import DenoisingBatches
from galaxynb.networks.models import compile_model, load_model, predict_classes, weights_digest
from galaxynb.networks.training import Phase, fit, settings_digest
from galaxynb.noise import NoiseModel
from galaxynb.provenance import checkout_state, load_records
from galaxynb.results.evaluation import accuracy_interval
from galaxynb.results.quality import psnr


def variants(settings, epochs):
    """Return the settings that each variant changes, by its name and by what it changes: size, epochs or other."""
    filters, width = settings["filters"], settings["width"]

    def size(factor):
        return {"filters": [int(number * factor) for number in filters], "width": int(width * factor)}

    return {
        ("as chosen", "size, epochs"): {},
        ("a quarter of the width", "size"): size(1 / 4),
        ("half the width", "size"): size(1 / 2),
        ("twice the width", "size"): size(2),
        ("half the depth", "size"): {"depth": settings["depth"] // 2},
        ("half the epochs", "epochs"): {"epochs": epochs // 2},
        ("twice the epochs", "epochs"): {"epochs": epochs * 2},
        ("four times the epochs", "epochs"): {"epochs": epochs * 4},
        ("half the rate", "other"): {"learning_rate": settings["learning_rate"] / 2},
        ("twice the rate", "other"): {"learning_rate": settings["learning_rate"] * 2},
        ("half the batch", "other"): {"batch_size": settings["batch_size"] // 2},
        ("squared error", "other"): {"loss": "mean_squared_error"},
        ("no dilation", "other"): {"dilations": [1]},
        ("two halvings", "other"): {"filters": [*filters, width]},
    }


def train(cache, noise, seed, settings):
    """Train one variant from scratch, with one epoch on raw images. Return the model and its training steps."""
    split, execution = paper_split(cache.labels), choose_execution()
    sizes = {name: settings[name] for name in ("filters", "width", "depth", "dilations")}
    model = build_autoencoder(cache.image_size, **sizes, seed=seed, precision=execution.precision)

    def pairs(indices, **options):
        return DenoisingBatches(cache.images, indices, batch_size=settings["batch_size"], seed=seed, **options)

    raw = Phase("raw", 1, pairs(split.train), validation=pairs(split.validation, training=False))
    validation = pairs(split.validation, noise=noise, training=False)
    noisy = Phase("noisy", settings["epochs"] - 1, pairs(split.train, noise=noise), validation=validation)
    steps = len(raw.training) * settings["epochs"]
    compile_model(
        model, settings["loss"], learning_rate=settings["learning_rate"], decay_steps=steps, jit=execution.jit
    )
    with tempfile.TemporaryDirectory() as folder:
        model, _ = fit(model, [raw, noisy], folder, digest="trial")
    return model, steps


def measure(run, out, *, epochs=6):
    """Write the table of variants to the CSV file `out`, and its record to a JSON file of the same name."""
    run, out = Path(run), Path(out)
    state = checkout_state()  # before the trainings, because the checkout may change meanwhile
    settings = yaml.safe_load((run / "parameters" / "04_autoencoder.yaml").read_text(encoding="utf-8"))
    settings |= {"loss": "mean_absolute_error", "epochs": epochs}
    seed = settings["seed"]
    cache = open_cache(run / "data" / "cache")
    noise = NoiseModel.read(run / "calibrated_noise.json")
    classifier = load_model(run / "models" / "classifier.keras", made_by="notebooks/03_classifier.ipynb")
    rows = paper_split(cache.labels).validation
    clean = to_float(cache.images[rows])
    noisy = noise.apply(cache.images[rows], seed, rows)

    def right(images):
        return predict_classes(classifier, images) == cache.labels[rows]

    def score(change):
        model, steps = train(cache, noise, seed, settings | change)
        denoised = model.predict(noisy, batch_size=64, verbose=0)
        return {
            "Parameters": model.count_params(),
            "Epochs": (settings | change)["epochs"],
            "Steps": steps,
            "PSNR, dB": float(psnr(clean, denoised).mean()),
            "Accuracy, denoised": float(right(denoised).mean()),
            "Accuracy, denoised clean": float(right(model.predict(clean, batch_size=64, verbose=0)).mean()),
        }

    on_clean, on_noisy = accuracy_interval(right(clean)), accuracy_interval(right(noisy))
    inputs = {
        "code": [code_digest("results.quality"), file_fingerprint(__file__)],
        "classifier": weights_digest(classifier),
        "noise": noise,
        "data": cache.info["sha256"],
        "precision": choose_execution().precision,
        "settings": {name: value for name, value in settings.items() if name not in ("run_dir", "profile")},
    }

    def kept_or_scored(name, change):
        digest = settings_digest("autoencoder", **inputs, change=change)
        kept = run / "checkpoints" / "autoencoder_trials" / f"{digest[:10]}.json"
        if not kept.is_file():
            print(f"training the variant: {name}", flush=True)
            write_json(kept, score(change))
        return json.loads(kept.read_text(encoding="utf-8"))

    table = []
    for (name, changed), change in variants(settings, epochs).items():
        row = kept_or_scored(name, change)
        row["Recovery"] = (row["Accuracy, denoised"] - on_noisy.value) / (on_clean.value - on_noisy.value)
        table.append({"Variant": name, "Changed": changed} | row)
    with written_aside(out) as temporary:
        pd.DataFrame(table).to_csv(temporary, index=False, float_format="%.4g", lineterminator="\n")
    write_json(out.with_suffix(".json"), _record(run, cache, noise, rows, (on_clean, on_noisy), settings, state))


def _record(run, cache, noise, rows, accuracies, settings, state):
    trained = load_records(run)["classifier"]
    commit, dirty = state
    on_clean, on_noisy = accuracies
    return {
        "images": f"{len(rows):,} validation images of {cache.image_size} px",
        "training images": len(paper_split(cache.labels).train),
        "accuracy, clean": on_clean.value,
        "accuracy, noisy": on_noisy.value,
        "uncertainty of an accuracy": (on_clean.high - on_clean.low) / 2,
        "data": cache.info["standin"] or cache.info["source"],
        "sha256 of the data": cache.info["sha256"],
        "noise model": asdict(noise),
        "profile": trained["profile"],
        "epochs": f"{settings['epochs']} of {settings['raw_epochs'] + settings['noisy_epochs']}",
        "commit": commit,
        "dirty": dirty,
        "commit of the classifier": trained["commit"],
        "uncommitted changes at the classifier": trained["dirty"],
        "seed": settings["seed"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare variants of a run's autoencoder.")
    parser.add_argument("run", help="folder of a finished run, such as runs/half-standin")
    parser.add_argument("out", help="CSV file of the table; the record is the JSON file of the same name")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of most variants, the first on raw images")
    given = parser.parse_args()
    measure(given.run, given.out, epochs=given.epochs)
