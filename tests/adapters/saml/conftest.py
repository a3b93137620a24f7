"""Two signing keys that the tests of this folder share; making one takes a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from broker.adapters.signing_keys import FileSigningKey, SigningKeyFolder


def _made(tmp_path_factory: pytest.TempPathFactory) -> FileSigningKey:
    folder = SigningKeyFolder(tmp_path_factory.mktemp("keys"))
    return folder.create_first("Federation Broker", timedelta(days=365), 2048, datetime.now(UTC))


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> FileSigningKey:
    return _made(tmp_path_factory)


@pytest.fixture(scope="session")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> FileSigningKey:
    return _made(tmp_path_factory)
