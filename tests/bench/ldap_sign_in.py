"""How much a sign-in through the directory adapter costs on top of the bare exchange with the server.

``python -m tests.bench.ldap_sign_in [--rounds N]``, against OpenLDAP and Active Directory (Samba). The bare exchange
sends the same requests, encoded beforehand, over kept TLS connections and reads the answers without looking at them: it
is 1.0. Ways are interleaved with it, medians count; the goal is 2.0 at most for kept connections.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ldap3
from ldap3.utils.conv import escape_filter_chars

from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.connection import Connection, SearchAnswer
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.adapters.directory.messages import Message, Search, bind_request, message_length, search_request
from broker.core.credentials import Secret
from tests.adapters.directory import company, domain, samba
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.slapd import Slapd

_SEARCH_DONE: Final = 0x65
_BIND_RESPONSE: Final = 0x61
_GOAL: Final = 2.0


@dataclass(frozen=True)
class Server:
    name: str
    config: DirectoryConfig
    service_password: str
    username: str
    password: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for server in _servers(Path(folder)):
            _compare(server, options.rounds)


def _compare(server: Server, rounds: int) -> None:
    kept = LdapDirectory(server.config, Secret(server.service_password))
    requests = _requests_of(kept, server)
    bare = Bare(server)
    ways: dict[str, Callable[[], object]] = {
        "bare exchange, kept": lambda: bare.exchange(requests),
        "adapter, kept": lambda: authenticate(kept, server.username, Secret(server.password)),
        "adapter, without a password": lambda: kept.principal_by_username(server.username),
        "adapter, new connections": lambda: _fresh(server),
        "ldap3, kept, same requests": Ldap3(server).sign_in,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            if name == "adapter, new connections" and number % 10:
                continue
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    kept.close()
    reference = statistics.median(times["bare exchange, kept"])
    print(f"{server.name}: {len(requests)} requests for one sign-in, {rounds} rounds")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"  {name:32} {median * 1e6:8.0f} µs  {median / reference:6.2f}")
    ratio = statistics.median(times["adapter, kept"]) / reference
    print(f"  goal: {_GOAL}; {'met' if ratio <= _GOAL else 'MISSED'}")


@dataclass(frozen=True)
class Request:
    """``on_bind``: on the connection that passwords are tried on."""

    octets: bytes
    on_bind: bool


def _requests_of(directory: LdapDirectory, server: Server) -> list[Request]:
    """What the adapter sends for one sign-in on kept connections."""
    sent: list[Request] = []
    original_search, original_bind = Connection.search, Connection.bind

    def noted_search(self: Connection, search: Search, deadline: float) -> SearchAnswer:
        sent.append(Request(search_request(1, search), on_bind=False))
        return original_search(self, search, deadline)

    def noted_bind(self: Connection, dn: str, password: Secret, deadline: float) -> Message:
        sent.append(Request(bind_request(1, dn, password), on_bind=True))
        return original_bind(self, dn, password, deadline)

    authenticate(directory, server.username, Secret(server.password))
    Connection.search, Connection.bind = noted_search, noted_bind  # type: ignore[method-assign] # only to listen
    try:
        authenticate(directory, server.username, Secret(server.password))
    finally:
        Connection.search, Connection.bind = original_search, original_bind  # type: ignore[method-assign]
    return sent


class Bare:
    """Two kept TLS connections that send octets and read answers up to the last one."""

    def __init__(self, server: Server) -> None:
        address = server.config.addresses[0]
        context = ssl.create_default_context(cafile=server.config.ca_file)
        self._streams = []
        for _ in range(2):
            plain = socket.create_connection((address.host, address.port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._streams.append(context.wrap_socket(plain, server_hostname=address.host))
        service = bind_request(1, server.config.bind_dn, Secret(server.service_password))
        self.exchange([Request(service, on_bind=False)])

    def exchange(self, requests: list[Request]) -> None:
        for request in requests:
            stream = self._streams[request.on_bind]
            stream.sendall(request.octets)
            received = b""
            last = False
            while not last:
                received += stream.recv(65536)
                while (length := message_length(received)) is not None and len(received) >= length:
                    header = 2 if received[1] < 0x80 else received[1] - 0x80 + 2
                    last = received[header + 3] in (_SEARCH_DONE, _BIND_RESPONSE)
                    received = received[length:]


class Ldap3:
    """The library's own connections, kept: one of the service account, one for passwords."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._schema = server.config.schema
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(server.config.ca_file))
        where = ldap3.Server(server.config.servers[0], tls=tls, get_info=ldap3.NONE)
        self._service = ldap3.Connection(where, server.config.bind_dn, server.service_password, auto_bind=True)
        self._person = ldap3.Connection(where, server.config.bind_dn, server.service_password, auto_bind=True)
        for connection in (self._service, self._person):
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def sign_in(self) -> None:
        config, schema = self._server.config, self._schema
        names = "".join(f"({attribute}={self._server.username})" for attribute in schema.login_attributes)
        attributes = [schema.username_attribute, schema.id_attribute, schema.display_name_attribute]
        self._service.search(config.user_bases[0], f"(&{schema.user_filter}(|{names}))", attributes=attributes)
        dn = self._found()[0]["dn"]
        assert self._person.rebind(dn, self._server.password)
        if config.kind is DirectoryKind.ACTIVE_DIRECTORY:
            self._service.search(dn, "(objectClass=*)", search_scope="BASE", attributes=["tokenGroups"])
            return
        level = [dn]
        found: set[str] = set()
        while level:
            members = "".join(f"(member={escape_filter_chars(name)})" for name in level)
            self._service.search(config.group_base, f"(&{schema.group_filter}(|{members}))", attributes=["cn"])
            level = [entry["dn"] for entry in self._found() if entry["dn"] not in found]
            found.update(level)

    def _found(self) -> list[dict[str, str]]:
        return list(self._service.response or ())


def _fresh(server: Server) -> None:
    directory = LdapDirectory(server.config, Secret(server.service_password))
    authenticate(directory, server.username, Secret(server.password))
    directory.close()


@contextmanager
def _running(server: Slapd | samba.Samba) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


def _servers(folder: Path) -> Iterator[Server]:
    authority = Authority(folder / "authority")
    ldif = company.ldif() + company.crowd(people=10_000, groups=100)
    slapd = Slapd(folder / "slapd", authority.issue("127.0.0.1"), ldif, service_dn=company.SERVICE_DN)
    with _running(slapd):
        config = DirectoryConfig(
            servers=(slapd.tls_url,),
            bind_dn=company.SERVICE_DN,
            user_bases=(company.PEOPLE,),
            group_base=company.GROUPS,
            kind=DirectoryKind.OPENLDAP,
            ca_file=authority.certificate,
        )
        password = company.SERVICE_PASSWORD
        yield Server("OpenLDAP, 2 groups", config, password, "carla", company.password_of("carla"))
        yield Server("OpenLDAP, 5 nested groups", config, password, "alice", company.password_of("alice"))
    samba.provision(folder / "domain")
    controller = samba.Samba(folder / "domain", folder / "dc", authority)
    with _running(controller):
        config = DirectoryConfig(
            servers=(controller.ldaps,),
            bind_dn=domain.SERVICE_DN,
            user_bases=(domain.PEOPLE,),
            group_base=domain.GROUPS,
            kind=DirectoryKind.ACTIVE_DIRECTORY,
            ca_file=authority.certificate,
        )
        yield Server("Samba", config, domain.SERVICE_PASSWORD, "alice", domain.password_of("alice"))


if __name__ == "__main__":
    main()
