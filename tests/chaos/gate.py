"""A gate before the STS of the stand-in: it notes what passes, and holds requests where a fault belongs."""

from __future__ import annotations

import base64
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from lxml import etree

_ASSERTION = "{urn:oasis:names:tc:SAML:2.0:assertion}Assertion"
_ACCESS_KEY = "{https://sts.amazonaws.com/doc/2011-06-15/}AccessKeyId"


class Moment(StrEnum):
    """When a fault happens to an exchange.

    The intent is recorded before the first, the outcome after the last.
    """

    ASKED = "asked"
    ANSWERED = "answered"
    TOLD = "told"


Fault = Callable[[int], None]
"""Does it, to whoever asks from that port."""


@dataclass(frozen=True)
class Exchanged:
    """What STS issued for an assertion."""

    assertion_id: str
    access_key_id: str


@dataclass
class Gate:
    """Listens on a free loopback port.

    Attributes:
        passed: everything that STS issued, also to those who were not there any more to hear of it.
    """

    sts: str
    passed: list[Exchanged] = field(default_factory=list)
    _armed: tuple[Moment, Fault] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                port = self.client_address[1]
                body = self.rfile.read(int(self.headers["Content-Length"]))
                gate.pass_moment(Moment.ASKED, port)
                status, answer = gate.ask(self.path, body, self.headers["Content-Type"])
                gate.pass_moment(Moment.ANSWERED, port)
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "text/xml")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    self.close_connection = True
                gate.pass_moment(Moment.TOLD, port)

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def arm(self, moment: Moment, fault: Fault) -> None:
        """The next exchange that comes to that moment has the fault."""
        with self._lock:
            self._armed = (moment, fault)

    def disarm(self) -> bool:
        """Whether nothing had come to the moment yet."""
        with self._lock:
            waiting, self._armed = self._armed, None
        return waiting is not None

    def pass_moment(self, moment: Moment, port: int) -> None:
        with self._lock:
            if self._armed is None or self._armed[0] is not moment:
                return
            fault, self._armed = self._armed[1], None
        fault(port)

    def ask(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        request = urllib.request.Request(self.sts + path, data=body, headers={"Content-Type": content_type})  # noqa: S310 - the stand-in's http address
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
                text: bytes = answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()
        assertion = urllib.parse.parse_qs(body.decode())["SAMLAssertion"][0]
        [told] = etree.fromstring(base64.b64decode(assertion)).iter(_ASSERTION)
        [key] = etree.fromstring(text).iter(_ACCESS_KEY)
        self.passed.append(Exchanged(str(told.attrib["ID"]), key.text or ""))
        return 200, text
