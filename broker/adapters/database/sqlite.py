"""Connections to one SQLite file."""

from __future__ import annotations

import os
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool


def create_file(path: Path) -> None:
    """Make an empty database that only its owner can read; an existing one is left as it is.

    SQLite gives the files beside it (``-wal``, ``-shm``) the same mode.

    Raises:
        OSError: the folder is missing or may not be written.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def sqlite_engine(path: Path, *, connections: int, busy_timeout: timedelta, checkout_timeout: timedelta) -> Engine:
    """An engine on that file, which must exist: one that was moved away is an outage, not a reason to begin anew."""

    def connect(*_: object) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=busy_timeout.total_seconds(),
            isolation_level=None,  # Database begins its transactions itself, with BEGIN IMMEDIATE
            check_same_thread=False,  # the pool hands a connection to one thread at a time
        )
        try:
            _use_write_ahead_log(connection, busy_timeout)
            connection.execute("PRAGMA synchronous = FULL")  # a committed event survives a power cut
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=checkout_timeout.total_seconds(),
        hide_parameters=True,
    )

    # A connection to a file that was replaced (a restored backup) goes on writing into the old one, which no name leads
    # to any more: those events would be lost without any error.
    @event.listens_for(engine, "connect")
    def _note_file(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["file"] = _identity(path)

    @event.listens_for(engine, "checkout")
    def _same_file(_: Any, record: ConnectionPoolEntry, __: Any) -> None:
        if record.info["file"] != _identity(path):
            raise DisconnectionError

    return engine


def _use_write_ahead_log(connection: sqlite3.Connection, busy_timeout: timedelta) -> None:
    """So that readers and the writer do not wait for each other. The file remembers it; only the first one changes it.

    SQLite itself does not wait when it changes a new or restored file while another process has it open.
    """
    deadline = time.monotonic() + busy_timeout.total_seconds()
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
