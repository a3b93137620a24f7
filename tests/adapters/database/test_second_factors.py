"""The SecondFactors port behaves the same on SQLite, on PostgreSQL, and in the memory of other tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest
from sqlalchemy import select, text

from broker.adapters.database.engine import Database
from broker.adapters.database.second_factors import SqlSecondFactors
from broker.adapters.database.sessions import SqlSessions
from broker.adapters.database.tables import metadata
from broker.core.credentials import Secret
from broker.core.errors import NotSignedIn, SecondFactorCause, SecondFactorRejected, SessionsUnavailable
from broker.core.ports import SecondFactors, Sessions
from broker.core.second_factor import (
    MOST_FACTORS,
    NO_GRACE,
    Added,
    Ceremony,
    Factor,
    FactorKind,
    Passkey,
    Standing,
    TotpSeed,
)
from broker.core.sessions import SessionLimits, SignInSession, TrustedBrowser
from tests.adapters.database.events import NOON
from tests.fakes import MemorySecondFactors, MemorySessions

KEY = b"k" * 32
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
LATER = NOON + timedelta(minutes=5)
LIMITS = SessionLimits(idle=timedelta(minutes=30), absolute=timedelta(hours=10))


AnySessions = TypeVar("AnySessions", bound=Sessions)


def signed_in(sessions: AnySessions) -> AnySessions:
    """With a sign-in of everybody who enrols something."""
    for owner in ("HANA", "KEN"):
        sessions.create(SignInSession(f"s-{owner}", owner, NOON, NOON), LIMITS)
    return sessions


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def stores(request: pytest.FixtureRequest) -> Iterator[tuple[SecondFactors, Sessions]]:
    if request.param == "memory":
        sessions = signed_in(MemorySessions())
        yield MemorySecondFactors(sessions=sessions), sessions
        return
    database = Database(request.getfixturevalue(f"{request.param}_url"))
    yield SqlSecondFactors(database, KEY), signed_in(SqlSessions(database))
    database.dispose()


@pytest.fixture
def store(stores: tuple[SecondFactors, Sessions]) -> SecondFactors:
    return stores[0]


@pytest.fixture
def sessions(stores: tuple[SecondFactors, Sessions]) -> Sessions:
    """Those of the same database."""
    return stores[1]


@pytest.fixture
def sql_store(database: Database) -> SqlSecondFactors:
    signed_in(SqlSessions(database))
    return SqlSecondFactors(database, KEY)


def app(number: int = 1, owner: str = "HANA") -> Factor:
    return Factor(f"app-{number}", owner, FactorKind.TOTP, f"電話 {number}", NOON + timedelta(seconds=number))


def key(number: int = 1, owner: str = "HANA") -> Factor:
    return Factor(f"key-{number}", owner, FactorKind.PASSKEY, "Key", NOON + timedelta(minutes=number))


def seed(step: int = 100) -> TotpSeed:
    return TotpSeed(Secret(SEED), step)


def passkey(number: int = 1, count: int = 0) -> Passkey:
    return Passkey(bytes([0, 255, number]), b"\x00cose\xff", count)


def enrol(
    store: SecondFactors,
    factor: Factor,
    credential: TotpSeed | Passkey,
    *,
    only_first: bool,
    codes: Sequence[str] = "r",
) -> Added:
    token_hash = f"s-{factor.principal_id}"
    return store.add(factor, credential, token_hash=token_hash, only_first=only_first, recovery_hashes=codes)


def trusted(owner: str = "HANA") -> TrustedBrowser:
    return TrustedBrowser(f"t-{owner}", owner, NOON, LATER, "192.0.2.7", "Firefox")


def cause_of(store: SecondFactors, factor: Factor, credential: TotpSeed | Passkey, *, only_first: bool) -> str:
    with pytest.raises(SecondFactorRejected) as refused:
        enrol(store, factor, credential, only_first=only_first)
    return refused.value.factor_cause


def test_what_was_enrolled_comes_back_the_oldest_first_with_its_credential(store: SecondFactors) -> None:
    enrol(store, key(), passkey(count=7), only_first=False)
    enrol(store, app(), seed(), only_first=False)
    enrol(store, app(2, owner="KEN"), seed(), only_first=True)

    assert store.factors("HANA") == [app(), key()]
    assert store.seeds("HANA")["app-1"].seed.reveal() == SEED
    assert store.seeds("HANA")["app-1"].last_step == 100
    assert store.passkeys("HANA") == {"key-1": passkey(count=7)}
    assert store.factors("NOBODY") == []
    assert store.seeds("NOBODY") == {}


def test_the_first_enrolment_of_an_unfinished_sign_in_is_refused_where_something_is_there(store: SecondFactors) -> None:
    enrol(store, app(), seed(), only_first=True)
    assert cause_of(store, app(2), seed(), only_first=True) == SecondFactorCause.ENROLLED_MEANWHILE
    assert store.factors("HANA") == [app()]


def test_recovery_codes_come_with_a_factor_in_one_step_for_whoever_has_none(store: SecondFactors) -> None:
    assert enrol(store, app(), seed(), only_first=True, codes=["a", "b"]) == Added(is_first=True, has_new_codes=True)
    assert enrol(store, key(), passkey(), only_first=False, codes=["c"]) == Added(is_first=False, has_new_codes=False)
    assert not store.use_recovery_code("HANA", "c")
    assert store.use_recovery_code("HANA", "a")
    assert store.use_recovery_code("HANA", "b")
    again = enrol(store, key(2), passkey(2), only_first=False, codes=["d"])
    assert again == Added(is_first=False, has_new_codes=True)
    assert store.recovery_codes_left("HANA") == 1


def test_what_fails_half_way_leaves_neither_factor_nor_codes(sql_store: SqlSecondFactors) -> None:
    # Twice the same: the database takes the factor and the first code, and then fails.
    with pytest.raises(SessionsUnavailable):
        enrol(sql_store, app(), seed(), only_first=True, codes=["a", "a"])
    assert sql_store.factors("HANA") == []
    assert sql_store.recovery_codes_left("HANA") == 0
    assert enrol(sql_store, app(), seed(), only_first=True).has_new_codes


def test_a_sign_in_that_has_ended_enrols_nothing(store: SecondFactors, sessions: Sessions) -> None:
    sessions.end("s-HANA")
    with pytest.raises(NotSignedIn):
        enrol(store, app(), seed(), only_first=True)
    with pytest.raises(NotSignedIn):
        store.add(app(), seed(), token_hash="s-KEN", only_first=True, recovery_hashes=["a"])
    assert store.factors("HANA") == []
    assert store.recovery_codes_left("HANA") == 0


def test_the_same_passkey_is_not_enrolled_twice_for_anybody(store: SecondFactors) -> None:
    enrol(store, key(), passkey(), only_first=False)
    assert cause_of(store, key(2, "KEN"), passkey(), only_first=False) == SecondFactorCause.ENROLLED_MEANWHILE
    assert store.factors("KEN") == []


def test_nobody_enrols_without_end(store: SecondFactors) -> None:
    for number in range(MOST_FACTORS):
        enrol(store, key(number), passkey(number), only_first=False)
    assert cause_of(store, key(99), passkey(99), only_first=False) == SecondFactorCause.TOO_MANY


def test_a_code_is_taken_once_and_none_before_it_afterwards(store: SecondFactors) -> None:
    enrol(store, app(), seed(100), only_first=True)

    assert not store.use_code("app-1", 100, LATER)
    assert store.use_code("app-1", 102, LATER)
    assert not store.use_code("app-1", 102, LATER)
    assert not store.use_code("app-1", 101, LATER)
    assert store.factors("HANA") == [replace(app(), last_used_at=LATER)]


def test_a_passkey_changes_its_count_only_from_the_one_it_was_read_with(store: SecondFactors) -> None:
    enrol(store, key(), passkey(count=3), only_first=True)

    assert store.use_passkey("key-1", passkey(count=3), 4, LATER)
    assert not store.use_passkey("key-1", passkey(count=3), 5, LATER)
    assert store.passkeys("HANA")["key-1"].sign_count == 4
    assert store.factors("HANA")[0].last_used_at == LATER


def test_recovery_codes_are_used_once_and_belong_to_one_person(store: SecondFactors) -> None:
    store.replace_recovery_codes("HANA", ["a", "b"])
    store.replace_recovery_codes("KEN", ["a"])

    assert not store.use_recovery_code("HANA", "c")
    assert store.use_recovery_code("HANA", "a")
    assert not store.use_recovery_code("HANA", "a")
    assert (store.recovery_codes_left("HANA"), store.recovery_codes_left("KEN")) == (1, 1)
    store.replace_recovery_codes("HANA", ["d", "e", "f"])
    assert not store.use_recovery_code("HANA", "b")
    assert store.recovery_codes_left("HANA") == 3


def test_new_recovery_codes_forget_the_browsers_that_were_trusted(store: SecondFactors, sessions: Sessions) -> None:
    for owner in ("HANA", "KEN"):
        sessions.trust(trusted(owner))
    store.replace_recovery_codes("HANA", ["a"])
    assert not sessions.trusted_browsers("HANA")
    assert list(sessions.trusted_browsers("KEN")) == [trusted("KEN")]


def test_a_factor_is_removed_by_its_owner_alone_and_the_recovery_codes_go_with_the_last(
    store: SecondFactors, sessions: Sessions
) -> None:
    enrol(store, app(), seed(), only_first=True)
    enrol(store, key(), passkey(), only_first=False)
    store.replace_recovery_codes("HANA", ["a"])
    sessions.trust(trusted())

    assert store.remove("KEN", "app-1") is None
    assert sessions.trusted_browsers("HANA")
    assert store.remove("HANA", "app-1") == app()
    assert store.remove("HANA", "app-1") is None
    assert not sessions.trusted_browsers("HANA")
    assert store.recovery_codes_left("HANA") == 1
    assert store.remove("HANA", "key-1") == key()
    assert store.recovery_codes_left("HANA") == 0


def test_who_was_first_asked_when_is_kept(store: SecondFactors) -> None:
    assert store.first_asked("HANA", NOON) == NOON
    assert store.first_asked("HANA", LATER) == NOON
    assert store.first_asked("KEN", LATER) == LATER


def test_how_far_somebody_is_takes_one_small_question(store: SecondFactors) -> None:
    assert store.standing("HANA") == Standing(enrolled=False, first_asked_at=None)
    store.first_asked("HANA", NOON)
    assert store.standing("HANA") == Standing(enrolled=False, first_asked_at=NOON)
    enrol(store, app(), seed(), only_first=True)
    enrol(store, key(), passkey(), only_first=False)
    assert store.standing("HANA") == Standing(enrolled=True, first_asked_at=NOON)
    assert store.standing("KEN") == Standing(enrolled=False, first_asked_at=None)


def test_a_reset_leaves_nothing_and_no_grace(store: SecondFactors, sessions: Sessions) -> None:
    for owner in ("HANA", "KEN"):
        number = len(owner)
        enrol(store, app(number, owner), seed(), only_first=True)
        enrol(store, key(number, owner), passkey(number), only_first=False)
        store.replace_recovery_codes(owner, ["a"])
        sessions.trust(trusted(owner))

    assert store.reset("HANA") == 2
    assert store.factors("HANA") == []
    assert store.recovery_codes_left("HANA") == 0
    assert not sessions.trusted_browsers("HANA")
    assert sessions.find("s-HANA") is None
    assert sessions.find("s-KEN") is not None
    assert store.first_asked("HANA", LATER) == NO_GRACE
    assert len(store.factors("KEN")) == 2
    assert sessions.trusted_browsers("KEN")
    assert store.reset("NEVER-SEEN") == 0
    assert store.first_asked("NEVER-SEEN", LATER) == NO_GRACE


def test_a_browser_answers_to_what_it_was_first_shown_until_that_ends(store: SecondFactors) -> None:
    shown = store.begin("t", Ceremony.ENROL_TOTP, Secret("one"), LATER, NOON)
    again = store.begin("t", Ceremony.ENROL_TOTP, Secret("two"), LATER, NOON)
    other = store.begin("t", Ceremony.PROVE_PASSKEY, Secret("three"), LATER, NOON)

    assert (shown.reveal(), again.reveal(), other.reveal()) == ("one", "one", "three")
    begun = store.begun("t", Ceremony.ENROL_TOTP, NOON)
    assert begun is not None
    assert begun.reveal() == "one"
    assert store.end("t", Ceremony.PROVE_PASSKEY)
    assert not store.end("t", Ceremony.PROVE_PASSKEY)
    assert store.begun("t", Ceremony.ENROL_TOTP, LATER) is None
    assert store.begun("u", Ceremony.ENROL_TOTP, NOON) is None
    assert store.begin("t", Ceremony.ENROL_TOTP, Secret("four"), LATER + timedelta(minutes=5), LATER).reveal() == "four"


def together(times: int, call: object) -> list[object]:
    assert callable(call)
    with ThreadPoolExecutor(times) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(times)]]


def test_of_many_uses_of_one_code_at_once_one_is_taken(sql_store: SqlSecondFactors) -> None:
    enrol(sql_store, app(), seed(), only_first=True)
    sql_store.replace_recovery_codes("HANA", ["a"])

    assert sum(map(bool, together(8, lambda: sql_store.use_code("app-1", 101, NOON)))) == 1
    assert sum(map(bool, together(8, lambda: sql_store.use_recovery_code("HANA", "a")))) == 1


def test_of_many_first_enrolments_at_once_one_is_made(sql_store: SqlSecondFactors) -> None:
    numbers = iter(range(8))

    def first() -> bool:
        number = next(numbers)
        try:
            enrol(sql_store, key(number), passkey(number), only_first=True)
        except SecondFactorRejected:
            return False
        return True

    assert sum(map(bool, together(8, first))) == 1
    assert len(sql_store.factors("HANA")) == 1


def test_of_a_reset_and_enrolments_at_once_nothing_is_left_enrolled(sql_store: SqlSecondFactors) -> None:
    numbers = iter(range(16))

    def enrol_or_reset() -> None:
        number = next(numbers)
        if number == 8:
            sql_store.reset("HANA")
            return
        with suppress(NotSignedIn, SecondFactorRejected):
            enrol(sql_store, key(number), passkey(number), only_first=False)

    together(16, enrol_or_reset)
    assert sql_store.factors("HANA") == []
    assert sql_store.recovery_codes_left("HANA") == 0


def test_no_table_holds_a_seed_or_a_challenge_in_clear(database: Database, sql_store: SqlSecondFactors) -> None:
    enrol(sql_store, app(), seed(), only_first=True)
    sql_store.begin("t", Ceremony.ENROL_TOTP, Secret("JBSWY3DPPENDING"), LATER, NOON)

    with database.reading(SessionsUnavailable) as connection:
        kept = [repr(row) for table in metadata.tables.values() for row in connection.execute(select(table))]
    assert len(kept) == 6
    assert "JBSWY3DP" not in "".join(kept)


def test_a_seed_is_read_only_in_its_own_row_and_under_its_own_key(database: Database) -> None:
    store = SqlSecondFactors(database, KEY)
    signed_in(SqlSessions(database))
    enrol(store, app(), seed(), only_first=True)

    with pytest.raises(SessionsUnavailable, match=r"seed app-1 of HANA cannot be decrypted.*secret_file"):
        SqlSecondFactors(database, b"o" * 32).seeds("HANA")
    with database.writing(SessionsUnavailable) as connection:
        connection.execute(text("UPDATE second_factor SET principal_id = 'EVE'"))
    with pytest.raises(SessionsUnavailable, match="cannot be decrypted"):
        store.seeds("EVE")
