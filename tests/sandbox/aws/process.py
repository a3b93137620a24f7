"""Start the AWS stand-in for a test: a real process in a folder, stopped when the test is done."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 15
_STOP_SECONDS = 5


@dataclass(frozen=True)
class StandIn:
    """A running stand-in.

    Attributes:
        aws_endpoint: STS, IAM and S3.
        signin_endpoint: console sign-in.
        aws_admin: ``AccessKeyId`` and ``SecretAccessKey`` of its administrator.
        process: the process itself, its standard input open.
        state: its folder.
    """

    aws_endpoint: str
    signin_endpoint: str
    aws_admin: dict[str, str]
    process: subprocess.Popen[str]
    state: Path


def command(state: Path, port: int = 0, signin_port: int = 0, partition: str = "aws") -> list[str]:
    """Return the command line that starts a stand-in."""
    ports = ["--port", str(port), "--signin-port", str(signin_port)]
    return [sys.executable, "-m", "broker.sandbox.aws", "--state", str(state), *ports, "--partition", partition]


@contextmanager
def running_stand_in(state: Path, port: int = 0, signin_port: int = 0, partition: str = "aws") -> Iterator[StandIn]:
    """Start a stand-in whose state is in a folder, wait until it is ready, stop it at the end.

    Raises:
        RuntimeError: it did not become ready; the text holds what it said.
    """
    process = subprocess.Popen(
        command(state, port, signin_port, partition),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
        line = process.stdout.readline() if readable else ""
        if not line:
            process.kill()
            raise RuntimeError(f"the AWS stand-in did not become ready: {process.stderr.read()}")
        yield StandIn(**json.loads(line), process=process, state=state)
    finally:
        process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()
