"""AssumeRoleWithSAML over the wire: what is issued, and each refusal with its code, status and text."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3
import pytest
from botocore.exceptions import ClientError
from lxml import etree

from broker.sandbox.aws.company import REGION
from tests.sandbox.aws.conftest import ONE_TRY, Assume, home_policy
from tests.sandbox.aws.identity_provider import (
    FILES,
    RESEARCH,
    SIGN_IN,
    Claims,
    encode,
    metadata,
    provider,
    role,
    signed_response,
    signed_tree,
    signing_key,
)
from tests.sandbox.aws.process import StandIn

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_sts.client import STSClient
    from mypy_boto3_sts.type_defs import CredentialsTypeDef

NAMESPACE = {"sts": "https://sts.amazonaws.com/doc/2011-06-15/"}


def refusal(error: ClientError) -> tuple[str, int, str]:
    response = error.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def post(stand_in: StandIn, parameters: Mapping[str, str]) -> tuple[int, etree._Element]:
    body = urlencode({"Version": "2011-06-15", **parameters}).encode()
    request = urllib.request.Request(f"{stand_in.aws_endpoint}/", data=body)  # noqa: S310  our own loopback server
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310  our own loopback server
            return answer.status, etree.fromstring(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, etree.fromstring(error.read())


def saml_parameters(**more: str) -> dict[str, str]:
    return {
        "Action": "AssumeRoleWithSAML",
        "RoleArn": role(),
        "PrincipalArn": provider(),
        "SAMLAssertion": signed_response(),
        **more,
    }


# --- what is issued


def test_a_good_assertion_is_answered_with_everything_aws_answers(assume: Assume) -> None:
    before = datetime.now(UTC)
    answer = assume(Claims(tags={"Department": "研究"}), policy=home_policy("alice/"), DurationSeconds=900)
    credentials = answer["Credentials"]
    assert credentials["AccessKeyId"].startswith("ASIA")
    assert len(credentials["AccessKeyId"]) == 20
    assert timedelta(seconds=898) <= credentials["Expiration"] - before <= timedelta(seconds=905)
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{FILES}:assumed-role/StaffFiles/alice"
    role_id, _, name = answer["AssumedRoleUser"]["AssumedRoleId"].partition(":")
    assert role_id.startswith("AROA")
    assert name == "alice"
    assert answer["Subject"] == "alice-id"
    assert answer["SubjectType"] == "persistent"
    assert answer["Issuer"] == "https://idp.test.example/saml/metadata"
    assert answer["Audience"] == SIGN_IN
    assert answer["SourceIdentity"] == "ALICEIDAAAAAAAAAAAAAAAAAAA"
    assert 0 < answer["PackedPolicySize"] < 100
    assert len(answer["NameQualifier"]) == 28
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert answer["ResponseMetadata"]["RequestId"] == headers["x-amzn-requestid"]
    assert headers["date"].endswith("GMT")


def test_without_source_identity_and_policy_their_answers_are_left_out(assume: Assume, trusting: Any) -> None:
    role_arn = trusting("Plain", passing=())
    answer = assume(entering(role_arn, source_identity=None), role_arn=role_arn)
    assert "SourceIdentity" not in set(answer)
    assert answer["PackedPolicySize"] == 0


def test_the_name_qualifier_differs_between_accounts(assume: Assume) -> None:
    research = assume(role_arn=role("FalconData", RESEARCH))
    assert research["NameQualifier"] != assume()["NameQualifier"]


def test_get_caller_identity_works_for_any_session(stand_in: StandIn, assume: Assume) -> None:
    nothing = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
    answer = assume(policy=nothing)
    identity = signed_sts(stand_in, answer["Credentials"]).get_caller_identity()
    assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"]
    assert identity["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"]
    assert identity["Account"] == FILES


def signed_sts(stand_in: StandIn, credentials: CredentialsTypeDef) -> STSClient:
    return boto3.client(
        "sts",
        endpoint_url=stand_in.aws_endpoint,
        region_name=REGION,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=ONE_TRY,
    )


@pytest.mark.parametrize(
    ("claims", "more", "seconds"),
    [
        pytest.param(Claims(), {}, 3600, id="an hour by default"),
        pytest.param(Claims(), {"DurationSeconds": 43200}, 43200, id="as long as the role allows"),
        pytest.param(Claims(session_duration="900"), {}, 900, id="SessionDuration shortens"),
        pytest.param(Claims(session_duration="43200"), {}, 3600, id="SessionDuration never lengthens"),
        pytest.param(
            Claims(session_not_on_or_after=timedelta(seconds=1000)), {}, 1000, id="SessionNotOnOrAfter shortens"
        ),
        pytest.param(
            Claims(session_not_on_or_after=timedelta(hours=9)), {}, 3600, id="SessionNotOnOrAfter never lengthens"
        ),
    ],
)
def test_the_session_ends_at_the_earliest_of_all_limits(
    assume: Assume, claims: Claims, more: dict[str, int], seconds: int
) -> None:
    before = datetime.now(UTC)
    lasts = assume(claims, **more)["Credentials"]["Expiration"] - before
    assert timedelta(seconds=seconds - 3) <= lasts <= timedelta(seconds=seconds + 5)


def test_the_same_assertion_is_accepted_again_within_its_five_minutes(sts: STSClient) -> None:
    encoded = signed_response()
    keys = {
        sts.assume_role_with_saml(RoleArn=role(), PrincipalArn=provider(), SAMLAssertion=encoded)["Credentials"][
            "AccessKeyId"
        ]
        for _ in range(2)
    }
    assert len(keys) == 2


def test_a_managed_policy_of_the_account_can_be_the_session_policy(assume: Assume, admin_iam: IAMClient) -> None:
    document = json.dumps(home_policy("alice/", write=False))
    arn = admin_iam.create_policy(PolicyName="ReadAlice", PolicyDocument=document)["Policy"]["Arn"]
    assert assume(PolicyArns=[{"arn": arn}])["PackedPolicySize"] > 0


# --- what is refused

TOO_SHORT = "failed to satisfy constraint: Member must have length greater than or equal to "
TOO_LONG = "failed to satisfy constraint: Member must have length less than or equal to "
TOO_LITTLE = "failed to satisfy constraint: Member must have value greater than or equal to "
TOO_MUCH = "failed to satisfy constraint: Member must have value less than or equal to "
NO_SUCH_POLICY = "does not match an existing IAM Managed Policy ARN"
NO_SUCH_PROVIDER = (
    "Specified provider doesn't exist (Service: AWSOpenIdDiscoveryService; Status Code: 400; "
    "Error Code: AuthSamlManifestNotFoundException)"
)
READ = {"Effect": "Allow", "Action": "s3:GetObject"}
NO_RESOURCE = json.dumps({"Version": "2012-10-17", "Statement": [READ]})
WITH_PRINCIPAL = json.dumps({"Version": "2012-10-17", "Statement": [{**READ, "Principal": "*", "Resource": "*"}]})
STRANGERS_RESPONSE = signed_response(key=signing_key("stranger"))


def managed(*arns: str) -> dict[str, str]:
    return {f"PolicyArns.member.{number}.arn": arn for number, arn in enumerate(arns, start=1)}


@pytest.mark.parametrize(
    ("parameters", "code", "text"),
    [
        ({"RoleArn": "arn:x"}, "ValidationError", "Value 'arn:x' at 'roleArn' " + TOO_SHORT + "20"),
        ({"RoleArn": "a" * 2049}, "ValidationError", TOO_LONG + "2048"),
        ({"RoleArn": role() + "\x01"}, "ValidationError", "Member must satisfy regular expression pattern"),
        ({"PrincipalArn": "x"}, "ValidationError", "at 'principalArn' " + TOO_SHORT + "20"),
        ({"SAMLAssertion": "abc"}, "ValidationError", "Value at 'sAMLAssertion' " + TOO_SHORT + "4"),
        ({"SAMLAssertion": "A" * 100_001}, "ValidationError", TOO_LONG + "100000"),
        ({"DurationSeconds": "899"}, "ValidationError", "Value '899' at 'durationSeconds' " + TOO_LITTLE + "900"),
        ({"DurationSeconds": "43201"}, "ValidationError", TOO_MUCH + "43200"),
        ({"DurationSeconds": "an hour"}, "MalformedInput", "DurationSeconds is not a number"),
        ({"MinimumSessionTokenSize": "5000"}, "ValidationError", TOO_MUCH + "4096"),
        ({"Policy": ""}, "ValidationError", TOO_SHORT + "1"),
        ({"Policy": json.dumps("a" * 2048)}, "ValidationError", TOO_LONG + "2048"),
        ({"Policy": '{"x": "日本"}'}, "ValidationError", "Member must satisfy regular expression pattern"),
        ({"Policy": "{not json"}, "MalformedPolicyDocument", "This policy contains invalid Json"),
        ({"Policy": NO_RESOURCE}, "MalformedPolicyDocument", "Policy statement must contain resources."),
        ({"Policy": WITH_PRINCIPAL}, "MalformedPolicyDocument", "Policy document should not specify Principal."),
        (managed(f"arn:aws:iam::{FILES}:policy/Missing"), "ValidationError", NO_SUCH_POLICY),
        (managed(f"arn:aws:iam::{RESEARCH}:policy/Foreign"), "ValidationError", NO_SUCH_POLICY),
        (managed(*[f"arn:aws:iam::{FILES}:policy/P"] * 11), "ValidationError", "at 'policyArns' " + TOO_LONG + "10"),
        (managed(*[f"arn:aws:iam::{FILES}:policy/{'p' * 100}/P"] * 10), "ValidationError", NO_SUCH_POLICY),
        (managed(*[f"arn:aws:iam::{FILES}:policy/{'p' * 180}/P"] * 10), "PackedPolicyTooLarge", "exceeds 2048"),
        ({"PrincipalArn": f"arn:aws:iam::{FILES}:saml-provider/nobody"}, "InvalidIdentityToken", NO_SUCH_PROVIDER),
        ({"SAMLAssertion": STRANGERS_RESPONSE}, "InvalidIdentityToken", "Response signature invalid"),
        ({"SAMLAssertion": "!" * 40}, "InvalidIdentityToken", "Invalid base64 SAMLResponse"),
    ],
)
def test_a_bad_parameter_is_refused(stand_in: StandIn, parameters: dict[str, str], code: str, text: str) -> None:
    status, answer = post(stand_in, saml_parameters(**parameters))
    assert status == 400
    assert answer.findtext("sts:Error/sts:Code", namespaces=NAMESPACE) == code
    assert text in (answer.findtext("sts:Error/sts:Message", namespaces=NAMESPACE) or "")
    assert answer.findtext("sts:Error/sts:Type", namespaces=NAMESPACE) == "Sender"


@pytest.mark.parametrize("name", ["RoleArn", "PrincipalArn", "SAMLAssertion"])
def test_a_missing_parameter_is_refused(stand_in: StandIn, name: str) -> None:
    parameters = saml_parameters()
    del parameters[name]
    status, answer = post(stand_in, parameters)
    assert status == 400
    assert "null at" in (answer.findtext("sts:Error/sts:Message", namespaces=NAMESPACE) or "")


def test_a_refusal_never_repeats_the_assertion(stand_in: StandIn) -> None:
    encoded = signed_response(key=signing_key("stranger"))
    for parameters in ({"SAMLAssertion": encoded}, {"SAMLAssertion": encoded * 30}):
        _, answer = post(stand_in, saml_parameters(**parameters))
        assert encoded[:40] not in etree.tostring(answer).decode()


@pytest.mark.parametrize(
    ("claims", "code", "status", "text"),
    [
        pytest.param(
            Claims(issued=timedelta(minutes=-6), not_before=None),
            "ExpiredTokenException",
            400,
            "Token must be redeemed within 5 minutes of issuance",
            id="old",
        ),
        pytest.param(
            Claims(not_on_or_after=timedelta(seconds=-5)),
            "ExpiredTokenException",
            400,
            "Response has expired",
            id="over",
        ),
        pytest.param(
            Claims(roles=(f"{role('FinanceReports')},{provider()}",)),
            "AccessDenied",
            403,
            "Not authorized to perform sts:AssumeRoleWithSAML",
            id="another role than the one in the assertion",
        ),
        pytest.param(
            Claims(roles=(f"{role()},{provider(RESEARCH)}",)),
            "AccessDenied",
            403,
            "Not authorized to perform sts:AssumeRoleWithSAML",
            id="another provider than the one in the assertion",
        ),
        pytest.param(
            Claims(recipient="https://ap-northeast-1.signin.aws.amazon.com/saml"),
            "AccessDenied",
            403,
            "Not authorized to perform sts:AssumeRoleWithSAML",
            id="a recipient the trust policy does not list",
        ),
        pytest.param(
            Claims(name_id=None),
            "AccessDenied",
            403,
            "Not authorized to perform sts:AssumeRoleWithSAML",
            id="no NameID",
        ),
    ],
)
def test_a_refused_assertion_has_code_status_and_text(
    assume: Assume, claims: Claims, code: str, status: int, text: str
) -> None:
    with pytest.raises(ClientError) as caught:
        assume(claims)
    found = refusal(caught.value)
    assert found[:2] == (code.removesuffix("Exception") if code == "AccessDenied" else code, status)
    assert text in found[2]


def test_a_role_that_does_not_exist_is_refused_like_a_forbidden_one(assume: Assume) -> None:
    with pytest.raises(ClientError) as caught:
        assume(role_arn=role("NoSuchRole"))
    assert refusal(caught.value) == ("AccessDenied", 403, "Not authorized to perform sts:AssumeRoleWithSAML")


def test_more_than_the_roles_maximum_duration_is_refused(assume: Assume) -> None:
    with pytest.raises(ClientError) as caught:
        assume(role_arn=role("OpsReadOnly", RESEARCH), DurationSeconds=7200)
    assert refusal(caught.value) == (
        "ValidationError",
        400,
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    )


def test_a_response_with_two_assertions_is_refused_over_the_wire_too(stand_in: StandIn) -> None:
    root = signed_tree()
    root.append(signed_tree()[2])
    status, answer = post(stand_in, saml_parameters(SAMLAssertion=encode(root)))
    assert status == 400
    assert answer.findtext("sts:Error/sts:Code", namespaces=NAMESPACE) == "InvalidIdentityToken"


@pytest.fixture
def trusting(admin_iam: IAMClient) -> Iterator[Any]:
    """Return a function that makes a role with a given trust statement, and one for what may be passed with it."""
    made: list[str] = []

    def make(name: str, passing: Sequence[str] = ("sts:TagSession", "sts:SetSourceIdentity"), **changes: object) -> str:
        entry: dict[str, object] = {
            "Effect": "Allow",
            "Principal": {"Federated": provider()},
            "Action": "sts:AssumeRoleWithSAML",
            "Condition": {"StringEquals": {"saml:aud": SIGN_IN}},
            **changes,
        }
        passed = [{"Effect": "Allow", "Principal": entry["Principal"], "Action": action} for action in passing]
        document = json.dumps({"Version": "2012-10-17", "Statement": [entry, *passed]})
        made.append(name)
        return admin_iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]

    yield make
    for name in made:
        admin_iam.delete_role(RoleName=name)


def entering(role_arn: str, **changes: Any) -> Claims:
    return Claims(roles=(f"{role_arn},{provider()}",), **changes)


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        pytest.param({"passing": ["sts:SetSourceIdentity"]}, {"tags": {"Team": "red"}}, id="tags without TagSession"),
        pytest.param({"passing": ["sts:TagSession"]}, {}, id="source identity without SetSourceIdentity"),
        pytest.param({"Principal": {"Federated": provider(RESEARCH)}}, {}, id="another provider"),
        pytest.param({"Principal": {"AWS": "*"}}, {}, id="no provider"),
        *(
            pytest.param({"Condition": {operator: {key: value}}}, {"tags": tags}, id=f"{key} {tags}")
            for operator, key, value, tags in (
                ("StringEquals", "saml:iss", "https://other.example/", {}),
                ("StringEquals", "saml:sub", "bob-id", {}),
                ("StringEquals", "saml:sub_type", "transient", {}),
                ("StringEquals", "saml:doc", f"{FILES}/other", {}),
                ("StringEquals", "saml:namequalifier", "x", {}),
                ("StringEquals", "saml:nosuchkey", "x", {}),
                ("StringLike", "sts:SourceIdentity", "BOB*", {}),
                ("StringLike", "sts:RoleSessionName", "bob", {}),
                ("StringEquals", "aws:RequestTag/Team", "red", {"Team": "blue"}),
                ("StringEquals", "aws:RequestTag/Team", "red", {}),
                ("ForAllValues:StringEquals", "aws:TagKeys", ["Team"], {"Cost": "1"}),
            )
        ),
    ],
)
def test_a_trust_policy_that_does_not_hold_keeps_the_role_closed(
    assume: Assume,
    trusting: Any,
    changes: dict[str, object],
    claims: dict[str, object],
) -> None:
    role_arn = trusting("Closed", **changes)
    with pytest.raises(ClientError) as caught:
        assume(entering(role_arn, **claims), role_arn=role_arn)
    assert refusal(caught.value) == ("AccessDenied", 403, "Not authorized to perform sts:AssumeRoleWithSAML")


def test_a_trust_policy_whose_every_condition_holds_opens_the_role(assume: Assume, trusting: Any) -> None:
    qualifier = assume()["NameQualifier"]
    role_arn = trusting(
        "Open",
        Condition={
            "StringEquals": {
                "saml:aud": [SIGN_IN, "https://ap-northeast-1.signin.aws.amazon.com/saml"],
                "saml:iss": "https://idp.test.example/saml/metadata",
                "saml:doc": f"{FILES}/broker",
                "saml:sub": "alice-id",
                "saml:sub_type": "persistent",
                "saml:namequalifier": qualifier,
                "aws:RequestTag/Team": "red",
                "sts:SourceIdentity": "ALICEIDAAAAAAAAAAAAAAAAAAA",
            },
            "StringLike": {"sts:RoleSessionName": "ali*"},
            "ForAllValues:StringEquals": {"aws:TagKeys": ["Team"]},
        },
    )
    answer = assume(entering(role_arn, tags={"Team": "red"}), role_arn=role_arn)
    assert answer["AssumedRoleUser"]["Arn"].endswith("assumed-role/Open/alice")


def test_too_many_tags_to_pack_are_refused(assume: Assume, trusting: Any) -> None:
    role_arn = trusting("Tagged")
    tags = {f"key{n}": secrets.token_urlsafe(150) for n in range(50)}
    with pytest.raises(ClientError) as caught:
        assume(entering(role_arn, tags=tags), role_arn=role_arn)
    code, status, text = refusal(caught.value)
    assert (code, status) == ("PackedPolicyTooLarge", 400)
    assert text.startswith("Packed size of session tags consumes ")


def test_without_tags_and_source_identity_their_actions_are_not_needed(assume: Assume, trusting: Any) -> None:
    role_arn = trusting("Plain", passing=())
    assert assume(entering(role_arn, source_identity=None), role_arn=role_arn)["Credentials"]["AccessKeyId"]


# --- other calls


@pytest.mark.parametrize("action", ["GetCallerIdentity", "AssumeRole", "GetSessionToken", "", "Nonsense"])
def test_nothing_but_a_saml_exchange_is_answered_without_a_signature(stand_in: StandIn, action: str) -> None:
    status, answer = post(stand_in, {"Action": action})
    assert status == 403
    assert answer.findtext("sts:Error/sts:Code", namespaces=NAMESPACE) == "MissingAuthenticationToken"


def test_a_session_cannot_get_another_token(stand_in: StandIn, assume: Assume) -> None:
    client = signed_sts(stand_in, assume()["Credentials"])
    for call in (client.get_session_token, lambda: client.get_federation_token(Name="alice")):
        with pytest.raises(ClientError) as caught:
            call()
        assert refusal(caught.value)[:2] == ("AccessDenied", 403)


def test_a_session_cannot_enter_a_role_that_does_not_trust_it(stand_in: StandIn, assume: Assume) -> None:
    client = signed_sts(stand_in, assume()["Credentials"])
    for arn in (role("FinanceReports"), role("OrganizationAccountAccessRole"), role("OpsReadOnly", RESEARCH)):
        with pytest.raises(ClientError) as caught:
            client.assume_role(RoleArn=arn, RoleSessionName="alice")
        assert refusal(caught.value)[:2] == ("AccessDenied", 403)


def test_chained_sessions_keep_source_identity_and_transitive_tags_and_last_an_hour(
    stand_in: StandIn, assume: Assume, admin_iam: IAMClient
) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {"AWS": role()},
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"],
        },
    }
    admin_iam.create_role(RoleName="Next", AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=43200)
    enter = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role("Next")},
    }
    admin_iam.put_role_policy(RoleName="StaffFiles", PolicyName="EnterNext", PolicyDocument=json.dumps(enter))
    try:
        first = assume(Claims(tags={"Team": "red", "Project": "1"}, transitive=("Team",)))["Credentials"]
        client = signed_sts(stand_in, first)
        answer = client.assume_role(RoleArn=role("Next"), RoleSessionName="onward")
        assert answer["SourceIdentity"] == "ALICEIDAAAAAAAAAAAAAAAAAAA"
        with pytest.raises(ClientError, match="1 hour session limit"):
            client.assume_role(RoleArn=role("Next"), RoleSessionName="onward", DurationSeconds=7200)
        with pytest.raises(ClientError, match="source identity of a session cannot be changed"):
            client.assume_role(RoleArn=role("Next"), RoleSessionName="onward", SourceIdentity="BOB")
        with pytest.raises(ClientError, match="transitive tag"):
            client.assume_role(RoleArn=role("Next"), RoleSessionName="onward", Tags=[{"Key": "team", "Value": "x"}])
    finally:
        admin_iam.delete_role_policy(RoleName="StaffFiles", PolicyName="EnterNext")
        admin_iam.delete_role(RoleName="Next")


def test_a_parameter_given_twice_is_refused(stand_in: StandIn) -> None:
    body = urlencode([*saml_parameters().items(), ("RoleArn", role("FinanceReports"))]).encode()
    request = urllib.request.Request(f"{stand_in.aws_endpoint}/", data=body)  # noqa: S310  our own loopback server
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)  # noqa: S310  our own loopback server
    assert caught.value.code == 400
    caught.value.close()


# --- the provider


def test_new_metadata_replaces_the_old_key_at_once(sts: STSClient, admin_iam: IAMClient) -> None:
    new = signing_key("next")

    def enter(encoded: str) -> str:
        answer = sts.assume_role_with_saml(RoleArn=role(), PrincipalArn=provider(), SAMLAssertion=encoded)
        return answer["Credentials"]["AccessKeyId"]

    admin_iam.update_saml_provider(SAMLProviderArn=provider(), SAMLMetadataDocument=metadata(signing_key(), new))
    try:
        assert enter(signed_response(key=new))
        assert enter(signed_response())
        admin_iam.update_saml_provider(SAMLProviderArn=provider(), SAMLMetadataDocument=metadata(new))
        with pytest.raises(ClientError, match="Response signature invalid"):
            enter(signed_response())
    finally:
        admin_iam.update_saml_provider(SAMLProviderArn=provider(), SAMLMetadataDocument=metadata())


def test_iam_refuses_metadata_and_policies_that_it_could_not_use(admin_iam: IAMClient) -> None:
    with pytest.raises(ClientError, match="Could not parse metadata"):
        admin_iam.create_saml_provider(Name="bad", SAMLMetadataDocument="<x/>" + " " * 1000)
    with pytest.raises(ClientError, match="MalformedPolicyDocument"):
        admin_iam.put_role_policy(RoleName="StaffFiles", PolicyName="bad", PolicyDocument='{"Statement": []}')
    with pytest.raises(ClientError, match="MalformedPolicyDocument"):
        admin_iam.create_role(RoleName="bad", AssumeRolePolicyDocument='{"Statement": []}')


def test_a_scoped_session_has_no_rights_in_iam(stand_in: StandIn, assume: Assume) -> None:
    credentials = assume(policy=home_policy("alice/"))["Credentials"]
    iam = boto3.client(
        "iam",
        endpoint_url=stand_in.aws_endpoint,
        region_name=REGION,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=ONE_TRY,
    )
    calls: tuple[Callable[[], object], ...] = (
        iam.list_roles,
        lambda: iam.get_role(RoleName="StaffFiles"),
        lambda: iam.put_role_policy(RoleName="StaffFiles", PolicyName="x", PolicyDocument="{}"),
        lambda: iam.update_saml_provider(SAMLProviderArn=provider(), SAMLMetadataDocument=metadata()),
    )
    for call in calls:
        with pytest.raises(ClientError) as caught:
            call()
        assert refusal(caught.value)[:2] == ("AccessDenied", 403)
