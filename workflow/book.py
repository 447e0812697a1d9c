"""Copy a run's executed notebooks, tables and figures next to the prose, and build the book strictly.

Usage: python workflow/book.py runs/quick-standin

The sources are copied to the folder of the run, so two runs never share a build. The new pages replace the earlier ones
only if the build succeeds. `jupyter-book -nW` accepts notebooks whose execution failed or that lost their pictures, so
gate.py checks the notebooks before the build, and the rendered pages after it.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml
from environment import CHECKOUT as ROOT
from environment import environment
from gate import assigned, check_executed, check_outputs, check_pictures

from galaxynb.figures.style import save_figure
from galaxynb.figures.times import stage_times
from galaxynb.files import save_table, written_aside
from galaxynb.fingerprints import cell_code, code_cells, read_notebook
from galaxynb.pages import banner, notebook_times
from galaxynb.provenance import load_records, record_summary, records_table
from galaxynb.stages import STAGES

#: Results that were measured once and are shown in every book.
KEPT = ROOT / "book" / "reference"
_KEPT_ONCE = (
    "These runs were made once and are kept with the book. They are not part of the run that the line at the top of "
    "the page describes."
)
#: Galaxies in Galaxy Zoo DESI.
_SURVEY = 8_670_000
#: Price in dollars per core-hour, and its source.
_PRICE = 0.0816 / 2
_PRICED = "half of Amazon's m7g.large with two cores, on demand in us-east-1, June 2026"
#: For each kept sweep: the opening of its page, and the tags of the cells to leave out.
SWEEPS = {
    "seeds": (
        "Other seeds\n\n*Would another run show the same?*\n\n"
        "This page shows runs of the same study with different seeds. Each seed draws its own stand-in, noise, "
        f"initial weights and order of training. {_KEPT_ONCE}",
        ("over-axes", "over-remedies"),
    ),
    "noise": (
        "More noise and less\n\n*How much noise can be undone?*\n\n"
        "On this page, one classifier, trained on clean images, meets noise of many levels. For each level, one "
        "autoencoder is trained on images with that noise. Each network is trained once, so the bars show only the "
        "uncertainty from the finite number of test images. The page on [other seeds](seeds.ipynb) shows how far runs "
        f"with different seeds scatter. {_KEPT_ONCE}",
        ("over-seeds", "over-remedies"),
    ),
    "remedies": (
        "Remedies with other seeds\n\n*Would other trainings give the same order?*\n\n"
        "This page asks whether the conclusions from [the kept networks](../reference_remedies.md) hold in runs with "
        "different seeds. Each seed draws its own stand-in, noise, initial weights and order of training. The runs are "
        "small: the profile `quick` has few images, and trains for few epochs. Classifiers that are trained from "
        "scratch get as many epochs as the study's own. A remedy that needs many images or much training can do worse "
        "here than there. The study's classifier saw rotated and mirrored images here, as the other classifiers did. "
        "For the mCE, remedies that adapt batch normalization adapted to all validation images. The code now takes "
        "fewer, so new runs give these remedies other values of mCE. "
        f"{_KEPT_ONCE}",
        ("over-axes", "over-seeds"),
    ),
}


def with_current_prose(executed, current):
    """Return the current notebook with the outputs of the executed one.

    The workflow runs a stage again only if its code changes. Prose, comments and metadata, which decide how a cell is
    shown, may therefore be newer than the execution. Metadata that editors add are left out, and each cell has an id.

    Raises
    ------
    ValueError
        If the two notebooks differ in their code, because the outputs then belong to other code.
    """
    ran, shown = code_cells(executed), code_cells(current)
    if list(map(cell_code, ran)) != list(map(cell_code, shown)):
        raise ValueError(
            "the code of a notebook is not the code that has run, but both must agree: run `make book` again"
        )
    given = executed["metadata"].get("papermill", {}).get("parameters", {})
    outputs = iter(ran)
    cells = []
    for cell in current["cells"]:
        if _is(cell, "injected-parameters") or (cell["cell_type"] == "code" and cell not in shown):
            continue
        if cell["cell_type"] == "code":
            one = next(outputs)
            cell = cell | {"outputs": one.get("outputs", []), "execution_count": one.get("execution_count")}
        if _is(cell, "parameters"):
            cell = cell | {"source": as_given("".join(cell["source"]), given)}
        about = {key: value for key, value in cell["metadata"].items() if key in ("tags", "mystnb")}
        cells.append(cell | {"id": f"cell-{len(cells) + 1}", "metadata": about})
    about = {key: value for key, value in executed["metadata"].items() if key in ("kernelspec", "language_info")}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": about, "cells": cells}


def _is(cell, tag):
    return tag in cell["metadata"].get("tags", ())


def as_given(source, given):
    """Return the code of the parameters cell with the given values in place of the defaults.

    Readers would assume that the defaults made the page. Papermill's own cell has the given values, but does not
    explain them.
    """
    lines = source.encode().splitlines(keepends=True)  # the columns of syntax trees count bytes
    for name, value in reversed(assigned(source).items()):
        if name in given:
            first, last = value.lineno - 1, value.end_lineno - 1
            ends = lines[last][value.end_col_offset :]
            lines[first : last + 1] = [lines[first][: value.col_offset] + repr(given[name]).encode() + ends]
    return b"".join(lines).decode()


#: Titles of `TIME_PARTS` in the book.
PARTS = {
    "kernel": "Starting the kernel",
    "imports": "Imports, opening files",
    "images": "Making and reading images",
    "start": "Building and compiling networks",
    "networks": "Running networks",
    "checkpoints": "Checkpoints",
    "rest": "Measures, tables, figures",
}


def times(run, records):
    """Return the time of each stage that ran: one row per stage, and one column per part, in seconds."""
    rows = []
    for name, stage in STAGES.items():
        if stage.section not in records:
            continue  # the kept run has no notebook 06
        notebook = json.loads((Path(run) / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
        parts = notebook_times(notebook, seconds=records[stage.section]["extra"].get("training seconds"))
        rows.append({"Stage": stage.section} | {PARTS[part]: round(seconds, 1) for part, seconds in parts.items()})
    return pd.DataFrame(rows)


def _bench_calls(folder):
    """Return the records of the kept calls of `make bench` by folder, and the folder of the latest call by row."""
    calls = sorted(path.parent for path in Path(folder).glob("*/benchmarks.csv"))
    records = {call: load_records(call)["benchmarks"] for call in calls}
    latest = {}
    for call in sorted(calls, key=lambda call: records[call]["time"]):
        latest |= {result["row"]: call for result in records[call]["extra"]["results"]}
    return records, latest


def benchmarks(folder):
    """Return the kept benchmarks, in few columns for phones, and their provenance: one column per call of `make bench`.

    If several calls measured the same row, the latest call counts.
    """
    records, latest = _bench_calls(folder)
    read = {"dtype": str, "keep_default_na": False}
    tables = {call: pd.read_csv(call / "benchmarks.csv", **read) for call in records}
    measured = pd.concat([table[table["Row"].map(latest) == call] for call, table in tables.items()], ignore_index=True)
    # CPU seconds (user + system) of both sides. Older calls did not count them.
    cpu = measured.reindex(columns=["User + system, s"]).iloc[:, 0].fillna("").str.partition(" / ")
    ours, theirs = ((", CPU " + cpu[side] + " s").where(cpu[side] != "", "") for side in (0, 2))
    # Markdown would show a cell that begins with > as a quotation.
    goal = measured["Goal"].str.replace(">=", "≥").str.replace("<=", "≤")
    table = pd.DataFrame(
        {
            "Row": measured["Row"],
            "Ours": measured["Ours"] + ": " + measured["Ours, median"] + " " + measured["Unit"] + ours,
            "Against": measured["Against"]
            + (": " + measured["Against, median"]).where(measured["Ratio"] != "", "")
            + theirs,
            "Ratio": measured["Ratio"] + (" (" + measured["Spread"] + ")").where(measured["Ratio"] != "", ""),
            "Goal": goal + (", met: " + measured["Met"]).where(measured["Met"] != "", ""),
        }
    )
    made = {}
    for call, record in records.items():
        column = record_summary(record).set_index("What")["Value"]
        kept = column.index.str.fullmatch(r"Ended \(UTC\)|Commit|Device|Platform|Backend|Wall time|Version: .*")
        rows = [row for row, maker in latest.items() if maker == call]
        made[call.name.capitalize()] = pd.concat([pd.Series({"Rows": ", ".join(rows)}), column[kept]])
    return table, pd.DataFrame(made).rename_axis("What").reset_index()


def survey_cost(folder):
    """Return the cost of running both networks on a survey, from the latest kept benchmark `apply`."""
    records, latest = _bench_calls(folder)
    if "apply" not in latest:
        raise ValueError(f"{folder} holds no row apply, but its rate is needed: run the benchmark apply, and keep it")
    record = records[latest["apply"]]
    rows = [one for one in record["extra"]["results"] if one["row"] == "apply" and "HDF5" in one["what"]]
    rate, cores = rows[0]["notes"]["images_a_second"], record["device"]["cores"]
    hours = _SURVEY / rate * cores / 3600
    price = f"{_PRICE:.4f} dollars per core-hour ({_PRICED})"
    return pd.DataFrame(
        {
            f"Images per second, on {cores} cores ({record['device']['cpu']})": f"{rate:.1f}",
            f"Core-hours: {_SURVEY:,} images / {rate:.1f} per second × {cores} cores / 3,600": f"{hours:.1f}",
            f"Dollars: {hours:.1f} core-hours × {price}": f"{hours * _PRICE:.2f}",
        }.items(),
        columns=["What", "Value"],
    )


def page(executed, current):
    """Return the page of an executed notebook, with the prose of the notebook `current`; both are paths."""
    made = with_current_prose(check_executed(executed), read_notebook(current))
    check_outputs(made, executed)
    return made


def gather(run, source):
    """Write the sources of the book of one run to the folder `source`."""
    run, source = Path(run), Path(source)
    shutil.copytree(ROOT / "book", source / "book")
    shutil.copy(ROOT / "_toc.yml", source)
    pages = {
        f"notebooks/{name}": page(run / f"notebooks/{name}.ipynb", ROOT / f"notebooks/{name}.ipynb") for name in STAGES
    }
    (source / "book" / "sweep.ipynb").unlink()  # only its executed copies, the pages of kept sweeps, are in the book
    for name, (opening, left_out) in SWEEPS.items():
        if not (KEPT / "sweeps" / name).is_dir():
            continue  # if the table of contents names this page, the build reports that it is missing
        notebook = page(run / f"sweeps/{name}.ipynb", ROOT / "book/sweep.ipynb")
        notebook["cells"] = [cell for cell in notebook["cells"] if not any(_is(cell, tag) for tag in left_out)]
        notebook["cells"][0]["source"] = f"# {opening}"
        pages[f"book/sweeps/{name}"] = notebook
    for name, notebook in pages.items():
        path = source / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
    for folder in ("tables", "figures"):
        shutil.copytree(run / folder, source / "book" / folder)
    records = load_records(run)
    # Notebook 05 keeps this table too, but an earlier stage can run again without it.
    save_table(records_table(records), source / "book" / "tables" / "stages")
    spent = times(run, records)
    # One column per stage: few narrow columns fit a phone.
    table = spent.set_index("Stage").T.rename_axis("Part")
    save_table(table, source / "book" / "tables" / "times", decimals=1)
    save_figure(stage_times(spent), source / "book" / "figures" / "times.png")
    for name, table in zip(("benchmarks", "benchmarks_made"), benchmarks(KEPT / "benchmarks"), strict=True):
        save_table(table, source / "book" / "tables" / name)
    save_table(survey_cost(KEPT / "benchmarks"), source / "book" / "tables" / "survey_cost")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    record = records["data"]
    options = config["sphinx"]["config"].setdefault("html_theme_options", {})
    text = banner(record["data"]["kind"], record["profile"], sha256=record["data"].get("sha256"))
    options["announcement"] = f"{text} Pages that show kept runs say so."
    (source / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")


def build(run):
    """Build the book of one run, and return the path of its first page."""
    run = Path(run)
    source = run / "book_source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    gather(run, source)
    # Do not run the script jupyter-book: it names the path of its Python, which changes if the checkout is moved.
    jupyter_book = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", jupyter_book, "build", str(source), "-n", "-W", "--keep-going"]
    if subprocess.run(command, env=environment(), check=False).returncode:
        raise RuntimeError(
            f"the book of {run} has warnings or errors, but none are allowed: correct those in the lines above"
        )
    check_pictures(source, source / "_build" / "html")
    with written_aside(run / "book") as temporary:
        shutil.copytree(source / "_build" / "html", temporary)
    return run / "book" / "index.html"


if __name__ == "__main__":
    try:
        print(build(sys.argv[1]))
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        sys.exit(str(error))
