"""Try every remedy on the networks that are kept with the book, and keep the results.

Usage: python workflow/reference/remedies.py runs/half-standin book/reference/remedies --real ../real_images

Of the run, only the images are used; `make reference-remedies` makes them first. Several trials may run at once. The
results of each finished trial are kept in OUT/rows, so a repeated call tries only the missing remedies. If a trial
fails, the others finish, but no tables are made. The trainings take hours on a CPU. At the end, notebook 06 makes the
tables, the figures and the sentences from all rows.
"""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import papermill
import yaml
from configuration import read_profile, read_schema, with_defaults
from environment import CHECKOUT, cores_each, environment
from failures import last_line
from keep import wrapped
from PIL import Image

from galaxynb.compute import cores, gpus_of_machine
from galaxynb.data.cache import open_cache
from galaxynb.files import save_table, write_json, written_aside
from galaxynb.noise import NoiseModel
from galaxynb.pages import DASH, banner
from galaxynb.provenance import checkout_state, commit_text
from galaxynb.remedies.advice import QUESTIONS
from galaxynb.remedies.earlier import beside_earlier
from galaxynb.remedies.remedy import Training
from galaxynb.remedies.results import accuracy_table, facts_table, read_remedies
from galaxynb.remedies.rows import ROWS, chosen_rows, make_remedy
from galaxynb.remedies.tables import score_remedies
from galaxynb.remedies.trial import describe
from galaxynb.results.evaluation import Estimate

PROGRAM = CHECKOUT / "workflow" / "try_remedy.py"
NOTEBOOK = CHECKOUT / "notebooks" / "06_remedies.ipynb"
TABLES = ("overview", "accuracies", "verdict", "galaxies")
#: Entries of ``remedy.json`` that describe a remedy. The others hold what was measured.
DESCRIPTION = ("title", "family", "learns from", "does")
FIGURES = ("accuracies", "recalls", "damage", "images")
#: Files of a row. Only remedies that restore images have examples, and only trials on real images have `real`.
FILES = ("remedy.json", "predictions.parquet", "robustness.parquet", "real.parquet", "examples.npz")


def prepare(run, networks, work):
    """Make a folder in the layout of a run, with links to the run's images and to the kept networks.

    Raises
    ------
    ValueError
        If the networks were trained on other images.
    """
    card = json.loads((networks / "card.json").read_text(encoding="utf-8"))
    cache = open_cache(run / "data" / "cache")
    if cache.info["sha256"] != card["data"]["sha256"] or cache.image_size != card["data"]["image_size"]:
        raise ValueError(
            f"the images of {run} are not those of {networks}, but the same are needed: run the profile"
            f" {card['profile']}"
        )
    work.mkdir(parents=True, exist_ok=True)
    for name, origin in {
        "data": run / "data",
        "models": networks / "models",
        "calibrated_noise.json": networks / "calibrated_noise.json",
    }.items():
        (work / name).unlink(missing_ok=True)
        (work / name).symlink_to(origin.resolve())
    return card


def trial_of(card):
    """Return the settings of all trials on the networks of a card, and the networks' checksums by their names."""
    config = CHECKOUT / "config"
    profile = with_defaults(read_profile(card["profile"], config), read_schema(config))
    settings = {key: value for key, value in profile["remedies"].items() if key != "rows"} | {"seed": profile["seed"]}
    return settings, {name: one["sha256"] for name, one in card["networks"].items()}


def try_row(name, work, settings, *, out, real, about, threads=None):
    """Try one remedy in a process of its own on `threads` cores, and keep its results in the folder `out`.

    Raises
    ------
    RuntimeError
        If the remedy fails.
    """
    parameters = work / "parameters" / f"{name}.yaml"
    parameters.parent.mkdir(exist_ok=True)
    parameters.write_text(yaml.safe_dump({"name": name} | settings), encoding="utf-8")
    log = work / "logs" / f"{name}.txt"
    log.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="galaxynb-") as made, log.open("w", encoding="utf-8") as output:
        command = [sys.executable, PROGRAM, "--folder", work, "--parameters", parameters, "--out", made]
        command += ["--real", real] if real else []
        env = environment(threads=threads, scratch=made) | {"MPLBACKEND": "agg"}
        done = subprocess.run([*map(str, command)], env=env, stdout=output, stderr=output, check=False)
        if done.returncode:
            raise RuntimeError(f"the remedy {name} failed: {last_line(log)} (see {log})")
        facts = json.loads(Path(made, "remedy.json").read_text(encoding="utf-8"))
        facts |= about | {"settings": settings, "wall seconds": round(time.monotonic() - began)}
        write_json(Path(made, "remedy.json"), facts)
        with written_aside(out) as temporary:
            temporary.mkdir()
            for file in FILES:
                if (found := Path(made, file)).is_file():
                    shutil.copy(found, temporary)


def kept(folder, settings, networks, *, real=False):
    """Return whether a folder holds the results of a remedy with these settings and networks.

    The settings of training count only for a remedy that trains. With `real`, the results must include real images.
    """
    path = folder / "remedy.json"
    if not path.is_file():
        return False
    facts = json.loads(path.read_text(encoding="utf-8"))
    without = () if facts.get("training seconds") else {field.name for field in dataclasses.fields(Training)}
    had, wanted = ({key: one[key] for key in one if key not in without} for one in (facts["settings"], settings))
    return had == wanted and facts["networks"] == networks and (not real or facts["real"])


def tried(card, noise, names):
    """Return the sentences on the images and the noise of the trials, and on the remedies that have no trial yet."""
    data = card["data"]
    kind = banner(data["kind"], card["profile"], sha256=data["sha256"])
    text = (
        f"{kind} {data['n_images']:,} images of {data['image_size']} px a side, {card['test images']:,} to test. The"
        f" noise is {noise.n_stars[0]} to {noise.n_stars[1]} stars per image, and Gaussian noise of standard deviation"
        f" {noise.strength * noise.sigma:.3f} (white is 1)."
    )
    remedies = [name for name in ROWS if name != "nothing"]
    if missing := [make_remedy(name).title for name in remedies if name not in names]:
        number = len(remedies) - len(missing)
        return f"{text} {number} of {len(remedies)} remedies have been tried. Not tried yet: {'; '.join(missing)}."
    return (
        f"{text} All {len(remedies)} remedies have been tried: the paper's autoencoder and {len(remedies) - 1} others."
    )


def described_anew(path, remedy):
    """Put the present description of a remedy into its ``remedy.json``. What was measured stays as it is."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    new = {key: text for key, text in describe(remedy).items() if key in DESCRIPTION}
    if facts | new != facts:
        write_json(path, facts | new)


def write_page(work, out, card, settings, networks):
    """Make the tables, figures and sentences of all rows, and keep them in the folder `out`.

    Raises
    ------
    ValueError
        If a row was tried on other networks or with other settings than the rest.
    """
    profile, seed = card["profile"], settings["seed"]
    names = [name for name in ROWS if (out / "rows" / name / "remedy.json").is_file()]
    if old := [name for name in names if not kept(out / "rows" / name, settings, networks)]:
        raise ValueError(
            f"{out}: {', '.join(old)} had other networks or settings, but the same are needed for all: try all remedies"
        )
    for name in names:
        described_anew(out / "rows" / name / "remedy.json", make_remedy(name))
    (work / "remedies").unlink(missing_ok=True)
    (work / "remedies").symlink_to((out / "rows").resolve())
    given = {"run_dir": str(work.resolve()), "profile": profile, "seed": seed, "remedies": names}
    papermill.execute_notebook(
        str(NOTEBOOK), str(work / "06_remedies.ipynb"), parameters=given, cwd=str(NOTEBOOK.parent), progress_bar=False
    )
    for name in TABLES:
        path = work / "tables" / f"remedies_{name}.csv"
        # The CSV is rounded, and numbers should be rounded only once. The JSON has them whole, but sorts the columns.
        whole = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        table = pd.DataFrame(whole, columns=pd.read_csv(path, nrows=0).columns)
        for column in table.select_dtypes("integer"):
            table[column] = table[column].map("{:,}".format)
        table.to_csv(out / f"{name}.csv", index=False, float_format=shown)
    for name in FIGURES:
        shutil.copy(work / "figures" / f"remedies_{name}.png", out / f"{name}.png")
    with Image.open(out / "images.png") as picture:  # it would take megabytes at 300 dpi
        picture.convert("RGB").reduce(2).save(out / "images.png", dpi=(150, 150), optimize=True)
    made = json.loads((work / "remedies.json").read_text(encoding="utf-8"))
    write_json(out / "remedies.json", made)
    about = tried(card, NoiseModel.read(work / "calibrated_noise.json"), names)
    (out / "tried.md").write_text(f"{wrapped(about)}\n", encoding="utf-8")
    (out / "answers.md").write_text(answers_text(made["advice"]), encoding="utf-8")
    found = read_remedies(out / "rows", names)
    save_table(made_by(found.facts), out / "made")
    noisy = {name: Estimate(**one["accuracy"]["noisy"]) for name, one in made["remedies"].items()}
    beside_earlier(noisy).to_csv(out / "earlier.csv", index=False)
    real = [out / "rows" / name / "real.parquet" for name in names]
    if all(path.is_file() for path in real):
        answers = pd.concat([pd.read_parquet(path).astype({"remedy": str, "images": str}) for path in real])
        table = accuracy_table(score_remedies(answers, seed=seed), facts_table(found.facts))
        save_table(table, out / "real", decimals=3)
    else:  # an earlier table would lack a row
        for file in out.glob("real.*"):
            file.unlink()


def shown(number):
    """Return a number of a table as text: three decimals, or two from 10 on."""
    return f"{number:.2f}" if abs(number) >= 10 else f"{number:.3f}"


def answers_text(advice):
    """Return the questions of a reader, with their answers, as a list in Markdown."""
    parts = [f"{question}\n{wrapped(advice[name], first=': ', others='  ')}" for name, question in QUESTIONS.items()]
    return "\n\n".join(parts) + "\n"


def made_by(facts):
    """Return the commit, the devices and the times of each trial: a table with one row per remedy."""
    # Trials from before devices were recorded trained and tried the network on one device.
    rows = [
        {
            "Remedy": one["title"],
            "Commit": commit_text(one),
            "Trained on": " and ".join(one.get("trained on") or [one["device"]]) if one["training seconds"] else DASH,
            "Tried on": one["device"],
            "Training": f"{one['training seconds'] / 60:.0f} min" if one["training seconds"] else DASH,
            "ms per image": one["ms per image"],
            "Trial": f"{one['wall seconds'] / 60:.0f} min",
        }
        for one in facts.values()
    ]
    return pd.DataFrame(rows)


def main(arguments=None):
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run with the images, such as runs/half-standin")
    parser.add_argument("out", type=Path, help="folder of the kept results, such as book/reference/remedies")
    parser.add_argument("--networks", type=Path, default=CHECKOUT / "book" / "reference" / "networks")
    parser.add_argument("--real", help="images of the sky to classify too: a folder, or any other data source")
    parser.add_argument("--work", type=Path, default=Path("runs/remedies"), help="folder for checkpoints and logs")
    parser.add_argument("--only", help="names of remedies, separated by commas")
    given = parser.parse_args(arguments)
    card = prepare(given.run, given.networks, given.work)
    settings, networks = trial_of(card)
    rows = given.out / "rows"
    named = chosen_rows(given.only.split(",")) if given.only else chosen_rows("all")
    wanted = [name for name in named if not kept(rows / name, settings, networks, real=given.real)]
    each = cores() if gpus_of_machine() else cores_each(len(wanted), cores())

    def one(name):
        print(f"{name}: {wanted.index(name) + 1} of {len(wanted)}", flush=True)
        commit, dirty = checkout_state()
        about = {"networks": networks, "commit": commit, "dirty": dirty, "real": bool(given.real)}
        try_row(name, given.work, settings, out=rows / name, real=given.real, about=about, threads=each)
        print(f"{name}: done", flush=True)

    with ThreadPoolExecutor(cores() // each) as pool:
        trials = [pool.submit(one, name) for name in wanted]
    # All trials have ended.
    if failures := [str(error) for trial in trials if (error := trial.exception())]:
        raise RuntimeError("; ".join(failures))
    write_page(given.work, given.out, card, settings, networks)


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        sys.exit(str(error))
