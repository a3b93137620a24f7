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
from broker.core.throttle import UNTIL_LIFTED, LockoutPolicy

# A policy changes once in years, a sign-in should not read it each time.
_KEPT_SECONDS: Final = 300.0
_FILETIMES_IN_A_SECOND: Final = 10_000_000
# Of a password settings object that may not be read: the strictest with which anybody could sign in at all.
_UNREADABLE: Final = 2

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
        self._default_policy = config.password_policy
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, LockoutPolicy | None]] = {}

    @property
    def person_attributes(self) -> tuple[str, ...]:
        """What has to be read of a person."""
        return ("msDS-ResultantPSO",) if self._active_directory else ("pwdPolicySubentry",)

    def policy_of(self, entry: Entry, connection: Connection, deadline: float) -> LockoutPolicy | None:
        """The policy that holds for that person; None where the directory does not say.

        The person's own password settings object goes before the domain's policy. By default only administrators of
        the domain may read one: what is taken for it then is strict, and in the log.
        """
        (own,) = self.person_attributes
        dn = entry.text(own)
        usual = self.usual_policy(entry.dn, connection, deadline)
        if dn is None:
            return usual
        names = _PASSWORD_SETTINGS if self._active_directory else _PPOLICY
        policy = self._policy_at(dn, names, connection, deadline)
        if policy is None and self._active_directory:
            return LockoutPolicy(_UNREADABLE, usual.window if usual is not None else UNTIL_LIFTED)
        return policy

    def usual_policy(self, dn: str, connection: Connection, deadline: float) -> LockoutPolicy | None:
        """The policy for people without one of their own; None where it is not known.

        Active Directory keeps it in the domain that a DN is in. OpenLDAP has a default policy too, and no entry says
        which one that is: the settings do.
        """
        if self._active_directory:
            return self._policy_at(domain_of(dn), _DOMAIN, connection, deadline)
        if self._default_policy is not None:
            return self._policy_at(self._default_policy, _PPOLICY, connection, deadline)
        return None

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
                "the lock-out threshold of %s may not be read by the service account, so it is taken to be %d: let the "
                "account read that entry",
                dn,
                _UNREADABLE,
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
    # Zero: never (the draft's section 5.2.12).
    return LockoutPolicy(threshold=threshold if locks else None, window=min(window or UNTIL_LIFTED, UNTIL_LIFTED))
