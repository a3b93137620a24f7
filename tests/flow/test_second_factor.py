"""A second factor over the running product: its own database, directory and AWS stand-in, and a real browser."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect
from structlog.testing import capture_logs

from broker.compose import compose
from broker.settings import load_settings
from tests.flow.demo_process import Demo, running_demo


def sign_in(page: Page, demo: Demo, username: str) -> None:
    page.goto(f"{demo.portal}/login")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password", exact=True).fill(demo.password(username))
    page.locator("form[action='/login'] button[type=submit]").click()


def heading(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo in which everybody's files ask for a second factor."""
    with running_demo(tmp_path_factory.mktemp("second-factor") / "demo") as demo:
        file = demo.folder / "entitlements.toml"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('id = "home"\n', 'id = "home"\nsecond_factor = true\n'), encoding="utf-8")
        yield demo


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(locale="en-US")
    page = context.new_page()
    keys = context.new_cdp_session(page)
    keys.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
    }
    keys.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    yield page
    context.close()


def issued_with(demo: Demo) -> list[tuple[str, str]]:
    with sqlite3.connect(demo.folder / "broker.db") as database:
        return database.execute(
            "SELECT principal_username, second_factor FROM audit_event WHERE kind = 'issuance.succeeded'"
        ).fetchall()


def test_a_choice_waits_until_a_passkey_is_set_up_and_every_sign_in_asks_for_it_then(page: Page, sealed: Demo) -> None:
    sign_in(page, sealed, "alice")
    page.locator("form[action='/issue/home/credentials'] button").click()
    heading(page, "Second factors")
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_role("button", name="Make the passkey").click()
    heading(page, "Recovery codes")
    page.get_by_role("link", name="I have kept them").click()
    button = page.locator("#chosen").get_by_role("button", name=re.compile("Get credentials"))
    expect(button).to_be_focused()
    button.click()
    expect(page.locator("#posix")).to_contain_text("AWS_SESSION_TOKEN")
    assert issued_with(sealed) == [("alice", "passkey")]

    page.get_by_role("button", name="Sign out").click()
    sign_in(page, sealed, "alice")
    heading(page, "Second step")
    page.goto(sealed.portal)
    heading(page, "Second step")
    page.get_by_role("button", name="Use a passkey").click()
    heading(page, "Your access")


def test_the_settings_say_of_whom_one_is_required(sealed: Demo) -> None:
    settings = load_settings(sealed.settings, environment={})
    required = replace(settings.second_factor, mode="required")

    def needs(username: str, *groups: str) -> bool:
        broker = compose(replace(settings, second_factor=replace(required, groups=groups)))
        return broker.needs_second_factor(broker.directory.principal_by_username(username))

    assert needs("carol")
    assert needs("erin", "Finance", "Broker Administrators")
    assert not needs("alice", "Broker Administrators")
    # A group that was renamed could be anybody's.
    assert needs("alice", "No Such Group")


def test_entitlements_that_nobody_can_use_are_named_at_the_start(sealed: Demo) -> None:
    settings = load_settings(sealed.settings, environment={})
    for mode, warned in (("optional", False), ("off", True)):
        with capture_logs() as log:
            compose(replace(settings, second_factor=replace(settings.second_factor, mode=mode))).warn_at_start()
        named = [line["entitlements"] for line in log if "second_factor.mode is off" in line["event"]]
        assert named == ([["home"]] if warned else [])


def test_who_has_lost_everything_is_reset_by_an_administrator_and_no_secret_was_kept(page: Page, sealed: Demo) -> None:
    sign_in(page, sealed, "bob")
    page.goto(f"{sealed.portal}/account/second-factors/totp")
    seed = re.sub(r"\s", "", page.locator(".seed").inner_text())
    page.get_by_label("Code of six digits").fill(pyotp.TOTP(seed).now())
    page.keyboard.press("Enter")
    heading(page, "Recovery codes")
    codes = page.locator("#recovery-codes").inner_text().split()
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, sealed, "bob")
    page.fill("#code", codes[0])
    page.keyboard.press("Enter")
    heading(page, "Your access")
    page.get_by_role("button", name="Sign out").click()

    sign_in(page, sealed, "erin")
    heading(page, "Your access")
    page.goto(f"{sealed.portal}/admin/second-factors?username=bob")
    page.locator(".confirm > summary").click()
    page.get_by_role("button", name=re.compile("Really reset")).click()
    expect(page.get_by_role("status")).to_contain_text("was reset")
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, sealed, "bob")
    heading(page, "Your access")

    kept = b"".join(path.read_bytes() for path in sealed.folder.glob("*") if path.is_file())
    assert b"second_factor.enrolled" in kept
    for secret in (seed, *codes):
        assert secret.encode() not in kept
