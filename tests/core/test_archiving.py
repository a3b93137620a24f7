"""Archiving: which events may go, in which order that happens, and what is removed only once it is safe elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from broker.core.archiving import (
    ArchivingPorts,
    Cut,
    Retained,
    archive,
    finish_removal,
    plan,
    verify_anchors,
    verify_archives,
)
from broker.core.audit import AuditEvent, EventKind, canonical_time
from broker.core.audit_export import export_lines
from broker.core.errors import AuditUnavailable
from broker.core.seals import (
    BEGINNING,
    Anchor,
    ChainPoint,
    Checkpoint,
    SealedEvent,
    sign_anchor,
    sign_checkpoint,
)
from broker.core.verification import Discrepancies, WitnessedCheckpoint, in_order
from tests.core.ports_in_memory import Witness
from tests.core.test_audit_export import SameKey, made
from tests.core.test_seals import NOON, RecordingKey

KEY = RecordingKey()
TOMORROW = NOON + timedelta(days=1)
# One event a minute from a minute after noon on, and a checkpoint on every fifth.
SEALED, WITNESSED = made(1200, signed=range(5, 1201, 5))
CHECKPOINTS = [one.checkpoint for one in WITNESSED]


@dataclass
class MemoryArchivedLog:
    """The first events of :data:`SEALED`. Like the database it lets go of nothing that no anchor covers."""

    events: list[SealedEvent]
    signed: list[Checkpoint]
    kept: list[Anchor] = field(default_factory=list)

    def anchors(self) -> tuple[Anchor, ...]:
        return tuple(self.kept)

    def retained(self, before: datetime, now: datetime) -> Retained | None:
        assert before <= now
        times = {one.position: str(one.record["time"]) for one in self.events if one.record is not None}
        late = [position for position, time in times.items() if time >= canonical_time(before)]
        return Retained(min(late), "it is not before that") if late else None

    def cut(self, start: ChainPoint, stop: int | None) -> Cut | None:
        among = [one for one in self.signed if start.position < one.position and (stop is None or one.position < stop)]
        return Cut(start, among[-1], NOON, TOMORROW) if among else None

    def sealed_events(self, last: int, *, after: int = 0) -> Iterator[SealedEvent]:
        return (one for one in self.events if after < one.position <= last)

    def checkpoints(self, last: int, *, after: int = 0) -> Iterator[Checkpoint]:
        return (one for one in self.signed if after < one.position <= last)

    def record(self, anchor: Anchor, start: ChainPoint) -> None:
        if start.position != (self.kept[-1].last if self.kept else 0):
            raise AuditUnavailable("another archive was made meanwhile")
        self.kept.append(anchor)

    def removable(self, up_to: int) -> int | None:
        return min((one.position for one in self.events if one.position <= up_to), default=None)

    def remove(self, up_to: int) -> None:
        if not self.kept or up_to > self.kept[-1].last:
            raise AuditUnavailable("DELETE is refused")
        self.events = [one for one in self.events if one.position > up_to]
        self.signed = [one for one in self.signed if one.position >= up_to]


def sha256_of(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass
class MemoryFolder:
    """Archives, and what has no name yet. ``spoils`` is what the disk makes of what is written to it."""

    files: dict[str, Sequence[str]] = field(default_factory=dict)
    unfinished: dict[str, Sequence[str]] = field(default_factory=dict)
    spoils: Callable[[list[str]], list[str]] = lambda lines: lines

    def write(self, file: str, lines: Iterable[str]) -> str:
        written = list(lines)
        self.unfinished[file] = self.spoils(written)
        return sha256_of(written)

    def read_unfinished(self, file: str) -> Iterator[str]:
        return iter(self.unfinished[file])

    def publish(self, file: str) -> None:
        self.files[file] = self.unfinished.pop(file)

    def discard(self, file: str) -> None:
        del self.unfinished[file]

    def read(self, file: str) -> Iterator[str]:
        return iter(self.files[file])

    def sha256(self, file: str) -> str | None:
        return sha256_of(self.files[file]) if file in self.files else None


class Desk:
    """Where archives are made. ``failures`` maps what a witness writes down to what is raised instead."""

    def __init__(self, count: int = 40) -> None:
        self.calls: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.log = MemoryArchivedLog(SEALED[:count], CHECKPOINTS[: count // 5])
        self.folder = MemoryFolder()
        self.appended: list[AuditEvent] = []
        self.left: list[int] = []

    @property
    def ports(self) -> ArchivingPorts:
        audit = Witness("audit", self, self.calls, self.failures)
        pauses = Witness("others", self, self.calls, self.failures)
        return ArchivingPorts(
            log=Witness("log", self.log, self.calls, self.failures),
            folder=Witness("folder", self.folder, self.calls, self.failures),
            key=KEY,
            signatures=SameKey(),
            append=audit.append,
            clock=lambda: TOMORROW,
            pause=pauses.pause,
        )

    def append(self, event: AuditEvent) -> None:
        self.appended.append(event)

    def pause(self) -> None:
        """Others may write, and find so many events."""
        self.left.append(len(self.log.events))

    def plan(self, minutes: int, streamed: int | None = None) -> tuple[Cut | None, Retained | None]:
        return plan(self.log, NOON + timedelta(minutes=minutes), TOMORROW, streamed)

    def archive(self, minutes: int) -> Anchor:
        """Events before so many minutes after noon."""
        cut, _ = self.plan(minutes)
        assert cut is not None
        return archive(self.ports, cut, "root on node")

    def positions(self) -> list[int]:
        return [one.position for one in self.log.events]

    def found(self, *witnesses: WitnessedCheckpoint) -> list[str]:
        """What a verification of the archives names."""
        found = Discrepancies()
        verify_anchors(self.log.anchors(), SameKey(), found, files_are_read=True)
        verify_archives(self.log.anchors(), self.folder, SameKey(), found, lambda: [iter(witnesses)])
        return [f"{one.kind} at {one.position}" for one in found.listed]


# --- What may go


def test_events_before_a_date_go_up_to_the_last_checkpoint_among_them() -> None:
    cut, retained = Desk().plan(24)
    assert cut == Cut(BEGINNING, CHECKPOINTS[3], NOON, TOMORROW)
    assert (cut.events, cut.file) == (20, "audit-000000000001-000000000020.jsonl.gz")
    assert retained == Retained(24, "it is not before that")


def test_the_next_archive_goes_on_where_the_last_ended() -> None:
    desk = Desk()
    first = desk.archive(12)
    second = desk.archive(31)
    assert [(one.first, one.last) for one in (first, second)] == [(1, 10), (11, 30)]
    assert list(desk.folder.files) == [first.file, second.file]
    assert desk.positions() == list(range(31, 41))


def test_everything_that_is_signed_may_go_when_all_of_it_is_old_enough() -> None:
    cut, retained = Desk(43).plan(24 * 60)
    assert cut is not None
    assert (cut.checkpoint.position, retained) == (40, None)


@pytest.mark.parametrize(("streamed", "minutes"), [(12, 24), (12, 24 * 60)])
def test_what_the_siem_does_not_have_stays(streamed: int, minutes: int) -> None:
    cut, retained = Desk().plan(minutes, streamed)
    assert cut is not None
    assert cut.checkpoint.position == 10
    assert retained == Retained(13, "the SIEM does not have it yet")


@pytest.mark.parametrize("streamed", [23, 40])
def test_what_the_siem_has_goes_no_sooner_for_it(streamed: int) -> None:
    _, retained = Desk().plan(24, streamed)
    assert retained == Retained(24, "it is not before that")


def test_where_nothing_is_old_enough_there_is_nothing_to_archive() -> None:
    assert Desk().plan(5) == (None, Retained(5, "it is not before that"))
    assert Desk(0).plan(5) == (None, None)


# --- The road


def test_rows_go_after_the_file_was_read_back_and_the_anchor_was_kept() -> None:
    desk = Desk()
    desk.archive(24)
    assert desk.calls == [
        "log.checkpoints",
        "log.sealed_events",
        "folder.write",
        "folder.read_unfinished",
        "folder.publish",
        "audit admin.audit_archived",
        "log.record",
        "log.removable",
        "log.remove",
        "others.pause",
        "log.removable",
    ]
    assert desk.positions() == list(range(21, 41))


def test_the_file_holds_the_events_and_the_anchor_names_it_signed() -> None:
    desk = Desk()
    anchor = desk.archive(24)
    assert desk.folder.files[anchor.file] == list(export_lines(BEGINNING, in_order(SEALED[:20], WITNESSED[:4])))
    assert (anchor.first, anchor.checkpoint, anchor.time) == (1, CHECKPOINTS[3], TOMORROW)
    assert anchor.sha256 == desk.folder.sha256(anchor.file)
    assert SameKey().problem(anchor) is None
    assert desk.log.anchors() == (anchor,)
    assert desk.found() == []


def test_who_archived_what_is_an_event_of_the_log() -> None:
    desk = Desk()
    anchor = desk.archive(24)
    [event] = desk.appended
    assert (event.kind, event.time) == (EventKind.ADMIN_AUDIT_ARCHIVED, TOMORROW)
    assert event.reason == f"positions 1 to 20, in {anchor.file}, SHA-256 {anchor.sha256}; by root on node"


@pytest.mark.parametrize(
    "failing",
    [
        "log.sealed_events",
        "folder.write",
        "folder.read_unfinished",
        "folder.publish",
        "audit admin.audit_archived",
        "log.record",
    ],
)
def test_whatever_fails_before_the_anchor_is_kept_no_event_is_removed_and_it_can_be_run_again(failing: str) -> None:
    desk = Desk()
    desk.failures[failing] = AuditUnavailable("it does not do its part")
    with pytest.raises(AuditUnavailable, match="its part"):
        desk.archive(24)
    assert desk.positions() == list(range(1, 41))
    assert desk.log.anchors() == ()

    desk.failures.clear()
    assert finish_removal(desk.ports) is None
    desk.archive(24)
    assert desk.found() == []


def test_rows_go_a_few_at_a_time_and_others_may_write_in_between() -> None:
    desk = Desk(1200)
    desk.archive(1106)
    assert desk.calls[-7:] == [*["log.removable", "log.remove", "others.pause"] * 2, "log.removable"]
    assert desk.left == [700, 200, 95]
    assert desk.positions() == list(range(1106, 1201))


@pytest.mark.parametrize(
    ("spoils", "problem"),
    [
        (lambda lines: lines[:-1], "was broken off after line 25: export it again"),
        (lambda lines: lines[1:], "line 1: it is no export"),
        (
            lambda lines: [*lines[:3], lines[3].replace("succeeded", "rejected"), *lines[4:]],
            "event-3 of .* was changed",
        ),
        (lambda _: list(export_lines(BEGINNING, ())), "not the part of the chain that the anchor says"),
        (
            lambda _: list(export_lines(BEGINNING, in_order(SEALED[:15], WITNESSED[:3]))),
            "not the part of the chain that the anchor says",
        ),
        (
            lambda _: list(
                export_lines(ChainPoint(5, CHECKPOINTS[0].chain_hash), in_order(SEALED[5:20], WITNESSED[1:4]))
            ),
            "not the part of the chain that the anchor says",
        ),
    ],
)
def test_a_file_that_does_not_read_as_the_events_that_were_sealed_is_thrown_away(
    spoils: Callable[[list[str]], list[str]], problem: str
) -> None:
    desk = Desk()
    desk.folder.spoils = spoils
    with pytest.raises(AuditUnavailable, match=f"nothing was archived: .*{problem}.*; run `broker audit verify`"):
        desk.archive(24)
    assert (desk.folder.files, desk.folder.unfinished) == ({}, {})
    assert (desk.positions(), desk.log.anchors(), desk.appended) == (list(range(1, 41)), (), [])


def test_events_that_were_tampered_with_are_not_archived() -> None:
    desk = Desk()
    desk.log.events = [*SEALED[:3], replace(SEALED[3], record=None), *SEALED[4:40]]
    with pytest.raises(AuditUnavailable, match="nothing was archived: position 4: event event-4 was removed"):
        desk.archive(24)
    assert desk.log.anchors() == ()


# --- Broken off


def broken_off(desk: Desk, minutes: int = 24) -> Anchor:
    """An archive that was killed after its anchor was kept."""
    desk.failures["log.remove"] = AuditUnavailable("the database went away")
    with pytest.raises(AuditUnavailable, match="went away"):
        desk.archive(minutes)
    desk.failures.clear()
    return desk.log.kept[-1]


def test_a_removal_that_was_broken_off_is_finished_by_the_next_run() -> None:
    desk = Desk()
    for minutes, left in ((24, 21), (31, 31)):
        anchor = broken_off(desk, minutes)
        assert desk.positions()[0] < left
        assert finish_removal(desk.ports) == anchor
        assert desk.positions() == list(range(left, 41))
        assert finish_removal(desk.ports) is None
    assert desk.found() == []


def test_where_nothing_was_ever_archived_there_is_nothing_to_finish() -> None:
    desk = Desk()
    assert finish_removal(desk.ports) is None
    assert desk.calls == ["log.anchors"]


def test_a_removal_is_not_finished_without_the_very_file() -> None:
    desk = Desk()
    anchor = broken_off(desk)
    lines = desk.folder.files[anchor.file]
    desk.folder.files[anchor.file] = [*lines, ""]
    with pytest.raises(AuditUnavailable, match=f"{anchor.file}, which holds events .*, was changed: archive to the"):
        finish_removal(desk.ports)
    desk.folder.files.clear()
    with pytest.raises(AuditUnavailable, match=f"{anchor.file}, which holds .*, is not in this folder: archive to the"):
        finish_removal(desk.ports)
    assert desk.positions() == list(range(1, 41))
    desk.folder.files[anchor.file] = lines
    assert finish_removal(desk.ports) == anchor


@pytest.mark.parametrize("second", [False, True])
def test_a_removal_is_not_finished_with_a_file_that_does_not_hold_the_events(*, second: bool) -> None:
    desk = Desk()
    if second:
        desk.archive(12)
    anchor = broken_off(desk)
    desk.folder.files[anchor.file] = list(export_lines(BEGINNING, ()))
    desk.log.kept[-1] = replace(anchor, sha256=sha256_of(desk.folder.files[anchor.file]))
    left = desk.positions()
    with pytest.raises(AuditUnavailable, match=r"nothing was removed: .* is not the part of the chain"):
        finish_removal(desk.ports)
    assert desk.positions() == left


# --- What a verification says of archives


def two_archives() -> Desk:
    desk = Desk()
    for minutes in (12, 24):
        desk.archive(minutes)
    return desk


def anchors_found(anchors: Iterable[Anchor], *, files_are_read: bool = False) -> list[str]:
    found = Discrepancies()
    verify_anchors(anchors, SameKey(), found, files_are_read=files_are_read)
    return [f"{one.kind} at {one.position}: {one}" for one in found.listed]


def test_archives_that_are_what_they_were_are_counted_and_nothing_is_said_against_them() -> None:
    desk = two_archives()
    found = Discrepancies()
    assert verify_archives(desk.log.anchors(), desk.folder, SameKey(), found, tuple) == 20
    assert found.listed == []
    assert anchors_found(desk.log.anchors()) == []


def test_a_record_that_was_removed_between_others_is_found() -> None:
    [first, second] = two_archives().log.anchors()
    third = sign_anchor(replace(second, first=21, checkpoint=CHECKPOINTS[5]), KEY)
    [missing] = anchors_found([first, third])
    assert missing.startswith("archive missing at 11: the record of ")
    assert "does not go on where the one before ends: position 11 was to be the next" in missing
    assert len(anchors_found([second])) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sha256": "ab" * 32}, "the signature is wrong"),
        ({"time": NOON}, "the signature is wrong"),
        ({"signature": b"", "key_id": ""}, "it has no signature"),
    ],
)
def test_a_record_that_the_key_did_not_sign_is_found_without_its_file(change: dict[str, object], why: str) -> None:
    first, second = two_archives().log.anchors()
    changed = replace(second, **change)  # type: ignore[arg-type]  # its own fields
    [forged] = anchors_found([first, changed])
    assert forged.startswith("forged record of an archive at 11: the record of ")
    assert f"is not to be trusted: {why}; " in forged
    assert len(anchors_found([first, changed], files_are_read=True)) == (1 if changed.signature else 0)


def test_a_record_of_an_earlier_version_has_no_signature_and_is_proved_by_its_file_alone() -> None:
    desk = two_archives()
    desk.log.kept = [replace(one, signature=b"", key_id="") for one in desk.log.kept]
    assert desk.found() == []
    assert len(anchors_found(desk.log.anchors())) == 2
    desk.folder.files.clear()
    assert desk.found() == ["archive missing at 1", "archive missing at 11"]


def test_a_missing_and_a_changed_archive_are_named_and_the_others_still_count() -> None:
    desk = two_archives()
    first, second = desk.log.anchors()
    lines = desk.folder.files.pop(first.file)
    assert desk.found() == ["archive missing at 1"]
    desk.folder.files[first.file] = lines[:-1]
    assert desk.found() == ["archive changed at None"]
    found = Discrepancies()
    assert verify_archives((first, second), desk.folder, SameKey(), found, tuple) == 10
    assert str(found.listed[0]).startswith(f"{first.file}, with positions 1 to 10, was changed: its SHA-256 is ")


def test_a_record_can_name_no_file_outside_the_folder() -> None:
    desk = two_archives()
    first, second = desk.log.anchors()
    outside = "../audit-000000000001-000000000010.jsonl.gz"
    desk.folder.files[outside] = desk.folder.files[first.file]
    desk.log.kept = [sign_anchor(replace(first, file=outside), KEY), second]
    assert desk.found() == ["archive missing at 1"]


def test_an_archive_whose_record_was_changed_with_it_proves_nothing() -> None:
    desk = two_archives()
    first, second = desk.log.anchors()
    for lines in (["{}"], [line.replace("succeeded", "rejected") for line in desk.folder.files[second.file]]):
        desk.folder.files[second.file] = lines
        desk.log.kept = [first, sign_anchor(replace(second, sha256=sha256_of(lines)), KEY)]
        assert desk.found() == ["archive changed at 11"]


def test_an_archive_that_does_not_fit_a_copy_of_the_checkpoints_is_named() -> None:
    desk = two_archives()
    rewritten = sign_checkpoint(ChainPoint(15, "cd" * 32), KEY, NOON)
    for checkpoint, found in ((CHECKPOINTS[2], []), (rewritten, ["archive changed at 11"])):
        assert desk.found(WitnessedCheckpoint(checkpoint, "a copy", may_be_ahead=True)) == found
