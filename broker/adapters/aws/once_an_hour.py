"""Saying a thing once an hour, however often it happens."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Final

_AN_HOUR: Final = timedelta(hours=1)


class OnceAnHour:
    """Which things have been said within the hour, in this process; threads share one."""

    def __init__(self) -> None:
        """Nothing has been said."""
        self._lock = threading.Lock()
        self._said_at: dict[str, datetime] = {}

    def is_due(self, thing: str, now: datetime) -> bool:
        """Whether to say it now; who is told so has to.

        Args:
            thing: what is said apart from others: one of a few, such as the roles of the entitlements file.
            now: aware, UTC.
        """
        with self._lock:
            said_at = self._said_at.get(thing)
            if said_at is not None and said_at <= now < said_at + _AN_HOUR:
                return False
            self._said_at[thing] = now
            return True
