"""The subset of BER that LDAP uses (RFC 4511 section 5.1; X.690): definite lengths, one-octet tags.

Everything read here comes from strangers, so sizes and depth are bounded before anything is allocated.
"""

from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30
SET: Final = 0x31

MAX_MESSAGE_BYTES: Final = 1 << 20
"""A request needs far less; Active Directory itself stops at 10 MiB (MaxReceiveBuffer)."""
MAX_DEPTH: Final = 64
"""Nesting of constructed elements. A filter nested deeper than this is an attack on the stack."""

_MAX_INTEGER_OCTETS: Final = 8
_MAX_LENGTH_OCTETS: Final = 4
_LONG_FORM: Final = 0x80
_HIGH_TAG: Final = 0x1F


class BerError(Exception):
    """The octets are not BER as LDAP allows it. The message never repeats the octets: they may be a password."""


def message_size(received: bytes | bytearray) -> int | None:
    """How many octets the LDAP message at the start of `received` takes in all.

    Returns:
        The size with its header, or None while the header is still incomplete.

    Raises:
        BerError: this is not the start of an LDAP message, or one above `MAX_MESSAGE_BYTES`.
    """
    if not received:
        return None
    if received[0] != SEQUENCE:
        raise BerError("an LDAP message starts with a SEQUENCE")
    header = _length(received, 1)
    if header is None:
        return None
    length, start = header
    if start + length > MAX_MESSAGE_BYTES:
        raise BerError(f"the message is larger than {MAX_MESSAGE_BYTES} octets")
    return start + length


def _length(octets: bytes | bytearray, position: int) -> tuple[int, int] | None:
    """The length that stands at `position`, and where the content starts; None when octets are missing."""
    if position >= len(octets):
        return None
    first = octets[position]
    if first < _LONG_FORM:
        return first, position + 1
    count = first - _LONG_FORM
    if not 0 < count <= _MAX_LENGTH_OCTETS:
        raise BerError("the length is indefinite or has more than four octets")
    start = position + 1 + count
    if start > len(octets):
        return None
    return int.from_bytes(octets[position + 1 : start], "big"), start


class Reader:
    """Walks over the elements inside one constructed element, in order."""

    __slots__ = ("_content", "_depth", "_position")

    def __init__(self, content: bytes, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise BerError(f"elements are nested deeper than {MAX_DEPTH}")
        self._content = content
        self._position = 0
        self._depth = depth

    def at_end(self) -> bool:
        """Whether no element is left."""
        return self._position >= len(self._content)

    def next_tag(self) -> int | None:
        """The tag of the next element, which stays unread; None at the end."""
        return None if self.at_end() else self._content[self._position]

    def element(self) -> tuple[int, bytes]:
        """The next element, whatever its tag: (tag, content).

        Raises:
            BerError: no whole element is left.
        """
        if self.at_end():
            raise BerError("an element is missing")
        tag = self._content[self._position]
        if tag & _HIGH_TAG == _HIGH_TAG:
            raise BerError("LDAP has no tag of more than one octet")
        header = _length(self._content, self._position + 1)
        if header is None:
            raise BerError("an element ends inside its length")
        length, start = header
        if start + length > len(self._content):
            raise BerError("an element is longer than what holds it")
        self._position = start + length
        return tag, self._content[start : start + length]

    def octets(self, tag: int = OCTET_STRING) -> bytes:
        """The content of the next element, which has to bear `tag`.

        Raises:
            BerError: another element, or none, comes next.
        """
        found, content = self.element()
        if found != tag:
            raise BerError(f"expected an element with tag 0x{tag:02x}, found 0x{found:02x}")
        return content

    def enter(self, tag: int = SEQUENCE) -> "Reader":
        """A reader of the next element's own elements.

        Raises:
            BerError: another element comes next, or the nesting is too deep.
        """
        return Reader(self.octets(tag), self._depth + 1)

    def text(self, tag: int = OCTET_STRING) -> str:
        """An LDAPString: UTF-8.

        Raises:
            BerError: another element comes next, or it is not UTF-8.
        """
        try:
            return self.octets(tag).decode()
        except UnicodeDecodeError:
            # No `from`: the decoder's error carries the octets, which may be a password.
            raise BerError("a string is not UTF-8") from None

    def integer(self, tag: int = INTEGER) -> int:
        """A whole number of at most 64 bits.

        Raises:
            BerError: another element comes next, or it is empty or too long.
        """
        content = self.octets(tag)
        if not 0 < len(content) <= _MAX_INTEGER_OCTETS:
            raise BerError("an integer is empty or has more than 64 bits")
        return int.from_bytes(content, "big", signed=True)

    def boolean(self, tag: int = BOOLEAN) -> bool:
        """A truth value; any octet but zero is true, as in BER.

        Raises:
            BerError: another element comes next, or it has not exactly one octet.
        """
        content = self.octets(tag)
        if len(content) != 1:
            raise BerError("a boolean has one octet")
        return content != b"\x00"


def element(tag: int, content: bytes) -> bytes:
    """One element with its header, in the shortest form of the length."""
    length = len(content)
    if length < _LONG_FORM:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(octets))) + octets + content


def octets(value: bytes | str, tag: int = OCTET_STRING) -> bytes:
    """An OCTET STRING; text becomes UTF-8."""
    return element(tag, value.encode() if isinstance(value, str) else value)


def integer(value: int, tag: int = INTEGER) -> bytes:
    """An INTEGER, or with another tag an ENUMERATED, in two's complement."""
    magnitude = value if value >= 0 else ~value
    return element(tag, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def boolean(value: bool, tag: int = BOOLEAN) -> bytes:  # noqa: FBT001 - the encoded value itself, not a switch
    """A BOOLEAN as LDAP writes it: 0xFF for true."""
    return element(tag, b"\xff" if value else b"\x00")


def sequence(*parts: bytes, tag: int = SEQUENCE) -> bytes:
    """A constructed element around `parts`, which are encoded already."""
    return element(tag, b"".join(parts))
