"""Train the classifier with `fit` in a process of its own; print the cost of the last epoch as JSON.

Usage: python benchmarks/fit_alone.py SIDE BATCH STEPS [--small]

The number of page faults depends on what the C library does with freed memory. The environment sets this when a process
starts. Images are random. For four training images, there is one validation image.
"""

import json
import sys
import tempfile

import numpy as np
from measuring import SEED, now, peak_memory

from galaxynb.compute import choose_execution
from galaxynb.networks.batches import ClassifierBatches
from galaxynb.networks.classifier import build_classifier
from galaxynb.networks.models import compile_model
from galaxynb.networks.training import Phase, fit


def main(side, batch, steps, small):
    count = batch * steps
    images = np.random.default_rng(SEED).integers(0, 256, (count + count // 4, side, side, 3), np.uint8)
    labels, rows = np.arange(len(images)) % 10, np.arange(len(images))
    train = ClassifierBatches(images, labels, rows[:count], batch_size=batch, seed=SEED)
    validation = ClassifierBatches(images, labels, rows[count:], batch_size=64, seed=SEED, training=False)
    if small:
        from bare import small_classifier

        model = small_classifier(side)
    else:
        model = build_classifier(side, bn_momentum=0.9, seed=SEED, precision=choose_execution().precision)
    compile_model(model, "sparse_categorical_crossentropy", metrics=["accuracy"])
    ends = []
    with tempfile.TemporaryDirectory() as folder:
        phase = Phase("measured", 3, train, validation=validation)
        fit(model, [phase], folder, digest="measured", log=lambda line: ends.append(now()))
    wall, user, system, faults = (later - earlier for later, earlier in zip(ends[-1], ends[-2], strict=True))
    print(json.dumps({"wall": wall, "user": user, "system": system, "faults": faults, "peak_mb": peak_memory()}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), small="--small" in sys.argv)
