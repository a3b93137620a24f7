"""Connections to PostgreSQL, through psycopg 3."""

from __future__ import annotations

import select
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError

# The server ends a statement that takes too long; a server that cannot even do that (stopped, its disk stalled, its
# network gone) is given up on this much later.
_GRACE: Final = timedelta(seconds=1)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection on which nothing waits for ever, and whose errors quote no row.

    Attributes:
        answer_seconds: how long the server may take for one answer.
    """

    answer_seconds: float = 5.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's, with a limit: every statement passes through here.

        Raises:
            psycopg.Error: as psycopg's; the connection is closed when no answer came in time.
        """
        try:
            return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)
        except psycopg.Error as error:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # The answer may still come, and would be taken for that of the next question.
                self.pgconn.finish()
                raise psycopg.OperationalError(f"no answer within {self.answer_seconds:g} s") from None
            if error.diag.message_primary:
                # The rest (DETAIL, CONTEXT) can hold the whole row.
                error.args = (error.diag.message_primary,)
            raise


def postgresql_engine(
    url: URL,
    *,
    connections: int,
    connect_timeout: timedelta,
    statement_timeout: timedelta,
    checkout_timeout: timedelta,
) -> Engine:
    """An engine on that server; each statement is its own transaction unless a connection is told otherwise."""
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",  # our writes are single statements: one round trip instead of three
        pool_size=connections,
        max_overflow=0,
        pool_timeout=checkout_timeout.total_seconds(),
        hide_parameters=True,
        use_native_hstore=False,  # saves a question at the first connection
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_: Any, __: Any, arguments: list[Any], parameters: dict[str, Any]) -> BoundedConnection:
        # What the operator wrote in the address wins.
        parameters.setdefault("application_name", "federation-broker")
        parameters.setdefault("connect_timeout", max(1, round(connect_timeout.total_seconds())))
        # So that a connection whose server is gone without a word ends while it is idle, and not under a request.
        parameters.setdefault("keepalives_idle", 30)
        parameters.setdefault("keepalives_interval", 10)
        parameters.setdefault("keepalives_count", 3)
        parameters["client_encoding"] = "utf8"
        parameters["options"] = " ".join(
            (
                f"-c statement_timeout={round(statement_timeout.total_seconds() * 1000)}",
                "-c synchronous_commit=on",  # the default, unless somebody made the server faster and forgetful
                "-c timezone=UTC",
                parameters.get("options", ""),
            )
        )
        connection = BoundedConnection.connect(*arguments, **parameters)
        connection.answer_seconds = (statement_timeout + _GRACE).total_seconds()
        return connection

    # A restarted server costs nobody an error. Asking it before each use (SQLAlchemy's pre-ping) would be a round trip,
    # a third of an insert; but a server that has ended a connection has said so, and that is waiting to be read.
    @event.listens_for(engine, "checkout")
    def _still_open(connection: BoundedConnection, _: Any, __: Any) -> None:
        idle = select.poll()
        idle.register(connection.fileno(), select.POLLIN)
        if idle.poll(0):
            raise DisconnectionError

    return engine
