"""``broker keys`` and ``broker metadata``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec

import click

from broker.adapters.rsa_keys import LARGEST_KEY_BITS, SMALLEST_KEY_BITS
from broker.cli.options import reporting, with_settings
from broker.compose import accounts, own_accounts, own_signing_keys, signing_keys, utc_now
from broker.core.entitlements import Account
from broker.core.errors import EntitlementsInvalid, Fault, SigningKeyUnusable
from broker.core.key_rollover import KeyRecord, KeyState, ProviderState, RolloverReport
from broker.core.operator_commands import OWN_ROLES_OPTION, metadata_command
from broker.errands import about_own_keys
from broker.settings import Settings, load_settings, settings_path
from broker.signing import SigningKeys

# AWS IAM user guide, "Troubleshoot IAM", changes that I make are not always immediately visible. AWS names no bound.
_IAM_TAKES: Final = "IAM takes a little while to have a change everywhere: wait five minutes"

_PEOPLE: Final = "people"
_OWN_ROLES: Final = "own-roles"

_P = ParamSpec("_P")

_yes = click.option("--yes", is_flag=True, help="Confirm without being asked.")
_whose = click.option(
    "--for",
    "whose",
    type=click.Choice([_PEOPLE, _OWN_ROLES]),
    default=_PEOPLE,
    help="Whose assertions it signs: people's, or the broker's own for its own roles ([own_roles]).",
)


def _naming_whose(command: Callable[_P, None]) -> Callable[_P, None]:
    """Say of a fault whose keys it is about, where they are not people's."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except SigningKeyUnusable as error:
            if kwargs["whose"] == _OWN_ROLES:
                raise about_own_keys(error) from error
            raise

    return run


def _signing(settings: Settings, whose: str) -> SigningKeys:
    if whose == _OWN_ROLES:
        click.echo("Of the broker's own roles: give --for own-roles to the commands that are named here too.", err=True)
        return own_signing_keys(settings)
    return signing_keys(settings)


def _option(whose: str) -> str:
    """What every command that is named takes besides: pasted without it, it would be about people's keys."""
    return OWN_ROLES_OPTION if whose == _OWN_ROLES else ""


def _report(signing: SigningKeys, known: Sequence[Account] | None, whose: str) -> RolloverReport:
    return replace(signing.report(known or ()), option=_option(whose))


def _accounts(settings: Settings, whose: str) -> tuple[Account, ...]:
    known = accounts(settings)
    if whose == _PEOPLE:
        return known
    return own_accounts(settings, known)


def _accounts_if_known(settings: Settings, whose: str) -> tuple[Account, ...] | None:
    """None while the entitlements file is wrong: the way back must not wait until somebody has mended it."""
    try:
        return _accounts(settings, whose)
    except EntitlementsInvalid as error:
        click.echo(f"warning: the entitlements file is wrong, so its accounts are not named here: {error}", err=True)
        return None


@click.group()
def keys() -> None:
    """The keys that sign assertions, and their rollover: new, activate, retire; and back: activate, restore.

    A running `broker serve` takes over at its next signature; nothing has to be restarted.
    """


@keys.command("new")
@click.option(
    "--bits",
    type=click.IntRange(SMALLEST_KEY_BITS, LARGEST_KEY_BITS),
    default=2048,
    show_default=True,
    help="RSA key size.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=1095,
    show_default=True,
    help="How long the certificate, and so the metadata that AWS keeps, holds.",
)
@_whose
@with_settings
@reporting
@_naming_whose
def keys_new(bits: int, days: int, whose: str, settings_file: Path | None) -> None:
    """Make a signing key with its certificate, and publish it in the metadata.

    The first key signs at once. A further one is published beside the one that signs, until `broker keys activate`.
    """
    settings = load_settings(settings_path(settings_file))
    signing = _signing(settings, whose)
    first = not signing.folder.has_active()
    # Read before anything is made: without the accounts nobody would know whom to tell.
    known = () if first else _accounts(settings, whose)
    made, option = signing.create(timedelta(days=days), bits, utc_now()), _option(whose)
    if first:
        click.echo(f"Key {made.id} signs from now on; its certificate holds until {made.not_after:%Y-%m-%d}.")
        click.echo(f"Next: give AWS the metadata (`{metadata_command(option)}`), as a SAML provider in each account,")
        click.echo(f"and say so: `broker keys confirm{option}`.")
        return
    click.echo(
        f"Key {made.id} is published; its certificate holds until {made.not_after:%Y-%m-%d}. It does not sign yet."
    )
    _echo_what_to_tell(signing.providers(known), option)
    click.echo(f"\nThen ({_IAM_TAKES}):\n  broker keys activate {made.id}{option}")


@keys.command("list")
@_whose
@with_settings
@reporting
@_naming_whose
def keys_list(whose: str, settings_file: Path | None) -> None:
    """List the keys, and what AWS must be told."""
    settings = load_settings(settings_path(settings_file))
    now = utc_now()
    known = _accounts_if_known(settings, whose)
    report = _report(_signing(settings, whose), known, whose)
    click.echo(f"{'key':<16}  {'state':<11}  {'created':<10}  {'ends':<10}  {'days left':>9}  {'bits':>4}")
    for key in report.keys:
        click.echo(_row(key, now, report.option))
    for warning in report.warnings(now):
        click.echo(f"\nwarning: {warning}")
    click.echo(f"\nThe metadata holds until {report.valid_until:%Y-%m-%d}; its SHA-256 is {report.metadata_sha256}.")
    for provider in report.providers:
        if provider.confirmed_at is not None:
            confirmed = f"as was confirmed on {provider.confirmed_at:%Y-%m-%d}"
            click.echo(f"{_name(provider.account)} has it in {provider.account.saml_provider_arn}, {confirmed}.")
    if report.to_show or known is None:
        _echo_what_to_tell(report.to_show, report.option)
    if report.next_command:
        _echo_next(report.next_command)
    if report.way_back:
        click.echo(
            "\nIf AWS refuses what the active key signs, give it the metadata as above, or go back:"
            f"\n  {report.way_back}"
        )


@keys.command("activate")
@click.argument("key_id", metavar="KEYID")
@_yes
@_whose
@with_settings
@reporting
@_naming_whose
def keys_activate(key_id: str, yes: bool, whose: str, settings_file: Path | None) -> None:  # noqa: FBT001 - click passes flags so
    """Let the published key KEYID sign from now on. The other ones stay published.

    First every account has to have the metadata that names it, or AWS refuses everybody: the broker cannot see what
    AWS holds, so it asks.
    """
    settings = load_settings(settings_path(settings_file))
    signing = _signing(settings, whose)
    known, now = _accounts_if_known(settings, whose), utc_now()
    before, option = _report(signing, known, whose), _option(whose)
    states = {key.id: key.state for key in before.keys}
    if states.get(key_id) is KeyState.ACTIVE:
        click.echo(f"Key {key_id} signs already; nothing was changed.")
        return
    if states.get(key_id) is KeyState.RETIRED:
        raise SigningKeyUnusable(Fault("KEYID", f"{key_id} is retired: `broker keys restore {key_id}{option}` first"))
    if states.get(key_id) is not KeyState.PUBLISHED:
        raise SigningKeyUnusable(
            Fault("KEYID", f"there is no published key {key_id!r}: `broker keys list{option}` shows them")
        )
    if known is None:
        _ask("Every account has to hold the present metadata, and which they are cannot be read now.", yes=yes)
    else:
        _confirm_told(before.providers, option, yes=yes)
        signing.confirm(known, now)
    signing.activate(key_id, now)
    click.echo(f"Key {key_id} signs from the next assertion on; a running broker takes over by itself.")
    after = _report(signing, known, whose)
    if after.way_back:
        click.echo("When sign-ins work, take the old certificate out:")
        for key in after.keys:
            if key.state is KeyState.PUBLISHED:
                click.echo(f"  broker keys retire {key.id}{option}")
        click.echo("If they do not, `broker doctor aws` says which account refuses it and what to tell it; or go back:")
        click.echo(f"  {after.way_back}")
    else:
        click.echo(f"`broker keys list{option}` shows what AWS must be told before the newer key signs (again).")


@keys.command("retire")
@click.argument("key_id", metavar="KEYID")
@click.option(
    "--destroy",
    is_flag=True,
    help="Delete the private key (asks; --yes confirms). Without it the key is kept, in the folder retired/.",
)
@_yes
@_whose
@with_settings
@reporting
@_naming_whose
def keys_retire(key_id: str, destroy: bool, yes: bool, whose: str, settings_file: Path | None) -> None:  # noqa: FBT001 - as above
    """Take the key KEYID, which does not sign, out of the metadata.

    Its private key is kept in the folder retired/ unless --destroy is given, also later for a key retired before.
    """
    settings = load_settings(settings_path(settings_file))
    signing = _signing(settings, whose)
    known = _accounts_if_known(settings, whose)
    if destroy:
        _ask(f"The private key of {key_id} will be deleted for good.", yes=yes)
    was_here = any(signing.folder.has_private_key(key_id, retired=retired) for retired in (False, True))
    signing.retire(key_id, destroy=destroy)
    option = _option(whose)
    click.echo(f"Key {key_id} is retired: the metadata no longer names it.")
    if not was_here:
        click.echo(
            "Its private key is not in the folder of the keys: where it is a credential of the unit, take it out of"
        )
        click.echo("LoadCredential= and delete the file that it names.")
    elif destroy:
        click.echo("Its private key is deleted here; copies in backups are yours to delete.")
    else:
        click.echo(f"Its private key is kept in {signing.folder.path / 'retired'}: `--destroy` deletes it,")
        click.echo(f"`broker keys restore {key_id}{option}` takes it back.")
    waiting = _report(signing, known, whose).to_be_told
    if known is not None and not waiting:
        return
    _echo_what_to_tell(waiting, option)
    click.echo(f"\nUntil then AWS goes on to accept the retired key. Afterwards say so: `broker keys confirm{option}`")


@keys.command("restore")
@click.argument("key_id", metavar="KEYID")
@_whose
@with_settings
@reporting
@_naming_whose
def keys_restore(key_id: str, whose: str, settings_file: Path | None) -> None:
    """Take the retired key KEYID back: publish it in the metadata again. It signs once it is activated.

    AWS accepts what it signs at once wherever it was not given the metadata since the key was retired.
    """
    settings = load_settings(settings_path(settings_file))
    signing = _signing(settings, whose)
    known = _accounts_if_known(settings, whose)
    restored, option = signing.restore(key_id, utc_now()), _option(whose)
    click.echo(f"Key {key_id} is published again; its certificate holds until {restored.not_after:%Y-%m-%d}.")
    click.echo("It does not sign yet. An account that was given the metadata since it was retired has to be told:")
    _echo_what_to_tell(signing.providers(known or ()), option)
    click.echo(f"\nThen ({_IAM_TAKES}):\n  broker keys activate {key_id}{option}")


@keys.command("confirm")
@_yes
@_whose
@with_settings
@reporting
@_naming_whose
def keys_confirm(yes: bool, whose: str, settings_file: Path | None) -> None:  # noqa: FBT001 - as above
    """Note that every account of the entitlements file was given the present metadata."""
    settings = load_settings(settings_path(settings_file))
    signing = _signing(settings, whose)
    known = _accounts(settings, whose)
    _confirm_told(signing.providers(known), _option(whose), yes=yes)
    signing.confirm(known, utc_now())
    click.echo("Noted: every account has the present metadata.")


@click.command()
@click.option(
    "--sign", is_flag=True, help="Sign it anew, after a change of public_url or entity_id; AWS has to get it again."
)
@_whose
@with_settings
@reporting
@_naming_whose
def metadata(sign: bool, whose: str, settings_file: Path | None) -> None:  # noqa: FBT001 - as above
    """Print the signed SAML metadata of this identity provider."""
    settings = load_settings(settings_path(settings_file))
    signing = _signing(settings, whose)
    if sign:
        signing.sign_metadata()
    click.echo(signing.metadata(), nl=False)


def _row(key: KeyRecord, now: datetime, option: str) -> str:
    row = (
        f"{key.id:<16}  {key.state:<11}  {key.created:%Y-%m-%d}  {key.not_after:%Y-%m-%d}"
        f"  {key.days_left(now):>9}  {key.bits:>4}"
    )
    if key.state is KeyState.RETIRED:
        return row + ("  private key kept" if key.private_key_kept else "  private key not here")
    if key.state is KeyState.UNPUBLISHED:
        return row + f"  the metadata lacks it: `broker metadata --sign{option}`"
    return row


def _echo_what_to_tell(providers: Iterable[ProviderState], option: str) -> None:
    click.echo(f"\nGive AWS the metadata. Write it to a file:\n  {metadata_command(option)}")
    for provider in providers:
        click.echo(f"\n{_name(provider.account)}, as an administrator of that account:\n  {provider.command}")
        click.echo(f"or in the console: {provider.console_steps}")
        if provider.command_if_there:
            made = f"Where the provider is there already, made by deploy/{_template(option)} for instance"
            click.echo(f"{made}:\n  {provider.command_if_there}")


def _template(option: str) -> str:
    """What makes the SAML provider together with the roles."""
    return "aws-revoker.yaml" if option else "aws.yaml"


def _echo_next(command: str) -> None:
    if command.startswith("broker keys confirm"):
        click.echo(f"\nThen say so: `{command}`. Nothing but your word tells the broker what AWS holds.")
    elif command.startswith("broker keys activate"):
        click.echo(f"\nThen ({_IAM_TAKES}):\n  {command}")
    else:
        click.echo(f"\nNext, when sign-ins work:\n  {command}")


def _confirm_told(providers: Sequence[ProviderState], option: str, *, yes: bool) -> None:
    waiting = [provider for provider in providers if provider.confirmed_at is None]
    if waiting:
        names = "\n".join(f"  {_name(one.account)}: {one.account.saml_provider_arn}" for one in waiting)
        shown = f"`broker keys list{option}`"
        _ask(f"Every one of these accounts has to hold the present metadata ({shown}):\n{names}", yes=yes)


def _ask(what: str, *, yes: bool) -> None:
    if yes:
        return
    click.echo(what)
    if not sys.stdin.isatty():
        raise SigningKeyUnusable(
            Fault("--yes", "nothing was changed: it has to be confirmed, and nobody is here to ask")
        )
    click.confirm("Is that so?", abort=True)


def _name(account: Account) -> str:
    return f"{account.name} ({account.id})"
