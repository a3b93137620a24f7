"""What attributes say about the state of an account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.directory.account_state import active_directory_state, openldap_state
from broker.adapters.directory.messages import Entry
from broker.core.errors import DirectoryUnavailable, LoginCause

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
WINDOWS_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
NEVER = 0x7FFFFFFFFFFFFFFF


def ticks(moment: datetime) -> int:
    return (moment - WINDOWS_EPOCH) // timedelta(microseconds=1) * 10


def entry(**attributes: object) -> Entry:
    return Entry("cn=x", {name.replace("_", "-").lower(): (str(value).encode(),) for name, value in attributes.items()})


# An account that nothing is wrong with.
USABLE: dict[str, object] = {
    "userAccountControl": 512,
    "msDS_User_Account_Control_Computed": 0,
    "accountExpires": NEVER,
    "pwdLastSet": 1,
}


@pytest.mark.parametrize(
    ("attributes", "cause"),
    [
        ({}, None),
        ({"userAccountControl": 514}, LoginCause.DISABLED),
        ({"userAccountControl": 514, "accountExpires": 1, "pwdLastSet": 0}, LoginCause.DISABLED),
        ({"accountExpires": 0}, None),
        ({"accountExpires": ticks(NOW)}, LoginCause.ACCOUNT_EXPIRED),
        ({"accountExpires": ticks(NOW + timedelta(microseconds=1))}, None),
        ({"accountExpires": NEVER - 1}, None),
        # lockoutTime stays after the lock-out has ended.
        ({"lockoutTime": 1}, None),
        ({"msDS_User_Account_Control_Computed": 0x10}, LoginCause.LOCKED),
        ({"msDS_User_Account_Control_Computed": 0x800000}, LoginCause.PASSWORD_EXPIRED),
        ({"msDS_User_Account_Control_Computed": 0x800000, "pwdLastSet": 0}, LoginCause.MUST_CHANGE_PASSWORD),
        ({"userAccountControl": 512 | 0x10000, "pwdLastSet": 0}, None),
    ],
)
def test_active_directory_says_why_an_account_may_not_be_used(
    attributes: dict[str, object], cause: LoginCause | None
) -> None:
    assert active_directory_state(entry(**{**USABLE, **attributes}), NOW) is cause


@pytest.mark.parametrize("hidden", USABLE)
@pytest.mark.parametrize("instead", [{}, {"written": "not a number"}])
def test_an_account_whose_state_may_not_be_read_is_no_usable_account(hidden: str, instead: dict[str, str]) -> None:
    readable = {name: value for name, value in USABLE.items() if name != hidden}
    if instead:
        readable[hidden] = instead["written"]
    with pytest.raises(DirectoryUnavailable, match=f"may not read {hidden.replace('_', '-')} of"):
        active_directory_state(entry(**readable), NOW)


@given(st.integers(-(2**63), 2**63 - 1), st.datetimes(timezones=st.just(UTC)))
def test_any_moment_of_expiry_is_before_or_after_any_moment(expires: int, now: datetime) -> None:
    cause = active_directory_state(entry(**{**USABLE, "accountExpires": expires}), now)
    assert cause in (None, LoginCause.ACCOUNT_EXPIRED)


@pytest.mark.parametrize(
    ("attributes", "cause"),
    [
        ({}, None),
        ({"pwdAccountLockedTime": "000001010000Z"}, LoginCause.LOCKED),
        ({"pwdAccountLockedTime": "20261123093000Z"}, LoginCause.LOCKED),
        ({"pwdReset": "TRUE"}, LoginCause.MUST_CHANGE_PASSWORD),
        ({"pwdReset": "FALSE"}, None),
        ({"nsAccountLock": "true"}, LoginCause.DISABLED),
        ({"nsAccountLock": "TRUE", "pwdAccountLockedTime": "20261123093000Z"}, LoginCause.DISABLED),
        ({"nsAccountLock": "false"}, None),
        ({"accountUnlockTime": "20261123093001Z"}, LoginCause.LOCKED),
        ({"accountUnlockTime": "20261123093000Z"}, None),
        ({"accountUnlockTime": "19700101000000Z"}, LoginCause.LOCKED),
        ({"accountUnlockTime": "20261123093001.5+0900"}, LoginCause.LOCKED),
    ],
)
def test_openldap_and_389_say_why_an_account_may_not_be_used(
    attributes: dict[str, object], cause: LoginCause | None
) -> None:
    assert openldap_state(entry(**attributes), NOW) is cause
