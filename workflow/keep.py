"""Keep what a finished run or sweep made, small, for every book to show: tables, figures, metrics and records.

Usage: python workflow/keep.py runs/half-standin book/reference/run
       python workflow/keep.py runs/sweeps/noise book/reference/sweeps/noise
"""

import json
import math
import shutil
import sys
from pathlib import Path

import pandas as pd
from build_book import SWEEPS, times

from galaxynb.files import written_aside
from galaxynb.pages import banner
from galaxynb.provenance import device_text, load_records, records_table
from galaxynb.results.evaluation import Estimate, recovery_verdict

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
FIGURES = ("accuracy", "confusion", "figure2", "figure5", "classifier_curves", "autoencoder_curves")


def sentences(metrics, records):
    """Return what the chapter says of the run: what it ran on, in all, and what came out."""
    data, evaluated = records["data"], records["evaluation"]
    estimates = {
        name: Estimate(**{key: math.nan if number is None else number for key, number in found.items()})
        for name, found in metrics["estimates"].items()
    }
    devices = sorted({device_text(record["device"]) for record in records.values()})
    hours = sum(record["wall_s"] for record in records.values()) / 3600
    ran = (
        f"{banner(data['data']['kind'], data['profile'], sha256=data['data'].get('sha256'))} "
        f"{data['data']['n_images']:,} images of {data['parameters']['image_size']} px a side, on "
        f"{' and '.join(devices)}, backend {evaluated['backend']}; "
        f"the times of its five notebooks add up to {hours:.1f} hours."
    )
    return [ran, " ".join(recovery_verdict(estimates, estimates))]


def keep(run, out):
    """Copy what is kept of `run` to `out`, in place of what was kept there.

    Raises
    ------
    ValueError
        If a stage ran with uncommitted changes, which no commit could then be named for.
    FileNotFoundError
        If the run is not finished.
    """
    run = Path(run)
    if not (run / "metrics.json").is_file():
        raise FileNotFoundError(f"{run} holds no finished run: `make book` makes one")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    records = load_records(run)
    changed = [stage for stage, record in records.items() if record["dirty"] is not False]
    if changed:
        raise ValueError(f"{run}: {', '.join(changed)} ran with uncommitted changes; commit them and run it again")
    with written_aside(out) as aside:
        aside.mkdir()
        for name in TABLES:
            shutil.copy(run / "tables" / f"{name}.csv", aside)
        for name in FIGURES:
            shutil.copy(run / "figures" / f"{name}.png", aside)
        shutil.copy(run / "metrics.json", aside)
        shutil.copytree(run / "provenance", aside / "provenance")
        records_table(records).to_csv(aside / "stages.csv", index=False, lineterminator="\n")
        spent = times(run, records).set_index("Stage").T.rename_axis("Part")
        spent.to_csv(aside / "times.csv", lineterminator="\n")
        (aside / "ran.md").write_text("\n\n".join(sentences(metrics, records)) + "\n", encoding="utf-8")


def keep_sweep(swept, out):
    """Copy a sweep's table and points, and each point's executed notebook without its pictures, to `out`.

    Raises
    ------
    ValueError
        If a run was made with uncommitted changes, or the book has no page for a sweep of this name.
    """
    swept, out = Path(swept), Path(out)
    if out.name not in SWEEPS:
        raise ValueError(f"{out}: the book has pages for the sweeps {', '.join(SWEEPS)} alone; keep another's folder")
    results = pd.read_parquet(swept / "results.parquet")
    points = pd.read_csv(swept / "points.csv", keep_default_na=False)
    changed = results.loc[results["commit"].str.contains("with changes|unknown"), "point"].unique()
    if len(changed):
        raise ValueError(f"{swept}: {', '.join(changed)} ran with uncommitted changes; commit them and run it again")
    with written_aside(out) as aside:
        (aside / "notebooks").mkdir(parents=True)
        for row in points[points["notebook"] != ""].itertuples():
            notebook = json.loads((swept / row.notebook).read_text(encoding="utf-8"))
            for cell in notebook["cells"]:
                for output in cell.get("outputs", ()):
                    output.get("data", {}).pop("image/png", None)
            (aside / "notebooks" / f"{row.folder}.ipynb").write_text(json.dumps(notebook, indent=1), encoding="utf-8")
            points.loc[row.Index, "notebook"] = f"{row.folder}.ipynb"
        # The points say where a notebook is now.
        results.drop(columns="notebook").to_parquet(aside / "results.parquet", index=False)
        points.to_csv(aside / "points.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    try:
        (keep_sweep if Path(sys.argv[1], "points.csv").is_file() else keep)(*sys.argv[1:])
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
