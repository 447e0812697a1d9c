"""The job of a remedy ends with a row that says what happened, whatever the remedy does."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
import remedy


def started(code, tmp_path):
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    return process, log


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(remedy, "_PERIOD", 0.02)


def ended(code, tmp_path, *, seconds=60, memory=1e12):
    process, log = started(code, tmp_path)
    reason = remedy.stopped(process, seconds=seconds, memory=memory)
    return reason or remedy.outcome(process, log)


def test_a_program_that_succeeds_has_no_reason(tmp_path):
    assert ended("print('done')", tmp_path) is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('first'); print('ValueError: it has NaN'); raise SystemExit(1)", r"ValueError: it has NaN"),
        ("import os; os._exit(3)", r"it ended with status 3: see .*log\.txt"),
        ("import os; os.kill(os.getpid(), 9)", r"it was killed \(SIGKILL\), perhaps because the machine ran out"),
        ("import os; os.abort()", r"it was killed \(SIGABRT\)"),
    ],
)
def test_a_program_that_fails_gives_its_last_line_or_its_signal(code, reason, tmp_path):
    assert pytest.importorskip("re").match(reason, ended(code, tmp_path))


def test_a_program_that_takes_too_long_is_stopped_with_its_children(tmp_path):
    code = (
        "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    )
    process, log = started(code, tmp_path)
    while not log.read_text():
        pass
    assert remedy.stopped(process, seconds=0.1, memory=1e12).startswith("it took more than 0.00166667 minutes")
    assert process.returncode == -signal.SIGKILL
    child, deadline = int(log.read_text()), time.monotonic() + 30
    while is_running(child):  # it was killed at the same time, but may end a moment later
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("threads", "free", "limit"), [(2, 10e9, 9e9), (1, 10e9, 7500 * 2**20), (1, 30e9, 13.5e9), (1, 4e9, 3.6e9)]
)
def test_remedies_side_by_side_share_the_memory(threads, free, limit):
    assert remedy.memory_limit(threads, free=free, cores=2) == pytest.approx(limit)


def test_a_program_that_takes_too_much_memory_is_stopped(tmp_path):
    code = "import time; x = bytearray(300_000_000); time.sleep(60)"
    said = "it used more than 0.2 GB of memory, which is the limit for each remedy"
    assert ended(code, tmp_path, memory=200e6) == said


def test_a_failure_replaces_what_the_remedy_has_written(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "predictions.parquet").touch()
    remedy._write_failure(folder, "own", "ValueError: it has NaN")
    assert [path.name for path in folder.iterdir()] == ["remedy.json"]
    facts = json.loads((folder / "remedy.json").read_text())
    assert (facts["title"], facts["failed"]) == ("Your remedy", "ValueError: it has NaN")
