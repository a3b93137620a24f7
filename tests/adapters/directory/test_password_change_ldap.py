"""Changing passwords elsewhere than in Active Directory: RFC 3062 on a real slapd, whose policy decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest

from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import (
    CurrentPasswordWrong,
    DirectoryUnavailable,
    LoginCause,
    LoginRejected,
    NewPasswordTooLong,
    NewPasswordTooShort,
    NewPasswordUsedBefore,
    PasswordChangedTooRecently,
    PasswordChangeNotAllowed,
    PasswordChangeRejected,
    PasswordChangeUncertain,
)
from broker.core.password_change import PasswordChange, change_password
from tests.adapters.directory import company
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.company import PEOPLE, entry, password_of
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.programs import free_port
from tests.adapters.directory.proxy import BIND, Action, Proxy
from tests.adapters.directory.slapd import SUFFIX, Slapd
from tests.core.ports_in_memory import ORIGIN, Outside

NEW: Final = "新しい合言葉 of 2026"
_EXTENDED: Final = 0x77
_SERVICE_MAY: Final = f'by self =xw by dn.exact="{company.SERVICE_DN}" =xw'
_PEOPLE_MAY: Final = "by self =xw"

_POLICIES: Final = {
    "strict": {"pwdMinLength": "12", "pwdCheckQuality": "2", "pwdInHistory": "3", "pwdMustChange": "TRUE"},
    "checked": {"pwdCheckQuality": "2", "pwdMinLength": "4", "pwdMaxLength": "20"},
    "plain": {},
    "young": {"pwdMinAge": "86400"},
    "fixed": {"pwdAllowUserChange": "FALSE"},
    "aging": {"pwdMaxAge": "60", "pwdInHistory": "2"},
    "locking": {"pwdLockout": "TRUE", "pwdMaxFailure": "3"},
}
_PERSONS: Final = {
    "anna": "checked",
    "short": "strict",
    "used": "strict",
    "reset": "strict",
    "young": "young",
    "fixed": "fixed",
    "expired": "aging",
    "expired-too": "aging",
    "lockable": "locking",
    "once": "plain",
}


def _ldif() -> Iterator[str]:
    yield entry(SUFFIX, objectClass=("dcObject", "organization"), dc="corp", o="Corp")
    for unit in ("people", "groups", "services", "policies"):
        yield entry(f"ou={unit},{SUFFIX}", objectClass="organizationalUnit", ou=unit)
    yield entry(
        company.SERVICE_DN,
        objectClass=("applicationProcess", "simpleSecurityObject"),
        cn="broker",
        userPassword=company.SERVICE_PASSWORD,
    )
    for name, rules in _POLICIES.items():
        yield entry(
            _policy_dn(name), objectClass=("device", "pwdPolicy"), cn=name, pwdAttribute="userPassword", **rules
        )
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%SZ")
    changed = {"expired": "20200101000000Z", "expired-too": "20200101000000Z", "young": now}
    for username, policy in _PERSONS.items():
        state = {"pwdChangedTime": changed[username]} if username in changed else {}
        if username == "reset":
            state["pwdReset"] = "TRUE"
        yield entry(
            f"uid={username},{PEOPLE}",
            objectClass="inetOrgPerson",
            uid=username,
            cn=username,
            sn="Example",
            userPassword=password_of(username),
            pwdPolicySubentry=_policy_dn(policy),
            **state,
        )


def _policy_dn(name: str) -> str:
    return f"cn={name},ou=policies,{SUFFIX}"


Make = Callable[..., LdapDirectory]


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Callable[[str], Slapd]]:
    servers: list[Slapd] = []

    def make(password_access: str) -> Slapd:
        server = Slapd(
            tmp_path_factory.mktemp("slapd") / "one",
            authority.issue("127.0.0.1"),
            "".join(_ldif()),
            service_dn=company.SERVICE_DN,
            password_access=password_access,
        )
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()


def directory_at(authority: Authority, *servers: str) -> LdapDirectory:
    config = DirectoryConfig(
        servers=servers,
        bind_dn=company.SERVICE_DN,
        user_bases=(PEOPLE,),
        group_base=company.GROUPS,
        kind=DirectoryKind.OPENLDAP,
        ca_file=authority.certificate,
    )
    return LdapDirectory(config, Secret(company.SERVICE_PASSWORD))


@pytest.fixture
def directory(make: Callable[[str], Slapd], authority: Authority) -> Iterator[LdapDirectory]:
    made = directory_at(authority, make(_SERVICE_MAY).tls_url)
    yield made
    made.close()


def change(directory: LdapDirectory, username: str, new: str = NEW, current: str | None = None) -> None:
    candidate = directory.find(username)
    directory.change_password(candidate, Secret(password_of(username) if current is None else current), Secret(new))


def refused(
    directory: LdapDirectory, username: str, new: str = NEW, current: str | None = None
) -> PasswordChangeRejected:
    with pytest.raises(PasswordChangeRejected) as caught:
        change(directory, username, new, current)
    return caught.value


def change_in_the_portal(directory: LdapDirectory, username: str, current: str | None = None) -> None:
    typed = PasswordChange(
        principal_id=directory.find(username).principal.id,
        current=Secret(password_of(username) if current is None else current),
        new=Secret(NEW),
        repeated=Secret(NEW),
        origin=ORIGIN,
    )
    change_password(typed, replace(Outside().login_ports(), directory=directory))


def signs_in(directory: LdapDirectory, username: str, password: str) -> LoginCause | None:
    try:
        authenticate(directory, username, Secret(password))
    except LoginRejected as error:
        return error.cause
    return None


def test_the_new_password_signs_in_and_the_old_one_does_not(directory: LdapDirectory) -> None:
    change(directory, "used")
    assert signs_in(directory, "used", NEW) is None
    assert signs_in(directory, "used", password_of("used")) is LoginCause.WRONG_PASSWORD


@pytest.mark.parametrize(
    ("username", "before"),
    [("reset", LoginCause.MUST_CHANGE_PASSWORD), ("expired", LoginCause.PASSWORD_EXPIRED)],
)
def test_a_password_that_has_run_out_is_changed(directory: LdapDirectory, username: str, before: LoginCause) -> None:
    assert signs_in(directory, username, password_of(username)) is before
    assert signs_in(directory, username, "a guess") is LoginCause.WRONG_PASSWORD
    with pytest.raises(CurrentPasswordWrong):
        change_in_the_portal(directory, username, "a guess")
    change_in_the_portal(directory, username)
    assert signs_in(directory, username, NEW) is None


def test_a_person_who_has_to_change_needs_no_right_of_the_service_account(
    make: Callable[[str], Slapd], authority: Authority
) -> None:
    directory = directory_at(authority, make(_PEOPLE_MAY).tls_url)
    change_in_the_portal(directory, "reset")
    assert signs_in(directory, "reset", NEW) is None
    # One whose password has expired cannot bind, so the service account would have to be allowed to.
    not_allowed = refused(directory, "expired")
    assert isinstance(not_allowed, PasswordChangeNotAllowed)
    assert "service account" in str(not_allowed)
    directory.close()


def test_where_nobody_may_write_passwords_the_operator_is_told(
    make: Callable[[str], Slapd], authority: Authority
) -> None:
    directory = directory_at(authority, make("").tls_url)
    not_allowed = refused(directory, "anna")
    assert isinstance(not_allowed, PasswordChangeNotAllowed)
    assert "the person may not change it" in str(not_allowed)
    directory.close()


def test_the_policy_refuses_in_words(directory: LdapDirectory) -> None:
    short = refused(directory, "short", "elevenchars")
    assert isinstance(short, NewPasswordTooShort)
    assert (short.shortest, short.detail) == (12, "result 19, password policy 6")
    change(directory, "used", NEW)
    change(directory, "used", f"{NEW} twice", NEW)
    assert isinstance(refused(directory, "used", NEW, f"{NEW} twice"), NewPasswordUsedBefore)
    assert isinstance(refused(directory, "young"), PasswordChangedTooRecently)
    assert isinstance(refused(directory, "fixed"), PasswordChangeNotAllowed)
    long = refused(directory, "anna", "x" * 30)
    assert isinstance(long, NewPasswordTooLong)
    assert long.longest == 20


def test_an_expired_password_is_not_exchanged_for_one_used_before_either(directory: LdapDirectory) -> None:
    change(directory, "expired-too", NEW)
    assert signs_in(directory, "expired-too", NEW) is None
    assert isinstance(refused(directory, "expired-too", password_of("expired-too"), NEW), NewPasswordUsedBefore)


def test_wrong_old_passwords_count_and_lock_as_they_do_at_sign_in(directory: LdapDirectory) -> None:
    for _ in range(3):
        assert isinstance(refused(directory, "lockable", current="a guess"), CurrentPasswordWrong)
    # Locked now, which a wrong password would be told as well: only the audit learns of it.
    locked = refused(directory, "lockable")
    assert isinstance(locked, CurrentPasswordWrong)
    assert locked.detail == "password policy 1"
    with pytest.raises(CurrentPasswordWrong):
        change_in_the_portal(directory, "lockable")


@pytest.fixture
def proxied(make: Callable[[str], Slapd], authority: Authority) -> Iterator[tuple[LdapDirectory, Proxy, Slapd]]:
    """A directory of two servers, the first of which may misbehave; both have the same people."""
    first, second = make(_SERVICE_MAY), make(_SERVICE_MAY)
    proxy = Proxy(authority.issue("127.0.0.1"), first.port)
    directory = directory_at(authority, proxy.url, second.tls_url)
    yield directory, proxy, second
    directory.close()
    proxy.stop()


@pytest.mark.parametrize("action", [Action.SILENCE, Action.RESET, Action.TRUNCATE, Action.GARBAGE])
def test_a_change_that_was_sent_is_never_sent_again_or_to_another_server(
    proxied: tuple[LdapDirectory, Proxy, Slapd], action: Action
) -> None:
    directory, proxy, _ = proxied
    proxy.behaviour = lambda tag: action if tag == _EXTENDED else Action.FORWARD
    with pytest.raises(PasswordChangeUncertain) as caught:
        change(directory, "once")
    assert proxy.requests.count(_EXTENDED) == 1
    assert NEW not in str(caught.value)
    # The other server was not told, though it answers.
    assert signs_in(directory, "once", password_of("once")) is None


def test_a_server_in_trouble_has_changed_nothing_and_says_so(proxied: tuple[LdapDirectory, Proxy, Slapd]) -> None:
    directory, proxy, _ = proxied
    proxy.behaviour = lambda tag: Action.BUSY if tag == _EXTENDED else Action.FORWARD
    with pytest.raises((DirectoryUnavailable, PasswordChangeUncertain)):
        change(directory, "once")
    assert proxy.requests.count(_EXTENDED) == 1


def test_a_bind_that_was_not_answered_changes_nothing(proxied: tuple[LdapDirectory, Proxy, Slapd]) -> None:
    directory, proxy, _ = proxied
    candidate = directory.find("once")
    proxy.behaviour = lambda tag: Action.RESET if tag == BIND else Action.FORWARD
    with pytest.raises(DirectoryUnavailable):
        directory.change_password(candidate, Secret(password_of("once")), Secret(NEW))
    assert _EXTENDED not in proxy.requests


def test_another_server_is_asked_when_the_first_cannot_be_reached(
    make: Callable[[str], Slapd], authority: Authority
) -> None:
    server = make(_SERVICE_MAY)
    directory = directory_at(authority, f"ldaps://127.0.0.1:{free_port()}", server.tls_url)
    change(directory, "once")
    assert signs_in(directory, "once", NEW) is None
    directory.close()


def test_without_any_server_nothing_is_changed(make: Callable[[str], Slapd], authority: Authority) -> None:
    server = make(_SERVICE_MAY)
    directory = directory_at(authority, server.tls_url)
    candidate = directory.find("once")
    server.stop()
    started = time.monotonic()
    with pytest.raises(DirectoryUnavailable):
        directory.change_password(candidate, Secret(password_of("once")), Secret(NEW))
    assert time.monotonic() - started < 10
    directory.close()
