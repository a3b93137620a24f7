"""Every page in a real browser: nothing for axe to find, nothing wider than the screen, pictures to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page, expect

from broker.core.audit import EventKind
from broker.core.audit_search import AuditCursor, AuditFilter, AuditPage
from broker.core.entitlements import Access, Catalogue, S3LocationTemplate, S3Scope, Template
from broker.core.errors import LoginCause, RolePolicyRefused
from tests.fakes import Person, person_named
from tests.web.live_portal import LivePortal, serve
from tests.web.pages_shown import begin_rollover, refuse_the_new_key
from tests.web.second_factors import RECOVERY_CODE, SEALED, code_now, give_app, give_passkey
from tests.web.world import ADA, ADMINISTRATORS, FILES, HOME, KEN, NOBODY, REQUIRED, STAFF

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
DEMO_PEOPLE = (
    ("hanako", "correct horse", "an employee with two entitlements"),
    ("ken", "battery staple", "somebody in nested groups"),
)

# With the rules to look for: what only colours decide is all that a page in the dark may do differently.
SCHEMES: dict[Literal["light", "dark"], str] = {
    "light": "{resultTypes: ['violations']}",
    "dark": "{resultTypes: ['violations'], runOnly: {type: 'rule', values: ['color-contrast', 'link-in-text-block']}}",
}

Visit = Callable[[Page, LivePortal], None]


@pytest.fixture(scope="module")
def pictures(request: pytest.FixtureRequest) -> Path | None:
    """Where to put a picture of each page for somebody to look at, if anybody wants to: they take half the time."""
    folder: str | None = request.config.getoption("--pictures")
    return None if folder is None else Path(folder)


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
    for explanation in page.locator("details.explanation > summary").all():
        explanation.click()


def home_of_an_administrator_with_faults(page: Page, portal: LivePortal) -> None:
    portal.world.entitlements.wrong = 'entitlement "home", s3[1].prefix: a prefix ends with a slash'
    incomplete = person_named(9, "inge", "Inge Incomplete", STAFF, ADMINISTRATORS)
    portal.world.directory.people.append(incomplete)
    sign_in(page, portal, incomplete)


def home_of_somebody_with_long_names(page: Page, portal: LivePortal) -> None:
    place = S3LocationTemplate("b" * 63, Template("{username}/" + "reports-of-the-quarter/" * 8), Access.FULL)
    long = replace(
        HOME,
        id="quarterly-" * 6,
        name="Quarterly figures and every attachment of the finance department in Osaka " * 2,
        account=replace(FILES, name="四半期の財務資料と添付書類の保管用アカウント（大阪支社経理部）" * 2),
        role_arn=f"arn:aws:iam::{FILES.id}:role/{'R' * 64}",
        scope=S3Scope((place,)),
        tags={"Department": Template("{department}")},
    )
    portal.world.entitlements.loaded = Catalogue(entitlements=(long,), sha256="ab" * 32)
    name = "Wolfeschlegelsteinhausenbergerdorff-Cholmondeley-Featherstonehaugh III."
    person = person_named(12, "w" * 60, name, STAFF, ADMINISTRATORS, attributes={"department": ("D" * 200,)})
    portal.world.directory.people.append(person)
    sign_in(page, portal, person)
    page.click(f"form[action='/issue/{long.id}/credentials'] button[type=submit]")
    page.goto(portal.url)
    page.click("details.live > summary")


def a_password_to_change(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    page.goto(f"{portal.url}/account")
    page.click("a[href='/password']")


def a_refused_new_password(page: Page, portal: LivePortal) -> None:
    portal.world.directory.people[1].state = LoginCause.MUST_CHANGE_PASSWORD
    sign_in(page, portal, KEN)
    page.fill("#current_password", KEN.password)
    page.fill("#new_password", "short")
    page.fill("#repeated_password", "short")
    page.click(".password-form button[type=submit]")


def a_changed_password(page: Page, portal: LivePortal) -> None:
    a_refused_new_password(page, portal)
    page.keyboard.type(KEN.password)
    for _ in range(2):
        page.keyboard.press("Tab")
        page.keyboard.type("long enough for any policy")
    page.keyboard.press("Enter")


def no_access(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, NOBODY)


def credentials(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    page.click("form[action='/issue/home/credentials'] button[type=submit]")
    page.wait_for_selector("#posix")


def credentials_without_a_clipboard(page: Page, portal: LivePortal) -> None:
    page.add_init_script("delete Navigator.prototype.clipboard")
    credentials(page, portal)
    page.click("[data-copy=posix]")


def signed_out(page: Page, portal: LivePortal) -> None:
    credentials(page, portal)
    page.click("form[action='/logout'] button")


def the_audit(page: Page, portal: LivePortal) -> None:
    signed_out(page, portal)
    sign_in(page, portal, KEN, "wrong")
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/audit")
    page.click("tr.more summary >> nth=3")


def the_account(page: Page, portal: LivePortal) -> None:
    other = portal.world.browser()
    other.client.environ_base["HTTP_USER_AGENT"] = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) Mobile Safari/604.1"
    other.sign_in(KEN)
    sign_in(page, portal, KEN)
    page.goto(f"{portal.url}/account")


def the_account_with_trusted_and_waiting_browsers(page: Page, portal: LivePortal) -> None:
    portal.world.ask_for_second_factors(replace(REQUIRED, trust_browser_for=timedelta(days=30)))
    seed = give_app(portal.world, KEN)
    sign_in(page, portal, KEN, "wrong")
    sign_in(page, portal, KEN)
    page.fill("#code", code_now(portal.world, seed))
    page.check("#code-trust")
    page.press("#code", "Enter")
    page.wait_for_selector("h1")
    portal.world.browser().sign_in(KEN)
    page.goto(f"{portal.url}/account")


def the_own_events(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN, "wrong")
    sign_in(page, portal, KEN)
    page.goto(f"{portal.url}/account/events")


def an_audit_event(page: Page, portal: LivePortal) -> None:
    signed_out(page, portal)
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/audit?kind=issuance.succeeded")
    page.click(".when a")


def a_narrow_audit_while_the_directory_is_down(page: Page, portal: LivePortal) -> None:
    signed_out(page, portal)
    sign_in(page, portal, ADA)
    portal.world.directory.down = True
    page.goto(f"{portal.url}/admin/audit?bucket=corp-home&text=ken")


def an_audit_that_is_not_all_there(page: Page, portal: LivePortal) -> None:
    """Older events are in archives, a search stopped on its way, and an outcome is not known."""
    signed_out(page, portal)
    audit = portal.world.audit
    audit.events[:] = [event for event in audit.events if event.kind is not EventKind.ISSUANCE_SUCCEEDED]
    audit.archived = True
    place = AuditCursor(audit.events[0].time, audit.events[0].id)
    whole = audit.search

    def search(which: AuditFilter, **asked: Any) -> AuditPage:
        return replace(whole(which, **asked), older=place, looked_back_to=place.time)

    vars(audit)["search"] = search
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/audit?person=ken&outcome=unknown&since=2026-11-01T00:00")


def an_empty_audit(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/audit?person=nobody-of-that-name")


def a_wrong_filter(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/audit?since=2026-11-23T10:00&until=2026-11-23T09:00")


def the_live_sessions(page: Page, portal: LivePortal) -> None:
    credentials(page, portal)
    page.goto(portal.url)
    page.click("form[action='/issue/look/credentials'] button[type=submit]")
    page.click("form[action='/logout'] button")
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/sessions")
    for what in page.locator("tr.more summary").all():
        what.click()


def sessions_about_to_be_ended(page: Page, portal: LivePortal) -> None:
    the_live_sessions(page, portal)
    page.click("text=ken >> nth=0")
    page.goto(f"{portal.url}/admin/sessions/revoke?person=ken")
    page.click("details.explanation > summary >> nth=0")


def other_sessions_that_end_too(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    page.click("form[action='/issue/look/credentials'] button[type=submit]")
    ken = portal.world.browser()
    ken.sign_in(KEN)
    ken.post("/issue/operate/console")
    page.goto(portal.url)
    page.click("form[action='/logout'] button")
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/sessions/revoke?entitlement=operate")


def ended_sessions(page: Page, portal: LivePortal) -> None:
    refused = RolePolicyRefused("AccessDenied", "not authorized to perform: iam:PutRolePolicy")
    portal.world.role_policies.refuses["arn:aws:iam::444455556666:role/Operator"] = refused
    sessions_about_to_be_ended(page, portal)
    page.fill("#purpose", "The laptop was left on a train")
    page.click("form[action='/admin/sessions/end'] button[type=submit]")


def ones_own_live_sessions(page: Page, portal: LivePortal) -> None:
    credentials(page, portal)
    page.goto(f"{portal.url}/sessions")
    page.click("tr.more summary")


def signing_keys_in_a_rollover(page: Page, portal: LivePortal) -> None:
    begin_rollover(portal.world)
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/keys")


def signing_keys_of_which_the_new_one_is_refused(page: Page, portal: LivePortal) -> None:
    refuse_the_new_key(portal.world)
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/keys")


def an_error(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    portal.world.directory.down = True
    page.goto(portal.url)


# Each with what shows that the browser is where it was sent.
def second_step(page: Page, portal: LivePortal, *, trust: bool = True) -> None:
    give_app(portal.world, KEN)
    give_passkey(portal.world, KEN)
    if trust:
        portal.world.ask_for_second_factors(replace(REQUIRED, trust_browser_for=timedelta(days=30)))
    sign_in(page, portal, KEN)


def a_second_step(page: Page, portal: LivePortal) -> None:
    second_step(page, portal)


def a_refused_second_step(page: Page, portal: LivePortal) -> None:
    second_step(page, portal)
    page.fill("#code", "000000")
    page.press("#code", "Enter")


def a_password_asked_again(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    portal.world.clock.advance(timedelta(minutes=10))
    page.goto(f"{portal.url}/account/second-factors/totp")


def ones_own_second_factors(page: Page, portal: LivePortal) -> None:
    second_step(page, portal, trust=False)
    give_passkey(portal.world, KEN, name="四半期の財務資料と添付書類の保管用キー（大阪支社経理部）" * 2, number=2)
    page.fill("#code", RECOVERY_CODE)
    page.press("#code", "Enter")
    page.wait_for_selector(".cards")
    page.goto(f"{portal.url}/account/second-factors")
    page.click(".factors summary >> nth=1")


def a_second_factor_that_is_due(page: Page, portal: LivePortal) -> None:
    portal.world.ask_for_second_factors(REQUIRED)
    sign_in(page, portal, KEN)


def a_second_factor_that_has_to_be_set_up(page: Page, portal: LivePortal) -> None:
    portal.world.ask_for_second_factors(replace(REQUIRED, grace=timedelta()))
    sign_in(page, portal, KEN)


def an_app_to_set_up(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    page.goto(f"{portal.url}/account/second-factors/totp")


def a_passkey_to_set_up(page: Page, portal: LivePortal) -> None:
    sign_in(page, portal, KEN)
    page.goto(f"{portal.url}/account/second-factors/passkey")


def recovery_codes(page: Page, portal: LivePortal) -> None:
    ones_own_second_factors(page, portal)
    page.click("form[action$='/recovery-codes'] button")


def a_sealed_choice(page: Page, portal: LivePortal) -> None:
    portal.world.entitlements.loaded = SEALED
    sign_in(page, portal, KEN)
    page.goto(f"{portal.url}/?chosen=home&use=terminal&duration=900&scope=corp-home/ken/&access=read")


def second_factors_that_were_lost(page: Page, portal: LivePortal) -> None:
    give_app(portal.world, KEN)
    sign_in(page, portal, ADA)
    page.goto(f"{portal.url}/admin/second-factors?username=ken")
    page.click(".confirm > summary")


PAGES: dict[Visit, str] = {
    a_second_step: "[data-needs-passkeys] button",
    a_refused_second_step: "#second-factor-error",
    a_password_asked_again: "#password:focus",
    ones_own_second_factors: ".confirm[open] .danger",
    a_second_factor_that_is_due: ".alert-warn a",
    a_second_factor_that_has_to_be_set_up: ".alert-warn",
    an_app_to_set_up: "svg.qr-code",
    a_passkey_to_set_up: "[data-passkey=create] button",
    recovery_codes: "#recovery-codes",
    a_sealed_choice: "#chosen button:focus",
    second_factors_that_were_lost: ".confirm[open] .danger",
    the_sign_in_page: "#username:focus",
    a_refused_sign_in: "#sign-in-error",
    home: "details.live[open] .live-list",
    home_of_an_administrator_with_faults: ".card .alert-warn",
    home_of_somebody_with_long_names: "details.live[open] .live-list",
    a_password_to_change: "#current_password:focus",
    a_refused_new_password: "#new_password[aria-invalid=true]",
    a_changed_password: ".panel a[href='/login']",
    no_access: ".chips",
    credentials: "#posix",
    credentials_without_a_clipboard: "#posix:focus",
    signed_out: ".live-list",
    the_audit: "details[open] .all-fields",
    the_account: ".account-list button",
    the_account_with_trusted_and_waiting_browsers: ".badge-warn",
    the_own_events: ".event-why",
    an_audit_event: ".policy-words",
    a_narrow_audit_while_the_directory_is_down: "details.more-filters[open]",
    an_audit_that_is_not_all_there: ".badge-warn",
    an_empty_audit: ".empty",
    a_wrong_filter: "#until-fault",
    the_live_sessions: "tr.more details[open] .policy-words",
    sessions_about_to_be_ended: "details.explanation[open] .code",
    other_sessions_that_end_too: ".alert-warn",
    ended_sessions: ".outcome-bad",
    ones_own_live_sessions: "tr.more details[open] .policy-words",
    signing_keys_in_a_rollover: "#tell-1",
    signing_keys_of_which_the_new_one_is_refused: "#own-keys",
    an_error: ".error-status",
}


def context_for(chromium: Chromium, locale: str, width: int) -> BrowserContext:
    return chromium.new_context(
        locale=locale,
        reduced_motion="reduce",
        timezone_id="Asia/Tokyo",
        viewport={"width": width, "height": 900},
        color_scheme="light",
    )


WIDTHS = (1280, 390)


# Each visit is at one width, so that people get through at both; what they came to is looked at at every one.
@pytest.mark.parametrize(("locale", "width"), [("en-GB", WIDTHS[0]), ("ja-JP", WIDTHS[1])], ids=["en-GB", "ja-JP"])
@pytest.mark.parametrize("visit", PAGES, ids=lambda visit: visit.__name__)
def test_every_page_is_accessible_and_fits_in_both_schemes(
    chromium: Chromium, pictures: Path | None, visit: Visit, locale: str, width: int
) -> None:
    problems: list[str] = []
    with serve(demo=True, demo_people=DEMO_PEOPLE) as live:
        context = context_for(chromium, locale, width)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        visit(page, live)
        reached = page.locator(PAGES[visit]).first
        expect(reached).to_be_visible()
        # The policy of our pages lets no foreign script in, so the checker comes through the debugger.
        page.evaluate(AXE.read_text())
        for shown in WIDTHS:
            page.set_viewport_size({"width": shown, "height": 900})
            expect(reached).to_be_visible()
            for scheme, rules in SCHEMES.items():
                page.emulate_media(color_scheme=scheme)
                if pictures is not None:
                    name = f"{visit.__name__}-{locale[:2]}-{shown}-{scheme}.png"
                    page.screenshot(path=pictures / name, full_page=True)
                assert violations(page, rules) == []
        for narrow_or_wide in (360, 1600, *WIDTHS):
            page.set_viewport_size({"width": narrow_or_wide, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= narrow_or_wide
        context.close()
    # Chromium reports the page's own status (401, 503) as an error on its console.
    assert [text for text in problems if "the server responded with a status of" not in text] == []


def violations(page: Page, rules: str) -> list[dict[str, Any]]:
    found = page.evaluate(f"axe.run({rules})")
    return [
        {
            "rule": item["id"],
            "where": [node["target"] for node in item["nodes"]],
            "why": item["nodes"][0]["failureSummary"],
        }
        for item in found["violations"]
    ]
