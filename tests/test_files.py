import json
import os
import signal
import subprocess
import sys

import pytest

from galaxynb.files import write_json, written_aside

KILLED = """
import os, signal
from pathlib import Path
from galaxynb import files
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(code):
    """Run `code` in a process that kills itself where the code calls `die`."""
    done = subprocess.run([sys.executable, "-c", KILLED + code], check=False)
    assert done.returncode == -signal.SIGKILL


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_only_when_complete(tmp_path):
    target = tmp_path / "deep" / "table.csv"
    with written_aside(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(target.parent) == ["table.csv"]


def test_a_folder_replaces_an_earlier_one(tmp_path):
    target = tmp_path / "cache"
    for text in ("old", "new"):
        with written_aside(target) as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["cache"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failure_leaves_the_earlier_result_and_nothing_else(tmp_path, kind):
    target = tmp_path / "result"

    def write(path, text):
        if kind == "folder":
            path.mkdir()
            path = path / "inner"
        path.write_text(text)

    with written_aside(target) as temporary:
        write(temporary, "old")
    with pytest.raises(RuntimeError, match="stop"), written_aside(target) as temporary:  # noqa: PT012
        write(temporary, "half")
        raise RuntimeError("stop")
    assert names(tmp_path) == ["result"]
    assert (target / "inner" if kind == "folder" else target).read_text() == "old"


def test_a_folder_that_cannot_be_renamed_brings_the_earlier_one_back(tmp_path, monkeypatch):
    target = tmp_path / "cache"
    target.mkdir()
    (target / "old").touch()
    rename = type(target).rename

    def refuse(path, to):
        if ".partial" in path.name:
            raise PermissionError("not now")
        return rename(path, to)

    monkeypatch.setattr(type(target), "rename", refuse)
    with pytest.raises(PermissionError, match="not now"), written_aside(target) as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["cache"]
    assert names(target) == ["old"]


def test_writing_nothing_is_an_error(tmp_path):
    nothing = pytest.raises(FileNotFoundError, match=r"nothing was written for .*table\.csv")
    with nothing, written_aside(tmp_path / "table.csv"):
        pass
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a process can't be asked after safely")
class TestKilledProcess:
    def test_what_it_left_is_removed_by_the_next_writer_of_the_same_file(self, tmp_path):
        target = tmp_path / "cache"
        half = "as aside: aside.mkdir(); (aside / 'half').touch(); die()"
        for name in ("cache", "other"):
            killed(f"with files.written_aside({str(tmp_path / name)!r}) {half}")
        assert len(names(tmp_path)) == 2
        assert not target.exists()
        with written_aside(target) as aside:
            aside.mkdir()
        other, cache = names(tmp_path)
        assert cache == "cache"
        assert other.startswith(".other.")

    def test_between_the_two_renames_the_earlier_folder_comes_back(self, tmp_path):
        target = tmp_path / "cache"
        target.mkdir()
        (target / "old").touch()
        killed(
            "rename = Path.rename\n"
            "Path.rename = lambda path, to: die() if '.partial' in path.name else rename(path, to)\n"
            f"with files.written_aside({str(target)!r}) as aside: aside.mkdir()\n"
        )
        assert not target.exists()
        with pytest.raises(RuntimeError, match="stop"), written_aside(target):
            raise RuntimeError("stop")
        assert names(tmp_path) == ["cache"]
        assert names(target) == ["old"]

    def test_a_living_process_is_left_alone(self, tmp_path):
        target = tmp_path / "table.csv"
        code = (
            "import sys; from galaxynb import files\n"
            f"with files.written_aside({str(target)!r}) as temporary:\n"
            "    temporary.write_text('theirs'); print('ready', flush=True); sys.stdin.readline()\n"
        )
        command, pipe = [sys.executable, "-c", code], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
            assert other.stdout.readline() == "ready\n"
            with written_aside(target) as temporary:
                temporary.write_text("ours")
            assert target.read_text() == "ours"
            other.communicate("\n")
        assert other.returncode == 0
        assert target.read_text() == "theirs"


def test_json_is_sorted_and_a_refused_nan_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "numbers.json"
    write_json(path, {"b": 1, "a": [0.5, None]})
    text = path.read_text()
    assert json.loads(text) == {"a": [0.5, None], "b": 1}
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"accuracy": float("nan")})
    assert path.read_text() == text
    assert names(tmp_path) == ["numbers.json"]
