"""Two Samba domain controllers of one domain, one of which dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import DirectoryUnavailable, LoginCause, LoginRejected
from tests.adapters.directory import domain
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.samba import Samba


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
