"""Say in one sentence why a run failed."""

import json
import re
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def schema_faults(config, schema):
    """Say what in a profile a JSON schema does not allow, each fault with the section it is in."""
    validator = Draft202012Validator(yaml.safe_load(Path(schema).read_text(encoding="utf-8")))
    faults = sorted(validator.iter_errors(dict(config)), key=lambda fault: fault.json_path)
    return "; ".join(
        f"in {fault.json_path.removeprefix('$.').replace('$', 'the profile')}: {fault.message}" for fault in faults
    )


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
        return "its kernel did not start: `jupyter kernelspec list` names those there are; give make KERNEL=one of them"
    for number, cell in enumerate(notebook["cells"], start=1):
        # papermill records nothing of a kernel that died, and calls every cell completed.
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip() and cell["execution_count"] is None:
            return f"the kernel died in cell {number}; run again, with more memory if it was killed for that"
    return None


def _made(run, name):
    """Return what the job whose log is called `name` makes."""
    # The page of a sweep is made in another place than the stages' marks.
    sweep = name.removeprefix("sweep-")
    return Path(run, "marks", name) if sweep == name else Path(run, "sweeps", f"{sweep}.ipynb")


def explanation(run, since=0.0, names=None):
    """Explain the failures of a run's jobs that wrote their logs after `since` (seconds of the epoch).

    `names` says what paths are called where the user stands: notebooks see them from their own folder.
    """
    sentences = []
    for log in sorted(Path(run, "logs").glob("*")):
        if log.stat().st_mtime < since:
            continue
        if log.suffix == ".ipynb":
            failure = notebook_failure(log)
            if failure:
                sentences.append(f"{log.stem} failed: {failure} (partial notebook: {log})")
        elif not log.with_suffix(".ipynb").exists() and not _made(run, log.stem).exists():
            lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            sentences.append(f"{log.stem} failed: {lines[-1] if lines else 'no output'} (log: {log})")
    text = "\n".join(sentences)
    for there, here in (names or {}).items():
        text = text.replace(there, here)
    return text or f"The run stopped before a notebook could say why; see {run}/logs and .snakemake/log."
