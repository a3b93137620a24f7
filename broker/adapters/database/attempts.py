"""Counts of sign-in attempts in the database: one row for each budget that somebody has drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.database.engine import Database
from broker.adapters.database.tables import sign_in_attempts
from broker.core.errors import SessionsUnavailable
from broker.core.throttle import SEEN_LATER, Budget, HeldBack, Hold

# The audit hears of a hold this often, with how many attempts it held back meanwhile.
_REPORTED_EVERY: Final = timedelta(minutes=1)
# Each first attempt adds a row and removes up to so many that no longer count.
_MOST_PURGED: Final = 100
# Where no time ends a hold, a sign-in takes its row away, and nobody ever signs in under a name that is nobody's. Who
# waits so long to learn that there is no such person has learnt little.
_MADE_UP_KEPT_FOR: Final = timedelta(days=30)

_KEPT: Final = sign_in_attempts.c


class SqlAttempts:
    """The Attempts port on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, budget: Budget, username: str | None, now: datetime) -> HeldBack | None:
        """Count one attempt before it is made, in one transaction with looking whether it may be.

        Raises:
            SessionsUnavailable: it could not be counted.
        """
        with self._database.transaction(SessionsUnavailable) as connection:
            _make_row(connection, budget, username, now)
            # The row is locked until the commit: of two attempts at once the second sees the first.
            row = connection.execute(select(sign_in_attempts).where(_KEPT.key == budget.key).with_for_update()).one()
            attempts, held_back, since = row.attempts, row.held_back, row.since
            unreported, reported_at, until = row.unreported, row.reported_at, row.until
            latest_at, under_way = row.latest_at, row.under_way
            if now >= until:
                attempts = held_back = 0
                since = now
            answer = None
            if attempts < budget.attempts:
                attempts += 1
                until = (since if budget.counts_from_first else now) + budget.window
                # What was never answered has failed by then, or was never sent.
                under_way = 1 if latest_at is None or now >= latest_at + SEEN_LATER else under_way + 1
                latest_at = now
            else:
                held_back += 1
                unreported += 1
                due = reported_at is None or now >= reported_at + _REPORTED_EVERY
                # A budget without any attempts was never drawn on, and has no end of its own.
                until = max(until, now + budget.window) if budget.attempts == 0 else until
                answer = HeldBack(until=until, unreported=unreported if due else None)
                unreported, reported_at = (0, now) if due else (unreported, reported_at)
            connection.execute(
                update(sign_in_attempts)
                .where(_KEPT.key == budget.key)
                .values(
                    username=username,
                    attempts=attempts,
                    budget=budget.attempts,
                    since=since,
                    until=until,
                    held_back=held_back,
                    unreported=unreported,
                    reported_at=reported_at,
                    latest_at=latest_at,
                    under_way=under_way,
                )
            )
        return answer

    def give_back(self, budget: Budget) -> None:
        """Take one attempt out of the count.

        Raises:
            SessionsUnavailable: no answer.
        """
        fewer = {"attempts": _one_fewer(_KEPT.attempts), "under_way": _one_fewer(_KEPT.under_way)}
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(update(sign_in_attempts).where(_KEPT.key == budget.key).values(fewer))

    def answered(self, budget: Budget) -> None:
        """Note that an attempt is under way no longer.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(
                update(sign_in_attempts).where(_KEPT.key == budget.key).values(under_way=_one_fewer(_KEPT.under_way))
            )

    def forget(self, keys: Sequence[str]) -> None:
        """Start to count anew.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(delete(sign_in_attempts).where(_KEPT.key.in_(keys)))

    def forget_settled(self, keys: Sequence[str], right: Budget) -> None:
        """Start to count anew, but for what others have under way.

        Raises:
            SessionsUnavailable: no answer.
        """
        others = case((_KEPT.key == right.key, _one_fewer(_KEPT.under_way)), else_=_KEPT.under_way)
        with self._database.transaction(SessionsUnavailable) as connection:
            connection.execute(delete(sign_in_attempts).where(_KEPT.key.in_(keys), others == 0))
            connection.execute(
                update(sign_in_attempts).where(_KEPT.key.in_(keys)).values(attempts=others, under_way=others)
            )

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


def _one_fewer(count: ColumnElement[int]) -> ColumnElement[int]:
    return case((count > 0, count - 1), else_=0)


def _hold(row: Row[Any]) -> Hold:
    return Hold(
        key=row.key,
        username=row.username,
        attempts=row.attempts,
        held_back=row.held_back,
        since=row.since,
        until=row.until,
    )


def _make_row(connection: Connection, budget: Budget, username: str | None, now: datetime) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    made = connection.execute(
        dialect.insert(sign_in_attempts)
        .values(
            key=budget.key,
            username=username,
            attempts=0,
            budget=budget.attempts,
            since=now,
            until=now + budget.window,
            held_back=0,
            unreported=0,
        )
        .on_conflict_do_nothing()
    )
    if made.rowcount:
        stale = (
            select(_KEPT.key)
            .where(
                or_(_KEPT.until <= now, and_(_KEPT.username.is_(None), _KEPT.latest_at <= now - _MADE_UP_KEPT_FOR)),
                _KEPT.key != budget.key,
            )
            .limit(_MOST_PURGED)
            .with_for_update(skip_locked=True)
        )
        connection.execute(delete(sign_in_attempts).where(_KEPT.key.in_(stale)))
