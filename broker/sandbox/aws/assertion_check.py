"""A SAML response, verified the way STS must: who signed it, for whom, until when, and nothing hidden in it.

Everything that is used later is read from the one element the signature covers, after it was verified. The key
comes from the registered metadata alone; KeyInfo in the response is never looked at.

Sources: SAML 2.0 Core and Profiles 4.1.4.3; XML Signature; IAM User Guide, "Configure SAML assertions for the
authentication response" and "Troubleshoot SAML federation".
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import xmlsec
from lxml import etree

from broker.sandbox.aws.partition import AWS, Partition
from broker.sandbox.aws.saml_metadata import IdentityProvider, parse_without_dtd

_SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
_SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
_DS = "http://www.w3.org/2000/09/xmldsig#"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_KNOWN_CONDITIONS = frozenset(
    f"{{{_SAML}}}{name}" for name in ("AudienceRestriction", "OneTimeUse", "ProxyRestriction")
)
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_EXCLUSIVE_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
_INCLUSIVE_NAMESPACES = f"{{{_EXCLUSIVE_C14N}}}InclusiveNamespaces"
_SIGNATURE_METHODS = frozenset(f"http://www.w3.org/2001/04/xmldsig-more#rsa-sha{bits}" for bits in (256, 384, 512))
_DIGEST_METHODS = frozenset({
    "http://www.w3.org/2001/04/xmlenc#sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512",
})  # fmt: skip

MAX_BASE64_CHARACTERS = 100_000
_LINE_BREAKS = str.maketrans("", "", " \t\r\n")
REDEEM_WITHIN = timedelta(minutes=5)
# AWS publishes no tolerance. An IssueInstant further ahead than this is no clock drift of one machine room.
_FUTURE_TOLERANCE = timedelta(seconds=60)
_RECIPIENT = re.compile(r"https://([a-z0-9.-]+)/(?:static/)?saml")

_ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"
_TAG = _ATTRIBUTES + "PrincipalTag:"
xmlsec.enable_debug_trace(False)  # it would write to standard error  # noqa: FBT003  the library's own signature

_NAME = re.compile(r"[a-zA-Z_0-9+=,.@-]{2,64}")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+", re.ASCII)
_PROVIDER_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:saml-provider/.+", re.ASCII)
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z", re.ASCII)
_MAX_TAGS = 50
_MAX_TAG_KEY = 128
_MAX_TAG_VALUE = 256
_MIN_SECONDS, _MAX_SECONDS = 900, 43_200


class AssertionRefusedError(Exception):
    """STS refuses the assertion.

    Attributes:
        code: the wire code.
        status: the HTTP status.
    """

    def __init__(self, message: str, *, code: str = "InvalidIdentityToken", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class VerifiedAssertion:
    """What a verified assertion says.

    Attributes:
        assertion_id: its ID.
        issuer: the entity id of the identity provider.
        subject: the NameID.
        subject_type: ``persistent``, ``transient`` or the whole format URI.
        recipient: what AWS calls the audience: the Recipient of the subject confirmation.
        roles: the role and provider ARNs that belong together.
        role_session_name: a name within RoleSessionName's alphabet.
        source_identity: the SourceIdentity, or the empty string.
        tags: session tags; the keys are unique without regard to case.
        transitive_tag_keys: those of the tags that survive role chaining.
        session_duration: the SessionDuration attribute, if there is one.
        session_not_on_or_after: aware, UTC; when the session must end at the latest.
    """

    assertion_id: str
    issuer: str
    subject: str
    subject_type: str
    recipient: str
    roles: frozenset[tuple[str, str]]
    role_session_name: str
    source_identity: str
    tags: dict[str, str] = field(hash=False)
    transitive_tag_keys: tuple[str, ...]
    session_duration: timedelta | None
    session_not_on_or_after: datetime | None


def verify_response(
    encoded: str, provider: IdentityProvider, now: datetime, partition: Partition = AWS
) -> VerifiedAssertion:
    """Verify a base64 SAML response against the registered provider.

    Args:
        encoded: the SAMLAssertion parameter.
        provider: entity id and keys from the registered metadata.
        now: aware, UTC.
        partition: that the assertion has to be made for.

    Raises:
        AssertionRefusedError: with the code, status and text of STS.
    """
    response = _parse(encoded)
    assertion = _the_one_assertion(response)
    _check_issuer(response, assertion, provider)
    _check_signatures(response, assertion, provider)
    _check_status(response)
    recipient, confirmed_until = _confirmation(assertion)
    _check_times(assertion, confirmed_until, now)
    _check_audience(response, assertion, recipient, partition)
    subject, subject_type = _subject(assertion)
    return _claims(assertion, provider.entity_id, subject, subject_type, recipient, now)


# --- one document, one assertion, one signature over it


def _parse(encoded: str) -> etree._Element:
    if len(encoded) > MAX_BASE64_CHARACTERS:
        raise AssertionRefusedError("Invalid base64 SAMLResponse")
    try:
        document = base64.b64decode(encoded.translate(_LINE_BREAKS), validate=True)
    except (binascii.Error, ValueError) as error:
        raise AssertionRefusedError("Invalid base64 SAMLResponse") from error
    try:
        root = parse_without_dtd(document)
    except ValueError as error:
        raise AssertionRefusedError("Invalid SAMLResponse: it could not be parsed") from error
    if root.tag != f"{{{_SAMLP}}}Response" or root.get("Version") != "2.0":
        raise AssertionRefusedError("Invalid SAMLResponse: not a SAML 2.0 response")
    return root


def _the_one_assertion(response: etree._Element) -> etree._Element:
    if any(True for _ in response.iter(etree.PI, etree.Entity)):
        raise AssertionRefusedError("Invalid SAMLResponse: unexpected content")
    elements = list(response.iter("*"))
    names = [etree.QName(element).localname for element in elements]
    if "EncryptedAssertion" in names:
        raise AssertionRefusedError("Invalid SAMLResponse: encrypted assertions are not supported")
    # Counted by local name and at any depth: a second one under another namespace or wrapper is refused too.
    children = response.findall(f"{{{_SAML}}}Assertion")
    if names.count("Assertion") != 1 or names.count("Response") != 1 or len(children) != 1:
        raise AssertionRefusedError("Invalid SAMLResponse: exactly one assertion is required")
    ids = [
        value
        for element in elements
        for name, value in element.attrib.items()
        if etree.QName(name).localname.lower() == "id"
    ]
    if len(ids) != len(set(ids)):
        raise AssertionRefusedError("Invalid SAMLResponse: an ID is used twice")
    if children[0].get("Version") != "2.0" or not children[0].get("ID") or not response.get("ID"):
        raise AssertionRefusedError("Invalid SAMLResponse: not a SAML 2.0 assertion")
    return children[0]


def _check_signatures(response: etree._Element, assertion: etree._Element, provider: IdentityProvider) -> None:
    signatures = list(response.iter(f"{{{_DS}}}Signature"))
    holders = [s.getparent() for s in signatures]
    if not signatures or any(h is not response and h is not assertion for h in holders):
        raise AssertionRefusedError("Response signature invalid")
    if len(signatures) != len({id(h) for h in holders}):
        raise AssertionRefusedError("Response signature invalid")
    for signature, holder in zip(signatures, holders, strict=True):
        if holder is None or not _is_plain_signature(signature, str(holder.get("ID"))):
            raise AssertionRefusedError("Response signature invalid")
        if not any(_verifies(signature, holder, der) for der in provider.signing_certificates):
            raise AssertionRefusedError("Response signature invalid")


def _is_plain_signature(signature: etree._Element, signed_id: str) -> bool:
    """Whether the signature covers exactly the element that holds it, with strong algorithms and no surprises."""
    if any(True for _ in signature.iter(etree.Comment)):  # it would split a digest in two for some readers
        return False
    parts = [child for child in signature if child.tag != f"{{{_DS}}}KeyInfo"]
    if not _are(parts, "SignedInfo", "SignatureValue"):
        return False
    if not _are(parts[0], "CanonicalizationMethod", "SignatureMethod", "Reference"):
        return False
    canonicalization, method, reference = parts[0]
    if not _are(reference, "Transforms", "DigestMethod", "DigestValue"):
        return False
    transforms, digest, _ = reference
    return (
        reference.get("URI") == f"#{signed_id}"
        and canonicalization.get("Algorithm") == _EXCLUSIVE_C14N
        and method.get("Algorithm") in _SIGNATURE_METHODS
        and len(method) == 0
        and digest.get("Algorithm") in _DIGEST_METHODS
        and len(digest) == 0
        and [t.get("Algorithm") for t in transforms] == [_ENVELOPED, _EXCLUSIVE_C14N]
        and all(child.tag == _INCLUSIVE_NAMESPACES for t in (*transforms, canonicalization) for child in t)
    )


def _are(elements: Iterable[etree._Element], *names: str) -> bool:
    """Whether these are exactly the XML Signature elements of these names, in this order."""
    return [element.tag for element in elements] == [f"{{{_DS}}}{name}" for name in names]


def _verifies(signature: etree._Element, holder: etree._Element, certificate: bytes) -> bool:
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertDer)
    context.register_id(holder, "ID")
    try:
        context.verify(signature)
    except xmlsec.Error:
        return False
    return True


# --- who issued it, for whom, when


def _check_issuer(response: etree._Element, assertion: etree._Element, provider: IdentityProvider) -> None:
    issuers = [e for parent in (response, assertion) for e in parent.findall(f"{{{_SAML}}}Issuer")]
    if assertion.find(f"{{{_SAML}}}Issuer") is None or any(_text(e) != provider.entity_id for e in issuers):
        raise AssertionRefusedError(
            "Issuer not present in specified provider (Service: AWSOpenIdDiscoveryService; Status Code: 400; "
            "Error Code: AuthSamlInvalidSamlResponseException)"
        )


def _check_status(response: etree._Element) -> None:
    codes = response.findall(f"{{{_SAMLP}}}Status/{{{_SAMLP}}}StatusCode")
    if len(codes) != 1 or codes[0].get("Value") != _SUCCESS:
        raise AssertionRefusedError("Invalid SAMLResponse: its status is not Success")


def _confirmation(assertion: etree._Element) -> tuple[str, datetime]:
    confirmations = assertion.findall(f"{{{_SAML}}}Subject/{{{_SAML}}}SubjectConfirmation")
    if len(confirmations) != 1 or confirmations[0].get("Method") != _BEARER:
        raise AssertionRefusedError("Invalid SAMLResponse: exactly one bearer SubjectConfirmation is required")
    details = confirmations[0].findall(f"{{{_SAML}}}SubjectConfirmationData")
    if len(details) != 1 or not details[0].get("Recipient"):
        raise AssertionRefusedError("Invalid SAMLResponse: SubjectConfirmationData needs Recipient and NotOnOrAfter")
    if details[0].get("NotBefore") is not None:  # SAML Profiles 4.1.4.2: a bearer confirmation has none
        raise AssertionRefusedError("Invalid SAMLResponse: SubjectConfirmationData must not have NotBefore")
    return str(details[0].get("Recipient")), _instant(details[0].get("NotOnOrAfter"))


def _check_times(assertion: etree._Element, confirmed_until: datetime, now: datetime) -> None:
    issued = _instant(assertion.get("IssueInstant"))
    conditions = assertion.findall(f"{{{_SAML}}}Conditions")
    if len(conditions) != 1:
        raise AssertionRefusedError("Invalid SAMLResponse: exactly one Conditions element is required")
    if not _KNOWN_CONDITIONS.issuperset(child.tag for child in conditions[0].iterchildren("*")):
        # SAML Core 2.5.1.1: with a condition that is not understood, nobody can say that the assertion is valid.
        raise AssertionRefusedError("Invalid SAMLResponse: a condition is not understood")
    not_before = conditions[0].get("NotBefore")
    not_on_or_after = conditions[0].get("NotOnOrAfter")
    if now - issued > REDEEM_WITHIN:
        raise AssertionRefusedError("Token must be redeemed within 5 minutes of issuance", code="ExpiredTokenException")
    ends = [confirmed_until, *([_instant(not_on_or_after)] if not_on_or_after is not None else [])]
    if now >= min(ends):
        raise AssertionRefusedError("Response has expired", code="ExpiredTokenException")
    if issued - now > _FUTURE_TOLERANCE or (not_before is not None and _instant(not_before) > now):
        raise AssertionRefusedError("Response is not yet valid")


def _check_audience(response: etree._Element, assertion: etree._Element, recipient: str, partition: Partition) -> None:
    restrictions = assertion.findall(f"{{{_SAML}}}Conditions/{{{_SAML}}}AudienceRestriction")
    # SAML Core 2.5.1.4: several restrictions must each be met.
    if not restrictions or not all(
        any(_text(audience) in partition.audiences for audience in r.findall(f"{{{_SAML}}}Audience"))
        for r in restrictions
    ):
        raise AssertionRefusedError("Response does not contain the required audience")
    destination = response.get("Destination")
    for address in (recipient, *([destination] if destination is not None else [])):
        found = _RECIPIENT.fullmatch(address)
        if found is None or not partition.signin.fullmatch(found[1]):
            raise AssertionRefusedError("Response does not contain the required recipient")


def _subject(assertion: etree._Element) -> tuple[str, str]:
    names = assertion.findall(f"{{{_SAML}}}Subject/{{{_SAML}}}NameID")
    if len(names) != 1 or not _text(names[0]):
        # Without a NameID the role's trust policy has nothing to judge, and that is how AWS words it.
        raise AssertionRefusedError("Not authorized to perform sts:AssumeRoleWithSAML", code="AccessDenied", status=403)
    form = names[0].get("Format", "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified")
    short = form.removeprefix("urn:oasis:names:tc:SAML:2.0:nameid-format:")
    return _text(names[0]), short if short in {"persistent", "transient"} else form


# --- what it claims


def _claims(
    assertion: etree._Element, issuer: str, subject: str, subject_type: str, recipient: str, now: datetime
) -> VerifiedAssertion:
    attributes = _attributes(assertion)
    tags = _tags(attributes)
    transitive = tuple(attributes.get(_ATTRIBUTES + "TransitiveTagKeys", ()))
    if not {key.lower() for key in transitive} <= {key.lower() for key in tags}:
        raise AssertionRefusedError("The TransitiveTagKeys attribute names a tag that is not in the assertion")
    ends = [
        _instant(statement.get("SessionNotOnOrAfter"))
        for statement in assertion.findall(f"{{{_SAML}}}AuthnStatement")
        if statement.get("SessionNotOnOrAfter") is not None
    ]
    if ends and min(ends) <= now:
        raise AssertionRefusedError("Response has expired", code="ExpiredTokenException")
    return VerifiedAssertion(
        assertion_id=str(assertion.get("ID")),
        issuer=issuer,
        subject=subject,
        subject_type=subject_type,
        recipient=recipient,
        roles=_roles(attributes),
        role_session_name=_role_session_name(attributes),
        source_identity=_source_identity(attributes),
        tags=tags,
        transitive_tag_keys=transitive,
        session_duration=_session_duration(attributes),
        session_not_on_or_after=min(ends, default=None),
    )


def _attributes(assertion: etree._Element) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for attribute in assertion.findall(f"{{{_SAML}}}AttributeStatement/{{{_SAML}}}Attribute"):
        name = attribute.get("Name", "")
        if name in found:
            raise AssertionRefusedError("Invalid SAMLResponse: an attribute is given twice")
        values = attribute.findall(f"{{{_SAML}}}AttributeValue")
        if name.startswith(_ATTRIBUTES):  # others may hold anything, such as a NameID
            found[name] = [_text(value) for value in values]
    return found


def _single(attributes: dict[str, list[str]], name: str) -> str | None:
    values = attributes.get(_ATTRIBUTES + name)
    if values is None:
        return None
    if len(values) != 1:
        raise AssertionRefusedError(f"{name} in AuthnResponse must have exactly one value")
    return values[0]


def _roles(attributes: dict[str, list[str]]) -> frozenset[tuple[str, str]]:
    pairs = set()
    for value in attributes.get(_ATTRIBUTES + "Role", ()):
        arns = [arn.strip() for arn in value.split(",")]
        roles = [arn for arn in arns if _ROLE_ARN.fullmatch(arn)]
        providers = [arn for arn in arns if _PROVIDER_ARN.fullmatch(arn)]
        if len(arns) != 2 or len(roles) != 1 or len(providers) != 1:  # noqa: PLR2004  a pair
            raise AssertionRefusedError("Your request included an invalid SAML response")
        pairs.add((roles[0], providers[0]))
    if not pairs:
        raise AssertionRefusedError("Your request included an invalid SAML response")
    return frozenset(pairs)


def _role_session_name(attributes: dict[str, list[str]]) -> str:
    name = _single(attributes, "RoleSessionName")
    if not name:
        raise AssertionRefusedError("RoleSessionName is required in AuthnResponse")
    if not _NAME.fullmatch(name):
        raise AssertionRefusedError("RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}")
    return name


def _source_identity(attributes: dict[str, list[str]]) -> str:
    identity = _single(attributes, "SourceIdentity")
    if identity is None:
        return ""
    if not _NAME.fullmatch(identity):  # its alphabet has no colon, so nothing begins with "aws:"
        raise AssertionRefusedError('Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"')
    return identity


def _session_duration(attributes: dict[str, list[str]]) -> timedelta | None:
    text = _single(attributes, "SessionDuration")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{3,5}", text) or not _MIN_SECONDS <= int(text) <= _MAX_SECONDS:
        raise AssertionRefusedError(
            f"SessionDuration in AuthnResponse must be between {_MIN_SECONDS} and {_MAX_SECONDS} seconds"
        )
    return timedelta(seconds=int(text))


def _tags(attributes: dict[str, list[str]]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for name, values in attributes.items():
        if not name.startswith(_TAG):
            continue
        key = name.removeprefix(_TAG)
        if len(values) != 1:
            raise AssertionRefusedError("A PrincipalTag attribute must have exactly one value")
        check_tag(key, values[0])
        tags[key] = values[0]
    if len({key.lower() for key in tags}) != len(tags):
        raise AssertionRefusedError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if len(tags) > _MAX_TAGS:
        raise AssertionRefusedError(f"An assertion may carry at most {_MAX_TAGS} tags")
    return tags


def check_tag(key: str, value: str) -> None:
    r"""Check one session tag against the limits of STS (tagKeyType, tagValueType).

    Raises:
        AssertionRefusedError: too long, reserved, or a character outside ``[\p{L}\p{Z}\p{N}_.:/=+\-@]``.
    """
    if not 1 <= len(key) <= _MAX_TAG_KEY or not _in_tag_alphabet(key) or key.lower().startswith("aws:"):
        raise AssertionRefusedError("A PrincipalTag key is not valid")
    if len(value) > _MAX_TAG_VALUE or not _in_tag_alphabet(value):
        raise AssertionRefusedError("A PrincipalTag value is not valid")


def _in_tag_alphabet(text: str) -> bool:
    return all(c in "_.:/=+-@" or unicodedata.category(c)[0] in "LZN" for c in text)


# --- reading values


def _text(element: etree._Element) -> str:
    """Return all text of an element: a comment splits text nodes, and must not end the value."""
    if any(True for _ in element.iterchildren("*")):
        raise AssertionRefusedError("Invalid SAMLResponse: elements where text is expected")
    return str(element.xpath("string()"))


def _instant(text: str | None) -> datetime:
    found = _INSTANT.fullmatch(text or "")
    if found is None:
        raise AssertionRefusedError("Invalid SAMLResponse: a time is missing or not in UTC")
    try:
        whole = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    except ValueError as error:
        raise AssertionRefusedError("Invalid SAMLResponse: a time is not a time") from error
    return whole + timedelta(seconds=float(f"0{found[2] or '.0'}"))
