"""One running demo for all journeys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow.demo_process import Demo, running_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo that most tests share; those that break a part start their own."""
    with running_demo(tmp_path_factory.mktemp("flow") / "demo") as running:
        yield running
