"""The audit log in the database: append an event, read a page of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import BindParameter, Insert, Row, bindparam, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.database.audit_search import TERM_FIELDS, Question, counts, written_out
from broker.adapters.database.column_types import ExactText, UtcTime
from broker.adapters.database.engine import Database
from broker.adapters.database.tables import audit_bucket, audit_event, audit_term
from broker.core.audit import AuditEvent, EventKind, LiveSession
from broker.core.audit_search import (
    AuditCursor,
    AuditFilter,
    AuditPage,
    EventCount,
    TimeSpan,
    address_key,
    buckets_of,
)
from broker.core.errors import AuditUnavailable

_FIELDS: Final = tuple(field.name for field in fields(AuditEvent))
_EVENT: Final = tuple(audit_event.c[name] for name in _FIELDS)

# Words that this process has kept already. They are never removed, so that forgetting some costs a little time only.
_MOST_REMEMBERED: Final = 50_000

# Counting is for a picture beside the answer: nobody waits long for that.
_TIME_TO_COUNT: Final = timedelta(seconds=1)

_Term = tuple[str, str]


class SqlAuditLog:
    """The AuditLog port on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: set[_Term] = set()

    def append(self, event: AuditEvent) -> None:
        """Commit one event durably before returning.

        Raises:
            AuditUnavailable: not written, or nobody can tell; also when the grant already has an event of that kind.
        """
        row: dict[str, object] = {name: getattr(event, name) for name in _FIELDS}
        row["hash"] = event.hash
        terms = [term for term in _terms(event) if term not in self._kept]
        buckets = buckets_of(event)
        for number, (name, value) in enumerate(terms):
            row |= {f"field_{number}": name, f"value_{number}": value, f"folded_{number}": _folded(name, value)}
        for number, bucket in enumerate(buckets):
            row[f"bucket_{number}"] = bucket
        with self._database.writing(AuditUnavailable) as connection:
            for statement in _appending(connection.dialect.name, len(terms), len(buckets)):
                connection.execute(statement, row)
        if len(self._kept) > _MOST_REMEMBERED:
            self._kept.clear()
        self._kept.update(terms)

    def search(self, which: AuditFilter, *, limit: int, older_than: AuditCursor | None = None) -> AuditPage:
        """Events newest first; equal times in the order of their ids.

        Args:
            which: filters that all have to fit.
            limit: the most events of one page, at least 1.
            older_than: the ``older`` of the page before.

        Raises:
            AuditUnavailable: no answer, or an event of a kind that only a newer version knows.
        """
        if limit < 1:
            raise ValueError("a page has at least one event")
        with self._database.reading(AuditUnavailable) as connection:
            # The one more tells whether there is an older page.
            question = Question(connection, which, wanted=limit + 1, older_than=older_than)
            rows = connection.execute(question.statement(_EVENT)).all()
        events = tuple(_event(row) for row in rows[:limit])
        older = AuditCursor(time=events[-1].time, id=events[-1].id) if len(rows) > limit else None
        return AuditPage(events=events, older=older)

    def event(self, event_id: str) -> AuditEvent | None:
        """The event of that id; None when there is none.

        Raises:
            AuditUnavailable: no answer, or an event of a kind that only a newer version knows.
        """
        with self._database.reading(AuditUnavailable) as connection:
            row = connection.execute(select(*_EVENT).where(audit_event.c.id == event_id)).one_or_none()
        return None if row is None else _event(row)

    def count(self, which: AuditFilter, spans: Sequence[TimeSpan], *, cap: int) -> Sequence[EventCount]:
        """How many events of each span fit.

        Args:
            which: filters that all have to fit.
            spans: in any order.
            cap: in each span no more are counted.

        Raises:
            AuditUnavailable: no answer in time.
        """
        with self._database.reading_within(_TIME_TO_COUNT, AuditUnavailable) as connection:
            numbers = connection.execute(counts(connection, which, spans, cap)).scalars().all()
        return tuple(
            EventCount(span, min(number, cap), capped=number > cap) for span, number in zip(spans, numbers, strict=True)
        )

    def live_sessions(self, principal_id: str, now: datetime) -> Sequence[LiveSession]:
        """AWS sessions of that person which have not run out, the one that ends last first.

        Raises:
            AuditUnavailable: no answer.
        """
        event = audit_event.c
        columns = (event.entitlement, event.account, event.session_name, event.expiry)
        statement = (
            select(*columns)
            .distinct()
            .where(
                event.kind == written_out(EventKind.ISSUANCE_SUCCEEDED),
                event.principal_id == principal_id,
                event.expiry > now,
            )
            .order_by(event.expiry.desc(), event.entitlement, event.account, event.session_name)
        )
        with self._database.reading(AuditUnavailable) as connection:
            rows = connection.execute(statement).all()
        return tuple(
            LiveSession(
                entitlement=row.entitlement or "",
                account=row.account or "",
                session_name=row.session_name or "",
                expiry=row.expiry,
            )
            for row in rows
        )

    def check(self) -> None:
        """Ask for one event, whichever.

        Raises:
            AuditUnavailable: no answer, or no table.
        """
        with self._database.reading(AuditUnavailable) as connection:
            connection.execute(select(audit_event.c.id).limit(1)).first()


def _terms(event: AuditEvent) -> list[_Term]:
    found = ((name, getattr(event, name)) for name in TERM_FIELDS)
    return [(name, value) for name, value in found if value is not None]


def _folded(name: str, value: str) -> str:
    return (name == "source_address" and address_key(value)) or value.casefold()


@lru_cache(maxsize=256)
def _appending(dialect: str, terms: int, buckets: int) -> tuple[Insert, ...]:
    """The statements that write an event with so many new words and buckets: one of them on PostgreSQL."""
    event = insert(audit_event).values({name: bindparam(name) for name in (*_FIELDS, "hash")})
    insert_of = postgresql.insert if dialect == "postgresql" else sqlite.insert
    beside: list[Insert] = []
    if terms:
        rows = [_named(("field", "value", "folded"), number) for number in range(terms)]
        beside.append(insert_of(audit_term).values(rows).on_conflict_do_nothing())
    if buckets:
        places = [
            {**_named(("bucket",), number), "time": bindparam("time", type_=UtcTime), "event_id": bindparam("id")}
            for number in range(buckets)
        ]
        beside.append(insert_of(audit_bucket).values(places))
    if dialect != "postgresql":
        return (*beside, event)
    # All in one statement: one round trip, one commit.
    for number, statement in enumerate(beside):
        event = event.add_cte(statement.cte(f"beside_{number}"))
    return (event,)


def _named(columns: Sequence[str], number: int) -> dict[str, BindParameter[Any]]:
    return {column: bindparam(f"{column}_{number}", type_=ExactText) for column in columns}


def _event(row: Row[Any]) -> AuditEvent:
    values = dict(zip(_FIELDS, row, strict=True))
    try:
        values["kind"] = EventKind(values["kind"])
    except ValueError as error:
        raise AuditUnavailable(f"event {values['id']} is of a kind that this version does not know") from error
    return AuditEvent(**values)
