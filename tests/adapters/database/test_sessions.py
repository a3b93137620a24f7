"""The Sessions port behaves the same on SQLite, on PostgreSQL, and in the memory of other tests."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, event, func, select

from broker.adapters.database.engine import Database
from broker.adapters.database.sessions import TOUCHED_AFTER, SqlSessions
from broker.adapters.database.tables import sign_in_session
from broker.core.errors import SessionsUnavailable
from broker.core.ports import Sessions
from broker.core.second_factor import Method
from broker.core.sessions import SessionLimits, SignInSession, TrustedBrowser
from tests.adapters.database.events import NOON
from tests.fakes import MemorySessions

LIMITS = SessionLimits(idle=timedelta(minutes=30), absolute=timedelta(hours=10))
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def sessions(request: pytest.FixtureRequest) -> Iterator[Sessions]:
    if request.param == "memory":
        yield MemorySessions()
        return
    database = Database(request.getfixturevalue(f"{request.param}_url"))
    yield SqlSessions(database)
    database.dispose()


@pytest.fixture
def sql_sessions(database: Database) -> SqlSessions:
    return SqlSessions(database)


def session(token_hash: str, at: datetime = NOON, *, person: str = "ID-OF-hana") -> SignInSession:
    return SignInSession(token_hash=token_hash, principal_id=person, signed_in_at=at, last_seen_at=at)


def count(database: Database) -> int:
    with database.reading(SessionsUnavailable) as connection:
        return connection.execute(select(func.count()).select_from(sign_in_session)).scalar_one()


def test_a_session_comes_back_as_it_was(sessions: Sessions) -> None:
    kept = SignInSession(
        token_hash="a" * 64,
        principal_id="ID-OF-花子",
        signed_in_at=NOON + MICROSECOND,
        last_seen_at=NOON + timedelta(minutes=1, microseconds=999_999),
        source_address="192.0.2.7",
        user_agent="Firefox",
        trusted_browser="b" * 64,
    )
    sessions.create(kept, LIMITS)
    assert sessions.find("a" * 64) == kept


def test_a_second_factor_is_noted_for_a_whole_sign_in_and_finishes_none_that_waits(sessions: Sessions) -> None:
    whole, waiting = session("a" * 64), replace(session("b" * 64), awaits_second_factor=True)
    for one in (whole, waiting):
        sessions.create(one, LIMITS)
        sessions.note_second_factor(one.token_hash, Method.PASSKEY, NOON + MICROSECOND)
    sessions.note_second_factor("c" * 64, Method.PASSKEY, NOON)

    noted = replace(whole, second_factor=Method.PASSKEY, second_factor_at=NOON + MICROSECOND)
    assert sessions.find("a" * 64) == noted
    assert sessions.find("b" * 64) == waiting


def test_an_unknown_token_has_no_session(sessions: Sessions) -> None:
    sessions.create(session("a" * 64), LIMITS)
    for token_hash in ("b" * 64, "", "a" * 63, "A" * 64, "%", "\x00", "\ud800", "' OR '1'='1"):
        assert sessions.find(token_hash) is None


def test_a_request_is_noted(sessions: Sessions) -> None:
    sessions.create(session("a"), LIMITS)
    sessions.create(session("b"), LIMITS)
    sessions.touch("a", NOON + timedelta(minutes=5))
    touched, other = sessions.find("a"), sessions.find("b")
    assert touched is not None
    assert other is not None
    assert (touched.last_seen_at, touched.signed_in_at) == (NOON + timedelta(minutes=5), NOON)
    assert other.last_seen_at == NOON


def test_what_the_directory_said_of_an_audit_reader_is_kept_until_it_says_otherwise(sessions: Sessions) -> None:
    sessions.create(session("a" * 64), LIMITS)
    sessions.create(session("b" * 64), LIMITS)
    for said in (True, False):
        sessions.note_audit_reader("a" * 64, reads_audit=said)
        noted = sessions.find("a" * 64)
        assert noted is not None
        assert noted.reads_audit is said
    sessions.note_audit_reader("c" * 64, reads_audit=True)
    other = sessions.find("b" * 64)
    assert other is not None
    assert other.reads_audit is False
    assert sessions.find("c" * 64) is None


def test_touching_an_unknown_session_does_nothing(sessions: Sessions) -> None:
    sessions.touch("none", NOON)
    assert sessions.find("none") is None


def test_requests_soon_after_each_other_are_noted_once(sql_sessions: SqlSessions, database: Database) -> None:
    written = []
    event.listen(database.engine, "before_cursor_execute", lambda *call: written.append(call[2]))
    sql_sessions.create(session("a"), LIMITS)
    written.clear()
    for seconds in range(30):
        sql_sessions.touch("a", NOON + timedelta(seconds=seconds))
    assert {statement.split()[0] for statement in written} == {"SELECT"}
    sql_sessions.touch("a", NOON + TOUCHED_AFTER)
    found = sql_sessions.find("a")
    assert found is not None
    assert found.last_seen_at == NOON + TOUCHED_AFTER


def test_a_late_note_of_an_earlier_request_does_not_turn_time_back(sql_sessions: SqlSessions) -> None:
    sql_sessions.create(session("a"), LIMITS)
    sql_sessions.touch("a", NOON + timedelta(minutes=5))
    sql_sessions.touch("a", NOON + timedelta(minutes=2))
    found = sql_sessions.find("a")
    assert found is not None
    assert found.last_seen_at == NOON + timedelta(minutes=5)


def test_a_session_is_exchanged_for_another_once_and_not_at_all_when_it_has_ended(sessions: Sessions) -> None:
    sessions.create(session("a"), LIMITS)
    assert sessions.exchange("a", session("b"), LIMITS)
    assert not sessions.exchange("a", session("c"), LIMITS)
    assert [sessions.find(token_hash) is not None for token_hash in "abc"] == [False, True, False]


def test_ending_a_session_forgets_it_and_no_other(sessions: Sessions) -> None:
    sessions.create(session("a"), LIMITS)
    sessions.create(session("b"), LIMITS)
    sessions.end("a")
    sessions.end("a")
    assert sessions.find("a") is None
    assert sessions.find("b") is not None


def test_ending_all_sessions_of_a_person_leaves_those_of_others(sessions: Sessions) -> None:
    for token_hash in ("a", "b"):
        sessions.create(session(token_hash), LIMITS)
    sessions.create(session("c", person="ID-OF-taro"), LIMITS)
    assert sessions.end_all("ID-OF-hana") == 2
    assert sessions.end_all("ID-OF-hana") == 0
    assert sessions.find("a") is None
    assert sessions.find("c") is not None


def test_ending_all_but_one_leaves_that_one_and_those_of_others(sessions: Sessions) -> None:
    for token_hash in ("a", "b", "d"):
        sessions.create(session(token_hash), LIMITS)
    sessions.create(session("c", person="ID-OF-taro"), LIMITS)
    assert sessions.end_others("ID-OF-hana", "b") == 2
    assert sessions.end_others("ID-OF-hana", "b") == 0
    assert [sessions.find(token_hash) is not None for token_hash in "abcd"] == [False, True, True, False]


def browser(token_hash: str, at: datetime = NOON, *, person: str = "ID-OF-hana") -> TrustedBrowser:
    return TrustedBrowser(token_hash, person, at, at + timedelta(days=30), "192.0.2.7", "Firefox 花")


def trusted(sessions: Sessions, person: str = "ID-OF-hana") -> list[str]:
    return [one.token_hash for one in sessions.trusted_browsers(person)]


def test_a_trusted_browser_comes_back_as_it_was_the_latest_first(sessions: Sessions) -> None:
    for one in (browser("a"), browser("b", NOON + MICROSECOND), browser("c", person="ID-OF-taro")):
        sessions.trust(one)
    assert list(sessions.trusted_browsers("ID-OF-hana")) == [browser("b", NOON + MICROSECOND), browser("a")]
    assert list(sessions.trusted_browsers("ID-OF-nobody")) == []


def test_a_trusted_browser_is_forgotten_by_its_person_alone(sessions: Sessions) -> None:
    for one in (browser("a"), browser("b"), browser("c"), browser("d", person="ID-OF-taro")):
        sessions.trust(one)
    sessions.distrust("ID-OF-taro", "a")
    sessions.distrust("ID-OF-hana", "a")
    sessions.distrust("ID-OF-hana", "a")
    assert trusted(sessions) == ["b", "c"]
    sessions.distrust_others("ID-OF-hana", "c")
    assert trusted(sessions) == ["c"]
    sessions.distrust_others("ID-OF-hana", None)
    assert trusted(sessions) == []
    assert trusted(sessions, "ID-OF-taro") == ["d"]


@pytest.mark.parametrize(("here", "left"), [("trusted", ["a"]), ("not trusted", [])])
def test_where_every_other_session_ends_only_the_browser_that_stays_is_trusted_on(
    sessions: Sessions, here: str, left: list[str]
) -> None:
    sessions.create(replace(session("trusted"), trusted_browser="a"), LIMITS)
    sessions.create(session("not trusted"), LIMITS)
    for one in (browser("a"), browser("b"), browser("c", person="ID-OF-taro")):
        sessions.trust(one)

    assert sessions.end_others("ID-OF-hana", here) == 1
    assert trusted(sessions) == left
    assert sessions.end_all("ID-OF-hana") == 1
    assert trusted(sessions) == []
    assert trusted(sessions, "ID-OF-taro") == ["c"]


def test_trusting_a_browser_purges_those_whose_time_is_over(sql_sessions: SqlSessions) -> None:
    sql_sessions.trust(browser("over"))
    sql_sessions.trust(browser("nearly", NOON + MICROSECOND))
    sql_sessions.trust(browser("new", NOON + timedelta(days=30)))
    assert trusted(sql_sessions) == ["new", "nearly"]


def test_a_new_session_purges_those_that_have_run_out_and_no_other(sessions: Sessions) -> None:
    now = NOON + timedelta(hours=10)
    sessions.create(session("idle", now - LIMITS.idle), LIMITS)
    sessions.create(session("nearly idle", now - LIMITS.idle + MICROSECOND), LIMITS)
    sessions.create(session("old", NOON), LIMITS)
    sessions.touch("old", now)
    sessions.create(session("nearly old", NOON + MICROSECOND), LIMITS)
    sessions.touch("nearly old", now)
    sessions.create(session("new", now), LIMITS)
    left = [name for name in ("idle", "nearly idle", "old", "nearly old", "new") if sessions.find(name)]
    assert left == ["nearly idle", "nearly old", "new"]


def test_one_sign_in_purges_a_bounded_number(sql_sessions: SqlSessions, database: Database) -> None:
    with database.writing(SessionsUnavailable) as connection:
        keep_many(connection, 250)
    left = []
    for number in range(4):
        sql_sessions.create(session(f"new-{number}", NOON + timedelta(days=1)), LIMITS)
        left.append(count(database))
    assert left == [151, 52, 3, 4]


def test_a_token_is_never_given_to_a_second_session(sql_sessions: SqlSessions) -> None:
    sql_sessions.create(session("a"), LIMITS)
    with pytest.raises(SessionsUnavailable):
        sql_sessions.create(session("a", person="ID-OF-mallory"), LIMITS)
    found = sql_sessions.find("a")
    assert found is not None
    assert found.principal_id == "ID-OF-hana"


def test_many_sign_ins_at_once_purge_without_hindering_each_other(
    sql_sessions: SqlSessions, database: Database
) -> None:
    with database.writing(SessionsUnavailable) as connection:
        keep_many(connection, 1000)
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda number: sql_sessions.create(session(f"new-{number}", NOON + timedelta(days=1)), LIMITS),
                range(80),
            )
        )
    assert count(database) == 80


def keep_many(connection: Connection, number: int) -> None:
    rows = [
        {"token_hash": f"old-{one}", "principal_id": "P", "signed_in_at": NOON, "last_seen_at": NOON}
        for one in range(number)
    ]
    connection.execute(sign_in_session.insert(), rows)
