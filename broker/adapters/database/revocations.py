"""Revocations in the database, and which worker carries them out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.database.column_types import ExactText, UtcTime
from broker.adapters.database.engine import Database
from broker.adapters.database.tables import claim, revocation, revocation_role
from broker.core.errors import SessionsUnavailable
from broker.core.revocation import (
    COVERED_FOR,
    Asker,
    Denials,
    Revocation,
    RevocationKind,
    RolePart,
    Subject,
    SubjectKind,
    Target,
    merged,
)

_KEPT: Final = revocation.c
_PART: Final = revocation_role.c
_TOGETHER: Final = select(revocation, revocation_role).join_from(
    revocation_role, revocation, _KEPT.id == _PART.revocation_id
)
# Composed once, since every issuance asks it.
_AGAINST: Final = (
    select(revocation, _PART.denials)
    .outerjoin(
        revocation_role, and_(_KEPT.id == _PART.revocation_id, _PART.role == bindparam("of_role", type_=ExactText))
    )
    .where(or_(_KEPT.before > bindparam("moment", type_=UtcTime), _PART.role.is_not(None)))
)


class SqlRevocations:
    """The Revocations port on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, added: Revocation) -> None:
        """Keep one.

        Raises:
            SessionsUnavailable: no answer.
        """
        target = added.target
        values = {
            "id": added.id,
            "kind": target.kind,
            "target_id": target.id,
            "target_name": target.name,
            "principal_id": target.principal_id,
            "role": target.role,
            "asked_at": added.asked_at,
            "before": added.before,
            "asked_by": added.asker.name,
            "asked_by_id": added.asker.principal_id,
            "purpose": added.purpose,
            "planned": False,
        }
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(insert(revocation).values(values))

    def add_roles(self, added: Revocation, roles: Mapping[str, Denials], *, is_last: bool) -> None:
        """Note what has to be denied for it; a role that has to deny more than is noted already is due again.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.transaction(SessionsUnavailable) as connection:
            for role, denials in sorted(roles.items()):
                _add_role(connection, added, role, denials)
            if is_last:
                connection.execute(update(revocation).where(_KEPT.id == added.id).values(planned=True))

    def later_than(self, moment: datetime) -> Sequence[Revocation]:
        """Those that reach sessions which begin at that moment, or began before it.

        Raises:
            SessionsUnavailable: no answer.
        """
        return self._revocations(select(revocation).where(_KEPT.before > moment))

    def against(self, role: str, moment: datetime) -> tuple[Sequence[Revocation], Denials]:
        """Those that reach sessions which begin at that moment or began before, and what a role denies in all.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.reading(SessionsUnavailable) as connection:
            rows = connection.execute(_AGAINST, {"of_role": role, "moment": moment}).all()
        later = tuple(found for row in rows if (found := _revocation(row)).before > moment)
        documents = (row._mapping[_PART.denials] for row in rows)  # noqa: SLF001 - as below
        return later, merged(*(_read(document) for document in documents if document is not None))

    def unplanned(self) -> Sequence[Revocation]:
        """Those for which somebody has to look again where their sessions run.

        Raises:
            SessionsUnavailable: no answer.
        """
        return self._revocations(select(revocation).where(_KEPT.planned.is_(False)).order_by(_KEPT.asked_at))

    def newest(self, *, limit: int) -> Sequence[tuple[Revocation, Sequence[RolePart]]]:
        """The latest first, each with its parts by role.

        Raises:
            SessionsUnavailable: no answer.
        """
        found = self._revocations(select(revocation).order_by(_KEPT.asked_at.desc(), _KEPT.id).limit(limit))
        parts: dict[str, list[RolePart]] = defaultdict(list)
        ids = [one.id for one in found]
        for part in self._parts(_TOGETHER.where(_PART.revocation_id.in_(ids)).order_by(_PART.role)):
            parts[part.revocation.id].append(part)
        return [(one, parts[one.id]) for one in found]

    def parts(self, revocation_id: str) -> Sequence[RolePart]:
        """What has to be denied for a revocation, by role.

        Raises:
            SessionsUnavailable: no answer.
        """
        return self._parts(_TOGETHER.where(_PART.revocation_id == revocation_id).order_by(_PART.role))

    def due(self, now: datetime, *, limit: int) -> Sequence[RolePart]:
        """The parts that wait to be carried out, or to be taken back since they reach nothing any more.

        Raises:
            SessionsUnavailable: no answer.
        """
        unfinished = or_(_PART.done_at.is_(None), _PART.reaches_until <= now)
        statement = _TOGETHER.where(_PART.next_try_at <= now, unfinished)
        return self._parts(statement.order_by(_PART.next_try_at, _PART.role).limit(limit))

    def late(self, asked_before: datetime, now: datetime, *, limit: int) -> Sequence[RolePart]:
        """The parts that were asked for before a moment, are not done and still reach something, the oldest first.

        Raises:
            SessionsUnavailable: no answer.
        """
        waits = (_PART.done_at.is_(None), _PART.reaches_until > now, _KEPT.asked_at < asked_before)
        return self._parts(_TOGETHER.where(*waits).order_by(_KEPT.asked_at, _PART.role).limit(limit))

    def over(self, now: datetime, *, limit: int) -> Sequence[RolePart]:
        """The parts that reach nothing any more, done or not.

        Raises:
            SessionsUnavailable: no answer.
        """
        return self._parts(_TOGETHER.where(_PART.reaches_until <= now).order_by(_PART.role).limit(limit))

    def denials_of(self, role: str, *, done: bool = False) -> Denials:
        """Everything that all revocations together deny in a role; or only what IAM has already.

        Raises:
            SessionsUnavailable: no answer.
        """
        statement = select(_PART.denials).where(_PART.role == role)
        if done:
            statement = statement.where(_PART.done_at.is_not(None))
        with self._database.reading(SessionsUnavailable) as connection:
            documents = connection.execute(statement).scalars().all()
        return merged(*map(_read, documents))

    def note_done(self, part: RolePart, now: datetime) -> None:
        """Note that IAM has it; nothing happens when there is more to deny by now.

        Raises:
            SessionsUnavailable: no answer.
        """
        self._note(part, _PART.denials == _written(part.denials), done_at=now, problem=None)

    def note_failed(self, part: RolePart, problem: str, again_at: datetime) -> None:
        """Note why IAM has it not, and when it is tried again.

        Raises:
            SessionsUnavailable: no answer.
        """
        self._note(part, problem=problem, next_try_at=again_at)

    def remove(self, part: RolePart) -> None:
        """Forget a part.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(delete(revocation_role).where(*_is(part)))

    def forget(self, before: datetime) -> None:
        """Forget revocations without parts whose moment lies before that.

        Raises:
            SessionsUnavailable: no answer.
        """
        parts = exists().where(_PART.revocation_id == _KEPT.id)
        over = (_KEPT.before < before, ~parts)
        # Ask first: on SQLite even a change of nothing would queue behind every writer.
        with self._database.reading(SessionsUnavailable) as connection:
            if connection.execute(select(_KEPT.id).where(*over).limit(1)).first() is None:
                return
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(delete(revocation).where(*over))

    def claim(self, work: str, now: datetime, until: datetime) -> bool:
        """Take a piece of work that one at a time may do; False when another has it.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.transaction(SessionsUnavailable) as connection:
            insert_of = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            mine = insert_of(claim).values(work=work, until=until)
            taken = mine.on_conflict_do_update(
                index_elements=["work"], set_={"until": until}, where=claim.c.until <= now
            ).returning(claim.c.work)
            return connection.execute(taken).first() is not None

    def give_up(self, work: str, now: datetime) -> None:
        """Let others have it.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(update(claim).where(claim.c.work == work).values(until=now))

    def _note(self, part: RolePart, *conditions: ColumnElement[bool], **values: object) -> None:
        changed = update(revocation_role).where(*_is(part), *conditions)
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(changed.values(tries=_PART.tries + 1, **values))

    def _revocations(self, statement: Select[Any]) -> Sequence[Revocation]:
        with self._database.reading(SessionsUnavailable) as connection:
            return tuple(map(_revocation, connection.execute(statement).all()))

    def _parts(self, statement: Select[Any]) -> Sequence[RolePart]:
        with self._database.reading(SessionsUnavailable) as connection:
            rows = connection.execute(statement).all()
        return tuple(_part(row) for row in rows)


def _add_role(connection: Connection, added: Revocation, role: str, denials: Denials) -> None:
    insert_of = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = insert_of(revocation_role).values(
        revocation_id=added.id, role=role, tries=0, next_try_at=added.asked_at, **_to_deny(denials)
    )
    if connection.execute(row.on_conflict_do_nothing().returning(_PART.role)).first() is not None:
        return
    of_role = (_PART.revocation_id == added.id, _PART.role == role)
    known = connection.execute(select(_PART.denials).where(*of_role).with_for_update()).scalar_one()
    together = merged(_read(known), denials)
    if together != _read(known):
        again = update(revocation_role).where(*of_role)
        connection.execute(again.values(next_try_at=added.asked_at, **_to_deny(together)))


def _to_deny(denials: Denials) -> dict[str, Any]:
    until = max(denials.values()) + COVERED_FOR
    return {"denials": _written(denials), "reaches_until": until, "done_at": None, "problem": None}


def _is(part: RolePart) -> tuple[Any, Any]:
    return (_PART.revocation_id == part.revocation.id, _PART.role == part.role)


def _revocation(row: Row[Any]) -> Revocation:
    kept = row._mapping  # noqa: SLF001 - SQLAlchemy's own name for what it documents
    return Revocation(
        id=kept[_KEPT.id],
        target=Target(
            RevocationKind(kept[_KEPT.kind]),
            kept[_KEPT.target_id],
            kept[_KEPT.target_name],
            kept[_KEPT.principal_id],
            kept[_KEPT.role],
        ),
        asked_at=kept[_KEPT.asked_at],
        before=kept[_KEPT.before],
        asker=Asker(kept[_KEPT.asked_by], kept[_KEPT.asked_by_id]),
        purpose=kept[_KEPT.purpose],
    )


def _part(row: Row[Any]) -> RolePart:
    kept = row._mapping  # noqa: SLF001 - as above
    return RolePart(
        revocation=_revocation(row),
        role=kept[_PART.role],
        denials=_read(kept[_PART.denials]),
        done_at=kept[_PART.done_at],
        tries=kept[_PART.tries],
        next_try_at=kept[_PART.next_try_at],
        problem=kept[_PART.problem],
    )


def _written(denials: Denials) -> str:
    # Not the policy that IAM gets: it has a longest, and what does not fit is to be reported, not lost.
    return json.dumps([[subject.kind, subject.name, before.isoformat()] for subject, before in sorted(denials.items())])


def _read(text: str) -> Denials:
    return {Subject(SubjectKind(kind), name): datetime.fromisoformat(before) for kind, name, before in json.loads(text)}
