"""Passkeys and security keys: WebAuthn level 2 (W3C recommendation of 8 April 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from webauthn import (
    base64url_to_bytes,
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import parse_authentication_credential_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from broker.core.credentials import Secret
from broker.core.errors import SecondFactorCause, SecondFactorRejected
from broker.core.principal import Principal
from broker.core.second_factor import Passkey

_MINUTE_MILLISECONDS: Final = 60_000
# Far more than any authenticator sends; a body that is larger is not worth reading.
_LONGEST_ANSWER: Final = 32_768
# What the library and the parsers below it raise of an answer that is none, one that is nested without end too.
_MALFORMED: Final = (WebAuthnException, ValueError, TypeError, LookupError, AttributeError, RecursionError)


class WebAuthnPasskeys:
    """The Passkeys port, bound to the portal's own address: a key that was enrolled here answers nobody else."""

    def __init__(self, public_url: str, name: str) -> None:
        """Make one.

        Args:
            public_url: the portal's origin; its host is the relying party's id.
            name: the portal's, for the authenticator to show.
        """
        self._origin = public_url
        self._host = urlsplit(public_url).hostname or ""
        self._name = name

    def enrolment_options(self, challenge: Secret, person: Principal, known: Sequence[bytes]) -> str:
        """What ``navigator.credentials.create()`` needs, as JSON."""
        return options_to_json(
            generate_registration_options(
                rp_id=self._host,
                rp_name=self._name,
                user_id=person.id.encode("ascii"),
                user_name=person.username,
                user_display_name=person.display_name,
                challenge=base64url_to_bytes(challenge.reveal()),
                timeout=5 * _MINUTE_MILLISECONDS,
                # Which make of key it is decides nothing here, and asking would tell keys of one person apart.
                attestation=AttestationConveyancePreference.NONE,
                authenticator_selection=AuthenticatorSelectionCriteria(
                    # The username is known when it is used, so it need not take one of a key's few places.
                    resident_key=ResidentKeyRequirement.DISCOURAGED,
                    # A stolen key alone opens nothing, as with a stolen password.
                    user_verification=UserVerificationRequirement.REQUIRED,
                ),
                exclude_credentials=[PublicKeyCredentialDescriptor(id=one) for one in known],
            )
        )

    def enrolled(self, challenge: Secret, answer: Secret) -> Passkey:
        """The passkey that the authenticator made.

        Raises:
            SecondFactorRejected: it is not an answer to that challenge, for this portal, by a person who was verified.
        """
        try:
            made = verify_registration_response(
                credential=_checked(answer),
                expected_challenge=base64url_to_bytes(challenge.reveal()),
                expected_rp_id=self._host,
                expected_origin=self._origin,
                require_user_presence=True,
                require_user_verification=True,
            )
        except _MALFORMED as error:
            raise SecondFactorRejected(_cause(error)) from error
        return Passkey(made.credential_id, made.credential_public_key, made.sign_count)

    def proof_options(self, challenge: Secret, known: Sequence[bytes]) -> str:
        """What ``navigator.credentials.get()`` needs, as JSON."""
        return options_to_json(
            generate_authentication_options(
                rp_id=self._host,
                challenge=base64url_to_bytes(challenge.reveal()),
                timeout=5 * _MINUTE_MILLISECONDS,
                allow_credentials=[PublicKeyCredentialDescriptor(id=one) for one in known],
                user_verification=UserVerificationRequirement.REQUIRED,
            )
        )

    def credential_id(self, answer: Secret) -> bytes:
        """Which passkey an answer claims to be of.

        Raises:
            SecondFactorRejected: it is no answer.
        """
        try:
            return parse_authentication_credential_json(_checked(answer)).raw_id
        except _MALFORMED as error:
            raise SecondFactorRejected(SecondFactorCause.PASSKEY_NOT_ACCEPTED) from error

    def proved(self, challenge: Secret, answer: Secret, passkey: Passkey) -> int:
        """The new count of a passkey that answered.

        Raises:
            SecondFactorRejected: it is not that passkey's answer to that challenge, for this portal, by a person who
                was verified; or the count went back, as that of a copy would.
        """
        try:
            return verify_authentication_response(
                credential=_checked(answer),
                expected_challenge=base64url_to_bytes(challenge.reveal()),
                expected_rp_id=self._host,
                expected_origin=self._origin,
                credential_public_key=passkey.public_key,
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            ).new_sign_count
        except _MALFORMED as error:
            raise SecondFactorRejected(_cause(error)) from error


def _checked(answer: Secret) -> str:
    text = answer.reveal()
    if len(text) > _LONGEST_ANSWER:
        raise ValueError("the answer is too long")
    return text


def _cause(error: Exception) -> SecondFactorCause:
    # The library has one exception for everything that an answer can lack, and no field that says which it was.
    if "user verification" in str(error).lower():
        return SecondFactorCause.PERSON_NOT_VERIFIED
    return SecondFactorCause.PASSKEY_NOT_ACCEPTED
