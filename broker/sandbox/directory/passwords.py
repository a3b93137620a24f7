"""Passwords at rest: salted scrypt (RFC 7914), never the words themselves."""

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

# 2 MiB and about 5 ms on one core. The passwords here are published with the demo, so the cost has to show the
# shape of the real thing, not to resist a farm: with the usual 2**14 a sign-in would wait 40 ms for the sandbox,
# and what is measured through it would be scrypt instead of the broker.
_COST: Final = 2**11
_BLOCK_SIZE: Final = 8
_PARALLEL: Final = 1
_SALT_OCTETS: Final = 16
_HASH_OCTETS: Final = 32
_PREFIX: Final = "{SCRYPT}"

NOBODYS: Final = _PREFIX + "$".join(base64.b64encode(bytes(size)).decode() for size in (_SALT_OCTETS, _HASH_OCTETS))
"""A hash that no password is known for: checked for unknown names, so that they take as long as known ones."""


def hashed(password: bytes) -> str:
    """A new hash of the password (its UTF-8): `{SCRYPT}salt$hash`, both in base64."""
    salt = secrets.token_bytes(_SALT_OCTETS)
    return _PREFIX + "$".join(base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt)))


def is_hash(stored: str) -> bool:
    """Whether the text is a whole hash as `hashed` writes it."""
    return _parts(stored) is not None


def matches(password: bytes, stored: str) -> bool:
    """Whether `stored` is a hash of the password; takes the same time either way."""
    parts = _parts(stored)
    if parts is None:
        return False
    salt, expected = parts
    return hmac.compare_digest(_scrypt(password, salt), expected)


def _parts(stored: str) -> tuple[bytes, bytes] | None:
    salt, dollar, digest = stored.removeprefix(_PREFIX).partition("$")
    if not stored.startswith(_PREFIX) or not dollar:
        return None
    try:
        decoded = base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if (len(decoded[0]), len(decoded[1])) == (_SALT_OCTETS, _HASH_OCTETS) else None


def _scrypt(password: bytes, salt: bytes) -> bytes:
    # The HMAC inside scrypt pads its key with zeros, so that `a` and `a` with a NUL behind it would be one password
    # (RFC 2104 section 2). Of a hash with a fixed length there is one only.
    key = hashlib.sha256(password).digest()
    return hashlib.scrypt(key, salt=salt, n=_COST, r=_BLOCK_SIZE, p=_PARALLEL, dklen=_HASH_OCTETS)
