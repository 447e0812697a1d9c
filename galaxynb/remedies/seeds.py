"""How the remedies do over many runs: from the table of a sweep to tables for reading."""

import pandas as pd

from galaxynb.remedies.rows import OWN, ROWS, make_remedy
from galaxynb.results.sweeps import spread_text

__all__ = ["CONCLUSIONS", "compared_over_runs", "differences_over_runs", "spread_of_remedies"]

#: Conclusions from `book/reference/remedies`: the first remedy is better than the second on noisy images.
CONCLUSIONS = (
    ("non-local-means", "nothing"),
    ("batchnorm-600", "non-local-means"),
    ("unet-features", "batchnorm-600"),
    ("noisy-classifier", "unet-features"),
    ("unet-features", "autoencoder"),
    ("clean-finetuned-classifier", "autoencoder"),
    ("finetuned-classifier", "autoencoder"),
    ("finetuned-classifier", "clean-finetuned-classifier"),
    ("denoised-classifier", "autoencoder"),
    ("half-noisy-classifier", "autoencoder"),
    ("noisy-classifier", "autoencoder"),
)

#: Further metrics of a remedy with the titles of their columns and their decimals.
_METRICS = {"recovery": ("Recovery", 2), "mce": ("mCE", 2), "psnr": ("PSNR, dB", 1), "stars left": ("Stars left", 3)}


def spread_of_remedies(results):
    """Return the results of each remedy as mean and standard deviation over runs, beside the paper's autoencoder.

    Parameters
    ----------
    results : pandas.DataFrame
        From `galaxynb.results.sweeps.read_sweep`: one row per run (``point``) and ``metric``, with its ``value``. The
        metrics of remedies are ``remedy/<name>/<key>``.

    Returns
    -------
    pandas.DataFrame
        Text, one row per remedy: ``Remedy``, ``Runs`` and ``Noisy images``, the accuracy on them, such as
        "0.550 ± 0.020". ``Minus autoencoder`` is the difference of the accuracies of the same run, and ``Higher in``
        the number of runs in which it is positive. Then come the recovery and further metrics that a run has. Without
        remedies the table is empty.

    Examples
    --------
    >>> rows = [(run, f"remedy/{name}/noisy", value) for run in "ab" for name, value in [("autoencoder", 0.5)]]
    >>> rows += [("a", "remedy/unet/noisy", 0.6), ("b", "remedy/unet/noisy", 0.4)]
    >>> results = pd.DataFrame(rows, columns=["point", "metric", "value"])
    >>> table = spread_of_remedies(results).replace(chr(160), " ", regex=True)
    >>> table.loc[1, ["Remedy", "Runs", "Noisy images", "Minus autoencoder", "Higher in"]].tolist()
    ['Residual U-Net', '2', '0.500 ± 0.141', '0.000 ± 0.141', '1 of 2']
    """
    runs, differences = _runs(results), differences_over_runs(results)
    rows = []
    for name in (*ROWS, OWN):
        if (name, "noisy") not in runs:
            continue
        own, remedy = runs[name], _title(name)
        row = {"Remedy": remedy, "Runs": str(own["noisy"].count())}
        row["Noisy images"] = spread_text(own["noisy"].dropna(), digits=3)
        found = differences[remedy].dropna() if remedy in differences else ()
        row["Minus autoencoder"], row["Higher in"] = _differences(found) if len(found) else ("", "")
        for key, (title, digits) in _METRICS.items():
            row[title] = spread_text(own[key].dropna(), digits=digits) if key in own else ""
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.loc[:, (table != "").any()]


def differences_over_runs(results):
    """Return the accuracy of each remedy on noisy images minus that of the paper's autoencoder, in each run.

    Parameters
    ----------
    results : pandas.DataFrame
        As for `spread_of_remedies`.

    Returns
    -------
    pandas.DataFrame
        One row per run, and one column per other remedy, by its title and in the order of the tables. NaN where one of
        the two failed. Remedies that no run compares with the autoencoder are left out.

    Examples
    --------
    >>> metrics = ["remedy/unet/noisy", "remedy/autoencoder/noisy", "accuracy/noisy"]
    >>> results = pd.DataFrame({"point": "a", "metric": metrics, "value": [0.75, 0.5, 0.3]})
    >>> differences_over_runs(results).to_dict("index")
    {'a': {'Residual U-Net': 0.25}}
    """
    noisy = _noisy(results)
    if "autoencoder" not in noisy:
        return noisy.iloc[:, :0]
    differences = noisy.drop(columns="autoencoder").sub(noisy["autoencoder"], axis="index")
    return differences.dropna(axis="columns", how="all").rename(columns=_title)


def compared_over_runs(results, *, pairs=CONCLUSIONS):
    """Return whether one remedy has a higher accuracy on noisy images than another, over runs.

    Parameters
    ----------
    results : pandas.DataFrame
        As for `spread_of_remedies`.
    pairs : sequence of (str, str)
        Names of remedies, such as ``("unet", "autoencoder")``. Pairs that no run has in full are left out.

    Returns
    -------
    pandas.DataFrame
        Text, one row per pair: ``Remedy`` and ``Compared with``; then ``Difference``, the accuracy of the first minus
        that of the second in the same run, as mean and standard deviation; and ``Higher in``, the number of runs in
        which the difference is positive.

    Examples
    --------
    >>> rows = [(run, f"remedy/{name}/noisy", value) for run in "ab" for name, value in [("autoencoder", 0.5)]]
    >>> rows += [("a", "remedy/unet/noisy", 0.6), ("b", "remedy/unet/noisy", 0.4)]
    >>> results = pd.DataFrame(rows, columns=["point", "metric", "value"])
    >>> table = compared_over_runs(results, pairs=[("unet", "autoencoder")])
    >>> table.replace(chr(160), " ", regex=True).iloc[0].tolist()
    ['Residual U-Net', "The paper's autoencoder", '0.000 ± 0.141', '1 of 2']
    """
    noisy, rows = _noisy(results), []
    for name, other in pairs:
        if name in noisy and other in noisy and len(found := (noisy[name] - noisy[other]).dropna()):
            rows.append([_title(name), _title(other), *_differences(found)])
    return pd.DataFrame(rows, columns=["Remedy", "Compared with", "Difference", "Higher in"])


def _runs(results):
    """Return the metrics of the remedies: one row per run, and columns by the remedy's name and the metric's."""
    parts = results["metric"].str.extract(r"^remedy/(?P<remedy>[^/]+)/(?P<key>.+)$")
    found = pd.concat([results[["point", "value"]], parts], axis="columns").dropna(subset=["remedy"])
    return found.pivot_table(index="point", columns=["remedy", "key"], values="value")


def _noisy(results):
    """Return the accuracy on noisy images: one row per run, and one column per remedy, in the order of the tables."""
    runs = _runs(results)
    return pd.DataFrame({name: runs[name, "noisy"] for name in (*ROWS, OWN) if (name, "noisy") in runs})


def _title(name):
    return "Your remedy" if name == OWN else make_remedy(name).title


def _differences(values):
    """Return the mean and spread of differences, and in how many runs they are positive."""
    return spread_text(values, digits=3), f"{(values > 0).sum()} of {len(values)}"
