"""``broker keys`` and ``broker metadata``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from broker.adapters.signing_keys import SMALLEST_KEY_BITS
from broker.cli.options import reporting, with_settings
from broker.compose import sign_metadata, signing_keys, utc_now
from broker.settings import load_settings, settings_path


@click.group()
def keys() -> None:
    """The key that signs assertions."""


@keys.command("new")
@click.option(
    "--bits", type=click.IntRange(SMALLEST_KEY_BITS, 4096), default=2048, show_default=True, help="RSA key size."
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=1095,
    show_default=True,
    help="How long the certificate, and so the metadata that AWS keeps, holds.",
)
@with_settings
@reporting
def keys_new(bits: int, days: int, settings_file: Path | None) -> None:
    """Make the first signing key with its certificate, and sign the metadata."""
    settings = load_settings(settings_path(settings_file))
    key = signing_keys(settings).create_first(settings.entity_id, timedelta(days=days), bits, utc_now())
    sign_metadata(settings, key)
    click.echo(f"Key {key.id} signs from now on; its certificate holds until {key.not_after:%Y-%m-%d}.")
    click.echo("Next: give AWS the metadata (`broker metadata > metadata.xml`), as a SAML provider in each account.")


@click.command()
@click.option(
    "--sign", is_flag=True, help="Sign it anew, after a change of public_url or entity_id; AWS has to get it again."
)
@with_settings
@reporting
def metadata(sign: bool, settings_file: Path | None) -> None:  # noqa: FBT001 - click passes flags so
    """Print the signed SAML metadata of this identity provider."""
    settings = load_settings(settings_path(settings_file))
    keys = signing_keys(settings)
    if sign:
        sign_metadata(settings, keys.active(utc_now()))
    click.echo(keys.metadata(), nl=False)
