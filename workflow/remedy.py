"""Try one remedy of notebook 06 as a job: run `try_remedy.py`, and keep its results or the reason of its failure.

Usage: python workflow/remedy.py --help

A remedy may be anyone's code. If it raises an exception, takes too long or too much memory, or is killed, its result is
a row that says so, and the other remedies go on. Its output goes to logs/remedies/NAME.txt.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml
from content import checksums, write_if_changed
from environment import ROW_MEMORY, environment
from failures import last_line
from stage import add_job_arguments, link, may_use_gpu, wait_for_holder, work_as_a_batch

from galaxynb.files import write_json, written_aside
from galaxynb.provenance import checkout_state
from galaxynb.remedies.rows import OWN

PROGRAM = Path(__file__).with_name("try_remedy.py")
#: Share of the machine's free memory that a remedy may use, and seconds between two looks at it.
_MEMORY, _PERIOD = 0.9, 0.5


def memory_limit(threads, *, free=None, cores=None):
    """Return the bytes of memory that a remedy on `threads` cores may use.

    The remedies that run at once share the free memory equally. The limit is at least `ROW_MEMORY`, if so much is free:
    less would stop remedies that can run.
    """
    free = _MEMORY * (psutil.virtual_memory().available if free is None else free)
    beside = max(1, (cores or os.cpu_count()) // threads)
    return max(free / beside, min(free, ROW_MEMORY * 2**20))


def kernel_command(name):
    """Return the Python of a Jupyter kernel, and the variables that the kernel sets."""
    from jupyter_client.kernelspec import get_kernel_spec

    spec = get_kernel_spec(name)
    program = spec.argv[0]
    return sys.executable if program in ("python", "python3") else program, spec.env


def stopped(process, *, seconds, memory):
    """Wait for a process; return None, or the reason for which it was stopped.

    Parameters
    ----------
    process : subprocess.Popen
        A process that leads its own group, which is killed as a whole.
    seconds : float
        Time limit.
    memory : float
        Memory limit in bytes.
    """
    began = time.monotonic()
    while process.poll() is None:
        reason = None
        if time.monotonic() - began > seconds:
            reason = f"it took more than {seconds / 60:g} minutes, which is the limit (most_minutes)"
        elif _memory_of(process.pid) > memory:
            reason = f"it used more than {memory / 1e9:.1f} GB of memory, which is the limit for each remedy"
        if reason:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return reason
        time.sleep(_PERIOD)
    return None


def _memory_of(pid):
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
    except psutil.Error:
        return 0


def outcome(process, log):
    """Return None if the process succeeded, otherwise a sentence."""
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return f"it was killed ({name}), perhaps because the machine ran out of memory: see {log}"
    return last_line(log) or f"it ended with status {process.returncode}: see {log}"


def run(given):
    """Try the remedy with the arguments of `arguments`; return the exit status."""
    folder, name = Path(given.folder), given.name
    start, place = folder / "parameters" / "remedies" / name, folder / "remedies" / name
    log = folder / "logs" / "remedies" / f"{name}.txt"
    for path in (log, place, start, Path(given.mark)):
        path.parent.mkdir(parents=True, exist_ok=True)
    wait_for_holder(f"{start}.holder.json")
    inputs = checksums(given.files)
    for origin in given.needed:
        if Path(origin) != folder:
            link(origin, folder)
    parameters = yaml.safe_load(Path(f"{start}.yaml").read_text(encoding="utf-8"))
    program, variables = kernel_command(given.kernel)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="galaxynb-", ignore_cleanup_errors=True) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        command = [program, PROGRAM, "--folder", folder, "--parameters", f"{start}.yaml", "--out", made]
        env = environment(threads=given.threads, scratch=scratch, gpu=may_use_gpu(given.kernel))
        env |= variables | {"MPLBACKEND": "agg"}
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [*map(str, command)], env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
            # A terminal that closes or `kill` must not leave the training running.
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: sys.exit(1))
            try:
                seconds, memory = 60 * parameters["most_minutes"], memory_limit(given.threads)
                reason = stopped(process, seconds=seconds, memory=memory)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        reason = reason or outcome(process, log)
        if reason is None and not (made / "remedy.json").is_file():
            reason = f"it ended before it was measured: see {log}"
        if reason:
            _write_failure(made, name, reason)
        facts = json.loads((made / "remedy.json").read_text(encoding="utf-8"))
        commit, dirty = checkout_state()
        settings = {key: value for key, value in parameters.items() if key not in ("name", "profile")}
        facts |= {
            "settings": settings,
            "commit": commit,
            "dirty": dirty,
            "wall seconds": round(time.monotonic() - began, 1),
        }
        write_json(made / "remedy.json", facts)
        with written_aside(place) as temporary:
            shutil.copytree(made, temporary)
    found = checksums(sorted(path for path in place.iterdir() if path.is_file()))
    write_if_changed(f"{start}.made.json", json.dumps(found, indent=1, sort_keys=True) + "\n")
    write_json(f"{start}.ran.json", inputs)
    write_json(given.mark, {"name": name, "failed": facts["failed"]})
    return 0


def _write_failure(folder, name, reason):
    """Write the result of a remedy that failed, in place of what it has written."""
    shutil.rmtree(folder)
    folder.mkdir()
    # Use only the name: if the import failed, the title and the family are unknown.
    write_json(folder / "remedy.json", {"title": "Your remedy" if name == OWN else name, "failed": reason})


def arguments(texts=None):
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Try one remedy in the folder of its run, from the checkout.")
    parser.add_argument("--name", required=True, help="name of the remedy")
    add_job_arguments(parser)
    return parser.parse_args(texts)


if __name__ == "__main__":
    work_as_a_batch()
    sys.exit(run(arguments()))
