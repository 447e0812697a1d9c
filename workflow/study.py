"""What workflow/Snakefile needs to know while it is read: what to make, in which folders, and what is out of date.

As a script, print where a run's results lie:

    python workflow/study.py --runs runs --profile quick --data standin          the run's folder
    python workflow/study.py --runs runs --profile quick --data standin --book   its rendered book

How the workflow decides what runs again
----------------------------------------
Each stage has these files beside its results. Except for the stamp file, none is an output of a rule.

marks/STAGE                   the stamp file: a copy of the stage's record, written last by workflow/stage.py
parameters/STAGE.yaml         the parameters of the notebook
parameters/STAGE.code.json    fingerprints of the notebook's code and of all modules that it uses
parameters/STAGE.made.json    checksums of the files that later stages read
parameters/STAGE.ran.json     checksums of the inputs that the results were made from

A stage depends on the parameters of the stages before it and on *what they made*, not on their running. So a stage that
ran again and made the same repeats nothing after it. Snakemake plans before it runs, so stages are checkpoints: after
each, Snakemake looks again at what is out of date.
"""

import argparse
import json
import os
import re
import time
from pathlib import Path

import sweeps
import yaml
from configuration import ConfigurationError, check, read_schema, resolved, with_defaults
from content import checksums, write_if_changed
from failures import explanation

from galaxynb.fingerprints import code_used, file_fingerprint, notebook_code
from galaxynb.stages import STAGES

CHECKOUT = Path(__file__).resolve().parents[1]
CONFIG = CHECKOUT / "config"
NAMED_SOURCES = ("standin", "galaxy10")
#: Pages of kept sweeps are executed copies of this notebook, and this program builds the book.
SWEEP_PAGE, BOOK_PROGRAM = "book/sweep.ipynb", "workflow/book.py"


class Study:
    """A study to make, or a sweep: many studies that share the stages that their parameters leave alone.

    Parameters
    ----------
    config : dict
        Snakemake's: a profile and what `make` gives beside it, or a sweep's file as ``sweep``.
    cores : int or None
        Cores of the workflow.
    folder : os.PathLike, optional
        The folder config/.

    Attributes
    ----------
    root : str
        The folder of the run or the sweep.
    jobs : dict of dict
        By stage the folders that it is made in, each with the whole configuration of its study. A study has one
        folder; a sweep has one folder per stage for all points that agree on what decides the stage.

    Raises
    ------
    ConfigurationError
        If the profile or the sweep is not what its schema describes, or the file of the data is missing.
    """

    def __init__(self, config, *, cores=None, folder=CONFIG):
        self.sweep = config.get("sweep")
        self.kernel = config.get("kernel", "galaxynb")
        self.runs = config.get("runs", "runs")
        self.downloads = config.get("downloads", "downloads")
        self.began = time.time()
        schema = read_schema(folder)
        if self.sweep:
            self.settings, profile = sweeps.read(self.sweep, folder=folder)
            self.points = sweeps.points(self.settings, profile, schema)
            self.name = self.settings["profile"]
            self.root = f"{self.runs}/sweeps/{Path(self.sweep).stem}"
            self.jobs = sweeps.jobs(self.root, self.points)
            self.cpus = int(config.get("cpus", 1)) or cores or 1
        else:
            self.name = config.get("profile", "quick")
            whole = resolved(config, name=self.name, folder=folder)
            check(whole, name=self.name, folder=folder)
            whole = with_defaults(whole, schema)
            if whole["source"] not in NAMED_SOURCES:
                whole["source"] = str(Path(whole["source"]).expanduser())
            self.root = run_folder(self.runs, self.name, whole["source"])
            self.jobs = {stage: {self.root: whole} for stage in STAGES}
            self.cpus = int(whole["cpus"]) or cores or 1
        sources = {settings["source"] for settings in self.jobs["01_data"].values()}
        self.source_files = sources - {*NAMED_SOURCES}
        self.downloaded = "galaxy10" in sources
        for path in sorted(self.source_files):
            if not Path(path).is_file():
                raise ConfigurationError(
                    f"DATA is {path}, but standin, galaxy10 or the path of a Galaxy10 DECaLS file is needed: "
                    "give one of them."
                )

    # What rules ask for

    @property
    def folders(self):
        """All folders that something is made in."""
        return sorted({self.root} | {folder for folders in self.jobs.values() for folder in folders})

    @property
    def marks(self):
        """The stamp files of all stages."""
        return [f"{folder}/marks/{stage}" for stage, folders in self.jobs.items() for folder in folders]

    @property
    def began_file(self):
        """A file whose time is that of the workflow's start: what is older is no attempt of this workflow's."""
        return f"{self.root}/parameters/began"

    def folder_of(self, stage, settings):
        """Return the folder in which a stage of a configuration is made."""
        return sweeps.folder_of(self.root, stage, settings) if self.sweep else self.root

    def needed(self, stage, folder):
        """Return the folders of the stages that a stage needs, in the order of `Stage.needs`."""
        settings = self.jobs[stage][folder]
        return [self.folder_of(name, settings) for name in STAGES[stage].needs]

    def files(self, stage, folder):
        """Return the files that decide what a stage makes, except for the notebook and a data file of the user's."""
        files = [f"{folder}/parameters/{stage}.yaml", f"{folder}/parameters/{stage}.code.json", *STAGES[stage].reads]
        for name, origin in zip(STAGES[stage].needs, self.needed(stage, folder), strict=True):
            files += [f"{origin}/parameters/{name}.yaml", f"{origin}/parameters/{name}.made.json"]
        return files

    def inputs(self, stage):
        """Return the inputs of a stage's rule, by name."""
        from snakemake.io import ancient

        def before(wildcards):
            folder = wildcards.folder
            marks = [
                f"{origin}/marks/{name}"
                for name, origin in zip(STAGES[stage].needs, self.needed(stage, folder), strict=True)
            ]
            # An `ancient` stamp file gives the order alone. Snakemake looks at no other reason for a job to run once
            # a job before it has one; so where this stage has to run in any case, its stamp files say so.
            return marks if self.is_outdated(stage, folder) else [ancient(mark) for mark in marks]

        return {
            "before": before,
            # The prose of a notebook may change without the stage being run again; its code may not.
            "notebook": ancient(f"notebooks/{stage}.ipynb"),
            "files": lambda wildcards: self.files(stage, wildcards.folder),
            "source": lambda wildcards: [
                source
                for source in self.source_files
                if stage == "01_data" and source == self.jobs[stage][wildcards.folder]["source"]
            ],
        }

    def is_outdated(self, stage, folder):
        """Whether a stage has no results, or results of other inputs than there are now."""
        try:
            ran = json.loads(Path(folder, "parameters", f"{stage}.ran.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return True
        return not Path(folder, "marks", stage).exists() or ran != checksums(self.files(stage, folder))

    def parameters(self, stage, folder):
        """Return the parameters of a notebook: what all notebooks share, and the profile's section."""
        settings, section = self.jobs[stage][folder], STAGES[stage].section
        shared = {"run_dir": _from_notebooks(folder), "profile": self.name, "seed": settings["seed"]}
        if section == "data":
            source = settings["source"]
            shared["source"] = _from_notebooks(source) if source in self.source_files else source
            shared["downloads"] = _from_notebooks(self.downloads)
        return shared | dict(settings[section])

    # What happens before the first job, in the process that the user started

    def prepare(self, *, dry_run=False):
        """Write what rules take as inputs, and take back stamp files whose results are gone.

        Cluster jobs read the Snakefile too, perhaps with outdated files in view, so only the main process may call
        this.

        Raises
        ------
        ConfigurationError
            If the sweep's folder belongs to another file, or a module that a stage uses cannot be read as Python.
        """
        if self.sweep:
            import collect  # pandas takes a second that other runs need not wait

            collect.claim(self.root, self.sweep)
            if self.downloaded and not dry_run:
                from galaxynb.data.download import fetch_galaxy10

                fetch_galaxy10(self.downloads)
        self.take_back_stamps()
        self.write_inputs()
        if dry_run:
            return
        Path(self.began_file).parent.mkdir(parents=True, exist_ok=True)
        Path(self.began_file).touch()
        if self.sweep and collect.is_stale(self.root, self.settings, self.points):
            # Every point is there, so there is nothing to run at whose end the table would be written.
            print(self.summary())

    def take_back_stamps(self):
        """Remove the stamp file of each stage whose results were deleted, and the book's where a stage has none.

        Snakemake makes nothing again that no unfinished job asks for; the unfinished book does.
        """
        for stage, folders in self.jobs.items():
            for folder in folders:
                results = Path(folder, STAGES[stage].result), Path(folder, "notebooks", f"{stage}.ipynb")
                if not all(path.exists() for path in results):
                    Path(folder, "marks", stage).unlink(missing_ok=True)
        if not all(Path(path).exists() for path in [*self.marks, f"{self.root}/book/index.html"]):
            Path(self.root, "marks", "book").unlink(missing_ok=True)

    def write_inputs(self):
        """Write parameters and fingerprints of code, each only where it differs from what is there.

        As outputs of rules they would count as changed whenever they were made, and every stage would run again.
        """
        for stage, folders in self.jobs.items():
            code = _code_of(f"notebooks/{stage}.ipynb")
            for folder in folders:
                start = f"{folder}/parameters/{stage}"
                write_if_changed(f"{start}.yaml", yaml.safe_dump(self.parameters(stage, folder)))
                write_if_changed(f"{start}.code.json", code)
                if not Path(f"{start}.made.json").exists():
                    # Snakemake wants every input that no rule makes to be there; the stage writes over it.
                    write_if_changed(f"{start}.made.json", "{}\n")
        if not self.sweep:
            write_if_changed(f"{self.root}/parameters/sweep_page.code.json", _code_of(SWEEP_PAGE))
            write_if_changed(f"{self.root}/parameters/book.code.json", _code_of(BOOK_PROGRAM))

    # What is said at the end

    def summary(self):
        """Write a sweep's table and report; return a summary for the terminal."""
        import collect

        return collect.summarize(self.root, self.sweep, self.settings, self.points, self.kernel)

    def failure(self):
        """Say what failed, in one sentence, and where to look."""
        if self.sweep:
            return self.summary()
        names = {_from_notebooks(path): path for path in self.source_files}
        return explanation(self.root, since=self.began, names=names)


def run_folder(runs, profile, source):
    """Return the folder of the run of `profile` on `source`, a name of `NAMED_SOURCES` or a file's path."""
    label = source
    if source not in NAMED_SOURCES:
        label = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source).stem)
        # A file that happens to be called standin.h5 must not share the default's folder.
        label += "-file" if label in NAMED_SOURCES else ""
    return f"{runs}/{profile}-{label}"


def kept_sweeps(folder="book/reference/sweeps"):
    """Return the names of the sweeps whose tables are kept for every book."""
    return sorted(path.parent.name for path in Path(folder).glob("*/results.parquet"))


def is_dry_run(arguments):
    """Whether Snakemake's arguments make it run nothing; it does not know that yet while it reads the Snakefile."""
    return any(re.fullmatch(r"--dry-?run|--unlock|-[a-zA-Z]*n[a-zA-Z]*", argument) for argument in arguments)


def _code_of(path):
    """Return fingerprints of a notebook or program and of the modules that it uses, as JSON text."""
    try:
        own = notebook_code(path) if path.endswith(".ipynb") else file_fingerprint(path)
        return json.dumps({path: own, "modules": code_used(path)}, indent=1, sort_keys=True) + "\n"
    except SyntaxError as error:
        where = f"{os.path.relpath(error.filename)}, line {error.lineno}"
        raise ConfigurationError(f"{where}, is no Python ({error.msg}): correct it, then run this again") from None


def _from_notebooks(path):
    """Return a path as notebooks see it from their folder, where they run; so parameters name no machine."""
    return os.path.relpath(path, "notebooks")


def _main():
    parser = argparse.ArgumentParser(description="Print where a run's results lie.")
    for name in ("runs", "profile", "data"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--book", action="store_true", help="print the path of the rendered book instead")
    given = parser.parse_args()
    folder = run_folder(given.runs, given.profile, given.data)
    print(f"The book is ready: {Path(folder, 'book', 'index.html').resolve()}" if given.book else folder)


if __name__ == "__main__":
    _main()
