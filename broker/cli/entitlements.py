"""``broker entitlements``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from broker.cli.options import composed, reporting, with_settings
from broker.compose import compose
from broker.core.entitlements import Entitlement
from broker.core.entitlements_file import parse_entitlements
from broker.core.errors import BrokerError, EntitlementsInvalid, Fault, LoginRejected, PrincipalGone
from broker.core.principal import Principal
from broker.settings import load_settings, settings_path


@click.group()
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
    broker = composed(settings_file)
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
