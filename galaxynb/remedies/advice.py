"""Sentences on which remedy to use, made from the numbers alone.

A difference counts if McNemar's test finds it. The best of several remedies is chosen on the same images, so each
p-value is multiplied by the number of remedies that were compared (Bonferroni).
"""

import pandas as pd

from galaxynb.remedies.disturbances import DISTURBANCES
from galaxynb.remedies.remedy import LABELS, NOISY, NOTHING, PAIRS
from galaxynb.remedies.rows import ADAPTING
from galaxynb.remedies.tables import CLEAN, PROBABILITIES, compare_pairs, recall_table

__all__ = ["QUESTIONS", "advise"]


#: Questions and situations of a reader, in an order for reading, by the name of the sentences that answer them.
QUESTIONS = {
    "all": "The paper's autoencoder, or another remedy?",
    "classes": "Which classes does the autoencoder save?",
    "nothing": "I cannot train a network, but can choose one parameter on labelled noisy images",
    "noisy": "I also have noisy images without labels",
    "pairs": "I also have clean images, and know what the noise looks like",
    "labels": "I also have labels for them, and may train the classifier again",
    "robust": "My noise may differ from the noise that I assume",
    "stars": "I want to measure the galaxy afterwards",
}

_BETTER, _WORSE, _EQUAL = "better than", "worse than", "not measurably different from"

#: The control for the fine-tuned classifier.
_CONTROL = "clean-finetuned-classifier"

_CLEAR = 0.05  # p-value below which a difference counts


def advise(scores, facts, predictions, *, robustness):
    """Return a few sentences for each question of a reader.

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
        Sentences by the keys of `QUESTIONS`.

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
    >>> print(advise(score_remedies(shown), facts, shown, robustness=robustness)["nothing"][:69])
    Without training, the best remedy is "Median" (accuracy 1.00 on noisy
    """
    right, right_clean = _right(predictions, "noisy"), _right(predictions, "clean")
    value = scores["noisy"].map(lambda estimate: estimate.value)
    titles, needs = '"' + facts["title"] + '"', facts["learns from"]
    said = {}
    situations = {
        "nothing": ("Without training", (NOTHING,)),
        "noisy": ("With unlabelled noisy images", (NOTHING, NOISY)),
        "pairs": ("With clean images, to which noise can be added", (NOTHING, NOISY, PAIRS)),
        "labels": ("With labels, so that the classifier can be trained again", (NOTHING, NOISY, PAIRS, LABELS)),
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
        found = f"{opening}, the best remedy is {titles[best]} (accuracy {value[best]:.2f} on noisy and"
        found += f" {right_clean[best].mean():.2f} on clean images)."
        said[key] = f"{found} It is {how} {than}."
        equal = [name for name in candidates.index if name not in (best, before)]
        equal = [name for name in equal if _compared(right[best], right[name], tests=len(candidates)) == _EQUAL]
        if equal:
            listed = ", ".join(
                f"{titles[name]} ({value[name]:.2f} and {right_clean[name].mean():.2f})" for name in equal
            )
            said[key] += f" Not measurably different from the best: {listed}."
        said[key] += _harm([best, *equal], right_clean, titles)
        before = best
    said["labels"] += _control(value, titles)
    said["all"] = _against_paper(value, right, titles)
    said["classes"] = _about_classes(recall_table(predictions))
    said["robust"] = _about_damage(robustness, titles, needs)
    said["stars"] = _about_stars(facts, titles)
    return {name: said[name] for name in QUESTIONS}


def _control(value, titles):
    """Return how much further training gives without denoised images, if a run tried both."""
    if not {"finetuned-classifier", _CONTROL} <= {*value.index}:
        return ""
    return (
        f" {titles[_CONTROL]} ({value[_CONTROL]:.2f}) is a control for {titles['finetuned-classifier']}"
        f" ({value['finetuned-classifier']:.2f}): its classifier was trained further on rotated clean images, and saw"
        " neither noisy nor denoised ones."
    )


def _harm(names, right, titles):
    """Return which of some remedies are worse on clean images than no remedy."""
    before = right["nothing"]
    worse = [name for name in names if _compared(right[name], before, tests=len(names)) == _WORSE]
    if not worse:
        return ""
    listed = ", ".join(titles[name] for name in worse)
    return f" Worse on clean images than no remedy ({before.mean():.2f}): {listed}."


def _about_classes(recalls):
    """Return which class the paper's autoencoder saves most, and which stays furthest below its clean recall."""
    if "autoencoder" not in recalls.index:
        return "The paper's autoencoder failed in this run."
    clean, noisy, denoised = (recalls.loc[name] for name in (CLEAN, "nothing", "autoencoder"))
    saved, lost = (denoised - noisy).idxmax(), (denoised - clean).idxmin()
    text = "Denoising raises the recall of no class."
    if denoised[saved] > noisy[saved]:
        text = f"Denoising raises the recall of {saved} most, from {noisy[saved]:.0%} on noisy images to"
        text += f" {denoised[saved]:.0%} (clean images: {clean[saved]:.0%})."
    if denoised[lost] < clean[lost]:
        text += f" After it, {lost} is furthest below its recall on clean images: {denoised[lost]:.0%} instead of"
        text += f" {clean[lost]:.0%}."
    fallen = (denoised - noisy).idxmin()
    if denoised[fallen] < noisy[fallen]:
        text += f" Compared with noisy images, denoising lowers the recall of {fallen} from {noisy[fallen]:.0%} to"
        text += f" {denoised[fallen]:.0%} (clean images: {clean[fallen]:.0%})."
    return text


def _about_damage(robustness, titles, needs):
    """Return which remedy makes the fewest errors under other damage, and under which kinds it does harm."""
    error = robustness["mce"].drop("nothing")
    if error.empty:
        return "No other remedy was tried under other damage."
    best = error.idxmin()
    text = (
        f"Under damage that no network was trained on, {titles[best]} makes the fewest errors{_condition(best)}: on "
        f"average {error[best]:.2f} times as many as the classifier without a remedy."
    )
    demands = {
        "need no labels": [name for name in error.index if needs[name] == LABELS],
        "do not adapt": [name for name in error.index if name in ADAPTING],
    }
    without = []  # the demands that the remedies named next do not make
    for kind, names in demands.items():
        others = error.drop(names, errors="ignore")
        if best in names and len(others):
            without.append(kind)
            error, best = others, others.idxmin()
            text += f" Of the remedies that {' and '.join(without)}, it is {titles[best]} ({error[best]:.2f})"
            text += f"{_condition(best)}."
    kinds = [kind for kind in DISTURBANCES if kind in robustness]
    worse = [DISTURBANCES[kind].title for kind in kinds if robustness.loc[best, kind] < robustness.loc["nothing", kind]]
    listed = ", ".join(f'"{title}"' for title in worse)
    return f"{text} {titles[best]} has a lower accuracy than no remedy under {listed}." if worse else text


def _condition(name):
    return ", if it first gets unlabelled images with the same damage" if name in ADAPTING else ""


def _about_stars(facts, titles):
    """Return which remedy removes the injected stars best, and which changes the galaxies least."""
    others = facts.drop("nothing")
    if "stars left" not in facts or others["stars left"].isna().all():
        return "This run has not measured what becomes of stars: only stand-ins have the noise-free truth for it."
    best = others["stars left"].astype(float).abs().idxmin()
    left = facts.loc[best, "stars left"]
    text = f"{titles[best]} removes the injected stars best: the median image keeps {left:.1%} of their light."
    if "own stars kept" in facts and facts["own stars kept"].notna().any():
        kept = facts.loc[best, "own stars kept"]
        text += f" Of the field stars above 5 sigma, {kept:.0%} keep at least half of their light."
    measures = [(f"{name}, bias", f"{name}, scatter") for name in ("Flux", "Size")]
    if not {name for pair in measures for name in pair} <= {*facts.columns}:
        return text
    errors = sum(others[bias].astype(float) ** 2 + others[scatter].astype(float) ** 2 for bias, scatter in measures)
    if errors.notna().any():
        least = errors.idxmin()
        flux, size = (
            " ± ".join(f"{facts.loc[least, name]:{form}}" for name, form in zip(pair, ("+.1%", ".1%"), strict=True))
            for pair in measures
        )
        text += " The errors of flux and size, bias and scatter together, are smallest with"
        text += f" {'the same remedy' if least == best else titles[least]}: {flux} and {size}"
        before = [facts.loc["nothing", name] for pair in measures for name in pair]
        if pd.notna(before).all():
            text += " (without a remedy: {:+.1%} ± {:.1%} and {:+.1%} ± {:.1%})".format(*before)
        text += ". The first number is the bias, a median over the galaxies, and the second the scatter."
    return text


def _right(predictions, images):
    """Return whether each remedy is right, for each noisy or each clean image."""
    shown = predictions[predictions["images"] == images].sort_values("row")
    right = shown[list(PROBABILITIES)].to_numpy().argmax(axis=1) == shown["label"].to_numpy()
    return {name: right[(shown["remedy"] == name).to_numpy()] for name in shown["remedy"].unique()}


def _compared(right, other, *, tests):
    """Return `_BETTER`, `_WORSE` or `_EQUAL`, for one of several tests."""
    if tests * compare_pairs(right, other) >= _CLEAR:
        return _EQUAL
    return _BETTER if right.sum() > other.sum() else _WORSE


def _against_paper(value, right, titles):
    """Return how many remedies are measurably better or worse than the paper's autoencoder."""
    if "autoencoder" not in value:
        return "The paper's autoencoder failed in this run, so nothing can be compared with it."
    others = [name for name in value.index if name not in ("nothing", "autoencoder")]
    found = [_compared(right[name], right["autoencoder"], tests=len(others)) for name in others]
    better = [titles[name] for name, how in zip(others, found, strict=True) if how == _BETTER]
    text = f": {', '.join(better)}" if better else ""
    remedies = "remedy" if len(others) == 1 else "remedies"
    return (
        f"Of {len(others)} other {remedies}, {_how_many(len(better))} measurably better than the paper's autoencoder "
        f"({value['autoencoder']:.2f}){text}; {_how_many(found.count(_WORSE))} worse."
    )


def _how_many(number):
    return {0: "none is", 1: "1 is"}.get(number, f"{number} are")


def _name(titles, name):
    return "no remedy" if name == "nothing" else titles[name]
