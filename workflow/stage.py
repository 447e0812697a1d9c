"""Run one stage of a study in its folder: bring in what it needs, call papermill, leave its mark.

Usage: python workflow/stage.py NOTEBOOK FOLDER KERNEL THREADS ATTEMPT PROGRESS MARK [FOLDER_OF_A_STAGE_IT_NEEDS ...]

papermill writes into the folder's logs/, which survives a failure: a partial notebook shows where it stopped. The
mark is a copy of the stage's record, whose content differs from run to run: Snakemake takes equal content for no
change.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

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


def has_begun(log):
    """Whether a notebook ran any cell: what fails after that fails for a reason of its own."""
    try:
        cells = json.loads(Path(log).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return False
    return any(cell.get("execution_count") is not None for cell in cells)


def environment(threads, scratch):
    """Return the environment for a notebook on `threads` cores, whatever its backend."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OPENCV_FOR_THREADS_NUM", "NPROC")
    # IPython's history is a database in the home folder, which jobs on a network file system would lock for each other.
    return os.environ | dict.fromkeys(names, str(threads)) | {"IPYTHONDIR": scratch}


def run(notebook, folder, kernel, threads, attempt, progress, mark, *needed):
    """Run the stage, with what its cells print as `progress` if that is "yes"; return the exit status."""
    name = Path(notebook).stem
    log = Path(folder, "logs", f"{name}.ipynb")
    if int(attempt) > 1 and has_begun(log):
        print(f"{name} is not tried again: it had begun when it failed", file=sys.stderr)
        return 1
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    for origin in needed:
        if Path(origin) != Path(folder):
            link(origin, folder)
    with tempfile.TemporaryDirectory(prefix="galaxynb-") as scratch:
        parameters = Path(folder, "parameters", f"{name}.yaml")
        command = ["papermill", notebook, log, "-f", parameters, "-k", kernel, "--cwd", "notebooks"]
        command += ["--no-progress-bar", *(["--log-output"] if progress == "yes" else ["--log-level", "ERROR"])]
        status = subprocess.run(command, env=environment(threads, scratch), check=False).returncode
    if status == 0:
        Path(folder, "notebooks").mkdir(exist_ok=True)
        for path, kept in ((log, Path(folder, "notebooks", log.name)), (_record(folder, name), Path(mark))):
            kept.unlink(missing_ok=True)
            shutil.copy(path, kept)
    return status


def _record(folder, name):
    return Path(folder, "provenance", f"{name.partition('_')[2]}.json")


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
