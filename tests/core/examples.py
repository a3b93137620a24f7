"""An account, people and entitlements for the tests of the core."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from broker.core.entitlements import (
    Access,
    Account,
    Entitlement,
    Grant,
    Narrowing,
    S3LocationTemplate,
    S3Scope,
    Scope,
    Template,
    Use,
    authorize,
)
from broker.core.errors import ExchangeAsked
from broker.core.principal import DirectoryGroup, Principal
from tests.fakes import group_named, principal_id

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
STAFF = group_named("All Staff")

ACCOUNT = Account(
    key="files",
    id="111122223333",
    name="Company files",
    saml_provider_arn="arn:aws:iam::111122223333:saml-provider/broker",
    region="ap-northeast-1",
)
GOVCLOUD = Account(
    key="gov",
    id="444455556666",
    name="Agency",
    saml_provider_arn="arn:aws-us-gov:iam::444455556666:saml-provider/broker",
    region="us-gov-west-1",
)


ASKED = ExchangeAsked(
    role_arn="arn:aws:iam::111122223333:role/team/StaffFiles",
    saml_provider_arn="arn:aws:iam::111122223333:saml-provider/broker",
    region="ap-northeast-1",
)


def account_in(partition: str) -> Account:
    """An account of that partition."""
    return Account(
        key="other",
        id="777788889999",
        name="Other",
        saml_provider_arn=f"arn:{partition}:iam::777788889999:saml-provider/broker",
        region={"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}[partition],
    )


def place(bucket: str, prefix: str = "", access: Access = Access.READ) -> S3LocationTemplate:
    """One entry of an entitlement's ``s3`` list."""
    return S3LocationTemplate(bucket, Template(prefix), access)


HOME_PLACES = (place("corp-home", "{username}/", Access.READ_WRITE), place("corp-shared", "handbook/"))


def person(
    number: int = 1,
    username: str = "hanako",
    *groups: DirectoryGroup,
    attributes: Mapping[str, tuple[str, ...]] | None = None,
) -> Principal:
    """Somebody in the staff group, unless other groups are named."""
    return Principal(
        id=principal_id(number),
        username=username,
        display_name=username.title(),
        groups=frozenset(groups or (STAFF,)),
        attributes={"department": ("Sales",)} if attributes is None else attributes,
    )


def entitlement(
    *places: S3LocationTemplate,
    scope: Scope | None = None,
    account: Account = ACCOUNT,
    uses: tuple[Use, ...] = tuple(Use),
    tags: Mapping[str, Template] | None = None,
    transitive_tags: tuple[str, ...] = (),
    role: str = "StaffFiles",
    duration: timedelta = timedelta(hours=8),
    max_duration: timedelta = timedelta(hours=12),
) -> Entitlement:
    """The entitlement ``home`` of the staff: own folder and handbook, unless other places or a scope are given."""
    return Entitlement(
        id="home",
        name="My files",
        account=account,
        role_arn=f"arn:{account.partition.name}:iam::{account.id}:role/{role}",
        groups=(STAFF,),
        duration=duration,
        max_duration=max_duration,
        uses=uses,
        scope=scope or S3Scope(places or HOME_PLACES),
        tags={"Department": Template("{department}")} if tags is None else tags,
        transitive_tags=transitive_tags,
    )


def grant(
    held: Entitlement | None = None,
    *,
    by: Principal | None = None,
    use: Use = Use.TERMINAL,
    narrowing: Narrowing | None = None,
) -> Grant:
    """A grant as authorize() makes it."""
    return authorize(by or person(), held or entitlement(), use, narrowing or Narrowing(), NOW)
