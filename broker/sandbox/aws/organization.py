"""The accounts of the stand-in, and the role through which its administrator enters each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from broker.sandbox.aws.ministack_plugin import Ministack

FILES_ACCOUNT = "111122223333"
RESEARCH_ACCOUNT = "444455556666"
# The name AWS Organizations gives it.
ACCESS_ROLE = "OrganizationAccountAccessRole"


@dataclass(frozen=True)
class Administrator:
    """The stand-in's own administrator: an IAM user of one account whom nothing is denied."""

    access_key_id: str
    secret_access_key: str
    account: str = FILES_ACCOUNT

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"Administrator({self.access_key_id})"

    @property
    def arn(self) -> str:
        """The user's ARN."""
        return f"arn:aws:iam::{self.account}:user/administrator"


async def found_accounts(ministack: Ministack, administrator: Administrator) -> None:
    """Make each account enterable by the administrator, unless it is already."""
    for account in (FILES_ACCOUNT, RESEARCH_ACCOUNT):
        if ministack.role(account, ACCESS_ROLE) is not None:
            continue
        enter = {"Effect": "Allow", "Principal": {"AWS": administrator.arn}, "Action": ["sts:AssumeRole"]}
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        role = {"RoleName": ACCESS_ROLE, "AssumeRolePolicyDocument": _document(enter)}
        policy = {
            "RoleName": ACCESS_ROLE,
            "PolicyName": "AdministratorAccess",
            "PolicyDocument": _document(everything),
        }
        for action, parameters in (("CreateRole", role), ("PutRolePolicy", policy)):
            body = urlencode({"Action": action, **parameters}).encode()
            await ministack.iam_request(account, "us-east-1", body, changes=True)


def _document(statement: Mapping[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
