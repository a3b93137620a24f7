"""Record, act, record, while workers are killed and the database goes away: the short run of `make chaos`."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.adapters.database.postgresql import PostgresqlServer
from tests.chaos import campaign
from tests.chaos.broker_process import serving
from tests.chaos.full_disk import assert_outlived, limited_files
from tests.flow.demo_process import Demo, running_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running_demo(tmp_path_factory.mktemp("chaos") / "demo") as running:
        yield running


@pytest.fixture
def seed() -> int:
    chosen = random.SystemRandom().randrange(1_000_000)
    print(f"seed {chosen}")  # shown with a failure; tests.chaos takes it as --seed
    return chosen


def assert_held(outcome: campaign.Outcome) -> None:
    """The campaign was one; what must never happen is asserted by the reckoning itself."""
    print(outcome)
    assert outcome.reckoning.received > 10
    assert outcome.reckoning.unknown > 0
    assert outcome.reckoning.issued_unknown > 0
    assert sum(outcome.outages.values()) == 4
    assert 503 in outcome.answers
    assert outcome.slowest_seconds < 10


def test_on_sqlite_no_credential_is_without_its_intent_and_none_is_received_without_its_outcome(
    demo: Demo, seed: int
) -> None:
    database = f"sqlite:///{demo.folder}/chaos.db"
    outcome = campaign.run(demo, database, "chaos-sqlite", kills=16, outages=1, seed=seed, server=None)
    assert_held(outcome)


def test_on_postgresql_too(demo: Demo, seed: int) -> None:
    server = PostgresqlServer()
    try:
        server.start()
        database = server.url(server.create_database())
        outcome = campaign.run(demo, database, "chaos-postgresql", kills=16, outages=1, seed=seed, server=server)
    finally:
        server.remove()
    assert_held(outcome)


def test_a_full_disk_is_said_to_everybody_and_outlived_without_a_restart(demo: Demo) -> None:
    database = f"sqlite:///{demo.folder}/full.db"
    with serving(demo, demo.described["aws_endpoint"], database, "full-disk") as broker:
        assert_outlived(broker, demo, limited_files(broker))
