"""Counts of sign-in attempts in the database: one row for each budget that somebody has drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.database.engine import Database
from broker.adapters.database.tables import sign_in_attempts
from broker.core.errors import SessionsUnavailable
from broker.core.throttle import Budget, HeldBack, Hold

# The audit hears of a hold this often, with how many attempts it held back meanwhile.
_REPORTED_EVERY: Final = timedelta(minutes=1)
# Each first attempt adds a row and removes up to so many that no longer count.
_MOST_PURGED: Final = 100

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
            if now >= until:
                attempts = held_back = 0
                since = now
            answer = None
            if attempts < budget.attempts:
                attempts += 1
                until = (since if budget.counts_from_first else now) + budget.window
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
                )
            )
        return answer

    def give_back(self, budget: Budget) -> None:
        """Take one attempt out of the count.

        Raises:
            SessionsUnavailable: no answer.
        """
        fewer = case((_KEPT.attempts > 0, _KEPT.attempts - 1), else_=0)
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(update(sign_in_attempts).where(_KEPT.key == budget.key).values(attempts=fewer))

    def forget(self, keys: Sequence[str]) -> None:
        """Start to count anew.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(delete(sign_in_attempts).where(_KEPT.key.in_(keys)))

    def holds(self, now: datetime, *, limit: int) -> Sequence[Hold]:
        """The budgets that are used up, the latest first.

        Raises:
            SessionsUnavailable: no answer.
        """
        used_up = select(sign_in_attempts).where(_KEPT.until > now, _KEPT.attempts >= _KEPT.budget, _KEPT.held_back > 0)
        statement = used_up.order_by(_KEPT.until.desc(), _KEPT.key).limit(limit)
        with self._database.reading(SessionsUnavailable) as connection:
            rows = connection.execute(statement).all()
        return tuple(
            Hold(
                key=row.key,
                username=row.username,
                attempts=row.attempts,
                held_back=row.held_back,
                since=row.since,
                until=row.until,
            )
            for row in rows
        )

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
            .where(_KEPT.until <= now, _KEPT.key != budget.key)
            .limit(_MOST_PURGED)
            .with_for_update(skip_locked=True)
        )
        connection.execute(delete(sign_in_attempts).where(_KEPT.key.in_(stale)))
