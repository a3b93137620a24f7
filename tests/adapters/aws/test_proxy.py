"""Through a proxy or not: the setting alone decides, for STS and console sign-in alike."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import botocore.httpsession
import pytest

from broker.core.assertion import SignedAssertion
from broker.core.credentials import Secret
from broker.core.entitlements import Use
from broker.core.errors import ConsoleSignInUnavailable, TokenServiceUnavailable
from tests.adapters.aws.answering import answering
from tests.adapters.aws.conftest import impatient_console, impatient_sts
from tests.adapters.aws.exchange import SESSION_TOKEN, exchange, sts_answer
from tests.core.examples import grant

ASSERTION = SignedAssertion("_id", Secret("QXNzZXJ0aW9u" * 20))
VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


class TunnelingProxy:
    """Takes CONNECT and passes bytes on, to loopback only; remembers what it was asked and what it saw."""

    def __init__(self) -> None:
        self.connects: list[str] = []
        self.seen = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        self._listener.settimeout(0.1)
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._tunnel, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._listener.close()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        request = head.split(b"\r\n", 1)[0].decode()
        self.connects.append(request)
        method, target, _ = request.split(" ")
        if method != "CONNECT":
            client.close()
            return
        host, _, port = target.rpartition(":")
        with client, socket.create_connection((host, int(port))) as upstream:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            other = {client: upstream, upstream: client}
            while not self._stopped.is_set():
                for ready in select.select(list(other), [], [], 0.1)[0]:
                    try:
                        data = ready.recv(65536)
                    except ConnectionResetError:  # how a side ends that refuses the other's certificate
                        return
                    if not data:
                        return
                    self.seen += data
                    other[ready].sendall(data)


@contextmanager
def tunneling() -> Iterator[TunnelingProxy]:
    proxy = TunnelingProxy()
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(5)
        proxy.close()


@pytest.fixture
def proxy() -> Iterator[TunnelingProxy]:
    with tunneling() as running:
        yield running


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The certificate of 127.0.0.1, among those that this process trusts for the length of a test."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(botocore.httpsession, "where", lambda: str(certificate))
    return certificate


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that names a proxy which does not answer."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)


def exchanged(url: str, proxy: str | None) -> None:
    impatient_sts(url, proxy=proxy).assume_role_with_saml(grant(), ASSERTION, None)


def signed_in(url: str, proxy: str | None) -> None:
    impatient_console(url, proxy=proxy).sign_in_url(grant(use=Use.CONSOLE), exchange(), "https://x", "https://y")


FACES = [
    pytest.param(exchanged, sts_answer(), id="STS"),
    pytest.param(signed_in, '{"SigninToken": "token-1"}', id="console sign-in"),
]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(("ask", "answer"), FACES)
def test_the_proxy_of_the_settings_tunnels_and_sees_nothing(
    proxy: TunnelingProxy, trusted: Path, ask: object, answer: str
) -> None:
    assert callable(ask)
    with answering(trusted) as server:
        server.answer(200, answer)
        ask(server.url, proxy.url)
        assert len(server.asked) == 1
    assert [request.rsplit(" ", 1)[0] for request in proxy.connects] == [
        f"CONNECT {server.url.removeprefix('https://')}"
    ]
    assert proxy.seen
    assert not [secret for secret in (ASSERTION.response.reveal(), SESSION_TOKEN) if secret.encode() in proxy.seen]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(("ask", "answer"), FACES)
@pytest.mark.parametrize("tls", [True, False])
def test_without_the_setting_no_proxy_of_the_environment_is_asked(
    trusted: Path, ask: object, answer: str, *, tls: bool
) -> None:
    assert callable(ask)
    with answering(trusted if tls else None) as server:
        server.answer(200, answer)
        ask(server.url, None)
        assert len(server.asked) == 1


@pytest.mark.parametrize(("ask", "answer"), FACES)
def test_a_proxy_that_does_not_answer_is_an_outage_and_not_gone_round(trusted: Path, ask: object, answer: str) -> None:
    assert callable(ask)
    with answering(trusted) as server, socket.socket() as taken:
        server.answer(200, answer)
        taken.bind(("127.0.0.1", 0))
        with pytest.raises((TokenServiceUnavailable, ConsoleSignInUnavailable)):
            ask(server.url, f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert server.asked == []


@pytest.mark.parametrize(("ask", "answer"), FACES)
def test_behind_a_proxy_the_certificate_is_verified_too(
    proxy: TunnelingProxy, certificate: Path, ask: object, answer: str
) -> None:
    assert callable(ask)
    with answering(certificate) as server:
        server.answer(200, answer)
        with pytest.raises((TokenServiceUnavailable, ConsoleSignInUnavailable), match="SSLError"):
            ask(server.url, proxy.url)
        assert server.asked == []
