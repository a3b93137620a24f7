"""The demo company: founded once, brought up to date later, and what the entitlements file says of it."""

from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from broker.sandbox.aws.company import ACCOUNTS, FILES, REGION, RESEARCH, buckets, found_company, trust_policy
from tests.sandbox.aws.conftest import USERNAMES
from tests.sandbox.aws.identity_provider import metadata, signing_key
from tests.sandbox.aws.process import running_stand_in

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_s3.client import S3Client

    from tests.sandbox.aws.process import StandIn


def entitlements() -> dict[str, Any]:
    return tomllib.loads(files("broker.sandbox").joinpath("entitlements.toml").read_text())


def iam_of(stand_in: StandIn, account: str) -> IAMClient:
    keys = boto3.Session(stand_in.aws_admin["AccessKeyId"], stand_in.aws_admin["SecretAccessKey"], region_name=REGION)
    entered = keys.client("sts", endpoint_url=stand_in.aws_endpoint).assume_role(
        RoleArn=f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole", RoleSessionName="looking"
    )["Credentials"]
    session = boto3.Session(
        entered["AccessKeyId"], entered["SecretAccessKey"], entered["SessionToken"], region_name=REGION
    )
    return session.client("iam", endpoint_url=stand_in.aws_endpoint)


@pytest.mark.parametrize("account", ACCOUNTS, ids=lambda account: account.name)
def test_each_account_has_its_provider_its_roles_and_their_trust(stand_in: StandIn, account: Any) -> None:
    iam = iam_of(stand_in, account.id)
    assert [p["Arn"] for p in iam.list_saml_providers()["SAMLProviderList"]] == [account.provider_arn]
    for role in account.roles:
        found = iam.get_role(RoleName=role.name)["Role"]
        assert found["Arn"] == f"arn:aws:iam::{account.id}:role/{role.name}"
        assert found["MaxSessionDuration"] == role.max_session_hours * 3600
        trust: Any = found["AssumeRolePolicyDocument"]
        assert trust == trust_policy(account)


def test_every_person_has_a_home_whatever_the_name(admin_s3: S3Client) -> None:
    for name in USERNAMES:
        listed = admin_s3.list_objects_v2(Bucket="corp-home", Prefix=f"{name}/")["Contents"]
        assert {f"{name}/welcome.txt", f"{name}/notes/2026-plan.txt"} <= {item["Key"] for item in listed}


def test_the_buckets_are_in_their_region_with_their_files(admin_s3: S3Client) -> None:
    assert buckets() == ["corp-finance", "corp-home", "corp-shared", "falcon-data"]
    for account in ACCOUNTS:
        for bucket, content in account.buckets.items():
            assert admin_s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == REGION
            for key, wanted in content.items():
                assert admin_s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() == wanted


def test_founding_again_keeps_what_people_did_and_updates_only_the_metadata(tmp_path: Path) -> None:
    with running_stand_in(tmp_path / "state") as running:
        found_company(running.aws_admin, running.aws_endpoint, metadata().encode(), ["alice"])
        keys = (running.aws_admin["AccessKeyId"], running.aws_admin["SecretAccessKey"])
        s3 = boto3.Session(*keys, region_name=REGION).client("s3", endpoint_url=running.aws_endpoint)
        s3.put_object(Bucket="corp-home", Key="alice/welcome.txt", Body=b"changed")
        s3.delete_object(Bucket="corp-shared", Key="handbook/README.txt")
        newer = metadata(signing_key(), signing_key("next"))
        found_company(running.aws_admin, running.aws_endpoint, newer.encode(), ["alice", "bob"])
        assert s3.get_object(Bucket="corp-home", Key="alice/welcome.txt")["Body"].read() == b"changed"
        left = s3.list_objects_v2(Bucket="corp-shared", Prefix="handbook/")["Contents"]
        assert "handbook/README.txt" not in {item["Key"] for item in left}
        assert s3.get_object(Bucket="corp-home", Key="bob/welcome.txt")["Body"].read()
        for account in ACCOUNTS:
            stored = iam_of(running, account.id).get_saml_provider(SAMLProviderArn=account.provider_arn)
            assert stored["SAMLMetadataDocument"] == newer


def test_founding_again_renews_the_trust_that_an_older_version_gave_and_no_other(tmp_path: Path) -> None:
    role = FILES.roles[0].name
    own = json.dumps(trust_policy(RESEARCH))
    with running_stand_in(tmp_path / "state") as running:
        founding = (running.aws_admin, running.aws_endpoint, metadata().encode(), ["alice"])
        found_company(*founding)
        iam = iam_of(running, FILES.id)

        def trust() -> object:
            return iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]

        iam.update_assume_role_policy(RoleName=role, PolicyDocument=own)
        found_company(*founding)
        assert trust() == json.loads(own)

        iam.tag_role(RoleName=role, Tags=[{"Key": "trust", "Value": "of an older version"}])
        found_company(*founding)
        assert trust() == trust_policy(FILES)


def test_the_entitlements_name_accounts_roles_and_buckets_that_exist() -> None:
    parsed = entitlements()
    accounts = {"files": FILES, "research": RESEARCH}
    assert {key: value["id"] for key, value in parsed["accounts"].items()} == {k: a.id for k, a in accounts.items()}
    for key, value in parsed["accounts"].items():
        assert value["name"] == accounts[key].name
        assert value["saml_provider"] == accounts[key].provider_arn
        assert value["region"] == REGION
    assert [e["id"] for e in parsed["entitlement"]] == ["home", "falcon", "finance", "ops", "audit-papers"]
    for entitlement in parsed["entitlement"]:
        account = accounts[entitlement["account"]]
        assert entitlement["role"] in {role.name for role in account.roles}
        assert {rule["bucket"] for rule in entitlement.get("s3", [])} <= set(account.buckets)
        assert len(entitlement.keys() & {"s3", "scope", "policy_arns"}) == 1
        known = {f"arn:aws:iam::{account.id}:policy/{policy.name}" for policy in account.policies}
        assert set(entitlement.get("policy_arns", [])) <= known


def test_the_demo_has_an_entitlement_of_each_kind() -> None:
    kinds = [entitlement.keys() & {"s3", "scope", "policy_arns"} for entitlement in entitlements()["entitlement"]]
    assert {kind for found in kinds for kind in found} == {"s3", "scope", "policy_arns"}


def test_a_managed_policy_is_made_once_and_says_what_it_should(stand_in: StandIn) -> None:
    iam = iam_of(stand_in, FILES.id)
    local = iam.list_policies(Scope="Local")["Policies"]
    [policy] = [policy for policy in local if policy["PolicyName"] == FILES.policies[0].name]
    assert policy["Arn"] == f"arn:aws:iam::{FILES.id}:policy/AuditPapers"
    version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
    written: Any = version["PolicyVersion"]["Document"]
    assert written["Statement"] == list(FILES.policies[0].statements)


def test_no_entitlement_asks_for_longer_than_its_role_allows() -> None:
    longest = {role.name: role.max_session_hours for account in ACCOUNTS for role in account.roles}
    for entitlement in entitlements()["entitlement"]:
        for name in ("duration", "max_duration"):
            if name in entitlement:
                assert int(entitlement[name].removesuffix("h")) <= longest[entitlement["role"]]
