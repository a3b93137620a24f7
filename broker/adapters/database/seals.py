"""The hash chain in the database: seal what waits, and read it all for a verification or an export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from broker.adapters.database.column_types import ExactText
from broker.adapters.database.engine import Database, is_unreadable
from broker.adapters.database.privileges import audit_dangers
from broker.adapters.database.tables import audit_archive, audit_checkpoint, audit_event, audit_seal, seal_queue
from broker.core.audit import AuditEvent, event_record
from broker.core.errors import AuditUnavailable
from broker.core.seals import (
    BEGINNING,
    Anchor,
    ChainPoint,
    Checkpoint,
    Seal,
    SealedEvent,
    Sign,
    UnsealedEvent,
    continue_chain,
)

# Any number, the same in every version: PostgreSQL's advisory lock "somebody is sealing".
_LOCK: Final = 0x5345414C4552
# A sealer that stops in the middle (its machine was suspended) must not hold the lock for ever.
_LONGEST_PAUSE: Final = "30s"
# Rows read at once: an event with its policies is a few kB.
_ROWS: Final = 1_000
# What stands for the fields of a checkpoint that nobody can read; nothing has such a key.
_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_KEY: Final = "(it cannot be read)"

_SEAL: Final = audit_seal.c
_CHECKPOINT: Final = audit_checkpoint.c
_ARCHIVE: Final = audit_archive.c
_EVENT: Final = audit_event.c
_QUEUE: Final = seal_queue.c
# An event whose time nobody can read (PostgreSQL knows ``infinity``, SQLite takes any word) is not the broker's, and
# must not keep all others from their seal; a verification says that it is there.
_QUEUED: Final = _QUEUE.time.between(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_RECORD: Final = tuple(field.name for field in fields(AuditEvent))
_APPEND_ALL: Final = text(
    "INSERT INTO audit_seal (position, event_id, event_hash, chain_hash)"
    " SELECT * FROM unnest(:positions, :events, :hashes, :chain)"
).bindparams(
    bindparam("positions", type_=ARRAY(BigInteger)),
    *(bindparam(name, type_=ARRAY(ExactText)) for name in ("events", "hashes", "chain")),
)


class SqlSeals:
    """The Seals port on SQLite or PostgreSQL, and what verification reads."""

    def __init__(self, database: Database) -> None:
        """Use that database; a sealer has one of its own, with one connection, so that no request waits for it."""
        self._database = database

    def seal(self, sign: Sign, *, limit: int) -> int:
        """Seal the oldest events that wait, in one transaction with a checkpoint on them.

        Raises:
            AuditUnavailable: no answer, or the newest seal and checkpoint do not fit.
        """
        # Without a lock: most rounds find nothing to do, and on SQLite would hold up a writer for that.
        if self.oldest_waiting() is None:
            return 0
        with self._database.transaction(AuditUnavailable) as connection:
            _one_sealer(connection)
            rows = connection.execute(
                select(_QUEUE.time, _QUEUE.id, _EVENT.hash)
                .join(audit_event, _EVENT.id == _QUEUE.id)
                .where(_QUEUED)
                .order_by(_QUEUE.time, _QUEUE.id)
                .limit(limit)
            ).all()
            if not rows:
                return 0
            seals = continue_chain(
                _newest_seal(connection),
                _newest_signed(connection),
                [(row.id, row.hash) for row in rows],
            )
            _append(connection, seals)
            sealed_now = select(_SEAL.event_id).where(_SEAL.position >= seals[0].point.position)
            connection.execute(
                delete(seal_queue).where(_QUEUE.time <= rows[-1].time, _QUEUE.id.in_(sealed_now)),
            )
            checkpoint = sign(seals[-1].point)
            connection.execute(
                insert(audit_checkpoint),
                {
                    "position": checkpoint.position,
                    "chain_hash": checkpoint.chain_hash,
                    "time": checkpoint.time,
                    "key_id": checkpoint.key_id,
                    "signature": checkpoint.signature,
                },
            )
        return len(seals)

    def newest_checkpoint(self) -> Checkpoint | None:
        """The newest; None before the first event was sealed.

        Raises:
            AuditUnavailable: no answer.
        """
        with self._database.reading(AuditUnavailable) as connection:
            row = connection.execute(
                select(audit_checkpoint).order_by(_CHECKPOINT.position.desc()).limit(1)
            ).one_or_none()
        return None if row is None else _checkpoint(row)

    def point(self, position: int) -> ChainPoint | None:
        """The chain at a position; None where there is no seal.

        Raises:
            AuditUnavailable: no answer.
        """
        with self._database.reading(AuditUnavailable) as connection:
            chain_hash = connection.scalar(select(_SEAL.chain_hash).where(_SEAL.position == position))
        return None if chain_hash is None else _point(position, chain_hash)

    def oldest_waiting(self) -> datetime | None:
        """The time of the oldest event that waits to be sealed; None when none does.

        Raises:
            AuditUnavailable: no answer.
        """
        with self._database.reading(AuditUnavailable) as connection:
            return connection.scalar(select(_QUEUE.time).where(_QUEUED).order_by(_QUEUE.time, _QUEUE.id).limit(1))

    def anchors(self) -> tuple[Anchor, ...]:
        """What stays of the events that were archived, in their order.

        Raises:
            AuditUnavailable: no answer.
        """
        with self._database.reading(AuditUnavailable) as connection:
            rows = connection.execute(select(audit_archive).order_by(_ARCHIVE.position)).all()
        return tuple(map(_anchor, rows))

    def newest_archived(self) -> Anchor | None:
        """The record of the newest archive; None when nothing was archived.

        Raises:
            AuditUnavailable: no answer.
        """
        with self._database.reading(AuditUnavailable) as connection:
            row = connection.execute(select(audit_archive).order_by(_ARCHIVE.position.desc()).limit(1)).one_or_none()
        return None if row is None else _anchor(row)

    def beginning(self) -> ChainPoint:
        """The point before the first event that is in the database: the beginning, unless there are archives.

        Until the last removed row is gone that is before the newest archive's end.

        Raises:
            AuditUnavailable: no answer.
        """
        archived = self.newest_archived()
        if archived is None:
            return BEGINNING
        lowest = select(_SEAL.position, _SEAL.chain_hash, _EVENT.id).join_from(
            audit_seal, audit_event, _EVENT.id == _SEAL.event_id, isouter=True
        )
        with self._database.reading(AuditUnavailable) as connection:
            row = connection.execute(lowest.order_by(_SEAL.position).limit(1)).one_or_none()
        if row is None or row.position > archived.last:
            return archived.checkpoint.point
        # A removal leaves the seal of the last event that it took. With its event still there, none has begun.
        return _point(row.position, row.chain_hash) if row.id is None else BEGINNING

    def length(self) -> int:
        """The highest position of a seal or checkpoint; 0 when there is none.

        A verification reads up to there: what is sealed meanwhile is for the next one.

        Raises:
            AuditUnavailable: no answer.
        """
        both = union_all(select(func.max(_SEAL.position)), select(func.max(_CHECKPOINT.position)))
        with self._database.reading(AuditUnavailable) as connection:
            return max((found for found in connection.scalars(both) if found is not None), default=0)

    def sealed_events(self, last: int, *, after: int = 0) -> Iterator[SealedEvent]:
        """Seals with their events, by position; nothing is held open between a thousand and the next.

        An event that cannot be read, since somebody wrote into its row what the broker never does, has its id alone.

        Args:
            last: the last position.
            after: the position before the first.

        Raises:
            AuditUnavailable: no answer.
        """
        # Named by their place: both tables have columns of one name.
        columns = [_SEAL.position, _SEAL.event_id, _SEAL.event_hash, _SEAL.chain_hash, _EVENT.id, _EVENT.hash]
        statement = select(*columns, *(_EVENT[name] for name in _RECORD)).join_from(
            audit_seal, audit_event, _EVENT.id == _SEAL.event_id, isouter=True
        )
        for at, row in self._by_position(statement, _SEAL.position, last, after):
            if row is None:
                yield self._unreadable(at)
                continue
            position, event_id, event_hash, chain_hash, found, stored, *values = tuple(row)
            record = None if found is None else event_record(dict(zip(_RECORD, values, strict=True)))
            yield SealedEvent(position, event_id, event_hash, chain_hash, record, stored)

    def checkpoints(self, last: int, *, after: int = 0) -> Iterator[Checkpoint]:
        """Checkpoints by position; one that cannot be read is of no key.

        Args:
            last: the last position.
            after: the position before the first.

        Raises:
            AuditUnavailable: no answer.
        """
        for at, row in self._by_position(select(audit_checkpoint), _CHECKPOINT.position, last, after):
            yield Checkpoint(at, "", _NO_TIME, _NO_KEY, b"") if row is None else _checkpoint(row)

    def unsealed(self, waiting_since: datetime, *, limit: int) -> Iterator[UnsealedEvent]:
        """Events without a seal that do not wait for one, or do since before that; and places without an event.

        Args:
            waiting_since: an event that is newer may wait.
            limit: the most of each of these.

        Raises:
            AuditUnavailable: no answer.
        """
        sealed = exists().where(_SEAL.event_id == _EVENT.id)
        queued = exists().where(_QUEUE.time == _EVENT.time, _QUEUE.id == _EVENT.id)
        present = exists().where(_EVENT.id == _QUEUE.id)
        events, queue = select(_EVENT.id, _EVENT.time), select(_QUEUE.id, _QUEUE.time)
        # Each is one statement, and so one moment: an event that is being sealed is either queued or sealed.
        questions: tuple[tuple[Select[Any], bool, bool], ...] = (
            (events.where(~sealed, ~queued).order_by(_EVENT.time, _EVENT.id), False, True),
            (
                queue.where(present, or_(_QUEUE.time < waiting_since, ~_QUEUED)).order_by(_QUEUE.time, _QUEUE.id),
                True,
                True,
            ),
            (queue.where(~present).order_by(_QUEUE.time, _QUEUE.id), True, False),
        )
        for statement, is_queued, is_present in questions:
            with self._database.reading(AuditUnavailable) as connection:
                rows = connection.execute(statement.limit(limit)).all()
            for row in rows:
                yield UnsealedEvent(row.id, row.time, is_queued, is_present)

    def positions_of(self, since: datetime | None, until: datetime | None) -> tuple[int, int] | None:
        """The first and the last position of the events of a time range; None when there is none.

        Args:
            since: inclusive; None for all.
            until: exclusive; None for all.

        Raises:
            AuditUnavailable: no answer.
        """
        statement = select(func.min(_SEAL.position), func.max(_SEAL.position))
        statement = statement.where(_SEAL.position > self.beginning().position)
        if since is not None or until is not None:
            statement = statement.join_from(audit_seal, audit_event, _EVENT.id == _SEAL.event_id)
        if since is not None:
            statement = statement.where(_EVENT.time >= since)
        if until is not None:
            statement = statement.where(_EVENT.time < until)
        with self._database.reading(AuditUnavailable) as connection:
            first, last = connection.execute(statement).one()
        return None if first is None else (first, last)

    def first_time(self, after: int) -> datetime | None:
        """The time of the first sealed event after that position; None when there is none.

        Raises:
            AuditUnavailable: no answer.
        """
        statement = select(_EVENT.time).join_from(audit_seal, audit_event, _EVENT.id == _SEAL.event_id)
        with self._database.reading(AuditUnavailable) as connection:
            return connection.scalar(statement.where(_SEAL.position > after).order_by(_SEAL.position).limit(1))

    def signed_position(self, position: int) -> int | None:
        """The position of the first checkpoint there or after it; None when there is none.

        Raises:
            AuditUnavailable: no answer.
        """
        statement = select(_CHECKPOINT.position).where(_CHECKPOINT.position >= position)
        with self._database.reading(AuditUnavailable) as connection:
            return connection.scalar(statement.order_by(_CHECKPOINT.position).limit(1))

    def dangers(self) -> tuple[str, ...]:
        """Why the user that we are could change or remove events, each beginning with its name; SQLite has no users.

        Raises:
            AuditUnavailable: no answer.
        """
        if self._database.path is not None:
            return ()
        with self._database.reading(AuditUnavailable) as connection:
            user = str(connection.scalar(text("SELECT current_user")))
            return tuple(f"{user} {danger}" for danger in audit_dangers(connection, user))

    def _by_position(
        self, statement: Select[Any], position: ColumnElement[int], last: int, after: int
    ) -> Iterator[tuple[int, Row[Any] | None]]:
        """Rows with their position; None for one that cannot be read."""
        while after < last:
            here = (position > after, position <= last)
            try:
                rows: list[tuple[int, Row[Any] | None]] = [
                    (row.position, row) for row in self._rows(statement.where(*here).order_by(position).limit(_ROWS))
                ]
            except AuditUnavailable as error:
                if not is_unreadable(error):
                    raise
                places = self._rows(select(position).where(*here).order_by(position).limit(_ROWS))
                rows = [(place, self._row(statement.where(position == place))) for (place,) in places]
            if not rows:
                return
            yield from rows
            after = rows[-1][0]

    def _unreadable(self, position: int) -> SealedEvent:
        columns = (_SEAL.event_id, _SEAL.event_hash, _SEAL.chain_hash)
        seal = self._row(select(*columns).where(_SEAL.position == position))
        if seal is None:
            return SealedEvent(position, _NO_KEY, "", "", {})
        return SealedEvent(position, seal.event_id, seal.event_hash, seal.chain_hash, {"id": seal.event_id})

    def _row(self, statement: Select[Any]) -> Row[Any] | None:
        """The only row; None where it cannot be read."""
        try:
            [row] = self._rows(statement)
        except AuditUnavailable as error:
            if not is_unreadable(error):
                raise
            return None
        return row

    def _rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with self._database.reading(AuditUnavailable) as connection:
            return connection.execute(statement).all()


def _one_sealer(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return  # the transaction began with BEGIN IMMEDIATE
    connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LONGEST_PAUSE}'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def _append(connection: Connection, seals: Sequence[Seal]) -> None:
    rows = [(seal.point.position, seal.event_id, seal.event_hash, seal.point.chain_hash) for seal in seals]
    if connection.dialect.name == "postgresql":
        # One statement for all: a fifth of the work of one for each, on both sides.
        positions, events, hashes, chain = map(list, zip(*rows, strict=True))
        connection.execute(_APPEND_ALL, {"positions": positions, "events": events, "hashes": hashes, "chain": chain})
        return
    connection.execute(insert(audit_seal), [dict(zip(_SEAL.keys(), row, strict=True)) for row in rows])


def _newest_seal(connection: Connection) -> ChainPoint:
    newest = select(_SEAL.position, _SEAL.chain_hash).order_by(_SEAL.position.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return BEGINNING if row is None else _point(row.position, row.chain_hash)


def _newest_signed(connection: Connection) -> ChainPoint:
    newest = select(_CHECKPOINT.position, _CHECKPOINT.chain_hash).order_by(_CHECKPOINT.position.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return BEGINNING if row is None else _point(row.position, row.chain_hash)


def _point(position: int, chain_hash: str) -> ChainPoint:
    try:
        return ChainPoint(position, chain_hash)
    except ValueError as error:
        raise AuditUnavailable(f"the chain at position {position} was changed: run `broker audit verify`") from error


def _checkpoint(row: Row[Any]) -> Checkpoint:
    return Checkpoint(row.position, row.chain_hash, row.time, row.key_id, row.signature)


def _anchor(row: Row[Any]) -> Anchor:
    return Anchor(
        first=row.first_position,
        checkpoint=_checkpoint(row),
        file=row.file,
        sha256=row.sha256,
        time=row.archived_at,
        key_id=row.archive_key_id or "",
        signature=row.archive_signature or b"",
    )
