"""Sessions are taken back: a running client of AWS is refused, a neighbour's is not, and a new sign-in works."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.flow.demo_process import Answer, Demo, PortalClient, running_demo
from tests.flow.test_commands import broker
from tests.flow.test_journeys import s3_with

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

FILES_ACCOUNT = "111122223333"
# A revocation is carried out by the serving broker within seconds; the machine may be busy.
WITHIN_SECONDS = 30


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo of its own: what is denied here stays denied for a while."""
    with running_demo(tmp_path_factory.mktemp("revocation") / "demo") as running:
        yield running


def iam_of(demo: Demo, account: str = FILES_ACCOUNT) -> IAMClient:
    """IAM as the administrator of that account, around the broker."""
    admin, endpoint = demo.described["aws_admin"], demo.described["aws_endpoint"]
    aws = boto3.Session(admin["AccessKeyId"], admin["SecretAccessKey"], region_name="us-east-1")
    role = f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole"
    keys = aws.client("sts", endpoint_url=endpoint).assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return boto3.client(
        "iam",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


def reads(s3: S3Client, username: str) -> bool:
    try:
        s3.get_object(Bucket="corp-home", Key=f"{username}/welcome.txt")
    except ClientError as error:
        if "explicit deny in an identity-based policy" not in error.response["Error"]["Message"]:
            raise
        return False
    return True


def eventually(condition: Callable[[], bool]) -> bool:
    ends = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < ends:
        if condition():
            return True
        time.sleep(0.3)
    return False


def issued(client: PortalClient, entitlement: str = "home") -> Answer:
    """Credentials; somebody whose sessions were just revoked waits a few seconds, as the answer says."""
    ends = time.monotonic() + WITHIN_SECONDS
    while True:
        answer = client.credentials(entitlement)
        if answer.status != 429 or time.monotonic() > ends:
            assert answer.status == 200, answer.text[:500]
            return answer
        time.sleep(int(answer.headers["Retry-After"]))


def sessions(demo: Demo, *arguments: str) -> subprocess.CompletedProcess[str]:
    return broker("sessions", *arguments, "--settings", str(demo.settings))


def events_of(demo: Demo, revocation: str) -> list[dict[str, Any]]:
    """What the audit says of a revocation, oldest first; the sealer needs a few seconds."""

    def export() -> list[dict[str, Any]]:
        lines = broker("audit", "export", "--settings", str(demo.settings)).stdout.splitlines()
        found = [json.loads(line) for line in lines]
        return [one["event"] for one in found if one.get("event", {}).get("revocation_id") == revocation]

    assert eventually(lambda: bool(export()))
    return export()


def test_a_running_client_is_refused_a_neighbours_is_not_and_a_new_sign_in_works(demo: Demo) -> None:
    alice, bob = demo.signed_in("alice"), demo.signed_in("bob")
    hers, his = s3_with(demo, issued(alice)), s3_with(demo, issued(bob))
    assert reads(hers, "alice")
    assert reads(his, "bob")

    ended = sessions(demo, "revoke", "--person", "alice", "--reason", "lost laptop", "--yes")

    assert ended.returncode == 0, ended.stderr
    assert "StaffFiles" in ended.stdout
    assert not reads(hers, "alice")
    assert reads(his, "bob")
    assert "/login" in alice.get("/").url
    again = demo.signed_in("alice")
    assert reads(s3_with(demo, issued(again)), "alice")
    assert not reads(hers, "alice")
