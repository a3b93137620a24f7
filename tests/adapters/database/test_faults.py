"""What goes wrong with a database ends in time, in the broker's errors, and without a secret in them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from broker.adapters.database import migrations
from broker.adapters.database.attempts import SqlAttempts
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.sessions import SqlSessions
from broker.core.audit import EventKind
from broker.core.audit_search import AuditFilter, TimeSpan
from broker.core.errors import AuditUnavailable, SessionsUnavailable, SettingsInvalid
from broker.core.throttle import Budget, BudgetKind
from tests.adapters.database.events import NOON, issuance, login
from tests.adapters.database.postgresql import PASSWORD, QUOTED_PASSWORD, PostgresqlServer
from tests.adapters.database.test_sessions import LIMITS, session

SHORT = timedelta(seconds=1)


@pytest.fixture
def own_server() -> Iterator[PostgresqlServer]:
    """A server that the test may stop and freeze."""
    server = PostgresqlServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_url(own_server: PostgresqlServer, scripts: Path) -> str:
    name = own_server.create_database()
    migrations.upgrade(own_server.url(name), scripts)
    return own_server.url(name)


@contextmanager
def opened(url: str, *, connections: int = 8) -> Iterator[Database]:
    """With short timeouts."""
    database = Database(
        url,
        connections=connections,
        connect_timeout=SHORT,
        statement_timeout=SHORT,
        busy_timeout=SHORT,
        checkout_timeout=SHORT,
    )
    yield database
    database.dispose()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def assert_everything_is_unavailable(database: Database) -> None:
    log, sessions = SqlAuditLog(database), SqlSessions(database)
    for ask in (
        lambda: log.append(login(username="hana")),
        lambda: log.search(AuditFilter(person="hana"), limit=1),
        lambda: log.live_sessions("ID", NOON),
        lambda: log.event("e" * 32),
        lambda: log.count(AuditFilter(), [TimeSpan(NOON, NOON + timedelta(hours=1))]),
        log.check,
    ):
        with pytest.raises(AuditUnavailable):
            ask()
    for use in (
        lambda: sessions.create(session("a"), LIMITS),
        lambda: sessions.find("a"),
        lambda: sessions.touch("a", NOON),
        lambda: sessions.end("a"),
        lambda: sessions.end_all("ID"),
        lambda: sessions.end_others("ID", "a" * 64),
    ):
        with pytest.raises(SessionsUnavailable):
            use()


def test_a_question_that_is_not_worth_its_time_is_broken_off_and_the_next_one_is_not(
    database: Database,
) -> None:
    endless = {
        "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
        "postgresql": "SELECT count(*) FROM generate_series(1, 1000000000) a",
    }
    limit = timedelta(milliseconds=300)
    with (
        within(2),
        pytest.raises(AuditUnavailable),
        database.reading_within(limit, AuditUnavailable) as connection,
    ):
        connection.exec_driver_sql(endless[connection.dialect.name])
    long = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000000) SELECT count(*) FROM n"
    numbers = {
        "sqlite": long,
        "postgresql": "SELECT count(*) FROM (SELECT pg_sleep(0.5)) a",
    }
    with database.reading(AuditUnavailable) as connection:
        assert connection.exec_driver_sql(numbers[connection.dialect.name]).scalar_one() > 0


# --- Addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////var/lib/broker.db?mode=memory",
        "mysql://root:secret-word@localhost/broker",
        "postgresql+asyncpg://broker:secret-word@localhost/broker",
        "postgresql://broker:secret-word@localhost:port/broker",
        "http://broker:secret-word@localhost",
    ],
)
def test_an_address_that_is_no_database_of_ours_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsInvalid) as error:
        Database(url)
    [fault] = error.value.faults
    assert fault.place == "database.url"
    assert "write " in fault.message
    assert "secret-word" not in "".join(traceback.format_exception(error.value))


def test_a_missing_postgresql_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsInvalid, match=r"pip install 'federation-broker\[postgresql\]'"):
        Database("postgresql://broker@localhost/broker")


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/broker.db")
    Database("postgresql://broker@127.0.0.1:1/broker")
    assert database.place == f"sqlite:///{tmp_path}/broker.db"
    assert list(tmp_path.iterdir()) == []


# --- SQLite ------------------------------------------------------------------------------------------------------


def test_a_file_that_another_process_writes_for_too_long_is_unavailable_in_time_and_readable(sqlite_url: str) -> None:
    with opened(sqlite_url) as database:
        log, sessions = SqlAuditLog(database), SqlSessions(database)
        first = login()
        log.append(first)
        sessions.create(session("a"), LIMITS)
        other = sqlite3.connect(str(database.path), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with within(3), pytest.raises(AuditUnavailable, match="database is locked"):
            log.append(login())
        with within(3), pytest.raises(SessionsUnavailable, match="database is locked"):
            sessions.create(session("b"), LIMITS)
        assert log.search(AuditFilter(), limit=2).events == (first,)
        assert sessions.find("a") is not None
        sessions.touch("a", NOON)  # nothing to note, so nothing to wait for
        other.execute("ROLLBACK")
        other.close()
        log.append(login())


def test_a_writer_waits_for_another_that_finishes_in_time(sqlite_url: str) -> None:
    with opened(sqlite_url) as database:
        other = sqlite3.connect(str(database.path), isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ["COMMIT"])
        release.start()
        SqlAuditLog(database).append(login())
        release.join()
        other.close()


@pytest.mark.parametrize("lock", ["EXCLUSIVE", "IMMEDIATE"])
def test_a_restored_file_without_write_ahead_log_is_taken_over_once_nobody_else_uses_it(
    sqlite_url: str, lock: str
) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    assert other.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    other.execute(f"BEGIN {lock}")
    with opened(sqlite_url) as database:
        with within(3), pytest.raises(AuditUnavailable, match="database is locked"):
            SqlAuditLog(database).append(login())
        release = threading.Timer(0.3, other.execute, ["COMMIT"])
        release.start()
        SqlAuditLog(database).append(login())
        release.join()
        with database.reading(AuditUnavailable) as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
            assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2  # FULL
            assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    other.close()


def test_a_missing_file_is_unavailable_and_not_made_anew(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/broker.db") as database:
        assert_everything_is_unavailable(database)
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_unavailable_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    path.write_text("not a database" * 100)
    with opened(f"sqlite:///{path}") as database:
        assert_everything_is_unavailable(database)
    assert path.read_text() == "not a database" * 100


def test_events_after_the_file_was_replaced_go_into_the_new_one(sqlite_url: str, tmp_path: Path) -> None:
    with opened(sqlite_url) as database:
        assert database.path is not None
        log = SqlAuditLog(database)
        backup = tmp_path / "backup.db"
        shutil.copy(database.path, backup)
        log.append(login())
        backup.replace(database.path)
        for suffix in ("-wal", "-shm"):
            Path(f"{database.path}{suffix}").unlink()
        after = login()
        log.append(after)
        assert log.search(AuditFilter(), limit=5).events == (after,)
        database.path.unlink()
        assert_everything_is_unavailable(database)


def in_child(work: Callable[[], None]) -> None:
    """Run in a process of its own, whose limits and rights may be changed; fail as it fails."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - reported, and the child must not run the tests that follow
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def append_many(log: SqlAuditLog) -> None:
    for _ in range(200):
        log.append(login(reason="x" * 50_000))


def test_a_full_disk_is_unavailable_and_what_was_written_stays_whole(sqlite_url: str) -> None:
    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with opened(sqlite_url) as database:
            log = SqlAuditLog(database)
            log.append(login(-1, reason="before"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
            with pytest.raises(AuditUnavailable, match=r"disk I/O error|database or disk is full"):
                append_many(log)
            log.search(AuditFilter(), limit=1)
            with pytest.raises(AuditUnavailable, match=r"disk I/O error|database or disk is full"):
                log.check()

    in_child(fill)
    with opened(sqlite_url) as database:
        events = SqlAuditLog(database).search(AuditFilter(), limit=1000).events
        assert events[-1].reason == "before"
        assert 1 < len(events) < 200
        with database.reading(AuditUnavailable) as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        SqlAuditLog(database).append(login())
        SqlAuditLog(database).check()


def test_the_check_leaves_no_event_and_one_row_however_often_it_is_made(database: Database) -> None:
    log = SqlAuditLog(database)
    for _ in range(3):
        log.check()
    assert log.search(AuditFilter(), limit=1).events == ()
    with database.reading(AuditUnavailable) as connection:
        assert connection.execute(text("SELECT count(*) FROM write_check")).scalar_one() == 1


def test_a_file_that_may_only_be_read_is_unavailable(sqlite_url: str) -> None:
    with tempfile.TemporaryDirectory() as name, opened(sqlite_url) as database:
        folder = Path(name)
        SqlAuditLog(database).append(login())  # all that needs importing is imported before rights are given up
        database.dispose()
        shutil.copy(sqlite_url.removeprefix("sqlite:///"), folder / "broker.db")
        (folder / "broker.db").chmod(0o444)
        folder.chmod(0o555)

        def as_reader() -> None:
            if os.geteuid() == 0:
                os.setuid(65534)
            with opened(f"sqlite:///{folder}/broker.db") as readable, pytest.raises(AuditUnavailable):
                SqlAuditLog(readable).append(login())
            with opened(f"sqlite:///{folder}/broker.db") as readable, pytest.raises(AuditUnavailable):
                SqlAuditLog(readable).check()

        in_child(as_reader)
        folder.chmod(0o755)


# --- PostgreSQL --------------------------------------------------------------------------------------------------


def test_a_server_that_is_down_is_unavailable_at_once(postgresql: PostgresqlServer) -> None:
    with opened(postgresql.url("broker").replace(str(postgresql.port), "1")) as database, within(5):
        assert_everything_is_unavailable(database)


def test_a_server_that_never_answers_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://broker@127.0.0.1:{port}/broker"
        with opened(url) as database, within(4), pytest.raises(AuditUnavailable, match="timeout"):
            SqlAuditLog(database).check()


def test_a_restarted_server_costs_nobody_an_error(own_server: PostgresqlServer, own_url: str) -> None:
    with opened(own_url) as database:
        log = SqlAuditLog(database)
        everyone_has_a_connection = threading.Barrier(4)

        def use() -> None:
            with database.reading(AuditUnavailable):
                everyone_has_a_connection.wait(5)

        users = [threading.Thread(target=use) for _ in range(4)]
        for user in users:
            user.start()
        for user in users:
            user.join()
        own_server.stop()
        with within(4), pytest.raises(AuditUnavailable):
            log.append(login())
        own_server.start()
        for _ in range(8):
            log.append(login())
        own_server.stop()
        own_server.start()
        for _ in range(8):
            log.append(login())
        assert len(log.search(AuditFilter(), limit=100).events) == 16


def test_a_server_that_stops_answering_is_given_up_on_and_used_again_when_it_is_back(
    own_server: PostgresqlServer, own_url: str
) -> None:
    with opened(own_url) as database:
        log = SqlAuditLog(database)
        log.append(login())
        with own_server.frozen():
            with within(4), pytest.raises(AuditUnavailable, match="no answer within 2 s"):
                log.append(login())
            with within(4), pytest.raises(AuditUnavailable):
                log.append(login())
        log.append(login())
        log.check()


def test_a_log_that_cannot_grow_fails_the_check_until_it_can_though_other_tables_can(
    fresh_postgresql_url: str,
) -> None:
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    )
    with opened(fresh_postgresql_url) as database, psycopg.connect(fresh_postgresql_url, autocommit=True) as owner:
        log = SqlAuditLog(database)
        log.check()
        owner.execute(refuse)
        owner.execute("CREATE TRIGGER full_disk BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION refuse()")
        event = issuance(EventKind.ISSUANCE_INTENDED, "G1")
        with pytest.raises(AuditUnavailable, match="could not extend file"):
            log.append(event)
        for _ in range(2):
            with pytest.raises(AuditUnavailable, match="could not extend file"):
                log.check()
        owner.execute("DROP TRIGGER full_disk ON audit_event")
        for _ in range(2):
            log.check()
        assert log.search(AuditFilter(), limit=1).events == ()
        log.append(event)


def test_an_event_that_is_refused_for_itself_says_nothing_of_the_database(database: Database) -> None:
    log = SqlAuditLog(database)
    log.append(issuance(EventKind.ISSUANCE_INTENDED, "G1"))
    with pytest.raises(AuditUnavailable):
        log.append(issuance(EventKind.ISSUANCE_INTENDED, "G1"))
    log.check()


def is_written(log: SqlAuditLog) -> bool:
    try:
        log.append(login())
    except AuditUnavailable:
        return False
    return True


def test_a_backend_that_dies_under_a_statement_is_unavailable_and_replaced(own_url: str) -> None:
    with opened(own_url) as database:
        log = SqlAuditLog(database)
        log.check()
        with psycopg.connect(own_url, autocommit=True) as other:
            [(backend,)] = other.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'federation-broker'"
            ).fetchall()
        threading.Timer(0.2, os.kill, [backend, signal.SIGKILL]).start()
        with pytest.raises(AuditUnavailable), database.reading(AuditUnavailable) as connection:
            connection.execute(text("SELECT pg_sleep(0.9)"))
        # The server ends all others too, and begins anew, some time soon.
        deadline = time.monotonic() + 10
        while not is_written(log):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(log.search(AuditFilter(), limit=5).events) == 1


def test_a_table_that_somebody_locks_is_unavailable_in_time(postgresql_url: str) -> None:
    with opened(postgresql_url) as database, psycopg.connect(postgresql_url) as other:
        other.execute("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE")
        with within(3), pytest.raises(AuditUnavailable, match="canceling statement due to statement timeout"):
            SqlAuditLog(database).append(login())
        other.rollback()
        SqlAuditLog(database).append(login())


def test_a_standby_can_be_read_and_is_unavailable_for_writing_also_to_the_check(fresh_postgresql_url: str) -> None:
    set_for_database(fresh_postgresql_url, "default_transaction_read_only = on")
    with opened(fresh_postgresql_url) as database:
        with pytest.raises(AuditUnavailable, match="cannot execute INSERT in a read-only transaction"):
            SqlAuditLog(database).append(login())
        with pytest.raises(AuditUnavailable, match="in a read-only transaction"):
            SqlAuditLog(database).check()
        assert SqlAuditLog(database).search(AuditFilter(), limit=1).events == ()


def test_events_are_flushed_even_where_the_server_was_made_forgetful(fresh_postgresql_url: str) -> None:
    set_for_database(fresh_postgresql_url, "synchronous_commit = off")
    with opened(fresh_postgresql_url) as database, database.reading(AuditUnavailable) as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"


def test_what_a_crash_may_forget_does_not_wait_for_the_disk_and_what_comes_after_it_does(own_url: str) -> None:
    budget = Budget(BudgetKind.PERSON, "A" * 26, 100, timedelta(minutes=15))
    is_flushed = text("SELECT pg_current_wal_insert_lsn() = pg_current_wal_flush_lsn()")

    with opened(own_url, connections=1) as database:
        attempts, log = SqlAttempts(database), SqlAuditLog(database)

        def flushed(action: Callable[[], object]) -> int:
            """How often of twenty times."""
            times = 0
            for _ in range(20):
                action()
                with database.reading(AuditUnavailable) as connection:
                    times += connection.execute(is_flushed).scalar_one()
                    assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
            return times

        # The server writes by itself now and then, what was left and what is its own.
        assert flushed(lambda: attempts.take(budget, None, NOON)) < 10
        assert flushed(lambda: attempts.give_back(budget)) < 10
        assert flushed(lambda: log.append(login())) > 15


def set_for_database(url: str, setting: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {setting}".encode())


def test_what_the_operator_writes_in_the_address_wins(postgresql_url: str) -> None:
    address = f"{postgresql_url}?application_name=audit&options=-c%20statement_timeout%3D77"
    with opened(address) as database, database.reading(AuditUnavailable) as connection:
        assert connection.execute(text("SHOW application_name")).scalar_one() == "audit"
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "77ms"


def test_a_wrong_password_is_not_repeated(postgresql: PostgresqlServer) -> None:
    url = postgresql.url("postgres").replace(QUOTED_PASSWORD, "secret-word")
    with opened(url) as database, pytest.raises(AuditUnavailable, match="password authentication failed") as error:
        SqlAuditLog(database).check()
    assert "secret-word" not in "".join(traceback.format_exception(error.value))


# --- Both --------------------------------------------------------------------------------------------------------


def test_when_all_connections_are_busy_the_next_waits_and_then_gives_up(url: str) -> None:
    busy = "all 1 connections of this process are busy"
    with opened(url, connections=1) as database, database.reading(AuditUnavailable):  # noqa: SIM117 - one holds, one asks
        with within(3), pytest.raises(AuditUnavailable, match=busy):
            SqlAuditLog(database).check()


SECRET = "secret-word"


def test_errors_hold_neither_password_nor_values(url: str) -> None:
    errors: list[BaseException] = []
    with opened(url) as database:
        log, sessions = SqlAuditLog(database), SqlSessions(database)
        event = issuance(EventKind.ISSUANCE_INTENDED, SECRET)
        log.append(event)
        with pytest.raises(AuditUnavailable) as audit_error:
            log.append(issuance(EventKind.ISSUANCE_INTENDED, SECRET))
        errors.append(audit_error.value)
        kept = session(SECRET, person=SECRET)
        sessions.create(kept, LIMITS)
        with pytest.raises(SessionsUnavailable) as sessions_error:
            sessions.create(kept, LIMITS)
        errors.append(sessions_error.value)
        incomplete = text("INSERT INTO audit_event (id, reason) VALUES (:text, :text)")
        with pytest.raises(AuditUnavailable) as audit_error, database.writing(AuditUnavailable) as connection:
            connection.execute(incomplete, {"text": SECRET})
        errors.append(audit_error.value)
    for error in errors:
        assert error.__cause__ is not None
        told = "".join(traceback.format_exception(error))
        for secret in (SECRET, PASSWORD, QUOTED_PASSWORD):
            assert secret not in told


def test_a_failed_write_leaves_the_connection_usable(url: str) -> None:
    with opened(url, connections=1) as database:
        log = SqlAuditLog(database)
        event = login()
        log.append(event)
        for _ in range(3):
            with pytest.raises(AuditUnavailable):
                log.append(event)
        log.append(login())
        assert len(log.search(AuditFilter(), limit=5).events) == 2
