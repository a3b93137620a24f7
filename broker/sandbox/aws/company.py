"""The demo company in AWS: accounts, roles, buckets and files, and how an operator founds it.

The roles may do more than any one person should: what narrows a session to one person is its session policy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

from broker.sandbox.aws.organization import ACCESS_ROLE, FILES_ACCOUNT, RESEARCH_ACCOUNT

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_iam.type_defs import TagTypeDef
    from mypy_boto3_s3.client import S3Client

REGION: Final = "ap-northeast-1"
PROVIDER_NAME = "broker"
SIGN_IN_AUDIENCE = "https://signin.aws.amazon.com/saml"
SESSION_TAG_KEYS: Final = ("Department", "CostCenter", "Project", "Team")
_SOURCE_IDENTITY_CHARACTERS: Final = 26
_HOUR = 3600
_CONFIG = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


@dataclass(frozen=True)
class CompanyRole:
    """A role of the company.

    Attributes:
        name: in its account.
        max_session_hours: MaxSessionDuration.
        statements: of its one inline policy.
    """

    name: str
    max_session_hours: int
    statements: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class CompanyPolicy:
    """A managed policy of the company.

    Attributes:
        name: in its account.
        statements: of its one version.
    """

    name: str
    statements: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class Account:
    """An account of the company.

    Attributes:
        id: twelve digits.
        name: as people call it.
        roles: that the broker's assertions may enter.
        buckets: bucket name to its files, key to text.
        policies: managed ones, to narrow sessions with.
    """

    id: str
    name: str
    roles: tuple[CompanyRole, ...]
    buckets: Mapping[str, Mapping[str, str]]
    policies: tuple[CompanyPolicy, ...] = ()

    @property
    def provider_arn(self) -> str:
        """The SAML provider of the broker in this account."""
        return f"arn:aws:iam::{self.id}:saml-provider/{PROVIDER_NAME}"


def _allow(actions: list[str], *resources: str) -> Mapping[str, object]:
    return {"Effect": "Allow", "Action": actions, "Resource": list(resources)}


_LIST = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
_READ = ["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging"]
_WRITE = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]

# A session of the role FinanceReports may do this and no more when it is narrowed by the managed policy, and nothing at
# all when its tag names another department.
_OF_AUDITORS: Final = {"StringEquals": {"aws:PrincipalTag/Department": ["Audit", "IT Operations"]}}
_AUDIT_PAPERS: Final = {"StringLike": {"s3:prefix": "reports/audit/*"}}

FILES = Account(
    id=FILES_ACCOUNT,
    name="Company files",
    roles=(
        CompanyRole(
            "StaffFiles",
            12,
            (
                _allow(_LIST, "arn:aws:s3:::corp-home", "arn:aws:s3:::corp-shared"),
                _allow([*_READ, *_WRITE], "arn:aws:s3:::corp-home/*"),
                _allow(_READ, "arn:aws:s3:::corp-shared/*"),
            ),
        ),
        CompanyRole(
            "FinanceReports",
            8,
            (
                _allow(_LIST, "arn:aws:s3:::corp-finance"),
                _allow([*_READ, *_WRITE], "arn:aws:s3:::corp-finance/*"),
            ),
        ),
    ),
    buckets={
        "corp-home": {},
        "corp-shared": {
            "handbook/README.txt": "The staff handbook. Ask before you print it.\n",
            "handbook/holidays-2026.csv": "date,name\n2026-01-01,New Year's Day\n2026-05-05,Children's Day\n",
            "handbook/it/passwords.txt": "Choose a long one. Nobody from IT will ever ask for it.\n",
            "handbook/ja/はじめに.txt": "社員ハンドブックへようこそ。\n",
            "secret/acquisition.txt": "Only the board may read this.\n",
            "secret/salaries-2026.csv": "name,salary\n",
        },
        "corp-finance": {
            "reports/2026/q1.csv": "month,revenue\nJanuary,120\nFebruary,131\nMarch,140\n",
            "reports/2026/q2.csv": "month,revenue\nApril,138\nMay,150\nJune,149\n",
            "reports/audit/auditor-letter.txt": "No material misstatement was found.\n",
            "drafts/forecast-2027.txt": "Not for distribution.\n",
        },
    },
    policies=(
        CompanyPolicy(
            "AuditPapers",
            (
                {**_allow(["s3:ListBucket"], "arn:aws:s3:::corp-finance"), "Condition": _OF_AUDITORS | _AUDIT_PAPERS},
                {**_allow(["s3:GetBucketLocation"], "arn:aws:s3:::corp-finance"), "Condition": _OF_AUDITORS},
                {**_allow(["s3:GetObject"], "arn:aws:s3:::corp-finance/reports/audit/*"), "Condition": _OF_AUDITORS},
            ),
        ),
    ),
)
RESEARCH = Account(
    id=RESEARCH_ACCOUNT,
    name="Research",
    roles=(
        CompanyRole(
            "FalconData",
            4,
            (
                _allow([*_LIST, "s3:ListBucketVersions"], "arn:aws:s3:::falcon-data"),
                _allow([*_READ, *_WRITE, "s3:DeleteObjectVersion"], "arn:aws:s3:::falcon-data/*"),
            ),
        ),
        CompanyRole(
            "OpsReadOnly",
            1,
            (
                _allow(["s3:ListAllMyBuckets"], "*"),
                _allow([*_LIST, "s3:GetBucketPolicy", "s3:GetBucketVersioning"], "arn:aws:s3:::*"),
                _allow(["s3:GetObject"], "arn:aws:s3:::*/*"),
                _allow(["iam:Get*", "iam:List*"], "*"),
            ),
        ),
    ),
    buckets={
        "falcon-data": {
            "raw/flight-001.csv": "t,altitude\n0,0\n1,12\n2,31\n",
            "raw/flight-002.csv": "t,altitude\n0,0\n1,9\n2,28\n",
            "raw/calibration/sensor-a.json": '{"offset": 0.12, "gain": 1.003}\n',
            "results/summary.txt": "Two flights, no losses.\n",
            "private/patent-draft.txt": "Not filed yet.\n",
        },
    },
)
ACCOUNTS = (FILES, RESEARCH)
HOME_BUCKET = "corp-home"


def buckets() -> list[str]:
    """Return the names of all buckets, sorted."""
    return sorted(name for account in ACCOUNTS for name in account.buckets)


def found_company(admin: Mapping[str, str], endpoint: str, metadata_xml: bytes, usernames: list[str]) -> None:
    """Make what is missing of the company, as its administrator would, with plain boto3.

    Running it again changes nothing that people did since; only the metadata of the SAML provider is brought up to
    date, and new people get their home.

    Args:
        admin: ``AccessKeyId`` and ``SecretAccessKey`` of the stand-in's administrator.
        endpoint: the stand-in, such as ``http://127.0.0.1:4566``.
        metadata_xml: the broker's IdP metadata.
        usernames: whose homes ``corp-home`` holds.

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
        # One session for all clients: what is slow about boto3 is reading its service models, once a session.
        keys = (entered["AccessKeyId"], entered["SecretAccessKey"], entered["SessionToken"])
        iam = aws.client("iam", REGION, None, True, None, endpoint, *keys, _CONFIG)  # noqa: FBT003  boto3's own order
        s3 = aws.client("s3", REGION, None, True, None, endpoint, *keys, _CONFIG)  # noqa: FBT003  boto3's own order
        _found_roles(iam, account, metadata_xml.decode())
        existing = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
        for bucket, files in account.buckets.items():
            if bucket not in existing:
                s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
                for key, text in files.items():
                    _put(s3, bucket, key, text)
            if bucket == HOME_BUCKET:
                _found_homes(s3, usernames)


def _found_roles(iam: IAMClient, account: Account, metadata: str) -> None:
    providers = {provider["Arn"] for provider in iam.list_saml_providers()["SAMLProviderList"]}
    if account.provider_arn not in providers:
        iam.create_saml_provider(Name=PROVIDER_NAME, SAMLMetadataDocument=metadata)
    elif iam.get_saml_provider(SAMLProviderArn=account.provider_arn)["SAMLMetadataDocument"] != metadata:
        iam.update_saml_provider(SAMLProviderArn=account.provider_arn, SAMLMetadataDocument=metadata)
    managed = {policy["PolicyName"] for policy in iam.list_policies(Scope="Local")["Policies"]}
    for policy in account.policies:
        if policy.name not in managed:
            iam.create_policy(PolicyName=policy.name, PolicyDocument=_document(policy.statements))
    existing = {role["RoleName"] for role in iam.list_roles()["Roles"]}
    trust = json.dumps(trust_policy(account))
    # What people changed stays, until a newer version of the demo trusts in another way than the one that founded it.
    version: TagTypeDef = {"Key": "trust", "Value": hashlib.sha256(trust.encode()).hexdigest()}
    for role in account.roles:
        if role.name not in existing:
            iam.create_role(
                RoleName=role.name,
                AssumeRolePolicyDocument=trust,
                MaxSessionDuration=role.max_session_hours * _HOUR,
                Tags=[version],
            )
            iam.put_role_policy(RoleName=role.name, PolicyName="S3", PolicyDocument=_document(role.statements))
        elif version not in iam.list_role_tags(RoleName=role.name)["Tags"]:
            iam.update_assume_role_policy(RoleName=role.name, PolicyDocument=trust)
            iam.tag_role(RoleName=role.name, Tags=[version])


def _document(statements: tuple[Mapping[str, object], ...]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust_policy(account: Account) -> Mapping[str, object]:
    """Return the trust policy of every role of an account, as ``deploy/aws.yaml`` gives it to real ones.

    Each action has the conditions that AWS knows for it; the source identity has the form of our immutable ids.
    """
    provider = {"Federated": account.provider_arn}
    audience = {"StringEquals": {"saml:aud": SIGN_IN_AUDIENCE}}
    identity = {"StringLike": {"sts:SourceIdentity": "?" * _SOURCE_IDENTITY_CHARACTERS}}
    tags = {"ForAllValues:StringEquals": {"aws:TagKeys": list(SESSION_TAG_KEYS)}}
    conditions = {
        "sts:AssumeRoleWithSAML": audience | identity | tags,
        "sts:TagSession": tags,
        "sts:SetSourceIdentity": identity,
    }
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": provider, "Action": action, "Condition": condition}
            for action, condition in conditions.items()
        ],
    }


def _found_homes(s3: S3Client, usernames: list[str]) -> None:
    for username in usernames:
        if s3.list_objects_v2(Bucket=HOME_BUCKET, Prefix=f"{username}/", MaxKeys=1)["KeyCount"]:
            continue
        _put(s3, HOME_BUCKET, f"{username}/welcome.txt", f"Welcome, {username}. Nobody else can read this folder.\n")
        _put(s3, HOME_BUCKET, f"{username}/notes/2026-plan.txt", "Plan for 2026: fewer passwords.\n")


def _put(s3: S3Client, bucket: str, key: str, text: str) -> None:
    kind = "text/csv; charset=utf-8" if key.endswith(".csv") else "text/plain; charset=utf-8"
    s3.put_object(Bucket=bucket, Key=key, Body=text.encode(), ContentType=kind)
