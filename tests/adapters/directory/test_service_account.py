"""What the service account has to be allowed in Active Directory: the README's first step, on a hardened domain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import DirectoryUnavailable, LoginCause, PrincipalGone
from broker.core.principal import Principal
from broker.core.throttle import LockoutPolicy
from tests.adapters.directory import domain
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.samba import Samba
from tests.adapters.directory.test_active_directory import directory_on

_EVERYBODY = f"CN=S-1-5-11,CN=ForeignSecurityPrincipals,{domain.BASE}"
_PRE_WINDOWS_2000 = f"CN=Pre-Windows 2000 Compatible Access,CN=Builtin,{domain.BASE}"
_PASSWORD_SETTINGS = f"CN=Password Settings Container,CN=System,{domain.BASE}"
# As dsacls of the README writes them: read property (RP) of what a GUID names, of entries below (CIIO) that are people.
# [MS-ADTS] 5.1.3.2.1 (property sets), [MS-ADA3] tokenGroups, [MS-ADA2] msDS-ResultantPSO, [MS-ADSC] user.
_PEOPLE = "bf967aba-0de6-11d0-a285-00aa003049e2"
_ACCOUNT_RESTRICTIONS = f"(OA;CIIO;RP;4c164200-20c0-11d0-a768-00aa006e0529;{_PEOPLE}"
_TOKEN_GROUPS = f"(OA;CIIO;RP;b7c69e6d-2cc7-11d2-854e-00a0c983f608;{_PEOPLE}"
_RESULTANT_PSO = f"(OA;CIIO;RP;b77ea093-88d0-4780-9a98-911f8e8b1dca;{_PEOPLE}"
_READ_ALL = "(A;CI;GR;;"


@pytest.fixture(scope="module")
def hardened(
    provisioned_domain: Path, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Samba]:
    """A domain in which reading everything about everybody was taken from everybody, as hardening guides ask."""
    controller = Samba(provisioned_domain, tmp_path_factory.mktemp("hardened") / "dc", authority)
    controller.modify(f"dn: {_PRE_WINDOWS_2000}\nchangetype: modify\ndelete: member\nmember: {_EVERYBODY}\n")
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture
def directory(hardened: Samba) -> Iterator[LdapDirectory]:
    directory = directory_on(hardened, attributes={})
    yield directory
    directory.close()


def signed_in(directory: LdapDirectory, username: str) -> Principal:
    return authenticate(directory, username, Secret(domain.password_of(username)))


def test_where_the_state_of_accounts_may_not_be_read_nobody_is_let_in_and_the_log_says_what_is_missing(
    directory: LdapDirectory,
) -> None:
    with pytest.raises(DirectoryUnavailable, match="let it read the property set 'Account Restrictions' of people"):
        signed_in(directory, "alice")


def test_where_groups_may_not_be_read_it_is_said_which_attribute(hardened: Samba, directory: LdapDirectory) -> None:
    hardened.allow(domain.PEOPLE, _ACCOUNT_RESTRICTIONS)
    with pytest.raises(DirectoryUnavailable, match="may not read tokenGroups"):
        signed_in(directory, "alice")


def test_with_what_the_readme_allows_everything_is_seen(hardened: Samba, directory: LdapDirectory) -> None:
    hardened.allow(domain.PEOPLE, _ACCOUNT_RESTRICTIONS, _TOKEN_GROUPS, _RESULTANT_PSO)
    hardened.allow(_PASSWORD_SETTINGS, _READ_ALL)

    alice = signed_in(directory, "alice")
    assert {"Domain Users", "Engineers", "Staff"} <= {group.name for group in alice.groups}
    assert directory.find("director").lockout == LockoutPolicy(
        domain.EXECUTIVES_THRESHOLD,
        directory.find("guarded").lockout.window,  # type: ignore[union-attr]  # it has one
    )
    leaver = signed_in(directory, "leaver")
    changes = {
        "userAccountControl": ("514", "512", LoginCause.DISABLED),
        "accountExpires": (domain.LONG_AGO, "0", LoginCause.ACCOUNT_EXPIRED),
        "pwdLastSet": ("0", "-1", LoginCause.MUST_CHANGE_PASSWORD),
    }
    for attribute, (value, before, cause) in changes.items():
        for written in (value, before):
            hardened.modify(
                f"dn: {domain.person_dn('leaver')}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {written}\n"
            )
            if written == value:
                with pytest.raises(PrincipalGone) as gone:
                    directory.principal_by_id(leaver.id)
                assert gone.value.cause is cause
        assert directory.principal_by_id(leaver.id).username == "leaver"
