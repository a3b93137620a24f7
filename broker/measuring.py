"""The numbers for a monitoring, composed. Asked for by anybody on the network, so they are kept for a few seconds."""

from __future__ import annotations

import threading
import time
from typing import Final

from broker.adapters.database.engine import Database
from broker.adapters.database.log_numbers import SqlLogNumbers
from broker.core.metrics import exposition, metrics_of
from broker.core.ports import Clock

_KEPT_SECONDS: Final = 5.0


class Measuring:
    """Counts one at a time and at most every few seconds."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._numbers = SqlLogNumbers(database)
        self._clock = clock
        self._counting = threading.Lock()
        self._page = ""
        self._due = 0.0

    def page(self) -> str:
        """The page.

        Raises:
            AuditUnavailable: no answer from the database.
        """
        with self._counting:
            if time.monotonic() >= self._due:
                self._page = exposition(metrics_of(self._numbers.read(self._clock())))
                self._due = time.monotonic() + _KEPT_SECONDS
            return self._page
