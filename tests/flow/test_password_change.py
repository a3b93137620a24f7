"""Somebody of the demo whose password has to be changed, through the running product, with the keyboard alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.flow.demo_process import Demo, running_demo

NEW = "Analyst's 合言葉 2026"


@pytest.fixture(scope="module")
def own_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Of this test's own: it changes a password for good."""
    folder: Path = tmp_path_factory.mktemp("password") / "demo"
    with running_demo(folder) as running:
        yield running


def sign_in(page: Page, demo: Demo, password: str) -> None:
    page.goto(f"{demo.portal}/login")
    page.keyboard.type("frank")
    page.keyboard.press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")


def change(page: Page, current: str, new: str) -> None:
    """The field of the current password has the focus."""
    expect(page.locator("#current_password")).to_be_focused()
    page.keyboard.type(current)
    for _ in range(2):
        page.keyboard.press("Tab")
        page.keyboard.type(new)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_frank_changes_his_password_and_only_then_comes_in(chromium: Browser, own_demo: Demo) -> None:
    old = own_demo.password("frank")
    context = chromium.new_context(locale="en-US", viewport={"width": 390, "height": 844})
    page = context.new_page()

    sign_in(page, own_demo, old)
    expect(page.locator("h1")).to_have_text("Change your password")
    assert page.url == f"{own_demo.portal}/password"

    for current, new, words in (
        (old, "Aa1 2", "the directory wants 8 characters or more"),
        (old, "only small letters", "too simple"),
        (old, "Frank's own 2026", "holds a part of your name"),
        (old, old, "is the current one"),
        ("a guess", NEW, "The current password is not right."),
    ):
        change(page, current, new)
        expect(page.locator("#password-error")).to_contain_text(words)

    page.check("[data-show-passwords]")
    expect(page.locator("#new_password")).to_have_attribute("type", "text")
    page.focus("#current_password")
    change(page, old, NEW)
    expect(page.locator("h1")).to_have_text("Your password has been changed")
    page.click("text=Sign in with the new password")
    page.fill("#username", "frank")
    page.fill("#password", NEW)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Your access")

    page.goto(f"{own_demo.portal}/password")
    change(page, NEW, f"{NEW}!")
    expect(page.locator("h1")).to_have_text("Your password has been changed")
    page.click("text=Go on")
    expect(page.locator("h1")).to_have_text("Your access")
    page.goto(f"{own_demo.portal}/password")
    change(page, f"{NEW}!", NEW)
    expect(page.locator("#password-error")).to_contain_text("not used before")
    context.close()

    with sqlite3.connect(own_demo.folder / "broker.db") as database:
        rows = database.execute("select kind, reason from audit_event order by time, rowid").fetchall()
        everything = "\n".join(database.iterdump())
    kinds = [kind for kind, _ in rows]
    assert kinds.count("password.changed") == 2
    assert kinds.count("password.rejected") == 6
    assert ("login.rejected", "must-change-password (773)") in rows
    logs = [file.read_text() for file in own_demo.folder.glob("*.log")]
    assert any("/password" in log for log in logs)
    for kept in (everything, *logs):
        assert not any(secret in kept for secret in (old, NEW, "a guess", "Frank's own 2026"))
