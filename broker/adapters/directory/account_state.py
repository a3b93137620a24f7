"""What an entry says about the state of the account, for when there is no password to try."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from broker.adapters.directory.messages import Entry
from broker.core.errors import DirectoryUnavailable, LoginCause

# [MS-ADTS] 2.2.16 and 3.1.1.4.5.17: flags of userAccountControl and of what the server computes.
_ACCOUNT_DISABLED: Final = 0x2
_LOCKED_OUT: Final = 0x10
_PASSWORD_NEVER_EXPIRES: Final = 0x10000
_PASSWORD_EXPIRED: Final = 0x800000

_NEVER: Final = frozenset({0, 0x7FFFFFFFFFFFFFFF})
_WINDOWS_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)
_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_TICK: Final = (datetime.max.replace(tzinfo=UTC) - _WINDOWS_EPOCH) // timedelta(microseconds=1) * 10

ACTIVE_DIRECTORY_ATTRIBUTES: Final = (
    "userAccountControl",
    "msDS-User-Account-Control-Computed",
    "accountExpires",
    "pwdLastSet",
)
"""Every account has each of them; they are one property set, User-Account-Restrictions ([MS-ADTS] 5.1.3.2)."""

OPENLDAP_ATTRIBUTES: Final = ("pwdAccountLockedTime", "pwdReset", "nsAccountLock", "accountUnlockTime")


def unreadable_state(entry: Entry) -> tuple[str, ...]:
    """What the service account may not read of the state of an account in Active Directory."""
    return tuple(name for name in ACTIVE_DIRECTORY_ATTRIBUTES if entry.number(name) is None)


def active_directory_state(entry: Entry, now: datetime) -> LoginCause | None:
    """Why Active Directory would refuse this account, or None.

    A disabled account is called disabled whatever else it is: that is what its administrator meant.

    Raises:
        DirectoryUnavailable: the service account may not read enough to tell: a disabled account would look like any.
    """
    flags, computed, expires, password_set = (entry.number(name) for name in ACTIVE_DIRECTORY_ATTRIBUTES)
    if flags is None or computed is None or expires is None or password_set is None:
        raise DirectoryUnavailable(
            f"the service account may not read {', '.join(unreadable_state(entry))} of {entry.dn!r}, so nobody knows"
            " whether the account is disabled or expired: let it read the property set 'Account Restrictions' of people"
        )
    if flags & _ACCOUNT_DISABLED:
        return LoginCause.DISABLED
    if expires not in _NEVER and moment(expires) <= now:
        return LoginCause.ACCOUNT_EXPIRED
    # Not lockoutTime, which stays after the lock-out has ended: the server's own sum knows.
    if computed & _LOCKED_OUT:
        return LoginCause.LOCKED
    if password_set == 0 and not flags & _PASSWORD_NEVER_EXPIRES:
        return LoginCause.MUST_CHANGE_PASSWORD
    if computed & _PASSWORD_EXPIRED:
        return LoginCause.PASSWORD_EXPIRED
    return None


def openldap_state(entry: Entry, now: datetime) -> LoginCause | None:
    """Why OpenLDAP's password policy or 389 Directory Server would refuse this account, or None.

    A lock of OpenLDAP's policy counts for as long as the attribute is there. It may have run out, which only the next
    bind finds out and clears; until then the account is refused. 389 Directory Server writes down when a lock ends.
    """
    if "true" in (value.lower() for value in entry.texts("nsAccountLock")):
        return LoginCause.DISABLED
    if entry.octets("pwdAccountLockedTime") or any(
        _is_locked_until(text, now) for text in entry.texts("accountUnlockTime")
    ):
        return LoginCause.LOCKED
    if "TRUE" in entry.texts("pwdReset"):
        return LoginCause.MUST_CHANGE_PASSWORD
    return None


def _is_locked_until(written: str, now: datetime) -> bool:
    """Whether a lock of 389 Directory Server holds; one without an end is written as the year 1970."""
    try:
        moment = datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return True  # an administrator's spelling of the time; the next bind clears it once it is over
    return moment <= _UNIX_EPOCH or now < moment


def moment(ticks: int) -> datetime:
    """A Windows FILETIME: tenths of a microsecond since 1601; beyond the year 9999 it is that year's end."""
    return _WINDOWS_EPOCH + timedelta(microseconds=max(0, min(ticks, _LAST_TICK)) // 10)
