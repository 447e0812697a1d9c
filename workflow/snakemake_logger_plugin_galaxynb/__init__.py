"""Show Snakemake's messages as the few lines of `terminal.Board`. The log file in .snakemake/log keeps all messages.

Snakemake finds a logger plugin by the name of a package on Python's path: `PYTHONPATH=workflow snakemake --logger
galaxynb ...`.
"""

import contextlib
import logging
import sys
import threading
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from terminal import Board, Job, Screen, is_target

#: Seconds between two reads of the logs of running stages.
_PERIOD = 0.5
#: Beginnings of the messages that answer a request of the user.
_ANSWERS = ("Nothing to be done", "Unlocked", "Terminating processes on user request", "Will exit after finishing")


def _snakemake_log():
    """Return the path of the log file that Snakemake opened for this run, or None."""
    for handler in logging.getLogger("snakemake.logging").handlers:
        if isinstance(handler, logging.FileHandler):
            return handler.baseFilename
    return None


class LogHandler(LogHandlerBase):
    """Pass Snakemake's events to a board."""

    writes_to_stream = True
    writes_to_file = False
    # Snakemake's filter would drop events by --quiet, and its formatter formats none of ours.
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self):
        """Start to watch the logs of running stages."""
        self._stream = sys.stdout if self.common_settings.stdout else sys.stderr
        self._board = Board(Screen(self._stream), snakemake_log=_snakemake_log)
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while not self._ended.wait(_PERIOD):
            with self.lock:
                if not self._ended.is_set():
                    with contextlib.suppress(Exception):  # a fault of the display must not end it
                        self._board.tick()

    def emit(self, record):
        """Handle one message of Snakemake's."""
        try:
            self._handle(record)
        except Exception:
            self.handleError(record)

    def _handle(self, record):
        event = getattr(record, "event", None)
        if self.common_settings.dryrun:
            # The purpose of a dry run is the plan.
            if event in (LogEvent.RUN_INFO, LogEvent.ERROR):
                self._board.say(record.getMessage())
        elif event == LogEvent.RUN_INFO:
            self._board.plan(record.stats)
        elif event == LogEvent.JOB_INFO:
            if not is_target(record.rule_name):
                self._board.start(record.jobid, _job(record))
        elif event == LogEvent.JOB_FINISHED:
            self._board.finish(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self._board.fail(record.jobid)
        elif event is None and str(record.msg).startswith(_ANSWERS):
            self._board.say(record.getMessage())
        elif getattr(record, "exception", None) == "LockException":
            self._board.say(
                "Another run holds the lock, or a killed run left it: wait until the run ends, or run `make unlock`."
            )
        elif hasattr(record, "explains") or (record.levelno >= logging.ERROR and not self._is_about_a_job(record)):
            self._board.say(record.getMessage())

    def _is_about_a_job(self, record):
        """Return whether an error is about a failed job. The Snakefile explains such errors."""
        # Snakemake reports the exception of a failing job before it reports the failure.
        failing = getattr(record, "exception", None) == "RuleException" and self._board.is_running
        return failing or self._board.has_failed

    def close(self):
        """Stop watching, and leave the terminal at the start of a line."""
        with self.lock:
            self._ended.set()
            self._board.close()
        super().close()


def _job(record):
    folder = record.wildcards.get("folder", ".")
    # Stamp files have the names of the logs. Those of remedies are in folders called remedies.
    made = Path(record.output[0]) if record.output else Path(folder, "marks", record.rule_name)
    marks = Path(folder, "marks")
    name = made.relative_to(marks) if made.is_relative_to(marks) else Path(made.name)
    log = Path(record.log[0]) if record.log else Path(folder, "logs", name).with_suffix(".txt")
    return Job(record.rule_name, name.stem, folder, log, local=record.local)
