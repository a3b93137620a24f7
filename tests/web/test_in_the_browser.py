"""What a person does with the portal in a real browser, with and without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from broker.core.audit import EventKind
from broker.web.own_path import own_path
from tests.fakes import Person
from tests.web.live_portal import LivePortal, serve
from tests.web.world import ADA, HANAKO, KEN


@pytest.fixture
def live() -> Iterator[LivePortal]:
    with serve(demo=True, demo_people=(("hanako", HANAKO.password, "an employee"),)) as portal:
        yield portal


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(locale="en-GB", timezone_id="Asia/Tokyo")
    yield context.new_page()
    context.close()


@pytest.fixture
def page_without_scripts(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(locale="en-GB", java_script_enabled=False)
    yield context.new_page()
    context.close()


def sign_in(page: Page, portal: LivePortal, person: Person, password: str | None = None) -> None:
    page.goto(f"{portal.url}/login")
    page.get_by_label("Username").fill(person.principal.username)
    page.get_by_label("Password").fill(person.password if password is None else password)
    page.get_by_role("button", name="Sign in").click()


def test_everything_works_without_scripts(page_without_scripts: Page, live: LivePortal) -> None:
    page = page_without_scripts
    sign_in(page, live, HANAKO)
    page.locator("form[action='/issue/home/credentials'] summary").click()
    page.locator("form[action='/issue/home/credentials'] select[name=scope]").select_option("corp-home/hanako/")
    page.locator("form[action='/issue/home/credentials'] select[name=access]").select_option("read")
    page.locator("form[action='/issue/home/credentials'] button").click()

    expect(page.locator("#posix")).to_contain_text("export AWS_SESSION_TOKEN='")
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    granted, _ = live.world.token_service.exchanged[0]
    assert [(place.name, place.access) for place in granted.locations or ()] == [("corp-home/hanako/", "read")]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")
    page.get_by_role("button", name="日本語").click()
    expect(page.locator("html")).to_have_attribute("lang", "ja")


def test_the_policy_on_a_card_is_opened_and_scrolled_with_the_keyboard(page: Page, live: LivePortal) -> None:
    sign_in(page, live, HANAKO)
    policy = page.get_by_role("region", name="Session policy of My files")
    expect(policy).to_be_hidden()

    page.locator("summary", has_text="What will this let me do?").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")

    expect(policy).to_be_focused()
    page.keyboard.press("End")
    expect(policy).not_to_have_js_property("scrollTop", 0)


def test_everything_can_be_done_with_the_keyboard(page: Page, live: LivePortal) -> None:
    page.goto(f"{live.url}/login")
    expect(page.get_by_label("Username")).to_be_focused()
    page.keyboard.type("hanako")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type(HANAKO.password)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your access")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("summary", has_text="What will this let me do?")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("form[action='/issue/home/console'] select[name=duration]")).to_be_focused()
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.locator("form[action='/issue/home/console'] summary")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("form[action='/issue/home/console'] select[name=scope]")).to_be_focused()


def test_a_click_on_a_bar_of_the_audits_chart_shows_its_events_alone(page: Page, live: LivePortal) -> None:
    now = live.world.clock()
    sign_in(page, live, ADA)
    seen = live.world.audit.events[-1]
    for days, number in ((3, 4), (10, 2)):
        live.world.audit.events += [
            replace(seen, id=f"{days}{number}{one}" + "0" * 29, time=now - timedelta(days=days, minutes=one))
            for one in range(number)
        ]
    page.goto(f"{live.url}/admin/audit?kind=login.succeeded")
    rows = page.locator("table.events tbody")
    expect(rows).to_have_count(7)

    page.locator(".chart a", has=page.locator("title", has_text=re.compile(r": 4$"))).click()

    expect(rows).to_have_count(4)
    expect(page.get_by_label("Event", exact=True)).to_have_value("login.succeeded")
    chosen = parse_qs(urlsplit(page.url).query)
    since, until = (datetime.fromisoformat(chosen[name][0]).replace(tzinfo=UTC) for name in ("since", "until"))
    assert since <= now - timedelta(days=3, minutes=3) < now - timedelta(days=3) < until
    expect(page.get_by_label("From (UTC)")).to_have_value(re.compile(re.escape(chosen["since"][0][:16])))
    # And again, closer.
    page.locator(".chart a").first.click()
    assert parse_qs(urlsplit(page.url).query)["until"] != chosen["until"]


def test_the_quick_choices_of_time_keep_the_other_filters(page: Page, live: LivePortal) -> None:
    now = live.world.clock()
    sign_in(page, live, ADA)
    seen = live.world.audit.events[-1]
    ages = {"Last hour": timedelta(minutes=30), "Last 24 hours": timedelta(hours=5), "Last 7 days": timedelta(days=3)}
    ages |= {"Last 30 days": timedelta(days=20), "": timedelta(days=40)}
    live.world.audit.events[:] = [
        replace(seen, id=f"{number:032x}", time=now - age, kind=kind)
        for number, (age, kind) in enumerate(
            product(ages.values(), (EventKind.LOGIN_SUCCEEDED, EventKind.SESSION_ENDED))
        )
    ]
    page.goto(f"{live.url}/admin/audit?kind=session.ended&until=2026-01-01T00:00")

    for number, name in enumerate(list(ages)[:-1], start=1):
        page.get_by_role("list", name="Quick choices of time").get_by_role("link", name=name).click()
        expect(page.locator('tbody[data-kind="session.ended"]')).to_have_count(number)
        expect(page.locator("table.events tbody")).to_have_count(number)
        expect(page.get_by_label("Before (UTC)")).to_have_value("")


def test_what_has_the_focus_is_outlined(page: Page, live: LivePortal) -> None:
    sign_in(page, live, ADA)
    page.goto(f"{live.url}/admin/audit")
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        where, style, width = page.evaluate(
            "(() => { const of = getComputedStyle(document.activeElement);"
            " return [document.activeElement.tagName, of.outlineStyle, parseFloat(of.outlineWidth)] })()"
        )
        if where != "BODY":
            seen.add(where)
            assert (style, width >= 2) == ("solid", True), where
    assert seen >= {"A", "BUTTON", "INPUT", "SELECT", "SUMMARY", "DIV"}


def test_a_refused_sign_in_keeps_the_name_names_the_fields_and_waits_in_the_password(
    page: Page, live: LivePortal
) -> None:
    sign_in(page, live, HANAKO, "wrong")

    expect(page.get_by_role("alert")).to_contain_text("We could not sign you in")
    expect(page.get_by_label("Username")).to_have_value("hanako")
    expect(page.get_by_label("Password")).to_have_value("")
    expect(page.get_by_label("Password")).to_be_focused()
    for label in ("Username", "Password"):
        expect(page.get_by_label(label)).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_label(label)).to_have_accessible_description(re.compile("We could not sign you in"))


def test_a_block_is_copied_as_it_stands_and_said_to_be(page: Page, live: LivePortal) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page, live, HANAKO)
    page.locator("form[action='/issue/home/credentials'] button").click()

    page.get_by_role("button", name="Copy – PowerShell").click()

    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#powershell").inner_text()


def test_without_a_clipboard_the_text_is_selected(page: Page, live: LivePortal) -> None:
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    sign_in(page, live, HANAKO)
    page.locator("form[action='/issue/home/credentials'] button").click()

    page.get_by_role("button", name="Copy – bash / zsh").click()

    expect(page.get_by_role("status")).to_contain_text("Could not copy.")
    assert page.evaluate("getSelection().toString()").startswith("export AWS_ACCESS_KEY_ID=")


def test_times_are_shown_in_the_persons_zone_too(page: Page, live: LivePortal) -> None:
    sign_in(page, live, HANAKO)
    page.locator("form[action='/issue/home/credentials'] button").click()

    expiry = page.locator(".expiry time")

    assert expiry.get_attribute("datetime") == "2026-11-23T17:30:00Z"
    expect(expiry).to_contain_text("17:30:00 UTC")
    expect(expiry).to_contain_text(re.compile(r"24 Nov,? (at )?0?2:30:00 GMT\+9"))


def test_a_double_click_is_one_issuance(page: Page, live: LivePortal) -> None:
    sign_in(page, live, HANAKO)

    page.locator("form[action='/issue/home/credentials'] button").dblclick()

    expect(page.get_by_role("heading", level=1)).to_contain_text("Credentials")
    assert len(live.world.token_service.exchanged) == 1


def test_the_back_button_offers_a_form_that_works(page: Page, live: LivePortal) -> None:
    sign_in(page, live, HANAKO)
    page.locator("form[action='/issue/home/credentials'] button").click()
    expect(page.locator("#posix")).to_be_visible()  # Chromium cannot go back from a page that is not there yet
    page.go_back()

    page.locator("form[action='/issue/home/credentials'] button").click()

    expect(page.locator("#posix")).to_be_visible()
    assert len(live.world.token_service.exchanged) == 2


def test_the_policy_of_our_pages_lets_the_console_form_reach_aws_and_nothing_else(page: Page, live: LivePortal) -> None:
    page.route("https://**/*", lambda route: route.fulfill(body="the console"))
    sign_in(page, live, HANAKO)
    page.locator("form[action='/issue/home/console'] button").click()
    page.wait_for_url("https://signin.aws.amazon.com/federation?**")

    live.world.console.signin_endpoint = "https://elsewhere.example"
    page.goto(live.url)
    page.locator("form[action='/issue/home/console'] button").click()
    page.wait_for_timeout(500)
    assert page.url.startswith(live.url)


def test_a_browser_reads_every_own_path_as_a_page_of_this_portal(page: Page, live: LivePortal) -> None:
    pieces = ("/", "\\", "\t", "@", ":", "https:", "elsewhere.example", "..", "%2f", "?", "#")
    paths = sorted({own_path("/" + "".join(some)) for count in range(5) for some in product(pieces, repeat=count)})
    page.goto(f"{live.url}/login")

    origins = page.evaluate("paths => paths.map(path => new URL(path, location).origin)", paths)

    assert len(paths) > 1000
    assert set(origins) == {live.url}


def test_no_script_or_style_of_others_runs(page: Page, live: LivePortal) -> None:
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(f"{live.url}/login")
    page.evaluate(
        "(() => { const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
        " document.body.append(script); document.body.setAttribute('style', 'color: red');"
        " document.body.append(Object.assign(new Image(), {src: 'https://elsewhere.example/x.png'})) })()"
    )
    page.wait_for_timeout(200)

    assert page.evaluate("window.ran") is None
    assert page.evaluate("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
    assert len([text for text in refused if "Content Security Policy" in text]) >= 3


def test_the_demo_fills_in_a_person(page: Page, live: LivePortal) -> None:
    page.goto(f"{live.url}/login")
    page.get_by_role("button", name="Fill in hanako").click()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text("Your access")


def test_an_event_of_the_audit_is_a_block_on_a_phone_and_still_a_row_to_a_screen_reader(
    page: Page, live: LivePortal
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, live, ADA)
    page.goto(f"{live.url}/admin/audit")

    box = page.get_by_role("region", name="Events")

    assert box.evaluate("element => element.scrollWidth <= element.clientWidth")
    row = page.get_by_role("row").filter(has_text="Signed in").first
    expect(row.get_by_role("cell")).to_have_count(7)
    expect(page.get_by_role("columnheader", name="Person")).to_have_count(1)
    assert row.evaluate("element => element.getBoundingClientRect().right <= 360")
    label = row.locator("[data-label=Person]").evaluate("element => getComputedStyle(element, '::before').content")
    assert label == '"Person"'


@pytest.mark.parametrize(("path", "name", "width"), [("/admin/audit", "Events", 920), ("", "bash / zsh", 360)])
def test_wide_content_scrolls_inside_its_own_box(
    path: str, name: str, width: int, page: Page, live: LivePortal
) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    sign_in(page, live, ADA)
    if path:
        page.goto(f"{live.url}{path}")
    else:
        page.locator("form[action='/issue/home/credentials'] button").click()

    box = page.get_by_role("region", name=name)

    assert box.evaluate("element => element.scrollWidth > element.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_controls_are_large_enough_for_a_finger(page: Page, live: LivePortal) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    sign_in(page, live, KEN)
    for control in page.locator("main button, main select, main summary, .masthead button").all():
        box = control.bounding_box()
        # WCAG 2.2, success criterion 2.5.8: 24 by 24 CSS pixels.
        assert box is not None
        assert box["height"] >= 24
        assert box["width"] >= 24


def test_nothing_moves_for_people_who_ask_for_less_motion(page: Page, live: LivePortal) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{live.url}/login")

    assert page.evaluate(
        "[...document.querySelectorAll('*')].every(one => getComputedStyle(one).transitionDuration === '0s')"
    )


def test_secrets_are_not_printed(page: Page, live: LivePortal) -> None:
    sign_in(page, live, HANAKO)
    page.locator("form[action='/issue/home/credentials'] button").click()
    page.emulate_media(media="print")

    expect(page.locator("#posix")).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
