"""Run one stage of a study in its folder: link the results that it needs, call papermill, write the stamp file.

Usage: python workflow/stage.py --help

papermill writes into the folder's logs/, which survives a failure: a partial notebook shows where it stopped.
`study.py` lists the files that a stage writes besides its results, and explains how they decide what runs again.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from content import checksums, checksums_of_results, write_if_changed
from environment import environment

from galaxynb.compute import gpus_of_machine
from galaxynb.files import write_json, written_aside
from galaxynb.stages import STAGES

#: Files and folders that later stages may read. `data` is large, so it is linked as a whole.
_PASSED_ON = ("data", "noise.json", "calibrated_noise.json", "models", "tables", "figures", "notebooks", "provenance")


def link(origin, folder):
    """Link the results in folder `origin` into `folder`. Links are relative, so they survive moving the checkout."""
    for name in _PASSED_ON:
        made = Path(origin, name)
        for path in [made] if name == "data" or made.is_file() else sorted(made.glob("*")):
            # Skip symlinks (results of an earlier stage) and dot files (still being written).
            if not path.exists() or path.is_symlink() or path.name.startswith("."):
                continue
            target = Path(folder) / path.relative_to(origin)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.getpid()}.link")
            temporary.symlink_to(os.path.relpath(path.resolve(), target.parent.resolve()))
            temporary.replace(target)


def has_begun(log, since=0.0):
    """Return whether a notebook ran any cell after `since`. If so, a failure is its own, and a retry would not help."""
    try:
        if Path(log).stat().st_mtime < since:
            return False
        cells = json.loads(Path(log).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return False
    return any(cell.get("execution_count") is not None for cell in cells)


def work_as_a_batch():
    """Use the scheduling policy SCHED_BATCH, if the system has it, for this process and those that it starts.

    With this policy, a thread that wakes another one is not interrupted by it. At the end of an epoch, TensorFlow wakes
    a thread of its input pipeline and tells it to stop a moment later. If the thread runs in between, as it may when
    all cores are busy, it sleeps for up to another minute, and the training waits for it.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def holder_lives(holder):
    """Return whether the process that `itself` described still runs, as far as this machine can find out."""
    if holder["slurm"] not in ("", os.environ.get("SLURM_JOB_ID")):
        asked = ["squeue", "--noheader", "--jobs", holder["slurm"], "--states", "RUNNING,COMPLETING"]
        with contextlib.suppress(OSError):
            return bool(subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip())
    if holder["host"] != socket.gethostname():
        return False
    try:
        return psutil.Process(holder["pid"]).create_time() == holder["started"]
    except psutil.Error:
        return False


def itself():
    """Return the identity of this process: host, process id, start time and Slurm job."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "slurm": os.environ.get("SLURM_JOB_ID", ""),
    }


def wait_for_holder(path, poll=2.0):
    """Wait until no other process works on a stage, then write the identity of this process to the file `path`.

    The stages of a killed workflow go on running, here or on a cluster, and the next workflow starts them again.
    """
    announced = False
    while True:
        try:
            holder = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            holder = None
        if holder is None or not holder_lives(holder):
            break
        if not announced:
            print(
                f"a process of a killed workflow still runs the stage of {path}: waiting for its end", file=sys.stderr
            )
            announced = True
        time.sleep(poll)
    write_json(path, itself())


def may_use_gpu(kernel):
    """Return whether a kernel may train on a GPU: no if it runs this Python and the libraries for GPUs are missing."""
    from jupyter_client.kernelspec import get_kernel_spec

    program = Path(get_kernel_spec(kernel).argv[0])  # Jupyter starts its own Python for a name without a folder
    own = program.parent in (Path(), Path(sys.executable).parent)
    return bool(gpus_of_machine()) and not (own and importlib.util.find_spec("nvidia") is None)


def run_papermill(notebook, log, *, parameters, kernel, threads):
    """Execute a notebook on `threads` cores into `log`, with the parameters of a YAML file; return the exit status.

    All output goes to a text file beside `log`, which `terminal.Board` reads while the notebook runs.
    """
    command = [sys.executable, "-m", "papermill", notebook, log, "-f", parameters, "-k", kernel, "--cwd", "notebooks"]
    command += ["--no-progress-bar", "--log-output"]
    with (
        tempfile.TemporaryDirectory(prefix="galaxynb-", ignore_cleanup_errors=True) as scratch,
        log.with_suffix(".txt").open("w", encoding="utf-8") as output,
    ):
        variables = environment(threads=threads, scratch=scratch, gpu=may_use_gpu(kernel))
        return subprocess.run(command, env=variables, stdout=output, stderr=subprocess.STDOUT, check=False).returncode


def run(given):
    """Run the stage with the arguments of `arguments`; return the exit status."""
    stage, folder = Path(given.notebook).stem, Path(given.folder)
    log = folder / "logs" / f"{stage}.ipynb"
    if given.attempt > 1 and has_begun(log, since=Path(given.began).stat().st_mtime):
        # Do not repeat a notebook that had begun, and keep the log of the first attempt.
        return 1
    log.parent.mkdir(parents=True, exist_ok=True)
    start = folder / "parameters" / stage
    wait_for_holder(f"{start}.holder.json")
    log.unlink(missing_ok=True)
    # Compute checksums before the notebook runs: an input that changes meanwhile must make the stage run again.
    inputs = checksums(given.files)
    for origin in given.needed:
        if Path(origin) != folder:
            link(origin, folder)
    status = run_papermill(given.notebook, log, parameters=f"{start}.yaml", kernel=given.kernel, threads=given.threads)
    if status == 0:
        _copy(log, folder / "notebooks" / log.name)
        made = json.dumps(checksums_of_results(stage, folder), indent=1, sort_keys=True) + "\n"
        write_if_changed(f"{start}.made.json", made)
        write_json(f"{start}.ran.json", inputs)
        # Write the stamp file last: it states that all other files are complete.
        _copy(folder / "provenance" / f"{STAGES[stage].section}.json", given.mark)
    return status


def _copy(path, target):
    with written_aside(target) as temporary:
        shutil.copyfile(path, temporary)


def add_job_arguments(parser):
    """Add the arguments that the job of a stage and that of a remedy share."""
    parser.add_argument("--folder", required=True, help="folder of the run, or the stage's own folder in a sweep")
    parser.add_argument("--mark", required=True, help="stamp file to write")
    parser.add_argument("--kernel", required=True, help="name of the Jupyter kernel")
    parser.add_argument("--threads", required=True, type=int, help="cores that the job may use")
    parser.add_argument("--files", nargs="*", default=[], help="files that decide the results")
    parser.add_argument("--needed", nargs="*", default=[], help="folders of the stages whose results it reads")


def arguments(texts=None):
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Run one stage of a study in its folder, from the checkout.")
    parser.add_argument("--notebook", required=True, help="notebook of the stage, such as notebooks/01_data.ipynb")
    add_job_arguments(parser)
    parser.add_argument("--began", required=True, help="file whose modification time is the start of the workflow")
    parser.add_argument("--attempt", default=1, type=int, help="number of this attempt, counted from 1")
    return parser.parse_args(texts)


if __name__ == "__main__":
    work_as_a_batch()
    sys.exit(run(arguments()))
