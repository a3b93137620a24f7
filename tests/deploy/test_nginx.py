"""deploy/nginx.conf in front of the portal's server, with a throwaway certificate."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.deploy.processes import DEPLOY, echo_server, free_port, running


@dataclass(frozen=True)
class Site:
    port: int
    plain_port: int
    folder: Path


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker.corp.example")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "fullchain.pem", folder / "privkey.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert nginx, "these tests need the Debian package nginx-light"
    folder = tmp_path_factory.mktemp("nginx")
    chain, private = certificate(folder)
    with echo_server(folder / "broker.log") as broker:
        port, plain = free_port(), free_port()
        text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
        text = re.sub(r"listen \[::\]:\d+( ssl)?;", "", text)
        text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
        text = text.replace("listen 80;", f"listen 127.0.0.1:{plain};")
        text = re.sub(r"/etc/ssl/\S+/fullchain\.pem", str(chain), text)
        text = re.sub(r"/etc/ssl/\S+/privkey\.pem", str(private), text)
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{broker.port}")
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log warn; worker_processes 1;\n"
            f"events {{ }}\nhttp {{ access_log off;\n"
            f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;"
            f" fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n{text}\n}}\n",
            encoding="utf-8",
        )
        folder.chmod(0o755)
        command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]
        subprocess.run([*command, "-t"], check=True, capture_output=True, timeout=20)
        with running(command, port, folder / "nginx.log", {}):
            yield Site(port, plain, folder)


def ask(
    site: Site, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, bytes]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a certificate that nobody signed; what is tested is the proxy
    connection = http.client.HTTPSConnection("127.0.0.1", site.port, context=context, timeout=10)
    try:
        connection.request(method, path, body=body if method == "POST" else None, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_what_a_client_claims_about_its_address_is_dropped(site: Site) -> None:
    status, body = ask(site, "GET", "/", {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"})

    told = json.loads(body)["headers"]
    assert status == 200
    assert told["X-Forwarded-For"] == "127.0.0.1"
    assert "203.0.113.9" not in body.decode()
    assert told["Host"] == "broker.corp.example"


def test_a_long_console_address_passes(site: Site) -> None:
    assert ask(site, "GET", "/redirect/20000")[0] == 303


def test_sign_ins_from_one_address_are_limited_and_pages_are_not(site: Site) -> None:
    posts = [ask(site, "POST", "/login")[0] for _ in range(60)]
    pages = [ask(site, "GET", "/login")[0] for _ in range(60)]

    assert posts[0] == 200
    assert 429 in posts
    assert 429 not in pages


def test_plain_http_leads_to_the_written_name_whatever_host_is_claimed(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.plain_port, timeout=10)
    try:
        connection.request("GET", "/admin/audit?kind=login.rejected", headers={"Host": "evil.example"})
        answer = connection.getresponse()
    finally:
        connection.close()

    assert answer.status == 301
    assert answer.headers["Location"] == "https://broker.corp.example/admin/audit?kind=login.rejected"


def test_a_body_is_held_in_memory_or_refused(site: Site) -> None:
    status, answer = ask(site, "POST", "/page", body=b"x" * 1_000_000)
    assert (status, json.loads(answer)["body"]) == (200, 1_000_000)
    assert ask(site, "POST", "/page", body=b"x" * 1_100_000)[0] == 413
    # nginx says so when it buffers a request or a response to a file.
    assert "temporary file" not in (site.folder / "error.log").read_text(encoding="utf-8")
