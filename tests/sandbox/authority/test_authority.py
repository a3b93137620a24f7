import socket
import ssl
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from broker.sandbox.authority import ServerCertificate, server_certificate

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def handshake(served: ServerCertificate, name: str, ca_file: Path | None = None) -> str | None:
    """The TLS version that a strict client and a server with this certificate agree on."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(served.chain_file)
    client_context = ssl.create_default_context(cafile=str(ca_file or served.ca_file))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    near, far = socket.socketpair()

    def answer() -> None:
        try:
            server_context.wrap_socket(far, server_side=True).close()
        except OSError:
            far.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with client_context.wrap_socket(near, server_hostname=name) as client:
            return client.version()
    finally:
        near.close()
        thread.join()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_strict_client_that_trusts_the_authority_accepts_the_server(tmp_path: Path, name: str) -> None:
    assert handshake(server_certificate(tmp_path, NOW), name) == "TLSv1.3"


@pytest.mark.parametrize("name", ["example.com", "localhost.example.com", "127.0.0.2"])
def test_the_server_is_nobody_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_certificate(tmp_path, NOW), name)


def test_two_folders_do_not_trust_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = server_certificate(tmp_path / "a", NOW), server_certificate(tmp_path / "b", NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(first, "localhost", second.ca_file)


def test_the_authority_can_speak_for_loopback_alone(tmp_path: Path) -> None:
    served = server_certificate(tmp_path, NOW)
    request = tmp_path / "bank.csr"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(tmp_path / "bank.key")]
    name = ["-subj", "/CN=bank.example", "-addext", "subjectAltName=DNS:bank.example"]
    subprocess.run(["openssl", "req", "-new", *options, *name, "-out", request], check=True, capture_output=True)
    forged = tmp_path / "bank.pem"
    issuer = ["-CA", str(served.ca_file), "-CAkey", str(tmp_path / "ca.key"), "-copy_extensions", "copy"]
    subprocess.run(
        ["openssl", "x509", "-req", "-in", request, *issuer, "-out", forged], check=True, capture_output=True
    )
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", served.ca_file, forged], check=False, capture_output=True, text=True
    )
    assert verified.returncode != 0
    assert "permitted subtree violation" in verified.stderr
    own = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", served.ca_file, served.chain_file],
        check=False,
        capture_output=True,
        text=True,
    )
    assert own.returncode == 0, own.stderr


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    server_certificate(tmp_path, NOW)
    for file in ("ca.key", "server.pem"):
        assert stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o600


def test_what_is_good_for_long_enough_is_kept(tmp_path: Path) -> None:
    first = server_certificate(tmp_path, NOW)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for days in (0, 1, 366):
        assert server_certificate(tmp_path, NOW + days * DAY) == first
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_server_certificate_about_to_end_is_renewed_under_the_same_authority(tmp_path: Path) -> None:
    first = server_certificate(tmp_path, NOW)
    authority, server = first.ca_file.read_bytes(), certificate(first.chain_file)
    later = NOW + 368 * DAY
    renewed = server_certificate(tmp_path, later)
    assert renewed.ca_file.read_bytes() == authority
    assert certificate(renewed.chain_file).serial_number != server.serial_number
    assert certificate(renewed.chain_file).not_valid_after_utc >= later + 396 * DAY


def test_an_authority_that_would_end_before_its_certificates_is_renewed_with_them(tmp_path: Path) -> None:
    first = server_certificate(tmp_path, NOW)
    authority = certificate(first.ca_file)
    later = authority.not_valid_after_utc - 400 * DAY
    renewed = server_certificate(tmp_path, later)
    assert certificate(renewed.ca_file).serial_number != authority.serial_number
    certificate(renewed.chain_file).verify_directly_issued_by(certificate(renewed.ca_file))


def test_a_clock_that_was_set_back_makes_a_certificate_for_now(tmp_path: Path) -> None:
    server_certificate(tmp_path, NOW + 100 * DAY)
    served = server_certificate(tmp_path, NOW)
    assert handshake(served, "localhost") == "TLSv1.3"


@pytest.mark.parametrize("file", ["ca.pem", "ca.key", "server.pem"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "foreign"])
def test_damaged_or_foreign_files_are_made_anew(tmp_path: Path, file: str, damage: str) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    server_certificate(folder, NOW)
    server_certificate(other, NOW)
    match damage:
        case "missing":
            (folder / file).unlink()
        case "empty":
            (folder / file).write_bytes(b"")
        case "cut":
            (folder / file).write_bytes((folder / file).read_bytes()[:150])
        case _:
            (folder / file).write_bytes((other / file).read_bytes())
    assert handshake(server_certificate(folder, NOW), "localhost") == "TLSv1.3"


def test_a_folder_that_is_missing_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        server_certificate(tmp_path / "missing", NOW)
