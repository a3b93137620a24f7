"""``broker db``."""

from __future__ import annotations

from pathlib import Path

import click

from broker.adapters.database import migrations
from broker.cli.options import reporting, with_settings
from broker.resources import resource
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
