"""The throttle: always below the directory's own lock-out, and never a way to shut somebody out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.errors import DirectoryUnavailable, LoginCause, LoginRejected, LoginThrottled, SessionsUnavailable
from broker.core.login import PASSWORD_RUN_OUT, LoginAttempt, SignIn, log_in
from broker.core.throttle import (
    UNTIL_LIFTED,
    BudgetKind,
    Hold,
    LockoutPolicy,
    ThrottleLimits,
    address_budget,
    person_budgets,
)
from tests.core.ports_in_memory import HANAKO, ORIGIN, Outside
from tests.fakes import person_named

LIMITS = ThrottleLimits(threshold=10, window=timedelta(minutes=15), device_attempts=2, address_attempts=50)
OTHER = person_named(2, "jiro", "Jiro Sato")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
WRONG = "not the password"


def sign_in(outside: Outside, password: str, *, username: str = "hanako", device: str | None = None) -> SignIn:
    attempt = LoginAttempt(username, Secret(password), ORIGIN, device_principal_id=device)
    return log_in(attempt, outside.login_ports())


def refused(outside: Outside, *, username: str = "hanako", device: str | None = None) -> str:
    with pytest.raises((LoginRejected, LoginThrottled)) as error:
        sign_in(outside, WRONG, username=username, device=device)
    return type(error.value).__name__


@given(
    threshold=st.one_of(st.none(), st.integers(1, 1000)),
    own=st.integers(1, 1000),
    device=st.integers(0, 1000),
)
def test_both_budgets_together_stay_below_every_threshold(threshold: int | None, own: int, device: int) -> None:
    limits = ThrottleLimits(own, timedelta(minutes=15), device, 1)
    policy = LockoutPolicy(threshold, timedelta(minutes=30))

    public, kept = person_budgets(BudgetKind.PERSON, "A" * 26, policy, limits)

    lowest = min(own, threshold or own)
    assert public.attempts >= 1
    assert kept.attempts >= 0
    # With a threshold of one the first wrong password locks: nobody could sign in without it.
    assert public.attempts + kept.attempts < lowest or lowest == 1
    assert public.window > timedelta(minutes=30) or threshold is None


def test_without_a_word_from_the_directory_the_operators_limits_hold() -> None:
    public, device = person_budgets(BudgetKind.PERSON, "A" * 26, None, LIMITS)
    assert (public.attempts, device.attempts, public.window) == (7, 2, LIMITS.window + timedelta(minutes=1))
    assert (public.key, device.key) == ("person:" + "A" * 26, "device:" + "A" * 26)


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("not an address", "not an address"),
    ],
)
def test_an_address_counts_for_itself_and_an_ipv6_one_for_its_network(address: str, subject: str) -> None:
    budget = address_budget(address, LIMITS)
    assert (budget.subject, budget.attempts, budget.counts_from_first) == (subject, 50, True)


@pytest.mark.parametrize("field", ["threshold", "device_attempts", "address_attempts", "window"])
def test_limits_that_make_no_sense_are_refused(field: str) -> None:
    values: dict[str, object] = {
        "threshold": 1,
        "window": timedelta(minutes=1),
        "device_attempts": 0,
        "address_attempts": 1,
    }
    values[field] = timedelta() if field == "window" else -1
    with pytest.raises(ValueError, match="above zero"):
        ThrottleLimits(**values)  # type: ignore[arg-type]  # wrong on purpose


def test_the_broker_stops_before_the_directory_does_and_says_how_long_to_wait() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(5, timedelta(minutes=20))

    answers = [refused(outside) for _ in range(6)]

    assert answers == ["LoginRejected"] * 2 + ["LoginThrottled"] * 4
    assert outside.directory.tried == 2
    with pytest.raises(LoginThrottled) as error:
        sign_in(outside, HANAKO.password)
    # The directory saw the last one a little later than it was counted, and its window began with that.
    assert error.value.wait == timedelta(minutes=21)


def test_a_stranger_who_uses_up_the_attempts_does_not_shut_the_owner_out() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(5, timedelta(minutes=20))
    for _ in range(20):
        refused(outside)

    signed_in = sign_in(outside, HANAKO.password, device=HANAKO.principal.id)

    assert signed_in.principal == HANAKO.principal


def test_with_the_device_cookie_too_the_directory_never_counts_to_its_threshold() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(5, timedelta(minutes=20))
    for _ in range(20):
        refused(outside, device=HANAKO.principal.id)
    assert outside.directory.tried == 4


def test_a_cookie_of_somebody_else_is_of_no_use() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(5, timedelta(minutes=20))
    for _ in range(20):
        refused(outside, device="B" * 26)
    assert outside.directory.tried == 2


def test_a_right_password_starts_the_count_anew() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(5, timedelta(minutes=20))
    for _ in range(4):
        refused(outside)
        sign_in(outside, HANAKO.password)
    assert outside.directory.tried == 8


def test_a_right_password_forgets_no_attempt_that_the_directory_may_count_after_it() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(5, timedelta(minutes=20))
    # Two guesses hang in a slow bind: whether they are counted is not known, and they may be at any moment.
    outside.failures["directory.prove"] = DirectoryUnavailable("no answer in time")
    for _ in range(2):
        with pytest.raises(DirectoryUnavailable):
            sign_in(outside, WRONG)
    outside.failures.clear()
    tried = outside.directory.tried
    sign_in(outside, HANAKO.password, device=HANAKO.principal.id)

    assert refused(outside) == "LoginThrottled"
    assert outside.directory.tried == tried + 1


def test_where_the_directory_forgets_nothing_by_itself_no_time_ends_a_hold() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(5, UNTIL_LIFTED)
    while refused(outside) != "LoginThrottled":
        pass
    outside.clock.advance(timedelta(days=400))
    assert refused(outside) == "LoginThrottled"
    (hold,) = outside.attempts.holds(outside.clock(), limit=5)
    assert not hold.ends_by_itself
    # The owner, in a browser that is known, ends it: the directory starts anew then too.
    sign_in(outside, HANAKO.password, device=HANAKO.principal.id)
    assert refused(outside) == "LoginRejected"


def test_when_the_window_is_over_counting_starts_anew() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(3, timedelta(minutes=20))
    while refused(outside) != "LoginThrottled":
        pass
    outside.clock.advance(timedelta(minutes=21))
    assert refused(outside) == "LoginRejected"


@pytest.mark.parametrize(
    "policy",
    [None, LockoutPolicy(5, timedelta(hours=1)), LockoutPolicy(5, UNTIL_LIFTED), LockoutPolicy(None, timedelta())],
)
def test_a_name_that_is_nobodys_is_held_back_like_one_that_is(policy: LockoutPolicy | None) -> None:
    known, unknown = Outside(), Outside()
    known.directory.lockout = unknown.directory.lockout = policy
    assert [refused(known) for _ in range(12)] == [refused(unknown, username="nobody") for _ in range(12)]
    with pytest.raises(LoginThrottled) as somebody:
        sign_in(known, WRONG)
    with pytest.raises(LoginThrottled) as nobody:
        sign_in(unknown, WRONG, username="NOBODY")
    assert nobody.value.wait == somebody.value.wait


def test_every_form_of_a_name_shares_one_count() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(5, timedelta(minutes=20))
    for name in ("hanako", "HANAKO", "Hanako", " hanako"):
        refused(outside, username=name)
    assert outside.directory.tried == 2


def test_one_address_may_not_try_everybody() -> None:
    outside = Outside()
    answers = [refused(outside, username=f"nobody-{number}") for number in range(60)]
    assert answers == ["LoginRejected"] * 50 + ["LoginThrottled"] * 10


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("hanako", ""), ("hanako\0", "x")])
def test_an_address_cannot_fill_the_audit_with_what_no_directory_can_be_asked(username: str, password: str) -> None:
    outside = Outside()
    for _ in range(100):
        with pytest.raises((LoginRejected, LoginThrottled)):
            sign_in(outside, password, username=username)
    kinds = [event.kind for event in outside.audit.events]
    assert kinds == [EventKind.LOGIN_REJECTED] * 50 + [EventKind.LOGIN_THROTTLED]


def test_an_address_that_is_used_up_shuts_nobody_out_of_the_browser_they_have_signed_in_with() -> None:
    outside = Outside()
    outside.directory.people.append(OTHER)
    for number in range(60):
        refused(outside, username=f"nobody-{number}")
    mine = HANAKO.principal.id
    used = outside.attempts.counted["address:192.0.2.7"].attempts

    assert [refused(outside), refused(outside, device="B" * 26)] == ["LoginThrottled"] * 2
    # With the cookie of one person nobody else is tried, and nothing is learnt of who exists.
    for username in (OTHER.principal.username, "nobody"):
        assert refused(outside, username=username, device=mine) == "LoginThrottled"
    assert refused(outside, device=mine) == "LoginRejected"
    outside.failures["directory.prove"] = DirectoryUnavailable("no answer")
    with pytest.raises(DirectoryUnavailable):
        sign_in(outside, HANAKO.password, device=mine)
    outside.failures.clear()
    assert sign_in(outside, HANAKO.password, device=mine).principal == HANAKO.principal
    assert outside.attempts.counted["address:192.0.2.7"].attempts == used
    # Their own budgets hold as ever.
    for _ in range(20):
        refused(outside, device=mine)
    assert refused(outside, device=mine) == "LoginThrottled"


def test_right_passwords_and_outages_cost_an_address_nothing() -> None:
    outside = Outside()
    for _ in range(60):
        sign_in(outside, HANAKO.password)
    outside.directory.down = True
    for _ in range(60):
        with pytest.raises(DirectoryUnavailable):
            sign_in(outside, HANAKO.password)
    outside.directory.down = False
    sign_in(outside, HANAKO.password)


def test_what_is_held_back_is_one_row_a_minute_that_says_how_many() -> None:
    outside = Outside()
    outside.directory.lockout = LockoutPolicy(2, timedelta(minutes=20))
    for _ in range(5):
        refused(outside)
    outside.clock.advance(timedelta(minutes=1))
    refused(outside)

    rows = [event for event in outside.audit.events if event.kind is EventKind.LOGIN_THROTTLED]

    assert [row.attempts for row in rows] == [1, 4]
    assert rows[0].principal_username == "hanako"
    assert rows[0].principal_id == HANAKO.principal.id
    assert rows[0].throttle_key == f"person:{HANAKO.principal.id}"


def test_without_a_count_no_password_is_tried() -> None:
    outside = Outside()
    outside.attempts.down = True
    with pytest.raises(SessionsUnavailable):
        sign_in(outside, HANAKO.password)
    assert outside.directory.tried == 0


def test_a_hold_knows_whose_it_is() -> None:
    hold = Hold("address:2001:db8::/64", None, 3, 1, NOON, NOON)
    assert (hold.kind, hold.subject, hold.ends_by_itself) == (BudgetKind.ADDRESS, "2001:db8::/64", True)


@pytest.mark.parametrize("state", sorted(PASSWORD_RUN_OUT))
def test_a_right_password_that_has_run_out_is_not_counted_since_the_directory_counts_none_either(
    state: LoginCause,
) -> None:
    outside = Outside()
    outside.directory.people = [replace(HANAKO, state=state)]
    for _ in range(3):
        with pytest.raises(LoginRejected):
            sign_in(outside, HANAKO.password)
    assert {row.attempts for row in outside.attempts.counted.values()} == {0}


def test_a_right_password_of_a_disabled_account_is_counted_like_a_wrong_one() -> None:
    outside = Outside()
    outside.directory.people = [replace(HANAKO, state=LoginCause.DISABLED)]
    with pytest.raises(LoginRejected):
        sign_in(outside, HANAKO.password)
    assert {row.attempts for row in outside.attempts.counted.values()} == {1}
