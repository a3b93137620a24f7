"""On PostgreSQL one user owns the tables, and the broker's own can append to the audit and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.adapters.database.tables import metadata
from broker.core.errors import AuditUnavailable, DatabaseNotReady, SettingsInvalid
from tests.adapters.database.events import login
from tests.adapters.database.postgresql import PostgresqlServer
from tests.adapters.database.tampering import sign, verdict_on

PASSWORD = "runtime-password"


@pytest.fixture
def name(postgresql: PostgresqlServer) -> str:
    """A new database with two roles of its own, an owner and the broker's."""
    name = postgresql.create_database()
    with psycopg.connect(postgresql.conninfo("postgres"), autocommit=True) as connection:
        for role in (f"{name}_owner", f'{name}_"runtime'):
            quoted = '"' + role.replace('"', '""') + '"'
            connection.execute(f"CREATE ROLE {quoted} LOGIN PASSWORD '{PASSWORD}'".encode())
        connection.execute(f"ALTER DATABASE {name} OWNER TO {name}_owner".encode())
    return name


@pytest.fixture
def owner_url(postgresql: PostgresqlServer, name: str) -> str:
    return f"postgresql://{name}_owner:{PASSWORD}@127.0.0.1:{postgresql.port}/{name}"


@pytest.fixture
def runtime_url(postgresql: PostgresqlServer, name: str) -> str:
    return f"postgresql://{name}_%22runtime:{PASSWORD}@127.0.0.1:{postgresql.port}/{name}"


@pytest.fixture
def runtime(owner_url: str, runtime_url: str, scripts: Path) -> Iterator[Database]:
    migrations.upgrade(runtime_url, scripts, owner_url)
    database = Database(runtime_url)
    yield database
    database.dispose()


def test_the_brokers_user_can_write_and_seal_and_verify(runtime: Database, scripts: Path) -> None:
    migrations.check_ready(runtime, scripts)
    SqlAuditLog(runtime).append(login(0, "hana"))
    seals = SqlSeals(runtime)
    assert seals.seal(sign, limit=10) == 1
    assert verdict_on(runtime).proved == seals.newest_checkpoint()
    assert not seals.may_be_rewritten()


@pytest.mark.parametrize("table", [name for name in metadata.tables if name.startswith("audit_")])
@pytest.mark.parametrize("statement", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0}", "DROP TABLE {0}"])
def test_the_brokers_user_can_change_and_remove_nothing_of_the_audit(
    runtime: Database, table: str, statement: str
) -> None:
    column = metadata.tables[table].columns[0].name
    with (
        pytest.raises(AuditUnavailable, match=r"permission denied|must be owner"),
        runtime.writing(AuditUnavailable) as connection,
    ):
        connection.execute(text(statement.format(table, column)))


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE audit_event DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "UPDATE alembic_version SET version_num = '0001'",
    ],
)
def test_the_brokers_user_cannot_set_the_protection_aside(runtime: Database, statement: str) -> None:
    with (
        pytest.raises(AuditUnavailable, match=r"permission denied|must be owner"),
        runtime.writing(AuditUnavailable) as connection,
    ):
        connection.execute(text(statement))


def test_an_upgrade_with_nothing_to_do_is_no_fault_for_the_brokers_user(
    runtime: Database, runtime_url: str, scripts: Path
) -> None:
    migrations.upgrade(runtime_url, scripts)
    migrations.check_ready(runtime, scripts)


def test_tables_that_belong_to_the_brokers_user_are_refused_with_what_to_do(
    postgresql: PostgresqlServer, name: str, runtime_url: str, owner_url: str, scripts: Path
) -> None:
    with psycopg.connect(postgresql.conninfo(name), autocommit=True) as connection:
        connection.execute(f'GRANT CREATE ON SCHEMA public TO "{name}_""runtime"'.encode())
        connection.execute(f'GRANT "{name}_""runtime" TO {name}_owner'.encode())
    migrations.upgrade(runtime_url, scripts)
    with pytest.raises(DatabaseNotReady, match="REASSIGN OWNED BY") as error:
        migrations.upgrade(runtime_url, scripts, owner_url)
    assert PASSWORD not in str(error.value)
    database = Database(runtime_url)
    assert SqlSeals(database).may_be_rewritten()
    database.dispose()

    with psycopg.connect(postgresql.conninfo(name), autocommit=True) as connection:
        connection.execute(f'REASSIGN OWNED BY "{name}_""runtime" TO {name}_owner'.encode())
        connection.execute(f'REVOKE "{name}_""runtime" FROM {name}_owner'.encode())
    migrations.upgrade(runtime_url, scripts, owner_url)
    assert not SqlSeals(database).may_be_rewritten()
    SqlAuditLog(database).append(login(1, "hana"))
    database.dispose()


def test_an_owner_for_sqlite_is_refused(sqlite_url: str, scripts: Path) -> None:
    with pytest.raises(SettingsInvalid, match="SQLite has no users"):
        migrations.upgrade(sqlite_url, scripts, sqlite_url)
    assert not SqlSeals(Database(sqlite_url)).may_be_rewritten()


def test_a_broker_without_a_user_in_its_address_is_refused(name: str, owner_url: str, scripts: Path) -> None:
    with pytest.raises(SettingsInvalid, match="write the broker's user into it"):
        migrations.upgrade(f"postgresql://127.0.0.1/{name}", scripts, owner_url)
