"""Finding and awaiting the servers that tests start."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

_STARTS_WITHIN_SECONDS: Final = 20
_MOST_SHOWN: Final = 2000


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def program(name: str, package: str) -> str:
    """Where a server's program is; its absence fails the test and names the Debian package."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install {package}")
    return found


def wait_for_port(host: str, port: int, process: subprocess.Popen[bytes], log: Path | None = None) -> None:
    """Wait until the server takes connections; if it does not, the test fails with the last it has said."""
    until = time.monotonic() + _STARTS_WITHIN_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"the server on {host}:{port} ended with {process.returncode}{_said(log)}")
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.02)
    pytest.fail(f"the server on {host}:{port} did not start within {_STARTS_WITHIN_SECONDS} s{_said(log)}")


def _said(log: Path | None) -> str:
    text = log.read_text(errors="replace")[-_MOST_SHOWN:].strip() if log is not None and log.exists() else ""
    return f": {text}" if text else ""
