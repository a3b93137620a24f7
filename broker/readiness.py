"""Is everything there that issuing needs? Asked by anybody, so the answer is kept for a few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from broker.core.errors import BrokerError

_KEPT_SECONDS: Final = 5.0

Checks = Mapping[str, Callable[[], object]]


class Readiness:
    """Runs checks, one at a time and at most every few seconds.

    While a check waits for something that hangs, others get the latest answer: a health probe must not use up the
    threads that serve people.
    """

    def __init__(self, checks: Checks) -> None:
        """Remember what to check; nothing is asked yet. A check fails by raising BrokerError."""
        self._checks = checks
        self._checking = threading.Lock()
        self._latest: Mapping[str, str | None] = dict.fromkeys(checks, "not checked yet")
        self._due = 0.0

    def __call__(self) -> Mapping[str, str | None]:
        """Each check and what is wrong, None when nothing is."""
        if time.monotonic() >= self._due and self._checking.acquire(blocking=False):
            try:
                self._latest = {name: _problem(check) for name, check in self._checks.items()}
                self._due = time.monotonic() + _KEPT_SECONDS
            finally:
                self._checking.release()
        return self._latest


def _problem(check: Callable[[], object]) -> str | None:
    try:
        check()
    except BrokerError as error:
        return str(error)
    return None
