"""The sandbox's private certificate authority, and the server certificate for localhost that it issues.

It is made at first start and lives in the sandbox's state folder. The authority can speak for loopback names only
(name constraints, RFC 5280 section 4.2.1.10), so that trusting it by mistake endangers nobody.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.sandbox.private_files import replace_file

_AUTHORITY_LIFETIME: Final = timedelta(days=3650)
_SERVER_LIFETIME: Final = timedelta(days=397)  # what clients that cap the lifetime still accept
_RENEW_BEFORE_END: Final = timedelta(days=30)
_CLOCK_SKEW: Final = timedelta(minutes=5)
_LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")


@dataclass(frozen=True)
class ServerCertificate:
    """Where a server finds its certificate and key (one PEM file), and its clients the authority to trust."""

    ca_file: Path
    chain_file: Path


@dataclass(frozen=True)
class _Issuer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def server_certificate(folder: Path, now: datetime) -> ServerCertificate:
    """A certificate for localhost and 127.0.0.1 that is good for 30 more days at least.

    What the folder holds is kept while it lasts: clients that trust `ca.pem` go on trusting a renewed server
    certificate. Anything missing, damaged, not belonging together or about to end is made anew.

    Args:
        folder: exists already and is private.
        now: aware.

    Raises:
        OSError: the folder cannot be read or written.
    """
    files = ServerCertificate(ca_file=folder / "ca.pem", chain_file=folder / "server.pem")
    issuer = _kept_issuer(files.ca_file, folder / "ca.key", now)
    if issuer is None:
        issuer = _new_issuer(now)
        replace_file(folder / "ca.key", _pem(issuer.key))
        replace_file(files.ca_file, issuer.certificate.public_bytes(Encoding.PEM))
    if not _is_kept(files.chain_file, issuer, now):
        replace_file(files.chain_file, _new_chain(issuer, now))
    return files


def _kept_issuer(certificate_file: Path, key_file: Path, now: datetime) -> _Issuer | None:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    # It has to outlive the certificates it issues, or those would fail before they end.
    lasts = _lasts(certificate, now, _SERVER_LIFETIME + _RENEW_BEFORE_END)
    if not lasts or not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return _Issuer(certificate, key)


def _is_kept(chain_file: Path, issuer: _Issuer, now: datetime) -> bool:
    try:
        pem = chain_file.read_bytes()
        certificate, key = x509.load_pem_x509_certificate(pem), load_pem_private_key(pem, password=None)
        certificate.verify_directly_issued_by(issuer.certificate)
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return False
    return _lasts(certificate, now, _RENEW_BEFORE_END) and key.public_key() == certificate.public_key()


def _lasts(certificate: x509.Certificate, now: datetime, at_least: timedelta) -> bool:
    return certificate.not_valid_before_utc <= now and now + at_least <= certificate.not_valid_after_utc


def _new_issuer(now: datetime) -> _Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own for each authority: clients look issuers up by name, and two keys under one would confuse them.
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Federation Broker sandbox {serial:x}"[:64])])
    certificate = (
        _builder(name, name, key.public_key(), serial, now, _AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.NameConstraints([x509.DNSName("localhost"), x509.IPAddress(_LOOPBACK)], None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Issuer(certificate, key)


def _new_chain(issuer: _Issuer, now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    public, authority = key.public_key(), issuer.certificate
    certificate = (
        _builder(subject, authority.subject, public, x509.random_serial_number(), now, _SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    return _pem(key) + certificate.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    serial: int,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    start = now.astimezone(UTC) - _CLOCK_SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(now.astimezone(UTC) + lifetime)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
