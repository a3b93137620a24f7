"""The store of revocations, in the database and in memory: the same contract."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from broker.adapters.database.engine import Database
from broker.adapters.database.revocations import SqlRevocations
from broker.core.errors import SessionsUnavailable
from broker.core.ports import Revocations
from broker.core.revocation import (
    COVERED_FOR,
    WHOLE_ROLE,
    Asker,
    Denials,
    Revocation,
    RevocationKind,
    Subject,
    SubjectKind,
    Target,
)
from tests.fakes import MemoryRevocations, principal_id

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ROLE = "arn:aws:iam::111122223333:role/StaffFiles"
OTHER = "arn:aws:iam::111122223333:role/path/Reports"
HERS: Denials = {Subject(SubjectKind.PERSON, principal_id(1)): NOON}


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest) -> Iterator[Revocations]:
    if request.param == "memory":
        yield MemoryRevocations()
        return
    database = Database(request.getfixturevalue(f"{request.param}_url"))
    yield SqlRevocations(database)
    database.dispose()


def revocation(name: str = "one", minutes: int = 0, *, asker: Asker | None = None) -> Revocation:
    moment = NOON + timedelta(minutes=minutes)
    person = principal_id(1)
    target = Target(RevocationKind.SESSION, "f" * 32, "佐藤", person, ROLE)
    return Revocation(name, target, moment, moment, asker or Asker("ada", principal_id(7)), "lost\x00 laptop")


def test_a_revocation_is_kept_as_it_was_asked_for(kept: Revocations) -> None:
    for one in (revocation(), revocation("two", 1, asker=Asker("operator root"))):
        kept.add(one)
        assert one in kept.later_than(NOON - timedelta(seconds=1))


def test_those_are_found_that_reach_what_begins_at_a_moment(kept: Revocations) -> None:
    first, second = revocation(), revocation("two", 1)
    kept.add(first)
    kept.add(second)

    assert list(kept.later_than(NOON)) == [second]
    assert list(kept.later_than(NOON + timedelta(minutes=1))) == []


def test_what_has_to_be_denied_is_noted_once_and_looked_for_until_it_is_known_for_good(kept: Revocations) -> None:
    one = revocation()
    kept.add(one)
    kept.add_roles(one, {ROLE: HERS}, is_last=False)
    assert list(kept.unplanned()) == [one]
    kept.note_done(kept.parts("one")[0], NOON)
    kept.add_roles(one, {ROLE: HERS, OTHER: HERS}, is_last=True)
    kept.add_roles(one, {}, is_last=True)

    assert list(kept.unplanned()) == []
    assert {part.role: (part.denials, part.done_at) for part in kept.parts("one")} == {
        ROLE: (HERS, NOON),
        OTHER: (HERS, None),
    }
    assert kept.parts("another") in ([], ())


def test_a_role_that_has_more_to_deny_than_it_was_told_is_due_again(kept: Revocations) -> None:
    one = revocation()
    kept.add(one)
    kept.add_roles(one, {ROLE: HERS}, is_last=False)
    [told] = kept.due(NOON, limit=10)
    kept.add_roles(one, {ROLE: {WHOLE_ROLE: NOON + timedelta(minutes=1)}}, is_last=False)
    # Whoever has just told IAM of the first does not know of the second.
    kept.note_done(told, NOON)
    kept.note_failed(told, "no answer", NOON)

    [again] = kept.due(NOON, limit=10)
    assert again.denials == {**HERS, WHOLE_ROLE: NOON + timedelta(minutes=1)}
    kept.note_done(again, NOON)
    assert list(kept.due(NOON + COVERED_FOR, limit=10)) == []
    kept.add_roles(one, {ROLE: HERS}, is_last=True)
    assert list(kept.due(NOON, limit=10)) == []


def test_a_part_is_due_until_it_is_done_and_again_when_it_is_over(kept: Revocations) -> None:
    one = revocation()
    kept.add(one)
    kept.add_roles(one, {ROLE: HERS, OTHER: HERS}, is_last=True)
    [first, second] = kept.due(NOON, limit=10)
    assert {first.role, second.role} == {ROLE, OTHER}
    assert len(kept.due(NOON, limit=1)) == 1

    kept.note_done(first, NOON)
    kept.note_failed(second, "no answer", NOON + timedelta(minutes=1))
    assert list(kept.due(NOON, limit=10)) == []
    [again] = kept.due(NOON + timedelta(minutes=1), limit=10)
    assert (again.role, again.tries, again.problem) == (second.role, 1, "no answer")
    kept.note_done(again, NOON + timedelta(minutes=1))
    assert all(part.done_at and part.problem is None for part in kept.parts("one"))
    assert list(kept.due(NOON + COVERED_FOR - timedelta(seconds=1), limit=10)) == []
    assert list(kept.over(NOON + COVERED_FOR - timedelta(seconds=1), limit=10)) == []
    [one_of_them, _] = kept.due(NOON + COVERED_FOR, limit=10)
    assert len(kept.over(NOON + COVERED_FOR, limit=10)) == 2
    assert len(kept.over(NOON + COVERED_FOR, limit=1)) == 1
    # What could not be cleaned up waits for its next turn too.
    kept.note_failed(one_of_them, "no answer", NOON + COVERED_FOR + timedelta(minutes=1))
    assert len(kept.due(NOON + COVERED_FOR, limit=10)) == 1
    assert len(kept.due(NOON + COVERED_FOR + timedelta(minutes=1), limit=10)) == 2


def test_what_waits_for_too_long_is_found_the_oldest_first(kept: Revocations) -> None:
    for one in (revocation("new", 3), revocation("old"), revocation("older", -1), revocation("over", -2)):
        kept.add(one)
        denials = {WHOLE_ROLE: NOON - COVERED_FOR} if one.id == "over" else {WHOLE_ROLE: NOON}
        kept.add_roles(one, {ROLE: denials}, is_last=True)

    def late() -> list[str]:
        return [part.revocation.id for part in kept.late(NOON + timedelta(minutes=1), NOON, limit=10)]

    assert late() == ["older", "old"]
    assert len(kept.late(NOON + timedelta(minutes=1), NOON, limit=1)) == 1
    kept.note_failed(kept.parts("old")[0], "no answer", NOON + timedelta(hours=1))
    kept.note_done(kept.parts("older")[0], NOON)
    assert late() == ["old"]


def test_a_role_denies_what_all_of_them_say_together(kept: Revocations) -> None:
    for name, denials in (("one", HERS), ("two", {WHOLE_ROLE: NOON})):
        one = revocation(name)
        kept.add(one)
        kept.add_roles(one, {ROLE: denials}, is_last=True)

    assert kept.denials_of(ROLE) == {**HERS, WHOLE_ROLE: NOON}
    assert kept.denials_of(OTHER) == {}


def test_what_stands_against_a_session_is_one_question(kept: Revocations) -> None:
    earlier, later, elsewhere = revocation("earlier"), revocation("later", 2), revocation("elsewhere", 3)
    for one, role in ((earlier, ROLE), (later, ROLE), (elsewhere, OTHER)):
        kept.add(one)
        kept.add_roles(one, {role: HERS if one is earlier else {WHOLE_ROLE: one.before}}, is_last=True)
    kept.add(revocation("unplanned", 2))

    for role in (ROLE, OTHER, "arn:aws:iam::111122223333:role/Another"):
        for moment in (NOON - timedelta(minutes=1), earlier.before, later.before, elsewhere.before):
            revocations, denials = kept.against(role, moment)
            assert {one.id: one for one in revocations} == {one.id: one for one in kept.later_than(moment)}
            assert denials == kept.denials_of(role)
    assert [one.id for one in kept.against(ROLE, later.before)[0]] == ["elsewhere"]
    revocations, denials = kept.against(ROLE, elsewhere.before)
    assert not revocations
    assert denials == {**HERS, WHOLE_ROLE: later.before}


def test_more_than_a_policy_holds_is_kept_all_the_same(kept: Revocations) -> None:
    one = revocation()
    many = {Subject(SubjectKind.SESSION_NAME, f"name-{number:04}"): NOON for number in range(2_000)}
    kept.add(one)
    kept.add_roles(one, {ROLE: many}, is_last=True)

    assert kept.denials_of(ROLE) == many


def test_the_latest_come_first_each_with_its_parts(kept: Revocations) -> None:
    first, second = revocation(), revocation("two", 1)
    for one in (first, second):
        kept.add(one)
    kept.add_roles(first, {ROLE: HERS, OTHER: HERS}, is_last=True)

    found = kept.newest(limit=5)
    assert [one for one, _ in found] == [second, first]
    assert [[part.role for part in parts] for _, parts in found] == [[], [ROLE, OTHER]]
    assert len(kept.newest(limit=1)) == 1


def test_what_is_over_is_forgotten_once_its_parts_are_gone(kept: Revocations) -> None:
    one = revocation()
    kept.add(one)
    kept.add_roles(one, {ROLE: HERS}, is_last=True)
    later = NOON + timedelta(days=1)
    kept.forget(later)
    assert len(kept.newest(limit=5)) == 1
    for part in kept.parts("one"):
        kept.remove(part)
    kept.forget(NOON)
    assert len(kept.newest(limit=5)) == 1
    kept.forget(later)
    kept.forget(later)

    assert list(kept.newest(limit=5)) == []


def test_one_at_a_time_has_a_piece_of_work(kept: Revocations) -> None:
    until = NOON + timedelta(minutes=5)
    assert kept.claim("this", NOON, until)
    assert not kept.claim("this", NOON + timedelta(minutes=4), until)
    assert kept.claim("that", NOON, until)
    assert kept.claim("this", until, until + timedelta(minutes=5))
    kept.give_up("this", until)
    assert kept.claim("this", until, until)


def test_without_a_database_nothing_is_made_up(tmp_path: object) -> None:
    kept = SqlRevocations(Database(f"sqlite:///{tmp_path}/missing.db"))
    with pytest.raises(SessionsUnavailable):
        kept.later_than(NOON)
    with pytest.raises(SessionsUnavailable):
        kept.claim("this", NOON, NOON)
