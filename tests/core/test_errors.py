"""One tree of errors whose texts speak to the operator and hold no secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from broker.core import errors
from broker.core.errors import (
    BrokerError,
    ConfigurationInvalid,
    Fault,
    LoginCause,
    SecondFactorCause,
    TokenServiceAnswer,
    TokenServiceRefused,
    Unavailable,
)
from broker.core.trust_policy import trust_statements_json
from tests.core.examples import ASKED

ANSWER = TokenServiceAnswer("AccessDenied", "Not authorized", "req-1")

# How each error that takes arguments of its own is made.
MADE: Final[dict[str, BrokerError]] = {
    "LoginRejected": errors.LoginRejected(LoginCause.DISABLED, detail="533"),
    "LoginThrottled": errors.LoginThrottled(timedelta(minutes=3)),
    "NewPasswordTooShort": errors.NewPasswordTooShort(12),
    "NewPasswordTooLong": errors.NewPasswordTooLong(1024),
    "SecondFactorRejected": errors.SecondFactorRejected(SecondFactorCause.WRONG_CODE),
    "SecondFactorNeeded": errors.SecondFactorNeeded(timedelta(minutes=15)),
    "PrincipalGone": errors.PrincipalGone("A" * 26, LoginCause.UNKNOWN_USERNAME),
    "EntitlementNotHeld": errors.EntitlementNotHeld("home", exists=True),
    "DurationTooShort": errors.DurationTooShort(timedelta(minutes=15)),
    "DurationTooLong": errors.DurationTooLong(timedelta(hours=1)),
    "UseNotOffered": errors.UseNotOffered("console"),
    "AttributeUnusable": errors.AttributeUnusable("team", "it is empty"),
    "SessionPolicyTooLong": errors.SessionPolicyTooLong(2049, 2048),
    "SessionsRevoked": errors.SessionsRevoked(timedelta(seconds=5)),
    "RolePolicyTooLong": errors.RolePolicyTooLong(10_241, 10_240),
    "RolePolicyRefused": errors.RolePolicyRefused("AccessDenied", "not authorized"),
    "FilterMalformed": errors.FilterMalformed("since"),
    "GroupNotResolved": errors.GroupNotResolved("Staff", 2),
}


def leaves(branch: type[BrokerError] = BrokerError) -> Iterator[type[BrokerError]]:
    children = [child for child in branch.__subclasses__() if child.__module__ == errors.__name__]
    for child in children:
        yield from leaves(child)
    if not children:
        yield branch


def made(leaf: type[Any]) -> BrokerError:
    if leaf.__name__ in MADE:
        return MADE[leaf.__name__]
    if issubclass(leaf, TokenServiceRefused):
        return leaf(ANSWER, ASKED)
    if issubclass(leaf, ConfigurationInvalid):
        return leaf(Fault("place", "what to do"))
    if issubclass(leaf, Unavailable):
        return leaf("no answer")
    error = leaf()
    assert isinstance(error, BrokerError)
    return error


@pytest.mark.parametrize("leaf", list(leaves()), ids=lambda leaf: leaf.__name__)
def test_every_leaf_says_something_to_the_operator_in_one_line(leaf: type[BrokerError]) -> None:
    text = str(made(leaf))
    assert text
    assert "\n" not in text
    assert text != leaf.__name__


def test_the_texts_name_what_the_operator_needs() -> None:
    assert str(MADE["LoginRejected"]) == "sign-in refused: disabled (533)"
    assert str(errors.LoginRejected(LoginCause.LOCKED)) == "sign-in refused: locked"
    assert str(MADE["DurationTooShort"]) == "the duration is below 900 seconds"
    assert str(MADE["DurationTooLong"]) == "the duration is above 3600 seconds"
    assert str(MADE["GroupNotResolved"]) == "2 groups are called 'Staff': write the DN"
    assert str(errors.GroupNotResolved("Staff", 0)) == "no group 'Staff' under the group base"
    assert str(made(errors.RoleNotTrusting)) == (
        "STS in ap-northeast-1 refused role arn:aws:iam::111122223333:role/team/StaffFiles of account 111122223333"
        " through arn:aws:iam::111122223333:saml-provider/broker: AccessDenied: Not authorized (request req-1)."
        " Check that role StaffFiles exists in account 111122223333, written exactly like this, and that its trust"
        f" policy has these statements: {trust_statements_json(ASKED.saml_provider_arn, ())}. Where it has further"
        " conditions, they have to allow what the audit event holds."
    )
    assert str(errors.SettingsInvalid(Fault("a", "x"), Fault("b", "y"))) == "a: x; b: y"


# What the operator's text of each refusal has to name besides role, account, provider, region and request.
REMEDIES: Final = {
    "SamlProviderMissing": "aws iam create-saml-provider --name broker",
    "IssuerNotInProvider": "aws iam update-saml-provider --saml-provider-arn arn:aws:iam::111122223333:saml-prov",
    "SignatureNotAccepted": "does not hold the certificate of the active signing key",
    "AudienceNotAccepted": "https://signin.aws.amazon.com/saml",
    "AssertionMalformed": "report it",
    "ClaimRejected": "ValidUntil",
    "AssertionNotAccepted": "`broker metadata > metadata.xml`",
    "AssertionOutOfTime": "what delays requests to STS",
    "RoleNotTrusting": '"Federated": "arn:aws:iam::111122223333:saml-provider/broker"',
    "TagSessionNotAllowed": "lacks sts:TagSession",
    "SourceIdentityNotAllowed": "lacks sts:SetSourceIdentity",
    "SessionPolicyNotAccepted": "the audit event holds",
    "PackedPolicyTooLarge": "fewer or shorter tags",
    "ManagedPolicyMissing": "policy_arns",
    "RegionNotEnabled": "Switch STS on for ap-northeast-1 in account 111122223333",
    "DurationAboveRole": "aws iam update-role --role-name StaffFiles --max-session-duration",
    "DurationAboveChaining": "1h",
    "UnexpectedTokenServiceAnswer": "CloudTrail of account 111122223333",
}


def test_every_refusal_by_sts_tells_the_operator_what_to_change() -> None:
    assert set(REMEDIES) == {leaf.__name__ for leaf in leaves(TokenServiceRefused)}
    for leaf in leaves(TokenServiceRefused):
        text = str(made(leaf))
        assert REMEDIES[leaf.__name__] in text
        for named in (ASKED.role_arn, ASKED.account, ASKED.saml_provider_arn, ASKED.region, "request req-1"):
            assert named in text
        assert "clock is" not in text


# The key of these would open, with people's metadata in its provider, what ends everybody's sessions.
@pytest.mark.parametrize(
    "leaf",
    [
        errors.SamlProviderMissing,
        errors.IssuerNotInProvider,
        errors.SignatureNotAccepted,
        errors.AssertionNotAccepted,
    ],
)
def test_for_a_role_of_the_brokers_own_it_is_never_peoples_metadata(leaf: type[errors.TokenServiceRefused]) -> None:
    assert "`broker metadata > metadata.xml`" in str(leaf(ANSWER, ASKED))
    own = str(leaf(ANSWER, replace(ASKED, of_own_role=True)))
    assert "`broker metadata --for own-roles > metadata.xml`" in own
    assert "entitlements file" not in own


@pytest.mark.parametrize(
    "leaf", [errors.SamlProviderMissing, errors.SignatureNotAccepted, errors.DurationAboveRole], ids=lambda leaf: leaf
)
def test_commands_for_iam_go_to_the_partition_of_the_account(leaf: type[errors.TokenServiceRefused]) -> None:
    assert "--region" not in str(leaf(ANSWER, ASKED))
    in_china = replace(
        ASKED,
        role_arn=ASKED.role_arn.replace("arn:aws:", "arn:aws-cn:"),
        saml_provider_arn=ASKED.saml_provider_arn.replace("arn:aws:", "arn:aws-cn:"),
        region="cn-north-1",
    )
    assert re.search("`aws iam [^`]+ --region cn-north-1`", str(leaf(ANSWER, in_china)))


def test_only_a_leaf_says_what_to_change() -> None:
    with pytest.raises(NotImplementedError):
        TokenServiceRefused(ANSWER, ASKED)


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(312, "This machine's clock is 312 seconds ahead of that of STS."), (-90, "is 90 seconds behind that of STS.")],
)
def test_a_clock_that_is_off_is_named_in_seconds(ahead: int, words: str) -> None:
    asked = replace(ASKED, clock_ahead=timedelta(seconds=ahead))
    text = str(errors.AssertionOutOfTime(ANSWER, asked))
    assert "set it by NTP" in text
    assert text.endswith(words)
    assert str(errors.AssertionNotAccepted(ANSWER, asked)).endswith(words)


@pytest.mark.parametrize("leaf", [errors.RoleNotTrusting, errors.TagSessionNotAllowed, errors.SourceIdentityNotAllowed])
def test_a_role_that_does_not_trust_is_told_the_statements_to_trust_with(
    leaf: type[errors.TokenServiceRefused],
) -> None:
    asked = replace(ASKED, tag_keys=("Department",))
    assert trust_statements_json(ASKED.saml_provider_arn, ["Department"]) in str(leaf(ANSWER, asked))


def test_an_entitlement_that_is_not_held_and_one_that_does_not_exist_differ_for_the_operator_only() -> None:
    assert str(errors.EntitlementNotHeld("x", exists=True)) != str(errors.EntitlementNotHeld("x", exists=False))


def test_what_an_address_held_is_not_in_the_text_which_the_audit_keeps() -> None:
    assert "<script>" not in str(errors.EntitlementNotHeld("<script>", exists=False))


def test_errors_of_a_configuration_keep_every_fault() -> None:
    faults = (Fault("a", "x"), Fault("b", "y"))
    assert errors.EntitlementsInvalid(*faults).faults == faults
