"""What a person or a program is told when something refuses or fails."""

from __future__ import annotations

import inspect
import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest

from broker.core import errors
from broker.core.errors import BrokerError
from broker.web.errors import ANSWERS, error_json, error_page, shown
from broker.web.visit import begin_visit, visit
from tests.core.examples import ASKED
from tests.web.world import HANAKO, Browser, World

FIELDS: dict[str, Any] = {
    "cause": errors.LoginCause.DISABLED,
    "principal_id": "A" * 26,
    "entitlement_id": "home",
    "exists": True,
    "minimum": timedelta(minutes=15),
    "maximum": timedelta(hours=8, minutes=30),
    "use": "console",
    "wait": timedelta(minutes=3),
    "attribute": "department",
    "why": "operator's words",
    "characters": 3000,
    "limit": 2048,
    "asked": ASKED,
    "problem": "operator's words",
    "answer": errors.TokenServiceAnswer("OperatorsCode", "operator's words", "0000"),
    "code": "AccessDenied",
    "message": "operator's words",
    "field": "older",
    "name": "operator's words",
    "matches": 2,
    "factor_cause": errors.SecondFactorCause.CODE_USED,
    "remembered_for": timedelta(minutes=15),
    "shortest": 12,
    "longest": 1024,
}
STATUSES = {401, 400, 403, 404, 405, 409, 413, 429, 500, 502, 503}


def leaves(kind: type[BrokerError] = BrokerError) -> Iterator[type[BrokerError]]:
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    for child in children:
        yield from leaves(child)
    if not children:
        yield kind


def made(kind: type[BrokerError]) -> BrokerError:
    names = inspect.signature(kind.__init__).parameters.values()
    given = {each.name: FIELDS[each.name] for each in names if each.default is each.empty and each.name in FIELDS}
    return kind(**given)


def lines(log: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_every_leaf_of_the_error_tree_has_an_answer_and_nothing_else_does() -> None:
    assert set(ANSWERS) == set(leaves())


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("kind", list(leaves()), ids=lambda kind: kind.__name__)
def test_every_error_is_a_page_and_json_in_both_languages(kind: type[BrokerError], language: str, world: World) -> None:
    error = made(kind)
    with world.app.test_request_context("/", headers={"Accept-Language": language}):
        begin_visit()
        about = shown(error)
        page, program = error_page(error), error_json(error)
        reference = visit().reference_id
        html = page.get_data(as_text=True)

    assert about.status in STATUSES
    assert page.status_code == program.status_code == about.status
    japanese = re.compile(r"[\u3041-\u30ff\u4e00-\u9fff]")
    for text in (about.title, about.message, about.advice):
        assert text
        assert "%(" not in text
        assert bool(japanese.search(text)) == (language == "ja"), text
    assert f'<html lang="{language}">' in html
    assert reference in html
    assert program.get_json()["reference"] == reference
    assert program.get_json()["error"] == about.code
    assert "operator's words" not in html + program.get_data(as_text=True)
    comes_back = errors.Unavailable | errors.LoginThrottled | errors.SessionsRevoked
    assert ("Retry-After" in page.headers) == isinstance(error, comes_back)


def test_an_error_names_what_a_person_can_do_something_about(world: World) -> None:
    with world.app.test_request_context("/"):
        assert "15 minutes" in shown(made(errors.DurationTooShort)).message
        assert "8 hours 30 minutes" in shown(made(errors.DurationTooLong)).message
        assert "department" in shown(made(errors.AttributeUnusable)).message


def test_the_page_and_the_log_and_the_audit_hold_the_same_reference(
    hanako: Browser, world: World, log: StringIO
) -> None:
    answer = hanako.post("/issue/nothing/credentials")

    assert answer.status_code == 404
    found = re.search(r"<code>([A-Z2-7]{12})</code>", answer.text)
    assert found
    about = [line for line in lines(log) if line["reference_id"] == found.group(1)]
    assert [line["event"] for line in about] == ["refused", "request"]
    assert about[0]["error"] == "EntitlementNotHeld"
    assert about[1] | {"milliseconds": 0, "timestamp": ""} == {
        "event": "request",
        "level": "info",
        "method": "POST",
        "route": "/issue/<entitlement_id>/credentials",
        "status": 404,
        "milliseconds": 0,
        "principal_id": HANAKO.principal.id,
        "reference_id": found.group(1),
        "timestamp": "",
    }
    assert world.audit.events[-1].reference_id == found.group(1)


def test_an_unforeseen_error_is_a_plain_page_and_the_log_has_places_but_no_values(
    hanako: Browser, world: World, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choke(_principal_id: str) -> None:
        raise KeyError("hunter22")

    monkeypatch.setattr(world.directory, "principal_by_id", choke)

    answer = hanako.get("/")

    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "KeyError" not in answer.text
    assert "Traceback" not in answer.text
    [failed] = [line for line in lines(log) if line["event"] == "failed"]
    assert failed["reference_id"] in answer.text
    assert "builtins.KeyError" in failed["trace"]
    assert any("in choke" in place for place in failed["trace"])
    assert "hunter22" not in log.getvalue()


def test_a_defect_in_answering_an_error_is_logged_with_its_place(
    hanako: Browser, world: World, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.directory.people.clear()

    def choke(_principal_id: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.sessions, "end_all", choke)

    assert hanako.get("/").status_code == 500
    assert any("in choke" in place for line in lines(log) for place in line.get("trace", ()))


@pytest.mark.parametrize("length", [65 * 1024, 10 * 1024 * 1024])
def test_a_body_larger_than_any_form_is_refused_unread(length: int, browser: Browser, world: World) -> None:
    token = browser.form_token()

    form = {"csrf_token": token, "username": "hanako", "password": "x" * length}
    answer = browser.client.post("/login", data=form)

    assert answer.status_code == 413
    assert "Too much was sent" in answer.text
    assert world.audit.events == []


def test_a_form_of_very_many_parts_is_refused(browser: Browser) -> None:
    parts = {f"field{number}": (io.BytesIO(b""), "") for number in range(600)}

    assert browser.client.post("/login", data=parts, content_type="multipart/form-data").status_code == 413


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\xff\xfe=\x80", "application/x-www-form-urlencoded"),
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data"),
        (b'{"username": "hanako"}', "application/json"),
        (b"", ""),
    ],
)
def test_a_body_that_is_no_form_does_nothing(body: bytes, content_type: str, browser: Browser, world: World) -> None:
    answer = browser.client.post("/login", data=body, content_type=content_type)

    assert answer.status_code == 400
    assert world.audit.events == []


@pytest.mark.parametrize("accept", ["application/json", "application/json;q=0.9,text/html;q=0.8"])
def test_a_program_that_asks_for_json_gets_json(accept: str, browser: Browser) -> None:
    answer = browser.get("/nowhere", headers={"Accept": accept})

    assert answer.status_code == 404
    assert set(answer.get_json()) == {"error", "message", "reference"}
    assert answer.get_json()["error"] == "page-not-found"


@pytest.mark.parametrize(
    "accept", ["text/html", "*/*", "", "nonsense", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"]
)
def test_everybody_else_gets_a_page(accept: str, browser: Browser) -> None:
    answer = browser.get("/nowhere", headers={"Accept": accept})

    assert answer.status_code == 404
    assert answer.mimetype == "text/html"
    assert "Page not found" in answer.text
