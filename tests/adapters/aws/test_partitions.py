"""The whole exchange in the partitions of China and GovCloud: our assertion, STS, what S3 then allows, the console."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError

from broker.adapters.aws.console import FederationSignIn
from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.adapters.aws.sts import StsTokenService
from broker.adapters.saml.metadata import build_metadata
from broker.adapters.signing_keys import FileSigningKey
from broker.core.console import console_destination
from broker.core.entitlements import Access, Account, Grant, Use
from broker.core.errors import AudienceNotAccepted, SamlProviderMissing
from broker.core.partitions import PARTITIONS
from broker.core.session_policy import policy_for
from broker.core.trust_policy import trust_statements
from broker.sandbox.aws.organization import ACCESS_ROLE
from tests.adapters.aws.exchange import ENTITY_ID, SIGN_ON, assertion_for, s3_client
from tests.core.examples import entitlement, grant, place
from tests.sandbox.aws.process import StandIn, running_stand_in

PATIENT = timedelta(seconds=20)
REGIONS = {"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
NUMBER = "111122223333"


@dataclass(frozen=True)
class Abroad:
    """A stand-in of another partition, with one role and one bucket in it."""

    stand_in: StandIn
    account: Account
    sts: StsTokenService
    console: FederationSignIn

    @property
    def name(self) -> str:
        return self.account.partition.name

    def grant(self, use: Use = Use.TERMINAL) -> Grant:
        places = (place("corp-home", "{username}/", Access.READ_WRITE),)
        held = entitlement(*places, account=self.account)
        return grant(held, use=use)


@pytest.fixture(scope="module", params=REGIONS)
def abroad(
    request: pytest.FixtureRequest, key: FileSigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Abroad]:
    name: str = request.param
    region = REGIONS[name]
    account = Account("files", NUMBER, "Files", f"arn:{name}:iam::{NUMBER}:saml-provider/broker", region)
    with running_stand_in(tmp_path_factory.mktemp(name), partition=name) as running:
        found(running, account, build_metadata(ENTITY_ID, SIGN_ON, key).decode())
        endpoints = LoopbackEndpoints(running.aws_endpoint, running.signin_endpoint)
        sts = StsTokenService(
            endpoints,
            connect_timeout=PATIENT,
            read_timeout=PATIENT,
            deadline=PATIENT,
            proxy=None,
            threads=1,
            clock=lambda: datetime.now(UTC),
        )
        console = FederationSignIn(endpoints, connect_timeout=PATIENT, read_timeout=PATIENT, proxy=None, threads=1)
        yield Abroad(running, account, sts, console)


def found(stand_in: StandIn, account: Account, metadata: str) -> None:
    """Provider, role and bucket, as an administrator of that partition makes them."""
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    admin = stand_in.aws_admin
    own = boto3.Session(admin["AccessKeyId"], admin["SecretAccessKey"], region_name=account.region)
    entered = own.client("sts", endpoint_url=stand_in.aws_endpoint, config=config).assume_role(
        RoleArn=f"arn:{account.partition.name}:iam::{NUMBER}:role/{ACCESS_ROLE}", RoleSessionName="operator"
    )["Credentials"]
    session = boto3.Session(
        entered["AccessKeyId"], entered["SecretAccessKey"], entered["SessionToken"], region_name=account.region
    )
    iam = session.client("iam", endpoint_url=stand_in.aws_endpoint, config=config)
    made = iam.create_saml_provider(Name="broker", SAMLMetadataDocument=metadata)
    assert made["SAMLProviderArn"] == account.saml_provider_arn
    # What `broker doctor aws` says the trust policy has to hold.
    trust = {"Version": "2012-10-17", "Statement": trust_statements(made["SAMLProviderArn"], ["Department"])}
    iam.create_role(RoleName="StaffFiles", AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=43200)
    bucket = f"arn:{account.partition.name}:s3:::corp-home"
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": [bucket, f"{bucket}/*"]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
    iam.put_role_policy(RoleName="StaffFiles", PolicyName="Files", PolicyDocument=policy)
    s3 = session.client("s3", endpoint_url=stand_in.aws_endpoint, config=config)
    where: Any = {"LocationConstraint": account.region}
    s3.create_bucket(Bucket="corp-home", CreateBucketConfiguration=where)
    for person in ("hanako", "ken"):
        s3.put_object(Bucket="corp-home", Key=f"{person}/welcome.txt", Body=b"x")


def is_denied(act: Callable[[], object]) -> bool:
    with pytest.raises(ClientError) as caught:
        act()
    return caught.value.response["Error"]["Code"] == "AccessDenied"


def test_the_session_is_of_its_partition_and_reaches_its_own_prefix_alone(abroad: Abroad, key: FileSigningKey) -> None:
    made = abroad.grant()
    issued = abroad.sts.assume_role_with_saml(made, assertion_for(made, key), policy_for(made))
    assert issued.assumed_role_arn == f"arn:{abroad.name}:sts::{NUMBER}:assumed-role/StaffFiles/hanako"
    s3 = s3_client(abroad.stand_in.aws_endpoint, issued.credentials, abroad.account.region)
    assert s3.get_object(Bucket="corp-home", Key="hanako/welcome.txt")["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket="corp-home", Prefix="hanako/")["KeyCount"] == 1
    s3.put_object(Bucket="corp-home", Key="hanako/new.txt", Body=b"x")
    assert is_denied(lambda: s3.get_object(Bucket="corp-home", Key="ken/welcome.txt"))
    assert is_denied(lambda: s3.list_objects_v2(Bucket="corp-home", Prefix="ken/"))
    assert is_denied(lambda: s3.list_objects_v2(Bucket="corp-home"))
    assert is_denied(lambda: s3.delete_object(Bucket="corp-home", Key="hanako/new.txt"))


def test_the_console_of_the_partition_opens(abroad: Abroad, key: FileSigningKey) -> None:
    made = abroad.grant(Use.CONSOLE)
    issued = abroad.sts.assume_role_with_saml(made, assertion_for(made, key), policy_for(made))
    destination = console_destination(made, "")
    assert (urlsplit(destination).hostname or "").endswith(abroad.account.partition.console_host)
    url = abroad.console.sign_in_url(made, issued, destination, "https://broker.example.com").url.reveal()
    answer = urllib3.request("GET", url, redirect=False, retries=False)
    assert answer.status == 302
    assert parse_qs(urlsplit(url).query)["Destination"] == [destination]


@pytest.mark.parametrize("claim", ["audience", "recipient"])
def test_an_assertion_for_another_partition_is_not_accepted(abroad: Abroad, key: FileSigningKey, claim: str) -> None:
    made = abroad.grant()
    for other in PARTITIONS.keys() - {abroad.name}:
        change = {claim: getattr(PARTITIONS[other], f"saml_{claim}")}
        with pytest.raises(AudienceNotAccepted):
            abroad.sts.assume_role_with_saml(made, assertion_for(made, key, **change), policy_for(made))


def test_nothing_of_the_commercial_partition_is_there(abroad: Abroad, key: FileSigningKey) -> None:
    with pytest.raises(SamlProviderMissing):
        abroad.sts.assume_role_with_saml(grant(), assertion_for(grant(), key), None)


def test_a_session_policy_about_another_partition_allows_nothing(abroad: Abroad, key: FileSigningKey) -> None:
    made = abroad.grant()
    policy = policy_for(grant(entitlement(place("corp-home", "{username}/", Access.READ_WRITE))))
    issued = abroad.sts.assume_role_with_saml(made, assertion_for(made, key), policy)
    s3 = s3_client(abroad.stand_in.aws_endpoint, issued.credentials, abroad.account.region)
    assert is_denied(lambda: s3.get_object(Bucket="corp-home", Key="hanako/welcome.txt"))
