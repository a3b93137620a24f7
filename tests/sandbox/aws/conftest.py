"""One running stand-in, with the demo company in it and the test identity provider registered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from broker.sandbox.aws.company import REGION, found_company
from tests.sandbox.aws.identity_provider import Claims, metadata, provider, role, signed_response
from tests.sandbox.aws.process import StandIn, running_stand_in

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sts.client import STSClient
    from mypy_boto3_sts.type_defs import AssumeRoleWithSAMLResponseTypeDef, CredentialsTypeDef

USERNAMES = ["alice", "alice-two", "o'brien", "smith (it)", "cost$center"]
ONE_TRY = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with running_stand_in(tmp_path_factory.mktemp("aws")) as running:
        found_company(running.aws_admin, running.aws_endpoint, metadata().encode(), USERNAMES)
        yield running


def sts_client(endpoint: str) -> STSClient:
    config = ONE_TRY.merge(Config(signature_version=UNSIGNED))
    return boto3.client("sts", endpoint_url=endpoint, region_name=REGION, config=config)


def s3_client(endpoint: str, credentials: CredentialsTypeDef, region: str = REGION) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=ONE_TRY.merge(Config(signature_version="s3v4")),
    )


@pytest.fixture(scope="session")
def sts(stand_in: StandIn) -> STSClient:
    return sts_client(stand_in.aws_endpoint)


@pytest.fixture(scope="session")
def admin_s3(stand_in: StandIn) -> S3Client:
    return _as_administrator(stand_in, "s3")  # type: ignore[no-any-return]  # one helper for two services


@pytest.fixture(scope="session")
def admin_iam(stand_in: StandIn) -> IAMClient:
    return _as_administrator(stand_in, "iam")  # type: ignore[no-any-return]  # one helper for two services


def _as_administrator(stand_in: StandIn, service: str) -> Any:
    return boto3.client(  # type: ignore[call-overload]  # the service is a variable here
        service,
        endpoint_url=stand_in.aws_endpoint,
        region_name=REGION,
        aws_access_key_id=stand_in.aws_admin["AccessKeyId"],
        aws_secret_access_key=stand_in.aws_admin["SecretAccessKey"],
        config=ONE_TRY,
    )


Assume = Callable[..., "AssumeRoleWithSAMLResponseTypeDef"]


@pytest.fixture(scope="session")
def assume(sts: STSClient) -> Assume:
    """Return a function that signs an assertion and exchanges it."""

    def assume(
        claims: Claims | None = None,
        policy: object = None,
        role_arn: str | None = None,
        **more: Any,
    ) -> AssumeRoleWithSAMLResponseTypeDef:
        role_arn = role_arn or role()
        provider_arn = provider(role_arn.split(":")[4])
        if policy is not None:
            more["Policy"] = policy if isinstance(policy, str) else json.dumps(policy, separators=(",", ":"))
        return sts.assume_role_with_saml(
            RoleArn=role_arn,
            PrincipalArn=provider_arn,
            SAMLAssertion=signed_response(claims or Claims(roles=(f"{role_arn},{provider_arn}",))),
            **more,
        )

    return assume


def home_policy(prefix: str, *, write: bool = True) -> dict[str, Any]:
    """Return the session policy of one home folder, as the broker would write it."""
    literal = prefix.replace("$", "${$}").replace("*", "${*}").replace("?", "${?}")
    objects = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"] if write else ["s3:GetObject"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": objects, "Resource": f"arn:aws:s3:::corp-home/{literal}*"},
            {
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::corp-home",
                "Condition": {"StringLike": {"s3:prefix": f"{literal}*"}},
            },
        ],
    }
