"""Servers that are down, hang, lie or refuse; several servers; many threads."""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.directory.config import GroupMembership
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import DirectoryUnavailable, LoginCause, LoginRejected
from tests.adapters.directory import company
from tests.adapters.directory.certificates import Authority, ServerFiles
from tests.adapters.directory.company import password_of
from tests.adapters.directory.conftest import MakeDirectory, MakeSlapd
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.programs import free_port
from tests.adapters.directory.proxy import BIND, SEARCH, Action, Proxy
from tests.adapters.directory.slapd import SUFFIX, Slapd

# Servers that hang are told from slow ones within a second.
pytestmark = pytest.mark.alone

# Long enough that a slow moment of the machine is not taken for a hanging server.
TIMEOUT = 1.0
QUICK = {"connect_timeout": timedelta(seconds=TIMEOUT), "operation_timeout": timedelta(seconds=TIMEOUT)}
ONE_TIMEOUT = 1.9 * TIMEOUT
NO_TIMEOUT = 0.9 * TIMEOUT
LOAD_THREADS = 8

MakeProxy = Callable[..., Proxy]


@pytest.fixture
def make_proxy(authority: Authority, slapd: Slapd) -> Iterator[MakeProxy]:
    """Misbehaving servers in front of the shared slapd."""
    proxies: list[Proxy] = []

    def make(behaviour: Callable[[int], Action] | None = None, *names: str) -> Proxy:
        proxy = Proxy(authority.issue(*(names or ("127.0.0.1",))), slapd.port)
        if behaviour is not None:
            proxy.behaviour = behaviour
        proxies.append(proxy)
        return proxy

    yield make
    for proxy in proxies:
        proxy.stop()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took < seconds, f"took {took:.2f} s"


def alice(directory: LdapDirectory) -> str:
    return authenticate(directory, "alice", Secret(password_of("alice"))).username


def unavailable(directory: LdapDirectory) -> str:
    with pytest.raises(DirectoryUnavailable) as down:
        alice(directory)
    return str(down.value)


def only_for(tag: int, action: Action, times: int = 1_000_000) -> Callable[[int], Action]:
    """That action for the first requests of that kind."""
    left = [times]

    def behaviour(asked: int) -> Action:
        if asked != tag or left[0] == 0:
            return Action.FORWARD
        left[0] -= 1
        return action

    return behaviour


# --- One server in trouble ---------------------------------------------------------------------------------------


def test_no_server_at_the_address_is_said_at_once(make_directory: MakeDirectory) -> None:
    port = free_port()
    directory = make_directory(servers=(f"ldaps://127.0.0.1:{port}",))
    with within(1):
        assert unavailable(directory) == (
            f"no directory server answers: ldaps://127.0.0.1:{port}: connection: Connection refused"
        )
    for question in (directory.check, lambda: directory.group("staff"), lambda: directory.principal_by_id("A" * 26)):
        with pytest.raises(DirectoryUnavailable):
            question()


def test_a_name_that_does_not_resolve_is_said(make_directory: MakeDirectory) -> None:
    directory = make_directory(servers=("ldaps://dc1.invalid",))
    assert "ldaps://dc1.invalid:636: its name does not resolve" in unavailable(directory)


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_a_server_that_accepts_and_says_nothing_costs_one_timeout(
    make_directory: MakeDirectory, silent: int, scheme: str
) -> None:
    directory = make_directory(servers=(f"{scheme}://127.0.0.1:{silent}",), start_tls=scheme == "ldap", **QUICK)
    with within(ONE_TIMEOUT):
        assert "no answer in time" in unavailable(directory)


@pytest.mark.parametrize("action", [Action.SILENCE, Action.DRIP])
def test_a_server_that_hangs_or_drips_in_a_search_costs_one_timeout(
    make_directory: MakeDirectory, make_proxy: MakeProxy, action: Action
) -> None:
    directory = make_directory(servers=(make_proxy(only_for(SEARCH, action)).url,), **QUICK)
    with within(ONE_TIMEOUT):
        assert "search: no answer in time" in unavailable(directory)


@pytest.mark.parametrize("action", [Action.RESET, Action.TRUNCATE, Action.GARBAGE, Action.MISMATCH, Action.NOTICE])
@pytest.mark.parametrize("tag", [SEARCH, BIND])
def test_a_server_that_breaks_off_or_talks_nonsense_is_unavailable(
    make_directory: MakeDirectory, make_proxy: MakeProxy, action: Action, tag: int
) -> None:
    proxy = make_proxy(only_for(tag, action))
    directory = make_directory(servers=(proxy.url,))
    with within(2):
        assert proxy.url in unavailable(directory)
    proxy.behaviour = lambda _: Action.FORWARD
    assert alice(directory) == "alice"


def test_a_notice_of_disconnection_is_quoted(make_directory: MakeDirectory, make_proxy: MakeProxy) -> None:
    directory = make_directory(servers=(make_proxy(only_for(SEARCH, Action.NOTICE)).url,))
    assert "the server ends the connection: shutting down" in unavailable(directory)


def test_a_certificate_of_another_authority_is_refused(make_directory: MakeDirectory, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "Somebody else's CA")
    assert "its certificate is refused" in unavailable(make_directory(ca_file=stranger.certificate))
    assert "its certificate is refused" in unavailable(make_directory(ca_file=None))


def test_an_expired_certificate_is_refused(make_directory: MakeDirectory, authority: Authority, slapd: Slapd) -> None:
    proxy = Proxy(authority.issue("127.0.0.1", until=timedelta(hours=-1)), slapd.port)
    assert "certificate has expired" in unavailable(make_directory(servers=(proxy.url,)))
    proxy.stop()


def test_a_certificate_for_another_host_is_refused(make_directory: MakeDirectory, make_proxy: MakeProxy) -> None:
    proxy = make_proxy(None, "dc2.corp.example", "127.0.0.9")
    assert "IP address mismatch" in unavailable(make_directory(servers=(proxy.url,)))
    by_name = make_directory(servers=(proxy.url.replace("127.0.0.1", "localhost"),))
    assert "Hostname mismatch" in unavailable(by_name)
    assert proxy.requests == []


def test_a_server_that_refuses_starttls_is_never_sent_a_password(make_directory: MakeDirectory) -> None:
    # What slapd without a certificate answers: ExtendedResponse, protocolError.
    heard = answer_once(bytes.fromhex("300c02010178070a01020400") + b"\x04\x00")
    directory = make_directory(servers=(heard.url,), start_tls=True, **QUICK)
    assert "it refuses StartTLS: 2" in unavailable(directory)
    assert b"1.3.6.1.4.1.1466.20037" in heard.octets
    assert company.SERVICE_PASSWORD.encode() not in heard.octets


def test_an_answer_to_starttls_that_is_none_is_refused(make_directory: MakeDirectory) -> None:
    directory = make_directory(servers=(answer_once(b"220 mail.example ESMTP\r\n").url,), start_tls=True, **QUICK)
    assert "StartTLS: the server does not speak LDAP" in unavailable(directory)


def test_octets_in_the_clear_after_starttls_are_not_taken_for_answers(make_directory: MakeDirectory) -> None:
    injected = bytes.fromhex("300c02010178070a01000400") + b"\x04\x00" + bytes.fromhex("300c02010261070a010004000400")
    directory = make_directory(servers=(answer_once(injected).url,), start_tls=True, **QUICK)
    assert "in the clear" in unavailable(directory)


class answer_once:  # noqa: N801 - reads as what it does
    """A plain server that hears one request and gives that answer."""

    def __init__(self, answer: bytes) -> None:
        self.octets = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ldap://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, args=(answer,), daemon=True).start()

    def _serve(self, answer: bytes) -> None:
        with self._listener, self._listener.accept()[0] as client:
            self.octets = client.recv(4096)
            client.sendall(answer)
            while chunk := client.recv(4096):
                self.octets += chunk


# --- The service account -----------------------------------------------------------------------------------------


def test_a_refused_service_account_is_said_with_the_settings_to_check(make_directory: MakeDirectory) -> None:
    directory = make_directory(password="not the password")
    text = unavailable(directory)
    assert company.SERVICE_DN in text
    assert "result 49, wrong-password" in text
    assert "directory.bind_dn" in text
    assert "directory.bind_password_file" in text
    assert "not the password" not in text


def test_a_service_account_that_must_change_its_password_is_refused_too(make_directory: MakeDirectory) -> None:
    text = unavailable(make_directory(bind_dn=company.RESET_SERVICE_DN))
    assert "result 0, password policy 2, must-change-password" in text


def test_a_locked_service_account_is_said_to_be_locked(make_directory: MakeDirectory, make_slapd: MakeSlapd) -> None:
    server = make_slapd()
    server.modify(
        f"dn: {company.SERVICE_DN}\nchangetype: modify\n"
        f"replace: pwdPolicySubentry\npwdPolicySubentry: cn=default,ou=policies,{SUFFIX}\n"
    )
    for _ in range(3):
        assert "wrong-password" in unavailable(make_directory(password="not it", servers=(server.tls_url,)))
    text = unavailable(make_directory(servers=(server.tls_url,)))
    assert "result 49, password policy 1, locked" in text
    assert "whether the account is disabled, expired or locked; it is tried again after 5 s" in text


def test_a_service_account_whose_name_is_no_dn_is_said_to_be_refused(make_directory: MakeDirectory) -> None:
    text = unavailable(make_directory(bind_dn="broker"))
    assert "'broker' was refused" in text
    assert "result 34" in text


def test_a_refused_service_account_is_asked_again_in_time_and_all_is_well(
    make_directory: MakeDirectory, make_slapd: MakeSlapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hold in ("_HOLD_SECONDS", "_WRONG_PASSWORD_HOLD_SECONDS"):
        monkeypatch.setattr(f"broker.adapters.directory.servers.{hold}", (0.2, 0.2))
    server = make_slapd()
    directory = make_directory(password="tomorrow's password", servers=(server.tls_url,))
    assert "was refused" in unavailable(directory)
    server.modify(
        f"dn: {company.SERVICE_DN}\nchangetype: modify\nreplace: userPassword\nuserPassword: tomorrow's password\n"
    )
    assert "was refused" in unavailable(directory)
    time.sleep(0.3)
    assert alice(directory) == "alice"


def test_a_refused_service_account_is_not_tried_again_at_every_sign_in_nor_on_every_server(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    first, second = make_proxy(), make_proxy()
    directory = make_directory(password="not the password", servers=(first.url, second.url))
    texts = {unavailable(directory) for _ in range(5)}
    assert len(texts) == 1
    assert (first.count(BIND), second.count(BIND)) == (1, 0)


def test_a_wrong_password_of_the_service_account_is_tried_once_however_many_ask_at_once(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    def slowly(_: int) -> Action:
        time.sleep(0.05)
        return Action.FORWARD

    proxy = make_proxy(slowly)
    directory = make_directory(password="rotated away", servers=(proxy.url,))
    with ThreadPoolExecutor(16) as threads:
        texts = set(threads.map(lambda _: unavailable(directory), range(16)))
    (text,) = texts
    assert "tried again after 900 s, or a restart" in text
    assert proxy.count(BIND) == 1


# --- Names and addresses -----------------------------------------------------------------------------------------


@pytest.fixture
def unreachable(slapd: Slapd) -> Iterator[str]:
    """An address that takes no connection and refuses none: its queue is full."""
    address = "127.0.0.77"
    with socket.socket() as listener, ExitStack() as queue:
        listener.bind((address, slapd.tls_port))
        listener.listen(0)
        for _ in range(3):
            waiting = queue.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex((address, slapd.tls_port))
        yield address


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str, after: float = 0.0) -> list[str]:
    """Let every name resolve to those; the names that were asked for."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        time.sleep(after)
        if not addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr("broker.adapters.directory.addresses.socket.getaddrinfo", resolve)
    return asked


def test_one_dead_address_of_a_name_costs_nothing_but_its_head_start(
    make_directory: MakeDirectory, slapd: Slapd, unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, unreachable, "127.0.0.1")
    directory = make_directory(servers=(slapd.tls_url.replace("127.0.0.1", "localhost"),), **QUICK)
    with within(NO_TIMEOUT):
        assert alice(directory) == "alice"
    directory.close()
    # From now on the other one is tried first.
    with within(0.2):
        assert alice(directory) == "alice"


def test_an_address_that_accepts_and_hangs_is_not_tried_first_again(
    make_directory: MakeDirectory, slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "127.0.0.77", "127.0.0.1")
    with socket.create_server(("127.0.0.77", slapd.tls_port)):
        directory = make_directory(servers=(slapd.tls_url.replace("127.0.0.1", "localhost"),), **QUICK)
        assert "no answer in time" in unavailable(directory)
        time.sleep(1.1)  # the first back-off
        with within(NO_TIMEOUT):
            assert alice(directory) == "alice"


def test_where_no_address_takes_a_connection_one_timeout_says_so(
    make_directory: MakeDirectory, slapd: Slapd, unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, unreachable, "127.0.0.78")
    directory = make_directory(servers=(slapd.tls_url.replace("127.0.0.1", "localhost"),), **QUICK)
    with within(ONE_TIMEOUT):
        assert "connection: no answer in time" in unavailable(directory)


def test_name_servers_that_are_slow_make_the_first_sign_in_slow_and_no_other(
    make_directory: MakeDirectory, slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolve_to(monkeypatch, "127.0.0.1", after=2 * TIMEOUT)
    directory = make_directory(servers=(slapd.tls_url.replace("127.0.0.1", "localhost"),), **QUICK)
    assert alice(directory) == "alice"
    directory.close()
    with within(NO_TIMEOUT):
        assert alice(directory) == "alice"
    assert asked == ["localhost"]


def test_a_name_that_was_known_is_used_while_no_name_server_answers(
    make_directory: MakeDirectory, slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.adapters.directory.addresses._FRESH_SECONDS", 0.1)
    resolve_to(monkeypatch, "127.0.0.1")
    directory = make_directory(servers=(slapd.tls_url.replace("127.0.0.1", "localhost"),), **QUICK)
    assert alice(directory) == "alice"
    asked = resolve_to(monkeypatch, after=0.3)
    time.sleep(0.2)
    for _ in range(3):
        directory.close()
        with within(NO_TIMEOUT):
            assert alice(directory) == "alice"
        time.sleep(0.2)
    assert len(asked) > 1


def test_a_name_that_moves_is_followed(
    make_directory: MakeDirectory, slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.adapters.directory.addresses._FRESH_SECONDS", 0.1)
    resolve_to(monkeypatch, "127.0.0.78")
    directory = make_directory(servers=(slapd.tls_url.replace("127.0.0.1", "localhost"),), **QUICK)
    assert "Connection refused" in unavailable(directory)
    resolve_to(monkeypatch, "127.0.0.1")
    time.sleep(0.2)
    unavailable(directory)  # this one finds out, and does not wait for it
    time.sleep(1.1)
    assert alice(directory) == "alice"


# --- Several servers ---------------------------------------------------------------------------------------------


def test_a_dead_server_is_left_for_the_next_and_asked_again_when_it_is_back(
    make_directory: MakeDirectory, make_slapd: MakeSlapd, make_proxy: MakeProxy
) -> None:
    first, second = make_slapd(), make_proxy()
    directory = make_directory(servers=(first.tls_url, second.url))
    assert alice(directory) == "alice"
    assert second.requests == []
    first.stop()
    with within(1):
        assert alice(directory) == "alice"
    asked = len(second.requests)
    assert asked > 0
    first.start()
    time.sleep(1.1)  # the first back-off
    assert alice(directory) == "alice"  # on the second still: the first is tried meanwhile, and nobody waits for it
    asked_again = len(second.requests)
    assert asked_again > asked
    time.sleep(0.3)
    assert alice(directory) == "alice"
    assert len(second.requests) == asked_again


def test_a_hanging_server_costs_one_sign_in_one_timeout_and_the_next_none(
    make_directory: MakeDirectory, make_slapd: MakeSlapd, slapd: Slapd
) -> None:
    first = make_slapd()
    directory = make_directory(servers=(first.tls_url, slapd.tls_url), **QUICK)
    assert alice(directory) == "alice"
    first.pause()
    with within(ONE_TIMEOUT):
        assert alice(directory) == "alice"
    with within(NO_TIMEOUT):
        assert alice(directory) == "alice"


def test_a_server_that_accepts_and_says_nothing_is_left_for_the_next(
    make_directory: MakeDirectory, silent: int, slapd: Slapd
) -> None:
    directory = make_directory(servers=(f"ldaps://127.0.0.1:{silent}", slapd.tls_url), **QUICK)
    with within(ONE_TIMEOUT):
        assert alice(directory) == "alice"
    with within(NO_TIMEOUT):
        assert alice(directory) == "alice"


def test_no_sign_in_waits_to_find_out_whether_a_hanging_server_is_back(
    make_directory: MakeDirectory, silent: int, slapd: Slapd
) -> None:
    directory = make_directory(servers=(f"ldaps://127.0.0.1:{silent}", slapd.tls_url), **QUICK)
    assert alice(directory) == "alice"
    time.sleep(1.1)  # the first back-off

    def timed(_: int) -> float:
        start = time.monotonic()
        alice(directory)
        return time.monotonic() - start

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(timed, range(32))) < NO_TIMEOUT


def test_a_server_with_a_wrong_certificate_is_left_for_the_next(
    make_directory: MakeDirectory, make_proxy: MakeProxy, slapd: Slapd
) -> None:
    directory = make_directory(servers=(make_proxy(None, "dc2.corp.example").url, slapd.tls_url))
    assert alice(directory) == "alice"


@pytest.mark.parametrize("action", [Action.RESET, Action.TRUNCATE, Action.GARBAGE])
def test_a_server_that_breaks_off_a_search_is_left_for_the_next(
    make_directory: MakeDirectory, make_proxy: MakeProxy, action: Action
) -> None:
    directory = make_directory(servers=(make_proxy(only_for(SEARCH, action)).url, make_proxy().url))
    assert alice(directory) == "alice"


@pytest.mark.parametrize("tag", [BIND, SEARCH])
def test_a_busy_server_is_left_for_the_next(make_directory: MakeDirectory, make_proxy: MakeProxy, tag: int) -> None:
    first, second = make_proxy(only_for(tag, Action.BUSY)), make_proxy()
    assert alice(make_directory(servers=(first.url, second.url))) == "alice"
    assert "result 51" in unavailable(make_directory(servers=(first.url,))) or tag == SEARCH


def test_a_server_that_is_too_busy_to_judge_a_password_has_answered(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    first, second = make_proxy(), make_proxy()
    directory = make_directory(servers=(first.url, second.url))
    directory.check()
    first.behaviour = only_for(BIND, Action.BUSY)
    assert "could not judge a password: result 51" in unavailable(directory)
    assert second.count(BIND) == 0


def test_many_hanging_servers_do_not_cost_a_timeout_each(make_directory: MakeDirectory) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(5)]
        urls = tuple(f"ldaps://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners)
        directory = make_directory(servers=urls, **QUICK)
        with within(2.9 * TIMEOUT):
            text = unavailable(directory)
    assert urls[0] in text
    assert urls[4] not in text


@pytest.mark.parametrize("number", [1, 2])
def test_while_every_server_hangs_one_request_finds_out_and_the_others_are_told_at_once(
    make_directory: MakeDirectory, number: int
) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        urls = tuple(f"ldaps://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners)
        directory = make_directory(servers=urls, **QUICK)
        unavailable(directory)

        def told(_: int) -> bool:
            """Whether one is told at once."""
            start = time.monotonic()
            text = unavailable(directory)
            at_once = time.monotonic() - start < 0.5 * TIMEOUT
            assert at_once == ("it was silent a moment ago" in text)
            return at_once

        with ThreadPoolExecutor(8) as threads:
            waited = [*threads.map(told, range(32))].count(False)
        assert waited <= number


def test_a_single_server_that_hung_is_asked_again_when_it_is_back(
    make_directory: MakeDirectory, make_slapd: MakeSlapd
) -> None:
    server = make_slapd()
    directory = make_directory(servers=(server.tls_url,), **QUICK)
    assert alice(directory) == "alice"
    server.pause()
    unavailable(directory)
    server.resume()
    time.sleep(1.1)
    assert alice(directory) == "alice"


def test_five_thousand_groups_of_one_person_are_read_in_few_round_trips_and_no_server_is_left_for_them(
    make_directory: MakeDirectory, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    listed = tuple(f"cn=throng {number},{company.GROUPS}" for number in range(5000))
    entries = company.ldif() + company.crowd(0, 5000) + company.person("crowded", memberOf=listed)
    server = Slapd(tmp_path / "slapd", authority.issue("127.0.0.1"), entries, service_dn=company.SERVICE_DN)
    server.start()
    far = FarAway(authority.issue("127.0.0.1"), server.port, seconds=0.02)
    try:
        directory = make_directory(servers=(far.url,), membership=GroupMembership.MEMBER_OF)
        principal = authenticate(directory, "crowded", Secret(password_of("crowded")))
        assert len(principal.groups) == 5000
        # However long one person's groups take, a server that goes on answering does not hang.
        impatient = make_directory(
            servers=(far.url,), membership=GroupMembership.MEMBER_OF, operation_timeout=timedelta(seconds=1)
        )
        for _ in range(2):
            with pytest.raises(DirectoryUnavailable, match=r"takes longer than directory\.operation_timeout"):
                authenticate(impatient, "crowded", Secret(password_of("crowded")))
            assert alice(impatient) == "alice"
    finally:
        far.stop()
        server.stop()
    assert "left for" not in caplog.text


class FarAway:
    """A wire in front of a server on which octets travel for a while, in each direction."""

    def __init__(self, files: ServerFiles, backend_port: int, *, seconds: float) -> None:
        self._seconds = seconds
        self._backend_port = backend_port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(files.certificate, files.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ldaps://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with (
            suppress(OSError),
            self._tls.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self._backend_port)) as backend,
        ):
            client.settimeout(0)
            with selectors.DefaultSelector() as either:
                either.register(client, selectors.EVENT_READ, backend)
                either.register(backend, selectors.EVENT_READ, client)
                while True:
                    for key, _ in either.select():
                        # All that came in one go travels together, as on a real wire.
                        chunks = [*_read_all(key.fileobj)]
                        if not chunks:
                            return
                        time.sleep(self._seconds)
                        client.settimeout(5)
                        key.data.sendall(b"".join(chunks))
                        client.settimeout(0)


def _read_all(stream: Any) -> Iterator[bytes]:
    while True:
        try:
            stream.settimeout(0)
            chunk = stream.recv(1 << 20)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        if not chunk:
            return
        yield chunk


def test_groups_are_read_from_the_next_server_when_the_first_dies_after_the_bind(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    searches = iter(range(1000))
    first = make_proxy(lambda tag: Action.RESET if tag == SEARCH and next(searches) > 0 else Action.FORWARD)
    second = make_proxy()
    directory = make_directory(servers=(first.url, second.url))
    principal = authenticate(directory, "alice", Secret(password_of("alice")))
    assert {group.name for group in principal.groups} >= {"engineers", "staff"}
    # The first: service account, person, service account on a new connection; the person's bind is not repeated.
    assert (first.count(BIND), second.count(BIND)) == (3, 1)


@pytest.mark.parametrize("action", [Action.RESET, Action.SILENCE, Action.TRUNCATE, Action.GARBAGE])
def test_a_password_that_was_sent_is_sent_to_no_other_server(
    make_directory: MakeDirectory, make_proxy: MakeProxy, action: Action
) -> None:
    first, second = make_proxy(), make_proxy()
    directory = make_directory(servers=(first.url, second.url), **QUICK)
    directory.check()  # the service account's own bind
    first.behaviour = only_for(BIND, action)
    assert "after the password was sent" in unavailable(directory)
    assert (first.count(BIND), second.count(BIND)) == (2, 0)
    assert alice(directory) == "alice"  # on the second server


def test_a_refused_password_is_sent_once(make_directory: MakeDirectory, make_proxy: MakeProxy) -> None:
    first, second = make_proxy(), make_proxy()
    directory = make_directory(servers=(first.url, second.url))
    directory.check()
    with pytest.raises(LoginRejected):
        authenticate(directory, "typist", Secret("wrong"))
    authenticate(directory, "typist", Secret(password_of("typist")))
    assert (first.count(BIND), second.count(BIND)) == (3, 0)


def test_a_connection_that_cannot_be_opened_for_the_bind_sends_the_password_elsewhere(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    first, second = make_proxy(), make_proxy()
    directory = make_directory(servers=(first.url, second.url))

    def dies_after_the_search(tag: int) -> Action:
        if tag == SEARCH:
            first.refuse()
        return Action.FORWARD

    first.behaviour = dies_after_the_search
    assert alice(directory) == "alice"
    assert second.count(BIND) > 0
    second.refuse()
    second.drop_all()
    assert "Connection refused" in unavailable(directory)


def test_a_server_that_dies_before_the_bind_is_unavailable(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy()
    directory = make_directory(servers=(proxy.url,))
    directory.check()
    proxy.refuse()
    assert "connection: Connection refused" in unavailable(directory)
    assert proxy.count(BIND) == 1


# --- Kept connections --------------------------------------------------------------------------------------------


def test_connections_are_kept_and_used_again(make_directory: MakeDirectory, make_proxy: MakeProxy) -> None:
    proxy = make_proxy()
    directory = make_directory(servers=(proxy.url,))
    for _ in range(10):
        assert alice(directory) == "alice"
    assert proxy.connections == 2
    assert proxy.count(BIND) == 11  # the service account bound once


def test_a_kept_connection_that_the_server_closed_is_replaced_without_losing_the_sign_in(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy()
    directory = make_directory(servers=(proxy.url,))
    assert alice(directory) == "alice"
    proxy.drop_all()
    assert alice(directory) == "alice"
    assert proxy.connections == 4


def test_a_restarted_server_loses_no_sign_in(make_directory: MakeDirectory, make_slapd: MakeSlapd) -> None:
    server = make_slapd()
    directory = make_directory(servers=(server.tls_url,))
    assert alice(directory) == "alice"
    server.stop()
    server.start()
    assert alice(directory) == "alice"


def test_a_kept_search_connection_that_breaks_in_use_is_replaced(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy()
    directory = make_directory(servers=(proxy.url,))
    assert alice(directory) == "alice"
    proxy.behaviour = only_for(SEARCH, Action.RESET, times=1)
    assert alice(directory) == "alice"


def test_many_threads_share_the_adapter(make_directory: MakeDirectory, make_proxy: MakeProxy) -> None:
    proxy = make_proxy()
    directory = make_directory(servers=(proxy.url,))
    people = ("alice", "bruno", "carla")

    def one(number: int) -> bool:
        username = people[number % 3]
        if number % 5 == 0:
            try:
                authenticate(directory, "nobody", Secret("x"))
            except LoginRejected as refused:
                return refused.cause is LoginCause.UNKNOWN_USERNAME
            return False
        principal = authenticate(directory, username, Secret(password_of(username)))
        return principal.username == username and principal == directory.principal_by_id(principal.id)

    with ThreadPoolExecutor(12) as threads:
        assert all(threads.map(one, range(240)))
    assert proxy.connections <= 24


@dataclass
class Attempt:
    """One sign-in under load, in seconds of ``time.monotonic``."""

    began: float
    ended: float
    failure: str | None


@contextmanager
def load(directory: LdapDirectory) -> Iterator[list[Attempt]]:
    """Eight threads that sign one person in, again and again."""
    attempts: list[Attempt] = []
    stop = threading.Event()

    def sign_in() -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                alice(directory)
                failure = None
            except DirectoryUnavailable as error:
                failure = str(error)
            attempts.append(Attempt(began, time.monotonic(), failure))

    threads = [threading.Thread(target=sign_in) for _ in range(LOAD_THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    yield attempts
    stop.set()
    for thread in threads:
        thread.join()


def test_a_killed_server_under_load_loses_no_sign_in_beyond_those_in_flight(
    make_directory: MakeDirectory, make_slapd: MakeSlapd, slapd: Slapd
) -> None:
    first = make_slapd()
    with load(make_directory(servers=(first.tls_url, slapd.tls_url))) as attempts:
        killed = time.monotonic()
        first.stop()
        time.sleep(0.5)
    lost = [attempt for attempt in attempts if attempt.failure is not None]
    assert sum(attempt.began > killed for attempt in attempts) > 50
    assert len(lost) <= LOAD_THREADS
    assert all(attempt.failure and "after the password was sent" in attempt.failure for attempt in lost), lost


def test_a_hanging_server_under_load_costs_those_in_flight_one_timeout_and_nobody_else_any(
    make_directory: MakeDirectory, make_slapd: MakeSlapd, slapd: Slapd
) -> None:
    first = make_slapd()
    with load(make_directory(servers=(first.tls_url, slapd.tls_url), **QUICK)) as attempts:
        hung = time.monotonic()
        first.pause()
        # Long enough for two attempts to find out whether it is back, after one second and after two more.
        time.sleep(ONE_TIMEOUT + 3.5)
    first.resume()
    slow = [attempt for attempt in attempts if attempt.ended - attempt.began > NO_TIMEOUT]
    lost = [attempt for attempt in attempts if attempt.failure is not None]
    assert 0 < len(slow) <= LOAD_THREADS
    assert max(attempt.ended for attempt in slow) - hung < ONE_TIMEOUT
    assert all(attempt.failure and "after the password was sent" in attempt.failure for attempt in lost), lost
    assert all(attempt in slow for attempt in lost)
    assert sum(attempt.began > hung + ONE_TIMEOUT for attempt in attempts) > 50


def test_no_sign_in_under_load_sends_a_password_twice_though_a_server_hangs_or_dies(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    first, second = make_proxy(), make_proxy()
    with load(make_directory(servers=(first.url, second.url), **QUICK)) as attempts:
        first.behaviour = lambda _: Action.SILENCE
        time.sleep(ONE_TIMEOUT)
        first.behaviour = lambda _: Action.FORWARD
        time.sleep(1.5)
        first.behaviour = lambda _: Action.RESET
        time.sleep(0.5)
    passwords = [name for name in (*first.bound, *second.bound) if name != company.SERVICE_DN]
    assert {*passwords} == {f"uid=alice,{company.PEOPLE}"}
    assert len(passwords) <= len(attempts)
    assert sum(attempt.failure is None for attempt in attempts) <= len(passwords)
    assert sum(attempt.failure is not None for attempt in attempts) <= 2 * LOAD_THREADS


def test_many_threads_that_find_a_server_hanging_at_once_count_as_one_failure(
    make_directory: MakeDirectory, make_proxy: MakeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make_proxy(), make_proxy()
    with load(make_directory(servers=(first.url, second.url), **QUICK)):
        first.behaviour = lambda _: Action.SILENCE
        time.sleep(ONE_TIMEOUT)
    left = [record.getMessage() for record in caplog.records if "left for" in record.getMessage()]
    assert "left for 1 s" in left[0]
    assert len(left) <= 2  # and once more, when it was found to hang still


def test_a_server_that_is_back_and_refuses_the_service_account_does_not_stop_the_other(
    make_directory: MakeDirectory, make_proxy: MakeProxy, make_slapd: MakeSlapd, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make_slapd(), make_proxy()
    directory = make_directory(servers=(first.tls_url, second.url))
    first.stop()
    assert alice(directory) == "alice"
    first.start()
    first.modify(f"dn: {company.SERVICE_DN}\nchangetype: modify\nreplace: userPassword\nuserPassword: another\n")
    time.sleep(1.1)  # the first back-off
    for _ in range(3):
        assert alice(directory) == "alice"
        time.sleep(0.2)
    refused = [record.getMessage() for record in caplog.records if "wrong-password" in record.getMessage()]
    assert len(refused) == 1, "asking often would lock the service account"
    assert "left for 900 s" in refused[0]


def test_a_forked_worker_opens_connections_of_its_own(make_directory: MakeDirectory, make_proxy: MakeProxy) -> None:
    proxy = make_proxy()
    directory = make_directory(servers=(proxy.url,))
    assert alice(directory) == "alice"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if all(alice(directory) == "alice" for _ in range(3)) else 1
            directory.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert alice(directory) == "alice"
    assert proxy.connections == 4


def test_a_forked_worker_that_ends_leaves_the_parents_connections_alone(
    make_directory: MakeDirectory, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy()
    directory = make_directory(servers=(proxy.url,))
    assert alice(directory) == "alice"
    child = os.fork()
    if child == 0:
        directory.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert alice(directory) == "alice"
    assert proxy.connections == 2


def test_nothing_is_connected_before_the_first_question(make_directory: MakeDirectory, make_proxy: MakeProxy) -> None:
    proxy = make_proxy()
    make_directory(servers=(proxy.url,))
    time.sleep(0.1)
    assert proxy.connections == 0


# --- Large directories -------------------------------------------------------------------------------------------


def test_a_size_limit_that_cuts_the_groups_short_is_said_and_never_ignored(
    make_directory: MakeDirectory, make_slapd: MakeSlapd
) -> None:
    small = make_slapd(size_limit="3")
    directory = make_directory(servers=(small.tls_url,))
    assert directory.principal_by_username("typist").groups == frozenset()
    with pytest.raises(DirectoryUnavailable, match="size limit was exceeded: raise it for the service account"):
        directory.principal_by_username("throng")


def test_a_name_that_a_size_limit_may_have_hidden_is_not_taken_for_unique(
    make_directory: MakeDirectory, make_slapd: MakeSlapd
) -> None:
    tiny = make_slapd(size_limit="1")
    directory = make_directory(servers=(tiny.tls_url,), user_bases=(SUFFIX,))
    with pytest.raises(DirectoryUnavailable, match="size limit"):
        directory.principal_by_username("twice")
    with pytest.raises(DirectoryUnavailable, match="size limit"):
        directory.group("operators")


def test_a_person_in_five_thousand_groups_among_ten_thousand_people_signs_in(
    make_directory: MakeDirectory, make_slapd: MakeSlapd
) -> None:
    directory = make_directory(servers=(make_slapd(people=10_000, groups=5_000).tls_url,))
    principal = authenticate(directory, "throng", Secret(password_of("throng")))
    assert len(principal.groups) == 5_004
    with within(0.5):
        assert authenticate(directory, "person-9999", Secret(password_of("person"))).username == "person-9999"


def test_references_to_other_servers_are_not_followed(make_directory: MakeDirectory, make_slapd: MakeSlapd) -> None:
    server = make_slapd()
    reference = f"ou=elsewhere,{company.PEOPLE}"
    server.modify(
        f"dn: {reference}\nchangetype: add\nobjectClass: referral\nobjectClass: extensibleObject\n"
        f"ou: elsewhere\nref: ldap://127.0.0.1:1/{reference}\n"
    )
    assert alice(make_directory(servers=(server.tls_url,))) == "alice"
    there = make_directory(servers=(server.tls_url,), user_bases=(f"ou=x,{reference}",))
    assert "referrals are not followed: check directory.user_bases" in unavailable(there)
    assert SUFFIX in unavailable(there)
