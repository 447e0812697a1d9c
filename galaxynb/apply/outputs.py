"""Write denoised images in the format in which the images came."""

import shutil
import zipfile

import cv2
import h5py
import numpy as np

from galaxynb import __version__
from galaxynb.apply.inputs import FITS
from galaxynb.apply.survey import write_cutout
from galaxynb.data.galaxy10 import IMAGES, TRUTH
from galaxynb.files import written_aside

__all__ = ["HISTORY", "to_bytes", "write_array", "write_picture"]


#: Line in the header of each denoised FITS file.
HISTORY = f"Denoised by galaxynb {__version__}: RGB of the fluxes through an autoencoder, and back"

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
    if path.name.lower().endswith(FITS):
        write_cutout(image, path, origin=origin, side=part, history=HISTORY)
        return
    # `written_aside` would list the folder for each of its images, of which a folder may have thousands.
    temporary = path.with_name(f".{path.name}.partial")
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if path.suffix.lower() != ".png" else []
    _, encoded = cv2.imencode(path.suffix.lower(), to_bytes(image)[..., ::-1], options)
    temporary.write_bytes(encoded.tobytes())
    temporary.replace(path)


def write_array(inputs, parts, out, *, side):
    """Write all denoised images of a file that holds them as one array, in the same format.

    Parameters
    ----------
    inputs : galaxynb.apply.inputs.Inputs
        The images, of the form "hdf5", "npz" or "parquet".
    parts : sequence of pathlib.Path
        Files of NumPy with the denoised images of all rows, in order: uint8, shape (M, S, S, 3).
    out : pathlib.Path
        Folder for the file.
    side : int
        Side S.

    Returns
    -------
    pathlib.Path
        The file.
    """
    write = {"hdf5": _write_hdf5, "npz": _write_npz, "parquet": _write_parquet}[inputs.form]
    path = out / f"denoised.{'h5' if inputs.form == 'hdf5' else inputs.form}"
    with written_aside(path) as temporary:
        write(inputs, parts, temporary, (inputs.number, side, side, 3))
    return path


def _blocks(parts, step=512):
    """Yield the images of all parts, a few at a time."""
    for path in parts:
        images = np.load(path, mmap_mode="r")
        for first in range(0, len(images), step):
            yield np.array(images[first : first + step])


def _write_hdf5(inputs, parts, path, shape):
    with h5py.File(inputs.path, "r") as source, h5py.File(path, "w") as target:
        for name in source:
            if name not in (IMAGES, TRUTH):
                source.copy(name, target)
        if "pxscale" in target:
            target["pxscale"][...] = source["pxscale"][...] * (source[IMAGES].shape[1] / shape[1])
        images = target.create_dataset(IMAGES, shape, np.uint8, chunks=(1, *shape[1:]), compression="gzip")
        first = 0
        for block in _blocks(parts):
            images[first : first + len(block)] = block
            first += len(block)
        target.attrs["history"] = HISTORY


def _write_npz(inputs, parts, path, shape):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for block in _blocks(parts):
                member.write(block.tobytes())
        with zipfile.ZipFile(inputs.path) as source:
            # All other arrays, such as labels and coordinates, stay as they are.
            for name in source.namelist():
                if name.removesuffix(".npy") not in ("images", "image", "x", "X", "data", "imgs"):
                    with source.open(name) as one, archive.open(name, "w") as other:
                        shutil.copyfileobj(one, other)


def _write_parquet(inputs, parts, path, shape):
    import pyarrow as pa
    from pyarrow import parquet

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [("image", kind)] + ([("label", pa.int8())] if inputs.labels is not None else [])
    first = 0
    with parquet.ParquetWriter(path, pa.schema(fields)) as writer:
        for block in _blocks(parts):
            encoded = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in block]
            columns = {"image": [{"bytes": one, "path": None} for one in encoded]}
            if inputs.labels is not None:
                columns["label"] = inputs.labels[first : first + len(block)]
            writer.write_table(pa.table(columns, schema=pa.schema(fields)))
            first += len(block)
