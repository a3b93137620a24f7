"""Databases for the tests: a fresh, migrated one for each, on both engines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from broker.adapters.database import migrations
from broker.adapters.database.engine import Database
from tests.adapters.database.postgresql import PostgresqlServer, postgresql

__all__ = ["postgresql"]

SCRIPTS = Path(__file__).parents[3] / "alembic"


@pytest.fixture(scope="session")
def scripts() -> Path:
    return SCRIPTS


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrations.upgrade(f"sqlite:///{path}", SCRIPTS)
    return path


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: PostgresqlServer) -> str:
    name = postgresql.create_database()
    migrations.upgrade(postgresql.url(name), SCRIPTS)
    return name


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    path = tmp_path / "broker.db"
    shutil.copy(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def shared_postgresql_url(postgresql: PostgresqlServer, migrated_postgresql: str) -> str:
    return postgresql.url(postgresql.create_database(f"TEMPLATE {migrated_postgresql}"))


@pytest.fixture
def postgresql_url(shared_postgresql_url: str) -> str:
    """Emptied, not made anew: that takes a second and 8 MB. The triggers that refuse it are set aside."""
    with psycopg.connect(shared_postgresql_url, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '5s'")
        connection.execute("SET session_replication_role = replica")
        connection.execute("TRUNCATE audit_event, audit_term, audit_bucket, sign_in_session, sign_in_attempts")
        connection.execute("TRUNCATE audit_archive, stream_cursor")
        connection.execute("TRUNCATE revocation, revocation_role, claim")
        connection.execute("TRUNCATE seal_queue, audit_seal, audit_checkpoint, open_grant, write_check")
        connection.execute("TRUNCATE second_factor, recovery_code, trusted_browser, second_factor_asked")
        connection.execute("TRUNCATE second_factor_ceremony")
    return shared_postgresql_url


@pytest.fixture
def fresh_postgresql_url(postgresql: PostgresqlServer, migrated_postgresql: str) -> str:
    """For a test that changes the database itself."""
    return postgresql.url(postgresql.create_database(f"TEMPLATE {migrated_postgresql}"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """The address of a migrated, empty database."""
    address: str = request.getfixturevalue(f"{request.param}_url")
    return address


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database in which nothing was ever made."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.url(server.create_database())


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A migrated, empty database."""
    opened = Database(url)
    yield opened
    opened.dispose()
