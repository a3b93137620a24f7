"""Use case: send what has been sealed to a SIEM, in that order, and remember how far it got.

At least once: a line counts as sent when the sink has it for good, and what was written when the broker was killed is
written again, with the same ``event.id``. The place is one of the chain and not a time, so that an event which was
committed late is never skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Protocol

from broker.core.ecs import ecs_line
from broker.core.errors import AuditUnavailable
from broker.core.ports import Clock
from broker.core.seals import SealedEvent

# What is repeated after a crash at most.
_BATCH: Final = 500
# Somebody who stopped in the middle of a batch (a pipe that nobody reads) is passed over after this long.
_LEASE: Final = timedelta(minutes=1)
# From here on somebody has to look.
LONGEST_STREAM_LAG: Final = timedelta(minutes=5)


class StreamedLog(Protocol):
    """The sealed events. Every method raises AuditUnavailable when the database does not answer."""

    def length(self) -> int:
        """The newest position."""

    def sealed_events(self, last: int, *, after: int = 0) -> Iterator[SealedEvent]:
        """By position, from the one after ``after``."""

    def first_time(self, after: int) -> datetime | None:
        """The time of the first event after that position; None when there is none."""


class StreamCursor(Protocol):
    """Where the stream is, over all nodes. Every method raises AuditUnavailable when the database does not answer."""

    def position(self) -> int:
        """Everything up to there was sent; 0 at first."""

    def take(self, holder: str, now: datetime, until: datetime) -> int | None:
        """Be the one who sends, until then at the longest.

        Returns:
            The position; None while somebody else is the one.
        """

    def advance(self, holder: str, position: int) -> bool:
        """Note what was sent; False when somebody else has taken over meanwhile, and will send it again."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a sink did with lines.

    Attributes:
        lines: how many it has for good, from the first on.
        problem: why it has not all of them.
    """

    lines: int
    problem: str | None = None


class LineSink(Protocol):
    """Where the lines go."""

    def write(self, lines: Sequence[str]) -> Written:
        """Write them, each with a line feed."""


@dataclass(frozen=True, slots=True)
class StreamingPorts:
    """What streaming needs.

    Attributes:
        holder: who we are, another name for each process.
    """

    log: StreamedLog
    cursor: StreamCursor
    sink: LineSink
    clock: Clock
    holder: str


@dataclass(frozen=True, slots=True)
class Streamed:
    """What one round did.

    Attributes:
        events: how many were sent.
        missing: how many were not there any more: removed, or archived before they were sent.
        problem: of the sink; what it did not take is sent in a later round.
    """

    events: int = 0
    missing: int = 0
    problem: str | None = None


def stream_waiting(ports: StreamingPorts) -> Streamed:
    """One round: everything that waits, batch by batch, unless another process is at it.

    Raises:
        AuditUnavailable: no answer from the database.
    """
    done = Streamed()
    # Without a lease: most rounds find nothing to do, and taking one is a write.
    last = ports.log.length()
    if ports.cursor.position() >= last:
        return done
    while True:
        # 1. One at a time over all nodes. The lease is taken anew for each batch.
        now = ports.clock()
        position = ports.cursor.take(ports.holder, now, now + _LEASE)
        if position is None or position >= last:
            return done
        # 2. No transaction is open while the sink takes its time.
        batch = list(islice(ports.log.sealed_events(min(last, position + _BATCH), after=position), _BATCH))
        present = [one for one in batch if one.record is not None]
        written = ports.sink.write([ecs_line(one) for one in present])
        # 3. What the sink has, it has for good; the rest is for the next round.
        reached = min(last, position + _BATCH) if written.problem is None else _before(present, written.lines, position)
        missing = reached - position - written.lines
        done = Streamed(done.events + written.lines, done.missing + missing, written.problem)
        if reached == position or not ports.cursor.advance(ports.holder, reached) or written.problem is not None:
            return done


def _before(present: Sequence[SealedEvent], lines: int, position: int) -> int:
    """The position that is reached when so many of them were written."""
    return present[lines - 1].position if lines else position


def stream_lag(log: StreamedLog, cursor: StreamCursor, now: datetime) -> timedelta:
    """The age of the oldest sealed event that was not sent; zero when there is none.

    Raises:
        AuditUnavailable: no answer.
    """
    oldest = log.first_time(cursor.position())
    return timedelta(0) if oldest is None else max(timedelta(0), now - oldest)


def check_stream_lag(log: StreamedLog, cursor: StreamCursor, now: datetime) -> None:
    """Refuse a lag that somebody should look at.

    Raises:
        AuditUnavailable: the oldest event waits longer than five minutes, or no answer.
    """
    lag = stream_lag(log, cursor, now)
    if lag > LONGEST_STREAM_LAG:
        raise AuditUnavailable(f"events of the last {int(lag.total_seconds())} seconds were not sent to the SIEM")
