"""The two tiny trainings that `test_resume.py` kills, and the process that starts and kills them.

``python resume_driver.py classifier`` imports what the training needs, then forks a child for each line it reads:
a second or two a child, where importing TensorFlow would be several more. TensorFlow and jax start their threads at
the first operation, which is a child's, so that there is nothing yet which a fork could break.
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import keras
import numpy as np
import tensorflow  # noqa: F401 -- Keras imports it to save a model, whichever its backend: here, so not in each child

from galaxynb.compute import choose_execution
from galaxynb.networks import training
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.batches import ClassifierBatches, DenoisingBatches
from galaxynb.networks.models import compile_model
from galaxynb.networks.training import Phase, fit
from galaxynb.noise import NoiseModel


def telling(kind, tell):
    """Return a kind of data set that tells which epoch and batch training is at."""

    class Telling(kind):
        def set_epoch(self, epoch):
            super().set_epoch(epoch)
            if epoch:
                tell(f"epoch {epoch}")

        def __getitem__(self, number):
            if self.epoch:  # validation stays in epoch 0
                tell(f"batch {self.epoch}.{number}")
            return super().__getitem__(number)

    return Telling


def random_images(n):
    return np.random.default_rng(5).integers(0, 256, (n, 32, 32, 3), np.uint8)


def classifier(tell):
    """Augmentation, moving averages and early stopping: the validation's labels are the other of two classes.

    Its loss falls while the network learns that there are but two, and rises when it learns which.
    """
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(8, 5, strides=4, use_bias=False),
            layers.BatchNormalization(momentum=0.5),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    compile_model(
        model, "sparse_categorical_crossentropy", learning_rate=2e-3, metrics=["accuracy"], jit=choose_execution().jit
    )
    data, images = telling(ClassifierBatches, tell), random_images(20)
    labels = np.random.default_rng(6).integers(0, 2, len(images))
    batches = data(images, labels, np.arange(20), batch_size=8, seed=7)
    validation = data(images, 1 - labels, np.arange(20), batch_size=8, seed=7, training=False)
    return model, [Phase("only", 12, batches, validation=validation)], {"patience": 3}


def autoencoder(tell):
    """Two phases, noise in the second one, and a learning rate that decays through both."""
    model = build_autoencoder(32, filters=(4,), depth=0, seed=3)
    compile_model(model, "mse", learning_rate=0.01, decay_steps=6 * 3, jit=choose_execution().jit)
    data, images = telling(DenoisingBatches, tell), random_images(24)
    phases = []
    for name, noise in (("raw", None), ("noisy", NoiseModel(n_stars=(1, 3)))):
        batches = data(images, np.arange(20), batch_size=8, seed=7, noise=noise, augment=True)
        validation = data(images, np.arange(20, 24), batch_size=8, seed=7, noise=noise, training=False)
        phases.append(Phase(name, 3, batches, validation=validation))
    return model, phases, {}


def train(build, folder, result, tell):
    """Train or go on in `folder`, telling each step, and write what comes out to `result`."""
    save = training.save_model

    def telling_save(model, path):
        tell(f"save {int(path.stem.removeprefix('epoch-'))}")
        save(model, path)

    training.save_model = telling_save
    tell("start")
    model, phases, options = build(tell)
    model, history = fit(model, phases, folder, digest="recipe", log=lambda line: tell(f"said {line}"), **options)
    variables = [*model.weights, *model.optimizer.variables]
    rows = history.drop(columns="seconds").to_dict("records")
    np.savez(result, *map(keras.ops.convert_to_numpy, variables), history=json.dumps(rows))
    tell("over")


def attempt(build, folder, result, kill):
    """Train in a child; return its exit status and what it told, with the second it told it.

    `kill` is None, or has ``at``, of which the first thing told sets the clock, and ``after``: SIGKILL follows that
    many seconds later, wherever the child then is. If ``after`` is None, the child waits for it where it is.
    """
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("another thread runs already: a fork may leave a lock locked for ever")
    ear, mouth = os.pipe()
    leash, hand = os.pipe()

    def wait():
        os.read(leash, 1)  # returns where the other end is gone: no child outlives who should have killed it

    def tell(what):
        os.write(mouth, (json.dumps([what, time.monotonic()]) + "\n").encode())
        if kill and kill["after"] is None and what in kill["at"]:
            wait()

    child = os.fork()
    if child == 0:
        os.close(ear)
        os.close(hand)
        signal.alarm(300)
        try:
            train(build, folder, result, tell)
            if kill:
                wait()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(mouth)
    os.close(leash)
    told = []
    with os.fdopen(ear, encoding="utf-8") as lines:
        for line in lines:
            told.append(json.loads(line))
            what, when = told[-1]
            if kill and what in kill["at"]:
                time.sleep(max(when + (kill["after"] or 0) - time.monotonic(), 0))
                os.kill(child, signal.SIGKILL)
                kill = None
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(hand)
    return {"status": status, "told": told}


if __name__ == "__main__":
    chosen = {"classifier": classifier, "autoencoder": autoencoder}[sys.argv[1]]
    for request in sys.stdin:
        print(json.dumps(attempt(chosen, **json.loads(request))), flush=True)
