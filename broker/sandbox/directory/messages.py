"""LDAP messages as values: requests decoded, responses encoded (RFC 4511 section 4)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeVar

from broker.sandbox.directory import ber, filters
from broker.sandbox.directory.entries import Attribute, Scope
from broker.sandbox.directory.results import ResultCode

START_TLS: Final = "1.3.6.1.4.1.1466.20037"
WHO_AM_I: Final = "1.3.6.1.4.1.4203.1.11.3"
NOTICE_OF_DISCONNECTION: Final = "1.3.6.1.4.1.1466.20036"
PAGED_RESULTS: Final = "1.2.840.113556.1.4.319"

_BIND, _BIND_RESPONSE = 0x60, 0x61
_UNBIND = 0x42
_SEARCH, _SEARCH_ENTRY, _SEARCH_DONE = 0x63, 0x64, 0x65
_MODIFY, _MODIFY_RESPONSE = 0x66, 0x67
_ADD, _ADD_RESPONSE = 0x68, 0x69
_DELETE, _DELETE_RESPONSE = 0x4A, 0x6B
_MODIFY_NAME, _MODIFY_NAME_RESPONSE = 0x6C, 0x6D
_COMPARE, _COMPARE_RESPONSE = 0x6E, 0x6F
_ABANDON = 0x50
_EXTENDED, _EXTENDED_RESPONSE = 0x77, 0x78

_CONTROLS = 0xA0
_SIMPLE = 0x80
_EXTENDED_NAME = 0x80
_RESPONSE_NAME, _RESPONSE_VALUE = 0x8A, 0x8B
_MAX_INT: Final = 2**31 - 1
_Choice = TypeVar("_Choice", bound=IntEnum)


class ChangeKind(IntEnum):
    """What a modification does with its values."""

    ADD = 0
    DELETE = 1
    REPLACE = 2


@dataclass(frozen=True)
class BindRequest:
    """`password` is None for any method but simple; it never shows in a representation."""

    version: int
    name: str
    password: bytes | None = field(repr=False)


@dataclass(frozen=True)
class UnbindRequest:
    """The client is leaving."""


@dataclass(frozen=True)
class AbandonRequest:
    """The client has lost interest in an earlier request, which was answered long ago."""


@dataclass(frozen=True)
class SearchRequest:
    """`size_limit` counts entries, 0 for none. Aliases and the time limit play no part here."""

    base: str
    scope: Scope
    size_limit: int
    types_only: bool
    filter: filters.Filter
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One step of a modification. The values may be passwords and never show in a representation."""

    kind: ChangeKind
    attribute: str
    values: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True)
class ModifyRequest:
    """All changes take effect in order, or none does."""

    name: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class CompareRequest:
    """Does the entry hold this value?"""

    name: str
    attribute: str
    value: bytes = field(repr=False)


@dataclass(frozen=True)
class ExtendedRequest:
    """An operation named by its OID."""

    oid: str


@dataclass(frozen=True)
class UnsupportedRequest:
    """Adding, deleting and renaming entries: understood, never done."""

    response_tag: int


Request = (
    BindRequest
    | UnbindRequest
    | AbandonRequest
    | SearchRequest
    | ModifyRequest
    | CompareRequest
    | ExtendedRequest
    | UnsupportedRequest
)


@dataclass(frozen=True)
class Control:
    """A control that came with a request; an absent value is empty."""

    oid: str
    critical: bool
    value: bytes


@dataclass(frozen=True)
class Message:
    """One request with the number that its answers bear."""

    id: int
    request: Request
    controls: tuple[Control, ...]


def read(octets: bytes) -> Message:
    """The message that a whole LDAPMessage element encodes.

    Raises:
        ber.BerError: it is malformed, or asks for an operation that LDAP v3 does not have.
    """
    envelope = ber.Reader(octets).enter()
    number = envelope.integer()
    if not 0 < number <= _MAX_INT:
        raise ber.BerError("a request has a message id from 1 to 2147483647")
    request = _read_request(envelope)
    controls: list[Control] = []
    if envelope.next_tag() == _CONTROLS:
        listed = envelope.enter(_CONTROLS)
        while not listed.at_end():
            controls.append(_read_control(listed.enter()))
    return Message(number, request, tuple(controls))


def _read_request(envelope: ber.Reader) -> Request:
    tag = envelope.next_tag()
    if tag in _UNSUPPORTED:
        envelope.element()
        return UnsupportedRequest(_UNSUPPORTED[tag])
    if tag in (_UNBIND, _ABANDON):
        envelope.element()
        return UnbindRequest() if tag == _UNBIND else AbandonRequest()
    if tag is None or tag not in _READERS:
        raise ber.BerError("LDAP v3 has no such operation")
    return _READERS[tag](envelope.enter(tag))


def _read_bind(request: ber.Reader) -> BindRequest:
    version, name = request.integer(), request.text()
    method, credentials = request.element()
    return BindRequest(version, name, credentials if method == _SIMPLE else None)


def _member(choice: type[_Choice], number: int) -> _Choice:
    try:
        return choice(number)
    except ValueError:
        raise ber.BerError(f"{number} is no {choice.__name__}") from None


def _read_search(request: ber.Reader) -> SearchRequest:
    base = request.text()
    scope = _member(Scope, request.integer(ber.ENUMERATED))
    request.integer(ber.ENUMERATED)  # how to treat aliases: there are none
    size_limit = request.integer()
    request.integer()  # time limit: answers come at once
    if size_limit < 0:
        raise ber.BerError("a size limit is not negative")
    types_only = request.boolean()
    condition = filters.read(request)
    selection = request.enter()
    attributes: list[str] = []
    while not selection.at_end():
        attributes.append(selection.text())
    return SearchRequest(base, scope, size_limit, types_only, condition, tuple(attributes))


def _read_modify(request: ber.Reader) -> ModifyRequest:
    name = request.text()
    listed = request.enter()
    changes: list[Change] = []
    while not listed.at_end():
        step = listed.enter()
        kind = _member(ChangeKind, step.integer(ber.ENUMERATED))
        part = step.enter()
        attribute, held = part.text(), part.enter(ber.SET)
        values: list[bytes] = []
        while not held.at_end():
            values.append(held.octets())
        changes.append(Change(kind, attribute, tuple(values)))
    return ModifyRequest(name, tuple(changes))


def _read_compare(request: ber.Reader) -> CompareRequest:
    name = request.text()
    assertion = request.enter()
    return CompareRequest(name, assertion.text(), assertion.octets())


def _read_extended(request: ber.Reader) -> ExtendedRequest:
    return ExtendedRequest(request.text(_EXTENDED_NAME))


_READERS: Final[dict[int | None, Callable[[ber.Reader], Request]]] = {
    _BIND: _read_bind,
    _SEARCH: _read_search,
    _MODIFY: _read_modify,
    _COMPARE: _read_compare,
    _EXTENDED: _read_extended,
}
_UNSUPPORTED: Final[dict[int | None, int]] = {
    _ADD: _ADD_RESPONSE,
    _DELETE: _DELETE_RESPONSE,
    _MODIFY_NAME: _MODIFY_NAME_RESPONSE,
}


def _read_control(control: ber.Reader) -> Control:
    oid = control.text()
    critical = control.boolean() if control.next_tag() == ber.BOOLEAN else False
    value = control.octets() if control.next_tag() == ber.OCTET_STRING else b""
    return Control(oid, critical, value)


@dataclass(frozen=True)
class PageRequest:
    """The paged results control (RFC 2696): how many entries, and where the last page ended."""

    size: int
    cookie: bytes


def read_page_request(value: bytes) -> PageRequest:
    """The value of a paged results control.

    Raises:
        ber.BerError: it is malformed.
    """
    control = ber.Reader(value).enter()
    page = PageRequest(control.integer(), control.octets())
    if page.size < 0:
        raise ber.BerError("a page size is not negative")
    return page


def page_control(cookie: bytes) -> bytes:
    """The control of a paged answer; an empty cookie says that this was the last page."""
    value = ber.sequence(ber.integer(0), ber.octets(cookie))  # 0: the total is not estimated
    return ber.sequence(ber.octets(PAGED_RESULTS), ber.octets(value))


@dataclass(frozen=True)
class Result:
    """How an operation ended."""

    code: ResultCode = ResultCode.SUCCESS
    diagnostic: str = ""
    matched_dn: str = ""

    def encoded(self) -> bytes:
        """The three components that every response starts with."""
        return ber.integer(self.code, ber.ENUMERATED) + ber.octets(self.matched_dn) + ber.octets(self.diagnostic)


def response(message: Message, result: Result, controls: Iterable[bytes] = ()) -> bytes:
    """The final answer to a request, of the type that belongs to it; none for unbind and abandon."""
    match message.request:
        case UnbindRequest() | AbandonRequest():
            return b""
        case UnsupportedRequest(tag):
            response_tag = tag
        case BindRequest():
            response_tag = _BIND_RESPONSE
        case SearchRequest():
            response_tag = _SEARCH_DONE
        case ModifyRequest():
            response_tag = _MODIFY_RESPONSE
        case CompareRequest():
            response_tag = _COMPARE_RESPONSE
        case ExtendedRequest():
            response_tag = _EXTENDED_RESPONSE
    encoded_controls = b"".join(controls)
    return ber.sequence(
        ber.integer(message.id),
        ber.sequence(result.encoded(), tag=response_tag),
        ber.sequence(encoded_controls, tag=_CONTROLS) if encoded_controls else b"",
    )


def extended_response(number: int, result: Result, *, oid: str = "", value: bytes | None = None) -> bytes:
    """The answer to an extended request, with the name and value that some have; 0 is the unsolicited number."""
    parts = [result.encoded()]
    if oid:
        parts.append(ber.octets(oid, _RESPONSE_NAME))
    if value is not None:
        parts.append(ber.octets(value, _RESPONSE_VALUE))
    return ber.sequence(ber.integer(number), ber.sequence(*parts, tag=_EXTENDED_RESPONSE))


def notice_of_disconnection(code: ResultCode, diagnostic: str) -> bytes:
    """What a client is told before the server hangs up (RFC 4511 section 4.4.1)."""
    return extended_response(0, Result(code, diagnostic), oid=NOTICE_OF_DISCONNECTION)


def search_entry(number: int, name: str, attributes: Iterable[Attribute]) -> bytes:
    """One entry found by a search."""
    shown = [
        ber.sequence(ber.octets(found.name), ber.sequence(*map(ber.octets, found.values), tag=ber.SET))
        for found in attributes
    ]
    return ber.sequence(ber.integer(number), ber.sequence(ber.octets(name), ber.sequence(*shown), tag=_SEARCH_ENTRY))
