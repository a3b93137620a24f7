"""`python -m broker.sandbox.directory`: the process around the server."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from broker.sandbox.authority import server_certificate
from broker.sandbox.directory.server import DirectoryServer, Limits, PortInUse, server_context
from broker.sandbox.directory.store import StateError, Store
from broker.sandbox.private_files import private_folder

_STANDARD_INPUT: Final = 0
_STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_MAX_PORT: Final = 65535


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes or standard input ends, which happens when whoever started this dies.

    Returns:
        The exit status: 0 after a stop, 1 if the server could not start (one line on standard error says why).
    """
    options = _parser().parse_args(arguments)
    limits = Limits(
        idle=timedelta(seconds=options.idle_timeout_seconds),
        message=timedelta(seconds=options.message_timeout_seconds),
    )
    # Blocked in every thread, so that whichever the kernel would have picked, sigwait below gets them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    now = _clock()
    try:
        private_folder(options.state)
        store = Store(options.state, options.ldif, now)
        certificate = server_certificate(options.state, now)
        server = DirectoryServer(
            store,
            server_context(certificate.chain_file),
            _clock,
            limits,
            ldap_port=options.ldap_port,
            ldaps_port=options.ldaps_port,
        )
    except (StateError, PortInUse) as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"{error.filename or options.state}: {error.strerror or error}")
    threading.Thread(target=_wait_for_end_of_input, daemon=True).start()
    server.start()
    ready = {
        "ldap": f"ldap://localhost:{server.ldap_port}",
        "ldaps": f"ldaps://localhost:{server.ldaps_port}",
        "ca_file": str(certificate.ca_file.resolve()),
    }
    print(json.dumps(ready), flush=True)
    signal.sigwait(_STOP_SIGNALS)
    server.stop()
    store.close()
    return 0


def _clock() -> datetime:
    return datetime.now(UTC)


def _failed(reason: str) -> int:
    print(f"broker.sandbox.directory: {reason}", file=sys.stderr)
    return 1


def _wait_for_end_of_input() -> None:
    try:
        while os.read(_STANDARD_INPUT, 4096):
            pass
    except OSError:
        pass  # closed from the start, or a terminal that is gone: the same end
    os.kill(os.getpid(), signal.SIGTERM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m broker.sandbox.directory",
        description="An LDAP server with the manners of Active Directory, on loopback, for demonstrations and tests. "
        "Prints one line of JSON when ready; stops on SIGTERM, SIGINT and the end of standard input.",
    )
    parser.add_argument("--ldif", type=Path, required=True, help="what a new directory is loaded from (RFC 2849)")
    parser.add_argument("--state", type=Path, required=True, help="folder of the directory and its certificates")
    for option in (("--ldap-port", "--port"), ("--ldaps-port",)):
        parser.add_argument(*option, type=_port, default=0, metavar="PORT", help="0, the default, takes a free one")
    defaults = Limits()
    parser.add_argument(
        "--idle-timeout-seconds",
        type=_seconds,
        default=defaults.idle.total_seconds(),
        help="how long a client may be silent between requests (default: %(default)g)",
    )
    parser.add_argument(
        "--message-timeout-seconds",
        type=_seconds,
        default=defaults.message.total_seconds(),
        help="how long one message, a TLS handshake or the first request may take (default: %(default)g)",
    )
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= _MAX_PORT:
        raise ValueError
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= timedelta(days=1).total_seconds():
        raise ValueError
    return seconds


if __name__ == "__main__":
    sys.exit(main())
