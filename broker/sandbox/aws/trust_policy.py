"""May this assertion, or this caller, enter this role? The role's trust policy decides.

Sources: IAM User Guide, "IAM and AWS STS condition context keys" (keys for SAML-based federation); Service
Authorization Reference, "AWS Security Token Service" (the condition keys of each action).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from broker.sandbox.aws.assertion_check import VerifiedAssertion
from broker.sandbox.aws.policy import Policy, Statement
from broker.sandbox.aws.policy_conditions import RequestContext

_KEYS_OF_TAGS: Final = ("aws:tagkeys", "aws:requesttag/", "sts:transitivetagkeys")
_KEYS_OF_THE_EXCHANGE: Final = ("saml:", "sts:", *_KEYS_OF_TAGS)
# What of those each action knows, as the Service Authorization Reference lists it. A statement that gives an action a
# condition on any other never applies: saml:aud beside sts:SetSourceIdentity keeps every source identity out. Whether
# AWS is as strict is assumed.
_KEYS_OF_ACTION: Final = {
    "sts:AssumeRole": (*_KEYS_OF_TAGS, "sts:externalid", "sts:rolesessionname", "sts:sourceidentity", "saml:sub"),
    "sts:AssumeRoleWithSAML": (*_KEYS_OF_TAGS, "sts:rolesessionname", "sts:sourceidentity", "saml:"),
    "sts:TagSession": (*_KEYS_OF_TAGS, "saml:aud"),
    "sts:SetSourceIdentity": ("sts:sourceidentity",),
}


def name_qualifier(issuer: str, account: str, provider_name: str) -> str:
    """Return STS's NameQualifier: Base64(SHA1(issuer + account + "/" + provider)), as the STS API Reference says."""
    digest = hashlib.sha1(f"{issuer}{account}/{provider_name}".encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def trust_context(
    assertion: VerifiedAssertion, provider_arn: str, request_keys: dict[str, str], now: datetime
) -> RequestContext:
    """Gather the condition keys that a trust policy may ask about.

    Args:
        assertion: the verified one.
        provider_arn: of the registered provider.
        request_keys: what is known of the HTTP request, with lower-case keys (``aws:sourceip`` …).
        now: aware, UTC.
    """
    account = provider_arn.split(":")[4]
    name = provider_arn.rpartition("/")[2]
    values: dict[str, str | tuple[str, ...]] = {
        **request_keys,
        **time_keys(now),
        "aws:federatedprovider": provider_arn,
        "saml:aud": assertion.recipient,
        "saml:iss": assertion.issuer,
        "saml:doc": f"{account}/{name}",
        "saml:sub": assertion.subject,
        "saml:sub_type": assertion.subject_type,
        "saml:namequalifier": name_qualifier(assertion.issuer, account, name),
        "sts:rolesessionname": assertion.role_session_name,
    }
    values |= {f"aws:requesttag/{key.lower()}": value for key, value in assertion.tags.items()}
    if assertion.tags:
        values["aws:tagkeys"] = tuple(assertion.tags)
    if assertion.transitive_tag_keys:
        values["sts:transitivetagkeys"] = assertion.transitive_tag_keys
    if assertion.source_identity:
        values["sts:sourceidentity"] = assertion.source_identity
    return RequestContext(values)


def time_keys(now: datetime) -> dict[str, str]:
    """Return aws:CurrentTime and aws:EpochTime."""
    return {
        "aws:currenttime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:epochtime": str(int(now.timestamp())),
    }


def trusts(
    policy: Policy, actions: Iterable[str], principal_type: str, principals: Iterable[str], context: RequestContext
) -> bool:
    """Whether a trust policy lets a principal perform every one of some STS actions, each decided for itself.

    Args:
        policy: the role's trust policy.
        actions: ``sts:AssumeRoleWithSAML`` or ``sts:AssumeRole``, and ``sts:TagSession`` and ``sts:SetSourceIdentity``
            when tags or a source identity are passed.
        principal_type: ``Federated`` or ``AWS``.
        principals: the names under which the principal may be listed.
        context: the condition keys of the whole exchange.
    """
    listed = set(principals)
    # "*" is everybody among AWS principals. An Allow for everybody opens no role to identity providers; a Deny for
    # everybody closes it to them too.
    allowing = listed | {"*"} if principal_type == "AWS" else listed
    allows = [s for s in policy.statements if s.effect == "Allow" and _names(s, principal_type, allowing)]
    denies = [
        s
        for s in policy.statements
        if s.effect == "Deny" and (_names(s, principal_type, listed | {"*"}) or _names(s, "AWS", {"*"}))
    ]
    return all(
        any(s.applies(action, None, known) for s in allows) and not any(s.applies(action, None, known) for s in denies)
        for action, known in ((action, _known_to(action, context)) for action in actions)
    )


def _names(statement: Statement, principal_type: str, names: set[str]) -> bool:
    return statement.principals is not None and not names.isdisjoint(statement.principals.of_type(principal_type))


def _known_to(action: str, context: RequestContext) -> RequestContext:
    own = _KEYS_OF_ACTION[action]
    return RequestContext(
        {
            key: value
            for key, value in context.values.items()
            if key.startswith(own) or not key.startswith(_KEYS_OF_THE_EXCHANGE)
        }
    )
