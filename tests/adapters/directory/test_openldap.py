"""Sign-in against a real OpenLDAP."""

from __future__ import annotations

import base64
import uuid

import pytest

from broker.adapters.directory.config import GroupMembership
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import DirectoryUnavailable, GroupNotResolved, LoginCause, LoginRejected, PrincipalGone
from tests.adapters.directory import company
from tests.adapters.directory.company import GROUPS, PEOPLE, password_of
from tests.adapters.directory.conftest import MakeDirectory
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.slapd import SUFFIX, Slapd


def sign_in(directory: LdapDirectory, username: str, password: str | None = None) -> LoginRejected:
    with pytest.raises(LoginRejected) as refused:
        authenticate(directory, username, Secret(password_of(username) if password is None else password))
    return refused.value


def test_the_right_password_proves_the_person_with_id_name_attributes_and_all_groups(directory: LdapDirectory) -> None:
    principal = authenticate(directory, "alice", Secret(password_of("alice")))
    assert principal.id == base64.b32encode(uuid.UUID(company.ALICE_UUID).bytes).decode().rstrip("=")
    assert principal.username == "alice"
    assert principal.display_name == "Alice Example"
    assert principal.attributes["mail"] == ("alice@corp.example",)
    assert {group.name for group in principal.groups} == {"engineers", "platform", "technology", "staff", "everyone"}
    assert {group.dn for group in principal.groups} >= {f"cn=engineers,{GROUPS}"}


def test_the_username_is_the_directorys_spelling_not_what_was_typed(directory: LdapDirectory) -> None:
    assert authenticate(directory, "ALICE", Secret(password_of("alice"))).username == "alice"


def test_an_attribute_with_several_values_keeps_them_all(directory: LdapDirectory) -> None:
    principal = authenticate(directory, "bruno", Secret(password_of("bruno")))
    assert set(principal.attributes["kind"]) == {"full", "time"}
    assert "mail" not in principal.attributes


def test_a_wrong_password_is_refused_and_names_the_person(directory: LdapDirectory) -> None:
    refused = sign_in(directory, "typist", "not it")
    assert (refused.cause, refused.detail) == (LoginCause.WRONG_PASSWORD, "result 49")
    assert refused.principal is not None
    assert refused.principal.username == "typist"


@pytest.mark.parametrize(
    ("password", "cause"),
    [("", LoginCause.EMPTY_PASSWORD), ("x" * 10_000_000, LoginCause.PASSWORD_TOO_LONG)],
    ids=["empty", "enormous"],
)
def test_a_password_that_must_not_be_sent_is_not(directory: LdapDirectory, password: str, cause: LoginCause) -> None:
    refused = sign_in(directory, "alice", password)
    assert refused.cause is cause
    assert refused.detail is None  # the directory was not asked, so it gave no sub-code


@pytest.mark.parametrize("password", ["\ud800", "\0", "pässwörd of fiddled\0"])
def test_a_password_that_nobody_can_have_is_refused(directory: LdapDirectory, password: str) -> None:
    assert sign_in(directory, "fiddled", password).cause is LoginCause.WRONG_PASSWORD


def test_an_unknown_username_is_refused_without_a_person(directory: LdapDirectory) -> None:
    refused = sign_in(directory, "nobody")
    assert (refused.cause, refused.principal) == (LoginCause.UNKNOWN_USERNAME, None)


@pytest.mark.parametrize(
    "username",
    ["*", "a*", ")(", "alice)(uid=*", "*)(objectClass=*", "\\", "\\2a", "@", "../alice", "   x  ",
     "a" * 250, "山田", "(|(uid=alice))", "alice,ou=people"],
)  # fmt: skip
def test_a_hostile_username_finds_nobody(directory: LdapDirectory, username: str) -> None:
    assert sign_in(directory, username, password_of("alice")).cause is LoginCause.UNKNOWN_USERNAME


@pytest.mark.parametrize("username", company.HOSTILE_USERNAMES)
def test_a_username_made_of_special_characters_signs_in_as_itself(directory: LdapDirectory, username: str) -> None:
    assert authenticate(directory, username, Secret(password_of(username))).username == username


def test_a_username_that_is_not_text_is_refused(directory: LdapDirectory) -> None:
    for typed in ("alice\ud800", "alice\0", "\0"):
        assert sign_in(directory, typed, "x").cause is LoginCause.MALFORMED_USERNAME
    assert sign_in(directory, "a" * 300, "x").cause is LoginCause.MALFORMED_USERNAME
    assert sign_in(directory, "", "x").cause is LoginCause.EMPTY_USERNAME


def test_a_name_in_two_bases_is_ambiguous(make_directory: MakeDirectory) -> None:
    both = make_directory(user_bases=(company.PEOPLE, company.CONTRACTORS))
    refused = sign_in(both, "twice")
    assert (refused.cause, refused.principal) == (LoginCause.AMBIGUOUS_USERNAME, None)
    assert authenticate(make_directory(), "twice", Secret(password_of("twice"))).username == "twice"


def test_two_people_of_one_username_are_refused_by_every_road_that_tells_them_apart(
    make_directory: MakeDirectory,
) -> None:
    both = make_directory(user_bases=(company.PEOPLE, company.CONTRACTORS), login_attributes=("uid", "mail"))
    refused = sign_in(both, "twice@corp.example", password_of("twice"))
    assert (refused.cause, refused.detail) == (LoginCause.AMBIGUOUS_USERNAME, "somebody else has the same uid")
    one = make_directory().principal_by_username("twice")
    with pytest.raises(PrincipalGone) as gone:
        both.principal_by_id(one.id)
    assert gone.value.cause is LoginCause.AMBIGUOUS_USERNAME
    assert authenticate(both, "alice@corp.example", Secret(password_of("alice"))).username == "alice"


def test_bases_within_one_another_find_a_person_once(make_directory: MakeDirectory) -> None:
    nested = make_directory(user_bases=(company.PEOPLE, f"{company.PEOPLE}", SUFFIX))
    assert authenticate(nested, "alice", Secret(password_of("alice"))).username == "alice"


def test_a_username_attribute_with_two_values_is_refused(directory: LdapDirectory) -> None:
    refused = sign_in(directory, "two-names")
    assert refused.cause is LoginCause.REFUSED_BY_DIRECTORY
    assert refused.detail == "uid needs exactly one value"


def test_mail_signs_in_where_it_is_configured(make_directory: MakeDirectory) -> None:
    mail = make_directory(login_attributes=("uid", "mail"))
    assert authenticate(mail, "Alice@Corp.Example", Secret(password_of("alice"))).username == "alice"
    assert sign_in(make_directory(), "alice@corp.example", "x").cause is LoginCause.UNKNOWN_USERNAME


def test_starttls_signs_in_too(make_directory: MakeDirectory, slapd: Slapd) -> None:
    starttls = make_directory(servers=(slapd.url,), start_tls=True)
    assert authenticate(starttls, "alice", Secret(password_of("alice"))).username == "alice"


# --- Account state -----------------------------------------------------------------------------------------------


def test_a_person_who_must_change_the_password_binds_with_success_and_is_stopped(directory: LdapDirectory) -> None:
    refused = sign_in(directory, "reset")
    assert (refused.cause, refused.detail) == (LoginCause.MUST_CHANGE_PASSWORD, "password policy 2")


def test_an_expired_password_is_refused(directory: LdapDirectory) -> None:
    refused = sign_in(directory, "expired")
    assert (refused.cause, refused.detail) == (LoginCause.PASSWORD_EXPIRED, "password policy 0")


def test_a_grace_sign_in_is_let_in_and_says_how_many_are_left(directory: LdapDirectory) -> None:
    left = []
    for _ in range(3):
        proved = directory.prove(directory.find("graceful"), Secret(password_of("graceful")))
        assert proved.principal.username == "graceful"
        left.append(proved.grace_sign_ins)
    assert left == [2, 1, 0]
    assert sign_in(directory, "graceful").cause is LoginCause.PASSWORD_EXPIRED


def test_a_password_that_has_not_expired_says_nothing_of_grace(directory: LdapDirectory) -> None:
    assert directory.prove(directory.find("alice"), Secret(password_of("alice"))).grace_sign_ins is None


def test_a_locked_account_is_refused_with_the_right_password(directory: LdapDirectory) -> None:
    assert sign_in(directory, "locked").cause is LoginCause.LOCKED


def test_wrong_passwords_lock_the_account_and_the_broker_sees_it_without_a_password(directory: LdapDirectory) -> None:
    person = authenticate(directory, "lockable", Secret(password_of("lockable")))
    assert [sign_in(directory, "lockable", "wrong").cause for _ in range(3)] == [LoginCause.WRONG_PASSWORD] * 3
    assert sign_in(directory, "lockable").cause is LoginCause.LOCKED
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(person.id)
    assert gone.value.cause is LoginCause.LOCKED


def test_a_person_is_read_afresh_by_id_and_follows_a_rename(directory: LdapDirectory, slapd: Slapd) -> None:
    before = authenticate(directory, "renamed", Secret(password_of("renamed")))
    slapd.modify(f"dn: uid=renamed,{PEOPLE}\nchangetype: modrdn\nnewrdn: uid=married\ndeleteoldrdn: 1\n")
    after = directory.principal_by_id(before.id)
    assert (after.id, after.username) == (before.id, "married")


def test_a_deleted_person_is_gone(directory: LdapDirectory, slapd: Slapd) -> None:
    person = authenticate(directory, "leaver", Secret(password_of("leaver")))
    assert directory.principal_by_id(person.id) == person
    slapd.modify(f"dn: uid=leaver,{PEOPLE}\nchangetype: delete\n")
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(person.id)
    assert gone.value.cause is LoginCause.UNKNOWN_USERNAME


@pytest.mark.parametrize("principal_id", ["A" * 25, "A" * 25 + "B", "a" * 26, "*", "A" * 26, ""])
def test_an_id_that_is_nobodys_is_gone(directory: LdapDirectory, principal_id: str) -> None:
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(principal_id)
    assert gone.value.cause is LoginCause.UNKNOWN_USERNAME


@pytest.mark.parametrize("username", ["reset", "locked"])
def test_the_state_of_an_account_is_seen_without_a_password(directory: LdapDirectory, username: str) -> None:
    person = directory.principal_by_username(username)
    with pytest.raises(PrincipalGone):
        directory.principal_by_id(person.id)


# --- Groups ------------------------------------------------------------------------------------------------------


def test_nested_groups_are_found_five_deep_and_a_cycle_ends(directory: LdapDirectory) -> None:
    names = {group.name for group in directory.principal_by_username("bruno").groups}
    assert names == {"staff", "everyone", "engineers", "platform", "technology", "finance"}


def test_member_of_finds_the_same_groups(make_directory: MakeDirectory, directory: LdapDirectory) -> None:
    member_of = make_directory(membership=GroupMembership.MEMBER_OF)
    for username in ("alice", "bruno"):
        assert member_of.principal_by_username(username).groups == directory.principal_by_username(username).groups


def test_posix_groups_are_found_by_username_and_by_the_primary_number(make_directory: MakeDirectory) -> None:
    posix = make_directory(membership=GroupMembership.MEMBER_UID)
    assert {group.name for group in posix.principal_by_username("posix").groups} == {"shell", "primary"}
    assert posix.principal_by_username("alice").groups == frozenset()


def test_a_group_is_resolved_by_dn_in_any_spelling_and_by_its_name(directory: LdapDirectory) -> None:
    by_name = directory.group("Staff")
    assert by_name == directory.group("CN=staff , OU=Groups,  dc=CORP,dc=example")
    assert directory.principal_by_username("alice").is_member_of(by_name)
    assert not directory.principal_by_username("carla").is_member_of(by_name)


def test_a_group_of_special_characters_is_resolved_and_matched(directory: LdapDirectory) -> None:
    by_name = directory.group(company.HOSTILE_GROUP)
    assert by_name.name == company.HOSTILE_GROUP
    assert directory.group(by_name.dn) == by_name
    assert directory.principal_by_username("carla").is_member_of(by_name)
    assert directory.principal_by_username("star*").is_member_of(by_name)


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("no such group", 0),
        ("*", 0),
        ("operators", 2),
        (f"cn=operators,{GROUPS}", 0),
        (f"uid=alice,{PEOPLE}", 0),
        (f"cn=elsewhere,ou=services,{SUFFIX}", 0),
        ("elsewhere", 0),
        ("team=a", 0),
        ("staff\ud800", 0),
        ("nonsense=x,dc=corp,dc=example", 0),
    ],
)
def test_a_group_that_is_missing_or_not_unique_is_not_resolved(
    directory: LdapDirectory, name: str, matches: int
) -> None:
    with pytest.raises(GroupNotResolved) as missing:
        directory.group(name)
    assert missing.value.matches == matches


def test_a_group_base_that_is_missing_is_said_so(make_directory: MakeDirectory) -> None:
    misplaced = make_directory(group_base=f"ou=grups,{SUFFIX}")
    with pytest.raises(DirectoryUnavailable, match=r"directory\.group_base"):
        authenticate(misplaced, "alice", Secret(password_of("alice")))
    with pytest.raises(DirectoryUnavailable, match=r"directory\.group_base"):
        misplaced.group("staff")


def test_a_user_base_that_is_missing_is_said_so(make_directory: MakeDirectory) -> None:
    misplaced = make_directory(user_bases=(f"ou=peeple,{SUFFIX}",))
    with pytest.raises(DirectoryUnavailable, match=r"directory\.user_bases"):
        authenticate(misplaced, "alice", Secret(password_of("alice")))


def test_check_asks_a_server_that_answers(directory: LdapDirectory) -> None:
    directory.check()
