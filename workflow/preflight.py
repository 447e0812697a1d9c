"""Check before the first stage all that can be checked: parameters, notebooks, kernel, data and disk space.

Each stage calls the same checks, but a fault of the last stage would then appear only after hours.
"""

import json
import os
import shutil
from pathlib import Path

from configuration import ConfigurationError, check, place
from gate import check_notebook
from launch import NAMED_SOURCES

from galaxynb.data.catalog import check_source
from galaxynb.data.galaxy10 import CLASS_COUNTS, GALAXY10_FILE, PUBLISHED_SIDE
from galaxynb.files import one_line
from galaxynb.networks.limits import check_halvings, check_weights
from galaxynb.noise import NoiseModel
from galaxynb.remedies.rows import parse_place
from galaxynb.stages import STAGES

#: Bytes that a stage of a network needs for the model and its last checkpoints.
_BYTES = {"03_classifier": 300e6, "04_autoencoder": 20e6}
#: Bytes of one compressed image of a stand-in with its noise-free version, and bytes of the published file.
_BYTES_OF_STANDIN, _BYTES_OF_PUBLISHED = 240e3, 2.54e9


def check_settings(settings, *, name, folder, label=""):
    """Raise `ConfigurationError` if a stage would refuse a value of a configuration.

    Parameters
    ----------
    settings : dict
        The whole configuration of a study.
    name : str
        Name of its profile.
    folder : os.PathLike
        The folder config/.
    label : str
        The point's values on the axes of a sweep, for the message. It is empty without a sweep.
    """
    check(settings, name=name, folder=folder, label=label)
    noise, side = settings["noise"], settings["data"]["image_size"]
    try:
        NoiseModel.from_profile(noise)
        check_halvings(side, settings["autoencoder"]["filters"])
        weights = settings["classifier"]["weights"]
        # The notebooks run in their folder, so a path there is relative to it.
        check_weights(weights if weights in (None, "imagenet") else Path("notebooks", weights))
    except (ValueError, FileNotFoundError) as error:
        raise ConfigurationError(f"{place(name, label)}: {error}") from None
    if settings["source"] in NAMED_SOURCES and side > PUBLISHED_SIDE:
        raise ConfigurationError(
            f"{place(name, label)}: image_size is {side}, but at most {PUBLISHED_SIDE}, the side of the images, is "
            "needed: choose a smaller size"
        )


def check_data(settings):
    """Raise `ConfigurationError` if the user's own data have a fault that `check_source` finds without reading all."""
    source, data = settings["source"], settings["data"]
    if source in NAMED_SOURCES:
        return
    try:
        check_source(source, skip_bad=data.get("skip_bad", False), image_size=data["image_size"])
    except (ValueError, OSError) as error:
        raise ConfigurationError(one_line(error)) from None


def check_names(names):
    """Raise `ConfigurationError` if a name holds braces, which are wildcards for Snakemake, or a line break."""
    for name, value in names.items():
        if {"{", "}", "\n"} & set(value):
            raise ConfigurationError(
                f"{name} is {value!r}, but a name without braces and line breaks is needed: rename it, or give a link"
            )


def check_kernel(name):
    """Raise `ConfigurationError` if no Jupyter kernel has this name, or its Python is gone."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager()
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel:
        known = ", ".join(sorted(manager.find_kernel_specs()))
        raise ConfigurationError(
            f"KERNEL is {name}, but one of the registered kernels ({known}) is needed: choose one of them, or register "
            "it with `python -m ipykernel install --user --name NAME`"
        ) from None
    if spec.language.lower() != "python":
        raise ConfigurationError(
            f"KERNEL is {name}, for {spec.language}, but a kernel for Python is needed: choose one"
        )
    if shutil.which(spec.argv[0]) is None:
        raise ConfigurationError(
            f"KERNEL is {name}, but {spec.argv[0]}, which it starts, is missing: register the kernel again"
        )


def bytes_needed(stage, settings, *, downloads):
    """Return how many bytes the results of a stage take at least."""
    if stage != "01_data":
        return _BYTES.get(stage, 0)
    data, source = settings["data"], settings["source"]
    if source not in NAMED_SOURCES:
        return 0  # the number of images is not known yet
    n_images = data["n_images"] if source == "standin" else sum(CLASS_COUNTS)
    cache = n_images * data["image_size"] ** 2 * 3
    if source == "standin":
        return 2 * cache + n_images * _BYTES_OF_STANDIN
    here = sum(path.stat().st_size for path in Path(downloads).glob(f"{GALAXY10_FILE}*"))
    return cache + max(_BYTES_OF_PUBLISHED - here, 0)


def check_disk(runs, needed):
    """Raise `ConfigurationError` if the folder `runs` cannot be written, or its disk has less than `needed` bytes."""
    existing = Path(runs).absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"RUNS is {runs}, but a folder that can be written is needed: give another one, such as RUNS=runs"
        )
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ConfigurationError(
            f"the disk of {runs} has {free / 1e9:.1f} GB free, but {needed / 1e9:.1f} GB is needed for the results: "
            "free some space, or give RUNS on another disk"
        )


def check_notebooks(study):
    """Raise `ConfigurationError` if a notebook cannot be run, or does not set a parameter that the workflow gives."""
    given = {
        f"notebooks/{name}.ipynb": study.parameters(name, next(iter(jobs))) for name, jobs in study.jobs.items() if jobs
    }
    if not study.sweep:
        given["book/sweep.ipynb"] = ["sweep_dir"]
    for path, parameters in given.items():
        try:
            check_notebook(path, parameters=parameters)
        except (ValueError, FileNotFoundError) as error:
            raise ConfigurationError(one_line(error)) from None


def check_study(study, *, folder):
    """Raise `ConfigurationError` for the first fault of a study, or of a sweep and all its points.

    Parameters
    ----------
    study : study.Study
    folder : os.PathLike
        The folder config/.
    """
    seen = set()
    for label, settings in study.configurations():
        if (text := json.dumps(settings, sort_keys=True)) not in seen:
            seen.add(text)
            check_settings(settings, name=study.name, folder=folder, label=label)
    for settings in study.jobs["01_data"].values():
        check_data(settings)
    check_names({"RUNS": study.runs, "PROFILE": study.name})
    if study.remedy:
        try:
            parse_place(study.remedy)
        except ValueError as error:
            raise ConfigurationError(one_line(error)) from None
    check_notebooks(study)
    check_kernel(study.kernel)
    needed = sum(
        bytes_needed(stage, settings, downloads=study.downloads)
        for stage, folders in study.jobs.items()
        for made, settings in folders.items()
        if not Path(made, STAGES[stage].result).exists()
    )
    check_disk(study.runs, needed)
