"""Encryption of what the database must not hold in clear: the seeds of authenticator apps."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.core.credentials import Secret
from broker.core.errors import SessionsUnavailable

# NIST SP 800-38D section 8.2.2: random nonces of 96 bits do for 2^32 encryptions under one key.
_NONCE_BYTES: Final = 12


class SeedEncryption:
    """AES-256-GCM under a key that is kept outside the database."""

    def __init__(self, key: bytes) -> None:
        """Make one.

        Args:
            key: 32 bytes.
        """
        self._cipher = AESGCM(key)

    def encrypt(self, value: Secret, place: str) -> bytes:
        """Nonce and ciphertext.

        Args:
            value: the seed.
            place: the row it belongs to; it can be decrypted nowhere else, so that rows cannot be exchanged.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value.reveal().encode(), place.encode())

    def decrypt(self, stored: bytes, place: str) -> Secret:
        """What was encrypted for that place.

        Raises:
            SessionsUnavailable: it was not, or under another key.
        """
        try:
            clear = self._cipher.decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError) as error:
            message = f"{place} cannot be decrypted: it is not under the key in secret_file"
            raise SessionsUnavailable(message) from error
        return Secret(clear.decode())
