"""A smoke study of genuine images, where they are at hand."""

import json

import cv2
import h5py
import numpy as np
import pooch
import pytest
from checkout import Checkout, sentence
from PIL import Image

from galaxynb.data.galaxy10 import CLASS_NAMES

pytestmark = pytest.mark.study

#: Folder of runs whose name has spaces, quotes, a dollar sign and an umlaut.
RUNS = "my 'runs' (2024) für $HOME"


def test_real_galaxies_go_through_the_same_study(tmp_path, real_sample):
    checkout = Checkout(tmp_path)
    done = checkout.smoke(f"DATA={real_sample}", f"RUNS={RUNS}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    (run,) = (checkout.root / RUNS).iterdir()
    record = json.loads((run / "provenance/evaluation.json").read_text())
    assert record["data"]["kind"] == "real"
    assert record["data"]["n_images"] == 60
    text = (run / "book/book/results.html").read_text(encoding="utf-8")
    assert "Synthetic" not in text
    for number in (1, 2, 5):
        assert (run / f"figures/figure{number}.png").is_file()
    # What the figures are drawn from is the sample, shrunk.
    with h5py.File(real_sample) as file:
        shrunk = [cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in file["images"]]
    assert (np.load(run / "data/cache/images.npy") == shrunk).all()
    assert record["data"]["sha256"] == pooch.file_hash(str(real_sample))


def test_a_folder_of_images_is_data_of_a_study(tmp_path, real_sample):
    """The folder's path and its names of classes are those that people have."""
    folder = tmp_path / "my cutouts' [g] größe"
    with h5py.File(real_sample) as file:
        for row, (image, label) in enumerate(zip(file["images"], file["ans"], strict=True)):
            path = folder / f"{CLASS_NAMES[label]} Galaxies" / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        Image.new("L", (256, 256)).save(path.with_name("grey.png"))
    checkout = Checkout(tmp_path / "checkout")
    said = sentence(checkout.smoke(f"DATA={folder}"))
    assert "grey.png is greyscale, but square 8-bit RGB images of one size" in said
    checkout.set("data", "skip_bad", True)
    # Stop after the noise: later stages read only the cache, and the test above runs them.
    done = checkout.smoke(f"DATA={folder}", "SNAKEMAKE_ARGS=-- all_noise")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    (run,) = (checkout.root / "runs").iterdir()
    record = json.loads((run / "provenance/data.json").read_text())
    assert {key: record["data"][key] for key in ("kind", "n_images", "left_out")} == {
        "kind": "real", "n_images": 60, "left_out": 1,
    }  # fmt: skip
