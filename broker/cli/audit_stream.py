"""``broker audit stream``."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from broker.cli.audit import audit, checked_database
from broker.cli.options import reporting, with_settings
from broker.compose import utc_now
from broker.core.errors import AuditUnavailable
from broker.core.streaming import StreamingPorts, stream_waiting
from broker.settings import STDOUT, load_settings, settings_path
from broker.streaming import sink_of, streaming_ports

_EVERY: Final = timedelta(seconds=3)


@audit.command("stream")
@click.option(
    "--to", "file", type=click.Path(path_type=Path, dir_okay=False), help="A file; otherwise standard output."
)
@click.option("--follow", is_flag=True, help="Go on until it is stopped.")
@with_settings
@reporting
def audit_stream(file: Path | None, follow: bool, settings_file: Path | None) -> None:  # noqa: FBT001 - click passes flags so
    """Send the sealed events that the SIEM does not have yet, as JSON lines in the Elastic Common Schema.

    It goes on where the last one stopped, whichever process of whichever node that was: with --follow it is the sidecar
    of a broker whose audit.stream is not set.
    """
    settings = load_settings(settings_path(settings_file))
    sink = sink_of(STDOUT if file is None else file.absolute())
    with checked_database(settings) as database:
        ports = streaming_ports(database, sink, utc_now)
        while True:
            try:
                _round(ports)
            except AuditUnavailable as error:
                # A file may have room again, and a database may come back; a pipe that was closed stays closed.
                if not follow or file is None:
                    raise
                click.echo(f"broker: {error}", err=True)
            if not follow:
                return
            time.sleep(_EVERY.total_seconds())


def _round(ports: StreamingPorts) -> None:
    done = stream_waiting(ports)
    if done.missing:
        click.echo(f"broker: {done.missing} events were gone before they were streamed", err=True)
    if done.problem is not None:
        raise AuditUnavailable(done.problem)
