"""Our clock against the Date of STS's answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.adapters.aws.clock_skew import LARGEST_SKEW, ClockSkew
from broker.adapters.aws.sts import StsTokenService
from broker.core.assertion import SignedAssertion
from broker.core.credentials import Secret
from broker.core.errors import AssertionOutOfTime, RoleNotTrusting
from tests.adapters.aws.answering import AnsweringServer
from tests.adapters.aws.conftest import impatient_sts
from tests.adapters.aws.exchange import sts_answer, sts_refusal
from tests.core.examples import grant

ASSERTION = SignedAssertion("_id", Secret("QXNzZXJ0aW9u" * 20))
DATE = "Mon, 23 Nov 2026 09:30:00 GMT"
NOON = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def measured(date: str | None, ahead: float, took: float = 0.0) -> ClockSkew:
    skew = ClockSkew()
    # The answer is given half way, and half a second after the whole second that its Date names.
    middle = NOON + timedelta(seconds=ahead + 0.5)
    skew.measure(date, middle - timedelta(seconds=took / 2), middle + timedelta(seconds=took / 2))
    return skew


def test_before_the_first_answer_nothing_is_known_and_nothing_is_wrong() -> None:
    assert ClockSkew().problem() is None
    assert ClockSkew().too_far() is None


@pytest.mark.parametrize("ahead", [0, 59, -59, 60, -60])
def test_what_an_assertion_covers_is_let_pass(ahead: int) -> None:
    assert timedelta(minutes=1) == LARGEST_SKEW
    assert measured(DATE, ahead).problem() is None


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (61, "This machine's clock is 61 seconds ahead of that of STS."),
        (-300, "This machine's clock is 300 seconds behind that of STS."),
        (86400, "This machine's clock is 86400 seconds ahead of that of STS."),
    ],
)
@pytest.mark.parametrize("took", [0, 8])
def test_more_than_that_is_measured_in_seconds_however_long_the_answer_took(ahead: int, words: str, took: int) -> None:
    skew = measured(DATE, ahead, took)
    assert skew.too_far() == timedelta(seconds=ahead)
    assert (skew.problem() or "").startswith(words)


def test_a_clock_that_was_set_right_is_right_with_the_next_answer() -> None:
    skew = measured(DATE, 300)
    skew.measure(DATE, NOON, NOON)
    assert skew.problem() is None


@given(
    st.none() | st.text(max_size=40) | st.sampled_from(["Mon, 99 Nov 2026 09:30:00 GMT", "0", "Mon, 23 Nov 1 1:1:1"])
)
def test_a_date_that_is_none_measures_nothing_new_and_raises_nothing(date: str | None) -> None:
    skew = ClockSkew()
    skew.measure(date, NOON, NOON)


def test_a_date_without_a_zone_is_utc() -> None:
    assert measured("Mon, 23 Nov 2026 09:30:00 -0000", 90).too_far() == timedelta(seconds=90)


def ahead_by(seconds: int, server: AnsweringServer) -> StsTokenService:
    return impatient_sts(server.url, clock=lambda: datetime.now(UTC) + timedelta(seconds=seconds))


def test_the_clock_is_compared_with_every_answer_and_warned_of_once_an_hour(server: AnsweringServer) -> None:
    sts = ahead_by(312, server)
    assert sts.clock_problem() is None
    with capture_logs() as log:
        for _ in range(3):
            server.answer(200, sts_answer())
            sts.assume_role_with_saml(grant(), ASSERTION, None)
            server.answer(403, sts_refusal("AccessDenied"))
            with pytest.raises(RoleNotTrusting) as caught:
                sts.assume_role_with_saml(grant(), ASSERTION, None)
            assert "ahead of that of STS" in str(caught.value)
    (said,) = [line for line in log if line["event"] == "clock differs from that of STS"]
    assert said["log_level"] == "warning"
    assert "clock is 31" in said["problem"]
    assert "clock is 31" in (sts.clock_problem() or "")


def test_an_assertion_that_is_out_of_time_because_of_our_clock_says_by_how_much(server: AnsweringServer) -> None:
    server.answer(400, sts_refusal("ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance"))
    with pytest.raises(AssertionOutOfTime) as caught:
        ahead_by(-400, server).assume_role_with_saml(grant(), ASSERTION, None)
    ahead = caught.value.asked.clock_ahead
    assert ahead is not None
    assert -402 < ahead.total_seconds() < -398
    assert "set it by NTP. This machine's clock is" in str(caught.value)


def test_an_assertion_that_is_out_of_time_although_the_clocks_agree_says_to_look_elsewhere(
    server: AnsweringServer,
) -> None:
    server.answer(400, sts_refusal("ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance"))
    with pytest.raises(AssertionOutOfTime, match="the clocks agree: look for what delays requests") as caught:
        ahead_by(0, server).assume_role_with_saml(grant(), ASSERTION, None)
    assert caught.value.asked.clock_ahead is None
