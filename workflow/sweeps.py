"""Sweeps: many runs of the study with different parameters, which share each stage whose parameters agree.

A sweep is a file in config/sweeps/. Each point is a whole configuration of the study. The folder of a stage is named
after a digest of all parameters that decide its results, so points with the same values of these share the folder.
"""

import copy
import hashlib
import itertools
import json
from pathlib import Path

from configuration import ConfigurationError, read_keys, read_profile, with_defaults
from failures import schema_faults
from launch import data_path

from galaxynb.stages import SECTIONS, STAGES

#: Parameters outside the sections of a profile.
SHARED = ("seed", "source")
#: Columns of the tables other than parameters.
RESERVED = {
    *("sweep", "point", "state", "reason", "notebook", "folder", "remedies folder", "profile"),
    *("data kind", "data sha256", "data images", "commit", "backend", "device", "versions", "jobs", "seconds", "ended"),
    *("metric", "value", "low", "high"),
}


class SweepError(ConfigurationError):
    """A fault of a sweep's file, in one sentence."""


def points(sweep, profile, schema):
    """Return the points of a sweep. Each is a dict of ``axes`` (its values) and ``config`` (the whole configuration).

    Parameters
    ----------
    sweep, profile : dict
        As config/sweep.schema.yaml and config/schema.yaml describe them.
    schema : dict
        Content of config/schema.yaml, for the names and defaults of parameters. `preflight` checks the values.

    Raises
    ------
    SweepError
        If an axis or point names an unknown parameter, or two points are the same.
    """
    if taken := sorted(RESERVED & sweep.get("axes", {}).keys()):
        raise SweepError(f"an axis is called {taken[0]}, but this is a column of the table: give the axis another name")
    axes = {name: [_assignment(name, value) for value in values] for name, values in sweep.get("axes", {}).items()}
    if sweep.get("combine") == "zip" and len({len(values) for values in axes.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in axes.items())
        raise SweepError(
            f"combine is zip, but the lengths of the axes differ ({lengths}): give each the same number of values"
        )
    combined = zip(*axes.values(), strict=True) if sweep.get("combine") == "zip" else itertools.product(*axes.values())
    chosen = [dict(zip(axes, values, strict=True)) for values in combined] if axes else []
    chosen += [{name: (value, {name: value}) for name, value in point.items()} for point in sweep.get("points", [])]
    # The table lists all parameters of a point. Top-level defaults are settings of make, not of a point.
    sections = schema["properties"]
    # The section of the remedies is a part of a point only if the sweep goes as far.
    profile = {name: value for name, value in profile.items() if name not in SECTIONS or name in sections_of(sweep)}
    profile = profile | {name: with_defaults(profile.get(name, {}), sections[name]) for name in sections_of(sweep)}
    found, seen = [], set()
    for choice in chosen:
        config = copy.deepcopy(profile) | {"source": data_path(sweep.get("source", "standin"))}
        for _, parameters in choice.values():
            for name, value in parameters.items():
                _set(config, name, value, schema)
        point = {"axes": {name: value for name, (value, _) in choice.items()}, "config": config}
        identity = digest(config)
        if identity in seen:
            raise SweepError(f"the point {label(point)} is there twice, but points must differ: leave one out")
        seen.add(identity)
        found.append(point)
    return found


def label(point):
    """Return the values of a point on the axes as text, such as ``seed=42, noise.sigma=0.15``."""
    return ", ".join(f"{name}={value}" for name, value in point["axes"].items())


def digest(value):
    """Return a hash of ten hexadecimal digits of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def folder_of(root, stage, config):
    """Return the folder of a stage, for a configuration."""
    return f"{root}/{STAGES[stage].section}-{digest(_decides(stage, config))}"


def sections_of(sweep):
    """Return the sections of a profile that the points of a sweep have: those of all stages up to the last one."""
    return SECTIONS[: SECTIONS.index(sweep.get("until", "evaluation")) + 1]


def stages_of(config):
    """Return the stages that a configuration has parameters for."""
    return [name for name, stage in STAGES.items() if stage.section in config]


def jobs(root, found):
    """Return for each stage the folders that the points `found` need, each with a configuration."""
    return {
        name: {
            folder_of(root, name, point["config"]): point["config"]
            for point in found
            if stage.section in point["config"]
        }
        for name, stage in STAGES.items()
    }


def read(path, *, folder):
    """Read a sweep's file and its profile, and check both.

    Parameters
    ----------
    path : str or os.PathLike
    folder : os.PathLike
        The folder config/.

    Returns
    -------
    sweep, profile : dict
        The profile includes the values of the profiles that it extends.

    Raises
    ------
    SweepError
        If the sweep does not match its schema.
    ConfigurationError
        If the profile does not match its schema.
    """
    path, folder = Path(path), Path(folder)
    try:
        sweep = read_keys(path, label=path, needed="profile, and axes or points, are", error=SweepError)
    except FileNotFoundError:
        known = ", ".join(str(other) for other in sorted(folder.glob("sweeps/*.yaml")))
        raise SweepError(
            f"{path} is missing, but a sweep's file is needed: give one of {known}, or write your own"
        ) from None
    if faults := schema_faults(sweep, folder / "sweep.schema.yaml"):
        raise SweepError(f"{path}: {faults}; see config/sweep.schema.yaml for what it may hold")
    if not sweep.keys() & {"axes", "points"}:
        raise SweepError(
            f"{path} names no axes and no points, but one of them is needed: add it, as in config/sweeps/seeds.yaml"
        )
    profile_path = folder / f"{sweep['profile']}.yaml"
    if not profile_path.is_file():
        raise SweepError(
            f"{path}: profile is {sweep['profile']}, but there is no {profile_path}: choose another profile"
        )
    return sweep, read_profile(sweep["profile"], folder)


def _decides(stage, config):
    """Return all parameters that decide the results of a stage: its own, and those of the stages that it needs."""
    decides = {"seed": config["seed"], "source": config["source"]}
    for name in (stage, *STAGES[stage].needs):
        section = STAGES[name].section
        decides[section] = config[section]
    return decides


def _assignment(name, value):
    """Return the value that names a point on an axis, and the parameters that it sets."""
    if not isinstance(value, dict):
        return value, {name: value}
    if "value" not in value:
        raise SweepError(f"axis {name}: {value} has no key value, but one is needed to name the point: add it")
    return value["value"], {key: setting for key, setting in value.items() if key != "value"}


def _set(config, name, value, schema):
    section, _, parameter = name.partition(".")
    if name in SHARED:
        config[name] = data_path(value) if name == "source" else value
    elif section in config and section in SECTIONS and parameter in schema["properties"][section]["properties"]:
        config[section] = config[section] | {parameter: value}
    else:
        known = (
            [name for name in SECTIONS if name in config]
            if section not in config
            else schema["properties"][section]["properties"]
        )
        prefix = "" if section not in config else f"{section}."
        names = ", ".join([*SHARED, *(f"{prefix}{one}{'' if prefix else '.<parameter>'}" for one in known)])
        raise SweepError(f"{name} is no parameter, but one is needed: choose from {names}")
