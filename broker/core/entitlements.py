"""What a principal may have, and :func:`authorize`, the only maker of a :class:`Grant`."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self

from broker.core.errors import (
    AccessNotEntitled,
    AttributeUnusable,
    DurationNotANumber,
    DurationTooLong,
    DurationTooShort,
    EntitlementNotHeld,
    NarrowingNeedsS3,
    ScopeNotEntitled,
    UseNotOffered,
)
from broker.core.partitions import PARTITIONS, Partition
from broker.core.principal import DirectoryGroup, Principal

# AWS STS API reference, AssumeRoleWithSAML, DurationSeconds: 900 to 43200.
SHORTEST_SESSION: Final = timedelta(seconds=900)
LONGEST_SESSION: Final = timedelta(seconds=43200)

# AWS IAM user guide, "Pass session tags in AWS STS": at most 50 tags, keys of 128 characters, values of 256.
MOST_TAGS: Final = 50
LONGEST_TAG_VALUE: Final = 256

_ROLE_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::(\d{12}):role/(?:[\w+=,.@-]+/)*[\w+=,.@-]{1,64}", re.ASCII)
_PROVIDER_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::(\d{12}):saml-provider/([\w.-]{1,128})", re.ASCII)
# AWS KMS API reference, KeyMetadata Arn; Amazon S3 API reference, SSEKMSEncryption, KMSKeyArn.
_KMS_KEY_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):kms:([a-z0-9-]+):(\d{12}):key/[A-Za-z0-9-]+", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")

# What no part of a prefix may be.
_NO_PART: Final = frozenset({"", ".", ".."})


class Access(StrEnum):
    """What a session may do with the objects of one place in S3."""

    LIST = "list"
    READ = "read"
    WRITE = "write"
    READ_WRITE = "read-write"
    FULL = "full"

    @property
    def rights(self) -> frozenset[str]:
        """The rights it is made of; one access is less than another when its rights are a subset."""
        return _RIGHTS[self]


_RIGHTS: Final = {
    Access.LIST: frozenset({"list"}),
    Access.READ: frozenset({"list", "get"}),
    Access.WRITE: frozenset({"put"}),
    Access.READ_WRITE: frozenset({"list", "get", "put"}),
    Access.FULL: frozenset({"list", "get", "put", "delete"}),
}


@dataclass(frozen=True, slots=True)
class KmsKey:
    """The KMS key that a bucket's objects are encrypted with (SSE-KMS).

    Attributes:
        arn: of the key itself: IAM asks about the key, whichever alias the bucket names.
    """

    arn: str

    def __post_init__(self) -> None:
        if not _KMS_KEY_ARN.fullmatch(self.arn):
            raise ValueError("not the ARN of a KMS key")

    @property
    def partition(self) -> str:
        """As in ARNs, ``aws``."""
        return self.arn.split(":")[1]

    @property
    def region(self) -> str:
        """Whose S3 can use it: a bucket and its key are in one region."""
        return self.arn.split(":")[3]

    @property
    def account_id(self) -> str:
        """Whose key policy counts."""
        return self.arn.split(":")[4]


class Use(StrEnum):
    """The faces that may offer an entitlement."""

    TERMINAL = "terminal"
    CONSOLE = "console"
    FILES = "files"
    ERRAND = "errand"
    """The broker's own, with a role of ``[own_roles]``: nobody is given its credentials, and no file can offer it."""


@dataclass(frozen=True, slots=True)
class Template:
    """Text with ``{attribute}`` places, as in the entitlements file. Braces stand for nothing else."""

    text: str

    def __post_init__(self) -> None:
        if set("{}") & set(_PLACEHOLDER.sub("", self.text)):
            raise ValueError("a brace stands for an attribute, as in {username}, and for nothing else")

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names of the attributes it asks for, in order."""
        return tuple(_PLACEHOLDER.findall(self.text))

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with every place filled; what is filled in is not looked at for places again."""
        return _PLACEHOLDER.sub(lambda place: values[place.group(1)], self.text)


@dataclass(frozen=True, slots=True)
class S3Location:
    """One place in S3 that a session reaches, for one person: nothing is left to fill in.

    Attributes:
        prefix: empty for the whole bucket, otherwise it ends with a slash; a literal, never a pattern. No part of it
            is empty, ``.`` or ``..``: clients that take it for a path would look elsewhere.
        versions: earlier versions are listed and read as the present ones are. No access deletes one for good: they
            are what remains when somebody, or what runs under their name, deletes or overwrites everything.
        kms_key: what its objects are encrypted with; None where S3's own keys are used.
    """

    bucket: str
    prefix: str
    access: Access
    versions: bool = False
    kms_key: KmsKey | None = None

    def __post_init__(self) -> None:
        if self.prefix and not self.prefix.endswith("/"):
            raise ValueError("a prefix ends with a slash, or `red` would reach `red-two`")
        if self.prefix and _NO_PART & set(self.prefix[:-1].split("/")):
            raise ValueError("a part of a prefix is not empty, `.` or `..`")

    @property
    def name(self) -> str:
        """``bucket`` or ``bucket/prefix/``: what the ``scope`` field of the form holds."""
        return f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket


@dataclass(frozen=True, slots=True)
class S3LocationTemplate:
    """One entry of an entitlement's ``s3`` list, before the person is known."""

    bucket: str
    prefix: Template
    access: Access
    versions: bool = False
    kms_key: KmsKey | None = None

    def for_principal(self, principal: Principal) -> S3Location:
        """The place for that person.

        Raises:
            AttributeUnusable: an attribute is missing, has several values, or holds what a prefix must not.
        """
        values = {name: _path_segment_value(principal, name) for name in self.prefix.attributes}
        return self.filled(values)

    def filled(self, values: Mapping[str, str]) -> S3Location:
        """The place with these values, which are not looked at here."""
        return S3Location(self.bucket, self.prefix.fill(values), self.access, self.versions, self.kms_key)


@dataclass(frozen=True, slots=True)
class S3Scope:
    """The session policy is compiled from places in S3."""

    locations: tuple[S3LocationTemplate, ...]


@dataclass(frozen=True, slots=True)
class ManagedPolicyScope:
    """The session is narrowed by managed policies of the role's account."""

    policy_arns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WholeRoleScope:
    """The session is the whole role; said explicitly in the entitlements file."""


@dataclass(frozen=True, slots=True)
class RolePoliciesScope:
    """The session may read, write and delete the inline policies of those roles of its account: an errand's."""

    role_arns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckpointScope:
    """The session may put and read objects below that prefix, and nothing else: an errand's."""

    bucket: str
    prefix: str


Scope = S3Scope | ManagedPolicyScope | WholeRoleScope | RolePoliciesScope | CheckpointScope


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account that trusts this broker.

    Attributes:
        key: its name in the entitlements file.
        id: twelve digits.
        saml_provider_arn: the IAM SAML provider that holds our metadata; STS calls it PrincipalArn.
        region: whose STS and console are used.
        fallback_region: whose STS is asked when that of ``region`` does not answer or is switched off; None for none.
    """

    key: str
    id: str
    name: str
    saml_provider_arn: str
    region: str
    fallback_region: str | None = None

    def __post_init__(self) -> None:
        match = _PROVIDER_ARN.fullmatch(self.saml_provider_arn)
        if match is None or match.group(2) != self.id:
            raise ValueError("saml_provider is not the ARN of a SAML provider in this account")
        if not set(self.sts_regions) <= self.partition.regions:
            raise ValueError("a region is not one of the partition that saml_provider names")
        if self.fallback_region == self.region:
            raise ValueError("the fallback region is the region itself")

    @property
    def partition(self) -> Partition:
        """The partition its ARN names."""
        return PARTITIONS[self.saml_provider_arn.split(":")[1]]

    @property
    def sts_regions(self) -> tuple[str, ...]:
        """The regions whose STS may be asked, the preferred one first."""
        return (self.region,) if self.fallback_region is None else (self.region, self.fallback_region)


@dataclass(frozen=True, slots=True)
class Entitlement:
    """A role in an account, with a scope, that the members of some groups may have.

    Attributes:
        groups: resolved in the directory; membership of any one is enough.
        duration: of a session when the person chooses nothing.
        max_duration: the longest the person may choose.
        tags: session tags by key.
        second_factor: whether it is only given to who has proved a second factor recently.
        tag_keys_beside: keys of the session tags of other entitlements of the same role.
    """

    id: str
    name: str
    account: Account
    role_arn: str
    groups: tuple[DirectoryGroup, ...]
    duration: timedelta
    max_duration: timedelta
    uses: tuple[Use, ...]
    scope: Scope
    tags: Mapping[str, Template] = field(default_factory=dict, hash=False)
    transitive_tags: tuple[str, ...] = ()
    second_factor: bool = False
    tag_keys_beside: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        match = _ROLE_ARN.fullmatch(self.role_arn)
        if match is None or match.groups() != (self.account.partition.name, self.account.id):
            raise ValueError("the role is not one of the entitlement's account")
        if not SHORTEST_SESSION <= self.duration <= self.max_duration <= LONGEST_SESSION:
            raise ValueError("durations must satisfy 15 minutes <= duration <= max_duration <= 12 hours")
        object.__setattr__(self, "tags", MappingProxyType(dict(self.tags)))

    @property
    def role_name(self) -> str:
        """The role's name, without its path."""
        return self.role_arn.rsplit("/", 1)[1]

    @property
    def role_tag_keys(self) -> frozenset[str]:
        """The keys that the role's one trust policy has to let through: those of every entitlement of the role."""
        return self.tag_keys_beside.union(self.tags)

    def matching_groups(self, principal: Principal) -> tuple[DirectoryGroup, ...]:
        """The groups through which that person holds the entitlement; empty when they do not."""
        return tuple(group for group in self.groups if principal.is_member_of(group))

    def locations_for(self, principal: Principal) -> tuple[S3Location, ...]:
        """The places in S3 it holds for that person; empty when its scope is not S3.

        Raises:
            AttributeUnusable: an attribute cannot be used in a prefix.
        """
        if not isinstance(self.scope, S3Scope):
            return ()
        return tuple(location.for_principal(principal) for location in self.scope.locations)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All entitlements of one version of the entitlements file, its groups resolved.

    Attributes:
        sha256: of the file's bytes, hexadecimal; the audit holds it with every issuance.
        warnings: what is allowed but deserves a second look.
    """

    entitlements: tuple[Entitlement, ...]
    sha256: str
    warnings: tuple[str, ...] = ()

    def held_by(self, principal: Principal) -> tuple[Entitlement, ...]:
        """The entitlements that person holds, in the file's order."""
        return tuple(item for item in self.entitlements if item.matching_groups(principal))

    def get(self, entitlement_id: str) -> Entitlement:
        """The entitlement of that id.

        Raises:
            EntitlementNotHeld: there is none.
        """
        for item in self.entitlements:
            if item.id == entitlement_id:
                return item
        raise EntitlementNotHeld(entitlement_id, exists=False)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A person's own choice of less.

    Attributes:
        duration: a shorter (or, within ``max_duration``, longer) session; None for the entitlement's own.
        scope: names of places (:attr:`S3Location.name`, or a bucket alone for all its places); empty for all.
        access: at most this; None for what the entitlement gives.
    """

    duration: timedelta | None = None
    scope: tuple[str, ...] = ()
    access: Access | None = None

    @classmethod
    def from_fields(cls, duration: str, scope: Sequence[str], access: str) -> Self:
        """Read the fields of a form; an empty field is no choice.

        Args:
            duration: whole seconds.
            scope: names of places.
            access: one of :class:`Access`.

        Raises:
            DurationNotANumber: ``duration`` is not a whole number of seconds.
            AccessNotEntitled: ``access`` is no kind of access.
        """
        try:
            chosen_access = Access(access) if access else None
        except ValueError:
            raise AccessNotEntitled from None
        return cls(
            duration=_read_seconds(duration),
            scope=tuple(name for name in scope if name),
            access=chosen_access,
        )


_MAKER: Final = object()


@dataclass(frozen=True, slots=True)
class Grant:
    """One authorised use of one entitlement, now. Only :func:`authorize` and :func:`authorize_errand` make one.

    Attributes:
        id: unique; the audit takes one intent for each, so a grant is used once.
        locations: what the session policy is compiled from, narrowed; None when the scope is not S3.
        tags: session tags, filled in.
    """

    id: str
    principal: Principal
    entitlement: Entitlement
    use: Use
    locations: tuple[S3Location, ...] | None
    duration: timedelta
    tags: Mapping[str, str] = field(hash=False)
    authorized_at: datetime
    maker: InitVar[object]

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("only authorize() makes a grant")

    @property
    def role_arn(self) -> str:
        """The role to enter."""
        return self.entitlement.role_arn

    @property
    def saml_provider_arn(self) -> str:
        """What STS calls PrincipalArn."""
        return self.entitlement.account.saml_provider_arn

    @property
    def policy_arns(self) -> tuple[str, ...]:
        """Managed session policies, when the entitlement's scope is made of them."""
        scope = self.entitlement.scope
        return scope.policy_arns if isinstance(scope, ManagedPolicyScope) else ()


def authorize(principal: Principal, entitlement: Entitlement, use: Use, narrowing: Narrowing, now: datetime) -> Grant:
    """Decide whether that person may use that entitlement in this way, now.

    Args:
        principal: fresh from the directory.
        entitlement: from the catalogue in force.
        use: console, terminal or files.
        narrowing: what the person chose; it can only take away, and is refused where it would add.
        now: aware, UTC.

    Raises:
        EntitlementNotHeld: no group of the person gives it.
        UseNotOffered: not in this way.
        DurationTooShort: below what STS grants.
        DurationTooLong: above the entitlement's ``max_duration``.
        NarrowingNeedsS3: scope or access chosen where there is no S3 scope.
        ScopeNotEntitled: a place outside the entitlement.
        AccessNotEntitled: nothing would be left.
        AttributeUnusable: a directory attribute does not fit a prefix or a tag.
    """
    if not entitlement.matching_groups(principal):
        raise EntitlementNotHeld(entitlement.id, exists=True)
    if use not in entitlement.uses:
        raise UseNotOffered(use)
    return Grant(
        id=secrets.token_hex(16),
        principal=principal,
        entitlement=entitlement,
        use=use,
        locations=_narrowed_locations(principal, entitlement, narrowing),
        duration=_narrowed_duration(entitlement, narrowing),
        tags={key: _tag_value(principal, template) for key, template in entitlement.tags.items()},
        authorized_at=now,
        maker=_MAKER,
    )


def authorize_errand(asked_by: Principal, own_role: Entitlement, now: datetime) -> Grant:
    """Let the broker use one of its own roles, because somebody asked for what it needs it for.

    Args:
        asked_by: an administrator, or the broker itself; AWS is told as the source identity.
        own_role: made from ``[own_roles]`` of the settings.
        now: aware, UTC.
    """
    is_errand = isinstance(own_role.scope, RolePoliciesScope | CheckpointScope)
    if own_role.uses != (Use.ERRAND,) or own_role.groups or not is_errand:
        raise ValueError("an errand is done with a role of the broker's own, which nobody holds")
    return Grant(
        id=secrets.token_hex(16),
        principal=asked_by,
        entitlement=own_role,
        use=Use.ERRAND,
        locations=None,
        duration=own_role.duration,
        tags={},
        authorized_at=now,
        maker=_MAKER,
    )


def _read_seconds(text: str) -> timedelta | None:
    if not text:
        return None
    # Ten digits are 300 years: enough for any bound to refuse, and within what a timedelta holds.
    if not re.fullmatch(r"-?[0-9]{1,10}", text):
        raise DurationNotANumber
    return timedelta(seconds=int(text))


def _narrowed_duration(entitlement: Entitlement, narrowing: Narrowing) -> timedelta:
    if narrowing.duration is None:
        return entitlement.duration
    if narrowing.duration < SHORTEST_SESSION:
        raise DurationTooShort(SHORTEST_SESSION)
    if narrowing.duration > entitlement.max_duration:
        raise DurationTooLong(entitlement.max_duration)
    return narrowing.duration


def _narrowed_locations(
    principal: Principal, entitlement: Entitlement, narrowing: Narrowing
) -> tuple[S3Location, ...] | None:
    if not isinstance(entitlement.scope, S3Scope):
        if narrowing.scope or narrowing.access is not None:
            raise NarrowingNeedsS3
        return None
    entitled = entitlement.locations_for(principal)
    chosen = set(narrowing.scope)
    if not chosen <= {name for place in entitled for name in (place.name, place.bucket)}:
        raise ScopeNotEntitled
    kept = tuple(place for place in entitled if not chosen or place.name in chosen or place.bucket in chosen)
    if narrowing.access is None:
        return kept
    met = tuple(
        replace(place, access=access)
        for place in kept
        if (access := lesser_access(place.access, narrowing.access)) is not None
    )
    if not met:
        raise AccessNotEntitled
    return met


def lesser_access(entitled: Access, chosen: Access) -> Access | None:
    """The largest access within both, None when they share no right."""
    shared = entitled.rights & chosen.rights
    fitting = [access for access in Access if access.rights <= shared]
    return max(fitting, key=lambda access: len(access.rights), default=None)


def _single_value(principal: Principal, name: str) -> str:
    values = principal.attributes.get(name, ())
    if len(values) != 1:
        raise AttributeUnusable(name, "it has no value" if not values else "it has several values")
    return values[0]


def _path_segment_value(principal: Principal, name: str) -> str:
    value = _single_value(principal, name)
    if problem := path_segment_problem(value):
        raise AttributeUnusable(name, problem)
    return value


def path_segment_problem(value: str) -> str | None:
    """Why no prefix may hold that value of an attribute; None when it may."""
    if not value.strip():
        return "it is empty"
    if value in _NO_PART:
        return "it is a path of its own ('.' or '..')"
    if "/" in value or not value.isprintable():
        return "it holds a slash or a control character"
    return None


def _tag_value(principal: Principal, template: Template) -> str:
    value = template.fill({name: _single_value(principal, name) for name in template.attributes})
    source = template.attributes[0] if template.attributes else "tags"
    if problem := tag_value_problem(value):
        raise AttributeUnusable(source, problem)
    return value


def tag_value_problem(value: str) -> str | None:
    """Why AWS takes no session tag of that value; None when it does."""
    if len(value) > LONGEST_TAG_VALUE:
        return f"the session tag would be longer than {LONGEST_TAG_VALUE} characters"
    if not is_tag_text(value):
        return "it holds a character that AWS does not take in a session tag"
    return None


def is_tag_text(text: str) -> bool:
    r"""Whether AWS takes it in a session tag: ``[\p{L}\p{Z}\p{N}_.:/=+\-@]*`` (STS API reference, Tag)."""
    return all(character in "_.:/=+-@" or unicodedata.category(character)[0] in "LZN" for character in text)
