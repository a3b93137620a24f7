"""Sign-in sessions in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Delete,
    Executable,
    Text,
    bindparam,
    delete,
    false,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from broker.adapters.database.column_types import ExactText, UtcTime
from broker.adapters.database.engine import NOT_WAITING_FOR_THE_DISK, Database
from broker.adapters.database.tables import sign_in_session, trusted_browser
from broker.core.errors import SessionsUnavailable
from broker.core.second_factor import Method
from broker.core.sessions import SessionLimits, SignInSession, TrustedBrowser

# Each sign-in adds one and removes up to so many: the table cannot grow, and no sign-in pays for all of them.
_MOST_PURGED: Final = 100

# Noting every request would make every page a durable write. A session may therefore idle out by this much sooner.
TOUCHED_AFTER: Final = timedelta(seconds=30)

_KEPT: Final = sign_in_session.c

# Composed once: every request asks it.
_OF_TOKEN: Final = select(sign_in_session).where(_KEPT.token_hash == bindparam("of_token", type_=ExactText))

_KEEP: Final = insert(sign_in_session).values({column.name: bindparam(column.name) for column in _KEPT})
_PURGE: Final = delete(sign_in_session).where(
    _KEPT.token_hash.in_(
        select(_KEPT.token_hash)
        .where(
            or_(
                _KEPT.last_seen_at <= bindparam("idle_since", type_=UtcTime),
                _KEPT.signed_in_at <= bindparam("run_out_since", type_=UtcTime),
            )
        )
        .limit(_MOST_PURGED)
        .with_for_update(skip_locked=True)  # another sign-in may be purging the same ones
    )
)
# On PostgreSQL in one statement: one round trip. What nobody had before, a crash may forget: they sign in again.
_KEEP_AND_PURGE: Final = _KEEP.add_cte(_PURGE.cte("purge"))
_KEEPING: Final = {
    "sqlite": (_PURGE, _KEEP),
    "postgresql": (_KEEP_AND_PURGE.returning(literal_column(NOT_WAITING_FOR_THE_DISK, Text)),),
}
_EXCHANGING: Final = {"sqlite": (_PURGE, _KEEP), "postgresql": (_KEEP_AND_PURGE,)}


class SqlSessions:
    """The Sessions port on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, session: SignInSession, limits: SessionLimits) -> None:
        """Keep a new session, and purge some that had run out when it began.

        Raises:
            SessionsUnavailable: no answer; also when there is a session of that token.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            _create(connection, session, limits, _KEEPING[connection.dialect.name])

    def exchange(self, token_hash: str, session: SignInSession, limits: SessionLimits) -> bool:
        """Keep a new session in place of that one, in one transaction; whether there was that one still.

        Raises:
            SessionsUnavailable: no answer; also when there is a session of the new token.
        """
        with self._database.transaction(SessionsUnavailable) as connection:
            ended = connection.execute(delete(sign_in_session).where(_KEPT.token_hash == token_hash))
            if ended.rowcount == 1:
                _create(connection, session, limits, _EXCHANGING[connection.dialect.name])
        return ended.rowcount == 1

    def find(self, token_hash: str) -> SignInSession | None:
        """The session of that token, run out or not; None when there is none.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.reading(SessionsUnavailable) as connection:
            row = connection.execute(_OF_TOKEN, {"of_token": token_hash}).mappings().one_or_none()
        return None if row is None else _session(row)

    def of_principal(self, principal_id: str) -> Sequence[SignInSession]:
        """The sessions of a person, run out or not.

        Raises:
            SessionsUnavailable: no answer.
        """
        statement = select(sign_in_session).where(sign_in_session.c.principal_id == principal_id)
        with self._database.reading(SessionsUnavailable) as connection:
            rows = connection.execute(statement).mappings().all()
        return tuple(_session(row) for row in rows)

    def touch(self, token_hash: str, now: datetime) -> None:
        """Note a request, unless one was noted within the last 30 seconds; never goes back in time.

        Raises:
            SessionsUnavailable: no answer.
        """
        kept = sign_in_session.c
        due = (kept.token_hash == token_hash, kept.last_seen_at <= now - TOUCHED_AFTER)
        # Ask first: on SQLite even a change of nothing would queue behind every writer.
        with self._database.reading(SessionsUnavailable) as connection:
            if connection.execute(select(kept.token_hash).where(*due)).first() is None:
                return
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(update(sign_in_session).where(*due).values(last_seen_at=now))

    def note_audit_reader(self, token_hash: str, *, reads_audit: bool) -> None:
        """Note what the directory said of its person.

        Raises:
            SessionsUnavailable: no answer.
        """
        kept = sign_in_session.c
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(
                update(sign_in_session).where(kept.token_hash == token_hash).values(reads_audit=reads_audit)
            )

    def note_second_factor(self, token_hash: str, method: Method, at: datetime) -> None:
        """Note a proof; a sign-in that waits for it is not finished so.

        Raises:
            SessionsUnavailable: no answer.
        """
        kept = sign_in_session.c
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(
                update(sign_in_session)
                .where(kept.token_hash == token_hash, kept.awaits_second_factor.is_(false()))
                .values(second_factor=method, second_factor_at=at)
            )

    def note_new_password(self, token_hash: str) -> None:
        """Note that the password has not run out any more.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(
                update(sign_in_session).where(sign_in_session.c.token_hash == token_hash).values(grace_sign_ins=None)
            )

    def end(self, token_hash: str) -> None:
        """Forget a session; nothing happens when there is none.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(delete(sign_in_session).where(sign_in_session.c.token_hash == token_hash))

    def end_all(self, principal_id: str) -> int:
        """Forget all sessions of a person, and every browser that they trusted; how many sessions there were.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.transaction(SessionsUnavailable) as connection:
            connection.execute(_distrust(principal_id))
            return connection.execute(delete(sign_in_session).where(_KEPT.principal_id == principal_id)).rowcount

    def end_others(self, principal_id: str, token_hash: str) -> int:
        """Forget all sessions of a person but that one, and every browser that they trusted but that one's.

        Raises:
            SessionsUnavailable: no answer.
        """
        here = select(_KEPT.trusted_browser).where(_KEPT.token_hash == token_hash, _KEPT.trusted_browser.is_not(None))
        others = delete(sign_in_session).where(_KEPT.principal_id == principal_id, _KEPT.token_hash != token_hash)
        with self._database.transaction(SessionsUnavailable) as connection:
            connection.execute(_distrust(principal_id).where(trusted_browser.c.token_hash.not_in(here)))
            return connection.execute(others).rowcount

    def trust(self, browser: TrustedBrowser) -> None:
        """Keep a browser that is trusted, and purge some whose time is over.

        Raises:
            SessionsUnavailable: no answer.
        """
        kept = trusted_browser.c
        over = select(kept.token_hash).where(kept.until <= browser.since).limit(_MOST_PURGED)
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(
                delete(trusted_browser).where(kept.token_hash.in_(over.with_for_update(skip_locked=True)))
            )
            connection.execute(insert(trusted_browser).values(**asdict(browser)))

    def trusted_browsers(self, principal_id: str) -> Sequence[TrustedBrowser]:
        """The browsers that a person trusted and that were not forgotten, the latest first, over or not.

        Raises:
            SessionsUnavailable: no answer.
        """
        kept = trusted_browser.c
        theirs = select(trusted_browser).where(kept.principal_id == principal_id)
        with self._database.reading(SessionsUnavailable) as connection:
            rows = connection.execute(theirs.order_by(kept.since.desc(), kept.token_hash)).mappings().all()
        return tuple(TrustedBrowser(**row) for row in rows)

    def distrust(self, principal_id: str, token_hash: str) -> None:
        """Forget a browser that a person trusted; nothing happens when it is not theirs.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(_distrust(principal_id).where(trusted_browser.c.token_hash == token_hash))

    def distrust_others(self, principal_id: str, token_hash: str | None) -> None:
        """Forget every browser that a person trusted but that one; None for every one.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.writing(SessionsUnavailable) as connection:
            connection.execute(_distrust(principal_id).where(trusted_browser.c.token_hash.is_distinct_from(token_hash)))


def _create(connection: Connection, session: SignInSession, limits: SessionLimits, keep: Sequence[Executable]) -> None:
    now = session.signed_in_at
    values = asdict(session) | {"idle_since": now - limits.idle, "run_out_since": now - limits.absolute}
    for statement in keep:
        connection.execute(statement, values)


def _distrust(principal_id: str) -> Delete:
    return delete(trusted_browser).where(trusted_browser.c.principal_id == principal_id)


def _session(row: Mapping[Any, Any]) -> SignInSession:
    method = row["second_factor"]
    return SignInSession(**{**row, "second_factor": None if method is None else Method(method)})
