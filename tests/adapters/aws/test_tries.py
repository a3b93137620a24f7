"""Throttling, outages and a second region: asked again in the open, within one deadline."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from broker.adapters.aws import tries
from broker.adapters.aws.sts import StsTokenService
from broker.core.assertion import SignedAssertion
from broker.core.credentials import Exchange, Secret
from broker.core.entitlements import Grant, Narrowing
from broker.core.errors import (
    DurationAboveChaining,
    DurationAboveRole,
    RegionNotEnabled,
    RoleNotTrusting,
    TokenServiceUnavailable,
)
from broker.core.partitions import Partition
from tests.adapters.aws.answering import (
    Answer,
    AnsweringServer,
    Asked,
    Drip,
    HangUp,
    Script,
    Silence,
    answering,
    cutting_off,
)
from tests.adapters.aws.conftest import TIMEOUT, impatient_sts
from tests.adapters.aws.exchange import SECRET_KEY, SESSION_TOKEN, shown, sts_answer, sts_refusal
from tests.core.examples import ACCOUNT, entitlement, grant

ASSERTION = SignedAssertion("_id", Secret("QXNzZXJ0aW9uIHRoYXQgbm9ib2R5IG1heSBzZWU" * 5))
PATIENT = timedelta(seconds=30)
TOO_LONG = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
CHAINED = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds; what they are drawn from is tested for itself."""
    monkeypatch.setattr(tries, "FIRST_PAUSE", timedelta(milliseconds=2))


def refusal(code: str, message: str = "no", status: int = 400) -> Answer:
    return Answer(status, sts_refusal(code, message).encode())


def one_after_the_other(*answers: Answer | Silence | HangUp | Drip) -> Script:
    """The last one stays."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


GOOD = Answer(200, sts_answer().encode())


def call(server: AnsweringServer, deadline: timedelta = PATIENT, made: Grant | None = None) -> Exchange:
    return impatient_sts(server.url, deadline=deadline).assume_role_with_saml(made or grant(), ASSERTION, None)


def unavailable(server: AnsweringServer, deadline: timedelta = PATIENT) -> TokenServiceUnavailable:
    with pytest.raises(TokenServiceUnavailable) as caught:
        call(server, deadline)
    everything = shown(caught.value)
    assert not [one for one in (ASSERTION.response.reveal(), SECRET_KEY, SESSION_TOKEN) if one in everything]
    assert caught.value.__context__ is None
    return caught.value


# --- Asked again


@pytest.mark.parametrize(
    "passing",
    [
        refusal("Throttling"),
        refusal("ThrottlingException"),
        refusal("RequestLimitExceeded"),
        refusal("TooManyRequestsException"),
        refusal("X", status=429),
        refusal("InternalFailure", status=500),
        refusal("ServiceUnavailable", status=503),
        Answer(502, b"<html>Bad gateway</html>"),
        Answer(503),
        Answer(504),
        HangUp(),
        Answer(200, GOOD.body[:300], length=len(GOOD.body)),
    ],
    ids=lambda passing: f"{getattr(passing, 'status', '')} {getattr(passing, 'body', type(passing).__name__)!r:.40}",
)
def test_what_goes_away_by_itself_is_asked_again_with_the_same_assertion(
    server: AnsweringServer, passing: Answer | HangUp
) -> None:
    server.script = one_after_the_other(passing, passing, GOOD)
    exchange = call(server)
    assert (exchange.tries, exchange.region, exchange.shortened_to) == (3, "ap-northeast-1", None)
    assert len(server.asked) == 3
    assert len({asked.body for asked in server.asked}) == 1


def test_each_try_is_logged_with_its_number_cause_region_and_request(server: AnsweringServer) -> None:
    server.script = one_after_the_other(refusal("Throttling"), HangUp(), GOOD)
    made = grant()
    with capture_logs() as log:
        call(server, made=made)
    where = {"grant": made.id, "region": "ap-northeast-1"}
    busy = {"cause": "STS is busy: Throttling (request req-1)", "request_id": "req-1", "number": 1}
    silent = {"cause": "ConnectionClosedError", "request_id": None, "number": 2}
    assert log == [
        {"event": "no answer from STS", "log_level": "warning", **where, **busy},
        {"event": "no answer from STS", "log_level": "warning", **where, **silent},
        {"event": "STS answered", "log_level": "info", **where, "number": 3, "request_id": "req-1"},
    ]


def test_a_refusal_after_an_outage_says_how_many_tries_it_took(server: AnsweringServer) -> None:
    server.script = one_after_the_other(refusal("Throttling"), refusal("AccessDenied", status=403))
    with pytest.raises(RoleNotTrusting) as caught:
        call(server)
    assert caught.value.tries == 2


def test_an_sts_that_stays_busy_is_given_up_after_six_tries_with_every_cause(server: AnsweringServer) -> None:
    server.script = one_after_the_other(HangUp(), refusal("Throttling"))
    error = unavailable(server)
    assert error.tries == len(server.asked) == 6
    causes = str(error).removeprefix("no answer from STS: ").split("; ")
    assert causes[0] == "try 1 in ap-northeast-1: ConnectionClosedError"
    assert causes[5] == "try 6 in ap-northeast-1: STS is busy: Throttling (request req-1)"


@pytest.mark.parametrize("body", ["", "not xml at all", "{}", sts_answer(Arn=""), sts_answer(AccessKeyId="x")])
def test_an_answer_that_may_hold_credentials_but_cannot_be_used_is_not_asked_for_again(
    server: AnsweringServer, body: str
) -> None:
    server.answer(200, body)
    assert unavailable(server).tries == len(server.asked) == 1


# --- The deadline


def test_a_silent_sts_is_asked_until_the_deadline_and_no_longer(server: AnsweringServer) -> None:
    server.script = lambda _: Silence()
    began = time.monotonic()
    error = unavailable(server, deadline=timedelta(seconds=3.5))
    assert time.monotonic() - began < 4
    assert 2 <= error.tries == len(server.asked) <= 4
    assert str(error).startswith(
        "no answer from STS: try 1 in ap-northeast-1: ReadTimeoutError; try 2 in ap-northeast-1: ReadTimeoutError"
    )


def test_an_answer_that_drips_is_bounded_as_a_whole(server: AnsweringServer) -> None:
    server.script = lambda _: Drip(GOOD.body, seconds_between=0.2)
    began = time.monotonic()
    error = unavailable(server, deadline=timedelta(seconds=1.5))
    assert time.monotonic() - began < 2
    assert error.tries == 1
    assert "it was not done in time" in str(error)


def test_a_try_that_drips_leaves_time_for_another(server: AnsweringServer) -> None:
    server.script = one_after_the_other(Drip(GOOD.body, seconds_between=0.2), GOOD)
    began = time.monotonic()
    assert call(server).tries == 2
    # A try takes no longer than its two timeouts together.
    assert 2 * TIMEOUT.total_seconds() <= time.monotonic() - began < 3


def test_pauses_are_drawn_from_a_growing_span_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_PAUSE", timedelta(milliseconds=250))
    busy = tries.NoAnswer("busy", repeat=True, regional=False)

    def pauses(number: int) -> list[float]:
        drawn = []
        for _ in range(200):
            state = tries.Tries(grant(), ("ap-northeast-1",), time.monotonic() + 60)
            state.made = number
            drawn.append(state.after_no_answer(busy).total_seconds())
        return drawn

    for number, longest in enumerate((0.25, 0.5, 1, 2, 4), start=1):
        drawn = pauses(number)
        assert 0 <= min(drawn) < longest * 0.2
        assert longest * 0.8 < max(drawn) <= longest
        assert len(set(drawn)) > 100


def test_a_pause_beyond_the_deadline_is_not_begun() -> None:
    state = tries.Tries(grant(), ("ap-northeast-1",), time.monotonic() + 0.1)
    state.made = 1
    with pytest.raises(TokenServiceUnavailable):
        state.after_no_answer(tries.NoAnswer("busy", repeat=True, regional=False))
    assert tries.Tries(grant(), ("ap-northeast-1",), time.monotonic() - 5).time_left() == timedelta(0)


# --- A role that gives less


@pytest.mark.parametrize("message", [TOO_LONG, CHAINED])
def test_a_role_that_refuses_the_duration_is_asked_once_more_for_an_hour(server: AnsweringServer, message: str) -> None:
    server.script = one_after_the_other(refusal("ValidationError", message), GOOD)
    exchange = call(server)
    assert (exchange.shortened_to, exchange.tries) == (timedelta(hours=1), 2)
    first, second = (asked.fields for asked in server.asked)
    assert second == {**first, "DurationSeconds": "3600"}


@pytest.mark.parametrize(("message", "leaf"), [(TOO_LONG, DurationAboveRole), (CHAINED, DurationAboveChaining)])
def test_a_role_that_refuses_an_hour_too_is_asked_no_more(
    server: AnsweringServer, message: str, leaf: type[Exception]
) -> None:
    server.script = lambda _: refusal("ValidationError", message)
    with pytest.raises(leaf):
        call(server)
    assert [asked.fields["DurationSeconds"] for asked in server.asked] == ["28800", "3600"]


def test_a_role_that_refuses_an_hour_or_less_is_asked_once(server: AnsweringServer) -> None:
    server.script = lambda _: refusal("ValidationError", TOO_LONG)
    for minutes in (15, 60):
        with pytest.raises(DurationAboveRole):
            call(server, made=grant(narrowing=Narrowing(duration=timedelta(minutes=minutes))))
    assert [asked.fields["DurationSeconds"] for asked in server.asked] == ["900", "3600"]


def test_a_role_that_gives_less_is_warned_of_once_an_hour_and_not_for_each_issuance(server: AnsweringServer) -> None:
    def answer(asked: Asked) -> Answer:
        return GOOD if asked.fields["DurationSeconds"] == "3600" else refusal("ValidationError", TOO_LONG)

    server.script = answer
    clock = grant().authorized_at
    sts = impatient_sts(server.url, deadline=PATIENT, clock=lambda: clock)
    with capture_logs() as log:
        for minutes in (0, 1, 59, 60, 90):
            clock = grant().authorized_at + timedelta(minutes=minutes)
            sts.assume_role_with_saml(grant(), ASSERTION, None)
    said = [line for line in log if line["event"] == "role gives shorter sessions than its entitlement"]
    assert len(said) == 2
    assert said[0]["role"] == "arn:aws:iam::111122223333:role/StaffFiles"
    assert (said[0]["asked_seconds"], said[0]["given_seconds"]) == (28800, 3600)
    assert "aws iam update-role --role-name StaffFiles --max-session-duration 43200" in said[0]["advice"]


def test_a_session_that_nearly_fills_what_sts_packs_is_warned_of_once_an_hour(server: AnsweringServer) -> None:
    sts = impatient_sts(server.url)
    with capture_logs() as log:
        for size in ("79", "80", "81", "95", ""):
            server.answer(200, sts_answer(PackedPolicySize=size))
            sts.assume_role_with_saml(grant(), ASSERTION, None)
    (said,) = [line for line in log if "packs" in line["event"]]
    assert (said["log_level"], said["entitlement"], said["packed_size"]) == ("warning", "home", 81)


# --- A second region

TWO_REGIONS = replace(ACCOUNT, fallback_region="ap-northeast-3")


@dataclass(frozen=True)
class RegionalEndpoints:
    """A server for each region."""

    urls: dict[str, str]

    def sts(self, partition: Partition, region: str) -> str:
        assert partition.name == "aws"
        return self.urls[region]

    def signin(self, partition: Partition) -> str:
        raise AssertionError(partition)

    def s3(self, partition: Partition, region: str) -> str:
        raise AssertionError(partition, region)

    def iam(self, partition: Partition) -> str:
        raise AssertionError(partition)

    def form_action_origins(self) -> tuple[str, ...]:
        return ()


@dataclass
class Regions:
    """Tokyo, Osaka and the adapter before them."""

    tokyo: AnsweringServer
    osaka: AnsweringServer

    def sts(self, tokyo: str | None = None, deadline: timedelta = PATIENT) -> StsTokenService:
        urls = {"ap-northeast-1": tokyo or self.tokyo.url, "ap-northeast-3": self.osaka.url}
        return impatient_sts("", endpoints=RegionalEndpoints(urls), deadline=deadline)

    def asked(self) -> tuple[int, int]:
        return len(self.tokyo.asked), len(self.osaka.asked)


@pytest.fixture
def regions() -> Iterator[Regions]:
    with ExitStack() as stack:
        yield Regions(stack.enter_context(answering()), stack.enter_context(answering()))


def in_two_regions() -> Grant:
    return grant(entitlement(account=TWO_REGIONS))


def test_a_region_that_does_not_answer_gives_way_to_the_other_one_at_once(regions: Regions) -> None:
    regions.tokyo.script = lambda _: HangUp()
    regions.osaka.script = lambda _: GOOD
    with capture_logs() as log:
        exchange = regions.sts().assume_role_with_saml(in_two_regions(), ASSERTION, None)
    assert (exchange.region, exchange.tries) == ("ap-northeast-3", 2)
    assert [line["region"] for line in log] == ["ap-northeast-1", "ap-northeast-3"]
    assert regions.tokyo.asked[0].body == regions.osaka.asked[0].body


@pytest.mark.parametrize("before", [[], [refusal("Throttling")]], ids=["at once", "after it was busy"])
def test_a_region_that_hangs_leaves_half_of_a_short_deadline_to_the_other_one(
    regions: Regions, before: list[Answer]
) -> None:
    # What drips meets no timeout of a socket: by those, a try may take two seconds here.
    regions.tokyo.script = one_after_the_other(*before, Drip(GOOD.body, seconds_between=0.2))
    regions.osaka.script = lambda _: GOOD
    sts = regions.sts(deadline=timedelta(seconds=3.5))
    assert sts.assume_role_with_saml(in_two_regions(), ASSERTION, None).region == "ap-northeast-3"


def test_once_both_regions_were_asked_a_try_may_take_all_that_is_left() -> None:
    state = tries.Tries(in_two_regions(), TWO_REGIONS.sts_regions, time.monotonic() + 10)
    state.made = 1
    longest = timedelta(seconds=60)
    assert state.time_for_try(longest) <= timedelta(seconds=5)
    assert state.time_for_try(timedelta(seconds=1)) == timedelta(seconds=1)
    state.after_no_answer(tries.NoAnswer("hangs", repeat=True, regional=True))
    assert timedelta(seconds=5) < state.time_for_try(longest) <= timedelta(seconds=10)
    alone = tries.Tries(grant(), ("ap-northeast-1",), time.monotonic() + 10)
    assert timedelta(seconds=5) < alone.time_for_try(longest)


def test_a_region_that_is_down_gives_way_to_the_other_one(regions: Regions) -> None:
    regions.osaka.script = lambda _: GOOD
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        sts = regions.sts(tokyo=f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert sts.assume_role_with_saml(in_two_regions(), ASSERTION, None).region == "ap-northeast-3"


def test_a_region_that_ends_the_handshake_gives_way_to_the_other_one(regions: Regions) -> None:
    regions.osaka.script = lambda _: GOOD
    with cutting_off() as tokyo:
        exchange = regions.sts(tokyo=tokyo).assume_role_with_saml(in_two_regions(), ASSERTION, None)
    assert (exchange.region, exchange.tries) == ("ap-northeast-3", 2)


def test_a_region_that_failed_is_asked_second_for_a_minute(regions: Regions, monkeypatch: pytest.MonkeyPatch) -> None:
    regions.tokyo.script = one_after_the_other(Answer(503), GOOD)
    regions.osaka.script = lambda _: GOOD
    sts = regions.sts()
    asked = [sts.assume_role_with_saml(in_two_regions(), ASSERTION, None).region for _ in range(3)]
    assert asked == ["ap-northeast-3"] * 3
    assert regions.asked() == (1, 3)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert sts.assume_role_with_saml(in_two_regions(), ASSERTION, None).region == "ap-northeast-1"


def test_a_region_that_is_switched_off_gives_way_to_the_other_one(regions: Regions) -> None:
    regions.tokyo.script = lambda _: refusal("RegionDisabledException", "STS is not activated in this region", 403)
    regions.osaka.script = lambda _: GOOD
    assert regions.sts().assume_role_with_saml(in_two_regions(), ASSERTION, None).region == "ap-northeast-3"
    assert regions.asked() == (1, 1)


def test_when_both_regions_are_switched_off_the_refusal_names_the_second(regions: Regions) -> None:
    for server in (regions.tokyo, regions.osaka):
        server.script = lambda _: refusal("RegionDisabledException", "STS is not activated in this region", 403)
    with pytest.raises(RegionNotEnabled) as caught:
        regions.sts().assume_role_with_saml(in_two_regions(), ASSERTION, None)
    assert (caught.value.asked.region, caught.value.tries) == ("ap-northeast-3", 2)
    assert regions.asked() == (1, 1)


def test_when_neither_region_answers_both_are_asked_in_turn(regions: Regions) -> None:
    regions.tokyo.script = regions.osaka.script = lambda _: HangUp()
    with pytest.raises(TokenServiceUnavailable) as caught:
        regions.sts().assume_role_with_saml(in_two_regions(), ASSERTION, None)
    assert regions.asked() == (3, 3)
    assert Counter(str(caught.value).replace(":", " ").split())["ap-northeast-3"] == 3


def test_throttling_and_refusals_stay_in_the_region(regions: Regions) -> None:
    regions.osaka.script = lambda _: GOOD
    regions.tokyo.script = one_after_the_other(refusal("Throttling"), GOOD)
    assert regions.sts().assume_role_with_saml(in_two_regions(), ASSERTION, None).region == "ap-northeast-1"
    regions.tokyo.script = lambda _: refusal("AccessDenied", status=403)
    with pytest.raises(RoleNotTrusting):
        regions.sts().assume_role_with_saml(in_two_regions(), ASSERTION, None)
    assert regions.asked() == (3, 0)


def test_without_a_second_region_one_that_is_switched_off_refuses(server: AnsweringServer) -> None:
    server.script = lambda _: refusal("RegionDisabledException", "STS is not activated in this region", 403)
    with pytest.raises(RegionNotEnabled) as caught:
        call(server)
    assert "fallback_region" in str(caught.value)
    assert len(server.asked) == 1
