"""Work that a worker does beside its requests, every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from broker.core.errors import BrokerError

_log = structlog.get_logger()
# Of a stopping worker: a statement is given up after five seconds, and gunicorn waits thirty.
_STOP_WITHIN_SECONDS: Final = 10.0


class Periodic:
    """Runs something in a thread of its own, from :meth:`start` in the worker until :meth:`stop`, and once more then.

    What it raises is logged, and it is tried again: an outage ends.
    """

    def __init__(self, name: str, every: timedelta, work: Callable[[], None]) -> None:
        """Remember what to do; nothing begins before the worker is forked, which takes no threads along."""
        self._name = name
        self._every = every
        self._work = work
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the process that calls."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Run a last time, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_WITHIN_SECONDS)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(self._every.total_seconds())
            try:
                self._work()
            except BrokerError as error:
                _log.error("periodic work failed", work=self._name, error=type(error).__name__, detail=str(error))
            except Exception as error:  # noqa: BLE001 - a defect must not end the thread for good; it is in the log
                _log.error("periodic work failed", work=self._name, exc_info=error)
