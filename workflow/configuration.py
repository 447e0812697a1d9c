"""Read the profiles in config/: resolve the profiles that they extend, check them, and fill in defaults."""

import copy
from pathlib import Path

import yaml
from failures import schema_faults
from launch import known_profiles

from galaxynb.files import one_line


class ConfigurationError(ValueError):
    """A fault of a profile or of a sweep's file, in one sentence."""


def read_profile(name, folder):
    """Return a profile in config/, completed with the values of the profiles that it extends.

    Parameters
    ----------
    name : str
        ``quick`` for config/quick.yaml.
    folder : os.PathLike
        The folder config/.

    Returns
    -------
    dict

    Raises
    ------
    ConfigurationError
        If the profile or one that it extends is missing, cannot be read or extends itself, or if the resolved profile
        does not match config/schema.yaml.
    """
    profile = resolved(_read(name, folder), name=name, folder=folder)
    check(profile, name=name, folder=folder)
    return profile


def resolved(profile, *, name, folder):
    """Return a profile completed with the values of the profiles that it extends.

    Sections are merged key by key; a list replaces a list. The result has no key ``extends``.
    """
    chain, whole = [name], {key: value for key, value in profile.items() if key != "extends"}
    while "extends" in profile:
        base = profile["extends"]
        if base in chain:
            loop = " extends ".join([*chain, str(base)])
            raise ConfigurationError(f"config/{name}.yaml never ends ({loop}): let one of them extend none")
        if isinstance(base, int | float):
            raise ConfigurationError(
                f"config/{chain[-1]}.yaml extends {base}, a number, but the name of a profile is needed: quote it"
            )
        if not isinstance(base, str) or not Path(folder, f"{base}.yaml").is_file():
            known = ", ".join(known_profiles(folder))
            raise ConfigurationError(
                f"config/{chain[-1]}.yaml extends {base}, but there is no config/{base}.yaml: name one of {known}"
            )
        chain.append(base)
        profile = _read(base, folder)
        whole = merged(profile, whole)
    whole.pop("extends", None)
    return whole


def merged(base, changes):
    """Return the nested settings `base`, with the values in `changes` replaced."""
    whole = copy.deepcopy(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = merged(whole[key], value) if both else copy.deepcopy(value)
    return whole


def with_defaults(settings, schema):
    """Return settings completed with the defaults of the schema."""
    whole = dict(settings)
    for key, described in schema.get("properties", {}).items():
        if key in whole and isinstance(whole[key], dict):
            whole[key] = with_defaults(whole[key], described)
        elif key not in whole and "default" in described:
            whole[key] = described["default"]
    return whole


def read_schema(folder):
    """Return the schema of a profile, from config/schema.yaml."""
    return yaml.safe_load(Path(folder, "schema.yaml").read_text(encoding="utf-8"))


def place(name, label=""):
    """Return the file of a profile, with the values of a sweep's point, as messages name it."""
    return f"config/{name}.yaml{label and f', {label}'}"


def check(profile, *, name, folder, label=""):
    """Raise `ConfigurationError` if a resolved profile, or the point `label` of a sweep, does not match the schema."""
    if faults := schema_faults(profile, Path(folder, "schema.yaml")):
        raise ConfigurationError(f"{place(name, label)}: {faults}; see config/schema.yaml for what it may hold")


def _read(name, folder):
    needed = "those of config/schema.yaml are"
    return read_keys(Path(folder, f"{name}.yaml"), label=f"config/{name}.yaml", needed=needed)


def read_keys(path, *, label, needed, error=ConfigurationError):
    """Return the keys of a YAML file. If it has none, raise `error`, which names the `label` and what is `needed`."""
    try:
        keys = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as fault:
        raise error(f"{label} is no YAML ({one_line(fault)}), but valid YAML is needed: correct it") from None
    if not isinstance(keys, dict):
        raise error(f"{label} holds no keys, but {needed} needed: add them")
    return keys
