"""Who the directory proved, and what AWS calls them."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broker.core.principal import PRINCIPAL_ID, DirectoryGroup, Principal
from tests.fakes import principal_id

# AWS STS API reference: RoleSessionName and SourceIdentity.
STS_PATTERN = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")

IDS = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=26, max_size=26)
USERNAMES = st.one_of(
    st.text(min_size=1, max_size=80),
    st.from_regex(r"[a-z0-9_+=,.@-]{1,70}", fullmatch=True),
    st.from_regex(r"[a-z日 ]{0,5}=[A-Z2-7]{25,27}\n?", fullmatch=True),
)


def named(username: str, identity: str | None = None) -> Principal:
    return Principal(id=identity or principal_id(1), username=username, display_name="")


@given(one=USERNAMES, other=USERNAMES, ids=st.lists(IDS, min_size=2, max_size=2, unique=True))
def test_no_two_principals_share_a_role_session_name_or_source_identity(one: str, other: str, ids: list[str]) -> None:
    assume(one != other)
    first, second = named(one, ids[0]), named(other, ids[1])
    assert first.role_session_name != second.role_session_name
    assert first.source_identity != second.source_identity


@given(victim=USERNAMES, identity=IDS, attackers=IDS)
def test_nobody_can_be_named_so_that_they_look_like_somebody_else(victim: str, identity: str, attackers: str) -> None:
    assume(identity != attackers)
    target = named(victim, identity).role_session_name
    assume(target != victim)  # two accounts of one directory do not share a username
    assert named(target, attackers).role_session_name != target


@given(username=USERNAMES, identity=IDS)
def test_every_role_session_name_is_one_that_sts_takes(username: str, identity: str) -> None:
    somebody = named(username, identity)
    assert STS_PATTERN.fullmatch(somebody.role_session_name)
    assert STS_PATTERN.fullmatch(somebody.source_identity)


@pytest.mark.parametrize("username", ["hanako", "ab", "h.yamada@corp.example", "x" * 64, "a=b", "_-+,"])
def test_a_username_that_sts_takes_is_the_role_session_name(username: str) -> None:
    assert named(username).role_session_name == username


@pytest.mark.parametrize(
    ("username", "readable"),
    [
        ("a", "a"),
        ("山田 花子", "_"),
        ("o'brien", "o_brien"),
        ("CORP\\hanako", "CORP_hanako"),
        ("x" * 65, "x" * 37),
        ("hanako\n", "hanako_"),
        (f"ken={'A' * 26}", f"ken_{'A' * 26}"),
    ],
)
def test_any_other_username_becomes_a_readable_part_and_the_id(username: str, readable: str) -> None:
    assert named(username).role_session_name == f"{readable}={principal_id(1)}"


def test_an_id_and_a_username_are_always_among_the_attributes_and_no_directory_overrides_them() -> None:
    somebody = Principal(
        id=principal_id(1),
        username="hanako",
        display_name="",
        attributes={"id": ("forged",), "username": ("root", "x"), "team": ("red",)},
    )
    assert dict(somebody.attributes) == {"id": (principal_id(1),), "username": ("hanako",), "team": ("red",)}


def test_attributes_cannot_be_changed_afterwards() -> None:
    with pytest.raises(TypeError):
        named("hanako").attributes["team"] = ("blue",)  # type: ignore[index]  # what must not work


@pytest.mark.parametrize("identity", ["", "A" * 25, "A" * 27, "a" * 26, "1" * 26, "A" * 26 + "\n", "../" + "A" * 23])
def test_an_id_is_26_characters_of_base32(identity: str) -> None:
    assert not PRINCIPAL_ID.fullmatch(identity)
    with pytest.raises(ValueError, match="base32"):
        Principal(id=identity, username="hanako", display_name="")


def test_a_principal_has_a_username() -> None:
    with pytest.raises(ValueError, match="username"):
        named("")


def test_a_group_has_a_dn() -> None:
    with pytest.raises(ValueError, match="DN"):
        DirectoryGroup(dn="", name="Staff")


def test_a_group_is_known_by_its_sid_where_both_have_one_and_by_its_dn_otherwise() -> None:
    staff = DirectoryGroup("cn=staff,dc=example", "Staff", "S-1-5-21-1-2-3-1104")
    renamed = DirectoryGroup("cn=all staff,dc=example", "All Staff", "S-1-5-21-1-2-3-1104")
    recreated = DirectoryGroup("cn=staff,dc=example", "Staff", "S-1-5-21-1-2-3-2200")
    without = DirectoryGroup("cn=staff,dc=example", "Staff")
    assert staff.same_as(renamed)
    assert not staff.same_as(recreated)
    assert staff.same_as(without)
    assert without.same_as(staff)
    assert not without.same_as(renamed)


def test_membership_does_not_compare_names() -> None:
    admins = DirectoryGroup("cn=admins,ou=it,dc=example", "AWS-Admins")
    homemade = DirectoryGroup("cn=admins,ou=mallory,dc=example", "AWS-Admins")
    somebody = Principal(id=principal_id(1), username="m", display_name="", groups=frozenset({homemade}))
    assert somebody.is_member_of(homemade)
    assert not somebody.is_member_of(admins)
