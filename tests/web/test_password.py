"""Changing the password in the portal: of one's own accord, or because it has run out."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from werkzeug.test import TestResponse

from broker.core import errors
from broker.core.audit import EventKind
from broker.core.errors import BrokerError, LoginCause
from broker.core.login import LONGEST_PASSWORD_BYTES
from broker.core.second_factor import FRESH_FOR, Mode
from broker.core.throttle import ThrottleLimits
from broker.web.password_proof import VALID_FOR
from tests.web.second_factors import RECOVERY_CODE, code_now, give_app, lead_to_a_new_password, prove
from tests.web.world import DISABLED, HANAKO, KEN, OPTIONAL, Browser, World, csrf_token

NEW = "a brand-new password"
OLD = HANAKO.password


def form(browser: Browser, **fields: str) -> TestResponse:
    """Send the form that the page shows."""
    token = csrf_token(browser.get("/password"))
    typed = {"current_password": OLD, "new_password": NEW, "repeated_password": fields.get("new_password", NEW)}
    return browser.client.post("/password", data={"csrf_token": token, **typed, **fields})


def expire(world: World, cause: LoginCause = LoginCause.MUST_CHANGE_PASSWORD) -> None:
    world.directory.people[0].state = cause


def test_a_signed_in_person_changes_the_password_and_stays_signed_in_here_alone(hanako: Browser, world: World) -> None:
    elsewhere = world.browser()
    elsewhere.sign_in(HANAKO)
    assert 'href="/account"' in hanako.get("/").text
    assert 'href="/password"' in hanako.get("/account").text

    answer = form(hanako)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/password")
    done = hanako.get("/password")
    assert "Your password has been changed" in done.text
    assert "You stay signed in here." in done.text
    assert hanako.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 302
    assert elsewhere.sign_in(HANAKO).status_code == 401
    assert elsewhere.sign_in(HANAKO, password=NEW).status_code == 303
    kinds = [event.kind for event in world.audit.events if event.kind.startswith("password.")]
    assert kinds == [EventKind.PASSWORD_INTENDED, EventKind.PASSWORD_CHANGED]


def test_the_page_that_says_it_is_done_is_shown_once(hanako: Browser) -> None:
    form(hanako)
    assert "has been changed" in hanako.get("/password").text
    assert 'name="current_password"' in hanako.get("/password").text


@pytest.mark.parametrize("cause", [LoginCause.MUST_CHANGE_PASSWORD, LoginCause.PASSWORD_EXPIRED])
def test_a_password_that_has_run_out_leads_to_a_new_one_and_then_to_signing_in(
    browser: Browser, world: World, cause: LoginCause
) -> None:
    expire(world, cause)

    refused = browser.sign_in(HANAKO, next="/admin/audit")

    assert (refused.status_code, refused.headers["Location"]) == (303, "/password?next=/admin/audit")
    assert world.sessions.kept == {}
    page = browser.get(refused.headers["Location"])
    assert "the directory asks for a new one" in page.text
    assert 'value="hanako"' in page.text
    assert OLD not in page.text
    token = csrf_token(page)
    answer = browser.client.post(
        "/password",
        data={
            "csrf_token": token,
            "next": "/admin/audit",
            "current_password": OLD,
            "new_password": NEW,
            "repeated_password": NEW,
        },
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/password?next=/admin/audit")
    done = browser.get(answer.headers["Location"])
    assert 'href="/login?next=/admin/audit"' in done.text
    assert world.sessions.kept == {}
    assert browser.get("/").status_code == 302
    assert browser.sign_in(HANAKO, password=NEW).status_code == 303


def test_only_a_right_password_that_has_run_out_leads_there(browser: Browser, world: World) -> None:
    expire(world)
    assert browser.sign_in(HANAKO, password="a guess").status_code == 401
    assert browser.sign_in(DISABLED).status_code == 401
    page = browser.get("/password")
    assert (page.status_code, page.headers["Location"]) == (302, "/login?next=/password")


def test_a_program_is_told_no_more_than_at_any_refusal(browser: Browser, world: World) -> None:
    expire(world)
    token = csrf_token(browser.get("/login"))
    answer = browser.client.post(
        "/login",
        data={"csrf_token": token, "username": "hanako", "password": OLD},
        headers={"Accept": "application/json"},
    )
    assert (answer.status_code, answer.get_json()["error"]) == (401, "login-rejected")


def test_the_old_password_is_asked_for_again_and_a_wrong_one_is_refused(browser: Browser, world: World) -> None:
    expire(world)
    browser.sign_in(HANAKO)
    answer = form(browser, current_password="a guess")
    assert answer.status_code == 400
    assert "The current password is not right." in answer.text
    assert re.search(r'id="current_password"[^>]*aria-invalid="true"', answer.text)
    assert world.directory.people[0].password == OLD
    assert form(browser).status_code == 303


def proof_of(browser: Browser) -> str:
    cookie = browser.client.get_cookie("broker_password")
    assert cookie is not None
    assert (cookie.http_only, cookie.same_site, cookie.path) == (True, "Lax", "/")
    return cookie.value


def test_the_proof_holds_for_some_minutes_in_one_browser_and_holds_no_password(browser: Browser, world: World) -> None:
    expire(world)
    browser.sign_in(HANAKO)
    proof = proof_of(browser)
    assert OLD not in proof
    thief = world.browser()
    thief.get("/login")
    thief.client.set_cookie("broker_password", proof)
    assert thief.get("/password").status_code == 302
    world.clock.advance(VALID_FOR - timedelta(seconds=1))
    assert browser.get("/password").status_code == 200
    world.clock.advance(timedelta(seconds=1))
    assert browser.get("/password").status_code == 302


@pytest.mark.parametrize("change", ["flip", "person", "state", "cut", "empty", "noise"])
def test_a_proof_that_was_tampered_with_is_none(browser: Browser, world: World, change: str) -> None:
    expire(world)
    browser.sign_in(HANAKO)
    proof = proof_of(browser)
    other = {
        "flip": proof[:-1] + ("A" if proof[-1] != "A" else "B"),
        "person": proof.replace(HANAKO.principal.id, KEN.principal.id),
        "state": proof.replace("due.", "done."),
        "cut": proof.rpartition(".")[0],
        "empty": "",
        "noise": "..." + "é" * 40,
    }[change]
    browser.client.set_cookie("broker_password", other)
    assert browser.get("/password").status_code == 302
    assert browser.client.post("/password", data={"csrf_token": browser.form_token()}).status_code in {400, 401}
    assert world.directory.people[0].password == OLD


def test_a_proof_opens_nothing_but_that_page(browser: Browser, world: World) -> None:
    expire(world)
    browser.sign_in(HANAKO)
    for path in ("/", "/admin/audit"):
        assert browser.get(path).status_code == 302
    token = csrf_token(browser.get("/password"))
    assert browser.client.post("/issue/home/credentials", data={"csrf_token": token}).status_code == 401
    assert world.token_service.exchanged == []


def test_whoever_has_a_second_factor_proves_it_before_a_password_that_has_run_out_is_changed(
    browser: Browser, world: World
) -> None:
    seed = give_app(world, HANAKO)
    expire(world)
    browser.sign_in(HANAKO, next="/sessions")

    asked = browser.get("/password?next=/sessions")
    assert 'action="/password"' in asked.text
    assert 'name="new_password"' not in asked.text
    token = csrf_token(asked)
    wrong = browser.client.post("/password", data={"csrf_token": token, "code": "000000"})
    assert wrong.status_code == 400
    typed = {"csrf_token": token, "code": code_now(world, seed), "next": "/sessions", "trust": "yes"}
    proved = browser.client.post("/password", data=typed)
    assert (proved.status_code, proved.headers["Location"]) == (303, "/password?next=/sessions")
    assert world.sessions.kept == {}
    assert world.sessions.trusted == {}
    assert browser.get("/").status_code == 302
    assert form(browser, code="000000").status_code == 303
    assert world.directory.people[0].password == NEW
    assert world.sessions.kept == {}
    assert [event.kind for event in world.audit.events] == [
        EventKind.LOGIN_REJECTED,
        EventKind.SECOND_FACTOR_REJECTED,
        EventKind.SECOND_FACTOR_SUCCEEDED,
        EventKind.PASSWORD_INTENDED,
        EventKind.PASSWORD_CHANGED,
    ]
    assert browser.sign_in(HANAKO, password=NEW).headers["Location"] == "/second-factor"


def test_a_recovery_code_does_there_too_and_a_program_is_answered_in_json(browser: Browser, world: World) -> None:
    give_app(world, HANAKO)
    expire(world)
    browser.sign_in(HANAKO)
    token = csrf_token(browser.get("/password"))
    as_json = {"Accept": "application/json"}
    wrong = browser.client.post("/password", data={"csrf_token": token, "code": "x"}, headers=as_json)
    assert (wrong.status_code, wrong.get_json()["error"]) == (400, "second-factor-rejected")
    unasked = browser.client.post("/password", data={"csrf_token": token, "credential": "{}"})
    assert unasked.status_code == 400
    assert browser.client.post("/password", data={"csrf_token": token, "code": RECOVERY_CODE}).status_code == 303
    assert form(browser).status_code == 303


def test_what_was_proved_for_one_password_holds_for_some_minutes_and_for_no_other(
    browser: Browser, world: World
) -> None:
    give_app(world, KEN)
    give_app(world, HANAKO)
    expire(world)
    browser.sign_in(HANAKO)
    token = csrf_token(browser.get("/password"))
    browser.client.post("/password", data={"csrf_token": token, "code": RECOVERY_CODE})
    assert 'name="new_password"' in browser.get("/password").text
    world.directory.people[1].state = LoginCause.PASSWORD_EXPIRED
    browser.sign_in(KEN)
    assert 'name="new_password"' not in browser.get("/password").text
    world.clock.advance(VALID_FOR)
    assert browser.get("/password").status_code == 302


def test_switched_off_no_second_factor_is_asked_for_a_password_either(browser: Browser, world: World) -> None:
    give_app(world, HANAKO)
    world.ask_for_second_factors(replace(OPTIONAL, mode=Mode.OFF))
    expire(world)
    browser.sign_in(HANAKO)
    assert form(browser).status_code == 303


def test_a_signed_in_person_with_a_second_factor_has_proved_it_within_minutes(browser: Browser, world: World) -> None:
    seed = give_app(world, HANAKO)
    browser.sign_in(HANAKO)
    prove(browser, code_now(world, seed))
    page = browser.get("/password")
    world.clock.advance(FRESH_FOR)

    asked = browser.get("/password?next=/sessions")
    assert asked.headers["Location"] == "/second-factor?next=/password%3Fnext%3D/sessions"
    typed = {"current_password": OLD, "new_password": NEW, "repeated_password": NEW}
    stale = browser.client.post("/password", data={"csrf_token": csrf_token(page), **typed})
    assert stale.headers["Location"] == "/second-factor?next=/password"
    assert world.directory.people[0].password == OLD
    prove(browser, code_now(world, seed))
    assert form(browser).status_code == 303


def test_a_sign_in_that_waits_goes_before_the_proof_of_a_password_that_has_run_out(
    browser: Browser, world: World
) -> None:
    give_app(world, HANAKO)
    browser.sign_in(HANAKO)
    lead_to_a_new_password(browser, world, KEN)

    assert browser.get("/password").headers["Location"].startswith("/second-factor")
    browser.post("/logout")
    browser.sign_in(KEN)
    assert 'value="ken"' in browser.get("/password").text


def test_a_proof_ends_with_the_next_sign_in(browser: Browser, world: World) -> None:
    expire(world)
    browser.sign_in(HANAKO)
    browser.sign_in(KEN)
    page = browser.get("/password")
    assert 'value="ken"' in page.text
    assert form(browser, current_password=KEN.password).status_code == 303
    assert world.directory.people[0].password == OLD
    assert world.directory.people[1].password == NEW


def test_without_a_sign_in_a_password_that_has_not_run_out_stays(browser: Browser, world: World) -> None:
    expire(world)
    browser.sign_in(HANAKO)
    world.directory.people[0].state = None
    answer = form(browser)
    assert answer.status_code == 400
    assert "The directory no longer asks for a new password." in answer.text


def test_somebody_whose_account_is_disabled_meanwhile_is_told_and_nothing_changes(
    browser: Browser, world: World
) -> None:
    expire(world)
    browser.sign_in(HANAKO)
    token = csrf_token(browser.get("/password"))
    world.directory.people[0].state = LoginCause.DISABLED
    typed = {"current_password": OLD, "new_password": NEW, "repeated_password": NEW}
    answer = browser.client.post("/password", data={"csrf_token": token, **typed})
    assert answer.status_code == 400
    assert "Your account can no longer be used here" in answer.text
    assert world.directory.people[0].password == OLD


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (errors.NewPasswordTooShort(12), "the directory wants 12 characters or more"),
        (errors.NewPasswordTooShort(None), "the directory wants more characters"),
        (errors.NewPasswordTooSimple(), "too simple, or holds a part of your name"),
        (errors.NewPasswordUsedBefore(), "one that you have used before"),
        (errors.PasswordChangedTooRecently(), "You changed it too recently"),
        (errors.PasswordChangeNotAllowed(), "does not let your password be changed here"),
        (errors.CurrentPasswordWrong(), "then the right one is refused too"),
        (errors.NewPasswordRefused(), "The directory refused the new password. Its policy may want one"),
    ],
)
def test_the_directorys_refusal_is_shown_in_words(
    hanako: Browser, world: World, refusal: BrokerError, words: str
) -> None:
    world.directory.refuses_change = refusal
    answer = form(hanako)
    assert answer.status_code == 400
    assert words in answer.text
    assert world.audit.events[-1].reference_id is not None
    assert world.audit.events[-1].reference_id in answer.text


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"repeated_password": "another"}, "repeated_password", "not the same both times"),
        ({"new_password": "あ" * 400}, "new_password", f"{LONGEST_PASSWORD_BYTES} bytes are taken"),
        ({"new_password": "tab\tinside"}, "new_password", "cannot be typed"),
        ({"new_password": OLD}, "new_password", "is the current one"),
    ],
)
def test_what_is_wrong_with_what_was_typed_is_said_at_its_field(
    hanako: Browser, fields: dict[str, str], field: str, words: str
) -> None:
    answer = form(hanako, **fields)
    assert answer.status_code == 400
    assert words in answer.text
    assert re.search(rf'id="{field}"[^>]*aria-invalid="true"[^>]*aria-describedby="password-error', answer.text)


def test_an_answer_that_never_came_is_neither_success_nor_failure(hanako: Browser, world: World) -> None:
    world.directory.refuses_change = errors.PasswordChangeUncertain("no answer in time")
    answer = form(hanako)
    assert answer.status_code == 503
    assert "Your password may have been changed" in answer.text
    assert hanako.get("/").status_code == 200


def test_wrong_passwords_are_held_back_here_too() -> None:
    world = World(throttle=ThrottleLimits(4, timedelta(minutes=15), device_attempts=1, address_attempts=100))
    browser = world.browser()
    browser.sign_in(HANAKO)
    for _ in range(3):
        assert form(browser, current_password="a guess").status_code == 400
    answer = form(browser)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert world.directory.people[0].password == OLD
    assert world.browser().sign_in(HANAKO).status_code == 429


def test_switched_off_there_is_no_such_page_and_no_way_to_it() -> None:
    world = World(change_passwords=False)
    browser = world.browser()
    browser.sign_in(HANAKO)
    assert 'href="/password"' not in browser.get("/account").text
    assert browser.get("/password").status_code == 404
    assert browser.post("/password", {"current_password": OLD}).status_code == 404
    expire(world)
    assert world.browser().sign_in(HANAKO).status_code == 401


def test_password_managers_know_the_fields(hanako: Browser) -> None:
    page = hanako.get("/password").text
    kinds = dict(re.findall(r'<input id="(\w+)"[^>]*autocomplete="([\w-]+)"', page))
    assert kinds == {
        "username": "username",
        "current_password": "current-password",
        "new_password": "new-password",
        "repeated_password": "new-password",
    }
    assert "onpaste" not in page


def test_no_password_is_in_a_log_an_event_an_address_or_a_page(world: World, log: StringIO) -> None:
    expire(world)
    browser = world.browser()
    pages = [browser.sign_in(HANAKO)]
    pages.append(form(browser, current_password="guess-hunter22"))
    pages.append(form(browser, new_password="hunter23", repeated_password="hunter24"))
    world.directory.refuses_change = errors.PasswordChangeUncertain("no answer")
    pages.append(form(browser))
    world.directory.refuses_change = None
    pages.append(form(browser))
    pages.append(browser.get("/password"))
    kept = log.getvalue() + repr(world.audit.events)
    kept += "".join(page.text + repr(list(page.headers)) for page in pages)
    assert "password.changed" in kept
    for secret in (OLD, NEW, "guess-hunter22", "hunter23", "hunter24"):
        assert secret not in kept


@pytest.mark.parametrize("changeable", [True, False])
def test_who_signs_in_by_grace_is_told_until_the_password_is_changed(changeable: bool) -> None:  # noqa: FBT001 - a case
    world = World(change_passwords=changeable)
    world.directory.people[0].grace_sign_ins = 1
    browser = world.browser()
    browser.sign_in(HANAKO)

    home = browser.get("/").text
    assert "Your password has expired" in home
    assert "The directory lets you sign in with it 1 more time." in home
    assert ('href="/password"' in home) == changeable
    assert ("Change it where you usually do." in home) != changeable
    if changeable:
        assert "1 more time" in browser.get("/password").text
        browser.post("/password", {"current_password": OLD, "new_password": NEW, "repeated_password": NEW})
        assert "Your password has expired" not in browser.get("/").text
