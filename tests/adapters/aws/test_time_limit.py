"""A bound on the whole time of a call."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from broker.adapters.aws.time_limit import TimeLimitPassed, within

SHORT = timedelta(milliseconds=50)
LONG = timedelta(seconds=10)


@pytest.mark.parametrize("given", ["x", None, 0])
def test_what_the_call_gives_is_given(given: object) -> None:
    assert within(LONG, lambda: given) is given


def test_what_the_call_raises_is_raised() -> None:
    nothing: dict[str, str] = {}
    with pytest.raises(KeyError, match="x"):
        within(LONG, lambda: nothing["x"])


def test_a_call_that_takes_too_long_is_left_to_itself_and_keeps_no_process_alive() -> None:
    done = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeLimitPassed) as caught:
        within(SHORT, lambda: done.wait(10))
    assert time.monotonic() - began < 1
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    left = [thread for thread in threading.enumerate() if thread.name == "call to AWS"]
    assert left
    assert all(thread.daemon for thread in left)
    done.set()


def test_without_any_time_nothing_is_waited_for() -> None:
    with pytest.raises(TimeLimitPassed):
        within(timedelta(0), lambda: time.sleep(1))


def test_a_call_does_not_wait_for_another() -> None:
    barrier = threading.Barrier(2, timeout=5)
    other = threading.Thread(target=lambda: within(LONG, barrier.wait))
    other.start()
    within(LONG, barrier.wait)
    other.join()
