"""Remedies that train the classifier itself: on noisy images, on restored ones, or on both."""

import keras
import numpy as np

from galaxynb.images import to_float, turn
from galaxynb.networks.classifier import build_classifier
from galaxynb.networks.training import Phase
from galaxynb.remedies.remedy import LABELS, Remedy, run_network
from galaxynb.remedies.training import CustomBatches, fit_phases

__all__ = ["BothTrained", "FinetunedOnClean", "FinetunedOnRestored", "HalfNoisy", "TrainedOnNoisy"]


class _Judge(Remedy):
    """A classifier trained on noisy images."""

    family, learns_from = "Retrained classifier", LABELS
    #: Share of the training images that get noise.
    noisy_share = 1.0
    #: Whether images pass through the autoencoder before they are classified.
    behind_autoencoder = False
    #: Whether they do so in training too.
    trained_behind = True

    def classify(self, images):
        """Return the probabilities of the trained classifier: ndarray of float32, shape (N, 10)."""
        seen = run_network(self._autoencoder, images) if self.behind_autoencoder else images
        return run_network(self._classifier, seen)

    def _train(self, given, model, *, epochs, rate):
        """Train `model` and keep it."""
        labels, images, noise, seed = given.training_labels(), given.images, given.noise, given.seed
        self._autoencoder = given.autoencoder

        def pair(rows, orientations, epoch):
            turned = turn(images[rows], orientations)
            given_noise = np.random.default_rng([seed, epoch, int(rows[0])]).random(len(rows)) < self.noisy_share
            shown = to_float(turned)
            if given_noise.any():
                shown[given_noise] = noise.apply(turned[given_noise], seed, rows[given_noise], epoch=epoch)
            if self.behind_autoencoder and self.trained_behind:
                shown = np.asarray(self._autoencoder.predict_on_batch(shown))
            return shown, labels[rows]

        batches = CustomBatches(pair, given.split.train, batch_size=given.training.classifier_batch_size, seed=seed)
        validation = CustomBatches(
            lambda rows, _, __: pair(rows, np.zeros(len(rows), int), 0),
            given.split.validation,
            batch_size=64,
            seed=seed,
        )
        phase = Phase("classify", epochs, batches, validation=validation)
        options = {"loss": "sparse_categorical_crossentropy", "rate": rate, "metrics": ("accuracy",)}
        self._classifier, self.seconds, self.devices = fit_phases(given, model, [phase], **options)
        self.parameters = self._classifier.count_params()
        if self.behind_autoencoder:
            self.parameters += self._autoencoder.count_params()

    def _from_scratch(self, given):
        how = {"bn_momentum": given.training.bn_momentum, "seed": given.seed, "precision": given.execution.precision}
        model = build_classifier(given.side, **how)
        training = given.training
        self._train(given, model, epochs=training.classifier_epochs, rate=training.classifier_rate)


class TrainedOnNoisy(_Judge):
    """A classifier trained from scratch on noisy images only."""

    name, title = "noisy-classifier", "Trained on noisy"

    def fit(self, given):
        """Train the classifier."""
        self._from_scratch(given)


class HalfNoisy(_Judge):
    """A classifier trained from scratch on images of which half are noisy."""

    name, title, noisy_share = "half-noisy-classifier", "Trained on half noisy", 0.5

    def fit(self, given):
        """Train the classifier."""
        self._from_scratch(given)


class FinetunedOnRestored(_Judge):
    """The study's classifier, trained further on noisy images that the autoencoder has denoised."""

    name, title, behind_autoencoder = "finetuned-classifier", "Fine-tuned on denoised", True

    def fit(self, given):
        """Train the classifier further."""
        model = keras.models.clone_model(given.classifier)
        model.set_weights(given.classifier.get_weights())
        training = given.training
        self._train(given, model, epochs=training.finetune_epochs, rate=training.classifier_rate / 10)


class FinetunedOnClean(FinetunedOnRestored):
    """A control: the study's classifier, trained further on clean images only, but used on denoised ones.

    A gain that it shares with "Fine-tuned on denoised" comes from the longer training on turned images.
    """

    name, title = "clean-finetuned-classifier", "Fine-tuned on clean, denoised"
    noisy_share, trained_behind = 0.0, False


class BothTrained(_Judge):
    """A classifier trained from scratch on images of which half are noisy, all denoised."""

    name, title = "denoised-classifier", "Trained on half noisy, denoised"
    noisy_share, behind_autoencoder = 0.5, True

    def fit(self, given):
        """Train the classifier."""
        self._from_scratch(given)
