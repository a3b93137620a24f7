"""What IAM would answer: allow or deny, and which statement decides.

Source: AWS IAM user guide, "Policy evaluation logic": an explicit deny in any policy wins; otherwise the role's
policies and, for a session that was narrowed, its session policies must each allow the request ("Session policies").
What cannot be decided (an operator, element or value that is not known) never allows and always denies, and is named.

Not looked at: the policy of the bucket, permissions boundaries and the organisation's policies, which can take more
away; a bucket policy that names this very session is the one thing that can add.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from broker.core.entitlements import Grant
from broker.core.policy_conditions import (
    Condition,
    Context,
    Undecided,
    Verdict,
    all_of,
    any_of,
    matches,
    matches_arn,
    negated,
)

# IAM user guide, "IAM JSON policy elements: Version": variables came with the later one; the earlier is the default.
_WITH_VARIABLES: Final = "2012-10-17"
_VERSIONS: Final = ("2008-10-17", _WITH_VARIABLES)
_ELEMENTS: Final = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})


class Outcome(StrEnum):
    """How IAM ends, in the words of ``iam:SimulatePrincipalPolicy``."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicitDeny"
    IMPLICIT_DENY = "implicitDeny"


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """One request, as policies see it.

    Attributes:
        action: such as ``s3:GetObject``; letter case does not count.
        resource: its ARN, or ``*`` for actions that have none.
        context: the condition keys.
    """

    action: str
    resource: str
    context: Context


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy.

    Attributes:
        policy: the name of the policy.
        number: its place in the policy, from 1.
        sid: empty when it has none.
        json: the statement itself, minified.
        unknown: elements that a policy of a role or session does not have, such as ``NotPrincipal``.
    """

    policy: str
    number: int
    sid: str
    denies: bool
    actions: tuple[str, ...]
    not_actions: bool
    resources: tuple[str, ...]
    not_resources: bool
    conditions: tuple[Condition, ...]
    unknown: tuple[str, ...]
    variables: bool
    json: str

    def applies(self, request: PolicyRequest) -> Verdict:
        """Whether it speaks of that request."""
        action = any_of(
            matches(pattern.lower(), request.action.lower(), {}, variables=False) for pattern in self.actions
        )
        resource = any_of(
            matches_arn(pattern, request.resource, request.context, variables=self.variables)
            for pattern in self.resources
        )
        return all_of((
            negated(action) if self.not_actions else action,
            negated(resource) if self.not_resources else resource,
            *(condition.holds(request.context, variables=self.variables) for condition in self.conditions),
            *(Undecided(f"a policy of a role or session has no {name}") for name in self.unknown),
        ))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy of a role or session.

    Attributes:
        name: for the answer.
    """

    name: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """Policies of which one must allow; all layers of a session must.

    Attributes:
        name: ``session policy`` or ``role``.
        policies: none allows nothing.
    """

    name: str
    policies: tuple[Policy, ...]

    def statements(self) -> Iterator[Statement]:
        """Of all its policies, in order."""
        for policy in self.policies:
            yield from policy.statements


@dataclass(frozen=True, slots=True)
class Doubt:
    """A statement that could not be decided, and why: it counts for a denial and never for an allowance."""

    statement: Statement
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the layers make of a request.

    Attributes:
        deciding: the statement that denies, or for each layer the one that allows; empty for an implicit deny.
        lacking: the layers of which no statement allows; empty unless the denial is implicit.
        doubts: what could not be decided and bears on the outcome.
    """

    outcome: Outcome
    deciding: tuple[Statement, ...]
    lacking: tuple[str, ...]
    doubts: tuple[Doubt, ...]


def evaluate(request: PolicyRequest, layers: Sequence[Layer]) -> Answer:
    """Decide as IAM does: an explicit deny first, then every layer must allow.

    Raises:
        ValueError: there is no layer: nothing could be said.
    """
    if not layers:
        raise ValueError("without a policy there is nothing to decide by")
    judged = [(layer, [(one, one.applies(request)) for one in layer.statements()]) for layer in layers]
    everything = [pair for _, pairs in judged for pair in pairs]
    denying = [one for one, verdict in everything if one.denies and verdict is True]
    if denying:
        return Answer(Outcome.EXPLICIT_DENY, (denying[0],), (), ())
    unsure = _doubts(pair for pair in everything if pair[0].denies)
    if unsure:
        return Answer(Outcome.EXPLICIT_DENY, (unsure[0].statement,), (), unsure)
    allowing = {layer.name: [one for one, verdict in pairs if verdict is True] for layer, pairs in judged}
    if all(allowing.values()):
        return Answer(Outcome.ALLOWED, tuple(found[0] for found in allowing.values()), (), ())
    lacking = tuple(name for name, found in allowing.items() if not found)
    doubts = tuple(doubt for layer, pairs in judged if layer.name in lacking for doubt in _doubts(pairs))
    return Answer(Outcome.IMPLICIT_DENY, (), lacking, doubts)


def _doubts(pairs: Iterable[tuple[Statement, Verdict]]) -> tuple[Doubt, ...]:
    return tuple(Doubt(one, verdict.reason) for one, verdict in pairs if isinstance(verdict, Undecided))


def session_context(grant: Grant, now: datetime) -> Context:
    """The condition keys that every request of the grant's session carries.

    Source: AWS IAM user guide, "AWS global condition context keys" and "Available keys for SAML-based federation".
    What depends on the request (its region, address, transport) or that AWS alone knows (the role's unique id) is not
    among them.

    Args:
        grant: authorised.
        now: aware, UTC; when the session begins and the request is made.
    """
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        **{f"aws:principaltag/{key.lower()}": (value,) for key, value in grant.tags.items()},
        "aws:principalarn": (grant.role_arn,),
        "aws:principalaccount": (grant.entitlement.account.id,),
        "aws:principaltype": ("AssumedRole",),
        "aws:principalisawsservice": ("false",),
        "aws:viaawsservice": ("false",),
        "aws:federatedprovider": (grant.saml_provider_arn,),
        "aws:sourceidentity": (grant.principal.source_identity,),
        "aws:currenttime": (moment,),
        "aws:epochtime": (str(int(now.timestamp())),),
        "aws:tokenissuetime": (moment,),
        "saml:sub": (grant.principal.id,),
        "saml:sub_type": ("persistent",),
        # Of IAM users alone.
        "aws:username": None,
    }


def read_policy(name: str, text: str) -> Policy:
    """Read a policy of a role or session.

    Args:
        name: for the answer.
        text: JSON.

    Raises:
        ValueError: IAM would not take it for a policy; the text says why.
    """
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or not document.keys() <= {"Version", "Id", "Statement"}:
        raise ValueError("a policy is an object of Version, Id and Statement")
    version = document.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise ValueError("Version is neither 2012-10-17 nor 2008-10-17")
    listed = document.get("Statement")
    statements = [listed] if isinstance(listed, dict) else listed
    if not isinstance(statements, list) or not statements:
        raise ValueError("Statement is an object or a list of them")
    return Policy(
        name,
        tuple(
            _statement(name, number, found, variables=version == _WITH_VARIABLES)
            for number, found in enumerate(statements, 1)
        ),
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an element is given twice")
    return found


def _statement(policy: str, number: int, found: object, *, variables: bool) -> Statement:
    if not isinstance(found, dict):
        raise ValueError(f"statement {number} is not an object")  # noqa: TRY004 - a wrong document, not a wrong call
    if found.get("Effect") not in ("Allow", "Deny"):
        raise ValueError(f"statement {number}: Effect is neither Allow nor Deny")
    condition = found.get("Condition", {})
    if not isinstance(condition, dict) or not all(isinstance(lines, dict) for lines in condition.values()):
        raise ValueError(f"statement {number}: Condition is an object of objects")
    return Statement(
        policy=policy,
        number=number,
        sid=str(found.get("Sid", "")),
        denies=found["Effect"] == "Deny",
        actions=_one_of(number, found, "Action"),
        not_actions="NotAction" in found,
        resources=_one_of(number, found, "Resource"),
        not_resources="NotResource" in found,
        conditions=tuple(
            Condition.read(operator, key, values)
            for operator, lines in condition.items()
            for key, values in lines.items()
        ),
        unknown=tuple(name for name in found if name not in _ELEMENTS),
        variables=variables,
        json=json.dumps(found, ensure_ascii=False, separators=(",", ":")),
    )


def _one_of(number: int, found: dict[str, Any], name: str) -> tuple[str, ...]:
    present = [found[key] for key in (name, f"Not{name}") if key in found]
    if len(present) != 1:
        raise ValueError(f"statement {number}: there is one of {name} and Not{name}")
    values = present[0] if isinstance(present[0], list) else present
    if not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"statement {number}: {name} is a text or a list of them")
    return tuple(values)
