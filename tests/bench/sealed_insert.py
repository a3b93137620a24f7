"""Whether sealing slows the writers down: inserts into the audit while it is sealed, against the audit without seals.

``python -m tests.bench.sealed_insert [--engine postgresql|sqlite] [--writers N] [--seconds N] [--rounds N]``. Without
seals, the trigger that queues events is set aside and nobody seals. Rounds alternate; medians count. Durable, as in
production.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from broker.adapters.checkpoints import CheckpointFile, key_of
from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.core.audit import new_event_id
from broker.core.errors import AuditUnavailable
from broker.core.sealing import SealingPorts, seal_waiting, sealing_lag
from tests.adapters.database.postgresql import PostgresqlServer
from tests.bench.audit_insert import EVENT, SCRIPTS

# As in broker/sealing.py.
SEALED_EVERY: Final = 3.0
LAG_EVERY: Final = 0.2


@dataclass(frozen=True)
class Round:
    """What one round measured."""

    milliseconds: float
    inserts_per_second: float
    longest_lag: timedelta


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=7)
    parser.add_argument("--rounds", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.engine == "sqlite":
            compare(f"sqlite:///{folder}/broker.db", Path(folder), asked)
            return
        server = PostgresqlServer(durable=True)
        try:
            server.start()
            compare(server.url(server.create_database()), Path(folder), asked)
        finally:
            server.remove()


def compare(url: str, folder: Path, asked: argparse.Namespace) -> None:
    migrations.upgrade(url, SCRIPTS)
    rounds: dict[bool, list[Round]] = {False: [], True: []}
    queue(url, on=False)
    write_for(url, asked.writers, 2)  # connects, prepares, fills caches
    for _ in range(asked.rounds):
        for sealed in (False, True):
            rounds[sealed].append(one_round(url, folder, asked, sealed=sealed))
    for sealed, measured in rounds.items():
        milliseconds = statistics.median(one.milliseconds for one in measured)
        rate = statistics.median(one.inserts_per_second for one in measured)
        print(f"{'sealed' if sealed else 'plain':8} {milliseconds:6.2f} ms an insert   {rate:6.0f} a second")
    plain, with_seals = (statistics.median(one.milliseconds for one in rounds[sealed]) for sealed in (False, True))
    print(f"sealed against plain: {with_seals / plain:.2f} with {asked.writers} writers")
    lag = max(one.longest_lag for one in rounds[True])
    print(f"longest lag of the seals: {lag.total_seconds():.1f} s")


def one_round(url: str, folder: Path, asked: argparse.Namespace, *, sealed: bool) -> Round:
    queue(url, on=sealed)
    if not sealed:
        milliseconds, rate, _ = write_for(url, asked.writers, asked.seconds)
        return Round(milliseconds, rate, timedelta(0))
    # A process of its own, as another worker would be.
    stop = multiprocessing.Event()
    sealer = multiprocessing.Process(target=seal_until, args=(url, folder / "checkpoints.jsonl", stop))
    sealer.start()
    milliseconds, rate, lag = write_for(url, asked.writers, asked.seconds)
    stop.set()
    sealer.join(60)
    return Round(milliseconds, rate, lag)


def queue(url: str, *, on: bool) -> None:
    database = Database(url)
    with database.writing(AuditUnavailable) as connection:
        if connection.dialect.name == "postgresql":
            state = "ENABLE" if on else "DISABLE"
            connection.execute(text(f"ALTER TABLE audit_event {state} TRIGGER audit_event_queue"))
        else:
            connection.execute(text("DROP TRIGGER IF EXISTS audit_event_queue"))
            if on:
                connection.execute(
                    text(
                        "CREATE TRIGGER audit_event_queue AFTER INSERT ON audit_event "
                        "BEGIN INSERT INTO seal_queue (time, id) VALUES (NEW.time, NEW.id); END"
                    )
                )
    database.dispose()


def write_for(url: str, writers: int, seconds: float) -> tuple[float, float, timedelta]:
    """Median milliseconds of an insert, inserts a second, and the longest lag that was seen."""
    database, watched = Database(url, connections=writers), Database(url, connections=1)
    log, seals = SqlAuditLog(database), SqlSeals(watched)
    until = time.monotonic() + seconds
    done = threading.Event()

    def write(_: int) -> list[float]:
        times = []
        while (began := time.perf_counter()) and time.monotonic() < until:
            log.append(replace(EVENT, id=new_event_id(), time=datetime.now(UTC)))
            times.append(time.perf_counter() - began)
        return times

    def watch() -> timedelta:
        longest = timedelta(0)
        while not done.wait(LAG_EVERY):
            longest = max(longest, sealing_lag(seals, datetime.now(UTC)))
        return longest

    with ThreadPoolExecutor(writers + 1) as threads:
        lag = threads.submit(watch)
        times = [one for some in threads.map(write, range(writers)) for one in some]
        done.set()
    database.dispose()
    watched.dispose()
    return statistics.median(times) * 1000, len(times) / seconds, lag.result()


def seal_until(url: str, file: Path, stop: threading.Event) -> None:
    ports = SealingPorts(
        seals=SqlSeals(Database(url, connections=1)),
        key=key_of(Ed25519PrivateKey.generate()),
        sinks=[CheckpointFile(file)],
        clock=lambda: datetime.now(UTC),
    )
    while not stop.wait(SEALED_EVERY):
        seal_waiting(ports)
    seal_waiting(ports)


if __name__ == "__main__":
    main()
