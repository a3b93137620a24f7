"""No password is ever in a log, an error, a traceback with its variables, or the repr of anything."""

from __future__ import annotations

import logging
import socket
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

import ldap3.utils.log
import pytest

from broker.adapters.directory.config import ServerAddress
from broker.adapters.directory.connection import Connection, ConnectionFailed
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import BrokerError
from tests.adapters.directory import company
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.conftest import MakeDirectory
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.proxy import BIND, SEARCH, Action, Proxy
from tests.adapters.directory.slapd import Slapd

# ASCII, so that they would look the same in the repr of octets; each holds a word to look for.
WORD: Final = "Tr0ub4dor"
SERVICE_WORD: Final = "Xylophone"
QUICK: Final = {"connect_timeout": timedelta(seconds=0.3), "operation_timeout": timedelta(seconds=0.3)}


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All logs at their most talkative, the LDAP library's too."""
    caplog.set_level(logging.DEBUG)
    ldap3.utils.log.set_library_log_activation_level(logging.DEBUG)
    ldap3.utils.log.set_library_log_detail_level(ldap3.utils.log.EXTENDED)
    yield caplog
    ldap3.utils.log.set_library_log_detail_level(ldap3.utils.log.OFF)


@pytest.fixture
def proxy(authority: Authority, slapd: Slapd) -> Iterator[Proxy]:
    proxy = Proxy(authority.issue("127.0.0.1"), slapd.port)
    yield proxy
    proxy.stop()


def all_about(error: BaseException) -> str:
    """What a log, an error tracker or a debugger would show: texts, arguments and the variables of every frame."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    chain = []
    link: BaseException | None = error
    while link is not None:
        chain.append(f"{link!r} {link} {link.args!r} {vars(link)!r}")
        link = link.__cause__ or link.__context__
    return "\n".join([*shown.format(), *chain])


def misbehave(action: Action, tag: int) -> Callable[[int], Action]:
    return lambda asked: action if asked == tag else Action.FORWARD


def try_and_tell(directory: LdapDirectory, username: str, password: str = f"{WORD}&3") -> str:
    secret = Secret(password)
    del password  # this test's own variables would be found
    with pytest.raises(BrokerError) as refused:
        authenticate(directory, username, secret)
    return all_about(refused.value) + repr(directory) + repr(vars(directory)) + repr(vars(directory._servers))


@pytest.mark.parametrize("action", [Action.RESET, Action.SILENCE, Action.TRUNCATE, Action.GARBAGE, Action.MISMATCH])
@pytest.mark.parametrize("tag", [BIND, SEARCH])
def test_no_password_shows_when_a_server_misbehaves(
    make_directory: MakeDirectory,
    proxy: Proxy,
    everything_logged: pytest.LogCaptureFixture,
    action: Action,
    tag: int,
) -> None:
    directory = make_directory(servers=(proxy.url,), **QUICK)
    directory.check()
    proxy.behaviour = misbehave(action, tag)
    shown = try_and_tell(directory, "alice")
    assert WORD not in shown + everything_logged.text
    assert company.SERVICE_PASSWORD not in shown + everything_logged.text


@pytest.mark.parametrize("username", ["typist", "nobody", "two-names", "reset"])
def test_no_password_shows_when_a_sign_in_is_refused(
    directory: LdapDirectory, everything_logged: pytest.LogCaptureFixture, username: str
) -> None:
    shown = try_and_tell(directory, username)
    assert WORD not in shown + everything_logged.text
    assert company.SERVICE_PASSWORD not in shown + everything_logged.text


@pytest.mark.parametrize("password", [f"{WORD}\ud800", WORD * 1000])
def test_no_password_shows_when_it_cannot_be_sent(
    directory: LdapDirectory, everything_logged: pytest.LogCaptureFixture, password: str
) -> None:
    shown = try_and_tell(directory, "carla", password)
    assert WORD not in shown.replace(f"password = {password!r}", "") + everything_logged.text


def test_no_password_shows_when_it_cannot_be_written_to_the_connection(proxy: Proxy, authority: Authority) -> None:
    tls = ssl.create_default_context(cafile=authority.certificate)
    address = ServerAddress("127.0.0.1", int(proxy.url.rpartition(":")[2]), implicit_tls=True)
    plain = socket.create_connection((address.host, address.port))
    connection = Connection.secured(plain, address, tls, time.monotonic() + 5)
    answer = connection.bind("cn=x", Secret("x"), time.monotonic() + 5)
    assert answer.code == 49
    proxy.reset_all()
    time.sleep(0.2)
    secret = Secret(f"{WORD}&3")
    with pytest.raises(ConnectionFailed) as failed:
        connection.bind("cn=x", secret, time.monotonic() + 5)
    assert WORD not in all_about(failed.value)
    connection.abandon()


def test_the_bind_password_shows_nowhere_when_it_is_refused_or_cannot_be_sent(
    make_directory: MakeDirectory, everything_logged: pytest.LogCaptureFixture, proxy: Proxy
) -> None:
    refused = make_directory(password=f"{SERVICE_WORD}-1", servers=(proxy.url,), **QUICK)
    shown = try_and_tell(refused, "alice")
    for action in (Action.RESET, Action.SILENCE, Action.GARBAGE):
        proxy.behaviour = misbehave(action, BIND)
        shown += try_and_tell(make_directory(password=f"{SERVICE_WORD}-1", servers=(proxy.url,), **QUICK), "alice")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ldaps://127.0.0.1:{listener.getsockname()[1]}"
        shown += try_and_tell(make_directory(password=f"{SERVICE_WORD}-1", servers=(url,), **QUICK), "alice")
    assert SERVICE_WORD not in shown + everything_logged.text
