from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.sandbox.directory import COMPANY_LDIF, ldif
from broker.sandbox.directory.entries import Tree
from broker.sandbox.directory.loading import tree_from
from tests.sandbox.directory.process import RunningDirectory, running_directory


@pytest.fixture(scope="package")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDirectory]:
    """The demo company, for tests that leave it as it is."""
    with running_directory(tmp_path_factory.mktemp("directory")) as running:
        yield running


@pytest.fixture
def own_directory(tmp_path: Path) -> Iterator[RunningDirectory]:
    """The demo company, for one test alone."""
    with running_directory(tmp_path / "state") as running:
        yield running


@pytest.fixture(scope="package")
def company() -> Tree:
    """The demo company in memory."""
    return tree_from(ldif.read(COMPANY_LDIF.read_text()), datetime(2026, 11, 23, 12, tzinfo=UTC))
