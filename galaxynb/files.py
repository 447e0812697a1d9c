"""Find the folder of a run, and write files so that no half-written file ever has its final name."""

import contextlib
import errno
import json
import math
import os
import re
import shutil
import socket
from pathlib import Path

__all__ = ["explain_full_disk", "one_line", "run_path", "save_table", "write_json", "written_aside"]


def run_path(run_dir):
    """Return the folder of a run as a path, if the working folder is that of the notebooks.

    The notebooks' paths are relative to their own folder. From another working folder, results would land elsewhere.

    Parameters
    ----------
    run_dir : str
        Folder of the run, relative to the folder of the notebooks, or absolute.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    FileNotFoundError
        If the working folder is not the folder of the notebooks or one beside it.
    ImportError
        If the package belongs to another checkout, because it may not fit these notebooks.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as checkout, contextlib.chdir(checkout):
    ...     write_json("notebooks/01_data.ipynb", {})
    ...     with contextlib.chdir("notebooks"):
    ...         run_path("../runs/mine").as_posix()
    '../runs/mine'
    """
    if not Path("../notebooks/01_data.ipynb").is_file():
        raise FileNotFoundError(
            f"the working folder is {Path.cwd()}, but the folder notebooks/ is needed, because paths such as {run_dir} "
            "are relative to it: give papermill `--cwd notebooks`, or start the notebook's kernel in that folder"
        )
    beside, ours = Path("../galaxynb").resolve(), Path(__file__).parent.resolve()
    if beside.is_dir() and beside != ours:
        raise ImportError(
            f"galaxynb comes from {ours}, but {beside}, beside the notebook, is needed: choose this checkout's kernel"
        )
    return Path(run_dir)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _alive(pid):
    if os.name != "posix":
        return True  # on other systems, os.kill would end the process instead of looking for it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_leftovers(path):
    """Remove the temporary files that killed processes of this machine left next to `path`."""
    names = re.compile(
        rf"\.{re.escape(path.stem)}\.{re.escape(socket.gethostname())}-(\d+)\.(partial|old)"
        rf"{re.escape(path.suffix)}"
    )
    for leftover in list(path.parent.iterdir()):
        found = names.fullmatch(leftover.name)
        if found is None or _alive(int(found[1])):
            continue
        if found[2] == "old" and not path.exists():
            leftover.rename(path)  # the process was killed between its two renames: restore the earlier result
        else:
            _remove(leftover)


@contextlib.contextmanager
def written_aside(path):
    """Yield a temporary path to write to, and rename it to `path` if the block succeeds.

    The block may create a file or a folder at the temporary path. If the block raises an error, the temporary file is
    removed and an earlier `path` stays as it was. If the process is killed, the next call for the same `path` on the
    same machine removes the temporary file.

    Parameters
    ----------
    path : str or os.PathLike
        Final path of the file or folder. Its parent folder is created.

    Yields
    ------
    pathlib.Path
        Temporary path, in the same folder as `path` and with the same suffix.

    Raises
    ------
    FileNotFoundError
        If the block ends but wrote nothing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with written_aside(f"{folder}/made.txt") as temporary:
    ...         _ = temporary.write_text("all of it")
    ...     Path(folder, "made.txt").read_text()
    'all of it'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    # Keep the suffix, because some writers choose the file format by it. Add the name of the machine, because several
    # machines that share a disk may use the same process number.
    prefix = f".{path.stem}.{socket.gethostname()}-{os.getpid()}"
    temporary = path.with_name(f"{prefix}.partial{path.suffix}")
    _remove(temporary)
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"nothing was written for {path}, but a file or folder is needed: write one")
        if path.is_dir():
            # Move the old folder away first: one rename cannot replace a folder that is not empty.
            old = path.with_name(f"{prefix}.old{path.suffix}")
            path.rename(old)
            try:
                temporary.rename(path)
            except OSError:
                old.rename(path)
                raise
            _remove(old)
        else:
            temporary.replace(path)
    finally:
        _remove(temporary)


def write_json(path, value):
    """Write `value` to `path` as indented JSON with sorted keys.

    Parameters
    ----------
    path : str or os.PathLike
        Path of the file.
    value : object
        Any value that `json` can write. NaN and infinity are refused, because JSON has no such numbers.

    Raises
    ------
    ValueError
        If `value` holds NaN or infinity.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "metrics.json", {"recovery": 0.8, "n_images": 100})
    ...     print((Path(folder) / "metrics.json").read_text(), end="")
    {
      "n_images": 100,
      "recovery": 0.8
    }
    """
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with written_aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def one_line(error):
    r"""Return the text of an error in one line.

    Parameters
    ----------
    error : object
        An exception or a text.

    Returns
    -------
    str
        The text, with single spaces in place of line breaks and other white space.
    """
    return " ".join(str(error).split())


@contextlib.contextmanager
def explain_full_disk(path, n_bytes):
    """Replace the error of a full disk by a sentence that names the folder and the number of bytes.

    Parameters
    ----------
    path : pathlib.Path
        File that the block writes.
    n_bytes : int
        Size of the file in bytes.

    Raises
    ------
    OSError
        If the block raises an OSError. The text is new if there is no space left, and unchanged otherwise.
    """
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
    """Write a table as CSV, with rounded numbers, and as JSON at full precision.

    Values that are missing or not finite become empty cells in the CSV and null in the JSON.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table. A named index becomes the first column, and an unnamed one is left out.
    stem : str or os.PathLike
        Path without suffix, to which ``.csv`` and ``.json`` are added.
    decimals : int
        Number of decimals of floating-point numbers in the CSV.

    Returns
    -------
    tuple of pathlib.Path
        Paths of the CSV and of the JSON. The JSON holds a list with one object for each row.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"class": ["Merging", "In-between"], "recall": [0.8125, math.nan]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     csv, json = save_table(frame, Path(folder) / "classes")
    ...     print(csv.read_text(), end="")
    class,recall
    Merging,0.81
    In-between,
    """
    stem = Path(stem)
    frame = frame.reset_index() if frame.index.name else frame.reset_index(drop=True)
    frame = frame.replace([math.inf, -math.inf], math.nan)
    csv, json = (stem.with_name(stem.name + suffix) for suffix in (".csv", ".json"))
    with written_aside(csv) as temporary:
        frame.to_csv(temporary, index=False, float_format=f"%.{decimals}f", lineterminator="\n")
    write_json(json, frame.astype(object).where(frame.notna(), None).to_dict("records"))
    return csv, json
