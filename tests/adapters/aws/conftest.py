"""The stand-in for AWS, a server that answers as told, and a fence around this machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from broker.adapters.aws.console import FederationSignIn
from broker.adapters.aws.endpoints import AwsEndpoints, LoopbackEndpoints
from broker.adapters.aws.sts import StsTokenService
from broker.adapters.saml.metadata import build_metadata
from broker.adapters.signing_keys import FileSigningKey, SigningKeyFolder
from broker.core.ports import Clock
from broker.sandbox.aws.company import found_company
from tests.adapters.aws.answering import AnsweringServer, answering
from tests.adapters.aws.exchange import ENTITY_ID, SIGN_ON
from tests.sandbox.aws.process import StandIn, running_stand_in

TIMEOUT = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here ever asks for the address of another machine or connects to one."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def connect_here(self: socket.socket, address: Any) -> None:
        assert ipaddress.ip_address(address[0]).is_loopback, f"a test tried to reach {address}"
        connect(self, address)

    def resolve_here(host: Any, *arguments: Any, **named: Any) -> Any:
        assert ipaddress.ip_address(host).is_loopback, f"a test tried to resolve {host}"
        return resolve(host, *arguments, **named)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> FileSigningKey:
    folder = SigningKeyFolder(tmp_path_factory.mktemp("keys"))
    return folder.create_first("Federation Broker", timedelta(days=365), 2048, datetime.now(UTC))


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory, key: FileSigningKey) -> Iterator[StandIn]:
    """A real process of the stand-in, its company founded with our own metadata."""
    with running_stand_in(tmp_path_factory.mktemp("aws")) as running:
        metadata = build_metadata(ENTITY_ID, SIGN_ON, key)
        found_company(running.aws_admin, running.aws_endpoint, metadata, ["hanako", "ken", "cost$center"])
        yield running


@pytest.fixture(scope="session")
def endpoints(stand_in: StandIn) -> LoopbackEndpoints:
    return LoopbackEndpoints(stand_in.aws_endpoint, stand_in.signin_endpoint)


@pytest.fixture(scope="session")
def sts(endpoints: LoopbackEndpoints) -> StsTokenService:
    patient = timedelta(seconds=20)
    return StsTokenService(
        endpoints,
        connect_timeout=patient,
        read_timeout=patient,
        deadline=patient,
        proxy=None,
        threads=4,
        clock=lambda: datetime.now(UTC),
    )


@pytest.fixture(scope="session")
def console(endpoints: LoopbackEndpoints) -> FederationSignIn:
    patient = timedelta(seconds=20)
    return FederationSignIn(endpoints, connect_timeout=patient, read_timeout=patient, proxy=None, threads=4)


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with answering() as running:
        yield running


def impatient_sts(
    url: str,
    *,
    endpoints: AwsEndpoints | None = None,
    deadline: timedelta = 5 * TIMEOUT,
    proxy: str | None = None,
    clock: Clock = lambda: datetime.now(UTC),
) -> StsTokenService:
    """The adapter with a timeout of a second."""
    return StsTokenService(
        endpoints or LoopbackEndpoints(url, url),
        connect_timeout=TIMEOUT,
        read_timeout=TIMEOUT,
        deadline=deadline,
        proxy=proxy,
        threads=4,
        clock=clock,
    )


def impatient_console(url: str, *, proxy: str | None = None) -> FederationSignIn:
    """The same for console sign-in."""
    endpoints = LoopbackEndpoints(url, url)
    return FederationSignIn(endpoints, connect_timeout=TIMEOUT, read_timeout=TIMEOUT, proxy=proxy, threads=4)


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
