"""Explain in one sentence why a run failed."""

import contextlib
import functools
import json
import re
from pathlib import Path

import yaml

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def schema_faults(config, schema):
    """Return the faults that a JSON schema finds in a profile or sweep as text, each with its section."""
    validator = _validator(Path(schema).read_text(encoding="utf-8"))
    faults = sorted(validator.iter_errors(dict(config)), key=lambda fault: fault.json_path)
    return "; ".join(
        f"in {fault.json_path.removeprefix('$.').replace('$', 'the profile')}: {fault.message}{_advice(fault)}"
        for fault in faults
    )


@functools.cache  # each point of a sweep is checked
def _validator(schema):
    """Return what checks values by a JSON schema, which is given as YAML text."""
    from jsonschema import Draft202012Validator  # takes a second, which a run's path and its failures need not

    return Draft202012Validator(yaml.safe_load(schema))


def _advice(fault):
    """Return what to write for a number that YAML reads as text; an empty string for other faults."""
    if fault.validator == "type" and isinstance(fault.instance, str):
        with contextlib.suppress(ValueError):
            return f" (YAML reads it as text: write {float(fault.instance)!r} without quotes)"
    return ""


def last_line(path):
    """Return the last line of a text file that is not blank, or an empty string."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def notebook_failure(path):
    """Return the error of a notebook that papermill could not finish, as one line; None if there is none."""
    try:
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                return _ANSI.sub("", f"{output['ename']}: {output['evalue']}").split("\n")[0]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if code and all(cell["execution_count"] is None for cell in code):
        return "its kernel did not start: choose one that `jupyter kernelspec list` names, and give make KERNEL=NAME"
    for number, cell in enumerate(notebook["cells"], start=1):
        # papermill does not record that a kernel died, and marks every cell as completed.
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip() and cell["execution_count"] is None:
            return f"the kernel died in cell {number}: run again, with more memory if it had too little"
    return None


def _made(run, name):
    """Return the output of the job whose log has the name `name`."""
    # The page of a kept sweep is in sweeps/, and all other outputs are stamp files.
    sweep = name.removeprefix("sweep-")
    return Path(run, "marks", name) if sweep == name else Path(run, "sweeps", f"{sweep}.ipynb")


def explanation(run, since=0.0, names=None):
    """Explain the failures of a run's jobs that wrote their logs after `since` (seconds of the epoch).

    `names` maps paths as notebooks give them, relative to their folder, to paths as the user gave them.
    """
    sentences = []
    for log in sorted(path for path in Path(run, "logs").glob("*") if path.is_file()):
        if log.stat().st_mtime < since:
            continue
        if log.suffix == ".ipynb":
            failure = notebook_failure(log)
            if failure:
                sentences.append(f"{log.stem} failed: {failure} (partial notebook: {log})")
        elif not log.with_suffix(".ipynb").exists() and not _made(run, log.stem).exists():
            sentences.append(f"{log.stem} failed: {last_line(log) or 'no output'} (log: {log})")
    text = "\n".join(sentences)
    for notebook_path, user_path in (names or {}).items():
        text = text.replace(notebook_path, user_path)
    return text or f"The run stopped, and no log says why: see {run}/logs and .snakemake/log."
