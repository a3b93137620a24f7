"""TLS: a certificate that no trusted authority signed is refused by both adapters, whatever the environment says."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.core.assertion import SignedAssertion
from broker.core.credentials import Secret
from broker.core.entitlements import Use
from broker.core.errors import ConsoleSignInUnavailable, TokenServiceUnavailable
from tests.adapters.aws.answering import answering, cutting_off
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
        with capture_logs() as log, pytest.raises(ConsoleSignInUnavailable, match="SSLError"):
            impatient_console(server.url).sign_in_url(grant(use=Use.CONSOLE), exchange(), "https://x", "https://y")
        assert server.asked == []
    # It is not going to be another certificate in a moment.
    assert [line["number"] for line in log] == [1]


def test_a_sign_in_service_that_ends_the_handshake_is_tried_once_more() -> None:
    with cutting_off() as url, capture_logs() as log, pytest.raises(ConsoleSignInUnavailable):
        impatient_console(url).sign_in_url(grant(use=Use.CONSOLE), exchange(), "https://x", "https://y")
    assert [line["number"] for line in log] == [1, 2]
