"""The environment of every process that the workflow starts, so that the user's machine does not change a result.

Variables of the user's shell pass only if they are named here or in `galaxynb.compute.VARIABLES`. Keras, Matplotlib,
IPython, astropy and Snakemake do not read their configuration files in the home folder. From pip's configuration, only
the places of packages are used. The modules of galaxynb/ and workflow/ are those of this checkout, even if the
interpreter was installed for another one.

This module and `launch` need only the standard library: make calls them before the environment exists.
"""

import ast
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

#: The folder that holds galaxynb/, workflow/ and notebooks/.
CHECKOUT = Path(__file__).resolve().parents[1]

#: Variables that pass because programs could not start or reach the network without them.
_NEEDED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLUMNS", "LINES", "NO_COLOR", "CI"),
    *("JUPYTER_DATA_DIR", "XDG_DATA_HOME"),  # where the user registered kernels, which come after our own
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),  # OpenCV sets the first one, so records do not name it
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
#: Prefixes of further variables that pass: the scheduler's, the memory allocator's and our own.
_FAMILIES = ("SLURM_", "SBATCH_", "MALLOC_", "GLIBC_TUNABLES", "GALAXYNB_")

#: Variables that set how many cores a program uses.
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OPENCV_FOR_THREADS_NUM", "NPROC")

#: Settings of pip that tell where packages come from. All others, such as `user` and `target`, are left out.
_PIP_SOURCES = (
    *("index-url", "extra-index-url", "no-index", "find-links", "trusted-host", "cert", "client-cert", "proxy"),
    *("timeout", "default-timeout", "retries", "cache-dir", "no-cache-dir"),
)

#: Memory in MB that the trial of a remedy may need.
ROW_MEMORY = 7500
#: Largest number of trials at once. With more, each has fewer cores, and the longest goes on alone on these few.
_SIDE_BY_SIDE = 4


def cores_each(jobs, cores, *, memory=None):
    """Return the number of cores for each trial of a remedy, so that several run at once on this machine.

    Much of a trial uses one core only, so several trials side by side take less time than one after the other.

    Parameters
    ----------
    jobs : int
        Number of trials.
    cores : int
        Number of cores.
    memory : int, optional
        Memory in MB. The default is that of this machine.

    Returns
    -------
    int
        Number of cores, >= 1.

    Examples
    --------
    >>> cores_each(9, 8, memory=32_000)
    2
    """
    if memory is None:
        import psutil

        memory = psutil.virtual_memory().total >> 20
    at_once = max(1, min(jobs, cores, memory // ROW_MEMORY, _SIDE_BY_SIDE))
    return -(-cores // at_once)


def environment(*, threads=None, scratch=None, gpu=None, given=None):
    """Return the environment for a process of the workflow.

    Parameters
    ----------
    threads : int, optional
        Number of cores that the process may use. By default, it may use all cores that the system grants it.
    scratch : str or os.PathLike, optional
        Folder for the temporary files of a notebook. If it is given, figures are shown in the notebook.
    gpu : bool, optional
        Whether the notebook may train on a GPU. By default, it may if the machine has one.
    given : dict of str, optional
        The environment of the user. The default is that of this process.

    Returns
    -------
    dict of str
    """
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    from galaxynb.compute import VARIABLES, allocator_settings, device_settings, gpus_of_machine

    given = os.environ if given is None else given
    passing = {*_NEEDED, *VARIABLES}
    kept = {name: value for name, value in given.items() if name in passing or name.startswith(_FAMILIES)}
    if os.access(given.get("TMPDIR", ""), os.W_OK | os.X_OK):
        kept["TMPDIR"] = os.path.abspath(given["TMPDIR"])  # noqa: PTH100 - a symbolic link may be there on purpose
    programs = Path(sys.executable).parent
    kept["PATH"] = os.pathsep.join([str(programs), *(kept["PATH"].split(os.pathsep) if kept.get("PATH") else [])])
    cache = _cache()
    kept |= {
        # The code that runs is that of this checkout.
        "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'workflow'}",
        "PYTHONNOUSERSITE": "1",
        # Every system has the locale C. With PYTHONUTF8, Python still reads and writes UTF-8.
        "LC_ALL": "C",
        "PYTHONUTF8": "1",
        # Use folders of this project: those in the home folder may be read-only or hold settings.
        "XDG_CACHE_HOME": str(cache),
        "XDG_CONFIG_HOME": str(cache / "config"),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "KERAS_HOME": str(CHECKOUT / "downloads" / "keras"),
        # A kernel that sets another backend overrules this one.
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "IPYTHONDIR": str(cache / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_RUNTIME_DIR": str(cache / "jupyter"),
        "MPLBACKEND": "agg",
    }
    if threads is not None:
        kept |= dict.fromkeys(_THREADS, str(threads))
    if scratch is not None:
        # IPython keeps its history in a database. On a network file system, jobs would block each other.
        kept |= {
            "IPYTHONDIR": str(scratch),
            "JUPYTER_RUNTIME_DIR": str(scratch),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }
        gpu = bool(gpus_of_machine(kept)) if gpu is None else gpu  # asks the driver, so ask once
        kept |= allocator_settings(kept, gpu=gpu) | device_settings(kept, gpu=gpu)
    return kept


def kernel_environment(backend="tensorflow"):
    """Return the variables that the kernels made by make set, so that notebooks opened by hand have them too.

    A kernel's variables overrule all others. Variables that depend on the machine are therefore not among them.
    """
    ours = environment(scratch="", given={})
    names = ("KERAS_BACKEND", "MPLBACKEND", "TF_CPP_MIN_LOG_LEVEL", "PYTHONNOUSERSITE")
    return {name: ours[name] for name in names} | {"KERAS_BACKEND": backend}


def lab_environment(given=None):
    """Return the environment for JupyterLab: the user's, but with our variables where these affect results."""
    given = dict(os.environ if given is None else given)
    ours = environment(scratch="", given=given)
    users = ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LC_ALL", "PYTHONUTF8")
    return given | {name: value for name, value in ours.items() if name not in users}


def pip_environment(given=None):
    """Return the environment for pip: `environment`, and the user's settings of where packages come from.

    Other settings, such as ``user`` or ``target``, would install the packages outside the environment.
    """
    given = os.environ if given is None else given
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    # With PIP_USER, PIP_SITE or PIP_GLOBAL, pip would list only one of its configuration files.
    asking = {name: value for name, value in given.items() if name not in ("PIP_USER", "PIP_SITE", "PIP_GLOBAL")}
    listed = subprocess.run(command, capture_output=True, text=True, env=asking, check=False).stdout
    sources = {}
    # A setting of the section "install" overrules one of "global", and a variable overrules both.
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            option = name[len(section) + 1 :]
            if name.startswith(f"{section}.") and option in _PIP_SOURCES:
                with contextlib.suppress(ValueError, SyntaxError):
                    sources[f"PIP_{option.upper().replace('-', '_')}"] = str(ast.literal_eval(value))
    made = environment(given=given) | sources | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    del made["XDG_CACHE_HOME"]  # pip's own cache, in the home folder, serves all environments
    return made


def _cache():
    """Return a folder for the caches of programs: in the environment if this can be written, otherwise in TMPDIR."""
    cache = Path(sys.prefix, "galaxynb-cache")
    if not os.access(cache if cache.exists() else sys.prefix, os.W_OK):
        cache = Path(tempfile.gettempdir(), f"galaxynb-cache-{os.getuid()}")
        cache.mkdir(mode=0o700, exist_ok=True)
        if cache.stat().st_uid != os.getuid():
            sys.exit(f"{cache} belongs to another user, but a folder of yours is needed: set TMPDIR to another folder")
    # astropy reads its settings from the home folder unless these folders exist.
    for name in ("astropy", "config/astropy", "matplotlib"):
        (cache / name).mkdir(parents=True, exist_ok=True)
    return cache
