"""Measure the speed of the study's parts, and compare each part with a reference in the same run.

Usage: python benchmarks/bench.py [ROW ...] [--out FOLDER] [--quick] [--cores N]

Each row of the table compares two sides: ours and a reference. They are measured alternately, in several rounds, on
data made in a temporary folder. Results of earlier runs are not used. The ratio of a row is the median over its rounds,
and the spread gives the smallest and the largest ratio. `--quick` runs every row at tiny sizes, whose numbers mean
nothing. `rows.py` says what each row measures. Both sides run with the allocator settings and the scheduling policy of
the study.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def measure(rows, sizes):
    """Measure rows by name; yield their results one by one."""
    # Import here: the processes that draw galaxies import this file too, and do not need Keras.
    from measuring import say
    from rows import ROWS
    from sample import Sample

    for name in rows:
        say(f"{name}: {ROWS[name].__doc__.strip()}")
        with tempfile.TemporaryDirectory(prefix="galaxynb-bench-") as folder:
            yield from ROWS[name](Sample(folder, sizes))


def main(arguments=None):
    import pandas as pd
    from measuring import table, write
    from rows import ON_REQUEST, QUICK, ROWS, Sizes

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    usual = [row for row in ROWS if row not in ON_REQUEST]
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"rows to measure: {', '.join(ROWS)}; default: {' '.join(usual)}"
    )
    parser.add_argument(
        "--out", default=ROOT / "runs" / "benchmarks", type=Path, help="folder for the table and its record"
    )
    parser.add_argument("--cores", default=2, type=int, help="cores to use, if the system can limit them")
    parser.add_argument("--quick", action="store_true", help="use tiny sizes, whose numbers mean nothing")
    chosen = parser.parse_args(arguments)
    if unknown := [row for row in chosen.rows if row not in ROWS]:
        parser.error(f"ROW is {', '.join(unknown)}, but a known row is needed: choose from {', '.join(ROWS)}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.cores])
    results = []
    for result in measure(chosen.rows or usual, QUICK if chosen.quick else Sizes()):
        results.append(result)
        write(results, chosen.out, chosen.quick)
    with pd.option_context("display.width", None, "display.max_colwidth", None):
        print(table(results).to_string(index=False))
    print(f"written to {chosen.out}")


if __name__ == "__main__":
    from galaxynb.compute import allocator_settings

    if settings := allocator_settings():
        # The C library reads them when a process starts. Child processes inherit them.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | settings)
    sys.path.insert(0, str(ROOT / "workflow"))
    from stage import work_as_a_batch

    work_as_a_batch()
    main()
