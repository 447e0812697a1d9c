"""The fixture that all tests of the figures use."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _no_window():
    """Choose the backend that needs no window system, before a test compares matplotlib's settings."""
    plt.switch_backend("agg")
