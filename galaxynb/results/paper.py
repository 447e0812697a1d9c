"""The paper's Tables 1 to 3, and the numbers that follow from them."""

import importlib.resources

import pandas as pd

from galaxynb.data.galaxy10 import CLASS_NAMES

__all__ = [
    "PAPER",
    "beside_paper",
    "paper_summary",
    "paper_table",
]


#: The paper's tables by the test images they were made on: Tables 1, 2 and 3.
PAPER = ("clean", "noisy", "denoised")


REPORT_COLUMNS = ("precision", "recall", "f1-score", "support")

REPORT_AVERAGES = ("macro avg", "weighted avg")


def paper_table(name):
    """Return Table 1 (``clean``), 2 (``noisy``) or 3 (``denoised``) of the paper, in `report`'s layout.

    Parameters
    ----------
    name : {"clean", "noisy", "denoised"}

    Returns
    -------
    pandas.DataFrame
        As `report` returns it, with the two decimals that the paper prints.

    Raises
    ------
    ValueError
        If there is no such table.
    """
    if name not in PAPER:
        raise ValueError(f"name is {name!r}; the paper has tables for {', '.join(PAPER)}")
    source = importlib.resources.files("galaxynb.results") / "paper_tables.csv"
    with source.open(encoding="utf-8") as lines:
        tables = pd.read_csv(lines)
    table = tables[tables["table"] == name].set_index("row")
    return as_report(table.rename(index={str(k): title for k, title in enumerate(CLASS_NAMES)}))


def as_report(frame):
    """Give `frame` the rows, columns and types that every report has."""
    frame = frame.loc[[*CLASS_NAMES, "accuracy", *REPORT_AVERAGES], list(REPORT_COLUMNS)]
    return frame.astype(dict.fromkeys(REPORT_COLUMNS[:3], float) | {"support": int}).rename_axis("class")


def paper_summary():
    """Return the paper's accuracies, and its drop, gain and recovery computed from them.

    Returns
    -------
    dict of float
        ``clean``, ``noisy``, ``denoised``: accuracies of Tables 1 to 3. ``drop`` = clean - noisy,
        ``gain`` = denoised - noisy, ``recovery`` = gain / drop.
    """
    accuracy = {name: float(paper_table(name).loc["accuracy", "f1-score"]) for name in PAPER}
    # The tables have two decimals, so their differences have no more.
    drop = round(accuracy["clean"] - accuracy["noisy"], 2)
    gain = round(accuracy["denoised"] - accuracy["noisy"], 2)
    return accuracy | {"drop": drop, "gain": gain, "recovery": gain / drop}


def beside_paper(report, name):
    """Set a report beside the paper's table, column by column.

    Parameters
    ----------
    report : pandas.DataFrame
        From `report`.
    name : {"clean", "noisy", "denoised"}
        The paper's table.

    Returns
    -------
    pandas.DataFrame
        Columns ``Class``, then ``Precision``, ``Precision (paper)`` and so on to ``Support (paper)``, at full
        precision. Classes carry their number, as in ``0 Disturbed``.

    Raises
    ------
    ValueError
        If there is no such table of the paper, or `report` has other rows.
    """
    paper = paper_table(name)
    if list(report.index) != list(paper.index):
        raise ValueError("report has other rows than the paper's table; pass what evaluation.report returns")
    titles = [f"{k} {title}" for k, title in enumerate(CLASS_NAMES)]
    columns = {"Class": [*titles, "Accuracy", "Macro average", "Weighted average"]}
    for column in REPORT_COLUMNS:
        title = column.capitalize()
        columns[title] = report[column].to_numpy()
        columns[f"{title} (paper)"] = paper[column].to_numpy()
    return pd.DataFrame(columns)
