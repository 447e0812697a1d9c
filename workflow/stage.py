"""Run one stage of a study in its folder: bring in what it needs, call papermill, leave its mark.

Usage: python workflow/stage.py NOTEBOOK FOLDER KERNEL THREADS ATTEMPT PROGRESS BEGAN HERE MARK [FOLDER ...]

MARK is seen from the folder HERE, all else from the checkout; the last folders are those of the stages it needs.

papermill writes into the folder's logs/, which survives a failure: a partial notebook shows where it stopped. The
mark is a copy of the stage's record, whose content differs from run to run: Snakemake takes equal content for no
change.
"""

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

from galaxynb.files import write_json, written_aside

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
            aside = there.with_name(f".{there.name}.{os.getpid()}.link")
            aside.symlink_to(os.path.relpath(path.resolve(), there.parent.resolve()))
            aside.replace(there)


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


def run(notebook, folder, kernel, threads, attempt, progress, began, here, mark, *needed):
    """Run the stage, with what its cells print as `progress` if that is "yes"; return the exit status."""
    name = Path(notebook).stem
    log = Path(folder, "logs", f"{name}.ipynb")
    if int(attempt) > 1 and has_begun(log, since=Path(began).stat().st_mtime):
        print(f"{name} is not tried again: it had begun when it failed", file=sys.stderr)
        return 1
    log.parent.mkdir(parents=True, exist_ok=True)
    wait_for_holder(Path(folder, "parameters", f"{name}.holder.json"))
    log.unlink(missing_ok=True)
    for origin in needed:
        if Path(origin) != Path(folder):
            link(origin, folder)
    with tempfile.TemporaryDirectory(prefix="galaxynb-") as scratch:
        parameters = Path(folder, "parameters", f"{name}.yaml")
        command = ["papermill", notebook, log, "-f", parameters, "-k", kernel, "--cwd", "notebooks"]
        command += ["--no-progress-bar", *(["--log-output"] if progress == "yes" else ["--log-level", "ERROR"])]
        with contextlib.ExitStack() as stack:
            # The terminal where a study's cells report, else a file that is kept beside the notebook.
            out = None if progress == "yes" else stack.enter_context(log.with_suffix(".txt").open("w"))
            done = subprocess.run(command, env=environment(threads, scratch), stdout=out, stderr=out, check=False)
    if done.returncode == 0:
        # The mark last: it says that all else is there.
        for path, kept in ((log, Path(folder, "notebooks", log.name)), (_record(folder, name), Path(here, mark))):
            with written_aside(kept) as aside:
                shutil.copyfile(path, aside)
    return done.returncode


def _record(folder, name):
    return Path(folder, "provenance", f"{name.partition('_')[2]}.json")


if __name__ == "__main__":
    work_as_a_batch()
    sys.exit(run(*sys.argv[1:]))
