"""RSA signing keys with their certificates, as PEM: made, read, and refused when AWS or good sense would not take them.

Sources: NIST SP 800-131A (RSA of 2,048 bits or more, SHA-2); FIPS 186-5 section A.1.1 (a public exponent from 2^16 + 1
on, below 2^256); RFC 8017 section 8.2; RFC 4055 sections 1.2 and 3.1 (a key that its certificate keeps for RSASSA-PSS
makes no other signatures); AWS IAM user guide, "Create a SAML identity provider in IAM" (RSA certificates). AWS
names no largest key, and nothing of PSS in certificates: what is not known to be taken is refused.
"""

from __future__ import annotations

import hashlib
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
from cryptography.x509.oid import NameOID, PublicKeyAlgorithmOID, SignatureAlgorithmOID

from broker.core.errors import Fault, SigningKeyUnusable
from broker.private_files import NotPrivateError, read_private

SMALLEST_KEY_BITS: Final = 2048
LARGEST_KEY_BITS: Final = 4096

_EXPONENTS: Final = range(65537, 1 << 256)
_PSS: Final = PublicKeyAlgorithmOID.RSASSA_PSS

_CERTIFICATE_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_MAKE_ONE: Final = "`broker keys new` makes one that fits"
_NAME_ANOTHER: Final = "let LoadCredential= of the unit name the file that holds it, and restart the service"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of an RSA key.

    Attributes:
        key_id: beginning of the SHA-256 of the public key.
        certificate_der: DER.
        not_before: its beginning, aware, UTC.
        not_after: its end, aware, UTC.
        bits: of the RSA modulus.
    """

    key_id: str
    certificate_der: bytes
    not_before: datetime
    not_after: datetime
    bits: int


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


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is not on disk yet."""

    id: str
    private_pem: bytes
    certificate_pem: bytes

    def __repr__(self) -> str:
        return f"NewKey({self.id})"


def make_key(common_name: str, valid_for: timedelta, bits: int, now: datetime) -> NewKey:
    """Make an RSA key with a self-signed certificate.

    Args:
        common_name: of the certificate; for people to read.
        valid_for: how long the certificate holds.
        bits: of the modulus.
        now: aware, UTC.

    Raises:
        SigningKeyUnusable: too few bits or too many.
    """
    if not SMALLEST_KEY_BITS <= bits <= LARGEST_KEY_BITS:
        raise SigningKeyUnusable(
            Fault("--bits", f"a signing key has at least {SMALLEST_KEY_BITS} bits and at most {LARGEST_KEY_BITS}")
        )
    private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return NewKey(
        id=_key_id(private.public_key()),
        private_pem=private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate_pem=_self_signed(private, common_name, now, valid_for).public_bytes(Encoding.PEM),
    )


def read_certificate(path: Path) -> Certificate:
    """Read and check a certificate; whether it holds now is not asked.

    Raises:
        SigningKeyUnusable: unreadable, not of an RSA key that is good for it, or signed in a way that is not taken.
    """
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        public = certificate.public_key()
        hashed_with = certificate.signature_hash_algorithm
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise unusable(path, error) from error
    _check_rsa(path, public)
    if certificate.public_key_algorithm_oid == _PSS:
        raise SigningKeyUnusable(
            Fault("saml.keys", f"{path} keeps its key for signatures of another kind (RSASSA-PSS): {_MAKE_ONE}")
        )
    if certificate.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        raise SigningKeyUnusable(
            Fault("saml.keys", f"{path} is signed with RSASSA-PSS: have it signed with PKCS #1 v1.5, or {_MAKE_ONE}")
        )
    if not isinstance(hashed_with, _CERTIFICATE_HASHES):
        name = hashed_with.name if hashed_with else "no hash"
        raise SigningKeyUnusable(
            Fault("saml.keys", f"{path} is signed with {name}: have it signed with SHA-256, or {_MAKE_ONE}")
        )
    assert isinstance(public, rsa.RSAPublicKey)  # noqa: S101 - checked above
    return Certificate(
        key_id=_key_id(public),
        certificate_der=certificate.public_bytes(Encoding.DER),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        bits=public.key_size,
    )


def read_pair(key_path: Path, certificate_path: Path, credentials: Path | None, now: datetime | None) -> FileSigningKey:
    """Read a private key and its certificate, to sign with.

    Args:
        key_path: PEM, private.
        certificate_path: PEM.
        credentials: as :func:`broker.private_files.read_private` takes it.
        now: aware, UTC; the certificate has to hold. None: it may have ended.

    Raises:
        SigningKeyUnusable: missing, readable by others, weak, out of date, of another algorithm, or not a pair.
    """
    is_credential = credentials is not None and key_path.parent == credentials
    private = _read_private_key(key_path, credentials, is_credential=is_credential)
    certificate = read_certificate(certificate_path)
    if certificate.key_id != _key_id(private.public_key()):
        raise SigningKeyUnusable(
            Fault(
                "saml.keys",
                f"{key_path} is not the key of {certificate_path}: "
                + (_NAME_ANOTHER if is_credential else "restore the pair"),
            )
        )
    if now is not None and not certificate.not_before <= now < certificate.not_after:
        raise SigningKeyUnusable(
            Fault(
                "saml.keys",
                f"{certificate_path} is valid from {certificate.not_before:%Y-%m-%d}"
                f" to {certificate.not_after:%Y-%m-%d}: check the clock, or make a new key",
            )
        )
    return FileSigningKey(
        id=certificate.key_id,
        certificate_der=certificate.certificate_der,
        not_after=certificate.not_after,
        _key=private,
    )


def unusable(path: Path, error: Exception) -> SigningKeyUnusable:
    """The fault of a file that cannot be used."""
    why = (error.strerror or "") if isinstance(error, OSError) else "it is not what its name says"
    if isinstance(error, PermissionError):
        why += f": it has to belong to the user of the service: chown --reference={path.parent} {path}"
    return SigningKeyUnusable(Fault("saml.keys", f"{path} cannot be used: {why}"))


def _read_private_key(path: Path, credentials: Path | None, *, is_credential: bool) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(read_private(path, credentials), password=None)
    except OSError as error:
        if is_credential:
            # systemd made the folder and nobody can write there.
            raise SigningKeyUnusable(
                Fault("saml.keys", f"{path} cannot be used: {error.strerror}: {_NAME_ANOTHER}")
            ) from error
        raise unusable(path, error) from error
    except NotPrivateError as error:
        raise SigningKeyUnusable(Fault("saml.keys", str(error))) from error
    except TypeError as error:
        raise SigningKeyUnusable(
            Fault(
                "saml.keys",
                f"{path} is under a passphrase, and nobody is there to type it: "
                + ("store it without one where systemd takes it from" if is_credential else "store it without one"),
            )
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise unusable(path, error) from error
    _check_rsa(path, key)
    assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101 - checked above
    return key


def _check_rsa(path: Path, key: object) -> None:
    if not isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        kind = type(key).__name__.removeprefix("_").removesuffix("Key").removesuffix("Private").removesuffix("Public")
        raise SigningKeyUnusable(
            Fault("saml.keys", f"{path} is of a kind that is not used here ({kind}), but RSA is: {_MAKE_ONE}")
        )
    if key.key_size < SMALLEST_KEY_BITS:
        raise SigningKeyUnusable(
            Fault(
                "saml.keys",
                f"{path} has {key.key_size} bits, fewer than the {SMALLEST_KEY_BITS} of a signing key: {_MAKE_ONE}",
            )
        )
    if key.key_size > LARGEST_KEY_BITS:
        raise SigningKeyUnusable(
            Fault("saml.keys", f"{path} has {key.key_size} bits, more than {LARGEST_KEY_BITS}: {_MAKE_ONE}")
        )
    public = key.public_key() if isinstance(key, rsa.RSAPrivateKey) else key
    if (exponent := public.public_numbers().e) not in _EXPONENTS:
        raise SigningKeyUnusable(
            Fault("saml.keys", f"{path} has the public exponent {exponent}, less than 65537 or too large: {_MAKE_ONE}")
        )


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


def _key_id(key: rsa.RSAPublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]
