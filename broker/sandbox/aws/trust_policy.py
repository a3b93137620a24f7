"""May this assertion, or this caller, enter this role? The role's trust policy decides.

Source: IAM User Guide, "IAM and AWS STS condition context keys" (keys for SAML-based federation).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime

from broker.sandbox.aws.assertion_check import VerifiedAssertion
from broker.sandbox.aws.policy import Policy
from broker.sandbox.aws.policy_conditions import RequestContext


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
    """Whether a trust policy lets a principal perform every one of some STS actions.

    Args:
        policy: the role's trust policy.
        actions: ``sts:AssumeRoleWithSAML``, and ``sts:TagSession`` or ``sts:SetSourceIdentity`` when they are used.
        principal_type: ``Federated`` or ``AWS``.
        principals: the names under which the principal may be listed.
        context: the condition keys.
    """
    # A trust policy can name everybody among AWS principals, never among identity providers.
    names = {*principals, "*"} if principal_type == "AWS" else set(principals)
    about = [
        s
        for s in policy.statements
        if s.principals is not None and names.intersection(s.principals.of_type(principal_type))
    ]
    return all(
        any(s.effect == "Allow" and s.applies(action, None, context) for s in about)
        and not any(s.effect == "Deny" and s.applies(action, None, context) for s in about)
        for action in actions
    )
