"""Sign-in against a real 389 Directory Server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from broker.adapters.directory.config import DirectoryConfig, DirectoryKind, GroupMembership
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import LoginCause, LoginRejected, PrincipalGone
from broker.core.principal import PRINCIPAL_ID
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.company import GROUPS, NESTED, PEOPLE, SERVICE_DN, SERVICE_PASSWORD, entry, password_of
from tests.adapters.directory.contract import DirectoryContract, KnownDirectory, authenticate
from tests.adapters.directory.ds389 import DirectoryServer389
from tests.adapters.directory.programs import free_port
from tests.adapters.directory.slapd import SUFFIX

LOCKOUT_THRESHOLD: Final = 3
PLAIN_PEOPLE: Final = (
    "alice",
    "bruno",
    "carla",
    "lockable",
    "typist",
    "renamed",
    "leaver",
    "reset",
    "expired",
    "inactive",
)


def _people() -> Iterator[str]:
    yield entry(SUFFIX, objectClass=("domain",), dc="corp")
    for unit in ("people", "groups", "services"):
        yield entry(f"ou={unit},{SUFFIX}", objectClass="organizationalUnit", ou=unit)
    yield entry(
        SERVICE_DN,
        objectClass=("applicationProcess", "simpleSecurityObject"),
        cn="broker",
        userPassword=SERVICE_PASSWORD,
    )
    for username in PLAIN_PEOPLE:
        yield entry(
            f"uid={username},{PEOPLE}",
            objectClass="inetOrgPerson",
            uid=username,
            cn=username,
            sn="Example",
            displayName=f"{username.title()} Example",
            userPassword=password_of(username),
        )
    for name in (*NESTED, "other"):
        yield entry(f"cn={name},{GROUPS}", objectClass="groupOfNames", cn=name)


def _changes() -> Iterator[str]:
    # Members after the groups: the plug-in follows them as they come, the cycle included.
    for name, (people, groups) in NESTED.items():
        members = [f"uid={person},{PEOPLE}" for person in people] + [f"cn={group},{GROUPS}" for group in groups]
        lines = "".join(f"member: {dn}\n" for dn in members)
        yield f"dn: cn={name},{GROUPS}\nchangetype: modify\nadd: member\n{lines}\n"
    read = f'(version 3.0; acl "broker"; allow (read, search, compare) userdn = "ldap:///{SERVICE_DN}";)'
    yield f'dn: {SUFFIX}\nchangetype: modify\nadd: aci\naci: (targetattr != "userPassword"){read}\n\n'
    yield (
        "dn: cn=config\nchangetype: modify\n"
        "replace: passwordLockout\npasswordLockout: on\n-\n"
        f"replace: passwordMaxFailure\npasswordMaxFailure: {LOCKOUT_THRESHOLD}\n-\n"
        "replace: passwordMustChange\npasswordMustChange: on\n-\n"
        "replace: passwordExp\npasswordExp: on\n\n"
    )
    # The manager's own change of a password is a reset.
    yield _change("reset", "userPassword", password_of("reset"))
    yield _change("expired", "passwordExpirationTime", "20200101000000Z")
    yield _change("inactive", "nsAccountLock", "true")


def _change(username: str, attribute: str, value: str) -> str:
    return f"dn: uid={username},{PEOPLE}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n\n"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[DirectoryServer389]:
    server = DirectoryServer389(tmp_path_factory.mktemp("389") / "server", authority)
    server.start()
    try:
        server.modify("".join(_people()) + "".join(_changes()))
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def config(server: DirectoryServer389, authority: Authority) -> DirectoryConfig:
    """The settings that deploy/settings.md names for 389 Directory Server."""
    return DirectoryConfig(
        servers=(server.tls_url,),
        bind_dn=SERVICE_DN,
        user_bases=(PEOPLE,),
        group_base=GROUPS,
        kind=DirectoryKind.OPENLDAP,
        ca_file=authority.certificate,
        id_attribute="nsUniqueId",
        membership=GroupMembership.MEMBER_OF,
    )


@pytest.fixture(scope="session")
def directory(config: DirectoryConfig) -> Iterator[LdapDirectory]:
    directory = LdapDirectory(config, Secret(SERVICE_PASSWORD))
    yield directory
    directory.close()


def sign_in(directory: LdapDirectory, username: str, password: str | None = None) -> LoginRejected:
    with pytest.raises(LoginRejected) as refused:
        authenticate(directory, username, Secret(password_of(username) if password is None else password))
    return refused.value


class TestContract(DirectoryContract):
    @pytest.fixture
    def known(self, config: DirectoryConfig, directory: LdapDirectory) -> KnownDirectory:
        nowhere = replace(config, servers=(f"ldaps://127.0.0.1:{free_port()}",))
        return KnownDirectory(
            directory,
            LdapDirectory(nowhere, Secret(SERVICE_PASSWORD)),
            username="bruno",
            password=password_of("bruno"),
            own_group="staff",
            other_group="other",
            refused_username="reset",
            refused_password=password_of("reset"),
            refused_cause=LoginCause.MUST_CHANGE_PASSWORD,
        )


def test_nested_groups_are_found_five_deep_and_a_cycle_ends(directory: LdapDirectory) -> None:
    person = authenticate(directory, "alice", Secret(password_of("alice")))
    assert {group.name for group in person.groups} == {"engineers", "platform", "technology", "staff", "everyone"}


def test_groups_that_list_their_members_are_found_too(config: DirectoryConfig, directory: LdapDirectory) -> None:
    by_member = LdapDirectory(replace(config, membership=GroupMembership.MEMBER), Secret(SERVICE_PASSWORD))
    for username in ("alice", "bruno", "carla"):
        assert by_member.principal_by_username(username) == directory.principal_by_username(username)
    by_member.close()


def test_starttls_signs_in_too(config: DirectoryConfig, server: DirectoryServer389) -> None:
    starttls = LdapDirectory(replace(config, servers=(server.url,), start_tls=True), Secret(SERVICE_PASSWORD))
    assert authenticate(starttls, "alice", Secret(password_of("alice"))).username == "alice"
    starttls.close()


def test_the_id_is_the_unique_id_and_outlives_a_rename(directory: LdapDirectory, server: DirectoryServer389) -> None:
    before = authenticate(directory, "renamed", Secret(password_of("renamed")))
    assert PRINCIPAL_ID.fullmatch(before.id)
    server.modify(f"dn: uid=renamed,{PEOPLE}\nchangetype: modrdn\nnewrdn: uid=married\ndeleteoldrdn: 1\n")
    after = directory.principal_by_id(before.id)
    assert (after.id, after.username) == (before.id, "married")


def test_the_entry_uuid_is_an_id_too_where_the_server_keeps_one(config: DirectoryConfig) -> None:
    by_uuid = LdapDirectory(replace(config, id_attribute="entryUUID"), Secret(SERVICE_PASSWORD))
    person = authenticate(by_uuid, "alice", Secret(password_of("alice")))
    assert by_uuid.principal_by_id(person.id) == person
    by_uuid.close()


def test_an_expired_password_is_refused(directory: LdapDirectory) -> None:
    refused = sign_in(directory, "expired")
    assert (refused.cause, refused.detail) == (LoginCause.PASSWORD_EXPIRED, "password policy 0")


def test_an_account_that_is_locked_for_good_is_refused_and_seen_without_a_password(
    directory: LdapDirectory, server: DirectoryServer389
) -> None:
    # 389 Directory Server says so whatever the password is, so a person must not be told.
    assert sign_in(directory, "inactive").cause is LoginCause.LOCKED
    assert sign_in(directory, "inactive", "wrong").cause is LoginCause.LOCKED
    person = authenticate(directory, "leaver", Secret(password_of("leaver")))
    server.modify(_change("leaver", "nsAccountLock", "true"))
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(person.id)
    assert gone.value.cause is LoginCause.DISABLED
    server.modify(_change("leaver", "nsAccountLock", "false"))
    assert directory.principal_by_id(person.id) == person


def test_wrong_passwords_lock_the_account_and_the_broker_sees_it_without_a_password(
    config: DirectoryConfig, directory: LdapDirectory
) -> None:
    person = authenticate(directory, "lockable", Secret(password_of("lockable")))
    for _ in range(LOCKOUT_THRESHOLD - 1):
        assert sign_in(directory, "lockable", "wrong").cause is LoginCause.WRONG_PASSWORD
    assert directory.principal_by_id(person.id) == person
    sign_in(directory, "lockable", "wrong")
    assert sign_in(directory, "lockable").cause is LoginCause.LOCKED
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(person.id)
    assert gone.value.cause is LoginCause.LOCKED
    tomorrow = LdapDirectory(config, Secret(SERVICE_PASSWORD), clock=lambda: datetime.now(UTC) + timedelta(days=1))
    assert tomorrow.principal_by_id(person.id) == person
    tomorrow.close()


def test_a_wrong_password_is_refused_and_counted_once(directory: LdapDirectory) -> None:
    for _ in range(LOCKOUT_THRESHOLD - 1):
        refused = sign_in(directory, "typist", "wrong")
        assert (refused.cause, refused.detail) == (LoginCause.WRONG_PASSWORD, "result 49")
    assert authenticate(directory, "typist", Secret(password_of("typist"))).username == "typist"


def test_the_servers_own_lockout_policy_cannot_be_read_and_the_setting_holds(directory: LdapDirectory) -> None:
    assert directory.find("typist").lockout is None
