"""Records of how each stage of a run was made, as JSON files and as tables for the book.

A record names the commit, profile, seeds, parameters, data, package versions, backend and device of a stage, its time
and its memory. Records are published, so they hold no absolute path of the machine. They are for readers: nothing here
decides which stages run again.
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
from galaxynb.compute import VARIABLES, cores, list_gpus, unused_gpus
from galaxynb.files import write_json
from galaxynb.stages import SECTIONS

__all__ = [
    "KINDS",
    "PACKAGES",
    "checkout_state",
    "commit_text",
    "device_text",
    "find_device",
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
    # Two names under which cv2 is distributed.
    "opencv-python-headless",
    "opencv-python",
    "pillow",
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


#: Kinds of images: simulated stand-ins, or real images. `galaxynb.data.catalog` reads the kind from the data file.
KINDS = ("standin", "real")


def write_record(stage, run_dir, *, parameters, seeds, data, extra=None, profile=None):
    """Write the record of a stage that has just ended, to ``<run_dir>/provenance/<stage>.json``.

    Absolute paths inside the working folder are recorded relative to it. Of all other absolute paths, only the last
    part is recorded.

    Parameters
    ----------
    stage : str
        One of `galaxynb.stages.SECTIONS`, or another name of letters, digits, ``_`` and ``-``.
    run_dir : str or os.PathLike
        Folder of the run.
    parameters : dict
        Parameters of the stage. Dataclasses, NumPy scalars and NumPy arrays are allowed.
    seeds : dict
        Seeds, by the name of what each one seeds.
    data : dict
        Data of the stage, such as `galaxynb.data.cache.Cache.info`. ``kind`` is one of `KINDS`; ``sha256``, ``source``
        and ``n_images`` are optional.
    extra : dict, optional
        Further entries for the record.
    profile : str, optional
        Name of the profile. The default is ``parameters["profile"]``, or None if there is no such parameter.

    Returns
    -------
    dict
        The record as written. Without git, or outside a checkout, ``commit`` is "unknown" and ``dirty`` is None.
        ``backend`` is None unless the process has imported Keras. ``wall_s`` is the time since the start of the process
        in seconds. ``job`` is the scheduler's job, such as "slurm 17", or None. ``variables`` holds those of
        `galaxynb.compute.VARIABLES` that are set. ``peak_memory_bytes`` is the largest resident memory that the
        process, or any of its ended child processes, has used.

    Raises
    ------
    ValueError
        If `stage` is not such a name, or ``data["kind"]`` is unknown.
    TypeError
        If JSON cannot hold a value.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run_dir:
    ...     record = write_record(
    ...         "noise", run_dir, parameters={"profile": "smoke"}, seeds={"noise": 42}, data={"kind": "standin"}
    ...     )
    >>> record["stage"], record["profile"], record["seeds"]
    ('noise', 'smoke', {'noise': 42})
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", stage):
        raise ValueError(
            f"stage is {stage!r}, but a name of letters, digits, _ and - is needed for its file: rename it"
        )
    if data.get("kind") not in KINDS:
        raise ValueError(f"data['kind'] is {data.get('kind')!r}, but one of {', '.join(KINDS)} is needed: choose one")
    if profile is None:
        profile = parameters.get("profile")
    # Read the memory before git runs: a new child process counts its parent's memory until it starts its own program.
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
        "device": find_device(),
        "job": _job(),
        "variables": _variables(),
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
        Folder of the run.

    Returns
    -------
    dict of dict
        Record of each stage. The stages of the study come first, in their order; others follow in order of time.

    Raises
    ------
    FileNotFoundError
        If the run has no record.
    ValueError
        If a record cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> settings = {"parameters": {}, "seeds": {}, "data": {"kind": "standin"}}
    >>> with tempfile.TemporaryDirectory() as run_dir:
    ...     for stage in ("noise", "data"):
    ...         _ = write_record(stage, run_dir, **settings)
    ...     list(load_records(run_dir))
    ['data', 'noise']
    """
    folder = Path(run_dir) / "provenance"
    # A name that starts with a dot belongs to a temporary file.
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no provenance records, but one per stage is needed: run the notebooks first"
        )
    records = {}
    for path in paths:
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            records[entry["stage"]] = entry
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a provenance record, but one is needed: run its stage again") from error

    def place(stage):
        known = SECTIONS.index(stage) if stage in SECTIONS else len(SECTIONS)
        return known, records[stage].get("time", ""), stage

    return {stage: records[stage] for stage in sorted(records, key=place)}


def records_table(records):
    """Return a table of all stages, with the commit and machine, the time and the memory of each.

    Parameters
    ----------
    records : dict of dict
        Records from `load_records`.

    Returns
    -------
    pandas.DataFrame
        One row of text for each stage, with the columns ``Stage``, ``Commit``, ``Backend``, ``Device``, ``Wall time``
        and ``Peak memory``.

    Examples
    --------
    >>> device = {"platform": "Linux x86_64", "cpu": "AMD EPYC", "cores": 2, "gpus": []}
    >>> record = {"commit": "unknown", "backend": "jax", "device": device, "wall_s": 75.2, "peak_memory_bytes": 2e9}
    >>> records_table({"noise": record}).T
                                 0
    Stage                    noise
    Commit                 unknown
    Backend                    jax
    Device       AMD EPYC, 2 cores
    Wall time           1 min 15 s
    Peak memory            2.00 GB
    """
    rows = [
        {
            "Stage": stage,
            "Commit": commit_text(entry),
            "Backend": entry["backend"] or "none",
            "Device": device_text(entry["device"]),
            "Wall time": _time_text(entry["wall_s"]),
            "Peak memory": _memory_text(entry["peak_memory_bytes"]),
        }
        for stage, entry in records.items()
    ]
    return pd.DataFrame(rows, columns=["Stage", "Commit", "Backend", "Device", "Wall time", "Peak memory"])


def record_summary(record):
    """Return a table with the entries of a record, for the end of a notebook.

    Parameters
    ----------
    record : dict
        A record from `write_record` or `load_records`.

    Returns
    -------
    pandas.DataFrame
        One row of text for each entry of the record, with the columns ``What`` and ``Value``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run_dir:
    ...     record = write_record("noise", run_dir, parameters={}, seeds={"noise": 42}, data={"kind": "standin"})
    >>> summary = record_summary(record).set_index("What")
    >>> summary.loc[["Stage", "Data: kind", "Seed: noise"], "Value"].tolist()
    ['noise', 'standin', '42']
    """
    rows = [
        ("Stage", record["stage"]),
        ("Ended (UTC)", record["time"].removesuffix("+00:00").replace("T", " ")),
        ("Commit", commit_text(record)),
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
    rows += [(f"Variable: {name}", value) for name, value in record.get("variables", {}).items()]
    rows += [(f"Version: {name}", version) for name, version in record["versions"].items()]
    rows += _flat(record["extra"])
    return pd.DataFrame(rows, columns=["What", "Value"])


def checkout_state():
    """Return the commit of the checkout that holds this package.

    Programs whose files are not records of stages use this function.

    Returns
    -------
    commit : str
        Full hash of the commit, or "unknown" without git or outside a checkout.
    dirty : bool or None
        Whether the checkout has uncommitted changes outside ``book/reference``, or None if the commit is unknown.
    """
    return _commit()


# Entries of a record --------------------------------------------------------------------------------


def _commit():
    """Return the checkout's commit and whether it has changes, or ("unknown", None).

    Look for a checkout around this package, then around the working folder. It counts only if it tracks the package:
    the package may be installed inside another project's repository, whose commit would be wrong. Changes of the kept
    measurements do not count: notebooks show them, but compute nothing from them.
    """
    for folder in (Path(__file__).parent, Path.cwd()):
        if _git(folder, "ls-files", "--error-unmatch", ":/galaxynb/__init__.py") is None:
            continue
        commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, *_CHANGES)
        if commit is not None and changes is not None:
            return commit, bool(changes)
    return "unknown", None


#: Lists the changes of a checkout, without those of the kept measurements.
_CHANGES = ("status", "--porcelain", "--", ":/", ":(top,exclude)book/reference")


def _git(folder, *arguments):
    """Return the output of a git command, or None if it fails or there is no git."""
    # In a hook of git, GIT_ variables can name another repository. The workflow's XDG_CONFIG_HOME hides the user's
    # settings of git.
    hiding = {name for name in os.environ if name.startswith("GIT_") or name == "XDG_CONFIG_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hiding}
    # Do not lock git's index: someone may be at work in the checkout.
    return _output("git", "-C", str(folder), *arguments, environment=environment | {"GIT_OPTIONAL_LOCKS": "0"})


def _output(*command, environment=None):
    """Return the output of a program, stripped, or None if it fails or does not exist."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions():
    """Return the versions of Python, of this package and of the installed `PACKAGES`, without importing them."""
    versions = {"python": platform.python_version(), "galaxynb": __version__}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _backend():
    """Return the name of Keras's backend, or None if this process has not imported Keras."""
    keras = sys.modules.get("keras")
    return None if keras is None else keras.backend.backend()


def find_device():
    """Return the platform, the CPU, the cores, the GPUs that Keras can use and those that it does not see.

    Returns
    -------
    dict
        The entry ``device`` of a record. Without Keras loaded, it names no GPUs.

    Examples
    --------
    >>> find_device()["cores"] > 0
    True
    """
    # Do not load Keras, which takes seconds, for a stage without networks.
    gpus = list_gpus() if "keras" in sys.modules else []
    if gpus and shutil.which("nvidia-smi"):
        # Keras only numbers GPUs, so ask the driver for their names.
        names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
        gpus = names.splitlines()[: len(gpus)] if names else gpus
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": cores(),
        "gpus": gpus,
        "unused_gpus": unused_gpus() if "keras" in sys.modules else [],
    }


def _job():
    """Return the cluster job that this process belongs to, or None."""
    number = os.environ.get("SLURM_JOB_ID")
    return f"slurm {number}" if number else None


def _variables():
    """Return the variables that reach a stage. Values of proxies and of LD_PRELOAD are left out.

    The address of a proxy may hold a password, and a path describes the user's machine.
    """
    names = {*VARIABLES, *(name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES")))}
    set_only = [name for name in names if "proxy" in name.lower() or name == "LD_PRELOAD"]
    return {name: "set" if name in set_only else os.environ[name] for name in sorted(names) if os.environ.get(name)}


def _cpu_model():
    """Return the CPU's model name as the system spells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    brand = _output("sysctl", "-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else None
    return brand or platform.processor() or platform.machine() or "unknown"


def _peak_memory():
    """Return the largest resident memory, in bytes, of this process and of each of its ended children."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Linux counts in units of 1024 bytes, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def _publishable(value, name):
    """Return `value` as plain JSON values without absolute paths; error messages call it `name`."""
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
    raise TypeError(
        f"{name} is of type {type(value).__name__}, but a value that JSON can hold is needed: pass text, numbers,"
        " lists or dicts"
    )


#: An absolute path of two parts or more within other text. Parts of a URL do not match.
_PATH = re.compile(r"(?<![\w.:/~-])/[^\s/'\",;:()\[\]]+(?:/[^\s/'\",;:()\[\]]*)+")


def _without_paths(text):
    """Shorten all absolute paths in `text`, which may be a path as a whole."""
    if os.path.isabs(text) and "\n" not in text:  # noqa: PTH117 - Path would change text that is not a path
        return _shortened(text)
    return _PATH.sub(lambda match: _shortened(match[0]), text)


def _shortened(path):
    """Return an absolute path relative to the working folder, or only its last part if it is outside."""
    path = Path(os.path.normpath(path))
    with contextlib.suppress(ValueError):
        return path.relative_to(Path.cwd()).as_posix()
    return path.name


# Texts for tables -----------------------------------------------------------------------------------


def commit_text(entry):
    """Return the commit of a record in ten digits, with a note if the checkout had changes."""
    if entry["commit"] == "unknown":
        return "unknown"
    return entry["commit"][:10] + (" with changes" if entry["dirty"] else "")


def device_text(device):
    """Return a short text about a machine: its GPUs, its CPU and its cores.

    Parameters
    ----------
    device : dict
        The entry ``device`` of a record. Older records lack ``unused_gpus``.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> device_text({"cpu": "AMD EPYC", "cores": 2, "gpus": [], "unused_gpus": ["NVIDIA L4"]})
    'AMD EPYC, 2 cores (not used: NVIDIA L4)'
    """
    # GPUs of one machine are mostly of one kind, so name each kind once.
    gpus = list(dict.fromkeys(device["gpus"]))
    cores = f"{device['cpu']}, {device['cores']} core{'s' if device['cores'] != 1 else ''}"
    if unused := device.get("unused_gpus"):
        cores += f" (not used: {', '.join(dict.fromkeys(unused))})"
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
    """Return (name, text) pairs for the entries of a dict; a dot joins the names of nested entries."""
    rows = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", _text(value))]
    return rows


def _text(value):
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return "none" if value is None else str(value)
