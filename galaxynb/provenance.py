"""What made a result: a record of each stage of a run, as JSON, and as tables for the book.

A record says which commit, profile, seeds, parameters, data, packages, backend and device a stage ran with,
how long it took and how much memory it used. Records are published, so they hold no path of the machine. They
are written for readers; nothing here decides what to run again.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from galaxynb import __version__
from galaxynb.compute import cores, list_gpus
from galaxynb.files import write_json
from galaxynb.stages import SECTIONS

__all__ = [
    "KINDS",
    "PACKAGES",
    "checkout_state",
    "device_text",
    "load_records",
    "record_summary",
    "records_table",
    "write_record",
]


#: Distributions whose versions are recorded, where they are installed.
PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "h5py",
    # The same cv2 under the names it is distributed by.
    "opencv-python-headless",
    "opencv-python",
    "scikit-image",
    "scikit-learn",
    "matplotlib",
    "seaborn",
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "papermill",
    "snakemake",
    "jupyter-book",
)


#: What a run's images can be, as `galaxynb.data` tells it by the file's attribute.
KINDS = ("standin", "real")


def write_record(stage, run_dir, *, parameters, seeds, data, extra=None, profile=None):
    """Write ``<run_dir>/provenance/<stage>.json``, the record of a stage that has just ended.

    Parameters
    ----------
    stage : str
        One of `stages.SECTIONS`, or another name of letters, digits, ``_`` and ``-``.
    run_dir : str or os.PathLike
        The run's folder.
    parameters : dict
        What the stage was run with. Dataclasses, numpy scalars and arrays are allowed. Absolute paths, here
        and in all that follows, are written relative to the working folder where they lie in it, and as their
        last part alone elsewhere.
    seeds : dict
        Seeds by what they seed.
    data : dict
        ``kind``, one of `KINDS`; further ``sha256``, ``source`` and ``n_images`` as far as known, such as
        `data.Cache.info`.
    extra : dict, optional
        Anything else worth keeping.
    profile : str, optional
        Name of the profile. By default ``parameters["profile"]``, where there is one.

    Returns
    -------
    dict
        The record as written. ``commit`` is "unknown" and ``dirty`` None without git or outside a checkout.
        ``backend`` is None unless the process has imported Keras. ``wall_s`` counts from the start of the
        process, in seconds. ``job`` names the scheduler's job, such as "slurm 17", and is None without one.
        ``peak_memory_bytes`` is the resident peak of the process or of its largest ended child, whichever is
        larger.

    Raises
    ------
    ValueError
        If `stage` is no plain name or ``data["kind"]`` is unknown.
    TypeError
        If a value cannot be written as JSON.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", stage):
        raise ValueError(f"stage is {stage!r}; expected letters, digits, _ and - only, since it names a file")
    if data.get("kind") not in KINDS:
        raise ValueError(f"data['kind'] is {data.get('kind')!r}; expected one of {', '.join(KINDS)}")
    if profile is None:
        profile = parameters.get("profile")
    # Before git runs: a child counts its parent's memory as its own until it has started its program.
    peak = _peak_memory()
    commit, dirty = _commit()
    entry = {
        "stage": stage,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "profile": profile,
        "parameters": parameters,
        "seeds": seeds,
        "data": data,
        "versions": _versions(),
        "backend": _backend(),
        "device": _device(),
        "job": _job(),
        "wall_s": round(time.time() - psutil.Process().create_time(), 1),
        "peak_memory_bytes": peak,
        "extra": extra or {},
    }
    entry = _publishable(entry, "record")
    write_json(Path(run_dir) / "provenance" / f"{stage}.json", entry)
    return entry


def load_records(run_dir):
    """Read the records of a run.

    Parameters
    ----------
    run_dir : str or os.PathLike
        The run's folder.

    Returns
    -------
    dict of dict
        Records by stage: those of `stages.SECTIONS` in their order, then any other in order of time.

    Raises
    ------
    FileNotFoundError
        If the run has no record.
    ValueError
        If a record is not readable.
    """
    folder = Path(run_dir) / "provenance"
    # A name with a dot in front is a file still being written.
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
    if not paths:
        raise FileNotFoundError(f"no provenance records in {folder}: run the notebooks of this study first")
    records = {}
    for path in paths:
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            records[entry["stage"]] = entry
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no provenance record; run its stage again") from error

    def place(stage):
        known = SECTIONS.index(stage) if stage in SECTIONS else len(SECTIONS)
        return known, records[stage].get("time", ""), stage

    return {stage: records[stage] for stage in sorted(records, key=place)}


def records_table(records):
    """Return a row for each stage: where and from what it was made, and what it cost.

    Parameters
    ----------
    records : dict of dict
        From `load`.

    Returns
    -------
    pandas.DataFrame
        Columns ``Stage``, ``Commit``, ``Backend``, ``Device``, ``Wall time``, ``Peak memory``;
        text for reading.
    """
    rows = [
        {
            "Stage": stage,
            "Commit": _commit_text(entry),
            "Backend": entry["backend"] or "none",
            "Device": device_text(entry["device"]),
            "Wall time": _time_text(entry["wall_s"]),
            "Peak memory": _memory_text(entry["peak_memory_bytes"]),
        }
        for stage, entry in records.items()
    ]
    return pd.DataFrame(rows, columns=["Stage", "Commit", "Backend", "Device", "Wall time", "Peak memory"])


def record_summary(record):
    """Return a record as two columns for reading, ``What`` and ``Value``, such as for the end of a notebook.

    Parameters
    ----------
    record : dict
        From `record`, or one of those from `load`.

    Returns
    -------
    pandas.DataFrame
        All text.
    """
    rows = [
        ("Stage", record["stage"]),
        ("Ended (UTC)", record["time"].removesuffix("+00:00").replace("T", " ")),
        ("Commit", _commit_text(record)),
        ("Profile", _text(record["profile"])),
    ]
    for title, part in (("Data", "data"), ("Parameter", "parameters"), ("Seed", "seeds")):
        rows += [(f"{title}: {name}", value) for name, value in _flat(record[part])]
    rows += [
        ("Backend", record["backend"] or "none"),
        ("Device", device_text(record["device"])),
        ("Platform", record["device"]["platform"]),
        ("Job", record.get("job") or "none"),
        ("Wall time", _time_text(record["wall_s"])),
        ("Peak memory", _memory_text(record["peak_memory_bytes"])),
    ]
    rows += [(f"Version: {name}", version) for name, version in record["versions"].items()]
    rows += _flat(record["extra"])
    return pd.DataFrame(rows, columns=["What", "Value"])


def checkout_state():
    """Return which commit the package is at, for records that no stage writes.

    Returns
    -------
    commit : str
        "unknown" without git or outside a checkout.
    dirty : bool or None
        Whether the checkout has changes; None where the commit is unknown.
    """
    return _commit()


# What is recorded -----------------------------------------------------------------------------------


def _commit():
    """Return the checkout's commit and whether it has changes, or ("unknown", None).

    The checkout is the one that holds this package or else the working folder, and only one that tracks the
    package: an environment inside someone else's repository must not lend us its commit.
    """
    for folder in (Path(__file__).parent, Path.cwd()):
        if _git(folder, "ls-files", "--error-unmatch", ":/galaxynb/__init__.py") is None:
            continue
        commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain")
        if commit is not None and changes is not None:
            return commit, bool(changes)
    return "unknown", None


def _git(folder, *arguments):
    """Return the output of a git command, or None where it fails or there is no git."""
    # Reading must not take the index lock from someone at work in the checkout.
    return _output("git", "-C", str(folder), *arguments, environment={"GIT_OPTIONAL_LOCKS": "0"})


def _output(*command, environment=None):
    """Return what a program prints, stripped, or None where it fails or does not exist."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
            env=os.environ | (environment or {}),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions():
    """Return versions of Python, this package and those of `PACKAGES` that are installed, without imports."""
    versions = {"python": platform.python_version(), "galaxynb": __version__}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _backend():
    """Return the name of Keras's backend where this process uses Keras, or else None."""
    keras = sys.modules.get("keras")
    return None if keras is None else keras.backend.backend()


def _device():
    """Return the platform, the CPU and, where Keras sees any, the GPUs."""
    # Asking for GPUs would load Keras, which takes seconds and which only stages with networks do.
    gpus = list_gpus() if "keras" in sys.modules else []
    if gpus and shutil.which("nvidia-smi"):
        # Keras only numbers them; the driver knows what they are called.
        names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
        gpus = names.splitlines()[: len(gpus)] if names else gpus
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": cores(),
        "gpus": gpus,
    }


def _job():
    """Return which job of a cluster's scheduler this process belongs to, or None."""
    number = os.environ.get("SLURM_JOB_ID")
    return f"slurm {number}" if number else None


def _cpu_model():
    """Return the CPU's model name as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    brand = _output("sysctl", "-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else None
    return brand or platform.processor() or platform.machine() or "unknown"


def _peak_memory():
    """Return the largest resident size, in bytes, that this process or one of its ended children reached."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Linux counts in kB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def _publishable(value, name):
    """Return `value` as plain JSON values without absolute paths; `name` is for the error."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, dict):
        return {str(key): _publishable(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_publishable(item, name) for item in value]
    if isinstance(value, str):
        return _without_paths(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which JSON cannot hold; pass text, numbers or lists")


#: An absolute path of two parts or more within other text; the parts of a URL are none.
_PATH = re.compile(r"(?<![\w.:/~-])/[^\s/'\",;:()\[\]]+(?:/[^\s/'\",;:()\[\]]*)+")


def _without_paths(text):
    """Shorten absolute paths, whether they are all of `text` or stand within it."""
    if os.path.isabs(text) and "\n" not in text:  # noqa: PTH117 - Path would drop what is no path
        return _shortened(text)
    return _PATH.sub(lambda match: _shortened(match[0]), text)


def _shortened(path):
    """Return an absolute path relative to the working folder, or its last part where it lies elsewhere."""
    path = Path(os.path.normpath(path))
    with contextlib.suppress(ValueError):
        return path.relative_to(Path.cwd()).as_posix()
    return path.name


# How it is said -------------------------------------------------------------------------------------


def _commit_text(entry):
    if entry["commit"] == "unknown":
        return "unknown"
    return entry["commit"][:10] + (" with changes" if entry["dirty"] else "")


def device_text(device):
    """Name a machine in a few words, such as "1 x NVIDIA H100; AMD EPYC, 16 cores".

    Parameters
    ----------
    device : dict
        The ``device`` of a record.

    Returns
    -------
    str
    """
    # One kind of GPU is the rule: name it once.
    gpus = list(dict.fromkeys(device["gpus"]))
    cores = f"{device['cpu']}, {device['cores']} core{'s' if device['cores'] != 1 else ''}"
    return f"{len(device['gpus'])} x {', '.join(gpus)}; {cores}" if gpus else cores


def _time_text(seconds):
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _memory_text(n_bytes):
    return f"{n_bytes / 1e9:.2f} GB"


def _flat(values, prefix=""):
    """Return (name, text) pairs of a dict; names within a dict within it are joined by a dot."""
    rows = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", _text(value))]
    return rows


def _text(value):
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return "none" if value is None else str(value)
