"""The hostile corpus: what an attacker, or a careless identity provider, may send instead of a good response."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from signxml.algorithms import SignatureConstructionMethod
from signxml.signer import XMLSigner

from broker.sandbox.aws.assertion_check import AssertionRefusedError, VerifiedAssertion, verify_response
from broker.sandbox.aws.saml_metadata import IdentityProvider, MetadataError, parse_metadata
from tests.sandbox.aws.identity_provider import (
    ATTRIBUTES,
    ENTITY_ID,
    FILES,
    NS,
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

DS = f"{{{NS['ds']}}}"
SAML = f"{{{NS['saml']}}}"
SAMLP = f"{{{NS['samlp']}}}"


@pytest.fixture(scope="module")
def registered() -> IdentityProvider:
    return parse_metadata(metadata())


def verify(registered: IdentityProvider, encoded: str) -> VerifiedAssertion:
    return verify_response(encoded, registered, datetime.now(UTC))


def refused(registered: IdentityProvider, encoded: str) -> AssertionRefusedError:
    with pytest.raises(AssertionRefusedError) as caught:
        verify(registered, encoded)
    return caught.value


def find(element: etree._Element, path: str) -> etree._Element:
    found = element.find(path, NS)
    assert found is not None
    return found


# --- good ones


@pytest.mark.parametrize("sign_response", [False, True])
def test_a_signature_over_the_assertion_or_over_the_response_is_enough(
    registered: IdentityProvider, *, sign_response: bool
) -> None:
    claims = Claims(tags={"Department": "研究", "Cost": "42"}, transitive=("Department",), session_duration="3600")
    found = verify(registered, signed_response(claims, sign_response=sign_response))
    assert found.subject == "alice-id"
    assert found.subject_type == "persistent"
    assert found.issuer == ENTITY_ID
    assert found.recipient == SIGN_IN
    assert found.roles == {(role(), provider())}
    assert found.role_session_name == "alice"
    assert found.source_identity == "ALICEIDAAAAAAAAAAAAAAAAAAA"
    assert found.tags == {"Department": "研究", "Cost": "42"}
    assert found.transitive_tag_keys == ("Department",)
    assert found.session_duration == timedelta(hours=1)
    assert found.session_not_on_or_after is None
    assert found.assertion_id == "_assertion"


def test_response_and_assertion_may_both_be_signed(registered: IdentityProvider) -> None:
    root = signed_tree()
    sign(root)
    assert verify(registered, encode(root)).subject == "alice-id"


def test_a_bad_second_signature_spoils_a_good_first_one(registered: IdentityProvider) -> None:
    root = signed_tree()
    sign(root, signing_key("stranger"))
    assert str(refused(registered, encode(root))) == "Response signature invalid"


def test_a_response_signed_by_another_library_is_understood(registered: IdentityProvider) -> None:
    assertion = etree.fromstring(assertion_xml(Claims()))
    placeholder = etree.fromstring(f'<ds:Signature xmlns:ds="{NS["ds"]}" Id="placeholder"/>')
    assertion.insert(1, placeholder)
    signer = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm="rsa-sha256",
        digest_algorithm="sha256",
        c14n_algorithm="http://www.w3.org/2001/10/xml-exc-c14n#",
    )
    key = signing_key()
    signed = signer.sign(assertion, key=key.private, cert=key.certificate.decode(), reference_uri="_assertion")
    encoded = encode(response_xml(Claims(), etree.tostring(signed).decode()))
    assert verify(registered, encoded).subject == "alice-id"


def test_two_published_keys_both_verify_during_a_rollover() -> None:
    both = parse_metadata(metadata(signing_key("old"), signing_key("new")))
    for name in ("old", "new"):
        assert verify(both, signed_response(key=signing_key(name))).subject == "alice-id"


@pytest.mark.parametrize("bits", [384, 512])
def test_stronger_algorithms_than_sha256_are_accepted(registered: IdentityProvider, bits: int) -> None:
    digest = {384: "http://www.w3.org/2001/04/xmldsig-more#sha384", 512: "http://www.w3.org/2001/04/xmlenc#sha512"}
    root = etree.fromstring(response_xml(Claims(), assertion_xml(Claims())))
    algorithms = Algorithms(f"http://www.w3.org/2001/04/xmldsig-more#rsa-sha{bits}", digest[bits])
    sign(find(root, "saml:Assertion"), algorithms=algorithms)
    assert verify(registered, encode(root)).subject == "alice-id"


def test_the_pair_of_role_and_provider_may_stand_in_either_order(registered: IdentityProvider) -> None:
    for pair in (f"{role()},{provider()}", f"{provider()},{role()}", f"{provider()}, {role()}"):
        assert verify(registered, signed_response(Claims(roles=(pair,)))).roles == {(role(), provider())}


def test_attributes_that_aws_does_not_know_are_ignored_whatever_they_hold(registered: IdentityProvider) -> None:
    extra = (
        '<saml:Attribute Name="urn:oid:1.3.6.1.4.1.5923.1.1.1.10"><saml:AttributeValue>'
        "<saml:NameID>opaque</saml:NameID></saml:AttributeValue></saml:Attribute>"
    )
    assert verify(registered, signed_response(Claims(extra_attributes=extra))).role_session_name == "alice"


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("urn:oasis:names:tc:SAML:2.0:nameid-format:persistent", "persistent"),
        ("urn:oasis:names:tc:SAML:2.0:nameid-format:transient", "transient"),
        (
            "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
            "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
        ),
    ],
)
def test_the_subject_type_is_short_for_persistent_and_transient_only(
    registered: IdentityProvider, form: str, kind: str
) -> None:
    assert verify(registered, signed_response(Claims(name_id_format=form))).subject_type == kind


@pytest.mark.parametrize(
    "recipient",
    [
        "https://signin.aws.amazon.com/saml",
        "https://signin.aws.amazon.com/static/saml",
        "https://ap-northeast-1.signin.aws.amazon.com/saml",
    ],
)
def test_global_and_regional_recipients_are_accepted(registered: IdentityProvider, recipient: str) -> None:
    found = verify(registered, signed_response(Claims(recipient=recipient, destination=recipient)))
    assert found.recipient == recipient


def test_line_breaks_in_base64_are_harmless(registered: IdentityProvider) -> None:
    wrapped = base64.encodebytes(base64.b64decode(signed_response())).decode()
    assert verify(registered, wrapped).subject == "alice-id"


# --- who signed it


def test_a_key_that_is_not_in_the_metadata_is_refused(registered: IdentityProvider) -> None:
    assert str(refused(registered, signed_response(key=signing_key("stranger")))) == "Response signature invalid"


def test_the_key_shown_in_the_response_is_never_believed(registered: IdentityProvider) -> None:
    stranger = signing_key("stranger")
    root = etree.fromstring(response_xml(Claims(), assertion_xml(Claims())))
    sign(find(root, "saml:Assertion"), stranger, show_key=stranger)
    assert str(refused(registered, encode(root))) == "Response signature invalid"


def test_a_foreign_certificate_in_key_info_does_not_spoil_a_good_signature(registered: IdentityProvider) -> None:
    root = etree.fromstring(response_xml(Claims(), assertion_xml(Claims())))
    sign(find(root, "saml:Assertion"), show_key=signing_key("stranger"))
    assert verify(registered, encode(root)).subject == "alice-id"


def test_no_signature_at_all_is_refused(registered: IdentityProvider) -> None:
    encoded = encode(response_xml(Claims(), assertion_xml(Claims())))
    assert str(refused(registered, encoded)) == "Response signature invalid"


def test_an_hmac_keyed_with_the_public_certificate_is_refused(registered: IdentityProvider) -> None:
    root = signed_tree()
    find(root, ".//ds:SignatureMethod").set("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256")
    assert str(refused(registered, encode(root))) == "Response signature invalid"


SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"
RSA_SHA1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"


@pytest.mark.parametrize(
    "algorithms",
    [
        pytest.param(Algorithms(digest=SHA1), id="sha-1 digest"),
        pytest.param(Algorithms(signature=RSA_SHA1), id="sha-1 signature"),
        pytest.param(
            Algorithms(canonicalization="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"), id="inclusive c14n"
        ),
        pytest.param(
            Algorithms(canonicalization="http://www.w3.org/2001/10/xml-exc-c14n#WithComments"), id="with comments"
        ),
        pytest.param(Algorithms(transforms=(ENVELOPED,)), id="no c14n transform"),
        pytest.param(
            Algorithms(transforms=(ENVELOPED, "http://www.w3.org/2001/10/xml-exc-c14n#WithComments")),
            id="c14n transform with comments",
        ),
        pytest.param(
            Algorithms(transforms=(ENVELOPED, EXCLUSIVE, "http://www.w3.org/2000/09/xmldsig#base64")),
            id="a third transform",
        ),
    ],
)
def test_weak_or_unexpected_algorithms_are_refused_although_the_signature_is_right(
    registered: IdentityProvider, algorithms: Algorithms
) -> None:
    root = etree.fromstring(response_xml(Claims(), assertion_xml(Claims())))
    try:
        sign(find(root, "saml:Assertion"), algorithms=algorithms)
    except Exception:  # noqa: BLE001  the library may refuse to make one; then the shape alone is tried
        for element in root.iter(f"{DS}DigestValue", f"{DS}SignatureValue"):
            element.text = "AAAA"
    assert str(refused(registered, encode(root))) == "Response signature invalid"


def test_an_xpath_transform_is_refused(registered: IdentityProvider) -> None:
    root = signed_tree()
    transform = find(root, ".//ds:Transform")
    transform.set("Algorithm", "http://www.w3.org/TR/1999/REC-xpath-19991116")
    etree.SubElement(transform, f"{DS}XPath").text = "false()"
    assert str(refused(registered, encode(root))) == "Response signature invalid"


@pytest.mark.parametrize("uri", ["", "#_other", "#xpointer(id('_assertion'))", "https://example.com/"])
def test_a_reference_to_anything_but_the_element_that_holds_the_signature_is_refused(
    registered: IdentityProvider, uri: str
) -> None:
    root = signed_tree()
    find(root, ".//ds:Reference").set("URI", uri)
    assert str(refused(registered, encode(root))) == "Response signature invalid"


def test_a_second_reference_is_refused(registered: IdentityProvider) -> None:
    root = signed_tree()
    reference = find(root, ".//ds:Reference")
    find(root, ".//ds:SignedInfo").append(copy.deepcopy(reference))
    assert str(refused(registered, encode(root))) == "Response signature invalid"


def test_a_value_changed_after_signing_is_refused(registered: IdentityProvider) -> None:
    for path, text in (
        ("saml:Assertion/saml:Subject/saml:NameID", "root"),
        ("saml:Assertion/saml:AttributeStatement/saml:Attribute/saml:AttributeValue", f"{role('Admin')},{provider()}"),
        ("saml:Assertion/saml:Conditions/saml:AudienceRestriction/saml:Audience", "urn:amazon:webservices"),
    ):
        root = signed_tree()
        find(root, path).text = text
        assert str(refused(registered, encode(root))) == "Response signature invalid"


# --- wrapping (XSW): a good signature somewhere, an evil assertion where it is read


def evil(assertion_id: str = "_evil") -> etree._Element:
    return etree.fromstring(
        assertion_xml(Claims(name_id="administrator-id", session_name="administrator"), assertion_id)
    )


def wrap_1() -> etree._Element:
    """XSW1: the response is copied into the signature, the outer one made evil."""
    original = signed_tree(sign_response=True)
    attack = copy.deepcopy(original)
    find(attack, "saml:Assertion/saml:Subject/saml:NameID").text = "administrator-id"
    attack.set("ID", "_evil")
    kept = copy.deepcopy(original)
    inner = find(kept, "ds:Signature")
    kept.remove(inner)
    signature = find(attack, "ds:Signature")
    etree.SubElement(signature, f"{DS}Object").append(kept)
    return attack


def wrap_2() -> etree._Element:
    """XSW2: the same with the signature beside the copied response."""
    original = signed_tree(sign_response=True)
    attack = copy.deepcopy(original)
    find(attack, "saml:Assertion/saml:Subject/saml:NameID").text = "administrator-id"
    attack.set("ID", "_evil")
    signature = find(attack, "ds:Signature")
    attack.remove(signature)
    kept = copy.deepcopy(original)
    kept.remove(find(kept, "ds:Signature"))
    attack.insert(1, kept)
    attack.insert(2, signature)
    return attack


def wrap_3() -> etree._Element:
    """XSW3: an evil assertion before the signed one."""
    root = signed_tree()
    root.insert(2, evil())
    return root


def wrap_4() -> etree._Element:
    """XSW4: the signed assertion inside the evil one."""
    root = signed_tree()
    good = find(root, "saml:Assertion")
    root.remove(good)
    attack = evil()
    attack.append(good)
    root.append(attack)
    return root


def wrap_5() -> etree._Element:
    """XSW5: the signature moves to the evil assertion, the good one follows."""
    root = signed_tree()
    good = find(root, "saml:Assertion")
    signature = find(good, "ds:Signature")
    good.remove(signature)
    attack = evil()
    attack.insert(1, signature)
    root.insert(2, attack)
    return root


def wrap_6() -> etree._Element:
    """XSW6: the good assertion inside the signature of the evil one."""
    root = signed_tree()
    good = find(root, "saml:Assertion")
    root.remove(good)
    signature = find(good, "ds:Signature")
    good.remove(signature)
    signature.append(good)
    attack = evil()
    attack.insert(1, signature)
    root.append(attack)
    return root


def wrap_7() -> etree._Element:
    """XSW7: the evil assertion in an Extensions element before the good one."""
    root = signed_tree()
    extensions = etree.Element(f"{SAMLP}Extensions")
    extensions.append(evil())
    root.insert(1, extensions)
    return root


def wrap_8() -> etree._Element:
    """XSW8: the good assertion in an Object inside the signature of the evil one."""
    root = signed_tree()
    good = find(root, "saml:Assertion")
    root.remove(good)
    signature = find(good, "ds:Signature")
    good.remove(signature)
    etree.SubElement(signature, f"{DS}Object").append(good)
    attack = evil()
    attack.insert(1, signature)
    root.append(attack)
    return root


def same_id() -> etree._Element:
    """An evil assertion that has the ID of the signed one."""
    root = signed_tree()
    root.insert(2, evil("_assertion"))
    return root


def other_namespace() -> etree._Element:
    """The evil assertion in a namespace of its own, for a reader that looks at local names."""
    root = signed_tree()
    root.append(etree.fromstring('<x:Assertion xmlns:x="urn:x" ID="_x"/>'))
    return root


@pytest.mark.parametrize(
    "attack",
    [wrap_1, wrap_2, wrap_3, wrap_4, wrap_5, wrap_6, wrap_7, wrap_8, same_id, other_namespace],
    ids=lambda attack: attack.__name__,
)
def test_signature_wrapping_is_refused(registered: IdentityProvider, attack: Callable[[], etree._Element]) -> None:
    assert refused(registered, encode(attack())).code == "InvalidIdentityToken"


def test_a_signature_over_some_other_element_does_not_count(registered: IdentityProvider) -> None:
    root = signed_tree()
    assertion = find(root, "saml:Assertion")
    signature = find(assertion, "ds:Signature")
    assertion.remove(signature)
    find(assertion, "saml:Subject").append(signature)
    assert str(refused(registered, encode(root))) == "Response signature invalid"


@pytest.mark.parametrize("attribute", ["ID", "Id", "id", "{http://www.w3.org/XML/1998/namespace}id"])
def test_an_id_that_is_used_twice_is_refused_however_it_is_spelt(registered: IdentityProvider, attribute: str) -> None:
    root = signed_tree()
    etree.SubElement(root, f"{SAMLP}Extensions").set(attribute, "_assertion")
    assert "ID is used twice" in str(refused(registered, encode(root)))


def test_two_assertions_are_refused_even_when_both_are_signed(registered: IdentityProvider) -> None:
    root = etree.fromstring(
        response_xml(Claims(), assertion_xml(Claims(), "_one"), assertion_xml(Claims(session_name="bob"), "_two"))
    )
    for assertion in root.findall("saml:Assertion", NS):
        sign(assertion)
    assert "exactly one assertion" in str(refused(registered, encode(root)))


def test_an_unsigned_second_assertion_is_refused(registered: IdentityProvider) -> None:
    root = signed_tree()
    root.append(evil())
    assert "exactly one assertion" in str(refused(registered, encode(root)))


def test_a_response_without_an_assertion_is_refused(registered: IdentityProvider) -> None:
    root = etree.fromstring(response_xml(Claims()))
    sign(root)
    assert "exactly one assertion" in str(refused(registered, encode(root)))


def test_an_encrypted_assertion_is_refused(registered: IdentityProvider) -> None:
    root = signed_tree()
    etree.SubElement(root, f"{SAML}EncryptedAssertion")
    assert "encrypted" in str(refused(registered, encode(root)))


# --- XML tricks


@pytest.mark.parametrize("place", ["NameID", "AttributeValue"])
def test_a_comment_in_a_text_does_not_cut_the_value_short(registered: IdentityProvider, place: str) -> None:
    claims = Claims(name_id="alice.evil", session_name="alice.evil")
    xml = assertion_xml(claims).replace("alice.evil", "alice<!-- -->.evil")
    root = etree.fromstring(response_xml(claims, xml))
    sign(find(root, "saml:Assertion"))
    found = verify(registered, encode(root))
    assert (found.subject if place == "NameID" else found.role_session_name) == "alice.evil"


def test_a_comment_added_after_signing_changes_no_value(registered: IdentityProvider) -> None:
    signed = etree.tostring(signed_tree(Claims(name_id="alice.evil"))).replace(b"alice.evil", b"alice<!---->.evil")
    assert verify(registered, encode(signed)).subject == "alice.evil"


def test_a_processing_instruction_is_refused(registered: IdentityProvider) -> None:
    signed = etree.tostring(signed_tree()).replace(b"alice-id", b"ali<?x y?>ce-id")
    assert "unexpected content" in str(refused(registered, encode(signed)))


@pytest.mark.parametrize(
    "declaration",
    [
        pytest.param('<!DOCTYPE r [<!ENTITY e "alice-id">]>', id="internal entity"),
        pytest.param('<!DOCTYPE r SYSTEM "file:///etc/passwd">', id="external subset"),
        pytest.param('<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1:1/">%p;]>', id="parameter entity"),
        pytest.param("<!DOCTYPE r [<!ATTLIST x ID ID #IMPLIED>]>", id="attribute list"),
        pytest.param(
            "<!DOCTYPE r [<!ENTITY a0 'ha'>"
            + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
            + "]>",
            id="entity bomb",
        ),
    ],
)
def test_a_document_type_declaration_is_refused(registered: IdentityProvider, declaration: str) -> None:
    document = declaration + etree.tostring(signed_tree()).decode()
    assert "could not be parsed" in str(refused(registered, encode(document)))


def test_another_encoding_cannot_hide_a_declaration(registered: IdentityProvider) -> None:
    document = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE r [<!ENTITY e "x">]><r>&e;</r>'
    assert "could not be parsed" in str(refused(registered, encode(document.encode("utf-16"))))


def test_an_entity_that_was_never_declared_is_refused(registered: IdentityProvider) -> None:
    signed = etree.tostring(signed_tree()).replace(b"alice-id", b"&who;")
    assert "could not be parsed" in str(refused(registered, encode(signed)))


@pytest.mark.parametrize(
    "encoded",
    ["!!!!", "AAAA=AAA", encode("<not-closed"), encode("plain"), encode("<a/>"), encode(b"\x00\xff\xfe"), ""],
)
def test_what_is_no_response_is_refused(registered: IdentityProvider, encoded: str) -> None:
    assert refused(registered, encoded).code == "InvalidIdentityToken"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_one_byte_yields_other_claims(data: st.DataObject) -> None:
    registered = parse_metadata(metadata())
    document = bytearray(base64.b64decode(signed_response()))
    expected = verify(registered, base64.b64encode(document).decode())
    place = data.draw(st.integers(0, len(document) - 1))
    document[place] = data.draw(st.integers(0, 255))
    try:
        found = verify(registered, base64.b64encode(document).decode())
    except AssertionRefusedError:
        return
    assert found == expected  # the change was outside what is signed and read, such as in the response's own ID


# --- who it is for, and when


def test_a_foreign_issuer_is_refused_with_the_words_of_aws(registered: IdentityProvider) -> None:
    text = str(refused(registered, signed_response(Claims(issuer="https://evil.example/"))))
    assert text.startswith("Issuer not present in specified provider (Service: AWSOpenIdDiscoveryService;")


@pytest.mark.parametrize(
    ("claims", "code", "text"),
    [
        pytest.param(
            Claims(audience="https://example.com/"),
            "InvalidIdentityToken",
            "Response does not contain the required audience",
            id="another audience",
        ),
        pytest.param(
            Claims(audience=None), "InvalidIdentityToken", "Response does not contain the required audience", id="none"
        ),
        pytest.param(
            Claims(recipient="https://signin.aws.amazon.com.evil.example/saml"),
            "InvalidIdentityToken",
            "Response does not contain the required recipient",
            id="another recipient",
        ),
        pytest.param(
            Claims(destination="https://example.com/"),
            "InvalidIdentityToken",
            "Response does not contain the required recipient",
            id="another destination",
        ),
        pytest.param(
            Claims(recipient=None),
            "InvalidIdentityToken",
            "Invalid SAMLResponse: SubjectConfirmationData needs Recipient and NotOnOrAfter",
            id="no recipient",
        ),
        pytest.param(
            Claims(issued=timedelta(minutes=-5, seconds=-2), not_before=timedelta(minutes=-10)),
            "ExpiredTokenException",
            "Token must be redeemed within 5 minutes of issuance",
            id="older than five minutes",
        ),
        pytest.param(
            Claims(not_on_or_after=timedelta(seconds=-1)),
            "ExpiredTokenException",
            "Response has expired",
            id="conditions expired",
        ),
        pytest.param(
            Claims(confirmed_until=timedelta(seconds=-1)),
            "ExpiredTokenException",
            "Response has expired",
            id="confirmation expired",
        ),
        pytest.param(
            Claims(session_not_on_or_after=timedelta(seconds=-1)),
            "ExpiredTokenException",
            "Response has expired",
            id="session over",
        ),
        pytest.param(
            Claims(not_before=timedelta(seconds=30)),
            "InvalidIdentityToken",
            "Response is not yet valid",
            id="not yet valid",
        ),
        pytest.param(
            Claims(issued=timedelta(minutes=2)),
            "InvalidIdentityToken",
            "Response is not yet valid",
            id="from the future",
        ),
        pytest.param(
            Claims(status="urn:oasis:names:tc:SAML:2.0:status:Responder"),
            "InvalidIdentityToken",
            "Invalid SAMLResponse: its status is not Success",
            id="not a success",
        ),
        pytest.param(
            Claims(roles=()), "InvalidIdentityToken", "Your request included an invalid SAML response", id="no role"
        ),
        pytest.param(
            Claims(roles=(role(),)),
            "InvalidIdentityToken",
            "Your request included an invalid SAML response",
            id="role without provider",
        ),
        pytest.param(
            Claims(roles=(f"{role()},{provider()},{role()}",)),
            "InvalidIdentityToken",
            "Your request included an invalid SAML response",
            id="three of them",
        ),
        pytest.param(
            Claims(session_name=None),
            "InvalidIdentityToken",
            "RoleSessionName is required in AuthnResponse",
            id="no session name",
        ),
        pytest.param(
            Claims(session_name="a b"),
            "InvalidIdentityToken",
            "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}",
            id="space in session name",
        ),
        pytest.param(
            Claims(session_name="山田"),
            "InvalidIdentityToken",
            "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}",
            id="japanese session name",
        ),
        pytest.param(
            Claims(session_name="a" * 65),
            "InvalidIdentityToken",
            "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}",
            id="long session name",
        ),
        pytest.param(
            Claims(source_identity="aws:alice"),
            "InvalidIdentityToken",
            'Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"',
            id="reserved source identity",
        ),
        pytest.param(
            Claims(source_identity="x"),
            "InvalidIdentityToken",
            'Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"',
            id="short source identity",
        ),
        pytest.param(
            Claims(session_duration="899"),
            "InvalidIdentityToken",
            "SessionDuration in AuthnResponse must be between 900 and 43200 seconds",
            id="short session",
        ),
        pytest.param(
            Claims(session_duration="1h"),
            "InvalidIdentityToken",
            "SessionDuration in AuthnResponse must be between 900 and 43200 seconds",
            id="session in words",
        ),
        pytest.param(
            Claims(roles=(f"{role()},{provider()},something else",)),
            "InvalidIdentityToken",
            "Your request included an invalid SAML response",
            id="a pair and something else",
        ),
        pytest.param(
            Claims(tags={"k" * 129: "v"}), "InvalidIdentityToken", "A PrincipalTag key is not valid", id="long tag key"
        ),
        pytest.param(
            Claims(tags={"a*": "v"}), "InvalidIdentityToken", "A PrincipalTag key is not valid", id="star in tag key"
        ),
        pytest.param(
            Claims(tags={"aws:Department": "x"}),
            "InvalidIdentityToken",
            "A PrincipalTag key is not valid",
            id="aws: tag",
        ),
        pytest.param(
            Claims(tags={"Department": "a*b"}), "InvalidIdentityToken", "A PrincipalTag value is not valid", id="star"
        ),
        pytest.param(
            Claims(tags={"Department": "x" * 257}),
            "InvalidIdentityToken",
            "A PrincipalTag value is not valid",
            id="long tag",
        ),
        pytest.param(
            Claims(tags={"Team": "a", "team": "b"}),
            "InvalidIdentityToken",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            id="twice",
        ),
        pytest.param(
            Claims(tags={f"k{n}": "v" for n in range(51)}),
            "InvalidIdentityToken",
            "An assertion may carry at most 50 tags",
            id="51 tags",
        ),
        pytest.param(
            Claims(transitive=("Department",)),
            "InvalidIdentityToken",
            "The TransitiveTagKeys attribute names a tag that is not in the assertion",
            id="transitive without tag",
        ),
        pytest.param(
            Claims(
                extra_attributes=f'<saml:Attribute Name="{ATTRIBUTES}Role"><saml:AttributeValue>{role("Admin")},'
                f"{provider()}</saml:AttributeValue></saml:Attribute>"
            ),
            "InvalidIdentityToken",
            "Invalid SAMLResponse: an attribute is given twice",
            id="role attribute twice",
        ),
        pytest.param(
            Claims(
                extra_attributes=f'<saml:Attribute Name="{ATTRIBUTES}PrincipalTag:Team"><saml:AttributeValue>a'
                "</saml:AttributeValue><saml:AttributeValue>b</saml:AttributeValue></saml:Attribute>"
            ),
            "InvalidIdentityToken",
            "A PrincipalTag attribute must have exactly one value",
            id="tag with two values",
        ),
    ],
)
def test_a_well_signed_assertion_is_refused_with_code_and_text(
    registered: IdentityProvider, claims: Claims, code: str, text: str
) -> None:
    refusal = refused(registered, signed_response(claims))
    assert (refusal.code, refusal.status, str(refusal)) == (code, 400, text)


@pytest.mark.parametrize("name_id", [None, ""])
def test_without_a_name_id_nobody_is_authorized(registered: IdentityProvider, name_id: str | None) -> None:
    refusal = refused(registered, signed_response(Claims(name_id=name_id)))
    assert (refusal.code, refusal.status) == ("AccessDenied", 403)
    assert str(refusal) == "Not authorized to perform sts:AssumeRoleWithSAML"


def test_the_assertion_is_good_until_the_last_second_of_its_five_minutes(registered: IdentityProvider) -> None:
    encoded = signed_response(Claims(not_on_or_after=timedelta(hours=1), confirmed_until=timedelta(hours=1)))
    issued = datetime.now(UTC).replace(microsecond=0)
    assert verify_response(encoded, registered, issued + timedelta(seconds=299)).subject == "alice-id"
    with pytest.raises(AssertionRefusedError, match="within 5 minutes"):
        verify_response(encoded, registered, issued + timedelta(seconds=302))


# --- the shape of the document: each case is signed after it was bent, so that only the shape is wrong


def bent(edit: Callable[[etree._Element, etree._Element], None]) -> str:
    """Return a response that was edited first and signed, at the response, afterwards."""
    root = etree.fromstring(response_xml(Claims(), assertion_xml(Claims())))
    edit(root, find(root, "saml:Assertion"))
    sign(root)
    return encode(root)


def again(parent: etree._Element, path: str) -> None:
    """Repeat an element beside itself."""
    original = find(parent, path)
    original.addnext(copy.deepcopy(original))


def without(parent: etree._Element, path: str) -> None:
    """Take an element out."""
    element = find(parent, path)
    holder = element.getparent()
    assert holder is not None
    holder.remove(element)


def attribute(assertion: etree._Element, name: str) -> etree._Element:
    return find(assertion, f"saml:AttributeStatement/saml:Attribute[@Name='{ATTRIBUTES}{name}']")


def into_extensions(root: etree._Element, assertion: etree._Element) -> None:
    etree.SubElement(root, f"{SAMLP}Extensions").append(assertion)


CONFIRMATION = "saml:Subject/saml:SubjectConfirmation"


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda root, _: root.set("Version", "1.1"), "not a SAML 2.0 response"),
        (lambda _, assertion: assertion.set("Version", "1.1"), "not a SAML 2.0 assertion"),
        (lambda _, assertion: assertion.attrib.pop("ID"), "not a SAML 2.0 assertion"),
        (lambda root, _: etree.SubElement(root, f"{SAMLP}Response"), "exactly one assertion"),
        (into_extensions, "exactly one assertion"),
        (lambda _, assertion: without(assertion, "saml:Issuer"), "Issuer not present"),
        (lambda root, _: again(root, "samlp:Status"), "status is not Success"),
        (lambda root, _: without(root, "samlp:Status"), "status is not Success"),
        (lambda _, assertion: again(assertion, CONFIRMATION), "exactly one bearer"),
        (lambda _, assertion: without(assertion, CONFIRMATION), "exactly one bearer"),
        (
            lambda _, a: find(a, CONFIRMATION).set("Method", "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"),
            "one bearer",
        ),
        (lambda _, a: again(a, f"{CONFIRMATION}/saml:SubjectConfirmationData"), "SubjectConfirmationData needs"),
        (lambda _, a: find(a, f"{CONFIRMATION}/*").set("NotBefore", "2020-01-01T00:00:00Z"), "must not have NotBefore"),
        (lambda _, a: find(a, f"{CONFIRMATION}/*").attrib.pop("NotOnOrAfter"), "a time is missing"),
        (lambda _, assertion: again(assertion, "saml:Conditions"), "exactly one Conditions"),
        (lambda _, assertion: without(assertion, "saml:Conditions"), "exactly one Conditions"),
        (lambda _, assertion: assertion.attrib.pop("IssueInstant"), "a time is missing"),
        (lambda _, assertion: assertion.set("IssueInstant", "2026-01-01T00:00:00+09:00"), "not in UTC"),
        (lambda _, assertion: assertion.set("IssueInstant", "2026-13-01T00:00:00Z"), "a time is not a time"),
        (lambda _, a: again(attribute(a, "RoleSessionName"), "saml:AttributeValue"), "exactly one value"),
        (lambda _, a: etree.SubElement(find(attribute(a, "Role"), "*"), "x"), "elements where text is expected"),
        (lambda _, a: etree.SubElement(find(a, "saml:Subject/saml:NameID"), "x"), "elements where text is expected"),
        (lambda _, assertion: again(assertion, "saml:Subject/saml:NameID"), "Not authorized"),
    ],
)
def test_a_document_of_another_shape_is_refused_although_it_is_well_signed(
    registered: IdentityProvider, edit: Callable[[etree._Element, etree._Element], None], text: str
) -> None:
    assert text in str(refused(registered, bent(edit)))


def test_each_of_several_audience_restrictions_must_be_met(registered: IdentityProvider) -> None:
    def restrict(_: etree._Element, assertion: etree._Element) -> None:
        again(assertion, "saml:Conditions/saml:AudienceRestriction")
        find(assertion, "saml:Conditions/saml:AudienceRestriction/saml:Audience").text = "https://example.com/"

    assert "required audience" in str(refused(registered, bent(restrict)))


def test_a_response_needs_an_id_even_when_only_the_assertion_is_signed(registered: IdentityProvider) -> None:
    root = signed_tree()
    root.attrib.pop("ID")
    assert "not a SAML 2.0 assertion" in str(refused(registered, encode(root)))


def test_another_message_around_a_signed_assertion_is_refused(registered: IdentityProvider) -> None:
    root = signed_tree()
    root.tag = f"{SAMLP}ArtifactResponse"
    assert "not a SAML 2.0 response" in str(refused(registered, encode(root)))


def stray_signature(root: etree._Element) -> None:
    etree.SubElement(root, f"{SAMLP}Extensions").append(copy.deepcopy(find(root, "saml:Assertion/ds:Signature")))


def second_signature(root: etree._Element) -> None:
    again(root, "saml:Assertion/ds:Signature")


def extra_object(root: etree._Element) -> None:
    etree.SubElement(find(root, "saml:Assertion/ds:Signature"), f"{DS}Object")


def no_transforms(root: etree._Element) -> None:
    without(root, ".//ds:Transforms")


def method_parameter(root: etree._Element) -> None:
    etree.SubElement(find(root, ".//ds:SignatureMethod"), f"{DS}HMACOutputLength").text = "1"


@pytest.mark.parametrize(
    "edit", [stray_signature, second_signature, extra_object, no_transforms, method_parameter], ids=lambda e: e.__name__
)
def test_a_signature_of_an_unexpected_shape_is_refused(
    registered: IdentityProvider, edit: Callable[[etree._Element], None]
) -> None:
    root = signed_tree()
    edit(root)
    assert str(refused(registered, encode(root))) == "Response signature invalid"


def test_more_than_a_hundred_thousand_characters_are_refused_unread(registered: IdentityProvider) -> None:
    padded = signed_response() + "\n" * 100_000
    assert str(refused(registered, padded)) == "Invalid base64 SAMLResponse"


def test_source_identity_and_session_end_are_optional(registered: IdentityProvider) -> None:
    found = verify(registered, signed_response(Claims(source_identity=None, session_duration="43200")))
    assert (found.source_identity, found.session_duration) == ("", timedelta(hours=12))
    ending = verify(registered, signed_response(Claims(session_not_on_or_after=timedelta(hours=2))))
    assert ending.session_not_on_or_after is not None
    assert timedelta(minutes=119) < ending.session_not_on_or_after - datetime.now(UTC) <= timedelta(hours=2)


# --- metadata


def test_metadata_gives_entity_id_and_signing_certificates() -> None:
    found = parse_metadata(metadata(signing_key("one"), signing_key("two")))
    assert found.entity_id == ENTITY_ID
    assert [base64.b64encode(der).decode() for der in found.signing_certificates] == [
        signing_key("one").certificate_base64,
        signing_key("two").certificate_base64,
    ]


def test_a_key_for_encryption_verifies_nothing() -> None:
    document = metadata(signing_key("one"), signing_key("two")).replace('use="signing"', 'use="encryption"', 1)
    assert len(parse_metadata(document).signing_certificates) == 1


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("<a/>" + " " * 1000, id="not metadata"),
        pytest.param("short", id="short"),
        pytest.param("<!DOCTYPE x>" + metadata(), id="with a document type"),
        pytest.param(metadata().replace("IDPSSODescriptor", "SPSSODescriptor"), id="of a service provider"),
        pytest.param(metadata(entity_id=""), id="without an entity id"),
        pytest.param(metadata().replace("MII", "AAA", 1), id="with a broken certificate"),
        pytest.param(metadata(*(signing_key(),) * 11), id="with eleven keys"),
        pytest.param(metadata().replace('use="signing"', 'use="encryption"') + " " * 1000, id="without a signing key"),
    ],
)
def test_what_is_no_metadata_is_not_registered(document: str) -> None:
    with pytest.raises(MetadataError):
        parse_metadata(document)


def test_the_test_identity_provider_shows_its_account_in_the_right_place() -> None:
    assert provider() == f"arn:aws:iam::{FILES}:saml-provider/broker"
    assert isinstance(signing_key(), Key)
