"""The broker stops before the directory locks: against a real domain controller and the embedded directory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.audit import Origin
from broker.core.credentials import Secret
from broker.core.errors import LoginRejected, LoginThrottled
from broker.core.login import LoginAttempt, LoginPorts, log_in
from broker.core.sessions import SessionLimits
from broker.core.throttle import ThrottleLimits
from tests.adapters.directory import domain
from tests.adapters.directory.domain import password_of
from tests.adapters.directory.test_active_directory import controller, directory
from tests.fakes import MemoryAttempts, MemoryAuditLog, MemorySessions

__all__ = ["controller", "directory"]


def ports_over(directory: LdapDirectory) -> LoginPorts:
    return LoginPorts(
        directory=directory,
        audit=MemoryAuditLog(),
        sessions=MemorySessions(),
        attempts=MemoryAttempts(),
        limits=SessionLimits(idle=timedelta(minutes=30), absolute=timedelta(hours=10)),
        throttle=ThrottleLimits(10, timedelta(minutes=15), device_attempts=2, address_attempts=1000),
        username_hash_key=b"k" * 32,
        clock=lambda: datetime.now(UTC),
    )


def attempt(username: str, password: str, device: str | None = None) -> LoginAttempt:
    return LoginAttempt(username, Secret(password), Origin("192.0.2.9", "", "ref"), device)


def test_the_domains_policy_is_read(directory: LdapDirectory) -> None:
    policy = directory.find("besieged").lockout

    assert policy is not None
    assert policy.threshold == domain.LOCKOUT_THRESHOLD
    assert policy.window > timedelta()


def test_strangers_with_every_name_form_and_even_the_cookie_cannot_lock_anybody_out(directory: LdapDirectory) -> None:
    ports = ports_over(directory)
    principal = directory.find("besieged").principal
    refusals: list[str] = []
    for number in range(30):
        name = ("besieged", "BESIEGED", "besieged@corp.example", "CORP\\besieged")[number % 4]
        device = principal.id if number % 2 else None
        with pytest.raises((LoginRejected, LoginThrottled)) as refused:
            log_in(attempt(name, f"guess {number}", device), ports)
        refusals.append(type(refused.value).__name__)

    assert refusals.count("LoginRejected") == domain.LOCKOUT_THRESHOLD - 1
    # The directory itself still takes the right password: nothing is locked.
    proved = directory.prove(directory.find("besieged"), Secret(password_of("besieged")))
    assert proved.username == "besieged"


def test_a_name_that_is_nobodys_costs_a_bind_and_counts_for_nobody(directory: LdapDirectory) -> None:
    for _ in range(5):
        directory.spend_time_of_a_proof(Secret("a guess"))
    directory.spend_time_of_a_proof(Secret(""))
    assert directory.prove(directory.find("carla"), Secret(password_of("carla"))).username == "carla"
