"""Which addresses there are, and who may ask for them."""

from __future__ import annotations

import pytest
from werkzeug.routing import Rule

from broker.web.access import COOKIELESS_ENDPOINTS, OPEN_ENDPOINTS
from tests.web.world import HANAKO, Browser, World, csrf_token

CONTRACT = {
    "/": {"GET"},
    "/login": {"GET", "POST"},
    "/logout": {"POST"},
    "/account": {"GET"},
    "/account/browsers/end": {"POST"},
    "/account/events": {"GET"},
    "/account/browsers/forget": {"POST"},
    "/password": {"GET", "POST"},
    "/language": {"POST"},
    "/issue/<entitlement_id>/credentials": {"POST"},
    "/issue/<entitlement_id>/console": {"POST"},
    "/admin/audit": {"GET"},
    "/admin/audit.csv": {"GET"},
    "/admin/audit.jsonl": {"GET"},
    "/admin/audit/<event_id>": {"GET"},
    "/admin/holds": {"GET"},
    "/admin/holds/lift": {"POST"},
    "/admin/keys": {"GET"},
    "/admin/second-factors": {"GET"},
    "/admin/second-factors/reset": {"POST"},
    "/second-factor": {"GET", "POST"},
    "/account/second-factors": {"GET"},
    "/account/second-factors/totp": {"GET", "POST"},
    "/account/second-factors/passkey": {"GET", "POST"},
    "/account/second-factors/recovery-codes": {"POST"},
    "/account/second-factors/<factor_id>/remove": {"POST"},
    "/admin/sessions": {"GET"},
    "/admin/sessions/revoke": {"GET"},
    "/admin/sessions/end": {"POST"},
    "/admin/sessions/revocations": {"GET"},
    "/sessions": {"GET"},
    "/saml/metadata": {"GET"},
    "/saml/sso": {"GET", "POST"},
    "/healthz": {"GET"},
    "/readyz": {"GET"},
    "/metrics": {"GET"},
    "/static/<path:filename>": {"GET"},
}
RULES: tuple[Rule, ...] = tuple(World().app.url_map.iter_rules())
CLOSED = tuple(rule for rule in RULES if rule.endpoint not in OPEN_ENDPOINTS)
POSTS = tuple(rule for rule in RULES if "POST" in rule.methods and rule.endpoint not in COOKIELESS_ENDPOINTS)  # type: ignore[operator]  # methods is a set on every rule of Flask


def path_of(rule: Rule) -> str:
    return str(rule.rule).replace("<entitlement_id>", "home").replace("<path:filename>", "portal.css")


def name_of(rule: Rule) -> str:
    return str(rule.endpoint)


def test_the_routes_are_those_of_the_public_contract() -> None:
    assert {rule.rule: (rule.methods or set()) - {"HEAD", "OPTIONS"} for rule in RULES} == CONTRACT


def test_open_routes_are_listed_by_name_and_exist() -> None:
    assert {rule.endpoint for rule in RULES} >= OPEN_ENDPOINTS
    assert {rule.rule for rule in CLOSED} == {
        "/",
        "/logout",
        "/account",
        "/account/browsers/end",
        "/account/events",
        "/account/browsers/forget",
        "/password",
        "/issue/<entitlement_id>/credentials",
        "/issue/<entitlement_id>/console",
        "/admin/audit",
        "/admin/audit.csv",
        "/admin/audit.jsonl",
        "/admin/audit/<event_id>",
        "/admin/holds",
        "/admin/holds/lift",
        "/admin/keys",
        "/admin/second-factors",
        "/admin/second-factors/reset",
        "/second-factor",
        "/account/second-factors",
        "/account/second-factors/totp",
        "/account/second-factors/passkey",
        "/account/second-factors/recovery-codes",
        "/account/second-factors/<factor_id>/remove",
        "/admin/sessions",
        "/admin/sessions/revoke",
        "/admin/sessions/end",
        "/admin/sessions/revocations",
        "/sessions",
    }


@pytest.mark.parametrize("rule", CLOSED, ids=name_of)
def test_a_closed_route_sends_signed_out_browsers_to_the_sign_in_form(rule: Rule, world: World) -> None:
    client = world.app.test_client()
    method = "GET" if "GET" in (rule.methods or ()) else "POST"

    answer = client.open(path_of(rule), method=method)

    if method == "GET":
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith("/login")
    else:
        assert answer.status_code == 401
        assert 'action="/login"' in answer.text
    assert world.token_service.exchanged == []
    assert world.audit.events == []


@pytest.mark.parametrize("rule", CLOSED, ids=name_of)
def test_a_closed_route_answers_programs_that_are_not_signed_in_with_json(rule: Rule, world: World) -> None:
    method = "GET" if "GET" in (rule.methods or ()) else "POST"

    answer = world.app.test_client().open(path_of(rule), method=method, headers={"Accept": "application/json"})

    assert answer.status_code == 401
    assert answer.get_json()["error"] == "not-signed-in"


@pytest.mark.parametrize("rule", POSTS, ids=name_of)
def test_a_post_without_a_token_does_nothing(rule: Rule, hanako: Browser, world: World) -> None:
    before = list(world.audit.events)

    answer = hanako.client.post(path_of(rule), data=form_for(rule))

    assert answer.status_code == 400
    assert world.audit.events == before
    assert world.token_service.exchanged == []
    assert hanako.get("/").status_code == 200


@pytest.mark.parametrize("rule", POSTS, ids=name_of)
def test_a_post_with_a_token_of_another_browser_does_nothing(rule: Rule, hanako: Browser, world: World) -> None:
    other = world.browser()
    other.sign_in(HANAKO)
    before = list(world.audit.events)

    answer = hanako.client.post(path_of(rule), data={"csrf_token": other.form_token(), **form_for(rule)})

    assert answer.status_code == 400
    assert world.audit.events == before
    assert world.token_service.exchanged == []


@pytest.mark.parametrize("rule", POSTS, ids=name_of)
def test_a_post_with_a_token_of_the_sign_in_before_does_nothing(rule: Rule, hanako: Browser, world: World) -> None:
    stale = hanako.form_token()
    hanako.post("/logout")
    assert hanako.sign_in(HANAKO).status_code == 303
    before = list(world.audit.events)

    answer = hanako.client.post(path_of(rule), data={"csrf_token": stale, **form_for(rule)})

    assert answer.status_code == 400
    assert world.audit.events == before
    assert world.token_service.exchanged == []


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "é" * 96,
        "0" * 96,
        "0" * 100_00,
        "\x00",
        "'; --",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
    ids=["empty", "short", "not-ascii", "zeros", "long", "nul", "quotes", "mangled"],
)
def test_any_other_text_is_no_token(token: str, hanako: Browser, world: World) -> None:
    answer = hanako.client.post("/issue/home/credentials", data={"csrf_token": token})

    assert answer.status_code == 400
    assert world.token_service.exchanged == []


def test_a_token_differs_each_time_and_each_is_good(hanako: Browser) -> None:
    tokens = {hanako.form_token() for _ in range(5)}

    assert len(tokens) == 5
    for token in tokens:
        answer = hanako.client.post("/issue/home/credentials", data={"csrf_token": token})
        assert answer.status_code == 200


def test_a_token_with_one_other_character_is_none(hanako: Browser) -> None:
    token = hanako.form_token()
    for place in (0, 31, 32, 95):
        other = token[:place] + ("0" if token[place] != "0" else "1") + token[place + 1 :]
        assert hanako.client.post("/language", data={"csrf_token": other, "language": "ja"}).status_code == 400


def test_the_sign_in_form_that_was_shown_to_a_signed_out_browser_does_not_open_closed_routes(world: World) -> None:
    browser = world.browser()
    visitors = csrf_token(browser.get("/login"))
    browser.sign_in(HANAKO)

    assert browser.client.post("/logout", data={"csrf_token": visitors}).status_code == 400


def test_an_expired_sign_in_form_comes_back_fresh_with_the_name_and_without_the_password(browser: Browser) -> None:
    form = {"csrf_token": "stale", "username": "hanako", "password": "hunter22", "next": "/admin/audit"}

    answer = browser.client.post("/login", data=form)

    assert answer.status_code == 400
    assert 'value="hanako"' in answer.text
    assert 'value="/admin/audit"' in answer.text
    assert "hunter22" not in answer.text
    again = browser.client.post("/login", data={**form, "csrf_token": csrf_token(answer), "password": HANAKO.password})
    assert again.status_code == 303


@pytest.mark.parametrize("path", ["/nowhere", "/issue/home", "/issue/home/files", "/admin", "/login/", "/%2e%2e/"])
def test_an_address_of_nothing_is_not_found_and_leads_nowhere_else(path: str, browser: Browser) -> None:
    answer = browser.get(path)

    assert answer.status_code == 404
    assert "Location" not in answer.headers


@pytest.mark.parametrize("path", ["//login", "//elsewhere.example/%2e%2e", "///login", "//"])
def test_slashes_in_front_never_make_a_redirect_to_another_host(path: str, browser: Browser) -> None:
    answer = browser.get("/", environ_overrides={"PATH_INFO": path})

    assert answer.headers.get("Location", "/login") == "/login"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/logout"),
        ("GET", "/issue/home/console"),
        ("PUT", "/"),
        ("DELETE", "/login"),
        ("OPTIONS", "/login"),
        ("TRACE", "/"),
    ],
)
def test_a_method_that_is_not_offered_is_said_to_be(method: str, path: str, browser: Browser) -> None:
    answer = browser.client.open(path, method=method)

    assert answer.status_code == 405
    assert answer.headers["Allow"]


def form_for(rule: Rule) -> dict[str, str]:
    if rule.endpoint == "sign_in.login":
        return {"username": "ken", "password": "ken's password"}
    return {"language": "ja"} if rule.endpoint == "language.switch" else {}
