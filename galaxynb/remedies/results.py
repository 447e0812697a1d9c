"""Read the results of the remedies of a run, for the notebook and for programs that keep them."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from galaxynb.files import written_aside
from galaxynb.pages import DASH
from galaxynb.remedies.rows import BEHIND, OWN, ROWS
from galaxynb.remedies.tables import robustness_table
from galaxynb.remedies.verdict import GALAXY

__all__ = [
    "Remedies",
    "accuracy_table",
    "facts_table",
    "galaxy_table",
    "overview_table",
    "psnr_of",
    "read_remedies",
    "save_predictions",
    "summarize_remedies",
    "verdict_table",
]


class Remedies(NamedTuple):
    """Results of the remedies of a run.

    Attributes
    ----------
    facts : dict of dict
        Contents of each ``remedy.json`` by the name of the remedy.
    predictions : pandas.DataFrame
        Probabilities for each remedy, version of the images and test image.
    robustness : pandas.DataFrame
        Predicted classes for damaged test images.
    examples : dict of ndarray of uint8
        The first restored test images of each remedy that restores images.
    """

    facts: dict
    predictions: pd.DataFrame
    robustness: pd.DataFrame
    examples: dict

    @property
    def failures(self):
        """The reason of each remedy that failed, by its title."""
        return {one["title"]: one["failed"] for one in self.facts.values() if one["failed"]}


def read_remedies(folder, names):
    """Read the results of remedies.

    Parameters
    ----------
    folder : str or os.PathLike
        Folder that holds one folder per remedy.
    names : sequence of str
        Names of the remedies, in the order of the tables. If there are none, all that the folder holds are read.

    Returns
    -------
    Remedies

    Raises
    ------
    FileNotFoundError
        If a remedy has not been tried.
    ValueError
        If the row without a remedy failed.

    Examples
    --------
    >>> read_remedies("nowhere", ["median"])
    Traceback (most recent call last):
    FileNotFoundError: nowhere/median holds no results of the remedy median, but they are needed: run `make book`
    """
    folder, facts, examples = Path(folder), {}, {}
    tables = {"predictions": [], "robustness": []}
    names = names or [one for one in (*ROWS, OWN) if (folder / one / "remedy.json").is_file()]
    if not names:
        raise FileNotFoundError(f"{folder} holds no remedies, but their results are needed: run `make book`")
    for name in names:
        place = folder / name
        if not (place / "remedy.json").is_file():
            raise FileNotFoundError(
                f"{place} holds no results of the remedy {name}, but they are needed: run `make book`"
            )
        facts[name] = json.loads((place / "remedy.json").read_text(encoding="utf-8"))
        if facts[name]["failed"]:
            if name == "nothing":
                raise ValueError(
                    f"the row without a remedy failed ({facts[name]['failed']}), but all others are compared with it:"
                    f" delete {place} and run `make book` again"
                )
            continue
        for kind, found in tables.items():
            if (place / f"{kind}.parquet").is_file():
                found.append(pd.read_parquet(place / f"{kind}.parquet"))
        if (place / "examples.npz").is_file():
            with np.load(place / "examples.npz") as kept:
                examples[name] = kept["images"]
    joined = {kind: _joined(found) for kind, found in tables.items()}
    return Remedies(facts, joined["predictions"], joined["robustness"], examples)


def _joined(tables):
    """Return one table of several, with categories in the order of the tables; None without tables."""
    if not tables:
        return None
    texts = [name for name in ("remedy", "images", "kind") if name in tables[0]]
    whole = pd.concat([table.astype(dict.fromkeys(texts, "str")) for table in tables], ignore_index=True)
    return whole.astype({name: pd.CategoricalDtype(whole[name].unique()) for name in texts})


def overview_table(facts):
    """Return what each remedy is, as a table for reading.

    Parameters
    ----------
    facts : pandas.DataFrame
        From `facts_table`.

    Returns
    -------
    pandas.DataFrame
        One row per remedy, with the columns ``Remedy``, ``Family``, ``What it does`` (with the parameters that were
        chosen on validation images), ``Learns from`` and ``Parameters``.

    Examples
    --------
    >>> row = {"title": "Mine", "family": "Yours", "does": "It smooths", "learns from": "nothing", "parameters": 0}
    >>> overview_table(pd.DataFrame([row | {"chosen": {"width": "3 px"}}]))["What it does"].item()
    'It smooths (width: 3 px)'
    """
    chosen = facts["chosen"].map(lambda one: "; ".join(f"{name}: {value}" for name, value in one.items()))
    facts = facts.assign(does=facts["does"] + chosen.map(lambda text: f" ({text})" if text else ""))
    names = {"title": "Remedy", "family": "Family", "does": "What it does"}
    names |= {"learns from": "Learns from", "parameters": "Parameters"}
    return facts[list(names)].rename(columns=names)


def accuracy_table(scores, facts):
    """Return the scores of the remedies as a table for reading.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `galaxynb.remedies.tables.score_remedies`.
    facts : pandas.DataFrame
        From `facts_table`, with the same rows.

    Returns
    -------
    pandas.DataFrame
        One row per remedy, with estimates and their 95% intervals as text. P-values are text too: one below 0.001 is
        ``< 0.001``, and that of the autoencoder, which is not compared with itself, is a dash. So are all if it failed.

    Examples
    --------
    >>> from galaxynb.results.evaluation import Estimate
    >>> estimates = dict.fromkeys(("clean", "noisy", "recovery"), Estimate(0.5, 0.4, 0.6))
    >>> scores = pd.DataFrame([estimates | {"p": 0.01, "ece": 0.1, "brier": 0.4}], index=["median"])
    >>> table = accuracy_table(scores, pd.DataFrame({"title": ["Median filter"]}, index=["median"]))
    >>> table.replace(chr(160), " ", regex=True).iloc[0, :2].tolist()
    ['Median filter', '0.50 (0.40 to 0.60)']
    """
    columns = {"noisy": "Noisy images", "clean": "Clean images", "recovery": "Recovery"}
    # No-break spaces keep an interval, and a sign and its number, together in a narrow column.
    space = "\N{NO-BREAK SPACE}"
    texts = {
        title: scores[name].map(lambda one: one.text().replace(" to ", f"{space}to{space}"))
        for name, title in columns.items()
    }
    small = f"<{space}0.001"
    p_values = scores["p"].map(lambda p: DASH if np.isnan(p) else small if p < 0.001 else f"{p:.3f}")
    numbers = {"p": p_values, "Calibration error": scores["ece"], "Brier score": scores["brier"]}
    return pd.DataFrame({"Remedy": facts["title"]} | texts | numbers)


def save_predictions(predictions, path):
    """Write the probabilities of every image and remedy to a parquet file.

    The file is written under a temporary name and then renamed.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From `read_remedies`.
    path : str or os.PathLike
        Path of the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_predictions(pd.DataFrame({"row": [3]}), f"{folder}/predictions.parquet")
    ...     pd.read_parquet(f"{folder}/predictions.parquet")["row"].tolist()
    [3]
    """
    with written_aside(path) as temporary:
        predictions.to_parquet(temporary, index=False)


def facts_table(facts):
    """Return what each remedy is and costs: one row per remedy, without those that failed.

    Parameters
    ----------
    facts : dict of dict
        From `read_remedies`.

    Returns
    -------
    pandas.DataFrame
        Index: names. Columns: ``title``, ``family``, ``does``, ``learns from``, ``gives``, ``chosen``,
        ``parameters``, ``training seconds``, ``behind`` (whether it also uses the paper's autoencoder), ``elsewhere``
        (whether epochs of its training ran on another device than its trial), ``ms per image``, ``psnr`` (dB, against
        the truth if there is one, otherwise against the clean images) and the names of the astronomer's verdict.

    Examples
    --------
    >>> facts_table({"own": {"title": "Mine", "failed": "it has NaN"}}).empty
    True
    """
    rows = {}
    for name, one in facts.items():
        if one["failed"]:
            continue
        plain = ("title", "family", "does", "learns from", "gives", "parameters", "training seconds", "ms per image")
        rows[name] = {key: one.get(key) for key in plain} | {"chosen": one.get("chosen") or {}}
        rows[name]["behind"] = name in BEHIND
        rows[name]["elsewhere"] = any(device != one.get("device") for device in one.get("trained on", ()))
        rows[name] |= {"psnr": psnr_of(one), **(one.get("verdict") or {})}
    return pd.DataFrame.from_dict(rows, orient="index")


def psnr_of(facts):
    """Return the mean PSNR in dB of the images that a remedy restored; None if it restores none.

    Parameters
    ----------
    facts : dict
        Contents of a ``remedy.json``.

    Returns
    -------
    float or None
        Against the noise-free truth if there is one, otherwise against the clean images.

    Examples
    --------
    >>> psnr_of({"quality": {"clean": {"psnr_mean": 33.0}, "truth": {"psnr_mean": 36.0}}})
    36.0
    """
    quality = facts.get("quality") or {}
    return (quality.get("truth") or quality.get("clean") or {}).get("psnr_mean")


def verdict_table(facts):
    """Return what the remedies that restore images do to noise and stars, as a table for reading.

    Parameters
    ----------
    facts : pandas.DataFrame
        From `facts_table`.

    Returns
    -------
    pandas.DataFrame
        One row per remedy. Columns that were not measured are left out.

    Examples
    --------
    >>> facts = pd.DataFrame({"title": ["Median filter"], "gives": ["images"], "psnr": [25.0]})
    >>> verdict_table(facts)
              Remedy  PSNR, dB
    0  Median filter      25.0
    """
    images = facts[facts["gives"] == "images"]
    table = {"Remedy": images["title"], "PSNR, dB": images["psnr"]}
    names = {"stars left": "Stars left", "own stars kept": "Field stars kept", "galaxies lost": "Galaxies lost"}
    names |= {"noise frame": "Noise frame", "star frame": "Star frame"}
    table |= {title: images[name] for name, title in names.items() if name in images}
    return pd.DataFrame(table).reset_index(drop=True)


def galaxy_table(facts):
    """Return what the remedies that restore images do to the galaxies, as a table for reading.

    Parameters
    ----------
    facts : pandas.DataFrame
        From `facts_table`.

    Returns
    -------
    pandas.DataFrame
        One row per remedy, and one column per measure of the galaxies: bias ± scatter, or a dash if no galaxy is left.
        Measures that were not made are left out.

    Examples
    --------
    >>> facts = pd.DataFrame({"title": ["Median filter"], "gives": "images", "Flux, bias": 0.1, "Flux, scatter": 0.2})
    >>> galaxy_table(facts).replace(chr(160), " ", regex=True)
              Remedy            Flux
    0  Median filter  +0.100 ± 0.200
    """
    images = facts[facts["gives"] == "images"]
    table = {"Remedy": images["title"]}
    for title, _ in GALAXY.values():
        if f"{title}, bias" in images:
            bias, scatter = images[f"{title}, bias"].astype(float), images[f"{title}, scatter"].astype(float)
            pairs = zip(bias, scatter, strict=True)
            # A narrow column breaks a line at a space, and after a hyphen, but not at these signs.
            texts = [DASH if np.isnan(b) else f"{b:+.3f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{s:.3f}" for b, s in pairs]
            table[title] = [text.replace("-", "\N{MINUS SIGN}") for text in texts]
    return pd.DataFrame(table).reset_index(drop=True)


def summarize_remedies(found, scores, robust):
    """Return all numbers of the remedies for a JSON file.

    Parameters
    ----------
    found : Remedies
        From `read_remedies`.
    scores : pandas.DataFrame
        From `galaxynb.remedies.tables.score_remedies`.
    robust : pandas.DataFrame or None
        From `galaxynb.remedies.tables.summarize_robustness`.

    Returns
    -------
    dict
        ``remedies`` holds the facts and scores of each remedy by its name, ``robustness`` the accuracy of each by kind
        and severity.

    Examples
    --------
    >>> summarize_remedies(Remedies({"own": {"title": "Mine", "failed": "it has NaN"}}, None, None, {}), None, None)
    {'remedies': {'own': {'title': 'Mine', 'failed': 'it has NaN'}}, 'robustness': {}}
    """
    remedies = {}
    for name, facts in found.facts.items():
        remedies[name] = dict(facts)
        if scores is not None and name in scores.index:
            row = scores.loc[name]
            remedies[name]["accuracy"] = {version: row[version].asdict() for version in ("clean", "noisy")}
            remedies[name]["recovery"] = row["recovery"].asdict()
            plain = {"p": row["p"], "calibration error": row["ece"], "brier score": row["brier"]}
            remedies[name] |= {key: None if pd.isna(value) else float(value) for key, value in plain.items()}
        if robust is not None and name in robust.index:
            remedies[name]["mce"] = float(robust.loc[name, "mce"])
    table = {} if found.robustness is None else robustness_table(found.robustness)
    robustness = {
        name: {kind: [float(value) for value in table.loc[name, kind]] for kind in table.columns.levels[0]}
        for name in (table.index if len(table) else ())
    }
    return {"remedies": remedies, "robustness": robustness}
