"""The running demo, started as `make demo` starts it, and a small HTTP client with cookies for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO, Any

from lxml import html

BROKER = str(Path(sys.executable).with_name("broker"))
READY_WITHIN_SECONDS = 60


@dataclass
class Demo:
    """A demo that is ready.

    Attributes:
        described: what DEMO_DESCRIBE holds.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    described: dict[str, Any]
    output: Path

    @property
    def portal(self) -> str:
        return str(self.described["portal"])

    @property
    def settings(self) -> Path:
        return self.folder / "broker.toml"

    def password(self, username: str) -> str:
        return next(str(one["password"]) for one in self.described["people"] if one["username"] == username)

    def signed_in(self, username: str, **headers: str) -> PortalClient:
        client = PortalClient(self.portal, headers)
        answer = client.sign_in(username, self.password(username))
        assert answer.status == 200, answer.text[:2000]
        return client

    def children(self) -> dict[str, int]:
        """Process ids of the sandbox's parts, by name."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            for name in ("directory", "aws"):
                if f"broker.sandbox.{name}" in command:
                    found[name] = int(pid)
        return found

    def log(self) -> str:
        return self.output.read_text(errors="replace")


@dataclass(frozen=True)
class Answer:
    status: int
    url: str
    headers: Mapping[str, str]
    text: str

    @property
    def page(self) -> html.HtmlElement:
        return html.fromstring(self.text)


class _KeepRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects within the portal are followed, one that leaves it is the answer."""

    def __init__(self, portal: str) -> None:
        self._portal = portal

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(self._portal + "/"):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class PortalClient:
    """A browser without JavaScript: keeps cookies, follows redirects within the portal, fills forms."""

    def __init__(self, portal: str, headers: Mapping[str, str] | None = None) -> None:
        self.portal = portal
        self.cookies = CookieJar()
        self._headers = dict(headers or {})
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies), _KeepRedirect(portal)
        )

    def get(self, path: str, **headers: str) -> Answer:
        return self._send(path, None, headers)

    def post(self, path: str, fields: Mapping[str, str] | Sequence[tuple[str, str]], **headers: str) -> Answer:
        return self._send(path, urllib.parse.urlencode(fields).encode(), headers)

    def sign_in(self, username: str, password: str, **fields: str) -> Answer:
        page = self.get("/login")
        return self.post(
            "/login",
            {"csrf_token": csrf_token(page), "next": "", "username": username, "password": password, **fields},
        )

    def credentials(self, entitlement: str, **fields: str) -> Answer:
        token = csrf_token(self.get("/"))
        return self.post(
            f"/issue/{urllib.parse.quote(entitlement)}/credentials",
            {"csrf_token": token, **fields},
            Accept="application/json",
        )

    def open(self, request: urllib.request.Request) -> IO[bytes]:
        """The answer as it comes."""
        answer: IO[bytes] = self._opener.open(request, timeout=60)
        return answer

    def _send(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        request = urllib.request.Request(self.portal + path, data=body, headers={**self._headers, **headers})  # noqa: S310
        try:
            with self._opener.open(request, timeout=60) as answer:
                return Answer(answer.status, answer.url, dict(answer.headers), answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.url or "", dict(error.headers), error.read().decode())


def csrf_token(answer: Answer) -> str:
    found = answer.page.xpath("//input[@name='csrf_token']/@value")
    assert found, answer.text[:2000]
    return str(found[0])


@contextmanager
def running_demo(folder: Path, **environment: str) -> Iterator[Demo]:
    """The demo on any free port with its state in ``folder``; stopped with Ctrl-C at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    describe, output = folder.parent / f"{folder.name}.json", folder.parent / f"{folder.name}.log"
    describe.unlink(missing_ok=True)
    with output.open("wb") as log:
        process = subprocess.Popen(
            [BROKER, "demo"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "DEMO_DIR": str(folder),
                "DEMO_PORT": "0",
                "DEMO_DESCRIBE": str(describe),
                **environment,
            },
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not describe.exists():
            assert process.poll() is None, output.read_text(errors="replace")
            assert time.monotonic() < deadline, output.read_text(errors="replace")
            time.sleep(0.05)
        yield Demo(process, folder, json.loads(describe.read_text(encoding="utf-8")), output)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
