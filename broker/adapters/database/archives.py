"""The log as archiving sees it: what may go, the anchors of what went, and the removal itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, delete, func, insert, or_, select, text, tuple_

from broker.adapters.database.privileges import may_remove_events
from broker.adapters.database.seals import SqlSeals
from broker.adapters.database.tables import (
    audit_archive,
    audit_bucket,
    audit_checkpoint,
    audit_event,
    audit_seal,
    open_grant,
)
from broker.core.archiving import Cut, Retained
from broker.core.audit import canonical_time
from broker.core.audit_search import buckets_of
from broker.core.errors import AuditUnavailable
from broker.core.seals import Anchor, ChainPoint, Checkpoint

# STS issues sessions of twelve hours at most; an hour for clocks and for what waits to be sealed.
_MAY_LIVE: Final = timedelta(hours=13)

_ARCHIVE: Final = audit_archive.c
_SEAL: Final = audit_seal.c
_CHECKPOINT: Final = audit_checkpoint.c
_EVENT: Final = audit_event.c
_BUCKET: Final = audit_bucket.c


class SqlArchives(SqlSeals):
    """Implements :class:`broker.core.archiving.ArchivedLog` on SQLite or PostgreSQL."""

    def check_may_remove(self) -> None:
        """Refuse, before anything is written, a user who may not remove events.

        Raises:
            AuditUnavailable: with what to do, or no answer.
        """
        if self._database.path is not None:
            return
        with self._database.reading(AuditUnavailable) as connection:
            user = str(connection.scalar(text("SELECT current_user")))
            if not may_remove_events(connection, user):
                raise AuditUnavailable(
                    f"{user} may not remove events, as it should be: give --owner-url, the same database as the user"
                    " who owns the tables"
                )

    def retained(self, before: datetime, now: datetime) -> Retained | None:
        """The first sealed event that is not before that moment, or whose session may live; None when there is none.

        Raises:
            AuditUnavailable: no answer.
        """
        archived = self.newest_archived()
        joined = select(_SEAL.position).join_from(audit_seal, audit_event, _EVENT.id == _SEAL.event_id)
        first = joined.where(_SEAL.position > (archived.last if archived else 0)).order_by(_SEAL.position).limit(1)
        live_grants = select(_EVENT.grant_id).where(_EVENT.time > now - _MAY_LIVE, _EVENT.expiry > now)
        live = and_(_EVENT.time > now - _MAY_LIVE, or_(_EVENT.expiry > now, _EVENT.grant_id.in_(live_grants)))
        unsettled = _EVENT.id.in_(select(open_grant.c.intent_id))
        found = []
        with self._database.reading(AuditUnavailable) as connection:
            for condition, reason in (
                (_EVENT.time >= before, f"it is not before {canonical_time(before)}"),
                (live, "its session may still live"),
                (unsettled, "the outcome of its grant is not known yet"),
            ):
                position = connection.scalar(first.where(condition))
                if position is not None:
                    found.append(Retained(position, reason))
        return min(found, key=lambda one: one.position, default=None)

    def cut(self, start: ChainPoint, stop: int | None) -> Cut | None:
        """From that point to the last checkpoint before position ``stop``; None when no checkpoint is there.

        Raises:
            AuditUnavailable: no answer.
        """
        statement = select(audit_checkpoint).where(_CHECKPOINT.position > start.position)
        if stop is not None:
            statement = statement.where(_CHECKPOINT.position < stop)
        with self._database.reading(AuditUnavailable) as connection:
            row = connection.execute(statement.order_by(_CHECKPOINT.position.desc()).limit(1)).one_or_none()
            if row is None:
                return None
            checkpoint = Checkpoint(row.position, row.chain_hash, row.time, row.key_id, row.signature)
            times = (
                select(func.min(_EVENT.time), func.max(_EVENT.time))
                .join_from(audit_seal, audit_event, _EVENT.id == _SEAL.event_id)
                .where(_SEAL.position > start.position, _SEAL.position <= row.position)
            )
            since, until = connection.execute(times).one()
        if since is None:
            raise AuditUnavailable("the events that would be archived are gone: run `broker audit verify`")
        return Cut(start, checkpoint, since, until)

    def record(self, anchor: Anchor, start: ChainPoint) -> None:
        """Commit an anchor.

        Raises:
            AuditUnavailable: no answer, not allowed, or another archive came in between.
        """
        checkpoint = anchor.checkpoint
        with self._database.transaction(AuditUnavailable) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE audit_archive IN EXCLUSIVE MODE"))
            if (connection.scalar(select(func.max(_ARCHIVE.position))) or 0) != start.position:
                raise AuditUnavailable("another archive was made meanwhile: nothing was removed; run it again")
            connection.execute(
                insert(audit_archive),
                {
                    "position": checkpoint.position,
                    "chain_hash": checkpoint.chain_hash,
                    "time": checkpoint.time,
                    "key_id": checkpoint.key_id,
                    "signature": checkpoint.signature,
                    "first_position": anchor.first,
                    "file": anchor.file,
                    "sha256": anchor.sha256,
                    "archived_at": anchor.time,
                    "archive_key_id": anchor.key_id,
                    "archive_signature": anchor.signature,
                },
            )

    def removable(self, up_to: int) -> int | None:
        """The lowest position that still has an event, where it is not above that one.

        Raises:
            AuditUnavailable: no answer.
        """
        statement = (
            select(_SEAL.position)
            .join_from(audit_seal, audit_event, _EVENT.id == _SEAL.event_id)
            .where(_SEAL.position <= up_to)
            .order_by(_SEAL.position)
            .limit(1)
        )
        with self._database.reading(AuditUnavailable) as connection:
            return connection.scalar(statement)

    def remove(self, up_to: int) -> None:
        """Remove the events up to that position and their proof, but for the last seal, in one transaction.

        The last seal stays so that what follows can be verified from there.

        Raises:
            AuditUnavailable: no answer, not allowed, or no anchor covers them.
        """
        with self._database.transaction(AuditUnavailable) as connection:
            rows = connection.execute(
                select(_EVENT.id, _EVENT.time, _EVENT.session_policy)
                .join_from(audit_seal, audit_event, _EVENT.id == _SEAL.event_id)
                .where(_SEAL.position <= up_to)
            ).all()
            places = [(bucket, row.time, row.id) for row in rows for bucket in buckets_of(row.session_policy)]
            for start in range(0, len(places), _PLACES_AT_ONCE):
                some = places[start : start + _PLACES_AT_ONCE]
                key = tuple_(_BUCKET.bucket, _BUCKET.time, _BUCKET.event_id)
                connection.execute(delete(audit_bucket).where(key.in_(some)))
            connection.execute(delete(audit_event).where(_EVENT.id.in_([row.id for row in rows])))
            connection.execute(delete(audit_seal).where(_SEAL.position < up_to))
            connection.execute(delete(audit_checkpoint).where(_CHECKPOINT.position < up_to))


# SQLite takes 32,766 values in a statement, three for each.
_PLACES_AT_ONCE: Final = 5_000
