"""Security identifiers and object GUIDs: the binary forms that Active Directory keeps ([MS-DTYP] 2.4.2, 2.3.4)."""

import hashlib
import re
import struct
import uuid
from typing import Final

from broker.sandbox.directory.names import DistinguishedName

_SID_TEXT: Final = re.compile(r"[Ss]-1-([0-9]{1,10})((?:-[0-9]{1,10}){1,15})")
_SID_HEADER: Final = struct.Struct(">BB6s")
_NAMESPACE: Final = uuid.UUID("6e2f3b0c-52d7-5a53-9a2b-5d0f0c2f7a11")  # ours alone; any fixed value serves
_MAX_SUBAUTHORITY: Final = 0xFFFFFFFF
_GUID_OCTETS: Final = 16


def sid_from_text(text: str) -> bytes | None:
    """The binary form of `S-1-5-21-…`, or None when the text is no SID.

    An authority of more than 32 bits would be written in hexadecimal; nobody has one.
    """
    match = _SID_TEXT.fullmatch(text)
    if match is None:
        return None
    authority = int(match[1])
    parts = [int(part) for part in match[2][1:].split("-")]
    if max(authority, *parts) > _MAX_SUBAUTHORITY:
        return None
    return _SID_HEADER.pack(1, len(parts), authority.to_bytes(6, "big")) + struct.pack(f"<{len(parts)}I", *parts)


def sid_is_well_formed(sid: bytes) -> bool:
    """Whether the octets are a SID: revision 1 and as many sub-authorities as announced."""
    return len(sid) > _SID_HEADER.size and sid[0] == 1 and len(sid) == _SID_HEADER.size + 4 * sid[1]


def with_rid(domain_sid: bytes, rid: int) -> bytes:
    """The SID of an account or group: that of its domain with a relative identifier at the end."""
    return _SID_HEADER.pack(1, domain_sid[1] + 1, domain_sid[2:8]) + domain_sid[8:] + struct.pack("<I", rid)


def with_other_rid(sid: bytes, rid: int) -> bytes | None:
    """The SID of the same domain with another relative identifier, or None if that has more than 32 bits."""
    return sid[:-4] + struct.pack("<I", rid) if 0 <= rid <= _MAX_SUBAUTHORITY else None


def rid_of(sid: bytes) -> int:
    """The relative identifier: the last sub-authority of a well-formed SID."""
    return int(struct.unpack("<I", sid[-4:])[0])


def domain_sid_of(name: DistinguishedName) -> bytes:
    """A domain SID that depends on the domain's name alone, so that a demo made anew keeps its identifiers."""
    digest = hashlib.sha256(repr(name.key).encode()).digest()
    return _SID_HEADER.pack(1, 4, (5).to_bytes(6, "big")) + struct.pack("<I", 21) + digest[:12]


def guid_of(name: DistinguishedName) -> bytes:
    """An objectGUID, little-endian as Active Directory keeps it, that depends on the entry's name alone."""
    return uuid.uuid5(_NAMESPACE, repr(name.key)).bytes_le


def guid_from_text(text: str) -> bytes | None:
    """The stored form of a GUID in a `<GUID=…>` name: dashed text, or the hexadecimal of the stored octets.

    [MS-ADTS] 3.1.1.3.1.2.4 allows both; they order the octets differently.
    """
    try:
        octets = uuid.UUID(text).bytes_le if "-" in text else bytes.fromhex(text)
    except ValueError:
        return None
    return octets if len(octets) == _GUID_OCTETS else None
