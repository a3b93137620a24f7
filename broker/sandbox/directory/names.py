r"""Distinguished names: reading, writing and comparing them (RFC 4514; comparison as in RFC 4518).

`CN=Pat O'Neil\, Jr.,OU=People,DC=corp,DC=example` and `cn=pat  o'neil\2C jr., ou=people, dc=CORP, dc=example`
are the same name.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Final

_ATTRIBUTE_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+")
_HEX_PAIR: Final = re.compile(r"[0-9A-Fa-f]{2}")
_MUST_ESCAPE: Final = frozenset('",+;<>\\')
_IS_ESCAPED: Final = _MUST_ESCAPE | frozenset("#=")
"""What is written escaped. The last two need it at the start or not at all, but readers such as ldap3 insist."""
_MAY_ESCAPE: Final = _IS_ESCAPED | frozenset(" ")

Pair = tuple[str, str]
"""One attribute type and its value, as in `CN=Alice`."""
Rdn = tuple[Pair, ...]


class InvalidName(Exception):
    """The text is not a distinguished name."""


def fold(text: str) -> str:
    """`text` as caseIgnoreMatch sees it, but for its ends: no case, no width, runs of spaces as one."""
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return re.sub(r" {2,}", " ", folded)


def prepared(text: str) -> str:
    """`fold`, with the spaces at both ends gone: what two values must share to be equal."""
    return fold(text).strip(" ")


@dataclass(frozen=True, eq=False)
class DistinguishedName:
    """A name, most specific part first. Equal names compare and hash equal however they were written."""

    rdns: tuple[Rdn, ...]

    @classmethod
    def parse(cls, text: str) -> "DistinguishedName":
        """The name that `text` spells; the empty text is the empty name, which is the root DSE.

        Raises:
            InvalidName: the text breaks RFC 4514.
        """
        return cls(tuple(_Parser(text).rdns()))

    @cached_property
    def key(self) -> tuple[tuple[Pair, ...], ...]:
        """What equal names share."""
        return tuple(tuple(sorted((kind.lower(), prepared(value)) for kind, value in rdn)) for rdn in self.rdns)

    @property
    def parent(self) -> "DistinguishedName":
        """The name one step up; the parent of the empty name is itself."""
        return DistinguishedName(self.rdns[1:])

    def child(self, kind: str, value: str) -> "DistinguishedName":
        """The name one step down."""
        return DistinguishedName((((kind, value),), *self.rdns))

    def is_within(self, base: "DistinguishedName") -> bool:
        """Whether this is `base` or lies under it."""
        depth = len(self.rdns) - len(base.rdns)
        return depth >= 0 and self.key[depth:] == base.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DistinguishedName) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return ",".join("+".join(f"{kind}={_escaped(value)}" for kind, value in rdn) for rdn in self.rdns)


def _escaped(value: str) -> str:
    written = "".join(
        f"\\{character}" if character in _IS_ESCAPED else "\\00" if character == "\0" else character
        for character in value
    )
    if written.startswith(" "):
        written = "\\" + written
    if len(value) > 1 and value.endswith(" "):
        written = written[:-1] + "\\ "
    return written


class _Parser:
    """One pass over the text of a name."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def rdns(self) -> list[Rdn]:
        if not self._text.strip(" "):
            return []
        found = [self._rdn()]
        while self._position < len(self._text):
            self._position += 1  # the comma that ended the part before
            found.append(self._rdn())
        return found

    def _rdn(self) -> Rdn:
        pairs = [self._pair()]
        while self._text[self._position : self._position + 1] == "+":
            self._position += 1
            pairs.append(self._pair())
        return tuple(pairs)

    def _pair(self) -> Pair:
        equals = self._text.find("=", self._position)
        kind = self._text[self._position : max(equals, self._position)].strip(" ")
        if not _ATTRIBUTE_TYPE.fullmatch(kind):
            raise InvalidName("a part of the name has no attribute type")
        self._position = equals + 1
        return kind, self._value()

    def _value(self) -> str:
        r"""Up to the next unescaped comma or plus sign. Octets, since `\E5\B1\B1` is one character."""
        while self._text[self._position : self._position + 1] == " ":
            self._position += 1
        if self._text[self._position : self._position + 1] == "#":
            raise InvalidName("values in hexadecimal BER are not supported")
        octets = bytearray()
        solid = 0  # octets up to here are kept; unescaped spaces behind them are not part of the value
        while self._position < len(self._text):
            character = self._text[self._position]
            if character in ",+":
                break
            if character == "\\":
                octets += self._escape()
                solid = len(octets)
                continue
            if character in _MUST_ESCAPE or character == "\0":
                raise InvalidName("a special character in the name is not escaped")
            octets += character.encode("utf-8", "surrogatepass")
            self._position += 1
            if character != " ":
                solid = len(octets)
        if not solid:
            raise InvalidName("a part of the name has no value")
        try:
            return octets[:solid].decode()
        except UnicodeDecodeError as error:
            raise InvalidName("the name is not UTF-8") from error

    def _escape(self) -> bytes:
        following = self._text[self._position + 1 : self._position + 3]
        if _HEX_PAIR.fullmatch(following):
            self._position += 3
            return bytes.fromhex(following)
        if following[:1] and following[0] in _MAY_ESCAPE:
            self._position += 2
            return following[0].encode()
        raise InvalidName("a backslash in the name escapes nothing")
