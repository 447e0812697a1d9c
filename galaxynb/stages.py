"""The one table of the study's stages, which the workflow, the records, the book and the tests share."""

from typing import NamedTuple

__all__ = ["SECTIONS", "STAGES", "Stage"]


class Stage(NamedTuple):
    """Description of a stage. Paths are relative to the folder of the run unless stated otherwise."""

    #: Activity of the stage, in words for the terminal.
    doing: str
    #: Section of a profile that holds the parameters of the stage. The record of the stage has the same name.
    section: str
    #: Notebooks of the stages that this stage needs, directly or through other stages.
    needs: tuple[str, ...]
    #: Result file. If it is missing, the stage counts as not made.
    result: str
    #: Files and folders that later stages read.
    passes_on: tuple[str, ...] = ()
    #: Files of the checkout that the notebook shows.
    reads: tuple[str, ...] = ()


#: Stages by their notebooks, in the order of the study.
STAGES = {
    "01_data": Stage("making and checking the images", "data", (), "data/cache/cache.json", ("data/cache",)),
    "02_noise": Stage(
        "setting up the noise",
        "noise",
        ("01_data",),
        "noise.json",
        ("noise.json",),
        ("book/reference/noise_fit.csv", "book/reference/noise_fit.json"),
    ),
    "03_classifier": Stage(
        "training the classifier", "classifier", ("01_data",), "models/classifier.keras", ("models/classifier.keras",)
    ),
    "04_autoencoder": Stage(
        "calibrating the noise, training the autoencoder",
        "autoencoder",
        ("01_data", "02_noise", "03_classifier"),
        "models/autoencoder.keras",
        ("models/autoencoder.keras", "calibrated_noise.json"),
        ("book/reference/autoencoder_trials.csv", "book/reference/autoencoder_trials.json"),
    ),
    "05_evaluation": Stage(
        "classifying clean, noisy and denoised images",
        "evaluation",
        ("01_data", "02_noise", "03_classifier", "04_autoencoder"),
        "metrics.json",
    ),
    "06_remedies": Stage(
        "comparing the remedies",
        "remedies",
        ("01_data", "02_noise", "03_classifier", "04_autoencoder"),
        "remedies.json",
    ),
}

#: Sections of a profile, in the order of the study. The records of the stages have the same names.
SECTIONS = tuple(stage.section for stage in STAGES.values())
