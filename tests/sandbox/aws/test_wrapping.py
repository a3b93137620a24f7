"""Signature wrapping: a good signature stays in the message, and somebody else's claims stand where they are read.

The eight variants of Somorovsky et al., "On Breaking SAML: Be Whoever You Want to Be" (USENIX Security 2012), are
points of the space that is walked here: what was signed, where it is kept, where its signature goes, and which ID the
forged element bears.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from itertools import product

import pytest
import xmlsec
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from broker.sandbox.aws.assertion_check import AssertionRefusedError, verify_response
from broker.sandbox.aws.saml_metadata import parse_metadata
from tests.sandbox.aws.identity_provider import NS, encode, metadata, signed_tree, signing_key

SAML, SAMLP, DS = (f"{{{NS[name]}}}" for name in ("saml", "samlp", "ds"))
NAME_ID = "saml:Subject/saml:NameID"
KEPT = {
    "beside it, before": "before",
    "beside it, after": "after",
    "within it": "within",
    "within its advice": "advice",
    "within an attribute value": "value",
    "within the extensions of the response": "extensions",
    "within the signature": "signature",
    "within an object of the signature": "object",
}
SIGNATURE = ("stays in what it signs", "moves to the forged element", "moves to the response")
IDS = ("another", "the same", "none")


def find(element: etree._Element, path: str) -> etree._Element:
    found = element.find(path, NS)
    assert found is not None
    return found


def wrapped(signed: str, kept: str, signature_place: str, forged_id: str) -> etree._Element:
    """A response with a forged copy of what was signed, and the signed original somewhere out of the way."""
    root = signed_tree(sign_response=signed == "response")
    original = root if signed == "response" else find(root, "saml:Assertion")
    signature = find(original, "ds:Signature")
    forged = copy.deepcopy(original)
    forged.remove(find(forged, "ds:Signature"))
    assertion = forged if signed == "assertion" else find(forged, "saml:Assertion")
    find(assertion, NAME_ID).text = "administrator-id"
    if forged_id == "another":
        forged.set("ID", "_forged")
    elif forged_id == "none":
        del forged.attrib["ID"]
    if signed == "response":
        root = forged
    else:
        root.replace(original, forged)
    if signature_place == "moves to the forged element" or KEPT[kept] in {"signature", "object"}:
        forged.insert(1, signature)
    elif signature_place == "moves to the response":
        root.insert(1, signature)
    keep(original, KEPT[kept], root, forged, assertion, signature)
    return root


def keep(
    original: etree._Element,
    place: str,
    root: etree._Element,
    forged: etree._Element,
    assertion: etree._Element,
    signature: etree._Element,
) -> None:
    if place == "before" and forged is not root:
        forged.addprevious(original)
    elif place == "after" and forged is not root:
        forged.addnext(original)
    elif place == "advice":
        etree.SubElement(assertion, f"{SAML}Advice").append(original)
    elif place == "value":
        find(assertion, "saml:AttributeStatement/saml:Attribute/saml:AttributeValue").append(original)
    elif place == "extensions":
        extensions = etree.Element(f"{SAMLP}Extensions")
        root.insert(1, extensions)
        extensions.append(original)
    elif place == "signature":
        signature.append(original)
    elif place == "object":
        etree.SubElement(signature, f"{DS}Object").append(original)
    else:
        forged.append(original)


def still_verifies(root: etree._Element) -> bool:
    """What a verifier says that looks at the signature alone."""
    (signature,) = root.iter(f"{DS}Signature")
    xmlsec.tree.add_ids(root, ["ID"])
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(signing_key().certificate, xmlsec.constants.KeyDataFormatCertPem)
    try:
        context.verify(signature)
    except xmlsec.Error:
        return False
    return True


CASES = list(product(("assertion", "response"), KEPT, SIGNATURE, IDS))


@pytest.mark.parametrize(("signed", "kept", "signature", "forged_id"), CASES, ids=str)
def test_a_forged_element_is_refused_wherever_the_signed_one_is_kept(
    signed: str, kept: str, signature: str, forged_id: str
) -> None:
    attack = encode(wrapped(signed, kept, signature, forged_id))
    with pytest.raises(AssertionRefusedError) as caught:
        verify_response(attack, parse_metadata(metadata()), datetime.now(UTC))
    assert (caught.value.code, caught.value.status) == ("InvalidIdentityToken", 400)


def test_the_attacks_are_such_that_a_look_at_the_signature_alone_would_not_refuse_them() -> None:
    # Not those that keep the original inside its own signature: libxmlsec's enveloped transform takes it out with it.
    # Not those that have one ID twice: libxml2 registers the first.
    for signed, kept, signature, forged_id in CASES:
        if KEPT[kept] not in {"signature", "object"} and forged_id != "the same":
            root = etree.fromstring(etree.tostring(wrapped(signed, kept, signature, forged_id)))
            assert still_verifies(root), (signed, kept, signature, forged_id)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_rearrangement_of_a_signed_response_yields_other_claims(data: st.DataObject) -> None:
    provider = parse_metadata(metadata())
    root = signed_tree(sign_response=data.draw(st.booleans()))
    genuine = verify_response(encode(root), provider, datetime.now(UTC))
    for _ in range(data.draw(st.integers(1, 4))):
        elements = [element for element in root.iter("*") if element is not root]
        if not elements:
            break
        one, other = data.draw(st.sampled_from(elements)), data.draw(st.sampled_from([root, *elements]))
        parent = one.getparent()
        assert parent is not None
        match data.draw(st.sampled_from(["copy", "move", "remove", "text", "identify"])):
            case "copy":
                other.insert(data.draw(st.integers(0, len(other))), copy.deepcopy(one))
            case "move" if one not in {other, *other.iterancestors()}:
                other.insert(data.draw(st.integers(0, len(other))), one)
            case "remove":
                parent.remove(one)
            case "text":
                one.text = "administrator-id"
            case _:
                one.set("ID", data.draw(st.sampled_from(["_assertion", "_response", "_other"])))
    try:
        found = verify_response(encode(root), provider, datetime.now(UTC))
    except AssertionRefusedError:
        return
    assert found == genuine  # only what no signature covers was touched
