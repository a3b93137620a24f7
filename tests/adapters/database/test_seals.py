"""The hash chain in the database: what it is, and that whatever is done to the log behind it is found and named."""

# ruff: noqa: S608 - what goes into these statements are ids of the tests' own events
from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database, is_unreadable
from broker.adapters.database.seals import SqlSeals
from broker.core.audit import AuditEvent, EventKind, canonical_json
from broker.core.audit_export import export_lines
from broker.core.audit_search import AuditFilter
from broker.core.errors import AuditUnavailable
from broker.core.seals import BEGINNING, Checkpoint, sign_checkpoint
from broker.core.verification import DiscrepancyKind, WitnessedCheckpoint, in_order
from tests.adapters.database.events import NOON, any_text, issuance, login
from tests.adapters.database.tampering import (
    LATER,
    OTHER_KEY,
    drop_checks_of_times,
    rechain,
    sign,
    tamper,
    verdict_on,
)

forked = multiprocessing.get_context("fork")


@pytest.fixture
def log(database: Database) -> SqlAuditLog:
    return SqlAuditLog(database)


@pytest.fixture
def seals(database: Database) -> SqlSeals:
    return SqlSeals(database)


@pytest.fixture
def sealed(database: Database) -> list[AuditEvent]:
    return nine_sealed(database)


def nine_sealed(database: Database) -> list[AuditEvent]:
    """Nine events, sealed three at a time."""
    log, seals = SqlAuditLog(database), SqlSeals(database)
    events = [login(minute, f"person-{minute}") for minute in range(9)]
    for event in events:
        log.append(event)
    while seals.seal(sign, limit=3):
        pass
    assert not verdict_on(database).discrepancies
    return events


def checkpoints(seals: SqlSeals) -> list[Checkpoint]:
    return list(seals.checkpoints(seals.length()))


def kinds(database: Database, *witnesses: Checkpoint) -> list[DiscrepancyKind]:
    return [one.kind for one in verdict_on(database, witnesses).discrepancies]


def test_events_are_sealed_in_the_order_of_their_times_with_a_checkpoint_on_each_batch(
    database: Database, log: SqlAuditLog, seals: SqlSeals
) -> None:
    late, early = login(5, "late"), login(1, "early")
    log.append(late)
    log.append(early)
    assert seals.oldest_waiting() == early.time

    assert seals.seal(sign, limit=10) == 2

    assert [one.event_id for one in seals.sealed_events(2)] == [early.id, late.id]
    assert [one.position for one in checkpoints(seals)] == [2]
    assert seals.newest_checkpoint() == checkpoints(seals)[0]
    assert seals.oldest_waiting() is None
    verdict = verdict_on(database)
    assert (verdict.discrepancies, verdict.events) == ((), 2)
    assert verdict.proved == seals.newest_checkpoint()


def test_a_log_without_events_is_proved_and_has_no_checkpoint(database: Database, seals: SqlSeals) -> None:
    assert seals.seal(sign, limit=10) == 0
    assert seals.newest_checkpoint() is None
    verdict = verdict_on(database)
    assert (verdict.discrepancies, verdict.events, verdict.proved) == ((), 0, None)


@pytest.mark.usefixtures("sealed")
def test_nothing_new_makes_no_checkpoint(seals: SqlSeals) -> None:
    before = checkpoints(seals)
    assert seals.seal(sign, limit=10) == 0
    assert checkpoints(seals) == before


def test_an_event_that_is_refused_does_not_wait_to_be_sealed(log: SqlAuditLog, seals: SqlSeals) -> None:
    log.append(issuance(EventKind.ISSUANCE_INTENDED, "G1"))
    with pytest.raises(AuditUnavailable):
        log.append(issuance(EventKind.ISSUANCE_INTENDED, "G1", 5))
    assert seals.seal(sign, limit=10) == 1
    assert seals.oldest_waiting() is None


@settings(max_examples=30, deadline=None)
@given(reason=any_text, username=any_text, agent=any_text, minutes=st.integers(0, 10**6))
def test_anyone_can_recompute_the_log_from_an_export_with_json_and_sha256_alone(
    migrated_sqlite: Path,
    tmp_path_factory: pytest.TempPathFactory,
    reason: str,
    username: str,
    agent: str,
    minutes: int,
) -> None:
    path = tmp_path_factory.mktemp("recomputed") / "broker.db"
    shutil.copy(migrated_sqlite, path)
    database = Database(f"sqlite:///{path}")
    log, seals = SqlAuditLog(database), SqlSeals(database)
    log.append(login(minutes, username, reason=reason))
    log.append(AuditEvent(kind=EventKind.LOGIN_REJECTED, time=NOON, user_agent=agent, duration_seconds=900))
    seals.seal(sign, limit=10)

    marks = (WitnessedCheckpoint(one, "") for one in seals.checkpoints(2))
    lines = list(export_lines(BEGINNING, in_order(seals.sealed_events(2), marks)))
    database.dispose()

    chain, position = "0" * 64, 0
    for line in map(json.loads, lines):
        if line["kind"] == "event":
            position += 1
            text_of = json.dumps(line["event"], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
            event_hash = hashlib.sha256(text_of.encode()).hexdigest()
            assert event_hash == line["event_hash"]
            chain = hashlib.sha256(f"{position}\n{chain}\n{event_hash}\n".encode()).hexdigest()
            assert (chain, position) == (line["chain_hash"], line["position"])
    assert [json.loads(line)["kind"] for line in lines] == ["start", "event", "event", "checkpoint", "end"]
    assert json.loads(lines[3])["chain_hash"] == chain
    assert {json.loads(line)["event"].get("reason") for line in lines[1:3]} == {reason, None}
    assert all(canonical_json(json.loads(line)) == line for line in lines)


# --- What is found ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "reason = 'nothing happened'",
        "principal_username = 'somebody-else'",
        "kind = 'login.rejected'",
        "expiry = time",
        "principal_id = NULL",
        "hash = 'ffff'",
    ],
)
def test_a_changed_event_is_named(database: Database, sealed: list[AuditEvent], change: str) -> None:
    tamper(database, f"UPDATE audit_event SET {change} WHERE id = '{sealed[4].id}'")
    verdict = verdict_on(database)
    [found] = verdict.discrepancies
    assert (found.kind, found.position, found.event_id) == (DiscrepancyKind.CHANGED, 5, sealed[4].id)
    assert f"position 5: event {sealed[4].id}" in str(found)
    assert verdict.proved is not None
    assert verdict.proved.position == 3


def test_a_changed_event_with_a_recomputed_hash_is_named(database: Database, sealed: list[AuditEvent]) -> None:
    forged = AuditEvent(kind=EventKind.LOGIN_SUCCEEDED, time=sealed[4].time, id=sealed[4].id)
    tamper(
        database,
        f"UPDATE audit_event SET principal_username = NULL, principal_id = NULL, hash = '{forged.hash}' "
        f"WHERE id = '{forged.id}'",
    )
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.event_id) == (DiscrepancyKind.CHANGED, forged.id)


def test_a_changed_event_with_its_seal_is_named(database: Database, sealed: list[AuditEvent]) -> None:
    forged = AuditEvent(kind=EventKind.LOGIN_SUCCEEDED, time=sealed[4].time, id=sealed[4].id)
    changes = (
        (
            f"UPDATE audit_event SET principal_username = NULL, principal_id = NULL, hash = '{forged.hash}' "
            f"WHERE id = '{forged.id}'"
        ),
        f"UPDATE audit_seal SET event_hash = '{forged.hash}' WHERE event_id = '{forged.id}'",
    )
    tamper(database, *changes)
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.position, found.event_id) == (DiscrepancyKind.RESEALED, 5, forged.id)

    tamper(database, rechain)
    verdict = verdict_on(database)
    assert [(one.kind, one.position) for one in verdict.discrepancies] == [
        (DiscrepancyKind.REWRITTEN, 6),
        (DiscrepancyKind.REWRITTEN, 9),
    ]
    assert "after position 3, up to there, the log was rewritten" in str(verdict.discrepancies[0])
    assert verdict.proved is not None
    assert verdict.proved.position == 3


UNREADABLE = [
    *(("sqlite_url", f"audit_event SET time = {value}") for value in ("'soon'", "9223372036854775807", "1.5")),
    *(("sqlite_url", f"audit_event SET reason = {value}") for value in ("X'ff'", "CAST(X'ff41' AS TEXT)")),
    ("sqlite_url", "audit_event SET duration_seconds = X'ff'"),
    *(("postgresql_url", f"audit_event SET time = '{value}'") for value in ("infinity", "-infinity", "0044-03-15 BC")),
    ("postgresql_url", "audit_event SET expiry = 'infinity'"),
]


@pytest.mark.parametrize(("url", "change"), UNREADABLE)
def test_an_event_that_cannot_be_read_any_more_is_named(url: str, change: str, request: pytest.FixtureRequest) -> None:
    database = Database(request.getfixturevalue(url))
    sealed = nine_sealed(database)
    tamper(database, f"UPDATE {change} WHERE id = '{sealed[4].id}'")
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.position, found.event_id) == (DiscrepancyKind.CHANGED, 5, sealed[4].id)
    assert str(found) == f"position 5: event {sealed[4].id} was changed, and cannot be read"
    with pytest.raises(AuditUnavailable, match=r"a row holds what the broker never writes|DataError|UTF-8"):
        SqlAuditLog(database).search(AuditFilter(), limit=9)
    database.dispose()


@pytest.mark.parametrize("change", ["event_id = X'ff'", "event_hash = X'ff'", "chain_hash = CAST(X'ff41' AS TEXT)"])
def test_a_seal_that_cannot_be_read_any_more_is_named(sqlite_url: str, change: str) -> None:
    database = Database(sqlite_url)
    nine_sealed(database)
    tamper(database, f"UPDATE audit_seal SET {change} WHERE position = 5")
    first = next(iter(verdict_on(database).discrepancies))
    assert (first.kind, first.position) == (DiscrepancyKind.RESEALED, 5)
    database.dispose()


@pytest.mark.parametrize(
    ("url", "change"),
    [
        ("sqlite_url", "time = 'soon'"),
        ("sqlite_url", "signature = 7"),
        ("sqlite_url", "key_id = X'ff'"),
        ("postgresql_url", "time = 'infinity'"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_any_more_is_named(
    url: str, change: str, request: pytest.FixtureRequest
) -> None:
    database = Database(request.getfixturevalue(url))
    nine_sealed(database)
    tamper(database, f"UPDATE audit_checkpoint SET {change} WHERE position = 6")
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.position) == (DiscrepancyKind.FORGED, 6)
    assert "it cannot be read" in str(found)
    database.dispose()


@pytest.mark.parametrize(
    ("url", "times"),
    [
        ("sqlite_url", ("'soon'", "X'ff'", "9223372036854775807")),
        ("fresh_postgresql_url", ("'infinity'",)),
        ("fresh_postgresql_url", ("'-infinity'", "'0044-03-15 BC'")),
    ],
)
def test_an_event_with_a_time_that_is_none_keeps_no_other_from_its_seal(
    url: str, times: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    database = Database(request.getfixturevalue(url))
    nine_sealed(database)
    # From a version that let anybody who may append do that.
    with database.transaction(AuditUnavailable) as connection:
        drop_checks_of_times(connection)
    for number, moment in enumerate(times):
        with database.writing(AuditUnavailable) as connection:
            row = f"('login.succeeded', {moment}, 'made-up-{number}', 'x')"
            connection.execute(text(f"INSERT INTO audit_event (kind, time, id, hash) VALUES {row}"))
    SqlAuditLog(database).append(login(60))
    seals = SqlSeals(database)
    assert seals.oldest_waiting() == NOON + timedelta(minutes=60)
    assert seals.seal(sign, limit=10) == 1
    assert seals.oldest_waiting() is None
    with pytest.raises(AuditUnavailable) as raised:
        verdict_on(database)
    assert is_unreadable(raised.value)
    database.dispose()


def test_a_removed_event_is_named(database: Database, sealed: list[AuditEvent]) -> None:
    tamper(database, f"DELETE FROM audit_event WHERE id = '{sealed[6].id}'")
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.position, found.event_id) == (DiscrepancyKind.REMOVED, 7, sealed[6].id)


def test_an_event_that_was_removed_with_its_seal_is_a_hole(database: Database, sealed: list[AuditEvent]) -> None:
    tamper(
        database,
        f"DELETE FROM audit_event WHERE id = '{sealed[4].id}'",
        f"DELETE FROM audit_seal WHERE event_id = '{sealed[4].id}'",
    )
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.position) == (DiscrepancyKind.SEAL_MISSING, 5)


def test_an_inserted_event_is_named(database: Database, sealed: list[AuditEvent]) -> None:
    forged = login(4, "mallory")
    insert = f"""
        INSERT INTO audit_event (id, time, kind, principal_username, hash)
        SELECT '{forged.id}', time, kind, 'mallory', '{forged.hash}' FROM audit_event WHERE id = '{sealed[4].id}'
    """
    tamper(database, insert)
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.event_id) == (DiscrepancyKind.UNSEALED, forged.id)
    assert "does not wait for one: it was inserted by hand" in str(found)

    tamper(database, f"INSERT INTO audit_seal VALUES (10, '{forged.id}', '{forged.hash}', '{'0' * 64}')", rechain)
    found = verdict_on(database).discrepancies[-1]
    assert (found.kind, found.position) == (DiscrepancyKind.UNSIGNED, 10)


def swap(*columns: str) -> Callable[[Connection], None]:
    def change(connection: Connection) -> None:
        rows = connection.execute(
            text(f"SELECT {', '.join(columns)} FROM audit_seal WHERE position IN (4, 5) ORDER BY position")
        ).all()
        connection.execute(text("UPDATE audit_seal SET event_id = 'nowhere' WHERE position = 5"))
        for position, row in zip((4, 5), reversed(rows), strict=True):
            values = ", ".join(f"{name} = :{name}" for name in columns)
            connection.execute(
                text(f"UPDATE audit_seal SET {values} WHERE position = {position}"),
                dict(zip(columns, row, strict=True)),
            )

    return change


@pytest.mark.parametrize("columns", [("event_id", "event_hash"), ("event_id", "event_hash", "chain_hash")])
def test_two_seals_that_were_swapped_are_named(
    database: Database, sealed: list[AuditEvent], columns: tuple[str, ...]
) -> None:
    tamper(database, swap(*columns))
    verdict = verdict_on(database)
    first = verdict.discrepancies[0]
    assert (first.kind, first.position, first.event_id) == (DiscrepancyKind.RESEALED, 4, sealed[4].id)
    assert verdict.proved is not None
    assert verdict.proved.position == 3

    tamper(database, rechain)
    assert kinds(database) == [DiscrepancyKind.REWRITTEN, DiscrepancyKind.REWRITTEN]


def test_a_tail_that_was_cut_off_is_found_by_the_checkpoint_in_the_database(
    database: Database, sealed: list[AuditEvent]
) -> None:
    ids = ", ".join(f"'{event.id}'" for event in sealed[7:])
    tamper(database, f"DELETE FROM audit_event WHERE id IN ({ids})", "DELETE FROM audit_seal WHERE position > 7")
    assert kinds(database) == [DiscrepancyKind.CUT_OFF]


def test_a_tail_that_was_cut_off_with_its_checkpoints_is_found_by_those_in_the_file(
    database: Database, log: SqlAuditLog, seals: SqlSeals, sealed: list[AuditEvent]
) -> None:
    kept = checkpoints(seals)
    ids = ", ".join(f"'{event.id}'" for event in sealed[6:])
    tamper(
        database,
        f"DELETE FROM audit_event WHERE id IN ({ids})",
        "DELETE FROM audit_seal WHERE position > 6",
        "DELETE FROM audit_checkpoint WHERE position > 6",
    )
    assert kinds(database) == []
    assert kinds(database, *kept) == [DiscrepancyKind.CUT_OFF]

    for minute in range(3):
        log.append(login(20 + minute, "somebody"))
    seals.seal(sign, limit=10)
    assert kinds(database) == []
    assert kinds(database, *kept) == [DiscrepancyKind.REWRITTEN]


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("chain_hash = (SELECT chain_hash FROM audit_seal WHERE position = 5)", "the signature is wrong"),
        ("key_id = '0000000000000000'", "none of those given"),
        ("position = 5", "the signature is wrong"),
    ],
)
def test_a_forged_checkpoint_is_named(database: Database, change: str, why: str) -> None:
    tamper(database, f"UPDATE audit_checkpoint SET {change} WHERE position = 6")
    first = verdict_on(database).discrepancies[0]
    assert first.kind is DiscrepancyKind.FORGED
    assert why in str(first)


@pytest.mark.usefixtures("sealed")
def test_a_checkpoint_signed_with_another_key_is_not_believed(
    database: Database, log: SqlAuditLog, seals: SqlSeals
) -> None:
    log.append(login(30))
    seals.seal(lambda at: sign_checkpoint(at, OTHER_KEY, LATER), limit=10)
    assert kinds(database) == [DiscrepancyKind.FORGED, DiscrepancyKind.UNSIGNED]


@pytest.mark.usefixtures("sealed")
def test_removed_checkpoints_leave_events_that_nothing_signs(database: Database) -> None:
    tamper(database, "DELETE FROM audit_checkpoint WHERE position > 3")
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.position) == (DiscrepancyKind.UNSIGNED, 4)


def test_a_place_in_the_queue_that_was_dropped_is_found(database: Database, log: SqlAuditLog) -> None:
    lost = login(0, "hana")
    log.append(lost)
    with database.writing(AuditUnavailable) as connection:
        connection.execute(text("DELETE FROM seal_queue"))
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.event_id) == (DiscrepancyKind.UNSEALED, lost.id)


def test_an_event_that_was_removed_before_it_was_sealed_is_named(
    database: Database, log: SqlAuditLog, seals: SqlSeals
) -> None:
    gone, stays = login(0, "hana"), login(1, "ken")
    log.append(gone)
    log.append(stays)
    tamper(database, f"DELETE FROM audit_event WHERE id = '{gone.id}'")
    assert seals.seal(sign, limit=10) == 1
    [found] = verdict_on(database).discrepancies
    assert (found.kind, found.event_id) == (DiscrepancyKind.REMOVED, gone.id)
    assert "before it was sealed" in str(found)


def test_an_event_may_wait_a_little_and_not_for_ever(database: Database, log: SqlAuditLog) -> None:
    event = login(0, "hana")
    log.append(event)
    assert not verdict_on(database, waiting_since=event.time).discrepancies
    [found] = verdict_on(database, waiting_since=event.time + timedelta(seconds=1)).discrepancies
    assert "the sealer stands still" in str(found)


def test_of_a_log_that_was_rewritten_the_first_twenty_of_a_kind_are_listed_and_the_others_counted(
    database: Database, log: SqlAuditLog, seals: SqlSeals
) -> None:
    for minute in range(30):
        log.append(login(minute))
    seals.seal(sign, limit=100)
    tamper(database, "UPDATE audit_event SET reason = 'x'")
    verdict = verdict_on(database)
    assert (len(verdict.discrepancies), verdict.unlisted, verdict.proved) == (20, 10, None)


@pytest.mark.usefixtures("sealed")
def test_the_sealer_does_not_go_on_with_a_chain_that_its_checkpoint_does_not_fit(
    database: Database, log: SqlAuditLog, seals: SqlSeals
) -> None:
    tamper(database, "DELETE FROM audit_checkpoint WHERE position > 3")
    log.append(login(30))
    with pytest.raises(AuditUnavailable, match="newest seal is at position 9, the newest checkpoint at 3"):
        seals.seal(sign, limit=10)
    assert seals.length() == 9
    assert seals.oldest_waiting() == login(30).time


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("table", ["audit_seal", "audit_checkpoint"])
@pytest.mark.parametrize(
    "change", ["UPDATE {0} SET position = position", "DELETE FROM {0}", "DELETE FROM {0} WHERE position = 3"]
)
def test_seals_and_checkpoints_are_append_only(database: Database, table: str, change: str) -> None:
    with (
        pytest.raises(AuditUnavailable, match=f"{table} is append-only: {change[:6]} is refused"),
        database.writing(AuditUnavailable) as connection,
    ):
        connection.execute(text(change.format(table)))
    assert kinds(database) == []


def test_seals_and_checkpoints_cannot_be_truncated_on_postgresql(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    for table in ("audit_seal", "audit_checkpoint"):
        with (
            pytest.raises(AuditUnavailable, match=f"{table} is append-only: TRUNCATE is refused"),
            database.writing(AuditUnavailable) as connection,
        ):
            connection.execute(text(f"TRUNCATE {table}"))
    database.dispose()


def test_a_seal_cannot_be_replaced_on_sqlite(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    SqlAuditLog(database).append(login())
    SqlSeals(database).seal(sign, limit=10)
    for replace in (
        f"INSERT OR REPLACE INTO audit_seal VALUES (1, 'x', 'y', '{'0' * 64}')",
        "INSERT OR REPLACE INTO audit_seal SELECT 2, event_id, event_hash, chain_hash FROM audit_seal",
        f"INSERT OR REPLACE INTO audit_checkpoint VALUES (1, '{'0' * 64}', 0, 'x', 'y')",
    ):
        with pytest.raises(AuditUnavailable, match="there is such a row"), database.writing(AuditUnavailable) as at:
            at.execute(text(replace))
    assert kinds(database) == []
    database.dispose()


# --- Many at once ------------------------------------------------------------------------------------------------


def everything_is_sealed_once(database: Database, events: int) -> None:
    verdict = verdict_on(database, waiting_since=LATER + timedelta(days=365))
    assert (verdict.discrepancies, verdict.events) == ((), events)
    assert verdict.proved is not None
    assert verdict.proved.position == events


def test_several_sealers_at_once_make_one_chain_while_many_write(database: Database) -> None:
    writers, each = 8, 60
    stop = forked.Event()

    def seal_until_stopped() -> None:
        seals = SqlSeals(database)
        while not stop.is_set():
            seals.seal(sign, limit=7)

    sealers = [forked.Process(target=seal_until_stopped) for _ in range(3)]
    for sealer in sealers:
        sealer.start()
    log = SqlAuditLog(database)
    with ThreadPoolExecutor(writers) as threads:
        list(threads.map(lambda number: log.append(login(number, f"person-{number % 5}")), range(writers * each)))
    seals = SqlSeals(database)
    deadline = time.monotonic() + 60
    while seals.oldest_waiting() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stop.set()
    for sealer in sealers:
        sealer.join(30)
    assert [sealer.exitcode for sealer in sealers] == [0, 0, 0]
    everything_is_sealed_once(database, writers * each)


def test_a_sealer_that_is_killed_leaves_no_gap_and_seals_nothing_twice(database: Database) -> None:
    log = SqlAuditLog(database)
    chance = random.Random(11)  # noqa: S311 - moments, no secret
    for number in range(600):
        log.append(login(number % 50, f"person-{number % 5}"))

    def seal_in_small_steps() -> None:
        seals = SqlSeals(database)
        while seals.seal(sign, limit=3):
            pass

    killed = 0
    for _ in range(12):
        sealer = forked.Process(target=seal_in_small_steps)
        sealer.start()
        time.sleep(chance.uniform(0.01, 0.15))
        assert sealer.pid is not None
        os.kill(sealer.pid, signal.SIGKILL)
        sealer.join(30)
        killed += sealer.exitcode == -signal.SIGKILL
        assert not [
            one
            for one in verdict_on(database, waiting_since=NOON - timedelta(days=1)).discrepancies
            if one.kind is not DiscrepancyKind.UNSEALED
        ]
    assert killed > 0
    seal_in_small_steps()
    everything_is_sealed_once(database, 600)


def test_a_verification_that_runs_while_the_log_grows_finds_nothing(database: Database) -> None:
    log, seals = SqlAuditLog(database), SqlSeals(database)
    stop = threading.Event()

    def grow() -> int:
        written = 0
        while not stop.is_set():
            log.append(login(written % 50, "hana"))
            written += 1
            if written % 5 == 0:
                seals.seal(sign, limit=50)
        while seals.seal(sign, limit=1000):
            pass
        return written

    with ThreadPoolExecutor(1) as growing:
        future = growing.submit(grow)
        try:
            for _ in range(10):
                assert not verdict_on(database, waiting_since=NOON - timedelta(days=1)).discrepancies
        finally:
            stop.set()
        everything_is_sealed_once(database, future.result())
