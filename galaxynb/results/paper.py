"""The paper's Tables 1 to 3, and the accuracies, drop, gain and recovery computed from them."""

import importlib.resources

import numpy as np
import pandas as pd

from galaxynb.data.galaxy10 import CLASS_NAMES

__all__ = [
    "PAPER",
    "REPORT_AVERAGES",
    "REPORT_COLUMNS",
    "as_report",
    "beside_paper",
    "paper_summary",
    "paper_table",
    "recall_difference",
]


#: Names of the paper's Tables 1, 2 and 3: the version of the test images that was classified.
PAPER = ("clean", "noisy", "denoised")


#: Columns of a classification report.
REPORT_COLUMNS = ("precision", "recall", "f1-score", "support")

#: Rows of a classification report that average over the classes.
REPORT_AVERAGES = ("macro avg", "weighted avg")


def paper_table(name):
    """Return one of the paper's tables, with the rows and columns of `class_report`.

    Parameters
    ----------
    name : {"clean", "noisy", "denoised"}
        Table 1, 2 or 3.

    Returns
    -------
    pandas.DataFrame
        Rows and columns as `class_report` returns them. The values have the two decimals that the paper prints.

    Raises
    ------
    ValueError
        If the paper has no table of this name.

    Examples
    --------
    >>> table = paper_table("clean")
    >>> float(table.loc["Merging", "recall"]), int(table.loc["Merging", "support"])
    (0.79, 373)
    """
    if name not in PAPER:
        raise ValueError(f"name is {name!r}, but a table of the paper is needed: choose one of {', '.join(PAPER)}")
    source = importlib.resources.files("galaxynb.results") / "paper_tables.csv"
    with source.open(encoding="utf-8") as lines:
        tables = pd.read_csv(lines)
    table = tables[tables["table"] == name].set_index("row")
    return as_report(table.rename(index={str(k): title for k, title in enumerate(CLASS_NAMES)}))


def as_report(frame):
    """Return `frame` with the order of rows and columns, and the types, that every report has.

    Parameters
    ----------
    frame : pandas.DataFrame
        Holds at least the rows and columns of `class_report`, in any order.

    Returns
    -------
    pandas.DataFrame
        The layout of `class_report`.
    """
    frame = frame.loc[[*CLASS_NAMES, "accuracy", *REPORT_AVERAGES], list(REPORT_COLUMNS)]
    return frame.astype(dict.fromkeys(REPORT_COLUMNS[:3], float) | {"support": int}).rename_axis("class")


def paper_summary():
    """Return the paper's three accuracies, and the drop, gain and recovery computed from them.

    Returns
    -------
    dict of float
        ``clean``, ``noisy``, ``denoised``: accuracies of Tables 1 to 3, in [0, 1]. ``drop`` is clean - noisy,
        ``gain`` is denoised - noisy, and ``recovery`` is gain / drop.

    Examples
    --------
    >>> paper = paper_summary()
    >>> paper["clean"], paper["drop"], round(paper["recovery"], 2)
    (0.74, 0.41, 0.9)
    """
    accuracy = {name: float(paper_table(name).loc["accuracy", "f1-score"]) for name in PAPER}
    # The tables have two decimals, so more decimals of a difference would be floating-point error.
    drop = round(accuracy["clean"] - accuracy["noisy"], 2)
    gain = round(accuracy["denoised"] - accuracy["noisy"], 2)
    return accuracy | {"drop": drop, "gain": gain, "recovery": gain / drop}


def beside_paper(report, name):
    """Return a table with each column of a report followed by the same column of the paper's table.

    Parameters
    ----------
    report : pandas.DataFrame
        From `class_report`.
    name : {"clean", "noisy", "denoised"}
        The paper's Table 1, 2 or 3.

    Returns
    -------
    pandas.DataFrame
        Columns ``Class``, then ``Precision``, ``Precision (paper)`` and so on to ``Support (paper)``. Values are
        not rounded. The name of a class begins with its number, as in ``0 Disturbed``.

    Raises
    ------
    ValueError
        If the paper has no table of this name, or if `report` and the paper's table differ in their rows.

    Examples
    --------
    >>> both = beside_paper(paper_table("noisy"), "clean")
    >>> both["Recall"].tolist()[:2], both["Recall (paper)"].tolist()[:2]
    ([0.39, 0.73], [0.53, 0.79])
    """
    paper = paper_table(name)
    if list(report.index) != list(paper.index):
        raise ValueError(
            f"report has the rows {', '.join(map(str, report.index))}, but those of the paper's table are needed: "
            "pass what class_report returns"
        )
    titles = [f"{k} {title}" for k, title in enumerate(CLASS_NAMES)]
    columns = {"Class": [*titles, "Accuracy", "Macro average", "Weighted average"]}
    for column in REPORT_COLUMNS:
        title = column.capitalize()
        columns[title] = report[column].to_numpy()
        columns[f"{title} (paper)"] = paper[column].to_numpy()
    return pd.DataFrame(columns)


def recall_difference(table):
    """Return how far the recalls of a table are from the paper's.

    Parameters
    ----------
    table : pandas.DataFrame
        From `beside_paper`.

    Returns
    -------
    float
        Root mean square difference of the ten classes' recalls, in [0, 1].

    Examples
    --------
    >>> recall_difference(beside_paper(paper_table("noisy"), "noisy"))
    0.0
    """
    classes = table[: len(CLASS_NAMES)]
    return float(np.sqrt(np.mean(np.square(classes["Recall"] - classes["Recall (paper)"]))))
