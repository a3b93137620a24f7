"""The audit table itself refuses to change what is written, whoever asks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.core.audit import OUTCOMES, AuditEvent, EventKind
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
    forged = text(
        "INSERT OR REPLACE INTO audit_event (id, time, kind, hash) VALUES (:id, 0, 'login.succeeded', 'forged')"
    )
    message = "audit_event is append-only: there is an event of this id"
    with pytest.raises(AuditUnavailable, match=message), database.writing(AuditUnavailable) as connection:
        connection.execute(forged, {"id": event.id})
    assert SqlAuditLog(database).search(AuditFilter(), limit=2).events == (event,)
    database.dispose()


@pytest.mark.parametrize("kind", [EventKind.ISSUANCE_INTENDED, *OUTCOMES])
def test_an_event_cannot_be_replaced_by_another_of_its_grant_on_sqlite(sqlite_url: str, kind: EventKind) -> None:
    database = Database(sqlite_url)
    event = issuance(kind, "G1")
    SqlAuditLog(database).append(event)
    other = text(
        "INSERT OR REPLACE INTO audit_event (id, time, kind, grant_id, hash) VALUES ('other', 0, :kind, 'G1', 'forged')"
    )
    message = "audit_event is append-only: the grant has such an event"
    with pytest.raises(AuditUnavailable, match=message), database.writing(AuditUnavailable) as connection:
        connection.execute(other, {"kind": kind})
    assert SqlAuditLog(database).search(AuditFilter(), limit=2).events == (event,)
    database.dispose()


NO_TIMES = [
    *(("sqlite_url", moment) for moment in ("'soon'", "X'ff'", "1.5", "9223372036854775807", "-62135596800000001")),
    *(("postgresql_url", f"'{moment}'") for moment in ("infinity", "-infinity", "0044-03-15 BC", "10000-01-01 UTC")),
]


@pytest.mark.parametrize(("url", "moment"), NO_TIMES)
@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("audit_event (kind, id, hash, time)", "'login.succeeded', 'made-up', 'x', {moment}"),
        ("audit_event (kind, id, hash, time, expiry)", "'login.succeeded', 'made-up', 'x', {now}, {moment}"),
        ("audit_bucket (bucket, event_id, time)", "'corp-home', 'made-up', {moment}"),
    ],
)
def test_nothing_is_appended_at_a_time_that_nobody_could_read(
    request: pytest.FixtureRequest, url: str, moment: str, columns: str, values: str
) -> None:
    database = Database(request.getfixturevalue(url))
    now = "0" if url == "sqlite_url" else "now()"
    statement = text(f"INSERT INTO {columns} VALUES ({values.format(moment=moment, now=now)})")  # noqa: S608 - of ours
    message = "there is no such time|violates check constraint"
    with pytest.raises(AuditUnavailable, match=message), database.writing(AuditUnavailable) as connection:
        connection.execute(statement)
    assert SqlAuditLog(database).search(AuditFilter(), limit=2).events == ()
    database.dispose()


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_first_and_the_last_time_there_is_can_be_appended(database: Database, moment: datetime) -> None:
    event = replace(issuance(EventKind.ISSUANCE_SUCCEEDED, "G1"), time=moment, expiry=moment)
    SqlAuditLog(database).append(event)
    assert SqlAuditLog(database).search(AuditFilter(), limit=2).events == (event,)


def test_an_update_that_meets_a_conflict_is_refused_too(database: Database, written: AuditEvent) -> None:
    upsert = text(
        "INSERT INTO audit_event (id, time, kind, hash) SELECT id, time, kind, hash FROM audit_event WHERE true "
        "ON CONFLICT (id) DO UPDATE SET hash = 'forged'"
    )
    with pytest.raises(AuditUnavailable, match="append-only"), database.writing(AuditUnavailable) as connection:
        connection.execute(upsert)
    assert SqlAuditLog(database).search(AuditFilter(), limit=2).events == (written,)
