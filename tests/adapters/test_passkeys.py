"""Whatever a browser sends in place of a passkey's answer is refused as such, and is nothing that breaks the portal."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from contextlib import suppress

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.second_factor.passkeys import WebAuthnPasskeys
from broker.core.credentials import Secret
from broker.core.errors import SecondFactorRejected
from broker.core.second_factor import Passkey

ORIGIN = "https://broker.corp.example"
CHALLENGE = "A" * 43
KEYS = WebAuthnPasskeys(ORIGIN, "Example")
# A key on the curve, as COSE has it (RFC 9053 section 7.1.1): the generator of P-256.
PUBLIC_KEY = cbor2.dumps(
    {
        1: 2,
        3: -7,
        -1: 1,
        -2: bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
        -3: bytes.fromhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"),
    }
)
STORED = Passkey(b"\0\0\0", PUBLIC_KEY, 0)


def base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def client_data(ceremony: str, **changed: object) -> str:
    return base64url(
        json.dumps({"type": f"webauthn.{ceremony}", "challenge": CHALLENGE, "origin": ORIGIN, **changed}).encode()
    )


def answer(**response: object) -> str:
    return json.dumps(
        {"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": response, "clientExtensionResults": {}}
    )


def authenticator_data(key: bytes = PUBLIC_KEY, flags: int = 0x45) -> bytes:
    credential = b"\0" * 16 + struct.pack(">H", 3) + b"\0\0\0" + key if flags & 0x40 else b""
    return hashlib.sha256(b"broker.corp.example").digest() + bytes([flags]) + struct.pack(">I", 1) + credential


def attested(statement: object = None, *, kind: object = "none", data: object = None) -> str:
    return base64url(
        cbor2.dumps({"fmt": kind, "attStmt": {} if statement is None else statement, "authData": data or b""})
    )


def is_refused(text: str) -> None:
    """By whichever method the portal hands it to; which passkey it claims to be of may still be read."""
    with pytest.raises(SecondFactorRejected):
        KEYS.enrolled(Secret(CHALLENGE), Secret(text))
    with pytest.raises(SecondFactorRejected):
        KEYS.proved(Secret(CHALLENGE), Secret(text), STORED)
    with suppress(SecondFactorRejected):
        KEYS.credential_id(Secret(text))


def test_an_answer_that_is_whole_is_taken() -> None:
    made = answer(clientDataJSON=client_data("create"), attestationObject=attested(data=authenticator_data()))
    assert KEYS.enrolled(Secret(CHALLENGE), Secret(made)) == Passkey(b"\0\0\0", PUBLIC_KEY, 1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "1", '"x"', "{}", "9" * 32_000, "x" * 40_000),
        *("[" * 5000, "[" * 32_000, '{"a":' * 6000),
        *('{"id":1,"rawId":2,"type":3,"response":4}', '{"id":"A","rawId":"A","type":"public-key","response":"x"}'),
        *('{"id":"é","rawId":"é","type":"public-key","response":[1]}', '{"id":"\\ud800","rawId":"\\ud800"}'),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_answer_is_refused(text: str) -> None:
    is_refused(text)


@pytest.mark.parametrize(
    "octets",
    [b"", b"xx", b"\xff\xfe", b"[]", b"5", b"[" * 20_000, b'{"type":1,"challenge":2,"origin":3}', b'{"a":' * 5000],
    ids=lambda octets: repr(octets[:12]),
)
def test_client_data_that_is_none_is_refused(octets: bytes) -> None:
    data = base64url(authenticator_data(flags=5))
    is_refused(
        answer(clientDataJSON=base64url(octets), attestationObject="AAAA", authenticatorData=data, signature="A")
    )


@pytest.mark.parametrize(
    "octets",
    [
        *(b"", b"\xff" * 20, b"\x81" * 15_000 + b"\0", cbor2.dumps(5), cbor2.dumps([1]), cbor2.dumps({})),
        *(b"\x5b\x7f" + b"\xff" * 7, b"\x9b\x7f" + b"\xff" * 7, b"\xd8\x1c\x80", cbor2.dumps(cbor2.CBORTag(35, "("))),
        *(
            cbor2.dumps(cbor2.CBORTag(0, "x")),
            cbor2.dumps(cbor2.CBORTag(4, [1])),
            cbor2.dumps(cbor2.CBORTag(4, [10**9, 1])),
        ),
    ],
    ids=lambda octets: repr(octets[:12]),
)
def test_an_attestation_that_is_none_is_refused(octets: bytes) -> None:
    is_refused(answer(clientDataJSON=client_data("create"), attestationObject=base64url(octets)))


@pytest.mark.parametrize(
    "attestation",
    [
        attested(data=b"\0" * 10),
        attested(data="text"),
        attested(data=authenticator_data(flags=5)),
        attested(data=authenticator_data(b"\xff\xff")),
        attested(data=authenticator_data(b"\x81" * 5000)),
        attested(data=authenticator_data(cbor2.dumps(5))),
        attested(data=authenticator_data(cbor2.dumps([1, 2, 3]))),
        attested(data=authenticator_data(cbor2.dumps({1: 2, 3: -7, -1: 1}))),
        attested(data=authenticator_data(flags=0x41)),
        attested(data=authenticator_data(flags=0x44)),
        attested(5, data=authenticator_data()),
        attested(data=authenticator_data(), kind=5),
        attested({"alg": -7, "sig": b"x", "x5c": [b"x"]}, kind="packed", data=authenticator_data()),
        attested({"sig": b"x", "x5c": [b"x"]}, kind="fido-u2f", data=authenticator_data()),
        attested({"ver": "2.0", "alg": -7, "sig": b"x", "x5c": [b"x"]}, kind="tpm", data=authenticator_data()),
        attested({"ver": "1", "response": b"a.b.c"}, kind="android-safetynet", data=authenticator_data()),
    ],
)
def test_an_attestation_with_something_amiss_is_refused(attestation: str) -> None:
    is_refused(answer(clientDataJSON=client_data("create"), attestationObject=attestation))


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_is_sent_is_refused(text: str) -> None:
    is_refused(text)
