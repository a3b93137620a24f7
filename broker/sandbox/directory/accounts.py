"""Whether a password opens an account: the states and sub-codes of Active Directory.

Points in time are FILETIMEs (100 ns since 1601), durations negative counts of 100 ns, as the attributes hold them.
The rules: [MS-SAMR] 3.1.1.7.2 (lock-out), [MS-ADTS] 3.1.1.4.5.17 (what counts as expired or locked).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from broker.sandbox.directory.entries import Entry

ACCOUNT_DISABLED: Final = 0x2
LOCKED_OUT: Final = 0x10
NEVER_EXPIRES: Final = 0x10000
PASSWORD_EXPIRED: Final = 0x800000
"""Bits of userAccountControl ([MS-ADTS] 2.2.16)."""

_FOREVER: Final = -(2**63)
_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)
_TICKS_PER_MICROSECOND: Final = 10
_HALF_AN_HOUR: Final = -18_000_000_000
_NO_EXPIRY: Final = frozenset({0, 2**63 - 1})


class SubCode(StrEnum):
    """What follows `data` in the diagnostic message of a refused bind."""

    WRONG = "52e"
    PASSWORD_EXPIRED = "532"  # noqa: S105 - a code
    DISABLED = "533"
    ACCOUNT_EXPIRED = "701"
    MUST_CHANGE = "773"
    LOCKED = "775"


def filetime(now: datetime) -> int:
    """A point in time as the attributes hold it: whole 100 ns since 1601."""
    return (now - _EPOCH) // timedelta(microseconds=1) * _TICKS_PER_MICROSECOND


def generalized_time(now: datetime) -> str:
    """A point in time as whenCreated and currentTime hold it."""
    return now.astimezone(UTC).strftime("%Y%m%d%H%M%S.0Z")


@dataclass(frozen=True)
class PasswordPolicy:
    """What the domain's root entry says. A threshold of 0 switches lock-out off."""

    lockout_threshold: int
    observation_window: int
    lockout_duration: int
    maximum_age: int

    @classmethod
    def of(cls, root: Entry) -> "PasswordPolicy":
        """The policy of a domain, with the defaults of Windows for what its root entry does not say."""
        return cls(
            root.number("lockoutThreshold"),
            root.number("lockOutObservationWindow", _HALF_AN_HOUR),
            root.number("lockoutDuration", _HALF_AN_HOUR),
            root.number("maxPwdAge", _FOREVER),
        )


def is_locked(account: Entry, policy: PasswordPolicy, now: datetime) -> bool:
    """Whether the account is locked out. A lockout duration of 0, or of forever, ends by an operator only."""
    since = account.number("lockoutTime")
    if since == 0:
        return False
    return policy.lockout_duration in {0, _FOREVER} or filetime(now) < since - policy.lockout_duration


def has_expired_password(account: Entry, policy: PasswordPolicy, now: datetime) -> bool:
    """Whether the password has to be changed: never set, reset by an operator, or too old."""
    if account.number("userAccountControl") & NEVER_EXPIRES:
        return False
    changed = account.number("pwdLastSet")
    return changed == 0 or (policy.maximum_age not in {0, _FOREVER} and filetime(now) - changed > -policy.maximum_age)


def computed_control(account: Entry, policy: PasswordPolicy, now: datetime) -> int:
    """msDS-User-Account-Control-Computed: the bits that change without anybody writing them."""
    locked = LOCKED_OUT if is_locked(account, policy, now) else 0
    return locked | (PASSWORD_EXPIRED if has_expired_password(account, policy, now) else 0)


def refusal(account: Entry, policy: PasswordPolicy, now: datetime, *, password_is_right: bool) -> SubCode | None:
    """Why this bind fails, or None if it succeeds. Only a lock-out shows without the right password."""
    if is_locked(account, policy, now):
        return SubCode.LOCKED
    if not password_is_right:
        return SubCode.WRONG
    if account.number("userAccountControl") & ACCOUNT_DISABLED:
        return SubCode.DISABLED
    expires = account.number("accountExpires")
    if expires not in _NO_EXPIRY and expires <= filetime(now):
        return SubCode.ACCOUNT_EXPIRED
    if has_expired_password(account, policy, now):
        return SubCode.PASSWORD_EXPIRED if account.number("pwdLastSet") else SubCode.MUST_CHANGE
    return None


def after_wrong_password(account: Entry, policy: PasswordPolicy, now: datetime) -> Entry:
    """The account with one more wrong password on its count, and locked if that was one too many."""
    if policy.lockout_threshold == 0 or is_locked(account, policy, now):
        return account
    at = filetime(now)
    in_window = at - account.number("badPasswordTime") <= -policy.observation_window
    count = (account.number("badPwdCount") if in_window else 0) + 1
    counted = account.with_values("badPwdCount", count).with_values("badPasswordTime", at)
    return counted.with_values("lockoutTime", at) if count >= policy.lockout_threshold else counted


def after_right_password(account: Entry) -> Entry:
    """The account with its count of wrong passwords at zero and no lock-out left over."""
    for attribute in ("badPwdCount", "lockoutTime"):
        if account.number(attribute):
            account = account.with_values(attribute, 0)
    return account
