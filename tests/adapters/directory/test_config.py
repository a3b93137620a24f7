"""What an operator may write about the directory."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.directory.config import (
    DirectoryConfig,
    DirectoryDomain,
    DirectoryKind,
    GroupMembership,
    ServerAddress,
)
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import SettingsInvalid

GOOD: dict[str, Any] = {
    "servers": ("ldaps://dc1.corp.example",),
    "bind_dn": "CN=broker,DC=corp,DC=example",
    "user_bases": ("OU=People,DC=corp,DC=example",),
    "group_base": "OU=Groups,DC=corp,DC=example",
    "kind": DirectoryKind.ACTIVE_DIRECTORY,
}


def places(**changes: object) -> list[str]:
    with pytest.raises(SettingsInvalid) as refused:
        DirectoryConfig(**{**GOOD, **changes})
    return [fault.place for fault in refused.value.faults]


def test_servers_are_parsed_with_their_default_ports() -> None:
    config = DirectoryConfig(**{**GOOD, "servers": ("ldaps://dc1.corp.example", "ldaps://[::1]:1636/")})
    assert config.addresses == (
        ServerAddress("dc1.corp.example", 636, implicit_tls=True),
        ServerAddress("::1", 1636, implicit_tls=True),
    )
    assert list(map(str, config.addresses)) == ["ldaps://dc1.corp.example:636", "ldaps://[::1]:1636"]
    plain = DirectoryConfig(**{**GOOD, "servers": ("ldap://dc1.corp.example",), "start_tls": True})
    assert plain.addresses == (ServerAddress("dc1.corp.example", 389, implicit_tls=False),)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "dc1.corp.example"])
def test_plain_ldap_without_starttls_is_refused_for_every_host(host: str) -> None:
    assert places(servers=(f"ldap://{host}",)) == ["directory.servers[0]"]


def test_starttls_on_an_ldaps_address_is_refused() -> None:
    assert places(start_tls=True) == ["directory.servers[0]"]


@pytest.mark.parametrize(
    "url",
    [
        "dc1.corp.example",
        "https://dc1.corp.example",
        "ldaps://",
        "ldaps://dc1:port",
        "ldaps://dc1/dc=corp",
        "ldaps://admin:secret@dc1",
        "ldaps://dc1?x",
        "ldaps://[::1",
    ],
)
def test_what_is_no_ldap_address_is_refused(url: str) -> None:
    assert places(servers=(url,)) == ["directory.servers[0]"]


def test_every_fault_is_reported_with_its_place() -> None:
    assert places(
        servers=("ldap://a", "ldaps://b", "c"),
        bind_dn=" ",
        user_bases=("OU=People,DC=corp,DC=example", "people"),
        group_base="",
        domains=(DirectoryDomain("@corp.example", "CORP\\", "nowhere"), DirectoryDomain("")),
        attributes={"mail": "e-mail!", "id": "objectGUID)(x"},
        login_attributes=("uid", "*"),
        connect_timeout=timedelta(0),
    ) == [
        "directory.servers[0]",
        "directory.servers[2]",
        "directory.bind_dn",
        "directory.domains[0].name",
        "directory.domains[0].netbios",
        "directory.domains[1].name",
        "directory.user_bases[1]",
        "directory.group_base",
        "directory.domains[0].base",
        "directory.login_attributes[1]",
        "attributes.mail",
        "attributes.id",
        "directory.connect_timeout",
    ]


def test_no_server_and_no_base_are_faults() -> None:
    assert places(servers=(), user_bases=()) == ["directory.servers", "directory.user_bases"]


def test_token_groups_are_refused_outside_active_directory() -> None:
    assert places(kind=DirectoryKind.OPENLDAP, membership=GroupMembership.TOKEN_GROUPS) == ["directory.membership"]


def test_a_single_field_overrides_the_preset() -> None:
    schema = DirectoryConfig(**{**GOOD, "login_attributes": ("sAMAccountName", "mail")}).schema
    assert schema.login_attributes == ("sAMAccountName", "mail")
    assert schema.id_attribute == "objectGUID"
    posix = DirectoryConfig(**{**GOOD, "kind": DirectoryKind.OPENLDAP, "membership": GroupMembership.MEMBER_UID})
    assert posix.schema.member_attribute == "memberUid"


def test_filters_ca_file_and_bind_password_are_checked_when_the_adapter_is_made(tmp_path: Path) -> None:
    broken = DirectoryConfig(**{**GOOD, "user_filter": "(objectClass=user", "group_filter": "cn=x"})
    with pytest.raises(SettingsInvalid) as refused:
        LdapDirectory(broken, Secret(""))
    assert [fault.place for fault in refused.value.faults] == [
        "directory.bind_password_file",
        "directory.user_filter",
        "directory.group_filter",
    ]
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for ca_file in (tmp_path / "missing.pem", empty):
        with pytest.raises(SettingsInvalid, match=r"directory\.ca_file"):
            LdapDirectory(DirectoryConfig(**{**GOOD, "ca_file": ca_file}), Secret("x"))
