"""Fit the ranges of the stand-in's classes to published images, and print them as code for galaxynb/standin/ranges.py.

Usage: python workflow/reference/standin_ranges.py --work runs/ranges

For each class, the program draws stand-ins from widened ranges, measures them and fits the ranges to the distributions
of `galaxynb.standin.measure.published_measurements`. It changes no file outside the work folder. The folder keeps the
measurements of each class, so an interrupted program goes on with the next class. To extend a fit, copy the printed
code and run the program again: it then widens the new ranges.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
from pathlib import Path

import cv2
import pandas as pd
from tqdm import tqdm

from galaxynb.compute import cores
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.files import written_aside
from galaxynb.fingerprints import code_digest
from galaxynb.standin.fitting import FITTED, draw_measured, fit_ranges, ranges_code, widened_ranges
from galaxynb.standin.measure import published_measurements
from galaxynb.standin.ranges import CLASS_RANGES

CHUNK = 20  # images per task of a worker


def drawn(work, label, options):
    """Return the measured stand-ins of a class, from the work folder if an earlier call drew them."""
    wide = widened_ranges(label)
    inputs = [code_digest("standin.fitting"), dataclasses.asdict(wide), options.images, options.seed]
    digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]
    path = work / f"drawn-{label}-{digest}.csv"
    if not path.is_file():
        table = drawn_anew(label, wide, options)
        with written_aside(path) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    return pd.read_csv(path)


def drawn_anew(label, wide, options):
    """Return the measured stand-ins of a class, drawn by `options.workers` processes."""
    numbers = range(options.images)
    tasks = [(label, numbers[first : first + CHUNK], wide, options.seed) for first in range(0, len(numbers), CHUNK)]
    return drawn_by_workers(draw_task, tasks, options.workers, total=len(numbers), desc=CLASS_NAMES[label])


def drawn_by_workers(draw, tasks, workers, *, total, desc):
    """Return the tables that `draw` makes of tasks, in order and as one, while showing a progress bar."""
    with contextlib.ExitStack() as stack:
        workers = min(workers, len(tasks))
        if workers == 1:
            made = map(draw, tasks)
        else:
            pool = multiprocessing.get_context("spawn").Pool(workers, cv2.setNumThreads, (1,))
            made = stack.enter_context(pool).imap(draw, tasks)
        bar, parts = stack.enter_context(tqdm(total=total, desc=desc, unit="image")), []
        for part in made:
            parts.append(part)
            bar.update(len(part))
    return pd.concat(parts, ignore_index=True)


def draw_task(task):
    label, numbers, ranges, seed = task
    return draw_measured(label, numbers, ranges=ranges, seed=seed)


def fitted(label, table, options):
    """Return the fit of a class to the published images."""
    published = published_measurements()
    return fit_ranges(
        table,
        published[published["class"] == label],
        wide=widened_ranges(label),
        ranges=CLASS_RANGES[label],
        names=FITTED[CLASS_NAMES[label]],
        seed=options.seed,
        iterations=options.iterations,
    )


def report(fit, name):
    """Return the fit of a class as text: distances before and after, then the code of the ranges."""
    distances = fit.distances.set_index("Quantity")
    mean = distances[["Before", "After"]].mul(distances["Weight"], axis=0).sum() / distances["Weight"].sum()
    shown = pd.concat([distances[["Before", "After"]], mean.rename("weighted mean").to_frame().T])
    sizes = "from {:.0f} to {:.0f}".format(*fit.effective) + ", covered {:.2f} to {:.2f}".format(*fit.covered)
    return (
        f"{name}: Kolmogorov-Smirnov distances; the effective number of galaxies goes {sizes}\n"
        f"{shown.to_string(float_format='{:.2f}'.format)}\n\n{ranges_code(fit.ranges, name=name)}\n"
    )


def class_number(text):
    """Return the class that a name or number on the command line states."""
    if text in CLASS_NAMES:
        return CLASS_NAMES.index(text)
    if text.isdecimal() and int(text) < len(CLASS_NAMES):
        return int(text)
    raise argparse.ArgumentTypeError(
        f"the class is {text!r}, but a known one is needed: give 0 to {len(CLASS_NAMES) - 1}, or one of"
        f" {', '.join(CLASS_NAMES)}"
    )


def positive(text):
    """Return the number of at least 1 on the command line."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"the number is {text!r}, but a whole number over 0 is needed: give one")
    return int(text)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/ranges"), help="folder for drawn stand-ins and fits")
    parser.add_argument(
        "--classes", type=class_number, nargs="+", default=range(len(CLASS_NAMES)), help="numbers or names of classes"
    )
    parser.add_argument("--images", type=positive, default=1100, help="number of stand-ins per class")
    parser.add_argument("--iterations", type=positive, default=150, help="largest number of generations of a search")
    parser.add_argument("--seed", type=int, default=0, help="seed of the stand-ins and of the searches")
    parser.add_argument("--workers", type=positive, default=cores(), help="number of processes that draw stand-ins")
    options = parser.parse_args(arguments)
    for label in options.classes:
        name = CLASS_NAMES[label]
        fit = fitted(label, drawn(options.work, label, options), options)
        text = report(fit, name)
        with written_aside(options.work / f"fit-{label}.txt") as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(text, flush=True)


if __name__ == "__main__":
    main()
