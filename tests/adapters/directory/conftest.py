"""Servers that the directory tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from tests.adapters.directory import company
from tests.adapters.directory import samba as samba_controller
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.embedded import Embedded, running_embedded
from tests.adapters.directory.samba import Samba
from tests.adapters.directory.slapd import Slapd

MakeSlapd = Callable[..., Slapd]
MakeDirectory = Callable[..., LdapDirectory]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def slapd(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Slapd]:
    """A server that all tests share: they leave it as they found it, but for people of their own."""
    server = Slapd(
        tmp_path_factory.mktemp("slapd"),
        authority.issue("127.0.0.1", "localhost"),
        company.ldif(),
        service_dn=company.SERVICE_DN,
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_slapd(tmp_path: Path, authority: Authority) -> Iterator[MakeSlapd]:
    """Servers of a test's own, which it may stop and start."""
    servers: list[Slapd] = []

    def make(*, size_limit: str = "unlimited", people: int = 0, groups: int = 0, hidden: tuple[str, ...] = ()) -> Slapd:
        server = Slapd(
            tmp_path / f"slapd-{len(servers)}",
            authority.issue("127.0.0.1"),
            company.ldif() + company.crowd(people, groups),
            service_dn=company.SERVICE_DN,
            size_limit=size_limit,
            hidden=hidden,
        )
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def provisioned_domain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a provisioned Samba domain, to run controllers on copies of."""
    folder = tmp_path_factory.mktemp("domain") / "provisioned"
    samba_controller.provision(folder)
    return folder


@pytest.fixture(scope="session")
def samba(provisioned_domain: Path, tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Samba]:
    """A domain controller that all tests share: they leave it as they found it, but for people of their own."""
    controller = Samba(provisioned_domain, tmp_path_factory.mktemp("samba") / "dc", authority)
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with running_embedded(tmp_path_factory.mktemp("embedded") / "directory") as running:
        yield running


@pytest.fixture(scope="session")
def config(slapd: Slapd, authority: Authority) -> DirectoryConfig:
    return DirectoryConfig(
        servers=(slapd.tls_url,),
        bind_dn=company.SERVICE_DN,
        user_bases=(company.PEOPLE,),
        group_base=company.GROUPS,
        kind=DirectoryKind.OPENLDAP,
        ca_file=authority.certificate,
        attributes={"mail": "mail", "kind": "employeeType"},
    )


@pytest.fixture
def make_directory(config: DirectoryConfig) -> Iterator[MakeDirectory]:
    """Adapters on the OpenLDAP of the tests, with some settings changed."""
    made: list[LdapDirectory] = []

    def make(*, password: str = company.SERVICE_PASSWORD, **changes: Any) -> LdapDirectory:
        directory = LdapDirectory(replace(config, **changes), Secret(password))
        made.append(directory)
        return directory

    yield make
    for directory in made:
        directory.close()


@pytest.fixture
def directory(make_directory: MakeDirectory) -> LdapDirectory:
    return make_directory()
