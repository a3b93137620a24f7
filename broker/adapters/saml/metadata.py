"""The identity provider's metadata.

Sources: OASIS saml-metadata-2.0-os; AWS IAM user guide, "Create a SAML identity provider in IAM" (1,000 characters to
10 million, UTF-8 without byte order mark).

How long it holds: IAM keeps the document it was given and never fetches it again, so a short ``validUntil`` would only
bring the day nearer on which the federation breaks. It is the end of the certificate; of the *last* certificate to end
where a rollover publishes two. With the first one's end, the document that AWS holds would run out on the day that the
rollover was meant to get over, although the new key signs by then. Nothing is trusted for longer by that: validUntil
says how long the document may be used (saml-metadata-2.0-os section 2.3.2), each certificate carries its own end, and
an old key stops to be trusted when it is taken out of the document.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from lxml import etree

from broker.adapters.saml.assertion import PERSISTENT, saml_time
from broker.adapters.saml.signature import DS, sign_enveloped
from broker.core.errors import Fault, SigningKeyUnusable
from broker.core.ports import SigningKey

MD: Final = "urn:oasis:names:tc:SAML:2.0:metadata"
_PROTOCOL: Final = "urn:oasis:names:tc:SAML:2.0:protocol"
_BINDINGS: Final = (
    "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect",
    "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST",
)
_DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'


class Certified(Protocol):
    """A certificate to publish; its private key may be elsewhere."""

    @property
    def certificate_der(self) -> bytes:
        """DER."""

    @property
    def not_after(self) -> datetime:
        """Its end, aware, UTC."""


@dataclass(frozen=True, slots=True)
class PublishedMetadata:
    """What a metadata document of ours says.

    Attributes:
        certificates: DER of every certificate it publishes.
        valid_until: its end, aware, UTC.
    """

    certificates: frozenset[bytes]
    valid_until: datetime


def build_metadata(entity_id: str, sign_on_url: str, active: SigningKey, published: Sequence[Certified] = ()) -> bytes:
    """Build and sign the metadata.

    Args:
        entity_id: our SAML entity id.
        sign_on_url: the SingleSignOnService that the schema demands.
        active: signs, and is published first.
        published: further certificates to publish, during a rollover.

    Returns:
        UTF-8 with an XML declaration.
    """
    valid_until = max(key.not_after for key in (active, *published))
    root = etree.Element(
        f"{{{MD}}}EntityDescriptor",
        {"ID": "_" + secrets.token_hex(20), "entityID": entity_id, "validUntil": saml_time(valid_until)},
        nsmap={"md": MD, "ds": DS},
    )
    provider = etree.SubElement(
        root,
        f"{{{MD}}}IDPSSODescriptor",
        {"WantAuthnRequestsSigned": "false", "protocolSupportEnumeration": _PROTOCOL},
    )
    for key in (active, *published):
        descriptor = etree.SubElement(provider, f"{{{MD}}}KeyDescriptor", {"use": "signing"})
        x509 = etree.SubElement(etree.SubElement(descriptor, f"{{{DS}}}KeyInfo"), f"{{{DS}}}X509Data")
        certificate = etree.SubElement(x509, f"{{{DS}}}X509Certificate")
        certificate.text = base64.b64encode(key.certificate_der).decode()
    etree.SubElement(provider, f"{{{MD}}}NameIDFormat").text = PERSISTENT
    for binding in _BINDINGS:
        etree.SubElement(provider, f"{{{MD}}}SingleSignOnService", {"Binding": binding, "Location": sign_on_url})
    return _DECLARATION + sign_enveloped(root, active, b"<md:IDPSSODescriptor ")


def read_metadata(document: bytes) -> PublishedMetadata:
    """Read a document of :func:`build_metadata` again.

    Raises:
        SigningKeyUnusable: it is not one.
    """
    try:
        root = etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
        texts = [element.text or "" for element in root.iterfind(f"{{{MD}}}IDPSSODescriptor//{{{DS}}}X509Certificate")]
        return PublishedMetadata(
            certificates=frozenset(base64.b64decode(text, validate=True) for text in texts),
            valid_until=datetime.fromisoformat(root.get("validUntil", "")).astimezone(UTC),
        )
    except (etree.XMLSyntaxError, binascii.Error, ValueError) as error:
        raise SigningKeyUnusable(
            Fault("saml.keys", "the metadata is not what the broker signed: run `broker metadata --sign`")
        ) from error
