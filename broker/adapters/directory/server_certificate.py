"""Why the certificate of a directory server is refused, and what mends it. Only the diagnosis asks.

The verdict is OpenSSL's, from the connection that verified; here the certificate is only read, to name its parts.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from cryptography import x509
from cryptography.x509.oid import NameOID

from broker.adapters.directory.config import DirectoryConfig, ServerAddress

# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_SELF_SIGNED: Final = 18
# Self-signed in the chain; issuer not found, locally or at all; first certificate not verifiable.
_UNKNOWN_AUTHORITY: Final = frozenset({2, 19, 20, 21})
_WRONG_NAME: Final = frozenset({62, 64})


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What a certificate says of itself.

    Attributes:
        names: host names and addresses it is made out to (subjectAltName; nothing else counts).
        common_name: of the subject, which some still take for a host name.
    """

    names: tuple[str, ...]
    common_name: str
    issuer: str
    not_before: datetime
    not_after: datetime

    @classmethod
    def read(cls, der: bytes) -> Self:
        """Take a certificate apart.

        Raises:
            ValueError: it is malformed.
        """
        certificate = x509.load_der_x509_certificate(der)
        try:
            stated = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            stated = x509.SubjectAlternativeName([])
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return cls(
            names=(
                *stated.get_values_for_type(x509.DNSName),
                *map(str, stated.get_values_for_type(x509.IPAddress)),
            ),
            common_name=str(common[0].value) if common else "",
            issuer=certificate.issuer.rfc4514_string() or "nobody",
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )


def looking_only() -> ssl.SSLContext:
    """A context that takes any certificate: to read one that was refused. Nothing may be sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def why_refused(
    error: ssl.SSLCertVerificationError,
    certificate: ServerCertificate | None,
    address: ServerAddress,
    config: DirectoryConfig,
    now: datetime,
) -> tuple[str, str]:
    """What is wrong, and what to change.

    Args:
        error: of the connection that verified.
        certificate: the server's own; None when it could not be read.
    """
    trusted = str(config.ca_file) if config.ca_file else "the CAs that this system trusts"
    issuer = f"issued by {certificate.issuer}" if certificate else "the certificate"
    if error.verify_code in _WRONG_NAME:
        return _wrong_name(certificate, address)
    if error.verify_code == _SELF_SIGNED:
        return (
            f"its certificate is refused: it is self-signed, and not among {trusted}",
            "directory.ca_file: name a PEM file with this certificate, or have a CA issue one",
        )
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return (
            f"its certificate is refused: it was {issuer}, which is unknown to {trusted}",
            "directory.ca_file: name a PEM file with that CA's certificate and those of any above it",
        )
    if error.verify_code == _EXPIRED and certificate and certificate.not_after > now:
        return (
            f"its certificate is refused: a CA above it has expired ({issuer})",
            "directory.ca_file: name a PEM file with the CA's present certificate",
        )
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        end = f" on {certificate.not_after:%Y-%m-%d %H:%M} UTC" if certificate else ""
        begin = f" before {certificate.not_before:%Y-%m-%d %H:%M} UTC" if certificate else ""
        said = f"it expired{end}" if error.verify_code == _EXPIRED else f"it does not hold{begin}"
        return (
            f"its certificate is refused: {said}; here it is {now:%Y-%m-%d %H:%M} UTC",
            "no setting mends it: renew the server's certificate, or set the clock that is wrong",
        )
    return (
        f"its certificate is refused: {error.verify_message} ({issuer})",
        "directory.ca_file: compare it with the server's certificates; or have the server's issued anew",
    )


def _wrong_name(certificate: ServerCertificate | None, address: ServerAddress) -> tuple[str, str]:
    names = certificate.names if certificate else ()
    if names:
        made_out_to = ", ".join(names)
        advice = f"directory.servers: write one of these names ({made_out_to}), if it leads to this server"
    else:
        common = certificate.common_name if certificate else ""
        made_out_to = f"no host (its common name {common!r} does not count)" if common else "no host"
        advice = "no setting mends it"
    return (
        f"its certificate is refused: it is made out to {made_out_to}, not to {address.host}",
        f"{advice}; or have the server's certificate issued with {address.host} as a subjectAltName",
    )
