"""Fixtures that several test files share."""

import h5py
import numpy as np
import pandas as pd
import pytest
from paths import SHARED

from galaxynb.data.galaxy10 import CLASS_COUNTS, IMAGES, LABELS, STANDIN_ATTRIBUTE, TRUTH

REAL_SAMPLE = SHARED / "real_sample" / "galaxy10_sample.h5"
REAL_IMAGES = SHARED / "real_images"
REAL_COORDINATES = REAL_SAMPLE.with_name("Galaxy10_coord.csv")


def write_galaxy10(path, n=20, size=64, truth=False, standin=None, seed=0, labels=None, chunks=True, **columns):
    """Write `n` random images in the Galaxy10 DECaLS layout, sorted by class, and return the path.

    `columns` replaces whole columns by name (`images=...`, `redshift=...`); None leaves one out.
    """
    rng = np.random.default_rng(seed)
    values = {
        IMAGES: rng.integers(0, 256, (n, size, size, 3), np.uint8),
        LABELS: (np.arange(n) * 10 // max(n, 1)).astype(np.uint8) if labels is None else labels,
        "ra": rng.uniform(0, 360, n),
        "dec": rng.uniform(-20, 30, n),
        "redshift": np.where(rng.random(n) < 0.2, np.nan, rng.uniform(0, 0.3, n)),
        "pxscale": np.full(n, 0.262),
    }
    if truth:
        values[TRUTH] = rng.integers(0, 256, (n, size, size, 3), np.uint8)
    with h5py.File(path, "w") as file:
        for name, value in (values | columns).items():
            if value is not None:
                compressed = value.ndim == 4 and value.size and chunks
                file.create_dataset(
                    name, data=value, **({"chunks": (1, *value.shape[1:]), "compression": "gzip"} if compressed else {})
                )
        if standin is not None:
            file.attrs[STANDIN_ATTRIBUTE] = standin
    return path


def pytest_collection_modifyitems(items):
    """Put the study first: it takes as long as all other tests, which the second process runs meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("study") is None)


@pytest.fixture
def tiny_galaxy10():
    """Return the writer of tiny files: `tiny_galaxy10(path, n=20, size=64, truth=False, ...)`."""
    return write_galaxy10


@pytest.fixture(scope="session")
def real_sample():
    """Return the path of the 60 genuine images, or skip the test if they are missing."""
    if not REAL_SAMPLE.is_file():
        pytest.skip(f"needs 60 real images, which this repository does not hold: put them at {REAL_SAMPLE}")
    return REAL_SAMPLE


@pytest.fixture(scope="session")
def real_images():
    """Return the folder of the genuine images that the package holds measurements of, or skip the test."""
    if not REAL_IMAGES.is_dir():
        pytest.skip(f"needs 499 real images, which this repository does not hold: put them at {REAL_IMAGES}")
    return REAL_IMAGES


@pytest.fixture(scope="session")
def real_coordinates():
    """Return labels, ra and dec of the published file, in its order, or skip the test if they are missing."""
    if not REAL_COORDINATES.is_file():
        pytest.skip(f"needs the published table of coordinates: put it at {REAL_COORDINATES}")
    table = pd.read_csv(REAL_COORDINATES)
    return np.repeat(np.arange(10), CLASS_COUNTS), table["RA"].to_numpy(), table["DEC"].to_numpy()
