"""A bound on the whole time of a call, whatever it waits for.

Timeouts of a socket bound one wait. Name resolution has none, and an answer that comes a byte at a time never meets
one; so the call runs in a thread of its own, and is left to itself when its time is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import TypeVar

_T = TypeVar("_T")


class TimeLimitPassed(Exception):
    """The call was not done in time; what it gives later is thrown away."""


def within(limit: timedelta, call: Callable[[], _T]) -> _T:
    """What the call gives, if it gives it in time.

    Args:
        limit: of the whole call.
        call: safe to leave alone; it keeps its thread and connection until it ends by itself.

    Raises:
        TimeLimitPassed: it did not end in time.
        Exception: whatever the call raised.
    """
    outcome: SimpleQueue[tuple[_T, None] | tuple[None, Exception]] = SimpleQueue()

    def run() -> None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.put((None, error))
        else:
            outcome.put((result, None))

    # A daemon: a call that hangs must not keep the process from ending.
    threading.Thread(target=run, name="call to AWS", daemon=True).start()
    try:
        result, error = outcome.get(timeout=limit.total_seconds())
    except Empty:
        raise TimeLimitPassed from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # None only where the call itself gave it
