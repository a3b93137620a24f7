"""Every page in a real browser: nothing for axe to find, nothing wider than the screen, pictures to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page

from tests.fakes import Person, person_named
from tests.web.live_portal import LivePortal, serve
from tests.web.world import ADA, ADMINISTRATORS, KEN, NOBODY, STAFF

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
DEMO_PEOPLE = (
    ("hanako", "correct horse", "an employee with two entitlements"),
    ("ken", "battery staple", "somebody in nested groups"),
)

Visit = Callable[[Page, LivePortal], None]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture
def live() -> Iterator[LivePortal]:
    with serve(demo=True, demo_people=DEMO_PEOPLE) as portal:
        yield portal


def sign_in(page: Page, portal: LivePortal, person: Person, password: str | None = None) -> None:
    page.goto(f"{portal.url}/login")
    page.fill("#username", person.principal.username)
    page.fill("#password", password or person.password)
    page.click(".sign-in-panel form button[type=submit]")


def the_sign_in_page(page: Page, portal: LivePortal) -> None:
    page.goto(portal.url)


def a_refused_sign_in(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN, "wrong")


def home(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    page.click("form[action='/issue/home/credentials'] button[type=submit]")
    page.goto(portal.url)
    page.click("details.live > summary")
    page.click("details.narrow >> nth=0")


def home_of_an_administrator_with_faults(page: Page, portal: LivePortal) -> None:
    portal.world.entitlements.wrong = 'entitlement "home", s3[1].prefix: a prefix ends with a slash'
    incomplete = person_named(9, "inge", "Inge Incomplete", STAFF, ADMINISTRATORS)
    portal.world.directory.people.append(incomplete)
    sign_in(page, portal, incomplete)


def no_access(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, NOBODY)


def credentials(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    page.click("form[action='/issue/home/credentials'] button[type=submit]")
    page.wait_for_selector("#posix")


def signed_out(page: Page, portal: LivePortal) -> None:
    credentials(page, portal)
    page.click("form[action='/logout'] button")


def the_audit(page: Page, portal: LivePortal) -> None:
    signed_out(page, portal)
    sign_in(page, portal, KEN, "wrong")
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/audit")
    page.click("tr.more summary >> nth=3")


def an_empty_audit(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/audit?person=nobody-of-that-name")


def a_wrong_filter(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/audit?since=2026-11-23T10:00&until=2026-11-23T09:00")


def an_error(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    portal.world.directory.down = True
    page.goto(portal.url)


PAGES: tuple[Visit, ...] = (
    the_sign_in_page,
    a_refused_sign_in,
    home,
    home_of_an_administrator_with_faults,
    no_access,
    credentials,
    signed_out,
    the_audit,
    an_empty_audit,
    a_wrong_filter,
    an_error,
)


def context_for(chromium: Chromium, locale: str, width: int) -> BrowserContext:
    return chromium.new_context(
        locale=locale,
        reduced_motion="reduce",
        timezone_id="Asia/Tokyo",
        viewport={"width": width, "height": 900},
        color_scheme="light",
    )


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP"])
@pytest.mark.parametrize("visit", PAGES, ids=lambda visit: visit.__name__)
def test_every_page_is_accessible_and_fits_in_both_schemes(
    chromium: Chromium, live: LivePortal, pictures: Path, visit: Visit, locale: str
) -> None:
    problems: list[str] = []
    for width in (1280, 390):
        context = context_for(chromium, locale, width)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        visit(page, live)
        live.world.directory.down = False
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            name = f"{visit.__name__}-{locale[:2]}-{width}-{scheme}.png"
            page.screenshot(path=pictures / name, full_page=True)
            assert violations(page) == []
        for narrow_or_wide in (width, 360, 1600):
            page.set_viewport_size({"width": narrow_or_wide, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= narrow_or_wide
        context.close()
    # Chromium reports the page's own status (401, 503) as an error on its console.
    assert [text for text in problems if "the server responded with a status of" not in text] == []


def violations(page: Page) -> list[dict[str, Any]]:
    # The policy of our pages lets no foreign script in, so the checker comes through the debugger.
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        {
            "rule": item["id"],
            "where": [node["target"] for node in item["nodes"]],
            "why": item["nodes"][0]["failureSummary"],
        }
        for item in found["violations"]
    ]
