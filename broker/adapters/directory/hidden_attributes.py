"""Which attributes of an entry exist, for all that the service account can tell, and may not be read.

An attribute that may not be read looks like one that is not there. A filter tells them apart (RFC 4511 section
4.5.1.7): where an attribute may not be searched, or is not in the schema, ``(!(attribute=*))`` is neither true nor
false, and the entry is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from broker.adapters.directory.connection import Connection
from broker.adapters.directory.messages import SUCCESS, Entry, Scope, Search, compiled, everything

# RFC 4512 section 4.1.2: NAME 'one' or NAME ( 'one' 'another' ).
_NAMES: Final = re.compile(r"NAME\s+(?:\(([^)]*)\)|'([^']*)')")


def hidden_attributes(entry: Entry, names: Iterable[str], connection: Connection, deadline: float) -> tuple[str, ...]:
    """Those of the names that the server knows and does not show.

    Args:
        entry: read with those attributes.
        names: of attributes.
        connection: of the service account.
        deadline: a moment of ``time.monotonic``.

    Raises:
        ConnectionFailed: no answer.
    """
    unseen = [name for name in names if not entry.octets(name) and not _is_absent(entry.dn, name, connection, deadline)]
    if not unseen:
        return ()
    known = _known_attributes(connection, deadline)
    return tuple(name for name in unseen if name.lower() in known)


def _is_absent(dn: str, name: str, connection: Connection, deadline: float) -> bool:
    """Whether the server says that the entry has no such attribute."""
    answer = connection.search(Search(dn, Scope.BASE, compiled(f"(!({name}=*))"), ()), deadline)
    return answer.code == SUCCESS and bool(answer.entries)


def _known_attributes(connection: Connection, deadline: float) -> frozenset[str]:
    """The attributes of the server's schema, in lower case (RFC 4512 section 4.2)."""
    place = "subschemaSubentry"
    root = connection.search(Search("", Scope.BASE, everything(), (place,)), deadline)
    (dn,) = root.entries[0].texts(place)[:1] if root.entries else ("",)
    schema = connection.search(
        Search(dn, Scope.BASE, compiled("(objectClass=subschema)"), ("attributeTypes",)), deadline
    )
    found = (
        match for entry in schema.entries for text in entry.texts("attributeTypes") for match in _NAMES.finditer(text)
    )
    return frozenset(
        name.lower() for match in found for name in (re.findall(r"'([^']*)'", match[1]) if match[1] else [match[2]])
    )
