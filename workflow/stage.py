"""Run one stage of a study in its folder: bring in what it needs, call papermill, leave its stamp file.

Usage: python workflow/stage.py --help

papermill writes into the folder's logs/, which survives a failure: a partial notebook shows where it stopped.
`study.py` says which files a stage leaves beside its results, and how they decide what runs again.
"""

import argparse
import contextlib
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

from galaxynb.files import write_json, written_aside
from galaxynb.stages import STAGES

#: What a stage leaves in its folder for later ones. `data` is large and is linked as a whole.
_PASSED_ON = ("data", "noise.json", "models", "tables", "figures", "notebooks", "provenance")


def link(origin, folder):
    """Link what the stage of folder `origin` made into `folder`: relative links, which a moved checkout keeps."""
    for name in _PASSED_ON:
        made = Path(origin, name)
        for path in [made] if name == "data" or made.is_file() else sorted(made.glob("*")):
            # What is itself a link came from a stage before; a name with a dot in front is still being written.
            if not path.exists() or path.is_symlink() or path.name.startswith("."):
                continue
            there = Path(folder) / path.relative_to(origin)
            there.parent.mkdir(parents=True, exist_ok=True)
            temporary = there.with_name(f".{there.name}.{os.getpid()}.link")
            temporary.symlink_to(os.path.relpath(path.resolve(), there.parent.resolve()))
            temporary.replace(there)


def has_begun(log, since=0.0):
    """Whether a notebook ran any cell after `since`: what fails after that fails for a reason of its own."""
    try:
        if Path(log).stat().st_mtime < since:
            return False
        cells = json.loads(Path(log).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return False
    return any(cell.get("execution_count") is not None for cell in cells)


def environment(threads, scratch):
    """Return the environment for a notebook on `threads` cores, whatever its backend."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OPENCV_FOR_THREADS_NUM", "NPROC")
    # IPython's history is a database in the home folder, which jobs on a network file system would lock for each other.
    return os.environ | dict.fromkeys(names, str(threads)) | {"IPYTHONDIR": scratch}


def work_as_a_batch():
    """Let what this process starts not be interrupted by the threads that it wakes, where the system can.

    At an epoch's end TensorFlow wakes a thread of its input pipeline and tells it to stop a moment later. Woken in
    between, as on cores that are all busy, that thread sleeps for up to a minute more, and the training waits for it.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def holder_lives(holder):
    """Whether the process that a record of `itself` names still runs, as far as can be told from here."""
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
    """Return what names this process."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "slurm": os.environ.get("SLURM_JOB_ID", ""),
    }


def wait_for_holder(path, poll=2.0):
    """Wait until nobody else works on a stage, then enter ourselves in the file `path`.

    A workflow that was killed leaves its stages running, here or on a cluster, and the next one starts them again.
    """
    told = False
    while True:
        try:
            holder = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            holder = None
        if holder is None or not holder_lives(holder):
            break
        if not told:
            print(f"{path} is held by a process of a workflow that was killed: waiting for its end", file=sys.stderr)
            told = True
        time.sleep(poll)
    write_json(path, itself())


def run_papermill(notebook, log, *, parameters, kernel, environment):
    """Execute a notebook into `log` with the parameters of a YAML file; return papermill's exit status.

    All output goes to a text file beside `log`, which `terminal.Board` reads while the notebook runs.
    """
    command = ["papermill", notebook, log, "-f", parameters, "-k", kernel, "--cwd", "notebooks"]
    command += ["--no-progress-bar", "--log-output"]
    with log.with_suffix(".txt").open("w", encoding="utf-8") as output:
        done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    return done.returncode


def run(given):
    """Run the stage with the arguments of `arguments`; return the exit status."""
    stage, folder = Path(given.notebook).stem, Path(given.folder)
    log = folder / "logs" / f"{stage}.ipynb"
    if given.attempt > 1 and has_begun(log, since=Path(given.began).stat().st_mtime):
        # A stage that had begun is not tried again. Its log stays as the first attempt left it.
        return 1
    log.parent.mkdir(parents=True, exist_ok=True)
    start = folder / "parameters" / stage
    wait_for_holder(f"{start}.holder.json")
    log.unlink(missing_ok=True)
    # Before the notebook runs: what changes while it runs must run it again.
    inputs = checksums(given.files)
    for origin in given.needed:
        if Path(origin) != folder:
            link(origin, folder)
    with tempfile.TemporaryDirectory(prefix="galaxynb-") as scratch:
        status = run_papermill(
            given.notebook,
            log,
            parameters=f"{start}.yaml",
            kernel=given.kernel,
            environment=environment(given.threads, scratch),
        )
    if status == 0:
        _copy(log, folder / "notebooks" / log.name)
        made = json.dumps(checksums_of_results(stage, folder), indent=1, sort_keys=True) + "\n"
        write_if_changed(f"{start}.made.json", made)
        write_json(f"{start}.ran.json", inputs)
        # The stamp last: it says that all else is there.
        _copy(folder / "provenance" / f"{STAGES[stage].section}.json", given.mark)
    return status


def _copy(path, kept):
    with written_aside(kept) as temporary:
        shutil.copyfile(path, temporary)


def arguments(texts=None):
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Run one stage of a study in its folder, from the checkout.")
    parser.add_argument("--notebook", required=True, help="notebook of the stage, such as notebooks/01_data.ipynb")
    parser.add_argument("--folder", required=True, help="folder of the run, or the stage's own folder in a sweep")
    parser.add_argument("--mark", required=True, help="stamp file to leave: a copy of the stage's record")
    parser.add_argument("--kernel", required=True, help="name of the Jupyter kernel")
    parser.add_argument("--threads", required=True, type=int, help="cores that the notebook may use")
    parser.add_argument("--began", required=True, help="file whose time is that of the workflow's start")
    parser.add_argument("--attempt", default=1, type=int, help="number of times that the workflow tried this stage")
    parser.add_argument("--files", nargs="*", default=[], help="files that decide what the stage makes")
    parser.add_argument("--needed", nargs="*", default=[], help="folders of the stages whose results it reads")
    return parser.parse_args(texts)


if __name__ == "__main__":
    work_as_a_batch()
    sys.exit(run(arguments()))
