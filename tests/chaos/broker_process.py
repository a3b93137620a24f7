"""A broker with worker processes that can be killed, and what is known of them from outside."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.database import migrations
from broker.resources import resource as shipped
from tests.flow.demo_process import Demo

WORKERS = 2
_ANSWERS_WITHIN_SECONDS = 20.0


@dataclass
class BrokerProcess:
    """``broker serve``: its parent process, which is never killed, and its workers."""

    process: subprocess.Popen[bytes]
    address: str
    settings: Path
    database: str
    log: Path

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children if not _is_dead(int(child))]

    def worker_at(self, port: int) -> int | None:
        """The worker whose connection has that port on its side."""
        inode = _inode_of(port)
        for worker in self.workers():
            with suppress(OSError):
                for one in Path(f"/proc/{worker}/fd").iterdir():
                    with suppress(OSError):
                        if str(one.readlink()) == f"socket:[{inode}]":
                            return worker
        return None

    def kill(self, worker: int) -> bool:
        """SIGKILL: nothing in the worker runs any more, no handler and no ``finally``."""
        try:
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def limit_files(self, size: int | None) -> None:
        """No worker can write beyond that size in any file, as on a full disk; None: they can again."""
        for worker in self.workers():
            with suppress(ProcessLookupError):
                hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def wait_until_it_answers(self, path: str = "/healthz", status: int = 200) -> float:
        """How many seconds that took; all workers are there again."""
        began = time.monotonic()
        while True:
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
            if len(self.workers()) == WORKERS and self.status(path) == status:
                return time.monotonic() - began
            assert time.monotonic() - began < _ANSWERS_WITHIN_SECONDS, f"{path} is not {status} again"
            time.sleep(0.01)

    def status(self, path: str) -> int | None:
        """None when nobody answers."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as answer:  # noqa: S310 - our own http address
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return None


@contextmanager
def serving(demo: Demo, sts: str, database: str, name: str) -> Iterator[BrokerProcess]:
    """A broker beside the demo's: the same keys, directory and entitlements, a database of its own."""
    port = _free_port()
    text = demo.settings.read_text(encoding="utf-8")
    for pattern, value in (
        (r"^public_url = .*", f'public_url = "http://localhost:{port}"'),
        (r"^port = .*", f"port = {port}\nworkers = {WORKERS}\nthreads = 6"),
        (r"^url = .*", f'url = "{database}"'),
        (r"^checkpoint_file = .*", f'checkpoint_file = "{name}-checkpoints.jsonl"'),
    ):
        text, found = re.subn(pattern, value.replace("\\", r"\\"), text, flags=re.MULTILINE)
        assert found == 1, pattern
    # The provider of the broker's own roles trusts the demo's address alone, and revoking is not what is tried here.
    text, found = re.subn(r"^\[own_roles\]\n(?:(?!\[).*\n)*", "", text, flags=re.MULTILINE)
    assert found == 1, "[own_roles]"
    settings = demo.folder / f"{name}.toml"
    settings.write_text(text, encoding="utf-8")
    migrations.upgrade(database, shipped("alembic"))
    log = demo.folder / f"{name}.log"
    # Through a pipe: a limit on the size of files must not be one on the log.
    with log.open("wb") as kept, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=kept) as writer:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.served", str(settings), sts, demo.described["signin_endpoint"]],
            stdin=subprocess.DEVNULL,
            stdout=writer.stdin,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_PROXY": "127.0.0.1,localhost"},
        )
        broker = BrokerProcess(process, f"http://localhost:{port}", settings, database, log)
        try:
            broker.wait_until_it_answers("/readyz")
            yield broker
        finally:
            process.terminate()
            process.wait(60)


def _is_dead(process: int) -> bool:
    """Gone, or killed and not buried by its parent yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _inode_of(port: int) -> str:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if int(columns[1].rpartition(":")[2], 16) == port:
            return columns[9]
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
