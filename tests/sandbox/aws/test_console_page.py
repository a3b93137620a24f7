"""The console page in a real browser: it works under its own Content-Security-Policy, and axe finds nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.sandbox.aws.conftest import Assume, home_policy
from tests.sandbox.aws.identity_provider import Claims
from tests.sandbox.aws.test_signin import DESTINATION, token

if TYPE_CHECKING:
    from tests.sandbox.aws.process import StandIn

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def address(stand_in: StandIn, assume: Assume) -> str:
    """Where a browser signs in; good for several times."""
    claims = Claims(tags={"Department": "研究", "CostCenter": "x" * 200})
    signin_token = token(stand_in, assume(claims, policy=home_policy("alice/"))["Credentials"])
    query = {"Action": "login", "Issuer": "http://localhost:8080/", "Destination": DESTINATION}
    return f"{stand_in.signin_endpoint}/federation?" + urlencode({**query, "SigninToken": signin_token})


def test_a_person_looks_around_and_signs_out(chromium: Browser, address: str) -> None:
    page = chromium.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(address)
    assert "SigninToken" not in page.url
    expect(page.locator("#arn")).to_have_text("arn:aws:sts::111122223333:assumed-role/StaffFiles/alice")
    page.get_by_role("link", name="notes/").click()
    expect(page.locator("#s3-answer")).to_contain_text("2026-plan.txt")
    page.get_by_label("Prefix").fill("alice-two/")
    page.keyboard.press("Enter")
    expect(page.locator("#s3-code")).to_have_text("AccessDenied")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Signed out")).to_be_visible()
    assert complaints == []  # a Content-Security-Policy that blocked something would say so here
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    chromium: Browser, address: str, scheme: str, width: int
) -> None:
    context = chromium.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": 800},
        bypass_csp=True,  # axe is a script, and the page allows none
    )
    page = context.new_page()
    page.goto(address)
    check(page)
    page.get_by_label("Prefix").fill("alice-two/")
    page.keyboard.press("Enter")
    expect(page.locator("#s3-code")).to_be_visible()
    check(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Signed out")).to_be_visible()
    check(page)
    context.close()


def check(page: Page) -> None:
    page.evaluate(AXE.read_text())
    violations = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
