"""Work beside the requests goes on until it is stopped, whatever happens to it."""

from __future__ import annotations

import threading
from datetime import timedelta

import structlog
from structlog.testing import capture_logs

from broker.core.errors import AuditUnavailable
from broker.periodic import Periodic

SOON = timedelta(milliseconds=5)


def test_it_runs_again_and_again_and_once_more_at_the_end() -> None:
    times: list[bool] = []
    three = threading.Event()

    def work() -> None:
        times.append(True)
        if len(times) == 3:
            three.set()

    periodic = Periodic("counting", SOON, work)
    periodic.start()
    assert three.wait(10)
    periodic.stop()
    after = len(times)
    assert after >= 4
    assert not threading.Event().wait(0.05)
    assert len(times) == after


def test_what_happened_just_before_the_end_is_still_done() -> None:
    done = threading.Event()
    periodic = Periodic("sealing", timedelta(hours=1), done.set)
    periodic.start()
    periodic.stop()
    assert done.is_set()


def test_failures_are_logged_and_it_goes_on() -> None:
    failures = iter([AuditUnavailable("the database is away"), ZeroDivisionError()])
    recovered = threading.Event()

    def work() -> None:
        failure = next(failures, None)
        if failure is None:
            recovered.set()
        else:
            raise failure

    structlog.reset_defaults()
    with capture_logs() as logged:
        periodic = Periodic("sealing", SOON, work)
        periodic.start()
        assert recovered.wait(10)
        periodic.stop()
    assert [line["work"] for line in logged] == ["sealing", "sealing"]
    assert logged[0]["detail"] == "the database is away"
    assert isinstance(logged[1]["exc_info"], ZeroDivisionError)


def test_one_that_never_began_stops_at_once() -> None:
    Periodic("sealing", SOON, lambda: None).stop()
