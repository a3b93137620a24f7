"""The signed response: valid by the OASIS schemas, and accepted by five verifiers that are not our signer."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from broker.adapters.saml.assertion import SamlAssertionSigner, saml_time
from broker.adapters.saml.metadata import build_metadata
from broker.adapters.signing_keys import FileSigningKey
from broker.core.assertion import PRINCIPAL_TAG, AssertionClaims
from broker.core.partitions import PARTITIONS
from tests.adapters.saml.claims import ENTITY_ID, SIGN_ON, claims, signed
from tests.adapters.saml.verifiers import (
    NS,
    Refused,
    check_schema,
    check_with_pysaml2,
    check_with_python3_saml,
    check_with_samlsign,
    check_with_signxml,
    check_with_xmlsec1,
)
from tests.core.examples import account_in

ASSERTION = f"{NS['saml']}:Assertion"


def verify_with_all(response: bytes, key: FileSigningKey, made: AssertionClaims) -> None:
    check_schema(response, "protocol")
    check_schema(etree.tostring(assertion_in(response)), "assertion")
    for verifier in VERIFIERS.values():
        verifier(response, key, made)


def assertion_in(response: bytes) -> etree._Element:
    found = etree.fromstring(response).find("saml:Assertion", NS)
    assert found is not None
    return found


VERIFIERS: dict[str, Callable[[bytes, FileSigningKey, AssertionClaims], object]] = {
    "signxml": lambda response, key, _: check_with_signxml(response, key.certificate_der, "saml:Assertion"),
    "xmlsec1": lambda response, key, _: check_with_xmlsec1(response, key.certificate_der, ASSERTION),
    "samlsign": lambda response, key, made: check_with_samlsign(response, key.certificate_der, made.id),
    "python3-saml": lambda response, key, made: check_with_python3_saml(
        response, build_metadata(ENTITY_ID, SIGN_ON, key), made.recipient, made.audience
    ),
    "pysaml2": lambda response, key, made: check_with_pysaml2(
        response, build_metadata(ENTITY_ID, SIGN_ON, key), made.recipient, made.audience
    ),
}


def test_a_response_is_valid_and_accepted_by_every_verifier(key: FileSigningKey) -> None:
    made = claims()
    verify_with_all(signed(key, made), key, made)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_a_response_for_any_partition_is_too(key: FileSigningKey, partition: str) -> None:
    made = claims(account_in(partition))
    verify_with_all(signed(key, made), key, made)


def test_what_a_relying_party_reads_is_what_was_claimed(key: FileSigningKey) -> None:
    made = claims()
    read = check_with_python3_saml(
        signed(key, made), build_metadata(ENTITY_ID, SIGN_ON, key), made.recipient, made.audience
    )
    assert {name: tuple(values) for name, values in read.get_attributes().items()} == dict(made.attributes)
    assert read.get_nameid() == made.subject
    assert read.get_nameid_format() == "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
    assert read.get_assertion_id() == made.id
    assert read.get_audiences() == [made.audience]
    assert set(read.get_issuers()) == {ENTITY_ID}


def test_pysaml2_reads_what_was_claimed_too(key: FileSigningKey) -> None:
    made = claims()
    read = check_with_pysaml2(signed(key, made), build_metadata(ENTITY_ID, SIGN_ON, key), made.recipient, made.audience)
    assert {name: tuple(values) for name, values in read.ava.items()} == dict(made.attributes)
    assert read.name_id.text == made.subject
    assert read.issuer() == ENTITY_ID


def found(response: bytes, path: str) -> str:
    values = etree.fromstring(response).xpath(path, namespaces=NS)
    assert isinstance(values, list)
    (value,) = values
    return str(value)


def test_every_element_of_the_response_says_what_it_must(key: FileSigningKey) -> None:
    made = claims()
    response = signed(key, made)
    end = saml_time(made.not_on_or_after)
    expected = {
        "/samlp:Response/@ID": made.response_id,
        "/samlp:Response/@Version": "2.0",
        "/samlp:Response/@Destination": made.recipient,
        "/samlp:Response/@IssueInstant": saml_time(made.issue_instant),
        "/samlp:Response/saml:Issuer/text()": ENTITY_ID,
        "//samlp:StatusCode/@Value": "urn:oasis:names:tc:SAML:2.0:status:Success",
        "//saml:Assertion/@ID": made.id,
        "//saml:Assertion/@IssueInstant": saml_time(made.issue_instant),
        "//saml:Assertion/saml:Issuer/text()": ENTITY_ID,
        "//saml:NameID/text()": made.subject,
        "//saml:SubjectConfirmation/@Method": "urn:oasis:names:tc:SAML:2.0:cm:bearer",
        "//saml:SubjectConfirmationData/@Recipient": made.recipient,
        "//saml:SubjectConfirmationData/@NotOnOrAfter": end,
        "//saml:Conditions/@NotBefore": saml_time(made.not_before),
        "//saml:Conditions/@NotOnOrAfter": end,
        "//saml:Audience/text()": made.audience,
        "//saml:AuthnStatement/@AuthnInstant": saml_time(made.authn_instant),
        "//saml:AuthnContextClassRef/text()": "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport",
        "//ds:Reference/@URI": f"#{made.id}",
    }
    assert {path: found(response, path) for path in expected} == expected


def test_only_the_algorithms_of_today_are_used(key: FileSigningKey) -> None:
    response = signed(key, claims())
    used = etree.fromstring(response).xpath("//@Algorithm", namespaces=NS)
    assert used == [
        "http://www.w3.org/2001/10/xml-exc-c14n#",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
        "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
        "http://www.w3.org/2001/04/xmlenc#sha256",
    ]


def test_the_signature_covers_the_whole_assertion(key: FileSigningKey) -> None:
    response = signed(key, claims())
    covered = etree.fromstring(check_with_signxml(response, key.certificate_der, "saml:Assertion"))
    assertion = etree.fromstring(response).find("saml:Assertion", NS)
    assert assertion is not None
    (signature,) = assertion.findall("ds:Signature", NS)
    assertion.remove(signature)
    assert [child.tag for child in covered] == [child.tag for child in assertion]
    assert etree.tostring(covered, method="c14n", exclusive=True) == etree.tostring(
        assertion, method="c14n", exclusive=True
    )


def test_the_response_is_a_secret_that_does_not_show(key: FileSigningKey) -> None:
    made = SamlAssertionSigner(key).sign(claims())
    assert made.response.reveal() not in repr(made)
    assert "•••" in repr(made)


def test_a_response_fits_what_sts_takes(key: FileSigningKey) -> None:
    many = {f"https://aws.amazon.com/SAML/Attributes/PrincipalTag:{number}": ("語" * 256,) for number in range(50)}
    made = claims()
    response = SamlAssertionSigner(key).sign(claims(attributes={**made.attributes, **many})).response.reveal()
    assert 4 <= len(response) <= 100_000


# --- Tampering

TAMPERING: dict[str, Callable[[bytes], bytes]] = {
    "another role": lambda text: text.replace(b"role/StaffFiles", b"role/Administrator"),
    "another session name": lambda text: text.replace(b">hanako<", b">kenken<"),
    "another subject": lambda text: text.replace(b"AAAAAAAAB<", b"AAAAAAAAC<"),
    "a longer session": lambda text: text.replace(b">28800<", b">43200<"),
    "another audience": lambda text: text.replace(b"<saml:Audience>https", b"<saml:Audience>httpx"),
    "a later end": lambda text: text.replace(b' NotOnOrAfter="20', b' NotOnOrAfter="30'),
    "an attribute more": lambda text: text.replace(
        b"</saml:AttributeStatement>",
        b'<saml:Attribute Name="x"><saml:AttributeValue>y</saml:AttributeValue></saml:Attribute>'
        b"</saml:AttributeStatement>",
    ),
    "white space": lambda text: text.replace(b"<saml:Conditions", b" <saml:Conditions"),
    "another digest": lambda text: text.replace(b"<ds:DigestValue>", b"<ds:DigestValue>AAAA"),
    "another signature": lambda text: text.replace(b"<ds:SignatureValue>", b"<ds:SignatureValue>AAAA"),
    "no signature": lambda text: text[: text.index(b"<ds:Signature ")] + text[text.index(b"<saml:Subject>") :],
    "another id": lambda text: text.replace(b'Assertion xmlns:saml="', b'Assertion  ID2="" xmlns:saml="'),
}


@pytest.mark.parametrize("verifier", VERIFIERS)
@pytest.mark.parametrize("how", TAMPERING)
def test_a_response_that_was_tampered_with_is_refused(key: FileSigningKey, how: str, verifier: str) -> None:
    made = claims()
    response = signed(key, made)
    VERIFIERS[verifier](response, key, made)
    tampered = TAMPERING[how](response)
    assert tampered != response
    with pytest.raises(Refused):
        VERIFIERS[verifier](tampered, key, made)


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_a_response_signed_with_another_key_is_refused_though_it_shows_its_own_certificate(
    key: FileSigningKey, other_key: FileSigningKey, verifier: str
) -> None:
    made = claims()
    with pytest.raises(Refused):
        VERIFIERS[verifier](signed(other_key, made), key, made)


def test_an_old_response_and_one_of_the_future_are_refused(key: FileSigningKey) -> None:
    now = datetime.now(UTC)
    for shift, verifier in product((timedelta(hours=-1), timedelta(hours=1)), ("python3-saml", "pysaml2")):
        made = claims(
            issue_instant=now + shift,
            not_before=now + shift - timedelta(minutes=1),
            not_on_or_after=now + shift + timedelta(minutes=5),
        )
        with pytest.raises(Refused):
            VERIFIERS[verifier](signed(key, made), key, made)


# --- Values that look like markup

XML_TEXT = st.text(
    alphabet=st.characters(exclude_categories=("Cs", "Cc", "Cn"), include_characters="\t\n\r")
    | st.sampled_from("<>&\"']!-?/=#;:\u00a0\u2028\U0001f600𠮷"),
    max_size=30,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=XML_TEXT, name=XML_TEXT, subject=XML_TEXT.filter(str.strip))
def test_any_text_comes_back_as_it_was_claimed_and_changes_nothing_around_it(
    key: FileSigningKey, value: str, name: str, subject: str
) -> None:
    made = claims(attributes={f"n{name}": (value, "second")}, subject=subject)
    response = signed(key, made)
    root = etree.fromstring(response)
    covered = etree.fromstring(check_with_signxml(response, key.certificate_der, "saml:Assertion"))
    for read in (root, covered):
        assert read.xpath("//saml:Attribute/@Name", namespaces=NS) == [f"n{name}"]
        assert [one.text or "" for one in read.iterfind(".//saml:AttributeValue", NS)] == [value, "second"]
        assert [one.text for one in read.iterfind(".//saml:NameID", NS)] == [subject]
        assert len(read.findall(".//saml:Subject", NS)) == 1
    assert len(root.findall(".//ds:Signature", NS)) == 1


TAG_TEXT = st.text(
    alphabet=st.characters(categories=("L", "N", "Zs", "Zl", "Zp")) | st.sampled_from("_.:/=+-@"), max_size=256
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tags=st.dictionaries(TAG_TEXT.map(lambda key: f"k{key[:127]}"), TAG_TEXT, max_size=5),
    username=XML_TEXT.filter(str.strip),
    partition=st.sampled_from(sorted(PARTITIONS)),
)
def test_any_tags_that_sts_takes_make_a_response_that_the_schemas_and_a_relying_party_take(
    key: FileSigningKey, tags: dict[str, str], username: str, partition: str
) -> None:
    made = claims(account_in(partition))
    many = {**made.attributes, **{PRINCIPAL_TAG + name: (value,) for name, value in tags.items()}, "who": (username,)}
    made = claims(account_in(partition), attributes=many)
    response = signed(key, made)
    check_schema(response, "protocol")
    check_schema(etree.tostring(assertion_in(response)), "assertion")
    check_with_signxml(response, key.certificate_der, "saml:Assertion")
    read = check_with_python3_saml(response, build_metadata(ENTITY_ID, SIGN_ON, key), made.recipient, made.audience)
    # That reader trims values, and leaves an empty one out.
    assert {name: tuple(values) or ("",) for name, values in read.get_attributes().items()} == {
        name: tuple(value.strip() for value in values) for name, values in many.items()
    }
    assert 4 <= len(base64.b64encode(response)) <= 100_000


HOSTILE = [
    "<saml:Subject>",
    "</saml:Assertion><saml:Assertion>",
    "]]>",
    "<![CDATA[x]]>",
    "<!-- x -->",
    "<?x y?>",
    "&amp;&#60;&lt;&nbsp;",
    "</samlp:Response>",
    "{id} {digest} {0}",
    "a\r\nb\tc",
    "𠮷野家 😀",
    "'\"",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_markup_in_a_value_is_text_to_every_verifier(key: FileSigningKey, value: str) -> None:
    made = claims(attributes={"tag": (value,)}, subject=value, issuer=ENTITY_ID)
    response = signed(key, made)
    check_schema(response, "protocol")
    check_with_xmlsec1(response, key.certificate_der, ASSERTION)
    read = check_with_python3_saml(response, build_metadata(ENTITY_ID, SIGN_ON, key), made.recipient, made.audience)
    assert read.get_attributes() == {"tag": [value]}
    assert read.get_nameid() == value


@pytest.mark.parametrize("value", ["\x00", "a\x0bb", "\x1b[31m", "\ud800", "\ufffe", "\uffff"])
def test_a_character_that_xml_does_not_have_is_refused_and_nothing_is_signed(key: FileSigningKey, value: str) -> None:
    with pytest.raises(ValueError, match=r"XML|surrogates"):
        SamlAssertionSigner(key).sign(claims(attributes={"tag": (value,)}))


def test_times_are_written_in_utc_with_milliseconds_whatever_the_zone() -> None:
    tokyo = datetime(2026, 11, 23, 18, 30, 0, 123999, tzinfo=timezone(timedelta(hours=9)))
    assert saml_time(tokyo) == "2026-11-23T09:30:00.123Z"
    assert saml_time(datetime(2026, 11, 23, 9, 30, tzinfo=UTC)) == "2026-11-23T09:30:00.000Z"


def test_the_response_is_plain_base64_of_xml_without_a_declaration_or_a_doctype(key: FileSigningKey) -> None:
    encoded = SamlAssertionSigner(key).sign(claims()).response.reveal()
    response = base64.b64decode(encoded, validate=True)
    assert response.startswith(b"<samlp:Response ")
    assert response.endswith(b"</samlp:Response>")
    assert b"<!" not in response
