"""Download the published Galaxy10 DECaLS file: resume a broken download and verify the checksum."""

import contextlib
import logging
import time
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

from galaxynb.data.galaxy10 import GALAXY10_SHA256, GALAXY10_URL
from galaxynb.files import explain_full_disk

__all__ = ["fetch_galaxy10"]


_TIMEOUT = (10, 60)  # seconds: to connect, and between two packets

_ATTEMPTS = 4  # attempts in a row without a new byte before the download is given up

_BACKOFF = 1.0  # seconds: wait after the first such attempt; each further one doubles it

_BLOCK = 2**20  # bytes written at a time


def fetch_galaxy10(cache_dir, *, url=GALAXY10_URL, known_hash=f"sha256:{GALAXY10_SHA256}", progress=True):
    """Download Galaxy10 DECaLS (2.54 GB), unless the file is already there, and verify its checksum.

    A broken download is kept as ``Galaxy10_DECals.h5.part``. Further attempts, in this call or a later one, resume
    it where it stopped. A file with a wrong checksum is removed.

    Parameters
    ----------
    cache_dir : str or os.PathLike
        Folder to download to. It is created if it is missing.
    url : str, optional
        Address of the file. The default is the published file on Zenodo.
    known_hash : str, optional
        Checksum in pooch's form: "sha256:" and 64 hexadecimal digits. The default is that of the published file.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    pathlib.Path
        The complete file, ``cache_dir/Galaxy10_DECals.h5``.

    Raises
    ------
    ConnectionError
        If the server cannot be reached or refuses the request, or if the connection keeps breaking.
    ValueError
        If the checksum of the downloaded file is wrong.
    OSError
        If the disk is full.

    Examples
    --------
    >>> path = fetch_galaxy10("data")  # doctest: +SKIP
    """
    final = Path(cache_dir) / GALAXY10_URL.rpartition("/")[2]

    def download(address, output, _):
        # Pooch calls this only if the file is missing or has a wrong checksum. Remove it before downloading, so
        # that a wrong file never has the name of a complete one.
        final.unlink(missing_ok=True)
        part = final.with_name(f"{final.name}.part")
        _download(address, part, progress)
        part.replace(output)

    with _quiet(pooch.get_logger()):
        try:
            pooch.retrieve(url, known_hash, fname=final.name, path=final.parent, downloader=download)
        except ValueError as error:
            raise ValueError(
                f"the checksum of the file downloaded from {url} is wrong, but {known_hash} is needed: run again to "
                f"download it anew, since the wrong file was removed"
            ) from error
    return final


@contextlib.contextmanager
def _quiet(logger):
    """Silence pooch's progress reports, which our progress bar replaces, but not its warnings."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _download(url, part, progress):
    """Download the rest of `url` to `part`. Give up after `_ATTEMPTS` attempts in a row without a new byte."""
    reached, fruitless = _size(part), 0
    while True:
        try:
            return _request_rest(url, part, progress)
        except requests.RequestException as error:
            status = None if error.response is None else error.response.status_code
            if status is not None and status < 500 and status != requests.codes.too_many_requests:
                raise ConnectionError(
                    f"the answer of the server to {url} is {status} {error.response.reason}, but the file is needed: "
                    f"check the address, or download the file by hand"
                ) from error
            # A server without range requests sends the file from byte 0 each time, so an attempt counts as progress
            # only if it gets further than all earlier ones.
            fruitless = 0 if _size(part) > reached else fruitless + 1
            reached = max(reached, _size(part))
            if fruitless == _ATTEMPTS:
                raise ConnectionError(
                    f"the download of {url} broke off after {_size(part):,} bytes ({type(error).__name__}), but the "
                    f"whole file is needed: run again to resume from {part}"
                ) from error
            time.sleep(_BACKOFF * 2**fruitless)


def _request_rest(url, part, progress):
    """Request once the bytes that `part` lacks, and append them as they arrive."""
    have = _size(part)
    # Without "identity" the server may compress the transfer, and byte counts would not be those of the file.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        part_of = answer.headers.get("Content-Range", "")
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            if part_of in ("", f"bytes */{have}"):
                return  # `part` is complete, or the server gives no size: the checksum decides
            part.unlink()  # longer than the file, so it belongs to another file
            raise requests.ConnectionError("the partial file belongs to another file")
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            have = 0  # the server sends the whole file
        elif not part_of.startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the server sent another range than the requested one")
        length = answer.headers.get("Content-Length")
        lacking = int(length) if length else None
        with (
            explain_full_disk(part, lacking or 0),
            part.open("ab" if have else "wb") as file,
            tqdm(
                desc=part.stem,
                total=have + lacking if lacking else None,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=not progress,
            ) as bar,
        ):
            for block in answer.iter_content(_BLOCK):
                file.write(block)
                bar.update(len(block))
