"""S3 with issued sessions: what a session policy allows works, everything beside it is refused."""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from broker.sandbox.aws.company import REGION, found_company
from broker.sandbox.aws.sessions import SessionStore
from tests.sandbox.aws.conftest import USERNAMES, Assume, home_policy, s3_client, sts_client
from tests.sandbox.aws.identity_provider import RESEARCH, Claims, metadata, provider, role, signed_response
from tests.sandbox.aws.process import StandIn, running_stand_in

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sts.type_defs import CredentialsTypeDef


@pytest.fixture
def alice(stand_in: StandIn, assume: Assume) -> S3Client:
    """S3 as alice, whose session reaches her own home folder only."""
    return s3_client(stand_in.aws_endpoint, assume(policy=home_policy("alice/"))["Credentials"])


@pytest.fixture
def whole_role(stand_in: StandIn, assume: Assume) -> S3Client:
    """S3 with all the role may, without a session policy."""
    return s3_client(stand_in.aws_endpoint, assume()["Credentials"])


def code(call: Callable[[], object]) -> str:
    """Return the error code a call is answered with."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"]


def keys(answer: Any) -> list[str]:
    return [item["Key"] for item in answer.get("Contents", [])]


# --- own prefix, neighbours


def test_the_own_folder_is_listed_read_and_written(alice: S3Client) -> None:
    alice.put_object(Bucket="corp-home", Key="alice/new.txt", Body=b"new")
    listed = alice.list_objects_v2(Bucket="corp-home", Prefix="alice/")
    assert {"alice/welcome.txt", "alice/notes/2026-plan.txt", "alice/new.txt"} <= set(keys(listed))
    assert alice.get_object(Bucket="corp-home", Key="alice/new.txt")["Body"].read() == b"new"
    assert alice.head_object(Bucket="corp-home", Key="alice/new.txt")["ContentLength"] == 3
    assert keys(alice.list_objects(Bucket="corp-home", Prefix="alice/notes/")) == ["alice/notes/2026-plan.txt"]


@pytest.mark.parametrize(
    "prefix",
    ["alice-two/", "alice", "alic", "", "bob/", "/alice/", "ALICE/", "./alice/", "../", "*", "alice*", "a?ice/"],
)
def test_no_other_prefix_can_be_listed(alice: S3Client, prefix: str) -> None:
    for listing in (
        alice.list_objects_v2,
        alice.list_objects,
        alice.list_object_versions,
        alice.list_multipart_uploads,
    ):
        assert code(partial(listing, Bucket="corp-home", Prefix=prefix)) == "AccessDenied"


def test_a_listing_without_prefix_is_refused(alice: S3Client) -> None:
    for listing in (
        alice.list_objects_v2,
        alice.list_objects,
        alice.list_object_versions,
        alice.list_multipart_uploads,
    ):
        assert code(partial(listing, Bucket="corp-home")) == "AccessDenied"
    assert code(lambda: alice.head_bucket(Bucket="corp-home")) == "403"


def test_a_listing_of_uploads_cannot_be_limited_to_a_prefix(stand_in: StandIn, assume: Assume) -> None:
    # The service authorization reference gives s3:ListBucketMultipartUploads no such condition key.
    policy = home_policy("alice/")
    policy["Statement"][1]["Action"] = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
    s3 = s3_client(stand_in.aws_endpoint, assume(policy=policy)["Credentials"])
    assert keys(s3.list_objects_v2(Bucket="corp-home", Prefix="alice/notes/")) == ["alice/notes/2026-plan.txt"]
    assert code(lambda: s3.list_multipart_uploads(Bucket="corp-home", Prefix="alice/")) == "AccessDenied"


@pytest.mark.parametrize("key", ["alice-two/welcome.txt", "alice", "bob/welcome.txt", "/alice/welcome.txt", "Alice/x"])
def test_no_other_key_can_be_read_written_or_deleted(alice: S3Client, key: str) -> None:
    assert code(lambda: alice.get_object(Bucket="corp-home", Key=key)) == "AccessDenied"
    assert code(lambda: alice.head_object(Bucket="corp-home", Key=key)) == "403"
    assert code(lambda: alice.put_object(Bucket="corp-home", Key=key, Body=b"")) == "AccessDenied"
    assert code(lambda: alice.delete_object(Bucket="corp-home", Key=key)) == "AccessDenied"
    assert code(lambda: alice.get_object_tagging(Bucket="corp-home", Key=key)) == "AccessDenied"
    assert code(lambda: alice.get_object_acl(Bucket="corp-home", Key=key)) == "AccessDenied"
    assert code(lambda: alice.create_multipart_upload(Bucket="corp-home", Key=key)) == "AccessDenied"


def test_a_key_that_climbs_is_only_a_strange_key_of_ones_own(alice: S3Client, admin_s3: S3Client) -> None:
    key = "alice/../alice-two/welcome.txt"
    alice.put_object(Bucket="corp-home", Key=key, Body=b"mine")
    assert alice.get_object(Bucket="corp-home", Key=key)["Body"].read() == b"mine"
    neighbour = admin_s3.get_object(Bucket="corp-home", Key="alice-two/welcome.txt")["Body"].read()
    assert neighbour.startswith(b"Welcome, alice-two")


@pytest.mark.parametrize("name", [name for name in USERNAMES if name != "alice"])
def test_a_home_named_with_special_characters_is_reached_like_any_other(
    stand_in: StandIn, assume: Assume, name: str
) -> None:
    s3 = s3_client(stand_in.aws_endpoint, assume(policy=home_policy(f"{name}/"))["Credentials"])
    listed = keys(s3.list_objects_v2(Bucket="corp-home", Prefix=f"{name}/"))
    assert listed == [f"{name}/notes/2026-plan.txt", f"{name}/welcome.txt"]
    assert name in s3.get_object(Bucket="corp-home", Key=f"{name}/welcome.txt")["Body"].read().decode()
    assert code(lambda: s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")) == "AccessDenied"


def test_other_buckets_are_refused_and_buckets_are_not_listed(alice: S3Client) -> None:
    for bucket, key in (("corp-shared", "handbook/README.txt"), ("corp-finance", "reports/2026/q1.csv")):
        assert code(partial(alice.get_object, Bucket=bucket, Key=key)) == "AccessDenied"
    assert code(lambda: alice.get_object(Bucket="falcon-data", Key="raw/flight-001.csv")) == "AccessDenied"
    assert code(alice.list_buckets) == "AccessDenied"
    assert code(lambda: alice.get_object(Bucket="no-such-bucket", Key="x")) == "NoSuchBucket"


def test_a_read_only_session_cannot_write(stand_in: StandIn, assume: Assume) -> None:
    s3 = s3_client(stand_in.aws_endpoint, assume(policy=home_policy("alice/", write=False))["Credentials"])
    assert s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")["Body"].read()
    assert code(lambda: s3.put_object(Bucket="corp-home", Key="alice/x", Body=b"")) == "AccessDenied"
    assert code(lambda: s3.delete_object(Bucket="corp-home", Key="alice/welcome.txt")) == "AccessDenied"


def test_a_missing_key_is_hidden_from_whoever_may_not_list_the_bucket(alice: S3Client, whole_role: S3Client) -> None:
    assert code(lambda: alice.get_object(Bucket="corp-home", Key="alice/missing")) == "AccessDenied"
    assert code(lambda: whole_role.get_object(Bucket="corp-home", Key="alice/missing")) == "NoSuchKey"


def test_the_session_policy_cannot_widen_the_role(stand_in: StandIn, assume: Assume) -> None:
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    s3 = s3_client(stand_in.aws_endpoint, assume(policy=everything)["Credentials"])
    assert s3.list_objects_v2(Bucket="corp-home")["KeyCount"] > 0
    assert s3.get_object(Bucket="corp-shared", Key="secret/acquisition.txt")["Body"].read()
    assert code(lambda: s3.put_object(Bucket="corp-shared", Key="handbook/x", Body=b"")) == "AccessDenied"
    assert code(lambda: s3.get_object(Bucket="corp-finance", Key="reports/2026/q1.csv")) == "AccessDenied"
    assert code(s3.list_buckets) == "AccessDenied"


def test_a_whole_role_session_has_exactly_the_rights_of_the_role(stand_in: StandIn, assume: Assume) -> None:
    credentials = assume(role_arn=role("OpsReadOnly", RESEARCH))["Credentials"]
    s3 = s3_client(stand_in.aws_endpoint, credentials)
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["falcon-data"]
    assert s3.get_object(Bucket="falcon-data", Key="private/patent-draft.txt")["Body"].read()
    assert code(lambda: s3.put_object(Bucket="falcon-data", Key="raw/x", Body=b"")) == "AccessDenied"
    assert code(lambda: s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")) == "AccessDenied"


# --- every road to an object


def test_a_copy_needs_the_right_to_read_its_source(alice: S3Client) -> None:
    alice.copy_object(
        Bucket="corp-home", Key="alice/copy", CopySource={"Bucket": "corp-home", "Key": "alice/welcome.txt"}
    )
    for source in (
        "corp-home/alice-two/welcome.txt",
        "corp-shared/secret/acquisition.txt",
        "falcon-data/raw/flight-001.csv",
        "/corp-home/alice-two/welcome.txt",
        "corp-home/alice%2Dtwo/welcome.txt",
        "%2Fcorp-home/alice-two/welcome.txt",
    ):
        assert code(partial(alice.copy_object, Bucket="corp-home", Key="alice/stolen", CopySource=source)) in {
            "AccessDenied",
            "InvalidArgument",
        }
    assert code(lambda: alice.get_object(Bucket="corp-home", Key="alice/stolen")) == "AccessDenied"
    assert (
        code(lambda: alice.copy_object(Bucket="corp-home", Key="bob/x", CopySource="corp-home/alice/welcome.txt"))
        == "AccessDenied"
    )


def test_a_part_copied_into_an_upload_needs_the_right_to_read_its_source(alice: S3Client) -> None:
    upload = alice.create_multipart_upload(Bucket="corp-home", Key="alice/big")["UploadId"]
    where: Any = {"Bucket": "corp-home", "Key": "alice/big", "UploadId": upload, "PartNumber": 1}
    assert code(lambda: alice.upload_part_copy(**where, CopySource="corp-home/alice-two/welcome.txt")) == "AccessDenied"
    part = alice.upload_part_copy(**where, CopySource="corp-home/alice/welcome.txt")
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]}
    alice.complete_multipart_upload(Bucket="corp-home", Key="alice/big", UploadId=upload, MultipartUpload=parts)
    assert alice.get_object(Bucket="corp-home", Key="alice/big")["Body"].read().startswith(b"Welcome, alice.")


def test_a_multipart_upload_works_and_stays_in_its_own_key(alice: S3Client, whole_role: S3Client) -> None:
    body = bytes(range(256)) * 4096 * 6
    upload = alice.create_multipart_upload(Bucket="corp-home", Key="alice/large.bin")["UploadId"]
    etags: Any = []
    for number, part in enumerate((body[: 5 << 20], body[5 << 20 :]), start=1):
        answer = alice.upload_part(
            Bucket="corp-home", Key="alice/large.bin", UploadId=upload, PartNumber=number, Body=part
        )
        etags.append({"PartNumber": number, "ETag": answer["ETag"]})
    alice.complete_multipart_upload(
        Bucket="corp-home",
        Key="alice/large.bin",
        UploadId=upload,
        MultipartUpload={"Parts": etags},
    )
    assert alice.get_object(Bucket="corp-home", Key="alice/large.bin")["Body"].read() == body

    foreign = whole_role.create_multipart_upload(Bucket="corp-home", Key="bob/theirs")["UploadId"]
    mine: Any = {"Bucket": "corp-home", "Key": "alice/mine", "UploadId": foreign, "PartNumber": 1}
    assert code(lambda: alice.upload_part(**mine, Body=b"x")) == "NoSuchUpload"
    assert code(lambda: alice.upload_part_copy(**mine, CopySource="corp-home/alice/welcome.txt")) == "NoSuchUpload"
    assert (
        code(lambda: alice.abort_multipart_upload(Bucket="corp-home", Key="bob/theirs", UploadId=foreign))
        == "AccessDenied"
    )


def test_a_batch_delete_deletes_only_what_may_be_deleted(stand_in: StandIn, assume: Assume, admin_s3: S3Client) -> None:
    policy = home_policy("alice/")
    policy["Statement"] += [
        {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::corp-home/alice/*"}
    ]
    s3 = s3_client(stand_in.aws_endpoint, assume(policy=policy)["Credentials"])
    for key in ("alice/old-1", "alice/old <2> & more", "bob/keep"):
        admin_s3.put_object(Bucket="corp-home", Key=key, Body=b"x")
    wanted: Any = [{"Key": key} for key in ("alice/old-1", "bob/keep", "alice/old <2> & more", "alice-two/welcome.txt")]
    answer = s3.delete_objects(Bucket="corp-home", Delete={"Objects": wanted})
    assert sorted(d["Key"] for d in answer["Deleted"]) == ["alice/old <2> & more", "alice/old-1"]
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [
        ("bob/keep", "AccessDenied"),
        ("alice-two/welcome.txt", "AccessDenied"),
    ]
    left = keys(admin_s3.list_objects_v2(Bucket="corp-home"))
    assert "bob/keep" in left
    assert "alice-two/welcome.txt" in left
    assert "alice/old-1" not in left
    only_foreign = s3.delete_objects(Bucket="corp-home", Delete={"Objects": [{"Key": "bob/keep"}], "Quiet": True})
    assert [e["Key"] for e in only_foreign["Errors"]] == ["bob/keep"]


def test_a_header_that_does_more_needs_more_rights(alice: S3Client) -> None:
    put: Any = {"Bucket": "corp-home", "Key": "alice/x", "Body": b""}
    assert code(lambda: alice.put_object(**put, Tagging="a=b")) == "AccessDenied"
    assert code(lambda: alice.put_object(**put, ACL="public-read")) == "AccessDenied"
    assert code(lambda: alice.put_object(**put, GrantRead="id=1")) == "AccessDenied"


@pytest.mark.parametrize(
    "setting",
    [
        "get_bucket_policy",
        "delete_bucket_policy",
        "get_bucket_acl",
        "get_bucket_versioning",
        "get_bucket_encryption",
        "get_bucket_tagging",
        "get_bucket_cors",
        "get_bucket_lifecycle_configuration",
        "get_bucket_location",
        "get_public_access_block",
        "get_bucket_ownership_controls",
        "get_bucket_logging",
        "get_bucket_notification_configuration",
        "get_bucket_website",
        "get_bucket_replication",
        "get_object_lock_configuration",
        "delete_bucket",
        "delete_bucket_cors",
        "delete_public_access_block",
    ],
)
def test_bucket_settings_are_out_of_reach(alice: S3Client, setting: str) -> None:
    assert code(lambda: getattr(alice, setting)(Bucket="corp-home")) == "AccessDenied"


def test_bucket_settings_cannot_be_changed(alice: S3Client) -> None:
    open_to_all = json.dumps(
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}
    )
    for call in (
        lambda: alice.put_bucket_policy(Bucket="corp-home", Policy=open_to_all),
        lambda: alice.put_bucket_acl(Bucket="corp-home", ACL="public-read"),
        lambda: alice.put_bucket_versioning(Bucket="corp-home", VersioningConfiguration={"Status": "Enabled"}),
        lambda: alice.create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": REGION}),
    ):
        assert code(call) == "AccessDenied"


# --- requests that SDKs do not send


def raw(
    stand_in: StandIn,
    method: str,
    target: str,
    credentials: CredentialsTypeDef | None,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    late_headers: dict[str, str] | None = None,
    sent_body: bytes | None = None,
) -> tuple[int, bytes]:
    """Send a request exactly as given, signed when there are credentials."""
    parts = urlsplit(stand_in.aws_endpoint)
    sent = {"host": parts.netloc, "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), **(headers or {})}
    if credentials is not None:
        request = AWSRequest(method, f"{stand_in.aws_endpoint}{target}", headers=sent, data=body)
        keys = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
        S3SigV4Auth(keys, "s3", REGION).add_auth(request)
        sent = dict(request.headers.items())
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, target, body if sent_body is None else sent_body, {**sent, **(late_headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture
def credentials(assume: Assume) -> CredentialsTypeDef:
    return assume(policy=home_policy("alice/"))["Credentials"]


def test_an_unsigned_request_is_refused(stand_in: StandIn) -> None:
    for method, target in (
        ("GET", "/"),
        ("GET", "/corp-home/alice/welcome.txt"),
        ("PUT", "/new-bucket"),
        ("POST", "/corp-home?delete"),
    ):
        status, body = raw(stand_in, method, target, None)
        assert (status, b"AccessDenied" in body) == (403, True)


def test_the_keys_ministack_treats_as_root_are_unknown_here(stand_in: StandIn) -> None:
    for key_id in ("test", "000000000000", "111122223333", "AKIAIOSFODNN7EXAMPLE"):
        pretended: Any = {
            "AccessKeyId": key_id,
            "SecretAccessKey": "test",
            "SessionToken": "",
            "Expiration": datetime.now(UTC),
        }
        status, _ = raw(stand_in, "GET", "/corp-home?prefix=alice%2F", pretended)
        assert status == 403


@pytest.mark.parametrize(
    "target",
    ["/_ministack/reset", "/_ministack/health", "/health", "/_localstack/health", "/_ministack/config", "/v2/x"],
)
def test_ministacks_own_back_doors_are_shut(stand_in: StandIn, target: str) -> None:
    for method in ("GET", "POST"):
        assert raw(stand_in, method, target, None)[0] in {400, 403}


def test_a_wrong_secret_or_token_or_body_is_refused(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    target = "/corp-home/alice/welcome.txt"
    assert raw(stand_in, "GET", target, credentials)[0] == 200
    assert b"SignatureDoesNotMatch" in raw(stand_in, "GET", target, {**credentials, "SecretAccessKey": "x"})[1]
    assert b"InvalidToken" in raw(stand_in, "GET", target, {**credentials, "SessionToken": "x"})[1]
    assert b"InvalidToken" in raw(stand_in, "GET", target, {**credentials, "SessionToken": ""})[1]
    status, body = raw(stand_in, "PUT", "/corp-home/alice/x", credentials, body=b"signed", sent_body=b"other!")
    assert (status, b"XAmzContentSHA256Mismatch" in body) == (400, True)


def test_a_header_added_after_signing_is_refused(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    status, body = raw(
        stand_in,
        "PUT",
        "/corp-home/alice/x",
        credentials,
        late_headers={"x-amz-copy-source": "corp-home/alice/welcome.txt"},
    )
    assert (status, b"not signed" in body) == (403, True)


@pytest.mark.parametrize(
    "target",
    [
        "/corp-home//alice/welcome.txt",
        "//corp-home/alice/welcome.txt",
        "/corp-home/alice-two/welcome.txt?x=alice/",
        "/corp-home/%61lice-two/welcome.txt",
        "/corp-home/?prefix=alice%2F&prefix=alice-two%2F",
        "/corp-home?list-type=2&Prefix=alice%2F",
        "/corp-home?prefix=alice%2F&versions&uploads",
        "/corp-home/alice/welcome.txt?acl&tagging",
        "/corp-home/alice/welcome.txt?torrent",
        "/corp-home?policyStatus",
        "/corp-home/alice/%ff",
        "/corp-home-s3alias/alice/x",
        "/x.mrap/alice/x",
        "/Corp-Home/alice/welcome.txt",
    ],
)
def test_an_ambiguous_or_unusual_request_gets_nothing(
    stand_in: StandIn, credentials: CredentialsTypeDef, target: str
) -> None:
    status, body = raw(stand_in, "GET", target, credentials)
    assert status in {400, 403, 405, 501}
    assert b"Welcome" not in body


def test_parameters_s3_does_not_know_change_nothing(stand_in: StandIn, credentials: CredentialsTypeDef) -> None:
    assert raw(stand_in, "GET", "/corp-home/alice/welcome.txt?utm=x", credentials)[0] == 200


def test_a_batch_delete_that_two_readers_could_read_differently_is_refused(
    stand_in: StandIn, credentials: CredentialsTypeDef
) -> None:
    for inside in (
        "<Object><Key>alice/x</Key><Key>bob/x</Key></Object>",
        "<Object><Key>bob/<!-- -->x</Key></Object>",
        "<Object><Key><b>bob/x</b></Key></Object>",
        "<Object/>",
        "",
    ):
        status, body = raw(
            stand_in, "POST", "/corp-home?delete", credentials, body=f"<Delete>{inside}</Delete>".encode()
        )
        assert (status, b"MalformedXML" in body) == (400, True)
    bomb = b'<!DOCTYPE d [<!ENTITY e "bob/x">]><Delete><Object><Key>&e;</Key></Object></Delete>'
    assert raw(stand_in, "POST", "/corp-home?delete", credentials, body=bomb)[0] == 400


# --- presigned URLs


def fetch(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, method=method, data=body)  # noqa: S310  our own loopback server
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310  our own loopback server
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_presigned_url_has_the_rights_of_its_signer(alice: S3Client) -> None:
    own = alice.generate_presigned_url("get_object", {"Bucket": "corp-home", "Key": "alice/welcome.txt"}, ExpiresIn=60)
    status, body = fetch(own)
    assert (status, body[:8]) == (200, b"Welcome,")
    foreign = alice.generate_presigned_url("get_object", {"Bucket": "corp-home", "Key": "alice-two/welcome.txt"})
    assert fetch(foreign)[0] == 403
    listing = alice.generate_presigned_url("list_objects_v2", {"Bucket": "corp-home", "Prefix": "alice-two/"})
    assert fetch(listing)[0] == 403


def test_a_presigned_upload_works_and_only_to_its_key(alice: S3Client) -> None:
    url = alice.generate_presigned_url("put_object", {"Bucket": "corp-home", "Key": "alice/put.txt"}, ExpiresIn=60)
    assert fetch(url, "PUT", b"by url")[0] == 200
    assert alice.get_object(Bucket="corp-home", Key="alice/put.txt")["Body"].read() == b"by url"
    assert b"SignatureDoesNotMatch" in fetch(url.replace("put.txt", "other.txt"), "PUT", b"x")[1]


def test_signature_version_2_is_refused_as_for_every_new_bucket(stand_in: StandIn, assume: Assume) -> None:
    credentials = assume(policy=home_policy("alice/"))["Credentials"]
    old = boto3.client(
        "s3",
        endpoint_url=stand_in.aws_endpoint,
        region_name=REGION,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=Config(signature_version="s3"),
    )
    status, body = fetch(old.generate_presigned_url("get_object", {"Bucket": "corp-home", "Key": "alice/welcome.txt"}))
    assert (status, b"Please use AWS4-HMAC-SHA256" in body) == (400, True)
    assert code(lambda: old.get_object(Bucket="corp-home", Key="alice/welcome.txt")) == "InvalidRequest"


def test_a_presigned_url_that_was_changed_or_expired_is_refused(alice: S3Client) -> None:
    url = alice.generate_presigned_url("get_object", {"Bucket": "corp-home", "Key": "alice/welcome.txt"}, ExpiresIn=60)
    for changed in (
        url.replace("alice/welcome", "alice-two/welcome"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000000"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=soon"),
        url + "&X-Amz-Expires=600",
        url + "&x-amz-copy-source=corp-home/alice-two/welcome.txt",
        url.replace("X-Amz-Security-Token=", "X-Amz-Security-Token=x"),
        url.replace("%2Fs3%2Faws4_request", "%2Fsts%2Faws4_request"),
    ):
        assert fetch(changed)[0] in {400, 403}


# --- bucket policies


@pytest.fixture
def shared_policy(admin_s3: S3Client) -> Iterator[Callable[..., None]]:
    def put(**statement: object) -> None:
        document = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", **statement}}
        admin_s3.put_bucket_policy(Bucket="corp-shared", Policy=json.dumps(document))

    yield put
    admin_s3.delete_bucket_policy(Bucket="corp-shared")


HANDBOOK = "arn:aws:s3:::corp-shared/handbook/*"


def test_a_deny_in_the_bucket_policy_stops_what_role_and_session_allow(
    whole_role: S3Client, shared_policy: Callable[..., None]
) -> None:
    assert whole_role.get_object(Bucket="corp-shared", Key="handbook/README.txt")["Body"].read()
    shared_policy(Effect="Deny", Action="s3:GetObject", Resource=HANDBOOK)
    assert code(lambda: whole_role.get_object(Bucket="corp-shared", Key="handbook/README.txt")) == "AccessDenied"
    assert whole_role.get_object(Bucket="corp-shared", Key="secret/acquisition.txt")["Body"].read()


def test_a_bucket_policy_for_the_role_does_not_widen_a_session_policy(
    alice: S3Client, shared_policy: Callable[..., None]
) -> None:
    for principal in ("*", {"AWS": role()}, {"AWS": "arn:aws:iam::111122223333:root"}):
        shared_policy(Principal=principal, Action="s3:GetObject", Resource=HANDBOOK)
        assert code(lambda: alice.get_object(Bucket="corp-shared", Key="handbook/README.txt")) == "AccessDenied"


def test_a_bucket_policy_that_names_the_session_is_not_narrowed(
    alice: S3Client, shared_policy: Callable[..., None]
) -> None:
    session = "arn:aws:sts::111122223333:assumed-role/StaffFiles/alice"
    shared_policy(Principal={"AWS": session}, Action="s3:GetObject", Resource=HANDBOOK)
    assert alice.get_object(Bucket="corp-shared", Key="handbook/README.txt")["Body"].read()


def test_a_malformed_bucket_policy_is_refused(admin_s3: S3Client) -> None:
    for document in ("{}", '{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}'):
        assert code(partial(admin_s3.put_bucket_policy, Bucket="corp-shared", Policy=document)) == "MalformedPolicy"


# --- policy variables, tags, revocation


def test_policy_variables_give_each_session_its_own_prefix(stand_in: StandIn, assume: Assume) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "s3:GetObject",
                "Resource": "arn:aws:s3:::corp-home/${aws:PrincipalTag/Project}/*",
            },
            {
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::corp-home",
                "Condition": {
                    "StringLike": {"s3:prefix": "${aws:PrincipalTag/project}/*"},
                    "StringEquals": {"aws:SourceIdentity": "ALICEIDAAAAAAAAAAAAAAAAAAA", "saml:sub": "alice-id"},
                },
            },
        ],
    }
    claims = Claims(tags={"Project": "alice"})
    s3 = s3_client(stand_in.aws_endpoint, assume(claims, policy=policy)["Credentials"])
    assert s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")["Body"].read()
    assert s3.list_objects_v2(Bucket="corp-home", Prefix="alice/")["KeyCount"] >= 2
    assert code(lambda: s3.get_object(Bucket="corp-home", Key="alice-two/welcome.txt")) == "AccessDenied"
    untagged = s3_client(stand_in.aws_endpoint, assume(policy=policy)["Credentials"])
    assert code(lambda: untagged.get_object(Bucket="corp-home", Key="alice/welcome.txt")) == "AccessDenied"


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {"aws:SourceIdentity": "ALICEIDAAAAAAAAAAAAAAAAAAA"}},
        {"StringLike": {"aws:userid": "*:alice"}},
        {
            "DateLessThan": {
                "aws:TokenIssueTime": (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            }
        },
    ],
    ids=["source identity", "user id", "token issue time"],
)
def test_a_deny_put_on_the_role_later_ends_running_sessions_at_once(
    stand_in: StandIn, assume: Assume, admin_iam: IAMClient, condition: dict[str, object]
) -> None:
    s3 = s3_client(stand_in.aws_endpoint, assume(policy=home_policy("alice/"))["Credentials"])
    other_claims = Claims(session_name="bob", source_identity="BOBIDAAAAAAAAAAAAAAAAAAAAA")
    other = s3_client(stand_in.aws_endpoint, assume(other_claims, policy=home_policy("alice/"))["Credentials"])
    assert s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")["Body"].read()
    revoke = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}],
    }
    admin_iam.put_role_policy(RoleName="StaffFiles", PolicyName="Revoked", PolicyDocument=json.dumps(revoke))
    try:
        assert code(lambda: s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")) == "AccessDenied"
        if "DateLessThan" not in condition:
            assert other.get_object(Bucket="corp-home", Key="alice/welcome.txt")["Body"].read()
    finally:
        admin_iam.delete_role_policy(RoleName="StaffFiles", PolicyName="Revoked")
    assert s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")["Body"].read()


def test_sessions_of_a_role_that_was_deleted_and_made_again_are_dead(
    stand_in: StandIn, assume: Assume, admin_iam: IAMClient
) -> None:
    trust = admin_iam.get_role(RoleName="StaffFiles")["Role"]["AssumeRolePolicyDocument"]
    everything = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}

    def make() -> None:
        admin_iam.create_role(RoleName="Short", AssumeRolePolicyDocument=json.dumps(trust))
        admin_iam.put_role_policy(RoleName="Short", PolicyName="All", PolicyDocument=json.dumps(everything))

    make()
    claims = Claims(roles=(f"{role('Short')},{provider()}",))
    s3 = s3_client(stand_in.aws_endpoint, assume(claims, role_arn=role("Short"))["Credentials"])
    assert s3.list_buckets()["Buckets"]
    admin_iam.delete_role_policy(RoleName="Short", PolicyName="All")
    admin_iam.delete_role(RoleName="Short")
    assert code(s3.list_buckets) == "AccessDenied"
    make()
    try:
        assert code(s3.list_buckets) == "AccessDenied"
    finally:
        admin_iam.delete_role_policy(RoleName="Short", PolicyName="All")
        admin_iam.delete_role(RoleName="Short")


# --- the wire


def test_a_client_of_another_region_is_sent_to_the_buckets_region(stand_in: StandIn, assume: Assume) -> None:
    credentials = assume(policy=home_policy("alice/"))["Credentials"]
    elsewhere = s3_client(stand_in.aws_endpoint, credentials, region="eu-west-1")
    assert elsewhere.list_objects_v2(Bucket="corp-home", Prefix="alice/")["KeyCount"] >= 2
    assert code(lambda: elsewhere.list_objects_v2(Bucket="corp-home", Prefix="alice-two/")) == "AccessDenied"


def test_an_upload_in_signed_chunks_arrives_whole(alice: S3Client) -> None:
    body = b"0123456789" * 20_000
    alice.put_object(Bucket="corp-home", Key="alice/chunked.bin", Body=body, ChecksumAlgorithm="CRC32")
    assert alice.get_object(Bucket="corp-home", Key="alice/chunked.bin")["Body"].read() == body
    part = alice.get_object(Bucket="corp-home", Key="alice/chunked.bin", Range="bytes=5-14")
    assert part["Body"].read() == b"5678901234"


def test_the_administrator_sees_every_bucket_of_every_account(admin_s3: S3Client) -> None:
    found = [bucket["Name"] for bucket in admin_s3.list_buckets()["Buckets"]]
    assert found == ["corp-finance", "corp-home", "corp-shared", "falcon-data"]
    assert admin_s3.get_object(Bucket="falcon-data", Key="private/patent-draft.txt")["Body"].read()


# --- time and restart


def test_objects_sessions_and_settings_survive_a_restart_until_the_session_expires(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with running_stand_in(state) as first:
        found_company(first.aws_admin, first.aws_endpoint, metadata().encode(), ["alice"])
        answer = sts_client(first.aws_endpoint).assume_role_with_saml(
            RoleArn=role(),
            PrincipalArn=provider(),
            SAMLAssertion=signed_response(),
            Policy=json.dumps(home_policy("alice/")),
        )
        credentials = answer["Credentials"]
        s3 = s3_client(first.aws_endpoint, credentials)
        s3.put_object(Bucket="corp-home", Key="alice/kept 日本.txt", Body="残る".encode(), Metadata={"note": "kept"})
        s3.put_object(Bucket="corp-home", Key="alice/../odd//key", Body=b"odd")
        first.process.kill()  # not even a chance to say goodbye
        first.process.wait()

    with running_stand_in(state) as second:
        assert second.aws_admin == first.aws_admin
        found_company(second.aws_admin, second.aws_endpoint, metadata().encode(), ["alice"])
        s3 = s3_client(second.aws_endpoint, credentials)
        kept = s3.get_object(Bucket="corp-home", Key="alice/kept 日本.txt")
        assert kept["Body"].read().decode() == "残る"
        assert kept["Metadata"] == {"note": "kept"}
        assert s3.get_object(Bucket="corp-home", Key="alice/../odd//key")["Body"].read() == b"odd"
        assert code(lambda: s3.list_objects_v2(Bucket="corp-home", Prefix="bob/")) == "AccessDenied"

    store = state / "sessions.jsonl"
    lines = [json.loads(line) for line in store.read_text().splitlines()]
    past = datetime.now(UTC).timestamp() - 1
    with running_stand_in(state) as third:
        s3 = s3_client(third.aws_endpoint, credentials)
        assert s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")["Body"].read()
    store.write_text("".join(json.dumps({**line, "expires_at": past}) + "\n" for line in lines))
    with running_stand_in(state) as fourth:
        s3 = s3_client(fourth.aws_endpoint, credentials)
        assert code(lambda: s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")) == "InvalidAccessKeyId"


def test_expired_credentials_are_refused_by_s3_and_by_sts(stand_in: StandIn, sts_expired: CredentialsTypeDef) -> None:
    s3 = s3_client(stand_in.aws_endpoint, sts_expired)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")
    assert caught.value.response["Error"] == {"Code": "ExpiredToken", "Message": "The provided token has expired."}
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    url = s3.generate_presigned_url("get_object", {"Bucket": "corp-home", "Key": "alice/welcome.txt"})
    assert b"ExpiredToken" in fetch(url)[1]


@pytest.fixture
def sts_expired(assume: Assume) -> CredentialsTypeDef:
    """Credentials whose session ended a moment ago: SessionNotOnOrAfter may be as near as one likes."""
    credentials = assume(Claims(session_not_on_or_after=timedelta(seconds=2)))["Credentials"]
    left = (credentials["Expiration"] - datetime.now(UTC)).total_seconds()
    assert left < 3
    import time  # noqa: PLC0415  the only test that has to wait

    time.sleep(max(0.0, left) + 0.1)
    return credentials


def test_a_session_file_cut_off_in_the_middle_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_text('{"access_key_id": "ASIA')
    store = SessionStore(path, datetime.now(UTC))
    assert store.find("ASIA") is None
    assert path.read_text() == ""
    assert path.stat().st_mode & 0o777 == 0o600
