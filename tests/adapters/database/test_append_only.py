"""The audit table itself refuses to change what is written, whoever asks."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_search import AuditFilter
from broker.core.errors import AuditUnavailable
from tests.adapters.database.events import issuance


@pytest.fixture
def written(database: Database) -> AuditEvent:
    event = issuance(EventKind.ISSUANCE_INTENDED, "G1")
    SqlAuditLog(database).append(event)
    return event


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("UPDATE audit_event SET reason = 'nothing happened'", "UPDATE"),
        ("UPDATE audit_event SET kind = kind", "UPDATE"),
        ("DELETE FROM audit_event", "DELETE"),
        ("DELETE FROM audit_event WHERE grant_id = 'G1'", "DELETE"),
    ],
)
def test_events_cannot_be_changed_or_removed(
    database: Database, written: AuditEvent, statement: str, refused: str
) -> None:
    message = f"audit_event is append-only: {refused} is refused"
    with pytest.raises(AuditUnavailable, match=message), database.writing(AuditUnavailable) as connection:
        connection.execute(text(statement))
    assert SqlAuditLog(database).search(AuditFilter(), limit=2).events == (written,)


def test_events_cannot_be_truncated_on_postgresql(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    message = "audit_event is append-only: TRUNCATE is refused"
    with pytest.raises(AuditUnavailable, match=message), database.writing(AuditUnavailable) as connection:
        connection.execute(text("TRUNCATE audit_event"))
    database.dispose()


def test_an_event_cannot_be_replaced_on_sqlite(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    event = issuance(EventKind.ISSUANCE_INTENDED, "G1")
    SqlAuditLog(database).append(event)
    replace = text(
        "INSERT OR REPLACE INTO audit_event (id, time, kind, hash) VALUES (:id, 0, 'login.succeeded', 'forged')"
    )
    message = "audit_event is append-only: there is an event of this id"
    with pytest.raises(AuditUnavailable, match=message), database.writing(AuditUnavailable) as connection:
        connection.execute(replace, {"id": event.id})
    assert SqlAuditLog(database).search(AuditFilter(), limit=2).events == (event,)
    database.dispose()


def test_an_update_that_meets_a_conflict_is_refused_too(database: Database, written: AuditEvent) -> None:
    upsert = text(
        "INSERT INTO audit_event (id, time, kind, hash) SELECT id, time, kind, hash FROM audit_event WHERE true "
        "ON CONFLICT (id) DO UPDATE SET hash = 'forged'"
    )
    with pytest.raises(AuditUnavailable, match="append-only"), database.writing(AuditUnavailable) as connection:
        connection.execute(upsert)
    assert SqlAuditLog(database).search(AuditFilter(), limit=2).events == (written,)
