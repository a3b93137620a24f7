"""Which server is asked, and which connection to it is used.

Two kinds of connection are kept for each server. Those of the service account only search; on the others people's
passwords are tried, one bind after another, and nothing is ever searched there: so no question is asked with the
rights of the person who signed in last, and a sign-in costs no bind back to the service account.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NoReturn, TypeVar

from broker.adapters.directory.addresses import Addresses
from broker.adapters.directory.bind_answers import describe, refusal
from broker.adapters.directory.config import DirectoryConfig, ServerAddress
from broker.adapters.directory.connection import Connection, ConnectionFailed
from broker.adapters.directory.messages import SERVER_TROUBLE, SUCCESS, Message
from broker.core.credentials import Secret
from broker.core.errors import (
    BrokerError,
    DirectoryUnavailable,
    Fault,
    LoginCause,
    PasswordChangeUncertain,
    SettingsInvalid,
)

T = TypeVar("T")
Change = Callable[[Connection, float], Message]

_log: Final = logging.getLogger(__name__)

# Servers close idle connections (Active Directory after 15 minutes) and firewalls forget them silently (the usual
# clouds after 4 to 6 minutes); one that was forgotten looks open and costs a timeout.
LONGEST_IDLE_SECONDS: Final = 120.0
# As many as a worker process has threads, in any sensible set-up; more are opened when needed, and not kept.
MOST_KEPT: Final = 16
_FIRST_BACK_OFF_SECONDS: Final = 1.0
_LONGEST_BACK_OFF_SECONDS: Final = 30.0
# How long the service account is not tried again after a refusal, at first and at the longest. A wrong password counts
# towards its lock-out, once for each worker of each node; the right one is only read at the next start.
_HOLD_SECONDS: Final = (5.0, 60.0)
_WRONG_PASSWORD_HOLD_SECONDS: Final = (900.0, 3600.0)
_COUNTED: Final = frozenset({LoginCause.WRONG_PASSWORD, LoginCause.UNKNOWN_USERNAME})


class _ServiceAccountRefused(Exception):
    """The server answered the service account's bind with a refusal.

    Attributes:
        counts: towards the account's lock-out.
    """

    def __init__(self, said: str, *, counts: bool) -> None:
        super().__init__(said)
        self.counts = counts


class Kept:
    """Idle connections of one kind, the one used last on top."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[Connection, float]] = []
        self._process = os.getpid()

    def take(self) -> Connection | None:
        """One that is still open; None when there is none."""
        while True:
            with self._lock:
                self._forget_those_of_the_parent()
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if time.monotonic() - since < LONGEST_IDLE_SECONDS and connection.is_usable():
                return connection
            connection.close()

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next question."""
        with self._lock:
            if len(self._idle) < MOST_KEPT:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def clear(self) -> None:
        """Close all."""
        with self._lock:
            self._forget_those_of_the_parent()
            idle = [connection for connection, _ in self._idle]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _forget_those_of_the_parent(self) -> None:
        """After a fork the parent still speaks on what was open; here they are let go without a word."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        for connection, _ in self._idle:
            connection.abandon()
        self._idle.clear()


class Server:
    """One server, its kept connections, and whether it is worth asking."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self.addresses = Addresses(address)
        self.searching = Kept()
        self.binding = Kept()
        self.back_off_seconds = 0.0
        self.retry_at = 0.0
        self.left_at = 0.0
        self.was_silent = False
        # Held while the service account binds there, and what came of it when that was no good.
        self.service_bind = threading.Lock()
        self.refused: _ServiceAccountRefused | None = None
        self.refused_at = 0.0


class Servers:
    """The configured servers, in order."""

    def __init__(self, config: DirectoryConfig, bind_password: Secret) -> None:
        self._bind_dn = config.bind_dn
        self._bind_password = bind_password
        self._connect_seconds = config.connect_timeout.total_seconds()
        self._operation_seconds = config.operation_timeout.total_seconds()
        self._tls = tls_context(config)
        self._servers = tuple(map(Server, config.addresses))
        self._lock = threading.Lock()
        self._refusal: str | None = None
        self._hold_seconds = 0.0
        self._ask_again_at = 0.0

    def read(self, ask: Callable[[Connection, float], T]) -> tuple[T, Server]:
        """Ask a question that changes nothing, as the service account; another server is asked when one fails.

        Args:
            ask: given a connection and its deadline; called again when a connection breaks.

        Returns:
            the answer, and who gave it.

        Raises:
            DirectoryUnavailable: no server answered, or the service account was refused.
        """
        self._raise_while_refused()
        failures: list[str] = []
        stop_at = time.monotonic() + self._connect_seconds + self._operation_seconds
        for server in self._candidates():
            started = time.monotonic()
            try:
                answer = self._read_from(server, ask)
            except ConnectionFailed as failure:
                self._leave(server, failure, started)
                failures.append(f"{server.address}: {failure}")
            except _ServiceAccountRefused as refused:
                self._hold(server, refused)
            else:
                self._welcome(server)
                return answer, server
            if time.monotonic() >= stop_at:
                break
        raise self._nobody_answers(failures)

    def bind_as(self, dn: str, password: Secret, preferred: Server) -> Message:
        """Try a person's password, on the server that found them.

        Another server is turned to only as long as the password has not been sent: an attempt that was sent may have
        been counted, and trying it again would count it twice against the lock-out.

        Raises:
            DirectoryUnavailable: no answer.
        """
        server, connection = self._first_open(
            preferred, lambda candidate: candidate.binding.take() or self._open(candidate)
        )
        answer = self._bound_once(server, connection, dn, password)
        server.binding.give_back(connection)
        return answer

    def change_as_service(self, change: Change, preferred: Server) -> Message:
        """Ask for a change as the service account; what was sent is never sent again, nor to another server.

        Args:
            change: given a connection and its deadline.

        Raises:
            DirectoryUnavailable: it was not sent.
            PasswordChangeUncertain: it was sent, and not answered.
        """
        self._raise_while_refused()
        # A connection of its own: one that was kept may be closed, which only shows when it is too late.
        server, connection = self._first_open(preferred, self._open_as_service)
        return self._changed_once(server, connection, change)

    def change_as(self, dn: str, password: Secret, change: Change, preferred: Server) -> tuple[Message, Message | None]:
        """Bind as a person and, if they are let in or have to change the password, ask for a change as that person.

        Returns:
            the answer to the bind, and the answer to the change if that was sent.

        Raises:
            DirectoryUnavailable: the change was not sent.
            PasswordChangeUncertain: it was sent, and not answered.
        """
        server, connection = self._first_open(preferred, self._open)
        bound = self._bound_once(server, connection, dn, password)
        if bound.code != SUCCESS:
            connection.close()
            return bound, None
        return bound, self._changed_once(server, connection, change)

    def _first_open(self, preferred: Server, connect: Callable[[Server], Connection]) -> tuple[Server, Connection]:
        """A connection to the first server that gives one; nothing has been sent that must not be sent twice."""
        failures: list[str] = []
        for server in self._candidates_after(preferred):
            started = time.monotonic()
            try:
                return server, connect(server)
            except ConnectionFailed as failure:
                self._leave(server, failure, started)
                failures.append(f"{server.address}: {failure}")
            except _ServiceAccountRefused as refused:
                self._hold(server, refused)
        raise self._nobody_answers(failures)

    def _bound_once(self, server: Server, connection: Connection, dn: str, password: Secret) -> Message:
        started = time.monotonic()
        try:
            return connection.bind(dn, password, started + self._operation_seconds)
        except ConnectionFailed as failure:
            connection.abandon()
            self._leave(server, failure, started)
            text = f"{server.address}: {failure}, after the password was sent, so no other server is asked"
            raise DirectoryUnavailable(text) from failure

    def _changed_once(self, server: Server, connection: Connection, change: Change) -> Message:
        started = time.monotonic()
        try:
            answer = change(connection, started + self._operation_seconds)
        except ConnectionFailed as failure:
            connection.abandon()
            self._leave(server, failure, started)
            text = f"{server.address}: {failure}, after the new password was sent, so it may be the new one or the old"
            raise PasswordChangeUncertain(text) from failure
        connection.close()
        return answer

    def close(self) -> None:
        """Close every kept connection."""
        for server in self._servers:
            server.searching.clear()
            server.binding.clear()

    def _read_from(self, server: Server, ask: Callable[[Connection, float], T]) -> T:
        connection = server.searching.take()
        if connection is not None:
            try:
                return self._asked(server, connection, ask)
            except ConnectionFailed as failure:
                if failure.timed_out:
                    raise
                # Closed between the look at it and the question; the others were opened by the same server process.
                server.searching.clear()
        return self._asked(server, self._open_as_service(server), ask)

    def _asked(self, server: Server, connection: Connection, ask: Callable[[Connection, float], T]) -> T:
        in_order = False
        try:
            answer = ask(connection, time.monotonic() + self._operation_seconds)
            in_order = True
        except ConnectionFailed as failure:
            if failure.timed_out and time.monotonic() - connection.heard_at < self._operation_seconds / 2:
                # One person's groups may take longer than that; whoever goes on answering does not hang.
                text = f"{server.address}: the answer takes longer than directory.operation_timeout"
                raise DirectoryUnavailable(text) from failure
            raise
        except BrokerError:
            # The answer is whole, and not what it should be.
            in_order = True
            raise
        finally:
            if in_order:
                server.searching.give_back(connection)
            else:
                connection.abandon()
        return answer

    def _open(self, server: Server) -> Connection:
        server.addresses.find()  # before the clock starts: how long name servers take is no fault of this server
        deadline = time.monotonic() + self._connect_seconds
        return Connection.secured(server.addresses.connect(deadline), server.address, self._tls, deadline)

    def _open_as_service(self, server: Server) -> Connection:
        started = time.monotonic()
        connection = self._open(server)
        try:
            # One by one: a wrong password that every thread tries at once could lock the account.
            with server.service_bind:
                self._bind_as_service(server, connection, started)
        except (ConnectionFailed, _ServiceAccountRefused):
            connection.abandon()
            raise
        return connection

    def _bind_as_service(self, server: Server, connection: Connection, asked_at: float) -> None:
        """Bind, unless another thread has found out meanwhile what comes of it."""
        if server.refused is not None and server.refused_at > asked_at - _HOLD_SECONDS[0]:
            raise server.refused
        if server.left_at > asked_at:
            raise ConnectionFailed("it was left meanwhile", timed_out=server.was_silent)
        started = time.monotonic()
        try:
            answer = connection.bind(self._bind_dn, self._bind_password, started + self._operation_seconds)
        except ConnectionFailed as failure:
            self._leave(server, failure, started)  # before the next one tries
            raise
        refused = refusal(answer)
        if refused is None:
            server.refused = None
        elif answer.code in SERVER_TROUBLE:  # it has not looked at the password
            raise ConnectionFailed(f"it answered {describe(answer)}")
        else:
            server.refused = _ServiceAccountRefused(describe(answer), counts=refused.cause in _COUNTED)
            server.refused_at = time.monotonic()
            raise server.refused

    def _candidates_after(self, preferred: Server) -> Iterator[Server]:
        """That server first, unless it has failed meanwhile: then it would cost the same person a second timeout."""
        first = preferred if preferred.back_off_seconds == 0.0 else None
        if first is not None:
            yield first
        # One by one: to be a candidate means to be tried.
        yield from (server for server in self._candidates() if server is not first)

    def _candidates(self) -> Iterator[Server]:
        """Those in good standing, in the configured order; then, as a last resort, those that failed lately.

        A server that was silent is none: whoever asked it would wait a timeout for nothing.
        """
        left: list[Server] = []
        some_are_good = any(server.back_off_seconds == 0.0 for server in self._servers)
        for server in self._servers:
            if server.back_off_seconds == 0.0:
                yield server
                continue
            with self._lock:
                now = time.monotonic()
                is_due = server.retry_at <= now
                if is_due:
                    # One request finds out whether a server is back; the others do not wait for it meanwhile.
                    server.retry_at = now + self._connect_seconds + self._operation_seconds
            if not is_due:
                left.append(server)
            elif some_are_good:
                # It may still hang, so nobody's sign-in waits for it.
                threading.Thread(target=self._try_again, args=(server,), daemon=True).start()
                left.append(server)
            else:
                yield server
        yield from sorted((server for server in left if not server.was_silent), key=lambda server: server.retry_at)

    def _try_again(self, server: Server) -> None:
        started = time.monotonic()
        try:
            server.searching.give_back(self._open_as_service(server))
        except ConnectionFailed as failure:
            self._leave(server, failure, started)
        except _ServiceAccountRefused as refused:
            # The others have not refused, and are asked on; trying this one often would lock the service account.
            held = _WRONG_PASSWORD_HOLD_SECONDS[0] if refused.counts else _HOLD_SECONDS[1]
            self._leave(server, refused, started, at_least_seconds=held)
        else:
            self._welcome(server)

    def _leave(self, server: Server, failure: Exception, started: float, *, at_least_seconds: float = 0.0) -> None:
        """Ask the others for a while, longer each time; ``started`` is when what failed was begun."""
        with self._lock:
            if started < server.left_at:
                return  # many threads find out at once that one server hangs: that is one failure, not many
            server.left_at = time.monotonic()
            doubled = min(max(server.back_off_seconds * 2, _FIRST_BACK_OFF_SECONDS), _LONGEST_BACK_OFF_SECONDS)
            server.back_off_seconds = max(doubled, at_least_seconds)
            server.retry_at = server.left_at + server.back_off_seconds
            server.was_silent = isinstance(failure, ConnectionFailed) and failure.timed_out
        server.addresses.try_another_first()
        server.searching.clear()
        server.binding.clear()
        _log.warning("directory server %s left for %.0f s: %s", server.address, server.back_off_seconds, failure)

    def _welcome(self, server: Server) -> None:
        if self._refusal is not None:
            with self._lock:
                self._refusal, self._hold_seconds = None, 0.0
        if server.back_off_seconds == 0.0:
            return
        with self._lock:
            server.back_off_seconds = server.retry_at = 0.0
            server.was_silent = False
        _log.warning("directory server %s answers again", server.address)

    def _hold(self, server: Server, refused: _ServiceAccountRefused) -> NoReturn:
        """Stop asking for a while: a wrong password tried at every sign-in would lock the service account."""
        first, longest = _WRONG_PASSWORD_HOLD_SECONDS if refused.counts else _HOLD_SECONDS
        with self._lock:
            if self._refusal is None or time.monotonic() >= self._ask_again_at:  # many threads hear of one refusal
                self._hold_seconds = min(max(self._hold_seconds * 2, first), longest)
                self._ask_again_at = time.monotonic() + self._hold_seconds
                self._refusal = (
                    f"the service account {self._bind_dn!r} was refused by {server.address}: {refused}: "
                    "check directory.bind_dn and directory.bind_password_file, and whether the account is disabled, "
                    f"expired or locked; it is tried again after {self._hold_seconds:.0f} s, or a restart"
                )
            text = self._refusal
        raise DirectoryUnavailable(text)

    def _nobody_answers(self, failures: Sequence[str]) -> DirectoryUnavailable:
        silent = [f"{server.address}: it was silent a moment ago" for server in self._servers if server.was_silent]
        return DirectoryUnavailable("no directory server answers: " + "; ".join(failures or silent))

    def _raise_while_refused(self) -> None:
        with self._lock:
            if self._refusal is not None and time.monotonic() < self._ask_again_at:
                raise DirectoryUnavailable(self._refusal)


def tls_context(config: DirectoryConfig) -> ssl.SSLContext:
    """One context for the life of the adapter: loading the system's CA bundle takes 22 ms.

    Raises:
        SettingsInvalid: the CA file cannot be read.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=config.ca_file)
    except (OSError, ssl.SSLError) as error:
        fault = Fault("directory.ca_file", f"{config.ca_file} is no readable PEM bundle: {error.strerror or error}")
        raise SettingsInvalid(fault) from error
    # The defaults, said aloud: no setting switches verification off.
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
