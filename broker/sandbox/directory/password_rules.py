"""Which new passwords the domain takes ([MS-SAMR] 3.1.1.7 and 3.1.1.8.5).

Active Directory has one error for all of these rules, and does not say which one was broken.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.sandbox.directory import passwords
from broker.sandbox.directory.accounts import filetime
from broker.sandbox.directory.entries import Entry

HISTORY: Final = "ntPwdHistory"
MINIMUM_PASSWORD_LENGTH: Final = 8
"""In UTF-16 code units, of a domain that does not say."""

_COMPLEX: Final = 0x1
"""DOMAIN_PASSWORD_COMPLEX of pwdProperties ([MS-SAMR] 2.2.3.1)."""
_KINDS: Final = (str.isupper, str.islower, str.isdigit)
_KINDS_WANTED: Final = 3
_SHORTEST_NAME: Final = 3
_NAME_PARTS: Final = re.compile(r"[,.\-_\s#]+")


@dataclass(frozen=True)
class PasswordRules:
    """What the domain's root entry says of new passwords; the age is a negative count of 100 ns."""

    minimum_length: int
    history_length: int
    minimum_age: int
    is_complex: bool

    @classmethod
    def of(cls, root: Entry) -> "PasswordRules":
        """The rules of a domain."""
        return cls(
            root.number("minPwdLength", MINIMUM_PASSWORD_LENGTH),
            root.number("pwdHistoryLength"),
            root.number("minPwdAge"),
            bool(root.number("pwdProperties") & _COMPLEX),
        )

    def allow(self, account: Entry, password: str) -> bool:
        """Whether the account may have this password at all: an operator is asked no more than that."""
        return len(password.encode("utf-16-le")) // 2 >= self.minimum_length and (
            not self.is_complex or _is_complex(account, password)
        )

    def allow_change(self, account: Entry, password: str, now: datetime) -> bool:
        """Whether the person may change to this password now."""
        changed = account.number("pwdLastSet")
        is_old_enough = changed == 0 or filetime(now) - changed >= -self.minimum_age
        return is_old_enough and self.allow(account, password) and not self._is_used(account, password)

    def remembering(self, account: Entry) -> Entry:
        """The account, about to get another password, with the present one in its history."""
        used = (*account.values("userPassword"), *account.values(HISTORY))
        return account.with_values(HISTORY, *used[: self.history_length])

    def _is_used(self, account: Entry, password: str) -> bool:
        used = (account.text("userPassword"), *(value.decode() for value in account.values(HISTORY)))
        return any(passwords.matches(password.encode(), stored) for stored in used[: self.history_length])


def _is_complex(account: Entry, password: str) -> bool:
    names = [account.text("sAMAccountName"), *_NAME_PARTS.split(account.text("displayName"))]
    if any(len(name) >= _SHORTEST_NAME and name.casefold() in password.casefold() for name in names):
        return False
    return len({_kind(character) for character in password}) >= _KINDS_WANTED


def _kind(character: str) -> int:
    """Capital, small, digit, a letter that is neither capital nor small, or anything else."""
    cased = next((number for number, is_kind in enumerate(_KINDS) if is_kind(character)), None)
    return cased if cased is not None else len(_KINDS) + character.isalpha()
