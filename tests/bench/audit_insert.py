"""How much an audit insert costs on top of the driver, and on top of the disk.

``python -m tests.bench.audit_insert [--rounds N]``. One durable write of 8 kB is 1.0; ways are interleaved, medians
count.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.core.audit import AuditEvent, EventKind, new_event_id
from tests.adapters.database.postgresql import PostgresqlServer

SCRIPTS = Path(__file__).parents[2] / "alembic"
COLUMNS = [*(field.name for field in fields(AuditEvent)), "hash"]
EVENT = AuditEvent(
    kind=EventKind.CONSOLE_REDIRECTED,
    time=datetime(2026, 11, 23, 9, 30, tzinfo=UTC),
    principal_username="hana",
    principal_id="A" * 26,
    source_address="192.0.2.7",
    user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36",
    reference_id="R" * 16,
    grant_id="0" * 32,
    entitlement="home",
    use="console",
    account="111122223333",
    role="arn:aws:iam::111122223333:role/StaffFiles",
    session_name="hana",
    source_identity="A" * 26,
    tags='{"Department":"Accounting"}',
    duration_seconds=28800,
    session_policy='{"Version":"2012-10-17","Statement":[]}' * 20,
    session_policy_sha256="1" * 64,
    packed_size=37,
    access_key_id="ASIAEXAMPLE",
    assertion_id="_0123456789abcdef",
    sts_request_id="00000000-0000-4000-8000-000000000000",
    expiry=datetime(2026, 11, 23, 17, 30, tzinfo=UTC),
    entitlements_sha256="2" * 64,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    rounds: int = parser.parse_args().rounds
    server = PostgresqlServer(durable=True)
    try:
        server.start()
        with tempfile.TemporaryDirectory() as folder:
            measure(server, Path(folder), rounds)
    finally:
        server.remove()


def measure(server: PostgresqlServer, folder: Path, rounds: int) -> None:
    postgresql_url = server.url(server.create_database())
    sqlite_url = f"sqlite:///{folder / 'broker.db'}"
    for url in (postgresql_url, sqlite_url):
        migrations.upgrade(url, SCRIPTS)
    raw_postgresql = psycopg.connect(postgresql_url, autocommit=True)
    raw_sqlite = sqlite3.connect(folder / "broker.db", isolation_level=None)
    raw_sqlite.execute("PRAGMA synchronous = FULL")
    places = ", ".join(["%s"] * len(COLUMNS))
    # The same columns with the hash already known: what any client has to do.
    into_postgresql = f"INSERT INTO audit_event ({', '.join(COLUMNS)}) VALUES ({places})".encode()  # noqa: S608 - constants
    into_sqlite = into_postgresql.decode().replace("%s", "?")
    logs = {url: SqlAuditLog(Database(url)) for url in (postgresql_url, sqlite_url)}
    disk = os.open(folder / "disk", os.O_CREAT | os.O_WRONLY)

    def row() -> list[object]:
        event = replace(EVENT, id=new_event_id())
        return [*(getattr(event, name) for name in COLUMNS[:-1]), "3" * 64]

    def raw_row_for_sqlite() -> list[object]:
        return [round(value.timestamp() * 1e6) if isinstance(value, datetime) else value for value in row()]

    def write() -> None:
        os.pwrite(disk, b"x" * 8192, 0)
        os.fdatasync(disk)

    ways: dict[str, Callable[[], object]] = {
        "8 kB write + fdatasync": write,
        "PostgreSQL, psycopg alone": lambda: raw_postgresql.execute(into_postgresql, row()),
        "PostgreSQL, SqlAuditLog": lambda: logs[postgresql_url].append(replace(EVENT, id=new_event_id())),
        "SQLite, sqlite3 alone": lambda: raw_sqlite.execute(into_sqlite, raw_row_for_sqlite()),
        "SQLite, SqlAuditLog": lambda: logs[sqlite_url].append(replace(EVENT, id=new_event_id())),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 20):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number >= 20:  # the first ones connect and prepare
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    unit = medians["8 kB write + fdatasync"]
    for name, median in medians.items():
        print(f"{name:28} {median / unit:6.2f}   ({timedelta(seconds=median).microseconds} µs)")
    for engine, alone in (("PostgreSQL", "psycopg"), ("SQLite", "sqlite3")):
        ratio = medians[f"{engine}, SqlAuditLog"] / medians[f"{engine}, {alone} alone"]
        print(f"{engine}: SqlAuditLog takes {ratio:.2f} of {alone} alone")


if __name__ == "__main__":
    main()
