"""How many wrong passwords the broker lets through: always fewer than the directory's own lock-out.

Whoever may make the directory count a failure for somebody else may lock them out of everything. So the broker stops
first. Each person has a public budget, which anybody can burn, and a small one besides for browsers they have signed
in with before; both together stay below the directory's threshold. A name that is nobody's has budgets too, or the
throttle would tell which names exist.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

# An attempt is counted here before the directory sees it, which starts its own window that much later: by up to the
# timeouts of the adapter, seconds by default.
SEEN_LATER: Final = timedelta(minutes=1)

UNTIL_LIFTED: Final = timedelta(days=36_500)
"""The window where a directory forgets no failure by itself: a right password or an administrator ends it."""


@dataclass(frozen=True, slots=True)
class LockoutPolicy:
    """What the directory itself does after wrong passwords.

    Attributes:
        threshold: failures after which the account is locked; None when it never is.
        window: after this long without another failure the directory starts to count anew, by its own clock;
            :data:`UNTIL_LIFTED` where it never does.
    """

    threshold: int | None
    window: timedelta


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """The operator's limits.

    Attributes:
        threshold: taken for the directory's where that says nothing, or never locks.
        window: likewise.
        device_attempts: at most this many are kept for browsers that the person has signed in with before.
        address_attempts: wrong passwords from one address, whoever they are for.
    """

    threshold: int
    window: timedelta
    device_attempts: int
    address_attempts: int

    def __post_init__(self) -> None:
        if self.threshold < 1 or self.device_attempts < 0 or self.address_attempts < 1 or self.window <= timedelta():
            raise ValueError("a throttle needs a threshold, a window and an address budget above zero")


class BudgetKind(StrEnum):
    """Whose attempts a budget counts."""

    PERSON = "person"
    DEVICE = "device"
    NAME = "name"
    ADDRESS = "address"
    CODE = "code"
    CODE_DEVICE = "code-device"
    RECOVERY = "recovery"
    PASSKEY = "passkey"
    ENROLMENT = "enrolment"


@dataclass(frozen=True, slots=True)
class Budget:
    """How many attempts one subject has in one window.

    Attributes:
        kind: what the subject is.
        subject: an immutable id (person, device, code), a keyed hash (a name that did not resolve), an address, or
            the digest of a sign-in's token (recovery code, passkey, enrolment).
        attempts: wrong passwords that are let through.
        window: counting starts anew this long after the latest attempt, as directories do it; for an address after
            the first one, or a busy office would never start anew.
    """

    kind: BudgetKind
    subject: str
    attempts: int
    window: timedelta

    @property
    def counts_from_first(self) -> bool:
        """Whether the window begins with the first attempt, not with the latest."""
        return self.kind is BudgetKind.ADDRESS

    @property
    def key(self) -> str:
        """One text for kind and subject."""
        return f"{self.kind}:{self.subject}"


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The answer for an attempt that is not let through.

    Attributes:
        until: when the next one is.
        unreported: attempts held back since the audit was last told of this budget, this one included; None when it
            was told within the same minute, so that a flood is one row for each minute.
    """

    until: datetime
    unreported: int | None


@dataclass(frozen=True, slots=True)
class Hold:
    """A budget that is used up, as an administrator sees it.

    Attributes:
        key: of the budget, see :attr:`Budget.key`.
        username: of the person, where there is one.
        attempts: that were let through.
        held_back: attempts since then that were not.
    """

    key: str
    username: str | None
    attempts: int
    held_back: int
    since: datetime
    until: datetime

    @property
    def kind(self) -> BudgetKind:
        """Whose attempts it counts."""
        return BudgetKind(self.key.partition(":")[0])

    @property
    def subject(self) -> str:
        """An immutable id, a keyed hash or an address."""
        return self.key.partition(":")[2]

    @property
    def ends_by_itself(self) -> bool:
        """Whether time ends it; otherwise a right password in a browser that is known does, or an administrator."""
        return ends_by_itself(self.until - self.since)


def ends_by_itself(wait: timedelta) -> bool:
    """Whether it is worth while to wait for that."""
    return wait < UNTIL_LIFTED / 2


def address_budget(address: str, limits: ThrottleLimits) -> Budget:
    """The budget of an address; of an IPv6 one, that of its /64, which one household has for itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        subject = address
    else:
        subject = str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)  # noqa: PLR2004
    return Budget(BudgetKind.ADDRESS, subject, limits.address_attempts, limits.window)


def person_budgets(
    kind: BudgetKind, subject: str, policy: LockoutPolicy | None, limits: ThrottleLimits
) -> tuple[Budget, Budget]:
    """The public budget of a person (or of a name that is nobody's), and the one for their own browsers.

    Args:
        kind: person or name.
        subject: as in :class:`Budget`.
        policy: of the directory for that person; None where it does not say.
        limits: of the operator.
    """
    threshold = limits.threshold
    window = limits.window
    if policy is not None and policy.threshold is not None:
        threshold, window = min(threshold, policy.threshold), max(window, policy.window)
    # The directory locks at the threshold, so one less may pass; but without a single attempt nobody could sign in.
    passing = max(1, threshold - 1)
    device = min(limits.device_attempts, passing // 2)
    window += SEEN_LATER
    return (
        Budget(kind, subject, passing - device, window),
        Budget(BudgetKind.DEVICE, subject, device, window),
    )
