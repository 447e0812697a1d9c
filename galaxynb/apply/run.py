"""Denoise and classify all images of a folder or file, in pieces that are kept, and join the results.

A piece is a range of images. Its results are one table and, unless the images are single files, one array of denoised
images. Both appear only when complete, so an interrupted run goes on with the next piece.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from galaxynb.apply.inputs import Inputs, open_inputs, prepare
from galaxynb.apply.outputs import to_bytes, write_array, write_picture
from galaxynb.apply.page import SHOWN, write_page
from galaxynb.apply.predict import predict_prepared
from galaxynb.compute import cores
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.files import write_json, written_aside

__all__ = ["apply_images", "apply_piece", "join_pieces", "make_plan", "only_one", "piece_path"]


_PIECE = 512  # images per piece, unless the number of pieces is given

_AT_ONCE = 256  # images in memory at a time


def apply_images(images, out, networks, *, progress=True):
    """Denoise and classify images, and write the results to a folder.

    Parameters
    ----------
    images : str, os.PathLike or galaxynb.apply.inputs.Inputs
        Images, as `galaxynb.apply.inputs.open_inputs` takes or returns them. They are not changed.
    out : str or os.PathLike
        Folder for the results. If an earlier call with the same images was interrupted, this call goes on with it.
    networks : galaxynb.apply.networks.Networks
        The trained networks.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    dict
        The contents of ``summary.json`` in the folder.

    Raises
    ------
    FileNotFoundError, ValueError
        If the images cannot be opened, or the folder holds other files or results of other images.
    BlockingIOError
        If another process is writing to the folder.

    Examples
    --------
    >>> apply_images("nowhere", "out", None)
    Traceback (most recent call last):
    FileNotFoundError: nowhere is missing, but images are needed: give a folder or file of cutouts
    """
    inputs, out = images if isinstance(images, Inputs) else open_inputs(images), Path(out)
    with only_one(out):
        plan = make_plan(inputs, out, networks)
        with tqdm(total=inputs.number, desc="images", unit="image", disable=not progress) as bar:
            for piece in range(plan["pieces"]):
                apply_piece(inputs, out, networks, piece=piece, plan=plan, bar=bar)
        return join_pieces(inputs, out, networks, plan=plan)


@contextlib.contextmanager
def only_one(out):
    """Hold the lock of a folder for results. Raise BlockingIOError if another process holds it."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"OUT is {out}, but a folder is needed: name another")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{out} is in use by another process, but only one may write to it: wait, or name another folder"
            ) from None
        yield


def make_plan(inputs, out, networks, *, pieces=None):
    """Divide the images into pieces, and write the plan to the folder for results.

    Results of an earlier plan for the same images are removed if the images or the networks have changed since.

    Parameters
    ----------
    inputs : galaxynb.apply.inputs.Inputs
    out : pathlib.Path
        Folder for the results.
    networks : galaxynb.apply.networks.Networks
    pieces : int, optional
        Number of pieces. By default one per 512 images.

    Returns
    -------
    dict
        The plan.

    Raises
    ------
    ValueError
        If the folder holds other files, or results of other images.
    """
    where = os.path.relpath(inputs.path.resolve(), out.resolve())
    plan = {
        "images": where,
        "listing": _listing(inputs),
        "networks": networks.digest,
        "number": inputs.number,
        "pieces": min(pieces or -(-inputs.number // _PIECE), inputs.number),
    }
    path = out / "plan.json"
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier == plan:
            return plan
        if earlier["images"] != where:
            raise ValueError(
                f"{out} holds the results of other images, but an empty folder is needed: name another OUT"
            )
        _clear(out)
    elif any(entry.name != ".lock" for entry in out.iterdir()):
        raise ValueError(f"{out} holds other files, but an empty folder is needed: name another OUT")
    write_json(path, plan)
    return plan


def _listing(inputs):
    """Return a digest of the names, sizes and modification times of the files."""
    digest = hashlib.sha256()
    for file in inputs.files:
        try:
            found = file.stat()
            about = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            about = "missing"
        digest.update(f"{file.name} {about}\n".encode())
    return digest.hexdigest()


def _clear(out):
    """Remove the results of an earlier plan."""
    for entry in out.iterdir():
        if entry.is_dir() and entry.name in ("denoised", "pieces"):
            shutil.rmtree(entry)
        elif entry.is_file() and entry.name != ".lock":
            entry.unlink()


def piece_path(out, piece):
    """Return the path of the table of a piece."""
    return Path(out) / "pieces" / f"{piece:06d}.parquet"


def apply_piece(inputs, out, networks, *, piece, plan, bar=None):
    """Denoise and classify the images of one piece, unless its results are there.

    Parameters
    ----------
    inputs : galaxynb.apply.inputs.Inputs
    out : pathlib.Path
        Folder for the results.
    networks : galaxynb.apply.networks.Networks
    piece : int
        Number of the piece, from 0.
    plan : dict
        From `make_plan`.
    bar : tqdm.tqdm, optional
        Progress bar, which counts images.
    """
    first, last = (number * plan["number"] // plan["pieces"] for number in (piece, piece + 1))
    path = piece_path(out, piece)
    if path.is_file():
        if bar is not None:
            bar.update(last - first)
        return
    path.parent.mkdir(exist_ok=True)
    array, thumbnails = path.with_suffix(".npy"), path.with_suffix(".npz")
    tables, shown = [], {"original": [], "denoised": [], "row": []}
    with contextlib.ExitStack() as stack:
        # In parts of a survey, a picture of 100 million pixels is a fault and not worth a warning.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        pool = stack.enter_context(ThreadPoolExecutor(cores()))
        denoised = None
        if inputs.form != "files":
            temporary = stack.enter_context(written_aside(array))
            shape = (last - first, networks.side, networks.side, 3)
            denoised = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        for rows, pictures in _ahead(_gathered(inputs.read(first, last)), pool):
            table, images, results = _one_block(inputs, networks, rows, pictures)
            tables.append(table)
            usable = [(row, part) for row, part in zip(rows, table.pop("part"), strict=True) if part]
            if denoised is None:
                work = [
                    (image, out / "denoised" / inputs.names(row), inputs.files[row], part)
                    for (row, part), image in zip(usable, results, strict=True)
                ]
                list(pool.map(lambda one: write_picture(one[0], one[1], origin=one[2], part=one[3]), work))
            else:
                denoised[[row - first for row, _ in usable]] = to_bytes(results)
            for (row, _), image, result in zip(usable, images, results, strict=True):
                if row < SHOWN:
                    for name, value in zip(shown, (to_bytes(image), to_bytes(result), row), strict=True):
                        shown[name].append(value)
            if bar is not None:
                bar.update(len(rows))
    if shown["row"]:
        with written_aside(thumbnails) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{name: np.stack(values) for name, values in shown.items()})
    with written_aside(path) as temporary:
        pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)


def _gathered(blocks):
    """Yield larger blocks of rows and pictures."""
    rows, pictures = [], []
    for some, found in blocks:
        rows += some
        pictures += found
        if len(rows) >= _AT_ONCE:
            yield rows, pictures
            rows, pictures = [], []
    if rows:
        yield rows, pictures


def _ahead(iterator, pool):
    """Yield the items of an iterator, and prepare the next one meanwhile."""
    end = object()
    waiting = pool.submit(next, iterator, end)
    while (item := waiting.result()) is not end:
        waiting = pool.submit(next, iterator, end)
        yield item


def _one_block(inputs, networks, rows, pictures):
    """Return the table of some images, and their usable images before and after denoising."""
    prepared = [prepare(picture, networks.side) for picture in pictures]
    usable = np.array([image is not None for image, _, _ in prepared])
    empty = np.zeros((0, networks.side, networks.side, 3), np.float32)
    images = np.stack([image for image, _, _ in prepared if image is not None]) if usable.any() else empty
    found = predict_prepared(images, networks)
    table = pd.DataFrame(
        {
            "file": [inputs.names(row) for row in rows],
            "label": [_label(inputs, row) for row in rows],
            "fault": ["" if good else remark for good, (_, _, remark) in zip(usable, prepared, strict=True)],
            "part": [part for _, part, _ in prepared],
        }
    ).astype({"file": str, "label": str, "fault": str})
    # Rows without a result have missing values.
    made = found.table.set_axis(np.flatnonzero(usable)).reindex(range(len(rows)))
    made[["before", "after", "flag"]] = made[["before", "after", "flag"]].fillna("").astype(str)
    remarks = ["" if not good else remark for good, (_, _, remark) in zip(usable, prepared, strict=True)]
    made["flag"] = ["; ".join(filter(None, pair)) for pair in zip(remarks, made["flag"], strict=True)]
    numbers = made.select_dtypes("number").columns
    return table.join(made.astype(dict.fromkeys(numbers, np.float32))), images, found.denoised


def _label(inputs, row):
    label = -1 if inputs.labels is None else inputs.labels[row]
    return CLASS_NAMES[label] if label >= 0 else ""


def join_pieces(inputs, out, networks, *, plan):
    """Join the results of all pieces, and write the tables, the denoised images, the page and the summary.

    Parameters
    ----------
    inputs, out, networks, plan
        As for `apply_piece`.

    Returns
    -------
    dict
        The contents of ``summary.json``.
    """
    from pyarrow import parquet

    summary = out / "summary.json"
    if summary.is_file():
        return json.loads(summary.read_text(encoding="utf-8"))
    pieces = [piece_path(out, piece) for piece in range(plan["pieces"])]
    with contextlib.ExitStack() as stack:
        table, text = (stack.enter_context(written_aside(out / f"predictions.{end}")) for end in ("parquet", "csv"))
        schema = parquet.read_schema(pieces[0])
        writer = stack.enter_context(parquet.ParquetWriter(table, schema))
        lines = stack.enter_context(text.open("w", encoding="utf-8", newline=""))
        for number, path in zip(itertools.count(), pieces):
            part = parquet.read_table(path, schema=schema)
            writer.write_table(part)
            part.to_pandas().to_csv(lines, index=False, header=number == 0, float_format="%.4g", lineterminator="\n")
    if inputs.form != "files":
        write_array(inputs, [path.with_suffix(".npy") for path in pieces], out, side=networks.side)
    found = write_page(inputs, out, networks, pieces=pieces)
    write_json(summary, found)
    shutil.rmtree(out / "pieces")
    return found
