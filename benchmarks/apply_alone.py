"""Apply two untrained networks to a file of images in a process of its own; print the peak memory in MB.

Usage: python benchmarks/apply_alone.py FILE OUT SIDE [--small]
"""

import sys

import numpy as np
from measuring import SEED, peak_memory

from galaxynb.apply.measures import measure_small, training_ranges
from galaxynb.apply.networks import Networks
from galaxynb.apply.run import apply_images
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.classifier import build_classifier
from galaxynb.noise import NoiseModel


def untrained_networks(side, small):
    """Return networks whose answers mean nothing, but which take as long as trained ones."""
    if small:
        from bare import small_classifier

        classifier = small_classifier(side)
    else:
        classifier = build_classifier(side, seed=SEED)
    random = measure_small(np.random.default_rng(SEED).random((8, side, side, 3), np.float32))
    return Networks(
        classifier=classifier,
        autoencoder=build_autoencoder(side, seed=SEED),
        noise=NoiseModel(),
        measures={"ranges": training_ranges(random), "noise": {"clean": 0.0, "noisy": 0.0}},
        kind="standin",
        trained_on="nothing",
        digest="untrained",
    )


def main(path, out, side, small):
    apply_images(path, out, untrained_networks(side, small), progress=False)
    print(peak_memory())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), "--small" in sys.argv)
