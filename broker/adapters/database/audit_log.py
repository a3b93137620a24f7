"""The audit log in the database: append an event, read a page of them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Insert, Row, bindparam, exists, insert, literal, or_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from broker.adapters.database.audit_search import TERM_FIELDS, Question, written_out
from broker.adapters.database.column_types import ExactText, UtcTime
from broker.adapters.database.engine import Database
from broker.adapters.database.tables import (
    audit_archive,
    audit_bucket,
    audit_event,
    audit_term,
    open_grant,
    write_check,
)
from broker.core.audit import AuditEvent, EventKind, LiveSession, new_event_id
from broker.core.audit_search import (
    FIRST_LOOK,
    AuditCursor,
    AuditFilter,
    AuditPage,
    EventCount,
    TimeSpan,
    address_key,
    buckets_of,
    words_of,
)
from broker.core.errors import AuditUnavailable
from broker.core.settling import LATEST_START, latest_end

_FIELDS: Final = tuple(field.name for field in fields(AuditEvent))
_EVENT: Final = tuple(audit_event.c[name] for name in _FIELDS)

# Words that this process has kept already. They are never removed, so that forgetting some costs a little time only.
_MOST_REMEMBERED: Final = 50_000

# Counting is for a picture beside the answer: nobody waits long for that.
_TIME_TO_COUNT: Final = timedelta(seconds=1)

# As much as a large event with its indexes: what a full disk still takes of less proves nothing.
_FILLER_BYTES: Final = 32 * 1024

# Composed once, as every opening of the front page asks for both.
_LIVE: Final = (
    select(
        *(
            audit_event.c[name]
            for name in (
                "entitlement",
                "account",
                "session_name",
                "expiry",
                "duration_seconds",
                "granted_duration_seconds",
            )
        )
    )
    .distinct()
    .where(
        audit_event.c.kind == written_out(EventKind.ISSUANCE_SUCCEEDED),
        audit_event.c.principal_id == bindparam("of_person", type_=ExactText),
        audit_event.c.expiry > bindparam("at", type_=UtcTime),
    )
)
_OPEN_INTENTS: Final = select(*_EVENT).join_from(open_grant, audit_event, audit_event.c.id == open_grant.c.intent_id)
_PERHAPS_LIVE: Final = _OPEN_INTENTS.where(
    open_grant.c.over_at > bindparam("over_after", type_=UtcTime),
    audit_event.c.principal_id == bindparam("of_person", type_=ExactText),
)

_Term = tuple[str, str]


class SqlAuditLog:
    """The AuditLog port on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: set[_Term] = set()
        # The latest event that could not be written; None once one was.
        self._not_written: AuditEvent | None = None

    def append(self, event: AuditEvent) -> None:
        """Commit one event durably before returning.

        Raises:
            AuditUnavailable: not written, or nobody can tell; also when the grant already has its intent, or its
                outcome.
        """
        terms = [term for term in terms_of(event) if term not in self._kept]
        try:
            with self._database.writing(AuditUnavailable) as connection:
                _write(connection, event, terms)
        except AuditUnavailable as error:
            # Not where the event itself was refused: that says nothing about the next one.
            if isinstance(error.__cause__, OperationalError):
                self._not_written = event
            raise
        self._not_written = None
        if len(self._kept) > _MOST_REMEMBERED:
            self._kept.clear()
        self._kept.update(terms)

    def search(
        self,
        which: AuditFilter,
        *,
        limit: int,
        older_than: AuditCursor | None = None,
        look_through: int = FIRST_LOOK,
    ) -> AuditPage:
        """Events newest first; equal times in the order of their ids.

        Args:
            which: filters that all have to fit.
            limit: the most events of one page, at least 1.
            older_than: the ``older`` of the page before.
            look_through: the most events that are looked at where no index knows which fit.

        Raises:
            AuditUnavailable: no answer, or an event of a kind that only a newer version knows.
        """
        if limit < 1:
            raise ValueError("a page has at least one event")
        with self._database.reading_planned(AuditUnavailable) as connection:
            # The one more tells whether there is an older page.
            question = Question(connection, which, limit + 1, look_through, older_than)
            found = question.answer(_EVENT)
        events = tuple(_event(row) for row in found.rows[:limit])
        last = events[-1] if events else None
        # What finds them has no seal: somebody may have written there that a session could reach what it could not.
        events = tuple(one for one in events if which.bucket is None or which.bucket in buckets_of(one.session_policy))
        if last is not None and len(found.rows) > limit:
            return AuditPage(events, older=AuditCursor(time=last.time, id=last.id))
        end = found.looked_back_to
        return AuditPage(events, older=end, looked_back_to=end.time if end else None)

    def event(self, event_id: str) -> AuditEvent | None:
        """The event of that id; None when there is none.

        Raises:
            AuditUnavailable: no answer, or an event of a kind that only a newer version knows.
        """
        with self._database.reading(AuditUnavailable) as connection:
            row = connection.execute(select(*_EVENT).where(audit_event.c.id == event_id)).one_or_none()
        return None if row is None else _event(row)

    def neighbours(self, event: AuditEvent, *, within: timedelta, limit: int) -> Sequence[AuditEvent]:
        """What the same person did just before and just after, in the order of time; of other grants than the event's.

        Args:
            event: which has a ``principal_id``.
            within: so long before and after.
            limit: the most events before, and after.

        Raises:
            AuditUnavailable: no answer, or an event of a kind that only a newer version knows.
        """
        known = audit_event.c
        key, here = tuple_(known.time, known.id), tuple_(literal(event.time, UtcTime), literal(event.id, ExactText))
        theirs = select(*_EVENT).where(known.principal_id == event.principal_id).limit(limit)
        if event.grant_id is not None:
            theirs = theirs.where(or_(known.grant_id.is_(None), known.grant_id != event.grant_id))
        before = theirs.where(key < here, known.time >= event.time - within).order_by(
            known.time.desc(), known.id.desc()
        )
        after = theirs.where(key > here, known.time <= event.time + within).order_by(known.time, known.id)
        with self._database.reading_planned(AuditUnavailable) as connection:
            earlier, later = (connection.execute(statement).all() for statement in (before, after))
        return tuple(map(_event, [*reversed(earlier), *later]))

    def count(self, which: AuditFilter, spans: Sequence[TimeSpan]) -> Sequence[EventCount]:
        """How many events of each span fit; estimated where there are many.

        Args:
            which: filters that all have to fit, whenever it was.
            spans: in any order.

        Raises:
            AuditUnavailable: no answer in time.
        """
        with self._database.reading_within(_TIME_TO_COUNT, AuditUnavailable) as connection:
            return Question(connection, which, wanted=1, look_through=FIRST_LOOK).counts(spans)

    def archived_before(self) -> datetime | None:
        """Events before that moment are in archives and no longer here; None where nothing was archived.

        Raises:
            AuditUnavailable: no answer.
        """
        # Archives take from the beginning: what is left begins where they end.
        oldest = select(audit_event.c.time).where(exists(select(audit_archive.c.position)))
        with self._database.reading(AuditUnavailable) as connection:
            return connection.execute(oldest.order_by(audit_event.c.time, audit_event.c.id).limit(1)).scalar()

    def live_sessions(self, principal_id: str, now: datetime) -> Sequence[LiveSession]:
        """AWS sessions of that person which have not run out, the one that ends last first.

        Raises:
            AuditUnavailable: no answer.
        """
        asked = {"of_person": principal_id, "at": now, "over_after": now - LATEST_START}
        with self._database.reading(AuditUnavailable) as connection:
            rows = connection.execute(_LIVE, asked).all()
            perhaps = connection.execute(_PERHAPS_LIVE, asked).all()
        certain = [
            _live(
                row.entitlement,
                row.account,
                row.session_name,
                row.expiry,
                shortened=_shortened(row.duration_seconds, row.granted_duration_seconds),
            )
            for row in rows
        ]
        uncertain = [
            _live(one.entitlement, one.account, one.session_name, latest_end(one), certain=False)
            for one in map(_event, perhaps)
        ]
        return sorted(
            dict.fromkeys([*certain, *uncertain]),
            key=lambda one: (-one.expiry.timestamp(), one.entitlement, one.account, one.session_name),
        )

    def without_outcome(self, events: Sequence[AuditEvent]) -> frozenset[str]:
        """The ids of those that are intents of grants whose outcome is not known.

        Raises:
            AuditUnavailable: no answer.
        """
        grants = [event.grant_id for event in events if event.kind is EventKind.ISSUANCE_INTENDED]
        if not grants:
            return frozenset()
        found = select(open_grant.c.intent_id).where(open_grant.c.grant_id.in_(grants))
        with self._database.reading(AuditUnavailable) as connection:
            return frozenset(connection.execute(found).scalars())

    def hashes(self, events: Sequence[AuditEvent]) -> Mapping[str, str]:
        """The hash that is kept with each, by the event's id; none of one that was archived meanwhile.

        Raises:
            AuditUnavailable: no answer.
        """
        kept = select(audit_event.c.id, audit_event.c.hash).where(audit_event.c.id.in_([event.id for event in events]))
        with self._database.reading(AuditUnavailable) as connection:
            return {row.id: row.hash for row in connection.execute(kept)}

    def unsettled_intents(self, over_by: datetime, *, limit: int) -> Sequence[AuditEvent]:
        """Intents without an outcome whose session would have been over by then, the earliest first.

        Raises:
            AuditUnavailable: no answer.
        """
        over_at = open_grant.c.over_at
        statement = _OPEN_INTENTS.where(over_at <= over_by).order_by(over_at).limit(limit)
        with self._database.reading(AuditUnavailable) as connection:
            return tuple(map(_event, connection.execute(statement).all()))

    def check(self) -> None:
        """Write a row that is no event, durably.

        A full disk often has room for that row, where the log itself cannot grow. So when the latest event could not be
        written, it is tried again, and taken back.

        Raises:
            AuditUnavailable: not written, or no table.
        """
        not_written = self._not_written
        with self._database.transaction(AuditUnavailable) as connection:
            if not_written is not None:
                trial = connection.begin_nested()
                _write(connection, replace(not_written, id=new_event_id(), grant_id=None), terms_of(not_written))
                trial.rollback()
            insert_of = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            filler = {"filler": secrets.token_bytes(_FILLER_BYTES)}
            row = insert_of(write_check).values(id=1, **filler)
            connection.execute(row.on_conflict_do_update(index_elements=["id"], set_=filler))
        self._not_written = None


def _write(connection: Connection, event: AuditEvent, terms: Sequence[_Term]) -> None:
    row: dict[str, object] = {name: getattr(event, name) for name in _FIELDS}
    row["hash"] = event.hash
    buckets = buckets_of(event.session_policy)
    for number, (name, value) in enumerate(terms):
        row |= {f"field_{number}": name, f"value_{number}": value, f"folded_{number}": folded(name, value)}
    for number, bucket in enumerate(buckets):
        row[f"bucket_{number}"] = bucket
    for statement in _appending(connection.dialect.name, len(terms), len(buckets)):
        connection.execute(statement, row)


def terms_of(event: AuditEvent | Row[Any]) -> list[_Term]:
    """The words that it is found by, with the columns that they are in."""
    found = ((name, words_of(name, getattr(event, name) or "")) for name in TERM_FIELDS)
    return [(name, value) for name, value in found if value]


def folded(name: str, value: str) -> str:
    """A word as a search for a part of it looks for it."""
    return (name == "source_address" and address_key(value)) or value.casefold()


@lru_cache(maxsize=256)
def _appending(dialect: str, terms: int, buckets: int) -> tuple[Insert, ...]:
    """The statements that write an event with so many new words and buckets: one of them on PostgreSQL.

    Each row has an insert of its own: one of several rows would be compiled anew each time, for milliseconds.
    """
    event = insert(audit_event).values({name: bindparam(name) for name in (*_FIELDS, "hash")})
    insert_of = postgresql.insert if dialect == "postgresql" else sqlite.insert
    beside: list[Insert] = [
        insert_of(audit_term).values(_named(("field", "value", "folded"), number)).on_conflict_do_nothing()
        for number in range(terms)
    ]
    beside += [
        insert_of(audit_bucket).values(
            {**_named(("bucket",), number), "time": bindparam("time", type_=UtcTime), "event_id": bindparam("id")}
        )
        for number in range(buckets)
    ]
    if dialect != "postgresql":
        return (*beside, event)
    # All in one statement: one round trip, one commit.
    for number, statement in enumerate(beside):
        event = event.add_cte(statement.cte(f"beside_{number}"))
    return (event,)


def _named(columns: Sequence[str], number: int) -> dict[str, BindParameter[Any]]:
    return {column: bindparam(f"{column}_{number}", type_=ExactText) for column in columns}


def _live(
    entitlement: str | None,
    account: str | None,
    session_name: str | None,
    expiry: datetime,
    *,
    certain: bool = True,
    shortened: tuple[timedelta, timedelta] | tuple[None, None] = (None, None),
) -> LiveSession:
    return LiveSession(entitlement or "", account or "", session_name or "", expiry, certain, *shortened)


def _shortened(asked: int | None, given: int | None) -> tuple[timedelta, timedelta] | tuple[None, None]:
    if asked is None or given is None:
        return None, None
    return timedelta(seconds=asked), timedelta(seconds=given)


def _event(row: Row[Any]) -> AuditEvent:
    values = dict(zip(_FIELDS, row, strict=True))
    try:
        values["kind"] = EventKind(values["kind"])
    except ValueError as error:
        raise AuditUnavailable(f"event {values['id']} is of a kind that this version does not know") from error
    return AuditEvent(**values)
