"""TLS: a certificate that no trusted authority signed is refused by both adapters, whatever the environment says."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from broker.core.assertion import SignedAssertion
from broker.core.credentials import Secret
from broker.core.entitlements import Use
from broker.core.errors import ConsoleSignInUnavailable, TokenServiceUnavailable
from tests.adapters.aws.answering import answering
from tests.adapters.aws.conftest import impatient_console, impatient_sts
from tests.adapters.aws.exchange import exchange, sts_answer
from tests.core.examples import grant


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate of 127.0.0.1, signed by itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(private, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + made.public_bytes(Encoding.PEM))
    return path


def test_sts_behind_an_unknown_certificate_is_not_spoken_to(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with answering(certificate) as server:
        server.answer(200, sts_answer())
        with pytest.raises(TokenServiceUnavailable, match="SSLError"):
            impatient_sts(server.url).assume_role_with_saml(grant(), SignedAssertion("_id", Secret("x" * 40)), None)
        assert server.asked == []


def test_a_sign_in_service_behind_an_unknown_certificate_is_not_spoken_to(certificate: Path) -> None:
    with answering(certificate) as server:
        server.answer(200, '{"SigninToken": "x"}')
        with pytest.raises(ConsoleSignInUnavailable, match="SSLError"):
            impatient_console(server.url).sign_in_url(grant(use=Use.CONSOLE), exchange(), "https://x", "https://y")
        assert server.asked == []
