"""Facts about a run for the pages of the book: the banner, numbers for the prose, and the time of each notebook.

`galaxynb.provenance` writes and reads the records of a run.
"""

from galaxynb.data.galaxy10 import GALAXY10_SHA256
from galaxynb.provenance import KINDS

__all__ = ["DASH", "TIME_PARTS", "banner", "glue", "notebook_times"]


#: Text of an empty cell of a table. A hyphen would not do: Markdown makes it a list.
DASH = "\N{EN DASH}"

#: Parts of a notebook's time.
TIME_PARTS = ("kernel", "imports", "images", "start", "networks", "checkpoints", "rest")


_PROFILES = {
    "smoke": "the smallest run that goes through every step, whose numbers mean nothing",
    "quick": "sizes and epochs are reduced to take minutes on a CPU",
    "half": "the paper's image counts and epochs at half its image side",
    "paper": "the paper's own sizes and epochs",
}


def notebook_times(notebook, *, seconds=None):
    """Return the time that each part of an executed notebook took.

    A cell's tag names its part: ``part-`` followed by one of `TIME_PARTS`. The tag ``part-training`` marks the cell
    that calls `fit`, whose time is divided further. Cells without such a tag count as ``rest``.

    Parameters
    ----------
    notebook : dict
        Content of a notebook that papermill executed. Papermill records the time of each cell in it.
    seconds : dict, optional
        Seconds of the cell that trains, from `galaxynb.networks.training.fit`: ``epochs``, ``start`` and
        ``checkpoints``.

    Returns
    -------
    dict of float
        Seconds of each part, in the order of `TIME_PARTS`. ``kernel`` is the time outside all cells. ``start`` is the
        time to build and compile networks. With one epoch per phase it cannot be separated and counts as running
        networks; so does the compilation for predictions. ``networks`` is the time of epochs and predictions.

    Raises
    ------
    ValueError
        If the notebook holds no times, or a tag is unknown.
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
        raise ValueError("the notebook holds no times of cells, but they are needed: run it with papermill") from error
    for tags, duration in ran:
        (part,) = [tag.removeprefix("part-") for tag in tags if tag.startswith("part-")] or ["rest"]
        if part == "training":
            spent = seconds or {}
            for name, key in (("networks", "epochs"), ("start", "start"), ("checkpoints", "checkpoints")):
                parts[name] += spent.get(key, 0.0)
                duration -= spent.get(key, 0.0)
            part = "rest"
        if part not in parts:
            raise ValueError(
                f"the tag of a cell is part-{part}, but one of {', '.join(TIME_PARTS)} or training is needed after"
                " part-: change the tag"
            )
        parts[part] += duration
    return parts


def banner(kind, profile, *, sha256=None):
    """Return two sentences about a run: the origin of its images, and its size.

    Parameters
    ----------
    kind : str
        Kind of the images, one of `galaxynb.provenance.KINDS`.
    profile : str
        Name of the profile.
    sha256 : str, optional
        SHA-256 checksum of the data file. Only images from a file with the published checksum are called genuine.

    Returns
    -------
    str
        The sentences, without markup.

    Raises
    ------
    ValueError
        If `kind` is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, but one of {', '.join(KINDS)} is needed: choose one")
    if kind == "standin":
        images = "Synthetic stand-in data: the galaxies shown and measured here are simulated, not observed"
    elif (sha256 or "").lower() == GALAXY10_SHA256:
        images = "Genuine Galaxy10 DECaLS images, from the published file with its checksum verified"
    else:
        images = "Images from other data than the published Galaxy10 DECaLS file, so their origin is not verified"
    meaning = f": {_PROFILES[profile]}" if profile in _PROFILES else ""
    return f"{images}. Profile {profile}{meaning}."


def glue(texts):
    """Store named texts in the running notebook, so that the book's prose can quote them with ``{glue:text}``.

    The output is the same as that of myst-nb's `glue`, but the kernel does not need myst-nb.

    Parameters
    ----------
    texts : dict of str to str
        Text for each name. The notebook itself does not show them.

    Examples
    --------
    In a notebook the output is hidden; elsewhere IPython prints it:

    >>> glue({"n_images": "2,000"})
    {'application/papermill.record/text/plain': "'2,000'"}
    """
    from IPython.display import display

    for name, text in texts.items():
        mime_prefix = "application/papermill.record/"
        display(
            {f"{mime_prefix}text/plain": repr(str(text))},
            raw=True,
            metadata={"scrapbook": {"name": name, "mime_prefix": mime_prefix}},
        )
