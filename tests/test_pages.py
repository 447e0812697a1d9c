"""The pages of the book exist, and they state the current settings."""

import re
from pathlib import Path

import configuration
import yaml
from paths import ROOT

from galaxynb.data.galaxy10 import CLASS_COUNTS, CLASS_NAMES


def profile(name):
    return configuration.read_profile(name, ROOT / "config")


def test_each_page_of_the_contents_exists():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    for page in [contents["root"], *pages]:
        if page.startswith("notebooks/"):
            assert (ROOT / f"{page}.ipynb").is_file()
        elif page.startswith("book/sweeps/"):
            assert (ROOT / "book" / "reference" / "sweeps" / Path(page).name / "results.parquet").is_file()
        else:
            assert (ROOT / f"{page}.md").is_file()


def test_links_between_pages_and_notebooks_lead_to_files_in_the_repository_too():
    sources = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb"), ROOT / "book" / "sweep.ipynb"]
    # Links, and numbers that a page takes from a notebook.
    pattern = r"(?:\]\(|\{glue:text\}`)([^)#`:]+\.(?:md|ipynb))[)#:]"
    links = [(source, link) for source in sources for link in re.findall(pattern, source.read_text(encoding="utf-8"))]
    assert {source.suffix for source, _ in links} == {".md", ".ipynb"}
    # The pages of the kept sweeps are made with each book.
    missing = [link for source, link in links if not (source.parent / link).is_file()]
    assert set(missing) <= {f"sweeps/{name}.ipynb" for name in ("seeds", "noise", "remedies")}


def test_the_page_on_running_states_the_profiles_as_they_are():
    rows = {}
    for line in (ROOT / "book" / "running.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            title, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[title] = cells
    names = [cell.strip("`") for cell in rows["Profile"]]
    assert sorted(names) == ["half", "paper", "quick", "smoke"]
    stated = {
        "Stand-in images": ("data", "n_images"),
        "Image side, px": ("data", "image_size"),
        "Classifier, most epochs": ("classifier", "epochs"),
        "Classifier, images per batch": ("classifier", "batch_size"),
        "Autoencoder, middle layers": ("autoencoder", "depth"),
        "Autoencoder, images per batch": ("autoencoder", "batch_size"),
        "Autoencoder, first learning rate": ("autoencoder", "learning_rate"),
        "Autoencoder, epochs clean to clean": ("autoencoder", "raw_epochs"),
        "Autoencoder, epochs noisy to clean": ("autoencoder", "noisy_epochs"),
    }
    for title, (section, key) in stated.items():
        assert [float(cell) for cell in rows[title]] == [profile(name)[section][key] for name in names], title


def test_the_method_notes_state_what_the_quick_profile_changes():
    text = (ROOT / "book" / "method.md").read_text(encoding="utf-8")
    section = re.search(r"^## What short profiles change\n(.*?)^(?:## |\()", text, re.DOTALL | re.MULTILINE)[1]
    quick, paper = profile("quick"), profile("paper")
    networks = ("classifier", "autoencoder")
    changed = {
        "uses smaller batches, which means more steps": all(
            quick[network]["batch_size"] < paper[network]["batch_size"] for network in networks
        ),
        "starts the autoencoder at a higher learning rate": quick["autoencoder"]["learning_rate"]
        > paper["autoencoder"]["learning_rate"],
        "lets both learning rates decay along a cosine": all(
            quick[network]["cosine_decay"] and not paper[network]["cosine_decay"] for network in networks
        ),
        "lowers the momentum of batch normalization": quick["classifier"]["bn_momentum"]
        < paper["classifier"]["bn_momentum"],
        "rotates and mirrors the classifier's images at random": quick["classifier"]["augment"]
        and not paper["classifier"]["augment"],
    }
    listed = [
        " ".join(item.split()).rstrip(",.") for item in re.findall(r"^- (.*?)(?=^- |^$)", section, re.DOTALL | re.M)
    ]
    assert listed == list(changed)
    assert all(changed.values())


def test_no_prose_names_a_path_of_one_machine():
    pages = [*(ROOT / "book").glob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("*.yml"), *ROOT.glob("config/*.yaml")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not any(root in text for root in ("/home/", "/work/", "/Users/", "/tmp/", "/root/")), page


def test_the_data_card_states_the_published_classes_as_they_are():
    text = (ROOT / "book" / "data_card.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ([^|]+?) \| (\d+) \|$", text, flags=re.MULTILINE)
    assert rows == [(str(k), *map(str, row)) for k, row in enumerate(zip(CLASS_NAMES, CLASS_COUNTS, strict=True))]
