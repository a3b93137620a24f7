import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.sandbox.directory import passwords


@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=64), st.binary(max_size=64))
def test_a_hash_matches_its_password_and_no_other(password: bytes, other: bytes) -> None:
    stored = passwords.hashed(password)
    assert passwords.is_hash(stored)
    assert passwords.matches(password, stored)
    assert passwords.matches(other, stored) is (other == password)


@pytest.mark.parametrize("other", [b"a\0", b"a" + bytes(63), b"A", b"", b"a "])
def test_nothing_but_the_password_itself_matches_not_even_with_a_nul_behind_it(other: bytes) -> None:
    assert not passwords.matches(other, passwords.hashed(b"a"))


def test_two_hashes_of_one_password_differ_and_show_nothing_of_it() -> None:
    first, second = passwords.hashed(b"Alice-demo-2026"), passwords.hashed(b"Alice-demo-2026")
    assert first != second
    assert "Alice" not in first


@pytest.mark.parametrize(
    "stored", ["", "Alice-demo-2026", "{SCRYPT}", "{SCRYPT}a$b", "{SCRYPT}AAAA$AAAA", "{SSHA}abc", "{SCRYPT}é$é"]
)
def test_what_is_no_hash_opens_nothing(stored: str) -> None:
    assert not passwords.is_hash(stored)
    assert not passwords.matches(b"", stored)
    assert not passwords.matches(stored.encode(), stored)


def test_the_hash_for_unknown_names_costs_what_a_real_one_does_and_opens_nothing() -> None:
    assert passwords.is_hash(passwords.NOBODYS)
    assert not passwords.matches(b"", passwords.NOBODYS)


def test_a_sign_in_spends_less_than_15_ms_on_its_hash() -> None:
    stored = passwords.hashed(b"Alice-demo-2026")
    durations = []
    for _ in range(9):
        start = time.process_time()
        assert passwords.matches(b"Alice-demo-2026", stored)
        durations.append(time.process_time() - start)
    assert min(durations) < 0.015
