"""Compare variants of a run's autoencoder, trained for half its epochs. Notebook 04 shows the record.

Usage: python workflow/reference/autoencoder_trials.py runs/quick-standin book/reference/autoencoder_trials.csv

Variants are scored on validation images, so that the test images have no part in the choice.
"""

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import yaml

from galaxynb.compute import choose_execution
from galaxynb.data.cache import open_cache
from galaxynb.data.splits import paper_split
from galaxynb.files import write_json, written_aside
from galaxynb.images import to_float
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.batches import DenoisingBatches
from galaxynb.networks.models import compile_model, load_model, predict_classes
from galaxynb.networks.training import Phase, fit
from galaxynb.noise import NoiseModel
from galaxynb.provenance import load_records
from galaxynb.results.quality import psnr

#: Settings that each variant changes. Each changes only one, so that its effect can be seen.
VARIANTS = {
    "as chosen": {},
    "squared error": {"loss": "mean_squared_error"},
    "twice the batch": {"batch_size": 16},
    "no dilation": {"dilations": [1]},
    "twice the depth": {"depth": 6},
    "twice the width": {"width": 96},
    "two halvings": {"filters": [32, 48]},
    "the paper's rate": {"learning_rate": 0.001},
}


def train(cache, noise, seed, settings):
    """Train one variant from scratch. Return the model and its number of training steps."""
    split, execution = paper_split(cache.labels), choose_execution()
    sizes = {name: settings[name] for name in ("filters", "width", "depth", "dilations")}
    model = build_autoencoder(cache.image_size, **sizes, seed=seed, precision=execution.precision)

    def pairs(indices, **options):
        return DenoisingBatches(cache.images, indices, batch_size=settings["batch_size"], seed=seed, **options)

    raw = Phase("raw", 1, pairs(split.train), validation=pairs(split.validation, training=False))
    noisy_epochs = settings["noisy_epochs"] // 2
    validation = pairs(split.validation, noise=noise, training=False)
    noisy = Phase("noisy", noisy_epochs, pairs(split.train, noise=noise), validation=validation)
    steps = len(raw.training) * (1 + noisy_epochs)
    compile_model(
        model, settings["loss"], learning_rate=settings["learning_rate"], decay_steps=steps, jit=execution.jit
    )
    with tempfile.TemporaryDirectory() as folder:
        model, _ = fit(model, [raw, noisy], folder, digest="trial")
    return model, steps


def measure(run, out):
    """Write the table of variants to the CSV file `out`, and its record to a JSON file of the same name."""
    run, out = Path(run), Path(out)
    settings = yaml.safe_load((run / "parameters" / "04_autoencoder.yaml").read_text(encoding="utf-8"))
    settings["loss"] = "mean_absolute_error"
    seed = settings["seed"]
    cache = open_cache(run / "data" / "cache")
    noise = NoiseModel.read(run / "calibrated_noise.json")
    classifier = load_model(run / "models" / "classifier.keras", made_by="notebooks/03_classifier.ipynb")
    rows = paper_split(cache.labels).validation
    clean = to_float(cache.images[rows])
    noisy = noise.apply(cache.images[rows], seed, rows)

    def accuracy(images):
        return float((predict_classes(classifier, images) == cache.labels[rows]).mean())

    on_clean, on_noisy = accuracy(clean), accuracy(noisy)
    table = []
    for name, change in VARIANTS.items():
        print(f"training the variant: {name}", flush=True)
        model, steps = train(cache, noise, seed, settings | change)
        denoised = model.predict(noisy, batch_size=64, verbose=0)
        restored = accuracy(denoised)
        table.append(
            {
                "Variant": name,
                "Parameters": model.count_params(),
                "Steps": steps,
                "PSNR, dB": psnr(clean, denoised).mean(),
                "Accuracy, denoised": restored,
                "Recovery": (restored - on_noisy) / (on_clean - on_noisy),
                "Accuracy, denoised clean": accuracy(model.predict(clean, batch_size=64, verbose=0)),
            }
        )
    with written_aside(out) as temporary:
        pd.DataFrame(table).to_csv(temporary, index=False, float_format="%.3f", lineterminator="\n")
    trained = load_records(run)["classifier"]
    record = {
        "images": f"{len(rows)} validation images of {cache.image_size} px",
        "accuracy, clean": on_clean,
        "accuracy, noisy": on_noisy,
        "data": cache.info["standin"] or cache.info["source"],
        "sha256 of the data": cache.info["sha256"],
        "noise model": asdict(noise),
        "profile": f"{trained['profile']}, half its epochs",
        "commit of the classifier": trained["commit"],
        "uncommitted changes at the classifier": trained["dirty"],
        "seed": seed,
    }
    write_json(out.with_suffix(".json"), record)


if __name__ == "__main__":
    measure(sys.argv[1], sys.argv[2])
