"""English and Japanese, chosen by the browser and switchable."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.web.language import duration_words
from tests.web.world import HANAKO, Browser, World


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("ja", "ja"),
        ("ja-JP,ja;q=0.9,en-US;q=0.8", "ja"),
        ("en-GB,en;q=0.9,ja;q=0.8", "en"),
        ("fr,ja;q=0.5", "ja"),
        ("fr", "en"),
        ("", "en"),
        ("*", "en"),
        ("ja;q=nonsense, ,;;", "en"),
        ("\u00e9" * 50, "en"),
    ],
)
def test_the_browser_chooses_the_language(accepted: str, language: str, world: World) -> None:
    page = world.browser(accepted).get("/login")

    assert f'<html lang="{language}">' in page.text
    assert page.headers["Content-Language"] == language
    assert ("サインイン" in page.text) == (language == "ja")


def test_a_person_switches_and_the_choice_stays_and_the_page_comes_back(world: World) -> None:
    browser = world.browser("en")

    answer = browser.post("/language", {"language": "ja", "next": "/login?next=/admin/audit"})

    assert answer.status_code == 303
    assert answer.headers["Location"] == "/login?next=/admin/audit"
    assert '<html lang="ja">' in browser.get(answer.headers["Location"]).text
    assert '<html lang="ja">' in browser.get("/nowhere").text
    browser.post("/language", {"language": "en"})
    assert '<html lang="en">' in browser.get("/login").text


def test_a_signed_in_person_switches_without_being_signed_out(hanako: Browser) -> None:
    assert hanako.post("/language", {"language": "ja", "next": "/"}).status_code == 303

    assert "アクセス権" in hanako.get("/").text


def test_the_switch_offers_the_other_language_in_its_own_words(world: World) -> None:
    assert 'value="ja" lang="ja" translate="no"' in world.browser("en").get("/login").text
    english = world.browser("ja").get("/login").text
    assert 'value="en" lang="en" translate="no"' in english
    assert ">English<" in english


@pytest.mark.parametrize("language", ["", "fr", "ja\r\nX: y", "../ja", "JA"])
def test_a_language_that_is_none_of_ours_is_refused(language: str, browser: Browser) -> None:
    answer = browser.post("/language", {"language": language})

    assert answer.status_code == 400
    assert "Set-Cookie" not in answer.headers


def test_a_cookie_with_another_language_counts_for_nothing(browser: Browser) -> None:
    browser.client.set_cookie("broker_language", "xx")

    assert '<html lang="en">' in browser.get("/login").text


def test_failures_as_json_are_in_the_language_of_the_request(world: World) -> None:
    answer = world.browser("ja").get("/nowhere", headers={"Accept": "application/json"})

    assert answer.get_json()["message"].startswith("このアドレスにページはありません。")
    assert answer.headers["Content-Language"] == "ja"


def test_the_credentials_page_offers_no_switch_since_switching_would_lose_them(hanako: Browser) -> None:
    assert 'action="/language"' not in hanako.post("/issue/home/credentials").text
    assert 'action="/language"' in hanako.get("/").text


@pytest.mark.parametrize(
    ("duration", "english", "japanese"),
    [
        (timedelta(minutes=15), "15 minutes", "15 分"),
        (timedelta(hours=1), "1 hour", "1 時間"),
        (timedelta(hours=8, minutes=1), "8 hours 1 minute", "8 時間 1 分"),
        (timedelta(seconds=901), "15 minutes 1 second", "15 分 1 秒"),
        (timedelta(hours=12, seconds=59), "12 hours 59 seconds", "12 時間 59 秒"),
    ],
)
def test_durations_are_words(duration: timedelta, english: str, japanese: str, world: World) -> None:
    for language, words in (("en", english), ("ja", japanese)):
        with world.app.test_request_context(headers={"Accept-Language": language}):
            assert duration_words(duration) == words


def test_times_are_in_utc_and_say_so(world: World) -> None:
    browser = world.browser("ja")
    browser.sign_in(HANAKO)

    page = browser.post("/issue/home/credentials", {"duration": "3600"}).text

    assert '<time datetime="2026-11-23T10:30:00Z" data-local-time>2026/11/23 10:30:00 UTC</time>' in page
