"""The roles in AWS that are the broker's own: nobody is given their credentials."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.core.entitlements import (
    SHORTEST_SESSION,
    Account,
    CheckpointScope,
    Entitlement,
    RolePoliciesScope,
    Scope,
    Use,
)

REVOKER_ID: Final = "own-role.revoker"
"""What the audit calls the revoker's errands where people's issuances have an entitlement."""

WITNESS_ID: Final = "own-role.witness"
"""Likewise of the witness, which keeps checkpoints of the audit in S3."""

# AWS IAM API reference, CreateRole, RoleName and Path; CreateSAMLProvider, Name.
_ROLE: Final = re.compile(r"(?:[\w+=,.@-]+/)*[\w+=,.@-]{1,64}", re.ASCII)
_PROVIDER: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OwnRoles:
    """What they are called; the same in every account.

    Attributes:
        revoker: the role that denies revoked sessions, with its path if it has one.
        saml_provider: the SAML provider of all of the broker's own roles.
    """

    revoker: str
    saml_provider: str

    def __post_init__(self) -> None:
        _check_names(self.revoker, self.saml_provider)

    def in_account(self, account: Account) -> Account:
        """The account as the broker's own roles are entered there: through their own SAML provider."""
        return _entered_through(self.saml_provider, account)

    def revoker_for(self, account: Account, roles: Sequence[str]) -> Entitlement:
        """The revoker of an account, for some of its roles and no others.

        Args:
            account: of the entitlements file.
            roles: ARNs, all of that account.
        """
        return _own_role(REVOKER_ID, "Revoker", self.revoker, self.in_account(account), RolePoliciesScope(tuple(roles)))


@dataclass(frozen=True, slots=True)
class Witness:
    """The role that keeps checkpoints of the audit in S3.

    Attributes:
        role: its name, with its path if it has one.
        saml_provider: the SAML provider of all of the broker's own roles.
        bucket: where the checkpoints go.
        prefix: what their keys begin with; empty, or ends with a slash.
    """

    role: str
    saml_provider: str
    bucket: str
    prefix: str

    def __post_init__(self) -> None:
        _check_names(self.role, self.saml_provider)
        if self.prefix and not self.prefix.endswith("/"):
            raise ValueError("a prefix ends with a slash")

    @property
    def place(self) -> str:
        """Where, for people."""
        return f"s3://{self.bucket}/{self.prefix}"

    def in_account(self, account: Account) -> Entitlement:
        """The role, in the account that has the bucket or may write to it."""
        entered = _entered_through(self.saml_provider, account)
        return _own_role(WITNESS_ID, "Witness", self.role, entered, CheckpointScope(self.bucket, self.prefix))


def _check_names(role: str, saml_provider: str) -> None:
    if not _ROLE.fullmatch(role):
        raise ValueError("not the name of a role")
    if not _PROVIDER.fullmatch(saml_provider):
        raise ValueError("not the name of a SAML provider")


def _own_role(own_id: str, name: str, role: str, account: Account, scope: Scope) -> Entitlement:
    return Entitlement(
        id=own_id,
        name=name,
        account=account,
        role_arn=f"arn:{account.partition.name}:iam::{account.id}:role/{role}",
        groups=(),
        duration=SHORTEST_SESSION,
        max_duration=SHORTEST_SESSION,
        uses=(Use.ERRAND,),
        scope=scope,
    )


def _entered_through(saml_provider: str, account: Account) -> Account:
    arn = f"arn:{account.partition.name}:iam::{account.id}:saml-provider/{saml_provider}"
    return replace(account, saml_provider_arn=arn)
