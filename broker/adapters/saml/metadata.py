"""The identity provider's metadata.

Sources: OASIS saml-metadata-2.0-os; AWS IAM user guide, "Create a SAML identity provider in IAM" (1,000 characters to
10 million, UTF-8 without byte order mark). IAM keeps the document it was given and never fetches it again, so it holds
as long as the certificate.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from typing import Final

from lxml import etree

from broker.adapters.saml.assertion import PERSISTENT, saml_time
from broker.adapters.saml.signature import DS, sign_enveloped
from broker.core.ports import SigningKey

MD: Final = "urn:oasis:names:tc:SAML:2.0:metadata"
_PROTOCOL: Final = "urn:oasis:names:tc:SAML:2.0:protocol"
_BINDINGS: Final = (
    "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect",
    "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST",
)
_DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'


def build_metadata(entity_id: str, sign_on_url: str, active: SigningKey, published: Sequence[SigningKey] = ()) -> bytes:
    """Build and sign the metadata.

    Args:
        entity_id: our SAML entity id.
        sign_on_url: the SingleSignOnService that the schema demands.
        active: signs, and is published first; ``validUntil`` is its certificate's end.
        published: further keys whose certificates are published, during a rollover.

    Returns:
        UTF-8 with an XML declaration.
    """
    root = etree.Element(
        f"{{{MD}}}EntityDescriptor",
        {"ID": "_" + secrets.token_hex(20), "entityID": entity_id, "validUntil": saml_time(active.not_after)},
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
