"""Do the tables that searches read, ``audit_term`` and ``audit_bucket``, have everything that the events name?

No seal covers them: they are made from the events, and can be made again. A row that is missing there hides events from
a search, though not from the log, so a verification compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, Table, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.database.audit_log import folded, terms_of
from broker.adapters.database.audit_search import TERM_FIELDS
from broker.adapters.database.engine import Database
from broker.adapters.database.tables import audit_bucket, audit_event, audit_term
from broker.core.audit import AuditEvent, event_record, record_hash
from broker.core.audit_search import buckets_of
from broker.core.errors import AuditUnavailable
from broker.core.verification import HiddenEvent

_ROWS: Final = 1_000
# SQLite takes 32,766 values in a statement, three for each.
_KEYS_AT_ONCE: Final = 5_000
# Words that were found right and need no second look.
_MOST_REMEMBERED: Final = 50_000

_EVENT: Final = audit_event.c
_TERM: Final = audit_term.c
_BUCKET: Final = audit_bucket.c
_COLUMNS: Final = (_EVENT.time, _EVENT.id, _EVENT.session_policy, *(_EVENT[name] for name in TERM_FIELDS))

_RECORD: Final = tuple(field.name for field in fields(AuditEvent))

_Term = tuple[str, str]
_Place = tuple[str, datetime, str]


@dataclass(frozen=True, slots=True)
class _Gaps:
    """What some events name and the tables do not have.

    Attributes:
        hidden: which events.
        terms: words that are missing, or folded otherwise than a search looks for them.
        places: buckets that are missing.
    """

    hidden: Sequence[HiddenEvent]
    terms: Sequence[_Term]
    places: Sequence[_Place]


class SqlSearchTables:
    """Compares the tables with the events, and mends them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hidden(self) -> Iterator[HiddenEvent]:
        """The events that some search would not find, the oldest first.

        Raises:
            AuditUnavailable: no answer.
        """
        for gaps in self._walk():
            yield from gaps.hidden

    def mend(self) -> int:
        """Write what is missing; the number of rows.

        Raises:
            AuditUnavailable: no answer, or not allowed: only the owner of the tables may set right a word that was
                changed.
        """
        written = 0
        for gaps in self._walk():
            with self._database.transaction(AuditUnavailable) as connection:
                _write(connection, gaps)
            written += len(gaps.terms) + len(gaps.places)
        return written

    def _walk(self) -> Iterator[_Gaps]:
        right: set[_Term] = set()
        page = select(*_COLUMNS).order_by(_EVENT.time, _EVENT.id).limit(_ROWS)
        statement = page
        while True:
            with self._database.reading(AuditUnavailable) as connection:
                rows = connection.execute(statement).all()
                gaps = _gaps(connection, rows, right) if rows else None
            if gaps is None:
                return
            if gaps.hidden:
                yield gaps
            if len(right) > _MOST_REMEMBERED:
                right.clear()
            after = (rows[-1].time, rows[-1].id)
            statement = page.where(tuple_(_EVENT.time, _EVENT.id) > after)


def _gaps(connection: Connection, rows: Sequence[Row[Any]], right: set[_Term]) -> _Gaps:
    terms = {row.id: terms_of(row) for row in rows}
    places = {row.id: [(bucket, row.time, row.id) for bucket in buckets_of(row.session_policy)] for row in rows}

    asked = list({term for some in terms.values() for term in some} - right)
    kept = _found(connection, select(_TERM.field, _TERM.value, _TERM.folded), audit_term, ("field", "value"), asked)
    right |= {(one.field, one.value) for one in kept if one.folded == folded(one.field, one.value)}
    wanted = [place for some in places.values() for place in some]
    columns = (_BUCKET.bucket, _BUCKET.time, _BUCKET.event_id)
    have = {
        (one.bucket, one.time, one.event_id)
        for one in _found(connection, select(*columns), audit_bucket, [c.name for c in columns], wanted)
    }

    suspects = [
        row
        for row in rows
        if any(term not in right for term in terms[row.id]) or any(place not in have for place in places[row.id])
    ]
    unchanged = _unchanged(connection, [row.id for row in suspects])
    hidden: list[HiddenEvent] = []
    for row in suspects:
        if row.id in unchanged:
            names = [name for name, value in terms[row.id] if (name, value) not in right]
            names += ["bucket" for place in places[row.id] if place not in have][:1]
            hidden.append(HiddenEvent(row.id, row.time, tuple(names)))
    return _Gaps(
        hidden,
        list({term for one in hidden for term in terms[one.event_id] if term not in right}),
        [place for one in hidden for place in places[one.event_id] if place not in have],
    )


def _unchanged(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those that are as they were.

    Of one that was archived meanwhile the rows went too; one that was changed names what it never did, which the
    verification of the log says.
    """
    if not ids:
        return set()
    rows = connection.execute(select(*(_EVENT[name] for name in _RECORD), _EVENT.hash).where(_EVENT.id.in_(ids)))
    found = set()
    for row in rows:
        *values, stored = tuple(row)
        record = event_record(dict(zip(_RECORD, values, strict=True)))
        if record_hash(record) == stored:
            found.add(str(record["id"]))
    return found


def _found(
    connection: Connection, statement: Select[Any], table: Table, key: Sequence[str], wanted: Sequence[tuple[Any, ...]]
) -> list[Row[Any]]:
    rows: list[Row[Any]] = []
    columns = tuple_(*(table.c[name] for name in key))
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        rows += connection.execute(statement.where(columns.in_(wanted[start : start + _KEYS_AT_ONCE]))).all()
    return rows


def _write(connection: Connection, gaps: _Gaps) -> None:
    insert_of = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for field, value in gaps.terms:
        there = (_TERM.field == field, _TERM.value == value)
        right = folded(field, value)
        # Asked first: the broker's own user may insert and not update.
        if connection.scalar(select(_TERM.value).where(*there)) is not None:
            connection.execute(update(audit_term).where(*there).values(folded=right))
        else:
            row = {"field": field, "value": value, "folded": right}
            connection.execute(insert_of(audit_term).values(row).on_conflict_do_nothing())
    for bucket, time, event_id in gaps.places:
        place = {"bucket": bucket, "time": time, "event_id": event_id}
        connection.execute(insert_of(audit_bucket).values(place).on_conflict_do_nothing())
