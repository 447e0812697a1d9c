"""Fit the sky's noise of the stand-in to published images, and print it as code for galaxynb/standin/ranges.py.

Usage: python workflow/reference/standin_sky.py

The program draws stand-ins with broad skies, measures them and solves for the distribution of skies that gives the
published measurements. It then repeats this from the distribution found, because the dependence of the measurements on
the skies is only roughly linear.
"""

import argparse

import numpy as np
import pandas as pd
from standin_ranges import CHUNK, drawn_by_workers, positive
from tqdm import tqdm

from galaxynb.compute import cores
from galaxynb.standin.measure import published_measurements
from galaxynb.standin.sky_fit import broad_sky, draw_measured_skies, fit_sky, measured_sky, sky_code

WIDER = 1.25  # factor on the spread of skies of all rounds but the first, so that they determine the dependence well


def draw_task(task):
    labels, numbers, distribution, seed = task
    return draw_measured_skies(labels, numbers, distribution=distribution, seed=seed)


def drawn(published, distribution, options, number):
    """Return measured stand-ins of the classes of the published images, drawn by `options.workers` processes."""
    labels = np.resize(published["class"].to_numpy(), options.images)
    parts = [range(first, min(first + CHUNK, len(labels))) for first in range(0, len(labels), CHUNK)]
    tasks = [(labels[list(part)].tolist(), part, distribution, [options.seed, number]) for part in parts]
    workers, tables = min(options.workers, len(tasks)), []
    with tqdm(total=len(labels), desc=f"round {number + 1} of {options.rounds}", unit="image") as bar:
        made = map(draw_task, tasks) if workers == 1 else drawn_by_workers(tasks, workers, draw_task)
        for table in made:
            tables.append(table)
            bar.update(len(table))
    return pd.concat(tables, ignore_index=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=positive, default=2000, help="number of stand-ins per round")
    parser.add_argument("--rounds", type=positive, default=2, help="number of times that the fit is repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the stand-ins")
    parser.add_argument("--workers", type=positive, default=cores(), help="number of processes that draw stand-ins")
    options = parser.parse_args(arguments)
    published, distribution = published_measurements(), broad_sky()
    for number in range(options.rounds):
        wide = distribution._replace(factor=distribution.factor * (WIDER if number else 1))
        table = drawn(published, wide, options, number)
        distribution = fit_sky(table, published)
        far = measured_sky(table).mean() - measured_sky(published).mean()
        print(f"Round {number + 1}: largest difference of a mean before the fit: {far.abs().max():.3f}", flush=True)
    print(sky_code(distribution))


if __name__ == "__main__":
    main()
