"""What IAM keeps of a SAML identity provider: its entity id and its signing certificates.

Source: IAM API Reference, CreateSAMLProvider; SAML 2.0 Metadata, section 2.4.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from lxml import etree

_MD = "urn:oasis:names:tc:SAML:2.0:metadata"
_DS = "http://www.w3.org/2000/09/xmldsig#"
_PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"

MIN_CHARACTERS = 1000
MAX_CHARACTERS = 10_000_000
_MAX_SIGNING_KEYS = 10
_MIN_RSA_BITS = 1024


class MetadataError(Exception):
    """The metadata document is not one that IAM would register; the text says why."""


@dataclass(frozen=True)
class IdentityProvider:
    """A registered identity provider.

    Attributes:
        entity_id: the issuer its assertions must name.
        signing_certificates: DER, of the IDPSSODescriptor; several during a key rollover.
    """

    entity_id: str
    signing_certificates: tuple[bytes, ...]


def strict_parser() -> etree.XMLParser:
    """Make a parser that reads UTF-8 whatever the document claims, and never expands or fetches anything."""
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_blank_text=False,
        recover=False,
    )


def parse_without_dtd(document: bytes) -> etree._Element:  # lxml names its element type so
    """Parse XML that may hold no document type declaration.

    Raises:
        ValueError: not well-formed, or it declares a document type.
    """
    if b"<!DOCTYPE" in document or b"<!ENTITY" in document:
        raise ValueError("a document type declaration is not allowed")
    try:
        root = etree.fromstring(document, strict_parser())
    except etree.XMLSyntaxError as error:
        raise ValueError("not well-formed XML") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise ValueError("a document type declaration is not allowed")
    return root


def parse_metadata(document: str) -> IdentityProvider:
    """Read the metadata an operator uploads.

    Raises:
        MetadataError: too short or long, not metadata of an identity provider, or without a usable signing key.
    """
    if not MIN_CHARACTERS <= len(document) <= MAX_CHARACTERS:
        raise MetadataError(f"The metadata must have {MIN_CHARACTERS} to {MAX_CHARACTERS} characters")
    try:
        root = parse_without_dtd(document.encode())
    except ValueError as error:
        raise MetadataError("Could not parse metadata") from error
    entity_id = root.get("entityID", "")
    descriptors = root.findall(f"{{{_MD}}}IDPSSODescriptor")
    if root.tag != f"{{{_MD}}}EntityDescriptor" or not entity_id or len(descriptors) != 1:
        raise MetadataError("Could not parse metadata")
    if _PROTOCOL not in descriptors[0].get("protocolSupportEnumeration", "").split():
        raise MetadataError("The metadata does not support SAML 2.0")
    certificates = tuple(
        _certificate(element)
        for key in descriptors[0].findall(f"{{{_MD}}}KeyDescriptor")
        if key.get("use", "signing") == "signing"
        for element in key.iterfind(f"{{{_DS}}}KeyInfo/{{{_DS}}}X509Data/{{{_DS}}}X509Certificate")
    )
    if not 1 <= len(certificates) <= _MAX_SIGNING_KEYS:
        raise MetadataError(f"The metadata must hold 1 to {_MAX_SIGNING_KEYS} signing certificates")
    return IdentityProvider(entity_id, certificates)


def _certificate(element: etree._Element) -> bytes:
    try:
        der = base64.b64decode("".join((element.text or "").split()), validate=True)
        key = x509.load_der_x509_certificate(der).public_key()
    except (binascii.Error, ValueError) as error:
        raise MetadataError("A signing certificate in the metadata cannot be read") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < _MIN_RSA_BITS:
        raise MetadataError(f"A signing key must be RSA with at least {_MIN_RSA_BITS} bits")
    return der
