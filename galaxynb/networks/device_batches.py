"""Training batches made on the networks' own device, so that a GPU never waits for the CPU.

The uint8 images are copied to the device once. A batch from the host is then a few bytes: the rows to take and how to
turn them. Taking, turning and noise are part of the training step.
"""

import keras
import numpy as np
from keras import ops

from galaxynb.networks.batches import ShuffledBatches

__all__ = [
    "DeviceFeed",
    "DeviceRows",
    "turn_on_device",
]


def turn_on_device(images, orientations):
    """Apply one symmetry of the square to each image: 0-3 quarter turns, 4-7 the same mirrored.

    Parameters
    ----------
    images : tensor, shape (N, H, H, C)
    orientations : tensor of int, shape (N,)
        0 to 7, as `galaxynb.networks.training` draws them.

    Returns
    -------
    tensor
        Of the shape and dtype of `images`.
    """
    quarter, mirrored = orientations % 4, orientations >= 4

    def where(mask, yes, no):
        return ops.where(ops.reshape(mask, (-1, 1, 1, 1)), yes, no)

    # A quarter turn is a transposition and a flip, a half turn two flips: three choices make all eight symmetries.
    images = where(quarter % 2 == 1, ops.flip(ops.transpose(images, (0, 2, 1, 3)), axis=1), images)
    images = where(quarter >= 2, ops.flip(images, axis=(1, 2)), images)
    return where(mirrored, ops.flip(images, axis=2), images)


class DeviceFeed:
    """What turns rows into training images on the device.

    Parameters
    ----------
    images : ndarray, shape (N, H, H, 3), uint8
        Copied to the device by `trainer`; N x H x H x 3 bytes.
    pairs : bool
        Whether the image is also the target, as for an autoencoder.
    noise : callable or None
        Puts noise on the input, such as a `galaxynb.networks.device_noise.DeviceNoise`.
    augment : bool
        Turn and mirror.
    seed : int
        Of the noise.
    """

    def __init__(self, images, *, pairs=False, noise=None, augment=False, seed=0):
        self.images = images
        self.pairs = pairs
        self.augment = augment
        self.seed = seed
        self.noise = noise
        self.generator = keras.random.SeedGenerator(0)
        self.set_epoch(0)

    def set_epoch(self, epoch):
        """Fix the noise of one epoch: it follows from the seed, the epoch and the batch's place in it."""
        state = np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0] >> 1  # fits every backend's integers
        self.generator.state.assign(np.array([state, 0]))

    def trainer(self, network):
        """Return a model that takes rows instead of images and trains `network` in place.

        Parameters
        ----------
        network : keras.Model
            Compiled.

        Returns
        -------
        keras.Model
            Compiled with the optimizer of `network` itself, so that saving `network` saves all there is.
        """
        trainer = _Trainer(self, network)
        config = network.get_compile_config()
        trainer.compile(
            optimizer=network.optimizer,
            loss=keras.saving.deserialize_keras_object(config["loss"]),
            metrics=keras.saving.deserialize_keras_object(config["metrics"]),
            jit_compile=network.jit_compile,
            run_eagerly=network.run_eagerly,
        )
        return trainer


class _Trainer(keras.Model):
    """A network with a `Feed` in front of it."""

    def __init__(self, feed, network):
        super().__init__(name=f"{network.name}_on_device")
        self.network = network
        self.feed = feed
        self.generator = feed.generator  # as an attribute Keras carries its state through compiled steps
        self.images = keras.Variable(feed.images, dtype="uint8", trainable=False, name="images")

    def call(self, inputs, training=False):
        """Take {"row", "orientation"}, each of shape (N,); or images as the network itself does, for validation."""
        if not isinstance(inputs, dict):
            return self.network(inputs, training=training)
        images = ops.cast(ops.take(self.images, inputs["row"], axis=0), "float32") / 255
        if self.feed.augment:
            images = turn_on_device(images, inputs["orientation"])
        noisy = images if self.feed.noise is None else self.feed.noise(images, self.generator)
        outputs = self.network(noisy, training=training)
        # The target travels beside the output, since it exists on the device alone.
        return ops.concatenate([outputs, images], axis=-1) if self.feed.pairs else outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Compare with the target that came out of `call`, if one did."""
        if self.feed.pairs and isinstance(x, dict):
            y_pred, y = y_pred[..., :3], y_pred[..., 3:]
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)


class DeviceRows(ShuffledBatches):
    """Batches of rows and orientations for a `DeviceFeed`, in the order of the batches made on the host.

    Parameters
    ----------
    labels : ndarray of int, shape (N,), or None
        The targets, where there are any beside the images themselves.
    indices : ndarray of int
        The rows to use.
    batch_size : int
    seed : int
    """

    def __init__(self, labels, indices, *, batch_size, seed):
        super().__init__(indices, batch_size, seed, shuffle=True)
        self.labels = labels

    def __getitem__(self, number):
        """Return batch `number`: a dict of ``row`` and ``orientation``, int32, and the targets."""
        rows, orientations = self.batch(number)
        inputs = {"row": rows.astype(np.int32), "orientation": orientations.astype(np.int32)}
        return inputs, inputs["row"] if self.labels is None else self.labels[rows]
