"""A smoke study of genuine images, where they are at hand."""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pooch
import pytest
from checkout import Checkout

pytestmark = pytest.mark.study


def test_real_galaxies_go_through_the_same_study(tmp_path, real_sample):
    checkout = Checkout(tmp_path)
    done = checkout.smoke(f"DATA={real_sample}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    run = checkout.root / f"runs/smoke-{Path(real_sample).stem}"
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
