"""Passkeys and codes in Chromium, with the virtual authenticator of WebAuthn level 2 section 11."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, Locator, Page, expect

from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.errors import LoginCause
from broker.core.second_factor import Passkey
from tests.fakes import Person
from tests.web.live_portal import LivePortal, serve
from tests.web.second_factors import SEALED, code_now, give_app
from tests.web.world import HANAKO, KEN

Key = Callable[..., "Authenticator"]


class Authenticator:
    """A security key that is plugged in; whoever holds it is verified, and agrees, unless said otherwise."""

    def __init__(self, session: CDPSession, **options: Any) -> None:
        self.session = session
        session.send("WebAuthn.enable")
        chosen = {"hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True, **options}
        made = session.send(
            "WebAuthn.addVirtualAuthenticator",
            {"options": {"protocol": "ctap2", "transport": "usb", "hasResidentKey": False, **chosen}},
        )
        self.id = made["authenticatorId"]

    def credentials(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.session.send("WebAuthn.getCredentials", {"authenticatorId": self.id})[
            "credentials"
        ]
        return found

    def add(self, credential: dict[str, Any]) -> None:
        self.session.send("WebAuthn.addCredential", {"authenticatorId": self.id, "credential": credential})

    def unplug(self) -> None:
        self.session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self.id})

    def is_touched(self, *, by_itself: bool) -> None:
        self.session.send("WebAuthn.setAutomaticPresenceSimulation", {"authenticatorId": self.id, "enabled": by_itself})

    def verifies(self, *, the_person: bool) -> None:
        self.session.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": the_person})


@pytest.fixture
def live() -> Iterator[LivePortal]:
    with serve() as portal:
        yield portal


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context(locale="en-GB")
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def key(context: BrowserContext, page: Page) -> Key:
    return lambda **options: Authenticator(context.new_cdp_session(page), **options)


def sign_in(page: Page, portal: LivePortal, person: Person = HANAKO) -> None:
    page.goto(f"{portal.url}/login")
    page.fill("#username", person.principal.username)
    page.fill("#password", person.password)
    page.click(".sign-in-panel form button[type=submit]")


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()


def enrol(page: Page, portal: LivePortal, name: str = "Blue key") -> None:
    page.goto(f"{portal.url}/account/second-factors/passkey")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Make the passkey").click()


def heading(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def kinds(portal: LivePortal) -> list[EventKind]:
    return [event.kind for event in portal.world.audit.events]


def test_a_passkey_is_set_up_and_signs_in(page: Page, live: LivePortal, key: Key) -> None:
    key()
    sign_in(page, live)
    enrol(page, live)
    heading(page, "Recovery codes")
    page.get_by_role("link", name="I have kept them").click()
    expect(page.locator(".factor-name")).to_have_text("Blue key")
    sign_out(page)

    sign_in(page, live)
    heading(page, "Second step")
    page.get_by_role("button", name="Use a passkey").click()
    heading(page, "Your access")
    assert [event.second_factor for event in live.world.audit.events][-2:] == ["passkey", "passkey"]
    [stored] = live.world.factors.passkeys(HANAKO.principal.id).values()
    assert stored.sign_count > 0


def test_a_passkey_is_asked_for_before_a_password_that_has_run_out_is_changed(
    page: Page, live: LivePortal, key: Key
) -> None:
    key()
    sign_in(page, live)
    enrol(page, live)
    heading(page, "Recovery codes")
    sign_out(page)
    live.world.directory.people[0].state = LoginCause.PASSWORD_EXPIRED
    sign_in(page, live)
    heading(page, "Second step")
    expect(page.get_by_label("New password", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Use a passkey").click()
    heading(page, "Change your password")
    page.get_by_label("Current password").fill(HANAKO.password)
    page.get_by_label("New password", exact=True).fill("a brand-new password")
    page.get_by_label("New password again").fill("a brand-new password")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_text("Your password has been changed")).to_be_visible()
    assert live.world.sessions.kept == {}


def soon(page: Page) -> None:
    """Nobody waits for minutes: the browser gives up on the key in a second, as it does at once for who cancels."""
    page.evaluate(
        "const form = document.querySelector('form[data-passkey]'); const question = JSON.parse(form.dataset.question);"
        " question.timeout = 1000; form.dataset.question = JSON.stringify(question)"
    )


GIVEN_UP = "That did not work, or you cancelled it. Try again."


def test_who_does_not_touch_the_key_is_told_and_may_try_again(page: Page, live: LivePortal, key: Key) -> None:
    blue = key()
    sign_in(page, live)
    page.goto(f"{live.url}/account/second-factors/passkey")
    make = page.get_by_role("button", name="Make the passkey")
    soon(page)
    blue.is_touched(by_itself=False)
    make.click()
    expect(page.get_by_role("status")).to_have_text(GIVEN_UP)
    expect(make).to_be_focused()
    assert live.world.factors.enrolled == {}
    assert blue.credentials() == []

    blue.is_touched(by_itself=True)
    make.click()
    heading(page, "Recovery codes")


def test_who_does_not_touch_the_key_at_sign_in_is_told_and_may_try_again_or_type_a_code(
    page: Page, live: LivePortal, key: Key
) -> None:
    blue = key()
    sign_in(page, live)
    enrol(page, live)
    codes = page.locator("#recovery-codes").inner_text().split()
    use = page.get_by_role("button", name="Use a passkey")
    for finish in ("touch", "code"):
        sign_out(page)
        sign_in(page, live)
        heading(page, "Second step")
        soon(page)
        blue.is_touched(by_itself=False)
        before = len(live.world.audit.events)
        use.click()
        expect(page.get_by_role("status")).to_have_text(GIVEN_UP)
        expect(use).to_be_focused()
        # Nothing was sent: it is no attempt, and none is recorded.
        assert len(live.world.audit.events) == before
        blue.is_touched(by_itself=True)
        if finish == "touch":
            page.keyboard.press("Enter")
        else:
            page.get_by_label("Six digits from your app, or a recovery code").fill(codes[0])
            page.keyboard.press("Enter")
        heading(page, "Your access")


def test_a_passkey_that_is_lost_on_its_way_leaves_nothing_and_is_made_again(
    page: Page, live: LivePortal, key: Key, chromium: Browser
) -> None:
    blue = key()
    sign_in(page, live)
    address = f"{live.url}/account/second-factors/passkey"
    page.goto(address)
    page.route(address, lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    # Until it has failed: a route that is taken away before lets it through.
    with page.expect_event("requestfailed", lambda request: request.method == "POST"):
        page.get_by_role("button", name="Make the passkey").click()
    page.unroute(address)

    assert len(blue.credentials()) == 1
    assert live.world.factors.enrolled == {}
    assert live.world.factors.codes == set()
    elsewhere = chromium.new_context(locale="en-GB")
    other = elsewhere.new_page()
    sign_in(other, live)
    heading(other, "Your access")
    elsewhere.close()
    enrol(page, live)
    heading(page, "Recovery codes")
    assert len(live.world.factors.enrolled) == 1
    sign_out(page)
    sign_in(page, live)
    page.get_by_role("button", name="Use a passkey").click()
    heading(page, "Your access")


def tab_to(page: Page, what: Locator) -> None:
    """Press the tabulator until that has the focus."""
    for _ in range(60):
        if what.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{what} is not reached")


def sign_in_with_keys(page: Page, portal: LivePortal) -> None:
    page.goto(f"{portal.url}/login")
    tab_to(page, page.locator("#username"))
    page.keyboard.type(HANAKO.principal.username)
    page.keyboard.press("Tab")
    page.keyboard.type(HANAKO.password)
    page.keyboard.press("Enter")


def test_a_passkey_is_set_up_signs_in_and_the_account_is_looked_after_with_the_keyboard_alone(
    page: Page, live: LivePortal, key: Key
) -> None:
    key()
    live.world.browser().sign_in(HANAKO)
    sign_in_with_keys(page, live)
    for name in ("Your account", "Second factors", "Add a passkey"):
        tab_to(page, page.get_by_role("link", name=name))
        page.keyboard.press("Enter")
    heading(page, "Add a passkey")
    expect(page.get_by_label("Name, so that you recognise it")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("Blue key")
    page.keyboard.press("Enter")
    heading(page, "Recovery codes")
    tab_to(page, page.get_by_role("link", name="I have kept them"))
    page.keyboard.press("Enter")
    expect(page.locator(".factor-name")).to_have_text("Blue key")
    tab_to(page, page.get_by_role("button", name="Sign out"))
    page.keyboard.press("Enter")
    heading(page, "You are signed out")

    live.world.browser().sign_in(HANAKO)
    sign_in_with_keys(page, live)
    expect(page.get_by_role("button", name="Use a passkey")).to_be_focused()
    page.keyboard.press("Enter")
    heading(page, "Your access")
    tab_to(page, page.get_by_role("link", name="Your account"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("password known, second step not taken")).to_be_visible()
    tab_to(page, page.get_by_role("button", name="Sign out there"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out there")).to_have_count(0)
    tab_to(page, page.locator("main").get_by_role("button", name="日本語"))
    page.keyboard.press("Enter")
    heading(page, "アカウント")


def test_the_focus_waits_where_one_goes_on(page: Page, live: LivePortal, key: Key) -> None:
    key()
    sign_in(page, live)
    enrol(page, live)
    heading(page, "Recovery codes")
    sign_out(page)
    sign_in(page, live)
    code = page.get_by_label("Six digits from your app, or a recovery code")
    expect(page.get_by_role("button", name="Use a passkey")).to_be_focused()
    code.fill("000000")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(code).to_be_focused()


def test_a_key_of_somebody_else_is_not_even_asked_and_its_answer_is_refused(
    page: Page, live: LivePortal, key: Key
) -> None:
    blue = key()
    sign_in(page, live, KEN)
    enrol(page, live, "Kens")
    heading(page, "Recovery codes")
    sign_out(page)
    kens = blue.credentials()[0]
    blue.unplug()
    hers = key()
    sign_in(page, live)
    enrol(page, live, "Hers")
    heading(page, "Recovery codes")
    sign_out(page)
    hers.unplug()
    other = key()
    other.add(kens)

    sign_in(page, live)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("status")).not_to_be_empty()
    # Made to ask it all the same: the answer is right, and not hers.
    page.evaluate(
        "id => { const form = document.querySelector('form[data-passkey]');"
        " const question = JSON.parse(form.dataset.question);"
        " question.allowCredentials = [{type: 'public-key', id}]; form.dataset.question = JSON.stringify(question) }",
        base64url(kens["credentialId"]),
    )
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("not one of yours")
    page.goto(live.url)
    heading(page, "Second step")
    assert kinds(live)[-1] is EventKind.SECOND_FACTOR_REJECTED


def base64url(text: str) -> str:
    return text.replace("+", "-").replace("/", "_").rstrip("=")


def test_a_key_that_verifies_nobody_is_refused(page: Page, live: LivePortal, key: Key) -> None:
    blue = key()
    sign_in(page, live)
    enrol(page, live)
    heading(page, "Recovery codes")
    sign_out(page)

    blue.verifies(the_person=False)
    sign_in(page, live)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("status")).not_to_be_empty()
    # A browser that leaves the verification out gets no further either.
    page.evaluate(
        "const form = document.querySelector('form[data-passkey]'); const question = JSON.parse(form.dataset.question);"
        " question.userVerification = 'discouraged'; form.dataset.question = JSON.stringify(question)"
    )
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("PIN")
    page.goto(live.url)
    heading(page, "Second step")


def test_a_key_without_a_pin_is_not_set_up(page: Page, live: LivePortal, key: Key) -> None:
    key(hasUserVerification=False, isUserVerified=False)
    sign_in(page, live)
    enrol(page, live)
    expect(page.get_by_role("status")).not_to_be_empty()
    assert live.world.factors.enrolled == {}


def test_a_copy_of_a_key_that_counts_is_noticed(page: Page, live: LivePortal, key: Key) -> None:
    key()
    sign_in(page, live)
    enrol(page, live)
    heading(page, "Recovery codes")
    sign_out(page)
    [(factor, held)] = live.world.factors.enrolled.values()
    assert isinstance(held, Passkey)
    live.world.factors.enrolled[factor.id] = factor, Passkey(held.credential_id, held.public_key, 1000)

    sign_in(page, live)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("not accepted")


def test_the_same_key_is_not_set_up_twice(page: Page, live: LivePortal, key: Key) -> None:
    key()
    sign_in(page, live)
    enrol(page, live)
    heading(page, "Recovery codes")
    enrol(page, live, "Again")
    expect(page.get_by_role("status")).to_have_text("This device or key is set up already.")
    assert len(live.world.factors.enrolled) == 1


def test_an_answer_that_was_sent_before_is_too_late(page: Page, live: LivePortal, key: Key) -> None:
    key()
    sign_in(page, live)
    enrol(page, live)
    heading(page, "Recovery codes")
    sign_out(page)
    sign_in(page, live)
    page.evaluate(
        "() => { HTMLFormElement.prototype.submit = function () {"
        " document.documentElement.dataset.answer = this.elements.credential.value } }"
    )
    page.get_by_role("button", name="Use a passkey").click()
    whole = page.locator("html[data-answer]")
    expect(whole).to_be_attached()
    answer = whole.get_attribute("data-answer") or ""
    token = page.locator("input[name=csrf_token]").first.get_attribute("value")

    def send() -> int:
        form: dict[str, str | float | bool] = {"csrf_token": token or "", "credential": answer}
        return page.request.post(f"{live.url}/second-factor", form=form, max_redirects=0).status

    assert send() == 303
    # The token was changed with the sign-in, so the same form is of no sign-in now.
    assert send() == 400
    assert kinds(live).count(EventKind.SECOND_FACTOR_SUCCEEDED) == 1


def test_two_browsers_at_once_each_answer_their_own_challenge(
    page: Page, live: LivePortal, key: Key, chromium: Browser
) -> None:
    blue = key()
    sign_in(page, live)
    enrol(page, live)
    heading(page, "Recovery codes")
    sign_out(page)
    second = chromium.new_context(locale="en-GB")
    other = second.new_page()
    copy = Authenticator(second.new_cdp_session(other))
    sign_in(page, live)
    sign_in(other, live)
    page.get_by_role("button", name="Use a passkey").click()
    heading(page, "Your access")

    copy.add(blue.credentials()[0])
    other.get_by_role("button", name="Use a passkey").click()
    heading(other, "Your access")
    second.close()


def test_everything_of_an_app_is_done_without_scripts_and_with_the_keyboard(
    chromium: Browser, live: LivePortal
) -> None:
    context = chromium.new_context(locale="en-GB", java_script_enabled=False)
    page = context.new_page()
    sign_in(page, live)
    page.goto(f"{live.url}/account/second-factors/passkey")
    expect(page.get_by_text("An authenticator app works here too.")).to_be_visible()
    page.get_by_role("link", name="Add an authenticator app").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Code of six digits")).to_be_focused()
    expect(page.locator("svg.qr-code")).to_be_visible()
    seed = re.sub(r"\s", "", page.locator(".seed").inner_text())
    page.keyboard.type(live.world.totp.code_at(Secret(seed), int(live.world.clock().timestamp()) // 30))
    page.keyboard.press("Enter")
    heading(page, "Recovery codes")
    code = page.locator("#recovery-codes").inner_text().split()[0]
    sign_out(page)
    sign_in(page, live)
    expect(page.get_by_label("Six digits from your app, or a recovery code")).to_be_focused()
    page.keyboard.type(code)
    page.keyboard.press("Enter")
    heading(page, "Your access")
    context.close()


def test_a_sealed_card_comes_back_as_it_was_chosen_with_the_button_in_focus(page: Page, live: LivePortal) -> None:
    live.world.entitlements.loaded = SEALED
    seed = give_app(live.world, HANAKO)
    sign_in(page, live)
    page.fill("#code", code_now(live.world, seed, steps=-1))
    page.keyboard.press("Enter")
    heading(page, "Your access")
    live.world.clock.advance(live.world.portal.login.second_factor.policy.remember_for)
    form = page.locator("form[action='/issue/home/credentials']")
    form.locator("summary").click()
    form.locator("select[name=scope]").select_option("corp-shared/handbook/")
    form.locator("button").click()

    heading(page, "Second step")
    page.fill("#code", code_now(live.world, seed))
    page.keyboard.press("Enter")
    expect(form.locator("select[name=scope]")).to_have_value("corp-shared/handbook/")
    expect(form.get_by_role("button", name="Get credentials")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#posix")).to_contain_text("AWS_SESSION_TOKEN")
