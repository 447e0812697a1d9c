"""Measure how close stand-ins come to real images of the sky. The book shows the record.

Usage: python workflow/reference/standin_closeness.py book/reference/standin_closeness.csv --real galaxy10.h5

There are four parts. `--only` runs some of them, and the record keeps the other parts unchanged:

hardness       accuracy of nearest neighbours on raw pixels
published      measurements of `galaxynb.standin.measure` on stand-ins, compared with published figures
real           accuracy on real images of a classifier trained on stand-ins alone (needs --real; hours on a CPU)
discriminator  accuracy of a classifier that separates real images from stand-ins, and the quantities that it uses
               (needs --real)

The program writes the record, OUT.json, and four tables for reading: OUT.csv, OUT_missed.csv, OUT_classes.csv and
OUT_features.csv. An interrupted training continues from its last checkpoint.
"""

import argparse
import hashlib
import json
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pooch
from tqdm import tqdm

from galaxynb import __version__
from galaxynb.data.catalog import load_catalog
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.files import write_json, written_aside
from galaxynb.fingerprints import code_digest
from galaxynb.images import to_float, turn
from galaxynb.networks.batches import ClassifierBatches
from galaxynb.networks.classifier import build_classifier
from galaxynb.networks.models import compile_model
from galaxynb.networks.training import Phase, fit, settings_digest
from galaxynb.provenance import checkout_state
from galaxynb.results.evaluation import Estimate, accuracy_interval
from galaxynb.standin.closeness import (
    Sample,
    choose_sample,
    compare_sample,
    draw_like,
    measure_sample,
    readable_closeness,
)
from galaxynb.standin.make import counts_per_class
from galaxynb.standin.measure import QUANTITIES, neighbour_accuracy
from galaxynb.standin.ranges import ranges_digest

PARTS = ("hardness", "published", "real", "discriminator")
NEED_REAL = ("real", "discriminator")
NOT_MEASURED = "not measured"
BATCH_SIZE, BN_MOMENTUM, LEARNING_RATE = 32, 0.9, 0.001
NEIGHBOURS, SIDE = 20, 32
FOLDS, TREES, SHUFFLES, RESAMPLES = 5, 200, 5, 2000
_TRAIN, _UNSEEN, _NEIGHBOURS, _MEASURED, _DISCRIMINATED = range(5)  # each set of stand-ins has its own seed


def in_proportion(n):
    """Return the labels of `n` images, with the published proportions of the classes."""
    return np.repeat(np.arange(len(CLASS_NAMES)), counts_per_class(n))


def evenly(n):
    """Return the labels of about `n` images, equally many per class."""
    return np.repeat(np.arange(len(CLASS_NAMES)), max(1, n // len(CLASS_NAMES)))


def hardness(options):
    """Measure the accuracy of nearest neighbours on stand-ins."""
    labels = in_proportion(options.neighbours), in_proportion(options.neighbours // 2)
    train, test = (
        draw_like(some, seed=[options.seed, _NEIGHBOURS, part], shrunk=SIDE, progress=True)
        for part, some in enumerate(labels)
    )
    accuracy = neighbour_accuracy(
        train, labels[0], test_images=test, test_labels=labels[1], n_neighbors=NEIGHBOURS, size=SIDE
    )
    right = np.arange(len(test)) < round(accuracy * len(test))
    return {
        "accuracy": accuracy_interval(right).asdict(),
        "neighbours": NEIGHBOURS,
        "pixels": SIDE,
        "training images": len(train),
        "test images": len(test),
        "published accuracy": 0.419,
    }


def published(options):
    """Count the published targets that stand-ins meet, and list the targets that they miss."""
    labels = evenly(options.measured)
    images = draw_like(labels, seed=[options.seed, _MEASURED], progress=True)
    sample = Sample(images, labels, np.full(len(labels), np.nan), "standin")
    close = compare_sample(sample, measure_sample(sample, progress=True))
    table = readable_closeness(close)
    return {
        "images": len(labels),
        "targets": int((table["Met"] != "").sum()),
        "met": int((table["Met"] == "yes").sum()),
        "missed": table[table["Met"] == "no"].drop(columns="Met").to_dict("records"),
    }


def real(options):
    """Train DenseNet121 on stand-ins alone, and test it on unseen stand-ins and on real images."""

    labels = in_proportion(options.images), in_proportion(min(1000, options.images))
    images = [
        drawn(options.work, some, [options.seed, part], options.size)
        for part, some in zip((_TRAIN, _UNSEEN), labels, strict=True)
    ]
    batches = [
        ClassifierBatches(
            some, their, np.arange(len(some)), batch_size=BATCH_SIZE, seed=options.seed, training=part == _TRAIN
        )
        for part, (some, their) in enumerate(zip(images, labels, strict=True))
    ]
    settings = {
        "batch_size": BATCH_SIZE,
        "bn_momentum": BN_MOMENTUM,
        "epochs": options.epochs,
        "images": options.images,
        "learning_rate": LEARNING_RATE,
        "side": options.size,
    }
    model = build_classifier(options.size, bn_momentum=BN_MOMENTUM, seed=options.seed)
    compile_model(
        model,
        "sparse_categorical_crossentropy",
        learning_rate=LEARNING_RATE,
        decay_steps=len(batches[0]) * options.epochs,
        metrics=["accuracy"],
        run_eagerly=options.run_eagerly,
    )
    digest = settings_digest("classifier", settings=settings, seed=options.seed, drawn_by=drawn_by())
    phase = Phase("stand-in", options.epochs, batches[0], validation=batches[1])
    model, history = fit(model, [phase], options.work / "checkpoints", digest=digest)
    sample, source = real_images(options)
    shrunk = np.stack([cv2.resize(i, (options.size,) * 2, interpolation=cv2.INTER_AREA) for i in sample.images])

    def right(some, their, turns, prior=1.0):
        probability = np.mean([model.predict(turned(some, k), batch_size=64, verbose=0) for k in range(turns)], axis=0)
        return (probability / prior).argmax(axis=1) == their

    tests = {
        "unseen stand-ins": right(images[1], labels[1], 1),
        "real": right(shrunk, sample.labels, 1),
        "real, eight turns": right(shrunk, sample.labels, 8),
        # The training images have the published proportions of the classes, the real sample has equal ones. Bayes'
        # rule: divide the probabilities by the proportions in training.
        "real, eight turns, even classes": right(shrunk, sample.labels, 8, np.bincount(labels[0]) / len(labels[0])),
    }
    classes = [
        {"Class": name, "Real images": int((sample.labels == k).sum())}
        | {
            f"Right{title}": int(tests[test][sample.labels == k].sum())
            for title, test in {"": "real", ", eight turns": "real, eight turns"}.items()
        }
        for k, name in enumerate(CLASS_NAMES)
    ]
    return {
        "accuracy": {name: accuracy_interval(correct).asdict() for name, correct in tests.items()},
        "images": {name: len(correct) for name, correct in tests.items()},
        "classes": classes,
        "real file": source,
        "training": settings | {"final loss": float(history["loss"].iloc[-1])},
    }


def discriminator(options):
    """Train a classifier to separate real images from stand-ins by measured quantities, and rank the quantities."""
    sample, source = real_images(options)
    groups, titles = feature_groups()
    theirs = measure_sample(sample, progress=True)
    ours = []
    for repeat in range(options.repeats):
        seed = [options.seed, _DISCRIMINATED, repeat]
        images = draw_like(sample.labels, seed=seed, size=sample.images.shape[1])
        ours.append(measure_sample(sample._replace(images=images), progress=True))
    accuracy, lost = told_apart(theirs, ours, sample.labels, groups, options.seed)
    others = {name: columns for name, columns in groups.items() if not name.startswith("corr")}
    without, _ = told_apart(theirs, ours, sample.labels, others, options.seed)
    features = [
        {
            "Quantity": titles[name],
            "Accuracy lost": lost[name],
            "Stand-in": float(np.mean([table[columns].median().mean() for table in ours])),
            "Real": float(theirs[columns].median().mean()),
        }
        for name, columns in groups.items()
    ]
    return {
        "balanced accuracy": {"by all": accuracy.asdict(), "but the sky's correlation": without.asdict()},
        "features": sorted(features, key=lambda row: -row["Accuracy lost"]),
        "folds": FOLDS,
        "real file": source,
        "repeats, each with new stand-ins": options.repeats,
        "trees": TREES,
    }


def told_apart(theirs, ours, labels, groups, seed):
    """Return a random forest's cross-validated balanced accuracy, and the loss from shuffling each group of columns."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold

    columns = [column for group in groups.values() for column in group]
    rng = np.random.default_rng([seed, _DISCRIMINATED])
    is_real = np.repeat([1, 0], len(labels))
    # Every fold has the same share of each class, both of real images and of stand-ins.
    strata = np.concatenate([labels, labels]).astype(int) + len(CLASS_NAMES) * is_real
    rights, lost = [], []
    for repeat, table in enumerate(ours):
        values = np.concatenate([theirs[columns].to_numpy(float), table[columns].to_numpy(float)])
        right = np.zeros(len(values))
        folds = StratifiedKFold(folds_for(strata), shuffle=True, random_state=repeat)
        for train, test in folds.split(values, strata):
            forest = RandomForestClassifier(TREES, random_state=repeat).fit(values[train], is_real[train])
            predicted = forest.predict(values[test])
            right[test] = predicted == is_real[test]
            before = balanced_accuracy_score(is_real[test], predicted)
            after = [
                balanced_accuracy_score(is_real[test], forest.predict(shuffled))
                for shuffled in shuffles(values[test], columns, groups, rng)
            ]
            lost.append(before - np.reshape(after, (len(groups), SHUFFLES)).mean(axis=1))
        rights.append(right)
    # Every repeat has the same real images, so average over repeats first. It has new stand-ins, so pool those.
    per_real, per_standin = np.mean(rights, axis=0)[is_real == 1], np.concatenate([r[is_real == 0] for r in rights])
    resampled = [
        (rng.choice(per_real, len(per_real)).mean() + rng.choice(per_standin, len(per_standin)).mean()) / 2
        for _ in range(RESAMPLES)
    ]
    low, high = (float(end) for end in np.quantile(resampled, [0.025, 0.975]))
    accuracy = Estimate(float(per_real.mean() + per_standin.mean()) / 2, low, high)
    return accuracy, dict(zip(groups, np.mean(lost, axis=0).tolist(), strict=True))


def folds_for(strata):
    """Return the number of folds: the size of the rarest stratum, but 2 at least and `FOLDS` at most."""
    return max(2, min(FOLDS, np.unique(strata, return_counts=True)[1].min()))


def feature_groups():
    """Return the columns of `measure_cutouts` in groups, which join the three channels, and the title of each group."""
    groups, titles = {}, {}
    for column, title in QUANTITIES.items():
        column = {"source_fwhms": "source_fwhm"}.get(column, column)
        group = re.sub("_[rgb]$", "_rgb", column)
        groups.setdefault(group, []).append(column)
        titles.setdefault(group, re.sub(r" [RGB]\b", "", title))
    return groups, titles


def shuffles(values, columns, groups, rng):
    """Yield `SHUFFLES` copies for each group, in which the rows of the group's columns are shuffled together."""
    for group in groups.values():
        where = [columns.index(column) for column in group]
        for _ in range(SHUFFLES):
            shuffled = values.copy()
            shuffled[:, where] = values[rng.permutation(len(values))][:, where]
            yield shuffled


def turned(images, k):
    """Return images as floats, all in orientation `k` (see `galaxynb.images`)."""
    return to_float(turn(images, np.full(len(images), k)))


def real_images(options):
    """Return a sample of the real file, with about equally many images per class, and a description of the file."""
    catalog = load_catalog(options.real)
    sample = choose_sample(catalog, options.real_images, seed=options.seed)
    source = {
        "file": options.real.name,
        "images": len(sample.labels),
        "sha256": pooch.file_hash(str(options.real)),
        "kind": catalog.kind,
    }
    return sample, source


def drawn_by():
    """Return a hash of the code that draws stand-ins."""
    return code_digest("standin.field")


def drawn(work, labels, seed, size):
    """Draw stand-ins, or read them from the folder `work` if an earlier call drew them."""
    name = hashlib.sha256(json.dumps([drawn_by(), seed, size, len(labels)]).encode()).hexdigest()
    path = work / f"drawn-{name[:16]}.npy"
    if not path.is_file():
        with written_aside(path) as temporary:
            np.save(temporary, draw_like(labels, seed=seed, shrunk=size, progress=True))
    return np.load(path)


def tables(parts):
    """Return the tables for reading, by the ending of their files' names, from the parts of the record."""
    rows = []

    def add(what, result=NOT_MEASURED, interval="", on=""):
        rows.append({"What was measured": what, "Result": result, "95% interval": interval, "On": on})

    def add_accuracy(what, accuracy, on):
        add(what, f"{accuracy['value']:.3f}", f"{accuracy['low']:.2f} to {accuracy['high']:.2f}", on)

    names = ("hardness", "published", "real", "discriminator")
    easy, targets, trained, separated = (parts.get(name) for name in names)
    what = f"Accuracy of {NEIGHBOURS} nearest neighbours on {SIDE} by {SIDE} raw pixels"
    if easy:
        on = f"{easy['test images']:,} stand-ins, {easy['training images']:,} neighbours"
        add_accuracy(what, easy["accuracy"], f"{on}; published images reach {easy['published accuracy']:.2f}")
    else:
        add(what)
    what = "Targets met that the published figures set"
    if targets:
        add(what, f"{targets['met']} of {targets['targets']}", "", f"{targets['images']:,} stand-ins as JPEG")
    else:
        add(what)
    what = "Accuracy of DenseNet121 trained on stand-ins alone"
    if trained:
        shown = {
            "unseen stand-ins": "unseen stand-ins",
            "real": "real images",
            "real, eight turns": "real images, averaged over eight turns",
            "real, eight turns, even classes": "real images, averaged and with even odds for all classes",
        }
        for name, title in shown.items():
            add_accuracy(f"{what}, on {title}", trained["accuracy"][name], f"{trained['images'][name]:,} images")
    else:
        add(f"{what}, on real images")
    what = "Accuracy of telling real images from stand-ins, where 0.5 is chance"
    if separated:
        on = f"{separated['real file']['images']:,} real images and as many stand-ins"
        accuracy = separated["balanced accuracy"]
        add_accuracy(what, accuracy["by all"], on)
        add_accuracy(f"{what}, without the sky's correlation", accuracy["but the sky's correlation"], on)
    else:
        add(what)
    return {
        "": pd.DataFrame(rows),
        "_missed": listed(targets and targets["missed"], "Quantity", "Class", "Stand-in", "Published", "Target"),
        "_classes": listed(trained and trained["classes"], "Class", "Real images", "Right", "Right, eight turns"),
        "_features": listed(separated and separated["features"][:8], "Quantity", "Accuracy lost", "Stand-in", "Real"),
    }


def listed(rows, first, *others):
    """Return a part's rows as a table with three significant digits, or a table that says that there are none."""
    if not rows:
        return pd.DataFrame([{first: NOT_MEASURED if rows is None else "none"} | dict.fromkeys(others, "")])
    table = pd.DataFrame(rows)[[first, *others]]
    return table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "out", type=Path, help="the CSV file to write; the record and further tables go to the same folder"
    )
    parser.add_argument("--real", type=Path, help="a file of real images in the Galaxy10 DECaLS layout")
    parser.add_argument("--only", help=f"parts to measure, separated by commas: {','.join(PARTS)}")
    parser.add_argument("--images", type=int, default=11350, help="number of stand-ins to train on (part real)")
    parser.add_argument("--size", type=int, default=64, help="side of their images in pixels (part real)")
    parser.add_argument("--epochs", type=int, default=12, help="number of training epochs (part real)")
    parser.add_argument("--seed", type=int, default=0, help="seed of stand-ins and trainings")
    parser.add_argument(
        "--neighbours",
        type=int,
        default=2000,
        help="number of neighbours; half as many stand-ins are tested (part hardness)",
    )
    parser.add_argument("--measured", type=int, default=1000, help="number of stand-ins to measure (part published)")
    parser.add_argument(
        "--real-images", type=int, default=1000, help="largest number of real images, equally many per class"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="number of times that new stand-ins are drawn (part discriminator)"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/closeness"),
        help="folder for stand-ins and checkpoints, which a later call continues from",
    )
    parser.add_argument("--run-eagerly", action="store_true", help="do not compile the training step; for small tests")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"--only has {', '.join(sorted(unknown))}, but a part is needed: choose from {', '.join(PARTS)}")
    if options.real is None:
        if lacking := [part for part in wanted if part in NEED_REAL]:
            message = f"{' and '.join(lacking)} need a file of real images: give --real FILE (make reference REAL=FILE)"
            if options.only:
                parser.error(message)
            print(f"{message}; skipped")
        wanted = [part for part in wanted if part not in NEED_REAL]
    record_path = options.out.with_suffix(".json")
    # Read the state first: the first result changes tracked files, and later parts would record uncommitted changes.
    commit, dirty = checkout_state()
    measures = {"hardness": hardness, "published": published, "real": real, "discriminator": discriminator}
    for name in tqdm(wanted, desc="parts", disable=len(wanted) < 2):
        print(f"measuring the part {name}", flush=True)
        start = time.perf_counter()
        result = measures[name](options)
        result |= {
            "commit": commit,
            "data": f"galaxynb {__version__}, seed {options.seed}",
            "dirty": dirty,
            "ranges": ranges_digest(),
            "seconds": round(time.perf_counter() - start),
            "seed": options.seed,
        }
        parts = json.loads(record_path.read_text(encoding="utf-8"))["parts"] if record_path.is_file() else {}
        parts[name] = result
        write_json(record_path, {"parts": parts})
        for ending, table in tables(parts).items():
            with written_aside(options.out.with_stem(options.out.stem + ending)) as temporary:
                table.to_csv(temporary, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
