"""A copy of the checkout in which tests run make as a user does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from paths import ROOT

#: Folder of the results of a smoke run on the stand-in.
SMOKE = Path("runs/smoke-standin")
#: Argument of make for tests of stages, which need no book.
NO_BOOK = "SNAKEMAKE_ARGS=-- stages"

#: Settings of a user that would change results, pictures or the place of files, or stop the study.
FOREIGN = {
    "MPLBACKEND": "TkAgg",
    "MATPLOTLIBRC": "/nowhere",
    "KERAS_BACKEND": "torch",
    "KERAS_HOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "PYTHONSTARTUP": "/nowhere",
    "PYTHONWARNINGS": "error",
    "JUPYTER_PATH": "/nowhere",
    "JUPYTER_CONFIG_DIR": "/nowhere",
    "SNAKEMAKE_PROFILE": "nowhere",
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "tr_TR",
    "XDG_CONFIG_HOME": "/nowhere",
    "TMPDIR": "/nowhere",
    "OMP_NUM_THREADS": "1",
    "TF_DETERMINISTIC_OPS": "0",
    "IPYTHONDIR": "/nowhere",
    "GIT_DIR": "/nowhere",
    "XLA_FLAGS": "--nonsense",
    "PIP_USER": "1",
    "PIP_TARGET": "/nowhere",
}


def sentence(done):
    """Return the output of a make that failed."""
    assert done.returncode != 0
    return done.stdout + done.stderr


def other_code(text):
    """Return the text of a module with one more statement."""
    return text + "\n_ADDED = 1\n"


class Checkout:
    """A copy of the checkout, in which make uses the environment of this interpreter."""

    def __init__(self, root):
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        # A copy's package comes before the installed one, in make's programs and in their kernels.
        # The options of an outer make must not reach the make under test.
        outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
        self.environment = {name: value for name, value in os.environ.items() if name not in outer} | {
            "PYTHONPATH": str(root),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def copy(self, root):
        """Return a copy of this checkout with its results, in the folder `root`."""
        copied = object.__new__(Checkout)
        copied.root = shutil.copytree(self.root, root, symlinks=True)
        copied.environment = self.environment | {"PYTHONPATH": str(root)}
        return copied

    def make(self, *arguments, **options):
        """Run make, on a user's strange machine, without setting up an environment: it uses the one of the tests."""
        environment = Path(sys.prefix)
        command = ["make", "--old-file", f"{environment}/ready", f"VENV={environment}", *arguments]
        return self.run(*command, env=self.environment | FOREIGN, **options)

    def run(self, *command, env=None, **options):
        return subprocess.run(
            command,
            cwd=self.root,
            env=env or self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
            **options,
        )

    def smoke(self, *arguments, **options):
        return self.make("book", "PROFILE=smoke", *arguments, **options)

    def planned(self):
        """Return the names of the rules that a smoke run would run now."""
        command = ["snakemake", "--snakefile", "workflow/Snakefile", "--cores", "1", "--dry-run", "--quiet", "host"]
        done = self.run(
            *command, "--configfile", "config/smoke.yaml", "--config", "profile=smoke", "source=standin",
            "kernel=galaxynb", "runs=runs",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        named = re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", done.stdout + done.stderr, re.MULTILINE)
        return set(named) - {"all"}

    def set(self, section, key, value):
        """Change a value of the smoke profile."""
        path = self.root / "config/smoke.yaml"
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
        profile[section][key] = value
        path.write_text(yaml.safe_dump(profile), encoding="utf-8")

    def edit(self, name, old, new):
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
