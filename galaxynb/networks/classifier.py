"""The DenseNet121 classifier of ten galaxy classes, and the data of its training."""

from pathlib import Path

import keras

from galaxynb.compute import in_precision
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.networks.batches import ClassifierBatches
from galaxynb.networks.device_batches import DeviceFeed, DeviceRows
from galaxynb.networks.models import DAMAGE, check_side
from galaxynb.networks.training import Phase

__all__ = [
    "build_classifier",
    "classifier_phase",
]


#: Mean and standard deviation of ImageNet's channels in [0, 1]: what its weights were trained on.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)

_IMAGENET_STD = (0.229, 0.224, 0.225)


def build_classifier(image_size, *, weights=None, bn_momentum=0.99, seed=0, precision="float32"):
    """Build the DenseNet121 classifier of ten galaxy classes, not compiled.

    Parameters
    ----------
    image_size : int
        Side of the square input images in pixels, >= 32.
    weights : None, "imagenet" or path
        Random initialization, Keras's ImageNet weights (downloaded by Keras), or a weights file for
        DenseNet121 without its top.
    bn_momentum : float
        Momentum of the moving averages of batch normalization, in [0, 1). Keras's default, 0.99,
        needs some hundreds of steps to settle; short trainings need less.
    seed : int
        Seeds Keras's global generator, from which the initial weights are drawn.
    precision : str
        Keras dtype policy of all layers but the last, which is float32; see `galaxynb.compute.choose_execution`.

    Returns
    -------
    keras.Model
        (N, image_size, image_size, 3) float32 in [0, 1] -> (N, 10) class probabilities.

    Raises
    ------
    ValueError
        If `image_size` or `bn_momentum` is out of range, or `weights` are not such weights.
    FileNotFoundError
        If `weights` names a file that does not exist.

    References
    ----------
    Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv:1608.06993.
    """
    check_side(image_size)
    if not 0 <= bn_momentum < 1:
        raise ValueError(f"bn_momentum is {bn_momentum}, but a moving average needs 0 <= momentum < 1")
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise FileNotFoundError(f"weights file {weights} does not exist: give null, 'imagenet' or an existing file")
    keras.utils.set_random_seed(seed)
    with in_precision(precision):
        images = keras.Input((image_size, image_size, 3), name="cutout", dtype="float32")
        scaled = images
        if weights is not None:
            variance = [std**2 for std in _IMAGENET_STD]
            scaled = keras.layers.Normalization(mean=_IMAGENET_MEAN, variance=variance, name="imagenet_scale")(images)
        try:
            base = keras.applications.DenseNet121(
                include_top=False, weights=weights, input_tensor=scaled, pooling="avg"
            )
        except DAMAGE as error:
            raise ValueError(
                f"weights {weights} cannot be read as DenseNet121's without its top ({type(error).__name__}): "
                f"give null, 'imagenet' or such a file"
            ) from error
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = bn_momentum
    last = keras.layers.Dense(len(CLASS_NAMES), activation="softmax", name="classes", dtype="float32")
    probabilities = last(base.output)
    return keras.Model(images, probabilities, name="densenet121")


def classifier_phase(images, labels, split, *, epochs, batch_size, seed, augment, execution):
    """Put together the classifier's training.

    Parameters
    ----------
    images : ndarray, shape (N, H, H, 3), uint8
    labels : ndarray of int, shape (N,)
    split : galaxynb.data.splits.Split
    epochs, batch_size, seed : int
    augment : bool
    execution : galaxynb.compute.Execution
        Says where batches are made.

    Returns
    -------
    Phase
        Named "classify".
    """
    validation = ClassifierBatches(images, labels, split.validation, batch_size=64, seed=seed, training=False)
    if execution.batches_on == "device":
        feed = DeviceFeed(images, augment=augment, seed=seed)
        rows = DeviceRows(labels, split.train, batch_size=batch_size, seed=seed)
        return Phase("classify", epochs, rows, validation=validation, feed=feed)
    training = ClassifierBatches(images, labels, split.train, batch_size=batch_size, seed=seed, augment=augment)
    return Phase("classify", epochs, training, validation=validation)
