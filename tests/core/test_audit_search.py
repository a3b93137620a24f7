"""What a search finds an event by, and how many a page says there are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit import EventKind
from broker.core.audit_search import (
    LONG_WORDS,
    SEARCHED_OF_LONG_WORDS,
    EventCount,
    Outcome,
    Sample,
    TimeSpan,
    address_key,
    buckets_of,
    counted,
    network_keys,
    overall,
    words_of,
)

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SPAN = TimeSpan(NOON, NOON + timedelta(hours=1))


def test_no_kind_of_event_says_two_outcomes_and_what_only_happened_says_none() -> None:
    said = [kind for outcome in Outcome for kind in outcome.kinds]
    assert len(said) == len(set(said))
    assert EventKind.ISSUANCE_SUCCEEDED in Outcome.SUCCEEDED.kinds
    assert EventKind.LOGIN_REJECTED in Outcome.REFUSED.kinds
    assert Outcome.UNKNOWN.kinds == (EventKind.ISSUANCE_INTENDED,)
    assert Outcome.EXPIRED.kinds == (EventKind.ISSUANCE_EXPIRED,)
    assert EventKind.REVOCATION_ASKED not in said


# --- How many there are


@given(st.integers(1, 60))
def test_a_span_is_split_without_gap_or_overlap(parts: int) -> None:
    split = SPAN.split(parts)

    assert len(split) == parts
    assert (split[0].since, split[-1].until) == (SPAN.since, SPAN.until)
    assert [one.until for one in split[:-1]] == [one.since for one in split[1:]]
    # A microsecond is the shortest time there is.
    lengths = [one.until - one.since for one in split]
    assert max(lengths) - min(lengths) <= timedelta(microseconds=parts)


def test_events_that_were_all_looked_at_are_counted() -> None:
    samples = [Sample(SPAN, looked_at=70, fitting=3, looked_back_to=None), Sample(SPAN, 0, 0, None)]
    assert counted(SPAN, samples) == EventCount(SPAN, 3, exact=True)
    assert counted(SPAN, ()) == EventCount(SPAN, 0, exact=True)


def test_where_only_the_newest_were_looked_at_the_rest_is_taken_to_be_like_them() -> None:
    whole, quarter = Sample(SPAN, 100, 7, None), Sample(SPAN, 100, 40, NOON + timedelta(minutes=45))
    assert quarter.estimate == 160
    assert counted(SPAN, iter([whole, quarter])) == EventCount(SPAN, 167, exact=False)


def test_a_sum_with_one_estimate_in_it_is_an_estimate() -> None:
    assert overall([EventCount(SPAN, 3), EventCount(SPAN, 4)]) == (7, True)
    assert overall([EventCount(SPAN, 3), EventCount(SPAN, 4, exact=False)]) == (7, False)
    assert overall([]) == (0, True)


# --- By what an event is found


ALLOW = {"Effect": "Allow", "Action": "s3:GetObject"}


def test_the_buckets_of_a_policy_are_those_it_allows_anything_in() -> None:
    statements = [
        {**ALLOW, "Resource": ["arn:aws:s3:::corp-shared/*", "arn:aws:s3:::corp-home/hana/*"]},
        {**ALLOW, "Resource": "arn:aws-cn:s3:::corp-china"},
        {**ALLOW, "Resource": ["arn:aws:s3:::corp-home", "arn:aws:kms:ap-northeast-1:111122223333:key/k", "*"]},
        {**ALLOW, "Effect": "Deny", "Resource": "arn:aws:s3:::corp-secret/*"},
        ALLOW,
    ]
    assert buckets_of(json.dumps({"Statement": statements})) == ("corp-china", "corp-home", "corp-shared")
    assert buckets_of(json.dumps({"Statement": statements[1]})) == ("corp-china",)


@pytest.mark.parametrize("policy", [None, "", "{}", "{", "[]", "7", '{"Statement":[7]}', "[" * 100_000])
def test_an_event_is_kept_also_when_its_policy_names_no_bucket_or_cannot_be_read(policy: str | None) -> None:
    assert buckets_of(policy) == ()


def test_a_long_text_is_found_by_its_beginning_and_every_other_by_the_whole() -> None:
    long = "x" * (SEARCHED_OF_LONG_WORDS + 1)
    assert {name: words_of(name, long) for name in LONG_WORDS} == dict.fromkeys(LONG_WORDS, long[:-1])
    assert words_of("role", long) == long


@pytest.mark.parametrize("once", ["factor 0123456789abcdef", "key ABCDEFGHIJKLMNOP", "jsonl; all 12345 events"])
def test_a_reason_that_never_comes_twice_is_no_word_to_search_and_a_browser_always_is(once: str) -> None:
    assert words_of("reason", once) is None
    assert words_of("user_agent", once) == once
    beyond = "x" * SEARCHED_OF_LONG_WORDS
    assert words_of("reason", f"{beyond} {once}") == beyond


def test_a_reason_that_comes_again_is_a_word_to_search() -> None:
    assert words_of("reason", "wrong-password (49, data 52e)") == "wrong-password (49, data 52e)"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "00000000000000000000ffffc0000207"),
        ("::ffff:192.0.2.7", "00000000000000000000ffffc0000207"),
        ("2001:db8::1", "20010db8000000000000000000000001"),
        ("unix", None),
        ("", None),
    ],
)
def test_an_address_has_a_key_of_one_length_and_what_is_none_has_none(address: str, key: str | None) -> None:
    assert address_key(address) == key


ADDRESSES = st.ip_addresses() | st.integers(0, 2**16).map(lambda number: ip_address("192.0.2.0") + number)


@given(ADDRESSES, ADDRESSES, st.data())
def test_an_address_is_in_a_network_exactly_when_its_key_is_between_those_of_the_network(
    address: Any, base: Any, data: st.DataObject
) -> None:
    network = ip_network((base, data.draw(st.integers(0, base.max_prefixlen))), strict=False)
    first, last = network_keys(network)
    key = address_key(str(address))

    assert key is not None
    if address.version == network.version:
        assert (first <= key <= last) == (address in network)


@pytest.mark.parametrize(
    ("network", "first", "last"),
    [
        ("192.0.2.0/24", "192.0.2.0", "192.0.2.255"),
        ("192.0.2.7/32", "192.0.2.7", "192.0.2.7"),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),  # noqa: S104 - a network to search for
        ("2001:db8::/126", "2001:db8::", "2001:db8::3"),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_a_network_reaches_from_its_first_address_to_its_last(network: str, first: str, last: str) -> None:
    assert network_keys(ip_network(network)) == (address_key(first), address_key(last))
