"""The enveloped signature, compared with what lxml canonicalises."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from broker.adapters.saml.signature import DS, canonical, sign_enveloped
from broker.adapters.signing_keys import FileSigningKey
from tests.adapters.saml.claims import claims, signed
from tests.adapters.saml.verifiers import NS, check_with_signxml


@dataclass
class Recorder:
    """A key that only remembers what it was given to sign: one in a device sees no more either."""

    certificate_der: bytes = b"certificate"
    not_after: datetime = datetime(2027, 1, 1, tzinfo=UTC)
    given: bytes = b""

    def sign(self, data: bytes) -> bytes:
        self.given = data
        return b"signature"


def test_the_inlined_signed_info_is_what_lxml_canonicalises() -> None:
    recorder = Recorder()
    response = etree.fromstring(signed(recorder, claims()))
    signed_info = response.find(".//ds:SignedInfo", NS)
    assert signed_info is not None
    assert etree.tostring(signed_info, method="c14n", exclusive=True, with_comments=False) == recorder.given


def test_the_digest_is_of_the_element_as_a_verifier_finds_it_without_the_signature() -> None:
    response = etree.fromstring(signed(Recorder(), claims()))
    assertion = response.find("saml:Assertion", NS)
    assert assertion is not None
    digest = assertion.findtext(".//ds:DigestValue", namespaces=NS)
    signature = assertion.find("ds:Signature", NS)
    assert signature is not None
    assertion.remove(signature)
    assert base64.b64encode(hashlib.sha256(canonical(assertion)).digest()).decode() == digest


def test_the_signature_stands_after_the_issuer_as_the_schema_wants_it() -> None:
    response = etree.fromstring(signed(Recorder(), claims()))
    assertion = response.find("saml:Assertion", NS)
    assert assertion is not None
    assert [etree.QName(child).localname for child in assertion] == [
        "Issuer",
        "Signature",
        "Subject",
        "Conditions",
        "AuthnStatement",
        "AttributeStatement",
    ]


TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc", "Cn"), include_characters="\t\n\r<>&\"'"))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=TEXT, other=TEXT)
def test_any_element_can_be_signed_and_is_verified(key: FileSigningKey, one: str, other: str) -> None:
    root = etree.Element("{urn:test}root", {"ID": "_1", "value": one}, nsmap={"t": "urn:test", "unused": "urn:unused"})
    etree.SubElement(root, "{urn:test}first").text = other
    etree.SubElement(root, "{urn:test}second", {"value": other}).text = one
    document = sign_enveloped(root, key, b"<t:second ")
    covered = etree.fromstring(check_with_signxml(document, key.certificate_der, "."))
    assert [child.tag for child in etree.fromstring(document)] == [
        "{urn:test}first",
        f"{{{DS}}}Signature",
        "{urn:test}second",
    ]
    assert covered.get("value") == one
    assert (covered[0].text or "", covered[1].text or "") == (other, one)
