"""Start the programs of the workflow, each in the environment that `environment` describes. make calls this file.

    python -I workflow/launch.py check               stop if PROFILE or DATA names no file
    python -I workflow/launch.py check sweep         stop if SWEEP names no file
    python -I workflow/launch.py book [ARGUMENTS]    run the study and render the book, with Snakemake
    python -I workflow/launch.py sweep [ARGUMENTS]   run the sweep SWEEP
    python -I workflow/launch.py check apply         stop if IMAGES is missing
    python -I workflow/launch.py apply               denoise and classify IMAGES, in SHARDS jobs if SHARDS is given
    python -I workflow/launch.py pip ARGUMENTS       call pip
    python -I workflow/launch.py kernel ARGUMENTS    register a kernel; with --user, for the backend BACKEND
    python -I workflow/launch.py lab ARGUMENTS       open JupyterLab
    python -I workflow/launch.py NAME ARGUMENTS      run another module, or a program whose name ends in .py

make passes its arguments, such as PROFILE, as environment variables. No shell parses them, so they may hold spaces and
quotes. With -I, Python ignores the user's own settings for Python.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))
from environment import CHECKOUT, environment, kernel_environment, lab_environment, pip_environment

#: Values of make's DATA that are names. All others are paths.
NAMED_SOURCES = ("standin", "galaxy10")
#: Name of the executor that starts jobs on this machine.
_LOCAL = "local"
#: Snakemake's arguments to list the jobs and run none.
_LISTED = ["--dry-run", "--quiet", "rules"]


def command(*arguments):
    """Return the command line that calls this file, for programs that the workflow starts itself."""
    return [sys.executable, "-I", __file__, *arguments]


def data_path(text):
    """Return make's DATA with the home folder in place of ``~``, unless it is one of `NAMED_SOURCES`."""
    return text if text in NAMED_SOURCES else str(Path(text).expanduser())


def known_profiles(folder="config"):
    """Return the names of the profiles in config/."""
    return sorted(path.stem for path in Path(folder).glob("*.yaml") if "schema" not in path.name)


def check(given, what=""):
    """Raise SystemExit if PROFILE or DATA names no file; for `what` "sweep" or "apply", if SWEEP or IMAGES names none.

    `preflight` checks the contents later, when the environment exists.
    """
    if what == "sweep":
        if not Path(given["SWEEP"]).is_file():
            known = ", ".join(map(str, sorted(Path("config/sweeps").glob("*.yaml"))))
            sys.exit(f"SWEEP is {given['SWEEP']}, but this file is missing: give one of {known}, or write your own")
        return
    if what == "apply":
        if not given["IMAGES"] or not Path(given["IMAGES"]).expanduser().exists():
            if given["IMAGES"]:
                sys.exit(f"IMAGES is {given['IMAGES']}, but there is no such file or folder: give the path of images")
            sys.exit(
                "IMAGES is not given, but a folder or file of images is needed: write `make apply IMAGES=my_cutouts`"
            )
        return
    if data_path(given["DATA"]) not in NAMED_SOURCES and not Path(data_path(given["DATA"])).exists():
        sys.exit(
            f"DATA is {given['DATA']}, but standin, galaxy10 or the path of your images is needed: give one of them."
        )
    if not Path("config", f"{given['PROFILE']}.yaml").is_file():
        sys.exit(
            f"PROFILE is {given['PROFILE']}, but config/{given['PROFILE']}.yaml does not exist: choose one of "
            f"{' '.join(known_profiles())}"
        )


def settings(given, **more):
    """Return Snakemake's arguments for its configuration.

    Snakemake turns text that looks like a number into a number, and passes quotation marks to cluster jobs wrongly.
    Therefore all values are encoded as one text without quotation marks, which `study.Study` decodes.
    """
    values = {"kernel": given["KERNEL"], "runs": given["RUNS"], "cpus": given["CPUS"], **more}
    values |= {"remedy": given.get("REMEDY"), "every_remedy": given.get("REMEDIES")}
    kept = {name: value for name, value in values.items() if value}
    return ["--config", f"make={quote(json.dumps(kept), safe='')}"]


def book(given):
    """Return Snakemake's arguments for a study."""
    shown = _LISTED if given["DRY_RUN"] else ["--logger", "galaxynb", "--quiet", "host"]
    common = [*shown, "--snakefile", "workflow/Snakefile", "--rerun-incomplete"]
    configured = settings(given, profile=given["PROFILE"], source=data_path(given["DATA"]), **_gpus())
    return [
        *common, "--cores", given["CORES"], "--resources", "gpu=1", "--configfile", f"config/{given['PROFILE']}.yaml",
        *configured, *shlex.split(given["SNAKEMAKE_ARGS"]),
    ]  # fmt: skip


def sweep(given):
    """Return Snakemake's arguments for a sweep."""
    executor, dry = given["EXECUTOR"], given["DRY_RUN"]
    limits, gpus = [], {}
    if executor == _LOCAL:
        # On this machine, memory limits the number of jobs at the same time. On a cluster, the scheduler does.
        import psutil

        memory = psutil.virtual_memory().total >> 20
        limits, gpus = ["--cores", given["CORES"], "--resources", f"mem_mb={memory}", "gpu=1"], _gpus()
    elif {*"'\"$`\\"} & {*given["RUNS"], *given["SWEEP"], *str(CHECKOUT)}:
        sys.exit(
            f"RUNS is {given['RUNS']}, SWEEP is {given['SWEEP']} and the checkout is {CHECKOUT}, but names without "
            "quotes, dollar signs and backslashes are needed, because Snakemake's scripts for clusters cannot hold "
            "them: choose other names"
        )
    return [
        *(_LISTED if dry else ["--logger", "galaxynb"]), *limits,
        "--snakefile", "workflow/Snakefile", "--workflow-profile", f"workflow/profiles/{executor}",
        *settings(given, sweep=given["SWEEP"], **gpus), *shlex.split(given["SNAKEMAKE_ARGS"]),
    ]  # fmt: skip


def apply(given):
    """Return Python's arguments to denoise and classify IMAGES.

    With SHARDS, write the plan of the jobs first. With DRY_RUN too, only count the images.
    """
    images, out, run = (given[name] and str(Path(given[name]).expanduser()) for name in ("IMAGES", "OUT", "RUN"))
    out = out or f"{given['RUNS']}/applied/{Path(images).resolve().name}"
    arguments = ["--images", images, "--out", out] + (["--run", run] if run else [])
    shards, executor, dry = given["SHARDS"], given["EXECUTOR"], given["DRY_RUN"]
    if not shards:
        asked = "DRY_RUN" if dry else "" if executor == _LOCAL else "EXECUTOR"
        if asked:
            sys.exit(
                f"{asked} is {given[asked]}, but it works only with several jobs: add SHARDS=2, or leave out {asked}"
            )
        return ["workflow/apply.py", *arguments]
    for name, value in {"IMAGES": images, "OUT": out, "RUN": run, "The checkout": str(CHECKOUT)}.items():
        if {*"{}'\"$`\\"} & {*value}:
            sys.exit(
                f"{name} is {value}, but with SHARDS, a name without braces, quotes, dollar signs and backslashes is"
                " needed, because Snakemake cannot pass it to jobs: choose another"
            )
    if not shards.isdecimal() or not int(shards):
        sys.exit(f"SHARDS is {shards}, but a number of jobs is needed: give one, such as 200")
    program = [sys.executable, "workflow/apply.py", *arguments, "--pieces", shards, *(["--dry-run"] if dry else [])]
    done = subprocess.run(program, env=environment(), stdout=subprocess.PIPE if dry else None, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    if dry:
        said, pieces = done.stdout.splitlines()
        print(said, flush=True)
    else:
        pieces = json.loads(Path(out, "plan.json").read_text(encoding="utf-8"))["pieces"]
        if Path(out, "summary.json").is_file():
            return ["workflow/apply.py", *arguments]  # there is nothing left to do
    values = {"images": images, "out": out, "run": run, "pieces": int(pieces), "executor": executor}
    return [
        *("-m", "snakemake"), *(_LISTED if dry else []), *(["--cores", given["CORES"]] if executor == _LOCAL else []),
        *("--snakefile", "workflow/apply.smk", "--workflow-profile", f"workflow/profiles/{executor}"),
        *("--config", f"make={quote(json.dumps(values), safe='')}"), *shlex.split(given["SNAKEMAKE_ARGS"]),
    ]  # fmt: skip


def _gpus():
    """Return the setting that lets one training at a time run on this machine, if the machine has GPUs."""
    from galaxynb.compute import gpus_of_machine

    return {"gpus": "1"} if gpus_of_machine() else {}


def main(name, *arguments):
    """Run the program `name`. For papermill, remove its temporary folder afterwards."""
    given = dict(os.environ)
    if name == "check":
        check(given, *arguments)
        return
    # A umask that hides files from their owner would stop later stages.
    os.umask(os.umask(0) & 0o077)
    variables = None
    if name in ("book", "sweep"):
        arguments = ["snakemake", *{"book": book, "sweep": sweep}[name](given), *arguments]
    elif name == "pip":
        arguments, variables = [name, *arguments], pip_environment()
    elif name == "kernel":
        backend = given["BACKEND"] if "--user" in arguments else "tensorflow"
        pairs = [text for pair in kernel_environment(backend).items() for text in ("--env", *pair)]
        title = f"galaxynb ({backend})" if "--user" in arguments else "galaxynb"
        arguments = ["ipykernel", "install", *arguments, "--display-name", title, *pairs]
    elif name == "lab":
        arguments, variables = ["jupyterlab", *arguments], lab_environment()
    elif name == "apply":
        arguments = apply(given)
    else:
        arguments = [name, *arguments]
    started = [sys.executable, *([] if arguments[0].endswith((".py", "-m")) else ["-m"]), *arguments]
    if name == "papermill":
        with tempfile.TemporaryDirectory(prefix="galaxynb-", ignore_cleanup_errors=True) as scratch:
            sys.exit(subprocess.run(started, env=environment(scratch=scratch), check=False).returncode)
    sys.stdout.flush()
    os.execve(started[0], started, variables or environment())


if __name__ == "__main__":
    main(*sys.argv[1:])
