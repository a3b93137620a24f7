"""Many processes and threads on one database: nothing is lost, nothing is shared that must not be."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.tables import audit_term
from broker.core.audit import EventKind
from broker.core.audit_search import AuditFilter
from broker.core.errors import AuditUnavailable
from tests.adapters.database.events import issuance, login

forked = multiprocessing.get_context("fork")


def run(*work: Callable[[], None]) -> None:
    processes = [forked.Process(target=one) for one in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(work)


def test_a_forked_process_makes_connections_of_its_own(database: Database) -> None:
    log = SqlAuditLog(database)
    log.append(login(0, "parent"))
    of_parent = database.engine

    def child() -> None:
        assert database.engine is not of_parent
        for minute in range(5):
            log.append(login(minute, "child"))
        database.dispose()

    run(child, child)
    log.append(login(9, "parent"))
    assert database.engine is of_parent
    assert len(log.search(AuditFilter(person="child"), limit=100).events) == 10
    assert len(log.search(AuditFilter(person="parent"), limit=100).events) == 2


def test_a_child_that_ends_does_not_close_what_its_parent_uses(database: Database) -> None:
    log = SqlAuditLog(database)
    with database.reading(AuditUnavailable) as connection:
        run(database.dispose, lambda: None)
        assert connection.execute(select(1)).scalar_one() == 1
    log.append(login())


def test_threads_that_begin_at_once_share_one_engine(database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        engines = list(threads.map(lambda _: database.engine, range(64)))
    assert len(set(map(id, engines))) == 1


def test_writers_at_once_lose_nothing(database: Database) -> None:
    names = [f"person-{number}" for number in range(10)]

    def write() -> None:
        log = SqlAuditLog(database)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: log.append(login(number, names[number % 10])), range(200)))

    run(write, write)
    log = SqlAuditLog(database)
    assert len(log.search(AuditFilter(), limit=1000).events) == 400
    assert [len(log.search(AuditFilter(person=name), limit=1000).events) for name in names] == [40] * 10
    with database.reading(AuditUnavailable) as connection:
        assert (
            sorted(connection.scalars(select(audit_term.c.value).where(audit_term.c.field == "principal_username")))
            == names
        )


def test_of_many_intents_for_one_grant_at_once_one_is_written(database: Database) -> None:
    log = SqlAuditLog(database)

    def intend(minute: int) -> bool:
        try:
            log.append(issuance(EventKind.ISSUANCE_INTENDED, "G1", minute))
        except AuditUnavailable:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(intend, range(16))) == 1
    assert len(log.search(AuditFilter(), limit=100).events) == 1


@pytest.mark.parametrize("outcome", [EventKind.ISSUANCE_SUCCEEDED, EventKind.ISSUANCE_REJECTED])
def test_of_two_outcomes_at_once_one_is_written(database: Database, outcome: EventKind) -> None:
    log = SqlAuditLog(database)

    def settle(kind: EventKind) -> bool:
        try:
            log.append(issuance(kind, "G1"))
        except AuditUnavailable:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(settle, [EventKind.ISSUANCE_SUCCEEDED, outcome])) == 1
