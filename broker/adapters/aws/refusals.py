"""What STS answers when it refuses, as an error of ours.

Sources: AWS STS API reference, AssumeRoleWithSAML, Errors, and botocore's model of it for the codes; AWS IAM user
guide, "Troubleshoot SAML federation with IAM", and what users of other clients quote in public for the texts. One code
covers many causes, so the text decides where the operator has to do something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.core.audit import printable
from broker.core.errors import (
    AssertionMalformed,
    AssertionNotAccepted,
    AssertionOutOfTime,
    AudienceNotAccepted,
    ClaimRejected,
    DurationAboveChaining,
    DurationAboveRole,
    IssuerNotInProvider,
    ManagedPolicyMissing,
    PackedPolicyTooLarge,
    RegionNotEnabled,
    RoleNotTrusting,
    SamlProviderMissing,
    SessionPolicyNotAccepted,
    SignatureNotAccepted,
    SourceIdentityNotAllowed,
    TagSessionNotAllowed,
    TokenServiceAnswer,
    TokenServiceRefused,
    UnexpectedTokenServiceAnswer,
)

# Code on the wire (without the "Exception" that some carry and some do not), a part of the text in lower case, and what
# it means. The first that fits counts; an empty text fits any.
_REFUSALS: Final[tuple[tuple[str, str, type[TokenServiceRefused]], ...]] = (
    ("InvalidIdentityToken", "provider doesn't exist", SamlProviderMissing),
    ("InvalidIdentityToken", "no openidconnect provider", SamlProviderMissing),
    ("InvalidIdentityToken", "issuer not present", IssuerNotInProvider),
    ("InvalidIdentityToken", "signature invalid", SignatureNotAccepted),
    ("InvalidIdentityToken", "required audience", AudienceNotAccepted),
    ("InvalidIdentityToken", "required recipient", AudienceNotAccepted),
    ("InvalidIdentityToken", "not yet valid", AssertionOutOfTime),
    ("InvalidIdentityToken", "has expired", AssertionOutOfTime),
    ("InvalidIdentityToken", "must be redeemed within", AssertionOutOfTime),
    ("InvalidIdentityToken", "must be signed", AssertionMalformed),
    ("InvalidIdentityToken", "rolesessionname", AssertionMalformed),
    ("InvalidIdentityToken", "source identity", AssertionMalformed),
    ("InvalidIdentityToken", "invalid base64", AssertionMalformed),
    ("InvalidIdentityToken", "invalid saml", AssertionMalformed),
    ("InvalidIdentityToken", "", AssertionNotAccepted),
    ("IDPRejectedClaim", "", ClaimRejected),
    ("ExpiredToken", "", AssertionOutOfTime),
    ("AccessDenied", "sts:tagsession", TagSessionNotAllowed),
    ("AccessDenied", "sts:setsourceidentity", SourceIdentityNotAllowed),
    ("AccessDenied", "", RoleNotTrusting),
    ("MalformedPolicyDocument", "", SessionPolicyNotAccepted),
    ("PackedPolicyTooLarge", "", PackedPolicyTooLarge),
    ("RegionDisabled", "", RegionNotEnabled),
    ("ValidationError", "exceeds the maxsessionduration", DurationAboveRole),
    ("ValidationError", "role chaining", DurationAboveChaining),
    ("ValidationError", "existing iam managed policy", ManagedPolicyMissing),
)

# What goes away by itself, besides every status above 500. The names differ from service to service and have changed.
_BUSY: Final = frozenset(
    {
        "Throttling",
        "Throttled",
        "RequestThrottled",
        "RequestLimitExceeded",
        "TooManyRequests",
        "SlowDown",
        "PriorRequestNotComplete",
        "RequestTimeout",
        "ServiceUnavailable",
        "InternalFailure",
        "InternalError",
    }
)
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500

# AWS repeats a value that it finds malformed in its text. Base64 as long as this is an assertion or a token; a proxy
# might repeat it as it was sent, with percent signs.
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9+/=_%-]{100,}")
_LONGEST_TEXT: Final = 1024


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An answer of STS that is an error.

    Attributes:
        status: of HTTP; 0 where there is none.
    """

    answer: TokenServiceAnswer
    status: int

    @property
    def busy(self) -> bool:
        """Whether it may go away by itself: throttling, or a fault on the side of STS."""
        code = self.answer.code.removesuffix("Exception")
        return code in _BUSY or self.status == _TOO_MANY_REQUESTS or self.status >= _SERVER_ERROR

    @property
    def regional(self) -> bool:
        """Whether it is the fault of this region, so that another one may do better."""
        return self.busy and self.status >= _SERVER_ERROR

    @property
    def refusal(self) -> type[TokenServiceRefused]:
        """What it means when it is none that goes away."""
        code, text = self.answer.code.removesuffix("Exception"), self.answer.message.lower()
        for known, part, refusal in _REFUSALS:
            if code == known and part in text:
                return refusal
        return UnexpectedTokenServiceAnswer


def read_error(response: Mapping[str, Any]) -> ErrorAnswer:
    """Read what botocore made of an error; nothing in it can be longer than a line or hold a credential.

    Args:
        response: of ``botocore.exceptions.ClientError``.
    """
    details, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    request_id = metadata.get("RequestId")
    return ErrorAnswer(
        answer=TokenServiceAnswer(
            code=_shown(details.get("Code") or "Unknown"),
            message=_shown(details.get("Message") or ""),
            request_id=None if request_id is None else _shown(request_id),
        ),
        status=metadata.get("HTTPStatusCode", 0),
    )


def _shown(text: object) -> str:
    return printable(_CREDENTIAL.sub("•••", str(text)))[:_LONGEST_TEXT]
