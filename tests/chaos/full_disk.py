"""A full disk: nothing is issued, everybody is told, and it goes on by itself once there is space."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg

from tests.adapters.database.postgresql import PostgresqlServer
from tests.chaos.broker_process import BrokerProcess
from tests.flow.demo_process import Answer, Demo, PortalClient, csrf_token

# Each worker keeps what it found for five seconds, and a client does not choose its worker.
_SEEN_WITHIN_SECONDS = 40.0
_IN_A_ROW = 6
_TMPFS_BYTES = 48 * 1024 * 1024


def assert_outlived(broker: BrokerProcess, demo: Demo, full: AbstractContextManager[None]) -> None:
    """Go through it.

    Args:
        full: the disk of the database is full while it lasts.
    """
    person = PortalClient(broker.address)
    token = csrf_token(person.sign_in("alice", demo.password("alice")))
    workers = set(broker.workers())

    def take() -> Answer:
        return person.post("/issue/home/credentials", {"csrf_token": token})

    def readiness() -> tuple[int, list[str]]:
        # Somebody asks for credentials meanwhile: that is how a worker learns that the log itself cannot grow.
        take()
        answer = person.get("/readyz")
        return answer.status, json.loads(answer.text)["failing"]

    assert take().status == 200
    with full:
        _until(lambda: take().status, 503)
        page = take()
        assert "AWS_SECRET_ACCESS_KEY" not in page.text
        assert page.page.xpath("//main//h1"), page.text
        assert page.page.xpath("//main//code"), "the reference id"
        assert PortalClient(broker.address).sign_in("bob", demo.password("bob")).status == 503
        _until(readiness, (503, ["database"]))
        assert broker.status("/healthz") == 200
        # What is wrong is for operators, not for whoever asks.
        assert "is full" in _reasons(broker) or "No space left" in _reasons(broker) or "I/O error" in _reasons(broker)
    _until(readiness, (200, []))
    assert take().status == 200
    assert set(broker.workers()) == workers, "a worker was restarted"


@contextmanager
def limited_files(broker: BrokerProcess) -> Iterator[None]:
    """The workers can write no file any more."""
    broker.limit_files(0)
    try:
        yield
    finally:
        broker.limit_files(None)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A filesystem of its own in memory; needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte is left on it."""
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (1024 * 1024, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
        yield
    finally:
        filler.unlink(missing_ok=True)


def database_on(server: PostgresqlServer, disk: Path) -> str:
    """A new database whose tables lie on that disk; the server's log of changes does not."""
    tables = disk / "tables"
    tables.mkdir()
    if os.geteuid() == 0:
        shutil.chown(tables, server.folder.owner())
        disk.chmod(0o755)
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{tables}'".encode())
    return server.create_database("TABLESPACE small")


def _until(found: Callable[[], object], wanted: object) -> None:
    deadline = time.monotonic() + _SEEN_WITHIN_SECONDS
    in_a_row = 0
    while in_a_row < _IN_A_ROW:
        last = found()
        in_a_row = in_a_row + 1 if last == wanted else 0
        assert time.monotonic() < deadline, f"{last} instead of {wanted}"
        time.sleep(0.05)


def _reasons(broker: BrokerProcess) -> str:
    lines = broker.log.read_text(errors="replace").splitlines()
    return " ".join(line for line in lines if "not ready" in line and "database" in line)
