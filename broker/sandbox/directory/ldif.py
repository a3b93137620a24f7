"""LDIF content records (RFC 2849): what a directory is loaded from, and how its state is kept.

UTF-8 is accepted where RFC 2849 asks for base64, as OpenLDAP's tools do. Values by URL (`attribute:< file:…`)
and change records are refused: a directory is loaded, not patched, and reads no file that the LDIF names.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_RESERVED: Final = frozenset({"changetype", "control", "dn"})
_SAFE: Final = re.compile(rb"(?![ :<])[\x01-\x09\x0b\x0c\x0e-\x7f]*(?<! )")
_COLUMNS: Final = 76


class LdifError(Exception):
    """The text is not LDIF as it can be loaded here. The message names the line, never a value."""

    def __init__(self, line: int, fault: str) -> None:
        super().__init__(f"line {line}: {fault}")


@dataclass(frozen=True)
class Record:
    """One entry as written. `values` keeps the order of the file; `line` is where its `dn:` stands."""

    line: int
    name: str
    values: tuple[tuple[str, bytes], ...]


def is_attribute(name: str) -> bool:
    """Whether LDIF can hold an attribute of that name; options (`cn;lang-ja`) are not kept here."""
    return bool(_ATTRIBUTE.fullmatch(name)) and name.lower() not in _RESERVED


def read(text: str) -> list[Record]:
    """All records of an LDIF text, in order.

    Raises:
        LdifError: the text is malformed, or holds what is refused here.
    """
    records: list[Record] = []
    for number, lines in enumerate(_blocks(text)):
        block = lines
        if number == 0 and block[0][1].lower().startswith("version:"):
            if block[0][1].partition(":")[2].strip() != "1":
                raise LdifError(block[0][0], "only LDIF version 1 is known")
            block = block[1:]
        if block:
            records.append(_record(block))
    return records


def _blocks(text: str) -> Iterator[list[tuple[int, str]]]:
    """Groups of unfolded lines between empty ones, each line with its number; comments are gone."""
    block: list[tuple[int, str]] = []
    in_comment = False
    for number, raw in enumerate(re.split(r"\r?\n", text.removeprefix("\ufeff")), start=1):
        if raw.startswith(" "):
            if in_comment:
                continue
            if not block:
                raise LdifError(number, "a continued line follows nothing")
            first, line = block[-1]
            block[-1] = (first, line + raw[1:])
            continue
        in_comment = raw.startswith("#")
        if raw and not in_comment:
            block.append((number, raw))
        elif not raw and block:
            yield block
            block = []
    if block:
        yield block


def _record(block: list[tuple[int, str]]) -> Record:
    number, _ = block[0]
    attribute, name = _value(*block[0])
    if attribute.lower() != "dn":
        raise LdifError(number, "a record starts with dn:")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise LdifError(number, "the dn is not UTF-8") from None
    values = [(line, *_value(line, written)) for line, written in block[1:]]
    if not values:
        raise LdifError(number, "the record has no attributes")
    for line, kind, _ in values:
        if not is_attribute(kind):
            raise LdifError(line, f"{kind}: has no place in a record of content")
    return Record(number, text, tuple((kind, value) for _, kind, value in values))


def _value(number: int, line: str) -> tuple[str, bytes]:
    attribute, colon, rest = line.partition(":")
    if not colon or not _ATTRIBUTE.fullmatch(attribute):
        raise LdifError(number, "expected `attribute: value`")
    if rest.startswith("<"):
        raise LdifError(number, "values by URL are not read")
    if not rest.startswith(":"):
        return attribute, rest.lstrip(" ").encode()
    try:
        return attribute, base64.b64decode(rest[1:].strip(" "), validate=True)
    except (binascii.Error, ValueError):
        # No `from`: the value may be a password.
        raise LdifError(number, f"the base64 of {attribute} is broken") from None


def write(records: Iterable[tuple[str, Iterable[tuple[str, bytes]]]]) -> str:
    """The LDIF of entries, each a name and its (attribute, value) pairs."""
    parts = ["version: 1\n"]
    for name, values in records:
        parts.append("\n")
        parts.append(_line("dn", name.encode()))
        parts.extend(_line(attribute, value) for attribute, value in values)
    return "".join(parts)


def _line(attribute: str, value: bytes) -> str:
    if _SAFE.fullmatch(value):
        line = f"{attribute}: {value.decode()}"
    else:
        line = f"{attribute}:: {base64.b64encode(value).decode()}"
    folded = [line[:_COLUMNS]]
    # A continued line starts with one space, which counts towards its width.
    folded += [f" {line[at : at + _COLUMNS - 1]}" for at in range(_COLUMNS, len(line), _COLUMNS - 1)]
    return "\n".join(folded) + "\n"
