"""Remedies at test time: the classifier stays as it is, except for the statistics of its batch normalization."""

import keras
import numpy as np

from galaxynb.images import turn
from galaxynb.remedies.remedy import NOISY, NOTHING, PAIRS, Remedy, run_network

__all__ = [
    "AdaptedBehindAutoencoder",
    "AdaptedClassifier",
    "InTrainingMode",
    "SymmetryAverage",
    "Unchanged",
    "reestimate",
]


_BATCH = 100  # images whose statistics are computed at once


class Unchanged(Remedy):
    """No remedy: the classifier, trained on clean images, classifies noisy ones."""

    name, title, family = "nothing", "Nothing", "Nothing"

    def restore(self, images):
        """Return the images as they are."""
        return images


class SymmetryAverage(Remedy):
    """The mean of the probabilities over the eight symmetries of the square."""

    name, title, family, learns_from = "symmetries", "Average over symmetries", "Test time", NOTHING

    def fit(self, given):
        """Keep the classifier."""
        self._classifier = given.classifier

    def classify(self, images):
        """Return mean probabilities: ndarray of float32, shape (N, 10)."""
        turned = (turn(images, np.full(len(images), number)) for number in range(8))
        return np.mean([run_network(self._classifier, one) for one in turned], axis=0)


class InTrainingMode(keras.Model):
    """A classifier that predicts with the statistics of each batch, and updates its moving averages.

    Parameters
    ----------
    classifier : keras.Model
        A classifier with batch normalization.
    """

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def call(self, images):
        """Return the probabilities of a batch."""
        return self.classifier(images, training=True)


def reestimate(classifier, images, *, network=None):
    """Give the batch normalization of a classifier the statistics of other images, in place.

    The weights are not trained. Each moving average becomes the mean over the batches of `images`. The statistics of a
    layer depend on those of the layers before it, so one pass through the network sets them all (Schneider et al.
    2020, arXiv:2006.16971).

    Parameters
    ----------
    classifier : keras.Model
        A classifier with batch normalization.
    images : ndarray of float32, shape (N, H, H, 3)
        Unlabelled images, in [0, 1]; N is 2 or more.
    network : InTrainingMode, optional
        The classifier in training mode. Give the same one to several calls, so that it is compiled only once.

    Raises
    ------
    ValueError
        If there are fewer than two images, which have no variance.
    """
    if len(images) < 2:
        raise ValueError(f"images holds {len(images)} image, but 2 or more are needed for a variance: give more")
    layers = [layer for layer in classifier.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [layer.momentum for layer in layers]
    network = network or InTrainingMode(classifier)
    averages = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    # Parts of almost equal size: a last batch of one image would have no variance.
    parts = np.array_split(images, max(1, round(len(images) / _BATCH)))
    found = []
    try:
        for layer in layers:
            layer.momentum = 0  # each batch replaces the moving averages
        for part in parts:
            network.predict_on_batch(part)
            found.append([keras.ops.convert_to_numpy(variable) for variable in averages])
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
    for variable, values in zip(averages, zip(*found, strict=True), strict=True):
        variable.assign(np.mean(values, axis=0))


class AdaptedClassifier(Remedy):
    """The classifier, with batch-normalization statistics from unlabelled images with the same damage."""

    family, learns_from = "Test time", NOISY

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.name, self.title = f"batchnorm-{number}", f"Batch norm., {number} images"

    def fit(self, given):
        """Adapt to noisy training images."""
        self._weights = given.classifier.get_weights()
        # One copy for all adaptations: each new model would be compiled again.
        self._adapted = keras.models.clone_model(given.classifier)
        self._network = InTrainingMode(self._adapted)
        self.adapt(given.noisy_images(self.number))

    def adapt(self, images):
        """Adapt to the first images of `images`."""
        self._adapted.set_weights(self._weights)
        reestimate(self._adapted, images[: self.number], network=self._network)

    def classify(self, images):
        """Return the probabilities of the adapted classifier: ndarray of float32, shape (N, 10)."""
        return run_network(self._adapted, images)


class AdaptedBehindAutoencoder(AdaptedClassifier):
    """The classifier, with batch-normalization statistics from images that the autoencoder has denoised."""

    learns_from = PAIRS

    def __init__(self, number):
        super().__init__(number)
        self.name, self.title = f"autoencoder-batchnorm-{number}", f"Autoencoder, then batch norm., {number} images"

    def fit(self, given):
        """Adapt to denoised noisy training images."""
        self._autoencoder = given.autoencoder
        self.parameters = given.autoencoder.count_params()
        super().fit(given)

    def adapt(self, images):
        """Adapt to the first images of `images`, after denoising."""
        super().adapt(run_network(self._autoencoder, images[: self.number]))

    def classify(self, images):
        """Return the probabilities of the adapted classifier for denoised images."""
        return super().classify(run_network(self._autoencoder, images))
