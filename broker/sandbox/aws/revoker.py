"""The revoker of the demo company: what ``deploy/aws-revoker.yaml`` makes in a real account, with plain boto3.

It may write inline policies of roles that carry a bound of their own, and of no others; the bound of a role is what the
role may do anyway. So whatever it writes can only take away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config

from broker.sandbox.aws.company import ACCOUNTS, REGION, SIGN_IN_AUDIENCE, Account
from broker.sandbox.aws.organization import ACCESS_ROLE

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient

ROLE: Final = "FederationBrokerRevoker"
PROVIDER: Final = "federation-broker-own"
BOUNDS_PATH: Final = "/federation-broker-bounds/"

_SOURCE_IDENTITY_CHARACTERS: Final = 26
_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1})


def found_revoker(admin: Mapping[str, str], endpoint: str, metadata_xml: bytes) -> None:
    """Make what is missing in each account, and bring the metadata up to date.

    Args:
        admin: ``AccessKeyId`` and ``SecretAccessKey`` of the stand-in's administrator.
        endpoint: the stand-in.
        metadata_xml: of the broker's own roles, not of people's.

    Raises:
        botocore.exceptions.ClientError: the stand-in refused.
        botocore.exceptions.EndpointConnectionError: it does not run.
    """
    aws = boto3.Session(admin["AccessKeyId"], admin["SecretAccessKey"], region_name=REGION)
    sts = aws.client("sts", endpoint_url=endpoint, config=_CONFIG)
    for account in ACCOUNTS:
        entered = sts.assume_role(RoleArn=f"arn:aws:iam::{account.id}:role/{ACCESS_ROLE}", RoleSessionName="founding")[
            "Credentials"
        ]
        keys = (entered["AccessKeyId"], entered["SecretAccessKey"], entered["SessionToken"])
        iam = aws.client("iam", REGION, None, True, None, endpoint, *keys, _CONFIG)  # noqa: FBT003  boto3's own order
        _found_provider(iam, account, metadata_xml.decode())
        _found_bounds(iam, account)
        _found_role(iam, account)


def _found_provider(iam: IAMClient, account: Account, metadata: str) -> None:
    arn = f"arn:aws:iam::{account.id}:saml-provider/{PROVIDER}"
    if arn not in {provider["Arn"] for provider in iam.list_saml_providers()["SAMLProviderList"]}:
        iam.create_saml_provider(Name=PROVIDER, SAMLMetadataDocument=metadata)
    elif iam.get_saml_provider(SAMLProviderArn=arn)["SAMLMetadataDocument"] != metadata:
        iam.update_saml_provider(SAMLProviderArn=arn, SAMLMetadataDocument=metadata)


def _found_bounds(iam: IAMClient, account: Account) -> None:
    known = {policy["Arn"] for policy in iam.list_policies(Scope="Local")["Policies"]}
    for role in account.roles:
        arn = f"arn:aws:iam::{account.id}:policy{BOUNDS_PATH}{role.name}"
        if arn not in known:
            iam.create_policy(PolicyName=role.name, Path=BOUNDS_PATH, PolicyDocument=_document(role.statements))
            iam.put_role_permissions_boundary(RoleName=role.name, PermissionsBoundary=arn)


def _found_role(iam: IAMClient, account: Account) -> None:
    if ROLE in {role["RoleName"] for role in iam.list_roles()["Roles"]}:
        return
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(_trust(account)), MaxSessionDuration=3600)
    iam.put_role_policy(RoleName=ROLE, PolicyName="Revoke", PolicyDocument=_document(_rights(account)))


def _trust(account: Account) -> Mapping[str, object]:
    provider = {"Federated": f"arn:aws:iam::{account.id}:saml-provider/{PROVIDER}"}
    identity = {"StringLike": {"sts:SourceIdentity": "?" * _SOURCE_IDENTITY_CHARACTERS}}
    audience = {"StringEquals": {"saml:aud": SIGN_IN_AUDIENCE}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": provider, "Action": action, "Condition": condition}
            for action, condition in (
                ("sts:AssumeRoleWithSAML", audience | identity),
                ("sts:SetSourceIdentity", identity),
            )
        ],
    }


def _rights(account: Account) -> tuple[Mapping[str, Any], ...]:
    roles = f"arn:aws:iam::{account.id}:role/*"
    bounded = {"StringLike": {"iam:PermissionsBoundary": f"arn:aws:iam::{account.id}:policy{BOUNDS_PATH}*"}}
    return (
        {"Effect": "Allow", "Action": "iam:GetRolePolicy", "Resource": roles},
        {
            "Effect": "Allow",
            "Action": ["iam:PutRolePolicy", "iam:DeleteRolePolicy"],
            "Resource": roles,
            "Condition": bounded,
        },
    )


def _document(statements: tuple[Mapping[str, object], ...]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
