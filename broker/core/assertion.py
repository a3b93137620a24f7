"""The SAML claims for one grant, unsigned, as a value.

Sources: OASIS SAML 2.0 core (saml-core-2.0-os) sections 2.3 to 2.7; AWS IAM user guide, "Configure SAML assertions
for the authentication response".
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from broker.core.credentials import Secret
from broker.core.entitlements import Grant

_AWS_ATTRIBUTE: Final = "https://aws.amazon.com/SAML/Attributes/"
ROLE: Final = _AWS_ATTRIBUTE + "Role"
ROLE_SESSION_NAME: Final = _AWS_ATTRIBUTE + "RoleSessionName"
SOURCE_IDENTITY: Final = _AWS_ATTRIBUTE + "SourceIdentity"
SESSION_DURATION: Final = _AWS_ATTRIBUTE + "SessionDuration"
PRINCIPAL_TAG: Final = _AWS_ATTRIBUTE + "PrincipalTag:"
TRANSITIVE_TAG_KEYS: Final = _AWS_ATTRIBUTE + "TransitiveTagKeys"

# STS refuses an assertion older than five minutes, and accepts the same one again until then: no longer than needed.
VALID_FOR: Final = timedelta(minutes=5)
# STS publishes no tolerance for clocks; a minute covers a clock of ours that runs ahead.
CLOCK_SKEW: Final = timedelta(minutes=1)

# saml-authn-context-2.0-os section 3.4.5: password over a protected transport.
PASSWORD_PROTECTED_TRANSPORT: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"  # noqa: S105
# REFEDS MFA profile 1.2, https://refeds.org/profile/mfa: this very session used two factors of different types. The
# classes of SAML itself name one technique each (TimeSyncToken, …) and none says "beside the password".
MULTI_FACTOR: Final = "https://refeds.org/profile/mfa"
# saml-authn-context-2.0-os section 3.4.25: for the broker's own errands, where nobody was authenticated.
UNSPECIFIED: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"


@dataclass(frozen=True, slots=True)
class AssertionClaims:
    """What one assertion says.

    Attributes:
        id: of the assertion; CloudTrail shows it as ``sAMLAssertionID``, so the audit row and the call can be joined.
        response_id: of the Response around it.
        issuer: our entity id.
        subject: the persistent NameID: the immutable id, since CloudTrail shows it and it should not name a person.
        recipient: the relying party's assertion consumer; also Response/@Destination.
        authn_instant: when what ``authn_context`` says was proved.
        authn_context: how the person was authenticated.
        attributes: values by attribute name, in the order they are written.
    """

    id: str
    response_id: str
    issuer: str
    subject: str
    audience: str
    recipient: str
    issue_instant: datetime
    not_before: datetime
    not_on_or_after: datetime
    authn_instant: datetime
    authn_context: str
    attributes: Mapping[str, tuple[str, ...]] = field(hash=False)


@dataclass(frozen=True, slots=True)
class SignedAssertion:
    """A signed Response with one assertion, as STS takes it.

    Attributes:
        id: of the assertion.
        response: base64 of the Response; STS accepts it repeatedly within five minutes, so it is a credential.
    """

    id: str
    response: Secret


def claims_for(
    grant: Grant,
    issuer: str,
    authn_instant: datetime,
    now: datetime,
    *,
    authn_context: str = PASSWORD_PROTECTED_TRANSPORT,
) -> AssertionClaims:
    """The claims that let STS issue the session of that grant: exactly one role, five minutes.

    Args:
        grant: authorised just now.
        issuer: our entity id.
        authn_instant: when the person proved what ``authn_context`` says.
        now: aware, UTC.
        authn_context: how the person was authenticated; without a word, with the password alone.
    """
    partition = grant.entitlement.account.partition
    attributes: dict[str, tuple[str, ...]] = {
        ROLE: (f"{grant.role_arn},{grant.saml_provider_arn}",),
        ROLE_SESSION_NAME: (grant.principal.role_session_name,),
        SOURCE_IDENTITY: (grant.principal.source_identity,),
        SESSION_DURATION: (str(int(grant.duration.total_seconds())),),
        **{PRINCIPAL_TAG + key: (value,) for key, value in grant.tags.items()},
    }
    if grant.entitlement.transitive_tags:
        attributes[TRANSITIVE_TAG_KEYS] = grant.entitlement.transitive_tags
    return AssertionClaims(
        id=_new_id(),
        response_id=_new_id(),
        issuer=issuer,
        subject=grant.principal.id,
        audience=partition.saml_audience,
        recipient=partition.saml_recipient,
        issue_instant=now,
        not_before=now - CLOCK_SKEW,
        not_on_or_after=now + VALID_FOR,
        authn_instant=authn_instant,
        authn_context=authn_context,
        attributes=attributes,
    )


def _new_id() -> str:
    # An xs:ID starts with a letter or underscore; 160 random bits (saml-core section 1.3.4 asks for at least 128).
    return "_" + secrets.token_hex(20)
