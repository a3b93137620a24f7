"""The directory's content: immutable entries in an immutable tree, and the links between them.

A change makes a new tree, so that a search, or the next page of one, sees a single moment however long it takes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Final, NamedTuple

from broker.sandbox.directory.identifiers import guid_from_text, sid_from_text
from broker.sandbox.directory.names import DistinguishedName, InvalidName, prepared
from broker.sandbox.directory.schema import (
    CATEGORY_OF_CLASS,
    SYSTEM_ATTRIBUTES,
    Syntax,
    display_name,
    is_listed,
    syntax_of,
)

OPERATORS: Final = (("OU", "Groups"), ("CN", "Directory Operators"))
"""From the root downwards: the group whose members may modify entries."""

_FORWARD_LINK: Final = {"memberof": "member", "directreports": "manager"}
"""Lower-case back link to the attribute that it is worked out from."""


class Scope(IntEnum):
    """How far a search reaches below its base (RFC 4511 section 4.5.1.2)."""

    BASE = 0
    ONE = 1
    SUBTREE = 2


class Attribute(NamedTuple):
    """An attribute as it is shown: its name in its own capitals, and its values in order."""

    name: str
    values: tuple[bytes, ...]


@dataclass(frozen=True)
class Entry:
    """One entry. `attributes` is keyed by lower-case name and holds stored attributes only."""

    name: DistinguishedName
    attributes: Mapping[str, Attribute]

    def values(self, attribute: str) -> tuple[bytes, ...]:
        """The stored values, none if the attribute is absent; its name in any case."""
        found = self.attributes.get(attribute.lower())
        return found.values if found else ()

    def text(self, attribute: str) -> str:
        """The first value as text; empty if the attribute is absent."""
        return next((value.decode(errors="replace") for value in self.values(attribute)), "")

    def number(self, attribute: str, default: int = 0) -> int:
        """The value of an integer attribute, or `default` if it is absent."""
        return int(self.text(attribute) or default)

    def with_values(self, attribute: str, *values: bytes | str | int) -> "Entry":
        """This entry with other values of one attribute; with none, without the attribute."""
        key = attribute.lower()
        attributes = dict(self.attributes)
        if values:
            shown = attributes[key].name if key in attributes else display_name(attribute)
            octets = tuple(value if isinstance(value, bytes) else str(value).encode() for value in values)
            attributes[key] = Attribute(shown, octets)
        else:
            attributes.pop(key, None)
        return replace(self, attributes=attributes)

    def is_a(self, object_class: str) -> bool:
        """Whether the entry has the class; its name in any case."""
        return any(value.lower() == object_class.lower().encode() for value in self.values("objectClass"))


class Tree:
    """All entries at one moment, the root of the naming context first."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: Mapping[DistinguishedName, Entry] = {entry.name: entry for entry in entries}
        self.root = next(iter(self.entries.values()))
        self._referrers: dict[str, Mapping[DistinguishedName, tuple[Entry, ...]]] = {}

    def with_entry(self, entry: Entry) -> "Tree":
        """This tree with one entry in place of the one of the same name."""
        return Tree({**self.entries, entry.name: entry}.values())

    @cached_property
    def dns_domain(self) -> str:
        """The DNS name of the domain: DC=corp,DC=example is corp.example."""
        return ".".join(value for rdn in self.root.name.rdns for _, value in rdn)

    @cached_property
    def netbios_domain(self) -> str:
        """The short name of the domain: CORP for corp.example, as Windows proposes it."""
        return self.dns_domain.partition(".")[0].upper()

    @cached_property
    def operators(self) -> DistinguishedName:
        """The group whose members may modify entries."""
        name = self.root.name
        for kind, value in OPERATORS:
            name = name.child(kind, value)
        return name

    def category(self, object_class: str) -> DistinguishedName | None:
        """What objectCategory points to for a class, or None for a class without one."""
        known = CATEGORY_OF_CLASS.get(object_class.lower())
        if known is None:
            return None
        return self.root.name.child("CN", "Configuration").child("CN", "Schema").child("CN", known)

    def resolve(self, text: str) -> Entry | None:
        """The entry that a name points to: a DN, `<GUID=…>` or `<SID=…>` ([MS-ADTS] 3.1.1.3.1.2.4).

        Raises:
            InvalidName: the text is none of these.
        """
        if not text.startswith("<"):
            return self.entries.get(DistinguishedName.parse(text))
        kind, _, value = text.removeprefix("<").removesuffix(">").partition("=")
        readers = {"GUID": (guid_from_text, self.by_guid), "SID": (sid_from_text, self.by_sid)}
        if kind.upper() not in readers or not text.endswith(">"):
            raise InvalidName("neither a distinguished name nor <GUID=…> nor <SID=…>")
        read, index = readers[kind.upper()]
        identifier = read(value)
        if identifier is None:
            raise InvalidName("the identifier between the angle brackets is malformed")
        return index.get(identifier)

    def within(self, base: Entry, scope: Scope) -> Iterator[Entry]:
        """The entries a search looks at, in the order they were loaded."""
        if scope is Scope.BASE:
            yield base
            return
        depth = len(base.name.rdns) + 1
        for entry in self.entries.values():
            if entry.name.is_within(base.name) and (scope is Scope.SUBTREE or len(entry.name.rdns) == depth):
                yield entry

    def nearest(self, name: DistinguishedName) -> DistinguishedName:
        """The closest name above a missing one that does exist; the empty name if none does."""
        while name.rdns and name not in self.entries:
            name = name.parent
        return name

    def values(self, entry: Entry, attribute: str) -> tuple[bytes, ...]:
        """Stored values or worked-out back links (memberOf, directReports) of an entry."""
        forward = _FORWARD_LINK.get(attribute.lower())
        if forward is None:
            return entry.values(attribute)
        return tuple(str(referrer.name).encode() for referrer in self.referrers(forward).get(entry.name, ()))

    def knows_attribute(self, attribute: str) -> bool:
        """Whether the schema or any entry has the attribute; filters on others are Undefined."""
        return is_listed(attribute) or attribute.lower() in self._attributes_in_use

    @cached_property
    def _attributes_in_use(self) -> frozenset[str]:
        return frozenset(key for entry in self.entries.values() for key in entry.attributes)

    def referrers(self, attribute: str) -> Mapping[DistinguishedName, tuple[Entry, ...]]:
        """For each name, the entries that name it in a stored attribute whose values are names."""
        key = attribute.lower()
        if key not in self._referrers:
            found: dict[DistinguishedName, list[Entry]] = defaultdict(list)
            if syntax_of(key) is Syntax.NAME:
                for entry in self.entries.values():
                    for value in entry.values(key):
                        found[DistinguishedName.parse(value.decode())].append(entry)
            self._referrers[key] = {name: tuple(entries) for name, entries in found.items()}
        return self._referrers[key]

    def chain(self, attribute: str, target: DistinguishedName) -> frozenset[DistinguishedName]:
        """The entries from which `target` is reached by following an attribute, in any number of steps.

        For `member` and a person: all groups the person is in. For `memberOf` and a group: everybody in it. Cycles
        end by themselves, as no entry is visited twice. The target itself is among them only if it is on a cycle.
        """
        reached: set[DistinguishedName] = set()
        waiting = [target]
        while waiting:
            for name in self._one_step_back(attribute.lower(), waiting.pop()):
                if name not in reached:
                    reached.add(name)
                    waiting.append(name)
        return frozenset(reached)

    def _one_step_back(self, attribute: str, target: DistinguishedName) -> Iterator[DistinguishedName]:
        forward = _FORWARD_LINK.get(attribute)
        if forward is None:
            yield from (entry.name for entry in self.referrers(attribute).get(target, ()))
        elif target in self.entries:
            for value in self.entries[target].values(forward):
                yield DistinguishedName.parse(value.decode())

    @cached_property
    def by_sid(self) -> Mapping[bytes, Entry]:
        """Entries by the octets of their objectSid."""
        return {sid: entry for entry in self.entries.values() for sid in entry.values("objectSid")}

    @cached_property
    def by_guid(self) -> Mapping[bytes, Entry]:
        """Entries by the octets of their objectGUID."""
        return {guid: entry for entry in self.entries.values() for guid in entry.values("objectGUID")}

    @cached_property
    def by_account_name(self) -> Mapping[str, Entry]:
        """Entries by the prepared text of their sAMAccountName, which a domain has once."""
        return self._by_text("sAMAccountName")

    @cached_property
    def by_principal_name(self) -> Mapping[str, Entry]:
        """Entries by the prepared text of their userPrincipalName, which a forest has once."""
        return self._by_text("userPrincipalName")

    def shared(self, entry: Entry) -> str | None:
        """The attribute that has to be unique but whose value another entry of this tree has; None if all are."""
        holders = {
            "sAMAccountName": self.by_account_name.get(prepared(entry.text("sAMAccountName"))),
            "userPrincipalName": self.by_principal_name.get(prepared(entry.text("userPrincipalName"))),
            "objectSid": self.by_sid.get(b"".join(entry.values("objectSid"))),
            "objectGUID": self.by_guid.get(b"".join(entry.values("objectGUID"))),
        }
        for attribute, holder in holders.items():
            if holder is not None and holder.name != entry.name:
                return attribute
        return None

    def dangling(self, entry: Entry) -> str | None:
        """A writable attribute of the entry that names an entry which is not in this tree; None if there is none."""
        for key, (attribute, values) in entry.attributes.items():
            if syntax_of(key) is not Syntax.NAME or key in SYSTEM_ATTRIBUTES:
                continue
            if any(DistinguishedName.parse(value.decode()) not in self.entries for value in values):
                return attribute
        return None

    def _by_text(self, attribute: str) -> Mapping[str, Entry]:
        return {prepared(entry.text(attribute)): entry for entry in self.entries.values() if entry.values(attribute)}
