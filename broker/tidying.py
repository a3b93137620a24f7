"""Tidying, composed: the thread of a worker that removes what counts for nothing any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from broker.adapters.database.attempts import SqlAttempts
from broker.adapters.database.engine import Database
from broker.core.ports import Clock
from broker.periodic import Periodic

# Nothing waits for it; strangers who make up names add a row for each.
_EVERY: Final = timedelta(seconds=20)


def tidying(url: str, clock: Clock) -> Periodic:
    """What each worker does; two at once leave each other's rows alone.

    Args:
        url: of the database.
        clock: the broker's.
    """
    # A connection of its own, as for sealing.
    attempts = SqlAttempts(Database(url, connections=1))

    def purge() -> None:
        attempts.purge(clock())

    return Periodic("tidying", _EVERY, purge)
