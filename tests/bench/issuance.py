"""How many whole issuances per second the running server does, beside the same exchange done bare.

``python -m tests.bench.issuance [--rounds N] [--seconds N] [--issuances N]``. One issuance proves a person with a
password at slapd over TLS, signs an assertion, exchanges it at STS and leaves two durable rows in PostgreSQL. It is
done against two kinds of STS, the AWS stand-in and a fixed answer over TLS: the stand-in verifies what it gets, and
takes its part of the machine for it. Two things are counted at the server: a journey is what a browser does (sign-in
form, sign-in, home page, credentials), an issuance in a session is its last step alone. The floor is the bare exchange
in as many processes and threads as the server has: prepared LDAP requests over kept connections, the assertion with the
same key, http.client, psycopg. The naive way makes new LDAP connections that read the schema, and a new SDK client for
each call; it is as bare as the floor, with no web server and no session, so the goal over it is harder than it sounds.
Ways are interleaved, medians count; clients share the machine with everything else.

With ``--issuances`` it also looks whether a worker grows: its memory after the first tenth against that at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import multiprocessing
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.cookies import SimpleCookie
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import boto3
import botocore.httpsession
import ldap3
import psycopg
from botocore import UNSIGNED
from botocore.config import Config

from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.adapters.checkpoints import create_key
from broker.adapters.database import migrations
from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.adapters.entitlements_file import EntitlementsFile
from broker.adapters.saml.assertion import SamlAssertionSigner
from broker.adapters.signing_keys import SigningKeyFolder
from broker.app import create_app
from broker.compose import compose, signing_keys
from broker.core.assertion import claims_for
from broker.core.audit import new_event_id
from broker.core.credentials import Secret
from broker.core.entitlements import Grant, Narrowing, Use, authorize
from broker.core.session_policy import policy_for
from broker.resources import resource
from broker.sandbox.aws.company import found_company
from broker.server import PortalServer
from broker.settings import load_settings
from broker.web.request_log import configure_logging
from tests.adapters.aws.exchange import sts_answer
from tests.adapters.database.postgresql import PostgresqlServer
from tests.adapters.directory import company
from tests.adapters.directory.certificates import Authority, ServerFiles
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.slapd import Slapd
from tests.bench import ldap_sign_in
from tests.bench.audit_insert import COLUMNS, EVENT
from tests.sandbox.aws.process import running_stand_in

if TYPE_CHECKING:
    from mypy_boto3_sts.type_defs import AssumeRoleWithSAMLRequestTypeDef

WORKERS: Final = 2
THREADS: Final = 4
CLIENTS: Final = (1, 8)
GOAL_OF_THE_FLOOR: Final = 0.5
GOAL_OVER_NAIVE: Final = 6
GOAL_OF_GROWTH: Final = 0.05
READY_WITHIN_SECONDS: Final = 30
REGION: Final = "ap-northeast-1"
ENTITY_ID: Final = "https://broker.corp.example/saml/metadata"
# Each client has some of its own, since the broker counts attempts by person, and is one after the other: somebody with
# a thousand sessions of their own would be shown all of them on the front page.
PEOPLE: Final = [f"person-{number}" for number in range(50 * max(CLIENTS))]
PASSWORD: Final = company.password_of("person")
GROUP: Final = "Bench Staff"

SETTINGS: Final = """\
public_url = "http://localhost:{port}"
secret_file = "secret"

[listen]
port = {port}
workers = {workers}
threads = {threads}

[administration]
administrators = "engineers"

[directory]
kind = "openldap"
servers = ["{ldaps}"]
ca_file = "{ca_file}"
bind_dn = "{bind_dn}"
bind_password_file = "bind-password"
user_bases = ["{people}"]
group_base = "{groups}"

[database]
url = "{database}"

[saml]
keys = "keys"
entity_id = "{entity_id}"
"""

ENTITLEMENTS: Final = """\
[accounts.files]
id = "111122223333"
name = "Company files"
saml_provider = "arn:aws:iam::111122223333:saml-provider/broker"
region = "{region}"

[[entitlement]]
id = "home"
name = "My files"
account = "files"
role = "StaffFiles"
groups = ["{group}"]
duration = "8h"
uses = ["terminal"]
s3 = [
  {{ bucket = "corp-home", prefix = "{{username}}/", access = "read-write" }},
  {{ bucket = "corp-shared", prefix = "handbook/", access = "read" }},
]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="0 measures no speed")
    parser.add_argument("--seconds", type=float, default=3, help="of each way in each round")
    parser.add_argument("--issuances", type=int, default=1000, help="for the memory of a worker; 0 does not look at it")
    parser.add_argument("--serve", nargs=4, metavar=("SETTINGS", "STS", "SIGNIN", "CA"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(*asked.serve)
        return
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with everything_running() as (fixed, stand_in):
        if asked.rounds:
            for one in (fixed, stand_in):
                compare_speed(one, asked.rounds, asked.seconds)
        if asked.issuances:
            compare_memory(fixed, asked.issuances)
    print(f"load average after: {os.getloadavg()[0]:.1f}")


@dataclass(frozen=True)
class Place:
    """One STS, and everything that issues against it.

    Attributes:
        name: of the STS.
        portal: address of the running server.
        server: its parent process.
    """

    name: str
    portal: str
    server: int
    floor: Pool
    naive: Pool

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.server}/task/{self.server}/children").read_text().split()
        return sorted(map(int, children))


def compare_speed(place: Place, rounds: int, seconds: float) -> None:
    visitors = _visitors(place)
    ways: dict[str, Callable[[int], float]] = {
        "floor": lambda clients: place.floor.per_second(clients, seconds),
        "server, journey": lambda clients: per_second([one.journey for one in visitors[:clients]], seconds),
        "server, in a session": lambda clients: per_second([one.issue for one in visitors[:clients]], seconds),
        "naive": lambda clients: place.naive.per_second(clients, seconds),
    }
    for visitor in visitors:
        visitor.journey()  # connects, imports, fills caches
    rates: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for clients, (name, way) in itertools.product(CLIENTS, ways.items()):
            rate = way(clients)
            if number:
                rates[name, clients].append(rate)
    print(f"\nSTS: {place.name}; issuances per second, {rounds} rounds of {seconds:g} s")
    for clients in CLIENTS:
        medians = {name: statistics.median(rates[name, clients]) for name in ways}
        floor, naive, journey = medians["floor"], medians["naive"], medians["server, journey"]
        for name, rate in medians.items():
            lowest, highest = min(rates[name, clients]), max(rates[name, clients])
            print(f"  clients {clients}  {name:22} {rate:7.1f} ({lowest:.1f} to {highest:.1f})   {rate / floor:5.2f}")
        goals = ((journey / floor, GOAL_OF_THE_FLOOR, "of the floor"), (journey / naive, GOAL_OVER_NAIVE, "× naive"))
        for ratio, goal, unit in goals:
            print(f"  clients {clients}  a journey is {ratio:.2f} {unit}, goal {goal}: {_verdict(met=ratio >= goal)}")
    print("  one journey with nobody else, by its steps:")
    alone = _visitors(place)[0]
    for _ in range(50):
        alone.journey()
    for step, times in alone.times.items():
        print(f"    {step:28} {statistics.median(times) * 1000:6.1f} ms")


def compare_memory(place: Place, issuances: int) -> None:
    visitors = _visitors(place)
    workers = place.workers()
    tenth = max(issuances // 10, len(visitors))
    _repeat([one.journey for one in visitors], tenth)
    before = [_memory(worker) for worker in workers]
    _repeat([one.journey for one in visitors], issuances - tenth)
    after = [_memory(worker) for worker in workers]
    assert place.workers() == workers, "a worker was replaced"
    print(f"\nmemory of a worker, after {tenth} and after {issuances} issuances in all of them:")
    for early, late in zip(before, after, strict=True):
        growth = late / early - 1
        verdict = _verdict(met=growth <= GOAL_OF_GROWTH)
        print(f"  {early:6.1f} MB {late:6.1f} MB   {growth:+.1%}, goal {GOAL_OF_GROWTH:.0%} at most: {verdict}")


def _visitors(place: Place) -> list[Visitor]:
    return [Visitor(place.portal, PEOPLE[number :: max(CLIENTS)]) for number in range(max(CLIENTS))]


def _memory(process: int) -> float:
    """Resident, in MB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def _verdict(*, met: bool) -> str:
    return "met" if met else "MISSED"


def per_second(works: Sequence[Callable[[], object]], seconds: float) -> float:
    """How often all of them together are done, each again and again in a thread of its own."""
    began = time.perf_counter()

    def repeat(work: Callable[[], object]) -> int:
        for done in itertools.count():
            if time.perf_counter() - began >= seconds:
                return done
            work()
        raise AssertionError

    with ThreadPoolExecutor(len(works)) as threads:
        done = sum(threads.map(repeat, works))
    return done / (time.perf_counter() - began)


def _repeat(works: Sequence[Callable[[], object]], times: int) -> None:
    """So many in all, each of the works in a thread of its own."""

    def repeat(work: Callable[[], object], share: int) -> None:
        for _ in range(share):
            work()

    shares = [len(range(number, times, len(works))) for number in range(len(works))]
    with ThreadPoolExecutor(len(works)) as threads:
        list(threads.map(repeat, works, shares))


class Visitor:
    """A browser behind a proxy: a new connection for each request, as nginx makes them; cookies are kept.

    Attributes:
        times: seconds of each step of its journeys.
    """

    def __init__(self, portal: str, usernames: Sequence[str]) -> None:
        self._address = urlsplit(portal)
        self._usernames = itertools.cycle(usernames)
        self._cookies: dict[str, str] = {}
        self._token = ""
        self.times: defaultdict[str, list[float]] = defaultdict(list)

    def journey(self) -> None:
        """Sign in as the next one, who was signed out, and take credentials."""
        self._cookies = {}
        form = self._ask("sign-in form", "GET", "/login", 200)
        typed = {"csrf_token": _token(form), "next": "", "username": next(self._usernames), "password": PASSWORD}
        self._ask("sign-in", "POST", "/login", 303, typed)
        self._token = _token(self._ask("home page", "GET", "/", 200))
        self.issue()

    def issue(self) -> None:
        """Take credentials in the session that is there."""
        answer = self._ask("credentials", "POST", "/issue/home/credentials", 200, {"csrf_token": self._token})
        assert json.loads(answer)["SecretAccessKey"]

    def _ask(self, step: str, method: str, path: str, status: int, fields: dict[str, str] | None = None) -> str:
        began = time.perf_counter()
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=60)
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items()),
            "Accept": "application/json" if step == "credentials" else "text/html",
            "Content-Type": "application/x-www-form-urlencoded",
            "Connection": "close",
        }
        connection.request(method, path, urlencode(fields).encode() if fields else None, headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        assert answer.status == status, f"{step}: {answer.status} {body[:2000]}"
        for given in answer.headers.get_all("Set-Cookie", ()):
            self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(given).items()}
        self.times[step].append(time.perf_counter() - began)
        return body


def _token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None, page[:2000]
    return found[1]


class Pool:
    """As many processes and threads as the server has; each thread keeps what its work keeps.

    Made before this process has threads of its own, as it forks.
    """

    def __init__(self, make_work: Callable[[str], Callable[[], object]]) -> None:
        self._ends: list[Connection] = []
        self._processes = []
        context = multiprocessing.get_context("fork")
        for number in range(WORKERS):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=self._work, args=(theirs, make_work, PEOPLE[number : max(CLIENTS) : WORKERS]), daemon=True
            )
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)

    def per_second(self, clients: int, seconds: float) -> float:
        shares = [len(range(number, clients, WORKERS)) for number in range(WORKERS)]
        busy = [(end, share) for end, share in zip(self._ends, shares, strict=True) if share]
        for end, share in busy:
            end.send((share, seconds))
        return float(sum(end.recv() for end, _ in busy))

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    @staticmethod
    def _work(end: Connection, make_work: Callable[[str], Callable[[], object]], people: Sequence[str]) -> None:
        works = [make_work(username) for username in people]
        while True:
            threads, seconds = end.recv()
            end.send(per_second(works[:threads], seconds))


@dataclass(frozen=True)
class Bare:
    """What the bare ways share.

    Attributes:
        sts: its address.
        conninfo: of a database of their own, with the same tables.
        grants: of each person.
        requests: what the adapter sends the directory for each person's sign-in.
    """

    directory: DirectoryConfig
    sts: str
    ca_file: Path
    conninfo: str
    signer: SamlAssertionSigner
    grants: dict[str, Grant]
    requests: dict[str, list[ldap_sign_in.Request]]

    def floor(self, username: str) -> Callable[[], None]:
        directory = ldap_sign_in.Bare(_server(self.directory, username))
        insert = self._insert()
        sts = urlsplit(self.sts)
        host = sts.hostname or ""
        connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, sts.port, context=ssl.create_default_context(cafile=self.ca_file))
            if sts.scheme == "https"
            else http.client.HTTPConnection(host, sts.port)
        )

        def exchange(body: str) -> bytes:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/", body.encode(), headers)
            return connection.getresponse().read()

        def work() -> None:
            directory.exchange(self.requests[username])
            insert()
            body = urlencode({"Action": "AssumeRoleWithSAML", "Version": "2011-06-15", **self._call(username)})
            try:
                answer = exchange(body)
            except ConnectionError:  # nobody asked for a while, and the server closed it
                connection.close()
                answer = exchange(body)
            assert b"<SecretAccessKey>" in answer, answer
            insert()

        return work

    def naive(self, username: str) -> Callable[[], None]:
        insert = self._insert()
        # Making a session takes ten times as long again; nobody is that naive.
        session = boto3.Session(region_name=REGION)
        config = Config(signature_version=UNSIGNED)
        schema = self.directory.schema
        attributes = [schema.username_attribute, schema.id_attribute, schema.display_name_attribute]

        def connect(dn: str, password: str) -> ldap3.Connection:
            tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(self.ca_file))
            return ldap3.Connection(ldap3.Server(self.directory.servers[0], tls=tls), dn, password, auto_bind=True)

        def work() -> None:
            service = connect(self.directory.bind_dn, company.SERVICE_PASSWORD)
            service.search(company.PEOPLE, f"(uid={username})", attributes=attributes)
            dn = service.entries[0].entry_dn
            connect(dn, PASSWORD).unbind()
            service.search(company.GROUPS, f"(member={dn})", attributes=["cn"])
            service.unbind()
            insert()
            sts = session.client("sts", endpoint_url=self.sts, verify=str(self.ca_file), config=config)
            call = self._call(username)
            assert sts.assume_role_with_saml(**call)["Credentials"]
            sts.close()
            insert()

        return work

    def _call(self, username: str) -> AssumeRoleWithSAMLRequestTypeDef:
        """What STS is asked; the policy is made each time, as each grant could be another one."""
        grant, now = self.grants[username], datetime.now(UTC)
        policy = policy_for(grant)
        assert policy is not None
        return {
            "RoleArn": grant.role_arn,
            "PrincipalArn": grant.saml_provider_arn,
            "SAMLAssertion": self.signer.sign(claims_for(grant, ENTITY_ID, now, now)).response.reveal(),
            "Policy": policy.json,
            "DurationSeconds": int(grant.duration.total_seconds()),
        }

    def _insert(self) -> Callable[[], object]:
        connection = psycopg.connect(self.conninfo, autocommit=True)
        places = ", ".join(["%s"] * len(COLUMNS))
        statement = f"INSERT INTO audit_event ({', '.join(COLUMNS)}) VALUES ({places})".encode()  # noqa: S608 - constants

        def insert() -> None:
            event = replace(EVENT, id=new_event_id(), time=datetime.now(UTC))
            connection.execute(statement, [*(getattr(event, name) for name in COLUMNS[:-1]), "3" * 64])

        return insert


def _server(directory: DirectoryConfig, username: str) -> ldap_sign_in.Server:
    return ldap_sign_in.Server("OpenLDAP", directory, company.SERVICE_PASSWORD, username, PASSWORD)


@contextmanager
def everything_running() -> Iterator[tuple[Place, Place]]:
    """The fixed answer and the stand-in, each with a server and bare ways of its own; the rest is shared."""
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        authority = Authority(folder / "authority")
        postgresql = PostgresqlServer(durable=True)
        parts.callback(postgresql.remove)
        postgresql.start()
        directory = parts.enter_context(_directory(folder, authority))
        stand_in = parts.enter_context(running_stand_in(folder / "aws"))
        fixed_url = parts.enter_context(_fixed_sts(authority.issue("127.0.0.1")))
        addresses = {"a fixed answer over TLS": fixed_url, "the stand-in": stand_in.aws_endpoint}

        place_folder = folder / "broker"
        place_folder.mkdir()
        (place_folder / "entitlements.toml").write_text(ENTITLEMENTS.format(region=REGION, group=GROUP))
        for name, secret in (("secret", os.urandom(48)), ("bind-password", company.SERVICE_PASSWORD.encode())):
            (place_folder / name).touch(mode=0o600)
            (place_folder / name).write_bytes(secret)
        create_key(place_folder / "checkpoint-key.pem")

        settings_files, ports = [], [_free_port() for _ in addresses]
        for number, port in enumerate(ports):
            settings_file = place_folder / f"broker-{number}.toml"
            settings_file.write_text(
                SETTINGS.format(
                    port=port,
                    workers=WORKERS,
                    threads=THREADS,
                    ldaps=directory.servers[0],
                    ca_file=directory.ca_file,
                    bind_dn=directory.bind_dn,
                    people=company.PEOPLE,
                    groups=company.GROUPS,
                    database=_database(postgresql)[0],
                    entity_id=ENTITY_ID,
                )
            )
            settings_files.append(settings_file)
        keys = signing_keys(load_settings(settings_files[0], environment={}))
        keys.create(timedelta(days=365), 2048, datetime.now(UTC))
        keys.sign_metadata()
        found_company(stand_in.aws_admin, stand_in.aws_endpoint, keys.metadata(), PEOPLE)

        adapter = LdapDirectory(directory, Secret(company.SERVICE_PASSWORD))
        parts.callback(adapter.close)
        catalogue = EntitlementsFile(place_folder / "entitlements.toml", {}, adapter.group).catalogue()
        held = next(one for one in catalogue.entitlements if one.id == "home")
        now = datetime.now(UTC)
        principals = {name: authenticate(adapter, name, Secret(PASSWORD)) for name in PEOPLE}
        bare = Bare(
            directory=directory,
            sts="",
            ca_file=authority.certificate,
            conninfo=_database(postgresql)[1],
            signer=SamlAssertionSigner(SigningKeyFolder(place_folder / "keys").active(now)),
            grants={name: authorize(one, held, Use.TERMINAL, Narrowing(), now) for name, one in principals.items()},
            requests={name: ldap_sign_in._requests_of(adapter, _server(directory, name)) for name in PEOPLE},
        )
        pools = []
        for url in addresses.values():
            at_this_sts = replace(bare, sts=url)
            pools.append((Pool(at_this_sts.floor), Pool(at_this_sts.naive)))
        for pool in itertools.chain(*pools):
            parts.callback(pool.stop)
        places = []
        for (name, url), settings_file, port, (floor, naive) in zip(
            addresses.items(), settings_files, ports, pools, strict=True
        ):
            arguments = [str(settings_file), url, stand_in.signin_endpoint, str(authority.certificate)]
            server = parts.enter_context(_served(arguments, port, folder / f"{port}.log"))
            places.append(Place(name, f"http://localhost:{port}", server, floor, naive))
        yield places[0], places[1]


def _database(postgresql: PostgresqlServer) -> tuple[str, str]:
    """A new one with our tables: its address for the broker, and for psycopg."""
    name = postgresql.create_database()
    migrations.upgrade(postgresql.url(name), resource("alembic"))
    return postgresql.url(name), postgresql.conninfo(name)


@contextmanager
def _directory(folder: Path, authority: Authority) -> Iterator[DirectoryConfig]:
    members = [f"uid={username},{company.PEOPLE}" for username in PEOPLE]
    staff = company.entry(f"cn={GROUP},{company.GROUPS}", objectClass="groupOfNames", cn=GROUP, member=members)
    ldif = company.ldif() + company.crowd(people=1_000, groups=100) + staff
    slapd = Slapd(folder / "slapd", authority.issue("127.0.0.1"), ldif, service_dn=company.SERVICE_DN)
    slapd.start()
    try:
        yield DirectoryConfig(
            servers=(slapd.tls_url,),
            bind_dn=company.SERVICE_DN,
            user_bases=(company.PEOPLE,),
            group_base=company.GROUPS,
            kind=DirectoryKind.OPENLDAP,
            ca_file=authority.certificate,
        )
    finally:
        slapd.stop()


@contextmanager
def _fixed_sts(files: ServerFiles) -> Iterator[str]:
    """An STS that reads whose session is asked for, and nothing else: what is measured against it is ours."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=lambda: asyncio.run(_answer_always(listening, files)), daemon=True)
    process.start()
    try:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        process.terminate()
        process.join()
        listening.close()


async def _answer_always(listening: socket.socket, files: ServerFiles) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                asked = parse_qs(await reader.readexactly(int(length[1]) if length else 0))
                # The broker refuses another session than the one it asked for.
                named = re.search(rb"RoleSessionName.*?AttributeValue>([^<]+)", b64decode(asked[b"SAMLAssertion"][0]))
                session = named[1].decode() if named else ""
                expiration = datetime.now(UTC) + timedelta(hours=8)
                body = sts_answer(
                    Expiration=expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    Arn=f"arn:aws:sts::111122223333:assumed-role/StaffFiles/{session}",
                    AssumedRoleId=f"AROAEXAMPLE:{session}",
                ).encode()
                about = f"Content-Type: text/xml\r\nDate: {formatdate(usegmt=True)}\r\nContent-Length: {len(body)}"
                writer.write(f"HTTP/1.1 200 OK\r\n{about}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(converse, sock=listening, ssl=context)
    await server.serve_forever()


@contextmanager
def _served(arguments: Sequence[str], port: int, log: Path) -> Iterator[int]:
    """The server in a process of its own; its id."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.issuance", "--serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_PROXY": "127.0.0.1,localhost"},
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not _is_ready(port):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def serve(settings_file: str, sts: str, signin: str, ca_file: str) -> None:
    """What ``broker serve`` does, over addresses that no setting can name, until SIGTERM."""
    # Nor can a setting name a CA for AWS: the one of the fixed answer takes the place of the SDK's own bundle.
    botocore.httpsession.where = lambda: ca_file
    broker = compose(load_settings(Path(settings_file), environment={}), LoopbackEndpoints(sts, signin))
    broker.check_at_start()
    configure_logging()
    broker.warn_at_start()
    PortalServer(lambda: create_app(broker.portal()), broker.settings.listen, broker.background()).run()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("localhost", port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
