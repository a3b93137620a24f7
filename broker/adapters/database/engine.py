"""The database: SQLite for one node, PostgreSQL for several."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from broker.adapters.database.column_types import ForeignValueError
from broker.adapters.database.sqlite import sqlite_engine
from broker.core.errors import Fault, SettingsInvalid, Unavailable

_SETTING: Final = "database.url"
_FIVE_SECONDS: Final = timedelta(seconds=5)


class Database:
    """One database, reached through connections that each process makes for itself.

    Nothing is opened before the first use, and what a parent process opened is never used after a fork: a server that
    loads the application first and forks its workers then is safe.

    Attributes:
        place: where the database is, without user or password, for messages.
        path: the SQLite file; None for PostgreSQL.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 8,
        connect_timeout: timedelta = _FIVE_SECONDS,
        statement_timeout: timedelta = _FIVE_SECONDS,
        busy_timeout: timedelta = _FIVE_SECONDS,
        checkout_timeout: timedelta = _FIVE_SECONDS,
    ) -> None:
        """Check the address; open nothing.

        Args:
            url: ``sqlite:////absolute/path.db`` or ``postgresql://user@host/name``.
            connections: at most so many at once in each process: its number of threads.
            connect_timeout: for a PostgreSQL server to accept.
            statement_timeout: for a PostgreSQL server to answer one statement, waiting for locks included.
            busy_timeout: for the other writers of a SQLite file to finish.
            checkout_timeout: for another thread to give a connection back.

        Raises:
            SettingsInvalid: the address is not one of those, or the PostgreSQL driver is not installed.
        """
        self._url = _checked_url(url)
        self.path = Path(self._url.database or "") if self._url.get_backend_name() == "sqlite" else None
        self.place = _place(self._url)
        self._connections = connections
        self._connect_timeout = connect_timeout
        self._statement_timeout = statement_timeout
        self._busy_timeout = busy_timeout
        self._checkout_timeout = checkout_timeout
        # By process id. A parent's engine stays here untouched: closing its connections, or letting them be collected,
        # would disturb the parent, with which they are shared.
        self._engines: dict[int, Engine] = {}

    @property
    def engine(self) -> Engine:
        """This process's engine. Use :meth:`reading` and :meth:`writing`; they speak the broker's errors."""
        process = os.getpid()
        # Two threads may both make one at the first use; setdefault keeps one, the other has opened nothing.
        return self._engines.get(process) or self._engines.setdefault(process, self._new_engine())

    @contextmanager
    def reading(self, unavailable: type[Unavailable]) -> Iterator[Connection]:
        """A connection for questions.

        Raises:
            Unavailable: of the type given, when the database does not do its part.
        """
        with self._answering(unavailable), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def reading_planned(self, unavailable: type[Unavailable]) -> Iterator[Connection]:
        """A connection for questions whose best plan depends on their values: none is kept from one to the next.

        PostgreSQL would soon plan a statement for values in general: for some that are common, where one is rare.

        Raises:
            Unavailable: of the type given, when the database does not do its part.
        """
        with self.reading(unavailable) as connection:
            if self.path is not None:
                yield connection
                return
            driver: Any = connection.connection.driver_connection
            threshold, driver.prepare_threshold = driver.prepare_threshold, None
            try:
                yield connection
            finally:
                driver.prepare_threshold = threshold

    @contextmanager
    def reading_within(self, limit: timedelta, unavailable: type[Unavailable]) -> Iterator[Connection]:
        """As :meth:`reading_planned`, where no answer is worth more than so much time; it holds for each statement.

        Raises:
            Unavailable: of the type given, when the database does not do its part within the limit.
        """
        with self.reading_planned(unavailable) as connection:
            if self.path is None:
                connection.exec_driver_sql(f"SET statement_timeout = {round(limit.total_seconds() * 1000)}")
                try:
                    yield connection
                finally:
                    connection.exec_driver_sql("RESET statement_timeout")
                return
            # SQLite asks now and then whether to go on.
            driver: Any = connection.connection.driver_connection
            ends = time.monotonic() + limit.total_seconds()
            driver.set_progress_handler(lambda: time.monotonic() > ends, _STEPS_BETWEEN_QUESTIONS)
            try:
                yield connection
            finally:
                driver.set_progress_handler(None, 0)

    @contextmanager
    def writing(self, unavailable: type[Unavailable]) -> Iterator[Connection]:
        """A connection for changes: on SQLite they are one transaction, on PostgreSQL each statement is its own.

        Raises:
            Unavailable: of the type given, when the database does not do its part.
        """
        with self._answering(unavailable), self.engine.begin() as connection:
            if self.path is not None:
                # A transaction that reads first and writes later could fail at that moment, without any waiting.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def transaction(self, unavailable: type[Unavailable]) -> Iterator[Connection]:
        """A connection for changes that rest on what was read before them: one transaction, rows locked as asked.

        Raises:
            Unavailable: of the type given, when the database does not do its part.
        """
        if self.path is not None:
            with self.writing(unavailable) as connection:
                yield connection
            return
        with self._answering(unavailable), self.engine.connect() as connection:
            connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                yield connection

    def dispose(self) -> None:
        """Close this process's connections; the next use opens new ones."""
        engine = self._engines.pop(os.getpid(), None)
        if engine is not None:
            engine.dispose()

    @contextmanager
    def _answering(self, unavailable: type[Unavailable]) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise unavailable(f"{self.place}: {cause(error)}") from error
        except ForeignValueError as error:
            message = f"{self.place}: a row holds what the broker never writes, {error}: run `broker audit verify`"
            raise unavailable(message) from error
        except NoFreeConnection as error:
            raise unavailable(f"{self.place}: all {self._connections} connections of this process are busy") from error

    def _new_engine(self) -> Engine:
        if self.path is not None:
            return sqlite_engine(
                self.path,
                connections=self._connections,
                busy_timeout=self._busy_timeout,
                checkout_timeout=self._checkout_timeout,
            )
        # psycopg is installed only where PostgreSQL is used.
        from broker.adapters.database.postgresql import postgresql_engine  # noqa: PLC0415 - see above

        return postgresql_engine(
            self._url,
            connections=self._connections,
            connect_timeout=self._connect_timeout,
            statement_timeout=self._statement_timeout,
            checkout_timeout=self._checkout_timeout,
        )


def cause(error: DBAPIError) -> str:
    """What the driver said, on one line; neither statement nor values."""
    return f"{type(error.orig).__name__}: {' '.join(str(error.orig).split())}"


def is_unreadable(error: Unavailable) -> bool:
    """Whether the database answered, and with a row that nobody can read.

    The drivers refuse such rows too: psycopg times that Python does not have (``infinity``), sqlite3 text that is not
    UTF-8, with an error that has no code of SQLite's since it is not SQLite's.
    """
    reason = error.__cause__
    if isinstance(reason, OperationalError):
        return str(reason.orig).startswith("Could not decode to UTF-8")
    return isinstance(reason, ForeignValueError | DataError)


def _checked_url(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The text may hold a password, and so may the error.
        raise SettingsInvalid(Fault(_SETTING, _EXPECTED)) from None
    if url.drivername in {"sqlite", "sqlite+pysqlite"}:
        if not url.database or url.database == ":memory:" or url.query:
            raise SettingsInvalid(Fault(_SETTING, "write the path of a file: sqlite:////var/lib/broker/broker.db"))
        return url
    if url.drivername in {"postgresql", "postgresql+psycopg"}:
        try:
            import psycopg  # noqa: F401, PLC0415 - only asked whether it is there
        except ImportError as error:
            message = "PostgreSQL needs its driver: pip install 'federation-broker[postgresql]'"
            raise SettingsInvalid(Fault(_SETTING, message)) from error
        return url.set(drivername="postgresql+psycopg")
    raise SettingsInvalid(Fault(_SETTING, _EXPECTED))


# A PostgreSQL statement that returns this is committed without waiting for the disk, and goes there with the next one
# that waits: a server that crashes forgets at most the last second of such changes, and never half of one (PostgreSQL
# documentation, "Asynchronous Commit"). The setting ends with the statement, which is a transaction of its own.
NOT_WAITING_FOR_THE_DISK: Final = "set_config('synchronous_commit', 'off', true)"

# Of the virtual machine of SQLite: some ten microseconds.
_STEPS_BETWEEN_QUESTIONS: Final = 1_000

_EXPECTED: Final = "write sqlite:////absolute/path.db or postgresql://user@host/name"


def _place(url: URL) -> str:
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{url.host or ''}{port}/{url.database or ''}"
