"""The check at start: would somebody else's verifier accept what we sign, by what we publish?"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from lxml import etree
from onelogin.saml2.errors import OneLogin_Saml2_Error, OneLogin_Saml2_ValidationError
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from broker.core.assertion import CLOCK_SKEW, PASSWORD_PROTECTED_TRANSPORT, VALID_FOR, AssertionClaims
from broker.core.errors import Fault, SigningKeyUnusable
from broker.core.ports import AssertionSigner

# A relying party that does not exist (RFC 6761): the throwaway assertion opens nothing, and names no role either.
_HOST: Final = "self-check.invalid"
_ADDRESS: Final = f"https://{_HOST}/acs"


def check_signer(signer: AssertionSigner, metadata: bytes, entity_id: str, now: datetime) -> None:
    """Sign a throwaway assertion and have python3-saml verify it strictly against our own metadata.

    Args:
        signer: as it will be used.
        metadata: as it is published.
        entity_id: of the settings.
        now: aware, UTC; python3-saml uses the machine's clock besides.

    Raises:
        SigningKeyUnusable: the key, the certificate, the metadata and the settings do not fit together.
    """
    claims = AssertionClaims(
        id="_self-check",
        response_id="_self-check-response",
        issuer=entity_id,
        subject="self-check",
        audience=_ADDRESS,
        recipient=_ADDRESS,
        issue_instant=now,
        not_before=now - CLOCK_SKEW,
        not_on_or_after=now + VALID_FOR,
        authn_instant=now,
        authn_context=PASSWORD_PROTECTED_TRANSPORT,
        attributes={"purpose": ("self-check",)},
    )
    response = signer.sign(claims).response.reveal()
    try:
        published = OneLogin_Saml2_IdPMetadataParser.parse(metadata)["idp"]
        settings = OneLogin_Saml2_Settings(
            {
                "strict": True,
                "idp": published,
                "sp": {"entityId": _ADDRESS, "assertionConsumerService": {"url": _ADDRESS}},
                "security": {"wantAssertionsSigned": True, "wantNameId": True, "rejectDeprecatedAlgorithm": True},
            }
        )
        request = {"https": "on", "http_host": _HOST, "script_name": "/acs", "get_data": {}, "post_data": {}}
        OneLogin_Saml2_Response(settings, response).is_valid(request, raise_exceptions=True)
    except (OneLogin_Saml2_Error, OneLogin_Saml2_ValidationError, etree.LxmlError, ValueError, KeyError) as error:
        raise SigningKeyUnusable(
            Fault(
                "saml.keys",
                f"an assertion signed with the key is not accepted by the published metadata: {error}."
                " After a change of public_url or entity_id run `broker metadata --sign`",
            )
        ) from error
