"""The port's contract: LDAP of three kinds, and the directory in memory that other tests use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import LoginCause
from broker.core.principal import DirectoryGroup, Principal
from tests.adapters.directory import company, domain
from tests.adapters.directory.contract import DirectoryContract, KnownDirectory
from tests.adapters.directory.embedded import Embedded
from tests.adapters.directory.programs import free_port
from tests.adapters.directory.samba import Samba
from tests.fakes import MemoryDirectory, Person


def both(config: DirectoryConfig, password: str) -> tuple[LdapDirectory, LdapDirectory]:
    """An adapter, and one whose server is not there."""
    nowhere = replace(config, servers=(f"ldaps://127.0.0.1:{free_port()}",))
    return LdapDirectory(config, Secret(password)), LdapDirectory(nowhere, Secret(password))


class TestOpenLdap(DirectoryContract):
    @pytest.fixture
    def known(self, config: DirectoryConfig) -> Iterator[KnownDirectory]:
        directory, down = both(config, company.SERVICE_PASSWORD)
        yield KnownDirectory(
            directory,
            down,
            username="bruno",
            password=company.password_of("bruno"),
            own_group="staff",
            other_group="shell",
            refused_username="reset",
            refused_password=company.password_of("reset"),
            refused_cause=LoginCause.MUST_CHANGE_PASSWORD,
        )
        directory.close()


class TestActiveDirectory(DirectoryContract):
    @pytest.fixture(params=["samba", "embedded"])
    def known(self, request: pytest.FixtureRequest) -> Iterator[KnownDirectory]:
        controller: Samba | Embedded = request.getfixturevalue(request.param)
        config = DirectoryConfig(
            servers=(controller.ldaps,),
            bind_dn=domain.SERVICE_DN,
            user_bases=(domain.PEOPLE,),
            group_base=domain.GROUPS,
            kind=DirectoryKind.ACTIVE_DIRECTORY,
            ca_file=controller.ca_file,
        )
        directory, down = both(config, domain.SERVICE_PASSWORD)
        yield KnownDirectory(
            directory,
            down,
            username="bruno",
            password=domain.password_of("bruno"),
            own_group="Staff",
            other_group=domain.HOSTILE_GROUP,
            refused_username="disabled",
            refused_password=domain.password_of("disabled"),
            refused_cause=LoginCause.DISABLED,
        )
        directory.close()


class TestMemory(DirectoryContract):
    @pytest.fixture
    def known(self) -> KnownDirectory:
        staff = DirectoryGroup("cn=staff,dc=corp,dc=example", "staff")
        finance = DirectoryGroup("cn=finance,dc=corp,dc=example", "finance")
        people = [
            Person(Principal("B" * 26, "bruno", "Bruno", frozenset({staff})), "bruno's"),
            Person(Principal("C" * 26, "carla", "Carla"), "carla's", LoginCause.DISABLED),
        ]
        return KnownDirectory(
            MemoryDirectory(people, [staff, finance]),
            MemoryDirectory(people, [staff, finance], down=True),
            username="bruno",
            password="bruno's",
            own_group="staff",
            other_group="finance",
            refused_username="carla",
            refused_password="carla's",
            refused_cause=LoginCause.DISABLED,
        )
