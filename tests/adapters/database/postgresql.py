"""A PostgreSQL server of the tests' own: a private folder, a free loopback port, gone afterwards.

Use the ``postgresql`` fixture (one server for the whole run) and give each test a database of its own, or start a
:class:`PostgresqlServer` where the test stops, freezes or restarts it.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

BIN = Path("/usr/lib/postgresql/15/bin")
USER = "broker"
PASSWORD = "p4ss:w@rd/of?the%database"
QUOTED_PASSWORD = "p4ss%3Aw%40rd%2Fof%3Fthe%25database"


class PostgresqlServer:
    """One server.

    Args:
        durable: flush to disk as in production; only measurements need it.
    """

    def __init__(self, *, durable: bool = False) -> None:
        if not (BIN / "postgres").exists():
            pytest.fail("these tests need PostgreSQL 15: apt-get install postgresql-15")
        self.folder = Path(tempfile.mkdtemp(prefix="broker-postgresql-"))
        self.port = _free_port()
        self._durable = durable
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        password_file = self.folder / "password"
        password_file.write_text(PASSWORD)
        if os.geteuid() == 0:
            account = pwd.getpwnam(_account())
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            os.chown(password_file, account.pw_uid, account.pw_gid)
        subprocess.run(
            [
                *_unprivileged(),
                *(BIN / "initdb", "--pgdata", self.folder / "data", "--username", USER, "--pwfile", password_file),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd="/",
        )

    def start(self) -> None:
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder}
        if not self._durable:
            settings |= {"fsync": "off"}
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_unprivileged(), BIN / "postgres", "-D", self.folder / "data", *arguments],
                stdout=log,
                stderr=log,
                cwd="/",
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        assert self._process is not None
        for _ in range(200):
            try:
                psycopg.connect(self.conninfo("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None:
                    pytest.fail(f"PostgreSQL ended: {(self.folder / 'log').read_text()}")
                time.sleep(0.05)
            else:
                return
        pytest.fail(f"PostgreSQL does not answer: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        """Shut down at once, as a service restart does: sessions are ended, nothing is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """SIGKILL to all of its processes: nothing is written that was not, no session is told."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for process in [self._process.pid, *map(int, children)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait(30)
        self._process = None

    def remove(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # without writing what is thrown away next
            self._process.wait(30)
        shutil.rmtree(self.folder)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While it lasts, connections stay open and nothing answers: a stalled disk, a paused machine."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        processes = [self._process.pid, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def conninfo(self, database: str) -> str:
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database
        )

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{QUOTED_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create_database(self, options: str = "") -> str:
        """A new database; its name."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} {options}".encode())
        return name


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _account() -> str:
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"


def _unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root; and it must not outlive the tests."""
    command = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() == 0:
        account = pwd.getpwnam(_account())
        command += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return [*command, "--"]
