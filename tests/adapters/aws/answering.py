"""A small HTTP server on loopback that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: str

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a form."""
        return {name: values[0] for name, values in parse_qs(self.body, keep_blank_values=True).items()}


@dataclass(frozen=True)
class Answer:
    """What to answer.

    Attributes:
        close: end the connection after the answer.
        length: the length that is claimed, when it is not the true one.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    length: int | None = None


class Silence:
    """Take the request and never answer."""


class HangUp:
    """Take the request and end the connection without an answer."""


@dataclass(frozen=True)
class Drip:
    """Answer 200 with that body, a byte at a time."""

    body: bytes
    seconds_between: float


Script = Callable[[Asked], Answer | Silence | HangUp | Drip]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # the standard library's five make a burst of threads wait a second


class AnsweringServer:
    """Answers what ``script`` gives for each request."""

    def __init__(self, certificate: Path | None) -> None:
        self.script: Script = lambda _: Answer(status=404)
        self.asked: list[Asked] = []
        self.finished = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if certificate is None else "https"

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def answer(self, status: int = 200, body: str | bytes = b"", **headers: str) -> None:
        """Answer every request alike."""
        content = body.encode() if isinstance(body, str) else body
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self.script = lambda _: Answer(status, content, given)

    def run(self) -> threading.Thread:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self.finished.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(server: AnsweringServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            asked = Asked(self.command, self.path, dict(self.headers), body)
            server.asked.append(asked)
            answer = server.script(asked)
            if isinstance(answer, Silence):
                server.finished.wait(30)
            if isinstance(answer, Silence | HangUp):
                self.close_connection = True
                return
            if isinstance(answer, Drip):
                self._drip(answer)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            length = len(answer.body) if answer.length is None else answer.length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = answer.close or length != len(answer.body)

        def _drip(self, answer: Drip) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            for position in range(len(answer.body)):
                if server.finished.wait(answer.seconds_between):
                    break
                self.wfile.write(answer.body[position : position + 1])
            self.close_connection = True

        do_GET = do_POST = do_HEAD = _serve  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def answering(certificate: Path | None = None) -> Iterator[AnsweringServer]:
    """A running server.

    Args:
        certificate: PEM with key and certificate, for https.
    """
    server = AnsweringServer(certificate)
    thread = server.run()
    try:
        yield server
    finally:
        server.stop()
        thread.join(5)


@contextmanager
def cutting_off() -> Iterator[str]:
    """The address of a server that ends every connection in the middle of the TLS handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
