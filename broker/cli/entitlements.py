"""``broker entitlements``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from broker.adapters.directory.attribute_lengths import LongestValues
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.adapters.directory.several_domains import SeveralDomains
from broker.cli.options import composed, reporting, with_settings
from broker.cli.simulate import simulate
from broker.compose import compose
from broker.core.entitlements import LONGEST_TAG_VALUE, Entitlement, ManagedPolicyScope, WholeRoleScope
from broker.core.entitlements_file import check_entitlements, parse_entitlements
from broker.core.errors import BrokerError, EntitlementsInvalid, Fault, LoginRejected, PrincipalGone
from broker.core.policy_lengths import PolicyLength, attributes_used, policy_lengths
from broker.core.principal import PRINCIPAL_ID_LENGTH, Principal
from broker.core.session_policy import LONGEST_POLICY
from broker.settings import load_settings, settings_path


@click.group()
def entitlements() -> None:
    """The entitlements file."""


entitlements.add_command(simulate)


# What an attribute is taken for where nobody can be asked; an id always has the same length.
_ASSUMED_CHARACTERS: Final = 64


@entitlements.command("check")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--offline", is_flag=True, help="Do not ask the directory for groups and people's attribute values.")
@with_settings
@reporting
def entitlements_check(file: Path, offline: bool, settings_file: Path | None) -> None:  # noqa: FBT001 - as above
    """Check an entitlements FILE: every fault with its place, its groups, and whether policies and tags fit.

    The session policies are tried with the longest attribute values that people in the directory have, the session tags
    with everybody's. Without a settings file the text alone is checked.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise EntitlementsInvalid(Fault(str(file), f"it cannot be read: {error.strerror}")) from error
    path = settings_path(settings_file)
    directory = None
    if settings_file is None and not path.exists():
        parsed = parse_entitlements(content, None)
        click.echo(f"note: no settings at {path}: attributes and groups were not looked up", err=True)
    else:
        settings = load_settings(path)
        if offline:
            parsed = parse_entitlements(content, settings.attributes)
        else:
            directory = compose(settings).directory
            parsed = check_entitlements(content, settings.attributes, directory.group)
    for warning in parsed.warnings:
        click.echo(f"warning: {warning}", err=True)
    _check_with_people([item.entitlement for item in parsed.entitlements], directory)
    count = len(parsed.entitlements)
    click.echo(
        f"{file}: {count} entitlement{'' if count == 1 else 's'} in {len(parsed.accounts)} account(s), no fault."
    )


def _check_with_people(checked: Sequence[Entitlement], directory: LdapDirectory | SeveralDomains | None) -> None:
    """Say how long each session policy would be at most, and whose session tags AWS would not take.

    Raises:
        EntitlementsInvalid: one would be too long for somebody in the directory. An assumed length only warns.
    """
    names = attributes_used(checked)
    values = {name: "x" * (PRINCIPAL_ID_LENGTH if name == "id" else _ASSUMED_CHARACTERS) for name in names}
    asked = [name for name in names if name != "id"]
    tags = {tag for entitlement in checked for tag in entitlement.tags.values() if set(tag.attributes) - {"id"}}
    if directory is not None and (asked or tags):
        found = directory.longest_values(asked, tags)
        # Nobody has a value: then nobody has such a policy either, and one character is as good as any.
        values |= {name: found.values.get(name, "x") for name in asked}
        more = "" if found.is_whole else "; there are more, which the directory did not give"
        click.echo(f"looked at {found.people} people in the directory for values that do not fit{more}")
        _warn_of_tags(checked, found)
    elif asked:
        click.echo(f"assuming values of {_ASSUMED_CHARACTERS} characters, since the directory was not asked")
    faults = []
    for length in policy_lengths(checked, values):
        used = _with_values(length)
        click.echo(f"  {length.entitlement.id}: {length.characters:,} of {LONGEST_POLICY:,} characters{used}")
        if length.too_long is None:
            continue
        fault = Fault(f'entitlement "{length.entitlement.id}", s3', f"{used.strip() or 'as it is'}, {length.too_long}")
        if directory is None:
            click.echo(f"warning: {fault}", err=True)
        else:
            faults.append(fault)
    if faults:
        raise EntitlementsInvalid(*faults)


def _warn_of_tags(checked: Sequence[Entitlement], found: LongestValues) -> None:
    """Only a warning: whether any of those people is in a group of the entitlement is not looked up."""
    for entitlement in checked:
        for key, tag in entitlement.tags.items():
            if count := found.refused_tags.get(tag, 0):
                click.echo(
                    f'warning: entitlement "{entitlement.id}", tags.{key}: {count} of {found.people} people in the'
                    f" directory would be refused for their {' and '.join(dict.fromkeys(tag.attributes))}: AWS takes at"
                    f" most {LONGEST_TAG_VALUE} letters, digits, spaces and _.:/=+-@ in a tag value",
                    err=True,
                )


def _with_values(length: PolicyLength) -> str:
    named = " and ".join(f"the longest {name} ({len(value)} characters)" for name, value in length.values.items())
    return f" with {named}" if named else ""


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
        lines += [f"       {line}" for line in _reached(entitlement, principal)]
    except BrokerError as error:
        lines.append(f"       cannot be used: {error}")
    return "\n".join(lines)


def _reached(entitlement: Entitlement, principal: Principal) -> list[str]:
    match entitlement.scope:
        case ManagedPolicyScope(policy_arns=arns):
            return [f"what both the role and {arn} allow" for arn in arns]
        case WholeRoleScope():
            return ["the whole role, not narrowed"]
        case _:
            return [f"{place.access} {place.name}" for place in entitlement.locations_for(principal)]


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
