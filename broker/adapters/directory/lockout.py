"""What the directory itself does after wrong passwords: the policy that holds for one person.

Sources: [MS-ADTS] 3.1.1.4.5.36 (msDS-ResultantPSO) and [MS-ADA] (lockoutThreshold, lockOutObservationWindow);
draft-behera-ldap-password-policy-10 section 5.2 (pwdMaxFailure, pwdFailureCountInterval, pwdLockout).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.connection import Connection
from broker.adapters.directory.distinguished_names import domain_of
from broker.adapters.directory.messages import Entry, Scope, Search, everything
from broker.core.throttle import LockoutPolicy

# A policy changes once in years, a sign-in should not read it each time.
_KEPT_SECONDS: Final = 300.0
_FILETIMES_IN_A_SECOND: Final = 10_000_000
# An interval of zero (never, or until an administrator unlocks) still has to be a window; a day is as good as never.
_AS_GOOD_AS_NEVER: Final = timedelta(days=1)

_log: Final = logging.getLogger(__name__)

SearchWhole = Callable[[Connection, Search, float], Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class _Names:
    """The attributes of one kind of policy entry."""

    threshold: str
    window: str
    enabled: str | None
    ticks: bool


_DOMAIN: Final = _Names("lockoutThreshold", "lockOutObservationWindow", None, ticks=True)
_PASSWORD_SETTINGS: Final = _Names("msDS-LockoutThreshold", "msDS-LockoutObservationWindow", None, ticks=True)
_PPOLICY: Final = _Names("pwdMaxFailure", "pwdFailureCountInterval", "pwdLockout", ticks=False)


class LockoutPolicies:
    """Reads the policy that holds for a person and keeps it for a few minutes."""

    def __init__(self, config: DirectoryConfig, search: SearchWhole) -> None:
        """Prepare; nothing is read yet."""
        self._search = search
        self._active_directory = config.kind is DirectoryKind.ACTIVE_DIRECTORY
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, LockoutPolicy | None]] = {}

    @property
    def person_attributes(self) -> tuple[str, ...]:
        """What has to be read of a person."""
        return ("msDS-ResultantPSO",) if self._active_directory else ("pwdPolicySubentry",)

    def policy_of(self, entry: Entry, connection: Connection, deadline: float) -> LockoutPolicy | None:
        """The policy that holds for that person; None where the directory does not say.

        The person's own password settings object goes before the domain's policy. By default only administrators of
        the domain may read one; the domain's policy is then as strict a guess as can be made.
        """
        (own,) = self.person_attributes
        dn = entry.text(own)
        if dn is not None:
            names = _PASSWORD_SETTINGS if self._active_directory else _PPOLICY
            policy = self._policy_at(dn, names, connection, deadline)
            if policy is not None or not self._active_directory:
                return policy
        return self.usual_policy(entry.dn, connection, deadline)

    def usual_policy(self, dn: str, connection: Connection, deadline: float) -> LockoutPolicy | None:
        """The policy of the domain that a DN is in, for people without one of their own; None where there is no such.

        OpenLDAP has a default policy too, and no entry of a person says which one that is.
        """
        return self._policy_at(domain_of(dn), _DOMAIN, connection, deadline) if self._active_directory else None

    def _policy_at(self, dn: str, names: _Names, connection: Connection, deadline: float) -> LockoutPolicy | None:
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(dn)
        if kept is not None and now < kept[0]:
            return kept[1]
        attributes = tuple(name for name in (names.threshold, names.window, names.enabled) if name)
        found = self._search(connection, Search(dn, Scope.BASE, everything(), attributes), deadline)
        policy = _policy(found[0], names) if found else None
        if policy is None and names is _PASSWORD_SETTINGS:
            _log.warning(
                "the lock-out threshold of %s may not be read by the service account: strangers may be able to lock "
                "people out; let it read that entry, or keep throttle.threshold below what it says",
                dn,
            )
        with self._lock:
            self._kept[dn] = (now + _KEPT_SECONDS, policy)
        return policy


def _policy(entry: Entry, names: _Names) -> LockoutPolicy | None:
    threshold = entry.number(names.threshold)
    if threshold is None:
        return None
    locks = threshold > 0 and (names.enabled is None or entry.texts(names.enabled) == ("TRUE",))
    written = abs(entry.number(names.window) or 0)
    window = timedelta(seconds=written / _FILETIMES_IN_A_SECOND if names.ticks else written)
    return LockoutPolicy(
        threshold=threshold if locks else None, window=min(window or _AS_GOOD_AS_NEVER, _AS_GOOD_AS_NEVER)
    )
