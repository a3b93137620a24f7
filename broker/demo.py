"""``broker demo``: the whole product on one machine, over the sandbox's directory and AWS stand-in.

What runs is the production code. Only here is it composed over addresses other than AWS's own, and those are checked
to be loopback ones; no setting leads here.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import quote

import click

from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.adapters.checkpoints import create_key
from broker.adapters.database import migrations
from broker.app import create_app
from broker.compose import Broker, accounts, compose, own_accounts, own_signing_keys, utc_now
from broker.core.errors import AddressInUse, BrokerError, ConfigurationInvalid, Fault
from broker.resources import resource
from broker.sandbox.aws.company import ACCOUNTS, found_company
from broker.sandbox.aws.revoker import found_revoker
from broker.sandbox.people import PEOPLE, SERVICE_DN, SERVICE_PASSWORD
from broker.server import PortalServer, check_address_free
from broker.settings import load_settings
from broker.web.request_log import configure_logging

_ADDRESS: Final = "127.0.0.1"
_STOP_WITHIN_SECONDS: Final = 5
# Browsers leave it out, and so do the settings.
_HTTP_PORT: Final = 80
# The name of this identity provider; it stays when the portal's port changes.
_ENTITY_ID: Final = "https://broker.corp.example/saml/metadata"

_SETTINGS: Final = """\
# Written anew at each start of the demo. While it runs, other commands can use it too:
#   broker entitlements explain alice --settings FILE
public_url = "http://localhost{of_port}"
company = "Example Corporation"
contact = "the service desk, service-desk@corp.example"
secret_file = "secret"

[listen]
port = {port}

[administration]
administrators = "Broker Administrators"
auditors = "Broker Auditors"

[directory]
kind = "active-directory"
servers = [{ldaps}]
ca_file = {ca_file}
bind_dn = "{bind_dn}"
bind_password_file = "bind-password"
user_bases = ["OU=People,DC=corp,DC=example"]
group_base = "OU=Groups,DC=corp,DC=example"
domains = [{{ name = "corp.example", netbios = "CORP" }}]
change_passwords = true

[attributes]
department = "department"

[database]
url = {database}

[audit]
checkpoint_key = "checkpoint-key.pem"
checkpoint_file = "checkpoints.jsonl"

[saml]
keys = "keys"
entity_id = "{entity_id}"

[own_roles]
revoker = "FederationBrokerRevoker"
keys = "own-role-keys"
revoke_within = "1m"


"""


def run_demo(folder: Path, port: int, describe: Path | None) -> None:
    """Run until Ctrl-C or SIGTERM.

    Args:
        folder: keeps all state; made when missing.
        port: of the portal; 0 for any.
        describe: file for a JSON description of what runs, written when it is ready.

    Raises:
        ConfigurationInvalid: the folder cannot be used, or the port is taken.
        BrokerError: a part did not start; its log is in the folder.
    """
    owner = os.getpid()
    port = port or _free_port()
    try:
        check_address_free(_ADDRESS, port)
    except AddressInUse as error:
        taken = error.faults[0]
        raise AddressInUse(Fault(taken.place, f"{taken.message} (DEMO_PORT names another, 0 takes any)")) from error
    if describe is not None and not describe.absolute().parent.is_dir():
        raise ConfigurationInvalid(Fault("DEMO_DESCRIBE", f"there is no folder {describe.absolute().parent}"))
    # Everything is on this machine; a company's proxy has no part in it.
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"
    try:
        _prepare(folder)
    except OSError as error:
        raise ConfigurationInvalid(Fault(str(folder), f"cannot be written: {error.strerror}")) from error
    with ExitStack() as parts:
        try:
            directory, aws = _start_sandbox(folder, parts)
            broker = _compose(folder, port, directory, aws)
        except KeyboardInterrupt:
            return
        configure_logging(stream=parts.enter_context(_private_log(folder / "portal.log")))
        people = tuple((person.username, person.password, person.note) for person in PEOPLE)
        description = _description(broker, directory, aws)

        def announce(_server: object) -> None:
            _announce(description)
            if describe is not None:
                _write_private(describe, json.dumps(description, ensure_ascii=False, indent=2).encode())

        try:
            PortalServer(
                lambda: create_app(broker.portal(demo_people=people)),
                broker.settings.listen,
                broker.background(),
                when_ready=announce,
                loglevel="warning",
            ).run()
        finally:
            if describe is not None and os.getpid() == owner:
                # It names addresses that are gone, and the stand-in's administrator.
                describe.unlink(missing_ok=True)


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = folder / "secret"
    if not secret.exists():
        _write_private(secret, secrets.token_bytes(48))
    _write_private(folder / "bind-password", SERVICE_PASSWORD.encode())
    checkpoint_key = folder / "checkpoint-key.pem"
    if not checkpoint_key.exists():
        create_key(checkpoint_key)
    entitlements = folder / "entitlements.toml"
    if not entitlements.exists():
        # A copy, so that it can be edited while the demo runs.
        _write_private(entitlements, resource("sandbox/entitlements.toml").read_bytes())


def _start_sandbox(folder: Path, parts: ExitStack) -> tuple[dict[str, Any], dict[str, Any]]:
    ldif = resource("sandbox/company.ldif")
    # Both at once: each spends its first second importing.
    directory = parts.enter_context(_part("directory", folder, ["--ldif", str(ldif)]))
    aws = parts.enter_context(_part("aws", folder, []))
    return directory(), aws()


@contextmanager
def _part(name: str, folder: Path, arguments: list[str]) -> Iterator[Callable[[], dict[str, Any]]]:
    """A process of the sandbox; calling what is yielded waits until it is ready and gives what it said."""
    state = folder / name
    log = folder / f"{name}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", f"broker.sandbox.{name}", "--state", str(state), *arguments],
            stdin=subprocess.PIPE,  # its end tells the part that we are gone, however that came about
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C in the terminal is ours to handle; we stop the parts after the portal
        )

    owner = os.getpid()

    def ready() -> dict[str, Any]:
        assert process.stdout is not None  # noqa: S101 - PIPE above
        line = process.stdout.readline()
        if not line:
            last = log.read_text(errors="replace").strip().rsplit("\n", 1)[-1]
            raise BrokerError(f"the demo's {name} did not start: {last} (its log: {log})")
        said: dict[str, Any] = json.loads(line)
        return said

    try:
        yield ready
    finally:
        # A worker of the portal is a fork, and leaves this block too when it ends: the part is not its to stop.
        if os.getpid() == owner:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _compose(folder: Path, port: int, directory: Mapping[str, Any], aws: Mapping[str, Any]) -> Broker:
    settings_file = folder / "broker.toml"
    text = _SETTINGS.format(
        port=port,
        of_port="" if port == _HTTP_PORT else f":{port}",
        # A JSON string is a TOML string too, whatever the folder is called.
        ldaps=json.dumps(directory["ldaps"]),
        ca_file=json.dumps(directory["ca_file"]),
        database=json.dumps(f"sqlite:///{quote(str(folder))}/broker.db"),
        bind_dn=SERVICE_DN,
        entity_id=_ENTITY_ID,
    )
    _write_private(settings_file, text.encode())
    # The demo's own file decides; settings of a real broker in the environment are none of its business.
    settings = load_settings(settings_file, environment={})
    broker = compose(settings, LoopbackEndpoints(aws["aws_endpoint"], aws["signin_endpoint"]))
    now = utc_now()
    if not (folder / "keys").exists():
        broker.keys.create(timedelta(days=365), 2048, now)
    broker.keys.sign_metadata()
    migrations.upgrade(settings.database.url, resource("alembic"))
    found_company(aws["aws_admin"], aws["aws_endpoint"], broker.keys.metadata(), [person.username for person in PEOPLE])
    broker.keys.confirm(accounts(settings), now)
    own_keys = own_signing_keys(settings)
    if not (folder / "own-role-keys").exists():
        own_keys.create(timedelta(days=365), 2048, now)
    own_keys.sign_metadata()
    own_keys.confirm(own_accounts(settings, accounts(settings)), now)
    found_revoker(aws["aws_admin"], aws["aws_endpoint"], own_keys.metadata())
    broker.check_at_start()
    return broker


def _description(broker: Broker, directory: Mapping[str, Any], aws: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "portal": broker.settings.public_url,
        "aws_endpoint": aws["aws_endpoint"],
        "signin_endpoint": aws["signin_endpoint"],
        # By number: OpenLDAP's tools check certificates against the machine's own name for "localhost".
        "ldap": directory["ldap"].replace("localhost", _ADDRESS),
        "people": [asdict(person) for person in PEOPLE],
        "accounts": [{"id": account.id, "name": account.name} for account in ACCOUNTS],
        "buckets": sorted(bucket for account in ACCOUNTS for bucket in account.buckets),
        "aws_admin": aws["aws_admin"],
    }


def _announce(description: Mapping[str, Any]) -> None:
    width = max(len(person.username) for person in PEOPLE)
    lines = [f"  {person.username:<{width}}  {person.password:<18} {person.note}" for person in PEOPLE]
    click.echo(
        f"\nThe portal is at {description['portal']}\n\nPeople who can sign in:\n" + "\n".join(lines) + "\n\n"
        f"AWS stand-in: {description['aws_endpoint']} (use it with --endpoint-url). Stop with Ctrl-C."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def _private_log(path: Path) -> TextIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8")


def _write_private(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)
