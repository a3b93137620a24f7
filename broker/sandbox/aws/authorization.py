"""May this session do this? Role policy ∩ session policy ∩ permissions boundary, bucket policy, explicit deny first.

Source: IAM User Guide, "Policy evaluation logic" and "Session policies".
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.sandbox.aws.policy import Policy, Principals
from broker.sandbox.aws.policy_conditions import RequestContext


@dataclass(frozen=True)
class Permission:
    """One permission that a request needs: an action on a resource."""

    action: str
    resource: str
    context: RequestContext


@dataclass(frozen=True)
class Holder:
    """Whose permissions are asked for.

    Attributes:
        arn: of the session or user, as in GetCallerIdentity.
        account: the twelve digits.
        role_arn: of the role the session is in, or the empty string.
        identity: the policies of the role.
        limits: layers that each must allow too (session policies together are one layer, a permissions boundary
            another); the name is for the refusal's text.
    """

    arn: str
    account: str
    role_arn: str
    identity: tuple[Policy, ...]
    limits: tuple[tuple[str, tuple[Policy, ...]], ...]


class NotAuthorizedError(Exception):
    """The request is denied. The text is the one AWS sends."""

    def __init__(self, holder: Holder, permission: Permission, because: str) -> None:
        super().__init__(
            f"User: {holder.arn} is not authorized to perform: {permission.action} on resource: "
            f'"{permission.resource}" {because}'
        )


def authorize(
    holder: Holder, permission: Permission, resource_policy: Policy | None = None, owner_account: str | None = None
) -> None:
    """Check one permission.

    Args:
        holder: whose permissions count.
        permission: what is asked.
        resource_policy: the bucket's policy, if it has one.
        owner_account: the account of the resource; None means the holder's own.

    Raises:
        NotAuthorizedError: an explicit deny, or nothing that allows it.
    """
    action, resource, context = permission.action, permission.resource, permission.context
    layers = (("an identity-based policy", holder.identity), *holder.limits)
    for name, policies in layers:
        if any(policy.denies(action, resource, context) for policy in policies):
            raise NotAuthorizedError(holder, permission, f"with an explicit deny in {name}")
    grant = _resource_grant(holder, permission, resource_policy)
    if grant == "deny":
        raise NotAuthorizedError(holder, permission, "with an explicit deny in a resource-based policy")
    by_role = any(policy.allows(action, resource, context) for policy in holder.identity)
    missing = next(
        (name for name, policies in holder.limits if not any(p.allows(action, resource, context) for p in policies)),
        None,
    )
    if owner_account in (None, holder.account):
        # A bucket policy that names the session itself is not narrowed by the session policy; one that names the
        # role is; one that names the account only lets the account's own policies decide.
        if grant == "session" or (missing is None and (by_role or grant == "role")):
            return
    elif missing is None and by_role and grant in {"session", "role", "account"}:
        return
    if missing is not None:
        because = f"because no {missing.removeprefix('a ')} allows the {action} action"
    elif not by_role:
        because = f"because no identity-based policy allows the {action} action"
    else:
        because = f"because no resource-based policy allows the {action} action"
    raise NotAuthorizedError(holder, permission, because)


def _resource_grant(holder: Holder, permission: Permission, policy: Policy | None) -> str:
    """Return ``deny``, or how closely an Allow names the holder: ``session``, ``role``, ``account`` or nothing."""
    closest = ""
    for statement in policy.statements if policy is not None else ():
        named = _named(holder, statement.principals)
        if not named or not statement.applies(permission.action, permission.resource, permission.context):
            continue
        if statement.effect == "Deny":
            return "deny"
        closest = min(closest or named, named, key=("session", "role", "account").index)
    return closest


def _named(holder: Holder, principals: Principals | None) -> str:
    names = principals.of_type("AWS") if principals is not None else ()
    if holder.arn in names:
        return "session"
    if "*" in names or (holder.role_arn and holder.role_arn in names):
        return "role"
    account_root = f"arn:aws:iam::{holder.account}:root"
    return "account" if holder.account in names or account_root in names else ""
