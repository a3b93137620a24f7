"""Sockets: one thread for each connection, whole messages within limits of size and time, TLS.

Threads rather than one event loop: the scrypt of a sign-in and the handshake of a stranger must not make anybody
else wait, and a socket that turns to TLS in mid-stream is one call here.
"""

import contextlib
import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from broker.sandbox.directory import ber, messages
from broker.sandbox.directory.results import ResultCode
from broker.sandbox.directory.session import Next, Session
from broker.sandbox.directory.store import Store

_log: Final = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
_BACKLOG: Final = 128
_CHUNK: Final = 65536
_FAREWELL: Final = timedelta(milliseconds=500)
_BREATH_SECONDS: Final = 0.1


class PortInUse(Exception):
    """Somebody listens on the port already, or it is not ours to take."""


@dataclass(frozen=True)
class Limits:
    """How long a client may take, and how many there may be.

    Attributes:
        idle: between two requests. Active Directory waits 15 minutes (MaxConnIdleTime).
        message: for all of one message once it has begun, for taking an answer, and for a TLS handshake. Also for
            the first request of a connection.
        connections: at once; further ones are closed unheard.
    """

    idle: timedelta = timedelta(minutes=15)
    message: timedelta = timedelta(seconds=20)
    connections: int = 256


def server_context(chain_file: Path) -> ssl.SSLContext:
    """The TLS side of a server whose certificate and key are in one PEM file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(chain_file)
    return context


class DirectoryServer:
    """Listens on loopback from construction on; serves in background threads after `start`."""

    def __init__(
        self,
        store: Store,
        tls: ssl.SSLContext,
        clock: Callable[[], datetime],
        limits: Limits,
        *,
        ldap_port: int,
        ldaps_port: int,
    ) -> None:
        """Bind both ports; 0 takes any free one.

        Raises:
            PortInUse: a port cannot be had.
        """
        self._store = store
        self._tls = tls
        self._clock = clock
        self._limits = limits
        self._places = threading.BoundedSemaphore(limits.connections)
        self._ldap = _listener(ldap_port)
        try:
            self._ldaps = _listener(ldaps_port)
        except PortInUse:
            self._ldap.close()
            raise

    @property
    def ldap_port(self) -> int:
        """Where plain LDAP with StartTLS is spoken."""
        return int(self._ldap.getsockname()[1])

    @property
    def ldaps_port(self) -> int:
        """Where TLS comes first."""
        return int(self._ldaps.getsockname()[1])

    def start(self) -> None:
        """Begin to accept connections, in threads that end with the process."""
        for listener, is_secure in ((self._ldap, False), (self._ldaps, True)):
            threading.Thread(target=self._accept, args=(listener, is_secure), daemon=True).start()

    def stop(self) -> None:
        """Accept nobody any more."""
        for listener in (self._ldap, self._ldaps):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
            listener.close()

    def _accept(self, listener: socket.socket, is_secure: bool) -> None:  # noqa: FBT001 - a thread's argument
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                if listener.fileno() < 0:
                    return
                time.sleep(_BREATH_SECONDS)  # out of descriptors, or the client left: the next may fare better
                continue
            if not self._places.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client, is_secure), daemon=True).start()

    def _serve(self, client: socket.socket, is_secure: bool) -> None:  # noqa: FBT001 - a thread's argument
        session = Session(self._store, self._clock, is_secure=is_secure)
        connection = _Connection(client, session, self._tls, self._limits)
        try:
            connection.converse(is_secure=is_secure)
        except OSError:
            pass  # the client is gone, too slow, or does not speak TLS; there is nobody to tell
        except Exception:  # noqa: BLE001 - one faulty request must not end the server
            _log.exception("a request could not be answered")
            connection.say_goodbye(ResultCode.OTHER, "internal error")
        finally:
            connection.close()
            self._places.release()


class _Connection:
    """One client's socket, and what of the next message has arrived."""

    def __init__(self, client: socket.socket, session: Session, tls: ssl.SSLContext, limits: Limits) -> None:
        self._socket = client
        self._session = session
        self._tls = tls
        self._limits = limits
        self._received = bytearray()
        # Answers are small; without this each would wait for the acknowledgement of the one before.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def converse(self, *, is_secure: bool) -> None:
        """Answer requests until the client or the session ends it.

        Raises:
            OSError: the connection broke, or the client took too long.
        """
        if is_secure:
            self._start_tls()
        patience = self._limits.message
        while True:
            try:
                octets = self._message(patience)
            except ber.BerError as error:
                self.say_goodbye(ResultCode.PROTOCOL_ERROR, str(error))
                return
            if octets is None:
                return
            reply = self._session.answer(octets)
            self._send(reply.octets)
            if reply.next is Next.CLOSE:
                self._drain()
                return
            if reply.next is Next.START_TLS:
                if self._received:
                    # Sent in the clear but to be read as if protected: somebody may have slipped it in.
                    return
                self._start_tls()
                self._session.secured()
            patience = self._limits.idle

    def say_goodbye(self, code: ResultCode, reason: str) -> None:
        """Tell the client why it is hung up on, if it still listens."""
        with contextlib.suppress(OSError):
            self._send(messages.notice_of_disconnection(code, reason))
            self._drain()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _start_tls(self) -> None:
        self._socket.settimeout(self._limits.message.total_seconds())
        self._socket = self._tls.wrap_socket(self._socket, server_side=True)

    def _message(self, patience: timedelta) -> bytes | None:
        """The octets of the next whole message; None if the client left between two messages."""
        deadline = time.monotonic() + patience.total_seconds()
        has_begun = False
        while True:
            size = ber.message_size(self._received)
            if size is not None and len(self._received) >= size:
                octets = bytes(self._received[:size])
                del self._received[:size]
                return octets
            if self._received and not has_begun:
                has_begun = True
                deadline = time.monotonic() + self._limits.message.total_seconds()
            chunk = self._receive(deadline)
            if not chunk:
                return None
            self._received += chunk

    def _receive(self, deadline: float) -> bytes:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining)
        return self._socket.recv(_CHUNK)

    def _send(self, octets: bytes) -> None:
        self._socket.settimeout(self._limits.message.total_seconds())
        self._socket.sendall(octets)

    def _drain(self) -> None:
        """Read what is still under way for a moment: closing on unread octets would destroy our last answer."""
        self._socket.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _FAREWELL.total_seconds()
        while self._receive(deadline):
            pass


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Lets a restarted server have its port back while old connections still fade; no two can listen at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise PortInUse(f"port {port} on {HOST} {reason}") from error
    return listener
