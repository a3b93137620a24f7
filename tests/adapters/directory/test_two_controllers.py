"""Samba domain controllers of a test's own: two of one domain, one of which dies; and one with 10,000 people."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import DirectoryUnavailable, LoginCause, LoginRejected
from tests.adapters.directory import domain
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.samba import Samba
from tests.adapters.directory.test_active_directory import directory_on

PEOPLE: Final = 10_000


@pytest.fixture
def controllers(provisioned_domain: Path, tmp_path: Path, authority: Authority) -> Iterator[tuple[Samba, Samba]]:
    first = Samba(provisioned_domain, tmp_path / "first", authority)
    first.start()
    second = Samba(provisioned_domain, tmp_path / "second", authority)
    second.start()
    yield first, second
    first.stop()
    second.stop()


def test_a_controller_that_dies_is_left_for_the_other_and_counts_no_password_twice(
    controllers: tuple[Samba, Samba], authority: Authority
) -> None:
    first, second = controllers
    directory = LdapDirectory(
        DirectoryConfig(
            servers=(first.ldaps, second.ldaps),
            bind_dn=domain.SERVICE_DN,
            user_bases=(domain.PEOPLE,),
            group_base=domain.GROUPS,
            kind=DirectoryKind.ACTIVE_DIRECTORY,
            ca_file=authority.certificate,
        ),
        Secret(domain.SERVICE_PASSWORD),
    )
    password = Secret(domain.password_of("bruno"))
    before = authenticate(directory, "bruno", password)
    # One less than the threshold on the first; had the second been asked as well, one more there would lock.
    for _ in range(domain.LOCKOUT_THRESHOLD - 1):
        with pytest.raises(LoginRejected):
            authenticate(directory, "bruno", Secret("wrong"))
    first.stop()
    with pytest.raises(LoginRejected) as refused:
        authenticate(directory, "bruno", Secret("wrong"))
    assert refused.value.cause is LoginCause.WRONG_PASSWORD
    after = authenticate(directory, "bruno", password)
    assert after == before
    assert directory.principal_by_id(before.id) == before
    second.stop()
    with pytest.raises(DirectoryUnavailable) as down:
        authenticate(directory, "bruno", password)
    assert first.ldaps in str(down.value)
    assert second.ldaps in str(down.value)
    directory.close()


@pytest.fixture
def crowded(provisioned_domain: Path, tmp_path: Path, authority: Authority) -> Iterator[Samba]:
    controller = Samba(provisioned_domain, tmp_path / "crowded", authority)
    controller.add_crowd("carla", PEOPLE, "Engineers")
    controller.start()
    yield controller
    controller.stop()
    shutil.rmtree(tmp_path / "crowded")  # a quarter of a gigabyte


def test_ten_thousand_people_in_groups_five_deep_with_a_cycle_sign_in_fast(crowded: Samba) -> None:
    directory = directory_on(crowded)
    # The first to ask waits for the names of the groups, which are then kept.
    nested = {"Engineers", "Platform", "Technology", "Staff", "Everyone Else", "Domain Users"}
    people = [
        authenticate(directory, f"person-{number}", Secret(domain.password_of("carla")))
        for number in (0, PEOPLE // 2, PEOPLE - 1)
    ]
    assert [{group.name for group in person.groups} & nested for person in people] == [nested] * 3
    assert len({person.id for person in people}) == len({person.role_session_name for person in people}) == 3
    started = time.monotonic()
    for number in range(0, PEOPLE, PEOPLE // 20):
        person = authenticate(directory, f"CORP\\person-{number}", Secret(domain.password_of("carla")))
        assert directory.principal_by_id(person.id) == person
        assert person.is_member_of(directory.group("Staff"))
    took = (time.monotonic() - started) / 20
    assert took < 0.5, f"a sign-in with an issuance took {took:.2f} s"
    with pytest.raises(LoginRejected):
        authenticate(directory, f"person-{PEOPLE}", Secret(domain.password_of("carla")))
    directory.close()
