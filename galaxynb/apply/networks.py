"""Load the two trained networks, with what they were trained on."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from galaxynb.apply.measures import measure_small, training_ranges
from galaxynb.data.cache import open_cache
from galaxynb.data.splits import paper_split
from galaxynb.images import to_float
from galaxynb.networks.calibration import read_calibration
from galaxynb.networks.models import load_model, weights_digest
from galaxynb.noise import NoiseModel

__all__ = ["KEPT", "Networks", "load_networks", "training_measures"]


#: Folder of the networks that come with the repository.
KEPT = Path(__file__).resolve().parents[2] / "book" / "reference" / "networks"

_MEASURED = 2000  # training images that are measured


@dataclass(frozen=True, eq=False, kw_only=True)
class Networks:
    """The two networks of a run, and what they were trained on.

    Attributes
    ----------
    classifier, autoencoder : keras.Model
        The trained networks.
    noise : galaxynb.noise.NoiseModel
        The noise that the autoencoder learned to remove.
    measures : dict
        From `training_measures`.
    kind : str
        "standin" if the training images are simulated, otherwise "real".
    trained_on : str
        The training images, in words.
    digest : str
        Digest of the weights of both networks.
    """

    classifier: keras.Model = field(repr=False)
    autoencoder: keras.Model = field(repr=False)
    noise: NoiseModel
    measures: dict = field(repr=False)
    kind: str
    trained_on: str
    digest: str

    @property
    def side(self):
        """Side in pixels of the images that the networks take."""
        return self.classifier.input_shape[1]


def load_networks(run=None):
    """Load the networks of a run, or those that come with the repository.

    Keras loads them in safe mode, which refuses files that hold code. The checksums of the networks that come with the
    repository are verified.

    Parameters
    ----------
    run : str or os.PathLike, optional
        Folder of a finished run, such as ``runs/quick-standin``.

    Returns
    -------
    Networks

    Raises
    ------
    FileNotFoundError
        If the folder lacks a network or another file.
    ValueError
        If a file is damaged or has another checksum, or if the two networks take images of different sides.

    Examples
    --------
    >>> load_networks("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: nowhere is no folder, but that of a finished run is needed: run `make book`, and give its folder
    """
    folder = Path(KEPT if run is None else run)
    if run is None and not folder.is_dir():
        raise FileNotFoundError(
            "RUN is not given, and this checkout holds no networks, but trained ones are needed: run `make book`, and"
            " give RUN=runs/quick-standin"
        )
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder, but that of a finished run is needed: run `make book`, and give its folder"
        )
    card = folder / "card.json"
    card = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else None
    models = {}
    for name, notebook in {"classifier": "03_classifier", "autoencoder": "04_autoencoder"}.items():
        path = folder / "models" / f"{name}.keras"
        if card is not None and path.is_file():
            _verify(path, card["networks"][name]["sha256"])
        models[name] = load_model(path, made_by=f"notebooks/{notebook}.ipynb")
    sides = {name: model.input_shape[1] for name, model in models.items()}
    if len(set(sides.values())) > 1:
        raise ValueError(
            f"the networks of {folder} take images of {sides['classifier']} and {sides['autoencoder']} px, but one side"
            " is needed: run `make book` again"
        )
    noise = read_calibration(folder / "calibrated_noise.json").noise
    if card is None:
        cache = open_cache(folder / "data" / "cache")
        info, measures = cache.info, training_measures(cache, noise)
    else:
        info, measures = card["data"], card["measures"]
    named = "synthetic stand-ins" if info["standin"] else f"images of {info['source']}"
    return Networks(
        **models,
        noise=noise,
        measures=measures,
        kind=info["kind"],
        trained_on=f"the training split of {info['n_images']:,} {named} of {info['image_size']} px",
        digest=hashlib.sha256("".join(map(weights_digest, models.values())).encode()).hexdigest(),
    )


def _verify(path, expected):
    """Raise ValueError unless a file has a checksum."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} has the SHA256 {found[:8]}..., but {expected[:8]}... is needed: take the file from git again"
        )


def training_measures(cache, noise, *, seed=0):
    """Measure some training images, clean and noisy.

    Parameters
    ----------
    cache : galaxynb.data.cache.Cache
        The images of a study.
    noise : galaxynb.noise.NoiseModel
        The noise on the noisy images.
    seed : int
        Seed of the noise.

    Returns
    -------
    dict
        ``ranges``, from `galaxynb.apply.measures.training_ranges` over clean and noisy images, and ``noise``, the
        median noise of the clean and of the noisy images.
    """
    rows = paper_split(cache.labels).train[:_MEASURED]
    clean = measure_small(to_float(cache.images[rows]))
    noisy = measure_small(noise.apply(cache.images[rows], seed, rows))
    medians = {name: float(np.median(one["noise"])) for name, one in {"clean": clean, "noisy": noisy}.items()}
    return {"ranges": training_ranges(clean, noisy), "noise": medians}
