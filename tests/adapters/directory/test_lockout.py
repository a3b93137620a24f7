"""The broker stops before the directory locks: against a real domain controller and the embedded directory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.audit import Origin
from broker.core.credentials import Secret
from broker.core.errors import LoginRejected, LoginThrottled
from broker.core.login import LoginAttempt, LoginPorts, log_in
from broker.core.throttle import UNTIL_LIFTED, LockoutPolicy, ThrottleLimits
from tests.adapters.directory import company, domain
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.conftest import MakeDirectory, MakeSlapd
from tests.adapters.directory.domain import password_of
from tests.adapters.directory.proxy import BIND, Action, Proxy
from tests.adapters.directory.samba import Samba
from tests.adapters.directory.slapd import SUFFIX, Slapd
from tests.adapters.directory.test_active_directory import controller, directory, directory_on
from tests.core.ports_in_memory import Outside
from tests.fakes import MemoryAttempts

__all__ = ["controller", "directory"]


@pytest.fixture
def on_samba(samba: Samba) -> Iterator[LdapDirectory]:
    directory = directory_on(samba)
    yield directory
    directory.close()


def ports_over(directory: LdapDirectory) -> LoginPorts:
    throttle = ThrottleLimits(10, timedelta(minutes=15), device_attempts=2, address_attempts=1000)
    outside = replace(Outside().login_ports(), attempts=MemoryAttempts(), throttle=throttle)
    return replace(outside, directory=directory, clock=lambda: datetime.now(UTC))


def attempt(username: str, password: str, device: str | None = None) -> LoginAttempt:
    return LoginAttempt(username, Secret(password), Origin("192.0.2.9", "", "ref"), device)


def test_the_domains_policy_is_read(directory: LdapDirectory) -> None:
    policy = directory.find("besieged").lockout

    assert policy is not None
    assert policy.threshold == domain.LOCKOUT_THRESHOLD
    assert policy.window > timedelta()


@pytest.mark.parametrize(
    ("username", "threshold"),
    [("guarded", domain.GUARDED_THRESHOLD), ("director", domain.EXECUTIVES_THRESHOLD)],
)
def test_a_password_settings_object_of_the_person_or_of_a_group_goes_before_the_domains_policy(
    on_samba: LdapDirectory, username: str, threshold: int
) -> None:
    policy = on_samba.find(username).lockout
    assert policy == LockoutPolicy(threshold, timedelta(minutes=30))
    assert besieged(on_samba, username) == threshold - 1


def test_where_a_password_settings_object_may_not_be_read_it_is_taken_for_strict_and_the_log_says_so(
    on_samba: LdapDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    usual = on_samba.find("besieged").lockout
    assert usual is not None
    assert on_samba.find("sealed").lockout == LockoutPolicy(2, usual.window)
    assert besieged(on_samba, "sealed") == 1
    (warning,) = [record.getMessage() for record in caplog.records if "Sealed" in record.getMessage()]
    assert "may not be read by the service account, so it is taken to be 2" in warning


def test_strangers_with_every_name_form_and_even_the_cookie_cannot_lock_anybody_out(directory: LdapDirectory) -> None:
    assert besieged(directory, "besieged") == domain.LOCKOUT_THRESHOLD - 1


def besieged(directory: LdapDirectory, username: str) -> int:
    """Thirty guesses by strangers, half of them with the person's cookie, and then the person; how many got through."""
    ports = ports_over(directory)
    principal = directory.find(username).principal
    refusals: list[str] = []
    for number in range(30):
        name = (username, username.upper(), f"{username}@corp.example", f"CORP\\{username}")[number % 4]
        device = principal.id if number % 2 else None
        with pytest.raises((LoginRejected, LoginThrottled)) as refused:
            log_in(attempt(name, f"guess {number}", device), ports)
        refusals.append(type(refused.value).__name__)

    # The directory itself still takes the right password: nothing is locked.
    proved = directory.prove(directory.find(username), Secret(password_of(username))).principal
    assert proved.username == username
    return refusals.count("LoginRejected")


def test_a_name_that_is_nobodys_is_held_back_like_one_that_is_in_every_form(directory: LdapDirectory) -> None:
    def answers(username: str) -> list[tuple[str, int]]:
        ports, seen = ports_over(directory), []
        for typed in (username, username.upper(), f"{username}@corp.example", f"CORP\\{username}", f"corp\\{username}"):
            with pytest.raises((LoginRejected, LoginThrottled)) as refused:
                log_in(attempt(typed, "a guess"), ports)
            wait = refused.value.wait if isinstance(refused.value, LoginThrottled) else timedelta()
            seen.append((type(refused.value).__name__, round(wait / timedelta(minutes=1))))
        return seen

    somebody = answers("carla")
    assert somebody == answers("nobody-of-that-name")
    assert somebody[0] == ("LoginRejected", 0)
    assert somebody[-1][0] == "LoginThrottled"
    # The directory forgets the wrong one.
    assert directory.prove(directory.find("carla"), Secret(password_of("carla"))).principal.username == "carla"


def test_a_name_that_is_nobodys_costs_a_bind_and_counts_for_nobody(directory: LdapDirectory) -> None:
    for _ in range(5):
        directory.spend_time_of_a_proof(Secret("a guess"))
    directory.spend_time_of_a_proof(Secret(""))
    assert directory.prove(directory.find("carla"), Secret(password_of("carla"))).principal.username == "carla"


@dataclass
class Clock:
    """The broker's alone: the directory's own stands still beside it."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def never_forgetting(make_slapd: MakeSlapd) -> Slapd:
    """OpenLDAP's default: three failures lock, and no time makes it forget one (pwdFailureCountInterval 0)."""
    server = make_slapd()
    server.modify(
        f"dn: uid=carla,{company.PEOPLE}\nchangetype: modify\n"
        f"add: pwdPolicySubentry\npwdPolicySubentry: cn=default,ou=policies,{SUFFIX}\n"
    )
    return server


@pytest.mark.parametrize("username", ["typist", "carla"], ids=["of the default policy", "of a policy of their own"])
def test_guesses_days_apart_lock_nobody_out_where_the_directory_forgets_none(
    never_forgetting: Slapd, make_directory: MakeDirectory, username: str
) -> None:
    directory = make_directory(servers=(never_forgetting.tls_url,), password_policy=f"cn=default,ou=policies,{SUFFIX}")
    clock = Clock()
    ports = replace(ports_over(directory), clock=clock)
    owner = directory.find(username)
    assert owner.lockout == directory.nobody("made up").lockout == LockoutPolicy(3, UNTIL_LIFTED)
    refusals = []
    for number in range(6):
        with pytest.raises((LoginRejected, LoginThrottled)) as refused:
            log_in(attempt(username, f"guess {number}"), ports)
        refusals.append(type(refused.value))
        clock.ahead += timedelta(days=2)

    assert refusals == [LoginRejected] + [LoginThrottled] * 5
    # The owner's own browser has an attempt left, and the directory takes the right password.
    signed_in = log_in(attempt(username, company.password_of(username), owner.principal.id), ports)
    assert signed_in.principal.username == username
    with pytest.raises(LoginRejected):
        log_in(attempt(username, "a guess"), ports)


def test_guesses_that_hang_while_the_owner_signs_in_are_not_forgotten(
    make_slapd: MakeSlapd, make_directory: MakeDirectory, authority: Authority, request: pytest.FixtureRequest
) -> None:
    server = make_slapd()
    policy = f"cn=default,ou=policies,{SUFFIX}"
    server.modify(f"dn: {policy}\nchangetype: modify\nreplace: pwdMaxFailure\npwdMaxFailure: 6\n")
    held, go_on = threading.Semaphore(0), threading.Event()
    proxy = Proxy(authority.issue("127.0.0.1"), server.port)

    def hold_guesses(tag: int) -> Action:
        if tag == BIND and "typist" in proxy.bound[-1]:
            held.release()
            assert go_on.wait(10)
        return Action.FORWARD

    proxy.behaviour = hold_guesses
    slow = make_directory(servers=(proxy.url,), password_policy=policy, operation_timeout=timedelta(seconds=20))
    fast = make_directory(servers=(server.tls_url,), password_policy=policy)
    request.addfinalizer(proxy.stop)
    ports = ports_over(slow)
    owner = fast.find("typist").principal.id

    def guess(number: int) -> str:
        with pytest.raises((LoginRejected, LoginThrottled)) as refused:
            log_in(attempt("typist", f"guess {number}"), ports)
        return type(refused.value).__name__

    with ThreadPoolExecutor(3) as threads:
        guesses = [threads.submit(guess, number) for number in range(3)]
        for _ in guesses:
            assert held.acquire(timeout=10)
        log_in(attempt("typist", company.password_of("typist"), owner), replace(ports, directory=fast))
        go_on.set()
        assert [one.result() for one in guesses] == ["LoginRejected"] * 3
    # The directory has counted three after the owner's sign-in, and the broker has not forgotten them.
    assert [guess(number) for number in range(4)] == ["LoginThrottled"] * 4
    assert fast.prove(fast.find("typist"), Secret(company.password_of("typist"))).principal.username == "typist"
