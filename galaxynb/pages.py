"""What the book is told about a run: the banner, texts for the prose, and where the time went.

The records themselves are made by `galaxynb.provenance`.
"""

from galaxynb.data.galaxy10 import GALAXY10_SHA256
from galaxynb.provenance import KINDS

__all__ = [
    "TIME_PARTS",
    "banner",
    "glue",
    "notebook_times",
]


#: What a stage's time can go to.
TIME_PARTS = ("kernel", "imports", "images", "start", "networks", "checkpoints", "rest")


_PROFILES = {
    "smoke": "the smallest run that goes through every step, whose numbers mean nothing",
    "quick": "sizes and epochs are reduced to take minutes on a CPU",
    "half": "the paper's image counts and epochs at half its image side",
    "paper": "the paper's own sizes and epochs",
}


def notebook_times(notebook, *, seconds=None):
    """Say where the time of an executed notebook went.

    Cells are told apart by a tag ``part-`` and one of `PARTS`, or ``part-training``; those without are the rest.

    Parameters
    ----------
    notebook : dict
        As JSON, executed by papermill, which leaves the time of each cell in it.
    seconds : dict, optional
        What `galaxynb.networks.training.fit` says of the cell that trained: ``epochs``, ``start``, ``checkpoints``.

    Returns
    -------
    dict of float
        Seconds by part, in the order of `PARTS`: ``kernel`` is all that is in no cell, ``start`` the building and
        compiling of networks as far as it can be told from running them, ``networks`` epochs and predictions.

    Raises
    ------
    ValueError
        If papermill left no times, or a tag is unknown.
    """
    parts = dict.fromkeys(TIME_PARTS, 0.0)
    try:
        whole = notebook["metadata"]["papermill"]["duration"]
        ran = [
            (cell["metadata"].get("tags", ()), cell["metadata"]["papermill"]["duration"])
            for cell in notebook["cells"]
            if cell["cell_type"] == "code"
        ]
        parts["kernel"] = whole - sum(duration for _, duration in ran)
    except (KeyError, TypeError) as error:
        raise ValueError("the notebook holds no times: run it through papermill, as `make book` does") from error
    for tags, duration in ran:
        (part,) = [tag.removeprefix("part-") for tag in tags if tag.startswith("part-")] or ["rest"]
        if part == "training":
            told = seconds or {}
            for here, there in (("networks", "epochs"), ("start", "start"), ("checkpoints", "checkpoints")):
                parts[here] += told.get(there, 0.0)
                duration -= told.get(there, 0.0)
            part = "rest"
        if part not in parts:
            raise ValueError(
                f"a cell has the tag part-{part}, but one of {', '.join(TIME_PARTS)} or training is expected"
            )
        parts[part] += duration
    return parts


def banner(kind, profile, *, sha256=None):
    """Say in plain sentences what a run's images are and at what size the study ran.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    profile : str
        Name of the profile.
    sha256 : str, optional
        Checksum of the data file. Without that of the published file, images are not called genuine.

    Returns
    -------
    str
        Two sentences without markup.

    Raises
    ------
    ValueError
        If `kind` is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if kind == "standin":
        images = "Synthetic stand-in data: the galaxies shown and measured here are simulated, not observed"
    elif (sha256 or "").lower() == GALAXY10_SHA256:
        images = "Genuine Galaxy10 DECaLS images, from the published file with its checksum verified"
    else:
        images = (
            "Images from a file in the Galaxy10 DECaLS layout that is not the published one, "
            "so where they come from is not verified"
        )
    meaning = f": {_PROFILES[profile]}" if profile in _PROFILES else ""
    return f"{images}. Profile {profile}{meaning}."


def glue(texts):
    """Keep texts under names in the running notebook, for a book's prose to quote with ``{glue:text}``.

    It writes the output that myst-nb's `glue` writes, so that a kernel need not have myst-nb.

    Parameters
    ----------
    texts : dict of str to str
        Shown nowhere in the notebook itself.
    """
    from IPython.display import display

    for name, text in texts.items():
        mime_prefix = "application/papermill.record/"
        display(
            {f"{mime_prefix}text/plain": repr(str(text))},
            raw=True,
            metadata={"scrapbook": {"name": name, "mime_prefix": mime_prefix}},
        )
