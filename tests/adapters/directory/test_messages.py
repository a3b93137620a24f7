"""The protocol's octets, and that no typed name changes what is asked."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.directory import messages
from broker.adapters.directory.bind_answers import Refused, describe, refusal
from broker.adapters.directory.config import DirectoryConfig, DirectoryDomain, DirectoryKind
from broker.adapters.directory.messages import (
    BIND_RESPONSE,
    FilterInvalid,
    MalformedAnswer,
    Message,
    Scope,
    Search,
    all_of,
    any_of,
    bind_request,
    compiled,
    decode,
    equals,
    everything,
    message_length,
    search_request,
)
from broker.adapters.directory.usernames import questions
from broker.core.credentials import Secret
from broker.core.errors import LoginCause

# What people type, with what LDAP treats specially much more often than people do.
TYPED = st.text(
    st.one_of(st.sampled_from("*()\\&|!=<>~@,+#;\"'/ \0"), st.characters(exclude_categories=["Cs"])), min_size=1
)


def taken_apart(octets: bytes) -> list[Any]:
    """A second reading of BER, to check the first: (tag, contents) with constructed contents taken apart too."""
    parts = []
    position = 0
    while position < len(octets):
        tag, length = octets[position], octets[position + 1]
        position += 2
        if length >= 0x80:
            more = length - 0x80
            length = int.from_bytes(octets[position : position + more], "big")
            position += more
        content = octets[position : position + length]
        assert len(content) == length
        position += length
        parts.append((tag, taken_apart(content) if tag & 0x20 else content))
    return parts


def config(**changes: Any) -> DirectoryConfig:
    fields: dict[str, Any] = {
        "servers": ("ldaps://dc1.corp.example",),
        "bind_dn": "CN=broker,DC=corp,DC=example",
        "user_bases": ("OU=People,DC=corp,DC=example", "OU=Contractors,DC=corp,DC=example"),
        "group_base": "OU=Groups,DC=corp,DC=example",
        "kind": DirectoryKind.ACTIVE_DIRECTORY,
        "domains": (DirectoryDomain("corp.example", "CORP"),),
        "login_attributes": ("sAMAccountName", "userPrincipalName", "mail"),
    }
    return DirectoryConfig(**{**fields, **changes})


@given(TYPED)
def test_no_typed_name_changes_the_filter(typed: str) -> None:
    wanted = questions(typed, config())
    for base, term in wanted.items():
        assert base in config().user_bases
        request = taken_apart(
            search_request(1, Search(base, Scope.SUBTREE, all_of(everything(), term), ("mail",), size_limit=2))
        )
        ((_, (_, (search_tag, search))),) = request
        assert search_tag == 0x63
        (_, conjunction) = search[6]
        assert conjunction[0] == (0x87, b"objectClass")
        comparisons = conjunction[1][1] if conjunction[1][0] == 0xA1 else [conjunction[1]]
        for tag, ((_, attribute), (_, value)) in comparisons:
            assert tag == 0xA3
            assert attribute.decode() in config().schema.login_attributes
            assert value.decode() in {typed, typed.partition("\\")[2], typed.rpartition("@")[0]} - {""}


@given(TYPED, TYPED)
def test_two_names_are_never_asked_for_with_one_filter(one: str, other: str) -> None:
    assert (equals("uid", one) == equals("uid", other)) == (one == other)


@given(st.integers(0, 2**31 - 1), st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**31 - 1))
def test_a_search_request_says_what_it_was_given(message_id: int, base: str, size_limit: int) -> None:
    search = Search(base, Scope.BASE, everything(), ("cn", "member;range=1-*"), size_limit=size_limit)
    ((_, ((_, number), (tag, parts))),) = taken_apart(search_request(message_id, search))
    assert (int.from_bytes(number, "big", signed=True), tag) == (message_id, 0x63)
    assert parts[0] == (0x04, base.encode())
    assert [value for _, value in parts[1:3]] == [b"\0", b"\0"]
    assert int.from_bytes(parts[3][1], "big", signed=True) == size_limit
    assert parts[7] == (0x30, [(0x04, b"cn"), (0x04, b"member;range=1-*")])


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(min_size=1, max_size=300))
def test_a_bind_request_holds_name_and_password_as_they_are(name: str, password: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in password):
        return
    ((_, (_, (tag, (version, dn, simple)), controls)),) = taken_apart(bind_request(7, name, Secret(password)))
    assert (tag, version, dn, simple) == (0x60, (2, b"\3"), (4, name.encode()), (0x80, password.encode()))
    assert controls == (0xA0, [(0x30, [(4, b"1.3.6.1.4.1.42.2.27.8.5.1")])])


@pytest.mark.parametrize(("name", "password"), [("", "x"), ("cn=x", "")])
def test_a_bind_that_would_be_anonymous_is_not_made(name: str, password: str) -> None:
    with pytest.raises(ValueError, match="a bind needs a name and a password"):
        bind_request(1, name, Secret(password))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(objectClass=person)", equals("objectClass", "person")),
        ("(&(objectClass=*)(cn=a\\2ab))", all_of(everything(), equals("cn", "a*b"))),
        ("(|(uid=x)(uid=y))", any_of([equals("uid", "x"), equals("uid", "y")])),
    ],
)
def test_an_operators_filter_is_compiled_to_the_same_octets(text: str, expected: bytes) -> None:
    assert compiled(text) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "(x", "(&)", "()", "(uid=x", "uid=x)", "(&(uid=x)", "(!(a=b)(c=d))", "(uid)"]
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(FilterInvalid):
        compiled(text)


# --- Answers -----------------------------------------------------------------------------------------------------


def answer(tag: int, *parts: bytes, message_id: int = 5, controls: bytes = b"") -> bytes:
    return messages._message(message_id, messages._tlv(tag, *parts), controls)


def result(code: int, text: str = "") -> tuple[bytes, ...]:
    return messages._integer(code, tag=0x0A), messages._octets(b""), messages._octets(text.encode())


def policy(value: str) -> bytes:
    control = messages._octets(b"1.3.6.1.4.1.42.2.27.8.5.1") + messages._octets(bytes.fromhex(value))
    return messages._tlv(0xA0, messages._tlv(0x30, control))


def test_an_entry_is_decoded_with_its_values() -> None:
    attribute = messages._tlv(
        0x30, messages._octets(b"objectGUID"), messages._tlv(0x31, messages._octets(b"\xff\x00"), messages._octets(b""))
    )
    empty = messages._tlv(0x30, messages._octets(b"mail"), messages._tlv(0x31))
    entry = decode(answer(0x64, messages._octets("cn=ä".encode()), messages._tlv(0x30, attribute, empty))).entry
    assert entry is not None
    assert entry.dn == "cn=ä"
    assert entry.octets("OBJECTguid") == (b"\xff\x00", b"")
    assert entry.texts("objectGUID") == ("",)
    assert entry.text("objectGUID") is None
    assert entry.octets("mail") == entry.octets("missing") == ()
    assert entry.number("mail") is None


# Nobody reads these who has not typed the right password.
TOLD_TO_THE_OWNER_ONLY = {
    *("530", "532", "533", "701", "773"),
    *("password policy 0", "password policy 2", "password policy 9"),
}


@pytest.mark.parametrize(
    ("code", "text", "control", "cause", "detail"),
    [
        (0, "", b"", None, None),
        (49, "80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data 52e, v3839\0",
         b"", LoginCause.WRONG_PASSWORD, "52e"),
        (49, "80090308: …, data 525, v1db1", b"", LoginCause.UNKNOWN_USERNAME, "525"),
        (49, "80090308: …, data 531, v1db1", b"", LoginCause.REFUSED_BY_DIRECTORY, "531"),
        (49, "80090308: …, DATA 775, v1db1", b"", LoginCause.LOCKED, "775"),
        (49, "80090308: …, data 533, v1db1", b"", LoginCause.DISABLED, "533"),
        (49, "80090308: …, data 701, v1db1", b"", LoginCause.ACCOUNT_EXPIRED, "701"),
        (49, "80090308: …, data 532, v1db1", b"", LoginCause.PASSWORD_EXPIRED, "532"),
        (49, "80090308: …, data 773, v1db1", b"", LoginCause.MUST_CHANGE_PASSWORD, "773"),
        (49, "80090308: …, data 530, v1db1", b"", LoginCause.OUTSIDE_LOGON_HOURS, "530"),
        (49, "", b"", LoginCause.WRONG_PASSWORD, "result 49"),
        (19, "Exceed password retry limit.", b"", LoginCause.LOCKED, "result 19"),
        (53, "Account inactivated.", b"", LoginCause.DISABLED, "result 53"),
        (32, "", b"", LoginCause.UNKNOWN_USERNAME, "result 32"),
        (48, "", b"", LoginCause.REFUSED_BY_DIRECTORY, "result 48"),
        (0, "", policy("3003810102"), LoginCause.MUST_CHANGE_PASSWORD, "password policy 2"),
        (49, "", policy("3003810101"), LoginCause.LOCKED, "password policy 1"),
        (49, "", policy("3003810100"), LoginCause.PASSWORD_EXPIRED, "password policy 0"),
        (0, "", policy("3005a003810102"), None, None),  # two grace sign-ins left
        (0, "", policy("3006a00480020258"), None, None),  # 600 seconds until the password expires
        (0, "", policy("3008a003810100810102"), LoginCause.MUST_CHANGE_PASSWORD, "password policy 2"),
        (0, "", policy("3000"), None, None),
        (0, "", policy("3003810109"), LoginCause.REFUSED_BY_DIRECTORY, "password policy 9"),
    ],
)  # fmt: skip
def test_the_answer_to_a_bind_is_understood(
    code: int, text: str, control: bytes, cause: LoginCause | None, detail: str | None
) -> None:
    message = decode(answer(0x61, *result(code, text), controls=control))
    found = refusal(message)
    assert found == (None if cause is None else Refused(cause, detail, is_proved=detail in TOLD_TO_THE_OWNER_ONLY))
    assert f"result {code}" in describe(message)


@pytest.mark.parametrize(
    ("control", "left"),
    [
        ("3005a003810102", 2),
        ("3005a003810100", 0),
        ("3006a00481020100", 256),
        ("3006a00480020258", None),  # 600 seconds until the password expires
        ("3008a003810100810102", 0),
        ("3003810102", None),
        ("3000", None),
    ],
)
def test_the_grace_sign_ins_of_a_password_policy_are_read(control: str, left: int | None) -> None:
    assert decode(answer(0x61, *result(0), controls=policy(control))).grace_sign_ins == left


def test_the_older_control_of_an_expired_password_stops_a_bind_that_succeeded() -> None:
    control = messages._octets(b"2.16.840.1.113730.3.4.4") + messages._octets(b"0")
    controls = messages._tlv(0xA0, messages._tlv(0x30, control))
    message = decode(answer(0x61, *result(0), controls=controls))
    assert refusal(message) == Refused(LoginCause.MUST_CHANGE_PASSWORD, "password expired", is_proved=True)
    message = decode(answer(0x61, *result(49), controls=controls))
    assert refusal(message) == Refused(LoginCause.PASSWORD_EXPIRED, "result 49", is_proved=True)


@given(st.binary(max_size=200))
def test_octets_that_are_no_answer_are_refused_and_nothing_worse(octets: bytes) -> None:
    for candidate in (octets, answer(0x61, octets), answer(0x64, octets), answer(0x65, *result(0), controls=octets)):
        try:
            decoded = decode(candidate)
        except MalformedAnswer:
            continue
        assert isinstance(decoded, Message)


@given(st.data())
def test_an_answer_with_octets_changed_is_refused_or_read_and_nothing_worse(data: st.DataObject) -> None:
    whole = bytearray(answer(0x61, *result(49, "data 52e"), controls=policy("3003810102")))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedAnswer):
        assert isinstance(decode(bytes(whole)), Message)


@given(st.integers(0, 70_000), st.integers(0, 5))
def test_the_length_of_a_message_is_known_as_soon_as_its_header_is_there(length: int, missing: int) -> None:
    whole = messages._tlv(0x30, b"x" * length)
    header = len(whole) - length
    assert message_length(whole) == message_length(whole[:header]) == len(whole)
    if missing and header - missing >= 0:
        assert message_length(whole[: header - missing]) is None


@pytest.mark.parametrize("octets", [b"H", b"\x31\x00", b"\x30\x80", b"\x30\x85\x00", b"\x30\x84\xff\xff\xff\xff"])
def test_what_is_no_message_is_refused_before_it_is_awaited(octets: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        message_length(octets)


def test_an_answer_to_a_bind_has_the_application_tag_of_one() -> None:
    assert decode(answer(0x61, *result(0))).kind == BIND_RESPONSE
