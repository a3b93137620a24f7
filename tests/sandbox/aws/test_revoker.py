"""What the stand-in's IAM makes of inline policies and of whoever may write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError

from broker.sandbox.aws.company import ACCOUNTS, REGION, found_company
from broker.sandbox.aws.revoker import BOUNDS_PATH, PROVIDER, ROLE, found_revoker
from tests.sandbox.aws.conftest import Assume, home_policy, s3_client
from tests.sandbox.aws.identity_provider import metadata
from tests.sandbox.aws.process import StandIn, running_stand_in

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient

STAFF = "StaffFiles"


@pytest.fixture
def staff(admin_iam: IAMClient) -> Iterator[IAMClient]:
    """IAM, which leaves no policy of the tests behind."""
    yield admin_iam
    for name in admin_iam.list_role_policies(RoleName=STAFF)["PolicyNames"]:
        if name.startswith("Test"):
            admin_iam.delete_role_policy(RoleName=STAFF, PolicyName=name)


def deny(condition: dict[str, dict[str, str]]) -> str:
    statement = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize(
    ("condition", "reads"),
    [
        ({"DateLessThan": {"aws:TokenIssueTime": "{later}"}}, False),
        ({"DateLessThan": {"aws:TokenIssueTime": "{earlier}"}}, True),
        ({"StringEquals": {"aws:SourceIdentity": "ALICEIDAAAAAAAAAAAAAAAAAAA"}}, False),
        ({"StringEquals": {"aws:SourceIdentity": "BOBIDAAAAAAAAAAAAAAAAAAAAA"}}, True),
        ({"StringLike": {"aws:userid": "*:alice"}}, False),
        ({"StringLike": {"aws:userid": "*:bob"}}, True),
        ({"DateLessThan": {"aws:TokenIssueTime": "{later}"}, "StringLike": {"aws:userid": "*:bob"}}, True),
    ],
)
def test_a_running_session_meets_an_inline_deny_that_means_it(
    stand_in: StandIn,
    staff: IAMClient,
    assume: Assume,
    condition: dict[str, dict[str, str]],
    reads: bool,  # noqa: FBT001 - a case
) -> None:
    session = assume(policy=home_policy("alice/"))
    s3 = s3_client(stand_in.aws_endpoint, session["Credentials"])
    s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")
    now = datetime.now(UTC)
    moments = {"later": now + timedelta(minutes=1), "earlier": now - timedelta(minutes=1)}
    filled = json.dumps(condition)
    for name, moment in moments.items():
        filled = filled.replace(f"{{{name}}}", moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
    staff.put_role_policy(RoleName=STAFF, PolicyName="TestDeny", PolicyDocument=deny(json.loads(filled)))

    if reads:
        s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")
    else:
        with pytest.raises(ClientError, match="explicit deny in an identity-based policy"):
            s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")


def test_inline_policies_are_counted_together_without_white_space(staff: IAMClient) -> None:
    statement = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [{**statement, "Sid": f"X{n:09}"} for n in range(80)]}
    spread = json.dumps(document, indent=8)
    assert len(spread) > 10_240
    staff.put_role_policy(RoleName=STAFF, PolicyName="TestLong", PolicyDocument=spread)
    staff.put_role_policy(RoleName=STAFF, PolicyName="TestLong", PolicyDocument=spread)
    with pytest.raises(ClientError, match="LimitExceeded"):
        staff.put_role_policy(RoleName=STAFF, PolicyName="TestLonger", PolicyDocument=spread)


def test_the_revoker_is_founded_once_and_every_role_of_the_company_has_its_bound(tmp_path: Path) -> None:
    with running_stand_in(tmp_path) as own:
        found_company(own.aws_admin, own.aws_endpoint, metadata().encode(), [])
        for entity_id in ("https://broker.example", "https://broker.example", "https://new.example"):
            found_revoker(own.aws_admin, own.aws_endpoint, metadata(entity_id=entity_id).encode())
        keys = own.aws_admin["AccessKeyId"], own.aws_admin["SecretAccessKey"]
        iam = boto3.client("iam", REGION, None, True, None, own.aws_endpoint, *keys)  # noqa: FBT003  boto3's own order

        account = ACCOUNTS[0]
        assert ROLE in {role["RoleName"] for role in iam.list_roles()["Roles"]}
        provider = f"arn:aws:iam::{account.id}:saml-provider/{PROVIDER}"
        assert "https://new.example" in iam.get_saml_provider(SAMLProviderArn=provider)["SAMLMetadataDocument"]
        for role in account.roles:
            found = iam.get_role(RoleName=role.name)["Role"]
            bound = found["PermissionsBoundary"]["PermissionsBoundaryArn"]
            assert bound == f"arn:aws:iam::{account.id}:policy{BOUNDS_PATH}{role.name}"
