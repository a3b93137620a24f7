"""The ``broker`` command: exits 0 on success, 1 on failure with its reasons on stderr, 2 on wrong usage."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec

import click

from broker.adapters.database import migrations
from broker.adapters.signing_keys import SMALLEST_KEY_BITS
from broker.app import create_app
from broker.compose import Broker, compose, sign_metadata, signing_keys, utc_now
from broker.core.entitlements import Entitlement
from broker.core.entitlements_file import parse_entitlements
from broker.core.errors import (
    BrokerError,
    ConfigurationInvalid,
    EntitlementsInvalid,
    Fault,
    LoginRejected,
    PrincipalGone,
)
from broker.core.principal import Principal
from broker.resources import resource
from broker.server import PortalServer, check_address_free
from broker.settings import DEFAULT_PATH, SETTINGS_VARIABLE, load_settings, settings_path
from broker.web.request_log import configure_logging

_P = ParamSpec("_P")

_SECRET_BYTES: Final = 48


def reporting(command: Callable[_P, None]) -> Callable[_P, None]:
    """Turn our errors into lines on stderr and exit code 1."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigurationInvalid as error:
            for fault in error.faults:
                click.echo(f"broker: {fault}", err=True)
            sys.exit(1)
        except BrokerError as error:
            click.echo(f"broker: {error}", err=True)
            sys.exit(1)

    return run


with_settings = click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Settings file; otherwise that of {SETTINGS_VARIABLE}, otherwise {DEFAULT_PATH}.",
)


def _composed(settings_file: Path | None) -> Broker:
    return compose(load_settings(settings_path(settings_file)))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="federation-broker")
def main() -> None:
    """Directory password in, narrow temporary AWS credentials out."""
    # Commands answer on the terminal; only what serves has a log of its own.
    configure_logging(logging.WARNING)


@main.command()
@with_settings
@reporting
def serve(settings_file: Path | None) -> None:
    """Run the portal."""
    broker = _composed(settings_file)
    broker.check_at_start()
    configure_logging()
    broker.warn_at_start()
    listen = broker.settings.listen
    check_address_free(listen.address, listen.port)
    PortalServer(lambda: create_app(broker.portal()), listen).run()


@main.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DEMO_DIR",
    default=".demo",
    show_default=True,
    help="Where the demo keeps its state.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    envvar="DEMO_PORT",
    default=8080,
    show_default=True,
    help="The portal's port; 0 for any.",
)
@click.option(
    "--describe",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="DEMO_DESCRIBE",
    help="Write a JSON description of the running demo to this file.",
)
@reporting
def demo(folder: Path, port: int, describe: Path | None) -> None:
    """Run the whole product on this machine, with an embedded directory and AWS stand-in."""
    if importlib.util.find_spec("ministack") is None:
        raise ConfigurationInvalid(
            Fault(
                "demo",
                "the AWS stand-in is not installed: run `make demo` in a checkout, or install federation-broker[demo]",
            )
        )
    from broker.demo import run_demo  # noqa: PLC0415 - ministack is not there in production

    run_demo(folder.absolute(), port, describe)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@reporting
def init(folder: Path) -> None:
    """Put example settings, example entitlements and a fresh secret into FOLDER."""
    targets = {name: folder / name for name in ("broker.toml", "entitlements.toml", "secret")}
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
    except OSError as error:
        raise ConfigurationInvalid(
            Fault(str(error.filename or folder), f"cannot be written: {error.strerror}")
        ) from error
    click.echo(f"Written: {', '.join(str(path) for path in targets.values())}")
    click.echo(
        "Next: edit broker.toml and entitlements.toml, and put the service account's password into bind-password"
    )
    click.echo("(mode 0600); then `broker keys new` and `broker db upgrade`.")


@main.group()
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


@main.command()
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


@main.group()
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


@main.group()
def entitlements() -> None:
    """The entitlements file."""


@entitlements.command("check")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--offline", is_flag=True, help="Do not ask the directory for the groups.")
@with_settings
@reporting
def entitlements_check(file: Path, offline: bool, settings_file: Path | None) -> None:  # noqa: FBT001 - as above
    """Check an entitlements FILE: every fault with its place; its groups in the directory too.

    Without a settings file the text alone is checked.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise EntitlementsInvalid(Fault(str(file), f"it cannot be read: {error.strerror}")) from error
    path = settings_path(settings_file)
    if settings_file is None and not path.exists():
        parsed = parse_entitlements(content, None)
        click.echo(f"note: no settings at {path}: attributes and groups were not looked up", err=True)
    else:
        settings = load_settings(path)
        parsed = parse_entitlements(content, settings.attributes)
        if not offline:
            parsed.resolve(compose(settings).directory.group)
    for warning in parsed.warnings:
        click.echo(f"warning: {warning}", err=True)
    count = len(parsed.entitlements)
    click.echo(
        f"{file}: {count} entitlement{'' if count == 1 else 's'} in {len(parsed.accounts)} account(s), no fault."
    )


@entitlements.command("explain")
@click.argument("username")
@with_settings
@reporting
def entitlements_explain(username: str, settings_file: Path | None) -> None:
    """Say which entitlements USERNAME holds and through which groups, and why each other one is not held."""
    broker = _composed(settings_file)
    try:
        principal = broker.directory.principal_by_username(username)
    except LoginRejected as error:
        raise click.ClickException(f"{username!r} names nobody under directory.user_bases: {error.cause}") from error
    catalogue = broker.entitlements.catalogue()
    click.echo(f"{principal.username} ({principal.display_name}), id {principal.id}")
    try:
        broker.directory.principal_by_id(principal.id)
    except PrincipalGone as gone:
        click.echo(f"The account cannot be used ({gone.cause}): until that is mended it gets nothing of what follows.")
    click.echo("Groups: " + (_names(group.name for group in principal.groups) or "none"))
    for item in catalogue.entitlements:
        click.echo(_explained(item, principal))


def _explained(entitlement: Entitlement, principal: Principal) -> str:
    matching = entitlement.matching_groups(principal)
    if not matching:
        wanted = _names(group.name for group in entitlement.groups)
        return f"no   {entitlement.id}: a member of none of: {wanted}"
    account = entitlement.account
    lines = [
        f"yes  {entitlement.id}: through {_names(group.name for group in matching)}",
        f"       role {entitlement.role_name} in {account.name} ({account.id}), {', '.join(entitlement.uses)}",
    ]
    try:
        lines += [f"       {place.access} {place.name}" for place in entitlement.locations_for(principal)]
    except BrokerError as error:
        lines.append(f"       cannot be used: {error}")
    return "\n".join(lines)


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
