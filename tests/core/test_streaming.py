"""The stream to a SIEM: at least once, in the order of the seals, one sender at a time, nothing skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from broker.core.errors import AuditUnavailable
from broker.core.seals import SealedEvent
from broker.core.streaming import (
    LONGEST_STREAM_LAG,
    Streamed,
    StreamingPorts,
    Written,
    check_stream_lag,
    stream_lag,
    stream_waiting,
)
from tests.core.test_audit_export import made
from tests.core.test_seals import NOON
from tests.fakes import FixedClock

MINUTE = timedelta(minutes=1)
SEALED, _ = made(1100, signed=())


@dataclass
class MemoryLog:
    """The first events of :data:`SEALED`, one a minute from noon on; of a removed one the seal is left."""

    count: int
    archived: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)

    def length(self) -> int:
        return self.count

    def sealed_events(self, last: int, *, after: int = 0) -> Iterator[SealedEvent]:
        for one in SEALED[after : min(last, self.count)]:
            if one.position not in self.archived:
                yield replace(one, record=None) if one.position in self.removed else one

    def first_time(self, after: int) -> datetime | None:
        return NOON + MINUTE * (after + 1) if after < self.count else None


@dataclass
class MemoryCursor:
    """Where the stream is, and who took it until when."""

    at: int = 0
    holder: str | None = None
    until: datetime = NOON
    writes: int = 0

    def position(self) -> int:
        return self.at

    def take(self, holder: str, now: datetime, until: datetime) -> int | None:
        self.writes += 1
        if self.holder not in {None, holder} and self.until >= now:
            return None
        self.holder, self.until = holder, until
        return self.at

    def advance(self, holder: str, position: int) -> bool:
        self.writes += 1
        if self.holder != holder or position <= self.at:
            return False
        self.at = position
        return True


@dataclass
class Siem:
    """What takes lines, as many as it has room for."""

    room: int = 10_000
    batches: list[Sequence[str]] = field(default_factory=list)

    def write(self, lines: Sequence[str]) -> Written:
        taken = lines[: self.room]
        self.room -= len(taken)
        self.batches.append(taken)
        return Written(len(taken), None if len(taken) == len(lines) else "it is full")

    @property
    def ids(self) -> list[str]:
        return [json.loads(line)["event"]["id"] for batch in self.batches for line in batch]


class Stream:
    """A log, a cursor that all nodes share, and what takes the lines."""

    def __init__(self, count: int, siem: Siem | None = None) -> None:
        self.log = MemoryLog(count)
        self.cursor = MemoryCursor()
        self.siem = siem or Siem()
        self.clock = FixedClock(NOON)

    def ports(self, holder: str = "node") -> StreamingPorts:
        return StreamingPorts(log=self.log, cursor=self.cursor, sink=self.siem, clock=self.clock, holder=holder)

    def round(self, holder: str = "node") -> Streamed:
        return stream_waiting(self.ports(holder))


def ids(*positions: int) -> list[str]:
    return [f"event-{position}" for position in positions]


def test_everything_that_waits_is_sent_once_in_the_order_of_the_seals() -> None:
    stream = Stream(1100)
    assert stream.round() == Streamed(events=1100)
    assert [len(batch) for batch in stream.siem.batches] == [500, 500, 100]
    assert stream.siem.ids == ids(*range(1, 1101))
    assert stream.cursor.at == 1100


def test_a_round_with_nothing_to_send_writes_nothing_anywhere() -> None:
    for stream in (Stream(0), Stream(3)):
        stream.round()
        writes, batches = stream.cursor.writes, len(stream.siem.batches)
        assert stream.round() == Streamed()
        assert (stream.cursor.writes, len(stream.siem.batches)) == (writes, batches)


def test_what_is_sealed_during_a_round_is_for_the_next() -> None:
    stream = Stream(2)

    class Slow(Siem):
        def write(self, lines: Sequence[str]) -> Written:
            stream.log.count = 5
            return super().write(lines)

    stream.siem = Slow()
    assert stream.round() == Streamed(events=2)
    assert stream.round() == Streamed(events=3)
    assert stream.siem.ids == ids(1, 2, 3, 4, 5)


def test_what_a_full_sink_did_not_take_is_sent_when_it_has_room_again() -> None:
    stream = Stream(5, Siem(room=2))
    assert stream.round() == Streamed(events=2, problem="it is full")
    assert stream.round() == Streamed(events=0, problem="it is full")
    # Once a round; and a place that did not move is not noted again.
    assert len(stream.siem.batches) == 2
    assert (stream.cursor.at, stream.cursor.writes) == (2, 3)
    stream.siem.room = 100
    assert stream.round() == Streamed(events=3)
    assert stream.siem.ids == ids(1, 2, 3, 4, 5)


def test_a_sink_that_is_full_in_a_later_batch_has_what_came_before_for_good() -> None:
    stream = Stream(1100, Siem(room=600))
    assert stream.round() == Streamed(events=600, problem="it is full")
    assert stream.cursor.at == 600


def test_what_was_written_when_the_broker_was_killed_is_written_again() -> None:
    stream = Stream(3)

    class Killed(Exception):
        """Stands for SIGKILL between what the sink has and the note of it."""

    class KilledAfterwards(Siem):
        def write(self, lines: Sequence[str]) -> Written:
            super().write(lines)
            raise Killed

    stream.siem = KilledAfterwards()
    with pytest.raises(Killed):
        stream.round()
    before = stream.siem
    stream.siem = Siem()
    assert stream.round() == Streamed(events=3)
    assert stream.siem.ids == before.ids == ids(1, 2, 3)


# --- What is not there any more


def test_events_that_are_gone_are_said_and_hold_nothing_up() -> None:
    stream = Stream(6)
    stream.log.archived = {1, 2, 4}
    assert stream.round() == Streamed(events=3, missing=3)
    assert stream.siem.ids == ids(3, 5, 6)
    assert stream.cursor.at == 6


def test_a_full_sink_is_sent_the_first_line_that_it_did_not_take_whatever_was_gone_before_it() -> None:
    stream = Stream(6, Siem(room=2))
    stream.log.archived = {1, 3}
    assert stream.round() == Streamed(events=2, missing=2, problem="it is full")
    stream.siem.room = 100
    assert stream.round() == Streamed(events=2)
    assert stream.siem.ids == ids(2, 4, 5, 6)


def test_a_seal_whose_event_was_removed_is_no_line() -> None:
    stream = Stream(3)
    stream.log.removed = {2}
    assert stream.round() == Streamed(events=2, missing=1)
    assert stream.siem.ids == ids(1, 3)


def test_whole_batches_that_were_archived_before_they_were_sent_are_passed_over() -> None:
    stream = Stream(1100)
    stream.log.archived = set(range(1, 1001))
    assert stream.round() == Streamed(events=100, missing=1000)
    assert stream.siem.ids == ids(*range(1001, 1101))


# --- One at a time


def test_while_one_node_sends_no_other_does_until_its_lease_is_over() -> None:
    stream = Stream(1)
    assert stream.cursor.take("first", NOON, NOON + MINUTE) == 0
    assert stream.round("second") == Streamed()
    assert stream.siem.batches == []
    stream.clock.advance(2 * MINUTE)
    assert stream.round("second") == Streamed(events=1)


def test_a_node_that_comes_second_finds_everything_sent() -> None:
    stream = Stream(3)

    class Overtaken(MemoryCursor):
        def take(self, holder: str, now: datetime, until: datetime) -> int | None:
            self.at = 3
            return super().take(holder, now, until)

    stream.cursor = Overtaken()
    assert stream.round() == Streamed()
    assert stream.siem.batches == []


def test_a_node_that_hung_longer_than_its_lease_stops_and_moves_nobody_elses_place() -> None:
    stream = Stream(1100)

    class Hanging(Siem):
        def write(self, lines: Sequence[str]) -> Written:
            stream.clock.advance(2 * MINUTE)
            assert stream.cursor.take("second", stream.clock(), stream.clock() + MINUTE) == 0
            return super().write(lines)

    stream.siem = Hanging()
    assert stream.round("first") == Streamed(events=500)
    # At least once: the second one sends them again.
    assert (stream.cursor.at, stream.cursor.holder) == (0, "second")
    assert len(stream.siem.batches) == 1


# --- How far behind


def test_the_lag_is_the_age_of_the_oldest_event_that_waits() -> None:
    stream = Stream(2)
    assert stream_lag(stream.log, stream.cursor, NOON + 4 * MINUTE) == 3 * MINUTE
    # A clock that was set back is no lag.
    assert stream_lag(stream.log, stream.cursor, NOON) == timedelta(0)
    stream.round()
    assert stream_lag(stream.log, stream.cursor, NOON + timedelta(days=1)) == timedelta(0)


def test_somebody_has_to_look_at_a_lag_of_more_than_five_minutes() -> None:
    stream = Stream(1)
    check_stream_lag(stream.log, stream.cursor, NOON + MINUTE + LONGEST_STREAM_LAG)
    with pytest.raises(AuditUnavailable, match="events of the last 301 seconds were not sent to the SIEM"):
        check_stream_lag(stream.log, stream.cursor, NOON + MINUTE + LONGEST_STREAM_LAG + timedelta(seconds=1))
