"""Read FITS cutouts of the Legacy Surveys in g, r and z, and write denoised ones with the same header."""

import math
import warnings

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from galaxynb.data.pictures import BadImage
from galaxynb.files import one_line
from galaxynb.standin.field import survey_rgb

__all__ = ["FIELD", "fluxes", "read_cutout", "write_cutout"]


#: Field of view of a training image in arcsec: 256 px of 0.262 arcsec.
FIELD = 256 * 0.262

_PIXEL = 0.262  # arcsec: side of the survey's own pixels

_BANDS = ("g", "r", "z")


def read_cutout(path, *, largest=None):
    """Read a FITS cutout as an RGB image.

    Parameters
    ----------
    path : pathlib.Path
        A FITS file. The first HDU with data is an array of shape (3, H, H): the fluxes in g, r and z, in nanomaggies
        per pixel.
    largest : int, optional
        Largest side in pixels. A larger image is not read. By default any size will do.

    Returns
    -------
    image : ndarray of float32, shape (H, H, 3)
        RGB of `galaxynb.standin.field.survey_rgb`, in [0, 1]. The first row is the top: FITS counts rows from below.
    scale : float
        Pixel scale in arcsec/px from the WCS, NaN without one. Without a WCS, the image is taken to show `FIELD`. Its
        fluxes are then those of pixels of `FIELD` / H.

    Raises
    ------
    galaxynb.data.pictures.BadImage
        If the file is no such cutout.
    """
    cube, header = _read(path, largest)
    scale = _scale(header)
    # The recipe is for pixels of the survey's size: larger ones hold more light.
    return survey_rgb(*(cube[:, ::-1] / np.float32(_light(scale, cube.shape[1])))), scale


def _read(path, largest=None):
    """Return the data and the header of the first HDU with data."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # such as a truncated file, which then cannot be read
            # astropy leaves a file open that it cannot read, unless it is given the file.
            with path.open("rb") as file, fits.open(file, memmap=False) as hdus:
                found = next((one for one in hdus if one.is_image and one.shape), None)
                side = max(found.shape[-2:]) if found is not None else 0
                too_large = largest is not None and side > largest
                cube = None if found is None or too_large else np.asarray(found.data)
                header = None if found is None else found.header.copy()
    except OSError as error:
        raise BadImage("unreadable", f"is not readable ({one_line(error.strerror or error)})") from error
    except Exception as error:  # astropy raises errors of many classes for damaged files
        raise BadImage("damaged", f"is damaged ({one_line(error)})") from error
    if too_large:
        raise BadImage("too large", f"is {side} px, but at most {largest} px are allowed: crop it")
    if cube is None:
        raise BadImage("without data", "holds no image, but one of shape (3, H, H) is needed: add it")
    bands = cube.shape[0] if cube.ndim == 3 else 1
    if cube.ndim not in (2, 3) or bands != len(_BANDS):
        many = f"{bands} band{'' if bands == 1 else 's'}"
        raise BadImage("not three bands", f"has {many}, but g, r and z are needed: store an array of shape (3, H, H)")
    if cube.shape[1] != cube.shape[2]:
        raise BadImage("not square", f"is {cube.shape[2]} x {cube.shape[1]} px, but a square is needed: crop it")
    cube = cube.astype(np.float32)
    if not np.isfinite(cube).all():
        bad = np.count_nonzero(~np.isfinite(cube))
        raise BadImage(
            "NaN", f"has NaN or infinity in {bad:,} of {cube.size:,} values, but finite fluxes are needed: replace them"
        )
    return cube, header


def _scale(header):
    """Return the pixel scale in arcsec/px, NaN without a celestial WCS."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            wcs = WCS(header).celestial
            if wcs.naxis != 2 or "CTYPE1" not in header:
                return math.nan
            scale = float(np.mean(proj_plane_pixel_scales(wcs))) * 3600
    except Exception:  # a header without a usable WCS
        return math.nan
    return scale if 0 < scale < 3600 else math.nan


def _light(scale, side):
    """Return how much more light a pixel of a cutout holds than one of the survey."""
    return ((FIELD / side if math.isnan(scale) else scale) / _PIXEL) ** 2


def fluxes(image):
    """Return the fluxes that `galaxynb.standin.field.survey_rgb` maps to an image.

    That function clips each channel to [0, 1]. Where a channel is white, all three fluxes are too low. Where it is
    black, its flux is too high.

    Parameters
    ----------
    image : ndarray of float32, shape (H, W, 3)
        RGB in [0, 1].

    Returns
    -------
    ndarray of float32, shape (3, H, W)
        Fluxes in g, r and z, nanomaggies per pixel.

    Examples
    --------
    >>> flux = np.array([0.01, 0.02, 0.03], np.float32).reshape(3, 1, 1)
    >>> np.allclose(fluxes(survey_rgb(*flux)), flux, rtol=1e-4)
    True
    """
    scales, offset, softening = (6.0, 3.4, 2.2), 0.03, 20.0
    mean = image.mean(axis=2)
    intensity = np.sinh(mean * math.sqrt(softening)) / softening
    gain = np.where(intensity > 1e-9, intensity / np.maximum(mean, 1e-9), 1 / math.sqrt(softening))
    planes = [(image[..., channel] * gain - offset) / scale for channel, scale in zip((2, 1, 0), scales, strict=True)]
    return np.stack(planes).astype(np.float32)


def write_cutout(image, path, *, origin, side, history):
    """Write an RGB image as a FITS cutout, with the header of the cutout that it was made from.

    Parameters
    ----------
    image : ndarray of float32, shape (S, S, 3)
        RGB in [0, 1], from the centre of the original.
    path : pathlib.Path
        File to write.
    origin : pathlib.Path
        The original cutout.
    side : int
        Side in pixels of the part of the original that `image` shows.
    history : str
        Line for the header.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        cube, header = _read(origin)
        share = _light(_scale(header), cube.shape[1])
        factor, first = side / image.shape[0], (cube.shape[1] - side) / 2
        for axis in (1, 2):
            if f"CRPIX{axis}" in header:
                header[f"CRPIX{axis}"] = (header[f"CRPIX{axis}"] - 0.5 - first) / factor + 0.5
            if f"CDELT{axis}" in header:
                header[f"CDELT{axis}"] *= factor
            for other in (1, 2):
                if f"CD{axis}_{other}" in header:
                    header[f"CD{axis}_{other}"] *= factor
        for checksum in ("CHECKSUM", "DATASUM"):
            header.remove(checksum, ignore_missing=True)
        header.add_history(history)
        flux = fluxes(image)[:, ::-1] * np.float32(share * factor**2)  # a coarser pixel holds the light of several
        fits.PrimaryHDU(flux, header).writeto(path, output_verify="silentfix", overwrite=True)
