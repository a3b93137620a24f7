"""How often, where and for how long STS is asked within one exchange."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from broker.core.entitlements import Grant
from broker.core.errors import DurationNotGranted, RegionNotEnabled, TokenServiceRefused, TokenServiceUnavailable

# AWS IAM API reference, CreateRole, MaxSessionDuration: at least 3600, so every role gives an hour.
EVERY_ROLE_GIVES: Final = timedelta(hours=1)

MOST_TRIES: Final = 6
# The pause before a further try is drawn from zero to this, doubled with each try: clients that were refused together
# do not come back together (AWS architecture blog, "Exponential backoff and jitter", full jitter).
FIRST_PAUSE: Final = timedelta(milliseconds=250)
LONGEST_PAUSE: Final = timedelta(seconds=4)
# With less time left, a try would end before STS can answer.
SHORTEST_TRY: Final = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A try that gave neither credentials nor a refusal.

    Attributes:
        cause: for the operator.
        repeat: whether it is safe and may help to ask again. It is safe where no credentials came back: STS takes the
            same assertion again, and what an unheard request may have made is in nobody's hands.
        regional: whether another region may do better.
        request_id: where STS gave one.
    """

    cause: str
    repeat: bool
    regional: bool
    request_id: str | None = None


@dataclass(slots=True)
class Tries:
    """Where one exchange stands: what is asked next, or what comes of it.

    Attributes:
        grant: what the exchange is for, the same in each try.
        regions: those left to ask, the next one first.
        ends: when the exchange is given up, by :func:`time.monotonic`.
        duration: to ask for.
        made: how many there have been.
        causes: of those that had no answer.
        has_moved: whether a region gave way to the other one already.
    """

    grant: Grant
    regions: tuple[str, ...]
    ends: float
    duration: timedelta = field(init=False)
    made: int = 0
    causes: list[str] = field(default_factory=list)
    has_moved: bool = False

    def __post_init__(self) -> None:
        self.duration = self.grant.duration

    @property
    def region(self) -> str:
        """Where to ask next."""
        return self.regions[0]

    @property
    def shortened_to(self) -> timedelta | None:
        """How long the session lasts where the role gave no longer; None where it is as long as granted."""
        return self.duration if self.duration < self.grant.duration else None

    def time_left(self) -> timedelta:
        """Until the exchange is given up; never negative."""
        return timedelta(seconds=max(0.0, self.ends - time.monotonic()))

    def time_for_try(self, longest: timedelta) -> timedelta:
        """How long the next try may take.

        While the other region was not asked, half of what is left is kept for it: a deadline may be shorter than the
        timeouts of one try, and a region that hangs would use it up.

        Args:
            longest: by the timeouts of one try.
        """
        left = self.time_left()
        return min(longest, left / 2 if len(self.regions) > 1 and not self.has_moved else left)

    def after_refusal(self, refused: TokenServiceRefused) -> None:
        """Change what is asked for so that STS may agree.

        A session that is too long is asked for once more with an hour: the same assertion serves, since of its
        SessionDuration and the call's DurationSeconds STS takes the lesser. A region that is switched off for the
        account gives way to the other one.

        Raises:
            TokenServiceRefused: that refusal, where asking again would be of no use.
        """
        if self._may_ask_again():
            if isinstance(refused, DurationNotGranted) and self.duration > EVERY_ROLE_GIVES:
                self.duration = EVERY_ROLE_GIVES
                return
            if isinstance(refused, RegionNotEnabled) and len(self.regions) > 1:
                self.regions = self.regions[1:]
                return
        raise refused

    def after_no_answer(self, silence: NoAnswer) -> timedelta:
        """Note the cause and move to the other region where it was this one's.

        Returns:
            how long to wait before asking again.

        Raises:
            TokenServiceUnavailable: it would not be safe or of no use, or the time is over.
        """
        self.causes.append(f"try {self.made} in {self.region}: {silence.cause}")
        pause = drawn_pause(self.made)
        if silence.regional and len(self.regions) > 1:
            self.regions = (*self.regions[1:], self.regions[0])
            self.has_moved = True
            if self.made == 1:
                pause = timedelta(0)
        if not silence.repeat or not self._may_ask_again(after=pause):
            raise TokenServiceUnavailable(f"no answer from STS: {'; '.join(self.causes)}", tries=self.made)
        return pause

    def _may_ask_again(self, after: timedelta = timedelta(0)) -> bool:
        return self.made < MOST_TRIES and self.time_left() >= after + SHORTEST_TRY


def drawn_pause(made: int) -> timedelta:
    """How long to wait before a further try.

    Args:
        made: how many tries there have been.
    """
    return secrets.SystemRandom().random() * min(LONGEST_PAUSE, FIRST_PAUSE * (1 << made - 1))
