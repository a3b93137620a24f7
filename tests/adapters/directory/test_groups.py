"""Groups in directories that no real server here would be: endless, piecemeal, odd."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import pytest

from broker.adapters.directory import groups, messages
from broker.adapters.directory.config import DirectoryConfig, DirectoryKind, GroupMembership
from broker.adapters.directory.connection import Connection, ConnectionFailed
from broker.adapters.directory.groups import GroupReader, group_of, group_reader
from broker.adapters.directory.messages import Entry, Scope, Search, everything
from broker.core.errors import DirectoryUnavailable
from broker.core.principal import DirectoryGroup, Principal
from tests.adapters.directory.company import GROUPS, PEOPLE

PERSON = Entry(f"uid=alice,{PEOPLE}", {"memberof": (f"cn=first,{GROUPS}".encode(),)})


def reader(membership: GroupMembership, search: groups.SearchWhole) -> GroupReader:
    config = DirectoryConfig(
        servers=("ldaps://dc1.corp.example",),
        bind_dn="cn=broker",
        user_bases=(PEOPLE,),
        group_base=GROUPS,
        kind=DirectoryKind.ACTIVE_DIRECTORY,
        membership=membership,
    )

    def search_each(connection: Connection, questions: Sequence[Search], deadline: float) -> Sequence[Sequence[Entry]]:
        return [search(connection, question, deadline) for question in questions]

    return group_reader(config, search, search_each)


@pytest.fixture
def connection() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    yield connection
    connection.abandon()
    theirs.close()


def test_a_group_of_another_domain_is_known_by_its_sid(connection: Connection) -> None:
    """As the other domain's controller names it, and the settings with it, it is the same group."""
    theirs, broken = bytes.fromhex("01020000000000052000000022020000"), b"\x01\x02"

    def groups_of(sid: bytes) -> frozenset[DirectoryGroup]:
        def search(_: Connection, question: Search, __: float) -> Sequence[Entry]:
            return [Entry(question.base, {"tokengroups": (sid,)})] if question.scope is Scope.BASE else []

        return reader(GroupMembership.TOKEN_GROUPS, search).groups_of(PERSON, connection, time.monotonic() + 5)

    person = Principal("A" * 26, "alice", "Alice", groups_of(theirs))
    assert person.is_member_of(DirectoryGroup("cn=elsewhere,dc=east,dc=example", "elsewhere", "S-1-5-32-546"))
    assert not person.is_member_of(DirectoryGroup("cn=elsewhere,dc=east,dc=example", "elsewhere", "S-1-5-32-547"))
    with pytest.raises(DirectoryUnavailable, match="malformed"):
        groups_of(broken)


@pytest.mark.parametrize("membership", [GroupMembership.MEMBER, GroupMembership.MEMBER_OF])
def test_a_directory_of_endless_groups_is_refused_and_not_cut_short(
    membership: GroupMembership, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MOST_GROUPS", 50)
    numbers = count()

    def one_more_group(_: Connection, __: Search, ___: float) -> Sequence[Entry]:
        number = next(numbers)
        return [Entry(f"cn=g{number},{GROUPS}", {"memberof": (f"cn=above {number},{GROUPS}".encode(),)})]

    with pytest.raises(DirectoryUnavailable, match="more than 50 groups"):
        reader(membership, one_more_group).groups_of(PERSON, connection, time.monotonic() + 5)
    assert next(numbers) <= 60


def test_token_groups_that_may_not_be_read_are_said_so(connection: Connection) -> None:
    unreadable = reader(GroupMembership.TOKEN_GROUPS, lambda _, search, __: [Entry(search.base, {})])
    with pytest.raises(DirectoryUnavailable, match="let it read that attribute of people"):
        unreadable.groups_of(PERSON, connection, time.monotonic() + 5)


def test_a_person_who_is_moved_between_two_questions_is_not_taken_for_one_without_groups(
    connection: Connection,
) -> None:
    moved = reader(GroupMembership.TOKEN_GROUPS, lambda *_: [])
    with pytest.raises(DirectoryUnavailable, match="moved while it was read"):
        moved.groups_of(PERSON, connection, time.monotonic() + 5)


def test_a_security_identifier_is_looked_up_once_one_of_another_domain_too(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = bytes.fromhex("01020000000000052000000021020000")
    foreign = bytes.fromhex("01020000000000052000000022020000")
    asked: list[Search] = []

    def search(_: Connection, question: Search, __: float) -> Sequence[Entry]:
        asked.append(question)
        if question.scope is Scope.BASE:
            return [Entry(question.base, {"tokengroups": (known, foreign)})]
        return [Entry("CN=Users,CN=Builtin,DC=corp,DC=example", {"cn": (b"Users",), "objectsid": (known,)})]

    token_groups = reader(GroupMembership.TOKEN_GROUPS, search)
    for _ in range(3):
        found = token_groups.groups_of(PERSON, connection, time.monotonic() + 5)
        assert {(group.name, group.sid) for group in found} == {
            ("Users", "S-1-5-32-545"),
            ("S-1-5-32-546", "S-1-5-32-546"),
        }
    assert [question.scope for question in asked] == [Scope.BASE, Scope.SUBTREE, Scope.BASE, Scope.BASE]
    assert asked[1].base == "dc=corp,dc=example"
    monkeypatch.setattr(groups, "_SID_KEPT_SECONDS", -1.0)
    monkeypatch.setattr(groups, "_MOST_SIDS_KEPT", 0)
    reader(GroupMembership.TOKEN_GROUPS, search)
    later = reader(GroupMembership.TOKEN_GROUPS, search)
    for _ in range(2):
        later.groups_of(PERSON, connection, time.monotonic() + 5)
    assert len(asked) == 8


def test_a_group_of_an_odd_name_equals_itself_and_one_of_a_broken_identifier_is_refused() -> None:
    odd = Entry("cn=a<b,dc=x", {"cn": (b"odd",)})
    assert group_of(odd) == group_of(odd)
    with pytest.raises(DirectoryUnavailable, match="objectSid"):
        group_of(Entry("cn=x,dc=y", {"objectsid": (b"\x01\x02",)}))


# --- Values in pieces, as Windows returns many of them -------------------------------------------------------------


def entry_of(message_id: int, attribute: str, *values: bytes) -> bytes:
    vals = messages._tlv(0x31, *map(messages._octets, values))
    attributes = messages._tlv(0x30, messages._tlv(0x30, messages._octets(attribute.encode()), vals))
    entry = messages._message(message_id, messages._tlv(0x64, messages._octets(b"cn=x,dc=y"), attributes))
    done = messages._integer(0, tag=0x0A) + messages._octets(b"") * 2
    return entry + messages._message(message_id, messages._tlv(0x65, done))


@contextmanager
def server_that_answers(*answers: bytes) -> Iterator[tuple[Connection, list[bytes]]]:
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            heard.append(theirs.recv(65536))
            theirs.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    connection = Connection(ours)
    yield connection, heard
    connection.abandon()
    theirs.close()
    thread.join(5)


def test_values_in_pieces_are_fetched_to_the_last() -> None:
    with server_that_answers(
        entry_of(1, "member;range=0-1", b"a", b"b"),
        entry_of(2, "member;range=2-3", b"c", b"d"),
        entry_of(3, "member;Range=4-*", b"e"),
    ) as (connection, heard):
        question = Search("cn=x,dc=y", Scope.SUBTREE, everything(), ("member",))
        answer = connection.search(question, time.monotonic() + 5)
    assert answer.entries[0].octets("member") == (b"a", b"b", b"c", b"d", b"e")
    assert b"member;range=2-*" in heard[1]
    assert b"member;range=4-*" in heard[2]


@pytest.mark.parametrize("piece", ["member;range=0-1", "member;range=7-*", "member", "other;range=2-*"])
def test_pieces_that_do_not_fit_are_not_taken_for_all(piece: str) -> None:
    answers = entry_of(1, "member;range=0-1", b"a", b"b"), entry_of(2, piece, b"c")
    with server_that_answers(*answers) as (connection, _), pytest.raises(ConnectionFailed, match="stop at 2"):
        connection.search(Search("cn=x,dc=y", Scope.SUBTREE, everything(), ("member",)), time.monotonic() + 5)
