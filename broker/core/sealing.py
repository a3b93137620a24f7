"""Use case: seal what waits, and leave a checkpoint outside the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from broker.core.errors import AuditUnavailable
from broker.core.ports import CheckpointSink, Clock, Seals
from broker.core.seals import ChainPoint, Checkpoint, CheckpointSigner, sign_anchor, sign_checkpoint

# One transaction: a tenth of a second or so, in which a writer on SQLite waits.
_BATCH: Final = 2_000
# From here on somebody has to look: at three seconds between rounds, this many were missed.
LONGEST_LAG: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class SealingPorts:
    """What sealing needs.

    Attributes:
        sinks: where checkpoints go besides the database.
    """

    seals: Seals
    key: CheckpointSigner
    sinks: Sequence[CheckpointSink]
    clock: Clock


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one round did.

    Attributes:
        events: how many it sealed.
        newest: the newest checkpoint, whoever made it.
        lag: the age of the oldest event that still waits.
        problems: of the sinks; they are tried again in the next round.
    """

    events: int
    newest: Checkpoint | None
    lag: timedelta
    problems: tuple[str, ...]


def seal_waiting(ports: SealingPorts) -> Sealed:
    """One round.

    Raises:
        AuditUnavailable: no answer, or the chain is not the one that was signed: nothing is sealed any more, since
            the next signature would cover what somebody changed.
    """

    def sign(point: ChainPoint) -> Checkpoint:
        return sign_checkpoint(point, ports.key, ports.clock())

    # 1. What a sink holds was signed before. The chain still has to be the one of that signature.
    problems = _refuse_another_chain(ports)

    # 2. Seal, batch by batch.
    events = 0
    while sealed := ports.seals.seal(sign, limit=_BATCH):
        events += sealed
        if sealed < _BATCH:
            break

    # 3. Every node keeps the newest checkpoint, whichever node made it; a sink that failed gets it in a later round.
    newest = ports.seals.newest_checkpoint()
    if newest is not None:
        for sink in ports.sinks:
            try:
                sink.append(newest)
            except AuditUnavailable as error:
                problems.append(str(error))
    return Sealed(events, newest, sealing_lag(ports.seals, ports.clock()), tuple(dict.fromkeys(problems)))


def _refuse_another_chain(ports: SealingPorts) -> list[str]:
    """Compare the chain with the newest checkpoint in each sink; the sinks that cannot be read."""
    problems = []
    for sink in ports.sinks:
        try:
            witnessed = sink.newest()
        except AuditUnavailable as error:
            problems.append(str(error))
            continue
        if witnessed is None or _was_archived(witnessed, ports):
            continue
        if ports.seals.point(witnessed.position) != witnessed.point:
            raise AuditUnavailable(
                f"nothing is sealed: the log does not fit the newest checkpoint in {sink.place}, at position"
                f" {witnessed.position}; run `broker audit verify`, and if the database was restored from a backup,"
                " keep that file under another name as the proof of what is missing"
            )
    return problems


def _was_archived(witnessed: Checkpoint, ports: SealingPorts) -> bool:
    """Whether the part of the chain that it is on has left the database, and we signed what it left with.

    A file is behind by so much when its node was off, or is new to it and came from another.
    """
    archived = ports.seals.newest_archived()
    if archived is None or witnessed.position >= archived.last:
        return False
    # Ed25519 has one signature for one content (RFC 8032, section 5.1.6), so to sign again is to verify.
    return sign_anchor(archived, ports.key) == archived


def sealing_lag(seals: Seals, now: datetime) -> timedelta:
    """The age of the oldest event that waits to be sealed; zero when none does.

    Raises:
        AuditUnavailable: no answer.
    """
    oldest = seals.oldest_waiting()
    return timedelta(0) if oldest is None else max(timedelta(0), now - oldest)


def check_lag(seals: Seals, now: datetime) -> None:
    """Refuse a lag that somebody should look at.

    Raises:
        AuditUnavailable: the oldest event waits longer than a minute, or no answer.
    """
    lag = sealing_lag(seals, now)
    if lag > LONGEST_LAG:
        raise AuditUnavailable(f"events wait to be sealed for {int(lag.total_seconds())} seconds")
