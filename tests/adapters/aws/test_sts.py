"""The STS adapter against a server that answers as told: every code, every outage, exactly one request."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import botocore.session
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.adapters.aws.sts import StsTokenService
from broker.adapters.signing_keys import FileSigningKey
from broker.core.assertion import SignedAssertion
from broker.core.credentials import Exchange, Secret
from broker.core.entitlements import ManagedPolicyScope, WholeRoleScope, authorize_errand
from broker.core.errors import (
    AssertionMalformed,
    AssertionNotAccepted,
    AssertionOutOfTime,
    AudienceNotAccepted,
    ClaimRejected,
    ExchangeAsked,
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
    TokenServiceRefused,
    TokenServiceUnavailable,
    UnexpectedTokenServiceAnswer,
)
from broker.core.own_roles import OwnRoles
from broker.core.session_policy import policy_for
from tests.adapters.aws.answering import Answer, AnsweringServer, Asked
from tests.adapters.aws.conftest import impatient_sts
from tests.adapters.aws.exchange import (
    SECRET_KEY,
    SESSION_TOKEN,
    assertion_for,
    logged,
    shown,
    sts_answer,
    sts_refusal,
)
from tests.core.examples import ACCOUNT, entitlement, grant, person

ASSERTION = SignedAssertion("_id", Secret("QXNzZXJ0aW9uIHRoYXQgbm9ib2R5IG1heSBzZWU" * 5))


def call(server: AnsweringServer) -> Exchange:
    made = grant()
    return impatient_sts(server.url).assume_role_with_saml(made, ASSERTION, policy_for(made))


def unavailable(server: AnsweringServer) -> TokenServiceUnavailable:
    with pytest.raises(TokenServiceUnavailable) as caught:
        call(server)
    everything = shown(caught.value)
    assert not [one for one in (ASSERTION.response.reveal(), SECRET_KEY, SESSION_TOKEN) if one in everything]
    return caught.value


def test_the_call_says_what_was_granted_and_nothing_signs_it(server: AnsweringServer, key: FileSigningKey) -> None:
    server.answer(200, sts_answer())
    made = grant()
    assertion = assertion_for(made, key)
    policy = policy_for(made)
    assert policy is not None
    impatient_sts(server.url).assume_role_with_saml(made, assertion, policy)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/")
    assert asked.fields == {
        "Action": "AssumeRoleWithSAML",
        "Version": "2011-06-15",
        "RoleArn": "arn:aws:iam::111122223333:role/StaffFiles",
        "PrincipalArn": "arn:aws:iam::111122223333:saml-provider/broker",
        "SAMLAssertion": assertion.response.reveal(),
        "DurationSeconds": "28800",
        "Policy": policy.json,
    }
    assert "Authorization" not in asked.headers


def test_managed_policies_are_sent_by_arn_and_a_whole_role_sends_neither(server: AnsweringServer) -> None:
    server.answer(200, sts_answer())
    sts = impatient_sts(server.url)
    arns = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::aws:policy/Other")
    sts.assume_role_with_saml(grant(entitlement(scope=ManagedPolicyScope(arns))), ASSERTION, None)
    sts.assume_role_with_saml(grant(entitlement(scope=WholeRoleScope())), ASSERTION, None)
    managed, whole = (asked.fields for asked in server.asked)
    assert [managed[f"PolicyArns.member.{number}.arn"] for number in (1, 2)] == list(arns)
    assert not [name for fields in (managed, whole) for name in fields if name == "Policy"]
    assert not [name for name in whole if name.startswith("PolicyArns")]


def test_the_answer_is_taken_as_it_is(server: AnsweringServer) -> None:
    server.answer(200, sts_answer(Expiration="2026-11-23T19:30:00+02:00"))
    made = call(server)
    assert made.credentials.access_key_id == "ASIAEXAMPLE000000001"
    assert made.credentials.secret_access_key.reveal() == SECRET_KEY
    assert made.credentials.session_token.reveal() == SESSION_TOKEN
    assert made.credentials.expiration == datetime(2026, 11, 23, 17, 30, tzinfo=UTC)
    assert made.credentials.expiration.tzinfo is UTC
    assert (made.assumed_role_id, made.packed_policy_size, made.request_id) == ("AROAEXAMPLE:hanako", 12, "req-1")


def test_without_a_packed_size_there_is_none(server: AnsweringServer) -> None:
    server.answer(200, sts_answer(PackedPolicySize=""))
    assert call(server).packed_policy_size is None


# --- Refusals

# Texts as users of AWS quote them in public, the ones in AWS's own guide included.
REFUSALS: list[tuple[int, str, str, type[TokenServiceRefused]]] = [
    (
        400,
        "InvalidIdentityToken",
        (
            "Specified provider doesn't exist (Service: AWSOpenIdDiscoveryService; Status Code: 400; "
            "Error Code: AuthSamlManifestNotFoundException)"
        ),
        SamlProviderMissing,
    ),
    (400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account", SamlProviderMissing),
    (
        400,
        "InvalidIdentityToken",
        (
            "Issuer not present in specified provider (Service: AWSOpenIdDiscoveryService; Status Code: 400; "
            "Error Code: AuthSamlInvalidSamlResponseException)"
        ),
        IssuerNotInProvider,
    ),
    (400, "InvalidIdentityToken", "Response signature invalid", SignatureNotAccepted),
    (400, "InvalidIdentityTokenException", "Response signature invalid", SignatureNotAccepted),
    (400, "InvalidIdentityToken", "Response does not contain the required audience.", AudienceNotAccepted),
    (400, "InvalidIdentityToken", "Response must be signed", AssertionMalformed),
    (400, "InvalidIdentityToken", "RoleSessionName is required in AuthnResponse", AssertionMalformed),
    (400, "InvalidIdentityToken", "Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64}", AssertionMalformed),
    (400, "InvalidIdentityToken", "Invalid base64 SAMLResponse", AssertionMalformed),
    (400, "InvalidIdentityToken", "Response is not yet valid", AssertionOutOfTime),
    (400, "InvalidIdentityToken", "Response has expired", AssertionOutOfTime),
    (400, "InvalidIdentityToken", "something new", AssertionNotAccepted),
    (403, "IDPRejectedClaim", "x", ClaimRejected),
    (403, "IDPRejectedClaimException", "x", ClaimRejected),
    (400, "ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance", AssertionOutOfTime),
    (400, "ExpiredToken", "Response has expired", AssertionOutOfTime),
    (403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML", RoleNotTrusting),
    (403, "AccessDeniedException", "x", RoleNotTrusting),
    (403, "AccessDenied", "User: x is not authorized to perform: sts:TagSession on resource: y", TagSessionNotAllowed),
    (403, "AccessDenied", "not authorized to perform: sts:SetSourceIdentity", SourceIdentityNotAllowed),
    (400, "MalformedPolicyDocument", "x", SessionPolicyNotAccepted),
    (400, "MalformedPolicyDocumentException", "x", SessionPolicyNotAccepted),
    (400, "PackedPolicyTooLarge", "Packed size of session tags consumes 112% of allotted space.", PackedPolicyTooLarge),
    (400, "PackedPolicyTooLargeException", "Packed policy consumes 142% of allotted space", PackedPolicyTooLarge),
    (
        403,
        "RegionDisabledException",
        (
            "STS is not activated in this region for account:111122223333. Your account administrator can activate "
            "STS in this region using the IAM Console."
        ),
        RegionNotEnabled,
    ),
    (403, "RegionDisabled", "x", RegionNotEnabled),
    (
        400,
        "ValidationError",
        "At least one Policy ARN in the PolicyArns parameter does not match an existing IAM Managed Policy ARN.",
        ManagedPolicyMissing,
    ),
    (400, "ValidationError", "1 validation error detected", UnexpectedTokenServiceAnswer),
    (400, "ValidationError", "Request ARN is invalid", UnexpectedTokenServiceAnswer),
    (403, "SomethingNew", "x", UnexpectedTokenServiceAnswer),
    (404, "NotFound", "x", UnexpectedTokenServiceAnswer),
]


@pytest.mark.parametrize(("status", "code", "message", "leaf"), REFUSALS)
def test_every_code_of_sts_has_its_own_error(
    server: AnsweringServer, status: int, code: str, message: str, leaf: type[TokenServiceRefused]
) -> None:
    server.answer(status, sts_refusal(code, message))
    with pytest.raises(TokenServiceRefused) as caught:
        call(server)
    assert type(caught.value) is leaf
    assert (caught.value.answer.code, caught.value.answer.message) == (code, message)
    assert caught.value.answer.request_id == "req-1"
    assert caught.value.tries == 1
    assert caught.value.asked == ExchangeAsked(
        role_arn="arn:aws:iam::111122223333:role/StaffFiles",
        saml_provider_arn="arn:aws:iam::111122223333:saml-provider/broker",
        region="ap-northeast-1",
        tag_keys=("Department",),
    )
    assert caught.value.__context__ is None
    assert ASSERTION.response.reveal() not in shown(caught.value)
    assert len(server.asked) == 1


def test_a_role_that_does_not_trust_is_told_the_tag_keys_of_all_its_entitlements(server: AnsweringServer) -> None:
    server.answer(403, sts_refusal("AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML"))
    shared = grant(replace(entitlement(), tag_keys_beside=frozenset({"CostCentre"})))
    with pytest.raises(RoleNotTrusting) as caught:
        impatient_sts(server.url).assume_role_with_saml(shared, ASSERTION, policy_for(shared))
    assert '"aws:TagKeys": ["CostCentre", "Department"]' in str(caught.value)


def test_a_refusal_of_an_errand_names_the_metadata_of_the_own_roles(server: AnsweringServer) -> None:
    server.answer(400, sts_refusal("InvalidIdentityToken", "Response signature invalid"))
    own = OwnRoles("Revoker", "federation-broker-own").revoker_for(ACCOUNT, ["arn:aws:iam::111122223333:role/Staff"])
    errand = authorize_errand(person(), own, grant().authorized_at)
    with pytest.raises(SignatureNotAccepted) as caught:
        impatient_sts(server.url).assume_role_with_saml(errand, ASSERTION, policy_for(errand))
    assert "`broker metadata --for own-roles > metadata.xml`" in str(caught.value)
    assert "saml-provider/federation-broker-own" in str(caught.value)


def test_every_error_that_botocore_models_for_this_call_is_among_them() -> None:
    modelled = botocore.session.Session().get_service_model("sts").operation_model("AssumeRoleWithSAML").error_shapes
    codes = {shape.metadata.get("error", {}).get("code", shape.name) for shape in modelled}
    tested = {code for _, code, _, leaf in REFUSALS if leaf is not UnexpectedTokenServiceAnswer}
    assert codes <= tested


@pytest.mark.parametrize("repeated", ["PHNhbWxwOlJl/c3Bv+bnNl" * 30, "PHNhbWxwOlJl%2Fc3Bv%2BbnNl" * 30])
def test_a_value_that_sts_repeats_in_its_text_is_taken_out(server: AnsweringServer, repeated: str) -> None:
    message = f"Value '{repeated}' at 'sAMLAssertion' failed to satisfy constraint"
    server.answer(400, sts_refusal("ValidationError", message))
    with pytest.raises(UnexpectedTokenServiceAnswer) as caught:
        call(server)
    assert caught.value.answer.message == "Value '•••' at 'sAMLAssertion' failed to satisfy constraint"


# --- No answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_with_the_assertion(server: AnsweringServer, status: int) -> None:
    server.answer(status, "", Location=f"{server.url}/elsewhere")
    with pytest.raises((TokenServiceUnavailable, TokenServiceRefused)):
        call(server)
    assert [asked.path for asked in server.asked] == ["/"]


GARBAGE = [
    "",
    "<",
    "<html/>",
    "not xml at all",
    '{"AccessKeyId": "x"}',
    "<AssumeRoleWithSAMLResponse/>",
    sts_answer()[:-40],
    sts_answer().replace("<Credentials>", "<Credentials><x></Credentials>"),
]


@pytest.mark.parametrize("body", GARBAGE)
def test_an_answer_that_cannot_be_read_is_none(server: AnsweringServer, body: str) -> None:
    server.answer(200, body)
    unavailable(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "element", ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "Arn", "AssumedRoleId"]
)
def test_an_answer_that_lacks_something_is_none(server: AnsweringServer, element: str) -> None:
    server.answer(200, sts_answer(**{element: ""}))
    unavailable(server)


@pytest.mark.parametrize(
    "expiration", ["soon", "2026-13-45T00:00:00Z", "99999999999999999999", "9999-12-31T23:59:59-14:00"]
)
def test_an_end_that_is_no_time_is_no_answer(server: AnsweringServer, expiration: str) -> None:
    server.answer(200, sts_answer(Expiration=expiration))
    unavailable(server)


@pytest.mark.parametrize(
    "changes",
    [
        {"Arn": "arn:aws:sts::111122223333:assumed-role/StaffFiles/ken"},
        {"Arn": "arn:aws:sts::111122223333:assumed-role/Administrator/hanako"},
        {"Arn": "arn:aws:sts::999999999999:assumed-role/StaffFiles/hanako"},
        {"AccessKeyId": "ASIA short"},
        {"AccessKeyId": "x\ny" * 10},
    ],
)
def test_credentials_of_another_session_are_not_taken(server: AnsweringServer, changes: dict[str, str]) -> None:
    server.answer(200, sts_answer(**changes))
    unavailable(server)


@pytest.fixture
def shared(server: AnsweringServer) -> StsTokenService:
    return impatient_sts(server.url)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(status=st.sampled_from([200, 200, 200, 400, 403, 500, 302]), body=st.binary(max_size=80) | st.text(max_size=80))
def test_whatever_is_answered_is_an_error_of_ours(
    server: AnsweringServer, shared: StsTokenService, status: int, body: bytes | str
) -> None:
    server.answer(status, body)
    with pytest.raises((TokenServiceUnavailable, TokenServiceRefused)):
        shared.assume_role_with_saml(grant(), ASSERTION, None)


# --- What nothing may change or show


def test_no_log_at_any_level_holds_the_assertion_or_the_credentials(
    server: AnsweringServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer(200, sts_answer())
    call(server)
    server.answer(400, sts_refusal("ValidationError", ASSERTION.response.reveal()))
    with pytest.raises(UnexpectedTokenServiceAnswer):
        call(server)
    server.answer(200, sts_answer(Arn=""))
    unavailable(server)
    everything = logged(caplog.records)
    for secret in (ASSERTION.response.reveal(), SECRET_KEY, SESSION_TOKEN):
        assert secret not in everything


def test_the_environment_of_aws_does_not_redirect_sign_or_repeat_the_call(
    server: AnsweringServer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trap = "http://127.0.0.1:9"
    config = tmp_path_factory.mktemp("aws") / "config"
    config.write_text(f"[default]\nendpoint_url = {trap}\nrole_arn = arn:aws:iam::1:role/x\nmax_attempts = 9\n")
    for name, value in {
        "AWS_ENDPOINT_URL": trap,
        "AWS_ENDPOINT_URL_STS": trap,
        "AWS_PROFILE": "no-such-profile",
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_ACCESS_KEY_ID": "AKIAOPERATOR00000001",
        "AWS_SECRET_ACCESS_KEY": "operators-own-secret",
        "AWS_REGION": "us-west-2",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_RETRY_MODE": "adaptive",
        "AWS_DEFAULTS_MODE": "cross-region",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
    }.items():
        monkeypatch.setenv(name, value)
    server.answer(200, "unreadable")
    unavailable(server)
    server.answer(200, sts_answer())
    call(server)
    assert len(server.asked) == 2
    assert not [asked for asked in server.asked if "Authorization" in asked.headers or "operators" in asked.body]


def test_a_connection_that_sts_closed_meanwhile_is_made_anew(server: AnsweringServer) -> None:
    body = sts_answer().encode()
    server.script = lambda _: Answer(200, body, close=True)
    sts, made = impatient_sts(server.url), grant()
    for _ in range(3):
        sts.assume_role_with_saml(made, ASSERTION, None)
        time.sleep(0.05)
    assert len(server.asked) == 3


def test_threads_get_their_own_answers_over_connections_they_share(server: AnsweringServer) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(200, sts_answer(AccessKeyId=f"ASIA{asked.fields['SAMLAssertion']:0>16}").encode())

    server.script = answer
    sts, made = impatient_sts(server.url), grant()

    def redeem(number: int) -> str:
        assertion = SignedAssertion("_id", Secret(f"{number:04d}"))
        return sts.assume_role_with_saml(made, assertion, None).credentials.access_key_id

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(redeem, range(40))) == [f"ASIA{number:016d}" for number in range(40)]
    assert len(server.asked) == 40
