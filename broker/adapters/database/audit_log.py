"""The audit log in the database: append an event, read a page of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    Subquery,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    tuple_,
    union,
)
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.database.column_types import ExactText, UtcTime
from broker.adapters.database.engine import Database
from broker.adapters.database.tables import audit_event, audit_username
from broker.core.audit import AuditCursor, AuditEvent, AuditFilter, AuditPage, EventKind, LiveSession
from broker.core.errors import AuditUnavailable

_FIELDS: Final = tuple(field.name for field in fields(AuditEvent))
_EVENT: Final = tuple(audit_event.c[name] for name in _FIELDS)

# A search that fits so many people, or fewer, looks at each of them. One that fits more walks along the time, where
# the events of that many people are not far apart.
_MOST_MERGED: Final = 1000

_NAME: Final[dict[str, BindParameter[Any]]] = {
    "username": bindparam("known_username"),
    "folded": bindparam("known_folded"),
}
_KEEP_NAME: Final = sqlite.insert(audit_username).values(_NAME).on_conflict_do_nothing()
_APPEND: Final = insert(audit_event)
# PostgreSQL does both in one statement: one round trip, one commit.
_APPEND_AND_KEEP_NAME: Final = insert(audit_event).add_cte(
    postgresql.insert(audit_username).values(_NAME).on_conflict_do_nothing().cte("kept")
)


class SqlAuditLog:
    """The AuditLog port on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, event: AuditEvent) -> None:
        """Commit one event durably before returning.

        Raises:
            AuditUnavailable: not written, or nobody can tell; also when the grant already has an event of that kind.
        """
        row: dict[str, object] = {name: getattr(event, name) for name in _FIELDS}
        row["hash"] = event.hash
        username = event.principal_username
        name = {} if username is None else {"known_username": username, "known_folded": username.casefold()}
        with self._database.writing(AuditUnavailable) as connection:
            if name and _is_postgresql(connection):
                connection.execute(_APPEND_AND_KEEP_NAME, row | name)
                return
            if name:
                connection.execute(_KEEP_NAME, name)
            connection.execute(_APPEND, row)

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
        wanted = limit + 1  # the one more tells whether there is an older page
        with self._database.reading(AuditUnavailable) as connection:
            if which.person is None:
                page = _newest(select(*_EVENT).where(*_conditions(which, older_than)), wanted)
            else:
                page = _page_of_person(connection, which, older_than, which.person, wanted)
            rows = connection.execute(page).all()
        events = tuple(_event(row) for row in rows[:limit])
        older = AuditCursor(time=events[-1].time, id=events[-1].id) if len(rows) > limit else None
        return AuditPage(events=events, older=older)

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
                event.kind == _written_out(EventKind.ISSUANCE_SUCCEEDED),
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


def _conditions(
    which: AuditFilter, older_than: AuditCursor | None, *, steer: bool = False
) -> list[ColumnElement[bool]]:
    """Everything but the person.

    Args:
        which: the filters.
        older_than: where the page begins.
        steer: keep the engine from following the indexes of these columns: SQLite, which knows no frequencies, could
            take the one of a common entitlement for a question about a rare person.
    """
    event = audit_event.c
    kind, entitlement = (column.concat("") if steer else column for column in (event.kind, event.entitlement))
    conditions: list[ColumnElement[bool]] = []
    if which.kind is not None:
        conditions.append(kind == _written_out(which.kind))
    if which.entitlement is not None:
        conditions.append(entitlement == which.entitlement)
    if which.since is not None:
        conditions.append(event.time >= which.since)
    if which.until is not None:
        conditions.append(event.time < which.until)
    if older_than is not None:
        cursor = tuple_(literal(older_than.time, UtcTime), literal(older_than.id, ExactText))
        conditions.append(tuple_(event.time, event.id) < cursor)
    return conditions


def _written_out(kind: EventKind) -> ColumnElement[str]:
    # Not a parameter: with one, neither engine could know that a partial index fits.
    return bindparam(None, kind.value, type_=ExactText, literal_execute=True)


def _newest(statement: Select[Any], wanted: int) -> Select[Any]:
    return statement.order_by(audit_event.c.time.desc(), audit_event.c.id.desc()).limit(wanted)


def _page_of_person(
    connection: Connection, which: AuditFilter, older_than: AuditCursor | None, person: str, wanted: int
) -> Select[Any]:
    """The page of everyone whose username holds that text, and of the principal with that id."""
    event = audit_event.c
    conditions = _conditions(which, older_than)
    # Not LIKE: nothing in a name is special here, and there is no longest pattern.
    position = func.strpos if _is_postgresql(connection) else func.instr
    folded = literal(person.casefold(), ExactText)
    fitting = select(audit_username.c.username).where(position(audit_username.c.folded, folded) > 0)
    people = connection.execute(select(func.count()).select_from(fitting.limit(_MOST_MERGED + 1).subquery()))
    if people.scalar_one() > _MOST_MERGED:
        # Not the bare column, or SQLite gathers all events of all these people from its index and sorts them.
        anyone = or_(event.principal_username.concat("").in_(fitting), event.principal_id == person)
        return _newest(select(*_EVENT).where(anyone, *conditions), wanted)
    by_name = _newest_of_each(connection, fitting.subquery(), conditions, wanted)
    steered = _conditions(which, older_than, steer=True)
    by_id = _newest(select(event.time, event.id).where(event.principal_id == person, *steered), wanted).subquery()
    either = union(by_name, select(by_id.c.time, by_id.c.id)).subquery()
    page = select(either.c.id).order_by(either.c.time.desc(), either.c.id.desc()).limit(wanted)
    return select(*_EVENT).where(event.id.in_(page)).order_by(event.time.desc(), event.id.desc())


def _newest_of_each(
    connection: Connection, people: Subquery, conditions: list[ColumnElement[bool]], wanted: int
) -> Select[Any]:
    """The keys of the newest events of those people, in no order, among them the newest of all.

    With ``username IN (…)`` the engines would read all events of all of them and sort. This looks up the last event of
    each, and then reads the newest events only of those who were last seen last: as many people as the page has rows,
    since each of them has at least one event that comes before all events of everyone else.
    """
    event = audit_event.c

    def of(username: ColumnElement[str], *columns: ColumnElement[Any], limit: int) -> Select[Any]:
        return _newest(select(*columns).where(event.principal_username == username, *conditions), limit)

    last_time, last_id = (
        of(people.c.username, column, limit=1).correlate(people).scalar_subquery() for column in (event.time, event.id)
    )
    recent = select(people.c.username).order_by(last_time.desc().nulls_last(), last_id.desc()).limit(wanted).subquery()
    if _is_postgresql(connection):
        newest = of(recent.c.username, event.time, event.id, limit=wanted).correlate(recent).lateral()
        return select(newest.c.time, newest.c.id).select_from(recent.join(newest, true()))
    # SQLite has no LATERAL, but evaluates a correlated IN once for each person.
    ids = of(recent.c.username, event.id, limit=wanted).correlate(recent)
    found = audit_event.alias()
    return select(found.c.time, found.c.id).select_from(recent.join(found, found.c.id.in_(ids)))


def _event(row: Row[Any]) -> AuditEvent:
    values = dict(zip(_FIELDS, row, strict=True))
    try:
        values["kind"] = EventKind(values["kind"])
    except ValueError as error:
        raise AuditUnavailable(f"event {values['id']} is of a kind that this version does not know") from error
    return AuditEvent(**values)


def _is_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"
