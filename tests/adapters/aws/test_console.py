"""Console sign-in: against the stand-in's own page, and against a server that answers as told."""

from __future__ import annotations

import json
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.adapters.aws import console as console_sign_in
from broker.adapters.aws import tries
from broker.adapters.aws.console import FederationSignIn
from broker.adapters.aws.sts import StsTokenService
from broker.adapters.signing_keys import FileSigningKey
from broker.core.console import console_destination
from broker.core.credentials import ConsoleUrl
from broker.core.entitlements import Narrowing, Use
from broker.core.errors import ConsoleSignInUnavailable
from broker.core.session_policy import policy_for
from tests.adapters.aws.answering import Answer, AnsweringServer, Asked, Drip, HangUp, Silence
from tests.adapters.aws.conftest import TIMEOUT, impatient_console
from tests.adapters.aws.exchange import SECRET_KEY, SESSION_TOKEN, assertion_for, exchange, logged, shown
from tests.core.examples import grant

PORTAL = "https://broker.example.com"
PAGE = "https://ap-northeast-1.console.aws.amazon.com/s3/buckets/corp-home?region=ap-northeast-1&prefix=hanako/"
TOKEN = "token-" + "AbC-_9" * 20


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, like those of STS."""
    monkeypatch.setattr(tries, "FIRST_PAUSE", timedelta(milliseconds=2))


def call(server: AnsweringServer) -> ConsoleUrl:
    return impatient_console(server.url).sign_in_url(grant(use=Use.CONSOLE), exchange(), PAGE, PORTAL)


def unavailable(server: AnsweringServer) -> ConsoleSignInUnavailable:
    with pytest.raises(ConsoleSignInUnavailable) as caught:
        call(server)
    everything = shown(caught.value)
    assert not [secret for secret in (SECRET_KEY, SESSION_TOKEN, TOKEN) if secret in everything]
    return caught.value


# --- The real stand-in


def test_the_address_opens_the_console_at_the_own_folder(
    sts: StsTokenService, console: FederationSignIn, key: FileSigningKey
) -> None:
    made = grant(use=Use.CONSOLE)
    issued = sts.assume_role_with_saml(made, assertion_for(made, key), policy_for(made))
    url = console.sign_in_url(made, issued, console_destination(made, None), PORTAL).url.reveal()
    http = urllib3.PoolManager()
    entered = http.request("GET", url, redirect=False)
    assert entered.status == 302
    cookie = entered.headers["Set-Cookie"].partition(";")[0]
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    page = http.request("GET", origin + entered.headers["Location"], headers={"Cookie": cookie}).data.decode()
    assert "assumed-role/StaffFiles/hanako" in page
    assert "welcome.txt" in page
    neighbour = http.request("GET", f"{origin}/console?bucket=corp-home&prefix=ken/", headers={"Cookie": cookie})
    assert "AccessDenied" in neighbour.data.decode()
    assert "welcome.txt" not in neighbour.data.decode()


def test_the_console_session_lasts_as_long_as_was_granted(
    sts: StsTokenService, console: FederationSignIn, key: FileSigningKey
) -> None:
    made = grant(use=Use.CONSOLE, narrowing=Narrowing(duration=timedelta(minutes=20)))
    issued = sts.assume_role_with_saml(made, assertion_for(made, key), policy_for(made))
    url = console.sign_in_url(made, issued, PAGE, PORTAL).url.reveal()
    entered = urllib3.PoolManager().request("GET", url, redirect=False)
    assert "Max-Age=1200;" in entered.headers["Set-Cookie"] or "Max-Age=1199;" in entered.headers["Set-Cookie"]


def test_credentials_that_the_service_does_not_know_open_nothing(console: FederationSignIn) -> None:
    with pytest.raises(ConsoleSignInUnavailable, match="the sign-in service answered 400"):
        console.sign_in_url(grant(use=Use.CONSOLE), exchange(), PAGE, PORTAL)


# --- A server that answers as told


def test_the_credentials_go_in_the_body_of_one_post_and_the_token_into_the_address(server: AnsweringServer) -> None:
    server.answer(200, json.dumps({"SigninToken": TOKEN}))
    url = call(server).url.reveal()
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/federation")
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert {name: value for name, value in asked.fields.items() if name != "Session"} == {
        "Action": "getSigninToken",
        "SessionDuration": "28800",
    }
    assert json.loads(asked.fields["Session"]) == {
        "sessionId": "ASIAEXAMPLE000000001",
        "sessionKey": SECRET_KEY,
        "sessionToken": SESSION_TOKEN,
    }
    assert url.startswith(f"{server.url}/federation?")
    query = {"Action": ["login"], "Issuer": [PORTAL], "Destination": [PAGE], "SigninToken": [TOKEN]}
    assert parse_qs(urlsplit(url).query) == query
    assert SECRET_KEY not in url
    assert SESSION_TOKEN not in url


def test_a_400_is_tried_once_more_without_the_duration(server: AnsweringServer) -> None:
    def answer(asked: Asked) -> Answer:
        if "SessionDuration" in asked.fields:
            return Answer(400, b"SessionDuration is not allowed")
        return Answer(200, json.dumps({"SigninToken": TOKEN}).encode())

    server.script = answer
    assert TOKEN in call(server).url.reveal()
    first, second = server.asked
    assert {**second.fields, "SessionDuration": "28800"} == first.fields


def test_a_400_twice_is_an_outage_and_there_is_no_third_try(server: AnsweringServer) -> None:
    server.answer(400, f"Invalid credentials parameter {SECRET_KEY}")
    assert str(unavailable(server)) == "the sign-in service answered 400"
    assert len(server.asked) == 2


def test_a_session_that_the_role_shortened_is_as_short_in_the_console(server: AnsweringServer) -> None:
    server.answer(200, json.dumps({"SigninToken": TOKEN}))
    shortened = replace(exchange(), shortened_to=timedelta(hours=1))
    impatient_console(server.url).sign_in_url(grant(use=Use.CONSOLE), shortened, PAGE, PORTAL)
    assert server.asked[0].fields["SessionDuration"] == "3600"


def test_an_answer_that_drips_is_bounded_as_a_whole(server: AnsweringServer) -> None:
    server.script = lambda _: Drip(json.dumps({"SigninToken": TOKEN}).encode(), seconds_between=0.2)
    began = time.monotonic()
    assert str(unavailable(server)) == "no answer from the sign-in service: TimeLimitPassed"
    assert time.monotonic() - began < 2 * TIMEOUT.total_seconds() + 1


PASSING = [HangUp(), Answer(200, b'{"SigninToken": "', length=500), Answer(429), Answer(500), Answer(502), Answer(503)]


@pytest.mark.parametrize(
    "passing", PASSING, ids=lambda passing: f"{type(passing).__name__} {getattr(passing, 'status', '')}"
)
def test_what_goes_away_by_itself_is_asked_once_more_with_the_same_credentials(
    server: AnsweringServer, passing: Answer | HangUp
) -> None:
    left: list[Answer | HangUp] = [passing, Answer(200, json.dumps({"SigninToken": TOKEN}).encode())]
    server.script = lambda _: left.pop(0)
    assert TOKEN in call(server).url.reveal()
    assert len({asked.body for asked in server.asked}) == 1
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_service_that_stays_busy_is_given_up_after_two_requests(server: AnsweringServer, status: int) -> None:
    server.answer(status, json.dumps({"SigninToken": TOKEN}))
    assert str(unavailable(server)) == f"the sign-in service answered {status}"
    assert len(server.asked) == 2


def test_each_try_is_logged_with_its_number_and_cause(server: AnsweringServer) -> None:
    made = grant(use=Use.CONSOLE)
    left: list[Answer | HangUp] = [HangUp(), Answer(400), Answer(503)]
    server.script = lambda _: left.pop(0)
    with capture_logs() as log, pytest.raises(ConsoleSignInUnavailable, match="answered 503"):
        impatient_console(server.url).sign_in_url(made, exchange(), PAGE, PORTAL)
    warned = {"log_level": "warning", "grant": made.id}
    assert log == [
        {"event": "no answer from the sign-in service", **warned, "number": 1, "cause": "ProtocolError"},
        {"event": "the sign-in service refused", **warned, "number": 2, "status": 400},
        {"event": "the sign-in service is busy", **warned, "number": 3, "status": 503},
    ]
    server.answer(200, json.dumps({"SigninToken": TOKEN}))
    with capture_logs() as log:
        impatient_console(server.url).sign_in_url(made, exchange(), PAGE, PORTAL)
    answered = {"event": "the sign-in service answered", "log_level": "info", "grant": made.id, "number": 1}
    assert log == [answered]


def test_the_second_try_has_what_the_first_one_left_of_the_time(server: AnsweringServer) -> None:
    def slow(_: Asked) -> Answer | Drip:
        if len(server.asked) > 1:
            return Drip(json.dumps({"SigninToken": TOKEN}).encode(), seconds_between=0.2)
        time.sleep(0.8 * TIMEOUT.total_seconds())
        return Answer(503)

    server.script = slow
    began = time.monotonic()
    assert str(unavailable(server)) == "no answer from the sign-in service: TimeLimitPassed"
    assert time.monotonic() - began < 2.7 * TIMEOUT.total_seconds()
    assert len(server.asked) == 2


def test_with_too_little_time_left_there_is_no_second_try(
    server: AnsweringServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_sign_in, "SHORTEST_TRY", 2 * TIMEOUT)
    server.answer(503)
    assert str(unavailable(server)) == "the sign-in service answered 503"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [201, 204, 401, 403, 404])
def test_any_other_answer_is_an_outage_after_one_request(server: AnsweringServer, status: int) -> None:
    server.answer(status, "" if status == 204 else json.dumps({"SigninToken": TOKEN}))
    assert str(unavailable(server)) == f"the sign-in service answered {status}"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_with_the_credentials(server: AnsweringServer, status: int) -> None:
    server.answer(status, "", Location=f"{server.url}/elsewhere")
    assert str(unavailable(server)) == f"the sign-in service answered {status}"
    assert [asked.path for asked in server.asked] == ["/federation"]


GARBAGE = [
    "",
    "null",
    "[]",
    "{}",
    "7",
    '"SigninToken"',
    '{"SigninToken": 7}',
    '{"SigninToken": ""}',
    "{",
    "<html>",
    "[" * 9999,
]


@pytest.mark.parametrize("body", [*GARBAGE, b"\xff\xfe\x00", '{"SigninToken": "\\ud800"}', '{"SigninToken": null}'])
def test_an_answer_without_a_token_is_an_outage(server: AnsweringServer, body: str | bytes) -> None:
    server.answer(200, body)
    assert str(unavailable(server)) == "the sign-in service's answer holds no sign-in token"
    assert len(server.asked) == 1


def test_a_token_of_any_characters_is_one_parameter(server: AnsweringServer) -> None:
    server.answer(200, json.dumps({"SigninToken": "a&Destination=https://evil.example#b c"}))
    query = parse_qs(urlsplit(call(server).url.reveal()).query)
    assert query["Destination"] == [PAGE]
    assert query["SigninToken"] == ["a&Destination=https://evil.example#b c"]


def test_a_silent_service_is_given_up_in_time_after_one_request(server: AnsweringServer) -> None:
    server.script = lambda _: Silence()
    began = time.monotonic()
    assert str(unavailable(server)) == "no answer from the sign-in service: ReadTimeoutError"
    assert TIMEOUT.total_seconds() <= time.monotonic() - began < 4 * TIMEOUT.total_seconds()
    assert len(server.asked) == 1


def test_a_service_that_hangs_up_or_breaks_off_is_an_outage(server: AnsweringServer) -> None:
    server.script = lambda _: HangUp()
    unavailable(server)
    server.script = lambda _: Answer(200, b'{"SigninToken": "', length=500)
    unavailable(server)
    assert len(server.asked) == 4


def test_a_service_that_is_down_is_an_outage() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        console = impatient_console(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with capture_logs() as log, pytest.raises(ConsoleSignInUnavailable) as caught:
            console.sign_in_url(grant(use=Use.CONSOLE), exchange(), PAGE, PORTAL)
    assert len(log) == 2
    assert str(caught.value) == "no answer from the sign-in service: NewConnectionError"
    assert SECRET_KEY not in shown(caught.value)


@pytest.fixture
def shared(server: AnsweringServer) -> FederationSignIn:
    return impatient_console(server.url)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(status=st.sampled_from([200, 200, 400, 500, 302]), body=st.binary(max_size=60) | st.text(max_size=60))
def test_whatever_is_answered_is_an_outage(
    server: AnsweringServer, shared: FederationSignIn, status: int, body: bytes | str
) -> None:
    server.answer(status, body)
    with pytest.raises(ConsoleSignInUnavailable):
        shared.sign_in_url(grant(use=Use.CONSOLE), exchange(), PAGE, PORTAL)


def test_no_log_at_any_level_holds_the_credentials_or_the_token(
    server: AnsweringServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer(200, json.dumps({"SigninToken": TOKEN}))
    call(server)
    server.answer(500, SECRET_KEY)
    unavailable(server)
    everything = logged(caplog.records)
    assert not [secret for secret in (SECRET_KEY, SESSION_TOKEN, TOKEN) if secret in everything]


def test_threads_get_their_own_tokens_over_connections_they_share(
    server: AnsweringServer, shared: FederationSignIn
) -> None:
    server.script = lambda asked: Answer(200, json.dumps({"SigninToken": asked.fields["SessionDuration"]}).encode())

    def token(seconds: int) -> str:
        made = grant(use=Use.CONSOLE, narrowing=Narrowing(duration=timedelta(seconds=seconds)))
        url = shared.sign_in_url(made, exchange(), PAGE, PORTAL).url.reveal()
        return parse_qs(urlsplit(url).query)["SigninToken"][0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(token, range(900, 940))) == [str(seconds) for seconds in range(900, 940)]
