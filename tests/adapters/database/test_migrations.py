"""The schema: up, down, equal to what the code expects, one change at a time."""

from __future__ import annotations

import multiprocessing
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.tables import metadata
from broker.core.errors import AuditUnavailable, DatabaseNotReady, SettingsInvalid
from tests.adapters.database.events import login
from tests.adapters.database.postgresql import PASSWORD, QUOTED_PASSWORD, PostgresqlServer


@pytest.fixture(params=["sqlite_url", "fresh_postgresql_url"])
def url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty database that the test may change."""
    address: str = request.getfixturevalue(request.param)
    return address


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    database = Database(url)
    with database.reading(AuditUnavailable) as connection:
        yield connection
    database.dispose()


def tables(url: str) -> set[str]:
    with connected(url) as connection:
        return set(inspect(connection).get_table_names())


def schema(url: str) -> list[tuple[object, ...]]:
    """Columns and indexes as the engine describes them; without collations, which only the migrations give."""
    with connected(url) as connection:
        if connection.dialect.name == "sqlite":
            columns = connection.execute(
                text(
                    'SELECT tables.name, columns.name, columns.type, "notnull", pk FROM sqlite_master AS tables, '
                    "pragma_table_info(tables.name) AS columns "
                    "WHERE tables.type = 'table' AND tables.name <> 'alembic_version'"
                )
            )
            indexes = connection.execute(
                text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
            )
        else:
            columns = connection.execute(
                text(
                    "SELECT table_name, column_name, data_type, datetime_precision, is_nullable, ordinal_position "
                    "FROM information_schema.columns "
                    "WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
                )
            )
            indexes = connection.execute(
                text(
                    "SELECT indexname, indexdef FROM pg_indexes WHERE tablename <> 'alembic_version' "
                    "AND schemaname = 'public'"
                )
            )
        return sorted(map(tuple, [*columns, *indexes]), key=repr)


def scripts_with(scripts: Path, folder: Path, upgrade: str) -> Path:
    """A copy of the migrations with one more, as a newer version would have."""
    copy = folder / "100% newer %(here)s"
    shutil.copytree(scripts, copy)
    (copy / "versions" / "9999_newer.py").write_text(
        "from alembic import op\n"
        f'revision = "9999"\ndown_revision = "{migrations.head_revision(scripts)}"\nbranch_labels = depends_on = None\n'
        f"def upgrade():\n{upgrade}\n"
        'def downgrade():\n    op.drop_table("newer")\n'
    )
    return copy


def test_the_migrations_make_exactly_what_the_code_expects(url: str) -> None:
    with connected(url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_the_migrations_make_the_same_columns_and_indexes_as_the_tables_of_the_code(
    url: str, postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    fresh = (
        f"sqlite:///{tmp_path / 'made-by-code.db'}"
        if url.startswith("sqlite")
        else postgresql.url(postgresql.create_database())
    )
    (tmp_path / "made-by-code.db").touch()
    database = Database(fresh)
    metadata.create_all(database.engine)
    database.dispose()
    assert schema(url) == schema(fresh)


def test_every_text_column_on_postgresql_is_compared_by_code_point(postgresql_url: str) -> None:
    with connected(postgresql_url) as connection:
        collations = connection.execute(
            text(
                "SELECT DISTINCT collation_name FROM information_schema.columns WHERE data_type = 'text' "
                "AND table_name IN ('audit_event', 'audit_term', 'audit_bucket', 'sign_in_session')"
            )
        ).scalars()
        assert list(collations) == ["C"]


def test_an_upgrade_can_be_taken_back_and_made_again(empty_url: str, scripts: Path) -> None:
    migrations.upgrade(empty_url, scripts)
    first = schema(empty_url)
    log = SqlAuditLog(Database(empty_url))
    log.append(login(username="hana"))
    migrations.downgrade(empty_url, scripts, "base")
    assert tables(empty_url) == {"alembic_version"}
    with connected(empty_url) as connection:
        if connection.dialect.name == "postgresql":
            functions = text("SELECT count(*) FROM pg_proc WHERE proname LIKE 'audit%'")
            assert connection.execute(functions).scalar_one() == 0
    migrations.upgrade(empty_url, scripts)
    assert schema(empty_url) == first


def test_an_upgrade_of_a_database_that_is_up_to_date_changes_nothing(url: str, scripts: Path) -> None:
    database = Database(url)
    SqlAuditLog(database).append(login())
    before = schema(url)
    migrations.upgrade(url, scripts)
    assert schema(url) == before
    with database.reading(AuditUnavailable) as connection:
        assert connection.execute(text("SELECT count(*) FROM audit_event")).scalar_one() == 1
    database.dispose()


def test_an_upgrade_finds_the_words_of_events_that_are_there(url: str, scripts: Path) -> None:
    database = Database(url)
    log = SqlAuditLog(database)
    reasons = ("Straße", "x" * 300, f"factor {'0123456789abcdef' * 2}")
    for number, reason in enumerate(reasons):
        log.append(replace(login(number, "hana", reason=reason), user_agent=f"Browser {number} " + "y" * 300))

    def words() -> set[tuple[str, str, str]]:
        with database.reading(AuditUnavailable) as connection:
            return {tuple(row) for row in connection.execute(text("SELECT field, value, folded FROM audit_term"))}

    written = words()
    migrations.downgrade(url, scripts, "0013")
    before = {value for field, value, _ in words() if field == "reason"}
    migrations.upgrade(url, scripts)

    assert before == {*reasons}
    assert words() == written
    assert {("reason", "Straße", "strasse"), ("reason", "x" * 200, "x" * 200)} <= written
    database.dispose()


def test_an_upgrade_prints_nothing(empty_url: str, scripts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    migrations.upgrade(empty_url, scripts)
    assert capfd.readouterr() == ("", "")


def test_several_upgrades_at_once_do_the_work_once(empty_url: str, scripts: Path) -> None:
    processes = multiprocessing.get_context("fork")
    started = processes.Barrier(4)

    def upgrade() -> None:
        started.wait()
        migrations.upgrade(empty_url, scripts)

    running = [processes.Process(target=upgrade) for _ in range(4)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0, 0, 0]
    database = Database(empty_url)
    migrations.check_ready(database, scripts)
    database.dispose()


def test_a_migration_that_fails_half_way_leaves_nothing_behind(url: str, scripts: Path, tmp_path: Path) -> None:
    newer = scripts_with(
        scripts, tmp_path, '    op.execute("CREATE TABLE newer (id integer)")\n    op.execute("CREATE NONSENSE")'
    )
    before = schema(url)
    with pytest.raises(DatabaseNotReady, match="syntax error"):
        migrations.upgrade(url, newer)
    assert schema(url) == before
    database = Database(url)
    assert migrations.current_revision(database) == migrations.head_revision(scripts)
    database.dispose()


def test_a_database_without_tables_is_not_ready_and_says_what_to_run(empty_url: str, scripts: Path) -> None:
    database = Database(empty_url)
    assert migrations.current_revision(database) is None
    with pytest.raises(DatabaseNotReady, match="no tables yet: run `broker db upgrade`") as error:
        migrations.check_ready(database, scripts)
    assert [fault.place for fault in error.value.faults] == [database.place]
    if database.path is not None:
        assert not database.path.exists()
    migrations.upgrade(empty_url, scripts)
    migrations.check_ready(database, scripts)
    assert migrations.current_revision(database) == migrations.head_revision(scripts)
    database.dispose()


def test_an_older_schema_is_not_ready_and_says_what_to_run(url: str, scripts: Path, tmp_path: Path) -> None:
    newer = scripts_with(scripts, tmp_path, '    op.execute("CREATE TABLE newer (id integer)")')
    database = Database(url)
    with pytest.raises(DatabaseNotReady, match=r"older version \([0-9]{4}\): run `broker db upgrade`"):
        migrations.check_ready(database, newer)
    migrations.upgrade(url, newer)
    migrations.check_ready(database, newer)
    database.dispose()


def test_a_newer_schema_is_refused_and_left_alone(url: str, scripts: Path, tmp_path: Path) -> None:
    newer = scripts_with(scripts, tmp_path, '    op.execute("CREATE TABLE newer (id integer)")')
    migrations.upgrade(url, newer)
    database = Database(url)
    with pytest.raises(DatabaseNotReady, match=r"\(9999\) is of a newer version"):
        migrations.check_ready(database, scripts)
    with pytest.raises(DatabaseNotReady, match="newer version"):
        migrations.upgrade(url, scripts)
    assert migrations.current_revision(database) == "9999"
    migrations.downgrade(url, newer, migrations.head_revision(scripts))
    migrations.check_ready(database, scripts)
    database.dispose()


def test_a_folder_without_migrations_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no migrations in"):
        migrations.head_revision(tmp_path)


def test_a_new_sqlite_file_is_for_its_owner_only(tmp_path: Path, scripts: Path) -> None:
    path = tmp_path / "broker.db"
    migrations.upgrade(f"sqlite:///{path}", scripts)
    database = Database(f"sqlite:///{path}")
    SqlAuditLog(database).append(login())
    files = list(tmp_path.iterdir())
    assert {file.name for file in files} == {"broker.db", "broker.db-wal", "broker.db-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    database.dispose()


def test_an_upgrade_in_a_folder_that_is_not_there_says_so(tmp_path: Path, scripts: Path) -> None:
    with pytest.raises(DatabaseNotReady, match=r"missing/broker\.db: cannot be made: No such file or directory"):
        migrations.upgrade(f"sqlite:///{tmp_path}/missing/broker.db", scripts)


def test_an_upgrade_of_a_file_that_is_no_database_leaves_it_alone(tmp_path: Path, scripts: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(DatabaseNotReady, match="file is not a database"):
        migrations.upgrade(f"sqlite:///{path}", scripts)
    assert path.read_text() == "Dear Sir or Madam, " * 100


def test_a_postgresql_database_that_cannot_hold_every_name_is_refused(
    postgresql: PostgresqlServer, scripts: Path
) -> None:
    name = postgresql.create_database("ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(DatabaseNotReady, match=r"its encoding is LATIN1, .* ENCODING 'UTF8'"):
        migrations.upgrade(postgresql.url(name), scripts)


def test_a_user_who_may_not_make_tables_is_told_so(postgresql: PostgresqlServer, scripts: Path) -> None:
    name = postgresql.create_database()
    database = Database(postgresql.url(name))
    with database.writing(AuditUnavailable) as connection:
        connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'guest-password'"))
    database.dispose()
    with pytest.raises(DatabaseNotReady, match="permission denied for schema public") as error:
        migrations.upgrade(f"postgresql://guest:guest-password@127.0.0.1:{postgresql.port}/{name}", scripts)
    assert "guest-password" not in str(error.value)


def test_an_upgrade_of_a_server_that_is_down_says_so_without_the_password(
    postgresql: PostgresqlServer, scripts: Path
) -> None:
    url = postgresql.url("postgres").replace(str(postgresql.port), "1")
    with pytest.raises(DatabaseNotReady, match=r"postgresql://127\.0\.0\.1:1/postgres: .*refused") as error:
        migrations.upgrade(url, scripts)
    assert PASSWORD not in str(error.value)
    assert QUOTED_PASSWORD not in str(error.value)


def test_a_wrong_address_is_refused_by_the_upgrade_too(scripts: Path) -> None:
    with pytest.raises(SettingsInvalid):
        migrations.upgrade("mysql://root@localhost/broker", scripts)
