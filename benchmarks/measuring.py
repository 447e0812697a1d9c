"""Measure two sides alternately, and write the table and record of the results."""

import dataclasses
import resource
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
    cpu: tuple = ()  # medians of (user, system) seconds, of our side and of the reference

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
        tuple(_cpu(side) for side in (ours, theirs) if all(isinstance(value, Cost) for value in side)),
    )


def _cpu(costs):
    return statistics.median(cost.user for cost in costs), statistics.median(cost.system for cost in costs)


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


class Cost(float):
    """The seconds that something takes, with the seconds of CPU time in user code and in the system."""

    def __new__(cls, wall, user, system):
        cost = super().__new__(cls, wall)
        cost.user, cost.system = user, system
        return cost

    def __getnewargs__(self):
        """Return the arguments of `__new__` for a copy."""
        return float(self), self.user, self.system


def total(costs):
    """Return the sum of costs."""
    return Cost(*(sum(values) for values in zip(*((cost, cost.user, cost.system) for cost in costs), strict=True)))


def now():
    """Return the time, the user and system seconds and the page faults so far, with those of ended child processes."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    names = ("ru_utime", "ru_stime", "ru_minflt")
    return time.perf_counter(), *(sum(getattr(one, name) for one in used) for name in names)


def since(start):
    """Return the cost since `start`, a result of `now`."""
    return Cost(*(later - earlier for later, earlier in zip(now()[:3], start[:3], strict=True)))


def seconds(function, *arguments, **options):
    """Return the cost of a call."""
    start = now()
    function(*arguments, **options)
    return since(start)


def peak_memory():
    """Return the peak memory of this process in MB. On Linux, `ru_maxrss` would include the peak of its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def say(text):
    print(f"[{time.perf_counter() - STARTED:6.0f} s] {text}", file=sys.stderr, flush=True)


def table(results):
    """Return the results as a table of text."""

    def number(value):
        return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"

    def ratio(value):
        return "" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"

    def cpu(sides):
        return " / ".join(f"{number(user)} + {number(system)}" for user, system in sides)

    return pd.DataFrame(
        [
            {
                "Row": result.row,
                "Ours": result.what,
                "Against": result.against,
                "Ours, median": number(result.ours),
                "Against, median": number(result.theirs),
                "Unit": result.unit,
                "User + system, s": cpu(result.cpu),
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
