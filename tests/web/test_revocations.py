"""Ending sessions on the page: shown first, done then, and told how far it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.audit import EventKind
from broker.core.errors import AuditUnavailable, RolePolicyRefused, TokenServiceUnavailable
from broker.core.revocation import read_policy
from tests.web.world import ADA, AUDREY, HANAKO, KEN, Browser, World

STAFF_FILES = "arn:aws:iam::111122223333:role/StaffFiles"
LOG_READER = "arn:aws:iam::444455556666:role/path/LogReader"
OPERATOR = "arn:aws:iam::444455556666:role/Operator"


def with_sessions(world: World) -> Browser:
    """An administrator, while Hanako has a session and Ken three."""
    uses = ((HANAKO, ["home/credentials"]), (KEN, ["home/credentials", "logs/credentials", "operate/console"]))
    for person, paths in uses:
        theirs = world.browser()
        theirs.sign_in(person)
        for path in paths:
            theirs.post(f"/issue/{path}")
    world.clock.advance(timedelta(minutes=1))
    browser = world.browser()
    browser.sign_in(ADA)
    return browser


@pytest.fixture
def ada(world: World) -> Browser:
    return with_sessions(world)


def session_of(world: World, username: str, entitlement: str) -> str:
    for event in world.audit.events:
        if (event.kind, event.principal_username, event.entitlement) == (
            EventKind.ISSUANCE_SUCCEEDED,
            username,
            entitlement,
        ):
            return str(event.grant_id)
    raise AssertionError


def test_what_would_be_ended_and_denied_is_shown_and_nothing_is_done(ada: Browser, world: World) -> None:
    before = len(world.audit.events)
    page = ada.get(f"/admin/sessions/revoke?person={KEN.principal.id}")

    assert page.status_code == 200
    for shown in ("ken", "Service logs", LOG_READER, OPERATOR, STAFF_FILES, "aws:SourceIdentity", "3 AWS sessions end"):
        assert shown in page.text
    assert "ken is signed out of this portal" in page.text
    assert len(world.audit.events) == before
    assert world.role_policies.calls == []


def test_ending_them_signs_out_denies_and_says_so(ada: Browser, world: World) -> None:
    ken = world.browser()
    ken.sign_in(KEN)
    answer = ada.post("/admin/sessions/end", {"person": "ken", "purpose": "lost laptop"})

    assert answer.status_code == 303
    assert answer.headers["Location"] == "/admin/sessions/revocations"
    assert set(world.role_policies.documents) == {STAFF_FILES, LOG_READER, OPERATOR}
    assert ken.get("/").status_code == 302
    page = ada.get("/admin/sessions/revocations").text
    for shown in ("Ended", "ken", "ada", "lost laptop", "LogReader"):
        assert shown in page
    [asked] = [event for event in world.audit.events if event.kind is EventKind.REVOCATION_ASKED]
    assert (asked.principal_username, asked.purpose, asked.source_address) == ("ada", "lost laptop", "127.0.0.1")


def test_ending_them_without_saying_why_is_refused(ada: Browser, world: World) -> None:
    answer = ada.post("/admin/sessions/end", {"person": "ken", "purpose": "  "})
    assert answer.status_code == 400
    assert "Say why" in answer.text
    assert world.revocations.kept == {}


def test_the_list_tells_the_ended_ones_from_those_that_run(ada: Browser, world: World) -> None:
    ada.post("/admin/sessions/end", {"session": session_of(world, "ken", "logs"), "purpose": "a drill"})
    page = ada.get("/admin/sessions").text

    assert page.count("Ended by an administrator") == 1
    assert page.count("End this session…") == 3
    own = world.browser()
    own.sign_in(KEN)
    assert own.get("/sessions").text.count("Ended by an administrator") == 1


@pytest.mark.parametrize(
    ("field", "value", "roles"),
    [
        ("entitlement", "home", {STAFF_FILES}),
        ("account", "444455556666", {LOG_READER, OPERATOR}),
    ],
)
def test_all_of_an_access_or_of_an_account_can_be_ended(
    ada: Browser, world: World, field: str, value: str, roles: set[str]
) -> None:
    assert f"/admin/sessions/revoke?{field}={value}" in ada.get(f"/admin/sessions?{field}={value}").text
    page = ada.get(f"/admin/sessions/revoke?{field}={value}")
    assert page.status_code == 200
    assert "is signed out of this portal in every browser: " in page.text
    ada.post("/admin/sessions/end", {field: value, "purpose": "a drill"})

    assert set(world.role_policies.documents) == roles


def test_sessions_of_another_access_that_end_too_are_shown_before(world: World) -> None:
    ken = world.browser()
    ken.sign_in(KEN)
    for path in ("operate/console", "look/credentials"):
        ken.post(f"/issue/{path}")
    ada = world.browser()
    ada.sign_in(ADA)
    page = ada.get("/admin/sessions/revoke?entitlement=operate").text

    assert "1 other session ends too" in page
    assert "Look around" in page
    assert "other session" not in ada.get("/admin/sessions/revoke?person=ken").text


def test_one_session_is_told_by_its_name_in_its_role(ada: Browser, world: World) -> None:
    session = session_of(world, "hanako", "home")
    assert "apart by their time alone" in ada.get(f"/admin/sessions/revoke?session={session}").text
    ada.post("/admin/sessions/end", {"session": session, "purpose": "a drill"})

    [subject] = read_policy(world.role_policies.documents[STAFF_FILES])
    assert subject.name == "hanako"


@pytest.mark.parametrize("query", ["person=nobody", "session=x", "account=1", "entitlement=none", "", "person="])
def test_what_there_is_not_is_a_page_that_says_so(ada: Browser, query: str) -> None:
    assert ada.get(f"/admin/sessions/revoke?{query}").status_code == 404


@pytest.mark.parametrize("person", [HANAKO, AUDREY], ids=["an employee", "an auditor"])
def test_nobody_but_administrators_ends_sessions(world: World, person: object) -> None:
    browser = world.browser()
    browser.sign_in(person)  # type: ignore[arg-type]  # a person of the world

    assert browser.get("/admin/sessions/revoke?person=ken").status_code == 403
    assert browser.get("/admin/sessions/revocations").status_code == 403
    assert browser.post("/admin/sessions/end", {"person": "ken", "purpose": "a drill"}).status_code == 403
    assert world.revocations.kept == {}


def test_a_role_that_aws_does_not_change_is_shown_with_its_reason_and_the_next_try(ada: Browser, world: World) -> None:
    world.role_policies.refuses[OPERATOR] = RolePolicyRefused("AccessDenied", "not authorized")
    ada.post("/admin/sessions/end", {"person": "ken", "purpose": "a drill"})
    page = ada.get("/admin/sessions/revocations").text

    assert "Not everywhere yet" in page
    assert "IAM refused to change the role&#39;s policy: AccessDenied: not authorized" in page
    assert "Tried again at" in page
    [revocation] = world.revocations.kept
    assert f"Reference <code>{revocation}</code>" in page


def test_a_role_without_room_for_one_person_says_that_everybodys_sessions_ended(ada: Browser, world: World) -> None:
    world.role_policies.room = 200
    ada.post("/admin/sessions/end", {"person": "ken", "purpose": "a drill"})
    page = ada.get("/admin/sessions/revocations").text
    assert page.count("everybody's sessions of the role") == 3
    ada.post("/admin/sessions/end", {"account": "111122223333", "purpose": "a drill"})
    assert ada.get("/admin/sessions/revocations").text.count("everybody's sessions of the role") == 3


def test_when_the_record_fails_after_it_is_kept_the_workers_go_on(ada: Browser, world: World) -> None:
    token = ada.form_token()
    world.token_service.fails = TokenServiceUnavailable("no answer from STS")
    answer = ada.client.post("/admin/sessions/end", data={"person": "ken", "csrf_token": token, "purpose": "a drill"})
    assert answer.status_code == 303
    assert len(world.revocations.due(world.clock() + timedelta(minutes=1), limit=10)) == 3


def test_an_outage_right_after_keeping_it_is_no_error_of_the_page(
    ada: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_ports: object) -> int:
        raise AuditUnavailable("the database does not answer")

    monkeypatch.setattr("broker.web.revocations_view.carry_out", fail)
    assert ada.post("/admin/sessions/end", {"person": "ken", "purpose": "a drill"}).status_code == 303
    assert "Under way" in ada.get("/admin/sessions/revocations").text


def test_without_a_revoker_the_page_says_what_goes_on_and_what_could_be_done_by_hand() -> None:
    world = World(own_roles=False)
    ada = with_sessions(world)
    page = ada.get("/admin/sessions/revoke?person=ken").text
    assert "AWS is not told" in page
    assert "3 AWS sessions go on" in page
    ada.post("/admin/sessions/end", {"person": "ken", "purpose": "a drill"})

    assert world.role_policies.calls == []
    assert "Signed out of the portal" in ada.get("/admin/sessions/revocations").text


def test_more_than_a_role_takes_is_said_before(ada: Browser, world: World) -> None:
    [hers] = [event for event in world.audit.events if event.grant_id == session_of(world, "hanako", "home")][-1:]
    world.audit.events.extend(
        replace(hers, id=f"{number:032x}", grant_id=f"{number:032x}", session_name=f"somebody-{number:050}")
        for number in range(200)
    )
    page = ada.get("/admin/sessions/revoke?entitlement=home").text
    assert "would be too long for the policies of one role" in page
    assert "of the 10240 characters" in page
    assert "and 182 more" in page
