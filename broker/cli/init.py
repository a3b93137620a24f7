"""``broker init``."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Final

import click

from broker.adapters.checkpoints import create_key
from broker.cli.options import reporting
from broker.core.errors import ConfigurationInvalid, Fault
from broker.resources import resource

_SECRET_BYTES: Final = 48


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@reporting
def init(folder: Path) -> None:
    """Put example settings, example entitlements, a fresh secret and a key for the audit's checkpoints into FOLDER."""
    targets = {name: folder / name for name in ("broker.toml", "entitlements.toml", "secret", "checkpoint-key.pem")}
    present = [
        Fault(str(path), "it is there already; nothing was changed") for path in targets.values() if path.exists()
    ]
    if present:
        raise ConfigurationInvalid(*present)
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        for name in ("broker.toml", "entitlements.toml"):
            shutil.copyfile(resource(f"deploy/{name}"), targets[name])
        descriptor = os.open(targets["secret"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
        create_key(targets["checkpoint-key.pem"])
    except OSError as error:
        raise ConfigurationInvalid(
            Fault(str(error.filename or folder), f"cannot be written: {error.strerror}")
        ) from error
    click.echo(f"Written: {', '.join(str(path) for path in targets.values())}")
    click.echo(
        "Next: edit broker.toml and entitlements.toml, and put the service account's password into bind-password"
    )
    click.echo("(mode 0600); then `broker keys new` and `broker db upgrade`.")
