"""Distinguished names: RFC 4514 strings in one spelling, so that equal names are equal strings."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_TYPE: Final = re.compile(r" *(?:oid\.)?([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*) *= *", re.IGNORECASE)
_HEX_VALUE: Final = re.compile(r"#((?:[0-9A-Fa-f]{2})+) *(?=[,;+]|\Z)")
_TEXT_VALUE: Final = re.compile(r"""(?:[^\\"+,;<>]|\\(?:[ "#+,;<=>\\]|[0-9A-Fa-f]{2}))*""")
_ESCAPED: Final = re.compile(rb"""\\([ "#+,;<=>\\]|[0-9A-Fa-f]{2})""")
_ESCAPE_ON_OUTPUT: Final = re.compile(r"""["+,;<>\\=]""")
_SEPARATORS: Final = ",;+"
_SPACES: Final = re.compile(r" +")

ParsedName = tuple[tuple[tuple[str, str], ...], ...]
"""The RDNs, the innermost first; each a sorted tuple of (type, escaped value)."""


class MalformedName(ValueError):
    """A string is not a distinguished name. Its text quotes the name: group names and bases are no secrets."""


@lru_cache(maxsize=16_384)  # the same groups come at every sign-in
def normalise(name: str) -> str:
    """One spelling for every way to write a DN: case, spaces around and within values, and escapes do not matter.

    Letters are lowered one by one, as servers do for case-insensitive matching; full-width forms, ligatures and
    accents stay different. Folding more than the server would make two of its groups one.

    Raises:
        MalformedName: not a DN, or an empty one.
    """
    return ",".join("+".join(f"{kind}={value}" for kind, value in rdn) for rdn in parse(name))


def parse(name: str) -> ParsedName:
    """Take a DN apart, each value in one spelling.

    Raises:
        MalformedName: not a DN, or an empty one.
    """
    position = 0
    names: list[tuple[tuple[str, str], ...]] = []
    rdn: list[tuple[str, str]] = []
    while True:
        head = _TYPE.match(name, position)
        if head is None:
            raise MalformedName(f"{name!r} is not a distinguished name")
        value, position = _value(name, head.end())
        rdn.append((head.group(1).lower(), value))
        separator = name[position : position + 1]
        position += 1
        if separator != "+":
            names.append(tuple(sorted(rdn)))
            rdn = []
        if not separator:
            return tuple(names)


def is_below(name: str, base: str) -> bool:
    """Whether a DN is in the tree under a base, the base itself included.

    Raises:
        MalformedName: one of them is not a DN.
    """
    outer = parse(base)
    return parse(name)[-len(outer) :] == outer


def domain_of(name: str) -> str:
    """The ``dc=`` part at the end of a DN, which is the root of an Active Directory domain; the DN itself without one.

    Raises:
        MalformedName: not a DN.
    """
    normal = normalise(name)
    start = re.search(r"(?:\A|,)(dc=[^,+]*(?:,dc=[^,+]*)*)\Z", normal)
    return start.group(1) if start else normal


def _value(name: str, start: int) -> tuple[str, int]:
    """The value that begins there, in one spelling, and where it ends."""
    encoded = _HEX_VALUE.match(name, start)
    if encoded:
        return "#" + encoded.group(1).lower(), encoded.end()
    found = _TEXT_VALUE.match(name, start)
    text, end = (found.group(), found.end()) if found else ("", start)
    if end < len(name) and name[end] not in _SEPARATORS:
        raise MalformedName(f"{name!r} is not a distinguished name: {name[end]} has to be escaped, or escapes nothing")
    if "\\" in text:
        try:
            text = _ESCAPED.sub(_unescaped, text.encode("utf-8", "surrogatepass")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedName(f"{name!r} is not a distinguished name: a value is not UTF-8") from error
    # Matching ignores spaces around a value and takes several for one (RFC 4518 section 2.6.1).
    return _escape(_SPACES.sub(" ", text.lower()).strip(" ")), end


def _unescaped(escape: re.Match[bytes]) -> bytes:
    character = escape.group(1)
    return character if len(character) == 1 else bytes.fromhex(character.decode("ascii"))


def _escape(value: str) -> str:
    escaped = _ESCAPE_ON_OUTPUT.sub(r"\\\g<0>", value).replace("\0", "\\00")
    # An unescaped # at the beginning would make it a hex string.
    return f"\\{escaped}" if escaped.startswith("#") else escaped
