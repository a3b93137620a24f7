"""Structured logs: one line for each request, one for each error, JSON on standard error."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final, TextIO, cast

import structlog
from flask import Flask, Response, request

from broker.core.errors import BrokerError
from broker.web.visit import visit

_SHARED: Final = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send every log line, the libraries' too, to one stream as JSON. For the process that serves, once.

    Args:
        level: of :mod:`logging`; lines below it are dropped.
        stream: standard error when None.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _frames_of_exception,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def logger() -> structlog.stdlib.BoundLogger:
    """The portal's logger."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger("broker.web"))


def describe_exception(error: BaseException) -> list[str]:
    """An exception and its causes: types, places in the code, and the text of our own errors.

    The text of anyone else's exception may quote what it choked on, a password say, so it stays out; so do local
    variables.
    """
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        kind = type(current)
        text = f": {current}" if isinstance(current, BrokerError) else ""
        lines.append(f"{kind.__module__}.{kind.__qualname__}{text}")
        lines.extend(
            f"  {frame.filename}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(current.__traceback__)
        )
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return lines


def _frames_of_exception(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    given: tuple[type[BaseException], BaseException, TracebackType] | BaseException | bool | None = event.pop(
        "exc_info", None
    )
    if given is True:
        given = sys.exc_info()[1]
    if isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event["trace"] = describe_exception(given)
    return event


def _log_request(response: Response) -> Response:
    here = visit()
    logger().info(
        "request",
        method=request.method,
        # The rule, not the path: a path can hold anything that somebody pasted into the address bar.
        route=request.url_rule.rule if request.url_rule else None,
        status=response.status_code,
        milliseconds=round((time.perf_counter() - here.started) * 1000, 1),
        principal_id=here.session.principal_id if here.session else None,
    )
    return response


def register(app: Flask) -> None:
    """Log every request of the application."""
    app.after_request(_log_request)
