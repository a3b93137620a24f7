"""Headers of every answer, and pages that give their policy nothing to forbid."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from werkzeug.datastructures import Headers

from tests.web.pages_shown import PAGES, Show
from tests.web.world import World

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
    "form-action 'self' https://signin.aws.amazon.com https://*.console.aws.amazon.com; "
    "base-uri 'none'; frame-ancestors 'none'"
)
OPEN_PATHS = ("/login", "/nowhere", "/healthz", "/readyz", "/saml/metadata", "/saml/sso", "/", "/static/portal.css")


def assert_protected(headers: Headers) -> None:
    get = headers.get
    assert get("Content-Security-Policy") == POLICY
    assert get("X-Content-Type-Options") == "nosniff"
    assert get("X-Frame-Options") == "DENY"
    assert get("Referrer-Policy") == "no-referrer"
    assert get("Cross-Origin-Opener-Policy") == "same-origin"
    assert get("Cross-Origin-Resource-Policy") == "same-origin"
    assert get("Permissions-Policy") == "camera=(), geolocation=(), microphone=()"


@pytest.mark.parametrize("show", PAGES, ids=lambda show: show.__name__)
def test_every_page_carries_the_policy_and_is_stored_nowhere(show: Show) -> None:
    world = World()

    page = show(world, world.browser())

    assert_protected(page.headers)
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Content-Language"] == "en"


@pytest.mark.parametrize("path", OPEN_PATHS)
def test_every_other_answer_carries_the_policy_too(path: str, world: World) -> None:
    answer = world.browser().get(path)

    assert_protected(answer.headers)
    static = path.startswith("/static/")
    assert answer.headers["Cache-Control"] == ("public, max-age=31536000, immutable" if static else "no-store")


def test_a_static_file_that_is_missing_is_not_remembered(world: World) -> None:
    answer = world.browser().get("/static/none.css")

    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/%2e%2e/app.py", "/static/..%5capp.py", "/static/"]
)
def test_only_the_static_folder_is_served(path: str, world: World) -> None:
    assert world.browser().get(path).status_code == 404


def test_https_is_remembered_where_the_portal_has_it_and_only_there(world: World) -> None:
    secure = World(public_url="https://portal.example.com").browser().get("/login")

    assert secure.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "Strict-Transport-Security" not in world.browser().get("/login").headers


def test_the_address_of_a_static_file_changes_with_its_content(world: World) -> None:
    page = world.browser().get("/login").text

    for name in ("portal.css", "portal.js", "logo.svg", "favicon.svg"):
        found = re.search(rf'"(/static/{re.escape(name)}\?v=[0-9a-f]{{12}})"', page)
        assert found, name
        assert world.browser().get(found.group(1)).status_code == 200


class _Strict(HTMLParser):
    """Everything that the policy would block, and everything that would leave the portal."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"style", "iframe", "object", "embed", "base"} or (tag == "script" and "src" not in given):
            self.faults.append(tag)
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.faults.append(f"{tag}[{name}]")
            elif name in {"src", "href", "action", "formaction"} and not re.match(r"/(?!/)|#|mailto:", value or ""):
                self.faults.append(f"{tag}[{name}={value}]")
        if tag == "form" and given.get("method") == "post" and not given.get("action"):
            self.faults.append("form without an address")


@pytest.mark.parametrize("show", PAGES, ids=lambda show: show.__name__)
def test_no_page_holds_inline_script_or_style_or_an_address_elsewhere(show: Show) -> None:
    world = World()
    reader = _Strict()

    reader.feed(show(world, world.browser()).text)

    assert reader.faults == []


@pytest.mark.parametrize("show", PAGES, ids=lambda show: show.__name__)
def test_every_page_has_one_heading_one_main_part_a_title_and_distinct_ids(show: Show) -> None:
    world = World()

    page = show(world, world.browser()).text

    assert page.startswith("<!doctype html>")
    assert len(re.findall(r"<h1[ >]", page)) == 1
    assert len(re.findall(r"<main[ >]", page)) == 1
    assert re.search(r"<title>[^<]+ · Example Corporation</title>", page)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_policy_cannot_be_widened_by_a_strange_origin() -> None:
    for origin in ("https://a.example; script-src *", "*", "'unsafe-inline'", "https://a.example/path", "data:"):
        with pytest.raises(ValueError, match="not an origin"):
            World(form_action_origins=(origin,))


@pytest.mark.parametrize(
    "settings", [{"public_url": "ftp://x"}, {"public_url": "https://x/path"}, {"secret_key": b"short"}]
)
def test_a_portal_with_impossible_settings_is_not_made(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"public_url|secret_key"):
        World(**settings)


def test_people_of_a_demo_are_shown_in_a_demo_only() -> None:
    with pytest.raises(ValueError, match="demo"):
        World(demo_people=(("hanako", "password", ""),))
