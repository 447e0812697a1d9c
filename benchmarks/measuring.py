"""Measure two sides alternately, and write the table and record of the results."""

import dataclasses
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from galaxynb.files import written_aside
from galaxynb.provenance import write_record

SEED = 42
STARTED = time.perf_counter()


@dataclass
class Result:
    """One line of the table: the medians over the rounds of our side and of the reference, in `unit`."""

    row: str
    what: str
    against: str
    unit: str
    ours: float
    theirs: float | None  # None if there is no reference
    ratio: float | None
    low: float | None
    high: float | None
    rounds: int
    goal: str = ""  # for the ratio, such as "<= 1.05"; "" without a goal
    notes: dict = field(default_factory=dict)

    @property
    def met(self):
        """True if the ratio reaches the goal, False if not, None without a goal."""
        if not self.goal:
            return None
        sign, limit = self.goal.split()
        limit = float(limit)
        if sign == "within":
            return max(abs(self.low - 1), abs(self.high - 1)) <= limit
        return self.ratio <= limit if sign == "<=" else self.ratio >= limit


def compare(row, what, against, unit, rounds, goal="", **notes):
    """Make a `Result` from rounds: one pair of values (ours, theirs) per round."""
    ours, theirs = zip(*rounds, strict=True)
    ratios = [one / other for one, other in rounds]
    return Result(
        row,
        what,
        against,
        unit,
        statistics.median(ours),
        statistics.median(theirs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        len(rounds),
        goal,
        notes,
    )


def in_turn(row, rounds, ours, theirs):
    """Call two measurements in each round, in alternating order. Return one pair of results per round."""
    pairs = []
    for number in range(rounds):
        sides = {"ours": ours, "theirs": theirs}
        order = sides if number % 2 == 0 else reversed(sides)
        found = {side: sides[side]() for side in order}
        pairs.append((found["ours"], found["theirs"]))
        say(f"{row}: round {number + 1} of {rounds}: ours {found['ours']:.4g}, theirs {found['theirs']:.4g}")
    return pairs


def seconds(function, *arguments, **options):
    """Return how many seconds a call takes."""
    start = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - start


def say(text):
    print(f"[{time.perf_counter() - STARTED:6.0f} s] {text}", file=sys.stderr, flush=True)


def table(results):
    """Return the results as a table of text."""

    def number(value):
        return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"

    def ratio(value):
        return "" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"

    return pd.DataFrame(
        [
            {
                "Row": result.row,
                "Ours": result.what,
                "Against": result.against,
                "Ours, median": number(result.ours),
                "Against, median": number(result.theirs),
                "Unit": result.unit,
                "Ratio": ratio(result.ratio),
                "Spread": "" if result.ratio is None else f"{ratio(result.low)} to {ratio(result.high)}",
                "Rounds": str(result.rounds),
                "Goal": result.goal,
                "Met": {None: "", True: "yes", False: "no"}[result.met],
            }
            for result in results
        ]
    )


def write(results, out, quick):
    """Write the table, and a record of the machine, the commit and the parameters."""
    with written_aside(Path(out) / "benchmarks.csv") as temporary:
        table(results).to_csv(temporary, index=False, lineterminator="\n")
    rows = [dataclasses.asdict(result) | {"met": result.met} for result in results]
    parameters = {"quick": quick, "rows": sorted({result.row for result in results})}
    write_record(
        "benchmarks", out, parameters=parameters, seeds={"all": SEED}, data={"kind": "standin"}, extra={"results": rows}
    )
