"""Measure on stand-ins made for the purpose how close they come to the sky: the record that the book shows.

Usage: python workflow/reference/standin_closeness.py book/reference/standin_closeness.csv --real galaxy10.h5

Four parts, each of which `--only` runs alone; the record keeps the others as they were:

hardness       accuracy of nearest neighbours on raw pixels
published      what `galaxynb.standin.measure` sees in stand-ins beside the published figures
real           a classifier that was trained on stand-ins alone, tested on real images (needs --real; hours on a CPU)
discriminator  a classifier that tells real images from stand-ins, and by what (needs --real)

Besides OUT.csv, for reading, it writes OUT.json, the record, and three more tables: OUT_missed.csv, OUT_classes.csv and
OUT_features.csv. A training goes on where it was interrupted.
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
from galaxynb.images import to_float
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
_TRAIN, _UNSEEN, _NEIGHBOURS, _MEASURED, _DISCRIMINATED = range(5)  # seeds of their own


def in_proportion(n):
    """Labels of `n` images in the published proportions."""
    return np.repeat(np.arange(len(CLASS_NAMES)), counts_per_class(n))


def evenly(n):
    """Labels of about `n` images, as many of each class."""
    return np.repeat(np.arange(len(CLASS_NAMES)), max(1, n // len(CLASS_NAMES)))


def hardness(options):
    """Accuracy of nearest neighbours among stand-ins."""
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
    """Count the targets that stand-ins meet, and name those that they miss."""
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
    """Train DenseNet121 on stand-ins alone and test it on unseen stand-ins and on real images."""

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
        # The sample has as many images of each class, the training images have not: Bayes' rule allows for that.
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
    """Tell real images from stand-ins by what is measured on them, and find out by what."""
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
        "balanced accuracy": {
            "by all": accuracy.asdict(),
            "but the sky's correlation": without.asdict(),
        },
        "features": sorted(features, key=lambda row: -row["Accuracy lost"]),
        "folds": FOLDS,
        "real file": source,
        "repeats, each with new stand-ins": options.repeats,
        "trees": TREES,
    }


def told_apart(theirs, ours, labels, groups, seed):
    """Cross-validated balanced accuracy of a random forest, and what shuffling each group of columns takes from it."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold

    columns = [column for group in groups.values() for column in group]
    rng = np.random.default_rng([seed, _DISCRIMINATED])
    is_real = np.repeat([1, 0], len(labels))
    # Folds hold as many of each class, of either kind.
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
    # A real image is the same in each repeat, a stand-in is not.
    per_real, per_standin = np.mean(rights, axis=0)[is_real == 1], np.concatenate([r[is_real == 0] for r in rights])
    resampled = [
        (rng.choice(per_real, len(per_real)).mean() + rng.choice(per_standin, len(per_standin)).mean()) / 2
        for _ in range(RESAMPLES)
    ]
    low, high = (float(end) for end in np.quantile(resampled, [0.025, 0.975]))
    accuracy = Estimate(float(per_real.mean() + per_standin.mean()) / 2, low, high)
    return accuracy, dict(zip(groups, np.mean(lost, axis=0).tolist(), strict=True))


def folds_for(strata):
    """As many folds as the rarest stratum can fill, five at most."""
    return max(2, min(FOLDS, np.unique(strata, return_counts=True)[1].min()))


def feature_groups():
    """Columns of `measure_cutouts` by what they measure, red, green and blue together, and names for reading."""
    groups, titles = {}, {}
    for column, title in QUANTITIES.items():
        column = {"source_fwhms": "source_fwhm"}.get(column, column)
        group = re.sub("_[rgb]$", "_rgb", column)
        groups.setdefault(group, []).append(column)
        titles.setdefault(group, re.sub(r" [RGB]\b", "", title))
    return groups, titles


def shuffles(values, columns, groups, rng):
    """Yield copies in which the columns of a group are shuffled together, several for each group."""
    for group in groups.values():
        where = [columns.index(column) for column in group]
        for _ in range(SHUFFLES):
            shuffled = values.copy()
            shuffled[:, where] = values[rng.permutation(len(values))][:, where]
            yield shuffled


def turned(images, k):
    """Images as floats, turned by k quarter turns and, from 4 on, mirrored."""
    images = np.rot90(to_float(images), k % 4, axes=(1, 2))
    return images[:, :, ::-1] if k >= 4 else images


def real_images(options):
    """A sample of the real file, evenly over classes, and what the file is."""
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
    """Hash what decides how stand-ins look."""
    return code_digest("standin.field")


def drawn(work, labels, seed, size):
    """Draw stand-ins, or take them from the folder `work` if they were drawn before."""
    name = hashlib.sha256(json.dumps([drawn_by(), seed, size, len(labels)]).encode()).hexdigest()
    path = work / f"drawn-{name[:16]}.npy"
    if not path.is_file():
        with written_aside(path) as aside:
            np.save(aside, draw_like(labels, seed=seed, shrunk=size, progress=True))
    return np.load(path)


def tables(parts):
    """The tables for reading that the record's parts make, by what their files' names end in."""
    rows = []

    def add(what, result, interval, on):
        rows.append({"What was measured": what, "Result": result, "95% interval": interval, "On": on})

    def add_accuracy(what, accuracy, on):
        add(what, f"{accuracy['value']:.3f}", f"{accuracy['low']:.2f} to {accuracy['high']:.2f}", on)

    names = ("hardness", "published", "real", "discriminator")
    easy, known, trained, told = (parts.get(name) for name in names)
    what = f"Accuracy of {NEIGHBOURS} nearest neighbours on {SIDE} by {SIDE} raw pixels"
    if easy:
        on = f"{easy['test images']:,} stand-ins, {easy['training images']:,} neighbours"
        add_accuracy(what, easy["accuracy"], f"{on}; published images reach {easy['published accuracy']:.2f}")
    else:
        add(what, NOT_MEASURED, "", "")
    what = "Targets met that the published figures set"
    if known:
        add(what, f"{known['met']} of {known['targets']}", "", f"{known['images']:,} stand-ins as JPEG")
    else:
        add(what, NOT_MEASURED, "", "")
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
        add(f"{what}, on real images", NOT_MEASURED, "", "")
    what = "Accuracy of telling real images from stand-ins, where 0.5 is chance"
    if told:
        on = f"{told['real file']['images']:,} real images and as many stand-ins"
        add_accuracy(what, told["balanced accuracy"]["by all"], on)
        add_accuracy(
            f"{what}, without the sky's correlation", told["balanced accuracy"]["but the sky's correlation"], on
        )
    else:
        add(what, NOT_MEASURED, "", "")
    return {
        "": pd.DataFrame(rows),
        "_missed": listed(known and known["missed"], "Quantity", "Class", "Stand-in", "Published", "Target"),
        "_classes": listed(trained and trained["classes"], "Class", "Real images", "Right", "Right, eight turns"),
        "_features": listed(told and told["features"][:8], "Quantity", "Accuracy lost", "Stand-in", "Real"),
    }


def listed(rows, first, *others):
    """A table of a part's rows in three digits, or one that says that there are none."""
    if not rows:
        return pd.DataFrame([{first: NOT_MEASURED if rows is None else "none"} | dict.fromkeys(others, "")])
    table = pd.DataFrame(rows)[[first, *others]]
    return table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the CSV; a JSON and further tables are written beside it")
    parser.add_argument("--real", type=Path, help="a file of real images in the Galaxy10 DECaLS layout")
    parser.add_argument("--only", help=f"parts to measure, with commas between them: {','.join(PARTS)}")
    parser.add_argument("--images", type=int, default=11350, help="stand-ins to train on (part real)")
    parser.add_argument("--size", type=int, default=64, help="their side, px (part real)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of training (part real)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neighbours", type=int, default=2000, help="training images; half as many are tested")
    parser.add_argument("--measured", type=int, default=1000, help="stand-ins to measure (part published)")
    parser.add_argument("--real-images", type=int, default=1000, help="real images to use at most, evenly over classes")
    parser.add_argument("--repeats", type=int, default=5, help="draws of stand-ins to tell from real images")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/closeness"), help="folder for what is kept between calls"
    )
    parser.add_argument("--run-eagerly", action="store_true", help="skip compiling the training step; for tiny tests")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"--only names {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    if options.real is None:
        if lacking := [part for part in wanted if part in NEED_REAL]:
            said = f"{' and '.join(lacking)} need a file of real images: give --real FILE (make reference REAL=FILE)"
            if options.only:
                parser.error(said)
            print(f"{said}; skipped")
        wanted = [part for part in wanted if part not in NEED_REAL]
    record_path = options.out.with_suffix(".json")
    # Before the first result is written, which is itself a change.
    commit, dirty = checkout_state()
    for name in tqdm(wanted, desc="parts", disable=len(wanted) < 2):
        print(f"measuring {name}", flush=True)
        start = time.perf_counter()
        result = {"hardness": hardness, "published": published, "real": real, "discriminator": discriminator}[name](
            options
        )
        result |= {
            "commit": commit,
            "data": f"galaxynb {__version__}, seed {options.seed}",
            "dirty": dirty,
            "recipes": ranges_digest(),
            "seconds": round(time.perf_counter() - start),
            "seed": options.seed,
        }
        parts = json.loads(record_path.read_text(encoding="utf-8"))["parts"] if record_path.is_file() else {}
        parts[name] = result
        write_json(record_path, {"parts": parts})
        for ending, table in tables(parts).items():
            with written_aside(options.out.with_stem(options.out.stem + ending)) as aside:
                table.to_csv(aside, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
