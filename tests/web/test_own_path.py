"""``next`` never leaves the portal."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.web.own_path import own_path
from tests.web.world import HANAKO, World

PORTAL = "https://portal.example.com"
ELSEWHERE = (
    "https://elsewhere.example",
    "//elsewhere.example",
    "///elsewhere.example",
    "/\\elsewhere.example",
    "\\\\elsewhere.example",
    "/\t/elsewhere.example",
    "/\n/elsewhere.example",
    " //elsewhere.example",
    "javascript:alert(1)",
    "elsewhere.example",
    "https:elsewhere.example",
    "/%0d%0aSet-Cookie: a=b\r\nX: y",
    "/" + "x" * 2048,
    "/ソース",
)


def as_browsers_read_it(text: str) -> str:
    """The host that a browser goes to (WHATWG URL: tabs and line ends are dropped, backslashes are slashes)."""
    read = re.sub(r"[\t\r\n]", "", text).strip("".join(map(chr, range(33)))).replace("\\", "/")
    return urlsplit(urljoin(f"{PORTAL}/login", read)).netloc


@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(["/", "\\", "\t", "\n", " ", "@", ":", "https:", "elsewhere.example", "..", "%2f", "?"])
        )
        .map("".join)
        .map("/".__add__),
    )
)
@example("/admin/audit?person=a&kind=login.rejected")
def test_whatever_was_asked_for_stays_on_this_portal(text: str) -> None:
    path = own_path(text)

    assert path in {text, "/"}
    assert path.startswith("/")
    assert as_browsers_read_it(path) == "portal.example.com"
    assert path.isascii()
    assert path.isprintable()


@pytest.mark.parametrize("text", ELSEWHERE, ids=ascii)
def test_an_address_elsewhere_becomes_the_front_page(text: str) -> None:
    assert own_path(text) == "/"


@pytest.mark.parametrize(
    "text", ["/", "/admin/audit", "/admin/audit?since=2026-11-23T09:30&person=a%20b", "/a//b", "/a/.."]
)
def test_an_own_address_is_kept(text: str) -> None:
    assert own_path(text) == text


@pytest.mark.parametrize("text", ELSEWHERE[:12], ids=ascii)
def test_no_form_of_the_portal_leads_elsewhere(text: str) -> None:
    browser = World().browser()

    form = browser.get("/login", query_string={"next": text})
    assert 'name="next" value="/"' in form.text
    switched = browser.post("/language", {"language": "ja", "next": text})
    assert switched.headers["Location"] == "/"
    assert browser.sign_in(HANAKO, next=text).headers["Location"] == "/"
    assert browser.get("/login", query_string={"next": text}).headers["Location"] == "/"
