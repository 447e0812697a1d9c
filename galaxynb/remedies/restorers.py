"""Remedies that restore images with a network: the paper's autoencoder, and networks that may do better."""

import keras
import numpy as np

from galaxynb.images import to_float, turn
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.restorers import build_nafnet, build_unet
from galaxynb.networks.training import Phase
from galaxynb.remedies.remedy import PAIRS, Remedy, run_network
from galaxynb.remedies.stars import measure_stars
from galaxynb.remedies.training import CustomBatches, custom_phase, fit_phases, restorer_phase

__all__ = ["Autoencoder", "CatalogueStars", "FeatureUNet", "NAFNet", "Noise2Noise", "UNet"]


_FEATURE_SHARE = 0.3  # share of the epochs that train with the classifier's features

_FEATURE_BATCH = 16  # images per step through the classifier, which is slow in smaller batches

_FEATURE_WEIGHT = 0.05  # weight of the loss of features, beside that of pixels


class _Network(Remedy):
    """A remedy whose ``_network`` restores images."""

    learns_from = PAIRS

    def restore(self, images):
        """Return restored images: ndarray of float32, shape (N, H, H, 3)."""
        return run_network(self._network, images)

    def _train(self, given, model, phase):
        """Train a network on one phase, and keep it."""
        options = {"loss": "mean_absolute_error", "rate": given.training.restorer_rate}
        self._keep(*fit_phases(given, model, [phase], **options))

    def _keep(self, network, seconds, devices=()):
        self._network, self.seconds, self.devices = network, seconds, devices
        self.parameters = network.count_params()


class Autoencoder(_Network):
    """The paper's remedy: the autoencoder of the study, as notebook 04 trained it."""

    name, title, family = "autoencoder", "The paper's autoencoder", "The paper"

    def fit(self, given):
        """Take the trained autoencoder."""
        given.needs(PAIRS)
        self._keep(given.autoencoder, None)  # notebook 04 records its time


class UNet(_Network):
    """A U-Net of residual blocks, trained on clean-noisy pairs with the mean absolute error."""

    name, title, family = "unet", "Residual U-Net", "Other networks"
    _build = staticmethod(build_unet)

    def fit(self, given):
        """Train the network."""
        model = self._build(given.side, seed=given.seed, precision=given.execution.precision)
        phase = restorer_phase(given, "noisy", epochs=given.training.restorer_epochs, noise=given.noise)
        self._train(given, model, phase)


class NAFNet(UNet):
    """A light NAFNet, trained like the U-Net."""

    name, title = "nafnet", "NAFNet, light"
    _build = staticmethod(build_nafnet)


class Noise2Noise(_Network):
    """The U-Net without clean targets: input and target are the same galaxy with independent noise.

    It needs clean images all the same, because the study makes both noisy versions from them, anew in each epoch.

    The prediction that minimizes the mean absolute error is the median of the noisy targets. A star covers a given
    pixel in fewer than half of them, so the median is close to the clean pixel. The mean would include starlight.
    """

    name, title, family = "noise2noise", "U-Net, Noise2Noise", "Other networks"

    def fit(self, given):
        """Train the network on pairs of noisy images."""
        images, noise, seed = given.pairs()[0], given.noise, given.seed

        def pair(rows, orientations, epoch):
            turned = turn(images[rows], orientations)
            # Each epoch takes two of the epochs of the noise: one for the inputs, one for the targets.
            return tuple(noise.apply(turned, seed, rows, epoch=2 * epoch + half) for half in (0, 1))

        model = build_unet(given.side, seed=seed, precision=given.execution.precision)
        self._train(given, model, custom_phase(given, pair))


class FeatureUNet(_Network):
    """The U-Net with a second loss: features of the frozen classifier must agree for restored and clean images.

    The features are the means over the image of the last layer before the classes. The last part of the epochs trains
    with this loss; the first part trains on pixels only, because each step through the classifier takes much longer.
    """

    name, title, family = "unet-features", "U-Net, classifier's features", "Other networks"

    def fit(self, given):
        """Train the network on pixels, then on pixels and features."""
        training, precision = given.training, given.execution.precision
        epochs = max(1, round(_FEATURE_SHARE * training.restorer_epochs))
        pixels = max(1, training.restorer_epochs - epochs)
        unet = build_unet(given.side, seed=given.seed, precision=precision)
        first = restorer_phase(given, "pixels", epochs=pixels, noise=given.noise)
        options = {"loss": "mean_absolute_error", "rate": training.restorer_rate}
        unet, seconds, devices = fit_phases(given, unet, [first], **options, label="pixels")
        frozen = keras.models.clone_model(given.classifier)
        frozen.set_weights(given.classifier.get_weights())
        features = keras.Model(frozen.input, frozen.layers[-2].output, name="features")
        features.trainable = False
        ordered = np.sort(given.split.train)
        wanted = run_network(features, to_float(given.images[ordered]))
        # The scale is the weight of the features, relative to their scatter over the images.
        scale = _FEATURE_WEIGHT / (float(wanted.std()) or 1.0)
        restored = unet(unet.input)
        seen = keras.layers.Rescaling(scale, name="scaled")(features(restored))
        both = keras.Model(unet.input, {"pixels": restored, "seen": seen})
        images, noise, seed = given.pairs()[0], given.noise, given.seed

        def triple(rows, _, epoch):
            raw = images[rows]
            noisy = noise.apply(raw, seed, rows, epoch=pixels + epoch)
            return noisy, {"pixels": to_float(raw), "seen": wanted[np.searchsorted(ordered, rows)] * scale}

        batches = CustomBatches(triple, given.split.train, batch_size=_FEATURE_BATCH, seed=seed)
        few = CustomBatches(triple, given.split.train[:64], batch_size=64, seed=seed)
        phase = Phase("features", epochs, batches, validation=few)
        # The network is good by now, so a lower rate refines it.
        options = {"loss": dict.fromkeys(("pixels", "seen"), "mean_absolute_error"), "rate": training.restorer_rate / 4}
        _, more, others = fit_phases(given, both, [phase], **options, label="features")
        self._keep(unet, seconds + more, tuple(dict.fromkeys([*devices, *others])))


class CatalogueStars(_Network):
    """An autoencoder trained on stars like those of the images, but tested on the paper's stars.

    Number, brightness, colour and width of compact sources are measured by photutils in clean training images. The
    training then adds stars drawn from this catalogue, as the paper suggests.
    """

    name, title, family = "catalogue-stars", "Autoencoder, catalogue stars", "Realistic stars"

    def fit(self, given):
        """Measure stars, then train the network on them."""
        images, rows = given.pairs()
        noise = measure_stars(images, rows, like=given.noise)
        self.chosen = {"stars measured": len(noise.fluxes), "median FWHM, px": round(noise.median_fwhm, 2)}
        seed = given.seed

        def pair(rows, orientations, epoch):
            turned = turn(images[rows], orientations)
            return noise.apply(turned, seed, rows, epoch=epoch), to_float(turned)

        model = build_autoencoder(given.side, depth=6, seed=seed, precision=given.execution.precision)
        self._train(given, model, custom_phase(given, pair))
