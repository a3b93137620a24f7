"""``broker doctor aws``: the signing keys, the way to each account, and whether sessions could be ended there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from broker.adapters.aws.diagnosis import Route, diagnose_account
from broker.adapters.aws.endpoints import PUBLIC_ENDPOINTS, AwsEndpoints
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.entitlements_file import parse_file
from broker.cli.doctor import CHECKS, as_json, doctor, examine
from broker.cli.options import with_settings
from broker.compose import (
    compose,
    own_accounts,
    own_signing_keys,
    signing_keys,
    utc_now,
)
from broker.core.entitlements import Account
from broker.core.errors import (
    AuditUnavailable,
    BrokerError,
    ConfigurationInvalid,
    EntitlementsInvalid,
    SettingsInvalid,
    SigningKeyUnusable,
)
from broker.core.findings import Finding, FindingState
from broker.core.key_evidence import with_evidence
from broker.core.key_rollover import KeyRecord, KeyState, RolloverReport
from broker.core.operator_commands import OWN_ROLES_OPTION
from broker.core.ports import Clock
from broker.core.revoking import RevokingPorts, prove_revoker
from broker.errands import about_own_keys, has_own_roles
from broker.settings import Settings
from broker.signing import SigningKeys

_KEYS = "signing keys"
_OWN_KEYS = "signing keys of the broker's own roles (--for own-roles)"


def diagnose_aws(
    settings: Settings, endpoints: AwsEndpoints = PUBLIC_ENDPOINTS, clock: Clock = utc_now
) -> Iterator[Finding]:
    """Look at the signing keys, and at the way to AWS from here.

    Args:
        settings: checked.
        endpoints: AWS itself; only tests pass another.
        clock: the broker's.
    """
    accounts: tuple[Account, ...] = ()
    roles: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    arns: defaultdict[str, set[str]] = defaultdict(set)
    try:
        parsed = parse_file(settings.entitlements, settings.attributes)
    except EntitlementsInvalid as error:
        yield from map(Finding.of_fault, error.faults)
    else:
        accounts = parsed.accounts
        for item in parsed.entitlements:
            arns[item.entitlement.account.key].add(item.entitlement.role_arn)
            roles[item.entitlement.account.key][item.entitlement.role_name].update(item.entitlement.tags)
    yield from _diagnose_keys(settings, signing_keys(settings), accounts, clock)
    if has_own_roles(settings):
        for finding in _diagnose_keys(
            settings, own_signing_keys(settings), own_accounts(settings, accounts), clock, option=OWN_ROLES_OPTION
        ):
            yield replace(finding, subject=_OWN_KEYS)
    route = Route(endpoints, settings.aws.proxy, settings.aws.connect_timeout, settings.aws.read_timeout)
    for account in accounts:
        yield from diagnose_account(account, roles[account.key], route, clock)
    if settings.own_roles.revoker:
        broker = compose(settings, endpoints)
        try:
            for account in accounts:
                yield from _diagnose_revoker(account, arns[account.key], broker.revoking.ports())
        finally:
            broker.database.dispose()


def _diagnose_keys(
    settings: Settings, keys: SigningKeys, accounts: tuple[Account, ...], clock: Clock, *, option: str = ""
) -> Iterator[Finding]:
    now = clock()
    try:
        report = replace(keys.report(accounts), option=option)
        for key in report.keys:
            warning = key.warning(now, report.valid_until, option)
            what = f"{key.id} {_STATES[key.state]}, {key.bits} bits, {key.days_left(now)} days left"
            yield _warned(what, warning) if warning else _seen(key, what)
        keys.check(now)
    except SigningKeyUnusable as error:
        yield from _faults(about_own_keys(error) if option else error)
        return
    yield Finding(FindingState.OK, _KEYS, "what the active key signs is accepted by the published metadata")
    try:
        database = Database(settings.database.url)
        try:
            report = with_evidence(report, SqlAuditLog(database), errands=bool(option))
        finally:
            database.dispose()
    except (AuditUnavailable, SettingsInvalid) as error:
        yield _warned(
            f"what STS answered to the active key is not known: {error}",
            "database.url, or run this as the user of the service",
        )
    yield from _what_to_tell(report)


def _diagnose_revoker(account: Account, roles: set[str], ports: RevokingPorts) -> Iterator[Finding]:
    """Enter the revoker, as for ending sessions: an errand, and recorded like one."""
    subject = f"ending sessions in {account.name} ({account.id})"
    try:
        proved = prove_revoker(account, sorted(roles), ports)
    except BrokerError as error:
        advice = f"own_roles, aws-revoker.yaml in {account.id}; `broker metadata --for own-roles` is what AWS must have"
        yield Finding(FindingState.FAILED, subject, f"the revoker cannot be entered: {error}", advice)
        return
    for role, failure in proved.items():
        if failure is None:
            yield Finding(FindingState.OK, subject, f"{role} can be changed")
        else:
            yield Finding(FindingState.FAILED, subject, f"{role}: {failure}", _ROLE_ADVICE)
    if not proved:
        yield Finding(FindingState.OK, subject, "the serving broker is just changing roles there")


_ROLE_ADVICE = (
    "the role itself; RolesPath and BoundaryArns of aws-revoker.yaml: it needs that path, and one of those as its"
    " permissions boundary"
)

_STATES = {
    KeyState.ACTIVE: "signs",
    KeyState.PUBLISHED: "is published and does not sign",
    KeyState.UNPUBLISHED: "is not in the metadata",
    KeyState.RETIRED: "is retired",
}


def _seen(key: KeyRecord, what: str) -> Finding:
    if key.state is KeyState.UNPUBLISHED:
        return _warned(what, "`broker metadata --sign` publishes it, `broker keys retire` takes it away")
    return Finding(FindingState.OK, _KEYS, what)


def _warned(what: str, advice: str) -> Finding:
    return Finding(FindingState.WARNING, _KEYS, what, advice)


def _what_to_tell(report: RolloverReport) -> Iterator[Finding]:
    for provider in report.providers:
        name = f"{provider.account.name} ({provider.account.id})"
        if provider.refused_at is not None:
            refused = f"{name} refused the signature of the active key, last on {_minute(provider.refused_at)}"
            back = f", or go back: `{report.way_back}`" if report.way_back else ""
            advice = f"it lacks its certificate: `{report.metadata_command}`, `{provider.command}`{back}"
            yield Finding(FindingState.FAILED, _KEYS, refused, advice)
            continue
        if provider.accepted_at is not None:
            accepted = f"{name} accepted the signature of the active key, last on {_minute(provider.accepted_at)}"
            yield Finding(FindingState.OK, _KEYS, accepted)
        if provider.confirmed_at is None:
            there = f" (where it is there already: `{provider.command_if_there}`)" if provider.command_if_there else ""
            advice = f"`{report.metadata_command}`, `{provider.command}`{there}, then `{report.next_command}`"
            yield _warned(f"nobody confirmed that {name} has the present metadata", advice)
        else:
            confirmed = f"{provider.confirmed_at:%Y-%m-%d}"
            yield Finding(FindingState.OK, _KEYS, f"{name} has the present metadata, as was confirmed on {confirmed}")


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d at %H:%M} UTC"


def _faults(error: ConfigurationInvalid) -> Iterator[Finding]:
    for fault in error.faults:
        yield Finding(FindingState.FAILED, _KEYS, fault.message, fault.place)


@doctor.command("aws")
@with_settings
@as_json
def doctor_aws(settings_file: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Look at the signing keys, what AWS must be told, the way to each account, and the revoker's if there is one.

    The revoker is entered for it, which is recorded; no role is changed.
    """
    examine(settings_file, {"aws": diagnose_aws}, as_json=as_json)


CHECKS["aws"] = diagnose_aws
