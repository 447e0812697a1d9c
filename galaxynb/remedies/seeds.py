"""How the remedies do over many runs: from the table of a sweep to a table for reading."""

import pandas as pd

from galaxynb.remedies.rows import OWN, ROWS, make_remedy
from galaxynb.results.sweeps import spread_text

__all__ = ["spread_of_remedies"]

#: Metrics of a remedy with the titles of their columns and their decimals.
_METRICS = {
    "noisy": ("Noisy images", 3),
    "recovery": ("Recovery", 2),
    "mce": ("mCE", 2),
    "psnr": ("PSNR, dB", 1),
    "stars left": ("Stars left", 3),
}


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
        Text, one row per remedy: ``Remedy``, ``Runs``, then the accuracy on noisy images, the recovery and further
        metrics that a run has, such as "0.55 ± 0.02". ``Minus autoencoder`` is the difference of the accuracies of the
        same run, and ``Better in`` the number of runs in which it is positive. Without remedies the table is empty.

    Examples
    --------
    >>> rows = [(run, f"remedy/{name}/noisy", value) for run in "ab" for name, value in [("autoencoder", 0.5)]]
    >>> rows += [("a", "remedy/unet/noisy", 0.6), ("b", "remedy/unet/noisy", 0.4)]
    >>> results = pd.DataFrame(rows, columns=["point", "metric", "value"])
    >>> table = spread_of_remedies(results).replace(chr(160), " ", regex=True)
    >>> table.loc[1, ["Remedy", "Runs", "Noisy images", "Minus autoencoder", "Better in"]].tolist()
    ['Residual U-Net', '2', '0.500 ± 0.141', '0.000 ± 0.141', '1 of 2']
    """
    parts = results["metric"].str.extract(r"^remedy/(?P<remedy>[^/]+)/(?P<key>.+)$")
    found = pd.concat([results[["point", "value"]], parts], axis="columns").dropna(subset=["remedy"])
    runs = found.pivot_table(index="point", columns=["remedy", "key"], values="value")
    rows = []
    for name in (*ROWS, OWN):
        if (name, "noisy") not in runs:
            continue
        own = runs[name]
        row = {"Remedy": "Your remedy" if name == OWN else make_remedy(name).title, "Runs": str(own["noisy"].count())}
        for key, (title, digits) in _METRICS.items():
            row[title] = spread_text(own[key].dropna(), digits=digits) if key in own else ""
        row |= {"Minus autoencoder": "", "Better in": ""}
        if name != "autoencoder" and ("autoencoder", "noisy") in runs:
            differences = (own["noisy"] - runs["autoencoder", "noisy"]).dropna()
            row["Minus autoencoder"] = spread_text(differences, digits=3)
            row["Better in"] = f"{(differences > 0).sum()} of {len(differences)}"
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.loc[:, (table != "").any()]
