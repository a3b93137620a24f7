"""Use case: take old events out of the database into a file that proves itself, and lose none whatever happens.

An archive is an export (:mod:`broker.core.audit_export`) of the beginning of the chain, up to a checkpoint. What stays
in the database is an anchor: the checkpoint of the cut, with the file's name and digest, signed with the checkpoint
key. Rows go only after the file was flushed, read back and verified, and after the anchor was committed; the database
refuses to remove any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_export import ExportReader, export_lines, verify_export
from broker.core.errors import AuditUnavailable
from broker.core.ports import Clock
from broker.core.seals import (
    BEGINNING,
    Anchor,
    ChainPoint,
    Checkpoint,
    CheckpointSigner,
    SealedEvent,
    sign_anchor,
)
from broker.core.verification import (
    Discrepancies,
    DiscrepancyKind,
    SignatureCheck,
    Verdict,
    WitnessedCheckpoint,
    in_order,
)

# In one transaction, which another writer on SQLite waits for.
_REMOVED_AT_ONCE: Final = 500
_FILE_NAME: Final = re.compile(r"audit-[0-9]{12,}-[0-9]{12,}\.jsonl\.gz")


@dataclass(frozen=True, slots=True)
class Cut:
    """What could be archived.

    Attributes:
        start: the point before the first event.
        checkpoint: on the last event.
        since: the time of the earliest event.
        until: the time of the latest event.
    """

    start: ChainPoint
    checkpoint: Checkpoint
    since: datetime
    until: datetime

    @property
    def events(self) -> int:
        """How many."""
        return self.checkpoint.position - self.start.position

    @property
    def file(self) -> str:
        """The name of its file: the same for the same events."""
        return f"audit-{self.start.position + 1:012d}-{self.checkpoint.position:012d}.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Retained:
    """Where an archive has to stop, and why.

    Attributes:
        position: of the first event that stays.
        reason: in words.
    """

    position: int
    reason: str


class ArchivedLog(Protocol):
    """The log in the database. Every method raises AuditUnavailable when it does not do its part."""

    def anchors(self) -> tuple[Anchor, ...]:
        """All of them, in their order."""

    def retained(self, before: datetime, now: datetime) -> Retained | None:
        """The first sealed event that is not before that moment, or whose session may live; None: none."""

    def cut(self, start: ChainPoint, stop: int | None) -> Cut | None:
        """From that point to the last checkpoint before position ``stop``; None when no checkpoint is there."""

    def sealed_events(self, last: int, *, after: int = 0) -> Iterator[SealedEvent]:
        """By position."""

    def checkpoints(self, last: int, *, after: int = 0) -> Iterator[Checkpoint]:
        """By position."""

    def record(self, anchor: Anchor, start: ChainPoint) -> None:
        """Commit an anchor.

        Args:
            anchor: the new one.
            start: the point of the newest one so far.

        Raises:
            AuditUnavailable: also when another archive came in between.
        """

    def removable(self, up_to: int) -> int | None:
        """The lowest position that still has an event, where it is not above that one."""

    def remove(self, up_to: int) -> None:
        """Remove the events up to that position and their proof, but for the last seal, in one transaction."""


class ArchiveFolder(Protocol):
    """Where archives are kept. Every method raises AuditUnavailable when it cannot be read or written."""

    def write(self, file: str, lines: Iterable[str]) -> str:
        """Write lines durably under a name that says it is not finished; the SHA-256 of the file."""

    def read_unfinished(self, file: str) -> Iterator[str]:
        """The lines of what :meth:`write` wrote."""

    def publish(self, file: str) -> None:
        """Give it its name, durably; one of that name is replaced."""

    def discard(self, file: str) -> None:
        """Remove what :meth:`write` wrote."""

    def read(self, file: str) -> Iterator[str]:
        """The lines of an archive."""

    def sha256(self, file: str) -> str | None:
        """Of a file's bytes; None when it is not there."""


@dataclass(frozen=True, slots=True)
class ArchivingPorts:
    """What archiving needs.

    Attributes:
        key: signs the anchor.
        append: appends an event to the audit.
        clock: for the event and the anchor.
        pause: called after each batch that was removed, so that others may write.
    """

    log: ArchivedLog
    folder: ArchiveFolder
    key: CheckpointSigner
    signatures: SignatureCheck
    append: Callable[[AuditEvent], None]
    clock: Clock
    pause: Callable[[], None]


def plan(log: ArchivedLog, before: datetime, now: datetime, streamed: int | None) -> tuple[Cut | None, Retained | None]:
    """What an archive would hold, and why no more.

    Args:
        before: events from that moment on stay.
        now: sessions that end later are live.
        streamed: events after that position stay, since the SIEM does not have them; None when there is no SIEM.

    Raises:
        AuditUnavailable: no answer.
    """
    anchors = log.anchors()
    start = anchors[-1].checkpoint.point if anchors else BEGINNING
    retained = log.retained(before, now)
    if streamed is not None and (retained is None or streamed + 1 < retained.position):
        retained = Retained(streamed + 1, "the SIEM does not have it yet")
    return log.cut(start, None if retained is None else retained.position), retained


def archive(ports: ArchivingPorts, cut: Cut, operator: str) -> Anchor:
    """Archive those events.

    Killed at any point, it can be run again: what was written without an anchor is written again, and what was
    anchored is removed by :func:`finish_removal`.

    Args:
        cut: from :func:`plan`, just now.
        operator: who asked for it, for the audit.

    Raises:
        AuditUnavailable: a part did not do its part, or the events are not what was sealed; nothing was removed then,
            or, if the database went away during the removal, what is gone is in the file.
    """
    # 1. Write, flushed to the disk.
    last = cut.checkpoint.position
    checkpoints = (
        WitnessedCheckpoint(one, "the database") for one in ports.log.checkpoints(last, after=cut.start.position)
    )
    lines = export_lines(cut.start, in_order(ports.log.sealed_events(last, after=cut.start.position), checkpoints))
    sha256 = ports.folder.write(cut.file, lines)
    # 2. Read what is on the disk, as `broker audit verify --export` does.
    problem = _unfit(ports.folder.read_unfinished(cut.file), cut, ports.signatures)
    if problem is not None:
        ports.folder.discard(cut.file)
        raise AuditUnavailable(f"nothing was archived: {problem}; run `broker audit verify`")
    ports.folder.publish(cut.file)
    # 3. Say so in the audit, then in the anchor. By now, a large file has taken its time: an event that said when that
    #    began would come late.
    now = ports.clock()
    anchor = sign_anchor(Anchor(cut.start.position + 1, cut.checkpoint, cut.file, sha256, now), ports.key)
    what = f"positions {anchor.first} to {anchor.last}, in {anchor.file}, SHA-256 {sha256}"
    ports.append(AuditEvent(kind=EventKind.ADMIN_AUDIT_ARCHIVED, time=now, reason=f"{what}; by {operator}"))
    ports.log.record(anchor, cut.start)
    # 4. Now the rows may go.
    _remove(ports, anchor)
    return anchor


def finish_removal(ports: ArchivingPorts) -> Anchor | None:
    """Remove what an archive that was broken off left; None when none was.

    Raises:
        AuditUnavailable: the file is not in the folder, or is not what it was.
    """
    anchors = ports.log.anchors()
    if not anchors or ports.log.removable(anchors[-1].last) is None:
        return None
    newest = anchors[-1]
    found = ports.folder.sha256(newest.file)
    if found != newest.sha256:
        how = "is not in this folder" if found is None else "was changed"
        raise AuditUnavailable(
            f"{newest.file}, which holds events that are not removed yet, {how}: archive to the folder that has it"
        )
    start = anchors[-2].checkpoint.point if len(anchors) > 1 else BEGINNING
    problem = _unfit(
        ports.folder.read(newest.file), Cut(start, newest.checkpoint, newest.time, newest.time), ports.signatures
    )
    if problem is not None:
        raise AuditUnavailable(f"nothing was removed: {problem}; run `broker audit verify`")
    _remove(ports, newest)
    return newest


def _remove(ports: ArchivingPorts, anchor: Anchor) -> None:
    while (lowest := ports.log.removable(anchor.last)) is not None:
        ports.log.remove(min(lowest + _REMOVED_AT_ONCE - 1, anchor.last))
        ports.pause()


def verify_anchors(
    anchors: Iterable[Anchor], signatures: SignatureCheck, found: Discrepancies, *, files_are_read: bool
) -> None:
    """Name the records of archives that the key did not sign, and those that are missing between others.

    Args:
        anchors: in their order.
        signatures: the keys that count.
        found: takes what does not fit.
        files_are_read: the archives themselves are verified too (:func:`verify_archives`), which proves a record that
            an earlier version made without a signature: the events are in the file.
    """
    expected = 1
    for anchor in anchors:
        place = f"the record of {anchor.file}, with positions {anchor.first} to {anchor.last}"
        if anchor.first != expected:
            found.add(
                DiscrepancyKind.ARCHIVE_MISSING,
                f"{place}, does not go on where the one before ends: position {expected} was to be the next",
                position=expected,
            )
        expected = anchor.last + 1
        if not anchor.signature and files_are_read:
            continue
        problem = signatures.problem(anchor) if anchor.signature else "it has no signature"
        if problem is not None:
            found.add(
                DiscrepancyKind.FORGED_ARCHIVE,
                f"{place}, is not to be trusted: {problem}; nothing says that an archive was made before its events"
                " were removed, but the file itself: give the folder that has it with --archives",
                position=anchor.first,
            )


def verify_archives(
    anchors: Iterable[Anchor],
    folder: ArchiveFolder,
    signatures: SignatureCheck,
    found: Discrepancies,
    witnesses: Callable[[], Iterable[Iterator[WitnessedCheckpoint]]],
) -> int:
    """Read every archive, and name those that are missing, changed, or no part of this chain.

    Args:
        anchors: in their order.
        folder: where they should be.
        signatures: the keys that count.
        found: takes what does not fit.
        witnesses: opens the checkpoint files, for each archive anew.

    Returns:
        How many events are in those that fit.

    Raises:
        AuditUnavailable: a file cannot be read.
    """
    events = 0
    start = BEGINNING
    for anchor in anchors:
        place = f"{anchor.file}, with positions {anchor.first} to {anchor.last}"
        sha256 = folder.sha256(anchor.file) if _FILE_NAME.fullmatch(anchor.file) else None
        if sha256 is None:
            found.add(DiscrepancyKind.ARCHIVE_MISSING, f"{place}, is not in the folder", position=anchor.first)
        elif sha256 != anchor.sha256:
            found.add(DiscrepancyKind.ARCHIVE_CHANGED, f"{place}, was changed: its SHA-256 is {sha256}")
        else:
            cut = Cut(start, anchor.checkpoint, anchor.time, anchor.time)
            problem = _unfit(folder.read(anchor.file), cut, signatures, witnesses())
            if problem is None:
                events += cut.events
            else:
                found.add(DiscrepancyKind.ARCHIVE_CHANGED, f"{place}: {problem}", position=anchor.first)
        start = anchor.checkpoint.point
    return events


def _unfit(
    lines: Iterator[str],
    cut: Cut,
    signatures: SignatureCheck,
    witnesses: Iterable[Iterator[WitnessedCheckpoint]] = (),
) -> str | None:
    """Why those lines are not that part of the chain, signed at its end; None when they are."""
    try:
        export = ExportReader(lines, cut.file)
        verdict: Verdict = verify_export(export, signatures, Discrepancies(), witnesses)
    except AuditUnavailable as error:
        return str(error)
    if verdict.discrepancies:
        return str(verdict.discrepancies[0])
    if export.start != cut.start or verdict.proved is None or verdict.proved.point != cut.checkpoint.point:
        return f"{cut.file} is not the part of the chain that the anchor says"
    return None
