"""Where a run's results lie: runs/<profile>-<data>/.

As a script, print the path of its rendered book, or with --folder that of the run.
"""

import re
import sys
from pathlib import Path

NAMED_SOURCES = ("standin", "galaxy10")


def run_folder(runs, profile, source):
    """Folder of the run of `profile` on `source` (a name of `NAMED_SOURCES` or a file's path)."""
    label = source
    if source not in NAMED_SOURCES:
        label = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source).stem)
        # A file that happens to be called standin.h5 must not share the default's folder.
        label += "-file" if label in NAMED_SOURCES else ""
    return f"{runs}/{profile}-{label}"


if __name__ == "__main__":
    if sys.argv[1] == "--folder":
        print(run_folder(*sys.argv[2:]))
        sys.exit()
    print(f"The book is ready: {Path(run_folder(*sys.argv[1:]), 'book', 'index.html').resolve()}")
