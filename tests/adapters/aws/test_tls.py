"""TLS: a certificate that no trusted authority signed is refused by both adapters, whatever the environment says."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.core.assertion import SignedAssertion
from broker.core.credentials import Secret
from broker.core.entitlements import Use
from broker.core.errors import ConsoleSignInUnavailable, TokenServiceUnavailable
from tests.adapters.aws.answering import answering
from tests.adapters.aws.conftest import impatient_console, impatient_sts
from tests.adapters.aws.exchange import exchange, sts_answer
from tests.core.examples import grant


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
