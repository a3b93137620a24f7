from __future__ import annotations

import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from broker.web.request_log import configure_logging
from tests.web.world import HANAKO, Browser, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def browser(world: World) -> Browser:
    return world.browser()


@pytest.fixture
def hanako(browser: Browser) -> Browser:
    """A browser in which Hanako is signed in."""
    assert browser.sign_in(HANAKO).status_code == 303
    return browser


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What the process that serves would write to standard error, the libraries' debugging included."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = StringIO()
    configure_logging(logging.DEBUG, stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()
