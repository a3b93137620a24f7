"""The directory, composed from the settings: one domain, or several with servers of their own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.adapters.directory.several_domains import SeveralDomains
from broker.core.errors import GroupNotResolved, LoginCause, LoginRejected, SettingsInvalid
from broker.core.findings import Finding, FindingState
from broker.core.principal import DirectoryGroup
from broker.directory import KeptGroups, diagnose_directory, directory_of
from broker.settings import DomainSettings, Settings, load_settings
from tests.adapters.directory import company
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.conftest import authority, slapd
from tests.adapters.directory.slapd import Slapd
from tests.deploy.processes import DEPLOY

__all__ = ["authority", "slapd"]


@pytest.fixture
def settings(tmp_path: Path, slapd: Slapd, authority: Authority) -> Settings:
    """The example, over one OpenLDAP: its contractors stand for another domain."""
    secret = tmp_path / "bind-password"
    secret.write_text(company.SERVICE_PASSWORD)
    secret.chmod(0o600)
    (tmp_path / "entitlements.toml").write_text("")
    loaded = load_settings(DEPLOY / "broker.toml", {})
    directory = replace(
        loaded.directory,
        kind="openldap",
        servers=(slapd.tls_url,),
        ca_file=authority.certificate,
        bind_dn=company.SERVICE_DN,
        bind_password_file=secret,
        user_bases=(company.PEOPLE,),
        group_base=company.GROUPS,
        domains=(
            DomainSettings(name="corp.example", netbios="CORP"),
            DomainSettings(
                name="temp.example",
                netbios="TEMP",
                base=company.CONTRACTORS,
                group_base=company.GROUPS,
                servers=(slapd.tls_url,),
            ),
        ),
    )
    administration = replace(loaded.administration, administrators="staff", auditors="no such group")
    entitlements = tmp_path / "entitlements.toml"
    return replace(loaded, directory=directory, administration=administration, entitlements=entitlements)


def findings(settings: Settings, username: str | None) -> list[Finding]:
    # The empty file of the entitlements has its own tests.
    return [one for one in diagnose_directory(settings, username) if "[[entitlement]]" not in one.what]


def test_a_domain_without_servers_of_its_own_is_one_of_the_same_directory(settings: Settings) -> None:
    shared = replace(settings, directory=replace(settings.directory, domains=(DomainSettings(name="corp.example"),)))
    assert isinstance(directory_of(shared), LdapDirectory)


def test_a_domain_with_servers_of_its_own_is_asked_besides(settings: Settings) -> None:
    directory = directory_of(settings)
    assert isinstance(directory, SeveralDomains)
    assert directory.principal_by_username("alice").username == "alice"
    with pytest.raises(LoginRejected) as refused:
        directory.principal_by_username("TEMP\\twice")
    assert refused.value.cause is LoginCause.AMBIGUOUS_USERNAME
    directory.close()


def test_every_fault_of_every_domain_is_said_with_its_place(settings: Settings) -> None:
    wrong = replace(settings.directory, bind_dn=" ", user_bases=("no dn",))
    with pytest.raises(SettingsInvalid) as caught:
        directory_of(replace(settings, directory=wrong))
    places = [fault.place for fault in caught.value.faults]
    assert places == ["directory.bind_dn", "directory.user_bases[0]", "directory.domains[1]: directory.bind_dn"]


def test_the_doctor_looks_at_each_domain_and_for_groups_in_all_of_them(settings: Settings) -> None:
    found = findings(settings, "alice")
    failed = [one for one in found if one.state is FindingState.FAILED]
    assert [(one.subject, one.what) for one in failed] == [
        ("all domains", "no group 'no such group' under the group base")
    ]
    said = "\n".join(one.what for one in found)
    assert "'alice' is found" in said
    assert "'alice' is nobody of this domain" in said
    assert "1 of 2 configured group(s) are there" in said


def test_the_doctor_says_of_a_person_of_no_domain_and_of_two(settings: Settings) -> None:
    for username, cause in (("nobody", "unknown-username"), ("twice", "ambiguous-username")):
        (failed,) = [one for one in findings(settings, username) if one.state is FindingState.FAILED][-1:]
        assert failed.what == f"{username!r} cannot sign in: {cause}"


def test_a_domain_that_does_not_answer_is_the_reason_for_all(settings: Settings) -> None:
    nowhere = DomainSettings(name="temp.example", base=company.CONTRACTORS, servers=("ldaps://127.0.0.1:1",))
    down = replace(settings, directory=replace(settings.directory, domains=(nowhere,)))
    last = findings(down, "alice")[-1]
    assert (last.subject, last.state) == ("all domains", FindingState.FAILED)
    assert "Connection refused" in last.what


def test_a_group_of_the_settings_is_looked_up_now_and_then_and_one_that_is_missing_each_time() -> None:
    asked: list[str] = []

    def resolve(name: str) -> DirectoryGroup:
        asked.append(name)
        if name == "missing":
            raise GroupNotResolved(name, 0)
        return DirectoryGroup(f"cn={name}", name)

    groups = KeptGroups(resolve)
    for _ in range(3):
        assert groups("staff").name == "staff"
        with pytest.raises(GroupNotResolved):
            groups("missing")
    assert asked == ["staff", "missing", "missing", "missing"]
    for_no_time = KeptGroups(resolve, keep_for=timedelta())
    assert [for_no_time("staff").name for _ in range(2)] == ["staff"] * 2
    assert asked[4:] == ["staff"] * 2
