"""Download the published Galaxy10 DECaLS file, resume a broken download, and verify the checksum."""

import contextlib
import logging
import time
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

from galaxynb.data.galaxy10 import GALAXY10_SHA256, GALAXY10_URL
from galaxynb.files import explain_full_disk

__all__ = [
    "fetch_galaxy10",
]


# Downloading: seconds to connect and between two packets; fruitless attempts in a row.
_TIMEOUT = (10, 60)

_ATTEMPTS = 4

_BACKOFF = 1.0

_BLOCK = 2**20


def fetch_galaxy10(
    cache_dir,
    *,
    url=GALAXY10_URL,
    known_hash=f"sha256:{GALAXY10_SHA256}",
    progress=True,
):
    """Download Galaxy10 DECaLS (2.54 GB) unless it is there already, and check it.

    A broken download is kept as ``Galaxy10_DECals.h5.part`` and goes on where it stopped, both
    within a call and in the next one. A file with a wrong checksum is removed.

    Parameters
    ----------
    cache_dir : str or os.PathLike
        The folder to download to. It is created.
    url : str
    known_hash : str
        The checksum as pooch writes it, such as "sha256:19ae...".
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    pathlib.Path
        The complete file.

    Raises
    ------
    ConnectionError
        If the server can't be reached, refuses, or the connection keeps breaking.
    ValueError
        If the checksum is wrong.
    OSError
        If the disk is full.
    """
    final = Path(cache_dir) / GALAXY10_URL.rpartition("/")[2]

    def download(address, output, _):
        # Pooch calls this only if the file is missing or wrong: a wrong one must not look finished.
        final.unlink(missing_ok=True)
        part = final.with_name(f"{final.name}.part")
        _download(address, part, progress)
        part.replace(output)

    with _quiet(pooch.get_logger()):
        try:
            pooch.retrieve(url, known_hash, fname=final.name, path=final.parent, downloader=download)
        except ValueError as error:
            raise ValueError(
                f"the file downloaded from {url} does not have the expected checksum {known_hash} and "
                f"was removed: run again to download it anew"
            ) from error
    return final


# --- downloading


@contextlib.contextmanager
def _quiet(logger):
    """Silence pooch's progress reports, since ours say the same, but not its warnings."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _download(url, part, progress):
    """Bring `part` to the end of the file at `url`; give up after several fruitless attempts."""
    reached, fruitless = _size(part), 0
    while True:
        try:
            return _request_rest(url, part, progress)
        except requests.RequestException as error:
            status = None if error.response is None else error.response.status_code
            if status is not None and status < 500 and status != requests.codes.too_many_requests:
                raise ConnectionError(
                    f"{url} can't be downloaded, because the server answered {status} "
                    f"{error.response.reason}: check the address, or download the file by hand"
                ) from error
            # A server without range requests starts at 0 each time: only new ground is progress.
            fruitless = 0 if _size(part) > reached else fruitless + 1
            reached = max(reached, _size(part))
            if fruitless == _ATTEMPTS:
                raise ConnectionError(
                    f"the download of {url} broke off after {_size(part):,} bytes "
                    f"({type(error).__name__}): what has arrived is kept in {part}, run again to go on"
                ) from error
            time.sleep(_BACKOFF * 2**fruitless)


def _request_rest(url, part, progress):
    """Ask once for the bytes that `part` lacks and append them as they come."""
    have = _size(part)
    # Compressed on the way, the bytes counted would not be the file's.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        part_of = answer.headers.get("Content-Range", "")
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            if part_of in ("", f"bytes */{have}"):
                return  # nothing is lacking, or the server doesn't say: the checksum will tell
            part.unlink()  # longer than the file: no beginning of it
            raise requests.ConnectionError("the part kept is not of this file")
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            have = 0  # the server sends the whole file
        elif not part_of.startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the server sent another part than asked for")
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
