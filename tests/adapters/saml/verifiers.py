"""Verifiers of SAML that are not our signer.

The OASIS schemas (by libxml2 and by xmlschema), two service providers (python3-saml, pysaml2), and four readers of XML
signatures of which three share no code (libxmlsec in the xmlsec1 command and the two providers, signxml, and Apache
Santuario in Shibboleth's samlsign).
"""

from __future__ import annotations

import base64
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import onelogin.saml2
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from saml2 import BINDING_HTTP_POST
from saml2.client import Saml2Client
from saml2.config import SPConfig
from saml2.response import AuthnResponse
from saml2.xml import schema as pysaml2_schema
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, XMLVerifier

# python3-saml brings the schemas of OASIS along, and those of W3C that they refer to.
_SCHEMAS = Path(onelogin.saml2.__file__).parent / "schemas"
NS = {
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}


class Refused(Exception):
    """A verifier did not accept the document; the text says why."""


@cache
def _schema(name: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(_SCHEMAS / f"saml-schema-{name}-2.0.xsd"))


def check_schema(document: bytes, name: str) -> None:
    """Validate against ``protocol``, ``assertion`` or ``metadata``, with two engines and two copies of the schemas.

    Raises:
        Refused: it is not valid.
    """
    schema = _schema(name)
    if not schema.validate(etree.fromstring(document)):
        raise Refused(str(schema.error_log))
    try:
        pysaml2_schema.validate(document.decode())
    except pysaml2_schema.XMLSchemaError as error:
        raise Refused(str(error)) from error


def check_with_signxml(document: bytes, certificate_der: bytes, parent: str) -> bytes:
    """Verify the signature of the element ``parent`` (a path), and give back the bytes that it covers.

    Raises:
        Refused: by signxml.
    """
    root = etree.fromstring(document)
    signed = root if parent == "." else root.find(parent, NS)
    if signed is None:
        raise Refused("there is nothing to verify")
    try:
        found = XMLVerifier().verify(
            etree.tostring(signed),
            x509_cert=_pem(certificate_der),
            id_attribute="ID",
            expect_config=SignatureConfiguration(
                location="./",
                signature_methods=frozenset({SignatureMethod.RSA_SHA256}),
                digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
            ),
        )
    except Exception as error:
        raise Refused(str(error)) from error
    assert not isinstance(found, list)
    return found.signed_data


def check_with_xmlsec1(document: bytes, certificate_der: bytes, element: str) -> None:
    """Verify with Debian's command.

    Args:
        document: the whole of it.
        certificate_der: whose key must have signed.
        element: namespace and name of what has the ID, as ``urn:…:assertion:Assertion``.

    Raises:
        Refused: by the command.
    """
    with tempfile.TemporaryDirectory() as folder:
        signed, certificate = Path(folder, "signed.xml"), Path(folder, "certificate.pem")
        signed.write_bytes(document)
        certificate.write_text(_pem(certificate_der))
        # The key comes from the certificate given here, never from the KeyInfo in the document.
        arguments = [
            "--pubkey-cert-pem",
            str(certificate),
            "--id-attr:ID",
            element,
            "--enabled-key-data",
            "key-name,rsa",
        ]
        done = subprocess.run(
            ["xmlsec1", "--verify", *arguments, signed], capture_output=True, text=True, check=False, timeout=30
        )
    if done.returncode != 0:
        raise Refused(done.stderr)


def check_with_samlsign(document: bytes, certificate_der: bytes, signed_id: str | None) -> None:
    """Verify with Shibboleth's command.

    Args:
        document: the whole of it.
        certificate_der: whose key must have signed.
        signed_id: of the element that is signed; None for the root.

    Raises:
        Refused: by the command.
    """
    with tempfile.TemporaryDirectory() as folder:
        signed, certificate = Path(folder, "signed.xml"), Path(folder, "certificate.pem")
        signed.write_bytes(document)
        certificate.write_text(_pem(certificate_der))
        which = [] if signed_id is None else ["-id", signed_id]
        done = subprocess.run(
            ["samlsign", "-f", signed, "-c", certificate, *which],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    if done.returncode != 0:
        raise Refused(done.stderr)


def check_with_pysaml2(response: bytes, metadata: bytes, recipient: str, audience: str) -> AuthnResponse:
    """Verify a response as a relying party built on pysaml2 would that was given the metadata.

    Raises:
        Refused: by pysaml2.
    """
    provider = {
        "endpoints": {"assertion_consumer_service": [(recipient, BINDING_HTTP_POST)]},
        "allow_unsolicited": True,
        "want_assertions_signed": True,
        "want_response_signed": False,
    }
    settings = SPConfig().load(
        {
            "entityid": audience,
            "metadata": {"inline": [metadata.decode()]},
            "service": {"sp": provider},
            "allow_unknown_attributes": True,
        }
    )
    client = Saml2Client(config=settings)
    try:
        read = client.parse_authn_request_response(base64.b64encode(response).decode(), BINDING_HTTP_POST)
    except Exception as error:
        raise Refused(str(error)) from error
    if read is None:
        raise Refused("pysaml2 gives no reason")
    return read


def check_with_python3_saml(response: bytes, metadata: bytes, recipient: str, audience: str) -> OneLogin_Saml2_Response:
    """Verify a response strictly as a relying party would that was given the metadata.

    Raises:
        Refused: by python3-saml.
    """
    host, _, path = recipient.removeprefix("https://").partition("/")
    settings = OneLogin_Saml2_Settings(
        {
            "strict": True,
            "idp": OneLogin_Saml2_IdPMetadataParser.parse(metadata)["idp"],
            "sp": {"entityId": audience, "assertionConsumerService": {"url": recipient}},
            "security": {"wantAssertionsSigned": True, "wantNameId": True, "rejectDeprecatedAlgorithm": True},
        }
    )
    request = {"https": "on", "http_host": host, "script_name": f"/{path}", "get_data": {}, "post_data": {}}
    read = OneLogin_Saml2_Response(settings, base64.b64encode(response))
    try:
        read.is_valid(request, raise_exceptions=True)
    except Exception as error:
        raise Refused(str(error)) from error
    return read


def _pem(certificate_der: bytes) -> str:
    return x509.load_der_x509_certificate(certificate_der).public_bytes(Encoding.PEM).decode()
