"""The AuditLog port behaves the same on SQLite, on PostgreSQL, and in the memory of other tests."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import event as engine_event
from sqlalchemy import insert, select
from sqlalchemy.exc import StatementError

from broker.adapters.database import audit_search
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.tables import audit_bucket, audit_event, audit_term
from broker.core.audit import OUTCOMES, AuditEvent, EventKind, LiveSession
from broker.core.audit_search import AuditCursor, AuditFilter, AuditPage, Outcome, TimeSpan
from broker.core.errors import AuditUnavailable
from broker.core.ports import AuditLog
from tests.adapters.database.events import NOON, any_character, any_text, issuance, login, moments
from tests.adapters.database.tampering import tamper
from tests.fakes import MemoryAuditLog

# One database for all examples of a property: events are never removed, so the model they are compared with keeps
# them too, and a failing example is shown as it was drawn, since it cannot be run again.
accumulating = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.generate),
)


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def log(request: pytest.FixtureRequest) -> Iterator[AuditLog]:
    if request.param == "memory":
        yield MemoryAuditLog()
        return
    database = Database(request.getfixturevalue(f"{request.param}_url"))
    yield SqlAuditLog(database)
    database.dispose()


@pytest.fixture
def sql_log(database: Database) -> SqlAuditLog:
    return SqlAuditLog(database)


def ids(log: AuditLog, which: AuditFilter, limit: int = 100) -> list[str]:
    return [event.id for event in log.search(which, limit=limit).events]


def test_an_event_comes_back_with_every_field_as_it_was(log: AuditLog) -> None:
    event = AuditEvent(
        kind=EventKind.ISSUANCE_SUCCEEDED,
        time=datetime(2026, 11, 23, 9, 30, 0, 123456, tzinfo=UTC),
        id="e" * 32,
        principal_username="山田 花子",
        principal_id="A" * 26,
        claimed_username_hash="0" * 64,
        source_address="2001:db8::1",
        user_agent="Mozilla/5.0 \ufffd",
        reference_id="R1",
        grant_id="G1",
        entitlement="home",
        use="console",
        account="111122223333",
        role="arn:aws:iam::111122223333:role/StaffFiles",
        session_name="hana",
        source_identity="A" * 26,
        tags='{"Department":"\\u7d4c\\u7406"}',
        duration_seconds=28800,
        session_policy='{"Version":"2012-10-17"}',
        session_policy_sha256="1" * 64,
        policy_arns='["arn:aws:iam::aws:policy/ReadOnlyAccess"]',
        packed_size=37,
        access_key_id="ASIAEXAMPLE",
        assertion_id="_abc",
        sts_request_id="00000000-0000-4000-8000-000000000000",
        expiry=datetime(2026, 11, 23, 17, 30, tzinfo=UTC),
        reason="nothing",
        entitlements_sha256="2" * 64,
        attempts=3,
        throttle_key="person:ID",
        granted_duration_seconds=3600,
        sts_region="ap-northeast-1",
        sts_tries=2,
        revocation_id="3" * 32,
        revoked="person hana",
        purpose="a lost laptop",
        second_factor="passkey",
    )
    assert None not in {getattr(event, field.name) for field in fields(event)}
    log.append(event)
    assert log.search(AuditFilter(), limit=1).events == (event,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "".join(map(chr, range(0x21))),
        "\x00",
        "\x10\x10\x00\x10",
        "\U000f0000\x10\U000f0000",
        "\ud800",
        "\udfff\ud800",
        "名" * 300,
        "🦊" * 300,
        "' OR 1=1; DROP TABLE audit_event; --",
        "100% \\ _ \" ' $1 :name %(x)s {y} ?",
        "e\u0301 é ＡＢＣ ｶﾅ \u202e\u200b",
    ],
)
def test_any_text_comes_back_as_it_was_and_is_found(log: AuditLog, text: str) -> None:
    event = login(username=text, entitlement=text, reason=text)
    log.append(event)
    assert log.search(AuditFilter(), limit=1).events == (event,)
    assert ids(log, AuditFilter(entitlement=text)) == [event.id]
    if text:
        assert ids(log, AuditFilter(person=text)) == [event.id]


@accumulating
@given(
    texts=st.lists(any_text, min_size=20, max_size=20), time=moments, expiry=moments, number=st.integers(0, 2**31 - 1)
)
def test_whatever_an_event_holds_comes_back_and_so_does_its_hash(
    sql_log: SqlAuditLog, texts: list[str], time: datetime, expiry: datetime, number: int
) -> None:
    names = [field.name for field in fields(AuditEvent) if field.type == "str | None"]
    event = AuditEvent(
        kind=EventKind.CONSOLE_REDIRECTED,
        time=time,
        expiry=expiry,
        duration_seconds=number,
        packed_size=number,
    )
    more: dict[str, Any] = dict(zip(names, texts, strict=False))
    event = replace(event, **more)
    sql_log.append(event)
    just_newer = AuditCursor(time=time, id=f"{event.id}~")
    [found] = sql_log.search(AuditFilter(entitlement=event.entitlement), limit=1, older_than=just_newer).events
    assert found == event
    assert found.hash == event.hash


def test_times_of_other_zones_are_the_same_moments(log: AuditLog) -> None:
    tokyo = datetime(2026, 11, 23, 18, 30, 0, 1, tzinfo=timezone(timedelta(hours=9)))
    log.append(replace(login(), time=tokyo))
    [event] = log.search(AuditFilter(since=tokyo, until=tokyo + timedelta(microseconds=1)), limit=1).events
    assert event.time == tokyo


def test_times_come_back_in_utc(sql_log: SqlAuditLog) -> None:
    sql_log.append(replace(login(), time=datetime(2026, 11, 23, 18, 30, tzinfo=timezone(timedelta(hours=9)))))
    [event] = sql_log.search(AuditFilter(), limit=1).events
    assert event.time.tzinfo is UTC


def test_a_filter_time_without_zone_is_a_mistake_of_the_caller(sql_log: SqlAuditLog) -> None:
    with pytest.raises((ValueError, StatementError), match="times are aware"):
        sql_log.search(AuditFilter(since=NOON.replace(tzinfo=None)), limit=1)


def test_the_row_holds_every_field_and_the_hash_of_the_event(sql_log: SqlAuditLog, database: Database) -> None:
    event = login(username="hana")
    sql_log.append(event)
    with database.reading(AuditUnavailable) as connection:
        row = connection.execute(select(audit_event)).mappings().one()
    assert set(row) == {*(field.name for field in fields(AuditEvent)), "hash"}
    assert row["hash"] == event.hash


def test_pages_run_from_new_to_old_without_gap_or_repetition(log: AuditLog) -> None:
    events = [login(minutes) for minutes in (3, 1, 4, 5, 9, 2, 6)]
    for event in events:
        log.append(event)
    expected = [event.id for event in sorted(events, key=lambda event: event.time, reverse=True)]
    walked: list[str] = []
    cursor: AuditCursor | None = None
    sizes = []
    for _ in range(4):
        page = log.search(AuditFilter(), limit=3, older_than=cursor)
        walked += [event.id for event in page.events]
        sizes.append(len(page.events))
        if page.older is None:
            break
        cursor = page.older
    assert walked == expected
    assert sizes == [3, 3, 1]


def test_events_of_the_same_moment_are_split_between_pages_by_id(log: AuditLog) -> None:
    names = [f"{number:02}" for number in range(9)]
    for name in ["05", "00", "08", "03", "01", "07", "02", "06", "04"]:
        log.append(replace(login(), id=name))
    first = log.search(AuditFilter(), limit=4)
    second = log.search(AuditFilter(), limit=4, older_than=first.older)
    third = log.search(AuditFilter(), limit=4, older_than=second.older)
    assert [event.id for page in (first, second, third) for event in page.events] == names[::-1]
    assert third.older is None


def test_a_page_that_is_exactly_full_has_no_older_one(log: AuditLog) -> None:
    log.append(login(1))
    log.append(login(2))
    assert log.search(AuditFilter(), limit=2).older is None
    assert log.search(AuditFilter(), limit=1).older is not None


def test_a_search_that_finds_nothing_gives_an_empty_last_page(log: AuditLog) -> None:
    for which in (AuditFilter(), AuditFilter(person="nobody"), AuditFilter(entitlement="none")):
        page = log.search(which, limit=5)
        assert (page.events, page.older) == ((), None)


def test_a_page_of_no_events_is_a_mistake_of_the_caller(sql_log: SqlAuditLog) -> None:
    with pytest.raises(ValueError, match="at least one"):
        sql_log.search(AuditFilter(), limit=0)


@pytest.mark.parametrize("part", ["HANA", "hana", "na.y", "Hana.Yamada@corp.example", "YAMADA@"])
def test_a_person_is_found_by_any_part_of_the_username_in_any_case(log: AuditLog, part: str) -> None:
    hers = login(username="Hana.Yamada@corp.example")
    log.append(hers)
    log.append(login(1, username="taro"))
    assert ids(log, AuditFilter(person=part)) == [hers.id]


def test_letters_that_differ_only_by_case_are_equal_in_every_script(log: AuditLog) -> None:
    event = login(username="ГРОẞ-ΣΊΣΥΦΟΣ")
    log.append(event)
    assert ids(log, AuditFilter(person="гросс".replace("сс", "ß"))) == [event.id]
    assert ids(log, AuditFilter(person="σίσυφος")) == [event.id]


def test_a_username_is_found_whole_in_any_case_and_by_no_part_of_it(log: AuditLog) -> None:
    hers = login(username="Hana")
    for event in (hers, login(1, username="hanako"), login(2, username="Johana")):
        log.append(event)

    assert ids(log, AuditFilter(username="hANA")) == [hers.id]
    assert ids(log, AuditFilter(username="han")) == []
    assert ids(log, AuditFilter(username="hana", access_key_id="none")) == []
    assert ids(log, AuditFilter(username="hana", kind=hers.kind, person="hana")) == [hers.id]


def test_a_person_is_found_by_the_whole_immutable_id_only(log: AuditLog) -> None:
    event = login(username="hana")
    log.append(event)
    assert ids(log, AuditFilter(person="ID-OF-hana")) == [event.id]
    for part in ("ID-OF-han", "id-of-hana", "D-OF-hana"):
        assert ids(log, AuditFilter(person=part)) == []


def test_an_event_that_fits_by_name_and_by_id_is_shown_once(log: AuditLog) -> None:
    event = replace(login(username="hana"), principal_id="hana")
    log.append(event)
    without_name = replace(login(1), principal_id="hana")
    log.append(without_name)
    assert ids(log, AuditFilter(person="hana")) == [without_name.id, event.id]


@pytest.mark.parametrize("special", ["%", "_", "\\", "'", '"', "h%a", "han_", "[a-z]", "*", "' OR '1'='1", "\\%", "%%"])
def test_what_sql_and_like_treat_specially_is_plain_text_in_a_search(log: AuditLog, special: str) -> None:
    log.append(login(username="hana"))
    named = login(1, username=f"x{special}y")
    log.append(named)
    assert ids(log, AuditFilter(person=special)) == [named.id]
    assert ids(log, AuditFilter(entitlement=special)) == []


@pytest.mark.parametrize("letter", ["x", "\u1fb7", "花", "𠮷"])
def test_a_very_long_reason_is_kept_whole_and_found_by_its_beginning(letter: str, log: AuditLog) -> None:
    # Of different letters: PostgreSQL would compress a row of the same.
    chance = random.Random(4)  # noqa: S311 - letters of a text, no secret
    long = "the filters are " + "".join(chr(ord(letter) + chance.randrange(8)) for _ in range(20_000))
    kept = login(reason=long)
    log.append(kept)

    assert log.event(kept.id) == kept
    assert ids(log, AuditFilter(text="FILTERS are")) == [kept.id]
    assert ids(log, AuditFilter(text=long[40:60])) == [kept.id]
    assert ids(log, AuditFilter(text=long[-20:])) == []


def test_any_word_finds_a_browser_and_the_whole_of_each_id(log: AuditLog) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"
    kept = replace(login(username="hana"), user_agent=agent, sts_request_id="5f1-STS", revocation_id="0a" * 16)
    other = replace(login(1, "taro"), user_agent=None, sts_request_id="6f1-STS", revocation_id="0b" * 16)
    long = replace(login(2), user_agent="".join(map(chr, range(0x4E00, 0x4E00 + 512))))
    for event in (kept, other, long):
        log.append(event)

    for text in ("FIREFOX/14", "Gecko/20100101", "5f1-STS", "0a" * 16, "ID-OF-hana"):
        assert ids(log, AuditFilter(text=text)) == [kept.id], text
    for text in ("5f1-ST", "0a" * 15, "ID-OF-han"):
        assert ids(log, AuditFilter(text=text)) == [], text
    assert ids(log, AuditFilter(text="firefox", person="hana")) == [kept.id]
    assert ids(log, AuditFilter(text="firefox", person="taro")) == []
    assert ids(log, AuditFilter(text=chr(0x4E00 + 150))) == [long.id]
    assert ids(log, AuditFilter(text=chr(0x4E00 + 250))) == []


def test_reasons_that_never_come_twice_are_no_words_to_search(sql_log: SqlAuditLog, database: Database) -> None:
    for number in range(20):
        sql_log.append(login(number, reason=f"jsonl; all {number + 10_000} events"))
        sql_log.append(login(number, reason=f"factor {secrets.token_hex(8)}"))
    sql_log.append(login(reason="wrong-password (49, data 52e)"))

    assert [word for word, _ in kept_words(database, "reason")] == ["wrong-password (49, data 52e)"]
    assert len(ids(sql_log, AuditFilter(text="data 52e"))) == 1


def test_very_long_filters_find_nothing(log: AuditLog) -> None:
    log.append(login(username="hana", entitlement="home"))
    assert ids(log, AuditFilter(person="a" * 100_000)) == []
    assert ids(log, AuditFilter(entitlement="%_" * 50_000)) == []


def test_a_time_range_begins_inclusive_and_ends_exclusive(log: AuditLog) -> None:
    events = [login(minutes) for minutes in range(5)]
    for event in events:
        log.append(event)
    which = AuditFilter(since=events[1].time, until=events[3].time)
    assert ids(log, which) == [events[2].id, events[1].id]
    assert ids(log, AuditFilter(since=events[3].time, until=events[1].time)) == []


@pytest.mark.parametrize("written", ["192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:200/120"])
def test_an_ipv4_address_is_found_as_ipv6_writes_it_too(log: AuditLog, written: str) -> None:
    event = replace(login(), source_address="192.0.2.7")
    log.append(event)
    log.append(replace(login(1), source_address="198.51.100.7"))
    assert ids(log, AuditFilter(source=ip_network(written))) == [event.id]


def test_filters_given_together_all_have_to_fit(log: AuditLog) -> None:
    hers = issuance(EventKind.ISSUANCE_INTENDED, "G1")
    log.append(hers)
    log.append(issuance(EventKind.ISSUANCE_REJECTED, "G1", 1))
    log.append(replace(issuance(EventKind.ISSUANCE_INTENDED, "G2", 2), entitlement="other"))
    log.append(replace(issuance(EventKind.ISSUANCE_INTENDED, "G3", 3), principal_username="taro", principal_id="T"))
    log.append(issuance(EventKind.ISSUANCE_INTENDED, "G4", 60))
    which = AuditFilter(
        person="HAN",
        kind=EventKind.ISSUANCE_INTENDED,
        entitlement="home",
        since=NOON,
        until=NOON + timedelta(minutes=60),
    )
    assert ids(log, which) == [hers.id]


FILTERS = [
    AuditFilter(person=person, kind=kind, entitlement=entitlement, since=since)
    for person in (None, "hana")
    for kind in (None, EventKind.LOGIN_REJECTED, EventKind.ISSUANCE_SUCCEEDED)
    for entitlement in (None, "home")
    for since in (None, NOON)
]
FILTERS += [
    replace(filter_, kind=kind, since=since)
    for filter_ in (
        AuditFilter(account="111122223333"),
        AuditFilter(outcome=Outcome.REFUSED),
        AuditFilter(outcome=Outcome.SUCCEEDED, entitlement="home"),
        AuditFilter(source=ip_network("192.0.2.7/32")),
        AuditFilter(source=ip_network("192.0.2.0/24")),
        AuditFilter(bucket="corp-home"),
        AuditFilter(text="hana"),
        AuditFilter(text="wrong"),
        AuditFilter(text="fox"),
        AuditFilter(access_key_id="ASIAEXAMPLE", person="hana"),
        AuditFilter(reference_id="R1"),
        AuditFilter(session_name="hana", account="111122223333"),
    )
    for kind in (None, EventKind.ISSUANCE_SUCCEEDED)
    for since in (None, NOON)
]


@pytest.mark.parametrize("older_than", [None, AuditCursor(NOON, "id")], ids=["first page", "later page"])
@pytest.mark.parametrize("which", FILTERS, ids=repr)
def test_a_page_on_sqlite_walks_along_an_index_and_never_reads_or_sorts_all_events(
    sqlite_url: str, which: AuditFilter, older_than: AuditCursor | None
) -> None:
    database = Database(sqlite_url)
    for username, address in (("hana", "192.0.2.7"), ("hanako", "192.0.2.8")):
        SqlAuditLog(database).append(
            replace(login(username=username, reason="wrong"), source_address=address, user_agent="Firefox")
        )
    asked: list[tuple[str, tuple[object, ...]]] = []
    engine_event.listen(database.engine, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])))
    SqlAuditLog(database).search(which, limit=50, older_than=older_than)
    with database.reading(AuditUnavailable) as connection:
        steps = [
            row.detail
            for statement, parameters in [*asked]
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            if "audit_event" in row.detail
        ]
    database.dispose()
    # What contradicts itself is not asked.
    assert steps or (which.kind and which.outcome)
    assert all(step.startswith("SEARCH") or "INDEX ix_audit_event_time" in step for step in steps)


usernames = st.sampled_from([None, "hana", "Hana", "hanako", "taro", "ta%ro", "花子", "\x00", "straße"]) | any_text
some_kinds = st.sampled_from([EventKind.LOGIN_SUCCEEDED, EventKind.LOGIN_REJECTED, EventKind.CONSOLE_REJECTED])
some_entitlements = st.sampled_from([None, "home", "ho%", "HOME", ""])
some_accounts = st.sampled_from([None, None, "111122223333", "444455556666"])
some_addresses = st.sampled_from([None, "192.0.2.7", "192.0.2.200", "198.51.100.1", "2001:db8::1", "unix"])
some_networks = st.sampled_from(["192.0.2.7/32", "192.0.2.0/25", "0.0.0.0/0", "2001:db8::/32", "::/0"]).map(ip_network)
some_references = st.sampled_from([None, None, None, "R1", "R2"])
some_minutes = st.integers(0, 5)
POLICIES = [
    json.dumps({"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*"}})
    for bucket in ("corp-home", "corp-logs")
]


@accumulating
@given(data=st.data())
@pytest.mark.parametrize("most_merged", [1000, 2], ids=["few people fit", "many people fit"])
def test_every_search_gives_what_reading_all_events_would(
    sql_log: SqlAuditLog, monkeypatch: pytest.MonkeyPatch, most_merged: int, data: st.DataObject
) -> None:
    monkeypatch.setattr(audit_search, "_MOST_MERGED", most_merged)
    model = _models.setdefault(sql_log, MemoryAuditLog())
    for _ in range(data.draw(st.integers(1, 4))):
        event = replace(
            login(data.draw(some_minutes), data.draw(usernames)),
            kind=data.draw(some_kinds),
            principal_id=data.draw(st.sampled_from([None, "ID-1", "ID-2", "hana"])),
            entitlement=data.draw(some_entitlements),
            account=data.draw(some_accounts),
            source_address=data.draw(some_addresses),
            reason=data.draw(st.sampled_from([None, "wrong password", "a name like hana"])),
            reference_id=data.draw(some_references),
            user_agent=data.draw(st.sampled_from([None, "Firefox", "a browser like hana"])),
            session_policy=data.draw(st.sampled_from([None, *POLICIES])),
        )
        sql_log.append(event)
        model.append(event)
    which = AuditFilter(
        person=data.draw(
            st.sampled_from([None, "HANA", "a", "ID-1", "%", "\x00", "STRASSE"])
            | st.text(any_character, min_size=1, max_size=2)
        ),
        kind=data.draw(st.none() | some_kinds),
        outcome=data.draw(st.none() | st.sampled_from(Outcome)),
        entitlement=data.draw(some_entitlements),
        account=data.draw(some_accounts),
        bucket=data.draw(st.sampled_from([None, None, "corp-home", "corp-logs"])),
        source=data.draw(st.none() | some_networks),
        reference_id=data.draw(some_references),
        text=data.draw(st.sampled_from([None, None, "HANA", "11", "192.0", "R1", "%", "STRASSE", "password", "fox"])),
        since=data.draw(st.none() | some_minutes.map(lambda minutes: NOON + timedelta(minutes=minutes))),
        until=data.draw(st.none() | some_minutes.map(lambda minutes: NOON + timedelta(minutes=minutes))),
    )
    limit = data.draw(st.integers(1, 7))
    cursor: AuditCursor | None = None
    for _ in range(3):
        expected = model.search(which, limit=limit, older_than=cursor)
        assert sql_log.search(which, limit=limit, older_than=cursor) == expected
        cursor = expected.older
        if cursor is None:
            break


_models: dict[SqlAuditLog, MemoryAuditLog] = {}


@pytest.mark.parametrize(
    "kind",
    [
        EventKind.ISSUANCE_INTENDED,
        EventKind.ISSUANCE_SUCCEEDED,
        EventKind.ISSUANCE_REJECTED,
        EventKind.ISSUANCE_EXPIRED,
    ],
)
def test_a_grant_has_one_intent_and_one_outcome(log: AuditLog, kind: EventKind) -> None:
    first = issuance(kind, "G1")
    log.append(first)
    with pytest.raises(AuditUnavailable):
        log.append(issuance(kind, "G1", 1))
    assert ids(log, AuditFilter()) == [first.id]


def test_a_grant_that_succeeded_cannot_be_rejected_as_well(sql_log: SqlAuditLog) -> None:
    sql_log.append(issuance(EventKind.ISSUANCE_INTENDED, "G1"))
    sql_log.append(issuance(EventKind.ISSUANCE_SUCCEEDED, "G1", 1))
    with pytest.raises(AuditUnavailable):
        sql_log.append(issuance(EventKind.ISSUANCE_REJECTED, "G1", 2))


@pytest.mark.parametrize("first", OUTCOMES)
@pytest.mark.parametrize("second", OUTCOMES)
def test_whatever_the_outcome_there_is_no_second_one(log: AuditLog, first: EventKind, second: EventKind) -> None:
    log.append(issuance(first, "G1", 1))
    with pytest.raises(AuditUnavailable):
        log.append(issuance(second, "G1", 2))
    assert [event.kind for event in log.search(AuditFilter(), limit=5).events] == [first]


def test_an_intent_is_unsettled_until_its_outcome_and_found_when_its_session_would_be_over(log: AuditLog) -> None:
    def intent(grant_id: str, minutes: int, duration_seconds: int | None) -> AuditEvent:
        event = replace(
            issuance(EventKind.ISSUANCE_INTENDED, grant_id, minutes), duration_seconds=duration_seconds, reason=grant_id
        )
        log.append(event)
        return event

    long = intent("long", 0, 28_800)
    short = intent("short", 1, 900)
    unsaid = intent("unsaid", 2, None)
    for number, kind in enumerate(OUTCOMES):
        intent(f"ended-{number}", -600, 900)
        log.append(issuance(kind, f"ended-{number}", -599))
    log.append(replace(issuance(EventKind.ISSUANCE_REJECTED, "none", 3), grant_id=None))
    log.append(replace(issuance(EventKind.ISSUANCE_INTENDED, "none", 3), grant_id=None))

    def unsettled(after: timedelta, limit: int = 10) -> list[AuditEvent]:
        return list(log.unsettled_intents(NOON + after, limit=limit))

    instant = timedelta(microseconds=1)
    assert unsettled(timedelta(minutes=16) - instant) == []
    assert unsettled(timedelta(minutes=16)) == [short]
    assert unsettled(timedelta(hours=8)) == [short, long]
    assert unsettled(timedelta(hours=12, minutes=2) - instant) == [short, long]
    assert unsettled(timedelta(hours=12, minutes=2)) == [short, long, unsaid]
    assert unsettled(timedelta(days=900), limit=2) == [short, long]
    log.append(issuance(EventKind.ISSUANCE_EXPIRED, "long", 900))
    assert unsettled(timedelta(days=900)) == [short, unsaid]


def test_a_live_session_that_the_role_made_shorter_says_so(log: AuditLog) -> None:
    shorter = replace(
        issuance(EventKind.ISSUANCE_SUCCEEDED, "short"), duration_seconds=28_800, granted_duration_seconds=3600
    )
    log.append(shorter)
    (found,) = log.live_sessions("ID-OF-hana", NOON)
    assert (found.asked, found.given) == (timedelta(hours=8), timedelta(hours=1))


def test_unknown_and_expired_are_outcomes_to_search_for(log: AuditLog) -> None:
    intents = [issuance(EventKind.ISSUANCE_INTENDED, grant, minute) for minute, grant in enumerate("ABCD")]
    outcomes = [
        issuance(EventKind.ISSUANCE_SUCCEEDED, "A", 10),
        issuance(EventKind.ISSUANCE_REJECTED, "B", 11),
        issuance(EventKind.ISSUANCE_EXPIRED, "C", 12),
    ]
    lost = replace(issuance(EventKind.ISSUANCE_INTENDED, "E", 4), entitlement="logs", reference_id="R1")
    for event in (*intents, lost, *outcomes):
        log.append(event)
    unknown = AuditFilter(outcome=Outcome.UNKNOWN)

    assert ids(log, unknown) == [lost.id, intents[3].id]
    assert ids(log, replace(unknown, entitlement="logs")) == [lost.id]
    assert ids(log, replace(unknown, reference_id="R1")) == [lost.id]
    assert ids(log, replace(unknown, text="HAN", until=lost.time)) == [intents[3].id]
    assert ids(log, replace(unknown, kind=EventKind.ISSUANCE_SUCCEEDED)) == []
    assert ids(log, AuditFilter(outcome=Outcome.EXPIRED)) == [outcomes[2].id]
    assert ids(log, AuditFilter(outcome=Outcome.EXPIRED, entitlement="home", person="hana")) == [outcomes[2].id]
    first = log.search(unknown, limit=1)
    assert first.older is not None
    assert log.search(unknown, limit=1, older_than=first.older).events == (intents[3],)
    assert log.without_outcome([*intents, lost, *outcomes]) == {intents[3].id, lost.id}
    assert log.without_outcome([intents[0], outcomes[0]]) == frozenset()
    assert log.without_outcome(outcomes) == frozenset()
    [counted] = log.count(unknown, [TimeSpan(NOON, NOON + timedelta(hours=1))])
    assert (counted.events, counted.exact) == (2, True)


def test_the_hash_that_was_kept_with_an_event_stays_whatever_became_of_the_event(database: Database) -> None:
    log = SqlAuditLog(database)
    whole, changed = replace(login(1), reason="signed in"), login(2)
    for event in (whole, changed):
        log.append(event)
    tamper(database, "UPDATE audit_event SET reason = 'nothing happened' WHERE reason IS NULL")
    read = log.search(AuditFilter(), limit=9).events

    assert log.hashes(read) == {whole.id: whole.hash, changed.id: changed.hash}
    assert [event.hash == log.hashes(read)[event.id] for event in read] == [False, True]
    assert log.hashes([login(3)]) == log.hashes([]) == {}


def test_a_grant_without_an_outcome_is_perhaps_live_until_nothing_of_it_can_be(log: AuditLog) -> None:
    intent = replace(issuance(EventKind.ISSUANCE_INTENDED, "lost"), duration_seconds=3600, account=None)
    log.append(intent)
    log.append(replace(intent, id="2" * 32, grant_id="taros", principal_id="ID-OF-taro"))
    log.append(issuance(EventKind.ISSUANCE_SUCCEEDED, "known"))
    ends = NOON + timedelta(hours=1, minutes=6)
    perhaps = LiveSession("home", "", "hana", ends, certain=False)
    certain = LiveSession("home", "111122223333", "hana", NOON + timedelta(hours=1))
    assert list(log.live_sessions("ID-OF-hana", NOON)) == [perhaps, certain]
    assert list(log.live_sessions("ID-OF-hana", ends - timedelta(microseconds=1))) == [perhaps]
    assert list(log.live_sessions("ID-OF-hana", ends)) == []
    log.append(issuance(EventKind.ISSUANCE_REJECTED, "lost", 1))
    assert list(log.live_sessions("ID-OF-hana", NOON)) == [certain]


def test_refusals_before_any_grant_do_not_hinder_each_other(log: AuditLog) -> None:
    for minutes in range(3):
        log.append(replace(issuance(EventKind.ISSUANCE_REJECTED, "G", minutes), grant_id=None))
    assert len(ids(log, AuditFilter())) == 3


def test_an_event_is_written_once(log: AuditLog) -> None:
    event = login()
    log.append(event)
    with pytest.raises(AuditUnavailable):
        log.append(event)
    assert ids(log, AuditFilter()) == [event.id]


def test_live_sessions_are_those_issued_to_that_person_that_have_not_run_out(log: AuditLog) -> None:
    now = NOON + timedelta(hours=1)
    for grant_id, ends, person in (
        ("over", now, "ID-OF-hana"),
        ("long", now + timedelta(hours=3), "ID-OF-hana"),
        ("short", now + timedelta(microseconds=1), "ID-OF-hana"),
        ("other", now + timedelta(hours=2), "ID-OF-taro"),
    ):
        log.append(replace(issuance(EventKind.ISSUANCE_INTENDED, grant_id), expiry=ends, principal_id=person))
        log.append(
            replace(
                issuance(EventKind.ISSUANCE_SUCCEEDED, grant_id),
                expiry=ends,
                principal_id=person,
                session_name=f"session-{grant_id}",
            )
        )
    log.append(replace(issuance(EventKind.ISSUANCE_REJECTED, "no"), expiry=now + timedelta(hours=9)))
    assert list(log.live_sessions("ID-OF-hana", now)) == [
        LiveSession("home", "111122223333", "session-long", now + timedelta(hours=3)),
        LiveSession("home", "111122223333", "session-short", now + timedelta(microseconds=1)),
    ]
    assert list(log.live_sessions("nobody", now)) == []


def test_the_same_live_session_is_listed_once(sql_log: SqlAuditLog) -> None:
    for grant_id in ("G1", "G2"):
        sql_log.append(issuance(EventKind.ISSUANCE_SUCCEEDED, grant_id))
    assert len(sql_log.live_sessions("ID-OF-hana", NOON)) == 1


def kept_words(database: Database, field: str) -> list[tuple[str, str]]:
    words = select(audit_term.c.value, audit_term.c.folded).where(audit_term.c.field == field)
    with database.reading(AuditUnavailable) as connection:
        return sorted((row.value, row.folded) for row in connection.execute(words))


def test_distinct_words_are_kept_once_whoever_writes(sql_log: SqlAuditLog, database: Database) -> None:
    for log in (sql_log, SqlAuditLog(database)):
        for username in ("hana", "Hana", "hana", None, "花子"):
            log.append(login(username=username))
    assert kept_words(database, "principal_username") == [("Hana", "hana"), ("hana", "hana"), ("花子", "花子")]


def test_addresses_are_kept_as_the_numbers_that_networks_are_ranges_of(
    sql_log: SqlAuditLog, database: Database
) -> None:
    for address in ("192.0.2.7", "2001:db8::1", "unix"):
        sql_log.append(replace(login(), source_address=address))
    assert kept_words(database, "source_address") == [
        ("192.0.2.7", "00000000000000000000ffffc0000207"),
        ("2001:db8::1", "20010db8000000000000000000000001"),
        ("unix", "unix"),
    ]


def test_an_event_is_found_by_each_bucket_that_its_policy_allows_and_by_no_other(log: AuditLog) -> None:
    allow = {"Effect": "Allow", "Action": "s3:GetObject"}
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {**allow, "Resource": ["arn:aws:s3:::corp-home/hana/*", "arn:aws:s3:::corp-shared/*"]},
            {**allow, "Resource": "arn:aws-cn:s3:::corp-china"},
            {**allow, "Effect": "Deny", "Resource": "arn:aws:s3:::corp-secret/*"},
        ],
    }
    log.append(replace(issuance(EventKind.ISSUANCE_INTENDED, "G1"), id="e" * 32, session_policy=json.dumps(policy)))
    for bucket in ("corp-home", "corp-shared", "corp-china"):
        assert ids(log, AuditFilter(bucket=bucket)) == ["e" * 32]
    for bucket in ("corp-secret", "corp-hom", "corp-home/hana", ""):
        assert ids(log, AuditFilter(bucket=bucket)) == []


def test_nobody_is_found_by_a_bucket_that_their_policy_does_not_name(sql_log: SqlAuditLog, database: Database) -> None:
    events = [replace(login(minute), session_policy=POLICIES[0]) for minute in range(3)]
    for event in events:
        sql_log.append(event)
    with database.writing(AuditUnavailable) as connection:
        for event in events:
            row = {"bucket": "corp-secret", "time": event.time, "event_id": event.id}
            connection.execute(insert(audit_bucket), row)

    page = sql_log.search(AuditFilter(bucket="corp-secret"), limit=2)
    assert page.events == ()
    assert page.older == AuditCursor(events[1].time, events[1].id)
    assert sql_log.search(AuditFilter(bucket="corp-secret"), limit=2, older_than=page.older) == AuditPage((), None)
    assert len(sql_log.search(AuditFilter(bucket="corp-home"), limit=9).events) == 3


def test_neighbours_are_what_the_person_did_just_before_and_after_in_order(log: AuditLog) -> None:
    events = [replace(login(minute, "hana"), id=f"{minute + 1:032x}") for minute in range(20)]
    same_moment = [replace(login(10, "hana"), id=one * 32) for one in ("0", "f")]
    ours = replace(login(10, "hana"), id="a" * 32, grant_id="G")
    others = [
        replace(login(9, "hana"), id="e" * 32, grant_id="G", kind=EventKind.CONSOLE_REDIRECTED),
        replace(login(11, "hanako"), id="d" * 32),
    ]
    for event in (*events, *same_moment, ours, *others):
        log.append(event)

    def beside(within: timedelta, limit: int) -> list[str]:
        return [event.id for event in log.neighbours(ours, within=within, limit=limit)]

    around = [events[9].id, same_moment[0].id, events[10].id, same_moment[1].id, events[11].id, events[12].id]
    assert beside(timedelta(hours=1), 3) == around
    assert beside(timedelta(minutes=1), 10) == around[:-1]
    assert beside(timedelta(0), 10) == [same_moment[0].id, events[10].id, same_moment[1].id]


def test_one_event_is_read_by_its_id(log: AuditLog) -> None:
    kept = replace(login(), id="e" * 32)
    log.append(kept)
    assert log.event("e" * 32) == kept
    assert log.event("f" * 32) is None


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        (AuditFilter(), [3, 1, 0]),
        (AuditFilter(person="hana"), [3, 1, 0]),
        (AuditFilter(person="hanako"), [1, 0, 0]),
        (AuditFilter(person="nobody"), [0, 0, 0]),
        (AuditFilter(text="hanako"), [1, 0, 0]),
        (AuditFilter(text="HANA", outcome=Outcome.SUCCEEDED), [3, 1, 0]),
        (AuditFilter(source=ip_network("192.0.2.0/24"), entitlement="home"), [0, 0, 0]),
        (AuditFilter(outcome=Outcome.REFUSED), [0, 0, 0]),
        (AuditFilter(bucket="corp-home"), [0, 1, 0]),
        (AuditFilter(bucket="corp-home", person="hana"), [0, 1, 0]),
        (AuditFilter(reference_id="R1"), [0, 1, 0]),
    ],
    ids=repr,
)
def test_a_few_events_are_counted_for_each_span(which: AuditFilter, numbers: list[int], log: AuditLog) -> None:
    for minute, username in ((0, "hana"), (0, "hana"), (0, "hanako"), (3, "hana")):
        log.append(login(minute, username))
    log.append(replace(login(1, "hana"), session_policy=POLICIES[0], reference_id="R1"))
    spans = TimeSpan(NOON, NOON + timedelta(minutes=3)).split(3)

    counts = log.count(which, spans)

    assert [count.events for count in counts] == numbers
    assert all(count.exact for count in counts)


def test_many_events_are_estimated_for_each_span(sql_log: SqlAuditLog, database: Database) -> None:
    rows = [many(number) for number in range(5_000)]
    with database.writing(AuditUnavailable) as connection:
        connection.execute(insert(audit_event), rows)
    spans = TimeSpan(NOON, NOON + timedelta(seconds=6_000)).split(3)

    for which, share in ((AuditFilter(), 1), (AuditFilter(kind=EventKind.LOGIN_SUCCEEDED, account="1"), 5)):
        full, _, last = sql_log.count(which, spans)
        assert full.events == pytest.approx(2_000 / share, rel=0.3)
        assert last.events == pytest.approx(1_000 / share, rel=0.3)
        assert not full.exact


def test_a_burst_of_events_is_counted_as_long_as_all_may_be_looked_at(sql_log: SqlAuditLog, database: Database) -> None:
    rows = [{**many(number), "time": NOON + timedelta(milliseconds=number)} for number in range(900)]
    with database.writing(AuditUnavailable) as connection:
        connection.execute(insert(audit_event), rows)
    spans = TimeSpan(NOON - timedelta(hours=1), NOON + timedelta(hours=1)).split(24)

    for which, number in ((AuditFilter(), 900), (AuditFilter(account="3"), 180)):
        counts = sql_log.count(which, spans)
        assert [count.events for count in counts] == [*[0] * 12, number, *[0] * 11]
        assert all(count.exact for count in counts)


def many(number: int) -> dict[str, object]:
    return {
        "kind": EventKind.LOGIN_SUCCEEDED,
        "time": NOON + timedelta(seconds=number),
        "id": f"{number:032x}",
        "principal_username": "busy" if number % 2 else "other",
        "account": str(number % 5),
        "hash": "",
    }


@pytest.mark.parametrize("look_through", [1, 7, 100, 1000])
@pytest.mark.parametrize(
    "which",
    [
        AuditFilter(account="1", session_name="rare"),
        AuditFilter(account="1", kind=EventKind.LOGIN_SUCCEEDED),
        AuditFilter(account="1", source=ip_network("192.0.2.0/24")),
        AuditFilter(text="192.0.2", account="3"),
        AuditFilter(person="o", account="3"),
        AuditFilter(bucket="corp-home", account="2"),
        AuditFilter(outcome=Outcome.SUCCEEDED, account="4"),
    ],
    ids=repr,
)
def test_a_search_that_ends_early_says_so_and_goes_on_until_all_is_found(
    which: AuditFilter, look_through: int, sql_log: SqlAuditLog
) -> None:
    model = MemoryAuditLog()
    for number in range(60):
        event = replace(
            login(number // 7, ("busy", "other", "hana")[number % 3]),
            id=f"{number * 7919 % 1000:032x}",
            account=str(number % 5),
            session_name="rare" if number in {1, 11} else None,
            source_address=f"192.0.2.{number % 40}" if number % 4 else "198.51.100.1",
            session_policy=POLICIES[number % 2],
        )
        sql_log.append(event)
        model.append(event)
    expected = model.search(which, limit=100).events
    found: list[AuditEvent] = []
    cursor: AuditCursor | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        page = sql_log.search(which, limit=5, older_than=cursor, look_through=look_through)
        assert cursor is None or page.older is None or (page.older.time, page.older.id) < (cursor.time, cursor.id)
        assert page.looked_back_to is None or (page.older is not None and page.looked_back_to == page.older.time)
        assert page.older is None or page.looked_back_to is not None or len(page.events) == 5
        found += page.events
        cursor = page.older
        pages += 1

    assert found == list(expected)
    # It did end early where there was more to look at than it may.
    assert pages > len(expected) // 5 + 1 or look_through > 1


def test_of_two_filters_the_rarer_leads(sql_log: SqlAuditLog, database: Database) -> None:
    rows = [{**many(number), "session_name": "rare" if number < 2 else None} for number in range(5_000)]
    with database.writing(AuditUnavailable) as connection:
        connection.execute(insert(audit_event), rows)

    page = sql_log.search(AuditFilter(account="1", session_name="rare"), limit=50, look_through=100)

    assert [event.id for event in page.events] == [f"{1:032x}"]
    assert page.older is None


def test_a_username_is_not_kept_without_its_event_on_sqlite_or_postgresql(
    sql_log: SqlAuditLog, database: Database
) -> None:
    sql_log.append(issuance(EventKind.ISSUANCE_INTENDED, "G1"))
    with pytest.raises(AuditUnavailable):
        sql_log.append(replace(issuance(EventKind.ISSUANCE_INTENDED, "G1"), principal_username="ghost"))
    with database.reading(AuditUnavailable) as connection:
        assert connection.scalars(
            select(audit_term.c.value).where(audit_term.c.field == "principal_username")
        ).all() == ["hana"]


def test_an_event_of_a_kind_from_a_newer_version_is_not_misread(sql_log: SqlAuditLog, database: Database) -> None:
    event = login()
    with database.writing(AuditUnavailable) as connection:
        connection.execute(
            audit_event.insert().values(id="new", time=event.time, kind="teleport.succeeded", hash="0" * 64)
        )
    with pytest.raises(AuditUnavailable, match="event new is of a kind that this version does not know"):
        sql_log.search(AuditFilter(), limit=1)


def test_the_check_passes_on_a_ready_database(sql_log: SqlAuditLog) -> None:
    sql_log.check()


def test_the_check_fails_without_tables(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(AuditUnavailable, match=r'"write_check" does not exist|unable to open database file'):
        SqlAuditLog(database).check()
    database.dispose()
