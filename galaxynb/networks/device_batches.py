"""Training batches made on the device that trains, so that a GPU never waits for the CPU.

The uint8 images are copied to the device once. Each batch from the host then holds only row numbers and orientations,
a few bytes per image. The training step itself looks up the images, turns them and adds the noise.
"""

import keras
import numpy as np
from keras import ops

from galaxynb.networks.batches import ShuffledBatches

__all__ = ["DeviceFeed", "DeviceRows", "turn_on_device"]


def turn_on_device(images, orientations):
    """Apply one symmetry of the square to each image, as `galaxynb.images.turn` does for arrays.

    Parameters
    ----------
    images : tensor, shape (N, H, H, C)
        Of any dtype.
    orientations : tensor of int, shape (N,)
        Symmetry for each image, 0 to 7, numbered as at the top of `galaxynb.images`.

    Returns
    -------
    tensor, shape (N, H, H, C)
        Of the dtype of `images`.
    """
    quarter, mirrored = orientations % 4, orientations >= 4

    def where(mask, yes, no):
        return ops.where(ops.reshape(mask, (-1, 1, 1, 1)), yes, no)

    # A quarter turn is a transposition and a flip, a half turn is two flips. Each image therefore needs only three
    # yes-or-no choices, which make all eight symmetries.
    images = where(quarter % 2 == 1, ops.flip(ops.transpose(images, (0, 2, 1, 3)), axis=1), images)
    images = where(quarter >= 2, ops.flip(images, axis=(1, 2)), images)
    return where(mirrored, ops.flip(images, axis=2), images)


class DeviceFeed:
    """Look up, turn and add noise to training images on the device.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, H, 3)
        All images. `trainer` copies them to the device, where they take N x H x H x 3 bytes.
    pairs : bool
        Whether the clean image is also the target, as for an autoencoder.
    noise : callable or None
        Adds noise to the inputs, such as a `galaxynb.networks.device_noise.DeviceNoise`. None leaves them clean.
    augment : bool
        Whether to turn and mirror the images.
    seed : int
        Seed of the noise, >= 0.
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
        """Set the random state of one epoch, so that noise depends on the seed, the epoch and the batch number."""
        state = np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0] >> 1  # 31 bits fit on every backend
        self.generator.state.assign(np.array([state, 0]))

    def trainer(self, network):
        """Return a model that takes rows instead of images and trains `network` in place.

        Parameters
        ----------
        network : keras.Model
            A compiled model.

        Returns
        -------
        keras.Model
            A compiled model. It shares the optimizer of `network`, so a saved `network` is a complete checkpoint.
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
    """A network with a `DeviceFeed` in front of it."""

    def __init__(self, feed, network):
        super().__init__(name=f"{network.name}_on_device")
        self.network = network
        self.feed = feed
        self.generator = feed.generator  # Keras updates its state in compiled steps only if it is an attribute
        self.images = keras.Variable(feed.images, dtype="uint8", trainable=False, name="images")

    def call(self, inputs, training=False):
        """Return the network's outputs for a batch.

        `inputs` is a dict of ``row`` and ``orientation``, tensors of int, shape (N,), in training. It is a tensor of
        images in validation.
        """
        if not isinstance(inputs, dict):
            return self.network(inputs, training=training)
        images = ops.cast(ops.take(self.images, inputs["row"], axis=0), "float32") / 255
        if self.feed.augment:
            images = turn_on_device(images, inputs["orientation"])
        noisy = images if self.feed.noise is None else self.feed.noise(images, self.generator)
        outputs = self.network(noisy, training=training)
        # The target exists only on the device, so it is returned with the output, for compute_loss to split off.
        return ops.concatenate([outputs, images], axis=-1) if self.feed.pairs else outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Compute the loss against the target that `call` returned with its outputs, or else against `y`."""
        if self.feed.pairs and isinstance(x, dict):
            y_pred, y = y_pred[..., :3], y_pred[..., 3:]
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)


class DeviceRows(ShuffledBatches):
    """Batches of rows and orientations for a `DeviceFeed`, in the same order as the batches made on the host.

    Parameters
    ----------
    labels : ndarray of int, shape (N,), or None
        Class of each image. None where the images themselves are the targets.
    indices : array_like of int, shape (M,)
        Rows to use.
    batch_size : int
        Rows per batch, >= 1.
    seed : int
        Seed of the order and the orientations, >= 0.
    """

    def __init__(self, labels, indices, *, batch_size, seed):
        super().__init__(indices, batch_size, seed, shuffle=True)
        self.labels = labels

    def __getitem__(self, number):
        """Return the inputs (a dict of ``row`` and ``orientation``, int32) and the targets of batch `number`."""
        rows, orientations = self.batch(number)
        inputs = {"row": rows.astype(np.int32), "orientation": orientations.astype(np.int32)}
        return inputs, inputs["row"] if self.labels is None else self.labels[rows]
