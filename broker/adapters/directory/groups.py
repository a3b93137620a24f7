"""Which groups a person is in, nested and primary ones included."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Protocol, TypeVar

from broker.adapters.directory.config import DirectoryConfig, GroupMembership
from broker.adapters.directory.connection import Connection
from broker.adapters.directory.distinguished_names import MalformedName, domain_of, normalise
from broker.adapters.directory.messages import (
    Entry,
    Filter,
    Scope,
    Search,
    all_of,
    any_of,
    compiled,
    equals,
    everything,
)
from broker.core.errors import DirectoryUnavailable
from broker.core.principal import DirectoryGroup

T = TypeVar("T")

SearchWhole = Callable[[Connection, Search, float], Sequence[Entry]]
"""Searches and gives every entry, or raises DirectoryUnavailable."""

SearchEach = Callable[[Connection, Sequence[Search], float], Sequence[Sequence[Entry]]]
"""The same for several searches that do not wait for one another."""

_NAME: Final = "cn"
_SID: Final = "objectSid"
_TOKEN_GROUPS: Final = "tokenGroups"  # noqa: S105 - the name of an attribute, not a password
_MEMBER_OF: Final = "memberOf"
_PRIMARY_GROUP_NUMBER: Final = "gidNumber"

# How many terms one filter has: servers cap filters, and one round trip for a hundred is cheap enough.
_TERMS: Final = 100
# More groups than a person can have; a directory that leads further is broken, and is refused rather than cut short.
MOST_GROUPS: Final = 20_000
# A group's DN and name may change under the same SID, which membership compares; they are read again after this.
_SID_KEPT_SECONDS: Final = 600.0
_MOST_SIDS_KEPT: Final = 100_000


class GroupReader(Protocol):
    """One way to find somebody's groups."""

    person_attributes: tuple[str, ...]
    """What of the person's entry it needs."""

    def groups_of(self, person: Entry, connection: Connection, deadline: float) -> frozenset[DirectoryGroup]:
        """All groups of that person.

        Raises:
            DirectoryUnavailable: they could not all be read.
            ConnectionFailed: no answer.
        """


def group_reader(config: DirectoryConfig, search: SearchWhole, search_each: SearchEach) -> GroupReader:
    """The way that the settings choose."""
    match config.schema.membership:
        case GroupMembership.TOKEN_GROUPS:
            return TokenGroups(config, search)
        case GroupMembership.MEMBER:
            return MemberGroups(config, search)
        case GroupMembership.MEMBER_OF:
            return MemberOfGroups(search_each)
        case GroupMembership.MEMBER_UID:
            return PosixGroups(config, search)


def group_attributes(config: DirectoryConfig) -> tuple[str, ...]:
    """What has to be read of a group."""
    return (_NAME, _SID) if config.schema.membership is GroupMembership.TOKEN_GROUPS else (_NAME,)


def group_of(entry: Entry) -> DirectoryGroup:
    """The group of an entry.

    Raises:
        DirectoryUnavailable: its security identifier is malformed.
    """
    dn = _normalised(entry.dn)
    sids = entry.octets(_SID)
    name = next(iter(entry.texts(_NAME)), dn)
    try:
        return DirectoryGroup(dn, name, sid_text(sids[0]) if len(sids) == 1 else None)
    except ValueError as error:
        raise DirectoryUnavailable(f"the objectSid of {entry.dn!r} is malformed") from error


def _unnamed(sid: bytes) -> DirectoryGroup:
    try:
        text = sid_text(sid)
    except ValueError as error:
        raise DirectoryUnavailable("a value of tokenGroups is malformed") from error
    # [MS-ADTS] 3.1.1.3.1.2.4: how a DN may be written by its SID.
    return DirectoryGroup(f"<sid={text.lower()}>", text, text)


def sid_text(octets: bytes) -> str:
    """A security identifier as ``S-1-…`` ([MS-DTYP] 2.4.2).

    Raises:
        ValueError: it is not one.
    """
    try:
        revision, count, high, low = struct.unpack_from(">BBHI", octets)
        parts = struct.unpack(f"<{count}I", octets[8:])
    except struct.error as error:
        raise ValueError("not a security identifier") from error
    return "-".join(map(str, ("S", revision, (high << 32) + low, *parts)))


class TokenGroups:
    """Active Directory computes all groups of a person as SIDs; who they are is looked up once and kept.

    Against one person among 2,015 in Samba, the matching rule IN_CHAIN takes 307 ms and leaves out the primary group;
    tokenGroups takes 9 ms.
    """

    person_attributes: tuple[str, ...] = ()

    def __init__(self, config: DirectoryConfig, search: SearchWhole) -> None:
        self._search = search
        # Groups outside the group base count too, such as the primary one; the whole domain is looked through.
        self._base = domain_of(config.group_base)
        self._attributes = group_attributes(config)
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[DirectoryGroup | None, float]] = {}

    def groups_of(self, person: Entry, connection: Connection, deadline: float) -> frozenset[DirectoryGroup]:
        """See :class:`GroupReader`. A group of another domain, which this server cannot name, is called by its SID."""
        # The server computes it in a search of the entry alone only.
        question = Search(person.dn, Scope.BASE, everything(), (_TOKEN_GROUPS,))
        entries = self._search(connection, question, deadline)
        if not entries:
            raise DirectoryUnavailable("a person's entry was moved while it was read")
        sids = {sid for entry in entries for sid in entry.octets(_TOKEN_GROUPS)}
        if not sids:
            # Everybody has at least a primary group.
            raise DirectoryUnavailable(
                "the service account may not read tokenGroups: let it read that attribute of people (README, step 1)"
            )
        now = time.monotonic()
        with self._lock:
            kept = {sid: self._known[sid] for sid in sids if sid in self._known}
        groups = {sid: group for sid, (group, until) in kept.items() if now < until}
        found = self._named(sids - groups.keys(), connection, deadline)
        with self._lock:
            if len(self._known) > _MOST_SIDS_KEPT:
                self._known.clear()
            self._known.update((sid, (group, now + _SID_KEPT_SECONDS)) for sid, group in found.items())
        return frozenset(group or _unnamed(sid) for sid, group in {**groups, **found}.items())

    def _named(
        self, sids: Iterable[bytes], connection: Connection, deadline: float
    ) -> dict[bytes, DirectoryGroup | None]:
        found: dict[bytes, DirectoryGroup | None] = dict.fromkeys(sids)
        for chunk in _chunks(found):
            wanted = any_of([equals(_SID, sid) for sid in chunk])
            for entry in self._search(
                connection, Search(self._base, Scope.SUBTREE, wanted, self._attributes), deadline
            ):
                for sid in entry.octets(_SID):
                    found[sid] = group_of(entry)
        return found


class MemberGroups:
    """Groups list the DNs of their members; groups in groups are searched level by level, each group once."""

    person_attributes: tuple[str, ...] = ()

    def __init__(self, config: DirectoryConfig, search: SearchWhole) -> None:
        self._search = search
        self._base = config.group_base
        self._attributes = group_attributes(config)
        self._filter = compiled(config.schema.group_filter)
        self._member = config.schema.member_attribute

    def groups_of(self, person: Entry, connection: Connection, deadline: float) -> frozenset[DirectoryGroup]:
        """See :class:`GroupReader`."""
        found: dict[str, DirectoryGroup] = {}
        level = [person.dn]
        while level:
            above: list[str] = []
            for chunk in _chunks(level):
                wanted = all_of(self._filter, any_of([equals(self._member, dn) for dn in chunk]))
                question = Search(self._base, Scope.SUBTREE, wanted, self._attributes)
                for entry in self._search(connection, question, deadline):
                    group = group_of(entry)
                    if group.dn not in found:
                        found[group.dn] = group
                        above.append(entry.dn)
            _check_number(len(found))
            level = above
        return frozenset(found.values())


class MemberOfGroups:
    """People and groups list the DNs of the groups they are in."""

    person_attributes: tuple[str, ...] = (_MEMBER_OF,)

    def __init__(self, search_each: SearchEach) -> None:
        self._search_each = search_each

    def groups_of(self, person: Entry, connection: Connection, deadline: float) -> frozenset[DirectoryGroup]:
        """See :class:`GroupReader`."""
        found: dict[str, DirectoryGroup] = {}
        seen: set[str] = set()
        level = {_normalised(dn): dn for dn in person.texts(_MEMBER_OF)}
        while level:
            seen |= level.keys()
            _check_number(len(seen))
            questions = [Search(dn, Scope.BASE, everything(), (_NAME, _MEMBER_OF)) for dn in level.values()]
            above: dict[str, str] = {}
            for normal, entries in zip(level, self._search_each(connection, questions, deadline), strict=True):
                for entry in entries:
                    found[normal] = group_of(entry)
                    above |= {_normalised(dn): dn for dn in entry.texts(_MEMBER_OF)}
            level = {normal: dn for normal, dn in above.items() if normal not in seen}
        return frozenset(found.values())


class PosixGroups:
    """Groups list usernames, and the person has the number of a primary group; groups do not nest (RFC 2307)."""

    def __init__(self, config: DirectoryConfig, search: SearchWhole) -> None:
        self._search = search
        self._base = config.group_base
        self._attributes = group_attributes(config)
        self._filter = compiled(config.schema.group_filter)
        self._member = config.schema.member_attribute
        self._username = config.schema.username_attribute
        self.person_attributes: tuple[str, ...] = (_PRIMARY_GROUP_NUMBER,)

    def groups_of(self, person: Entry, connection: Connection, deadline: float) -> frozenset[DirectoryGroup]:
        """See :class:`GroupReader`."""
        terms: list[Filter] = [equals(self._member, name) for name in person.octets(self._username)]
        terms += [equals(_PRIMARY_GROUP_NUMBER, number) for number in person.octets(_PRIMARY_GROUP_NUMBER)]
        wanted = all_of(self._filter, any_of(terms))
        question = Search(self._base, Scope.SUBTREE, wanted, self._attributes)
        return frozenset(map(group_of, self._search(connection, question, deadline)))


def _normalised(dn: str) -> str:
    try:
        return normalise(dn)
    except MalformedName:
        # What some server takes for a DN and RFC 4514 does not: it equals itself, and no DN that is one.
        return dn


def _chunks(items: Iterable[T]) -> Iterator[Sequence[T]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, _TERMS)):
        yield chunk


def _check_number(found: int) -> None:
    if found > MOST_GROUPS:
        raise DirectoryUnavailable(f"one person is in more than {MOST_GROUPS} groups")
