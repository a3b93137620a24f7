"""The audit as administrators read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_search import FIRST_LOOK, FURTHER_LOOK, AuditCursor, AuditFilter, AuditPage, EventCount, TimeSpan
from broker.core.errors import FilterMalformed
from broker.web.audit_query import read_cursor, write_cursor
from broker.web.audit_words import FIELD_LABELS, KIND_LABELS
from tests.fakes import Person
from tests.web.world import ADA, AUDREY, HANAKO, KEN, Browser, World

TYPED = {"person": "hanako", "kind": ""}
KEY = b"k" * 32
BEGAN = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@pytest.fixture
def ada(world: World) -> Browser:
    browser = world.browser()
    browser.sign_in(ADA)
    return browser


def events_on(page: TestResponse) -> list[str]:
    return re.findall(r'<tbody[^>]* data-kind="([^"]+)">', page.text)


def event(number: int, **facts: object) -> AuditEvent:
    return AuditEvent(
        **{  # type: ignore[arg-type]  # facts of a test
            "kind": EventKind.LOGIN_SUCCEEDED,
            "time": BEGAN + timedelta(seconds=number),
            "id": f"{number:032x}",
            "principal_username": "ken",
            "principal_id": KEN.principal.id,
            **facts,
        }
    )


def test_every_kind_of_event_and_every_field_has_a_label() -> None:
    assert set(KIND_LABELS) == set(EventKind)
    assert set(FIELD_LABELS) == {one.name for one in fields(AuditEvent)}


def test_a_row_says_who_did_what_from_where_and_all_its_fields_can_be_opened(ada: Browser, world: World) -> None:
    hanako = world.browser()
    hanako.sign_in(HANAKO)
    hanako.post("/issue/home/credentials")

    page = ada.get("/admin/audit?kind=issuance.succeeded")

    recorded = world.audit.events[-1]
    assert events_on(page) == ["issuance.succeeded"]
    text = unescape(page.text)
    assert "Credentials issued" in text
    for value in (
        "issuance.succeeded",
        "hanako",
        HANAKO.principal.id,
        "127.0.0.1",
        "111122223333",
        "arn:aws:iam::111122223333:role/StaffFiles",
        "28800",
        recorded.access_key_id,
        recorded.reference_id,
        recorded.assertion_id,
        recorded.session_policy_sha256,
        '"Department": "Sales"',
        '"s3:ListBucket"',
    ):
        assert str(value) in text, value


def test_events_are_newest_first_and_pages_of_fifty_meet_without_gap_or_repetition(ada: Browser, world: World) -> None:
    world.audit.events.extend(event(number, reference_id=f"REF{number:05d}") for number in range(1, 121))

    seen: list[str] = []
    sizes = []
    page = ada.get("/admin/audit?person=ken")
    while True:
        found = re.findall(r'data-label="Reference"><code>(REF\d{5})</code></td>', page.text)
        seen += found
        sizes.append(len(found))
        if 'rel="next"' not in page.text:
            break
        page = ada.get(ada.link(page, "next"))

    assert seen == [f"REF{number:05d}" for number in range(120, 0, -1)]
    assert sizes == [50, 50, 20]
    assert 'href="/admin/audit?person=ken">Newest</a>' in page.text


def test_events_of_one_moment_are_all_shown_once(ada: Browser, world: World) -> None:
    world.audit.events.extend(
        event(0, id=f"{number:032x}", reference_id=f"REF{number:05d}") for number in range(1, 101)
    )

    first = ada.get("/admin/audit?person=ken")
    second = ada.get(ada.link(first, "next"))

    references = re.findall(r'data-label="Reference"><code>(REF\d{5})</code></td>', first.text + second.text)
    assert sorted(references) == [f"REF{number:05d}" for number in range(1, 101)]


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("", ["issuance.succeeded", "login.rejected", "login.succeeded"]),
        ("person=KE", ["issuance.succeeded"]),
        (f"person={KEN.principal.id}", ["issuance.succeeded"]),
        ("kind=login.rejected", ["login.rejected"]),
        ("entitlement=logs", ["issuance.succeeded"]),
        ("entitlement=log", []),
        ("since=2026-11-23T09:31", ["issuance.succeeded", "login.rejected"]),
        ("until=2026-11-23T09:32", ["login.rejected", "login.succeeded"]),
        ("since=2026-11-23T09:31&until=2026-11-23T09:31:30", ["login.rejected"]),
        ("since=2026-11-23+09:31:00", ["issuance.succeeded", "login.rejected"]),
        ("person=ken&kind=login.rejected", []),
        ("unknown=x", ["issuance.succeeded", "login.rejected", "login.succeeded"]),
    ],
)
def test_filters_find_what_they_say(query: str, kinds: list[str], ada: Browser, world: World) -> None:
    world.audit.events.append(
        event(60, kind=EventKind.LOGIN_REJECTED, principal_username=None, principal_id=None, reason="unknown-username")
    )
    world.audit.events.append(event(150, kind=EventKind.ISSUANCE_SUCCEEDED, entitlement="logs"))

    page = ada.get(f"/admin/audit?{query}")

    assert page.status_code == 200
    assert events_on(page) == kinds


def test_a_filter_stays_in_its_field_and_in_the_links(ada: Browser, world: World) -> None:
    world.audit.events.extend(event(number, entitlement="home") for number in range(60))

    page = ada.get("/admin/audit?person=k%26%22&entitlement=home&kind=login.succeeded&since=2026-11-01T00:00")
    assert 'value="k&amp;&#34;"' in page.text
    page = ada.get("/admin/audit?person=ken&entitlement=home&kind=login.succeeded&since=2026-11-01T00:00")

    assert 'name="entitlement" type="search" value="home"' in page.text
    assert 'value="login.succeeded" selected' in page.text
    assert 'value="2026-11-01T00:00"' in page.text
    link = ada.link(page, "next")
    assert link.startswith(
        "/admin/audit?person=ken&entitlement=home&kind=login.succeeded&since=2026-11-01T00%3A00&older=2026-11-23T09"
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("kind=coffee", "kind"),
        ("kind=LOGIN.SUCCEEDED", "kind"),
        ("since=yesterday", "since"),
        ("since=2026-02-30T00:00", "since"),
        ("since=0000-01-01T00:00", "since"),
        ("since=0001-01-01T00:00", "since"),
        ("until=0001-01-02T00:00", "until"),
        ("since=1969-12-31T23:59:59", "since"),
        ("until=9999-12-31T23:59:59", "until"),
        ("until=2026-11-23", "until"),
        ("until=2026-11-23T09:30Z", "until"),
        ("since=2026-11-23T09:30&until=2026-11-23T09:30", "until"),
        ("person=" + "x" * 300, "person"),
        ("person=%00", "person"),
        ("entitlement=%E2%80%AE", "entitlement"),
    ],
)
def test_a_filter_that_cannot_be_understood_is_said_at_its_field_and_nothing_is_searched(
    query: str, field: str, ada: Browser
) -> None:
    page = ada.get(f"/admin/audit?{query}")

    assert page.status_code == 400
    assert f'id="{field}-fault"' in page.text
    assert re.search(rf'name="{field}"[^>]*aria-invalid="true" aria-describedby="{field}-fault"', page.text)
    assert events_on(page) == []
    assert "No events" not in page.text


def test_a_text_that_is_too_long_is_refused_in_words_and_a_browser_sends_none_that_fits_into_no_address(
    ada: Browser,
) -> None:
    page = ada.get("/admin/audit", query_string={"text": "x" * 257})

    assert page.status_code == 400
    fault = re.search(r'id="text-fault">.*?</svg>([^<]+)</p>', page.text)
    assert fault
    assert fault.group(1) == "Write no more than 256 characters."
    assert ada.get("/admin/audit", query_string={"text": "x" * 256}).status_code == 200
    fields = re.findall(r'<input id="[^"]+" name="[^"]+" type="search"[^>]*>', page.text)
    assert len(fields) > 5
    assert all('maxlength="257"' in one for one in fields)


@pytest.mark.parametrize(
    "cursor", ["x", "2026-11-23T09:30:00.000000Z_", "2026-02-30T09:30:00.000000Z_" + "0" * 32, "é"]
)
def test_a_cursor_that_is_none_of_ours_is_a_clear_error(cursor: str, ada: Browser) -> None:
    answer = ada.get("/admin/audit", query_string={"older": cursor})

    assert answer.status_code == 400
    assert "The search cannot be understood" in answer.text


@given(
    st.datetimes(min_value=BEGAN.replace(tzinfo=None), timezones=st.just(UTC)),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
)
def test_a_cursor_reads_back_as_it_was_written(time: datetime, id_: str) -> None:
    cursor = AuditCursor(time=time, id=id_)

    assert read_cursor(write_cursor(cursor, TYPED, KEY), TYPED, KEY) == cursor


@given(st.text())
def test_no_text_makes_a_cursor_fail_otherwise(text: str) -> None:
    with suppress(FilterMalformed):
        assert write_cursor(read_cursor(text, TYPED, KEY), TYPED, KEY) == text


def test_a_search_that_ended_early_says_how_far_it_looked_and_goes_on_when_asked(
    ada: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    whole, place = world.audit.search, AuditCursor(BEGAN, "0" * 32)

    def search(
        which: AuditFilter, *, limit: int, older_than: AuditCursor | None = None, look_through: int
    ) -> AuditPage:
        asked.append((older_than, look_through))
        if older_than is None:
            return AuditPage((), older=place, looked_back_to=place.time)
        return whole(which, limit=limit)

    world.audit.events.append(event(-60))
    monkeypatch.setattr(world.audit, "search", search)
    page = ada.get("/admin/audit?person=ken&account=111122223333")

    assert "No events so far" in page.text
    assert "Nothing matches" not in page.text
    assert "The search stopped for now at" in page.text
    assert 'datetime="2026-11-23T09:30:00' in page.text
    assert ">Look further back</a>" in page.text
    further = ada.get(ada.link(page, "next"))
    assert "stopped for now" not in further.text
    assert asked == [(None, FIRST_LOOK), (place, FURTHER_LOOK)]


def test_an_estimated_chart_says_so_and_shows_no_less_than_the_table(
    ada: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(_: AuditFilter, spans: Sequence[TimeSpan]) -> list[EventCount]:
        return [EventCount(span, 0 if number else 1_000, exact=False) for number, span in enumerate(spans)]

    world.audit.events.extend(event(number) for number in range(60))
    monkeypatch.setattr(world.audit, "count", count)
    page = ada.get("/admin/audit?person=ken&since=2026-11-23T08:00&until=2026-11-23T10:00")

    assert re.findall(r"<title>[^<]+: (≈ \d+)</title>", page.text) == ["≈ 1000", "≈ 50"]
    assert "about 1050 events" in page.text


def test_the_chart_of_a_page_that_shows_all_there_is_is_exact(
    ada: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(_: AuditFilter, spans: Sequence[TimeSpan]) -> list[EventCount]:
        return [EventCount(span, 9, exact=False) for span in spans]

    world.audit.events.extend(event(number) for number in (0, 1, 600))
    monkeypatch.setattr(world.audit, "count", count)
    page = ada.get("/admin/audit?person=ken&since=2026-11-23T09:00&until=2026-11-23T10:00")

    assert re.findall(r"<title>[^<]+: (\d+)</title>", page.text) == ["2", "1"]
    assert "<span>3 events</span>" in page.text


@pytest.mark.parametrize(
    "query",
    [
        "since=1970-01-01T00:00",
        "until=1970-01-01T00:00",
        "since=9998-12-31T23:59:59",
        "until=9998-12-31T23:59:59",
        "since=1970-01-01T00:00&until=9998-12-31T23:59:59",
    ],
)
@pytest.mark.parametrize("path", ["/admin/audit", "/admin/audit.csv", "/admin/audit.jsonl"])
def test_the_earliest_and_the_latest_times_can_be_asked_for(path: str, query: str, ada: Browser) -> None:
    assert ada.get(f"{path}?{query}").status_code == 200


@pytest.mark.parametrize(
    ("query", "reaches"),
    [
        ("since=2026-11-23T09:29", True),
        ("until=2026-11-23T09:29", True),
        ("until=2026-11-23T11:00", True),
        ("since=2026-11-23T09:30", False),
        ("since=2026-11-23T10:00&until=2026-11-23T11:00", False),
        ("person=ken&kind=login.succeeded", True),
        ("", False),
    ],
)
def test_a_search_that_reaches_into_what_was_archived_says_so(
    query: str, ada: Browser, world: World, *, reaches: bool
) -> None:
    world.audit.events[:] = [event(0), *(event(number, kind=EventKind.SESSION_ENDED) for number in range(1, 60))]
    before = ada.get(f"/admin/audit?{query}").text
    world.audit.archived = True

    text = ada.get(f"/admin/audit?{query}").text

    assert "Earlier events are in archives" not in before
    assert ("Earlier events are in archives" in text) == reaches
    if reaches:
        note = text[text.index("Earlier events are in archives") :]
        assert 'datetime="2026-11-23T09:30:00Z"' in note[:400]


def test_grants_whose_outcome_is_not_known_are_marked_and_found(ada: Browser, world: World) -> None:
    lost = event(1, kind=EventKind.ISSUANCE_INTENDED, grant_id="A")
    known = [event(2, kind=EventKind.ISSUANCE_INTENDED, grant_id="B")]
    known.append(event(3, kind=EventKind.ISSUANCE_SUCCEEDED, grant_id="B"))
    expired = event(4, kind=EventKind.ISSUANCE_EXPIRED, grant_id="C")
    world.audit.events += [lost, *known, expired]

    everything = ada.get("/admin/audit?person=ken").text
    unknown = ada.get("/admin/audit?outcome=unknown")

    assert everything.count("Outcome not known") == 1
    row = everything.index(f"/admin/audit/{lost.id}")
    assert "Outcome not known" in everything[row : row + 1000]
    assert events_on(unknown) == ["issuance.intended"]
    assert lost.id in unknown.text
    assert '<option value="unknown" selected>Not known so far</option>' in unknown.text
    assert events_on(ada.get("/admin/audit?outcome=expired")) == ["issuance.expired"]


def test_an_empty_search_says_that_nothing_matches(ada: Browser) -> None:
    page = ada.get("/admin/audit?person=nobody-of-that-name")

    assert page.status_code == 200
    assert "Nothing matches these filters." in page.text
    assert "<table" not in page.text
    assert 'href="/admin/audit">Clear</a>' in page.text


def test_an_empty_audit_says_that_nothing_was_recorded(ada: Browser, world: World) -> None:
    world.audit.events.clear()

    page = ada.get("/admin/audit")

    assert "Nothing has been recorded yet." in page.text
    assert ">Clear</a>" not in page.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(["<script>", "</td>", '"', "'", "&", "onload=", "{{ 7*7 }}", "\x1b[31m", "\u202e"])
        ).map("".join),
    )
)
def test_whatever_a_browser_calls_itself_is_only_text(ada: Browser, world: World, user_agent: str) -> None:
    world.audit.events[1:] = [event(1, user_agent=user_agent, reason=user_agent, principal_username=user_agent or None)]

    page = ada.get("/admin/audit?kind=login.succeeded")

    assert page.status_code == 200
    assert len(re.findall(r"<script", page.text)) == 1
    assert len(re.findall(r"</tbody>", page.text)) == 2
    shown = re.search(r"<dt>Browser</dt><dd translate=\"no\"><code>(.*?)</code>", page.text, re.DOTALL)
    assert shown
    assert "<" not in shown.group(1)
    assert unescape(shown.group(1)) == user_agent


def test_a_hostile_user_agent_of_a_real_request_is_shown_as_text(ada: Browser, world: World) -> None:
    attacker = world.browser()
    attacker.client.environ_base["HTTP_USER_AGENT"] = "<script>alert(1)</script>" + "A" * 5000
    attacker.sign_in(HANAKO, password="wrong")

    page = ada.get("/admin/audit")

    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert "A" * 600 not in page.text


def test_only_administrators_read_the_audit_and_a_try_is_recorded(hanako: Browser, ada: Browser, world: World) -> None:
    answer = hanako.get("/admin/audit")

    assert answer.status_code == 403
    assert "For administrators only" in answer.text
    assert events_on(answer) == []
    rejected = world.audit.events[-1]
    assert rejected.kind is EventKind.ADMIN_REJECTED
    assert (rejected.principal_id, rejected.principal_username) == (HANAKO.principal.id, "hanako")
    assert rejected.reference_id
    assert rejected.reference_id in answer.text
    assert events_on(ada.get("/admin/audit?kind=admin.rejected")) == ["admin.rejected"]


def test_somebody_who_is_an_administrator_no_more_is_refused_at_once(ada: Browser, world: World) -> None:
    assert ada.get("/admin/audit").status_code == 200
    for person in world.directory.people:
        if person.principal.id == ADA.principal.id:
            person.principal = HANAKO.principal.__class__(
                id=ADA.principal.id, username="ada", display_name="Ada", groups=HANAKO.principal.groups
            )

    assert ada.get("/admin/audit").status_code == 403


def test_without_an_audit_the_page_says_so(ada: Browser, world: World) -> None:
    world.audit.down = True

    answer = ada.get("/admin/audit")

    assert answer.status_code == 503
    assert "The audit log does not answer" in answer.text


def test_an_auditor_reads_the_audit_and_can_do_nothing_else(world: World) -> None:
    browser = world.browser()
    browser.sign_in(AUDREY)

    assert browser.get("/admin/audit").status_code == 200
    assert browser.get("/admin/holds").status_code == 403


@pytest.mark.parametrize("person", [ADA, AUDREY], ids=["administrator", "auditor"])
def test_while_the_directory_is_down_who_could_read_the_audit_reads_on_and_can_do_nothing_else(
    person: Person, world: World
) -> None:
    browser = world.browser()
    browser.sign_in(person)
    assert browser.get("/").status_code == 200
    world.directory.down = True

    answer = browser.get("/admin/audit")

    assert answer.status_code == 200
    assert "login.succeeded" in events_on(answer)
    assert "The directory does not answer" in answer.text
    for elsewhere in ("/", "/admin/holds"):
        assert browser.get(elsewhere).status_code == 503


def test_reading_on_ends_with_the_sign_in(ada: Browser, world: World) -> None:
    assert ada.get("/").status_code == 200
    world.directory.down = True
    for _ in range(10 * 3 - 1):
        world.clock.advance(timedelta(minutes=20))
        assert ada.get("/admin/audit").status_code == 200
    world.clock.advance(timedelta(minutes=20))

    assert ada.get("/admin/audit").status_code == 302


def test_while_the_directory_is_down_nobody_else_reads_the_audit(hanako: Browser, world: World) -> None:
    assert hanako.get("/").status_code == 200
    world.directory.down = True

    answer = hanako.get("/admin/audit")

    assert answer.status_code == 503
    assert events_on(answer) == []


def test_who_lost_the_duty_before_the_directory_went_down_reads_no_more(ada: Browser, world: World) -> None:
    assert ada.get("/admin/audit").status_code == 200
    for person in world.directory.people:
        if person.principal.id == ADA.principal.id:
            person.principal = replace(ADA.principal, groups=HANAKO.principal.groups)
    assert ada.get("/").status_code == 200
    world.directory.down = True

    assert ada.get("/admin/audit").status_code == 503


def test_a_refusal_that_cannot_be_recorded_is_an_outage(hanako: Browser, world: World) -> None:
    world.audit.down = True

    assert hanako.get("/admin/audit").status_code == 503
