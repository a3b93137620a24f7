"""The cookie of a sign-in session, and how long it holds."""

from __future__ import annotations

from datetime import timedelta

import pytest
from werkzeug.test import TestResponse

from broker.core.credentials import Secret
from broker.core.sessions import hash_token
from tests.web.world import HANAKO, Browser, World


def cookies(answer: TestResponse) -> dict[str, set[str]]:
    found = {}
    for line in answer.headers.getlist("Set-Cookie"):
        pair, *attributes = line.split("; ")
        found[pair.split("=")[0]] = set(attributes)
    return found


def test_over_http_on_loopback_the_cookie_is_for_this_host_alone_and_no_script(browser: Browser) -> None:
    given = cookies(browser.sign_in(HANAKO))
    assert given["broker_session"] == {"HttpOnly", "Path=/", "SameSite=Lax"}
    assert {"HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=7776000"} <= given["broker_device"]


def test_over_https_every_cookie_is_secure_and_bound_to_the_host() -> None:
    world = World(public_url="https://portal.example.com")
    browser = world.browser()
    base = "https://portal.example.com"

    form = browser.client.get("/login", base_url=base)
    assert cookies(form) == {"__Host-broker_visitor": {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}}
    fields = {"csrf_token": form.text.split('name="csrf_token" value="')[1].split('"')[0], "language": "ja"}
    switched = browser.client.post("/language", data=fields, base_url=base)
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=31536000"} <= cookies(switched)[
        "__Host-broker_language"
    ]
    signed_in = browser.client.post(
        "/login", data={**fields, "username": "hanako", "password": HANAKO.password}, base_url=base
    )

    assert cookies(signed_in)["__Host-broker_session"] == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= cookies(signed_in)["__Host-broker_device"]


def test_the_public_address_decides_about_cookies_and_not_the_request(world: World) -> None:
    answer = world.app.test_client().get(
        "/login", headers={"X-Forwarded-Proto": "https", "Forwarded": "proto=https", "Host": "elsewhere.example"}
    )

    assert set(cookies(answer)) == {"broker_visitor"}
    assert "elsewhere.example" not in answer.text + str(answer.headers)


def test_the_store_knows_the_token_only_by_its_hash(hanako: Browser, world: World) -> None:
    cookie = hanako.client.get_cookie("broker_session")

    assert cookie is not None
    assert list(world.sessions.kept) == [hash_token(Secret(cookie.value))]
    assert cookie.value not in str(world.sessions.kept)


def test_a_sign_in_holds_while_somebody_is_there_and_ends_after_the_idle_time(hanako: Browser, world: World) -> None:
    for _ in range(5):
        world.clock.advance(timedelta(minutes=29))
        assert hanako.get("/").status_code == 200

    world.clock.advance(timedelta(minutes=30))
    assert hanako.get("/").status_code == 302
    assert world.sessions.kept == {}


def test_a_sign_in_ends_at_its_absolute_limit_however_busy(hanako: Browser, world: World) -> None:
    for _ in range(10 * 60 // 20 - 1):
        world.clock.advance(timedelta(minutes=20))
        assert hanako.get("/").status_code == 200

    world.clock.advance(timedelta(minutes=20))
    assert hanako.get("/").status_code == 302


def test_a_form_that_was_open_for_too_long_is_told_so_and_issues_nothing(hanako: Browser, world: World) -> None:
    token = hanako.form_token()
    world.clock.advance(timedelta(hours=1))

    answer = hanako.client.post("/issue/home/credentials", data={"csrf_token": token})

    assert answer.status_code == 401
    assert "your sign-in has run out" in answer.text
    assert world.token_service.exchanged == []


def test_requests_close_together_are_noted_once(hanako: Browser, world: World) -> None:
    began = world.clock.now
    world.clock.advance(timedelta(seconds=59))
    hanako.get("/")
    [session] = world.sessions.kept.values()
    assert session.last_seen_at == began

    world.clock.advance(timedelta(seconds=1))
    hanako.get("/")
    [session] = world.sessions.kept.values()
    assert session.last_seen_at == world.clock.now


@pytest.mark.parametrize("value", ["", "x", "A" * 42, "A" * 44, "A" * 42 + "=", "é" * 43, "../" * 14 + "x", "A" * 3000])
def test_a_cookie_that_could_not_be_ours_is_not_even_looked_up(
    value: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    monkeypatch.setattr(world.sessions, "find", looked_up.append)
    browser = world.browser()
    browser.client.set_cookie("broker_session", value)

    assert browser.get("/").status_code == 302
    assert looked_up == []


def test_without_the_session_store_a_signed_in_person_gets_a_clear_page(hanako: Browser, world: World) -> None:
    world.sessions.down = True

    answer = hanako.get("/")

    assert answer.status_code == 503
    assert "We could not look up your sign-in." in answer.text
