"""Policy documents: the grammar IAM, S3 and STS accept, and what one statement says about one request.

Source: IAM User Guide, "Grammar of the IAM JSON policy language".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from broker.sandbox.aws.policy_conditions import Condition, RequestContext, UndecidableConditionError, expand

Effect = Literal["Allow", "Deny"]

_VARIABLES_SINCE = "2012-10-17"
_VERSIONS = frozenset({_VARIABLES_SINCE, "2008-10-17"})
_ACTION = re.compile(r"\*|\*:\*|[a-zA-Z0-9-]+:[A-Za-z0-9*?]+")
_SID = re.compile(r"[A-Za-z0-9]*")
_PRINCIPAL_TYPES = frozenset({"AWS", "Federated", "Service", "CanonicalUser"})
_ANYBODY = "*"


class Kind(Enum):
    """Where a policy document lives, which decides the elements it may have."""

    IDENTITY = "identity"
    """A role's policy or a session policy: what its holder may do."""
    RESOURCE = "resource"
    """A bucket policy: who may do what to the bucket."""
    TRUST = "trust"
    """A role's trust policy: who may enter the role."""


class MalformedPolicyError(Exception):
    """A policy document that AWS would not accept; the text says why."""


@dataclass(frozen=True)
class Principals:
    """The Principal element: type (``AWS``, ``Federated`` …) to names. ``*`` alone is ``{"*": ("*",)}``."""

    names: tuple[tuple[str, tuple[str, ...]], ...]

    def of_type(self, kind: str) -> tuple[str, ...]:
        """Return the names of one type; ``"Principal": "*"`` counts for every type."""
        return tuple(name for found, names in self.names if found in {kind, _ANYBODY} for name in names)


@dataclass(frozen=True)
class Statement:
    """One statement of a policy document."""

    effect: Effect
    actions: tuple[str, ...]
    not_actions: bool
    resources: tuple[str, ...]
    not_resources: bool
    conditions: tuple[Condition, ...]
    principals: Principals | None
    variables: bool

    def applies(self, action: str, resource: str | None, context: RequestContext) -> bool:
        """Whether the statement speaks about this request. In doubt an Allow does not, and a Deny does.

        Args:
            action: such as ``s3:GetObject``.
            resource: the ARN, or None for a trust policy, whose statements name none.
            context: the condition keys of the request.
        """
        if any(_action_matches(pattern, action) for pattern in self.actions) == self.not_actions:
            return False
        if resource is not None and not self._covers(resource, context):
            return False
        in_doubt = False
        for condition in self.conditions:
            try:
                if not condition.holds(context, variables=self.variables):
                    return False  # whatever the others would say
            except UndecidableConditionError:
                in_doubt = True
        return not in_doubt or self.effect == "Deny"

    def _covers(self, resource: str, context: RequestContext) -> bool:
        for pattern in self.resources:
            compiled = expand(pattern, context, variables=self.variables, wildcards=True)
            if compiled is not None and compiled.fullmatch(resource):
                return not self.not_resources
        return self.not_resources


@dataclass(frozen=True)
class Policy:
    """A whole policy document."""

    statements: tuple[Statement, ...]

    def denies(self, action: str, resource: str | None, context: RequestContext) -> bool:
        """Whether a Deny statement applies."""
        return any(s.effect == "Deny" and s.applies(action, resource, context) for s in self.statements)

    def allows(self, action: str, resource: str | None, context: RequestContext) -> bool:
        """Whether an Allow statement applies."""
        return any(s.effect == "Allow" and s.applies(action, resource, context) for s in self.statements)


def parse_policy(document: str, kind: Kind) -> Policy:
    """Parse and check a policy document.

    Raises:
        MalformedPolicyError: not JSON, or not within the grammar of this kind of policy.
    """
    try:
        parsed = json.loads(document, object_pairs_hook=_object_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise MalformedPolicyError("This policy contains invalid Json") from error
    if not isinstance(parsed, dict) or not parsed.keys() <= {"Version", "Id", "Statement"}:
        raise MalformedPolicyError("Syntax errors in policy.")
    version = parsed.get("Version", "2008-10-17")
    if not isinstance(version, str) or version not in _VERSIONS:
        raise MalformedPolicyError("The policy must contain a valid version string")
    statements = parsed.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise MalformedPolicyError("Syntax errors in policy.")
    sids = [s["Sid"] for s in statements if isinstance(s, dict) and s.get("Sid")]
    if len(sids) != len({str(sid) for sid in sids}):
        raise MalformedPolicyError("Statement IDs (SID) in a single policy must be unique.")
    return Policy(tuple(_statement(s, kind, variables=version == _VARIABLES_SINCE) for s in statements))


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _statement(parsed: object, kind: Kind, *, variables: bool) -> Statement:
    if not isinstance(parsed, dict):
        raise MalformedPolicyError("Syntax errors in policy.")
    allowed = {"Sid", "Effect", "Action", "NotAction", "Condition"}
    allowed |= {"Resource", "NotResource"} if kind is not Kind.TRUST else set()
    allowed |= {"Principal"} if kind is not Kind.IDENTITY else set()
    unexpected = sorted(parsed.keys() - allowed)
    if unexpected:
        raise MalformedPolicyError(f"Policy document should not specify {', '.join(unexpected)}.")
    effect = parsed.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise MalformedPolicyError("Syntax errors in policy.")
    sid = parsed.get("Sid", "")
    if not isinstance(sid, str) or (kind is Kind.IDENTITY and not _SID.fullmatch(sid)):
        raise MalformedPolicyError("Statement IDs (SID) must be alpha-numeric.")
    actions, not_actions = _one_of(parsed, "Action", "NotAction", "Policy statement must contain actions.")
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise MalformedPolicyError("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
    resources: tuple[str, ...] = ()
    not_resources = False
    if kind is not Kind.TRUST:
        resources, not_resources = _one_of(
            parsed, "Resource", "NotResource", "Policy statement must contain resources."
        )
        for resource in resources:
            if resource != "*" and not resource.startswith("arn:"):
                raise MalformedPolicyError(f'Resource {resource} must be in ARN format or "*".')
    principals = _principals(parsed.get("Principal")) if kind is not Kind.IDENTITY else None
    conditions = _conditions(parsed.get("Condition", {}))
    return Statement(effect, actions, not_actions, resources, not_resources, conditions, principals, variables)


def _one_of(parsed: dict[str, object], name: str, negated: str, absent: str) -> tuple[tuple[str, ...], bool]:
    if (name in parsed) == (negated in parsed):
        raise MalformedPolicyError(absent if name not in parsed else "Syntax errors in policy.")
    return _strings(parsed.get(name, parsed.get(negated))), negated in parsed


def _strings(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise MalformedPolicyError("Syntax errors in policy.")
    texts = tuple(v for v in values if isinstance(v, str) and v)
    if len(texts) != len(values):
        raise MalformedPolicyError("Syntax errors in policy.")
    return texts


def _principals(value: object) -> Principals:
    if value == _ANYBODY:
        return Principals(((_ANYBODY, (_ANYBODY,)),))
    if not isinstance(value, dict) or not value or not value.keys() <= _PRINCIPAL_TYPES:
        raise MalformedPolicyError(
            "Missing required field Principal" if value is None else "Invalid principal in policy"
        )
    return Principals(tuple((kind, _strings(names)) for kind, names in value.items()))


def _conditions(value: object) -> tuple[Condition, ...]:
    if not isinstance(value, dict):
        raise MalformedPolicyError("Syntax errors in policy.")
    found = []
    for operator, lines in value.items():
        if not isinstance(lines, dict):
            raise MalformedPolicyError("Syntax errors in policy.")
        for key, wanted in lines.items():
            try:
                found.append(Condition.named(operator, key, _condition_values(wanted)))
            except ValueError as error:
                raise MalformedPolicyError(str(error)) from error
    return tuple(found)


def _condition_values(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    texts = []
    for each in values:
        if isinstance(each, bool):
            texts.append("true" if each else "false")
        elif isinstance(each, str | int | float):
            texts.append(str(each))
        else:
            raise MalformedPolicyError("Syntax errors in policy.")
    return tuple(texts)


def _action_matches(pattern: str, action: str) -> bool:
    compiled = expand(pattern.lower(), RequestContext({}), variables=False, wildcards=True)
    return compiled is not None and compiled.fullmatch(action.lower()) is not None
