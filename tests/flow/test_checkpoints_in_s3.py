"""Checkpoints of the demo's audit in a bucket of the stand-in, with the role that the template makes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from click.testing import CliRunner

from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.adapters.database.engine import Database
from broker.adapters.database.kept_checkpoints import SqlKeptCheckpoints
from broker.cli import main
from broker.compose import accounts, compose, utc_now
from broker.core.audit_search import AuditFilter
from broker.core.errors import AuditUnavailable, BrokerError, SettingsInvalid
from broker.core.issuance import ErrandRequest, enter_own_role
from broker.core.revocation import ITSELF
from broker.core.seals import read_checkpoint_line
from broker.settings import Settings, load_settings
from broker.witnessing import CheckpointsInS3
from tests.deploy.aws_template import ACCOUNT, REVOKER, resources
from tests.flow.demo_process import Demo
from tests.flow.test_revocation import iam_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "corp-witness"


def s3_of(demo: Demo) -> S3Client:
    """As an administrator of the account."""
    admin, endpoint = demo.described["aws_admin"], demo.described["aws_endpoint"]
    aws = boto3.Session(admin["AccessKeyId"], admin["SecretAccessKey"], region_name="us-east-1")
    entered = aws.client("sts", endpoint_url=endpoint).assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/OrganizationAccountAccessRole", RoleSessionName="tests"
    )["Credentials"]
    return boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=entered["AccessKeyId"],
        aws_secret_access_key=entered["SecretAccessKey"],
        aws_session_token=entered["SessionToken"],
    )


@pytest.fixture(scope="module")
def bucket(demo: Demo) -> S3Client:
    s3 = s3_of(demo)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="elsewhere/other.json", Body=b"x")
    given = {"MetadataPart1": "x", "MetadataPart2": "x", "CheckpointBucket": BUCKET, "CheckpointPrefix": "audit/"}
    role = resources(given, "aws", REVOKER)["Witness"]
    iam, name = iam_of(demo), role["RoleName"]
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(role["AssumeRolePolicyDocument"]))
    [policy] = role["Policies"]
    iam.put_role_policy(
        RoleName=name, PolicyName="KeepCheckpoints", PolicyDocument=json.dumps(policy["PolicyDocument"])
    )
    return s3


def settings_of(demo: Demo, **audit: Any) -> Settings:
    read = load_settings(demo.settings, environment={})
    account = next(one.key for one in accounts(read) if one.id == ACCOUNT)
    changes = {"checkpoint_bucket": f"s3://{BUCKET}/audit/", "checkpoint_account": account, **audit}
    own_roles = replace(read.own_roles, witness="FederationBrokerWitness")
    return replace(read, audit=replace(read.audit, **changes), own_roles=own_roles)


def composed(demo: Demo, settings: Settings) -> CheckpointsInS3:
    endpoints = LoopbackEndpoints(demo.described["aws_endpoint"], demo.described["signin_endpoint"])
    return compose(settings, endpoints).checkpoints_in_s3


def sealed(demo: Demo, username: str) -> None:
    """Something new that the demo's sealer has signed."""
    demo.signed_in(username)
    while "Proved up to position" not in (out := verify(demo).stdout) or "waits to be sealed" in out:
        pass


def verify(demo: Demo, *arguments: str) -> Any:
    return CliRunner().invoke(main, ["audit", "verify", "--settings", str(demo.settings), *arguments])


def test_checkpoints_go_to_the_bucket_and_an_auditor_compares_with_them(
    demo: Demo, bucket: S3Client, tmp_path: Path
) -> None:
    settings = settings_of(demo)
    in_s3 = composed(demo, settings)
    in_s3.check_at_start()
    sealed(demo, "alice")
    database = Database(settings.database.url, connections=1)
    kept = in_s3.witnessing(database).round()
    assert kept is not None

    key = f"audit/{kept.position:012d}.json"
    content = bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
    assert read_checkpoint_line(content) == kept
    place = SqlKeptCheckpoints(database).kept(f"s3://{BUCKET}/audit/")
    assert place is not None
    assert place.position == kept.position
    assert in_s3.problem() is None
    (tmp_path / "witness.jsonl").write_text(content)
    compared = verify(demo, "--checkpoints", str(tmp_path / "witness.jsonl"))
    assert f"witness.jsonl, which goes to position {kept.position}" in compared.stdout
    assert compared.stderr == ""

    page = demo.signed_in("erin").get("/admin/audit?entitlement=own-role.witness").text
    assert "own-role.witness" in page
    database.dispose()


def test_nothing_is_written_over_and_an_object_that_says_something_else_is_an_error(
    demo: Demo, bucket: S3Client
) -> None:
    settings = settings_of(demo)
    database = Database(settings.database.url, connections=1)
    witnessing = composed(demo, settings).witnessing(database)
    ports = witnessing._ports
    account = ports.account()
    exchange = enter_own_role(ErrandRequest(ITSELF, ports.witness.in_account(account)), ports.errands).exchange
    sealed(demo, "bob")
    newest = ports.seals.newest_checkpoint()
    assert newest is not None

    ports.objects.keep(exchange, account, BUCKET, "audit/1.json", newest)
    ports.objects.keep(exchange, account, BUCKET, "audit/1.json", newest)
    other = replace(newest, chain_hash="ab" * 32)
    with pytest.raises(AuditUnavailable, match="holds another checkpoint than the log"):
        ports.objects.keep(exchange, account, BUCKET, "audit/1.json", other)
    assert read_checkpoint_line(bucket.get_object(Bucket=BUCKET, Key="audit/1.json")["Body"].read().decode()) == newest
    for key in ("elsewhere/2.json", "elsewhere/other.json"):
        with pytest.raises(AuditUnavailable, match="S3 refused: AccessDenied") as refused:
            ports.objects.keep(exchange, account, BUCKET, key, newest)
        assert exchange.credentials.session_token.reveal() not in str(refused.value)
    with pytest.raises(AuditUnavailable, match="S3 refused: "):
        ports.objects.keep(exchange, account, "no-such-bucket", "audit/2.json", newest)
    database.dispose()


def test_a_bucket_that_is_not_there_stops_no_sealing_and_is_said(demo: Demo) -> None:
    settings = settings_of(demo, checkpoint_bucket="s3://not-there/audit/", checkpoint_every=timedelta(minutes=1))
    database = Database(settings.database.url, connections=1)
    in_s3 = composed(demo, settings)
    witnessing = in_s3.witnessing(database)
    witnessing._ports.claims.give_up("checkpoints to S3", utc_now())
    with pytest.raises(BrokerError, match="s3://not-there/audit/"):
        witnessing.round()
    assert "no checkpoint has come to s3://not-there/audit/ yet" in (in_s3.problem() or "")
    assert witnessing._ports.errands.audit.search(AuditFilter(entitlement="own-role.witness"), limit=5).events
    database.dispose()


def test_settings_that_lack_something_are_refused_at_the_start(demo: Demo) -> None:
    settings = settings_of(demo)
    with pytest.raises(SettingsInvalid, match=r"audit\.checkpoint_account: the entitlements file has no"):
        composed(demo, settings_of(demo, checkpoint_account="nowhere")).check_at_start()
    with pytest.raises(SettingsInvalid, match=r"own_roles\.witness: name the role"):
        composed(demo, replace(settings, own_roles=replace(settings.own_roles, witness=""))).check_at_start()
    off = composed(demo, settings_of(demo, checkpoint_bucket=""))
    off.check_at_start()
    assert (off.background(), off.problem()) == ((), None)
