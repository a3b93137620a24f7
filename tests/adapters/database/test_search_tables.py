"""What searches read beside the events is compared with them, and mended."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from broker.adapters.database import search_tables
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.search_tables import SqlSearchTables
from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_search import AuditFilter
from broker.core.errors import AuditUnavailable
from tests.adapters.database.events import issuance, login

POLICY = '{"Statement":[{"Effect":"Allow","Resource":["arn:aws:s3:::corp-home/*","arn:aws:s3:::corp-shared"]}]}'


@pytest.fixture
def log(database: Database, monkeypatch: pytest.MonkeyPatch) -> SqlAuditLog:
    monkeypatch.setattr(search_tables, "_ROWS", 3)
    log = SqlAuditLog(database)
    for minute in range(8):
        log.append(replace(login(minute, f"Person-{minute % 4}"), source_address=f"192.0.2.{minute}"))
    log.append(GRANTED)
    return log


GRANTED: AuditEvent = replace(issuance(EventKind.ISSUANCE_SUCCEEDED, "G1", 30), session_policy=POLICY)


def change(database: Database, statement: str) -> None:
    with database.writing(AuditUnavailable) as connection:
        connection.execute(text(statement))


@pytest.mark.usefixtures("log")
def test_of_tables_that_are_as_they_were_nothing_is_said_and_nothing_is_written(database: Database) -> None:
    assert list(SqlSearchTables(database).hidden()) == []
    assert SqlSearchTables(database).mend() == 0


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM audit_bucket WHERE bucket = 'corp-home'", [("bucket",)]),
        ("DELETE FROM audit_term WHERE value = 'Person-3'", [("principal_username",)] * 2),
        ("UPDATE audit_term SET folded = 'x' WHERE value = 'Person-3'", [("principal_username",)] * 2),
        ("UPDATE audit_term SET folded = 'x' WHERE value = '192.0.2.1'", [("source_address",)]),
        ("DELETE FROM audit_term WHERE value IN ('Person-0', '192.0.2.0')", [("principal_username", "source_address")]),
    ],
)
def test_a_row_that_hides_events_from_a_search_is_found_and_written_again(
    database: Database, log: SqlAuditLog, statement: str, expected: list[tuple[str, ...]]
) -> None:
    change(database, statement)
    found = list(SqlSearchTables(database).hidden())
    assert [one.filters for one in found][: len(expected)] == expected
    assert SqlSearchTables(database).mend() > 0
    assert list(SqlSearchTables(database).hidden()) == []
    assert len(log.search(AuditFilter(bucket="corp-home"), limit=9).events) == 1
