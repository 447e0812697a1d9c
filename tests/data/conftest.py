"""Fixtures that the tests of the data share."""

import pytest


@pytest.fixture
def small(tmp_path, tiny_galaxy10):
    """Return the path of a tiny file of 20 images."""
    return tiny_galaxy10(tmp_path / "small.h5")
