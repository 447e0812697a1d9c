"""The fixture that all tests of the workflow use."""

import shutil
from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def roomy_disk(monkeypatch):
    """Make every disk look as if it had room, so that no test depends on the disk of the machine."""
    free = 10**12
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=2 * free, used=free, free=free))
