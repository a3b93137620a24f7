"""Starts the servers of these tests on loopback and stops them again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHECKOUT = DEPLOY.parent
_PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> Iterator[Running]:
    """A server, from when it takes connections on that port."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_it_listens(process, port, log)
        yield Running(process, port, log)
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def echo_server(log: Path, environment: Mapping[str, str] | None = None) -> AbstractContextManager[Running]:
    """The portal's own server over :mod:`tests.deploy.echo_server`."""
    port = free_port()
    return running([sys.executable, "-m", "tests.deploy.echo_server", str(port)], port, log, environment or {})


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{process.args!r} does not listen:\n{log.read_text(errors='replace')}")
