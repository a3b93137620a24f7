"""The account page: signed-in browsers, how one signs in, what was recorded."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.errors import LoginCause, PasswordChangeRejected, SecondFactorCause
from broker.core.sessions import UNFINISHED_FOR, hash_token
from broker.web.account_view import EVENTS_ON_A_PAGE, browser_words
from broker.web.own_events import reason_words
from tests.web.second_factors import code_now, give_app, prove
from tests.web.world import ADA, HANAKO, KEN, Browser, World

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


def items(page: str, of: str = "account-list") -> list[str]:
    """The entries of the first list of that class."""
    return re.findall(r"<li>(.*?)</li>", re.split(rf'class="{of}">', page)[1].split("</section>")[0], re.DOTALL)


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


def test_a_sign_in_that_waits_for_the_second_step_is_shown_as_a_warning(world: World) -> None:
    seed = give_app(world, HANAKO)
    owner = world.browser()
    owner.sign_in(HANAKO)
    prove(owner, code_now(world, seed))
    browser_of(world, PHONE, "192.0.2.66")

    for language, words in (("en", "password known, second step not taken"), ("ja", "二段階目は未確認")):
        owner.client.environ_base["HTTP_ACCEPT_LANGUAGE"] = language
        mine, other = items(owner.get("/account").text)
        assert words not in mine
        assert words in other
        assert "192.0.2.66" in other
    world.clock.advance(UNFINISHED_FOR)
    assert len(items(owner.get("/account").text)) == 1


def test_what_showed_the_password_alone_is_shown_so_once_there_is_a_second_factor(world: World) -> None:
    thief = browser_of(world, PHONE, "192.0.2.66")
    seed = give_app(world, HANAKO)
    owner = world.browser()
    owner.sign_in(HANAKO)
    prove(owner, code_now(world, seed))
    assert "second step not taken" in items(owner.get("/account").text)[1]
    assert thief.get("/").headers["Location"] == "/second-factor"


def test_the_own_events_say_what_was_used_and_why_something_was_refused(world: World) -> None:
    seed = give_app(world, HANAKO)
    browser = world.browser()
    steps: tuple[Callable[[], object], ...] = (
        lambda: browser.sign_in(HANAKO, password="a guess"),
        lambda: browser.sign_in(HANAKO),
        lambda: prove(browser, "000000"),
        lambda: prove(browser, code_now(world, seed)),
        lambda: browser.post("/issue/operate/console"),
        lambda: browser.post("/issue/home/credentials", {"duration": "1"}),
    )
    for step in steps:
        step()
        world.clock.advance(timedelta(seconds=1))

    events = items(browser.get("/account").text, "short-events")
    shown = [re.sub(r"<[^>]+>|\s+", " ", event) for event in events]
    refused, not_held, *proved, wrong_code, asked, wrong_password = shown
    assert "Reference" in refused
    assert "There is no such access, or it is not given to you." in not_held
    assert ["Authenticator app" in event for event in proved] == [True, True]
    assert "The code is not right, or no longer." in wrong_code
    assert "second step asked" in asked
    assert "The password was wrong." in wrong_password
    browser.client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "ja"
    assert "パスワードが間違っていました" in browser.get("/account").text


def test_all_own_events_are_read_page_by_page_and_nobody_elses(here: Browser, world: World) -> None:
    for _ in range(EVENTS_ON_A_PAGE + 10):
        world.clock.advance(timedelta(seconds=1))
        world.browser().sign_in(HANAKO, password="a guess")
        world.browser().sign_in(KEN, password="a guess")
    assert 'href="/account/events"' in here.get("/account").text

    first = here.get("/account/events")
    assert len(items(first.text, "short-events")) == EVENTS_ON_A_PAGE
    older = Browser.link(first, "next")
    second = here.get(older)
    assert len(items(second.text, "short-events")) == 11
    assert 'rel="next"' not in second.text
    assert 'href="/account/events"' in second.text
    ken = world.browser()
    ken.sign_in(KEN)
    assert ken.get(older).status_code == 400
    assert here.get("/account/events?older=x").status_code == 400
    world.audit.down = True
    assert here.get("/account/events").status_code == 503


def test_whoever_has_few_events_sees_them_all_at_once(here: Browser) -> None:
    assert 'href="/account/events"' not in here.get("/account").text
    page = here.get("/account/events").text
    assert len(items(page, "short-events")) == 1
    assert "Pages" not in page


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        *((str(cause), None) for cause in (*LoginCause, *SecondFactorCause)),
        *((kind.why, None) for kind in PasswordChangeRejected.__subclasses__()),
        ("wrong-password (52e)", "The password was wrong."),
        ("enrolment: too-many", "You have as many as there may be."),
        ("principal ABC may not be used: disabled", "The account was disabled."),
        ("code-device budget used up", "too many attempts"),
        (f"second factors reset by ada ({ADA.principal.id})", "An administrator reset your second factors."),
        ("factor 0123", ""),
        ("signed out", ""),
        ("AWS refused: something for the operator", ""),
    ],
)
def test_a_reason_is_said_in_words_or_kept_for_the_operator(world: World, reason: str, words: str | None) -> None:
    with world.app.test_request_context():
        said = reason_words(reason)
    if words is None:
        assert said
        assert "%(" not in said
    else:
        assert words in said
        assert bool(said) == bool(words)


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
