"""Two tiny trainings, and the process that starts and kills them for `test_resume.py`.

``python resume_driver.py classifier`` imports the modules of the training, then forks a child for each line that it
reads. A child takes a second or two; importing TensorFlow each time would take several more. TensorFlow and jax start
their threads at the first operation, in the child, so the fork is safe.
"""

import io
import json
import os
import signal
import sys
import time
import traceback
import types
from pathlib import Path

import keras
import numpy as np

from galaxynb.compute import choose_execution
from galaxynb.networks import checkpoints
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.batches import ClassifierBatches, DenoisingBatches
from galaxynb.networks.models import compile_model
from galaxynb.networks.training import Phase, fit
from galaxynb.noise import NoiseModel


def reporting(kind, report):
    """Return a subclass of the data set `kind` that reports each epoch and batch."""

    class Reporting(kind):
        def set_epoch(self, epoch):
            super().set_epoch(epoch)
            if epoch:
                report(f"epoch {epoch}")

        def __getitem__(self, number):
            if self.epoch:  # validation stays in epoch 0
                report(f"batch {self.epoch}.{number}")
            return super().__getitem__(number)

    return Reporting


def random_images(n):
    return np.random.default_rng(5).integers(0, 256, (n, 32, 32, 3), np.uint8)


def classifier(report):
    """Build a training with augmentation, moving averages and early stopping.

    There are two classes, which the labels of the validation exchange. So its loss falls while the network learns that
    there are only two classes, and rises when the network learns which is which.
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
    data, images = reporting(ClassifierBatches, report), random_images(20)
    labels = np.random.default_rng(6).integers(0, 2, len(images))
    batches = data(images, labels, np.arange(20), batch_size=8, seed=7)
    validation = data(images, 1 - labels, np.arange(20), batch_size=8, seed=7, training=False)
    return model, [Phase("only", 12, batches, validation=validation)], {"patience": 3}


def autoencoder(report):
    """Build a training with two phases, noise in the second, and a learning rate that decays through both."""
    model = build_autoencoder(32, filters=(4,), depth=0, seed=3)
    compile_model(model, "mse", learning_rate=0.01, decay_steps=6 * 3, jit=choose_execution().jit)
    data, images = reporting(DenoisingBatches, report), random_images(24)
    phases = []
    for name, noise in (("raw", None), ("noisy", NoiseModel(n_stars=(1, 3)))):
        batches = data(images, np.arange(20), batch_size=8, seed=7, noise=noise, augment=True)
        validation = data(images, np.arange(20, 24), batch_size=8, seed=7, noise=noise, training=False)
        phases.append(Phase(name, 3, batches, validation=validation))
    return model, phases, {}


def train(build, folder, result, report):
    """Train in `folder`, or resume there; report each step, and write history and variables to `result`."""

    def slow_savez(path, savez=np.savez, **arrays):
        """Write a checkpoint in two halves with a pause between them, which is long enough to be killed in."""
        whole = io.BytesIO()
        savez(whole, **arrays)
        with path.open("wb") as file:
            file.write(whole.getvalue()[: whole.tell() // 2])
            file.flush()
            report(f"save {path.name.split('.')[1]}")  # the name of a temporary file begins with a dot
            time.sleep(0.03)
            file.write(whole.getvalue()[whole.tell() // 2 :])

    checkpoints.np = types.SimpleNamespace(**vars(np) | {"savez": slow_savez})
    report("start")
    model, phases, options = build(report)
    model, history = fit(model, phases, folder, digest="recipe", log=lambda line: report(f"said {line}"), **options)
    variables = [*model.weights, *model.optimizer.variables]
    rows = history.drop(columns="seconds").to_dict("records")
    np.savez(result, *map(keras.ops.convert_to_numpy, variables), history=json.dumps(rows))
    report("over")


def attempt(build, folder, result, kill):
    """Train in a child process. Return its exit status, and the events that it reported with their times.

    `kill` is None or a dict. The first event in its list ``at`` starts a clock, and SIGKILL follows ``after`` seconds
    later. If ``after`` is None, the child waits at that event until it is killed.
    """
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("another thread is running, but a fork needs a process without: remove what started it")
    event_reader, event_writer = os.pipe()
    child_end, parent_end = os.pipe()

    def wait():
        os.read(child_end, 1)  # returns when the parent has ended, so no child outlives the process that should kill it

    def report(what):
        os.write(event_writer, (json.dumps([what, time.monotonic()]) + "\n").encode())
        if kill and kill["after"] is None and what in kill["at"]:
            wait()

    child = os.fork()
    if child == 0:
        os.close(event_reader)
        os.close(parent_end)
        signal.alarm(300)
        try:
            train(build, folder, result, report)
            if kill:
                wait()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(event_writer)
    os.close(child_end)
    events = []
    with os.fdopen(event_reader, encoding="utf-8") as lines:
        for line in lines:
            events.append(json.loads(line))
            what, when = events[-1]
            if kill and what in kill["at"]:
                time.sleep(max(when + (kill["after"] or 0) - time.monotonic(), 0))
                os.kill(child, signal.SIGKILL)
                kill = None
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(parent_end)
    return {"status": status, "events": events}


if __name__ == "__main__":
    chosen = {"classifier": classifier, "autoencoder": autoencoder}[sys.argv[1]]
    for request in sys.stdin:
        print(json.dumps(attempt(chosen, **json.loads(request))), flush=True)
