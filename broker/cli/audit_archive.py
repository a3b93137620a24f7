"""``broker audit archive``."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from broker.adapters.archive_folder import LocalArchiveFolder
from broker.adapters.checkpoints import PublicKeys, read_key
from broker.adapters.database.archives import SqlArchives
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.stream_cursor import SqlStreamCursor
from broker.cli.audit import audit, checked_database
from broker.cli.operator import operating_user
from broker.cli.options import reporting, with_settings
from broker.compose import utc_now
from broker.core.archiving import ArchivingPorts, Cut, Retained, archive, finish_removal, plan
from broker.core.audit import canonical_time
from broker.settings import credentials_folder, load_settings, settings_path

# After each batch that is removed; on SQLite it took the writers' turn for less.
_PAUSE_SECONDS: Final = 0.05


@audit.command("archive")
@click.option(
    "--before",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
    required=True,
    help="Archive events from before this day or moment (UTC).",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder for the file; otherwise audit.archive_folder.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be archived, and change nothing.")
@click.option("--ignore-stream", is_flag=True, help="Archive also what was not sent to the SIEM (audit.stream).")
@click.option(
    "--owner-url", help="PostgreSQL: the database as the user who owns the tables, as for `broker db upgrade`."
)
@with_settings
@reporting
def audit_archive(
    before: datetime,
    folder: Path | None,
    dry_run: bool,  # noqa: FBT001 - click passes flags so
    ignore_stream: bool,  # noqa: FBT001 - as above
    owner_url: str | None,
    settings_file: Path | None,
) -> None:
    """Move old events out of the database, into a compressed file that proves itself.

    Only events that are sealed, and whose sessions are over, in the order of their seals. The file is an export:
    `broker audit verify --export FILE` reads it. It is flushed and verified before the first row is removed. Broken
    off at any point, run it again.
    """
    settings = load_settings(settings_path(settings_file))
    now, limit = utc_now(), before.replace(tzinfo=UTC)
    if limit > now:
        raise click.BadParameter("it is in the future", param_hint="--before")
    folder = folder or settings.audit.archive_folder
    if folder is None and not dry_run:
        raise click.UsageError("no folder for the file: give --to, or set audit.archive_folder")
    with checked_database(settings, owner_url) as database:
        log = SqlArchives(database)
        streamed = None if ignore_stream else SqlStreamCursor(database).begun()
        if streamed is None and settings.audit.stream is not None and not ignore_stream:
            streamed = 0
        if dry_run or folder is None:
            _say_plan(*plan(log, limit, now, streamed))
            return
        log.check_may_remove()
        key = read_key(settings.audit.checkpoint_key, credentials_folder())
        archives = LocalArchiveFolder(folder)
        ports = ArchivingPorts(
            log=log,
            folder=archives,
            key=key,
            signatures=PublicKeys([(str(settings.audit.checkpoint_key), key.public_pem())]),
            append=SqlAuditLog(database).append,
            clock=utc_now,
            pause=lambda: time.sleep(_PAUSE_SECONDS),
        )
        with archives.alone():
            finished = finish_removal(ports)
            if finished is not None:
                click.echo(f"Finished what was broken off: the events in {finished.file} are removed.")
            cut, retained = plan(log, limit, now, streamed)
            if cut is None:
                _say_plan(cut, retained)
                return
            made = archive(ports, cut, _operator())
    click.echo(f"Archived {_events(cut)}.")
    click.echo(f"They are in {folder / made.file}, SHA-256 {made.sha256}, signed by key {made.checkpoint.key_id}.")
    click.echo("Keep that file: `broker audit verify --archives FOLDER` names it if it is missing or changed.")


def _say_plan(cut: Cut | None, retained: Retained | None) -> None:
    click.echo("Nothing to archive." if cut is None else f"Would archive {_events(cut)}, to {cut.file}.")
    if retained is not None:
        click.echo(f"The event at position {retained.position} stays, and what was sealed after it: {retained.reason}.")


def _events(cut: Cut) -> str:
    return (
        f"{cut.events} events, from {canonical_time(cut.since)} to {canonical_time(cut.until)}"
        f" (positions {cut.start.position + 1} to {cut.checkpoint.position})"
    )


def _operator() -> str:
    return f"{operating_user()} on {socket.gethostname()}"
