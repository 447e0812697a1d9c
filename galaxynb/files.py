"""Writing files so that nothing half-written is ever found under a final name."""

import contextlib
import errno
import json
import os
import re
import shutil
import socket
from pathlib import Path

import numpy as np

__all__ = [
    "save_table",
    "write_json",
    "written_aside",
]


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _alive(pid):
    if os.name != "posix":
        return True  # there, os.kill would end the process instead of asking after it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_leftovers(path):
    """Clear away what killed processes of this machine left beside `path`."""
    names = re.compile(
        rf"\.{re.escape(path.stem)}\.{re.escape(socket.gethostname())}-(\d+)\.(partial|old)"
        rf"{re.escape(path.suffix)}"
    )
    for left in list(path.parent.iterdir()):
        found = names.fullmatch(left.name)
        if found is None or _alive(int(found[1])):
            continue
        if found[2] == "old" and not path.exists():
            left.rename(path)  # killed between the two renames: the earlier result goes back
        else:
            _remove(left)


@contextlib.contextmanager
def written_aside(path):
    """Yield a sibling path to write to; rename it to `path` if the block succeeds.

    The block may create a file or a folder there. If it raises, whatever it wrote is removed
    and an earlier `path` is left as it was. What a killed process left is removed by the next
    call for the same `path` on the same machine.

    Parameters
    ----------
    path : str or os.PathLike
        The final file or folder. Its parent folder is created.

    Yields
    ------
    pathlib.Path
        Where to write, in the same folder as `path` and with the same suffix.

    Raises
    ------
    FileNotFoundError
        If the block ends without having written anything.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    # The suffix is kept, because some writers choose their format by it. The machine's name is
    # there because process numbers mean nothing on a disk that several machines share.
    mine = f".{path.stem}.{socket.gethostname()}-{os.getpid()}"
    aside = path.with_name(f"{mine}.partial{path.suffix}")
    _remove(aside)
    try:
        yield aside
        if not aside.exists():
            raise FileNotFoundError(f"nothing was written for {path}")
        if path.is_dir():
            # A folder can't replace a non-empty one in one step: the old one is moved away first.
            old = path.with_name(f"{mine}.old{path.suffix}")
            path.rename(old)
            try:
                aside.rename(path)
            except OSError:
                old.rename(path)
                raise
            _remove(old)
        else:
            aside.replace(path)
    finally:
        _remove(aside)


def write_json(path, value):
    """Write `value` to `path` as indented JSON with sorted keys, aside first.

    Parameters
    ----------
    path : str or os.PathLike
    value : object
        Anything `json` can write; NaN is refused, since it is not JSON.

    Raises
    ------
    ValueError
        If `value` holds NaN or infinity.
    """
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def one_line(error):
    return " ".join(str(error).split())


@contextlib.contextmanager
def explain_full_disk(path, n_bytes):
    """Turn the error of a full disk into a sentence that names the folder and the bytes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise OSError(
            error.errno,
            f"the disk of {path.parent} has no room for {path.name}, which needs {n_bytes:,} bytes: free "
            f"some space and run again",
        ) from error


def save_table(frame, stem, *, decimals=2):
    """Write `frame` as CSV for reading and as JSON at full precision.

    Parameters
    ----------
    frame : pandas.DataFrame
        A named index becomes the first column; an unnamed one is left out.
    stem : str or os.PathLike
        Path without suffix; ``.csv`` and ``.json`` are added.
    decimals : int, optional
        Decimals of floating-point numbers in the CSV. The JSON, a list of one object a row, keeps them all.
        What is missing or not finite is an empty cell in the CSV and null in the JSON.

    Returns
    -------
    tuple of pathlib.Path
        The CSV and the JSON.
    """
    stem = Path(stem)
    frame = frame.reset_index() if frame.index.name else frame.reset_index(drop=True)
    frame = frame.replace([np.inf, -np.inf], np.nan)
    csv, json = (stem.with_name(stem.name + suffix) for suffix in (".csv", ".json"))
    with written_aside(csv) as aside:
        frame.to_csv(aside, index=False, float_format=f"%.{decimals}f", lineterminator="\n")
    write_json(json, frame.astype(object).where(frame.notna(), None).to_dict("records"))
    return csv, json
