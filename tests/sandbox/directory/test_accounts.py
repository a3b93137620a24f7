"""The rules of accounts.py against a clock of the test's own; test_binding.py sees them over the wire."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sandbox.directory import accounts
from broker.sandbox.directory.accounts import PasswordPolicy, SubCode, filetime
from broker.sandbox.directory.entries import Entry
from broker.sandbox.directory.names import DistinguishedName

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OFF = PasswordPolicy(0, -18_000_000_000, -18_000_000_000, -(2**63))
THREE = PasswordPolicy(3, -18_000_000_000, -18_000_000_000, -(2**63))


def account(**attributes: int) -> Entry:
    entry = Entry(DistinguishedName.parse("CN=a"), {})
    for attribute, value in {"userAccountControl": 512, "pwdLastSet": filetime(NOW), **attributes}.items():
        entry = entry.with_values(attribute, value)
    return entry


def outcome(entry: Entry, policy: PasswordPolicy = OFF, now: datetime = NOW) -> tuple[str | None, str | None]:
    """The sub-codes with the right and with a wrong password."""
    return (
        accounts.refusal(entry, policy, now, password_is_right=True),
        accounts.refusal(entry, policy, now, password_is_right=False),
    )


@given(st.datetimes(datetime(1700, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_a_filetime_counts_100_ns_since_1601(now: datetime) -> None:
    assert datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=filetime(now) // 10) == now
    assert filetime(datetime(1970, 1, 1, tzinfo=UTC)) == 116444736000000000


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (account(), None),
        (account(userAccountControl=514), SubCode.DISABLED),
        (account(accountExpires=filetime(NOW)), SubCode.ACCOUNT_EXPIRED),
        (account(accountExpires=filetime(NOW) + 1), None),
        (account(accountExpires=0), None),
        (account(accountExpires=2**63 - 1), None),
        (account(pwdLastSet=0), SubCode.MUST_CHANGE),
        (account(pwdLastSet=0, userAccountControl=0x10200), None),
        (account(userAccountControl=514, accountExpires=1, pwdLastSet=0), SubCode.DISABLED),
        (account(accountExpires=1, pwdLastSet=0), SubCode.ACCOUNT_EXPIRED),
    ],
)
def test_a_state_shows_to_the_right_password_only(entry: Entry, code: SubCode | None) -> None:
    assert outcome(entry) == (code, SubCode.WRONG)


def test_a_password_expires_when_it_is_older_than_the_policy_allows() -> None:
    policy = PasswordPolicy(0, 0, 0, -600_000_000)
    assert outcome(account(), policy, NOW + MINUTE) == (None, SubCode.WRONG)
    assert outcome(account(), policy, NOW + MINUTE * 1.01) == (SubCode.PASSWORD_EXPIRED, SubCode.WRONG)
    never = account(userAccountControl=0x10200)
    assert outcome(never, policy, NOW + MINUTE * 1.01) == (None, SubCode.WRONG)
    assert outcome(account(), PasswordPolicy(0, 0, 0, 0), NOW + MINUTE * 1e6) == (None, SubCode.WRONG)


def test_as_many_wrong_passwords_as_the_threshold_lock_an_account_for_both_passwords() -> None:
    entry = account()
    for count in (1, 2):
        entry = accounts.after_wrong_password(entry, THREE, NOW)
        assert entry.number("badPwdCount") == count
        assert outcome(entry, THREE) == (None, SubCode.WRONG)
    entry = accounts.after_wrong_password(entry, THREE, NOW)
    assert entry.number("lockoutTime") == filetime(NOW)
    assert outcome(entry, THREE) == (SubCode.LOCKED, SubCode.LOCKED)
    assert accounts.after_wrong_password(entry, THREE, NOW) is entry


def test_a_lock_out_ends_after_its_duration_and_the_right_password_clears_it() -> None:
    locked = account(lockoutTime=filetime(NOW), badPwdCount=3)
    before, after = NOW + 30 * MINUTE - timedelta(microseconds=1), NOW + 30 * MINUTE
    assert outcome(locked, THREE, before) == (SubCode.LOCKED, SubCode.LOCKED)
    assert outcome(locked, THREE, after) == (None, SubCode.WRONG)
    cleared = accounts.after_right_password(locked)
    assert (cleared.number("lockoutTime"), cleared.number("badPwdCount")) == (0, 0)
    assert accounts.after_right_password(cleared) is cleared


@pytest.mark.parametrize("duration", [0, -(2**63)])
def test_a_lock_out_without_end_lasts(duration: int) -> None:
    policy = PasswordPolicy(3, 0, duration, 0)
    locked = account(lockoutTime=filetime(NOW))
    assert outcome(locked, policy, NOW + timedelta(days=3650))[0] is SubCode.LOCKED


def test_wrong_passwords_outside_the_observation_window_are_forgotten() -> None:
    once = accounts.after_wrong_password(account(), THREE, NOW)
    inside = accounts.after_wrong_password(once, THREE, NOW + 30 * MINUTE)
    outside = accounts.after_wrong_password(once, THREE, NOW + 30 * MINUTE + timedelta(microseconds=1))
    assert (inside.number("badPwdCount"), outside.number("badPwdCount")) == (2, 1)


def test_a_threshold_of_zero_counts_nothing() -> None:
    entry = account()
    assert accounts.after_wrong_password(entry, OFF, NOW) is entry


def test_the_computed_control_shows_lock_out_and_expiry() -> None:
    assert accounts.computed_control(account(), THREE, NOW) == 0
    assert accounts.computed_control(account(lockoutTime=filetime(NOW)), THREE, NOW) == 0x10
    assert accounts.computed_control(account(pwdLastSet=0), THREE, NOW) == 0x800000
    assert accounts.computed_control(account(pwdLastSet=0, lockoutTime=filetime(NOW)), THREE, NOW) == 0x800010


def test_the_policy_is_that_of_the_root_entry_or_of_windows() -> None:
    assert PasswordPolicy.of(account()) == OFF
    assert PasswordPolicy.of(account(lockoutThreshold=3)) == THREE
