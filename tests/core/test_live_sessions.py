"""Which sessions run, as far as the audit knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_search import AuditFilter
from broker.core.entitlements import Use
from broker.core.live_sessions import (
    CONSOLE_BEGINS_WITHIN,
    began_at,
    every_running_session,
    own_sessions,
    running,
    running_sessions,
)
from tests.fakes import MemoryAuditLog, principal_id

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def issued(
    minutes_ago: int, hours: int = 1, *, number: int = 1, username: str = "hanako", **fields: object
) -> AuditEvent:
    began = NOW - timedelta(minutes=minutes_ago)
    known: dict[str, object] = {
        "kind": EventKind.ISSUANCE_SUCCEEDED,
        "time": began + timedelta(seconds=1),
        "principal_id": principal_id(number),
        "principal_username": username,
        "entitlement": "home",
        "duration_seconds": hours * 3600,
        "expiry": began + timedelta(hours=hours),
    }
    return AuditEvent(**{**known, **fields})  # type: ignore[arg-type]  # the fields of each test


def test_a_session_runs_until_its_end() -> None:
    ended, running_now, other = issued(61), issued(59), issued(5, kind=EventKind.ISSUANCE_REJECTED)
    audit = MemoryAuditLog(events=[ended, running_now, other])

    assert running_sessions(audit, AuditFilter(), NOW, limit=10).events == (running_now,)


def test_a_console_session_may_go_on_after_its_credentials() -> None:
    late = int(CONSOLE_BEGINS_WITHIN.total_seconds() // 60) - 1
    console, over = issued(60 + late, use=Use.CONSOLE), issued(60 + late + 2, use=Use.CONSOLE)
    audit = MemoryAuditLog(events=[issued(61, use=Use.TERMINAL), console, over])

    assert running_sessions(audit, AuditFilter(), NOW, limit=10).events == (console,)


def test_one_that_was_issued_twelve_hours_ago_by_a_clock_behind_is_found() -> None:
    longest = issued(12 * 60 - 1, hours=12)
    assert list(every_running_session(MemoryAuditLog(events=[longest]), AuditFilter(), NOW)) == [longest]


def test_the_search_looks_back_no_further_than_a_session_lasts() -> None:
    since = running(AuditFilter(since=NOW - timedelta(days=300)), NOW).since
    assert since is not None
    assert timedelta(hours=12) < NOW - since < timedelta(hours=13)


def test_ones_own_sessions_are_not_those_of_somebody_who_is_called_like_ones_id() -> None:
    own, strange = issued(1), issued(2, number=2, username=f"x{principal_id(1)}")
    audit = MemoryAuditLog(events=[own, strange])

    assert own_sessions(audit, principal_id(1), NOW, limit=10).events == (own,)


def test_all_of_them_are_found_however_many_there_are() -> None:
    many = [issued(1, time=NOW - timedelta(seconds=number)) for number in range(1, 1203)]
    assert list(every_running_session(MemoryAuditLog(events=many), AuditFilter(person="hanako"), NOW)) == many


def test_a_session_began_when_sts_says_also_where_the_role_gave_less() -> None:
    asked_for_two_hours = issued(10, hours=1, duration_seconds=7200, granted_duration_seconds=3600)

    assert began_at(issued(10)) == began_at(asked_for_two_hours) == NOW - timedelta(minutes=10)


def test_a_session_without_a_known_length_began_when_it_was_recorded() -> None:
    session = issued(10, duration_seconds=None)
    assert began_at(session) == session.time
