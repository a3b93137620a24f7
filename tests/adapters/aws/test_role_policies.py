"""The broker's inline policy of a role, in the stand-in's IAM and under whatever IAM may answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import boto3
import pytest

from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.adapters.aws.role_policies import IamRolePolicies
from broker.core.credentials import Exchange, Secret, TemporaryCredentials
from broker.core.errors import (
    BrokerError,
    RolePoliciesUnavailable,
    RolePolicyRefused,
    RolePolicyTooLong,
)
from broker.core.revocation import POLICY_NAME, WHOLE_ROLE, read_policy, write_policy
from tests.adapters.aws.answering import Answer, AnsweringServer, HangUp, Silence
from tests.adapters.aws.exchange import SECRET_KEY, SESSION_TOKEN, exchange, shown
from tests.sandbox.aws.process import StandIn

ROLE = "arn:aws:iam::111122223333:role/StaffFiles"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DOCUMENT = write_policy({WHOLE_ROLE: NOON})
TIMEOUT = timedelta(seconds=1)


def role_policies(endpoint: str) -> IamRolePolicies:
    endpoints = LoopbackEndpoints(endpoint, endpoint)
    return IamRolePolicies(endpoints, connect_timeout=TIMEOUT, read_timeout=TIMEOUT, proxy=None)


@pytest.fixture
def entered(stand_in: StandIn) -> Exchange:
    """A session that may do everything in the account."""
    sts = boto3.client(
        "sts",
        endpoint_url=stand_in.aws_endpoint,
        region_name="us-east-1",
        aws_access_key_id=stand_in.aws_admin["AccessKeyId"],
        aws_secret_access_key=stand_in.aws_admin["SecretAccessKey"],
    )
    role = "arn:aws:iam::111122223333:role/OrganizationAccountAccessRole"
    keys = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return Exchange(
        TemporaryCredentials(
            keys["AccessKeyId"], Secret(keys["SecretAccessKey"]), Secret(keys["SessionToken"]), keys["Expiration"]
        ),
        assumed_role_arn="",
        assumed_role_id="",
        packed_policy_size=None,
        request_id="",
        region="us-east-1",
    )


@pytest.fixture
def clean(stand_in: StandIn, entered: Exchange) -> Iterator[IamRolePolicies]:
    kept = role_policies(stand_in.aws_endpoint)
    yield kept
    kept.delete(entered, ROLE)


def test_what_is_written_is_read_again_and_taken_away(clean: IamRolePolicies, entered: Exchange) -> None:
    assert clean.read(entered, ROLE) is None
    clean.write(entered, ROLE, DOCUMENT)
    written = clean.read(entered, ROLE)
    assert written is not None
    assert read_policy(written) == {WHOLE_ROLE: NOON}
    clean.delete(entered, ROLE)
    clean.delete(entered, ROLE)
    assert clean.read(entered, ROLE) is None


def test_a_role_that_is_not_there_is_no_role_without_a_policy(clean: IamRolePolicies, entered: Exchange) -> None:
    gone = "arn:aws:iam::111122223333:role/path/Gone"
    for attempt in (lambda: clean.read(entered, gone), lambda: clean.write(entered, gone, DOCUMENT)):
        with pytest.raises(RolePolicyRefused, match="NoSuchEntity"):
            attempt()  # type: ignore[no-untyped-call]  # one of the two


def test_with_the_other_policies_of_the_role_it_can_be_too_long(clean: IamRolePolicies, entered: Exchange) -> None:
    statement = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    long = json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Sid": f"X{n:09}"} for n in range(170)]})
    with pytest.raises(RolePolicyTooLong, match="with those that it has IAM takes 10240 characters"):
        clean.write(entered, ROLE, long)


# --- whatever IAM may answer


def error(code: str, message: str = "no", status: int = 400) -> Answer:
    body = (
        '<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
    return Answer(status, body.encode(), {"content-type": "text/xml"})


def test_a_request_names_the_role_without_its_path_and_our_policy_alone(server: AnsweringServer) -> None:
    answer = (
        '<GetRolePolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetRolePolicyResult>'
        f"<RoleName>LogReader</RoleName><PolicyName>{POLICY_NAME}</PolicyName>"
        f"<PolicyDocument>{quote(DOCUMENT)}</PolicyDocument></GetRolePolicyResult></GetRolePolicyResponse>"
    )
    server.script = lambda _: Answer(200, answer.encode(), {"content-type": "text/xml"})
    read = role_policies(server.url).read(exchange(), "arn:aws:iam::111122223333:role/path/LogReader")

    assert read is not None
    assert json.loads(read) == json.loads(DOCUMENT)
    [asked] = server.asked
    assert (asked.fields["RoleName"], asked.fields["PolicyName"]) == ("LogReader", POLICY_NAME)
    assert "ASIAEXAMPLE000000001/" in asked.headers["Authorization"]


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, RolePolicyRefused),
        ("NoSuchEntity", 404, RolePolicyRefused),
        ("MalformedPolicyDocument", 400, RolePolicyRefused),
        ("LimitExceeded", 409, RolePolicyTooLong),
        ("Throttling", 400, RolePoliciesUnavailable),
        ("ConcurrentModification", 409, RolePoliciesUnavailable),
        ("ServiceFailure", 500, RolePoliciesUnavailable),
        ("Whatever", 503, RolePoliciesUnavailable),
    ],
)
def test_what_iam_answers_tells_a_fault_from_an_outage(
    server: AnsweringServer, code: str, status: int, kind: type[BrokerError]
) -> None:
    server.script = lambda _: error(code, status=status)
    with pytest.raises(kind) as raised:
        role_policies(server.url).write(exchange(), ROLE, DOCUMENT)
    assert len(server.asked) == 1
    assert_shows_no_secret(raised.value)


@pytest.mark.parametrize("script", [Silence(), HangUp(), Answer(200, b"<html>", {"content-type": "text/html"})])
def test_no_answer_or_one_that_cannot_be_read_is_an_outage(server: AnsweringServer, script: Silence | HangUp) -> None:
    server.script = lambda _: script
    with pytest.raises(RolePoliciesUnavailable) as raised:
        role_policies(server.url).read(exchange(), ROLE)
    assert_shows_no_secret(raised.value)


def test_a_refused_deletion_is_not_taken_for_one_that_was_not_needed(server: AnsweringServer) -> None:
    server.script = lambda _: error("AccessDenied", status=403)
    with pytest.raises(RolePolicyRefused):
        role_policies(server.url).delete(exchange(), ROLE)


def assert_shows_no_secret(failure: BrokerError) -> None:
    text = shown(failure)
    assert SECRET_KEY not in text
    assert SESSION_TOKEN not in text
