from __future__ import annotations

import pytest

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
