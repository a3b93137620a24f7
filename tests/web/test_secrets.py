"""No secret reaches a log, an audit row or a page that is not for it."""

from __future__ import annotations

import logging
from io import StringIO
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.core import errors
from broker.core.audit import EventKind
from broker.web.request_log import describe_exception
from tests.web.world import HANAKO, Browser, World


def cookie_of(browser: Browser, name: str) -> str:
    cookie = browser.client.get_cookie(name)
    assert cookie is not None
    return cookie.value


def test_a_whole_journey_leaves_no_secret_in_log_or_audit(world: World, log: StringIO) -> None:
    browser = world.browser()
    browser.sign_in(HANAKO, password="mistyped-hunter22")
    browser.sign_in(HANAKO, username="hunter23-in-the-wrong-field")
    browser.sign_in(HANAKO)
    token = browser.form_token()
    session = cookie_of(browser, "broker_session")
    visitor = cookie_of(browser, "broker_visitor")
    issued = browser.post("/issue/home/credentials", headers={"Accept": "application/json"}).get_json()
    opened = browser.post("/issue/home/console")
    sign_in_token = parse_qs(urlsplit(opened.headers["Location"]).query)["SigninToken"][0]
    world.token_service.fails = errors.TokenServiceUnavailable("timed out")
    browser.post("/issue/home/credentials")
    browser.get(f"/nowhere/{issued['SessionToken']}?secret={issued['SecretAccessKey']}")
    browser.post("/logout")

    kept = log.getvalue() + repr(world.audit.events)
    assert "issuance.succeeded" in kept
    assert issued["AccessKeyId"] in kept
    for secret in (
        HANAKO.password,
        "mistyped-hunter22",
        "hunter23-in-the-wrong-field",
        token,
        session,
        visitor,
        issued["SecretAccessKey"],
        issued["SessionToken"],
        sign_in_token,
    ):
        assert secret not in kept
    assert [event.kind for event in world.audit.events][:2] == [EventKind.LOGIN_REJECTED] * 2


def test_credentials_are_on_their_page_only_and_never_shown_again(hanako: Browser) -> None:
    secret = "secret/key+"
    assert secret in hanako.post("/issue/home/credentials").text

    for path in ("/", "/login", "/admin/audit"):
        assert secret not in hanako.get(path, follow_redirects=True).text
    assert secret not in hanako.post("/logout").text


def test_a_failure_while_credentials_are_shown_does_not_quote_them(
    hanako: Browser, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choke(variables: dict[str, str]) -> str:
        raise ValueError(f"cannot quote {variables}")

    monkeypatch.setattr("broker.web.shell.for_posix_shell", choke)

    answer = hanako.post("/issue/home/credentials")

    assert answer.status_code == 500
    assert "builtins.ValueError" in log.getvalue()
    for secret in ("secret/key+", "token//"):
        assert secret not in answer.text + log.getvalue()


def fail_as_a_library() -> None:
    raise OSError("bind as hanako with hunter22")


def fail_as_an_adapter() -> None:
    try:
        fail_as_a_library()
    except OSError as cause:
        raise errors.DirectoryUnavailable("no server answered") from cause


def test_a_library_that_logs_an_exception_gets_its_places_logged_and_not_its_text(log: StringIO) -> None:
    try:
        fail_as_a_library()
    except OSError:
        logging.getLogger("some.library").exception("it failed")

    assert "builtins.OSError" in log.getvalue()
    assert "test_secrets.py" in log.getvalue()
    assert "hunter22" not in log.getvalue()


def test_an_exception_is_described_with_its_causes_and_only_our_own_words() -> None:
    with pytest.raises(errors.DirectoryUnavailable) as raised:
        fail_as_an_adapter()

    lines = describe_exception(raised.value)
    assert lines[0] == "broker.core.errors.DirectoryUnavailable: no server answered"
    assert "builtins.OSError" in lines
    assert "hunter22" not in "".join(lines)


def test_a_circle_of_causes_is_described_once() -> None:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one

    assert describe_exception(one) == ["builtins.ValueError", "builtins.KeyError"]


def test_a_portal_does_not_show_its_secrets_when_it_is_printed() -> None:
    world = World(demo=True, demo_people=(("hanako", "hunter22", ""),), secret_key=b"not for printing" * 2)

    assert "hunter22" not in repr(world.portal)
    assert "not for printing" not in repr(world.portal)


def test_keys_for_different_purposes_differ(world: World) -> None:
    assert world.portal.derived_key("csrf") != world.portal.derived_key("other")
    assert len(world.portal.derived_key("csrf")) == 32
