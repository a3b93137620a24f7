"""deploy/gunicorn.conf.py under the portal's own server."""

from __future__ import annotations

import http.client
import json
import runpy
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from gunicorn.config import Config

from broker.web.audit_query import LONGEST_FILTER
from tests.deploy.echo_server import SLOW_SECONDS
from tests.deploy.processes import DEPLOY, Running, echo_server

_LISTENING = "0A"  # state TCP_LISTEN in /proc/net/tcp
_ACCEPTS_CONNECTIONS = 0x10000  # flag __SO_ACCEPTCON in /proc/net/unix


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    # Variables that gunicorn would take as its own defaults: none of them may count.
    hostile = {"FORWARDED_ALLOW_IPS": "*", "WEB_CONCURRENCY": "7", "PORT": "1", "GUNICORN_CMD_ARGS": "--workers 7"}
    places = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    with echo_server(tmp_path_factory.mktemp("log") / "server.log", {**hostile, **places}) as started:
        yield started


def ask(server: Running, path: str = "/", headers: dict[str, str] | None = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def status_of(server: Running, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        return int(connection.makefile("rb").readline().split()[1])


def test_every_name_in_it_is_a_setting_of_gunicorn() -> None:
    names = {name for name in runpy.run_path(str(DEPLOY / "gunicorn.conf.py")) if not name.startswith("_")}
    assert names - {"Path"} <= set(Config().settings)


def test_what_a_proxy_claims_about_the_scheme_or_the_path_is_not_believed(server: Running) -> None:
    claims = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "on", "Script-Name": "/admin", "Path-Info": "/admin"}

    told = ask(server, "/page", claims)["environ"]

    assert told["wsgi.url_scheme"] == "http"
    assert told["PATH_INFO"] == "/page"
    assert not told["SCRIPT_NAME"]
    assert told["REMOTE_ADDR"] == "127.0.0.1"


def test_contradicting_proxy_headers_do_not_turn_a_request_away(server: Running) -> None:
    assert ask(server, "/", {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"})["body"] == 0


def test_a_header_with_an_underscore_cannot_pass_for_another(server: Running) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 203.0.113.9\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        answer = connection.makefile("rb").read()
    assert b" 200 " in answer.split(b"\r\n")[0]
    assert b"203.0.113.9" not in answer


def test_a_search_with_three_long_japanese_filters_fits_into_a_request(server: Running) -> None:
    filters = urlencode(dict.fromkeys(("person", "text", "entitlement"), "部" * LONGEST_FILTER))
    assert status_of(server, f"GET /admin/audit?{filters} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(70)) + b"\r\n",
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/3.7\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nFolded: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nSpaced : a\r\n\r\n",
    ],
    ids=["long line", "long field", "many fields", "lower case", "version", "folded", "space before colon"],
)
def test_a_request_beyond_the_limits_is_refused(server: Running, request_bytes: bytes) -> None:
    assert 400 <= status_of(server, request_bytes) < 506
    assert ask(server)["body"] == 0


def test_nothing_listens_but_the_port(server: Running, home: Path) -> None:
    ask(server)
    processes = [server.process.pid, *_children(server.process.pid)]
    assert len(processes) == 2  # the arbiter and the one worker that was asked for: WEB_CONCURRENCY did not count
    sockets = {inode for process in processes for inode in _socket_inodes(process)}

    tcp = {
        int(fields[1].split(":")[1], 16)
        for table in ("tcp", "tcp6")
        for fields in _table(table)
        if fields[3] == _LISTENING and fields[9] in sockets
    }
    unix = [fields for fields in _table("unix") if int(fields[3], 16) & _ACCEPTS_CONNECTIONS and fields[6] in sockets]

    assert tcp == {server.port}
    assert unix == []
    assert list(home.iterdir()) == []


def test_it_writes_no_access_log(server: Running) -> None:
    ask(server, "/a-page-that-nobody-else-asks-for")
    assert "a-page-that-nobody-else-asks-for" not in server.log.read_text(encoding="utf-8")


def test_a_request_in_progress_is_finished_when_the_server_stops(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    def fetch(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/slow")
        reached.set()
        bodies.append(connection.getresponse().read())

    reached = threading.Event()
    with echo_server(tmp_path / "server.log") as started:
        client = threading.Thread(target=fetch, args=(started.port,))
        client.start()
        reached.wait(10)
        client.join(SLOW_SECONDS / 3)
        started.process.send_signal(signal.SIGTERM)
        client.join(10)
        assert bodies == [b"finished"]
        assert started.process.wait(10) == 0


def test_the_unit_waits_longer_for_the_server_than_the_server_for_its_requests() -> None:
    unit = (DEPLOY / "federation-broker.service").read_text(encoding="utf-8")
    waits = next(line for line in unit.splitlines() if line.startswith("TimeoutStopSec="))
    graceful: int = runpy.run_path(str(DEPLOY / "gunicorn.conf.py"))["graceful_timeout"]
    assert int(waits.removeprefix("TimeoutStopSec=").removesuffix("s")) > graceful


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _socket_inodes(process: int) -> set[str]:
    links = [str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()]
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}


def _table(name: str) -> list[list[str]]:
    return [line.split() for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
