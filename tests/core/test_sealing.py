"""One round of sealing: batches, checkpoints outside the database, and what it refuses to go on with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from broker.core.audit import AuditEvent, EventKind
from broker.core.errors import AuditUnavailable
from broker.core.sealing import SealingPorts, check_lag, seal_waiting, sealing_lag
from broker.core.seals import BEGINNING, Anchor, ChainPoint, Checkpoint, Sign, continue_chain, sign_anchor
from tests.core.test_seals import NOON, RecordingKey


@dataclass
class MemorySeals:
    """Seals in memory."""

    waiting: list[AuditEvent] = field(default_factory=list)
    points: list[ChainPoint] = field(default_factory=lambda: [BEGINNING])
    checkpoints: list[Checkpoint] = field(default_factory=list)
    archived: Anchor | None = None

    def seal(self, sign: Sign, *, limit: int) -> int:
        batch, self.waiting = self.waiting[:limit], self.waiting[limit:]
        if batch:
            signed = self.checkpoints[-1].point if self.checkpoints else BEGINNING
            seals = continue_chain(self.points[-1], signed, [(event.id, event.hash) for event in batch])
            self.points += [seal.point for seal in seals]
            self.checkpoints.append(sign(self.points[-1]))
        return len(batch)

    def newest_checkpoint(self) -> Checkpoint | None:
        return self.checkpoints[-1] if self.checkpoints else None

    def point(self, position: int) -> ChainPoint | None:
        if self.archived is not None and position < self.archived.last:
            return None
        return self.points[position] if position < len(self.points) else None

    def newest_archived(self) -> Anchor | None:
        return self.archived

    def oldest_waiting(self) -> datetime | None:
        return min((event.time for event in self.waiting), default=None)


@dataclass
class MemorySink:
    """A sink in memory, which may be full."""

    place: str = "the sink"
    kept: list[Checkpoint] = field(default_factory=list)
    broken: bool = False

    def newest(self) -> Checkpoint | None:
        if self.broken:
            raise AuditUnavailable(f"{self.place} cannot be read")
        return self.kept[-1] if self.kept else None

    def append(self, checkpoint: Checkpoint) -> None:
        if self.broken:
            raise AuditUnavailable(f"{self.place} is full")
        if not self.kept or self.kept[-1].position < checkpoint.position:
            self.kept.append(checkpoint)


def events(count: int) -> list[AuditEvent]:
    return [
        AuditEvent(kind=EventKind.LOGIN_SUCCEEDED, time=NOON - timedelta(seconds=number)) for number in range(count)
    ]


def ports(seals: MemorySeals, *sinks: MemorySink) -> SealingPorts:
    return SealingPorts(seals=seals, key=RecordingKey(), sinks=sinks, clock=lambda: NOON)


def test_everything_that_waits_is_sealed_and_every_sink_has_the_newest_checkpoint() -> None:
    seals, sinks = MemorySeals(events(4001)), (MemorySink(), MemorySink())
    done = seal_waiting(ports(seals, *sinks))
    assert (done.events, done.lag, done.problems) == (4001, timedelta(0), ())
    assert [one.position for one in seals.checkpoints] == [2000, 4000, 4001]
    assert done.newest == seals.checkpoints[-1]
    assert [sink.kept for sink in sinks] == [[done.newest]] * 2


def test_a_round_without_anything_new_signs_nothing() -> None:
    seals, sink = MemorySeals(events(2000)), MemorySink()
    seal_waiting(ports(seals, sink))
    again = seal_waiting(ports(seals, sink))
    assert (again.events, len(seals.checkpoints), len(sink.kept)) == (0, 1, 1)


def test_an_empty_log_has_no_checkpoint() -> None:
    sink = MemorySink()
    done = seal_waiting(ports(MemorySeals(), sink))
    assert (done.events, done.newest, sink.kept) == (0, None, [])


def test_a_sink_that_fails_stops_nothing_and_gets_the_newest_later() -> None:
    seals, good, broken = MemorySeals(events(3)), MemorySink("good"), MemorySink("broken", broken=True)
    done = seal_waiting(ports(seals, broken, good))
    assert (done.events, done.problems) == (3, ("broken cannot be read", "broken is full"))
    assert len(good.kept) == 1
    broken.broken = False
    assert seal_waiting(ports(seals, broken, good)).problems == ()
    assert broken.kept == good.kept


def test_another_brokers_checkpoint_is_kept_here_too() -> None:
    seals, here, there = MemorySeals(events(3)), MemorySink(), MemorySink()
    seal_waiting(ports(seals, there))
    assert seal_waiting(ports(seals, here)).events == 0
    assert here.kept == there.kept


@pytest.mark.parametrize("cut", [True, False])
def test_nothing_is_sealed_once_the_log_does_not_fit_a_sink(*, cut: bool) -> None:
    seals, sink = MemorySeals(events(5)), MemorySink()
    seal_waiting(ports(seals, sink))
    other = MemorySeals(events(3 if cut else 9))
    seal_waiting(ports(other))
    other.waiting = events(1)
    with pytest.raises(AuditUnavailable, match="does not fit the newest checkpoint in the sink, at position 5"):
        seal_waiting(ports(other, sink))
    assert len(other.waiting) == 1


def test_a_sink_that_is_behind_an_archive_stops_nothing_unless_nobody_signed_that_archive() -> None:
    seals, sink = MemorySeals(events(5)), MemorySink()
    seal_waiting(ports(seals, sink))
    seals.waiting = events(4)
    seal_waiting(ports(seals))
    anchor = Anchor(1, seals.checkpoints[-1], "audit.jsonl.gz", "ab" * 32, NOON)
    seals.archived = anchor
    with pytest.raises(AuditUnavailable, match="does not fit the newest checkpoint in the sink, at position 5"):
        seal_waiting(ports(seals, sink))
    seals.archived = sign_anchor(anchor, RecordingKey())
    seal_waiting(ports(seals, sink))
    assert sink.kept[-1].position == 9


def test_the_lag_is_the_age_of_the_oldest_event_that_waits() -> None:
    seals = MemorySeals(events(62))
    assert sealing_lag(seals, NOON) == timedelta(seconds=61)
    assert sealing_lag(seals, NOON - timedelta(hours=1)) == timedelta(0)
    with pytest.raises(AuditUnavailable, match="wait to be sealed for 61 seconds"):
        check_lag(seals, NOON)
    check_lag(seals, NOON - timedelta(seconds=1))
    check_lag(MemorySeals(), NOON)
