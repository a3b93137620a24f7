"""Signature Version 4 at the edges: old and future dates, unsigned parts, hoisted headers, other services."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import boto3
import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from broker.sandbox.aws.company import FILES, REGION, trust_policy
from tests.sandbox.aws.conftest import ONE_TRY, Assume, home_policy, s3_client
from tests.sandbox.aws.identity_provider import Claims, metadata, provider, role

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_sts.type_defs import CredentialsTypeDef

    from tests.sandbox.aws.process import StandIn

WELCOME = "/corp-home/alice/welcome.txt"


@pytest.fixture(scope="module")
def credentials(assume: Assume) -> CredentialsTypeDef:
    return assume(policy=home_policy("alice/"))["Credentials"]


def keys_of(credentials: CredentialsTypeDef) -> Credentials:
    return Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])


def send(
    stand_in: StandIn, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(stand_in.aws_endpoint).netloc, timeout=10)
    try:
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def signed_headers(
    stand_in: StandIn, credentials: CredentialsTypeDef, target: str = WELCOME, **more: str
) -> dict[str, str]:
    headers = {"host": urlsplit(stand_in.aws_endpoint).netloc, **more}
    request = AWSRequest("GET", f"{stand_in.aws_endpoint}{target}", headers=headers)
    S3SigV4Auth(keys_of(credentials), "s3", REGION).add_auth(request)
    return dict(request.headers.items())


def presigned(
    stand_in: StandIn, credentials: CredentialsTypeDef, target: str = WELCOME, seconds: int = 60, method: str = "GET"
) -> str:
    """Return path and query of a presigned URL; what is in the query of ``target`` is signed too."""
    request = AWSRequest(method, f"{stand_in.aws_endpoint}{target}")
    S3SigV4QueryAuth(keys_of(credentials), "s3", REGION, expires=seconds).add_auth(request)
    return str(request.url).removeprefix(stand_in.aws_endpoint)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets the clock of the signer, as an offset from now."""

    def set_clock(offset: timedelta) -> None:
        at = (datetime.now(UTC) + offset).replace(tzinfo=None)
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: at)

    return set_clock


# --- signed headers


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_request_signed_by_a_wrong_clock_is_refused(
    stand_in: StandIn, credentials: CredentialsTypeDef, clock: Any, minutes: int
) -> None:
    clock(timedelta(minutes=minutes))
    status, body = send(stand_in, "GET", WELCOME, signed_headers(stand_in, credentials))
    assert (status, "RequestTimeTooSkewed" in body) == (403, True)


@pytest.mark.parametrize("minutes", [-14, 14])
def test_a_clock_that_is_a_little_off_does_no_harm(
    stand_in: StandIn, credentials: CredentialsTypeDef, clock: Any, minutes: int
) -> None:
    clock(timedelta(minutes=minutes))
    assert send(stand_in, "GET", WELCOME, signed_headers(stand_in, credentials))[0] == 200


def test_the_scope_must_have_the_date_of_the_signature(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    headers = signed_headers(stand_in, credentials)
    today = headers["X-Amz-Date"][:8]
    headers["Authorization"] = headers["Authorization"].replace(f"/{today}/", "/20200101/")
    status, body = send(stand_in, "GET", WELCOME, headers)
    assert (status, "SignatureDoesNotMatch" in body) == (403, True)


def test_the_host_must_be_signed(
    stand_in: StandIn, credentials: CredentialsTypeDef, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = SigV4Auth.headers_to_sign

    def without_host(self: SigV4Auth, request: Any) -> Any:
        found = everything(self, request)
        del found["host"]
        return found

    monkeypatch.setattr(SigV4Auth, "headers_to_sign", without_host)
    status, body = send(stand_in, "GET", WELCOME, signed_headers(stand_in, credentials))
    assert (status, "not signed" in body) == (403, True)


@pytest.mark.parametrize(
    "authorization", ["AWS4-HMAC-SHA256", "Bearer x", "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=0"]
)
def test_an_authorization_that_is_no_signature_is_refused(stand_in: StandIn, authorization: str) -> None:
    status, body = send(stand_in, "GET", WELCOME, {"Authorization": authorization, "X-Amz-Date": "20260101T000000Z"})
    assert (status, "InvalidRequest" in body) == (400, True)


@pytest.mark.parametrize("date", ["", "yesterday", "20261301T000000Z"])
def test_a_date_that_is_none_is_refused(stand_in: StandIn, credentials: CredentialsTypeDef, date: str) -> None:
    headers = {**signed_headers(stand_in, credentials), "X-Amz-Date": date}
    assert send(stand_in, "GET", WELCOME, headers)[0] in {400, 403}


def test_only_one_way_of_signing_may_be_used(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    target = presigned(stand_in, credentials)
    status, body = send(stand_in, "GET", target, signed_headers(stand_in, credentials, target))
    assert (status, "Only one auth mechanism allowed" in body) == (400, True)


def test_a_token_beside_the_administrators_keys_is_refused(stand_in: StandIn) -> None:
    admin = {**stand_in.aws_admin, "SessionToken": "x", "Expiration": datetime.now(UTC)}
    status, body = send(stand_in, "GET", WELCOME, signed_headers(stand_in, admin))  # type: ignore[arg-type]  # a plain dict
    assert (status, "InvalidToken" in body) == (400, True)


# --- presigned URLs


def test_a_presigned_url_is_good_for_its_seconds_only(
    stand_in: StandIn, credentials: CredentialsTypeDef, clock: Any
) -> None:
    clock(timedelta(hours=-2))
    status, body = send(stand_in, "GET", presigned(stand_in, credentials, seconds=7190))
    assert (status, "Request has expired" in body) == (403, True)
    assert send(stand_in, "GET", presigned(stand_in, credentials, seconds=7260))[0] == 200
    clock(timedelta(minutes=16))
    status, body = send(stand_in, "GET", presigned(stand_in, credentials))
    assert (status, "Request is not yet valid" in body) == (403, True)


@pytest.mark.parametrize("seconds", [0, -1, 604_801, 9_999_999])
def test_a_presigned_url_lasts_a_second_to_a_week(
    stand_in: StandIn, credentials: CredentialsTypeDef, seconds: int
) -> None:
    status, body = send(stand_in, "GET", presigned(stand_in, credentials, seconds=seconds))
    assert (status, "between 1 and 604800 seconds" in body) == (400, True)


@pytest.mark.parametrize(
    "name", ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"]
)
def test_a_presigned_url_needs_all_its_parts(stand_in: StandIn, credentials: CredentialsTypeDef, name: str) -> None:
    path, _, query = presigned(stand_in, credentials).partition("?")
    kept = "&".join(part for part in query.split("&") if not part.startswith(f"{name}="))
    assert send(stand_in, "GET", f"{path}?{kept}")[0] in {400, 403}


def test_a_malformed_date_in_a_presigned_url_is_refused(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    path, _, query = presigned(stand_in, credentials).partition("?")
    parts = ["X-Amz-Date=today" if part.startswith("X-Amz-Date=") else part for part in query.split("&")]
    status, body = send(stand_in, "GET", f"{path}?{'&'.join(parts)}")
    assert (status, "ISO8601" in body) == (400, True)


def test_a_header_in_the_query_of_a_presigned_url_counts_like_a_header(
    stand_in: StandIn, credentials: CredentialsTypeDef
) -> None:
    own, foreign = (quote(f"corp-home/{who}/welcome.txt", safe="") for who in ("alice", "alice-two"))
    copy = "/corp-home/alice/by-url.txt?x-amz-copy-source="
    assert send(stand_in, "PUT", presigned(stand_in, credentials, copy + own, method="PUT"))[0] == 200
    status, body = send(stand_in, "PUT", presigned(stand_in, credentials, copy + foreign, method="PUT"))
    assert (status, "AccessDenied" in body) == (403, True)
    tagged = "/corp-home/alice/by-url.txt?x-amz-tagging=a%3Db"
    assert send(stand_in, "PUT", presigned(stand_in, credentials, tagged, method="PUT"))[0] == 403


def test_a_checksum_signed_over_an_empty_body_does_not_stop_an_upload(
    stand_in: StandIn, credentials: CredentialsTypeDef
) -> None:
    target = "/corp-home/alice/checksum.txt?x-amz-checksum-crc32=AAAAAA%3D%3D"
    url = presigned(stand_in, credentials, target, method="PUT")
    assert send(stand_in, "PUT", url, body=b"not empty")[0] == 200


def test_a_presigned_url_may_name_the_file_it_downloads(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    disposition = urlencode({"response-content-disposition": 'attachment; filename="w.txt"'})
    url = presigned(stand_in, credentials, f"{WELCOME}?{disposition}")
    with urllib.request.urlopen(stand_in.aws_endpoint + url) as answer:  # noqa: S310  our own loopback server
        assert answer.headers["content-disposition"] == 'attachment; filename="w.txt"'


# --- strange requests that are well signed


@pytest.mark.parametrize(
    ("method", "target", "header", "statuses"),
    [
        ("GET", "/corp-home/alice/x?uploads", "", {405, 501}),
        ("POST", "/corp-home/alice/x", "", {405}),
        ("POST", "/corp-home/alice/x?uploads", "corp-home/alice/welcome.txt", {400}),
        ("PUT", "/corp-home/alice/x?uploadId=u", "corp-home/alice/welcome.txt", {400}),
        ("PUT", "/corp-home/alice/x", "corp-home", {400}),
        ("PUT", "/corp-home/alice/x", "corp-home/", {400}),
        ("PUT", "/corp-home/alice/x", "x-s3alias/alice/welcome.txt", {400}),
        ("PUT", "/corp-home/alice/x", "corp-home/alice/welcome.txt?version=1", {400}),
        ("PUT", "/corp-home/alice/x", "corp-home/alice/welcome.txt?versionId=1&versionId=2", {400}),
        ("PUT", "/corp-home/alice/x", "corp-home/alice/welcome.txt?versionId=1", {403}),
        ("PUT", "/corp-home/alice/x?versionId=1", "", {400}),
        ("DELETE", "/corp-home/alice/welcome.txt?versionId=null", "", {403}),
        ("GET", "/corp-home/alice/welcome.txt?versionId=null", "", {403}),
        ("PUT", "/", "", {405}),
        ("POST", "/corp-home", "", {405}),
        ("PUT", "/corp-home?delete", "", {501}),
    ],
)
def test_a_request_outside_the_table_is_refused(
    stand_in: StandIn, credentials: CredentialsTypeDef, method: str, target: str, header: str, statuses: set[int]
) -> None:
    headers = {"host": urlsplit(stand_in.aws_endpoint).netloc, **({"x-amz-copy-source": header} if header else {})}
    request = AWSRequest(method, f"{stand_in.aws_endpoint}{target}", headers=headers)
    S3SigV4Auth(keys_of(credentials), "s3", REGION).add_auth(request)
    assert send(stand_in, method, target, dict(request.headers.items()))[0] in statuses


def test_bypassing_governance_retention_needs_its_own_right(stand_in: StandIn, assume: Assume) -> None:
    policy = home_policy("alice/")
    policy["Statement"][0]["Action"].append("s3:DeleteObject")
    s3 = s3_client(stand_in.aws_endpoint, assume(policy=policy)["Credentials"])
    s3.put_object(Bucket="corp-home", Key="alice/retained", Body=b"")
    with pytest.raises(ClientError, match="BypassGovernanceRetention"):
        s3.delete_object(Bucket="corp-home", Key="alice/retained", BypassGovernanceRetention=True)
    s3.delete_object(Bucket="corp-home", Key="alice/retained")


# --- the limits of a role that are not in its policy


READ_EVERYTHING = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
READ_ALICE = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::corp-home/alice/*"}


def document(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def alice_only(admin_iam: IAMClient) -> Iterator[str]:
    """The ARN of a managed policy that allows reading alice's home."""
    arn = admin_iam.create_policy(PolicyName="AliceOnly", PolicyDocument=document(READ_ALICE))["Policy"]["Arn"]
    yield arn
    admin_iam.delete_policy(PolicyArn=arn)


def reads(stand_in: StandIn, credentials: CredentialsTypeDef, key: str) -> bool:
    s3 = s3_client(stand_in.aws_endpoint, credentials)
    try:
        s3.get_object(Bucket="corp-home", Key=key)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied"  # noqa: PT017  one helper for both outcomes
        return False
    return True


def test_a_managed_session_policy_narrows_like_an_inline_one(
    stand_in: StandIn, assume: Assume, admin_iam: IAMClient, alice_only: str
) -> None:
    credentials = assume(PolicyArns=[{"arn": alice_only}])["Credentials"]
    assert reads(stand_in, credentials, "alice/welcome.txt")
    assert not reads(stand_in, credentials, "alice-two/welcome.txt")
    both = assume(PolicyArns=[{"arn": alice_only}], policy=home_policy("alice-two/"))["Credentials"]
    assert reads(stand_in, both, "alice/welcome.txt")
    assert reads(stand_in, both, "alice-two/welcome.txt")
    admin_iam.create_policy_version(
        PolicyArn=alice_only, PolicyDocument=document({**READ_ALICE, "Effect": "Deny"}), SetAsDefault=True
    )
    assert not reads(stand_in, credentials, "alice/welcome.txt")


def test_a_permissions_boundary_limits_a_role(
    stand_in: StandIn, assume: Assume, admin_iam: IAMClient, alice_only: str
) -> None:
    trust = json.dumps(trust_policy(FILES))
    admin_iam.create_role(RoleName="Bounded", AssumeRolePolicyDocument=trust, PermissionsBoundary=alice_only)
    admin_iam.put_role_policy(RoleName="Bounded", PolicyName="All", PolicyDocument=document(READ_EVERYTHING))
    try:
        claims = Claims(roles=(f"{role('Bounded')},{provider()}",))
        credentials = assume(claims, role_arn=role("Bounded"))["Credentials"]
        assert reads(stand_in, credentials, "alice/welcome.txt")
        assert not reads(stand_in, credentials, "alice-two/welcome.txt")
    finally:
        admin_iam.delete_role_policy(RoleName="Bounded", PolicyName="All")
        admin_iam.delete_role(RoleName="Bounded")


def test_a_role_with_one_errand_in_iam_can_do_that_errand_only(
    stand_in: StandIn, assume: Assume, admin_iam: IAMClient
) -> None:
    trust = json.dumps(trust_policy(FILES))
    errand = {
        "Effect": "Allow",
        "Action": ["iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:UpdateSAMLProvider"],
        "Resource": [role("StaffFiles"), provider()],
    }
    admin_iam.create_role(RoleName="Revoker", AssumeRolePolicyDocument=trust)
    admin_iam.put_role_policy(RoleName="Revoker", PolicyName="Errand", PolicyDocument=document(errand))
    try:
        claims = Claims(roles=(f"{role('Revoker')},{provider()}",))
        credentials = assume(claims, role_arn=role("Revoker"))["Credentials"]
        iam = boto3.client(
            "iam",
            endpoint_url=stand_in.aws_endpoint,
            region_name=REGION,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
            config=ONE_TRY,
        )
        deny = document({"Effect": "Deny", "Action": "*", "Resource": "arn:aws:s3:::nothing"})
        iam.put_role_policy(RoleName="StaffFiles", PolicyName="Revoked", PolicyDocument=deny)
        iam.delete_role_policy(RoleName="StaffFiles", PolicyName="Revoked")
        iam.update_saml_provider(SAMLProviderArn=provider(), SAMLMetadataDocument=metadata())
        administrator = "arn:aws:iam::aws:policy/AdministratorAccess"
        refused: tuple[Callable[[], object], ...] = (
            lambda: iam.put_role_policy(RoleName="Revoker", PolicyName="x", PolicyDocument=deny),
            lambda: iam.put_role_policy(RoleName="FinanceReports", PolicyName="x", PolicyDocument=deny),
            lambda: iam.delete_role_policy(RoleName="Revoker", PolicyName="Errand"),
            lambda: iam.attach_role_policy(RoleName="StaffFiles", PolicyArn=administrator),
            lambda: iam.create_access_key(UserName="alice"),
            lambda: iam.create_user(UserName="alice"),
        )
        for call in refused:
            with pytest.raises(ClientError, match="AccessDenied"):
                call()
    finally:
        admin_iam.delete_role_policy(RoleName="Revoker", PolicyName="Errand")
        admin_iam.delete_role(RoleName="Revoker")


# --- STS and IAM


def test_sts_and_iam_take_no_presigned_and_no_skewed_requests(
    stand_in: StandIn, credentials: CredentialsTypeDef, clock: Any
) -> None:
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest("POST", f"{stand_in.aws_endpoint}/")
    S3SigV4QueryAuth(keys_of(credentials), "sts", REGION, expires=60).add_auth(request)
    target = str(request.url).removeprefix(stand_in.aws_endpoint)
    status, answer = send(stand_in, "POST", target, body=body)
    assert (status, "MalformedInput" in answer) == (400, True)
    clock(timedelta(minutes=-16))
    late = AWSRequest("POST", f"{stand_in.aws_endpoint}/", data=body)
    SigV4Auth(keys_of(credentials), "sts", REGION).add_auth(late)
    status, answer = send(stand_in, "POST", "/", dict(late.headers.items()), body)
    assert (status, "Signature expired" in answer) == (403, True)


def test_the_query_protocol_is_spoken_with_post_and_a_body(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    target = "/?Action=GetCallerIdentity&Version=2011-06-15"
    for method in ("GET", "POST"):
        request = AWSRequest(method, f"{stand_in.aws_endpoint}{target}")
        SigV4Auth(keys_of(credentials), "sts", REGION).add_auth(request)
        status, answer = send(stand_in, method, target, dict(request.headers.items()))
        assert (status, "MalformedInput" in answer) == (400, True)


def test_a_signature_for_another_service_opens_neither(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest("POST", f"{stand_in.aws_endpoint}/", data=body)
    SigV4Auth(keys_of(credentials), "ec2", REGION).add_auth(request)
    assert send(stand_in, "POST", "/", dict(request.headers.items()), body)[0] == 403


def test_a_body_that_is_announced_too_large_is_refused_unread(stand_in: StandIn) -> None:
    connection = http.client.HTTPConnection(urlsplit(stand_in.aws_endpoint).netloc, timeout=10)
    connection.putrequest("PUT", "/corp-home/alice/huge")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, b"EntityTooLarge" in answer.read()) == (400, True)
    connection.close()


def test_an_unsigned_saml_exchange_sent_with_get_is_refused(stand_in: StandIn) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{stand_in.aws_endpoint}/?Action=AssumeRoleWithSAML&RoleArn=x")  # noqa: S310  our own loopback server
    assert caught.value.code == 403
    caught.value.close()
