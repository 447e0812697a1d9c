"""The lines that `make book` and `make sweep` print while stages run.

Snakemake reports which jobs start and end (see `snakemake_logger_plugin_galaxynb`), and each stage writes all of its
output to a log file. A `Board` turns both into a few lines: on a terminal one line per stage, which is rewritten until
the stage ends; elsewhere one plain line for each start, epoch and end. Where a workflow runs the same stage many times,
as a sweep does, the board counts stages instead.
"""

import json
import math
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

from galaxynb.stages import STAGES

#: Activity of each stage, in words.
DOING = {name: stage.doing for name, stage in STAGES.items()} | {"book": "building the book"}
_DOING_BY_RULE = {"sweep_page": "drawing the results of a kept sweep", "remedy": "trying the remedy"}
_KINDS = {"standin": "stand-in", "real": "real galaxies"}
_EPOCH = re.compile(r"epoch +(\d+)/(\d+) (\S+) ((?: \w+ \S+ )+) (\d+) s")
# The loss changes its meaning between these phases of a training.
_PHASES = {
    "raw": " on clean images",
    "noisy": " on noisy images",
    "pixels": " with a loss of pixels",
    "features": " with a loss of pixels and features",
}
_MEASURE = re.compile(r" (\w+) (\S+) ")
_BAR = re.compile(r"(?P<what>[^|]+?): +(?P<percent>\d+)%\|.*\[[\d:]+<(?P<left>[\d:]+|\?),")
# Beginnings of the lines of a training, other than epochs, that are shown too.
_NOTES = ("going on after epoch", "stopped early", "This machine has a GPU")


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    Attributes
    ----------
    number, of : int
        Number of the epoch, counted from 1, and the largest number of epochs.
    phase : str
        Name of the phase of the training.
    measures : dict of float
        Losses and metrics by name.
    seconds : float
    """

    number: int
    of: int
    phase: str
    measures: dict
    seconds: float


def parse_epoch(line):
    """Return the epoch that a line of a training reports, or None for other lines."""
    found = _EPOCH.fullmatch(line.strip())
    if not found:
        return None
    measures = {name: float(value) for name, value in _MEASURE.findall(found[4])}
    return Epoch(int(found[1]), int(found[2]), found[3], measures, float(found[5]))


def parse_bar(line):
    """Return the text for a line of a progress bar, such as "drawing 45%, 12 s left"; None for other lines."""
    found = _BAR.match(line.strip())
    if not found:
        return None
    text = f"{found['what']} {found['percent']}%"
    if found["left"] == "?":
        return text
    seconds = 0
    for part in found["left"].split(":"):
        seconds = 60 * seconds + int(part)
    return f"{text}, {duration(seconds)} left"


def duration(seconds):
    """Return a time in words: "47 s", "3 min 20 s", "25 min", "2 h 5 min"."""
    seconds = max(round(seconds), 0)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def epochs_left(seconds, count):
    """Estimate the seconds that `count` more epochs take, from the `seconds` of each epoch so far.

    The first epoch includes the compilation of the network, so it counts only if it is the only one.
    """
    return count * median((seconds[1:] or seconds)[-5:])


def stages_left(planned, took, running, *, at_once):
    """Estimate the seconds until all jobs have ended.

    Parameters
    ----------
    planned : dict of int
        Number of jobs of each kind that have not ended, including running ones.
    took : dict of list of float
        Seconds of the jobs that have ended, by kind.
    running : list of (str, float)
        Kind and seconds so far of each running job.
    at_once : int
        Number of jobs that run at the same time.

    Returns
    -------
    seconds : float or None
        None if no remaining job is of a kind that has been timed.
    complete : bool
        Whether all kinds have been timed; if not, `seconds` is too low.
    """
    means = {kind: mean(took[kind]) for kind, count in planned.items() if count and took.get(kind)}
    complete = all(kind in means for kind, count in planned.items() if count)
    if not means:
        return None, complete
    whole = sum(means[kind] * planned[kind] for kind in means)
    past = sum(min(so_far, means[kind]) for kind, so_far in running if kind in means)
    return (whole - past) / at_once, complete


def epoch_text(epoch):
    """Return the loss and the accuracy of an epoch in words, those of the validation images if there are any."""
    on_validation = "val_loss" in epoch.measures
    prefix = "val_" if on_validation else ""
    shown = []
    for name, number in (("loss", "{:.3g}"), ("accuracy", "{:.1%}")):
        if prefix + name in epoch.measures:
            shown.append(f"{name} {number.format(epoch.measures[prefix + name])}")
    return ("validation " if on_validation else "") + ", ".join(shown)


def result(stage, folder):
    """Return the main result of a stage in a few words, from its files in `folder`; "" if they cannot be read."""
    try:
        return _RESULTS[stage](Path(folder)) if stage in _RESULTS else ""
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return ""


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _data_result(folder):
    cache = _read(folder / "data" / "cache" / "cache.json")
    return f"{cache['n_images']:,} images of {cache['image_size']} px ({_KINDS.get(cache['kind'], cache['kind'])})"


def _noise_result(folder):
    noise = _read(folder / "noise.json")
    fewest, most = noise["n_stars"]
    strength = noise["strength"]
    level = "strength to be calibrated" if isinstance(strength, str) else f"strength {strength:g}"
    return f"Gaussian noise of standard deviation {noise['sigma']:g}, {fewest} to {most} stars per image, {level}"


def _classifier_result(folder):
    history = _read(folder / "tables" / "classifier_history.json")
    best = min(history, key=lambda row: row["val_loss"])
    return f"epoch {best['epoch']} of {len(history)} is the best, validation accuracy {best['val_accuracy']:.1%}"


def _autoencoder_result(folder):
    history = _read(folder / "tables" / "autoencoder_history.json")
    strength = _read(folder / "calibrated_noise.json")["strength"]
    return f"noise of strength {strength:.3g}; {len(history)} epochs, validation loss {history[-1]['val_loss']:.4f}"


def _evaluation_result(folder):
    estimates = _read(folder / "metrics.json")["estimates"]
    accuracies = ", ".join(f"{name} {estimates[name]['value']:.1%}" for name in ("clean", "noisy", "denoised"))
    recovery = estimates["recovery"]
    # The recovery is undefined if noise cost no accuracy.
    if not _is_number(recovery["value"]):
        return f"accuracy {accuracies}"
    interval = ""
    if _is_number(recovery["low"]) and _is_number(recovery["high"]):
        interval = f" (95% interval {recovery['low']:.0%} to {recovery['high']:.0%})"
    return f"accuracy {accuracies}; recovery {recovery['value']:.0%}{interval}"


def _remedies_result(folder):
    remedies = _read(folder / "remedies.json")["remedies"].values()
    done = [one for one in remedies if not one["failed"]]
    best = max(done, key=lambda one: one["accuracy"]["noisy"]["value"])
    failed = f", {len(remedies) - len(done)} failed" if len(remedies) > len(done) else ""
    accuracy = best["accuracy"]["noisy"]["value"]
    return f"best of {len(done)}{failed}: {best['title']}, accuracy {accuracy:.1%} on noisy images"


def remedy_failure(name, folder):
    """Return why a remedy failed in the run in `folder`, or None. The job of a remedy that failed succeeds."""
    try:
        return _read(Path(folder) / "remedies" / name / "remedy.json")["failed"]
    except (OSError, ValueError, KeyError):
        return None


def _is_number(value):
    return value is not None and math.isfinite(value)


_RESULTS = {
    "01_data": _data_result,
    "02_noise": _noise_result,
    "03_classifier": _classifier_result,
    "04_autoencoder": _autoencoder_result,
    "05_evaluation": _evaluation_result,
    "06_remedies": _remedies_result,
    "book": lambda folder: str(folder / "book" / "index.html"),
}


class Screen:
    """Print lines that stay and, on a terminal, a last line that is rewritten (the status).

    Parameters
    ----------
    stream : file
    columns : int or None
        Width of the terminal. If None, the width is read before each line.
    """

    def __init__(self, stream, *, columns=None):
        self._stream, self._columns = stream, columns
        self.rewrites = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._shown = ""

    def line(self, text):
        """Print a line that stays."""
        self.clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def status(self, text):
        """Replace the status by `text`, cut to one line. Without a terminal, do nothing."""
        text = fit(text, self._columns or self._width())
        if self.rewrites and text != self._shown:
            # The escape sequence erases the line.
            self._stream.write(f"\r\x1b[2K{text}")
            self._stream.flush()
            self._shown = text

    def clear(self):
        """Erase the status."""
        if self._shown:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._shown = ""

    def _width(self):
        try:
            return os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError, AttributeError):
            return 80


def fit(text, columns):
    """Cut `text` to one line of a terminal. Leave the last column free, because some terminals wrap there."""
    columns = max(columns or 80, 20) - 1  # terminals report 0 if they do not know their width
    return text if len(text) <= columns else f"{text[: columns - 3]}..."


@dataclass
class Job:
    """A running job and its progress.

    Attributes
    ----------
    rule, stage, folder : str
    log : pathlib.Path
        File that receives its output.
    local : bool
        Whether it runs on this machine. Such jobs begin at once.
    """

    rule: str
    stage: str
    folder: str
    log: Path
    local: bool = True
    since: float = 0.0
    began: bool = False
    epoch: Epoch | None = None
    bar: str | None = None
    seconds: list = field(default_factory=list)  # of each epoch
    at: float = 0.0  # when the last epoch was seen
    _before: tuple | None = None
    _offset: int = 0

    def __post_init__(self):
        """Remember size and time of an existing log, which belongs to an earlier run."""
        self._before = self._signature()

    def _signature(self):
        try:
            found = self.log.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def new_lines(self):
        """Return the whole lines that the log gained since the last call."""
        now = self._signature()
        if now is None or (not self.began and now == self._before):
            return []
        self.began = True
        try:
            with self.log.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:
                    self._offset = 0  # the log was begun anew
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return []
        whole = text.rfind(b"\n") + 1
        self._offset += whole
        return text[:whole].decode("utf-8", errors="replace").splitlines()

    @property
    def doing(self):
        """Activity of the job, in words."""
        return DOING.get(self.stage) or _DOING_BY_RULE.get(self.rule, "running")

    @property
    def name(self):
        """Name of the job for users."""
        return self.stage if self.stage in DOING else f"{self.rule.replace('_', ' ')} {self.stage}"


def is_target(rule):
    """Return whether a rule of workflow/Snakefile only names what to make, so that its job runs nothing."""
    return rule in ("all", "stages") or rule.startswith("all_")


class Board:
    """Print lines about the events that Snakemake and the stages report.

    Parameters
    ----------
    screen : Screen
    clock : callable
        Returns the time in seconds.
    snakemake_log : callable
        Returns the path of Snakemake's own log, or None.
    """

    def __init__(self, screen, *, clock=time.monotonic, snakemake_log=lambda: None):
        self._screen, self._clock, self._snakemake_log = screen, clock, snakemake_log
        self._planned, self._took, self._running, self._failed = {}, {}, {}, {}
        self._counts = False
        self._finished = []
        self._at_once = 1
        self._named_logs = False
        self._begin = clock()

    @property
    def has_failed(self):
        """True if a job has failed and has not succeeded since."""
        return bool(self._failed)

    @property
    def is_running(self):
        """True if a job is running or waits in the queue of a cluster."""
        return bool(self._running)

    def plan(self, jobs):
        """Record the number of planned jobs of each rule."""
        self._planned = {
            rule: count for rule, count in jobs.items() if rule != "total" and not is_target(rule) and count
        }
        # Every study has several jobs of some rules, so these do not make it a sweep.
        self._counts = any(count > 1 for rule, count in self._planned.items() if rule not in _DOING_BY_RULE)

    def start(self, number, job):
        """Record that job `number` was started or submitted to a cluster."""
        job.since = self._clock()
        again = self._failed.get(number)
        self._running[number] = job
        # Snakemake plans anew after each stage and may add jobs to those that it announced.
        seen = len(self._took.get(job.rule, ())) + sum(other.rule == job.rule for other in self._running.values())
        self._planned[job.rule] = max(self._planned.get(job.rule, 0), seen)
        if not self._named_logs:
            self._name_logs(job)
        if not self._counts and not self._screen.rewrites and not again:
            self._screen.line(f"{job.name}: {job.doing}")
        self._show()

    def finish(self, number):
        """Record that a job succeeded."""
        job = self._end(number)
        if job is None:
            return
        self._failed.pop(number, None)
        took = self._clock() - job.since
        self._took.setdefault(job.rule, []).append(took)
        if not self._counts:
            failure = remedy_failure(job.stage, job.folder) if job.rule == "remedy" else None
            found = failure or result(job.stage, job.folder)
            how = "failed after" if failure else "done in"
            self._screen.line(f"{job.name}: {how} {duration(took)}{': ' if found else ''}{found}")
        elif self._done == self._total:
            self._finished.clear()
            self._screen.line(f"{self._done} of {self._total} steps done in {duration(self._clock() - self._begin)}")
        elif not self._screen.rewrites:
            # Print this at the next tick, when Snakemake has started the next jobs.
            self._finished.append(f"{job.name} took {duration(took)}")
        self._show()

    def fail(self, number):
        """Record that a job failed. If the job is tried again and fails again, print nothing."""
        job = self._end(number)
        if job is None:
            return
        if number not in self._failed:
            where = f" (log: {job.log})" if self._counts else ""
            self._screen.line(f"{job.name}: failed after {duration(self._clock() - job.since)}{where}")
        self._failed[number] = job
        self._show()

    def say(self, text):
        """Print a line that stays."""
        self._screen.line(text)
        self._show()

    def tick(self):
        """Read the new output of running stages, and show their progress."""
        for job in list(self._running.values()):
            self._read(job)
        if self._finished:
            self._screen.line(f"{self._summary()} ({', '.join(self._finished)})")
            self._finished.clear()
        self._show()

    def close(self):
        """Leave the terminal at the start of an empty line."""
        self._screen.clear()

    @property
    def _done(self):
        return sum(map(len, self._took.values()))

    @property
    def _total(self):
        return sum(self._planned.values())

    def _name_logs(self, job):
        self._named_logs = True
        logs = Path(job.folder).parent / "*" / "logs" if self._counts else job.log.parent
        own = self._snakemake_log()
        own = f"; Snakemake's log: {os.path.relpath(own)}" if own else ""
        self._screen.line(
            f"Running {self._total} step{'s' if self._total > 1 else ''}. Each writes its log to {logs}/{own}"
        )

    def _end(self, number):
        job = self._running.get(number)
        if job is not None:
            self._read(job)
            del self._running[number]
        return job

    def _read(self, job):
        waited = not job.began
        for line in job.new_lines():
            epoch = parse_epoch(line)
            if epoch:
                job.epoch, job.at, job.bar = epoch, self._clock(), None
                job.seconds.append(epoch.seconds)
                if not self._counts and not self._screen.rewrites:
                    self._screen.line(self._text(job))
            elif line.startswith(_NOTES) and not self._counts:
                self._screen.line(f"{job.name}: {line.split(', from ')[0]}")
            else:
                job.bar = parse_bar(line) or (job.bar if line.strip() else None)
        if waited and job.began and not job.local:
            job.since = self._clock()  # do not count the time in the queue of the cluster

    def _text(self, job):
        if job.epoch is None:
            return f"{job.name}: {job.bar or job.doing}"
        count = job.epoch.of - job.epoch.number
        left = epochs_left(job.seconds, count) - (self._clock() - job.at)
        # The time left comes before the numbers, which a narrow terminal may cut.
        left = f", {duration(max(left, 1))} left" if count else ""
        phase = _PHASES.get(job.epoch.phase, "")
        return f"{job.name}: epoch {job.epoch.number} of {job.epoch.of}{phase}{left}, {epoch_text(job.epoch)}"

    def _summary(self):
        waiting = sum(not job.local and not job.began for job in self._running.values())
        running = len(self._running) - waiting
        self._at_once = max(self._at_once, running)
        parts = [f"{self._done} of {self._total} steps done", f"{running} running"]
        parts += [f"{waiting} waiting"] if waiting else []
        parts += [f"{len(self._failed)} failed"]
        left = {rule: count - len(self._took.get(rule, ())) for rule, count in self._planned.items()}
        for job in self._failed.values():
            left[job.rule] = left.get(job.rule, 1) - 1
        now = [(job.rule, self._clock() - job.since) for job in self._running.values() if job.local or job.began]
        seconds, complete = stages_left(left, self._took, now, at_once=self._at_once)
        if seconds is not None and (complete or seconds >= 1):
            parts.append(f"{'about' if complete else 'at least'} {duration(max(seconds, 1))} left")
        return ", ".join(parts)

    def _show(self):
        if not self._running:
            # Erase the status, so that the next output begins on a new line.
            self._screen.clear()
        elif self._counts:
            self._screen.status(f"{self._summary()}, {duration(self._clock() - self._begin)} so far")
        else:
            *others, job = sorted(self._running.values(), key=lambda job: job.at or job.since)
            more = f" (and {len(others)} more)" if others else ""
            so_far = "" if job.epoch or job.bar else f", {duration(self._clock() - job.since)} so far"
            self._screen.status(f"{self._text(job)}{so_far}{more}")
