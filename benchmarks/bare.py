"""Train and predict as the study does, but only with plain `fit` and `predict` on arrays in memory.

Usage: python benchmarks/bare.py classifier|autoencoder|evaluation PROFILE.yaml CACHE_FOLDER OUT_FOLDER
       python benchmarks/bare.py first-step SIDE BATCH [--small]

Networks, epochs, batch sizes, losses, noise, split and precision are those of the study on this machine. This script
writes no checkpoints, records, tables or figures. It does not stop early and does not turn images.
It saves each network as one file, because the next stage loads it.
"""

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from galaxynb.compute import choose_execution, in_precision

STAGES = ("classifier", "autoencoder", "evaluation")


def first_step(side, batch, small):
    """Build and compile DenseNet121 and train it one step on random images."""
    model = small_classifier(side) if small else densenet121(side)
    # Keras compiles with XLA by default, which would make the first step even slower on a CPU.
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    rng = np.random.default_rng(0)
    images = rng.random((batch, side, side, 3), dtype=np.float32)

    def report(batch, logs):
        print("first step done", time.time(), flush=True)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=report)
    model.fit(images, rng.integers(10, size=batch), batch_size=batch, verbose=0, callbacks=[callback])


def densenet121(side):
    options = {"include_top": False, "weights": None, "input_shape": (side, side, 3), "pooling": "avg"}
    with in_precision(choose_execution().precision):
        base = keras.applications.DenseNet121(**options)
    return keras.Model(base.input, keras.layers.Dense(10, activation="softmax", dtype="float32")(base.output))


def small_classifier(side):
    """Build a tiny network that compiles immediately, for the tests of the benchmarks."""
    layers = [keras.Input((side, side, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, "softmax")]
    return keras.Sequential(layers)


class Noisy(keras.utils.PyDataset):
    """Make batches of (noisy, raw) images from arrays in memory."""

    def __init__(self, images, rows, batch_size, seed, noise):
        super().__init__()
        self.images, self.rows, self.batch_size, self.seed, self.noise = images, rows, batch_size, seed, noise
        self.epoch = 0

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, number):
        part = slice(number * self.batch_size, (number + 1) * self.batch_size)
        return self.noise.apply(self.images[part], self.seed, self.rows[part], epoch=self.epoch), self.images[part]

    def on_epoch_end(self):
        self.epoch += 1


def classifier(settings, images, labels, split, _, out):
    from galaxynb.networks.classifier import build_classifier
    from galaxynb.networks.models import compile_model

    chosen, precision = settings["classifier"], choose_execution().precision
    model = build_classifier(
        images.shape[1],
        weights=chosen["weights"],
        bn_momentum=chosen["bn_momentum"],
        seed=settings["seed"],
        precision=precision,
    )
    steps = -(-len(split.train) // chosen["batch_size"]) * chosen["epochs"]
    compile_model(
        model,
        "sparse_categorical_crossentropy",
        learning_rate=chosen["learning_rate"],
        decay_steps=steps if chosen["cosine_decay"] else None,
        metrics=["accuracy"],
        run_eagerly=chosen.get("run_eagerly", False),
    )
    train, validation = ((images[rows], labels[rows]) for rows in (split.train, split.validation))
    model.fit(*train, chosen["batch_size"], chosen["epochs"], validation_data=validation, verbose=0)
    model.save(out / "classifier.keras")


def autoencoder(settings, images, _, split, noise, out):
    from galaxynb.networks.autoencoder import build_autoencoder
    from galaxynb.networks.models import compile_model

    chosen, seed, precision = settings["autoencoder"], settings["seed"], choose_execution().precision
    model = build_autoencoder(
        images.shape[1],
        filters=chosen["filters"],
        width=chosen["width"],
        depth=chosen["depth"],
        dilations=chosen["dilations"],
        seed=seed,
        precision=precision,
    )
    batch, raw_epochs, noisy_epochs = (chosen[name] for name in ("batch_size", "raw_epochs", "noisy_epochs"))
    steps = -(-len(split.train) // batch) * (raw_epochs + noisy_epochs)
    compile_model(
        model,
        "mean_absolute_error",
        learning_rate=chosen["learning_rate"],
        decay_steps=steps if chosen["cosine_decay"] else None,
    )
    train, validation = images[split.train], images[split.validation]
    model.fit(train, train, batch, raw_epochs, validation_data=(validation, validation), verbose=0)
    noisy = Noisy(train, split.train, batch, seed, noise)
    against = (noise.apply(validation, seed, split.validation), validation)
    model.fit(noisy, epochs=noisy_epochs, validation_data=against, verbose=0)
    model.save(out / "autoencoder.keras")


def calibrated(settings, images, labels, split, noise, out):
    """Return the noise of the strength that costs the paper's share of the accuracy, and write it to a file."""
    from galaxynb.networks.calibration import calibrate_strength
    from galaxynb.networks.models import predict_classes
    from galaxynb.results.paper import paper_summary

    network, paper = keras.models.load_model(out / "classifier.keras"), paper_summary()
    options = {"labels": labels, "indices": split.validation, "seed": settings["seed"]}
    options["kept_share"] = paper["noisy"] / paper["clean"]
    found = calibrate_strength(noise, partial(predict_classes, network), images, **options).noise
    found.write(out / "calibrated_noise.json")
    return found


def evaluation(settings, images, _, split, noise, out):
    from galaxynb.networks.models import in_float32

    kept = {name: keras.models.load_model(out / f"{name}.keras") for name in ("classifier", "autoencoder")}
    networks = {name: in_float32(model) for name, model in kept.items()}
    clean, test = images[split.test], split.test
    noisy = noise.apply(clean, settings["seed"], test)
    versions = [clean, noisy]
    versions += [networks["autoencoder"].predict(version, batch_size=64, verbose=0) for version in (noisy, clean)]
    steps = (replace(noise, sigma=0), replace(noise, n_stars=(0, 0)))
    versions += [step.apply(clean, settings["seed"], test) for step in steps]
    for version in versions:
        networks["classifier"].predict(version, batch_size=64, verbose=0)


def main(stage, profile, cache, out):
    import yaml

    from galaxynb.data.splits import paper_split
    from galaxynb.noise import NoiseModel

    settings = yaml.safe_load(Path(profile).read_text(encoding="utf-8"))
    cache, out = Path(cache), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    images = np.load(cache / "images.npy") / np.float32(255)
    labels = np.load(cache / "labels.npy")
    split = paper_split(labels)
    noise, calibrate = NoiseModel.from_profile(settings["noise"])
    if calibrate and stage == "autoencoder":
        noise = calibrated(settings, images, labels, split, noise, out)
    elif calibrate and stage == "evaluation":
        noise = NoiseModel.read(out / "calibrated_noise.json")
    stages = {"classifier": classifier, "autoencoder": autoencoder, "evaluation": evaluation}
    stages[stage](settings, images, labels, split, noise, out)


if __name__ == "__main__":
    if sys.argv[1] == "first-step":
        first_step(int(sys.argv[2]), int(sys.argv[3]), small="--small" in sys.argv)
    else:
        main(*sys.argv[1:])
