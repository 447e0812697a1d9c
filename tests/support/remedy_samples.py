"""A tiny study for tests of remedies: ten classes of colour, a small classifier, a small autoencoder."""

import dataclasses
import functools

import keras
import numpy as np

from galaxynb.compute import choose_execution
from galaxynb.data.splits import paper_split
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.noise import NoiseModel
from galaxynb.remedies.remedy import LABELS, Given, Training

SIDE, NUMBER, SEED = 32, 120, 5
NOISE = NoiseModel(sigma=0.05, n_stars=(3, 6))


@functools.cache
def sample_images():
    """Return images whose colour names their class, and the classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(NUMBER) % 10
    colours = np.random.default_rng(1).integers(40, 200, (10, 3))
    images = colours[labels][:, None, None, :] + rng.integers(-9, 10, (NUMBER, SIDE, SIDE, 3))
    return images.astype(np.uint8), labels


@functools.cache
def sample_classifier():
    """Return a trained classifier with batch normalization, whose last layers are a mean and the classes."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    shown = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, strides=4, name="conv")(shown)
    x = layers.ReLU()(layers.BatchNormalization(name="norm", momentum=0.5)(x))
    classes = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(shown, classes)
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    images, labels = sample_images()
    model.fit(images / np.float32(255), labels, epochs=60, batch_size=40, verbose=0)
    return model


@functools.cache
def sample_autoencoder():
    """Return an untrained autoencoder."""
    return build_autoencoder(SIDE, filters=(4,), width=4, depth=1, seed=1)


def sample_given(learns_from=LABELS, **changes):
    """Return what a remedy is given of the tiny study, with one epoch for each training."""
    images, labels = sample_images()
    whole = Given(
        learns_from=learns_from,
        images=images,
        labels=labels,
        split=paper_split(labels),
        noise=NOISE,
        seed=SEED,
        classifier=sample_classifier(),
        autoencoder=sample_autoencoder(),
        execution=choose_execution(precision="float32", batches_on="host", jit="false"),
        training=Training(restorer_epochs=2, classifier_epochs=1, finetune_epochs=1, restorer_batch_size=32),
        digest="tests",
        log=lambda line: None,
    )
    return dataclasses.replace(whole, **changes)
