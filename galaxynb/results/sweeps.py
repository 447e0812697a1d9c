"""Mean and spread over many runs: from a sweep's tidy table to tables and curves.

A tidy table has a row a run and metric, with the run's parameters and what made it in further columns, as
``make sweep`` writes it. Intervals over seeds are standard deviations of runs and hold what another training or
another stand-in changes; those of one run come from its test images alone.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from galaxynb.results.paper import beside_paper, paper_table

__all__ = [
    "metric_series",
    "read_sweep",
    "spread_scores",
    "spread_summary",
    "sweep_axes",
]


#: An axis along which runs repeat each other, for the spread, rather than differ by design.
REPEATS = "seed"


def read_sweep(folder):
    """Read a sweep's results and its points.

    Parameters
    ----------
    folder : str or os.PathLike
        Holds ``results.parquet`` and ``points.csv``.

    Returns
    -------
    results : pandas.DataFrame
        A row a finished run and metric: ``point``, a column a parameter, what made the run, ``metric``, ``value``
        and, where the run gives an interval, ``low`` and ``high`` (NaN elsewhere).
    points : pandas.DataFrame
        A row a point: ``point``, a column an axis, ``state`` (done, failed or missing), ``reason``, ``notebook``.

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    """
    folder = Path(folder)
    if not (folder / "points.csv").is_file():
        raise FileNotFoundError(f"{folder} holds no results of a sweep: `make sweep` makes them")
    return pd.read_parquet(folder / "results.parquet"), pd.read_csv(folder / "points.csv", keep_default_na=False)


def sweep_axes(points):
    """Return what sets a sweep's points apart, other than the seed.

    Parameters
    ----------
    points : pandas.DataFrame
        From `read`: the axes' columns stand between ``point`` and ``state``.

    Returns
    -------
    list of str
        Names of axes with more than one value.
    """
    columns = list(points.columns)
    between = columns[columns.index("point") + 1 : columns.index("state")]
    return [name for name in between if name != REPEATS and len(points[name].unique()) > 1]


def spread_summary(results, metrics):
    """Return mean and standard deviation over all runs of some metrics.

    Parameters
    ----------
    results : pandas.DataFrame
        From `read`.
    metrics : dict of str to str
        Titles of metrics by their names.

    Returns
    -------
    pandas.DataFrame
        ``Quantity``, ``Runs``, ``Mean``, ``Std`` (of runs, with n - 1; NaN for one), ``Lowest``, ``Highest``. A
        metric that no run has is left out.
    """
    rows = []
    for name, title in metrics.items():
        values = results.loc[results["metric"] == name, "value"].dropna()
        if len(values):
            found = (title, len(values), values.mean(), values.std(ddof=1), values.min(), values.max())
            rows.append(found)
    return pd.DataFrame(rows, columns=["Quantity", "Runs", "Mean", "Std", "Lowest", "Highest"])


def spread_scores(results, name, *, digits=2):
    """Return one of Tables 1 to 3 as mean and standard deviation over runs, beside the paper's.

    Parameters
    ----------
    results : pandas.DataFrame
        From `read`, with the metrics ``table/<name>/<class>/<column>``.
    name : {"clean", "noisy", "denoised"}
        The paper's table.
    digits : int
        Decimals.

    Returns
    -------
    pandas.DataFrame
        Text: ``Class``, then ``Precision``, ``Precision (paper)`` and so on to F1-score, such as "0.71 ± 0.03"; the
        standard deviation is left out where there is one run.
    """
    paper = beside_paper(paper_table(name), name).set_index("Class")
    rows = []
    for title in paper.index:
        row = {"Class": title}
        for column in ("Precision", "Recall", "F1-score"):
            values = results.loc[results["metric"] == f"table/{name}/{title}/{column}", "value"].dropna()
            row[column] = spread_text(values, digits=digits)
            printed = paper.loc[title, f"{column} (paper)"]
            row[f"{column} (paper)"] = "" if np.isnan(printed) else f"{printed:.{digits}f}"
        rows.append(row)
    return pd.DataFrame(rows)


def spread_text(values, *, digits=2):
    """Return values as text: ``0.71 ± 0.03``, mean and standard deviation; ``0.71`` for one, nothing for none."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return "".join(f"{value:.{digits}f}" for value in values)
    # Spaces that don't break: in a narrow column the two would stand on lines of their own.
    return f"{values.mean():.{digits}f}\u00a0±\u00a0{values.std(ddof=1):.{digits}f}"


def metric_series(results, metric, by):
    """Return a metric along axes, averaged over runs that differ in the seed alone.

    Parameters
    ----------
    results : pandas.DataFrame
        From `read`.
    metric : str
    by : list of str
        Names of axes.

    Returns
    -------
    pandas.DataFrame
        The axes' columns, ``runs``, ``value``, ``low`` and ``high``, sorted by the axes. Where there are several runs,
        ``low`` and ``high`` are a standard deviation from the mean; for a single one they are its own interval.
        An undefined value (a recovery without a drop) is NaN.
    """
    rows = []
    chosen = results[results["metric"] == metric]
    for place, group in chosen.groupby(by, sort=True):
        values = group["value"].dropna()
        if len(values) > 1:
            middle, off = values.mean(), values.std(ddof=1)
            found = (len(values), middle, middle - off, middle + off)
        else:
            only = group.loc[values.index[0] if len(values) else group.index[0]]
            found = (len(values), only["value"], only["low"], only["high"])
        rows.append((*place, *found))
    return pd.DataFrame(rows, columns=[*by, "runs", "value", "low", "high"]).astype({"value": float})
