"""The built wheel, installed into an empty environment, serves with all that travels in it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.demo_process import Demo, PortalClient

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, folder: Path) -> None:
    subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=300)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `broker` of an environment that holds the wheel and its pinned dependencies, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    run(sys.executable, *pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, folder=folder)
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    python = folder / "venv/bin/python"
    run(python, *pip, "install", "--require-hashes", "-r", ROOT / "requirements/demo.txt", folder=folder)
    (wheel,) = folder.glob("*.whl")
    run(python, *pip, "install", "--no-deps", wheel, folder=folder)
    return folder / "venv/bin/broker"


@pytest.fixture
def served(installed: Path, demo: Demo, tmp_path: Path) -> Iterator[str]:
    """The address of a production `broker serve` over the demo's directory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BROKER_")},
        "BROKER_SETTINGS": str(demo.settings),
        "BROKER_LISTEN__PORT": str(port),
        "BROKER_PUBLIC_URL": f"http://localhost:{port}",
        "BROKER_DATABASE__URL": f"sqlite:///{tmp_path}/broker.db",
        # The demo's own ones name the demo's address.
        "BROKER_OWN_ROLES__KEYS": str(tmp_path / "own-role-keys"),
    }
    for command in (("db", "upgrade"), ("keys", "new", "--for", "own-roles")):
        subprocess.run([installed, *command], check=True, timeout=60, env=environment, cwd=tmp_path)
    log = tmp_path / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen([installed, "serve"], env=environment, cwd=tmp_path, stderr=output, stdout=output)
    portal = f"http://localhost:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                PortalClient(portal).get("/healthz")
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield portal
    finally:
        process.terminate()
        assert process.wait(20) == 0
        assert "Traceback" not in log.read_text()


def test_the_installed_wheel_serves_pages_translations_and_migrations(served: str, demo: Demo) -> None:
    client = PortalClient(served, {"Accept-Language": "ja"})

    assert json.loads(client.get("/readyz").text)["status"] == "ready"
    assert "サインイン" in client.get("/login").text
    assert client.sign_in("alice", demo.password("alice")).status == 200
    assert client.get("/static/portal.css").status == 200
    assert "EntityDescriptor" in client.get("/saml/metadata").text
