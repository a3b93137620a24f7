"""Events leave the database on one road, into an archive that proves itself, and none is lost on it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.adapters.archive_folder import LocalArchiveFolder
from broker.adapters.checkpoints import CheckpointKey
from broker.adapters.database.archives import SqlArchives
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.core import archiving
from broker.core.archiving import (
    ArchivingPorts,
    Cut,
    archive,
    finish_removal,
    plan,
    verify_anchors,
    verify_archives,
)
from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_export import ExportReader, verify_export
from broker.core.audit_search import AuditFilter
from broker.core.errors import AuditUnavailable
from broker.core.seals import Anchor, ChainPoint, sign_anchor
from broker.core.verification import Discrepancies, DiscrepancyKind
from tests.adapters.database.events import NOON, issuance, login
from tests.adapters.database.tampering import KEY, KEYS, OTHER_KEY, sign, tamper, verdict_on

# What is forked has the parent's modules; the database makes its own connections.
forked = multiprocessing.get_context("fork")
TOMORROW = NOON + timedelta(days=1)
POLICY = '{"Statement":[{"Effect":"Allow","Resource":["arn:aws:s3:::corp-home/*","arn:aws:s3:::corp-shared"]}]}'


@dataclass
class Desk:
    """Where archives are made."""

    database: Database
    folder: Path
    pause: Callable[[], None] = lambda: None

    @property
    def ports(self) -> ArchivingPorts:
        return ArchivingPorts(
            log=SqlArchives(self.database),
            folder=LocalArchiveFolder(self.folder),
            key=KEY,
            signatures=KEYS,
            append=SqlAuditLog(self.database).append,
            clock=lambda: TOMORROW,
            pause=self.pause,
        )

    def write(self, *events: AuditEvent) -> None:
        log = SqlAuditLog(self.database)
        for event in events:
            log.append(event)
        self.seal()

    def seal(self) -> None:
        while SqlSeals(self.database).seal(sign, limit=5):
            pass

    def cut(self, minutes: int) -> Cut:
        cut, _ = plan(self.ports.log, NOON + timedelta(minutes=minutes), TOMORROW, None)
        assert cut is not None
        return cut

    def archive(self, minutes: int) -> Anchor:
        """Events before so many minutes after noon."""
        finish_removal(self.ports)
        return archive(self.ports, self.cut(minutes), "root on node")

    def events(self) -> Sequence[AuditEvent]:
        return SqlAuditLog(self.database).search(AuditFilter(), limit=10_000).events

    def count(self, table: str) -> int:
        with self.database.reading(AuditUnavailable) as connection:
            return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)  # noqa: S608 - our own names

    def found(self) -> list[DiscrepancyKind]:
        """What a verification of database and folder names."""
        discrepancies = Discrepancies()
        anchors = SqlSeals(self.database).anchors()
        verify_anchors(anchors, KEYS, discrepancies, files_are_read=True)
        verify_archives(anchors, LocalArchiveFolder(self.folder), KEYS, discrepancies, tuple)
        return [one.kind for one in (*verdict_on(self.database).discrepancies, *discrepancies.listed)]

    def archived_ids(self) -> list[str]:
        ids = []
        for anchor in SqlSeals(self.database).anchors():
            ids += [line.split('"event_id":"')[1][:32] for line in self.lines(anchor) if '"kind":"event"' in line]
        return ids

    def lines(self, anchor: Anchor) -> Iterator[str]:
        return LocalArchiveFolder(self.folder).read(anchor.file)


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    folder = tmp_path / "archives"
    folder.mkdir()
    return Desk(database, folder)


def logins(count: int, first: int = 0) -> list[AuditEvent]:
    return [login(first + number, f"person-{number % 7}") for number in range(count)]


def test_what_was_archived_is_before_the_oldest_event_that_is_left(desk: Desk) -> None:
    log = SqlAuditLog(desk.database)
    desk.write(*logins(20))
    assert log.archived_before() is None

    desk.archive(12)

    oldest = min(event.time for event in desk.events())
    assert oldest > NOON
    assert log.archived_before() == oldest


def test_old_events_go_to_a_file_that_proves_itself_and_the_rest_is_proved_to_the_same_end(desk: Desk) -> None:
    written = logins(40)
    desk.write(*written)
    before = verdict_on(desk.database).proved
    anchor = desk.archive(23)
    # A checkpoint is on every fifth event.
    assert (anchor.first, anchor.last, anchor.file) == (1, 20, "audit-000000000001-000000000020.jsonl.gz")
    assert anchor.sha256 == hashlib.sha256((desk.folder / anchor.file).read_bytes()).hexdigest()
    assert list(desk.folder.iterdir()) == [desk.folder / anchor.file]
    assert desk.archived_ids() == [event.id for event in written[:20]]
    assert set(written[20:]) < set(desk.events())
    assert not set(written[:20]) & set(desk.events())

    export = ExportReader(desk.lines(anchor), anchor.file)
    alone = verify_export(export, KEYS, Discrepancies())
    assert (alone.discrepancies, alone.events, alone.proved) == ((), 20, anchor.checkpoint)
    after = verdict_on(desk.database)
    assert (after.discrepancies, after.events) == ((), 20)
    assert after.proved == before
    assert desk.found() == []


def test_what_was_archived_by_whom_is_an_event_of_the_log(desk: Desk) -> None:
    desk.write(*logins(10))
    anchor = desk.archive(60)
    newest = desk.events()[0]
    assert newest.kind is EventKind.ADMIN_AUDIT_ARCHIVED
    assert newest.reason == f"positions 1 to 10, in {anchor.file}, SHA-256 {anchor.sha256}; by root on node"
    desk.seal()
    assert verdict_on(desk.database).discrepancies == ()


def test_the_event_of_an_archive_says_when_its_file_was_there(desk: Desk) -> None:
    desk.write(*logins(10))
    cut = desk.cut(60)

    def clock() -> datetime:
        return TOMORROW + timedelta(hours=1) if (desk.folder / cut.file).exists() else TOMORROW

    anchor = archive(replace(desk.ports, clock=clock), cut, "root on node")

    [said] = [one for one in desk.events() if one.kind is EventKind.ADMIN_AUDIT_ARCHIVED]
    assert (said.time, anchor.time) == (clock(), clock()) == (TOMORROW + timedelta(hours=1),) * 2


def test_further_archives_go_on_where_the_last_ended_and_the_chain_has_one_end(desk: Desk) -> None:
    written = logins(50)
    desk.write(*written)
    anchors = [desk.archive(12), desk.archive(31)]
    # With the events of the two archives.
    desk.write(*logins(10, first=60))
    anchors.append(desk.archive(66))
    assert [(one.first, one.last) for one in anchors] == [(1, 10), (11, 30), (31, 55)]
    assert SqlSeals(desk.database).anchors() == tuple(anchors)
    assert desk.archived_ids()[:50] == [event.id for event in written]
    assert desk.found() == []
    assert desk.count("audit_archive") == 3


def test_everything_may_be_archived_and_the_chain_goes_on(desk: Desk) -> None:
    desk.write(*logins(10))
    desk.archive(60)
    assert (desk.count("audit_seal"), desk.count("audit_checkpoint")) == (1, 1)
    assert desk.found() == []
    desk.write(login(90))
    verdict = verdict_on(desk.database)
    assert (verdict.discrepancies, verdict.events) == ((), 2)
    assert verdict.proved is not None
    assert verdict.proved.position == 12


def test_buckets_of_removed_events_go_and_words_stay(desk: Desk) -> None:
    granted = replace(issuance(EventKind.ISSUANCE_SUCCEEDED, "G1"), session_policy=POLICY)
    later = replace(issuance(EventKind.ISSUANCE_SUCCEEDED, "G2", 50), session_policy=POLICY)
    desk.write(issuance(EventKind.ISSUANCE_INTENDED, "G1"), granted, *logins(8))
    desk.write(issuance(EventKind.ISSUANCE_INTENDED, "G2", 49), later)
    words = desk.count("audit_term")
    assert desk.count("audit_bucket") == 4
    desk.archive(30)
    assert desk.count("audit_bucket") == 2
    assert desk.count("audit_term") >= words
    assert later in SqlAuditLog(desk.database).search(AuditFilter(bucket="corp-home"), limit=9).events


# --- What stays --------------------------------------------------------------------------------------------------


def test_events_that_are_not_sealed_stay(desk: Desk) -> None:
    desk.write(*logins(5))
    waiting = login(2, "late")
    SqlAuditLog(desk.database).append(waiting)
    assert desk.archive(60).last == 5
    assert waiting in desk.events()


def test_the_date_holds_for_everything_that_was_sealed_after_a_newer_event(desk: Desk) -> None:
    desk.write(*logins(5), *logins(5, first=100), *logins(5, first=5))
    cut, retained = plan(desk.ports.log, NOON + timedelta(minutes=60), TOMORROW, None)
    assert cut is not None
    assert (cut.events, cut.since, cut.until) == (10, NOON, NOON + timedelta(minutes=9))
    assert retained is not None
    assert (retained.position, retained.reason) == (11, "it is not before 2026-11-23T13:00:00.000000Z")


def test_grants_whose_sessions_may_live_or_whose_outcome_is_not_known_stay(desk: Desk) -> None:
    log = SqlArchives(desk.database)
    desk.write(*logins(5), issuance(EventKind.ISSUANCE_INTENDED, "G1", 10))
    soon = NOON + timedelta(minutes=30)
    _, retained = plan(log, soon, soon, None)
    assert retained is not None
    assert (retained.position, retained.reason) == (6, "the outcome of its grant is not known yet")

    desk.write(issuance(EventKind.ISSUANCE_SUCCEEDED, "G1", 11))
    cut, retained = plan(log, soon, soon, None)
    assert cut is not None
    assert cut.events == 5
    assert retained is not None
    assert (retained.position, retained.reason) == (6, "its session may still live")
    cut, retained = plan(log, soon, NOON + timedelta(hours=1), None)
    assert cut is not None
    assert (cut.events, retained) == (7, None)


def test_events_that_the_siem_does_not_have_stay(desk: Desk) -> None:
    desk.write(*logins(20))
    cut, retained = plan(desk.ports.log, NOON + timedelta(hours=1), TOMORROW, 12)
    assert cut is not None
    assert cut.events == 10
    assert retained is not None
    assert (retained.position, retained.reason) == (13, "the SIEM does not have it yet")


def test_with_nothing_old_enough_there_is_nothing_to_archive(desk: Desk) -> None:
    log = desk.ports.log
    assert plan(log, TOMORROW, TOMORROW, None) == (None, None)
    desk.write(*logins(5))
    cut, retained = plan(log, NOON, TOMORROW, None)
    assert cut is None
    assert retained is not None
    assert retained.position == 1


# --- The road ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["audit_event", "audit_seal", "audit_checkpoint", "audit_archive"])
def test_nothing_that_no_archive_covers_can_be_removed(desk: Desk, table: str) -> None:
    desk.write(*logins(10))
    desk.archive(7)
    left = desk.count(table)
    refused = f"{table} is append-only: DELETE is refused"
    with pytest.raises(AuditUnavailable, match=refused), desk.database.writing(AuditUnavailable) as connection:
        connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names
    assert desk.count(table) == left
    assert desk.found() == []


@pytest.mark.parametrize("change", ["UPDATE audit_archive SET position = 100", "DELETE FROM audit_archive"])
def test_an_anchor_cannot_be_changed_or_removed(desk: Desk, change: str) -> None:
    desk.write(*logins(10))
    desk.archive(7)
    with (
        pytest.raises(AuditUnavailable, match="audit_archive is append-only"),
        desk.database.writing(AuditUnavailable) as connection,
    ):
        connection.execute(text(change))


def test_events_that_were_tampered_with_are_not_archived(desk: Desk) -> None:
    desk.write(*logins(10))
    tamper(desk.database, "UPDATE audit_event SET reason = 'x' WHERE principal_username = 'person-3'")
    with pytest.raises(AuditUnavailable, match=r"nothing was archived: position 4: event .* was changed"):
        desk.archive(60)
    assert list(desk.folder.iterdir()) == []
    assert len(desk.events()) == 10
    assert SqlSeals(desk.database).anchors() == ()


def test_of_two_archives_at_once_one_is_refused_and_removes_nothing(desk: Desk, tmp_path: Path) -> None:
    desk.write(*logins(10))
    cut = desk.cut(60)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    class Overtaken(LocalArchiveFolder):
        """While its file is published, somebody else archives to another folder, and is killed before the removal."""

        def publish(self, file: str) -> None:
            super().publish(file)
            desk.ports.log.record(Anchor(1, cut.checkpoint, file, "f" * 64, TOMORROW), cut.start)

    with pytest.raises(AuditUnavailable, match="another archive was made meanwhile"):
        archive(replace(desk.ports, folder=Overtaken(elsewhere)), cut, "root on node")
    assert desk.count("audit_archive") == 1
    assert desk.count("audit_event") == 11
    with (
        LocalArchiveFolder(desk.folder).alone(),
        pytest.raises(AuditUnavailable, match="another archive is being written"),
        LocalArchiveFolder(desk.folder).alone(),
    ):
        pass


# --- Broken off --------------------------------------------------------------------------------------------------


class Killed(Exception):
    """What stands for SIGKILL where a test wants one certain point."""


def kill() -> None:
    raise Killed


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "_REMOVED_AT_ONCE", 7)


@pytest.mark.usefixtures("small_batches")
def test_a_removal_that_was_broken_off_is_verified_as_it_stands_and_finished_by_the_next_run(desk: Desk) -> None:
    written = logins(40)
    desk.write(*written)
    desk.pause = kill
    with pytest.raises(Killed):
        desk.archive(31)
    assert desk.count("audit_event") == 34
    desk.seal()
    verdict = verdict_on(desk.database)
    # The boundary's own seal is what it begins with; leftover events are read like others.
    assert (verdict.discrepancies, verdict.events) == ((), 34)
    assert desk.found() == []

    desk.pause = lambda: None
    finished = finish_removal(desk.ports)
    assert finished is not None
    assert finished.last == 30
    assert finish_removal(desk.ports) is None
    assert desk.count("audit_event") == 11
    assert desk.archived_ids() == [event.id for event in written[:30]]
    assert desk.found() == []


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("fault", ["is not in this folder", "was changed"])
def test_a_removal_is_not_finished_without_the_file(desk: Desk, fault: str) -> None:
    desk.write(*logins(40))
    desk.pause = kill
    with pytest.raises(Killed):
        desk.archive(31)
    [file] = desk.folder.iterdir()
    if fault == "was changed":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    with pytest.raises(AuditUnavailable, match=fault):
        finish_removal(desk.ports)
    assert desk.count("audit_event") == 34


def test_however_often_it_is_killed_every_event_is_in_the_database_or_in_an_archive(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "_REMOVED_AT_ONCE", 9)
    chance = random.Random(5)  # noqa: S311 - moments, no secret
    written = logins(300)
    desk.write(*written)
    final = verdict_on(desk.database).proved
    assert final is not None

    def archive_in_steps() -> None:
        desk.pause = lambda: time.sleep(0.01)
        for minutes in range(20, 301, 20):
            finish_removal(desk.ports)
            cut, _ = plan(desk.ports.log, NOON + timedelta(minutes=minutes), TOMORROW, None)
            if cut is not None:
                archive(desk.ports, cut, "root on node")

    killed = 0
    for _ in range(25):
        worker = forked.Process(target=archive_in_steps)
        worker.start()
        time.sleep(chance.uniform(0.02, 0.15))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(30)
        killed += worker.exitcode == -signal.SIGKILL
        # A read of all that is anywhere, in the middle of whatever it was.
        kept = {event.id for event in desk.events()} | set(desk.archived_ids())
        assert {event.id for event in written} <= kept
        # The records of the archives wait for a sealer; nothing else is wrong.
        assert set(desk.found()) <= {DiscrepancyKind.UNSEALED}
        if worker.exitcode == 0:
            break
    assert killed > 3
    finish_removal(desk.ports)
    desk.seal()
    assert desk.found() == []
    assert len(desk.archived_ids()) == len(set(desk.archived_ids()))
    # The chain is the one that it was: what was its end is a point of it still, or the end of an archive.
    points = [anchor.checkpoint.point for anchor in SqlSeals(desk.database).anchors()]
    kept_point = SqlSeals(desk.database).point(final.position)
    assert final.point in points or kept_point == final.point


def test_others_write_while_rows_are_removed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "_REMOVED_AT_ONCE", 50)
    desk.write(*logins(600))
    slowest = 0.0
    written: list[AuditEvent] = []

    def write_meanwhile() -> None:
        nonlocal slowest
        while removing:
            began = time.monotonic()
            written.append(login(700 + len(written), "meanwhile"))
            SqlAuditLog(desk.database).append(written[-1])
            slowest = max(slowest, time.monotonic() - began)

    removing = True
    desk.pause = lambda: time.sleep(0.02)
    with ThreadPoolExecutor(1) as writer:
        future = writer.submit(write_meanwhile)
        try:
            desk.archive(600)
        finally:
            removing = False
        future.result(30)
    assert len(written) > 12
    assert slowest < 2
    desk.seal()
    assert desk.found() == []


# --- The folder --------------------------------------------------------------------------------------------------


def test_a_missing_and_a_changed_archive_are_named(desk: Desk) -> None:
    desk.write(*logins(30))
    first, second = desk.archive(10), desk.archive(20)
    (desk.folder / first.file).rename(desk.folder / "elsewhere")
    assert desk.found() == [DiscrepancyKind.ARCHIVE_MISSING]
    content = (desk.folder / second.file).read_bytes()
    (desk.folder / second.file).write_bytes(content[:-1] + b"x")
    assert desk.found() == [DiscrepancyKind.ARCHIVE_MISSING, DiscrepancyKind.ARCHIVE_CHANGED]


def test_an_archive_whose_anchor_was_changed_with_it_does_not_fit_the_signature(desk: Desk) -> None:
    desk.write(*logins(20))
    anchor = desk.archive(12)
    lines = [line.replace("person-2", "person-9") for line in desk.lines(anchor)]
    folder = LocalArchiveFolder(desk.folder)
    sha256 = folder.write(anchor.file, (line.rstrip("\n") for line in lines))
    folder.publish(anchor.file)
    tamper(desk.database, f"UPDATE audit_archive SET sha256 = '{sha256}'")  # noqa: S608 - our own
    assert desk.found() == [DiscrepancyKind.FORGED_ARCHIVE, DiscrepancyKind.ARCHIVE_CHANGED]


def test_a_beginning_that_was_cut_off_without_an_archive_is_found(desk: Desk) -> None:
    desk.write(*logins(20))
    desk.archive(7)
    tamper(
        desk.database,
        "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_seal WHERE position <= 10)",
        "DELETE FROM audit_seal WHERE position < 10",
    )
    assert DiscrepancyKind.SEAL_MISSING in desk.found()


def test_an_anchor_that_nobody_signed_is_found(desk: Desk) -> None:
    desk.write(*logins(20))
    desk.archive(7)
    tamper(desk.database, "UPDATE audit_archive SET position = 7")
    assert DiscrepancyKind.FORGED in desk.found()


def forge_anchor(desk: Desk, position: int, signer: CheckpointKey | None) -> None:
    """What whoever owns the database can do: say that an archive was made, up to a real checkpoint, and remove."""
    [checkpoint] = [one for one in SqlSeals(desk.database).checkpoints(position) if one.position == position]
    start = SqlSeals(desk.database).beginning()
    anchor = Anchor(start.position + 1, checkpoint, "audit-000000000001-000000000010.jsonl.gz", "f" * 64, TOMORROW)
    desk.ports.log.record(anchor if signer is None else sign_anchor(anchor, signer), start)
    desk.ports.log.remove(position)


def anchors_found(desk: Desk, *, files_are_read: bool) -> list[DiscrepancyKind]:
    found = Discrepancies()
    verify_anchors(SqlSeals(desk.database).anchors(), KEYS, found, files_are_read=files_are_read)
    return [one.kind for one in found.listed]


@pytest.mark.parametrize("signer", [None, OTHER_KEY])
def test_an_archive_that_was_made_up_to_remove_events_is_found_without_its_folder(
    desk: Desk, signer: CheckpointKey | None
) -> None:
    desk.write(*logins(20))
    forge_anchor(desk, 10, signer)
    # The chain alone goes on from the checkpoint, which is real.
    assert verdict_on(desk.database).discrepancies == ()
    assert anchors_found(desk, files_are_read=False) == [DiscrepancyKind.FORGED_ARCHIVE]
    assert DiscrepancyKind.ARCHIVE_MISSING in desk.found()


@pytest.mark.parametrize(
    "change", ["sha256 = 'ab'", "file = 'audit-1.jsonl.gz'", "first_position = 2", "archived_at = time", "file = '名'"]
)
def test_a_record_of_an_archive_that_was_changed_is_found_without_its_folder(desk: Desk, change: str) -> None:
    desk.write(*logins(20))
    desk.archive(12)
    assert anchors_found(desk, files_are_read=False) == []
    tamper(desk.database, f"UPDATE audit_archive SET {change}")  # noqa: S608 - our own
    assert DiscrepancyKind.FORGED_ARCHIVE in anchors_found(desk, files_are_read=False)


def test_a_record_that_was_removed_between_two_others_is_found(desk: Desk) -> None:
    desk.write(*logins(30))
    desk.archive(6)
    desk.archive(12)
    desk.archive(20)
    tamper(desk.database, "DELETE FROM audit_archive WHERE position = 10")
    assert anchors_found(desk, files_are_read=False) == [DiscrepancyKind.ARCHIVE_MISSING]


def test_a_record_of_an_earlier_version_has_no_signature_and_is_proved_by_its_file_alone(desk: Desk) -> None:
    desk.write(*logins(20))
    desk.archive(12)
    tamper(desk.database, "UPDATE audit_archive SET archive_key_id = NULL, archive_signature = NULL")
    desk.seal()
    assert desk.found() == []
    assert anchors_found(desk, files_are_read=False) == [DiscrepancyKind.FORGED_ARCHIVE]


def test_a_removal_is_not_finished_with_a_file_that_does_not_hold_the_events(desk: Desk) -> None:
    desk.write(*logins(20))
    cut = desk.cut(60)
    folder = LocalArchiveFolder(desk.folder)
    sha256 = folder.write(cut.file, ["{}"])
    folder.publish(cut.file)
    desk.ports.log.record(Anchor(1, cut.checkpoint, cut.file, sha256, TOMORROW), cut.start)
    with pytest.raises(AuditUnavailable, match=r"nothing was removed: .* it is no export"):
        finish_removal(desk.ports)
    assert desk.count("audit_event") == 20


def test_a_sealed_event_that_comes_back_below_the_cut_is_found(desk: Desk) -> None:
    written = logins(20)
    desk.write(*written)
    desk.archive(12)
    SqlAuditLog(desk.database).append(replace(written[9], reason="forged"))
    tamper(desk.database, "DELETE FROM seal_queue")
    assert DiscrepancyKind.SEAL_MISSING in desk.found()


def test_the_sealer_goes_on_beside_a_checkpoint_file_that_ends_before_the_cut(desk: Desk) -> None:
    desk.write(*logins(20))
    assert SqlSeals(desk.database).newest_archived() is None
    anchor = desk.archive(12)
    seals = SqlSeals(desk.database)
    assert seals.newest_archived() == anchor
    assert seals.point(5) is None
    assert seals.point(anchor.last) == ChainPoint(anchor.last, anchor.checkpoint.chain_hash)
