"""Sentences on which remedy to use, made from the numbers alone.

A difference counts if McNemar's test finds it. The best of several remedies is chosen on the same images, so each
p-value is multiplied by the number of remedies that were compared (Bonferroni).
"""

import pandas as pd

from galaxynb.remedies.remedy import LABELS, NOISY, NOTHING, PAIRS
from galaxynb.remedies.tables import PROBABILITIES, compare_pairs

__all__ = ["SENTENCES", "advise"]


#: Names of the sentences, in an order for reading.
SENTENCES = ("all", "nothing", "noisy", "pairs", "labels", "robust", "stars")

_CLEAR = 0.05  # p-value below which a difference counts


def advise(scores, facts, predictions, *, robustness):
    """Return one sentence for each situation of a reader.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `galaxynb.remedies.tables.score_remedies`, with the row "nothing".
    facts : pandas.DataFrame
        From `galaxynb.remedies.results.facts_table`, with the same rows.
    predictions : pandas.DataFrame
        What `scores` were computed from.
    robustness : pandas.DataFrame
        From `galaxynb.remedies.tables.summarize_robustness`.

    Returns
    -------
    dict of str
        Sentences by their names, those of `SENTENCES`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from galaxynb.remedies.tables import score_remedies
    >>> names = ["nothing", "median", "autoencoder"]
    >>> shown = pd.MultiIndex.from_product([names, ["clean", "noisy"], range(9)], names=["remedy", "images", "row"])
    >>> shown = shown.to_frame(index=False).assign(label=0, **{f"p{n}": 0.0 for n in range(10)})
    >>> shown.loc[(shown["remedy"] != "nothing") | (shown["images"] == "clean"), "p0"] = 1.0
    >>> shown.loc[shown["p0"] == 0, "p1"] = 1.0
    >>> needs = ["nothing", "nothing", "clean-noisy pairs"]
    >>> facts = pd.DataFrame({"title": ["Nothing", "Median", "Autoencoder"], "learns from": needs}, index=names)
    >>> robustness = pd.DataFrame({"mce": [1.0, 0.9, 0.8]}, index=names)
    >>> print(advise(score_remedies(shown), facts, shown, robustness=robustness)["nothing"][:68])
    With nothing to train on, the best remedy is "Median" (accuracy 1.00
    """
    right = _right(predictions)
    value = scores["noisy"].map(lambda estimate: estimate.value)
    titles, needs = '"' + facts["title"] + '"', facts["learns from"]
    said = {}
    situations = {
        "nothing": ("With nothing to train on", (NOTHING,)),
        "noisy": ("With unlabelled noisy images", (NOTHING, NOISY)),
        "pairs": ("With clean images, to which noise can be added", (NOTHING, NOISY, PAIRS)),
        "labels": ("With labels too, so that the classifier can be trained again", (NOTHING, NOISY, PAIRS, LABELS)),
    }
    before, seen = "nothing", set()
    for key, (opening, allowed) in situations.items():
        candidates = value[needs.isin(allowed)].drop("nothing", errors="ignore")
        if set(candidates.index) == seen:  # there is no more to choose from than before
            said[key] = f"{opening}, this run tried no further remedy."
            continue
        seen = set(candidates.index)
        best = candidates.idxmax()
        than = f"{_name(titles, before)} ({value[before]:.2f})"
        if best == before:
            said[key] = f"{opening}, {titles[best]} remains the best ({value[best]:.2f} on noisy images)."
            continue
        how = _compared(right[best], right[before], tests=len(candidates))
        found = f"{opening}, the best remedy is {titles[best]} (accuracy {value[best]:.2f} on noisy images)."
        said[key] = f"{found} It is {how} {than}."
        before = best
    said["all"] = _against_paper(value, right, titles)
    error = robustness["mce"].drop("nothing")
    said["robust"] = (
        f"Under other kinds of damage, {titles[error.idxmin()]} makes the fewest errors: on average "
        f"{error.min():.2f} times as many as the classifier without a remedy. "
        f"Averaged over the kinds, {(error < 1).sum()} of {len(error)} remedies make fewer errors than no remedy."
    )
    said["stars"] = _about_stars(facts.drop("nothing"), titles)
    return {name: said[name] for name in SENTENCES}


def _about_stars(facts, titles):
    """Return which remedy removes the injected stars best, and what it does to field stars and to galaxies."""
    if "stars left" not in facts or facts["stars left"].isna().all():
        return "This run has not measured what becomes of stars: only stand-ins have the noise-free truth for it."
    best = facts["stars left"].astype(float).abs().idxmin()
    left = facts.loc[best, "stars left"]
    text = f"{titles[best]} removes the injected stars best: the median image keeps {left:.1%} of their light."
    if "own stars kept" in facts and facts["own stars kept"].notna().any():
        kept = facts.loc[best, "own stars kept"]
        text += f" Of the field stars above 5 sigma, {kept:.0%} keep at least half of their light."
    changes = [facts.loc[best].get(f"{measure}, bias") for measure in ("Flux", "Size")]
    if pd.notna(changes).all():
        text += f" The median galaxy's flux changes by {changes[0]:+.1%}, and its size by {changes[1]:+.1%}."
    return text


def _right(predictions):
    """Return whether each remedy is right, for each noisy image."""
    noisy = predictions[predictions["images"] == "noisy"].sort_values("row")
    right = noisy[list(PROBABILITIES)].to_numpy().argmax(axis=1) == noisy["label"].to_numpy()
    return {name: right[(noisy["remedy"] == name).to_numpy()] for name in noisy["remedy"].unique()}


def _compared(right, other, *, tests):
    """Return "better than", "worse than" or "not measurably different from", for one of several tests."""
    if tests * compare_pairs(right, other) >= _CLEAR:
        return "not measurably different from"
    return "better than" if right.sum() > other.sum() else "worse than"


def _against_paper(value, right, titles):
    """Return how many remedies are measurably better or worse than the paper's autoencoder."""
    if "autoencoder" not in value:
        return "The paper's autoencoder failed in this run, so nothing can be compared with it."
    others = [name for name in value.index if name not in ("nothing", "autoencoder")]
    found = [_compared(right[name], right["autoencoder"], tests=len(others)) for name in others]
    better = [titles[name] for name, how in zip(others, found, strict=True) if how == "better than"]
    text = f": {', '.join(better)}" if better else ""
    return (
        f"Of {len(others)} other remedies, {_how_many(len(better))} measurably better than the paper's autoencoder "
        f"({value['autoencoder']:.2f}){text}; {_how_many(found.count('worse than'))} worse."
    )


def _how_many(number):
    return {0: "none is", 1: "1 is"}.get(number, f"{number} are")


def _name(titles, name):
    return "no remedy" if name == "nothing" else titles[name]
