"""``broker audit``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

import click

from broker.adapters.archive_folder import LocalArchiveFolder, unpacked_lines
from broker.adapters.checkpoints import CheckpointLines, PublicKeys, create_key, read_key
from broker.adapters.database import migrations
from broker.adapters.database.engine import Database, is_unreadable
from broker.adapters.database.seals import SqlSeals
from broker.adapters.database.search_tables import SqlSearchTables
from broker.cli.options import reporting, with_settings
from broker.compose import utc_now
from broker.core.archiving import verify_anchors, verify_archives
from broker.core.audit import canonical_time, printable
from broker.core.audit_export import ExportReader, export_lines, verify_export
from broker.core.errors import AuditUnavailable, Fault, SigningKeyUnusable
from broker.core.seals import BEGINNING, Anchor, ChainPoint, Checkpoint
from broker.core.verification import (
    Discrepancies,
    Verdict,
    WitnessedCheckpoint,
    in_order,
    name_hidden,
    name_silent_witness,
    name_unreadable,
    name_unsealed,
    verify,
)
from broker.resources import resource
from broker.settings import Settings, credentials_folder, load_settings, settings_path

# One question of a verification may walk over the whole log.
_PATIENCE: Final = timedelta(hours=6)
# A sealer that runs needs seconds.
_MAY_WAIT: Final = timedelta(minutes=1)
_MOST_UNSEALED: Final = 20
_DAY: Final = "%Y-%m-%d"
_MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"

_a_file = click.Path(path_type=Path, dir_okay=False)
_a_folder = click.Path(path_type=Path, file_okay=False)
_a_time = click.DateTime([_DAY, _MOMENT])


@click.group()
def audit() -> None:
    """The proof that the audit is what it was."""


@audit.group()
def key() -> None:
    """The key that signs checkpoints of the audit."""


@key.command("new")
@with_settings
@reporting
def key_new(settings_file: Path | None) -> None:
    """Make the key. All nodes need the same one: copy its file."""
    settings = load_settings(settings_path(settings_file))
    made = create_key(settings.audit.checkpoint_key)
    click.echo(f"Key {made.id} is in {settings.audit.checkpoint_key}.")
    click.echo("Next: give `broker audit key public` to whoever verifies the audit.")


@key.command("public")
@with_settings
@reporting
def key_public(settings_file: Path | None) -> None:
    """Print its public half, for `broker audit verify --public-key`."""
    settings = load_settings(settings_path(settings_file))
    click.echo(read_key(settings.audit.checkpoint_key, credentials_folder()).public_pem(), nl=False)


@audit.command("verify")
@click.option("--export", "export_file", type=click.File("rb"), help="An export or an archive; - for the input.")
@click.option(
    "--public-key", "public_keys", type=_a_file, multiple=True, help="PEM; otherwise that of audit.checkpoint_key."
)
@click.option(
    "--checkpoints",
    "checkpoint_files",
    type=_a_file,
    multiple=True,
    help="A checkpoint file to compare with, besides that of audit.checkpoint_file.",
)
@click.option("--archives", type=_a_folder, help="Read the archives in this folder too, not those of the settings.")
@with_settings
@reporting
def audit_verify(
    export_file: IO[bytes] | None,
    public_keys: Sequence[Path],
    checkpoint_files: Sequence[Path],
    archives: Path | None,
    settings_file: Path | None,
) -> None:
    """Recompute the audit's hashes, chain and signatures, and name what does not fit.

    Exits 0 when everything fits, 1 when anything does not. An export needs no settings when --public-key is given.
    """
    if export_file is not None and public_keys:
        keys = _keys(public_keys)
        report(_verify_export(export_file, keys, checkpoint_files))
        return
    settings = load_settings(settings_path(settings_file))
    if public_keys:
        keys = _keys(public_keys)
    else:
        own = read_key(settings.audit.checkpoint_key, credentials_folder())
        keys = PublicKeys([(str(settings.audit.checkpoint_key), own.public_pem())])
    if export_file is not None:
        report(_verify_export(export_file, keys, checkpoint_files))
        return
    own_file = settings.audit.checkpoint_file
    missing = None
    if own_file is not None and own_file not in checkpoint_files:
        if own_file.exists():
            checkpoint_files = (*checkpoint_files, own_file)
        else:
            missing = own_file
    with checked_database(settings) as database:
        folder = archives or settings.audit.archive_folder
        verdict = _verify_database(SqlSeals(database), keys, checkpoint_files, folder, missing)
        found = Discrepancies()
        with _naming_the_unreadable(found):
            for one in SqlSearchTables(database).hidden():
                name_hidden(found, one)
        report(verdict.and_also(found))


@audit.command("mend-search")
@click.option(
    "--owner-url", help="PostgreSQL: the database as the user who owns the tables, as for `broker db upgrade`."
)
@with_settings
@reporting
def audit_mend_search(owner_url: str | None, settings_file: Path | None) -> None:
    """Write again what searches read beside the events, where `broker audit verify` found it missing.

    It is made from the events, and changes none of them.
    """
    settings = load_settings(settings_path(settings_file))
    with checked_database(settings, owner_url) as database:
        written = SqlSearchTables(database).mend()
    click.echo(f"Wrote {written} rows." if written else "Nothing was missing.")


@audit.command("export")
@click.option("--since", type=_a_time, help="Begin with the events of this day or moment (UTC).")
@click.option("--until", type=_a_time, help="End before this day or moment (UTC).")
@with_settings
@reporting
def audit_export(since: datetime | None, until: datetime | None, settings_file: Path | None) -> None:
    """Write the sealed audit as JSON lines that can be verified without the database.

    The chain has no gaps, so an export holds everything between its first and its last event, and goes on to the
    next checkpoint. What was archived is not in it: an archive is an export of its own.
    """
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until")
    settings = load_settings(settings_path(settings_file))
    with checked_database(settings) as database:
        for line in _export(SqlSeals(database), _utc(since), _utc(until)):
            click.echo(line)


def report(verdict: Verdict) -> None:
    """Say what a verification came to, and exit 1 when something does not fit.

    What it quotes is whatever somebody made of an export or a row: it may neither pass for a line of ours nor move the
    cursor of a terminal.
    """
    for note in verdict.notes:
        click.echo(f"note: {printable(note)}")
    proved = verdict.proved
    if proved is not None:
        click.echo(
            f"Proved up to position {proved.position}, by the checkpoint of {canonical_time(proved.time)}"
            f" (key {proved.key_id}); {verdict.events} sealed events read."
        )
    elif verdict.discrepancies or verdict.events:
        click.echo(f"Nothing is proved; {verdict.events} sealed events read.")
    else:
        click.echo("No event has been sealed yet.")
    for discrepancy in verdict.discrepancies:
        click.echo(f"broker: {printable(str(discrepancy))}", err=True)
    if verdict.unlisted:
        click.echo(f"broker: and {verdict.unlisted} more", err=True)
    if verdict.discrepancies:
        sys.exit(1)


def _verify_database(
    seals: SqlSeals, keys: PublicKeys, files: Sequence[Path], folder: Path | None, missing: Path | None
) -> Verdict:
    # In this order: what a file holds now was in the database before.
    witnesses = [CheckpointLines(path) for path in files]
    last = seals.length()
    anchors = seals.anchors()
    start = seals.beginning()
    found, verdict = _walk(seals, keys, witnesses, anchors, start, last, folder)
    if found.listed and seals.beginning() != start:
        # Rows that are archived went while they were read.
        anchors = seals.anchors()
        found, verdict = _walk(seals, keys, witnesses, anchors, anchors[-1].checkpoint.point, last, folder)
    notes = []
    if last:
        for place in (*(one.place for one in witnesses if one.newest is None), *([missing] if missing else [])):
            name_silent_witness(found, str(place))
        notes += [_how_far(one, one.newest, last) for one in witnesses if one.newest is not None]
    if anchors:
        notes.append(_look_into_archives(anchors, keys, files, folder, found))
    with _naming_the_unreadable(found):
        for one in seals.unsealed(utc_now() - _MAY_WAIT, limit=_MOST_UNSEALED):
            name_unsealed(found, one)
    return verdict.with_more(found, (*notes, *_ignored(witnesses)))


@contextmanager
def _naming_the_unreadable(found: Discrepancies) -> Iterator[None]:
    """What was found before is reported all the same."""
    try:
        yield
    except AuditUnavailable as error:
        if not is_unreadable(error):
            raise
        name_unreadable(found, str(error))


def _walk(
    seals: SqlSeals,
    keys: PublicKeys,
    witnesses: Sequence[CheckpointLines],
    anchors: Sequence[Anchor],
    start: ChainPoint,
    last: int,
    folder: Path | None,
) -> tuple[Discrepancies, Verdict]:
    found = Discrepancies()
    verify_anchors(anchors, keys, found, files_are_read=folder is not None)
    return found, verify(
        in_order(
            seals.sealed_events(last, after=start.position),
            (WitnessedCheckpoint(one, "the database") for one in seals.checkpoints(last)),
            (WitnessedCheckpoint(one.checkpoint, "the record of archives") for one in anchors),
            *(_witnessed(lines) for lines in witnesses),
        ),
        keys,
        found,
        start=start,
    )


def _look_into_archives(
    anchors: Sequence[Anchor], keys: PublicKeys, files: Sequence[Path], folder: Path | None, found: Discrepancies
) -> str:
    archived = f"positions 1 to {anchors[-1].last} are in {len(anchors)} archives"
    if folder is None:
        return f"{archived}, which were not looked at: give their folder with --archives"

    def witnesses() -> Iterator[Iterator[WitnessedCheckpoint]]:
        return (_witnessed(CheckpointLines(path), may_be_ahead=True) for path in files)

    events = verify_archives(anchors, LocalArchiveFolder(folder), keys, found, witnesses)
    return f"{archived} in {folder}: {events} events read there and proved"


def _verify_export(lines: IO[bytes], keys: PublicKeys, files: Sequence[Path]) -> Verdict:
    witnesses = [CheckpointLines(path) for path in files]
    export = ExportReader(unpacked_lines(lines, lines.name), lines.name)
    found = Discrepancies()
    verdict = verify_export(export, keys, found, [_witnessed(one, may_be_ahead=True) for one in witnesses])
    return verdict.with_more(found, _ignored(witnesses))


def _witnessed(lines: CheckpointLines, *, may_be_ahead: bool = False) -> Iterator[WitnessedCheckpoint]:
    return (WitnessedCheckpoint(one, lines.place, may_be_ahead) for one in lines)


def _how_far(witness: CheckpointLines, newest: Checkpoint, last: int) -> str:
    behind = (
        f": what came after is signed in the database alone, which ends at {last}" if newest.position < last else ""
    )
    return f"compared with {witness.place}, which goes to position {newest.position}{behind}"


def _ignored(witnesses: Sequence[CheckpointLines]) -> tuple[str, ...]:
    return tuple(
        f"{one.place}: {len(one.ignored)} lines are no checkpoints, the first is line {one.ignored[0]}"
        for one in witnesses
        if one.ignored
    )


def _export(seals: SqlSeals, since: datetime | None, until: datetime | None) -> Iterator[str]:
    range_of = seals.positions_of(since, until)
    archived = seals.newest_archived()
    if range_of is None and archived is not None:
        raise AuditUnavailable(f"no event of that time is here; positions 1 to {archived.last} are in archives")
    if range_of is None:
        raise AuditUnavailable("no event of that time has been sealed")
    first, last = range_of
    if archived is not None and first == archived.last + 1:
        # Nobody should take this for all of the time that was asked for.
        click.echo(f"note: the export begins with position {first}: what was before is in archives", err=True)
    signed = seals.signed_position(last)
    last = last if signed is None else signed
    before = seals.point(first - 1) if first > 1 else BEGINNING
    if before is None:
        raise AuditUnavailable(f"the seal at position {first - 1} is missing: run `broker audit verify`")
    yield from _export_between(seals, before, last)


def _export_between(seals: SqlSeals, before: ChainPoint, last: int) -> Iterator[str]:
    checkpoints = (WitnessedCheckpoint(one, "the database") for one in seals.checkpoints(last, after=before.position))
    yield from export_lines(before, in_order(seals.sealed_events(last, after=before.position), checkpoints))


def _keys(paths: Sequence[Path]) -> PublicKeys:
    pems = []
    for path in paths:
        try:
            pems.append((str(path), path.read_bytes()))
        except OSError as error:
            raise SigningKeyUnusable(Fault(str(path), f"it cannot be read: {error.strerror}")) from error
    return PublicKeys(pems)


@contextmanager
def checked_database(settings: Settings, owner_url: str | None = None) -> Iterator[Database]:
    """The database for questions that take long.

    Args:
        settings: name it.
        owner_url: the same as another user; None for the broker's own.

    Raises:
        DatabaseNotReady: it is not of this version.
        AuditUnavailable: no answer.
        SettingsInvalid: an address is wrong.
    """
    database = Database(owner_url or settings.database.url, connections=2, statement_timeout=_PATIENCE)
    try:
        migrations.check_ready(database, resource("alembic"))
        yield database
    finally:
        database.dispose()


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
