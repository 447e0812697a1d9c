"""Downloads from a real server on this machine that answers as Zenodo does: broken, refused, redirected, verified."""

import contextlib
import hashlib
import http.server
import logging
import threading
import time

import full_disk
import numpy as np
import pooch
import pytest
import requests

from galaxynb import __version__
from galaxynb.data.download import fetch_galaxy10
from galaxynb.data.galaxy10 import GALAXY10_URLS

FILE_NAME = "Galaxy10_DECals.h5"


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


class Server(http.server.ThreadingHTTPServer):
    """Serve `body` on this machine. `plan` lists how to answer the next requests."""

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.ranges = True
        self.plan = []
        self.log = []
        self.agents = set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/files/{FILE_NAME}"

    @property
    def sha256(self):
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers["Range"]
        if "/records/" in self.path:  # Zenodo sends readers on to its store of files
            self.send_response(302)
            self.send_header("Location", self.path.replace("/records/", "/files/"))
            self.end_headers()
            return
        server.log.append(asked)
        server.agents.add(self.headers["User-Agent"])
        step = server.plan.pop(0) if server.plan else {}
        body = step.get("body", server.body)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        start = step.get("start", start)
        if "status" in step:
            self.send_response(step["status"])
            if "retry_after" in step:
                self.send_header("Retry-After", step["retry_after"])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.headers["User-Agent"].lower().startswith("python"):
            self.send_error(403)
        elif start >= len(body):
            self.send_response(416)
            if step.get("say_total", True):
                self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
        else:
            self.send_response(206 if asked and server.ranges else 200)
            if asked and server.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            # Fewer bytes than promised: the connection breaks mid-body.
            data = body[start:][: step.get("cut")]
            size = step.get("slice", len(data)) or 1
            with contextlib.suppress(ConnectionError):
                for place in range(0, len(data), size):
                    self.wfile.write(data[place : place + size])
                    time.sleep(step.get("delay", 0))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("galaxynb.data.download._BACKOFF", 0)
    monkeypatch.setattr("galaxynb.data.download._BLOCK", 1000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(np.random.default_rng(0).bytes(50_000)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server, folder, **options):
    options = {"urls": [server.url]} | options
    return fetch_galaxy10(folder, **{"known_hash": server.sha256, "progress": False} | options)


def test_a_download_after_which_no_network_is_needed(server, tmp_path):
    for _ in range(2):
        path = fetch(server, tmp_path / "new" / "folder")
        assert path == tmp_path / "new" / "folder" / FILE_NAME
        assert path.read_bytes() == server.body
        assert names(path.parent) == [FILE_NAME]
        assert server.log == [None]


@pytest.mark.parametrize(
    ("ranges", "part", "plan", "log"),
    [
        (True, 0, [{"cut": 20_000}, {"cut": 5_000}], [None, "bytes=20000-", "bytes=25000-"]),
        (False, 0, [{"cut": 20_000}], [None, "bytes=20000-"]),
        # The server sends another part than was asked for.
        (True, 0, [{"cut": 20_000}, {"start": 10_000}], [None, "bytes=20000-", None]),
        # The part lacks nothing, and then it is longer than the file.
        (True, 50_000, [{"say_total": True}], ["bytes=50000-"]),
        (True, 50_000, [{"say_total": False}], ["bytes=50000-"]),
        (True, 60_000, [], ["bytes=60000-", None]),
        # The server is busy.
        (True, 0, [{"status": 429}] * 2, [None] * 3),
        (True, 0, [{"status": 503, "retry_after": "0"}] * 2, [None] * 3),
        (True, 0, [{"cut": 20_000}, {"status": 502}], [None, "bytes=20000-", "bytes=20000-"]),
    ],
)
def test_a_download_goes_on_at_the_right_byte_or_starts_again(server, tmp_path, ranges, part, plan, log):
    server.ranges, server.plan = ranges, plan.copy()
    if part:
        (tmp_path / f"{FILE_NAME}.part").write_bytes((server.body + bytes(10_000))[:part])
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == log
    assert names(tmp_path) == [FILE_NAME]


def test_the_next_call_goes_on_where_the_last_one_stopped(server, tmp_path):
    server.plan = [{"cut": 20_000}, *[{"cut": 0}] * 4]
    with pytest.raises(ConnectionError, match=r"broke off after 20,000 bytes .*: run again to resume from .*\.part"):
        fetch(server, tmp_path)
    assert names(tmp_path) == [f"{FILE_NAME}.part"]
    assert (tmp_path / f"{FILE_NAME}.part").read_bytes() == server.body[:20_000]
    server.log.clear()
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert server.log == ["bytes=20000-"]
    assert names(tmp_path) == [FILE_NAME]


def test_a_server_without_ranges_that_keeps_breaking_is_given_up(server, tmp_path):
    server.ranges = False
    server.plan = [{"cut": 20_000}] * 20
    with pytest.raises(ConnectionError, match="broke off after 20,000 bytes"):
        fetch(server, tmp_path)
    assert len(server.log) == 5


@pytest.mark.parametrize("cut", [None, 20_000])
def test_a_wrong_checksum_leaves_nothing(server, tmp_path, cut):
    bad = bytearray(server.body)
    bad[100] ^= 1
    server.plan = [{"body": bytes(bad), "cut": cut}]
    with pytest.raises(ValueError, match=r"checksum of .* is wrong, but sha256:.* is needed: run again .* removed"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []
    assert fetch(server, tmp_path).read_bytes() == server.body


def test_a_wrong_file_in_place_is_replaced_or_removed(server, tmp_path):
    path = tmp_path / FILE_NAME
    path.write_bytes(server.body[:-1])
    server.plan = [{"body": b"not it"}]
    with pytest.raises(ValueError, match="checksum"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []
    path.write_bytes(server.body[:-1])
    assert fetch(server, tmp_path).read_bytes() == server.body


@pytest.mark.parametrize(
    ("step", "asked", "message"),
    [
        ({"status": 404}, 1, "404 Not Found, but the file is needed: check the address"),
        ({"status": 403}, 1, "403 Forbidden, but the file is needed: the server refuses this program or this network"),
        ({"status": 429}, 4, "429 Too Many Requests, but .*: the server has had too many requests .*, so wait an hour"),
        ({"status": 429, "retry_after": "7200"}, 1, "429 Too Many Requests, but .*: wait 120 min and run again"),
        ({"status": 504}, 4, "504 Gateway Timeout, but .*: the server has a fault of its own, so wait and run again"),
        ({"status": 507}, 1, "507 Insufficient Storage, but .*: the server has a fault of its own"),
        ({"status": 599}, 1, "599 unknown, but .*: the server has a fault of its own"),
    ],
)
def test_a_refusal_comes_with_advice(server, tmp_path, step, asked, message):
    server.plan = [step] * 9
    with pytest.raises(ConnectionError, match=f"the answer of the server to .* is {message}"):
        fetch(server, tmp_path)
    assert server.log == [None] * asked
    assert names(tmp_path) == []


def test_the_program_says_who_it_is(server, tmp_path):
    fetch(server, tmp_path, urls=[server.url.replace("/files/", "/records/")])
    assert server.agents == {f"galaxynb/{__version__}"}
    assert requests.get(server.url, timeout=9).status_code == 403


@pytest.mark.parametrize("long", [0.5, 1])
def test_a_busy_server_says_how_long_to_wait(server, tmp_path, monkeypatch, capsys, long):
    monkeypatch.setattr("galaxynb.data.download._LONG", long)
    server.plan = [{"status": 429, "retry_after": "1"}]
    began = time.monotonic()
    fetch(server, tmp_path, progress=True)
    assert 1 <= time.monotonic() - began < 9
    assert (f"{server.url}: the server asks to wait 1 s.\n" in capsys.readouterr().err) == (long < 1)


@pytest.mark.parametrize("asked", ["soon", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_a_busy_server_does_not_say_how_long_to_wait(server, tmp_path, asked):
    server.plan = [{"status": 429, "retry_after": asked}]
    assert fetch(server, tmp_path).read_bytes() == server.body


def test_no_wait_goes_beyond_the_time_limit(server, tmp_path, monkeypatch):
    began = time.monotonic()
    server.plan = [{"status": 429, "retry_after": "5"}]
    fetch(server, tmp_path / "a", urls=[server.url, server.url], hours=4 / 3600)  # the second source needs no wait
    server.plan = [{"status": 429, "retry_after": "5"}]
    with pytest.raises(ConnectionError, match=r"429 Too Many Requests, but .*: wait 1 min and run again"):
        fetch(server, tmp_path / "b", hours=4 / 3600)
    monkeypatch.setattr("galaxynb.data.download._BACKOFF", 5)
    server.plan = [{"cut": 0}]
    with pytest.raises(TimeoutError, match=r"has 0 bytes after .* hours, its time limit"):
        fetch(server, tmp_path / "c", hours=0.5 / 3600)
    assert time.monotonic() - began < 4


def test_a_slow_server_does_not_delay_the_time_limit(server, tmp_path, monkeypatch):
    monkeypatch.setattr("galaxynb.data.download._BLOCK", 2**16)
    server.plan = [{"slice": 1000, "delay": 0.1}]  # 5 s
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"has [0-9],000 bytes after .* hours, its time limit"):
        fetch(server, tmp_path, hours=0.3 / 3600)
    assert time.monotonic() - began < 3


def test_a_redirected_download_resumes(server, tmp_path):
    server.plan = [{"cut": 20_000}]
    path = fetch(server, tmp_path, urls=[server.url.replace("/files/", "/records/")])
    assert path.read_bytes() == server.body
    assert server.log == [None, "bytes=20000-"]


@pytest.mark.parametrize(
    ("plan", "log"),
    [
        ([{"status": 403}], [None, None]),
        ([{"body": b"not it"}], [None, None]),
        ([{"cut": 20_000}, *[{"cut": 0}] * 4], [None, *["bytes=20000-"] * 5]),
    ],
    ids=["refused", "wrong", "broken"],
)
def test_a_second_source_goes_on_where_the_first_fails(server, tmp_path, plan, log):
    server.plan = plan.copy()
    assert fetch(server, tmp_path, urls=[server.url, server.url]).read_bytes() == server.body
    assert server.log == log
    assert names(tmp_path) == [FILE_NAME]


def test_no_source_works(server, tmp_path):
    server.plan = [{"status": 403}, {"status": 404}]
    with pytest.raises(ConnectionError, match=r"server to .* is 403 Forbidden, .*; the answer .* is 404 Not Found, "):
        fetch(server, tmp_path, urls=[server.url, server.url])
    assert [url.partition("/")[0] for url in GALAXY10_URLS] == ["https:", "https:"]


@pytest.mark.parametrize("plan", [[], [{"cut": 20_000}]])
def test_the_time_limit_is_stated(server, tmp_path, plan):
    server.plan = plan.copy()
    message = r"has [0-9,]+ bytes after 0 hours, its time limit, but .*: run again to resume from .*\.part"
    with pytest.raises(TimeoutError, match=message):
        fetch(server, tmp_path, urls=[server.url, server.url], hours=0)
    assert len(server.log) == 1
    assert fetch(server, tmp_path).read_bytes() == server.body
    assert len(server.log) == 2


def test_no_server(server, tmp_path):
    url = "http://127.0.0.1:9/" + FILE_NAME  # discard: nothing listens there
    with pytest.raises(ConnectionError, match=r"broke off after 0 bytes \(ConnectionError\)"):
        fetch_galaxy10(tmp_path, urls=[url], known_hash=server.sha256, progress=False)
    assert names(tmp_path) == []


def test_a_silent_server_times_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr("galaxynb.data.download._TIMEOUT", (1, 0.05))
    monkeypatch.setattr(Handler, "do_GET", lambda _: threading.Event().wait(0.3))
    with pytest.raises(ConnectionError, match=r"broke off after 0 bytes \(ReadTimeout\)"):
        fetch(server, tmp_path)


def test_a_full_disk_while_downloading(server, tmp_path):
    code = (
        "from galaxynb.data.download import fetch_galaxy10\n"
        f"fetch_galaxy10({str(tmp_path)!r}, urls=[{server.url!r}], known_hash={server.sha256!r}, progress=False)"
    )
    last = full_disk.last_line(code, limit=30_000)
    assert f"the disk of {tmp_path} has no room for {FILE_NAME}.part, which needs 50,000 bytes" in last
    assert names(tmp_path) == [f"{FILE_NAME}.part"]
    assert fetch(server, tmp_path).read_bytes() == server.body


def test_the_bar_is_the_only_report(server, tmp_path, capsys, caplog):
    logger = pooch.get_logger()
    level = logger.level
    logger.addHandler(caplog.handler)
    try:
        fetch_galaxy10(tmp_path, urls=[server.url], known_hash=server.sha256)
    finally:
        logger.removeHandler(caplog.handler)
    assert f"{FILE_NAME}: 100%" in capsys.readouterr().err
    assert caplog.records == []
    assert logger.level == level < logging.WARNING
