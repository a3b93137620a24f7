"""``broker entitlements simulate``: what a session would be allowed, without issuing one."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from broker.cli.options import composed, reporting, with_settings
from broker.compose import Broker, utc_now
from broker.core.entitlements import (
    Access,
    Entitlement,
    Grant,
    Narrowing,
    WholeRoleScope,
    authorize,
)
from broker.core.errors import BrokerError, ConfigurationInvalid, Fault, LoginRejected, PrincipalGone
from broker.core.policy_evaluation import (
    Answer,
    Layer,
    Outcome,
    Policy,
    PolicyRequest,
    Statement,
    evaluate,
    read_policy,
    session_context,
)
from broker.core.principal import Principal
from broker.core.session_policy import policy_for

_ACTION: Final = re.compile(r"[a-z0-9-]+:[a-z0-9]+", re.IGNORECASE)
_ARN: Final = re.compile(r"arn:[a-z-]+:[^:]*:[^:]*:[^:]*:.+", re.DOTALL)
_SESSION: Final = "session policy"
_ROLE: Final = "role"


_policy_file = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line asked.

    Attributes:
        given: context keys that were given, over those of the session.
        managed: policies by the ARN of the managed policy.
    """

    action: str
    resource: str
    narrowing: Narrowing
    given: Mapping[str, tuple[str, ...] | None]
    role_policies: tuple[Policy, ...]
    managed: Mapping[str, Policy]


@click.command("simulate")
@click.argument("username")
@click.argument("action")
@click.argument("resource")
@click.option("--entitlement", "entitlement_id", metavar="ID", help="This one; otherwise all that USERNAME holds.")
@click.option("--access", type=click.Choice([str(one) for one in Access]), help="Narrow the session, as the form does.")
@click.option("--scope", multiple=True, metavar="PLACE", help="Narrow to a bucket or bucket/prefix/; repeat for more.")
@click.option("--context", multiple=True, metavar="KEY=VALUE", help="A condition key of the request; repeat for more.")
@click.option("--absent", multiple=True, metavar="KEY", help="A condition key that the request certainly lacks.")
@click.option("--role-policy", type=_policy_file, multiple=True, help="A policy of the role, as JSON; repeat for more.")
@click.option(
    "--managed-policy",
    type=(str, _policy_file),
    multiple=True,
    metavar="ARN FILE",
    help="What that managed policy says.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 when the answer is deny.")
@with_settings
@reporting
def simulate(  # noqa: PLR0917 - click calls it with one argument for each option
    username: str,
    action: str,
    resource: str,
    entitlement_id: str | None,
    access: str | None,
    scope: tuple[str, ...],
    context: tuple[str, ...],
    absent: tuple[str, ...],
    role_policy: tuple[Path, ...],
    managed_policy: tuple[tuple[str, Path], ...],
    exit_code: bool,  # noqa: FBT001 - as above
    settings_file: Path | None,
) -> None:
    """Say whether USERNAME's session may do ACTION on RESOURCE, and which statement decides.

    For example: broker entitlements simulate alice s3:GetObject arn:aws:s3:::corp-shared/handbook/README.txt

    Nothing is issued and nothing is written. The first line is the answer, allow or deny; allow when one entitlement
    allows. RESOURCE is an ARN taken literally (a star in it is a star), or * for actions without one. A listing is
    asked of the bucket: s3:ListBucket arn:aws:s3:::BUCKET --context s3:prefix=PREFIX.

    Without --role-policy the answer is that of the session policy alone, and the role must allow the same. What
    cannot be decided, such as a condition on a key that was not given, counts as a denial and is named. Bucket
    policies, permissions boundaries and the organisation's policies are not looked at.
    """
    if not _ACTION.fullmatch(action):
        raise click.UsageError(f"{action!r} is not an action such as s3:GetObject")
    if resource != "*" and not _ARN.fullmatch(resource):
        raise click.UsageError(f"{resource!r} is neither an ARN such as arn:aws:s3:::bucket/key nor *")
    asked = _Asked(
        action,
        resource,
        Narrowing.from_fields("", scope, access or ""),
        _given(context, absent),
        tuple(_read(str(file), file) for file in role_policy),
        {arn: _read(arn, file) for arn, file in managed_policy},
    )
    broker = composed(settings_file)
    allowed, lines = _answers(broker, username, entitlement_id, asked)
    click.echo("\n".join(("allow" if allowed else "deny", *lines)))
    if exit_code and not allowed:
        sys.exit(1)


def _given(context: Sequence[str], absent: Sequence[str]) -> Mapping[str, tuple[str, ...] | None]:
    given: dict[str, tuple[str, ...] | None] = {key.lower(): None for key in absent}
    for pair in context:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.UsageError(f"{pair!r} is not KEY=VALUE, such as s3:prefix=handbook/")
        held = given.get(key.lower(), ())
        if held is None:
            raise click.UsageError(f"{key} cannot be absent and have a value")
        given[key.lower()] = (*held, value)
    return given


def _read(name: str, file: Path) -> Policy:
    try:
        return read_policy(name, file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationInvalid(Fault(str(file), f"it cannot be read: {error.strerror}")) from error
    except ValueError as error:
        raise ConfigurationInvalid(Fault(str(file), f"no policy that IAM would take: {error}")) from error


def _answers(broker: Broker, username: str, entitlement_id: str | None, asked: _Asked) -> tuple[bool, list[str]]:
    """Whether some entitlement allows it, and what to say of each."""
    try:
        found = broker.directory.principal_by_username(username)
    except LoginRejected as error:
        raise click.ClickException(f"{username!r} names nobody under directory.user_bases: {error.cause}") from error
    catalogue = broker.entitlements.catalogue()
    considered = catalogue.held_by(found) if entitlement_id is None else (catalogue.get(entitlement_id),)
    try:
        principal = broker.directory.principal_by_id(found.id)
    except PrincipalGone as gone:
        return False, [f"{found.username}: deny", f"  the account cannot be used: {gone.cause}"]
    if not considered:
        return False, [f"{principal.username} holds no entitlement"]
    now = utc_now()
    answers = [_answer(principal, entitlement, asked, now) for entitlement in considered]
    lines = [line for _, lines in answers for line in lines]
    if asked.role_policies and len({one.role_arn for one in considered}) > 1:
        lines.append("the policies given were taken for those of each role above: --entitlement ID asks about one")
    return any(allowed for allowed, _ in answers), lines


def _answer(principal: Principal, entitlement: Entitlement, asked: _Asked, now: datetime) -> tuple[bool, list[str]]:
    try:
        grant = authorize(principal, entitlement, entitlement.uses[0], asked.narrowing, now)
        layers, notes = _layers(grant, asked)
    except BrokerError as refusal:
        return False, [f"{entitlement.id}: deny", f"  no session would be issued: {refusal}"]
    if not layers:
        return False, [f"{entitlement.id}: deny", *(f"  {note}" for note in notes)]
    request = PolicyRequest(asked.action, asked.resource, {**session_context(grant, now), **asked.given})
    answer = evaluate(request, layers)
    allowed = answer.outcome is Outcome.ALLOWED
    lines = [*_reasons(answer), *notes]
    if allowed and not asked.role_policies:
        lines.append(
            f"the role {entitlement.role_name} has to allow it too; its policies were not given (--role-policy FILE)"
        )
    return allowed, [f"{entitlement.id}: {'allow' if allowed else 'deny'}", *(f"  {line}" for line in lines)]


def _layers(grant: Grant, asked: _Asked) -> tuple[list[Layer], list[str]]:
    """The policies that have a say, and what has to be known of those that are missing."""
    layers: list[Layer] = []
    notes: list[str] = []
    compiled = policy_for(grant)
    if compiled is not None:
        layers.append(Layer(_SESSION, (read_policy(_SESSION, compiled.json),)))
    missing = [arn for arn in grant.policy_arns if arn not in asked.managed]
    if missing:
        notes += [f"{arn} is not known here (--managed-policy ARN FILE): counts as deny" for arn in missing]
        return [], notes
    if grant.policy_arns:
        layers.append(Layer(_SESSION, tuple(asked.managed[arn] for arn in grant.policy_arns)))
    if asked.role_policies:
        layers.append(Layer(_ROLE, asked.role_policies))
    elif isinstance(grant.entitlement.scope, WholeRoleScope):
        notes.append(
            "the whole role, not narrowed: only its own policies can tell (--role-policy FILE); counts as deny"
        )
    return layers, notes


def _reasons(answer: Answer) -> list[str]:
    doubtful = {doubt.statement for doubt in answer.doubts}
    lines = [line for statement in answer.deciding if statement not in doubtful for line in _decided(statement)]
    lines += [f"{layer}: no statement allows it" for layer in answer.lacking]
    for doubt in answer.doubts:
        effect = (
            "might deny it, which counts as deny" if doubt.statement.denies else "might allow it, which does not count"
        )
        lines += [f"{_named(doubt.statement)} {effect}: {doubt.reason}", f"  {doubt.statement.json}"]
    return lines


def _decided(statement: Statement) -> list[str]:
    return [f"{_named(statement)} {'denies' if statement.denies else 'allows'} it", f"  {statement.json}"]


def _named(statement: Statement) -> str:
    sid = f" ({statement.sid})" if statement.sid else ""
    return f"{statement.policy}: statement {statement.number}{sid}"
