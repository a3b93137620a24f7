"""From LDIF to the first tree: checked, completed as Active Directory would, and without clear passwords."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import count
from typing import Final

from broker.sandbox.directory import passwords
from broker.sandbox.directory.accounts import filetime, generalized_time
from broker.sandbox.directory.entries import Attribute, Entry, Tree
from broker.sandbox.directory.identifiers import domain_sid_of, guid_of, rid_of, with_rid
from broker.sandbox.directory.ldif import LdifError, Record
from broker.sandbox.directory.names import DistinguishedName, InvalidName, prepared
from broker.sandbox.directory.password_rules import HISTORY
from broker.sandbox.directory.schema import (
    CONSTRUCTED_ATTRIBUTES,
    PASSWORD_ATTRIBUTES,
    comparable,
    display_name,
    is_single_valued,
    syntax_of,
)

_WELL_KNOWN_RIDS: Final = {"domain admins": 512, "domain users": 513, "domain guests": 514}
_FIRST_RID: Final = 1101
_WORKED_OUT: Final = CONSTRUCTED_ATTRIBUTES | {"memberof", "directreports"}
# Clear or a hash, and hashes alone.
_KEPT_PASSWORDS: Final = frozenset({"userpassword", HISTORY.lower()})
_NEVER: Final = 0x7FFFFFFFFFFFFFFF  # [MS-ADA1] accountExpires
_ACCOUNT_DEFAULTS: Final = {
    "sAMAccountType": 805306368,
    "userAccountControl": 512,
    "primaryGroupID": 513,
    "accountExpires": _NEVER,
}
_GROUP_DEFAULTS: Final = {"sAMAccountType": 268435456, "groupType": -2147483646}
"""A normal user account in Domain Users; a global security group ([MS-SAMR] 2.2.1.9, [MS-ADTS] 2.2.12)."""


def tree_from(records: Iterable[Record], now: datetime) -> Tree:
    """The tree of the entries in LDIF, parents before children, the root of the naming context first.

    What the LDIF does not give is added: objectGUID and objectSid (from names and order alone, so that the same
    LDIF always gives the same), objectCategory, sAMAccountType, groupType, distinguishedName, name, whenCreated,
    whenChanged and, for accounts with a password, pwdLastSet. A clear userPassword becomes a hash.

    Raises:
        LdifError: the records do not make a directory; with the line of the entry at fault.
    """
    entries: dict[DistinguishedName, Entry] = {}
    lines: dict[DistinguishedName, int] = {}
    for record in records:
        entry = _checked(record)
        if entry.name in entries:
            raise LdifError(record.line, "the entry is there already")
        if entries and entry.name.parent not in entries:
            raise LdifError(record.line, "the entry above it is missing, or stands further down")
        entries[entry.name] = entry
        lines[entry.name] = record.line
    if not entries:
        raise LdifError(1, "there is no entry")
    bare = Tree(entries.values())
    tree = Tree(_completed(bare, now))
    for entry in tree.entries.values():
        if (attribute := tree.shared(entry)) is not None:
            raise LdifError(lines[entry.name], f"another entry has the same {attribute}")
        if (attribute := tree.dangling(entry)) is not None:
            raise LdifError(lines[entry.name], f"{attribute} names an entry that does not exist")
    return tree


def _checked(record: Record) -> Entry:
    """The record as an entry, with the attributes of its own name, and every value in its syntax."""
    try:
        name = DistinguishedName.parse(record.name)
    except InvalidName as error:
        raise LdifError(record.line, str(error)) from error
    if not name.rdns:
        raise LdifError(record.line, "the root DSE is not loaded from LDIF")
    names: dict[str, str] = {}
    held: dict[str, dict[Hashable, bytes]] = {}
    for attribute, value in (*record.values, *((kind, value.encode()) for kind, value in name.rdns[0])):
        key = attribute.lower()
        if key in _WORKED_OUT or key in PASSWORD_ATTRIBUTES - _KEPT_PASSWORDS:
            raise LdifError(record.line, f"{attribute} is not loaded from LDIF")
        wanted = comparable(syntax_of(key), value)
        if wanted is None:
            raise LdifError(record.line, f"a value of {attribute} breaks its syntax")
        names.setdefault(key, display_name(attribute))
        held.setdefault(key, {}).setdefault(wanted, value)
    for key, values in held.items():
        if len(values) > 1 and (is_single_valued(key) or key == "userpassword"):
            raise LdifError(record.line, f"{names[key]} has more than one value")
    entry = Entry(name, {key: Attribute(names[key], tuple(values.values())) for key, values in held.items()})
    if "objectclass" not in held:
        raise LdifError(record.line, "the entry has no objectClass")
    _check_passwords(entry, record.line)
    return entry


def _check_passwords(entry: Entry, line: int) -> None:
    if not all(passwords.is_hash(value.decode(errors="replace")) for value in entry.values(HISTORY)):
        raise LdifError(line, f"a value of {HISTORY} is no hash")
    if entry.values("userPassword") and not entry.is_a("user"):
        raise LdifError(line, "only entries of the class user have a password")


def _completed(bare: Tree, now: datetime) -> Iterator[Entry]:
    domain_sid = next(iter(bare.root.values("objectSid")), domain_sid_of(bare.root.name))
    taken = {rid_of(sid) for entry in bare.entries.values() for sid in entry.values("objectSid")}
    free = (rid for rid in count(_FIRST_RID) if rid not in taken)
    for entry in bare.entries.values():
        whole = _with_defaults(entry, _common_defaults(bare, entry, now))
        if entry is bare.root:
            whole = _with_defaults(whole, {"objectSid": domain_sid})
        elif entry.is_a("user") or entry.is_a("group"):
            rid = _WELL_KNOWN_RIDS.get(prepared(entry.text("sAMAccountName"))) or next(free)
            whole = _with_defaults(whole, {"objectSid": with_rid(domain_sid, rid)})
            whole = _account(whole, now) if entry.is_a("user") else _with_defaults(whole, _GROUP_DEFAULTS)
        yield whole


def _common_defaults(tree: Tree, entry: Entry, now: datetime) -> dict[str, bytes | str | int]:
    at = generalized_time(now)
    defaults: dict[str, bytes | str | int] = {
        "distinguishedName": str(entry.name),
        "name": entry.name.rdns[0][0][1],
        "objectGUID": guid_of(entry.name),
        "whenCreated": at,
        "whenChanged": at,
    }
    # The most specific class stands last in objectClass.
    categories = [tree.category(value.decode()) for value in reversed(entry.values("objectClass"))]
    category = next((found for found in categories if found is not None), None)
    return defaults | ({"objectCategory": str(category)} if category is not None else {})


def _with_defaults(entry: Entry, defaults: Mapping[str, bytes | str | int]) -> Entry:
    for attribute, value in defaults.items():
        if not entry.values(attribute):
            entry = entry.with_values(attribute, value)
    return entry


def _account(entry: Entry, now: datetime) -> Entry:
    account = _with_defaults(entry, _ACCOUNT_DEFAULTS)
    clear = account.values("userPassword")
    if clear and not passwords.is_hash(clear[0].decode(errors="replace")):
        account = account.with_values("userPassword", passwords.hashed(clear[0]))
    # Active Directory takes -1 for "now" wherever somebody writes pwdLastSet.
    if clear and account.values("pwdLastSet") in {(), (b"-1",)}:
        account = account.with_values("pwdLastSet", filetime(now))
    return account
