"""The SAML Response around one signed assertion, as STS takes it.

Source: OASIS saml-core-2.0-os (element order as in saml-schema-assertion-2.0.xsd and saml-schema-protocol-2.0.xsd).
"""

from __future__ import annotations

import base64
from copy import deepcopy
from datetime import UTC, datetime
from functools import lru_cache
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


def _form(text: str) -> etree._Element:
    return etree.fromstring(text, etree.XMLParser(remove_blank_text=True))


# What every Response has in common, to be copied and filled in: lxml copies a tree ten times as fast as it makes one
# element by element, and it is lxml still that writes each value in.
_ASSERTION: Final = _form(f"""
<saml:Assertion xmlns:saml="{SAML}" Version="2.0">
  <saml:Issuer/>
  <saml:Subject>
    <saml:NameID Format="{PERSISTENT}"/>
    <saml:SubjectConfirmation Method="{BEARER}"><saml:SubjectConfirmationData/></saml:SubjectConfirmation>
  </saml:Subject>
  <saml:Conditions>
    <saml:AudienceRestriction><saml:Audience/></saml:AudienceRestriction>
  </saml:Conditions>
  <saml:AuthnStatement>
    <saml:AuthnContext><saml:AuthnContextClassRef/></saml:AuthnContext>
  </saml:AuthnStatement>
  <saml:AttributeStatement/>
</saml:Assertion>""")
_RESPONSE: Final = _form(f"""
<samlp:Response xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" Version="2.0">
  <saml:Issuer/>
  <samlp:Status><samlp:StatusCode Value="{SUCCESS}"/></samlp:Status>
</samlp:Response>""")
_ATTRIBUTE: Final = f"{{{SAML}}}Attribute"
_ATTRIBUTE_VALUE: Final = f"{{{SAML}}}AttributeValue"


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
    response = deepcopy(_RESPONSE)
    response.set("ID", claims.response_id)
    response.set("IssueInstant", saml_time(claims.issue_instant))
    response.set("Destination", claims.recipient)
    response[0].text = claims.issuer
    return response


def _assertion(claims: AssertionClaims) -> etree._Element:
    assertion = deepcopy(_with_attributes(tuple(map(len, claims.attributes.values()))))
    end = saml_time(claims.not_on_or_after)
    assertion.set("ID", claims.id)
    assertion.set("IssueInstant", saml_time(claims.issue_instant))
    issuer, (name_id, (confirmation,)), conditions, statement, attributes = assertion
    issuer.text = claims.issuer
    name_id.text = claims.subject
    confirmation.set("NotOnOrAfter", end)
    confirmation.set("Recipient", claims.recipient)
    conditions.set("NotBefore", saml_time(claims.not_before))
    conditions.set("NotOnOrAfter", end)
    ((audience,),) = conditions
    audience.text = claims.audience
    statement.set("AuthnInstant", saml_time(claims.authn_instant))
    statement.set("SessionIndex", claims.id)
    ((context,),) = statement
    context.text = claims.authn_context
    for attribute, (name, values) in zip(attributes, claims.attributes.items(), strict=True):
        attribute.set("Name", name)
        for element, value in zip(attribute, values, strict=True):
            element.text = value
    return assertion


@lru_cache(maxsize=64)
def _with_attributes(numbers: tuple[int, ...]) -> etree._Element:
    """The form with so many values in each attribute, to be copied: entitlements differ in little but that."""
    assertion = deepcopy(_ASSERTION)
    for number in numbers:
        attribute = etree.SubElement(assertion[-1], _ATTRIBUTE, {"Name": "", "NameFormat": URI_NAME})
        for _ in range(number):
            etree.SubElement(attribute, _ATTRIBUTE_VALUE)
    return assertion
