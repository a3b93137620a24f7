"""Questions to the audit log, each answered by a bounded walk backwards along an index.

Whatever a question combines, there are a few ways through the log (:class:`_Way`): along the index of one of its parts,
or of two of them, while the other parts are conditions on each event that the walk meets. Where a way fulfils all of
the question, every event on it is one of the page. Any other could go on through the whole log for a page that never
fills; it ends after so many events, and says how far it came. Of several ways, the one is taken that comes furthest.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    bindparam,
    case,
    cast,
    column,
    exists,
    extract,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.base import ColumnCollection, ReadOnlyColumnCollection

from broker.adapters.database.column_types import ExactText, UtcTime
from broker.adapters.database.tables import audit_bucket, audit_event, audit_term, open_grant
from broker.core.audit import EventKind
from broker.core.audit_search import (
    LONG_WORDS,
    SEARCHED_OF_LONG_WORDS,
    AuditCursor,
    AuditFilter,
    EventCount,
    Network,
    Outcome,
    Sample,
    TimeSpan,
    counted,
    network_keys,
)

# A part of a word that fits so many words, or fewer, is a way of its own: along the events of each of them.
_MOST_MERGED: Final = 1000

# Where only some of the events on such a way fit, each of its words has to get at least so many looks.
_FEWEST_OF_EACH: Final = 10

# So many words, or fewer, are written into the statement, each with its own walk.
_MOST_LISTED: Final = 16

# A span is counted in so many parts, or in fewer where several words are; in each part, up to so many events.
_MOST_PARTS: Final = 4
_FEWEST_COUNTED: Final = 4

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

TERM_FIELDS: Final = ("principal_username", "entitlement", "account", "role", "source_address", "reason", "user_agent")
"""The columns whose distinct values are kept in ``audit_term``: a search for a part of a word reads those."""

# Equality with one of these leaves so few events that no way is needed.
_EXACT_FIELDS: Final = ("access_key_id", "assertion_id", "reference_id", "grant_id")

# A search for any word finds these by the whole of them.
_WHOLE_FIELDS: Final = (*_EXACT_FIELDS, "sts_request_id", "revocation_id", "principal_id", "session_name", "id")

# Every event has one, and they are long: an index over it would cost more than it is worth.
_NOT_WALKED: Final = "user_agent"

# Columns that an index begins with, before the order of the page; of two that go together, before each alone.
_INDEXES: Final = (
    ("principal_username", "entitlement"),
    ("principal_username", "kind"),
    ("entitlement", "kind"),
    ("principal_username",),
    ("principal_id",),
    ("session_name",),
    ("source_address",),
    ("entitlement",),
    ("account",),
    ("kind",),
)

# The columns that a question names one value of.
_EQUAL: Final = ("kind", "entitlement", "account", "session_name", "principal_id")

# The parts of a question that say when.
_BOUNDS: Final = frozenset({"since", "until", "ends_after"})

_event: Final = audit_event.c
_KEY: Final = (_event.time, _event.id)

# Before every event.
_NOWHERE: Final = (datetime.min.replace(tzinfo=UTC), "")

Condition = ColumnElement[bool]
Columns = ReadOnlyColumnCollection[str, ColumnElement[Any]] | ColumnCollection[str, ColumnElement[Any]]
"""The columns of ``audit_event``, of an alias of it, or of a query that has them all."""


@dataclass(frozen=True, slots=True)
class _Way:
    """A way through the log, newest event first.

    Attributes:
        fulfils: the parts of the question that hold for all events on it.
        equal: columns and the values that they have.
        among: columns and some values: the events that have one of them. Empty, unless ``equal`` is.
        bucket: named by the session policy.
    """

    fulfils: frozenset[str] = frozenset()
    equal: Mapping[str, str] = field(default_factory=dict)
    among: Mapping[str, Sequence[str]] = field(default_factory=dict)
    bucket: str | None = None

    @property
    def branches(self) -> int:
        """How many walks it is made of."""
        return max(1, sum(map(len, self.among.values())))

    def each_branch(self) -> list[Mapping[str, str]]:
        """The columns and values of each of them."""
        several = [{name: value, **self.equal} for name, values in self.among.items() for value in values]
        return [*several] or [self.equal]


@dataclass(frozen=True, slots=True)
class Found:
    """What a question found.

    Attributes:
        rows: newest first.
        looked_back_to: the last event that was looked at, where the walk ended before its page was full.
    """

    rows: Sequence[Row[Any]]
    looked_back_to: AuditCursor | None = None


@dataclass(frozen=True)
class Question:
    """A question, and the connection that it is put to.

    Attributes:
        wanted: at most so many rows.
        look_through: at most so many events are looked at.
        older_than: where the page begins.
    """

    connection: Connection
    which: AuditFilter
    wanted: int
    look_through: int
    older_than: AuditCursor | None = None

    def answer(self, columns: Sequence[ColumnElement[Any]]) -> Found:
        """The newest events that fit.

        Args:
            columns: of ``audit_event``.
        """
        if self._nothing_fits:
            return Found(())
        if self.which.ends_after is not None:
            return Found(self._rows(self._still_running(columns)))
        if self.which.outcome is Outcome.UNKNOWN:
            return Found(
                self._rows(self._events([select(self._without_outcome.c.time, self._without_outcome.c.id)], columns))
            )
        if self.asks_for_an_id:
            found = select(*columns).where(*self._bounds(_event), *self._conditions(_event))
            return Found(self._rows(_newest(found, _event, self.wanted)))
        ways = self._ways()
        for way in ways:
            if self._parts <= way.fulfils:
                return Found(self._rows(self._page_of_all(way, columns)))
        [way, floor] = self._furthest(ways)
        rows = self._rows(self._page(way, columns, floor))
        return Found(rows, None if len(rows) == self.wanted else floor)

    def counts(self, spans: Sequence[TimeSpan]) -> Sequence[EventCount]:
        """How many events of each span fit, by what the newest of each span, or of some parts of it, say of all."""
        if self._nothing_fits:
            return [EventCount(span, 0) for span in spans]
        if self.which.outcome is Outcome.UNKNOWN or self.asks_for_an_id:
            keys = self._without_outcome if self.which.outcome is Outcome.UNKNOWN else None
            few = select(_event.time).where(*self._conditions(_event)) if keys is None else select(keys.c.time)
            found = self.connection.execute(few).scalars().all()
            return [EventCount(span, sum(span.since <= time < span.until for time in found)) for span in spans]
        ways = [way for way in self._ways(with_time=True) if way.branches <= _MOST_LISTED]
        whole = [way for way in ways if self._parts <= way.fulfils]
        if whole and whole[0].branches == 1 and (numbers := self._counted(whole[0], spans)) is not None:
            return numbers
        way = whole[0] if whole else self._furthest(ways)[0]
        parts = [part for span in spans for part in span.split(max(1, _MOST_PARTS // way.branches))]
        most = max(_FEWEST_COUNTED, self.look_through // (len(parts) * way.branches))
        samples = [list[Sample]() for _ in spans]
        for number, sums in self.connection.execute(union_all(*self._sampling(way, parts, most))):
            samples[number * len(spans) // len(parts)].append(_sample(parts[number], sums, most))
        return [counted(span, some) for span, some in zip(spans, samples, strict=True)]

    @property
    def asks_for_an_id(self) -> bool:
        """Whether so few events fit that no way is needed."""
        return any(getattr(self.which, name) is not None for name in _EXACT_FIELDS)

    # --- What the question is made of -------------------------------------------------------------------------------

    @cached_property
    def _parts(self) -> frozenset[str]:
        given = {one.name for one in fields(self.which) if getattr(self.which, one.name) is not None}
        return frozenset(given - _BOUNDS)

    @cached_property
    def _values(self) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """For the parts that several values fulfil: the values, by their columns; none of a column with too many."""
        which, found = self.which, dict[str, Mapping[str, Sequence[str]]]()
        if which.person is not None:
            found["person"] = {
                "principal_username": self._words("principal_username", which.person),
                **self._known(which.person, "principal_id"),
            }
        if which.username is not None:
            found["username"] = {
                "principal_username": self._scalars(_spellings(which.username).limit(_MOST_MERGED)),
            }
        if which.source is not None:
            # IPv4 clients of a socket that takes both families are recorded as what they are, and not as IPv6.
            first = getattr(which.source[0], "ipv4_mapped", None) or which.source[0]
            addresses = [str(first)] if which.source.num_addresses == 1 else self._addresses(which.source)
            found["source"] = {"source_address": addresses}
        if which.text is not None:
            words = {name: self._words(name, which.text) for name in TERM_FIELDS}
            found["text"] = {**words, **self._known(which.text, *_WHOLE_FIELDS)}
        if which.outcome not in {None, Outcome.UNKNOWN} and which.kind is None:
            found["outcome"] = {"kind": [kind.value for kind in which.outcome.kinds]}
        return {part: {name: some for name, some in values.items() if some} for part, values in found.items()}

    @property
    def _nothing_fits(self) -> bool:
        which = self.which
        if which.kind is not None and which.outcome is not None and which.kind not in which.outcome.kinds:
            return True
        return not all(self._values.values())

    def _words(self, name: str, part: str) -> Sequence[str]:
        return self._scalars(self._words_with(name, part).limit(_MOST_MERGED + 1))

    def _addresses(self, network: Network) -> Sequence[str]:
        return self._scalars(_within(network).limit(_MOST_MERGED + 1))

    def _known(self, value: str, *names: str) -> dict[str, Sequence[str]]:
        """Those of the columns in which an event has that very value."""
        asked = [exists().where(_event[name] == value).select_from(audit_event).label(name) for name in names]
        row = self.connection.execute(select(*asked)).one()
        return {name: [value] for name in names if getattr(row, name)}

    def _words_with(self, name: str, part: str) -> Select[Any]:
        """The kept words of a column that hold that part, in any case."""
        # Not LIKE: nothing in a name is special here, and there is no longest pattern.
        position = func.strpos if self.is_postgresql else func.instr
        # The folded form of an address is a number; people type it as it is written.
        word = audit_term.c.value if name == "source_address" else audit_term.c.folded
        holds = position(word, literal(part.casefold(), ExactText)) > 0
        return select(audit_term.c.value).where(audit_term.c.field == name, holds)

    def _conditions(self, of: Columns, fulfilled: Collection[str] = ()) -> list[Condition]:
        """What an event has to fulfil, whenever it was.

        Args:
            of: the event's columns.
            fulfilled: the parts that are.
        """
        return [self._condition(part, of) for part in sorted(self._parts.difference(fulfilled))]

    def _condition(self, part: str, of: Columns) -> Condition:
        which = self.which
        if part == "kind" and which.kind is not None:
            return of.kind == written_out(which.kind)
        if which.outcome is Outcome.UNKNOWN and part == "outcome":
            return of.id.in_(select(open_grant.c.intent_id))
        if part == "outcome" and which.outcome is not None:
            return or_(*(of.kind == written_out(kind) for kind in which.outcome.kinds))
        if part == "bucket":
            here = (audit_bucket.c.time == of.time, audit_bucket.c.event_id == of.id)
            return exists().where(audit_bucket.c.bucket == which.bucket, *here)
        if part in self._values:
            return or_(*(self._is_among(part, name, values, of) for name, values in self._values[part].items()))
        condition: Condition = of[part] == getattr(which, part)
        return condition

    def _is_among(self, part: str, name: str, values: Sequence[str], of: Columns) -> Condition:
        if len(values) == 1:
            return searched(name, of) == values[0]
        if len(values) <= _MOST_MERGED:
            return searched(name, of).in_(self._table_of(values))
        network = self.which.source if part == "source" else None
        words = _within(network) if network else self._words_with(name, getattr(self.which, part))
        # Not the bare column, or SQLite gathers all events of all these words from its index and sorts them.
        return searched(name, of).concat("").in_(words)

    def _bounds(self, of: Columns) -> list[Condition]:
        """When an event has to be. What has no ``expiry`` is not asked for one."""
        which, found = self.which, list[Condition]()
        if which.since is not None:
            found.append(of.time >= literal(which.since, UtcTime))
        if which.until is not None:
            found.append(of.time < literal(which.until, UtcTime))
        if self.older_than is not None:
            found.append(tuple_(of.time, of.id) < _place(self.older_than))
        return found

    # --- Ways -------------------------------------------------------------------------------------------------------

    def _ways(self, *, with_time: bool = False) -> list[_Way]:
        """Every way that the question allows, those that fulfil more of it first.

        Args:
            with_time: also along all events, where there is a better one.
        """
        single = {name: (name, value) for name in _EQUAL if (value := getattr(self.which, name)) is not None}
        several = {}
        for part, values in self._values.items():
            if _NOT_WALKED in values:
                continue
            if sum(map(len, values.values())) == 1:
                [(name, [value])] = values.items()
                single.setdefault(name, (part, value))
            elif all(len(some) <= _MOST_MERGED for some in values.values()):
                several[part] = values
        ways: list[_Way] = []
        for names in _INDEXES:
            if all(name in single for name in names) and not any({*names} <= {*way.equal} for way in ways):
                ways.append(
                    _Way(frozenset(single[name][0] for name in names), {name: single[name][1] for name in names})
                )
        for part, values in several.items():
            ways += self._along_several(part, values, single)
        if self.which.bucket is not None:
            ways.append(_Way(frozenset({"bucket"}), bucket=self.which.bucket))
        if with_time or not any(way.equal for way in ways):
            ways.append(_Way())
        return ways

    def _along_several(
        self, part: str, values: Mapping[str, Sequence[str]], single: Mapping[str, tuple[str, str]]
    ) -> Iterator[_Way]:
        """The ways along the events with one of those values, together with another column where an index has both."""
        if len(values) == 1:
            [name] = values
            for other, (other_part, value) in single.items():
                if (name, other) in _INDEXES or (other, name) in _INDEXES:
                    yield _Way(frozenset({part, other_part}), {other: value}, values)
        yield _Way(frozenset({part}), {}, values)

    def _furthest(self, ways: Sequence[_Way]) -> tuple[_Way, AuditCursor | None]:
        """The way that comes furthest, and where it ends; None where it comes to the end of the log."""
        ways = [way for way in ways if way.branches <= self.look_through // _FEWEST_OF_EACH] or ways
        floors = dict.fromkeys(range(len(ways)), _NOWHERE)
        ends = [end for number, way in enumerate(ways) for end in self._ends(number, way)]
        for number, time, id_ in self.connection.execute(union_all(*ends)):
            floors[number] = max(floors[number], (time, id_))
        best = min(floors, key=lambda number: floors[number])
        return ways[best], None if floors[best] == _NOWHERE else AuditCursor(*floors[best])

    def _each(self, way: _Way) -> int:
        """How many events of each branch are looked at."""
        return max(1, self.look_through // way.branches)

    def _ends(self, number: int, way: _Way) -> Iterator[Select[Any]]:
        """The last events of the branches of that way; none of a branch that is shorter than its share."""
        last = self._each(way) - 1
        for walk in self._walks(way, _KEY, limit=1, offset=last):
            found = select(walk.c.time, walk.c.id).order_by(walk.c.time.desc(), walk.c.id.desc()).limit(_number(1))
            end = found.subquery()
            yield select(literal(number), end.c.time, end.c.id)

    def _page(self, way: _Way, columns: Sequence[ColumnElement[Any]], floor: AuditCursor | None) -> Select[Any]:
        """What fits of the events that a way looks at."""
        walks = [*self._walks(way, tuple(_event), limit=self._each(way))]
        if not way.among:
            [walk] = walks
            found = select(*(walk.c[one.name] for one in columns)).where(*self._conditions(walk.c, way.fulfils))
            return _newest(found, walk.c, self.wanted)
        # Every branch has been looked at as far as there, and none further than it may.
        since = [] if floor is None else [floor]
        fitting = [
            select(walk.c.time, walk.c.id).where(
                *(tuple_(walk.c.time, walk.c.id) >= _place(one) for one in since),
                *self._conditions(walk.c, way.fulfils),
            )
            for walk in walks
        ]
        return self._events(fitting, columns)

    def _page_of_all(self, way: _Way, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """The page of a way whose events all fit."""
        if way.among:
            each = (self._newest_of_each(way, name, values) for name, values in way.among.items())
            return self._events([select(walk.c.time, walk.c.id) for walk in each], columns)
        [walk] = self._walks(way, columns, limit=self.wanted)
        found = select(*(walk.c[one.name] for one in columns))
        return _newest(found, walk.c, self.wanted)

    def _events(self, keys: Sequence[Select[Any]], columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """The newest events with those keys."""
        found = union(*keys).subquery()
        page = _newest(select(found.c.id), found.c, self.wanted)
        return _newest(select(*columns).where(_event.id.in_(page)), _event, self.wanted)

    def _walks(
        self, way: _Way, columns: Sequence[ColumnElement[Any]], *, limit: int, offset: int = 0
    ) -> Iterator[FromClause]:
        """The newest events of each branch, in order where there is one branch.

        Args:
            way: the way.
            columns: of ``audit_event``, among them the time and the id.
            limit: of each branch.
            offset: of each branch.
        """
        if way.bucket is not None:
            named = audit_bucket.c
            places = select(named.time, named.event_id.label("id")).where(named.bucket == way.bucket)
            bounded = places.where(*self._bounds(places.selected_columns))
            place = _newest(bounded, places.selected_columns, limit, offset).subquery()
            here = and_(_event.id == place.c.id, _event.time == place.c.time)
            yield place if columns is _KEY else select(*columns).join_from(place, audit_event, here).subquery()
            return
        if not way.among:
            yield self._along(way.equal, columns, limit=limit, offset=offset).subquery()
            return
        for name, values in way.among.items():
            if len(values) <= _MOST_LISTED:
                one_by_one = ({name: value, **way.equal} for value in values)
                each = [self._along(one, columns, limit=limit, offset=offset).subquery() for one in one_by_one]
                yield union_all(*map(select, each)).subquery()
            else:
                yield self._of_each(self._table_of(values), name, way.equal, columns, limit=limit, offset=offset)

    def _along(
        self, named: Mapping[str, Any], columns: Sequence[ColumnElement[Any]], *, limit: int, offset: int = 0
    ) -> Select[Any]:
        """The newest events on an index that begins with those columns.

        Args:
            named: the columns that have one value, and the value.
            columns: of ``audit_event``.
            limit: of the events.
            offset: of the events.
        """
        found = select(*columns).where(*_have(named), *self._bounds(_event))
        return _newest(found, _event, limit, offset)

    def _of_each(
        self,
        words: Select[Any],
        name: str,
        equal: Mapping[str, str],
        columns: Sequence[ColumnElement[Any]],
        *,
        limit: int,
        offset: int = 0,
    ) -> FromClause:
        """The newest events with each of those words in a column: for words of which a statement would grow long."""
        known = words.subquery()

        def of_word(wanted: Sequence[ColumnElement[Any]]) -> Select[Any]:
            named = {name: known.c.value, **equal}
            return self._along(named, wanted, limit=limit, offset=offset).correlate(known)

        if self.is_postgresql:
            each = of_word(columns).lateral()
            return select(*each.c).select_from(known.join(each, true())).subquery()
        # SQLite has no LATERAL, but evaluates a correlated IN once for each word.
        found = audit_event.alias()
        there = known.join(found, found.c.id.in_(of_word([_event.id])))
        return select(*(found.c[one.name] for one in columns)).select_from(there).subquery()

    def _newest_of_each(self, way: _Way, name: str, values: Sequence[str]) -> FromClause:
        """Events with those words in a column, in no order, among them the newest of all.

        With ``column IN (…)`` the engines would read all events of all the words and sort. This looks up the last event
        of each word, and then reads the newest events only of those that were last seen last: as many words as the page
        has rows, since each of them has at least one event that comes before all events of every other.
        """
        if len(values) <= _MOST_LISTED:
            [walk] = self._walks(replace(way, among={name: values}), _KEY, limit=self.wanted)
            return walk
        last = self._of_each(
            self._table_of(values), name, way.equal, [*_KEY, searched(name, _event).label(name)], limit=1
        )
        recent = _newest(select(last.c[name].label("value")), last.c, self.wanted)
        return self._of_each(recent, name, way.equal, _KEY, limit=self.wanted)

    def _still_running(self, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """The newest of the sessions that run: all of those are read, which are few beside the log."""
        runs = (_event.kind == written_out(EventKind.ISSUANCE_SUCCEEDED), _event.expiry > self.which.ends_after)
        found = select(*_KEY).where(*runs, *self._bounds(_event))
        # SQLite knows no frequencies, and would follow the index of the kind.
        found = found.with_hint(audit_event, "INDEXED BY ix_audit_event_running", "sqlite")
        # Materialized: or PostgreSQL walks along the time, in the hope to meet a page of them soon.
        running = found.cte("running").prefix_with("MATERIALIZED")
        fitting = select(running.c.time, running.c.id)
        if others := self._conditions(_event, {"kind"}):
            fitting = fitting.join(audit_event, _event.id == running.c.id).where(*others)
        return self._events([_newest(fitting, running.c, self.wanted)], columns)

    @cached_property
    def _without_outcome(self) -> FromClause:
        """The keys of all intents without an outcome that fit: of those there are few."""
        intents = select(*_KEY).join_from(open_grant, audit_event, _event.id == open_grant.c.intent_id)
        fitting = intents.where(*self._bounds(_event), *self._conditions(_event, {"outcome"}))
        # Materialized: or PostgreSQL walks along the time until it has met a page of them.
        return fitting.cte("without_outcome").prefix_with("MATERIALIZED")

    # --- Counting ---------------------------------------------------------------------------------------------------

    def times_along(self, way: _Way) -> Sequence[datetime] | None:
        """When the events on a way of one branch were, oldest first; None where they are more than may be looked at."""
        [walk] = self._walks(way, _KEY, limit=self.look_through)
        # Asked first: to bring a thousand times here takes longer than to find that there are too many.
        if self.connection.scalar(select(func.count()).select_from(walk)) == self.look_through:
            return None
        return sorted(self.connection.execute(select(walk.c.time)).scalars())

    def _counted(self, way: _Way, spans: Sequence[TimeSpan]) -> Sequence[EventCount] | None:
        """The events on that way in each span; None where they are more, in all spans, than may be looked at.

        What happens comes in bursts: of a few events, those of one part of a span say little about the rest of it.
        """
        since, until = min(span.since for span in spans), max(span.until for span in spans)
        within = replace(self, which=replace(self.which, since=since, until=until))
        times = within.times_along(way)
        if times is None:
            return None
        return [EventCount(span, bisect_left(times, span.until) - bisect_left(times, span.since)) for span in spans]

    def _sampling(self, way: _Way, spans: Sequence[TimeSpan], most: int) -> Iterator[Select[Any]]:
        """For each span its number, and how many events were looked at, since when, and how many of them fit."""
        when = self._table_of_spans(spans)
        others = self._conditions(_event, way.fulfils)
        fits = case((and_(*others), 1), else_=0) if others else literal_column("1")
        for named in way.each_branch():
            if way.bucket is not None:
                time = audit_bucket.c.time
                events = select(time.label("time"), fits.label("fits")).where(audit_bucket.c.bucket == way.bucket)
                if others:
                    here = _event.id == audit_bucket.c.event_id
                    events = events.select_from(audit_bucket.join(audit_event, here))
            else:
                time = _event.time
                events = select(time, fits.label("fits")).where(*_have(named))
            inside = events.where(time >= when.c.since, time < when.c.until).order_by(time.desc())
            looked_at = inside.limit(_number(most)).correlate(when).subquery()
            sums = (func.count(), self._microseconds(func.min(looked_at.c.time)), func.sum(looked_at.c.fits))
            as_list = func.json_build_array if self.is_postgresql else func.json_array
            summed = select(as_list(*sums)).select_from(looked_at).correlate(when).scalar_subquery()
            yield select(when.c.number, summed.label("sums")).select_from(when)

    def _table_of_spans(self, spans: Sequence[TimeSpan]) -> FromClause:
        """The spans as a table with their number, from 0, beginning and end."""
        if self.is_postgresql:
            edges = [
                bindparam(None, [getattr(one, edge) for one in spans], type_=ARRAY(UtcTime))
                for edge in ("since", "until")
            ]
            table = func.unnest(*edges).table_valued(
                column("since", UtcTime), column("until", UtcTime), with_ordinality="position", name="listed"
            )
            listed = table.render_derived()
            return select((listed.c.position - 1).label("number"), listed.c.since, listed.c.until).subquery()
        moments = [
            [UtcTime().process_bind_param(edge, self.connection.dialect) for edge in (one.since, one.until)]
            for one in spans
        ]
        each = func.json_each(json.dumps(moments)).table_valued("key", "value")
        since, until = (func.json_extract(each.c.value, place) for place in ("$[0]", "$[1]"))
        return select(each.c.key.label("number"), since.label("since"), until.label("until")).subquery()

    def _microseconds(self, moment: ColumnElement[Any]) -> ColumnElement[Any]:
        return cast(extract("epoch", moment) * 1_000_000, BigInteger) if self.is_postgresql else moment

    # --- Statements -------------------------------------------------------------------------------------------------

    @property
    def is_postgresql(self) -> bool:
        """Which engine it is; SQLite otherwise."""
        return self.connection.dialect.name == "postgresql"

    def _rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        return self.connection.execute(statement).all()

    def _scalars(self, statement: Select[Any]) -> Sequence[str]:
        return self.connection.execute(statement).scalars().all()

    def _table_of(self, words: Sequence[str]) -> Select[Any]:
        """The words as a table with the column ``value``: one parameter, however many they are."""
        if self.is_postgresql:
            several = bindparam(None, list(words), type_=ARRAY(ExactText))
            return select(func.unnest(several, type_=ExactText).label("value"))
        stored = [ExactText().process_bind_param(word, self.connection.dialect) for word in words]
        return select(func.json_each(json.dumps(stored)).table_valued(column("value", ExactText)).c.value)


def _sample(span: TimeSpan, sums: Any, most: int) -> Sample:
    looked_at, since, fitting = json.loads(sums) if isinstance(sums, str) else sums
    return Sample(span, looked_at, fitting or 0, _EPOCH + timedelta(microseconds=since) if looked_at == most else None)


def searched(name: str, of: Columns) -> ColumnElement[Any]:
    """What an index, or the table of words, holds of a column: of what may be longer than they take, the beginning."""
    if name not in LONG_WORDS:
        return of[name]
    return func.substr(of[name], _number(1), _number(SEARCHED_OF_LONG_WORDS), type_=ExactText)


def _have(named: Mapping[str, Any]) -> Iterator[Condition]:
    """That those columns have those values, so that the index of the columns is seen to fit."""
    for name, value in named.items():
        yield searched(name, _event) == value
        if name == "reason":
            # The index leaves out what has none; SQLite does not see that from an expression.
            yield _event.reason.is_not(None)


def written_out(kind: EventKind) -> ColumnElement[str]:
    """The kind as a literal: with a parameter, neither engine could know that a partial index fits."""
    return bindparam(None, kind.value, type_=ExactText, literal_execute=True)


def _newest(statement: Select[Any], of: Columns, limit: int, offset: int = 0) -> Select[Any]:
    ordered = statement.order_by(of.time.desc(), of.id.desc()).limit(_number(limit))
    return ordered.offset(_number(offset)) if offset else ordered


def _number(limit: int) -> ColumnElement[Any]:
    """Written out: PostgreSQL plans for so many rows, and takes a tenth of all for a limit that it cannot see."""
    return literal_column(str(limit))


def _place(cursor: AuditCursor) -> Any:
    return tuple_(literal(cursor.time, UtcTime), literal(cursor.id, ExactText))


def _spellings(username: str) -> Select[Any]:
    known = audit_term.c
    return select(known.value).where(known.field == "principal_username", known.folded == username.casefold())


def _within(network: Network) -> Select[Any]:
    first, last = network_keys(network)
    known = audit_term.c
    # The folded form of an address is its number, in digits of one length.
    return select(known.value).where(known.field == "source_address", known.folded.between(first, last))
