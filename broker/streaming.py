"""The stream of the audit to a SIEM, composed: its sink, the thread that sends, and what may be wrong with it."""

from __future__ import annotations

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.adapters.database.stream_cursor import SqlStreamCursor
from broker.adapters.event_lines import LineFile, StandardOutput
from broker.core.ports import Clock
from broker.core.streaming import LineSink, StreamingPorts, check_stream_lag, stream_lag, stream_waiting
from broker.periodic import Periodic
from broker.readiness import Readiness
from broker.settings import Settings

_log = structlog.get_logger()

# As often as events are sealed.
_EVERY: Final = timedelta(seconds=3)
_CHECK: Final = "audit-stream"
# Before the workers are forked, which have a process id each. Containers may share names and process ids.
_NODE: Final = secrets.token_hex(8)


class Streaming:
    """What the settings say of it. Nothing is opened or connected to before it is asked for."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        """Remember the settings.

        Args:
            settings: checked.
            database: of the requests, for questions.
            clock: the broker's.
        """
        self._settings = settings
        self._clock = clock
        self._log = SqlSeals(database)
        self._cursor = SqlStreamCursor(database)
        self._watch = Readiness({_CHECK: lambda: check_stream_lag(self._log, self._cursor, clock())})

    def check_at_start(self) -> None:
        """Refuse a file that cannot be written.

        Raises:
            SettingsInvalid: it cannot.
        """
        if isinstance(self._settings.audit.stream, Path):
            LineFile(self._settings.audit.stream).check()

    def background(self) -> tuple[Periodic, ...]:
        """The thread of a worker that sends, one at a time over all of them; none where there is no SIEM."""
        stream = self._settings.audit.stream
        if stream is None:
            return ()
        # A connection of its own, as for sealing.
        database = Database(self._settings.database.url, connections=1)
        sink = sink_of(stream)
        return (Periodic("streaming", _EVERY, lambda: _stream(streaming_ports(database, sink, self._clock))),)

    def problem(self) -> str | None:
        """What is wrong with the lag, looked at every few seconds; None when nothing is, or there is no SIEM."""
        return None if self._settings.audit.stream is None else self._watch()[_CHECK]


def sink_of(stream: Path | str) -> LineSink:
    """The sink of a setting: a file, otherwise standard output."""
    return LineFile(stream) if isinstance(stream, Path) else StandardOutput()


def streaming_ports(database: Database, sink: LineSink, clock: Clock) -> StreamingPorts:
    """What a round of streaming needs, made in the process that sends.

    Args:
        database: for its questions and its place.
        sink: takes the lines.
        clock: the broker's.
    """
    return StreamingPorts(
        log=SqlSeals(database),
        cursor=SqlStreamCursor(database),
        sink=sink,
        clock=clock,
        holder=f"{_NODE}-{os.getpid()}",
    )


def _stream(ports: StreamingPorts) -> None:
    done = stream_waiting(ports)
    if done.events:
        lag = stream_lag(ports.log, ports.cursor, ports.clock())
        _log.info("audit streamed", events=done.events, lag_seconds=round(lag.total_seconds(), 1))
    if done.missing:
        _log.error("events were gone before they were streamed", events=done.missing)
    if done.problem is not None:
        _log.error("audit not streamed", problem=done.problem)
