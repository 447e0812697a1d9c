"""Measure how close stand-ins come to real images of the sky. The book shows the record.

Usage: python workflow/reference/standin_closeness.py book/reference/standin_closeness.csv --real FOLDER

There are five parts. `--only` runs some of them, and the record keeps the other parts unchanged:

hardness       accuracy of nearest neighbours on raw pixels
distributions  Kolmogorov-Smirnov distances between stand-ins and the published images whose measurements the package
               holds, for each class and quantity
real           accuracy on real images of a classifier trained on stand-ins alone (needs --real; hours on a CPU)
few            accuracy on real images of a classifier trained on the other real images, in folds (needs --real; an hour
               on a CPU)
discriminator  accuracy of a classifier that separates real images from stand-ins, and the quantities that it uses
               (needs --real)

The program writes the record, OUT.json, and four tables for reading: OUT.csv, OUT_distances.csv, OUT_classes.csv and
OUT_features.csv. They also show an earlier record, OUT_before.json, if there is one. An interrupted training continues
from its last checkpoint. The classifier of the part real is kept as standin_classifier.keras in the folder `--work`.
"""

import argparse
import hashlib
import json
import re
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from galaxynb import __version__
from galaxynb.data.catalog import load_catalog
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.files import write_json, written_aside
from galaxynb.fingerprints import code_digest
from galaxynb.images import to_float, turn
from galaxynb.networks.batches import ClassifierBatches
from galaxynb.networks.classifier import build_classifier
from galaxynb.networks.models import compile_model, save_model
from galaxynb.networks.training import Phase, fit, settings_digest
from galaxynb.provenance import checkout_state
from galaxynb.results.evaluation import Estimate, accuracy_interval
from galaxynb.standin.closeness import (
    CLOSE_BELOW,
    Sample,
    choose_sample,
    compare_sample,
    count_close_pairs,
    distances_by_class,
    draw_like,
    measure_sample,
)
from galaxynb.standin.make import counts_per_class
from galaxynb.standin.measure import QUANTITIES, as_jpeg, neighbour_accuracy, shrink
from galaxynb.standin.ranges import ranges_digest

PARTS = ("hardness", "distributions", "real", "few", "discriminator")
NEED_REAL = ("real", "few", "discriminator")
NOT_MEASURED = "not measured"
BATCH_SIZE, FEW_BATCH_SIZE, BN_MOMENTUM, LEARNING_RATE = 32, 16, 0.9, 0.001
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
    """Measure the accuracy of nearest neighbours on many stand-ins, on the real images and on as few stand-ins."""
    labels = in_proportion(options.neighbours), in_proportion(options.neighbours // 4)
    train, test = (
        draw_like(some, seed=[options.seed, _NEIGHBOURS, part], shrunk=SIDE, progress=True)
        for part, some in enumerate(labels)
    )
    accuracy = neighbour_accuracy(
        train, labels[0], test_images=test, test_labels=labels[1], n_neighbors=NEIGHBOURS, size=SIDE
    )
    right = np.arange(len(test)) < round(accuracy * len(test))
    found = {
        "accuracy": accuracy_interval(right).asdict(),
        "neighbours": NEIGHBOURS,
        "pixels": SIDE,
        "training images": len(train),
        "test images": len(test),
        "published accuracy": 0.419,
    }
    if options.real is None:
        return found
    sample, source = real_images(options)
    ours = draw_like(sample.labels, seed=[options.seed, _NEIGHBOURS, len(labels)], shrunk=SIDE, progress=True)
    among = {"real": shrunk_images(sample.images, SIDE), "stand-ins": ours}
    right = {name: neighbours_agree(images, sample.labels, options.seed) for name, images in among.items()}
    return found | {
        "among few": {name: accuracy_interval(agree).asdict() for name, agree in right.items()},
        "few images": len(sample.labels),
        "real file": source,
    }


def neighbours_agree(images, labels, seed):
    """Return whether the nearest neighbours of each image in the other folds have its class."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    pixels, number = np.reshape(images, (len(images), -1)).astype(np.float32), folds_for(labels)
    # At least half of the images are outside a fold.
    classifier = KNeighborsClassifier(min(NEIGHBOURS, len(labels) // 2), algorithm="brute")
    folds = StratifiedKFold(number, shuffle=True, random_state=seed)
    return cross_val_predict(classifier, pixels, labels, cv=folds) == labels


def distributions(options):
    """Compare the distributions of measured quantities in stand-ins and in published images, class by class."""
    labels = evenly(options.measured)
    images = draw_like(labels, seed=[options.seed, _MEASURED], progress=True)
    sample = Sample(images, labels, np.full(len(labels), np.nan), "standin")
    close = compare_sample(sample, measure_sample(sample, progress=True))
    overall = close.table[close.table["Class"] == "all"].set_index("Quantity")["KS distance"]
    return {
        "images": len(labels),
        "limit": CLOSE_BELOW,
        "distances": json.loads(distances_by_class(close).to_json(orient="records")),
        "overall": json.loads(overall.to_json()),
        "pairs": count_close_pairs(close).to_dict("records"),
    }


def real(options):
    """Train DenseNet121 on stand-ins alone, and test it on unseen stand-ins and on real images."""
    # Equally many per class, as in the real sample: in the published proportions, cigars are 2% of the images.
    labels = evenly(options.images), evenly(min(1000, options.images))
    images = [
        drawn(options.work, some, [options.seed, part], options.size)
        for part, some in zip((_TRAIN, _UNSEEN), labels, strict=True)
    ]
    settings = {
        "batch_size": BATCH_SIZE,
        "bn_momentum": BN_MOMENTUM,
        "epochs": options.epochs,
        "images": options.images,
        "learning_rate": LEARNING_RATE,
        "side": options.size,
    }
    digest = settings_digest("classifier", settings=settings, seed=options.seed, drawn_by=drawn_by())
    model, history = trained(
        options, (images[0], labels[0]), (images[1], labels[1]), settings, options.work / "checkpoints", digest
    )
    save_model(model, options.work / "standin_classifier.keras")
    sample, source = real_images(options)
    shrunk = shrunk_images(sample.images, options.size)
    looks = probabilities(model, shrunk)
    tests = {
        "unseen stand-ins": (probabilities(model, images[1], turns=1)[0], labels[1]),
        "real": (looks[0], sample.labels),
        "real, eight turns": (looks.mean(axis=0), sample.labels),
    }
    return scores(tests, options.seed) | {
        "real file": source,
        "training": settings | {"final loss": float(history["loss"].iloc[-1])},
    }


def few(options):
    """Train DenseNet121 on the real images of all folds but one, and test it on that one, for each fold."""
    sample, source = real_images(options)
    images, labels = shrunk_images(sample.images, options.size), sample.labels.astype(int)
    settings = {
        "batch_size": FEW_BATCH_SIZE,
        "bn_momentum": BN_MOMENTUM,
        "epochs": options.few_epochs,
        "folds": folds_for(labels),
        "learning_rate": LEARNING_RATE,
        "side": options.size,
    }
    looks = np.zeros((8, len(labels), len(CLASS_NAMES)))
    folds = StratifiedKFold(settings["folds"], shuffle=True, random_state=options.seed)
    for number, (train, test) in enumerate(folds.split(images, labels)):
        digest = settings_digest(
            "classifier", settings=settings, seed=options.seed, fold=number, images=source["sha256"]
        )
        # The images of the fold are also the validation images. The history shows their loss, but nothing is chosen
        # by it: the training always runs to its end.
        parts = [(images[rows], labels[rows]) for rows in (train, test)]
        model, _ = trained(options, *parts, settings, options.work / f"few-{number}", digest)
        looks[:, test] = probabilities(model, images[test])
        keras.backend.clear_session()
    tests = {"real": (looks[0], labels), "real, eight turns": (looks.mean(axis=0), labels)}
    return scores(tests, options.seed) | {"real file": source, "training": settings}


def trained(options, training, validation, settings, folder, digest):
    """Return DenseNet121 after a training on rotated and mirrored images that resumes in `folder`, and its history."""
    batches = [
        ClassifierBatches(
            images,
            labels,
            np.arange(len(images)),
            batch_size=settings["batch_size"],
            seed=options.seed,
            training=part == 0,
        )
        for part, (images, labels) in enumerate((training, validation))
    ]
    model = build_classifier(options.size, bn_momentum=settings["bn_momentum"], seed=options.seed)
    compile_model(
        model,
        "sparse_categorical_crossentropy",
        learning_rate=settings["learning_rate"],
        decay_steps=len(batches[0]) * settings["epochs"],
        metrics=["accuracy"],
        run_eagerly=options.run_eagerly,
    )
    phase = Phase("classify", settings["epochs"], batches[0], validation=batches[1])
    return fit(model, [phase], folder, digest=digest)


def probabilities(model, images, turns=8):
    """Return the network's probabilities for each of the first orientations: shape (turns, N, 10)."""
    return np.stack([model.predict(turned(images, k), batch_size=64, verbose=0) for k in range(turns)])


def scores(tests, seed):
    """Return accuracies, means of the classes' recalls, and recalls, from the probabilities and classes of tests."""
    result = {"accuracy": {}, "mean recall": {}, "images": {}, "recalls": {}}
    for name, (probability, labels) in tests.items():
        right = probability.argmax(axis=1) == labels
        result["accuracy"][name] = accuracy_interval(right).asdict()
        result["mean recall"][name] = mean_recall(right, labels, seed).asdict()
        result["images"][name] = len(right)
        result["recalls"][name] = [
            {"images": int((labels == k).sum()), "right": int(right[labels == k].sum())}
            for k in range(len(CLASS_NAMES))
        ]
    return result


def mean_recall(right, labels, seed=0):
    """Return the mean of the recalls of the classes present, and its bootstrap interval within classes."""
    rng = np.random.default_rng(seed)
    classes = [right[labels == k] for k in np.unique(labels)]
    # The number of right answers among images that are redrawn with replacement is binomial.
    resampled = np.mean([rng.binomial(len(c), c.mean(), RESAMPLES) / len(c) for c in classes], axis=0)
    low, high = (float(end) for end in np.quantile(resampled, [0.025, 0.975]))
    return Estimate(float(np.mean([c.mean() for c in classes])), low, high)


def shrunk_images(images, size):
    """Return real images after the JPEG and the shrinking that the stand-ins of the part real also pass through."""
    return shrink(as_jpeg(images), size)


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
    """Return a sample of the real images, with about equally many per class, and a description of their source."""
    catalog = load_catalog(options.real)
    sample = choose_sample(catalog, options.real_images, seed=options.seed)
    source = {
        "file": options.real.resolve().name,
        "images": len(sample.labels),
        "sha256": catalog.digest(),
        "kind": catalog.kind,
    }
    return sample, source


def drawn_by():
    """Return a hash of the code that draws stand-ins, saves them as JPEG and shrinks them."""
    return code_digest("standin.closeness")


def drawn(work, labels, seed, size):
    """Draw stand-ins as JPEG, or read them from the folder `work` if an earlier call drew them."""
    inputs = [drawn_by(), "jpeg", seed, size, np.asarray(labels).tolist()]
    name = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    path = work / f"drawn-{name[:16]}.npy"
    if not path.is_file():
        with written_aside(path) as temporary:
            np.save(temporary, draw_like(labels, seed=seed, shrunk=size, jpeg=True, progress=True))
    return np.load(path)


def tables(parts, before=None):
    """Return the tables for reading, by the ending of their files' names.

    `parts` are the parts of the record, and `before` those of an earlier one, to which they are compared.
    """
    before = before or {}
    then = summary(before)
    rows = [
        {
            "What was measured": what,
            "Before": then[what][0] + (f" ({then[what][2]})" if then[what][2] not in ("", on) else ""),
            "Result": result,
            "95% interval": interval,
            "On": on,
        }
        for what, (result, interval, on) in summary(parts).items()
    ]
    recalls = {
        "One look": recall_texts(parts, "real", "real"),
        "Eight turns": recall_texts(parts, "real", "real, eight turns"),
        "Eight turns, before": recall_texts(before, "real", "real, eight turns"),
        "Trained on real images": recall_texts(parts, "few", "real, eight turns"),
    }
    return {
        "": pd.DataFrame(rows),
        "_distances": distance_table(parts.get("distributions"), before.get("distributions")),
        "_classes": pd.DataFrame({"Class": CLASS_NAMES} | recalls),
        "_features": feature_table(parts.get("discriminator")),
    }


def summary(parts):
    """Return the result, the interval and the images of each row of the first table, by what was measured."""
    rows = {}

    def add(what, part, key, test, on):
        estimate = parts.get(part, {}).get(key, {})
        estimate = estimate.get(test) if test else estimate
        if estimate:
            interval = f"{estimate['low']:.2f} to {estimate['high']:.2f}"
            rows[what] = (f"{estimate['value']:.3f}", interval, on.format_map(parts[part]))
        else:
            rows[what] = (NOT_MEASURED, "", "")

    what = f"Accuracy of {NEIGHBOURS} nearest neighbours on {SIDE} by {SIDE} raw pixels"
    on = "{test images:,} stand-ins, {training images:,} neighbours; published images reach {published accuracy:.2f}"
    add(what, "hardness", "accuracy", None, on)
    few = "{few images:,} images, in folds"
    for name in ("real", "stand-ins"):
        add(f"The same accuracy among few images: {name}", "hardness", "among few", name, few)
    what = f"Pairs of a class and a quantity with a distance below {CLOSE_BELOW:.2f}"
    rows[what] = pairs_row(parts["distributions"]) if "distributions" in parts else (NOT_MEASURED, "", "")
    alone, other = "DenseNet121 trained on stand-ins alone", "DenseNet121 trained on the other real images"
    add(
        f"{alone}, on unseen stand-ins: accuracy",
        "real",
        "accuracy",
        "unseen stand-ins",
        "{images[unseen stand-ins]:,} images",
    )
    for part, network in (("real", alone), ("few", other)):
        for test, how in LOOKS.items():
            for key in ("accuracy", "mean recall"):
                add(f"{network}, on real images{how}: {key}", part, key, test, f"{{images[{test}]:,}} images")
    what, on = (
        "Accuracy of telling real images from stand-ins, where 0.5 is chance",
        "{real file[images]:,} real images and as many stand-ins",
    )
    add(what, "discriminator", "balanced accuracy", "by all", on)
    add(f"{what}, without the sky's correlation", "discriminator", "balanced accuracy", "but the sky's correlation", on)
    return rows


LOOKS = {"real": "", "real, eight turns": ", eight turns"}


def pairs_row(part):
    """Return the row of the first table for the part distributions."""
    total = part["pairs"][-1]
    on = f"{part['images']:,} stand-ins; two samples of the same distribution reach about {total['Expected']:.0f}"
    return f"{total['Close']} of {total['Pairs']}", "", on


def recall_texts(parts, part, test):
    """Return the recall of each class with the number of images, as text."""
    counts = parts.get(part, {}).get("recalls", {}).get(test)
    if counts is None:
        return [NOT_MEASURED] * len(CLASS_NAMES)
    return [
        f"{count['right'] / count['images']:.2f} of {count['images']}" if count["images"] else "" for count in counts
    ]


def distance_table(part, before):
    """Return the distances as text, with those of an earlier record in brackets, and their summary in the last rows."""
    if part is None:
        return pd.DataFrame([{"Class": NOT_MEASURED}])
    table, pairs = pd.DataFrame(part["distances"]), pd.DataFrame(part["pairs"]).set_index("Quantity")
    titles = pairs.index.drop("all")
    texts = table[["Class", *titles, "Stand-in", "Published"]].astype(object)
    texts[titles] = table[titles].map(lambda value: f"{value:.2f}")
    close = pairs["Close"].map(str)
    if before is not None:
        texts[titles] += pd.DataFrame(before["distances"])[titles].map(lambda value: f" ({value:.2f})")
        close += [f" ({row['Close']})" for row in before["pairs"]]
    last = {"Class": [f"Classes below {part['limit']:.2f}", "Expected of the same distribution"]}
    last |= {title: [close[title], f"{pairs['Expected'][title]:.1f}"] for title in titles}
    return pd.concat([texts, pd.DataFrame(last)], ignore_index=True).fillna("")


def feature_table(part):
    """Return the quantities by which the forest recognises stand-ins, as text with three digits."""
    columns = ["Quantity", "Accuracy lost", "Stand-in", "Real"]
    if part is None:
        return pd.DataFrame([[NOT_MEASURED, "", "", ""]], columns=columns)
    table = pd.DataFrame(part["features"][:8])[columns]
    return table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value)


def parts_in(path):
    """Return the parts in the record at a path, none if there is no record."""
    return json.loads(path.read_text(encoding="utf-8"))["parts"] if path.is_file() else {}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "out", type=Path, help="the CSV file to write; the record and further tables go to the same folder"
    )
    parser.add_argument("--real", type=Path, help="real images: a folder, or any other data source of the study")
    parser.add_argument("--only", help=f"parts to measure, separated by commas: {','.join(PARTS)}")
    parser.add_argument("--images", type=int, default=11350, help="number of stand-ins to train on (part real)")
    parser.add_argument("--size", type=int, default=64, help="side of their images in pixels (parts real and few)")
    parser.add_argument("--epochs", type=int, default=12, help="number of training epochs (part real)")
    parser.add_argument("--few-epochs", type=int, default=60, help="number of training epochs per fold (part few)")
    parser.add_argument("--seed", type=int, default=0, help="seed of stand-ins and trainings")
    parser.add_argument(
        "--neighbours",
        type=int,
        default=14188,
        help="number of stand-ins to choose neighbours from; a quarter as many are tested (part hardness)",
    )
    parser.add_argument(
        "--measured", type=int, default=1500, help="number of stand-ins to measure (part distributions)"
    )
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
            message = f"{' and '.join(lacking)} need real images: give --real FOLDER (make reference REAL=FOLDER)"
            if options.only:
                parser.error(message)
            print(f"{message}; skipped")
        wanted = [part for part in wanted if part not in NEED_REAL]
    record_path = options.out.with_suffix(".json")
    commit, dirty = checkout_state()
    measures = {
        "hardness": hardness,
        "distributions": distributions,
        "real": real,
        "few": few,
        "discriminator": discriminator,
    }
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
        parts = parts_in(record_path) | {name: result}
        write_json(record_path, {"parts": parts})
        before = parts_in(record_path.with_stem(f"{record_path.stem}_before"))
        for ending, table in tables(parts, before).items():
            with written_aside(options.out.with_stem(options.out.stem + ending)) as temporary:
                table.to_csv(temporary, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
