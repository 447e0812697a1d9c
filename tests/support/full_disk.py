"""Programs on a disk that has no room left."""

import subprocess
import sys

import pytest


def last_line(code, *, limit):
    """Run Python code that fails, because its files cannot grow beyond `limit` bytes. Return its last line."""
    pytest.importorskip("resource", reason="needs a limit on the size of files")
    limited = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n{code}\n"
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]
