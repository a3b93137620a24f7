"""Search filters: decoding them, and deciding whether an entry matches (RFC 4511 section 4.5.1.7).

Evaluation has three values. `None` is Undefined: an attribute nobody knows, a value that breaks its syntax, a
password. It stays Undefined under `not`, so that neither `(userPassword=a)` nor its negation tells anything.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from broker.sandbox.directory import ber
from broker.sandbox.directory.entries import Entry, Tree
from broker.sandbox.directory.names import DistinguishedName, fold, prepared
from broker.sandbox.directory.schema import (
    CONSTRUCTED_ATTRIBUTES,
    PASSWORD_ATTRIBUTES,
    Syntax,
    comparable,
    sortable,
    syntax_of,
)

BIT_AND: Final = "1.2.840.113556.1.4.803"
BIT_OR: Final = "1.2.840.113556.1.4.804"
IN_CHAIN: Final = "1.2.840.113556.1.4.1941"
"""The matching rules of [MS-ADTS] 3.1.1.3.4.4."""

_AND, _OR, _NOT = 0xA0, 0xA1, 0xA2
_EQUALITY, _SUBSTRINGS, _GREATER_OR_EQUAL, _LESS_OR_EQUAL = 0xA3, 0xA4, 0xA5, 0xA6
_PRESENT, _APPROXIMATE, _EXTENSIBLE = 0x87, 0xA8, 0xA9
_INITIAL, _ANY, _FINAL = 0x80, 0x81, 0x82
_RULE, _TYPE, _VALUE, _WITH_NAME = 0x81, 0x82, 0x83, 0x84


@dataclass(frozen=True)
class And:
    """All parts match; without parts always true (RFC 4526)."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Or:
    """At least one part matches; without parts always false (RFC 4526)."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """The part does not match."""

    part: "Filter"


@dataclass(frozen=True)
class Equality:
    """A value is equal by the attribute's own rule. An approximate match is decoded to this, as AD treats it."""

    attribute: str
    value: bytes


@dataclass(frozen=True)
class Substrings:
    """A value starts, goes on and ends with the given pieces, in order and without overlap."""

    attribute: str
    initial: bytes
    middle: tuple[bytes, ...]
    final: bytes


@dataclass(frozen=True)
class GreaterOrEqual:
    """A value is equal or comes later."""

    attribute: str
    value: bytes


@dataclass(frozen=True)
class LessOrEqual:
    """A value is equal or comes earlier."""

    attribute: str
    value: bytes


@dataclass(frozen=True)
class Present:
    """The attribute has a value."""

    attribute: str


@dataclass(frozen=True)
class Extensible:
    """A value matches by a named rule; without one this is equality. Empty text stands for an absent part."""

    rule: str
    attribute: str
    value: bytes
    with_name: bool


_Assertion = Equality | Substrings | GreaterOrEqual | LessOrEqual | Present | Extensible
Filter = And | Or | Not | _Assertion
Truth = bool | None
Predicate = Callable[[Entry], Truth]


def read(reader: ber.Reader) -> Filter:
    """The filter that comes next.

    Raises:
        ber.BerError: it is malformed or nested too deep.
    """
    tag = reader.next_tag()
    if tag in (_AND, _OR):
        parts = reader.enter(tag)
        found: list[Filter] = []
        while not parts.at_end():
            found.append(read(parts))
        return And(tuple(found)) if tag == _AND else Or(tuple(found))
    if tag == _NOT:
        return Not(read(reader.enter(_NOT)))
    if tag == _SUBSTRINGS:
        return _read_substrings(reader.enter(_SUBSTRINGS))
    if tag == _PRESENT:
        return Present(reader.text(_PRESENT))
    if tag == _EXTENSIBLE:
        return _read_extensible(reader.enter(_EXTENSIBLE))
    return _read_assertion(reader, tag)


def _read_assertion(reader: ber.Reader, tag: int | None) -> Filter:
    kinds: dict[int | None, type[Equality | GreaterOrEqual | LessOrEqual]] = {
        _EQUALITY: Equality,
        _APPROXIMATE: Equality,
        _GREATER_OR_EQUAL: GreaterOrEqual,
        _LESS_OR_EQUAL: LessOrEqual,
    }
    if tag is None or tag not in kinds:
        raise ber.BerError("this is not a filter")
    assertion = reader.enter(tag)
    return kinds[tag](assertion.text(), assertion.octets())


def _read_substrings(reader: ber.Reader) -> Substrings:
    attribute = reader.text()
    pieces = reader.enter()
    initial = pieces.octets(_INITIAL) if pieces.next_tag() == _INITIAL else b""
    middle: list[bytes] = []
    while pieces.next_tag() == _ANY:
        middle.append(pieces.octets(_ANY))
    final = pieces.octets(_FINAL) if pieces.next_tag() == _FINAL else b""
    if not pieces.at_end() or not (initial or middle or final):
        raise ber.BerError("the pieces of a substring filter are missing or out of order")
    return Substrings(attribute, initial, tuple(middle), final)


def _read_extensible(reader: ber.Reader) -> Extensible:
    rule = reader.text(_RULE) if reader.next_tag() == _RULE else ""
    attribute = reader.text(_TYPE) if reader.next_tag() == _TYPE else ""
    value = reader.octets(_VALUE)
    with_name = reader.boolean(_WITH_NAME) if reader.next_tag() == _WITH_NAME else False
    return Extensible(rule, attribute, value, with_name)


def compiled(node: Filter, tree: Tree) -> Predicate:
    """A function that tells whether an entry of `tree` matches; what is the same for all is worked out once."""
    match node:
        case And(parts):
            return _all_of([compiled(part, tree) for part in parts], lacking=False)
        case Or(parts):
            return _all_of([compiled(part, tree) for part in parts], lacking=True)
        case Not(part):
            return _negated(compiled(part, tree))
        case _ if _is_searchable(node.attribute, tree):
            return _assertion(node, tree)
        case _:
            return _undefined


def _assertion(node: _Assertion, tree: Tree) -> Predicate:
    match node:
        case Present(attribute):
            return lambda entry: bool(tree.values(entry, attribute))
        case Equality(attribute, value):
            return _equal(attribute, value, tree)
        case Substrings():
            return _substrings(node, tree)
        case GreaterOrEqual(attribute, value):
            return _ordered(attribute, value, tree, later=True)
        case LessOrEqual(attribute, value):
            return _ordered(attribute, value, tree, later=False)
        case Extensible():
            return _extensible(node, tree)


def _is_searchable(attribute: str, tree: Tree) -> bool:
    name = attribute.lower()
    return name not in PASSWORD_ATTRIBUTES | CONSTRUCTED_ATTRIBUTES and tree.knows_attribute(name)


def _undefined(_entry: Entry) -> Truth:
    return None


def _all_of(parts: list[Predicate], *, lacking: bool) -> Predicate:
    """And, or for `lacking` Or: the first decisive part settles it, then Undefined outweighs the default."""

    def decide(entry: Entry) -> Truth:
        unsettled = False
        for part in parts:
            truth = part(entry)
            if truth is lacking:
                return lacking
            unsettled = unsettled or truth is None
        return None if unsettled else not lacking

    return decide


def _negated(part: Predicate) -> Predicate:
    def decide(entry: Entry) -> Truth:
        truth = part(entry)
        return None if truth is None else not truth

    return decide


def _wanted(attribute: str, value: bytes, tree: Tree) -> Hashable | None:
    """The comparable form of an asserted value. `(objectCategory=person)` names a class instead of a DN."""
    if attribute.lower() == "objectcategory":
        category = tree.category(value.decode(errors="replace"))
        if category is not None:
            return category
    return comparable(syntax_of(attribute), value)


def _equal(attribute: str, value: bytes, tree: Tree) -> Predicate:
    wanted = _wanted(attribute, value, tree)
    if wanted is None:
        return _undefined
    syntax = syntax_of(attribute)
    return lambda entry: any(comparable(syntax, held) == wanted for held in tree.values(entry, attribute))


def _ordered(attribute: str, value: bytes, tree: Tree, *, later: bool) -> Predicate:
    syntax = syntax_of(attribute)
    bound = sortable(syntax, value)
    if bound is None:
        return _undefined

    def decide(entry: Entry) -> Truth:
        for held in tree.values(entry, attribute):
            found = sortable(syntax, held)
            if found is not None and (found >= bound if later else found <= bound):
                return True
        return False

    return decide


def _substrings(node: Substrings, tree: Tree) -> Predicate:
    if syntax_of(node.attribute) is not Syntax.TEXT:
        return _undefined
    try:
        initial, final = fold(node.initial.decode()), fold(node.final.decode())
        middle = [fold(piece.decode()) for piece in node.middle]
    except UnicodeDecodeError:
        return _undefined

    def matches(text: str) -> bool:
        if not text.startswith(initial):
            return False
        position = len(initial)
        for piece in middle:
            found = text.find(piece, position)
            if found < 0:
                return False
            position = found + len(piece)
        return text.endswith(final) and len(text) - len(final) >= position

    def decide(entry: Entry) -> Truth:
        return any(matches(prepared(held.decode())) for held in tree.values(entry, node.attribute))

    return decide


def _extensible(node: Extensible, tree: Tree) -> Predicate:
    """`with_name` (`:dn:`) changes nothing, as in Active Directory ([MS-ADTS] 3.1.1.3.1.3.1)."""
    syntax = syntax_of(node.attribute)
    wanted = comparable(syntax, node.value)
    if not node.rule:
        return _equal(node.attribute, node.value, tree)
    if node.rule == IN_CHAIN and isinstance(wanted, DistinguishedName):
        found = tree.chain(node.attribute, wanted)
        return lambda entry: entry.name in found
    if syntax is Syntax.INTEGER and isinstance(wanted, int) and node.rule in {BIT_AND, BIT_OR}:
        return _bits(node.attribute, wanted, tree, every=node.rule == BIT_AND)
    return _undefined


def _bits(attribute: str, mask: int, tree: Tree, *, every: bool) -> Predicate:
    def decide(entry: Entry) -> Truth:
        common = [int(held) & mask for held in tree.values(entry, attribute)]
        return any(bits == mask if every else bits != 0 for bits in common)

    return decide
