"""Trust policies: each action of an exchange is decided for itself, and the company's roles are as an operator's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from broker.sandbox.aws.company import FILES, SESSION_TAG_KEYS, trust_policy
from broker.sandbox.aws.policy import Kind, parse_policy
from broker.sandbox.aws.policy_conditions import RequestContext
from broker.sandbox.aws.trust_policy import trusts
from tests.deploy.aws_template import GIVEN, roles
from tests.sandbox.aws.identity_provider import SIGN_IN, Claims, provider, role

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient

    from tests.sandbox.aws.conftest import Assume

ENTER, TAG, IDENTIFY = "sts:AssumeRoleWithSAML", "sts:TagSession", "sts:SetSourceIdentity"
IDENTITY = "ALICEIDAAAAAAAAAAAAAAAAAAA"
EXCHANGE: Mapping[str, str | tuple[str, ...]] = {
    "aws:sourceip": "127.0.0.1",
    "saml:aud": SIGN_IN,
    "saml:iss": "https://idp.test.example/saml/metadata",
    "saml:sub": "alice-id",
    "sts:rolesessionname": "alice",
    "sts:sourceidentity": IDENTITY,
    "aws:tagkeys": ("Department",),
    "aws:requesttag/department": "Sales",
    "sts:transitivetagkeys": ("Department",),
}


def allow(action: str | Sequence[str], **changes: object) -> dict[str, object]:
    return {"Effect": "Allow", "Principal": {"Federated": provider()}, "Action": action, **changes}


def trusted(*statements: Mapping[str, object], actions: Sequence[str] = (ENTER,), by: str = provider()) -> bool:
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return trusts(parse_policy(document, Kind.TRUST), actions, "Federated", [by], RequestContext(EXCHANGE))


# The rows of the Service Authorization Reference, "AWS Security Token Service".
CONDITIONS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "saml:aud": {"StringEquals": {"saml:aud": SIGN_IN}},
    "saml:iss": {"StringEquals": {"saml:iss": "https://idp.test.example/saml/metadata"}},
    "saml:sub": {"StringEquals": {"saml:sub": "alice-id"}},
    "sts:RoleSessionName": {"StringLike": {"sts:RoleSessionName": "ali*"}},
    "sts:SourceIdentity": {"StringLike": {"sts:SourceIdentity": "?" * 26}},
    "aws:TagKeys": {"ForAnyValue:StringEquals": {"aws:TagKeys": "Department"}},
    "aws:RequestTag": {"StringEquals": {"aws:RequestTag/Department": "Sales"}},
    "sts:TransitiveTagKeys": {"ForAnyValue:StringEquals": {"sts:TransitiveTagKeys": "Department"}},
    "aws:SourceIp": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}},
}
_TAGS = {"aws:TagKeys", "aws:RequestTag", "sts:TransitiveTagKeys"}
KNOWN = {
    ENTER: set(CONDITIONS),
    TAG: {*_TAGS, "saml:aud", "aws:SourceIp"},
    IDENTIFY: {"sts:SourceIdentity", "aws:SourceIp"},
}


@pytest.mark.parametrize("key", CONDITIONS)
@pytest.mark.parametrize("action", KNOWN)
def test_a_condition_holds_for_the_actions_that_have_its_key_and_for_no_other(action: str, key: str) -> None:
    assert trusted(allow(action), actions=[action])
    assert trusted(allow(action, Condition=CONDITIONS[key]), actions=[action]) is (key in KNOWN[action])


def test_every_action_that_is_used_needs_a_statement_and_may_have_one_of_its_own() -> None:
    all_three = (ENTER, TAG, IDENTIFY)
    statements = [allow(action) for action in all_three]
    assert trusted(*statements, actions=all_three)
    assert trusted(allow(all_three), actions=all_three)
    assert trusted(allow("sts:*"), actions=all_three)
    for missing in range(3):
        assert not trusted(*statements[:missing], *statements[missing + 1 :], actions=all_three)


def test_a_condition_on_one_action_is_no_condition_on_another() -> None:
    other_audience = {"StringEquals": {"saml:aud": "https://elsewhere.example/saml"}}
    assert not trusted(allow(ENTER, Condition=other_audience), allow(TAG), actions=[ENTER, TAG])
    assert not trusted(allow(ENTER), allow(TAG, Condition=other_audience), actions=[ENTER, TAG])


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, {"Federated": provider()}])
@pytest.mark.parametrize("denied", [ENTER, TAG, IDENTIFY])
def test_a_deny_for_everybody_or_for_the_provider_wins_over_every_allow(principal: object, denied: str) -> None:
    deny = {"Effect": "Deny", "Principal": principal, "Action": denied}
    assert not trusted(allow("sts:*"), deny, actions=[ENTER, TAG, IDENTIFY])


def test_a_deny_for_somebody_else_or_under_a_condition_that_does_not_hold_changes_nothing() -> None:
    for deny in (
        {"Effect": "Deny", "Principal": {"Federated": provider("444455556666")}, "Action": "sts:*"},
        {"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "sts:*"},
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": ENTER,
            "Condition": {"StringNotEquals": {"saml:aud": SIGN_IN}},
        },
    ):
        assert trusted(allow("sts:*"), deny)


def test_an_allow_for_everybody_opens_no_role_to_an_identity_provider() -> None:
    for principal in ("*", {"AWS": "*"}, {"AWS": provider()}, {"Federated": provider()[:-1] + "*"}):
        assert not trusted(allow("sts:*", Principal=principal))


# --- the company's roles, and an operator's


def test_the_companys_roles_trust_as_the_operators_template_does() -> None:
    given = {**GIVEN, "SessionTagKeys": ",".join(SESSION_TAG_KEYS)}
    for properties in roles(given).values():
        assert properties["AssumeRolePolicyDocument"] == trust_policy(FILES)


REFUSED = ("AccessDenied", 403, "Not authorized to perform sts:AssumeRoleWithSAML")


def refusal(assume: Assume, claims: Claims, role_arn: str) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        assume(claims, role_arn=role_arn)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


@pytest.mark.parametrize("missing", [ENTER, TAG, IDENTIFY])
def test_a_role_of_the_company_that_loses_one_statement_is_refused_with_the_text_of_sts(
    assume: Assume, admin_iam: IAMClient, missing: str
) -> None:
    whole: Any = trust_policy(FILES)
    rest = [statement for statement in whole["Statement"] if statement["Action"] != missing]
    assert len(rest) == 2
    role_arn = role("Narrowed")
    claims = Claims(roles=(f"{role_arn},{provider()}",), tags={"Department": "Sales"})
    admin_iam.create_role(RoleName="Narrowed", AssumeRolePolicyDocument=json.dumps(whole))
    try:
        assert assume(claims, role_arn=role_arn)["SourceIdentity"] == IDENTITY
        admin_iam.update_assume_role_policy(
            RoleName="Narrowed", PolicyDocument=json.dumps({**whole, "Statement": rest})
        )
        assert refusal(assume, claims, role_arn) == REFUSED
    finally:
        admin_iam.delete_role(RoleName="Narrowed")


def test_without_tags_the_role_may_lack_the_statement_about_tags(assume: Assume, admin_iam: IAMClient) -> None:
    whole: Any = trust_policy(FILES)
    rest = [statement for statement in whole["Statement"] if statement["Action"] != TAG]
    role_arn = role("Untagged")
    admin_iam.create_role(RoleName="Untagged", AssumeRolePolicyDocument=json.dumps({**whole, "Statement": rest}))
    try:
        assert assume(Claims(roles=(f"{role_arn},{provider()}",)), role_arn=role_arn)["SourceIdentity"] == IDENTITY
    finally:
        admin_iam.delete_role(RoleName="Untagged")


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(Claims(source_identity=None), id="no source identity"),
        pytest.param(Claims(source_identity="alice"), id="a source identity of another form"),
        pytest.param(Claims(tags={"Department": "Sales", "Admin": "yes"}), id="a tag that is not listed"),
        pytest.param(
            Claims(recipient="https://us-east-2.signin.aws.amazon.com/saml"), id="a recipient that is not listed"
        ),
    ],
)
def test_the_companys_roles_refuse_what_the_conditions_do_not_cover(assume: Assume, claims: Claims) -> None:
    assert refusal(assume, claims, role()) == REFUSED
