"""Counting attempts: the same contract for SQLite, PostgreSQL and the counts in memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from broker.adapters.database.attempts import SqlAttempts
from broker.adapters.database.engine import Database
from broker.core.errors import SessionsUnavailable
from broker.core.ports import Attempts
from broker.core.throttle import UNTIL_LIFTED, Budget, BudgetKind
from tests.adapters.database.events import NOON
from tests.fakes import MemoryAttempts

WINDOW = timedelta(minutes=15)
MINUTE = timedelta(minutes=1)
PERSON = Budget(BudgetKind.PERSON, "A" * 26, 2, WINDOW)
ADDRESS = Budget(BudgetKind.ADDRESS, "192.0.2.7", 2, WINDOW)


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def attempts(request: pytest.FixtureRequest) -> Iterator[Attempts]:
    if request.param == "memory":
        yield MemoryAttempts()
        return
    database = Database(request.getfixturevalue(f"{request.param}_url"))
    yield SqlAttempts(database)
    database.dispose()


def passing(attempts: Attempts, budget: Budget, now: datetime) -> int:
    """How many more attempts are let through at that moment."""
    return next(number for number in range(100) if attempts.take(budget, None, now) is not None)


def test_a_budget_lets_its_attempts_through_and_no_more(attempts: Attempts) -> None:
    assert attempts.take(PERSON, "hana", NOON) is None
    assert attempts.take(PERSON, "hana", NOON + MINUTE) is None

    held = attempts.take(PERSON, "hana", NOON + 2 * MINUTE)

    assert held is not None
    assert held.until == NOON + MINUTE + WINDOW
    assert held.unreported == 1


def test_what_is_held_back_does_not_prolong_the_hold(attempts: Attempts) -> None:
    for minute in range(10):
        attempts.take(PERSON, "hana", NOON + minute * MINUTE)

    assert attempts.take(PERSON, "hana", NOON + MINUTE + WINDOW) is None


def test_a_persons_window_begins_with_the_latest_attempt_as_the_directorys_does(attempts: Attempts) -> None:
    attempts.take(PERSON, "hana", NOON)
    attempts.take(PERSON, "hana", NOON + WINDOW - MINUTE)

    assert attempts.take(PERSON, "hana", NOON + WINDOW + MINUTE) is not None


def test_an_addresss_window_begins_with_the_first_attempt(attempts: Attempts) -> None:
    attempts.take(ADDRESS, None, NOON)
    attempts.take(ADDRESS, None, NOON + WINDOW - MINUTE)

    assert attempts.take(ADDRESS, None, NOON + WINDOW) is None


def test_a_flood_is_told_to_the_audit_once_a_minute_with_how_many(attempts: Attempts) -> None:
    empty = Budget(BudgetKind.PERSON, "B" * 26, 0, WINDOW)

    def held(seconds: int) -> int | None:
        answer = attempts.take(empty, "hana", NOON + timedelta(seconds=seconds))
        assert answer is not None
        return answer.unreported

    assert [held(0), held(10), held(59), held(60), held(61)] == [1, None, None, 3, None]


def test_one_given_back_can_be_taken_again(attempts: Attempts) -> None:
    attempts.take(PERSON, "hana", NOON)
    attempts.take(PERSON, "hana", NOON)
    attempts.give_back(PERSON)

    assert attempts.take(PERSON, "hana", NOON) is None
    assert attempts.take(PERSON, "hana", NOON) is not None


def test_giving_back_what_nobody_took_does_nothing(attempts: Attempts) -> None:
    attempts.give_back(PERSON)
    assert attempts.take(PERSON, "hana", NOON) is None


def test_counting_starts_anew_when_forgotten(attempts: Attempts) -> None:
    for _ in range(3):
        attempts.take(PERSON, "hana", NOON)
    attempts.forget([PERSON.key])

    assert attempts.take(PERSON, "hana", NOON) is None
    assert not attempts.holds(NOON, limit=10)


def test_after_a_right_password_only_what_others_have_under_way_counts(attempts: Attempts) -> None:
    device = Budget(BudgetKind.DEVICE, "A" * 26, 2, WINDOW)
    keys = [PERSON.key, device.key]
    for _ in range(2):
        attempts.take(PERSON, "hana", NOON)
    attempts.answered(PERSON)  # one of them was wrong, the directory has counted it; the other one is on its way
    attempts.take(device, "hana", NOON)
    attempts.forget_settled(keys, device, None)

    assert attempts.take(device, "hana", NOON) is None
    assert attempts.take(device, "hana", NOON) is None
    assert attempts.take(PERSON, "hana", NOON) is None
    assert attempts.take(PERSON, "hana", NOON) is not None


def test_a_right_password_is_not_under_way_itself(attempts: Attempts) -> None:
    attempts.take(PERSON, "hana", NOON)
    attempts.answered(PERSON)
    attempts.take(PERSON, "hana", NOON)
    attempts.forget_settled([PERSON.key], PERSON, ADDRESS)
    assert passing(attempts, PERSON, NOON) == 2


def test_what_was_never_answered_is_under_way_no_longer_than_the_directory_could_take(attempts: Attempts) -> None:
    attempts.take(PERSON, "hana", NOON)
    attempts.take(PERSON, "hana", NOON + MINUTE)
    attempts.forget_settled([PERSON.key], PERSON, ADDRESS)
    assert passing(attempts, PERSON, NOON + MINUTE) == 2


def test_a_right_password_gives_its_address_an_attempt_back(attempts: Attempts) -> None:
    for _ in range(2):
        attempts.take(ADDRESS, None, NOON)
    attempts.take(PERSON, "hana", NOON)
    attempts.forget_settled([PERSON.key], PERSON, ADDRESS)
    assert passing(attempts, ADDRESS, NOON) == 1


def test_answers_to_what_nobody_took_change_nothing(attempts: Attempts) -> None:
    attempts.answered(PERSON)
    attempts.forget_settled([PERSON.key], PERSON, ADDRESS)
    assert attempts.take(PERSON, "hana", NOON) is None


def test_no_number_of_made_up_names_hides_a_person_who_is_held_back(attempts: Attempts) -> None:
    for _ in range(3):
        attempts.take(PERSON, "hana", NOON)
    for number in range(20):
        for _ in range(3):
            attempts.take(Budget(BudgetKind.NAME, f"{number:064}", 2, WINDOW), None, NOON + MINUTE)

    assert [hold.username for hold in attempts.holds(NOON + MINUTE, limit=5)] == ["hana", None, None, None, None]
    assert attempts.hold(PERSON.key, NOON + MINUTE) == attempts.holds(NOON + MINUTE, limit=1)[0]
    assert attempts.hold(PERSON.key, NOON + 2 * WINDOW) is None
    assert attempts.hold("person:nobody", NOON) is None


@pytest.mark.parametrize(
    ("part", "found"),
    [("HAN", [PERSON.key]), ("aaaa", [PERSON.key]), ("192.0", [ADDRESS.key]), ("_", []), ("%", []), ("\\", [])],
)
def test_holds_are_found_by_a_part_of_name_id_or_address(attempts: Attempts, part: str, found: list[str]) -> None:
    for budget, username in ((PERSON, "Hana"), (ADDRESS, None)):
        for _ in range(3):
            attempts.take(budget, username, NOON)
    assert [hold.key for hold in attempts.holds(NOON, limit=5, holding=part)] == found


def test_an_administrator_sees_who_is_held_back_and_lifts_it(attempts: Attempts) -> None:
    for _ in range(4):
        attempts.take(PERSON, "hana", NOON)
    attempts.take(ADDRESS, None, NOON)

    (hold,) = attempts.holds(NOON, limit=10)

    assert (hold.key, hold.username, hold.attempts, hold.held_back) == (PERSON.key, "hana", 2, 2)
    assert (hold.kind, hold.subject, hold.until) == (BudgetKind.PERSON, "A" * 26, NOON + WINDOW)
    assert attempts.lift(PERSON.key) == hold
    assert attempts.lift(PERSON.key) is None
    assert not attempts.holds(NOON, limit=10)
    assert attempts.take(PERSON, "hana", NOON) is None


def test_a_hold_that_has_run_out_is_not_shown(attempts: Attempts) -> None:
    for _ in range(3):
        attempts.take(PERSON, "hana", NOON)
    assert not attempts.holds(NOON + WINDOW, limit=10)


def test_many_at_once_pass_no_more_than_the_budget(database: Database) -> None:
    attempts = SqlAttempts(database)
    budget = Budget(BudgetKind.PERSON, "C" * 26, 5, WINDOW)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: attempts.take(budget, "hana", NOON), range(40)))
    assert sum(answer is None for answer in answers) == 5


def test_counts_that_no_longer_matter_are_purged(database: Database) -> None:
    attempts = SqlAttempts(database)
    for number in range(20):
        attempts.take(Budget(BudgetKind.NAME, f"{number}", 2, WINDOW), None, NOON)
    attempts.take(PERSON, "hana", NOON + WINDOW)
    assert attempts.purge(NOON + WINDOW) == 20
    assert attempts.purge(NOON + WINDOW) == 0
    attempts.forget_settled([PERSON.key], PERSON, None)
    assert attempts.purge(NOON + WINDOW) == 1


def test_made_up_names_are_not_kept_for_ever_where_no_time_ends_a_hold(database: Database) -> None:
    attempts = SqlAttempts(database)
    made_up = Budget(BudgetKind.NAME, "f" * 64, 2, UNTIL_LIFTED)
    somebody = Budget(BudgetKind.PERSON, "D" * 26, 2, UNTIL_LIFTED)
    attempts.take(made_up, None, NOON)
    attempts.take(somebody, "dan", NOON)
    attempts.purge(NOON + timedelta(days=30))
    assert attempts.lift(made_up.key) is None
    assert attempts.lift(somebody.key) is not None


def test_a_database_that_is_away_says_so(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(SessionsUnavailable):
        SqlAttempts(database).take(PERSON, "hana", NOON)
    database.dispose()
