"""The SAML Response around one signed assertion, as STS takes it.

Source: OASIS saml-core-2.0-os (element order as in saml-schema-assertion-2.0.xsd and saml-schema-protocol-2.0.xsd).
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Final

from lxml import etree

from broker.adapters.saml.signature import sign_enveloped
from broker.core.assertion import AssertionClaims, SignedAssertion
from broker.core.credentials import Secret
from broker.core.ports import SigningKey

SAML: Final = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP: Final = "urn:oasis:names:tc:SAML:2.0:protocol"
PERSISTENT: Final = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
BEARER: Final = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
URI_NAME: Final = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"
SUCCESS: Final = "urn:oasis:names:tc:SAML:2.0:status:Success"

_RESPONSE_END: Final = b"</samlp:Response>"


class SamlAssertionSigner:
    """Implements :class:`broker.core.ports.AssertionSigner`; stateless, so threads share one."""

    def __init__(self, key: SigningKey) -> None:
        """Sign with that key."""
        self._key = key

    def sign(self, claims: AssertionClaims) -> SignedAssertion:
        """Build the Response of those claims and sign its assertion.

        Only the assertion is signed: AWS needs no more, and a second signature would double the cost.
        """
        assertion = sign_enveloped(_assertion(claims), self._key, b"<saml:Subject>")
        # The signed bytes go into the Response as they are: parsing them again would only cost time.
        shell = etree.tostring(_response(claims)).removesuffix(_RESPONSE_END)
        return SignedAssertion(
            id=claims.id, response=Secret(base64.b64encode(shell + assertion + _RESPONSE_END).decode())
        )


def saml_time(moment: datetime) -> str:
    """xs:dateTime in UTC; milliseconds, as many readers take no more digits.

    Args:
        moment: aware, of any zone.
    """
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _response(claims: AssertionClaims) -> etree._Element:
    response = etree.Element(
        f"{{{SAMLP}}}Response",
        {
            "ID": claims.response_id,
            "Version": "2.0",
            "IssueInstant": saml_time(claims.issue_instant),
            "Destination": claims.recipient,
        },
        nsmap={"samlp": SAMLP, "saml": SAML},
    )
    _saml(response, "Issuer", text=claims.issuer)
    status = etree.SubElement(response, f"{{{SAMLP}}}Status")
    etree.SubElement(status, f"{{{SAMLP}}}StatusCode", {"Value": SUCCESS})
    return response


def _assertion(claims: AssertionClaims) -> etree._Element:
    issued, end = saml_time(claims.issue_instant), saml_time(claims.not_on_or_after)
    assertion = etree.Element(
        f"{{{SAML}}}Assertion",
        {"ID": claims.id, "Version": "2.0", "IssueInstant": issued},
        nsmap={"saml": SAML},
    )
    _saml(assertion, "Issuer", text=claims.issuer)
    subject = _saml(assertion, "Subject")
    _saml(subject, "NameID", {"Format": PERSISTENT}, claims.subject)
    confirmation = _saml(subject, "SubjectConfirmation", {"Method": BEARER})
    _saml(confirmation, "SubjectConfirmationData", {"NotOnOrAfter": end, "Recipient": claims.recipient})
    conditions = _saml(assertion, "Conditions", {"NotBefore": saml_time(claims.not_before), "NotOnOrAfter": end})
    _saml(_saml(conditions, "AudienceRestriction"), "Audience", text=claims.audience)
    statement = _saml(
        assertion, "AuthnStatement", {"AuthnInstant": saml_time(claims.authn_instant), "SessionIndex": claims.id}
    )
    _saml(_saml(statement, "AuthnContext"), "AuthnContextClassRef", text=claims.authn_context)
    attributes = _saml(assertion, "AttributeStatement")
    for name, values in claims.attributes.items():
        attribute = _saml(attributes, "Attribute", {"Name": name, "NameFormat": URI_NAME})
        for value in values:
            _saml(attribute, "AttributeValue", text=value)
    return assertion


def _saml(
    parent: etree._Element, name: str, attributes: dict[str, str] | None = None, text: str | None = None
) -> etree._Element:
    element = etree.SubElement(parent, f"{{{SAML}}}{name}", attributes or {})
    element.text = text
    return element
