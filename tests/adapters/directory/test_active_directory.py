"""Sign-in against Active Directory: a real Samba domain controller, and the embedded directory of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.adapters.directory.config import DirectoryConfig, DirectoryDomain, DirectoryKind
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import DirectoryUnavailable, GroupNotResolved, LoginCause, LoginRejected, PrincipalGone
from broker.core.principal import PRINCIPAL_ID
from tests.adapters.directory import domain
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.domain import CONTRACTORS, GROUPS, PEOPLE, group_dn, password_of, person_dn
from tests.adapters.directory.embedded import Embedded
from tests.adapters.directory.samba import Samba

Controller = Samba | Embedded


@pytest.fixture(scope="session", params=["samba", "embedded"])
def controller(request: pytest.FixtureRequest) -> Controller:
    found: Controller = request.getfixturevalue(request.param)
    return found


def directory_on(controller: Controller, **changes: object) -> LdapDirectory:
    fields: dict[str, object] = {
        "servers": (controller.ldaps,),
        "bind_dn": domain.SERVICE_DN,
        "user_bases": (PEOPLE, CONTRACTORS),
        "group_base": GROUPS,
        "kind": DirectoryKind.ACTIVE_DIRECTORY,
        "ca_file": controller.ca_file,
        "domains": (DirectoryDomain("corp.example", "CORP"),),
        "attributes": {"department": "department", "phones": "otherTelephone", "sid": "objectSid"},
    }
    return LdapDirectory(DirectoryConfig(**{**fields, **changes}), Secret(domain.SERVICE_PASSWORD))  # type: ignore[arg-type] # checked by the tests that use it


@pytest.fixture(scope="session")
def directory(controller: Controller) -> Iterator[LdapDirectory]:
    directory = directory_on(controller)
    yield directory
    directory.close()


def sign_in(directory: LdapDirectory, username: str, password: str | None = None) -> LoginRejected:
    with pytest.raises(LoginRejected) as refused:
        authenticate(directory, username, Secret(password_of(username) if password is None else password))
    return refused.value


@pytest.mark.parametrize(
    "typed",
    ["alice", "ALICE", "alice@corp.example", "Alice@CORP.example", "CORP\\alice", "corp\\Alice"],
)
def test_every_form_of_a_name_signs_the_same_person_in(directory: LdapDirectory, typed: str) -> None:
    principal = authenticate(directory, typed, Secret(password_of("alice")))
    assert principal == directory.principal_by_username("alice")
    assert principal.username == "alice"
    assert PRINCIPAL_ID.fullmatch(principal.id)


@pytest.mark.parametrize(
    "typed",
    [
        "OTHER\\alice", "CORP\\", "\\alice", "CORP\\alice@corp.example", "alice@other.example", "@corp.example",
        "alice\\CORP", "CORP\\CORP\\alice", "*", "ali*", ")(", "alice)(objectClass=*", "\\2a", "@",
        "two words", "../alice", "a" * 256, "山田", person_dn("alice"),
    ],
)  # fmt: skip
def test_a_name_that_is_nobodys_finds_nobody(directory: LdapDirectory, typed: str) -> None:
    assert sign_in(directory, typed, password_of("alice")).cause is LoginCause.UNKNOWN_USERNAME


def test_a_upn_of_another_domain_signs_in_and_so_does_the_account_name_in_ours(directory: LdapDirectory) -> None:
    by_upn = authenticate(directory, "B.Rand@brand.example", Secret(password_of("branded")))
    assert by_upn == authenticate(directory, "branded@corp.example", Secret(password_of("branded")))
    assert by_upn.username == "branded"


def test_mail_signs_in_where_it_is_configured(controller: Controller) -> None:
    mail = directory_on(controller, login_attributes=("sAMAccountName", "userPrincipalName", "mail"))
    assert authenticate(mail, "bruno@mail.example", Secret(password_of("bruno"))).username == "bruno"
    refused = sign_in(mail, "carla")  # somebody else wrote that name into their mail attribute
    assert (refused.cause, refused.principal) == (LoginCause.AMBIGUOUS_USERNAME, None)
    mail.close()


def test_names_outside_ascii_and_of_special_characters_sign_in(directory: LdapDirectory) -> None:
    assert authenticate(directory, "hanako", Secret(password_of("hanako"))).display_name == domain.JAPANESE_CN
    special = authenticate(directory, domain.SPECIAL_USERNAME, Secret(password_of(domain.SPECIAL_USERNAME)))
    assert special.username == domain.SPECIAL_USERNAME


def test_attributes_are_text_with_all_their_values(directory: LdapDirectory) -> None:
    principal = directory.principal_by_username("hanako")
    assert principal.attributes["department"] == ("研究開発部",)
    assert set(principal.attributes["phones"]) == {"+1 555 1", "+1 555 2"}
    assert "sid" not in principal.attributes  # octets are no text


def test_a_person_in_another_base_signs_in_and_a_domain_may_name_its_base(controller: Controller) -> None:
    split = directory_on(
        controller,
        domains=(DirectoryDomain("corp.example", "CORP", PEOPLE), DirectoryDomain("out.example", "OUT", CONTRACTORS)),
    )
    assert authenticate(split, "OUT\\temp", Secret(password_of("temp"))).username == "temp"
    assert authenticate(split, "temp@out.example", Secret(password_of("temp"))).username == "temp"
    assert authenticate(split, "temp", Secret(password_of("temp"))).username == "temp"
    assert sign_in(split, "CORP\\temp", "x").cause is LoginCause.UNKNOWN_USERNAME
    assert sign_in(split, "OUT\\alice", "x").cause is LoginCause.UNKNOWN_USERNAME
    split.close()


def test_starttls_signs_in_too(controller: Controller) -> None:
    starttls = directory_on(controller, servers=(controller.ldap,), start_tls=True)
    assert authenticate(starttls, "alice", Secret(password_of("alice"))).username == "alice"
    starttls.close()


def test_the_service_account_may_bind_by_its_upn(controller: Controller) -> None:
    by_upn = directory_on(controller, bind_dn=f"{domain.SERVICE_NAME}@corp.example")
    by_upn.check()
    by_upn.close()


# --- Account state -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("username", "cause", "sub_code"),
    [
        ("disabled", LoginCause.DISABLED, "533"),
        ("expired", LoginCause.ACCOUNT_EXPIRED, "701"),
        ("must-change", LoginCause.MUST_CHANGE_PASSWORD, "773"),
        ("stale", LoginCause.PASSWORD_EXPIRED, "532"),
    ],
)
def test_the_state_of_an_account_is_the_cause_with_the_exact_sub_code(
    directory: LdapDirectory, username: str, cause: LoginCause, sub_code: str
) -> None:
    refused = sign_in(directory, username)
    assert (refused.cause, refused.detail) == (cause, sub_code)
    assert refused.principal is not None
    assert refused.principal.username == username
    assert refused.principal.groups == frozenset()


@pytest.mark.parametrize("username", ["disabled", "expired", "must-change", "stale", "typist"])
def test_a_wrong_password_says_nothing_about_the_account(directory: LdapDirectory, username: str) -> None:
    refused = sign_in(directory, username, "wrong")
    assert (refused.cause, refused.detail) == (LoginCause.WRONG_PASSWORD, "52e")


@pytest.mark.parametrize(
    ("username", "cause"),
    [
        ("disabled", LoginCause.DISABLED),
        ("expired", LoginCause.ACCOUNT_EXPIRED),
        ("must-change", LoginCause.MUST_CHANGE_PASSWORD),
        ("stale", LoginCause.PASSWORD_EXPIRED),
    ],
)
def test_the_state_of_an_account_is_seen_without_a_password(
    directory: LdapDirectory, username: str, cause: LoginCause
) -> None:
    person = directory.principal_by_username(username)
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(person.id)
    assert gone.value.cause is cause


def test_hours_of_sign_in_are_a_cause_of_their_own(samba: Samba) -> None:
    directory = directory_on(samba)
    refused = sign_in(directory, "typist")
    assert (refused.cause, refused.detail) == (LoginCause.OUTSIDE_LOGON_HOURS, "530")
    directory.close()


def test_wrong_passwords_lock_the_account_and_the_broker_sees_it_without_a_password(directory: LdapDirectory) -> None:
    person = authenticate(directory, "lockable", Secret(password_of("lockable")))
    for _ in range(domain.LOCKOUT_THRESHOLD):
        assert sign_in(directory, "lockable", "wrong").detail == "52e"
    refused = sign_in(directory, "lockable")
    assert (refused.cause, refused.detail) == (LoginCause.LOCKED, "775")
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(person.id)
    assert gone.value.cause is LoginCause.LOCKED


def test_a_refused_sign_in_costs_the_person_one_attempt_and_not_more(directory: LdapDirectory) -> None:
    for _ in range(domain.LOCKOUT_THRESHOLD - 1):
        assert sign_in(directory, "watched", "wrong").cause is LoginCause.WRONG_PASSWORD
    assert authenticate(directory, "watched", Secret(password_of("watched"))).username == "watched"


def test_an_account_disabled_meanwhile_is_gone_and_enabled_again_is_back(
    controller: Controller, directory: LdapDirectory
) -> None:
    person = authenticate(directory, "leaver", Secret(password_of("leaver")))
    change = "dn: {}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: {}\n"
    controller.modify(change.format(person_dn("leaver"), 514))
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(person.id)
    assert gone.value.cause is LoginCause.DISABLED
    controller.modify(change.format(person_dn("leaver"), 512))
    assert directory.principal_by_id(person.id) == person


def test_an_account_expires_by_the_clock(samba: Samba) -> None:
    directory = directory_on(samba)
    person = directory.principal_by_username("expired")
    later = LdapDirectory(
        directory._config, Secret(domain.SERVICE_PASSWORD), clock=lambda: datetime(2012, 1, 1, tzinfo=UTC)
    )
    assert later.principal_by_id(person.id) == person
    later.close()
    directory.close()


def test_a_controller_whose_clock_is_an_hour_off_costs_nobody_a_sign_in(
    provisioned_domain: Path, tmp_path: Path, authority: Authority
) -> None:
    fast = Samba(provisioned_domain, tmp_path / "dc", authority)
    in_half_an_hour = (
        (datetime.now(UTC) + timedelta(minutes=30) - datetime(1601, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10
    )
    dn = domain.person_dn("ending")
    fast.modify(f"dn: {dn}\nchangetype: modify\nreplace: accountExpires\naccountExpires: {in_half_an_hour}\n")
    fast.start(clock_ahead="+1h")
    directory = directory_on(fast)
    try:
        alice = authenticate(directory, "alice", Secret(password_of("alice")))
        assert directory.principal_by_id(alice.id) == alice
        assert sign_in(directory, "alice", "wrong").cause is LoginCause.WRONG_PASSWORD
        # It lets nobody in whose account has expired by its own clock, which the broker takes for what it is.
        assert sign_in(directory, "ending").cause is LoginCause.ACCOUNT_EXPIRED
        assert directory.principal_by_username("ending").username == "ending"
    finally:
        directory.close()
        fast.stop()


def test_an_account_that_has_expired_by_our_clock_is_refused_though_the_server_lets_it_in(
    controller: Controller,
) -> None:
    directory = directory_on(controller)
    assert authenticate(directory, "ending", Secret(password_of("ending"))).username == "ending"
    ahead = LdapDirectory(
        directory._config, Secret(domain.SERVICE_PASSWORD), clock=lambda: datetime(2101, 1, 1, tzinfo=UTC)
    )
    refused = sign_in(ahead, "ending")
    assert (refused.cause, refused.detail) == (LoginCause.ACCOUNT_EXPIRED, "account state")
    ahead.close()
    directory.close()


def test_the_id_outlives_a_rename(samba: Samba) -> None:
    directory = directory_on(samba)
    before = authenticate(directory, "renamed", Secret(password_of("renamed")))
    samba.modify(
        f"dn: {person_dn('renamed')}\nchangetype: modify\nreplace: sAMAccountName\nsAMAccountName: married\n-\n\n"
        f"dn: {person_dn('renamed')}\nchangetype: modrdn\nnewrdn: CN=Married\ndeleteoldrdn: 1\n"
    )
    after = directory.principal_by_id(before.id)
    assert (after.id, after.username, after.groups) == (before.id, "married", before.groups)
    directory.close()


def test_a_person_moved_out_of_the_user_bases_is_gone(samba: Samba) -> None:
    directory = directory_on(samba)
    person = authenticate(directory, "moved", Secret(password_of("moved")))
    samba.modify(
        f"dn: {person_dn('moved')}\nchangetype: modrdn\nnewrdn: CN=moved\ndeleteoldrdn: 1\n"
        f"newsuperior: OU=Services,{domain.BASE}\n"
    )
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(person.id)
    assert gone.value.cause is LoginCause.UNKNOWN_USERNAME
    directory.close()


# --- Groups ------------------------------------------------------------------------------------------------------


def test_nested_groups_five_deep_the_cycle_and_the_primary_group_are_found(directory: LdapDirectory) -> None:
    names = {group.name for group in directory.principal_by_username("alice").groups}
    assert names >= {"Engineers", "Platform", "Technology", "Staff", "Everyone Else", "Domain Users"}
    assert "Finance" not in names
    names = {group.name for group in directory.principal_by_username("bruno").groups}
    assert names >= {"Staff", "Everyone Else", "Engineers", "Platform", "Technology", "Finance", "Domain Users"}


def test_a_group_is_resolved_with_its_sid_by_name_and_by_any_spelling_of_its_dn(directory: LdapDirectory) -> None:
    staff = directory.group("staff")
    assert staff == directory.group(group_dn("Staff").upper()) == directory.group(group_dn("Staff").replace(",", " , "))
    assert staff.sid is not None
    assert staff.sid.startswith("S-1-5-21-")
    assert directory.principal_by_username("alice").is_member_of(staff)
    assert not directory.principal_by_username("carla").is_member_of(staff)


def test_a_group_of_special_characters_is_resolved_and_matched(directory: LdapDirectory) -> None:
    by_name = directory.group(domain.HOSTILE_GROUP)
    assert by_name == directory.group(by_name.dn)
    for username in ("carla", "hanako", domain.SPECIAL_USERNAME):
        assert directory.principal_by_username(username).is_member_of(by_name)


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("no such group", 0),
        (domain.MAILING_LIST, 0),
        (group_dn(domain.MAILING_LIST), 0),
        ("Operators", 2),
        ("*", 0),
        ("alice", 0),
        (person_dn("alice"), 0),
        (f"CN=x,{GROUPS}", 0),
    ],
)
def test_a_group_that_is_missing_or_not_unique_is_not_resolved(
    directory: LdapDirectory, name: str, matches: int
) -> None:
    with pytest.raises(GroupNotResolved) as missing:
        directory.group(name)
    assert missing.value.matches == matches


def test_a_lost_group_is_lost_at_the_next_question(controller: Controller, directory: LdapDirectory) -> None:
    finance = directory.group("Finance")
    person = directory.principal_by_username("bruno")
    assert person.is_member_of(finance)
    change = f"dn: {group_dn('Finance')}\nchangetype: modify\n{{}}: member\nmember: {person_dn('bruno')}\n"
    controller.modify(change.format("delete"))
    assert not directory.principal_by_id(person.id).is_member_of(finance)
    controller.modify(change.format("add"))
    assert directory.principal_by_id(person.id).is_member_of(finance)


def test_bases_of_another_domain_are_said_to_be_misplaced(controller: Controller) -> None:
    misplaced = directory_on(controller, user_bases=("OU=People,DC=other,DC=example",))
    with pytest.raises(DirectoryUnavailable, match=r"directory\.user_bases"):
        misplaced.principal_by_username("alice")
    misplaced.close()
