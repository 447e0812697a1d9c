"""Write denoised images in the format in which the images came."""

import shutil
import zipfile

import cv2
import h5py
import numpy as np

from galaxynb import __version__
from galaxynb.apply.inputs import FITS
from galaxynb.apply.survey import write_cutout
from galaxynb.data.arrays import image_key, write_header
from galaxynb.data.galaxy10 import IMAGES, TRUTH
from galaxynb.data.hdf5 import open_hdf5
from galaxynb.files import written_aside

__all__ = ["HISTORY", "to_bytes", "write_array", "write_picture"]


#: Line in each file that can hold one.
HISTORY = f"Denoised by galaxynb {__version__}"

_OF_FLUXES = f"{HISTORY}: fluxes to RGB, denoised, and back"  # in FITS files

_QUALITY = 95  # of JPEG files


def to_bytes(images):
    """Return images of float32 in [0, 1] as uint8, rounded."""
    return np.clip(np.rint(255 * images), 0, 255).astype(np.uint8)


def write_picture(image, path, *, origin, part):
    """Write one denoised image in the format of the original file.

    The file is written under a temporary name and then renamed.

    Parameters
    ----------
    image : ndarray of float32, shape (S, S, 3)
        Denoised RGB image in [0, 1].
    path : pathlib.Path
        File to write.
    origin : pathlib.Path
        The original file, which is not changed.
    part : int
        Side in pixels of the central part of the original that the image shows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # `written_aside` lists the folder at each call, which is slow with thousands of images.
    temporary = path.with_name(f".partial.{path.name}")
    try:
        if path.name.lower().endswith(FITS):
            write_cutout(image, temporary, origin=origin, side=part, history=_OF_FLUXES)
        else:
            options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if path.suffix.lower() != ".png" else []
            _, encoded = cv2.imencode(path.suffix.lower(), to_bytes(image)[..., ::-1], options)
            temporary.write_bytes(encoded.tobytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_array(inputs, arrays, out, *, side, parts):
    """Write all denoised images of a file that holds them as one array, in the same format.

    Images that could not be used are null in parquet files. In the other formats they are black, and a column
    ``usable`` tells them apart.

    Parameters
    ----------
    inputs : galaxynb.apply.inputs.Inputs
        The images, of the form "hdf5", "npz" or "parquet".
    arrays : sequence of pathlib.Path
        Files of NumPy with the denoised images of all rows, in order: uint8, shape (M, S, S, 3).
    out : pathlib.Path
        Folder for the file.
    side : int
        Side S.
    parts : ndarray of int, shape (N,)
        Side in pixels of the central part of each original that its denoised image shows; 0 for images that could not
        be used.

    Returns
    -------
    pathlib.Path
        The file.
    """
    write = {"hdf5": _write_hdf5, "npz": _write_npz, "parquet": _write_parquet}[inputs.form]
    path = out / f"denoised.{'h5' if inputs.form == 'hdf5' else inputs.form}"
    with written_aside(path) as temporary:
        write(inputs, arrays, temporary, shape=(inputs.number, side, side, 3), parts=parts)
    return path


def _blocks(arrays, step=512):
    """Yield the images of all arrays, a few at a time."""
    for path in arrays:
        images = np.load(path, mmap_mode="r")
        for first in range(0, len(images), step):
            yield np.array(images[first : first + step])


def _write_hdf5(inputs, arrays, path, *, shape, parts):
    with open_hdf5(inputs.path) as source, h5py.File(path, "w") as target:
        for name in source:
            if name not in (IMAGES, TRUTH) and source.get(name) is not None:  # leave out dead links
                source.copy(name, target, expand_external=True, expand_soft=True)
        # The mark of a stand-in is among the attributes.
        target.attrs.update(source.attrs)
        target.attrs["history"] = HISTORY
        if "pxscale" in target:
            target["pxscale"][...] = source["pxscale"][...] * (parts / shape[1])
        target["usable"] = parts > 0
        images = target.create_dataset(IMAGES, shape, np.uint8, chunks=(1, *shape[1:]), compression="gzip")
        first = 0
        for block in _blocks(arrays):
            images[first : first + len(block)] = block
            first += len(block)


def _write_npz(inputs, arrays, path, *, shape, parts):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            write_header(member, shape)
            for block in _blocks(arrays):
                member.write(block.tobytes())
        with zipfile.ZipFile(inputs.path) as source:
            names = [name.removesuffix(".npy") for name in source.namelist() if name.endswith(".npy")]
            for name in names:
                if name == image_key(names) or name in ("images", "usable"):
                    continue
                with source.open(f"{name}.npy") as one, archive.open(f"{name}.npy", "w") as other:
                    if name == "pxscale":
                        np.save(other, np.lib.format.read_array(one).astype(float) * (parts / shape[1]))
                    else:
                        shutil.copyfileobj(one, other)  # labels and coordinates stay as they are
        with archive.open("usable.npy", "w") as member:
            np.save(member, parts > 0)


def _write_parquet(inputs, arrays, path, *, shape, parts):
    import pyarrow as pa
    from pyarrow import parquet

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [("image", kind)] + ([("label", pa.int8())] if inputs.labels is not None else [])
    first = 0
    with parquet.ParquetWriter(path, pa.schema(fields)) as writer:
        for block in _blocks(arrays):
            rows = slice(first, first + len(block))
            pairs = zip(block, parts[rows], strict=True)
            columns = {"image": [_encoded(image) if part else None for image, part in pairs]}
            if inputs.labels is not None:
                columns["label"] = inputs.labels[rows]
            writer.write_table(pa.table(columns, schema=pa.schema(fields)))
            first += len(block)


def _encoded(image):
    """Return an image as PNG, as Hugging Face stores it."""
    return {"bytes": cv2.imencode(".png", image[..., ::-1])[1].tobytes(), "path": None}
