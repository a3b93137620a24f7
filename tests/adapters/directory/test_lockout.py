"""The broker stops before the directory locks: against a real domain controller and the embedded directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.audit import Origin
from broker.core.credentials import Secret
from broker.core.errors import LoginRejected, LoginThrottled
from broker.core.login import LoginAttempt, LoginPorts, log_in
from broker.core.throttle import LockoutPolicy, ThrottleLimits
from tests.adapters.directory import domain
from tests.adapters.directory.domain import password_of
from tests.adapters.directory.samba import Samba
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


def test_where_a_password_settings_object_may_not_be_read_the_domains_policy_holds_and_the_log_says_so(
    on_samba: LdapDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    assert on_samba.find("sealed").lockout == on_samba.find("besieged").lockout
    (warning,) = [record.getMessage() for record in caplog.records if "Sealed" in record.getMessage()]
    assert "may not be read" in warning
    assert "throttle.threshold" in warning


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
    proved = directory.prove(directory.find(username), Secret(password_of(username)))
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
    assert directory.prove(directory.find("carla"), Secret(password_of("carla"))).username == "carla"


def test_a_name_that_is_nobodys_costs_a_bind_and_counts_for_nobody(directory: LdapDirectory) -> None:
    for _ in range(5):
        directory.spend_time_of_a_proof(Secret("a guess"))
    directory.spend_time_of_a_proof(Secret(""))
    assert directory.prove(directory.find("carla"), Secret(password_of("carla"))).username == "carla"
