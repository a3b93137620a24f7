"""The stream to a SIEM: at least once, in the order of the seals, one sender at a time, and nothing lost."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.adapters.database.stream_cursor import SqlStreamCursor
from broker.adapters.event_lines import LineFile, StandardOutput
from broker.core.errors import AuditUnavailable, SettingsInvalid
from broker.core.streaming import Streamed, StreamingPorts, Written, check_stream_lag, stream_lag, stream_waiting
from tests.adapters.database.events import NOON, login
from tests.adapters.database.tampering import sign


@dataclass
class Siem:
    """What takes lines, as many as it has room for."""

    room: int = 10_000
    lines: list[str] = field(default_factory=list)

    def write(self, lines: Sequence[str]) -> Written:
        taken = list(lines[: self.room])
        self.room -= len(taken)
        self.lines += taken
        return Written(len(taken), None if len(taken) == len(lines) else "it is full")

    @property
    def ids(self) -> list[str]:
        return [json.loads(line)["event"]["id"] for line in self.lines]


@dataclass
class Node:
    """One process that streams."""

    database: Database
    siem: Siem | LineFile | StandardOutput
    name: str = "node"
    now: datetime = NOON

    def round(self) -> Streamed:
        return stream_waiting(
            StreamingPorts(
                log=SqlSeals(self.database),
                cursor=SqlStreamCursor(self.database),
                sink=self.siem,
                clock=lambda: self.now,
                holder=self.name,
            )
        )


def write(database: Database, *numbers: int) -> list[str]:
    log = SqlAuditLog(database)
    for number in numbers:
        log.append(replace(login(number), id=f"{number:032x}"))
    while SqlSeals(database).seal(sign, limit=100):
        pass
    return [f"{number:032x}" for number in numbers]


def test_every_sealed_event_is_sent_once_in_the_order_of_its_seal(database: Database) -> None:
    siem = Siem()
    first = write(database, 1, 2, 3)
    assert Node(database, siem).round() == Streamed(events=3)
    second = write(database, 4)
    assert Node(database, siem).round() == Streamed(events=1)
    assert Node(database, siem).round() == Streamed()
    assert siem.ids == first + second


def test_what_a_full_sink_did_not_take_is_sent_when_it_has_room_again(database: Database) -> None:
    siem = Siem(room=2)
    ids = write(database, *range(5))
    assert Node(database, siem).round() == Streamed(events=2, problem="it is full")
    assert Node(database, siem).round() == Streamed(events=0, problem="it is full")
    siem.room = 100
    assert Node(database, siem).round() == Streamed(events=3)
    assert siem.ids == ids


def test_an_event_that_is_committed_late_is_not_skipped(database: Database) -> None:
    siem = Siem()
    later = write(database, 9)
    Node(database, siem).round()
    earlier = write(database, 1)
    Node(database, siem).round()
    assert siem.ids == later + earlier


def test_while_one_node_sends_no_other_does_until_its_lease_is_over(database: Database) -> None:
    write(database, 1)
    cursor = SqlStreamCursor(database)
    assert cursor.take("first", NOON, NOON + timedelta(minutes=1)) == 0
    siem = Siem()
    assert Node(database, siem, name="second").round() == Streamed()
    assert Node(database, siem, name="second", now=NOON + timedelta(minutes=2)).round() == Streamed(events=1)
    # The first one comes back from wherever it hung: what it sent is sent twice, and its place is not taken for ours.
    assert cursor.advance("first", 1) is False


def test_the_lag_is_the_age_of_the_oldest_event_that_waits(database: Database) -> None:
    write(database, 0, 1)
    log, cursor = SqlSeals(database), SqlStreamCursor(database)
    assert stream_lag(log, cursor, NOON + timedelta(minutes=4)) == timedelta(minutes=4)
    check_stream_lag(log, cursor, NOON + timedelta(minutes=4))
    with pytest.raises(AuditUnavailable, match="not sent to the SIEM"):
        check_stream_lag(log, cursor, NOON + timedelta(minutes=6))
    Node(database, Siem()).round()
    assert stream_lag(log, cursor, NOON + timedelta(days=1)) == timedelta(0)


def test_a_file_that_is_rotated_is_written_anew_and_nothing_is_lost(database: Database, tmp_path: Path) -> None:
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    first = write(database, 1, 2)
    Node(database, LineFile(path)).round()
    path.rename(old)
    second = write(database, 3)
    Node(database, LineFile(path)).round()
    sent = [json.loads(line)["event"]["id"] for file in (old, path) for line in file.read_text().splitlines()]
    assert sent == first + second
    assert path.stat().st_mode & 0o777 == 0o640 & ~os.umask(os.umask(0))


def test_half_a_line_that_a_crash_left_does_not_spoil_the_next(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"half": ')
    [event_id] = write(database, 1)
    Node(database, LineFile(path)).round()
    half, whole = path.read_text().splitlines()
    assert half == '{"half": '
    assert json.loads(whole)["event"]["id"] == event_id


def test_a_file_that_takes_nothing_is_said_and_everything_is_sent_later(database: Database) -> None:
    write(database, 1)
    full = Path("/dev/full")
    done = Node(database, LineFile(full)).round()
    assert done.events == 0
    assert (done.problem or "").startswith("/dev/full cannot be written: ")
    siem = Siem()
    assert Node(database, siem).round() == Streamed(events=1)


def test_what_lies_in_a_pipe_when_its_reader_goes_is_sent_again(database: Database) -> None:
    ids = write(database, 1, 2, 3)
    read, written = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as reader, os.fdopen(written, "wb") as writer:
        rounds: list[Streamed] = []
        sending = threading.Thread(
            target=lambda: rounds.append(Node(database, StandardOutput(writer.fileno())).round())
        )
        sending.start()
        first = b""
        while not first.endswith(b"\n"):
            first += reader.read(1)
        assert sending.is_alive()
        reader.close()
        sending.join(10)
    assert rounds == [Streamed(events=1, problem="standard output was closed before everything was read")]
    assert json.loads(first)["event"]["id"] == ids[0]
    siem = Siem()
    assert Node(database, siem).round() == Streamed(events=2)
    assert siem.ids == ids[1:]


def test_a_pipe_that_is_read_to_its_end_has_everything_for_good(database: Database) -> None:
    ids = write(database, 1, 2)
    read, written = os.pipe()
    with os.fdopen(read) as reader:
        with os.fdopen(written, "wb") as writer:
            lines: list[str] = []
            reading = threading.Thread(target=lambda: lines.extend(reader))
            reading.start()
            assert Node(database, StandardOutput(writer.fileno())).round() == Streamed(events=2)
        reading.join(10)
    assert [json.loads(line)["event"]["id"] for line in lines] == ids


def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"audit\.stream"):
        LineFile(tmp_path / "missing" / "audit.jsonl").check()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsInvalid, match="is no file"):
        LineFile(tmp_path / "pipe").check()
    LineFile(tmp_path / "audit.jsonl").check()
