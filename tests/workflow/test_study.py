"""The whole study as a user runs it: make, papermill, and the strict book build.

Tests run in a copy of the checkout, so they may edit files and do not touch the user's runs.
"""

import html.parser
import json
import re
import sys
from functools import partial
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import yaml
from checkout import SMOKE, Checkout, other_code

from galaxynb.data.cache import open_cache
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.data.splits import paper_split
from galaxynb.images import to_float
from galaxynb.networks.calibration import calibrate_strength, read_calibration
from galaxynb.networks.models import load_model, predict_classes
from galaxynb.noise import NoiseModel
from galaxynb.results.paper import paper_summary
from galaxynb.stages import SECTIONS, STAGES

pytestmark = pytest.mark.study


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def study(checkout):
    """Return the checkout of a finished smoke run."""
    done = checkout.smoke()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert str(checkout.root / SMOKE / "book" / "index.html") in done.stdout
    return checkout


class Links(html.parser.HTMLParser):
    """Collect a page's links, images and anchors."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        self.targets += [attributes[key] for key in ("href", "src") if attributes.get(key)]


def broken_links(pages):
    """Return the broken internal links and images of a folder of HTML pages."""
    built = [
        path for path in pages.rglob("*.html") if "_static" not in path.parts
    ]  # this folder holds templates of the theme
    parsed = {path.resolve(): Links(path.read_text(encoding="utf-8")) for path in built}
    broken = []
    for page, links in parsed.items():
        for target in links.targets:
            address = urlsplit(target)
            if address.scheme or address.netloc:
                continue
            path = (page.parent / unquote(address.path)).resolve() if address.path else page
            missing_anchor = (
                address.fragment and path in parsed and unquote(address.fragment) not in parsed[path].anchors
            )
            if not path.exists() or missing_anchor:
                broken.append(f"{page.name}: {target}")
    return broken


def test_every_stage_leaves_its_results(study):
    run = study.root / SMOKE
    for stage in STAGES:
        assert (run / "notebooks" / f"{stage}.ipynb").is_file()
    for number, name in enumerate(("clean", "noisy", "denoised"), start=1):
        table = pd.read_csv(run / "tables" / f"table{number}_{name}.csv")
        assert len(table) == 13
        assert json.loads((run / "tables" / f"table{number}_{name}.json").read_text())
    for figure in ("figure1", "figure2", "figure5", "confusion", "accuracy", "classifier_curves", "autoencoder_curves"):
        assert (run / "figures" / f"{figure}.png").stat().st_size > 10_000
    records = {path.stem: json.loads(path.read_text()) for path in (run / "provenance").glob("*.json")}
    assert set(records) == set(SECTIONS)
    assert all(record["wall_s"] > 0 and record["peak_memory_bytes"] > 0 for record in records.values())
    assert all(record["data"]["kind"] == "standin" for record in records.values())
    for name in ("audit", "leak_free", "closeness_overall", "closeness_classes", "ranges"):
        assert len(pd.read_csv(run / "tables" / f"{name}.csv"))
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["estimates"]["clean"]["value"] <= 1
    calibrated = json.loads((run / "calibrated_noise.json").read_text())
    assert metrics["noise"] == records["autoencoder"]["extra"]["noise"] == calibrated["calibration"]
    assert json.loads((run / "noise.json").read_text())["strength"] == "calibrate"


def test_the_networks_of_the_run_are_applied_to_other_images(study):
    run = study.root / SMOKE
    given = [f"IMAGES={SMOKE}/data/standin.h5", f"RUN={SMOKE}", "OUT=runs/applied/all"]
    done = study.make("apply", *given)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "60 of 60 images could be used." in done.stdout
    out = study.root / "runs" / "applied" / "all"
    assert f"The page is ready: {out / 'index.html'}" in done.stdout
    table = pd.read_parquet(out / "predictions.parquet")
    # The images are shrunk as in notebook 01, so the classifier predicts the same.
    classifier = load_model(run / "models" / "classifier.keras", made_by="the test")
    predicted = predict_classes(classifier, to_float(open_cache(run / "data" / "cache").images))
    assert table["before"].tolist() == [CLASS_NAMES[k] for k in predicted]
    notebook = study.root / "runs" / "07.ipynb"
    command = [sys.executable, "-I", "workflow/launch.py", "papermill", "notebooks/07_apply.ipynb", str(notebook)]
    given = ["-p", "run_dir", f"../{SMOKE}", "-p", "out", "../runs/applied/notebook", "-k", "galaxynb"]
    done = study.run(*command, "--cwd", "notebooks", *given)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(pd.read_csv(study.root / "runs/applied/notebook/predictions.csv")) == 20


def test_the_remedies_are_compared_without_a_failure(study):
    run = study.root / SMOKE
    remedies = json.loads((run / "remedies.json").read_text())["remedies"]
    assert set(remedies) == {"nothing", "median", "autoencoder"}
    assert {name: one["failed"] for name, one in remedies.items()} == dict.fromkeys(remedies)
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert len(set(predictions.groupby(["remedy", "images"], observed=True).size())) == 1
    estimates = json.loads((run / "metrics.json").read_text())["estimates"]
    # The same images, networks and noise as in notebook 05 give the same accuracies.
    for name, version in {"nothing": "noisy", "autoencoder": "denoised"}.items():
        assert remedies[name]["accuracy"]["noisy"]["value"] == pytest.approx(estimates[version]["value"])
    assert remedies["autoencoder"]["recovery"]["value"] == estimates["recovery"]["value"]
    for figure in ("accuracies", "recalls", "damage", "images"):
        assert (run / "figures" / f"remedies_{figure}.png").stat().st_size > 10_000


def test_the_strength_of_the_noise_follows_from_validation_images_and_from_no_test_image(study):
    """Other test images would give the same strength, and other validation images give other accuracies."""
    run = study.root / SMOKE
    kept = read_calibration(run / "calibrated_noise.json")
    shape, calibrate = NoiseModel.read_uncalibrated(run / "noise.json")
    cache, seed = open_cache(run / "data" / "cache"), 42
    split, paper = paper_split(cache.labels), paper_summary()
    predict = partial(predict_classes, load_model(run / "models" / "classifier.keras", made_by="03"))
    options = {"labels": cache.labels, "indices": split.validation, "seed": seed}
    options["kept_share"] = paper["noisy"] / paper["clean"]
    changed = np.array(cache.images)
    changed[split.test] = 255
    again = calibrate_strength(shape, predict, changed, **options)
    assert calibrate
    assert again.noise == kept.noise
    assert again.evaluations["strength"].tolist() == kept.evaluations["strength"].tolist()
    assert kept.noise.strength > 0
    options["labels"] = np.full_like(cache.labels, 11)
    assert calibrate_strength(shape, predict, changed, **options).clean == 0


def test_parameters_reach_the_notebooks(study):
    profile = yaml.safe_load((study.root / "config/smoke.yaml").read_text())
    records = study.root / SMOKE / "provenance"
    recorded = json.loads((records / "autoencoder.json").read_text())["parameters"]
    assert {key: recorded[key] for key in profile["autoencoder"]} == profile["autoencoder"]
    assert json.loads((records / "data.json").read_text())["parameters"]["image_size"] == profile["data"]["image_size"]


def test_book_has_no_broken_link_or_image(study):
    pages = study.root / SMOKE / "book"
    assert len(list(pages.rglob("*.html"))) >= 9
    assert broken_links(pages) == []
    assert (pages / "searchindex.js").is_file()


def test_every_results_page_says_that_its_data_are_synthetic(study):
    pages = study.root / SMOKE / "book"
    for page in (*(pages / "notebooks" / f"{stage}.html" for stage in STAGES), pages / "book" / "results.html"):
        assert "Synthetic stand-in data" in page.read_text(encoding="utf-8"), page.name


def test_pages_name_no_path_of_this_machine(study):
    for page in (study.root / SMOKE / "book").rglob("*.html"):
        assert str(study.root) not in page.read_text(encoding="utf-8"), page.name


def test_tables_and_figures_bear_the_papers_numbers(study):
    text = (study.root / SMOKE / "book/book/results.html").read_text(encoding="utf-8")
    captions = dict(
        re.findall(r'<span class="caption-number">(\w+ \d+) ?</span><span class="caption-text">(.*?)</span>', text)
    )
    for number, name in enumerate(("clean", "noisy", "denoised"), start=1):
        assert name in captions[f"Table {number}"]
    for number in (1, 2, 5):
        (figure,) = [
            part for part in text.split("<figure")[1:] if f"Figure {number} </span>" in part.split("</figure>")[0]
        ]
        # Compare content, not names: the kept run has figures with the same names, so Sphinx numbers the files.
        shown = study.root / SMOKE / "book/book" / re.search(r'src="(.+?)"', figure)[1]
        assert shown.read_bytes() == (study.root / SMOKE / "figures" / f"figure{number}.png").read_bytes()


def test_pages_of_kept_sweeps_have_the_sections_that_say_something(study):
    pages = study.root / SMOKE / "book" / "book" / "sweeps"
    texts = {name: (pages / f"{name}.html").read_text(encoding="utf-8") for name in ("seeds", "noise", "remedies")}
    sections = {name: set(re.findall(r'<section id="([\w-]+)"', text)) for name, text in texts.items()}
    assert sections["seeds"] == {"mean-and-spread", "tables-1-to-3", "the-points", "what-made-the-points"}
    assert sections["noise"] == {"along-each-axis", "recovery", "the-points", "what-made-the-points"}
    assert sections["remedies"] == {"do-the-conclusions-hold", "all-remedies", "the-points", "what-made-the-points"}
    for name, text in texts.items():
        assert "# Parameters" not in text  # the cell that papermill inserts
        assert "output stderr" not in text  # messages of a library that a cell imports
        # Only figures (curves and maps) have a button that opens their code.
        assert text.count('aria-label="Toggle hidden content"') == {"seeds": 0, "noise": 2, "remedies": 1}[name]
        # The only notebook to download is the source of the page.
        assert set(re.findall(r'href="([^"]*\.ipynb)"', text)) <= {f"../../_sources/book/sweeps/{name}.ipynb"}
        for empty in ("Not shown:", "No axis of numbers", "It takes two axes"):
            # Code on the page may hold these texts, but in quotation marks.
            assert f"<pre>{empty}" not in text.replace("<span></span>", "")


def test_running_again_does_nothing_and_says_so(study):
    done = study.smoke()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def planned_after(study, *edits):
    """Change the texts of files, return the rules that a dry run then plans, and undo the changes.

    An edit is a function that changes a text, with the names of the files to change.
    """
    texts = {study.root / name: (study.root / name).read_text(encoding="utf-8") for _, names in edits for name in names}
    try:
        for change, names in edits:
            for name in names:
                text = (study.root / name).read_text(encoding="utf-8")
                changed = change(text)
                assert changed != text
                (study.root / name).write_text(changed, encoding="utf-8")
        return study.planned()
    finally:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")


def other_prose(text):
    return text.replace('"""', '"""  ', 1) + "\n# A comment.\n"


def other_metadata(text):
    """Return a notebook as JupyterLab saves it with recordTiming, and VS Code with the language of each cell."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        cell["metadata"] |= {"execution": {"iopub.execute_input": "2026-01-01"}, "vscode": {"languageId": "python"}}
    return json.dumps(notebook, indent=1, ensure_ascii=False)


def test_nothing_is_made_again_without_an_edit(study):
    assert study.planned() == set()


def test_prose_and_metadata_make_the_book_alone_again(study):
    modules = [str(path.relative_to(study.root)) for path in (study.root / "galaxynb").rglob("*.py")]
    notebooks = [f"notebooks/{stage}.ipynb" for stage in STAGES]
    pages = ("notebooks/01_data.ipynb", "book/intro.md")
    edits = [(other_prose, modules), (other_metadata, notebooks)]
    edits.append((lambda text: text.replace("# ", "# Again: ", 1), pages))
    assert planned_after(study, *edits) == {"book"}


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (["data/download"], {"data", "book"}),
        (["noise"], {"noise", "autoencoder", "evaluation", "remedy", "remedies", "book"}),
        (["figures/sweeps", "remedies/advice"], {"sweep_page", "remedies", "book"}),
        (["results/quality", "remedies/classical"], {"evaluation", "remedy", "remedies", "book"}),
    ],
)
def test_code_makes_those_stages_again_that_use_it(study, modules, expected):
    planned = planned_after(study, (other_code, [f"galaxynb/{module}.py" for module in modules]))
    assert planned & set(SECTIONS) == expected & set(SECTIONS)
    assert planned <= expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("n_resamples", "899", {"evaluation"}),
        ("strength", "0.8", {"noise", "autoencoder", "evaluation", "remedy", "remedies"}),
        ("n_judged", "5", {"remedy", "remedies"}),
    ],
)
def test_a_parameter_makes_its_stage_and_all_after_it_again(study, key, value, expected):
    change = partial(re.sub, rf"({key}: )\w+", rf"\g<1>{value}")
    assert planned_after(study, (change, ["config/smoke.yaml"])) == expected | {"book"}
