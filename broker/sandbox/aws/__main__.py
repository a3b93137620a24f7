"""``python -m broker.sandbox.aws``: the AWS stand-in in a process of its own, on loopback only."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets

from broker.sandbox.aws.front_door import FrontDoor
from broker.sandbox.aws.ministack_plugin import Ministack, WrongMinistackError
from broker.sandbox.aws.organization import Administrator, found_accounts
from broker.sandbox.aws.partition import PARTITIONS, Partition
from broker.sandbox.aws.sessions import SessionStore
from broker.sandbox.aws.signin import SignIn

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

LOOPBACK = "127.0.0.1"
_GRACE_SECONDS = 1.0


class CannotStartError(Exception):
    """The stand-in cannot start; the text says why in one line."""


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop, or until standard input ends (the parent is gone). Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m broker.sandbox.aws", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps everything; made with mode 0700")
    parser.add_argument("--port", type=int, default=0, help="of the AWS origin; 0 takes a free one")
    parser.add_argument("--signin-port", type=int, default=0, help="of console sign-in; 0 takes a free one")
    parser.add_argument("--partition", choices=sorted(PARTITIONS), default="aws", help="whose names and hosts it has")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        with _only_one(options.state):
            aws, signin = _listen(options.port), _listen(options.signin_port)
            asyncio.run(_serve(options.state, aws, signin, PARTITIONS[options.partition]))
    except (CannotStartError, WrongMinistackError) as error:
        print(f"The AWS stand-in cannot start: {error}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """Hold the state folder; two processes would overwrite each other's files."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.chmod(0o700)
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStartError(f"the state folder {state}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise CannotStartError(f"the state folder {state} is in use by another one") from error
    try:
        yield
    finally:
        os.close(lock)


def _listen(port: int) -> socket.socket:
    # With the protocol named, asyncio sets TCP_NODELAY; without, each answer waits 40 ms for a delayed ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "not a port"
        raise CannotStartError(f"port {port} on {LOOPBACK}: {reason}") from error
    listener.listen(100)
    listener.setblocking(False)  # noqa: FBT003  the socket API
    return listener


def _administrator(state: Path) -> Administrator:
    """Read the administrator's keys, or make them at the first start."""
    path = state / "administrator.json"
    if not path.exists():
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
        keys = {
            "AccessKeyId": "AKIA" + "".join(secrets.choice(alphabet) for _ in range(16)),
            "SecretAccessKey": secrets.token_urlsafe(30),
        }
        made = path.with_suffix(".new")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(keys, file)
        made.replace(path)
    keys = json.loads(path.read_text())
    return Administrator(keys["AccessKeyId"], keys["SecretAccessKey"])


async def _serve(state: Path, aws: socket.socket, signin: socket.socket, partition: Partition) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ministack = Ministack(state, partition)
    administrator = _administrator(state)
    await found_accounts(ministack, administrator)
    sessions = SessionStore(state / "sessions.jsonl", datetime.now(UTC))
    aws_endpoint = f"http://{LOOPBACK}:{aws.getsockname()[1]}"
    signin_endpoint = f"http://{LOOPBACK}:{signin.getsockname()[1]}"
    apps = (
        (FrontDoor(ministack, sessions, administrator), aws),
        (SignIn(sessions, aws_endpoint, signin_endpoint, partition), signin),
    )
    config = Config()
    config.accesslog = None  # URLs of console sign-in hold tokens
    config.loglevel = "WARNING"
    config.graceful_timeout = _GRACE_SECONDS
    config.include_server_header = False
    config.include_date_header = True  # ministack turns the default off
    servers = [
        asyncio.create_task(
            worker_serve(
                ASGIWrapper(cast("ASGIFramework", app)),
                config,
                sockets=Sockets([], [listener], []),
                shutdown_trigger=stop.wait,
            )
        )
        for app, listener in apps
    ]
    threading.Thread(target=_watch_parent, args=(loop, stop), daemon=True).start()
    ready = {
        "aws_endpoint": aws_endpoint,
        "signin_endpoint": signin_endpoint,
        "aws_admin": {
            "AccessKeyId": administrator.access_key_id,
            "SecretAccessKey": administrator.secret_access_key,
        },
    }
    print(json.dumps(ready), flush=True)
    await asyncio.gather(*servers)
    ministack.save()


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stop when standard input ends: whoever started this process holds the other end."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop is already closed
        loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    sys.exit(main())
