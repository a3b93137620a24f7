"""Sign-ins that are held back, as a person and as an administrator meet them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from werkzeug.test import TestResponse

from broker.core.audit import EventKind
from broker.core.throttle import UNTIL_LIFTED, Budget, BudgetKind, LockoutPolicy, ThrottleLimits
from tests.web.world import ADA, HANAKO, Browser, World

NARROW = ThrottleLimits(threshold=4, window=timedelta(minutes=15), device_attempts=1, address_attempts=1000)


@pytest.fixture
def world() -> World:
    return World(throttle=NARROW)


def fail(browser: Browser, username: str = "hanako") -> TestResponse:
    return browser.sign_in(HANAKO, username=username, password="wrong")


def hold_back(world: World) -> Browser:
    stranger = world.browser()
    while fail(stranger).status_code != 429:
        pass
    return stranger


def test_after_too_many_wrong_passwords_the_form_says_how_long_to_wait(world: World) -> None:
    answer = fail(hold_back(world))

    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 16 * 60 + 1
    assert "16 minutes" in answer.text
    assert 'value="hanako"' in answer.text


def test_it_looks_the_same_for_a_name_that_is_nobodys(world: World) -> None:
    known, unknown = world.browser(), world.browser()

    def statuses(browser: Browser, username: str) -> list[int]:
        return [fail(browser, username).status_code for _ in range(6)]

    assert statuses(known, "hanako") == statuses(unknown, "nobody") == [401, 401, 429, 429, 429, 429]


def test_the_owner_gets_in_from_a_browser_that_was_used_before(world: World) -> None:
    own = world.browser()
    own.sign_in(HANAKO)
    own.post("/logout")
    hold_back(world)

    assert own.sign_in(HANAKO).status_code == 303
    assert world.browser().sign_in(HANAKO).status_code == 303  # a right password has started the count anew


@pytest.mark.parametrize("forged", ["", "x", "A" * 26, f"{'A' * 26}.1.x", f"{'A' * 26}.1.\u00e9", "...."])
def test_a_device_cookie_that_is_not_ours_is_of_no_use(world: World, forged: str) -> None:
    hold_back(world)
    browser = world.browser()
    browser.client.set_cookie("broker_device", forged)

    assert browser.sign_in(HANAKO).status_code == 429


def test_an_old_device_cookie_is_of_no_use(world: World) -> None:
    own = world.browser()
    own.sign_in(HANAKO)
    own.post("/logout")
    world.clock.advance(timedelta(days=91))
    hold_back(world)

    assert own.sign_in(HANAKO).status_code == 429


def test_an_administrator_sees_the_hold_and_lifts_it_and_both_are_recorded(world: World) -> None:
    hold_back(world)
    administrator = world.browser()
    administrator.sign_in(ADA)

    page = administrator.get("/admin/holds")
    assert "hanako" in page.text
    lifted = administrator.post("/admin/holds/lift", {"key": f"person:{HANAKO.principal.id}"})

    assert (lifted.status_code, lifted.location) == (303, "/admin/holds")
    assert "hanako" not in administrator.get("/admin/holds").text
    assert world.browser().sign_in(HANAKO).status_code == 303
    kinds = [event.kind for event in world.audit.events]
    assert EventKind.LOGIN_THROTTLED in kinds
    (event,) = [event for event in world.audit.events if event.kind is EventKind.ADMIN_HOLD_LIFTED]
    assert (event.principal_username, event.throttle_key) == ("ada", f"person:{HANAKO.principal.id}")


def test_lifting_what_is_not_held_does_nothing(world: World) -> None:
    administrator = world.browser()
    administrator.sign_in(ADA)

    assert administrator.post("/admin/holds/lift", {"key": "person:nobody"}).status_code == 303
    assert EventKind.ADMIN_HOLD_LIFTED not in [event.kind for event in world.audit.events]


def test_nobody_else_sees_or_lifts_a_hold(world: World) -> None:
    browser = world.browser()
    browser.sign_in(HANAKO)

    assert browser.get("/admin/holds").status_code == 403
    assert browser.post("/admin/holds/lift", {"key": "x"}).status_code == 403


def test_without_a_hold_the_page_says_so(world: World) -> None:
    administrator = world.browser()
    administrator.sign_in(ADA)

    assert "Nobody is held back" in administrator.get("/admin/holds").text


def test_a_person_is_found_and_lifted_behind_any_number_of_made_up_names(world: World) -> None:
    hold_back(world)
    for number in range(250):
        made_up = Budget(BudgetKind.NAME, f"{number:064}", 1, timedelta(hours=1))
        for _ in range(2):
            world.attempts.take(made_up, None, world.clock())
    administrator = world.browser()
    administrator.sign_in(ADA)

    everybody = administrator.get("/admin/holds").text
    assert everybody.index("hanako") < everybody.index("A name that is nobody's")
    assert "Only 200 are shown" in everybody
    found = administrator.get("/admin/holds?text=HANA").text
    assert "hanako" in found
    assert "A name that is nobody's" not in found
    assert "Nobody of that name, id or address is held back" in administrator.get("/admin/holds?text=%25").text
    last = f"name:{0:064}"
    assert administrator.post("/admin/holds/lift", {"key": last}).status_code == 303
    assert world.attempts.hold(last, world.clock()) is None


def test_a_hold_that_no_time_ends_says_what_does(world: World) -> None:
    world.directory.lockout = LockoutPolicy(4, UNTIL_LIFTED)
    stranger = hold_back(world)
    answer = fail(stranger)

    assert answer.status_code == 429
    assert "Use a browser in which you have signed in before" in answer.text
    assert "Retry-After" not in answer.headers
    administrator = world.browser()
    administrator.sign_in(ADA)
    assert "lifted, or signed in with a known browser" in administrator.get("/admin/holds").text
