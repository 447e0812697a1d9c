"""Where the tests find the checkout and, beside it, data that only some machines have."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What the book keeps of earlier runs.
REFERENCE = ROOT / "book" / "reference"
#: Real images and the published coordinates; tests that need them skip where the folder is absent.
SHARED = ROOT.parent / "shared"
