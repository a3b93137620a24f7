"""Is the audit log what it was? Recomputes hashes, chain and signatures, and names what does not fit.

It reads a stream once and keeps nothing but where it is, so the length of the log does not matter.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from broker.core.audit import canonical_time, record_hash
from broker.core.seals import BEGINNING, Anchor, ChainPoint, Checkpoint, SealedEvent, UnsealedEvent

# Of one kind, so many are listed; one rewritten chain would otherwise fill a disk with what no longer fits.
_MOST_LISTED: Final = 20
# From the time of an event to its seal: its request, the next round of sealing, and clocks of nodes that differ. STS
# takes nothing from one that is off by more than five minutes.
_SEALED_WITHIN: Final = timedelta(minutes=10)


class DiscrepancyKind(StrEnum):
    """What was found."""

    CHANGED = "changed"
    REMOVED = "removed"
    RESEALED = "resealed"
    SEAL_MISSING = "seal missing"
    REWRITTEN = "rewritten"
    CUT_OFF = "cut off"
    FORGED = "forged checkpoint"
    UNSIGNED = "not signed"
    UNSEALED = "not sealed"
    ARCHIVE_MISSING = "archive missing"
    ARCHIVE_CHANGED = "archive changed"
    WITNESS_MISSING = "checkpoint file missing"
    HIDDEN = "hidden from searches"
    FORGED_ARCHIVE = "forged record of an archive"


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that does not fit.

    Attributes:
        position: in the chain; None for what has none.
        event_id: None where it is not about one event.
        detail: in words.
    """

    kind: DiscrepancyKind
    position: int | None
    event_id: str | None
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class WitnessedCheckpoint:
    """A checkpoint, and where it was read.

    Attributes:
        source: for messages.
        may_be_ahead: it may be newer than the log at hand, which was read before it or is a part.
    """

    checkpoint: Checkpoint
    source: str
    may_be_ahead: bool = False


@dataclass(frozen=True, slots=True)
class HiddenEvent:
    """An event that is in the log, and that some search does not find.

    Attributes:
        time: of the event.
        filters: those under which it is not found.
    """

    event_id: str
    time: datetime
    filters: tuple[str, ...]


class SignatureCheck(Protocol):
    """Public keys."""

    def problem(self, signed: Checkpoint | Anchor) -> str | None:
        """What is wrong with its signature; None when nothing is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification came to.

    Attributes:
        discrepancies: in the order of the log; of each kind the first ones.
        unlisted: how many more there are.
        events: how many have a seal.
        proved: the newest checkpoint before the first discrepancy; everything up to it is as it was signed.
        notes: what is worth knowing and no fault.
    """

    discrepancies: tuple[Discrepancy, ...]
    unlisted: int
    events: int
    proved: Checkpoint | None
    notes: tuple[str, ...] = ()

    def with_more(self, found: Discrepancies, notes: tuple[str, ...]) -> Verdict:
        """The same with what was found elsewhere since."""
        return replace(self, discrepancies=tuple(found.listed), unlisted=found.unlisted, notes=(*self.notes, *notes))

    def and_also(self, found: Discrepancies) -> Verdict:
        """The same with what was found beside the log."""
        both = (*self.discrepancies, *found.listed)
        return replace(self, discrepancies=both, unlisted=self.unlisted + found.unlisted)


@dataclass(slots=True)
class Discrepancies:
    """Collects them, up to a limit for each kind."""

    listed: list[Discrepancy] = field(default_factory=list)
    unlisted: int = 0
    _counts: dict[DiscrepancyKind, int] = field(default_factory=dict)

    def add(
        self, kind: DiscrepancyKind, detail: str, *, position: int | None = None, event_id: str | None = None
    ) -> None:
        """One more."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] > _MOST_LISTED:
            self.unlisted += 1
        else:
            self.listed.append(Discrepancy(kind, position, event_id, detail))


def in_order(
    *streams: Iterable[SealedEvent | WitnessedCheckpoint],
) -> Iterator[SealedEvent | WitnessedCheckpoint]:
    """One stream of streams that are ordered by position each: an event goes before the checkpoints on it."""
    return heapq.merge(*streams, key=_place)


def _place(one: SealedEvent | WitnessedCheckpoint) -> tuple[int, int]:
    if isinstance(one, SealedEvent):
        return one.position, 0
    return one.checkpoint.position, 1


def verify(
    log: Iterable[SealedEvent | WitnessedCheckpoint],
    signatures: SignatureCheck,
    discrepancies: Discrepancies,
    *,
    start: ChainPoint = BEGINNING,
) -> Verdict:
    """Walk along the chain.

    Args:
        log: in the order of :func:`in_order`.
        signatures: the keys that count.
        discrepancies: takes what does not fit; may hold some already.
        start: the point before the first event. One that is not the beginning is not believed: the next checkpoint
            that fits proves it too, since a chain hash says what everything before it was.
    """
    walk = _Walk(signatures, discrepancies, start)
    for one in log:
        if isinstance(one, SealedEvent):
            walk.event(one)
        else:
            walk.checkpoint(one)
    return walk.verdict()


class _Walk:
    """Where a verification is."""

    def __init__(self, signatures: SignatureCheck, discrepancies: Discrepancies, start: ChainPoint) -> None:
        self._signatures = signatures
        self._discrepancies = discrepancies
        self._start = start
        self._at = start
        self._events = 0
        self._signed = start.position
        self._proved: Checkpoint | None = None
        self._ahead: WitnessedCheckpoint | None = None
        self._passed: dict[str, int] = {}
        self._newest: datetime | None = None
        self._signed_at: datetime | None = None
        self._backdated: list[str] = []
        self._unlisted_backdated = 0

    def event(self, sealed: SealedEvent) -> None:
        """The seal at the next position, and its event."""
        expected = self._at.position + 1
        self._events += 1
        self._ahead = None
        if sealed.position < expected:
            self._discrepancies.add(
                DiscrepancyKind.RESEALED,
                f"position {sealed.position} comes again or out of order: event {sealed.event_id}",
                position=sealed.position,
                event_id=sealed.event_id,
            )
            return
        if sealed.position > expected:
            last = sealed.position - 1
            which = f"position {expected}" if last == expected else f"positions {expected} to {last}"
            self._discrepancies.add(DiscrepancyKind.SEAL_MISSING, f"{which}: the seals were removed", position=expected)
        elif self._at.next(sealed.event_hash).chain_hash != sealed.chain_hash:
            self._discrepancies.add(
                DiscrepancyKind.RESEALED,
                f"position {sealed.position}: event {sealed.event_id} is not the one that was sealed there:"
                " its seal was changed, or the order",
                position=sealed.position,
                event_id=sealed.event_id,
            )
        self._compare_with_seal(sealed)
        self._compare_with_time(sealed)
        try:
            self._at = ChainPoint(sealed.position, sealed.chain_hash)
        except ValueError:
            self._at = self._at.next(sealed.event_hash)  # what it says is no hash at all, and has been named

    def _compare_with_seal(self, sealed: SealedEvent) -> None:
        place = f"position {sealed.position}: event {sealed.event_id}"
        if sealed.record is None:
            self._discrepancies.add(
                DiscrepancyKind.REMOVED, f"{place} was removed", position=sealed.position, event_id=sealed.event_id
            )
            return
        computed = record_hash(sealed.record)
        named = sealed.record.get("id") == sealed.event_id
        if computed != sealed.event_hash or sealed.stored_hash not in {None, computed} or not named:
            time = sealed.record.get("time")
            self._discrepancies.add(
                DiscrepancyKind.CHANGED,
                f"{place} of {time} was changed" if time else f"{place} was changed, and cannot be read",
                position=sealed.position,
                event_id=sealed.event_id,
            )

    def _compare_with_time(self, sealed: SealedEvent) -> None:
        """Note an event that says it was before what had been sealed and signed when it came.

        Whoever may write to the database can insert one with a true hash, which the sealer takes for another; the
        chain says when it came. No discrepancy: a wrong clock makes such an event too, and the log keeps it for ever.
        Both are asked: a long backlog is signed batch by batch after its events, in their order, and one event with a
        time in the future must not make all others late.
        """
        time = _time_of(sealed)
        if time is None:
            return
        if self._newest is not None and self._signed_at is not None:
            known = min(self._newest, self._signed_at)
            if time < known - _SEALED_WITHIN:
                self._note_backdated(sealed, time, known)
        self._newest = time if self._newest is None else max(self._newest, time)

    def _note_backdated(self, sealed: SealedEvent, time: datetime, known: datetime) -> None:
        if len(self._backdated) == _MOST_LISTED:
            self._unlisted_backdated += 1
            return
        self._backdated.append(
            f"position {sealed.position}: event {sealed.event_id} says {canonical_time(time)}, but it came after"
            f" {canonical_time(known)}: it was written late or under a wrong clock, or inserted by somebody who may"
            " write to the database"
        )

    def checkpoint(self, witnessed: WitnessedCheckpoint) -> None:
        """A checkpoint on what has been walked along."""
        checkpoint = witnessed.checkpoint
        problem = self._signatures.problem(checkpoint)
        named = f"the checkpoint of {canonical_time(checkpoint.time)} at position {checkpoint.position}"
        if problem is not None:
            self._discrepancies.add(
                DiscrepancyKind.FORGED,
                f"{named} in {witnessed.source} is not to be trusted: {problem}",
                position=checkpoint.position,
            )
            return
        if checkpoint.position < self._start.position:
            return
        if checkpoint.position > self._at.position:
            # The end was cut off, unless an event comes after all: then a hole is before it, and is named there.
            self._ahead = witnessed
            return
        if checkpoint.position != self._at.position:
            self._passed[witnessed.source] = self._passed.get(witnessed.source, 0) + 1
            return
        self._signed = checkpoint.position
        if checkpoint.chain_hash != self._at.chain_hash:
            since = f"after position {self._proved.position}, " if self._proved else ""
            self._discrepancies.add(
                DiscrepancyKind.REWRITTEN,
                f"{named} in {witnessed.source} does not fit: {since}up to there, the log was rewritten:"
                " events inserted, removed, changed or reordered together with their seals",
                position=checkpoint.position,
            )
            return
        if self._signed_at is None or checkpoint.time > self._signed_at:
            self._signed_at = checkpoint.time
        if not self._discrepancies.listed:
            self._proved = checkpoint

    def verdict(self) -> Verdict:
        """At the end."""
        notes = [
            f"{source}: {count} checkpoints are out of order and were not compared; give every file by itself"
            for source, count in self._passed.items()
        ]
        notes += self._backdated
        if self._unlisted_backdated:
            notes.append(f"and {self._unlisted_backdated} more events that say an earlier time than they came at")
        if self._ahead is not None and not self._ahead.may_be_ahead:
            self._cut_off(self._ahead)
        elif self._signed < self._at.position:
            self._discrepancies.add(
                DiscrepancyKind.UNSIGNED,
                f"positions {self._signed + 1} to {self._at.position} are sealed, but no checkpoint covers them:"
                " they were added by hand, or checkpoints were removed",
                position=self._signed + 1,
            )
        if self._ahead is not None and self._ahead.may_be_ahead:
            ahead = self._ahead.checkpoint
            notes.append(
                f"{self._ahead.source} goes on to position {ahead.position} ({canonical_time(ahead.time)});"
                " what comes after this part of the log was not looked at"
            )
        return Verdict(
            tuple(self._discrepancies.listed), self._discrepancies.unlisted, self._events, self._proved, tuple(notes)
        )

    def _cut_off(self, witnessed: WitnessedCheckpoint) -> None:
        ahead = witnessed.checkpoint
        self._discrepancies.add(
            DiscrepancyKind.CUT_OFF,
            f"the log ends at position {self._at.position}, but the checkpoint of {canonical_time(ahead.time)} in"
            f" {witnessed.source} signs it up to position {ahead.position}: the end was cut off",
            position=self._at.position + 1,
        )


def _time_of(sealed: SealedEvent) -> datetime | None:
    """When the event was, by its record; None where that cannot be read."""
    try:
        time = datetime.fromisoformat(str((sealed.record or {}).get("time")))
    except ValueError:
        return None
    return None if time.tzinfo is None else time


def name_hidden(discrepancies: Discrepancies, one: HiddenEvent) -> None:
    """Take down an event that some search does not find."""
    discrepancies.add(
        DiscrepancyKind.HIDDEN,
        f"event {one.event_id} of {canonical_time(one.time)} is not found by its {', '.join(one.filters)}: rows that"
        " searches read were removed or changed; `broker audit mend-search` writes them again",
        event_id=one.event_id,
    )


def name_silent_witness(discrepancies: Discrepancies, place: str) -> None:
    """Take down a file that should hold checkpoints of a log that has some, and is not there or holds none."""
    discrepancies.add(
        DiscrepancyKind.WITNESS_MISSING,
        f"{place} is not there or holds no checkpoint: nothing outside the database says where the log ended; find it,"
        " or give a copy with --checkpoints",
    )


def name_unreadable(discrepancies: Discrepancies, problem: str) -> None:
    """Take down that some rows could not be read, where nothing says which."""
    discrepancies.add(DiscrepancyKind.CHANGED, f"{problem}; what else is there was not looked at")


def name_unsealed(discrepancies: Discrepancies, one: UnsealedEvent) -> None:
    """Take down an event that has waited too long for its seal, or that never got one."""
    event = f"event {one.event_id} of {canonical_time(one.time)}"
    if not one.present:
        discrepancies.add(DiscrepancyKind.REMOVED, f"{event} was removed before it was sealed", event_id=one.event_id)
    elif one.queued:
        discrepancies.add(
            DiscrepancyKind.UNSEALED, f"{event} waits to be sealed: the sealer stands still", event_id=one.event_id
        )
    else:
        detail = f"{event} has no seal and does not wait for one: it was inserted by hand, or its place was removed"
        discrepancies.add(DiscrepancyKind.UNSEALED, detail, event_id=one.event_id)
