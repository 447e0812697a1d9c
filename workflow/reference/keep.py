"""Keep the small results of a finished run or sweep, which every book shows: tables, figures, metrics and records.

Usage: python workflow/reference/keep.py runs/half-standin book/reference/run
       python workflow/reference/keep.py runs/sweeps/noise book/reference/sweeps/noise
"""

import json
import math
import shutil
import sys
import textwrap
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from collect import records_of

from book import SWEEPS, times
from galaxynb.files import write_json, written_aside
from galaxynb.pages import DASH, banner
from galaxynb.provenance import device_text, load_records, records_table
from galaxynb.results.evaluation import Estimate, recovery_verdict
from galaxynb.results.paper import paper_summary
from galaxynb.results.sweeps import read_sweep, sweep_provenance

TABLES = (
    "table1_clean",
    "table2_noisy",
    "table3_denoised",
    "effect",
    "accuracies",
    "image_quality",
    "classifier_history",
    "autoencoder_history",
)
#: Rows of the table on the book's first page, by the names of the estimates.
ANSWER = {
    "clean": "clean images",
    "noisy": "noisy images",
    "denoised": "denoised images",
    "drop": "*drop*",
    "gain": "*gain*",
    "recovery": "*recovery*",
}
_COLUMNS = 100  # at which Markdown is wrapped
FIGURES = ("accuracy", "confusion", "figure2", "figure5", "classifier_curves", "autoencoder_curves")


def wrapped(text, *, first="", others=""):
    """Return a paragraph of Markdown in lines. The first line begins with `first`, and the others with `others`."""
    return textwrap.fill(text, _COLUMNS, initial_indent=first, subsequent_indent=others)


def estimates_of(metrics):
    """Return the estimates of a run's metrics.json by name."""
    return {
        name: Estimate(**{key: math.nan if number is None else number for key, number in found.items()})
        for name, found in metrics["estimates"].items()
    }


def answer(metrics):
    """Return the table on the book's first page: the numbers of the kept run and of the paper."""
    estimates, paper = estimates_of(metrics), paper_summary()
    kept = [estimates[name].text() for name in ANSWER]
    return pd.DataFrame({"Accuracy": ANSWER.values(), "Kept run": kept, "Paper": [f"{paper[n]:.2f}" for n in ANSWER]})


def earlier_seconds(records, histories):
    """Return the seconds of the epochs that a resumed training had run before, by the name of the stage."""
    ran = {stage: records[stage]["extra"]["training seconds"]["epochs"] for stage in histories}
    return {stage: max(history["seconds"].sum() - ran[stage], 0) for stage, history in histories.items()}


def hours_of(records, histories):
    """Return the hours of a run, with the epochs that resumed trainings had run before."""
    seconds = [record["wall_s"] for record in records.values()]
    return (sum(seconds) + sum(earlier_seconds(records, histories).values())) / 3600


def stages_table(records, histories):
    """Return the table of the stages, with a column for the epochs that resumed trainings had run before."""
    table = records_table(records)
    earlier = earlier_seconds(records, histories)
    minutes = [round(earlier.get(stage, 0) / 60) for stage in table["Stage"]]
    where = table.columns.get_loc("Wall time") + 1
    table.insert(where, "Earlier epochs", [f"{number} min" if number else DASH for number in minutes])
    return table


def sentences(metrics, records, histories):
    """Return the two paragraphs of the chapter on the kept run: its images and devices, and its results."""
    data, evaluated = records["data"], records["evaluation"]
    estimates = estimates_of(metrics)
    devices = sorted({device_text(record["device"]) for record in records.values()})
    ran = (
        f"{banner(data['data']['kind'], data['profile'], sha256=data['data'].get('sha256'))} "
        f"{data['data']['n_images']:,} images of {data['parameters']['image_size']} px a side, on "
        f"{' and '.join(devices)}, backend {evaluated['backend']}; "
        f"its five notebooks took {hours_of(records, histories):.1f} hours in all."
    )
    if noise := metrics.get("noise"):  # runs before the calibration lack it
        how = "calibrated on the validation images" if noise["calibrated"] else "given"
        ran += f" The strength of its noise is {noise['strength']:.3g}, which was {how}."
    verdict = recovery_verdict(estimates, estimates)
    if "recall rms" in metrics:  # earlier runs lack it
        verdict.append(
            "The recalls of the ten classes on noisy images differ from the paper's by "
            f"{metrics['recall rms']:.2f} (root mean square)."
        )
    return [wrapped(text) for text in (ran, " ".join(verdict))]


def committed_records(run):
    """Return the records of a finished run.

    Raises
    ------
    ValueError
        If a stage ran with uncommitted changes, because then no commit names its code.
    FileNotFoundError
        If the run is not finished.
    """
    if not (run / "metrics.json").is_file():
        raise FileNotFoundError(f"{run} holds no finished run, but one is needed: run `make book`")
    records = load_records(run)
    changed = [stage for stage, record in records.items() if record["dirty"] is not False]
    if changed:
        raise ValueError(
            f"{run}: {', '.join(changed)} ran with uncommitted changes, but a commit is needed: commit and run again"
        )
    return records


def keep(run, out):
    """Copy the small results of `run` to `out`, in place of earlier ones.

    Raises
    ------
    ValueError, FileNotFoundError
        As for `committed_records`.
    """
    run = Path(run)
    records = committed_records(run)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    with written_aside(out) as temporary:
        temporary.mkdir()
        for name in TABLES:
            shutil.copy(run / "tables" / f"{name}.csv", temporary)
        for name in FIGURES:
            shutil.copy(run / "figures" / f"{name}.png", temporary)
        shutil.copy(run / "metrics.json", temporary)
        shutil.copytree(run / "provenance", temporary / "provenance")
        spent = times(run, records).set_index("Stage").T.rename_axis("Part")
        spent.to_csv(temporary / "times.csv", lineterminator="\n")
        answer(metrics).to_csv(temporary / "answer.csv", index=False, lineterminator="\n")
        effect = pd.read_csv(temporary / "effect.csv", dtype=str).rename(columns={"This run": "Kept run"})
        effect.to_csv(temporary / "effect.csv", index=False, lineterminator="\n")
        histories = {name: pd.read_csv(temporary / f"{name}_history.csv") for name in ("classifier", "autoencoder")}
        stages_table(records, histories).to_csv(temporary / "stages.csv", index=False, lineterminator="\n")
        for name, text in zip(("ran.md", "verdict.md"), sentences(metrics, records, histories), strict=True):
            (temporary / name).write_text(text + "\n", encoding="utf-8")


def keep_sweep(swept, out):
    """Copy the table and the points of a sweep to `out`, and write their provenance to one file.

    Raises
    ------
    ValueError
        If a run was made with uncommitted changes, the table does not say where the remedies of each point are, or the
        book has no page for a sweep of this name.
    """
    swept, out = Path(swept), Path(out)
    if out.name not in SWEEPS:
        raise ValueError(
            f"{out} is no kept sweep, but one of {', '.join(SWEEPS)}, which have a page in the book, is needed: "
            "name the folder after one of them"
        )
    results, points = read_sweep(swept)
    changed = results.loc[results["commit"].str.contains("with changes|unknown"), "point"].unique()
    if len(changed):
        raise ValueError(
            f"{swept}: {', '.join(changed)} ran with uncommitted changes, but a commit is needed: commit and run again"
        )
    folders = points.set_index("point").filter(["folder", "remedies folder"])
    if "remedies.rows" in results and "remedies folder" not in folders:
        raise ValueError(
            f"{swept}/points.csv names no folders of remedies, but their records are needed: delete "
            f"{swept}/collected.json and run the sweep again, which only writes its tables"
        )
    costs = {point: stage_costs(*(swept / name for name in folders.loc[point])) for point in results["point"].unique()}
    made = sweep_provenance(results, stages=costs)
    with written_aside(out) as temporary:
        temporary.mkdir()
        # The executed notebooks are not kept, so the kept tables have no column for them.
        results.drop(columns="notebook").to_parquet(temporary / "results.parquet", index=False)
        points.drop(columns="notebook").to_csv(temporary / "points.csv", index=False, lineterminator="\n")
        write_json(temporary / "provenance.json", {"sweep": out.name} | made)


def stage_costs(run, remedies=None):
    """Return the seconds and the peak memory of each stage of a run, rounded as in the book's table of stages.

    `remedies` is the folder of its remedies, if it has any. The memory of their trials is not recorded.
    """
    costs = {}
    for stage, record in records_of(run, remedies=remedies).items():
        costs[stage] = {"seconds": round(record["wall_s"])}
        if stage != "remedies":
            costs[stage]["peak memory (GB)"] = round(record["peak_memory_bytes"] / 1e9, 2)
    return costs


if __name__ == "__main__":
    try:
        (keep_sweep if Path(sys.argv[1], "points.csv").is_file() else keep)(*sys.argv[1:])
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
