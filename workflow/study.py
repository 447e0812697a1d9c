"""Everything that workflow/Snakefile computes while it is parsed: results to make, their folders, outdated stages.

As a script, this file prints where the results of a run are:

    python workflow/study.py --runs runs --profile quick --data standin          the run's folder
    python workflow/study.py --runs runs --profile quick --data standin --book   its rendered book

How the workflow decides what runs again
----------------------------------------
Each stage has these files in the folder of its results. Only the stamp file is an output of a rule.

marks/STAGE                   the stamp file: a copy of the stage's record, written last by workflow/stage.py
parameters/STAGE.yaml         the parameters of the notebook
parameters/STAGE.code.json    fingerprints of the notebook's code and of all modules that it uses
parameters/STAGE.made.json    checksums of the files that later stages read
parameters/STAGE.ran.json     checksums of the inputs that the results were made from
parameters/source.json        for the user's own data: name, size and modification time of each file

Each remedy of notebook 06 is a job of its own, with the same files in marks/remedies/ and parameters/remedies/.

A stage depends on the parameters and the *results* of the stages that it needs. If one of these runs again and gives
the same results, the stage does not run again. Snakemake normally plans all jobs before the first one. Stages are
checkpoints, so Snakemake plans anew after each stage.
"""

import argparse
import hashlib
import json
import os
import re
import time
from pathlib import Path
from urllib.parse import unquote

import sweeps
import yaml
from configuration import ConfigurationError, check, read_schema, resolved, with_defaults
from content import checksums, write_if_changed
from environment import CHECKOUT, cores_each
from failures import explanation
from launch import NAMED_SOURCES, data_path

from galaxynb.fingerprints import code_used, file_fingerprint, notebook_code
from galaxynb.remedies.rows import OWN, chosen_rows, module_of
from galaxynb.stages import STAGES

#: The stage that compares the remedies, and the program that tries each of them.
REMEDIES, ROW_PROGRAM = "06_remedies", "workflow/try_remedy.py"
CONFIG = CHECKOUT / "config"
#: Notebook whose executed copies are the pages of kept sweeps, and the code that builds the book.
SWEEP_PAGE, BOOK_PROGRAMS = "book/sweep.ipynb", ("workflow/book.py", "workflow/gate.py")


class Study:
    """A study, or a sweep: many studies that share each stage whose parameters agree.

    Parameters
    ----------
    config : dict
        Snakemake's configuration. It holds a profile and the settings that `make` adds, or the path of a sweep's file
        as ``sweep``. The key ``make`` holds further settings, as `launch.settings` encodes them.
    cores : int or None
        Number of cores of the workflow.
    folder : os.PathLike, optional
        The folder config/.

    Attributes
    ----------
    root : str
        The folder of the run or the sweep.
    jobs : dict of dict
        For each stage, its folders, each with the whole configuration of its study. A study has one folder for all
        stages. A sweep has a separate folder per stage, which all points with the same relevant parameters share.
    cpus, row_cpus : int
        Number of cores for each stage, and for each remedy of notebook 06.

    Raises
    ------
    ConfigurationError
        If the profile or the sweep does not match its schema.
    """

    def __init__(self, config, *, cores=None, folder=CONFIG):
        config = _given(config)
        self.gpus = config.pop("gpus", 0)
        self.folder = folder
        self.sweep = config.get("sweep")
        self.kernel = config.get("kernel", "galaxynb")
        self.runs = config.get("runs", "runs")
        self.downloads = config.get("downloads", "downloads")
        self.began = time.time()
        self.remedy = config.get("remedy") or None
        self.every_remedy = bool(config.get("every_remedy"))
        if config.get("every_remedy") not in (None, "", "all"):
            raise ConfigurationError(
                f"REMEDIES is {config['every_remedy']}, but all is needed: give it, or leave it out"
            )
        schema = read_schema(folder)
        if self.sweep:
            self.settings, profile = sweeps.read(self.sweep, folder=folder)
            self.points = sweeps.points(self.settings, profile, schema)
            self.name = self.settings["profile"]
            self.root = f"{self.runs}/sweeps/{Path(self.sweep).stem}"
            self.jobs = sweeps.jobs(self.root, self.points)
            if not self.jobs[REMEDIES] and (self.remedy or self.every_remedy):
                raise ConfigurationError(
                    f"REMEDY or REMEDIES is given, but {self.sweep} ends before the remedies: add `until: remedies`"
                )
            self.cpus = self.row_cpus = config.get("cpus", 1) or cores or 1
        else:
            self.name = config.get("profile", "quick")
            whole = {"remedies": {}} | resolved(config, name=self.name, folder=folder)
            check(whole, name=self.name, folder=folder)
            whole = with_defaults(whole, schema)
            whole["source"] = data_path(whole["source"])
            self.root = run_folder(self.runs, self.name, whole["source"])
            self.jobs = {stage: {self.root: whole} for stage in STAGES}
            self.cpus = whole["cpus"] or cores or 1
            shared = not (whole["cpus"] or self.gpus)
            self.row_cpus = cores_each(len(self.rows(self.root)), self.cpus) if shared else self.cpus
        sources = {settings["source"] for settings in self.jobs["01_data"].values()}
        self.own_data = sources - {*NAMED_SOURCES}
        self.downloaded = "galaxy10" in sources

    # Used by the rules

    @property
    def folders(self):
        """All folders of the study or sweep."""
        return sorted({self.root} | {folder for folders in self.jobs.values() for folder in folders})

    @property
    def marks(self):
        """Paths of the stamp files of all stages."""
        return [f"{folder}/marks/{stage}" for stage, folders in self.jobs.items() for folder in folders]

    def rows(self, folder):
        """Return the names of the remedies that notebook 06 compares in this folder."""
        settings = self.jobs[REMEDIES].get(folder)
        if settings is None:
            return ()
        return chosen_rows("all" if self.every_remedy else settings["remedies"]["rows"], own=self.remedy)

    @property
    def row_jobs(self):
        """All remedies: pairs of a folder and a name."""
        return [(folder, name) for folder in self.jobs[REMEDIES] for name in self.rows(folder)]

    @property
    def began_file(self):
        """A file whose modification time is the start of this workflow. Older logs are those of earlier workflows."""
        return f"{self.root}/parameters/began"

    def configurations(self):
        """Return pairs of a text and a whole configuration: one pair, or one for each point of a sweep."""
        if self.sweep:
            return [(sweeps.label(point), point["config"]) for point in self.points]
        return [("", self.jobs["01_data"][self.root])]

    def gpu(self, stage):
        """Return the resource that lets one stage at a time use the GPU of this machine, if it has one."""
        networks = stage in ("03_classifier", "04_autoencoder", "05_evaluation", REMEDIES)
        return {"gpu": 1} if self.gpus and networks else {}

    def folder_of(self, stage, settings):
        """Return the folder of a stage, for a configuration."""
        return sweeps.folder_of(self.root, stage, settings) if self.sweep else self.root

    def needed(self, stage, folder):
        """Return the folders of the stages in `Stage.needs`, in the same order."""
        settings = self.jobs[stage][folder]
        return [self.folder_of(name, settings) for name in STAGES[stage].needs]

    def files(self, stage, folder):
        """Return the files that decide the results of a stage, except for the notebook."""
        files = [f"{folder}/parameters/{stage}.yaml", f"{folder}/parameters/{stage}.code.json", *STAGES[stage].reads]
        if stage == "01_data" and self.jobs[stage][folder]["source"] in self.own_data:
            files.append(f"{folder}/parameters/source.json")
        if stage == REMEDIES:
            files += [f"{folder}/parameters/remedies/{name}.made.json" for name in self.rows(folder)]
        return files + self._passed_on(stage, folder)

    def row_files(self, name, folder):
        """Return the files that decide the results of a remedy."""
        start = f"{folder}/parameters/remedies/{name}"
        own = [self.remedy.rpartition(":")[0]] if name == OWN else []
        return [f"{start}.yaml", f"{start}.code.json", *own, *self._passed_on(REMEDIES, folder)]

    def _passed_on(self, stage, folder):
        """Return the files that describe the results of the stages that a stage needs."""
        pairs = zip(STAGES[stage].needs, self.needed(stage, folder), strict=True)
        return [f"{origin}/parameters/{name}.{end}" for name, origin in pairs for end in ("yaml", "made.json")]

    def inputs(self, stage):
        """Return the inputs of a stage's rule, by name."""
        from snakemake.io import ancient

        def rows(wildcards):
            named = self.rows(wildcards.folder) if stage == REMEDIES else ()
            return [f"{wildcards.folder}/marks/remedies/{name}" for name in named]

        return {
            "before": lambda wildcards: self._before(
                stage, wildcards.folder, self.is_outdated(stage, wildcards.folder)
            ),
            "rows": rows,
            # The stage must not run again if only the prose of the notebook changes. Fingerprints cover the code.
            "notebook": ancient(f"notebooks/{stage}.ipynb"),
            "files": lambda wildcards: self.files(stage, wildcards.folder),
        }

    def row_inputs(self):
        """Return the inputs of the rule of the remedies, by name."""

        def before(wildcards):
            outdated = self.is_outdated(f"remedies/{wildcards.name}", wildcards.folder)
            return self._before(REMEDIES, wildcards.folder, outdated)

        return {"before": before, "files": lambda wildcards: self.row_files(wildcards.name, wildcards.folder)}

    def _before(self, stage, folder, outdated):
        """Return the stamp files of the stages that a stage needs."""
        from snakemake.io import ancient

        pairs = zip(STAGES[stage].needs, self.needed(stage, folder), strict=True)
        marks = [f"{origin}/marks/{name}" for name, origin in pairs]
        # An `ancient` stamp file only puts stages in order. Once an earlier job has to run, Snakemake checks no
        # other reason to run a later one. So if this stage is outdated anyway, let the stamp files trigger it.
        return marks if outdated else [ancient(mark) for mark in marks]

    def is_outdated(self, stage, folder):
        """Return whether a stage or a remedy, such as ``remedies/median``, has no results of the present inputs."""
        try:
            ran = json.loads(Path(folder, "parameters", f"{stage}.ran.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return True
        files = self.files(stage, folder) if stage in STAGES else self.row_files(Path(stage).name, folder)
        return not Path(folder, "marks", stage).exists() or ran != checksums(files)

    def parameters(self, stage, folder):
        """Return the parameters of a notebook: those of all notebooks, and those in its section of the profile."""
        settings, section = self.jobs[stage][folder], STAGES[stage].section
        shared = {"run_dir": _from_notebooks(folder), "profile": self.name, "seed": settings["seed"]}
        if section == "data":
            source = settings["source"]
            shared["source"] = _from_notebooks(source) if source in self.own_data else source
            shared["downloads"] = _from_notebooks(self.downloads)
        if section == "remedies":
            return shared | {"remedies": list(self.rows(folder))}
        return shared | dict(settings[section])

    def row_parameters(self, name, folder):
        """Return the parameters of a remedy."""
        settings = self.jobs[REMEDIES][folder]
        chosen = {key: value for key, value in settings["remedies"].items() if key != "rows"}
        more = {"own": self.remedy} if name == OWN else {}
        return {"name": name, "profile": self.name, "seed": settings["seed"]} | chosen | more

    # Before the first job, in the main process

    def prepare(self, *, dry_run=False, unlock=False):
        """Write the inputs of the rules, and remove the stamp files of deleted results.

        Cluster jobs read the Snakefile too, perhaps with outdated files in view, so only the main process may call
        this.

        Raises
        ------
        ConfigurationError
            If a stage would refuse a parameter, the kernel is missing, the disk has too little space, the sweep's
            folder belongs to another file, or a module that a stage uses cannot be read as Python.
        """
        if unlock:
            return  # a fault that stopped a run must not keep the user from unlocking it
        import preflight  # imported here, because jobs on a cluster create a study too, and check nothing

        preflight.check_study(self, folder=self.folder)
        if self.sweep:
            import collect  # imported here, because importing pandas takes a second that only sweeps need

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
            # All points are done, so no job will run, and the table would not be written at the end of the workflow.
            print(self.summary())

    def take_back_stamps(self):
        """Remove the stamp file of each stage whose results were deleted. If any stage has none, remove the book's.

        Snakemake makes a missing file only if an unfinished job needs it. The book, now unfinished, needs all stages.
        """
        for stage, folders in self.jobs.items():
            for folder in folders:
                results = Path(folder, STAGES[stage].result), Path(folder, "notebooks", f"{stage}.ipynb")
                if not all(path.exists() for path in results):
                    Path(folder, "marks", stage).unlink(missing_ok=True)
        for folder, name in self.row_jobs:
            stamped = Path(folder, "marks", "remedies", name).exists()
            if stamped and not Path(folder, "remedies", name, "remedy.json").exists():
                # The comparison, now unfinished, needs all remedies.
                for mark in (f"remedies/{name}", REMEDIES):
                    Path(folder, "marks", mark).unlink(missing_ok=True)
        if not all(Path(path).exists() for path in [*self.marks, f"{self.root}/book/index.html"]):
            Path(self.root, "marks", "book").unlink(missing_ok=True)

    def write_inputs(self):
        """Write parameters and fingerprints of code. Write a file only if its content changes.

        If rules made these files, they would count as changed each time, and every stage would run again.
        """
        for stage, folders in self.jobs.items():
            code = _code_of(f"notebooks/{stage}.ipynb")
            for folder in folders:
                _write_inputs(f"{folder}/parameters/{stage}", self.parameters(stage, folder), code)
        modules = {module_of(name) for _, name in self.row_jobs}
        codes = {one: _code_of(ROW_PROGRAM, CHECKOUT / "galaxynb" / f"{one.replace('.', '/')}.py") for one in modules}
        for folder, name in self.row_jobs:
            start = f"{folder}/parameters/remedies/{name}"
            _write_inputs(start, self.row_parameters(name, folder), codes[module_of(name)])
        for folder, settings in self.jobs["01_data"].items():
            if settings["source"] in self.own_data:
                write_if_changed(f"{folder}/parameters/source.json", _listing(settings["source"]))
        if not self.sweep:
            write_if_changed(f"{self.root}/parameters/sweep_page.code.json", _code_of(SWEEP_PAGE))
            write_if_changed(f"{self.root}/parameters/book.code.json", "".join(map(_code_of, BOOK_PROGRAMS)))

    # After the last job

    def summary(self):
        """Write a sweep's table and report; return a summary for the terminal."""
        import collect

        return collect.summarize(self.root, self.sweep, self.settings, self.points, self.kernel)

    def failure(self):
        """Return a sentence for each failure, which names the log to read."""
        if self.sweep:
            return self.summary()
        names = {_from_notebooks(path): path for path in self.own_data}
        return explanation(self.root, since=self.began, names=names)


def run_folder(runs, profile, source):
    """Return the folder of the run of `profile` on `source`, which is one of `NAMED_SOURCES` or a path.

    For a path, the name of the folder ends in a hash of the profile and the path, so that two data sets never share a
    folder, whatever their names.
    """
    if source in NAMED_SOURCES:
        return f"{runs}/{profile}-{source}"
    path = Path(source).resolve()
    # A path inside the checkout counts from there, so moving the checkout keeps the name.
    place = path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path
    readable = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.")[:40]
    return f"{runs}/{profile}-{readable}-{hashlib.sha256(f'{profile}:{place}'.encode()).hexdigest()[:8]}"


def _listing(source):
    """Return the name, size and modification time of each file of a data source, as JSON text."""
    from galaxynb.data.catalog import source_files

    described = [(os.path.relpath(path, source), path.stat()) for path in source_files(source) if path.exists()]
    return json.dumps([[name, found.st_size, found.st_mtime_ns] for name, found in described], indent=0) + "\n"


def kept_sweeps(folder="book/reference/sweeps"):
    """Return the names of the sweeps whose tables are kept with the book."""
    return sorted(path.parent.name for path in Path(folder).glob("*/results.parquet"))


def is_dry_run(arguments):
    """Return whether Snakemake's arguments ask for no jobs. Snakemake itself does not tell the Snakefile."""
    return any(re.fullmatch(r"--dry-?run|-[a-zA-Z]*n[a-zA-Z]*", argument) for argument in arguments)


def _given(config):
    """Return Snakemake's configuration, with the settings from make that `launch.settings` encoded."""
    config = dict(config)
    given = json.loads(unquote(config.pop("make", "%7B%7D")))
    for name in given.keys() & {"cpus", "gpus"}:
        if not given[name].isdecimal():
            raise ConfigurationError(
                f"{name.upper()} is {given[name]}, but a whole number of cores is needed: give one, such as 4"
            )
        given[name] = int(given[name])
    return config | given


def _write_inputs(start, parameters, code):
    """Write the parameters and fingerprints of a stage or remedy to files that begin with `start`."""
    write_if_changed(f"{start}.yaml", yaml.safe_dump(parameters))
    write_if_changed(f"{start}.code.json", code)
    if not Path(f"{start}.made.json").exists():
        # Snakemake requires an input that no rule makes to exist. The stage overwrites it.
        write_if_changed(f"{start}.made.json", "{}\n")


def _code_of(path, *more):
    """Return the fingerprints of a notebook or program and of the modules that it and `more` use, as JSON text."""
    try:
        own = notebook_code(path) if path.endswith(".ipynb") else file_fingerprint(path)
        modules = {name: found for one in (path, *more) for name, found in code_used(one).items()}
        return json.dumps({path: own, "modules": modules}, indent=1, sort_keys=True) + "\n"
    except SyntaxError as error:
        where = f"{os.path.relpath(error.filename)}, line {error.lineno}"
        raise ConfigurationError(
            f"{where}, is no Python ({error.msg}), but valid Python is needed: correct it and run again"
        ) from None


def _from_notebooks(path):
    """Return a path relative to notebooks/, where notebooks run. Relative parameters hold no path of this machine."""
    return os.path.relpath(path, "notebooks")


def _main():
    parser = argparse.ArgumentParser(description="Print where the results of a run are.")
    for name in ("runs", "profile", "data"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--book", action="store_true", help="print the path of the rendered book instead")
    given = parser.parse_args()
    folder = run_folder(given.runs, given.profile, data_path(given.data))
    print(f"The book is ready: {Path(folder, 'book', 'index.html').resolve()}" if given.book else folder)


if __name__ == "__main__":
    _main()
