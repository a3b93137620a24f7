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
@with_settings
@reporting
def db_upgrade(settings_file: Path | None) -> None:
    """Bring the database's schema to this version."""
    settings = load_settings(settings_path(settings_file))
    migrations.upgrade(settings.database.url, resource("alembic"))
    click.echo("The database is of this version.")
