"""Signing in and out."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from broker.core.audit import EventKind
from broker.core.errors import LoginCause
from tests.fakes import Person, person_named
from tests.web.world import DISABLED, HANAKO, KEN, Browser, World

ONE_TEXT = "The username or the password is not right, or the account cannot be used."


def test_the_password_signs_a_person_in_and_it_is_recorded(browser: Browser, world: World) -> None:
    answer = browser.sign_in(HANAKO)

    assert answer.status_code == 303
    assert answer.headers["Location"] == "/"
    assert "Hanako Yamada" in browser.get("/").text
    [event] = world.audit.events
    assert (event.kind, event.principal_username) == (EventKind.LOGIN_SUCCEEDED, "hanako")


@pytest.mark.parametrize(
    ("person", "password", "cause"),
    [
        (HANAKO, "wrong", LoginCause.WRONG_PASSWORD),
        (person_named(8, "nobody-of-that-name", "Nobody"), "any", LoginCause.UNKNOWN_USERNAME),
        (DISABLED, "wrong", LoginCause.WRONG_PASSWORD),
        (HANAKO, "", LoginCause.EMPTY_PASSWORD),
        (HANAKO, "x" * 60_000, LoginCause.PASSWORD_TOO_LONG),
        (HANAKO, "ん" * 1_000, LoginCause.PASSWORD_TOO_LONG),
    ],
    ids=lambda value: value.value if isinstance(value, LoginCause) else "",
)
def test_every_refusal_reads_the_same_and_only_the_audit_knows_why(
    person: Person, password: str, cause: LoginCause, browser: Browser, world: World
) -> None:
    answer = browser.sign_in(person, password=password)

    assert answer.status_code == 401
    assert ONE_TEXT in answer.text
    assert str(cause) not in answer.text
    assert "Set-Cookie" not in answer.headers
    assert world.sessions.kept == {}
    [event] = world.audit.events
    assert (event.kind, event.reason) == (EventKind.LOGIN_REJECTED, str(cause))
    assert event.reference_id
    assert event.reference_id in answer.text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (LoginCause.PASSWORD_EXPIRED, "Your password has run out"),
        (LoginCause.MUST_CHANGE_PASSWORD, "Your password has run out"),
        (LoginCause.ACCOUNT_EXPIRED, "Your account has expired"),
        (LoginCause.DISABLED, "Your account is disabled"),
        (LoginCause.OUTSIDE_LOGON_HOURS, "Not at this hour"),
    ],
)
def test_who_proves_the_password_learns_what_is_wrong_and_nobody_else_does(state: LoginCause, words: str) -> None:
    world = World(change_passwords=False)
    world.directory.people[0].state = state

    owner = world.browser().sign_in(HANAKO)
    stranger = world.browser().sign_in(HANAKO, password="wrong")

    assert (owner.status_code, stranger.status_code) == (401, 401)
    assert words in owner.text
    assert ONE_TEXT not in owner.text
    assert words not in stranger.text
    assert ONE_TEXT in stranger.text


HOSTILE_NAMES = (
    "*",
    ")(",
    "hanako\x00",
    "\\",
    "ha@nako",
    "ha nako",
    "../etc",
    "x" * 300,
    "山田花子",
    "",
    "\u202ehanako",
)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_a_name_that_is_nobodys_is_refused_and_kept_only_as_a_hash(name: str, browser: Browser, world: World) -> None:
    answer = browser.sign_in(HANAKO, username=name)

    assert answer.status_code == 401
    assert ONE_TEXT in answer.text
    [event] = world.audit.events
    assert event.principal_username is None
    assert event.claimed_username_hash
    assert "\x00" not in answer.text


def test_a_refused_sign_in_keeps_the_typed_name_escaped_and_never_the_password(browser: Browser) -> None:
    answer = browser.sign_in(HANAKO, username='"><script>alert(1)</script>', password="<hunter22>")

    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text
    assert "hunter22" not in answer.text


def test_a_program_learns_of_a_refusal_in_json(browser: Browser) -> None:
    token = browser.form_token()

    answer = browser.client.post(
        "/login",
        data={"csrf_token": token, "username": "hanako", "password": "wrong"},
        headers={"Accept": "application/json"},
    )

    assert answer.status_code == 401
    assert answer.get_json()["error"] == "login-rejected"
    assert ONE_TEXT in answer.get_json()["message"]


def test_a_new_sign_in_gets_a_new_id_whatever_the_browser_held_before(browser: Browser, world: World) -> None:
    planted = "A" * 43
    browser.client.set_cookie("broker_session", planted)

    browser.sign_in(HANAKO)

    cookie = browser.client.get_cookie("broker_session")
    assert cookie is not None
    assert cookie.value != planted
    assert len(world.sessions.kept) == 1


def test_signing_in_over_an_earlier_sign_in_ends_the_earlier_one(browser: Browser, world: World) -> None:
    token = browser.form_token()
    browser.sign_in(HANAKO)
    first = browser.client.get_cookie("broker_session")

    form = {"csrf_token": token, "username": "ken", "password": KEN.password}
    assert browser.client.post("/login", data=form).status_code == 303

    second = browser.client.get_cookie("broker_session")
    assert first is not None
    assert second is not None
    assert first.value != second.value
    assert len(world.sessions.kept) == 1
    assert [(event.kind, event.principal_id) for event in world.audit.events] == [
        (EventKind.LOGIN_SUCCEEDED, HANAKO.principal.id),
        (EventKind.LOGIN_SUCCEEDED, KEN.principal.id),
        (EventKind.SESSION_ENDED, HANAKO.principal.id),
    ]


def test_a_mistyped_password_costs_nobody_the_sign_in_they_have(hanako: Browser, world: World) -> None:
    token = hanako.form_token()

    form = {"csrf_token": token, "username": "hanako", "password": "wrong"}
    assert hanako.client.post("/login", data=form).status_code == 401

    assert len(world.sessions.kept) == 1
    assert hanako.get("/").status_code == 200


def test_the_sign_in_form_sends_people_on_who_are_signed_in_already(hanako: Browser) -> None:
    assert hanako.get("/login?next=/admin/audit").headers["Location"] == "/admin/audit"
    assert hanako.get("/login?next=https://elsewhere.example").headers["Location"] == "/"


def test_after_signing_in_a_person_is_where_they_wanted_to_be(browser: Browser) -> None:
    asked = browser.get("/admin/audit?person=ken&kind=login.rejected")
    assert asked.headers["Location"] == "/login?next=/admin/audit%3Fperson%3Dken%26kind%3Dlogin.rejected"
    form = browser.get(asked.headers["Location"])
    assert 'name="next" value="/admin/audit?person=ken&amp;kind=login.rejected"' in form.text

    answer = browser.sign_in(HANAKO, next="/admin/audit?person=ken&kind=login.rejected")

    assert answer.headers["Location"] == "/admin/audit?person=ken&kind=login.rejected"


def test_without_a_directory_nobody_is_signed_in_and_the_page_says_so(browser: Browser, world: World) -> None:
    world.directory.down = True

    answer = browser.sign_in(HANAKO)

    assert answer.status_code == 503
    assert "The directory does not answer" in answer.text
    assert answer.headers["Retry-After"] == "30"
    assert world.sessions.kept == {}
    assert [event.reason for event in world.audit.events] == ["directory-unavailable"]


def test_without_an_audit_nobody_is_signed_in(browser: Browser, world: World) -> None:
    world.audit.down = True

    answer = browser.sign_in(HANAKO)

    assert answer.status_code == 503
    assert "The audit log does not answer" in answer.text
    assert world.sessions.kept == {}


def test_without_a_session_store_nobody_is_signed_in(browser: Browser, world: World) -> None:
    world.sessions.down = True

    answer = browser.sign_in(HANAKO)

    assert answer.status_code == 503
    assert "Sign-in is not available" in answer.text
    assert "Set-Cookie" not in answer.headers


def test_the_demo_shows_its_people_and_nothing_else_does(browser: Browser) -> None:
    demo = World(demo=True, demo_people=(("hanako", "correct horse", "an employee"),))

    page = demo.browser().get("/login").text

    assert "correct horse" in page
    assert "People of this demo" in page
    assert "People of this demo" not in browser.get("/login").text


def test_an_idle_sign_in_asks_again_and_comes_back(hanako: Browser, world: World) -> None:
    world.clock.advance(timedelta(minutes=31))

    answer = hanako.get("/admin/audit")

    assert answer.headers["Location"] == "/login?next=/admin/audit"


@pytest.mark.parametrize(("person", "seconds"), [(HANAKO, 0.03), (person_named(8, "nobody", "Nobody"), 0.02)])
def test_a_refusal_takes_a_multiple_of_one_time_whatever_the_directory_took(
    person: Person, seconds: float, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = world.portal.refusal_step.total_seconds()
    assert step == 0.01
    method = "prove" if person is HANAKO else "find"
    asked = getattr(world.directory, method)

    def slowly(*arguments: object) -> object:
        time.sleep(seconds - step / 2)
        return asked(*arguments)

    browser = world.browser()
    browser.get("/login")
    monkeypatch.setattr(world.directory, method, slowly)
    began = time.perf_counter()

    assert browser.sign_in(person, password="wrong").status_code == 401
    assert time.perf_counter() - began >= seconds
