"""Console sign-in: the token, the redirect, the page, and what is refused on the way."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import boto3
import pytest
from lxml import html

from broker.sandbox.aws.company import REGION
from broker.sandbox.aws.sessions import SessionStore
from broker.sandbox.aws.signin import SignIn, SignInRefusedError, read_destination
from tests.sandbox.aws.conftest import Assume, home_policy
from tests.sandbox.aws.identity_provider import Claims, role

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_sts.type_defs import CredentialsTypeDef

    from tests.sandbox.aws.process import StandIn

DESTINATION = "https://s3.console.aws.amazon.com/s3/buckets/corp-home?region=ap-northeast-1&prefix=alice/"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def cookie(self) -> str:
        return self.headers.get("set-cookie", "").partition(";")[0]


def ask(
    stand_in: StandIn, method: str, target: str, form: Mapping[str, object] | None = None, cookie: str = ""
) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(stand_in.signin_endpoint).netloc, timeout=20)
    headers = {"content-type": "application/x-www-form-urlencoded"} if form is not None else {}
    headers |= {"cookie": cookie} if cookie else {}
    try:
        connection.request(method, target, urlencode(form) if form is not None else None, headers)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
    finally:
        connection.close()


def session_parameter(credentials: CredentialsTypeDef, **changes: str) -> str:
    session = {
        "sessionId": credentials["AccessKeyId"],
        "sessionKey": credentials["SecretAccessKey"],
        "sessionToken": credentials["SessionToken"],
    }
    return json.dumps({**session, **changes})


@pytest.fixture(scope="module")
def credentials(assume: Assume) -> CredentialsTypeDef:
    return assume(Claims(tags={"Department": "研究 <b>"[:2]}), policy=home_policy("alice/"))["Credentials"]


def get_token(stand_in: StandIn, credentials: CredentialsTypeDef, **more: object) -> Answer:
    form = {"Action": "getSigninToken", "Session": session_parameter(credentials), **more}
    return ask(stand_in, "POST", "/federation", form)


def token(stand_in: StandIn, credentials: CredentialsTypeDef, **more: object) -> str:
    answer = get_token(stand_in, credentials, **more)
    assert answer.status == 200, answer.body
    found = json.loads(answer.body)["SigninToken"]
    assert isinstance(found, str)
    return found


def login(stand_in: StandIn, signin_token: str, destination: str = DESTINATION, **more: str) -> Answer:
    query = {
        "Action": "login",
        "Issuer": "http://localhost:8080/",
        "Destination": destination,
        "SigninToken": signin_token,
    }
    return ask(stand_in, "GET", "/federation?" + urlencode({**query, **more}))


def console(stand_in: StandIn, cookie: str, **query: str) -> tuple[Answer, html.HtmlElement]:
    answer = ask(stand_in, "GET", "/console" + (f"?{urlencode(query)}" if query else ""), cookie=cookie)
    return answer, html.document_fromstring(answer.body)


def text(page: html.HtmlElement, element_id: str) -> str:
    return " ".join(str(page.get_element_by_id(element_id).text_content()).split())


# --- the way in


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_credentials_become_a_token_a_cookie_and_a_page(
    stand_in: StandIn, credentials: CredentialsTypeDef, method: str
) -> None:
    parameters = {"Action": "getSigninToken", "SessionDuration": "3600", "Session": session_parameter(credentials)}
    target = "/federation" if method == "POST" else "/federation?" + urlencode(parameters)
    answer = ask(stand_in, method, target, parameters if method == "POST" else None)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    entered = login(stand_in, json.loads(answer.body)["SigninToken"])
    assert (entered.status, entered.headers["location"]) == (302, "/console")
    assert "HttpOnly" in entered.headers["set-cookie"]
    assert "SameSite=Lax" in entered.headers["set-cookie"]

    answer, page = console(stand_in, entered.cookie)
    assert answer.status == 200
    assert text(page, "arn") == "arn:aws:sts::111122223333:assumed-role/StaffFiles/alice"
    assert text(page, "account") == "111122223333"
    assert text(page, "source-identity") == "ALICEIDAAAAAAAAAAAAAAAAAAA"
    assert text(page, "destination") == DESTINATION
    assert "Department 研究" in text(page, "content")
    assert "Stand-in, not AWS" in answer.body
    assert "welcome.txt" in text(page, "s3-answer")
    ends = datetime.strptime(text(page, "ends-at"), "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(minutes=60, seconds=2)


def test_the_page_really_asks_s3_and_shows_its_refusals(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    cookie = login(stand_in, token(stand_in, credentials)).cookie
    for query in ({"bucket": "corp-home", "prefix": "alice-two/"}, {"bucket": "corp-home"}, {"bucket": ""}):
        _, page = console(stand_in, cookie, **query)
        assert text(page, "s3-code") == "AccessDenied"
        assert "no session policy allows" in text(page, "s3-answer")
    _, page = console(stand_in, cookie, bucket="corp-home", prefix="alice/notes/")
    assert text(page, "s3-answer") == "2026-plan.txt32 B"
    _, page = console(stand_in, cookie, bucket="NOT A BUCKET")
    assert text(page, "s3-code") == "InvalidBucketName"
    _, page = console(stand_in, cookie, bucket="no-such-bucket")
    assert text(page, "s3-code") == "NoSuchBucket"


def test_the_list_of_buckets_is_shown_to_who_may_have_it(stand_in: StandIn, assume: Assume) -> None:
    ops = assume(role_arn=role("OpsReadOnly", "444455556666"))["Credentials"]
    entered = login(stand_in, token(stand_in, ops), "https://ap-northeast-1.console.aws.amazon.com/console/home")
    _, page = console(stand_in, entered.cookie)
    assert text(page, "s3-answer") == "falcon-data"
    _, page = console(stand_in, entered.cookie, bucket="falcon-data")
    assert text(page, "s3-answer") == "private/ raw/ results/"


def test_whatever_is_shown_is_escaped(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    evil = '"><script>alert(1)</script>'
    cookie = login(stand_in, token(stand_in, credentials), DESTINATION + evil.replace(" ", "")).cookie
    for answer in (
        console(stand_in, cookie)[0],
        console(stand_in, cookie, bucket=evil, prefix=evil)[0],
        console(stand_in, cookie, bucket="corp-home", prefix=f"alice/{evil}/x/")[0],
    ):
        assert answer.status == 200
        assert "<script" not in answer.body


def test_pages_carry_strict_headers(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    entered = login(stand_in, token(stand_in, credentials))
    page, _ = console(stand_in, entered.cookie)
    for answer in (entered, page, get_token(stand_in, credentials), ask(stand_in, "GET", "/nothing")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
    assert "style=" not in page.body
    assert not re.search(r"\son[a-z]+=", page.body)


def test_without_session_duration_the_console_ends_with_the_credentials(stand_in: StandIn, assume: Assume) -> None:
    short = assume(policy=home_policy("alice/"), DurationSeconds=900)["Credentials"]
    _, page = console(stand_in, login(stand_in, token(stand_in, short)).cookie)
    assert text(page, "ends-at") == short["Expiration"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def test_sign_out_ends_the_console_session(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    cookie = login(stand_in, token(stand_in, credentials)).cookie
    assert console(stand_in, cookie)[0].status == 200
    out = ask(stand_in, "POST", "/signout", {}, cookie)
    assert out.status == 200
    assert "Max-Age=0" in out.headers["set-cookie"]
    answer, _ = console(stand_in, cookie)
    assert answer.status == 401
    assert "Not signed in" in answer.body


def test_revoking_the_role_session_shows_in_an_open_console(
    stand_in: StandIn, assume: Assume, admin_iam: IAMClient
) -> None:
    claims = Claims(session_name="eve", source_identity="EVEIDAAAAAAAAAAAAAAAAAAAAA")
    cookie = login(stand_in, token(stand_in, assume(claims, policy=home_policy("alice/"))["Credentials"])).cookie
    assert "welcome.txt" in text(console(stand_in, cookie)[1], "s3-answer")
    condition = {"StringEquals": {"aws:SourceIdentity": "EVEIDAAAAAAAAAAAAAAAAAAAAA"}}
    deny = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}
    document = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    admin_iam.put_role_policy(RoleName="StaffFiles", PolicyName="RevokeEve", PolicyDocument=document)
    try:
        assert "with an explicit deny" in text(console(stand_in, cookie)[1], "s3-answer")
    finally:
        admin_iam.delete_role_policy(RoleName="StaffFiles", PolicyName="RevokeEve")


# --- refusals


@pytest.mark.parametrize(
    "change",
    [
        {"Session": "{not json"},
        {"Session": "[]"},
        {"Session": ""},
        {"Session": json.dumps({"sessionId": "ASIA", "sessionKey": 1, "sessionToken": "x"})},
    ],
)
def test_a_session_that_is_no_session_is_refused(
    stand_in: StandIn, credentials: CredentialsTypeDef, change: dict[str, str]
) -> None:
    answer = get_token(stand_in, credentials, **change)
    assert (answer.status, answer.body) == (400, "Invalid credentials parameter")


@pytest.mark.parametrize("part", ["sessionId", "sessionKey", "sessionToken"])
def test_wrong_credentials_are_refused(stand_in: StandIn, credentials: CredentialsTypeDef, part: str) -> None:
    answer = get_token(stand_in, credentials, Session=session_parameter(credentials, **{part: "wrong"}))
    assert (answer.status, answer.body) == (400, "Invalid credentials parameter")


def test_the_keys_of_a_user_are_refused(stand_in: StandIn) -> None:
    admin = stand_in.aws_admin
    session = json.dumps({"sessionId": admin["AccessKeyId"], "sessionKey": admin["SecretAccessKey"]})
    answer = ask(stand_in, "POST", "/federation", {"Action": "getSigninToken", "Session": session})
    wanted = "Only federation tokens or assume role tokens may be used for federated login."
    assert (answer.status, answer.body) == (400, wanted)


@pytest.mark.parametrize("seconds", ["899", "43201", "-1", "1h", "", "3600.5"])
def test_a_session_duration_out_of_bounds_is_refused(
    stand_in: StandIn, credentials: CredentialsTypeDef, seconds: str
) -> None:
    answer = get_token(stand_in, credentials, SessionDuration=seconds)
    assert (answer.status, answer.body) == (400, "Invalid SessionDuration parameter")


def test_a_chained_session_may_not_choose_its_duration(stand_in: StandIn) -> None:
    admin = boto3.client(
        "sts",
        endpoint_url=stand_in.aws_endpoint,
        region_name=REGION,
        aws_access_key_id=stand_in.aws_admin["AccessKeyId"],
        aws_secret_access_key=stand_in.aws_admin["SecretAccessKey"],
    )
    access = "arn:aws:iam::{}:role/OrganizationAccountAccessRole"
    first = admin.assume_role(RoleArn=access.format("111122223333"), RoleSessionName="direct")["Credentials"]
    assert get_token(stand_in, first, SessionDuration="3600").status == 200
    trust = {"Effect": "Allow", "Principal": {"AWS": access.format("111122223333")}, "Action": "sts:AssumeRole"}
    admins = boto3.Session(first["AccessKeyId"], first["SecretAccessKey"], first["SessionToken"], region_name=REGION)
    iam = admins.client("iam", endpoint_url=stand_in.aws_endpoint)
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    arn = iam.create_role(RoleName="ChainedConsole", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    sts = admins.client("sts", endpoint_url=stand_in.aws_endpoint)
    try:
        chained = sts.assume_role(RoleArn=arn, RoleSessionName="chained")["Credentials"]
        answer = get_token(stand_in, chained, SessionDuration="3600")
        assert answer.status == 400
        assert "role chaining" in answer.body
        assert get_token(stand_in, chained).status == 200
    finally:
        iam.delete_role(RoleName="ChainedConsole")


@pytest.mark.parametrize(
    "destination",
    [
        "https://evil.example/",
        "http://s3.console.aws.amazon.com/",
        "https://console.aws.amazon.com.evil.example/",
        "https://evilconsole.aws.amazon.com/",
        "https://console.aws.amazon.com@evil.example/",
        "https://user@console.aws.amazon.com/",
        "https://console.aws.amazon.com:8443/",
        "https://console.aws.amazon.com\\@evil.example/",
        "https://console.aws.amazon.com/\r\nSet-Cookie: x=1",
        "javascript:alert(1)",
        "//console.aws.amazon.com/",
        "/console",
        "",
        "https://[",
    ],
)
def test_a_destination_outside_the_console_is_refused(
    stand_in: StandIn, credentials: CredentialsTypeDef, destination: str
) -> None:
    answer = login(stand_in, token(stand_in, credentials), destination)
    assert answer.status == 400
    assert "Invalid Destination parameter" in answer.body
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("destination", "bucket", "prefix", "region"),
    [
        (DESTINATION, "corp-home", "alice/", "ap-northeast-1"),
        (
            "https://ap-northeast-1.console.aws.amazon.com/s3/buckets/corp-home?region=ap-northeast-1&prefix=a%26b%2F",
            "corp-home",
            "a&b/",
            "ap-northeast-1",
        ),
        ("https://eu-west-1.console.aws.amazon.com/s3/buckets/falcon-data", "falcon-data", "", "eu-west-1"),
        ("https://console.aws.amazon.com/", "", "", "us-east-1"),
        ("http://127.0.0.1:9/console", "", "", "us-east-1"),
    ],
)
def test_deep_links_are_understood(destination: str, bucket: str, prefix: str, region: str) -> None:
    found = read_destination(destination, "http://127.0.0.1:9")
    assert (found.bucket, found.prefix, found.region) == (bucket, prefix, region)


def test_another_port_of_this_machine_is_not_this_origin() -> None:
    with pytest.raises(SignInRefusedError):
        read_destination("http://127.0.0.1:99/console", "http://127.0.0.1:9")


@pytest.mark.parametrize("issuer", ["javascript:alert(1)", "data:text/html,x", "portal"])
def test_an_issuer_that_is_no_web_address_is_refused(
    stand_in: StandIn, credentials: CredentialsTypeDef, issuer: str
) -> None:
    assert login(stand_in, token(stand_in, credentials), Issuer=issuer).status == 400


def test_an_unknown_token_is_refused(stand_in: StandIn) -> None:
    for unknown in ("x", ""):
        answer = login(stand_in, unknown)
        assert answer.status == 400
        assert "Invalid SigninToken parameter" in answer.body


def test_a_token_is_good_for_fifteen_minutes(
    tmp_path: Path, stand_in: StandIn, credentials: CredentialsTypeDef
) -> None:
    copied = tmp_path / "sessions.jsonl"
    copied.write_text((stand_in.state / "sessions.jsonl").read_text())
    store = SessionStore(copied, datetime.now(UTC))
    desk = SignIn(store, stand_in.aws_endpoint, stand_in.signin_endpoint)
    now = datetime.now(UTC)
    parameters = {"Action": "getSigninToken", "Session": session_parameter(credentials)}
    issued = desk._signin_token(parameters, now)
    enter = {"Action": "login", "Destination": DESTINATION, "SigninToken": issued}
    assert desk._login(enter, now + timedelta(minutes=14, seconds=59))[0] == 302
    with pytest.raises(SignInRefusedError, match="Invalid SigninToken"):
        desk._login(enter, now + timedelta(minutes=15))


@pytest.mark.parametrize(
    ("target", "form"),
    [
        ("/federation", {"Action": "nonsense"}),
        ("/federation", {}),
        ("/federation?Action=login", {"Action": "login"}),
        ("/federation", {"Action": "getSigninToken", "Session": "x" * 70_000}),
    ],
)
def test_other_requests_to_the_federation_endpoint_are_refused(
    stand_in: StandIn, target: str, form: dict[str, str]
) -> None:
    assert ask(stand_in, "POST", target, form).status == 400


def test_a_cookie_that_nobody_issued_opens_nothing(stand_in: StandIn) -> None:
    for cookie in ("aws-stand-in-console=x", "aws-stand-in-console=", "other=x", "=;=;"):
        assert console(stand_in, cookie)[0].status == 401
    assert ask(stand_in, "GET", "/console").status == 401
