"""An identity provider for tests: it signs what it is told to, also what no honest one would. It is not the broker."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree

ENTITY_ID = "https://idp.test.example/saml/metadata"
SIGN_IN = "https://signin.aws.amazon.com/saml"
FILES = "111122223333"
RESEARCH = "444455556666"
NS = {
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}
ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"


@dataclass(frozen=True)
class Key:
    """A signing key with its certificate, both PEM."""

    private: bytes
    certificate: bytes

    @property
    def certificate_base64(self) -> str:
        """The certificate as XML documents hold it."""
        return "".join(self.certificate.decode().splitlines()[1:-1])


@cache
def signing_key(name: str = "idp") -> Key:
    """Make an RSA key and a self-signed certificate; one for each name."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Key(pem, certificate.public_bytes(serialization.Encoding.PEM))


def metadata(*keys: Key, entity_id: str = ENTITY_ID) -> str:
    """Return IdP metadata with the signing certificates of some keys."""
    descriptors = "".join(
        '<md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>'
        f"{key.certificate_base64}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
        for key in keys or (signing_key(),)
    )
    return (
        '<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" '
        f'xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="{entity_id}">'
        '<md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">'
        f"{descriptors}"
        '<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" '
        'Location="https://idp.test.example/saml/sso"/></md:IDPSSODescriptor></md:EntityDescriptor>'
    )


def role(name: str = "StaffFiles", account: str = FILES) -> str:
    """Return a role ARN."""
    return f"arn:aws:iam::{account}:role/{name}"


def provider(account: str = FILES) -> str:
    """Return the ARN of the provider ``broker``."""
    return f"arn:aws:iam::{account}:saml-provider/broker"


def instant(moment: datetime) -> str:
    """Write a SAML time."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Claims:
    """What an assertion is to say; None leaves the element or attribute out."""

    issuer: str = ENTITY_ID
    audience: str | None = SIGN_IN
    recipient: str | None = SIGN_IN
    destination: str | None = SIGN_IN
    name_id: str | None = "alice-id"
    name_id_format: str = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
    issued: timedelta = timedelta(0)
    not_before: timedelta | None = timedelta(seconds=-90)
    not_on_or_after: timedelta = timedelta(minutes=5)
    confirmed_until: timedelta = timedelta(minutes=5)
    session_not_on_or_after: timedelta | None = None
    roles: tuple[str, ...] = (f"{role()},{provider()}",)
    session_name: str | None = "alice"
    source_identity: str | None = "ALICEIDAAAAAAAAAAAAAAAAAAA"
    session_duration: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    transitive: tuple[str, ...] = ()
    status: str = "urn:oasis:names:tc:SAML:2.0:status:Success"
    extra_attributes: str = ""


def _attribute(name: str, *values: str) -> str:
    inside = "".join(f"<saml:AttributeValue>{_escape(value)}</saml:AttributeValue>" for value in values)
    return f'<saml:Attribute Name="{_escape(name)}">{inside}</saml:Attribute>'


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def assertion_xml(claims: Claims, assertion_id: str = "_assertion") -> str:
    """Write an unsigned assertion."""
    now = datetime.now(UTC)
    attributes = [_attribute(ATTRIBUTES + "Role", *claims.roles)] if claims.roles else []
    for name, value in (
        ("RoleSessionName", claims.session_name),
        ("SourceIdentity", claims.source_identity),
        ("SessionDuration", claims.session_duration),
    ):
        attributes += [_attribute(ATTRIBUTES + name, value)] if value is not None else []
    attributes += [_attribute(f"{ATTRIBUTES}PrincipalTag:{key}", value) for key, value in claims.tags.items()]
    attributes += [_attribute(ATTRIBUTES + "TransitiveTagKeys", *claims.transitive)] if claims.transitive else []
    name_id = (
        f'<saml:NameID Format="{claims.name_id_format}">{_escape(claims.name_id)}</saml:NameID>'
        if claims.name_id is not None
        else ""
    )
    recipient = f'Recipient="{claims.recipient}" ' if claims.recipient is not None else ""
    not_before = f'NotBefore="{instant(now + claims.not_before)}" ' if claims.not_before is not None else ""
    audience = (
        f"<saml:AudienceRestriction><saml:Audience>{claims.audience}</saml:Audience></saml:AudienceRestriction>"
        if claims.audience is not None
        else ""
    )
    session_end = (
        f' SessionNotOnOrAfter="{instant(now + claims.session_not_on_or_after)}"'
        if claims.session_not_on_or_after is not None
        else ""
    )
    issued = instant(now + claims.issued)
    return (
        f'<saml:Assertion xmlns:saml="{NS["saml"]}" ID="{assertion_id}" Version="2.0" IssueInstant="{issued}">'
        f"<saml:Issuer>{claims.issuer}</saml:Issuer>"
        f'<saml:Subject>{name_id}<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">'
        f"<saml:SubjectConfirmationData {recipient}"
        f'NotOnOrAfter="{instant(now + claims.confirmed_until)}"/></saml:SubjectConfirmation></saml:Subject>'
        f'<saml:Conditions {not_before}NotOnOrAfter="{instant(now + claims.not_on_or_after)}">{audience}'
        f'</saml:Conditions><saml:AuthnStatement AuthnInstant="{issued}"{session_end}><saml:AuthnContext>'
        "<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
        "</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>"
        f"<saml:AttributeStatement>{''.join(attributes)}{claims.extra_attributes}</saml:AttributeStatement>"
        "</saml:Assertion>"
    )


def response_xml(claims: Claims, *assertions: str) -> str:
    """Write an unsigned response around assertions."""
    destination = f' Destination="{claims.destination}"' if claims.destination is not None else ""
    return (
        f'<samlp:Response xmlns:samlp="{NS["samlp"]}" xmlns:saml="{NS["saml"]}" ID="_response" Version="2.0" '
        f'IssueInstant="{instant(datetime.now(UTC) + claims.issued)}"{destination}>'
        f"<saml:Issuer>{claims.issuer}</saml:Issuer>"
        f'<samlp:Status><samlp:StatusCode Value="{claims.status}"/></samlp:Status>'
        f"{''.join(assertions)}</samlp:Response>"
    )


@dataclass(frozen=True)
class Algorithms:
    """How to sign."""

    signature: str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
    digest: str = "http://www.w3.org/2001/04/xmlenc#sha256"
    canonicalization: str = "http://www.w3.org/2001/10/xml-exc-c14n#"
    transforms: tuple[str, ...] = (
        "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
    )


def sign(
    element: etree._Element,
    key: Key | None = None,
    algorithms: Algorithms | None = None,
    reference: str | None = None,
    *,
    show_key: Key | None = None,
) -> None:
    """Put an enveloped signature after the Issuer of a response or assertion.

    Args:
        element: what holds the signature.
        key: that signs.
        algorithms: defaults to RSA-SHA256 with exclusive c14n.
        reference: the URI; by default the element's own ID.
        show_key: whose certificate the KeyInfo shows.
    """
    chosen = algorithms or Algorithms()
    uri = f"#{element.get('ID')}" if reference is None else reference
    transforms = "".join(f'<ds:Transform Algorithm="{t}"/>' for t in chosen.transforms)
    key_info = (
        f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{show_key.certificate_base64}</ds:X509Certificate>"
        "</ds:X509Data></ds:KeyInfo>"
        if show_key is not None
        else ""
    )
    signature = etree.fromstring(
        f'<ds:Signature xmlns:ds="{NS["ds"]}"><ds:SignedInfo>'
        f'<ds:CanonicalizationMethod Algorithm="{chosen.canonicalization}"/>'
        f'<ds:SignatureMethod Algorithm="{chosen.signature}"/>'
        f'<ds:Reference URI="{uri}"><ds:Transforms>{transforms}</ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{chosen.digest}"/><ds:DigestValue/></ds:Reference>'
        f"</ds:SignedInfo><ds:SignatureValue/>{key_info}</ds:Signature>"
    )
    element.insert(1, signature)
    xmlsec.tree.add_ids(element.getroottree().getroot(), ["ID"])
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory((key or signing_key()).private, xmlsec.constants.KeyDataFormatPem)
    context.sign(signature)


def encode(document: etree._Element | str | bytes) -> str:
    """Base64, as the SAMLAssertion parameter wants it."""
    if isinstance(document, str):
        document = document.encode()
    data = document if isinstance(document, bytes) else etree.tostring(document)
    return base64.b64encode(data).decode()


def signed_tree(claims: Claims | None = None, key: Key | None = None, *, sign_response: bool = False) -> etree._Element:
    """Return a response with one assertion, signed at the assertion or at the response."""
    claims = claims or Claims()
    root = etree.fromstring(response_xml(claims, assertion_xml(claims)))
    target = root if sign_response else root.find("saml:Assertion", NS)
    assert target is not None
    sign(target, key)
    return root


def signed_response(claims: Claims | None = None, key: Key | None = None, *, sign_response: bool = False) -> str:
    """Return a signed response in base64."""
    return encode(signed_tree(claims, key, sign_response=sign_response))
