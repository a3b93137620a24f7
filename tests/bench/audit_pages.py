"""Whether the audit's pages stay as fast when the log grows: the same questions to a small and to a large one.

``python -m tests.bench.audit_pages [--engine postgresql|sqlite] [--small N] [--large N] [--rounds N]``. Ratios of
medians, interleaved; 1.0 is no growth at all. The whole pages are those of the portal with everything else in memory.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import psycopg

from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.audit_search import TERM_FIELDS
from broker.adapters.database.engine import Database
from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_search import FURTHER_LOOK, AuditCursor, AuditFilter, Outcome, TimeSpan, address_key
from broker.core.live_sessions import running
from broker.web.portal import attach
from tests.adapters.database.postgresql import PostgresqlServer
from tests.web.world import ADA, Browser, World

SCRIPTS: Final = Path(__file__).parents[2] / "alembic"
COLUMNS: Final = [*(field.name for field in fields(AuditEvent)), "hash"]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PAGE: Final = 50
# As long as those of several places.
POLICY: Final = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::%s/*"}]}'
    + " " * 280
)

# Who is in both logs: many people, one machine that makes a tenth of all events, one person seen 60 times, long ago;
# common and rare entitlements. The rare ones are as many in both logs, so the same pages are asked for.
PEOPLE: Final = 2000
RARE_EVENTS: Final = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, help="5,000,000 on PostgreSQL, 1,000,000 on SQLite; fewer take less time")
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    asked.large = asked.large or {"postgresql": 5_000_000, "sqlite": 1_000_000}[asked.engine]
    with tempfile.TemporaryDirectory() as folder:
        if asked.engine == "sqlite":
            urls = [f"sqlite:///{folder}/{size}.db" for size in ("small", "large")]
            compare(urls, (asked.small, asked.large), asked.rounds)
            return
        server = PostgresqlServer()
        try:
            server.start()
            urls = [server.url(server.create_database()) for _ in range(2)]
            compare(urls, (asked.small, asked.large), asked.rounds)
        finally:
            server.remove()


def compare(urls: list[str], sizes: tuple[int, int], rounds: int) -> None:
    logs = []
    for url, size in zip(urls, sizes, strict=True):
        migrations.upgrade(url, SCRIPTS)
        began = time.perf_counter()
        fill(url, size)
        print(f"{size} events written in {time.perf_counter() - began:.0f} s")
        logs.append(SqlAuditLog(Database(url, statement_timeout=timedelta(minutes=5))))
    measure(logs, sizes, rounds)


def measure(logs: list[SqlAuditLog], sizes: tuple[int, int], rounds: int) -> None:
    print(f"{'page':44} {'small':>8} {'large':>8}   ratio")
    for name, question in questions().items():
        times: list[list[float]] = [[], []]
        found = [0, 0]
        for number in range(rounds + 8):
            for which, log in enumerate(logs):
                began = time.perf_counter()
                found[which] = question(log, sizes[which])
                if number >= 8:  # the first ones connect, prepare and read from disk
                    times[which].append(time.perf_counter() - began)
        small, large = (statistics.median(values) * 1000 for values in times)
        print(f"{name:44} {small:5.2f} ms {large:5.2f} ms   {large / small:5.2f}   {found[0]}, {found[1]} rows")


def questions() -> dict[str, Callable[[SqlAuditLog, int], int]]:
    chance = random.Random(5)  # noqa: S311 - places in a log, no secret

    def asking(which: AuditFilter) -> Callable[[SqlAuditLog, int], int]:
        return lambda log, _: len(log.search(which, limit=PAGE).events)

    def deep(log: SqlAuditLog, size: int) -> int:
        cursor = AuditCursor(time=LAST - timedelta(seconds=chance.randrange(size)), id="8")
        return len(log.search(AuditFilter(), limit=PAGE, older_than=cursor).events)

    def charting(which: AuditFilter, long: timedelta = timedelta(hours=2)) -> Callable[[SqlAuditLog, int], int]:
        spans = TimeSpan(LAST - long, LAST).split(30)
        return lambda log, _: sum(count.events for count in log.count(which, spans))

    def further(which: AuditFilter) -> Callable[[SqlAuditLog, int], int]:
        return lambda log, _: len(log.search(which, limit=PAGE, look_through=FURTHER_LOOK).events)

    def opening(path: str) -> Callable[[SqlAuditLog, int], int]:
        browsers: dict[SqlAuditLog, Browser] = {}

        def page(log: SqlAuditLog, _: int) -> int:
            browser = browsers.get(log) or browsers.setdefault(log, signed_in(log))
            return browser.get(path).text.count("</tbody>")

        return page

    robot, rare = AuditFilter(person="deploy-robot"), AuditFilter(person="retired-")
    common_role, rare_role = AuditFilter(entitlement="role-1"), AuditFilter(entitlement="rare-role")
    network = AuditFilter(source=ip_network("10.3.0.0/16"))
    middle = AuditFilter(since=LAST - timedelta(seconds=6000), until=LAST - timedelta(seconds=3000))
    return {
        "newest": asking(AuditFilter()),
        "any depth": deep,
        "a time range": asking(middle),
        "an entitlement": asking(common_role),
        "a rare entitlement": asking(rare_role),
        "a kind": asking(AuditFilter(kind=EventKind.ISSUANCE_SUCCEEDED)),
        "refusals": asking(AuditFilter(kind=EventKind.ISSUANCE_REJECTED)),
        "a busy person": asking(robot),
        "a rare person's": asking(rare),
        "a person by id": asking(AuditFilter(person="ID-person-0777")),
        "part of a name, 10 people": asking(AuditFilter(person="ON-077")),
        "part of a name, 1,000 people": asking(AuditFilter(person="person-1")),
        "part of a name, everyone": asking(AuditFilter(person="o")),
        "part of a name, nobody": asking(AuditFilter(person="xyz%")),
        "a busy person and a rare entitlement": asking(replace(robot, entitlement="rare-role")),
        "a busy person's refusals": asking(replace(robot, kind=EventKind.ISSUANCE_REJECTED)),
        "a busy person's sign-ins": asking(replace(robot, kind=EventKind.LOGIN_SUCCEEDED)),
        "an entitlement's refusals": asking(replace(common_role, kind=EventKind.ISSUANCE_REJECTED)),
        "a kind of a rare entitlement": asking(replace(rare_role, kind=EventKind.ISSUANCE_SUCCEEDED)),
        "part of a name, 10 people, an entitlement": asking(AuditFilter(person="on-077", entitlement="role-1")),
        "part of a name, 10 people, a time range": asking(replace(middle, person="on-077")),
        "an account": asking(AuditFilter(account="444455556666")),
        "an outcome": asking(AuditFilter(outcome=Outcome.REFUSED)),
        "a bucket": asking(AuditFilter(bucket="bucket-of-role-1")),
        "a rare bucket": asking(AuditFilter(bucket="bucket-of-rare-role")),
        "a busy person and a rare bucket": asking(replace(robot, bucket="bucket-of-rare-role")),
        "a bucket in a time range": asking(replace(middle, bucket="bucket-of-role-1")),
        "an address": asking(AuditFilter(source=ip_network("10.3.2.1/32"))),
        "a network": asking(network),
        "every network": asking(AuditFilter(source=ip_network("10.0.0.0/8"))),
        "a network and an entitlement": asking(replace(network, entitlement="role-1")),
        "a network and a rare entitlement": asking(replace(network, entitlement="rare-role")),
        "a bucket and an outcome": asking(AuditFilter(bucket="bucket-of-role-1", outcome=Outcome.REFUSED)),
        "a bucket and another outcome": asking(AuditFilter(bucket="bucket-of-role-1", outcome=Outcome.SUCCEEDED)),
        "a busy person and an address": asking(replace(robot, source=ip_network("10.3.2.1/32"))),
        "a busy person and a network": asking(replace(robot, source=network.source)),
        "a busy person and an account": asking(replace(robot, account="444455556666")),
        "a busy person's refusals, by outcome": asking(replace(robot, outcome=Outcome.REFUSED)),
        "an account and a rare entitlement": asking(AuditFilter(account="444455556666", entitlement="rare-role")),
        "any word and a kind": asking(AuditFilter(text="on-077", kind=EventKind.LOGIN_SUCCEEDED)),
        "any word and a bucket": asking(AuditFilter(text="on-077", bucket="bucket-of-role-1")),
        "a network and an entitlement, further": further(replace(network, entitlement="rare-role")),
        "a busy person and an address, further": further(replace(robot, source=ip_network("10.3.2.1/32"))),
        "an access key": asking(AuditFilter(access_key_id=f"ASIA{777:016}")),
        "a session name": asking(AuditFilter(session_name="person-0777")),
        "a busy person's session name": asking(AuditFilter(session_name="deploy-robot")),
        "a session name and a rare entitlement": asking(
            AuditFilter(session_name="deploy-robot", entitlement="rare-role")
        ),
        "any word, 10 people": asking(AuditFilter(text="on-077")),
        "any word, everything": asking(AuditFilter(text="o")),
        "any word, a reason": asking(AuditFilter(text="reason number 7")),
        "any word, all entitlements": asking(AuditFilter(text="ROLE")),
        "any word, a rare entitlement": asking(AuditFilter(text="re-role")),
        "any word, nothing": asking(AuditFilter(text="xyz%")),
        "the chart of everything": charting(AuditFilter()),
        "the chart of a busy person": charting(robot),
        "the chart of a rare bucket": charting(AuditFilter(bucket="bucket-of-rare-role")),
        "the chart of everything, 30 days": charting(AuditFilter(), timedelta(days=30)),
        "the chart of an outcome, 30 days": charting(AuditFilter(outcome=Outcome.REFUSED), timedelta(days=30)),
        "the chart of two filters, 30 days": charting(replace(robot, source=network.source), timedelta(days=30)),
        "the chart of part of a name, 30 days": charting(AuditFilter(person="on-077"), timedelta(days=30)),
        "the whole page": opening("/admin/audit"),
        "the whole page, 30 days": opening("/admin/audit?since=2026-10-24T12:00&until=2026-11-23T12:00"),
        "the whole page, a network and an entitlement": opening("/admin/audit?source=10.3.0.0/16&entitlement=role-1"),
        "the whole page, a busy person and an address": opening("/admin/audit?person=deploy-robot&source=10.3.2.1"),
        "the whole page, a bucket and an outcome": opening("/admin/audit?bucket=bucket-of-role-1&outcome=refused"),
        "the whole page, part of a name": opening("/admin/audit?person=ON-077"),
        "the page of live sessions": opening("/admin/sessions"),
        "everybody's live sessions": asking(running(AuditFilter(), LAST)),
        "an entitlement's live sessions": asking(running(common_role, LAST)),
        "a person's live sessions": lambda log, _: len(log.live_sessions("ID-deploy-robot", LAST)),
    }


def signed_in(log: SqlAuditLog) -> Browser:
    """An administrator's browser; all but the log is in memory."""
    world = World()
    world.clock.now = LAST
    attach(world.app.extensions, replace(world.portal, audit=log))
    browser = world.browser()
    browser.sign_in(ADA)
    return browser


@dataclass(frozen=True)
class Row:
    """One event of the invented past."""

    number: int
    kind: EventKind
    username: str
    entitlement: str | None
    time: datetime

    @property
    def bucket(self) -> str | None:
        return f"bucket-of-{self.entitlement}" if self.entitlement else None

    def event(self) -> AuditEvent:
        issued = self.kind is EventKind.ISSUANCE_SUCCEEDED
        return AuditEvent(
            kind=self.kind,
            time=self.time,
            id=f"{self.number:032x}",
            principal_username=self.username,
            principal_id=f"ID-{self.username}",
            source_address=f"10.{self.number % 7}.{self.number % 31}.{self.number % 5}",
            user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
            reference_id=f"{self.number:016x}",
            grant_id=f"{self.number:032x}" if self.entitlement else None,
            entitlement=self.entitlement,
            account="111122223333" if self.number % 3 else "444455556666",
            access_key_id=f"ASIA{self.number:016}" if issued else None,
            session_name=self.username if self.entitlement else None,
            reason=f"the reason number {self.number % 12}" if self.kind is EventKind.ISSUANCE_REJECTED else None,
            session_policy=POLICY % self.bucket if self.bucket else None,
            expiry=self.time + timedelta(minutes=15) if issued else None,
        )


def rows(size: int) -> Iterator[Row]:
    """One event a second up to LAST; the rare ones at the same distance from the end, or as early as there is."""
    chance = random.Random(7)  # noqa: S311 - an invented past, no secret
    issuances = (EventKind.ISSUANCE_INTENDED, EventKind.ISSUANCE_SUCCEEDED)
    for number in range(size):
        time_of = LAST - timedelta(seconds=size - number)
        if number < RARE_EVENTS:
            yield Row(number, chance.choice(issuances), "retired-rita", "rare-role", time_of)
            continue
        if number < 2 * RARE_EVENTS:
            kind = EventKind.ISSUANCE_REJECTED if number % 2 else EventKind.LOGIN_SUCCEEDED
            yield Row(number, kind, "deploy-robot", "role-1" if number % 2 else None, time_of)
            continue
        robot = chance.random() < 0.1
        username = "deploy-robot" if robot else f"person-{chance.randrange(PEOPLE):04}"
        if robot or chance.random() < 0.7:
            yield Row(number, chance.choice(issuances), username, f"role-{chance.randrange(40)}", time_of)
        else:
            yield Row(number, EventKind.LOGIN_SUCCEEDED, username, None, time_of)


def fill(url: str, size: int) -> None:
    """As quickly as the engine takes them; hashes play no part here."""
    table = f"audit_event ({', '.join(COLUMNS)})"
    terms = {
        (name, value, (name == "source_address" and address_key(value)) or value)
        for row in rows(min(size, 200_000))
        for name in TERM_FIELDS
        if (value := getattr(row.event(), name)) is not None
    }
    places = ((row.bucket, row.time, f"{row.number:032x}") for row in rows(size) if row.bucket)
    values = (
        [*(getattr(event, name) for name in COLUMNS[:-1]), "0" * 64] for event in (row.event() for row in rows(size))
    )
    if url.startswith("postgresql"):
        with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO audit_term VALUES (%s, %s, %s)", terms)
            with cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                for row in values:
                    copy.write_row(row)
            with cursor.copy(b"COPY audit_bucket FROM STDIN") as copy:
                for place in places:
                    copy.write_row(place)
            # In this past every grant has its outcome, only not under its own id.
            cursor.execute("TRUNCATE open_grant")
            cursor.execute("VACUUM ANALYZE")
        return
    with sqlite3.connect(url.removeprefix("sqlite:///")) as file:
        file.executemany("INSERT INTO audit_term VALUES (?, ?, ?)", terms)
        marks = ", ".join("?" * len(COLUMNS))
        file.executemany(
            f"INSERT INTO {table} VALUES ({marks})",  # noqa: S608 - the columns are ours
            (
                [(item - EPOCH) // timedelta(microseconds=1) if isinstance(item, datetime) else item for item in row]
                for row in values
            ),
        )
        file.executemany(
            "INSERT INTO audit_bucket VALUES (?, ?, ?)",
            ((bucket, (moment - EPOCH) // timedelta(microseconds=1), event_id) for bucket, moment, event_id in places),
        )
        file.execute("DELETE FROM open_grant")


if __name__ == "__main__":
    main()
