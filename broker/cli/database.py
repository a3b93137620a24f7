"""``broker db``."""

from __future__ import annotations

from pathlib import Path

import click

from broker.adapters.database import migrations
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.cli.options import reporting, with_settings
from broker.resources import resource
from broker.sealing import OWNER_ADVICE
from broker.settings import load_settings, settings_path


@click.group()
def db() -> None:
    """The database."""


@db.command("upgrade")
@click.option(
    "--owner-url",
    help="PostgreSQL: the same database as the user who owns the tables. The user of database.url gets what the broker"
    " needs, and can neither change nor remove what the audit holds.",
)
@with_settings
@reporting
def db_upgrade(owner_url: str | None, settings_file: Path | None) -> None:
    """Bring the database's schema to this version."""
    settings = load_settings(settings_path(settings_file))
    migrations.upgrade(settings.database.url, resource("alembic"), owner_url)
    click.echo("The database is of this version.")
    # With an owner of its own it was refused.
    database = Database(settings.database.url, connections=1)
    try:
        dangers = SqlSeals(database).dangers()
    finally:
        database.dispose()
    for danger in dangers:
        click.echo(f"warning: {danger}")
    if dangers:
        click.echo(f"The audit is only as safe as the broker: {OWNER_ADVICE}.")
