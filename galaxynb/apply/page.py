"""Describe the results for a folder of images: a page for the browser, a contact sheet and a summary."""

import base64
import functools
from pathlib import Path

import cv2
import jinja2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from galaxynb import __version__
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.figures.images import noise_grid
from galaxynb.figures.results import confusion_matrices
from galaxynb.figures.style import save_figure
from galaxynb.files import written_aside
from galaxynb.results.evaluation import accuracy_interval, confusion_table

__all__ = ["shown_rows", "summarize_predictions", "write_page"]


_SHOWN = 300  # images that the page shows

_ON_SHEET = 8  # images on the contact sheet

_FAULTS = 5  # images that could not be used, in the summary

#: Columns of the tables that the page shows.
_NEEDED = ["file", "label", "fault", "before", "p before", "after", "p after", "flag"]


def shown_rows(number):
    """Return the numbers of the images that the page shows, evenly spread over all.

    Parameters
    ----------
    number : int
        Number of images.

    Returns
    -------
    list of int

    Examples
    --------
    >>> shown_rows(3), len(shown_rows(100_000)), shown_rows(100_000)[-1]
    ([0, 1, 2], 300, 99999)
    """
    return np.linspace(0, number - 1, min(number, _SHOWN)).astype(int).tolist()


def write_page(inputs, out, networks, *, pieces):
    """Write the page, the contact sheet and, if the images have classes, the confusion matrix.

    Parameters
    ----------
    inputs : galaxynb.apply.inputs.Inputs
        The images.
    out : pathlib.Path
        Folder for ``index.html``, ``contact_sheet.png`` and ``confusion.png``.
    networks : galaxynb.apply.networks.Networks
        The trained networks.
    pieces : sequence of pathlib.Path
        Tables of all pieces, in order.

    Returns
    -------
    dict
        From `summarize_predictions`.
    """
    table, rows, faults = _read(pieces, inputs.number)
    found = summarize_predictions(table, networks) | {"images": inputs.path.resolve().name}
    found["sentences"][1:1] = _about_faults(faults, found["unusable"])
    shown = _thumbnails(pieces)
    if len(shown["row"]):
        sheet = np.unique(np.linspace(0, len(shown["row"]) - 1, _ON_SHEET).astype(int))
        save_figure(
            _contact_sheet(*(shown[name][sheet] for name in ("original", "denoised"))), out / "contact_sheet.png"
        )
    labelled = table[table["usable"] & (table["label"] != "")]
    if len(labelled):
        number = {name: k for k, name in enumerate(CLASS_NAMES)}
        true = labelled["label"].map(number).to_numpy(int)
        matrices = {
            title: confusion_table(true, labelled[when].map(number).to_numpy(int))
            for when, title in {"before": "As they are", "after": "Denoised"}.items()
        }
        save_figure(confusion_matrices(matrices), out / "confusion.png")
    pictures = {
        int(row): [_embedded(image) for image in (one, other, _difference(one, other))]
        for row, one, other in zip(shown["row"], shown["original"], shown["denoised"], strict=True)
    }
    columns = {"label": "Known class"} if (table["label"] != "").any() else {}
    columns |= {"flag": "Flag"} if found["flagged"] or found["unusable"] else {}
    for number, row in rows.items():
        row["pictures"] = pictures.get(number, [])
        row["flag"] = f"not used: it {row['fault']}" if row["fault"] else row["flag"]
    text = _template().render(
        found=found,
        rows=list(rows.values()),
        columns=columns,
        total=len(table),
        confusion=len(labelled) > 0,
        sheet=[rows[shown["row"][at]]["file"] for at in sheet] if len(shown["row"]) else [],
        version=__version__,
    )
    with written_aside(out / "index.html") as temporary:
        temporary.write_text(text, encoding="utf-8")
    plt.close("all")
    return found


def summarize_predictions(table, networks):
    """Return the summary of the predictions as a dict that JSON can hold.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per image: ``usable`` and ``flagged`` (bool), ``label``, ``before`` and ``after`` (names of classes,
        empty where unknown) and ``noise``.
    networks : galaxynb.apply.networks.Networks
        The trained networks.

    Returns
    -------
    dict
        Numbers of images, of those that could not be used and of those with a flag; the median noise of the images and
        of the training images; the number of images per class; the accuracies if there are classes; and the sentences
        of the page.
    """
    usable = table[table["usable"]]
    found = {
        "number": len(table),
        "unusable": len(table) - len(usable),
        "flagged": int(usable["flagged"].sum()),
        "noise": None if usable.empty else float(usable["noise"].median()),
        "noise of the training images": networks.measures["noise"],
        "classes": {when: _counts(usable[when]) for when in ("before", "after")},
        "trained on": networks.trained_on,
        "kind": networks.kind,
        "networks": networks.digest,
    }
    labelled = usable[usable["label"] != ""]
    if len(labelled):
        found["accuracy"] = {
            when: accuracy_interval((labelled[when].astype(str) == labelled["label"].astype(str)).to_numpy()).asdict()
            for when in ("before", "after")
        }
        found["labelled"] = len(labelled)
    return found | {"sentences": _sentences(found)}


def _read(pieces, number):
    """Read the tables of all pieces once.

    Return what the summary needs of them, in little memory; the rows that the page shows, as dicts by the number of the
    image; and the first images that could not be used, with the reasons.
    """
    names, wanted = pd.CategoricalDtype(["", *CLASS_NAMES]), shown_rows(number)
    slim, rows, faults, first = [], {}, [], 0
    for path in pieces:
        table = pd.read_parquet(path, columns=[*_NEEDED, "noise"])
        table.index += first
        first += len(table)
        about = {"usable": table["fault"] == "", "flagged": table["flag"] != "", "noise": table["noise"]}
        about |= {name: table[name].astype(names) for name in ("label", "before", "after")}
        slim.append(pd.DataFrame(about))
        rows |= table.loc[table.index.isin(wanted), _NEEDED].to_dict("index")
        if len(faults) < _FAULTS:
            faults += [f"{row.file} (it {row.fault})" for row in table[table["fault"] != ""].itertuples()]
    return pd.concat(slim), rows, faults[:_FAULTS]


def _about_faults(faults, number):
    """Return a sentence on the images that could not be used, or nothing."""
    some = "These" if number <= _FAULTS else f"{number:,} images, such as these,"
    return [f"{some} could not be used: {', '.join(faults)}."] if faults else []


def _counts(values):
    return {name: int((values == name).sum()) for name in CLASS_NAMES}


def _sentences(found):
    """Return the summary in sentences."""
    usable = found["number"] - found["unusable"]
    said = [f"{usable:,} of {found['number']:,} image{'' if found['number'] == 1 else 's'} could be used."]
    if not usable:
        return said
    flagged, share = found["flagged"], found["flagged"] / usable
    said.append(
        f"{flagged:,} of these ({share:.1%}) {'has' if flagged == 1 else 'have'} a flag. The column Flag gives the "
        "reason, for example what is unlike the training images. Do not trust a class with a flag."
        if flagged
        else "None of these has a flag."
    )
    clean, noisy = (found["noise of the training images"][name] for name in ("clean", "noisy"))
    noise = found["noise"]
    less = "less noise than" if noise < 0.9 * clean else "about the noise of"
    what = less if noise < 1.1 * clean else "more noise than"
    noisy_enough = "" if noise >= 1.1 * clean else " Denoising can do more harm than good to such images."
    said.append(
        f"The median noise of your images is {noise:.3f}, on a scale where white is 1. The clean training images have "
        f"{clean:.3f}, and the noisy ones {noisy:.3f}. Your images have {what} the clean training images."
        f"{noisy_enough}"
    )
    if "accuracy" in found:
        texts = [
            f"{one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f}) {how}"
            for one, how in zip(found["accuracy"].values(), ("as they are", "denoised"), strict=True)
        ]
        said.append(
            f"The classes of {found['labelled']:,} images are known. The accuracy on them, with its 95% interval, is "
            f"{texts[0]} and {texts[1]}."
        )
    return said


def _thumbnails(pieces):
    """Return the kept original and denoised images of the shown rows, and the rows."""
    parts = []
    for path in pieces:
        if (kept := Path(path).with_suffix(".npz")).is_file():
            with np.load(kept) as found:
                parts.append({name: found[name] for name in ("original", "denoised", "row")})
    if not parts:
        return {"original": [], "denoised": [], "row": []}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _difference(original, denoised):
    """Return what was removed, on grey."""
    return np.clip((original.astype(int) - denoised) // 2 + 128, 0, 255).astype(np.uint8)


def _contact_sheet(originals, denoised):
    taken = [_difference(one, other) for one, other in zip(originals, denoised, strict=True)]
    return noise_grid([list(originals), list(denoised), taken], ["Original", "Denoised", "Removed"])


def _embedded(image):
    """Return an image as the address of a picture within the page."""
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


@functools.cache
def _template():
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    text = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return jinja2.Environment(**options).from_string(text)
