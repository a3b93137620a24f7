"""The schema: brought up to date, and compared with what this version needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from broker.adapters.database.engine import Database, cause
from broker.adapters.database.privileges import grant_least
from broker.adapters.database.sqlite import create_file
from broker.core.errors import AuditUnavailable, DatabaseNotReady, Fault

# Building an index on a large log takes its time; waiting for another node's upgrade too.
_PATIENCE: Final = timedelta(hours=6)

# Any number, the same in every version: PostgreSQL's advisory lock "the broker's schema is being changed".
_LOCK: Final = 0x42524F4B4552


def upgrade(url: str, scripts: Path, owner_url: str | None = None) -> None:
    """Bring the database to this version's schema, whole or not at all; a new SQLite file is made.

    Several at once are safe: one works, the others wait and find nothing left to do.

    Args:
        url: as for Database; on PostgreSQL a user who may create tables.
        scripts: the folder with ``env.py`` and ``versions``.
        owner_url: PostgreSQL only: the same database as another user, who makes and owns the tables. The user of
            ``url`` then gets what the broker needs, and can neither change nor remove what the audit holds.

    Raises:
        SettingsInvalid: an address is wrong.
        DatabaseNotReady: no answer, not allowed, or the schema is of a newer version.
    """
    with _changing(owner_url or url) as connection:
        command.upgrade(_config(scripts, connection), "head")
        if owner_url is not None:
            grant_least(connection, url)


def downgrade(url: str, scripts: Path, revision: str) -> None:
    """Take the database back to an earlier schema; what only the later ones hold is lost.

    Args:
        url: as for :func:`upgrade`.
        scripts: as for :func:`upgrade`.
        revision: one of those in ``versions``, or ``base`` for nothing at all.

    Raises:
        SettingsInvalid: the address is wrong.
        DatabaseNotReady: no answer, not allowed, or no such revision.
    """
    with _changing(url) as connection:
        command.downgrade(_config(scripts, connection), revision)


def head_revision(scripts: Path) -> str:
    """The revision that this version needs."""
    head = ScriptDirectory(str(scripts)).get_current_head()
    if head is None:
        raise ValueError(f"there are no migrations in {scripts}")
    return head


def current_revision(database: Database) -> str | None:
    """The revision that the database has; None when the broker never made a table in it.

    Raises:
        AuditUnavailable: no answer.
    """
    if database.path is not None and not database.path.exists():
        return None
    with database.reading(AuditUnavailable) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def check_ready(database: Database, scripts: Path) -> None:
    """Refuse a database whose schema is not the one of this version.

    Raises:
        DatabaseNotReady: with what to do.
        AuditUnavailable: no answer.
    """
    current = current_revision(database)
    if current == head_revision(scripts):
        return
    if current is None:
        message = "it has no tables yet: run `broker db upgrade`"
    elif current in _known_revisions(scripts):
        message = f"its schema is of an older version ({current}): run `broker db upgrade`"
    else:
        message = f"its schema ({current}) is of a newer version: start that version of the broker"
    raise DatabaseNotReady(Fault(database.place, message))


def _known_revisions(scripts: Path) -> set[str]:
    return {script.revision for script in ScriptDirectory(str(scripts)).walk_revisions()}


@contextmanager
def _changing(url: str) -> Iterator[Connection]:
    """A connection in one transaction that nobody else can change the schema beside."""
    database = Database(url, statement_timeout=_PATIENCE, busy_timeout=_PATIENCE)
    try:
        if database.path is None:
            with database.engine.connect() as connection:
                connection.execution_options(isolation_level="READ COMMITTED")
                with connection.begin():
                    _refuse_other_encodings(database, connection)
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                    yield connection
        else:
            create_file(database.path)
            with database.engine.begin() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
    except DBAPIError as error:
        raise DatabaseNotReady(Fault(database.place, cause(error))) from error
    except OSError as error:
        raise DatabaseNotReady(Fault(database.place, f"cannot be made: {error.strerror}")) from error
    except CommandError as error:
        # Alembic cannot find the revision that the database has, or the one asked for.
        message = f"{error}: its schema is of a newer version, or there is no such revision"
        raise DatabaseNotReady(Fault(database.place, message)) from error
    finally:
        database.dispose()


def _refuse_other_encodings(database: Database, connection: Connection) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        message = f"its encoding is {encoding}, which cannot hold every name: create it with ENCODING 'UTF8'"
        raise DatabaseNotReady(Fault(database.place, message))


def _config(scripts: Path, connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
