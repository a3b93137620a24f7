"""On PostgreSQL one user owns the tables, and the broker's own can append to the audit and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from sqlalchemy import text

from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.adapters.database.tables import metadata
from broker.cli.doctor_database import diagnose_database
from broker.core.errors import AuditUnavailable, DatabaseNotReady, SettingsInvalid
from broker.core.findings import FindingState
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
    assert seals.dangers() == ()


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
    dangers = SqlSeals(database).dangers()
    assert [danger.split(", and so")[0].removeprefix(f'{name}_"runtime ') for danger in dangers] == [
        "owns tables of the audit",
        "owns functions that protect the audit",
        "may change, remove or empty rows of the audit, or add triggers to its tables",
        "may record archives",
    ]
    database.dispose()

    with psycopg.connect(postgresql.conninfo(name), autocommit=True) as connection:
        connection.execute(f'REASSIGN OWNED BY "{name}_""runtime" TO {name}_owner'.encode())
        connection.execute(f'REVOKE "{name}_""runtime" FROM {name}_owner'.encode())
    migrations.upgrade(runtime_url, scripts, owner_url)
    assert SqlSeals(database).dangers() == ()
    SqlAuditLog(database).append(login(1, "hana"))
    database.dispose()


def test_an_owner_for_sqlite_is_refused(sqlite_url: str, scripts: Path) -> None:
    with pytest.raises(SettingsInvalid, match="SQLite has no users"):
        migrations.upgrade(sqlite_url, scripts, sqlite_url)
    assert SqlSeals(Database(sqlite_url)).dangers() == ()


@pytest.mark.parametrize(
    ("right", "danger"),
    [
        ("ALTER ROLE {runtime} SUPERUSER", "is a superuser, or may become one"),
        ("ALTER DATABASE {name} OWNER TO {runtime}", "owns the database, and so may drop the schema"),
        ("ALTER SCHEMA public OWNER TO {runtime}", "owns the schema, and so may drop the tables in it"),
        ("ALTER TABLE audit_seal OWNER TO {runtime}", "owns tables of the audit"),
        ("ALTER FUNCTION audit_append_only() OWNER TO {runtime}", "owns functions that protect the audit"),
        ("GRANT {name}_owner TO {runtime}", "owns tables of the audit"),
        ("GRANT DELETE ON audit_bucket TO {runtime}", "may change, remove or empty rows of the audit"),
        ("GRANT TRUNCATE ON audit_checkpoint TO PUBLIC", "may change, remove or empty rows of the audit"),
        ("GRANT TRIGGER ON audit_event TO {runtime}", "may change, remove or empty rows of the audit"),
        ("GRANT pg_write_all_data TO {runtime}", "may change, remove or empty rows of the audit"),
        ("GRANT INSERT ON audit_archive TO {runtime}", "may record archives"),
        ("GRANT pg_execute_server_program TO {runtime}", "may write files or run programs"),
    ],
)
def test_each_right_that_is_too_much_is_named(
    postgresql: PostgresqlServer,
    name: str,
    runtime: Database,
    right: str,
    danger: str,
) -> None:
    with psycopg.connect(postgresql.conninfo(name), autocommit=True) as connection:
        connection.execute(right.format(name=name, runtime=f'"{name}_""runtime"').encode())
    assert any(f'{name}_"runtime {danger}' in one for one in SqlSeals(runtime).dangers())


def test_an_upgrade_refuses_a_user_of_the_broker_who_owns_the_database_or_may_become_the_owner(
    postgresql: PostgresqlServer, name: str, runtime_url: str, owner_url: str, scripts: Path
) -> None:
    with psycopg.connect(postgresql.conninfo(name), autocommit=True) as connection:
        connection.execute(f'GRANT {name}_owner TO "{name}_""runtime"'.encode())
    with pytest.raises(DatabaseNotReady, match="it owns the database, and so may drop the schema") as error:
        migrations.upgrade(runtime_url, scripts, owner_url)
    assert "it owns tables of the audit" in str(error.value)


def findings(url: str) -> list[tuple[FindingState, str]]:
    """What `broker doctor database` finds."""
    settings = SimpleNamespace(database=SimpleNamespace(url=url))
    return [(one.state, one.what) for one in diagnose_database(settings)]  # type: ignore[arg-type] # all it reads


def test_the_doctor_says_that_the_brokers_user_may_no_more_than_it_should(runtime: Database, runtime_url: str) -> None:
    with runtime.reading(AuditUnavailable):
        pass
    assert [state for state, _ in findings(runtime_url)] == [FindingState.OK] * 3
    assert findings(runtime_url)[-1][1].startswith("the broker's user may append to the audit")


def test_the_doctor_names_one_user_for_both_and_a_schema_that_is_not_there(
    owner_url: str, scripts: Path, sqlite_url: str
) -> None:
    assert findings(owner_url) == [(FindingState.FAILED, "it has no tables yet: run `broker db upgrade`")]
    migrations.upgrade(owner_url, scripts)
    warnings = [what for state, what in findings(owner_url) if state is FindingState.WARNING]
    assert "owns the database, and so may drop the schema" in warnings[0]
    migrations.upgrade(sqlite_url, scripts)
    assert [state for state, _ in findings(sqlite_url)] == [FindingState.OK] * 3
    assert findings("nonsense")[0][0] is FindingState.FAILED


def test_a_broker_without_a_user_in_its_address_is_refused(name: str, owner_url: str, scripts: Path) -> None:
    with pytest.raises(SettingsInvalid, match="write the broker's user into it"):
        migrations.upgrade(f"postgresql://127.0.0.1/{name}", scripts, owner_url)
