"""Questions to the audit log, each answered by walking an index backwards until a page is full.

Whatever a question combines, one part of it leads (``_LEADERS``): it says along which index, or along which few, the
walk goes; the other parts are conditions on each row that the walk meets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    column,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from broker.adapters.database.column_types import ExactText, UtcTime
from broker.adapters.database.tables import audit_bucket, audit_event, audit_term
from broker.core.audit import EventKind
from broker.core.audit_search import AuditCursor, AuditFilter, Network, TimeSpan, network_keys

# A search for a part of a word that fits so many words, or fewer, looks at each of them. One that fits more walks along
# the time, where the events of that many words are not far apart.
_MOST_MERGED: Final = 1000

TERM_FIELDS: Final = ("principal_username", "entitlement", "account", "role", "source_address", "reason")
"""The columns whose distinct values are kept in ``audit_term``: a search for a part of a word reads those."""

# Equality with one of these leaves so few events that nothing else has to lead.
_EXACT_FIELDS: Final = ("access_key_id", "assertion_id", "reference_id", "grant_id", "session_name")

_event: Final = audit_event.c
Condition = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the connection that it is put to.

    Attributes:
        wanted: at most so many rows.
        older_than: where the page begins.
    """

    connection: Connection
    which: AuditFilter
    wanted: int
    older_than: AuditCursor | None = None

    def statement(self, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """The newest events that fit, newest first.

        Args:
            columns: of ``audit_event``.
        """
        for part, walks_of in _LEADERS.items():
            if self._leads(part):
                walks = [walk.subquery() for walk in walks_of(self)]
                if not walks:
                    return select(*columns).where(false())
                keys = union(*(select(walk.c.time, walk.c.id) for walk in walks)).subquery()
                page = select(keys.c.id).order_by(keys.c.time.desc(), keys.c.id.desc()).limit(self.wanted)
                found = select(*columns).where(_event.id.in_(page))
                return found.order_by(_event.time.desc(), _event.id.desc())
        return self.newest(select(*columns).where(*self.conditions()))

    def count(self, span: TimeSpan) -> Select[Any]:
        """How many events of that span fit; at most ``wanted`` are counted."""
        inside = (_event.time >= literal(span.since, UtcTime), _event.time < literal(span.until, UtcTime))
        found = select(literal(1)).where(*inside, *self.conditions()).select_from(audit_event).limit(self.wanted)
        return select(func.count()).select_from(found.subquery())

    def newest(self, statement: Select[Any]) -> Select[Any]:
        """Those rows in the order of the page, no more than it needs."""
        return statement.order_by(_event.time.desc(), _event.id.desc()).limit(self.wanted)

    def walk(self, *conditions: Condition) -> Select[Any]:
        """The keys of the newest events for which those conditions hold."""
        return self.newest(select(_event.time, _event.id).where(*conditions))

    def conditions(self, *, without: str | None = None, steer: bool = False) -> list[Condition]:
        """What a row has to fulfil.

        Args:
            without: the part that leads, and so is fulfilled.
            steer: keep the engine from following the indexes of other columns: SQLite, which knows no frequencies,
                could take the one of a common entitlement for a question about a rare person.
        """
        parts = {**self._equalities(steer=steer), **self._memberships(), **self._bounds()}
        return [condition for part, condition in parts.items() if part != without]

    def _equalities(self, *, steer: bool) -> dict[str, Condition]:
        which, found = self.which, dict[str, Condition]()
        if which.kind is not None:
            found["kind"] = _column("kind", steer=steer) == written_out(which.kind)
        if which.outcome is not None:
            found["outcome"] = or_(*(_event.kind == written_out(kind) for kind in which.outcome.kinds))
        if which.principal_id is not None:
            found["principal_id"] = _event.principal_id == which.principal_id
        for name in ("entitlement", "account"):
            if (value := getattr(which, name)) is not None:
                found[name] = _column(name, steer=steer) == value
        for name in _EXACT_FIELDS:
            if (value := getattr(which, name)) is not None:
                found[name] = _event[name] == value
        return found

    def _memberships(self) -> dict[str, Condition]:
        which, found = self.which, dict[str, Condition]()
        if which.person is not None:
            names = self.words_with("principal_username", which.person)
            found["person"] = or_(_event.principal_username.in_(names), _event.principal_id == which.person)
        if which.source is not None:
            found["source"] = (
                _event.source_address == str(which.source[0])
                if _is_single(which.source)
                else _event.source_address.in_(_within(which.source))
            )
        if which.bucket is not None:
            here = (audit_bucket.c.time == _event.time, audit_bucket.c.event_id == _event.id)
            found["bucket"] = exists().where(audit_bucket.c.bucket == which.bucket, *here)
        if which.text is not None:
            found["text"] = or_(
                *(_event[name].in_(self.words_with(name, which.text)) for name in TERM_FIELDS),
                *(_event[name] == which.text for name in (*_EXACT_FIELDS, "id")),
            )
        return found

    def _bounds(self) -> dict[str, Condition]:
        which, found = self.which, dict[str, Condition]()
        if which.since is not None:
            found["since"] = _event.time >= which.since
        if which.until is not None:
            found["until"] = _event.time < which.until
        if which.ends_after is not None:
            found["ends_after"] = _event.expiry > which.ends_after
        if self.older_than is not None:
            cursor = tuple_(literal(self.older_than.time, UtcTime), literal(self.older_than.id, ExactText))
            found["cursor"] = tuple_(_event.time, _event.id) < cursor
        return found

    def _leads(self, part: str) -> bool:
        if getattr(self.which, part) is None or any(getattr(self.which, name) is not None for name in _EXACT_FIELDS):
            return False
        # One address is an equality like any other.
        return part != "source" or not (self.which.source and _is_single(self.which.source))

    def words_with(self, name: str, part: str) -> Select[Any]:
        """The kept words of a column that hold that part, in any case."""
        # Not LIKE: nothing in a name is special here, and there is no longest pattern.
        position = func.strpos if self.is_postgresql else func.instr
        # The folded form of an address is a number; people type it as it is written.
        word = audit_term.c.value if name == "source_address" else audit_term.c.folded
        holds = position(word, literal(part.casefold(), ExactText)) > 0
        return select(audit_term.c.value).where(audit_term.c.field == name, holds)

    @property
    def is_postgresql(self) -> bool:
        """Which engine it is; SQLite otherwise."""
        return self.connection.dialect.name == "postgresql"

    def with_words(self, name: str, words: Select[Any], *, without: str) -> list[Select[Any]]:
        """The walk along the events whose column holds one of those words; none when there is no such word."""
        # Two columns have an index together with the kind, or with the entitlement: those may be followed.
        conditions = self.conditions(without=without, steer=name not in {"principal_username", "entitlement"})
        found = self.connection.execute(words.limit(_MOST_MERGED + 1)).scalars().all()
        if len(found) > _MOST_MERGED:
            # Not the bare column, or SQLite gathers all events of all these words from its index and sorts them.
            return [self.walk(_event[name].concat("").in_(words), *conditions)]
        if len(found) > 1:
            return [self._newest_of_each(name, self._table_of(found), conditions)]
        return [self.walk(_event[name] == word, *conditions) for word in found]

    def _table_of(self, words: Sequence[str]) -> Select[Any]:
        """The words as a table with the column ``value``: one parameter, however many they are."""
        if self.is_postgresql:
            several = bindparam(None, list(words), type_=ARRAY(ExactText))
            return select(func.unnest(several, type_=ExactText).label("value"))
        stored = [ExactText().process_bind_param(word, self.connection.dialect) for word in words]
        return select(func.json_each(json.dumps(stored)).table_valued(column("value", ExactText)).c.value)

    def _newest_of_each(self, name: str, words: Select[Any], conditions: list[Condition]) -> Select[Any]:
        """The keys of the newest events with those words, in no order, among them the newest of all.

        With ``column IN (…)`` the engines would read all events of all the words and sort. This looks up the last event
        of each word, and then reads the newest events only of those that were last seen last: as many words as the page
        has rows, since each of them has at least one event that comes before all events of every other.
        """
        known = words.subquery()

        def of(word: ColumnElement[str], *columns: ColumnElement[Any], limit: int) -> Select[Any]:
            found = select(*columns).where(_event[name] == word, *conditions)
            return found.order_by(_event.time.desc(), _event.id.desc()).limit(limit)

        last_time, last_id = (
            of(known.c.value, column, limit=1).correlate(known).scalar_subquery() for column in (_event.time, _event.id)
        )
        recent = select(known.c.value).order_by(last_time.desc().nulls_last(), last_id.desc()).limit(self.wanted)
        recent_words = recent.subquery()
        if self.is_postgresql:
            newest = of(recent_words.c.value, _event.time, _event.id, limit=self.wanted)
            each = newest.correlate(recent_words).lateral()
            return select(each.c.time, each.c.id).select_from(recent_words.join(each, true()))
        # SQLite has no LATERAL, but evaluates a correlated IN once for each word.
        ids = of(recent_words.c.value, _event.id, limit=self.wanted).correlate(recent_words)
        found = audit_event.alias()
        return select(found.c.time, found.c.id).select_from(recent_words.join(found, found.c.id.in_(ids)))


def _of_person(question: Question) -> list[Select[Any]]:
    """Of everyone whose username holds that text, and of the principal with that id."""
    person = question.which.person or ""
    words = question.words_with("principal_username", person)
    by_id = question.walk(_event.principal_id == person, *question.conditions(without="person", steer=True))
    return [*question.with_words("principal_username", words, without="person"), by_id]


def _of_text(question: Question) -> list[Select[Any]]:
    text = question.which.text or ""
    walks = [
        walk
        for name in TERM_FIELDS
        for walk in question.with_words(name, question.words_with(name, text), without="text")
    ]
    # Both engines look into the index of each of these columns, and find next to nothing.
    whole_id = or_(*(_event[name] == text for name in (*_EXACT_FIELDS, "id")))
    return [*walks, question.walk(whole_id, *question.conditions(without="text", steer=True))]


def _of_network(question: Question) -> list[Select[Any]]:
    network = question.which.source
    assert network is not None  # noqa: S101 - what leads is set
    return question.with_words("source_address", _within(network), without="source")


def _of_bucket(question: Question) -> list[Select[Any]]:
    named = audit_bucket.c
    walk = (
        select(named.time.label("time"), named.event_id.label("id"))
        .select_from(audit_bucket.join(audit_event, and_(_event.id == named.event_id)))
        .where(named.bucket == question.which.bucket, *question.conditions(without="bucket", steer=True))
        .order_by(named.time.desc(), named.event_id.desc())
        .limit(question.wanted)
    )
    if (since := question.which.since) is not None:
        walk = walk.where(named.time >= since)
    if (until := question.which.until) is not None:
        walk = walk.where(named.time < until)
    if (cursor := question.older_than) is not None:
        place = tuple_(literal(cursor.time, UtcTime), literal(cursor.id, ExactText))
        walk = walk.where(tuple_(named.time, named.event_id) < place)
    return [walk]


def _of_outcome(question: Question) -> list[Select[Any]]:
    others = question.conditions(without="outcome")
    kinds = question.which.outcome.kinds if question.which.outcome else ()
    return [question.walk(_event.kind == written_out(kind), *others) for kind in kinds]


_LEADERS: Final[Mapping[str, Callable[[Question], list[Select[Any]]]]] = {
    "person": _of_person,
    "text": _of_text,
    "source": _of_network,
    "bucket": _of_bucket,
    "outcome": _of_outcome,
}
"""The parts that can lead, the one that leaves fewest events first."""


def counts(connection: Connection, which: AuditFilter, spans: Sequence[TimeSpan], cap: int) -> Select[Any]:
    """The statement for how many events of each span fit, in the order of the spans; ``cap`` + 1 says "more"."""
    question = Question(connection, which, wanted=cap + 1)
    numbered = [
        select(literal(number).label("number"), question.count(span).scalar_subquery().label("events"))
        for number, span in enumerate(spans)
    ]
    each = union_all(*numbered).subquery()
    return select(each.c.events).order_by(each.c.number)


def written_out(kind: EventKind) -> ColumnElement[str]:
    """The kind as a literal: with a parameter, neither engine could know that a partial index fits."""
    return bindparam(None, kind.value, type_=ExactText, literal_execute=True)


def _column(name: str, *, steer: bool) -> ColumnElement[Any]:
    return _event[name].concat("") if steer else _event[name]


def _is_single(network: Network) -> bool:
    return network.num_addresses == 1


def _within(network: Network) -> Select[Any]:
    first, last = network_keys(network)
    known = audit_term.c
    # The folded form of an address is its number, in digits of one length.
    return select(known.value).where(known.field == "source_address", known.folded.between(first, last))
