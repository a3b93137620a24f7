"""What an operator chooses about the directory, checked on construction. No LDAP library is needed here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import SplitResult, urlsplit

from broker.adapters.directory.distinguished_names import MalformedName, is_below, normalise
from broker.core.errors import Fault, SettingsInvalid

_ATTRIBUTE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*|[0-9]+(\.[0-9]+)+")  # RFC 4512 section 1.4
_PORTS: Final = {"ldap": 389, "ldaps": 636}


class DirectoryKind(StrEnum):
    """Which product's schema is the starting point."""

    ACTIVE_DIRECTORY = "active-directory"
    OPENLDAP = "openldap"


class GroupMembership(StrEnum):
    """How the directory says which groups somebody is in.

    ``token-groups``: Active Directory computes all of them, nested and primary ones included, as SIDs.
    ``member``: groups list DNs (groupOfNames, groupOfUniqueNames); nested groups are searched upwards.
    ``member-of``: people and groups list the DNs of their groups (the memberOf overlay, 389 Directory Server).
    ``member-uid``: groups list usernames, and people have a primary group number (posixGroup); no nesting.
    """

    TOKEN_GROUPS = "token-groups"  # noqa: S105 - the name of an attribute, not a password
    MEMBER = "member"
    MEMBER_OF = "member-of"
    MEMBER_UID = "member-uid"


@dataclass(frozen=True, slots=True)
class DirectorySchema:
    r"""Where things are in an entry.

    Attributes:
        user_filter: which entries are people, RFC 4515.
        group_filter: which entries are groups, RFC 4515.
        login_attributes: what a typed name is compared with; the first is the plain account name, which ``CORP\user``
            and ``user@corp.example`` name too.
        username_attribute: the one that *is* the username: unique, with one value.
        id_attribute: the immutable id: objectGUID, entryUUID or another UUID (nsUniqueId).
        display_name_attribute: for people to read.
        membership: how groups are found.
        member_attribute: of a group, for ``member`` and ``member-uid``.
    """

    user_filter: str
    group_filter: str
    login_attributes: tuple[str, ...]
    username_attribute: str
    id_attribute: str
    display_name_attribute: str
    membership: GroupMembership
    member_attribute: str


PRESETS: Final[Mapping[DirectoryKind, DirectorySchema]] = MappingProxyType(
    {
        DirectoryKind.ACTIVE_DIRECTORY: DirectorySchema(
            # Computers (and managed service accounts) are users too in Active Directory.
            user_filter="(&(objectClass=user)(!(objectClass=computer)))",
            # Security groups (bit 31 of groupType): distribution lists are no rights, and tokenGroups leaves them out.
            group_filter="(&(objectClass=group)(groupType:1.2.840.113556.1.4.803:=2147483648))",
            login_attributes=("sAMAccountName", "userPrincipalName"),
            username_attribute="sAMAccountName",
            id_attribute="objectGUID",
            display_name_attribute="displayName",
            membership=GroupMembership.TOKEN_GROUPS,
            member_attribute="member",
        ),
        DirectoryKind.OPENLDAP: DirectorySchema(
            user_filter="(|(objectClass=person)(objectClass=posixAccount))",
            group_filter="(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))",
            login_attributes=("uid",),
            username_attribute="uid",
            id_attribute="entryUUID",
            display_name_attribute="displayName",
            membership=GroupMembership.MEMBER,
            member_attribute="member",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class DirectoryDomain:
    r"""A domain that typed names may carry.

    Attributes:
        dns_name: as in ``user@corp.example``.
        netbios_name: as in ``CORP\user``; None when nobody types it.
        base: where its people are, at or below a user base; None: under every user base.
    """

    dns_name: str
    netbios_name: str | None = None
    base: str | None = None


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """One directory server.

    Attributes:
        host: name or IP address; the server's certificate has to be made out to it.
        implicit_tls: ``ldaps``; otherwise StartTLS comes before anything else is said.
    """

    host: str
    port: int
    implicit_tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.implicit_tls else 'ldap'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DirectoryConfig:
    """The ``[directory]`` of the settings. A field that is None is the preset's of that kind.

    Attributes:
        servers: ``ldaps://host[:port]``, or ``ldap://`` with ``start_tls``; asked in this order.
        bind_dn: the service account that searches; a DN, or in Active Directory any name that binds.
        user_bases: where people are; a name has to be unique over all of them.
        group_base: where groups are.
        ca_file: PEM bundle that server certificates are verified with; None: the system's. Verification is always on.
        attributes: our name for each LDAP attribute that entitlements may use.
        password_policy: DN of the policy that holds for people without one of their own, OpenLDAP's
            ``ppolicy_default``; None: not known, or Active Directory, where the domain has it.
        connect_timeout: for TCP and TLS together.
        operation_timeout: for the searches of one question, and for one bind.

    Raises:
        SettingsInvalid: with every fault.
    """

    servers: tuple[str, ...]
    bind_dn: str
    user_bases: tuple[str, ...]
    group_base: str
    kind: DirectoryKind
    start_tls: bool = False
    ca_file: Path | None = None
    domains: tuple[DirectoryDomain, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    user_filter: str | None = None
    group_filter: str | None = None
    login_attributes: tuple[str, ...] | None = None
    username_attribute: str | None = None
    id_attribute: str | None = None
    display_name_attribute: str | None = None
    membership: GroupMembership | None = None
    member_attribute: str | None = None
    password_policy: str | None = None
    connect_timeout: timedelta = timedelta(seconds=3)
    operation_timeout: timedelta = timedelta(seconds=5)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
        faults = [
            *self._server_faults(),
            *self._name_faults(),
            *self._policy_faults(),
            *self._attribute_faults(),
            *self._timeout_faults(),
        ]
        if faults:
            raise SettingsInvalid(*faults)

    @property
    def schema(self) -> DirectorySchema:
        """The preset of the kind with the operator's own fields in place."""
        preset = PRESETS[self.kind]
        membership = self.membership or preset.membership
        return DirectorySchema(
            user_filter=self.user_filter or preset.user_filter,
            group_filter=self.group_filter or preset.group_filter,
            login_attributes=self.login_attributes or preset.login_attributes,
            username_attribute=self.username_attribute or preset.username_attribute,
            id_attribute=self.id_attribute or preset.id_attribute,
            display_name_attribute=self.display_name_attribute or preset.display_name_attribute,
            membership=membership,
            member_attribute=self.member_attribute
            or ("memberUid" if membership is GroupMembership.MEMBER_UID else preset.member_attribute),
        )

    @property
    def addresses(self) -> tuple[ServerAddress, ...]:
        """The servers, parsed."""
        return tuple(map(_address, self.servers))

    def _server_faults(self) -> Iterator[Fault]:
        if not self.servers:
            yield Fault("directory.servers", "name at least one server")
        for index, url in enumerate(self.servers):
            place = f"directory.servers[{index}]"
            try:
                address = _address(url)
            except ValueError as error:
                yield Fault(place, str(error))
                continue
            if not address.implicit_tls and not self.start_tls:
                yield Fault(place, f"{url} would send passwords in the clear: write ldaps:// or set start_tls")
            if address.implicit_tls and self.start_tls:
                yield Fault(place, f"{url} has TLS from the start: write ldap:// or drop start_tls")

    def _name_faults(self) -> Iterator[Fault]:
        if not self.bind_dn.strip():
            yield Fault("directory.bind_dn", "name the service account: the broker never searches anonymously")
        if not self.user_bases:
            yield Fault("directory.user_bases", "name at least one base")
        bases = [(f"directory.user_bases[{index}]", base) for index, base in enumerate(self.user_bases)]
        bases.append(("directory.group_base", self.group_base))
        for index, domain in enumerate(self.domains):
            place = f"directory.domains[{index}]"
            if domain.base is not None:
                bases.append((f"{place}.base", domain.base))
            if not domain.dns_name or "@" in domain.dns_name:
                yield Fault(f"{place}.name", "write the domain as it stands after the @, e.g. corp.example")
            if domain.netbios_name is not None and (not domain.netbios_name or "\\" in domain.netbios_name):
                yield Fault(f"{place}.netbios", "write the domain as it stands before the backslash, e.g. CORP")
        malformed = [*_malformed(bases)]
        yield from malformed
        for index, domain in () if malformed else enumerate(self.domains):
            if domain.base is not None and not any(is_below(domain.base, base) for base in self.user_bases):
                # People are looked for again at each issuance, and told apart from others, below the user bases.
                yield Fault(
                    f"directory.domains[{index}].base", f"{domain.base} is below none of directory.user_bases: add it"
                )

    def _policy_faults(self) -> Iterator[Fault]:
        if self.password_policy is None:
            return
        yield from _malformed([("directory.password_policy", self.password_policy)])
        if self.kind is DirectoryKind.ACTIVE_DIRECTORY:
            yield Fault("directory.password_policy", "Active Directory's domain says it: leave this setting out")

    def _attribute_faults(self) -> Iterator[Fault]:
        schema = self.schema
        names = {
            **{f"directory.login_attributes[{index}]": name for index, name in enumerate(schema.login_attributes)},
            "directory.username_attribute": schema.username_attribute,
            "directory.id_attribute": schema.id_attribute,
            "directory.display_name_attribute": schema.display_name_attribute,
            "directory.member_attribute": schema.member_attribute,
            **{f"attributes.{ours}": theirs for ours, theirs in self.attributes.items()},
        }
        for place, name in names.items():
            if not _ATTRIBUTE_NAME.fullmatch(name):
                yield Fault(place, f"{name!r} is not the name of an LDAP attribute")
        if schema.membership is GroupMembership.TOKEN_GROUPS and self.kind is not DirectoryKind.ACTIVE_DIRECTORY:
            yield Fault("directory.membership", "token-groups exists in Active Directory only")

    def _timeout_faults(self) -> Iterator[Fault]:
        for name in ("connect_timeout", "operation_timeout"):
            if getattr(self, name) <= timedelta(0):
                yield Fault(f"directory.{name}", "has to be above zero")


def _malformed(names: Iterable[tuple[str, str]]) -> Iterator[Fault]:
    for place, name in names:
        try:
            normalise(name)
        except MalformedName as error:
            yield Fault(place, str(error))


def _address(url: str) -> ServerAddress:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not an address: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname or _says_more_than_a_host(parts):
        raise ValueError(f"{url!r} is not an address like ldaps://dc1.corp.example")
    return ServerAddress(parts.hostname, port or _PORTS[parts.scheme], implicit_tls=parts.scheme == "ldaps")


def _says_more_than_a_host(parts: SplitResult) -> bool:
    return bool(parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password)
