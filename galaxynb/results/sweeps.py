"""Mean and spread over many runs: from the table of a sweep to tables, curves and sentences.

``make sweep`` writes a tidy table: one row per run and metric. Further columns hold the run's parameters and its
provenance. Intervals over seeds are standard deviations over runs, so they include the scatter of trainings and
stand-ins. The interval of a single run comes from its test images alone. This module draws and trains nothing.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from galaxynb.results.paper import beside_paper, paper_table

__all__ = [
    "metric_series",
    "parameter_words",
    "point_table",
    "provenance_table",
    "read_sweep",
    "spread_scores",
    "spread_summary",
    "spread_text",
    "sweep_axes",
    "sweep_provenance",
    "sweep_text",
]


#: Axis whose runs are repetitions: the spread is computed over it.
REPEATS = "seed"


_DATA = {"standin": "synthetic stand-in data", "real": "real data"}

_OF_A_NETWORK = {
    "weights": "initial weights",
    "epochs": "largest number of epochs",
    "patience": "epochs without progress before stopping",
    "filters": "filters per layer",
    "width": "width",
    "depth": "depth",
    "dilations": "dilation rates",
    "raw_epochs": "epochs from clean to clean images",
    "noisy_epochs": "epochs from noisy to clean images",
    "batch_size": "images per batch",
    "learning_rate": "learning rate",
    "cosine_decay": "cosine decay of the learning rate",
    "bn_momentum": "momentum of batch normalization",
    "augment": "augmentation",
}

_WORDS = {
    "seed": "seed",
    "remedies": "remedies",
    "source": "source of the images",
    "data.n_images": "number of images",
    "data.image_size": "image side in pixels",
    "data.n_measured": "number of measured images",
    "noise.strength": "strength of the noise",
    "noise.sigma": "Gaussian noise, standard deviation",
    "noise.radius": "radius of an injected star",
    "noise.brightness": "brightness of an injected star",
    "noise.blur": "blur of an injected star",
    "noise.fewest_stars": "injected stars per image, at least",
    "noise.most_stars": "injected stars per image, at most",
    # An axis of config/sweeps/noise.yaml, which sets both bounds.
    "stars": "injected stars per image, mean",
    **{
        f"{network}.{name}": f"{network}, {words}"
        for network in ("classifier", "autoencoder")
        for name, words in _OF_A_NETWORK.items()
    },
    "evaluation.n_resamples": "number of bootstrap resamples",
}


def parameter_words(name, *, capital=False):
    """Return the name of a parameter, or of an axis of a sweep, in words.

    Parameters
    ----------
    name : str
        Such as ``noise.sigma``.
    capital : bool
        Whether the words begin a label or a sentence.

    Returns
    -------
    str
        The words, or `name` unchanged if it has none.

    Examples
    --------
    >>> parameter_words("noise.sigma")
    'Gaussian noise, standard deviation'
    >>> parameter_words("stars", capital=True)
    'Injected stars per image, mean'
    >>> parameter_words("my axis", capital=True)
    'my axis'
    """
    words = _WORDS.get(name)
    if words is None:
        return name
    return words[0].upper() + words[1:] if capital else words


def read_sweep(folder):
    """Read the results and the points of a sweep.

    Parameters
    ----------
    folder : str or os.PathLike
        Holds ``results.parquet`` and ``points.csv``.

    Returns
    -------
    results : pandas.DataFrame
        One row per finished run and metric: ``point``, one column per parameter, columns of provenance from
        ``commit`` on, ``metric`` and ``value``. ``low`` and ``high`` are the interval of the run, or NaN without one.
    points : pandas.DataFrame
        One row per point: ``point``, one column per axis, ``state`` (done, failed or missing), ``reason``, ``folder``
        and ``notebook``. Kept sweeps lack ``notebook``. Sweeps with remedies also have ``remedies folder``.

    Raises
    ------
    FileNotFoundError
        If the folder has no ``points.csv``.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = {"point": "seed=1", "seed": 1, "metric": "accuracy/clean", "value": 0.75}
    ...     pd.DataFrame([run]).to_parquet(f"{folder}/results.parquet")
    ...     pd.DataFrame([{"point": "seed=1", "seed": 1, "state": "done"}]).to_csv(f"{folder}/points.csv", index=False)
    ...     results, points = read_sweep(folder)
    >>> results["value"].tolist(), points["state"].tolist()
    ([0.75], ['done'])
    """
    folder = Path(folder)
    if not (folder / "points.csv").is_file():
        raise FileNotFoundError(f"{folder} holds no points.csv, but a finished sweep is needed: run `make sweep`")
    return pd.read_parquet(folder / "results.parquet"), pd.read_csv(folder / "points.csv", keep_default_na=False)


def sweep_axes(points):
    """Return the axes in which the points of a sweep differ, without the seed.

    Parameters
    ----------
    points : pandas.DataFrame
        From `read_sweep`: the columns of the axes stand between ``point`` and ``state``.

    Returns
    -------
    list of str
        Names of axes with more than one value.

    Examples
    --------
    >>> import pandas as pd
    >>> sweep_axes(pd.DataFrame({"point": ["a", "b"], "seed": [1, 2], "noise.sigma": [0, 0.1], "state": "done"}))
    ['noise.sigma']
    """
    return [name for name in _all_axes(points) if name != REPEATS and len(points[name].unique()) > 1]


def sweep_text(results, points):
    """Describe the points of a sweep in sentences: their number, their provenance, and their differences.

    Parameters
    ----------
    results, points : pandas.DataFrame
        From `read_sweep`.

    Returns
    -------
    str
        Sentences in Markdown.

    Examples
    --------
    >>> import pandas as pd
    >>> made = {"data kind": "standin", "profile": "quick", "commit": "0123456789", "device": "a CPU"}
    >>> points = pd.DataFrame({"point": ["a", "b"], "seed": [1, 2], "state": "done"})
    >>> print(sweep_text(pd.DataFrame([{"point": "a"} | made, {"point": "b"} | made]), points))
    2 of 2 points ran with synthetic stand-in data and the profile quick, at commit 0123456789, on this device: a CPU.
    The points differ in the seed alone.
    """
    made = results.drop_duplicates("point")
    sentences = [
        f"{len(runs)} of {len(points)} points ran with {_DATA.get(kind, kind)} and the profile {profile}, "
        f"at {'the commits' if ', ' in commit else 'commit'} {commit}, on this device: {device}."
        for (kind, profile, commit, device), runs in made.groupby(["data kind", "profile", "commit", "device"])
    ]
    if not sentences:
        sentences.append(f"None of {len(points)} points is finished.")
    words = "; ".join(parameter_words(name) for name in sweep_axes(points))
    sentences.append(f"The points differ in: {words}." if words else "The points differ in the seed alone.")
    return "\n".join(sentences)


def spread_summary(results, metrics):
    """Return the mean and the standard deviation of some metrics over all runs.

    Parameters
    ----------
    results : pandas.DataFrame
        From `read_sweep`.
    metrics : dict of str to str
        Titles of metrics by their names.

    Returns
    -------
    pandas.DataFrame
        One row per metric that a run has: ``Quantity``, ``Runs``, ``Mean``, ``Std`` (over runs, with n - 1; NaN for
        one run), ``Lowest``, ``Highest``.

    Examples
    --------
    >>> import pandas as pd
    >>> results = pd.DataFrame({"metric": "accuracy/clean", "value": [0.7, 0.8]})
    >>> print(spread_summary(results, {"accuracy/clean": "Accuracy, clean"}).round(2).to_string(index=False))
           Quantity  Runs  Mean  Std  Lowest  Highest
    Accuracy, clean     2  0.75 0.07     0.7      0.8
    """
    rows = []
    for name, title in metrics.items():
        values = results.loc[results["metric"] == name, "value"].dropna()
        if len(values):
            found = (title, len(values), values.mean(), values.std(ddof=1), values.min(), values.max())
            rows.append(found)
    return pd.DataFrame(rows, columns=["Quantity", "Runs", "Mean", "Std", "Lowest", "Highest"])


def spread_scores(results, name, *, digits=2):
    """Return one of Tables 1 to 3 as mean and standard deviation over runs, with the values of the paper.

    Parameters
    ----------
    results : pandas.DataFrame
        From `read_sweep`, with the metrics ``table/<name>/<class>/<column>``.
    name : {"clean", "noisy", "denoised"}
        The paper's table.
    digits : int
        Decimals.

    Returns
    -------
    pandas.DataFrame
        Text: ``Class``, then ``Precision``, ``Precision (paper)`` and so on to F1-score, such as "0.71 ± 0.03". One
        run has no standard deviation.

    Examples
    --------
    >>> import pandas as pd
    >>> results = pd.DataFrame({"metric": "table/noisy/0 Disturbed/Recall", "value": [0.4, 0.6]})
    >>> table = spread_scores(results, "noisy").replace(chr(160), " ", regex=True)
    >>> table.loc[0, ["Class", "Recall", "Recall (paper)"]].tolist()
    ['0 Disturbed', '0.50 ± 0.14', '0.39']
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
    """Return the mean and the standard deviation of values as text.

    Parameters
    ----------
    values : array_like of float
    digits : int
        Decimals.

    Returns
    -------
    str
        One value has no standard deviation; no value gives an empty text.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return "".join(f"{value:.{digits}f}" for value in values)
    # No-break spaces: a narrow column would otherwise put mean and deviation on separate lines.
    return f"{values.mean():.{digits}f}\u00a0±\u00a0{values.std(ddof=1):.{digits}f}"


def metric_series(results, metric, by):
    """Return the values of a metric along axes, averaged over runs that differ only in the seed.

    Parameters
    ----------
    results : pandas.DataFrame
        From `read_sweep`.
    metric : str
        Such as ``accuracy/noisy``.
    by : list of str
        Names of axes.

    Returns
    -------
    pandas.DataFrame
        The columns of the axes, ``runs``, ``value``, ``low`` and ``high``, sorted by the axes. Over several runs,
        ``low`` and ``high`` lie one standard deviation from the mean. For a single run they are its own interval. An
        undefined value (a recovery without a drop) is NaN.

    Examples
    --------
    >>> import pandas as pd
    >>> results = pd.DataFrame(
    ...     {"metric": "accuracy/noisy", "noise.sigma": [0, 0.1], "value": [0.7, 0.4], "low": [0.6, 0.3], "high": 0.8}
    ... )
    >>> print(metric_series(results, "accuracy/noisy", ["noise.sigma"]).to_string(index=False))
     noise.sigma  runs  value  low  high
             0.0     1    0.7  0.6   0.8
             0.1     1    0.4  0.3   0.8
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


def point_table(results, points):
    """Return a table of the points of a sweep, with their main results as text.

    Parameters
    ----------
    results, points : pandas.DataFrame
        From `read_sweep`.

    Returns
    -------
    pandas.DataFrame
        Text, one row per point: the axes in words, ``State`` unless all are done, ``Clean``, ``Noisy`` and
        ``Denoised`` (accuracies), ``Recovery``, and ``Key``, the end of the name of the point's folder. The cell of a
        missing number is empty.

    Examples
    --------
    >>> import pandas as pd
    >>> points = pd.DataFrame({"point": ["a"], "noise.sigma": [0.1], "state": ["done"], "folder": ["evaluation-1"]})
    >>> results = pd.DataFrame({"point": ["a"], "metric": ["accuracy/noisy"], "value": [0.4]})
    >>> point_table(results, points)[["Gaussian noise, standard deviation", "Noisy"]].to_dict("records")
    [{'Gaussian noise, standard deviation': '0.1', 'Noisy': '0.40'}]
    """
    table = pd.DataFrame(
        {
            parameter_words(name, capital=True): points[name].map(
                ("{:g}" if pd.api.types.is_float_dtype(points[name]) else "{}").format
            )
            for name in _all_axes(points)
        }
    )
    if (points["state"] != "done").any():
        table["State"] = points["state"]
    for metric in ("accuracy/clean", "accuracy/noisy", "accuracy/denoised", "effect/recovery"):
        values = results[results["metric"] == metric].dropna(subset=["value"]).set_index("point")["value"]
        texts = {point: f"{value:.2f}" for point, value in values.items()}
        table[metric.partition("/")[2].capitalize()] = [texts.get(point, "") for point in points["point"]]
    table["Key"] = points["folder"].str.rpartition("-")[2]
    return table


def sweep_provenance(results, *, stages=None):
    """Return the provenance of the runs of a sweep. Entries that all runs share are given once.

    Parameters
    ----------
    results : pandas.DataFrame
        From `read_sweep`.
    stages : dict of str to dict, optional
        Costs of the stages of each point, by point. They become the entry ``stages`` of the point.

    Returns
    -------
    dict
        ``shared`` holds the entries that are the same for all points: ``parameters``, ``versions``, ``commit``,
        ``device`` and so on. ``points`` holds the other entries of each point. JSON can hold all values.

    Examples
    --------
    >>> import pandas as pd
    >>> run = {"sweep": "mine", "point": "a", "seed": 1, "commit": "0123456789", "seconds": 60.5, "metric": "m"}
    >>> made = sweep_provenance(pd.DataFrame([run, run | {"point": "b", "seed": 2}]))
    >>> made["shared"]
    {'commit': '0123456789', 'seconds': 60.5}
    >>> made["points"]
    {'a': {'parameters': {'seed': 1}}, 'b': {'parameters': {'seed': 2}}}
    """
    # Columns in order: sweep and point, parameters, provenance (from the commit on), and the metric.
    columns = [name for name in results if name not in {"sweep", "point", "notebook", "metric", "value", "low", "high"}]
    parameters = set(columns[: columns.index("commit")])
    records = {}
    for point, run in results.drop_duplicates("point").set_index("point")[columns].to_dict("index").items():
        run = {name: None if pd.isna(value) else value for name, value in run.items()}
        record = {"parameters": {name: run.pop(name) for name in columns if name in parameters}} | run
        if "versions" in record:
            record["versions"] = json.loads(record["versions"])
        records[point] = record | ({"stages": stages[point]} if stages else {})
    shared = _shared(list(records.values()))
    return {"shared": shared, "points": {point: _own(record, shared) for point, record in records.items()}}


def provenance_table(provenance):
    """Return a table of the provenance that all runs of a sweep share, as text.

    Parameters
    ----------
    provenance : dict
        From `sweep_provenance`.

    Returns
    -------
    pandas.DataFrame
        Columns ``What`` and ``Value``. Costs of stages are left out, and checksums are shortened.

    Examples
    --------
    >>> made = {"shared": {"commit": "0123456789", "versions": {"numpy": "2.4.6", "pandas": "3.1.1"}}, "points": {}}
    >>> print(provenance_table(made).to_string(index=False))
        What                     Value
      Commit                0123456789
    Versions numpy 2.4.6, pandas 3.1.1
    """
    rows = []
    for name, value in provenance["shared"].items():
        if name == "stages" or value in ("", None):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {'none' if item is None else item}" for key, item in value.items())
        if name.endswith("sha256"):
            value = f"{value[:16]}…"  # the whole checksum would be wider than a phone
        rows.append({"What": name[0].upper() + name[1:], "Value": str(value)})
    return pd.DataFrame(rows, columns=["What", "Value"])


def _all_axes(points):
    columns = list(points.columns)
    return columns[columns.index("point") + 1 : columns.index("state")]


def _shared(records):
    """Return the entries that all nested dicts in `records` share."""
    shared = {}
    for name, value in records[0].items() if records else ():
        values = [record.get(name) for record in records]
        if all(isinstance(one, dict) for one in values):
            if inner := _shared(values):
                shared[name] = inner
        elif all(one == value for one in values):
            shared[name] = value
    return shared


def _own(record, shared):
    """Return a nested dict without the entries that `shared` has."""
    own = {}
    for name, value in record.items():
        if name not in shared:
            own[name] = value
        elif isinstance(value, dict) and (inner := _own(value, shared[name])):
            own[name] = inner
    return own
