"""The metadata that an operator gives to IAM."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lxml import etree
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser

from broker.adapters.saml.assertion import saml_time
from broker.adapters.saml.metadata import build_metadata, read_metadata
from broker.adapters.signing_keys import FileSigningKey
from broker.core.errors import SigningKeyUnusable
from broker.sandbox.aws.saml_metadata import parse_metadata
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

DESCRIPTOR = f"{NS['md']}:EntityDescriptor"


def test_metadata_is_valid_signed_and_accepted_by_three_verifiers(key: FileSigningKey) -> None:
    document = build_metadata(ENTITY_ID, SIGN_ON, key)
    check_schema(document, "metadata")
    check_with_signxml(document, key.certificate_der, ".")
    check_with_xmlsec1(document, key.certificate_der, DESCRIPTOR)
    check_with_samlsign(document, key.certificate_der, None)


def test_metadata_of_a_rollover_publishes_both_certificates_the_active_one_first(
    key: FileSigningKey, other_key: FileSigningKey
) -> None:
    document = build_metadata(ENTITY_ID, SIGN_ON, key, [other_key])
    check_schema(document, "metadata")
    check_with_xmlsec1(document, key.certificate_der, DESCRIPTOR)
    check_with_samlsign(document, key.certificate_der, None)
    made = claims()
    for signer in (key, other_key):
        check_with_python3_saml(signed(signer, made), document, made.recipient, made.audience)
        check_with_pysaml2(signed(signer, made), document, made.recipient, made.audience)


def test_a_parser_reads_entity_sign_on_and_name_format(key: FileSigningKey) -> None:
    read = OneLogin_Saml2_IdPMetadataParser.parse(build_metadata(ENTITY_ID, SIGN_ON, key))["idp"]
    assert read["entityId"] == ENTITY_ID
    assert read["singleSignOnService"]["url"] == SIGN_ON
    root = etree.fromstring(build_metadata(ENTITY_ID, SIGN_ON, key))
    assert root.findtext(".//md:NameIDFormat", namespaces=NS) == "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
    assert [one.get("Location") for one in root.iterfind(".//md:SingleSignOnService", NS)] == [SIGN_ON, SIGN_ON]


def test_the_stand_in_for_iam_registers_it(key: FileSigningKey) -> None:
    provider = parse_metadata(build_metadata(ENTITY_ID, SIGN_ON, key).decode())
    assert provider.entity_id == ENTITY_ID


def test_it_holds_as_long_as_the_certificate_since_iam_never_fetches_it_again(key: FileSigningKey) -> None:
    root = etree.fromstring(build_metadata(ENTITY_ID, SIGN_ON, key))
    assert root.get("validUntil") == saml_time(key.not_after)


def test_it_is_what_iam_takes(key: FileSigningKey) -> None:
    document = build_metadata(ENTITY_ID, SIGN_ON, key)
    assert 1000 <= len(document) <= 10_000_000
    assert document.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<md:EntityDescriptor ')
    assert document.decode("utf-8")


@pytest.mark.parametrize(
    "url", ["https://broker.example.com/sso?a=1&b=<2>", 'https://broker.example.com/"x"', "https://日本/"]
)
def test_hostile_addresses_are_text(key: FileSigningKey, url: str) -> None:
    root = etree.fromstring(build_metadata(url, url, key))
    assert root.get("entityID") == url
    assert {one.get("Location") for one in root.iterfind(".//md:SingleSignOnService", NS)} == {url}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/saml/sso", b"/evil/sso"),
        (b'entityID="https://broker', b'entityID="https://evil00'),
        (b'validUntil="20', b'validUntil="30'),
        (b"<md:NameIDFormat>urn", b"<md:NameIDFormat>xrn"),
    ],
)
def test_metadata_that_was_tampered_with_is_refused(key: FileSigningKey, old: bytes, new: bytes) -> None:
    tampered = build_metadata(ENTITY_ID, SIGN_ON, key).replace(old, new)
    assert new in tampered
    with pytest.raises(Refused):
        check_with_signxml(tampered, key.certificate_der, ".")
    with pytest.raises(Refused):
        check_with_xmlsec1(tampered, key.certificate_der, DESCRIPTOR)
    with pytest.raises(Refused):
        check_with_samlsign(tampered, key.certificate_der, None)


def test_metadata_signed_with_another_key_is_refused(key: FileSigningKey, other_key: FileSigningKey) -> None:
    document = build_metadata(ENTITY_ID, SIGN_ON, other_key)
    with pytest.raises(Refused):
        check_with_signxml(document, key.certificate_der, ".")
    with pytest.raises(Refused):
        check_with_xmlsec1(document, key.certificate_der, DESCRIPTOR)


def test_metadata_of_a_rollover_holds_until_the_last_certificate_ends(
    key: FileSigningKey, other_key: FileSigningKey
) -> None:
    later = replace(other_key, not_after=key.not_after + timedelta(days=1000))
    for active, other in ((key, later), (later, key)):
        root = etree.fromstring(build_metadata(ENTITY_ID, SIGN_ON, active, [other]))
        assert root.get("validUntil") == saml_time(later.not_after)


def test_what_it_publishes_is_read_again(key: FileSigningKey, other_key: FileSigningKey) -> None:
    read = read_metadata(build_metadata(ENTITY_ID, SIGN_ON, key, [other_key]))
    # The certificate in the signature is no published one.
    assert read.certificates == {key.certificate_der, other_key.certificate_der}
    assert read.valid_until == max(key.not_after, other_key.not_after)
    assert read_metadata(build_metadata(ENTITY_ID, SIGN_ON, other_key)).certificates == {other_key.certificate_der}


@pytest.mark.parametrize("document", [b"", b"<x/>", b"<x validUntil='soon'/>", b"\xff", b"<!DOCTYPE x><x>"])
def test_what_is_no_metadata_is_a_fault_that_says_what_to_do(document: bytes) -> None:
    with pytest.raises(SigningKeyUnusable, match="broker metadata --sign"):
        read_metadata(document)
