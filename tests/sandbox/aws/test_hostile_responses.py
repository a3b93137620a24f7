"""More of what an attacker or a careless identity provider may send: real forgeries, odd encodings, harmless oddities.

Where AWS documents nothing and nobody has reported what STS does, the test says that the outcome is assumed.
"""

from __future__ import annotations

import base64
import hmac
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from lxml import etree

from broker.sandbox.aws.assertion_check import AssertionRefusedError, VerifiedAssertion, verify_response
from broker.sandbox.aws.saml_metadata import IdentityProvider, parse_metadata
from tests.sandbox.aws.identity_provider import (
    NS,
    RESEARCH,
    SIGN_IN,
    Algorithms,
    Claims,
    Key,
    assertion_xml,
    encode,
    metadata,
    provider,
    response_xml,
    role,
    sign,
    signed_response,
    signed_tree,
    signing_key,
)

SAML, SAMLP, DS = (f"{{{NS[name]}}}" for name in ("saml", "samlp", "ds"))
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
INVALID_SIGNATURE = ("InvalidIdentityToken", 400, "Response signature invalid")


@pytest.fixture(scope="module")
def registered() -> IdentityProvider:
    return parse_metadata(metadata())


def verify(registered: IdentityProvider, encoded: str) -> VerifiedAssertion:
    return verify_response(encoded, registered, datetime.now(UTC))


def refusal(registered: IdentityProvider, encoded: str) -> tuple[str, int, str]:
    with pytest.raises(AssertionRefusedError) as caught:
        verify(registered, encoded)
    return caught.value.code, caught.value.status, str(caught.value)


def find(element: etree._Element, path: str) -> etree._Element:
    found = element.find(path, NS)
    assert found is not None
    return found


def unsigned(claims: Claims | None = None) -> etree._Element:
    return etree.fromstring(response_xml(claims or Claims(), assertion_xml(claims or Claims())))


def edited(
    edit: Callable[[etree._Element, etree._Element], object], algorithms: Algorithms | None = None
) -> etree._Element:
    """A response that was edited first and then signed at the assertion."""
    root = unsigned()
    assertion = find(root, "saml:Assertion")
    edit(root, assertion)
    sign(assertion, algorithms=algorithms)
    return root


def canonical(element: etree._Element) -> bytes:
    return etree.tostring(element, method="c14n", exclusive=True)


# --- signatures


@pytest.mark.parametrize("form", ["pem", "der", "public key"])
def test_an_hmac_that_was_really_made_with_the_public_key_is_refused(registered: IdentityProvider, form: str) -> None:
    certificate = x509.load_pem_x509_certificate(signing_key().certificate)
    secret = {
        "pem": signing_key().certificate,
        "der": certificate.public_bytes(serialization.Encoding.DER),
        "public key": certificate.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    }[form]
    root = signed_tree()
    find(root, ".//ds:SignatureMethod").set("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256")
    value = hmac.digest(secret, canonical(find(root, ".//ds:SignedInfo")), "sha256")
    find(root, ".//ds:SignatureValue").text = base64.b64encode(value).decode()
    assert refusal(registered, encode(root)) == INVALID_SIGNATURE


def test_a_certificate_that_the_registered_key_issued_signs_nothing(registered: IdentityProvider) -> None:
    issuer = x509.load_pem_x509_certificate(signing_key().certificate)
    child = x509.load_pem_x509_certificate(signing_key("child").certificate)
    issued = (
        x509.CertificateBuilder()
        .subject_name(child.subject)
        .issuer_name(issuer.subject)
        .public_key(child.public_key())
        .serial_number(1)
        .not_valid_before(child.not_valid_before_utc)
        .not_valid_after(child.not_valid_after_utc)
        .sign(_private(signing_key()), hashes.SHA256())
    )
    shown = Key(signing_key("child").private, issued.public_bytes(serialization.Encoding.PEM))
    root = unsigned()
    sign(find(root, "saml:Assertion"), shown, show_key=shown)
    assert refusal(registered, encode(root)) == INVALID_SIGNATURE


def test_a_certificate_that_has_expired_verifies_while_it_is_registered() -> None:
    # Assumed: IAM is not known to look at the dates of the certificates in the metadata.
    old = x509.load_pem_x509_certificate(signing_key().certificate)
    expired = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.subject)
        .public_key(old.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2021, 1, 1, tzinfo=UTC))
        .sign(_private(signing_key()), hashes.SHA256())
    )
    document = metadata(Key(signing_key().private, expired.public_bytes(serialization.Encoding.PEM)))
    assert verify(parse_metadata(document), signed_response()).subject == "alice-id"


def _private(key: Key) -> RSAPrivateKey:
    private = serialization.load_pem_private_key(key.private, None)
    assert isinstance(private, RSAPrivateKey)
    return private


def test_a_signature_with_pss_padding_is_refused(registered: IdentityProvider) -> None:
    # Assumed: AWS names no algorithms beyond those of the identity providers it describes, which all sign with PKCS #1.
    pss = Algorithms(signature="http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1")
    assert refusal(registered, encode(edited(lambda _root, _assertion: None, pss))) == INVALID_SIGNATURE


@pytest.mark.parametrize("also_forged", [False, True])
def test_a_good_signature_over_something_else_does_not_stand_for_the_assertion(
    registered: IdentityProvider, *, also_forged: bool
) -> None:
    root = signed_tree() if also_forged else unsigned()
    extensions = etree.Element(f"{SAMLP}Extensions", {"ID": "_extensions"})
    etree.SubElement(extensions, f"{SAML}Issuer").text = "https://idp.test.example/saml/metadata"
    root.insert(1, extensions)
    sign(extensions)
    if also_forged:
        find(root, "saml:Assertion/saml:Subject/saml:NameID").text = "administrator-id"
    assert refusal(registered, encode(root)) == INVALID_SIGNATURE


def test_nothing_that_key_info_points_to_is_fetched(registered: IdentityProvider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/certificate"
        root = signed_tree()
        key_info = etree.SubElement(find(root, "saml:Assertion/ds:Signature"), f"{DS}KeyInfo")
        method = etree.SubElement(key_info, f"{DS}RetrievalMethod", {"URI": address})
        method.set("Type", "http://www.w3.org/2000/09/xmldsig#rawX509Certificate")
        assert verify(registered, encode(root)).subject == "alice-id"
        trap.settimeout(0.1)
        with pytest.raises(TimeoutError):
            trap.accept()


TRANSFORMS = {
    "http://www.w3.org/TR/1999/REC-xslt-19991116": '<x:stylesheet xmlns:x="http://www.w3.org/1999/XSL/Transform"/>',
    "http://www.w3.org/TR/1999/REC-xpath-19991116": '<x:XPath xmlns:x="http://www.w3.org/2000/09/xmldsig#">1</x:XPath>',
    "http://www.w3.org/2002/06/xmldsig-filter2": (
        '<x:XPath xmlns:x="http://www.w3.org/2002/06/xmldsig-filter2" Filter="subtract">/</x:XPath>'
    ),
    "http://www.w3.org/2000/09/xmldsig#base64": "<x/>",
    "http://www.w3.org/2002/07/decrypt#XML": "<x/>",
}


@pytest.mark.parametrize("algorithm", TRANSFORMS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_transform_that_could_hide_something_is_refused_in_any_place(
    registered: IdentityProvider, algorithm: str, place: int
) -> None:
    root = signed_tree()
    transform = etree.Element(f"{DS}Transform", {"Algorithm": algorithm})
    transform.append(etree.fromstring(TRANSFORMS[algorithm]))
    find(root, ".//ds:Transforms").insert(place, transform)
    assert refusal(registered, encode(root)) == INVALID_SIGNATURE


def test_a_reference_to_the_whole_document_is_refused_although_it_verifies(registered: IdentityProvider) -> None:
    root = unsigned()
    sign(root, reference="")
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(signing_key().certificate, xmlsec.constants.KeyDataFormatCertPem)
    context.verify(find(root, "ds:Signature"))
    # Assumed for STS; SAML Core 5.4.2 wants a reference by ID.
    assert refusal(registered, encode(root)) == INVALID_SIGNATURE


def without_uri(root: etree._Element) -> None:
    del find(root, ".//ds:Reference").attrib["URI"]


def without_reference(root: etree._Element) -> None:
    find(root, ".//ds:SignedInfo").remove(find(root, ".//ds:Reference"))


def without_value(root: etree._Element) -> None:
    find(root, ".//ds:SignatureValue").text = ""


def two_signed_infos(root: etree._Element) -> None:
    find(root, ".//ds:SignedInfo").addprevious(etree.fromstring(etree.tostring(find(root, ".//ds:SignedInfo"))))


def digest_in_a_comment(root: etree._Element) -> None:
    digest = find(root, ".//ds:DigestValue")
    digest.insert(0, etree.Comment("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="))


def digest_elsewhere(root: etree._Element) -> None:
    find(root, "saml:Assertion/saml:Subject/saml:NameID").text = "administrator-id"
    assertion = etree.fromstring(etree.tostring(find(root, "saml:Assertion")))
    assertion.remove(find(assertion, "ds:Signature"))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(canonical(assertion))
    extensions = etree.Element(f"{SAMLP}Extensions")
    etree.SubElement(extensions, f"{DS}DigestValue").text = base64.b64encode(digest.finalize()).decode()
    root.insert(1, extensions)


def relative_namespace(root: etree._Element) -> None:
    # Canonicalisation of it is an error, and readers are known that took the error for an empty text.
    assertion = find(root, "saml:Assertion")
    assertion.append(etree.fromstring('<x:y xmlns:x="not-a-uri"/>'))


def digest_of_nothing(root: etree._Element) -> None:
    relative_namespace(root)
    find(root, ".//ds:DigestValue").text = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def digest_with_a_child(root: etree._Element) -> None:
    etree.SubElement(find(root, ".//ds:DigestMethod"), "x")


@pytest.mark.parametrize(
    "edit",
    [
        without_uri,
        without_reference,
        without_value,
        two_signed_infos,
        digest_in_a_comment,
        digest_elsewhere,
        relative_namespace,
        digest_of_nothing,
        digest_with_a_child,
    ],
    ids=lambda edit: edit.__name__,
)
def test_a_signature_that_some_readers_took_is_refused(
    registered: IdentityProvider, edit: Callable[[etree._Element], None]
) -> None:
    root = signed_tree()
    edit(root)
    assert refusal(registered, encode(root)) == INVALID_SIGNATURE


def test_prefixes_that_the_transform_names_are_no_obstacle(registered: IdentityProvider) -> None:
    root = unsigned()
    assertion = find(root, "saml:Assertion")
    sign(assertion)
    for path in (".//ds:CanonicalizationMethod", ".//ds:Transform[2]"):
        etree.SubElement(find(root, path), f"{{{EXCLUSIVE}}}InclusiveNamespaces", {"PrefixList": "xs"})
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(signing_key().private, xmlsec.constants.KeyDataFormatPem)
    context.sign(find(root, ".//ds:Signature"))
    assert verify(registered, encode(root)).subject == "alice-id"


# --- encodings


def padded(characters: int) -> str:
    """A good response whose base64 has that many characters, by white space after the last element."""
    document = base64.b64decode(signed_response())
    return base64.b64encode(document.ljust(characters // 4 * 3)).decode()


def test_a_hundred_thousand_characters_are_taken_and_four_more_are_not(registered: IdentityProvider) -> None:
    assert len(padded(100_000)) == 100_000
    assert verify(registered, padded(100_000)).subject == "alice-id"
    assert refusal(registered, padded(100_004)) == ("InvalidIdentityToken", 400, "Invalid base64 SAMLResponse")


@pytest.mark.parametrize(
    "mangle",
    [
        pytest.param(lambda text: text.rstrip("=")[:-1], id="cut short"),
        pytest.param(lambda text: text[:40] + "*" + text[40:], id="a character of no alphabet"),
        pytest.param(lambda text: text[:40] + "\u3000" + text[40:], id="a space that is not ASCII"),
        pytest.param(lambda text: text[:40] + "%2B" + text[41:], id="quoted for a URL"),
        pytest.param(lambda text: base64.b64encode(text.encode()).decode(), id="base64 of base64"),
    ],
)
def test_what_is_not_base64_of_a_response_is_refused(
    registered: IdentityProvider, mangle: Callable[[str], str]
) -> None:
    assert refusal(registered, mangle(signed_response()))[:2] == ("InvalidIdentityToken", 400)


def test_base64_for_urls_is_refused(registered: IdentityProvider) -> None:
    # Assumed: the parameter is documented as base64. The tag's value makes sure that the two alphabets differ.
    document = base64.b64decode(signed_response(Claims(tags={"Team": "ÿ" * 9})))
    quoted = base64.urlsafe_b64encode(document)
    assert quoted != base64.b64encode(document)
    assert refusal(registered, quoted.decode()) == ("InvalidIdentityToken", 400, "Invalid base64 SAMLResponse")


UTF_16 = b'<?xml version="1.0" encoding="UTF-16"?>'
EXTERNAL = b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
UNPARSABLE = ("InvalidIdentityToken", 400, "Invalid SAMLResponse: it could not be parsed")


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(lambda xml: xml.encode("utf-16"), id="utf-16"),
        pytest.param(lambda xml: UTF_16 + xml.encode("utf-16-be"), id="utf-16, said in utf-8"),
        pytest.param(lambda xml: xml.replace("alice-id", "ali\xe9").encode("latin-1"), id="latin-1"),
        pytest.param(lambda xml: xml.replace("alice-id", "ali\0ce").encode(), id="a zero byte"),
        pytest.param(lambda xml: xml.encode().replace(b"alice-id", b"ali\xed\xa0\x80"), id="a surrogate"),
        pytest.param(lambda xml: xml.encode().replace(b"alice-id", b"ali\xc0\xaf"), id="an overlong form"),
        pytest.param(lambda xml: xml.replace("alice-id", "&#0;").encode(), id="a reference to no character"),
        pytest.param(lambda xml: (xml + xml).encode(), id="two roots"),
        pytest.param(lambda xml: ("x" + xml).encode(), id="text before the root"),
        pytest.param(lambda xml: xml.replace("ds:", "").encode(), id="without a namespace"),
        pytest.param(lambda xml: ("<a>" * 5000 + xml + "</a>" * 5000).encode(), id="5,000 deep"),
        pytest.param(lambda xml: EXTERNAL + xml.replace("alice-id", "&x;").encode(), id="external entity"),
        pytest.param(lambda xml: b"<!-- --><!doctype r>" + xml.encode(), id="a declaration in lower case"),
    ],
)  # fmt: skip
def test_a_document_that_is_not_plain_utf_8_xml_is_refused(
    registered: IdentityProvider, document: Callable[[str], bytes]
) -> None:
    xml = base64.b64decode(signed_response()).decode()
    assert refusal(registered, encode(document(xml)))[:2] == UNPARSABLE[:2]


def test_an_inclusion_is_not_followed(registered: IdentityProvider) -> None:
    include = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/hostname" parse="text"/>'

    def edit(_: etree._Element, assertion: etree._Element) -> None:
        find(assertion, "saml:Subject/saml:NameID").append(etree.fromstring(include))

    assert "elements where text is expected" in refusal(registered, encode(edited(edit)))[2]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda xml: b'<?xml version="1.0" encoding="UTF-8"?>\n' + xml + b"\n", id="a declaration"),
        pytest.param(lambda xml: b"\xef\xbb\xbf" + xml, id="a byte order mark"),
        pytest.param(lambda xml: b"<?xml-stylesheet href='x'?><!-- x -->" + xml, id="before the root"),
        pytest.param(lambda xml: xml.replace(b"alice-id", b"<![CDATA[alice-id]]>"), id="a CDATA section"),
        pytest.param(lambda xml: xml.replace(b"alice-id", b"&#97;lice&#x2D;id"), id="character references"),
        pytest.param(lambda xml: xml.replace(b"/></samlp:Status>", b" /></samlp:Status>\n  "), id="white space"),
    ],
)  # fmt: skip
def test_spellings_of_the_same_document_change_nothing(
    registered: IdentityProvider, change: Callable[[bytes], bytes]
) -> None:
    xml = base64.b64decode(signed_response())
    assert change(xml) != xml
    assert verify(registered, encode(change(xml))).subject == "alice-id"


# --- harmless, and accepted


def in_response_to(root: etree._Element, assertion: etree._Element) -> None:
    root.set("InResponseTo", "_request")
    find(assertion, ".//saml:SubjectConfirmationData").set("InResponseTo", "_request")


def no_destination(root: etree._Element, _: etree._Element) -> None:
    del root.attrib["Destination"]


def no_issuer_of_the_response(root: etree._Element, _: etree._Element) -> None:
    root.remove(find(root, "saml:Issuer"))


def no_authn_statement(_: etree._Element, assertion: etree._Element) -> None:
    assertion.remove(find(assertion, "saml:AuthnStatement"))


def two_attribute_statements(_: etree._Element, assertion: etree._Element) -> None:
    statement = find(assertion, "saml:AttributeStatement")
    second = etree.SubElement(assertion, f"{SAML}AttributeStatement")
    second.append(statement[-1])


def known_conditions(_: etree._Element, assertion: etree._Element) -> None:
    etree.SubElement(find(assertion, "saml:Conditions"), f"{SAML}OneTimeUse")
    etree.SubElement(find(assertion, "saml:Conditions"), f"{SAML}ProxyRestriction", {"Count": "0"})


def nested_status(root: etree._Element, _: etree._Element) -> None:
    etree.SubElement(find(root, ".//samlp:StatusCode"), f"{SAMLP}StatusCode", {"Value": "urn:example:more"})


def other_audiences_too(_: etree._Element, assertion: etree._Element) -> None:
    restriction = find(assertion, ".//saml:AudienceRestriction")
    restriction.insert(
        0, etree.fromstring(f'<saml:Audience xmlns:saml="{NS["saml"]}">https://sp.example/</saml:Audience>')
    )


@pytest.mark.parametrize(
    "edit",
    [
        in_response_to,
        no_destination,
        no_issuer_of_the_response,
        no_authn_statement,
        two_attribute_statements,
        known_conditions,
        nested_status,
        other_audiences_too,
    ],
    ids=lambda edit: edit.__name__,
)
def test_what_saml_allows_and_aws_does_not_forbid_is_accepted(
    registered: IdentityProvider, edit: Callable[[etree._Element, etree._Element], None]
) -> None:
    # Assumed for STS: its documents ask for none of these and rule none of them out.
    assert verify(registered, encode(edited(edit))).subject == "alice-id"


def test_an_assertion_may_offer_several_roles_of_several_accounts(registered: IdentityProvider) -> None:
    pairs = {
        (role(), provider()),
        (role("FinanceReports"), provider()),
        (role("FalconData", RESEARCH), provider(RESEARCH)),
    }
    claims = Claims(roles=tuple(f"{one},{other}" for one, other in pairs))
    assert verify(registered, signed_response(claims)).roles == pairs


def test_both_names_of_the_audience_are_accepted(registered: IdentityProvider) -> None:
    for audience in (SIGN_IN, "urn:amazon:webservices"):
        assert verify(registered, signed_response(Claims(audience=audience))).subject == "alice-id"


def test_a_tag_may_be_empty_and_as_long_as_sts_takes(registered: IdentityProvider) -> None:
    tags = {"k" * 128: "研" * 256, "Empty": "", "a b_.:/=+-@": "営業 1_.:/=+-@"}
    assert verify(registered, signed_response(Claims(tags=tags))).tags == tags
    fifty = {f"k{number}": str(number) for number in range(50)}
    assert verify(registered, signed_response(Claims(tags=fifty, transitive=tuple(fifty)))).tags == fifty


@pytest.mark.parametrize("seconds", ["900", "43200"])
def test_the_bounds_of_a_session_duration_are_within_it(registered: IdentityProvider, seconds: str) -> None:
    found = verify(registered, signed_response(Claims(session_duration=seconds)))
    assert found.session_duration == timedelta(seconds=int(seconds))


@pytest.mark.parametrize("name", ["ab", "a" * 64, "h.yamada@corp.example", "A_b+c=d,e-f"])
def test_the_bounds_of_a_session_name_are_within_it(registered: IdentityProvider, name: str) -> None:
    found = verify(registered, signed_response(Claims(session_name=name, source_identity=name)))
    assert (found.role_session_name, found.source_identity) == (name, name)


# --- well signed, and refused for what they say


INVALID = "InvalidIdentityToken"


def unknown_condition(_: etree._Element, assertion: etree._Element) -> None:
    etree.SubElement(find(assertion, "saml:Conditions"), f"{SAML}Condition")


def no_audience(_: etree._Element, assertion: etree._Element) -> None:
    restriction = find(assertion, ".//saml:AudienceRestriction")
    restriction.remove(find(restriction, "saml:Audience"))


def audience_in_a_comment(_: etree._Element, assertion: etree._Element) -> None:
    audience = find(assertion, ".//saml:Audience")
    audience.text = "https://sp.example/"
    audience.append(etree.Comment(SIGN_IN))


def issuer_in_a_comment(_: etree._Element, assertion: etree._Element) -> None:
    issuer = find(assertion, "saml:Issuer")
    comment = etree.Comment(" ")
    comment.tail = ".evil.example"
    issuer.append(comment)


def white_space_around_the_issuer(_: etree._Element, assertion: etree._Element) -> None:
    issuer = find(assertion, "saml:Issuer")
    issuer.text = f"\n  {issuer.text}\n"


def other_issuer_of_the_response(root: etree._Element, _: etree._Element) -> None:
    find(root, "saml:Issuer").text = "https://other.example/"


def encrypted_name(_: etree._Element, assertion: etree._Element) -> None:
    name = find(assertion, "saml:Subject/saml:NameID")
    name.tag = f"{SAML}EncryptedID"


def encrypted_role(_: etree._Element, assertion: etree._Element) -> None:
    find(assertion, "saml:AttributeStatement/saml:Attribute").tag = f"{SAML}EncryptedAttribute"


def role_in_another_case(_: etree._Element, assertion: etree._Element) -> None:
    attribute = find(assertion, "saml:AttributeStatement/saml:Attribute")
    attribute.set("Name", str(attribute.get("Name")).replace("/Role", "/role"))


def role_under_its_friendly_name(_: etree._Element, assertion: etree._Element) -> None:
    attribute = find(assertion, "saml:AttributeStatement/saml:Attribute")
    attribute.set("FriendlyName", str(attribute.attrib.pop("Name")))


@pytest.mark.parametrize(
    ("edit", "code", "text"),
    [
        (unknown_condition, INVALID, "a condition is not understood"),
        (no_audience, INVALID, "Response does not contain the required audience"),
        (audience_in_a_comment, INVALID, "Response does not contain the required audience"),
        (issuer_in_a_comment, INVALID, "Issuer not present in specified provider"),
        (white_space_around_the_issuer, INVALID, "Issuer not present in specified provider"),  # assumed
        (other_issuer_of_the_response, INVALID, "Issuer not present in specified provider"),
        (encrypted_name, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML"),  # assumed
        (encrypted_role, INVALID, "Your request included an invalid SAML response"),  # assumed
        (role_in_another_case, INVALID, "Your request included an invalid SAML response"),
        (role_under_its_friendly_name, INVALID, "Your request included an invalid SAML response"),
    ],
)
def test_a_well_signed_response_is_refused_for_what_it_says(
    registered: IdentityProvider, edit: Callable[[etree._Element, etree._Element], None], code: str, text: str
) -> None:
    found = refusal(registered, encode(edited(edit)))
    assert found[0] == code
    assert text in found[2]


@pytest.mark.parametrize(
    "recipient",
    [
        "http://signin.aws.amazon.com/saml",
        "https://signin.aws.amazon.com/saml/",
        "https://signin.aws.amazon.com/saml?x",
        "https://signin.aws.amazon.com:443/saml",
        "https://SIGNIN.aws.amazon.com/saml",
        "https://x@signin.aws.amazon.com/saml",
        "https://evil.signin.aws.amazon.com/saml",
        "https://signin.aws.amazon.com/saml\n",
        "urn:amazon:webservices",
        " ",
    ],
)
def test_an_address_that_only_resembles_the_one_of_aws_is_no_recipient(
    registered: IdentityProvider, recipient: str
) -> None:
    def edit(_: etree._Element, assertion: etree._Element) -> None:
        find(assertion, ".//saml:SubjectConfirmationData").set("Recipient", recipient)

    found = refusal(registered, encode(edited(edit)))
    assert found == (INVALID, 400, "Response does not contain the required recipient")


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-24",
        "2026-11-24T09:00:00",
        "2026-11-24T09:00:00+00:00",
        "20261124T090000Z",
        "٢٠٢٦-11-24T09:00:00Z",
        "now",
        "",
    ],
)
def test_a_time_that_is_not_in_utc_is_refused(registered: IdentityProvider, moment: str) -> None:
    # SAML Core 1.3.3: times are in UTC, with no other time zone component. Assumed that STS insists.
    def edit(_: etree._Element, assertion: etree._Element) -> None:
        assertion.set("IssueInstant", moment)

    assert "a time is missing or not in UTC" in refusal(registered, encode(edited(edit)))[2]


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        (Claims(session_name=" alice"), "RoleSessionName in AuthnResponse must match"),
        (Claims(session_name="alice\n"), "RoleSessionName in AuthnResponse must match"),
        (Claims(session_name="a"), "RoleSessionName in AuthnResponse must match"),
        (Claims(session_name="a/b"), "RoleSessionName in AuthnResponse must match"),
        (Claims(session_name="corp\\alice"), "RoleSessionName in AuthnResponse must match"),
        (Claims(session_name=""), "RoleSessionName is required in AuthnResponse"),
        (Claims(source_identity=""), "Source Identity must match"),
        (Claims(source_identity="a" * 65), "Source Identity must match"),
        (Claims(source_identity="AWS:alice"), "Source Identity must match"),
        (Claims(source_identity="ａｌｉｃｅ"), "Source Identity must match"),
        (Claims(session_duration="43201"), "SessionDuration in AuthnResponse must be between"),
        (Claims(session_duration="-900"), "SessionDuration in AuthnResponse must be between"),
        (Claims(session_duration="3600.0"), "SessionDuration in AuthnResponse must be between"),
        (Claims(session_duration=""), "SessionDuration in AuthnResponse must be between"),
        (Claims(tags={"": "x"}), "A PrincipalTag key is not valid"),
        (Claims(tags={"AWS:Team": "x"}), "A PrincipalTag key is not valid"),
        (Claims(tags={"Team": "a\nb"}), "A PrincipalTag value is not valid"),
        (Claims(tags={"Team": "🙂"}), "A PrincipalTag value is not valid"),
        (Claims(roles=(f"{role()};{provider()}",)), "Your request included an invalid SAML response"),
        (Claims(roles=(f"{provider()},{provider()}",)), "Your request included an invalid SAML response"),
        (Claims(roles=(f"{role()},{role()}",)), "Your request included an invalid SAML response"),
        (Claims(roles=("",)), "Your request included an invalid SAML response"),
    ],
)
def test_a_value_outside_its_limits_is_refused(registered: IdentityProvider, claims: Claims, text: str) -> None:
    code, status, said = refusal(registered, signed_response(claims))
    assert (code, status) == (INVALID, 400)
    assert said.startswith(text)


@pytest.mark.parametrize("status", ["Requester", "VersionMismatch", "AuthnFailed", "success", ""])
def test_a_status_that_is_not_success_is_refused(registered: IdentityProvider, status: str) -> None:
    claims = Claims(status=f"urn:oasis:names:tc:SAML:2.0:status:{status}")
    found = refusal(registered, signed_response(claims, sign_response=True))
    assert found == (INVALID, 400, "Invalid SAMLResponse: its status is not Success")
