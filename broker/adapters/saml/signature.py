"""The enveloped XML signature: lxml canonicalises, the key port signs.

Sources: W3C XML Signature Syntax and Processing 1.1; W3C Exclusive XML Canonicalization 1.0; OASIS saml-core-2.0-os
section 5.4 (one reference, to the signed element's ID; the enveloped-signature and exclusive c14n transforms only).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from lxml import etree

from broker.core.ports import SigningKey

DS: Final = "http://www.w3.org/2000/09/xmldsig#"
EXCLUSIVE_C14N: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED: Final = DS + "enveloped-signature"
RSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256: Final = "http://www.w3.org/2001/04/xmlenc#sha256"

# SignedInfo as exclusive canonical XML already has it (attributes in order, no white space, empty elements closed with
# a tag of their own), so that one canonicalisation in each signature is saved; a test compares it with lxml's.
_SIGNED_INFO: Final = (
    f'<ds:SignedInfo xmlns:ds="{DS}">'
    f'<ds:CanonicalizationMethod Algorithm="{EXCLUSIVE_C14N}"></ds:CanonicalizationMethod>'
    f'<ds:SignatureMethod Algorithm="{RSA_SHA256}"></ds:SignatureMethod>'
    '<ds:Reference URI="#{id}"><ds:Transforms>'
    f'<ds:Transform Algorithm="{ENVELOPED}"></ds:Transform>'
    f'<ds:Transform Algorithm="{EXCLUSIVE_C14N}"></ds:Transform>'
    f'</ds:Transforms><ds:DigestMethod Algorithm="{SHA256}"></ds:DigestMethod>'
    "<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
)


def canonical(element: etree._Element) -> bytes:
    """Exclusive canonical XML of an element, without comments."""
    return etree.tostring(element, method="c14n", exclusive=True, with_comments=False)


def sign_enveloped(element: etree._Element, key: SigningKey, before: bytes) -> bytes:
    """The canonical XML of an element with a signature over the whole of it.

    Canonicalised once: the signature goes into those very bytes, and what a verifier takes out of them again is what
    was signed.

    Args:
        element: the root of its document, with an ``ID`` attribute of our own making (an NCName).
        key: signs RSASSA-PKCS1-v1_5 with SHA-256.
        before: how the child begins that has to follow the signature (the schema says which: the one after Issuer in
            an assertion, the first in metadata), such as ``<saml:Subject>``. A ``<`` is always the beginning of a tag
            in canonical XML, so no value can look like it.
    """
    unsigned = canonical(element)
    place = unsigned.index(before)
    digest = base64.b64encode(hashlib.sha256(unsigned).digest()).decode()
    signed_info = _SIGNED_INFO.format(id=element.attrib["ID"], digest=digest)
    value = base64.b64encode(key.sign(signed_info.encode())).decode()
    certificate = base64.b64encode(key.certificate_der).decode()
    signature = (
        f'<ds:Signature xmlns:ds="{DS}">{signed_info}<ds:SignatureValue>{value}</ds:SignatureValue>'
        f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
        "</ds:Signature>"
    )
    return unsigned[:place] + signature.encode() + unsigned[place:]
