"""The LDAP messages that signing in needs (RFC 4511), between values and octets.

Requests are encoded here: the general-purpose encoder of ldap3 takes 0.6 ms for one search, more than the whole
exchange with a server over TLS. An assertion value goes into a filter as octets, never as text, so no typed name can
change what is asked. Filters that an operator writes are compiled by ldap3, once; answers are taken apart by ldap3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NewType

from ldap3.core.exceptions import LDAPExceptionError
from ldap3.operation.search import compile_filter, parse_filter
from ldap3.utils import asn1
from pyasn1.error import PyAsn1Error

from broker.core.credentials import Secret

Filter = NewType("Filter", bytes)
"""An encoded search filter."""

# Application tags of RFC 4511 that answers carry.
BIND_RESPONSE: Final = 1
SEARCH_ENTRY: Final = 4
SEARCH_DONE: Final = 5
MODIFY_RESPONSE: Final = 7
SEARCH_REFERENCE: Final = 19
EXTENDED_RESPONSE: Final = 24

_START_TLS: Final = b"1.3.6.1.4.1.1466.20037"  # RFC 4511 section 4.14
_PASSWORD_MODIFY: Final = b"1.3.6.1.4.1.4203.1.11.1"  # RFC 3062 section 2
_UNICODE_PASSWORD: Final = b"unicodePwd"
_PASSWORD_POLICY: Final = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105 - an OID, draft-behera-ldap-password-policy-10
_PAGED_RESULTS: Final = "1.2.840.113556.1.4.319"  # RFC 2696 section 2
_PASSWORD_EXPIRED: Final = "2.16.840.1.113730.3.4.4"  # noqa: S105 - an OID, draft-vchu-ldap-pwd-policy-00
_EVERYTHING: Final = b"\x87\x0bobjectClass"

# ldap3 has stubs without types for these, or types that are wrong.
_parse_filter: Final[Callable[..., Any]] = parse_filter
_compile_filter: Final[Callable[..., Any]] = compile_filter
_encode: Final[Callable[[Any], bytes]] = vars(asn1)["encode"]
_decode_message: Final[Callable[[bytes], dict[str, Any]]] = asn1.decode_message_fast
_decode_sequence: Final[Callable[..., Any]] = asn1.decode_sequence

_SEQUENCE: Final = 0x30
_TAG_NUMBER: Final = 0x1F  # of the identifier octet (X.690 section 8.1.2.2)
_LONG_FORM: Final = 0x80  # a length octet from here on says how many octets the length has (X.690 section 8.1.3.5)
_LONGEST_LENGTH: Final = 4

# Far above any entry (5,000 group names are 0.5 MB), far below what a worker has.
LONGEST_MESSAGE: Final = 64 * 1024 * 1024

SUCCESS: Final = 0
# Results that speak of the server's state, not of the question: operationsError, busy, unavailable, other.
SERVER_TROUBLE: Final = frozenset({1, 51, 52, 80})


class MalformedAnswer(Exception):
    """What the server sent is not an LDAP answer."""


class FilterInvalid(ValueError):
    """An operator's filter is not one (RFC 4515)."""


class Scope(IntEnum):
    """How deep a search goes (RFC 4511 section 4.5.1.2)."""

    BASE = 0
    SUBTREE = 2


class PolicyError(IntEnum):
    """Why the password policy refuses (draft-behera-ldap-password-policy-10 section 6.2)."""

    PASSWORD_EXPIRED = 0
    ACCOUNT_LOCKED = 1
    CHANGE_AFTER_RESET = 2
    PASSWORD_MOD_NOT_ALLOWED = 3
    MUST_SUPPLY_OLD_PASSWORD = 4
    INSUFFICIENT_PASSWORD_QUALITY = 5
    PASSWORD_TOO_SHORT = 6
    PASSWORD_TOO_YOUNG = 7
    PASSWORD_IN_HISTORY = 8
    PASSWORD_TOO_LONG = 9  # OpenLDAP's own, with pwdMaxLength


@dataclass(frozen=True, slots=True)
class Search:
    """One search.

    Attributes:
        size_limit: the most entries the server may return; 0: its own limit.
        page_size: the most entries of one page (RFC 2696); 0: not in pages.
        cookie: from the answer with the page before, on the same connection; empty for the first.
    """

    base: str
    scope: Scope
    filter: Filter
    attributes: tuple[str, ...]
    size_limit: int = 0
    page_size: int = 0
    cookie: bytes = b""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the directory.

    Attributes:
        dn: as the server spells it.
        values: by attribute name in lower case.
    """

    dn: str
    values: Mapping[str, tuple[bytes, ...]]

    def octets(self, attribute: str) -> tuple[bytes, ...]:
        """The values as they are; empty when there are none or they may not be read."""
        return self.values.get(attribute.lower(), ())

    def texts(self, attribute: str) -> tuple[str, ...]:
        """The values that are UTF-8."""
        return tuple(text for value in self.octets(attribute) if (text := _text(value)) is not None)

    def text(self, attribute: str) -> str | None:
        """The only value; None when there is none, when there are several, or when it is not UTF-8."""
        values = self.octets(attribute)
        return _text(values[0]) if len(values) == 1 else None

    def number(self, attribute: str) -> int | None:
        """The only value as an integer; None when there is none or it is not one."""
        text = self.text(attribute)
        try:
            return int(text) if text is not None else None
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the server.

    Attributes:
        id: of the request it answers; 0: nobody asked.
        kind: the application tag.
        code: the result code; None for entries and references.
        text: the server's diagnostic message, on one line.
        entry: for a search entry.
        policy_error: from the password policy control.
        grace_sign_ins: from the same control: how many more the expired password gives; None where it has not expired.
        password_expired: the older control of 389 Directory Server: bound, but only to change the password.
        cookie: for the next page of a search; empty after the last.
    """

    id: int
    kind: int
    code: int | None = None
    text: str = ""
    entry: Entry | None = None
    policy_error: int | None = None
    grace_sign_ins: int | None = None
    password_expired: bool = False
    cookie: bytes = b""


# --- Filters ---------------------------------------------------------------------------------------------------


def equals(attribute: str, value: str | bytes) -> Filter:
    """``(attribute=value)``."""
    octets = value.encode() if isinstance(value, str) else value
    return Filter(_tlv(0xA3, _octets(attribute.encode()), _octets(octets)))


def any_of(filters: Sequence[Filter]) -> Filter:
    """``(|…)``; of one filter, that filter."""
    return filters[0] if len(filters) == 1 else Filter(_tlv(0xA1, *filters))


def all_of(*filters: Filter) -> Filter:
    """``(&…)``."""
    return Filter(_tlv(0xA0, *filters))


def everything() -> Filter:
    """``(objectClass=*)``."""
    return Filter(_EVERYTHING)


def compiled(text: str) -> Filter:
    """An operator's filter.

    Raises:
        FilterInvalid: it is not one.
    """
    try:
        node = _parse_filter(text, None, auto_escape=True, auto_encode=True, validator=None, check_names=False)
        return Filter(_encode(_compile_filter(node.elements[0])))
    except (LDAPExceptionError, PyAsn1Error, ValueError, IndexError) as error:
        raise FilterInvalid(f"{text!r} is not an LDAP filter: {error}") from error


# --- Requests --------------------------------------------------------------------------------------------------


def search_request(message_id: int, search: Search) -> bytes:
    """SearchRequest; aliases are not followed."""
    return _message(
        message_id,
        _tlv(
            0x63,
            _octets(search.base.encode()),
            _integer(search.scope, tag=0x0A),
            _integer(0, tag=0x0A),  # neverDerefAliases
            _integer(search.size_limit),
            _integer(0),  # no time limit of the server's: ours is shorter and holds for hanging servers too
            b"\x01\x01\x00",  # typesOnly: FALSE
            search.filter,
            _selection(search.attributes),
        ),
        *([_page_control(search)] if search.page_size else []),
    )


def _page_control(search: Search) -> bytes:
    # Not critical: a server that cannot do pages answers at once, within its own limit.
    value = _tlv(0x30, _integer(search.page_size), _octets(search.cookie))
    return _tlv(0xA0, _tlv(0x30, _octets(_PAGED_RESULTS.encode()), _octets(value)))


@lru_cache(maxsize=64)  # an adapter asks for few different selections, at every sign-in
def _selection(attributes: tuple[str, ...]) -> bytes:
    no_attributes = ("1.1",)  # RFC 4511 section 4.5.1.8
    return _tlv(0x30, *(_octets(attribute.encode()) for attribute in attributes or no_attributes))


def bind_request(message_id: int, dn: str, password: Secret) -> bytes:
    """Simple bind, asking for the password policy's verdict.

    Raises:
        ValueError: the password is empty, which would be an anonymous bind that "succeeds" (RFC 4513 section 5.1.2), or
            the name is.
    """
    if not password or not dn:
        raise ValueError("a bind needs a name and a password")
    return _message(
        message_id,
        # The password is encoded in place, so that no frame of a traceback holds it in a variable.
        _tlv(0x60, _integer(3), _octets(dn.encode()), _tlv(0x80, password.reveal().encode())),
        _POLICY_CONTROLS,
    )


def unicode_password_change(message_id: int, dn: str, current: Secret, new: Secret) -> bytes:
    """ModifyRequest that changes a password of Active Directory ([MS-ADTS] 3.1.1.3.1.5.1).

    In one request the current value is deleted, which the server does only if it is the right one, and the new one is
    added. A single ``replace`` would be an administrator's reset: it asks for no proof.
    """
    return _message(
        message_id,
        _tlv(
            0x66,
            _octets(dn.encode()),
            _tlv(0x30, _unicode_password(1, current), _unicode_password(0, new)),
        ),
    )


def _unicode_password(operation: int, password: Secret) -> bytes:
    # Both passwords are encoded in place, as in a bind request.
    values = _tlv(0x31, _octets(f'"{password.reveal()}"'.encode("utf-16-le")))
    return _tlv(0x30, _integer(operation, tag=0x0A), _tlv(0x30, _octets(_UNICODE_PASSWORD), values))


def password_modify(message_id: int, dn: str, current: Secret, new: Secret) -> bytes:
    """ExtendedRequest Password Modify (RFC 3062), with the current password, asking for the password policy's verdict.

    Args:
        dn: whose; named even on their own connection, where it changes nothing.
    """
    return _message(
        message_id,
        _tlv(
            0x77,
            _tlv(0x80, _PASSWORD_MODIFY),
            _tlv(
                0x81,
                _tlv(
                    0x30,
                    _tlv(0x80, dn.encode()),
                    _tlv(0x81, current.reveal().encode()),
                    _tlv(0x82, new.reveal().encode()),
                ),
            ),
        ),
        _POLICY_CONTROLS,
    )


def start_tls_request(message_id: int) -> bytes:
    """ExtendedRequest StartTLS."""
    return _message(message_id, _tlv(0x77, _tlv(0x80, _START_TLS)))


def unbind_request(message_id: int) -> bytes:
    """UnbindRequest: a polite end; it has no answer."""
    return _message(message_id, b"\x42\x00")


def _message(message_id: int, *parts: bytes) -> bytes:
    return _tlv(0x30, _integer(message_id), *parts)


def _octets(value: bytes) -> bytes:
    return _tlv(0x04, value)


def _integer(value: int, *, tag: int = 0x02) -> bytes:
    # One octet more than the bits need keeps the sign bit clear.
    return _tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    length = len(content)
    if length < _LONG_FORM:
        return bytes((tag, length)) + content
    length_octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(length_octets))) + length_octets + content


_POLICY_CONTROLS: Final = _tlv(0xA0, _tlv(0x30, _octets(_PASSWORD_POLICY.encode())))


# --- Answers ---------------------------------------------------------------------------------------------------


def message_length(received: bytes | bytearray) -> int | None:
    """How long the message at the beginning is; None while too little of it is there to tell.

    Raises:
        MalformedAnswer: it is no message, or one that is too long.
    """
    if received and received[0] != _SEQUENCE:
        raise MalformedAnswer("the server does not speak LDAP")
    offset = 2
    if len(received) < offset:
        return None
    length = received[1]
    if length >= _LONG_FORM:
        length_octets = length - _LONG_FORM
        if not 0 < length_octets <= _LONGEST_LENGTH:
            raise MalformedAnswer("the length of a message makes no sense")
        offset += length_octets
        if len(received) < offset:
            return None
        length = int.from_bytes(received[2:offset], "big")
    if length > LONGEST_MESSAGE:
        raise MalformedAnswer(f"a message of {length} octets is too long")
    return offset + length


def decode(octets: bytes) -> Message:
    """Take one message apart.

    Raises:
        MalformedAnswer: it cannot be.
    """
    try:
        decoded = _decode_message(octets)
        return _typed(decoded["messageID"], decoded["protocolOp"], decoded["payload"], decoded["controls"] or ())
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise MalformedAnswer(f"an answer cannot be decoded ({type(error).__name__})") from error


def _typed(message_id: int, kind: int, payload: Sequence[Any], controls: Sequence[Any]) -> Message:
    # ldap3 gives (class, constructed, type, value) for each element.
    if kind == SEARCH_ENTRY:
        values = {
            _name(attribute[3][0][3]): tuple(bytes(value[3]) for value in attribute[3][1][3])
            for attribute in payload[1][3]
        }
        return Message(message_id, kind, entry=Entry(payload[0][3].decode(), values))
    if kind == SEARCH_REFERENCE:
        return Message(message_id, kind)
    policy_error, grace_sign_ins, password_expired, cookie = None, None, False, b""
    for control in controls:
        oid = control[3][0][3].decode("ascii")
        if oid == _PASSWORD_POLICY:
            policy_error, grace_sign_ins = _policy_verdict(control[3][-1][3])
        elif oid == _PASSWORD_EXPIRED:
            password_expired = True
        elif oid == _PAGED_RESULTS:
            cookie = _cookie(control[3][-1][3])
    return Message(
        message_id,
        kind,
        code=int(payload[0][3]),
        text=_one_line(payload[2][3]),
        policy_error=policy_error,
        grace_sign_ins=grace_sign_ins,
        password_expired=password_expired,
        cookie=cookie,
    )


def _name(octets: bytes) -> str:
    return octets.decode("ascii").lower()


def _policy_verdict(value: bytes) -> tuple[int | None, int | None]:
    """The error and the grace sign-ins of a password policy's verdict."""
    # PasswordPolicyResponseValue ::= SEQUENCE { warning [0] CHOICE {…} OPTIONAL, error [1] ENUMERATED OPTIONAL }
    parts = _decode_sequence(value, 0, len(value), {0: _grace_sign_ins, 1: _unsigned})[0][3]
    found = {part[2]: part[3] for part in parts}
    return found.get(1), found.get(0)


def _cookie(value: bytes) -> bytes:
    # realSearchControlValue ::= SEQUENCE { size INTEGER, cookie OCTET STRING }
    return bytes(_decode_sequence(value, 0, len(value))[0][3][1][3])


def _grace_sign_ins(message: bytes, start: int, stop: int) -> int | None:
    """Of ``CHOICE { timeBeforeExpiration [0] INTEGER, graceAuthNsRemaining [1] INTEGER }`` the second."""
    is_grace = message[start] & _TAG_NUMBER == 1
    return int.from_bytes(message[start + 2 : stop], "big") if is_grace else None


def _unsigned(message: bytes, start: int, stop: int) -> int:
    return int.from_bytes(message[start:stop], "big")


def _one_line(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
