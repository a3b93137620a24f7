"""The account page: signed-in browsers, how one signs in, what was recorded."""

from __future__ import annotations

import re

import pytest

from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.sessions import hash_token
from broker.web.account_view import browser_words
from tests.web.world import HANAKO, KEN, Browser, World

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:141.0) Gecko/20100101 Firefox/141.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile Safari/604.1"


def browser_of(world: World, user_agent: str, address: str) -> Browser:
    browser = world.browser()
    browser.client.environ_base |= {"HTTP_USER_AGENT": user_agent, "REMOTE_ADDR": address}
    browser.sign_in(HANAKO)
    return browser


@pytest.fixture
def here(world: World) -> Browser:
    return browser_of(world, FIREFOX, "192.0.2.1")


@pytest.fixture
def there(world: World) -> Browser:
    return browser_of(world, PHONE, "192.0.2.2")


def token_hash_of(browser: Browser) -> str:
    cookie = browser.client.get_cookie("broker_session")
    assert cookie is not None
    return hash_token(Secret(cookie.value))


def is_signed_in(browser: Browser) -> bool:
    return browser.get("/").status_code == 200


def test_every_signed_in_browser_is_shown_and_this_one_is_named(here: Browser, there: Browser) -> None:
    assert is_signed_in(there)

    page = here.get("/account").text

    first, second = re.findall(r"<li>(.*?)</li>", page.split('class="account-list"')[1], re.DOTALL)[:2]
    assert "Firefox, Windows" in first
    assert "this one" in first
    assert "<code>192.0.2.1</code>" in first
    assert "Sign out there" not in first
    assert "Safari, iPhone" in second
    assert "<code>192.0.2.2</code>" in second
    assert "Sign out there" in second


def test_another_browser_is_signed_out_and_this_one_stays(here: Browser, there: Browser, world: World) -> None:
    answer = here.post("/account/browsers/end", {"browser": token_hash_of(there)})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/account")
    assert is_signed_in(here)
    assert not is_signed_in(there)
    [ended] = [event for event in world.audit.events if event.kind is EventKind.SESSION_ENDED]
    assert ended.principal_id == HANAKO.principal.id
    assert ended.reason == "signed out from another browser"


def test_all_other_browsers_are_signed_out_at_once(here: Browser, there: Browser, world: World) -> None:
    third = browser_of(world, FIREFOX, "192.0.2.3")

    here.post("/account/browsers/end", {"others": "yes"})

    assert is_signed_in(here)
    assert not is_signed_in(there)
    assert not is_signed_in(third)


def test_a_second_click_does_nothing(here: Browser, there: Browser, world: World) -> None:
    token_hash = token_hash_of(there)
    for _ in range(2):
        assert here.post("/account/browsers/end", {"browser": token_hash}).status_code == 303

    assert [event.kind for event in world.audit.events].count(EventKind.SESSION_ENDED) == 1


def test_nobody_ends_the_session_of_somebody_else(here: Browser, world: World) -> None:
    ken = world.browser()
    ken.sign_in(KEN)

    here.post("/account/browsers/end", {"browser": token_hash_of(ken)})

    assert is_signed_in(ken)


@pytest.mark.parametrize("browser", ["", "x", "0" * 63, "0" * 65, "A" * 64, "../" * 20])
def test_what_is_no_browser_is_refused(browser: str, here: Browser) -> None:
    assert here.post("/account/browsers/end", {"browser": browser}).status_code == 400


def test_the_own_events_are_shown_and_nobody_elses(here: Browser, world: World) -> None:
    ken = world.browser()
    ken.sign_in(KEN, password="wrong")
    here.post("/issue/home/credentials")

    page = here.get("/account").text

    assert "Credentials issued" in page
    assert "Sign-in refused" not in page


def test_an_audit_that_does_not_answer_is_an_outage(here: Browser, world: World) -> None:
    world.audit.down = True

    assert here.get("/account").status_code == 503


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (FIREFOX, "Firefox, Windows"),
        (PHONE, "Safari, iPhone"),
        ("Mozilla/5.0 (X11; Linux x86_64) Chrome/141.0.0.0 Safari/537.36 Edg/141.0", "Edge, Linux"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Chrome/141.0 Safari/537.36", "Chrome, macOS"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/141.0 Mobile Safari/537.36", "Chrome, Android"),
        ("curl/8.0", ""),
        ("<script>alert(1)</script>", ""),
        ("", ""),
    ],
)
def test_a_browser_is_named_as_its_person_would(user_agent: str, words: str) -> None:
    assert browser_words(user_agent) == words
