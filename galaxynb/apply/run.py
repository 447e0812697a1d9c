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
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from galaxynb.apply.inputs import Inputs, open_inputs
from galaxynb.apply.outputs import to_bytes, write_array, write_picture
from galaxynb.apply.page import shown_rows, write_page
from galaxynb.apply.predict import run_networks, stack_images, tabulate
from galaxynb.compute import cores
from galaxynb.data.arrays import write_header
from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.files import one_line, write_json, written_aside

__all__ = ["apply_images", "apply_piece", "finished", "in_use", "join_pieces", "make_plan", "read_plan"]


_PIECE = 512  # images per piece, unless the number of pieces is given

_AT_ONCE = 256  # images in memory at a time

_FORMAT = 2  # to be raised if pieces of an earlier version of this program cannot be joined with new ones

#: What a run writes to its folder. The summary is the first to be removed and the plan the last.
_WRITTEN = (
    *("summary.json", "index.html", "contact_sheet.png", "confusion.png", "predictions.csv", "predictions.parquet"),
    *("denoised.h5", "denoised.npz", "denoised.parquet", "denoised", "pieces", "plan.json"),
)


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
        If the images cannot be opened, or the folder holds other files or results of other images or networks.
    BlockingIOError
        If another process is writing to the folder.

    Examples
    --------
    >>> apply_images("nowhere", "out", None)
    Traceback (most recent call last):
    FileNotFoundError: nowhere is missing, but images are needed: give a folder or file of cutouts
    """
    inputs, out = images if isinstance(images, Inputs) else open_inputs(images), Path(out)
    plan = make_plan(inputs, out, networks)
    with in_use(out):
        if (found := finished(out)) is not None:
            return found
        missing = [piece for piece in range(plan["pieces"]) if not _piece_path(out, piece).is_file()]
        with tqdm(total=inputs.number, desc="images", unit="image", disable=not progress) as bar:
            bar.update(inputs.number - sum(last - first for first, last in (_rows(plan, piece) for piece in missing)))
            # Pieces that follow each other share one pass through the file.
            for _, group in itertools.groupby(enumerate(missing), key=lambda pair: pair[1] - pair[0]):
                pieces = [piece for _, piece in group]
                with _reader(inputs, _rows(plan, pieces[0])[0], _rows(plan, pieces[-1])[1], networks.side) as stream:
                    for piece in pieces:
                        apply_piece(inputs, out, networks, piece=piece, plan=plan, stream=stream, bar=bar)
        found = join_pieces(inputs, out, networks, plan=plan)
        shutil.rmtree(out / "pieces")
        return found


def finished(out):
    """Return the summary of a finished run in a folder, or None. Remove pieces that a finished run left."""
    summary = out / "summary.json"
    if not summary.is_file():
        return None
    shutil.rmtree(out / "pieces", ignore_errors=True)
    return json.loads(summary.read_text(encoding="utf-8"))


@contextlib.contextmanager
def in_use(out, *, shared=False):
    """Hold the lock of a folder for results. Raise BlockingIOError if another process holds it.

    Parameters
    ----------
    out : pathlib.Path
        The folder.
    shared : bool, optional
        Whether the lock is shared. Several jobs can hold a shared lock at the same time.
    """
    with (out / ".lock").open("a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{out} is in use by another process, but only one may write to it: wait, or name another folder"
            ) from None
        except OSError:
            pass  # a disk without locks
        yield


def make_plan(inputs, out, networks, *, pieces=None):
    """Divide the images into pieces, and write the plan to the folder for results.

    If images were added, removed or changed since an earlier plan, its results are removed.

    Parameters
    ----------
    inputs : galaxynb.apply.inputs.Inputs
    out : pathlib.Path
        Folder for the results.
    networks : galaxynb.apply.networks.Networks
    pieces : int, optional
        Number of pieces. By default one per 512 images. An earlier plan for the same images keeps its number.

    Returns
    -------
    dict
        The plan.

    Raises
    ------
    ValueError
        If the folder is among the images, or holds other files or results of other images or networks.
    BlockingIOError
        If another process is writing to the folder.
    """
    _check_folder(inputs, out)
    plan = _plan(inputs, out, networks)
    path = out / "plan.json"
    out.mkdir(parents=True, exist_ok=True)
    with in_use(out):
        if path.is_file():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            if plan == {key: value for key, value in earlier.items() if key != "pieces"}:
                return earlier
            for key, what in {"images": "images", "networks": "networks"}.items():
                if earlier[key] != plan[key]:
                    raise ValueError(
                        f"{out} holds the results of other {what}, but an empty folder is needed: choose another folder"
                        " (OUT=... for make)"
                    )
            _clear(out)
        plan["pieces"] = min(pieces or -(-inputs.number // _PIECE), inputs.number)
        write_json(path, plan)
    return plan


def _plan(inputs, out, networks):
    """Return what a plan is made for."""
    where = os.path.relpath(inputs.path.resolve(), out.resolve())
    about = {"images": where, "listing": _listing(inputs), "networks": networks.digest}
    return about | {"number": inputs.number, "format": _FORMAT}


def read_plan(inputs, out, networks):
    """Return the plan in a folder. Raise ValueError if it was made for other images or networks."""
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    if _plan(inputs, out, networks) != {key: value for key, value in plan.items() if key != "pieces"}:
        raise ValueError(
            f"the images or networks have changed since {out / 'plan.json'} was made, but the same are needed: run"
            " `make apply` again"
        )
    return plan


def _check_folder(inputs, out):
    """Raise ValueError if results cannot go to a folder."""
    if inputs.path.is_dir() and out.resolve().is_relative_to(inputs.path.resolve()):
        raise ValueError(f"OUT is {out}, which is within IMAGES, but another folder is needed: name one elsewhere")
    if out.exists() and not out.is_dir():
        raise ValueError(f"OUT is {out}, but a folder is needed: name another")
    # Hidden files are our own, or the system's.
    others = [entry for entry in out.iterdir() if not entry.name.startswith(".")] if out.is_dir() else []
    if others and not (out / "plan.json").is_file():
        raise ValueError(f"{out} holds other files, but an empty folder is needed: choose another")


def _listing(inputs):
    """Return a digest of the paths, sizes and modification times of the files."""
    digest = hashlib.sha256()
    for file in inputs.files:
        try:
            found = file.stat()
            about = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            about = "missing"
        digest.update(os.fsencode(os.path.relpath(file, inputs.path)) + f" {about}\n".encode())
    return digest.hexdigest()


def _clear(out):
    """Remove the results of an earlier plan."""
    for name in _WRITTEN:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        else:
            (out / name).unlink(missing_ok=True)


def _piece_path(out, piece):
    """Return the path of the table of a piece."""
    return Path(out) / "pieces" / f"{piece:06d}.parquet"


def _rows(plan, piece):
    """Return the first row of a piece, and the one after its last."""
    return piece * plan["number"] // plan["pieces"], (piece + 1) * plan["number"] // plan["pieces"]


def apply_piece(inputs, out, networks, *, piece, plan, stream=None, bar=None):
    """Denoise and classify the images of one piece, unless its results are there.

    Parameters
    ----------
    inputs, out, networks
        As for `make_plan`.
    piece : int
        Number of the piece, from 0.
    plan : dict
        From `make_plan`.
    stream : iterator, optional
        Yields what `inputs.read` yields, from the first row of the piece on. By default the piece reads its images
        itself.
    bar : tqdm.tqdm, optional
        Progress bar, which counts images.
    """
    first, last = _rows(plan, piece)
    path = _piece_path(out, piece)
    if path.is_file():
        return
    path.parent.mkdir(exist_ok=True)
    tables, shown, wanted = [], {"original": [], "denoised": [], "row": []}, set(shown_rows(inputs.number))
    with contextlib.ExitStack() as stack:
        stream = stream or stack.enter_context(_reader(inputs, first, last, networks.side))
        stream = itertools.islice(stream, last - first)
        pool = stack.enter_context(ThreadPoolExecutor(cores()))
        array = None
        if inputs.form != "files":
            temporary = stack.enter_context(written_aside(path.with_suffix(".npy")))
            array = stack.enter_context(temporary.open("wb"))
            write_header(array, (last - first, networks.side, networks.side, 3))

        def write(block, images, results, answers):
            """Write the results of a block of images, and keep its table."""
            table = _block_table(inputs, networks, block, images, answers)
            usable = np.flatnonzero(table["part"])
            rows = [block[at][0] for at in usable]
            if array is None:
                faults = pool.map(partial(_written, inputs, out), rows, table["part"][usable], results)
                pairs = zip(table["flag"][usable], faults, strict=True)
                table.loc[usable, "flag"] = ["; ".join(filter(None, pair)) for pair in pairs]
            else:
                whole = np.zeros((len(block), *results.shape[1:]), np.uint8)
                whole[usable] = to_bytes(results)
                array.write(whole.tobytes())
            chosen = [at for at, row in enumerate(rows) if row in wanted]
            shown["original"] += [*to_bytes(images[chosen])]
            shown["denoised"] += [*to_bytes(results[chosen])]
            shown["row"] += [rows[at] for at in chosen]
            tables.append(table)
            if bar is not None:
                bar.update(len(block))

        # The last to be entered is the first to end: the writer ends before `array` is closed.
        writer = stack.enter_context(ThreadPoolExecutor(1))
        written = None
        for block in iter(lambda: list(itertools.islice(stream, _AT_ONCE)), []):
            images = stack_images([one.image for _, one in block if one.image is not None], networks)
            results, answers = run_networks(images, networks)
            if written is not None:
                written.result()
            # The networks work on the next block meanwhile.
            written = writer.submit(write, block, images, results, answers)
        written.result()
    if shown["row"]:
        with written_aside(path.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
            np.savez(file, **{name: np.stack(values) for name, values in shown.items()})
    with written_aside(path) as temporary:
        pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)


def _written(inputs, out, row, part, image):
    """Write a denoised image where its original is in its folder. Return why it could not be written, or ''."""
    origin = inputs.files[row]
    root = inputs.path if inputs.path.is_dir() else inputs.path.parent
    try:
        write_picture(image, out / "denoised" / origin.relative_to(root), origin=origin, part=part)
    except OSError:
        raise  # such as a full disk
    except Exception as error:  # astropy raises errors of many classes for headers that it cannot write
        return f"its denoised image is not written ({one_line(error)})"
    return ""


@contextlib.contextmanager
def _reader(inputs, first, last, side):
    """Read images in a thread, one block ahead of the caller: a context manager with an iterator over them."""
    stream = inputs.read(first, last, side)

    def read():
        return list(itertools.islice(stream, _AT_ONCE))

    def items(waiting):
        while block := waiting.result():
            waiting = thread.submit(read)
            yield from block

    with warnings.catch_warnings(), ThreadPoolExecutor(1) as thread:
        # Treat an image with too many pixels as faulty, instead of printing Pillow's warning.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield items(thread.submit(read))


def _block_table(inputs, networks, block, images, answers):
    """Return the table of a block of images. Only the usable ones are among `images` and in `answers`."""
    usable = np.array([one.image is not None for _, one in block])
    remarks = [one.remark for _, one in block]
    table = pd.DataFrame(
        {
            "file": [inputs.names(row) for row, _ in block],
            "label": [_label(inputs, row) for row, _ in block],
            "fault": ["" if good else remark for good, remark in zip(usable, remarks, strict=True)],
            "part": np.array([one.part for _, one in block], np.int32),
        }
    ).astype({"file": str, "label": str, "fault": str})
    # Rows without a result have missing values.
    made = tabulate(images, answers, networks).set_axis(np.flatnonzero(usable)).reindex(range(len(block)))
    made[["before", "after", "flag"]] = made[["before", "after", "flag"]].fillna("").astype(str)
    pairs = zip(remarks, made["flag"], usable, strict=True)
    made["flag"] = ["; ".join(filter(None, (remark, flag))) if good else "" for remark, flag, good in pairs]
    numbers = made.select_dtypes("number").columns
    return table.join(made.astype(dict.fromkeys(numbers, np.float32)))


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

    pieces = [_piece_path(out, piece) for piece in range(plan["pieces"])]
    with contextlib.ExitStack() as stack:
        table, text = (stack.enter_context(written_aside(out / f"predictions.{end}")) for end in ("parquet", "csv"))
        schema = parquet.read_schema(pieces[0])
        writer = stack.enter_context(parquet.ParquetWriter(table, schema))
        lines = stack.enter_context(text.open("w", encoding="utf-8", newline=""))
        for number, path in enumerate(pieces):
            part = parquet.read_table(path, schema=schema)
            writer.write_table(part)
            part.to_pandas().to_csv(lines, index=False, header=number == 0, float_format="%.4g", lineterminator="\n")
    if inputs.form != "files":
        shown = np.concatenate([parquet.read_table(path, columns=["part"])["part"].to_numpy() for path in pieces])
        write_array(inputs, [path.with_suffix(".npy") for path in pieces], out, side=networks.side, parts=shown)
    found = write_page(inputs, out, networks, pieces=pieces)
    write_json(out / "summary.json", found)
    return found
