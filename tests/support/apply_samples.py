"""Small trained networks and images in every format, for tests of `galaxynb.apply`."""

import functools
import hashlib
import io

import cv2
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image
from pyarrow import parquet
from remedy_samples import NOISE, SEED, SIDE, sample_autoencoder, sample_classifier, sample_images

from galaxynb.apply.networks import Networks, training_measures
from galaxynb.files import write_json
from galaxynb.networks.calibration import Calibration
from galaxynb.networks.packing import pack_model

CLASSES = ("Round Smooth", "barred_spiral", "9")


class _Cache:
    images, labels = sample_images()


@functools.cache
def sample_networks():
    """Return networks of 32 px."""
    return Networks(
        classifier=sample_classifier(),
        autoencoder=sample_autoencoder(),
        noise=NOISE,
        measures=training_measures(_Cache, NOISE, seed=SEED),
        kind="standin",
        trained_on=f"120 synthetic stand-ins of {SIDE} px",
        digest="d" * 64,
    )


def large_images(number=6, side=64):
    """Return images of the side whose colours are those of the classes, and the classes."""
    images, labels = sample_images()
    return np.stack([cv2.resize(image, (side, side)) for image in images[:number]]), labels[:number]


def write_fits(path, cube, *, scale=0.262):
    """Write a FITS cutout, with a WCS if there is a pixel scale."""
    header = fits.Header()
    if scale:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
        wcs.wcs.crpix, wcs.wcs.cdelt = [cube.shape[-1] / 2 + 0.5] * 2, [-scale / 3600, scale / 3600]
        header = wcs.to_header()
    header["OBJECT"] = "a galaxy"
    fits.PrimaryHDU(cube, header).writeto(path)
    return path


def write_folder(folder):
    """Write six images into class folders, as PNG and JPEG, one of the same name in each. Return the folder."""
    images, _ = large_images()
    for k, image in enumerate(images):
        place = folder / CLASSES[k % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / ("same.png" if k < 3 else f"{k}.jpg"))
    return folder


def write_hdf5(path):
    images, labels = large_images()
    with h5py.File(path, "w") as file:
        file.update({"images": images, "ans": labels.astype(np.uint8), "pxscale": np.full(6, 0.262 * 4)})
        file.update({name: np.arange(6.0) for name in ("ra", "dec", "redshift")})
    return path


def write_npz(path):
    images, labels = large_images()
    np.savez(path, images=images, labels=labels, ra=np.arange(6.0))
    return path


def write_parquet(path, *, labelled=True):
    images, labels = large_images()
    encoded = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        encoded.append({"bytes": stream.getvalue(), "path": None})
    columns = {"image": encoded} | ({"label": labels.tolist()} if labelled else {})
    parquet.write_table(pa.table(columns), path)
    return path


def write_networks(folder):
    """Write the networks to a folder, as those that come with the repository. Return the folder."""
    made, card = sample_networks(), {}
    for name in ("classifier", "autoencoder"):
        path = folder / "models" / f"{name}.keras"
        pack_model(getattr(made, name), path)
        card[name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    evaluations = pd.DataFrame({"strength": [0.0, 1.0], "accuracy": [1.0, 0.5]})
    Calibration(NOISE, True, 1.0, 0.5, 0.5, True, evaluations).write(folder / "calibrated_noise.json")
    data = {"kind": "standin", "standin": "galaxynb", "n_images": 120, "image_size": SIDE, "source": "some.h5"}
    write_json(folder / "card.json", {"networks": card, "data": data, "measures": made.measures})
    return folder


def write_survey(path, number):
    """Write an HDF5 file of many images. Return its path."""
    small, labels = sample_images()
    rows = np.arange(number) % len(small)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (number, 64, 64, 3), np.uint8, chunks=(1, 64, 64, 3))
        for first in range(0, number, 500):
            part = (
                small[rows[first : first + 500]]
                + (np.arange(first, min(first + 500, number)) % 50)[:, None, None, None]
            )
            images[first : first + 500] = part.repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)
        file["ans"] = labels[rows].astype(np.uint8)
        file["pxscale"] = np.full(number, 0.262 * 4)
    return path
