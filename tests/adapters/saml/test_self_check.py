"""The check at start: what does not fit together does not start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.adapters.saml.assertion import SamlAssertionSigner
from broker.adapters.saml.metadata import build_metadata
from broker.adapters.saml.self_check import check_signer
from broker.adapters.signing_keys import FileSigningKey
from broker.core.assertion import AssertionClaims, SignedAssertion
from broker.core.errors import SigningKeyUnusable
from tests.adapters.saml.claims import ENTITY_ID, SIGN_ON


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(SigningKeyUnusable) as caught:
        check()
    (fault,) = caught.value.faults
    assert fault.place == "saml.keys"
    assert "run `broker metadata --sign`" in fault.message
    return fault.message


def now() -> datetime:
    return datetime.now(UTC)


def test_a_key_that_fits_its_metadata_passes(key: FileSigningKey) -> None:
    check_signer(SamlAssertionSigner(key), build_metadata(ENTITY_ID, SIGN_ON, key), ENTITY_ID, now())


def test_during_a_rollover_either_key_passes(key: FileSigningKey, other_key: FileSigningKey) -> None:
    metadata = build_metadata(ENTITY_ID, SIGN_ON, key, [other_key])
    for signer in (key, other_key):
        check_signer(SamlAssertionSigner(signer), metadata, ENTITY_ID, now())


def test_a_key_that_the_metadata_does_not_publish_is_refused(key: FileSigningKey, other_key: FileSigningKey) -> None:
    metadata = build_metadata(ENTITY_ID, SIGN_ON, other_key)
    message = refusal(lambda: check_signer(SamlAssertionSigner(key), metadata, ENTITY_ID, now()))
    assert message.startswith("an assertion signed with the key is not accepted by the published metadata: ")


def test_a_certificate_of_another_key_is_refused(key: FileSigningKey, other_key: FileSigningKey) -> None:
    mixed = replace(key, _key=other_key._key)
    metadata = build_metadata(ENTITY_ID, SIGN_ON, mixed)
    refusal(lambda: check_signer(SamlAssertionSigner(mixed), metadata, ENTITY_ID, now()))


def test_metadata_of_another_entity_is_refused(key: FileSigningKey) -> None:
    metadata = build_metadata("https://old.example.com/saml/metadata", SIGN_ON, key)
    refusal(lambda: check_signer(SamlAssertionSigner(key), metadata, ENTITY_ID, now()))


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"\x00\xff",
        b"<html/>",
        b"not xml",
        b"<a",
        b'<!DOCTYPE x [<!ENTITY y "z">]><x>&y;</x>',
        b'<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="x"/>',
        b'<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata"><IDPSSODescriptor/></EntityDescriptor>',
    ],
)
def test_metadata_that_is_none_is_refused(key: FileSigningKey, metadata: bytes) -> None:
    refusal(lambda: check_signer(SamlAssertionSigner(key), metadata, ENTITY_ID, now()))


def test_a_clock_that_is_an_hour_off_is_refused(key: FileSigningKey) -> None:
    metadata = build_metadata(ENTITY_ID, SIGN_ON, key)
    wrong = now() - timedelta(hours=1)
    refusal(lambda: check_signer(SamlAssertionSigner(key), metadata, ENTITY_ID, wrong))


def test_the_throwaway_assertion_opens_nothing(key: FileSigningKey) -> None:
    seen: list[AssertionClaims] = []

    class Noting:
        def sign(self, claims: AssertionClaims) -> SignedAssertion:
            seen.append(claims)
            return SamlAssertionSigner(key).sign(claims)

    check_signer(Noting(), build_metadata(ENTITY_ID, SIGN_ON, key), ENTITY_ID, now())
    (claims,) = seen
    assert claims.audience == claims.recipient == "https://self-check.invalid/acs"
    assert not [name for name in claims.attributes if "aws" in name]
