"""Our clock against that of STS, which says the time in every answer."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import structlog

from broker.adapters.aws.once_an_hour import OnceAnHour
from broker.core.assertion import CLOCK_SKEW
from broker.core.errors import clock_difference

# What an assertion's NotBefore covers. STS publishes no tolerance of its own.
LARGEST_SKEW: Final = CLOCK_SKEW
# RFC 9110 section 5.6.7: Date has whole seconds, so the moment it stands for is half of one later on average.
_HALF_A_SECOND: Final = timedelta(milliseconds=500)

_log = structlog.get_logger("broker.aws")


class ClockSkew:
    """The latest measurement; threads share one."""

    def __init__(self) -> None:
        """Nothing is known until STS has answered once."""
        self._lock = threading.Lock()
        self._ahead: timedelta | None = None
        self._said = OnceAnHour()

    def measure(self, date: str | None, asked_at: datetime, answered_at: datetime) -> None:
        """Compare the ``Date`` of an answer with the middle of the time in which it was given.

        Args:
            date: as RFC 9110 section 6.6.1 has it; anything else measures nothing.
            asked_at: aware, UTC, by our clock.
            answered_at: the same, when the answer was there.
        """
        try:
            theirs = parsedate_to_datetime(date or "")
        except (ValueError, TypeError, OverflowError):
            return
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        try:
            ahead = asked_at + (answered_at - asked_at) / 2 - (theirs + _HALF_A_SECOND)
        except OverflowError:
            return
        with self._lock:
            self._ahead = ahead
        if (problem := self.problem()) is not None and self._said.is_due("clock", answered_at):
            _log.warning("clock differs from that of STS", problem=problem)

    def too_far(self) -> timedelta | None:
        """How far our clock is ahead of STS's (behind, where negative); None where that can be let pass."""
        with self._lock:
            return self._ahead if self._ahead is not None and abs(self._ahead) > LARGEST_SKEW else None

    def problem(self) -> str | None:
        """What is wrong with our clock, for the operator; None when nothing is, or nothing is known."""
        ahead = self.too_far()
        if ahead is None:
            return None
        return f"{clock_difference(ahead)} STS refuses assertions from a clock that is off: set it by NTP."
