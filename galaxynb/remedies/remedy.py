"""What a remedy is, and what it may learn from.

A remedy either restores noisy images, which the trained classifier then classifies, or it classifies them itself. Each
states what it may learn from. The methods of `Given` give no more than that.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from galaxynb.compute import Execution
from galaxynb.data.splits import Split
from galaxynb.images import to_float
from galaxynb.noise import NoiseModel

__all__ = [
    "LABELS",
    "LEARNS_FROM",
    "NOISY",
    "NOTHING",
    "PAIRS",
    "Given",
    "Remedy",
    "Training",
    "checked",
    "probabilities",
    "restored",
    "run_network",
]


#: What a remedy may learn from, besides one parameter that is chosen on the validation images. Each entry includes
#: the ones before it.
NOTHING, NOISY, PAIRS, LABELS = "nothing", "unlabelled noisy images", "clean-noisy pairs", "labels"

LEARNS_FROM = (NOTHING, NOISY, PAIRS, LABELS)

_AT_ONCE = 64  # images per batch of a prediction

_SUM = 1e-3  # largest distance of a sum of probabilities from 1

_FAR = 10.0  # restored values beyond this are not of the range 0 to 1, but for example 8-bit

_MOST_CHOSEN_ON = 500  # validation images on which a parameter is chosen


class Remedy:
    """A remedy. A subclass has a method ``restore`` or a method ``classify``, and may have the others below.

    Attributes
    ----------
    name : str
        Short name of lower-case letters, digits and hyphens. Files and profiles use it.
    title : str
        Name for tables and figures.
    family : str
        Heading of the group of remedies.
    learns_from : str
        One of `LEARNS_FROM`.
    chosen : dict
        The parameters that `fit` chose on validation images, by name.
    parameters : int
        Number of the remedy's trained parameters, without those of the study's own classifier.
    seconds : float or None
        Seconds of its training. None if the study trained it in an earlier stage.
    devices : sequence of str
        The devices on which its training ran, if it had one.

    Examples
    --------
    A remedy that restores images by darkening them:

    >>> class Darker(Remedy):
    ...     name, title, family = "darker", "Darker", "Examples"
    ...     def restore(self, images):
    ...         return images / 2
    >>> Darker().restore(np.ones((1, 32, 32, 3), np.float32)).max()
    np.float32(0.5)
    """

    name = title = family = ""
    learns_from = NOTHING
    #: Method that maps noisy images to restored ones: both ndarray of float32, shape (N, H, H, 3), in [0, 1].
    restore = None
    #: Method that maps noisy images to class probabilities: ndarray of floats, shape (N, 10).
    classify = None

    def __init__(self):
        self.chosen, self.parameters, self.seconds, self.devices = {}, 0, 0.0, ()

    def fit(self, given):
        """Learn from what `given`, a `Given`, allows. By default, learn nothing."""

    def adapt(self, images):
        """Learn from unlabelled images with the disturbance at hand, before others with it are classified.

        By default, learn nothing. Only remedies that learn from unlabelled noisy images are given any.

        Parameters
        ----------
        images : ndarray of float32, shape (N, H, H, 3)
            Disturbed images of the validation set, in [0, 1].
        """


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long the trained remedies are trained.

    Attributes
    ----------
    restorer_epochs : int
        Epochs of each network that restores images, >= 1.
    restorer_batch_size : int
        Images per training step of these networks, >= 1.
    restorer_rate : float
        Adam's first learning rate for these networks, > 0. It decays to 0 along a cosine, as all rates here do.
    classifier_epochs : int
        Epochs of each classifier that is trained from scratch, >= 1.
    finetune_epochs : int
        Epochs of each classifier that starts from trained weights, >= 1.
    classifier_batch_size : int
        Images per training step of the classifiers, >= 1.
    classifier_rate : float
        First learning rate of the classifiers, > 0. Fine-tuning starts at a tenth of it.
    bn_momentum : float
        Momentum of the classifiers' batch normalization, in [0, 1).
    """

    restorer_epochs: int = 20
    restorer_batch_size: int = 4
    restorer_rate: float = 0.002
    classifier_epochs: int = 18
    finetune_epochs: int = 6
    classifier_batch_size: int = 32
    classifier_rate: float = 0.001
    bn_momentum: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a remedy is given to learn from: parts of a finished study.

    Attributes
    ----------
    learns_from : str
        What the remedy may learn from, one of `LEARNS_FROM`. Methods that give more raise PermissionError.
    images, labels : ndarray
        All images (uint8, memory-mapped) and classes. Remedies take them from the methods below, and use only the rows
        that these return.
    split : galaxynb.data.splits.Split
        Rows for training, validation and test. Remedies use no test images.
    noise : galaxynb.noise.NoiseModel
        The calibrated noise of the study.
    seed : int
        Seed of the study, >= 0.
    classifier, autoencoder : keras.Model
        The trained networks of the study.
    execution : galaxynb.compute.Execution
        How networks are trained on this machine.
    training : Training
        How long to train.
    folder : pathlib.Path or None
        Folder for the checkpoints of trainings. None trains without checkpoints, in a temporary folder.
    digest : str
        Digest of the settings and the code, for checkpoints.
    device : str
        Text that names this machine's processors, for the record of a training.
    log : callable
        Takes a line of text.
    """

    learns_from: str
    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    split: Split = field(repr=False)
    noise: NoiseModel
    seed: int
    classifier: object = field(repr=False)
    autoencoder: object = field(repr=False)
    execution: Execution = field(repr=False)
    training: Training = Training()
    folder: object = None
    digest: str = ""
    device: str = ""
    log: object = field(default=print, repr=False)

    @property
    def side(self):
        """Side of the images in pixels."""
        return self.images.shape[1]

    def needs(self, what):
        """Raise PermissionError unless the remedy may learn from `what`, one of `LEARNS_FROM`."""
        if LEARNS_FROM.index(self.learns_from) < LEARNS_FROM.index(what):
            raise PermissionError(
                f"learns_from is {self.learns_from!r}, but {what!r} is needed for this method: change learns_from"
            )

    def noisy_images(self, number):
        """Return the first `number` training images with noise: ndarray of float32, shape (number, H, H, 3)."""
        self.needs(NOISY)
        rows = self.split.train[:number]
        return self.noise.apply(self.images[rows], self.seed, rows, epoch=1)

    def pairs(self):
        """Return all images (uint8, memory-mapped) and the rows to train on, which `noise` makes into pairs."""
        self.needs(PAIRS)
        return self.images, self.split.train

    def training_labels(self):
        """Return the labels of all images: ndarray of int, shape (N,)."""
        self.needs(LABELS)
        return self.labels

    @cached_property
    def validation(self):
        """Noisy validation images, float32, and their labels. They serve to choose one parameter of a remedy."""
        rows = self.split.validation[:_MOST_CHOSEN_ON]
        return self.noise.apply(self.images[rows], self.seed, rows), self.labels[rows]

    def best(self, candidates, restore):
        """Return the candidate whose restored validation images are classified best, or the first if several tie.

        Parameters
        ----------
        candidates : sequence
            Values of one parameter.
        restore : callable
            Takes noisy images and a candidate, and returns restored images.
        """
        images, labels = self.validation
        right = [(run_network(self.classifier, restore(images, one)).argmax(1) == labels).mean() for one in candidates]
        for one, accuracy in zip(candidates, right, strict=True):
            self.log(f"parameter {one}: accuracy {accuracy:.3f} on {len(labels)} noisy validation images")
        return candidates[int(np.argmax(right))]


def probabilities(remedy, images, *, classifier):
    """Return the class probabilities that a fitted remedy gives disturbed images.

    Parameters
    ----------
    remedy : Remedy
        A fitted remedy.
    images : ndarray of uint8 or float32, shape (N, H, H, 3)
        Images. Floats are in [0, 1].
    classifier : keras.Model
        The classifier of the study, for remedies that restore images.

    Returns
    -------
    ndarray of float32, shape (N, 10)
        Probabilities of the classes.

    Raises
    ------
    ValueError
        If the remedy returns an array of another shape, one with NaN or infinite values, or numbers that are no
        probabilities.
    """
    images = to_float(images) if images.dtype == np.uint8 else images
    if remedy.classify is None:
        return run_network(classifier, restored(remedy, images))
    made = checked(remedy.classify(images.copy()), (len(images), 10), "probabilities")
    sums = made.sum(axis=1)
    if made.min(initial=0) < 0 or np.abs(sums - 1).max(initial=0) > _SUM:
        raise ValueError(
            f"the remedy returns numbers from {made.min():g} with sums from {sums.min():g} to {sums.max():g}, but"
            " probabilities with a sum of 1 per image are needed: apply softmax"
        )
    return made


def restored(remedy, images):
    """Return the images that a fitted remedy restores, clipped to [0, 1], after a check of their shape and values."""
    # A copy: the remedy may work in place.
    made = checked(remedy.restore(images.copy()), images.shape, "images")
    low, high = made.min(initial=0), made.max(initial=0)
    if max(-low, high) > _FAR:
        raise ValueError(
            f"the remedy returns images with values from {low:g} to {high:g}, but 0 to 1 is needed: divide 8-bit values"
            " by 255"
        )
    return np.clip(made, 0, 1)


def checked(made, shape, what):
    """Return an array of a remedy as float32, or raise ValueError if its shape or a value is wrong."""
    made = np.asarray(made)
    if made.shape != shape:
        raise ValueError(f"the remedy returns {what} of shape {made.shape}, but {shape} is needed: correct it")
    if made.dtype.kind not in "fiu":
        raise ValueError(f"the remedy returns {what} of type {made.dtype}, but floats are needed: convert them")
    made = made.astype(np.float32)
    if not np.isfinite(made).all():
        bad = int((~np.isfinite(made)).reshape(len(made), -1).any(axis=1).sum())
        raise ValueError(
            f"the remedy returns {what} with NaN or infinite values for {bad} of {len(made)} images, but finite"
            " values are needed: correct it"
        )
    return made


def run_network(model, images):
    """Return what a network predicts for one or more images, in batches: ndarray of float32.

    For a few hundred images, this is faster than `keras.Model.predict`, which prepares a pipeline in each call.
    """
    made = [model.predict_on_batch(images[start : start + _AT_ONCE]) for start in range(0, len(images), _AT_ONCE)]
    return np.concatenate(made)
