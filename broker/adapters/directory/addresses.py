"""The network addresses of one server's name, and a TCP connection to the first of them that takes one.

Both can fail while the server is well: name servers answer slowly or not at all, and one of several addresses may
belong to a machine that is gone. Neither may cost sign-ins more than the moment in which it happens.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.adapters.directory.config import ServerAddress
from broker.adapters.directory.connection import ConnectionFailed

# A name is looked up again after this, while what is known is used: names move, seldom.
_FRESH_SECONDS: Final = 60.0
# RFC 8305 section 8, "Connection Attempt Delay": an address has so long for itself before the next is tried beside it.
_HEAD_START_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Address:
    family: int
    where: Any


class Addresses:
    """What a name resolves to, the address that should be tried first in front. Threads share it."""

    def __init__(self, server: ServerAddress) -> None:
        """Remember the name; nothing is looked up yet."""
        self.server = server
        self._lock = threading.Lock()
        self._known: tuple[_Address, ...] = ()
        self._fresh_until = 0.0

    def find(self) -> None:
        """Know some address; the first time that takes as long as the machine's name servers do.

        Raises:
            ConnectionFailed: the name does not resolve, and never did.
        """
        with self._lock:
            is_due = time.monotonic() >= self._fresh_until
            is_known = bool(self._known)
            if is_due and is_known:
                self._fresh_until = time.monotonic() + _FRESH_SECONDS
        if not is_known:
            self._look_up()
        elif is_due:
            # Nobody's sign-in waits for a name server that answers slowly.
            threading.Thread(target=self._look_up_again, daemon=True).start()

    def connect(self, deadline: float) -> socket.socket:
        """A TCP connection; each address gets a head start before the next one is tried beside it (RFC 8305).

        Args:
            deadline: for all of them together, a moment of ``time.monotonic``.

        Raises:
            ConnectionFailed: none took it, or :meth:`find` has found none.
        """
        with self._lock:
            known = self._known
        stream, used = _first_of(known, deadline)
        if used != known[0]:
            self._put_first(used)
        return stream

    def try_another_first(self) -> None:
        """The one that was tried first has failed later on; the next attempt begins with another."""
        with self._lock:
            self._known = (*self._known[1:], *self._known[:1])

    def _put_first(self, address: _Address) -> None:
        with self._lock:
            if address in self._known:
                self._known = (address, *(one for one in self._known if one != address))

    def _look_up_again(self) -> None:
        try:
            self._look_up()
        except ConnectionFailed:
            return  # what is known goes on to be used

    def _look_up(self) -> None:
        try:
            answers = socket.getaddrinfo(self.server.host, self.server.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConnectionFailed(f"its name does not resolve: {error.strerror}") from error
        found = dict.fromkeys(_Address(family, where) for family, _, _, _, where in answers)
        with self._lock:
            # In the order that has proved good, as far as it goes.
            self._known = (
                *(one for one in self._known if one in found),
                *(one for one in found if one not in self._known),
            )
            self._fresh_until = time.monotonic() + _FRESH_SECONDS


def _first_of(addresses: Sequence[_Address], deadline: float) -> tuple[socket.socket, _Address]:
    waiting = list(addresses)
    failure: OSError = TimeoutError("no answer in time")
    with selectors.DefaultSelector() as begun:
        try:
            while waiting or begun.get_map():
                if waiting:
                    failure = _begin(waiting.pop(0), begun) or failure
                left = deadline - time.monotonic()
                if left <= 0:
                    failure = TimeoutError("no answer in time")
                    break
                for key, _ in begun.select(min(left, _HEAD_START_SECONDS) if waiting else left):
                    stream: Any = key.fileobj
                    begun.unregister(stream)
                    if (code := stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == 0:
                        return stream, key.data
                    failure = OSError(code, os.strerror(code))
                    stream.close()
        finally:
            for key in list(begun.get_map().values()):
                begun.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]  # a socket, as registered
    raise ConnectionFailed.at("connection", failure) from failure


def _begin(address: _Address, begun: selectors.BaseSelector) -> OSError | None:
    """Begin to connect; why it failed at once, None where it did not."""
    stream = socket.socket(address.family, socket.SOCK_STREAM)
    stream.settimeout(0)
    try:
        stream.connect(address.where)
    except BlockingIOError:
        pass  # it is on its way
    except OSError as error:
        stream.close()
        return error
    begun.register(stream, selectors.EVENT_WRITE, address)
    return None
