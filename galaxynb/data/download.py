"""Download the published Galaxy10 DECaLS file: resume a broken download and verify the checksum."""

import contextlib
import http
import logging
import math
import sys
import time
from pathlib import Path

import pooch
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from galaxynb import __version__
from galaxynb.data.galaxy10 import GALAXY10_FILE, GALAXY10_SHA256, GALAXY10_URLS
from galaxynb.files import explain_full_disk

__all__ = ["fetch_galaxy10"]


_USER_AGENT = f"galaxynb/{__version__}"  # Zenodo refuses Python's default name with 403

_TIMEOUT = (10, 60)  # seconds: to connect, and between two packets

_HOURS = 6  # time limit of a call

_ATTEMPTS = 4  # attempts in a row without a new byte before a source is given up

_BACKOFF = 1.0  # seconds: wait after the first such attempt; each further one doubles it

_LONGEST_WAIT = 900  # seconds: if a server asks for a longer wait, or one beyond the time limit, try another source

_LONG = 10  # seconds: a longer wait is announced

_BUSY = {429, 500, 502, 503, 504}  # statuses of HTTP after which the request is repeated

_BLOCK = 2**16  # bytes written at most at a time, between which the time limit is checked

#: What the user can do about some statuses of HTTP.
_ADVICE = {
    403: "the server refuses this program or this network, so download the file with a browser and give its path",
    429: "the server has had too many requests from here, so wait an hour and run again to resume",
}
_SERVER_ADVICE = "the server has a fault of its own, so wait and run again to resume"


def fetch_galaxy10(
    cache_dir, *, urls=GALAXY10_URLS, known_hash=f"sha256:{GALAXY10_SHA256}", hours=_HOURS, progress=True
):
    """Download Galaxy10 DECaLS (2.54 GB), unless the file is already there, and verify its checksum.

    A broken download is kept as ``Galaxy10_DECals.h5.part``. Further attempts, in this call or a later one, resume
    it where it stopped, also from another source. A file with a wrong checksum is removed.

    Parameters
    ----------
    cache_dir : str or os.PathLike
        Folder to download to. It is created if it is missing.
    urls : sequence of str, optional
        Addresses of the file. Each one is tried if all earlier ones fail. The default is the published file on Zenodo,
        then the copy at the University of Toronto.
    known_hash : str, optional
        Checksum in pooch's form: "sha256:" and 64 hexadecimal digits. The default is that of the published file.
    hours : float, optional
        Time limit of this call. A later call resumes the download.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    pathlib.Path
        The complete file, ``cache_dir/Galaxy10_DECals.h5``.

    Raises
    ------
    ConnectionError
        If every server refuses the request, cannot be reached or keeps breaking the connection.
    TimeoutError
        If the time limit is reached.
    ValueError
        If the checksum of the downloaded file is wrong.
    OSError
        If the disk is full.

    Examples
    --------
    >>> path = fetch_galaxy10("data")  # doctest: +SKIP
    """
    final = Path(cache_dir) / GALAXY10_FILE
    end = time.monotonic() + hours * 3600

    def download(address, output, _):
        # Pooch calls this only if the file is missing or has a wrong checksum. Remove it before downloading, so
        # that a wrong file never has the name of a complete one.
        final.unlink(missing_ok=True)
        part = final.with_name(f"{final.name}.part")
        try:
            _download(address, part, end, progress)
        except _TimeLimitError as error:
            raise TimeoutError(
                f"the download of {address} has {_size(part):,} bytes after {hours:g} hours, its time limit, but the "
                f"whole file is needed: run again to resume from {part}"
            ) from error
        part.replace(output)

    faults = []
    with _quiet(pooch.get_logger()):
        for url in urls:
            try:
                pooch.retrieve(url, known_hash, fname=final.name, path=final.parent, downloader=download)
            except ConnectionError as error:
                faults.append(error)
            except ValueError as error:
                faults.append(
                    ValueError(
                        f"the checksum of the file downloaded from {url} is wrong, but {known_hash} is needed: run "
                        f"again to download it anew, since the wrong file was removed"
                    )
                )
                faults[-1].__cause__ = error
            else:
                return final
    if len(faults) == 1:
        raise faults[0]
    raise ConnectionError("; ".join(map(str, faults))) from faults[-1]


@contextlib.contextmanager
def _quiet(logger):
    """Silence pooch's progress reports, which our progress bar replaces, but not its warnings."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _TimeLimitError(Exception):
    """The time limit of the call is reached."""


def _session():
    """Return a session that sends the name of this program."""
    session = requests.Session()
    # "identity": otherwise the server may compress the transfer, and byte counts would not be those of the file.
    session.headers.update({"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"})
    return session


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _download(url, part, end, progress):
    """Download the rest of `url` to `part`. Give up after `_ATTEMPTS` attempts in a row without a new byte."""
    reached, fruitless = _size(part), 0
    with _session() as session:
        while True:
            try:
                return _request_rest(session, url, part, end, progress)
            except (requests.RequestException, HTTPError) as error:
                # A server without range requests sends the file from byte 0 each time, so an attempt counts as
                # progress only if it gets further than all earlier ones.
                fruitless = 0 if _size(part) > reached else fruitless + 1
                reached = max(reached, _size(part))
                answer = getattr(error, "response", None)
                asked = _asked_wait(answer)
                too_long = asked > min(_LONGEST_WAIT, max(0, end - time.monotonic()))
                if too_long or fruitless == _ATTEMPTS or (answer is not None and answer.status_code not in _BUSY):
                    raise ConnectionError(_fault(url, part, error, asked if too_long else None)) from error
            if asked > _LONG and progress:
                tqdm.write(f"{url}: the server asks to wait {asked:,.0f} s.", file=sys.stderr)
            time.sleep(max(0, min(asked or _BACKOFF * 2**fruitless, end - time.monotonic())))
            if time.monotonic() > end:
                raise _TimeLimitError


def _asked_wait(answer):
    """Return how many seconds a server asks to wait (Retry-After), 0 if it does not say."""
    try:
        return Retry().get_retry_after(answer.raw) or 0 if answer is not None else 0
    except InvalidHeader:
        return 0


def _fault(url, part, error, wait):
    """Return what went wrong with a download, and what to do about it. `wait` is a wait that is too long, or None."""
    answer = getattr(error, "response", None)
    if answer is None:
        return (
            f"the download of {url} broke off after {_size(part):,} bytes ({type(error).__name__}), but the whole "
            f"file is needed: run again to resume from {part}"
        )
    status = answer.status_code
    name = http.HTTPStatus(status).phrase if status in iter(http.HTTPStatus) else "unknown"
    usual = _SERVER_ADVICE if status >= 500 else "check the address, or download the file by hand"
    advice = _ADVICE.get(status, usual) if wait is None else f"wait {math.ceil(wait / 60):,} min and run again"
    return f"the answer of the server to {url} is {status} {name}, but the file is needed: {advice}"


def _request_rest(session, url, part, end, progress):
    """Request once the bytes that `part` lacks, and append them as they arrive."""
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
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
            # `read1` returns what has arrived, so a slow server does not delay the check of the time limit.
            while block := answer.raw.read1(_BLOCK, decode_content=True):
                file.write(block)
                bar.update(len(block))
                if time.monotonic() > end:
                    raise _TimeLimitError
