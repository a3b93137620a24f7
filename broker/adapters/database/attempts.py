"""Counts of sign-in attempts in the database: one row for each budget that somebody has drawn on.

On PostgreSQL counting does not wait for the disk: nobody who guesses can crash the server, and each sign-in counts, and
settles, several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Integer,
    Row,
    Text,
    TextualSelect,
    Update,
    UpdateBase,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)

from broker.adapters.database.column_types import ExactText, UtcTime
from broker.adapters.database.engine import NOT_WAITING_FOR_THE_DISK, Database
from broker.adapters.database.tables import sign_in_attempts
from broker.core.errors import SessionsUnavailable
from broker.core.throttle import SEEN_LATER, Budget, HeldBack, Hold

# The audit hears of a hold this often, with how many attempts it held back meanwhile.
_REPORTED_EVERY: Final = timedelta(minutes=1)
# So many rows that no longer count are removed at once.
_MOST_PURGED: Final = 1000
# Where no time ends a hold, a sign-in takes its row away, and nobody ever signs in under a name that is nobody's. Who
# waits so long to learn that there is no such person has learnt little.
_MADE_UP_KEPT_FOR: Final = timedelta(days=30)

_KEPT: Final = sign_in_attempts.c

# Each of them of the row as it was, when a new attempt comes.
_IS_OVER: Final = "(kept.until <= :now)"
_COUNTED: Final = f"(CASE WHEN {_IS_OVER} THEN 0 ELSE kept.attempts END)"
_PASSES: Final = f"({_COUNTED} < :budget)"
_IS_TOLD: Final = f"(NOT {_PASSES} AND (kept.reported_at IS NULL OR kept.reported_at <= :told_before))"
_WAS_ANSWERED: Final = "(kept.latest_at IS NULL OR kept.latest_at <= :answered_before)"
# One statement, so that of two attempts at once the second sees the first; whoever waits for the row waits here. A
# budget without any attempts was never drawn on, and has no end of its own.
_TAKE: Final = f"""
INSERT INTO sign_in_attempts AS kept (
    key, username, budget, attempts, since, until, held_back, unreported, told, reported_at, latest_at, under_way,
    let_through
) VALUES (
    :key, :username, :budget, :first, :now, :over, 1 - :first, 0, 1 - :first, CASE WHEN :first = 0 THEN :now END,
    CASE WHEN :first = 1 THEN :now END, :first, :first = 1
) ON CONFLICT (key) DO UPDATE SET
    username = excluded.username,
    budget = excluded.budget,
    attempts = {_COUNTED} + CASE WHEN {_PASSES} THEN 1 ELSE 0 END,
    since = CASE WHEN {_IS_OVER} THEN :now ELSE kept.since END,
    until = CASE
        WHEN {_PASSES} AND :from_first AND NOT {_IS_OVER} THEN kept.until
        WHEN {_PASSES} THEN :over
        WHEN :budget = 0 AND kept.until < :over THEN :over
        ELSE kept.until
    END,
    held_back = CASE WHEN {_IS_OVER} THEN 0 ELSE kept.held_back END + CASE WHEN {_PASSES} THEN 0 ELSE 1 END,
    unreported = CASE WHEN {_PASSES} THEN kept.unreported WHEN {_IS_TOLD} THEN 0 ELSE kept.unreported + 1 END,
    told = CASE WHEN {_IS_TOLD} THEN kept.unreported + 1 ELSE kept.told END,
    reported_at = CASE WHEN {_IS_TOLD} THEN :now ELSE kept.reported_at END,
    latest_at = CASE WHEN {_PASSES} THEN :now ELSE kept.latest_at END,
    under_way = CASE
        WHEN NOT {_PASSES} THEN kept.under_way
        -- What was never answered by then has failed, or was never sent.
        WHEN {_WAS_ANSWERED} THEN 1
        ELSE kept.under_way + 1
    END,
    let_through = {_PASSES}
RETURNING let_through, until, unreported, told
"""  # noqa: S608 - constants of this module


def _take(more: str = "") -> TextualSelect:
    return (
        text(_TAKE + more)
        .bindparams(
            bindparam("key", type_=ExactText),
            bindparam("username", type_=ExactText),
            bindparam("budget", type_=Integer),
            bindparam("first", type_=Integer),
            bindparam("from_first", type_=Boolean),
            *(bindparam(name, type_=UtcTime) for name in ("now", "over", "told_before", "answered_before")),
        )
        .columns(let_through=Boolean, until=UtcTime, unreported=Integer, told=Integer)
    )


def _not_waiting(statement: Update) -> dict[str, UpdateBase]:
    return {
        "sqlite": statement,
        "postgresql": statement.returning(literal_column(NOT_WAITING_FOR_THE_DISK, Text)),
    }


def _one_fewer(count: ColumnElement[int]) -> ColumnElement[int]:
    return case((count > 0, count - 1), else_=0)


_IS_RETURNED: Final = _KEPT.key == bindparam("returned", type_=ExactText)
_OF_KEY: Final = _KEPT.key == bindparam("of_key", type_=ExactText)
_OTHERS: Final = case(
    (or_(_KEPT.key == bindparam("right", type_=ExactText), _IS_RETURNED), _one_fewer(_KEPT.under_way)),
    else_=_KEPT.under_way,
)

# Each composed once, for each kind of database.
_TAKING: Final = {"sqlite": _take(), "postgresql": _take(f", {NOT_WAITING_FOR_THE_DISK}")}
_GIVING_BACK: Final = _not_waiting(
    update(sign_in_attempts)
    .where(_OF_KEY)
    .values(attempts=_one_fewer(_KEPT.attempts), under_way=_one_fewer(_KEPT.under_way))
)
_ANSWERING: Final = _not_waiting(update(sign_in_attempts).where(_OF_KEY).values(under_way=_one_fewer(_KEPT.under_way)))
_SETTLING: Final = _not_waiting(
    update(sign_in_attempts)
    .where(_KEPT.key.in_(bindparam("touched", expanding=True, type_=ExactText)))
    .values(
        attempts=case((_IS_RETURNED, _one_fewer(_KEPT.attempts)), else_=_OTHERS),
        under_way=_OTHERS,
        until=case((or_(_IS_RETURNED, _OTHERS > 0), _KEPT.until), else_=_KEPT.since),
    )
)


class SqlAttempts:
    """The Attempts port on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, budget: Budget, username: str | None, now: datetime) -> HeldBack | None:
        """Count one attempt before it is made, in one statement with looking whether it may be.

        Raises:
            SessionsUnavailable: it could not be counted.
        """
        values = {
            "key": budget.key,
            "username": username,
            "budget": budget.attempts,
            "first": min(1, budget.attempts),
            "from_first": budget.counts_from_first,
            "now": now,
            "over": now + budget.window,
            "told_before": now - _REPORTED_EVERY,
            "answered_before": now - SEEN_LATER,
        }
        with self._database.writing(SessionsUnavailable) as connection:
            kept = connection.execute(_TAKING[connection.dialect.name], values).one()
        if kept.let_through:
            return None
        return HeldBack(until=kept.until, unreported=kept.told if kept.unreported == 0 else None)

    def give_back(self, budget: Budget) -> None:
        """Take one attempt out of the count.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(_GIVING_BACK[connection.dialect.name], {"of_key": budget.key})

    def answered(self, budget: Budget) -> None:
        """Note that an attempt is under way no longer.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(_ANSWERING[connection.dialect.name], {"of_key": budget.key})

    def forget(self, keys: Sequence[str]) -> None:
        """Start to count anew.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(delete(sign_in_attempts).where(_KEPT.key.in_(keys)))

    def forget_settled(self, keys: Sequence[str], right: Budget, returned: Budget | None) -> None:
        """Start to count anew, but for what others have under way; the row of what is over goes with :meth:`purge`.

        Raises:
            SessionsUnavailable: no answer.
        """
        returned_key = returned.key if returned is not None else None
        touched = [*keys, returned_key] if returned_key is not None else keys
        values = {"right": right.key, "returned": returned_key, "touched": touched}
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(_SETTLING[connection.dialect.name], values)

    def purge(self, now: datetime) -> int:
        """Remove some rows that count for nothing any more; how many.

        Raises:
            SessionsUnavailable: no answer.
        """
        made_up = and_(_KEPT.username.is_(None), _KEPT.latest_at <= now - _MADE_UP_KEPT_FOR)
        over = (
            select(_KEPT.key)
            .where(or_(_KEPT.until <= now, made_up))
            .limit(_MOST_PURGED)
            .with_for_update(skip_locked=True)
        )
        with self._database.writing(SessionsUnavailable) as connection:
            return connection.execute(delete(sign_in_attempts).where(_KEPT.key.in_(over))).rowcount

    def holds(self, now: datetime, *, limit: int, holding: str = "") -> Sequence[Hold]:
        """The budgets that are used up: those of people first, and then the latest.

        Raises:
            SessionsUnavailable: no answer.
        """
        used_up = select(sign_in_attempts).where(_KEPT.until > now, _KEPT.attempts >= _KEPT.budget, _KEPT.held_back > 0)
        if holding:
            part = holding.casefold()
            used_up = used_up.where(
                or_(*(func.lower(column).contains(part, autoescape=True) for column in (_KEPT.key, _KEPT.username)))
            )
        # Strangers can make up as many names as they like; no number of them hides a person.
        statement = used_up.order_by(_KEPT.username.is_(None), _KEPT.until.desc(), _KEPT.key).limit(limit)
        with self._database.reading(SessionsUnavailable) as connection:
            rows = connection.execute(statement).all()
        return tuple(map(_hold, rows))

    def hold(self, key: str, now: datetime) -> Hold | None:
        """The budget of that key, if it is used up.

        Raises:
            SessionsUnavailable: no answer.
        """
        statement = select(sign_in_attempts).where(_KEPT.key == key, _KEPT.until > now)
        with self._database.reading(SessionsUnavailable) as connection:
            row = connection.execute(statement.where(_KEPT.attempts >= _KEPT.budget)).one_or_none()
        return None if row is None else _hold(row)

    def lift(self, key: str) -> Hold | None:
        """Start to count anew at an administrator's wish.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.transaction(SessionsUnavailable) as connection:
            row = connection.execute(select(sign_in_attempts).where(_KEPT.key == key).with_for_update()).one_or_none()
            if row is None:
                return None
            connection.execute(delete(sign_in_attempts).where(_KEPT.key == key))
        return _hold(row)


def _hold(row: Row[Any]) -> Hold:
    return Hold(
        key=row.key,
        username=row.username,
        attempts=row.attempts,
        held_back=row.held_back,
        since=row.since,
        until=row.until,
    )
