"""What counts as proved, once, and what a sign-in needs besides the password."""

from __future__ import annotations

import string
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.adapters.second_factor.totp import PyotpCodes
from broker.core.credentials import Secret
from broker.core.errors import SecondFactorCause, SecondFactorRejected
from broker.core.second_factor import (
    CODE_ATTEMPTS,
    LONGEST_NAME,
    MOST_FACTORS,
    RECOVERY_CODES,
    TOTP_STEP,
    Demand,
    Factor,
    FactorKind,
    Method,
    Mode,
    can_be_shown,
    code_budgets,
    demand_of,
    factor_name,
    hash_recovery_code,
    matching_steps,
    new_recovery_codes,
    read_code,
    sign_in_budget,
    step_at,
    steps_around,
)
from broker.core.throttle import BudgetKind
from tests.core.examples import NOW

CODES = PyotpCodes("Example")
SEED = Secret("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds


def code_at(moment: datetime, seed: Secret = SEED) -> str:
    return CODES.code_at(seed, step_at(moment))


# RFC 6238, appendix B, SHA-1; its codes have eight digits, of which the last six are the code of six.
@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_the_standards_own_examples(seconds: int, code: str) -> None:
    seed = Secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")  # "12345678901234567890"
    assert code_at(datetime.fromtimestamp(seconds, UTC), seed) == code


@given(MOMENTS, st.integers(-30, 30))
def test_a_clock_that_is_half_a_minute_off_is_forgiven(moment: datetime, seconds: int) -> None:
    typed = code_at(moment + timedelta(seconds=seconds))
    assert matching_steps(typed, SEED, CODES.code_at, moment)


@given(MOMENTS, st.integers(2, 10_000), st.sampled_from([-1, 1]))
def test_a_code_of_another_time_is_taken_only_where_a_near_one_is_the_same(
    moment: datetime, steps: int, direction: int
) -> None:
    typed = code_at(moment + direction * steps * TOTP_STEP)
    near = [CODES.code_at(SEED, step) for step in steps_around(moment)]
    assert bool(matching_steps(typed, SEED, CODES.code_at, moment)) == (typed in near)


@given(st.text(string.digits, min_size=6, max_size=6), st.lists(st.sampled_from(" - 　\t"), max_size=4))
def test_a_code_is_read_however_it_is_spaced_and_in_wide_digits_too(digits: str, gaps: list[str]) -> None:
    wide = digits.translate({ord("0") + number: chr(0xFF10 + number) for number in range(10)})
    for written in (digits, wide):
        spaced = written[:3] + "".join(gaps) + written[3:]
        assert read_code(Secret(spaced)) == (Method.TOTP, digits)


@given(st.text(max_size=20))
def test_whatever_is_typed_is_a_code_of_six_digits_a_recovery_code_or_refused(typed: str) -> None:
    try:
        method, code = read_code(Secret(typed))
    except SecondFactorRejected:
        with pytest.raises(SecondFactorRejected, match=r"^second factor refused: wrong-code$"):
            read_code(Secret(typed))
    else:
        assert len(code) == {Method.TOTP: 6, Method.RECOVERY_CODE: 12}[method]
        assert code.isascii()


def test_recovery_codes_are_ten_different_ones_that_are_read_back_however_they_are_written() -> None:
    codes = new_recovery_codes()
    hashes = {hash_recovery_code(b"k" * 32, "HANA", read_code(code)[1]) for code in codes}

    assert len(codes) == len(hashes) == RECOVERY_CODES == 10
    for code in codes:
        shown = code.reveal()
        method, read = read_code(Secret(shown.lower().replace("-", " ").replace("0", "o").replace("1", "l")))
        assert (method, len(read)) == (Method.RECOVERY_CODE, 12)
        assert hash_recovery_code(b"k" * 32, "HANA", read) in hashes


def test_the_hash_of_a_recovery_code_depends_on_the_key_and_the_person() -> None:
    one = hash_recovery_code(b"k" * 32, "HANA", "ABCDEFGHJKMN")
    assert one == hash_recovery_code(b"k" * 32, "HANA", "ABCDEFGHJKMN")
    assert len({one, hash_recovery_code(b"o" * 32, "HANA", "A"), hash_recovery_code(b"k" * 32, "KEN", "A")}) == 3


@given(
    mode=st.sampled_from(Mode),
    enrolled=st.booleans(),
    trusted=st.booleans(),
    grace=st.none() | st.timedeltas(timedelta(days=-30), timedelta(days=30)),
)
@example(mode=Mode.OFF, enrolled=True, trusted=False, grace=timedelta())
def test_who_has_a_second_factor_is_asked_and_who_has_none_must_when_the_grace_is_over(
    *, mode: Mode, enrolled: bool, trusted: bool, grace: timedelta | None
) -> None:
    by = None if grace is None else NOW + grace
    demand = demand_of(mode, enrolled=enrolled, trusted=trusted, enrol_by=by, now=NOW)

    if mode is Mode.OFF:
        assert demand is Demand.NOTHING
    elif enrolled:
        assert demand is (Demand.TRUSTED if trusted else Demand.PROOF)
    else:
        assert (demand is Demand.ENROLMENT) == (grace is not None and grace <= timedelta())
    assert demand.waits == (demand in {Demand.PROOF, Demand.ENROLMENT})
    assert demand.method == (Method.TRUSTED_BROWSER if demand is Demand.TRUSTED else None)


def test_few_codes_are_let_through_and_as_many_again_where_the_person_has_proved_one_before() -> None:
    window = timedelta(minutes=15)
    [public] = code_budgets("HANA", window, knows_browser=False)
    assert (public.attempts, public.window, public.counts_from_first) == (CODE_ATTEMPTS, window, False)
    first, reserve = code_budgets("HANA", window, knows_browser=True)
    assert (first, reserve.attempts) == (public, CODE_ATTEMPTS)
    assert first.key != reserve.key
    a_day = CODE_ATTEMPTS * 3 / 10**6 * (timedelta(days=1) / window)
    assert a_day < 1 / 690
    assert a_day * MOST_FACTORS < 1 / 69


def test_what_cannot_be_guessed_is_counted_for_each_sign_in_and_apart() -> None:
    kinds = (BudgetKind.RECOVERY, BudgetKind.PASSKEY, BudgetKind.ENROLMENT)
    budgets = [sign_in_budget(kind, token, timedelta(minutes=15)) for kind in kinds for token in ("a", "b")]
    assert len({budget.key for budget in budgets}) == 6
    # However many sign-ins a thief begins: 500 guesses a second for a year are one chance in seven million.
    guesses = 500 * timedelta(days=365).total_seconds() * RECOVERY_CODES
    assert guesses / 32**12 < 1 / 7_000_000


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("私の\u3000電話\u3000", "私の 電話"),
        ("クラーク・電話", "クラーク・電話"),
        ("ﾃﾞﾝﾜ①", "ﾃﾞﾝﾜ①"),
        ("ma\u00a0clé\u2009!", "ma clé !"),
        ("👨\u200d👩\u200d👧 の鍵", "👨\u200d👩\u200d👧 の鍵"),
        ("❤\ufe0f\u200d🔥 👍🏽", "❤\ufe0f\u200d🔥 👍🏽"),
        ("🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", None),
        ("کلید\u200cهای من", None),
        ("क्\u200dष", None),
        ("x" * LONGEST_NAME, None),
    ],
)
def test_a_name_is_what_people_type_with_every_space_a_plain_one(typed: str, kept: str | None) -> None:
    assert Factor("id", "HANA", FactorKind.TOTP, factor_name(typed), NOW).name == (kept or typed)


@given(st.text(max_size=LONGEST_NAME))
def test_a_name_that_is_kept_shows_everything_it_holds_but_what_joins(typed: str) -> None:
    name = factor_name(typed)
    if name and can_be_shown(name):
        assert not {unicodedata.category(one) for one in name} & {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert all(one in "\u200c\u200d" or ord(one) > 0xE0000 for one in name if unicodedata.category(one) == "Cf")
        assert factor_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "   ", "x" * (LONGEST_NAME + 1), "line\nbreak", "\x00", "a\tb", "\u2028"),
        # What turns the text round, or hides: marks, overrides, isolates; joiners that join nothing; stray tags.
        *("a\u202eb", "\u200fa", "a\u2066b", "a\u200bb", "a\u00adb", "\ufeffa", "a\u200d\u200db", "\u200da", "a\u200d"),
        *("a\u200d b", "a\U000e0067\U000e007f", "🏴\U000e0067", "\u202e\u200da"),
    ],
)
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(SecondFactorRejected) as refused:
        Factor("id", "HANA", FactorKind.TOTP, name, NOW)
    assert refused.value.factor_cause is SecondFactorCause.NAME_UNUSABLE
