"""The sessions that run, as administrators and the people themselves see them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.core.audit import EventKind
from tests.web.world import ADA, AUDREY, HANAKO, KEN, Browser, World


@pytest.fixture
def ada(world: World) -> Browser:
    for person, path in ((HANAKO, "home/credentials"), (KEN, "logs/credentials"), (KEN, "operate/console")):
        theirs = world.browser()
        theirs.sign_in(person)
        assert theirs.post(f"/issue/{path}").status_code in {200, 303}
    browser = world.browser()
    browser.sign_in(ADA)
    return browser


def test_administrators_see_whose_sessions_run_and_what_they_allow(ada: Browser) -> None:
    page = ada.get("/admin/sessions")

    assert page.status_code == 200
    for shown in ("hanako", "ken", "My files", "111122223333", "127.0.0.1", "corp-home/hanako/*", "read files"):
        assert shown in page.text
    assert "The whole role, not narrowed" in page.text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("person=hana", ["home"]),
        ("entitlement=logs", ["logs"]),
        ("account=444455556666", ["operate", "logs"]),
        ("bucket=service-logs", ["logs"]),
        ("person=ken&account=111122223333", []),
        ("source=127.0.0.0/8&person=hana", ["home"]),
        ("source=192.0.2.1", []),
        ("since=2026-11-23T09:30", ["operate", "logs", "home"]),
        ("since=2026-11-23T09:31", []),
        ("until=2026-11-23T09:30", []),
    ],
)
def test_they_are_filtered_as_the_audit_is(ada: Browser, query: str, found: list[str]) -> None:
    page = ada.get(f"/admin/sessions?{query}").text
    assert [name for name in ("operate", "logs", "home") if f"<code>{name}</code>" in page] == found


def test_a_shorter_session_than_asked_for_says_so_also_when_the_console_was_opened(world: World) -> None:
    world.token_service.longest = timedelta(hours=1)
    browser = world.browser()
    browser.sign_in(HANAKO)
    assert browser.post("/issue/home/console").status_code == 303

    told = "AWS gave 1 hour instead of 8 hours: the role allows only shorter sessions."
    for path in ("/", "/sessions"):
        assert told in browser.get(path).text
    administrator = world.browser()
    administrator.sign_in(ADA)
    assert told in administrator.get("/admin/sessions").text
    world.token_service.longest = timedelta(hours=12)
    other = world.browser()
    other.sign_in(KEN)
    assert other.post("/issue/home/console").status_code == 303
    assert "instead of" not in other.get("/").text + other.get("/sessions").text


def test_a_session_that_has_ended_is_not_shown(ada: Browser, world: World) -> None:
    # A quarter of an hour, and as much for the console, which counts from when it was opened.
    world.clock.advance(timedelta(minutes=33))
    ada.sign_in(ADA)
    page = ada.get("/admin/sessions").text

    assert "<code>operate</code>" not in page
    assert "<code>home</code>" in page


def test_more_than_a_page_of_them_is_paged(ada: Browser, world: World) -> None:
    hanako = world.browser()
    hanako.sign_in(HANAKO)
    for _ in range(50):
        world.clock.advance(timedelta(seconds=1))
        hanako.post("/issue/home/credentials")
    first = ada.get("/admin/sessions?person=hanako")
    second = ada.get(ada.link(first, "next"))

    assert first.text.count('class="more"') == 50
    assert second.text.count('class="more"') == 1
    assert ada.get(ada.link(first, "next") + "x").status_code == 400


@pytest.mark.parametrize("person", [HANAKO, AUDREY], ids=["an employee", "an auditor"])
def test_nobody_but_administrators_sees_the_sessions_of_others(person: object, world: World) -> None:
    browser = world.browser()
    browser.sign_in(person)  # type: ignore[arg-type]  # a person of the world

    assert browser.get("/admin/sessions").status_code == 403
    assert world.audit.events[-1].kind is EventKind.ADMIN_REJECTED


@pytest.mark.usefixtures("ada")
def test_everybody_sees_their_own_and_no_others(world: World) -> None:
    ken = world.browser()
    ken.sign_in(KEN)
    page = ken.get("/sessions").text

    assert "Service logs" in page
    assert "Operate the workbench" in page
    assert "<code>home</code>" not in page
    assert "/sessions" in ken.get("/").text


def test_a_wrong_filter_is_named(ada: Browser) -> None:
    page = ada.get("/admin/sessions?person=%00")

    assert page.status_code == 400
    assert 'id="person-fault"' in page.text
    faulty = ada.get("/admin/sessions?since=yesterday&source=here").text
    assert 'id="since-fault"' in faulty
    assert 'id="source-fault"' in faulty


def test_an_entitlements_file_that_cannot_be_read_leaves_the_ids(ada: Browser, world: World) -> None:
    world.entitlements.loaded = None
    assert "<code>home</code>" in ada.get("/admin/sessions").text
