"""Collect the results of a sweep in one tidy table, and explain which points are missing.

The table has one row per run and metric, with all parameters, the provenance and the value. It is written at the end of
each workflow, even one that failed, so it can be read when half the points are missing.
"""

import contextlib
import fnmatch
import hashlib
import json
import os
import subprocess
from pathlib import Path

import launch
import pandas as pd
import sweeps
from failures import last_line, notebook_failure

from galaxynb.files import write_json, written_aside
from galaxynb.provenance import commit_text, device_text, load_records
from galaxynb.stages import SECTIONS

DONE, FAILED, MISSING = "done", "failed", "missing"
#: Files in a sweep's folder: the sweep that the folder belongs to, and a digest of the points in the table.
CLAIM, COLLECTED = "sweep.json", "collected.json"
_EFFECT = ("drop", "gain", "recovery")
_LEAST = ["sweep", "point", "profile", "data kind", "commit", "device", "metric", "value", "low", "high"]
_TABLES = ("table1_clean", "table2_noisy", "table3_denoised")


def metrics(folder):
    """Return the metrics of a run by name, as dicts of ``value`` and, with an interval, ``low`` and ``high``."""
    found = {}
    whole = json.loads(Path(folder, "metrics.json").read_text(encoding="utf-8"))
    for name, estimate in whole["estimates"].items():
        found[f"{'effect' if name in _EFFECT else 'accuracy'}/{name}"] = estimate
    for row in whole["image quality"]:
        for name in ("psnr_mean", "ssim_mean"):
            found[f"quality/{row['Images']} against {row['Against']}/{name.partition('_')[0]}"] = {"value": row[name]}
    for name in ("strength", "clean accuracy", "noisy accuracy"):
        if "noise" in whole:  # runs before the calibration lack it
            found[f"noise/{name}"] = {"value": whole["noise"][name]}
    for name in _TABLES:
        for row in json.loads(Path(folder, "tables", f"{name}.json").read_text(encoding="utf-8")):
            for column in ("Precision", "Recall", "F1-score", "Support"):
                if row[column] is not None:
                    found[f"table/{name.partition('_')[2]}/{row['Class']}/{column}"] = {"value": row[column]}
    return found


def trials_of(remedies):
    """Return the results and the record of each trial in a folder of remedies, by the remedy's name."""
    return json.loads(Path(remedies, "remedies.json").read_text(encoding="utf-8"))["remedies"]


def records_of(folder, *, remedies=None):
    """Return the records of a run's stages. `remedies` is the folder of its remedies, if it has any."""
    records = load_records(folder)
    if remedies:
        records["remedies"] = load_records(remedies)["remedies"]
        # The stage compares the remedies. Its time here includes the trials.
        records["remedies"]["wall_s"] += sum(trial["wall seconds"] for trial in trials_of(remedies).values())
    return records


def remedy_metrics(folder):
    """Return the metrics of a run's remedies by name, as `metrics` does."""
    from galaxynb.remedies.results import psnr_of  # takes a second, which sweeps without remedies need not

    found = {}
    for name, one in trials_of(folder).items():
        if one["failed"]:
            continue
        found |= {f"remedy/{name}/{images}": estimate for images, estimate in one["accuracy"].items()}
        found[f"remedy/{name}/recovery"] = one["recovery"]
        plain = {"mce": one.get("mce"), "psnr": psnr_of(one), **(one.get("verdict") or {})}
        found |= {f"remedy/{name}/{key}": {"value": value} for key, value in plain.items()}
    return found


def made_by(folder, *, remedies=None):
    """Return the provenance of a run, as columns of the table. `remedies` is the folder of its remedies, if any."""
    records = records_of(folder, remedies=remedies)
    trials = trials_of(remedies).values() if remedies else ()
    stages = [records[stage] for stage in SECTIONS if stage in records]
    commits = {commit_text(record) for record in (*stages, *trials)}
    devices = {device_text(record["device"]) for record in stages}
    devices |= {device for trial in trials if not trial["failed"] for device in (trial["device"], *trial["trained on"])}
    last = records["evaluation"]
    return {
        "commit": ", ".join(sorted(commits)),
        "data kind": last["data"]["kind"],
        "data sha256": last["data"].get("sha256"),
        "data images": last["data"].get("n_images"),
        "backend": last["backend"],
        "device": ", ".join(sorted(devices)),
        **{
            f"{stage} {name}": str(records[stage]["parameters"].get(name, ""))
            for stage in ("classifier", "autoencoder")
            for name in ("jit", "precision", "batches_on")
        },
        "versions": json.dumps(last["versions"], sort_keys=True),
        "jobs": ", ".join(record["job"] for record in stages if record["job"]),
        "seconds": round(sum(record["wall_s"] for record in stages), 1),
        "ended": max(record["time"] for record in stages),
    }


def state(root, point):
    """Return the ``state`` of a point, the ``reason``, and the path of the executed or partial ``notebook``."""
    folders = {
        stage: Path(sweeps.folder_of(root, stage, point["config"])) for stage in sweeps.stages_of(point["config"])
    }
    for stage, folder in folders.items():
        if (folder / "marks" / stage).exists():
            continue
        log = folder / "logs" / f"{stage}.ipynb"
        if not log.is_file():
            message = last_line(log.with_suffix(".txt"))
            reason = f"{stage} did not begin: {message}" if message else f"{stage} has not run yet"
            return {"state": MISSING, "reason": reason, "notebook": ""}
        # A killed notebook holds no error. Its last cells have not run.
        reason = notebook_failure(log) or "it was killed"
        return {"state": FAILED, "reason": f"{stage}: {reason}", "notebook": str(log.relative_to(root))}
    notebook = folders["05_evaluation"] / "notebooks" / "05_evaluation.ipynb"
    return {"state": DONE, "reason": "", "notebook": str(notebook.relative_to(root))}


def gather(root, name, settings, points):
    """Return the tidy table, and the state of each point.

    Returns
    -------
    results : pandas.DataFrame
        One row per finished run and metric.
    states : pandas.DataFrame
        One row per point.
    """
    rows, states = [], []
    names = list(dict.fromkeys(name for point in points for name in point["axes"]))
    for point in points:
        folder = Path(sweeps.folder_of(root, "05_evaluation", point["config"]))
        found = state(root, point)
        parameters = _flat(point["config"])
        # A single point may not set all axes. The others then have the values of the profile.
        axes = {name: point["axes"].get(name, parameters.get(name, "")) for name in names}
        states.append({"point": sweeps.label(point)} | axes | found | {"folder": folder.name})
        remedies = None
        if "remedies" in point["config"]:
            remedies = Path(sweeps.folder_of(root, "06_remedies", point["config"]))
            states[-1]["remedies folder"] = remedies.name
        if found["state"] != DONE:
            continue
        try:
            numbers, made = metrics(folder), made_by(folder, remedies=remedies)
            if remedies:
                numbers |= remedy_metrics(remedies)
        except (OSError, ValueError, KeyError) as error:
            states[-1] |= {"state": FAILED, "reason": f"its results cannot be read: {type(error).__name__}: {error}"}
            continue
        run = {"sweep": name, "point": sweeps.label(point)} | axes | parameters | made
        run |= {"profile": settings["profile"], "notebook": found["notebook"]}
        wanted = settings.get("results", ["*"])
        for metric, number in numbers.items():
            if any(fnmatch.fnmatchcase(metric, pattern) for pattern in wanted):
                rows.append(run | {"metric": metric} | {key: number.get(key) for key in ("value", "low", "high")})
    # Without rows, the table would have no columns, and readers of the table would fail.
    return _of_one_kind(pd.DataFrame(rows, columns=None if rows else _LEAST)), pd.DataFrame(states)


def claim(root, path):
    """Record that the folder `root` belongs to the sweep's file `path`.

    Raises
    ------
    SweepError
        If the folder belongs to another file of the same name.
    """
    mine = os.path.relpath(path)
    with contextlib.suppress(FileNotFoundError):
        owner = json.loads(Path(root, CLAIM).read_text(encoding="utf-8"))["file"]
        if owner != mine:
            raise sweeps.SweepError(
                f"{root} holds the sweep of {owner}, but a separate folder is needed: give {mine} another name, or "
                f"remove {root}"
            )
        return
    write_json(Path(root, CLAIM), {"file": mine})


def is_stale(root, settings, points):
    """Return whether all points are done, but the table is missing, older than a run, or of other points."""
    made = sweeps.jobs(root, points)
    marks = [Path(folder, "marks", stage) for stage, folders in made.items() for folder in folders]
    if not all(mark.exists() for mark in marks):
        return False
    collected = Path(root, COLLECTED)
    if not collected.is_file() or not Path(root, "results.parquet").is_file():
        return True
    same = json.loads(collected.read_text(encoding="utf-8"))["of"] == _digest(settings, points)
    return not same or collected.stat().st_mtime < max(mark.stat().st_mtime for mark in marks)


def _digest(settings, points):
    return hashlib.sha256(json.dumps([settings, points], sort_keys=True).encode()).hexdigest()


def summarize(root, path, settings, points, kernel):
    """Write the table (parquet and CSV), the points (CSV) and the report. Return a summary for the terminal."""
    root, name = Path(root), Path(path).stem
    results, states = gather(root, name, settings, points)
    for stem, table in (("results", results), ("points", states)):
        with written_aside(root / f"{stem}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    with written_aside(root / "results.parquet") as temporary:
        results.to_parquet(temporary, index=False)
    done = (states["state"] == DONE).sum()
    lines = [f"{name}: {done} of {len(states)} points are done; table: {root}/results.csv (and .parquet)"]
    for row in states[states["state"] != DONE].to_dict("records"):
        where = f" (partial notebook: {root}/{row['notebook']})" if row["notebook"] else ""
        lines.append(f"  {row['point']} {row['state']}: {row['reason']}{where}")
    lines.append(report(root, kernel))
    write_json(root / COLLECTED, {"of": _digest(settings, points)})
    return "\n".join(lines)


def report(root, kernel):
    """Execute the notebook on sweeps, render it as HTML in `root`, and return a line that names the page."""
    root = Path(root)
    executed, page = root / "sweep.ipynb", root / "report.html"
    run = [*launch.command("papermill"), "book/sweep.ipynb", executed, "-k", kernel]
    run += ["-p", "sweep_dir", os.path.relpath(root, "notebooks"), "--cwd", "notebooks", "--no-progress-bar"]
    render = [*launch.command("nbconvert"), executed, "--to", "html", "--no-input", "--output-dir", root.resolve()]
    try:
        with written_aside(page) as temporary:
            for command in (run, [*render, "--output", temporary.name]):
                # Hide the output: users who wait for a sweep have no use for the messages of a kernel.
                subprocess.run([*command, "--log-level", "ERROR"], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        return f"no report: {(error.stderr.strip() or 'no output').splitlines()[-1]}"
    return f"report: {page}"


def _of_one_kind(table):
    """Convert columns that mix types, which parquet cannot hold, to text."""
    for name in table.columns:
        kinds = {type(value) for value in table[name] if value is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            table[name] = table[name].map(lambda value: value if isinstance(value, str) else json.dumps(value))
    return table


def _flat(config, prefix=""):
    """Return nested settings as a flat dict of dotted names."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list) else value
    return flat
