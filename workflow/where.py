"""Where a run's results lie: runs/<profile>-<data>/. As a script, print the path of its rendered book."""

import re
import sys
from pathlib import Path

NAMED_SOURCES = ("standin", "galaxy10")


def run_folder(runs, profile, source):
    """Folder of the run of `profile` on `source` (a name of `NAMED_SOURCES` or a file's path)."""
    label = source if source in NAMED_SOURCES else re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source).stem)
    return f"{runs}/{profile}-{label}"


if __name__ == "__main__":
    print(f"The book is ready: {Path(run_folder(*sys.argv[1:]), 'book', 'index.html').resolve()}")
