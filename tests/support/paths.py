"""Paths of the checkout and of data that only some machines have."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Results of earlier runs that are kept with the book.
REFERENCE = ROOT / "book" / "reference"
#: Real images and the published coordinates; tests that need them are skipped if the folder is missing.
SHARED = ROOT.parent / "shared"
