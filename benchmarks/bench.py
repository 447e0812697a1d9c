"""Measure what the README says of speed: each row of one table is ours beside something else, in one run.

Usage: python benchmarks/bench.py [ROW ...] [--out FOLDER] [--quick] [--cores N]

Two sides are measured in turn, several times, on data made here in a temporary folder; nothing is kept from earlier
runs. A row's ratio is the median of its rounds' ratios, its spread the smallest and the largest of them. `--quick`
goes through every row at sizes whose numbers mean nothing. What a row measures exactly is in `rows.py`.
"""

import argparse
import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def measure(rows, sizes):
    """Measure rows by name; yield their results one by one."""
    # Imported here, since the processes that render the galaxies import this file too and need no Keras.
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
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: {' '.join(usual)}")
    parser.add_argument("--out", default=ROOT / "runs" / "benchmarks", type=Path, help="folder of table and record")
    parser.add_argument("--cores", default=2, type=int, help="cores to use, where the system can limit them")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, whose numbers mean nothing")
    chosen = parser.parse_args(arguments)
    if unknown := [row for row in chosen.rows if row not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}: choose from {', '.join(ROWS)}")
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
    main()
