"""The hash chain and its checkpoints as values."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import AuditUnavailable
from broker.core.seals import (
    BEGINNING,
    ChainPoint,
    Checkpoint,
    continue_chain,
    read_checkpoint,
    read_checkpoint_line,
    sign_checkpoint,
)

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HASH = "ab" * 32


moments = st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year >= 1000)


class RecordingKey:
    """Signs with the SHA-512 of what it signs."""

    id = "0123456789abcdef"

    def sign(self, content: bytes) -> bytes:
        return hashlib.sha512(content).digest()


CHECKPOINT = sign_checkpoint(BEGINNING.next(HASH), RecordingKey(), NOON)


def test_a_chain_hash_is_the_sha256_of_position_hash_before_and_hash_of_the_event_on_lines_of_their_own() -> None:
    first = BEGINNING.next(HASH)
    assert first.position == 1
    assert first.chain_hash == hashlib.sha256(b"1\n" + b"0" * 64 + b"\n" + HASH.encode() + b"\n").hexdigest()
    second = first.next("cd" * 32)
    expected = f"2\n{first.chain_hash}\n{'cd' * 32}\n"
    assert second == ChainPoint(2, hashlib.sha256(expected.encode()).hexdigest())


@given(st.text(st.characters(exclude_categories=()), max_size=80), st.text(max_size=80))
def test_whatever_a_row_claims_as_its_hash_has_a_chain_hash_and_two_never_the_same(one: str, other: str) -> None:
    assert (BEGINNING.next(one) == BEGINNING.next(other)) == (one == other)


@pytest.mark.parametrize(("position", "chain_hash"), [(-1, HASH), (1, "AB" * 32), (1, "ab" * 31), (1, HASH + "\n")])
def test_what_is_no_point_of_a_chain_is_refused(position: int, chain_hash: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        ChainPoint(position, chain_hash)


def test_what_is_signed_is_a_line_of_its_purpose_and_canonical_json() -> None:
    assert CHECKPOINT.signed_bytes() == (
        b'federation-broker audit checkpoint\n{"chain_hash":"' + CHECKPOINT.chain_hash.encode() + b'",'
        b'"key_id":"0123456789abcdef","position":1,"time":"2026-11-23T12:00:00.000000Z"}'
    )
    assert CHECKPOINT.signature == hashlib.sha512(CHECKPOINT.signed_bytes()).digest()
    assert CHECKPOINT.point == BEGINNING.next(HASH)


@given(st.integers(1, 10**12), st.binary(max_size=80), moments)
def test_a_checkpoint_comes_back_from_its_line_as_it_was(position: int, signature: bytes, time: datetime) -> None:
    made = Checkpoint(position, HASH, time, "0123456789abcdef", signature)
    assert read_checkpoint_line(made.line()) == made
    assert read_checkpoint(json.loads(made.line())) == made


@pytest.mark.parametrize(
    "change",
    [
        {"position": 0},
        {"position": "1"},
        {"position": True},
        {"chain_hash": "ab"},
        {"chain_hash": None},
        {"key_id": "0123"},
        {"key_id": 7},
        {"time": 7},
        {"time": "yesterday"},
        {"signature": None},
        {"signature": "%%%"},
        {"signature": "ü"},
        {"note": "x"},
    ],
)
def test_what_is_no_checkpoint_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_checkpoint({**CHECKPOINT.as_json(), **change})


TWICE = CHECKPOINT.line().replace('"position":', '"position":1,"position":')


@pytest.mark.parametrize("line", ["", "{", "[]", "7", CHECKPOINT.line()[:-5], "[" * 100_000, TWICE])
def test_a_line_that_is_no_checkpoint_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_checkpoint_line(line)


def test_the_chain_goes_on_where_the_newest_seal_and_the_newest_checkpoint_agree() -> None:
    at = ChainPoint(7, HASH)
    seals = continue_chain(at, at, [("one", "aa"), ("two", "bb")])
    assert [(seal.event_id, seal.event_hash, seal.point) for seal in seals] == [
        ("one", "aa", at.next("aa")),
        ("two", "bb", at.next("aa").next("bb")),
    ]


@pytest.mark.parametrize("signed", [BEGINNING, ChainPoint(6, HASH), ChainPoint(7, "cd" * 32), ChainPoint(8, HASH)])
def test_the_chain_does_not_go_on_where_they_do_not(signed: ChainPoint) -> None:
    with pytest.raises(AuditUnavailable, match="they do not fit; run `broker audit verify`"):
        continue_chain(ChainPoint(7, HASH), signed, [("one", "aa")])
