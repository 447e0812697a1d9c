"""The README: its numbers are the kept run's, its links lead somewhere, and its example runs."""

import json
import re
from types import SimpleNamespace

import pandas as pd
import pytest
from apply_samples import large_images, sample_networks
from paths import REFERENCE, ROOT

from galaxynb.apply import networks
from galaxynb.remedies.seeds import differences_over_runs
from galaxynb.results.evaluation import Estimate
from galaxynb.results.paper import paper_summary
from galaxynb.results.sweeps import read_sweep

README = (ROOT / "README.md").read_text(encoding="utf-8")
KEPT = REFERENCE / "run"
REMEDIES = REFERENCE / "remedies"
#: First words of the rows of the table, and the names of their numbers in the metrics of the kept run.
QUANTITIES = {
    "accuracy on clean images": "clean",
    "accuracy on noisy images": "noisy",
    "accuracy on denoised images": "denoised",
    "drop = clean - noisy": "drop",
    "gain = denoised - noisy": "gain",
    "recovery = gain / drop": "recovery",
}


@pytest.fixture(scope="module")
def estimates():
    metrics = json.loads((KEPT / "metrics.json").read_text(encoding="utf-8"))
    return {name: Estimate(**numbers) for name, numbers in metrics["estimates"].items()}


@pytest.fixture(scope="module")
def remedies():
    """Return, by the remedy's title, accuracies (text), p-values on real images, and differences over small runs."""
    accuracies = pd.read_csv(REMEDIES / "accuracies.csv", index_col="Remedy")
    real = pd.read_csv(REMEDIES / "real.csv", index_col="Remedy")["p"]
    return SimpleNamespace(
        noisy=accuracies["Noisy images"].str[:4],
        clean=accuracies["Clean images"].str[:4],
        real=pd.to_numeric(real, errors="coerce"),
        small=differences_over_runs(read_sweep(REFERENCE / "sweeps" / "remedies")[0]),
    )


def page(name):
    """Return the text of a page of the book as one line."""
    return " ".join((ROOT / "book" / f"{name}.md").read_text(encoding="utf-8").split())


def rows(text):
    """Return the cells of each row of the Markdown tables in a text."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 90
    assert max(map(len, lines)) <= 100


def test_readme_shows_the_numbers_of_the_kept_run_and_of_the_paper(estimates):
    shown = {title: numbers for title, *numbers in rows(README) if title in QUANTITIES}
    paper = paper_summary()
    assert shown == {title: [estimates[name].text(), f"{paper[name]:.2f}"] for title, name in QUANTITIES.items()}


def test_the_first_page_of_the_book_shows_the_same_numbers():
    numbers = [cells for title, *cells in rows(README) if title in QUANTITIES]
    answer = pd.read_csv(KEPT / "answer.csv", dtype=str)
    assert answer[["Kept run", "Paper"]].to_numpy().tolist() == numbers
    assert "reference/run/answer.csv" in page("intro")


def test_readme_says_of_the_kept_run_what_its_records_and_metrics_say(estimates):
    record = json.loads((KEPT / "provenance" / "data.json").read_text(encoding="utf-8"))
    support = pd.read_csv(KEPT / "table1_clean.csv", index_col="Class")["Support"]
    assert record["data"]["kind"] == "standin"
    assert record["parameters"]["image_size"] == 64
    said = " ".join(README.split())
    assert f"{record['data']['n_images']:,} synthetic images at half the paper's image side" in said
    assert f"the finite number of test images, {support['Accuracy']:,}, but" in said
    assert "noise costs the classifier more than half of its accuracy" in said
    assert estimates["noisy"].high < estimates["clean"].low / 2
    assert "denoising recovers about four fifths of the loss.** The paper recovers nine tenths" in said
    assert round(5 * estimates["recovery"].value) == 4
    assert round(10 * paper_summary()["recovery"]) == 9
    assert f"the accuracy is {estimates['denoised clean'].value:.2f}. On" in said
    real = pd.read_csv(KEPT.parent / "real_recovery.csv", index_col="Quantity")
    (title,) = real.columns
    clean, noisy, denoised = (real.loc[name, title] for name in ("clean", "noisy", "denoised"))
    intro = page("intro")
    for text in (said, intro):
        assert f"On {title.partition(' ')[0]} real galaxies, to which the stand-in was fitted" in text
        assert (
            f"an accuracy of {clean} on clean, {noisy} on noisy and {denoised} on denoised images: a recovery" in text
        )
        assert f"a recovery of {real.loc['recovery', title]}." in text
    assert record["profile"] == "half"
    assert "Ours (profile `half`)" in said


def test_readme_names_the_remedies_that_are_better_than_the_autoencoder(remedies):
    advice = json.loads((REMEDIES / "remedies.json").read_text(encoding="utf-8"))["advice"]
    noisy, clean = remedies.noisy, remedies.clean
    said = " ".join(README.split())
    number = re.search(
        r"Of (\d+) \[other remedies\]\(book/reference_remedies.md\), six are measurably better than the autoencoder\.",
        said,
    )[1]
    assert advice["all"].startswith(f"Of {number} other remedies, 6 are measurably better")
    better = re.findall('"(.+?)"', advice["all"])
    assert len(better) == 6
    best, half, control = "Trained on noisy", "Trained on half noisy", "Fine-tuned on clean, denoised"
    assert {best, half, control} <= {*better}
    assert noisy[best] == noisy.max()
    assert f"trained on noisy images: {noisy[best]}, but only {clean[best]} on clean images" in said
    assert f"in equal parts has {noisy[half]}, and {clean[half]} on clean images" in said
    assert f"clean images, reaches {noisy[control]} on denoised images" in said
    small = remedies.small[[best, half]]
    assert "In five small runs, both are below the autoencoder." in said
    assert len(small.dropna()) == 5
    assert (small < 0).all(axis=None)
    assert noisy["The paper's autoencoder"] < noisy[control] < noisy["Fine-tuned on denoised"]
    intro = page("intro")
    assert "denoising alone is not the best remedy if the classifier can be trained again" in intro
    assert noisy[best] > noisy["U-Net, classifier's features"]
    assert (remedies.real[better] > 0.05).all()
    assert "On real galaxies, none of the six is measurably better." in said


def test_the_page_of_answers_begins_with_what_the_tables_say(remedies):
    noisy, clean = remedies.noisy, remedies.clean
    said = page("which_remedy")
    paper, unet, further, half = (
        "The paper's autoencoder",
        "U-Net, classifier's features",
        "Fine-tuned on denoised",
        "Trained on half noisy",
    )
    assert f"raises the accuracy from {noisy['Nothing']} to {noisy[paper]}" in said
    assert f'and "{unet}" raises it to {noisy[unet]}' in said
    assert f"both lower it from {clean['Nothing']}, to {clean[paper]} and {clean[unet]}." in said
    assert f"on denoised images ({noisy[further]} on noisy and {clean[further]} on clean images)" in said
    assert f"in equal parts ({noisy[half]} and {clean[half]})" in said
    assert "the first has a higher accuracy on noisy images than the autoencoder in all, and the second in none" in said
    assert (remedies.small[[further, half]] > 0).sum().tolist() == [5, 0]
    assert (remedies.real[[unet, further, half]] > 0.05).all()
    images = len(pd.read_parquet(REMEDIES / "rows" / "nothing" / "real.parquet").query("images == 'noisy'"))
    assert f"On {images} real galaxies, none of these is measurably better than the autoencoder" in said


def test_readme_says_what_accuracy_the_default_profile_has():
    kept = pd.read_parquet(ROOT / "book" / "reference" / "sweeps" / "seeds" / "results.parquet")
    assert kept["profile"].unique().tolist() == ["quick"]
    assert kept["seed"].nunique() == 5
    means = kept.groupby("metric")["value"].mean()
    clean, noisy, denoised = (f"{means[f'accuracy/{name}']:.2f}" for name in ("clean", "noisy", "denoised"))
    said = " ".join(README.split())
    assert f"its mean accuracy is {clean} on clean, {noisy} on noisy and {denoised} on denoised images" in said


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert "book/reference/run/figure5.png" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_targets_that_the_readme_names_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"book", "test"} <= named <= targets


def test_the_example_classifies_images(monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.split("\n")) - example.count("\n\n") - 1 == 4
    asked = []
    monkeypatch.setattr(networks, "load_networks", lambda: asked.append("kept") or sample_networks())
    names = {"images": large_images(3)[0]}
    exec(compile(example, "README.md", "exec"), names)
    assert asked == ["kept"]
    assert len(names["table"]) == 3
    assert names["denoised"].shape == (3, 32, 32, 3)
