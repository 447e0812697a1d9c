"""The DenseNet121 classifier of ten galaxy classes, and the batches of its training."""

import keras

from galaxynb.compute import in_precision, use_standard_keras
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.networks.batches import ClassifierBatches
from galaxynb.networks.device_batches import DeviceFeed, DeviceRows
from galaxynb.networks.limits import check_side, check_weights
from galaxynb.networks.models import DAMAGE
from galaxynb.networks.training import Phase

__all__ = ["build_classifier", "classifier_phase"]


#: Mean and standard deviation of the R, G and B channels of ImageNet, for pixels in [0, 1]. The ImageNet weights expect
#: images that are standardized by them.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)

_IMAGENET_STD = (0.229, 0.224, 0.225)


def build_classifier(image_size, *, weights=None, bn_momentum=0.99, seed=0, precision="float32"):
    """Build the DenseNet121 classifier of ten galaxy classes, not yet compiled.

    Parameters
    ----------
    image_size : int
        Side of the square input images in pixels, >= 32.
    weights : None, "imagenet", str or os.PathLike
        Initial weights. None draws them at random, and "imagenet" lets Keras download its ImageNet weights. Any
        other value is the path of a weights file for DenseNet121 without its top.
    bn_momentum : float
        Momentum of the moving averages of batch normalization, in [0, 1). With Keras's default of 0.99 the averages
        take some hundreds of steps to settle, so short trainings need a lower value.
    seed : int
        Seed of Keras's global generator, which draws the initial weights.
    precision : str
        Keras dtype policy of all layers except the last, which computes in float32. See
        `galaxynb.compute.choose_execution`.

    Returns
    -------
    keras.Model
        Maps a tensor of float32, shape (N, image_size, image_size, 3), in [0, 1] to class probabilities: a tensor of
        float32, shape (N, 10), in [0, 1].

    Raises
    ------
    ValueError
        If `image_size` or `bn_momentum` is out of range, or the weights file does not fit DenseNet121.
    FileNotFoundError
        If `weights` is the path of a file that does not exist.

    References
    ----------
    Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv:1608.06993.

    Examples
    --------
    DenseNet121 halves the side five times, so images need at least 32 px:

    >>> build_classifier(16)
    Traceback (most recent call last):
    ValueError: image_size is 16, but 32 px or more is needed: choose a larger size
    """
    check_side(image_size)
    if not 0 <= bn_momentum < 1:
        raise ValueError(f"bn_momentum is {bn_momentum}, but 0 <= momentum < 1 is needed: change it")
    check_weights(weights)
    use_standard_keras()
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
                f"weights is {weights}, but a weights file for DenseNet121 without its top is needed "
                f"({type(error).__name__}): give null, 'imagenet' or such a file"
            ) from error
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = bn_momentum
    last = keras.layers.Dense(len(CLASS_NAMES), activation="softmax", name="classes", dtype="float32")
    probabilities = last(base.output)
    return keras.Model(images, probabilities, name="densenet121")


def classifier_phase(images, labels, split, *, epochs, batch_size, seed, augment, execution):
    """Return the classifier's training phase.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, H, 3)
        All images. They may be memory-mapped.
    labels : ndarray of int, shape (N,)
        Class of each image, 0 to 9.
    split : galaxynb.data.splits.Split
        Rows of `images` to train on and to validate with.
    epochs : int
        Number of epochs, >= 0.
    batch_size : int
        Images per training batch, >= 1.
    seed : int
        Seed of the shuffling and the augmentation, >= 0.
    augment : bool
        Whether to turn and mirror the training images.
    execution : galaxynb.compute.Execution
        Decides where training batches are made.

    Returns
    -------
    galaxynb.networks.training.Phase
        Its name is "classify".

    Examples
    --------
    >>> import numpy as np
    >>> from galaxynb.compute import choose_execution
    >>> from galaxynb.data.splits import paper_split
    >>> images, labels = np.zeros((20, 32, 32, 3), dtype=np.uint8), np.arange(20) % 10
    >>> execution = choose_execution(batches_on="host")
    >>> settings = {"epochs": 2, "batch_size": 4, "seed": 0, "augment": True}
    >>> classifier_phase(images, labels, paper_split(labels), **settings, execution=execution)
    Phase(name='classify', epochs=2)
    """
    validation = ClassifierBatches(images, labels, split.validation, batch_size=64, seed=seed, training=False)
    if execution.batches_on == "device":
        feed = DeviceFeed(images, augment=augment, seed=seed)
        rows = DeviceRows(labels, split.train, batch_size=batch_size, seed=seed)
        return Phase("classify", epochs, rows, validation=validation, feed=feed)
    training = ClassifierBatches(images, labels, split.train, batch_size=batch_size, seed=seed, augment=augment)
    return Phase("classify", epochs, training, validation=validation)
