"""Signing out, and being signed out by the directory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.core.audit import EventKind
from broker.core.entitlements import Catalogue
from broker.core.errors import LoginCause
from tests.web.world import HANAKO, KEN, LOGS, Browser, World


def person_in(world: World, username: str) -> int:
    return next(i for i, person in enumerate(world.directory.people) if person.principal.username == username)


def test_signing_out_ends_the_session_on_the_server_and_takes_the_cookie(hanako: Browser, world: World) -> None:
    cookie = hanako.client.get_cookie("broker_session")
    assert cookie is not None

    answer = hanako.post("/logout")

    assert answer.status_code == 200
    assert "You are signed out" in answer.text
    assert world.sessions.kept == {}
    assert hanako.client.get_cookie("broker_session") is None
    hanako.client.set_cookie("broker_session", cookie.value)
    assert hanako.get("/").status_code == 302
    ended = world.audit.events[-1]
    assert (ended.kind, ended.principal_username, ended.reason) == (EventKind.SESSION_ENDED, "hanako", "signed out")


def test_the_signed_out_page_shows_nobodys_name_and_no_way_to_sign_out_again(hanako: Browser) -> None:
    answer = hanako.post("/logout")

    assert "Hanako Yamada" not in answer.text
    assert 'action="/logout"' not in answer.text


def test_signing_out_says_which_aws_sessions_live_on_and_until_when(hanako: Browser) -> None:
    hanako.post("/issue/home/credentials", {"duration": "3600"})

    answer = hanako.post("/logout")

    assert "These AWS sessions live on" in answer.text
    assert "My files <code>home</code>" in answer.text
    assert "111122223333" in answer.text
    assert '<time datetime="2026-11-23T10:30:00Z"' in answer.text


def test_sessions_that_have_run_out_are_not_named(hanako: Browser, world: World) -> None:
    hanako.post("/issue/home/credentials", {"duration": "900"})
    world.clock.advance(timedelta(minutes=15))

    answer = hanako.post("/logout")

    assert "No AWS session that you opened through the portal is still running." in answer.text
    assert "<code>home</code>" not in answer.text


def test_a_live_session_of_an_entitlement_that_is_gone_is_named_by_its_id(hanako: Browser, world: World) -> None:
    hanako.post("/issue/home/credentials")
    world.entitlements.loaded = Catalogue(entitlements=(LOGS,), sha256="cd" * 32)

    shown = hanako.get("/")
    signed_out = hanako.post("/logout")

    for answer in (shown, signed_out):
        assert "My files" not in answer.text
        assert "<code>home</code>" in answer.text


def test_without_entitlements_signing_out_still_names_sessions_by_id(hanako: Browser, world: World) -> None:
    hanako.post("/issue/home/credentials")
    token = hanako.form_token()
    world.entitlements.loaded = None

    answer = hanako.client.post("/logout", data={"csrf_token": token})

    assert answer.status_code == 200
    assert "<code>home</code>" in answer.text


def test_without_a_directory_people_can_sign_out(hanako: Browser, world: World) -> None:
    token = hanako.form_token()
    world.directory.down = True

    answer = hanako.client.post("/logout", data={"csrf_token": token})

    assert answer.status_code == 200
    assert world.sessions.kept == {}
    assert world.audit.events[-1].kind is EventKind.SESSION_ENDED


def test_without_an_audit_people_are_signed_out_and_told_what_could_not_be_looked_up(
    hanako: Browser, world: World
) -> None:
    token = hanako.form_token()
    world.audit.down = True

    answer = hanako.client.post("/logout", data={"csrf_token": token})

    assert answer.status_code == 200
    assert "We could not look up which AWS sessions are still running." in answer.text
    assert world.sessions.kept == {}


def test_without_a_session_store_nobody_is_told_to_be_signed_out(hanako: Browser, world: World) -> None:
    token = hanako.form_token()
    world.sessions.down = True

    answer = hanako.client.post("/logout", data={"csrf_token": token})

    assert answer.status_code == 503
    assert "You are signed out" not in answer.text


@pytest.mark.parametrize(
    "state", [LoginCause.DISABLED, LoginCause.UNKNOWN_USERNAME, LoginCause.ACCOUNT_EXPIRED], ids=str
)
def test_whom_the_directory_no_longer_lets_in_is_signed_out_everywhere(state: LoginCause, world: World) -> None:
    here, elsewhere = world.browser(), world.browser()
    here.sign_in(HANAKO)
    elsewhere.sign_in(HANAKO)
    world.directory.people[person_in(world, "hanako")].state = state

    answer = here.get("/")

    assert answer.status_code == 401
    assert "You have been signed out" in answer.text
    assert str(state) not in answer.text
    assert world.sessions.kept == {}
    assert here.client.get_cookie("broker_session") is None
    assert elsewhere.get("/").status_code == 302
    ended = world.audit.events[-1]
    assert ended.kind is EventKind.SESSION_ENDED
    assert str(state) in (ended.reason or "")


def test_a_lock_that_anybody_can_bring_about_signs_nobody_out_and_lets_nothing_be_issued(
    hanako: Browser, world: World
) -> None:
    token = hanako.form_token()
    world.directory.people[person_in(world, "hanako")].state = LoginCause.LOCKED

    answer = hanako.get("/")
    refused = hanako.client.post("/issue/home/credentials", data={"csrf_token": token})

    assert answer.status_code == refused.status_code == 403
    assert "Your account is locked" in answer.text
    assert world.token_service.exchanged == []
    assert len(world.sessions.kept) == 1
    world.directory.people[person_in(world, "hanako")].state = None
    assert hanako.get("/").status_code == 200


def test_somebody_deleted_gets_nothing_issued_and_others_stay_signed_in(hanako: Browser, world: World) -> None:
    ken = world.browser()
    ken.sign_in(KEN)
    token = hanako.form_token()
    del world.directory.people[person_in(world, "hanako")]

    answer = hanako.client.post(
        "/issue/home/credentials", data={"csrf_token": token}, headers={"Accept": "application/json"}
    )

    assert answer.status_code == 401
    assert answer.get_json()["error"] == "principal-gone"
    assert world.token_service.exchanged == []
    assert ken.get("/").status_code == 200


@pytest.mark.parametrize("store", ["sessions", "audit"])
def test_an_outage_while_somebody_is_being_signed_out_is_an_outage_and_no_defect(
    store: str, hanako: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.directory.people[person_in(world, "hanako")].state = LoginCause.DISABLED
    if store == "audit":
        world.audit.down = True
    else:
        find = world.sessions.find

        def find_and_fall_silent(token_hash: str) -> object:
            found = find(token_hash)
            world.sessions.down = True
            return found

        monkeypatch.setattr(world.sessions, "find", find_and_fall_silent)

    answer = hanako.get("/")

    assert answer.status_code == 503
    assert "does not answer" in answer.text or "Sign-in is not available" in answer.text
    assert answer.headers["Content-Security-Policy"]
