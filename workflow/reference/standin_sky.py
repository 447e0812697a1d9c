"""Fit the sky's noise of the stand-in to published images, and print it as code for galaxynb/standin/ranges.py.

Usage: python workflow/reference/standin_sky.py

The program draws stand-ins with broad skies, measures them and solves for the distribution of skies that gives the
published measurements. It then repeats this from the distribution found, because the dependence of the measurements on
the skies is not exactly linear.
"""

import argparse

import numpy as np
from standin_ranges import CHUNK, drawn_by_workers, positive

from galaxynb.compute import cores
from galaxynb.standin.measure import published_measurements
from galaxynb.standin.sky_fit import broad_sky, draw_measured_skies, fit_sky, measured_sky, sky_code

WIDER = 1.25  # factor that widens the skies of later rounds: wider skies show the dependence more clearly


def draw_task(task):
    """Return the measured stand-ins of a task of a worker process."""
    labels, numbers, distribution, seed = task
    return draw_measured_skies(labels, numbers, distribution=distribution, seed=seed)


def drawn(published, distribution, options, number, *, desc):
    """Return measured stand-ins of the classes of the published images."""
    labels = np.resize(published["class"].to_numpy(), options.images)
    parts = [range(first, min(first + CHUNK, len(labels))) for first in range(0, len(labels), CHUNK)]
    tasks = [(labels[list(part)].tolist(), part, distribution, [options.seed, number]) for part in parts]
    return drawn_by_workers(draw_task, tasks, options.workers, total=len(labels), desc=desc)


def differences(table, published):
    """Return the largest difference of a mean in published standard deviations, and the range of ratios of spreads."""
    ours, theirs = measured_sky(table), measured_sky(published)
    ratio = ours.std() / theirs.std()
    return ((ours.mean() - theirs.mean()) / theirs.std()).abs().max(), ratio.min(), ratio.max()


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
        name = f"round {number + 1} of {options.rounds}"
        distribution = fit_sky(drawn(published, wide, options, number, desc=name), published)
        check = drawn(published, distribution, options, options.rounds + number, desc=f"check of {name}")
        mean, low, high = differences(check, published)
        print(
            f"{name.capitalize()}: means differ by up to {mean:.2f} published standard deviations, and spreads are"
            f" {low:.2f} to {high:.2f} of the published ones",
            flush=True,
        )
    print(sky_code(distribution))


if __name__ == "__main__":
    main()
