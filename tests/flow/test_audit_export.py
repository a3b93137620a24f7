"""A large export of a running broker: the file is whole, and its worker stays as small as it was."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from urllib.request import Request

from tests.flow.demo_process import Demo, running_demo

EVENTS = 200_000
AT_ONCE = 20_000

# One that gathered the file would need all of it, nearly 60 MB here.
MOST_GROWTH_KB = 16 * 1024

INSERT = """
    WITH RECURSIVE numbers (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)
    INSERT INTO audit_event (kind, time, id, principal_username, principal_id, source_address, user_agent, reason, hash)
    SELECT 'login.rejected', 1700000000000000 + n * 1000000, printf('%032x', n), 'person-' || n % 500,
           'ID-' || n % 500, '192.0.2.' || n % 250, 'Mozilla/5.0', 'wrong-password', ''
    FROM numbers
"""


def fill(database: Path) -> None:
    """Events of the past, which nobody has to seal."""
    with sqlite3.connect(database, timeout=60) as file:
        for first in range(0, EVENTS, AT_ONCE):
            file.execute(INSERT, (first, first + AT_ONCE))
            file.execute("DELETE FROM seal_queue WHERE time < 1800000000000000 AND id LIKE '000000%'")
            # The broker writes in between.
            file.commit()


def kilobytes(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{what}:")), 0)


def processes(of: int) -> list[int]:
    """That process and all that it started."""
    children = Path(f"/proc/{of}/task/{of}/children").read_text().split()
    return [of, *(one for child in children for one in processes(int(child)))]


def export(demo: Demo, query: str) -> tuple[int, int, list[str]]:
    """How many events and bytes came, and the ids of the first and the last."""
    administrator = next(str(one["username"]) for one in demo.described["people"] if one["admin"])
    client = demo.signed_in(administrator)
    request = Request(f"{demo.portal}/admin/audit.jsonl{query}")  # noqa: S310 - a demo of our own
    events, size, ids = 0, 0, list[str]()
    with client.open(request) as answer:
        for line in answer:
            events, size = events + 1, size + len(line)
            if events in {1, EVENTS}:
                ids.append(json.loads(line)["id"])
    return events, size, ids


def test_an_export_of_many_events_takes_no_more_memory_than_one_of_few(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        fill(tmp_path / "demo" / "broker.db")
        few = "?kind=login.rejected&until=2023-11-14T22:20"
        # Twice, so that every worker has most likely answered once.
        for _ in range(2):
            assert export(demo, few)[0] == 400
        before = {pid: kilobytes(pid, "VmRSS") for pid in processes(demo.process.pid)}
        for pid in before:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak begins anew

        events, size, ids = export(demo, "?kind=login.rejected")

        growth = {pid: kilobytes(pid, "VmHWM") - known for pid, known in before.items()}
    assert events == EVENTS
    assert ids == [f"{EVENTS - 1:032x}", f"{0:032x}"]
    assert size > 3 * MOST_GROWTH_KB * 1024
    assert max(growth.values()) < MOST_GROWTH_KB, growth
