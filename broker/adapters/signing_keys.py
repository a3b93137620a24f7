"""Signing keys in a folder: one key and certificate each, one of them active, and the metadata that publishes them.

The folder holds ``<key id>.key.pem`` (PKCS #8, mode 0600), ``<key id>.crt.pem``, ``active`` (the id of the key that
signs) and ``metadata.xml``. A key id is the beginning of the SHA-256 of the public key.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from broker.core.errors import Fault, SigningKeyUnusable

# NIST SP 800-131A: RSA below 2,048 bits is not to be used for signatures.
SMALLEST_KEY_BITS: Final = 2048
_ACTIVE: Final = "active"
_METADATA: Final = "metadata.xml"


@dataclass(frozen=True, slots=True)
class FileSigningKey:
    """Implements :class:`broker.core.ports.SigningKey` with a key held in memory.

    Attributes:
        id: beginning of the SHA-256 of the public key.
        certificate_der: DER of the self-signed certificate.
        not_after: the certificate's end, aware, UTC.
    """

    id: str
    certificate_der: bytes
    not_after: datetime
    _key: rsa.RSAPrivateKey

    def sign(self, data: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2)."""
        return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def __repr__(self) -> str:
        return f"FileSigningKey({self.id})"


class SigningKeyFolder:
    """The folder that ``saml.keys`` names."""

    def __init__(self, path: Path) -> None:
        """Remember where the folder is; nothing is read yet."""
        self.path = path

    def create_first(self, common_name: str, valid_for: timedelta, bits: int, now: datetime) -> FileSigningKey:
        """Make the first key with a self-signed certificate, and make it the active one.

        Args:
            common_name: of the certificate; for people to read.
            valid_for: how long the certificate, and with it the metadata, holds.
            bits: of the RSA key.
            now: aware, UTC.

        Raises:
            SigningKeyUnusable: there is a key already, or the folder cannot be written.
        """
        if (self.path / _ACTIVE).exists():
            raise SigningKeyUnusable(
                Fault("saml.keys", f"{self.path} holds an active key already; nothing was changed")
            )
        if bits < SMALLEST_KEY_BITS:
            raise SigningKeyUnusable(Fault("--bits", f"a signing key has at least {SMALLEST_KEY_BITS} bits"))
        private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        certificate = _self_signed(private, common_name, now, valid_for)
        key_id = _key_id(private.public_key())
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            _write(self.path / f"{key_id}.key.pem", pem, 0o600)
            _write(self.path / f"{key_id}.crt.pem", certificate.public_bytes(Encoding.PEM), 0o644)
            _write(self.path / _ACTIVE, key_id.encode() + b"\n", 0o644)
        except OSError as error:
            raise _unreadable(Path(error.filename or self.path), error) from error
        return self.active(now)

    def active(self, now: datetime) -> FileSigningKey:
        """The key that signs.

        Args:
            now: aware, UTC; the certificate has to hold.

        Raises:
            SigningKeyUnusable: missing, readable by others, weak, out of date, or not the certificate's key.
        """
        try:
            key_id = (self.path / _ACTIVE).read_text(encoding="ascii").strip()
        except FileNotFoundError as error:
            raise SigningKeyUnusable(
                Fault("saml.keys", f"{self.path} holds no active key: run `broker keys new`")
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(self.path / _ACTIVE, error) from error
        key_path, certificate_path = self.path / f"{key_id}.key.pem", self.path / f"{key_id}.crt.pem"
        private = _load_private(key_path)
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
            certified = certificate.public_key()
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise _unreadable(certificate_path, error) from error
        if _public_bytes(certified) != _public_bytes(private.public_key()):
            raise SigningKeyUnusable(
                Fault("saml.keys", f"{key_path} is not the key of {certificate_path}: restore the pair")
            )
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            raise SigningKeyUnusable(
                Fault(
                    "saml.keys",
                    f"{certificate_path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d}"
                    f" to {certificate.not_valid_after_utc:%Y-%m-%d}: check the clock, or make a new key",
                )
            )
        return FileSigningKey(
            id=_key_id(private.public_key()),
            certificate_der=certificate.public_bytes(Encoding.DER),
            not_after=certificate.not_valid_after_utc,
            _key=private,
        )

    def metadata(self) -> bytes:
        """The signed metadata.

        Raises:
            SigningKeyUnusable: there is none.
        """
        try:
            return (self.path / _METADATA).read_bytes()
        except FileNotFoundError as error:
            raise SigningKeyUnusable(
                Fault(
                    "saml.keys",
                    f"{self.path} holds no metadata: run `broker keys new`, or with a key `broker metadata --sign`",
                )
            ) from error
        except OSError as error:
            raise _unreadable(self.path / _METADATA, error) from error

    def keep_metadata(self, content: bytes) -> None:
        """Keep newly signed metadata.

        Raises:
            SigningKeyUnusable: the folder cannot be written.
        """
        try:
            _write(self.path / _METADATA, content, 0o644)
        except OSError as error:
            raise _unreadable(self.path / _METADATA, error) from error


def _load_private(path: Path) -> rsa.RSAPrivateKey:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SigningKeyUnusable(Fault("saml.keys", f"others can read {path}: chmod 600 {path}"))
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unreadable(path, error) from error
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < SMALLEST_KEY_BITS:
        raise SigningKeyUnusable(Fault("saml.keys", f"{path} is not an RSA key of {SMALLEST_KEY_BITS} bits or more"))
    return key


def _self_signed(key: rsa.RSAPrivateKey, common_name: str, now: datetime, valid_for: timedelta) -> x509.Certificate:
    # RFC 5280, upper bound of a common name: 64.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + valid_for)
        .sign(key, hashes.SHA256())
    )


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, rsa.RSAPublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_id(key: rsa.RSAPublicKey) -> str:
    return hashlib.sha256(_public_bytes(key)).hexdigest()[:16]


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file in one step, never readable by more than ``mode`` allows."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _unreadable(path: Path, error: Exception) -> SigningKeyUnusable:
    why = error.strerror if isinstance(error, OSError) else "it is not what its name says"
    return SigningKeyUnusable(Fault("saml.keys", f"{path} cannot be used: {why}"))
