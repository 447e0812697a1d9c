"""Checksums of inputs and results, and text files that are written only if their content changes."""

import hashlib
import os
import zipfile
from pathlib import Path

from galaxynb.files import written_aside
from galaxynb.stages import STAGES


def write_if_changed(path, text):
    """Write a text file, unless it already holds this text."""
    path = Path(path)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with written_aside(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def checksums(paths):
    """Return the SHA-256 of each file by its path; None for one that is missing."""
    return {os.fspath(path): _checksum(Path(path)) if Path(path).is_file() else None for path in paths}


def checksums_of_results(stage, folder):
    """Return checksums of the files that later stages read, by their paths within the folder.

    Checksums do not depend on the time at which results were made. So if a stage runs again with the same results, no
    later stage has to run again.
    """
    found = {}
    for name in STAGES[stage].passes_on:
        made = Path(folder, name)
        for path in sorted(made.rglob("*")) if made.is_dir() else [made]:
            if path.is_file():
                network = path.suffix == ".keras"
                found[path.relative_to(folder).as_posix()] = _network_checksum(path) if network else _checksum(path)
    return found


def _checksum(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _network_checksum(path):
    """Hash the content of a saved network, without the times that the archive also records."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name != "metadata.json":
                digest.update(name.encode() + hashlib.sha256(archive.read(name)).digest())
    return digest.hexdigest()
