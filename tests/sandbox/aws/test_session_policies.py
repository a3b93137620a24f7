"""Sessions under compiled policies, with real S3 calls: everything in scope is reached, and nothing else.

The role of these sessions may do everything, so what is refused is refused by the session policy alone.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from broker.core.entitlements import Access, KmsKey, S3Location
from broker.core.session_policy import compile_session_policy
from broker.sandbox.aws.company import REGION
from tests.sandbox.aws.conftest import ONE_TRY, Assume, s3_client
from tests.sandbox.aws.identity_provider import Claims, provider, role
from tests.sandbox.aws.process import StandIn

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sts.type_defs import CredentialsTypeDef

BUCKET, OTHER_BUCKET, SEALED_BUCKET = "scope-one", "scope-one-two", "scope-sealed"
KEY = KmsKey(f"arn:aws:kms:{REGION}:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")
FOREIGN_KEY = KmsKey(f"arn:aws:kms:{REGION}:111122223333:key/deadbeef-12ab-34cd-56ef-1234567890ab")
NAMES: Final = [
    "red", "red-two", "Red", "é", "e\u0301", "日本語", "𝒳", "a b", "a+b", "a%20b", "a%2Fb", "100%", "*", "?", "$", "a*",
    "ab", "${aws:username}", "${*}", "${aws:PrincipalTag/Department}", "o'neil(ops)$1", "..a", "a..", 'quo"te',
    "back\\slash", "\\u0072ed", "~", "a&b=c", "a#b", "a;b",
]  # fmt: skip
OUTSIDE: Final = ["red-two/a.txt", "blue/a.txt", "red", "Red/a.txt", "/red/a.txt", "x/red/a.txt"]

Session = Callable[..., "CredentialsTypeDef"]


@pytest.fixture(scope="module")
def everything(admin_iam: IAMClient) -> Iterator[str]:
    """The ARN of a role that may do everything."""
    trust = admin_iam.get_role(RoleName="StaffFiles")["Role"]["AssumeRolePolicyDocument"]
    admin_iam.create_role(RoleName="Everything", AssumeRolePolicyDocument=json.dumps(trust))
    allowed = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    admin_iam.put_role_policy(RoleName="Everything", PolicyName="All", PolicyDocument=json.dumps(allowed))
    yield role("Everything")
    admin_iam.delete_role_policy(RoleName="Everything", PolicyName="All")
    admin_iam.delete_role(RoleName="Everything")


@pytest.fixture(scope="module", autouse=True)
def objects(admin_s3: S3Client) -> Iterator[None]:
    where: Any = {"LocationConstraint": REGION}
    for bucket in (BUCKET, OTHER_BUCKET, SEALED_BUCKET):
        admin_s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    admin_s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for name in NAMES:
        admin_s3.put_object(Bucket=BUCKET, Key=f"{name}/a.txt", Body=f"of {name}".encode())
    for key in OUTSIDE:
        admin_s3.put_object(Bucket=BUCKET, Key=key, Body=b"foreign")
    for key in ("red/../blue/a.txt", "red/%2e%2e/blue/a.txt"):
        admin_s3.put_object(Bucket=BUCKET, Key=key, Body=b"mine")
    for key in ("red/a.txt", "red/b/c.txt"):
        admin_s3.put_object(Bucket=BUCKET, Key=key, Body=b"mine")
        admin_s3.put_object(Bucket=OTHER_BUCKET, Key=key, Body=b"foreign")
    yield
    for bucket in (BUCKET, OTHER_BUCKET, SEALED_BUCKET):
        found = admin_s3.list_object_versions(Bucket=bucket)
        for one in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]:
            admin_s3.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
        admin_s3.delete_bucket(Bucket=bucket)


@pytest.fixture(scope="module")
def session(assume: Assume, everything: str) -> Session:
    """Credentials of a session that is bounded by the policy of some places."""

    def session(*places: S3Location) -> CredentialsTypeDef:
        claims = Claims(roles=(f"{everything},{provider()}",))
        policy = compile_session_policy(places, "aws").json
        return assume(claims, policy=policy, role_arn=everything)["Credentials"]

    return session


@pytest.fixture(scope="module")
def s3_for(stand_in: StandIn, session: Session) -> Callable[..., S3Client]:
    return lambda *places: s3_client(stand_in.aws_endpoint, session(*places))


def red(access: Access = Access.FULL, *, versions: bool = False) -> S3Location:
    return S3Location(BUCKET, "red/", access, versions=versions)


def is_allowed(call: Callable[..., object], *arguments: Any, **named: Any) -> bool:
    """Whether a call is carried out; a failure that is no refusal fails the test."""
    try:
        call(*arguments, **named)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"AccessDenied", "403"}:
            raise
        return False
    return True


# --- Every call, for every access, inside and outside


def upload_in_parts(s3: S3Client, bucket: str, key: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    where: Any = {"Bucket": bucket, "Key": key, "UploadId": upload}
    part = s3.upload_part(**where, PartNumber=1, Body=b"part")
    assert len(s3.list_parts(**where)["Parts"]) == 1
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})


def give_up_an_upload(s3: S3Client, bucket: str, key: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)


def delete_in_a_batch(s3: S3Client, bucket: str, key: str) -> None:
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
    for error in answer.get("Errors", []):
        raise ClientError({"Error": {"Code": error["Code"], "Message": key}}, "DeleteObjects")


def folder(key: str) -> str:
    return key[: key.rfind("/") + 1]


ON_OBJECTS: Final[dict[str, tuple[str, Callable[[S3Client, str, str], object]]]] = {
    "get": ("get", lambda s3, bucket, key: s3.get_object(Bucket=bucket, Key=key)),
    "head": ("get", lambda s3, bucket, key: s3.head_object(Bucket=bucket, Key=key)),
    "a range": ("get", lambda s3, bucket, key: s3.get_object(Bucket=bucket, Key=key, Range="bytes=0-1")),
    "put": ("put", lambda s3, bucket, key: s3.put_object(Bucket=bucket, Key=key, Body=b"x")),
    "upload in parts": ("put", upload_in_parts),
    "give up an upload": ("put", give_up_an_upload),
    "delete": ("delete", lambda s3, bucket, key: s3.delete_object(Bucket=bucket, Key=key)),
    "delete in a batch": ("delete", delete_in_a_batch),
    "list": ("list", lambda s3, bucket, key: s3.list_objects_v2(Bucket=bucket, Prefix=folder(key))),
    "list, version 1": ("list", lambda s3, bucket, key: s3.list_objects(Bucket=bucket, Prefix=folder(key))),
    "list with a delimiter": (
        "list",
        lambda s3, bucket, key: s3.list_objects_v2(Bucket=bucket, Prefix=folder(key), Delimiter="/"),
    ),
    "list versions": (
        "versions",
        lambda s3, bucket, key: s3.list_object_versions(Bucket=bucket, Prefix=folder(key)),
    ),
    "list uploads": ("never", lambda s3, bucket, key: s3.list_multipart_uploads(Bucket=bucket, Prefix=folder(key))),
    "get tags": ("never", lambda s3, bucket, key: s3.get_object_tagging(Bucket=bucket, Key=key)),
    "put tags": (
        "never",
        lambda s3, bucket, key: s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": []}),
    ),
    "delete tags": ("never", lambda s3, bucket, key: s3.delete_object_tagging(Bucket=bucket, Key=key)),
    "put with tags": ("never", lambda s3, bucket, key: s3.put_object(Bucket=bucket, Key=key, Tagging="a=b")),
    "get ACL": ("never", lambda s3, bucket, key: s3.get_object_acl(Bucket=bucket, Key=key)),
    "put ACL": ("never", lambda s3, bucket, key: s3.put_object_acl(Bucket=bucket, Key=key, ACL="public-read")),
    "put in public": ("never", lambda s3, bucket, key: s3.put_object(Bucket=bucket, Key=key, ACL="public-read")),
    "attributes": (
        "never",
        lambda s3, bucket, key: s3.get_object_attributes(Bucket=bucket, Key=key, ObjectAttributes=["ETag"]),
    ),
    "legal hold": (
        "never",
        lambda s3, bucket, key: s3.put_object_legal_hold(Bucket=bucket, Key=key, LegalHold={"Status": "ON"}),
    ),
    "restore": ("never", lambda s3, bucket, key: s3.restore_object(Bucket=bucket, Key=key, RestoreRequest={"Days": 1})),
}
RIGHTS: Final = {
    Access.LIST: {"list"},
    Access.READ: {"list", "get"},
    Access.WRITE: {"put"},
    Access.READ_WRITE: {"list", "get", "put"},
    Access.FULL: {"list", "get", "put", "delete"},
}


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("versions", [False, True])
def test_every_call_in_scope_does_what_the_access_says_and_every_call_outside_is_refused(
    s3_for: Callable[..., S3Client], admin_s3: S3Client, access: Access, *, versions: bool
) -> None:
    s3 = s3_for(red(access, versions=versions))
    rights = RIGHTS[access] | ({"versions"} if versions and access is not Access.WRITE else set())
    for name, (right, call) in ON_OBJECTS.items():
        admin_s3.put_object(Bucket=BUCKET, Key="red/b/c.txt", Body=b"mine")
        assert is_allowed(call, s3, BUCKET, "red/b/c.txt") is (right in rights), name
        for bucket, key in [*((BUCKET, key) for key in OUTSIDE), (OTHER_BUCKET, "red/a.txt")]:
            assert not is_allowed(call, s3, bucket, key), (name, key)
    for key in OUTSIDE:
        assert admin_s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"foreign"


@pytest.mark.parametrize("access", Access)
def test_a_listing_without_the_prefix_is_refused(s3_for: Callable[..., S3Client], access: Access) -> None:
    s3 = s3_for(red(access, versions=access is not Access.WRITE))
    for more in ({}, {"Delimiter": "/"}, {"Prefix": ""}, {"Prefix": "r"}, {"Prefix": "red"}, {"Prefix": "*"}):
        arguments: Any = {"Bucket": BUCKET, **more}
        for listing in (s3.list_objects_v2, s3.list_objects, s3.list_object_versions, s3.list_multipart_uploads):
            assert not is_allowed(listing, **arguments), more
    assert not is_allowed(s3.head_bucket, Bucket=BUCKET)
    assert not is_allowed(s3.list_buckets)
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == REGION
    assert not is_allowed(s3.get_bucket_location, Bucket=OTHER_BUCKET)


def test_a_listing_below_the_prefix_shows_what_is_there_and_nothing_else(s3_for: Callable[..., S3Client]) -> None:
    s3 = s3_for(red())
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix="red/", Delimiter="/")
    assert {item["Prefix"] for item in found["CommonPrefixes"]} >= {"red/b/"}
    every = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix="red/", StartAfter="blue/")["Contents"]]
    assert "red/a.txt" in every
    assert all(key.startswith("red/") for key in every)


# --- Earlier versions


def test_an_earlier_version_is_read_and_brought_back_and_never_deleted(
    s3_for: Callable[..., S3Client], admin_s3: S3Client
) -> None:
    first = admin_s3.put_object(Bucket=BUCKET, Key="red/versions.txt", Body=b"first")["VersionId"]
    foreign = admin_s3.put_object(Bucket=BUCKET, Key="blue/versions.txt", Body=b"foreign")["VersionId"]
    admin_s3.put_object(Bucket=BUCKET, Key="red/versions.txt", Body=b"second")
    with_versions, without = s3_for(red(versions=True)), s3_for(red())
    mine: Any = {"Bucket": BUCKET, "Key": "red/versions.txt", "VersionId": first}

    assert with_versions.get_object(**mine)["Body"].read() == b"first"
    assert not is_allowed(without.get_object, **mine)
    listed = with_versions.list_object_versions(Bucket=BUCKET, Prefix="red/versions")
    assert first in {one["VersionId"] for one in listed["Versions"]}
    with_versions.copy_object(
        Bucket=BUCKET,
        Key="red/versions.txt",
        CopySource={"Bucket": BUCKET, "Key": "red/versions.txt", "VersionId": first},
    )
    assert without.get_object(Bucket=BUCKET, Key="red/versions.txt")["Body"].read() == b"first"
    for s3 in (with_versions, without):
        assert not is_allowed(s3.delete_object, **mine)
        batch: Any = {"Objects": [{"Key": "red/versions.txt", "VersionId": first}]}
        assert s3.delete_objects(Bucket=BUCKET, Delete=batch)["Errors"][0]["Code"] == "AccessDenied"
        assert not is_allowed(s3.get_object, Bucket=BUCKET, Key="blue/versions.txt", VersionId=foreign)
        source: Any = {"Bucket": BUCKET, "Key": "blue/versions.txt", "VersionId": foreign}
        assert not is_allowed(s3.copy_object, Bucket=BUCKET, Key="red/stolen", CopySource=source)


# --- Copies, batches, presigned addresses


def test_a_copy_reads_its_source_with_the_same_rights(s3_for: Callable[..., S3Client]) -> None:
    s3 = s3_for(red())
    s3.copy_object(Bucket=BUCKET, Key="red/copy.txt", CopySource=f"{BUCKET}/red/a.txt")
    for source in (
        f"{BUCKET}/red-two/a.txt",
        f"/{BUCKET}/blue/a.txt",
        f"{BUCKET}/blue%2Fa.txt",
        f"{BUCKET}/%62lue/a.txt",
        f"{OTHER_BUCKET}/red/a.txt",
    ):
        assert not is_allowed(s3.copy_object, Bucket=BUCKET, Key="red/stolen", CopySource=source)
    for bucket, key in ((BUCKET, "blue/b.txt"), (BUCKET, "red-two/b.txt"), (OTHER_BUCKET, "red/b.txt")):
        assert not is_allowed(s3.copy_object, Bucket=bucket, Key=key, CopySource=f"{BUCKET}/red/a.txt")
    into = s3.create_multipart_upload(Bucket=BUCKET, Key="red/parts.bin")["UploadId"]
    part: Any = {"Bucket": BUCKET, "Key": "red/parts.bin", "UploadId": into, "PartNumber": 1}
    assert is_allowed(s3.upload_part_copy, **part, CopySource=f"{BUCKET}/red/a.txt")
    for source in (f"{BUCKET}/red-two/a.txt", f"{BUCKET}/blue/a.txt", f"{OTHER_BUCKET}/red/a.txt"):
        assert not is_allowed(s3.upload_part_copy, **part, CopySource=source)


def test_whoever_only_writes_cannot_copy_at_all(s3_for: Callable[..., S3Client]) -> None:
    s3 = s3_for(red(Access.WRITE))
    assert not is_allowed(s3.copy_object, Bucket=BUCKET, Key="red/copy", CopySource=f"{BUCKET}/red/a.txt")


def test_one_foreign_key_in_a_batch_stays_and_the_rest_goes(
    s3_for: Callable[..., S3Client], admin_s3: S3Client
) -> None:
    s3 = s3_for(red())
    admin_s3.put_object(Bucket=BUCKET, Key="red/old.txt", Body=b"x")
    batch: Any = {"Objects": [{"Key": "red/old.txt"}, {"Key": "red-two/a.txt"}]}
    answer = s3.delete_objects(Bucket=BUCKET, Delete=batch)
    assert [one["Key"] for one in answer["Deleted"]] == ["red/old.txt"]
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("red-two/a.txt", "AccessDenied")]
    assert admin_s3.get_object(Bucket=BUCKET, Key="red-two/a.txt")["Body"].read() == b"foreign"


def fetched(address: str, method: str = "GET", body: bytes | None = None) -> int:
    request = urllib.request.Request(address, method=method, data=body)  # noqa: S310 - our own loopback server
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(
    ("operation", "method", "ours", "more"),
    [
        ("get_object", "GET", 200, {}),
        ("put_object", "PUT", 200, {}),
        ("head_object", "HEAD", 200, {}),
        ("delete_object", "DELETE", 204, {}),
    ],
)
def test_a_presigned_address_reaches_what_its_signer_reaches(
    s3_for: Callable[..., S3Client], operation: str, method: str, ours: int, more: dict[str, str]
) -> None:
    s3 = s3_for(red())
    s3.put_object(Bucket=BUCKET, Key="red/presigned.txt", Body=b"x")
    body = b"x" if method == "PUT" else None
    mine = s3.generate_presigned_url(operation, {"Bucket": BUCKET, "Key": "red/presigned.txt", **more})
    assert fetched(mine, method, body) == ours
    for bucket, key in [*((BUCKET, key) for key in OUTSIDE), (OTHER_BUCKET, "red/a.txt")]:
        foreign = s3.generate_presigned_url(operation, {"Bucket": bucket, "Key": key, **more})
        assert fetched(foreign, method, body) == 403, key


def test_a_presigned_listing_is_bound_to_the_prefix_too(s3_for: Callable[..., S3Client]) -> None:
    s3 = s3_for(red())
    statuses = {
        prefix: fetched(s3.generate_presigned_url("list_objects_v2", {"Bucket": BUCKET, "Prefix": prefix}))
        for prefix in ("red/", "red", "red-two/", "")
    }
    assert statuses == {"red/": 200, "red": 403, "red-two/": 403, "": 403}


# --- Addresses as no SDK would write them


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("red/a.txt", 200),
        ("red%2Fa.txt", 200),
        ("%72ed/a.txt", 200),
        ("red/%61.txt", 200),
        ("red-two/a.txt", 403),
        ("red%2Dtwo/a.txt", 403),
        ("%62lue/a.txt", 403),
        ("blue%2Fa.txt", 403),
        ("%2Fred/a.txt", 403),
        ("//red/a.txt", 403),
        # S3 knows no parent folder: these are strange keys below red/.
        ("red/../blue/a.txt", 200),
        ("red/%2e%2e/blue/a.txt", 200),
        ("red%2F..%2Fblue%2Fa.txt", 200),
        ("red/..%2fblue/a.txt", 200),
        ("red/%252e%252e/blue/a.txt", 200),
        ("../scope-one-two/red/a.txt", 403),
        ("./red/a.txt", 403),
    ],
)
def test_a_path_is_taken_for_the_key_that_it_spells(
    stand_in: StandIn, session: Session, path: str, status: int
) -> None:
    credentials = session(red())
    address = f"{stand_in.aws_endpoint}/{BUCKET}/{path}"
    request = AWSRequest("GET", address)
    signer = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    S3SigV4Auth(signer, "s3", REGION).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    try:
        connection.request("GET", f"/{BUCKET}/{path}", headers=dict(request.headers.items()))
        answer = connection.getresponse()
        assert (answer.status, b"foreign" in answer.read()) == (status, False)
    finally:
        connection.close()


# --- Names


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_any_spelling_reaches_its_own_prefix_and_no_other(s3_for: Callable[..., S3Client], name: str) -> None:
    s3 = s3_for(S3Location(BUCKET, f"{name}/", Access.READ))
    assert s3.get_object(Bucket=BUCKET, Key=f"{name}/a.txt")["Body"].read()
    assert f"{name}/a.txt" in {item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/")["Contents"]}
    for other in NAMES:
        if other != name:
            assert not is_allowed(s3.get_object, Bucket=BUCKET, Key=f"{other}/a.txt"), other
            assert not is_allowed(s3.list_objects_v2, Bucket=BUCKET, Prefix=f"{other}/"), other


# --- The bucket's settings, IAM and STS

SETTINGS: Final[dict[str, Callable[[S3Client], object]]] = {
    "policy": lambda s3: s3.get_bucket_policy(Bucket=BUCKET),
    "new policy": lambda s3: s3.put_bucket_policy(Bucket=BUCKET, Policy="{}"),
    "no policy": lambda s3: s3.delete_bucket_policy(Bucket=BUCKET),
    "ACL": lambda s3: s3.get_bucket_acl(Bucket=BUCKET),
    "new ACL": lambda s3: s3.put_bucket_acl(Bucket=BUCKET, ACL="public-read"),
    "versioning": lambda s3: s3.get_bucket_versioning(Bucket=BUCKET),
    "new versioning": lambda s3: s3.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
    ),
    "lifecycle": lambda s3: s3.get_bucket_lifecycle_configuration(Bucket=BUCKET),
    "new lifecycle": lambda s3: s3.put_bucket_lifecycle_configuration(
        Bucket=BUCKET, LifecycleConfiguration={"Rules": []}
    ),
    "encryption": lambda s3: s3.get_bucket_encryption(Bucket=BUCKET),
    "CORS": lambda s3: s3.get_bucket_cors(Bucket=BUCKET),
    "website": lambda s3: s3.get_bucket_website(Bucket=BUCKET),
    "replication": lambda s3: s3.get_bucket_replication(Bucket=BUCKET),
    "public access": lambda s3: s3.delete_public_access_block(Bucket=BUCKET),
    "the bucket's end": lambda s3: s3.delete_bucket(Bucket=BUCKET),
    "a new bucket": lambda s3: s3.create_bucket(
        Bucket="scope-new", CreateBucketConfiguration={"LocationConstraint": REGION}
    ),
}


@pytest.mark.parametrize("whole", [False, True])
def test_no_setting_of_the_bucket_is_read_or_changed_even_where_all_of_it_is_in_scope(
    s3_for: Callable[..., S3Client], *, whole: bool
) -> None:
    s3 = s3_for(S3Location(BUCKET, "" if whole else "red/", Access.FULL, versions=True))
    assert {name for name, call in SETTINGS.items() if is_allowed(call, s3)} == set()
    assert is_allowed(s3.head_bucket, Bucket=BUCKET) is whole


def test_iam_is_out_of_reach_and_sts_says_only_who_one_is(stand_in: StandIn, session: Session, everything: str) -> None:
    credentials = session(red())

    def client(service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]  # the service is a variable here
            service,
            endpoint_url=stand_in.aws_endpoint,
            region_name=REGION,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
            config=ONE_TRY,
        )

    sts, iam = client("sts"), client("iam")
    assert ":assumed-role/Everything/" in sts.get_caller_identity()["Arn"]
    for role_arn in (everything, role("StaffFiles")):
        assert not is_allowed(sts.assume_role, RoleArn=role_arn, RoleSessionName="chain")
    assert not is_allowed(sts.get_session_token)
    assert not is_allowed(sts.get_federation_token, Name="more")
    assert not is_allowed(iam.get_role, RoleName="Everything")
    assert not is_allowed(iam.list_roles)
    assert not is_allowed(iam.delete_role_policy, RoleName="Everything", PolicyName="All")


# --- A bucket with a KMS key


@pytest.fixture(scope="module")
def sealed(objects: None, admin_s3: S3Client) -> str:  # noqa: ARG001 - the bucket is made there
    """A bucket whose objects are encrypted with KEY unless the request says otherwise."""
    rule: Any = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY.arn}}
    admin_s3.put_bucket_encryption(Bucket=SEALED_BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    admin_s3.put_object(Bucket=SEALED_BUCKET, Key="red/a.txt", Body=b"sealed")
    return SEALED_BUCKET


def uses_of_a_sealed_bucket(s3: S3Client, bucket: str) -> dict[str, bool]:
    copied = f"{bucket}/red/a.txt"
    return {
        "get": is_allowed(s3.get_object, Bucket=bucket, Key="red/a.txt"),
        "list": is_allowed(s3.list_objects_v2, Bucket=bucket, Prefix="red/"),
        "put": is_allowed(s3.put_object, Bucket=bucket, Key="red/new.txt", Body=b"x"),
        "parts": is_allowed(upload_in_parts, s3, bucket, "red/parts.bin"),
        "copy": is_allowed(s3.copy_object, Bucket=bucket, Key="red/copy.txt", CopySource=copied),
        "delete": is_allowed(s3.delete_object, Bucket=bucket, Key="red/new.txt"),
    }


@pytest.mark.parametrize(
    ("access", "used"),
    [
        (Access.LIST, {"list"}),
        (Access.READ, {"list", "get"}),
        (Access.WRITE, {"put", "parts"}),
        (Access.READ_WRITE, {"list", "get", "put", "parts", "copy"}),
        (Access.FULL, {"list", "get", "put", "parts", "copy", "delete"}),
    ],
)
def test_a_sealed_bucket_is_used_as_the_access_says_with_its_key_and_not_without(
    s3_for: Callable[..., S3Client], sealed: str, access: Access, used: set[str]
) -> None:
    needs_no_key = {"list", "delete"}
    for key, expected in ((KEY, used), (None, used & needs_no_key), (FOREIGN_KEY, used & needs_no_key)):
        s3 = s3_for(S3Location(sealed, "red/", access, kms_key=key))
        allowed = {name for name, is_done in uses_of_a_sealed_bucket(s3, sealed).items() if is_done}
        assert allowed == expected, key


def test_no_other_key_is_used_though_the_request_names_it(s3_for: Callable[..., S3Client], sealed: str) -> None:
    s3 = s3_for(S3Location(sealed, "red/", Access.FULL, kms_key=KEY))
    put: Any = {"Bucket": sealed, "Key": "red/x", "Body": b"", "ServerSideEncryption": "aws:kms"}
    assert is_allowed(s3.put_object, **put, SSEKMSKeyId=KEY.arn)
    assert not is_allowed(s3.put_object, **put, SSEKMSKeyId=FOREIGN_KEY.arn)


# --- One prefix in many buckets: listing is said the other way round, with a denial


def test_one_prefix_in_many_buckets_is_reached_there_and_nothing_else(s3_for: Callable[..., S3Client]) -> None:
    elsewhere = [S3Location(f"another-long-name-of-a-bucket-{number:02d}", "red/", Access.FULL) for number in range(12)]
    places = [red(), S3Location(OTHER_BUCKET, "red/", Access.READ), *elsewhere]
    assert '"Deny"' in compile_session_policy(places, "aws").json
    s3 = s3_for(*places)
    for bucket in (BUCKET, OTHER_BUCKET):
        assert is_allowed(s3.list_objects_v2, Bucket=bucket, Prefix="red/")
        assert is_allowed(s3.get_object, Bucket=bucket, Key="red/a.txt")
        assert is_allowed(s3.get_bucket_location, Bucket=bucket)
        assert not is_allowed(s3.list_objects_v2, Bucket=bucket)
        assert not is_allowed(s3.list_objects_v2, Bucket=bucket, Prefix="")
        assert not is_allowed(s3.list_objects_v2, Bucket=bucket, Prefix="red")
        assert not is_allowed(s3.list_objects_v2, Bucket=bucket, Prefix="red-two/")
        assert not is_allowed(s3.list_object_versions, Bucket=bucket, Prefix="red/")
    assert not is_allowed(s3.get_object, Bucket=BUCKET, Key="red-two/a.txt")
    assert not is_allowed(s3.put_object, Bucket=OTHER_BUCKET, Key="red/x.txt", Body=b"x")
    assert not is_allowed(s3.get_bucket_location, Bucket=SEALED_BUCKET)
