"""A directory server that misbehaves on request: TLS towards the client, a real slapd behind it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from tests.adapters.directory.certificates import ServerFiles

BIND: Final = 0x60
UNBIND: Final = 0x42
SEARCH: Final = 0x63
_DRIP_SECONDS: Final = 0.1
# What is told to be silent is let go sooner.
_ENDS_WITHIN_SECONDS: Final = 1.0


class Action(Enum):
    FORWARD = auto()
    SILENCE = auto()  # the request arrives, no answer ever does
    RESET = auto()  # the request arrives, and the connection is reset
    TRUNCATE = auto()  # half an answer, and the connection is reset
    DRIP = auto()  # an octet now and then
    GARBAGE = auto()  # an answer that is not LDAP
    MISMATCH = auto()  # an answer to another question
    BUSY = auto()  # result 51
    NOTICE = auto()  # a notice of disconnection (RFC 4511 section 4.4.1)


def _tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return bytes((tag, len(content))) + content


_CANNED: Final = {
    Action.GARBAGE: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    Action.NOTICE: _tlv(
        0x30,
        _tlv(0x02, b"\0"),
        _tlv(0x78, b"\x0a\x01\x34\x04\0", _tlv(0x04, b"shutting down"), _tlv(0x8A, b"1.3.6.1.4.1.1466.20036")),
    ),
}


class Proxy:
    """Listens on a free port; ``behaviour`` is asked what to do with each request, by its application tag."""

    def __init__(self, files: ServerFiles, backend_port: int) -> None:
        self.requests: list[int] = []
        self.bound: list[str] = []
        self.connections = 0
        self.behaviour: Callable[[int], Action] = lambda _: Action.FORWARD
        self._backend_port = backend_port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(files.certificate, files.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._open: dict[socket.socket, threading.Thread] = {}
        self._stopped = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"ldaps://127.0.0.1:{self._port}"

    def count(self, tag: int) -> int:
        return self.requests.count(tag)

    def drop_all(self) -> None:
        """Close every connection, as a server does with idle ones."""
        self._end_all(socket.SHUT_RDWR)

    def reset_all(self) -> None:
        """Break every connection, as a firewall does."""
        for connection in list(self._open):
            # The linger time of zero makes the close a reset.
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end_all(socket.SHUT_RD)

    def stop(self) -> None:
        self._stopped.set()
        self.refuse()
        self.drop_all()

    def refuse(self) -> None:
        """Take no new connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a close alone would leave the waiting thread listening
        self._listener.close()

    def _end_all(self, how: int) -> None:
        """Wake the threads that read, and let each close its own.

        A close from here would free the number under which such a thread still reads: the next connection would get
        it, and lose to that thread what was meant for its own.
        """
        ending = dict(self._open)
        self._open.clear()
        for connection in ending:
            with contextlib.suppress(OSError):
                # Not the TLS socket's own, which lets the thread read on without TLS.
                socket.socket.shutdown(connection, how)
        for serving in ending.values():
            serving.join(_ENDS_WITHIN_SECONDS)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = self._tls.wrap_socket(plain, server_side=True)
            self.connections += 1
            self._open[client] = threading.current_thread()
            with client, socket.create_connection(("127.0.0.1", self._backend_port)) as backend:
                while self._exchange(client, backend):
                    pass

    def _exchange(self, client: ssl.SSLSocket, backend: socket.socket) -> bool:
        request = _message(client)
        if request is None:
            return False
        id_length = request[_header(request) + 1]
        tag = request[_header(request) + 2 + id_length]
        self.requests.append(tag)
        if tag == BIND:
            self.bound.append(_bound_name(request))
        if tag == UNBIND:
            return False
        action = self.behaviour(tag)
        if action is Action.SILENCE:
            self._stopped.wait(30)
        elif action is Action.RESET:
            _reset(client)
        elif action is Action.BUSY:
            number = request[_header(request) : _header(request) + 2 + id_length]
            result = _tlv(tag + (2 if tag == SEARCH else 1), b"\x0a\x01\x33\x04\0", _tlv(0x04, b"too\nbusy"))
            client.sendall(_tlv(0x30, number, result))
            return True
        elif action in _CANNED:
            client.sendall(_CANNED[action])
        else:
            backend.sendall(request)
            self._answer(client, backend, action)
            return True
        return False

    def _answer(self, client: ssl.SSLSocket, backend: socket.socket, action: Action) -> None:
        while (answer := _message(backend)) is not None:
            tag = answer[_header(answer) + 2 + answer[_header(answer) + 1]]
            if action is Action.TRUNCATE:
                client.sendall(answer[: len(answer) // 2])
                _reset(client)
                return
            if action is Action.DRIP:
                for octet in answer:
                    client.sendall(bytes((octet,)))
                    time.sleep(_DRIP_SECONDS)
            elif action is Action.MISMATCH:
                position = _header(answer) + 2
                client.sendall(answer[:position] + b"\x7f" + answer[position + 1 :])
            else:
                client.sendall(answer)
            if tag not in (0x64, 0x73):  # entries and references are followed by more
                return


def _header(message: bytes) -> int:
    return 2 if message[1] < 0x80 else 2 + message[1] - 0x80


def _message(stream: socket.socket) -> bytes | None:
    head = _exactly(stream, 2)
    if head is None:
        return None
    length = head[1]
    if length >= 0x80:
        more = _exactly(stream, length - 0x80)
        if more is None:
            return None
        head += more
        length = int.from_bytes(more, "big")
    body = _exactly(stream, length)
    return None if body is None else head + body


def _bound_name(request: bytes) -> str:
    # BindRequest ::= [APPLICATION 0] SEQUENCE { version INTEGER (03), name OCTET STRING, … }; the name is short here.
    _, found, rest = request.partition(b"\x02\x01\x03\x04")
    assert found
    assert rest[0] < 0x80, "a longer name has a longer length"
    return rest[1 : 1 + rest[0]].decode()


def _exactly(stream: socket.socket, length: int) -> bytes | None:
    octets = b""
    while len(octets) < length:
        chunk = stream.recv(length - len(octets))
        if not chunk:
            return None
        octets += chunk
    return octets


def _reset(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()
