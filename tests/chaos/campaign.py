"""Kills at random and at chosen moments, and the database gone in between; then the reckoning."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_search import AuditFilter
from tests.adapters.database.postgresql import PostgresqlServer
from tests.chaos.broker_process import BrokerProcess, serving
from tests.chaos.clients import Load
from tests.chaos.gate import Gate, Moment
from tests.chaos.reckoning import Reckoning, reckon, sessions_of
from tests.flow.demo_process import Demo

_SOON_SECONDS = 5.0
_AGAIN_SECONDS = 20.0

Outage = Callable[[], AbstractContextManager[None]]


@dataclass
class Campaign:
    """One broker under load and faults.

    Attributes:
        kills: how many workers were killed, by the moment.
        outages: how often the database was gone, by the moment.
        slowest_seconds: from a kill until the service answered again, with all its workers.
    """

    broker: BrokerProcess
    gate: Gate
    load: Load
    chance: random.Random
    outage: Outage
    kills: Counter[str] = field(default_factory=Counter)
    outages: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0

    def kill(self, times: int) -> None:
        """Kill so many workers, each at another moment."""
        while self.kills.total() < times:
            # Long enough for some requests to come through, and never a whole number of them.
            time.sleep(self.chance.uniform(0.05, 0.4))
            moment = self.chance.choice(("any", "any", *Moment, "all"))
            if moment in {"any", "all"}:
                workers = self.broker.workers()
                for worker in workers if moment == "all" else [self.chance.choice(workers)]:
                    self.kills[moment] += self.broker.kill(worker)
            else:
                self._kill_at(Moment(moment))
            self.slowest_seconds = max(self.slowest_seconds, self.broker.wait_until_it_answers())

    def lose_the_database(self, moments: Sequence[Moment | None]) -> None:
        """Take the database away, at those moments of an exchange or at any, and give it back."""
        for moment in moments:
            with self._at(moment) as reached:
                if not reached.wait(_SOON_SECONDS):
                    continue
                with self.outage():
                    self.outages[moment or "any"] += 1
                    self._release()
                    time.sleep(self.chance.uniform(0.2, 0.6))
                    assert self.broker.status("/healthz") == 200
            self.broker.wait_until_it_answers("/login")

    def _kill_at(self, moment: Moment) -> None:
        done = threading.Event()
        pause = self.chance.uniform(0, 0.012) if moment is Moment.TOLD else 0.0

        def kill(port: int) -> None:
            time.sleep(pause)
            worker = self.broker.worker_at(port)
            if worker is not None:
                self.kills[moment] += self.broker.kill(worker)
            done.set()

        self.gate.arm(moment, kill)
        if not done.wait(_SOON_SECONDS):
            self.gate.disarm()

    @contextmanager
    def _at(self, moment: Moment | None) -> Iterator[threading.Event]:
        reached, self._go_on = threading.Event(), threading.Event()
        if moment is None:
            reached.set()
            yield reached
            return

        def hold(_port: int) -> None:
            reached.set()
            self._go_on.wait(_SOON_SECONDS)

        self.gate.arm(moment, hold)
        try:
            yield reached
        finally:
            self.gate.disarm()
            self._release()

    def _release(self) -> None:
        self._go_on.set()


@dataclass(frozen=True)
class Outcome:
    """What a campaign came to."""

    kills: dict[str, int]
    outages: dict[str, int]
    answers: dict[int | None, int]
    slowest_seconds: float
    reckoning: Reckoning


def run(
    demo: Demo,
    database: str,
    name: str,
    *,
    kills: int,
    outages: int,
    seed: int,
    server: PostgresqlServer | None,
) -> Outcome:
    """A whole campaign.

    Args:
        database: the address; of the server, or of SQLite where there is none.
        name: of the broker's files in the folder of the demo.
        outages: how often the database is lost at each moment.
        seed: the same seed chooses the same faults, though not the same microseconds.
    """
    before = sessions_of(demo.folder / "aws")
    with Gate(str(demo.described["aws_endpoint"])) as gate:
        with serving(demo, gate.address, database, name) as broker:
            _leave_an_old_intent(database)
            load = Load(broker, demo)
            outage = _lost_server(server) if server else lambda: _lost_files(broker)
            campaign = Campaign(broker, gate, load, random.Random(seed), outage)  # noqa: S311 - to be repeated, not secret
            with load.running():
                campaign.kill(kills // 2)
                campaign.lose_the_database([*Moment, None] * outages)
                campaign.kill(kills)
                broker.wait_until_it_answers("/readyz")
                told = len(load.received)
                deadline = time.monotonic() + _AGAIN_SECONDS
                while len(load.received) < told + 2:
                    assert time.monotonic() < deadline, "nobody gets anything after the faults"
                    time.sleep(0.01)
        # The broker has ended, in good order: what it had begun is done, and the gate has let everything pass.
        _assert_the_old_intent_is_settled(database)
    sessions = {key: one for key, one in sessions_of(demo.folder / "aws").items() if key not in before}
    return Outcome(
        kills=dict(campaign.kills),
        outages=dict(campaign.outages),
        answers=dict(load.answers),
        slowest_seconds=round(campaign.slowest_seconds, 2),
        reckoning=reckon(database, sessions, gate.passed, load.received),
    )


@contextmanager
def _lost_files(broker: BrokerProcess) -> Iterator[None]:
    broker.limit_files(0)
    try:
        yield
    finally:
        broker.limit_files(None)


def _lost_server(server: PostgresqlServer) -> Outage:
    @contextmanager
    def lost() -> Iterator[None]:
        server.kill()
        try:
            yield
        finally:
            server.start()

    return lost


_OLD = AuditEvent(
    kind=EventKind.ISSUANCE_INTENDED,
    time=datetime.now(UTC) - timedelta(hours=13),
    principal_username="old-intent",
    grant_id="G-of-a-broker-that-died",
    duration_seconds=43_200,
)


def _leave_an_old_intent(url: str) -> None:
    database = Database(url)
    SqlAuditLog(database).append(_OLD)
    database.dispose()


def _assert_the_old_intent_is_settled(url: str) -> None:
    database = Database(url)
    events = SqlAuditLog(database).search(AuditFilter(grant_id=_OLD.grant_id), limit=9).events
    database.dispose()
    assert [event.kind for event in events] == [EventKind.ISSUANCE_EXPIRED, EventKind.ISSUANCE_INTENDED]
