"""One connection to one directory server: a socket with TLS, one request at a time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from broker.adapters.directory import messages
from broker.adapters.directory.config import ServerAddress
from broker.adapters.directory.messages import Entry, MalformedAnswer, Message, Scope, Search
from broker.core.credentials import Secret

# OpenLDAP keeps a hundred requests of one connection waiting (slapd.conf(5), conn_max_pending), others more.
MOST_AT_ONCE: Final = 100
_CHUNK: Final = 65536
_RANGE: Final = ";range="


class ConnectionFailed(Exception):
    """No answer came over this connection; it is of no more use.

    Attributes:
        timed_out: the server was silent, as opposed to closing the connection or never opening it.
    """

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out

    @classmethod
    def at(cls, step: str, error: OSError | MalformedAnswer) -> Self:
        """The failure of one step."""
        if isinstance(error, TimeoutError):
            return cls(f"{step}: no answer in time", timed_out=True)
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        return cls(f"{step}: {reason}")


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What a search found.

    Attributes:
        code: the result code; 0 when the answer is whole.
        text: the server's diagnostic message.
        cookie: for the next page of a search in pages; empty after the last.
    """

    code: int
    text: str
    entries: tuple[Entry, ...]
    cookie: bytes = b""


class Connection:
    """A connection that is open. Deadlines are moments of ``time.monotonic``.

    Attributes:
        heard_at: when the latest whole message came; octets now and then are as good as silence.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._received = bytearray()
        self._last_id = 0
        self.heard_at = 0.0

    @classmethod
    def secured(cls, plain: socket.socket, address: ServerAddress, tls: ssl.SSLContext, deadline: float) -> Self:
        """Put TLS on a connection before anything else is said.

        Args:
            plain: closed when that fails.
            address: whom the certificate has to be made out to.
            tls: verifies.
            deadline: for all of it.

        Raises:
            ConnectionFailed: silent, or the certificate does not stand up to verification.
        """
        try:
            # Requests are small and answered one by one: without this each waits for a delayed acknowledgement.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not address.implicit_tls:
                cls(plain).request_tls(deadline)
            plain.settimeout(_left(deadline))
            return cls(tls.wrap_socket(plain, server_hostname=address.host))
        except ssl.SSLCertVerificationError as error:
            plain.close()
            reason = f"its certificate is refused: {error.verify_message} (directory.ca_file)"
            raise ConnectionFailed(reason) from error
        except OSError as error:
            plain.close()
            raise ConnectionFailed.at("TLS", error) from error
        except ConnectionFailed:
            plain.close()
            raise

    def request_tls(self, deadline: float) -> None:
        """StartTLS (RFC 4511 section 4.14), up to where the handshake begins.

        Raises:
            ConnectionFailed: the server refuses, or says more than it may.
            OSError: no answer.
        """
        try:
            message_id = self._send(messages.start_tls_request, deadline)
            answer = self._receive(message_id, messages.EXTENDED_RESPONSE, deadline)
        except MalformedAnswer as error:
            raise ConnectionFailed(f"StartTLS: {error}") from error
        if answer.code != messages.SUCCESS:
            raise ConnectionFailed(f"it refuses StartTLS: {answer.code} {answer.text}")
        if self._received:
            # What came in the clear would be taken for what came over TLS.
            raise ConnectionFailed("it sent octets in the clear after StartTLS")

    def bind(self, dn: str, password: Secret, deadline: float) -> Message:
        """Simple bind. Whatever the server answers is returned, so nobody repeats an answered bind by mistake.

        Raises:
            ConnectionFailed: no answer; whether the server counted the password is unknown.
        """
        try:
            message_id = self._send(lambda number: messages.bind_request(number, dn, password), deadline)
            return self._receive(message_id, messages.BIND_RESPONSE, deadline)
        except (OSError, MalformedAnswer) as error:
            # The frames of the error hold what was sent.
            raise ConnectionFailed.at("bind", error) from error.with_traceback(None)

    def change_unicode_password(self, dn: str, current: Secret, new: Secret, deadline: float) -> Message:
        """Change a password of Active Directory; whatever the server answers is returned.

        Raises:
            ConnectionFailed: no answer; whether the server changed it is unknown.
        """
        return self._ask(
            lambda number: messages.unicode_password_change(number, dn, current, new),
            messages.MODIFY_RESPONSE,
            deadline,
        )

    def modify_password(self, dn: str, current: Secret, new: Secret, deadline: float) -> Message:
        """Change a password by RFC 3062; whatever the server answers is returned.

        Raises:
            ConnectionFailed: no answer; whether the server changed it is unknown.
        """
        return self._ask(
            lambda number: messages.password_modify(number, dn, current, new), messages.EXTENDED_RESPONSE, deadline
        )

    def _ask(self, build: Callable[[int], bytes], kind: int, deadline: float) -> Message:
        try:
            return self._receive(self._send(build, deadline), kind, deadline)
        except (OSError, MalformedAnswer) as error:
            # The frames of the error hold what was sent.
            raise ConnectionFailed.at("change of password", error) from error.with_traceback(None)

    def search(self, search: Search, deadline: float) -> SearchAnswer:
        """Search; values that the server returns piecemeal (``member;range=0-1499``) are fetched to the end.

        Raises:
            ConnectionFailed: no answer, or one that only says that the server is in trouble.
        """
        try:
            return self._completed(self._search(search, deadline), deadline)
        except (OSError, MalformedAnswer) as error:
            raise ConnectionFailed.at("search", error) from error

    def search_each(self, searches: Sequence[Search], deadline: float) -> list[SearchAnswer]:
        """Several searches that do not wait for one another (RFC 4511 section 3.1), in their order.

        Raises:
            ConnectionFailed: as above.
        """
        answers: list[SearchAnswer] = []
        try:
            for begin in range(0, len(searches), MOST_AT_ONCE):
                found = self._search_at_once(searches[begin : begin + MOST_AT_ONCE], deadline)
                answers += [self._completed(answer, deadline) for answer in found]
        except (OSError, MalformedAnswer) as error:
            raise ConnectionFailed.at("search", error) from error
        return answers

    def server_certificate(self) -> bytes | None:
        """DER of the certificate that the server showed; None without TLS."""
        return self._stream.getpeercert(binary_form=True) if isinstance(self._stream, ssl.SSLSocket) else None

    def is_usable(self) -> bool:
        """Whether a connection that was idle is still open, as far as this side can know."""
        if self._received:
            return False
        self._stream.settimeout(0)
        try:
            # Nothing is expected: octets are a notice of disconnection, none are its end.
            self._stream.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """End it, politely where that costs nothing."""
        with contextlib.suppress(OSError):
            self._stream.settimeout(0)
            self._stream.sendall(messages.unbind_request(self._last_id + 1))
        self.abandon()

    def abandon(self) -> None:
        """Let go of the socket without a word: it is broken, or another process speaks on it."""
        with contextlib.suppress(OSError):
            self._stream.close()

    def _search(self, search: Search, deadline: float) -> SearchAnswer:
        (answer,) = self._search_at_once((search,), deadline)
        return answer

    def _search_at_once(self, searches: Sequence[Search], deadline: float) -> list[SearchAnswer]:
        requests = []
        for search in searches:
            self._last_id += 1
            requests.append(messages.search_request(self._last_id, search))
        self._stream.settimeout(_left(deadline))
        self._stream.sendall(b"".join(requests))
        first = self._last_id + 1 - len(searches)
        entries: dict[int, list[Entry]] = {number: [] for number in range(first, self._last_id + 1)}
        answers: dict[int, SearchAnswer] = {}
        while len(answers) < len(searches):
            message = self._next_message(deadline)
            if message.id not in entries or message.id in answers:
                raise MalformedAnswer(_unasked(message))
            if message.entry is not None:
                entries[message.id].append(message.entry)
            elif message.kind == messages.SEARCH_DONE and message.code is not None:
                if message.code in messages.SERVER_TROUBLE:
                    raise ConnectionFailed(f"it answered {message.code}: {message.text}")
                found = tuple(entries[message.id])
                answers[message.id] = SearchAnswer(message.code, message.text, found, message.cookie)
            elif message.kind != messages.SEARCH_REFERENCE:  # references to other servers are not followed
                raise MalformedAnswer("the answer to a search is not one")
        return [answers[number] for number in entries]

    def _completed(self, answer: SearchAnswer, deadline: float) -> SearchAnswer:
        entries = tuple(self._complete(entry, deadline) for entry in answer.entries)
        return SearchAnswer(answer.code, answer.text, entries, answer.cookie)

    def _complete(self, entry: Entry, deadline: float) -> Entry:
        ranged = [name for name in entry.values if _RANGE in name]
        if not ranged:
            return entry
        values = {name: octets for name, octets in entry.values.items() if name not in ranged}
        for name in ranged:
            attribute = name.partition(_RANGE)[0]
            values[attribute] = self._all_ranges(entry.dn, attribute, name, entry.values[name], deadline)
        return Entry(entry.dn, values)

    def _all_ranges(
        self, dn: str, attribute: str, name: str, first: tuple[bytes, ...], deadline: float
    ) -> tuple[bytes, ...]:
        collected = list(first)
        # [MS-ADTS] 3.1.1.3.1.3.3: "attribute;range=0-1499", and "…;range=1500-*" for the last piece.
        while not name.endswith("-*"):
            wanted = f"{attribute}{_RANGE}{len(collected)}-*"
            answer = self._search(Search(dn, Scope.BASE, messages.everything(), (wanted,)), deadline)
            pieces = [
                (found, octets)
                for entry in answer.entries
                for found, octets in entry.values.items()
                if found.startswith(f"{attribute}{_RANGE}{len(collected)}-") and octets
            ]
            if answer.code != messages.SUCCESS or len(pieces) != 1:
                raise MalformedAnswer(f"the values of {attribute} stop at {len(collected)}")
            name, octets = pieces[0]
            collected.extend(octets)
        return tuple(collected)

    def _send(self, build: Callable[[int], bytes], deadline: float) -> int:
        self._last_id += 1
        self._stream.settimeout(_left(deadline))
        self._stream.sendall(build(self._last_id))
        return self._last_id

    def _receive(self, message_id: int, kind: int, deadline: float) -> Message:
        message = self._next_message(deadline)
        if message.id != message_id or message.kind != kind or message.code is None:
            raise MalformedAnswer(_unasked(message))
        return message

    def _next_message(self, deadline: float) -> Message:
        while (length := messages.message_length(self._received)) is None or len(self._received) < length:
            # One deadline for all of it: a server that drips octets is as good as silent.
            self._stream.settimeout(_left(deadline))
            chunk = self._stream.recv(_CHUNK)
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
            self._received += chunk
        octets = bytes(self._received[:length])
        del self._received[:length]
        self.heard_at = time.monotonic()
        return messages.decode(octets)


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds


def _unasked(message: Message) -> str:
    return f"the server ends the connection: {message.text}" if message.id == 0 else "an answer that nobody asked for"
